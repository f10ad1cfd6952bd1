//! What is refused, and that no text overflows the stack or panics.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn refused(query: &str, part_of_message: &str) {
    let error = plan(query).expect_err(query);
    assert!(error.to_string().contains(part_of_message), "{query}: {error}");
}

#[test]
fn what_only_later_versions_know_is_refused() {
    refused("x + fill(0) y", "fill");
    refused(r#"x{a="b" or c="d"}"#, "or");
    refused("limitk(1, x)", "unknown aggregation");
    refused("mad_over_time(x[5m])", "unknown function");
    refused("sort_by_label(x, \"a\")", "unknown function");
    refused("start()", "unknown function");
    refused("histogram_count(x)", "unknown function");
}

#[test]
fn what_the_parser_lets_through_untyped_is_refused() {
    refused("exp(NaN)", "expected type instant vector, got scalar");
    refused("ln(0)", "expected type instant vector, got scalar");
}

#[test]
fn times_beyond_all_calendars_are_refused() {
    refused("x offset 4000000000y", "too large");
    refused("x[4000000000y]", "too large");
    refused("x @ 1e18", "too large");
}

#[test]
fn holt_winters_keeps_its_older_name() {
    assert!(plan("holt_winters(x[5m], 0.5, 0.5)").is_ok());
    refused("double_exponential_smoothing(x[5m], 0.5, 0.5)", "unknown function");
}

#[cfg(feature = "http")]
#[test]
fn a_series_selector_is_nothing_else() {
    assert_eq!(series_selector(r#"up{job="x",zone!~"a|b"}"#).map(|all| all.len()), Ok(3));
    for other in ["up offset 5m", "up[5m]", "up + up", "1", "up @ 3", "{}", "up{"] {
        assert!(series_selector(other).is_err(), "{other}");
    }
}

/// The deepest query that is let through, in each way to nest.
#[test]
fn the_deepest_queries_fit_a_small_stack() {
    let around = |open: &str, count: usize, inner: String, close: &str| {
        format!("{}{inner}{}", open.repeat(count), close.repeat(count))
    };
    let chain = |link: &str| format!("x{}", link.repeat(128));
    let queries = [
        around("(", 64, chain(" ^ x"), ")"),
        around("abs(", 64, chain(" + x"), ")"),
        around("sum by (a) (", 63, chain(" or x"), ")"),
        around("clamp_min(", 64, format!("{}x", "-".repeat(128)), ", 1)"),
        around("min_over_time((", 20, chain(" - 1"), ")[5m:])"),
    ];
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let run = small.spawn(move || {
        for query in queries {
            assert!(plan(&query).is_ok(), "{query:.60}: {:?}", plan(&query).err());
        }
    });
    run.expect("a thread").join().expect("no overflow");
}

#[test]
fn endless_queries_are_refused_before_they_are_parsed() {
    for query in [
        "(",
        "-",
        "x+",
        "{",
        "x[",
        "a or ",
        "\"",
        "sum(",
        "1e9",
        "[1:",
        "x[5m:]",
        "x,",
        "a(x)[5m:]",
    ] {
        let _ = plan(&query.repeat(20_000));
    }
}

/// Pieces of which many queries can be made, most of them bad.
const PIECES: [&str; 46] = [
    "x",
    "sum",
    "rate",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "5m",
    "1h",
    "ms",
    "1e300",
    "0x",
    "1",
    ".5",
    "NaN",
    "inf",
    ":",
    ",",
    "=",
    "=~",
    "!~",
    "\"a\"",
    "'(",
    "`",
    "\\",
    "#",
    "\n",
    "@",
    "start()",
    "offset",
    "-",
    "+",
    "*",
    "^",
    "and",
    "bool",
    "on",
    "by",
    "group_left",
    "é",
    "atan2",
    "==",
    "0b",
    "label_replace",
];

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,60}") {
        let _ = plan(&text);
    }

    #[test]
    fn no_pieces_of_queries_panic(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..16),
        separator in prop::sample::select(&["", " "][..]),
    ) {
        let _ = plan(&pieces.join(separator));
    }
}
