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

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tripod::{Budget, Reservation, TaskContext};

use outlook::{LOOK_EVERY_MAX, Outlook, next_look};

use super::SPARE_FRACTION;
use crate::process::cgroup::CommandGroup;
use crate::process::tree::{self, TreeUsage};
use crate::process::urgency;

mod outlook;

/// The environment variable that marks the processes of a command, so that one which lost its
/// parent is still known as part of it.
pub(crate) const MARKER: &str = "TRIPOD_TASK";

/// How much more than it needs at once a growing command asks for: a fraction of its reservation.
const GROWTH_HEADROOM_FRACTION: u64 = 8;

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
    /// Orphans that were seen, and the command each belongs to.
    orphans: HashMap<i32, Option<String>>,
    orphans_looked_at: Option<Instant>,
    looked_at: Option<Instant>,
}

/// The memory of all commands together, as of the last look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) used_bytes: u64,
    pub(crate) peak_bytes: u64,
}

#[derive(Debug)]
struct Watched {
    id: u64,
    number: u64,
    /// `None` until it has been started.
    pid: Option<i32>,
    marker: String,
    context: TaskContext,
    group: Option<Arc<CommandGroup>>,
    started: Instant,
    usage: Usage,
    /// Stopped from running by SIGSTOP, until there is memory for it.
    paused: bool,
    /// Killed, to make room for others.
    stopped: bool,
}

/// The memory of a command against its reservation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) used_bytes: u64,
    pub(crate) peak_bytes: u64,
    /// By how much it grew since the look before.
    grown_bytes: u64,
    /// What resident sizes counted more than once when that was last looked into.
    shared_bytes: u64,
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
            orphans: HashMap::new(),
            orphans_looked_at: None,
            looked_at: None,
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
        let (started, usage) = (Instant::now(), Usage::default());
        state.commands.push(Watched {
            id,
            number,
            pid: None,
            marker,
            context,
            group,
            started,
            usage,
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

    /// Measures every command, settles what is over its reservation, and says when to look again:
    /// `None` when nothing runs.
    fn look(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        let orphans = state.look_at_orphans(now);
        state.settle(&orphans);
        let total = state.commands.iter().map(|command| command.usage.used_bytes).sum();
        state.totals.used_bytes = total;
        state.totals.peak_bytes = state.totals.peak_bytes.max(total);
        let since = state.looked_at.replace(now).map_or(LOOK_EVERY_MAX, |last| now - last);
        next_look(state.commands.iter().map(|command| command.outlook(now, since)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Measures each command and gives it a larger reservation if it needs one; pauses those that
    /// get none, and stops the youngest of them.
    fn settle(&mut self, orphans: &[(i32, String)]) {
        let spare_bytes = match self.commands.len() {
            0 | 1 => 0,
            _ => self.budget.limit_bytes() / SPARE_FRACTION,
        };
        let growth_limit_bytes = self.budget.limit_bytes() - spare_bytes;
        let mut youngest_refused = None;
        for (index, command) in self.commands.iter_mut().enumerate() {
            command.measure(orphans);
            if command.stopped {
                continue;
            }
            let room_bytes = growth_limit_bytes.saturating_sub(self.budget.used_bytes());
            if !command.settle(orphans, room_bytes) {
                youngest_refused = Some(index);
            }
        }
        // One at a time: what the stopped one gives back may be enough for the others.
        if let Some(youngest) = youngest_refused
            && !self.commands.iter().any(|command| command.stopped)
        {
            self.commands[youngest].stop();
        }
    }

    /// Gives what the command `id`, which has ended, had reserved to those that are paused.
    fn hand_over(&mut self, id: u64) {
        let Some(index) = self.commands.iter().position(|command| command.id == id) else { return };
        let ended = self.commands.remove(index);
        let Some(reservation) = ended.context.memory() else { return };
        for command in self.commands.iter_mut().filter(|command| command.paused) {
            command.take_from(reservation);
        }
    }

    /// The orphans of running commands; those of commands that have ended are stopped.
    fn look_at_orphans(&mut self, now: Instant) -> Vec<(i32, String)> {
        let due = |last: Instant| now.duration_since(last) >= LOOK_EVERY_MAX;
        if self.orphans_looked_at.is_none_or(due) {
            self.orphans_looked_at = Some(now);
            self.find_orphans();
        }
        let owned = self.orphans.iter().filter_map(|(pid, owner)| Some((*pid, owner.clone()?)));
        owned.collect()
    }

    fn find_orphans(&mut self) {
        let mut found = HashMap::new();
        for pid in tree::own_children() {
            if self.commands.iter().any(|command| command.pid == Some(pid)) {
                continue;
            }
            let owner = match self.orphans.remove(&pid) {
                Some(owner) => owner,
                None => tree::environment_variable(pid, MARKER).filter(|marker| is_own(marker)),
            };
            let owned_by = |command: &&Watched| Some(&command.marker) == owner.as_ref();
            match self.commands.iter().find(owned_by) {
                // It may be the very process of a command that is just being started.
                Some(Watched { pid: None, .. }) => continue,
                None if owner.is_some() => tree::signal_tree(pid, Signal::KILL),
                _ => {}
            }
            found.insert(pid, owner);
        }
        self.orphans = found;
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

impl Watched {
    fn measure(&mut self, orphans: &[(i32, String)]) {
        let used_bytes = match &self.group {
            Some(group) => group.used_bytes().unwrap_or(self.usage.used_bytes),
            None => self.tree(orphans).rss_bytes.saturating_sub(self.usage.shared_bytes),
        };
        self.usage.grown_bytes = used_bytes.saturating_sub(self.usage.used_bytes);
        self.set_used(used_bytes);
    }

    /// The processes of the command and what they have, shared pages counted for each.
    fn tree(&self, orphans: &[(i32, String)]) -> TreeUsage {
        let mut tree = TreeUsage::default();
        if let Some(pid) = self.pid {
            tree.add_tree(pid);
        }
        for (pid, owner) in orphans {
            if *owner == self.marker {
                tree.add_tree(*pid);
            }
        }
        tree
    }

    /// Looks into what the processes share. Slow, so it is done only before the command is refused
    /// memory, and while it is paused.
    fn measure_shared(&mut self, orphans: &[(i32, String)]) {
        if self.group.is_some() {
            return;
        }
        let tree = self.tree(orphans);
        if let Some(pss_bytes) = tree.pss_bytes() {
            self.usage.shared_bytes = tree.rss_bytes.saturating_sub(pss_bytes);
            self.set_used(tree.rss_bytes.min(pss_bytes));
        }
    }

    fn set_used(&mut self, used_bytes: u64) {
        self.usage.used_bytes = used_bytes;
        self.usage.peak_bytes = self.usage.peak_bytes.max(used_bytes);
    }

    fn reserved_bytes(&self) -> u64 {
        self.context.memory().map_or(u64::MAX, |reservation| reservation.bytes())
    }

    /// Whether the command may go on: it is within its reservation, which is grown by up to
    /// `room_bytes` where it has to be. Otherwise it is paused.
    fn settle(&mut self, orphans: &[(i32, String)], room_bytes: u64) -> bool {
        let mut is_within = self.grow_reservation(room_bytes);
        if !is_within {
            // At once, before anything slow.
            self.set_paused(true);
            self.measure_shared(orphans);
            is_within = self.grow_reservation(room_bytes);
        }
        self.set_paused(!is_within);
        is_within
    }

    fn grow_reservation(&self, room_bytes: u64) -> bool {
        let Some(reservation) = self.context.memory() else { return true };
        let reserved_bytes = reservation.bytes();
        let missing_bytes = self.usage.used_bytes.saturating_sub(reserved_bytes);
        // What it will have used by the next look, if it goes on as it did.
        let expected_bytes = self.usage.used_bytes + self.usage.grown_bytes;
        let Some(expected_growth_bytes) = expected_bytes.checked_sub(reserved_bytes) else {
            return true;
        };
        let headroom_bytes = reserved_bytes / GROWTH_HEADROOM_FRACTION;
        let grow = |bytes| bytes <= room_bytes && reservation.try_grow(bytes).is_ok();
        grow(expected_growth_bytes.max(headroom_bytes)) || missing_bytes == 0 || grow(missing_bytes)
    }

    /// Takes what is missing from `other`, and goes on if that is enough.
    fn take_from(&mut self, other: &Reservation) {
        let Some(reservation) = self.context.memory() else { return };
        let reserved_bytes = reservation.bytes();
        let headroom_bytes = reserved_bytes / GROWTH_HEADROOM_FRACTION;
        let missing_bytes = self.usage.used_bytes.saturating_sub(reserved_bytes);
        let moved_bytes = other.move_to(reservation, missing_bytes + headroom_bytes);
        if moved_bytes >= missing_bytes {
            self.set_paused(false);
        }
    }

    fn set_paused(&mut self, paused: bool) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        self.signal(if paused { Signal::STOP } else { Signal::CONT });
    }

    fn stop(&mut self) {
        self.stopped = true;
        tracing::debug!(
            number = self.number,
            used_bytes = self.usage.used_bytes,
            reserved_bytes = self.reserved_bytes(),
            "stopped for memory"
        );
        match &self.group {
            Some(group) => group.kill(),
            None => self.signal(Signal::KILL),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            tree::signal_tree(pid, signal);
        }
    }

    fn outlook(&self, now: Instant, since: Duration) -> Outlook {
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1);
        let grown = u128::from(self.usage.grown_bytes) * 1_000_000_000 / u128::from(nanos);
        Outlook {
            age: now.duration_since(self.started),
            slack_bytes: self.reserved_bytes().saturating_sub(self.usage.used_bytes),
            growth_bytes_per_second: u64::try_from(grown).unwrap_or(u64::MAX),
        }
    }
}

impl Watching {
    /// Tells which process the command is.
    pub(crate) fn started(&self, pid: i32) {
        let mut state = self.watch.lock();
        if let Some(command) = state.commands.iter_mut().find(|command| command.id == self.id) {
            command.pid = Some(pid);
        }
    }

    /// The memory of the command so far.
    pub(crate) fn usage(&self) -> Usage {
        self.with(|command| command.usage).unwrap_or_default()
    }

    /// Whether the command was stopped because there was no memory left for it.
    pub(crate) fn was_stopped(&self) -> bool {
        self.with(|command| command.stopped).unwrap_or(false)
    }

    /// Ends the watch of a command that has ended; its reservation goes to those that wait for
    /// memory in mid-run before it can go to a command that has not started.
    pub(crate) fn end(self) {
        self.watch.lock().hand_over(self.id);
    }

    fn with<T>(&self, read: impl FnOnce(&Watched) -> T) -> Option<T> {
        self.watch.lock().commands.iter().find(|command| command.id == self.id).map(read)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watch.lock().commands.retain(|command| command.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The context of a task that holds a reservation.
    async fn context(tripod: &tripod::Tripod) -> TaskContext {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let task = tripod::Task::with_context(|context| async move {
            let _ = sender.send(context);
            std::future::pending::<()>().await;
        });
        drop(tripod.submit(task.memory_bytes(1 << 30)).unwrap());
        receiver.await.unwrap()
    }

    /// Says whether a process with the marker of command 1 outlives a look of `watch`.
    fn survives_a_look(watch: &Watch) -> bool {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "echo up; read line"])
            .env(MARKER, own_marker(1, 1))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
        watch.lock().orphans_looked_at = None;
        watch.look(Instant::now());
        // What was not killed ends by itself once it reads a line.
        let mut input = child.stdin.take().unwrap();
        let _ = io::Write::write_all(&mut input, b"go\n");
        child.wait().unwrap().success()
    }

    #[tokio::test]
    async fn a_command_that_is_being_started_is_no_leftover_but_one_that_has_ended_is() {
        let tripod = tripod::Tripod::builder().memory_budget_bytes(2 << 30).build().unwrap();
        let watch = Watch::start(tripod.memory().root().clone()).unwrap();
        let (marker, context) = (own_marker(1, 1), context(&tripod).await);
        let watching = watch.add(Subject { number: 1, marker, context, group: None });
        assert!(survives_a_look(&watch));
        watching.end();
        assert!(!survives_a_look(&watch));
        tripod.shutdown(tripod::Drain::Now).await;
    }
}
