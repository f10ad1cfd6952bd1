//! What the records of a series file add up to. Pure.

use std::collections::BTreeMap;
use std::io;

use super::layout::{self, Numbers};
use super::record::{Place, Record, Torn};
use crate::cells::{BLOCK_HEAD, Block, CHUNK_CELLS, FloatTotal, Remains, Slot};

/// Processes in a row that may leave a series unregistered; the next one forgets it.
const ABSENT_MAX: u8 = 2;

/// Everything that is counted in a directory.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ledger {
    pub(super) constant: String,
    pub(super) families: BTreeMap<u32, Family>,
    pub(super) series: BTreeMap<u64, Series>,
    /// The pages of each group, in the order in which they came.
    pages: BTreeMap<u32, Vec<u32>>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) layout: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Series {
    pub(super) family: u32,
    absent: u8,
    pub(super) created_ms: u64,
    pub(super) text: String,
    /// By their keys.
    pub(super) blocks: BTreeMap<u32, Place>,
}

/// Why numbers could not be taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("a record is torn")]
    Torn,
    #[error("{0}")]
    Contradiction(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Torn> for Unusable {
    fn from(_: Torn) -> Self {
        Self::Torn
    }
}

/// Numbers in the cells.
struct Located {
    slot: Slot,
    numbers: Numbers,
    series: u64,
    key: u32,
}

impl Ledger {
    /// Reads records up to the end of `bytes`.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self, Unusable> {
        let mut ledger = Self::default();
        while let Some(record) = Record::read(&mut bytes)? {
            ledger.apply(record);
        }
        Ok(ledger)
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Constant(text) => self.constant = text,
            Record::Family { id, name, layout } => {
                let is_replaced = |family: &Family| family.name == name;
                if let Some((old, _)) = self.families.iter().find(|(_, own)| is_replaced(own)) {
                    let old = *old;
                    self.families.remove(&old);
                    self.series.retain(|_, series| series.family != old);
                }
                self.families.insert(id, Family { name, layout });
            }
            Record::Series { id, family, absent, created_ms, text } => {
                if self.families.contains_key(&family) {
                    let blocks = BTreeMap::new();
                    self.series.insert(id, Series { family, absent, created_ms, text, blocks });
                }
            }
            // What is said of a series that is gone came too late, and does not matter.
            Record::Block { series, key, place } => {
                if let Some(series) = self.series.get_mut(&series) {
                    series.blocks.insert(key, place);
                }
            }
            Record::Page { page, group } => self.pages.entry(group).or_default().push(page),
            Record::Gone { series } => drop(self.series.remove(&series)),
        }
    }

    /// The fewest records that add up to the same.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Record::Constant(self.constant.clone()).write(&mut out);
        for (id, Family { name, layout }) in &self.families {
            let (name, layout) = (name.clone(), layout.clone());
            Record::Family { id: *id, name, layout }.write(&mut out);
        }
        for (group, pages) in &self.pages {
            pages
                .iter()
                .for_each(|page| Record::Page { page: *page, group: *group }.write(&mut out));
        }
        for (id, series) in &self.series {
            let Series { family, absent, created_ms, text, blocks } = series;
            let text = text.clone();
            Record::Series {
                id: *id,
                family: *family,
                absent: *absent,
                created_ms: *created_ms,
                text,
            }
            .write(&mut out);
            for (key, place) in blocks {
                Record::Block { series: *id, key: *key, place: place.clone() }.write(&mut out);
            }
        }
        out
    }

    /// Takes all numbers out of the cells, whose pages `page` reads, so that the ledger stands alone;
    /// and forgets series that nobody has registered for long.
    pub(super) fn settle(
        &mut self,
        mut page: impl FnMut(u32) -> io::Result<[u64; CHUNK_CELLS]>,
    ) -> Result<(), Unusable> {
        let located = self.located()?;
        let pages = std::mem::take(&mut self.pages);
        for of_group in located.chunk_by(|a, b| a.slot.group() == b.slot.group()) {
            let own = pages.get(&(of_group[0].slot.group() as u32));
            let chunks: io::Result<Vec<_>> =
                own.into_iter().flatten().map(|at| page(*at)).collect();
            let chunks = chunks?;
            for Located { slot, numbers, series, key } in of_group {
                let place = Place::Here(total(&chunks, slot.cell(), *numbers)?);
                if let Some(series) = self.series.get_mut(series) {
                    series.blocks.insert(*key, place);
                }
            }
        }
        self.count_absent(&located);
        self.series.retain(|_, series| series.absent < ABSENT_MAX);
        let Self { families, series, .. } = self;
        families.retain(|id, _| series.values().any(|series| series.family == *id));
        Ok(())
    }

    /// What is in the cells, by slot; checks that each block fits its family and no other.
    fn located(&self) -> Result<Vec<Located>, Unusable> {
        let mut located = Vec::new();
        for (id, series) in &self.series {
            let layout = &self.families[&series.family].layout;
            for (key, place) in &series.blocks {
                let numbers = layout::numbers(layout, *key);
                let numbers =
                    numbers.ok_or(Unusable::Contradiction("a family has no such block"))?;
                match place {
                    Place::Slot(raw) => {
                        let slot = Slot::from_raw(*raw);
                        located.push(Located { slot, numbers, series: *id, key: *key });
                    }
                    Place::Here(cells) if cells.len() == numbers.width() => {}
                    Place::Here(_) => {
                        return Err(Unusable::Contradiction("a block is of another length"));
                    }
                }
            }
        }
        located.sort_unstable_by_key(|located| located.slot);
        let ends = |located: &Located| located.slot.to_raw() as usize + located.numbers.width();
        let is_apart =
            located.windows(2).all(|pair| ends(&pair[0]) <= pair[1].slot.to_raw() as usize);
        let fits = |located: &Located| located.slot.cell() + located.numbers.width() <= CHUNK_CELLS;
        if is_apart && located.iter().all(fits) {
            return Ok(located);
        }
        Err(Unusable::Contradiction("two series share a cell"))
    }

    /// A process that registered nothing at all does not count: it did not get that far.
    fn count_absent(&mut self, located: &[Located]) {
        if located.is_empty() {
            return;
        }
        self.series.values_mut().for_each(|series| series.absent = series.absent.saturating_add(1));
        for Located { series, .. } in located {
            if let Some(series) = self.series.get_mut(series) {
                series.absent = 0;
            }
        }
    }
}

/// The total over all chunks, which is what the process would have read itself: fractions are added
/// in the same order, so that no bit of a sum differs.
fn total(
    chunks: &[[u64; CHUNK_CELLS]],
    cell: usize,
    numbers: Numbers,
) -> Result<Vec<u64>, Unusable> {
    match numbers {
        Numbers::Whole => {
            Ok(vec![chunks.iter().map(|chunk| chunk[cell]).fold(0, u64::wrapping_add)])
        }
        Numbers::Fraction => {
            let sum = total_of(chunks.iter().map(|chunk| f64::from_bits(chunk[cell])));
            Ok(vec![sum.to_bits()])
        }
        Numbers::Block { counts } => {
            let blocks: Option<Vec<Remains<'_>>> = chunks
                .iter()
                .map(|chunk| Remains::of(&chunk[cell..][..BLOCK_HEAD + counts]))
                .collect();
            let blocks =
                blocks.ok_or(Unusable::Contradiction("the counts of a block are not its own"))?;
            let mut cells = vec![0; BLOCK_HEAD + counts];
            for (at, sum) in cells[BLOCK_HEAD..].iter_mut().enumerate() {
                *sum = blocks.iter().map(|block| block.counts[at]).fold(0, u64::wrapping_add);
            }
            let count = cells[BLOCK_HEAD..].iter().copied().fold(0, u64::wrapping_add);
            cells[0] = count.wrapping_mul(2);
            let sum = total_of(blocks.iter().flat_map(|block| block.sums));
            cells[Block::SUMS.start] = sum.to_bits();
            Ok(cells)
        }
    }
}

/// The total as a reader would have it.
fn total_of(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut total = FloatTotal::default();
    numbers.for_each(|number| total.add(number));
    total.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTER: &[u8] = &[1];
    const FLOAT_COUNTER: &[u8] = &[2];

    fn family(id: u32, name: &str, layout: &[u8]) -> Record {
        Record::Family { id, name: name.to_owned(), layout: layout.to_vec() }
    }

    fn series(id: u64, family: u32, text: &str) -> Record {
        Record::Series { id, family, absent: 0, created_ms: id, text: text.to_owned() }
    }

    fn block(series: u64, slot: u32) -> Record {
        Record::Block { series, key: 0, place: Place::Slot(slot) }
    }

    fn ledger(records: impl IntoIterator<Item = Record>) -> Ledger {
        let mut ledger = Ledger::default();
        records.into_iter().for_each(|record| ledger.apply(record));
        ledger
    }

    /// What a settled ledger says of each series, by family and labels.
    fn numbers(ledger: &Ledger) -> Vec<(&str, &str, &[u64])> {
        let mut all = Vec::new();
        for Series { family, text, blocks, .. } in ledger.series.values() {
            let Some(Place::Here(cells)) = blocks.get(&0) else { continue };
            all.push((&*ledger.families[family].name, &**text, &**cells));
        }
        all
    }

    /// The page whose cells are its number and their own.
    fn page(page: u32) -> io::Result<[u64; CHUNK_CELLS]> {
        Ok(std::array::from_fn(|cell| u64::from(page) * 1000 + cell as u64))
    }

    #[test]
    fn written_anew_it_says_the_same() {
        let records = [
            Record::Constant("a=\"b\"".to_owned()),
            family(3, "x_total", COUNTER),
            family(4, "y_total", FLOAT_COUNTER),
            Record::Page { page: 9, group: 5 },
            Record::Page { page: 2, group: 5 },
            series(1, 3, ""),
            series(2, 4, "q=\"1\""),
            block(1, 5 * CHUNK_CELLS as u32),
            Record::Block { series: 2, key: 0, place: Place::Here(vec![7]) },
            series(3, 3, "gone"),
            Record::Gone { series: 3 },
            block(3, 0),
        ];
        let ledger = ledger(records);
        assert_eq!(Ledger::read(&ledger.write()).unwrap(), ledger);
        assert_eq!(ledger.series.len(), 2);
    }

    #[test]
    fn totals_are_over_the_pages_of_the_group() {
        let start = 5 * CHUNK_CELLS as u32;
        let records = [
            family(0, "x_total", COUNTER),
            Record::Page { page: 1, group: 5 },
            Record::Page { page: 2, group: 6 },
            Record::Page { page: 3, group: 5 },
            series(1, 0, "a"),
            block(1, start),
            series(2, 0, "b"),
            block(2, start + 7),
            series(3, 0, "c"),
            block(3, 7 * CHUNK_CELLS as u32),
        ];
        let mut ledger = ledger(records);
        ledger.settle(page).unwrap();
        let expected: [(&str, &str, &[u64]); 3] =
            [("x_total", "a", &[4000]), ("x_total", "b", &[4014]), ("x_total", "c", &[0])];
        assert_eq!(numbers(&ledger), expected);
        ledger.settle(|_| panic!("there is nothing in the cells any more")).unwrap();
    }

    #[test]
    fn fractions_are_added_as_a_reader_adds_them() {
        let fractions = [1e16_f64, 1.0, -1e16];
        let records = [0, 1, 2].map(|page| Record::Page { page, group: 0 });
        let rest = [family(0, "x_total", FLOAT_COUNTER), series(1, 0, ""), block(1, 3)];
        let mut ledger = ledger(records.into_iter().chain(rest));
        ledger.settle(|page| Ok([fractions[page as usize].to_bits(); CHUNK_CELLS])).unwrap();
        assert_eq!(numbers(&ledger)[0].2, [1_f64.to_bits()], "rounded once");
    }

    #[test]
    fn a_family_of_another_layout_takes_the_series_with_it() {
        let records = [
            family(0, "x_total", COUNTER),
            series(1, 0, ""),
            family(1, "x_total", FLOAT_COUNTER),
            series(2, 1, ""),
            // Of the old family, and so of none.
            series(3, 0, "late"),
        ];
        assert_eq!(ledger(records).series.into_keys().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_series_that_two_processes_did_not_register_is_forgotten() {
        let mut ledger = ledger([
            family(0, "x_total", COUNTER),
            family(1, "y_total", COUNTER),
            series(1, 0, ""),
            series(2, 1, ""),
            block(1, 0),
        ]);
        // What the next processes register: the first of them gets nowhere.
        let registered = [vec![], vec![block(2, 0)], vec![block(1, 0)]];
        let mut left = Vec::new();
        for records in registered.into_iter().chain(vec![vec![block(1, 0)]; 2]) {
            ledger.settle(page).unwrap();
            left.push((ledger.series.contains_key(&1), ledger.series.contains_key(&2)));
            records.into_iter().for_each(|record| ledger.apply(record));
        }
        let (both, one) = ((true, true), (true, false));
        assert_eq!(left, [both, both, both, both, one]);
        assert_eq!(ledger.families.len(), 1, "nor is a family kept that has no series");
    }

    #[test]
    fn series_that_would_share_cells_are_refused() {
        let records = || {
            [
                family(0, "x_total", COUNTER),
                Record::Family { id: 1, name: "h".to_owned(), layout: vec![4; 17] },
                series(1, 0, ""),
                series(2, 1, ""),
                block(2, 10),
            ]
        };
        for (slot, is_right) in [(9, true), (10, false), (16, false), (17, true)] {
            let settled = ledger(records().into_iter().chain([block(1, slot)])).settle(page);
            assert_eq!(settled.is_ok(), is_right, "{slot}: {settled:?}");
        }
        let beyond = ledger(records().into_iter().chain([block(2, CHUNK_CELLS as u32 - 5)]));
        assert!(beyond.located().is_err(), "a block does not go on in the next group");
    }
}
