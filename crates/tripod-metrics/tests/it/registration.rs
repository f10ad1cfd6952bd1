//! Registration: what is the same family, what conflicts, and what is refused.

use tripod_metrics::{Clash, DEFAULT_BUCKETS, LabelError, MetricsCollector, RegisterError};

use crate::checker;

#[test]
fn the_same_description_twice_is_one_family() {
    let metrics = MetricsCollector::new();
    let gauges =
        [(); 2].map(|()| metrics.clone().gauge("open", "Open.").labels(["x"]).register().unwrap());
    gauges[0].with(&["a"]).unwrap().set(3.0);
    assert_eq!(gauges[1].with(&["a"]).unwrap().get(), 3.0);

    // The bucket up to +Inf is there whether it is given or not.
    let bounds = [vec![1.0, 2.0], vec![1.0, 2.0, f64::INFINITY]];
    let histograms =
        bounds.map(|bounds| metrics.histogram("size", "Size.").buckets(bounds).register().unwrap());
    histograms[0].plain().observe(1.5);
    assert_eq!(histograms[1].plain().snapshot().count, 1);
}

#[test]
fn a_conflict_names_both_places() {
    let metrics = MetricsCollector::new();
    let existing_line = line!() + 1;
    metrics.counter("jobs_total", "Jobs.").register().unwrap();
    let attempted_line = line!() + 1;
    let builder = metrics.float_counter("jobs_total", "Jobs.");
    let error = builder.register().unwrap_err();
    let RegisterError::Conflict { attempted, existing, .. } = &error else { panic!("{error}") };
    assert_eq!((attempted.file(), attempted.line()), (file!(), attempted_line));
    assert_eq!((existing.file(), existing.line()), (file!(), existing_line));
    let message = error.to_string();
    for part in [&attempted.to_string(), &existing.to_string(), "\"jobs_total\"", "types differ"] {
        assert!(message.contains(part), "{part:?} in {message:?}");
    }
}

#[test]
fn the_same_name_with_another_description_conflicts() {
    let metrics = MetricsCollector::new();
    let describe = || metrics.histogram("size", "Size.").labels(["x", "y"]).buckets([1.0]);
    describe().register().unwrap();
    let cases = [
        (metrics.gauge("size", "Size.").labels(["x", "y"]).register().err(), Clash::Type),
        (describe().labels(["y", "x"]).register().err(), Clash::Labels),
        (describe().labels(["x"]).register().err(), Clash::Labels),
        (describe().buckets([1.0, 2.0]).register().err(), Clash::Buckets),
        (describe().buckets(DEFAULT_BUCKETS).register().err(), Clash::Buckets),
        (
            metrics.histogram("size", "Length.").labels(["x", "y"]).buckets([1.0]).register().err(),
            Clash::Help,
        ),
    ];
    for (error, expected) in cases {
        let Some(RegisterError::Conflict { clash, .. }) = error else { panic!("{error:?}") };
        assert_eq!(clash, expected);
    }
    describe().register().unwrap();
}

#[test]
fn names_of_histogram_lines_are_taken_in_either_order() {
    for suffix in ["_bucket", "_sum", "_count"] {
        let name = format!("size{suffix}");
        let metrics = MetricsCollector::new();
        metrics.histogram("size", "Size.").register().unwrap();
        let after = metrics.gauge(&name, "Size.").register().unwrap_err();

        let metrics = MetricsCollector::new();
        metrics.gauge(&name, "Size.").register().unwrap();
        let before = metrics.histogram("size", "Size.").register().unwrap_err();

        for (error, ours, theirs) in [(after, &*name, "size"), (before, "size", &*name)] {
            let RegisterError::Conflict { name, existing_name, clash, .. } = error else {
                panic!("{error}")
            };
            assert_eq!((&*name, &*existing_name, clash), (ours, theirs, Clash::Lines));
        }

        // Beside anything but a histogram the name is free.
        let metrics = MetricsCollector::new();
        metrics.gauge("size", "Size.").register().unwrap();
        metrics.gauge(&name, "Size.").register().unwrap();
    }
}

#[test]
fn names_are_checked() {
    let metrics = MetricsCollector::new();
    for name in ["", "0a", "a-b", "a b", "é", "a:b", "a\n", "a\""] {
        let error = metrics.gauge(name, "Any.").register().unwrap_err();
        assert_eq!(error, RegisterError::InvalidName { name: name.to_owned() });
    }
    for name in ["jobs", "_total", "jobs_total_", "jobs_Total"] {
        let error = metrics.counter(name, "Any.").register().unwrap_err();
        assert_eq!(error, RegisterError::CounterName { name: name.to_owned() });
    }
    for name in ["jobs_total", "_total"] {
        let error = metrics.gauge(name, "Any.").register().unwrap_err();
        assert_eq!(error, RegisterError::TotalName { name: name.to_owned() });
    }
    for help in ["", " ", "\n\t"] {
        let error = metrics.gauge("open", help).register().unwrap_err();
        assert_eq!(error, RegisterError::EmptyHelp { name: "open".to_owned() });
    }
    for name in ["_", "A9", "__a"] {
        metrics.gauge(name, "Any.").register().unwrap();
    }
}

#[test]
fn labels_are_checked_in_families_and_among_constant_labels() {
    let metrics = MetricsCollector::builder().constant_label("zone", "").build().unwrap();
    let with_labels = |labels: &[&str]| {
        let builder = metrics.gauge("open", "Open.").labels(labels.iter().copied());
        builder.register().unwrap_err()
    };
    for label in ["", "0", "a-b", "é", "__a", "le", "quantile", "a:b"] {
        let expected = RegisterError::InvalidLabelName { label: label.to_owned() };
        assert_eq!(with_labels(&["ok", label]), expected);
        let constant = MetricsCollector::builder().constant_label(label, "v").build();
        assert_eq!(constant.unwrap_err(), expected);
    }
    let twice = |label: &str| RegisterError::DuplicateLabel { label: label.to_owned() };
    assert_eq!(with_labels(&["a", "b", "a"]), twice("a"));
    assert_eq!(with_labels(&["a", "zone"]), twice("zone"));
    let constants = MetricsCollector::builder().constant_label("a", "1").constant_label("a", "2");
    assert_eq!(constants.build().unwrap_err(), twice("a"));
}

#[test]
fn buckets_are_checked() {
    let metrics = MetricsCollector::new();
    let infinity = f64::INFINITY;
    let refused: [&[f64]; 8] = [
        &[],
        &[infinity],
        &[1.0, 1.0],
        &[2.0, 1.0],
        &[-infinity, 1.0],
        &[1.0, infinity, infinity],
        &[infinity, 1.0],
        &[-0.0, 0.0],
    ];
    for buckets in refused {
        let error = metrics.histogram("size", "Size.").buckets(buckets).register().unwrap_err();
        let expected =
            RegisterError::InvalidBuckets { name: "size".to_owned(), buckets: buckets.to_vec() };
        assert_eq!(error, expected);
    }
    let error = metrics.histogram("size", "Size.").buckets([1.0, f64::NAN]).register().unwrap_err();
    assert!(error.to_string().contains("got [1.0, NaN]"), "{error}");
    let histogram = metrics.histogram("size", "Size.").register().unwrap().plain();
    let bounds: Vec<_> = histogram.snapshot().buckets.iter().map(|bucket| bucket.0).collect();
    assert_eq!(bounds[..11], DEFAULT_BUCKETS);
    assert_eq!(bounds[11..], [infinity]);
}

#[test]
fn a_refused_family_leaves_no_trace() {
    let metrics = MetricsCollector::new();
    metrics.gauge("open", "").register().unwrap_err();
    metrics.gauge("open", "Open.").register().unwrap().plain();
    metrics.histogram("open", "Open.").register().unwrap_err();
    assert_eq!(checker::read(&metrics.encode_text()).len(), 1);
}

#[test]
fn a_wrong_number_of_values_is_refused_and_makes_no_series() {
    let metrics = MetricsCollector::new();
    let family = metrics.counter("jobs_total", "Jobs.").labels(["x", "y"]).register().unwrap();
    for values in [&[][..], &["a"], &["a", "b", "c"]] {
        let error = family.with(values).unwrap_err();
        let family = "jobs_total".to_owned();
        assert_eq!(error, LabelError::Count { family, expected: 2, got: values.len() });
    }
    assert_eq!(checker::read(&metrics.encode_text()), []);
}

#[test]
#[should_panic(expected = "\"jobs_total\" has 1 labels, got 0 values")]
fn a_family_with_labels_has_no_plain_series() {
    let metrics = MetricsCollector::new();
    let family = metrics.counter("jobs_total", "Jobs.").labels(["x"]).register().unwrap();
    drop(family.plain());
}
