//! The manager: the root budget and what is above all budgets.

use std::time::{Duration, Instant};

use tripod_metrics::MetricsCollector;

use crate::budget::{Budget, BudgetBuilder};
use crate::buffer::{AcquireError, Buffer};
use crate::classes::{SizeClassError, SizeClasses};
use crate::collector;
use crate::engine::{ClassSums, Collected, Effort, Engine, Ttl};
use crate::layout::ClassLayout;
use crate::meter::{Meter, MeterError};
use crate::reserve::{Reservation, Reserve, ReserveError};
use crate::stats::{ClassStats, MemoryStats};

/// Pooled buffers and reservations under one hard budget.
///
/// A handle is cheap to clone, and all clones are the same manager. Reservations, buffers and budgets
/// keep its memory alive; nothing has to be closed.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().budget_bytes(1 << 20).build()?;
/// let buffer = memory.acquire(4000)?;
/// let reservation = memory.try_reserve(1 << 19)?;
/// assert_eq!(memory.stats().committed_bytes, 4096 + (1 << 19));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryManager {
    root: Budget,
}

impl MemoryManager {
    /// Begins the description of a manager; see the builder's methods for the defaults.
    pub fn builder() -> MemoryManagerBuilder {
        MemoryManagerBuilder {
            budget_bytes: u64::MAX,
            classes: SizeClasses::default(),
            ttl: TTL_DEFAULT,
            class_ttls: Vec::new(),
            metrics: None,
            is_collected_in_background: true,
        }
    }

    /// Hands out a buffer of `len` bytes, charged to the root.
    ///
    /// It comes from the pool of the smallest size class that holds `len`; by default at most a fifth
    /// is unused from 64 B up. A length above the largest class is taken from the system and goes
    /// back there. A length of 0 gives an empty buffer, which has no memory and is not counted.
    ///
    /// It never waits for room: it takes what is free, even while reservations wait in line (see
    /// [`Reserve`]), and before it is refused idle buffers of other classes are given back to the
    /// system. A buffer from a pool costs one lock; a new one also an allocation filled with zeroes.
    ///
    /// # Errors
    /// See [`AcquireError`]. Nothing is charged then.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{AcquireError, MemoryManager};
    /// let memory = MemoryManager::builder().budget_bytes(5000).build()?;
    /// let page = memory.acquire(4096)?;
    /// let refused = memory.acquire(1024).unwrap_err();
    /// assert!(matches!(refused, AcquireError::OverBudget { free_bytes: 904, .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn acquire(&self, len: usize) -> Result<Buffer, AcquireError> {
        self.root.acquire_of_root(len, Effort::Everything)
    }

    /// Hands out a buffer of `len` bytes if that can be done at once; see [`Budget::try_acquire`].
    ///
    /// # Errors
    /// See [`AcquireError`].
    #[inline]
    pub fn try_acquire(&self, len: usize) -> Result<Buffer, AcquireError> {
        self.root.acquire_of_root(len, Effort::AtHand)
    }

    /// Hands out a buffer of `len` bytes, all zero; see [`Budget::acquire_zeroed`].
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub fn acquire_zeroed(&self, len: usize) -> Result<Buffer, AcquireError> {
        self.root.acquire_zeroed(len)
    }

    /// Hands out `count` buffers of `len` bytes, or none; see [`Budget::acquire_many`].
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub fn acquire_many(&self, len: usize, count: usize) -> Result<Vec<Buffer>, AcquireError> {
        self.root.acquire_many(len, count)
    }

    /// Reserves `bytes` of the root budget, and waits in line until they are free; see [`Reserve`].
    pub fn reserve(&self, bytes: u64) -> Reserve {
        self.root.reserve(bytes)
    }

    /// Reserves `bytes` of the root budget if a [`reserve`](Self::reserve) called now would not wait.
    ///
    /// # Errors
    /// As [`Budget::try_reserve`].
    #[inline]
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, ReserveError> {
        self.root.try_reserve(bytes)
    }

    /// Begins the description of a budget below the root; see [`Budget::budget`].
    pub fn budget(&self, name: &str) -> BudgetBuilder {
        self.root.budget(name)
    }

    /// Returns the budget above all others.
    pub fn root(&self) -> &Budget {
        &self.root
    }

    /// Gives all idle memory back to the system; returns how many bytes that were.
    ///
    /// Takes what other threads have cached, too, except from those that are just taking or returning
    /// a buffer. Costs one system call for each run of idle memory, with no lock held meanwhile.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// drop(memory.acquire(4096)?);
    /// assert_eq!(memory.trim(), 4096);
    /// assert_eq!(memory.stats().idle_bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trim(&self) -> u64 {
        self.root.engine().trim()
    }

    /// Gives back to the system what is due at `now`, for about as long as `budget`.
    ///
    /// Done in the background unless [`background_collection`] is turned off; then it is to be called
    /// at least once in an eighth of the shortest time to live, or memory goes back later. Other
    /// threads go on meanwhile: the manager's lock is held for microseconds at a time.
    ///
    /// [`background_collection`]: MemoryManagerBuilder::background_collection
    ///
    /// # Examples
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder()
    ///     .ttl(Duration::from_secs(8))
    ///     .background_collection(false)
    ///     .build()?;
    /// drop(memory.acquire(100_000)?);
    /// let start = Instant::now();
    /// for second in 1..=10 {
    ///     memory.collect(start + Duration::from_secs(second), Duration::from_millis(1));
    /// }
    /// assert_eq!(memory.stats().idle_bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn collect(&self, now: Instant, budget: Duration) -> Collected {
        self.root.engine().collect(now, budget)
    }

    /// Returns the counts and bytes of this moment; costs a lock and a look at every thread's counts.
    pub fn stats(&self) -> MemoryStats {
        let engine = self.root.engine();
        let sums = engine.sums();
        MemoryStats {
            hits: sums.acquires.saturating_sub(sums.misses),
            misses: sums.misses,
            refused: engine.meter.refused.get(),
            requested_bytes: sums.requested,
            reserved_bytes: sums.reserved,
            used_bytes: sums.used,
            idle_bytes: sums.idle,
            committed_bytes: sums.reserved + sums.used + sums.idle,
            peak_bytes: sums.peak,
            budget_bytes: self.root.limit_bytes(),
            waits: engine.meter.waits.get(),
            waiting: sums.waiting,
        }
    }

    /// Returns the same by size class, the smallest first, and last what is above the largest.
    pub fn class_stats(&self) -> Vec<ClassStats> {
        let stats = |class: ClassSums| ClassStats {
            size_bytes: class.size,
            hits: class.counts.acquires.saturating_sub(class.misses),
            misses: class.misses,
            requested_bytes: class.counts.requested_bytes,
            handed_out_bytes: class.handed_out,
            used_bytes: class.used,
            committed_bytes: class.committed,
        };
        self.root.engine().class_sums().into_iter().map(stats).collect()
    }
}

/// How long idle memory is kept.
const TTL_DEFAULT: Duration = Duration::from_secs(30);

/// Describes a manager before it is built; comes from [`MemoryManager::builder`].
#[derive(Clone, Debug)]
#[must_use = "a manager exists only once it is built"]
pub struct MemoryManagerBuilder {
    budget_bytes: u64,
    classes: SizeClasses,
    ttl: Duration,
    class_ttls: Vec<(usize, Duration)>,
    metrics: Option<MetricsCollector>,
    is_collected_in_background: bool,
}

impl MemoryManagerBuilder {
    /// Sets the root's limit in bytes; default: `u64::MAX`, unlimited.
    pub fn budget_bytes(mut self, bytes: u64) -> Self {
        self.budget_bytes = bytes;
        self
    }

    /// Sets the sizes that pooled buffers come in, in bytes; default: four per doubling from 64 B to
    /// 64 MiB.
    ///
    /// # Errors
    /// [`SizeClassError`] unless there is a size, all are from 1 to `isize::MAX` and each is larger
    /// than the one before.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().size_classes([4096, 65536])?.build()?;
    /// assert_eq!(memory.acquire(5000)?.capacity(), 65536);
    /// assert!(MemoryManager::builder().size_classes([4096, 4096]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn size_classes(
        mut self,
        sizes: impl IntoIterator<Item = usize>,
    ) -> Result<Self, SizeClassError> {
        self.classes = SizeClasses::new(sizes)?;
        Ok(self)
    }

    /// Sets the collector that takes the manager's metrics; default: one of its own.
    ///
    /// Two managers in one collector would add up in its counters, and so in their
    /// [`stats`](MemoryManager::stats), while its gauges show the younger one: give each its own.
    pub fn metrics(mut self, metrics: &MetricsCollector) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Sets how long memory may be idle before it goes back to the system; default: 30 s.
    ///
    /// It goes back when three quarters of that to the whole of it have passed since its last use, and
    /// sooner if somebody else needs new memory. Zero is refused: who wants to keep nothing calls
    /// [`trim`](MemoryManager::trim).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets another time to live for the pool that buffers of `size_bytes` come from.
    pub fn class_ttl(mut self, size_bytes: usize, ttl: Duration) -> Self {
        self.class_ttls.push((size_bytes, ttl));
        self
    }

    /// Sets whether a thread of this crate collects what is idle for too long; default: yes.
    ///
    /// It is one thread for all managers of the process. It sleeps while none of them holds memory.
    pub fn background_collection(mut self, is_wanted: bool) -> Self {
        self.is_collected_in_background = is_wanted;
        self
    }

    /// Builds the manager.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<MemoryManager, BuildError> {
        if self.budget_bytes == 0 {
            return Err(BuildError::ZeroBudget);
        }
        let ttl = Ttl::new(Instant::now(), &self.ttls()?);
        let meter = Meter::new(&self.metrics.unwrap_or_default())?;
        let layouts = self.classes.sizes().iter().map(|&size| ClassLayout::of(size)).collect();
        let engine = Engine::new(self.budget_bytes, self.classes, layouts, ttl, meter);
        engine.meter.watch_sums(&engine).map_err(MeterError::from)?;
        engine.meter.watch_budget(&engine, &engine.root()).map_err(MeterError::from)?;
        if self.is_collected_in_background && !cfg!(loom) {
            collector::enlist(&engine).map_err(|error| BuildError::Thread(error.kind()))?;
        }
        Ok(MemoryManager { root: Budget::root(engine) })
    }

    /// The time to live of each class.
    fn ttls(&self) -> Result<Vec<Duration>, BuildError> {
        let mut ttls = vec![self.ttl; self.classes.count()];
        for &(size_bytes, ttl) in &self.class_ttls {
            let class = self.classes.class_of(size_bytes);
            let class = class.ok_or(BuildError::NoClass { size_bytes })?;
            ttls[class] = ttl;
        }
        if self.ttl.is_zero() || ttls.iter().any(Duration::is_zero) {
            return Err(BuildError::ZeroTtl);
        }
        Ok(ttls)
    }
}

/// Why [`MemoryManagerBuilder::build`] built no manager.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A budget of no bytes could grant nothing.
    #[error("memory budget is 0 bytes")]
    ZeroBudget,
    /// Memory that may not be idle for any time could not be pooled.
    #[error("time to live is 0; to keep nothing, call `trim`")]
    ZeroTtl,
    /// A time to live was set for a size above the largest class.
    #[error("no size class holds {size_bytes} bytes, so none can have a time to live of its own")]
    NoClass {
        /// The size it was set for, in bytes.
        size_bytes: usize,
    },
    /// The system refused a thread for the collector.
    #[error("system refused a thread to collect idle memory: {0}")]
    Thread(std::io::ErrorKind),
    /// The collector refused the manager's metrics.
    #[error("memory manager has no metrics: {0}")]
    Metrics(#[from] MeterError),
}
