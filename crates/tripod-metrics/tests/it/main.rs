//! Integration tests of `tripod-metrics`.

mod checker;
mod checker_rejects;
mod concurrency;
mod observers;
mod page;
mod promtool;
mod properties;
mod registration;
mod resume;
mod resume_scraped;
