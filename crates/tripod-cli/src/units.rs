//! Sizes and durations as people write and read them.

use std::fmt;
use std::time::Duration;

/// Parses a size such as `2G`, `512M`, `1.5 GiB`, `100kB` or `4096`.
///
/// As in GNU tools, `K`, `M`, `G`, `T` and `KiB` ... are powers of 1024, `kB`, `MB` ... powers of
/// 1000, and a bare number counts bytes. Case does not matter.
///
/// # Errors
/// A phrase that says what is wrong with the text.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let unit_start = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..unit_start], text[unit_start..].trim());
    let no_number =
        || format!("{text:?} does not start with a number; write for example 512M or 2G");
    if number.is_empty() {
        return Err(no_number());
    }
    let scale = unit_scale(unit)
        .ok_or_else(|| format!("unknown unit {unit:?}; write for example 512M, 2G or 1500kB"))?;
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(scale),
        Err(_) => scale_fraction(number, scale).ok_or_else(no_number)?,
    };
    bytes.ok_or_else(|| format!("{text:?} is more than 16 EiB"))
}

fn unit_scale(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (prefix, base) = match unit.strip_suffix("ib") {
        Some(prefix) => (prefix, 1024_u64),
        None => match unit.strip_suffix('b') {
            Some("") => return Some(1),
            Some(prefix) => (prefix, 1000),
            None => (unit.as_str(), 1024),
        },
    };
    let power = match prefix {
        "" if base == 1024 && unit.is_empty() => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    Some(base.pow(power))
}

/// `Some(None)` where the number is good but too large, `None` where it is no number.
fn scale_fraction(number: &str, scale: u64) -> Option<Option<u64>> {
    let value: f64 = number.parse().ok()?;
    let bytes = value * scale as f64;
    Some((bytes < u64::MAX as f64).then_some(bytes as u64))
}

/// Parses a duration such as `90s`, `2m 30s`, `1h` or `250ms`; a bare number counts seconds.
///
/// # Errors
/// A phrase that says what is wrong with the text. Zero is refused.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    };
    match parsed {
        Ok(Duration::ZERO) => Err("must be longer than zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write for example 90s, 2m30s or 1h")),
    }
}

/// A number of bytes, shown as `512 MiB`, `1.5 GiB` or `17 B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let (mut value, mut unit) = (self.0 as f64, 0);
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let unit = UNITS[unit];
        let tenths = (value * 10.0).round();
        if value >= 100.0 || tenths % 10.0 == 0.0 {
            write!(f, "{value:.0} {unit}")
        } else {
            write!(f, "{value:.1} {unit}")
        }
    }
}

/// A duration, shown as `4.2 s`, `3m 05s` or `2h 10m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed(pub(crate) Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 if self.0 < Duration::from_millis(100) => write!(f, "{} ms", self.0.as_millis()),
            0..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            60..3600 => write!(f, "{}m {:02}s", seconds / 60, seconds % 60),
            _ => write!(f, "{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_gnu_tools_read_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("10b", 10),
            ("1k", 1024),
            ("512M", 512 << 20),
            ("2G", 2 << 30),
            ("2 GiB", 2 << 30),
            ("1.5g", 3 << 29),
            ("100kB", 100_000),
            ("3MB", 3_000_000),
            (" 1T ", 1 << 40),
            ("0", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_bad_size_says_what_is_wrong() {
        for (text, part) in [
            ("", "does not start with a number"),
            ("G", "does not start with a number"),
            ("-1G", "does not start with a number"),
            ("1.2.3M", "does not start with a number"),
            ("5 apples", "unknown unit"),
            ("1ib", "unknown unit"),
            ("99999999P", "more than 16 EiB"),
            ("1e3M", "unknown unit"),
        ] {
            let error = parse_size(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn durations_take_units_or_plain_seconds() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m 30s"), Ok(Duration::from_secs(150)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["0", "0s", "-3", "soon", "NaN", "", "1e40"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_times_are_shown_short() {
        let sizes = [0, 17, 1024, 1536, 512 << 20, 3 << 29, u64::MAX].map(|b| Size(b).to_string());
        assert_eq!(sizes, ["0 B", "17 B", "1 KiB", "1.5 KiB", "512 MiB", "1.5 GiB", "16384 PiB"]);
        let times =
            [3, 4200, 185_000, 7_800_000].map(|ms| Elapsed(Duration::from_millis(ms)).to_string());
        assert_eq!(times, ["3 ms", "4.2 s", "3m 05s", "2h 10m"]);
    }
}
