//! What a scrape costs a thread that records: increments with and without another thread that
//! writes the page of the same series over and over.
//!
//! Beside that stands a thread which writes numbers and knows of no metric: two processors may
//! share a clock, a cache and a path to memory, and no library can help that.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Amount;
use super::page::{Made, Page};
use crate::bar::Bar;
use crate::burst::{Took, repeat_until_undisturbed};
use crate::contender::Side;
use crate::cpu;
use crate::error::BenchError;
use crate::report::{self, note, thousands};
use crate::series::{Series, alternate};

/// What a scrape may cost a thread that records.
const SCRAPED_PER_ALONE_MAX: f64 = 1.05;
/// Increments before the clock starts.
const WARM_UP: u64 = 1_000;

/// What the other processor does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    Numbers,
    Scrapes,
}

const ALL: [Beside; 3] = [Beside::Nothing, Beside::Numbers, Beside::Scrapes];

/// Measures each library with each neighbour, in turns, and answers with a table and the bar.
///
/// # Errors
/// None as yet; those of other rows.
pub(crate) fn measure(made: &[Made], amount: &Amount) -> Result<(String, Vec<Bar>), BenchError> {
    let operations: Vec<u64> = made.iter().map(|made| operations(&made.page, amount)).collect();
    let taken = alternate(made.len() * ALL.len(), amount.of_row.rounds, |turn| {
        let (index, beside) = (turn / ALL.len(), ALL[turn % ALL.len()]);
        let page = &made[index].page;
        note(&format!("{}: recording beside {beside:?}", page.name));
        let make = || record_beside(page, beside, operations[index]);
        Ok::<_, BenchError>(repeat_until_undisturbed(make).0.ns)
    })?;
    let figures: Vec<Figures> = taken.chunks(ALL.len()).map(Figures::of).collect();
    let text = format!(
        "recording beside a scrape of {} series in a loop: ns of CPU time per increment of one\n\
         of 64 counters in turn, median of {}; a ratio is the median of those of each round\n{}\n",
        thousands(amount.page_series as u64),
        amount.of_row.rounds,
        table(made, &figures),
    );
    Ok((text, vec![bar(made, &figures)]))
}

fn operations(page: &Page, amount: &Amount) -> u64 {
    let trial = 100_000;
    let took = record(page, trial).0;
    // Long enough for more than one page of whoever writes it quickly.
    let wanted = amount.of_row.burst.as_secs_f64() * 2.0 / took.as_secs_f64() * trial as f64;
    (wanted as u64).max(trial)
}

fn record(page: &Page, operations: u64) -> (Duration, Duration) {
    let (wall, cpu) = (Instant::now(), cpu::thread_time());
    page.record(operations);
    (cpu::thread_time() - cpu, wall.elapsed())
}

/// Records on one processor while the other has its own to do.
fn record_beside(page: &Page, beside: Beside, operations: u64) -> Took {
    let (done, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (cpu, wall) = thread::scope(|scope| {
        scope.spawn(|| {
            cpu::pin(1);
            let mut text = Vec::new();
            while !done.load(Ordering::SeqCst) {
                begun.fetch_add(1, Ordering::SeqCst);
                match beside {
                    Beside::Nothing => return,
                    Beside::Numbers => write_numbers(&mut text),
                    Beside::Scrapes => page.encode(&mut text),
                }
            }
        });
        let recording = scope.spawn(|| {
            cpu::pin(0);
            page.record(WARM_UP);
            while begun.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            cpu::take_precedence();
            let took = record(page, operations);
            done.store(true, Ordering::SeqCst);
            took
        });
        recording.join().expect("recording does not panic")
    });
    Took {
        ns: cpu.as_secs_f64() * 1e9 / operations as f64,
        wall_per_cpu: wall.as_secs_f64() / cpu.as_secs_f64(),
    }
}

/// About a page of numbers, into a buffer that is used again.
fn write_numbers(text: &mut Vec<u8>) {
    use std::io::Write;
    text.clear();
    for number in 0..100_000_u64 {
        writeln!(text, "{:060}", black_box(number)).expect("a vector takes all that is written");
    }
    black_box(text);
}

/// Medians of one library, in the order of [`ALL`].
struct Figures {
    nanos: [f64; 3],
    /// By the figure of the same round with nothing beside: the pace of a machine drifts.
    ratios: [f64; 3],
}

impl Figures {
    fn of(taken: &[Vec<f64>]) -> Self {
        let median = |beside: usize| Series::new(taken[beside].iter().copied()).median();
        let ratio = |beside: usize| {
            let rounds = taken[beside].iter().zip(&taken[0]);
            Series::new(rounds.map(|(own, alone)| own / alone)).median()
        };
        Self { nanos: [0, 1, 2].map(median), ratios: [0, 1, 2].map(ratio) }
    }
}

fn table(made: &[Made], figures: &[Figures]) -> String {
    let header =
        ["", "alone", "beside numbers", "beside scrapes", "numbers/alone", "scrapes/alone"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (made, Figures { nanos, ratios }) in made.iter().zip(figures) {
        let mut cells = vec![made.page.name.to_owned()];
        cells.extend(nanos.map(|ns| format!("{ns:.2}")));
        cells.extend(ratios[1..].iter().map(|ratio| format!("{ratio:.2}")));
        rows.push(cells);
    }
    report::table(&rows)
}

fn bar(made: &[Made], figures: &[Figures]) -> Bar {
    let tripod = made.iter().position(|made| made.page.side == Side::Tripod);
    let ratio = tripod.map_or(f64::NAN, |place| figures[place].ratios[2]);
    Bar::at_most("recording beside scrapes / alone", ratio, SCRAPED_PER_ALONE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_of_the_machine_is_not_the_scrapes() {
        let figures = Figures::of(&[vec![1.0, 1.0, 2.0], vec![1.0, 2.0, 2.0], vec![1.1, 1.1, 2.2]]);
        assert_eq!(figures.nanos, [1.0, 2.0, 1.1]);
        assert!((figures.ratios[2] - 1.1).abs() < 1e-12, "{:?}", figures.ratios);
        assert!((figures.ratios[1] - 1.0).abs() < 1e-12, "{:?}", figures.ratios);
    }
}
