//! Bytes that a sample takes in a history, on the shapes that series have.
//!
//! The same samples for all: some series of a shape, all sampled at the same moments, which are a
//! little late at random, as those of a timer are. Nothing here is timed, and each run has the same
//! figures.

use std::time::Duration;

use tripod_history::codec::{decode_column, encode_column};
use tripod_history::{ColumnKind, Labels, SeriesPoints, Source, Store, StoreConfig, Tier};
use tsz::decode::Error;
use tsz::stream::{BufferedReader, BufferedWriter};
use tsz::{DataPoint, Decode, Encode, StdDecoder, StdEncoder};

use crate::bar::Bar;
use crate::contender::Side;
use crate::error::BenchError;
use crate::random::Random;
use crate::report;

/// Bytes for each sample of a busy counter.
const BUSY_COUNTER_BYTES_MAX: f64 = 2.0;
/// Bytes for each sample of all shapes together, of those of Gorilla with its own timestamps.
const MIX_OF_GORILLA_MAX: f64 = 0.6;

/// Samples of a series: 15 minutes of one a second.
const TICKS: usize = 900;
/// Series of each shape.
const SERIES: usize = 100;
/// How late a sample is at most, in milliseconds.
const LATE_MS_MAX: u64 = 3;

/// Samples of series that were taken at the same moments.
#[derive(Debug)]
pub(crate) struct Samples {
    /// Unix times in milliseconds, ascending.
    pub(crate) times: Vec<i64>,
    /// For each series a value for each time.
    pub(crate) series: Vec<Vec<f64>>,
}

/// A way to keep samples.
struct Codec {
    name: &'static str,
    side: Side,
    /// Bytes of all samples, after proof that they come back.
    bytes: fn(&Samples) -> Result<f64, String>,
}

const GORILLA: &str = "gorilla (tsz)";

const CODECS: [Codec; 4] = [
    Codec { name: "tripod", side: Side::Tripod, bytes: tripod_file_bytes },
    Codec { name: "its columns alone", side: Side::Beside, bytes: tripod_column_bytes },
    Codec { name: GORILLA, side: Side::Opponent, bytes: gorilla_bytes },
    Codec { name: "gorilla, times shared", side: Side::Opponent, bytes: gorilla_shared_bytes },
];

/// Makes the samples, keeps them in each way and answers with a table and the bars.
///
/// # Errors
/// If a codec does not give back what it was given.
pub(crate) fn measure() -> Result<(String, Vec<Bar>), BenchError> {
    let mut random = Random::new(20_261_124);
    let times = times(&mut random);
    let mut rows = Vec::new();
    for (name, shape) in SHAPES {
        let series = (0..SERIES).map(|_| series(&mut random, shape)).collect();
        let samples = Samples { times: times.clone(), series };
        let count = (SERIES * TICKS) as f64;
        let per_sample = |codec: &Codec| match (codec.bytes)(&samples) {
            Ok(bytes) => Ok(bytes / count),
            Err(how) => Err(BenchError::Differs { command: codec.name.to_owned(), how }),
        };
        rows.push((name, CODECS.iter().map(per_sample).collect::<Result<Vec<_>, _>>()?));
    }
    let text = format!(
        "history: bytes per sample, {SERIES} series of each shape, {TICKS} samples each, up to \
         {LATE_MS_MAX} ms late\n{}   \
         tripod: the size of all files of a store. Gorilla: the encoded samples alone, each series\n   \
         with its own times as in the paper, and as if all series had shared them.\n\n",
        table(&rows)
    );
    Ok((text, bars(&rows)))
}

/// A shape, and bytes per sample for each of [`CODECS`].
type ShapeRow = (&'static str, Vec<f64>);

fn mean(rows: &[ShapeRow], codec: usize) -> f64 {
    rows.iter().map(|(_, bytes)| bytes[codec]).sum::<f64>() / rows.len() as f64
}

fn table(rows: &[ShapeRow]) -> String {
    let names = CODECS.iter().map(|codec| codec.name.to_owned());
    let mut cells = vec![std::iter::once(String::new()).chain(names).collect::<Vec<_>>()];
    let line = |name: &str, bytes: &[f64]| {
        let bytes = bytes.iter().map(|bytes| format!("{bytes:.2}"));
        std::iter::once(name.to_owned()).chain(bytes).collect::<Vec<_>>()
    };
    cells.extend(rows.iter().map(|(name, bytes)| line(name, bytes)));
    let means: Vec<f64> = (0..CODECS.len()).map(|codec| mean(rows, codec)).collect();
    cells.push(line("mean", &means));
    report::table(&cells)
}

fn bars(rows: &[ShapeRow]) -> Vec<Bar> {
    let place = |is_it: fn(&Codec) -> bool| CODECS.iter().position(is_it);
    let tripod = place(|codec| codec.side == Side::Tripod);
    let gorilla = place(|codec| codec.name == GORILLA);
    let of = |codec: Option<usize>, figure: &dyn Fn(usize) -> f64| codec.map_or(f64::NAN, figure);
    let busy = of(tripod, &|codec| rows[0].1[codec]);
    let mix = of(tripod, &|codec| mean(rows, codec)) / of(gorilla, &|codec| mean(rows, codec));
    vec![
        Bar::at_most("history, busy counter: bytes per sample", busy, BUSY_COUNTER_BYTES_MAX),
        Bar::at_most("history, all shapes: tripod / gorilla", mix, MIX_OF_GORILLA_MAX),
    ]
}

/// All files of a store: values, times, labels, checksums, and blocks that wait to be merged.
fn tripod_file_bytes(samples: &Samples) -> Result<f64, String> {
    let said = |error: &dyn std::error::Error| error.to_string();
    let dir = tempfile::tempdir().map_err(|error| said(&error))?;
    let mut config = StoreConfig::default();
    config.tiers = vec![Tier { step: Duration::from_secs(1), keep: Duration::from_secs(3_600) }];
    let opened = Store::open(dir.path(), config, samples.times[0]);
    let (store, _) = opened.map_err(|error| said(&error))?;
    let column = |number: usize| store.column(&labels(number), ColumnKind::Cumulative);
    let columns: Vec<_> = (0..samples.series.len()).map(column).collect();
    for (tick, time) in samples.times.iter().enumerate() {
        let values = samples.series.iter().map(|values| values[tick]);
        let points: Vec<_> = columns.iter().copied().zip(values).collect();
        store.append(*time, &points).map_err(|error| said(&error))?;
        store.maintain(*time).map_err(|error| said(&error))?;
    }
    let (first, last) = (samples.times[0], samples.times[samples.times.len() - 1]);
    store.flush(last).map_err(|error| said(&error))?;
    let back = store.select(&[], first, last, 0).map_err(|error| said(&error))?;
    check(samples, &back)?;
    Ok(store.stats().disk_bytes as f64)
}

fn labels(number: usize) -> Labels {
    Labels::new([("__name__", "sampled".to_owned()), ("number", format!("{number:05}"))])
}

/// Holds if a store gave back what it was given.
fn check(samples: &Samples, back: &[SeriesPoints]) -> Result<(), String> {
    if back.len() != samples.series.len() {
        return Err(format!("it gave back {} series of {}", back.len(), samples.series.len()));
    }
    // The labels are in the order of the series.
    for (number, (series, values)) in back.iter().zip(&samples.series).enumerate() {
        let points = series.points.iter().map(|point| (point.time_ms, point.value.to_bits()));
        let expected =
            samples.times.iter().copied().zip(values.iter().map(|value| value.to_bits()));
        if series.labels != labels(number) || !points.eq(expected) {
            return Err(format!("it gave back other points of series {number}"));
        }
    }
    Ok(())
}

/// The values alone, in one column for each series.
fn tripod_column_bytes(samples: &Samples) -> Result<f64, String> {
    let column = |values: &Vec<f64>| {
        let bytes = encode_column(values);
        match decode_column(&bytes, values.len()) {
            Ok(back) if back == *values => Ok(bytes.len()),
            other => Err(format!("it gave back {other:?}")),
        }
    };
    Ok(samples.series.iter().map(column).sum::<Result<usize, _>>()? as f64)
}

/// Gorilla as its paper has it: each series with its own timestamps.
fn gorilla_bytes(samples: &Samples) -> Result<f64, String> {
    let bytes = samples.series.iter().map(|values| gorilla(&samples.times, values));
    Ok(bytes.sum::<Result<usize, _>>()? as f64)
}

/// Gorilla if its timestamps were kept once for all series.
///
/// `tsz` cannot do that, so what they take is told by a series whose values take one bit each.
fn gorilla_shared_bytes(samples: &Samples) -> Result<f64, String> {
    let constant = gorilla(&samples.times, &vec![0.0; samples.times.len()])? as f64;
    let constant_values = (64 + samples.times.len() - 1) as f64 / 8.0;
    let spared = (samples.series.len() - 1) as f64 * (constant - constant_values);
    Ok(gorilla_bytes(samples)? - spared)
}

fn gorilla(times: &[i64], values: &[f64]) -> Result<usize, String> {
    let points: Vec<_> = times
        .iter()
        .zip(values)
        .map(|(time, value)| DataPoint::new(time.cast_unsigned(), *value))
        .collect();
    let mut encoder = StdEncoder::new(points[0].get_time(), BufferedWriter::new());
    points.iter().for_each(|point| encoder.encode(*point));
    let bytes = encoder.close();
    let length = bytes.len();
    let mut decoder = StdDecoder::new(BufferedReader::new(bytes));
    for point in &points {
        match decoder.next() {
            Ok(back) if back == *point => {}
            other => return Err(format!("it gave back {other:?} for {point:?}")),
        }
    }
    match decoder.next() {
        Err(Error::EndOfStream) => Ok(length),
        other => Err(format!("it gave back {other:?} after the end")),
    }
}

/// From a value to the one after it.
type Shape = fn(&mut Random, f64) -> f64;

/// The first is the busy counter of the bar.
const SHAPES: [(&str, Shape); 7] = [
    ("busy counter", |random, before| before + 900.0 + random.below(200)),
    ("sparse counter", |random, before| before + f64::from(u8::from(random.below(60) == 0.0))),
    ("constant gauge", |_, _| 5.0),
    ("gauge of bytes", |random, before| match random.below(3) as u64 {
        0 => before + (random.below(64) - 32.0) * 4_096.0,
        _ => before,
    }),
    ("gauge of random floats", |random, _| random.unit()),
    ("gauge of 2 decimals", |random, _| random.below(10_000) / 100.0),
    ("sum of a histogram", |random, before| {
        (0..10).fold(before, |sum, _| sum + random.unit() / 10.0)
    }),
];

fn series(random: &mut Random, shape: Shape) -> Vec<f64> {
    let mut value = 0.0;
    let step = |_| {
        value = shape(random, value);
        value
    };
    (0..TICKS).map(step).collect()
}

fn times(random: &mut Random) -> Vec<i64> {
    let start_ms = 1_790_000_000_000;
    let late = |tick| start_ms + tick * 1_000 + random.below(LATE_MS_MAX + 1) as i64;
    (0..TICKS as i64).map(late).collect()
}

#[cfg(test)]
mod tests {
    use tripod_history::Point;

    use super::*;

    #[test]
    fn gorilla_gives_back_what_it_was_given_in_fewer_bytes() {
        let mut random = Random::new(7);
        let times = times(&mut random);
        let values = series(&mut random, SHAPES[0].1);
        let bytes = gorilla(&times, &values).expect("it comes back");
        assert!(bytes > TICKS && bytes < TICKS * 16, "{bytes}");
    }

    #[test]
    fn a_store_that_gives_back_another_value_is_found_out() {
        let mut samples = Samples { times: vec![1_000, 2_000], series: vec![vec![1.0, 2.0]] };
        let point = |time_ms, value| Point { time_ms, value };
        let points = vec![point(1_000, 1.0), point(2_000, 2.0)];
        let back = [SeriesPoints { labels: labels(0), points }];
        check(&samples, &back).expect("the same");
        samples.series[0][1] = 2.5;
        check(&samples, &back).expect_err("another value");
        samples.series.push(vec![3.0, 4.0]);
        check(&samples, &back).expect_err("a series is missing");
    }

    #[test]
    fn shared_times_are_kept_once() {
        let mut random = Random::new(7);
        let times = times(&mut random);
        let one = Samples { times: times.clone(), series: vec![vec![5.0; TICKS]] };
        let many = Samples { times, series: vec![vec![5.0; TICKS]; SERIES] };
        let own = gorilla_bytes(&one).expect("it comes back");
        assert!((gorilla_shared_bytes(&one).expect("it comes back") - own).abs() < 1e-9);
        let shared = gorilla_shared_bytes(&many).expect("it comes back");
        let values = (SERIES * (TICKS - 1 + 64)) as f64 / 8.0;
        // The times of one, the values of all, and no more.
        assert!(shared > values && shared < values + own, "{shared} {values} {own}");
    }
}
