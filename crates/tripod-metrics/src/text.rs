//! The Prometheus text exposition format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Names and labels were checked when they were registered, so whatever is written here can be
//! parsed: one bad line would cost a scraper the whole page.

use std::fmt::{Result, Write};

use crate::definition::Definition;
use crate::histogram::HistogramSnapshot;
use crate::metric::Reading;
use crate::series::SeriesKey;

/// The `Content-Type` under which a page is to be served.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes one family, or nothing if it has no readings.
pub(crate) fn write_family(
    out: &mut impl Write,
    definition: &Definition,
    constant_labels: &[(String, String)],
    readings: &[(SeriesKey, Reading)],
) -> Result {
    if readings.is_empty() {
        return Ok(());
    }
    let name = &definition.name;
    write!(out, "# HELP {name} ")?;
    write_escaped(out, &definition.help, &['\\', '\n'])?;
    writeln!(out, "\n# TYPE {name} {}", definition.metric_type.as_str())?;
    for (key, reading) in readings {
        let series = SeriesText { name, constant_labels, names: &definition.label_names, key };
        match reading {
            Reading::Count(count) => series.write(out, "", None, Number::Whole(*count))?,
            Reading::Value(value) => series.write(out, "", None, Number::Float(*value))?,
            Reading::Distribution(snapshot) => write_distribution(out, &series, snapshot)?,
        }
    }
    Ok(())
}

fn write_distribution(
    out: &mut impl Write,
    series: &SeriesText<'_>,
    snapshot: &HistogramSnapshot,
) -> Result {
    for (bound, count) in &snapshot.buckets {
        series.write(out, "_bucket", Some(*bound), Number::Whole(*count))?;
    }
    series.write(out, "_sum", None, Number::Float(snapshot.sum))?;
    series.write(out, "_count", None, Number::Whole(snapshot.count))
}

/// What the lines of one series have in common.
struct SeriesText<'a> {
    name: &'a str,
    constant_labels: &'a [(String, String)],
    names: &'a [String],
    key: &'a SeriesKey,
}

enum Number {
    Whole(u64),
    Float(f64),
}

impl SeriesText<'_> {
    fn write(
        &self,
        out: &mut impl Write,
        suffix: &str,
        bound: Option<f64>,
        number: Number,
    ) -> Result {
        write!(out, "{}{suffix}", self.name)?;
        self.write_labels(out, bound)?;
        out.write_char(' ')?;
        match number {
            Number::Whole(number) => write!(out, "{number}")?,
            Number::Float(number) => write_float(out, number)?,
        }
        out.write_char('\n')
    }

    fn write_labels(&self, out: &mut impl Write, bound: Option<f64>) -> Result {
        let constant = self.constant_labels.iter().map(|(name, value)| (name.as_str(), &**value));
        let own = self.names.iter().map(String::as_str).zip(self.key.values());
        let mut open = false;
        for (name, value) in constant.chain(own) {
            write!(out, "{}{name}=\"", if open { ',' } else { '{' })?;
            write_escaped(out, value, &['\\', '"', '\n'])?;
            out.write_char('"')?;
            open = true;
        }
        if let Some(bound) = bound {
            write!(out, "{}le=\"", if open { ',' } else { '{' })?;
            write_float(out, bound)?;
            out.write_char('"')?;
            open = true;
        }
        if open { out.write_char('}') } else { Ok(()) }
    }
}

/// Writes `text` with a backslash before each of `special`, and line feeds as `\n`.
fn write_escaped(out: &mut impl Write, text: &str, special: &[char]) -> Result {
    let mut rest = text;
    while let Some(position) = rest.find(special) {
        let (plain, tail) = rest.split_at(position);
        let (escaped, tail) = tail.split_at(1); // The special characters are ASCII.
        out.write_str(plain)?;
        out.write_char('\\')?;
        out.write_str(if escaped == "\n" { "n" } else { escaped })?;
        rest = tail;
    }
    out.write_str(rest)
}

/// Writes the shortest text that reads back as exactly `number`.
///
/// A bound's text is part of the identity of its series, so this must never change: plain decimals
/// where they are short, an exponent elsewhere.
fn write_float(out: &mut impl Write, number: f64) -> Result {
    if number.is_nan() {
        out.write_str("NaN")
    } else if number.is_infinite() {
        out.write_str(if number > 0.0 { "+Inf" } else { "-Inf" })
    } else if number == 0.0 || (1e-5..1e16).contains(&number.abs()) {
        write!(out, "{number}")
    } else {
        write!(out, "{number:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_short_and_read_back_exactly() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.005, "0.005"),
            (1e-5, "0.00001"),
            (9.99e-6, "9.99e-6"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e16, "1e16"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::from_bits(1), "5e-324"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (number, expected) in cases {
            let mut text = String::new();
            write_float(&mut text, number).unwrap();
            assert_eq!(text, expected);
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits());
        }
    }

    #[test]
    fn only_the_special_characters_are_escaped() {
        let mut text = String::new();
        write_escaped(&mut text, "\n\"a\\n\"\r\té\0\\", &['\\', '"', '\n']).unwrap();
        assert_eq!(text, "\\n\\\"a\\\\n\\\"\r\té\0\\\\");
    }
}
