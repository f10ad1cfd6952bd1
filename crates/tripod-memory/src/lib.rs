//! Pooled buffers and reservations under hard, hierarchical byte budgets.
//!
//! A [`MemoryManager`] counts three things against one budget: what is *reserved* ([`Reservation`]:
//! bytes that somebody allocates elsewhere), what is *used* ([`Buffer`]s handed out) and what is *idle*
//! (buffers resting in pools). Their sum is never above the limit, and idle bytes never stand in
//! anyone's way: they go back to the system before a request is refused or waits. Below the root,
//! [`Budget`]s form a tree in which every limit on the path binds.
//!
//! ```
//! # use tripod_memory::MemoryManager;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = MemoryManager::builder().budget_bytes(64 << 20).build()?;
//!
//! let mut buffer = memory.acquire(1500)?;
//! buffer.fill(0);
//!
//! let reservation = memory.reserve(32 << 20).await?;
//! reservation.try_grow(1 << 20)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! `allocator-api2` (off by default) adds `Budget::allocator`, with which collections that take an
//! allocator of that crate, `hashbrown`'s among them, live in pooled memory.
//!
//! # Where it stops
//! It counts what goes through it, not what the process allocates, unless a budget
//! [follows](Budget::follow) an account of it. Budgets are not removed while their manager's memory
//! lives.
//!
//! # How it is put together
//! `ledger` is a pure state machine that decides who may have how many bytes; `shelf` keeps the books
//! of the regions of a size class. `engine` has both behind one lock. In front of it each thread has a
//! `cache` of buffers, which a `guard` lets others reach into, and batches go through a `depot`.
//! `budget`, `reserve`, `buffer` and `manager` are handles on the engine; `collector` is the thread
//! that gives back what is idle. This crate knows nothing of tasks and runtimes.

#![allow(unexpected_cfgs, reason = "`loom` is set by hand, with RUSTFLAGS, to run the model")]

#[cfg(feature = "allocator-api2")]
mod allocator;
mod budget;
mod buffer;
mod cache;
mod classes;
mod collector;
mod counting;
mod depot;
mod engine;
mod file;
mod guard;
mod header;
mod heap;
mod kept;
mod layout;
mod leaks;
mod lease;
mod ledger;
mod local;
mod manager;
mod meter;
mod object_pool;
mod pressure;
#[cfg(test)]
#[path = "../tests/it/random.rs"]
mod random;
mod reserve;
mod shelf;
mod spill;
mod stats;
mod sync;
mod sys;
mod turn;

#[cfg(feature = "allocator-api2")]
pub use allocator::PoolAllocator;
/// The crate whose `Allocator` trait [`PoolAllocator`] implements, and whose `Vec` and `Box` take it.
#[cfg(feature = "allocator-api2")]
pub use allocator_api2;
pub use budget::{Budget, BudgetBuilder, BudgetError};
pub use buffer::{AcquireError, Buffer, ResizeError};
pub use classes::SizeClassError;
pub use counting::{AccountCharge, AllocationAccount, AllocationScope, CountingAllocator};
pub use engine::Collected;
pub use file::{MapError, Sharing};
pub use leaks::{LeakReport, LeakSite};
pub use lease::{LeaseError, LeaseId};
pub use manager::{BuildError, MemoryManager, MemoryManagerBuilder};
pub use meter::MeterError;
pub use object_pool::{ObjectPool, ObjectPoolBuilder, ObjectPoolError, ObjectPoolStats, Pooled};
pub use pressure::{
    Changed, Pressure, PressureError, PressureLevel, PressureSubscription, Readings, SystemMemory,
};
pub use reserve::{Reservation, Reserve, ReserveError};
pub use spill::{Spill, SpillRegistration};
pub use stats::{BudgetStats, ClassStats, MemoryStats};
