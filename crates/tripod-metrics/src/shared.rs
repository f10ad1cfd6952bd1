//! What all families of one collector share.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cells::{Cells, Slot};
use crate::resume::Keeper;
use crate::sync::Arc;

/// The cells, the clock and the counters of the collector itself.
pub(crate) struct Shared {
    pub(crate) cells: Arc<Cells>,
    /// Counts NaN values that were given to histograms and summaries.
    pub(crate) dropped: Slot,
    /// How often the collector was maintained. It only says that time goes by, so `Relaxed` does.
    pub(crate) maintenances: AtomicU64,
    /// Keeps the cells for the next process, if the collector resumes.
    pub(crate) keeper: Option<Arc<Keeper>>,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Shared {
    pub(crate) fn new(
        clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
        keeper: Option<Arc<Keeper>>,
    ) -> Self {
        let cells = Arc::new(match &keeper {
            Some(keeper) => Cells::backed_by(Arc::<Keeper>::clone(keeper)),
            None => Cells::default(),
        });
        let dropped = cells.allocate(1);
        Self { cells, dropped, maintenances: AtomicU64::new(0), keeper, clock }
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// Milliseconds since 1970; 0 for a clock that is before it.
    pub(crate) fn now_ms(&self) -> u64 {
        let since = self.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    #[cold]
    pub(crate) fn drop_nan(&self) {
        self.cells.add(self.dropped, 1);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.end();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
