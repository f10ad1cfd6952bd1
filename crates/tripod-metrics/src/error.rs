//! Why a family could not be registered, or a series not be had.

use std::panic::Location;

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
    /// The help text is empty or blank.
    #[error("metric {name:?} needs a help text")]
    EmptyHelp {
        /// The name of the family.
        name: String,
    },
    /// A label name has a character that it may not have, or is reserved.
    #[error(
        "label name {label:?} must match [a-zA-Z_][a-zA-Z0-9_]*, not begin with `__`, \
         and be neither `le` nor `quantile`"
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
    #[error("buckets of {name:?} must be at least one finite number, ascending, got {buckets:?}")]
    InvalidBuckets {
        /// The name of the family.
        name: String,
        /// The bounds as given.
        buckets: Vec<f64>,
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
    /// Their help texts differ.
    Help,
    /// One is a histogram `x`, whose lines `x_bucket`, `x_sum` and `x_count` would mix with the
    /// other's.
    Lines,
}

impl std::fmt::Display for Clash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Type => "their types differ",
            Self::Labels => "their label names differ",
            Self::Buckets => "their buckets differ",
            Self::Help => "their help texts differ",
            Self::Lines => "one's name is taken by the lines of the other, a histogram",
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
    /// The series is read from an observer, so there is no gauge to set.
    #[error("series {values:?} of {family:?} is observed, so it cannot be set")]
    Observed {
        /// The name of the family.
        family: String,
        /// The label values of the series.
        values: Vec<String>,
    },
    /// The series is a gauge that was given out already, so it cannot become an observed one.
    #[error("series {values:?} of {family:?} is set by hand, so it cannot be observed")]
    SetByHand {
        /// The name of the family.
        family: String,
        /// The label values of the series.
        values: Vec<String>,
    },
}
