//! How many bytes a point takes, on the shapes that series have. The figures are the same in every
//! run, so they are tested as any other property.
#![allow(clippy::print_stdout, reason = "figures are for whoever runs this")]

use tripod_history::codec::{decode_column, encode_column};
use tripod_history::{ColumnKind, Labels, Store, StoreConfig};

mod gorilla;

/// Random numbers that are the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> f64 {
        (self.next() % limit) as f64
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// From the value before to the next one.
type Shape = fn(&mut Random, f64) -> f64;

const SHAPES: [(&str, Shape); 7] = [
    ("busy counter", |random, before| before + 900.0 + random.below(200)),
    ("sparse counter", |random, before| before + f64::from(u8::from(random.below(60) == 0.0))),
    ("constant gauge", |_, _| 5.0),
    ("bytes gauge", |random, before| match random.next() % 3 {
        0 => before + (random.below(64) - 32.0) * 4096.0,
        _ => before,
    }),
    ("random float gauge", |random, _| random.unit()),
    ("2-decimal gauge", |random, _| random.below(10_000) / 100.0),
    ("histogram sum", |random, before| (0..10).fold(before, |sum, _| sum + random.unit() / 10.0)),
];

fn series(random: &mut Random, shape: Shape, ticks: usize) -> Vec<f64> {
    let mut value = 0.0;
    let step = |_| {
        value = shape(random, value);
        value
    };
    (0..ticks).map(step).collect()
}

/// Times of ticks in milliseconds, each late by up to `jitter_ms`, as a timer's are.
fn times(random: &mut Random, ticks: usize, jitter_ms: u64) -> Vec<i64> {
    (0..ticks as i64).map(|tick| tick * 1000 + random.below(jitter_ms + 1) as i64).collect()
}

/// Bytes per point, ours and Gorilla's, of a shape. Ours share one column of times, which is left
/// out: with 10,000 series it is less than a thousandth of a byte a point.
fn measure(random: &mut Random, shape: Shape, times: &[i64]) -> (f64, f64) {
    let (mut ours, mut gorillas) = (0, 0);
    for _ in 0..20 {
        let values = series(random, shape, times.len());
        let bytes = encode_column(&values);
        assert_eq!(decode_column(&bytes, times.len()).expect("own bytes"), values);
        // With each column come its length and checksum, and a byte for its presence.
        ours += bytes.len() as u64 * 8 + 7 * 8;
        let points: Vec<_> = times.iter().copied().zip(values).collect();
        gorillas += gorilla::bits(&points);
    }
    let per_point = |bits: u64| bits as f64 / 8.0 / 20.0 / times.len() as f64;
    (per_point(ours), per_point(gorillas))
}

/// Checks the busy counter, and returns how much all shapes take together, of Gorilla's.
fn ratio(ticks: usize, jitter_ms: u64) -> f64 {
    let mut random = Random(20_261_124);
    let times = times(&mut random, ticks, jitter_ms);
    let (mut ours, mut gorillas) = (0.0, 0.0);
    for (name, shape) in SHAPES {
        let (our, gorilla) = measure(&mut random, shape, &times);
        println!("{ticks} points, {name}: {our:.2} bytes a point, Gorilla {gorilla:.2}");
        assert!(name != "busy counter" || our <= 2.0, "{our}");
        ours += our;
        gorillas += gorilla;
    }
    println!("{ticks} points, {jitter_ms} ms jitter, all: {:.3} of Gorilla", ours / gorillas);
    ours / gorillas
}

#[test]
fn a_busy_counter_takes_two_bytes_a_point_and_a_mix_six_tenths_of_gorilla() {
    for ticks in [240, 480, 900] {
        assert!(ratio(ticks, 3) <= 0.6);
    }
    // Times at exact distances cost Gorilla nearly nothing. Then two shapes that nothing compresses
    // well, random floats and their sums, make up three quarters of what we take.
    assert!(ratio(480, 0) <= 0.61);
}

/// Processor time of this thread.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = stat.split(' ').next().and_then(|field| field.parse::<f64>().ok());
    nanoseconds.expect("a number") / 1e9
}

/// Not a test, a measurement: `cargo test --release -p tripod-history -- --ignored --nocapture`.
#[test]
#[ignore = "measures time"]
fn ingest_of_ten_thousand_series() {
    let mut random = Random(7);
    let mut config = StoreConfig::default();
    config.memory_bytes_max = 1 << 30;
    let store = Store::in_memory(config).expect("a good configuration");
    let shape = |number: usize| SHAPES[if number < 7000 { number % 2 } else { number % 7 }];
    let columns: Vec<_> = (0..10_000_usize)
        .map(|number| {
            let gauge = shape(number).0.ends_with("gauge");
            let kind = if gauge { ColumnKind::Gauge } else { ColumnKind::Cumulative };
            let number = number.to_string();
            store.column(&Labels::new([("__name__", "measured"), ("series", &number)]), kind)
        })
        .collect();
    let values: Vec<Vec<f64>> =
        (0..10_000).map(|number| series(&mut random, shape(number).1, 960)).collect();
    // What the compression of whole blocks alone takes, in the same conditions.
    let start = cpu_seconds();
    let bytes: usize = values.iter().map(|own| encode_column(&own[..480]).len()).sum();
    let encode = (cpu_seconds() - start) * 1e9 / 4.8e6;
    println!("encode {encode:.1} ns a point, {:.2} bytes", bytes as f64 / 4.8e6);
    let (mut append, mut maintain) = (0.0, 0.0);
    for tick in 0..960_i64 {
        let points: Vec<_> =
            columns.iter().zip(&values).map(|(id, own)| (*id, own[tick as usize])).collect();
        let start = cpu_seconds();
        store.append(tick * 1000 + 1000, &points).expect("a tick");
        let appended = cpu_seconds();
        store.maintain(tick * 1000 + 1000).expect("no files");
        append += appended - start;
        maintain += cpu_seconds() - appended;
    }
    let per_point = 1e9 / 9.6e6;
    println!(
        "append {:.1} ns a point, maintain {:.1} ns",
        append * per_point,
        maintain * per_point
    );
    println!("{:?}", store.stats());
}
