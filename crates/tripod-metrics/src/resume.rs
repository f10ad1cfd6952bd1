//! Counters that go on after a crash.
//!
//! The cells of a collector lie in a file that is mapped into memory, so what a process has counted
//! is in the file at once, without a system call, and stays there when the process is killed. Beside
//! it stands a file of records that say which cells belong to which series. The next process puts the
//! two together ([`directory`]), and each series goes on when it is registered again ([`keeper`]).
//!
//! What it guarantees: a series starts with exactly what was counted, or from zero. It starts from
//! zero after a reboot, and whenever anything about the files is not certain.
//!
//! Where it stops: it outlives the process, not the operating system, so nothing is ever waited for on
//! a disk. The files are of one boot of one machine; only one process at a time may have them.

mod cells_file;
mod directory;
mod family;
mod header;
mod keeper;
mod layout;
mod ledger;
mod record;
mod series_file;
#[cfg(test)]
#[cfg(not(any(loom, miri)))]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use self::family::{KeptFamily, KeptSeries};
pub(crate) use self::header::Boot;
pub(crate) use self::keeper::Keeper;
pub(crate) use self::layout::{KEY_ONLY, KEY_ZERO, page_key};

use crate::error::RegisterError;

/// What a collector found in its directory; from
/// [`build_resumed`](crate::MetricsCollectorBuilder::build_resumed).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// The number of series that go on where they stopped once they are registered again.
    pub series: usize,
    /// Which process this is among those that counted in the directory; the first is 1.
    pub generation: u64,
    /// Whether counting goes on, or why it starts from zero.
    pub start: Start,
}

/// Whether counting goes on, or why it starts from zero.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// Everything that the process before had counted was found.
    Continued,
    /// From zero: there was nothing in the directory.
    First,
    /// From zero: the machine was started anew since.
    Rebooted,
    /// From zero: the process before could not keep everything, for want of room say, and counted
    /// that in `tripod_metrics_resume_failures_total`.
    GivenUp,
    /// From zero: the process before had other constant labels, so its series were others.
    OtherLabels,
    /// From zero: the files are of a version that this one does not know.
    OtherVersion {
        /// That version.
        version: u32,
    },
    /// From zero: the files are copies, and may be older than what was last shown.
    Copied,
    /// From zero: the files are damaged.
    Damaged {
        /// What is wrong with them.
        what: String,
        /// Where the file with the series was put; the one with the cells is beside it.
        kept_as: PathBuf,
    },
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Continued => f.write_str("counting goes on"),
            Self::First => f.write_str("from zero: nothing was counted here before"),
            Self::Rebooted => f.write_str("from zero: the machine was started anew"),
            Self::GivenUp => {
                f.write_str("from zero: the process before could not keep everything it counted")
            }
            Self::OtherLabels => f.write_str("from zero: the constant labels are others"),
            Self::OtherVersion { version } => {
                write!(f, "from zero: the files are of version {version}")
            }
            Self::Copied => f.write_str("from zero: the files are copies"),
            Self::Damaged { what, kept_as } => {
                write!(
                    f,
                    "from zero: the series file is damaged ({what}), kept as {}",
                    kept_as.display()
                )
            }
        }
    }
}

/// Why a collector could not be built on a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// A constant label breaks the rules.
    #[error(transparent)]
    Labels(#[from] RegisterError),
    /// Another process, or another collector of this one, counts in the directory.
    #[error(
        "{} is in use by {}; each process needs a directory of its own",
        directory.display(),
        process.map_or("another process".to_owned(), |process| format!("process {process}"))
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The number of the process, if it could be read.
        process: Option<u32>,
    },
    /// Every user may write to the directory, and so put anything in the place of the files.
    #[error(
        "every user may write to {}; name a directory below it, which will be made",
        directory.display()
    )]
    Exposed {
        /// The directory.
        directory: PathBuf,
    },
    /// Something could not be done with a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What: a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Opens `directory` for a collector with these constant labels, as they stand on a page.
pub(crate) fn open(directory: &Path, constant: &str) -> Result<(Keeper, Resumed), ResumeError> {
    open_in(directory, directory::current_boot()?, constant)
}

/// As [`open`], in a boot of the caller's choice.
pub(crate) fn open_in(
    directory: &Path,
    boot: Boot,
    constant: &str,
) -> Result<(Keeper, Resumed), ResumeError> {
    directory::open(directory, boot, constant)
}
