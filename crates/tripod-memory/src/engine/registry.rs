//! Which threads have a cache, and what becomes of it when they end.

use std::sync::Arc;

use super::{Engine, State};
use crate::cache::{Cache, Counts, Place, SeenNewest};
use crate::heap::{self, Shared};
use crate::local;
use crate::sync::MutexGuard;

/// A cache and what the collector has noted of it.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) cache: Shared<Cache>,
    /// By class.
    pub(super) newest: Box<[SeenNewest]>,
}

impl Engine {
    /// Makes a cache for the calling thread; `None` if the engine is closed, or there is no memory for
    /// it: then the thread does without, and tries again the next time it comes by.
    pub(crate) fn register(&self) -> Option<(Arc<Self>, Shared<Cache>)> {
        let engine = self.own.upgrade()?;
        let cache = Cache::new(&self.layouts, self.classes.sure().clone())?;
        let newest = heap::slice(self.layouts.len(), SeenNewest::default)?;
        let mut state = self.lock();
        if state.is_closed || state.caches.try_reserve(1).is_err() {
            return None;
        }
        cache.guard.restore(state.level);
        state.caches.push(Registered { cache: cache.clone(), newest });
        drop(state);
        Some((engine, cache))
    }

    /// Takes everything out of the cache of a thread that ends.
    pub(crate) fn retire(&self, cache: &Shared<Cache>) {
        let mut state = self.lock();
        state.caches.retain(|registered| !Shared::is_same(&registered.cache, cache));
        state.give_up(cache, u32::MAX);
        for class in 0..self.layouts.len() {
            let counts = cache.counts(class);
            state.retired[class].add(counts);
        }
        // Somebody may be waiting for this thread to give up what it has.
        self.changed.notify_all();
        self.finish(state);
    }

    /// The calling thread's cache, with the short way open unless something is revoked just now.
    pub(super) fn own_cache(&self) -> Option<Shared<Cache>> {
        let cache = local::own(self)?;
        if cache.guard.is_closed() {
            let _state = self.lock();
            cache.open(None);
        }
        Some(cache)
    }

    /// Whether a reclaimer has taken what was in `place` before the calling thread, whose cache this
    /// is, took it, too. Asked when the short way was found closed; opens it.
    #[cold]
    #[inline(never)]
    pub(crate) fn is_taken(&self, cache: &Cache, place: Place) -> bool {
        let _state = self.lock();
        cache.open(Some(place))
    }

    /// Does what the thread was asked for while it was at work in its cache.
    #[inline(always)]
    pub(crate) fn heed(&self, cache: &Cache, is_asked: bool) {
        if is_asked {
            self.give_up_what_is_revoked(cache);
        }
    }

    #[cold]
    fn give_up_what_is_revoked(&self, cache: &Cache) {
        self.finish_asked(self.lock(), cache, true);
    }

    /// Ends a change that the thread made while it was at work in its cache, and does first what it was
    /// asked for: the wakers that are called at the end may ask for memory in their turn, and wait for
    /// every thread that owes something.
    pub(super) fn finish_asked<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        cache: &Cache,
        is_asked: bool,
    ) {
        if is_asked && cache.guard.is_pending() {
            state.give_up(cache, cache.guard.revoked());
            cache.guard.settle();
            cache.open(None);
            self.changed.notify_all();
        }
        self.finish(state);
    }
}

impl State {
    /// What all threads have counted of `class`.
    pub(super) fn counts(&self, class: usize) -> Counts {
        let mut sum = self.retired[class];
        for registered in &self.caches {
            sum.add(registered.cache.counts(class));
        }
        sum
    }
}
