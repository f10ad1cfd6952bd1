//! Integration tests of `tripod-metrics`.

mod checker;
mod checker_rejects;
mod concurrency;
#[cfg(feature = "facade")]
mod facade;
#[cfg(feature = "http")]
mod http;
mod observers;
mod page;
#[cfg(feature = "process")]
mod process;
mod promtool;
mod properties;
#[cfg(feature = "promql")]
mod query_http;
mod registration;
#[cfg(feature = "tokio")]
mod runtime;
#[cfg(feature = "tracing")]
mod spans;
