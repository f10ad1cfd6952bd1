//! `cargo xtask ci`: the steps that have to hold, in order, up to the first that does not.
//!
//! The cheap steps come first. Every cargo step that resolves dependencies is `--locked`, so that a
//! stale `Cargo.lock` fails instead of being rewritten. The alias `xtask` has to be so as well: it
//! resolves before the first step does.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fmt};

use crate::error::TaskError;
use crate::tidy;

/// One step: its name and what it runs.
struct Step {
    name: &'static str,
    work: Work,
}

enum Work {
    /// Arguments of cargo, and the variables set for it.
    Cargo { arguments: &'static [&'static str], variables: &'static [(&'static str, &'static str)] },
    /// `cargo xtask tidy`, within this process.
    Tidy,
}

const STEPS: [Step; 8] = [
    cargo("format", &["fmt", "--all", "--", "--check"]),
    cargo(
        "clippy",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
    ),
    // What is behind a feature must not be needed by what is not.
    cargo(
        "features",
        &[
            "clippy",
            "--package=tripod-metrics",
            "--package=tripod-history",
            "--package=tripod",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
    ),
    cargo("test", &["test", "--workspace", "--all-features", "--locked"]),
    loom(&[
        "test",
        "--package=tripod-memory",
        "--lib",
        "--release",
        "--locked",
        "--target-dir=target/loom",
        "::model",
    ]),
    loom(&[
        "test",
        "--package=tripod-metrics",
        "--lib",
        "--release",
        "--locked",
        "--target-dir=target/loom",
        "cells::model",
    ]),
    Step {
        name: "doc",
        work: Work::Cargo {
            arguments: &[
                "doc",
                "--workspace",
                "--all-features",
                "--no-deps",
                "--document-private-items",
                "--locked",
            ],
            variables: &[("RUSTDOCFLAGS", "-D warnings")],
        },
    },
    Step { name: "tidy", work: Work::Tidy },
];

/// Interleavings that no test run meets. In a directory of its own, since the flag would make cargo
/// build everything else again.
const fn loom(arguments: &'static [&'static str]) -> Step {
    Step {
        name: "loom",
        work: Work::Cargo { arguments, variables: &[("RUSTFLAGS", "--cfg loom")] },
    }
}

const fn cargo(name: &'static str, arguments: &'static [&'static str]) -> Step {
    let variables = &[];
    Step { name, work: Work::Cargo { arguments, variables } }
}

/// What the step runs, as one would type it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.work {
            Work::Cargo { arguments, variables } => {
                for (name, value) in variables {
                    write!(f, "{name}=\"{value}\" ")?;
                }
                write!(f, "cargo {}", arguments.join(" "))
            }
            Work::Tidy => write!(f, "cargo xtask tidy"),
        }
    }
}

/// How a step ended, other than well.
struct Stopped<'a> {
    step: &'a Step,
    steps_left: usize,
}

/// Runs all steps; the exit code is 1 if one of them failed.
///
/// # Errors
/// If a step could not be started or the tree not be read.
pub(crate) fn run(root: &Path) -> Result<ExitCode, TaskError> {
    let start = Instant::now();
    let stopped = run_until_failure(&STEPS, |step| {
        println!("==> {}: {step}", step.name);
        let step_start = Instant::now();
        let holds = perform(step, root)?;
        let outcome = if holds { "ok" } else { "FAILED" };
        let time = Seconds(step_start.elapsed());
        println!("<== {}: {outcome} in {time}", step.name);
        Ok(holds)
    })?;
    let total = Seconds(start.elapsed());
    Ok(match stopped {
        None => {
            println!("ci: all {} steps hold, {total} in total", STEPS.len());
            ExitCode::SUCCESS
        }
        Some(Stopped { step, steps_left }) => {
            println!(
                "ci: FAILED at step `{}` ({step}), {steps_left} steps not run, {total} in total",
                step.name
            );
            ExitCode::FAILURE
        }
    })
}

/// Takes the steps in order and stops at the first for which `perform` answers false.
fn run_until_failure<'a>(
    steps: &'a [Step],
    mut perform: impl FnMut(&Step) -> Result<bool, TaskError>,
) -> Result<Option<Stopped<'a>>, TaskError> {
    for (index, step) in steps.iter().enumerate() {
        if !perform(step)? {
            let steps_left = steps.len() - index - 1;
            return Ok(Some(Stopped { step, steps_left }));
        }
    }
    Ok(None)
}

fn perform(step: &Step, root: &Path) -> Result<bool, TaskError> {
    match step.work {
        Work::Cargo { arguments, variables } => Command::new(cargo_program())
            .args(arguments)
            .envs(variables.iter().copied())
            .current_dir(root)
            .stdin(Stdio::null())
            .status()
            .map(|status| status.success())
            .map_err(|source| TaskError::Start { command: step.to_string(), source }),
        Work::Tidy => tidy::is_tidy(root),
    }
}

/// The cargo that runs us, so that a step never meets another toolchain than its caller.
pub(crate) fn cargo_program() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// A time as a person reads it, to a tenth of a second.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        write!(f, "{seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_is_named_and_nothing_after_it_runs() {
        let mut ran = Vec::new();
        let stopped = run_until_failure(&STEPS, |step| {
            ran.push(step.name);
            Ok(step.name != "test")
        });
        let stopped = stopped.unwrap().expect("the test step failed");
        assert_eq!(stopped.step.name, "test");
        assert_eq!(stopped.steps_left, 4);
        assert_eq!(ran, ["format", "clippy", "features", "test"]);
    }

    #[test]
    fn all_steps_run_when_all_hold() {
        let mut ran = 0;
        let stopped = run_until_failure(&STEPS, |_| {
            ran += 1;
            Ok(true)
        });
        assert!(stopped.unwrap().is_none());
        assert_eq!(ran, STEPS.len());
    }

    #[test]
    fn the_steps_are_those_that_the_contributing_page_lists() {
        let page = include_str!("../../CONTRIBUTING.md");
        for step in &STEPS {
            assert!(page.contains(&format!("`{step}`")), "{step} is not listed");
        }
    }
}
