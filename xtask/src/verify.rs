//! `cargo xtask verify`: what is too slow, or needs too much, to hold before every change.
//!
//! Miri on the unit tests of the modules with unsafe code, ThreadSanitizer on those with threads,
//! AddressSanitizer on all tests of the memory leg, those tests once more with optimisation, the loom
//! models, and each fuzz target for some time. All of them always run, so that one round shows
//! everything. What needs a tool that is not there is skipped, says which, and is no failure: the
//! tools come with a nightly compiler, which this project does not pin.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::ci::cargo_program;
use crate::error::TaskError;

/// How long each fuzz target runs, in seconds.
const FUZZ_SECONDS: u32 = 60;
const FUZZ_SECONDS_SHORT: u32 = 10;

/// Folders of their own below `target`, since the flags would make cargo build everything else again.
const LOOM_FOLDER: &str = "--target-dir=target/loom";
const MIRI_FOLDER: &str = "--target-dir=target/miri";
const THREAD_SANITIZER_FOLDER: &str = "--target-dir=target/tsan";
const ADDRESS_SANITIZER_FOLDER: &str = "--target-dir=target/asan";

/// Tests that Miri gets through in minutes, by package.
const MIRI_TESTS: [(&str, &[&str]); 2] = [
    ("tripod-metrics", &["cells::", "series::cache", "series::expiry", "series::text"]),
    (
        "tripod-memory",
        &[
            "buffer::",
            "counting::",
            "header::",
            "heap::",
            "lease::",
            "local::",
            "pressure::",
            "reserve::",
            "shelf::",
            "spill::",
            "sys::",
            "turn::",
        ],
    ),
];

/// Tests with threads, of which ThreadSanitizer may miss nothing: by package, what is built and which
/// tests of it are run.
const THREAD_SANITIZER_TESTS: [(&str, &[&str], &[&str]); 2] = [
    ("tripod-metrics", &["--lib"], &["cells::", "series::", "counter::", "gauge::", "histogram::"]),
    ("tripod-memory", &["--lib", "--test=it"], &[]),
];

/// Tests that read the memory or the page faults of their process, which a sanitizer adds its own to.
const OF_THE_PROCESS: [&str; 10] = [
    "limits::a_thread_whose_heap_is_exhausted_gets_an_error_and_later_a_buffer",
    "limits::an_observer_never_sees_more_than_the_limit_committed_or_resident",
    "pitfalls::a_hit_costs_no_page_fault_and_a_miss_no_more_than_its_span",
    "residency::a_burst_of_1_mib_goes_back_while_its_threads_are_blocked",
    "residency::a_burst_of_64_kib_goes_back_while_its_threads_are_blocked",
    "residency::a_burst_of_pages_goes_back_while_its_threads_are_blocked",
    "residency::a_collection_that_was_left_half_done_is_in_nobodys_way",
    "residency::a_huge_buffer_among_small_ones_does_not_stay",
    "residency::managers_that_are_gone_leave_nothing_mapped",
    "residency::trim_gives_everything_back_but_what_is_held",
];

/// The arguments for the tests themselves that leave those out.
fn skipped() -> Vec<&'static str> {
    OF_THE_PROCESS.iter().flat_map(|test| ["--skip", test]).collect()
}

/// One thing to run, if its tool is there.
struct Check {
    name: String,
    /// What has to succeed for the tool to be there, and how to get it.
    tool: Option<(Vec<String>, &'static str)>,
    variables: Vec<(&'static str, &'static str)>,
    command: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Holds,
    Failed,
    Skipped,
}

/// Runs all checks; the exit code is 1 if one of them failed.
///
/// # Errors
/// If the list of fuzz targets could not be read, or a check not be started.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<ExitCode, TaskError> {
    let fuzz_seconds = fuzz_seconds(words).ok_or(TaskError::Usage)?;
    let mut checks: Vec<_> =
        MIRI_TESTS.iter().map(|(package, tests)| miri(package, tests)).collect();
    checks.extend(
        THREAD_SANITIZER_TESTS
            .iter()
            .map(|(package, targets, tests)| thread_sanitizer(package, targets, tests)),
    );
    checks.push(address_sanitizer("tripod-memory"));
    checks.push(optimised("tripod-memory"));
    checks.push(loom("tripod-memory", "::model::"));
    checks.push(loom("tripod-metrics", "cells::model"));
    let targets = fuzz_targets(root)?;
    checks.extend(targets.iter().map(|target| fuzz(target, fuzz_seconds)));
    let mut outcomes = Vec::new();
    for check in &checks {
        outcomes.push(check.perform(root)?);
    }
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    let (holds, failed, skipped) =
        (count(Outcome::Holds), count(Outcome::Failed), count(Outcome::Skipped));
    println!("verify: {holds} checks hold, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn fuzz_seconds(words: &[&str]) -> Option<u32> {
    match words {
        [] => Some(FUZZ_SECONDS),
        ["--short"] => Some(FUZZ_SECONDS_SHORT),
        [seconds] => seconds.parse().ok().filter(|seconds| *seconds > 0),
        _ => None,
    }
}

fn miri(package: &str, tests: &[&str]) -> Check {
    let package_flag = format!("--package={package}");
    let command = ["miri", "test", &package_flag, "--lib", "--locked", MIRI_FOLDER];
    Check {
        name: format!("miri of {package}"),
        tool: Some((
            nightly(&["miri", "--version"]),
            "rustup +nightly component add miri rust-src",
        )),
        // The clock and the random numbers of the tests are those of the machine.
        variables: vec![("MIRIFLAGS", "-Zmiri-disable-isolation"), ("PROPTEST_CASES", "4")],
        command: nightly(&[&command[..], &["--"], tests].concat()),
    }
}

fn thread_sanitizer(package: &str, targets: &[&str], tests: &[&str]) -> Check {
    let package_flag = format!("--package={package}");
    let command = [
        "test",
        "-Zbuild-std",
        "--target=x86_64-unknown-linux-gnu",
        &package_flag,
        THREAD_SANITIZER_FOLDER,
    ];
    // The standard library has to be built with it as well, which needs its source.
    let probe = ["fetch", "-Zbuild-std", "--target=x86_64-unknown-linux-gnu"];
    Check {
        name: format!("thread sanitizer of {package}"),
        tool: Some((nightly(&probe), "rustup +nightly component add rust-src")),
        variables: vec![("RUSTFLAGS", "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer")],
        command: nightly(&[&command[..], targets, &["--"], tests, &skipped()].concat()),
    }
}

/// It sees what Miri is too slow for, and what goes wrong in memory that the system mapped.
fn address_sanitizer(package: &str) -> Check {
    let package_flag = format!("--package={package}");
    let command = [
        "test",
        "--target=x86_64-unknown-linux-gnu",
        &package_flag,
        "--lib",
        "--test=it",
        "--locked",
        ADDRESS_SANITIZER_FOLDER,
    ];
    Check {
        name: format!("address sanitizer of {package}"),
        tool: Some((nightly(&["--version"]), "rustup toolchain install nightly")),
        // Some tests forget buffers, and ask who has them.
        variables: vec![("RUSTFLAGS", "-Zsanitizer=address"), ("ASAN_OPTIONS", "detect_leaks=0")],
        command: nightly(&[&command[..], &["--"], &skipped()].concat()),
    }
}

/// What the optimiser makes of it: the numbers of some tests are larger there, and it has its own idea
/// of what unsafe code may do.
fn optimised(package: &str) -> Check {
    let package_flag = format!("--package={package}");
    let command = ["test", &package_flag, "--all-features", "--release", "--locked", "--test=it"];
    let command = std::iter::once(cargo_program()).chain(command.map(str::to_owned));
    Check {
        name: format!("tests of {package}, optimised"),
        tool: None,
        variables: Vec::new(),
        command: command.collect(),
    }
}

fn loom(package: &str, tests: &str) -> Check {
    let package_flag = format!("--package={package}");
    let command = ["test", &package_flag, "--lib", "--release", "--locked", LOOM_FOLDER, tests];
    let command = std::iter::once(cargo_program()).chain(command.map(str::to_owned));
    Check {
        name: format!("loom of {package}"),
        tool: None,
        variables: vec![("RUSTFLAGS", "--cfg loom")],
        command: command.collect(),
    }
}

fn fuzz(target: &str, seconds: u32) -> Check {
    let time = format!("-max_total_time={seconds}");
    Check {
        name: format!("fuzz {target}"),
        tool: Some((nightly(&["fuzz", "--version"]), "cargo install cargo-fuzz")),
        variables: Vec::new(),
        command: nightly(&["fuzz", "run", target, "--", &time]),
    }
}

/// A cargo command of the nightly compiler, whatever toolchain runs us.
fn nightly(arguments: &[&str]) -> Vec<String> {
    let program = ["rustup", "run", "nightly", "cargo"];
    program.iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}

/// The names of the fuzz targets; none if there is no folder of them.
fn fuzz_targets(root: &Path) -> Result<Vec<String>, TaskError> {
    let path = root.join("fuzz/Cargo.toml");
    match fs::read_to_string(&path) {
        Ok(manifest) => Ok(target_names(&manifest)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(TaskError::Read { path, source }),
    }
}

fn target_names(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().unwrap_or_default();
    let targets = manifest.get("bin").and_then(toml::Value::as_array);
    let names = targets.into_iter().flatten().filter_map(|target| target.get("name")?.as_str());
    names.map(str::to_owned).collect()
}

impl Check {
    fn perform(&self, root: &Path) -> Result<Outcome, TaskError> {
        let Self { name, tool, variables, command } = self;
        if let Some((probe, remedy)) = tool
            && !succeeds(root, probe)
        {
            println!("<== {name}: skipped: `{}` fails; to get it: {remedy}", probe.join(" "));
            return Ok(Outcome::Skipped);
        }
        let shown = command.join(" ");
        println!("==> {name}: {shown}");
        let status = command_of(root, command)
            .envs(variables.iter().copied())
            .status()
            .map_err(|source| TaskError::Start { command: shown, source })?;
        let outcome = if status.success() { Outcome::Holds } else { Outcome::Failed };
        println!("<== {name}: {}", if status.success() { "ok" } else { "FAILED" });
        Ok(outcome)
    }
}

fn succeeds(root: &Path, command: &[String]) -> bool {
    let mut command = command_of(root, command);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn command_of(root: &Path, words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(root).stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_fuzzing_is_chosen() {
        assert_eq!(fuzz_seconds(&[]), Some(FUZZ_SECONDS));
        assert_eq!(fuzz_seconds(&["--short"]), Some(FUZZ_SECONDS_SHORT));
        assert_eq!(fuzz_seconds(&["5"]), Some(5));
        for words in [&["0"][..], &["-1"], &["long"], &["--short", "5"]] {
            assert_eq!(fuzz_seconds(words), None, "{words:?}");
        }
    }

    #[test]
    fn what_the_sanitizers_leave_out_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/tripod-memory/tests/it");
        for test in OF_THE_PROCESS {
            let (module, name) = test.split_once("::").unwrap();
            let text = fs::read_to_string(folder.join(module).with_extension("rs")).unwrap();
            assert!(text.contains(&format!("fn {name}(")), "no test is called {test}");
        }
    }

    #[test]
    fn fuzz_targets_are_those_of_the_manifest() {
        let manifest = "[package]\nname = \"x\"\n[[bin]]\nname = \"a\"\n[[bin]]\nname = \"b\"\n";
        assert_eq!(target_names(manifest), ["a", "b"]);
        assert_eq!(target_names("[package]\nname = \"x\"\n"), Vec::<String>::new());
    }

    /// `command` of words that exit with `code`, behind a tool that is there or not.
    fn check(tool: Option<&str>, code: &str) -> Check {
        let words = |code: &str| ["sh", "-c", &format!("exit {code}")].map(str::to_owned).to_vec();
        Check {
            name: "any".to_owned(),
            tool: tool.map(|code| (words(code), "no way")),
            variables: Vec::new(),
            command: words(code),
        }
    }

    #[test]
    fn a_check_holds_fails_or_is_skipped() {
        let outcome = |tool, code| check(tool, code).perform(Path::new(".")).unwrap();
        assert_eq!(outcome(None, "0"), Outcome::Holds);
        assert_eq!(outcome(Some("0"), "0"), Outcome::Holds);
        assert_eq!(outcome(Some("0"), "3"), Outcome::Failed);
        assert_eq!(outcome(Some("1"), "0"), Outcome::Skipped);
        assert!(!succeeds(Path::new("."), &["no-such-program-anywhere".to_owned()]));
    }
}
