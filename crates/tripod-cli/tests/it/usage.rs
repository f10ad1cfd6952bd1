//! Bad input gets a clear error: what, where, and what to do.

use std::fs;

use crate::harness::{Bench, stderr, stdout};

fn check_refused(arguments: &[&str], parts: &[&str]) {
    let bench = Bench::new();
    fs::create_dir(bench.path().join("folder")).unwrap();
    let output = bench.run(arguments, b"input\n");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    assert_eq!(stdout(&output), "", "{arguments:?}");
    for part in parts {
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_missing_command_is_refused_with_an_example() {
    check_refused(&[], &["COMMAND"]);
    check_refused(&[":::", "a"], &["no COMMAND given", "tripod map 'gzip -9 {}'"]);
    check_refused(&["", ":::", "a"], &["no COMMAND given"]);
}

#[test]
fn an_unreadable_list_of_arguments_is_refused_by_name() {
    check_refused(&["-a", "missing", "echo"], &["missing", "No such file", "readable"]);
    check_refused(&["-a", "folder", "echo"], &["folder", "is a directory"]);
    check_refused(&["-a", "x", "echo", ":::", "b"], &["both by `-a` and after `:::`"]);
}

#[test]
fn impossible_memory_is_refused_at_once() {
    check_refused(&["--mem", "10", "echo"], &["10 B", "smallest reservation of 1 MiB", "512M"]);
    check_refused(&["--task-mem", "10", "echo"], &["--task-mem 10 B", "smallest reservation"]);
    check_refused(
        &["--mem", "2G", "--task-mem", "3G", "echo"],
        &["needs 3 GiB, budget 2 GiB", "lower --task-mem or raise --mem"],
    );
    check_refused(&["--mem", "lots", "echo"], &["--mem", "does not start with a number"]);
}

#[test]
fn nonsense_numbers_are_refused() {
    check_refused(&["--jobs", "0", "echo"], &["--jobs"]);
    check_refused(&["--timeout", "0", "echo"], &["longer than zero"]);
    check_refused(&["--timeout", "soon", "echo"], &["90s"]);
    check_refused(&["--retries", "many", "echo"], &["--retries"]);
    check_refused(&["--priority", "urgent", "echo"], &["emergency"]);
    check_refused(&["--no-such-option", "echo"], &["--no-such-option"]);
}

#[test]
fn a_placeholder_in_foreign_program_text_is_refused_with_the_remedy() {
    check_refused(&["bash -c 'rm {}'", ":::", "a"], &["program text of `bash`", "\"$1\""]);
}

#[test]
fn an_address_in_use_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check_refused(&["--metrics-addr", &address, "echo"], &["cannot serve metrics on", &address]);
}

#[test]
fn an_argument_that_no_program_can_take_fails_alone() {
    let bench = Bench::new();
    let long = "x".repeat(3 << 20);
    let input = format!("good\nbad\0nul\n{long}\n");
    let output = bench.run(&["-k", "printf '%.9s\\n' {}"], input.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "good\n");
    let text = stderr(&output);
    assert!(text.contains("#2 failed (the argument contains a NUL byte"), "{text:.300}");
    assert!(text.contains("#3 failed (the command line is longer than the system allows"));
    assert!(text.len() < 10_000, "a failure is not 3 MiB long");
}

#[test]
fn a_command_that_does_not_exist_is_a_failure_with_its_code() {
    let output = Bench::new().run(&["no-such-program", ":::", "a"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("exit code 127"), "{}", stderr(&output));
    assert!(stderr(&output).contains("not found"), "{}", stderr(&output));
}

#[test]
fn help_names_the_exit_codes_and_placeholders() {
    let output = Bench::new().run(&["--help"], b"");
    assert!(output.status.success());
    for part in ["{//}", "130 interrupted", "--task-mem", "[default: 80%"] {
        assert!(stdout(&output).contains(part), "{part}");
    }
}
