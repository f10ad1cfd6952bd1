//! Whether a command may run, and which signal is due to make it so.
//!
//! A signal may not reach all processes of a command: some may have left its process group, and
//! /proc, where those are found, may be out of reach (a shortage of descriptors) or change while it
//! is read. So what was decided and what is so are kept apart. **A command that was let go on counts
//! as running only once a look has found none of its processes standing still**; until then SIGCONT
//! is sent at every look. A look that could not read all of them has seen nothing, and changes
//! nothing.
//!
//! A command may stop processes of its own. So one that still stands after a signal that is certain
//! to have reached all, and then some for what was missed, is left alone.

use rustix::process::Signal;

/// How often SIGCONT is sent with all processes of the command in reach.
const SENT_TO_ALL_MAX: u8 = 3;

/// What was decided about a command, and whether it is known to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Motion {
    /// Runs: no signal was ever sent, or it was seen to have gone on.
    Runs,
    /// Is to stand still, by SIGSTOP, until there is memory for it.
    Paused,
    /// May run again, but was not yet seen to.
    GoesOn { sent_to_all: u8 },
    /// Is to end, by SIGKILL, to make room for others. For good.
    Killed,
}

impl Motion {
    pub(super) fn is_paused(self) -> bool {
        self == Self::Paused
    }

    pub(super) fn is_killed(self) -> bool {
        self == Self::Killed
    }

    /// Whether it has to be seen which of its processes stand still.
    pub(super) fn is_in_doubt(self) -> bool {
        matches!(self, Self::GoesOn { .. })
    }

    pub(super) fn pause(&mut self) {
        self.become_unless_killed(Self::Paused);
    }

    pub(super) fn go_on(&mut self) {
        self.become_unless_killed(Self::GoesOn { sent_to_all: 0 });
    }

    pub(super) fn kill(&mut self) {
        *self = Self::Killed;
    }

    /// Takes in what a look has seen: all of the processes, and whether any of them stood still.
    pub(super) fn seen(&mut self, any_stands_still: bool) {
        if self.is_in_doubt() && !any_stands_still {
            *self = Self::Runs;
        }
    }

    /// The signal to send to the command at this look.
    pub(super) fn due(self) -> Option<Signal> {
        match self {
            Self::Runs => None,
            Self::Paused => Some(Signal::STOP),
            Self::GoesOn { .. } => Some(Signal::CONT),
            Self::Killed => Some(Signal::KILL),
        }
    }

    /// Takes in that the signal that was due was sent, and whether to all of the processes.
    pub(super) fn sent(&mut self, is_to_all: bool) {
        if let Self::GoesOn { sent_to_all } = self
            && is_to_all
        {
            *sent_to_all += 1;
            if *sent_to_all == SENT_TO_ALL_MAX {
                *self = Self::Runs;
            }
        }
    }

    fn become_unless_killed(&mut self, next: Self) {
        if !self.is_killed() {
            *self = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens between two looks, and at the second.
    #[derive(Debug, Clone, Copy)]
    struct Look {
        /// Whether the processes could be read.
        is_read: bool,
        /// What is decided if so: whether there is memory for the command.
        is_within: bool,
        /// Which of its processes a signal reaches, and whether that is known to be all.
        reached: [bool; 3],
        is_to_all: bool,
    }

    /// Carries out a look as the watch does: first it sees, then it decides, then it sends.
    fn look(motion: &mut Motion, stands_still: &mut [bool; 3], look: Look) {
        if look.is_read {
            motion.seen(stands_still.contains(&true));
            match look.is_within {
                true if motion.is_paused() => motion.go_on(),
                true => {}
                false => motion.pause(),
            }
        }
        let Some(signal) = motion.due() else { return };
        for (stands_still, is_reached) in stands_still.iter_mut().zip(look.reached) {
            if is_reached || look.is_to_all {
                *stands_still = signal == Signal::STOP;
            }
        }
        motion.sent(look.is_to_all);
    }

    const GOOD: Look = Look { is_read: true, is_within: true, reached: [true; 3], is_to_all: true };

    fn any_look() -> impl Strategy<Value = Look> {
        let (flag, flags) = (any::<bool>(), any::<[bool; 3]>());
        (flag, any::<bool>(), flags, any::<bool>()).prop_map(
            |(is_read, is_within, reached, is_to_all)| Look {
                is_read,
                is_within,
                reached,
                is_to_all,
            },
        )
    }

    proptest! {
        // The hang of 2026-11: it was taken to run, and stood still for ever.
        #[test]
        fn one_that_is_taken_to_run_runs_and_two_good_looks_always_get_it_there(
            looks in prop::collection::vec(any_look(), 0..40)
        ) {
            let (mut motion, mut stands_still) = (Motion::Runs, [false; 3]);
            for each in looks {
                look(&mut motion, &mut stands_still, each);
                prop_assert!(motion != Motion::Runs || stands_still == [false; 3]);
            }
            for _ in 0..2 {
                look(&mut motion, &mut stands_still, GOOD);
            }
            prop_assert_eq!((motion, stands_still), (Motion::Runs, [false; 3]));
        }

        #[test]
        fn what_cannot_be_read_is_left_as_it_was_decided(
            looks in prop::collection::vec(any_look(), 0..40)
        ) {
            let (mut motion, mut stands_still) = (Motion::Runs, [false; 3]);
            for each in looks {
                let before = motion;
                look(&mut motion, &mut stands_still, each);
                prop_assert!(each.is_read || motion.is_paused() == before.is_paused());
            }
        }
    }

    #[test]
    fn one_that_stops_a_process_of_its_own_is_not_let_go_on_for_ever() {
        let (mut motion, mut signals) = (Motion::Paused, 0);
        for _ in 0..10 {
            let mut stands_still = [true, false, false];
            look(&mut motion, &mut stands_still, GOOD);
            signals += u8::from(!stands_still[0]);
        }
        assert_eq!((motion, signals), (Motion::Runs, SENT_TO_ALL_MAX));
    }

    #[test]
    fn one_that_is_killed_stays_so_and_is_killed_again_at_each_look() {
        let mut motion = Motion::Paused;
        motion.kill();
        motion.go_on();
        motion.pause();
        motion.seen(false);
        assert!(motion.is_killed());
        assert_eq!(motion.due(), Some(Signal::KILL));
    }
}
