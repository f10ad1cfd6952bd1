//! The locks, atomics and fences of this crate.
//!
//! They are the standard library's, or loom's under `--cfg loom`, so that a model can try every
//! interleaving of the same code. `Arc` stays the standard library's in both: loom's has no `Weak`,
//! which the observed gauges need, and no order here depends on a reference count.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::compiler_fence;
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence},
};
