//! One command under watch: its memory, its reservation, and how it is paused and stopped.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tripod::{Reservation, TaskContext};

use super::Subject;
use super::motion::Motion;
use super::orphans::Orphans;
use super::outlook::{LOOK_EVERY_MAX, Pace};
use crate::process::cgroup::CommandGroup;
use crate::process::tree::{self, TreeUsage};

/// How much more than it needs at once a growing command asks for: a fraction of its reservation.
const GROWTH_HEADROOM_FRACTION: u64 = 8;
/// How long it is taken for granted what the processes of a command share while they run.
const SHARED_HOLDS_FOR: Duration = Duration::from_millis(100);

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
    pace: Pace,
    /// When it was last measured, or let run.
    measured: Instant,
    /// What is known of the pages that its processes share.
    shared: Option<Shared>,
    /// Its processes, as of the last look.
    pub(super) pids: Vec<i32>,
    pub(super) motion: Motion,
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

/// When it was looked into what processes share, and which those were.
#[derive(Debug)]
struct Shared {
    measured: Instant,
    /// In ascending order.
    pids: Vec<i32>,
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
    /// A command that is about to be started, `started` in the order `id`.
    pub(super) fn new(id: u64, subject: Subject, started: Instant) -> Self {
        let Subject { number, marker, context, group } = subject;
        Self {
            id,
            number,
            marker,
            context,
            group,
            started,
            phase: Phase::Starting,
            usage: Usage::default(),
            pace: Pace::FRESH,
            measured: started,
            shared: None,
            pids: Vec::new(),
            motion: Motion::Runs,
        }
    }

    /// Measures its memory, and sees which of its processes run.
    ///
    /// # Errors
    /// If the system is short of something. All that is known stays as it was.
    pub(super) fn measure(&mut self, now: Instant, orphans: &Orphans) -> io::Result<()> {
        let used_bytes = match &self.group {
            Some(group) => {
                if self.motion.is_in_doubt() {
                    self.motion.seen(self.tree(orphans)?.has_stopped);
                }
                group.used_bytes().unwrap_or(self.usage.used_bytes)
            }
            None => {
                let tree = self.tree(orphans)?;
                self.motion.seen(tree.has_stopped);
                self.pids = tree.pids;
                tree.rss_bytes.saturating_sub(self.usage.shared_bytes)
            }
        };
        self.usage.grown_bytes = used_bytes.saturating_sub(self.usage.used_bytes);
        let since = now.saturating_duration_since(std::mem::replace(&mut self.measured, now));
        if matches!(self.phase, Phase::Running(_)) && !self.motion.is_paused() {
            self.pace.observe(self.usage.grown_bytes, since);
        }
        self.set_used(used_bytes);
        Ok(())
    }

    /// The processes of the command and what they have, shared pages counted for each.
    fn tree(&self, orphans: &Orphans) -> io::Result<TreeUsage> {
        let mut tree = TreeUsage::default();
        if let Phase::Running(pid) = self.phase {
            tree.add_child_tree(pid)?;
        }
        for pid in orphans.of(self) {
            tree.add_child_tree(pid)?;
        }
        Ok(tree)
    }

    /// Looks into what the processes share. Slow (2 ms for 150 MiB), so it is done only before the
    /// command is refused memory.
    fn measure_shared(&mut self, now: Instant, orphans: &Orphans) -> io::Result<()> {
        let tree = self.tree(orphans)?;
        let pss_bytes = tree.pss_bytes()?;
        self.shared = Some(Shared { measured: now, pids: sorted(&tree.pids) });
        if let Some(pss_bytes) = pss_bytes {
            self.usage.shared_bytes = tree.rss_bytes.saturating_sub(pss_bytes);
            self.set_used(tree.rss_bytes.min(pss_bytes));
        }
        Ok(())
    }

    fn set_used(&mut self, used_bytes: u64) {
        self.usage.used_bytes = used_bytes;
        self.usage.peak_bytes = self.usage.peak_bytes.max(used_bytes);
    }

    fn reserved_bytes(&self) -> u64 {
        self.context.memory().map_or(u64::MAX, |reservation| reservation.bytes())
    }

    /// Whether the watch has a say in what becomes of the command.
    pub(super) fn is_held_to_reservation(&self) -> bool {
        !self.motion.is_killed() && self.phase != Phase::Ended
    }

    /// Whether the command may go on: it is within its reservation, which is grown by up to
    /// `room_bytes` where it has to be. Otherwise it is paused.
    pub(super) fn settle(&mut self, now: Instant, orphans: &Orphans, room_bytes: u64) -> bool {
        let is_within = self.grow_reservation(room_bytes);
        if !is_within {
            self.pause(now);
        } else if self.motion.is_paused() {
            self.go_on(now);
        }
        self.enforce(orphans);
        is_within
    }

    /// Whether what its processes share has to be looked into before it is refused memory.
    pub(super) fn is_shared_unclear(&self) -> bool {
        let is_of_these = |shared: &Shared| shared.pids == sorted(&self.pids);
        self.group.is_none() && !self.shared.as_ref().is_some_and(is_of_these)
    }

    /// As [`settle`](Self::settle), for one that was refused, with shared pages counted once. Where
    /// that cannot be read, it stays refused and unclear.
    pub(super) fn settle_again(
        &mut self,
        now: Instant,
        orphans: &Orphans,
        room_bytes: u64,
    ) -> bool {
        self.measure_shared(now, orphans).is_ok() && self.settle(now, orphans, room_bytes)
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

    /// Takes what is missing from `other`. It goes on at the next look, if that is enough: whoever
    /// is let go on must be in sight.
    pub(super) fn take_from(&self, other: &Reservation) {
        let Some(reservation) = self.context.memory() else { return };
        let reserved_bytes = reservation.bytes();
        let headroom_bytes = reserved_bytes / GROWTH_HEADROOM_FRACTION;
        let missing_bytes = self.usage.used_bytes.saturating_sub(reserved_bytes);
        other.move_to(reservation, missing_bytes + headroom_bytes);
    }

    fn pause(&mut self, now: Instant) {
        if !self.motion.is_paused() {
            // It changes while they run. While they do not, what is known stays true: however many
            // are paused, and however long it takes, it is clear for all of them at some time.
            let is_old = |shared: &mut Shared| {
                now.saturating_duration_since(shared.measured) >= SHARED_HOLDS_FOR
            };
            self.shared.take_if(is_old);
        }
        self.motion.pause();
    }

    /// Lets it run again.
    pub(super) fn go_on(&mut self, now: Instant) {
        self.pace = Pace::FRESH;
        self.measured = now;
        self.motion.go_on();
    }

    pub(super) fn stop(&mut self, orphans: &Orphans) {
        self.motion.kill();
        tracing::debug!(
            number = self.number,
            used_bytes = self.usage.used_bytes,
            reserved_bytes = self.reserved_bytes(),
            "stopped for memory"
        );
        self.enforce(orphans);
    }

    /// Sends the signal that carries out what was decided, for as long as that is not seen to be
    /// so: at every look, since a process forked in the middle of one may have been missed.
    pub(super) fn enforce(&mut self, orphans: &Orphans) {
        if self.phase != Phase::Ended
            && let Some(signal) = self.motion.due()
        {
            let is_to_all = self.signal(signal, orphans).is_ok();
            self.motion.sent(is_to_all);
        }
    }

    /// Sends `signal` to every process of the command.
    ///
    /// # Errors
    /// If the system is short of something: those that have left the process group of the command
    /// may not be reached.
    pub(super) fn signal(&self, signal: Signal, orphans: &Orphans) -> io::Result<()> {
        if let (Some(group), Signal::KILL) = (&self.group, signal) {
            group.kill();
            return Ok(());
        }
        let root = match self.phase {
            Phase::Running(pid) => tree::signal_child_tree(pid, signal),
            Phase::Starting | Phase::Ended => Ok(()),
        };
        orphans.of(self).map(|pid| tree::signal_child_tree(pid, signal)).fold(root, Result::and)
    }

    /// How long after it was measured the command has to be looked at again.
    pub(super) fn next_look(&self) -> Duration {
        if self.motion.is_paused() || !self.is_held_to_reservation() {
            return LOOK_EVERY_MAX;
        }
        self.pace.next_look(self.reserved_bytes().saturating_sub(self.usage.used_bytes))
    }
}

fn sorted(pids: &[i32]) -> Vec<i32> {
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
pub(super) mod tests {
    use rustix::process::{Resource, Rlimit, setrlimit};
    use tripod::{Drain, Task, Tripod};

    use super::super::tests::waiting_shell;
    use super::*;
    use crate::process::descriptors;

    const MIB: u64 = 1 << 20;

    /// What the task of a command is given, with `reserved_bytes` reserved for it.
    pub(crate) async fn context(tripod: &Tripod, reserved_bytes: u64) -> TaskContext {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let task = Task::with_context(|context| async move {
            let _ = sender.send(context.clone());
            // What is reserved goes with the task.
            context.cancelled().await;
        });
        drop(tripod.submit(task.memory_bytes(reserved_bytes)).unwrap());
        receiver.await.unwrap()
    }

    /// A command with a marker that no process bears.
    pub(crate) fn command(id: u64, context: &TaskContext, phase: Phase) -> Watched {
        let (marker, context) = (format!("marker-{id}"), context.clone());
        let subject = Subject { number: id, marker, context, group: None };
        let mut command = Watched::new(id, subject, Instant::now());
        command.phase = phase;
        command
    }

    /// A running command that has `used_mib` of its 64, as of a look at its start.
    fn running(context: &TaskContext, used_mib: u64) -> Watched {
        let mut command = command(1, context, Phase::Running(0));
        command.set_used(used_mib * MIB);
        command
    }

    #[tokio::test]
    async fn one_that_goes_on_after_a_pause_is_expected_to_grow() {
        let tripod = Tripod::builder().memory_budget_bytes(64 * MIB).build().unwrap();
        let context = context(&tripod, 64 * MIB).await;
        let orphans = Orphans::default();
        let mut command = running(&context, 32);
        let fresh = command.next_look();
        command.pace.observe(0, Duration::from_secs(1));
        assert_eq!(command.next_look(), LOOK_EVERY_MAX);
        // A paused one needs no look, and is not expected to grow until it goes on.
        command.set_used(65 * MIB);
        assert!(!command.settle(Instant::now(), &orphans, 0) && command.motion.is_paused());
        assert_eq!(command.next_look(), LOOK_EVERY_MAX);
        command.set_used(32 * MIB);
        assert!(command.settle(Instant::now(), &orphans, 0) && !command.motion.is_paused());
        assert_eq!(command.next_look(), fresh);
        assert!(fresh < LOOK_EVERY_MAX);
        tripod.shutdown(Drain::Now).await;
    }

    #[tokio::test]
    async fn the_time_for_which_the_run_was_suspended_says_nothing_of_its_growth() {
        let tripod = Tripod::builder().memory_budget_bytes(64 * MIB).build().unwrap();
        let context = context(&tripod, 64 * MIB).await;
        let orphans = Orphans::default();
        let mut command = running(&context, 0);
        let later = command.started + Duration::from_secs(60);
        command.go_on(later);
        command.measure(later + Duration::from_millis(1), &orphans).unwrap();
        assert!(command.next_look() < LOOK_EVERY_MAX);
        tripod.shutdown(Drain::Now).await;
    }

    #[tokio::test]
    async fn what_it_shares_is_looked_into_after_it_has_run_and_when_its_processes_change() {
        let tripod = Tripod::builder().memory_budget_bytes(64 * MIB).build().unwrap();
        let context = context(&tripod, 64 * MIB).await;
        let orphans = Orphans::default();
        let mut command = running(&context, 65);
        let now = command.started;
        assert!(!command.settle(now, &orphans, 0) && command.is_shared_unclear());
        assert!(!command.settle_again(now, &orphans, 0) && !command.is_shared_unclear());
        for (runs_for, is_unclear) in [(SHARED_HOLDS_FOR / 2, false), (SHARED_HOLDS_FOR, true)] {
            command.set_used(32 * MIB);
            assert!(command.settle(now, &orphans, 0));
            command.set_used(65 * MIB);
            assert!(!command.settle(now + runs_for, &orphans, 0));
            assert_eq!(command.is_shared_unclear(), is_unclear, "{runs_for:?}");
        }
        // Not while it is paused, however long.
        assert!(!command.settle_again(now, &orphans, 0) && !command.is_shared_unclear());
        assert!(!command.settle(now + 9 * SHARED_HOLDS_FOR, &orphans, 0));
        assert!(!command.is_shared_unclear());
        command.pids.push(0);
        assert!(command.is_shared_unclear());
        tripod.shutdown(Drain::Now).await;
    }

    #[tokio::test]
    async fn what_another_had_is_taken_before_it_goes_on() {
        let tripod = Tripod::builder().memory_budget_bytes(128 * MIB).build().unwrap();
        let (context, ended) = (context(&tripod, 64 * MIB).await, context(&tripod, 64 * MIB).await);
        let orphans = Orphans::default();
        let mut command = running(&context, 72);
        assert!(!command.settle(Instant::now(), &orphans, 0));
        command.take_from(ended.memory().unwrap());
        // What is missing, and an eighth of what it had.
        assert_eq!(command.reserved_bytes(), 80 * MIB);
        assert!(command.motion.is_paused(), "until the watch looks at it");
        assert!(command.settle(Instant::now(), &orphans, 0) && !command.motion.is_paused());
        tripod.shutdown(Drain::Now).await;
    }

    #[tokio::test]
    async fn one_whose_process_is_not_known_is_never_taken_to_stand_still() {
        let tripod = Tripod::builder().build().unwrap();
        let context = context(&tripod, 64 * MIB).await;
        let mut command = command(1, &context, Phase::Starting);
        let fresh = command.next_look();
        for second in 1..=3 {
            let now = command.started + Duration::from_secs(second);
            command.measure(now, &Orphans::default()).unwrap();
        }
        assert_eq!(command.next_look(), fresh);
        tripod.shutdown(Drain::Now).await;
    }

    /// Runs `work` on a thread that has no file descriptor left to open anything with.
    fn without_descriptors<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        // For all tests, none of which comes close: so that there are not millions to use up.
        let limit = rustix::process::getrlimit(Resource::Nofile);
        let current = limit.current.map(|number| number.min(4096));
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
        let in_thread = || {
            descriptors::own_table().unwrap();
            let null = std::fs::File::open("/dev/null").unwrap();
            let copies: Vec<_> =
                std::iter::repeat_with(|| null.try_clone()).take_while(io::Result::is_ok).collect();
            let done = work();
            drop(copies);
            done
        };
        std::thread::scope(|scope| scope.spawn(in_thread).join().unwrap())
    }

    // The hang of 2026-11: without descriptors it was taken to have no memory, and let go on; but
    // the signal did not arrive, and it was never sent again.
    #[tokio::test]
    async fn without_descriptors_nothing_is_forgotten_and_a_paused_command_can_go_on() {
        let tripod = Tripod::builder().memory_budget_bytes(64 * MIB).build().unwrap();
        let context = context(&tripod, 4096).await;
        let orphans = Orphans::default();
        let mut shell = waiting_shell();
        let pid = i32::try_from(shell.id()).unwrap();
        let mut command = command(1, &context, Phase::Running(pid));
        let now = command.started;
        // In the middle of an exec it has no memory.
        let mut looks = 0..10_000;
        while command.usage.used_bytes <= 4096 && looks.next().is_some() {
            command.measure(now, &orphans).unwrap();
        }
        let usage = command.usage;
        assert!(!command.settle(now, &orphans, 0));
        assert!((0..10_000).any(|_| command.tree(&orphans).unwrap().has_stopped));
        let second = now + Duration::from_secs(1);
        let result = without_descriptors(|| {
            let result = command.measure(second, &orphans);
            command.enforce(&orphans);
            result
        });
        let shortage = result.expect_err("it cannot be read").raw_os_error();
        assert_eq!(shortage, Some(libc::EMFILE));
        assert_eq!((command.usage, command.motion), (usage, Motion::Paused));
        without_descriptors(|| {
            command.go_on(second);
            command.enforce(&orphans);
        });
        assert!(!command.tree(&orphans).unwrap().has_stopped, "its group needs no descriptor");
        assert!(command.motion.is_in_doubt(), "others may not have been reached");
        command.measure(second, &orphans).unwrap();
        assert_eq!(command.motion, Motion::Runs);
        command.stop(&orphans);
        shell.wait().unwrap();
        tripod.shutdown(Drain::Now).await;
    }
}
