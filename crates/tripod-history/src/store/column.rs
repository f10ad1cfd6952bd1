//! What is known of a series apart from its points.

use std::collections::HashSet;
use std::sync::Arc;

use crate::labels::Labels;

/// How the values of a series hang together, which decides what coarser tiers keep of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// Only grows, but for resets: counters, the buckets, sums and counts of histograms. Coarser
    /// tiers keep the last point of each interval, and those before and after each reset.
    Cumulative,
    /// Anything else. Coarser tiers keep the last point of each interval.
    Gauge,
}

impl ColumnKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Cumulative => 0,
            Self::Gauge => 1,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Cumulative),
            1 => Some(Self::Gauge),
            _ => None,
        }
    }
}

/// A series that a [`Store`](super::Store) takes points for, until it is retired.
///
/// Means nothing to another store, nor to the same directory opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// A series: equal labels are one allocation, see [`Catalog`].
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) labels: Arc<Labels>,
    pub(super) kind: ColumnKind,
}

impl Column {
    /// A key that is equal for equal labels, while one of them is alive.
    pub(super) fn key(&self) -> usize {
        Arc::as_ptr(&self.labels) as usize
    }
}

/// Which series each slot of a row belongs to.
pub(super) type Table = Arc<Vec<Option<Column>>>;

/// All labels in use, each once.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    labels: HashSet<Arc<Labels>>,
}

impl Catalog {
    pub(super) fn intern(&mut self, labels: Labels) -> Arc<Labels> {
        if let Some(known) = self.labels.get(&labels) {
            return Arc::clone(known);
        }
        let labels = Arc::new(labels);
        self.labels.insert(Arc::clone(&labels));
        labels
    }

    /// Forgets labels that nothing else holds.
    pub(super) fn purge(&mut self) {
        self.labels.retain(|labels| Arc::strong_count(labels) > 1);
    }
}
