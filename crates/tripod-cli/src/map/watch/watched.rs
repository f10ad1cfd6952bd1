//! One command under watch: its memory, its reservation, and how it is paused and stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tripod::{Reservation, TaskContext};

use super::orphans::Orphans;
use super::outlook::Outlook;
use crate::process::cgroup::CommandGroup;
use crate::process::tree::{self, TreeUsage};

/// How much more than it needs at once a growing command asks for: a fraction of its reservation.
const GROWTH_HEADROOM_FRACTION: u64 = 8;

#[derive(Debug)]
pub(super) struct Watched {
    /// Its place in the order in which the commands were started.
    pub(super) id: u64,
    pub(super) number: u64,
    pub(super) marker: String,
    pub(super) context: TaskContext,
    pub(super) group: Option<Arc<CommandGroup>>,
    pub(super) started: Instant,
    pub(super) phase: Phase,
    pub(super) usage: Usage,
    /// Its processes, as of the last look.
    pub(super) pids: Vec<i32>,
    /// Stopped from running by SIGSTOP, until there is memory for it.
    pub(super) paused: bool,
    /// Killed, to make room for others.
    pub(super) stopped: bool,
}

/// Where a command is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its process may exist, but we do not know it yet.
    Starting,
    Running(i32),
    /// Its process was reaped; what it left behind may still be on its way out.
    Ended,
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

impl Watched {
    pub(super) fn measure(&mut self, orphans: &Orphans) {
        let used_bytes = match &self.group {
            Some(group) => group.used_bytes().unwrap_or(self.usage.used_bytes),
            None => {
                let tree = self.tree(orphans);
                self.pids = tree.pids;
                tree.rss_bytes.saturating_sub(self.usage.shared_bytes)
            }
        };
        self.usage.grown_bytes = used_bytes.saturating_sub(self.usage.used_bytes);
        self.set_used(used_bytes);
    }

    /// The processes of the command and what they have, shared pages counted for each.
    fn tree(&self, orphans: &Orphans) -> TreeUsage {
        let mut tree = TreeUsage::default();
        if let Phase::Running(pid) = self.phase {
            tree.add_child_tree(pid);
        }
        for pid in orphans.of(self) {
            tree.add_child_tree(pid);
        }
        tree
    }

    /// Looks into what the processes share. Slow, so it is done only before the command is refused
    /// memory, and while it is paused.
    fn measure_shared(&mut self, orphans: &Orphans) {
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
    pub(super) fn settle(&mut self, orphans: &Orphans, room_bytes: u64) -> bool {
        let mut is_within = self.grow_reservation(room_bytes);
        if !is_within {
            // At once, before anything slow.
            self.pause(orphans);
            self.measure_shared(orphans);
            is_within = self.grow_reservation(room_bytes);
        }
        if is_within {
            self.resume(orphans);
        }
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
    pub(super) fn take_from(&mut self, other: &Reservation, orphans: &Orphans) {
        let Some(reservation) = self.context.memory() else { return };
        let reserved_bytes = reservation.bytes();
        let headroom_bytes = reserved_bytes / GROWTH_HEADROOM_FRACTION;
        let missing_bytes = self.usage.used_bytes.saturating_sub(reserved_bytes);
        let moved_bytes = other.move_to(reservation, missing_bytes + headroom_bytes);
        if moved_bytes >= missing_bytes {
            self.resume(orphans);
        }
    }

    /// Repeated at every look while it lasts: a process forked in the middle of one was missed.
    fn pause(&mut self, orphans: &Orphans) {
        self.paused = true;
        self.signal(Signal::STOP, orphans);
    }

    fn resume(&mut self, orphans: &Orphans) {
        if std::mem::take(&mut self.paused) {
            self.signal(Signal::CONT, orphans);
        }
    }

    pub(super) fn stop(&mut self, orphans: &Orphans) {
        self.stopped = true;
        tracing::debug!(
            number = self.number,
            used_bytes = self.usage.used_bytes,
            reserved_bytes = self.reserved_bytes(),
            "stopped for memory"
        );
        self.signal(Signal::KILL, orphans);
    }

    /// Sends `signal` to every process of the command.
    pub(super) fn signal(&self, signal: Signal, orphans: &Orphans) {
        if let (Some(group), Signal::KILL) = (&self.group, signal) {
            group.kill();
            return;
        }
        if let Phase::Running(pid) = self.phase {
            tree::signal_child_tree(pid, signal);
        }
        for pid in orphans.of(self) {
            tree::signal_child_tree(pid, signal);
        }
    }

    pub(super) fn outlook(&self, now: Instant, since: Duration) -> Outlook {
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1);
        let grown = u128::from(self.usage.grown_bytes) * 1_000_000_000 / u128::from(nanos);
        Outlook {
            age: now.duration_since(self.started),
            slack_bytes: self.reserved_bytes().saturating_sub(self.usage.used_bytes),
            growth_bytes_per_second: u64::try_from(grown).unwrap_or(u64::MAX),
        }
    }
}
