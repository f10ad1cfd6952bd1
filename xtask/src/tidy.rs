//! `cargo xtask tidy`: rules of the tree that the compiler cannot see.
//!
//! Each check is a pure function from a [`Tree`] to its [`Finding`]s and lies in a file of its own.
//! All checks always run, so that one round shows everything there is to do.

mod layers;
mod links;
mod lock;
mod machine_paths;
mod manifests;
mod map;
mod test_modules;
mod tree;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use self::tree::Tree;
use crate::error::TaskError;

/// One thing that does not hold.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// A file, with the line behind a colon where there is one.
    place: String,
    problem: String,
    remedy: String,
}

impl Finding {
    fn new(
        place: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { place: place.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, problem, remedy } = self;
        write!(f, "{place}: {problem}\n    to do: {remedy}")
    }
}

/// A rule of the tree: its name and how it is checked.
type Check = (&'static str, fn(&Tree) -> Vec<Finding>);

const CHECKS: [Check; 8] = [
    ("map", map::check),
    ("layers", layers::check),
    ("manifests", manifests::check),
    ("lock", lock::check),
    ("test-modules", test_modules::check),
    ("mod-files", check_mod_files),
    ("links", links::check),
    ("machine-paths", machine_paths::check),
];

/// Runs every check; the exit code is 1 if there are findings.
///
/// # Errors
/// If a file of the tree could not be read.
pub(crate) fn run(root: &Path) -> Result<ExitCode, TaskError> {
    Ok(if is_tidy(root)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every check and prints all findings; true if there are none.
///
/// # Errors
/// If a file of the tree could not be read.
pub(crate) fn is_tidy(root: &Path) -> Result<bool, TaskError> {
    let tree = Tree::read(root)?;
    let mut findings_count = 0;
    for (name, check) in CHECKS {
        for finding in check(&tree) {
            findings_count += 1;
            println!("tidy[{name}]: {finding}");
        }
    }
    let files_count = tree.paths().count();
    let checks_count = CHECKS.len();
    println!("tidy: {checks_count} checks over {files_count} files, {findings_count} findings");
    Ok(findings_count == 0)
}

/// Finds module files of the old form, which all bear the same name in an editor.
fn check_mod_files(tree: &Tree) -> Vec<Finding> {
    tree.paths()
        .filter_map(|path| Some((path, path.strip_suffix("/mod.rs")?)))
        .map(|(path, folder)| {
            let remedy = format!("move it to {folder}.rs, beside its folder");
            Finding::new(path, "a module file is called mod.rs", remedy)
        })
        .collect()
}

/// Asserts that `check` finds in `files` what lies at `places`, in that order, and nothing else.
#[cfg(test)]
#[track_caller]
fn assert_places(check: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)], places: &[&str]) {
    let findings = check(&Tree::of(files));
    let found: Vec<&str> = findings.iter().map(|f| f.place.as_str()).collect();
    assert_eq!(found, places, "{findings:#?}");
    for finding in &findings {
        assert!(!finding.problem.is_empty() && !finding.remedy.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mod_file_is_found_at_any_depth_and_lookalikes_are_not() {
        let bad = [("crates/a/src/b/mod.rs", ""), ("crates/a/tests/it/c/mod.rs", "")];
        assert_places(check_mod_files, &bad, &[bad[0].0, bad[1].0]);
        let good = [("crates/a/src/mod_rs.rs", ""), ("crates/a/src/not_mod.rs", "")];
        assert_places(check_mod_files, &good, &[]);
    }

    #[test]
    fn a_finding_says_where_what_and_what_to_do() {
        let finding = Finding::new("a.md:3", "link is broken", "mend it");
        assert_eq!(finding.to_string(), "a.md:3: link is broken\n    to do: mend it");
    }
}
