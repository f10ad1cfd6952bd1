//! What the run writes: output, records, summary, progress, metrics.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use crate::harness::{Bench, Ears, records, stderr, stdout, wait};

#[test]
fn keep_order_prints_in_the_order_of_the_arguments() {
    let bench = Bench::new();
    // The first ends last: it waits until all others have said that they are done.
    let fifo = bench.fifo();
    let program = format!(
        "if [ {{}} = 0 ]; then head -n 5 0<>'{0}' > /dev/null; else echo x > '{0}'; fi; echo {{}}; \
         echo e{{}} >&2",
        fifo.display()
    );
    let arguments = ["-kq", "-j", "6", &program, ":::", "0", "1", "2", "3", "4", "5"];
    let output = bench.run(&arguments, b"");
    assert_eq!(stdout(&output), "0\n1\n2\n3\n4\n5\n");
    assert_eq!(stderr(&output), "e0\ne1\ne2\ne3\ne4\ne5\n");
}

#[test]
fn without_keep_order_a_result_is_printed_as_soon_as_it_is_there() {
    let bench = Bench::new();
    let fifo = bench.fifo();
    let program = format!("if [ {{}} = 0 ]; then cat '{}'; fi; echo {{}}", fifo.display());
    let mut child = bench
        .map(&["-q", "-j", "2", &program, ":::", "0", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    std::fs::write(fifo, "freed ").unwrap();
    lines.read_to_string(&mut line).unwrap();
    assert_eq!(line, "1\nfreed 0\n");
    assert!(wait(child).status.success());
}

#[test]
fn lines_of_different_commands_are_never_mixed() {
    let program = "i=0; while [ $i -lt 200 ]; do printf '%s' {} {} {}; echo; i=$((i+1)); done";
    let output = Bench::new().run(&["-q", "-j", "8", program, ":::", "a", "b", "c", "d"], b"");
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 800);
    assert!(text.lines().all(|line| matches!(line, "aaa" | "bbb" | "ccc" | "ddd")));
}

#[test]
fn output_far_beyond_what_is_held_in_memory_is_complete() {
    let program = "yes {} | head -c 20000000; yes {} | head -c 3000000 >&2";
    let output = Bench::new().run(&["-kq", "--mem", "8M", program, ":::", "ab", "cd"], b"");
    assert!(output.status.success());
    for (bytes, len) in [(&output.stdout, 20_000_000), (&output.stderr, 3_000_000)] {
        assert_eq!(bytes.len(), 2 * len);
        assert!(bytes[..len].chunks(3).all(|line| b"ab\n".starts_with(line)));
        assert!(bytes[len..].chunks(3).all(|line| b"cd\n".starts_with(line)));
    }
}

#[test]
fn a_failure_is_shown_at_once_and_again_in_the_summary() {
    let output = Bench::new().run(&["-k", "exit {}", ":::", "0", "3"], b"");
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    let shown: Vec<_> = text.lines().collect();
    assert_eq!(shown[0], "tripod: #2 failed (exit code 3): exit 3");
    assert!(shown[1].starts_with("tripod: 2 commands: 1 succeeded, 1 failed; "), "{text}");
    assert_eq!(shown[2], "  #2 failed (exit code 3): exit 3");
}

#[test]
fn retries_run_a_failed_command_again_and_say_how_often() {
    let bench = Bench::new();
    let program = "echo x >> tries-{}; [ $(wc -l < tries-{}) -ge {} ]";
    let output = bench.run(&["--json", "--retries", "2", program, ":::", "1", "3", "9"], b"");
    assert_eq!(output.status.code(), Some(1));
    let records = records(&output);
    let attempts = |argument: &str| {
        let record = records.iter().find(|record| record["argument"] == argument).unwrap();
        (record["attempts"].as_u64().unwrap(), record["outcome"].as_str().unwrap())
    };
    assert_eq!(attempts("1"), (1, "succeeded"));
    assert_eq!(attempts("3"), (3, "succeeded"));
    assert_eq!(attempts("9"), (3, "failed"));
    let summary = records.last().unwrap();
    assert_eq!(summary["retries"], 4);
    assert_eq!((&summary["succeeded"], &summary["failed"]), (&2.into(), &1.into()));
}

#[test]
fn a_command_that_takes_too_long_is_stopped_with_all_it_started() {
    let bench = Bench::new();
    let fifo = bench.fifo();
    let program =
        format!(": {{}}; exec 9>'{}'; echo up >&9; sleep 1000 | sleep 1000", fifo.display());
    let arguments = ["--json", "--timeout", "300ms", &program, ":::", "x"];
    let child =
        bench.map(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ears = Ears::open(&fifo);
    assert_eq!(ears.until_all_are_gone(), "up\n");
    let output = wait(child);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(records(&output)[0]["outcome"], "timed_out");
}

#[test]
fn a_command_that_ignores_the_polite_signal_is_killed() {
    let program = "trap '' TERM; : {}; while :; do sleep 1; done";
    let output = Bench::new().run(&["--timeout", "100ms", program, ":::", "x"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("timed out after"), "{}", stderr(&output));
}

#[test]
fn what_a_shell_runs_may_clean_up_when_the_time_is_over() {
    let bench = Bench::new();
    std::fs::write(
        bench.path().join("worker"),
        "trap 'sleep 0.1; echo bye; exit' TERM; sleep 9 & wait",
    )
    .unwrap();
    let output = bench.run(&["-q", "--timeout", "300ms", "sh worker {}; true", ":::", "x"], b"");
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), "bye\n".to_owned()));
}

#[test]
fn standard_error_that_cannot_be_written_stops_nothing() {
    let bench = Bench::new();
    for arguments in [&["false", ":::", "a", "b", "c"][..], &["-q", "false", ":::", "a", "b"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = bench.map(arguments).stdout(Stdio::piped()).stderr(full).spawn().unwrap();
        assert_eq!(wait(child).status.code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn results_that_cannot_be_written_are_a_failure() {
    let bench = Bench::new();
    for arguments in [&["--json", "true"][..], &["echo", ":::", "a"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = bench.map(arguments).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = wait(child);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("cannot write results: No space left"), "{output:?}");
    }
}

#[test]
fn a_run_without_a_folder_for_temporary_files_ends_with_an_error() {
    let bench = Bench::new();
    // The first needs the whole budget, which the held output of the others is in the way of. It
    // waits for all of that (but once, should it be stopped and run again), then grows, and keeps
    // what it has however late that is seen.
    let fifo = bench.fifo();
    let program = format!(
        "if [ {{}} = 1 ]; then [ -e ready ] || head -n 49 0<>'{0}' > /dev/null; : > ready; \
         {1} 61 1000; else head -c 60000 /dev/zero; echo x > '{0}'; fi",
        fifo.display(),
        crate::harness::hog().display()
    );
    let arguments = ["-k", "--mem", "64M", "-j", "2", "--task-mem", "8M", &program];
    let mut command = bench.map(&arguments);
    command.args([":::"]).args((1..=50).map(|number| number.to_string()));
    let child = command
        .env("TMPDIR", "/nonexistent")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = wait(child);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("cannot keep output in /nonexistent: "), "{text}");
}

#[test]
fn few_file_descriptors_slow_a_run_down_and_fail_nothing() {
    let bench = Bench::new();
    let tripod = env!("CARGO_BIN_EXE_tripod");
    let script = format!(
        "ulimit -n 48; seq 300 | '{tripod}' map -k -q -j 100 --mem 100M 'sleep 0.05; echo {{}}'"
    );
    let child = std::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .current_dir(bench.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = wait(child);
    assert!(output.status.success(), "{}", stderr(&output));
    let expected: String = (1..=300).map(|number| format!("{number}\n")).collect();
    assert!(stdout(&output) == expected, "{}", stdout(&output));
}

#[test]
fn fail_fast_starts_nothing_more() {
    let bench = Bench::new();
    let input: String = (0..1000).map(|i| format!("{i}\n")).collect();
    let arguments = ["--fail-fast", "--json", "-j", "2", "[ {} -lt 10 ]"];
    let output = bench.run(&arguments, input.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let records = records(&output);
    let summary = records.last().unwrap();
    let run = summary["commands"].as_u64().unwrap();
    assert!((11..=20).contains(&run), "{summary}");
    assert!(summary["not_run"].as_u64().unwrap() > 0, "{summary}");
}

#[test]
fn each_command_and_the_run_have_a_record() {
    let bench = Bench::new();
    let program = "printf '%s' {}; printf '\\377' >&2; kill -9 $$";
    let output = bench.run(&["--json", program, ":::", "a b"], b"");
    let records = records(&output);
    assert_eq!(records.len(), 2);
    let command = &records[0];
    assert_eq!(command["v"], 1);
    assert_eq!(command["argument"], "a b");
    assert_eq!(command["stdout"], "a b");
    assert_eq!(command["stderr_base64"], "/w==");
    assert_eq!((&command["exit_code"], &command["signal"]), (&serde_json::Value::Null, &9.into()));
    let summary = &records[1];
    assert_eq!((&summary["type"], &summary["exit_code"]), (&"summary".into(), &1.into()));
    assert_eq!(stderr(&output), "", "the records say it all");
}

#[test]
fn the_cpu_time_and_memory_of_a_command_are_measured() {
    let program = crate::harness::hog().display().to_string();
    let output = Bench::new().run(&["--json", &program, ":::", "64"], b"");
    let record = &records(&output)[0];
    assert_eq!(record["stdout"], "64\n");
    let peak = record["memory_peak_bytes"].as_u64().unwrap();
    assert!((64 << 20..96 << 20).contains(&peak), "{record}");
}

#[test]
fn a_background_process_ends_with_its_command() {
    let bench = Bench::new();
    let fifo = bench.fifo();
    let program = format!(
        "exec 9>'{}'; echo up >&9; sleep 1000 & setsid sleep 1000 & (setsid sleep 1000 &); echo on",
        fifo.display()
    );
    let child = bench.map(&["-q", &program, ":::", "x"]).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(Ears::open(&fifo).until_all_are_gone(), "up\n");
    let output = wait(child);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "on x\n".to_owned()));
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_run_quietly() {
    let bench = Bench::new();
    let mut child = bench
        .map(&["yes {} | head -c 200000", ":::", "a", "b", "c"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut byte = [0];
    child.stdout.take().unwrap().read_exact(&mut byte).unwrap();
    let output = wait(child);
    assert_eq!((output.status.code(), stderr(&output)), (Some(141), String::new()));
}

#[test]
fn metrics_are_served_during_the_run() {
    let bench = Bench::new();
    let fifo = bench.fifo();
    let program = format!("[ {{}} = 1 ] || cat '{}'", fifo.display());
    let mut child = bench
        .map(&["-j1", "--metrics-addr", "127.0.0.1:0", &program, ":::", "1", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("tripod: metrics at http://").expect(&line);
    let address = address.strip_suffix("/metrics").unwrap();
    // The second command holds the run until the page was read.
    let mut release = std::fs::File::options().write(true).open(&fifo).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    release.write_all(b"done").unwrap();
    drop(release);
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
    for line in [
        "tripod_map_attempts_total{outcome=\"succeeded\"} 1\n",
        "tripod_scheduler_running 1\n",
        "tripod_scheduler_tasks_submitted_total{priority=\"normal\"} 2\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    check_with_promtool(body);
    assert!(wait(child).status.success());
}

/// Debian's promtool must have nothing to say about the page.
fn check_with_promtool(page: &str) {
    let promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool: {error}");
            eprintln!("skipped: promtool is not installed (Debian package `prometheus`)");
            return;
        }
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = stdout(&output) + &stderr(&output);
    assert!(output.status.success() && said.is_empty(), "{said}{page}");
}

#[test]
fn progress_lines_are_for_files_and_a_bar_for_terminals() {
    let bench = Bench::new();
    let output = bench.run(&["true", ":::", "a"], b"");
    assert_eq!(stderr(&output).lines().count(), 1, "only the summary of a short run");
    // script(1) gives the command a terminal.
    let tripod = env!("CARGO_BIN_EXE_tripod");
    let inner = format!("'{tripod}' map 'sleep 0.3; echo out' ::: a b");
    let in_terminal = |color: &str| {
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &inner, "/dev/null"]).env("TERM", "xterm-256color");
        script.env_remove("NO_COLOR");
        if color == "none" {
            script.env("NO_COLOR", "1");
        }
        stdout(&script.stdin(Stdio::null()).output().unwrap())
    };
    let shown = in_terminal("auto");
    assert!(shown.contains("running, memory"), "{shown:?}");
    assert!(shown.contains("out a\r\n"), "{shown:?}");
    assert!(shown.contains("\u{1b}[32m"), "the bar is green: {shown:?}");
    assert!(!in_terminal("none").contains("\u{1b}[32m"), "NO_COLOR is respected");
}
