//! Decisions of the queue, compared exactly, and a comparison with a naive model.

use proptest::prelude::*;

use super::*;
use Priority::{Critical, Emergency, High, Low, Normal};

type Names = Queue<&'static str>;

fn submit(queue: &mut Names, priority: Priority, name: &'static str) -> TaskId {
    submit_with_memory(queue, priority, 0, name)
}

fn submit_with_memory(
    queue: &mut Names,
    priority: Priority,
    bytes: u64,
    name: &'static str,
) -> TaskId {
    queue.submit(priority, bytes, name).unwrap().id
}

fn start(id: TaskId, payload: &'static str) -> Next<&'static str> {
    Next::Start { id, payload }
}

#[test]
fn the_highest_priority_starts_first_and_equals_in_order_of_submission() {
    let mut queue = Names::new(10, 10);
    let low = submit(&mut queue, Low, "low");
    let first = submit(&mut queue, High, "first");
    let second = submit(&mut queue, High, "second");
    let normal = submit(&mut queue, Normal, "normal");
    let emergency = submit(&mut queue, Emergency, "emergency");
    let critical = submit(&mut queue, Critical, "critical");
    let decisions: Vec<_> = (0..7).map(|_| queue.next()).collect();
    assert_eq!(
        decisions,
        [
            start(emergency, "emergency"),
            start(critical, "critical"),
            start(first, "first"),
            start(second, "second"),
            start(normal, "normal"),
            start(low, "low"),
            Next::Idle,
        ]
    );
}

#[test]
fn only_a_submit_that_changes_what_starts_next_wakes_the_dispatcher() {
    let mut queue = Names::new(1, 10);
    let mut wakes = |priority| queue.submit(priority, 0, "").unwrap().wake;
    assert_eq!(
        [Normal, Normal, Low, High, High].map(&mut wakes),
        [true, false, false, true, false]
    );
    assert!(matches!(queue.next(), Next::Start { .. }));
    let submitted = queue.submit(Emergency, 0, "").unwrap();
    assert!(!submitted.wake, "without a permit nothing can start");
}

#[test]
fn a_finish_wakes_the_dispatcher_only_if_its_permit_was_the_missing_one() {
    let mut queue = Names::new(2, 10);
    let ids: Vec<TaskId> = (0..3).map(|_| submit(&mut queue, Normal, "task")).collect();
    assert_eq!(queue.next(), start(ids[0], "task"));
    assert_eq!(queue.next(), start(ids[1], "task"));
    assert_eq!(queue.next(), Next::Idle);
    let (outcome, payload) = (Outcome::Succeeded, "task");
    let finished = |wake| Finished { outcome, payload, wake, drained: false };
    assert_eq!(queue.finish(ids[0], Event::Returned), finished(true));
    assert_eq!(queue.next(), start(ids[2], "task"));
    assert_eq!(queue.finish(ids[1], Event::Returned), finished(false));
    assert_eq!(queue.finish(ids[2], Event::Returned), finished(false));
    assert_eq!((queue.running(), queue.queued()), (0, 0));
}

#[test]
fn a_head_that_waits_for_memory_is_overtaken_and_keeps_its_place() {
    let mut queue = Names::new(1, 10);
    let big = submit_with_memory(&mut queue, Normal, 7, "big");
    let small = submit(&mut queue, Normal, "small");
    assert_eq!(queue.next(), Next::Reserve { id: big, bytes: 7 });
    assert!(queue.wait_for_memory(big));
    assert_eq!(queue.status(big), Some(TaskStatus::WaitingForMemory));
    assert_eq!(queue.next(), Next::Reserve { id: big, bytes: 7 }, "small does not pass");

    let urgent = submit(&mut queue, High, "urgent");
    assert_eq!(queue.start(big), None, "the memory came too late");
    assert_eq!(queue.next(), start(urgent, "urgent"));
    assert_eq!(queue.next(), Next::Idle);
    assert_eq!(queue.status(big), Some(TaskStatus::Queued));

    assert!(queue.finish(urgent, Event::Panicked).wake);
    assert_eq!(queue.next(), Next::Reserve { id: big, bytes: 7 });
    assert!(!queue.wait_for_memory(big), "its second wait is not counted again");
    assert_eq!(queue.start(big), Some("big"));
    assert_eq!(queue.status(small), Some(TaskStatus::Queued));
}

#[test]
fn cancelling_the_last_waiter_wakes_the_dispatcher_so_that_it_leaves_the_line() {
    let mut queue = Names::new(1, 10);
    let big = submit_with_memory(&mut queue, Normal, 7, "big");
    assert_eq!(queue.next(), Next::Reserve { id: big, bytes: 7 });
    assert!(queue.wait_for_memory(big));
    let removed = Stopped::Removed { payload: "big", wake: true, drained: false };
    assert_eq!(queue.stop(big, Event::CancelRequested), removed);
    assert_eq!(queue.start(big), None);
    assert_eq!(queue.next(), Next::Idle);
}

#[test]
fn a_task_is_told_to_stop_once_and_holds_its_permit_until_it_has_stopped() {
    let mut queue = Names::new(1, 10);
    let first = submit(&mut queue, Normal, "first");
    let second = submit(&mut queue, Normal, "second");
    assert_eq!(queue.stop(first, Event::TimeoutPassed), Stopped::Unchanged);
    assert_eq!(queue.next(), start(first, "first"));
    assert_eq!(queue.stop(first, Event::TimeoutPassed), Stopped::Signal { payload: "first" });
    assert_eq!(queue.stop(first, Event::CancelRequested), Stopped::Unchanged);
    assert_eq!(queue.status(first), Some(TaskStatus::Cancelling));
    assert_eq!(queue.next(), Next::Idle);
    let finished = queue.finish(first, Event::Returned);
    assert_eq!((finished.outcome, finished.wake), (Outcome::TimedOut, true));
    assert_eq!(queue.status(first), None);
    assert_eq!(queue.next(), start(second, "second"));
}

#[test]
fn a_cancelled_task_frees_its_place_under_the_limit() {
    let mut queue = Names::new(1, 2);
    let first = submit(&mut queue, Normal, "first");
    let second = submit(&mut queue, Normal, "second");
    assert_eq!(queue.submit(Emergency, 0, "third"), Err((Refusal::Full, "third")));
    let removed = Stopped::Removed { payload: "second", wake: false, drained: false };
    assert_eq!(queue.stop(second, Event::CancelRequested), removed);
    assert_eq!(queue.stop(second, Event::CancelRequested), Stopped::Unchanged);
    submit(&mut queue, Normal, "third");
    assert_eq!(queue.next(), start(first, "first"));
    submit(&mut queue, Normal, "running tasks do not count");
}

#[test]
fn a_line_of_cancelled_tasks_does_not_grow() {
    let mut queue = Names::new(1, 1_000_000);
    submit(&mut queue, Low, "stays in front");
    for _ in 0..100_000 {
        let id = submit(&mut queue, Low, "cancelled");
        queue.stop(id, Event::CancelRequested);
    }
    assert_eq!(queue.queued(), 1);
    assert!(queue.levels[Low.index()].line.len() <= 2 + Level::STALE_ALLOWED);
}

#[test]
fn each_drain_stops_exactly_what_it_says() {
    for (drain, removed, signal) in [
        (Drain::Finish, vec![], vec![]),
        (Drain::FinishRunning, vec!["queued"], vec![]),
        (Drain::Now, vec!["queued"], vec!["running"]),
    ] {
        let mut queue = Names::new(1, 10);
        let running = submit(&mut queue, Normal, "running");
        submit(&mut queue, Normal, "queued");
        assert_eq!(queue.next(), start(running, "running"));
        let closed = Closed { removed, signal, drained: false };
        assert_eq!(queue.close(drain), closed, "{drain:?}");
        let again = Closed { removed: vec![], signal: vec![], drained: false };
        assert_eq!(queue.close(Drain::Finish), again, "{drain:?}, then a milder one");
        assert_eq!(queue.submit(Normal, 0, "late"), Err((Refusal::Closed, "late")));
        let is_last = drain != Drain::Finish;
        assert_eq!(queue.finish(running, Event::Returned).drained, is_last, "{drain:?}");
        assert_eq!(queue.next() == Next::Closed, is_last, "{drain:?}");
    }
}

#[test]
fn a_stricter_drain_takes_over() {
    let mut queue = Names::new(1, 10);
    submit(&mut queue, Normal, "running");
    submit(&mut queue, Normal, "queued");
    queue.next();
    queue.close(Drain::Finish);
    let closed = Closed { removed: vec!["queued"], signal: vec!["running"], drained: false };
    assert_eq!(queue.close(Drain::Now), closed);
}

#[test]
#[should_panic(expected = "only a task that runs finishes, once")]
fn a_permit_cannot_come_back_twice() {
    let mut queue = Names::new(1, 10);
    let id = submit(&mut queue, Normal, "task");
    queue.next();
    queue.finish(id, Event::Returned);
    queue.finish(id, Event::Returned);
}

/// What happens to the queue in one step of the comparison; tasks are picked by index.
#[derive(Clone, Copy, Debug)]
enum Step {
    Submit { level: usize, bytes: u64 },
    GrantMemory,
    Finish { pick: usize, event: usize },
    Stop { pick: usize, is_timeout: bool },
    Close { drain: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        40 => (0..5_usize, 0..2_u64).prop_map(|(level, bytes)| Step::Submit { level, bytes }),
        20 => Just(Step::GrantMemory),
        25 => (any::<usize>(), 0..3_usize).prop_map(|(pick, event)| Step::Finish { pick, event }),
        20 => (any::<usize>(), any::<bool>())
            .prop_map(|(pick, is_timeout)| Step::Stop { pick, is_timeout }),
        1 => (0..3_usize).prop_map(|drain| Step::Close { drain }),
    ];
    prop::collection::vec(step, 0..200)
}

/// One task in the model: everything is found by looking at all of them.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: TaskId,
    priority: Priority,
    status: TaskStatus,
}

/// The queue under test beside a plain list of tasks, and a dispatcher that acts only when told.
struct Comparison {
    queue: Queue<()>,
    known: Vec<Known>,
    concurrency: usize,
    limit: usize,
    told: bool,
    reserving: Option<TaskId>,
    closed: Option<Drain>,
}

impl Comparison {
    fn new(concurrency: usize, limit: usize) -> Self {
        Self {
            queue: Queue::new(concurrency, limit),
            known: Vec::new(),
            concurrency,
            limit,
            told: false,
            reserving: None,
            closed: None,
        }
    }

    fn count(&self, statuses: &[TaskStatus]) -> usize {
        self.known.iter().filter(|task| statuses.contains(&task.status)).count()
    }

    fn queued(&self) -> usize {
        self.count(&[TaskStatus::Queued, TaskStatus::WaitingForMemory])
    }

    fn running(&self) -> usize {
        self.count(&[TaskStatus::Running, TaskStatus::Cancelling])
    }

    /// The oldest task of the highest priority, by looking at all of them.
    fn expected_head(&self) -> Option<TaskId> {
        let waits = |task: &&Known| {
            matches!(task.status, TaskStatus::Queued | TaskStatus::WaitingForMemory)
        };
        let urgency = |task: &&Known| (task.priority, std::cmp::Reverse(task.id));
        self.known.iter().filter(waits).max_by_key(urgency).map(|task| task.id)
    }

    fn set(&mut self, id: TaskId, status: TaskStatus) {
        self.known.iter_mut().find(|task| task.id == id).unwrap().status = status;
    }

    fn started(&mut self, id: TaskId) {
        assert_eq!(Some(id), self.expected_head());
        self.set(id, TaskStatus::Running);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Submit { level, bytes } => self.submit(Priority::ALL[level], bytes),
            Step::GrantMemory => {
                if let Some(id) = self.reserving.take() {
                    assert_eq!(self.queue.start(id), Some(()), "the wait was for the head");
                    self.started(id);
                    self.told = true;
                }
            }
            Step::Finish { pick, event } => self.finish(pick, event),
            Step::Stop { pick, is_timeout } => self.stop(pick, is_timeout),
            Step::Close { drain } => {
                self.close([Drain::Finish, Drain::FinishRunning, Drain::Now][drain]);
            }
        }
        self.dispatch();
        self.check();
    }

    fn submit(&mut self, priority: Priority, bytes: u64) {
        let expected = match self.closed {
            Some(_) => Some(Refusal::Closed),
            None => (self.queued() == self.limit).then_some(Refusal::Full),
        };
        match self.queue.submit(priority, bytes, ()) {
            Ok(Submitted { id, wake }) => {
                assert_eq!(expected, None);
                self.known.push(Known { id, priority, status: TaskStatus::Queued });
                self.told |= wake;
            }
            Err((refusal, ())) => assert_eq!(Some(refusal), expected),
        }
    }

    fn finish(&mut self, pick: usize, event: usize) {
        let runs =
            |task: &&Known| matches!(task.status, TaskStatus::Running | TaskStatus::Cancelling);
        let running: Vec<Known> = self.known.iter().filter(runs).copied().collect();
        let Some(task) = running.get(pick % running.len().max(1)) else {
            return;
        };
        let event = [Event::Returned, Event::Panicked, Event::Dropped][event];
        let finished = self.queue.finish(task.id, event);
        self.set(task.id, State::Ended(finished.outcome).into());
        self.told |= finished.wake;
        assert_eq!(finished.drained, self.is_drained());
    }

    fn stop(&mut self, pick: usize, is_timeout: bool) {
        let Some(task) = self.known.get(pick % self.known.len().max(1)).copied() else {
            return;
        };
        let event = if is_timeout { Event::TimeoutPassed } else { Event::CancelRequested };
        match self.queue.stop(task.id, event) {
            Stopped::Removed { wake, drained, .. } => {
                let waits = [TaskStatus::Queued, TaskStatus::WaitingForMemory];
                assert!(waits.contains(&task.status) && !is_timeout);
                self.set(task.id, TaskStatus::Cancelled);
                self.told |= wake;
                assert_eq!(drained, self.is_drained());
            }
            Stopped::Signal { .. } => {
                assert_eq!(task.status, TaskStatus::Running);
                self.set(task.id, TaskStatus::Cancelling);
            }
            Stopped::Unchanged => {
                assert!(task.status.is_final() || is_timeout || self.queue_cancels(task.id));
            }
        }
    }

    fn queue_cancels(&self, id: TaskId) -> bool {
        self.queue.status(id) == Some(TaskStatus::Cancelling)
    }

    fn close(&mut self, drain: Drain) {
        let drain = self.closed.map_or(drain, |earlier| earlier.max(drain));
        self.closed = Some(drain);
        let closed = self.queue.close(drain);
        let (queued, running) = (self.queued(), self.count(&[TaskStatus::Running]));
        assert_eq!(closed.removed.len(), if drain >= Drain::FinishRunning { queued } else { 0 });
        assert_eq!(closed.signal.len(), if drain == Drain::Now { running } else { 0 });
        for task in &mut self.known {
            task.status = match task.status {
                TaskStatus::Queued | TaskStatus::WaitingForMemory
                    if drain >= Drain::FinishRunning =>
                {
                    TaskStatus::Cancelled
                }
                TaskStatus::Running if drain == Drain::Now => TaskStatus::Cancelling,
                unchanged => unchanged,
            };
        }
        assert_eq!(closed.drained, self.is_drained());
        self.told = true;
    }

    /// Does what the dispatcher does, and only when it was told.
    fn dispatch(&mut self) {
        while std::mem::take(&mut self.told) {
            match self.queue.next() {
                Next::Start { id, .. } => {
                    self.started(id);
                    self.told = true;
                }
                Next::Reserve { id, .. } => {
                    if let Some(earlier) =
                        self.reserving.replace(id).filter(|earlier| *earlier != id)
                        && self.queue.status(earlier).is_some()
                    {
                        self.set(earlier, TaskStatus::Queued);
                    }
                    self.queue.wait_for_memory(id);
                    self.set(id, TaskStatus::WaitingForMemory);
                }
                Next::Idle | Next::Closed => {
                    if let Some(id) = self.reserving.take()
                        && self.queue.status(id).is_some()
                    {
                        self.set(id, TaskStatus::Queued);
                    }
                }
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.closed.is_some() && self.queued() + self.running() == 0
    }

    fn check(&self) {
        assert_eq!(self.queue.running(), self.running());
        assert_eq!(self.queue.queued(), self.queued());
        assert!(self.running() <= self.concurrency && self.queued() <= self.limit);
        for task in &self.known {
            let status = (!task.status.is_final()).then_some(task.status);
            assert_eq!(self.queue.status(task.id), status, "{task:?}");
        }
        let startable = if self.running() < self.concurrency { self.expected_head() } else { None };
        assert_eq!(self.reserving, startable, "no startable task is ever forgotten");
        let ended = self.queue.ended();
        let live = self.queued() + self.running();
        assert_eq!(ended.total() as usize + live, self.known.len());
        let by_priority = Priority::ALL.map(|priority| self.queue.queued_at(priority));
        assert_eq!(by_priority.iter().sum::<usize>(), self.queued());
    }
}

proptest! {
    #[test]
    fn the_queue_decides_as_a_plain_list_of_tasks_would(
        concurrency in 1..4_usize,
        limit in 1..30_usize,
        steps in steps(),
    ) {
        let mut comparison = Comparison::new(concurrency, limit);
        for step in steps {
            comparison.apply(step);
        }
    }
}
