//! However a run ends, no process is left behind.
//!
//! Each command opens a named pipe and holds it for as long as any of its processes lives, so the
//! end of that pipe is the moment when the last one is gone: nothing to poll, nothing to sleep for.

use std::process::{Child, Stdio};

use crate::harness::{Bench, Ears, stderr, wait};

/// Processes of every kind below a command: in its pipeline, in the background, in a session of
/// their own, orphaned.
const TREE: &str =
    "sleep 1000 | sleep 1000 & setsid sleep 1000 & (setsid sleep 1000 &); sleep 1000";

struct Started {
    child: Child,
    ears: Ears,
    _bench: Bench,
}

/// Starts two commands with a tree each, and waits until both are up.
fn start() -> Started {
    let bench = Bench::new();
    let fifo = bench.fifo();
    let program = format!(": {{}}; exec 9>'{}'; {TREE} & echo up >&9; wait", fifo.display());
    let child = bench
        .map(&["-j", "2", "--progress", "none", &program, ":::", "1", "2", "3", "4"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (ears, lines) = Ears::open(&fifo).lines(2);
    assert_eq!(lines, ["up", "up"]);
    Started { child, ears, _bench: bench }
}

fn send(signal: &str, pid: u32) {
    let killed = std::process::Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}

/// The process that does the work, below the one that was started.
fn engine_of(guard: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{guard}/task/{guard}/children")).unwrap();
    children.split_whitespace().next().expect("it has a child").parse().unwrap()
}

#[test]
fn ctrl_c_twice_kills_everything() {
    let Started { child, ears, _bench } = start();
    send("-INT", child.id());
    send("-INT", child.id());
    // Two signals that are pending at once are one; the third makes it two at least.
    send("-INT", child.id());
    assert_eq!(ears.until_all_are_gone(), "");
    let output = wait(child);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
}

#[test]
fn ctrl_c_once_lets_the_running_finish_and_starts_nothing_more() {
    let bench = Bench::new();
    let fifo = bench.fifo();
    let release = bench.path().join("release");
    assert!(std::process::Command::new("mkfifo").arg(&release).status().unwrap().success());
    let program = format!(
        "exec 9>'{}'; echo up >&9; cat '{}' > /dev/null; echo finished {{}}",
        fifo.display(),
        release.display()
    );
    let mut child = bench
        .map(&["-j", "1", "--progress", "none", &program, ":::", "1", "2", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (ears, _) = Ears::open(&fifo).lines(1);
    send("-INT", child.id());
    // The run says that it was interrupted; only then may its command end.
    let mut errors = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut errors, &mut line).unwrap();
    assert!(line.contains("interrupted; waiting for 1 running"), "{line}");
    std::fs::write(&release, "go").unwrap();
    assert_eq!(ears.until_all_are_gone(), "", "the second command was never started");
    let output = wait(child);
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(output.stdout, b"finished 1\n");
}

#[test]
fn a_termination_request_leaves_nothing() {
    for (signal, code) in [("-TERM", 143), ("-HUP", 129), ("-QUIT", 131)] {
        let Started { child, ears, _bench } = start();
        send(signal, child.id());
        assert_eq!(ears.until_all_are_gone(), "");
        assert_eq!(wait(child).status.code(), Some(code), "{signal}");
    }
}

#[test]
fn kill_9_of_the_run_leaves_nothing() {
    let Started { child, ears, _bench } = start();
    send("-KILL", child.id());
    assert_eq!(ears.until_all_are_gone(), "");
    assert!(!wait(child).status.success());
}

#[test]
fn kill_9_of_the_process_that_does_the_work_leaves_nothing() {
    let Started { child, ears, _bench } = start();
    send("-KILL", engine_of(child.id()));
    assert_eq!(ears.until_all_are_gone(), "");
    let output = wait(child);
    assert_eq!(output.status.code(), Some(137));
    assert!(stderr(&output).contains("killed by signal 9"), "{}", stderr(&output));
}
