//! Control groups (version 2), where the system lets us make some: the kernel then accounts for
//! the memory of a command exactly, and stops all of its processes in one step.
//!
//! A group of the run stands below our own or beside it, whichever we may write to and has the
//! `memory` controller; as root, or below a user's `app.slice`, that is the case. Beside it only
//! if our own sets no limits: they would not hold there. Elsewhere (version 1, most containers)
//! [`CgroupRoot::create`] says why not, and the sums from /proc serve instead.
//!
//! A run that is killed by SIGKILL leaves its groups behind, empty; the next one at the same place
//! removes them. The lock on the directory of a run tells that it is alive.
//!
//! xtask/verify/cgroup.sh checks all of it on a kernel of its own.
#![allow(unsafe_code, reason = "entering a group before exec needs a hook in the forked child")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::machine::{MemoryGroup, memory_groups};

/// What the name of a run's group begins with; its process id follows.
const NAME_PREFIX: &str = "tripod-";
/// The limits that a command would escape from in a group beside ours. `pids.max` is not among
/// them: systemd sets it everywhere.
const LIMITS: [&str; 6] =
    ["memory.max", "memory.high", "memory.swap.max", "cpu.max", "cpuset.cpus", "io.max"];
/// How long killed processes may take to leave their group: of a command, for which the others
/// have to wait, and of the run, when it is over.
const COMMAND_GRACE: Duration = Duration::from_millis(5);
const RUN_GRACE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The group that holds those of all commands; removed when dropped.
#[derive(Debug)]
pub(crate) struct CgroupRoot {
    directory: PathBuf,
    /// Locked for as long as the run lives.
    alive: File,
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
        let name = format!("{NAME_PREFIX}{}", std::process::id());
        let mut refusals = Vec::new();
        for place in candidates(&own) {
            let allowed = if place == own.directory { Ok(()) } else { may_leave(&own.directory) };
            match allowed.and_then(|()| Self::create_in(place, &name)) {
                Ok(root) => return Ok(root),
                Err(error) => refusals.push(format!("{}: {error}", place.display())),
            }
        }
        Err(refusals.join("; "))
    }

    fn create_in(place: &Path, name: &str) -> io::Result<Self> {
        remove_leftovers(place);
        // Nothing is written; but a process can enter a group below only if this is allowed.
        File::options().write(true).open(place.join("cgroup.procs"))?;
        // Refused (EBUSY) where processes stand in the group itself; it may be on already, though.
        let _ = fs::write(place.join("cgroup.subtree_control"), "+memory");
        let directory = place.join(name);
        fs::create_dir(&directory)?;
        let alive = File::open(&directory)?;
        let root = Self { directory, alive };
        root.alive.try_lock()?;
        let enabled = fs::write(root.directory.join("cgroup.subtree_control"), "+memory");
        enabled.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other("no memory controller for groups below"),
            _ => error,
        })?;
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

/// Whether a process may leave `own` for a group beside it without getting more than it was given.
fn may_leave(own: &Path) -> io::Result<()> {
    let is_of_a_run = |name: &str| name.starts_with(NAME_PREFIX);
    let beside = own.parent().and_then(|parent| parent.file_name()?.to_str());
    if beside.is_some_and(is_of_a_run) {
        return Err(io::Error::other("the run is itself a command of another one"));
    }
    for name in LIMITS {
        let limit = fs::read_to_string(own.join(name)).unwrap_or_default();
        let limit = limit.trim();
        if !limit.is_empty() && !limit.starts_with("max") {
            let text = format!("{name} of {} ({limit}) would not hold there", own.display());
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}

/// Removes the groups of runs that were killed, unless processes are still in them.
fn remove_leftovers(place: &Path) {
    for directory in groups_within(place) {
        let name = directory.file_name().and_then(|name| name.to_str());
        let Some(id) = name.and_then(|name| name.strip_prefix(NAME_PREFIX)) else { continue };
        let Ok(id) = id.parse::<u32>() else { continue };
        // A run has no lock yet when it has just made its group. A process id says nothing of runs
        // in another namespace of processes: for those there is the lock. Our own id may have been
        // that of a run before, and is again and again in containers.
        let is_other = id != std::process::id();
        if is_other && Path::new("/proc").join(id.to_string()).exists() {
            continue;
        }
        let Ok(file) = File::open(&directory) else { continue };
        if file.try_lock().is_ok() {
            remove_groups_within(&directory);
            let _ = fs::remove_dir(&directory);
        }
    }
}

impl Drop for CgroupRoot {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.directory, RUN_GRACE) {
            tracing::warn!(group = %self.directory.display(), %error, "control group was left");
        }
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

    /// Whether there are processes in the group that have not given back their memory.
    pub(crate) fn is_populated(&self) -> bool {
        let events = fs::read_to_string(self.directory.join("cgroup.events"));
        events.is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// Stops every process in the group.
    pub(crate) fn kill(&self) {
        kill_group(&self.directory);
    }
}

impl Drop for CommandGroup {
    fn drop(&mut self) {
        // What is left now is removed with the group of the run.
        let _ = remove(&self.directory, COMMAND_GRACE);
    }
}

/// Sums what counts of memory.stat. Of the kernel's own that leaves out what it drops by itself
/// when memory is short: it remembers every file name that a command has come across.
fn used_bytes(stat: &str) -> Option<u64> {
    let field = |wanted: &str| {
        let mut fields = stat.lines().filter_map(|line| line.split_once(' '));
        fields.find_map(|(name, bytes)| (name == wanted).then(|| bytes.parse::<u64>().ok())?)
    };
    // Counted since Linux 5.18.
    let kernel = field("kernel").unwrap_or(0);
    let kernel = kernel.saturating_sub(field("slab_reclaimable").unwrap_or(0));
    Some(field("anon")? + field("shmem").unwrap_or(0) + kernel)
}

fn kill_group(directory: &Path) {
    if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Before Linux 5.14.
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        super::tree::kill_process_now(pid);
    }
}

/// Removes a group, and those that a command has made within it. Its processes are stopped first
/// if there are any: a group cannot be removed before they are gone.
fn remove(directory: &Path, grace: Duration) -> io::Result<()> {
    let deadline = Instant::now() + grace;
    loop {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                kill_group(directory);
                remove_groups_within(directory);
                if Instant::now() >= deadline {
                    return Err(error);
                }
            }
            result => return result,
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Removes the groups below `directory` that have no processes.
fn remove_groups_within(directory: &Path) {
    for group in groups_within(directory) {
        remove_groups_within(&group);
        let _ = fs::remove_dir(&group);
    }
}

fn groups_within(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_group = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_group).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_do_not_count_as_used() {
        let stat = "anon 1000\nfile 9999\nkernel 30\nkernel_stack 20\nshmem 4\n\
                    inactive_anon 7\nslab_reclaimable 25\nslab 28\n";
        assert_eq!(used_bytes(stat), Some(1009));
        assert_eq!(used_bytes("anon 1000\nslab_reclaimable 25\n"), Some(1000), "before 5.18");
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

    #[test]
    fn a_group_with_limits_and_one_of_another_run_are_not_left() {
        let place = tempfile::tempdir().unwrap();
        let own = place.path().join("own");
        fs::create_dir(&own).unwrap();
        let set = |name: &str, limit: &str| fs::write(own.join(name), limit).unwrap();
        set("memory.max", "max\n");
        set("cpu.max", "max 100000\n");
        set("cpuset.cpus", "\n");
        assert!(may_leave(&own).is_ok());
        set("memory.high", "1048576\n");
        let refusal = may_leave(&own).expect_err("there is a limit").to_string();
        assert!(refusal.contains("memory.high") && refusal.contains("1048576"), "{refusal}");
        let refusal = may_leave(&place.path().join("tripod-1/1-1-1"));
        assert!(refusal.expect_err("not ours").to_string().contains("another"));
    }

    #[test]
    fn groups_of_dead_runs_are_removed_and_those_of_living_ones_stay() {
        let place = tempfile::tempdir().unwrap();
        let group = |name: &str| {
            let directory = place.path().join(name);
            fs::create_dir_all(directory.join("1-1-1")).unwrap();
            directory
        };
        // No process has an id above 2^22, by proc_sys_kernel(5).
        let dead = group("tripod-4294967295");
        let earlier = group(&format!("tripod-{}", std::process::id()));
        let living = group("tripod-1");
        let elsewhere = group("tripod-4294967294");
        let lock = File::open(&elsewhere).unwrap();
        lock.lock().unwrap();
        let other = group("tripod-x");
        remove_leftovers(place.path());
        assert!(!dead.exists() && !earlier.exists());
        assert!(living.exists() && elsewhere.exists() && other.exists());
    }

    #[test]
    fn a_group_is_removed_with_those_within_it() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("group/inner/innermost")).unwrap();
        let group = place.path().join("group");
        remove_groups_within(&group);
        assert!(remove(&group, Duration::ZERO).is_ok());
        assert!(!group.exists());
    }
}
