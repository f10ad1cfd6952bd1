//! A small compressed store of time series, and PromQL over it.
//!
//! What it guarantees:
//! - a series is identified by all its labels, compared in full;
//! - points come back bit by bit as they were given, also special NaN values such as
//!   [`STALE_NAN`];
//! - what is read is right or reported as damaged, never guessed.
//!
//! Where it stops: it knows nothing of collectors, counters or threads that record; it is given
//! points and the time, and reads no clock of its own.

pub mod codec;
#[cfg(feature = "http")]
pub mod http;
mod labels;
mod matcher;
#[cfg(feature = "promql")]
pub mod promql;
mod source;
mod store;

pub use labels::{Labels, NAME_LABEL};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use source::{Point, STALE_NAN, SelectError, SeriesPoints, Source, is_stale};
pub use store::{
    AppendError, ColumnId, ColumnKind, ConfigError, Finding, FlushError, Maintained, OpenError,
    Store, StoreConfig, StoreStats, Tier,
};
