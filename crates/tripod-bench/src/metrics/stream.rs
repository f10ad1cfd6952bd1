//! Bytes that a live dashboard costs with each tick: what a tick moves if some of many series
//! changed. Nothing here is timed, and each run has the same figures.

use std::fmt::Write as _;

use tripod_metrics::stream::{Decoder, Feed, Frame};
use tripod_metrics::{Counter, Gauge, MetricsCollector};

use super::workload::{PAGE_LABELS, PAGE_NAME_TOTAL, page_labels};
use crate::bar::Bar;
use crate::error::BenchError;
use crate::random::Random;
use crate::report::{self, thousands};
use crate::series::Series;

/// Bytes of a tick, in the median.
const TICK_BYTES_MAX: f64 = 5_000.0;

const COUNTERS: usize = 7_000;
const GAUGES: usize = 3_000;
/// Series that change with each tick: a tenth.
const CHANGED: usize = 1_000;
const TICKS: usize = 30;

/// Changes series tick by tick, and answers with a table and the bar.
///
/// # Errors
/// If the decoded stream differs from what the collector holds.
pub(crate) fn measure() -> Result<(String, Vec<Bar>), BenchError> {
    let mut process = Process::new();
    let (mut feed, mut decoder) = (Feed::new(1), Decoder::new());
    feed.tick(&process.metrics.snapshot());
    apply(&mut decoder, &feed.key_frame())?;
    let (mut frames, mut pages, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TICKS {
        let changes = process.change();
        let frame = feed.tick(&process.metrics.snapshot());
        apply(&mut decoder, &frame)?;
        check(&decoder, &process)?;
        frames.push(frame.bytes.len() as f64);
        pages.push(process.metrics.encode_text().len() as f64);
        texts.push(changes.len() as f64);
    }
    let rows = [
        ("tripod, delta frame", Series::new(frames)),
        ("text page", Series::new(pages)),
        ("JSON of the changes", Series::new(texts)),
    ];
    let text = format!(
        "live stream: bytes per tick, {} series of which {} change, median of {TICKS} ticks\n{}   \
         A key frame, which a subscriber gets first, has {} bytes.\n\n",
        thousands((COUNTERS + GAUGES) as u64),
        thousands(CHANGED as u64),
        table(&rows),
        thousands(feed.key_frame().bytes.len() as u64),
    );
    let bar = Bar::at_most("live stream: bytes per tick", rows[0].1.median(), TICK_BYTES_MAX);
    Ok((text, vec![bar]))
}

fn table(rows: &[(&str, Series)]) -> String {
    let header = ["", "bytes", "min", "max", "spread"].map(str::to_owned).to_vec();
    let rows = rows.iter().map(|(name, series)| {
        std::iter::once((*name).to_owned()).chain(report::cells(series, 0)).collect()
    });
    report::table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

/// Counters of events and gauges with two decimals, as of a process that is looked at.
struct Process {
    metrics: MetricsCollector,
    counters: Vec<Counter>,
    gauges: Vec<Gauge>,
    random: Random,
}

impl Process {
    fn new() -> Self {
        const GOOD: &str = "a good description";
        let metrics = MetricsCollector::new();
        let counters = metrics.counter(PAGE_NAME_TOTAL, "Requests.").labels(PAGE_LABELS);
        let counters = counters.max_series(COUNTERS).register().expect(GOOD);
        let gauges = metrics.gauge("load_ratio", "Load.").labels(PAGE_LABELS);
        let gauges = gauges.max_series(GAUGES).register().expect(GOOD);
        let random = Random::new(20_261_124);
        Self {
            metrics,
            counters: (0..COUNTERS)
                .map(|number| counters.with(&page_labels(number).each_ref().map(|v| v.as_str())))
                .collect::<Result<_, _>>()
                .expect("two values for two labels"),
            gauges: (0..GAUGES)
                .map(|number| gauges.with(&page_labels(number).each_ref().map(|v| v.as_str())))
                .collect::<Result<_, _>>()
                .expect("two values for two labels"),
            random,
        }
    }

    /// Changes a tenth of the series; answers with the changes as JSON.
    fn change(&mut self) -> String {
        let mut json = String::from("[");
        let every = (COUNTERS + GAUGES) / CHANGED;
        for changed in 0..CHANGED {
            let number = changed * every + self.random.below(every as u64) as usize;
            let (name, index, value) = self.change_one(number);
            let [path, pod] = page_labels(index);
            let comma = if changed > 0 { "," } else { "" };
            write!(
                json,
                "{comma}{{\"name\":\"{name}\",\"labels\":{{\"path\":\"{path}\",\
                 \"pod\":\"{pod}\"}},\"value\":{value}}}"
            )
            .expect("a string takes all that is written");
        }
        json.push(']');
        json
    }

    fn change_one(&mut self, number: usize) -> (&'static str, usize, String) {
        if let Some(counter) = self.counters.get(number) {
            counter.add(1 + self.random.below(500) as u64);
            return (PAGE_NAME_TOTAL, number, counter.get().to_string());
        }
        let gauge = &self.gauges[number - COUNTERS];
        // Never the value that it has, which would be no change.
        gauge.set(gauge.get().trunc() + 1.0 + self.random.below(100) / 100.0);
        ("load_ratio", number - COUNTERS, gauge.get().to_string())
    }
}

fn apply(decoder: &mut Decoder, frame: &Frame) -> Result<(), BenchError> {
    decoder.apply(&frame.bytes).map_err(|error| differs(error.to_string()))
}

/// Holds if the decoder has the values of the process.
fn check(decoder: &Decoder, process: &Process) -> Result<(), BenchError> {
    let (mut counted, mut level, mut series) = (0.0, 0.0, 0);
    for view in decoder.series() {
        match view.family.name {
            PAGE_NAME_TOTAL => counted += view.value.as_f64(),
            "load_ratio" => level += view.value.as_f64(),
            _ => continue,
        }
        series += 1;
    }
    let expected_counted: u64 = process.counters.iter().map(Counter::get).sum();
    let expected_level: f64 = process.gauges.iter().map(Gauge::get).sum();
    let is_near = (level - expected_level).abs() < 1e-6;
    if series == COUNTERS + GAUGES && counted == expected_counted as f64 && is_near {
        return Ok(());
    }
    Err(differs(format!(
        "{series} series with sums {counted} and {level}, not {expected_counted} and {expected_level}"
    )))
}

fn differs(how: String) -> BenchError {
    BenchError::Differs { command: "the decoder of the stream".to_owned(), how }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_frame_is_found_out() {
        let mut process = Process::new();
        let (mut feed, mut decoder) = (Feed::new(1), Decoder::new());
        feed.tick(&process.metrics.snapshot());
        apply(&mut decoder, &feed.key_frame()).expect("a key frame");
        check(&decoder, &process).expect("the same state");
        process.change();
        check(&decoder, &process).expect_err("a tick behind");
        feed.tick(&process.metrics.snapshot());
        process.change();
        let second = feed.tick(&process.metrics.snapshot());
        apply(&mut decoder, &second).expect_err("the first was lost");
    }
}
