//! From state to frames.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::table::{FamilyInfo, FamilyRow, Full, Row, SeriesView, Table};
use super::value::{self, Number};
use super::{
    FAMILIES_MAX, Frame, FrameKind, LABELS_MAX, MAGIC, SERIES_MAX, SYMBOL_BYTES_MAX, VERSION,
};
use crate::snapshot::Kind;
use crate::varint;

/// Why [`Encoder::add`] refused a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// The stream carries as much as it can.
    #[error(
        "stream is full: it carries at most {SERIES_MAX} series, {FAMILIES_MAX} families and \
         {SYMBOL_BYTES_MAX} bytes of text"
    )]
    Full,
    /// The series has too many labels.
    #[error("series has {count} labels, a stream carries at most {LABELS_MAX}")]
    Labels {
        /// How many it has.
        count: usize,
    },
}

impl From<Full> for AddError {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

/// Retired series before symbols nobody uses are looked for.
const COMPACTION_MIN: usize = 1024;

/// Holds the state that was told last, and makes frames of what is new.
///
/// [`add`](Self::add) and [`retire`](Self::retire) wait for the next [`tick`](Self::tick), so that a
/// key frame made in between is the state of a tick. See the [module](super) for an example.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    symbols: HashMap<Arc<str>, u32>,
    families: HashMap<FamilyRow, u32>,
    /// How many of the table's symbols and families frames have told.
    symbols_told: usize,
    families_told: usize,
    free: BTreeSet<u32>,
    /// One above the highest id given out.
    ids_end: u32,
    added: Vec<(u32, Row)>,
    retired: BTreeSet<u32>,
    /// Of series that wait in `added` themselves.
    retired_later: BTreeSet<u32>,
    /// Series retired since symbols were last looked through.
    retired_count: usize,
}

impl Encoder {
    /// Creates one without series.
    ///
    /// `epoch` tells the frames of different encoders apart; the time of creation in milliseconds
    /// will do.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self {
            table: Table::new(epoch, 0, 0),
            symbols: HashMap::new(),
            families: HashMap::new(),
            symbols_told: 0,
            families_told: 0,
            free: BTreeSet::new(),
            ids_end: 0,
            added: Vec::new(),
            retired: BTreeSet::new(),
            retired_later: BTreeSet::new(),
            retired_count: 0,
        }
    }

    /// Announces a series with the next tick, and returns its id.
    ///
    /// That no other series has the same name and labels is up to the caller.
    ///
    /// # Errors
    /// [`AddError`], if the stream cannot carry it.
    pub fn add<'a>(
        &mut self,
        family: FamilyInfo<'_>,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        value: Number,
    ) -> Result<u32, AddError> {
        if self.free.is_empty() && self.ids_end as usize == SERIES_MAX {
            return Err(AddError::Full);
        }
        let row = match self.row(family, labels, value) {
            Ok(row) => row,
            Err(error) => {
                // Texts that nobody uses may be in the way: the next tick looks for them.
                self.retired_count = self.retired_count.saturating_mul(SERIES_MAX);
                return Err(error);
            }
        };
        let id = self.free.pop_first().unwrap_or_else(|| {
            self.ids_end += 1;
            self.ids_end - 1
        });
        self.added.push((id, row));
        Ok(id)
    }

    /// Ends a series with the next tick; one that was not yet told, with the tick after.
    ///
    /// Its id may be given to another series then. An id that is not in use is passed over.
    pub fn retire(&mut self, id: u32) {
        if self.table.view(id).is_some() {
            self.retired.insert(id);
        } else if self.added.iter().any(|(added, _)| *added == id) {
            self.retired_later.insert(id);
        }
    }

    /// Makes the frame of what changed since the last tick: a delta frame, and now and then a key
    /// frame, when texts that no series uses any more are dropped.
    ///
    /// `values` need not name every series; those that it does not name, or names with the value they
    /// have, cost nothing. Ids that are not in use are passed over.
    ///
    /// Takes time in proportion to `values` and to what was added and retired.
    pub fn tick(&mut self, time_ms: i64, values: &[(u32, Number)]) -> Frame {
        self.table.sequence += 1;
        self.table.time_ms = time_ms;
        let mut retired: Vec<u32> = std::mem::take(&mut self.retired).into_iter().collect();
        for id in &retired {
            self.table.take_row(*id as usize);
        }
        let mut added = self.put_added();
        let changed = self.put_values(values, &mut retired, &mut added);
        let mut bytes = self.header(FrameKind::Delta);
        self.put_delta(&mut bytes, &retired, &added, &changed);

        self.symbols_told = self.table.symbols().len();
        self.families_told = self.table.families().len();
        let ended = retired.into_iter().filter(|id| added.binary_search(id).is_err());
        let ended: Vec<u32> = ended.collect();
        self.retired_count = self.retired_count.saturating_add(ended.len());
        self.free.extend(ended);
        self.retired = std::mem::take(&mut self.retired_later);
        if self.retired_count >= COMPACTION_MIN.max(self.ids_end as usize - self.free.len()) {
            self.compact();
            return self.key_frame();
        }
        Frame { kind: FrameKind::Delta, sequence: self.table.sequence, bytes }
    }

    /// Makes a frame of the whole state as of the last tick.
    #[must_use]
    pub fn key_frame(&self) -> Frame {
        let mut bytes = self.header(FrameKind::Key);
        put_symbols(&mut bytes, &self.table.symbols()[..self.symbols_told]);
        put_families(&mut bytes, &self.table.families()[..self.families_told]);
        varint::put(&mut bytes, self.table.rows().len() as u64);
        for row in self.table.rows() {
            match row {
                Some(row) => put_row(&mut bytes, row),
                None => bytes.push(0),
            }
        }
        Frame { kind: FrameKind::Key, sequence: self.table.sequence, bytes }
    }

    /// The series as of the last tick, by ascending id.
    pub fn series(&self) -> impl Iterator<Item = SeriesView<'_>> {
        self.table.views()
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Moves what waits in `added` to the table; returns the ids, ascending.
    fn put_added(&mut self) -> Vec<u32> {
        self.added.sort_by_key(|(id, _)| *id);
        let mut ids = Vec::with_capacity(self.added.len());
        for (id, row) in self.added.drain(..) {
            let is_put = self.table.put_row(id as usize, row);
            assert!(is_put, "ids are given out without gaps and once each, got {id}");
            ids.push(id);
        }
        ids
    }

    /// Takes over the values; returns the ids of the series that changed with their old values,
    /// ascending. A series that changed its type ends and begins again.
    fn put_values(
        &mut self,
        values: &[(u32, Number)],
        retired: &mut Vec<u32>,
        added: &mut Vec<u32>,
    ) -> Vec<(u32, Number)> {
        let mut changed = Vec::new();
        for &(id, value) in values {
            let Some(row) = self.table.row_mut(id as usize) else {
                continue;
            };
            if row.value != value {
                changed.push((id, std::mem::replace(&mut row.value, value)));
            }
        }
        // The sort is stable, so that of several values the oldest stays to be compared with.
        changed.sort_by_key(|(id, _)| *id);
        changed.dedup_by_key(|(id, _)| *id);
        let rows = self.table.rows();
        let value_now =
            |id: u32| rows[id as usize].as_ref().map_or(Number::Whole(0), |row| row.value);
        changed.retain(|(id, old)| added.binary_search(id).is_err() && *old != value_now(*id));
        let retyped = changed.iter().filter(|(id, old)| !old.is_like(value_now(*id)));
        let retyped: Vec<u32> = retyped.map(|(id, _)| *id).collect();
        if !retyped.is_empty() {
            changed.retain(|(id, _)| retyped.binary_search(id).is_err());
            for ids in [retired, added] {
                ids.extend_from_slice(&retyped);
                ids.sort_unstable();
            }
        }
        changed
    }

    fn header(&self, kind: FrameKind) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        out.push(match kind {
            FrameKind::Key => 0,
            FrameKind::Delta => 1,
        });
        varint::put(&mut out, self.table.epoch);
        varint::put(&mut out, self.table.sequence);
        varint::put(&mut out, varint::zigzag(self.table.time_ms));
        out
    }

    fn put_delta(
        &self,
        out: &mut Vec<u8>,
        retired: &[u32],
        added: &[u32],
        changed: &[(u32, Number)],
    ) {
        let row = |id: u32| self.table.rows()[id as usize].as_ref();
        put_ids(out, retired, |id| *id, |_, _| ());
        put_symbols(out, &self.table.symbols()[self.symbols_told..]);
        put_families(out, &self.table.families()[self.families_told..]);
        put_ids(
            out,
            added,
            |id| *id,
            |out, id| row(*id).into_iter().for_each(|row| put_row(out, row)),
        );
        put_ids(
            out,
            changed,
            |(id, _)| *id,
            |out, (id, old)| {
                row(*id).into_iter().for_each(|row| value::put_change(out, *old, row.value));
            },
        );
    }

    fn intern(&mut self, text: &str) -> Result<u32, Full> {
        if let Some(index) = self.symbols.get(text) {
            return Ok(*index);
        }
        let text: Arc<str> = Arc::from(text);
        let index = self.table.push_symbol(Arc::clone(&text))?;
        self.symbols.insert(text, index);
        Ok(index)
    }

    fn intern_family(&mut self, family: FamilyInfo<'_>) -> Result<u32, Full> {
        let row = FamilyRow {
            name: self.intern(family.name)?,
            help: self.intern(family.help)?,
            unit: family.unit.map(|unit| self.intern(unit)).transpose()?,
            kind: family.kind,
        };
        if let Some(index) = self.families.get(&row) {
            return Ok(*index);
        }
        let index = self.table.push_family(row)?;
        self.families.insert(row, index);
        Ok(index)
    }

    /// Numbers symbols and families anew, leaving out those that no series uses; ids stay.
    fn compact(&mut self) {
        let old = std::mem::take(&mut self.table);
        self.table = Table::new(old.epoch.wrapping_add(1), old.sequence, old.time_ms);
        self.symbols.clear();
        self.families.clear();
        let end = old.rows().iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        for id in 0..end {
            match old.view(id as u32) {
                Some(series) => {
                    let row = self.row(series.family, series.labels(), series.value);
                    let row = row.expect("what the stream carried before fits again");
                    self.table.put_row(id, row);
                }
                None => self.table.push_hole(),
            }
        }
        self.ids_end = end as u32;
        self.free.split_off(&self.ids_end);
        self.symbols_told = self.table.symbols().len();
        self.families_told = self.table.families().len();
        self.retired_count = 0;
    }

    fn row<'a>(
        &mut self,
        family: FamilyInfo<'_>,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        value: Number,
    ) -> Result<Row, AddError> {
        let mut symbols = Vec::new();
        for (name, text) in labels {
            symbols.push((self.intern(name)?, self.intern(text)?));
        }
        if symbols.len() > LABELS_MAX {
            return Err(AddError::Labels { count: symbols.len() });
        }
        let family = self.intern_family(family)?;
        Ok(Row { family, labels: symbols.into_boxed_slice(), value })
    }
}

fn put_ids<T>(
    out: &mut Vec<u8>,
    items: &[T],
    id: impl Fn(&T) -> u32,
    put_item: impl Fn(&mut Vec<u8>, &T),
) {
    varint::put(out, items.len() as u64);
    let mut next = 0;
    for item in items {
        varint::put(out, u64::from(id(item) - next));
        next = id(item) + 1;
        put_item(out, item);
    }
}

fn put_symbols(out: &mut Vec<u8>, symbols: &[Arc<str>]) {
    varint::put(out, symbols.len() as u64);
    for symbol in symbols {
        varint::put(out, symbol.len() as u64);
        out.extend_from_slice(symbol.as_bytes());
    }
}

fn put_families(out: &mut Vec<u8>, families: &[FamilyRow]) {
    varint::put(out, families.len() as u64);
    for family in families {
        varint::put(out, u64::from(family.name));
        varint::put(out, u64::from(family.help));
        varint::put(out, family.unit.map_or(0, |unit| u64::from(unit) + 1));
        out.push(match family.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Histogram => 2,
            Kind::Summary => 3,
        });
    }
}

fn put_row(out: &mut Vec<u8>, row: &Row) {
    varint::put(out, u64::from(row.family) + 1);
    varint::put(out, row.labels.len() as u64);
    for (name, text) in &row.labels {
        varint::put(out, u64::from(*name));
        varint::put(out, u64::from(*text));
    }
    value::put_value(out, row.value);
}
