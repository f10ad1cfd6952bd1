//! The removal of series that have been idle for too long.
//!
//! A series whose handle is held is never removed. One that is only looked up may be written to by a
//! thread that remembers it, so removal takes two steps: first the series is marked and the family
//! enters a new generation, so that nobody finds it without taking the mark away; then, when no
//! thread is in the midst of writing, it is removed, unless its value changed or somebody came for
//! it. Nothing that is recorded is lost.

use std::sync::atomic::Ordering;

use super::table::{Idle, Table};
use super::values::Cell;
use super::{SeriesSet, cache};
use crate::cells::Cells;
use crate::definition::Shape;
use crate::sync::{AtomicU64, lock, write};

/// Series that are looked at before the lock is let go for a moment: who looks a series up waits for
/// no more than these.
const SERIES_PER_LOCK: usize = 128;

impl SeriesSet {
    /// Removes the series that have been idle for the family's timeout; returns how many.
    pub(crate) fn expire(&self, now_ms: u64) -> usize {
        let mut removed = 0;
        self.expire_each(now_ms, |_| removed += 1);
        removed
    }

    /// As [`expire`](Self::expire); tells the last fingerprint of each series that is removed.
    fn expire_each(&self, now_ms: u64, removed: impl FnMut(u64)) {
        let Some(timeout) = self.definition.idle_timeout else { return };
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        // One at a time: what another marked after our look at the flags may be written to.
        let _alone = lock(&self.expiring);
        if self.mark_idle(now_ms, timeout_ms) && cache::is_nobody_busy() {
            self.remove_marked(now_ms, removed);
        }
    }

    /// Marks what is idle; true if anything is marked.
    fn mark_idle(&self, now_ms: u64, timeout_ms: u64) -> bool {
        let mut is_any_marked = false;
        self.for_each_position(|table, position| {
            let Some((idle, fingerprint)) = self.state(table, position) else { return };
            let is_changed = fingerprint != idle.fingerprint;
            // A clock that went back starts the wait anew: nobody knows how long it has been.
            let since_ms = if is_changed { now_ms } else { idle.since_ms.min(now_ms) };
            let is_over = now_ms - since_ms >= timeout_ms;
            let is_retiring = is_over && !is_changed && !table.is_held(position);
            is_any_marked |= is_retiring;
            table.set_idle(position, Idle { fingerprint, since_ms, is_retiring });
        });
        if is_any_marked {
            // What threads remember is right no longer. It suffices that this comes after the marks:
            // who finds a marked series takes the mark away, and may remember it in either
            // generation. Pairs with the load in `with_remembered`.
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        is_any_marked
    }

    fn remove_marked(&self, now_ms: u64, mut removed: impl FnMut(u64)) {
        self.for_each_position(|table, position| {
            let Some((idle, fingerprint)) = self.state(table, position) else { return };
            if !idle.is_retiring {
                return;
            }
            if fingerprint == idle.fingerprint && !table.is_held(position) {
                table.remove(position);
                self.exemplars.forget(position);
                removed(fingerprint);
            } else {
                let kept = Idle { fingerprint, since_ms: now_ms, is_retiring: false };
                table.set_idle(position, kept);
            }
        });
    }

    /// Runs `action` on all positions, a few at a time under the lock.
    fn for_each_position(&self, mut action: impl FnMut(&mut Table, u32)) {
        let mut from = 0;
        loop {
            let mut table = write(&self.table);
            let end = table.positions().min(from + SERIES_PER_LOCK);
            (from..end).for_each(|position| action(&mut table, position as u32));
            if end == table.positions() {
                return;
            }
            from = end;
        }
    }

    /// How idle a series is, and what it is worth now; `None` if there is none to remove.
    fn state(&self, table: &Table, position: u32) -> Option<(Idle, u64)> {
        let cell = table.row(position)?.cell?;
        let fingerprint = fingerprint(&self.shared.cells, &self.definition.shape, cell);
        Some((table.idle(position)?, fingerprint))
    }
}

/// A number that changes when something is recorded: the value, or the count of values.
fn fingerprint(cells: &Cells, shape: &Shape, cell: Cell<'_>) -> u64 {
    let bits: fn(&AtomicU64) -> u64 = |bits| bits.load(Ordering::Relaxed);
    match (cell, shape) {
        (Cell::Slot(slot), Shape::Classic(bounds)) => {
            let mut buckets = vec![0; bounds.buckets()];
            cells.read_block(slot, &mut buckets);
            buckets.into_iter().fold(0, u64::wrapping_add)
        }
        (Cell::Slot(slot), Shape::FloatCounter) => cells.sum_float(slot).to_bits(),
        (Cell::Slot(slot), _) => cells.sum(slot),
        (Cell::Gauge(gauge), _) => bits(gauge),
        (Cell::Exponential(series), _) => series.read().count(),
        (Cell::Summary(series), _) => series.distribution.read().count(),
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, UNIX_EPOCH};

    use crate::{Counter, Family, MetricsCollector};

    const TIMEOUT: Duration = Duration::from_millis(10);
    const INCREMENTS: u64 = if cfg!(miri) { 60 } else { 30_000 };

    /// Each call of its clock is a timeout later than the one before.
    fn hasty() -> (MetricsCollector, Family<Counter>) {
        let now_ms = AtomicU64::new(0);
        let step_ms = TIMEOUT.as_millis() as u64;
        let clock =
            move || UNIX_EPOCH + Duration::from_millis(now_ms.fetch_add(step_ms, Ordering::SeqCst));
        let metrics = MetricsCollector::builder().clock(clock).build().unwrap();
        let builder = metrics.counter("jobs_total", "Jobs.").labels(["by"]);
        let family = builder.idle_timeout(TIMEOUT).register().unwrap();
        (metrics, family)
    }

    /// What was counted is on the page or was in a series when that was removed: nothing is written
    /// to a series that is gone, or to one that took its place.
    #[test]
    fn what_is_looked_up_while_series_are_removed_is_all_accounted_for() {
        const LABELS: [&str; 5] = ["a", "b", "c", "d", "e"];
        const REMOVALS: u64 = if cfg!(miri) { 1 } else { 100 };
        let (metrics, family) = hasty();
        let set = metrics.sets().into_iter().find(|set| set.definition.name == "jobs_total");
        let set = set.unwrap();
        let is_done = AtomicBool::new(false);
        let (removed, removals) = (AtomicU64::new(0), AtomicU64::new(0));
        let remove = || {
            while !is_done.load(Ordering::SeqCst) {
                set.expire_each(set.shared.now_ms(), |count| {
                    removed.fetch_add(count, Ordering::SeqCst);
                    removals.fetch_add(1, Ordering::SeqCst);
                });
            }
        };
        let written: u64 = std::thread::scope(|scope| {
            let writers = [0, 1].map(|start| {
                let (family, removals) = (&family, &removals);
                scope.spawn(move || {
                    let mut n = 0;
                    while n < INCREMENTS || removals.load(Ordering::SeqCst) < REMOVALS {
                        family.inc(&[LABELS[(start + n as usize / 7) % LABELS.len()]]).unwrap();
                        n += 1;
                        if n % 7 == 0 {
                            std::thread::yield_now();
                        }
                    }
                    n
                })
            });
            // Two, since a sampler and the user may do it at once.
            scope.spawn(remove);
            scope.spawn(remove);
            let written = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
            is_done.store(true, Ordering::SeqCst);
            written
        });
        let left: u64 = LABELS.iter().map(|label| family.with(&[label]).unwrap().get()).sum();
        assert_eq!(removed.load(Ordering::SeqCst) + left, written);
    }

    #[test]
    fn a_series_that_is_looked_up_after_it_was_marked_stays() {
        let (metrics, family) = hasty();
        let set = metrics.sets().into_iter().find(|set| set.definition.name == "jobs_total");
        let set: Arc<super::SeriesSet> = set.unwrap();
        family.inc(&["a"]).unwrap();
        assert!(!set.mark_idle(1_000, 10), "it changed");
        assert!(set.mark_idle(1_010, 10));
        // The thread remembers it, but must not go by that.
        family.add(&["a"], 0).unwrap();
        set.remove_marked(1_010, |_| panic!("it was come for"));
        family.inc(&["a"]).unwrap();
        assert!(!set.mark_idle(1_020, 10), "it changed again");
        assert!(set.mark_idle(1_030, 10));
        let held = family.with(&["a"]).unwrap();
        set.remove_marked(1_030, |_| panic!("it is held"));
        assert_eq!(held.get(), 2);
    }

    #[test]
    fn series_that_come_and_go_take_the_room_of_those_that_are_there() {
        const ROUNDS: usize = if cfg!(miri) { 3 } else { 200 };
        let (metrics, family) = hasty();
        let sets = metrics.sets();
        let set = sets.iter().find(|set| set.definition.name == "jobs_total").unwrap();
        for round in 0..ROUNDS {
            (0..20).for_each(|n| family.inc(&[&format!("{round} {n}")]).unwrap());
            // Nobody scrapes. The first notes the values, the second sees that they are the same.
            let mut removed = 0;
            // More often if another test is in the midst of a look-up.
            while removed < 20 {
                removed += metrics.maintain();
            }
        }
        assert_eq!(super::write(&set.table).positions(), 20);
        // All slots were in the first group of cells, so they were used again.
        let (first, next) = (set.shared.dropped, set.shared.cells.allocate(1));
        assert!(next.to_raw() - first.to_raw() < 64, "{first:?} {next:?}");
    }
}
