//! That each public item shows how it is used.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let nested = directories.iter().flat_map(|directory| sources(directory));
    nested.chain(files.into_iter().filter(|path| path.extension() == Some("rs".as_ref()))).collect()
}

/// What this line makes public, if anything of the kinds that have examples.
fn public_item(line: &str) -> Option<&str> {
    let item = line.strip_prefix("pub ")?;
    let words = item.split([' ', '(', '<']).skip_while(|word| ["const", "unsafe"].contains(word));
    let mut words = words.skip_while(|word| !["enum", "fn", "struct", "trait"].contains(word));
    let (kind, name) = (words.next()?, words.next()?);
    item.find(kind).is_some_and(|at| at <= "const unsafe ".len()).then_some(name)
}

#[test]
fn every_public_item_has_an_example_that_runs() {
    let (mut items, mut without) = (0, Vec::new());
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let mut has_example = false;
        for (index, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let line = line.trim();
            if let Some(text) = line.strip_prefix("///") {
                has_example |= ["```", "```standalone_crate"].contains(&text.trim());
                continue;
            }
            if let Some(name) = public_item(line) {
                items += 1;
                if !has_example {
                    without.push(format!("{}:{}: {name}", path.display(), index + 1));
                }
            }
            // Attributes stand between the text and the item.
            has_example &= line.starts_with("#[") || line.starts_with(")]");
        }
    }
    assert!(items > 100, "only {items} items were found");
    assert!(without.is_empty(), "without an example:\n{}", without.join("\n"));
}
