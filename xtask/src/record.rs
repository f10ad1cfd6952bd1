//! `cargo xtask record SUBJECT`: runs a comparison and keeps what it printed, losses too.
//!
//! A record says on which machine, commit and compiler it was made, since a figure means nothing
//! without them. It is written whether or not the run held, with its exit code.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use crate::ci::cargo_program;
use crate::error::TaskError;

const FOLDER: &str = "crates/tripod-bench/record";

/// What surrounds a run; "unknown" where the machine does not tell.
struct Facts {
    date: String,
    cpu: String,
    cpus_count: String,
    kernel: String,
    commit: String,
    rustc: String,
}

/// Runs the comparison of `subject`, records it and passes its exit code on.
///
/// Builds first, so that the record holds the output of the run alone; a failed build leaves no
/// record.
///
/// # Errors
/// If `subject` cannot be a file's name, cargo cannot be run, or the record cannot be written.
pub(crate) fn run(root: &Path, subject: &str) -> Result<ExitCode, TaskError> {
    if !is_subject(subject) {
        let given = subject.to_owned();
        return Err(TaskError::Subject { given });
    }
    let facts = Facts::gather(root);
    let mut build = cargo(root, &["build", "--release", "-p", "tripod-bench"]);
    let built = build.status().map_err(|source| start_error(&build, source))?;
    if !built.success() {
        return Ok(ExitCode::from(exit_code(built)));
    }
    let arguments = ["run", "--quiet", "--release", "-p", "tripod-bench", "--", subject, "--check"];
    let (status, output) = run_and_keep(cargo(root, &arguments), io::stdout(), io::stderr())?;
    let code = exit_code(status);
    let output = without_machine_paths(&output, root, env::var("HOME").ok().as_deref());
    let path = write_new(root, &facts.date, subject, &page(&facts, subject, code, &output))?;
    let shown = path.strip_prefix(root).unwrap_or(&path).display();
    println!("record: exit code {code}, written to {shown}");
    Ok(ExitCode::from(code))
}

/// True if the name is safe as part of a file's name and cannot be taken for an option.
fn is_subject(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_program());
    command.args(arguments).current_dir(root).stdin(Stdio::null());
    command
}

fn start_error(command: &Command, source: io::Error) -> TaskError {
    let command = format!("{command:?}");
    TaskError::Start { command, source }
}

/// Runs `command`, shows its two streams line by line and keeps them in the order they came.
fn run_and_keep(
    mut command: Command,
    out: impl Write,
    err: impl Write + Send,
) -> Result<(ExitStatus, String), TaskError> {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|source| start_error(&command, source))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let kept = Mutex::new(Vec::new());
    let copied = thread::scope(|scope| {
        let errors = scope.spawn(|| stderr.map_or(Ok(()), |s| show(s, err, &kept)));
        let lines = stdout.map_or(Ok(()), |s| show(s, out, &kept));
        lines.and(errors.join().expect("copying lines does not panic"))
    });
    let status = child.wait();
    let status = copied.and(status).map_err(|source| start_error(&command, source))?;
    let kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((status, String::from_utf8_lossy(&kept).into_owned()))
}

fn show(from: impl Read, mut to: impl Write, kept: &Mutex<Vec<u8>>) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&line);
        to.write_all(&line)?;
        to.flush()?;
        line.clear();
    }
    Ok(())
}

/// The code a shell would report: 128 and the signal's number for a process that was stopped.
fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Panics and compilers name files by their place on this machine; a record must not.
fn without_machine_paths(output: &str, root: &Path, home: Option<&str>) -> String {
    let output = output.replace(&*root.to_string_lossy(), ".");
    match home {
        Some(home) if home.len() > 1 => output.replace(home, "~"),
        _ => output,
    }
}

fn page(facts: &Facts, subject: &str, code: u8, output: &str) -> String {
    let Facts { date, cpu, cpus_count, kernel, commit, rustc } = facts;
    let output = output.trim_end();
    format!(
        "# {subject}, {date}\n\n\
         | what | value |\n|---|---|\n\
         | date (UTC) | {date} |\n| CPU | {cpu} |\n| CPUs | {cpus_count} |\n\
         | kernel | {kernel} |\n| commit | {commit} |\n| compiler | {rustc} |\n\
         | command | `cargo run --release -p tripod-bench -- {subject} --check` |\n\
         | exit code | {code} |\n\n\
         ````text\n{output}\n````\n"
    )
}

/// Writes the page under the first name that is free: never over an earlier record.
fn write_new(root: &Path, date: &str, subject: &str, page: &str) -> Result<PathBuf, TaskError> {
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder)
        .map_err(|source| TaskError::Write { path: folder.clone(), source })?;
    let mut number = 1;
    loop {
        let path = folder.join(file_name(date, subject, number));
        match fs::File::create_new(&path).and_then(|mut file| file.write_all(page.as_bytes())) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(source) => return Err(TaskError::Write { path, source }),
        }
    }
}

fn file_name(date: &str, subject: &str, number: u32) -> String {
    match number {
        1 => format!("{date}-{subject}.md"),
        _ => format!("{date}-{subject}-{number}.md"),
    }
}

impl Facts {
    fn gather(root: &Path) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.expect("the clock stands after 1970").as_secs();
        let unknown = || "unknown".to_owned();
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            date: date(seconds / 86_400),
            cpu: cpu_model(&cpu_info).unwrap_or("unknown").to_owned(),
            cpus_count: thread::available_parallelism()
                .map_or_else(|_| unknown(), |n| n.to_string()),
            kernel: kernel.map_or_else(|_| unknown(), |text| format!("Linux {}", text.trim())),
            commit: commit(root).unwrap_or_else(unknown),
            rustc: answer(root, "rustc", &["--version"]).unwrap_or_else(unknown),
        }
    }
}

fn cpu_model(cpu_info: &str) -> Option<&str> {
    let line = cpu_info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim())
}

/// The short commit, marked if the tree differs from it; other records make no difference.
fn commit(root: &Path) -> Option<String> {
    let commit = answer(root, "git", &["rev-parse", "--short", "HEAD"])?;
    let but_records = format!(":(exclude){FOLDER}");
    let changes = answer(root, "git", &["status", "--porcelain", "--", ".", &but_records])?;
    let mark = if changes.is_empty() { "" } else { "+dirty" };
    Some(format!("{commit}{mark}"))
}

/// What a command prints, without surrounding space; none if it fails.
fn answer(root: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(root).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The day as `YYYY-MM-DD`, by the proleptic Gregorian calendar.
fn date(days_since_1970: u64) -> String {
    let mut days = days_since_1970;
    let mut year = 1970;
    while days >= days_in_year(year) {
        days -= days_in_year(year);
        year += 1;
    }
    let february = days_in_year(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let day = days + 1;
    format!("{year:04}-{month:02}-{day:02}")
}

fn days_in_year(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if is_leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates_across_leap_years_and_centuries() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (364, "1970-12-31"),
            (365, "1971-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_817, "2026-12-30"),
            (21_243, "2028-02-29"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn a_subject_is_a_plain_name() {
        for good in ["map", "pool-acquire", "p99"] {
            assert!(is_subject(good), "{good}");
        }
        for bad in ["", "--help", "a/b", "../a", "Map", "a b", "a-", "."] {
            assert!(!is_subject(bad), "{bad}");
        }
    }

    #[test]
    fn a_second_record_of_the_day_does_not_replace_the_first() {
        let root = env::temp_dir().join(format!("xtask-record-{}", std::process::id()));
        let write = |page| write_new(&root, "2026-01-02", "map", page).unwrap();
        let paths = [write("one"), write("two"), write("three")];
        let texts = paths.each_ref().map(|path| fs::read_to_string(path).unwrap());
        fs::remove_dir_all(&root).unwrap();
        let names = paths.each_ref().map(|path| path.file_name().unwrap().to_str().unwrap());
        assert_eq!(names, ["2026-01-02-map.md", "2026-01-02-map-2.md", "2026-01-02-map-3.md"]);
        assert_eq!(texts, ["one", "two", "three"]);
    }

    #[test]
    fn both_streams_and_the_exit_code_of_a_run_are_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo won; echo lost >&2; exit 3"]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (status, output) = run_and_keep(command, &mut out, &mut err).unwrap();
        assert_eq!(exit_code(status), 3);
        assert_eq!((out.as_slice(), err.as_slice()), (&b"won\n"[..], &b"lost\n"[..]));
        let mut lines: Vec<_> = output.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["lost", "won"]);
    }

    #[test]
    fn a_run_ended_by_a_signal_has_the_code_a_shell_gives() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -9 $$"]);
        let (status, _) = run_and_keep(command, io::sink(), io::sink()).unwrap();
        assert_eq!(exit_code(status), 137);
    }

    #[test]
    fn a_page_names_all_facts_and_no_machine_path() {
        let facts = Facts {
            date: "2026-01-02".into(),
            cpu: "Fast 9000".into(),
            cpus_count: "2".into(),
            kernel: "Linux 6.1".into(),
            commit: "abc1234+dirty".into(),
            rustc: "rustc 1.95.0".into(),
        };
        let output = "lost at /home/me/tripod/src/a.rs\nin /home/me/.cargo/b.rs\n";
        let output = without_machine_paths(output, Path::new("/home/me/tripod"), Some("/home/me"));
        let page = page(&facts, "map", 1, &output);
        for part in ["2026-01-02", "Fast 9000", "| 2 |", "Linux 6.1", "abc1234+dirty", "1.95.0"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.contains("| exit code | 1 |"));
        assert!(page.contains("lost at ./src/a.rs\nin ~/.cargo/b.rs\n````"));
    }

    #[test]
    fn the_cpu_model_is_read_where_there_is_one() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Fast 9000\n"), Some("Fast 9000"));
        assert_eq!(cpu_model("processor\t: 0\nBogoMIPS\t: 50\n"), None);
    }
}
