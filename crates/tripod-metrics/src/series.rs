//! All series of one family.
//!
//! The table of series is behind one lock, which is never held while code of the user runs:
//! observers are copied out before they are called, and replaced ones are dropped after it is
//! released.

mod cache;
mod expiry;
mod table;
mod text;
mod values;

pub(crate) use values::{Cell, OwnedCell, WindowedSummary};

use std::sync::atomic::{AtomicU64, Ordering};

use self::table::{Row, Table};
use self::values::Column;
use crate::definition::{Definition, OVERFLOW_LABEL, Shape};
use crate::error::LabelError;
use crate::exemplars::Exemplars;
use crate::labels::write_pair;
use crate::reading::Reading;
use crate::shared::Shared;
use crate::sync::{Arc, Mutex, RwLock, read, write};

/// The number of the next family.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A callback that is asked for the value of a series; `None` leaves it out.
#[derive(Clone)]
pub(crate) struct Observer(pub(crate) Arc<dyn Fn() -> Option<Reading> + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// A family: what it was declared to be, and its series.
#[derive(Debug)]
pub(crate) struct SeriesSet {
    pub(crate) definition: Definition,
    pub(crate) shared: Arc<Shared>,
    pub(crate) exemplars: Exemplars,
    id: u64,
    /// Grows when something that threads remember may be wrong; see [`cache`].
    generation: AtomicU64,
    /// Look-ups that went to the overflow series.
    overflowed: AtomicU64,
    /// Held by the one who removes idle series.
    expiring: Mutex<()>,
    table: RwLock<Table>,
}

/// A share of a series, which keeps it from being removed.
pub(crate) struct Held {
    pub(crate) set: Arc<SeriesSet>,
    pub(crate) position: u32,
}

/// One series as a page or a snapshot sees it.
pub(crate) struct SeriesView<'a> {
    pub(crate) position: u32,
    /// As [`write_pair`] writes them, without constant labels.
    pub(crate) labels: &'a str,
    pub(crate) created_ms: u64,
    pub(crate) value: ValueView<'a>,
}

/// Where the value of a series is to be read.
pub(crate) enum ValueView<'a> {
    Cell(Cell<'a>),
    Observed(Reading),
}

impl SeriesSet {
    pub(crate) fn new(definition: Definition, shared: Arc<Shared>) -> Self {
        let column = Column::new(Arc::clone(&shared), &definition);
        let table = Table::new(column, definition.idle_timeout.is_none());
        Self {
            definition,
            shared,
            exemplars: Exemplars::default(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            generation: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
            expiring: Mutex::new(()),
            table: RwLock::new(table),
        }
    }

    /// The number of series.
    pub(crate) fn len(&self) -> usize {
        read(&self.table).len()
    }

    /// Look-ups that were over the limit.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Runs `record` on the cell of the series with these values, which is made if it is not there.
    ///
    /// Takes no lock and allocates nothing where the thread remembers the series.
    #[inline]
    pub(crate) fn record(
        &self,
        values: &[&str],
        write: impl FnOnce(&OwnedCell),
    ) -> Result<(), LabelError> {
        let removes = self.definition.idle_timeout.is_some();
        let family = cache::Family { id: self.id, generation: &self.generation, removes };
        match cache::with_remembered(family, values, write) {
            Ok(()) => Ok(()),
            Err(write) => self.record_slowly(values, write),
        }
    }

    #[cold]
    fn record_slowly(
        &self,
        values: &[&str],
        write: impl FnOnce(&OwnedCell),
    ) -> Result<(), LabelError> {
        self.check_count(values)?;
        let text = self.text(values);
        self.with_series(&text, |table, position, is_overflow| {
            let cell = table.cell(position).ok_or_else(|| self.observed(values))?.to_owned();
            // Under the lock, so that the series is not removed meanwhile.
            write(&cell);
            if !is_overflow {
                let generation = self.generation.load(Ordering::Acquire);
                cache::remember(self.id, generation, values, cell);
            }
            Ok(())
        })
    }

    /// Returns a share of the series with these values, which is made if it is not there.
    pub(crate) fn hold(self: &Arc<Self>, values: &[&str]) -> Result<(Held, OwnedCell), LabelError> {
        self.check_count(values)?;
        self.hold_text(&self.text(values), || self.observed(values))
    }

    /// As [`hold`](Self::hold), by names and values that need not be those declared.
    #[cfg(feature = "facade")]
    pub(crate) fn hold_pairs(
        self: &Arc<Self>,
        pairs: &[(&str, &str)],
    ) -> Result<(Held, OwnedCell), LabelError> {
        let mut text = String::new();
        pairs.iter().for_each(|(name, value)| write_pair(&mut text, name, value));
        let values: Vec<&str> = pairs.iter().map(|(_, value)| *value).collect();
        self.hold_text(&text, || self.observed(&values))
    }

    fn hold_text(
        self: &Arc<Self>,
        text: &str,
        observed: impl Fn() -> LabelError,
    ) -> Result<(Held, OwnedCell), LabelError> {
        self.with_series(text, |table, position, _| {
            let cell = table.cell(position).ok_or_else(&observed)?.to_owned();
            table.hold(position);
            Ok((Held { set: Arc::clone(self), position }, cell))
        })
    }

    /// Runs `action` on a series that is not about to be removed, under the lock.
    fn with_series<R>(&self, text: &str, action: impl FnOnce(&Table, u32, bool) -> R) -> R {
        {
            let table = read(&self.table);
            let found = table.find(text).filter(|position| !is_retiring(&table, *position));
            if let Some(position) = found {
                return action(&table, position, false);
            }
        }
        // Before the lock, since the clock is the user's.
        let now_ms = self.shared.now_ms();
        let mut table = write(&self.table);
        let (position, is_overflow) = self.find_or_insert(&mut table, text, now_ms);
        keep(&mut table, position);
        action(&table, position, is_overflow)
    }

    fn find_or_insert(&self, table: &mut Table, text: &str, now_ms: u64) -> (u32, bool) {
        if let Some(position) = table.find(text) {
            return (position, false);
        }
        let mut overflow = String::new();
        write_pair(&mut overflow, OVERFLOW_LABEL, "true");
        let overflow_at = table.find(&overflow);
        // The overflow series is one beyond the limit, and takes no place from another.
        if table.len() - usize::from(overflow_at.is_some()) < self.definition.series_max {
            return (table.insert(text, now_ms), false);
        }
        self.overflowed.fetch_add(1, Ordering::Relaxed);
        (overflow_at.unwrap_or_else(|| table.insert(&overflow, now_ms)), true)
    }

    /// Makes a series an observed one.
    pub(crate) fn observe(&self, values: &[&str], observer: Observer) -> Result<(), LabelError> {
        self.check_count(values)?;
        let text = self.text(values);
        let now_ms = self.shared.now_ms();
        // What is replaced or refused leaves this block, so that it is dropped without the lock.
        let outcome = {
            let mut table = write(&self.table);
            let found = table.find(&text);
            match found {
                Some(position) if table.cell(position).is_some() => Err(observer),
                found => {
                    let position = found.unwrap_or_else(|| table.insert(&text, now_ms));
                    Ok(table.observe(position, observer))
                }
            }
        };
        match outcome {
            Ok(_replaced) => Ok(()),
            Err(_refused) => {
                Err(LabelError::SetByHand { family: self.name(), values: owned(values) })
            }
        }
    }

    /// Asks the observers; no lock is held while they run.
    pub(crate) fn ask_observers(&self) -> Vec<(u32, Reading)> {
        let observers: Vec<(u32, Observer)> = {
            let table = read(&self.table);
            table.observers().iter().map(|(at, observer)| (*at, observer.clone())).collect()
        };
        observers.into_iter().filter_map(|(at, observer)| Some((at, observer.0()?))).collect()
    }

    /// Shows the series at the positions from `from` on, at most `most` of them, under the lock.
    ///
    /// `observed` is what [`ask_observers`](Self::ask_observers) said. Returns the next position, or
    /// `None` at the end.
    pub(crate) fn visit(
        &self,
        from: usize,
        most: usize,
        observed: &[(u32, Reading)],
        mut show: impl FnMut(SeriesView<'_>),
    ) -> Option<usize> {
        let table = read(&self.table);
        let end = table.positions().min(from + most);
        for position in from..end {
            let Some(row) = table.row(position as u32) else { continue };
            let Row { position, text, created_ms, cell } = row;
            let value = match cell {
                Some(cell) => ValueView::Cell(cell),
                None => match observed.binary_search_by_key(&position, |(at, _)| *at) {
                    Ok(place) => ValueView::Observed(observed[place].1),
                    Err(_) => continue,
                },
            };
            show(SeriesView { position, labels: text, created_ms, value });
        }
        (end < table.positions()).then_some(end)
    }

    /// Lets the windows of summaries slide.
    pub(crate) fn advance(&self, now_ms: u64) {
        if !matches!(self.definition.shape, Shape::Summary(_)) {
            return;
        }
        let mut from = Some(0);
        while let Some(start) = from {
            from = self.visit(start, 256, &[], |view| {
                if let ValueView::Cell(Cell::Summary(summary)) = view.value {
                    summary.advance(now_ms);
                }
            });
        }
    }

    fn text(&self, values: &[&str]) -> String {
        let mut text = String::new();
        for (name, value) in self.definition.label_names.iter().zip(values) {
            write_pair(&mut text, name, value);
        }
        text
    }

    fn check_count(&self, values: &[&str]) -> Result<(), LabelError> {
        let expected = self.definition.label_names.len();
        if values.len() == expected {
            return Ok(());
        }
        Err(LabelError::Count { family: self.name(), expected, got: values.len() })
    }

    fn observed(&self, values: &[&str]) -> LabelError {
        LabelError::Observed { family: self.name(), values: owned(values) }
    }

    fn name(&self) -> String {
        self.definition.name.clone()
    }
}

fn is_retiring(table: &Table, position: u32) -> bool {
    table.idle(position).is_some_and(|idle| idle.is_retiring)
}

/// Takes away the mark of a series that is about to be removed.
fn keep(table: &mut Table, position: u32) {
    if let Some(idle) = table.idle(position) {
        table.set_idle(position, table::Idle { is_retiring: false, ..idle });
    }
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

impl Clone for Held {
    fn clone(&self) -> Self {
        read(&self.set.table).hold(self.position);
        Self { set: Arc::clone(&self.set), position: self.position }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        read(&self.set.table).let_go(self.position);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::write;
    use crate::MetricsCollector;

    #[test]
    fn what_a_thread_remembers_is_recorded_while_the_table_is_locked() {
        let metrics = MetricsCollector::new();
        let jobs = metrics.counter("jobs_total", "Jobs.").labels(["x"]);
        let jobs = jobs.idle_timeout(Duration::from_secs(60)).register().unwrap();
        let held = jobs.with(&["held"]).unwrap();
        let sets = metrics.sets();
        let set = sets.iter().find(|set| set.definition.name == "jobs_total").unwrap();
        let (touched, is_touched) = channel();
        let (may_go_on, go_on) = channel::<()>();
        let (done, is_done) = channel();
        std::thread::scope(|scope| {
            let (jobs, held) = (&jobs, &held);
            scope.spawn(move || {
                jobs.inc(&["known"]).unwrap();
                touched.send(()).unwrap();
                go_on.recv().unwrap();
                jobs.inc(&["known"]).unwrap();
                held.inc();
                done.send(()).unwrap();
            });
            is_touched.recv().unwrap();
            let locked = write(&set.table);
            may_go_on.send(()).unwrap();
            let outcome = is_done.recv_timeout(Duration::from_secs(20));
            drop(locked);
            outcome.expect("a writer waited for the lock");
        });
        assert_eq!((jobs.with(&["known"]).unwrap().get(), held.get()), (2, 1));
    }
}
