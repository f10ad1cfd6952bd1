//! The project's own checks, run as `cargo xtask <task>`.
//!
//! `ci` is all that has to hold before a change is merged, `tidy` the part of it that the compiler
//! cannot see, `record` keeps the result of a comparison, and `verify` runs the tools that take long.
//! Nothing here knows of the crates it
//! checks other than through their files, and no check edits one.
#![allow(clippy::print_stdout, reason = "a program for the terminal, not a library")]

mod ci;
mod error;
mod record;
mod tidy;
mod verify;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::error::TaskError;

const USAGE: &str = "\
usage: cargo xtask <task>

  ci              all that has to hold: format, lints, tests, docs, tidy
  tidy            what the compiler cannot see: layers, links, test modules, ...
  record SUBJECT  runs a comparison of tripod-bench and keeps its output
  verify [--short | SECONDS]
                  miri, thread sanitizer, loom, and each fuzz target for so long (60 s)";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = workspace_root();
    let done = match words.as_slice() {
        ["ci"] => ci::run(&root),
        ["tidy"] => tidy::run(&root),
        ["record", subject] => record::run(&root, subject),
        ["verify", rest @ ..] => verify::run(&root, rest),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => Err(TaskError::Usage),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        if matches!(error, TaskError::Usage) {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
        ExitCode::FAILURE
    })
}

/// The folder above this crate: as cargo says it now, or as it was when this was compiled.
fn workspace_root() -> PathBuf {
    let own = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&own).parent().expect("the crate lies one folder below the root").to_path_buf()
}
