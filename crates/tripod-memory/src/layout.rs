//! Where the slots of one size class lie within a region.
//!
//! A region is a mapping aligned at [`REGION_ALIGN`]. Its first page belongs to the region's owner;
//! the slots begin behind it, at [`FIRST_SLOT`]. Every slot starts within the first
//! [`REGION_ALIGN`] bytes of its region, so that the region is found from a slot's address by
//! clearing low bits. A *span* is the unit in which memory is committed and discarded: whole pages
//! that hold a whole number of slots.
//!
//! Pure arithmetic. Offsets are in bytes from the region's base.

use std::ops::Range;

use crate::sys::{PAGE_BYTES, REGION_ALIGN};

/// Where the first slot of a region begins: behind the page of its header.
pub(crate) const FIRST_SLOT: usize = PAGE_BYTES;

const SLOT_ALIGN: usize = 16;

/// From this stride on a span holds one slot.
const ALONE_FROM: usize = 16 << 10;

const SPAN_PAGES_MAX: usize = 8;

/// A span of a small class wastes less than a sixteenth where some number of pages allows it. The
/// default classes of 5, 6 and 7 eighths of a power of two then waste 2.4 % at most; were a
/// sixteenth itself allowed, half of them would waste that.
const WASTE_DIVISOR: usize = 16;

/// Spans up to this size end within the first 2 MiB, so that regions have equal lengths, join up
/// to few kernel areas and fill whole huge pages. It costs less than a sixteenth of the address
/// space and no memory. Longer spans only start there: two slots of 1 MiB, not one.
const INSIDE_UP_TO: usize = REGION_ALIGN / 16;

/// The shape of all regions of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClassLayout {
    /// What a buffer of the class holds.
    pub(crate) size_bytes: usize,
    /// From one slot of a span to the next.
    pub(crate) stride_bytes: usize,
    /// The unit of commit; whole pages.
    pub(crate) span_bytes: usize,
    pub(crate) slots_per_span: u32,
    /// Spans in a region.
    pub(crate) spans: u32,
    /// Length of the mapping, header page included; whole pages, at least [`REGION_ALIGN`].
    pub(crate) region_bytes: usize,
}

impl ClassLayout {
    /// The layout of the class of `size` bytes.
    ///
    /// No length overflows for any size an allocation can have; whether the system has room for
    /// a region is for the system to say.
    ///
    /// # Panics
    /// If `size` is 0 or more than `isize::MAX`.
    pub(crate) fn of(size: usize) -> Self {
        assert!(size > 0 && size <= isize::MAX as usize, "no class can have {size} bytes");
        let stride_bytes = size.next_multiple_of(SLOT_ALIGN);
        let span_bytes = if stride_bytes >= ALONE_FROM {
            stride_bytes.next_multiple_of(PAGE_BYTES)
        } else {
            small_span(stride_bytes)
        };
        let room = REGION_ALIGN - FIRST_SLOT;
        let spans =
            if span_bytes <= INSIDE_UP_TO { room / span_bytes } else { room.div_ceil(span_bytes) };
        Self {
            size_bytes: size,
            stride_bytes,
            span_bytes,
            slots_per_span: (span_bytes / stride_bytes) as u32,
            spans: spans as u32,
            region_bytes: (FIRST_SLOT + spans * span_bytes).max(REGION_ALIGN),
        }
    }

    /// Slots in a region.
    pub(crate) fn slots(&self) -> u32 {
        self.spans * self.slots_per_span
    }

    /// Where slot `index` begins.
    pub(crate) fn slot_offset(&self, index: u32) -> usize {
        debug_assert!(index < self.slots());
        let within = (index % self.slots_per_span) as usize;
        self.span_offset(self.span_of_slot(index)) + within * self.stride_bytes
    }

    /// The slot that begins at `offset`, if one does.
    pub(crate) fn slot_at(&self, offset: usize) -> Option<u32> {
        let behind = offset.checked_sub(FIRST_SLOT)?;
        let (span, within) = (behind / self.span_bytes, behind % self.span_bytes);
        let (slot, rest) = (within / self.stride_bytes, within % self.stride_bytes);
        let exists = span < self.spans as usize && slot < self.slots_per_span as usize && rest == 0;
        exists.then(|| span as u32 * self.slots_per_span + slot as u32)
    }

    pub(crate) fn span_of_slot(&self, index: u32) -> u32 {
        index / self.slots_per_span
    }

    /// The slots of the spans in `spans`.
    pub(crate) fn slots_of(&self, spans: Range<u32>) -> Range<u32> {
        spans.start * self.slots_per_span..spans.end * self.slots_per_span
    }

    /// Where span `span` begins; for `span == spans`, where the last one ends.
    pub(crate) fn span_offset(&self, span: u32) -> usize {
        FIRST_SLOT + span as usize * self.span_bytes
    }
}

/// The fewest pages that waste less than a sixteenth, or else those that waste the smallest part.
fn small_span(stride: usize) -> usize {
    let fitting = (1..=SPAN_PAGES_MAX).map(|pages| pages * PAGE_BYTES).filter(|&len| len >= stride);
    let thrifty = fitting.clone().find(|&len| len % stride * WASTE_DIVISOR < len);
    // The numbers are below 2^30: parts are compared crosswise, in integers.
    let least = |best: usize, len: usize| {
        if (len % stride) * best < (best % stride) * len { len } else { best }
    };
    thrifty.or_else(|| fitting.reduce(least)).expect("a small stride fits eight pages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(size: usize, pages: usize, slots_per_span: u32, spans: u32) {
        let layout = ClassLayout::of(size);
        assert_eq!(
            (layout.span_bytes, layout.slots_per_span, layout.spans),
            (pages * PAGE_BYTES, slots_per_span, spans),
            "{size}"
        );
    }

    #[test]
    fn spans_are_few_pages_with_little_waste() {
        check(1, 1, 256, 511);
        check(64, 1, 64, 511);
        check(80, 1, 51, 511);
        check(1280, 5, 16, 102);
        check(1536, 3, 8, 170);
        check(1792, 4, 9, 127);
        check(4096, 1, 1, 511);
        check(5120, 5, 4, 102);
        check(8192, 2, 1, 255);
        // No number of pages up to 8 wastes less than a sixteenth; 7 waste a seventh.
        check((12 << 10) + 16, 7, 2, 73);
    }

    #[test]
    fn from_16_kib_on_a_span_is_one_slot() {
        check(16 << 10, 4, 1, 127);
        check((16 << 10) + 1, 5, 1, 102);
        check(128 << 10, 32, 1, 15);
        check(160 << 10, 40, 1, 13);
        check(1 << 20, 256, 1, 2);
        check(2 << 20, 512, 1, 1);
        check(64 << 20, 16 << 10, 1, 1);
    }

    /// Every size up to 20,000, every page multiple to 4 MiB, and around each power of two.
    fn sizes() -> impl Iterator<Item = usize> {
        let powers = (1..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        (1..20_000).chain((1..1024).map(|page| page * 4096)).chain(powers)
    }

    #[test]
    #[cfg_attr(miri, ignore = "nothing unsafe here, and slow")]
    fn every_layout_keeps_the_rules() {
        for size in sizes() {
            let layout = ClassLayout::of(size);
            assert!(layout.stride_bytes >= size && layout.stride_bytes - size < 16, "{layout:?}");
            assert_eq!(layout.span_bytes % PAGE_BYTES, 0, "{layout:?}");
            assert!(layout.spans > 0 && layout.slots_per_span > 0, "{layout:?}");
            let last = layout.slot_offset(layout.slots() - 1);
            assert!(last < REGION_ALIGN, "starts within the first 2 MiB: {layout:?}");
            assert!(last + size <= layout.region_bytes, "{layout:?}");
            assert!(layout.region_bytes >= REGION_ALIGN, "{layout:?}");
            assert_eq!(layout.region_bytes % PAGE_BYTES, 0, "{layout:?}");
            if size >= REGION_ALIGN {
                assert_eq!(layout.slots(), 1, "{layout:?}");
            }
            if layout.span_bytes <= 128 << 10 {
                assert_eq!(layout.region_bytes, REGION_ALIGN, "{layout:?}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "nothing unsafe here, and slow")]
    fn slots_are_found_by_their_offsets_and_stay_within_their_spans() {
        for size in [1, 64, 80, 1280, 1536, 1792, 4096, 5120, 12_304, 16_384, 20_000, 1 << 20] {
            let layout = ClassLayout::of(size);
            assert_eq!(layout.slot_at(0), None);
            for index in 0..layout.slots() {
                let offset = layout.slot_offset(index);
                assert_eq!(layout.slot_at(offset), Some(index));
                assert_eq!(layout.slot_at(offset + 1), None);
                let span = layout.span_of_slot(index);
                assert!(layout.slots_of(span..span + 1).contains(&index));
                assert!(offset >= layout.span_offset(span));
                assert!(offset + layout.stride_bytes <= layout.span_offset(span + 1));
            }
            assert_eq!(layout.slot_at(layout.span_offset(layout.spans)), None);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "nothing unsafe here, and slow")]
    fn powers_of_two_are_aligned_at_their_size_up_to_a_page() {
        for bit in 0..27 {
            let layout = ClassLayout::of(1 << bit);
            let align = (1_usize << bit).min(PAGE_BYTES);
            assert!((0..layout.slots()).all(|slot| layout.slot_offset(slot).is_multiple_of(align)));
        }
    }

    #[test]
    fn the_largest_size_does_not_overflow() {
        let layout = ClassLayout::of(isize::MAX as usize);
        assert_eq!(layout.slots(), 1);
        assert!(layout.region_bytes > isize::MAX as usize);
    }

    #[test]
    #[should_panic(expected = "no class can have 0 bytes")]
    fn a_class_without_bytes_is_refused() {
        ClassLayout::of(0);
    }
}
