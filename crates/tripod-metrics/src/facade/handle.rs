//! What the macros of the facade are given: our handles behind its traits.

use std::sync::Arc;

use metrics::{CounterFn, GaugeFn, HistogramFn};

use super::Kind;
use crate::counter::Counter;
use crate::definition::Shape;
use crate::gauge::Gauge;
use crate::histogram::Histogram;
use crate::series::{Held, OwnedCell};
use crate::summary::Summary;
use crate::sync::{Mutex, lock};

/// A handle of one series. Each holds its series, so that it is not removed.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    Counter(Arc<RaisedCounter>),
    Gauge(Arc<Gauge>),
    Histogram(Arc<Histogram>),
    Summary(Arc<Summary>),
    Refused(Kind),
}

impl Handle {
    pub(super) fn new(held: Held, cell: OwnedCell, raising: &Arc<Mutex<()>>) -> Self {
        match (cell, &held.set.definition.shape) {
            (OwnedCell::Slot(slot), Shape::Classic(bounds)) => {
                Self::Histogram(Arc::new(Histogram::classic(Arc::clone(bounds), slot, held)))
            }
            (OwnedCell::Slot(slot), _) => {
                let raising = Arc::clone(raising);
                Self::Counter(Arc::new(RaisedCounter {
                    counter: Counter::new(slot, held),
                    raising,
                }))
            }
            (OwnedCell::Gauge(bits), _) => Self::Gauge(Arc::new(Gauge::new(bits, held))),
            (OwnedCell::Exponential(series), _) => {
                Self::Histogram(Arc::new(Histogram::exponential(series, held)))
            }
            (OwnedCell::Summary(series), _) => Self::Summary(Arc::new(Summary::new(series, held))),
        }
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram(_) | Self::Summary(_) => Kind::Histogram,
            Self::Refused(kind) => *kind,
        }
    }
}

/// A counter that can also be raised to a value.
#[derive(Debug)]
pub(super) struct RaisedCounter {
    counter: Counter,
    raising: Arc<Mutex<()>>,
}

impl CounterFn for RaisedCounter {
    #[inline]
    fn increment(&self, value: u64) {
        self.counter.add(value);
    }

    /// An increment that comes between the two steps counts as one that came after both.
    fn absolute(&self, value: u64) {
        let _raising = lock(&self.raising);
        let missing = value.saturating_sub(self.counter.get());
        if missing > 0 {
            self.counter.add(missing);
        }
    }
}

impl GaugeFn for Gauge {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.sub(value);
    }

    fn set(&self, value: f64) {
        Gauge::set(self, value);
    }
}

impl HistogramFn for Histogram {
    #[inline]
    fn record(&self, value: f64) {
        self.observe(value);
    }
}

impl HistogramFn for Summary {
    #[inline]
    fn record(&self, value: f64) {
        self.observe(value);
    }
}
