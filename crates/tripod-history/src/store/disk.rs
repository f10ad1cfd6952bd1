//! The few things that a store does with files, so that tests can make each of them fail.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

/// A place for files.
pub(super) trait Disk: std::fmt::Debug + Send + Sync {
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in a directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Reads a part of a file; gives less if the file ends before.
    fn read(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>>;

    /// Makes a file, or empties the one there is, writes it and sees it on the medium.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Puts a file in the place of another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Sees on the medium what was renamed in a directory and removed from it.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a lock file if there is none, and locks it against other processes.
    fn lock(&self, path: &Path) -> Result<Lock, TryLockError>;
}

/// Held while nobody else may write.
#[derive(Debug)]
pub(super) struct Lock {
    /// Its lock ends when it is closed.
    _file: Option<File>,
}

#[cfg(test)]
impl Lock {
    /// Locks nothing.
    pub(super) fn none() -> Self {
        Self { _file: None }
    }
}

/// The file system.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            // The files of a store have plain names; what has another is none of them.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn read(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::new();
        file.take(range.end - range.start).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> Result<Lock, TryLockError> {
        let open = File::options().create(true).truncate(false).write(true).open(path);
        let file = open.map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(Lock { _file: Some(file) })
    }
}
