//! The manager: the root budget and what is above all budgets.

use std::sync::Arc;

use tripod_metrics::MetricsCollector;

use crate::budget::{Budget, BudgetBuilder};
use crate::buffer::{AcquireError, Buffer};
use crate::classes::{SizeClassError, SizeClasses};
use crate::engine::Engine;
use crate::meter::{Meter, MeterError};
use crate::reserve::{Reservation, Reserve, ReserveError};
use crate::stats::MemoryStats;

/// Pooled buffers and reservations under one hard budget.
///
/// A handle is cheap to clone, and all clones are the same manager. Reservations, buffers and budgets
/// keep its memory alive; nothing has to be closed.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().budget_bytes(1 << 20).build()?;
/// let buffer = memory.acquire(4000)?;
/// let reservation = memory.try_reserve(1 << 19)?;
/// assert_eq!(memory.stats().committed_bytes, 4096 + (1 << 19));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryManager {
    root: Budget,
}

impl MemoryManager {
    /// Begins the description of a manager; see the builder's methods for the defaults.
    pub fn builder() -> MemoryManagerBuilder {
        MemoryManagerBuilder {
            budget_bytes: u64::MAX,
            classes: SizeClasses::default(),
            metrics: None,
        }
    }

    /// Hands out a buffer of `len` bytes, charged to the root.
    ///
    /// It comes from the pool of the smallest size class that holds `len`; by default at most a fifth
    /// is unused from 64 B up. A length above the largest class is taken from the system and goes
    /// back there. A length of 0 gives an empty buffer, which has no memory and is not counted.
    ///
    /// It never waits for room: it takes what is free, even while reservations wait in line (see
    /// [`Reserve`]), and before it is refused idle buffers of other classes are given back to the
    /// system. A buffer from a pool costs one lock; a new one also an allocation filled with zeroes.
    ///
    /// # Errors
    /// See [`AcquireError`]. Nothing is charged then.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{AcquireError, MemoryManager};
    /// let memory = MemoryManager::builder().budget_bytes(5000).build()?;
    /// let page = memory.acquire(4096)?;
    /// let refused = memory.acquire(1024).unwrap_err();
    /// assert!(matches!(refused, AcquireError::OverBudget { free_bytes: 904, .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acquire(&self, len: usize) -> Result<Buffer, AcquireError> {
        self.root.acquire(len)
    }

    /// Reserves `bytes` of the root budget, and waits in line until they are free; see [`Reserve`].
    pub fn reserve(&self, bytes: u64) -> Reserve {
        self.root.reserve(bytes)
    }

    /// Reserves `bytes` of the root budget if a [`reserve`](Self::reserve) called now would not wait.
    ///
    /// # Errors
    /// As [`Budget::try_reserve`].
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, ReserveError> {
        self.root.try_reserve(bytes)
    }

    /// Begins the description of a budget below the root; see [`Budget::budget`].
    pub fn budget(&self, name: &str) -> BudgetBuilder {
        self.root.budget(name)
    }

    /// Returns the budget above all others.
    pub fn root(&self) -> &Budget {
        &self.root
    }

    /// Gives all idle buffers back to the system; returns how many bytes they had.
    ///
    /// Costs one `free` per buffer, with no lock held meanwhile.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// drop(memory.acquire(4096)?);
    /// assert_eq!(memory.trim(), 4096);
    /// assert_eq!(memory.stats().idle_bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trim(&self) -> u64 {
        self.root.engine().trim()
    }

    /// Returns the counts and bytes of this moment; costs one lock.
    pub fn stats(&self) -> MemoryStats {
        let engine = self.root.engine();
        let sums = engine.sums();
        MemoryStats {
            hits: engine.meter.hits.get(),
            misses: engine.meter.misses.get(),
            refused: engine.meter.refused.get(),
            reserved_bytes: sums.reserved,
            used_bytes: sums.used,
            idle_bytes: sums.idle,
            committed_bytes: sums.reserved + sums.used + sums.idle,
            peak_bytes: sums.peak,
            budget_bytes: self.root.limit_bytes(),
            waits: engine.meter.waits.get(),
            waiting: sums.waiting,
        }
    }
}

/// Describes a manager before it is built; comes from [`MemoryManager::builder`].
#[derive(Clone, Debug)]
#[must_use = "a manager exists only once it is built"]
pub struct MemoryManagerBuilder {
    budget_bytes: u64,
    classes: SizeClasses,
    metrics: Option<MetricsCollector>,
}

impl MemoryManagerBuilder {
    /// Sets the root's limit in bytes; default: `u64::MAX`, unlimited.
    pub fn budget_bytes(mut self, bytes: u64) -> Self {
        self.budget_bytes = bytes;
        self
    }

    /// Sets the sizes that pooled buffers come in, in bytes; default: four per doubling from 64 B to
    /// 64 MiB.
    ///
    /// # Errors
    /// [`SizeClassError`] unless there is a size, all are from 1 to `isize::MAX` and each is larger
    /// than the one before.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().size_classes([4096, 65536])?.build()?;
    /// assert_eq!(memory.acquire(5000)?.capacity(), 65536);
    /// assert!(MemoryManager::builder().size_classes([4096, 4096]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn size_classes(
        mut self,
        sizes: impl IntoIterator<Item = usize>,
    ) -> Result<Self, SizeClassError> {
        self.classes = SizeClasses::new(sizes)?;
        Ok(self)
    }

    /// Sets the collector that takes the manager's metrics; default: one of its own.
    ///
    /// Two managers in one collector would add up in its counters, and so in their
    /// [`stats`](MemoryManager::stats), while its gauges show the younger one: give each its own.
    pub fn metrics(mut self, metrics: &MetricsCollector) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Builds the manager.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<MemoryManager, BuildError> {
        if self.budget_bytes == 0 {
            return Err(BuildError::ZeroBudget);
        }
        let meter = Meter::new(&self.metrics.unwrap_or_default())?;
        let engine = Arc::new(Engine::new(self.budget_bytes, self.classes, meter));
        engine.meter.watch_sums(&engine).map_err(MeterError::from)?;
        engine.meter.watch_budget(&engine, &engine.root()).map_err(MeterError::from)?;
        Ok(MemoryManager { root: Budget::root(engine) })
    }
}

/// Why [`MemoryManagerBuilder::build`] built no manager.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A budget of no bytes could grant nothing.
    #[error("memory budget is 0 bytes")]
    ZeroBudget,
    /// The collector refused the manager's metrics.
    #[error("memory manager has no metrics: {0}")]
    Metrics(#[from] MeterError),
}
