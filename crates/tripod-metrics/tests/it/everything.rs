//! A collector with one of everything, at the edges of what may be recorded.

use std::time::Duration;

use tripod_metrics::{DEFAULT_QUANTILES, MetricsCollector};

use crate::checker;
use crate::clock::Clock;
use crate::promtool::promtool;
use crate::strict_parser::{StrictParser, agree};

/// Characters that have undone exporters.
pub(crate) const NASTY: &str = "quotes \" and \\ and \\n and \n\n, {braces=\"x\"} # {} 1 \t\r é 漢 \
    \u{1F600} \u{10ffff} \u{2028}\u{85}\u{0}\u{b}\u{1c}";

/// As [`NASTY`], short enough for an exemplar, and without quotes: Python's parser looks for the end
/// of the labels of an exemplar without regard to backslashes, against the grammar of OpenMetrics.
const NASTY_EXEMPLAR: &str = "\\ and \\n and \n\n, } # {} 1 \t\r é 漢 \u{1F600}";

const VALUES: [&str; 9] = ["", NASTY, "\\", "\"", "\n", "\\\"", "\\n", " # ", "}"];

/// Fills a collector with every type, in every state.
fn fill(metrics: &MetricsCollector) {
    fill_counters(metrics);
    let open = metrics.gauge("open", NASTY).labels(["x"]).register().unwrap();
    for (label, value) in [
        ("nan", f64::NAN),
        ("inf", f64::INFINITY),
        ("-inf", f64::NEG_INFINITY),
        ("-0", -0.0),
        ("large", -1e300),
        ("tiny", f64::from_bits(1)),
    ] {
        open.set(&[label], value).unwrap();
    }
    open.observe(&["observed"], || Some(f64::NAN)).unwrap();
    open.observe(&["gone"], || None).unwrap();
    fill_histograms(metrics);
    let summaries = metrics.summary("wait_seconds", NASTY).labels(["x"]).unit("seconds");
    let summaries = summaries.quantiles([&[0.0][..], &DEFAULT_QUANTILES, &[1.0]].concat());
    let summaries = summaries.register().unwrap();
    drop(summaries.with(&["empty"]).unwrap());
    for (label, values) in [
        ("plain", &[0.5, 1.5][..]),
        ("negative", &[-3.0, -2.0, 1.0, 0.0]),
        ("infinite", &[f64::INFINITY]),
        ("nothing", &[f64::INFINITY, f64::NEG_INFINITY]),
        (NASTY, &[1e-300, 1e300]),
    ] {
        values.iter().for_each(|value| summaries.observe(&[label], *value).unwrap());
    }
    let timers = metrics.timer("step_seconds", "Steps.").labels(["x"]).register().unwrap();
    timers.with(&[NASTY]).unwrap().record(Duration::from_millis(3));
    timers.with(&[""]).unwrap().start().stop();
}

fn fill_counters(metrics: &MetricsCollector) {
    let jobs = metrics.counter("jobs_total", NASTY).labels(["x", "y"]).register().unwrap();
    jobs.with(&["ab", "c"]).unwrap().add(u64::MAX);
    jobs.with(&["a", "bc"]).unwrap().add((1 << 53) + 1);
    jobs.observe(&["observed", ""], || Some(u64::MAX - 1)).unwrap();
    VALUES.iter().for_each(|value| jobs.inc(&[value, NASTY]).unwrap());
    let exemplified = jobs.with(&["exemplar", ""]).unwrap();
    exemplified.add_with_exemplar(2, &[("trace", "\"\\\n}"), ("é", "")]).unwrap_err();
    exemplified.add_with_exemplar(2, &[("trace", NASTY_EXEMPLAR)]).unwrap();
    let bytes = metrics.counter("read_bytes_total", "Read.").unit("bytes").register().unwrap();
    bytes.plain().add(7);
    let busy = metrics.float_counter("busy_seconds_total", "Busy.").labels(["x"]);
    let busy = busy.unit("seconds").register().unwrap();
    for (label, amount) in [("third", 1.0 / 3.0), ("large", 1e300), ("inf", f64::INFINITY)] {
        busy.add(&[label], amount).unwrap();
        busy.add(&[label], -1.0).unwrap();
    }
    busy.observe(&["observed"], || Some(0.1)).unwrap();
    busy.observe(&["observed nan"], || Some(f64::NAN)).unwrap();
    busy.observe(&["observed negative"], || Some(-1.0)).unwrap();
}

fn fill_histograms(metrics: &MetricsCollector) {
    let distributions: [(&str, &[f64]); 7] = [
        ("", &[]),
        ("plain", &[0.005, 0.3, 1e9]),
        ("negative", &[-3.0, -0.0, 1.0]),
        ("falling", &[-30.0, 1.0]),
        ("infinite", &[f64::INFINITY]),
        ("nothing", &[f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
        (NASTY, &[f64::MAX, f64::MIN_POSITIVE]),
    ];
    let classic = metrics.histogram("run_seconds", NASTY).labels(["x"]).unit("seconds");
    let classic = classic.register().unwrap();
    let below = metrics.histogram("drift", "Below zero.").labels(["x"]).buckets([-1.0, 0.0, 1e6]);
    let below = below.register().unwrap();
    let exponential = metrics.histogram("size_bytes", NASTY).labels(["x"]).exponential(3);
    let exponential = exponential.register().unwrap();
    for (label, values) in distributions {
        for family in [&classic, &below, &exponential] {
            let histogram = family.with(&[label]).unwrap();
            values.iter().for_each(|value| histogram.observe(*value));
            let exemplar =
                [("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"), ("n", NASTY_EXEMPLAR)];
            let last = values.last().copied().unwrap_or(f64::NAN);
            histogram.observe_with_exemplar(last, &exemplar).unwrap();
        }
    }
}

fn collector() -> MetricsCollector {
    let metrics = MetricsCollector::builder().constant_label("zone", NASTY).build().unwrap();
    fill(&metrics);
    metrics
}

#[test]
fn promtool_finds_nothing_to_say() {
    let Some(output) = promtool(&collector().encode_text()) else { return };
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_strict_parser_reads_what_we_read() {
    let page = collector().encode_openmetrics();
    checker::read_openmetrics(&page);
    let Some(mut parser) = StrictParser::start() else { return };
    let families = agree(&mut parser, &page);
    assert_eq!(families.len(), 9);
    let value = |line: &str| {
        let line = page.lines().find(|own| own.starts_with(line));
        line.and_then(|line| line.rsplit_once("} ")).map(|(_, value)| value)
    };
    let zone = page.split_once("jobs_total{").unwrap().1.split_once("x=").unwrap().0;
    let jobs = |x: &str, y: &str| value(&format!("jobs_total{{{zone}x=\"{x}\",y=\"{y}\"}}"));
    assert_eq!(jobs("ab", "c"), Some("18446744073709551615"));
    assert_eq!(jobs("a", "bc"), Some("9007199254740993"));
}

#[test]
fn both_pages_and_the_snapshot_say_the_same() {
    let (_clock, metrics) = Clock::with_collector();
    fill(&metrics);
    let text = checker::read(&metrics.encode_text());
    let openmetrics = checker::read_openmetrics(&metrics.encode_openmetrics());
    let names = |families: &[checker::Family]| -> Vec<String> {
        families.iter().map(|family| family.name.replace("_total", "")).collect()
    };
    assert_eq!(names(&text), names(&openmetrics));
    for (ours, theirs) in text.iter().zip(&openmetrics) {
        assert_eq!(ours.help, theirs.help);
        for sample in &theirs.samples {
            if sample.name.ends_with("_created") {
                assert_eq!(sample.value, "1764000000.000");
                continue;
            }
            let is_same = |other: &&checker::Sample| {
                other.name == sample.name && other.labels.len() == sample.labels.len() && {
                    let mut pairs = other.labels.iter().zip(&sample.labels);
                    pairs.all(|((_, a), (name, b))| match name.as_str() {
                        "le" | "quantile" => a.parse::<f64>() == b.parse::<f64>(),
                        _ => a == b,
                    })
                }
            };
            let other = ours.samples.iter().find(is_same).expect("it is on both pages");
            assert_eq!(other.value, sample.value);
        }
    }
    let snapshot = metrics.snapshot();
    let series = |name: &str| {
        let family = snapshot.families.iter().find(|family| family.name == name);
        family.map(|family| family.series.len())
    };
    for family in &text {
        let own = |sample: &&checker::Sample| {
            sample.name == family.name || sample.name.strip_prefix(&*family.name) == Some("_count")
        };
        let lines = family
            .samples
            .iter()
            .filter(own)
            .filter(|sample| sample.labels.iter().all(|(name, _)| name != "quantile"));
        assert_eq!(series(&family.name), Some(lines.count()), "{}", family.name);
    }
}
