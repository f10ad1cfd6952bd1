//! The closing table of `ARCHITECTURE.md` leads to files that exist.
//!
//! The table is the last one whose heading says "to change" and "start at". Within it, every
//! phrase in backticks that looks like a path from the root is checked.

use super::Finding;
use super::tree::Tree;

const FILE: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(FILE) else {
        return vec![Finding::new(FILE, "there is no such file", "write it")];
    };
    let paths = paths_in_closing_table(text);
    if paths.is_empty() {
        return vec![Finding::new(
            FILE,
            "no closing table \"to change ... | start at ...\" that names a path in backticks",
            "end the file in that table",
        )];
    }
    let gone = paths.iter().filter(|(_, path)| !tree.holds(path));
    gone.map(|(line, path)| {
        Finding::new(
            format!("{FILE}:{line}"),
            format!("the table leads to `{path}`, which does not exist"),
            "name the file that took its place, by its path from the root",
        )
    })
    .collect()
}

/// The paths of the table, each with its line, counted from 1.
fn paths_in_closing_table(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let Some(heading) = lines.iter().rposition(|line| is_heading(line)) else {
        return Vec::new();
    };
    let rows = lines[heading..].iter().zip(heading + 1..);
    rows.take_while(|(row, _)| row.starts_with('|'))
        .flat_map(|(row, line)| phrases(row).map(move |phrase| (line, phrase)))
        .filter_map(|(line, phrase)| Some((line, path_of(phrase)?)))
        .collect()
}

fn is_heading(line: &str) -> bool {
    let line = line.to_lowercase();
    line.starts_with('|') && line.contains("to change") && line.contains("start at")
}

/// What stands in backticks.
fn phrases(row: &str) -> impl Iterator<Item = &str> {
    row.split('`').skip(1).step_by(2)
}

/// The path in a phrase, without an item or a line behind a colon; none if it is code.
fn path_of(phrase: &str) -> Option<&str> {
    let path = phrase.split([':', '#']).next()?;
    let is_file =
        [".rs", ".md", ".toml", ".lock", ".sh"].iter().any(|ending| path.ends_with(ending));
    let is_path = (path.contains('/') || is_file)
        && !path.starts_with('/')
        && !path.contains(char::is_whitespace);
    is_path.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::super::assert_places;
    use super::*;

    const TEXT: &str = "\
# Map
| crate | one line |
|---|---|
| `crates/elsewhere` | an earlier table is not ours |

| To change ... | start at ... |
|---|---|
| a `Priority` | `crates/a/src/priority.rs`, then `docs/` |
| a route `GET /tasks` | `crates/a/src/http.rs::routes`, `Router::new` |

After it, `crates/nowhere.rs` is prose.
";

    #[test]
    fn a_path_that_is_gone_is_found_on_its_line() {
        let files = [(FILE, TEXT), ("crates/a/src/priority.rs", "")];
        let places = ["ARCHITECTURE.md:8", "ARCHITECTURE.md:9"];
        assert_places(check, &files, &places);
    }

    #[test]
    fn paths_that_exist_are_fine_and_code_is_no_path() {
        let files = [
            (FILE, TEXT),
            ("crates/a/src/priority.rs", ""),
            ("crates/a/src/http.rs", ""),
            ("docs/glossary.md", ""),
        ];
        assert_places(check, &files, &[]);
    }

    #[test]
    fn a_lost_file_or_table_is_found() {
        assert_places(check, &[], &[FILE]);
        assert_places(check, &[(FILE, "# Map\n")], &[FILE]);
    }
}
