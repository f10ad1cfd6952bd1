//! An account's bytes as a reservation of a budget.
//!
//! An allocator cannot be made to wait, so what is allocated under an account is counted afterwards:
//! at every collection the reservation is brought to what the account has. What does not fit is not
//! reserved, so the budget is not passed; it is said how much that is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::AllocationAccount;
use crate::budget::Budget;
use crate::collector;
use crate::reserve::{Reservation, ReserveError};
use crate::turn::Turn;

/// How often it is tried to grow: room may have come or gone between two attempts.
const ATTEMPTS: usize = 4;

/// Keeps the bytes of an [`AllocationAccount`] reserved; comes from [`Budget::follow`]. Dropping it
/// gives them back.
///
/// # Examples
/// ```
/// # use tripod_memory::{AllocationAccount, MemoryManager};
/// static PARSER: AllocationAccount = AllocationAccount::new("parser");
/// let memory = MemoryManager::builder().build()?;
/// let charge = memory.budget("ingest").create()?.follow(&PARSER);
/// assert_eq!((charge.account().name(), charge.budget_path()), ("parser", "ingest"));
/// // Nothing is counted without a `CountingAllocator`.
/// assert_eq!((charge.bytes(), charge.uncharged_bytes()), (0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AccountCharge {
    followed: Arc<Followed>,
}

/// What the collector needs of it.
pub(crate) struct Followed {
    account: &'static AllocationAccount,
    reservation: Reservation,
    /// What there was no room for. A statistic: Relaxed.
    uncharged: AtomicU64,
    turn: Turn,
}

impl Budget {
    /// Reserves what is allocated under `account`, from now on and at every collection, as far as this
    /// budget and those above have room.
    ///
    /// So memory that a [`CountingAllocator`](crate::CountingAllocator) counts weighs on the same
    /// budget as buffers and reservations. It is counted after the fact: in between the account may be
    /// above what is reserved, for about a second where collection goes on in the background. What does
    /// not fit is said by [`AccountCharge::uncharged_bytes`] and
    /// [`MemoryStats::uncharged_bytes`](crate::MemoryStats::uncharged_bytes). An account that is
    /// followed twice is reserved twice.
    ///
    /// # Examples
    /// ```standalone_crate
    /// use std::time::{Duration, Instant};
    /// use tripod_memory::{AllocationAccount, CountingAllocator, MemoryManager};
    ///
    /// #[global_allocator]
    /// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
    ///
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let memory = MemoryManager::builder().budget_bytes(10_000).build()?;
    ///     let charge = memory.root().follow(&PARSER);
    ///     let tree = {
    ///         let _scope = PARSER.enter();
    ///         vec![0_u8; 8000]
    ///     };
    ///     memory.collect(Instant::now(), Duration::from_millis(1));
    ///     assert_eq!((charge.bytes(), memory.stats().reserved_bytes), (8000, 8000));
    ///     assert!(memory.try_reserve(3000).is_err());
    ///     # drop(tree);
    ///     Ok(())
    /// }
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn follow(&self, account: &'static AllocationAccount) -> AccountCharge {
        let followed = Arc::new(Followed {
            account,
            reservation: Reservation::empty(self),
            uncharged: AtomicU64::new(0),
            turn: Turn::default(),
        });
        followed.catch_up();
        self.engine().extras.accounts.add(&followed);
        collector::wake();
        AccountCharge { followed }
    }
}

impl AccountCharge {
    /// Returns the account.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{AllocationAccount, MemoryManager};
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    /// let memory = MemoryManager::builder().build()?;
    /// assert!(std::ptr::eq(memory.root().follow(&PARSER).account(), &PARSER));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn account(&self) -> &'static AllocationAccount {
        self.followed.account
    }

    /// Returns how many bytes are reserved for it.
    ///
    /// # Examples
    /// ```standalone_crate
    /// # use tripod_memory::{AllocationAccount, CountingAllocator, MemoryManager};
    /// #[global_allocator]
    /// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
    ///
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let scope = PARSER.enter();
    ///     let words = vec![0_u64; 1000];
    ///     drop(scope);
    ///     let memory = MemoryManager::builder().build()?;
    ///     assert_eq!(memory.root().follow(&PARSER).bytes(), 8000);
    ///     # drop(words);
    ///     Ok(())
    /// }
    /// ```
    pub fn bytes(&self) -> u64 {
        self.followed.reservation.bytes()
    }

    /// Returns how many bytes it had at the last collection that there was no room for.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{AllocationAccount, MemoryManager};
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let charge = memory.root().follow(&PARSER);
    /// // Nothing is counted without a `CountingAllocator`.
    /// assert_eq!((charge.bytes(), charge.uncharged_bytes()), (0, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn uncharged_bytes(&self) -> u64 {
        self.followed.uncharged_bytes()
    }

    /// Returns the path of the budget it counts against.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{AllocationAccount, MemoryManager};
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    /// let memory = MemoryManager::builder().build()?;
    /// let ingest = memory.budget("ingest").create()?;
    /// assert_eq!(ingest.follow(&PARSER).budget_path(), "ingest");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn budget_path(&self) -> &str {
        self.followed.reservation.budget_path()
    }
}

impl fmt::Debug for AccountCharge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountCharge")
            .field("account", &self.account().name())
            .field("budget", &self.budget_path())
            .field("bytes", &self.bytes())
            .field("uncharged_bytes", &self.uncharged_bytes())
            .finish()
    }
}

impl Followed {
    /// Brings the reservation to what the account has.
    pub(crate) fn catch_up(&self) {
        // Two at once would each add what is missing.
        let Some(_turn) = self.turn.take() else { return };
        let (wanted, held) = (self.account.bytes(), self.reservation.bytes());
        if wanted < held {
            self.reservation.shrink(held - wanted);
        } else {
            self.grow_by(wanted - held);
        }
        let uncharged = wanted.saturating_sub(self.reservation.bytes());
        self.uncharged.store(uncharged, Ordering::Relaxed);
    }

    fn grow_by(&self, bytes: u64) {
        let mut more = bytes;
        for _ in 0..ATTEMPTS {
            if more == 0 {
                return;
            }
            more = match self.reservation.try_grow(more) {
                Ok(()) => return,
                Err(ReserveError::WouldWait { free_bytes, .. }) => more.min(free_bytes),
                Err(ReserveError::Unsatisfiable { budget_bytes, .. }) => {
                    budget_bytes.saturating_sub(self.reservation.bytes())
                }
            };
        }
    }

    pub(crate) fn uncharged_bytes(&self) -> u64 {
        self.uncharged.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed")
            .field("account", &self.account.name())
            .field("reservation", &self.reservation)
            .finish_non_exhaustive()
    }
}
