//! No file name can break out of its place in the command.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::harness::{Bench, stderr};

const NASTY: [&[u8]; 20] = [
    b"plain",
    b"two words",
    b" leading",
    b"trailing ",
    b"it's",
    b"double\"quote",
    b"$(touch pwned)",
    b"`touch pwned`",
    b"; touch pwned #",
    b"&& touch pwned",
    b"| touch pwned",
    b"new\nline",
    b"-rf",
    b"--help",
    b"-n",
    b"*",
    b"{}",
    b"back\\slash",
    b"\xff\xfe invalid \x80",
    "um\u{301}laut \u{1f980}".as_bytes(),
];

fn make_files(folder: &Path) -> BTreeSet<Vec<u8>> {
    for name in NASTY {
        fs::write(folder.join(OsStr::from_bytes(name)), name).unwrap();
    }
    NASTY.iter().map(|name| name.to_vec()).collect()
}

fn files_in(folder: &Path) -> BTreeSet<Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_vec()).collect()
}

/// Runs `program` over every nasty file by `-0` and checks that each run saw its own file alone.
fn check_reads_each(program: &[&str]) {
    let bench = Bench::new();
    let names = make_files(bench.path());
    let arguments = [&["-0", "--progress", "none"], program].concat();
    let output = bench.run(&arguments, &NASTY.join(&0));
    assert!(output.status.success(), "{program:?}: {}", stderr(&output));
    let read: BTreeSet<Vec<u8>> =
        output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let mut expected = names.clone();
    expected.insert(Vec::new());
    assert_eq!(read, expected, "{program:?}");
    assert_eq!(files_in(bench.path()), names, "{program:?}: nothing else was made or removed");
}

#[test]
fn every_nasty_name_reaches_the_command_whole() {
    check_reads_each(&["cat {}; printf '\\0'"]);
    check_reads_each(&["cat \"{}\"; printf '\\0'"]);
    check_reads_each(&["cat '{}'; printf '\\0'"]);
    check_reads_each(&["cat < {} | tee /dev/null; printf '\\0'"]);
    check_reads_each(&["x=\"$(cat {})\"; printf '%s\\0' \"$x\""]);
    check_reads_each(&["for f in {}; do cat \"$f\"; done; printf '\\0'"]);
}

#[test]
fn several_words_take_nasty_names_too() {
    check_reads_each(&["sh", "-c", "cat \"$1\"; printf \"\\0\"", "sh", "{}"]);
}

#[test]
fn nasty_names_can_be_removed_and_renamed() {
    let bench = Bench::new();
    make_files(bench.path());
    let output = bench.run(&["-0", "-q", "mv {} {}.moved"], &NASTY.join(&0));
    assert!(output.status.success(), "{}", stderr(&output));
    let moved: BTreeSet<Vec<u8>> =
        NASTY.iter().map(|name| [name, &b".moved"[..]].concat()).collect();
    assert_eq!(files_in(bench.path()), moved);
    let list = moved.iter().cloned().collect::<Vec<_>>().join(&0);
    assert!(bench.run(&["-0", "-q", "rm"], &list).status.success());
    assert_eq!(files_in(bench.path()), BTreeSet::new());
}

#[test]
fn what_dry_run_prints_does_the_same_when_typed_into_a_shell() {
    let bench = Bench::new();
    let names = make_files(bench.path());
    let output = bench.run(&["-0", "--dry-run", "cat \"{}\" '{}' | head -c 1000; {#}"], b"");
    assert!(output.status.success() && output.stdout.is_empty());
    let output = bench.run(&["-0", "--dry-run", "cat \"{}\"; printf '\\0'"], &NASTY.join(&0));
    let typed = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(OsStr::from_bytes(&output.stdout))
        .current_dir(bench.path())
        .output()
        .unwrap();
    let read: BTreeSet<Vec<u8>> =
        typed.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    assert!(read.is_superset(&names), "{typed:?}");
    assert_eq!(files_in(bench.path()), names);
}

#[test]
fn arguments_that_are_no_files_keep_their_dash() {
    let bench = Bench::new();
    let output = bench.run(&["-k", "-q", "printf '%s\\n' {}", ":::", "-5", "--x", "-"], b"");
    assert_eq!(output.stdout, b"-5\n--x\n-\n");
}
