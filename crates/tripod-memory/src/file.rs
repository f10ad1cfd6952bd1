//! Files in memory, under the handle of a buffer and charged like one.
//!
//! A mapped file is laid out as a buffer above the largest size class is: a mapping of its own, whose
//! first page is the header and behind which the file's pages stand where fresh memory would. So it
//! goes back the way such a buffer does, and a handle does not know the difference.
//!
//! Where it stops: a file is mapped as long as it is now, and in one piece. It does not grow with the file.
#![allow(unsafe_code, reason = "what is in a mapped file is up to others, too")]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crate::budget::Budget;
use crate::buffer::{AcquireError, Buffer};
use crate::classes::LEN_MAX;
use crate::engine::{Effort, large};
use crate::manager::MemoryManager;
use crate::sys::{self, PAGE_BYTES};

/// Who sees what is written to a [mapped file](Budget::map_file).
///
/// # Examples
/// ```
/// # use tripod_memory::{MapError, MemoryManager, Sharing};
/// let memory = MemoryManager::builder().build()?;
/// let file = tempfile::tempfile()?;
/// file.set_len(4096)?;
/// let write_and_read = |sharing| -> Result<u8, MapError> {
///     // SAFETY: nobody else knows this file.
///     let mut mapped = unsafe { memory.map_file(&file, 0, 4096, sharing)? };
///     mapped[0] = 7;
///     drop(mapped);
///     // SAFETY: as above.
///     Ok(unsafe { memory.map_file(&file, 0, 4096, Sharing::Private)? }[0])
/// };
/// assert_eq!(write_and_read(Sharing::Private)?, 0);
/// assert_eq!(write_and_read(Sharing::Shared)?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Only the buffer: each page written to becomes a copy. The file may be open for reading alone.
    Private,
    /// The file, and whoever reads it. It has to be open for reading and writing.
    Shared,
}

impl Budget {
    /// Maps `len` bytes of a file, from `offset` on, as a buffer charged to this budget.
    ///
    /// Pages are read when they are first touched. Charged are whole pages of 4 KiB for as long as the
    /// buffer lives, whether they are resident or not. Dropping it unmaps the file, which may be
    /// closed before. The file must be a regular one; a `len` of 0 gives an empty buffer.
    ///
    /// The [`capacity`](Buffer::capacity) ends with the last page. Of that, what lies behind `len` is
    /// the file's, too; behind the file's end there are zeroes, and what is written there is lost.
    ///
    /// # Safety
    /// As long as the buffer lives, or [`Bytes`](bytes::Bytes) made of it, nobody else writes to these
    /// pages of the file: no other process, no write to the file, no other mapping of them. Nor does
    /// anybody shorten the file: to touch a page that it no longer has ends the process. This holds for
    /// [`Sharing::Private`] as well. Shared pages are not mapped twice at the same time.
    ///
    /// # Errors
    /// See [`MapError`]. Nothing is charged then.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{MemoryManager, Sharing};
    /// let path = tempfile::NamedTempFile::new()?;
    /// std::fs::write(&path, "a long index")?;
    ///
    /// let memory = MemoryManager::builder().build()?;
    /// let indexes = memory.budget("indexes").limit_bytes(1 << 20).create()?;
    /// let file = std::fs::File::open(&path)?;
    /// // SAFETY: nobody else knows this file.
    /// let index = unsafe { indexes.map_file(&file, 0, 12, Sharing::Private)? };
    /// assert_eq!((&index[..], indexes.used_bytes()), (&b"a long index"[..], 4096));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub unsafe fn map_file(
        &self,
        file: &File,
        offset: u64,
        len: usize,
        sharing: Sharing,
    ) -> Result<Buffer, MapError> {
        check(file, offset, len)?;
        if len == 0 {
            return Ok(Buffer::empty());
        }
        let buffer = self.acquire_own_mapping(len)?;
        let Some(slot) = buffer.own_mapping() else {
            unreachable!("it was acquired as one");
        };
        let is_shared = sharing == Sharing::Shared;
        // SAFETY: the pages from the first to the capacity are the buffer's, which nobody else knows
        // yet; the offset is whole pages, see `check`. For the file the caller answers.
        unsafe { sys::map_file(slot, file.as_fd(), offset, buffer.capacity(), is_shared) }?;
        Ok(buffer)
    }

    /// As [`acquire`](Self::acquire) above the largest size class, for any length but 0.
    #[cfg_attr(debug_assertions, track_caller)]
    fn acquire_own_mapping(&self, len: usize) -> Result<Buffer, AcquireError> {
        let found = match large::capacity(len) {
            None => Err(AcquireError::TooLong { len, max_bytes: LEN_MAX }),
            Some(capacity) => self
                .engine()
                .acquire_large(self.node(), capacity, len, Effort::Everything)
                .map_err(|denied| self.acquire_error(denied)),
        };
        let slot = found.inspect_err(|_| self.engine().meter.refused())?;
        Ok(Buffer::of_mapping(slot, len, self.tag()))
    }
}

impl MemoryManager {
    /// Maps `len` bytes of a file as a buffer charged to the root; see [`Budget::map_file`].
    ///
    /// # Safety
    /// As for [`Budget::map_file`].
    ///
    /// # Errors
    /// See [`MapError`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{MemoryManager, Sharing};
    /// let memory = MemoryManager::builder().build()?;
    /// let file = tempfile::tempfile()?;
    /// file.set_len(100_000)?;
    /// // SAFETY: nobody else knows this file.
    /// let table = unsafe { memory.map_file(&file, 4096, 10_000, Sharing::Shared)? };
    /// assert_eq!((table.len(), memory.stats().used_bytes), (10_000, 3 * 4096));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub unsafe fn map_file(
        &self,
        file: &File,
        offset: u64,
        len: usize,
        sharing: Sharing,
    ) -> Result<Buffer, MapError> {
        // SAFETY: the caller's promise.
        unsafe { self.root().map_file(file, offset, len, sharing) }
    }
}

impl Buffer {
    /// Waits until what was written to a [shared](Sharing::Shared) mapping has reached the file's
    /// storage; for any other buffer there is nothing to do.
    ///
    /// Readers of the file see what is written at once, without this. Without it, it reaches the
    /// storage when the system sees fit, also after the buffer is gone.
    ///
    /// # Errors
    /// The system's: it could not be written.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{MemoryManager, Sharing};
    /// let memory = MemoryManager::builder().build()?;
    /// let file = tempfile::tempfile()?;
    /// file.set_len(1 << 20)?;
    /// // SAFETY: nobody else knows this file.
    /// let mut table = unsafe { memory.map_file(&file, 4096, 100_000, Sharing::Shared)? };
    /// table[..5].copy_from_slice(b"entry");
    /// table.sync_file()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sync_file(&self) -> io::Result<()> {
        match self.own_mapping() {
            // SAFETY: the range is the buffer's pages, all of them mapped.
            Some(slot) => unsafe { sys::sync_file(slot, self.capacity()) },
            None => Ok(()),
        }
    }
}

/// Whether these bytes can be mapped.
fn check(file: &File, offset: u64, len: usize) -> Result<(), MapError> {
    if !offset.is_multiple_of(PAGE_BYTES as u64) {
        return Err(MapError::Unaligned { offset });
    }
    let file_bytes = file.metadata()?.len();
    let end = offset.checked_add(len as u64);
    if end.is_none_or(|end| end > file_bytes) {
        return Err(MapError::BeyondEnd { offset, len, file_bytes });
    }
    Ok(())
}

/// Why [`Budget::map_file`] mapped no file.
///
/// # Examples
/// ```
/// # use tripod_memory::{MapError, MemoryManager, Sharing};
/// let memory = MemoryManager::builder().build()?;
/// let file = tempfile::tempfile()?;
/// // SAFETY: nobody else knows this file.
/// let refused = unsafe { memory.map_file(&file, 4096, 10, Sharing::Private) }.unwrap_err();
/// assert!(matches!(refused, MapError::BeyondEnd { file_bytes: 0, .. }));
/// assert_eq!(
///     refused.to_string(),
///     "10 bytes from byte 4096 on are not within the file, which has 0"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// Files are mapped by pages.
    #[error("a file cannot be mapped from byte {offset} on: that is not a multiple of 4096")]
    Unaligned {
        /// The offset asked for, in bytes.
        offset: u64,
    },
    /// The file does not have these bytes.
    #[error("{len} bytes from byte {offset} on are not within the file, which has {file_bytes}")]
    BeyondEnd {
        /// The offset asked for, in bytes.
        offset: u64,
        /// The length asked for, in bytes.
        len: usize,
        /// The file's length in bytes; 0 if it is not a regular file.
        file_bytes: u64,
    },
    /// The budget or the system has no room.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The system refused, for instance because the file is not open for what is asked.
    #[error("the system did not map the file: {0}")]
    System(#[from] io::Error),
}
