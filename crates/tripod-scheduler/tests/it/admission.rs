//! Tasks that need memory.

use tripod_scheduler::{
    Priority, SubmitError, Task, TaskContext, TaskError, TaskScheduler, TaskStatus,
};

use crate::support::{Gate, Log, memory, scheduler, scheduler_with_memory, settle, tasks};

/// A task that holds `bytes` until the gate opens.
fn holding(gate: &Gate, bytes: u64) -> Task<()> {
    gate.task().memory_bytes(bytes)
}

#[tokio::test(start_paused = true)]
async fn a_big_task_waits_and_starts_when_memory_comes_back() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(4, &memory);
    let taken = memory.try_reserve(60).unwrap();
    let gate = Gate::new();
    let big = scheduler.submit(holding(&gate, 80)).unwrap();
    settle().await;
    assert_eq!(big.status(), TaskStatus::WaitingForMemory);
    assert_eq!(scheduler.status(big.id()), Some(TaskStatus::WaitingForMemory));
    assert_eq!(gate.arrivals(), 0);

    drop(taken);
    gate.until_arrivals(1).await;
    assert_eq!(memory.root().used_bytes(), 80);
    gate.open(1);
    big.await.unwrap();
    assert_eq!(memory.root().used_bytes(), 0);
    assert_eq!(scheduler.stats().memory_waits, 1);
}

#[tokio::test(start_paused = true)]
async fn a_small_task_does_not_pass_a_big_one_of_its_priority() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(4, &memory);
    let taken = memory.try_reserve(60).unwrap();
    let log = Log::default();
    let mut handles = Vec::new();
    for (name, bytes) in [("big", 80), ("small", 1), ("none", 0)] {
        let log = log.clone();
        let task = Task::new(async move { log.write(name) }).memory_bytes(bytes);
        handles.push(scheduler.submit(task).unwrap());
    }
    settle().await;
    assert_eq!(log.entries(), [""; 0]);
    drop(taken);
    for handle in handles {
        handle.await.unwrap();
    }
    assert_eq!(log.entries(), ["big", "small", "none"]);
}

#[tokio::test(start_paused = true)]
async fn a_higher_priority_goes_before_a_waiter_which_still_runs_later() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(1, &memory);
    let taken = memory.try_reserve(60).unwrap();
    let gate = Gate::new();
    let big = scheduler.submit(holding(&gate, 80)).unwrap();
    settle().await;
    assert_eq!(big.status(), TaskStatus::WaitingForMemory);

    // It fits beside what is taken, but only if the waiter has left the ledger's line.
    let urgent_gate = Gate::new();
    let urgent = holding(&urgent_gate, 30).priority(Priority::High);
    let urgent = scheduler.submit(urgent).unwrap();
    urgent_gate.until_arrivals(1).await;
    assert_eq!(big.status(), TaskStatus::Queued);
    drop(taken);
    settle().await;
    assert_eq!(gate.arrivals(), 0, "the only permit is taken");

    urgent_gate.open(1);
    urgent.await.unwrap();
    gate.until_arrivals(1).await;
    gate.open(1);
    big.await.unwrap();
    assert_eq!(scheduler.stats().memory_waits, 1, "one task waited, however often");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_do_not_fit_together_never_run_together() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(8, &memory);
    let log = Log::default();
    let handles: Vec<_> = (0..20)
        .map(|_| {
            let (log, root) = (log.clone(), memory.root().clone());
            let work = async move {
                log.write("enter");
                assert_eq!(root.used_bytes(), 51);
                tokio::task::yield_now().await;
                log.write("leave");
            };
            scheduler.submit(Task::new(work).memory_bytes(51)).unwrap()
        })
        .collect();
    for handle in handles {
        handle.await.unwrap();
    }
    assert_eq!(log.entries(), ["enter", "leave"].repeat(20));
    assert_eq!(memory.root().peak_bytes(), 51);
}

#[tokio::test(start_paused = true)]
async fn as_many_tasks_run_as_fit() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(8, &memory);
    let gate = Gate::new();
    let handles: Vec<_> = (0..6).map(|_| scheduler.submit(holding(&gate, 25)).unwrap()).collect();
    gate.until_arrivals(4).await;
    settle().await;
    assert_eq!((gate.arrivals(), memory.root().used_bytes()), (4, 100));
    gate.open(6);
    for handle in handles {
        handle.await.unwrap();
    }
    assert_eq!(memory.root().used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn memory_that_can_never_come_is_refused_at_once() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(1, &memory);
    let refused = scheduler.submit(Task::new(async {}).memory_bytes(101)).unwrap_err();
    assert_eq!(refused, SubmitError::Unsatisfiable { needed_bytes: 101, budget_bytes: 100 });
    scheduler.submit(Task::new(async {}).memory_bytes(100)).unwrap().await.unwrap();
    assert_eq!(scheduler.stats().submitted, 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_a_task_that_needs_memory_is_refused() {
    let scheduler = scheduler(1);
    let refused = scheduler.submit(Task::new(async {}).memory_bytes(1)).unwrap_err();
    assert_eq!(refused, SubmitError::NoMemoryManager { needed_bytes: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_child_budget_binds_the_tasks_of_its_scheduler() {
    let memory = memory(100);
    let budget = memory.budget("tasks").limit_bytes(40).create().unwrap();
    let scheduler = TaskScheduler::builder().concurrency(tasks(4)).memory(&budget).build().unwrap();
    let refused = scheduler.submit(Task::new(async {}).memory_bytes(41)).unwrap_err();
    assert_eq!(refused, SubmitError::Unsatisfiable { needed_bytes: 41, budget_bytes: 40 });
    let gate = Gate::new();
    let _handles: Vec<_> = (0..3).map(|_| scheduler.submit(holding(&gate, 20)).unwrap()).collect();
    gate.until_arrivals(2).await;
    settle().await;
    assert_eq!((gate.arrivals(), budget.used_bytes()), (2, 40));
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_waiter_leaves_the_ledgers_line() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(4, &memory);
    let taken = memory.try_reserve(60).unwrap();
    let gate = Gate::new();
    let big = scheduler.submit(holding(&gate, 80)).unwrap();
    settle().await;
    assert!(scheduler.cancel(big.id()));
    assert_eq!(big.await, Err(TaskError::Cancelled));
    settle().await;
    let beside = memory.try_reserve(40).expect("nobody stands in the line any more");
    drop((taken, beside));
    assert_eq!(gate.arrivals(), 0);
    assert_eq!(memory.root().used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_grows_its_memory_and_an_escaped_context_keeps_none_of_it() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(1, &memory);
    let task = Task::with_context(|context| async move {
        let memory = context.memory().unwrap();
        memory.try_grow(30).unwrap();
        assert!(memory.try_grow(60).is_err());
        assert_eq!(memory.bytes(), 50);
        context
    });
    let root = memory.root().clone();
    let context: TaskContext = scheduler.submit(task.memory_bytes(20)).unwrap().await.unwrap();
    assert_eq!(root.used_bytes(), 0);
    assert_eq!(root.peak_bytes(), 50);
    assert!(context.memory().is_some());
}
