//! The number of packages in `Cargo.lock` is a reviewed figure.

use super::Finding;
use super::tree::Tree;

/// The most packages that `Cargo.lock` may name, ours included.
///
/// Of these, 46 are PromQL's parser, 54 the opponents of `tripod-bench metrics` and some 175 those of
/// `tripod-bench memory`, nearly all of which come with commonware-runtime; none is built for who uses
/// the library without the feature, or the binary.
///
/// A reviewed figure: raise it in the change that needs it, and say there why the packages are worth
/// their weight. It is kept close to the true count, so that an unnoticed tail of dependencies fails.
const PACKAGES_MAX: usize = 455;

const FILE: &str = "Cargo.lock";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(FILE) else {
        let problem = "there is no lock file, so builds are not repeatable";
        return vec![Finding::new(FILE, problem, "run `cargo metadata` and add it")];
    };
    let packages = packages_count(text);
    if packages <= PACKAGES_MAX {
        return Vec::new();
    }
    vec![Finding::new(
        FILE,
        format!("{packages} packages, more than the limit of {PACKAGES_MAX}"),
        "do without, switch features off, or raise the limit in xtask/src/tidy/lock.rs with a reason",
    )]
}

fn packages_count(text: &str) -> usize {
    text.lines().filter(|line| *line == "[[package]]").count()
}

#[cfg(test)]
mod tests {
    use super::super::assert_places;
    use super::*;

    fn lock(packages: usize) -> String {
        format!("version = 4\n{}", "\n[[package]]\nname = \"a\"\n".repeat(packages))
    }

    #[test]
    fn one_package_above_the_limit_is_found_and_the_limit_is_fine() {
        assert_places(check, &[(FILE, &lock(PACKAGES_MAX + 1))], &[FILE]);
        assert_places(check, &[(FILE, &lock(PACKAGES_MAX))], &[]);
    }

    #[test]
    fn a_missing_lock_file_is_found() {
        assert_places(check, &[("fuzz/Cargo.lock", &lock(1))], &[FILE]);
    }
}
