//! No source or page names a folder of the machine it was written on.
//!
//! The folders are spelled without their slashes, here and in the tests, so that this file passes
//! its own check and none has to be exempt.

use super::Finding;
use super::tree::Tree;

/// Folders at the root of a machine that mean nothing to a reader elsewhere.
const FOLDERS: [&str; 2] = ["work", "root"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let lines = tree
        .texts()
        .filter(|(path, _)| !path.ends_with(".lock"))
        .flat_map(|(path, text)| text.lines().zip(1..).map(move |line| (path, line)));
    lines
        .filter_map(|(path, (line, number))| {
            let folder = machine_folder(line)?;
            Some(Finding::new(
                format!("{path}:{number}"),
                format!("a path below /{folder} exists on one machine only"),
                "write the path from the root of the repository, or a variable such as $HOME",
            ))
        })
        .collect()
}

/// The first of [`FOLDERS`] that `line` names as an absolute path.
fn machine_folder(line: &str) -> Option<&'static str> {
    FOLDERS.into_iter().find(|folder| {
        let path = format!("/{folder}/");
        line.match_indices(&path).any(|(start, _)| {
            let before = line[..start].chars().next_back();
            !before.is_some_and(continues_a_path)
        })
    })
}

/// True for what a folder's name or a variable can end in: then the path is not absolute.
fn continues_a_path(character: char) -> bool {
    character.is_alphanumeric() || "_-.~/}>)*]".contains(character)
}

#[cfg(test)]
mod tests {
    use super::super::assert_places;
    use super::*;

    #[test]
    fn an_absolute_path_is_found_in_every_kind_of_text() {
        for folder in FOLDERS {
            let text = format!("fine\nsee /{folder}/main\n");
            for file in ["a.md", "src/a.rs", "Cargo.toml", "a.sh", ".ci/run"] {
                assert_places(check, &[(file, &text)], &[&format!("{file}:2")]);
            }
            for before in ["\"", "'", "`", "(", "=", ":"] {
                let text = format!("a{before}/{folder}/main");
                assert_places(check, &[("a.md", &text)], &["a.md:1"]);
            }
        }
    }

    #[test]
    fn a_relative_path_an_address_and_a_longer_name_are_fine() {
        for folder in FOLDERS {
            let text = format!(
                "docs/{folder}/a.md https://example.org/{folder}/a $HOME/{folder}/a \
                 ${{HOME}}/{folder}/a ../{folder}/a /{folder}s/a /{folder}"
            );
            assert_places(check, &[("a.md", &text)], &[]);
        }
    }
}
