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
//! Where it stops: it knows nothing of the other crates, of HTTP, of time, and of any format but
//! this page. It sets no limit on the number of series, and none ends before its collector does.
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

mod cells;
mod collector;
mod counter;
mod definition;
mod error;
mod exemplars;
mod exponential;
mod family;
mod gauge;
mod histogram;
mod labels;
mod metric;
mod page;
mod reading;
mod resume;
mod sampler;
mod series;
mod shared;
pub mod snapshot;
mod summary;
mod sync;
mod timer;
mod typed;

pub use collector::{MetricsCollector, MetricsCollectorBuilder};
pub use counter::{Counter, FloatCounter};
pub use definition::{BUCKETS_MAX, OVERFLOW_LABEL};
pub use error::{Clash, LabelError, RegisterError};
pub use exemplars::ExemplarError;
pub use family::{DEFAULT_SERIES_MAX, Family, FamilyBuilder, TypedFamilyBuilder};
pub use gauge::Gauge;
pub use histogram::{DEFAULT_BUCKETS, Histogram};
pub use metric::Metric;
pub use page::{OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE};
pub use resume::{ResumeError, Resumed, Start};
pub use sampler::{Sampler, SamplerBuilder};
pub use summary::{DEFAULT_QUANTILES, DEFAULT_WINDOWS, Summary};
pub use timer::{Timed, Timer, TimerGuard};
#[doc(hidden)]
pub use typed::Interner;
pub use typed::{LABEL_SETS_MAX, LabelSet, LabelValue, TypedFamily};
