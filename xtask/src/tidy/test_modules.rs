//! Each crate has one integration binary, `tests/it/main.rs`, and every file beside it is in it.
//!
//! A file that no module declares is silently never compiled, and its tests never run.

use std::collections::BTreeSet;

use super::Finding;
use super::manifests::member_folder;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.paths()
        .filter_map(|path| {
            let folder = member_folder(path)?;
            let below = path[folder.len()..].strip_prefix("/tests/")?;
            check_file(tree, path, below.strip_suffix(".rs")?)
        })
        .collect()
}

/// Checks the file at `path`; `below` is where it lies below `tests/`, without its ending.
fn check_file(tree: &Tree, path: &str, below: &str) -> Option<Finding> {
    let is_binary = match below.split('/').collect::<Vec<_>>()[..] {
        [_] => true,
        [folder, "main"] => folder != "it",
        _ => false,
    };
    if is_binary {
        let remedy = "move it below tests/it/ as a module of tests/it/main.rs";
        let problem = "a second integration binary, linked on its own";
        return Some(Finding::new(path, problem, remedy));
    }
    let in_runner = below.strip_prefix("it/")?;
    // A mod.rs has a check of its own.
    if in_runner == "main" || in_runner.ends_with("/mod") {
        return None;
    }
    let (parent, module) = parent_module(path)?;
    let remedy = format!("declare `mod {module};` in {parent}, or delete the file");
    match tree.text(&parent) {
        None => {
            Some(Finding::new(path, format!("its tests never run: there is no {parent}"), remedy))
        }
        Some(text) if !declared_modules(text).contains(module) => Some(Finding::new(
            path,
            format!("its tests never run: {parent} does not declare it"),
            remedy,
        )),
        Some(_) => None,
    }
}

/// The file that has to declare the module at `path`, and the module's name.
fn parent_module(path: &str) -> Option<(String, &str)> {
    let (folder, file) = path.rsplit_once('/')?;
    let parent = if folder.ends_with("/tests/it") {
        format!("{folder}/main.rs")
    } else {
        format!("{folder}.rs")
    };
    Some((parent, file.strip_suffix(".rs")?))
}

/// Names of all modules that stand as `mod name;` outside of comments.
fn declared_modules(text: &str) -> BTreeSet<String> {
    let code = without_comments(text).replace(';', " ; ");
    let words: Vec<&str> = code
        .split(|c: char| c.is_whitespace() || "[](){}".contains(c))
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(3)
        .filter(|words| words[0] == "mod" && words[2] == ";")
        .map(|words| words[1].to_owned())
        .collect()
}

/// `text` without line and (nested) block comments. Knows nothing of strings: a runner has none
/// that could hide a declaration.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if rest.starts_with("/*") {
            depth += 1;
            rest = &rest[2..];
        } else if depth > 0 && rest.starts_with("*/") {
            depth -= 1;
            rest = &rest[2..];
        } else if depth == 0 && rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else {
            if depth == 0 {
                code.push(character);
            }
            rest = &rest[character.len_utf8()..];
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::super::assert_places;
    use super::*;

    const MAIN: &str = "crates/a/tests/it/main.rs";
    const POOL: &str = "crates/a/tests/it/pool.rs";

    #[test]
    fn a_file_that_its_runner_does_not_declare_is_found() {
        for main in [
            "",
            "mod pools;",
            "// mod pool;",
            "/* /* */ mod pool; */",
            "//! mod pool;\nmod other;",
            "mod pool {}",
        ] {
            assert_places(check, &[(MAIN, main), (POOL, "")], &[POOL]);
        }
        assert_places(check, &[(POOL, "")], &[POOL]);
    }

    #[test]
    fn a_declared_file_is_fine() {
        for main in [
            "mod pool;",
            "//! Tests.\n\nmod limits; mod pool; // all of it",
            "#[cfg(unix)] mod pool;",
            "/* why */ pub(crate) mod pool ;",
        ] {
            assert_places(check, &[(MAIN, main), (POOL, "")], &[]);
        }
    }

    #[test]
    fn a_module_in_a_folder_is_declared_by_the_file_beside_it() {
        let nested = "crates/a/tests/it/pool/limits.rs";
        let data = ("crates/a/tests/it/pool/data.txt", "");
        let declared = [(MAIN, "mod pool;"), (POOL, "mod limits;"), (nested, ""), data];
        assert_places(check, &declared, &[]);
        let lost = [(MAIN, "mod pool; mod limits;"), (POOL, ""), (nested, ""), data];
        assert_places(check, &lost, &[nested]);
        let orphan = [(MAIN, "mod pool;"), (nested, "")];
        assert_places(check, &orphan, &[nested]);
    }

    #[test]
    fn a_second_binary_is_found() {
        let beside = "crates/a/tests/smoke.rs";
        let folder = "xtask/tests/smoke/main.rs";
        let files = [(MAIN, ""), (beside, ""), (folder, "")];
        assert_places(check, &files, &[beside, folder]);
    }

    #[test]
    fn tests_of_no_member_are_not_ours() {
        let files = [("fuzz/tests/a.rs", ""), ("crates/a/src/tests/b.rs", "")];
        assert_places(check, &files, &[]);
    }
}
