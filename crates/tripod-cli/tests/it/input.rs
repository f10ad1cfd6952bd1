//! Where arguments come from.

use std::fs;

use crate::harness::{Bench, stderr, stdout};

#[test]
fn arguments_come_from_standard_input_a_file_or_the_command_line() {
    let bench = Bench::new();
    fs::write(bench.path().join("list"), "a\nb c\n").unwrap();
    for (arguments, input) in [
        (&["-kq", "echo", "-a", "list"][..], "ignored as part of the command"),
        (&["-kq", "-a", "list", "echo"], ""),
        (&["-kq", "echo"], "a\nb c\n"),
        (&["-kq", "-0", "echo"], "a\0b c"),
        (&["-kq", "echo", ":::", "a", "b c"], "not read"),
    ] {
        let output = bench.run(arguments, input.as_bytes());
        let expected = match arguments.contains(&"-a") && arguments[1] == "echo" {
            true => "-a list ignored as part of the command\n",
            false => "a\nb c\n",
        };
        assert_eq!(stdout(&output), expected, "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn the_number_and_the_parts_of_a_path_are_filled_in() {
    let bench = Bench::new();
    let output = bench.run(&["-kq", "echo {#} {} {.} {/} {//}", ":::", "d/a.txt", "b.tar.gz"], b"");
    assert_eq!(stdout(&output), "1 d/a.txt d/a a.txt d\n2 b.tar.gz b.tar b.tar.gz .\n");
}

#[test]
fn no_arguments_are_no_commands() {
    let output = Bench::new().run(&["echo"], b"");
    assert!(output.status.success());
    assert!(stderr(&output).contains("0 commands: 0 succeeded"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
}

#[test]
fn ten_thousand_arguments_each_run_once() {
    let input: String = (0..10_000).map(|i| format!("{i}\n")).collect();
    let output = Bench::new().run(&["-k", "-j", "4", "echo"], input.as_bytes());
    // Not assert_eq: nobody wants to read 10,000 numbers twice.
    assert!(stdout(&output) == input, "{}", stderr(&output));
}
