//! A number of the stream, and how a change of it is written.
//!
//! Changes are exact to the last bit, NaNs and negative zeros included. What makes them short: whole
//! numbers and floats that look decimal are written as a difference in units of their last digit.
//! Both sides compute that with the same IEEE operations, so they agree on every machine.

use super::read::{Malformed, Reader};
use crate::varint;

/// A value of a series.
///
/// Two floats are equal here if their bits are: NaN equals itself, and 0.0 is not -0.0.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// Exact up to [`u64::MAX`]; counters and counts of values.
    Whole(u64),
    /// Gauges, sums, quantiles and counters of fractions.
    Float(f64),
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        }
    }
}

impl Eq for Number {}

impl Number {
    /// The value as a float; a whole number above 2^53 is rounded.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    /// Whether a change from `self` to `other` can be written.
    pub(super) fn is_like(self, other: Self) -> bool {
        matches!((self, other), (Self::Whole(_), Self::Whole(_)) | (Self::Float(_), Self::Float(_)))
    }
}

/// The units in which a difference of floats is tried, one by one.
const SCALES: [f64; 4] = [1.0, 100.0, 1e3, 1e6];
const EXACT_MAX: i64 = 1 << 53;

pub(super) fn put_value(out: &mut Vec<u8>, value: Number) {
    match value {
        Number::Whole(number) => {
            out.push(0);
            varint::put(out, number);
        }
        Number::Float(number) => {
            out.push(1);
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
    }
}

pub(super) fn read_value(reader: &mut Reader<'_>) -> Result<Number, Malformed> {
    match reader.byte()? {
        0 => Ok(Number::Whole(reader.varint()?)),
        1 => {
            let bytes = reader.bytes(8)?;
            Ok(Number::Float(f64::from_bits(little_endian(bytes))))
        }
        _ => Err(reader.malformed("unknown type of a value")),
    }
}

/// Appends what leads from `old` to `new`, which must differ and be of one type.
pub(super) fn put_change(out: &mut Vec<u8>, old: Number, new: Number) {
    match (old, new) {
        (Number::Whole(old), Number::Whole(new)) => {
            varint::put(out, varint::zigzag(new.wrapping_sub(old) as i64));
        }
        (Number::Float(old), Number::Float(new)) => put_float_change(out, old, new),
        _ => unreachable!("a series that changed its type is announced again"),
    }
}

pub(super) fn read_change(reader: &mut Reader<'_>, old: Number) -> Result<Number, Malformed> {
    match old {
        Number::Whole(old) => {
            let difference = varint::unzigzag(reader.varint()?);
            Ok(Number::Whole(old.wrapping_add(difference as u64)))
        }
        Number::Float(old) => read_float_change(reader, old).map(Number::Float),
    }
}

fn put_float_change(out: &mut Vec<u8>, old: f64, new: f64) {
    for (index, scale) in SCALES.into_iter().enumerate() {
        if let (Some(old), Some(new)) = (in_units(old, scale), in_units(new, scale)) {
            // At most 2^54 apart, so zigzag and the three low bits fit.
            varint::put(out, varint::zigzag(new - old) << 3 | (index as u64) << 1);
            return;
        }
    }
    let difference = old.to_bits() ^ new.to_bits();
    debug_assert_ne!(difference, 0, "an unchanged value is not written");
    let trailing = (difference.trailing_zeros() / 8).min(7);
    let length = 8 - difference.leading_zeros().min(63) / 8 - trailing;
    out.push((1 | trailing << 1 | (length - 1) << 4) as u8);
    let bytes = (difference >> (8 * trailing)).to_le_bytes();
    out.extend_from_slice(&bytes[..length as usize]);
}

fn read_float_change(reader: &mut Reader<'_>, old: f64) -> Result<f64, Malformed> {
    if reader.peek()? & 1 == 0 {
        let token = reader.varint()?;
        let scale = SCALES[(token >> 1 & 3) as usize];
        let difference = varint::unzigzag(token >> 3);
        let new = in_units(old, scale).and_then(|old| old.checked_add(difference));
        return match new {
            Some(new) if new.abs() <= EXACT_MAX => Ok(new as f64 / scale),
            _ => Err(reader.malformed("a difference in units that the value has not")),
        };
    }
    let head = reader.byte()?;
    let (trailing, length) = (head >> 1 & 7, (head >> 4 & 7) + 1);
    if head & 0x80 != 0 || trailing + length > 8 {
        return Err(reader.malformed("a difference of more than 8 bytes"));
    }
    let difference = little_endian(reader.bytes(length as usize)?) << (8 * trailing);
    Ok(f64::from_bits(old.to_bits() ^ difference))
}

/// `value` in units of 1/`scale`, if it is a whole number of them that leads back to its very bits.
fn in_units(value: f64, scale: f64) -> Option<i64> {
    let units = (value * scale).round();
    if units.abs() > EXACT_MAX as f64 || units.is_nan() {
        return None;
    }
    let units = units as i64;
    (((units as f64) / scale).to_bits() == value.to_bits()).then_some(units)
}

/// At most 8 bytes as a number.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length_of_change(old: Number, new: Number) -> usize {
        let mut out = Vec::new();
        put_change(&mut out, old, new);
        let mut reader = Reader::new(&out);
        assert_eq!(read_change(&mut reader, old), Ok(new), "{old:?} to {new:?}: {out:?}");
        assert!(reader.end().is_ok(), "{old:?} to {new:?}: {out:?}");
        out.len()
    }

    #[test]
    fn small_steps_take_one_byte() {
        assert_eq!(length_of_change(Number::Whole(1 << 60), Number::Whole((1 << 60) + 63)), 1);
        assert_eq!(length_of_change(Number::Float(1000.0), Number::Float(1003.0)), 1);
        assert_eq!(length_of_change(Number::Float(99.95), Number::Float(99.97)), 1);
        assert_eq!(length_of_change(Number::Float(0.125), Number::Float(0.123)), 1);
    }

    #[test]
    fn every_change_is_exact() {
        let floats = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.1,
            1.0 / 3.0,
            1e-300,
            f64::MIN_POSITIVE,
            f64::from_bits(1),
            9_007_199_254_740_992.0,
            -9_007_199_254_740_992.0,
            9_007_199_254_740_994.0,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::from_bits(0x7ff8_0000_0000_0001),
        ];
        for old in floats.map(Number::Float) {
            for new in floats.map(Number::Float).into_iter().filter(|new| *new != old) {
                assert!(length_of_change(old, new) <= 9);
            }
        }
        let wholes = [0, 1, 63, 64, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX].map(Number::Whole);
        for old in wholes {
            for new in wholes.into_iter().filter(|new| *new != old) {
                assert!(length_of_change(old, new) <= 10);
            }
        }
    }

    #[test]
    fn a_difference_that_cannot_be_is_refused() {
        // 1/3 is no whole number of thousandths.
        let mut reader = Reader::new(&[0b100]);
        assert!(read_change(&mut reader, Number::Float(1.0 / 3.0)).is_err());
        // 8 bytes behind 1 trailing byte.
        let mut reader = Reader::new(&[0b111_0011, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(read_change(&mut reader, Number::Float(0.5)).is_err());
    }
}
