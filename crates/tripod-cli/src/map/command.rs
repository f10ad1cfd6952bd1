//! Runs one command: starts it, collects its output, and stops it when it has to end.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tripod::{MemoryManager, StopReason, TaskContext};

use super::capture::{Capture, Stream};
use super::watch::{MARKER, Subject, Watch, Watching, own_marker};
use crate::process::cgroup::{CgroupRoot, CommandGroup};
use crate::process::is_shortage;
use crate::process::reaper::{Child, Exit, ExitStatus, Reaper};

/// How long a command that ran out of time has between SIGTERM and SIGKILL.
pub(crate) const TERMINATE_GRACE: Duration = Duration::from_secs(1);
/// How long the output of an ended command is waited for when something still holds its pipe.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// How long, and how often, the end of what a command left in the background is waited for.
const GROUP_GRACE: Duration = Duration::from_secs(5);
const GROUP_LOOK_EVERY: Duration = Duration::from_millis(1);
/// How often SIGKILL is repeated, for processes forked while the tree was being read.
const KILL_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What every command of a run needs.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) memory: MemoryManager,
    pub(crate) reaper: Reaper,
    pub(crate) watch: Arc<Watch>,
    /// Where each command gets a control group of its own, if the system lets us make some.
    pub(crate) groups: Option<CgroupRoot>,
}

/// A command to run.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) number: u64,
    pub(crate) attempt: u32,
    pub(crate) script: OsString,
    pub(crate) parameters: Vec<OsString>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Exited(ExitStatus),
    TimedOut,
    /// It was over its reservation and the budget had nothing left.
    OutOfMemory,
    /// The run was interrupted.
    Killed,
    /// It could not be started for want of processes, memory or file descriptors.
    Starved(String),
    /// It could not be started, or its output could not be kept.
    Error(String),
}

impl Outcome {
    pub(crate) fn is_success(&self) -> bool {
        *self == Self::Exited(ExitStatus::Code(0))
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    pub(crate) output: Capture,
    pub(crate) started: SystemTime,
    pub(crate) wall_time: Duration,
    pub(crate) user_time: Duration,
    pub(crate) system_time: Duration,
    /// `None` for a command that was too small and too short to be measured.
    pub(crate) memory_peak_bytes: Option<u64>,
    pub(crate) memory_reserved_bytes: u64,
}

impl Finished {
    /// That of a command of which nothing is known but how it ended.
    pub(crate) fn without_a_run(memory: MemoryManager, outcome: Outcome) -> Self {
        Self {
            outcome,
            output: Capture::new(memory),
            started: SystemTime::now(),
            wall_time: Duration::ZERO,
            user_time: Duration::ZERO,
            system_time: Duration::ZERO,
            memory_peak_bytes: None,
            memory_reserved_bytes: 0,
        }
    }
}

/// Runs `spec` to its end, or to that of the task it runs in.
pub(crate) async fn run(environment: &Environment, spec: Spec, context: &TaskContext) -> Finished {
    let mut finished = Finished::without_a_run(environment.memory.clone(), Outcome::Killed);
    let clock = Instant::now();
    finished.outcome = match start(environment, &spec, context).await {
        Ok(started) => follow(&environment.reaper, started, context, &mut finished).await,
        Err(error) if is_shortage(&error) => Outcome::Starved(describe_start_error(&error)),
        Err(error) => Outcome::Error(describe_start_error(&error)),
    };
    finished.wall_time = clock.elapsed();
    finished
}

/// A command that was started, and all that is held for it.
struct Started {
    child: Child,
    watching: Watching,
    group: Option<Arc<CommandGroup>>,
    out: pipe::Receiver,
    err: pipe::Receiver,
}

async fn start(
    environment: &Environment,
    spec: &Spec,
    context: &TaskContext,
) -> io::Result<Started> {
    let (out, out_writer) = io::pipe()?;
    let (err, err_writer) = io::pipe()?;
    let (out, err) = (receiver(out)?, receiver(err)?);
    let marker = own_marker(spec.number, spec.attempt);
    let group = environment.groups.as_ref().and_then(|groups| own_group(groups, &marker));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "--"]).arg(&spec.script).arg("sh").args(&spec.parameters);
    command.env(MARKER, &marker).process_group(0);
    command.stdin(Stdio::null()).stdout(out_writer).stderr(err_writer);
    if let Some(group) = &group {
        group.enter_on_exec(&mut command)?;
    }
    let (number, context) = (spec.number, context.clone());
    let subject = Subject { number, marker, context, group: group.clone() };
    let watching = environment.watch.add(subject);
    let child = environment.reaper.spawn(command, watching.on_start()).await?;
    Ok(Started { child, watching, group, out, err })
}

/// A group for one command; it does without if the system refuses, as beyond
/// `cgroup.max.descendants`.
fn own_group(groups: &CgroupRoot, marker: &str) -> Option<Arc<CommandGroup>> {
    let group = groups.command(marker);
    let group = group.map_err(|error| tracing::debug!(%error, marker, "measuring by /proc"));
    group.ok().map(Arc::new)
}

fn receiver(reader: io::PipeReader) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(reader.into())
}

fn describe_start_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ArgumentListTooLong => {
            "the command line is longer than the system allows; pass long data by file".to_owned()
        }
        io::ErrorKind::InvalidInput => {
            "the argument contains a NUL byte; separate arguments by NUL with -0".to_owned()
        }
        _ => format!("cannot start /bin/sh: {error}"),
    }
}

/// Collects the output of `started` until it has ended and all that it started is gone.
async fn follow(
    reaper: &Reaper,
    started: Started,
    context: &TaskContext,
    finished: &mut Finished,
) -> Outcome {
    let Started { mut child, watching, group, out, err } = started;
    let mut output_error = None;
    let (exit, reason) = {
        let output = &mut finished.output;
        let mut collected = pin!(collect(out, err, output, &mut output_error));
        let mut ended = pin!(wait_or_stop(reaper, &mut child, &watching, context));
        let mut output_open = true;
        let (exit, reason) = loop {
            tokio::select! {
                () = &mut collected, if output_open => output_open = false,
                end = &mut ended => break end,
            }
        };
        let Some(exit) = exit else {
            return Outcome::Error("lost track of the process".to_owned());
        };
        watching.exited();
        if exit.leaves_group || output_open {
            watching.stop_leftovers();
        }
        if let Some(group) = &group {
            until_empty(group).await;
        }
        if output_open {
            // Ends as soon as the last process that holds the pipe is gone.
            let _ = tokio::time::timeout(OUTPUT_GRACE, collected).await;
        }
        (exit, reason)
    };
    if exit.leaves_group {
        until_group_is_gone(child.pid).await;
    }
    finished.user_time = exit.user_time;
    finished.system_time = exit.system_time;
    finished.memory_peak_bytes = peak_bytes(&exit, &watching);
    finished.memory_reserved_bytes = context.memory().map_or(0, |reservation| reservation.bytes());
    // One that ended by itself just before is not run again.
    let was_stopped = watching.was_stopped() && exit.status == ExitStatus::Signal(libc::SIGKILL);
    watching.end();
    match (output_error, reason) {
        (Some(error), _) => Outcome::Error(format!("its output could not be kept: {error}")),
        (None, Some(StopReason::TimedOut)) => Outcome::TimedOut,
        (None, Some(_)) => Outcome::Killed,
        (None, None) if was_stopped => Outcome::OutOfMemory,
        (None, None) => Outcome::Exited(exit.status),
    }
}

/// Waits until the process group of a command that was reaped has given its memory back.
async fn until_group_is_gone(pid: i32) {
    let Some(group) = Pid::from_raw(pid) else { return };
    let gone = async {
        while kill_process_group(group, Signal::KILL).is_ok() {
            tokio::time::sleep(GROUP_LOOK_EVERY).await;
        }
    };
    // A process that does not end in that time is in an uninterruptible sleep.
    let _ = tokio::time::timeout(GROUP_GRACE, gone).await;
}

/// Stops what the command left in its control group, in whatever session, and waits until it has
/// given its memory back.
async fn until_empty(group: &CommandGroup) {
    let empty = async {
        while group.is_populated() {
            group.kill();
            tokio::time::sleep(GROUP_LOOK_EVERY).await;
        }
    };
    let _ = tokio::time::timeout(GROUP_GRACE, empty).await;
}

/// The most memory that the command had: the larger of the highest sampled sum over its tree and
/// the kernel's figure for the largest of its processes.
fn peak_bytes(exit: &Exit, watching: &Watching) -> Option<u64> {
    let sampled_bytes = Some(watching.usage().peak_bytes).filter(|bytes| *bytes > 0);
    sampled_bytes.max(exit.process_peak_bytes)
}

/// Waits for the child to end; stops it when the task is cancelled or has run out of time.
async fn wait_or_stop(
    reaper: &Reaper,
    child: &mut Child,
    watching: &Watching,
    context: &TaskContext,
) -> (Option<Exit>, Option<StopReason>) {
    let pid = child.pid;
    let exit = &mut child.exit;
    tokio::select! {
        exit = &mut *exit => return (exit.ok(), None),
        () = context.cancelled() => {}
    }
    let reason = context.stop_reason();
    if reason == Some(StopReason::TimedOut) {
        let mut ended = None;
        let terminated = terminate(reaper, pid, exit, watching, &mut ended);
        let _ = tokio::time::timeout(TERMINATE_GRACE, terminated).await;
        if ended.is_some() {
            // What is left of its group by now is killed by the caller.
            return (ended, reason);
        }
    }
    loop {
        watching.signal(Signal::KILL);
        if let Ok(exit) = tokio::time::timeout(KILL_AGAIN_AFTER, &mut *exit).await {
            return (exit.ok(), reason);
        }
    }
}

/// Asks the whole tree to end, and waits until all of its process group has. A shell dies of
/// SIGTERM at once; what it runs may have something to clean up.
async fn terminate(
    reaper: &Reaper,
    pid: i32,
    exit: &mut oneshot::Receiver<Exit>,
    watching: &Watching,
    ended: &mut Option<Exit>,
) {
    reaper.spare_group(pid);
    watching.signal(Signal::TERM);
    // A paused process hears of it only when it goes on.
    watching.signal(Signal::CONT);
    *ended = exit.await.ok();
    let Some(group) = Pid::from_raw(pid) else { return };
    while ended.is_some_and(|exit| exit.leaves_group) && test_kill_process_group(group).is_ok() {
        tokio::time::sleep(GROUP_LOOK_EVERY).await;
    }
}

/// Reads both streams to their end.
async fn collect(
    out: pipe::Receiver,
    err: pipe::Receiver,
    output: &mut Capture,
    failure: &mut Option<io::Error>,
) {
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let (stream, read) = tokio::select! {
            ready = out.readable(), if out_open => {
                (Stream::Out, ready.and_then(|()| take(&out, Stream::Out, output, failure)))
            }
            ready = err.readable(), if err_open => {
                (Stream::Err, ready.and_then(|()| take(&err, Stream::Err, output, failure)))
            }
        };
        let open = match stream {
            Stream::Out => &mut out_open,
            Stream::Err => &mut err_open,
        };
        match read {
            Ok(0) => *open = false,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                *open = false;
                failure.get_or_insert(error);
            }
        }
    }
}

/// Reads once what is there, and keeps it.
fn take(
    pipe: &pipe::Receiver,
    stream: Stream,
    output: &mut Capture,
    failure: &mut Option<io::Error>,
) -> io::Result<usize> {
    thread_local! {
        /// Room for all that a pipe holds by default, shared by all commands: most say nothing.
        static BYTES: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 << 10]);
    }
    BYTES.with_borrow_mut(|bytes| {
        let len = pipe.try_read(bytes)?;
        // After a failure the rest is read and dropped, so that the command is not blocked.
        if failure.is_none() {
            *failure = output.append(stream, &bytes[..len]).err();
        }
        Ok(len)
    })
}
