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
//! What cannot be read (a shortage of file descriptors) is not judged by: such a command is neither
//! paused nor let go on, and is looked at again at once. **No command stands still for ever**: a
//! look that could read all of them lets every paused one go on for which there is room, and stops
//! one of the others unless one is on its way out; `motion` sees to it that signals arrive.
//!
//! Between two looks a command can grow unseen. How far is bounded by looking sooner the closer a
//! growing command is to its reservation.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tripod::{Budget, TaskContext};

use super::SPARE_FRACTION;
use crate::process::cgroup::CommandGroup;
use crate::process::descriptors;
use crate::process::tree::TreeUsage;
use crate::process::urgency;
use orphans::Orphans;
use outlook::LOOK_EVERY_MIN;
pub(crate) use watched::Usage;
use watched::{Phase, Watched};

mod motion;
mod orphans;
mod outlook;
mod starting;
mod watched;

/// The environment variable that marks the processes of a command, so that one which lost its
/// parent is still known as part of it.
pub(crate) const MARKER: &str = "TRIPOD_TASK";

/// The running commands and their memory.
#[derive(Debug)]
pub(crate) struct Watch {
    state: Mutex<State>,
    /// Notified when the next look is due earlier than it was.
    hastened: Condvar,
}

#[derive(Debug)]
struct State {
    budget: Budget,
    /// In the order in which they were started: the youngest is last.
    commands: Vec<Watched>,
    started: u64,
    totals: Totals,
    orphans: Orphans,
    /// When to look again; `None` while nothing runs.
    look_due: Option<Instant>,
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
    /// Starts a thread that watches commands whose reservations count against `budget`, with file
    /// descriptors of its own: those who start commands may take all that there are.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(budget: Budget) -> io::Result<Arc<Self>> {
        let state = Mutex::new(State::new(budget));
        let watch = Arc::new(Self { state, hastened: Condvar::new() });
        let watching = Arc::clone(&watch);
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || {
            let urgency = urgency::raise();
            let descriptors = descriptors::own_table();
            // Nobody waits for it if the run was given up meanwhile.
            let _ = ready.send(());
            tracing::debug!(?urgency, ?descriptors, "watching memory");
            watching.run();
        })?;
        // Before the first command is started, whose pipes would stay open in the table.
        let _ = is_ready.recv();
        Ok(watch)
    }

    /// Begins to watch a command, before it is started: a process that bears the marker of no
    /// command that is watched is taken for a leftover.
    pub(crate) fn add(self: &Arc<Self>, subject: Subject) -> Watching {
        let now = Instant::now();
        let mut state = self.lock();
        state.started += 1;
        let id = state.started;
        let command = Watched::new(id, subject, now);
        let due = now + command.next_look();
        state.commands.push(command);
        self.hasten(&mut state, due);
        Watching { watch: Arc::clone(self), id }
    }

    /// Sees to it that the next look is no later than `due`.
    fn hasten(&self, state: &mut State, due: Instant) {
        if state.look_due.is_none_or(|planned| due < planned) {
            state.look_due = Some(due);
            self.hastened.notify_one();
        }
    }

    /// Looks at the commands for ever.
    fn run(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            state = match state.look_due {
                None => self.hastened.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) if now < due => {
                    let woken = self.hastened.wait_timeout(state, due - now);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    let wait = state.look(now);
                    // However long the look took: others want the processor and the lock.
                    let earliest = Instant::now() + LOOK_EVERY_MIN;
                    state.look_due = wait.map(|wait| earliest.max(now + wait));
                    state
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
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        state.suspended = suspended;
        for command in &mut state.commands {
            if suspended {
                // Whom it misses runs on: there is no look to repeat it, since we stop as well.
                let _ = command.signal(Signal::STOP, &state.orphans);
            } else if !command.motion.is_paused() {
                command.go_on(now);
                command.enforce(&state.orphans);
            }
        }
        if !suspended {
            self.hasten(state, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(budget: Budget) -> Self {
        Self {
            budget,
            commands: Vec::new(),
            started: 0,
            totals: Totals::default(),
            orphans: Orphans::default(),
            look_due: None,
            suspended: false,
        }
    }

    /// Measures every command, settles what is over its reservation, and says how long after `now`
    /// to look again: `None` when nothing runs.
    fn look(&mut self, now: Instant) -> Option<Duration> {
        starting::find(&mut self.commands);
        self.orphans.look(now, &self.commands, self.started);
        let is_settled = self.settle(now);
        let mut unattributed = TreeUsage::default();
        for pid in self.orphans.unattributed() {
            // Only displayed: what cannot be read is left out this once.
            let _ = unattributed.add_child_tree(pid);
        }
        let of_commands: u64 = self.commands.iter().map(|c| c.usage.used_bytes).sum();
        self.totals.used_bytes = of_commands + unattributed.rss_bytes;
        self.totals.peak_bytes = self.totals.peak_bytes.max(self.totals.used_bytes);
        let wait = self.commands.iter().map(Watched::next_look).min();
        if is_settled { wait } else { Some(LOOK_EVERY_MIN) }
    }

    /// Measures each command and gives it a larger reservation if it needs one; pauses those that
    /// get none, and stops the youngest of them. Returns whether it came to an end with that.
    fn settle(&mut self, now: Instant) -> bool {
        let mut refused = Vec::new();
        let mut all_read = true;
        for index in 0..self.commands.len() {
            let room_bytes = self.growth_room_bytes();
            let command = &mut self.commands[index];
            let is_read = command.measure(now, &self.orphans).is_ok();
            all_read &= is_read;
            if !command.is_held_to_reservation() || (!is_read && !self.suspended) {
                command.enforce(&self.orphans);
            } else if !self.suspended && !command.settle(now, &self.orphans, room_bytes) {
                refused.push(index);
            }
        }
        // One in each look, so that the others are not out of sight for long.
        let is_unclear = |index: &usize| self.commands[*index].is_shared_unclear();
        if let Some(unclear) = refused.iter().position(is_unclear) {
            let index = refused[unclear];
            let room_bytes = self.growth_room_bytes();
            if self.commands[index].settle_again(now, &self.orphans, room_bytes) {
                refused.remove(unclear);
            }
        }
        if refused.iter().any(|index| self.commands[*index].is_shared_unclear()) {
            return false;
        }
        // One at a time: what the stopped one gives back may be enough for the others.
        if let Some(youngest) = refused.last()
            && !self.commands.iter().any(|command| command.motion.is_killed())
        {
            self.commands[*youngest].stop(&self.orphans);
        }
        all_read
    }

    /// What of the budget is left for those that grow. Some is spared while there are several.
    fn growth_room_bytes(&self) -> u64 {
        let spare_bytes = match self.commands.len() {
            0 | 1 => 0,
            _ => self.budget.limit_bytes() / SPARE_FRACTION,
        };
        let growth_limit_bytes = self.budget.limit_bytes() - spare_bytes;
        growth_limit_bytes.saturating_sub(self.budget.used_bytes())
    }

    /// Gives what the command `id`, which has ended, had reserved to those that are paused. Returns
    /// whether there are any.
    fn hand_over(&mut self, id: u64) -> bool {
        let position = self.commands.iter().position(|command| command.id == id);
        let Some(index) = position else { return false };
        let ended = self.commands.remove(index);
        let Some(reservation) = ended.context.memory() else { return false };
        let paused = || self.commands.iter().filter(|command| command.motion.is_paused());
        paused().for_each(|command| command.take_from(reservation));
        paused().next().is_some()
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
            if let Some(command) = command.filter(|command| command.phase != Phase::Ended) {
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

    /// Sends `signal` to every process of the command that can be found.
    pub(crate) fn signal(&self, signal: Signal) {
        self.with(|command, orphans| command.signal(signal, orphans));
    }

    /// The memory of the command so far.
    pub(crate) fn usage(&self) -> Usage {
        self.with(|command, _| command.usage).unwrap_or_default()
    }

    /// Whether the command was stopped because there was no memory left for it.
    pub(crate) fn was_stopped(&self) -> bool {
        self.with(|command, _| command.motion.is_killed()).unwrap_or(false)
    }

    /// Ends the watch of a command that has ended; its reservation goes to those that wait for
    /// memory in mid-run before it can go to a command that has not started.
    pub(crate) fn end(self) {
        let mut state = self.watch.lock();
        if state.hand_over(self.id) {
            // It lets go on those that have enough now; for the others another may have to end.
            self.watch.hasten(&mut state, Instant::now());
        }
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use tripod::{Drain, Tripod};

    use super::watched::tests::{command, context};
    use super::*;

    /// A process that waits, with more memory than a page.
    pub(super) fn waiting_shell() -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read line"]).stdin(Stdio::piped()).process_group(0);
        command.spawn().unwrap()
    }

    // When what is shared was taken to be unclear again after 100 ms, more commands than could be
    // looked into in that time were all paused for ever.
    #[tokio::test]
    async fn when_all_are_over_one_is_stopped_however_long_it_takes_to_look_at_them() {
        const COMMANDS: usize = 5;
        let tripod = Tripod::builder()
            .memory_budget_bytes(4096)
            .concurrency(NonZeroUsize::new(COMMANDS).unwrap())
            .build()
            .unwrap();
        let mut state = State::new(tripod.memory().root().clone());
        let mut shells: Vec<_> = (0..COMMANDS).map(|_| waiting_shell()).collect();
        for (id, shell) in (1..).zip(&shells) {
            let phase = Phase::Running(i32::try_from(shell.id()).unwrap());
            let context = context(&tripod, 4096 / COMMANDS as u64).await;
            state.commands.push(command(id, &context, phase));
        }
        let start = Instant::now();
        let looks = (0..).map(|seconds| start + Duration::from_secs(seconds));
        let settled: Vec<_> = looks.take(COMMANDS).map(|now| state.settle(now)).collect();
        assert_eq!(settled, [false, false, false, false, true], "one is looked into at a time");
        assert!(
            state
                .commands
                .iter()
                .all(|command| command.motion.is_paused() || command.motion.is_killed())
        );
        let stopped = |state: &State| -> Vec<bool> {
            state.commands.iter().map(|command| command.motion.is_killed()).collect()
        };
        let youngest = [false, false, false, false, true];
        assert_eq!(stopped(&state), youngest);
        assert!(state.settle(start + Duration::from_secs(60)));
        assert_eq!(stopped(&state), youngest, "not another before that one is gone");
        for (shell, command) in shells.iter_mut().zip(&mut state.commands) {
            command.stop(&state.orphans);
            shell.wait().unwrap();
        }
        tripod.shutdown(Drain::Now).await;
    }
}
