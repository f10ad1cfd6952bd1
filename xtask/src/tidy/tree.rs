//! The files of the project, read once, so that the checks are functions over text and paths.
//!
//! The tree is walked, not asked of git: the checks hold in an unpacked archive as well. Symbolic
//! links are listed but not followed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::TaskError;

/// Endings of the files whose text the checks read.
const TEXT_ENDINGS: [&str; 5] = [".md", ".rs", ".toml", ".sh", ".lock"];

/// Every file by its path from the root, parted by `/`; with its text where a check may read it.
pub(super) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Reads the tree below `root`, without `.git` and cargo's `target` folders.
    pub(super) fn read(root: &Path) -> Result<Self, TaskError> {
        let mut files = BTreeMap::new();
        read_folder(root, "", &mut files)?;
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let own = |(path, text): &(&str, &str)| ((*path).into(), Some((*text).into()));
        Self { files: files.iter().map(own).collect() }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The files with text, in the order of their paths.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// True if `path` is a file, or a folder with a file somewhere below.
    pub(super) fn holds(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        if path.is_empty() || self.files.contains_key(path) {
            return true;
        }
        let below = format!("{path}/");
        let next = self.files.range(below.clone()..).next();
        next.is_some_and(|(file, _)| file.starts_with(&below))
    }
}

fn read_folder(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Option<String>>,
) -> Result<(), TaskError> {
    let failed = |source| TaskError::Read { path: folder.to_path_buf(), source };
    // A folder that only happens to be called target, say a module's, is read.
    let is_package = folder.join("Cargo.toml").exists();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            if name != ".git" && !(is_package && name == "target") {
                read_folder(&entry.path(), &format!("{path}/"), files)?;
            }
        } else if name != ".git" {
            let text = kind.is_file().then(|| read_text(&entry.path(), &name)).transpose()?;
            files.insert(path, text.flatten());
        }
    }
    Ok(())
}

/// The text of a file that ends as one, or that has no ending and is a script by its first line.
fn read_text(path: &Path, name: &str) -> Result<Option<String>, TaskError> {
    let ends_as_text = TEXT_ENDINGS.iter().any(|ending| name.ends_with(ending));
    if !ends_as_text && name.contains('.') {
        return Ok(None);
    }
    let bytes =
        fs::read(path).map_err(|source| TaskError::Read { path: path.to_path_buf(), source })?;
    let is_text = ends_as_text || bytes.starts_with(b"#!");
    Ok(is_text.then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_only_by_files_below_it() {
        let tree = Tree::of(&[("docs/guide/a.md", ""), ("docs-old.md", "")]);
        for held in ["docs", "docs/", "docs/guide/", "docs/guide/a.md", ""] {
            assert!(tree.holds(held), "{held}");
        }
        for not_held in ["doc", "docs-old", "docs/guide/a", "docs/guide/b.md"] {
            assert!(!tree.holds(not_held), "{not_held}");
        }
    }

    #[test]
    fn the_walk_reads_sources_and_scripts_and_skips_git_and_build_output() {
        let root = std::env::temp_dir().join(format!("xtask-tree-{}", std::process::id()));
        for (path, text) in [
            ("Cargo.toml", "[workspace]"),
            ("target/debug/build.rs", "skipped"),
            (".git/config", "skipped"),
            ("fuzz/Cargo.toml", ""),
            ("fuzz/target/out.rs", "skipped"),
            ("crates/a/src/target/x86.rs", "read"),
            (".ci/run", "#!/bin/sh"),
            ("LICENSE-MIT", "not read"),
            ("image.png", "not read"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree::read(&root);
        fs::remove_dir_all(&root).unwrap();
        let tree = tree.unwrap();
        let texts: Vec<_> = tree.texts().map(|(path, _)| path).collect();
        assert_eq!(
            texts,
            [".ci/run", "Cargo.toml", "crates/a/src/target/x86.rs", "fuzz/Cargo.toml"]
        );
        assert_eq!(tree.paths().count(), texts.len() + 2);
    }
}
