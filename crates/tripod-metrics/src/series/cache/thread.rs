//! The cache of the calling thread.
//!
//! A pointer without a destructor, which the hot path reads, and the owner behind it, whose
//! destructor clears the pointer first. Only the thread itself touches either; a `RefCell` keeps a
//! cache that is in use from being used again further down.
#![allow(unsafe_code, reason = "the pointer is read without a check of the owner behind it")]

use std::cell::{Cell, RefCell};
use std::ptr;

use super::Cache;

/// Owns the cache; boxed, so that it stays where it is.
struct Owner(Box<RefCell<Cache>>);

thread_local! {
    static CACHE: Cell<*const RefCell<Cache>> = const { Cell::new(ptr::null()) };
    static OWNER: RefCell<Option<Owner>> = const { RefCell::new(None) };
}

/// Runs `look` on the cache of the thread, if it has one that is not in use.
#[inline(always)]
pub(super) fn with_cache(look: impl FnOnce(&Cache)) {
    let cache = CACHE.with(Cell::get);
    // SAFETY: the pointer is null or leads into the box of this thread's `OWNER`, which is dropped
    // only when the thread ends, after the pointer was made null; `look` does not outlive this call.
    if let Some(cache) = unsafe { cache.as_ref() }
        && let Ok(cache) = cache.try_borrow()
    {
        look(&cache);
    }
}

/// Runs `change` on the cache of the thread, which is made if there is none; `None` if it is in use,
/// or the thread is ending.
pub(super) fn with_own_cache<R>(change: impl FnOnce(&mut Cache) -> R) -> Option<R> {
    OWNER
        .try_with(|owner| {
            let mut owner = owner.try_borrow_mut().ok()?;
            let Owner(cache) =
                owner.get_or_insert_with(|| Owner(Box::new(RefCell::new(Cache::new()))));
            CACHE.with(|pointer| pointer.set(&raw const **cache));
            let mut cache = cache.try_borrow_mut().ok()?;
            Some(change(&mut cache))
        })
        .ok()
        .flatten()
}

impl Drop for Owner {
    fn drop(&mut self) {
        CACHE.with(|pointer| pointer.set(ptr::null()));
    }
}
