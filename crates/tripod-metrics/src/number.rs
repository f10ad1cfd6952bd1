//! Numbers as text.

/// Writes a whole number.
#[inline]
pub(crate) fn write_whole(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// Writes milliseconds as seconds.
pub(crate) fn write_seconds(out: &mut String, ms: u64) {
    write_whole(out, ms / 1000);
    let rest = ms % 1000;
    out.push('.');
    out.extend([rest / 100, rest / 10 % 10, rest % 10].map(|digit| (b'0' + digit as u8) as char));
}

/// Writes the shortest text that reads back as exactly `number`.
///
/// A bound's text is part of the identity of its series, so this must never change: plain decimals
/// where they are short, an exponent elsewhere.
pub(crate) fn write_float(out: &mut String, number: f64) {
    use std::fmt::Write;
    /// Whole numbers below this are exact, and quicker to write as such.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    let written = if number.is_nan() {
        out.write_str("NaN")
    } else if number.is_infinite() {
        out.write_str(if number > 0.0 { "+Inf" } else { "-Inf" })
    } else if number.trunc() == number && number.abs() < WHOLE_MAX {
        out.write_str(if number.is_sign_negative() { "-" } else { "" })
            .map(|()| write_whole(out, number.abs() as u64))
    } else if (1e-5..1e16).contains(&number.abs()) {
        write!(out, "{number}")
    } else {
        write!(out, "{number:e}")
    };
    written.expect("writing to a string cannot fail");
}

/// Writes a bound as OpenMetrics wants it: as the `%g` of Go does, but never without a point or an
/// exponent.
pub(crate) fn write_canonical(out: &mut String, number: f64) {
    use std::fmt::Write;
    let written = if !number.is_finite() || number == 0.0 {
        write_float(out, number);
        out.write_str(if number == 0.0 { ".0" } else { "" })
    } else if (1e-4..1e6).contains(&number.abs()) {
        let start = out.len();
        write!(out, "{number}").and_then(|()| {
            let has_point = out[start..].contains('.');
            out.write_str(if has_point { "" } else { ".0" })
        })
    } else {
        // Rust writes 1e6 and 1e-5; the exponent wanted has a sign and two digits.
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        write!(out, "{mantissa}e{sign}{digits:0>2}")
    };
    written.expect("writing to a string cannot fail");
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
            (-17.0, "-17"),
            (0.005, "0.005"),
            (1e-5, "0.00001"),
            (9.99e-6, "9.99e-6"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (-9_007_199_254_740_991.0, "-9007199254740991"),
            (1e16, "1e16"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::from_bits(1), "5e-324"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (number, expected) in cases {
            let mut text = String::new();
            write_float(&mut text, number);
            assert_eq!(text, expected);
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits());
        }
    }

    #[test]
    fn bounds_are_canonical() {
        let cases = [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (0.005, "0.005"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (999_999.0, "999999.0"),
            // Its logarithm rounds to 6.
            (999_999.999_999_999_9, "999999.9999999999"),
            (0.000_099_999_999_999_999_99, "9.999999999999999e-05"),
            (1e6, "1e+06"),
            (1_048_576.0, "1.048576e+06"),
            (1.5e300, "1.5e+300"),
            (f64::INFINITY, "+Inf"),
        ];
        for (number, expected) in cases {
            let mut text = String::new();
            write_canonical(&mut text, number);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn seconds_have_three_decimals() {
        let mut text = String::new();
        write_seconds(&mut text, 1_764_000_000_007);
        assert_eq!(text, "1764000000.007");
    }
}
