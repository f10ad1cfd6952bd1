//! `tripod-bench SUBJECT`: compares Tripod with other projects.
//!
//! A comparison is one run: the opponents take turns, medians are compared, and each promise (a
//! [`bar::Bar`]) is printed with the figure that was measured, met or missed. `cargo xtask record
//! SUBJECT` keeps what is printed in `crates/tripod-bench/record/`.
//!
//! A subject is a module with a `run` function that writes its report and returns its bars; the
//! other modules know of no subject.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::bar::Bar;
use crate::error::BenchError;

mod bar;
mod burst;
mod contender;
mod cpu;
mod error;
mod machine;
mod map;
mod memory;
mod metrics;
mod process;
mod random;
mod report;
mod row;
mod series;

const EXIT_CODES: &str = "\
Exit codes: 0 measured, 1 measured and a bar was missed (only with --check), 2 not measured: bad
usage, a tool is missing, a run failed, or the tools did not do the same work.";

/// A bar was missed, and the user asked for that to count.
const EXIT_MISSED: u8 = 1;
/// Nothing can be said; also clap's code for bad usage.
const EXIT_NOT_MEASURED: u8 = 2;

/// Compares Tripod with other projects, in one run.
#[derive(Debug, Parser)]
#[command(name = "tripod-bench", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    subject: Subject,

    /// Exit with code 1 if a bar is missed
    #[arg(long, global = true)]
    check: bool,
}

#[derive(Debug, Subcommand)]
enum Subject {
    Map(map::MapArgs),
    Memory(memory::MemoryArgs),
    /// What a subject measures in a process of its own
    #[command(hide = true)]
    Alone(memory::AloneArgs),
    Metrics(metrics::MetricsArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::stdout().lock();
    match run(&cli.subject, &mut out) {
        Ok(bars) => ExitCode::from(exit_code(&bars, cli.check)),
        Err(error) => {
            eprintln!("tripod-bench: {error}");
            ExitCode::from(EXIT_NOT_MEASURED)
        }
    }
}

/// Carries out one comparison; its bars are printed last.
fn run(subject: &Subject, out: &mut impl Write) -> Result<Vec<Bar>, BenchError> {
    let bars = match subject {
        Subject::Map(args) => map::run(args, out)?,
        Subject::Memory(args) => memory::run(args, out)?,
        Subject::Alone(args) => return memory::answer(args, out).map(|()| Vec::new()),
        Subject::Metrics(args) => metrics::run(args, out)?,
    };
    writeln!(out, "bars\n{}", report::bars(&bars)).map_err(BenchError::Output)?;
    Ok(bars)
}

fn exit_code(bars: &[Bar], check: bool) -> u8 {
    let is_missed = bars.iter().any(|bar| !bar.is_met());
    if check && is_missed { EXIT_MISSED } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_missed_bar_counts_only_when_asked() {
        let met = Bar::at_most("a", 1.0, 1.5);
        let missed = Bar::at_most("b", 1.6, 1.5);
        assert_eq!(exit_code(std::slice::from_ref(&missed), true), 1);
        assert_eq!(exit_code(std::slice::from_ref(&missed), false), 0);
        assert_eq!(exit_code(std::slice::from_ref(&met), true), 0);
        assert_eq!(exit_code(&[met, missed], true), 1);
        assert_eq!(exit_code(&[], true), 0);
    }

    #[test]
    fn check_stands_before_or_behind_the_subject() {
        for line in [["tripod-bench", "--check", "map"], ["tripod-bench", "map", "--check"]] {
            assert!(Cli::try_parse_from(line).expect("a good line").check, "{line:?}");
        }
        let cli = Cli::try_parse_from(["tripod-bench", "map"]).expect("a good line");
        assert!(!cli.check);
    }

    #[test]
    fn the_options_of_map_are_read() {
        let line = ["tripod-bench", "map", "--rounds", "5", "--quick", "--tripod", "bin/tripod"];
        let Subject::Map(args) = Cli::try_parse_from(line).expect("a good line").subject else {
            panic!("another subject");
        };
        assert_eq!(args.rounds.map(u32::from), Some(5));
        assert!(args.quick);
        assert_eq!(args.tripod.as_deref(), Some(Path::new("bin/tripod")));
    }

    #[test]
    fn the_options_of_metrics_are_read() {
        let line = ["tripod-bench", "metrics", "--quick", "--check"];
        let cli = Cli::try_parse_from(line).expect("a good line");
        assert!(cli.check);
        assert!(matches!(cli.subject, Subject::Metrics(metrics::MetricsArgs { quick: true })));
    }

    #[test]
    fn the_options_of_memory_are_read() {
        let line = ["tripod-bench", "--check", "memory", "--quick", "--only", "4 KiB"];
        let cli = Cli::try_parse_from(line).expect("a good line");
        assert!(cli.check);
        let Subject::Memory(args) = cli.subject else { panic!("another subject") };
        assert!(args.quick);
        assert_eq!(args.only.as_deref(), Some("4 KiB"));
    }

    #[test]
    fn a_subject_is_needed_and_no_rounds_are_refused() {
        for line in [
            &["tripod-bench"][..],
            &["tripod-bench", "--check"],
            &["tripod-bench", "nothing"],
            &["tripod-bench", "map", "--rounds", "0"],
        ] {
            let error = Cli::try_parse_from(line).expect_err("a bad line");
            assert_eq!(error.exit_code(), i32::from(EXIT_NOT_MEASURED), "{line:?}");
        }
    }
}
