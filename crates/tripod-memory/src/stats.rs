//! What a manager says about itself.

use std::time::Duration;

/// A manager's counts since it was built and its bytes at one moment.
///
/// Summed up over the threads as they go on, so a buffer that changes hands just then may be missed or
/// seen twice; exact when nothing is under way.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().budget_bytes(1 << 20).build()?;
/// let reservation = memory.try_reserve(1000)?;
/// drop(memory.acquire(4096)?);
/// let stats = memory.stats();
/// assert_eq!((stats.reserved_bytes, stats.used_bytes, stats.idle_bytes), (1000, 0, 4096));
/// assert_eq!((stats.committed_bytes, stats.peak_bytes), (5096, 5096));
/// # drop(reservation);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Buffers whose memory was there already.
    pub hits: u64,
    /// Buffers whose memory had to be asked of the system.
    pub misses: u64,
    /// Buffers that were asked for and not handed out.
    pub refused: u64,
    /// Bytes that were asked for, of all buffers handed out so far.
    pub requested_bytes: u64,
    /// Bytes of all reservations, those granted and not yet taken among them.
    pub reserved_bytes: u64,
    /// Bytes of all buffers handed out now, by capacity.
    pub used_bytes: u64,
    /// Committed bytes that are not in use: buffers that rest in threads and pools or are just being
    /// given back to the system, and what is left over in pages.
    pub idle_bytes: u64,
    /// The sum of reserved, used and idle bytes; never above `budget_bytes`.
    pub committed_bytes: u64,
    /// The most that `committed_bytes` has ever been.
    pub peak_bytes: u64,
    /// The root's limit in bytes; `u64::MAX` is unlimited.
    pub budget_bytes: u64,
    /// Requests for a reservation that had to wait.
    pub waits: u64,
    /// Requests for a reservation that wait now.
    pub waiting: usize,
    /// How long requests have waited in line until they were granted, all together.
    pub waited: Duration,
    /// Leases that there are, those among them whose time is over and that nobody has collected yet.
    pub leases: u64,
    /// Leases whose time was over, ended by a collection.
    pub expired_leases: u64,
    /// Bytes that spillers have said they gave back.
    pub spilled_bytes: u64,
    /// Bytes of followed accounts that there was no room for at the last collection.
    pub uncharged_bytes: u64,
    /// How often a spiller, or the `Drop` of an object of a pool, has panicked in a collection, and how
    /// often the waker of a [`Reserve`](crate::Reserve) that was granted has. None of them goes further.
    pub panics: u64,
}

/// A budget's bytes at one moment, and the waits for it since it was created; comes from
/// [`Budget::stats`](crate::Budget::stats).
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
/// let reservation = memory.try_reserve(600)?;
/// let stats = memory.root().stats();
/// assert_eq!((stats.used_bytes, stats.peak_bytes, stats.limit_bytes), (600, 600, 1000));
/// # drop(reservation);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetStats {
    /// Bytes reserved and handed out through it and the budgets below.
    pub used_bytes: u64,
    /// The most that `used_bytes` has ever been.
    pub peak_bytes: u64,
    /// Its limit in bytes; `u64::MAX` is unlimited.
    pub limit_bytes: u64,
    /// Requests for a reservation of it that had to wait in line and were granted.
    pub waits: u64,
    /// How long those waited, all together.
    pub waited: Duration,
}

impl MemoryStats {
    /// Returns the share of handed-out buffers whose memory was there already, 0.0 to 1.0; 0.0 if
    /// there were none. Refused and empty buffers do not count.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// (0..4).try_for_each(|_| memory.acquire(4096).map(drop))?;
    /// assert_eq!(memory.stats().hit_rate(), 0.75);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            handed_out => self.hits as f64 / handed_out as f64,
        }
    }

    /// Returns how many bytes are held of the system for each byte in use: 1.0 if nothing is idle,
    /// infinite if something is idle and nothing in use. Reservations do not count.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let (held, returned) = (memory.acquire(4096)?, memory.acquire(4096)?);
    /// assert_eq!(memory.stats().fragmentation(), 1.0);
    /// drop(returned);
    /// assert_eq!(memory.stats().fragmentation(), 2.0);
    /// # drop(held);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fragmentation(&self) -> f64 {
        match (self.used_bytes, self.idle_bytes) {
            (_, 0) => 1.0,
            (used, idle) => (used + idle) as f64 / used as f64,
        }
    }
}

/// The buffers of one size class, since the manager was built and at one moment.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().build()?;
/// let buffer = memory.acquire(4000)?;
/// let classes = memory.class_stats();
/// let pages = classes.iter().find(|class| class.size_bytes == 4096).unwrap();
/// assert_eq!((pages.requested_bytes, pages.handed_out_bytes), (4000, 4096));
/// assert_eq!((pages.used_bytes, pages.committed_bytes), (4096, 4096));
/// # drop(buffer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes of a buffer of the class; 0 for those above the largest class.
    pub size_bytes: usize,
    /// Buffers whose memory was there already.
    pub hits: u64,
    /// Buffers whose memory had to be asked of the system.
    pub misses: u64,
    /// Bytes that were asked for, of all buffers handed out so far.
    pub requested_bytes: u64,
    /// Bytes of all buffers handed out so far, by capacity.
    pub handed_out_bytes: u64,
    /// Bytes of the buffers handed out now, by capacity.
    pub used_bytes: u64,
    /// Bytes held of the system.
    pub committed_bytes: u64,
}
