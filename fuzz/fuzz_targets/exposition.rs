//! Any bytes as names, help texts, labels and values of a collector: the pages in both formats pass
//! the strict checker of the tests, and what it reads back is what was recorded.
//!
//! Run by `cargo +nightly fuzz run exposition`.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use tripod_metrics::MetricsCollector;

#[path = "../../crates/tripod-metrics/tests/it/checker.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod checker;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let constant = input.text();
    let builder = MetricsCollector::builder().constant_label("zone", constant.as_str());
    let metrics = builder.build().expect("the name is right");
    let mut expected = BTreeMap::new();
    while !input.0.is_empty() {
        family(&metrics, &mut input, &mut expected);
    }
    let read = |dialect, page: &str| match checker::check_as(dialect, page) {
        Ok(families) => families,
        Err((line, defect)) => panic!("{defect:?} near line {line} of:\n{page}"),
    };
    let text = read(checker::Dialect::Text, &metrics.encode_text());
    let openmetrics = read(checker::Dialect::OpenMetrics, &metrics.encode_openmetrics());
    assert_eq!(text.len(), openmetrics.len());
    for ((name, label), (help, total)) in &expected {
        for families in [&text, &openmetrics] {
            let own = |family: &&checker::Family| {
                family.name == *name || Some(&*family.name) == name.strip_suffix("_total")
            };
            let family = families.iter().find(own).expect("it has a series");
            assert_eq!(family.help, *help);
            let values = family.values(name);
            let (_, value) = values
                .iter()
                .find(|(labels, _)| *labels == [constant.as_str(), label.as_str()])
                .expect("the series is there");
            assert_eq!(*value, total.to_string());
        }
    }
});

/// What is left of the bytes.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Up to 31 bytes, what is no UTF-8 replaced.
    fn text(&mut self) -> String {
        let len = usize::from(self.byte() % 32).min(self.0.len());
        let (text, rest) = self.0.split_at(len);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    fn bits(&mut self) -> u64 {
        (0..8).fold(0, |bits, _| bits << 8 | u64::from(self.byte()))
    }

    fn number(&mut self) -> f64 {
        match self.byte() % 4 {
            0 => f64::from(self.byte() as i8),
            1 => f64::from(self.byte() as i8) / 16.0,
            _ => f64::from_bits(self.bits()),
        }
    }
}

/// By name and label, the help text and the total.
type Counters = BTreeMap<(String, String), (String, u64)>;

/// Describes a family, which may be refused, and records in it.
fn family(metrics: &MetricsCollector, input: &mut Input<'_>, expected: &mut Counters) {
    let kind = input.byte() % 6;
    let short = |text: String| text.chars().take(3).collect::<String>();
    let suffix = ["", "_total", "_seconds", "_sum", "_bucket", "_created"][usize::from(input.byte() % 6)];
    let name = format!("{}{suffix}", short(input.text()));
    let (help, label, value) = (input.text(), input.text(), input.number());
    let count = input.bits();
    match kind {
        0 => {
            let Ok(family) = metrics.counter(&name, &help).labels(["x"]).register() else { return };
            family.add(&[&label], count).expect("one label");
            let total = &mut expected.entry((name, label)).or_insert((help, 0)).1;
            *total = total.wrapping_add(count);
        }
        1 => {
            let Ok(family) = metrics.gauge(name, help).labels(["x"]).register() else { return };
            family.set(&[&label], value).expect("one label");
        }
        2 | 3 => {
            let builder = metrics.histogram(name, help).labels(["x"]);
            let builder = match kind {
                2 => builder.exponential(input.byte()),
                _ => builder.buckets([input.number(), input.number()]),
            };
            let Ok(family) = builder.register() else { return };
            let histogram = family.with(&[&label]).expect("one label");
            for value in [value, input.number()] {
                histogram.observe(value);
                let _refused = histogram.observe_with_exemplar(value, &[(&exemplar_name(input), &label)]);
            }
        }
        4 => {
            let builder = metrics.summary(name, help).labels(["x"]).quantiles([input.number()]);
            let Ok(family) = builder.register() else { return };
            family.observe(&[&label], value).expect("one label");
        }
        _ => {
            let builder = metrics.float_counter(name, help).labels(["x"]).unit(input.text());
            let Ok(family) = builder.register() else { return };
            family.add(&[&label], value).expect("one label");
        }
    }
}

/// The name of an exemplar's label, mostly a right one.
fn exemplar_name(input: &mut Input<'_>) -> String {
    if input.byte() % 4 == 0 { input.text() } else { "trace_id".to_owned() }
}
