//! Ending a query before its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::error::QueryError;

const GO: u8 = 0;
const TIMED_OUT: u8 = 1;
const CANCELED: u8 = 2;

/// A flag that ends the queries that look at it, from any thread.
///
/// Clones share the flag. An evaluation looks at it for each operation, series and window, so a query
/// ends soon after, not at once; while a source reads, nobody looks. The first reason stays.
///
/// # Examples
/// ```
/// # use tripod_history::promql::{Engine, QueryError, Stop};
/// # use tripod_history::{Matcher, SelectError, SeriesPoints, Source};
/// # struct Nothing;
/// # impl Source for Nothing {
/// #     fn select(&self, _: &[Matcher], _: i64, _: i64, _: i64) -> Result<Vec<SeriesPoints>, SelectError> {
/// #         Ok(Vec::new())
/// #     }
/// # }
/// let stop = Stop::default();
/// let engine = Engine::default().stopped_by(stop.clone());
/// stop.time_out();
/// assert_eq!(engine.instant(&Nothing, "1 + 1", 0), Err(QueryError::TimedOut));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Ends the queries with [`QueryError::TimedOut`].
    pub fn time_out(&self) {
        self.set(TIMED_OUT);
    }

    /// Ends the queries with [`QueryError::Canceled`].
    pub fn cancel(&self) {
        self.set(CANCELED);
    }

    fn set(&self, reason: u8) {
        // Relaxed: the flag guards no other memory; losing the race means that a reason is there.
        let _ = self.0.compare_exchange(GO, reason, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn check(&self) -> Result<(), QueryError> {
        match self.0.load(Ordering::Relaxed) {
            TIMED_OUT => Err(QueryError::TimedOut),
            CANCELED => Err(QueryError::Canceled),
            _ => Ok(()),
        }
    }
}
