//! Opening a directory: what an earlier process left is read, put together, and written anew.
//!
//! The files that were there are only read until a complete new one takes their place, so a process
//! that is killed in here has changed nothing.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::cells_file::{self, CellsFile};
use super::header::{Boot, Header, NoHeader, Page};
use super::keeper::Keeper;
use super::ledger::{Ledger, Unusable};
use super::series_file::{self, SeriesFile};
use super::{ResumeError, Resumed, Start};
use crate::cells::PAGE_BYTES;

const LOCK_NAME: &str = "tripod-metrics.lock";
const DAMAGED_SERIES_NAME: &str = "tripod-metrics.series.damaged";
const DAMAGED_CELLS_NAME: &str = "tripod-metrics.damaged-cells";
const BOOT_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// What an earlier process left.
pub(super) struct Found {
    pub(super) ledger: Ledger,
    pub(super) start: Start,
}

impl Found {
    fn nothing(start: Start) -> Self {
        Self { ledger: Ledger::default(), start }
    }
}

/// The boot that the system is in.
pub(super) fn current_boot() -> Result<Boot, ResumeError> {
    let text = fs::read_to_string(BOOT_PATH).map_err(failed("read", Path::new(BOOT_PATH)))?;
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "it is no boot id");
    Boot::parse(&text).ok_or_else(|| failed("read", Path::new(BOOT_PATH))(unreadable()))
}

/// Opens a directory, which is made if it is not there.
pub(super) fn open(
    directory: &Path,
    boot: Boot,
    constant: &str,
) -> Result<(Keeper, Resumed), ResumeError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory).map_err(failed("make", directory))?;
    let mode = fs::metadata(directory).map_err(failed("read", directory))?.mode();
    if mode & 0o002 != 0 {
        return Err(ResumeError::Exposed { directory: directory.to_owned() });
    }
    let lock = take_lock(directory)?;
    let found = find(directory, boot, constant)?;
    let Found { mut ledger, start } = found;
    ledger.constant = constant.to_owned();
    let old = cells_of(directory)?;
    let generation = old.last().map_or(0, |(generation, _)| *generation) + 1;
    if let Start::Damaged { .. } = start {
        set_aside(directory, old.last().map(|(_, path)| path))?;
    }
    let path = cells_path(directory, generation);
    let cells = CellsFile::create(&path).map_err(failed("make", &path))?;
    let cells_inode = cells.inode().map_err(failed("read", &path))?;
    let header = Header { boot, generation, own_inode: 0, cells_inode };
    let series = SeriesFile::create(directory, header, &ledger.write())
        .map_err(failed("write", &directory.join(series_file::NAME)))?;
    for (_, path) in old.iter().filter(|(_, path)| path.exists()) {
        fs::remove_file(path).map_err(failed("remove", path))?;
    }
    let resumed = Resumed { series: ledger.series.len(), generation, start };
    Ok((Keeper::new(directory.to_owned(), ledger, series, cells, lock), resumed))
}

/// Locks the directory for this process.
fn take_lock(directory: &Path) -> Result<File, ResumeError> {
    let path = directory.join(LOCK_NAME);
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = file.read_to_string(&mut text).ok();
            let process = read.and_then(|_| text.trim().parse().ok());
            return Err(ResumeError::InUse { directory: directory.to_owned(), process });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
    }
    let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    named.map_err(failed("write", &path))?;
    Ok(file)
}

/// Reads what is there; whatever is not certain is not taken.
pub(super) fn find(directory: &Path, boot: Boot, constant: &str) -> Result<Found, ResumeError> {
    let path = directory.join(series_file::NAME);
    let Some((bytes, inode)) = series_file::read(&path).map_err(failed("read", &path))? else {
        return Ok(Found::nothing(Start::First));
    };
    let page = match Page::read(&bytes) {
        Ok(page) => page,
        Err(NoHeader::Version(version)) => {
            return Ok(Found::nothing(Start::OtherVersion { version }));
        }
        Err(NoHeader::Damaged) => return Ok(damaged(directory, "its header is torn")),
    };
    let Page { header, end, is_void } = page;
    if header.boot != boot {
        return Ok(Found::nothing(Start::Rebooted));
    }
    if is_void {
        return Ok(Found::nothing(Start::GivenUp));
    }
    if header.own_inode != inode {
        return Ok(Found::nothing(Start::Copied));
    }
    let Some(records) = usize::try_from(end).ok().and_then(|end| bytes.get(PAGE_BYTES..end)) else {
        return Ok(damaged(directory, "it ends too early"));
    };
    settle(directory, header, records, constant)
}

/// Puts records and cells together.
fn settle(
    directory: &Path,
    header: Header,
    records: &[u8],
    constant: &str,
) -> Result<Found, ResumeError> {
    let path = cells_path(directory, header.generation);
    let cells = match File::open(&path) {
        Ok(cells) => cells,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(damaged(directory, "the file with its cells is not there"));
        }
        Err(error) => return Err(failed("open", &path)(error)),
    };
    if cells.metadata().map_err(failed("read", &path))?.ino() != header.cells_inode {
        return Ok(Found::nothing(Start::Copied));
    }
    let settled = Ledger::read(records).and_then(|mut ledger| {
        let is_same = ledger.constant == constant;
        ledger.settle(|page| cells_file::read_page(&cells, page))?;
        Ok((ledger, is_same))
    });
    match settled {
        Ok((ledger, true)) => Ok(Found { ledger, start: Start::Continued }),
        Ok((_, false)) => Ok(Found::nothing(Start::OtherLabels)),
        Err(Unusable::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(failed("read", &path)(error))
        }
        Err(unusable) => Ok(damaged(directory, &unusable.to_string())),
    }
}

fn damaged(directory: &Path, what: &str) -> Found {
    let kept_as = directory.join(DAMAGED_SERIES_NAME);
    Found::nothing(Start::Damaged { what: what.to_owned(), kept_as })
}

/// Puts files that cannot be used out of the way, for people to look at. Only the last ones are kept.
fn set_aside(directory: &Path, cells: Option<&PathBuf>) -> Result<(), ResumeError> {
    let series = directory.join(series_file::NAME);
    fs::rename(&series, directory.join(DAMAGED_SERIES_NAME))
        .map_err(failed("set aside", &series))?;
    let Some(cells) = cells else { return Ok(()) };
    fs::rename(cells, directory.join(DAMAGED_CELLS_NAME)).map_err(failed("set aside", cells))
}

fn cells_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{}{generation}", cells_file::NAME))
}

/// The files with cells that are there, ascending by their generation.
fn cells_of(directory: &Path) -> Result<Vec<(u64, PathBuf)>, ResumeError> {
    let entries = fs::read_dir(directory).map_err(failed("list", directory))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("list", directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let generation = name.and_then(|name| name.strip_prefix(cells_file::NAME)?.parse().ok());
        found.extend(generation.map(|generation| (generation, path)));
    }
    found.sort();
    Ok(found)
}

/// Makes the error that something could not be done with a path.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ResumeError {
    let path = path.to_owned();
    move |source| ResumeError::Io { action, path, source }
}
