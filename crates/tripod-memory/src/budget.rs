//! Budgets: the nodes of the tree that limits who may have how much.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tripod_metrics::Histogram;

use crate::buffer::{AcquireError, Buffer};
use crate::classes::{LEN_MAX, NO_CLASS};
use crate::engine::{Denied, Effort, Engine, Shortage, large};
use crate::kept::KeptEngine;
use crate::leaks;
use crate::ledger::{NodeId, ROOT, Refusal};
use crate::local;
use crate::reserve::{Reservation, Reserve, ReserveError};
use crate::stats::BudgetStats;

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
    handle: Arc<Handle>,
    record: Arc<Record>,
    /// A copy of the record's, at hand.
    tag: u64,
}

/// Shared by all that can ask for something; the engine closes when it goes.
#[derive(Debug)]
struct Handle {
    engine: Arc<Engine>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.engine.close();
    }
}

/// What is fixed about a budget.
#[derive(Debug)]
pub(crate) struct Record {
    /// The engine that the budget is part of, and its entry in the tables of threads.
    pub(crate) engine: KeptEngine,
    pub(crate) entry: u8,
    /// What the handles of its buffers say of it.
    pub(crate) tag: u64,
    pub(crate) node: NodeId,
    pub(crate) parent: Option<NodeId>,
    pub(crate) name: Arc<str>,
    pub(crate) path: Arc<str>,
    pub(crate) limit_bytes: u64,
    /// The most that a thread may have of it in advance.
    pub(crate) credit_max: u32,
    /// How long requests have waited for room in it, once one has.
    pub(crate) waits: OnceLock<Histogram>,
}

impl Record {
    /// A buffer has 12 bits for the budget it is charged to.
    pub(crate) const NODE_MAX: usize = (1 << 12) - 1;

    pub(crate) fn root(engine: *const Engine, entry: u8, limit_bytes: u64) -> Self {
        let name: Arc<str> = ROOT_NAME.into();
        Self {
            engine: KeptEngine::new(engine),
            entry,
            tag: Buffer::tag(entry, ROOT),
            node: ROOT,
            parent: None,
            path: name.clone(),
            name,
            limit_bytes,
            credit_max: credit_max(limit_bytes),
            waits: OnceLock::new(),
        }
    }

    pub(crate) fn child(parent: &Self, name: Arc<str>, node: NodeId, limit_bytes: u64) -> Self {
        let path = if parent.node == ROOT {
            name.clone()
        } else {
            format!("{}/{name}", parent.path).into()
        };
        Self {
            tag: Buffer::tag(parent.entry, node),
            node,
            parent: Some(parent.node),
            name,
            path,
            limit_bytes,
            credit_max: credit_max(limit_bytes),
            waits: OnceLock::new(),
            ..*parent
        }
    }

    /// How many requests have waited for room in it and were granted, and how long in all.
    pub(crate) fn waited(&self) -> (u64, Duration) {
        self.waits.get().map_or((0, Duration::ZERO), |waits| {
            let waits = waits.snapshot();
            (waits.count, Duration::try_from_secs_f64(waits.sum).unwrap_or(Duration::MAX))
        })
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

/// A small part of a budget, so that many threads that have some leave most of it free.
fn credit_max(limit_bytes: u64) -> u32 {
    (limit_bytes / 32).min(16 << 20) as u32
}

impl Budget {
    pub(crate) fn root(engine: Arc<Engine>) -> Self {
        let record = engine.root();
        Self::of(Arc::new(Handle { engine }), record)
    }

    fn of(handle: Arc<Handle>, record: Arc<Record>) -> Self {
        Self { handle, tag: record.tag, record }
    }

    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }

    /// Returns the budget's own name; the root's is `root`.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let parse = memory.budget("ingest").create()?.budget("parse").create()?;
    /// assert_eq!((parse.name(), memory.root().name()), ("parse", "root"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Returns the names from below the root down to this budget, joined by `/`.
    ///
    /// Errors and the label `budget` of the metrics say this; the root's is `root`.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let parse = memory.budget("ingest").create()?.budget("parse").create()?;
    /// assert_eq!((parse.path(), memory.root().path()), ("ingest/parse", "root"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn path(&self) -> &str {
        &self.record.path
    }

    /// Returns the limit in bytes; `u64::MAX` is unlimited.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let ingest = memory.budget("ingest").limit_bytes(1 << 20).create()?;
    /// assert_eq!((ingest.limit_bytes(), memory.root().limit_bytes()), (1 << 20, u64::MAX));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limit_bytes(&self) -> u64 {
        self.record.limit_bytes
    }

    /// Returns the bytes that are reserved and handed out now through this budget and those below.
    ///
    /// Idle pooled buffers are not among them.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let ingest = memory.budget("ingest").create()?;
    /// let parse = ingest.budget("parse").create()?;
    /// let (buffer, reservation) = (ingest.acquire(4096)?, parse.try_reserve(1000)?);
    /// assert_eq!((ingest.used_bytes(), parse.used_bytes()), (5096, 1000));
    /// drop((buffer, reservation));
    /// assert_eq!(ingest.used_bytes(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn used_bytes(&self) -> u64 {
        self.engine().node_bytes(self.record.node).0
    }

    /// Returns the most that [`used_bytes`](Self::used_bytes) has ever been.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let ingest = memory.budget("ingest").create()?;
    /// drop(ingest.try_reserve(1000)?);
    /// assert_eq!((ingest.used_bytes(), ingest.peak_bytes()), (0, 1000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn peak_bytes(&self) -> u64 {
        self.engine().node_bytes(self.record.node).1
    }

    /// Returns the budget's bytes at this moment, and how long requests have waited for it.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let ingest = memory.budget("ingest").limit_bytes(400).create()?;
    /// drop(ingest.try_reserve(300)?);
    /// let stats = ingest.stats();
    /// assert_eq!((stats.used_bytes, stats.peak_bytes, stats.limit_bytes), (0, 300, 400));
    /// assert_eq!((stats.waits, stats.waited), (0, Duration::ZERO));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> BudgetStats {
        let (used_bytes, peak_bytes) = self.engine().node_bytes(self.record.node);
        let (waits, waited) = self.record.waited();
        BudgetStats { used_bytes, peak_bytes, limit_bytes: self.limit_bytes(), waits, waited }
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
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn reserve(&self, bytes: u64) -> Reserve {
        Reserve::new(self.clone(), bytes)
    }

    /// Reserves `bytes` if a [`reserve`](Self::reserve) called now would not wait.
    ///
    /// It overtakes nobody: it is refused while an earlier request waits for room in a budget that this
    /// one needs as well, even if what is free would do for this one. Zero bytes are always granted.
    /// No [spiller](crate::Spill) is asked.
    ///
    /// # Errors
    /// [`ReserveError::Unsatisfiable`] if a budget on the path is smaller than `bytes`,
    /// [`ReserveError::WouldWait`] if it does not fit or is not next.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{MemoryManager, ReserveError};
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let ingest = memory.budget("ingest").limit_bytes(600).create()?;
    /// let reservation = ingest.try_reserve(400)?;
    /// let refused = ingest.try_reserve(300).unwrap_err();
    /// assert!(matches!(refused, ReserveError::WouldWait { free_bytes: 200, .. }));
    /// drop(reservation);
    /// assert_eq!(ingest.try_reserve(300)?.bytes(), 300);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline]
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, ReserveError> {
        let record = &*self.record;
        let last = local::with_cache(record.entry, |cache| {
            let is_taken = |place| record.engine.is_taken(cache, place);
            cache.reserve_last(record.node, bytes, is_taken)
        });
        if last != Some(true) {
            self.reserve_older(bytes)?;
        }
        Ok(Reservation::granted(&self.record, bytes, leaks::site()))
    }

    #[cold]
    #[inline(never)]
    fn reserve_older(&self, bytes: u64) -> Result<(), ReserveError> {
        let Record { entry, node, .. } = *self.record;
        let attempt = local::with_cache(entry, |cache| {
            let attempt = cache.reserve(node, bytes);
            self.engine().heed(cache, attempt.is_asked);
            attempt.outcome
        });
        if attempt == Some(true) { Ok(()) } else { self.engine().try_reserve(node, bytes) }
    }

    /// Hands out a buffer of `len` bytes, charged to this budget and those above.
    ///
    /// As [`MemoryManager::acquire`](crate::MemoryManager::acquire); a buffer comes from the pools that
    /// the whole manager shares, and goes back there.
    ///
    /// # Errors
    /// See [`AcquireError`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let ingest = memory.budget("ingest").limit_bytes(8192).create()?;
    /// let page = ingest.acquire(4096)?;
    /// assert_eq!((page.len(), ingest.used_bytes()), (4096, 4096));
    /// assert!(ingest.acquire(5000).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline]
    pub fn acquire(&self, len: usize) -> Result<Buffer, AcquireError> {
        self.acquire_with(len, Effort::Everything)
    }

    /// As [`acquire`](Self::acquire), but at once: what other threads have cached stays with them, no
    /// other pool gives anything back, and nothing is waited for.
    ///
    /// So it may be refused where `acquire` is not. It takes the manager's lock, for some
    /// microseconds at most, if the calling thread has no buffer of this size.
    ///
    /// # Errors
    /// See [`AcquireError`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().budget_bytes(8192).build()?;
    /// let ingest = memory.budget("ingest").create()?;
    /// drop([ingest.acquire(4096)?, ingest.acquire(4096)?]);
    /// // The two idle pages fill the budget. `acquire` gives them back to the system.
    /// assert!(ingest.try_acquire(8192).is_err());
    /// assert_eq!(ingest.acquire(8192)?.len(), 8192);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline]
    pub fn try_acquire(&self, len: usize) -> Result<Buffer, AcquireError> {
        self.acquire_with(len, Effort::AtHand)
    }

    /// As [`acquire`](Self::acquire), with all visible bytes zero; those behind hold what they held.
    ///
    /// Above the largest size class the memory is fresh from the system, so zero already, and stays
    /// untouched. Otherwise the zeroes are written, which costs far more than the buffer does.
    ///
    /// # Errors
    /// See [`AcquireError`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// memory.acquire(100)?.fill(7);
    /// assert!(memory.acquire_zeroed(100)?.iter().all(|&byte| byte == 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn acquire_zeroed(&self, len: usize) -> Result<Buffer, AcquireError> {
        let mut buffer = self.acquire(len)?;
        buffer.zero();
        Ok(buffer)
    }

    /// Hands out `count` buffers of `len` bytes, or none.
    ///
    /// It takes them one by one, so they are charged while it is not yet known whether there is room
    /// for all: two callers who want most of a budget at the same time may both be refused.
    ///
    /// # Errors
    /// See [`AcquireError`], whose bytes are those of all buffers together. None is held then.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{AcquireError, MemoryManager};
    /// let memory = MemoryManager::builder().budget_bytes(64 << 10).build()?;
    /// let ring = memory.acquire_many(4096, 8)?;
    /// let refused = memory.acquire_many(4096, 9).unwrap_err();
    /// assert!(matches!(
    ///     refused,
    ///     AcquireError::OverBudget { needed_bytes: 36_864, free_bytes: 32_768, .. }
    /// ));
    /// assert_eq!(memory.stats().used_bytes, 8 * 4096);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn acquire_many(&self, len: usize, count: usize) -> Result<Vec<Buffer>, AcquireError> {
        let each_bytes = self.capacity_of(len)? as u64;
        let needed_bytes = each_bytes.saturating_mul(count as u64);
        if needed_bytes > self.limit_bytes() {
            self.engine().meter.refused();
            return Err(self.unsatisfiable(needed_bytes));
        }
        let mut buffers = Vec::new();
        buffers.try_reserve_exact(count).map_err(|_| {
            let needed_bytes = (count as u64).saturating_mul(size_of::<Buffer>() as u64);
            AcquireError::OutOfMemory { needed_bytes }
        })?;
        while buffers.len() < count {
            let taken_bytes = each_bytes * buffers.len() as u64;
            let buffer = self.acquire(len);
            buffers.push(buffer.map_err(|error| error.of_many(needed_bytes, taken_bytes))?);
        }
        Ok(buffers)
    }

    /// The bytes that a buffer of `len` bytes is charged as.
    pub(crate) fn capacity_of(&self, len: usize) -> Result<usize, AcquireError> {
        let classes = &self.engine().classes;
        match classes.class_of(len) {
            _ if len == 0 => Ok(0),
            Some(class) => Ok(classes.size(class)),
            None => large::capacity(len).ok_or(AcquireError::TooLong { len, max_bytes: LEN_MAX }),
        }
    }

    #[cfg_attr(debug_assertions, track_caller)]
    #[inline(always)]
    pub(crate) fn acquire_with(&self, len: usize, effort: Effort) -> Result<Buffer, AcquireError> {
        let newest = local::with_cache(Buffer::entry(self.tag), |cache| {
            cache.acquire_newest(len, |place| self.engine().is_taken(cache, place))
        });
        if let Some(Some((slot, class))) = newest {
            return Ok(Buffer::new(slot, len, class, self.tag));
        }
        self.acquire_older(len, effort)
    }

    /// The way with any budget. Cold, as all that is behind the short way: that is laid out without a
    /// jump then.
    #[cfg_attr(debug_assertions, track_caller)]
    #[cold]
    #[inline(never)]
    fn acquire_older(&self, len: usize, effort: Effort) -> Result<Buffer, AcquireError> {
        let record = &*self.record;
        let class = record.engine.classes.class_of(len).unwrap_or(NO_CLASS);
        let older = local::with_cache(record.entry, |cache| {
            let attempt = cache.acquire(class, len, record.node);
            record.engine.heed(cache, attempt.is_asked);
            attempt.outcome
        });
        match older {
            Some(Some(slot)) => Ok(Buffer::new(slot, len, class, self.tag)),
            _ => self.acquire_slowly(len, effort),
        }
    }

    #[cfg_attr(debug_assertions, track_caller)]
    #[cold]
    fn acquire_slowly(&self, len: usize, effort: Effort) -> Result<Buffer, AcquireError> {
        if len == 0 {
            return Ok(Buffer::empty());
        }
        let found = self.find(len, effort);
        found.inspect_err(|_| self.engine().meter.refused())
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn find(&self, len: usize, effort: Effort) -> Result<Buffer, AcquireError> {
        let class = self.engine().classes.class_of(len);
        let found = match class {
            Some(class) => self.engine().acquire_slowly(self.node(), class, len, effort),
            None => {
                let capacity = large::capacity(len);
                let capacity = capacity.ok_or(AcquireError::TooLong { len, max_bytes: LEN_MAX })?;
                self.engine().acquire_large(self.node(), capacity, len, effort)
            }
        };
        let slot = found.map_err(|denied| self.acquire_error(denied))?;
        Ok(match class {
            Some(class) => Buffer::new(slot, len, class, self.tag),
            None => Buffer::of_mapping(slot, len, self.tag),
        })
    }

    fn unsatisfiable(&self, needed_bytes: u64) -> AcquireError {
        AcquireError::Unsatisfiable {
            needed_bytes,
            budget_bytes: self.limit_bytes(),
            budget: self.record.path.clone(),
        }
    }

    pub(crate) fn acquire_error(&self, Denied { shortage, needed_bytes }: Denied) -> AcquireError {
        match shortage {
            Shortage::System => AcquireError::OutOfMemory { needed_bytes },
            Shortage::Refused(Refusal::Unsatisfiable) => self.unsatisfiable(needed_bytes),
            Shortage::Refused(Refusal::Short { node, free }) => {
                let short = self.engine().record(node);
                if needed_bytes > short.limit_bytes {
                    return AcquireError::Unsatisfiable {
                        needed_bytes,
                        budget_bytes: short.limit_bytes,
                        budget: short.path.clone(),
                    };
                }
                AcquireError::OverBudget {
                    needed_bytes,
                    free_bytes: free,
                    budget: short.path.clone(),
                }
            }
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.handle.engine
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn node(&self) -> NodeId {
        self.record.node
    }
}

/// Describes a budget before it is created; comes from [`Budget::budget`] and
/// [`MemoryManager::budget`](crate::MemoryManager::budget).
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().build()?;
/// let ingest = memory.budget("ingest").limit_bytes(1 << 20).create()?;
/// assert_eq!((ingest.path(), ingest.limit_bytes()), ("ingest", 1 << 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a budget exists only once it is created"]
pub struct BudgetBuilder {
    parent: Budget,
    name: String,
    limit_bytes: Option<u64>,
}

impl BudgetBuilder {
    /// Sets the limit in bytes; default: the parent's.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let (all, some) = (memory.budget("all"), memory.budget("some").limit_bytes(400));
    /// assert_eq!((all.create()?.limit_bytes(), some.create()?.limit_bytes()), (1000, 400));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
        let Budget { handle, record: parent, .. } = self.parent;
        let record = handle.engine.child(&parent, &self.name, limit_bytes)?;
        handle.engine.meter.watch_budget(&handle.engine, &record)?;
        Ok(Budget::of(handle, record))
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
///
/// # Examples
/// ```
/// # use tripod_memory::{BudgetError, MemoryManager};
/// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
/// let refused = memory.budget("a/b").create().unwrap_err();
/// assert!(matches!(refused, BudgetError::InvalidName { .. }));
/// let refused = memory.budget("cache").limit_bytes(2000).create().unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "budget `cache` has a limit of 2000 bytes, above the 1000 of `root`"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// A manager cannot tell more budgets apart.
    #[error("there are {max} budgets already, the most that a manager can have")]
    TooMany {
        /// The most there can be below the root.
        max: usize,
    },
    /// The collector refused the budget's metrics; the budget itself is there.
    #[error("budget has no metrics: {0}")]
    Metrics(#[from] tripod_metrics::LabelError),
}
