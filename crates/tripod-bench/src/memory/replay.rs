//! Ten minutes of a program's allocations, replayed as quickly as it goes: how much memory is
//! committed for what is in use, and whether a burst leaves memory behind.
//!
//! Time is the trace's: once in each of its seconds Tripod is told what time it is and collects what
//! has been idle for its TTL. The others read the clock of the system, for which all of it takes a
//! few seconds; they are shown for what they take in between, and no bar counts them.
//!
//! Each block is touched: a byte of each page. Resident memory is read from the system, and is that
//! of a process of its own above what it was before the heap was made.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use mimalloc::MiMalloc;
use tikv_jemallocator::Jemalloc;

use super::alone::{self, Alone, Task};
use super::idle::Of;
use super::opponents::allocator::Any;
use super::source::Held;
use super::trace::format::{Event, What, decode};
use super::trace::generate::generate;
use super::tripod;
use crate::bar::Bar;
use crate::error::BenchError;
use crate::machine::resident_bytes;
use crate::report::{self, note};
use crate::series::Series;

/// The default of the crate.
const TTL: Duration = Duration::from_secs(30);
const TTL_SECONDS: usize = TTL.as_secs() as usize;

const COMMITTED_OF_USED_MAX: f64 = 1.15;
const AFTER_OF_BEFORE_MAX: f64 = 1.10;

const SEED: u64 = 20_261_125;
const LENGTH_US: u64 = 600_000_000;
const SECOND_US: u64 = 1_000_000;
const MIB: f64 = (1 << 20) as f64;

/// Which trace is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    Generated,
    Recorded,
}

impl Which {
    const ALL: [Self; 2] = [Self::Generated, Self::Recorded];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Recorded => "recorded",
        }
    }

    /// Events in ten minutes: what was recorded is stretched to them.
    fn events(self) -> Vec<Event> {
        match self {
            Self::Generated => generate(SEED),
            Self::Recorded => {
                let file = include_bytes!("../../traces/monitor.trace");
                stretched(decode(file).expect("the file in the repository is whole"))
            }
        }
    }
}

fn stretched(mut events: Vec<Event>) -> Vec<Event> {
    let length_us = events.last().map_or(1, |event| event.time_us + 1);
    for event in &mut events {
        let wide = u128::from(event.time_us) * u128::from(LENGTH_US) / u128::from(length_us);
        event.time_us = u64::try_from(wide).expect("it is below the length");
    }
    events
}

/// Where blocks of all sizes come from.
pub(crate) trait Heap {
    /// A block, which goes back when it is dropped.
    type Held<'a>: Held
    where
        Self: 'a;

    fn allocate(&self, bytes: usize) -> Self::Held<'_>;

    /// A second of the trace is over.
    fn collect(&self, _now: Instant) {}

    /// Bytes committed, and those of them in use; `None` if it does not tell.
    fn committed_and_used(&self) -> Option<[u64; 2]> {
        None
    }
}

/// The end of a second of the trace.
#[derive(Debug, Clone, Copy)]
struct Second {
    /// As asked for.
    live_bytes: u64,
    committed_bytes: u64,
    /// By capacity.
    used_bytes: u64,
    resident_bytes: u64,
}

impl Second {
    fn committed_of_used(&self) -> f64 {
        self.committed_bytes as f64 / self.used_bytes as f64
    }

    fn of_live(&self, bytes: u64) -> f64 {
        bytes as f64 / self.live_bytes as f64
    }
}

/// What a child tells.
pub(crate) const FIGURES: usize = 7;

/// Replays a trace in this process: the live set in the median in bytes, bursts, committed by used
/// bytes in steady state, in the median and at most, committed and resident by live bytes there, and
/// resident bytes after a burst by those before, at most.
///
/// # Errors
/// None as yet; those of other tasks.
pub(crate) fn run(which: Which, of: Of) -> Result<[f64; FIGURES], BenchError> {
    let events = which.events();
    let seconds = match of {
        Of::Tripod => replay(&events, || tripod::manager_without_background(TTL)),
        Of::Malloc => replay(&events, || Any(std::alloc::System)),
        Of::Mimalloc => replay(&events, || Any(MiMalloc)),
        Of::Jemalloc => replay(&events, || Any(Jemalloc)),
    };
    Ok(figures(&seconds))
}

fn replay<H: Heap>(events: &[Event], make: impl FnOnce() -> H) -> Vec<Second> {
    let allocates = |event: &&Event| matches!(event.what, What::Allocate { .. });
    let count = events.iter().filter(allocates).count();
    let heap = OnceCell::new();
    // All that the replay itself needs is there, and touched, before the heap is made.
    let mut live: Vec<Option<H::Held<'_>>> = (0..count).map(|_| None).collect();
    let mut sizes = vec![1_u32; count];
    let mut seconds = Vec::with_capacity((LENGTH_US / SECOND_US) as usize);
    let (before, begin) = (resident_bytes(), Instant::now());
    let heap: &H = heap.get_or_init(make);
    let (mut allocated, mut live_bytes, mut rest) = (0, 0_u64, events);
    for second in 1..=LENGTH_US / SECOND_US {
        let due = rest.partition_point(|event| event.time_us < second * SECOND_US);
        let (now, later) = rest.split_at(due);
        rest = later;
        for event in now {
            match event.what {
                What::Allocate { bytes } => {
                    let mut held = heap.allocate(bytes as usize);
                    held.touch(bytes as usize);
                    (live[allocated], sizes[allocated]) = (Some(held), bytes);
                    allocated += 1;
                    live_bytes += u64::from(bytes);
                }
                What::Free { id } => {
                    let held = live[id as usize].take();
                    live_bytes -= u64::from(held.map_or(0, |_| sizes[id as usize]));
                }
            }
        }
        heap.collect(begin + Duration::from_secs(second));
        let resident_bytes = resident_bytes().saturating_sub(before);
        let [committed, used] = heap.committed_and_used().unwrap_or([resident_bytes, live_bytes]);
        assert!(live_bytes > 0, "a trace has something live in each of its seconds");
        let (committed_bytes, used_bytes) = (committed, used);
        seconds.push(Second { live_bytes, committed_bytes, used_bytes, resident_bytes });
    }
    seconds
}

/// A burst: its first second, and the first after it.
type Burst = (usize, usize);

/// Runs of seconds in which half as much again is live as in the median.
fn bursts(seconds: &[Second], median: f64) -> Vec<Burst> {
    let is_burst = |second: &Second| second.live_bytes as f64 > median * 1.5;
    let mut found: Vec<Burst> = Vec::new();
    for (place, _) in seconds.iter().enumerate().filter(|(_, second)| is_burst(second)) {
        match found.last_mut() {
            Some((_, end)) if *end == place => *end = place + 1,
            _ => found.push((place, place + 1)),
        }
    }
    found
}

fn figures(seconds: &[Second]) -> [f64; FIGURES] {
    let live = Series::new(seconds.iter().map(|second| second.live_bytes as f64)).median();
    let bursts = bursts(seconds, live);
    let is_steady = |place: usize| {
        let is_near = |(begin, end): &Burst| place + 1 >= *begin && place <= end + TTL_SECONDS + 1;
        place >= TTL_SECONDS && !bursts.iter().any(is_near)
    };
    let steady: Vec<&Second> =
        (0..seconds.len()).filter(|place| is_steady(*place)).map(|place| &seconds[place]).collect();
    if steady.is_empty() {
        return [f64::NAN; FIGURES];
    }
    let of_steady = |figure: fn(&Second) -> f64| Series::new(steady.iter().copied().map(figure));
    let committed = of_steady(Second::committed_of_used);
    let committed_of_live = of_steady(|second| second.of_live(second.committed_bytes)).median();
    let resident_of_live = of_steady(|second| second.of_live(second.resident_bytes)).median();
    // Both are taken in relation to what is live, which is not quite the same after a burst.
    let after_of_before = bursts.iter().filter_map(|(begin, end)| {
        let before = seconds.get(begin.checked_sub(2)?)?;
        let after = seconds.get(end + TTL_SECONDS + 1)?;
        Some(after.of_live(after.resident_bytes) / before.of_live(before.resident_bytes))
    });
    let worst = after_of_before.fold(f64::NAN, f64::max);
    let (median, most) = (committed.median(), committed.max());
    [live, bursts.len() as f64, median, most, committed_of_live, resident_of_live, worst]
}

/// Replays each trace with each contender, and answers with a table and the bars.
///
/// # Errors
/// If a child fails.
pub(crate) fn measure() -> Result<(String, Vec<Bar>), BenchError> {
    let (mut text, mut bars) = (String::new(), Vec::new());
    for trace in Which::ALL {
        note(&format!("replay of the {} trace", trace.word()));
        // At the same time: nothing is timed.
        let children = Of::ALL.map(|of| alone::start(Task::Replay { trace, of }));
        let children: Vec<Alone> = children.into_iter().collect::<Result<_, _>>()?;
        let figures = children.into_iter().map(Alone::figures);
        let figures: Vec<[f64; FIGURES]> = figures.collect::<Result<_, _>>()?;
        text.push_str(&table(trace, &figures));
        let [_, _, committed, .., after] = figures[0];
        let what = |what: &str| format!("{} trace: {what}", trace.word());
        let in_steady_state = what("committed / in use");
        let after_a_burst = what("resident one TTL after a burst / before");
        bars.push(Bar::at_most(in_steady_state, committed, COMMITTED_OF_USED_MAX));
        bars.push(Bar::at_most(after_a_burst, after, AFTER_OF_BEFORE_MAX));
    }
    Ok((text, bars))
}

fn table(trace: Which, figures: &[[f64; FIGURES]]) -> String {
    let header = [
        "",
        "committed / in use",
        "most",
        "committed / requested",
        "resident / requested",
        "after a burst / before",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (of, [_, _, committed, most, of_live, resident, after]) in Of::ALL.iter().zip(figures) {
        let shown = |figure: &f64| format!("{figure:.3}");
        // Only Tripod tells what it has committed.
        let told = |figure| if *of == Of::Tripod { shown(figure) } else { "-".to_owned() };
        let told = [committed, most, of_live].map(told);
        let cells = told.into_iter().chain([resident, after].map(shown));
        rows.push(std::iter::once(of.word().to_owned()).chain(cells).collect());
    }
    let [live, bursts, ..] = figures[0];
    format!(
        "{} trace, 10 minutes: {:.0} MiB live in the median, {bursts} bursts\n{}   \
         In steady state, which is no burst and no second of the {} s after one; in use is by \
         capacity.\n   \
         A burst is judged by resident / requested one TTL after it and just before, the worst of \
         all.\n\n",
        trace.word(),
        live / MIB,
        report::table(&rows),
        TTL_SECONDS,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(live: u64, resident: u64) -> Second {
        let (committed_bytes, used_bytes) = (live * 11, live * 10);
        Second { live_bytes: live, committed_bytes, used_bytes, resident_bytes: resident }
    }

    #[test]
    fn what_a_burst_leaves_behind_is_found_out() {
        for (left, after_of_before) in [(0, 1.0), (25, 1.25)] {
            let mut seconds = vec![second(100, 100); 60];
            seconds.extend([second(300, 300); 10]);
            seconds.extend([second(100, 300); TTL_SECONDS]);
            seconds.extend([second(100, 100 + left); 60]);
            let [live, bursts, committed, most, _, resident, after] = figures(&seconds);
            assert_eq!([live, bursts, committed, most], [100.0, 1.0, 1.1, 1.1]);
            // The seconds before the burst are steady, too.
            assert!(resident >= 1.0 && resident <= after_of_before, "{resident}");
            assert_eq!(after, after_of_before);
        }
    }

    #[test]
    fn a_trace_without_a_burst_proves_nothing_about_bursts() {
        let [_, bursts, .., after] = figures(&vec![second(100, 100); 100]);
        assert_eq!(bursts, 0.0);
        assert!(after.is_nan());
    }

    #[test]
    fn a_heap_that_keeps_all_is_told_from_one_that_does_not() {
        let event = |time_us, what| Event { time_us, what };
        let mut events = vec![event(0, What::Allocate { bytes: 1 << 20 })];
        for id in 1..=40 {
            events.push(event(5 * SECOND_US, What::Allocate { bytes: 1 << 20 }));
            events.push(event(9 * SECOND_US, What::Free { id }));
        }
        events.sort_by_key(|event| event.time_us);
        let seconds = replay(&events, || Any(std::alloc::System));
        assert_eq!(seconds[3].live_bytes, 1 << 20);
        assert_eq!(seconds[7].live_bytes, 41 << 20);
        assert_eq!(seconds[500].live_bytes, 1 << 20);
        assert!(seconds[7].resident_bytes >= 41 << 20, "{:?}", seconds[7]);
    }

    #[test]
    fn both_traces_last_ten_minutes_and_have_bursts() {
        for which in Which::ALL {
            let events = which.events();
            assert!(events.len() > 20_000, "{which:?}: {}", events.len());
            let last = events.last().expect("there are some");
            assert!(last.time_us > LENGTH_US - SECOND_US * 2, "{which:?}: {last:?}");
        }
    }
}
