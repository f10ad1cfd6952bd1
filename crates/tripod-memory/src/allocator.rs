//! Pooled memory for collections: an [`Allocator`] whose blocks are buffers of a budget.
//!
//! A block is a buffer without its handle. What the handle knew is found again: the budget in the
//! allocator, the size class in the header of the block's region. So a block may stay larger than what
//! its collection believes, which is what lets a shrink never fail.
//!
//! # Bytes that are none
//! A pool's memory is initialised throughout, so that buffers can show it. A collection leaves
//! padding and unused room in its blocks, which the compiler may treat as no bytes at all. Each
//! block is therefore [made bytes of](make_bytes) before it goes back.
//!
//! # Pointers that lead less far
//! What a collection gives back points to the right place, but a `Box`, for one, has a pointer that
//! is good for its value alone: not for the header of the region, and not for the next holder. So the
//! provenance of a block's pointer is exposed when it is given out, and taken up
//! [by address](recall) when it comes back.
#![allow(unsafe_code, reason = "an allocator hands out raw memory")]

#[cfg(test)]
mod tests;

use std::alloc::Layout;
use std::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::budget::Budget;
use crate::buffer::Buffer;
use crate::engine::mapping;
use crate::layout::ClassLayout;
use crate::sys::PAGE_BYTES;

/// Puts collections into pooled memory under a budget; comes from [`Budget::allocator`].
///
/// It is for `Vec` and `Box` of [`allocator_api2`], for `hashbrown::HashMap` with its feature
/// `allocator-api2`, and for whatever else takes an [`Allocator`] of that crate. Their memory is
/// counted like that of buffers, by size class, and comes from the same pools.
///
/// # When there is no room
/// Over budget, an allocation is an [`AllocError`]. What a collection makes of it is its own affair:
/// `try_reserve` and `Box::try_new_in` return an error, but `push` and `insert` end the process. To
/// grow, a collection needs the old and the new memory at the same time, unless the class is the same.
/// Shrinking never fails: without room to move, a block stays where it is.
///
/// # Alignment
/// Up to 4096. Above 16 a block may come from a larger class, the next power of two at most; with
/// [size classes](crate::MemoryManagerBuilder::size_classes) none of which is aligned so, it is a mapping
/// of its own. An alignment above 4096 is an [`AllocError`].
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// use tripod_memory::allocator_api2::vec::Vec;
///
/// let memory = MemoryManager::builder().budget_bytes(1 << 20).build()?;
/// let index = memory.budget("index").limit_bytes(64 << 10).create()?;
///
/// let mut numbers = Vec::new_in(index.allocator());
/// numbers.extend(0..1000_u64);
/// assert_eq!(index.used_bytes(), 8192);
/// assert!(numbers.try_reserve(10_000).is_err());
/// drop(numbers);
/// assert_eq!(index.used_bytes(), 0);
///
/// let hasher = std::hash::RandomState::new();
/// let mut ages = hashbrown::HashMap::with_hasher_in(hasher, index.allocator());
/// ages.insert("Ada", 36);
/// assert!(index.used_bytes() > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PoolAllocator {
    budget: Budget,
}

impl Budget {
    /// Makes an allocator whose memory comes from the pools and is charged to this budget.
    ///
    /// With the feature `allocator-api2`. Cheap to make and to clone; see [`PoolAllocator`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// use tripod_memory::allocator_api2::boxed::Box;
    ///
    /// let memory = MemoryManager::builder().build()?;
    /// let tree = memory.budget("tree").limit_bytes(1 << 20).create()?;
    /// let node = Box::new_in([0_u64; 100], tree.allocator());
    /// assert_eq!(tree.used_bytes(), 896);
    /// drop(node);
    /// assert_eq!(tree.used_bytes(), 0);
    /// # Ok::<(), std::boxed::Box<dyn std::error::Error>>(())
    /// ```
    pub fn allocator(&self) -> PoolAllocator {
        PoolAllocator { budget: self.clone() }
    }
}

impl PoolAllocator {
    /// Returns the budget that the memory is charged to.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let index = memory.budget("index").create()?;
    /// assert_eq!(index.allocator().budget().path(), "index");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// A buffer that a block with this layout fits into.
    fn acquire(&self, layout: Layout) -> Result<Buffer, AllocError> {
        let len = self.aligned_len(layout).ok_or(AllocError)?;
        self.budget.acquire(len).map_err(|_| AllocError)
    }

    /// The length to acquire so that the buffer is aligned as well as long enough.
    fn aligned_len(&self, layout: Layout) -> Option<usize> {
        let (size, align) = (layout.size(), layout.align());
        let classes = &self.budget.engine().classes;
        let Some(class) = classes.class_of(size) else {
            return (align <= PAGE_BYTES).then_some(size);
        };
        let sizes = &classes.sizes()[class..];
        match sizes.iter().position(|&size| align <= 16 || align <= slot_align(size)) {
            Some(0) => Some(size),
            Some(later) => Some(sizes[later]),
            // A byte above the largest class it is a mapping of its own. That is not large: from
            // 16 KiB on all classes are aligned at a page.
            None => (align <= PAGE_BYTES).then_some(classes.size(classes.count() - 1) + 1),
        }
    }

    /// Whether a block of `capacity` bytes is what this layout would get.
    fn is_right_size(&self, capacity: usize, layout: Layout) -> bool {
        let len = self.aligned_len(layout);
        len.and_then(|len| self.budget.capacity_of(len).ok()) == Some(capacity)
    }

    /// Allocates anew, copies what both have room for, and frees the old block.
    ///
    /// # Safety
    /// `block` is a block of this allocator that `old` fits.
    unsafe fn relocate(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let moved = self.allocate(new)?;
        let len = old.size().min(new.size());
        // SAFETY: each block has room for `len` bytes, and they are two.
        unsafe { block.copy_to_nonoverlapping(moved.cast(), len) };
        // SAFETY: the caller's promise; the block is not used any more.
        unsafe { self.deallocate(block, old) };
        Ok(moved)
    }
}

// SAFETY: a block is a buffer's memory, which is neither moved nor given to anybody else until the block
// is deallocated: the engine keeps its regions while a slot of them is out, whatever becomes of the
// allocator. It has room for the layout and is aligned for it, see `aligned_len`. All clones have the
// same budget, and what is not in the budget is found by the address.
unsafe impl Allocator for PoolAllocator {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(no_block(layout));
        }
        Ok(give_out(self.acquire(layout)?))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(no_block(layout));
        }
        let mut buffer = self.acquire(layout)?;
        let spare_bytes = buffer.spare_capacity().len();
        buffer.resize(buffer.len() + spare_bytes).map_err(|_| AllocError)?;
        buffer.zero();
        Ok(give_out(buffer))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        let block = recall(block);
        make_bytes(block, mapping::header(block).capacity);
        // SAFETY: the caller gives up a block of this allocator, whose bytes are initialised by now.
        drop(unsafe { Buffer::from_block(block, self.budget.record()) });
    }

    unsafe fn grow(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if let Some(whole) = whole(block, old)
            && new.size() <= whole.len()
            && is_aligned(block, new)
        {
            return Ok(whole);
        }
        // SAFETY: the caller's promise.
        unsafe { self.relocate(block, old, new) }
    }

    unsafe fn grow_zeroed(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        let grown = unsafe { self.grow(block, old, new) }?;
        let added = grown.len() - old.size();
        // SAFETY: the block is as long as it says, which is not less than it was.
        let end = unsafe { grown.cast::<u8>().add(old.size()) };
        // SAFETY: as above; what is written was not the caller's before.
        unsafe { end.write_bytes(0, added) };
        Ok(grown)
    }

    unsafe fn shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let staying = whole(block, old).filter(|_| new.size() > 0 && is_aligned(block, new));
        if let Some(staying) = staying
            && self.is_right_size(staying.len(), new)
        {
            return Ok(staying);
        }
        // SAFETY: the caller's promise.
        unsafe { self.relocate(block, old, new) }.or_else(|error| staying.ok_or(error))
    }
}

/// The block of a layout without bytes.
fn no_block(layout: Layout) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(layout.dangling_ptr(), 0)
}

/// The block with all its bytes; none if it has no memory.
fn whole(block: NonNull<u8>, layout: Layout) -> Option<NonNull<[u8]>> {
    if layout.size() == 0 {
        return None;
    }
    let block = recall(block);
    Some(NonNull::slice_from_raw_parts(block, mapping::header(block).capacity))
}

/// Makes a block of a buffer.
fn give_out(buffer: Buffer) -> NonNull<[u8]> {
    let block = buffer.into_block();
    block.expose_provenance();
    block
}

/// The pointer to a block as it was given out.
fn recall(block: NonNull<u8>) -> NonNull<u8> {
    NonNull::with_exposed_provenance(block.addr())
}

fn is_aligned(block: NonNull<u8>, layout: Layout) -> bool {
    block.addr().get().is_multiple_of(layout.align())
}

/// What all slots of the class of `size` bytes are aligned at, as far as a page.
fn slot_align(size: usize) -> usize {
    let layout = ClassLayout::of(size);
    // Spans begin at pages.
    match layout.slots_per_span {
        1 => PAGE_BYTES,
        _ => (1 << layout.stride_bytes.trailing_zeros()).min(PAGE_BYTES),
    }
}

/// Makes the `len` bytes at `block` initialised, whatever they hold.
///
/// To write them would cost more than all the rest. Nothing has to happen to memory: it does hold some
/// value in each byte, and keeps it, as no page of a pool is ever left to the system to take
/// (`MADV_FREE`). Only the compiler must not know that some were never written. What `asm` does with
/// memory it has a pointer to is unknown to it, so here may be code that writes each byte with a
/// value of its choice; the machine has the choice made already.
#[inline(always)]
fn make_bytes(block: NonNull<u8>, len: usize) {
    #[cfg(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = len;
        // SAFETY: no instruction is in it; what the compiler must assume, that the block is written,
        // the block's owner may do, and who gives it up has no reference into it.
        unsafe { std::arch::asm!("/* {0} */", in(reg) block.as_ptr(), options(nostack)) };
    }
    // Miri runs no assembly, and sees the bytes that are none: they are written.
    #[cfg(not(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64"))))]
    // SAFETY: the block has `len` bytes and is given up.
    unsafe {
        block.write_bytes(0, len);
    }
}
