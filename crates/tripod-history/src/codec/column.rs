//! The values of one series, as few bytes.
//!
//! Every value comes back bit by bit. A column is, in this order of preference: one value repeated;
//! whole numbers below 2^53; any floats. Values that fit neither of the last two well (not finite,
//! or -0.0) are kept apart as exceptions, so that a stale marker at the end of a counter does not
//! turn the counter into floats.
//!
//! Columns of at least [`PCO_VALUES_MIN`] values go through `pco`. In shorter ones its setup, 2.5 us
//! a column, and its description of the distribution weigh too much; they are deltas or XORs in whole
//! bytes, which takes a tenth of the time. Blocks that short are merged before long. The figures are
//! in `docs/design/history.md`.

use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec};

use super::CodecError;
use super::varint::{self, Reader};

/// From how many values on `pco` is used.
const PCO_VALUES_MIN: usize = 128;

/// Below this whole numbers and floats are the same thing.
const WHOLE_LIMIT: f64 = (1_u64 << 53) as f64;

const CONSTANT_WHOLE: u8 = 0;
const CONSTANT_BITS: u8 = 1;
const DELTAS: u8 = 2;
const XORS: u8 = 3;
const PCO_WHOLE: u8 = 4;
const PCO_FLOATS: u8 = 5;
/// Set in the tag when exceptions come before the values.
const EXCEPTIONS: u8 = 0x80;

/// Compresses the values of one series.
///
/// The number of values is not part of the result: [`decode_column`] has to be told, since a block
/// knows it already. About 25 ns a value for 240 values of a busy counter, 1 ns if all are the same. At least 128 values
/// are needed for the best result.
///
/// # Examples
/// ```
/// # use tripod_history::codec::{decode_column, encode_column};
/// let counter: Vec<f64> = (0..240).map(|tick| f64::from(tick * 7 + tick % 3)).collect();
/// let bytes = encode_column(&counter);
/// assert!(bytes.len() < 240);
/// assert_eq!(decode_column(&bytes, 240)?, counter);
/// # Ok::<(), tripod_history::codec::CodecError>(())
/// ```
#[must_use]
pub fn encode_column(values: &[f64]) -> Vec<u8> {
    let mut out = Vec::new();
    ColumnEncoder::default().encode(values, &mut out);
    out
}

/// Gives back the `len` values that [`encode_column`] was given.
///
/// Allocates for `len` values, so `len` must come from a trusted place. Any bytes are safe to give,
/// but only a checksum tells whether they are the right ones.
///
/// # Errors
/// [`CodecError`] if the bytes are no column of `len` values.
pub fn decode_column(bytes: &[u8], len: usize) -> Result<Vec<f64>, CodecError> {
    let mut reader = Reader::new(bytes);
    if len == 0 {
        reader.end()?;
        return Ok(Vec::new());
    }
    let tag = reader.byte()?;
    let exceptions = if tag & EXCEPTIONS != 0 { exceptions(&mut reader, len)? } else { Vec::new() };
    let mut values = match tag & !EXCEPTIONS {
        CONSTANT_WHOLE => vec![reader.signed()? as f64; len],
        CONSTANT_BITS => vec![f64::from_le_bytes(reader.array()?); len],
        DELTAS => deltas(&mut reader, len)?,
        XORS => xors(&mut reader, len)?,
        PCO_WHOLE => {
            from_pco::<i64>(&mut reader, len)?.into_iter().map(|whole| whole as f64).collect()
        }
        PCO_FLOATS => from_pco::<f64>(&mut reader, len)?,
        _ => return Err(CodecError::Malformed("a column of an unknown kind")),
    };
    reader.end()?;
    for (place, value) in exceptions {
        values[place] = value;
    }
    Ok(values)
}

/// Whether a value is better kept apart.
fn is_exception(value: f64) -> bool {
    !value.is_finite() || (value == 0.0 && value.is_sign_negative())
}

fn is_whole(value: f64) -> bool {
    value.abs() < WHOLE_LIMIT && value == value.trunc()
}

/// Encodes columns one after another, and reuses its buffers.
#[derive(Debug, Default)]
pub(crate) struct ColumnEncoder {
    whole: Vec<i64>,
    plain: Vec<f64>,
}

impl ColumnEncoder {
    /// Appends the column to `out`.
    pub(crate) fn encode(&mut self, values: &[f64], out: &mut Vec<u8>) {
        let Some(first) = values.first() else { return };
        if values.iter().all(|value| value.to_bits() == first.to_bits()) {
            return constant(*first, out);
        }
        let exceptions = values.iter().filter(|value| is_exception(**value)).count();
        // A column of mostly odd values is better off as it is.
        if exceptions == 0 || exceptions > values.len() / 4 {
            return self.encode_plain(values, None, out);
        }
        let mut plain = std::mem::take(&mut self.plain);
        fill_exceptions(values, &mut plain);
        self.encode_plain(&plain, Some(values), out);
        self.plain = plain;
    }

    /// Encodes values, preceded by the exceptions among `odd` if there are any.
    fn encode_plain(&mut self, values: &[f64], odd: Option<&[f64]>, out: &mut Vec<u8>) {
        let start = out.len();
        if self.fill_whole(values) {
            if values.len() < PCO_VALUES_MIN {
                open(DELTAS, odd, out);
                return put_deltas(&self.whole, out);
            }
            open(PCO_WHOLE, odd, out);
            if put_pco(&self.whole, values, out) {
                return;
            }
        } else if values.len() >= PCO_VALUES_MIN {
            open(PCO_FLOATS, odd, out);
            if put_pco(values, values, out) {
                return;
            }
        }
        out.truncate(start);
        open(XORS, odd, out);
        put_xors(values, out);
    }

    /// Takes the values as whole numbers, if all of them are.
    fn fill_whole(&mut self, values: &[f64]) -> bool {
        self.whole.clear();
        let fits = |value: &f64| is_whole(*value) && !is_exception(*value);
        self.whole.extend(values.iter().map_while(|value| fits(value).then_some(*value as i64)));
        self.whole.len() == values.len()
    }
}

/// Begins a column.
fn open(kind: u8, odd: Option<&[f64]>, out: &mut Vec<u8>) {
    out.push(if odd.is_some() { kind | EXCEPTIONS } else { kind });
    if let Some(values) = odd {
        put_exceptions(values, out);
    }
}

fn constant(value: f64, out: &mut Vec<u8>) {
    if is_whole(value) && !is_exception(value) {
        out.push(CONSTANT_WHOLE);
        varint::put_signed(out, value as i64);
    } else {
        out.push(CONSTANT_BITS);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Copies values, with each exception replaced by what costs next to nothing there: the value
/// before, or in a counter that growing as it did before would give.
fn fill_exceptions(values: &[f64], plain: &mut Vec<f64>) {
    let usual = || values.iter().copied().filter(|value| !is_exception(*value));
    let is_counter = usual().all(is_whole) && usual().is_sorted();
    let (mut before, mut growth) = (usual().next().unwrap_or_default(), 0.0);
    plain.clear();
    plain.extend(values.iter().map(|value| {
        let next = if is_exception(*value) { before + growth } else { *value };
        if is_counter && is_whole(next) {
            growth = next - before;
        }
        before = next;
        next
    }));
}

fn put_exceptions(values: &[f64], out: &mut Vec<u8>) {
    let odd = || values.iter().enumerate().filter(|(_, value)| is_exception(**value));
    varint::put(out, odd().count() as u64);
    let mut before = 0;
    for (place, value) in odd() {
        varint::put(out, (place - before) as u64);
        out.extend_from_slice(&value.to_le_bytes());
        before = place;
    }
}

fn exceptions(reader: &mut Reader<'_>, len: usize) -> Result<Vec<(usize, f64)>, CodecError> {
    let count = reader.count(9)?;
    let mut exceptions = Vec::with_capacity(count);
    let mut place = 0_usize;
    for _ in 0..count {
        let step = usize::try_from(reader.varint()?).map_err(|_| CodecError::Short)?;
        place = place.saturating_add(step);
        if place >= len {
            return Err(CodecError::Malformed("an exception beyond the end of its column"));
        }
        exceptions.push((place, f64::from_le_bytes(reader.array()?)));
    }
    Ok(exceptions)
}

fn put_deltas(whole: &[i64], out: &mut Vec<u8>) {
    let mut before = 0;
    for &number in whole {
        varint::put_signed(out, number - before);
        before = number;
    }
}

fn deltas(reader: &mut Reader<'_>, len: usize) -> Result<Vec<f64>, CodecError> {
    let mut number = 0_i64;
    let mut values = Vec::with_capacity(len.min(reader.left()));
    for _ in 0..len {
        number = number.wrapping_add(reader.signed()?);
        values.push(number as f64);
    }
    Ok(values)
}

/// Each value as the bits that changed: a byte of (empty bytes at the front, bytes kept), then those.
fn put_xors(values: &[f64], out: &mut Vec<u8>) {
    let mut before = 0;
    for value in values {
        let changed = value.to_bits() ^ before;
        before = value.to_bits();
        let front = changed.leading_zeros() as usize / 8;
        let back = if changed == 0 { 0 } else { changed.trailing_zeros() as usize / 8 };
        let kept = 8 - front - back;
        out.push((front << 4 | kept) as u8);
        out.extend_from_slice(&changed.to_be_bytes()[front..front + kept]);
    }
}

fn xors(reader: &mut Reader<'_>, len: usize) -> Result<Vec<f64>, CodecError> {
    let mut bits = 0;
    let mut values = Vec::with_capacity(len.min(reader.left()));
    for _ in 0..len {
        let shape = reader.byte()?;
        let (front, kept) = ((shape >> 4) as usize, (shape & 0x0f) as usize);
        if front + kept > 8 {
            return Err(CodecError::Malformed("a value of more than eight bytes"));
        }
        let mut changed = [0; 8];
        changed[front..front + kept].copy_from_slice(reader.bytes(kept)?);
        bits ^= u64::from_be_bytes(changed);
        values.push(f64::from_bits(bits));
    }
    Ok(values)
}

/// Appends numbers as one `pco` chunk of one page; false if `pco` refuses them. `values` are the
/// same numbers as floats.
fn put_pco<T: pco::data_types::Number>(numbers: &[T], values: &[f64], out: &mut Vec<u8>) -> bool {
    // Level 8 takes twice as long and saves 1 % (2026-11-24).
    let config =
        ChunkConfig::default().with_compression_level(4).with_delta_spec(deltas_for(values));
    let pack = |out: &mut Vec<u8>| -> pco::errors::PcoResult<()> {
        let file = FileCompressor::default();
        let mut chunk = file.chunk_compressor(numbers, &config)?;
        file.write_header(&mut *out)?;
        chunk.write_meta(&mut *out)?;
        chunk.write_page(0, &mut *out)?;
        Ok(())
    };
    pack(out).is_ok()
}

/// Chooses how often to take differences, by which leaves the smallest mean deviation.
///
/// `pco` would try each by itself, which takes four times as long as all the rest (2026-11-24), and
/// saves nothing on the shapes that series have.
fn deltas_for(values: &[f64]) -> DeltaSpec {
    let plain = deviation(values.iter().copied());
    let once = deviation(values.windows(2).map(|pair| pair[1] - pair[0]));
    let twice = deviation(values.windows(3).map(|three| three[2] - 2.0 * three[1] + three[0]));
    // Not a number compares as false: then the values stay as they are.
    if twice < once * 0.7 && twice < plain {
        DeltaSpec::TryConsecutive(2)
    } else if once < plain {
        DeltaSpec::TryConsecutive(1)
    } else {
        DeltaSpec::NoOp
    }
}

/// The mean distance from the mean.
fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let (mut total, mut count) = (0.0, 0.0);
    for value in values.clone() {
        total += value;
        count += 1.0;
    }
    let mean = total / count;
    values.map(|value| (value - mean).abs()).sum::<f64>() / count
}

fn from_pco<T: pco::data_types::Number + Default>(
    reader: &mut Reader<'_>,
    len: usize,
) -> Result<Vec<T>, CodecError> {
    let unpack = |bytes| -> pco::errors::PcoResult<(Vec<T>, usize, usize)> {
        let (file, rest) = FileDecompressor::new(bytes)?;
        let (mut chunk, rest) = file.chunk_decompressor::<T, &[u8]>(rest)?;
        let mut page = chunk.page_decompressor(rest, len)?;
        let mut numbers = vec![T::default(); len];
        let progress = page.read(&mut numbers)?;
        Ok((numbers, progress.n_processed, page.into_src().len()))
    };
    let bytes = reader.rest();
    let (numbers, read, left) = unpack(bytes).map_err(|_| CodecError::Malformed("no pco chunk"))?;
    if read != len {
        return Err(CodecError::Short);
    }
    reader.bytes(bytes.len() - left)?;
    Ok(numbers)
}

#[cfg(test)]
mod tests;
