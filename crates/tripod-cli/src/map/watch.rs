//! Watches the memory of the running commands and keeps it within what they have reserved.
//!
//! A command that grows past its reservation takes more from the ledger if there is some.
//! Otherwise it is paused, so that it cannot grow further, and the youngest of the commands that
//! are over their reservation is stopped: it has lost the least work. What it had reserved goes
//! straight to those that are paused, the oldest first, and only what is left to commands that
//! have not started. The run then queues the stopped one again.
//!
//! It is done on a thread of its own, as urgent as the system lets it be: commands that take all
//! processors must not delay it.
//!
//! Between two looks a command can grow unseen. How far is bounded by looking sooner the closer a
//! growing command is to its reservation.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tripod::{Budget, TaskContext};

use super::SPARE_FRACTION;
use crate::process::cgroup::CommandGroup;
use crate::process::tree::TreeUsage;
use crate::process::urgency;
use orphans::Orphans;
use outlook::{LOOK_EVERY_MAX, next_look};
pub(crate) use watched::Usage;
use watched::{Phase, Watched};

mod orphans;
mod outlook;
mod watched;

/// The environment variable that marks the processes of a command, so that one which lost its
/// parent is still known as part of it.
pub(crate) const MARKER: &str = "TRIPOD_TASK";

/// The running commands and their memory.
#[derive(Debug)]
pub(crate) struct Watch {
    state: Mutex<State>,
    added: Condvar,
}

#[derive(Debug)]
struct State {
    budget: Budget,
    /// In the order in which they were started: the youngest is last.
    commands: Vec<Watched>,
    started: u64,
    totals: Totals,
    orphans: Orphans,
    looked_at: Option<Instant>,
    /// Whether the user has suspended the run.
    suspended: bool,
}

/// The memory of all commands together, as of the last look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) used_bytes: u64,
    pub(crate) peak_bytes: u64,
}

/// A command as the progress display shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) number: u64,
    pub(crate) started: Instant,
    pub(crate) used_bytes: u64,
}

/// What is needed to watch a command.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) number: u64,
    /// The value of [`MARKER`] in its environment: [`own_marker`] makes it.
    pub(crate) marker: String,
    pub(crate) context: TaskContext,
    pub(crate) group: Option<Arc<CommandGroup>>,
}

/// Keeps a command under watch until dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    watch: Arc<Watch>,
    id: u64,
}

impl Watch {
    /// Starts a thread that watches commands whose reservations count against `budget`.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(budget: Budget) -> io::Result<Arc<Self>> {
        let state = State {
            budget,
            commands: Vec::new(),
            started: 0,
            totals: Totals::default(),
            orphans: Orphans::default(),
            looked_at: None,
            suspended: false,
        };
        let watch = Arc::new(Self { state: Mutex::new(state), added: Condvar::new() });
        let watching = Arc::clone(&watch);
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || {
            let urgency = urgency::raise();
            tracing::debug!(?urgency, "watching memory");
            watching.run();
        })?;
        Ok(watch)
    }

    /// Begins to watch a command, before it is started: a process that bears the marker of no
    /// command that is watched is taken for a leftover.
    pub(crate) fn add(self: &Arc<Self>, subject: Subject) -> Watching {
        let Subject { number, marker, context, group } = subject;
        let mut state = self.lock();
        state.started += 1;
        let id = state.started;
        state.commands.push(Watched {
            id,
            number,
            marker,
            context,
            group,
            started: Instant::now(),
            phase: Phase::Starting,
            usage: Usage::default(),
            pids: Vec::new(),
            paused: false,
            stopped: false,
        });
        if state.commands.len() == 1 {
            self.added.notify_one();
        }
        Watching { watch: Arc::clone(self), id }
    }

    /// Looks at the commands for ever.
    fn run(&self) {
        loop {
            match self.look(Instant::now()) {
                Some(wait) => std::thread::sleep(wait),
                None => {
                    let nothing = |state: &mut State| state.commands.is_empty();
                    drop(self.added.wait_while(self.lock(), nothing));
                }
            }
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// The running commands, the oldest first.
    pub(crate) fn running(&self) -> Vec<Running> {
        let running = |command: &Watched| Running {
            number: command.number,
            started: command.started,
            used_bytes: command.usage.used_bytes,
        };
        self.lock().commands.iter().map(running).collect()
    }

    /// Stops all commands from running, or lets them go on, as the user asks for by Ctrl-Z and `fg`.
    pub(crate) fn set_suspended(&self, suspended: bool) {
        let mut state = self.lock();
        state.suspended = suspended;
        let signal = if suspended { Signal::STOP } else { Signal::CONT };
        for command in state.commands.iter().filter(|command| suspended || !command.paused) {
            command.signal(signal, &state.orphans);
        }
    }

    /// Measures every command, settles what is over its reservation, and says when to look again:
    /// `None` when nothing runs.
    fn look(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        let since = state.looked_at.replace(now).map_or(LOOK_EVERY_MAX, |last| now - last);
        state.look(now);
        next_look(state.commands.iter().map(|command| command.outlook(now, since)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look(&mut self, now: Instant) {
        self.orphans.look(now, &self.commands, self.started);
        self.settle();
        let mut unattributed = TreeUsage::default();
        for pid in self.orphans.unattributed() {
            unattributed.add_child_tree(pid);
        }
        let of_commands: u64 = self.commands.iter().map(|c| c.usage.used_bytes).sum();
        self.totals.used_bytes = of_commands + unattributed.rss_bytes;
        self.totals.peak_bytes = self.totals.peak_bytes.max(self.totals.used_bytes);
    }

    /// Measures each command and gives it a larger reservation if it needs one; pauses those that
    /// get none, and stops the youngest of them.
    fn settle(&mut self) {
        let spare_bytes = match self.commands.len() {
            0 | 1 => 0,
            _ => self.budget.limit_bytes() / SPARE_FRACTION,
        };
        let growth_limit_bytes = self.budget.limit_bytes() - spare_bytes;
        let mut youngest_refused = None;
        for (index, command) in self.commands.iter_mut().enumerate() {
            command.measure(&self.orphans);
            if command.stopped || command.phase == Phase::Ended || self.suspended {
                continue;
            }
            let room_bytes = growth_limit_bytes.saturating_sub(self.budget.used_bytes());
            if !command.settle(&self.orphans, room_bytes) {
                youngest_refused = Some(index);
            }
        }
        // One at a time: what the stopped one gives back may be enough for the others.
        if let Some(youngest) = youngest_refused
            && !self.commands.iter().any(|command| command.stopped)
        {
            self.commands[youngest].stop(&self.orphans);
        }
    }

    /// Gives what the command `id`, which has ended, had reserved to those that are paused.
    fn hand_over(&mut self, id: u64) {
        let Some(index) = self.commands.iter().position(|command| command.id == id) else { return };
        let ended = self.commands.remove(index);
        let Some(reservation) = ended.context.memory() else { return };
        for command in self.commands.iter_mut().filter(|command| command.paused) {
            command.take_from(reservation, &self.orphans);
        }
    }
}

/// The marker of an attempt at a command. Another run's markers are not ours to judge by: this run
/// may itself be a command of that one.
pub(crate) fn own_marker(number: u64, attempt: u32) -> String {
    format!("{}-{number}-{attempt}", std::process::id())
}

fn is_own(marker: &str) -> bool {
    let own = std::process::id().to_string();
    marker.strip_prefix(&own).is_some_and(|rest| rest.starts_with('-'))
}

impl Watching {
    /// What is to be told which process the command is, as soon as that is known.
    pub(crate) fn on_start(&self) -> impl FnOnce(i32) + Send + 'static {
        let (watch, id) = (Arc::clone(&self.watch), self.id);
        move |pid| {
            let mut state = watch.lock();
            let command = state.commands.iter_mut().find(|command| command.id == id);
            // It may have ended already, and its end be known.
            if let Some(command) = command.filter(|command| command.phase == Phase::Starting) {
                command.phase = Phase::Running(pid);
            }
        }
    }

    /// Tells that the process has ended and was reaped.
    pub(crate) fn exited(&self) {
        self.with(|command, _| command.phase = Phase::Ended);
    }

    /// Stops what ended commands have left behind, without waiting for the next look.
    pub(crate) fn stop_leftovers(&self) {
        let mut guard = self.watch.lock();
        let state = &mut *guard;
        state.orphans.look_now(Instant::now(), &state.commands, state.started);
    }

    /// Sends `signal` to every process of the command.
    pub(crate) fn signal(&self, signal: Signal) {
        self.with(|command, orphans| command.signal(signal, orphans));
    }

    /// The memory of the command so far.
    pub(crate) fn usage(&self) -> Usage {
        self.with(|command, _| command.usage).unwrap_or_default()
    }

    /// Whether the command was stopped because there was no memory left for it.
    pub(crate) fn was_stopped(&self) -> bool {
        self.with(|command, _| command.stopped).unwrap_or(false)
    }

    /// Ends the watch of a command that has ended; its reservation goes to those that wait for
    /// memory in mid-run before it can go to a command that has not started.
    pub(crate) fn end(self) {
        self.watch.lock().hand_over(self.id);
    }

    fn with<T>(&self, use_command: impl FnOnce(&mut Watched, &Orphans) -> T) -> Option<T> {
        let mut guard = self.watch.lock();
        let state = &mut *guard;
        let command = state.commands.iter_mut().find(|command| command.id == self.id)?;
        Some(use_command(command, &state.orphans))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watch.lock().commands.retain(|command| command.id != self.id);
    }
}
