//! Distributions in exponential buckets, which need no bounds and whose error is relative.
//!
//! A [`Scale`] divides each doubling into the same number of buckets. Those of one series exist only
//! where values fell: they come in *pages* of a few dozen in a row, each a [block](crate::cells) with
//! a sum of its own, and a page is made by the first value that falls into it. So a series of
//! latencies takes one or two KiB, and what is read is page by page consistent: every value is in the
//! buckets and in the sum, or in neither.
//!
//! Absolute values outside of 2^-64 to 2^64 count in the outermost bucket on that side; 0 and
//! anything smaller than the smallest bound counts as zero.

mod distribution;
mod scale;
mod windows;

pub(crate) use distribution::Distribution;
pub(crate) use scale::{EXPONENT_MAX, Scale};
pub(crate) use windows::Windows;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::cells::{self, BLOCK_HEAD, Block, Cells, Slot};
use crate::resume::{KEY_ZERO, KeptSeries, page_key};
use crate::sync::Arc;

/// Buckets of a page, at most.
const PAGE_BUCKETS_MAX: usize = 32;

/// One series of exponential buckets.
#[derive(Debug)]
pub(crate) struct Exponential {
    scale: &'static Scale,
    cells: Arc<Cells>,
    positive: Pages,
    negative: OnceLock<Pages>,
    /// Counts zeros, in a page of one bucket.
    zero: OnceLock<Slot>,
    /// Set before anybody else knows of the series, if its collector resumes.
    kept: OnceLock<Box<Kept>>,
}

/// The part of a series that the next process goes on with.
#[derive(Debug)]
struct Kept {
    series: KeptSeries,
    /// Whether the series is no more, so that its cells may be given back.
    is_gone: AtomicBool,
}

/// On which side of zero the values of a page are.
#[derive(Debug, Clone, Copy)]
enum Side {
    Positive = 0,
    Negative = 1,
}

/// For each page the slot of its block plus 1, or 0 where no value has fallen.
#[derive(Debug)]
struct Pages(Box<[AtomicU32]>);

impl Exponential {
    pub(crate) fn new(scale: &'static Scale, cells: Arc<Cells>) -> Self {
        let positive = Pages::new(scale);
        Self {
            scale,
            cells,
            positive,
            negative: OnceLock::new(),
            zero: OnceLock::new(),
            kept: OnceLock::new(),
        }
    }

    /// The index of the bucket of an absolute value.
    pub(crate) fn index_of(&self, magnitude: f64) -> i32 {
        let (page, bucket) = self.scale.place(magnitude.max(Scale::SMALLEST));
        self.scale.index(page, bucket)
    }

    pub(crate) fn scale(&self) -> &'static Scale {
        self.scale
    }

    /// Records a value that is not NaN.
    #[inline]
    pub(crate) fn observe(&self, value: f64) {
        debug_assert!(!value.is_nan(), "NaN is dropped before it comes here");
        if value < Scale::SMALLEST {
            return self.observe_rare(value);
        }
        self.count(&self.positive, Side::Positive, value, value);
    }

    #[inline]
    fn count(&self, pages: &Pages, side: Side, magnitude: f64, value: f64) {
        let (page, bucket) = self.scale.place(magnitude);
        let slot = match pages.0[page].load(Ordering::Acquire) {
            0 => self.make_page(pages, side, page),
            slot => Slot::from_raw(slot - 1),
        };
        self.observe_at(slot, bucket, value);
    }

    #[inline]
    fn observe_at(&self, slot: Slot, bucket: usize, value: f64) {
        if !cells::try_observe(slot, bucket, value) {
            self.cells.observe_slowly(slot, bucket, value);
        }
    }

    /// Zeros and negative values.
    #[cold]
    fn observe_rare(&self, value: f64) {
        if value > -Scale::SMALLEST {
            let slot = *self.zero.get_or_init(|| self.make_zero());
            self.observe_at(slot, 0, value);
        } else {
            let pages = self.negative.get_or_init(|| Pages::new(self.scale));
            self.count(pages, Side::Negative, -value, value);
        }
    }

    #[cold]
    fn make_page(&self, pages: &Pages, side: Side, page: usize) -> Slot {
        if let Some(kept) = self.kept.get() {
            return self.make_kept_page(&kept.series, pages, side, page);
        }
        let made = self.make_block(self.scale.page_buckets());
        let entry = &pages.0[page];
        // Pairs with the load of `count` on other threads, which may write there at once.
        match entry.compare_exchange(0, made.to_raw() + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(other) => {
                self.cells.free(made, BLOCK_HEAD + self.scale.page_buckets());
                Slot::from_raw(other - 1)
            }
        }
    }

    /// As [`make_page`](Self::make_page), one thread at a time: so that what is written down is the
    /// page that is used, and before it is.
    fn make_kept_page(&self, kept: &KeptSeries, pages: &Pages, side: Side, page: usize) -> Slot {
        let _making = kept.making();
        if let Some(made) = pages.get(page) {
            return made;
        }
        let made = self.make_block(self.scale.page_buckets());
        kept.add_block(page_key(side as u32, page), made);
        pages.set(page, made);
        made
    }

    fn make_zero(&self) -> Slot {
        let made = self.make_block(1);
        if let Some(kept) = self.kept.get() {
            kept.series.add_block(KEY_ZERO, made);
        }
        made
    }

    /// Takes over the blocks that an earlier process left, by their keys; says where each is now.
    /// Nobody else knows of the series yet.
    pub(crate) fn resume(&self, blocks: &[(u32, Vec<u64>)]) -> Vec<(u32, Slot)> {
        let place = |(key, cells): &(u32, Vec<u64>)| {
            let slot = self.make_block(cells.len() - BLOCK_HEAD);
            self.cells.seed(slot, cells);
            let page = (*key & 0xffff) as usize;
            if *key == KEY_ZERO {
                self.zero.get_or_init(|| slot);
            } else if *key == page_key(Side::Positive as u32, page) {
                self.positive.set(page, slot);
            } else {
                self.negative.get_or_init(|| Pages::new(self.scale)).set(page, slot);
            }
            (*key, slot)
        };
        blocks.iter().map(place).collect()
    }

    /// From now on, says where its blocks are. Nobody else knows of the series yet.
    pub(crate) fn keep(&self, series: KeptSeries) {
        self.kept.get_or_init(|| Box::new(Kept { series, is_gone: AtomicBool::new(false) }));
    }

    /// The next process does not go on with the series.
    pub(crate) fn disown(&self) {
        if let Some(kept) = self.kept.get() {
            kept.is_gone.store(true, Ordering::Release);
        }
    }

    fn make_block(&self, buckets: usize) -> Slot {
        let slot = self.cells.allocate(BLOCK_HEAD + buckets);
        self.cells.mark_floats(slot, Block::SUMS);
        slot
    }

    /// Reads the series, page by page.
    pub(crate) fn read(&self) -> Distribution {
        let mut found = Distribution::default();
        if let Some(slot) = self.zero.get() {
            let mut zero = [0];
            found.sum += self.cells.read_block(*slot, &mut zero);
            found.zero = zero[0];
        }
        found.sum += self.read_pages(&self.positive, &mut found.positive);
        if let Some(pages) = self.negative.get() {
            found.sum += self.read_pages(pages, &mut found.negative);
        }
        found
    }

    fn read_pages(&self, pages: &Pages, out: &mut Vec<(i32, u64)>) -> f64 {
        let mut sum = 0.0;
        for (page, slot) in pages.made() {
            let mut buckets = [0; PAGE_BUCKETS_MAX];
            let buckets = &mut buckets[..self.scale.page_buckets()];
            sum += self.cells.read_block(slot, buckets);
            let filled = buckets.iter().enumerate().filter(|(_, count)| **count > 0);
            out.extend(filled.map(|(bucket, count)| (self.scale.index(page, bucket), *count)));
        }
        sum
    }

    /// Bytes that the series takes on the heap, without the cells of its writers.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn heap_bytes(&self) -> usize {
        let tables = 1 + usize::from(self.negative.get().is_some());
        size_of::<Self>() + tables * self.positive.0.len() * size_of::<AtomicU32>()
    }

    /// Cells that each writing thread has for the series.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn cells_count(&self) -> usize {
        let pages = self.positive.made().count()
            + self.negative.get().map_or(0, |pages| pages.made().count());
        pages * (BLOCK_HEAD + self.scale.page_buckets())
            + usize::from(self.zero.get().is_some()) * (BLOCK_HEAD + 1)
    }
}

impl Drop for Exponential {
    fn drop(&mut self) {
        // With the whole collector: what is in the cells is for the next process.
        if self.kept.get().is_some_and(|kept| !kept.is_gone.load(Ordering::Acquire)) {
            return;
        }
        let negative = self.negative.get().into_iter().flat_map(Pages::made);
        for (_, slot) in self.positive.made().chain(negative) {
            self.cells.free(slot, BLOCK_HEAD + self.scale.page_buckets());
        }
        if let Some(slot) = self.zero.get() {
            self.cells.free(*slot, BLOCK_HEAD + 1);
        }
    }
}

impl Pages {
    fn new(scale: &Scale) -> Self {
        Self((0..scale.pages()).map(|_| AtomicU32::new(0)).collect())
    }

    fn get(&self, page: usize) -> Option<Slot> {
        self.0[page].load(Ordering::Acquire).checked_sub(1).map(Slot::from_raw)
    }

    fn set(&self, page: usize, slot: Slot) {
        self.0[page].store(slot.to_raw() + 1, Ordering::Release);
    }

    fn made(&self) -> impl Iterator<Item = (usize, Slot)> {
        self.0.iter().enumerate().filter_map(|(page, slot)| {
            let slot = slot.load(Ordering::Acquire).checked_sub(1)?;
            Some((page, Slot::from_raw(slot)))
        })
    }
}
