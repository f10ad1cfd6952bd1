//! Families: all series of one name, which differ in the values of their labels.
//!
//! The map of series is behind one lock, which is never held while code of the user runs: observers
//! are copied out before they are called, and replaced ones are dropped after it is released.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::marker::PhantomData;

use crate::collector::MetricsCollector;
use crate::definition::Definition;
use crate::error::{LabelError, RegisterError};
use crate::gauge::Gauge;
use crate::histogram::Histogram;
use crate::metric::{Metric, Reading, Recipe};
use crate::series::{LabelValues, SeriesKey};
use crate::sync::{Arc, RwLock, read, write};

/// Describes a family before it is registered.
///
/// It comes from [`MetricsCollector::counter`], [`gauge`](MetricsCollector::gauge) and
/// [`histogram`](MetricsCollector::histogram).
///
/// # Examples
/// ```
/// # use tripod_metrics::MetricsCollector;
/// let metrics = MetricsCollector::new();
/// let requests = metrics
///     .counter("requests_total", "Requests answered.")
///     .labels(["method", "status"])
///     .register()?;
/// requests.with(&["GET", "200"])?.inc();
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
    /// Every label name matches `[a-zA-Z_][a-zA-Z0-9_]*`, does not begin with `__`, and is neither
    /// `le` nor `quantile`.
    pub fn labels(mut self, names: impl IntoIterator<Item: Into<String>>) -> Self {
        self.definition.label_names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Adds the family to the collector, or returns the one that is there already.
    ///
    /// Two descriptions are the same family if name, type, help, labels and buckets are equal.
    ///
    /// # Errors
    /// [`RegisterError::Conflict`] if the name is taken by a family of another description, or
    /// collides with the lines of a histogram; it names both places in the code. The other variants
    /// if the description itself breaks a rule.
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
    /// assert!(refused.unwrap_err().to_string().contains("their types differ"));
    /// # Ok::<(), tripod_metrics::RegisterError>(())
    /// ```
    pub fn register(self) -> Result<Family<M>, RegisterError> {
        self.collector.register(self.definition)
    }
}

impl FamilyBuilder<Histogram> {
    /// Sets the upper bounds of the buckets; default:
    /// [`DEFAULT_BUCKETS`](crate::DEFAULT_BUCKETS).
    ///
    /// Bounds are inclusive, finite and strictly ascending. The bucket up to +Inf is implied and
    /// may be left out.
    pub fn buckets(mut self, upper_bounds: impl Into<Vec<f64>>) -> Self {
        self.definition.bounds = upper_bounds.into().into();
        self
    }
}

/// All series of one name.
///
/// A handle is cheap to clone, and all clones share the series. A series lives as long as its
/// family does. [`with`](Self::with) searches an ordered map under a shared lock, so keep what it
/// returns where an update is frequent.
#[derive(Clone)]
pub struct Family<M> {
    inner: Arc<Inner<M>>,
}

struct Inner<M> {
    definition: Definition,
    recipe: Recipe,
    /// Ordered, because pages are; a page would otherwise sort on every export.
    series: RwLock<BTreeMap<SeriesKey, Series<M>>>,
}

#[derive(Clone)]
enum Series<M> {
    /// Updated through handles.
    Held(M),
    /// Read on export; only gauges have these.
    Observed(Observer),
}

type Observer = Arc<dyn Fn() -> Option<f64> + Send + Sync>;

impl<M: Metric> Family<M> {
    pub(crate) fn new(definition: Definition, recipe: Recipe) -> Self {
        Self { inner: Arc::new(Inner { definition, recipe, series: RwLock::default() }) }
    }

    /// Returns the series with these label values, in the order of the declared names.
    ///
    /// The series is made if it is not there yet, and is on the page from then on. Values may be any
    /// UTF-8, also empty. Threads that ask for the same new series at once get the same one.
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
        self.check_count(values)?;
        let found = read(&self.inner.series).get(&values as &dyn LabelValues).cloned();
        let series = found.unwrap_or_else(|| {
            // Made before the lock is taken, and given up if another thread was faster.
            let made = Series::Held(M::create(&self.inner.recipe));
            let key = SeriesKey::new(values);
            write(&self.inner.series).entry(key).or_insert(made).clone()
        });
        match series {
            Series::Held(metric) => Ok(metric),
            Series::Observed(_) => {
                Err(LabelError::Observed { family: self.name(), values: owned(values) })
            }
        }
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

    pub(crate) fn definition(&self) -> &Definition {
        &self.inner.definition
    }

    /// Reads every series, in the order of label values. No lock is held while observers run.
    pub(crate) fn readings(&self) -> Vec<(SeriesKey, Reading)> {
        let series: Vec<_> = {
            let series = read(&self.inner.series);
            series.iter().map(|(key, series)| (key.clone(), series.clone())).collect()
        };
        let reading = |(key, series): (SeriesKey, Series<M>)| {
            let reading = match series {
                Series::Held(metric) => metric.read(),
                Series::Observed(observer) => Reading::Value(observer()?),
            };
            Some((key, reading))
        };
        series.into_iter().filter_map(reading).collect()
    }

    fn check_count(&self, values: &[&str]) -> Result<(), LabelError> {
        let expected = self.definition().label_names.len();
        if values.len() == expected {
            return Ok(());
        }
        Err(LabelError::Count { family: self.name(), expected, got: values.len() })
    }

    fn name(&self) -> String {
        self.definition().name.clone()
    }
}

impl Family<Gauge> {
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
        self.check_count(values)?;
        let observed = Series::Observed(Arc::new(observer));
        // What is replaced or refused leaves this block, so that it is dropped without the lock.
        let outcome = {
            let mut series = write(&self.inner.series);
            match series.entry(SeriesKey::new(values)) {
                Entry::Vacant(entry) => {
                    entry.insert(observed);
                    Ok(None)
                }
                Entry::Occupied(mut entry) => match entry.get() {
                    Series::Observed(_) => Ok(Some(entry.insert(observed))),
                    Series::Held(_) => Err(observed),
                },
            }
        };
        match outcome {
            Ok(_replaced) => Ok(()),
            Err(_refused) => {
                Err(LabelError::SetByHand { family: self.name(), values: owned(values) })
            }
        }
    }
}

impl<M> std::fmt::Debug for Family<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Definition { name, label_names, .. } = &self.inner.definition;
        f.debug_struct("Family")
            .field("name", name)
            .field("labels", label_names)
            .field("series", &read(&self.inner.series).len())
            .finish_non_exhaustive()
    }
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}
