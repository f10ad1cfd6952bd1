//! The guard: forks the engine, passes signals on to it, and outlives it.
//!
//! Signals reach the engine through the guard alone, as bytes on a pipe. A Ctrl-C at the terminal
//! goes to both processes, one sent by `kill` to the guard only; with one way in, each counts
//! once. The end of the pipe tells the engine that the guard is dead.
#![allow(unsafe_code, reason = "fork, sigwait and wait are not offered by a safe crate")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal as take_over};

use super::tree;

/// The signals that the guard takes and passes on.
const FORWARDED: [libc::c_int; 5] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGTSTP];

/// Which side of the fork this process is.
#[derive(Debug)]
pub(crate) enum Role {
    /// The process to do the work, with the channel on which signals arrive.
    Engine(OwnedFd),
    /// The process that the user started; the engine is gone, and this is its exit code.
    Guard(ExitCode),
}

/// Splits this process in two; the guard returns only when the engine has ended.
///
/// Must be called while the process has a single thread.
///
/// # Errors
/// If the system refuses a pipe, a signal mask, or a fork (for want of processes or memory).
pub(crate) fn split() -> io::Result<Role> {
    // Whoever started us may have ignored it, and no end of a child would be heard of then.
    // SAFETY: the default action involves no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let taken = signals_to_take();
    let original = block(&taken)?;
    // SAFETY: the process has one thread (the caller's promise), so the child finds every lock
    // free and may go on as any program does.
    let forked = unsafe { libc::fork() };
    match forked {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(write_end);
            set_mask(&original)?;
            become_subreaper()?;
            Ok(Role::Engine(read_end))
        }
        pid => {
            drop(read_end);
            let engine = Pid::from_raw(pid).expect("fork returns a positive id to the parent");
            Ok(Role::Guard(watch(engine, &taken, &write_end)))
        }
    }
}

/// The engine's end of the channel: the signals that were sent to the run.
#[derive(Debug)]
pub(crate) struct Signals {
    channel: pipe::Receiver,
    /// Keeps the signals from ending the engine by itself; what they say comes by the channel.
    _taken_over: Vec<tokio::signal::unix::Signal>,
}

impl Signals {
    /// Listens on the channel that [`split`] returned.
    ///
    /// # Errors
    /// If the runtime cannot take over a signal or the channel.
    pub(crate) fn listen(channel: OwnedFd) -> io::Result<Self> {
        let taken = FORWARDED.into_iter().filter(|number| !is_ignored(*number));
        let taken_over = taken.map(|number| take_over(SignalKind::from_raw(number)));
        let _taken_over = taken_over.collect::<io::Result<_>>()?;
        Ok(Self { channel: pipe::Receiver::from_owned_fd(channel)?, _taken_over })
    }

    /// Waits for the next signal; `None` when the guard is dead. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<i32> {
        loop {
            let mut byte = [0];
            if self.channel.readable().await.is_err() {
                return None;
            }
            match self.channel.try_read(&mut byte) {
                Ok(0) => return None,
                Ok(_) => return Some(i32::from(byte[0])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }
}

/// Whether `signal` was ignored when the program was started, as under `nohup`.
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut current: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null second argument makes this a query, and `current` is valid for writing.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut current) };
    asked == 0 && current.sa_sigaction == libc::SIG_IGN
}

/// Passes signals on until the engine has ended, then stops what it left.
fn watch(engine: Pid, taken: &libc::sigset_t, channel: &OwnedFd) -> ExitCode {
    // As a subreaper from before the engine can start anything that outlives it. A failure (a
    // kernel without it) costs only the clean-up after a kill -9 of the engine.
    let _ = become_subreaper();
    let _ = rustix::io::ioctl_fionbio(channel, true);
    detach_stdio();
    loop {
        match wait_for_signal(taken) {
            libc::SIGCHLD => {
                if let Some(status) = reap(engine) {
                    return finish(status);
                }
            }
            libc::SIGTSTP => {
                let _ = rustix::io::write(channel, &[byte_of(libc::SIGTSTP)]);
                // Stops here, so that the shell takes over, until it says to go on.
                let _ = kill_process(getpid(), Signal::STOP);
                let _ = kill_process(engine, Signal::CONT);
            }
            // The pipe is full only after thousands of unread signals: no harm in losing one.
            // A closed pipe means that the engine is about to be reaped.
            signal => {
                let _ = rustix::io::write(channel, &[byte_of(signal)]);
            }
        }
    }
}

/// A signal as it goes through the channel.
fn byte_of(signal: libc::c_int) -> u8 {
    u8::try_from(signal).expect("the forwarded signals are below 32")
}

/// Makes this process the parent of every descendant that loses its own.
fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Lets go of standard input and output, so that their ends see them close with the engine.
fn detach_stdio() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(null.as_fd());
        let _ = rustix::stdio::dup2_stdout(null.as_fd());
    }
}

/// The engine's exit code, after stopping whatever processes it left behind.
fn finish(status: libc::c_int) -> ExitCode {
    let stopped = tree::kill_all_descendants();
    while reap_any().is_some() {}
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        let _ = writeln!(
            io::stderr(),
            "tripod: killed by signal {signal}; stopped the {stopped} processes it had running"
        );
        return ExitCode::from(128 + u8::try_from(signal).unwrap_or(0));
    }
    ExitCode::from(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(1))
}

/// Reaps what has ended; the engine's status if it was among them.
fn reap(engine: Pid) -> Option<libc::c_int> {
    while let Some((pid, status)) = reap_any() {
        if pid == engine.as_raw_pid() {
            return Some(status);
        }
    }
    None
}

fn reap_any() -> Option<(libc::pid_t, libc::c_int)> {
    let mut status = 0;
    // SAFETY: `status` is valid for writing for the length of the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

fn signals_to_take() -> libc::sigset_t {
    // SAFETY: all zeroes is a valid value, and `sigemptyset` initialises it for any libc.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for writing.
    unsafe { libc::sigemptyset(&raw mut set) };
    let taken = FORWARDED.into_iter().filter(|signal| !is_ignored(*signal));
    for signal in taken.chain([libc::SIGCHLD]) {
        // SAFETY: `set` is initialised and the signal is a valid number.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Blocks `set` and returns the mask that was in force.
fn block(set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut original: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the length of the call.
    let failed = unsafe { libc::sigprocmask(libc::SIG_BLOCK, set, &raw mut original) };
    if failed == 0 { Ok(original) } else { Err(io::Error::last_os_error()) }
}

fn set_mask(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `mask` is valid for reading, and a null third argument asks for nothing back.
    let failed = unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn wait_for_signal(set: &libc::sigset_t) -> libc::c_int {
    loop {
        // SAFETY: `set` is valid for reading, and a null second argument asks for no details.
        let signal = unsafe { libc::sigwaitinfo(set, std::ptr::null_mut()) };
        if signal > 0 {
            return signal;
        }
    }
}
