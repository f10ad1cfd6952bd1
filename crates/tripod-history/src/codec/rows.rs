//! The shared parts of a block: the times of its rows, and in which rows a series has a value.

use super::CodecError;
use super::varint::{self, Reader};

/// Appends ascending times: the first, then how much each step differs from the one before.
pub(crate) fn put_times(times: &[i64], out: &mut Vec<u8>) {
    let (mut before, mut step_before) = (0_i64, 0_i64);
    for &time in times {
        let step = time.wrapping_sub(before);
        varint::put_signed(out, step.wrapping_sub(step_before));
        (before, step_before) = (time, step);
    }
}

/// Reads `count` ascending times.
pub(crate) fn times(bytes: &[u8], count: usize) -> Result<Box<[i64]>, CodecError> {
    let mut reader = Reader::new(bytes);
    if count > reader.left() {
        return Err(CodecError::Short);
    }
    let (mut time, mut step) = (0_i64, 0_i64);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        step = step.wrapping_add(reader.signed()?);
        let next = time.wrapping_add(step);
        if !times.is_empty() && next <= time {
            return Err(CodecError::Malformed("times that do not ascend"));
        }
        time = next;
        times.push(time);
    }
    reader.end()?;
    Ok(times.into())
}

/// In which rows of a block a series has a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Presence {
    /// Lengths of the runs of rows with and without a value, in turns, one with a value first.
    runs: Vec<u32>,
}

impl Presence {
    /// Every one of so many rows.
    pub(crate) fn set_all(&mut self, rows: usize) {
        self.runs.clear();
        self.runs.push(rows as u32);
    }

    /// Adds the next row.
    pub(crate) fn push(&mut self, present: bool) {
        let last_is_present = self.runs.len() % 2 == 1;
        match self.runs.last_mut() {
            Some(run) if last_is_present == present => *run += 1,
            None if !present => self.runs.extend([0, 1]),
            _ => self.runs.push(1),
        }
    }

    /// Forgets all rows.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    /// The rows with a value, ascending.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        let mut start = 0;
        self.runs.iter().enumerate().flat_map(move |(turn, run)| {
            let rows = start..start + *run as usize;
            start = rows.end;
            if turn % 2 == 0 { rows } else { 0..0 }
        })
    }

    /// How many rows have a value.
    pub(crate) fn count(&self) -> usize {
        self.runs.iter().step_by(2).map(|run| *run as usize).sum()
    }

    /// Appends the runs; a lone 0 means that every row has a value.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let runs = if self.runs.len() == 1 { &[] } else { &self.runs[..] };
        varint::put(out, runs.len() as u64);
        for run in runs {
            varint::put(out, u64::from(*run));
        }
    }

    /// Reads the runs of a block of `rows` rows.
    pub(crate) fn read(reader: &mut Reader<'_>, rows: usize) -> Result<Self, CodecError> {
        let count = reader.count(1)?;
        let whole = u32::try_from(rows).map_err(|_| CodecError::Malformed("too many rows"))?;
        if count == 0 {
            return Ok(Self { runs: vec![whole] });
        }
        let mut runs = Vec::with_capacity(count);
        let mut left = whole;
        for _ in 0..count {
            let run = u32::try_from(reader.varint()?).unwrap_or(u32::MAX);
            left = left.checked_sub(run).ok_or(CodecError::Malformed("rows beyond the last"))?;
            runs.push(run);
        }
        if left == 0 { Ok(Self { runs }) } else { Err(CodecError::Short) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn presence_comes_back(rows in prop::collection::vec(any::<bool>(), 1..200)) {
            let mut presence = Presence::default();
            rows.iter().for_each(|row| presence.push(*row));
            let mut bytes = Vec::new();
            presence.put(&mut bytes);
            let read = Presence::read(&mut Reader::new(&bytes), rows.len()).expect("good bytes");
            let expected: Vec<_> = (0..rows.len()).filter(|row| rows[*row]).collect();
            prop_assert_eq!(read.rows().collect::<Vec<_>>(), expected);
            prop_assert_eq!(read.count(), rows.iter().filter(|row| **row).count());
        }

        #[test]
        fn times_come_back(start in any::<i64>(), steps in prop::collection::vec(1_i64..1 << 40, 0..99)) {
            let start = start.min(i64::MAX - (1 << 47));
            let mut ascending = vec![start];
            ascending.extend(steps.iter().scan(start, |time, step| {
                *time += step;
                Some(*time)
            }));
            let mut bytes = Vec::new();
            put_times(&ascending, &mut bytes);
            prop_assert_eq!(&*times(&bytes, ascending.len()).expect("good bytes"), &ascending[..]);
        }
    }

    #[test]
    fn times_that_stand_still_are_refused() {
        let mut bytes = Vec::new();
        put_times(&[5, 5], &mut bytes);
        assert!(matches!(times(&bytes, 2), Err(CodecError::Malformed(_))));
    }
}
