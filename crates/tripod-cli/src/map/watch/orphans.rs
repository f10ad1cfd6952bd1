//! Processes that have lost their parent: to which command they belong, and when they are leftovers.
//!
//! A child subreaper adopts them. The variable [`MARKER`] in their environment names the command
//! they come from. One without it (after `env -i`, or of a run within a command) may have been seen
//! in the tree of a command; else it can only come from one that was started before it was seen.

use std::collections::HashMap;
use std::time::Instant;

use rustix::process::Signal;

use super::outlook::LOOK_EVERY_MAX;
use super::watched::{Phase, Watched};
use super::{MARKER, is_own};
use crate::process::tree;

/// The adopted processes, as of the last look.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    known: HashMap<i32, Origin>,
    /// The processes that were seen in the trees of commands, and the markers of those.
    members: HashMap<i32, String>,
    looked_at: Option<Instant>,
}

/// Where an adopted process comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// The command with this marker.
    Marked(String),
    /// One of the commands up to this one, in the order of their start.
    UpTo(u64),
}

impl Orphans {
    /// Looks for them, unless that was done a moment ago.
    pub(super) fn look(&mut self, now: Instant, commands: &[Watched], started: u64) {
        let is_due = |last: Instant| now.duration_since(last) >= LOOK_EVERY_MAX;
        if self.looked_at.is_none_or(is_due) {
            self.look_now(now, commands, started);
        }
    }

    /// Looks for them, and stops those whose command has ended. What cannot be read for a shortage
    /// is left for the next look.
    pub(super) fn look_now(&mut self, now: Instant, commands: &[Watched], started: u64) {
        let Ok(children) = tree::own_children() else { return };
        self.looked_at = Some(now);
        for command in commands {
            let marked = command.pids.iter().map(|pid| (*pid, command.marker.clone()));
            self.members.extend(marked);
        }
        let mut known = HashMap::new();
        for pid in children {
            if commands.iter().any(|command| command.phase == Phase::Running(pid)) {
                continue;
            }
            let origin = self.origin(pid, started);
            match belongs_to(&origin, commands) {
                // It may be the very process of a command that is just being started.
                Belongs::Starting => continue,
                // Whom it misses is found again as an orphan.
                Belongs::Nobody => drop(tree::signal_child_tree(pid, Signal::KILL)),
                Belongs::Running => {}
            }
            known.insert(pid, origin);
        }
        let is_current = |pid: &i32| commands.iter().any(|command| command.pids.contains(pid));
        self.members.retain(|pid, _| known.contains_key(pid) || is_current(pid));
        self.known = known;
    }

    /// The roots of the adopted trees that belong to `command`.
    pub(super) fn of(&self, command: &Watched) -> impl Iterator<Item = i32> {
        self.known.iter().filter_map(|(pid, origin)| match origin {
            Origin::Marked(marker) if *marker == command.marker => Some(*pid),
            _ => None,
        })
    }

    /// The roots of those that no single command can be charged with.
    pub(super) fn unattributed(&self) -> impl Iterator<Item = i32> {
        self.known.iter().filter_map(|(pid, origin)| match origin {
            Origin::UpTo(_) => Some(*pid),
            Origin::Marked(_) => None,
        })
    }

    fn origin(&mut self, pid: i32, started: u64) -> Origin {
        let before = self.known.remove(&pid);
        if let Some(Origin::Marked(marker)) = before {
            return Origin::Marked(marker);
        }
        // Asked again each time: in the middle of an exec the environment is empty.
        let marker = tree::environment_variable(pid, MARKER).filter(|marker| is_own(marker));
        let marker = marker.or_else(|| self.members.get(&pid).cloned());
        marker.map(Origin::Marked).or(before).unwrap_or(Origin::UpTo(started))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Belongs {
    Starting,
    Running,
    Nobody,
}

fn belongs_to(origin: &Origin, commands: &[Watched]) -> Belongs {
    let comes_from = |command: &&Watched| match origin {
        Origin::Marked(marker) => command.marker == *marker,
        Origin::UpTo(id) => command.id <= *id,
    };
    let possible = || commands.iter().filter(comes_from).map(|command| command.phase);
    if possible().any(|phase| phase == Phase::Starting) {
        Belongs::Starting
    } else if possible().any(|phase| matches!(phase, Phase::Running(_))) {
        Belongs::Running
    } else {
        Belongs::Nobody
    }
}

#[cfg(test)]
mod tests {
    use tripod::{Drain, Tripod};

    use super::super::watched::tests::{command, context};
    use super::*;

    // Decided on a table, not on processes: the children of other tests are own children too.
    #[tokio::test]
    async fn a_process_is_a_leftover_once_no_command_can_own_it() {
        let tripod = Tripod::builder().build().unwrap();
        let context = context(&tripod, 0).await;
        let marked = |id: u64| Origin::Marked(format!("marker-{id}"));
        let (starting, running, ended) = (Phase::Starting, Phase::Running(4711), Phase::Ended);
        for (origin, phases, expected) in [
            (marked(1), &[][..], Belongs::Nobody),
            (marked(1), &[running], Belongs::Running),
            (marked(1), &[ended], Belongs::Nobody),
            (marked(1), &[ended, running], Belongs::Nobody),
            // What is being started bears its marker before its process is known.
            (marked(1), &[starting, running], Belongs::Starting),
            (marked(2), &[starting, running], Belongs::Running),
            // Without a marker it may be of any command up to that one.
            (Origin::UpTo(2), &[ended, running, running], Belongs::Running),
            (Origin::UpTo(2), &[ended, ended, running], Belongs::Nobody),
            (Origin::UpTo(0), &[running], Belongs::Nobody),
        ] {
            let commands: Vec<_> =
                (1..).zip(phases).map(|(id, phase)| command(id, &context, *phase)).collect();
            assert_eq!(belongs_to(&origin, &commands), expected, "{origin:?} {phases:?}");
        }
        tripod.shutdown(Drain::Now).await;
    }
}
