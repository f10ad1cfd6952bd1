//! Bytes that are reserved against a hard limit, and how it is done without a library.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::contender::{Contender, Side};

/// A limit that the operations of a row never meet.
const LIMIT_BYTES: u64 = 8 << 30;

/// One counter for all threads, changed by compare-and-swap.
pub(crate) fn one_counter(bytes: u64) -> Contender {
    let used = Arc::new(AtomicU64::new(0));
    let prepare = move || {
        let used = Arc::clone(&used);
        move |_| {
            let used = black_box(&*used);
            let grow = |used: u64| used.checked_add(bytes).filter(|used| *used <= LIMIT_BYTES);
            let granted = used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, grow);
            black_box(granted).expect("the limit is far");
            used.fetch_sub(bytes, Ordering::AcqRel);
        }
    };
    Contender::new("one counter, compare-and-swap", Side::Opponent, prepare)
}

/// One counter for all threads, behind a mutex.
pub(crate) fn one_mutex(bytes: u64) -> Contender {
    let used = Arc::new(Mutex::new(0_u64));
    let prepare = move || {
        let used = Arc::clone(&used);
        move |_| {
            let lock = || black_box(&*used).lock().unwrap_or_else(PoisonError::into_inner);
            let mut used = lock();
            assert!(*used + bytes <= LIMIT_BYTES, "the limit is far");
            *used += bytes;
            drop(used);
            *lock() -= bytes;
        }
    };
    Contender::new("one counter, mutex", Side::Opponent, prepare)
}
