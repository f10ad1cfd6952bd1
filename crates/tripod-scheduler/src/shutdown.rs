//! How a scheduler ends, and what it reports then.

/// Says what a shutdown does with the tasks that have not ended.
///
/// Ordered from the mildest to the strictest. Nothing new is accepted in any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drain {
    /// Runs everything that is queued or running to its end.
    Finish,
    /// Cancels what is queued and lets what runs end by itself.
    FinishRunning,
    /// Cancels what is queued and what runs; a running task is told, and dropped after its grace
    /// (see [`Task::cancel_grace`](crate::Task::cancel_grace)).
    Now,
}

/// Counts how the tasks of a scheduler ended, over its whole life.
///
/// Every task that was ever accepted is in exactly one of the three counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tasks that started and ended by themselves, by a panic or by their timeout.
    pub finished: u64,
    /// Tasks that were cancelled before they started.
    pub cancelled: u64,
    /// Tasks that were cancelled while they ran.
    pub aborted: u64,
}

impl ShutdownReport {
    /// Returns the sum of the three: every task that was ever accepted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.finished + self.cancelled + self.aborted
    }
}
