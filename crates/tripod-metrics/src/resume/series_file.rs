//! The series file of a directory that is in use: records are appended, or all written anew.
//!
//! A record counts from the moment when the word [`COMMITTED`] of the header covers it, which is one
//! store. What a killed process had written beyond it is as if it had never been.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::header::{COMMITTED, Header, Page, VOID, committed, void};
use crate::cells::{Extent, PAGE_BYTES};
use crate::sync::Ordering;

/// The name of the file.
pub(super) const NAME: &str = "tripod-metrics.series";
const NEW_NAME: &str = "tripod-metrics.series.new";

/// The file, open for appending. Only one thread at a time.
#[derive(Debug)]
pub(super) struct SeriesFile {
    file: File,
    header: Header,
    head: Extent,
    end: u64,
}

impl SeriesFile {
    /// Writes a complete file and puts it in the place of the one that is there, all at once.
    ///
    /// `header` need not have the right inode of the file itself.
    pub(super) fn create(directory: &Path, header: Header, records: &[u8]) -> io::Result<Self> {
        let path = directory.join(NEW_NAME);
        let created = Self::write(&path, header, records)
            .and_then(|file| fs::rename(&path, directory.join(NAME)).map(|()| file));
        if created.is_err() {
            let _may_not_be_there = fs::remove_file(&path);
        }
        created
    }

    fn write(path: &Path, header: Header, records: &[u8]) -> io::Result<Self> {
        let file = create_file(path)?;
        let header = Header { own_inode: file.metadata()?.ino(), ..header };
        let end = (PAGE_BYTES + records.len()) as u64;
        file.write_all_at(&Page { header, end, is_void: false }.write(), 0)?;
        file.write_all_at(records, PAGE_BYTES as u64)?;
        let head = Extent::map(&file, 0, 1)?;
        Ok(Self { file, header, head, end })
    }

    /// Appends records, all or none of which count from then on.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        self.file.write_all_at(records, self.end)?;
        self.end += records.len() as u64;
        self.head.word(COMMITTED).store(committed(self.end), Ordering::Release);
        Ok(())
    }

    /// Says for good that nothing may be taken from the file.
    pub(super) fn make_void(&self) {
        self.head.word(VOID).store(void(true), Ordering::SeqCst);
    }

    /// The records so far.
    pub(super) fn records(&self) -> io::Result<Vec<u8>> {
        let mut records = vec![0; (self.end - PAGE_BYTES as u64) as usize];
        self.file.read_exact_at(&mut records, PAGE_BYTES as u64)?;
        Ok(records)
    }

    /// Bytes of the records so far.
    pub(super) fn length(&self) -> u64 {
        self.end - PAGE_BYTES as u64
    }

    #[cfg(test)]
    #[cfg(not(any(loom, miri)))]
    pub(super) fn fill_up(&mut self) {
        self.file = File::options().write(true).open("/dev/full").expect("Linux has it");
    }

    /// Puts a file with these records in the place of this one.
    pub(super) fn replace(&mut self, directory: &Path, records: &[u8]) -> io::Result<()> {
        *self = Self::create(directory, self.header, records)?;
        Ok(())
    }
}

/// Makes an empty file that only its owner may read and write, or empties the one that is there.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Reads a whole file and its inode; `None` if there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<(Vec<u8>, u64)>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some((bytes, file.metadata()?.ino())))
}
