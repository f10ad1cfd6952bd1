//! What no library could do without: shown beside the others, and part of no bar.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::workload::{Around, METHODS, STATUSES};
use crate::contender::{Contender, Side};

/// A counter that threads share, with nothing around it.
pub(crate) fn atomic() -> Contender {
    let counter = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&counter);
    let prepare = move || {
        let counter = Arc::clone(&shared);
        move |_| _ = black_box(black_box(&*counter).fetch_add(1, Ordering::Relaxed))
    };
    Contender::new("(one AtomicU64)", Side::Beside, prepare)
        .recording(move || counter.load(Ordering::Relaxed))
}

/// A counter that one thread keeps for itself.
pub(crate) fn own_cell() -> Contender {
    let prepare = || {
        let counter = Cell::new(0_u64);
        move |_| {
            let counter = black_box(&counter);
            counter.set(counter.get() + 1);
        }
    };
    Contender::new("(a Cell of the thread)", Side::Beside, prepare)
}

/// What a timer needs at least from the clock of the standard library.
pub(crate) fn two_clock_reads() -> Contender {
    let prepare = || {
        |_| {
            let begin = black_box(Instant::now());
            black_box(begin.elapsed());
        }
    };
    Contender::new("(two reads of Instant)", Side::Beside, prepare)
}

/// What remains of a look-up if only the label values are taken in hand.
pub(crate) fn label_values() -> Contender {
    let prepare = || {
        let pairs = Around::label_pairs(|method, status| (METHODS[method], STATUSES[status]));
        move |number| _ = black_box(black_box(pairs.get(number)))
    };
    Contender::new("(the label values alone)", Side::Beside, prepare)
}

/// What remains of an observation if only the value is taken in hand.
pub(crate) fn observations() -> Contender {
    let prepare = || {
        let values = Around::observations();
        move |number| _ = black_box(*values.get(number))
    };
    Contender::new("(the observation alone)", Side::Beside, prepare)
}
