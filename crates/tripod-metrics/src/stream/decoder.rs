//! From frames to state.

use std::sync::Arc;

use super::read::{Ids, Malformed, Reader};
use super::table::{FamilyRow, Row, SeriesView, Table};
use super::value::{self, Number};
use super::{FrameKind, LABELS_MAX, MAGIC, SERIES_MAX, VERSION};
use crate::snapshot::Kind;
use crate::varint;

/// Why a frame was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not of this stream, or of a version that came later.
    #[error("not a frame of the metrics stream, version {VERSION}")]
    Foreign,
    /// A delta frame came before the first key frame, or after a frame that could not be read.
    #[error("delta frame {sequence} came without a key frame before it, ask for one")]
    KeyFrameMissing {
        /// Of the frame.
        sequence: u64,
    },
    /// Frames are missing before this one; the state stays as it was, and is old.
    #[error("frame {found} came where {expected} was due, ask for a key frame")]
    Gap {
        /// The sequence number that was due.
        expected: u64,
        /// That of the frame; a frame of another encoder may have any.
        found: u64,
    },
    /// The frame contradicts the format or the state.
    #[error("frame is malformed at byte {offset}: {problem}")]
    Malformed {
        /// Where in the frame.
        offset: usize,
        /// What is wrong there.
        problem: &'static str,
    },
}

impl From<Malformed> for DecodeError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed { offset: malformed.offset, problem: malformed.problem }
    }
}

/// Holds the state that the frames applied so far describe.
///
/// See the [module](super) for an example.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table,
    in_step: bool,
    changed: Vec<u32>,
}

impl Decoder {
    /// Creates one that waits for its first key frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one frame.
    ///
    /// A delta frame whose state is reached already is passed over; this happens when a key frame
    /// was made after the delta frame was queued.
    ///
    /// # Errors
    /// After any error but [`DecodeError::Foreign`] of a delta frame the decoder waits for a key
    /// frame ([`needs_key_frame`](Self::needs_key_frame)). The state stays what it was, except that
    /// a malformed delta frame leaves it empty. A key frame that is refused changes nothing.
    pub fn apply(&mut self, frame: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(frame);
        let header = read_header(&mut reader)?;
        match header.kind {
            FrameKind::Key => {
                self.table = read_key_frame(&mut reader, &header)?;
                self.changed = self.table.views().map(|series| series.id).collect();
                self.in_step = true;
                Ok(())
            }
            FrameKind::Delta => self.apply_delta(&mut reader, &header),
        }
    }

    fn apply_delta(&mut self, reader: &mut Reader<'_>, header: &Header) -> Result<(), DecodeError> {
        let found = header.sequence;
        if !self.in_step {
            return Err(DecodeError::KeyFrameMissing { sequence: found });
        }
        let expected = self.table.sequence.wrapping_add(1);
        if header.epoch == self.table.epoch && found < expected {
            return Ok(());
        }
        if header.epoch != self.table.epoch || found != expected {
            self.in_step = false;
            return Err(DecodeError::Gap { expected, found });
        }
        self.changed.clear();
        if let Err(malformed) = read_delta(reader, &mut self.table, &mut self.changed) {
            *self = Self::default();
            return Err(malformed.into());
        }
        self.table.sequence = header.sequence;
        self.table.time_ms = header.time_ms;
        Ok(())
    }

    /// Whether only a key frame can be applied now.
    #[must_use]
    pub fn needs_key_frame(&self) -> bool {
        !self.in_step
    }

    /// The time of the last frame, in milliseconds since 1970; 0 before the first.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        self.table.time_ms
    }

    /// The sequence number of the last frame; 0 before the first.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.table.sequence
    }

    /// The series with this id.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<SeriesView<'_>> {
        self.table.view(id)
    }

    /// All series, by ascending id.
    pub fn series(&self) -> impl Iterator<Item = SeriesView<'_>> {
        self.table.views()
    }

    /// The ids that the last frame retired, added or changed, all of them after a key frame.
    ///
    /// An id may be there more than once; one that [`get`](Self::get) does not know has ended.
    #[must_use]
    pub fn changed(&self) -> &[u32] {
        &self.changed
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }
}

struct Header {
    kind: FrameKind,
    epoch: u64,
    sequence: u64,
    time_ms: i64,
}

fn read_header(reader: &mut Reader<'_>) -> Result<Header, DecodeError> {
    let start = reader.bytes(MAGIC.len() + 1).map_err(|_| DecodeError::Foreign)?;
    if start[..MAGIC.len()] != MAGIC[..] || start[MAGIC.len()] != VERSION {
        return Err(DecodeError::Foreign);
    }
    let kind = match reader.byte()? {
        0 => FrameKind::Key,
        1 => FrameKind::Delta,
        _ => return Err(reader.malformed("unknown kind of frame").into()),
    };
    let (epoch, sequence) = (reader.varint()?, reader.varint()?);
    Ok(Header { kind, epoch, sequence, time_ms: varint::unzigzag(reader.varint()?) })
}

fn read_key_frame(reader: &mut Reader<'_>, header: &Header) -> Result<Table, Malformed> {
    let mut table = Table::new(header.epoch, header.sequence, header.time_ms);
    read_symbols(reader, &mut table)?;
    read_families(reader, &mut table)?;
    let slots = reader.count()?;
    if slots > SERIES_MAX {
        return Err(reader.malformed("more series than a stream carries"));
    }
    for id in 0..slots {
        if reader.peek()? == 0 {
            reader.byte()?;
            table.push_hole();
        } else {
            let row = read_row(reader, &table)?;
            table.put_row(id, row);
        }
    }
    reader.end()?;
    Ok(table)
}

fn read_delta(
    reader: &mut Reader<'_>,
    table: &mut Table,
    changed: &mut Vec<u32>,
) -> Result<(), Malformed> {
    let mut ids = Ids::default();
    for _ in 0..reader.count()? {
        let id = ids.read(reader, table.rows().len())?;
        if table.take_row(id).is_none() {
            return Err(reader.malformed("a series ends that was not there"));
        }
        changed.push(id as u32);
    }
    read_symbols(reader, table)?;
    read_families(reader, table)?;
    let mut ids = Ids::default();
    for _ in 0..reader.count()? {
        let id = ids.read(reader, table.rows().len() + 1)?;
        let row = read_row(reader, table)?;
        if !table.put_row(id, row) {
            return Err(reader.malformed("a new series has an id that is taken, or too high"));
        }
        changed.push(id as u32);
    }
    let mut ids = Ids::default();
    for _ in 0..reader.count()? {
        let id = ids.read(reader, table.rows().len())?;
        let Some(row) = table.row_mut(id) else {
            return Err(reader.malformed("a series changes that is not there"));
        };
        row.value = value::read_change(reader, row.value)?;
        changed.push(id as u32);
    }
    reader.end()
}

fn read_symbols(reader: &mut Reader<'_>, table: &mut Table) -> Result<(), Malformed> {
    for _ in 0..reader.count()? {
        let text = Arc::from(reader.text()?);
        if table.push_symbol(text).is_err() {
            return Err(reader.malformed("more bytes of text than a stream carries"));
        }
    }
    Ok(())
}

fn read_families(reader: &mut Reader<'_>, table: &mut Table) -> Result<(), Malformed> {
    for _ in 0..reader.count()? {
        let name = read_symbol(reader, table)?;
        let help = read_symbol(reader, table)?;
        let unit = reader.index(table.symbols().len() + 1, "an unknown symbol")?;
        let kind = match reader.byte()? {
            0 => Kind::Counter,
            1 => Kind::Gauge,
            2 => Kind::Histogram,
            3 => Kind::Summary,
            _ => return Err(reader.malformed("unknown kind of family")),
        };
        let unit = unit.checked_sub(1).map(|unit| unit as u32);
        if table.push_family(FamilyRow { name, help, unit, kind }).is_err() {
            return Err(reader.malformed("more families than a stream carries"));
        }
    }
    Ok(())
}

fn read_row(reader: &mut Reader<'_>, table: &Table) -> Result<Row, Malformed> {
    let family = reader.index(table.families().len() + 1, "an unknown family")?;
    let Some(family) = family.checked_sub(1) else {
        return Err(reader.malformed("a series without a family"));
    };
    let count = reader.count()?;
    if count > LABELS_MAX {
        return Err(reader.malformed("more labels than a series has"));
    }
    let mut labels = Vec::with_capacity(count);
    for _ in 0..count {
        labels.push((read_symbol(reader, table)?, read_symbol(reader, table)?));
    }
    let value: Number = value::read_value(reader)?;
    Ok(Row { family: family as u32, labels: labels.into_boxed_slice(), value })
}

fn read_symbol(reader: &mut Reader<'_>, table: &Table) -> Result<u32, Malformed> {
    reader.index(table.symbols().len(), "an unknown symbol").map(|index| index as u32)
}
