//! The opponents: where they are, what they say of themselves, and how each is asked for the same.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::BenchError;
use crate::machine;
use crate::process::{self, Run};
use crate::report::note;

/// Names of rows.
pub(super) const XARGS: &str = "xargs";
pub(super) const XARGS_SHELL: &str = "xargs, sh";
pub(super) const PARALLEL: &str = "parallel";
pub(super) const TRIPOD: &str = "tripod";

/// The shell of all commands; parallel would take that of the user, which may be a slower one.
const SHELL: &str = "/bin/sh";
/// Settings of the user that would change what a tool does.
const UNSET: [&str; 5] = ["PARALLEL", "TRIPOD_LOG", "XZ_OPT", "XZ_DEFAULTS", "POSIXLY_CORRECT"];

/// The tools of this machine.
#[derive(Debug)]
pub(super) struct Tools {
    tripod: PathBuf,
    jobs: NonZeroUsize,
    versions: String,
}

/// One tool with its arguments, ready to be run.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    /// As it is shown.
    tool: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Tools {
    /// Asks each tool for its version; builds tripod unless its path is given.
    ///
    /// # Errors
    /// If a tool is missing or is another one of the same name, or tripod cannot be built.
    pub(super) fn find(tripod: Option<PathBuf>) -> Result<Self, BenchError> {
        let mut versions = vec![
            version("xargs", "GNU findutils", "findutils")?,
            version("parallel", "GNU parallel", "parallel")?,
            version("xz", "XZ Utils", "xz-utils")?,
        ];
        let tripod = match tripod {
            Some(path) => path,
            None => build_tripod()?,
        };
        versions.insert(0, first_line(&tripod, "--version")?);
        Ok(Self { tripod, jobs: machine::processors(), versions: versions.join("; ") })
    }

    pub(super) fn versions(&self) -> &str {
        &self.versions
    }

    pub(super) fn jobs(&self) -> NonZeroUsize {
        self.jobs
    }

    /// Runs of `word ARGUMENT`. The first row starts the program itself; the others give it to a
    /// shell, which has `true` and `echo` built in.
    pub(super) fn each_argument(&self, word: &str) -> [Contender; 4] {
        let jobs = self.jobs.to_string();
        let script = format!("{word} \"$1\"");
        [
            self.contender(XARGS, &["-P", &jobs, "-n1", word]),
            self.contender(XARGS_SHELL, &["-P", &jobs, "-n1", SHELL, "-c", &script, "sh"]),
            self.contender(PARALLEL, &["--plain", "-j", &jobs, word]),
            self.contender(TRIPOD, &["map", "--jobs", &jobs, "--progress", "none", "-q", word]),
        ]
    }

    /// Runs that compress a file and report its new size.
    pub(super) fn compress(&self) -> [Contender; 3] {
        let jobs = self.jobs.to_string();
        let own = r#"xz -9 -c "$1" | wc -c"#;
        let template = "xz -9 -c {} | wc -c";
        [
            self.contender(XARGS, &["-P", &jobs, "-d", "\\n", "-n1", SHELL, "-c", own, "sh"]),
            self.contender(PARALLEL, &["--plain", "-j", &jobs, template]),
            self.contender(TRIPOD, &["map", "--jobs", &jobs, template]),
        ]
    }

    fn contender(&self, name: &'static str, arguments: &[&str]) -> Contender {
        let tool = if name == XARGS_SHELL { XARGS } else { name };
        let program = if tool == TRIPOD { self.tripod.clone() } else { PathBuf::from(tool) };
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Contender { name, tool, program, arguments }
    }
}

impl Contender {
    /// Runs the tool with the file as standard input.
    ///
    /// # Errors
    /// If it cannot be started or does not succeed.
    pub(super) fn run(&self, input: &Path) -> Result<Run, BenchError> {
        let input = File::open(input).map_err(BenchError::prepare("read the arguments"))?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::from(input)).env("PARALLEL_SHELL", SHELL);
        for name in UNSET {
            command.env_remove(name);
        }
        let run = process::measure(&mut command);
        let run =
            run.map_err(|source| BenchError::Start { command: self.command_line(), source })?;
        if run.status.success() {
            return Ok(run);
        }
        let Run { status, stderr, .. } = run;
        Err(BenchError::Failed { command: self.command_line(), status, stderr })
    }

    /// As a person would type it.
    pub(super) fn command_line(&self) -> String {
        let words = self.arguments.iter().map(|word| quoted(word));
        std::iter::once(self.tool.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
    }

    /// The error of a tool that did other work than was asked for.
    pub(super) fn differs(&self, how: String) -> BenchError {
        BenchError::Differs { command: self.command_line(), how }
    }
}

/// Quotes a word for a shell where it needs that; none of ours has a single quote.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./,".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{word}'") }
}

/// The tool's first line about itself, which must name its `maker`.
fn version(tool: &str, maker: &'static str, package: &'static str) -> Result<String, BenchError> {
    let said = first_line(Path::new(tool), "--version").map_err(|error| match error {
        BenchError::Start { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            BenchError::Missing { tool: tool.to_owned(), package }
        }
        other => other,
    })?;
    if said.contains(maker) {
        return Ok(said);
    }
    Err(BenchError::Lookalike { tool: tool.to_owned(), said, package })
}

fn first_line(program: &Path, argument: &str) -> Result<String, BenchError> {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|source| BenchError::Start { command: program.display().to_string(), source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Builds the release binary in the target folder of this program, and returns its path.
fn build_tripod() -> Result<PathBuf, BenchError> {
    let own = env::current_exe().map_err(BenchError::prepare("find the target folder"))?;
    let no_folder = || std::io::Error::other("this program lies in no target folder");
    let target = own.ancestors().nth(2).ok_or_else(no_folder);
    let target = target.map_err(BenchError::prepare("find the target folder"))?;
    note("building tripod");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&cargo);
    command.args(["build", "--release", "--quiet", "--package", "tripod-cli", "--target-dir"]);
    command.arg(target).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let output = command.output().map_err(|source| BenchError::Start {
        command: cargo.to_string_lossy().into_owned(),
        source,
    })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BenchError::Build { status: output.status, stderr });
    }
    Ok(target.join("release").join("tripod"))
}

#[cfg(test)]
impl Tools {
    /// Three jobs, and no tool that was looked for.
    pub(super) fn of_names() -> Self {
        let jobs = NonZeroUsize::new(3).unwrap();
        Self { tripod: PathBuf::from("target/release/tripod"), jobs, versions: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_asked_for_the_same_in_its_own_words() {
        let lines =
            Tools::of_names().each_argument("true").map(|contender| contender.command_line());
        assert_eq!(
            lines,
            [
                "xargs -P 3 -n1 true",
                "xargs -P 3 -n1 /bin/sh -c 'true \"$1\"' sh",
                "parallel --plain -j 3 true",
                "tripod map --jobs 3 --progress none -q true",
            ]
        );
        let lines = Tools::of_names().compress().map(|contender| contender.command_line());
        assert_eq!(
            lines,
            [
                r#"xargs -P 3 -d '\n' -n1 /bin/sh -c 'xz -9 -c "$1" | wc -c' sh"#,
                "parallel --plain -j 3 'xz -9 -c {} | wc -c'",
                "tripod map --jobs 3 'xz -9 -c {} | wc -c'",
            ]
        );
    }

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let error = version("no-such-tool", "GNU", "some-package").expect_err("it is missing");
        let text = error.to_string();
        assert!(text.contains("`no-such-tool`") && text.contains("some-package"), "{text}");
    }

    #[test]
    fn another_tool_of_the_same_name_is_refused() {
        let error = version("sh", "no shell says this", "dash").expect_err("it is another");
        assert!(matches!(error, BenchError::Lookalike { .. }), "{error:?}");
    }
}
