//! The collector: the families of a process, by name.
//!
//! The registry is behind one lock, held for look-ups and insertions only, and never while code of
//! the user runs.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::Location;
use std::path::Path;
use std::time::SystemTime;

use crate::counter::{Counter, FloatCounter};
use crate::definition::{Definition, Shape, SummaryShape, check_labels};
use crate::error::{Clash, RegisterError};
use crate::family::{DEFAULT_SERIES_MAX, Family, FamilyBuilder, with_outcome};
use crate::gauge::Gauge;
use crate::histogram::{DEFAULT_BUCKETS, Histogram};
use crate::labels::write_pair;
use crate::metric::Metric;
use crate::page::{self, Format, OpenMetrics, Text004};
use crate::resume::{self, Keeper, ResumeError, Resumed};
use crate::sampler::SamplerBuilder;
use crate::series::SeriesSet;
use crate::shared::Shared;
use crate::snapshot::{self, Snapshot};
use crate::summary::{DEFAULT_QUANTILES, DEFAULT_WINDOWS, Summary};
use crate::sync::{Arc, Ordering, RwLock, read, write};
use crate::timer::Timer;

/// Keeps the metrics of a process and writes them as a page.
///
/// A handle is cheap to clone, and all clones share the families. Every collector has two families
/// of its own: `tripod_metrics_observations_dropped_total` counts the values that could not be
/// recorded, such as NaN given to a histogram, and
/// `tripod_metrics_label_sets_overflowed_total` the look-ups beyond the series limit of a family.
///
/// # Examples
/// ```
/// # use tripod_metrics::MetricsCollector;
/// let metrics = MetricsCollector::new();
/// let requests = metrics.counter("requests_total", "Requests.").labels(["path"]).register()?;
/// requests.with(&["/"])?.inc();
///
/// assert!(metrics.encode_text().contains("requests_total{path=\"/\"} 1\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct MetricsCollector {
    inner: Arc<Inner>,
}

struct Inner {
    constant_labels: Vec<(String, String)>,
    /// The same as they stand on a page.
    constant: String,
    shared: Arc<Shared>,
    overflowed: std::sync::OnceLock<Family<Counter>>,
    registry: RwLock<Registry>,
    /// Where a sampler keeps what it samples.
    #[cfg(feature = "history")]
    history: RwLock<Option<Arc<tripod_history::Store>>>,
}

/// Describes a [`MetricsCollector`] before it is built.
///
/// # Examples
/// ```
/// # use tripod_metrics::MetricsCollector;
/// let metrics = MetricsCollector::builder().constant_label("zone", "b").build()?;
/// metrics.counter("jobs_total", "Jobs taken.").register()?.plain().inc();
/// assert!(metrics.encode_text().contains("jobs_total{zone=\"b\"} 1\n"));
/// # Ok::<(), tripod_metrics::RegisterError>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct MetricsCollectorBuilder {
    constant_labels: Vec<(String, String)>,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Default for MetricsCollectorBuilder {
    fn default() -> Self {
        Self { constant_labels: Vec::new(), clock: Box::new(SystemTime::now) }
    }
}

impl std::fmt::Debug for MetricsCollectorBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsCollectorBuilder")
            .field("constant_labels", &self.constant_labels)
            .finish_non_exhaustive()
    }
}

impl MetricsCollectorBuilder {
    /// Adds a label that every series of the collector carries; default: none.
    ///
    /// The value may be any UTF-8. On a page, constant labels come first, in the order added.
    pub fn constant_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.constant_labels.push((name.into(), value.into()));
        self
    }

    /// Sets the clock that says when series are made and how long they are idle; default: that of
    /// the system. Timers have a clock of their own.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Makes the collector.
    ///
    /// # Errors
    /// [`RegisterError::InvalidLabelName`] and [`RegisterError::DuplicateLabel`] if a constant label
    /// breaks the rules for labels.
    pub fn build(self) -> Result<MetricsCollector, RegisterError> {
        check_labels(self.constant_labels.iter().map(|(name, _)| name.as_str()))?;
        Ok(MetricsCollector::with_checked(self, None))
    }

    /// Makes the collector, whose counters go on where those of the process before stopped.
    ///
    /// The cells lie in files of `directory`, which is made if it is not there. A process that is
    /// killed, by whatever, loses nothing that it has counted: the next one that names the same
    /// directory goes on from the exact numbers. Each series does so when it is registered again, with
    /// the name, the type, the buckets and the labels that it had, and with its time of creation;
    /// one that two processes in a row did not register is forgotten. After a reboot, and whenever
    /// anything about the files is not certain, everything starts from zero: never from a number that
    /// is older than one that was shown, which Prometheus would take for a restart and count twice.
    ///
    /// Counters, histograms, and sum and count of summaries go on; gauges, observed series, exemplars
    /// and windows do not. Counting costs what it costs in memory. Making a series costs a system
    /// call more, and chunks of threads that have ended are kept for those to come.
    ///
    /// Choose a directory in memory, such as `/run/NAME` or `/dev/shm/NAME`: on a disk, the kernel may
    /// now and then hold up a thread that counts while it writes the page back. It takes 4 KiB for each
    /// 512 counters and thread, and about 100 bytes for each series. When room runs out, counting
    /// goes on in memory alone, `tripod_metrics_resume_failures_total` grows, and the next process
    /// starts from zero. Nobody else may write to the files; who makes them shorter kills the process.
    /// A process that forks without `exec` counts in one of the two only: both have the same cells.
    ///
    /// # Errors
    /// [`ResumeError::InUse`] if another collector has the directory; [`ResumeError::Io`] if it cannot
    /// be read or written; [`ResumeError::Exposed`] if every user may write to it;
    /// [`ResumeError::Labels`] for constant labels, as [`build`](Self::build).
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::{MetricsCollector, Start};
    /// # let place = tempfile::tempdir()?;
    /// # let directory = place.path().join("my-service");
    /// let (metrics, resumed) = MetricsCollector::builder().build_resumed(&directory)?;
    /// assert_eq!(resumed.start, Start::First);
    /// metrics.counter("jobs_total", "Jobs taken.").register()?.plain().add(3);
    /// # drop(metrics);
    ///
    /// // In the next process:
    /// let (metrics, resumed) = MetricsCollector::builder().build_resumed(&directory)?;
    /// assert_eq!((resumed.start, resumed.series), (Start::Continued, 1));
    /// let jobs = metrics.counter("jobs_total", "Jobs taken.").register()?.plain();
    /// assert_eq!(jobs.get(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build_resumed(
        self,
        directory: impl AsRef<Path>,
    ) -> Result<(MetricsCollector, Resumed), ResumeError> {
        self.build_with(|constant| resume::open(directory.as_ref(), constant))
    }

    pub(crate) fn build_with(
        self,
        open: impl FnOnce(&str) -> Result<(Keeper, Resumed), ResumeError>,
    ) -> Result<(MetricsCollector, Resumed), ResumeError> {
        check_labels(self.constant_labels.iter().map(|(name, _)| name.as_str()))?;
        let (keeper, resumed) = open(&self.constant())?;
        Ok((MetricsCollector::with_checked(self, Some(Arc::new(keeper))), resumed))
    }

    /// The constant labels as they stand on a page.
    fn constant(&self) -> String {
        let mut constant = String::new();
        self.constant_labels
            .iter()
            .for_each(|(name, value)| write_pair(&mut constant, name, value));
        constant
    }
}

impl MetricsCollector {
    /// Makes a collector without constant labels.
    #[must_use]
    pub fn new() -> Self {
        Self::with_checked(MetricsCollectorBuilder::default(), None)
    }

    /// Starts to describe a collector.
    pub fn builder() -> MetricsCollectorBuilder {
        MetricsCollectorBuilder::default()
    }

    /// Starts to describe a family of counters, whose name ends in `_total`.
    ///
    /// Names match `[a-zA-Z_][a-zA-Z0-9_]*`; the help text is any UTF-8 that is not blank. Both are
    /// checked by [`register`](FamilyBuilder::register).
    #[track_caller]
    pub fn counter(
        &self,
        name: impl Into<String>,
        help: impl Into<String>,
    ) -> FamilyBuilder<Counter> {
        self.describe(name.into(), help.into(), Shape::Counter, Location::caller())
    }

    /// Starts to describe a family of counters of fractions; rules as for
    /// [`counter`](Self::counter).
    #[track_caller]
    pub fn float_counter(
        &self,
        name: impl Into<String>,
        help: impl Into<String>,
    ) -> FamilyBuilder<FloatCounter> {
        self.describe(name.into(), help.into(), Shape::FloatCounter, Location::caller())
    }

    /// Starts to describe a family of gauges; rules as for [`counter`](Self::counter), but the name
    /// must not end in `_total`.
    #[track_caller]
    pub fn gauge(&self, name: impl Into<String>, help: impl Into<String>) -> FamilyBuilder<Gauge> {
        self.describe(name.into(), help.into(), Shape::Gauge, Location::caller())
    }

    /// Starts to describe a family of histograms; rules as for [`gauge`](Self::gauge).
    ///
    /// Its buckets are [`DEFAULT_BUCKETS`] unless [`buckets`](FamilyBuilder::buckets) or
    /// [`exponential`](FamilyBuilder::exponential) chooses others.
    #[track_caller]
    pub fn histogram(
        &self,
        name: impl Into<String>,
        help: impl Into<String>,
    ) -> FamilyBuilder<Histogram> {
        let shape = Shape::classic(DEFAULT_BUCKETS.to_vec());
        self.describe(name.into(), help.into(), shape, Location::caller())
    }

    /// Starts to describe a family of summaries; rules as for [`gauge`](Self::gauge).
    #[track_caller]
    pub fn summary(
        &self,
        name: impl Into<String>,
        help: impl Into<String>,
    ) -> FamilyBuilder<Summary> {
        let (quantiles, windows) = (DEFAULT_QUANTILES.to_vec(), DEFAULT_WINDOWS.to_vec());
        let shape = Shape::Summary(Arc::new(SummaryShape { quantiles, windows }));
        self.describe(name.into(), help.into(), shape, Location::caller())
    }

    /// Starts to describe a family of timers: histograms of seconds with one more label, `outcome`.
    ///
    /// Rules as for [`gauge`](Self::gauge); the name ends in `_seconds`, since that is the unit.
    #[track_caller]
    pub fn timer(&self, name: impl Into<String>, help: impl Into<String>) -> FamilyBuilder<Timer> {
        let shape = Shape::classic(DEFAULT_BUCKETS.to_vec());
        self.describe(name.into(), help.into(), shape, Location::caller()).unit("seconds")
    }

    /// Returns all series as a page; see [`write_text`](Self::write_text).
    ///
    /// # Panics
    /// Only if an observer does.
    #[must_use]
    pub fn encode_text(&self) -> String {
        self.encode::<Text004>()
    }

    /// Writes all series in the Prometheus text exposition format 0.0.4.
    ///
    /// Families are sorted by name, and their series are in the order in which they were made;
    /// families without a series are left out. Each series is read at its own moment, and a
    /// histogram as a whole. Observers run here. Serve the page as
    /// [`TEXT_CONTENT_TYPE`](crate::TEXT_CONTENT_TYPE). No lock is held while `out` is written to.
    /// The cost is one pass over the series; nothing is allocated for each.
    ///
    /// # Errors
    /// Only those of `out`.
    ///
    /// # Panics
    /// Only if an observer does.
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::MetricsCollector;
    /// let metrics = MetricsCollector::new();
    /// metrics.gauge("temperature_celsius", "Of the room.").register()?.plain().set(21.5);
    /// let mut page = String::new();
    /// metrics.write_text(&mut page)?;
    /// let lines: Vec<&str> = page.lines().take(3).collect();
    /// assert_eq!(lines, [
    ///     "# HELP temperature_celsius Of the room.",
    ///     "# TYPE temperature_celsius gauge",
    ///     "temperature_celsius 21.5",
    /// ]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_text(&self, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        self.write_pieces::<Text004>(out)
    }

    /// Returns all series as an OpenMetrics page; see
    /// [`write_openmetrics`](Self::write_openmetrics).
    ///
    /// # Panics
    /// Only if an observer does.
    #[must_use]
    pub fn encode_openmetrics(&self) -> String {
        let mut page = self.encode::<OpenMetrics>();
        page.push_str(page::OPENMETRICS_END);
        page
    }

    /// Writes all series in the OpenMetrics text format 1.0.0, with units, times of creation,
    /// exemplars and the closing `# EOF`.
    ///
    /// The format has no place for what negative values lead to: sums and quantiles below 0 are left
    /// out, and sum and count of a histogram that has a bound below 0. The other formats show them.
    /// For the rest see [`write_text`](Self::write_text). Serve the page as
    /// [`OPENMETRICS_CONTENT_TYPE`](crate::OPENMETRICS_CONTENT_TYPE).
    ///
    /// # Errors
    /// Only those of `out`.
    ///
    /// # Panics
    /// Only if an observer does.
    pub fn write_openmetrics(&self, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        self.write_pieces::<OpenMetrics>(out)?;
        out.write_str(page::OPENMETRICS_END)
    }

    /// Returns everything as plain data.
    ///
    /// It copies names and labels, so it is for what is not on a hot path.
    ///
    /// # Panics
    /// Only if an observer does.
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::{MetricsCollector, snapshot::Value};
    /// let metrics = MetricsCollector::new();
    /// metrics.counter("jobs_total", "Jobs taken.").register()?.plain().add(3);
    /// let snapshot = metrics.snapshot();
    /// let jobs = snapshot.families.iter().find(|family| family.name == "jobs_total");
    /// assert_eq!(jobs.map(|jobs| &jobs.series[0].value), Some(&Value::Counter(3)));
    /// # Ok::<(), tripod_metrics::RegisterError>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let time = self.inner.shared.now();
        let constant = &self.inner.constant_labels;
        let families =
            self.sets().iter().filter_map(|set| snapshot::family(set, constant)).collect();
        Snapshot { time, families }
    }

    /// Describes a thread that samples the collector every second, or as often as asked: for rates,
    /// for live subscribers, and to [`maintain`](Self::maintain) it.
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::MetricsCollector;
    /// let metrics = MetricsCollector::new();
    /// let sampler = metrics.sampler().start()?; // Stops when it is dropped.
    /// # drop(sampler);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn sampler(&self) -> SamplerBuilder {
        SamplerBuilder::new(self.clone())
    }

    /// Does what is due by the collector's clock: windows of summaries slide, and idle series are
    /// removed. Returns how many series were removed.
    ///
    /// A [`Sampler`](crate::Sampler) does this at every tick.
    pub fn maintain(&self) -> usize {
        let now_ms = self.inner.shared.now_ms();
        self.inner.shared.maintenances.fetch_add(1, Ordering::Relaxed);
        let sets = self.sets();
        sets.iter().for_each(|set| set.advance(now_ms));
        sets.iter().map(|set| set.expire(now_ms)).sum()
    }

    /// The history that a sampler keeps, if one does.
    #[cfg(feature = "history")]
    #[must_use]
    pub fn history(&self) -> Option<Arc<tripod_history::Store>> {
        read(&self.inner.history).clone()
    }

    #[cfg(feature = "history")]
    pub(crate) fn attach_history(&self, store: Arc<tripod_history::Store>) {
        // What was there is dropped outside of the lock: it may close files.
        let _before = write(&self.inner.history).replace(store);
    }

    /// The families, sorted by name.
    pub(crate) fn sets(&self) -> Vec<Arc<SeriesSet>> {
        read(&self.inner.registry).families.values().cloned().collect()
    }

    #[cfg(feature = "facade")]
    pub(crate) fn constant_labels(&self) -> &[(String, String)] {
        &self.inner.constant_labels
    }

    /// The time by the collector's clock.
    pub(crate) fn now(&self) -> SystemTime {
        self.inner.shared.now()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    fn encode<F: Format>(&self) -> String {
        let mut page = String::new();
        let keep = &mut |_: &mut String| Ok::<(), Infallible>(());
        for set in self.sets() {
            let Ok(()) = page::write_family::<F, _>(&mut page, &set, &self.inner.constant, keep);
        }
        page
    }

    fn write_pieces<F: Format>(&self, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        let mut piece = String::new();
        let mut flush = |piece: &mut String| {
            out.write_str(piece)?;
            piece.clear();
            Ok(())
        };
        for set in self.sets() {
            page::write_family::<F, _>(&mut piece, &set, &self.inner.constant, &mut flush)?;
        }
        Ok(())
    }

    /// Makes a collector whose constant labels were checked.
    fn with_checked(builder: MetricsCollectorBuilder, keeper: Option<Arc<Keeper>>) -> Self {
        let constant = builder.constant();
        let MetricsCollectorBuilder { constant_labels, clock } = builder;
        let collector = Self {
            inner: Arc::new(Inner {
                constant_labels,
                constant,
                shared: Arc::new(Shared::new(clock, keeper)),
                overflowed: std::sync::OnceLock::new(),
                registry: RwLock::new(Registry::default()),
                #[cfg(feature = "history")]
                history: RwLock::new(None),
            }),
        };
        collector.register_own().expect("nothing is registered yet that could be in the way");
        collector
    }

    /// Registers what the collector tells of itself.
    fn register_own(&self) -> Result<(), Box<dyn std::error::Error>> {
        let (name, help) = (
            "tripod_metrics_observations_dropped_total",
            "Values that could not be recorded: NaN, or negative ones given to a counter.",
        );
        let shared = Arc::clone(self.shared());
        let (cells, dropped) = (Arc::clone(&shared.cells), shared.dropped);
        let family = self.counter(name, help).register()?;
        family.observe(&[], move || Some(cells.sum(dropped)))?;
        let (name, help) = (
            "tripod_metrics_label_sets_overflowed_total",
            "Look-ups of label sets beyond the series limit of their family.",
        );
        let builder = self.counter(name, help).labels(["family"]).max_series(usize::MAX);
        let _first = self.inner.overflowed.set(builder.register()?);
        if let Some(keeper) = self.shared().keeper.clone() {
            let (name, help) = (
                "tripod_metrics_resume_failures_total",
                "What could not be kept for the next process, which starts from zero if this is not 0.",
            );
            self.counter(name, help).register()?.observe(&[], move || Some(keeper.failures()))?;
        }
        Ok(())
    }

    fn describe<M: Metric>(
        &self,
        name: String,
        help: String,
        shape: Shape,
        place: &'static Location<'static>,
    ) -> FamilyBuilder<M> {
        let definition = Definition {
            shape,
            name,
            help,
            unit: None,
            label_names: Vec::new(),
            has_free_labels: false,
            series_max: DEFAULT_SERIES_MAX,
            idle_timeout: None,
            place,
        };
        FamilyBuilder::new(self.clone(), definition)
    }

    pub(crate) fn register<M: Metric>(
        &self,
        definition: Definition,
    ) -> Result<Arc<SeriesSet>, RegisterError> {
        let definition = if M::HAS_OUTCOME { with_outcome(definition) } else { definition };
        let definition = definition.check(&self.inner.constant_labels)?;
        let set = Arc::new(SeriesSet::new(definition, Arc::clone(self.shared())));
        let (set, is_new) = write(&self.inner.registry).find_or_insert(set)?;
        if is_new {
            self.watch_overflow(&set);
        }
        Ok(set)
    }

    /// Shows how often the family was over its limit, once it was.
    fn watch_overflow(&self, set: &Arc<SeriesSet>) {
        let Some(overflowed) = self.inner.overflowed.get() else { return };
        let Definition { label_names, has_free_labels, series_max, .. } = &set.definition;
        if (label_names.is_empty() && !has_free_labels) || *series_max == usize::MAX {
            return;
        }
        let watched = Arc::downgrade(set);
        let observer = move || Some(watched.upgrade()?.overflowed()).filter(|count| *count > 0);
        let observed = overflowed.observe(&[&set.definition.name], observer);
        debug_assert!(observed.is_ok(), "{observed:?}");
    }
}

impl Default for MetricsCollector {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MetricsCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsCollector")
            .field("constant_labels", &self.inner.constant_labels)
            .field("families", &read(&self.inner.registry).families.len())
            .finish_non_exhaustive()
    }
}

/// The families by name. Pure: the collector puts the lock around it.
#[derive(Default)]
struct Registry {
    families: BTreeMap<String, Arc<SeriesSet>>,
    /// By the name of each line that a page may have, in any format, its family.
    lines: BTreeMap<String, Arc<SeriesSet>>,
}

impl Registry {
    /// Returns the family that is the same as `set`, which is `set` itself if none was there, and
    /// whether it is new.
    fn find_or_insert(
        &mut self,
        set: Arc<SeriesSet>,
    ) -> Result<(Arc<SeriesSet>, bool), RegisterError> {
        let definition = &set.definition;
        if let Some(existing) = self.families.get(&definition.name) {
            return match definition.clash(&existing.definition) {
                Some(clash) => Err(definition.conflict(&existing.definition, clash)),
                None => Ok((Arc::clone(existing), false)),
            };
        }
        let lines = definition.line_names();
        if let Some(existing) = lines.iter().find_map(|line| self.lines.get(line)) {
            return Err(definition.conflict(&existing.definition, Clash::Lines));
        }
        self.lines.extend(lines.into_iter().map(|line| (line, Arc::clone(&set))));
        self.families.insert(definition.name.clone(), Arc::clone(&set));
        Ok((set, true))
    }
}
