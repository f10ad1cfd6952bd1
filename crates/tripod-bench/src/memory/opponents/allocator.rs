//! Allocators, called through their `GlobalAlloc`: none of them is the one of this process, so that
//! all can be measured in one run.
#![allow(unsafe_code, reason = "allocators are called through an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, handle_alloc_error};
use std::ptr::NonNull;

use crate::memory::replay::Heap;
use crate::memory::source::{Held, Source};

/// Where a block is from, and how long it is.
pub(crate) trait Origin {
    type Allocator: GlobalAlloc;

    fn allocator(&self) -> &Self::Allocator;
    /// The same each time, and never of length 0.
    fn layout(&self) -> Layout;
}

/// A block that is freed on drop.
#[derive(Debug)]
pub(crate) struct Owned<O: Origin> {
    start: NonNull<u8>,
    origin: O,
}

// SAFETY: a block belongs to its holder alone, and allocators take back blocks from any thread.
unsafe impl<O: Origin + Send> Send for Owned<O> {}

impl<O: Origin> Owned<O> {
    #[inline(always)]
    fn new(origin: O) -> Self {
        // SAFETY: by the contract of `Origin` the length is not 0.
        let start = unsafe { origin.allocator().alloc(origin.layout()) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(origin.layout()) };
        Self { start, origin }
    }
}

impl<O: Origin> Held for Owned<O> {
    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn capacity(&mut self) -> usize {
        self.origin.layout().size()
    }

    #[inline(always)]
    fn put(&mut self, at: usize, byte: u8) {
        assert!(at < self.origin.layout().size(), "a byte of the block");
        // SAFETY: the block has `layout.size()` bytes, and `at` is below that.
        unsafe { self.start.as_ptr().add(at).write(byte) };
    }
}

impl<O: Origin> Drop for Owned<O> {
    #[inline(always)]
    fn drop(&mut self) {
        let Self { start, origin } = self;
        // SAFETY: `new` got the block from this allocator with this layout, and only this frees it.
        unsafe { origin.allocator().dealloc(start.as_ptr(), origin.layout()) };
    }
}

fn layout(bytes: usize) -> Layout {
    assert!(bytes > 0, "an allocation has bytes");
    Layout::from_size_align(bytes, 1).expect("no row passes isize::MAX")
}

/// Blocks of one length, straight from an allocator.
#[derive(Debug)]
pub(crate) struct Raw<A> {
    allocator: A,
    layout: Layout,
}

impl<A: GlobalAlloc> Raw<A> {
    /// # Panics
    /// If `len` is 0, for which no allocator answers.
    pub(crate) fn new(allocator: A, len: usize) -> Self {
        Self { allocator, layout: layout(len) }
    }
}

impl<A: GlobalAlloc> Origin for &Raw<A> {
    type Allocator = A;

    #[inline(always)]
    fn allocator(&self) -> &A {
        &self.allocator
    }

    #[inline(always)]
    fn layout(&self) -> Layout {
        self.layout
    }
}

impl<A: GlobalAlloc + Send + Sync + 'static> Source for Raw<A> {
    type Held<'a> = Owned<&'a Raw<A>>;

    #[inline(always)]
    fn acquire(&self) -> Self::Held<'_> {
        Owned::new(self)
    }
}

/// Blocks of any length, straight from an allocator.
#[derive(Debug)]
pub(crate) struct Any<A>(pub(crate) A);

/// An allocator and the layout of one block.
#[derive(Debug)]
pub(crate) struct Laid<'a, A>(&'a A, Layout);

impl<A: GlobalAlloc> Origin for Laid<'_, A> {
    type Allocator = A;

    fn allocator(&self) -> &A {
        self.0
    }

    fn layout(&self) -> Layout {
        self.1
    }
}

impl<A: GlobalAlloc + 'static> Heap for Any<A> {
    type Held<'a> = Owned<Laid<'a, A>>;

    fn allocate(&self, bytes: usize) -> Self::Held<'_> {
        Owned::new(Laid(&self.0, layout(bytes)))
    }
}
