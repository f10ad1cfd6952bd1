//! Buffers where the crate `bytes` is spoken: filled through [`BufMut`], handed on as [`Bytes`].
#![allow(unsafe_code, reason = "`BufMut` is an unsafe trait")]

use std::ops::RangeBounds;

use ::bytes::buf::UninitSlice;
use ::bytes::{BufMut, Bytes};

use super::Buffer;

impl Buffer {
    /// Makes `Bytes` of a part: without a copy, unless they would hold too much for what they show.
    ///
    /// A slice of `Bytes` holds all that it was cut from: 16 bytes can keep a megabyte out of its
    /// pool. Here a byte shown holds at most `held_bytes_max` bytes of this buffer; a smaller part is
    /// copied, and the buffer goes back at once. So 1 copies unless the part is the whole capacity,
    /// and `usize::MAX` copies nothing.
    ///
    /// Copies come from the global allocator, and no budget counts them.
    ///
    /// # Panics
    /// If the range is not within the visible bytes.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let (key, record) = (memory.acquire(65_536)?, memory.acquire(65_536)?);
    ///
    /// let key = key.slice_or_copy(..16, 4);
    /// assert_eq!((key.len(), memory.stats().used_bytes), (16, 65_536));
    ///
    /// let start = record.as_ptr();
    /// let record = record.slice_or_copy(..20_000, 4);
    /// assert_eq!((record.as_ptr(), memory.stats().used_bytes), (start, 65_536));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slice_or_copy(self, range: impl RangeBounds<usize>, held_bytes_max: usize) -> Bytes {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        let part = &self[range];
        if self.capacity() > part.len().saturating_mul(held_bytes_max) {
            return Bytes::copy_from_slice(part);
        }
        Bytes::from(self).slice(range)
    }
}

/// Hands the visible bytes on without a copy; the last clone gives the buffer back to its pool.
///
/// Costs one small allocation. A slice of the `Bytes` holds the whole buffer; see
/// [`Buffer::slice_or_copy`].
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().build()?;
/// let bytes = bytes::Bytes::from(memory.acquire(4096)?);
/// let clone = bytes.clone();
/// drop(bytes);
/// assert_eq!(memory.stats().used_bytes, 4096);
/// drop(clone);
/// assert_eq!(memory.stats().used_bytes, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        // Nothing to show is no reason to hold memory.
        if buffer.is_empty() { Self::new() } else { Self::from_owner(buffer) }
    }
}

/// Writes go behind the visible bytes, up to the capacity.
///
/// As with a slice, the `put` methods panic where there is no room for all they are given;
/// [`remaining_mut`](BufMut::remaining_mut) says how much there is.
// SAFETY: `chunk_mut` is the room behind the visible bytes, and changes only by `advance_mut`.
unsafe impl BufMut for Buffer {
    fn remaining_mut(&self) -> usize {
        self.room() - self.len()
    }

    /// # Panics
    /// If `count` is above [`remaining_mut`](BufMut::remaining_mut).
    unsafe fn advance_mut(&mut self, count: usize) {
        let room = self.remaining_mut();
        assert!(count <= room, "{count} bytes written, into room for {room}");
        self.set_len(self.len() + count);
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::new(self.spare_capacity())
    }
}
