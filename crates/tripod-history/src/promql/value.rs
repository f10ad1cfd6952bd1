//! What a query answers.

use crate::labels::Labels;
use crate::source::{Point, SeriesPoints};

/// One series at the moment of an instant query.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which series.
    pub labels: Labels,
    /// Its value; the time is that of the query, not that of the point it came from.
    pub point: Point,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum QueryValue {
    /// A number, at the time of the query.
    Scalar(Point),
    /// A text, at the time of the query.
    String {
        /// Milliseconds since 1970-01-01 UTC.
        time_ms: i64,
        /// The text.
        value: String,
    },
    /// A value for each series, in the order of the query (of `sort`, for example).
    Vector(Vec<Sample>),
    /// Points for each series. The answer to a range query is sorted by labels.
    Matrix(Vec<SeriesPoints>),
}

impl QueryValue {
    /// What Prometheus calls the kind of value: `scalar`, `string`, `vector` or `matrix`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            Self::String { .. } => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }
}
