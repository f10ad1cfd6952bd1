//! A snapshot as single numbers, as the text page has them: a histogram as `_bucket`, `_sum` and
//! `_count`, a summary as quantiles, `_sum` and `_count`.
//!
//! The live stream and remote-write build on it. Remote-write leaves exponential histograms out of
//! it, for it has messages of their own for them.

use crate::exponential::Distribution;
use crate::histogram::by_powers_of_two;
use crate::number::write_float;
use crate::snapshot::{
    ExponentialSnapshot, FamilySnapshot, HistogramSnapshot, SeriesSnapshot, SummarySnapshot, Value,
};
use crate::stream::Number;

/// One number and what makes its series unlike others of the family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample<'a> {
    /// Behind the name of the family.
    pub(crate) suffix: &'static str,
    /// Behind the labels of the series: `le` or `quantile`.
    pub(crate) extra: Option<(&'static str, &'a str)>,
    pub(crate) number: Number,
}

/// Calls `each` for every number of a series.
///
/// An exponential histogram is shown by powers of two, cumulative, as on the text page.
pub(crate) fn for_each(value: &Value, mut each: impl FnMut(Sample<'_>)) {
    let mut plain = |number| each(Sample { suffix: "", extra: None, number });
    match value {
        Value::Counter(count) => plain(Number::Whole(*count)),
        Value::FloatCounter(value) | Value::Gauge(value) => plain(Number::Float(*value)),
        Value::Histogram(histogram) => for_each_bucket(histogram, each),
        Value::Exponential(histogram) => for_each_bucket(&to_classic(histogram), each),
        Value::Summary(summary) => for_each_quantile(summary, each),
    }
}

/// Calls `each` for every series of a family with every number of it.
pub(crate) fn for_each_of_family<'a>(
    family: &'a FamilySnapshot,
    mut each: impl FnMut(&'a SeriesSnapshot, Sample<'_>),
) {
    for series in &family.series {
        for_each(&series.value, |sample| each(series, sample));
    }
}

fn for_each_bucket(histogram: &HistogramSnapshot, mut each: impl FnMut(Sample<'_>)) {
    let mut text = String::new();
    for (bound, count) in &histogram.buckets {
        let extra = Some(("le", float_text(&mut text, *bound)));
        each(Sample { suffix: "_bucket", extra, number: Number::Whole(*count) });
    }
    each_total(histogram.sum, histogram.count, each);
}

fn for_each_quantile(summary: &SummarySnapshot, mut each: impl FnMut(Sample<'_>)) {
    let mut text = String::new();
    for (quantile, value) in &summary.quantiles {
        let extra = Some(("quantile", float_text(&mut text, *quantile)));
        each(Sample { suffix: "", extra, number: Number::Float(*value) });
    }
    each_total(summary.sum, summary.count, each);
}

fn each_total(sum: f64, count: u64, mut each: impl FnMut(Sample<'_>)) {
    each(Sample { suffix: "_sum", extra: None, number: Number::Float(sum) });
    each(Sample { suffix: "_count", extra: None, number: Number::Whole(count) });
}

fn float_text(text: &mut String, number: f64) -> &str {
    text.clear();
    // Writing to a string cannot fail.
    write_float(text, number);
    text
}

/// By powers of two, as the text page shows them.
fn to_classic(histogram: &ExponentialSnapshot) -> HistogramSnapshot {
    let distribution = Distribution {
        zero: histogram.zero_count,
        positive: histogram.positive.clone(),
        negative: histogram.negative.clone(),
        sum: histogram.sum,
    };
    by_powers_of_two(&distribution, histogram.schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(value: &Value) -> Vec<String> {
        let mut texts = Vec::new();
        for_each(value, |sample| {
            let Sample { suffix, extra, number } = sample;
            texts.push(format!("{suffix} {extra:?} {number:?}"));
        });
        texts
    }

    #[test]
    fn exponential_buckets_are_cumulative_from_the_lowest_bound() {
        let histogram = ExponentialSnapshot {
            schema: 0,
            zero_threshold: 0.25,
            zero_count: 2,
            positive: vec![(0, 1), (3, 5)],
            negative: vec![(1, 3), (2, 4)],
            count: 15,
            sum: 7.5,
            ..ExponentialSnapshot::default()
        };
        assert_eq!(
            texts(&Value::Exponential(histogram)),
            [
                "_bucket Some((\"le\", \"-2\")) Whole(4)",
                "_bucket Some((\"le\", \"-1\")) Whole(7)",
                "_bucket Some((\"le\", \"0\")) Whole(9)",
                "_bucket Some((\"le\", \"1\")) Whole(10)",
                "_bucket Some((\"le\", \"2\")) Whole(10)",
                "_bucket Some((\"le\", \"4\")) Whole(10)",
                "_bucket Some((\"le\", \"8\")) Whole(15)",
                "_bucket Some((\"le\", \"+Inf\")) Whole(15)",
                "_sum None Float(7.5)",
                "_count None Whole(15)",
            ]
        );
    }

    #[test]
    fn a_summary_has_quantiles_sum_and_count() {
        let summary = SummarySnapshot {
            quantiles: vec![(0.5, 1.25), (0.99, f64::NAN)],
            count: 3,
            sum: 4.0,
            ..SummarySnapshot::default()
        };
        assert_eq!(
            texts(&Value::Summary(summary)),
            [
                " Some((\"quantile\", \"0.5\")) Float(1.25)",
                " Some((\"quantile\", \"0.99\")) Float(NaN)",
                "_sum None Float(4.0)",
                "_count None Whole(3)",
            ]
        );
    }
}
