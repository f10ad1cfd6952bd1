//! Budgets: the nodes of the tree that limits who may have how much.

use std::sync::Arc;

use crate::buffer::{AcquireError, Buffer};
use crate::engine::Engine;
use crate::ledger::{NodeId, ROOT};
use crate::reserve::{Reservation, Reserve, ReserveError};

/// The name of the budget above all others.
const ROOT_NAME: &str = "root";

/// A hard limit in bytes on what is reserved and handed out through it and through the budgets below.
///
/// A budget binds together with every budget above it: a request goes through only if all of them have
/// room. A limit is no guarantee; the children's limits may add up to more than the parent's.
///
/// A handle is cheap to clone, and all clones are the same budget. A budget lives as long as its
/// manager's memory does; it is not removed with its last handle.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().budget_bytes(1 << 20).build()?;
/// let uploads = memory.budget("uploads").limit_bytes(64 << 10).create()?;
///
/// let upload = uploads.try_reserve(48 << 10)?;
/// assert!(uploads.try_reserve(48 << 10).is_err());
/// assert!(memory.try_reserve(48 << 10).is_ok());
/// drop(upload);
/// assert_eq!((uploads.used_bytes(), uploads.peak_bytes()), (0, 48 << 10));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Budget {
    engine: Arc<Engine>,
    record: Arc<Record>,
}

/// What is fixed about a budget.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) node: NodeId,
    pub(crate) name: Arc<str>,
    pub(crate) path: Arc<str>,
    pub(crate) limit_bytes: u64,
}

impl Record {
    pub(crate) fn root(limit_bytes: u64) -> Self {
        let name: Arc<str> = ROOT_NAME.into();
        Self { node: ROOT, path: name.clone(), name, limit_bytes }
    }

    pub(crate) fn child(parent: &Self, name: Arc<str>, node: NodeId, limit_bytes: u64) -> Self {
        let path = if parent.node == ROOT {
            name.clone()
        } else {
            format!("{}/{name}", parent.path).into()
        };
        Self { node, name, path, limit_bytes }
    }

    pub(crate) fn check_same_limit(&self, asked_bytes: u64) -> Result<(), BudgetError> {
        if asked_bytes == self.limit_bytes {
            return Ok(());
        }
        Err(BudgetError::OtherLimit {
            budget: self.path.clone(),
            asked_bytes,
            existing_bytes: self.limit_bytes,
        })
    }
}

impl Budget {
    pub(crate) fn root(engine: Arc<Engine>) -> Self {
        let record = engine.root();
        Self { engine, record }
    }

    /// Returns the budget's own name; the root's is `root`.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Returns the names from below the root down to this budget, joined by `/`.
    ///
    /// Errors and the label `budget` of the metrics say this; the root's is `root`.
    pub fn path(&self) -> &str {
        &self.record.path
    }

    /// Returns the limit in bytes; `u64::MAX` is unlimited.
    pub fn limit_bytes(&self) -> u64 {
        self.record.limit_bytes
    }

    /// Returns the bytes that are reserved and handed out now through this budget and those below.
    ///
    /// Idle pooled buffers are not among them.
    pub fn used_bytes(&self) -> u64 {
        self.engine.node_bytes(self.record.node).0
    }

    /// Returns the most that [`used_bytes`](Self::used_bytes) has ever been.
    pub fn peak_bytes(&self) -> u64 {
        self.engine.node_bytes(self.record.node).1
    }

    /// Begins the description of a budget below this one.
    ///
    /// A name is one step of a path: not empty, without `/`, and below the root not `root`.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().budget_bytes(1 << 20).build()?;
    /// let ingest = memory.budget("ingest").limit_bytes(1 << 19).create()?;
    /// let parse = ingest.budget("parse").create()?;
    /// assert_eq!((parse.path(), parse.limit_bytes()), ("ingest/parse", 1 << 19));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn budget(&self, name: &str) -> BudgetBuilder {
        BudgetBuilder { parent: self.clone(), name: name.to_owned(), limit_bytes: None }
    }

    /// Reserves `bytes`, and waits in line until they are free.
    ///
    /// See [`Reserve`] for the order, for what dropping it does and for the errors.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let first = memory.reserve(800).await?;
    /// let (second, ()) = tokio::join!(memory.reserve(600), async { drop(first) });
    /// assert_eq!(second?.bytes(), 600);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reserve(&self, bytes: u64) -> Reserve {
        Reserve::new(self.clone(), bytes)
    }

    /// Reserves `bytes` if a [`reserve`](Self::reserve) called now would not wait.
    ///
    /// It overtakes nobody: it is refused while an earlier request waits for room in a budget that this
    /// one needs as well, even if what is free would do for this one. Zero bytes are always granted.
    ///
    /// # Errors
    /// [`ReserveError::Unsatisfiable`] if a budget on the path is smaller than `bytes`,
    /// [`ReserveError::WouldWait`] if it does not fit or is not next.
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, ReserveError> {
        self.engine.try_reserve(self.record.node, bytes)?;
        Ok(Reservation::granted(self.clone(), bytes))
    }

    /// Hands out a buffer of `len` bytes, charged to this budget and those above.
    ///
    /// As [`MemoryManager::acquire`](crate::MemoryManager::acquire); a buffer comes from the pools that
    /// the whole manager shares, and goes back there.
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub fn acquire(&self, len: usize) -> Result<Buffer, AcquireError> {
        if len == 0 {
            return Ok(Buffer::empty(self.clone()));
        }
        match self.engine.acquire(self.record.node, len) {
            Ok(block) => Ok(Buffer::new(self.clone(), block, len)),
            Err(error) => {
                self.engine.meter.refused.inc();
                Err(error)
            }
        }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn node(&self) -> NodeId {
        self.record.node
    }
}

/// Describes a budget before it is created; comes from [`Budget::budget`] and
/// [`MemoryManager::budget`](crate::MemoryManager::budget).
#[derive(Clone, Debug)]
#[must_use = "a budget exists only once it is created"]
pub struct BudgetBuilder {
    parent: Budget,
    name: String,
    limit_bytes: Option<u64>,
}

impl BudgetBuilder {
    /// Sets the limit in bytes; default: the parent's.
    pub fn limit_bytes(mut self, bytes: u64) -> Self {
        self.limit_bytes = Some(bytes);
        self
    }

    /// Creates the budget, or returns the one of this name and limit that is there already.
    ///
    /// # Errors
    /// See [`BudgetError`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{BudgetError, MemoryManager};
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// memory.budget("cache").limit_bytes(400).create()?;
    /// memory.budget("cache").limit_bytes(400).create()?;
    /// let other = memory.budget("cache").limit_bytes(500).create();
    /// assert!(matches!(other, Err(BudgetError::OtherLimit { existing_bytes: 400, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(self) -> Result<Budget, BudgetError> {
        let limit_bytes = self.limit_bytes.unwrap_or(self.parent.limit_bytes());
        self.check(limit_bytes)?;
        let engine = self.parent.engine;
        let record = engine.child(&self.parent.record, &self.name, limit_bytes)?;
        engine.meter.watch_budget(&engine, &record)?;
        Ok(Budget { engine, record })
    }

    fn check(&self, limit_bytes: u64) -> Result<(), BudgetError> {
        let reserved = self.parent.node() == ROOT && self.name == ROOT_NAME;
        if self.name.is_empty() || self.name.contains('/') || reserved {
            return Err(BudgetError::InvalidName { name: self.name.clone() });
        }
        if limit_bytes == 0 {
            return Err(BudgetError::ZeroLimit { name: self.name.clone() });
        }
        if limit_bytes > self.parent.limit_bytes() {
            return Err(BudgetError::AboveParent {
                name: self.name.clone(),
                asked_bytes: limit_bytes,
                parent: self.parent.record.path.clone(),
                parent_bytes: self.parent.limit_bytes(),
            });
        }
        Ok(())
    }
}

/// Why [`BudgetBuilder::create`] refused a budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// The name is empty, has a `/`, or is the root's.
    #[error("`{name}` cannot name a budget: a name is not empty, has no `/` and is not `root`")]
    InvalidName {
        /// The name asked for.
        name: String,
    },
    /// A budget of no bytes could grant nothing.
    #[error("budget `{name}` has a limit of 0 bytes")]
    ZeroLimit {
        /// The name asked for.
        name: String,
    },
    /// The limit is above the parent's, so it could never be reached.
    #[error(
        "budget `{name}` has a limit of {asked_bytes} bytes, above the {parent_bytes} of `{parent}`"
    )]
    AboveParent {
        /// The name asked for.
        name: String,
        /// The limit asked for, in bytes.
        asked_bytes: u64,
        /// The parent's path.
        parent: Arc<str>,
        /// The parent's limit in bytes.
        parent_bytes: u64,
    },
    /// A budget of this name exists with another limit.
    #[error("budget `{budget}` exists with a limit of {existing_bytes} bytes, not {asked_bytes}")]
    OtherLimit {
        /// The budget's path.
        budget: Arc<str>,
        /// The limit asked for, in bytes.
        asked_bytes: u64,
        /// The limit it has, in bytes.
        existing_bytes: u64,
    },
    /// The collector refused the budget's metrics; the budget itself is there.
    #[error("budget has no metrics: {0}")]
    Metrics(#[from] tripod_metrics::LabelError),
}
