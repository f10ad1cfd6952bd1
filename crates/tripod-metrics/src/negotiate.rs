//! Which page a scraper is to get, from the headers of its request (RFC 9110, sections 12.4 and 12.5).
//!
//! Pure functions, for whatever HTTP server there is. They never fail: a header, or a part of one,
//! that cannot be read counts as absent, and whoever asks for nothing we have gets the text page, as
//! Prometheus's own libraries do it. So a page never ends in 406.

use crate::page::{OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE};
use crate::protobuf::PROTOBUF_CONTENT_TYPE;

/// The formats in which a collector's page can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Text,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
    /// Prometheus protobuf, delimited messages.
    Protobuf,
}

impl Format {
    /// In the order in which they are preferred where the scraper does not care: what carries more
    /// comes first, but nobody gets protobuf by a wildcard.
    const BY_PREFERENCE: [Self; 3] = [Self::Protobuf, Self::OpenMetrics, Self::Text];

    /// The `Content-Type` to answer with.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => TEXT_CONTENT_TYPE,
            Self::OpenMetrics => OPENMETRICS_CONTENT_TYPE,
            Self::Protobuf => PROTOBUF_CONTENT_TYPE,
        }
    }

    /// How closely a media range names this format, from 0 for `*/*`; `None` if it does not.
    fn matched_by(self, range: &Element<'_>) -> Option<u8> {
        let is = |name: &str| range.name.eq_ignore_ascii_case(name);
        let parameter = |name, value| range.has(name, value).map(u8::from);
        match self {
            Self::Text if is("*/*") => Some(0),
            Self::Text if is("text/*") => Some(1),
            Self::Text if is("text/plain") => Some(2 + parameter("version", &["0.0.4"])?),
            Self::OpenMetrics if is("application/openmetrics-text") => {
                Some(2 + parameter("version", &["1.0.0", "1.0"])?)
            }
            Self::Protobuf if is("application/vnd.google.protobuf") => {
                let proto = parameter("proto", &["io.prometheus.client.MetricFamily"])?;
                let encoding = parameter("encoding", &["delimited"])?;
                // Without them, it may be any message in any framing.
                (proto + encoding == 2).then_some(4)
            }
            _ => None,
        }
    }
}

/// Chooses the format for a request with this `Accept` header; several headers are joined by commas
/// first.
///
/// The highest quality wins, then protobuf before OpenMetrics before text. A parameter that we cannot
/// meet, such as a later version, takes a media range out; one that we do not know, such as
/// `escaping`, does not. A wildcard means the text page.
///
/// # Examples
/// ```
/// use tripod_metrics::negotiate::{Format, negotiate};
///
/// let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
/// assert_eq!(negotiate(Some(accept)), Format::OpenMetrics);
/// assert_eq!(negotiate(Some("text/html, */*;q=0.8")), Format::Text);
/// assert_eq!(negotiate(None), Format::Text);
/// ```
#[must_use]
pub fn negotiate(accept: Option<&str>) -> Format {
    let ranges: Vec<Element<'_>> = elements(accept.unwrap_or_default()).collect();
    let mut best = (0, Format::Text);
    for format in Format::BY_PREFERENCE {
        let quality = quality_of(&ranges, |range| format.matched_by(range)).unwrap_or(0);
        if quality > best.0 {
            best = (quality, format);
        }
    }
    best.1
}

/// Whether a request with this `Accept-Encoding` header may be answered with gzip.
///
/// Without the header it may not: a client that never said that it can read gzip mostly cannot.
///
/// # Examples
/// ```
/// use tripod_metrics::negotiate::accepts_gzip;
///
/// assert!(accepts_gzip(Some("deflate, gzip;q=0.5")));
/// assert!(!accepts_gzip(Some("gzip;q=0, *")));
/// assert!(!accepts_gzip(None));
/// ```
#[must_use]
pub fn accepts_gzip(accept_encoding: Option<&str>) -> bool {
    let codings: Vec<Element<'_>> = elements(accept_encoding.unwrap_or_default()).collect();
    let quality = quality_of(&codings, |coding| {
        let is = |name: &str| coding.name.eq_ignore_ascii_case(name);
        if is("gzip") || is("x-gzip") { Some(1) } else { is("*").then_some(0) }
    });
    quality.is_some_and(|quality| quality > 0)
}

/// The quality that the closest match gives, in thousandths; of equally close ones the highest.
fn quality_of(
    elements: &[Element<'_>],
    closeness: impl Fn(&Element<'_>) -> Option<u8>,
) -> Option<u16> {
    let matches =
        elements.iter().filter_map(|element| Some((closeness(element)?, element.quality)));
    matches.max().map(|(_, quality)| quality)
}

/// One element of a header that is a list with qualities.
#[derive(Debug, PartialEq, Eq)]
struct Element<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// In thousandths.
    quality: u16,
}

impl Element<'_> {
    /// Whether the parameter is there; `None` if it is, with a value that is none of `values`.
    fn has(&self, name: &str, values: &[&str]) -> Option<bool> {
        let mut found = self.parameters.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        match found.next() {
            None => Some(false),
            Some((_, value)) => {
                values.iter().any(|known| known.eq_ignore_ascii_case(value)).then_some(true)
            }
        }
    }
}

/// The elements of a header that can be read.
fn elements(header: &str) -> impl Iterator<Item = Element<'_>> {
    split_unquoted(header, b',').filter_map(element)
}

fn element(text: &str) -> Option<Element<'_>> {
    let mut parts = split_unquoted(text, b';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let mut element = Element { name, parameters: Vec::new(), quality: 1000 };
    for part in parts.filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=')?;
        let (key, value) = (key.trim(), unquoted(value.trim()));
        if key.eq_ignore_ascii_case("q") {
            element.quality = quality(value)?;
        } else {
            element.parameters.push((key, value));
        }
    }
    Some(element)
}

/// Splits at a separator outside of quotes. Both are ASCII, so the cuts are between characters.
fn split_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = text.bytes().position(|byte| {
            let is_end = byte == separator && !is_quoted;
            is_quoted ^= byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && is_quoted && !is_escaped;
            is_end
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(end.map_or(text, |end| &text[..end]))
    })
}

/// The inside of a quoted string. Backslashes stay: no value that we know has one.
fn unquoted(value: &str) -> &str {
    let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    inside.unwrap_or(value)
}

/// A quality in thousandths: `0` or `1`, with up to three decimals, and not above 1.
fn quality(value: &str) -> Option<u16> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let is_number = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || !matches!(whole, "0" | "1") {
        return None;
    }
    let thousandths: u16 = format!("{whole}{decimals:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROTOBUF: &str = "application/vnd.google.protobuf;\
                            proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn prometheus_gets_what_it_prefers() {
        // 2.42, and with --enable-feature=native-histograms.
        let plain = "application/openmetrics-text;version=1.0.0,\
                     application/openmetrics-text;version=0.0.1;q=0.75,\
                     text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(negotiate(Some(plain)), Format::OpenMetrics);
        let native = format!(
            "{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,\
             application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        );
        assert_eq!(negotiate(Some(&native)), Format::Protobuf);
        // 3.x asks for names beyond ASCII; ours need no escaping.
        let three = format!(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,{PROTOBUF};q=0.2,*/*;q=0.1"
        );
        assert_eq!(negotiate(Some(&three)), Format::OpenMetrics);
        let three_text = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(negotiate(Some(three_text)), Format::Text);
    }

    #[test]
    fn qualities_decide_and_zero_excludes() {
        for (accept, expected) in [
            ("text/plain;q=0.9, application/openmetrics-text;q=0.1", Format::Text),
            ("text/plain;q=0.001, application/openmetrics-text;q=0.002", Format::OpenMetrics),
            ("application/openmetrics-text;q=0, text/plain;q=0.1", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("text/plain, application/openmetrics-text", Format::OpenMetrics),
            ("text/plain;q=0, */*, application/openmetrics-text;q=0.1", Format::OpenMetrics),
            ("application/openmetrics-text; version=2.0.0", Format::Text),
            ("application/openmetrics-text; version=\"1.0.0\"", Format::OpenMetrics),
            ("APPLICATION/OpenMetrics-Text;VERSION=1.0.0 ; Q=0.5", Format::OpenMetrics),
            ("application/vnd.google.protobuf", Format::Text),
            ("application/vnd.google.protobuf;proto=x;encoding=delimited", Format::Text),
            ("application/*", Format::Text),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Text),
        ] {
            assert_eq!(negotiate(Some(accept)), expected, "{accept}");
        }
        assert_eq!(negotiate(Some(&format!("*/*,{PROTOBUF};q=0.5"))), Format::Text);
    }

    #[test]
    fn what_cannot_be_read_counts_as_absent() {
        for accept in [
            "",
            ",",
            ";",
            ";;;,,,",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=1.001",
            "application/openmetrics-text;q=-1",
            "application/openmetrics-text;q=0.1234",
            "application/openmetrics-text;q=",
            "application/openmetrics-text;q",
            "application/openmetrics-text;version=\"1.0.0",
            "\"application/openmetrics-text",
            "application/openmetrics-textü",
            "=;=,=",
        ] {
            assert_eq!(negotiate(Some(accept)), Format::Text, "{accept}");
        }
        let mixed = "x;q=nan, application/openmetrics-text;a=\"b,c;\\\"q=0\", ;q=1";
        assert_eq!(negotiate(Some(mixed)), Format::OpenMetrics);
    }

    #[test]
    fn gzip_needs_to_be_asked_for() {
        for (header, expected) in [
            (Some("gzip"), true),
            (Some("GZIP;q=0.001"), true),
            (Some("x-gzip"), true),
            (Some("br, zstd, *"), true),
            (Some("*;q=0.5, gzip;q=0"), false),
            (Some("*;q=0"), false),
            (Some("identity"), false),
            (Some("gzip;q=0.0"), false),
            (Some("gzip;q=x"), false),
            (Some("gzipped"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(accepts_gzip(header), expected, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_has_an_answer(header in "[a-z/*;,=q.0-9\" \\\\é]{0,60}|.{0,40}") {
            let format = negotiate(Some(&header));
            prop_assert!(!format.content_type().is_empty());
            let _ = accepts_gzip(Some(&header));
        }
    }
}
