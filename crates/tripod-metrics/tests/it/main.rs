//! Integration tests of `tripod-metrics`.

mod checker;
mod checker_rejects;
mod clock;
mod concurrency;
mod everything;
mod expiry;
mod observers;
mod page;
mod promtool;
mod properties;
mod registration;
mod strict_parser;
