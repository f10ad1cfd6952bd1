//! A block: points of many series over the same rows, as one checksummed run of bytes.
//!
//! The format, byte by byte, is in `docs/formats.md`. Every byte is covered by a checksum or by a
//! comparison, so any single flipped byte and any truncation is found by [`Parsed::new`], which
//! reads everything. A column read later by itself is checked by its own checksum.

use std::collections::HashMap;
use std::ops::Range;

use super::rows::{self, Presence};
use super::varint::{self, Reader};
use super::{CodecError, decode_column};
use crate::labels::Labels;
use crate::store::{ColumnKind, Span};

const MAGIC: [u8; 8] = *b"TRPDHIST";
const FOOTER_MAGIC: [u8; 4] = *b"TSIH";
/// The version written, and the newest that is read.
pub(crate) const VERSION: u16 = 1;
const HEADER_BYTES: usize = 96;
const FOOTER_BYTES: usize = 16;
/// What every version begins with: magic, version, length and checksum of the header.
const PREFIX_BYTES: usize = 16;

/// Why bytes are not a block that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// A later version of this program wrote it.
    #[error("it has format version {version}, and the newest known here is {VERSION}")]
    Newer {
        /// The version found.
        version: u16,
    },
    /// It does not begin like a block.
    #[error("it does not begin like a block")]
    NoBlock,
    /// A part is not as it was written.
    #[error("the checksum of its {0} is wrong")]
    Checksum(&'static str),
    /// Its checksums are right, or there is none, and yet it cannot be decoded.
    #[error("it cannot be decoded: {0}")]
    Malformed(#[from] CodecError),
}

const fn malformed(what: &'static str) -> BlockError {
    BlockError::Malformed(CodecError::Malformed(what))
}

/// What a block says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Distance of the rows, nominally.
    pub(crate) step_ms: u64,
    /// Which of the blocks of its step it is; a merged one has those of the first and the last.
    pub(crate) sequence_first: u64,
    pub(crate) sequence_last: u64,
    /// The time it speaks for, which may reach beyond its rows.
    pub(crate) covers: Span,
}

/// Where the bytes of a column are in the file, and their checksum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) len: u32,
    crc: u32,
}

impl Extent {
    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.start + u64::from(self.len)
    }

    /// Gives the values of a column and the rows they belong to, from its bytes.
    pub(crate) fn decode(
        &self,
        bytes: &[u8],
        rows: usize,
    ) -> Result<(Presence, Vec<f64>), BlockError> {
        let mut reader = self.checked(bytes)?;
        let presence = Presence::read(&mut reader, rows)?;
        let values = decode_column(reader.rest(), presence.count())?;
        Ok((presence, values))
    }

    /// Gives the rows only.
    pub(crate) fn presence(&self, bytes: &[u8], rows: usize) -> Result<Presence, BlockError> {
        Ok(Presence::read(&mut self.checked(bytes)?, rows)?)
    }

    fn checked<'a>(&self, bytes: &'a [u8]) -> Result<Reader<'a>, BlockError> {
        if bytes.len() != self.len as usize {
            return Err(CodecError::Short.into());
        }
        verify(bytes, self.crc, "column")?;
        Ok(Reader::new(bytes))
    }
}

/// A fuzzer cannot guess checksums, so under one they all count as right.
fn verify(bytes: &[u8], crc: u32, part: &'static str) -> Result<(), BlockError> {
    if cfg!(fuzzing) || crc32c::crc32c(bytes) == crc {
        Ok(())
    } else {
        Err(BlockError::Checksum(part))
    }
}

/// Puts a block together, column by column.
#[derive(Debug)]
pub(crate) struct BlockWriter {
    symbols: HashMap<Box<str>, u64>,
    symbol_bytes: Vec<u8>,
    entries: Vec<u8>,
    data: Vec<u8>,
    lengths: Vec<(u32, u32)>,
}

impl BlockWriter {
    pub(crate) fn new() -> Self {
        Self {
            symbols: HashMap::new(),
            symbol_bytes: Vec::new(),
            entries: Vec::new(),
            data: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// Adds a series, whose bytes `fill` appends.
    pub(crate) fn push(
        &mut self,
        labels: &Labels,
        kind: ColumnKind,
        presence: &Presence,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.data.len();
        presence.put(&mut self.data);
        fill(&mut self.data);
        let bytes = &self.data[start..];
        let (len, crc) = (bytes.len() as u32, crc32c::crc32c(bytes));
        self.lengths.push((len, crc));
        self.entries.push(kind.code());
        varint::put(&mut self.entries, labels.iter().len() as u64);
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let symbol = self.symbol(text);
            varint::put(&mut self.entries, symbol);
        }
        varint::put(&mut self.entries, u64::from(len));
        self.entries.extend_from_slice(&crc.to_le_bytes());
    }

    fn symbol(&mut self, text: &str) -> u64 {
        if let Some(&symbol) = self.symbols.get(text) {
            return symbol;
        }
        let symbol = self.symbols.len() as u64;
        self.symbols.insert(text.into(), symbol);
        varint::put(&mut self.symbol_bytes, text.len() as u64);
        self.symbol_bytes.extend_from_slice(text.as_bytes());
        symbol
    }

    /// Returns the bytes of the block, and where in them the columns are.
    pub(crate) fn finish(self, descriptor: &Descriptor, times: &[i64]) -> (Vec<u8>, Box<[Extent]>) {
        let mut index = Vec::with_capacity(self.symbol_bytes.len() + self.entries.len() + 8);
        varint::put(&mut index, self.symbols.len() as u64);
        index.extend_from_slice(&self.symbol_bytes);
        index.extend_from_slice(&self.entries);
        let mut time_bytes = Vec::new();
        rows::put_times(times, &mut time_bytes);

        let header = Header {
            descriptor: *descriptor,
            rows: times.len() as u32,
            columns: self.lengths.len() as u32,
            lengths: [index.len() as u64, time_bytes.len() as u64, self.data.len() as u64],
            checksums: [crc32c::crc32c(&index), crc32c::crc32c(&time_bytes)],
        };
        let mut bytes = Vec::with_capacity(header.file_bytes().unwrap_or_default() as usize);
        let header_crc = header.put(&mut bytes);
        bytes.extend_from_slice(&index);
        bytes.extend_from_slice(&time_bytes);
        let mut start = bytes.len() as u64;
        bytes.extend_from_slice(&self.data);
        bytes.extend_from_slice(&((bytes.len() + FOOTER_BYTES) as u64).to_le_bytes());
        bytes.extend_from_slice(&header_crc.to_le_bytes());
        bytes.extend_from_slice(&FOOTER_MAGIC);
        let extents = self.lengths.iter().map(|&(len, crc)| {
            let extent = Extent { start, len, crc };
            start += u64::from(len);
            extent
        });
        let extents = extents.collect();
        (bytes, extents)
    }
}

/// The fixed part at the front.
struct Header {
    descriptor: Descriptor,
    rows: u32,
    columns: u32,
    /// Of index, times and data.
    lengths: [u64; 3],
    /// Of index and times.
    checksums: [u32; 2],
}

impl Header {
    /// Appends the header and returns its checksum.
    fn put(&self, out: &mut Vec<u8>) -> u32 {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let descriptor = &self.descriptor;
        out.extend_from_slice(&descriptor.step_ms.to_le_bytes());
        out.extend_from_slice(&descriptor.sequence_first.to_le_bytes());
        out.extend_from_slice(&descriptor.sequence_last.to_le_bytes());
        out.extend_from_slice(&descriptor.covers.from_ms.to_le_bytes());
        out.extend_from_slice(&descriptor.covers.to_ms.to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.columns.to_le_bytes());
        self.lengths.iter().for_each(|length| out.extend_from_slice(&length.to_le_bytes()));
        self.checksums.iter().for_each(|crc| out.extend_from_slice(&crc.to_le_bytes()));
        let crc = crc32c::crc32c(out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads and checks the header of a whole block, and returns it with its checksum.
    fn read(bytes: &[u8]) -> Result<(Self, u32), BlockError> {
        if bytes.len() < PREFIX_BYTES || bytes[..8] != MAGIC {
            return Err(BlockError::NoBlock);
        }
        let mut reader = Reader::new(&bytes[8..]);
        let version = u16::from_le_bytes(reader.array()?);
        let header_bytes = usize::from(u16::from_le_bytes(reader.array()?));
        let crc = u32::from_le_bytes(reader.array()?);
        let header = bytes.get(..header_bytes).ok_or(CodecError::Short)?;
        let body = header.get(PREFIX_BYTES..).ok_or(CodecError::Short)?;
        let zeroed = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &[0; 4]);
        if !cfg!(fuzzing) && crc32c::crc32c_append(zeroed, body) != crc {
            return Err(BlockError::Checksum("header"));
        }
        if version > VERSION {
            return Err(BlockError::Newer { version });
        }
        if version != VERSION || header_bytes != HEADER_BYTES {
            return Err(malformed("a header of an unknown shape"));
        }
        Ok((Self::read_body(Reader::new(body))?, crc))
    }

    fn read_body(mut reader: Reader<'_>) -> Result<Self, BlockError> {
        let mut word = || -> Result<u64, CodecError> { Ok(u64::from_le_bytes(reader.array()?)) };
        let descriptor = Descriptor {
            step_ms: word()?,
            sequence_first: word()?,
            sequence_last: word()?,
            covers: Span { from_ms: word()? as i64, to_ms: word()? as i64 },
        };
        let shape = word()?;
        let lengths = [word()?, word()?, word()?];
        let checksums = word()?;
        Ok(Self {
            descriptor,
            rows: shape as u32,
            columns: (shape >> 32) as u32,
            lengths,
            checksums: [checksums as u32, (checksums >> 32) as u32],
        })
    }

    /// How long the whole block has to be.
    fn file_bytes(&self) -> Option<u64> {
        let sections = self.lengths.iter().try_fold(0_u64, |sum, len| sum.checked_add(*len))?;
        sections.checked_add((HEADER_BYTES + FOOTER_BYTES) as u64)
    }
}

/// A block whose bytes have all been checked.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) descriptor: Descriptor,
    pub(crate) times: Box<[i64]>,
    pub(crate) series: Vec<(Labels, ColumnKind)>,
    pub(crate) extents: Box<[Extent]>,
}

impl Parsed {
    /// Checks every byte of a block, and decodes all of it but the values.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, BlockError> {
        let (header, header_crc) = Header::read(bytes)?;
        if header.file_bytes() != Some(bytes.len() as u64) {
            return Err(CodecError::Short.into());
        }
        let [index_len, times_len, data_len] = header.lengths.map(|length| length as usize);
        let mut reader = Reader::new(&bytes[HEADER_BYTES..]);
        let index = reader.bytes(index_len)?;
        let time_bytes = reader.bytes(times_len)?;
        let data = reader.bytes(data_len)?;
        check_footer(reader, bytes.len(), header_crc)?;
        verify(index, header.checksums[0], "index")?;
        verify(time_bytes, header.checksums[1], "times")?;
        let times = rows::times(time_bytes, header.rows as usize)?;
        check_span(&header.descriptor, &times)?;
        let data_start = (HEADER_BYTES + index_len + times_len) as u64;
        let (series, extents) = read_index(index, header.columns as usize, data_start)?;
        let mut data = Reader::new(data);
        for extent in &extents {
            verify(data.bytes(extent.len as usize)?, extent.crc, "column")?;
        }
        data.end()?;
        Ok(Self { descriptor: header.descriptor, times, series, extents: extents.into() })
    }
}

fn check_footer(mut reader: Reader<'_>, len: usize, header_crc: u32) -> Result<(), BlockError> {
    let whole = u64::from_le_bytes(reader.array()?) == len as u64
        && u32::from_le_bytes(reader.array()?) == header_crc
        && reader.array()? == FOOTER_MAGIC;
    reader.end()?;
    if whole || cfg!(fuzzing) { Ok(()) } else { Err(BlockError::Checksum("footer")) }
}

fn check_span(descriptor: &Descriptor, times: &[i64]) -> Result<(), BlockError> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Err(malformed("no rows"));
    };
    let covers = descriptor.covers;
    let ordered = descriptor.sequence_first <= descriptor.sequence_last;
    if ordered && covers.from_ms <= *first && covers.to_ms >= *last {
        Ok(())
    } else {
        Err(malformed("rows outside of the time it covers"))
    }
}

type Index = (Vec<(Labels, ColumnKind)>, Vec<Extent>);

fn read_index(index: &[u8], columns: usize, data_start: u64) -> Result<Index, BlockError> {
    let mut reader = Reader::new(index);
    let mut symbols = Vec::with_capacity(reader.clone().count(1)?);
    for _ in 0..reader.count(1)? {
        let len = reader.count(1)?;
        let text = std::str::from_utf8(reader.bytes(len)?);
        symbols.push(text.map_err(|_| CodecError::Malformed("text that is not UTF-8"))?);
    }
    // Kind, number of labels, length of the data, checksum.
    if columns == 0 || columns > reader.left() / 7 {
        return Err(CodecError::Short.into());
    }
    let mut series = Vec::with_capacity(columns);
    let mut extents = Vec::with_capacity(columns);
    let mut start = data_start;
    for _ in 0..columns {
        let kind = ColumnKind::from_code(reader.byte()?).ok_or(malformed("an unknown kind"))?;
        series.push((read_labels(&mut reader, &symbols)?, kind));
        let len = reader.varint()?;
        let len = u32::try_from(len).map_err(|_| CodecError::Malformed("a column too long"))?;
        extents.push(Extent { start, len, crc: u32::from_le_bytes(reader.array()?) });
        start = start.saturating_add(u64::from(len));
    }
    reader.end()?;
    Ok((series, extents))
}

fn read_labels(reader: &mut Reader<'_>, symbols: &[&str]) -> Result<Labels, CodecError> {
    let count = reader.count(2)?;
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let mut text = || -> Result<&str, CodecError> {
            let symbol = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
            symbols.get(symbol).copied().ok_or(CodecError::Malformed("a text that is not there"))
        };
        pairs.push((text()?, text()?));
    }
    let labels = Labels::new(pairs);
    if labels.iter().len() == count {
        Ok(labels)
    } else {
        Err(CodecError::Malformed("a label twice, or one without a value"))
    }
}

/// What is in a block, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockSummary {
    /// Series.
    pub columns: usize,
    /// Different times.
    pub rows: usize,
    /// Points.
    pub points: u64,
}

/// Checks the bytes of a block file, decodes every value and counts them.
///
/// # Errors
/// [`BlockError`] says what is wrong.
///
/// # Examples
/// ```
/// # use tripod_history::codec::{BlockError, check_block};
/// assert_eq!(check_block(b"something else"), Err(BlockError::NoBlock));
/// ```
pub fn check_block(bytes: &[u8]) -> Result<BlockSummary, BlockError> {
    let parsed = Parsed::new(bytes)?;
    let mut points = 0;
    for extent in &parsed.extents {
        let range = extent.range();
        let column = &bytes[range.start as usize..range.end as usize];
        points += extent.decode(column, parsed.times.len())?.1.len() as u64;
    }
    Ok(BlockSummary { columns: parsed.extents.len(), rows: parsed.times.len(), points })
}

#[cfg(test)]
mod tests;
