//! Subject `map`: `tripod map` against `xargs -P` and GNU parallel.
//!
//! Two workloads. A thousandfold `true` shows what a tool costs per command: wall and CPU time of
//! the whole run, start-up included, divided by the number of commands. Nothing is subtracted,
//! since starting the process is what a tool is for. Compressing files shows whether a tool slows
//! real work down.
//!
//! All tools get the same list on standard input and as many jobs as there are processors, and
//! what they write is compared, so that nobody wins by doing less.

use std::fs;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use tempfile::NamedTempFile;

use crate::bar::Bar;
use crate::error::BenchError;
use crate::machine;
use crate::process::Run;
use crate::report::{self, Row, note, thousands};
use crate::series::{Measurement, Series, alternate};
use files::Files;
use tools::{Contender, Tools};

mod files;
mod tools;

/// Overhead per command: the most that `tripod map` may cost, in costs of `xargs -P`.
const OVERHEAD_OF_XARGS_MAX: f64 = 1.5;
/// Overhead per command: the most that `tripod map` may cost, in costs of GNU parallel.
const OVERHEAD_OF_PARALLEL_MAX: f64 = 1.0 / 3.0;
/// Real work: the most wall time that `tripod map` may take, in times of `xargs -P`.
const WORK_OF_XARGS_MAX: f64 = 1.05;

/// Compares `tripod map` with `xargs -P` and GNU parallel.
#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    /// Rounds of each workload [default: 7 of `true`, 3 of `xz`]
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<NonZeroU32>,

    /// Fewer rounds with fewer commands, for trying out: no basis for a claim
    #[arg(long)]
    pub(crate) quick: bool,

    /// The binary to measure [default: that of the release profile, built first]
    #[arg(long, value_name = "PATH")]
    pub(crate) tripod: Option<PathBuf>,
}

/// How much is measured.
#[derive(Debug, PartialEq, Eq)]
struct Amount {
    trues: u32,
    true_rounds: u32,
    files: usize,
    file_rounds: u32,
}

impl Amount {
    fn of(args: &MapArgs) -> Self {
        let (trues, true_rounds, files, file_rounds) =
            if args.quick { (300, 3, 20, 1) } else { (2_000, 7, 200, 3) };
        let given = args.rounds.map(u32::from);
        Self {
            trues,
            true_rounds: given.unwrap_or(true_rounds),
            files,
            file_rounds: given.unwrap_or(file_rounds),
        }
    }
}

/// Measures both workloads, writes a table of each and returns the bars.
///
/// # Errors
/// If a tool is missing, a run fails, or the tools did not all do the same work.
pub(crate) fn run(args: &MapArgs, out: &mut impl Write) -> Result<Vec<Bar>, BenchError> {
    let amount = Amount::of(args);
    let tools = Tools::find(args.tripod.clone())?;
    let print = |out: &mut dyn Write, text: String| {
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(BenchError::Output)
    };
    let machine = machine::describe();
    let (versions, jobs) = (tools.versions(), tools.jobs());
    let caution = if args.quick { "caution   a quick run, no basis for a claim\n" } else { "" };
    print(out, format!("{machine}tools     {versions}\njobs      {jobs} at once\n{caution}\n"))?;
    let (text, mut bars) = overhead(&tools, &amount)?;
    print(out, text)?;
    let (text, work_bars) = work(&tools, &amount)?;
    print(out, text)?;
    bars.extend(work_bars);
    Ok(bars)
}

/// Workload 1: what each tool costs per command.
fn overhead(tools: &Tools, amount: &Amount) -> Result<(String, Vec<Bar>), BenchError> {
    let numbers: Vec<String> = (1..=amount.trues).map(|number| number.to_string()).collect();
    let input = list(&numbers)?;
    for echo in tools.each_argument("echo") {
        note(&format!("{}: does it run every command?", echo.name));
        check_lines(&echo, &echo.run(input.path())?, &numbers)?;
    }
    let contenders = tools.each_argument("true");
    let silent = |contender: &Contender, run: &Run| check_lines(contender, run, &[]);
    measure(&contenders, &input, 1, silent)?;
    let taken = measure(&contenders, &input, amount.true_rounds, silent)?;
    let per_command = |seconds: f64| seconds * 1e3 / f64::from(amount.trues);
    let rows = rows(&contenders, &taken, per_command);
    let text = format!(
        "1. {} x `true`: ms per command, median of {}\n{}\n{}   \
         The time of a whole run divided by its commands; nothing is subtracted. CPU time is\n   \
         user and system time of the tool and its commands. The order changes each round,\n   \
         after one that is not counted; before it, each tool proved with `echo` that it runs\n   \
         every command. All shells are /bin/sh, that of parallel too (by PARALLEL_SHELL).\n\n",
        thousands(amount.trues.into()),
        amount.true_rounds,
        report::comparison(&rows, 3),
        command_lines(&contenders),
    );
    Ok((text, overhead_bars(&rows)))
}

/// Workload 2: whether a tool slows real work down.
fn work(tools: &Tools, amount: &Amount) -> Result<(String, Vec<Bar>), BenchError> {
    let files = Files::find(amount.files)?;
    let input = list(&files.paths)?;
    note("reading the files once");
    files.read_all()?;
    let contenders = tools.compress();
    let mut expected: Option<Vec<String>> = None;
    let taken = measure(&contenders, &input, amount.file_rounds, |contender, run| {
        let sizes = sizes(contender, run, files.paths.len())?;
        check_lines(contender, run, expected.get_or_insert(sizes))
    })?;
    let rows = rows(&contenders, &taken, |seconds| seconds);
    let text = format!(
        "2. `xz -9` of {} files, {} bytes: s per run, median of {}\n\
         {}\n{}   The first files of {}\n   in the order of their names, read once before. \
         All tools reported the same sizes.\n   tripod also held its default memory budget.\n\n",
        files.paths.len(),
        thousands(files.bytes),
        amount.file_rounds,
        report::comparison(&rows, 2),
        command_lines(&contenders),
        files::WHERE,
    );
    Ok((text, work_bars(&rows)))
}

/// Writes the arguments to a file, one on each line.
fn list(arguments: &[String]) -> Result<NamedTempFile, BenchError> {
    let file = NamedTempFile::new().map_err(BenchError::prepare("make a list of arguments"))?;
    fs::write(file.path(), arguments.join("\n") + "\n")
        .map_err(BenchError::prepare("write the list of arguments"))?;
    Ok(file)
}

fn measure(
    contenders: &[Contender],
    input: &NamedTempFile,
    rounds: u32,
    mut check: impl FnMut(&Contender, &Run) -> Result<(), BenchError>,
) -> Result<Vec<Vec<Measurement>>, BenchError> {
    alternate(contenders.len(), rounds, |index| {
        let contender = &contenders[index];
        let run = contender.run(input.path())?;
        check(contender, &run)?;
        note(&format!("{}: {:.2?}", contender.name, run.measurement.wall));
        Ok(run.measurement)
    })
}

/// Sorted, as the tools write them in the order in which the commands end.
fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// Holds if the run wrote the expected lines, in any order.
fn check_lines(contender: &Contender, run: &Run, expected: &[String]) -> Result<(), BenchError> {
    let written = sorted_lines(&run.stdout);
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    if written == expected {
        return Ok(());
    }
    let other = written.iter().find(|line| expected.binary_search(line).is_err());
    let how = match other {
        Some(line) => format!("it wrote {line:?}, which no other tool did"),
        None => format!("it wrote {} lines, not {}", written.len(), expected.len()),
    };
    Err(contender.differs(how))
}

/// The sorted sizes that a run wrote: one for each file, none of them 0, as after a failed `xz`.
fn sizes(contender: &Contender, run: &Run, count: usize) -> Result<Vec<String>, BenchError> {
    let lines = sorted_lines(&run.stdout);
    let is_size = |line: &&String| line.trim().parse().is_ok_and(|bytes: u64| bytes > 0);
    let sizes = lines.iter().filter(is_size).count();
    if sizes != count || lines.len() != count {
        let how = format!("it wrote {sizes} sizes on {} lines for {count} files", lines.len());
        return Err(contender.differs(how));
    }
    Ok(lines)
}

fn rows(
    contenders: &[Contender],
    taken: &[Vec<Measurement>],
    of_seconds: impl Fn(f64) -> f64,
) -> Vec<Row> {
    let rows = contenders.iter().zip(taken).map(|(contender, taken)| Row {
        name: contender.name.to_owned(),
        wall: Series::new(taken.iter().map(|run| of_seconds(run.wall.as_secs_f64()))),
        cpu: Series::new(taken.iter().map(|run| of_seconds(run.cpu.as_secs_f64()))),
    });
    rows.collect()
}

fn command_lines(contenders: &[Contender]) -> String {
    let width = contenders.iter().map(|contender| contender.name.len()).max().unwrap_or(0);
    let lines = contenders
        .iter()
        .map(|contender| format!("   {:<width$}  {}\n", contender.name, contender.command_line()));
    lines.collect()
}

fn overhead_bars(rows: &[Row]) -> Vec<Bar> {
    let limits =
        [(tools::XARGS, OVERHEAD_OF_XARGS_MAX), (tools::PARALLEL, OVERHEAD_OF_PARALLEL_MAX)];
    let of_tripod = |figure: fn(&Row) -> &Series, other: &str| {
        median(rows, tools::TRIPOD, figure) / median(rows, other, figure)
    };
    let mut bars = Vec::new();
    for (other, limit) in limits {
        let what = |kind| format!("{kind} per command, tripod / {other}");
        bars.push(Bar::at_most(what("wall"), of_tripod(|row| &row.wall, other), limit));
        bars.push(Bar::at_most(what("CPU"), of_tripod(|row| &row.cpu, other), limit));
    }
    bars
}

fn work_bars(rows: &[Row]) -> Vec<Bar> {
    let wall = |name| median(rows, name, |row| &row.wall);
    let ratio = wall(tools::TRIPOD) / wall(tools::XARGS);
    vec![Bar::at_most("wall of real work, tripod / xargs", ratio, WORK_OF_XARGS_MAX)]
}

fn median(rows: &[Row], name: &str, figure: fn(&Row) -> &Series) -> f64 {
    let row = rows.iter().find(|row| row.name == name);
    figure(row.expect("each bar compares tools that were measured")).median()
}

#[cfg(test)]
mod tests;
