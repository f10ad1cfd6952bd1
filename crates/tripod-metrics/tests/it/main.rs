//! Integration tests of `tripod-metrics`.

mod checker;
mod checker_rejects;
mod concurrency;
#[cfg(feature = "facade")]
mod facade;
mod observers;
mod page;
mod promtool;
mod properties;
mod registration;
#[cfg(feature = "tracing")]
mod spans;
