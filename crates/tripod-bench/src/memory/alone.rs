//! Measurements that need a process of their own, since what a process has done before shows in the
//! memory it has: the bench starts itself again, with a subcommand that `--help` does not show.
//!
//! Such a child prints its figures in one line and nothing else.

use std::env;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::idle::{self, Of};
use super::{collect, replay};
use crate::error::BenchError;

/// What a child of this process measures.
#[derive(Debug, Args)]
pub(crate) struct AloneArgs {
    #[command(subcommand)]
    task: Task,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Task {
    /// Memory that is held after all has been freed
    Idle { of: Of, len: usize, ttl_ms: u64, wait_ms: u64 },
    /// Collection beside a thread that acquires
    Collect { alone_ms: u64 },
    /// Memory while a trace is replayed
    Replay { trace: replay::Which, of: Of },
}

impl Task {
    fn words(self) -> Vec<String> {
        let words = |words: &[&dyn ToString]| words.iter().map(|word| word.to_string()).collect();
        match self {
            Self::Idle { of, len, ttl_ms, wait_ms } => {
                words(&[&"idle", &of.word(), &len, &ttl_ms, &wait_ms])
            }
            Self::Collect { alone_ms } => words(&[&"collect", &alone_ms]),
            Self::Replay { trace, of } => words(&[&"replay", &trace.word(), &of.word()]),
        }
    }

    fn measure(self) -> Result<Vec<f64>, BenchError> {
        match self {
            Self::Idle { of, len, ttl_ms, wait_ms } => {
                let ttl = Duration::from_millis(ttl_ms);
                Ok(idle::hold(of, len, ttl, Duration::from_millis(wait_ms)).to_vec())
            }
            Self::Collect { alone_ms } => {
                collect::run(Duration::from_millis(alone_ms)).map(|figures| figures.to_vec())
            }
            Self::Replay { trace, of } => replay::run(trace, of).map(|figures| figures.to_vec()),
        }
    }
}

/// Carries out what a parent asked for.
///
/// # Errors
/// If it cannot be measured, or the figures cannot be written.
pub(crate) fn answer(args: &AloneArgs, out: &mut impl Write) -> Result<(), BenchError> {
    let figures = args.task.measure()?;
    let figures: Vec<String> = figures.iter().map(f64::to_string).collect();
    writeln!(out, "{}", figures.join(" ")).map_err(BenchError::Output)
}

/// A child at work.
#[derive(Debug)]
pub(crate) struct Alone {
    command: String,
    child: Child,
}

/// Starts a child.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn start(task: Task) -> Result<Alone, BenchError> {
    let words = task.words();
    let command = format!("tripod-bench alone {}", words.join(" "));
    let spawn = || {
        let mut child = Command::new(env::current_exe()?);
        child.arg("alone").args(&words).stdin(Stdio::null());
        child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    match spawn() {
        Ok(child) => Ok(Alone { command, child }),
        Err(source) => Err(BenchError::Start { command, source }),
    }
}

impl Alone {
    /// Waits for the figures.
    ///
    /// # Errors
    /// If the child failed, or has other than `N` figures to tell.
    pub(crate) fn figures<const N: usize>(self) -> Result<[f64; N], BenchError> {
        let Self { command, child } = self;
        let output = match child.wait_with_output() {
            Ok(output) => output,
            Err(source) => return Err(BenchError::Start { command, source }),
        };
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(BenchError::Failed { command, status: output.status, stderr });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let figures: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
        figures.ok().and_then(|figures| figures.try_into().ok()).ok_or_else(|| {
            BenchError::Differs { command, how: format!("it says {text:?} instead of {N} figures") }
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        alone: AloneArgs,
    }

    #[test]
    fn a_child_reads_what_its_parent_writes() {
        for task in [
            Task::Idle { of: Of::Jemalloc, len: 65_536, ttl_ms: 2_000, wait_ms: 3_000 },
            Task::Collect { alone_ms: 300 },
            Task::Replay { trace: replay::Which::Recorded, of: Of::Tripod },
        ] {
            let words = std::iter::once("alone".to_owned()).chain(task.words());
            assert_eq!(Cli::try_parse_from(words).expect("a good line").alone.task, task);
        }
    }
}
