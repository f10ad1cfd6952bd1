//! The text of a float, the same in every format that has bounds as label values.

use std::fmt::{Result, Write};

/// Writes the shortest text that reads back as exactly `number`.
///
/// A bound's text is part of the identity of its series, so this must never change: plain decimals
/// where they are short, an exponent elsewhere.
pub(crate) fn write_float(out: &mut impl Write, number: f64) -> Result {
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
            (0.005, "0.005"),
            (1e-5, "0.00001"),
            (9.99e-6, "9.99e-6"),
            (1e16, "1e16"),
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
}
