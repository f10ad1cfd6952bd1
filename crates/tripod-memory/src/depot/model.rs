//! The depot under loom, with two cells of two slots.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tripod-memory --lib --release depot::model`.
//! The model of three threads tries two preemptions, all that it gets through in seconds; the others are
//! complete.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use loom::sync::Arc;
use loom::thread;

use super::{Batch, CELLS, Depot, Seen};
use crate::guard::{Guard, MAGAZINES, heavy_fence};

fn batch<const N: usize>(slots: [usize; N]) -> Batch {
    let mut batch = Batch::new();
    for slot in slots {
        batch.push(NonNull::without_provenance(NonZeroUsize::new(slot).unwrap()));
    }
    batch
}

fn slots(batch: &Batch) -> Vec<usize> {
    batch.iter().map(|slot| slot.addr().get()).collect()
}

/// Takes what is left, too, and compares.
#[track_caller]
fn check_all(depot: &Depot, mut found: Vec<usize>, expected: &[usize]) {
    assert_eq!(depot.held() + found.len(), expected.len());
    depot.drain(|batch| found.extend(slots(&batch)));
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn no_slot_is_lost_or_doubled_by_two_threads_and_a_drain() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let depot = Arc::new(Depot::new());
        assert!(depot.put(&batch([1, 2]), CELLS));
        let putter = thread::spawn({
            let depot = Arc::clone(&depot);
            move || {
                let mut own = vec![3];
                if depot.put(&batch([3]), CELLS) {
                    own.clear();
                }
                own.extend(depot.take().iter().flat_map(slots));
                own
            }
        });
        let taker = thread::spawn({
            let depot = Arc::clone(&depot);
            move || {
                let taken = depot.take();
                taken
                    .filter(|batch| !depot.put(batch, CELLS))
                    .iter()
                    .flat_map(slots)
                    .collect::<Vec<_>>()
            }
        });
        let mut found = Vec::new();
        depot.drain(|batch| found.extend(slots(&batch)));
        found.extend(putter.join().unwrap());
        found.extend(taker.join().unwrap());
        check_all(&depot, found, &[1, 2, 3]);
    });
}

#[test]
fn two_who_put_into_an_empty_depot_both_find_room() {
    loom::model(|| {
        let depot = Arc::new(Depot::new());
        let putter = thread::spawn({
            let depot = Arc::clone(&depot);
            move || depot.put(&batch([1]), CELLS)
        });
        assert!(depot.put(&batch([2, 3]), CELLS));
        assert!(putter.join().unwrap());
        assert!(!depot.put(&batch([4]), CELLS), "a full depot has no room");
        check_all(&depot, Vec::new(), &[1, 2, 3]);
    });
}

#[test]
fn two_who_take_from_a_full_depot_both_find_something() {
    loom::model(|| {
        let depot = Arc::new(Depot::new());
        for slot in 1..=CELLS {
            assert!(depot.put(&batch([slot]), CELLS));
        }
        let taker = thread::spawn({
            let depot = Arc::clone(&depot);
            move || depot.take().iter().flat_map(slots).collect::<Vec<_>>()
        });
        let mut found: Vec<_> = depot.take().iter().flat_map(slots).collect();
        assert_eq!(found.len(), 1);
        found.extend(taker.join().unwrap());
        assert!(depot.take().is_none(), "an empty depot has nothing");
        check_all(&depot, found, &[1, 2]);
    });
}

#[test]
fn what_a_thread_left_before_it_was_revoked_is_found_by_the_drain() {
    loom::model(|| {
        let shared = Arc::new((Guard::new(), Depot::new()));
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (guard, depot) = &*shared;
                let is_put = guard.enter(MAGAZINES).is_ok() && depot.put(&batch([1]), CELLS);
                (is_put, is_put && guard.leave())
            }
        });
        let (guard, depot) = &*shared;
        guard.revoke(MAGAZINES);
        heavy_fence();
        let mut found = Vec::new();
        let was_busy = guard.is_busy();
        depot.drain(|batch| found.extend(slots(&batch)));
        let (is_put, is_asked) = thread.join().unwrap();
        if is_put && !was_busy {
            assert_eq!(found, [1], "it is all there once nobody is busy");
        }
        assert!(!(is_put && was_busy) || is_asked, "who is busy hears of it");
    });
}

#[test]
fn a_batch_is_stale_or_taken_never_both() {
    loom::model(|| {
        let depot = Arc::new(Depot::new());
        assert!(depot.put(&batch([1, 2]), CELLS));
        let mut seen = Seen::default();
        depot.take_stale(&mut seen, |_| unreachable!("it was not seen before"));
        let taker = thread::spawn({
            let depot = Arc::clone(&depot);
            move || depot.take().iter().flat_map(slots).collect::<Vec<_>>()
        });
        let mut found = Vec::new();
        depot.take_stale(&mut seen, |batch| found.extend(slots(&batch)));
        found.extend(taker.join().unwrap());
        check_all(&depot, found, &[1, 2]);
    });
}
