//! What a family is declared to be, and which declarations are refused.
//!
//! Pure: no locks and no series. The rules are those of the Prometheus data model
//! (<https://prometheus.io/docs/concepts/data_model/>), drawn tighter where `promtool check metrics`
//! or the OpenMetrics text format would complain later.

use std::panic::Location;

use crate::error::{Clash, RegisterError};
use crate::sync::Arc;

/// What a histogram `x` appends to its name on its lines.
const HISTOGRAM_SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// The three types of families, as `# TYPE` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// See [`Counter`](crate::Counter).
    Counter,
    /// See [`Gauge`](crate::Gauge).
    Gauge,
    /// See [`Histogram`](crate::Histogram).
    Histogram,
}

impl MetricType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One family as declared.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) metric_type: MetricType,
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) label_names: Vec<String>,
    /// Empty unless the family is a histogram; checked ones are finite and ascend strictly.
    pub(crate) bounds: Arc<[f64]>,
    /// Where the user described the family; not part of its identity.
    pub(crate) place: &'static Location<'static>,
}

impl Definition {
    /// Returns the definition in its checked form, or the first rule that it breaks.
    pub(crate) fn check(
        mut self,
        constant_labels: &[(String, String)],
    ) -> Result<Self, RegisterError> {
        let name = || self.name.clone();
        if !is_name(&self.name) {
            return Err(RegisterError::InvalidName { name: name() });
        }
        if self.metric_type == MetricType::Counter && !is_counter_name(&self.name) {
            return Err(RegisterError::CounterName { name: name() });
        }
        if self.help.trim().is_empty() {
            return Err(RegisterError::EmptyHelp { name: name() });
        }
        let constant = constant_labels.iter().map(|(label, _)| label.as_str());
        check_labels(constant.chain(self.label_names.iter().map(String::as_str)))?;
        if self.metric_type == MetricType::Histogram {
            self.bounds = match checked_bounds(&self.bounds) {
                Some(bounds) => bounds.into(),
                None => {
                    let buckets = self.bounds.to_vec();
                    return Err(RegisterError::InvalidBuckets { name: self.name, buckets });
                }
            };
        }
        Ok(self)
    }

    /// Says in what `self` conflicts with `other`, a family of the same name.
    pub(crate) fn clash(&self, other: &Self) -> Option<Clash> {
        if self.metric_type != other.metric_type {
            Some(Clash::Type)
        } else if self.label_names != other.label_names {
            Some(Clash::Labels)
        } else if self.bounds != other.bounds {
            Some(Clash::Buckets)
        } else if self.help != other.help {
            Some(Clash::Help)
        } else {
            None
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

    /// Names the families that must not exist beside `self` if they are of any type.
    pub(crate) fn own_line_names(&self) -> impl Iterator<Item = String> {
        let suffixes = match self.metric_type {
            MetricType::Histogram => &HISTOGRAM_SUFFIXES[..],
            MetricType::Counter | MetricType::Gauge => &[],
        };
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.name))
    }

    /// Names the families that must not exist beside `self` if they are histograms.
    pub(crate) fn shadowing_histograms(&self) -> impl Iterator<Item = &str> {
        HISTOGRAM_SUFFIXES.iter().filter_map(|suffix| self.name.strip_suffix(suffix))
    }
}

/// Checks the names of all labels that one series will carry.
pub(crate) fn check_labels<'a>(labels: impl Iterator<Item = &'a str>) -> Result<(), RegisterError> {
    let mut seen: Vec<&str> = Vec::new();
    for label in labels {
        // `le` and `quantile` are refused everywhere, not only where they would collide: outside
        // histograms and summaries promtool reports them.
        if !is_name(label) || label.starts_with("__") || matches!(label, "le" | "quantile") {
            return Err(RegisterError::InvalidLabelName { label: label.to_owned() });
        }
        if seen.contains(&label) {
            return Err(RegisterError::DuplicateLabel { label: label.to_owned() });
        }
        seen.push(label);
    }
    Ok(())
}

/// Takes no colons: they are legal in metric names, but kept for the user's recording rules.
fn is_name(name: &str) -> bool {
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
    let valid = !finite.is_empty()
        && finite.iter().all(|bound| bound.is_finite())
        && finite.is_sorted_by(|a, b| a < b);
    valid.then_some(finite)
}
