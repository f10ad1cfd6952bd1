//! Properties of every page, for arbitrary names, help texts, labels and values.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tripod_metrics::{Clash, MetricsCollector, RegisterError};

use crate::checker;

/// Any text, with the characters that matter for escapes far more often than by chance.
fn text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec!['\\', '"', '\n', 'n', '\r', ' ', '{', '}', ',', '#']);
    vec(prop_oneof![special, any::<char>()], 0..12).prop_map(String::from_iter)
}

fn help() -> impl Strategy<Value = String> {
    text().prop_filter("blank help is refused", |help| !help.trim().is_empty())
}

/// Any number, not-a-number and the infinities included.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1.0, 1e16]),
    ]
}

proptest! {
    #[test]
    fn counters_come_back_from_the_page_as_they_were(
        help in help(),
        constant in text(),
        series in btree_map((text(), text()), any::<u64>(), 1..20),
    ) {
        let metrics = MetricsCollector::builder().constant_label("z", &constant).build().unwrap();
        let family = metrics.counter("any_total", &help).labels(["x", "y"]).register().unwrap();
        for ((x, y), number) in &series {
            family.with(&[x, y]).unwrap().add(*number);
        }
        let page = checker::read(&metrics.encode_text());
        prop_assert_eq!(&page[0].help, &help);
        let expected: Vec<_> = series
            .iter()
            .map(|((x, y), number)| (vec![constant.clone(), x.clone(), y.clone()], number.to_string()))
            .collect();
        let found: Vec<_> = page[0]
            .values("any_total")
            .into_iter()
            .map(|(labels, value)| {
                (labels.into_iter().map(str::to_owned).collect::<Vec<_>>(), value.to_owned())
            })
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn gauges_come_back_from_the_page_to_the_last_bit(number in number()) {
        let metrics = MetricsCollector::new();
        metrics.gauge("any", "Any.").register().unwrap().plain().set(number);
        let page = checker::read(&metrics.encode_text());
        let read: f64 = page[0].values("any")[0].1.parse().unwrap();
        prop_assert!(read.to_bits() == number.to_bits() || read.is_nan() && number.is_nan());
    }

    #[test]
    fn histograms_count_every_value_under_each_bound(
        mut bounds in vec(number(), 1..8),
        values in vec(number(), 0..40),
    ) {
        bounds.retain(|bound| bound.is_finite());
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        prop_assume!(!bounds.is_empty());
        let metrics = MetricsCollector::new();
        let builder = metrics.histogram("any", "Any.").buckets(bounds.clone());
        let histogram = builder.register().unwrap().plain();
        values.iter().for_each(|value| histogram.observe(*value));
        let page = checker::read(&metrics.encode_text());
        for (labels, count) in page[0].values("any_bucket") {
            let bound: f64 = labels[0].parse().unwrap();
            let expected = values.iter().filter(|value| **value <= bound).count();
            prop_assert_eq!(count, expected.to_string());
        }
    }

    #[test]
    fn whatever_is_registered_makes_a_right_page(
        families in vec(("[ab_]{0,2}(_total|_sum|_bucket|_count|_created|é|:x)?", help(), 0..4_u8), 1..12),
        labels in vec("(a|b|_c|__d|le|quantile|0|é|)", 0..3),
    ) {
        let metrics = MetricsCollector::new();
        let values: Vec<&str> = labels.iter().map(|_| "v").collect();
        let mut accepted = BTreeMap::new();
        for (name, help, metric_type) in &families {
            let refused = match metric_type {
                0 => metrics.counter(name, help).labels(&labels).register().map(|family| {
                    family.with(&values).unwrap().inc();
                }),
                1 => metrics.gauge(name, help).labels(&labels).register().map(|family| {
                    family.with(&values).unwrap().add(1.0);
                }),
                2 => metrics.summary(name, help).labels(&labels).register().map(|family| {
                    family.with(&values).unwrap().observe(1.0);
                }),
                _ => metrics.histogram(name, help).labels(&labels).register().map(|family| {
                    family.with(&values).unwrap().observe(1.0);
                }),
            };
            match refused {
                Ok(()) => drop(accepted.insert(name.clone(), help.clone())),
                Err(RegisterError::Conflict { existing_name, clash, .. }) => {
                    prop_assert!(accepted.contains_key(&existing_name));
                    prop_assert_eq!(clash == Clash::Lines, existing_name != *name);
                }
                Err(_) => {}
            }
        }
        let names = |name: &str| name.strip_suffix("_total").unwrap_or(name).to_owned();
        let openmetrics = checker::read_openmetrics(&metrics.encode_openmetrics());
        let stripped: Vec<_> = openmetrics.into_iter().map(|family| family.name).collect();
        prop_assert_eq!(stripped, accepted.keys().map(|name| names(name)).collect::<Vec<_>>());
        let page = checker::read(&metrics.encode_text());
        let found: BTreeMap<_, _> =
            page.into_iter().map(|family| (family.name, family.help)).collect();
        prop_assert_eq!(found, accepted);
    }
}
