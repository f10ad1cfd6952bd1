//! The binary `tripod`: runs commands in parallel under a memory budget.
//!
//! Logic lives below [`map`]; this file only reads the command line and turns results into exit
//! codes.

#![warn(clippy::print_stderr, reason = "it panics when standard error cannot be written")]

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod machine;
mod map;
mod metrics_server;
mod process;
mod units;

/// Runs commands in parallel under a memory budget.
#[derive(Debug, Parser)]
#[command(name = "tripod", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Map(map::args::MapArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("TRIPOD_LOG"))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match cli.command {
        Verb::Map(args) => map::main(args),
    }
}

/// Says `text` on standard error. May block; nobody could be told that it failed.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "tripod: {text}");
}
