//! Families: all series of one name, which differ in the values of their labels.

use std::marker::PhantomData;
use std::time::Duration;

use crate::collector::MetricsCollector;
use crate::counter::{Counter, FloatCounter};
use crate::definition::{Definition, Shape, SummaryShape};
use crate::error::{LabelError, RegisterError};
use crate::gauge::{self, Gauge};
use crate::histogram::{Histogram, observe_classic, observe_exponential};
use crate::metric::{Access, Metric};
use crate::reading::Reading;
use crate::series::{Observer, OwnedCell, SeriesSet};
use crate::summary::Summary;
use crate::sync::{Arc, Ordering};
use crate::timer::{OUTCOME_LABEL, Timer};
use crate::typed::{LabelSet, TypedFamily};

/// The most series of a family for which no other limit is set.
pub const DEFAULT_SERIES_MAX: usize = 2000;

/// Describes a family before it is registered.
///
/// It comes from [`MetricsCollector::counter`] and its like.
///
/// # Examples
/// ```
/// # use tripod_metrics::MetricsCollector;
/// let metrics = MetricsCollector::new();
/// let requests = metrics
///     .counter("requests_total", "Requests answered.")
///     .labels(["method", "status"])
///     .register()?;
/// requests.inc(&["GET", "200"])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a family exists only once it is registered"]
pub struct FamilyBuilder<M> {
    collector: MetricsCollector,
    definition: Definition,
    metric: PhantomData<fn() -> M>,
}

impl<M: Metric> FamilyBuilder<M> {
    pub(crate) fn new(collector: MetricsCollector, definition: Definition) -> Self {
        Self { collector, definition, metric: PhantomData }
    }

    /// Declares the names of the labels, in the order in which values will be given; default: none.
    ///
    /// Every label name matches `[a-zA-Z_][a-zA-Z0-9_]*`, does not begin with `__`, and is none of
    /// `le`, `quantile` and `otel_metric_overflow`.
    pub fn labels(mut self, names: impl IntoIterator<Item: Into<String>>) -> Self {
        self.definition.label_names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Declares the labels by a type, whose values then need no look-up by text; see
    /// [`label_set!`](crate::label_set).
    ///
    /// Replaces [`labels`](Self::labels). The series of such a family are never removed.
    pub fn labelled_by<L: LabelSet>(mut self) -> TypedFamilyBuilder<M, L> {
        self.definition.label_names = L::NAMES.iter().map(|name| (*name).to_owned()).collect();
        TypedFamilyBuilder { builder: self, labels: PhantomData }
    }

    /// Declares the unit, such as `seconds` or `bytes`; default: none.
    ///
    /// As OpenMetrics asks, the name has to end in it, before the `_total` of a counter.
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.definition.unit = Some(unit.into());
        self
    }

    /// Sets the most series that the family may have; default: [`DEFAULT_SERIES_MAX`].
    ///
    /// What is over it is counted in one more series, whose only label is
    /// `otel_metric_overflow="true"`, so totals stay right; and
    /// `tripod_metrics_label_sets_overflowed_total` counts the look-ups that ended there. Not part of
    /// a family's identity: the first to register decides.
    pub fn max_series(mut self, series_max: usize) -> Self {
        self.definition.series_max = series_max;
        self
    }

    /// Removes series that have not changed for this long; default: never.
    ///
    /// A series is not removed while a handle of it is held, nor if it is observed. One that comes
    /// back starts at 0, with a new time of creation. Removal takes place when the collector is told
    /// the time, by a [`Sampler`](crate::Sampler) or
    /// [`MetricsCollector::maintain`]. Looking up by values costs a few nanoseconds more in such a
    /// family. Not part of a family's identity: the first to register decides.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.definition.idle_timeout = Some(timeout);
        self
    }

    /// Adds the family to the collector, or returns the one that is there already.
    ///
    /// Two descriptions are the same family if name, type, help, unit, labels and buckets are equal.
    ///
    /// # Errors
    /// [`RegisterError::Conflict`] if the name is taken by a family of another description, or
    /// a line of one would have the name of a line of the other; it names both places in the code.
    /// The other variants if the description itself breaks a rule.
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::MetricsCollector;
    /// let metrics = MetricsCollector::new();
    /// let first = metrics.counter("jobs_total", "Jobs taken.").register()?;
    /// let again = metrics.counter("jobs_total", "Jobs taken.").register()?;
    /// first.plain().inc();
    /// assert_eq!(again.plain().get(), 1);
    ///
    /// let refused = metrics.gauge("jobs_total", "Jobs taken.").register();
    /// assert!(refused.unwrap_err().to_string().contains("`_total`"));
    /// # Ok::<(), tripod_metrics::RegisterError>(())
    /// ```
    pub fn register(self) -> Result<Family<M>, RegisterError> {
        let set = self.collector.register::<M>(self.definition)?;
        Ok(Family { set, metric: PhantomData })
    }
}

impl FamilyBuilder<Histogram> {
    /// Sets the upper bounds of the buckets; default:
    /// [`DEFAULT_BUCKETS`](crate::DEFAULT_BUCKETS).
    ///
    /// Bounds are inclusive, finite and strictly ascending, at most 508. The bucket up to +Inf is
    /// implied and may be left out.
    pub fn buckets(mut self, upper_bounds: impl Into<Vec<f64>>) -> Self {
        self.definition.shape = Shape::classic(upper_bounds.into());
        self
    }

    /// Chooses exponential buckets, 2^`schema` for each doubling, instead of bounds.
    ///
    /// `schema` is 0 to 5; 3, with a width of 9 % a bucket, is a good choice. In the protobuf
    /// format such a histogram is a Prometheus native histogram; in the text formats it has a bucket
    /// for each power of two from the smallest to the largest value.
    pub fn exponential(mut self, schema: u8) -> Self {
        self.definition.shape = Shape::Exponential(schema);
        self
    }
}

impl FamilyBuilder<Timer> {
    /// Sets the upper bounds of the buckets in seconds; default:
    /// [`DEFAULT_BUCKETS`](crate::DEFAULT_BUCKETS). Rules as for histograms.
    pub fn buckets(mut self, upper_bounds: impl Into<Vec<f64>>) -> Self {
        self.definition.shape = Shape::classic(upper_bounds.into());
        self
    }

    /// Chooses exponential buckets; see the same of histograms.
    pub fn exponential(mut self, schema: u8) -> Self {
        self.definition.shape = Shape::Exponential(schema);
        self
    }
}

impl FamilyBuilder<Summary> {
    /// Sets the quantiles that are exported, 0 to 1, ascending; default:
    /// [`DEFAULT_QUANTILES`](crate::DEFAULT_QUANTILES).
    pub fn quantiles(mut self, quantiles: impl Into<Vec<f64>>) -> Self {
        self.summary_mut().quantiles = quantiles.into();
        self
    }

    /// Sets the sliding windows, ascending and at least 1 s each; default:
    /// [`DEFAULT_WINDOWS`](crate::DEFAULT_WINDOWS). The longest is the one that is exported.
    pub fn windows(mut self, windows: impl Into<Vec<Duration>>) -> Self {
        self.summary_mut().windows = windows.into();
        self
    }

    fn summary_mut(&mut self) -> &mut SummaryShape {
        let Shape::Summary(summary) = &mut self.definition.shape else {
            unreachable!("a builder of summaries describes one");
        };
        Arc::make_mut(summary)
    }
}

/// A [`FamilyBuilder`] whose labels are a type.
#[derive(Debug)]
#[must_use = "a family exists only once it is registered"]
pub struct TypedFamilyBuilder<M, L> {
    builder: FamilyBuilder<M>,
    labels: PhantomData<fn(L)>,
}

impl<M: Metric, L: LabelSet> TypedFamilyBuilder<M, L> {
    /// Adds the family to the collector; see [`FamilyBuilder::register`].
    ///
    /// # Errors
    /// As there.
    pub fn register(mut self) -> Result<TypedFamily<M, L>, RegisterError> {
        // All series that there can be have a place, so none is removed and none is too many.
        self.builder.definition.idle_timeout = None;
        self.builder.definition.series_max = usize::MAX;
        Ok(TypedFamily::new(self.builder.register()?))
    }
}

/// All series of one name.
///
/// A handle is cheap to clone, and all clones share the series. [`with`](Self::with) gives out a
/// handle of one series, to be kept where it is updated; its like [`inc`](Family::inc) updates a
/// series that is found by its values, which costs a few nanoseconds for what a thread has found
/// before.
#[derive(Clone)]
pub struct Family<M> {
    set: Arc<SeriesSet>,
    metric: PhantomData<fn() -> M>,
}

impl<M: Metric> Family<M> {
    /// Returns a handle of the series with these label values, in the order of the declared names.
    ///
    /// The series is made if it is not there yet, and is on the page from then on. Values may be any
    /// UTF-8, also empty. Threads that ask for the same new series at once get the same one. Past
    /// the family's limit it is the overflow series; see [`FamilyBuilder::max_series`].
    ///
    /// # Errors
    /// [`LabelError::Count`] if there are not as many values as names, [`LabelError::Observed`] if
    /// the series is read by an observer.
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::MetricsCollector;
    /// let metrics = MetricsCollector::new();
    /// let reads = metrics.counter("reads_total", "Reads.").labels(["disk", "file"]).register()?;
    /// reads.with(&["ab", "c"])?.inc();
    /// assert_eq!(reads.with(&["ab", "c"])?.get(), 1);
    /// assert_eq!(reads.with(&["a", "bc"])?.get(), 0);
    /// assert!(reads.with(&["ab"]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with(&self, values: &[&str]) -> Result<M, LabelError> {
        M::find(Access(&self.set), values)
    }

    /// Returns the only series of a family without labels.
    ///
    /// # Panics
    /// If the family declared labels, or if its series is observed: both are mistakes in the code,
    /// whatever the input.
    #[track_caller]
    pub fn plain(&self) -> M {
        match self.with(&[]) {
            Ok(metric) => metric,
            Err(error) => panic!("no plain series: {error}"),
        }
    }
}

impl Family<Counter> {
    /// Adds one to the series with these label values, which is made if it is not there.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    #[inline]
    pub fn inc(&self, values: &[&str]) -> Result<(), LabelError> {
        self.add(values, 1)
    }

    /// Adds `events` to the series with these label values, which is made if it is not there.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    #[inline]
    pub fn add(&self, values: &[&str], events: u64) -> Result<(), LabelError> {
        let cells = &self.set.shared.cells;
        self.set.record(values, |cell| {
            if let OwnedCell::Slot(slot) = cell {
                cells.add(*slot, events);
            }
        })
    }

    /// Makes the series with these label values an observed one: `observer` is called for its value
    /// on every export.
    ///
    /// It must never answer with less than before. For the rest see
    /// [`Family<Gauge>::observe`](Family::<Gauge>::observe).
    ///
    /// # Errors
    /// As there.
    pub fn observe(
        &self,
        values: &[&str],
        observer: impl Fn() -> Option<u64> + Send + Sync + 'static,
    ) -> Result<(), LabelError> {
        let observer = move || observer().map(Reading::Count);
        self.set.observe(values, Observer(Arc::new(observer)))
    }
}

impl Family<FloatCounter> {
    /// Adds `amount` to the series with these label values, which is made if it is not there; what
    /// is negative or NaN is dropped.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    #[inline]
    pub fn add(&self, values: &[&str], amount: f64) -> Result<(), LabelError> {
        let shared = &self.set.shared;
        self.set.record(values, |cell| match cell {
            OwnedCell::Slot(slot) if amount >= 0.0 => shared.cells.add_float(*slot, amount),
            _ => shared.drop_nan(),
        })
    }

    /// Makes the series with these label values an observed one; see
    /// [`Family<Counter>::observe`](Family::<Counter>::observe). A negative number and NaN leave it off
    /// the page.
    ///
    /// # Errors
    /// As there.
    pub fn observe(
        &self,
        values: &[&str],
        observer: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) -> Result<(), LabelError> {
        let observer = move || observer().filter(|total| *total >= 0.0).map(Reading::Value);
        self.set.observe(values, Observer(Arc::new(observer)))
    }
}

impl Family<Histogram> {
    /// Records a value in the series with these label values, which is made if it is not there.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    #[inline]
    pub fn observe(&self, values: &[&str], value: f64) -> Result<(), LabelError> {
        let SeriesSet { definition, shared, .. } = &*self.set;
        self.set.record(values, |cell| match (cell, &definition.shape) {
            (OwnedCell::Slot(slot), Shape::Classic(bounds)) => {
                observe_classic(shared, bounds, *slot, value);
            }
            (OwnedCell::Exponential(series), _) => observe_exponential(shared, series, value),
            _ => {}
        })
    }
}

impl Family<Summary> {
    /// Records a value in the series with these label values, which is made if it is not there.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    #[inline]
    pub fn observe(&self, values: &[&str], value: f64) -> Result<(), LabelError> {
        let shared = &self.set.shared;
        self.set.record(values, |cell| {
            if let OwnedCell::Summary(series) = cell {
                observe_exponential(shared, &series.distribution, value);
            }
        })
    }
}

impl Family<Gauge> {
    /// Sets the series with these label values, which is made if it is not there.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    #[inline]
    pub fn set(&self, values: &[&str], value: f64) -> Result<(), LabelError> {
        self.set.record(values, |cell| {
            if let OwnedCell::Gauge(bits) = cell {
                bits.store(value.to_bits(), Ordering::Relaxed);
            }
        })
    }

    /// Adds to the series with these label values, which is made if it is not there; `amount` may be
    /// negative.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    #[inline]
    pub fn add(&self, values: &[&str], amount: f64) -> Result<(), LabelError> {
        self.set.record(values, |cell| {
            if let OwnedCell::Gauge(bits) = cell {
                gauge::update(bits, |value| value + amount);
            }
        })
    }

    /// Makes the series with these label values an observed one: `observer` is called for its value
    /// on every export.
    ///
    /// So a number that is kept elsewhere needs no second home. `None` leaves the series off that
    /// page, which suits an observer that holds a `Weak`. The newest observer of a series replaces
    /// the one before it. No lock of the collector is held while an observer runs or is dropped, so
    /// it may use the collector, but an export within an observer would never end. A panic in an
    /// observer goes to whoever exports.
    ///
    /// # Errors
    /// [`LabelError::Count`] if there are not as many values as names, [`LabelError::SetByHand`] if
    /// [`with`](Self::with) has given out the series already.
    ///
    /// # Examples
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// # use tripod_metrics::MetricsCollector;
    /// let metrics = MetricsCollector::new();
    /// let queue = Arc::new(Mutex::new(vec!["first", "second"]));
    /// let watched = Arc::downgrade(&queue);
    /// metrics
    ///     .gauge("queue_length", "Entries in the queue.")
    ///     .register()?
    ///     .observe(&[], move || Some(watched.upgrade()?.lock().ok()?.len() as f64))?;
    ///
    /// assert!(metrics.encode_text().contains("queue_length 2\n"));
    /// drop(queue);
    /// assert!(!metrics.encode_text().contains("queue_length"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observe(
        &self,
        values: &[&str],
        observer: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) -> Result<(), LabelError> {
        let observer = move || observer().map(Reading::Value);
        self.set.observe(values, Observer(Arc::new(observer)))
    }
}

impl<M> std::fmt::Debug for Family<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Definition { name, label_names, .. } = &self.set.definition;
        f.debug_struct("Family")
            .field("name", name)
            .field("labels", label_names)
            .field("series", &self.set.len())
            .finish_non_exhaustive()
    }
}

/// The labels of a timer: those declared, and the outcome.
pub(crate) fn with_outcome(mut definition: Definition) -> Definition {
    definition.label_names.push(OUTCOME_LABEL.to_owned());
    definition
}
