//! Reading a frame: nothing is taken on trust, and nothing is allocated by what a length claims.

/// What is wrong with a frame, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) offset: usize,
    pub(super) problem: &'static str,
}

/// A position in a frame.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(frame: &'a [u8]) -> Self {
        Self { rest: frame, length: frame.len() }
    }

    pub(super) fn malformed(&self, problem: &'static str) -> Malformed {
        Malformed { offset: self.length - self.rest.len(), problem }
    }

    pub(super) fn peek(&self) -> Result<u8, Malformed> {
        self.rest.first().copied().ok_or_else(|| self.malformed("the frame is cut off"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek()?;
        self.rest = &self.rest[1..];
        Ok(byte)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let Some((bytes, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.malformed("the frame is cut off"));
        };
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number of more than 64 bits"))
    }

    /// A number below `limit`.
    pub(super) fn index(
        &mut self,
        limit: usize,
        problem: &'static str,
    ) -> Result<usize, Malformed> {
        let value = self.varint()?;
        match usize::try_from(value) {
            Ok(value) if value < limit => Ok(value),
            _ => Err(self.malformed(problem)),
        }
    }

    /// The number of items that follow, each of at least one byte.
    pub(super) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(self.malformed("more items than the frame has bytes")),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.count()?;
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed("a text that is not UTF-8"))
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("bytes behind the end")) }
    }
}

/// Ids in ascending order, read as gaps.
#[derive(Debug, Default)]
pub(super) struct Ids {
    next: usize,
}

impl Ids {
    /// The next id, which is below `limit`.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader<'_>,
        limit: usize,
    ) -> Result<usize, Malformed> {
        let left = limit.saturating_sub(self.next);
        let id = self.next + reader.index(left, "an id beyond the series table")?;
        self.next = id + 1;
        Ok(id)
    }
}
