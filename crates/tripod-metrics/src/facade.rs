//! Takes what the [`metrics`] facade records into a collector.
//!
//! A crate that counts through `metrics::counter!` and its like knows nothing of this one. A
//! [`FacadeRecorder`] gives it a place in a [`MetricsCollector`]: its metrics are on the same page,
//! and in the same cells, as all others.
//!
//! The facade is free in what Prometheus is strict about, so names are mapped:
//!
//! | facade | here |
//! |---|---|
//! | a character that is no ASCII letter, digit or `_` | `_` |
//! | a name that begins with a digit, or is empty | a `_` before it |
//! | a counter whose name does not end in `_total` | `_total` behind it |
//! | a gauge or histogram whose name ends in `_total` | without that ending |
//! | a label called `le`, `quantile`, `otel_metric_overflow`, `__…`, or as a constant label | `exported_` before it |
//! | a description, if it comes before the first series of its name | help text and unit |
//!
//! A unit is shown as such if the name ends in it, and in the help text otherwise. A metric without
//! a description has [`DEFAULT_HELP`].
//!
//! What it guarantees:
//! - two facade metrics are never one: the second of two names, or label names, that map to the same
//!   one is refused, and so is a name that is used as two types. What is refused gets a handle that
//!   does nothing, and `tripod_metrics_facade_refused_total` counts it with the reason;
//! - a handle that is held is never orphaned: what is recorded through it is exported, however
//!   long it was idle;
//! - `counter!("x", "a" => "b").increment(1)` takes no lock and allocates nothing once the calling
//!   thread has seen `x{a="b"}` (for label values that are not literals, the macro itself allocates).
//!
//! Where it stops: levels, targets and module paths of the facade are not looked at.
//!
//! # Examples
//! ```
//! use tripod_metrics::{MetricsCollector, facade::FacadeRecorder};
//!
//! let collector = MetricsCollector::new();
//! let recorder = FacadeRecorder::builder(&collector).build()?;
//! // In a program: `recorder.install()?`
//! metrics::with_local_recorder(&recorder, || {
//!     metrics::describe_counter!("http.requests", "Requests answered.");
//!     metrics::counter!("http.requests", "status" => "200").increment(1);
//!     metrics::gauge!("queue-length").set(3.0);
//! });
//! let page = collector.encode_text();
//! assert!(page.contains("# HELP http_requests_total Requests answered.\n"));
//! assert!(page.contains("http_requests_total{status=\"200\"} 1\n"));
//! assert!(page.contains("queue_length 3\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cache;
mod handle;
mod name;
mod registry;

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Key, KeyName, Metadata, Recorder, SharedString, Unit};

use self::handle::Handle;
use self::registry::{Refusal, Registry};
use crate::collector::MetricsCollector;
use crate::counter::Counter;
use crate::definition::{Definition, Shape, SummaryShape};
use crate::error::RegisterError;
use crate::family::{DEFAULT_SERIES_MAX, Family};
use crate::summary::{DEFAULT_QUANTILES, DEFAULT_WINDOWS};
use crate::sync::{Mutex, lock};

/// The help text of a metric that nobody described.
pub const DEFAULT_HELP: &str = "Recorded through the metrics facade, without a description.";

/// What a name of the facade stands for; one name stands for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The number of the next recorder.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Records what comes through the `metrics` facade in a [`MetricsCollector`].
///
/// Install it for the whole process with [`install`](Self::install), or for a piece of code with
/// `metrics::with_local_recorder`. Several may stand over one collector; names that they share are
/// the same metrics, but refusals of clashing names hold only within each.
///
/// `Counter::absolute` raises the counter to the given value, if it is lower; it takes a lock, as no
/// other update does. See the [module](self) for names, help texts and what is refused.
pub struct FacadeRecorder {
    id: u64,
    collector: MetricsCollector,
    options: Options,
    refused: Family<Counter>,
    registry: Mutex<Registry>,
    /// Held while a counter is raised, so that two threads do not raise it by the same difference.
    raising: Arc<Mutex<()>>,
}

/// Describes a [`FacadeRecorder`] before it is built.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct FacadeRecorderBuilder {
    collector: MetricsCollector,
    options: Options,
}

/// What the families of a recorder are made like.
#[derive(Debug, Clone)]
struct Options {
    distribution: Shape,
    /// Classic buckets for names that match; the first match counts.
    buckets: Vec<(String, Shape)>,
    series_max: usize,
    idle_timeout: Option<Duration>,
    place: &'static Location<'static>,
}

impl FacadeRecorderBuilder {
    /// Makes exponential histograms of this schema; default: 3. See
    /// [`exponential`](crate::FamilyBuilder::exponential).
    pub fn exponential(mut self, schema: u8) -> Self {
        self.options.distribution = Shape::Exponential(schema);
        self
    }

    /// Makes summaries with the default quantiles and windows instead of histograms.
    pub fn summaries(mut self) -> Self {
        let (quantiles, windows) = (DEFAULT_QUANTILES.to_vec(), DEFAULT_WINDOWS.to_vec());
        self.options.distribution = Shape::Summary(Arc::new(SummaryShape { quantiles, windows }));
        self
    }

    /// Makes histograms with these classic buckets for names that match `pattern`; the first pattern
    /// that matches counts.
    ///
    /// In a pattern `*` stands for any number of characters. It is compared with the name as it is in
    /// the facade. Rules for bounds are those of
    /// [`FamilyBuilder::buckets`](crate::FamilyBuilder::buckets).
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::{MetricsCollector, facade::FacadeRecorder};
    /// let collector = MetricsCollector::new();
    /// let recorder = FacadeRecorder::builder(&collector)
    ///     .buckets("http.*.seconds", [0.1, 1.0])
    ///     .build()?;
    /// metrics::with_local_recorder(&recorder, || metrics::histogram!("http.get.seconds").record(0.3));
    /// assert!(collector.encode_text().contains("http_get_seconds_bucket{le=\"0.1\"} 0\n"));
    /// # Ok::<(), tripod_metrics::RegisterError>(())
    /// ```
    pub fn buckets(mut self, pattern: impl Into<String>, bounds: impl Into<Vec<f64>>) -> Self {
        self.options.buckets.push((pattern.into(), Shape::classic(bounds.into())));
        self
    }

    /// Sets the most series of each name; default: 2000. What is over it goes to an overflow series;
    /// see [`FamilyBuilder::max_series`](crate::FamilyBuilder::max_series).
    pub fn max_series(mut self, series_max: usize) -> Self {
        self.options.series_max = series_max;
        self
    }

    /// Removes series that have not changed for this long; default: never. See
    /// [`FamilyBuilder::idle_timeout`](crate::FamilyBuilder::idle_timeout).
    ///
    /// A series stays while a handle of it is held. Threads remember handles, too: one forgets what
    /// it did not use for a tick of the [`Sampler`](crate::Sampler), but only when it next records
    /// something, so a thread that sleeps keeps the series that it used last.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = Some(timeout);
        self
    }

    /// Makes the recorder.
    ///
    /// # Errors
    /// [`RegisterError`] if buckets or the schema are not to be had, or the collector has another
    /// family called `tripod_metrics_facade_refused_total`.
    pub fn build(self) -> Result<FacadeRecorder, RegisterError> {
        let Self { collector, mut options } = self;
        options.check()?;
        let refused = collector
            .counter(
                "tripod_metrics_facade_refused_total",
                "Metrics and descriptions of the metrics facade that found no place, as a thread met them.",
            )
            .labels(["reason"])
            .register()?;
        Ok(FacadeRecorder {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            collector,
            options,
            refused,
            registry: Mutex::default(),
            raising: Arc::default(),
        })
    }
}

/// Why a recorder was not installed.
#[derive(Debug, thiserror::Error)]
#[error("another recorder of the metrics facade is installed in this process already")]
#[non_exhaustive]
pub struct InstallError;

impl FacadeRecorder {
    /// Starts to describe a recorder over `collector`.
    ///
    /// The place of this call is the one that a
    /// [`RegisterError::Conflict`] names for a family of the facade.
    #[track_caller]
    pub fn builder(collector: &MetricsCollector) -> FacadeRecorderBuilder {
        let options = Options {
            distribution: Shape::Exponential(3),
            buckets: Vec::new(),
            series_max: DEFAULT_SERIES_MAX,
            idle_timeout: None,
            place: Location::caller(),
        };
        FacadeRecorderBuilder { collector: collector.clone(), options }
    }

    /// Makes this the recorder of the process, for good.
    ///
    /// # Errors
    /// [`InstallError`] if there is one already.
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::{MetricsCollector, facade::FacadeRecorder};
    /// let collector = MetricsCollector::new();
    /// FacadeRecorder::builder(&collector).build()?.install()?;
    /// metrics::counter!("jobs").increment(2);
    /// assert!(collector.encode_text().contains("jobs_total 2\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn install(self) -> Result<(), InstallError> {
        metrics::set_global_recorder(self).map_err(|_| InstallError)
    }

    /// Finds or makes the handle of a key.
    #[inline]
    fn handle(&self, kind: Kind, key: &Key) -> Handle {
        // Without a timeout nothing is forgotten for being old, so it is always the same moment.
        let moment = match self.options.idle_timeout {
            Some(_) => self.collector.shared().maintenances.load(Ordering::Relaxed),
            None => 0,
        };
        let asked = cache::Asked { recorder: self.id, kind, key, moment };
        cache::find(asked).unwrap_or_else(|| {
            let handle = self.make(kind, key);
            cache::remember(asked, handle.clone());
            handle
        })
    }

    #[cold]
    fn make(&self, kind: Kind, key: &Key) -> Handle {
        let found = lock(&self.registry).find(&self.collector, &self.options, kind, key);
        match found {
            Ok((held, cell)) => Handle::new(held, cell, &self.raising),
            Err(refusal) => {
                self.count(refusal);
                Handle::Refused(kind)
            }
        }
    }

    fn describe(&self, kind: Kind, name: KeyName, unit: Option<Unit>, text: &str) {
        let described = lock(&self.registry).describe(kind, name, unit, text);
        described.unwrap_or_else(|refusal| self.count(refusal));
    }

    fn count(&self, refusal: Refusal) {
        let counted = self.refused.inc(&[refusal.as_str()]);
        debug_assert!(counted.is_ok(), "{counted:?}");
    }
}

impl Recorder for FacadeRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(Kind::Counter, name, unit, &text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(Kind::Gauge, name, unit, &text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(Kind::Histogram, name, unit, &text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> metrics::Counter {
        match self.handle(Kind::Counter, key) {
            Handle::Counter(counter) => metrics::Counter::from_arc(counter),
            _ => metrics::Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        match self.handle(Kind::Gauge, key) {
            Handle::Gauge(gauge) => metrics::Gauge::from_arc(gauge),
            _ => metrics::Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        match self.handle(Kind::Histogram, key) {
            Handle::Histogram(histogram) => metrics::Histogram::from_arc(histogram),
            Handle::Summary(summary) => metrics::Histogram::from_arc(summary),
            _ => metrics::Histogram::noop(),
        }
    }
}

impl std::fmt::Debug for FacadeRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FacadeRecorder")
            .field("collector", &self.collector)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Puts the shapes into their checked form.
    fn check(&mut self) -> Result<(), RegisterError> {
        self.distribution = self.checked(&self.distribution)?;
        let buckets = self.buckets.iter();
        let checked = buckets.map(|(pattern, shape)| Ok((pattern.clone(), self.checked(shape)?)));
        self.buckets = checked.collect::<Result<_, RegisterError>>()?;
        Ok(())
    }

    fn checked(&self, shape: &Shape) -> Result<Shape, RegisterError> {
        let (name, help) = ("histograms_of_the_facade".to_owned(), DEFAULT_HELP.to_owned());
        Ok(self.definition(name, help, None, shape.clone()).check(&[])?.shape)
    }

    fn shape(&self, kind: Kind, facade_name: &str) -> Shape {
        match kind {
            Kind::Counter => Shape::Counter,
            Kind::Gauge => Shape::Gauge,
            Kind::Histogram => {
                let mut buckets = self.buckets.iter();
                let found = buckets.find(|(pattern, _)| name::matches(pattern, facade_name));
                found.map_or(&self.distribution, |(_, shape)| shape).clone()
            }
        }
    }

    fn definition(
        &self,
        name: String,
        help: String,
        unit: Option<String>,
        shape: Shape,
    ) -> Definition {
        Definition {
            shape,
            name,
            help,
            unit,
            label_names: Vec::new(),
            has_free_labels: true,
            series_max: self.series_max,
            idle_timeout: self.idle_timeout,
            place: self.place,
        }
    }
}
