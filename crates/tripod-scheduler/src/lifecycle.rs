//! The life of one task: its states, the events that move it, and nothing else.
//!
//! [`State::after`] is the only place that says which state follows which;
//! `docs/task-lifecycle.md` shows it as a diagram and a table, and a test below derives both from
//! this function and compares them with that file.

use std::fmt;

/// Says where a task is in its life.
///
/// The last four are final. `docs/task-lifecycle.md` draws the transitions.
///
/// # Examples
/// ```
/// use tripod_scheduler::TaskStatus;
///
/// assert_eq!(TaskStatus::WaitingForMemory.to_string(), "waiting for memory");
/// assert!(TaskStatus::TimedOut.is_final());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskStatus {
    /// Stands in the line of its priority.
    Queued,
    /// Is the next to start, and waits until its memory is free.
    WaitingForMemory,
    /// Was started and holds a permit and its memory.
    Running,
    /// Was told to stop while it ran; still holds its permit and its memory.
    Cancelling,
    /// Returned its result.
    Succeeded,
    /// Panicked.
    Failed,
    /// Was cancelled before or while it ran.
    Cancelled,
    /// Was stopped because it ran longer than its timeout.
    TimedOut,
}

impl TaskStatus {
    /// Says whether the task has ended, so that its status changes no more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut)
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Queued => "queued",
            Self::WaitingForMemory => "waiting for memory",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
        })
    }
}

/// Says why a running task was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// Somebody cancelled it, or the scheduler is shutting down at once.
    Cancelled,
    /// It ran longer than its timeout.
    TimedOut,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
}

impl Outcome {
    pub(crate) const ALL: [Self; 4] =
        [Self::Succeeded, Self::Failed, Self::Cancelled, Self::TimedOut];

    /// The value of the metric label `outcome`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }
}

impl From<StopReason> for Outcome {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Cancelled => Self::Cancelled,
            StopReason::TimedOut => Self::TimedOut,
        }
    }
}

/// The state behind a [`TaskStatus`]: it also remembers why a task was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Queued,
    WaitingForMemory,
    Running,
    Stopping(StopReason),
    Ended(Outcome),
}

impl From<State> for TaskStatus {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::WaitingForMemory => Self::WaitingForMemory,
            State::Running => Self::Running,
            State::Stopping(_) => Self::Cancelling,
            State::Ended(Outcome::Succeeded) => Self::Succeeded,
            State::Ended(Outcome::Failed) => Self::Failed,
            State::Ended(Outcome::Cancelled) => Self::Cancelled,
            State::Ended(Outcome::TimedOut) => Self::TimedOut,
        }
    }
}

/// What can happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is the next to start, and its memory is not free.
    MemoryShort,
    /// A task of a higher priority became the next to start.
    Overtaken,
    /// It got its permit and its memory.
    Started,
    /// Somebody asked to cancel it.
    CancelRequested,
    /// It ran longer than its timeout.
    TimeoutPassed,
    /// Its future returned a value.
    Returned,
    /// Its future panicked.
    Panicked,
    /// Its future was dropped before it returned.
    Dropped,
}

impl State {
    /// The state that follows `self` when `event` happens; `None` where it changes nothing.
    ///
    /// Who was told to stop ends as cancelled or timed out even if its future still returns a
    /// value: a `true` from `cancel` then means that no value ever comes. A panic is never hidden.
    pub(crate) fn after(self, event: Event) -> Option<Self> {
        use Event as E;
        use State as S;
        Some(match (self, event) {
            (S::Queued, E::MemoryShort) => S::WaitingForMemory,
            (S::WaitingForMemory, E::Overtaken) => S::Queued,
            (S::Queued | S::WaitingForMemory, E::Started) => S::Running,
            (S::Queued | S::WaitingForMemory, E::CancelRequested) => S::Ended(Outcome::Cancelled),
            (S::Running, E::CancelRequested) => S::Stopping(StopReason::Cancelled),
            (S::Running, E::TimeoutPassed) => S::Stopping(StopReason::TimedOut),
            (S::Running, E::Returned) => S::Ended(Outcome::Succeeded),
            (S::Running, E::Dropped) => S::Ended(Outcome::Cancelled),
            (S::Stopping(reason), E::Returned | E::Dropped) => S::Ended(reason.into()),
            (S::Running | S::Stopping(_), E::Panicked) => S::Ended(Outcome::Failed),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
