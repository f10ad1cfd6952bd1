//! The synchronisation primitives of this crate, in one place so that a model checker can stand in
//! for them: in the unit tests with `--cfg loom` they are those of loom. Other crates that are modelled
//! get the standard ones, since a model of theirs has no business with the steps within a counter.
//!
//! The helpers ignore poisoning: no code of the user runs under a lock of this crate, and the data
//! behind each lock are right after every single statement, so there is nothing to protect from.

/// The standard one in both: no order here depends on a count of references.
pub(crate) use std::sync::Arc;
use std::sync::PoisonError;

#[cfg(all(loom, test))]
pub(crate) use loom::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering, fence},
};
#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering, fence},
};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
