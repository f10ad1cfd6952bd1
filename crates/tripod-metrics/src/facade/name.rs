//! How names of the facade become names of Prometheus. Pure.

use super::Kind;
use crate::definition::is_label_name;

/// The ending of a counter.
const TOTAL: &str = "_total";

/// The name of a family.
pub(super) fn family_name(kind: Kind, facade_name: &str) -> String {
    let mut name = plain(facade_name);
    let subject = name.strip_suffix(TOTAL).map(str::len);
    match (kind, subject) {
        (Kind::Counter, None | Some(0)) => name.push_str(TOTAL),
        (Kind::Gauge | Kind::Histogram, Some(length)) => name.truncate(length),
        (Kind::Counter, Some(_)) | (_, None) => {}
    }
    if name.is_empty() {
        name.push('_');
    }
    name
}

/// The name of a label.
pub(super) fn label_name(facade_name: &str, constant_labels: &[(String, String)]) -> String {
    let mut name = plain(facade_name);
    while !is_label_name(&name) || constant_labels.iter().any(|(constant, _)| *constant == name) {
        name.insert_str(0, "exported_");
    }
    name
}

/// Letters, digits and `_`, and no digit first.
fn plain(facade_name: &str) -> String {
    let allowed = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let mut name: String = facade_name.chars().map(allowed).collect();
    if name.chars().next().is_none_or(|first| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// Whether `name` is what `pattern` says, in which `*` stands for any characters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The earliest place of each part leaves the most for those behind it.
    for part in middle.split('*') {
        let Some(place) = name.find(part) else {
            return false;
        };
        name = &name[place + part.len()..];
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::definition::is_name;

    #[test]
    fn names_are_mapped_as_documented() {
        for (kind, facade, expected) in [
            (Kind::Counter, "http.requests", "http_requests_total"),
            (Kind::Counter, "http_requests_total", "http_requests_total"),
            (Kind::Counter, "total", "total_total"),
            (Kind::Counter, "_total", "_total_total"),
            (Kind::Counter, "", "__total"),
            (Kind::Counter, "4xx-seen", "_4xx_seen_total"),
            (Kind::Gauge, "memory.total", "memory"),
            (Kind::Gauge, "_total", "_"),
            (Kind::Gauge, "größe:x", "gr__e_x"),
            (Kind::Histogram, "rpc latency/ms", "rpc_latency_ms"),
        ] {
            assert_eq!(family_name(kind, facade), expected, "{kind:?} {facade:?}");
        }
        let constant = [("zone".to_owned(), "b".to_owned())];
        for (facade, expected) in [
            ("status", "status"),
            ("http.status", "http_status"),
            ("le", "exported_le"),
            ("__name__", "exported___name__"),
            ("zone", "exported_zone"),
            ("", "_"),
        ] {
            assert_eq!(label_name(facade, &constant), expected, "{facade:?}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*a", "a", false),
            ("*b*", "abc", true),
            ("*bb*", "abc", false),
            ("a*b*c*d", "a1b2c3d", true),
            ("a*b*b*d", "a1b2d", false),
            ("a**d", "abcd", true),
            ("*ab", "aab", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_becomes_a_valid_one(facade in ".{0,20}|[a_]{0,3}_total") {
            for kind in [Kind::Counter, Kind::Gauge, Kind::Histogram] {
                let name = family_name(kind, &facade);
                prop_assert!(is_name(&name));
                let subject = name.strip_suffix(TOTAL);
                prop_assert_eq!(subject.is_some_and(|it| !it.is_empty()), kind == Kind::Counter);
            }
            prop_assert!(is_label_name(&label_name(&facade, &[])));
        }
    }
}
