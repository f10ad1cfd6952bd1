//! What a collector held at one moment, as plain data.
//!
//! The pages are written from the cells themselves; everything that is not on a hot path (the
//! protobuf page, the pushes, a program that looks at its own numbers) reads a [`Snapshot`].

mod reduce;
mod take;

pub(crate) use reduce::spans;
pub(crate) use take::family;

use std::time::{Duration, SystemTime};

/// All families at one moment.
///
/// Each series is read at its own moment, a histogram as a whole.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// When reading began.
    pub time: SystemTime,
    /// The families that have a series, sorted by name.
    pub families: Vec<FamilySnapshot>,
}

/// One family.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FamilySnapshot {
    /// The name as registered; that of a counter ends in `_total`.
    pub name: String,
    /// The help text.
    pub help: String,
    /// The unit, such as `seconds`, if one was declared; the name then has it too.
    pub unit: Option<String>,
    /// What the series are.
    pub kind: Kind,
    /// The series, in the order in which they were made.
    pub series: Vec<SeriesSnapshot>,
}

/// What the series of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Counts up, in whole numbers or fractions.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets, classic or exponential ones.
    Histogram,
    /// Quantiles of a sliding window, with lifetime sum and count.
    Summary,
}

impl Kind {
    /// The word behind `# TYPE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SeriesSnapshot {
    /// Names and values, constant labels first, then in the order declared.
    pub labels: Vec<(String, String)>,
    /// When counting began: when the series was made, or first made if it was resumed.
    pub created: SystemTime,
    /// Its value.
    pub value: Value,
}

/// The value of a series.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Of a counter of whole numbers.
    Counter(u64),
    /// Of a counter of fractions.
    FloatCounter(f64),
    /// Of a gauge.
    Gauge(f64),
    /// Of a histogram with classic buckets.
    Histogram(HistogramSnapshot),
    /// Of a histogram with exponential buckets.
    Exponential(ExponentialSnapshot),
    /// Of a summary.
    Summary(SummarySnapshot),
}

/// What a histogram with classic buckets held at one moment.
///
/// It is consistent: `count` equals the last bucket, and `sum` is the total of exactly these values.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct HistogramSnapshot {
    /// Each upper bound with the number of values up to it, cumulative, ascending; the last bound is
    /// +Inf.
    pub buckets: Vec<(f64, u64)>,
    /// The number of values.
    pub count: u64,
    /// The total of the values, in their unit.
    pub sum: f64,
    /// The newest exemplar of each bucket that has one, by the index of the bucket.
    pub exemplars: Vec<(usize, Exemplar)>,
}

/// What a histogram with exponential buckets held at one moment.
///
/// It is that of a Prometheus native histogram: with the base `b` = 2^(2^-`schema`), the positive
/// bucket `i` counts values in (b^(i-1), b^i], the negative one values in [-b^i, -b^(i-1)). It is
/// consistent as [`HistogramSnapshot`] is.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ExponentialSnapshot {
    /// Resolution, from -4 to 8: 2^`schema` buckets for each doubling.
    pub schema: i8,
    /// Values with an absolute value up to this count as zero.
    pub zero_threshold: f64,
    /// The number of those.
    pub zero_count: u64,
    /// Index and number of values, not cumulative, ascending by index, without empty buckets.
    pub positive: Vec<(i32, u64)>,
    /// The same for negative values, by the index of their absolute value.
    pub negative: Vec<(i32, u64)>,
    /// The number of values.
    pub count: u64,
    /// The total of the values, in their unit.
    pub sum: f64,
    /// The newest exemplars, oldest first; at most 10.
    pub exemplars: Vec<Exemplar>,
}

/// What a summary held at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct SummarySnapshot {
    /// The window that the quantiles are of.
    pub window: Duration,
    /// Quantile (0 to 1) and value, ascending; the value is NaN if the window is empty.
    pub quantiles: Vec<(f64, f64)>,
    /// Every window, ascending, with the same quantiles of it; `window` is the last of them.
    pub by_window: Vec<(Duration, Vec<(f64, f64)>)>,
    /// The number of values since the series was made.
    pub count: u64,
    /// Their total, in their unit.
    pub sum: f64,
}

/// One observation that stands for others, with labels that lead to more, such as a trace.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Exemplar {
    /// Names and values; together at most 128 characters, as OpenMetrics asks.
    pub labels: Vec<(String, String)>,
    /// The value that was observed.
    pub value: f64,
    /// When.
    pub time: SystemTime,
}

/// The most exemplars of an [`ExponentialSnapshot`].
const EXEMPLARS_MAX: usize = 10;
