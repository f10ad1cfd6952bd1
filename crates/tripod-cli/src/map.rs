//! `tripod map`: runs a command once for each argument, in parallel under a memory budget.
//!
//! This file reads and checks what the user asked for; [`run`] does the work. Everything that can
//! be refused is refused here, before anything has started, with exit code 2.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use crate::process::guard::{self, Role};
use crate::units::Size;
use crate::{machine, process, say};
use args::MapArgs;
use input::Source;
use run::Plan;
use template::Template;

pub(crate) mod args;
mod capture;
mod command;
mod input;
mod notes;
mod printer;
mod progress;
mod report;
mod run;
mod telemetry;
mod template;
mod watch;

/// Exit codes; documented in the help, the guide and `docs/formats.md`.
const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// The smallest reservation: less than any process needs.
const RESERVATION_BYTES_MIN: u64 = 1 << 20;
/// The budget is this share of the available memory unless given: the rest is for the page cache
/// and for what other programs take meanwhile.
const DEFAULT_BUDGET_PERCENT: u64 = 80;

/// 1 / this of the budget is left to output that is held in memory and to what several commands
/// grow between two measurements.
const SPARE_FRACTION: u64 = 16;

/// How many commands run at once, and with how much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    jobs: NonZeroUsize,
    budget_bytes: u64,
    reservation_bytes: u64,
}

/// Why a run was refused before it began.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum UsageError {
    #[error(transparent)]
    Template(#[from] template::TemplateError),
    #[error("cannot read arguments from {path}: {error}; give -a a readable file")]
    ArgFile { path: String, error: io::Error },
    #[error("arguments are given both by `-a` and after `:::`; use one of them")]
    TwoSources,
    #[error(
        "--mem {} is less than the smallest reservation of {}; \
         a bare number counts bytes, write for example --mem 512M or --mem 2G",
        Size(*.budget_bytes), Size(RESERVATION_BYTES_MIN)
    )]
    BudgetTooSmall { budget_bytes: u64 },
    #[error(
        "--task-mem {} is less than the smallest reservation of {}; \
         a bare number counts bytes, write for example --task-mem 512M",
        Size(*.reservation_bytes), Size(RESERVATION_BYTES_MIN)
    )]
    ReservationTooSmall { reservation_bytes: u64 },
    #[error(
        "each command needs {}, budget {}; lower --task-mem or raise --mem",
        Size(*.needed_bytes), Size(*.budget_bytes)
    )]
    NeverFits { needed_bytes: u64, budget_bytes: u64 },
    #[error("cannot serve metrics on {address}: {error}; choose another address or port")]
    MetricsAddress { address: SocketAddr, error: io::Error },
    #[error("cannot tell how much memory is available; give a budget with --mem")]
    UnknownMemory,
}

/// Runs the verb and returns its exit code.
pub(crate) fn main(args: MapArgs) -> ExitCode {
    let plan = match prepare(args) {
        Ok(plan) => plan,
        Err(error) => {
            say(error);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if plan.source.is_terminal() {
        say("reading arguments from the terminal, one per line; end with Ctrl-D");
    }
    if plan.args.dry_run {
        return dry_run(&plan.template, plan.source);
    }
    match guard::split() {
        Ok(Role::Guard(code)) => code,
        Ok(Role::Engine(signals)) => {
            let code = run::main(plan, signals);
            process::tree::kill_all_descendants();
            ExitCode::from(code)
        }
        Err(error) => {
            say(format_args!("cannot start: {error}"));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn prepare(mut args: MapArgs) -> Result<Plan, UsageError> {
    let words = args.take_words();
    let template = Template::parse(&words.command)?;
    let limits = limits(&args)?;
    let source = match (words.given, words.arg_file) {
        (Some(_), Some(_)) => return Err(UsageError::TwoSources),
        (Some(given), None) => Source::Given(given),
        (None, file) => {
            let path = file.as_deref().map(|path| path.display().to_string());
            Source::open(file, words.null).map_err(|error| {
                let path = path.unwrap_or_else(|| "standard input".to_owned());
                UsageError::ArgFile { path, error }
            })?
        }
    };
    let metrics_listener = match args.metrics_addr {
        Some(address) if !args.dry_run => {
            let bound = TcpListener::bind(address);
            Some(bound.map_err(|error| UsageError::MetricsAddress { address, error })?)
        }
        _ => None,
    };
    Ok(Plan { args, template, source, limits, metrics_listener })
}

fn limits(args: &MapArgs) -> Result<Limits, UsageError> {
    let jobs = args.jobs.unwrap_or_else(machine::processors);
    let budget_bytes = match args.mem {
        Some(bytes) => bytes,
        None => {
            let available = machine::available_memory_bytes().ok_or(UsageError::UnknownMemory)?;
            available / 100 * DEFAULT_BUDGET_PERCENT
        }
    };
    if budget_bytes < RESERVATION_BYTES_MIN {
        return Err(UsageError::BudgetTooSmall { budget_bytes });
    }
    let reservation_bytes = match args.task_mem {
        Some(reservation_bytes) if reservation_bytes < RESERVATION_BYTES_MIN => {
            return Err(UsageError::ReservationTooSmall { reservation_bytes });
        }
        Some(needed_bytes) if needed_bytes > budget_bytes => {
            return Err(UsageError::NeverFits { needed_bytes, budget_bytes });
        }
        Some(reservation_bytes) => reservation_bytes,
        None => default_reservation(budget_bytes, jobs),
    };
    Ok(Limits { jobs, budget_bytes, reservation_bytes })
}

/// An equal share for each command, after a part for the output that is held in memory.
fn default_reservation(budget_bytes: u64, jobs: NonZeroUsize) -> u64 {
    let commands_bytes = budget_bytes - budget_bytes / SPARE_FRACTION;
    (commands_bytes / jobs.get() as u64).max(RESERVATION_BYTES_MIN)
}

/// Prints each command as a person would type it.
fn dry_run(template: &Template, source: Source) -> ExitCode {
    match print_commands(template, source) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the list has seen enough of it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn print_commands(template: &Template, source: Source) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut batches = source.start()?;
    let mut number = 0;
    while let Some(batch) = batches.blocking_recv() {
        for argument in batch? {
            number += 1;
            out.write_all(template.display(&argument, number).as_bytes())?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}
