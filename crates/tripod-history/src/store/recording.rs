//! The newest rows, as they are appended, and the slots that series have in them.
//!
//! All of it is behind the one lock that [`append`](super::Store::append) takes, so nothing here
//! reads a file, compresses, or takes longer than a copy of the values.
//!
//! Time: rows ascend. A tick that is not after the newest one is dropped and counted, unless the
//! clock has gone back by more than [`JUMP_MS`]: then it is taken as a clock that was set right, and
//! the tick begins a new stretch. Where stretches overlap in time, the newer one is what counts.
//!
//! A slot whose series is retired is given to another one only after every row that used it has
//! left; until then it is in `limbo`.

use std::collections::HashMap;
use std::sync::Arc;

use super::column::{Column, ColumnId, ColumnKind, Table};
use super::row::{Row, Rows};
use crate::labels::Labels;
use crate::source::STALE_NAN;

/// A clock that goes back by no more than this is waited for.
const JUMP_MS: i64 = 60_000;

/// Why [`Store::append`](super::Store::append) did not take a tick. The store goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The clock stood still or went back a little.
    #[error("the tick at {time_ms} ms is not after the one before, at {newest_ms} ms")]
    NotAfter {
        /// The time of the tick.
        time_ms: i64,
        /// The time of the newest tick.
        newest_ms: i64,
    },
    /// The rows that are not in a block yet fill the memory: `maintain` is not called, or too slow.
    #[error("the ticks not yet in a block take {bytes} bytes, and the limit is {limit_bytes}")]
    OverMemory {
        /// What they take.
        bytes: usize,
        /// `memory_bytes_max` of the configuration.
        limit_bytes: usize,
    },
}

/// What [`Recording`] has counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) ticks: u64,
    pub(super) samples: u64,
    pub(super) ticks_dropped: u64,
    pub(super) samples_of_retired: u64,
    pub(super) clock_jumps: u64,
}

#[derive(Debug, Default)]
pub(super) struct Recording {
    table: Table,
    generations: Vec<u32>,
    by_labels: HashMap<Arc<Labels>, ColumnId>,
    free: Vec<u32>,
    limbo: Vec<u32>,
    rows: Vec<Arc<Row>>,
    /// The markers of series retired since the newest tick, which come after it.
    markers: Option<Markers>,
    rows_bytes: usize,
    /// The time of the newest row, also after it has left.
    newest_ms: Option<i64>,
    entries: Vec<(u32, f64)>,
    pub(super) counts: Counts,
}

#[derive(Debug)]
struct Markers {
    time_ms: i64,
    entries: Vec<(u32, f64)>,
}

impl Markers {
    fn row(&self, width: usize) -> Row {
        Row::new(self.time_ms, width, &self.entries)
    }
}

/// How far a [`Recording`] was copied, for [`Recording::forget`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    rows: usize,
    limbo: usize,
}

impl Recording {
    /// Gives a series a slot, or the one it has.
    pub(super) fn column(&mut self, labels: Arc<Labels>, kind: ColumnKind) -> ColumnId {
        if let Some(known) = self.by_labels.get(&labels) {
            return *known;
        }
        let table = Arc::make_mut(&mut self.table);
        let column = Some(Column { labels: Arc::clone(&labels), kind });
        let slot = match self.free.pop() {
            Some(slot) => {
                table[slot as usize] = column;
                slot
            }
            None => {
                table.push(column);
                self.generations.push(0);
                table.len() as u32 - 1
            }
        };
        let id = ColumnId { slot, generation: self.generations[slot as usize] };
        self.by_labels.insert(labels, id);
        id
    }

    pub(super) fn columns(&self) -> usize {
        self.by_labels.len()
    }

    /// How much the rows take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let markers = self.markers.as_ref().map_or(0, |markers| markers.entries.len() * 16);
        self.rows_bytes + markers
    }

    pub(super) fn row_count(&self) -> usize {
        self.rows.len() + usize::from(self.markers.is_some())
    }

    fn is_current(&self, id: ColumnId) -> bool {
        self.generations.get(id.slot as usize) == Some(&id.generation)
    }

    pub(super) fn append(
        &mut self,
        time_ms: i64,
        points: &[(ColumnId, f64)],
        limit_bytes: usize,
    ) -> Result<(), AppendError> {
        if let Err(error) = self.admit(time_ms, limit_bytes) {
            self.counts.ticks_dropped += 1;
            return Err(error);
        }
        self.entries.clear();
        match self.markers.take() {
            // The series ended at this very tick: then it is one row.
            Some(markers) if markers.time_ms == time_ms => {
                self.entries.extend_from_slice(&markers.entries);
            }
            Some(markers) => self.push(markers.row(self.table.len())),
            None => {}
        }
        let mut entries = std::mem::take(&mut self.entries);
        let markers = entries.len();
        entries.extend(
            points
                .iter()
                .filter(|(id, _)| self.is_current(*id))
                .map(|(id, value)| (id.slot, *value)),
        );
        let taken = entries.len() - markers;
        self.counts.ticks += 1;
        self.counts.samples += taken as u64;
        self.counts.samples_of_retired += (points.len() - taken) as u64;
        if !entries.is_empty() {
            self.push(Row::new(time_ms, self.table.len(), &entries));
        }
        self.entries = entries;
        Ok(())
    }

    fn admit(&mut self, time_ms: i64, limit_bytes: usize) -> Result<(), AppendError> {
        let bytes = self.bytes();
        if bytes >= limit_bytes {
            return Err(AppendError::OverMemory { bytes, limit_bytes });
        }
        let Some(newest_ms) = self.newest_ms else { return Ok(()) };
        // A marker stands after the newest row; a tick in between moves it rather than being lost.
        if time_ms > newest_ms {
            if let Some(markers) = &mut self.markers {
                markers.time_ms = markers.time_ms.min(time_ms);
            }
            return Ok(());
        }
        if newest_ms.saturating_sub(time_ms) <= JUMP_MS {
            return Err(AppendError::NotAfter { time_ms, newest_ms });
        }
        self.counts.clock_jumps += 1;
        Ok(())
    }

    fn push(&mut self, row: Row) {
        self.newest_ms = Some(row.time_ms);
        self.rows_bytes += row.bytes();
        self.rows.push(Arc::new(row));
    }

    /// Ends a series with a marker at `time_ms`, or 1 ms after the newest row if that is later.
    pub(super) fn retire(&mut self, id: ColumnId, time_ms: i64) -> bool {
        if !self.is_current(id) {
            return false;
        }
        let earliest =
            self.newest_ms.map_or(time_ms, |newest| newest.saturating_add(1).max(time_ms));
        let markers =
            self.markers.get_or_insert_with(|| Markers { time_ms: earliest, entries: Vec::new() });
        markers.entries.push((id.slot, STALE_NAN));
        if let Some(column) = &self.table[id.slot as usize] {
            self.by_labels.remove(&column.labels);
        }
        self.generations[id.slot as usize] = id.generation.wrapping_add(1);
        self.limbo.push(id.slot);
        true
    }

    /// Copies the rows, and the markers that wait for the next tick.
    pub(super) fn view(&self) -> Rows {
        let mut rows = self.rows.clone();
        rows.extend(self.markers.as_ref().map(|markers| Arc::new(markers.row(self.table.len()))));
        Rows { table: Arc::clone(&self.table), rows }
    }

    /// Copies the rows that will not change any more, to be put into a block.
    pub(super) fn sealed(&mut self, with_markers: bool) -> (Rows, Mark) {
        if with_markers && let Some(markers) = self.markers.take() {
            self.push(markers.row(self.table.len()));
        }
        // What is in limbo with a marker that still waits is needed for longer.
        let waiting = self.markers.as_ref().map_or(0, |markers| markers.entries.len());
        let rows = Rows { table: Arc::clone(&self.table), rows: self.rows.clone() };
        (rows, Mark { rows: self.rows.len(), limbo: self.limbo.len() - waiting })
    }

    /// Drops what was copied, which has a block now, and returns it so that it is freed elsewhere.
    pub(super) fn forget(&mut self, mark: Mark) -> Vec<Arc<Row>> {
        let gone: Vec<_> = self.rows.drain(..mark.rows).collect();
        self.rows_bytes -= gone.iter().map(|row| row.bytes()).sum::<usize>();
        if mark.limbo > 0 {
            let table = Arc::make_mut(&mut self.table);
            for slot in self.limbo.drain(..mark.limbo) {
                table[slot as usize] = None;
                self.free.push(slot);
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests;
