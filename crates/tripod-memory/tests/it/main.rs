//! The crate as its users see it, in one binary.

#![allow(unexpected_cfgs, reason = "`loom` is set by hand, with RUSTFLAGS, to run the model")]
#![allow(
    clippy::unwrap_used,
    reason = "what a test does not expect ends it, in its own functions too"
)]
// Under loom the engine's lock works in a model only.
#![cfg(not(loom))]

mod acquire;
#[cfg(feature = "allocator-api2")]
mod allocator;
mod budgets;
mod bytes;
mod classes;
mod collect;
mod counting;
mod documented;
mod file;
mod io;
mod leaks;
mod lease;
mod limits;
mod many;
mod metrics;
mod model;
mod object_pool;
mod own_process;
mod pitfalls;
mod pressure;
mod random;
mod refusals;
mod refused_heap;
mod reserve;
mod residency;
mod spill;
mod stress;
mod symmetric;
mod threads;
mod zeroed;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tripod_memory::{MemoryManager, Reservation, Reserve, ReserveError, SystemMemory};

/// Builds a manager with this budget in bytes.
fn manager(budget_bytes: u64) -> MemoryManager {
    MemoryManager::builder().budget_bytes(budget_bytes).build().expect("a budget above 0 builds")
}

/// As [`manager`], collected by the test alone, and told nothing by the system.
fn collected_by_hand(budget_bytes: u64) -> MemoryManager {
    let builder = MemoryManager::builder().budget_bytes(budget_bytes);
    let builder = builder.background_collection(false).system_memory(SystemMemory::at("/none"));
    builder.build().expect("a budget above 0 builds")
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self::default());
        (wakes.clone(), Waker::from(wakes))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll_with(reserve: &mut Reserve, waker: &Waker) -> Poll<Result<Reservation, ReserveError>> {
    Pin::new(reserve).poll(&mut Context::from_waker(waker))
}

fn poll(reserve: &mut Reserve) -> Poll<Result<Reservation, ReserveError>> {
    poll_with(reserve, Waker::noop())
}

/// Polls once, expecting a wait.
#[track_caller]
fn in_line(mut reserve: Reserve) -> Reserve {
    assert!(poll(&mut reserve).is_pending(), "{reserve:?} was expected to wait");
    reserve
}

/// Polls once, expecting the grant.
#[track_caller]
fn granted(reserve: &mut Reserve) -> Reservation {
    match poll(reserve) {
        Poll::Ready(Ok(reservation)) => reservation,
        other => panic!("expected a grant, got {other:?}"),
    }
}
