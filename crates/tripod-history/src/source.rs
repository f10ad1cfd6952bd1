//! Where points come from, seen from a query.

use crate::labels::Labels;
use crate::matcher::Matcher;

/// The value that says that a series has ended: the NaN that Prometheus uses for it.
///
/// It is told from other NaN values by its bits; see [`is_stale`].
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether a value is [`STALE_NAN`].
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN.to_bits()
}

/// A value at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Milliseconds since 1970-01-01 UTC; may be negative.
    pub time_ms: i64,
    /// The value then.
    pub value: f64,
}

/// The points of one series, ascending in time, each time once.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesPoints {
    /// Which series.
    pub labels: Labels,
    /// Its points.
    pub points: Vec<Point>,
}

/// Why a source did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The answer would pass a limit.
    #[error("more than {limit} points would have to be read; narrow the range or the selector")]
    TooManyPoints {
        /// The limit in force.
        limit: usize,
    },
    /// Points cannot be read.
    #[error("the history cannot be read: {0}")]
    Read(String),
}

/// Something that has series.
pub trait Source: Send + Sync {
    /// Returns every series that fulfils all `matchers` and has a point from `start_ms` to
    /// `end_ms`, both included, with its points in that range, stale markers among them. The order
    /// of series is by labels.
    ///
    /// `step_ms` is how far apart the points have to be at most for the caller's purpose; a source
    /// with several resolutions may choose by it, and 0 asks for the finest.
    ///
    /// # Errors
    /// See [`SelectError`].
    fn select(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Vec<SeriesPoints>, SelectError>;

    /// Returns the labels of every series that fulfils all `matchers` and has a point in the range.
    ///
    /// # Errors
    /// See [`SelectError`].
    fn series(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<Labels>, SelectError> {
        let series = self.select(matchers, start_ms, end_ms, 0)?;
        Ok(series.into_iter().map(|series| series.labels).collect())
    }
}
