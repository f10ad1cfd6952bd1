//! What the tests share: schedulers of a given size, gates, and witnesses.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore};
use tripod_memory::MemoryManager;
use tripod_scheduler::{Task, TaskHandle, TaskScheduler};

pub(crate) fn tasks(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

pub(crate) fn scheduler(concurrency: usize) -> TaskScheduler {
    TaskScheduler::builder().concurrency(tasks(concurrency)).build().unwrap()
}

pub(crate) fn memory(budget_bytes: u64) -> MemoryManager {
    MemoryManager::builder().budget_bytes(budget_bytes).build().unwrap()
}

pub(crate) fn scheduler_with_memory(concurrency: usize, memory: &MemoryManager) -> TaskScheduler {
    TaskScheduler::builder().concurrency(tasks(concurrency)).memory(memory).build().unwrap()
}

/// Lets every other task of a current-thread runtime run until all of them wait.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Holds tasks until it is opened; counts who has come to it.
#[derive(Clone)]
pub(crate) struct Gate {
    open: Arc<Semaphore>,
    arrivals: Arc<AtomicUsize>,
    arrived: Arc<Notify>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let open = Arc::new(Semaphore::new(0));
        Self { open, arrivals: Arc::default(), arrived: Arc::default() }
    }

    /// Waits until the gate lets one through.
    pub(crate) async fn pass(&self) {
        self.arrivals.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_waiters();
        self.open.acquire().await.unwrap().forget();
    }

    pub(crate) fn open(&self, count: usize) {
        self.open.add_permits(count);
    }

    pub(crate) fn arrivals(&self) -> usize {
        self.arrivals.load(Ordering::SeqCst)
    }

    pub(crate) async fn until_arrivals(&self, count: usize) {
        loop {
            let arrived = self.arrived.notified();
            if self.arrivals() >= count {
                return;
            }
            arrived.await;
        }
    }

    /// A task that waits here.
    pub(crate) fn task(&self) -> Task<()> {
        let gate = self.clone();
        Task::new(async move { gate.pass().await })
    }
}

/// Occupies all permits of a scheduler; returns the gate that frees them.
pub(crate) async fn occupy(scheduler: &TaskScheduler, count: usize) -> (Gate, Vec<TaskHandle<()>>) {
    let gate = Gate::new();
    let handles = (0..count).map(|_| scheduler.submit(gate.task()).unwrap()).collect();
    gate.until_arrivals(count).await;
    (gate, handles)
}

/// Knows whether its [`Witness`] was dropped.
#[derive(Clone, Default)]
pub(crate) struct Dropped(Arc<AtomicBool>);

impl Dropped {
    pub(crate) fn is_dropped(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn witness(&self) -> Witness {
        Witness(self.clone())
    }
}

/// Is moved into a future, to see when it is dropped.
pub(crate) struct Witness(Dropped);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::SeqCst);
    }
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn write(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
