//! The scheduler's state machine: who waits, who runs, and who is next.
//!
//! Pure: it holds no clock, no lock, no waker and no future. Each verb answers with what its
//! caller has to do, so that tests compare decisions exactly. It guarantees that
//!
//! - the next task to start is the oldest one of the highest priority that has any;
//! - never more than `concurrency` tasks run, and a permit comes back exactly once per start;
//! - as long as a permit is free and a task is queued, either the dispatcher was told (an answer
//!   said `wake`) or the head of the queue waits for its memory;
//! - every verb costs O(1) amortised, except [`Queue::close`].
//!
//! It knows nothing of memory beyond how much each task needs: to get it is the dispatcher's work.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::lifecycle::{Event, Outcome, State, TaskStatus};
use crate::priority::Priority;
use crate::shutdown::{Drain, ShutdownReport};

/// Names a task within its scheduler; given in the order of submission, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u64);

impl TaskId {
    /// Returns the id as a number; the first task of a scheduler has 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a task was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
}

/// The answer to [`Queue::submit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Submitted {
    pub(crate) id: TaskId,
    /// The dispatcher must look at [`Queue::next`].
    pub(crate) wake: bool,
}

/// What the dispatcher does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next<P> {
    /// Start this task: it has its permit.
    Start { id: TaskId, payload: P },
    /// Get this much memory, then call [`Queue::start`].
    Reserve { id: TaskId, bytes: u64 },
    /// Nothing can start until the next wake.
    Idle,
    /// Nothing will ever start again.
    Closed,
}

/// The answer to [`Queue::stop`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stopped<P> {
    /// The task had not started and has ended.
    Removed { payload: P, wake: bool, drained: bool },
    /// The task runs and has to be told.
    Signal { payload: P },
    /// No such task, or it was told to stop before.
    Unchanged,
}

/// The answer to [`Queue::finish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished<P> {
    pub(crate) outcome: Outcome,
    pub(crate) payload: P,
    pub(crate) wake: bool,
    /// The queue is closed and its last task has ended.
    pub(crate) drained: bool,
}

/// The answer to [`Queue::close`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed<P> {
    /// Tasks that had not started and have ended, in the order of their ids.
    pub(crate) removed: Vec<P>,
    /// Tasks that run and have to be told, in the order of their ids.
    pub(crate) signal: Vec<P>,
    pub(crate) drained: bool,
}

/// The line of one priority.
///
/// A task that is cancelled in the middle leaves its id behind; the front is always live, and the
/// line is swept once more than half of it is stale, so a removal costs O(1) amortised.
#[derive(Debug, Default)]
struct Level {
    line: VecDeque<TaskId>,
    live: usize,
}

impl Level {
    const STALE_ALLOWED: usize = 32;

    /// Accounts for one task that left, then drops stale ids as the invariants ask.
    fn left(&mut self, is_live: impl Fn(TaskId) -> bool) {
        self.live -= 1;
        while self.line.front().is_some_and(|id| !is_live(*id)) {
            self.line.pop_front();
        }
        if self.line.len() > 2 * self.live + Self::STALE_ALLOWED {
            self.line.retain(|id| is_live(*id));
        }
    }
}

#[derive(Debug)]
struct Entry<P> {
    priority: Priority,
    memory_bytes: u64,
    state: State,
    has_waited: bool,
    payload: P,
}

impl<P> Entry<P> {
    fn is_queued(&self) -> bool {
        matches!(self.state, State::Queued | State::WaitingForMemory)
    }

    /// Moves to the state that follows, if any; says whether there was one.
    fn step(&mut self, event: Event) -> bool {
        let next = self.state.after(event);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }
}

/// The tasks of one scheduler that have not ended; `P` is what the caller keeps for each.
#[derive(Debug)]
pub(crate) struct Queue<P> {
    concurrency: usize,
    queue_limit: usize,
    levels: [Level; Priority::COUNT],
    tasks: HashMap<TaskId, Entry<P>>,
    /// The task in [`State::WaitingForMemory`]: the head of the queue when last looked at.
    waiting: Option<TaskId>,
    queued: usize,
    running: usize,
    last_id: u64,
    drain: Option<Drain>,
    ended: ShutdownReport,
}

impl<P: Clone> Queue<P> {
    pub(crate) fn new(concurrency: usize, queue_limit: usize) -> Self {
        assert!(concurrency > 0, "a scheduler without permits runs nothing");
        Self {
            concurrency,
            queue_limit,
            levels: Default::default(),
            tasks: HashMap::new(),
            waiting: None,
            queued: 0,
            running: 0,
            last_id: 0,
            drain: None,
            ended: ShutdownReport::default(),
        }
    }

    /// Puts a task at the end of its line, or hands its payload back.
    pub(crate) fn submit(
        &mut self,
        priority: Priority,
        memory_bytes: u64,
        payload: P,
    ) -> Result<Submitted, (Refusal, P)> {
        if self.drain.is_some() {
            return Err((Refusal::Closed, payload));
        }
        if self.queued >= self.queue_limit {
            return Err((Refusal::Full, payload));
        }
        self.last_id += 1;
        let id = TaskId(self.last_id);
        let state = State::Queued;
        let entry = Entry { priority, memory_bytes, state, has_waited: false, payload };
        self.tasks.insert(id, entry);
        let level = &mut self.levels[priority.index()];
        level.line.push_back(id);
        level.live += 1;
        self.queued += 1;
        Ok(Submitted { id, wake: self.has_permit() && self.head() == Some(id) })
    }

    /// Decides what the dispatcher does now; a task that needs no memory is started.
    pub(crate) fn next(&mut self) -> Next<P> {
        let Some(id) = self.head() else {
            return if self.drain.is_some() { Next::Closed } else { Next::Idle };
        };
        if self.waiting.is_some_and(|waiting| waiting != id || !self.has_permit()) {
            self.stop_waiting();
        }
        if !self.has_permit() {
            return Next::Idle;
        }
        match self.tasks[&id].memory_bytes {
            0 => Next::Start { id, payload: self.launch(id) },
            bytes => Next::Reserve { id, bytes },
        }
    }

    /// Starts the task whose memory was reserved; `None` if it is no longer the head.
    pub(crate) fn start(&mut self, id: TaskId) -> Option<P> {
        let startable = self.has_permit() && self.head() == Some(id);
        startable.then(|| self.launch(id))
    }

    /// Notes that the head waits for its memory; true if the task never waited before.
    pub(crate) fn wait_for_memory(&mut self, id: TaskId) -> bool {
        if self.head() != Some(id) {
            return false;
        }
        let entry = self.entry(id);
        if !entry.step(Event::MemoryShort) {
            return false;
        }
        let is_first_wait = !std::mem::replace(&mut entry.has_waited, true);
        self.waiting = Some(id);
        is_first_wait
    }

    /// Tells a task to stop: `event` is [`Event::CancelRequested`] or [`Event::TimeoutPassed`].
    pub(crate) fn stop(&mut self, id: TaskId, event: Event) -> Stopped<P> {
        let was_head = self.head() == Some(id);
        let Some(entry) = self.tasks.get_mut(&id) else {
            return Stopped::Unchanged;
        };
        if !entry.step(event) {
            return Stopped::Unchanged;
        }
        if !matches!(entry.state, State::Ended(_)) {
            return Stopped::Signal { payload: entry.payload.clone() };
        }
        let entry = self.tasks.remove(&id).expect("the task was found above");
        self.leave_line(id, entry.priority);
        self.ended.cancelled += 1;
        // Also with nothing left behind it: the dispatcher must leave the line for its memory.
        let is_last = self.is_closed() && self.queued == 0;
        let wake = is_last || (was_head && self.has_permit());
        Stopped::Removed { payload: entry.payload, wake, drained: self.is_drained() }
    }

    /// Ends a running task and takes its permit back.
    ///
    /// `event` is [`Event::Returned`], [`Event::Panicked`] or [`Event::Dropped`].
    ///
    /// # Panics
    /// If the task does not run: its permit would come back twice.
    pub(crate) fn finish(&mut self, id: TaskId, event: Event) -> Finished<P> {
        let mut entry = self.tasks.remove(&id).expect("only a task that runs finishes, once");
        assert!(!entry.is_queued() && entry.step(event), "{event:?} ends no running task");
        let State::Ended(outcome) = entry.state else { unreachable!("{event:?} is final") };
        let was_full = !self.has_permit();
        self.running -= 1;
        match outcome {
            Outcome::Cancelled => self.ended.aborted += 1,
            Outcome::Succeeded | Outcome::Failed | Outcome::TimedOut => self.ended.finished += 1,
        }
        let wake = was_full && self.queued > 0;
        Finished { outcome, payload: entry.payload, wake, drained: self.is_drained() }
    }

    /// Refuses further tasks and stops those that `drain` says; a milder second call changes
    /// nothing. The dispatcher must look at [`Queue::next`] afterwards.
    pub(crate) fn close(&mut self, drain: Drain) -> Closed<P> {
        let drain = self.drain.map_or(drain, |earlier| earlier.max(drain));
        self.drain = Some(drain);
        let mut told = Vec::new();
        if drain >= Drain::FinishRunning {
            let mut ids: Vec<TaskId> = self.tasks.keys().copied().collect();
            ids.retain(|id| drain == Drain::Now || self.tasks[id].is_queued());
            ids.sort_unstable();
            told.extend(ids.into_iter().map(|id| self.stop(id, Event::CancelRequested)));
        }
        let mut closed = Closed { removed: vec![], signal: vec![], drained: self.is_drained() };
        for stopped in told {
            match stopped {
                Stopped::Removed { payload, .. } => closed.removed.push(payload),
                Stopped::Signal { payload } => closed.signal.push(payload),
                Stopped::Unchanged => {}
            }
        }
        closed
    }

    pub(crate) fn status(&self, id: TaskId) -> Option<TaskStatus> {
        self.tasks.get(&id).map(|entry| entry.state.into())
    }

    /// How many tasks of this priority have not started.
    pub(crate) fn queued_at(&self, priority: Priority) -> usize {
        self.levels[priority.index()].live
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn running(&self) -> usize {
        self.running
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.drain.is_some()
    }

    /// How every task that was ever submitted and is no longer here has ended.
    pub(crate) fn ended(&self) -> ShutdownReport {
        self.ended
    }

    fn has_permit(&self) -> bool {
        self.running < self.concurrency
    }

    fn is_drained(&self) -> bool {
        self.is_closed() && self.tasks.is_empty()
    }

    /// The task that starts next: the front of the highest line that has one.
    fn head(&self) -> Option<TaskId> {
        self.levels.iter().rev().find_map(|level| level.line.front().copied())
    }

    fn entry(&mut self, id: TaskId) -> &mut Entry<P> {
        self.tasks.get_mut(&id).expect("every id in front of a line is live")
    }

    fn launch(&mut self, id: TaskId) -> P {
        let entry = self.entry(id);
        assert!(entry.step(Event::Started), "only a queued task starts");
        let (priority, payload) = (entry.priority, entry.payload.clone());
        self.leave_line(id, priority);
        self.running += 1;
        assert!(self.running <= self.concurrency, "more tasks run than there are permits");
        payload
    }

    /// Takes a task that is no longer queued out of its line.
    fn leave_line(&mut self, id: TaskId, priority: Priority) {
        self.waiting.take_if(|waiting| *waiting == id);
        self.queued -= 1;
        let tasks = &self.tasks;
        self.levels[priority.index()]
            .left(|id| tasks.get(&id).is_some_and(|entry| entry.is_queued()));
    }

    fn stop_waiting(&mut self) {
        if let Some(id) = self.waiting.take() {
            self.entry(id).step(Event::Overtaken);
        }
    }
}

#[cfg(test)]
mod tests;
