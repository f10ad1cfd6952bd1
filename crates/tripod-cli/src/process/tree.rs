//! Process trees as /proc shows them: their memory, and how to stop them.

use std::collections::HashSet;
use std::fs;
use std::io::Read;

use rustix::process::{Pid, Signal, kill_process};

/// What /proc/PID/stat says of a process, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: i32,
    pub(crate) is_zombie: bool,
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
}

impl TreeUsage {
    /// Adds `child` of this process and the tree below it. An id that is not a child's, because it
    /// went to another process meanwhile, is left out.
    pub(crate) fn add_child_tree(&mut self, child: i32) {
        if read_stat(child).is_some_and(|stat| stat.parent == own_pid()) {
            self.add_tree(child);
        }
    }

    /// Adds the tree below `root`. Processes that end meanwhile are left out.
    fn add_tree(&mut self, root: i32) {
        let mut unvisited = vec![root];
        while let Some(pid) = unvisited.pop() {
            let Some(stat) = read_stat(pid) else { continue };
            self.rss_bytes += stat.rss_pages * page_bytes();
            self.pids.push(pid);
            append_children(pid, stat.threads, &mut unvisited);
        }
    }

    /// Sum of the proportional set sizes, in bytes: shared pages count once. `None` where the
    /// kernel does not tell.
    ///
    /// Costs a walk through the page tables of each process, so it is asked for only when the
    /// cheaper upper bound would lead to a decision.
    pub(crate) fn pss_bytes(&self) -> Option<u64> {
        self.pids.iter().filter_map(|pid| read_pss(*pid)).reduce(|sum, pss| sum + pss)
    }
}

/// The children of this process that are alive.
pub(crate) fn own_children() -> Vec<i32> {
    let mut children = Vec::new();
    append_children(own_pid(), u64::MAX, &mut children);
    children.retain(|pid| read_stat(*pid).is_some_and(|stat| !stat.is_zombie));
    children
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
pub(crate) fn signal_child_tree(child: i32, signal: Signal) {
    let mut tree = TreeUsage::default();
    tree.add_child_tree(child);
    for pid in tree.pids {
        kill(pid, signal);
    }
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
        .filter_map(|pid| Some((pid, read_stat(pid)?)))
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

fn append_children(pid: i32, threads: u64, children: &mut Vec<i32>) {
    if threads == 1 {
        append_children_of_thread(pid, &pid.to_string(), children);
        return;
    }
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
    for entry in entries.flatten() {
        if let Some(thread) = entry.file_name().to_str() {
            append_children_of_thread(pid, thread, children);
        }
    }
}

fn append_children_of_thread(pid: i32, thread: &str, children: &mut Vec<i32>) {
    if let Ok(list) = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")) {
        children.extend(list.split_ascii_whitespace().filter_map(|id| id.parse::<i32>().ok()));
    }
}

pub(crate) fn read_stat(pid: i32) -> Option<Stat> {
    let mut line = [0; 1024];
    let len = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
    parse_stat(&line[..len])
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
    Some(Stat { parent, is_zombie: matches!(state, "Z" | "X"), threads, rss_pages })
}

fn read_pss(pid: i32) -> Option<u64> {
    parse_pss(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
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
        assert_eq!(stat, Stat { parent: 7, is_zombie: false, threads: 3, rss_pages: 555 });
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
        usage.add_tree(own_pid());
        assert!(usage.rss_bytes > 500_000, "{usage:?}");
        let pss = usage.pss_bytes().expect("this kernel tells");
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
        assert!(own_children().contains(&pid));
        signal_child_tree(pid, Signal::KILL);
        assert!(!child.wait().expect("it ends").success());
    }
}
