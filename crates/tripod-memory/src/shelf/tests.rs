//! The shelf against a naive model, and what its orders are for.

use std::{
    collections::{BTreeMap, BTreeSet},
    ptr::NonNull,
};

use proptest::{prelude::*, sample::Index};

use super::{ranks::rank, *};
use crate::random::Random;
use crate::sys::REGION_ALIGN;

/// An address that nobody reads.
fn base(number: usize) -> Base {
    Base::new(NonNull::without_provenance((number * REGION_ALIGN).try_into().unwrap()))
}

/// A class with `spans` spans of `slots_per_span` slots in a region.
fn layout(spans: u32, slots_per_span: u32) -> ClassLayout {
    let size = 4096 / slots_per_span as usize / 16 * 16;
    ClassLayout { spans, slots_per_span, ..ClassLayout::of(size) }
}

/// A shelf with `regions` regions, committed throughout.
fn committed(layout: ClassLayout, regions: usize) -> Shelf {
    let mut shelf = Shelf::new(layout);
    for number in 1..=regions {
        shelf.add_region(base(number)).unwrap();
    }
    while shelf.commit() {}
    shelf
}

fn take(shelf: &mut Shelf, wanted: usize) -> Vec<Slot> {
    let mut out = Vec::new();
    shelf.take(wanted, &mut out);
    out
}

#[derive(Clone, Debug)]
enum Step {
    Add,
    Commit(usize),
    Take(usize),
    Put(Vec<Index>, u64),
    Leave(u64, usize),
    Left(Index),
    Collapse,
}

fn step() -> impl Strategy<Value = Step> {
    let age = prop_oneof![3 => 0..20_u64, 1 => Just(u64::MAX)];
    prop_oneof![
        1 => Just(Step::Add),
        3 => (1..8_usize).prop_map(Step::Commit),
        4 => (0..20_usize).prop_map(Step::Take),
        4 => (prop::collection::vec(any::<Index>(), 1..12), 0..20_u64)
            .prop_map(|(which, stamp)| Step::Put(which, stamp)),
        3 => (age, 0..6_usize).prop_map(|(age, spans)| Step::Leave(age, spans)),
        3 => any::<Index>().prop_map(Step::Left),
        1 => Just(Step::Collapse),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Span {
    Vacant,
    Committed { taken: BTreeSet<u32>, stamp: u64 },
    Leaving,
}

/// The rules, by looking at everything each time.
struct Model {
    layout: ClassLayout,
    regions: BTreeMap<u32, (Base, Vec<Span>)>,
    huge: BTreeSet<u32>,
}

impl Model {
    fn taken(&self, region: u32) -> usize {
        let taken = |span: &Span| match span {
            Span::Committed { taken, .. } => taken.len(),
            _ => 0,
        };
        self.regions[&region].1.iter().map(taken).sum()
    }

    fn rank(&self, region: u32) -> u8 {
        rank(self.taken(region) as u32, self.layout.slots())
    }

    /// Regions that have such a span.
    fn with(&self, is_such: impl Fn(&Span) -> bool) -> Vec<u32> {
        let has = |(_, spans): &(Base, Vec<Span>)| spans.iter().any(&is_such);
        self.regions.iter().filter(|(_, entry)| has(entry)).map(|(&id, _)| id).collect()
    }

    fn is_full(&self, taken: &BTreeSet<u32>) -> bool {
        taken.len() as u32 == self.layout.slots_per_span
    }

    /// The region whose turn it is: the first of the fullest.
    fn fullest(&self, ids: &[u32]) -> Option<u32> {
        let most = ids.iter().map(|&id| self.rank(id)).max()?;
        ids.iter().copied().find(|&id| self.rank(id) == most)
    }

    fn commit(&mut self) -> bool {
        let vacant = self.with(|span| *span == Span::Vacant);
        let Some(id) = self.fullest(&vacant) else { return false };
        let spans = &mut self.regions.get_mut(&id).unwrap().1;
        let span = spans.iter_mut().find(|span| **span == Span::Vacant).unwrap();
        *span = Span::Committed { taken: BTreeSet::new(), stamp: 0 };
        true
    }

    /// The slot that is next.
    fn take(&mut self) -> Option<Slot> {
        let has_free =
            |span: &Span| matches!(span, Span::Committed { taken, .. } if !self.is_full(taken));
        let id = self.fullest(&self.with(has_free))?;
        let spans = &self.regions[&id].1;
        let is_partial =
            |span: &Span| matches!(span, Span::Committed { taken, .. } if !taken.is_empty());
        let partial = spans.iter().position(|span| has_free(span) && is_partial(span));
        let at = partial.or_else(|| spans.iter().position(has_free)).unwrap();
        let mut slots = self.layout.slots_of(at as u32..at as u32 + 1);
        let Span::Committed { taken, .. } = &mut self.regions.get_mut(&id).unwrap().1[at] else {
            unreachable!()
        };
        let index = slots.find(|slot| !taken.contains(slot)).unwrap();
        taken.insert(index);
        Some(Slot { region: RegionId(id), index })
    }

    fn put(&mut self, slot: Slot, idle_since: u64) {
        let span = (slot.index / self.layout.slots_per_span) as usize;
        let spans = &mut self.regions.get_mut(&slot.region.0).unwrap().1;
        let Span::Committed { taken, stamp } = &mut spans[span] else { unreachable!() };
        assert!(taken.remove(&slot.index));
        *stamp = idle_since.max(*stamp);
    }

    /// The regions that are first to leave, and the longest run in each.
    fn leave(&self, idle_before: u64, spans_max: usize) -> BTreeMap<u32, (u32, u32)> {
        let due = |span: &Span| match span {
            Span::Committed { taken, stamp } => {
                taken.is_empty() && (*stamp < idle_before || idle_before == u64::MAX)
            }
            _ => false,
        };
        let ids = self.with(due);
        let least = ids.iter().map(|&id| self.rank(id)).min();
        let emptiest = ids.into_iter().filter(|&id| Some(self.rank(id)) == least);
        let longest = |id: u32| {
            let spans = &self.regions[&id].1;
            let runs = (0..spans.len()).map(|first| {
                let len = spans[first..].iter().take_while(|span| due(span)).count();
                (len.min(spans_max), std::cmp::Reverse(first))
            });
            let (len, first) = runs.max().unwrap();
            (first.0 as u32, len as u32)
        };
        emptiest.map(|id| (id, longest(id))).collect()
    }

    fn set(&mut self, leaving: &Leaving, state: Span) {
        let spans = &mut self.regions.get_mut(&leaving.region.0).unwrap().1;
        let first = leaving.first_span as usize;
        spans[first..first + leaving.spans as usize].fill(state);
    }

    fn sums(&self) -> ShelfSums {
        let mut sums = ShelfSums { regions: self.regions.len() as u64, ..ShelfSums::default() };
        let span_bytes = self.layout.span_bytes as u64;
        for span in self.regions.values().flat_map(|(_, spans)| spans) {
            match span {
                Span::Vacant => {}
                Span::Leaving => sums.leaving_bytes += span_bytes,
                Span::Committed { taken, .. } => {
                    sums.committed_bytes += span_bytes;
                    sums.taken_slots += taken.len() as u64;
                    sums.free_slots += u64::from(self.layout.slots_per_span) - taken.len() as u64;
                    sums.reclaimable_bytes += if taken.is_empty() { span_bytes } else { 0 };
                }
            }
        }
        sums
    }
}

/// The shelf and the model side by side.
struct Pair {
    shelf: Shelf,
    model: Model,
    out: Vec<Slot>,
    leaving: Vec<Leaving>,
    mapped: usize,
}

impl Pair {
    fn new(layout: ClassLayout) -> Self {
        let model = Model { layout, regions: BTreeMap::new(), huge: BTreeSet::new() };
        Self { shelf: Shelf::new(layout), model, out: Vec::new(), leaving: Vec::new(), mapped: 0 }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Add => self.add(),
            Step::Commit(count) => {
                for _ in 0..count {
                    assert_eq!(self.shelf.commit(), self.model.commit());
                }
            }
            Step::Take(wanted) => {
                let expected: Vec<Slot> = (0..wanted).map_while(|_| self.model.take()).collect();
                assert_eq!(take(&mut self.shelf, wanted), expected);
                self.out.extend(expected);
            }
            Step::Put(which, stamp) => {
                for index in which {
                    if self.out.is_empty() {
                        break;
                    }
                    let slot = self.out.swap_remove(index.index(self.out.len()));
                    self.shelf.put(slot, stamp);
                    self.model.put(slot, stamp);
                }
            }
            Step::Leave(idle_before, spans) => self.leave(idle_before, spans),
            Step::Left(which) if !self.leaving.is_empty() => {
                let at = which.index(self.leaving.len());
                let leaving = self.leaving.swap_remove(at);
                self.left(leaving);
            }
            Step::Left(_) => {}
            Step::Collapse => self.collapse(),
        }
    }

    fn add(&mut self) {
        self.mapped += 1;
        let base = base(self.mapped);
        let id = self.shelf.add_region(base).unwrap();
        let spans = vec![Span::Vacant; self.model.layout.spans as usize];
        assert!(self.model.regions.insert(id.0, (base, spans)).is_none(), "a used number");
        assert_eq!(self.shelf.base(id), base);
    }

    fn leave(&mut self, idle_before: u64, spans: usize) {
        let span_bytes = self.model.layout.span_bytes;
        // A byte short of one more span must not let one more go.
        let max_bytes = (spans + 1) * span_bytes - 1;
        let expected = self.model.leave(idle_before, spans.max(1));
        let Some(leaving) = self.shelf.leave(idle_before, max_bytes) else {
            assert_eq!(expected, BTreeMap::new());
            return;
        };
        let region = leaving.region;
        assert_eq!(expected.get(&region.0), Some(&(leaving.first_span, leaving.spans)));
        assert_eq!(leaving.base, self.model.regions[&region.0].0);
        assert_eq!(leaving.offset, 4096 + leaving.first_span as usize * span_bytes);
        assert_eq!(leaving.len_bytes, leaving.spans as usize * span_bytes);
        self.model.set(&leaving, Span::Leaving);
        self.model.huge.remove(&region.0);
        self.leaving.push(leaving);
    }

    fn left(&mut self, leaving: Leaving) {
        let (id, bytes) = (leaving.region.0, leaving.len_bytes as u64);
        self.model.set(&leaving, Span::Vacant);
        let left = self.shelf.left(leaving);
        assert_eq!(left.bytes, bytes);
        let gone = self.model.regions[&id].1.iter().all(|span| *span == Span::Vacant);
        let region_bytes = self.model.layout.region_bytes;
        let expected = gone.then(|| (self.model.regions.remove(&id).unwrap().0, region_bytes));
        assert_eq!(left.region, expected);
    }

    fn collapse(&mut self) {
        let committed = |span: &Span| matches!(span, Span::Committed { .. });
        let mut full =
            self.model.regions.iter().filter(|(_, (_, spans))| spans.iter().all(committed));
        let next = full.find(|(id, _)| !self.model.huge.contains(id)).map(|(&id, _)| id);
        let found = self.shelf.next_to_collapse();
        assert_eq!(found.map(|(region, ..)| region.0), next);
        self.model.huge.extend(next);
        if let Some((region, base, len)) = found {
            assert_eq!(base, self.shelf.base(region));
            assert!(len.is_multiple_of(REGION_ALIGN) && len <= self.model.layout.region_bytes);
        }
    }

    fn check(&self) {
        let sums = self.shelf.sums();
        assert_eq!(sums, self.model.sums());
        let slots = u64::from(self.model.layout.slots_per_span);
        let span_bytes = self.model.layout.span_bytes as u64;
        assert_eq!(
            sums.committed_bytes,
            (sums.taken_slots + sums.free_slots) / slots * span_bytes,
            "what is committed is taken or free"
        );
        let vacant = self.model.with(|span| *span == Span::Vacant);
        assert_eq!(self.shelf.has_vacant_span(), !vacant.is_empty());
    }
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "nothing unsafe here, and slow")]
    fn behaves_as_the_model(
        (spans, slots_per_span) in prop_oneof![
            Just((1, 1)), Just((2, 1)), Just((13, 1)), Just((3, 4)), Just((9, 7)), Just((70, 2)),
        ],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut pair = Pair::new(layout(spans, slots_per_span));
        for step in steps {
            pair.apply(step);
            pair.check();
        }
        // Everything comes back, and everything goes.
        for slot in std::mem::take(&mut pair.out) {
            pair.shelf.put(slot, 0);
            pair.model.put(slot, 0);
        }
        while let Some(leaving) = pair.leaving.pop() {
            pair.left(leaving);
        }
        while pair.shelf.sums().reclaimable_bytes > 0 {
            pair.leave(u64::MAX, 1 << 20);
            let leaving = pair.leaving.pop().unwrap();
            pair.left(leaving);
        }
        let sums = pair.shelf.sums();
        prop_assert_eq!(sums, ShelfSums { regions: sums.regions, ..ShelfSums::default() });
    }
}

#[test]
fn no_slot_is_handed_out_twice() {
    let mut shelf = committed(ClassLayout::of(1536), 3);
    let slots = take(&mut shelf, usize::MAX);
    assert_eq!(slots.len(), 3 * 170 * 8);
    assert_eq!(BTreeSet::from_iter(slots.clone()).len(), slots.len());
    assert_eq!(take(&mut shelf, 1), []);
    shelf.put(slots[77], 1);
    assert_eq!(take(&mut shelf, 2), [slots[77]]);
}

#[test]
fn spans_that_leave_count_as_unneeded_once() {
    let mut shelf = committed(layout(8, 1), 1);
    let span = shelf.layout().span_bytes;
    shelf.look(1);
    shelf.look(5);
    assert_eq!(shelf.unneeded_bytes(), 8 * span);
    let leaving = shelf.leave(u64::MAX, 2 * span).unwrap();
    let _ = shelf.left(leaving);
    assert_eq!(shelf.unneeded_bytes(), 6 * span);
    shelf.look(1);
    assert_eq!(shelf.unneeded_bytes(), 6 * span, "that two have left says nothing of the others");
    let taken = take(&mut shelf, 5);
    taken.into_iter().for_each(|slot| shelf.put(slot, 0));
    shelf.look(1);
    assert_eq!(shelf.unneeded_bytes(), span, "five were needed at once");
}

#[test]
#[should_panic(expected = "slot 5 came back twice")]
fn a_second_put_panics() {
    let mut shelf = committed(layout(4, 8), 1);
    let slots = take(&mut shelf, 8);
    shelf.put(slots[5], 1);
    shelf.put(slots[5], 1);
}

#[test]
#[should_panic(expected = "slot 0 came back twice")]
fn a_second_put_panics_after_the_span_left() {
    let mut shelf = committed(layout(2, 1), 1);
    let slots = take(&mut shelf, 2);
    shelf.put(slots[0], 1);
    let leaving = shelf.leave(u64::MAX, 1).unwrap();
    assert_eq!(shelf.left(leaving).region, None);
    shelf.put(slots[0], 1);
}

#[test]
#[should_panic(expected = "region 0 is not on this shelf")]
fn a_put_into_a_removed_region_panics() {
    let mut shelf = committed(layout(1, 1), 1);
    let slots = take(&mut shelf, 1);
    shelf.put(slots[0], 1);
    let leaving = shelf.leave(u64::MAX, 1).unwrap();
    assert!(shelf.left(leaving).region.is_some());
    shelf.put(slots[0], 1);
}

#[test]
fn a_panic_leaves_the_sums_right() {
    let mut shelf = committed(layout(4, 8), 1);
    let slots = take(&mut shelf, 3);
    shelf.put(slots[0], 1);
    let before = shelf.sums();
    let twice = std::panic::AssertUnwindSafe(|| shelf.put(slots[0], 1));
    std::panic::catch_unwind(twice).unwrap_err();
    assert_eq!(shelf.sums(), before);
    assert_eq!(take(&mut shelf, usize::MAX).len(), 30);
}

#[test]
fn a_span_is_as_young_as_its_youngest_slot() {
    let mut shelf = committed(layout(1, 2), 1);
    let slots = take(&mut shelf, 2);
    shelf.put(slots[0], 9);
    shelf.put(slots[1], 4);
    assert_eq!(shelf.leave(9, usize::MAX), None);
    assert!(shelf.leave(10, usize::MAX).is_some());
}

#[test]
fn a_large_slot_leaves_whatever_the_limit_and_takes_its_region_along() {
    let mut shelf = committed(ClassLayout::of(64 << 20), 2);
    let region_bytes = (64 << 20) + 4096;
    let leaving = shelf.leave(u64::MAX, 1).unwrap();
    assert_eq!((leaving.offset, leaving.len_bytes), (4096, 64 << 20));
    assert_eq!(shelf.sums().leaving_bytes, 64 << 20);
    let left = shelf.left(leaving);
    assert_eq!(left, Left { bytes: 64 << 20, region: Some((base(1), region_bytes)) });
    assert_eq!(shelf.sums().regions, 1);
    assert_eq!(shelf.add_region(base(3)), Some(RegionId(0)), "its number is used again");
}

#[test]
fn a_region_is_offered_for_huge_pages_again_after_a_span_left() {
    let mut shelf = committed(ClassLayout::of(2 << 20), 1);
    assert_eq!(shelf.next_to_collapse(), Some((RegionId(0), base(1), 2 << 20)));
    assert_eq!(shelf.next_to_collapse(), None);
    let mut shelf = committed(ClassLayout::of(4096), 1);
    assert!(shelf.next_to_collapse().is_some());
    let leaving = shelf.leave(u64::MAX, 4096).unwrap();
    let kept = take(&mut shelf, 1);
    assert_eq!(shelf.left(leaving).region, None);
    assert_eq!(shelf.next_to_collapse(), None, "a span is vacant");
    assert!(shelf.commit());
    assert_eq!(shelf.next_to_collapse().map(|(region, ..)| region), Some(kept[0].region));
}

#[test]
fn young_regions_are_not_looked_at_for_old_spans() {
    let mut shelf = committed(layout(8, 1), 3);
    let slots = take(&mut shelf, 24);
    for slot in slots {
        shelf.put(slot, 10 * (1 + u64::from(slot.region.0)));
    }
    let mut gone = Vec::new();
    while let Some(leaving) = shelf.leave(25, 2 * 4096) {
        gone.push(leaving.region.0);
        let _ = shelf.left(leaving);
    }
    assert_eq!(gone, [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(shelf.sums().reclaimable_bytes, 8 * 4096);
}

const REGIONS: usize = 32;
const SLOTS: usize = 128;
const ROUNDS: usize = 200_000;

/// A burst fills all regions, 60 % come back, and from then on each take follows a put of a random
/// slot. Says how many regions nothing is left in.
fn drained(mut take: impl FnMut() -> Slot, mut put: impl FnMut(Slot)) -> usize {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut out: Vec<Slot> = (0..REGIONS * SLOTS).map(|_| take()).collect();
    for _ in 0..REGIONS * SLOTS * 6 / 10 {
        put(out.swap_remove(random.below(out.len() as u64) as usize));
    }
    for _ in 0..ROUNDS {
        put(out.swap_remove(random.below(out.len() as u64) as usize));
        out.push(take());
    }
    let used: BTreeSet<RegionId> = out.iter().map(|slot| slot.region).collect();
    REGIONS - used.len()
}

#[test]
#[cfg_attr(miri, ignore = "nothing unsafe here, and slow")]
fn traffic_after_a_burst_drains_regions() {
    use std::cell::RefCell;
    let shelf = RefCell::new(committed(layout(SLOTS as u32, 1), REGIONS));
    let by_shelf =
        drained(|| take(&mut shelf.borrow_mut(), 1)[0], |slot| shelf.borrow_mut().put(slot, 0));

    // The same traffic, with slots from the emptiest region that has any.
    let free = RefCell::new(vec![Vec::from_iter(0..SLOTS as u32); REGIONS]);
    let from_emptiest = drained(
        || {
            let mut free = free.borrow_mut();
            let (id, slots) = free.iter_mut().enumerate().max_by_key(|(_, s)| s.len()).unwrap();
            Slot { region: RegionId(id as u32), index: slots.pop().unwrap() }
        },
        |slot| free.borrow_mut()[slot.region.0 as usize].push(slot.index),
    );

    // 40 % of 32 regions are in use: at best 19 are empty.
    assert_eq!(from_emptiest, 0);
    assert!(by_shelf >= 17, "only {by_shelf} regions are empty");

    let mut shelf = shelf.into_inner();
    let mut removed = 0;
    while let Some(leaving) = shelf.leave(u64::MAX, usize::MAX) {
        removed += usize::from(shelf.left(leaving).region.is_some());
    }
    assert_eq!(removed, by_shelf);
}
