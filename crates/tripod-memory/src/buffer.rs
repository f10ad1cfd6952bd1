//! Buffers that are handed out.
#![allow(unsafe_code, reason = "a buffer is a pointer and a length")]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::budget::Record;
use crate::classes::{LEN_MAX, NO_CLASS};
use crate::engine::mapping;
use crate::ledger::{NodeId, ROOT};
use crate::local;

mod bytes;
mod io;

/// Bytes on loan from a pool.
///
/// It derefs to its *visible* bytes: at first exactly those asked for. They are initialised, but what
/// they hold is unspecified: what an earlier holder left, or zeroes. Dropping it gives the memory back
/// to its pool, on whatever thread; it may outlive the manager.
///
/// # Filling it
/// What appends ([`Write`](std::io::Write), [`BufMut`](::bytes::BufMut), [`read_from`](Self::read_from))
/// begins behind the visible bytes and ends at the [`capacity`](Self::capacity), which never grows.
/// A fresh buffer shows as many bytes as were asked for, so whoever fills it this way calls
/// [`clear`](Self::clear) first. To read it with a position, put it into a
/// [`Cursor`](std::io::Cursor), which is then `Read`, `BufRead`, `Seek` and [`Buf`](::bytes::Buf).
///
/// # Handing it on
/// [`Bytes::from`](::bytes::Bytes) takes it without a copy, and its last clone gives it back; for a
/// small part of it see [`slice_or_copy`](Self::slice_or_copy).
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().build()?;
/// let mut buffer = memory.acquire(1500)?;
/// buffer.fill(7);
/// assert_eq!((buffer.len(), buffer.capacity()), (1500, 1536));
///
/// let first = buffer.as_ptr();
/// drop(buffer);
/// assert_eq!(memory.acquire(1400)?.as_ptr(), first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a buffer goes back when it is dropped"]
pub struct Buffer {
    /// The first byte, or [`NOWHERE`].
    slot: NonNull<u8>,
    /// The visible length (37 bits), the size class (7), the budget (12), and the manager's entry in the
    /// tables of threads (8), so that a buffer finds its way back into its thread's cache without a
    /// look elsewhere. What cannot go the short way has an entry that is always empty: a buffer
    /// without a class, and one that gives credit back. A handle of three words would be passed
    /// through memory: measured at 15 ns where two cost 2.
    packed: u64,
}

const _: () = assert!(size_of::<Option<Buffer>>() == 16);

const LEN_MASK: u64 = LEN_MAX as u64;
const CLASS_SHIFT: u32 = 37;
const NODE_SHIFT: u32 = 44;
const ENTRY_SHIFT: u32 = 56;

/// Where a buffer without memory is.
const NOWHERE: NonNull<u8> = NonNull::dangling();

// SAFETY: a buffer has its bytes to itself, wherever it is.
unsafe impl Send for Buffer {}
// SAFETY: a shared reference to a buffer only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Takes charge of a slot for `len` bytes that is charged already, to a budget with this
    /// [`tag`](Self::tag).
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline(always)]
    pub(crate) fn new(slot: NonNull<u8>, len: usize, class: usize, tag: u64) -> Self {
        debug_assert!(len <= LEN_MAX && class <= NO_CLASS);
        #[cfg(debug_assertions)]
        mapping::header(slot).engine().leaks.note_buffer(
            slot.addr().get(),
            mapping::header(slot).capacity as u64,
            crate::leaks::site(),
        );
        Self { slot, packed: tag | (class as u64) << CLASS_SHIFT | len as u64 }
    }

    /// As [`new`](Self::new), of a mapping of its own.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(crate) fn of_mapping(slot: NonNull<u8>, len: usize, tag: u64) -> Self {
        Self::new(slot, len, NO_CLASS, tag | u64::from(local::NO_ENTRY) << ENTRY_SHIFT)
    }

    /// What all buffers of a budget have in common, packed.
    pub(crate) fn tag(entry: u8, node: NodeId) -> u64 {
        debug_assert!(node <= Record::NODE_MAX);
        let entry = if node == ROOT { entry } else { local::NO_ENTRY };
        u64::from(entry) << ENTRY_SHIFT | (node as u64) << NODE_SHIFT
    }

    /// The entry in a tag, or in a handle.
    #[inline(always)]
    pub(crate) fn entry(packed: u64) -> u8 {
        (packed >> ENTRY_SHIFT) as u8
    }

    pub(crate) fn empty() -> Self {
        Self { slot: NOWHERE, packed: u64::from(local::NO_ENTRY) << ENTRY_SHIFT }
    }

    /// Returns the number of visible bytes: what was asked for, unless changed since.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let mut buffer = memory.acquire(1500)?;
    /// assert_eq!(buffer.len(), 1500);
    /// buffer.truncate(100);
    /// assert_eq!(buffer.len(), 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn len(&self) -> usize {
        (self.packed & LEN_MASK) as usize
    }

    /// Returns whether no bytes are visible.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// assert!(memory.acquire(0)?.is_empty());
    /// assert!(!memory.acquire(1)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes the buffer occupies and is charged as: its size class, or whole pages of
    /// 4 KiB above the largest class, or 0 if no bytes were asked for.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// assert_eq!(memory.acquire(1500)?.capacity(), 1536);
    /// assert_eq!(memory.acquire((64 << 20) + 1)?.capacity(), (64 << 20) + 4096);
    /// assert_eq!(memory.acquire(0)?.capacity(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn capacity(&self) -> usize {
        if self.slot == NOWHERE { 0 } else { mapping::header(self.slot).capacity }
    }

    /// `len` is within the capacity.
    #[inline(always)]
    fn set_len(&mut self, len: usize) {
        self.packed = self.packed & !LEN_MASK | len as u64;
    }

    /// Shows no more than the first `len` bytes; longer than the buffer, it does nothing.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let mut buffer = memory.acquire(1500)?;
    /// buffer.truncate(2000);
    /// assert_eq!(buffer.len(), 1500);
    /// buffer.truncate(10);
    /// assert_eq!((buffer.len(), buffer.capacity()), (10, 1536));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.set_len(len);
        }
    }

    /// Shows no bytes, so that what is appended next begins at the first. The capacity stays.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let mut buffer = memory.acquire(4096)?;
    /// buffer.clear();
    /// std::io::Write::write_all(&mut buffer, b"first")?;
    /// assert_eq!(&buffer[..], b"first");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Shows the first `len` bytes, more than before or fewer.
    ///
    /// Writes nothing: what becomes visible is what was there, bytes of an earlier holder included.
    ///
    /// # Errors
    /// [`ResizeError`] if `len` is above the capacity; the buffer is then as before.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{MemoryManager, ResizeError};
    /// let mut buffer = MemoryManager::builder().build()?.acquire(1500)?;
    /// buffer.resize(1536)?;
    /// buffer[1500..].fill(0);
    /// let refused = buffer.resize(1537).unwrap_err();
    /// assert!(matches!(refused, ResizeError::BeyondCapacity { capacity: 1536, .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resize(&mut self, len: usize) -> Result<(), ResizeError> {
        let capacity = self.room();
        if len > capacity {
            return Err(ResizeError::BeyondCapacity { len, capacity });
        }
        self.set_len(len);
        Ok(())
    }

    /// Returns the bytes behind the visible ones, up to the capacity: initialised, and holding
    /// whatever was there. [`resize`](Self::resize) shows what was written to them.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let mut buffer = memory.acquire(1500)?;
    /// assert_eq!(buffer.spare_capacity().len(), 36);
    /// buffer.spare_capacity()[..4].copy_from_slice(b"tail");
    /// buffer.resize(1504)?;
    /// assert_eq!(&buffer[1500..], b"tail");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spare_capacity(&mut self) -> &mut [u8] {
        let (len, room) = (self.len(), self.room());
        // SAFETY: the visible bytes are part of the slot.
        let spare = unsafe { self.slot.add(len) };
        // SAFETY: the slot has `room` bytes, initialised like the visible ones, and this buffer's alone.
        unsafe { std::slice::from_raw_parts_mut(spare.as_ptr(), room - len) }
    }

    /// Makes the visible bytes of a buffer that was just handed out zero.
    pub(crate) fn zero(&mut self) {
        // Without a class it is a mapping of its own, which begins with zeroes. Buffers of a class are
        // not told apart by whether their span is fresh: to write zeroes into a fresh one first makes
        // its page faults come earlier, not more (60 us for 64 KiB with or without, 2026-11), and a
        // used one, the rule, takes 0.6 us.
        if self.own_mapping().is_none() {
            self.fill(0);
        }
    }

    /// Where its memory is, if that is a mapping of its own.
    pub(crate) fn own_mapping(&self) -> Option<NonNull<u8>> {
        (self.class() == NO_CLASS).then_some(self.slot)
    }

    /// The most bytes that can be visible.
    fn room(&self) -> usize {
        // Whole pages may be one byte more than a handle has bits for.
        self.capacity().min(LEN_MAX)
    }
}

#[cfg(feature = "allocator-api2")]
impl Buffer {
    /// Lets go of all its bytes; [`from_block`](Self::from_block) takes charge of them again.
    pub(crate) fn into_block(self) -> NonNull<[u8]> {
        let parts = ManuallyDrop::new(self);
        NonNull::slice_from_raw_parts(parts.slot, parts.room())
    }

    /// Takes charge of a block again that `record` is charged for, which begins at `slot`.
    ///
    /// # Safety
    /// The block came from [`into_block`](Self::into_block), of a buffer of this budget; all its bytes
    /// are initialised, and nobody uses it any more.
    pub(crate) unsafe fn from_block(slot: NonNull<u8>, record: &Record) -> Self {
        let capacity = mapping::header(slot).capacity;
        // Above the largest class no capacity is that of a class.
        match record.engine.classes.class_of(capacity) {
            Some(class) => Self::new(slot, 0, class, record.tag),
            None => Self::of_mapping(slot, 0, record.tag),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the slot has room for `len` bytes, all of which are initialised: a mapping begins
        // with zeroes, holders write bytes, and the allocator makes bytes of what it takes back. They
        // are this buffer's alone.
        unsafe { std::slice::from_raw_parts(self.slot.as_ptr(), self.len()) }
    }
}

impl DerefMut for Buffer {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.slot.as_ptr(), self.len()) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl fmt::Debug for Buffer {
    /// Shows no contents: they may be large, or an earlier holder's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    /// The short way back: into the place for the newest of its class, if that is empty.
    #[inline]
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        if self.slot != NOWHERE {
            mapping::header(self.slot).engine().leaks.forget_slot(self.slot.addr().get());
        }
        let is_back = local::with_cache(Self::entry(self.packed), |cache| {
            cache.release_newest(self.class(), self.slot)
        });
        if is_back != Some(true) {
            give_back(self.slot, self.packed);
        }
    }
}

impl Buffer {
    #[inline(always)]
    fn class(&self) -> usize {
        (self.packed >> CLASS_SHIFT) as usize & NO_CLASS
    }

    #[inline(always)]
    fn node(&self) -> NodeId {
        (self.packed >> NODE_SHIFT) as usize & Record::NODE_MAX
    }
}

/// The way back for any buffer whose handle had these parts: as such they stay in registers.
#[cold]
#[inline(never)]
fn give_back(slot: NonNull<u8>, packed: u64) {
    if slot == NOWHERE {
        return;
    }
    let parts = ManuallyDrop::new(Buffer { slot, packed });
    let engine = mapping::header(slot).engine();
    let (class, node) = (parts.class(), parts.node());
    let entry = local::entry(engine.number());
    let attempt = local::with_cache(entry, |cache| cache.release(class, slot, node));
    if attempt.is_some_and(|attempt| attempt.is_asked) {
        local::heed(engine);
    }
    if !attempt.is_some_and(|attempt| attempt.outcome) {
        // What comes back last ends the engine: here, when no method of it runs any more.
        let _held = engine.hold();
        engine.release_slowly(slot, class, node);
    }
}

/// Why [`Buffer::resize`] changed nothing.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().build()?;
/// let refused = memory.acquire(1500)?.resize(2000).unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "2000 bytes are more than the 1536 that the buffer has room for"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResizeError {
    /// A buffer never grows beyond its size class.
    #[error("{len} bytes are more than the {capacity} that the buffer has room for")]
    BeyondCapacity {
        /// The length asked for, in bytes.
        len: usize,
        /// The buffer's capacity in bytes.
        capacity: usize,
    },
}

/// Why [`MemoryManager::acquire`](crate::MemoryManager::acquire) handed out no buffer.
///
/// # Examples
/// ```
/// # use tripod_memory::{AcquireError, MemoryManager};
/// let memory = MemoryManager::builder().budget_bytes(8192).build()?;
/// let page = memory.acquire(4096)?;
/// let refused = memory.acquire(8192).unwrap_err();
/// assert!(matches!(refused, AcquireError::OverBudget { free_bytes: 4096, .. }));
/// let refused = memory.acquire(10_000).unwrap_err();
/// assert!(matches!(refused, AcquireError::Unsatisfiable { budget_bytes: 8192, .. }));
/// let refused = memory.acquire(usize::MAX).unwrap_err();
/// assert!(matches!(refused, AcquireError::TooLong { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The budget has no room now, and no idle buffer is left that could make some.
    #[error("buffer of {needed_bytes} bytes does not fit: budget `{budget}` has {free_bytes} free")]
    OverBudget {
        /// The buffer's capacity in bytes; of several, all of theirs.
        needed_bytes: u64,
        /// What the budget has left, in bytes.
        free_bytes: u64,
        /// The path of the lowest budget that lacks room.
        budget: Arc<str>,
    },
    /// The budget is smaller than the buffer.
    #[error(
        "buffer needs {needed_bytes} bytes, more than the whole budget `{budget}` of {budget_bytes}"
    )]
    Unsatisfiable {
        /// The buffer's capacity in bytes; of several, all of theirs.
        needed_bytes: u64,
        /// The budget's limit in bytes.
        budget_bytes: u64,
        /// The budget's path.
        budget: Arc<str>,
    },
    /// No allocation can be that long.
    #[error("buffer of {len} bytes is longer than the {max_bytes} a buffer can have")]
    TooLong {
        /// The length asked for, in bytes.
        len: usize,
        /// The longest possible, in bytes.
        max_bytes: usize,
    },
    /// The budget had room but the system did not, or the heap that the manager's books are on; idle
    /// buffers have been given back before.
    #[error("the system refused {needed_bytes} bytes for a buffer")]
    OutOfMemory {
        /// The buffer's capacity in bytes.
        needed_bytes: u64,
    },
}

impl AcquireError {
    /// The error of a buffer, as one of all that were asked for with it; those that were taken before
    /// it go back.
    pub(crate) fn of_many(self, all_bytes: u64, taken_bytes: u64) -> Self {
        match self {
            Self::OverBudget { free_bytes, budget, .. } => Self::OverBudget {
                needed_bytes: all_bytes,
                free_bytes: free_bytes.saturating_add(taken_bytes),
                budget,
            },
            other => other,
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
