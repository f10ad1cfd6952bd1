//! Reservations: bytes promised to somebody who allocates them elsewhere, and the wait for them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::budget::{Budget, Record};
use crate::kept::KeptRecord;
use crate::leaks::{self, Note, Site};
use crate::ledger::{Answer, Ticket};
use crate::local;
use crate::sync::{AtomicU64, Ordering};

/// A wait for a [`Reservation`]; comes from [`Budget::reserve`] and
/// [`MemoryManager::reserve`](crate::MemoryManager::reserve).
///
/// # Order
/// First come, first served, by the first poll. A request that does not fit holds up those behind it
/// that need the budget it waits for, however small they are, so a large one is not starved. It does not
/// hold up those that do not need that budget: a full child leaves its siblings alone.
///
/// [`acquire`](Budget::acquire) and [`Reservation::try_grow`] do not stand in this line. Whoever calls
/// them has been admitted already; made to wait behind requests that wait for it to finish, it never
/// would.
///
/// While somebody waits, [spillers](crate::Spill) are asked to give memory back.
///
/// # Cancel-safety
/// Dropping it at any time loses nothing: a place in line is given up, and bytes that were granted but
/// not taken go to the next in line.
///
/// # Output
/// [`ReserveError::Unsatisfiable`] at once (without a wait) if a budget on the path is smaller than the
/// request; no other error.
///
/// # Panics
/// If polled after it is ready.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
/// let held = memory.reserve(800).await?;
/// // The first in line is too large for what is free, and the second is not passed on before it.
/// let (large, small) = tokio::join!(memory.reserve(900), async {
///     let refused = memory.try_reserve(100).is_err();
///     drop(held);
///     refused
/// });
/// assert_eq!((large?.bytes(), small), (900, true));
/// # Ok(())
/// # }
/// ```
#[must_use = "a reservation is requested when the future is polled"]
pub struct Reserve {
    budget: Budget,
    bytes: u64,
    priority: u8,
    stage: Stage,
    site: Site,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// In line, or granted and not taken: the ledger knows which.
    InLine(Ticket),
    Done,
}

impl Reserve {
    #[cfg_attr(debug_assertions, track_caller)]
    pub(crate) fn new(budget: Budget, bytes: u64) -> Self {
        Self { budget, bytes, priority: 0, stage: Stage::Idle, site: leaks::site() }
    }

    /// Sets the place in line: before all that have a lower priority; default: 0, the lowest.
    ///
    /// Those of a higher priority are served first for as long as there are any.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let held = memory.reserve(1000).await?;
    /// let (first, second) = (memory.reserve(600), memory.reserve(600).priority(1));
    /// let served = std::sync::Mutex::new(Vec::new());
    /// let note = |name, reserve: tripod_memory::Reserve| {
    ///     let served = &served;
    ///     async move {
    ///         let _reservation = reserve.await;
    ///         served.lock().unwrap().push(name);
    ///     }
    /// };
    /// tokio::join!(note("ordinary", first), note("urgent", second), async { drop(held) });
    /// assert_eq!(*served.lock().unwrap(), ["urgent", "ordinary"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Asks the ledger where the request stands; none while it waits.
    fn advance(&mut self, cx: &Context<'_>) -> Option<Result<(), ReserveError>> {
        // Cloned before the lock is taken: a waker is foreign code.
        let waker = cx.waker().clone();
        let engine = self.budget.engine();
        let node = self.budget.node();
        match self.stage {
            Stage::Idle => match engine.request(node, self.bytes, self.priority, waker) {
                Ok(Answer::Granted) => Some(Ok(())),
                Ok(Answer::Waiting(ticket)) => {
                    self.stage = Stage::InLine(ticket);
                    None
                }
                Err(error) => Some(Err(error)),
            },
            Stage::InLine(ticket) => (!engine.still_waits(node, ticket, waker)).then_some(Ok(())),
            Stage::Done => panic!("`Reserve` polled after it was ready"),
        }
    }
}

impl Future for Reserve {
    type Output = Result<Reservation, ReserveError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answer) = self.advance(cx) else {
            return Poll::Pending;
        };
        self.stage = Stage::Done;
        Poll::Ready(
            answer.map(|()| Reservation::granted(self.budget.record(), self.bytes, self.site)),
        )
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if let Stage::InLine(ticket) = self.stage {
            self.budget.engine().cancel(self.budget.node(), ticket, self.bytes);
        }
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve")
            .field("bytes", &self.bytes)
            .field("budget", &self.budget.path())
            .field("stage", &self.stage)
            .finish()
    }
}

/// Bytes promised to its holder until it is dropped.
///
/// It stands for memory that the holder allocates by itself. Buffers are charged on their own, not
/// against a reservation.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
/// let reservation = memory.try_reserve(600)?;
/// reservation.try_grow(300)?;
/// assert!(reservation.try_grow(200).is_err());
/// assert_eq!(reservation.shrink(700), 700);
/// assert_eq!(reservation.bytes(), 200);
/// drop(reservation);
/// assert_eq!(memory.stats().reserved_bytes, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a reservation is given back when it is dropped"]
pub struct Reservation {
    record: KeptRecord,
    /// Written under the engine's lock alone.
    bytes: AtomicU64,
    note: Note,
}

impl Reservation {
    /// Wraps `bytes` that are charged to the budget already.
    #[inline]
    pub(crate) fn granted(record: &Record, bytes: u64, site: Site) -> Self {
        let note = record.engine.leaks.note_reservation(bytes, site);
        Self { record: KeptRecord::new(record), bytes: AtomicU64::new(bytes), note }
    }

    /// One without bytes yet.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(crate) fn empty(budget: &Budget) -> Self {
        budget.engine().begin_empty();
        Self::granted(budget.record(), 0, leaks::site())
    }

    /// Notes that the bytes have changed.
    fn renote(&self) {
        self.record.engine.leaks.renote(&self.note, self.bytes());
    }

    /// Returns how many bytes are held now.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let reservation = memory.try_reserve(600)?;
    /// reservation.shrink(100);
    /// assert_eq!(reservation.bytes(), 500);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the path of the budget it counts against.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let ingest = memory.budget("ingest").create()?;
    /// assert_eq!(ingest.try_reserve(600)?.budget_path(), "ingest");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn budget_path(&self) -> &str {
        &self.record.path
    }

    /// Adds `bytes` if they are free now, even while others wait in line.
    ///
    /// It never waits: its holder is admitted, and those who wait may be waiting for it.
    ///
    /// # Errors
    /// [`ReserveError::WouldWait`] if they are not free, [`ReserveError::Unsatisfiable`] if the grown
    /// reservation would be larger than a budget on its path. It is unchanged then.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{MemoryManager, ReserveError};
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let (reservation, other) = (memory.try_reserve(600)?, memory.try_reserve(200)?);
    /// reservation.try_grow(200)?;
    /// let refused = reservation.try_grow(100).unwrap_err();
    /// assert!(matches!(refused, ReserveError::WouldWait { free_bytes: 0, .. }));
    /// assert_eq!(reservation.bytes(), 800);
    /// # drop(other);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_grow(&self, bytes: u64) -> Result<(), ReserveError> {
        let grown = self.record.engine.try_grow(self.record.node, &self.bytes, bytes);
        self.renote();
        grown
    }

    /// Moves `bytes` to `other`, or all that is held if that is less; returns how many were moved.
    ///
    /// They are never free in between, so a request in line cannot take them. None are moved
    /// unless both count against the same budget.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let (ending, growing) = (memory.try_reserve(600)?, memory.try_reserve(400)?);
    /// assert_eq!(ending.move_to(&growing, 100), 100);
    /// assert_eq!((ending.bytes(), growing.bytes()), (500, 500));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn move_to(&self, other: &Self, bytes: u64) -> u64 {
        // Within one reservation nothing would change.
        if !std::ptr::eq(&*self.record, &*other.record) || std::ptr::eq(self, other) {
            return 0;
        }
        let moved = self.record.engine.move_between(&self.bytes, &other.bytes, bytes);
        self.renote();
        other.renote();
        moved
    }

    /// Gives `bytes` back, or all that is held if that is less; returns how many went back.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let reservation = memory.try_reserve(600)?;
    /// assert_eq!(reservation.shrink(400), 400);
    /// assert_eq!(reservation.shrink(400), 200);
    /// assert_eq!((reservation.bytes(), memory.stats().reserved_bytes), (0, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shrink(&self, bytes: u64) -> u64 {
        let shrunk = self.record.engine.shrink(self.record.node, &self.bytes, bytes);
        self.renote();
        shrunk
    }
}

impl Drop for Reservation {
    #[inline]
    fn drop(&mut self) {
        let (record, bytes) = (&*self.record, self.bytes());
        record.engine.leaks.forget_reservation(&self.note);
        let is_left =
            local::with_cache(record.entry, |cache| cache.unreserve_last(record.node, bytes));
        if is_left != Some(true) {
            give_back(self.record, bytes);
        }
    }
}

/// The way back for bytes that the thread has no place for at hand. Not by reference: the record may
/// be gone at the end.
#[cold]
#[inline(never)]
fn give_back(record: KeptRecord, bytes: u64) {
    let Record { engine, entry, node, .. } = *record;
    let attempt = local::with_cache(entry, |cache| cache.unreserve(node, bytes));
    if attempt.is_some_and(|attempt| attempt.is_asked) {
        local::heed(engine);
    }
    if !attempt.is_some_and(|attempt| attempt.outcome) {
        // What comes back last ends the engine: here, when no method of it runs any more.
        let _held = engine.hold();
        engine.unreserve_slowly(node, bytes);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("bytes", &self.bytes())
            .field("budget", &self.budget_path())
            .finish()
    }
}

/// Why bytes were not reserved.
///
/// # Examples
/// ```
/// # use tripod_memory::{MemoryManager, ReserveError};
/// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
/// let refused = memory.try_reserve(2000).unwrap_err();
/// assert!(matches!(refused, ReserveError::Unsatisfiable { budget_bytes: 1000, .. }));
/// let reservation = memory.try_reserve(800)?;
/// assert_eq!(
///     memory.try_reserve(300).unwrap_err().to_string(),
///     "300 bytes would wait: budget `root` has 200 free, 0 requests are in line"
/// );
/// # drop(reservation);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// No wait could help: the budget is smaller than the request.
    #[error("{needed_bytes} bytes are more than the whole budget `{budget}` of {budget_bytes}")]
    Unsatisfiable {
        /// The bytes the reservation would have, all in all.
        needed_bytes: u64,
        /// The budget's limit in bytes.
        budget_bytes: u64,
        /// The budget's path.
        budget: Arc<str>,
    },
    /// They are not free now, or others are next.
    #[error(
        "{needed_bytes} bytes would wait: budget `{budget}` has {free_bytes} free, \
         {waiting} requests are in line"
    )]
    WouldWait {
        /// The bytes asked for.
        needed_bytes: u64,
        /// What the budget has left, in bytes; may be enough while others are next.
        free_bytes: u64,
        /// How many requests wait in the whole manager.
        waiting: usize,
        /// The path of the lowest budget that lacks room, or of the one asked if others are next.
        budget: Arc<str>,
    },
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
