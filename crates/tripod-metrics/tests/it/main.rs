//! Integration tests of `tripod-metrics`.
#![allow(clippy::unwrap_used, reason = "also what the tests share fails by a panic")]
#![allow(clippy::print_stdout, reason = "figures that are shown, and not judged")]

mod allocations;
mod bad_input;
mod cardinality;
mod checker;
mod checker_rejects;
mod clock;
mod concurrency;
mod everything;
mod expiry;
#[cfg(feature = "facade")]
mod facade;
#[cfg(feature = "http")]
mod http;
mod observers;
mod page;
#[cfg(feature = "process")]
mod process;
mod progress;
mod promtool;
mod properties;
mod quantiles;
#[cfg(feature = "promql")]
mod query_http;
mod registration;
mod resume;
mod resume_scraped;
#[cfg(feature = "tokio")]
mod runtime;
mod short_threads;
#[cfg(feature = "tracing")]
mod spans;
mod strict_parser;
mod torn;
mod typed;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;
