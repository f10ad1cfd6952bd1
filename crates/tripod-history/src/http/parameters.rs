//! Parameters of a request: from the URL and, of a POST, from the form in its body.

use std::borrow::Cow;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{Method, header};

use super::BODY_BYTES_MAX;
use crate::promql::day_number;

/// Names and values, as they came.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

/// Why a parameter cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParameterError {
    #[error("cannot parse {0:?} to a valid timestamp")]
    Time(String),
    #[error("cannot parse {0:?} to a valid duration")]
    Duration(String),
    #[error("the body of the request cannot be read, or has more than {BODY_BYTES_MAX} bytes")]
    Body,
}

impl Parameters {
    /// Takes the parameters of a request. Those of the form come first.
    pub(super) async fn of(request: Request) -> Result<Self, ParameterError> {
        let mut parameters = Self::default();
        let (head, body) = request.into_parts();
        let is_form = head
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        if head.method == Method::POST && is_form {
            let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| ParameterError::Body)?;
            parameters.add(&String::from_utf8_lossy(&body));
        }
        parameters.add(head.uri.query().unwrap_or_default());
        Ok(parameters)
    }

    fn add(&mut self, form: &str) {
        for pair in form.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.0.push((decoded(name), decoded(value)));
        }
    }

    /// The first value of a parameter; "" if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| &**value)
    }
}

/// Undoes percent-encoding; what is no valid escape stays as it is.
fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let hex = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
        match escaped.and_then(|pair| Some(hex(pair[0])? << 4 | hex(pair[1])?)) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    match String::from_utf8_lossy(&out) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

/// A moment in milliseconds since 1970, from seconds or from RFC 3339.
pub(super) fn time_ms(text: &str) -> Result<i64, ParameterError> {
    let bad = || ParameterError::Time(text.to_owned());
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = (seconds * 1000.0).round();
        return (ms.abs() < 9e15).then_some(ms as i64).ok_or_else(bad);
    }
    rfc3339_ms(text).ok_or_else(bad)
}

/// `2026-11-24T21:20:26.5Z`, or with an offset such as `+01:00` in place of the `Z`.
fn rfc3339_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let day = day_number(digits(date.get(..4)?)?, part(date, 4, "-")?, part(date, 7, "-")?)?;
    let (time, rest) = rest.split_at_checked(9)?;
    let (hour, minute, second) = (part(time, 0, "T")?, part(time, 3, ":")?, part(time, 6, ":")?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let fraction = &rest[..rest.len() - zone.len()];
    let fraction_ms = match fraction.strip_prefix('.') {
        Some(digits) => (format!("0.{digits}").parse::<f64>().ok()? * 1000.0) as i64,
        None if fraction.is_empty() => 0,
        None => return None,
    };
    let offset_minutes = match zone {
        "Z" => 0,
        _ => {
            let sign = match zone.get(..1)? {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = (digits(zone.get(1..3)?)?, part(zone.get(3..)?, 0, ":")?);
            (zone.len() == 6 && hours < 24 && minutes < 60)
                .then_some(sign * (hours * 60 + minutes))?
        }
    };
    let seconds = ((day * 24 + hour) * 60 + minute - offset_minutes) * 60 + second;
    Some(seconds * 1000 + fraction_ms)
}

/// The two digits after a separator.
fn part(text: &str, at: usize, separator: &str) -> Option<i64> {
    digits(text.get(at..at + 3)?.strip_prefix(separator)?)
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A duration in milliseconds, from seconds or from units such as `1h30m`; may be 0 or negative.
pub(super) fn duration_ms(text: &str) -> Result<i64, ParameterError> {
    let bad = || ParameterError::Duration(text.to_owned());
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = seconds * 1000.0;
        return (ms.abs() < 9e15).then_some(ms as i64).ok_or_else(bad);
    }
    units_ms(text).ok_or_else(bad)
}

/// Each unit at most once, from years down to milliseconds.
fn units_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let (mut rest, mut units, mut total_ms) = (text, &UNITS[..], 0_i64);
    while !rest.is_empty() {
        let unit_and_more = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let count = digits(&rest[..rest.len() - unit_and_more.len()])?;
        rest = unit_and_more.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &unit_and_more[..unit_and_more.len() - rest.len()];
        let place = units.iter().position(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(count.checked_mul(units[place].1)?)?;
        units = &units[place + 1..];
    }
    (!text.is_empty()).then_some(total_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        let mut parameters = Parameters::default();
        parameters.add("query=a%2Bb+%7B%7D&match[]=x&match%5B%5D=%C3%A9&bad=%zz%4&empty");
        assert_eq!(parameters.get("query"), "a+b {}");
        assert_eq!(parameters.all("match[]").collect::<Vec<_>>(), ["x", "é"]);
        assert_eq!(parameters.get("bad"), "%zz%4");
        assert_eq!((parameters.get("empty"), parameters.get("missing")), ("", ""));
    }

    #[track_caller]
    fn time(text: &str, expected: Option<i64>) {
        assert_eq!(time_ms(text).ok(), expected, "{text}");
    }

    #[test]
    fn moments_are_seconds_or_rfc3339() {
        time("1700000000.1234", Some(1_700_000_000_123));
        time("-1.5", Some(-1500));
        time("1.7e9", Some(1_700_000_000_000));
        time("2023-11-14T22:13:20Z", Some(1_700_000_000_000));
        time("2023-11-14T23:43:20.25+01:30", Some(1_700_000_000_250));
        time("1969-12-31T23:59:59.999Z", Some(-1));
        for bad in [
            "",
            "now",
            "NaN",
            "Inf",
            "1e300",
            "2023-02-29T00:00:00Z",
            "2023-11-14",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20+1:00",
            "2023-11-14T22:13:20.1.2Z",
            "２023-11-14T22:13:20Z",
        ] {
            time(bad, None);
        }
    }

    #[track_caller]
    fn duration(text: &str, expected: Option<i64>) {
        assert_eq!(duration_ms(text).ok(), expected, "{text}");
    }

    #[test]
    fn durations_are_seconds_or_units() {
        duration("15", Some(15_000));
        duration("0.25", Some(250));
        duration("1h30m", Some(5_400_000));
        duration("1y2w3d4h5m6s7ms", Some(33_019_506_007));
        duration("0", Some(0));
        for bad in ["", "m", "5x", "1m1h", "1m1m", "1.5h", "-1m", "999999999999y"] {
            duration(bad, None);
        }
    }
}
