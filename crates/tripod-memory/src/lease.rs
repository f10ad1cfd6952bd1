//! Leases: buffers that stay with the manager and go back by themselves when their time is over.
//!
//! The holder has a [`LeaseId`], which is a number and keeps nothing; the buffer lies in a table of the
//! manager. Whoever works on it takes it out meanwhile, so no lock is held while foreign code runs, and
//! one lease does not wait for another.
//!
//! # Where it stops
//! The clock is read by the handle's methods and by the collector; [`table`] is told the time.

mod table;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::buffer::{AcquireError, Buffer};
use crate::collector;
use crate::manager::MemoryManager;

use self::table::{Refusal, Table};

/// How late the background collector may come by, so that it does not come for each of many leases.
const LATE: Duration = Duration::from_millis(20);

/// Stands for a leased buffer; comes from [`MemoryManager::lease`] and [`Budget::lease`].
///
/// It is a name, not an owner: it can be copied, and sent to others. Once the lease is over it stands
/// for nothing for good, also when the place of the lease has been taken by another.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use tripod_memory::{LeaseId, MemoryManager};
/// let memory = MemoryManager::builder().build()?;
/// let id: LeaseId = memory.lease(1500, Duration::from_secs(60))?;
/// let copy = id;
/// memory.leased(copy, |bytes| bytes[0] = 7)?;
/// assert_eq!(memory.leased(id, |bytes| bytes[0])?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId {
    table: u32,
    place: u32,
    generation: u64,
}

/// Why there is no lease, or no access to it.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use tripod_memory::{LeaseError, MemoryManager};
/// let memory = MemoryManager::builder().build()?;
/// assert_eq!(memory.lease(1500, Duration::ZERO), Err(LeaseError::ZeroTtl));
/// let id = memory.lease(1500, Duration::from_secs(60))?;
/// drop(memory.end_lease(id)?);
/// assert_eq!(memory.leased(id, |_| ()), Err(LeaseError::Expired));
/// let other = MemoryManager::builder().build()?;
/// assert_eq!(other.leased(id, |_| ()), Err(LeaseError::OtherManager));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The lease would be over before it could be used.
    #[error("lease has a time to live of 0, so it would be over at once")]
    ZeroTtl,
    /// There is no buffer to lease.
    #[error("nothing to lease: {0}")]
    Acquire(#[from] AcquireError),
    /// Its time has passed, or it was ended. Its bytes are gone.
    #[error("lease is over: its time has passed, or it was ended")]
    Expired,
    /// Somebody is working on it at this moment, perhaps the caller.
    #[error("lease is in use at this moment")]
    InUse,
    /// The id comes from another manager.
    #[error("lease belongs to another memory manager")]
    OtherManager,
}

impl From<Refusal> for LeaseError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Over => Self::Expired,
            Refusal::InUse => Self::InUse,
            Refusal::OtherTable => Self::OtherManager,
        }
    }
}

impl MemoryManager {
    /// Leases a buffer of `len` bytes for `ttl`, charged to the root: after that time it goes back by
    /// itself.
    ///
    /// The buffer stays with the manager, and [`leased`](Self::leased) works on it. Once `ttl` has
    /// passed, every access is [`LeaseError::Expired`]; the bytes are free soon after: within about
    /// 20 ms where memory is collected in the background, else with the next
    /// [`collect`](Self::collect). A `ttl` beyond the end of the clock is for ever. All leases end
    /// with the manager.
    ///
    /// # Errors
    /// [`LeaseError::ZeroTtl`], or [`LeaseError::Acquire`] if there is no buffer, as from
    /// [`acquire`](Self::acquire).
    ///
    /// # Examples
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tripod_memory::{LeaseError, MemoryManager};
    /// let memory = MemoryManager::builder().background_collection(false).build()?;
    /// let id = memory.lease(1500, Duration::from_secs(60))?;
    /// memory.leased(id, |bytes| bytes.fill(7))?;
    /// assert_eq!(memory.leased(id, |bytes| bytes[1499])?, 7);
    ///
    /// memory.collect(Instant::now() + Duration::from_secs(61), Duration::from_millis(1));
    /// assert_eq!(memory.leased(id, |bytes| bytes[0]), Err(LeaseError::Expired));
    /// assert_eq!(memory.stats().used_bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lease(&self, len: usize, ttl: Duration) -> Result<LeaseId, LeaseError> {
        self.root().lease(len, ttl)
    }

    /// Runs `work` on the bytes of a lease and answers with what it does.
    ///
    /// They are its alone meanwhile: another access is refused, not made to wait. No lock is held. If
    /// the time of the lease passes meanwhile, `work` goes on to its end and the buffer goes back then;
    /// so it does if `work` panics and the time has passed, else the lease goes on.
    ///
    /// # Errors
    /// [`LeaseError::Expired`], [`LeaseError::InUse`] or [`LeaseError::OtherManager`]; `work` has not
    /// run then.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tripod_memory::{LeaseError, MemoryManager};
    /// let memory = MemoryManager::builder().build()?;
    /// let id = memory.lease(4, Duration::from_secs(60))?;
    /// let within = memory.leased(id, |_| memory.leased(id, |_| ()))?;
    /// assert_eq!(within, Err(LeaseError::InUse));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leased<R>(
        &self,
        id: LeaseId,
        work: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, LeaseError> {
        let leases = &self.root().engine().extras.leases;
        let buffer = leases.lock().table.take(Instant::now(), id)?;
        let mut taken = Taken { leases, id, buffer: Some(buffer) };
        // It is there until `taken` is dropped.
        let bytes = taken.buffer.as_deref_mut().unwrap_or_default();
        Ok(work(bytes))
    }

    /// Moves the end of a lease to `ttl` from now, be that later or earlier than before.
    ///
    /// It may be in use.
    ///
    /// # Errors
    /// [`LeaseError::ZeroTtl`], [`LeaseError::Expired`] or [`LeaseError::OtherManager`].
    ///
    /// # Examples
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().background_collection(false).build()?;
    /// let id = memory.lease(1500, Duration::from_secs(60))?;
    /// memory.renew(id, Duration::from_secs(3600))?;
    /// memory.collect(Instant::now() + Duration::from_secs(61), Duration::from_millis(1));
    /// assert!(memory.leased(id, |_| ()).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn renew(&self, id: LeaseId, ttl: Duration) -> Result<(), LeaseError> {
        if ttl.is_zero() {
            return Err(LeaseError::ZeroTtl);
        }
        let engine = self.root().engine();
        let mut leases = engine.extras.leases.lock();
        leases.table.renew(Instant::now(), id, ttl)?;
        leases.wake_if_too_late();
        Ok(())
    }

    /// Ends a lease and hands out its buffer, bytes and charge included.
    ///
    /// # Errors
    /// [`LeaseError::Expired`], [`LeaseError::InUse`] or [`LeaseError::OtherManager`]; the lease is as
    /// it was.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tripod_memory::{LeaseError, MemoryManager};
    /// let memory = MemoryManager::builder().build()?;
    /// let id = memory.lease(3, Duration::from_secs(60))?;
    /// memory.leased(id, |bytes| bytes.copy_from_slice(b"abc"))?;
    /// let buffer = memory.end_lease(id)?;
    /// assert_eq!(&buffer[..], b"abc");
    /// assert_eq!(memory.end_lease(id).unwrap_err(), LeaseError::Expired);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn end_lease(&self, id: LeaseId) -> Result<Buffer, LeaseError> {
        let leases = &self.root().engine().extras.leases;
        Ok(leases.lock().table.end(Instant::now(), id)?)
    }
}

impl Budget {
    /// Leases a buffer of `len` bytes for `ttl`, charged to this budget and those above.
    ///
    /// As [`MemoryManager::lease`], whose other methods reach it.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let sessions = memory.budget("sessions").limit_bytes(1 << 20).create()?;
    /// let id = sessions.lease(4096, Duration::from_secs(60))?;
    /// assert_eq!(sessions.used_bytes(), 4096);
    /// drop(memory.end_lease(id)?);
    /// assert_eq!(sessions.used_bytes(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lease(&self, len: usize, ttl: Duration) -> Result<LeaseId, LeaseError> {
        if ttl.is_zero() {
            return Err(LeaseError::ZeroTtl);
        }
        let buffer = self.acquire(len)?;
        let mut leases = self.engine().extras.leases.lock();
        let id = leases.table.begin(Instant::now(), ttl, buffer);
        leases.wake_if_too_late();
        Ok(id)
    }
}

/// A buffer on its way out of its lease and back.
struct Taken<'a> {
    leases: &'a Leases,
    id: LeaseId,
    buffer: Option<Buffer>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(buffer) = self.buffer.take() else { return };
        let over = self.leases.lock().table.put_back(Instant::now(), self.id, buffer);
        drop(over);
    }
}

/// The leases of a manager. No buffer is dropped under the lock: that takes the engine's, and wakes.
/// The lock is the standard library's under loom, too: it guards a table, and no order matters.
#[derive(Debug)]
pub(crate) struct Leases {
    state: Mutex<State>,
    /// Buffers that were taken out to go back and have not yet, and their bytes. Statistics: Relaxed.
    leaving: AtomicU64,
    leaving_bytes: AtomicU64,
}

#[derive(Debug)]
struct State {
    table: Table<Buffer>,
    /// When the background collector comes by, if it does.
    comes_by: Option<Instant>,
    is_in_background: bool,
}

impl State {
    /// Wakes the background collector if a lease ends before it comes by.
    fn wake_if_too_late(&mut self) {
        let Some(end) = self.table.next_end().filter(|_| self.is_in_background) else { return };
        if self.comes_by.is_none_or(|comes_by| end + LATE < comes_by) {
            // Once is enough.
            self.comes_by = Some(end);
            collector::wake();
        }
    }
}

impl Leases {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let table = Table::new(NEXT.fetch_add(1, Ordering::Relaxed));
        Self {
            state: Mutex::new(State { table, comes_by: None, is_in_background: false }),
            leaving: AtomicU64::new(0),
            leaving_bytes: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends those whose time is over until `is_over`; tells `end` of each, with its buffer if nobody
    /// works on it, before anybody can see that it is gone. Answers how many, and whether that were
    /// all.
    pub(crate) fn expire(
        &self,
        now: Instant,
        is_over: &impl Fn() -> bool,
        end: impl Fn(Option<&Buffer>),
    ) -> (u64, bool) {
        let mut ended = 0;
        loop {
            let mut state = self.lock();
            let Some(content) = state.table.expire(now) else { return (ended, true) };
            ended += 1;
            end(content.as_ref());
            if let Some(buffer) = content {
                let bytes = buffer.capacity() as u64;
                self.leaving.fetch_add(1, Ordering::Relaxed);
                self.leaving_bytes.fetch_add(bytes, Ordering::Relaxed);
                drop(state);
                drop(buffer);
                self.leaving.fetch_sub(1, Ordering::Relaxed);
                self.leaving_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            if is_over() {
                return (ended, false);
            }
        }
    }

    /// Ends all leases, as their manager ends.
    pub(crate) fn clear(&self) {
        let buffers = self.lock().table.clear();
        drop(buffers);
    }

    /// Notes that the background collector comes by, and when: in `sleep`, or earlier for the lease
    /// that ends first. Answers in how long.
    pub(crate) fn plan(&self, now: Instant, sleep: Option<Duration>) -> Option<Duration> {
        let mut state = self.lock();
        let next = state.table.next_end();
        let until = next.map(|end| end.saturating_duration_since(now).max(LATE));
        let sleep = sleep.into_iter().chain(until).min();
        state.is_in_background = true;
        state.comes_by = sleep.and_then(|sleep| now.checked_add(sleep));
        sleep
    }

    /// How many leases there are.
    pub(crate) fn count(&self) -> u64 {
        self.lock().table.count()
    }

    /// Buffers of leases that are over, on their way back: how many, and their bytes.
    #[cfg(not(debug_assertions))]
    pub(crate) fn leaving(&self) -> (u64, u64) {
        (self.leaving.load(Ordering::Relaxed), self.leaving_bytes.load(Ordering::Relaxed))
    }
}
