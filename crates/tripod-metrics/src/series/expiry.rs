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
use crate::sync::{AtomicU64, write};

impl SeriesSet {
    /// Removes the series that have been idle for the family's timeout; returns how many.
    pub(crate) fn expire(&self, now_ms: u64) -> usize {
        let Some(timeout) = self.definition.idle_timeout else {
            return 0;
        };
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        if !self.mark_idle(now_ms, timeout_ms) {
            return 0;
        }
        if cache::is_nobody_busy() { self.remove_marked(now_ms) } else { 0 }
    }

    /// Marks what is idle; true if anything is marked.
    fn mark_idle(&self, now_ms: u64, timeout_ms: u64) -> bool {
        let mut table = write(&self.table);
        let mut is_any_marked = false;
        for position in 0..table.positions() as u32 {
            let Some((idle, fingerprint)) = self.state(&table, position) else { continue };
            let is_changed = fingerprint != idle.fingerprint;
            let since_ms = if is_changed { now_ms } else { idle.since_ms };
            let is_over = now_ms.saturating_sub(since_ms) >= timeout_ms;
            let is_retiring = is_over && !is_changed && !table.is_held(position);
            is_any_marked |= is_retiring;
            table.set_idle(position, Idle { fingerprint, since_ms, is_retiring });
        }
        if is_any_marked {
            // What threads remember is right no longer. Pairs with the load in `with_remembered`.
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        is_any_marked
    }

    fn remove_marked(&self, now_ms: u64) -> usize {
        let mut table = write(&self.table);
        let mut removed = 0;
        for position in 0..table.positions() as u32 {
            let Some((idle, fingerprint)) = self.state(&table, position) else { continue };
            if !idle.is_retiring {
                continue;
            }
            if fingerprint == idle.fingerprint && !table.is_held(position) {
                table.remove(position);
                self.exemplars.forget(position);
                removed += 1;
            } else {
                let kept = Idle { fingerprint, since_ms: now_ms, is_retiring: false };
                table.set_idle(position, kept);
            }
        }
        removed
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
