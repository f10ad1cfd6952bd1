//! What a family is declared to be, and which declarations are refused.
//!
//! Pure: no locks and no series. The rules are those of the Prometheus data model
//! (<https://prometheus.io/docs/concepts/data_model/>), drawn tighter where `promtool check metrics`
//! or the OpenMetrics text format (<https://prometheus.io/docs/specs/om/open_metrics_spec/>) would
//! complain later.

use std::panic::Location;
use std::time::Duration;

use crate::bounds::Bounds;
use crate::cells::{BLOCK_HEAD, CHUNK_CELLS};
use crate::error::{Clash, RegisterError};
use crate::exponential::Scale;
use crate::snapshot::Kind;
use crate::sync::Arc;

/// The most bounds of a histogram: its cells lie in one chunk.
pub const BUCKETS_MAX: usize = CHUNK_CELLS - BLOCK_HEAD - 1;

/// The label of the series that takes what is over a family's limit, as OpenTelemetry names it.
pub const OVERFLOW_LABEL: &str = "otel_metric_overflow";

/// What the series of a family are made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// See [`Counter`](crate::Counter).
    Counter,
    /// See [`FloatCounter`](crate::FloatCounter).
    FloatCounter,
    /// See [`Gauge`](crate::Gauge).
    Gauge,
    /// See [`Histogram`](crate::Histogram); checked bounds are finite and ascend strictly.
    Classic(Arc<Bounds>),
    /// See [`Histogram`](crate::Histogram); a schema from 0 to 5.
    Exponential(u8),
    /// See [`Summary`](crate::Summary).
    Summary(Arc<SummaryShape>),
}

/// What a summary shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SummaryShape {
    /// From 0 to 1, ascending.
    pub(crate) quantiles: Vec<f64>,
    /// Ascending; the first is the one on the page.
    pub(crate) windows: Vec<Duration>,
}

impl Shape {
    /// A histogram with these bounds, which need not be checked yet.
    pub(crate) fn classic(bounds: Vec<f64>) -> Self {
        Self::Classic(Arc::new(Bounds::new(bounds)))
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Counter | Self::FloatCounter => Kind::Counter,
            Self::Gauge => Kind::Gauge,
            Self::Classic(_) | Self::Exponential(_) => Kind::Histogram,
            Self::Summary(_) => Kind::Summary,
        }
    }
}

/// One family as declared.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) shape: Shape,
    pub(crate) name: String,
    pub(crate) help: String,
    /// The last part of the name, if declared.
    pub(crate) unit: Option<String>,
    pub(crate) label_names: Vec<String>,
    /// Whether each series brings label names of its own, instead of those declared.
    pub(crate) has_free_labels: bool,
    pub(crate) series_max: usize,
    pub(crate) idle_timeout: Option<Duration>,
    /// Where the user described the family; not part of its identity.
    pub(crate) place: &'static Location<'static>,
}

impl Definition {
    pub(crate) fn kind(&self) -> Kind {
        self.shape.kind()
    }

    /// The family's name in OpenMetrics, in which that of a counter has no `_total`.
    pub(crate) fn family_name(&self) -> &str {
        match self.kind() {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(&self.name),
            _ => &self.name,
        }
    }

    /// Returns the definition in its checked form, or the first rule that it breaks.
    pub(crate) fn check(
        mut self,
        constant_labels: &[(String, String)],
    ) -> Result<Self, RegisterError> {
        self.check_name()?;
        if self.help.trim().is_empty() {
            return Err(RegisterError::EmptyHelp { name: self.name });
        }
        let constant = constant_labels.iter().map(|(label, _)| label.as_str());
        check_labels(constant.chain(self.label_names.iter().map(String::as_str)))?;
        self.shape = checked_shape(&self.name, self.shape)?;
        Ok(self)
    }

    fn check_name(&self) -> Result<(), RegisterError> {
        let name = || self.name.clone();
        if !is_name(&self.name) {
            return Err(RegisterError::InvalidName { name: name() });
        }
        let is_counter = self.kind() == Kind::Counter;
        if is_counter && !is_counter_name(&self.name) {
            return Err(RegisterError::CounterName { name: name() });
        }
        if !is_counter && self.name.ends_with("_total") {
            return Err(RegisterError::TotalName { name: name() });
        }
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        let subject = self.family_name().strip_suffix(unit.as_str());
        let has_unit = subject.is_some_and(|subject| subject.len() > 1 && subject.ends_with('_'));
        if is_name(unit) && has_unit {
            return Ok(());
        }
        Err(RegisterError::UnitName { name: name(), unit: unit.clone() })
    }

    /// Says in what `self` conflicts with `other`, a family of the same name.
    pub(crate) fn clash(&self, other: &Self) -> Option<Clash> {
        let has_other_labels =
            self.label_names != other.label_names || self.has_free_labels != other.has_free_labels;
        if has_other_labels && self.kind() == other.kind() {
            return Some(Clash::Labels);
        }
        match (&self.shape, &other.shape) {
            (Shape::Classic(ours), Shape::Classic(theirs)) if ours != theirs => {
                Some(Clash::Buckets)
            }
            (Shape::Summary(ours), Shape::Summary(theirs)) if ours != theirs => {
                Some(Clash::Quantiles)
            }
            (ours, theirs) if ours != theirs => Some(Clash::Type),
            _ if self.help != other.help => Some(Clash::Help),
            _ if self.unit != other.unit => Some(Clash::Unit),
            _ => None,
        }
    }

    /// Makes the error that `self` was refused because of `existing`.
    pub(crate) fn conflict(&self, existing: &Self, clash: Clash) -> RegisterError {
        RegisterError::Conflict {
            name: self.name.clone(),
            existing_name: existing.name.clone(),
            clash,
            attempted: self.place,
            existing: existing.place,
        }
    }

    /// The names that lines of the family may have in any format; no other family may have one.
    pub(crate) fn line_names(&self) -> Vec<String> {
        let suffixes: &[&str] = match self.kind() {
            Kind::Counter => &["", "_total", "_created"],
            Kind::Gauge => &[""],
            Kind::Histogram => &["", "_bucket", "_sum", "_count", "_created"],
            Kind::Summary => &["", "_sum", "_count", "_created"],
        };
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.family_name())).collect()
    }
}

fn checked_shape(name: &str, shape: Shape) -> Result<Shape, RegisterError> {
    match shape {
        Shape::Classic(bounds) => match checked_bounds(bounds.finite()) {
            Some(checked) => Ok(Shape::Classic(Arc::new(Bounds::new(checked.to_vec())))),
            None => {
                let buckets = bounds.finite().to_vec();
                Err(RegisterError::InvalidBuckets { name: name.to_owned(), buckets })
            }
        },
        Shape::Exponential(schema) if schema > Scale::SCHEMA_MAX => {
            Err(RegisterError::InvalidSchema { name: name.to_owned(), schema })
        }
        Shape::Summary(summary) if !is_summary(&summary) => Err(RegisterError::InvalidSummary {
            name: name.to_owned(),
            quantiles: summary.quantiles.clone(),
            windows: summary.windows.clone(),
        }),
        shape => Ok(shape),
    }
}

/// Checks the names of all labels that one series will carry.
pub(crate) fn check_labels<'a>(labels: impl Iterator<Item = &'a str>) -> Result<(), RegisterError> {
    let mut seen: Vec<&str> = Vec::new();
    for label in labels {
        if !is_label_name(label) {
            return Err(RegisterError::InvalidLabelName { label: label.to_owned() });
        }
        if seen.contains(&label) {
            return Err(RegisterError::DuplicateLabel { label: label.to_owned() });
        }
        seen.push(label);
    }
    Ok(())
}

/// `le` and `quantile` are refused everywhere, not only where they would collide: outside of
/// histograms and summaries promtool reports them.
pub(crate) fn is_label_name(label: &str) -> bool {
    let is_reserved =
        label.starts_with("__") || ["le", "quantile", OVERFLOW_LABEL].contains(&label);
    is_name(label) && !is_reserved
}

/// Takes no colons: they are legal in metric names, but kept for the user's recording rules.
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

fn is_counter_name(name: &str) -> bool {
    name.strip_suffix("_total").is_some_and(|subject| !subject.is_empty())
}

/// Returns the finite bounds, without a +Inf at the end, which is implied.
fn checked_bounds(bounds: &[f64]) -> Option<&[f64]> {
    let finite = match bounds {
        [finite @ .., f64::INFINITY] => finite,
        all => all,
    };
    let valid = (1..=BUCKETS_MAX).contains(&finite.len())
        && finite.iter().all(|bound| bound.is_finite())
        && finite.is_sorted_by(|a, b| a < b);
    valid.then_some(finite)
}

fn is_summary(SummaryShape { quantiles, windows }: &SummaryShape) -> bool {
    quantiles.iter().all(|quantile| (0.0..=1.0).contains(quantile))
        && quantiles.is_sorted_by(|a, b| a < b)
        && !windows.is_empty()
        && windows.iter().all(|window| *window >= Duration::from_secs(1))
        && windows.is_sorted_by(|a, b| a < b)
}
