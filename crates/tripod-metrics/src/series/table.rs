//! The series of one family: their label texts, where their numbers are, who holds them.
//!
//! Pure but for the counts of holders, which change under a shared lock; the owner puts a lock
//! around the table. A series keeps its position for life; positions of removed ones are used again.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashTable;

use super::Observer;
use super::text::{TextRef, Texts};
use super::values::{Cell, Column};

/// Bits of the state of a series that nothing has touched for a while; see [`super::expiry`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    /// What the series was worth when it last changed.
    pub(super) fingerprint: u64,
    /// When that was, milliseconds since 1970.
    pub(super) since_ms: u64,
    /// Whether the series is about to be removed.
    pub(super) is_retiring: bool,
}

#[derive(Debug)]
struct Record {
    text: TextRef,
    /// Handles that are held; only changed under the table's lock, so that none can appear while
    /// the series is removed.
    holders: AtomicU32,
    created_ms: u64,
}

/// All series of one family.
#[derive(Debug)]
pub(super) struct Table {
    hasher: foldhash::fast::RandomState,
    index: HashTable<u32>,
    records: Pages<Record>,
    texts: Texts,
    cells: Column,
    observers: BTreeMap<u32, Observer>,
    /// As long as `records`, or empty if the family keeps idle series.
    idle: Vec<Idle>,
    free: Vec<u32>,
    keeps_idle: bool,
}

/// One series, for reading.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) position: u32,
    pub(super) text: &'a str,
    pub(super) created_ms: u64,
    /// `None` if it is observed.
    pub(super) cell: Option<Cell<'a>>,
}

impl Table {
    pub(super) fn new(cells: Column, keeps_idle: bool) -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            index: HashTable::new(),
            records: Pages::default(),
            texts: Texts::default(),
            cells,
            observers: BTreeMap::new(),
            idle: Vec::new(),
            free: Vec::new(),
            keeps_idle,
        }
    }

    /// The number of series.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// One more than the highest position in use.
    pub(super) fn positions(&self) -> usize {
        self.records.len
    }

    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.index.find(hash, |position| self.text(*position) == text).copied()
    }

    /// Adds a series that is not there yet.
    pub(super) fn insert(&mut self, text: &str, now_ms: u64) -> u32 {
        let record =
            Record { text: self.texts.add(text), holders: AtomicU32::new(0), created_ms: now_ms };
        let idle = Idle { fingerprint: 0, since_ms: now_ms, is_retiring: false };
        let position = match self.free.pop() {
            Some(position) => {
                *self.records.get_mut(position) = record;
                self.cells.renew(position, now_ms);
                position
            }
            None => {
                let position = self.records.push(record);
                self.cells.push(now_ms);
                position
            }
        };
        let created_ms = self.cells.enrol(position, text, now_ms);
        self.records.get_mut(position).created_ms = created_ms;
        if !self.keeps_idle {
            let length = self.records.len;
            self.idle.resize(length, idle);
            self.idle[position as usize] = idle;
        }
        let Self { hasher, index, records, texts, .. } = self;
        let hash_of = |position: &u32| hasher.hash_one(texts.get(records.get(*position).text));
        index.insert_unique(hasher.hash_one(text), position, hash_of);
        position
    }

    /// Removes a series that nobody holds.
    pub(super) fn remove(&mut self, position: u32) {
        let hash = self.hasher.hash_one(self.text(position));
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == position) {
            entry.remove();
        }
        let text = std::mem::replace(&mut self.records.get_mut(position).text, TextRef::NONE);
        self.texts.remove(text);
        self.cells.clear(position);
        self.free.push(position);
    }

    #[inline]
    pub(super) fn cell(&self, position: u32) -> Option<Cell<'_>> {
        let is_observed = !self.observers.is_empty() && self.observers.contains_key(&position);
        (!is_observed).then(|| self.cells.get(position))
    }

    pub(super) fn observers(&self) -> &BTreeMap<u32, Observer> {
        &self.observers
    }

    /// Makes a series an observed one; returns the observer before.
    pub(super) fn observe(&mut self, position: u32, observer: Observer) -> Option<Observer> {
        self.cells.disown(position);
        self.observers.insert(position, observer)
    }

    #[inline]
    pub(super) fn row(&self, position: u32) -> Option<Row<'_>> {
        let record = self.records.get(position);
        (record.text != TextRef::NONE).then(|| Row {
            position,
            text: self.texts.get(record.text),
            created_ms: record.created_ms,
            cell: self.cell(position),
        })
    }

    pub(super) fn hold(&self, position: u32) {
        self.holders(position).fetch_add(1, Ordering::Relaxed);
    }

    /// Pairs with [`is_held`](Self::is_held): what the holder wrote comes before.
    pub(super) fn let_go(&self, position: u32) {
        self.holders(position).fetch_sub(1, Ordering::Release);
    }

    pub(super) fn is_held(&self, position: u32) -> bool {
        self.holders(position).load(Ordering::Acquire) > 0
    }

    pub(super) fn idle(&self, position: u32) -> Option<Idle> {
        self.idle.get(position as usize).copied()
    }

    pub(super) fn set_idle(&mut self, position: u32, idle: Idle) {
        if let Some(own) = self.idle.get_mut(position as usize) {
            *own = idle;
        }
    }

    fn holders(&self, position: u32) -> &AtomicU32 {
        &self.records.get(position).holders
    }

    fn text(&self, position: u32) -> &str {
        self.texts.get(self.records.get(position).text)
    }
}

/// A vector that grows page by page, so that it wastes less than a page.
#[derive(Debug)]
pub(super) struct Pages<T> {
    pages: Vec<Vec<T>>,
    len: usize,
}

const PAGE: usize = 256;

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }
}

impl<T> Pages<T> {
    pub(super) fn push(&mut self, value: T) -> u32 {
        let position = u32::try_from(self.len).expect("there are fewer than 2^32 series");
        if self.len.is_multiple_of(PAGE) {
            // The first page grows as it fills: most families have few series.
            let capacity = if self.pages.is_empty() { 1 } else { PAGE };
            self.pages.push(Vec::with_capacity(capacity));
        }
        if let Some(page) = self.pages.last_mut() {
            page.push(value);
        }
        self.len += 1;
        position
    }

    #[inline]
    pub(super) fn get(&self, position: u32) -> &T {
        &self.pages[position as usize / PAGE][position as usize % PAGE]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, position: u32) -> &mut T {
        &mut self.pages[position as usize / PAGE][position as usize % PAGE]
    }
}
