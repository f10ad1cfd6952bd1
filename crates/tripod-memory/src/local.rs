//! The caches of the calling thread.
//!
//! Two thread-local things: a table of pointers by the number of the engine, which the hot path reads
//! and which needs no destructor, so that reading it is one instruction; and the list of caches behind
//! those pointers, whose destructor gives everything back when the thread ends. Only the thread itself
//! touches either.
//!
//! A number is used again when its engine is gone. Until then the list holds the engine, and the entry
//! goes with that, so an entry never stands for an earlier one. An engine whose number is above
//! [`NUMBER_MAX`] has no entry; its caches are found in the list.
#![allow(
    unsafe_code,
    reason = "the table of a thread is read without a check of the list behind it"
)]

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;

use crate::cache::Cache;
use crate::engine::Engine;
use crate::heap::Shared;
use crate::kept::KeptEngine;

/// The highest number of an engine that a table has an entry for. A handle has 8 bits for it. Miri, to
/// which each engine is much work, comes above it soon.
pub(crate) const NUMBER_MAX: u32 = if cfg!(miri) { 2 } else { 254 };

/// The number of all engines above; their entry stays empty.
const UNLISTED: usize = NUMBER_MAX as usize + 1;

const ENTRIES: usize = UNLISTED + 1;

/// An entry that is always empty.
pub(crate) const NO_ENTRY: u8 = UNLISTED as u8;

/// Storage of the threads of a model, which are none of the system's.
#[cfg(loom)]
macro_rules! thread_local {
    ($(static $name:ident: $t:ty = const { $init:expr };)*) => {
        loom::thread_local! { $(static $name: $t = $init;)* }
    };
}

thread_local! {
    static TABLE: [Cell<*const Cache>; ENTRIES] = const { [const { Cell::new(ptr::null()) }; ENTRIES] };
    static OWNED: RefCell<Owned> = const { RefCell::new(Owned(Vec::new())) };
}

/// Which entry of a table belongs to the engine with this number.
pub(crate) fn entry(number: u32) -> u8 {
    number.min(NUMBER_MAX + 1) as u8
}

/// Runs `work` on the calling thread's cache of the engine that this entry belongs to; `None` if it
/// has none there.
///
/// `work` calls nothing that could come back here.
#[inline(always)]
pub(crate) fn with_cache<R>(entry: u8, work: impl FnOnce(&Cache) -> R) -> Option<R> {
    // The compiler puts `with` in place only if as little as this is done in it.
    let cache = TABLE.with(|table| table[usize::from(entry)].get());
    // SAFETY: an entry is null or leads to a cache in the list of `OWNED`, from which it is taken only
    // by `own` and at the end of the thread, after the entry; `work` calls neither.
    unsafe { cache.as_ref() }.map(work)
}

/// Does what the calling thread was asked for while it was at work in its cache of `engine`.
///
/// That calls wakers, which may end the engine and the cache: both are held until it is done, and
/// neither is borrowed by the caller.
#[cold]
#[inline(never)]
pub(crate) fn heed(engine: KeptEngine) {
    let held = OWNED.try_with(|owned| owned.try_borrow().ok()?.held(engine.as_ptr()));
    if let Ok(Some((engine, cache))) = held {
        engine.heed(&cache, true);
    }
}

/// The calling thread's cache of `engine`, which is made if there is none.
///
/// `None` if the engine is closed, there is no memory for a cache, or the thread is ending and its
/// thread-local storage is gone.
pub(crate) fn own(engine: &Engine) -> Option<Shared<Cache>> {
    // In a model a thread has a cache if it asks for one: to try everything with it takes long.
    if cfg!(loom) { known(engine) } else { known_or_new(engine) }
}

/// Makes a cache for the calling thread of a model, as [`own`] does elsewhere.
#[cfg(all(test, loom))]
pub(crate) fn attach(engine: &Engine) -> Shared<Cache> {
    known_or_new(engine).expect("the engine is open")
}

fn known(engine: &Engine) -> Option<Shared<Cache>> {
    let cache = OWNED.try_with(|owned| owned.try_borrow().ok()?.find(engine));
    cache.ok().flatten()
}

fn known_or_new(engine: &Engine) -> Option<Shared<Cache>> {
    let mut ended = Vec::new();
    let cache = OWNED.try_with(|owned| {
        let mut owned = owned.try_borrow_mut().ok()?;
        if let Some(known) = owned.find(engine) {
            return Some(known);
        }
        let owned = &mut owned.0;
        owned.try_reserve(1).ok()?;
        let (engine, cache) = engine.register()?;
        // Those it has no memory for are left for the next time.
        ended.try_reserve(owned.len()).ok();
        let room = ended.capacity();
        ended.extend(owned.extract_if(.., |(engine, _)| engine.is_closed()).take(room));
        ended.iter().for_each(|(engine, _)| withdraw(engine));
        publish(&engine, &cache);
        owned.push((engine, cache.clone()));
        Some(cache)
    });
    // An engine may end here, and with it much else: not while the list is borrowed.
    drop(ended);
    cache.ok().flatten()
}

fn publish(engine: &Engine, cache: &Shared<Cache>) {
    if engine.number() <= NUMBER_MAX {
        let entry = usize::from(entry(engine.number()));
        TABLE.with(|table| table[entry].set(Shared::as_ptr(cache)));
    }
}

fn withdraw(engine: &Engine) {
    let entry = usize::from(entry(engine.number()));
    // Without a destructor it is always there, except in a model.
    let _ = TABLE.try_with(|table| table[entry].set(ptr::null()));
}

/// What the table leads to. Gives the caches back when the thread ends.
struct Owned(Vec<(Arc<Engine>, Shared<Cache>)>);

impl Owned {
    fn held(&self, engine: *const Engine) -> Option<(Arc<Engine>, Shared<Cache>)> {
        self.0.iter().find(|(known, _)| Arc::as_ptr(known) == engine).cloned()
    }

    fn find(&self, engine: &Engine) -> Option<Shared<Cache>> {
        self.held(engine).map(|(_, cache)| cache)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        for (engine, cache) in self.0.drain(..) {
            withdraw(&engine);
            engine.retire(&cache);
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
