//! Runs a process and measures it with all that it starts.
//!
//! The CPU time is what wait4(2) reports: that of the process and of its descendants, as far as
//! each was waited for by its parent. A tool that leaves children behind would look cheaper than
//! it is; none of the opponents does.
#![allow(unsafe_code, reason = "wait4, for the resource usage, is not offered by a safe crate")]

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::series::Measurement;

/// How a process ended, what it took and what it wrote.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) measurement: Measurement,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command` to its end; standard input is as the caller set it.
///
/// Output goes to files, so that no reader takes processor time from what is measured. What is not
/// UTF-8 is replaced.
///
/// # Errors
/// If there is no room for the output, or the process cannot be started.
pub(crate) fn measure(command: &mut Command) -> io::Result<Run> {
    let (mut out, mut err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdout(Stdio::from(out.try_clone()?));
    command.stderr(Stdio::from(err.try_clone()?));
    let begin = Instant::now();
    let child = command.spawn()?;
    let (status, cpu) = wait(child)?;
    let wall = begin.elapsed();
    let measurement = Measurement { wall, cpu };
    Ok(Run { status, measurement, stdout: text(&mut out)?, stderr: text(&mut err)? })
}

/// Waits for the child and tells its CPU time. Takes the child, as it can be reaped but once.
#[expect(clippy::needless_pass_by_value, reason = "no one may wait for the child again")]
fn wait(child: Child) -> io::Result<(ExitStatus, Duration)> {
    let pid = libc::pid_t::try_from(child.id()).expect("a process id fits its own type");
    let mut status = 0;
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are valid for writing for the length of the call.
        let reaped = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        if reaped == pid {
            let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
            return Ok((ExitStatus::from_raw(status), cpu));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).expect("time used is not negative");
    let micros = u64::try_from(time.tv_usec).expect("time used is not negative");
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

fn text(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Run {
        measure(Command::new("sh").args(["-c", script])).expect("a shell starts")
    }

    #[test]
    fn status_and_both_outputs_are_kept() {
        let run = shell("echo out; echo err >&2; exit 3");
        assert_eq!(run.status.code(), Some(3));
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(shell("kill -9 $$").status.signal(), Some(9));
    }

    #[test]
    fn the_cpu_time_of_grandchildren_counts() {
        // The shell's own account of its children is on the second line of `times`.
        let run = shell("sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; times");
        let children = run.stdout.lines().nth(1).expect("two lines");
        let reported: f64 = children.split_whitespace().map(seconds).sum();
        assert!(reported > 0.0, "{children}");
        assert!(run.measurement.cpu.as_secs_f64() >= reported, "{run:?}");
    }

    /// Of the form `1m2.345s`.
    fn seconds(text: &str) -> f64 {
        let (minutes, seconds) = text.trim_end_matches('s').split_once('m').expect("a time");
        minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let error = measure(&mut Command::new("no-such-program")).expect_err("it is missing");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
