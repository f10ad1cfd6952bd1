//! The bookkeeping of one size class: which regions it has, which of their spans are committed, and
//! which slots are free.
//!
//! Plain data: it holds no lock, reads no clock, calls no system and dereferences no address. Its
//! owner maps regions and discards spans, and says here what it did.
//!
//! ```text
//! add_region      commit              take
//!   ---> vacant ---------> committed: free <---> taken
//!           ^                 | all free   put
//!      left |                 | leave
//!           +--- leaving <----+
//! ```
//!
//! Slots are taken from the fullest region, and spans leave the emptiest first: traffic drains the
//! regions with little in them, until they go. How full is rounded to 64 ranks. A take or a put
//! costs a few words, whatever the number of regions; a leave costs a look at one region's spans.

use crate::{layout::ClassLayout, sys::Base};

mod bits;
mod lows;
mod order;
mod ranks;
mod region;
#[cfg(test)]
mod tests;

use bits::Bits;
use lows::Lows;
use order::Order;
use ranks::Ranks;
use region::{Counts, Region, is_due};

/// A region of one shelf. Numbers of removed regions are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RegionId(pub(crate) u32);

/// A place for one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) region: RegionId,
    /// Position among the slots of the region.
    pub(crate) index: u32,
}

/// All regions of a class.
#[derive(Debug)]
pub(crate) struct Shelf {
    layout: ClassLayout,
    regions: Vec<Option<Region>>,
    /// Numbers below `regions.len()` that no region has.
    unused: Bits,
    with_free: Ranks,
    with_vacant: Ranks,
    /// `(rank, oldest stamp, region)` of regions with idle spans. The stamp may be lower than the
    /// truth; a look corrects it.
    with_idle: Order,
    collapsible: Bits,
    totals: Totals,
    lows: Lows,
}

/// What a shelf holds. A span is committed, leaving or vacant, never two of them; what is charged
/// is `committed_bytes + leaving_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShelfSums {
    pub(crate) committed_bytes: u64,
    pub(crate) leaving_bytes: u64,
    pub(crate) taken_slots: u64,
    pub(crate) free_slots: u64,
    /// Bytes of committed spans with no slot taken.
    pub(crate) reclaimable_bytes: u64,
    pub(crate) regions: u64,
}

/// A run of spans that somebody is discarding. It belongs back to [`Shelf::left`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "spans that leave stay charged until `Shelf::left` has them back"]
pub(crate) struct Leaving {
    pub(crate) region: RegionId,
    pub(crate) first_span: u32,
    pub(crate) spans: u32,
    pub(crate) base: Base,
    /// From `base` to the first byte to discard.
    pub(crate) offset: usize,
    pub(crate) len_bytes: usize,
}

/// What became vacant.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a region handed back is mapped until its receiver unmaps it"]
pub(crate) struct Left {
    pub(crate) bytes: u64,
    /// The mapping and its length, if nothing of the region is in use any more: the shelf has
    /// forgotten it.
    pub(crate) region: Option<(Base, usize)>,
}

impl Shelf {
    pub(crate) fn new(layout: ClassLayout) -> Self {
        Self {
            layout,
            regions: Vec::new(),
            unused: Bits::default(),
            with_free: Ranks::new(),
            with_vacant: Ranks::new(),
            with_idle: Order::new(),
            collapsible: Bits::default(),
            totals: Totals::default(),
            lows: Lows::default(),
        }
    }

    pub(crate) fn layout(&self) -> &ClassLayout {
        &self.layout
    }

    /// Appends up to `wanted` free slots to `out`, of the fullest regions first. Commits nothing.
    pub(crate) fn take(&mut self, wanted: usize, out: &mut Vec<Slot>) {
        let mut missing = wanted;
        while missing > 0 {
            let Some(id) = self.with_free.fullest() else {
                return;
            };
            let region = RegionId(id);
            missing -= self.change(region, |entry, layout| {
                entry.take(layout, missing, |index| out.push(Slot { region, index }))
            });
        }
    }

    /// Whether some span can be committed without a new region.
    pub(crate) fn has_vacant_span(&self) -> bool {
        !self.with_vacant.is_empty()
    }

    /// Commits a span of the fullest region that has a vacant one; false if none has.
    pub(crate) fn commit(&mut self) -> bool {
        let Some(id) = self.with_vacant.fullest() else {
            return false;
        };
        self.change(RegionId(id), Region::commit);
        true
    }

    /// Takes over a mapping of [`ClassLayout::region_bytes`] at `base`, all of it vacant; none, and it
    /// is still the caller's, if there is no memory for the books. Nothing else here needs any.
    pub(crate) fn add_region(&mut self, base: Base) -> Option<RegionId> {
        let region = Some(Region::new(base, &self.layout)?);
        let id = if let Some(id) = self.unused.first() {
            self.unused.remove(id);
            self.regions[id as usize] = region;
            id
        } else {
            let count = u32::try_from(self.regions.len() + 1).expect("fewer than 2^32 regions");
            if !self.make_room(count) {
                return None;
            }
            self.regions.push(region);
            count - 1
        };
        self.totals.regions += 1;
        self.refile(RegionId(id));
        Some(RegionId(id))
    }

    fn make_room(&mut self, count: u32) -> bool {
        self.regions.try_reserve(1).is_ok()
            && self.unused.grow(count)
            && self.collapsible.grow(count)
            && self.with_free.make_room(count)
            && self.with_vacant.make_room(count)
            && self.with_idle.make_room(count)
    }

    /// Takes a slot back. `idle_since` is the time from which it is unused; a span is as young as
    /// the youngest of its slots.
    ///
    /// # Panics
    /// If the slot is not taken: it was put back twice, or is not of this shelf.
    pub(crate) fn put(&mut self, slot: Slot, idle_since: u64) {
        self.change(slot.region, |region, layout| region.put(layout, slot.index, idle_since));
    }

    /// Takes out the longest run of adjacent spans that are free since before `idle_before`, of
    /// the emptiest region that has such, and of those of its rank the longest unused.
    ///
    /// The run is at most `max_bytes` long, but at least one span. `u64::MAX` means spans of every
    /// age.
    pub(crate) fn leave(&mut self, idle_before: u64, max_bytes: usize) -> Option<Leaving> {
        let spans_max = (max_bytes / self.layout.span_bytes).clamp(1, self.layout.spans as usize);
        loop {
            let region = self.emptiest_due(idle_before)?;
            // What leaves was not needed; that fewer are idle then is no sign that some were.
            let lows = self.lows;
            let run = self
                .change(region, |entry, layout| entry.leave(layout, idle_before, spans_max as u32));
            if let Some(run) = run {
                self.lows = lows;
                self.lows.forget(run.len() as u32);
                return Some(Leaving {
                    region,
                    first_span: run.start,
                    spans: run.len() as u32,
                    base: self.base(region),
                    offset: self.layout.span_offset(run.start),
                    len_bytes: run.len() * self.layout.span_bytes,
                });
            }
        }
    }

    /// Begins a new interval, after one that was as long as `looks`.
    pub(crate) fn look(&mut self, looks: u64) {
        self.lows.look(looks, self.totals.idle_spans);
    }

    /// Bytes of the spans that were not needed over the last five looks, whichever they are.
    pub(crate) fn unneeded_bytes(&self) -> usize {
        self.lows.unneeded() as usize * self.layout.span_bytes
    }

    /// The first region by rank, then age, whose oldest idle span may be due.
    fn emptiest_due(&self, idle_before: u64) -> Option<RegionId> {
        let mut from = 0;
        loop {
            let (rank, oldest, id) = self.with_idle.first_from(from)?;
            if is_due(oldest, idle_before) {
                return Some(RegionId(id));
            }
            from = rank + 1;
        }
    }

    /// Takes the word that the spans are discarded, and makes them vacant. A region with nothing
    /// committed and nothing leaving is handed back.
    ///
    /// # Panics
    /// If the spans are not leaving.
    pub(crate) fn left(&mut self, leaving: Leaving) -> Left {
        let Leaving { region, first_span, spans, base, len_bytes, .. } = leaving;
        self.change(region, |entry, _| entry.left(first_span..first_span + spans));
        let counts = self.region(region).counts;
        let gone = counts.committed_spans == 0 && counts.leaving_spans == 0;
        if gone {
            self.remove(region);
        }
        Left { bytes: len_bytes as u64, region: gone.then_some((base, self.layout.region_bytes)) }
    }

    fn remove(&mut self, RegionId(id): RegionId) {
        let mut region = self.regions[id as usize].take().expect("it is on this shelf");
        self.with_vacant.place(id, &mut region.filed.with_vacant, None);
        debug_assert_eq!(region.filed, region::Filed::default(), "vacant spans were all it had");
        self.totals.regions -= 1;
        self.unused.insert(id);
    }

    /// Gives all mappings and their lengths up, in whatever state they are. The shelf is of no use
    /// afterwards.
    pub(crate) fn drain_regions(&mut self) -> impl Iterator<Item = (Base, usize)> + '_ {
        let len = self.layout.region_bytes;
        self.regions.drain(..).flatten().map(move |region| (region.base, len))
    }

    /// The sums over all regions, at no cost.
    pub(crate) fn sums(&self) -> ShelfSums {
        let totals = &self.totals;
        let span_bytes = self.layout.span_bytes as u64;
        ShelfSums {
            committed_bytes: totals.committed_spans * span_bytes,
            leaving_bytes: totals.leaving_spans * span_bytes,
            taken_slots: totals.taken_slots,
            free_slots: totals.free_slots,
            reclaimable_bytes: totals.idle_spans * span_bytes,
            regions: totals.regions,
        }
    }

    /// Where the region is mapped.
    ///
    /// # Panics
    /// If the shelf has no such region.
    pub(crate) fn base(&self, region: RegionId) -> Base {
        self.region(region).base
    }

    /// The first region from number `from` on, with its number.
    pub(crate) fn region_from(&self, from: usize) -> Option<(usize, Base)> {
        let later = self.regions.iter().enumerate().skip(from);
        later.filter_map(|(number, region)| Some((number, region.as_ref()?.base))).next()
    }

    /// A region that is committed throughout, with the length of the huge pages it has room for.
    ///
    /// Each is offered once, and again when one of its spans left and all are committed once more.
    pub(crate) fn next_to_collapse(&mut self) -> Option<(RegionId, Base, usize)> {
        let region = RegionId(self.collapsible.first()?);
        let base = self.change(region, |entry, _| {
            entry.huge = true;
            entry.base
        });
        let rest = self.layout.region_bytes % crate::sys::REGION_ALIGN;
        Some((region, base, self.layout.region_bytes - rest))
    }

    fn region(&self, RegionId(id): RegionId) -> &Region {
        let entry = self.regions.get(id as usize).and_then(Option::as_ref);
        entry.unwrap_or_else(|| panic!("region {id} is not on this shelf"))
    }

    /// Changes a region, and then the sums and orders by what changed in it.
    fn change<R>(
        &mut self,
        id: RegionId,
        change: impl FnOnce(&mut Region, &ClassLayout) -> R,
    ) -> R {
        let entry = self.regions.get_mut(id.0 as usize).and_then(Option::as_mut);
        let region = entry.unwrap_or_else(|| panic!("region {} is not on this shelf", id.0));
        let before = region.counts;
        let result = change(region, &self.layout);
        self.totals.replace(&before, &region.counts);
        self.lows.note(self.totals.idle_spans);
        self.refile(id);
        result
    }

    /// Moves a region to where it belongs in every order.
    fn refile(&mut self, RegionId(id): RegionId) {
        let region = self.regions[id as usize].as_mut().expect("its caller has just had it");
        let belongs = region.belongs(&self.layout);
        let filed = &mut region.filed;
        self.with_free.place(id, &mut filed.with_free, belongs.with_free);
        self.with_vacant.place(id, &mut filed.with_vacant, belongs.with_vacant);
        if filed.with_idle != belongs.with_idle {
            if let Some((rank, oldest)) = filed.with_idle {
                self.with_idle.remove((rank, oldest, id));
            }
            if let Some((rank, oldest)) = belongs.with_idle {
                self.with_idle.insert((rank, oldest, id));
            }
        }
        if filed.collapsible != belongs.collapsible {
            if belongs.collapsible {
                self.collapsible.insert(id);
            } else {
                self.collapsible.remove(id);
            }
        }
        *filed = belongs;
    }
}

/// The counts of all regions together.
#[derive(Debug, Default)]
struct Totals {
    taken_slots: u64,
    free_slots: u64,
    committed_spans: u64,
    idle_spans: u64,
    leaving_spans: u64,
    regions: u64,
}

impl Totals {
    fn replace(&mut self, before: &Counts, after: &Counts) {
        let shift = |total: &mut u64, before: u32, after: u32| {
            *total = *total + u64::from(after) - u64::from(before);
        };
        shift(&mut self.taken_slots, before.taken_slots, after.taken_slots);
        shift(&mut self.free_slots, before.free_slots, after.free_slots);
        shift(&mut self.committed_spans, before.committed_spans, after.committed_spans);
        shift(&mut self.idle_spans, before.idle_spans, after.idle_spans);
        shift(&mut self.leaving_spans, before.leaving_spans, after.leaving_spans);
    }
}
