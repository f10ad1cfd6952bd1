//! Control groups: where the one of this process is to be found, and what its files say.
//!
//! `/proc/self/cgroup` names the group, `/proc/self/mountinfo` says where groups can be looked at. The two
//! need not fit: in a container the group may be named from the host's root while the mount shows
//! only the part below it. So a [`Place`] is a directory to begin with and the root of the mount, at
//! which to end; what lies in between and does not exist is passed over.
//!
//! Formats: `proc(5)`, `cgroups(7)`, and the kernel's pages on cgroup v1 and v2.

use std::path::{Component, Path, PathBuf};

/// Which files a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

impl Version {
    /// The files with a limit in bytes; the lowest binds.
    pub(super) fn limit_files(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["memory.limit_in_bytes"],
            Self::V2 => &["memory.max", "memory.high"],
        }
    }

    /// The file with the bytes in use.
    pub(super) fn used_file(self) -> &'static str {
        match self {
            Self::V1 => "memory.usage_in_bytes",
            Self::V2 => "memory.current",
        }
    }

    /// What `memory.stat` calls the file pages not in active use, of the group and those below it.
    pub(super) fn inactive_file_key(self) -> &'static str {
        match self {
            Self::V1 => "total_inactive_file",
            Self::V2 => "inactive_file",
        }
    }
}

/// Where the group of this process may be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    /// Where the groups are mounted.
    pub(super) mount: PathBuf,
    /// The process's group, below `mount`.
    pub(super) below: PathBuf,
}

impl Place {
    /// The directories of the group and of those above it, up to the mount.
    pub(super) fn levels(&self) -> impl Iterator<Item = PathBuf> {
        self.below.ancestors().map(|below| self.mount.join(below))
    }

    /// All places there may be, those where the memory controller is said to be first.
    pub(super) fn find(cgroup: &str, mountinfo: &str) -> Vec<Self> {
        let groups = cgroup.lines().filter_map(Group::parse);
        let (mut places, mut second) = (Vec::new(), Vec::new());
        for group in groups {
            let into = if group.version == Version::V1 { &mut places } else { &mut second };
            let mounts = mountinfo.lines().filter_map(Mount::parse);
            into.extend(mounts.filter(|mount| mount.version == group.version).map(|mount| Self {
                version: group.version,
                below: below(&mount.root, Path::new(group.path)),
                mount: mount.point,
            }));
        }
        places.append(&mut second);
        places
    }
}

/// A line of `/proc/self/cgroup` that concerns memory.
struct Group<'a> {
    version: Version,
    path: &'a str,
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let version = match (id, controllers) {
            ("0", "") => Version::V2,
            (_, names) if names.split(',').any(|name| name == "memory") => Version::V1,
            _ => return None,
        };
        Some(Self { version, path })
    }
}

/// A line of `/proc/self/mountinfo` that shows groups with memory.
struct Mount {
    version: Version,
    /// Which group is seen at the mount's root.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        // Optional fields stand before the dash, so the halves are counted each from its own start.
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let version = match kind {
            "cgroup2" => Version::V2,
            "cgroup" if options.split(',').any(|option| option == "memory") => Version::V1,
            _ => return None,
        };
        Some(Self { version, root: unescape(root).into(), point: unescape(point).into() })
    }
}

/// Undoes the octal escapes of blanks and backslashes, `\040` for one.
fn unescape(field: &str) -> String {
    let mut rest = field;
    let mut text = String::with_capacity(field.len());
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                text.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

/// The group at `path` as seen at a mount that shows `root`.
fn below(root: &Path, path: &Path) -> PathBuf {
    // A group outside of the process's namespace is named with `..`; only its root can be seen.
    if path.components().any(|component| component == Component::ParentDir) {
        return PathBuf::new();
    }
    let seen = path.strip_prefix(root).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
    seen.to_owned()
}

/// Bytes in a file of a group; `None` also for "no limit".
pub(super) fn bytes(text: &str) -> Option<u64> {
    // Version 1 says "no limit" by the greatest number of whole pages, and pages may have 64 KiB.
    const UNLIMITED: u64 = i64::MAX as u64 & !0xffff;
    text.trim_ascii().parse().ok().filter(|&bytes| bytes < UNLIMITED)
}

/// The value of `key` in a file of lines with a key and a number each.
pub(super) fn stat(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim_ascii().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(version: Version, mount: &str, below: &str) -> Place {
        Place { version, mount: mount.into(), below: below.into() }
    }

    #[track_caller]
    fn check(cgroup: &str, mountinfo: &str, expected: &[Place]) {
        assert_eq!(Place::find(cgroup, mountinfo), expected);
    }

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw";

    #[test]
    fn a_unified_hierarchy_has_one_place() {
        check(
            "0::/user.slice/app.scope\n",
            UNIFIED,
            &[place(Version::V2, "/sys/fs/cgroup", "user.slice/app.scope")],
        );
        check("0::/\n", UNIFIED, &[place(Version::V2, "/sys/fs/cgroup", "")]);
    }

    #[test]
    fn with_both_versions_the_one_with_the_memory_controller_is_first() {
        let cgroup = "9:name=systemd:/\n4:cpu,memory:/a/b\n3:cpuset:/\n0::/c\n";
        let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,cpu,memory\n\
             36 31 0:33 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let expected = [
            place(Version::V1, "/sys/fs/cgroup/memory", "a/b"),
            place(Version::V2, "/sys/fs/cgroup/unified", "c"),
        ];
        check(cgroup, mountinfo, &expected);
        let other_order: Vec<&str> = cgroup.lines().rev().collect();
        check(&other_order.join("\n"), mountinfo, &expected);
    }

    #[test]
    fn a_container_may_see_less_than_its_group_is_named_by() {
        let shown = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        check("4:memory:/docker/abc/x", shown, &[place(Version::V1, "/sys/fs/cgroup/memory", "x")]);
        check("4:memory:/docker/abc", shown, &[place(Version::V1, "/sys/fs/cgroup/memory", "")]);
        // A namesake is no descendant.
        let namesake = place(Version::V1, "/sys/fs/cgroup/memory", "docker/abcd");
        check("4:memory:/docker/abcd", shown, &[namesake]);
        // Outside of the namespace.
        check("0::/../other", UNIFIED, &[place(Version::V2, "/sys/fs/cgroup", "")]);
    }

    #[test]
    fn the_levels_go_from_the_group_up_to_the_mount() {
        let levels: Vec<PathBuf> = place(Version::V2, "/cg", "a/b").levels().collect();
        assert_eq!(levels, [Path::new("/cg/a/b"), Path::new("/cg/a"), Path::new("/cg/")]);
        let root: Vec<PathBuf> = place(Version::V2, "/cg", "").levels().collect();
        assert_eq!(root, [Path::new("/cg/")]);
    }

    #[test]
    fn odd_lines_are_passed_over() {
        check("", UNIFIED, &[]);
        check("0::/a", "", &[]);
        check("0\n0:\n:::\nx:memory\n5:memoryless:/a\n0:name=x:/", UNIFIED, &[]);
        check("0::/a", " - \n1 2 3 - cgroup2\n1 2 3 / - cgroup2 x rw\n- cgroup2 x rw", &[]);
        check("0::/a", "30 23 0:26 / /cg rw - ext4 cgroup2 rw", &[]);
        // A colon in the name, and blanks in the mount point.
        let spaced = "30 23 0:26 / /my\\040groups\\134x rw a:1 b:2 - cgroup2 none rw";
        check("0::/a:b", spaced, &[place(Version::V2, "/my groups\\x", "a:b")]);
        assert_eq!(unescape("\\04\\999\\400é\\"), "\\04\\999\\400é\\");
    }

    #[test]
    fn limits_are_bytes_or_none() {
        for (text, expected) in [
            ("1048576\n", Some(1 << 20)),
            ("0", Some(0)),
            ("max\n", None),
            ("9223372036854771712\n", None),
            ("9223372036854710272\n", None),
            ("18446744073709551615", None),
            ("99999999999999999999999", None),
            ("-1", None),
            ("1 2", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_key_of_the_statistics_is_found_by_its_whole_name() {
        let text = "anon 5\nactive_file 3\ninactive_file 7\ntotal_inactive_file 9\nfile_x\n";
        assert_eq!(stat(text, "inactive_file"), Some(7));
        assert_eq!(stat(text, "total_inactive_file"), Some(9));
        assert_eq!(stat(text, "file"), None);
        assert_eq!(stat("inactive_file many", "inactive_file"), None);
        assert_eq!(stat("", "inactive_file"), None);
    }
}
