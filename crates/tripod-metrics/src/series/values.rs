//! Where the numbers of a family's series are, by their positions.

use std::time::Duration;

use super::table::Pages;
use crate::cells::{BLOCK_HEAD, Block, Cells, Slot};
use crate::definition::{Definition, Shape};
use crate::exponential::{Distribution, Exponential, Scale, Windows};
use crate::resume::{KEY_ONLY, KeptFamily};
use crate::shared::Shared;
use crate::sync::{Arc, AtomicU64, Mutex, lock};

/// Where the numbers of one series are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell<'a> {
    /// Of a counter, or the block of a histogram with classic buckets.
    Slot(Slot),
    /// The bits of a gauge.
    Gauge(&'a Arc<AtomicU64>),
    /// A histogram with exponential buckets.
    Exponential(&'a Arc<Exponential>),
    /// A summary.
    Summary(&'a Arc<WindowedSummary>),
}

/// [`Cell`] with shares of its own.
#[derive(Debug, Clone)]
pub(crate) enum OwnedCell {
    Slot(Slot),
    Gauge(Arc<AtomicU64>),
    Exponential(Arc<Exponential>),
    Summary(Arc<WindowedSummary>),
}

impl Cell<'_> {
    pub(crate) fn to_owned(self) -> OwnedCell {
        match self {
            Self::Slot(slot) => OwnedCell::Slot(slot),
            Self::Gauge(bits) => OwnedCell::Gauge(Arc::clone(bits)),
            Self::Exponential(series) => OwnedCell::Exponential(Arc::clone(series)),
            Self::Summary(series) => OwnedCell::Summary(Arc::clone(series)),
        }
    }
}

/// A distribution and its recent past.
#[derive(Debug)]
pub(crate) struct WindowedSummary {
    pub(crate) distribution: Exponential,
    windows: Mutex<Windows>,
}

impl WindowedSummary {
    fn new(cells: Arc<Cells>, windows: &[Duration], now_ms: u64) -> Self {
        let distribution = Exponential::new(Scale::of_summaries(), cells);
        Self { distribution, windows: Mutex::new(Windows::new(windows, now_ms)) }
    }

    /// Takes over what an earlier process left, as of before the windows; says where it is.
    fn resume(&self, blocks: &[(u32, Vec<u64>)]) -> Vec<(u32, Slot)> {
        let places = self.distribution.resume(blocks);
        lock(&self.windows).begin_at(&self.distribution.read());
        places
    }

    /// Lets the windows slide to `now_ms`.
    pub(crate) fn advance(&self, now_ms: u64) {
        lock(&self.windows).advance(now_ms, || self.distribution.read());
    }

    /// What the series held within the window of this place.
    pub(crate) fn within(&self, now_ms: u64, window: usize) -> Distribution {
        let mut windows = lock(&self.windows);
        windows.advance(now_ms, || self.distribution.read());
        windows.within(window, &self.distribution.read())
    }

    /// What the series held for life, and within each window.
    pub(crate) fn read(&self, now_ms: u64) -> (Distribution, Vec<Distribution>) {
        let mut windows = lock(&self.windows);
        windows.advance(now_ms, || self.distribution.read());
        let state = self.distribution.read();
        let within = windows.within_each(&state).collect();
        (state, within)
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn heap_bytes(&self) -> usize {
        let cells = self.distribution.cells_count() * size_of::<AtomicU64>();
        let windows = size_of::<Mutex<Windows>>() + lock(&self.windows).heap_bytes();
        self.distribution.heap_bytes() + cells + windows
    }
}

/// The numbers of all series of a family, by position.
#[derive(Debug)]
pub(super) struct Column {
    shared: Arc<Shared>,
    shape: Shape,
    stored: Stored,
    /// `None` if the collector does not resume.
    kept: Option<KeptFamily>,
}

#[derive(Debug)]
enum Stored {
    /// Raw slots.
    Slots(Pages<u32>),
    Gauges(Pages<Arc<AtomicU64>>),
    Exponentials(Pages<Arc<Exponential>>),
    Summaries(Pages<Arc<WindowedSummary>>),
}

impl Column {
    pub(super) fn new(shared: Arc<Shared>, definition: &Definition) -> Self {
        let Definition { shape, name, .. } = definition;
        let stored = match shape {
            Shape::Counter | Shape::FloatCounter | Shape::Classic(_) => {
                Stored::Slots(Pages::default())
            }
            Shape::Gauge => Stored::Gauges(Pages::default()),
            Shape::Exponential(_) => Stored::Exponentials(Pages::default()),
            Shape::Summary(_) => Stored::Summaries(Pages::default()),
        };
        let kept = shared.keeper.as_ref().map(|keeper| KeptFamily::new(keeper, name, shape));
        Self { shared, shape: shape.clone(), stored, kept }
    }

    #[inline]
    pub(super) fn get(&self, position: u32) -> Cell<'_> {
        match &self.stored {
            Stored::Slots(slots) => Cell::Slot(Slot::from_raw(*slots.get(position))),
            Stored::Gauges(gauges) => Cell::Gauge(gauges.get(position)),
            Stored::Exponentials(series) => Cell::Exponential(series.get(position)),
            Stored::Summaries(series) => Cell::Summary(series.get(position)),
        }
    }

    /// Makes the numbers of the next position.
    pub(super) fn push(&mut self, now_ms: u64) {
        let Self { shared, shape, stored, .. } = self;
        match stored {
            Stored::Slots(slots) => drop(slots.push(new_slot(shared, shape).to_raw())),
            Stored::Gauges(gauges) => drop(gauges.push(Arc::default())),
            Stored::Exponentials(series) => drop(series.push(new_exponential(shared, shape))),
            Stored::Summaries(series) => drop(series.push(new_summary(shared, shape, now_ms))),
        }
    }

    /// Makes new numbers for a position that was cleared.
    pub(super) fn renew(&mut self, position: u32, now_ms: u64) {
        let Self { shared, shape, stored, .. } = self;
        match stored {
            Stored::Slots(slots) => *slots.get_mut(position) = new_slot(shared, shape).to_raw(),
            Stored::Gauges(gauges) => *gauges.get_mut(position) = Arc::default(),
            Stored::Exponentials(series) => {
                *series.get_mut(position) = new_exponential(shared, shape);
            }
            Stored::Summaries(series) => {
                *series.get_mut(position) = new_summary(shared, shape, now_ms)
            }
        }
    }

    /// Lets the new numbers of a position go on where those of an earlier process stopped, if the
    /// collector resumes; returns when the series was first made.
    pub(super) fn enrol(&mut self, position: u32, text: &str, now_ms: u64) -> u64 {
        let Self { shared, stored, kept, .. } = self;
        let Some(kept) = kept else { return now_ms };
        let created_ms = match stored {
            Stored::Slots(slots) => kept.enrol(position, text, now_ms, |blocks| {
                let slot = Slot::from_raw(*slots.get(position));
                blocks.iter().for_each(|(_, cells)| shared.cells.seed(slot, cells));
                vec![(KEY_ONLY, slot)]
            }),
            Stored::Gauges(_) => {
                kept.supersede(text);
                now_ms
            }
            Stored::Exponentials(series) => {
                kept.enrol(position, text, now_ms, |blocks| series.get(position).resume(blocks))
            }
            Stored::Summaries(series) => {
                kept.enrol(position, text, now_ms, |blocks| series.get(position).resume(blocks))
            }
        };
        if let (Some(kept), Some(series)) = (kept.series(position), self.exponential(position)) {
            series.keep(kept);
        }
        created_ms
    }

    fn exponential(&self, position: u32) -> Option<&Exponential> {
        match &self.stored {
            Stored::Slots(_) | Stored::Gauges(_) => None,
            Stored::Exponentials(series) => Some(series.get(position)),
            Stored::Summaries(series) => Some(&series.get(position).distribution),
        }
    }

    /// Says that what is at a position does not go on in the next process.
    pub(super) fn disown(&mut self, position: u32) {
        if let Some(kept) = &mut self.kept {
            kept.gone(position);
        }
        if let Some(series) = self.exponential(position) {
            series.disown();
        }
    }

    /// Gives up the numbers of a position that nobody will write to any more.
    pub(super) fn clear(&mut self, position: u32) {
        // First, since cells that are given back are made 0.
        self.disown(position);
        match &self.stored {
            Stored::Slots(slots) => {
                let slot = Slot::from_raw(*slots.get(position));
                self.shared.cells.free(slot, width(&self.shape));
            }
            // Cells go back when the last share is dropped: here, and in caches of threads.
            Stored::Gauges(_) => {}
            // Empty ones stand there until the position is used again.
            Stored::Exponentials(_) | Stored::Summaries(_) => self.renew(position, 0),
        }
    }
}

/// Slots of one series.
fn width(shape: &Shape) -> usize {
    match shape {
        Shape::Classic(bounds) => BLOCK_HEAD + bounds.buckets(),
        _ => 1,
    }
}

fn new_slot(shared: &Shared, shape: &Shape) -> Slot {
    let slot = shared.cells.allocate(width(shape));
    match shape {
        Shape::Classic(_) => shared.cells.mark_floats(slot, Block::SUMS),
        Shape::FloatCounter => shared.cells.mark_floats(slot, std::iter::once(0)),
        _ => {}
    }
    slot
}

fn new_exponential(shared: &Shared, shape: &Shape) -> Arc<Exponential> {
    let schema = if let Shape::Exponential(schema) = shape { *schema } else { 0 };
    Arc::new(Exponential::new(Scale::of_schema(schema), Arc::clone(&shared.cells)))
}

fn new_summary(shared: &Shared, shape: &Shape, now_ms: u64) -> Arc<WindowedSummary> {
    let windows = if let Shape::Summary(summary) = shape { &summary.windows[..] } else { &[] };
    let cells = Arc::clone(&shared.cells);
    Arc::new(WindowedSummary::new(cells, windows, now_ms))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::definition::SummaryShape;
    use crate::summary::{DEFAULT_QUANTILES, DEFAULT_WINDOWS};

    /// Pseudo-random numbers from 0 to 1 (Marsaglia's xorshift, 2003).
    fn uniform(state: &mut u64) -> f64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[test]
    fn a_summary_of_latencies_takes_at_most_eight_kilobytes() {
        let shape = Shape::Summary(Arc::new(SummaryShape {
            quantiles: DEFAULT_QUANTILES.to_vec(),
            windows: DEFAULT_WINDOWS.to_vec(),
        }));
        let shared = Shared::new(Box::new(std::time::SystemTime::now), None);
        let start_ms = shared.now_ms();
        let summary = new_summary(&shared, &shape, start_ms);
        let mut seed = 0x5eed;
        for second in 0..600 {
            for _ in 0..1000 {
                // Log-normal around 5 ms with a sigma of 1, by Box and Muller (1958).
                let radius = (-2.0 * uniform(&mut seed).max(1e-300).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * uniform(&mut seed)).cos();
                summary.distribution.observe(0.005 * normal.exp());
            }
            summary.advance(start_ms + second * 1000);
        }
        let bytes = summary.heap_bytes();
        assert!(bytes <= 8192, "{bytes} bytes");
        assert!(bytes > 2048, "{bytes} bytes are too few to be all");
    }
}
