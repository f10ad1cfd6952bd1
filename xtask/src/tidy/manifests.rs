//! The manifests of the workspace: how they are found, and what each must say.

use toml::{Table, Value};

use super::Finding;
use super::tree::Tree;

/// A crate of the workspace.
pub(super) struct Member {
    pub(super) name: String,
    /// Its manifest's.
    pub(super) path: String,
    pub(super) manifest: Table,
}

/// Reports manifests that cannot be read and crates that leave the workspace's lints.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    manifests(tree)
        .filter_map(|(path, text)| match parse_member(path, text) {
            Err(problem) => Some(Finding::new(path, problem, "mend the manifest")),
            Ok(member) if !inherits_lints(&member.manifest) => Some(Finding::new(
                path,
                format!("`{}` does not take the workspace's lints", member.name),
                "add `[lints]` with `workspace = true`",
            )),
            Ok(_) => None,
        })
        .collect()
}

/// The crates of the workspace whose manifests can be read; [`check`] reports the others.
pub(super) fn members(tree: &Tree) -> Vec<Member> {
    manifests(tree).filter_map(|(path, text)| parse_member(path, text).ok()).collect()
}

/// The `[workspace]` table of the root; empty if there is none.
pub(super) fn workspace(tree: &Tree) -> Table {
    let root = tree.text("Cargo.toml").and_then(|text| text.parse().ok());
    match root.and_then(|mut root: Table| root.remove("workspace")) {
        Some(Value::Table(workspace)) => workspace,
        _ => Table::new(),
    }
}

/// The folders of the workspace's crates, as `members` in the root manifest has them.
pub(super) fn member_folder(path: &str) -> Option<&str> {
    let mut parts = path.split('/');
    let folder_parts = match parts.next()? {
        "crates" => 2,
        "xtask" => 1,
        _ => return None,
    };
    let (end, _) = path.match_indices('/').nth(folder_parts - 1)?;
    Some(&path[..end])
}

fn manifests(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.texts()
        .filter(|(path, _)| member_folder(path).is_some_and(|f| path[f.len()..] == *"/Cargo.toml"))
}

fn parse_member(path: &str, text: &str) -> Result<Member, String> {
    let manifest: Table =
        text.parse().map_err(|error| format!("the manifest is not valid TOML: {error}"))?;
    let name = manifest.get("package").and_then(|package| package.get("name"));
    let name = name.and_then(Value::as_str).map(str::to_owned);
    Ok(Member {
        name: name.ok_or("the manifest names no package")?,
        path: path.to_owned(),
        manifest,
    })
}

fn inherits_lints(manifest: &Table) -> bool {
    let inherited = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    inherited.and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::super::assert_places;
    use super::*;

    const A: &str = "crates/a/Cargo.toml";

    #[test]
    fn a_crate_without_the_workspace_lints_is_found() {
        for lints in ["", "[lints.rust]", "[lints]\nworkspace = false"] {
            let text = format!("[package]\nname = \"a\"\n{lints}");
            assert_places(check, &[(A, &text)], &[A]);
        }
        // A line in a comment is not a setting.
        let text = "[package]\nname = \"a\"\n# [lints]\n# workspace = true";
        assert_places(check, &[(A, text)], &[A]);
    }

    #[test]
    fn a_crate_with_the_workspace_lints_is_fine() {
        for lints in ["lints.workspace = true\n", "[lints]\nworkspace = true\n"] {
            let text = format!("{lints}[package]\nname = \"a\"");
            assert_places(check, &[(A, &text), ("xtask/Cargo.toml", &text)], &[]);
        }
    }

    #[test]
    fn a_manifest_that_cannot_be_read_is_found() {
        assert_places(check, &[(A, "[package")], &[A]);
        assert_places(check, &[(A, "[package]\n")], &[A]);
    }

    #[test]
    fn only_manifests_of_members_count() {
        let files = [
            ("Cargo.toml", "[workspace]"),
            ("fuzz/Cargo.toml", "[package]"),
            ("crates/a/tests/it/data/Cargo.toml", "[package"),
        ];
        assert_places(check, &files, &[]);
        assert_eq!(member_folder("crates/a/src/lib.rs"), Some("crates/a"));
        assert_eq!(member_folder("xtask/src/main.rs"), Some("xtask"));
        assert_eq!(member_folder("crates/README.md"), None);
        assert_eq!(member_folder("docs/a/b.md"), None);
    }
}
