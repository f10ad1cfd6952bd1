//! Whole numbers in as few bytes as they need, seven bits a byte, lowest first (LEB128).
//!
//! Reading never goes past the end and never trusts a length: whoever allocates by a number read
//! here compares it with [`Reader::left`] first.

use super::CodecError;

/// Appends a number.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a number that may be negative; small ones of both signs stay small.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Goes through bytes from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    /// Whatever is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// Fails unless everything was read.
    pub(crate) fn end(self) -> Result<(), CodecError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(CodecError::Malformed("bytes left over")) }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (front, rest) = self.bytes.split_at_checked(count).ok_or(CodecError::Short)?;
        self.bytes = rest;
        Ok(front)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (front, rest) = self.bytes.split_first_chunk::<N>().ok_or(CodecError::Short)?;
        self.bytes = rest;
        Ok(*front)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn varint(&mut self) -> Result<u64, CodecError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(CodecError::Malformed("a number of more than 64 bits"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, CodecError> {
        let folded = self.varint()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    /// A count of things of which each takes at least `bytes_each` of the bytes that are left.
    pub(crate) fn count(&mut self, bytes_each: usize) -> Result<usize, CodecError> {
        let count = usize::try_from(self.varint()?).map_err(|_| CodecError::Short)?;
        if count > self.left() / bytes_each.max(1) { Err(CodecError::Short) } else { Ok(count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_overlong_ones_are_refused() {
        let mut out = Vec::new();
        for number in [0, 1, 127, 128, 1 << 35, u64::MAX] {
            out.clear();
            put(&mut out, number);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(number));
            assert_eq!(reader.end(), Ok(()));
        }
        for number in [0, -1, 1, -64, 63, i64::MIN, i64::MAX] {
            out.clear();
            put_signed(&mut out, number);
            assert_eq!(Reader::new(&out).signed(), Ok(number));
        }
        assert_eq!(Reader::new(&[0x80]).varint(), Err(CodecError::Short));
        let overlong = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert!(Reader::new(&overlong).varint().is_err());
    }

    #[test]
    fn a_count_beyond_the_bytes_that_are_there_is_refused() {
        let mut out = Vec::new();
        put(&mut out, u64::from(u32::MAX));
        assert_eq!(Reader::new(&out).count(1), Err(CodecError::Short));
    }
}
