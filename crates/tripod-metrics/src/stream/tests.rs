//! Tests of encoder and decoder together.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::RngExt as _;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;
use crate::snapshot::{
    FamilySnapshot, HistogramSnapshot, Kind, SeriesSnapshot, Snapshot, SummarySnapshot, Value,
};
use crate::varint;

fn family(name: &str, kind: Kind) -> FamilyInfo<'_> {
    FamilyInfo { name, help: "Help.", unit: None, kind }
}

/// What a subscriber sees.
fn seen<'a>(series: impl Iterator<Item = SeriesView<'a>>) -> Vec<String> {
    series.map(|series| format!("{series:?}")).collect()
}

fn assert_in_step(encoder: &Encoder, decoder: &Decoder) {
    assert_eq!(seen(encoder.series()), seen(decoder.series()));
    assert_eq!(encoder.table().sequence, decoder.sequence());
    assert_eq!(encoder.table().time_ms, decoder.time_ms());
}

/// Two series that have been told, one of each type.
fn started() -> (Encoder, Decoder, [u32; 2]) {
    let mut encoder = Encoder::new(5);
    let jobs = family("jobs_total", Kind::Counter);
    let heat = FamilyInfo { unit: Some("celsius"), ..family("heat_celsius", Kind::Gauge) };
    let jobs = encoder.add(jobs, [("queue", "mail")], Number::Whole(u64::MAX)).unwrap();
    let heat = encoder.add(heat, [], Number::Float(f64::NAN)).unwrap();
    encoder.tick(1000, &[]);
    let mut decoder = Decoder::new();
    decoder.apply(&encoder.key_frame().bytes).unwrap();
    assert_in_step(&encoder, &decoder);
    (encoder, decoder, [jobs, heat])
}

#[test]
fn a_tick_without_change_is_a_few_bytes() {
    let (mut encoder, mut decoder, [jobs, heat]) = started();
    let values = [(jobs, Number::Whole(u64::MAX)), (heat, Number::Float(f64::NAN))];
    let frame = encoder.tick(2000, &values);
    assert!(frame.bytes.len() <= 16, "{frame:?}");
    decoder.apply(&frame.bytes).unwrap();
    assert!(decoder.changed().is_empty());
    assert_in_step(&encoder, &decoder);
}

#[test]
fn a_lost_frame_is_noticed_and_a_key_frame_mends_it() {
    let (mut encoder, mut decoder, [jobs, _]) = started();
    encoder.tick(2000, &[(jobs, Number::Whole(1))]);
    let third = encoder.tick(3000, &[(jobs, Number::Whole(2))]);
    let gap = DecodeError::Gap { expected: 2, found: 3 };
    assert_eq!(decoder.apply(&third.bytes), Err(gap));
    assert!(decoder.needs_key_frame());
    assert_eq!(decoder.get(jobs).unwrap().value, Number::Whole(u64::MAX), "the old state stays");
    let missing = DecodeError::KeyFrameMissing { sequence: 3 };
    assert_eq!(decoder.apply(&third.bytes), Err(missing));

    decoder.apply(&encoder.key_frame().bytes).unwrap();
    assert_in_step(&encoder, &decoder);
    decoder.apply(&third.bytes).unwrap();
    assert_in_step(&encoder, &decoder);
    decoder.apply(&encoder.tick(4000, &[(jobs, Number::Whole(3))]).bytes).unwrap();
    assert_in_step(&encoder, &decoder);
}

#[test]
fn frames_of_another_encoder_are_not_mixed_in() {
    let (_, mut decoder, _) = started();
    let mut other = Encoder::new(6);
    other.tick(1000, &[]);
    let frame = other.tick(2000, &[]);
    let gap = DecodeError::Gap { expected: 2, found: 2 };
    assert_eq!(decoder.apply(&frame.bytes), Err(gap));
    assert!(decoder.needs_key_frame());
}

#[test]
fn a_series_that_changes_its_type_or_ends_is_followed() {
    let (mut encoder, mut decoder, [jobs, heat]) = started();
    let frame = encoder.tick(2000, &[(jobs, Number::Float(0.5)), (heat, Number::Whole(1))]);
    decoder.apply(&frame.bytes).unwrap();
    assert_in_step(&encoder, &decoder);
    encoder.retire(jobs);
    encoder.retire(77);
    let load = encoder.add(family("load", Kind::Gauge), [], Number::Float(1.0)).unwrap();
    assert_ne!(load, jobs, "an id is free only when all know that its series ended");
    encoder.retire(load);
    decoder.apply(&encoder.tick(3000, &[(load, Number::Float(2.0))]).bytes).unwrap();
    assert_in_step(&encoder, &decoder);
    assert_eq!(decoder.get(load).unwrap().value, Number::Float(2.0));
    assert!(decoder.get(jobs).is_none());
    let next = encoder.add(family("load", Kind::Gauge), [("cpu", "1")], Number::Float(1.0));
    assert_eq!(next.unwrap(), jobs);
    decoder.apply(&encoder.tick(4000, &[]).bytes).unwrap();
    assert_in_step(&encoder, &decoder);
    assert!(decoder.get(load).is_none());
}

#[test]
fn texts_of_ended_series_do_not_pile_up() {
    let mut encoder = Encoder::new(0);
    let mut decoder = Decoder::new();
    decoder.apply(&encoder.key_frame().bytes).unwrap();
    let kept = encoder.add(family("kept", Kind::Gauge), [("a", "b")], Number::Whole(1)).unwrap();
    let mut last = None;
    let mut key_frames = 0;
    for round in 0..5000 {
        last.into_iter().for_each(|id| encoder.retire(id));
        let text = round.to_string();
        let added = encoder.add(family("x", Kind::Gauge), [("n", &*text)], Number::Whole(round));
        last = Some(added.unwrap());
        let frame = encoder.tick(round as i64, &[]);
        key_frames += u32::from(frame.kind == FrameKind::Key);
        decoder.apply(&frame.bytes).unwrap();
    }
    assert_in_step(&encoder, &decoder);
    assert_eq!(key_frames, 4);
    assert!(decoder.table().symbols().len() < 1200);
    assert_eq!(decoder.get(kept).unwrap().value, Number::Whole(1));
}

#[test]
fn what_the_stream_cannot_carry_is_refused() {
    let mut encoder = Encoder::new(0);
    let labels = vec![("a", "b"); LABELS_MAX + 1];
    let refused = encoder.add(family("x", Kind::Gauge), labels, Number::Whole(0));
    assert_eq!(refused, Err(AddError::Labels { count: 256 }));
    let text = "x".repeat(SYMBOL_BYTES_MAX);
    let refused = encoder.add(family("x", Kind::Gauge), [("a", &*text)], Number::Whole(0));
    assert_eq!(refused, Err(AddError::Full));
    let frame = encoder.tick(0, &[]);
    assert!(frame.bytes.len() < 100, "a refused series leaves no more than texts behind");
}

/// 7,000 counters and 3,000 gauges: levels in whole numbers, percentages, and seconds of which no
/// digit repeats.
fn busy_process() -> (Encoder, Vec<(u32, Number)>) {
    let mut encoder = Encoder::new(1_764_000_000_000);
    let mut values = Vec::new();
    for index in 0..10_000_u32 {
        let (name, kind, value) = match index % 10 {
            0..7 => ("requests_total", Kind::Counter, Number::Whole(u64::from(index) * 977)),
            7 => ("queue_depth", Kind::Gauge, Number::Float(f64::from(index % 500))),
            8 => ("load_percent", Kind::Gauge, Number::Float(f64::from(index) / 100.0)),
            _ => ("age_seconds", Kind::Gauge, Number::Float(f64::from(index) / 7.0)),
        };
        let instance = index.to_string();
        let added = encoder.add(family(name, kind), [("instance", &*instance)], value);
        values.push((added.unwrap(), value));
    }
    encoder.tick(1_764_000_000_000, &[]);
    (encoder, values)
}

/// Changes each series with a chance of one in ten.
fn change_a_tenth(rng: &mut TestRng, values: &mut [(u32, Number)]) -> usize {
    let mut changed = 0;
    for (id, value) in values {
        if rng.random_range(0..10) > 0 {
            continue;
        }
        changed += 1;
        *value = match *value {
            Number::Whole(count) => Number::Whole(count + rng.random_range(1..200)),
            Number::Float(level) => Number::Float(match *id % 10 {
                7 => level + f64::from(rng.random_range(1..50)),
                8 => (level * 100.0).round() / 100.0 + f64::from(rng.random_range(1..50)) / 64.0,
                _ => level + rng.random_range(0.01..1.0),
            }),
        };
        if *id % 10 == 8 {
            *value = Number::Float((value.as_f64() * 100.0).round() / 100.0);
        }
    }
    changed
}

#[test]
fn a_tick_of_ten_thousand_series_with_a_tenth_changed_fits_into_5_kb() {
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let (mut encoder, mut values) = busy_process();
    let mut decoder = Decoder::new();
    decoder.apply(&encoder.key_frame().bytes).unwrap();
    let (mut bytes, mut changed) = (0, 0);
    for tick in 1..=50 {
        changed += change_a_tenth(&mut rng, &mut values);
        let frame = encoder.tick(1_764_000_000_000 + tick * 1000, &values);
        assert!(frame.bytes.len() <= 5000, "{} bytes in tick {tick}", frame.bytes.len());
        bytes += frame.bytes.len();
        decoder.apply(&frame.bytes).unwrap();
        assert_in_step(&encoder, &decoder);
    }
    assert!((45_000..55_000).contains(&changed), "{changed} changes");
    eprintln!("{} bytes a tick, key frame {}", bytes / 50, encoder.key_frame().bytes.len());
}

fn snapshot(seconds: u64, families: Vec<FamilySnapshot>) -> Snapshot {
    Snapshot { time: UNIX_EPOCH + Duration::from_secs(seconds), families }
}

fn one(name: &str, kind: Kind, labels: &[(&str, &str)], value: Value) -> FamilySnapshot {
    let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    FamilySnapshot {
        name: name.to_owned(),
        help: "Help.".to_owned(),
        unit: None,
        kind,
        series: vec![SeriesSnapshot { labels: labels.collect(), created: UNIX_EPOCH, value }],
    }
}

#[test]
fn a_feed_follows_snapshots() {
    let histogram = |count| {
        let buckets = vec![(0.1, 1), (f64::INFINITY, count)];
        Value::Histogram(HistogramSnapshot { buckets, count, sum: 7.0, ..Default::default() })
    };
    let summary = SummarySnapshot { quantiles: vec![(0.5, 1.0)], ..Default::default() };
    let alike = [
        one("x_total", Kind::Counter, &[("a", "b1:c"), ("d", "")], Value::Counter(1)),
        one("x_total", Kind::Counter, &[("a", "b"), ("c1:d", "")], Value::Counter(2)),
    ];
    let mut feed = Feed::new(0);
    let mut decoder = Decoder::new();
    decoder.apply(&feed.key_frame().bytes).unwrap();
    let mut families = alike.to_vec();
    families.push(one("s", Kind::Histogram, &[("l", "v")], histogram(2)));
    families.push(one("q", Kind::Summary, &[], Value::Summary(summary)));
    decoder.apply(&feed.tick(&snapshot(1, families.clone())).bytes).unwrap();
    assert_eq!(decoder.series().count(), 2 + 4 + 3);
    assert_in_step(feed.encoder(), &decoder);

    families.remove(0);
    families[1] = one("s", Kind::Histogram, &[("l", "v")], histogram(3));
    decoder.apply(&feed.tick(&snapshot(2, families)).bytes).unwrap();
    assert_eq!(decoder.time_ms(), 2000);
    let lines: Vec<String> = decoder
        .series()
        .map(|series| {
            let labels: Vec<_> = series.labels().collect();
            format!("{} {labels:?} {:?}", series.family.name, series.value)
        })
        .collect();
    assert_eq!(
        lines,
        [
            "x_total [(\"a\", \"b\"), (\"c1:d\", \"\")] Whole(2)",
            "s_bucket [(\"l\", \"v\"), (\"le\", \"0.1\")] Whole(1)",
            "s_bucket [(\"l\", \"v\"), (\"le\", \"+Inf\")] Whole(3)",
            "s_sum [(\"l\", \"v\")] Float(7.0)",
            "s_count [(\"l\", \"v\")] Whole(3)",
            "q [(\"quantile\", \"0.5\")] Float(1.0)",
            "q_sum [] Float(0.0)",
            "q_count [] Whole(0)",
        ]
    );
    assert_in_step(feed.encoder(), &decoder);
    assert_eq!(feed.refused_count(), 0);
}

#[test]
fn a_stalled_subscriber_keeps_two_frames_and_then_gets_a_true_state() {
    let (mut encoder, mut decoder, [jobs, _]) = started();
    let mut subscription = Subscription::new();
    for tick in 0..60 {
        let frame = encoder.tick(tick * 1000, &[(jobs, Number::Whole(tick as u64))]);
        subscription.offer(frame.kind, frame.bytes);
        assert!(subscription.waiting_count() <= QUEUED_FRAMES_MAX);
        if tick % 7 != 0 {
            continue;
        }
        // The client reads again, and one more tick slips in before the key frame is made.
        let take = subscription.take();
        assert_eq!(take, Take::KeyFrame, "tick {tick}");
        let frame = encoder.tick(tick * 1000 + 500, &[(jobs, Number::Whole(1 << 40))]);
        subscription.offer(frame.kind, frame.bytes);
        decoder.apply(&encoder.key_frame().bytes).unwrap();
        assert_in_step(&encoder, &decoder);
        while let Take::Frame(bytes) = subscription.take() {
            decoder.apply(&bytes).unwrap();
        }
        assert_in_step(&encoder, &decoder);
    }
    assert!(subscription.skipped_count() > 40);
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8, u8, Number),
    Retire(u8),
    Set(u8, Number),
    Tick,
    LoseTick,
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<u64>().prop_map(Number::Whole),
        (0..100_u64).prop_map(Number::Whole),
        any::<u64>().prop_map(|bits| Number::Float(f64::from_bits(bits))),
        (-1000..1000_i32).prop_map(|cents| Number::Float(f64::from(cents) / 100.0)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..4_u8, 0..3_u8, number()).prop_map(|(a, b, number)| Step::Add(a, b, number)),
        1 => (0..12_u8).prop_map(Step::Retire),
        4 => (0..12_u8, number()).prop_map(|(id, number)| Step::Set(id, number)),
        3 => Just(Step::Tick),
        1 => Just(Step::LoseTick),
    ]
}

/// Runs the steps; every frame that is not lost must lead the decoder to the encoder's state.
fn run(steps: Vec<Step>) {
    let mut encoder = Encoder::new(3);
    let mut decoder = Decoder::new();
    let mut values = Vec::new();
    for (time, step) in steps.into_iter().enumerate() {
        match step {
            Step::Add(a, b, value) => {
                let name = ["a", "b_total", "c", "d"][a as usize];
                let kinds = [Kind::Counter, Kind::Gauge, Kind::Histogram, Kind::Summary];
                let info = FamilyInfo { name, help: "", unit: Some("s"), kind: kinds[a as usize] };
                let labels = [("one", "1"), ("two", "é\n\""), ("three", "")];
                encoder.add(info, labels.into_iter().take(b as usize), value).unwrap();
            }
            Step::Retire(id) => encoder.retire(u32::from(id)),
            Step::Set(id, value) => values.push((u32::from(id), value)),
            Step::LoseTick => {
                encoder.tick(time as i64, &values);
                values.clear();
            }
            Step::Tick => {
                let frame = encoder.tick(time as i64, &values);
                values.clear();
                if decoder.apply(&frame.bytes).is_err() {
                    assert!(decoder.needs_key_frame());
                    decoder.apply(&encoder.key_frame().bytes).unwrap();
                }
                assert_in_step(&encoder, &decoder);
                assert_eq!(encoder.table(), decoder.table());
            }
        }
    }
}

/// A decoder in the middle of a stream, and frames that it would take next.
fn mid_stream() -> (Encoder, Vec<Vec<u8>>) {
    let (mut encoder, _, [jobs, heat]) = started();
    let key = encoder.key_frame().bytes;
    encoder.retire(heat);
    encoder.add(family("new_total", Kind::Counter), [("a", "b")], Number::Whole(3)).unwrap();
    let delta = encoder.tick(2000, &[(jobs, Number::Whole(4))]).bytes;
    (encoder, vec![key, delta])
}

proptest! {
    #[test]
    fn the_decoder_follows_whatever_the_encoder_does(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        run(steps);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_applied_but_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut decoder = Decoder::new();
        for kind in [0, 1] {
            let mut frame = vec![b'T', b'S', VERSION, kind];
            frame.extend_from_slice(&bytes);
            let _ = decoder.apply(&frame);
            decoder.series().for_each(|series| drop(format!("{series:?}")));
        }
        let _ = decoder.apply(&bytes);
    }

    #[test]
    fn a_damaged_frame_never_panics_and_the_next_key_frame_mends_it(
        at in 0..200_usize, byte in any::<u8>(), cut in any::<bool>(), which in 0..2_usize,
    ) {
        let (encoder, frames) = mid_stream();
        let mut decoder = Decoder::new();
        for (index, frame) in frames.iter().enumerate() {
            let mut frame = frame.clone();
            if index == which && at < frame.len() {
                frame[at] = byte;
                frame.truncate(if cut { at } else { frame.len() });
            }
            let _ = decoder.apply(&frame);
            decoder.series().for_each(|series| drop(format!("{series:?}")));
        }
        decoder.apply(&encoder.key_frame().bytes).unwrap();
        assert_in_step(&encoder, &decoder);
    }
}

#[test]
fn counts_that_the_frame_cannot_hold_take_no_memory() {
    let mut frame = vec![b'T', b'S', VERSION, 0, 0, 0, 0];
    let short = frame.len();
    for fields_before in 0..3 {
        frame.truncate(short);
        frame.extend(std::iter::repeat_n(0, fields_before));
        varint::put(&mut frame, u64::MAX);
        let refused = Decoder::new().apply(&frame).unwrap_err();
        assert!(matches!(refused, DecodeError::Malformed { .. }), "{refused}");
    }
    assert_eq!(Decoder::new().apply(b"TS\x02"), Err(DecodeError::Foreign));
    assert_eq!(Decoder::new().apply(b""), Err(DecodeError::Foreign));
}

#[test]
fn every_prefix_of_a_frame_is_refused() {
    let (_, frames) = mid_stream();
    for length in 0..frames[0].len() {
        assert!(Decoder::new().apply(&frames[0][..length]).is_err(), "{length}");
    }
    for length in 0..frames[1].len() {
        let mut decoder = Decoder::new();
        decoder.apply(&frames[0]).unwrap();
        assert!(decoder.apply(&frames[1][..length]).is_err(), "{length}");
    }
}
