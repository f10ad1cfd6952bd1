//! Regions on their way from the system and back to it.
#![allow(unsafe_code, reason = "system calls on memory that the engine owns")]

use std::ptr::NonNull;

use super::Engine;
use crate::header::Header;
use crate::layout::FIRST_SLOT;
use crate::shelf::Leaving;
use crate::sys::{self, Base};

impl Engine {
    /// Maps `len` bytes; if the system has none, gives back what is idle and asks once more.
    pub(super) fn map_or_trim(&self, len: usize) -> Option<Base> {
        let mapped = sys::map(len).or_else(|| {
            self.trim();
            sys::map(len)
        });
        mapped.map(Base::new)
    }
}

/// Makes a fresh mapping a region: writes its header; answers where its first slot begins.
pub(super) fn begin(base: Base, header: Header) -> NonNull<u8> {
    // SAFETY: the mapping is fresh and a page long at least, so its first page is nobody else's.
    unsafe { header.write(base.get()) };
    // SAFETY: a region is longer than its first page.
    unsafe { base.get().add(FIRST_SLOT) }
}

/// Unmaps the region of `len` bytes that has one slot, which begins at `slot`.
pub(super) fn end(slot: NonNull<u8>, len: usize) {
    unmap(Base::new(Header::base(slot)), len);
}

/// Unmaps a region that nothing is out of.
pub(super) fn unmap(base: Base, len: usize) {
    // SAFETY: a region is given up once, by whoever takes it off the books, and no slot of it is out.
    unsafe { sys::unmap(base.get(), len) };
}

/// Gives the memory of spans back; what touches them next finds zeroes.
pub(super) fn discard(leaving: &Leaving) {
    discard_part(leaving, 0, leaving.len_bytes);
}

/// As [`discard`], for `len` bytes from `from` on.
pub(super) fn discard_part(leaving: &Leaving, from: usize, len: usize) {
    debug_assert!(from + len <= leaving.len_bytes);
    // SAFETY: leaving spans lie within their region.
    let start = unsafe { leaving.base.get().add(leaving.offset + from) };
    // SAFETY: leaving spans have no slot out, and belong to whoever has the `Leaving`.
    unsafe { sys::discard(start, len) };
}

/// Asks for huge pages in a region all of which is in use.
pub(super) fn collapse(base: Base, len: usize) -> bool {
    // SAFETY: advice about huge pages changes no content, wherever it is given.
    unsafe { sys::prefer_huge(base.get(), len) };
    // SAFETY: as above.
    unsafe { sys::collapse(base.get(), len) }
}

/// The bytes of a region that have physical pages now; none if the system does not say.
pub(super) fn resident_bytes(base: Base, len: usize) -> Option<u64> {
    sys::resident_bytes(base.get(), len)
}

/// The header of the region that `slot` is in.
#[inline(always)]
pub(crate) fn header(slot: NonNull<u8>) -> &'static Header {
    // SAFETY: every slot that the engine sees begins a buffer that is out or was just taken back, so
    // its region is mapped; the header is not used after the slot went on the books.
    unsafe { Header::of(slot) }
}

/// The slot `offset` bytes into a region.
pub(super) fn slot(base: Base, offset: usize) -> NonNull<u8> {
    // SAFETY: offsets of slots lie within their region.
    unsafe { base.get().add(offset) }
}
