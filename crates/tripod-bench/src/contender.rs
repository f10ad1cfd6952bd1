//! Contenders: one way to do an operation, and the proof that it was done.

use std::fmt;
use std::time::Duration;

use crate::burst::{self, Burst, Took};
use crate::cpu;
use crate::error::BenchError;

/// What a contender is to a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// What is held to the bars.
    Tripod,
    /// What the bars are relative to: the best of these.
    Opponent,
    /// What nothing could be cheaper than, or what a bar does not count; shown beside the others.
    Beside,
}

/// One way to do an operation.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    burst: Box<dyn Fn(Burst) -> Took>,
    check: Option<Box<dyn Fn() -> Result<(), String>>>,
    recorded: Option<Box<dyn Fn() -> u64>>,
    drain: Option<Box<dyn Fn()>>,
}

impl Contender {
    /// Each thread calls `prepare` for its operation, which gets a number that counts up from 0.
    pub(crate) fn new<Operation: FnMut(usize)>(
        name: &'static str,
        side: Side,
        prepare: impl Fn() -> Operation + Sync + 'static,
    ) -> Self {
        Self::timed(name, side, move |burst| burst::run(burst, &prepare))
    }

    /// Makes its bursts by itself.
    pub(crate) fn timed(
        name: &'static str,
        side: Side,
        burst: impl Fn(Burst) -> Took + 'static,
    ) -> Self {
        Self { name, side, burst: Box::new(burst), check: None, recorded: None, drain: None }
    }

    /// Tells what is wrong with what the operation yields, before any burst.
    pub(crate) fn checked_by(mut self, check: impl Fn() -> Result<(), String> + 'static) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    /// Reads how many operations are recorded; each burst is checked against it.
    pub(crate) fn recording(mut self, recorded: impl Fn() -> u64 + 'static) -> Self {
        self.recorded = Some(Box::new(recorded));
        self
    }

    /// Finishes what the operations left undone; its time is told apart.
    pub(crate) fn drained_by(mut self, drain: impl Fn() + 'static) -> Self {
        self.drain = Some(Box::new(drain));
        self
    }

    /// Proves that the operation yields what it is to yield.
    ///
    /// # Errors
    /// [`BenchError::Differs`] if it does not.
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        let checked = self.check.as_ref().map_or(Ok(()), |check| check());
        checked.map_err(|how| BenchError::Differs { command: self.name.to_owned(), how })
    }

    /// Makes one burst and proves that every operation of it was recorded.
    ///
    /// # Errors
    /// [`BenchError::Differs`] if something else was recorded than was done.
    pub(crate) fn measure(&self, burst: Burst) -> Result<Sample, BenchError> {
        let before = self.recorded.as_ref().map(|recorded| recorded());
        let mut drained = Duration::ZERO;
        let (took, made) = burst::repeat_until_undisturbed(|| {
            let took = (self.burst)(burst);
            if let Some(drain) = &self.drain {
                let begin = cpu::thread_time();
                drain();
                drained += cpu::thread_time() - begin;
            }
            took
        });
        let expected = burst.recorded() * u64::from(made);
        if let (Some(recorded), Some(before)) = (&self.recorded, before) {
            let found = recorded() - before;
            if found != expected {
                return Err(BenchError::Differs {
                    command: self.name.to_owned(),
                    how: format!("it holds {found} operations of {expected} that were done"),
                });
            }
        }
        let drain_ns = self.drain.as_ref().map(|_| drained.as_secs_f64() * 1e9 / expected as f64);
        Ok(Sample { ns: took.ns, drain_ns, is_disturbed: took.is_disturbed() })
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, side, .. } = self;
        f.debug_struct("Contender").field("name", name).field("side", side).finish_non_exhaustive()
    }
}

/// What one burst showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Time per operation, as in [`Took`].
    pub(crate) ns: f64,
    /// Processor time per operation that is due later, where that is so.
    pub(crate) drain_ns: Option<f64>,
    /// Whether a thread had to wait for its processor, in the best of the tries.
    pub(crate) is_disturbed: bool,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_contender_that_loses_an_operation_is_found_out() {
        let burst = Burst { threads: 1, operations: 100, warm_up: 10 };
        for (lost, is_found) in [(0, false), (1, true)] {
            let count = Arc::new(AtomicU64::new(0));
            let shared = Arc::clone(&count);
            let prepare = move || {
                let count = Arc::clone(&shared);
                move |number: usize| {
                    _ = count.fetch_add(u64::from(number >= lost), Ordering::SeqCst)
                }
            };
            let contender = Contender::new("leaky", Side::Opponent, prepare)
                .recording(move || count.load(Ordering::SeqCst));
            let error = contender.measure(burst).err();
            assert_eq!(error.is_some(), is_found, "{error:?}");
        }
    }

    #[test]
    fn what_yields_something_else_is_found_out() {
        let contender = || Contender::new("odd", Side::Opponent, || |_| {});
        assert!(contender().checked_by(|| Ok(())).check().is_ok());
        let error = contender().checked_by(|| Err("it is short".to_owned())).check().unwrap_err();
        assert_eq!(error.to_string(), "`odd` did not do the work of the others: it is short");
    }

    #[test]
    fn what_is_left_undone_is_told_apart() {
        let contender = Contender::new("lazy", Side::Opponent, || |_| {}).drained_by(|| {
            (0..10_000_u64).for_each(|number| _ = std::hint::black_box(number));
        });
        let sample = contender
            .measure(Burst { threads: 1, operations: 100, warm_up: 10 })
            .expect("no check");
        assert!(sample.drain_ns.is_some_and(|ns| ns > 0.0), "{sample:?}");
    }
}
