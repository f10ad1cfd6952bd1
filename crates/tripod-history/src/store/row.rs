//! The values of many series at one time.

use std::sync::Arc;

use super::column::Table;

/// One tick. Values are found by slot; which series a slot is, a [`Table`] says.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) time_ms: i64,
    cells: Cells,
}

#[derive(Debug, Clone)]
enum Cells {
    /// A value for every slot from 0 on, and a bit for each that counts; `None` if all do.
    Dense { values: Box<[f64]>, present: Option<Box<[u64]>> },
    /// By slot.
    Sparse(Box<[(u32, f64)]>),
}

impl Row {
    /// Makes a row of `width` slots at most; of several values for a slot the last stays.
    pub(super) fn new(time_ms: i64, width: usize, entries: &[(u32, f64)]) -> Self {
        // A dense cell takes 8 bytes, a sparse one 16.
        let cells = if entries.len() < width / 2 {
            let mut sorted = entries.to_vec();
            sorted.sort_by_key(|(slot, _)| *slot);
            sorted.reverse();
            sorted.dedup_by_key(|(slot, _)| *slot);
            sorted.reverse();
            Cells::Sparse(sorted.into())
        } else {
            dense(width, entries)
        };
        Self { time_ms, cells }
    }

    pub(super) fn get(&self, slot: u32) -> Option<f64> {
        match &self.cells {
            Cells::Dense { values, present } => {
                let value = *values.get(slot as usize)?;
                present.as_ref().is_none_or(|present| bit(present, slot)).then_some(value)
            }
            Cells::Sparse(entries) => {
                let place = entries.binary_search_by_key(&slot, |(own, _)| *own).ok()?;
                Some(entries[place].1)
            }
        }
    }

    /// Like [`Row::get`], for slots that are asked for in ascending order: `place` is kept from one
    /// to the next, 0 at first.
    pub(super) fn get_next(&self, slot: u32, place: &mut usize) -> Option<f64> {
        let Cells::Sparse(entries) = &self.cells else { return self.get(slot) };
        while entries.get(*place).is_some_and(|(own, _)| *own < slot) {
            *place += 1;
        }
        entries.get(*place).filter(|(own, _)| *own == slot).map(|(_, value)| *value)
    }

    /// The values of neighbouring slots, if every slot of the row has one.
    pub(super) fn full(&self, slots: std::ops::Range<usize>) -> Option<&[f64]> {
        match &self.cells {
            Cells::Dense { values, present: None } => values.get(slots),
            _ => None,
        }
    }

    /// Calls `visit` with each slot that has a value, ascending.
    pub(super) fn for_each(&self, mut visit: impl FnMut(u32, f64)) {
        match &self.cells {
            Cells::Dense { values, present: None } => {
                values.iter().enumerate().for_each(|(slot, value)| visit(slot as u32, *value));
            }
            Cells::Dense { values, present: Some(present) } => {
                for (slot, value) in values.iter().enumerate() {
                    if bit(present, slot as u32) {
                        visit(slot as u32, *value);
                    }
                }
            }
            Cells::Sparse(entries) => entries.iter().for_each(|(slot, value)| visit(*slot, *value)),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let cells = match &self.cells {
            Cells::Dense { values, present } => {
                values.len() * 8 + present.as_ref().map_or(0, |present| present.len() * 8)
            }
            Cells::Sparse(entries) => entries.len() * 16,
        };
        cells + size_of::<Self>()
    }
}

fn bit(bits: &[u64], slot: u32) -> bool {
    bits[slot as usize / 64] >> (slot % 64) & 1 == 1
}

fn dense(width: usize, entries: &[(u32, f64)]) -> Cells {
    let mut values = vec![0.0; width].into_boxed_slice();
    let mut present = vec![0_u64; width.div_ceil(64)].into_boxed_slice();
    for &(slot, value) in entries {
        values[slot as usize] = value;
        present[slot as usize / 64] |= 1 << (slot % 64);
    }
    let count: u32 = present.iter().map(|bits| bits.count_ones()).sum();
    Cells::Dense { values, present: (count as usize != width).then_some(present) }
}

/// Rows and what their slots mean.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) table: Table,
    pub(super) rows: Vec<Arc<Row>>,
}

impl Rows {
    /// Splits the rows wherever time went back, so that each part ascends.
    pub(super) fn ascending(&self) -> impl DoubleEndedIterator<Item = &[Arc<Row>]> {
        self.rows.chunk_by(|row, next| row.time_ms < next.time_ms).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_gives_the_last_value_of_each_slot(
            width in 1_usize..150,
            picks in prop::collection::vec((any::<prop::sample::Index>(), -9_i32..9), 0..200),
        ) {
            let entries: Vec<_> = picks
                .iter()
                .map(|(slot, value)| (slot.index(width) as u32, f64::from(*value)))
                .collect();
            let expected: std::collections::BTreeMap<_, _> = entries.iter().copied().collect();
            let row = Row::new(7, width, &entries);
            let mut seen = Vec::new();
            row.for_each(|slot, value| seen.push((slot, value)));
            prop_assert_eq!(seen, expected.clone().into_iter().collect::<Vec<_>>());
            let mut place = 0;
            for slot in 0..width as u32 + 70 {
                prop_assert_eq!(row.get(slot), expected.get(&slot).copied());
                prop_assert_eq!(row.get_next(slot, &mut place), expected.get(&slot).copied());
            }
        }
    }
}
