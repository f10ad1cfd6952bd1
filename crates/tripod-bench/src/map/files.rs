//! The files that are compressed: the same on every run of a machine.

use std::fs::{self, File};
use std::io;
use std::process::{Command, Stdio};

use crate::error::BenchError;

/// What [`Files::find`] looks for, as it is shown.
pub(super) const WHERE: &str = "/usr/bin and /usr/lib above 200 KiB and up to 512 KiB,";

/// Above 200 and up to 512 KiB: large enough to be real work, small enough that none of them
/// decides how long a run takes.
const FIND: [&str; 12] = [
    "/usr/bin",
    "/usr/lib",
    "-type",
    "f",
    "-readable",
    "-size",
    "+200k",
    "-size",
    "-513k",
    "-not",
    "-name",
    "*\n*",
];

/// Paths, sorted, and what the files hold together.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) paths: Vec<String>,
    pub(super) bytes: u64,
}

impl Files {
    /// Finds the first `count` files by name.
    ///
    /// # Errors
    /// If there are fewer, or `find` cannot be run.
    pub(super) fn find(count: usize) -> Result<Self, BenchError> {
        let mut command = Command::new("find");
        command.args(FIND).stdin(Stdio::null());
        // Its exit code does not count: a folder that cannot be read is left out.
        let output = command
            .output()
            .map_err(|source| BenchError::Start { command: "find".to_owned(), source })?;
        let paths = first_lines(&String::from_utf8_lossy(&output.stdout), count)?;
        let sizes = paths.iter().map(|path| fs::metadata(path).map(|file| file.len()));
        let bytes: io::Result<u64> = sizes.sum();
        let bytes = bytes.map_err(BenchError::prepare("tell the sizes of the files"))?;
        Ok(Self { paths, bytes })
    }

    /// Reads every file once, so that the first tool does not wait for a disk for the others.
    ///
    /// # Errors
    /// If one cannot be read.
    pub(super) fn read_all(&self) -> Result<(), BenchError> {
        for path in &self.paths {
            let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
            copied.map_err(BenchError::prepare("read the files to compress"))?;
        }
        Ok(())
    }
}

fn first_lines(text: &str, count: usize) -> Result<Vec<String>, BenchError> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    if lines.len() < count {
        return Err(BenchError::TooFewFiles { found: lines.len(), needed: count });
    }
    lines.truncate(count);
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_files_by_name_are_taken_whatever_order_they_are_found_in() {
        assert_eq!(first_lines("c\na\nd\nb\n", 3).expect("enough"), ["a", "b", "c"]);
        let error = first_lines("a\nb\n", 3).expect_err("too few");
        assert!(matches!(error, BenchError::TooFewFiles { found: 2, needed: 3 }), "{error:?}");
    }
}
