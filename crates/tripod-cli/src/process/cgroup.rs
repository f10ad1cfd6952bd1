//! Control groups (version 2), where the system lets us make some: the kernel then accounts for
//! the memory of a command exactly, and stops all of its processes in one step.
//!
//! A group of the run stands beside or below our own, whichever we may write to and has the
//! `memory` controller; as root, in a systemd scope with `Delegate=yes`, or below a user's
//! `app.slice` that is the case. Elsewhere (version 1, most containers) [`CgroupRoot::create`]
//! says why not, and the sums from /proc serve instead.
#![allow(unsafe_code, reason = "entering a group before exec needs a hook in the forked child")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{MemoryGroup, memory_groups};

/// The group that holds those of all commands; removed when dropped.
#[derive(Debug)]
pub(crate) struct CgroupRoot {
    directory: PathBuf,
}

/// The group of one command; killed and removed when dropped.
#[derive(Debug)]
pub(crate) struct CommandGroup {
    directory: PathBuf,
}

impl CgroupRoot {
    /// Makes a group for this run.
    ///
    /// # Errors
    /// A phrase for each place that was tried, for the debug log.
    pub(crate) fn create() -> Result<Self, String> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let unified = memory_groups(&groups, &mounts).into_iter().find(|group| group.unified);
        let Some(own) = unified else {
            return Err("no control groups of version 2 are mounted".to_owned());
        };
        let name = format!("tripod-{}", std::process::id());
        let mut refusals = Vec::new();
        for place in candidates(&own) {
            match Self::create_in(place, &name) {
                Ok(root) => return Ok(root),
                Err(error) => refusals.push(format!("{}: {error}", place.display())),
            }
        }
        Err(refusals.join("; "))
    }

    fn create_in(place: &Path, name: &str) -> io::Result<Self> {
        // Refused (EBUSY) where processes stand in the group itself; it may be on already, though.
        let _ = fs::write(place.join("cgroup.subtree_control"), "+memory");
        let directory = place.join(name);
        fs::create_dir(&directory)?;
        let root = Self { directory };
        fs::write(root.directory.join("cgroup.subtree_control"), "+memory")?;
        Ok(root)
    }

    /// Makes the group of one command.
    ///
    /// # Errors
    /// If the system refuses, as beyond `cgroup.max.descendants`.
    pub(crate) fn command(&self, name: &str) -> io::Result<CommandGroup> {
        let directory = self.directory.join(name);
        fs::create_dir(&directory)?;
        Ok(CommandGroup { directory })
    }
}

/// Our own group, then the one that holds it.
fn candidates(own: &MemoryGroup) -> impl Iterator<Item = &Path> {
    own.directory.ancestors().take(2).filter(|place| place.starts_with(&own.mount_point))
}

impl Drop for CgroupRoot {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

impl CommandGroup {
    /// Makes the child of `command` enter the group before it becomes the program.
    ///
    /// # Errors
    /// If the group's list of processes cannot be written.
    pub(crate) fn enter_on_exec(&self, command: &mut Command) -> io::Result<()> {
        let processes = File::options().write(true).open(self.directory.join("cgroup.procs"))?;
        // SAFETY: between fork and exec only `write` is called, which is async-signal-safe; "0"
        // means the process that writes.
        unsafe {
            command.pre_exec(move || (&processes).write_all(b"0"));
        }
        Ok(())
    }

    /// The memory that cannot be dropped without losing something: all but the page cache.
    pub(crate) fn used_bytes(&self) -> Option<u64> {
        used_bytes(&fs::read_to_string(self.directory.join("memory.stat")).ok()?)
    }

    /// Stops every process in the group.
    pub(crate) fn kill(&self) {
        kill_group(&self.directory);
    }
}

impl Drop for CommandGroup {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// Sums what counts of memory.stat.
fn used_bytes(stat: &str) -> Option<u64> {
    let counted = |name: &str| matches!(name, "anon" | "shmem" | "kernel");
    let lines = stat.lines().filter_map(|line| line.split_once(' '));
    let counted = lines.filter(|(name, _)| counted(name));
    counted.filter_map(|(_, bytes)| bytes.parse::<u64>().ok()).reduce(|sum, bytes| sum + bytes)
}

fn kill_group(directory: &Path) {
    if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Before Linux 5.14.
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        super::tree::signal_tree(pid, rustix::process::Signal::KILL);
    }
}

/// Removes a group. Its processes are stopped first if there are any: a group cannot be removed
/// before they are gone.
fn remove(directory: &Path) {
    for _ in 0..100 {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => kill_group(directory),
            _ => return,
        }
        std::thread::yield_now();
    }
    tracing::warn!(group = %directory.display(), "control group is still in use and was left");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_cache_does_not_count_as_used() {
        let stat = "anon 1000\nfile 9999\nkernel 30\nkernel_stack 20\nshmem 4\ninactive_anon 7\n";
        assert_eq!(used_bytes(stat), Some(1034));
        assert_eq!(used_bytes("file 1\n"), None);
    }

    #[test]
    fn the_own_group_is_tried_first_and_nothing_above_the_mount() {
        let group = |directory: &str| MemoryGroup {
            directory: PathBuf::from(directory),
            mount_point: PathBuf::from("/cg"),
            unified: true,
        };
        let places = |group: &MemoryGroup| {
            candidates(group).map(|place| place.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(places(&group("/cg/a/b")), ["/cg/a/b", "/cg/a"]);
        assert_eq!(places(&group("/cg")), ["/cg"]);
    }

    #[test]
    fn a_place_without_the_controller_is_refused_with_a_reason() {
        let place = tempfile::tempdir().unwrap();
        let missing = place.path().join("missing");
        let error = CgroupRoot::create_in(&missing, "tripod-test").expect_err("no such group");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
