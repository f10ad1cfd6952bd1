//! The scheduler from outside: on a paused clock, and on several threads.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admission;
mod lifetime;
mod observability;
mod order;
mod panics;
mod shutdown;
mod stopping;
mod stress;
mod support;
