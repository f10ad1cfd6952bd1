//! The manager: the root budget and what is above all budgets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tripod_metrics::MetricsCollector;

use crate::budget::{Budget, BudgetBuilder};
use crate::buffer::{AcquireError, Buffer};
use crate::classes::{SizeClassError, SizeClasses};
use crate::collector;
use crate::engine::{ClassSums, Collected, Effort, Engine, Ttl};
use crate::layout::ClassLayout;
use crate::leaks::{LeakReport, OnLeak};
use crate::meter::{Meter, MeterError};
use crate::pressure::{Pressure, PressureSubscription, SystemMemory};
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
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().budget_bytes(256 << 20).build()?;
    /// assert_eq!(memory.root().limit_bytes(), 256 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> MemoryManagerBuilder {
        MemoryManagerBuilder {
            budget_bytes: u64::MAX,
            classes: SizeClasses::default(),
            ttl: TTL_DEFAULT,
            class_ttls: Vec::new(),
            metrics: None,
            is_collected_in_background: true,
            system: SystemMemory::new(),
            on_leak: None,
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
    /// system. No [spiller](crate::Spill) is asked.
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
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline]
    pub fn acquire(&self, len: usize) -> Result<Buffer, AcquireError> {
        self.root.acquire_with(len, Effort::Everything)
    }

    /// Hands out a buffer of `len` bytes if that can be done at once; see [`Budget::try_acquire`].
    ///
    /// # Errors
    /// See [`AcquireError`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let buffer = memory.try_acquire(1500)?;
    /// assert_eq!((buffer.len(), buffer.capacity()), (1500, 1536));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline]
    pub fn try_acquire(&self, len: usize) -> Result<Buffer, AcquireError> {
        self.root.acquire_with(len, Effort::AtHand)
    }

    /// Hands out a buffer of `len` bytes, all zero; see [`Budget::acquire_zeroed`].
    ///
    /// # Errors
    /// See [`AcquireError`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// memory.acquire(1500)?.fill(7);
    /// assert!(memory.acquire_zeroed(1500)?.iter().all(|&byte| byte == 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn acquire_zeroed(&self, len: usize) -> Result<Buffer, AcquireError> {
        self.root.acquire_zeroed(len)
    }

    /// Hands out `count` buffers of `len` bytes, or none; see [`Budget::acquire_many`].
    ///
    /// # Errors
    /// See [`AcquireError`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let ring = memory.acquire_many(4096, 8)?;
    /// assert_eq!((ring.len(), memory.stats().used_bytes), (8, 32_768));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn acquire_many(&self, len: usize, count: usize) -> Result<Vec<Buffer>, AcquireError> {
        self.root.acquire_many(len, count)
    }

    /// Reserves `bytes` of the root budget, and waits in line until they are free; see [`Reserve`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let reservation = memory.reserve(600).await?;
    /// assert_eq!(memory.stats().reserved_bytes, 600);
    /// # drop(reservation);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn reserve(&self, bytes: u64) -> Reserve {
        self.root.reserve(bytes)
    }

    /// Reserves `bytes` of the root budget if a [`reserve`](Self::reserve) called now would not wait.
    ///
    /// # Errors
    /// As [`Budget::try_reserve`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let reservation = memory.try_reserve(600)?;
    /// assert!(memory.try_reserve(600).is_err());
    /// drop(reservation);
    /// assert!(memory.try_reserve(600).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline]
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, ReserveError> {
        self.root.try_reserve(bytes)
    }

    /// Begins the description of a budget below the root; see [`Budget::budget`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let cache = memory.budget("cache").limit_bytes(1 << 20).create()?;
    /// assert!(cache.acquire(2 << 20).is_err());
    /// assert!(memory.acquire(2 << 20).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn budget(&self, name: &str) -> BudgetBuilder {
        self.root.budget(name)
    }

    /// Returns the budget above all others.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let buffer = memory.acquire(4096)?;
    /// assert_eq!((memory.root().path(), memory.root().used_bytes()), ("root", 4096));
    /// # drop(buffer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// Does what is due at `now`, for about as long as `budget`: gives back to the system what has been
    /// idle for too long, ends [leases](Self::lease), and drops objects of
    /// [pools](Self::object_pool).
    ///
    /// Then it looks at the [accounts that are followed](Budget::follow), at the
    /// [pressure](Self::pressure) if anyone is interested, and, while a reservation waits in line, asks
    /// [spillers](Self::register_spiller) for memory, for as long as they take.
    ///
    /// Done in the background unless [`background_collection`] is turned off; then it is to be called
    /// at least once in an eighth of the shortest time to live, or memory goes back later, and whenever
    /// a spiller shall be asked. `now` must not run ahead of what later calls say: until they have caught
    /// up, nothing is due. Other threads go on meanwhile: the manager's lock is held for
    /// microseconds at a time.
    ///
    /// No panic of the code that it calls gets through: those of spillers, of objects that are dropped
    /// and of wakers are [counted](MemoryStats::panics).
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

    /// Returns how short memory is.
    ///
    /// What the system says comes from the last collection: it is read there at most once a second, and
    /// only while somebody is interested, that is, follows the pressure or has asked within the last
    /// minute. So the first answer knows the budget alone. That is looked at by the call, if a look at
    /// it is more than a second old.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{MemoryManager, PressureLevel, SystemMemory};
    /// let memory = MemoryManager::builder().budget_bytes(1000)
    ///     # .system_memory(SystemMemory::at("/nothing/there"))
    ///     .build()?;
    /// let reservation = memory.try_reserve(960)?;
    /// let pressure = memory.pressure();
    /// assert_eq!((pressure.level, pressure.used_bytes), (PressureLevel::Critical, 960));
    /// # drop(reservation);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pressure(&self) -> Pressure {
        self.root.engine().pressure()
    }

    /// Follows the pressure: the subscription waits until the level changes. See
    /// [`PressureSubscription`], which has an example.
    ///
    /// While there is one the pressure is looked at once a second, and as soon as a reservation has to
    /// wait. Without background collection only [`collect`](Self::collect) looks.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let pressure = memory.subscribe();
    /// assert_eq!(pressure.current().limit_bytes, u64::MAX);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe(&self) -> PressureSubscription {
        self.root.engine().extras.watch.subscribe()
    }

    /// Returns how many bytes of the pools are in physical memory now; `None` if the system does not
    /// say.
    ///
    /// Asks the system about every page (`mincore(2)`): some microseconds for each region of 2 MiB,
    /// with the manager's lock held for one region at a time. It may be less than what is committed,
    /// where nobody has touched the memory yet, or somewhat more, because each region has a page for its
    /// own account. Buffers above the largest size class are left out.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().background_collection(false).build()?;
    /// let mut buffer = memory.acquire(1 << 20)?;
    /// let untouched = memory.resident_bytes();
    /// buffer.fill(1);
    /// if let (Some(before), Some(after)) = (untouched, memory.resident_bytes()) {
    ///     assert!(after >= before + (1 << 19));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resident_bytes(&self) -> Option<u64> {
        self.root.engine().resident_bytes()
    }

    /// Returns the counts and bytes of this moment; costs a lock and a look at every thread's counts.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// drop(memory.acquire(1500)?);
    /// let buffer = memory.acquire(1500)?;
    /// let stats = memory.stats();
    /// assert_eq!((stats.hits, stats.misses, stats.requested_bytes), (1, 1, 3000));
    /// assert_eq!((stats.used_bytes, stats.reserved_bytes), (1536, 0));
    /// # drop(buffer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> MemoryStats {
        let engine = self.root.engine();
        let sums = engine.sums();
        MemoryStats {
            hits: sums.acquires.saturating_sub(sums.misses),
            misses: sums.misses,
            refused: engine.meter.refusals(),
            requested_bytes: sums.requested,
            reserved_bytes: sums.reserved,
            used_bytes: sums.used,
            idle_bytes: sums.idle,
            committed_bytes: sums.reserved + sums.used + sums.idle,
            peak_bytes: sums.peak,
            budget_bytes: self.root.limit_bytes(),
            waits: engine.meter.waits.get(),
            waiting: sums.waiting,
            waited: engine.waited(),
            leases: engine.extras.leases.count(),
            expired_leases: engine.meter.expired_leases.get(),
            spilled_bytes: engine.meter.spilled_bytes.get(),
            uncharged_bytes: engine.extras.accounts.uncharged_bytes(),
            panics: engine.extras.panics(),
        }
    }

    /// Returns the same by size class, the smallest first, and last what is above the largest.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().size_classes([4096, 65_536])?.build()?;
    /// let buffer = memory.acquire(5000)?;
    /// let classes = memory.class_stats();
    /// let sizes: Vec<_> = classes.iter().map(|class| class.size_bytes).collect();
    /// assert_eq!(sizes, [4096, 65_536, 0]);
    /// assert_eq!((classes[1].requested_bytes, classes[1].used_bytes), (5000, 65_536));
    /// # drop(buffer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder()
///     .budget_bytes(1 << 30)
///     .ttl(Duration::from_secs(10))
///     .background_collection(false)
///     .build()?;
/// assert_eq!(memory.stats().budget_bytes, 1 << 30);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a manager exists only once it is built"]
pub struct MemoryManagerBuilder {
    budget_bytes: u64,
    classes: SizeClasses,
    ttl: Duration,
    class_ttls: Vec<(usize, Duration)>,
    metrics: Option<MetricsCollector>,
    is_collected_in_background: bool,
    system: SystemMemory,
    on_leak: Option<OnLeak>,
}

impl MemoryManagerBuilder {
    /// Sets the root's limit in bytes; default: `u64::MAX`, unlimited. Zero is refused.
    ///
    /// Pooled memory is committed in whole pages of 4 KiB, so a smaller budget serves reservations
    /// alone.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{BuildError, MemoryManager};
    /// let refused = MemoryManager::builder().budget_bytes(0).build();
    /// assert!(matches!(refused, Err(BuildError::ZeroBudget)));
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let metrics = tripod_metrics::MetricsCollector::new();
    /// let memory = MemoryManager::builder().metrics(&metrics).build()?;
    /// drop(memory.acquire(4096)?);
    /// let text = metrics.encode_text();
    /// assert!(text.contains("tripod_memory_peak_bytes 4096\n"), "{text}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(mut self, metrics: &MetricsCollector) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Sets how long memory may be idle before it goes back to the system; default: 30 s.
    ///
    /// It goes back when five eighths of that to the whole of it have passed since its last use, and
    /// sooner if somebody else needs new memory. Zero is refused: who wants to keep nothing calls
    /// [`trim`](MemoryManager::trim). [`Duration::MAX`] keeps it for good.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tripod_memory::{BuildError, MemoryManager};
    /// let refused = MemoryManager::builder().ttl(Duration::ZERO).build();
    /// assert!(matches!(refused, Err(BuildError::ZeroTtl)));
    /// ```
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets another time to live for the pool that buffers of `size_bytes` come from; default: that of
    /// [`ttl`](Self::ttl). Of several for one pool the last holds.
    ///
    /// Zero is refused, and so is a size above the largest class. Much longer than the shortest of
    /// all pools, it is kept to an eighth of itself; beyond 2^31 eighths of the shortest it is cut to
    /// that.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tripod_memory::{BuildError, MemoryManager};
    /// let hour = Duration::from_secs(3600);
    /// MemoryManager::builder().class_ttl(1 << 20, hour).build()?;
    /// let refused = MemoryManager::builder().size_classes([4096])?.class_ttl(8192, hour).build();
    /// assert!(matches!(refused, Err(BuildError::NoClass { size_bytes: 8192 })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn class_ttl(mut self, size_bytes: usize, ttl: Duration) -> Self {
        self.class_ttls.push((size_bytes, ttl));
        self
    }

    /// Sets whether a thread of this crate collects what is idle for too long; default: yes.
    ///
    /// It is one thread for all managers of the process, named `tripod-memory`. It sleeps while none of
    /// them has anything to look after. Without it, what [`collect`](MemoryManager::collect) does is
    /// done when that is called.
    ///
    /// # Examples
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().background_collection(false).build()?;
    /// drop(memory.acquire(4096)?);
    /// let start = Instant::now();
    /// memory.collect(start, Duration::from_millis(1));
    /// assert_eq!(memory.stats().idle_bytes, 4096);
    /// for eighth in 1..=8 {
    ///     memory.collect(start + Duration::from_secs(30) / 8 * eighth, Duration::from_millis(1));
    /// }
    /// assert_eq!(memory.stats().idle_bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn background_collection(mut self, is_wanted: bool) -> Self {
        self.is_collected_in_background = is_wanted;
        self
    }

    /// Sets where the system's own signs of pressure are read; default: this machine.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{MemoryManager, SystemMemory};
    /// // The host's files, as a container sees them.
    /// let builder = MemoryManager::builder().system_memory(SystemMemory::at("/host"));
    /// # builder.build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn system_memory(mut self, system: SystemMemory) -> Self {
        self.system = system;
        self
    }

    /// Sets what is told of buffers and reservations that are still out when the manager ends, that
    /// is, when the last handle on it or on a budget of it is dropped; default: nothing.
    ///
    /// They stay usable and keep their memory: being out is no error by itself. In debug builds the
    /// report names the lines that asked for them. It runs on the thread that drops the last handle; a
    /// panic in it is ignored.
    ///
    /// # Examples
    /// ```
    /// # use std::sync::mpsc;
    /// # use tripod_memory::MemoryManager;
    /// let (leaks, told) = mpsc::channel();
    /// let memory = MemoryManager::builder()
    ///     .on_leak(move |report| drop(leaks.send(report.to_string())))
    ///     .build()?;
    /// let buffer = memory.acquire(4096)?;
    /// drop(memory);
    /// assert!(told.recv()?.starts_with("1 buffers of 4096 bytes and 0 reserved bytes are out"));
    /// # drop(buffer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_leak(mut self, tell: impl Fn(&LeakReport) + Send + Sync + 'static) -> Self {
        self.on_leak = Some(OnLeak(Arc::new(tell)));
        self
    }

    /// Builds the manager.
    ///
    /// # Errors
    /// See [`BuildError`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// assert!(MemoryManager::builder().build().is_ok());
    /// assert!(MemoryManager::builder().budget_bytes(0).build().is_err());
    /// ```
    pub fn build(self) -> Result<MemoryManager, BuildError> {
        if self.budget_bytes == 0 {
            return Err(BuildError::ZeroBudget);
        }
        let ttl = Ttl::new(Instant::now(), &self.ttls()?);
        let meter = Meter::new(&self.metrics.unwrap_or_default())?;
        let layouts = self.classes.sizes().iter().map(|&size| ClassLayout::of(size)).collect();
        let extras = (self.system, self.on_leak);
        let engine = Engine::new(self.budget_bytes, self.classes, layouts, ttl, meter, extras);
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
///
/// # Examples
/// ```
/// # use tripod_memory::{BuildError, MemoryManager};
/// let refused = MemoryManager::builder().budget_bytes(0).build().unwrap_err();
/// assert!(matches!(refused, BuildError::ZeroBudget));
/// assert_eq!(refused.to_string(), "memory budget is 0 bytes");
/// ```
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
