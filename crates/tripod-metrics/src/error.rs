//! Why a family could not be registered, or a series not be had.

use std::panic::Location;
use std::time::Duration;

use crate::definition::BUCKETS_MAX;

/// Why a family, or a collector's constant labels, were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name of a family has a character that it may not have.
    #[error("metric name {name:?} must match [a-zA-Z_][a-zA-Z0-9_]*")]
    InvalidName {
        /// The name as given.
        name: String,
    },
    /// The name of a counter does not say that it is one.
    #[error("counter name {name:?} must end in `_total`, with something before it")]
    CounterName {
        /// The name as given.
        name: String,
    },
    /// The name says that it is a counter, and it is none.
    #[error("metric name {name:?} ends in `_total`, which is for counters only")]
    TotalName {
        /// The name as given.
        name: String,
    },
    /// The name does not end in the declared unit.
    #[error(
        "metric name {name:?} must end in `_{unit}` (a counter in `_{unit}_total`), \
         since that is its unit"
    )]
    UnitName {
        /// The name as given.
        name: String,
        /// The unit as given.
        unit: String,
    },
    /// The help text is empty or blank.
    #[error("metric {name:?} needs a help text")]
    EmptyHelp {
        /// The name of the family.
        name: String,
    },
    /// A label name has a character that it may not have, or is reserved.
    #[error(
        "label name {label:?} must match [a-zA-Z_][a-zA-Z0-9_]*, not begin with `__`, \
         and be none of `le`, `quantile`, `otel_metric_overflow`"
    )]
    InvalidLabelName {
        /// The label name as given.
        label: String,
    },
    /// Two labels of one series would have the same name.
    #[error("label {label:?} is declared twice, in the family or among the constant labels")]
    DuplicateLabel {
        /// The name of both.
        label: String,
    },
    /// The bounds of a histogram are no list of ascending numbers.
    #[error(
        "buckets of {name:?} must be 1 to {BUCKETS_MAX} finite numbers, ascending, got {buckets:?}"
    )]
    InvalidBuckets {
        /// The name of the family.
        name: String,
        /// The bounds as given.
        buckets: Vec<f64>,
    },
    /// The resolution of a histogram is not to be had.
    #[error("schema of {name:?} must be 0 to 5, got {schema}")]
    InvalidSchema {
        /// The name of the family.
        name: String,
        /// The schema as given.
        schema: u8,
    },
    /// The quantiles or windows of a summary are not to be had.
    #[error(
        "summary {name:?} needs quantiles from 0 to 1 and windows of at least 1 s, both ascending, \
         got {quantiles:?} and {windows:?}"
    )]
    InvalidSummary {
        /// The name of the family.
        name: String,
        /// The quantiles as given.
        quantiles: Vec<f64>,
        /// The windows as given.
        windows: Vec<Duration>,
    },
    /// Another family stands in the way.
    #[error(
        "metric {name:?} from {attempted} conflicts with {existing_name:?} from {existing}: {clash}"
    )]
    Conflict {
        /// The name of the refused family.
        name: String,
        /// The name of the family that was there first, mostly the same one.
        existing_name: String,
        /// In what they conflict.
        clash: Clash,
        /// Where the refused family was described.
        attempted: &'static Location<'static>,
        /// Where the family that was there first was described.
        existing: &'static Location<'static>,
    },
}

/// In what two families conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clash {
    /// One is, say, a counter and the other a gauge.
    Type,
    /// Their label names differ, or the order of them.
    Labels,
    /// Their bounds differ.
    Buckets,
    /// Their quantiles or windows differ.
    Quantiles,
    /// Their help texts differ.
    Help,
    /// Their units differ.
    Unit,
    /// A line of one would have the name of a line of the other: a histogram `x` has lines
    /// `x_bucket`, `x_sum` and `x_count`, and a counter `x_total` is called `x` in OpenMetrics.
    Lines,
}

impl std::fmt::Display for Clash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Type => "their types differ",
            Self::Labels => "their label names differ",
            Self::Buckets => "their buckets differ",
            Self::Quantiles => "their quantiles or windows differ",
            Self::Help => "their help texts differ",
            Self::Unit => "their units differ",
            Self::Lines => "lines of both would have the same name",
        })
    }
}

/// Why a family did not give out a series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// There were more or fewer values than the family declared labels.
    #[error("metric {family:?} has {expected} labels, got {got} values")]
    Count {
        /// The name of the family.
        family: String,
        /// How many labels it declared.
        expected: usize,
        /// How many values were given.
        got: usize,
    },
    /// The series is read from an observer, so there is nothing to set.
    #[error("series {values:?} of {family:?} is observed, so it cannot be set")]
    Observed {
        /// The name of the family.
        family: String,
        /// The label values of the series.
        values: Vec<String>,
    },
    /// The series was given out already, so it cannot become an observed one.
    #[error("series {values:?} of {family:?} is set by hand, so it cannot be observed")]
    SetByHand {
        /// The name of the family.
        family: String,
        /// The label values of the series.
        values: Vec<String>,
    },
}
