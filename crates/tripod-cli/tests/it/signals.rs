//! However a run ends, no process is left behind.
//!
//! Each command opens a named pipe and holds it for as long as any of its processes lives, so the
//! end of that pipe is the moment when the last one is gone: nothing to poll, nothing to sleep for.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};

use crate::harness::{Bench, Ears, records, stderr, wait, within_deadline};

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
    start_with(&[])
}

fn start_with(options: &[&str]) -> Started {
    let bench = Bench::new();
    let fifo = bench.fifo();
    let program = format!(": {{}}; exec 9>'{}'; {TREE} & echo up >&9; wait", fifo.display());
    let fixed = ["-j", "2", "--progress", "none", &program, ":::", "1", "2", "3", "4"];
    let child = bench
        .map(&[options, &fixed].concat())
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

/// Waits until the run says that it was interrupted, and is waiting for `running` commands.
fn until_interrupted(child: &mut Child, running: usize) -> BufReader<ChildStderr> {
    let errors = child.stderr.take().expect("it is piped");
    within_deadline(move || {
        let mut errors = BufReader::new(errors);
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("interrupted; waiting for {running} running")), "{line}");
        errors
    })
}

#[test]
fn ctrl_c_twice_kills_everything() {
    let Started { mut child, ears, _bench } = start();
    send("-INT", child.id());
    // Two signals that are pending at once are one: the second only when the first was heard.
    let mut errors = until_interrupted(&mut child, 2);
    send("-INT", child.id());
    assert_eq!(ears.until_all_are_gone(), "");
    let output = wait(child);
    let mut said = String::new();
    errors.read_to_string(&mut said).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
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
    // Only then may its command end; its errors are read no more, but stay open.
    let _errors = until_interrupted(&mut child, 1);
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

#[test]
fn records_are_complete_when_the_run_is_terminated() {
    let Started { child, ears, _bench } = start_with(&["--json"]);
    send("-TERM", child.id());
    ears.until_all_are_gone();
    let output = wait(child);
    let records = records(&output);
    assert_eq!(records.len(), 3, "{records:?}");
    assert!(records[..2].iter().all(|record| record["outcome"] == "killed"), "{records:?}");
    let summary = &records[2];
    assert_eq!((&summary["not_run"], &summary["exit_code"]), (&2.into(), &143.into()));
}

/// The state letter of proc_pid_stat(5).
fn state_of(pid: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().trim_start()[..1].to_owned()
}

#[test]
fn ctrl_z_suspends_the_commands_and_fg_lets_them_go_on() {
    let bench = Bench::new();
    let fifo = bench.fifo();
    let program = format!(": {{}}; exec 9>'{}'; echo $$ >&9; exec sleep 1000", fifo.display());
    let child = bench
        .map(&["--progress", "none", &program, ":::", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (ears, pids) = Ears::open(&fifo).lines(1);
    let pid = pids[0].clone();
    let until = |wanted: &'static str| {
        let pid = pid.clone();
        within_deadline(move || while state_of(&pid) != wanted {});
    };
    until("S");
    send("-TSTP", child.id());
    until("T");
    send("-CONT", child.id());
    until("S");
    send("-TERM", child.id());
    ears.until_all_are_gone();
    assert_eq!(wait(child).status.code(), Some(143));
}

#[test]
fn a_leftover_without_its_environment_ends_when_its_command_has() {
    let bench = Bench::new();
    let fifo = bench.fifo();
    let program = format!(
        ": {{}}; exec 9>'{}'; echo up >&9; setsid env -i sleep 1000 > /dev/null 2>&1 & sleep 0.3",
        fifo.display()
    );
    // The second command outlives the leftover of the first.
    let program = format!("if [ {{}} = 2 ]; then cat > /dev/null < keep; else {program}; fi");
    let keep = bench.path().join("keep");
    assert!(std::process::Command::new("mkfifo").arg(&keep).status().unwrap().success());
    let child = bench
        .map(&["-j", "1", "-q", "--progress", "none", &program, ":::", "1", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ears = Ears::open(&fifo);
    assert_eq!(ears.until_all_are_gone(), "up\n");
    std::fs::write(&keep, "done").unwrap();
    assert!(wait(child).status.success());
}

#[test]
fn it_works_where_the_end_of_children_is_ignored() {
    // As when started by a program that ignores SIGCHLD and executes tripod.
    let script = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); \
                  os.execv(sys.argv[1], sys.argv[1:])";
    let Ok(python) = std::process::Command::new("python3")
        .args(["-c", script, env!("CARGO_BIN_EXE_tripod"), "map", "-kq", "echo", ":::", "a", "b"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
    else {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing");
        eprintln!("skipped: python3 is not installed");
        return;
    };
    assert_eq!(wait(python).stdout, b"a\nb\n");
}
