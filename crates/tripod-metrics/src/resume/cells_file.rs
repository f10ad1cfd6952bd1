//! The file with the cells of a process: pages, each of them a chunk, and nothing else.
//!
//! Which group a page belongs to is said by a record of the series file, before anything is stored
//! in the page.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::series_file::create_file;
use crate::cells::{CHUNK_CELLS, ChunkRef, Extent, PAGE_BYTES};
use crate::sync::Arc;

/// The name of the file of the generation that is appended to it.
pub(super) const NAME: &str = "tripod-metrics.cells.";

/// Pages that are added at once, at first and at most: a share of what there is already.
const STEP_MIN: u32 = 8;
const STEP_MAX: u32 = 256;

/// The file, open for adding pages. Only one thread at a time.
#[derive(Debug)]
pub(super) struct CellsFile {
    file: File,
    pages: u32,
    /// The newest pages, the first of them, and how many of them are given out.
    newest: Option<(Arc<Extent>, u32, u32)>,
}

impl CellsFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: create_file(path)?, pages: 0, newest: None })
    }

    pub(super) fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// Gives out a page of zeros and its number.
    ///
    /// # Errors
    /// If the file system has no room, or the system no memory to map it.
    pub(super) fn page(&mut self) -> io::Result<(u32, ChunkRef)> {
        let (extent, first, used) = match self.newest.take() {
            Some((extent, first, used)) if used < extent.pages() => (extent, first, used),
            _ => {
                let (extent, first) = self.grow()?;
                (Arc::new(extent), first, 0)
            }
        };
        let chunk = ChunkRef::mapped(&extent, used);
        self.newest = Some((extent, first, used + 1));
        Ok((first + used, chunk))
    }

    #[cfg(test)]
    #[cfg(not(any(loom, miri)))]
    pub(super) fn fill_up(&mut self) {
        self.file = File::options().write(true).open("/dev/full").expect("Linux has it");
        self.newest = None;
    }

    fn grow(&mut self) -> io::Result<(Extent, u32)> {
        let (first, pages) = (self.pages, self.pages.clamp(STEP_MIN, STEP_MAX));
        let zeros = vec![0; pages as usize * PAGE_BYTES];
        // Written, not only made longer: so that the room is there before it is mapped.
        self.file.write_all_at(&zeros, u64::from(first) * PAGE_BYTES as u64)?;
        let extent = Extent::map(&self.file, u64::from(first), pages)?;
        self.pages += pages;
        Ok((extent, first))
    }
}

/// Reads a page of a file that an earlier process left.
pub(super) fn read_page(file: &File, page: u32) -> io::Result<[u64; CHUNK_CELLS]> {
    let mut bytes = [0; PAGE_BYTES];
    file.read_exact_at(&mut bytes, u64::from(page) * PAGE_BYTES as u64)?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(std::array::from_fn(|cell| u64::from_ne_bytes(words[cell])))
}
