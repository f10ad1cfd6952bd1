//! A block on a shelf: its rows and series in memory, its values in memory or in a file.
//!
//! A block never changes. Its bytes move once, from memory into a file.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::column::Column;
use super::disk::Disk;
use super::lock;
use super::row::{Row, Rows};
use super::span::Span;
use crate::codec::block::{BlockWriter, Descriptor, Extent};
use crate::codec::{BlockError, ColumnEncoder, Presence};

/// Slots that are gathered from the rows in one go: the values of a cache line.
const TILE: usize = 8;
/// Bytes between two columns that are read along rather than skipped.
const READ_GAP: u64 = 16 << 10;

#[derive(Debug)]
pub(super) struct Block {
    pub(super) descriptor: Descriptor,
    pub(super) times: Box<[i64]>,
    pub(super) series: Arc<[Column]>,
    extents: Box<[Extent]>,
    body: Mutex<Body>,
    /// Length of the file it is or becomes.
    pub(super) bytes: u64,
    /// Set by a reader that found it damaged; the next `maintain` sets the file aside. Nothing else
    /// depends on when that is seen, so `Relaxed` is enough.
    damaged: AtomicBool,
}

#[derive(Debug, Clone)]
enum Body {
    Memory(Arc<[u8]>),
    File(PathBuf),
}

/// Why a block did not give its values.
#[derive(Debug)]
pub(super) enum ReadError {
    /// It is not as it was written, or its file is gone. If that is because it was merged or has
    /// expired meanwhile, no shelf holds it any more, and its being damaged means nothing.
    Damaged,
    /// The file cannot be read.
    Io(PathBuf, std::io::Error),
}

impl Block {
    /// Makes a block of ascending rows, or `None` if they have no values.
    pub(super) fn from_rows(
        rows: &[Arc<Row>],
        table: &[Option<Column>],
        descriptor: Descriptor,
    ) -> Option<Self> {
        let times: Box<[i64]> = rows.iter().map(|row| row.time_ms).collect();
        let mut writer = BlockWriter::new();
        let mut series = Vec::new();
        let mut encoder = ColumnEncoder::default();
        let mut tile: [(Presence, Vec<f64>); TILE] = Default::default();
        let mut places = vec![0; rows.len()];
        for (number, columns) in table.chunks(TILE).enumerate() {
            gather(rows, &mut places, number * TILE, &mut tile[..columns.len()]);
            for (column, (presence, values)) in columns.iter().zip(&tile) {
                let Some(column) = column.as_ref().filter(|_| !values.is_empty()) else { continue };
                let fill = |out: &mut Vec<u8>| encoder.encode(values, out);
                writer.push(&column.labels, column.kind, presence, fill);
                series.push(column.clone());
            }
        }
        if series.is_empty() {
            return None;
        }
        let (bytes, extents) = writer.finish(&descriptor, &times);
        Some(Self::in_memory(descriptor, times, series.into(), extents, bytes))
    }

    pub(super) fn in_memory(
        descriptor: Descriptor,
        times: Box<[i64]>,
        series: Arc<[Column]>,
        extents: Box<[Extent]>,
        bytes: Vec<u8>,
    ) -> Self {
        let len = bytes.len() as u64;
        Self::new(descriptor, times, series, extents, Body::Memory(bytes.into()), len)
    }

    pub(super) fn in_file(
        descriptor: Descriptor,
        times: Box<[i64]>,
        series: Arc<[Column]>,
        extents: Box<[Extent]>,
        path: PathBuf,
        bytes: u64,
    ) -> Self {
        Self::new(descriptor, times, series, extents, Body::File(path), bytes)
    }

    fn new(
        descriptor: Descriptor,
        times: Box<[i64]>,
        series: Arc<[Column]>,
        extents: Box<[Extent]>,
        body: Body,
        bytes: u64,
    ) -> Self {
        Self {
            descriptor,
            times,
            series,
            extents,
            body: Mutex::new(body),
            bytes,
            damaged: AtomicBool::new(false),
        }
    }

    /// Uses the list of series of another block if it is the same, which it nearly always is.
    pub(super) fn share_series(&mut self, other: &Self) {
        let same = self.series.len() == other.series.len()
            && self
                .series
                .iter()
                .zip(&*other.series)
                .all(|(own, other)| own.key() == other.key() && own.kind == other.kind);
        if same {
            self.series = Arc::clone(&other.series);
        }
    }

    /// The name of its file.
    pub(super) fn file_name(&self) -> String {
        let Descriptor { step_ms, sequence_first, sequence_last, .. } = self.descriptor;
        format!("{step_ms}-{sequence_first:012}-{sequence_last:012}.block")
    }

    /// First and last row.
    pub(super) fn span(&self) -> Span {
        Span::new(self.times[0], self.times[self.times.len() - 1])
    }

    /// Its place in the order in which blocks count, the last one most.
    pub(super) fn rank(&self) -> (u64, usize) {
        let Descriptor { sequence_first, sequence_last, .. } = self.descriptor;
        (sequence_last, (sequence_last - sequence_first) as usize)
    }

    /// Whether another block was merged into this one.
    pub(super) fn contains(&self, other: &Self) -> bool {
        let (own, other) = (self.descriptor, other.descriptor);
        own.step_ms == other.step_ms
            && own.sequence_first <= other.sequence_first
            && own.sequence_last >= other.sequence_last
            && (own.sequence_first, own.sequence_last)
                != (other.sequence_first, other.sequence_last)
    }

    /// Its bytes, if they are in no file.
    pub(super) fn memory(&self) -> Option<Arc<[u8]>> {
        match &*lock(&self.body) {
            Body::Memory(bytes) => Some(Arc::clone(bytes)),
            Body::File(_) => None,
        }
    }

    pub(super) fn file(&self) -> Option<PathBuf> {
        match &*lock(&self.body) {
            Body::Memory(_) => None,
            Body::File(path) => Some(path.clone()),
        }
    }

    /// What all its bytes are in memory for, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory().map_or(0, |bytes| bytes.len())
    }

    /// From now on its bytes are read from a file.
    pub(super) fn moved_to(&self, path: &Path) {
        *lock(&self.body) = Body::File(path.to_owned());
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    fn damage<T>(&self) -> Result<T, ReadError> {
        self.damaged.store(true, Ordering::Relaxed);
        Err(ReadError::Damaged)
    }

    /// Goes through the values of some columns, given by ascending numbers.
    pub(super) fn read(
        &self,
        disk: &dyn Disk,
        columns: &[u32],
        mut visit: impl FnMut(u32, &Presence, &[f64]),
    ) -> Result<(), ReadError> {
        self.read_bytes(disk, columns, |column, extent, bytes| {
            let (presence, values) = extent.decode(bytes, self.times.len())?;
            visit(column, &presence, &values);
            Ok(())
        })
    }

    /// Goes through the rows in which some columns have values.
    pub(super) fn read_presence(
        &self,
        disk: &dyn Disk,
        columns: &[u32],
        mut visit: impl FnMut(u32, &Presence),
    ) -> Result<(), ReadError> {
        self.read_bytes(disk, columns, |column, extent, bytes| {
            visit(column, &extent.presence(bytes, self.times.len())?);
            Ok(())
        })
    }

    fn read_bytes(
        &self,
        disk: &dyn Disk,
        columns: &[u32],
        mut visit: impl FnMut(u32, &Extent, &[u8]) -> Result<(), BlockError>,
    ) -> Result<(), ReadError> {
        let extent = |column: u32| &self.extents[column as usize];
        let near = |a: &u32, b: &u32| extent(*b).start <= extent(*a).range().end + READ_GAP;
        for group in columns.chunk_by(near) {
            let range = extent(group[0]).start..extent(group[group.len() - 1]).range().end;
            let bytes = self.bytes_at(disk, range.clone())?;
            for &column in group {
                let own = extent(column).range();
                let own = (own.start - range.start) as usize..(own.end - range.start) as usize;
                if visit(column, extent(column), &bytes[own]).is_err() {
                    return self.damage();
                }
            }
        }
        Ok(())
    }

    fn bytes_at(&self, disk: &dyn Disk, range: Range<u64>) -> Result<Vec<u8>, ReadError> {
        let body = lock(&self.body).clone();
        let path = match body {
            Body::Memory(bytes) => {
                return Ok(bytes[range.start as usize..range.end as usize].to_vec());
            }
            Body::File(path) => path,
        };
        match disk.read(&path, range.clone()) {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
            Ok(_) => self.damage(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.damage(),
            Err(error) => Err(ReadError::Io(path, error)),
        }
    }

    /// Reads the bytes of all columns, to go through them in any order.
    pub(super) fn load(&self, disk: &dyn Disk) -> Result<Loaded<'_>, ReadError> {
        let last = &self.extents[self.extents.len() - 1];
        let start = self.extents[0].start;
        Ok(Loaded { block: self, start, bytes: self.bytes_at(disk, start..last.range().end)? })
    }

    /// Turns the block back into rows, leaving out those up to `after_ms`.
    pub(super) fn rows(&self, disk: &dyn Disk, after_ms: i64) -> Result<Rows, ReadError> {
        let first = self.times.partition_point(|time| *time <= after_ms);
        let mut entries: Vec<Vec<(u32, f64)>> = vec![Vec::new(); self.times.len() - first];
        let all: Vec<u32> = (0..self.series.len() as u32).collect();
        self.read(disk, &all, |column, presence, values| {
            for (row, value) in presence.rows().zip(values) {
                if let Some(place) = row.checked_sub(first) {
                    entries[place].push((column, *value));
                }
            }
        })?;
        let width = self.series.len();
        let rows = self.times[first..]
            .iter()
            .zip(&entries)
            .map(|(time_ms, entries)| Arc::new(Row::new(*time_ms, width, entries)));
        let table = Arc::new(self.series.iter().cloned().map(Some).collect());
        Ok(Rows { table, rows: rows.collect() })
    }
}

/// A block and the bytes of its columns.
#[derive(Debug)]
pub(super) struct Loaded<'a> {
    block: &'a Block,
    start: u64,
    bytes: Vec<u8>,
}

impl Loaded<'_> {
    pub(super) fn column(&self, number: u32) -> Result<(Presence, Vec<f64>), ReadError> {
        let extent = &self.block.extents[number as usize];
        let range = extent.range();
        let own = (range.start - self.start) as usize..(range.end - self.start) as usize;
        let decoded = extent.decode(&self.bytes[own], self.block.times.len());
        decoded.or_else(|_| self.block.damage())
    }
}

/// Transposes a few neighbouring slots of all rows, from `first` on. `places` is for
/// [`Row::get_next`].
fn gather(
    rows: &[Arc<Row>],
    places: &mut [usize],
    first: usize,
    tile: &mut [(Presence, Vec<f64>)],
) {
    for (presence, values) in tile.iter_mut() {
        values.clear();
        presence.set_all(rows.len());
    }
    // Nearly always every series has a value in every row.
    let slots = first..first + tile.len();
    let full = rows.iter().take_while(|row| {
        let Some(cells) = row.full(slots.clone()) else { return false };
        tile.iter_mut().zip(cells).for_each(|((_, values), cell)| values.push(*cell));
        true
    });
    if full.count() == rows.len() {
        return;
    }
    for (slot, (presence, values)) in slots.zip(tile) {
        presence.clear();
        values.clear();
        for (row, place) in rows.iter().zip(places.iter_mut()) {
            let value = row.get_next(slot as u32, place);
            presence.push(value.is_some());
            values.extend(value);
        }
    }
}
