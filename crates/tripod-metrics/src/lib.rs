//! Counters, gauges and histograms for a process, and a page of them for Prometheus.
//!
//! A [`MetricsCollector`] keeps *families*. A family is a name with a type and a help text, and
//! holds one *series* for each set of label values. A series is reached through a handle, a
//! [`Counter`], [`Gauge`] or [`Histogram`], which is kept where it is updated; the page,
//! [`encode_text`](MetricsCollector::encode_text), reads the same cells.
//!
//! What it guarantees:
//! - counters are exact to the last digit, and no update is lost, whatever the threads do;
//! - a histogram's count, buckets and sum always agree;
//! - two series are the same only if all their label values are equal;
//! - a name that is used in two ways is an error at registration that names both places;
//! - every page can be parsed, whatever is in help texts and label values;
//! - no lock is held while code of the caller runs.
//!
//! Where it stops: it knows nothing of the other crates.
//!
//! # Features
//! All are off unless asked for:
//! - `facade`: what crates record through the `metrics` facade lands in a collector; see `facade`.
//! - `history`: an in-process history of all series, in memory and in files; see `history`.
//! - `http`: a router for axum, and answers for any server of hyper's kind, with the page in all formats;
//!   see `http`.
//! - `otlp`, `remote-write`: pushes to other systems; see `otlp`, `remote_write`. Both need `push`.
//! - `process`: the `process_*` metrics of this process; see `process`.
//! - `tokio`: numbers of a tokio runtime; see `runtime`.
//! - `tracing`: a layer that times spans; see `spans`.
//!
//! # Examples
//! ```
//! use tripod_metrics::MetricsCollector;
//!
//! let metrics = MetricsCollector::new();
//! let requests = metrics
//!     .counter("requests_total", "Requests answered.")
//!     .labels(["status"])
//!     .register()?;
//! let answered = requests.with(&["200"])?;
//! let seconds = metrics
//!     .histogram("request_seconds", "Time to answer a request.")
//!     .buckets([0.01, 0.1, 1.0])
//!     .register()?
//!     .plain();
//!
//! answered.inc();
//! seconds.observe(0.03);
//!
//! let page = metrics.encode_text();
//! assert!(page.contains("requests_total{status=\"200\"} 1\n"));
//! assert!(page.contains("request_seconds_bucket{le=\"0.1\"} 1\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bounds;
mod cells;
mod collector;
mod counter;
mod definition;
mod error;
mod exemplars;
mod exponential;
#[cfg(feature = "facade")]
pub mod facade;
mod family;
#[cfg(test)]
mod fixtures;
mod gauge;
mod histogram;
#[cfg(feature = "history")]
pub mod history;
#[cfg(feature = "http")]
pub mod http;
mod labels;
mod live;
mod metric;
pub mod negotiate;
mod number;
#[cfg(test)]
mod oracle;
#[cfg(feature = "otlp")]
pub mod otlp;
mod page;
#[cfg(feature = "process")]
pub mod process;
pub mod protobuf;
#[cfg(feature = "push")]
pub mod push;
mod rates;
mod reading;
#[cfg(feature = "remote-write")]
pub mod remote_write;
mod resume;
#[cfg(feature = "tokio")]
pub mod runtime;
mod sampler;
mod samples;
mod series;
mod shared;
pub mod snapshot;
#[cfg(feature = "tracing")]
pub mod spans;
pub mod stream;
mod summary;
mod sync;
mod timer;
mod typed;
mod varint;
mod wire;

pub use collector::{MetricsCollector, MetricsCollectorBuilder};
pub use counter::{Counter, FloatCounter};
pub use definition::{BUCKETS_MAX, OVERFLOW_LABEL};
pub use error::{Clash, LabelError, RegisterError};
pub use exemplars::ExemplarError;
pub use family::{DEFAULT_SERIES_MAX, Family, FamilyBuilder, TypedFamilyBuilder};
pub use gauge::Gauge;
pub use histogram::{DEFAULT_BUCKETS, Histogram};
pub use live::Subscriber;
pub use metric::Metric;
pub use page::{OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE};
pub use rates::{Rates, SeriesRate};
pub use resume::{ResumeError, Resumed, Start};
pub use sampler::{Sampler, SamplerBuilder};
pub use summary::{DEFAULT_QUANTILES, DEFAULT_WINDOWS, Summary};
pub use timer::{Timed, Timer, TimerGuard};
#[doc(hidden)]
pub use typed::Interner;
pub use typed::{LABEL_SETS_MAX, LabelSet, LabelValue, TypedFamily};

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn goes_anywhere<T: Clone + Send + Sync + 'static>() {}

    #[test]
    fn every_handle_may_go_to_any_thread() {
        goes_anywhere::<MetricsCollector>();
        goes_anywhere::<Counter>();
        goes_anywhere::<FloatCounter>();
        goes_anywhere::<Gauge>();
        goes_anywhere::<Histogram>();
        goes_anywhere::<Summary>();
        goes_anywhere::<Timer>();
        goes_anywhere::<Family<Counter>>();
    }
}
