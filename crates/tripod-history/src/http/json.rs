//! Values as Prometheus writes them: a moment is a number of seconds, a value is a string, because
//! JSON has no infinity and no NaN.

use std::fmt::Write;

use crate::labels::Labels;
use crate::promql::{QueryValue, plain_number};
use crate::source::Point;

/// Writes a value with its type.
pub(super) fn query_value(value: &QueryValue) -> String {
    let mut out = format!(r#"{{"resultType":"{}","result":"#, value.kind());
    match value {
        QueryValue::Scalar(point) => pair(&mut out, point.time_ms, &plain_number(point.value)),
        QueryValue::String { time_ms, value } => pair(&mut out, *time_ms, value),
        QueryValue::Vector(samples) => list(&mut out, samples, |out, sample| {
            metric(out, &sample.labels);
            out.push_str(r#","value":"#);
            sample_point(out, &sample.point);
            out.push('}');
        }),
        QueryValue::Matrix(matrix) => list(&mut out, matrix, |out, series| {
            metric(out, &series.labels);
            out.push_str(r#","values":"#);
            list(out, &series.points, sample_point);
            out.push('}');
        }),
    }
    out.push('}');
    out
}

/// Writes labels as an object.
pub(super) fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (place, (name, value)) in labels.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        text(out, name);
        out.push(':');
        text(out, value);
    }
    out.push('}');
}

/// Writes a list of anything.
pub(super) fn list<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// Writes a string with its quotes.
pub(super) fn text(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn metric(out: &mut String, of: &Labels) {
    out.push_str(r#"{"metric":"#);
    labels(out, of);
}

fn sample_point(out: &mut String, point: &Point) {
    pair(out, point.time_ms, &number(point.value));
}

fn pair(out: &mut String, time_ms: i64, value: &str) {
    out.push('[');
    seconds(out, time_ms);
    out.push(',');
    text(out, value);
    out.push(']');
}

fn seconds(out: &mut String, time_ms: i64) {
    let sign = if time_ms < 0 { "-" } else { "" };
    let time_ms = time_ms.unsigned_abs();
    // Writing to a string cannot fail.
    let _ = match time_ms % 1000 {
        0 => write!(out, "{sign}{}", time_ms / 1000),
        ms => write!(out, "{sign}{}.{ms:03}", time_ms / 1000),
    };
}

/// A number in the fewest digits that give it back, with an exponent if it is very large or small.
fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || value == 0.0 || (1e-6..1e21).contains(&size) {
        return plain_number(value);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) =
        exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::Sample;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        let cases = [
            (1.0, "1"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-07"),
            (1e20, "100000000000000000000"),
            (-1e21, "-1e+21"),
            (1e300, "1e+300"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn a_vector_is_written_with_escaped_labels() {
        let labels = Labels::new([("__name__", "x"), ("path", "a\"b\\c\n")]);
        let point = Point { time_ms: 1_500, value: f64::INFINITY };
        let written = query_value(&QueryValue::Vector(vec![Sample { labels, point }]));
        let expected = r#"{"resultType":"vector","result":[{"metric":{"__name__":"x","path":"a\"b\\c\n"},"value":[1.500,"+Inf"]}]}"#;
        assert_eq!(written, expected);
    }

    #[test]
    fn moments_before_1970_are_negative() {
        let mut out = String::new();
        seconds(&mut out, -1_050);
        assert_eq!(out, "-1.050");
    }
}
