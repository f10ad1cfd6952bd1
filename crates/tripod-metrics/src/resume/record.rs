//! The records of the series file: what is counted, and where. Pure.
//!
//! A record is a length, a checksum (CRC-32C, Castagnoli 1993) of the length and the body, and the
//! body. All numbers are little-endian. `docs/formats.md` draws each of them.

/// Bytes in front of the body: its length and the checksum.
const FRAME: usize = 8;

/// One thing that was the case from its record on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// The constant labels of the collector, as on a page. The first record.
    Constant(String),
    /// A family. It takes the place of one of the same name, with all its series.
    Family { id: u32, name: String, layout: Vec<u8> },
    /// A series, for as long as its number is not [`Gone`](Self::Gone).
    Series {
        id: u64,
        family: u32,
        /// Processes in a row that did not register it.
        absent: u8,
        created_ms: u64,
        /// The labels as on a page.
        text: String,
    },
    /// Where numbers of a series are. It takes the place of what was said of the same key.
    Block { series: u64, key: u32, place: Place },
    /// Which group a page of the cells file belongs to.
    Page { page: u32, group: u32 },
    /// A series that is no more.
    Gone { series: u64 },
}

/// Where the numbers of a block are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// In the cells from this slot on.
    Slot(u32),
    /// Here: what they had come to when the process began that has not registered the series yet.
    Here(Vec<u64>),
}

/// What is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Torn;

impl Record {
    /// Appends the record.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; FRAME]);
        self.write_body(out);
        let length = (out.len() - start - FRAME) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(length, &out[start + FRAME..]);
        out[start + 4..start + FRAME].copy_from_slice(&checksum.to_le_bytes());
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Constant(text) => {
                out.push(1);
                out.extend(text.as_bytes());
            }
            Self::Family { id, name, layout } => {
                out.push(2);
                out.extend(id.to_le_bytes());
                out.extend((name.len() as u32).to_le_bytes());
                out.extend(name.as_bytes());
                out.extend(layout);
            }
            Self::Series { id, family, absent, created_ms, text } => {
                out.push(3);
                out.extend(id.to_le_bytes());
                out.extend(family.to_le_bytes());
                out.push(*absent);
                out.extend(created_ms.to_le_bytes());
                out.extend(text.as_bytes());
            }
            Self::Block { series, key, place } => {
                out.push(if matches!(place, Place::Slot(_)) { 4 } else { 5 });
                out.extend(series.to_le_bytes());
                out.extend(key.to_le_bytes());
                match place {
                    Place::Slot(slot) => out.extend(slot.to_le_bytes()),
                    Place::Here(cells) => {
                        cells.iter().for_each(|bits| out.extend(bits.to_le_bytes()))
                    }
                }
            }
            Self::Page { page, group } => {
                out.push(6);
                out.extend(page.to_le_bytes());
                out.extend(group.to_le_bytes());
            }
            Self::Gone { series } => {
                out.push(7);
                out.extend(series.to_le_bytes());
            }
        }
    }

    /// Takes the next record from `bytes`; `None` at their end.
    pub(super) fn read(bytes: &mut &[u8]) -> Result<Option<Self>, Torn> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (frame, rest) = bytes.split_at_checked(FRAME).ok_or(Torn)?;
        let mut frame = Fields(frame);
        let (length, expected) = (frame.u32()?, frame.u32()?);
        let (body, rest) = rest.split_at_checked(length as usize).ok_or(Torn)?;
        if checksum(length, body) != expected {
            return Err(Torn);
        }
        *bytes = rest;
        Self::read_body(Fields(body)).map(Some)
    }

    fn read_body(mut body: Fields<'_>) -> Result<Self, Torn> {
        let record = match body.u8()? {
            1 => Self::Constant(body.rest_as_text()?),
            2 => {
                let (id, length) = (body.u32()?, body.u32()?);
                let name = Fields(body.take(length as usize)?).rest_as_text()?;
                Self::Family { id, name, layout: body.rest().to_vec() }
            }
            3 => Self::Series {
                id: body.u64()?,
                family: body.u32()?,
                absent: body.u8()?,
                created_ms: body.u64()?,
                text: body.rest_as_text()?,
            },
            4 => {
                let (series, key, slot) = (body.u64()?, body.u32()?, body.u32()?);
                Self::Block { series, key, place: Place::Slot(slot) }
            }
            5 => {
                let (series, key) = (body.u64()?, body.u32()?);
                let (cells, rest) = body.rest().as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(Torn);
                }
                let cells = cells.iter().map(|bits| u64::from_le_bytes(*bits)).collect();
                Self::Block { series, key, place: Place::Here(cells) }
            }
            6 => Self::Page { page: body.u32()?, group: body.u32()? },
            7 => Self::Gone { series: body.u64()? },
            _ => return Err(Torn),
        };
        if body.0.is_empty() { Ok(record) } else { Err(Torn) }
    }
}

fn checksum(length: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), body)
}

/// Fields of a body, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Torn> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(Torn)?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Torn> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Torn)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, Torn> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Torn> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Torn> {
        self.array().map(u64::from_le_bytes)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn rest_as_text(&mut self) -> Result<String, Torn> {
        String::from_utf8(self.rest().to_vec()).map_err(|_| Torn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Record> {
        vec![
            Record::Constant("zone=\"é\"".to_owned()),
            Record::Family { id: 7, name: "a_total".to_owned(), layout: vec![1, 2, 3] },
            Record::Series {
                id: 1 << 40,
                family: 7,
                absent: 1,
                created_ms: 99,
                text: "x=\"\\n\"".to_owned(),
            },
            Record::Block { series: 1 << 40, key: 5, place: Place::Slot(513) },
            Record::Block { series: 2, key: 0, place: Place::Here(vec![0, u64::MAX, 3]) },
            Record::Page { page: 3, group: 4 },
            Record::Gone { series: 1 << 40 },
        ]
    }

    fn read_all(mut bytes: &[u8]) -> Result<Vec<Record>, Torn> {
        std::iter::from_fn(|| Record::read(&mut bytes).transpose()).collect()
    }

    #[test]
    fn records_come_back_as_they_were() {
        let mut bytes = Vec::new();
        one_of_each().iter().for_each(|record| record.write(&mut bytes));
        assert_eq!(read_all(&bytes), Ok(one_of_each()));
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes there")]
    fn a_bit_that_was_flipped_or_a_byte_that_is_missing_is_noticed() {
        let mut bytes = Vec::new();
        one_of_each().iter().for_each(|record| record.write(&mut bytes));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_all(&flipped), Err(Torn), "bit {bit}");
        }
        let whole: Vec<usize> = (0..one_of_each().len())
            .map(|many| {
                let mut start = Vec::new();
                one_of_each()[..many].iter().for_each(|record| record.write(&mut start));
                start.len()
            })
            .collect();
        for length in (0..bytes.len()).filter(|length| !whole.contains(length)) {
            assert_eq!(read_all(&bytes[..length]), Err(Torn), "{length} bytes");
        }
    }
}
