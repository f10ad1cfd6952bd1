//! Why a query has no answer.

use crate::labels::Labels;
use crate::source::SelectError;

/// Why a query has no answer.
///
/// # Examples
/// ```
/// # use tripod_history::promql::{ErrorKind, Engine, QueryError};
/// # use tripod_history::{Labels, Matcher, SelectError, SeriesPoints, Source};
/// # struct Nothing;
/// # impl Source for Nothing {
/// #     fn select(&self, _: &[Matcher], _: i64, _: i64, _: i64) -> Result<Vec<SeriesPoints>, SelectError> {
/// #         Ok(Vec::new())
/// #     }
/// # }
/// let error = Engine::default().instant(&Nothing, "up[", 0).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::BadQuery);
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text is no query, or one of a kind that is not known here.
    #[error("parse error: {}{message}", place(*position))]
    Parse {
        /// What is wrong.
        message: String,
        /// Where, in bytes from the beginning of the query, if that is known.
        position: Option<usize>,
    },
    /// The text is longer, or more deeply nested, than is allowed.
    #[error("the query has more than {limit} {what}; split it")]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// The limit in force.
        limit: usize,
    },
    /// Start, end and step do not describe moments to answer for.
    #[error("{0}")]
    BadRange(String),
    /// The answer would have more points a series than is allowed.
    #[error(
        "exceeded maximum resolution of {limit} points per timeseries; use a larger step or a shorter range"
    )]
    TooManyPoints {
        /// The limit in force.
        limit: usize,
    },
    /// More samples than are allowed would be held at once.
    #[error("query processing would load too many samples into memory: more than {limit}")]
    TooManySamples {
        /// The limit in force.
        limit: usize,
    },
    /// Two series of a result have the same labels.
    #[error("vector cannot contain metrics with the same labelset: {0} occurs twice")]
    SameLabels(Labels),
    /// The side of a binary operation that has to be unique in each group is not.
    #[error(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{one}, {other}]; many-to-many matching not allowed: matching labels must be unique on one side"
    )]
    ManyToMany {
        /// The labels that both have.
        group: Labels,
        /// "left" or "right".
        side: &'static str,
        /// One of the two.
        one: Labels,
        /// The other.
        other: Labels,
    },
    /// Several series match one, and the query does not say that they may.
    #[error(
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
    )]
    ManyToOne,
    /// Several series of a `group_left` or `group_right` come out with the same labels.
    #[error("multiple matches for labels: grouping labels must ensure unique matches")]
    NotUnique,
    /// A function cannot work with an argument that it got.
    #[error("{function}: {message}")]
    Argument {
        /// The function or operator.
        function: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The time for the query is over.
    #[error("query timed out in expression evaluation")]
    TimedOut,
    /// Nobody waits for the answer any more.
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// The source gave no points.
    #[error(transparent)]
    Source(#[from] SelectError),
}

/// Whom a [`QueryError`] concerns: the kinds that Prometheus' HTTP API tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The query or its parameters are wrong: `bad_data`.
    BadQuery,
    /// The query is well formed, and fails on the data at hand or on a limit: `execution`.
    Execution,
    /// Its time is over: `timeout`.
    Timeout,
    /// It was given up: `canceled`.
    Canceled,
    /// The source fails: `internal`.
    Internal,
}

impl QueryError {
    /// Whom the error concerns.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse { .. }
            | Self::TooComplex { .. }
            | Self::BadRange(_)
            | Self::TooManyPoints { .. } => ErrorKind::BadQuery,
            Self::TimedOut => ErrorKind::Timeout,
            Self::Canceled => ErrorKind::Canceled,
            Self::Source(SelectError::Read(_)) => ErrorKind::Internal,
            _ => ErrorKind::Execution,
        }
    }

    pub(super) fn parse(message: impl Into<String>) -> Self {
        Self::Parse { message: message.into(), position: None }
    }

    pub(super) fn argument(function: &'static str, message: impl Into<String>) -> Self {
        Self::Argument { function, message: message.into() }
    }
}

fn place(position: Option<usize>) -> String {
    position.map(|byte| format!("at byte {byte}: ")).unwrap_or_default()
}
