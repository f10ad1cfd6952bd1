//! The collector: the families of a process, by name.
//!
//! The registry is behind one lock, held for look-ups and insertions only. No thread of this crate
//! ever holds two locks at once.

use std::collections::BTreeMap;
use std::panic::Location;

use crate::counter::Counter;
use crate::definition::{Definition, MetricType, check_labels};
use crate::error::{Clash, RegisterError};
use crate::family::{Family, FamilyBuilder};
use crate::gauge::Gauge;
use crate::histogram::{DEFAULT_BUCKETS, Histogram};
use crate::metric::{Metric, Recipe, Sealed};
use crate::sync::{Arc, RwLock, read, write};
use crate::text;

/// Keeps the metrics of a process and writes them as a page.
///
/// A handle is cheap to clone, and all clones share the families. Every collector starts with one
/// family of its own, `tripod_metrics_observations_dropped_total`, the number of NaN values given to
/// its histograms.
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
    dropped: Counter,
    registry: RwLock<Registry>,
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
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct MetricsCollectorBuilder {
    constant_labels: Vec<(String, String)>,
}

impl MetricsCollectorBuilder {
    /// Adds a label that every series of the collector carries; default: none.
    ///
    /// The value may be any UTF-8. On a page, constant labels come first, in the order added.
    pub fn constant_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.constant_labels.push((name.into(), value.into()));
        self
    }

    /// Makes the collector.
    ///
    /// # Errors
    /// [`RegisterError::InvalidLabelName`] and [`RegisterError::DuplicateLabel`] if a constant label
    /// breaks the rules for labels.
    pub fn build(self) -> Result<MetricsCollector, RegisterError> {
        check_labels(self.constant_labels.iter().map(|(name, _)| name.as_str()))?;
        Ok(MetricsCollector::with_constant_labels(self.constant_labels))
    }
}

impl MetricsCollector {
    /// Makes a collector without constant labels.
    #[must_use]
    pub fn new() -> Self {
        Self::with_constant_labels(Vec::new())
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
        self.describe(name.into(), help.into(), Location::caller())
    }

    /// Starts to describe a family of gauges; rules as for [`counter`](Self::counter), but any
    /// name.
    #[track_caller]
    pub fn gauge(&self, name: impl Into<String>, help: impl Into<String>) -> FamilyBuilder<Gauge> {
        self.describe(name.into(), help.into(), Location::caller())
    }

    /// Starts to describe a family of histograms; rules as for [`counter`](Self::counter), but any
    /// name.
    ///
    /// Its buckets are [`DEFAULT_BUCKETS`] unless [`buckets`](FamilyBuilder::buckets) sets others.
    #[track_caller]
    pub fn histogram(
        &self,
        name: impl Into<String>,
        help: impl Into<String>,
    ) -> FamilyBuilder<Histogram> {
        self.describe(name.into(), help.into(), Location::caller())
    }

    /// Returns all series as a page; see [`write_text`](Self::write_text).
    ///
    /// # Panics
    /// Only if an observer does.
    #[must_use]
    pub fn encode_text(&self) -> String {
        let mut page = String::new();
        self.write_text(&mut page).expect("writing to a string cannot fail");
        page
    }

    /// Writes all series in the Prometheus text exposition format 0.0.4.
    ///
    /// Families are sorted by name and their series by label values; families without a series are
    /// left out. Each series is read at its own moment, and a histogram as a whole. Observers run
    /// here. Serve the page as [`TEXT_CONTENT_TYPE`](crate::TEXT_CONTENT_TYPE). No lock is held
    /// while it is written. The cost is one pass over the series, and a copy of one family at a time.
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
        let families: Vec<_> = read(&self.inner.registry).families.values().cloned().collect();
        for family in families {
            let (definition, readings) = match &family {
                AnyFamily::Counter(family) => (family.definition(), family.readings()),
                AnyFamily::Gauge(family) => (family.definition(), family.readings()),
                AnyFamily::Histogram(family) => (family.definition(), family.readings()),
            };
            text::write_family(out, definition, &self.inner.constant_labels, &readings)?;
        }
        Ok(())
    }

    /// Makes a collector whose constant labels were checked.
    fn with_constant_labels(constant_labels: Vec<(String, String)>) -> Self {
        // The counter of drops is a series like any other; it is put together by hand because the
        // collector that could register it does not exist yet.
        let recipe = Recipe { bounds: Arc::new([]), dropped: Counter::default() };
        let definition = Definition {
            metric_type: MetricType::Counter,
            name: "tripod_metrics_observations_dropped_total".to_owned(),
            help: "Observations dropped because they were NaN.".to_owned(),
            label_names: Vec::new(),
            bounds: Arc::clone(&recipe.bounds),
            place: Location::caller(),
        };
        let name = definition.name.clone();
        let family = Family::<Counter>::new(definition, recipe);
        let dropped = family.plain();
        let families = BTreeMap::from([(name, AnyFamily::Counter(family))]);
        let registry = RwLock::new(Registry { families });
        Self { inner: Arc::new(Inner { constant_labels, dropped, registry }) }
    }

    fn describe<M: Metric>(
        &self,
        name: String,
        help: String,
        place: &'static Location<'static>,
    ) -> FamilyBuilder<M> {
        let bounds: &[f64] = match M::TYPE {
            MetricType::Histogram => &DEFAULT_BUCKETS,
            MetricType::Counter | MetricType::Gauge => &[],
        };
        let definition = Definition {
            metric_type: M::TYPE,
            name,
            help,
            label_names: Vec::new(),
            bounds: bounds.into(),
            place,
        };
        FamilyBuilder::new(self.clone(), definition)
    }

    pub(crate) fn register<M: Metric>(
        &self,
        definition: Definition,
    ) -> Result<Family<M>, RegisterError> {
        let definition = definition.check(&self.inner.constant_labels)?;
        let bounds = Arc::clone(&definition.bounds);
        let recipe = Recipe { bounds, dropped: self.inner.dropped.clone() };
        write(&self.inner.registry).find_or_insert(Family::new(definition, recipe))
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

/// A family of any type.
#[derive(Debug, Clone)]
pub enum AnyFamily {
    /// Of counters.
    Counter(Family<Counter>),
    /// Of gauges.
    Gauge(Family<Gauge>),
    /// Of histograms.
    Histogram(Family<Histogram>),
}

impl AnyFamily {
    fn definition(&self) -> &Definition {
        match self {
            Self::Counter(family) => family.definition(),
            Self::Gauge(family) => family.definition(),
            Self::Histogram(family) => family.definition(),
        }
    }
}

/// The families by name. Pure: the collector puts the lock around it.
struct Registry {
    families: BTreeMap<String, AnyFamily>,
}

impl Registry {
    /// Returns the family that is the same as `family`, which is `family` itself if none was there.
    fn find_or_insert<M: Metric>(&mut self, family: Family<M>) -> Result<Family<M>, RegisterError> {
        let definition = family.definition();
        if let Some(existing) = self.families.get(&definition.name) {
            if let Some(clash) = definition.clash(existing.definition()) {
                return Err(definition.conflict(existing.definition(), clash));
            }
            let existing = <M as Sealed>::unwrap(existing);
            return Ok(existing.expect("a family of equal definition has equal type").clone());
        }
        if let Some(existing) = self.mixing_lines(definition) {
            return Err(definition.conflict(existing.definition(), Clash::Lines));
        }
        self.families.insert(definition.name.clone(), M::wrap(family.clone()));
        Ok(family)
    }

    /// Finds a family of another name whose lines could not be told from those of `definition`.
    fn mixing_lines(&self, definition: &Definition) -> Option<&AnyFamily> {
        let mut named_as_a_line = definition.own_line_names();
        let mut histograms = definition.shadowing_histograms();
        named_as_a_line.find_map(|name| self.families.get(&name)).or_else(|| {
            let is_histogram = |family: &&AnyFamily| matches!(family, AnyFamily::Histogram(_));
            histograms.find_map(|name| self.families.get(name).filter(is_histogram))
        })
    }
}
