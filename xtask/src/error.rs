//! Why a task could not be carried out; a check that finds something is not an error.

use std::path::PathBuf;
use std::{error, fmt, io};

/// Why a task stopped before it had an answer.
#[derive(Debug)]
pub(crate) enum TaskError {
    Usage,
    Subject { given: String },
    Read { path: PathBuf, source: io::Error },
    Write { path: PathBuf, source: io::Error },
    Start { command: String, source: io::Error },
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage => write!(f, "no such task"),
            Self::Subject { given } => {
                write!(f, "subject `{given}` is not made of a-z, 0-9 and inner hyphens")
            }
            Self::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Write { path, source } => write!(f, "cannot write {}: {source}", path.display()),
            Self::Start { command, source } => write!(f, "cannot run `{command}`: {source}"),
        }
    }
}

impl error::Error for TaskError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Usage | Self::Subject { .. } => None,
            Self::Read { source, .. } | Self::Write { source, .. } | Self::Start { source, .. } => {
                Some(source)
            }
        }
    }
}
