//! The spans and slots of one region.
//!
//! A span is vacant, committed or leaving. Only slots of committed spans are free or taken. A
//! committed span with no slot taken is *idle*: it can leave. One with some taken and some free is
//! *partial*: it is taken from before idle ones are touched.

use std::ops::Range;

use super::{bits::Bits, ranks::rank};
use crate::{heap, layout::ClassLayout, sys::Base};

#[derive(Debug)]
pub(super) struct Region {
    pub(super) base: Base,
    pub(super) counts: Counts,
    /// Where the shelf has this region; the shelf's alone.
    pub(super) filed: Filed,
    /// Every span was committed when it was offered for a huge page, and none has left since.
    pub(super) huge: bool,
    /// No idle span is older than this; some may all be younger, until somebody looks.
    oldest: u64,
    /// The free slots.
    free: Bits,
    vacant: Bits,
    partial: Bits,
    idle: Bits,
    spans: Box<[Span]>,
}

/// How many there are of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) taken_slots: u32,
    pub(super) free_slots: u32,
    pub(super) vacant_spans: u32,
    pub(super) committed_spans: u32,
    /// Those of the committed that have no slot taken.
    pub(super) idle_spans: u32,
    pub(super) leaving_spans: u32,
}

/// A region's places in the shelf's orders; `None` where it is in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filed {
    pub(super) with_free: Option<u8>,
    pub(super) with_vacant: Option<u8>,
    pub(super) with_idle: Option<(u8, u64)>,
    pub(super) collapsible: bool,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    /// When its last slot came back, the latest time since it was committed.
    stamp: u64,
    free: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Vacant,
    Committed,
    Leaving,
}

/// Whether a span of this age goes; the largest time is for every age.
pub(super) fn is_due(stamp: u64, idle_before: u64) -> bool {
    stamp < idle_before || idle_before == u64::MAX
}

impl Region {
    /// A region whose spans are all vacant, if there is memory for its books.
    pub(super) fn new(base: Base, layout: &ClassLayout) -> Option<Self> {
        let mut vacant = Bits::with_capacity(layout.spans)?;
        vacant.insert_all(0..layout.spans);
        let span = Span { stamp: 0, free: 0, state: State::Vacant };
        Some(Self {
            base,
            counts: Counts { vacant_spans: layout.spans, ..Counts::default() },
            filed: Filed::default(),
            huge: false,
            oldest: 0,
            free: Bits::with_capacity(layout.slots())?,
            vacant,
            partial: Bits::with_capacity(layout.spans)?,
            idle: Bits::with_capacity(layout.spans)?,
            spans: heap::slice(layout.spans as usize, || span)?,
        })
    }

    /// Where this region belongs.
    pub(super) fn belongs(&self, layout: &ClassLayout) -> Filed {
        let counts = &self.counts;
        let rank = rank(counts.taken_slots, layout.slots());
        Filed {
            with_free: (counts.free_slots > 0).then_some(rank),
            with_vacant: (counts.vacant_spans > 0).then_some(rank),
            with_idle: (counts.idle_spans > 0).then_some((rank, self.oldest)),
            collapsible: counts.committed_spans == layout.spans && !self.huge,
        }
    }

    /// Gives up to `wanted` free slots to `give` and says how many: the lowest partial spans
    /// first, then the lowest idle ones.
    pub(super) fn take(
        &mut self,
        layout: &ClassLayout,
        wanted: usize,
        mut give: impl FnMut(u32),
    ) -> usize {
        let mut given = 0;
        while given < wanted {
            let Some(span) = self.partial.first().or_else(|| self.idle.first()) else {
                break;
            };
            given += self.take_from(span, layout, wanted - given, &mut give);
        }
        given
    }

    fn take_from(
        &mut self,
        span: u32,
        layout: &ClassLayout,
        wanted: usize,
        give: &mut impl FnMut(u32),
    ) -> usize {
        let entry = &mut self.spans[span as usize];
        let was_idle = u32::from(entry.free) == layout.slots_per_span;
        if was_idle {
            self.idle.remove(span);
            self.counts.idle_spans -= 1;
        }
        let count = usize::from(entry.free).min(wanted);
        let mut from = layout.slots_of(span..span + 1).start;
        for _ in 0..count {
            let slot = self.free.first_from(from).expect("a span has the free slots it counts");
            self.free.remove(slot);
            give(slot);
            from = slot + 1;
        }
        entry.free -= count as u16;
        match (was_idle, entry.free > 0) {
            (true, true) => self.partial.insert(span),
            (false, false) => self.partial.remove(span),
            (true, false) | (false, true) => {}
        }
        self.counts.free_slots -= count as u32;
        self.counts.taken_slots += count as u32;
        count
    }

    /// Commits the lowest vacant span; its slots are free and older than any.
    pub(super) fn commit(&mut self, layout: &ClassLayout) {
        let span = self.vacant.first().expect("the shelf asks regions with vacant spans");
        self.vacant.remove(span);
        self.free.insert_all(layout.slots_of(span..span + 1));
        let free = layout.slots_per_span as u16;
        self.spans[span as usize] = Span { stamp: 0, free, state: State::Committed };
        self.counts.vacant_spans -= 1;
        self.counts.committed_spans += 1;
        self.counts.free_slots += layout.slots_per_span;
        self.add_idle(span);
    }

    /// Takes `slot` back.
    ///
    /// # Panics
    /// If the slot is not taken.
    pub(super) fn put(&mut self, layout: &ClassLayout, slot: u32, idle_since: u64) {
        assert!(slot < layout.slots(), "slot {slot} came back to a region of {}", layout.slots());
        let span = layout.span_of_slot(slot);
        let entry = &mut self.spans[span as usize];
        assert!(
            entry.state == State::Committed && !self.free.contains(slot),
            "slot {slot} came back twice: it is not taken (its span is {:?})",
            entry.state
        );
        self.free.insert(slot);
        entry.free += 1;
        entry.stamp = entry.stamp.max(idle_since);
        self.counts.free_slots += 1;
        self.counts.taken_slots -= 1;
        match (entry.free == 1, u32::from(entry.free) == layout.slots_per_span) {
            (true, false) => self.partial.insert(span),
            (false, true) => {
                self.partial.remove(span);
                self.add_idle(span);
            }
            (true, true) => self.add_idle(span),
            (false, false) => {}
        }
    }

    fn add_idle(&mut self, span: u32) {
        let stamp = self.spans[span as usize].stamp;
        self.oldest = if self.counts.idle_spans == 0 { stamp } else { self.oldest.min(stamp) };
        self.idle.insert(span);
        self.counts.idle_spans += 1;
    }

    /// Lets the longest run of idle spans that are due go, up to `spans_max`.
    ///
    /// If there is none, the region is known to be younger afterwards, so that nobody looks here
    /// again for the same age.
    pub(super) fn leave(
        &mut self,
        layout: &ClassLayout,
        idle_before: u64,
        spans_max: u32,
    ) -> Option<Range<u32>> {
        let Some(run) = self.longest_due(idle_before, spans_max) else {
            let stamps = self.idle.iter().map(|span| self.spans[span as usize].stamp);
            self.oldest = stamps.min().unwrap_or(0);
            return None;
        };
        for span in &mut self.spans[run.start as usize..run.end as usize] {
            span.state = State::Leaving;
        }
        let count = run.len() as u32;
        self.idle.remove_all(run.clone());
        self.free.remove_all(layout.slots_of(run.clone()));
        self.counts.free_slots -= count * layout.slots_per_span;
        self.counts.idle_spans -= count;
        self.counts.committed_spans -= count;
        self.counts.leaving_spans += count;
        self.huge = false;
        Some(run)
    }

    /// The first of the longest runs, cut at `spans_max`.
    fn longest_due(&self, idle_before: u64, spans_max: u32) -> Option<Range<u32>> {
        let mut longest = 0..0;
        let mut run = 0..0;
        for span in self.idle.iter() {
            if !is_due(self.spans[span as usize].stamp, idle_before) {
                continue;
            }
            run = if span == run.end && !run.is_empty() {
                run.start..span + 1
            } else {
                span..span + 1
            };
            if run.len() > longest.len() {
                longest = run.clone();
            }
            if longest.len() as u32 >= spans_max {
                break;
            }
        }
        (!longest.is_empty()).then_some(longest)
    }

    /// The spans of `run` are discarded: they are vacant now.
    ///
    /// # Panics
    /// If one of them was not leaving.
    pub(super) fn left(&mut self, run: Range<u32>) {
        for span in &mut self.spans[run.start as usize..run.end as usize] {
            assert!(span.state == State::Leaving, "a span left that was {:?}", span.state);
            span.state = State::Vacant;
        }
        self.vacant.insert_all(run.clone());
        self.counts.vacant_spans += run.len() as u32;
        self.counts.leaving_spans -= run.len() as u32;
    }
}
