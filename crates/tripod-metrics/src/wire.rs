//! The protocol buffers wire format, as far as it is written here: three pushes and pages need a
//! dozen messages, which is less than a code generator would bring along.
//!
//! Numbers are written even if they are the default, so that a reader of either syntax version finds
//! them present. Repeated numbers are packed, which every parser of either version takes.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::varint::{self, zigzag};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;

/// Appends the fields of one message.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    out: &'a mut Vec<u8>,
}

impl Message<'_> {
    fn tag(&mut self, field: u32, wire_type: u64) {
        varint::put(self.out, u64::from(field) << 3 | wire_type);
    }

    /// A `uint32`, `uint64`, enum or, if it is not negative, `int64`.
    pub(crate) fn uint(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        varint::put(self.out, value);
    }

    /// An `int32` or `int64`.
    pub(crate) fn int(&mut self, field: u32, value: i64) {
        self.uint(field, value as u64);
    }

    /// A `sint32` or `sint64`.
    pub(crate) fn sint(&mut self, field: u32, value: i64) {
        self.uint(field, zigzag(value));
    }

    pub(crate) fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    /// A `fixed64` or, by its bits, `sfixed64`.
    pub(crate) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, FIXED64);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.tag(field, LENGTH_DELIMITED);
        varint::put(self.out, value.len() as u64);
        self.out.extend_from_slice(value);
    }

    /// Fields that have been written elsewhere.
    #[cfg(feature = "remote-write")]
    pub(crate) fn fields(&mut self, fields: &[u8]) {
        self.out.extend_from_slice(fields);
    }

    /// A message within this one.
    pub(crate) fn message(&mut self, field: u32, write: impl FnOnce(&mut Message<'_>)) {
        self.tag(field, LENGTH_DELIMITED);
        put_delimited(self.out, write);
    }

    /// Repeated `sint32` or `sint64`; nothing if there are none.
    pub(crate) fn packed_sint(&mut self, field: u32, values: &[i64]) {
        self.packed(field, values, |out, value| varint::put(out, zigzag(*value)));
    }

    /// Repeated `double`, `fixed64` or the like.
    pub(crate) fn packed<T>(&mut self, field: u32, values: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
        if !values.is_empty() {
            self.message(field, |message| values.iter().for_each(|value| put(message.out, value)));
        }
    }

    /// A `google.protobuf.Timestamp`.
    pub(crate) fn timestamp(&mut self, field: u32, time: SystemTime) {
        let nanos = unix_nanos(time);
        self.message(field, |message| {
            message.int(1, nanos.div_euclid(1_000_000_000));
            message.int(2, nanos.rem_euclid(1_000_000_000));
        });
    }
}

/// Appends the fields of a message, as the body of a request has them.
#[cfg(any(test, feature = "otlp", feature = "remote-write"))]
pub(crate) fn put(out: &mut Vec<u8>, write: impl FnOnce(&mut Message<'_>)) {
    write(&mut Message { out });
}

/// Appends a message with its length before it.
pub(crate) fn put_delimited(out: &mut Vec<u8>, write: impl FnOnce(&mut Message<'_>)) {
    let start = out.len();
    write(&mut Message { out });
    let mut length = Vec::with_capacity(5);
    varint::put(&mut length, (out.len() - start) as u64);
    // Most messages are short, so moving them by a byte or two beats measuring them first.
    out.splice(start..start, length);
}

/// Nanoseconds since 1970, negative before, at the ends of the range beyond the years 1677 and 2262.
pub(crate) fn unix_nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// Milliseconds since 1970, rounded down.
pub(crate) fn unix_ms(time: SystemTime) -> i64 {
    unix_nanos(time).div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_nested_message_longer_than_127_bytes_keeps_its_length() {
        let mut out = Vec::new();
        put_delimited(&mut out, |message| {
            message.message(1, |inner| inner.text(2, &"x".repeat(200)))
        });
        assert_eq!(out[..8], [0xce, 1, 0x0a, 0xcb, 1, 0x12, 0xc8, 1]);
        assert_eq!(out.len(), 8 + 200);
    }

    #[test]
    fn times_before_1970_round_down() {
        let time = UNIX_EPOCH - Duration::from_nanos(1_500_000);
        assert_eq!((unix_nanos(time), unix_ms(time)), (-1_500_000, -2));
        let mut out = Vec::new();
        put(&mut out, |message| message.timestamp(1, UNIX_EPOCH + Duration::new(3, 5)));
        assert_eq!(out, [0x0a, 4, 8, 3, 16, 5]);
    }
}
