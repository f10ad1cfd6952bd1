//! What a running process writes down of its series.
//!
//! The order that everything rests on, for a process may be killed after any store:
//! - a page is said to belong to a group before a thread stores in it;
//! - a series that goes on has its earlier numbers in the cells before the record that says so, and
//!   until then they are in the file as they were;
//! - a series is said to be gone before its cells are made 0, and so before another one has them.
//!
//! If something cannot be written down, the file is made void by one store: it would be wrong from
//! then on. What was mapped stays in use as memory, and nothing more is written.
//!
//! Locks: the table of a family, then that of a group, then the one in here.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cells_file::CellsFile;
use super::ledger::Ledger;
use super::record::{Place, Record};
use super::series_file::SeriesFile;
use crate::cells::{Backing, ChunkRef, Slot};
use crate::sync::{Mutex, MutexGuard, lock};

/// Bytes of records from which on it is worth while to write anew those that still hold.
const REWRITE_BYTES_MIN: u64 = 1 << 20;

/// Keeps the cells of a collector in a directory.
#[derive(Debug)]
pub(crate) struct Keeper {
    directory: PathBuf,
    /// Pages, series and families that could not be written down.
    failures: AtomicU64,
    /// Held while a page of an exponential series is made.
    making: Mutex<()>,
    journal: Mutex<Journal>,
}

#[derive(Debug)]
struct Journal {
    /// `None` once the file is void.
    files: Option<Files>,
    families: HashMap<String, Family>,
    next_family: u32,
    next_series: u64,
    /// The series that nobody has registered yet, by family and labels.
    dormant: HashMap<u32, HashMap<String, Dormant>>,
    /// The lock of the directory; let go of when the collector is dropped.
    lock: Option<File>,
}

#[derive(Debug)]
struct Files {
    series: SeriesFile,
    cells: CellsFile,
    /// Bytes of records from which on they are written anew.
    rewrite_at: u64,
}

#[derive(Debug)]
struct Family {
    id: u32,
    layout: Vec<u8>,
}

/// What an earlier process left of a series.
#[derive(Debug)]
pub(super) struct Dormant {
    pub(super) id: u64,
    pub(super) created_ms: u64,
    /// Numbers by their keys.
    pub(super) blocks: Vec<(u32, Vec<u64>)>,
}

/// What is known of a series when it is registered.
#[derive(Debug)]
pub(super) struct Taken {
    family: u32,
    pub(super) dormant: Option<Dormant>,
}

impl Keeper {
    /// `ledger` is what the series file holds; it has no numbers in the cells.
    pub(super) fn new(
        directory: PathBuf,
        ledger: Ledger,
        series: SeriesFile,
        cells: CellsFile,
        lock: File,
    ) -> Self {
        let mut families = HashMap::new();
        let mut dormant: HashMap<u32, HashMap<String, Dormant>> = HashMap::new();
        let next_family = ledger.families.keys().last().map_or(0, |id| id + 1);
        let next_series = ledger.series.keys().last().map_or(0, |id| id + 1);
        for (id, family) in ledger.families {
            families.insert(family.name, Family { id, layout: family.layout });
        }
        for (id, series) in ledger.series {
            let numbers = |(key, place)| match place {
                Place::Here(cells) => Some((key, cells)),
                Place::Slot(_) => None,
            };
            let blocks = series.blocks.into_iter().filter_map(numbers).collect();
            let left = Dormant { id, created_ms: series.created_ms, blocks };
            dormant.entry(series.family).or_default().insert(series.text, left);
        }
        let rewrite_at = rewrite_at(series.length());
        let files = Some(Files { series, cells, rewrite_at });
        let lock = Some(lock);
        let journal = Journal { files, families, next_family, next_series, dormant, lock };
        Self {
            directory,
            failures: AtomicU64::new(0),
            making: Mutex::new(()),
            journal: Mutex::new(journal),
        }
    }

    /// Nobody will count any more. Threads that still own chunks keep these and the files, but the
    /// directory is free for the next collector.
    pub(crate) fn end(&self) {
        drop(lock(&self.journal).lock.take());
    }

    /// Lets every write from now on fail as on a full disk.
    #[cfg(test)]
    #[cfg(not(any(loom, miri)))]
    pub(super) fn fill_up(&self) {
        if let Some(Files { series, cells, .. }) = &mut lock(&self.journal).files {
            series.fill_up();
            cells.fill_up();
        }
    }

    /// Pages, series and families that could not be written down.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// To be held while a page of a series is made and written down, so that the record is of the
    /// page that is used.
    pub(super) fn making(&self) -> MutexGuard<'_, ()> {
        lock(&self.making)
    }

    /// Takes what an earlier process left of a series. Whoever takes it puts it into the cells and
    /// then calls [`enrol`](Self::enrol).
    pub(super) fn take(&self, name: &str, layout: &[u8], text: &str) -> Taken {
        let mut journal = lock(&self.journal);
        let family = self.family(&mut journal, name, layout);
        let dormant = journal.dormant.get_mut(&family).and_then(|left| left.remove(text));
        Taken { family, dormant }
    }

    /// The number of a family, which is written down if it is new.
    fn family(&self, journal: &mut Journal, name: &str, layout: &[u8]) -> u32 {
        if let Some(family) = journal.families.get(name).filter(|own| own.layout == layout) {
            return family.id;
        }
        let id = journal.next_family;
        journal.next_family += 1;
        let (name, layout) = (name.to_owned(), layout.to_vec());
        let old = journal.families.insert(name.clone(), Family { id, layout: layout.clone() });
        if let Some(old) = old {
            journal.dormant.remove(&old.id);
        }
        self.append(journal, &[Record::Family { id, name, layout }]);
        id
    }

    /// Writes down where a series counts from now on; returns its number.
    pub(super) fn enrol(
        &self,
        taken: &Taken,
        text: &str,
        created_ms: u64,
        places: impl IntoIterator<Item = (u32, Slot)>,
    ) -> u64 {
        let mut journal = lock(&self.journal);
        let mut records = Vec::new();
        let id = if let Some(dormant) = &taken.dormant {
            dormant.id
        } else {
            let id = journal.next_series;
            journal.next_series += 1;
            let (family, text) = (taken.family, text.to_owned());
            records.push(Record::Series { id, family, absent: 0, created_ms, text });
            id
        };
        records.extend(places.into_iter().map(|(key, slot)| block(id, key, slot)));
        self.append(&mut journal, &records);
        id
    }

    /// Writes down where one more block of a series is.
    pub(super) fn add_block(&self, series: u64, key: u32, slot: Slot) {
        self.append(&mut lock(&self.journal), &[block(series, key, slot)]);
    }

    /// Writes down that a series is no more.
    pub(super) fn gone(&self, series: u64) {
        self.append(&mut lock(&self.journal), &[Record::Gone { series }]);
    }

    fn append(&self, journal: &mut Journal, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.write(&mut bytes));
        let appended = journal.files.as_mut().map(|files| files.append(&self.directory, &bytes));
        if !matches!(appended, Some(Ok(()))) {
            self.give_up(journal);
        }
    }

    /// Makes the file void, if it is not yet, and counts a failure.
    fn give_up(&self, journal: &mut Journal) {
        if let Some(Files { series, .. }) = journal.files.take() {
            series.make_void();
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl Files {
    fn append(&mut self, directory: &std::path::Path, records: &[u8]) -> io::Result<()> {
        self.series.append(records)?;
        if self.series.length() >= self.rewrite_at {
            // If there is no room for it, the file goes on to be appended to.
            let _rewritten = self.rewrite(directory);
            self.rewrite_at = rewrite_at(self.series.length());
        }
        Ok(())
    }

    /// Leaves out what no longer holds.
    fn rewrite(&mut self, directory: &std::path::Path) -> io::Result<()> {
        let ledger = Ledger::read(&self.series.records()?).map_err(io::Error::other)?;
        self.series.replace(directory, &ledger.write())
    }
}

impl Backing for Keeper {
    fn chunk(&self, group: u32) -> Option<ChunkRef> {
        let mut journal = lock(&self.journal);
        let page = journal.files.as_mut().map(|files| files.cells.page());
        let Some(Ok((page, chunk))) = page else {
            self.give_up(&mut journal);
            return None;
        };
        self.append(&mut journal, &[Record::Page { page, group }]);
        Some(chunk)
    }
}

fn block(series: u64, key: u32, slot: Slot) -> Record {
    Record::Block { series, key, place: Place::Slot(slot.to_raw()) }
}

fn rewrite_at(length: u64) -> u64 {
    2 * length + REWRITE_BYTES_MIN
}
