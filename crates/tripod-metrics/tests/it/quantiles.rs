//! Quantiles of summaries, against those of the sorted values.

use std::time::Duration;

use proptest::prelude::*;
use tripod_metrics::{MetricsCollector, Summary};

use crate::clock::Clock;

/// The stated bound.
const ERROR_MAX: f64 = 0.0193;
const VALUES: usize = 20_000;
const MINUTE: Duration = Duration::from_secs(60);

fn summary(metrics: &MetricsCollector) -> Summary {
    metrics.summary("wait_seconds", "Wait.").register().unwrap().plain()
}

/// Uniform numbers between 0 and 1, without either (G. Marsaglia, "Xorshift RNGs", 2003).
struct Uniform(u64);

impl Iterator for Uniform {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some(((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64)
    }
}

impl Uniform {
    fn next_number(&mut self) -> f64 {
        self.next().expect("it does not end")
    }

    /// By G. Box and M. Muller, 1958.
    fn next_normal(&mut self) -> f64 {
        let radius = (-2.0 * self.next_number().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.next_number()).cos()
    }
}

/// Asserts that the summary's quantiles are those of `values`, the ones of nearest rank.
#[track_caller]
fn check(summary: &Summary, window: Duration, values: &[f64]) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    for quantile in [0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0] {
        let rank = (quantile * sorted.len() as f64).ceil().max(1.0) as usize;
        let exact = sorted[rank - 1];
        let found = summary.quantile(quantile, window).expect("it has values");
        let error = (found - exact).abs() / exact.abs();
        let is_right = error <= ERROR_MAX || found == exact;
        assert!(is_right, "p{quantile} is {found}, exactly {exact}: {error}");
    }
}

#[track_caller]
fn check_distribution(mut next: impl FnMut(&mut Uniform) -> f64) {
    for seed in [0x5eed, 0xfeed_f00d, 0x1234_5678_9abc] {
        let (_clock, metrics) = Clock::with_collector();
        let summary = summary(&metrics);
        let mut uniform = Uniform(seed);
        let values: Vec<f64> = (0..VALUES).map(|_| next(&mut uniform)).collect();
        values.iter().for_each(|value| summary.observe(*value));
        check(&summary, MINUTE, &values);
        // Rounding adds up differently over the pages of a summary.
        let (sum, exact) = (summary.snapshot().sum, values.iter().sum::<f64>());
        let scale: f64 = values.iter().map(|value| value.abs()).sum();
        assert!((sum - exact).abs() <= 1e-12 * scale, "{sum} {exact}");
        assert_eq!(summary.snapshot().count, VALUES as u64);
    }
}

#[test]
fn lognormal_latencies() {
    check_distribution(|uniform| 0.005 * (1.5 * uniform.next_normal()).exp());
}

#[test]
fn two_modes_far_apart() {
    check_distribution(|uniform| {
        let centre = if uniform.next_number() < 0.9 { 0.001 } else { 30.0 };
        centre * (1.0 + 0.01 * uniform.next_normal())
    });
}

#[test]
fn a_constant() {
    for value in [1.0, 0.1, 1e-18, 3e17, -2.5, 0.0] {
        check_distribution(|_| value);
    }
}

#[test]
fn a_pareto_tail_without_a_mean() {
    check_distribution(|uniform| uniform.next_number().powf(-1.25));
}

#[test]
fn values_on_both_sides_of_zero() {
    check_distribution(|uniform| 100.0 * uniform.next_normal());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_values_within_the_stated_range(
        exponents in prop::collection::vec((-63.9..63.9_f64, any::<bool>()), 1..300),
    ) {
        let (_clock, metrics) = Clock::with_collector();
        let summary = summary(&metrics);
        let signed = |(exponent, is_negative): &(f64, bool)| {
            if *is_negative { -exponent.exp2() } else { exponent.exp2() }
        };
        let values: Vec<f64> = exponents.iter().map(signed).collect();
        values.iter().for_each(|value| summary.observe(*value));
        check(&summary, MINUTE, &values);
    }
}

#[test]
fn a_jump_moves_the_median_within_one_window_and_lifetime_values_stay() {
    let (clock, metrics) = Clock::with_collector();
    let summary = summary(&metrics);
    let window = Duration::from_secs(10);
    let second = |value: f64| {
        (0..100).for_each(|_| summary.observe(value));
        clock.advance(Duration::from_secs(1));
        metrics.maintain();
    };
    (0..600).for_each(|_| second(0.010));
    check(&summary, window, &[0.010]);
    let (mut count, mut sum) = (summary.snapshot().count, summary.snapshot().sum);
    for passed in 1..=14 {
        second(1.0);
        let snapshot = summary.snapshot();
        assert!(snapshot.count > count && snapshot.sum > sum, "lifetime values only grow");
        (count, sum) = (snapshot.count, snapshot.sum);
        let median = summary.quantile(0.5, window).unwrap();
        if passed >= 10 {
            assert!((median - 1.0).abs() <= ERROR_MAX, "{median} after {passed} s");
        }
    }
    // A window holds two fifths more than its length at most, so by now nothing else is in it.
    check(&summary, window, &[1.0]);
    let slow = summary.quantile(0.5, Duration::from_secs(300)).unwrap();
    assert!((slow - 0.010).abs() <= ERROR_MAX * 0.010, "the long window is slower: {slow}");
    assert_eq!(count, 61_400);
    assert!((sum - (600.0 + 1400.0)).abs() < 1e-6, "{sum}");
}

#[test]
fn values_after_a_quiet_window_are_not_mixed_with_those_before() {
    let (clock, metrics) = Clock::with_collector();
    let summary = summary(&metrics);
    let window = Duration::from_secs(10);
    for round in 0..20 {
        // As adversarial as can be: the other extreme after each window, and nothing between.
        let value = if round % 2 == 0 { 1e-9 } else { 1e9 };
        (0..1000).for_each(|_| summary.observe(value));
        metrics.maintain();
        check(&summary, window, &[value]);
        for _ in 0..15 {
            clock.advance(Duration::from_secs(1));
            metrics.maintain();
        }
        assert_eq!(summary.quantile(0.5, window), None, "nothing came within it");
    }
    assert_eq!(summary.snapshot().count, 20_000);
}
