//! The manager's numbers in a collector.
//!
//! Events are counted by the collector's own counters, which [`MemoryStats`](crate::MemoryStats) reads
//! too; bytes are read out of the ledger when they are exported. So each number has one home. A size
//! class has series once it is used, and a budget a histogram of waits once somebody has waited for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tripod_metrics::{
    Counter, Family, Gauge, Histogram, LabelError, MetricsCollector, RegisterError,
};

use crate::budget::Record;
use crate::classes::CLASSES_MAX;
use crate::engine::extras::Extras;
use crate::engine::{ClassSums, Engine, Sums};

/// The counters, and the families that budgets and size classes are added to.
#[derive(Debug)]
pub(crate) struct Meter {
    acquires: Family<Counter>,
    /// Counted here, because a refusal for want of memory must not ask for some.
    refused: AtomicU64,
    pub(crate) waits: Counter,
    pub(crate) expired_leases: Counter,
    pub(crate) spilled_bytes: Counter,
    collections: Histogram,
    collected_bytes: Counter,
    bytes: Family<Gauge>,
    peak_bytes: Family<Gauge>,
    budgets: Budgets,
    classes: Classes,
    extras: Besides,
}

/// With a series for each budget.
#[derive(Debug)]
struct Budgets {
    limit_bytes: Family<Gauge>,
    used_bytes: Family<Gauge>,
    peak_bytes: Family<Gauge>,
    wait_seconds: Family<Histogram>,
}

/// With series for each size class.
#[derive(Debug)]
struct Classes {
    /// Which of them have their series, a bit each.
    watched: [AtomicU64; (CLASSES_MAX + 1).div_ceil(64)],
    acquires: Family<Counter>,
    requested_bytes: Family<Counter>,
    handed_out_bytes: Family<Counter>,
    bytes: Family<Gauge>,
}

/// Of what the engine looks after besides memory.
#[derive(Debug)]
struct Besides {
    pressure: Family<Gauge>,
    leases: Family<Gauge>,
    panics: Family<Counter>,
    uncharged_bytes: Family<Gauge>,
}

/// Makes families in a collector.
struct Families<'a>(&'a MetricsCollector);

/// Why a collector did not take the manager's metrics.
///
/// # Examples
/// ```
/// # use tripod_memory::{BuildError, MemoryManager, MeterError};
/// let metrics = tripod_metrics::MetricsCollector::new();
/// metrics.gauge("tripod_memory_bytes", "Something else.").register()?.with(&[])?.set(1.0);
/// let refused = MemoryManager::builder().metrics(&metrics).build().unwrap_err();
/// assert!(matches!(refused, BuildError::Metrics(MeterError::Register(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeterError {
    /// A name is taken by something else.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A series is set by hand elsewhere.
    #[error(transparent)]
    Label(#[from] LabelError),
}

impl Meter {
    pub(crate) fn new(metrics: &MetricsCollector) -> Result<Self, MeterError> {
        let families = Families(metrics);
        Ok(Self {
            acquires: families.counter(
                "tripod_memory_acquires_total",
                "Buffers asked for, by what came of it.",
                &["result"],
            )?,
            refused: AtomicU64::new(0),
            waits: families.count(
                "tripod_memory_reservation_waits_total",
                "Requests for a reservation that had to wait in line.",
            )?,
            expired_leases: families.count(
                "tripod_memory_expired_leases_total",
                "Leases whose time was over, ended by a collection.",
            )?,
            spilled_bytes: families.count(
                "tripod_memory_spilled_bytes_total",
                "Bytes that spillers have said they gave back.",
            )?,
            collections: families.collections()?,
            collected_bytes: families.count(
                "tripod_memory_collected_bytes_total",
                "Bytes given back to the system because they were idle for too long.",
            )?,
            bytes: families.gauge(
                "tripod_memory_bytes",
                "Bytes reserved, handed out as buffers, and idle in pools.",
                &["state"],
            )?,
            peak_bytes: families.gauge(
                "tripod_memory_peak_bytes",
                "The most bytes that were ever reserved, handed out and idle together.",
                &[],
            )?,
            budgets: Budgets::new(&families)?,
            classes: Classes::new(&families)?,
            extras: Besides::new(&families)?,
        })
    }

    /// Counts a buffer that was not handed out.
    pub(crate) fn refused(&self) {
        // A statistic, here and where it is read.
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many buffers were not handed out.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts one collection.
    pub(crate) fn collected(&self, took: Duration, bytes: u64) {
        self.collections.observe(took.as_secs_f64());
        self.collected_bytes.add(bytes);
    }

    /// Lets the collector read the sums of `engine` for as long as it lives.
    pub(crate) fn watch_sums(&self, engine: &Arc<Engine>) -> Result<(), LabelError> {
        let count = |result: &str, read: fn(Sums) -> u64| {
            let engine = Arc::downgrade(engine);
            let read = rising(move || Some(read(engine.upgrade()?.sums())));
            self.acquires.observe(&[result], read)
        };
        count("hit", |sums| sums.acquires.saturating_sub(sums.misses))?;
        count("miss", |sums| sums.misses)?;
        let weak = Arc::downgrade(engine);
        let refusals = move || Some(weak.upgrade()?.meter.refusals());
        self.acquires.observe(&["refused"], refusals)?;
        self.watch_extras(engine)?;
        let observe = |family: &Family<Gauge>, labels: &[&str], read: fn(Sums) -> u64| {
            let engine = Arc::downgrade(engine);
            family.observe(labels, move || Some(read(engine.upgrade()?.sums()) as f64))
        };
        observe(&self.bytes, &["reserved"], |sums| sums.reserved)?;
        observe(&self.bytes, &["used"], |sums| sums.used)?;
        observe(&self.bytes, &["idle"], |sums| sums.idle)?;
        observe(&self.peak_bytes, &[], |sums| sums.peak)
    }

    /// Lets the collector read what the engine looks after besides.
    fn watch_extras(&self, engine: &Arc<Engine>) -> Result<(), LabelError> {
        let observe = |family: &Family<Gauge>, read: fn(&Extras) -> f64| {
            let engine = Arc::downgrade(engine);
            family.observe(&[], move || Some(read(&engine.upgrade()?.extras)))
        };
        observe(&self.extras.pressure, |extras| f64::from(extras.watch.glance().level as u8))?;
        observe(&self.extras.leases, |extras| extras.leases.count() as f64)?;
        observe(&self.extras.uncharged_bytes, |extras| extras.accounts.uncharged_bytes() as f64)?;
        let engine = Arc::downgrade(engine);
        self.extras.panics.observe(&[], move || Some(engine.upgrade()?.extras.panics()))
    }

    /// Lets the collector read a size class that is used, if it does not yet. One that never is has no
    /// series.
    pub(crate) fn watch_class(&self, engine: &Weak<Engine>, class: usize) {
        let (word, bit) = (&self.classes.watched[class / 64], 1 << (class % 64));
        // Only whether it is done, here and below.
        if word.load(Ordering::Relaxed) & bit != 0 || !has_memory(SERIES_BYTES) {
            return;
        }
        if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            // A series that somebody sets by hand elsewhere is missing here; a buffer is not refused
            // for it.
            drop(self.try_watch_class(engine, class));
        }
    }

    fn try_watch_class(&self, engine: &Weak<Engine>, class: usize) -> Result<(), LabelError> {
        let Some(size) = engine.upgrade().map(|engine| engine.class_sums_at(class).size) else {
            return Ok(());
        };
        let size = if size == 0 { "larger".to_owned() } else { size.to_string() };
        let count = |family: &Family<Counter>, labels: &[&str], read: fn(ClassSums) -> u64| {
            let engine = engine.clone();
            let read = rising(move || Some(read(engine.upgrade()?.class_sums_at(class))));
            family.observe(labels, read)
        };
        let hits = |sums: ClassSums| sums.counts.acquires.saturating_sub(sums.misses);
        count(&self.classes.acquires, &[&size, "hit"], hits)?;
        count(&self.classes.acquires, &[&size, "miss"], |sums| sums.misses)?;
        count(&self.classes.requested_bytes, &[&size], |sums| sums.counts.requested_bytes)?;
        count(&self.classes.handed_out_bytes, &[&size], |sums| sums.handed_out)?;
        let show = |state: &str, read: fn(ClassSums) -> u64| {
            let engine = engine.clone();
            let read = move || Some(read(engine.upgrade()?.class_sums_at(class)) as f64);
            self.classes.bytes.observe(&[&size, state], read)
        };
        show("used", |sums| sums.used)?;
        show("committed", |sums| sums.committed)
    }

    /// Counts a wait for room in the budget of `record`.
    pub(crate) fn waited(&self, record: &Record, time: Duration) {
        if record.waits.get().is_none()
            && let Ok(waits) = self.budgets.wait_seconds.with(&[&record.path])
        {
            record.waits.get_or_init(|| waits);
        }
        if let Some(waits) = record.waits.get() {
            waits.observe(time.as_secs_f64());
        }
    }

    /// Lets the collector read the budget of `record`. A second call replaces the first.
    pub(crate) fn watch_budget(
        &self,
        engine: &Arc<Engine>,
        record: &Arc<Record>,
    ) -> Result<(), LabelError> {
        let (alive, limit_bytes) = (Arc::downgrade(engine), record.limit_bytes);
        self.budgets.limit_bytes.observe(&[&record.path], move || {
            (alive.strong_count() > 0 && limit_bytes < u64::MAX).then_some(limit_bytes as f64)
        })?;
        let (engine, node): (Weak<Engine>, _) = (Arc::downgrade(engine), record.node);
        let peak_of = engine.clone();
        self.budgets
            .peak_bytes
            .observe(&[&record.path], move || Some(peak_of.upgrade()?.node_bytes(node).1 as f64))?;
        self.budgets
            .used_bytes
            .observe(&[&record.path], move || Some(engine.upgrade()?.node_bytes(node).0 as f64))
    }
}

impl Budgets {
    fn new(families: &Families<'_>) -> Result<Self, RegisterError> {
        let gauge = |name, help| families.gauge(name, help, &["budget"]);
        Ok(Self {
            limit_bytes: gauge(
                "tripod_memory_budget_bytes",
                "Limit of a budget in bytes; absent if unlimited.",
            )?,
            used_bytes: gauge(
                "tripod_memory_budget_used_bytes",
                "Bytes reserved and handed out through a budget and those below it.",
            )?,
            peak_bytes: gauge(
                "tripod_memory_budget_peak_bytes",
                "The most bytes that were ever reserved and handed out through a budget.",
            )?,
            wait_seconds: families.waits()?,
        })
    }
}

impl Classes {
    fn new(families: &Families<'_>) -> Result<Self, RegisterError> {
        Ok(Self {
            watched: Default::default(),
            acquires: families.counter(
                "tripod_memory_class_acquires_total",
                "Buffers handed out, by size class and whether their memory was there already.",
                &["size", "result"],
            )?,
            requested_bytes: families.counter(
                "tripod_memory_class_requested_bytes_total",
                "Bytes asked for, of all buffers handed out.",
                &["size"],
            )?,
            handed_out_bytes: families.counter(
                "tripod_memory_class_handed_out_bytes_total",
                "Bytes of all buffers handed out, by capacity.",
                &["size"],
            )?,
            bytes: families.gauge(
                "tripod_memory_class_bytes",
                "Bytes of a size class: used are handed out now, committed are held of the system.",
                &["size", "state"],
            )?,
        })
    }
}

impl Besides {
    fn new(families: &Families<'_>) -> Result<Self, RegisterError> {
        let gauge = |name, help| families.gauge(name, help, &[]);
        Ok(Self {
            pressure: gauge(
                "tripod_memory_pressure",
                "How short memory is: 0 none, 1 moderate, 2 critical.",
            )?,
            leases: gauge("tripod_memory_leases", "Leases that there are.")?,
            panics: families.counter(
                "tripod_memory_panics_total",
                "Panics of spillers, of pooled objects in a collection, and of wakers, all caught.",
                &[],
            )?,
            uncharged_bytes: gauge(
                "tripod_memory_uncharged_bytes",
                "Bytes of followed accounts that their budgets had no room for.",
            )?,
        })
    }
}

impl Families<'_> {
    fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<Family<Counter>, RegisterError> {
        self.0.counter(name, help).labels(labels.iter().copied()).register()
    }

    fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<Family<Gauge>, RegisterError> {
        self.0.gauge(name, help).labels(labels.iter().copied()).register()
    }

    /// A counter without labels.
    fn count(&self, name: &str, help: &str) -> Result<Counter, MeterError> {
        Ok(self.counter(name, help, &[])?.with(&[])?)
    }

    fn collections(&self) -> Result<Histogram, MeterError> {
        let family = self.0.histogram(
            "tripod_memory_collection_seconds",
            "Time that one step of the collection of idle memory took, without spillers.",
        );
        let family = family.buckets([1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2]);
        Ok(family.register()?.with(&[])?)
    }

    fn waits(&self) -> Result<Family<Histogram>, RegisterError> {
        let family = self.0.histogram(
            "tripod_memory_reservation_wait_seconds",
            "Time from entering the line to the grant, of requests that had to wait.",
        );
        family.labels(["budget"]).buckets([1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]).register()
    }
}

/// More than the series of a size class take.
const SERIES_BYTES: usize = 64 << 10;

/// Whether the heap has so many bytes at this moment. What a collector does cannot be refused memory,
/// so whoever must not fail for a statistic asks before, and does without it as long as memory is out.
fn has_memory(bytes: usize) -> bool {
    let mut asked = Vec::<u8>::new();
    let has_memory = asked.try_reserve_exact(bytes).is_ok();
    // Else it may be taken for granted, as nobody uses it.
    std::hint::black_box(&asked);
    has_memory
}

/// Makes a number that is read in parts, and may seem to go back for a moment, one that never does.
fn rising(read: impl Fn() -> Option<u64> + Send + Sync) -> impl Fn() -> Option<u64> + Send + Sync {
    let most = AtomicU64::new(0);
    move || {
        let read = read()?;
        Some(read.max(most.fetch_max(read, Ordering::Relaxed)))
    }
}
