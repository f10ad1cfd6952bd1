//! The binary `tripod`: runs commands in parallel under a memory budget.
//!
//! Logic lives below [`map`]; this file only reads the command line and turns results into exit
//! codes.

use std::io::IsTerminal;
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
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match cli.command {
        Verb::Map(args) => map::main(args),
    }
}
