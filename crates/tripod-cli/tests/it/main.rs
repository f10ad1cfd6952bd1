//! `tripod map` as its users meet it: the real binary, real commands.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing there")]

mod harness;
mod input;
mod memory;
mod names;
mod output;
mod scrape;
mod signals;
mod usage;
