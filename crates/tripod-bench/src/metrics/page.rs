//! A page of many series: what it costs to write it, to hold it, and to record while it is written.

use std::fmt;
use std::hint::black_box;

use super::Amount;
use super::allocator;
use super::workload::{PAGE_NAME_TOTAL, lines_of};
use crate::bar::Bar;
use crate::contender::Side;
use crate::cpu;
use crate::error::BenchError;
use crate::report::{self, note, thousands};
use crate::series::{Series, alternate};

/// Encoding: the most of the best opponent's time.
const ENCODE_OF_BEST_MAX: f64 = 0.15;
/// Encoding: allocations for each series. A few for the whole page are none for each.
const ALLOCATIONS_MAX: f64 = 0.001;
/// Memory: bytes for each series, with one thread that records.
const BYTES_MAX: f64 = 100.0;

/// How many series of a page are recorded into while it is written; a power of two.
pub(crate) const RECORDED: usize = 64;

/// A family of counters with two labels in one library.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    encode: Encode,
    record: Box<dyn Fn(u64) + Send + Sync>,
}

/// Appends a page as text.
type Encode = Box<dyn Fn(&mut Vec<u8>) + Send + Sync>;

/// Makes the page with so many series, and handles of those whose numbers are given.
pub(crate) type MakePage = fn(usize, &[usize]) -> Page;

impl Page {
    pub(crate) fn new(name: &'static str, side: Side) -> Self {
        Self { name, side, encode: Box::new(|_| {}), record: Box::new(|_| {}) }
    }

    /// Appends the page as text.
    pub(crate) fn encoded_by(
        mut self,
        encode: impl Fn(&mut Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        self.encode = Box::new(encode);
        self
    }

    /// Increments one of the counters after the other.
    ///
    /// # Panics
    /// If there are not [`RECORDED`] handles.
    pub(crate) fn recorded_by<H: Send + Sync + 'static>(
        mut self,
        handles: Vec<H>,
        increment: impl Fn(&H) + Send + Sync + 'static,
    ) -> Self {
        let handles: Box<[H; RECORDED]> =
            handles.try_into().unwrap_or_else(|_| panic!("{RECORDED} handles are needed"));
        self.record = Box::new(move |operations| {
            for number in 0..operations as usize {
                increment(black_box(&handles[number % RECORDED]));
            }
        });
        self
    }

    pub(crate) fn encode(&self, page: &mut Vec<u8>) {
        page.clear();
        (self.encode)(page);
        black_box(page);
    }

    pub(crate) fn record(&self, operations: u64) {
        (self.record)(operations);
    }

    /// Holds if each series is on the page once, with its value.
    fn check(&self, page: &[u8], series: usize) -> Result<(), BenchError> {
        let text = std::str::from_utf8(page).map_err(|error| self.differs(error.to_string()))?;
        let (mut lines, mut sum) = (0, 0);
        for (_, value) in lines_of(text, PAGE_NAME_TOTAL) {
            lines += 1;
            sum += value;
        }
        let expected: u64 = (0..series as u64).sum();
        if (lines, sum) == (series, expected) {
            return Ok(());
        }
        let how = format!("it has {lines} lines with a sum of {sum}, not {series} with {expected}");
        Err(self.differs(how))
    }

    pub(crate) fn differs(&self, how: String) -> BenchError {
        BenchError::Differs { command: format!("page of {}", self.name), how }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, side, .. } = self;
        f.debug_struct("Page").field("name", name).field("side", side).finish_non_exhaustive()
    }
}

/// A page with the bytes that it holds.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) page: Page,
    /// Net bytes on the heap, all of them asked for by one thread.
    pub(crate) bytes: i64,
}

/// Makes the page of each library, and proves that each has what it should.
///
/// # Errors
/// If one has not.
pub(crate) fn make(pages: &[MakePage], series: usize) -> Result<Vec<Made>, BenchError> {
    let recorded: Vec<usize> = (0..RECORDED).map(|number| number * series / RECORDED).collect();
    let make = |make: &MakePage| {
        let (page, allocated) = allocator::counted(|| make(series, &recorded));
        note(&format!("{}: a page of {series} series", page.name));
        let mut text = Vec::new();
        page.encode(&mut text);
        page.check(&text, series)?;
        Ok(Made { page, bytes: allocated.net_bytes })
    };
    pages.iter().map(make).collect()
}

/// Measures writing and holding the pages and answers with a table and the bars.
///
/// # Errors
/// None as yet; those of other rows.
pub(crate) fn measure(
    made: &[Made],
    amount: &Amount,
    further_thread_bytes: f64,
) -> Result<(String, Vec<Bar>), BenchError> {
    let series = amount.page_series;
    let mut texts: Vec<Vec<u8>> = vec![Vec::new(); made.len()];
    for (Made { page, .. }, text) in made.iter().zip(&mut texts) {
        page.encode(text);
    }
    let taken = alternate(made.len(), amount.of_row.rounds, |index| {
        note(&format!("{}: writing", made[index].page.name));
        Ok::<_, BenchError>(write_once(&made[index].page, &mut texts[index], series))
    })?;
    let row = |index: usize| PageRow::new(&made[index], &taken[index], &texts[index], series);
    let rows: Vec<PageRow> = (0..made.len()).map(row).collect();
    let text = format!(
        "text encode and memory, {} counters with 2 labels: per series, median of {}\n{}   \
         The buffer is used again, as a server would. Memory is what making the series left on\n   \
         the heap of one thread that incremented each; each further thread that increments\n   \
         all of them costs tripod {further_thread_bytes:.1} bytes per series.\n\n",
        thousands(series as u64),
        amount.of_row.rounds,
        table(&rows),
    );
    Ok((text, bars(&rows)))
}

fn write_once(page: &Page, text: &mut Vec<u8>, series: usize) -> (f64, f64) {
    let begin = cpu::thread_time();
    let ((), allocated) = allocator::counted(|| page.encode(text));
    let took = cpu::thread_time() - begin;
    (took.as_secs_f64() * 1e9 / series as f64, allocated.count as f64 / series as f64)
}

struct PageRow {
    name: &'static str,
    side: Side,
    encode_ns: Series,
    allocations: f64,
    memory_bytes: f64,
    line_bytes: f64,
}

impl PageRow {
    fn new(made: &Made, taken: &[(f64, f64)], text: &[u8], series: usize) -> Self {
        Self {
            name: made.page.name,
            side: made.page.side,
            encode_ns: Series::new(taken.iter().map(|(ns, _)| *ns)),
            allocations: Series::new(taken.iter().map(|(_, count)| *count)).median(),
            memory_bytes: made.bytes as f64 / series as f64,
            line_bytes: text.len() as f64 / series as f64,
        }
    }
}

fn best(rows: &[PageRow]) -> Option<&PageRow> {
    let opponents = rows.iter().filter(|row| row.side == Side::Opponent);
    opponents.min_by(|one, other| one.encode_ns.median().total_cmp(&other.encode_ns.median()))
}

fn table(rows: &[PageRow]) -> String {
    let header = ["", "ns", "min", "max", "spread", "/best", "allocations", "memory B", "page B"];
    let best = best(rows).map_or(f64::NAN, |row| row.encode_ns.median());
    let mut cells = vec![header.map(str::to_owned).to_vec()];
    for row in rows {
        let mut line = vec![row.name.to_owned()];
        line.extend(report::cells(&row.encode_ns, 1));
        line.push(format!("{:.2}", row.encode_ns.median() / best));
        line.push(format!("{:.4}", row.allocations));
        line.push(format!("{:.1}", row.memory_bytes));
        line.push(format!("{:.1}", row.line_bytes));
        cells.push(line);
    }
    report::table(&cells)
}

fn bars(rows: &[PageRow]) -> Vec<Bar> {
    let tripod = rows.iter().find(|row| row.side == Side::Tripod);
    let figure = |of: fn(&PageRow) -> f64| tripod.map_or(f64::NAN, of);
    let (name, best) =
        best(rows).map_or(("no opponent", f64::NAN), |row| (row.name, row.encode_ns.median()));
    let ratio = figure(|row| row.encode_ns.median()) / best;
    vec![
        Bar::at_most(format!("text encode: tripod / {name}"), ratio, ENCODE_OF_BEST_MAX),
        Bar::at_most(
            "text encode: allocations per series",
            figure(|row| row.allocations),
            ALLOCATIONS_MAX,
        ),
        Bar::at_most("memory: bytes per series", figure(|row| row.memory_bytes), BYTES_MAX),
    ]
}

/// Bytes as a place for text.
pub(crate) struct Utf8<'a>(pub(crate) &'a mut Vec<u8>);

impl fmt::Write for Utf8<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_lacks_a_series_or_has_a_wrong_value_is_found_out() {
        let page = Page::new("x", Side::Opponent);
        let text = |values: &[u64]| -> String {
            values
                .iter()
                .map(|value| format!("{PAGE_NAME_TOTAL}{{a=\"{value}\"}} {value}\n"))
                .collect()
        };
        for (values, is_good) in [
            (&[0, 1, 2][..], true),
            (&[0, 1][..], false),
            (&[0, 1, 3][..], false),
            (&[0, 1, 2, 0][..], false),
        ] {
            let checked = page.check(text(values).as_bytes(), 3);
            assert_eq!(checked.is_ok(), is_good, "{checked:?}");
        }
    }

    #[test]
    fn every_library_makes_the_same_page() {
        make(&super::super::pages(), 200).expect("all series are on all pages");
    }
}
