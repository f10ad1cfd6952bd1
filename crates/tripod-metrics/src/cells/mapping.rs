//! Pages of a file as memory that all who map them share, and that outlives the process.
//!
//! An [`Extent`] is some pages in a row. They were written before they are mapped, so the file system
//! has given them and a store cannot fail for want of room. Whoever makes such a file shorter while
//! it is mapped makes the next store a `SIGBUS`; the lock of the directory keeps out other processes
//! of this crate, and nobody else has business there.
#![allow(unsafe_code, reason = "a mapped file is memory that the compiler knows nothing of")]

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

use super::chunk::Chunk;
use crate::sync::AtomicU64;

/// Bytes of a page of the file, which is one chunk.
pub(crate) const PAGE_BYTES: usize = 4096;

// Smaller where each cell is tracked; nothing is mapped there.
#[cfg(not(any(miri, all(loom, test))))]
const _: () = assert!(size_of::<Chunk>() == PAGE_BYTES, "a chunk is a page of the file");

/// Pages of a file, mapped; unmapped when the last share is dropped.
#[derive(Debug)]
pub(crate) struct Extent {
    map: MmapRaw,
}

impl Extent {
    /// Maps `pages` pages of `file` from the page `first` on, which the file must have.
    ///
    /// # Errors
    /// Those of `mmap`, and [`io::ErrorKind::UnexpectedEof`] if the file is shorter.
    pub(crate) fn map(file: &File, first: u64, pages: u32) -> io::Result<Self> {
        let (start, length) = (first * PAGE_BYTES as u64, pages as usize * PAGE_BYTES);
        if file.metadata()?.len() < start + length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { map: MmapOptions::new().offset(start).len(length).map_raw(file)? })
    }

    /// The number of pages.
    pub(crate) fn pages(&self) -> u32 {
        (self.map.len() / PAGE_BYTES) as u32
    }

    /// The page at `index`.
    ///
    /// # Panics
    /// If there is no such page.
    #[inline]
    pub(crate) fn chunk(&self, index: u32) -> &Chunk {
        assert!(index < self.pages(), "page {index} of {}", self.pages());
        let page = self.map.as_ptr().wrapping_add(index as usize * PAGE_BYTES).cast::<Chunk>();
        // SAFETY: the page lies within the mapping (checked above), which lives as long as `self` and
        // starts at a page of the system, so the address is aligned. A chunk is a page of atomics, for
        // which all bits are valid and through which anybody may store at any time.
        unsafe { &*page }
    }

    /// A word of the first page.
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        self.chunk(0).cell(index)
    }
}

#[cfg(test)]
#[cfg(not(any(loom, miri)))]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::cells::CHUNK_CELLS;

    #[test]
    fn what_is_stored_is_in_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 3 * PAGE_BYTES]).unwrap();
        let extent = Extent::map(&file, 1, 2).unwrap();
        extent.chunk(1).set(CHUNK_CELLS - 1, 0x0102_0304_0506_0708);
        let again = Extent::map(&file, 2, 1).unwrap();
        assert_eq!(again.chunk(0).get(CHUNK_CELLS - 1), 0x0102_0304_0506_0708);
    }

    #[test]
    fn what_the_file_does_not_have_is_not_mapped() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 2 * PAGE_BYTES - 1]).unwrap();
        let refused = Extent::map(&file, 1, 1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::UnexpectedEof);
    }
}
