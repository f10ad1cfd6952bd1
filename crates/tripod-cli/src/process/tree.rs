//! Process trees as /proc shows them: their memory, and how to stop them.
//!
//! A process that is gone has no memory. One that cannot be read for want of descriptors or memory
//! is an error, never a process without memory: decisions hang on it.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, kill_process, kill_process_group, waitid,
};

use super::is_shortage;

/// What /proc/PID/stat says of a process, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: i32,
    pub(crate) is_zombie: bool,
    /// Stopped by a signal: by SIGSTOP or one of its kind.
    is_stopped: bool,
    threads: u64,
    rss_pages: u64,
}

/// The memory of a process tree at one moment.
#[derive(Debug, Default, Clone)]
pub(crate) struct TreeUsage {
    /// Sum of the resident set sizes, in bytes. Pages shared between the processes count once
    /// for each of them, so this is an upper bound.
    pub(crate) rss_bytes: u64,
    /// The processes, the root first.
    pub(crate) pids: Vec<i32>,
    /// Whether any of them stands still because of a signal.
    pub(crate) has_stopped: bool,
}

impl TreeUsage {
    /// Adds `child` of this process and the tree below it. An id that is not a child's, because it
    /// went to another process meanwhile, is left out.
    ///
    /// # Errors
    /// If the system is short of something. What was read until then has been added.
    pub(crate) fn add_child_tree(&mut self, child: i32) -> io::Result<()> {
        match read_stat(child)? {
            Some(stat) if stat.parent == own_pid() => self.add_tree(child),
            _ => Ok(()),
        }
    }

    /// Adds the tree below `root`. Processes that end meanwhile are left out.
    fn add_tree(&mut self, root: i32) -> io::Result<()> {
        let mut unvisited = vec![root];
        while let Some(pid) = unvisited.pop() {
            let Some(stat) = read_stat(pid)? else { continue };
            self.rss_bytes += stat.rss_pages * page_bytes();
            self.has_stopped |= stat.is_stopped;
            self.pids.push(pid);
            append_children(pid, stat.threads, &mut unvisited)?;
        }
        Ok(())
    }

    /// Sum of the proportional set sizes, in bytes: shared pages count once. `None` where the
    /// kernel does not tell.
    ///
    /// Costs a walk through the page tables of each process, so it is asked for only when the
    /// cheaper upper bound would lead to a decision.
    ///
    /// # Errors
    /// If the system is short of something.
    pub(crate) fn pss_bytes(&self) -> io::Result<Option<u64>> {
        let mut sum = None;
        for pid in &self.pids {
            if let Some(bytes) = read_pss(*pid)? {
                sum = Some(sum.unwrap_or(0) + bytes);
            }
        }
        Ok(sum)
    }
}

/// The children of this process that are alive.
///
/// # Errors
/// If the system is short of something.
pub(crate) fn own_children() -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    append_children(own_pid(), u64::MAX, &mut children)?;
    let mut alive = Vec::with_capacity(children.len());
    for pid in children {
        if read_stat(pid)?.is_some_and(|stat| !stat.is_zombie) {
            alive.push(pid);
        }
    }
    Ok(alive)
}

/// Stops everything below this process with SIGKILL and returns how many processes that were.
///
/// Being a child subreaper, the caller inherits whatever loses its parent meanwhile, so the rounds
/// end when nothing is left. The caller reaps.
pub(crate) fn kill_all_descendants() -> usize {
    let mut killed = HashSet::new();
    // A process may fork while the tree is being read; each round finds what the last one missed.
    // The bound only guards against a process that cannot be killed (uninterruptible sleep).
    for _ in 0..1000 {
        let descendants = descendants_of(own_pid());
        if descendants.is_empty() {
            break;
        }
        for pid in descendants {
            kill(pid, Signal::KILL);
            killed.insert(pid);
        }
        std::thread::yield_now();
    }
    killed.len()
}

/// Sends `signal` to `child`, if it is a child of this process, and to everything below it.
///
/// To its process group first, in one step: none that forks meanwhile is missed, and nothing has to
/// be read for it.
///
/// # Errors
/// If the system is short of something. Of those that have left the group some are missed then.
pub(crate) fn signal_child_tree(child: i32, signal: Signal) -> io::Result<()> {
    let Some(root) = Pid::from_raw(child).filter(|pid| is_own_child(*pid)) else { return Ok(()) };
    // Read before the signal: what loses its parent by that is no longer below it.
    let mut tree = TreeUsage::default();
    let read = tree.add_child_tree(child);
    let is_of_group = |pid: Pid| getpgid(Some(pid)).is_ok_and(|group| group == root);
    let elsewhere: Vec<Pid> = tree
        .pids
        .into_iter()
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != root && !is_of_group(*pid))
        .collect();
    // They may have ended meanwhile, which is as good.
    let _ = match is_of_group(root) {
        true => kill_process_group(root, signal),
        false => kill_process(root, signal),
    };
    for pid in elsewhere {
        let _ = kill_process(pid, signal);
    }
    read
}

/// Whether `pid` is a child of this process that was not reaped. Takes no descriptor.
fn is_own_child(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).is_ok()
}

/// Stops one process.
pub(crate) fn kill_process_now(pid: i32) {
    kill(pid, Signal::KILL);
}

/// The living processes below `ancestor`, found by one pass over /proc: slower than following
/// children, but it needs no kernel option and misses nothing that stands still.
fn descendants_of(ancestor: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let processes: Vec<(i32, Stat)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, read_stat(pid).ok()??)))
        .collect();
    let mut family = HashSet::from([ancestor]);
    loop {
        let before = family.len();
        for (pid, stat) in &processes {
            if family.contains(&stat.parent) {
                family.insert(*pid);
            }
        }
        if family.len() == before {
            break;
        }
    }
    let alive = processes.iter().filter(|(pid, stat)| *pid != ancestor && !stat.is_zombie);
    alive.map(|(pid, _)| *pid).filter(|pid| family.contains(pid)).collect()
}

/// The value of `name` in the environment that `pid` was started with.
pub(crate) fn environment_variable(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut entries = environment.split(|byte| *byte == 0);
    let value = entries.find_map(|entry| {
        entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
    })?;
    String::from_utf8(value.to_vec()).ok()
}

fn kill(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended meanwhile, which is as good.
        let _ = kill_process(pid, signal);
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

fn append_children(pid: i32, threads: u64, children: &mut Vec<i32>) -> io::Result<()> {
    if threads == 1 {
        return append_children_of_thread(pid, &pid.to_string(), children);
    }
    let Some(entries) = unless_short(fs::read_dir(format!("/proc/{pid}/task")))? else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if let Some(thread) = entry.file_name().to_str() {
            append_children_of_thread(pid, thread, children)?;
        }
    }
    Ok(())
}

fn append_children_of_thread(pid: i32, thread: &str, children: &mut Vec<i32>) -> io::Result<()> {
    let list = unless_short(fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")))?;
    let list = list.unwrap_or_default();
    children.extend(list.split_ascii_whitespace().filter_map(|id| id.parse::<i32>().ok()));
    Ok(())
}

/// What was read; `None` if there is nothing to read (any more), or it is kept from us for good.
///
/// # Errors
/// If the system is short of something, which says nothing about what was to be read.
fn unless_short<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if is_shortage(&error) => Err(error),
        read => Ok(read.ok()),
    }
}

fn read_stat(pid: i32) -> io::Result<Option<Stat>> {
    let mut line = [0; 1024];
    let read = fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut f| f.read(&mut line));
    Ok(unless_short(read)?.and_then(|len| parse_stat(&line[..len])))
}

/// Parses proc_pid_stat(5). The name in parentheses may hold anything, so fields are counted from
/// the last closing one.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&line[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let threads = fields.nth(15)?.parse().ok()?;
    let rss_pages = fields.nth(3)?.parse().unwrap_or(0);
    let (is_zombie, is_stopped) = (matches!(state, "Z" | "X"), state == "T");
    Some(Stat { parent, is_zombie, is_stopped, threads, rss_pages })
}

fn read_pss(pid: i32) -> io::Result<Option<u64>> {
    let rollup = unless_short(fs::read_to_string(format!("/proc/{pid}/smaps_rollup")))?;
    Ok(rollup.as_deref().and_then(parse_pss))
}

fn parse_pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line =
            b"42 (a) b ) R (x) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 99 1000 555 18";
        let stat = parse_stat(line).expect("a good line");
        let (is_zombie, is_stopped) = (false, false);
        assert_eq!(stat, Stat { parent: 7, is_zombie, is_stopped, threads: 3, rss_pages: 555 });
        let stopped = String::from_utf8_lossy(line).replace(" S ", " T ");
        assert!(parse_stat(stopped.as_bytes()).expect("a good line").is_stopped);
    }

    #[test]
    fn a_cut_line_is_no_stat() {
        assert_eq!(parse_stat(b"42 (sh) S 7 42"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn the_proportional_size_is_read_in_kibibytes() {
        let rollup = "00400000-7fff [rollup]\nRss:  900 kB\nPss:   123 kB\nPss_Dirty: 5 kB\n";
        assert_eq!(parse_pss(rollup), Some(123 * 1024));
        assert_eq!(parse_pss("Rss: 1 kB\n"), None);
    }

    #[test]
    fn the_own_process_has_memory_and_a_parent() {
        let mut usage = TreeUsage::default();
        usage.add_tree(own_pid()).expect("there is no shortage");
        assert!(usage.rss_bytes > 500_000, "{usage:?}");
        let pss = usage.pss_bytes().expect("there is no shortage").expect("this kernel tells");
        assert!(pss > 100_000 && pss <= usage.rss_bytes * 2, "{pss} against {usage:?}");
    }

    #[test]
    fn the_environment_a_process_was_started_with_is_readable() {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "read line"])
            .env("TRIPOD_TASK", "one=two")
            .env("XTRIPOD_TASK", "other")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let pid = i32::try_from(child.id()).expect("an id fits");
        // Between fork and exec the child still has this process's environment.
        let value = std::iter::repeat_with(|| environment_variable(pid, "TRIPOD_TASK"))
            .find_map(|value| value);
        assert_eq!(value.as_deref(), Some("one=two"));
        assert!(own_children().expect("there is no shortage").contains(&pid));
        signal_child_tree(pid, Signal::KILL).expect("there is no shortage");
        assert!(!child.wait().expect("it ends").success());
    }

    #[test]
    fn a_shortage_is_not_taken_for_a_process_that_is_gone() {
        let read = |number| unless_short::<()>(Err(io::Error::from_raw_os_error(number)));
        for shortage in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
            assert_eq!(
                read(shortage).expect_err("nothing is known").raw_os_error(),
                Some(shortage)
            );
        }
        for absence in [libc::ENOENT, libc::ESRCH, libc::EACCES] {
            assert_eq!(read(absence).expect("it is known"), None);
        }
    }

    #[test]
    fn a_signal_reaches_those_of_the_group_and_those_that_have_left_it() {
        use std::io::{BufRead, BufReader};
        use std::os::unix::process::CommandExt;
        let script = "trap '' PIPE; sleep 1000 & setsid sh -c 'echo up; exec sleep 1000' & wait";
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("it says that it is up");
        let pid = i32::try_from(child.id()).expect("an id fits");
        signal_child_tree(pid, Signal::STOP).expect("there is no shortage");
        let states = || {
            let mut tree = TreeUsage::default();
            tree.add_child_tree(pid).expect("there is no shortage");
            let stats = tree.pids.iter().filter_map(|pid| read_stat(*pid).ok()?);
            stats.map(|stat| stat.is_stopped).collect::<Vec<_>>()
        };
        let become_all = |wanted| (0..10_000).any(|_| states() == [wanted; 3]);
        // A signal to stop is acted upon when it is the turn of the process.
        assert!(become_all(true), "{:?}", states());
        signal_child_tree(pid, Signal::CONT).expect("there is no shortage");
        assert!(become_all(false), "{:?}", states());
        signal_child_tree(pid, Signal::KILL).expect("there is no shortage");
        child.wait().expect("it ends");
        // All hold the pipe: it ends with the last of them.
        assert_eq!(said.read_line(&mut line).expect("it can be read"), 0);
    }
}
