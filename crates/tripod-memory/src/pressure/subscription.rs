//! Tells those who wait that the level has changed, on any runtime.
//!
//! One lock guards the newest [`Pressure`], a version that goes up when its level changes, and the
//! wakers. A subscription remembers the version it has seen, so a change between two waits is not
//! missed. Wakers are foreign code: they are cloned, woken and dropped with the lock released.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Pressure;

/// The side that publishes. Dropping it ends all waits.
#[derive(Debug)]
pub(crate) struct Publisher {
    board: Arc<Board>,
}

#[derive(Debug)]
struct Board {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pressure: Pressure,
    /// How often the level has changed.
    version: u64,
    has_ended: bool,
    /// What the next subscription is called.
    next_id: u64,
    /// By the subscription that waits.
    wakers: BTreeMap<u64, Waker>,
}

impl Publisher {
    pub(crate) fn new(pressure: Pressure) -> Self {
        let state =
            State { pressure, version: 0, has_ended: false, next_id: 0, wakers: BTreeMap::new() };
        Self { board: Arc::new(Board { state: Mutex::new(state) }) }
    }

    /// Makes `pressure` the newest, and wakes those who wait if its level is another.
    pub(crate) fn publish(&self, pressure: Pressure) {
        let mut state = self.board.lock();
        let has_changed = state.pressure.level != pressure.level;
        state.pressure = pressure;
        if has_changed {
            state.version += 1;
            wake_all(state);
        }
    }

    pub(crate) fn current(&self) -> Pressure {
        self.board.lock().pressure
    }

    /// A subscription that has seen what is published now.
    pub(crate) fn subscribe(&self) -> PressureSubscription {
        PressureSubscription::new(self.board.clone(), None)
    }
}

impl Publisher {
    /// Whether there is a subscription.
    pub(crate) fn is_followed(&self) -> bool {
        Arc::strong_count(&self.board) > 1
    }

    /// Ends all waits; what is published from now on nobody waits for.
    pub(crate) fn end(&self) {
        let mut state = self.board.lock();
        state.has_ended = true;
        wake_all(state);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.end();
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake_all(mut state: MutexGuard<'_, State>) {
    let wakers = std::mem::take(&mut state.wakers);
    drop(state);
    wakers.into_values().for_each(Waker::wake);
}

/// Follows the [`Pressure`] of a memory manager, whose memory it does not keep; comes from
/// [`MemoryManager::subscribe`](crate::MemoryManager::subscribe).
///
/// [`current`](Self::current) is always the newest; [`changed`](Self::changed) waits until its *level* is
/// another. A clone has seen what the original has, and from then on waits for itself.
///
/// # Examples
/// A cache that gives way:
/// ```
/// # use std::time::{Duration, Instant};
/// # use tripod_memory::{MemoryManager, PressureLevel, SystemMemory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = MemoryManager::builder().budget_bytes(1000)
///     # .background_collection(false).system_memory(SystemMemory::at("/nothing/there"))
///     .build()?;
/// let mut pressure = memory.subscribe();
/// assert_eq!(pressure.current().level, PressureLevel::None);
///
/// let mut cache = vec![memory.try_reserve(900)?];
/// # memory.collect(Instant::now(), Duration::from_millis(1));
/// if pressure.changed().await?.level >= PressureLevel::Moderate {
///     cache.clear();
/// }
/// assert_eq!(memory.root().used_bytes(), 0);
/// # Ok(())
/// # }
/// ```
pub struct PressureSubscription {
    board: Arc<Board>,
    id: u64,
    seen: u64,
}

impl PressureSubscription {
    /// A subscription that has seen the version `seen`; the newest if there is none.
    fn new(board: Arc<Board>, seen: Option<u64>) -> Self {
        let mut state = board.lock();
        let id = state.next_id;
        state.next_id += 1;
        let seen = seen.unwrap_or(state.version);
        drop(state);
        Self { board, id, seen }
    }

    /// Returns what was published last; after the manager is gone, what it published at its end.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// assert_eq!(memory.subscribe().current().limit_bytes, 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn current(&self) -> Pressure {
        self.board.lock().pressure
    }

    /// Waits until the level has changed since the last `changed` that was ready, or since the
    /// subscription began; answers with the newest pressure.
    ///
    /// A change that happened in between is not missed: the wait is then over at once. Several of them
    /// are one, so the level may even be what it was. Dropping the future loses nothing. It needs no
    /// certain runtime.
    ///
    /// # Errors
    /// [`PressureError::Ended`] if the manager is gone and there is no change left to tell of.
    ///
    /// # Examples
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tripod_memory::{MemoryManager, PressureLevel, SystemMemory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let memory = MemoryManager::builder().budget_bytes(1000)
    ///     # .background_collection(false).system_memory(SystemMemory::at("/nothing/there"))
    ///     .build()?;
    /// let mut pressure = memory.subscribe();
    /// let reservation = memory.try_reserve(990)?;
    /// # memory.collect(Instant::now(), Duration::from_millis(1));
    /// assert_eq!(pressure.changed().await?.level, PressureLevel::Critical);
    /// # drop(reservation);
    /// # Ok(())
    /// # }
    /// ```
    pub fn changed(&mut self) -> Changed<'_> {
        Changed { subscription: self }
    }
}

impl Clone for PressureSubscription {
    fn clone(&self) -> Self {
        Self::new(self.board.clone(), Some(self.seen))
    }
}

impl fmt::Debug for PressureSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureSubscription").field("current", &self.current()).finish()
    }
}

/// The wait for another level; comes from [`PressureSubscription::changed`].
///
/// # Examples
/// ```
/// # use tripod_memory::{MemoryManager, PressureError};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = MemoryManager::builder().build()?;
/// let mut pressure = memory.subscribe();
/// drop(memory);
/// assert_eq!(pressure.changed().await, Err(PressureError::Ended));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Changed<'a> {
    subscription: &'a mut PressureSubscription,
}

impl Future for Changed<'_> {
    type Output = Result<Pressure, PressureError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = context.waker().clone();
        let PressureSubscription { board, id, seen } = &mut *self.subscription;
        let mut state = board.lock();
        if state.version != *seen {
            *seen = state.version;
            return Poll::Ready(Ok(state.pressure));
        }
        if state.has_ended {
            return Poll::Ready(Err(PressureError::Ended));
        }
        let replaced = state.wakers.insert(*id, waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        let waker = self.subscription.board.lock().wakers.remove(&self.subscription.id);
        drop(waker);
    }
}

/// Why [`PressureSubscription::changed`] stopped waiting.
///
/// # Examples
/// ```
/// # use tripod_memory::PressureError;
/// assert_eq!(
///     PressureError::Ended.to_string(),
///     "pressure is no longer told: its memory manager is gone"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PressureError {
    /// Nobody publishes any more.
    #[error("pressure is no longer told: its memory manager is gone")]
    Ended,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::pressure::PressureLevel;

    /// Counts how often it is woken, and looks at the board when it is: that needs the lock.
    #[derive(Default)]
    struct Wakes {
        count: AtomicUsize,
        board: Mutex<Option<PressureSubscription>>,
    }

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.count.fetch_add(1, Ordering::SeqCst);
            if let Some(subscription) = &*self.board.lock().unwrap() {
                subscription.current();
            }
        }
    }

    fn at(level: PressureLevel, used_bytes: u64) -> Pressure {
        Pressure { level, used_bytes, ..Pressure::default() }
    }

    fn poll(
        subscription: &mut PressureSubscription,
        waker: &Waker,
    ) -> Poll<Result<Pressure, PressureError>> {
        Pin::new(&mut subscription.changed()).poll(&mut Context::from_waker(waker))
    }

    #[test]
    fn a_wait_ends_with_another_level_and_not_with_other_numbers() {
        let publisher = Publisher::new(at(PressureLevel::None, 0));
        let mut subscription = publisher.subscribe();
        let wakes = Arc::new(Wakes::default());
        *wakes.board.lock().unwrap() = Some(publisher.subscribe());
        let waker = Waker::from(wakes.clone());
        let mut context = Context::from_waker(&waker);

        let mut changed = subscription.changed();
        assert!(Pin::new(&mut changed).poll(&mut context).is_pending());
        publisher.publish(at(PressureLevel::None, 5));
        assert_eq!(wakes.count.load(Ordering::SeqCst), 0);
        publisher.publish(at(PressureLevel::Moderate, 6));
        assert_eq!(wakes.count.load(Ordering::SeqCst), 1);
        // The newest is told, not the one that woke.
        publisher.publish(at(PressureLevel::Moderate, 7));
        let expected = at(PressureLevel::Moderate, 7);
        assert_eq!(Pin::new(&mut changed).poll(&mut context), Poll::Ready(Ok(expected)));
        drop(changed);
        assert!(poll(&mut subscription, &waker).is_pending());
        assert_eq!(subscription.current(), expected);
        assert_eq!(publisher.current(), expected);
    }

    #[test]
    fn a_change_between_two_waits_is_not_missed_even_if_it_was_taken_back() {
        let publisher = Publisher::new(Pressure::default());
        let mut subscription = publisher.subscribe();
        publisher.publish(at(PressureLevel::Critical, 1));
        publisher.publish(at(PressureLevel::None, 2));
        let mut clone = subscription.clone();
        let expected = Poll::Ready(Ok(at(PressureLevel::None, 2)));
        assert_eq!(poll(&mut subscription, Waker::noop()), expected);
        assert!(poll(&mut subscription, Waker::noop()).is_pending());
        assert_eq!(poll(&mut clone, Waker::noop()), expected);
        assert!(poll(&mut publisher.subscribe(), Waker::noop()).is_pending());
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_no_waker_and_loses_no_change() {
        let publisher = Publisher::new(Pressure::default());
        let mut subscription = publisher.subscribe();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        assert!(poll(&mut subscription, &waker).is_pending());
        drop(waker);
        assert_eq!(Arc::strong_count(&wakes), 1);
        publisher.publish(at(PressureLevel::Moderate, 1));
        assert_eq!(wakes.count.load(Ordering::SeqCst), 0);
        assert!(poll(&mut subscription, Waker::noop()).is_ready());
    }

    #[test]
    fn a_wait_that_moves_to_another_task_wakes_only_that_one() {
        let publisher = Publisher::new(Pressure::default());
        let mut subscription = publisher.subscribe();
        let (first, second) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let mut changed = subscription.changed();
        for wakes in [&first, &second] {
            let waker = Waker::from(wakes.clone());
            assert!(Pin::new(&mut changed).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        publisher.publish(at(PressureLevel::Moderate, 1));
        let counts = [first, second].map(|wakes| wakes.count.load(Ordering::SeqCst));
        assert_eq!(counts, [0, 1]);
    }

    #[test]
    fn the_end_of_the_publisher_wakes_all_and_is_told_after_the_last_change() {
        let publisher = Publisher::new(Pressure::default());
        let mut behind = publisher.subscribe();
        publisher.publish(at(PressureLevel::Critical, 9));
        let mut waiting = publisher.subscribe();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut changed = waiting.changed();
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut changed).poll(&mut context).is_pending());
        drop(publisher);
        assert_eq!(wakes.count.load(Ordering::SeqCst), 1);
        let ended = Poll::Ready(Err(PressureError::Ended));
        assert_eq!(Pin::new(&mut changed).poll(&mut context), ended);
        let last = at(PressureLevel::Critical, 9);
        assert_eq!(poll(&mut behind, Waker::noop()), Poll::Ready(Ok(last)));
        assert_eq!(poll(&mut behind, Waker::noop()), ended);
        assert_eq!(behind.current(), last);
    }

    /// A lost wakeup would leave this waiting for ever.
    #[cfg(not(loom))]
    #[test]
    fn every_change_reaches_tasks_that_wait_while_another_thread_publishes() {
        const CHANGES: u64 = if cfg!(miri) { 20 } else { 2_000 };
        let publisher = Publisher::new(Pressure::default());
        let subscriptions: Vec<_> = (0..4).map(|_| publisher.subscribe()).collect();
        std::thread::scope(|scope| {
            for mut subscription in subscriptions {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        let mut used_bytes = 0;
                        while let Ok(pressure) = subscription.changed().await {
                            assert!(pressure.used_bytes > used_bytes, "told twice, or of the past");
                            used_bytes = pressure.used_bytes;
                        }
                        assert_eq!(used_bytes, CHANGES);
                    });
                });
            }
            for change in 1..=CHANGES {
                let levels = [PressureLevel::None, PressureLevel::Moderate];
                publisher.publish(at(levels[(change % 2) as usize], change));
            }
            drop(publisher);
        });
    }
}
