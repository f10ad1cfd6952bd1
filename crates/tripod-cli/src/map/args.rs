//! The command line of `tripod map`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::units::{parse_duration, parse_size};

const AFTER_HELP: &str = "\
Placeholders in COMMAND (without one, the argument is appended):
  {}    the argument              {/}   its last path component
  {.}   without its extension     {//}  its directory
  {#}   the number of the command, from 1

One word is a program for `sh -c`; several words are a program and its arguments, passed on as
they are. An argument is always passed as data: no file name can break out of its place.

Exit codes: 0 all commands succeeded, 1 some failed, 2 bad usage, 130 interrupted
(129, 141, 143: ended by SIGHUP, by a closed output, by SIGTERM).

Examples:
  find . -name '*.log' | tripod map --mem 1G 'xz -9 {}'
  tripod map -k 'wc -l {} | sort' ::: *.txt
  find . -print0 | tripod map -0 --task-mem 500M --timeout 90s convert {} {.}.png";

/// Runs COMMAND once for each argument, as many at once as processors and memory allow.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct MapArgs {
    /// The command, and after `:::` its arguments (else one per line of standard input)
    #[arg(
        value_name = "COMMAND [::: ARG]",
        required = true,
        num_args = 1..,
        trailing_var_arg = true
    )]
    words: Vec<OsString>,

    /// Read the arguments from FILE instead of standard input
    #[arg(short = 'a', long, value_name = "FILE")]
    arg_file: Option<PathBuf>,

    /// Arguments are separated by NUL, as `find -print0` writes them, not by newline
    #[arg(short = '0', long)]
    null: bool,

    /// Memory for all commands together, such as 2G or 512M [default: 80% of what is available]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) mem: Option<u64>,

    /// Memory set aside for each command; one that needs more gets it while there is some
    /// [default: an equal share for each of --jobs]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) task_mem: Option<u64>,

    /// Commands to run at once, at most [default: the number of processors]
    #[arg(short = 'j', long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// Stop a command that takes longer, such as 90s or 5m (SIGTERM, SIGKILL a second later)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,

    /// Run a command that failed again, up to N times
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,

    /// Priority of the commands in the scheduler
    #[arg(long, value_name = "LEVEL", default_value = "normal", value_parser = parse_priority)]
    pub(crate) priority: tripod::Priority,

    /// Write the output of the commands in the order of their arguments
    #[arg(short = 'k', long)]
    pub(crate) keep_order: bool,

    /// Print the commands instead of running them
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// After the first failure start nothing more; let what runs finish
    #[arg(long)]
    pub(crate) fail_fast: bool,

    /// Print one JSON object per finished command and a last one for the run
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) json: bool,

    /// How to show progress on standard error
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) progress: ProgressMode,

    /// Print no summary; failures are still shown
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,

    /// Serve metrics for Prometheus at http://ADDR/metrics during the run
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_addr: Option<SocketAddr>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A bar on a terminal, else lines
    Auto,
    /// A bar with what is running below it
    Bar,
    /// A line every 10 seconds
    Lines,
    /// Nothing
    None,
}

/// Where the words of the command line end and the arguments begin.
const SEPARATOR: &str = ":::";

/// The words of COMMAND, and the source of its arguments.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) command: Vec<OsString>,
    pub(crate) given: Option<Vec<OsString>>,
    pub(crate) arg_file: Option<PathBuf>,
    pub(crate) null: bool,
}

impl MapArgs {
    /// Takes the command apart from its arguments.
    pub(crate) fn take_words(&mut self) -> Words {
        let mut command = std::mem::take(&mut self.words);
        let separator = command.iter().position(|word| word == SEPARATOR);
        let given = separator.map(|position| {
            let given = command.split_off(position + 1);
            command.truncate(position);
            given
        });
        Words { command, given, arg_file: self.arg_file.take(), null: self.null }
    }
}

fn parse_priority(text: &str) -> Result<tripod::Priority, String> {
    text.parse().map_err(|error| format!("{error}"))
}
