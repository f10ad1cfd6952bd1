//! Why a comparison could not be made.

use std::io;
use std::process::ExitStatus;

/// Why nothing was measured. A missed bar is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BenchError {
    #[error("`{tool}` is not installed; on Debian it is in the package {package}")]
    Missing { tool: String, package: &'static str },
    #[error("`{tool}` is not the one to compare with, it says {said:?}; install {package}")]
    Lookalike { tool: String, said: String, package: &'static str },
    #[error("building tripod failed ({status}):\n{stderr}")]
    Build { status: ExitStatus, stderr: String },
    #[error("`{command}` could not be started: {source}")]
    Start { command: String, source: io::Error },
    #[error("`{command}` failed ({status}), so nothing is compared; it said:\n{stderr}")]
    Failed { command: String, status: ExitStatus, stderr: String },
    #[error("`{command}` did not do the work of the others: {how}")]
    Differs { command: String, how: String },
    #[error("only {found} files to compress were found, {needed} are needed")]
    TooFewFiles { found: usize, needed: usize },
    #[error("cannot {what}: {source}")]
    Prepare { what: &'static str, source: io::Error },
    #[error("cannot write the report: {0}")]
    Output(io::Error),
}

impl BenchError {
    /// For `map_err`: what was being prepared, as in "cannot {what}".
    pub(crate) fn prepare(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Prepare { what, source }
    }
}
