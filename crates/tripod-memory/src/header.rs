//! The first page of a region, which tells whose the buffers behind it are.
//!
//! A region begins at a multiple of [`REGION_ALIGN`], and each buffer begins
//! within that many bytes of it, so the address of a buffer leads to its header with no table in
//! between. Written once, before a buffer of the region is handed out, and never again.
//!
//! Where in the page it stands depends on the region: at the same place in all pages the headers
//! would share a few lines of every cache with each other, and with the first bytes of all buffers.
#![allow(unsafe_code, reason = "the header is found by the address of a buffer")]

use std::ptr::NonNull;

use crate::engine::Engine;
use crate::kept::KeptEngine;
use crate::sys::REGION_ALIGN;

/// What every buffer of a region shares.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Header {
    engine: KeptEngine,
    /// The region's place on its shelf.
    pub(crate) region: u32,
    /// Bytes of a buffer.
    pub(crate) capacity: usize,
}

impl Header {
    pub(crate) fn new(engine: &Engine, region: u32, capacity: usize) -> Self {
        Self { engine: KeptEngine::new(engine), region, capacity }
    }

    /// The region's first byte, for any pointer into its first [`REGION_ALIGN`] bytes.
    pub(crate) fn base(slot: NonNull<u8>) -> NonNull<u8> {
        slot.map_addr(|address| {
            // A region does not begin at 0.
            address
                .get()
                .checked_sub(address.get() % REGION_ALIGN)
                .and_then(|base| base.try_into().ok())
                .unwrap_or(address)
        })
    }

    /// Writes the header of the region at `base`.
    ///
    /// # Safety
    /// `base` is the first byte of a region whose first page is writable and of no one else's.
    pub(crate) unsafe fn write(self, base: NonNull<u8>) {
        let place = base.map_addr(|address| address | offset(address.get()));
        // SAFETY: the offset keeps the header within the first page and is a multiple of its
        // alignment; the caller vouches for the page.
        unsafe { place.cast::<Self>().write(self) };
    }

    /// The header of the region that `slot` is in.
    ///
    /// # Safety
    /// `slot` begins a buffer of a region that stays mapped for as long as the answer is used.
    #[inline(always)]
    pub(crate) unsafe fn of<'a>(slot: NonNull<u8>) -> &'a Self {
        let pointer = slot.as_ptr().map_addr(|address| {
            let base = address & !(REGION_ALIGN - 1);
            base | offset(address)
        });
        // SAFETY: a buffer begins within REGION_ALIGN bytes of its region's base, where a header was
        // written before the buffer was handed out; nobody writes it again.
        unsafe { &*pointer.cast::<Self>() }
    }

    /// The engine that the region belongs to.
    #[inline(always)]
    pub(crate) fn engine(&self) -> KeptEngine {
        self.engine
    }
}

/// Where in the first page the header of the region around `address` stands.
#[inline(always)]
const fn offset(address: usize) -> usize {
    // The low bits of the region's number, times the size of a line.
    (address / REGION_ALIGN * 64) % 4096
}
