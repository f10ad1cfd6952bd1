//! Relative links of the pages lead to files that exist.
//!
//! Reads inline links, images and reference definitions; leaves code, addresses and bare anchors
//! alone. Whether an anchor exists in its page is not checked.

use super::Finding;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let pages = tree.texts().filter(|(path, _)| path.ends_with(".md"));
    pages
        .flat_map(|(page, text)| {
            let links = link_targets(text).into_iter();
            links.filter(|(_, target)| is_broken(tree, page, target)).map(move |(line, target)| {
                Finding::new(
                    format!("{page}:{line}"),
                    format!("the link to `{target}` leads nowhere"),
                    "mend the path (from the page's own folder), or remove the link",
                )
            })
        })
        .collect()
}

fn is_broken(tree: &Tree, page: &str, target: &str) -> bool {
    let path = target.split(['#', '?']).next().unwrap_or_default();
    if path.is_empty() || has_scheme(path) {
        return false;
    }
    !resolve(page, path).is_some_and(|path| tree.holds(&path))
}

/// True for `https:`, `mailto:` and the like.
fn has_scheme(target: &str) -> bool {
    let scheme = target.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.chars().all(|c| c.is_ascii_alphanumeric()))
        || target.starts_with("//")
}

/// `target` as a path from the root; none if it leaves the tree.
fn resolve(page: &str, target: &str) -> Option<String> {
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    // As on the forges, a leading slash is the root of the repository.
    let base = if target.starts_with('/') { "" } else { folder };
    let mut parts = Vec::new();
    for part in base.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Every link's target with its line, counted from 1.
fn link_targets(text: &str) -> Vec<(usize, String)> {
    let mut targets = Vec::new();
    let mut fence: Option<&str> = None;
    for (line, number) in text.lines().zip(1..) {
        let trimmed = line.trim_start();
        let mark = fence_mark(trimmed);
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if mark.starts_with(open) && trimmed.trim_end() == mark => {
                fence = None;
            }
            (Some(_), _) => {}
            (None, None) => {
                let found = targets_in_line(&without_code(line));
                targets.extend(found.into_iter().map(|target| (number, target)));
            }
        }
    }
    targets
}

/// The run of three or more backticks or tildes that a line starts with.
fn fence_mark(line: &str) -> Option<&str> {
    let first = line.chars().next().filter(|c| "`~".contains(*c))?;
    let length = line.len() - line.trim_start_matches(first).len();
    (length >= 3).then(|| &line[..length])
}

/// `line` without its code spans; a run of backticks that nothing closes is text.
fn without_code(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        text.push_str(&rest[..start]);
        let behind = rest[start..].trim_start_matches('`');
        let mark = &rest[start..rest.len() - behind.len()];
        rest = behind
            .match_indices(mark)
            .find(|(end, _)| {
                let after = &behind[end + mark.len()..];
                !behind[..*end].ends_with('`') && !after.starts_with('`')
            })
            .map_or(behind, |(end, _)| &behind[end + mark.len()..]);
    }
    text.push_str(rest);
    text
}

fn targets_in_line(line: &str) -> Vec<String> {
    let inline = line.match_indices("](").map(|(start, _)| &line[start + 2..]);
    let definition = line.trim_start().strip_prefix('[').and_then(|rest| {
        let (name, target) = rest.split_once("]:")?;
        (!name.contains(['[', ']', '^'])).then_some(target)
    });
    inline.map(in_parentheses).chain(definition).filter_map(target_of).collect()
}

/// What stands before the parenthesis that closes the link; its own pairs are part of it.
fn in_parentheses(text: &str) -> &str {
    let mut depth = 0;
    let end = text.find(|character| {
        depth += match character {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth < 0
    });
    &text[..end.unwrap_or(text.len())]
}

/// The target without a title or angle brackets.
fn target_of(text: &str) -> Option<String> {
    let text = text.trim();
    let target = match text.strip_prefix('<') {
        Some(quoted) => quoted.split('>').next(),
        None => text.split_whitespace().next(),
    };
    target.filter(|target| !target.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::assert_places;
    use super::*;

    #[track_caller]
    fn assert_page(text: &str, places: &[&str]) {
        let files = [
            ("docs/guide/page.md", text),
            ("docs/guide/other.md", ""),
            ("docs/with (pairs).md", ""),
            ("README.md", ""),
        ];
        assert_places(check, &files, places);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found_on_its_line() {
        for link in [
            "[a](gone.md)",
            "see [a](other.md) and [b](gone.md#part \"title\")",
            "[`code`](gone.md)",
            "![image](../image.png)",
            "[![badge](https://example.org/b.svg)](gone.md)",
            "[a](../../../README.md)",
            "[a](/docs/other.md)",
            "[a]: gone.md",
            "[a](<gone file.md>)",
            "an unclosed ` before [a](gone.md)",
        ] {
            assert_page(&format!("# Page\n\n{link}\n"), &["docs/guide/page.md:3"]);
        }
    }

    #[test]
    fn links_that_lead_somewhere_and_other_brackets_are_fine() {
        for link in [
            "[a](other.md) [b](./other.md#part) [c](../../README.md) [d](..) [e](../guide/)",
            "[a](/README.md) [b](#part) [c](https://example.org/x) [d](mailto:a@example.org)",
            "[a](<../with (pairs).md>) [b](other.md 'title')",
            "[a]: other.md \"title\"",
            "`[a](gone.md)` and ``[b](gone.md) ` ``",
            "```rust\nlet x = y[i](gone);\n[a](gone.md)\n```",
            "~~~~\n```\n[a](gone.md)\n~~~\n[a](gone.md)\n~~~~",
            "[^1]: a footnote",
        ] {
            assert_page(link, &[]);
        }
    }

    #[test]
    fn text_behind_a_closed_fence_is_read_again() {
        assert_page("```\n```\n[a](gone.md)", &["docs/guide/page.md:3"]);
    }

    #[test]
    fn a_page_at_the_root_resolves_from_there() {
        let text = "[a](docs/a.md) [b](docs/b.md)";
        let files = [("README.md", text), ("docs/a.md", "")];
        assert_places(check, &files, &["README.md:1"]);
    }
}
