//! The object pools that a manager collects.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::collector;
use crate::object_pool::Collect;

/// Objects that are dropped without a look at the time.
const OBJECTS_AT_ONCE: usize = 16;

/// The shortest time between two looks at a pool.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    list: Mutex<Vec<Arc<Pool>>>,
    /// A statistic: Relaxed.
    panics: AtomicU64,
}

struct Pool {
    objects: Box<dyn Collect>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pools {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Pool>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, objects: Box<dyn Collect>) {
        self.lock().push(Arc::new(Pool { objects }));
        collector::wake();
    }

    /// Drops what is due, until `is_over`; answers how many objects, and whether that were all.
    pub(super) fn collect(&self, now: Instant, is_over: &impl Fn() -> bool) -> (u64, bool) {
        let pools = self.lock().clone();
        let mut dropped = 0;
        for pool in pools {
            loop {
                match self.shielded(|| pool.objects.collect(now, OBJECTS_AT_ONCE)) {
                    Some(Some(count)) => {
                        dropped += count as u64;
                        if count < OBJECTS_AT_ONCE {
                            break;
                        }
                    }
                    // The others of this pool wait for the next collection.
                    Some(None) => {
                        dropped += 1;
                        break;
                    }
                    None => {
                        self.lock().retain(|known| !Arc::ptr_eq(known, &pool));
                        break;
                    }
                }
                if is_over() {
                    return (dropped, false);
                }
            }
        }
        (dropped, true)
    }

    /// What `collect` answers, with `Some(None)` for a panic.
    fn shielded(&self, collect: impl FnOnce() -> Option<usize>) -> Option<Option<usize>> {
        // The pool is made for it: an object whose `Drop` panics is gone, and nothing else.
        match catch_unwind(AssertUnwindSafe(collect)) {
            Ok(count) => count.map(Some),
            Err(_) => {
                self.panics.fetch_add(1, Ordering::Relaxed);
                Some(None)
            }
        }
    }

    /// In how long to look again; not at all before a wake if all pools are empty.
    pub(super) fn interval(&self) -> Option<Duration> {
        let pools = self.lock().clone();
        let intervals = pools.iter().filter_map(|pool| pool.objects.interval(collector::wake));
        intervals.min().map(|interval| interval.max(INTERVAL_MIN))
    }

    pub(super) fn clear(&self) {
        let pools = std::mem::take(&mut *self.lock());
        drop(pools);
    }

    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}
