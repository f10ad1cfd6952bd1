//! What this machine has to offer: processors, and memory that is free to use.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The number of processors this process may run on; 1 if the system does not tell.
pub(crate) fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The memory in bytes that could be used now without swapping: what /proc/meminfo calls
/// available, or less where a control group allows less. `None` if the system does not tell.
pub(crate) fn available_memory_bytes() -> Option<u64> {
    let machine = meminfo_available_bytes(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let within_groups =
        memory_groups(&groups, &mounts).iter().filter_map(|group| group.available_bytes()).min();
    Some(within_groups.map_or(machine, |group| group.min(machine)))
}

fn meminfo_available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// A mounted control group hierarchy, and where this process stands in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoryGroup {
    pub(crate) directory: PathBuf,
    pub(crate) mount_point: PathBuf,
    pub(crate) unified: bool,
}

impl MemoryGroup {
    /// What the group and those above it leave free.
    fn available_bytes(&self) -> Option<u64> {
        let inside = |directory: &&Path| directory.starts_with(&self.mount_point);
        self.directory.ancestors().take_while(inside).filter_map(|d| self.free_in(d)).min()
    }

    fn free_in(&self, directory: &Path) -> Option<u64> {
        let (limit, usage, cache) = match self.unified {
            true => ("memory.max", "memory.current", "inactive_file "),
            false => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
        };
        // `max` in the one, a number close to 2^63 in the other, mean that there is no limit.
        let limit = read_number(&directory.join(limit)).filter(|bytes| *bytes < 1 << 60)?;
        let usage = read_number(&directory.join(usage))?;
        let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix(cache)?.parse().ok());
        Some(limit.saturating_sub(usage.saturating_sub(cached.unwrap_or(0))))
    }
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The hierarchies that may limit this process's memory, from the texts of /proc/self/cgroup and
/// /proc/self/mountinfo.
pub(crate) fn memory_groups(groups: &str, mounts: &str) -> Vec<MemoryGroup> {
    groups.lines().filter_map(|line| memory_group(line, mounts)).collect()
}

fn memory_group(line: &str, mounts: &str) -> Option<MemoryGroup> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let unified = controllers.is_empty();
    if !unified && !controllers.split(',').any(|controller| controller == "memory") {
        return None;
    }
    let (root, mount_point) = mounts.lines().find_map(|mount| parse_mount(mount, unified))?;
    // In a container the path is relative to what is mounted, or the mount is of that very path.
    let relative = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    let directory = mount_point.join(relative.trim_start_matches('/'));
    Some(MemoryGroup { directory, mount_point, unified })
}

/// The root and mount point of a control group mount, by proc_pid_mountinfo(5).
fn parse_mount(line: &str, unified: bool) -> Option<(String, PathBuf)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, mount_point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let wanted = match kind.next()? {
        "cgroup2" => unified,
        "cgroup" => !unified && kind.nth(1)?.split(',').any(|option| option == "memory"),
        _ => false,
    };
    wanted.then(|| (root.to_owned(), PathBuf::from(mount_point)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
30 23 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 23 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 23 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn the_groups_that_may_limit_memory_are_found() {
        let groups = memory_groups("8:cpu:/x\n4:memory:/job/a\n0::/b\n", HYBRID_MOUNTS);
        let found: Vec<_> =
            groups.iter().map(|g| (g.directory.to_str().unwrap(), g.unified)).collect();
        assert_eq!(
            found,
            [("/sys/fs/cgroup/memory/job/a", false), ("/sys/fs/cgroup/unified/b", true)]
        );
    }

    #[test]
    fn a_mount_of_a_container_s_own_path_is_its_root() {
        let mounts = "40 30 0:28 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let groups = memory_groups("0::/docker/abc\n", mounts);
        assert_eq!(groups[0].directory, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn the_tightest_group_on_the_way_up_binds() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        let write = |path: &Path, max: &str, current: &str| {
            fs::write(path.join("memory.max"), max).unwrap();
            fs::write(path.join("memory.current"), current).unwrap();
            fs::write(path.join("memory.stat"), "anon 1\ninactive_file 100\n").unwrap();
        };
        write(&inner, "max\n", "500\n");
        write(&root.path().join("outer"), "2000\n", "1500\n");
        let group = MemoryGroup {
            directory: inner.clone(),
            mount_point: root.path().to_owned(),
            unified: true,
        };
        assert_eq!(group.available_bytes(), Some(600));
        write(&inner, "550\n", "500\n");
        assert_eq!(group.available_bytes(), Some(150));
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(available_memory_bytes().expect("Linux tells") > 1 << 20);
        assert_eq!(meminfo_available_bytes("MemFree: 1 kB\nMemAvailable:   2 kB\n"), Some(2048));
        assert_eq!(meminfo_available_bytes("MemFree: 1 kB\n"), None);
    }
}
