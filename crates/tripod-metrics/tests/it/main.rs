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
mod observers;
mod page;
mod progress;
mod promtool;
mod properties;
mod quantiles;
mod registration;
mod short_threads;
mod strict_parser;
mod torn;
mod typed;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;
