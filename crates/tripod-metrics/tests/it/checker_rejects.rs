//! The checker itself: it must find every kind of defect, or the other tests prove nothing.

use crate::checker::{Defect, Dialect, check, check_as};

const GOOD: &str = r#"# HELP a_total A "quoted" \\ help\nof two lines.
# TYPE a_total counter
a_total{x="ab",y="c"} 18446744073709551615
a_total{x="a",y="b\\c\"d\n"} 0
# HELP g G.
# TYPE g gauge
g -1.5e-7
# HELP h H.
# TYPE h histogram
h_bucket{x="1",le="0.5"} 1
h_bucket{x="1",le="+Inf"} 3
h_sum{x="1"} NaN
h_count{x="1"} 3
"#;

#[test]
fn a_right_page_is_read_with_its_escapes_undone() {
    let families = check(GOOD).unwrap();
    assert_eq!(families.len(), 3);
    assert_eq!(families[0].help, "A \"quoted\" \\ help\nof two lines.");
    assert_eq!(
        families[0].values("a_total"),
        [(vec!["ab", "c"], "18446744073709551615"), (vec!["a", "b\\c\"d\n"], "0")]
    );
    assert_eq!(check("").unwrap(), []);
}

/// Replaces one piece of the good page and expects the defect that follows.
#[track_caller]
fn rejects(good: &str, bad: &str, expected: Defect) {
    assert_eq!(GOOD.matches(good).count(), 1, "{good:?} must be there once");
    let found = check(&GOOD.replace(good, bad)).map_err(|(_, defect)| defect);
    assert_eq!(found, Err(expected), "{good:?} -> {bad:?}");
}

#[test]
fn a_bad_frame_is_rejected() {
    rejects("h_count{x=\"1\"} 3\n", "h_count{x=\"1\"} 3", Defect::NoFinalNewline);
    rejects("# HELP g G.\n", "", Defect::NoHelp);
    rejects("# HELP a_total A \"quoted\" \\\\ help\\nof two lines.\n", "", Defect::NoHelp);
    rejects("# TYPE g gauge\n", "", Defect::NoType);
    rejects("# TYPE g gauge", "# TYPE f gauge", Defect::NoType);
    rejects("# TYPE g gauge", "# TYPE g gouge", Defect::UnknownType);
    rejects("g -1.5e-7\n", "", Defect::NoSamples);
    rejects("g -1.5e-7\n", "g -1.5e-7\n\n", Defect::BadSyntax);
    rejects("g -1.5e-7\n", "f -1.5e-7\n", Defect::ForeignSample);
    let again = "g 1\n# HELP g G.\n# TYPE g gauge\ng 2\n";
    rejects("g -1.5e-7\n", again, Defect::FamilyTwice);
}

#[test]
fn bad_escapes_are_rejected() {
    rejects("\\\\ help", "\\ help", Defect::BadEscape);
    rejects("\\\\ help", "\\\" help", Defect::BadEscape);
    rejects("help\\nof two", "help\nof two", Defect::NoType);
    rejects("b\\\\c", "b\\c", Defect::BadEscape);
    rejects("c\\\"d", "c\"d", Defect::BadSyntax);
    rejects("d\\n\"", "d\n\"", Defect::BadSyntax);
    rejects("d\\n\"", "d\\\"", Defect::BadSyntax);
}

#[test]
fn bad_names_labels_and_numbers_are_rejected() {
    rejects("a_total{x=\"ab\"", "a-total{x=\"ab\"", Defect::BadName);
    rejects("{x=\"ab\"", "{0=\"ab\"", Defect::BadName);
    rejects("{x=\"ab\"", "{__x=\"ab\"", Defect::BadName);
    rejects("{x=\"ab\"", "{y=\"ab\"", Defect::LabelTwice);
    rejects("{x=\"ab\"", "{le=\"ab\"", Defect::ReservedLabel);
    rejects("h_sum{x=\"1\"}", "h_sum{x=\"1\",le=\"1\"}", Defect::ReservedLabel);
    rejects("y=\"c\"}", "y=\"c\",}", Defect::BadSyntax);
    rejects("18446744073709551615", "18446744073709551616", Defect::BadNumber);
    rejects("18446744073709551615", "1.0", Defect::BadNumber);
    rejects("-1.5e-7", "1,5", Defect::BadNumber);
    rejects("-1.5e-7", "inf", Defect::BadNumber);
    rejects("-1.5e-7", "", Defect::BadNumber);
}

#[test]
fn duplicate_series_are_rejected() {
    let original = "a_total{x=\"ab\",y=\"c\"} 18446744073709551615\n";
    rejects(original, &format!("{original}{original}"), Defect::SeriesTwice);
    let reordered = format!("{original}a_total{{y=\"c\",x=\"ab\"}} 7\n");
    rejects(original, &reordered, Defect::SeriesTwice);
    rejects("g -1.5e-7\n", "g 1\ng 2\n", Defect::SeriesTwice);
    let bucket = "h_bucket{x=\"1\",le=\"0.5\"} 1\n";
    rejects(bucket, &format!("{bucket}{bucket}"), Defect::SeriesTwice);
}

#[test]
fn torn_or_partial_histograms_are_rejected() {
    rejects("h_sum{x=\"1\"} NaN\n", "", Defect::NoSum);
    rejects("h_count{x=\"1\"} 3\n", "", Defect::NoCount);
    rejects("h_bucket{x=\"1\",le=\"+Inf\"} 3\n", "", Defect::NoInfinity);
    rejects("le=\"0.5\"} 1", "le=\"0.5\"} 4", Defect::BucketsNotMonotone);
    rejects("le=\"+Inf\"} 3", "le=\"+Inf\"} 4", Defect::InfinityIsNotCount);
    rejects("h_count{x=\"1\"} 3", "h_count{x=\"1\"} 4", Defect::InfinityIsNotCount);
    let bucket = "h_bucket{x=\"1\",le=\"0.5\"} 1\n";
    let descending = format!("{bucket}h_bucket{{x=\"1\",le=\"0.25\"}} 2\n");
    rejects(bucket, &descending, Defect::BoundsNotAscending);
    rejects("h_bucket{x=\"1\",le=\"0.5\"}", "h_bucket{x=\"1\"}", Defect::ForeignSample);
    rejects("h_sum{x=\"1\"}", "h_sum{x=\"2\"}", Defect::SeriesSplit);
}

const GOOD_OPENMETRICS: &str = r#"# TYPE a counter
# HELP a An \"escaped\" help\nof two lines.
a_total{x="1"} 7 # {trace_id="a\"b"} 1.0 12.5
a_created{x="1"} 1000.5
# TYPE h_bytes histogram
# UNIT h_bytes bytes
# HELP h_bytes H.
h_bytes_bucket{le="0.5"} 1
h_bytes_bucket{le="1e+06"} 2 # {} 7 12.5
h_bytes_bucket{le="+Inf"} 3
h_bytes_sum 12.5
h_bytes_count 3
h_bytes_created 1000.5
# TYPE n histogram
# HELP n N.
n_bucket{le="-0.5"} 1
n_bucket{le="+Inf"} 3
n_created 1000.5
# TYPE s summary
# HELP s S.
s{quantile="0.5"} 4.0
s{quantile="0.99"} NaN
s_sum 8
s_count 2
s_created 1000.5
# EOF
"#;

#[test]
fn a_right_openmetrics_page_is_read() {
    let families = check_as(Dialect::OpenMetrics, GOOD_OPENMETRICS).unwrap();
    assert_eq!(families.len(), 4);
    assert_eq!(families[0].help, "An \"escaped\" help\nof two lines.");
    assert_eq!(families[1].unit.as_deref(), Some("bytes"));
    let exemplar = families[0].samples[0].exemplar.as_ref().unwrap();
    assert_eq!(exemplar.labels, [("trace_id".to_owned(), "a\"b".to_owned())]);
    assert_eq!((&*exemplar.value, &*exemplar.time), ("1.0", "12.5"));
}

/// As [`rejects`], in OpenMetrics.
#[track_caller]
fn rejects_openmetrics(good: &str, bad: &str, expected: Defect) {
    assert_eq!(GOOD_OPENMETRICS.matches(good).count(), 1, "{good:?} must be there once");
    let page = GOOD_OPENMETRICS.replace(good, bad);
    let found = check_as(Dialect::OpenMetrics, &page).map_err(|(_, defect)| defect);
    assert_eq!(found, Err(expected), "{good:?} -> {bad:?}");
}

#[test]
fn a_bad_openmetrics_frame_is_rejected() {
    rejects_openmetrics("# EOF\n", "", Defect::NoEof);
    rejects_openmetrics("# EOF\n", "# EOF", Defect::NoFinalNewline);
    let swapped = "# HELP s S.\n# TYPE s summary\n";
    rejects_openmetrics("# TYPE s summary\n# HELP s S.\n", swapped, Defect::NoType);
    rejects_openmetrics("An \\\"escaped", "An \"escaped", Defect::BadEscape);
    rejects_openmetrics("# UNIT h_bytes bytes", "# UNIT h_bytes seconds", Defect::BadUnit);
    rejects_openmetrics("s_sum 8", "s_sun 8", Defect::ForeignSample);
    rejects_openmetrics("a_created{x=\"1\"} 1000.5\n", "", Defect::BadNumber);
    let clashing = "# TYPE a_created gauge\n# HELP a_created A.\na_created 1\n# TYPE s summary\n";
    rejects_openmetrics("# TYPE s summary\n", clashing, Defect::NamesClash);
}

#[test]
fn bad_openmetrics_numbers_and_exemplars_are_rejected() {
    rejects_openmetrics("1e+06", "1000000.0", Defect::NotCanonical);
    rejects_openmetrics(
        "h_bytes_bucket{le=\"0.5\"",
        "h_bytes_bucket{le=\".5\"",
        Defect::NotCanonical,
    );
    rejects_openmetrics("\"} 7 #", "\"} NaN #", Defect::BadNumber);
    rejects_openmetrics("\"} 7 #", "\"} -7.5 #", Defect::NegativeCount);
    rejects_openmetrics("s_sum 8", "s_sum -8", Defect::NegativeCount);
    rejects_openmetrics("} 4.0", "} -4.0", Defect::NegativeCount);
    rejects_openmetrics("quantile=\"0.99\"", "quantile=\"1.01\"", Defect::BadQuantile);
    rejects_openmetrics("h_bytes_sum 12.5", "h_bytes_sum NaN", Defect::NegativeCount);
    rejects_openmetrics("h_bytes_count 3\n", "", Defect::NoCount);
    rejects_openmetrics("h_bytes_sum 12.5\n", "", Defect::NoSum);
    rejects_openmetrics("n_created", "n_sum 2\nn_count 3\nn_created", Defect::NegativeCount);
    rejects_openmetrics("{} 7 12.5", "{} 0.5 12.5", Defect::BadExemplar);
    rejects_openmetrics("{} 7 12.5", "{} 7", Defect::BadExemplar);
    let long = format!("{{a=\"{}\"}} 7 12.5", "é".repeat(128));
    rejects_openmetrics("{} 7 12.5", &long, Defect::BadExemplar);
    rejects_openmetrics("s_count 2", "s_count 2 # {} 1 1", Defect::BadExemplar);
}
