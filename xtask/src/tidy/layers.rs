//! A crate uses only what stands below it.
//!
//! Development dependencies obey the same order, so that a leg's tests never need the facade.

use toml::{Table, Value};

use super::Finding;
use super::manifests::{Member, members, workspace};
use super::tree::Tree;

/// What a crate may use of ours.
enum Uses {
    Anything,
    Only(&'static [&'static str]),
}

/// Every crate of the workspace; the table of the same content is in `ARCHITECTURE.md`.
const LAYERS: [(&str, Uses); 12] = [
    ("tripod-history", Uses::Only(&[])),
    ("tripod-metrics", Uses::Only(&["tripod-history"])),
    ("tripod-memory", Uses::Only(&["tripod-metrics"])),
    ("tripod-scheduler", Uses::Only(&["tripod-metrics", "tripod-memory"])),
    ("tripod-queue", Uses::Only(&["tripod-metrics"])),
    ("tripod-cluster", Uses::Only(&["tripod-queue", "tripod-metrics"])),
    ("tripod-api", Uses::Only(&[])),
    (
        "tripod",
        Uses::Only(&[
            "tripod-metrics",
            "tripod-memory",
            "tripod-scheduler",
            "tripod-queue",
            "tripod-cluster",
        ]),
    ),
    ("tripod-cli", Uses::Only(&["tripod", "tripod-api"])),
    ("tripod-dashboard", Uses::Only(&["tripod-api"])),
    ("tripod-bench", Uses::Anything),
    ("xtask", Uses::Only(&[])),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let workspace = workspace(tree);
    let members = members(tree);
    let is_ours = |name: &str| uses_of(name).is_some() || members.iter().any(|m| m.name == name);
    members
        .iter()
        .flat_map(|member| {
            let used = dependencies(&member.manifest, &workspace).into_iter();
            let used = used.filter(|name| *name != member.name && is_ours(name));
            check_member(member, used)
        })
        .collect()
}

fn check_member(member: &Member, used: impl Iterator<Item = String>) -> Vec<Finding> {
    let Member { name, path, .. } = member;
    let allowed = match uses_of(name) {
        Some(Uses::Anything) => return Vec::new(),
        Some(Uses::Only(allowed)) => allowed,
        None => {
            let problem = format!("crate `{name}` has no place among the layers");
            let remedy = "give it one in xtask/src/tidy/layers.rs and ARCHITECTURE.md";
            return vec![Finding::new(path, problem, remedy)];
        }
    };
    used.filter(|used| !allowed.contains(&used.as_str()))
        .map(|used| {
            let may = match allowed {
                [] => "nothing of ours".to_owned(),
                some => some.join(", "),
            };
            let problem = format!("`{name}` depends on `{used}`, which is not below it");
            let remedy = format!("remove it; `{name}` may use: {may}");
            Finding::new(path, problem, remedy)
        })
        .collect()
}

fn uses_of(name: &str) -> Option<&'static Uses> {
    let layer = LAYERS.iter().find(|(layer, _)| *layer == name);
    layer.map(|(_, uses)| uses)
}

/// Names of all packages that a manifest depends on, in any section and for any target.
fn dependencies(manifest: &Table, workspace: &Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values);
    let scopes = targets.filter_map(Value::as_table).chain([manifest]);
    let mut names: Vec<String> = scopes
        .flat_map(|scope| {
            ["dependencies", "build-dependencies", "dev-dependencies"]
                .into_iter()
                .filter_map(|section| scope.get(section)?.as_table())
        })
        .flatten()
        .map(|(key, dependency)| package_name(key, dependency, workspace))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The package behind a key: a dependency can be renamed here or in the workspace.
fn package_name(key: &str, dependency: &Value, workspace: &Table) -> String {
    let inherited = || workspace.get("dependencies")?.get(key)?.get("package");
    let package = dependency.get("package").or_else(inherited);
    package.and_then(Value::as_str).unwrap_or(key).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::assert_places;
    use super::*;

    const MEMORY: &str = "crates/tripod-memory/Cargo.toml";

    #[track_caller]
    fn assert_memory(dependencies: &str, is_allowed: bool) {
        let manifest = format!("[package]\nname = \"tripod-memory\"\n{dependencies}");
        let root = "[workspace.dependencies]\nlines = { package = \"tripod-queue\", path = \"q\" }";
        let files = [("Cargo.toml", root), (MEMORY, &manifest)];
        let places: &[&str] = if is_allowed { &[] } else { &[MEMORY] };
        assert_places(check, &files, places);
    }

    #[test]
    fn a_crate_may_use_what_is_below_it_and_the_outside() {
        assert_memory("[dependencies]\ntripod-metrics.workspace = true", true);
        assert_memory("[dependencies]\nserde = \"1\"\ntripod-like = \"1\"", true);
        assert_memory("[dev-dependencies]\ntripod-memory = { path = \".\" }", true);
    }

    #[test]
    fn a_crate_above_or_beside_is_found_in_every_section() {
        for section in [
            "dependencies",
            "build-dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
            "target.'cfg(unix)'.dev-dependencies",
        ] {
            let manifest = format!("[{section}]\ntripod-queue.workspace = true");
            assert_memory(&manifest, false);
        }
        assert_memory("[dependencies.tripod]\nworkspace = true", false);
    }

    #[test]
    fn a_renamed_dependency_is_seen_through() {
        assert_memory("[dependencies]\nfacade = { package = \"tripod\", path = \"..\" }", false);
        assert_memory("[dependencies]\nlines.workspace = true", false);
    }

    #[test]
    fn only_the_bench_may_use_anything() {
        let uses = "[dependencies]\ntripod-cli.workspace = true";
        let bench = format!("[package]\nname = \"tripod-bench\"\n{uses}");
        let xtask = format!("[package]\nname = \"xtask\"\n{uses}");
        let files = [
            ("crates/tripod-bench/Cargo.toml", bench.as_str()),
            ("xtask/Cargo.toml", xtask.as_str()),
        ];
        assert_places(check, &files, &["xtask/Cargo.toml"]);
    }

    #[test]
    fn a_crate_without_a_place_is_found_and_cannot_be_used() {
        let utils = "[package]\nname = \"utils\"";
        let queue = "[package]\nname = \"tripod-queue\"\n[dependencies]\nutils.workspace = true";
        let files = [("crates/tripod-queue/Cargo.toml", queue), ("crates/utils/Cargo.toml", utils)];
        assert_places(check, &files, &[files[0].0, files[1].0]);
    }

    #[test]
    fn the_layers_are_in_order() {
        for (index, (name, uses)) in LAYERS.iter().enumerate() {
            let Uses::Only(allowed) = uses else { continue };
            for used in *allowed {
                let below = LAYERS[..index].iter().any(|(layer, _)| layer == used);
                assert!(below, "{used} does not stand before {name}");
            }
        }
    }
}
