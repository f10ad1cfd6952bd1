//! PromQL, the query language of Prometheus, over any [`Source`].
//!
//! What it guarantees: the answers of Prometheus 2.42 on series of plain numbers, to the last digits
//! of a float, and an error wherever it has one; a test compares the two on thousands of generated
//! queries. A query is a pure function of its text, the source and the moments asked for: no clock
//! is read. No query, however long, deep or hungry, overflows a stack of 2 MiB or passes the limits.
//!
//! Where it stops: native histograms, whose functions are unknown here. In regular expressions `.`
//! matches a line feed, as in Prometheus from version 3 on, and `\d` any digit of Unicode. In four
//! rare cases, most of them uses of `@`, Prometheus 2.42 departs from its documentation and this
//! does not; the design document lists them.
//!
//! # Examples
//! ```
//! use tripod_history::promql::{Engine, QueryValue};
//! use tripod_history::{Labels, Matcher, Point, SelectError, SeriesPoints, Source};
//!
//! /// One counter that grows by 2 a second.
//! struct Counter;
//!
//! impl Source for Counter {
//!     fn select(
//!         &self,
//!         matchers: &[Matcher],
//!         start_ms: i64,
//!         end_ms: i64,
//!         _step_ms: i64,
//!     ) -> Result<Vec<SeriesPoints>, SelectError> {
//!         let labels = Labels::new([("__name__", "requests_total"), ("zone", "a")]);
//!         if !matchers.iter().all(|matcher| matcher.matches(&labels)) {
//!             return Ok(Vec::new());
//!         }
//!         let times = (0..600).map(|second| second * 1000);
//!         let points = times.filter(|time| (start_ms..=end_ms).contains(time));
//!         let points = points.map(|time_ms| Point { time_ms, value: time_ms as f64 / 500.0 });
//!         Ok(vec![SeriesPoints { labels, points: points.collect() }])
//!     }
//! }
//!
//! let engine = Engine::default();
//! let value = engine.instant(&Counter, "sum by (zone) (rate(requests_total[1m]))", 300_000)?;
//! let QueryValue::Vector(samples) = value else { panic!("a sum is a vector") };
//! assert_eq!(samples[0].labels, Labels::new([("zone", "a")]));
//! assert_eq!(samples[0].point.value, 2.0);
//!
//! let value = engine.range(&Counter, "requests_total > 500", 240_000, 300_000, 30_000)?;
//! let QueryValue::Matrix(series) = value else { panic!("a range query has a matrix") };
//! assert_eq!(series[0].points.len(), 2);
//! # Ok::<(), tripod_history::promql::QueryError>(())
//! ```

mod date;
mod error;
mod eval;
mod guard;
mod histogram;
mod limits;
mod lower;
mod math;
mod over_time;
mod plan;
mod series;
mod stop;
mod value;

use std::rc::Rc;

#[cfg(feature = "http")]
pub(crate) use date::day_number;
pub use error::{ErrorKind, QueryError};
pub use limits::Limits;
#[cfg(feature = "http")]
pub(crate) use lower::series_selector;
pub use stop::Stop;
pub use value::{QueryValue, Sample};

use self::eval::{Evaluation, Grid};
use self::lower::TIME_MAX_MS;
use self::plan::Plan;
use self::series::{Matrix, Series};
use crate::source::{SeriesPoints, Source};

/// Answers queries; cheap to clone.
///
/// # Examples
/// See the [module](self).
#[derive(Debug, Clone, Default)]
pub struct Engine {
    limits: Limits,
    stop: Option<Stop>,
}

impl Engine {
    /// Makes an engine that keeps to the limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, stop: None }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The same engine, whose queries end when the flag says so.
    #[must_use]
    pub fn stopped_by(mut self, stop: Stop) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Answers a query for one moment, given in milliseconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// See [`QueryError`].
    ///
    /// # Examples
    /// See the [module](self).
    pub fn instant(
        &self,
        source: &dyn Source,
        query: &str,
        time_ms: i64,
    ) -> Result<QueryValue, QueryError> {
        let plan = lower::plan(query)?;
        check_time(time_ms)?;
        let matrix = self.evaluate(source, &plan, Grid::moment(time_ms))?;
        Ok(match plan {
            Plan::Text(value) => QueryValue::String { time_ms, value },
            Plan::Scalar(_) => QueryValue::Scalar(matrix[0].points[0]),
            Plan::Vector(_) => QueryValue::Vector(matrix.into_iter().map(sample).collect()),
            Plan::Range(_) => QueryValue::Matrix(owned(matrix)),
        })
    }

    /// Answers a query for each moment from start to end, both included, a step apart; the result
    /// is a matrix, sorted by labels. Times and step are in milliseconds.
    ///
    /// # Errors
    /// See [`QueryError`]; a query for a range vector or a string is among the errors.
    ///
    /// # Examples
    /// See the [module](self).
    pub fn range(
        &self,
        source: &dyn Source,
        query: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<QueryValue, QueryError> {
        let grid = self.grid(start_ms, end_ms, step_ms)?;
        let plan = lower::plan(query)?;
        let kind = match plan {
            Plan::Range(_) => "range vector",
            Plan::Text(_) => "string",
            Plan::Scalar(_) | Plan::Vector(_) => {
                let mut matrix = self.evaluate(source, &plan, grid)?;
                matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
                return Ok(QueryValue::Matrix(owned(matrix)));
            }
        };
        Err(QueryError::BadRange(format!(
            "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
        )))
    }

    fn grid(&self, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Grid, QueryError> {
        check_time(start_ms)?;
        check_time(end_ms)?;
        let bad = |message: &str| Err(QueryError::BadRange(message.to_owned()));
        if end_ms < start_ms {
            return bad("end timestamp must not be before start time");
        }
        if step_ms <= 0 {
            return bad("zero or negative query resolution step widths are not accepted");
        }
        let limit = self.limits.steps_max;
        // Prometheus counts distances, not moments, so one moment more passes.
        let grid = Grid { start_ms, end_ms, step_ms };
        if grid.steps() > limit.saturating_add(1) {
            return Err(QueryError::TooManyPoints { limit });
        }
        Ok(grid)
    }

    fn evaluate(&self, source: &dyn Source, plan: &Plan, grid: Grid) -> Result<Matrix, QueryError> {
        Evaluation::new(source, &self.limits, self.stop.as_ref(), grid).run(plan)
    }
}

/// Whether a text is a query, for those who do not want its answer.
#[cfg(feature = "http")]
pub(crate) fn check(query: &str) -> Result<(), QueryError> {
    lower::plan(query).map(drop)
}

fn check_time(time_ms: i64) -> Result<(), QueryError> {
    if time_ms.unsigned_abs() <= TIME_MAX_MS.unsigned_abs() {
        return Ok(());
    }
    Err(QueryError::BadRange(format!("the time {time_ms} ms is too far from 1970")))
}

fn sample(series: Series) -> Sample {
    let Series { labels, points } = series;
    Sample { labels: Rc::unwrap_or_clone(labels), point: points[0] }
}

fn owned(matrix: Matrix) -> Vec<SeriesPoints> {
    let series = matrix.into_iter().map(|Series { labels, points }| SeriesPoints {
        labels: Rc::unwrap_or_clone(labels),
        points,
    });
    series.collect()
}

/// Whether a text may be the name of a label.
pub(crate) fn is_label_name(name: &str) -> bool {
    let tail = name.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '_');
    tail.len() < name.len() && tail.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A number without an exponent, in the fewest digits that give it back, as Prometheus writes it.
pub(crate) fn plain_number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

#[cfg(test)]
mod tests;
