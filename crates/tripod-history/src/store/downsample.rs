//! Coarser points from finer ones.
//!
//! Time is cut into intervals that end at whole multiples of the step, so that a point at exactly
//! such a time is the last of its interval. Points that are kept stay as they were, value and time:
//! - of each series the last point of each interval, and a stale marker that comes after it;
//! - of a cumulative series also the points before and after each reset, its first one, and those
//!   around a marker. So the growth between any two points that are kept is what it was.
//!
//! Rows of an interval come out when a row of another one comes in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::column::{Column, ColumnKind, Table};
use super::row::{Row, Rows};
use super::span::Span;
use crate::source::is_stale;

#[derive(Debug)]
pub(super) struct Downsampler {
    step_ms: i64,
    /// The interval that is being filled.
    interval: Option<i64>,
    states: Vec<State>,
    table: Table,
    slots: HashMap<usize, u32>,
    free: Vec<u32>,
    /// How often [`Downsampler::drain`] was called, to tell which series are gone.
    drains: u64,
    /// Points of this interval that are kept whatever comes.
    kept: Vec<(i64, u32, f64)>,
    out: Vec<Arc<Row>>,
}

#[derive(Debug, Clone)]
struct State {
    kind: ColumnKind,
    last: Option<(i64, f64)>,
    /// Whether `last` is kept already.
    last_kept: bool,
    marker_ms: Option<i64>,
    /// Whether the series has ended with a marker.
    ended: bool,
    drains: u64,
}

impl State {
    fn new(kind: ColumnKind, drains: u64) -> Self {
        Self { kind, last: None, last_kept: true, marker_ms: None, ended: false, drains }
    }

    /// Takes a point, and reports those that have to be kept at once.
    fn push(&mut self, time_ms: i64, value: f64, mut keep: impl FnMut(i64, f64)) {
        if is_stale(value) {
            if self.last.is_some_and(|(last_ms, _)| last_ms == time_ms) && !self.ended {
                // The series was registered anew in the tick in which it was retired.
                return;
            }
            self.marker_ms = Some(time_ms);
            self.ended = true;
            return;
        }
        let marker_ms = self.marker_ms.take();
        let mut kept = false;
        if self.kind == ColumnKind::Cumulative {
            let reset = self.last.is_none_or(|(_, last)| value < last);
            if reset || self.ended {
                if let Some((time_ms, last)) = self.last
                    && !self.last_kept
                {
                    keep(time_ms, last);
                }
                if let Some(marker_ms) = marker_ms {
                    keep(marker_ms, crate::STALE_NAN);
                }
                keep(time_ms, value);
                kept = true;
            }
        }
        self.last = Some((time_ms, value));
        self.last_kept = kept;
        self.ended = false;
    }

    /// Ends an interval, and reports what else is kept of it.
    fn close(&mut self, mut keep: impl FnMut(i64, f64)) {
        if let Some((time_ms, value)) = self.last
            && !self.last_kept
        {
            keep(time_ms, value);
        }
        if let Some(marker_ms) = self.marker_ms.take() {
            keep(marker_ms, crate::STALE_NAN);
        }
        self.last_kept = true;
    }
}

impl Downsampler {
    pub(super) fn new(step_ms: i64) -> Self {
        Self {
            step_ms,
            interval: None,
            states: Vec::new(),
            table: Table::default(),
            slots: HashMap::new(),
            free: Vec::new(),
            drains: 0,
            kept: Vec::new(),
            out: Vec::new(),
        }
    }

    /// The whole intervals that rows from `first_ms` to `last_ms` are of.
    pub(super) fn covers(step_ms: i64, first_ms: i64, last_ms: i64) -> Span {
        let end = |time_ms| interval(step_ms, time_ms).saturating_add(1).saturating_mul(step_ms);
        Span::new(
            end(first_ms).saturating_sub(step_ms - 1).min(first_ms),
            end(last_ms).max(last_ms),
        )
    }

    /// Takes rows, in the order of their recording.
    pub(super) fn feed(&mut self, rows: &Rows) {
        let slots = self.slots_of(&rows.table);
        for row in &rows.rows {
            let interval = interval(self.step_ms, row.time_ms);
            match self.interval {
                Some(current) if current == interval => {}
                Some(current) => {
                    self.close();
                    if interval < current {
                        // Another stretch of time: what came before says nothing about it.
                        self.states.iter_mut().for_each(|state| state.last = None);
                    }
                }
                None => {}
            }
            self.interval = Some(interval);
            let (states, kept) = (&mut self.states, &mut self.kept);
            row.for_each(|slot, value| {
                let own = slots[slot as usize];
                if let Some(state) = states.get_mut(own as usize) {
                    state.push(row.time_ms, value, |time, value| kept.push((time, own, value)));
                }
            });
        }
    }

    /// For each slot of a table the slot here, or `u32::MAX` for an empty one.
    fn slots_of(&mut self, table: &Table) -> Vec<u32> {
        table.iter().map(|column| column.as_ref().map_or(u32::MAX, |own| self.slot(own))).collect()
    }

    fn slot(&mut self, column: &Column) -> u32 {
        if let Some(&slot) = self.slots.get(&column.key()) {
            self.states[slot as usize].drains = self.drains;
            return slot;
        }
        let table = Arc::make_mut(&mut self.table);
        let state = State::new(column.kind, self.drains);
        let slot = match self.free.pop() {
            Some(slot) => {
                table[slot as usize] = Some(column.clone());
                self.states[slot as usize] = state;
                slot
            }
            None => {
                table.push(Some(column.clone()));
                self.states.push(state);
                self.states.len() as u32 - 1
            }
        };
        self.slots.insert(column.key(), slot);
        slot
    }

    /// Ends the current interval: its points become rows.
    fn close(&mut self) {
        let mut by_time: BTreeMap<i64, Vec<(u32, f64)>> = BTreeMap::new();
        for (time_ms, slot, value) in self.kept.drain(..) {
            by_time.entry(time_ms).or_default().push((slot, value));
        }
        for (slot, state) in self.states.iter_mut().enumerate() {
            state.close(|time_ms, value| {
                by_time.entry(time_ms).or_default().push((slot as u32, value));
            });
        }
        let width = self.states.len();
        let rows = by_time.into_iter().map(|(time, entries)| Row::new(time, width, &entries));
        self.out.extend(rows.map(Arc::new));
    }

    /// The time of the oldest row that waits for [`Downsampler::drain`].
    pub(super) fn waiting_since(&self) -> Option<i64> {
        self.out.first().map(|row| row.time_ms)
    }

    pub(super) fn waiting_rows(&self) -> usize {
        self.out.len()
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.out.iter().map(|row| row.bytes()).sum()
    }

    /// Takes the rows that are ready. The interval that is being filled stays.
    pub(super) fn drain(&mut self) -> Rows {
        let rows = Rows { table: Arc::clone(&self.table), rows: std::mem::take(&mut self.out) };
        self.drains += 1;
        self.forget_ended();
        rows
    }

    /// Frees the slots of series that have not been there for two drains.
    fn forget_ended(&mut self) {
        let gone = |state: &State| {
            state.drains + 2 < self.drains && state.last_kept && state.marker_ms.is_none()
        };
        let slots: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| gone(&self.states[**slot as usize]))
            .map(|(key, slot)| (*key, *slot))
            .collect();
        // Points that are kept but not yet a row still name their slot.
        if slots.is_empty() || !self.kept.is_empty() {
            return;
        }
        let table = Arc::make_mut(&mut self.table);
        for (key, slot) in slots {
            self.slots.remove(&key);
            table[slot as usize] = None;
            // Until it is used again, such a slot has nothing to say.
            self.states[slot as usize] = State::new(ColumnKind::Gauge, self.drains);
            self.free.push(slot);
        }
    }
}

fn interval(step_ms: i64, time_ms: i64) -> i64 {
    time_ms.saturating_sub(1).div_euclid(step_ms)
}

#[cfg(test)]
mod tests;
