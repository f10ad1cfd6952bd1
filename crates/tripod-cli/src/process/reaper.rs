//! Starts children and reports their end with the resources they used.
//!
//! One thread waits for all children at once (`waitid(P_ALL)`), because a child subreaper also has
//! to reap the orphans it adopts, and because only `wait4(2)` tells what a child has used. Nothing
//! else in this process may wait for children.
#![allow(unsafe_code, reason = "wait4, for the resource usage, is not offered by a safe crate")]

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::process::{self, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::sync::oneshot;

/// How a child ended and what it used, its own descendants that were waited for included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) user_time: Duration,
    pub(crate) system_time: Duration,
    /// The largest resident set that any one process of the tree had, in bytes. `None` for a small
    /// one: the kernel counts the moment before exec too, when the child was as large as the
    /// engine, so that nothing below that can be known.
    pub(crate) process_peak_bytes: Option<u64>,
    /// Whether there were processes left in its group when it was reaped.
    pub(crate) leaves_group: bool,
}

/// An exit code, or the signal that ended the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    Code(u8),
    Signal(i32),
}

/// A child that was started.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) exit: oneshot::Receiver<Exit>,
}

/// Starts children, each in a process group of its own.
#[derive(Debug, Clone)]
pub(crate) struct Reaper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    children: Mutex<Children>,
    /// Notified when a child has become known, or a start has failed.
    settled: Condvar,
}

/// Which child is whose.
#[derive(Debug, Default)]
struct Children {
    /// Those that were started and not yet reaped.
    known: HashMap<i32, Known>,
    /// The starts that are under way, by number: their children may end before they are known.
    starting: BTreeSet<u64>,
    starts: u64,
}

/// A child that is known.
#[derive(Debug)]
struct Known {
    exit: oneshot::Sender<Exit>,
    /// Whether its process group may outlive it, to end in its own time.
    spares_group: bool,
}

impl Reaper {
    /// Starts the thread that waits.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let reaper = Self { shared: Arc::clone(&shared) };
        std::thread::Builder::new().name("reaper".to_owned()).spawn(move || shared.reap_all())?;
        Ok(reaper)
    }

    /// Starts `command`, on a thread where that may block.
    ///
    /// It does block, until the child executes the program: a third to half of a millisecond
    /// (measured 2026-11), in which a single thread could neither start the next one nor hear that
    /// another has ended.
    ///
    /// `on_start` is told the process id at once, on that thread: the caller may be late to hear of
    /// it when all processors are taken.
    ///
    /// When the child ends, whatever is left of its process group is stopped, unless it is
    /// [spared](Self::spare_group).
    ///
    /// # Errors
    /// If the program cannot be started: an argument list that is too long, no processes left.
    pub(crate) async fn spawn(
        &self,
        mut command: Command,
        on_start: impl FnOnce(i32) + Send + 'static,
    ) -> io::Result<Child> {
        let shared = Arc::clone(&self.shared);
        let start = shared.lock().begin();
        let started = tokio::task::spawn_blocking(move || {
            let child = shared.finish(start, command.spawn())?;
            on_start(child.pid);
            Ok(child)
        });
        started.await.map_err(io::Error::other)?
    }

    /// Leaves the process group of `pid` alone when `pid` ends; the caller sees to it.
    pub(crate) fn spare_group(&self, pid: i32) {
        if let Some(known) = self.shared.lock().known.get_mut(&pid) {
            known.spares_group = true;
        }
    }
}

impl Children {
    fn begin(&mut self) -> u64 {
        self.starts += 1;
        self.starting.insert(self.starts);
        self.starts
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, condition: impl FnMut(&mut Children) -> bool) -> MutexGuard<'_, Children> {
        let waited = self.settled.wait_while(self.lock(), condition);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the child of the start `start` known.
    fn finish(&self, start: u64, spawned: io::Result<process::Child>) -> io::Result<Child> {
        let mut children = self.lock();
        children.starting.remove(&start);
        let child = spawned.map(|child| {
            let pid = i32::try_from(child.id()).expect("a process id fits");
            let (sender, exit) = oneshot::channel();
            children.known.insert(pid, Known { exit: sender, spares_group: false });
            Child { pid, exit }
        });
        self.settled.notify_one();
        child
    }

    fn reap_all(&self) {
        loop {
            match wait_for_any_end() {
                Ok(pid) => self.reap(pid),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // There is no child, but there may be one that is not known yet.
                Err(_) => drop(self.wait_while(|children| children.known.is_empty())),
            }
        }
    }

    /// Takes the child `pid`, which has ended; `None` if it is an orphan that was adopted.
    fn take(&self, pid: i32) -> Option<Known> {
        let newest_start = self.lock().starts;
        // It may be the child of a start that is not finished; later ones cannot have made it.
        let is_unclear = |children: &mut Children| {
            let may_become_known = children.starting.first().is_some_and(|s| *s <= newest_start);
            !children.known.contains_key(&pid) && may_become_known
        };
        self.wait_while(is_unclear).known.remove(&pid)
    }

    fn reap(&self, pid: i32) {
        let Some(known) = self.take(pid) else {
            wait4(pid);
            return;
        };
        let group = Pid::from_raw(pid).expect("waitid returns a positive id");
        if !known.spares_group {
            // What the command left in the background ends with it.
            let _ = kill_process_group(group, Signal::KILL);
        }
        if let Some(mut exit) = wait4(pid) {
            exit.leaves_group = test_kill_process_group(group).is_ok();
            // Nobody listens when the run is being torn down.
            let _ = known.exit.send(exit);
        }
    }
}

/// Blocks until some child has ended, and leaves it a zombie for now, so that its process group id
/// cannot be taken by another.
fn wait_for_any_end() -> io::Result<i32> {
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: `info` is valid for writing for the length of the call.
    let failed = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a successful `waitid` has filled in the fields of a SIGCHLD.
    Ok(unsafe { info.si_pid() })
}

fn wait4(pid: i32) -> Option<Exit> {
    let mut status = 0;
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for writing for the length of the call.
    let reaped = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
    (reaped == pid).then(|| Exit {
        status: ExitStatus::from_raw(status),
        user_time: duration(usage.ru_utime),
        system_time: duration(usage.ru_stime),
        process_peak_bytes: (usage.ru_maxrss > own_peak_kibibytes())
            .then(|| u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024),
        leaves_group: false,
    })
}

fn own_peak_kibibytes() -> libc::c_long {
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for writing for the length of the call.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    usage.ru_maxrss
}

impl ExitStatus {
    fn from_raw(status: libc::c_int) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}
