//! Answers of both sides in one form, and what differs between two of them.

use std::collections::BTreeMap;

use serde_json::Value;
use tripod_history::promql::{ErrorKind, QueryError, QueryValue};
use tripod_history::{Labels, Point};

use super::grammar::Query;

/// How far apart two values may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    /// Relative to the larger of the two.
    pub(crate) relative: f64,
    /// In any case: what is left when large numbers are subtracted is as wrong as they are.
    pub(crate) absolute: f64,
}

impl Tolerance {
    fn accepts(self, a: f64, b: f64) -> bool {
        let apart = (a - b).abs();
        a == b
            || a.is_nan() && b.is_nan()
            || apart <= self.relative * a.abs().max(b.abs())
            || apart <= self.absolute
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    kind: String,
    /// In the order of the answer.
    pub(crate) series: Vec<(Labels, Vec<Point>)>,
    text: Option<String>,
}

impl Answer {
    /// From what stands under `data` in an HTTP answer.
    pub(crate) fn from_json(data: &Value) -> Self {
        let kind = data["resultType"].as_str().expect("a type").to_owned();
        let result = &data["result"];
        let (mut series, mut text) = (Vec::new(), None);
        match &*kind {
            "scalar" => series.push((Labels::default(), vec![point(result)])),
            "string" => text = result[1].as_str().map(str::to_owned),
            _ => {
                for item in result.as_array().expect("a list") {
                    let metric = item["metric"].as_object().expect("labels");
                    let labels = Labels::new(
                        metric
                            .iter()
                            .map(|(name, value)| (name.as_str(), value.as_str().expect("a text"))),
                    );
                    let points = match item["values"].as_array() {
                        Some(values) => values.iter().map(point).collect(),
                        None => vec![point(&item["value"])],
                    };
                    series.push((labels, points));
                }
            }
        }
        Self { kind, series, text }
    }

    fn from_value(value: &QueryValue) -> Self {
        let kind = value.kind().to_owned();
        let (mut series, mut text) = (Vec::new(), None);
        match value.clone() {
            QueryValue::Scalar(point) => series.push((Labels::default(), vec![point])),
            QueryValue::String { value, .. } => text = Some(value),
            QueryValue::Vector(samples) => {
                series.extend(samples.into_iter().map(|sample| (sample.labels, vec![sample.point])))
            }
            QueryValue::Matrix(matrix) => {
                series.extend(matrix.into_iter().map(|series| (series.labels, series.points)));
            }
            other => panic!("an unknown kind of value: {other:?}"),
        }
        Self { kind, series, text }
    }
}

fn point(pair: &Value) -> Point {
    let seconds = pair[0].as_f64().expect("a time");
    let text = pair[1].as_str().expect("a value");
    let value = text.parse().expect("a number");
    Point { time_ms: (seconds * 1000.0).round() as i64, value }
}

/// What differs, or `None` if nothing does. Two errors agree if they are of one kind.
pub(crate) fn difference(
    query: &Query,
    ours: &Result<QueryValue, QueryError>,
    theirs: &Result<Answer, String>,
    tolerance: Tolerance,
) -> Option<String> {
    let (ours, theirs) = match (ours, theirs) {
        (Err(ours), Err(theirs)) => {
            let same = theirs.starts_with(kind_name(ours.kind()));
            return (!same).then(|| format!("ours fails: {ours}, theirs: {theirs}"));
        }
        (Err(error), Ok(_)) => return Some(format!("ours fails: {error}")),
        (Ok(value), Err(error)) => {
            return Some(format!("theirs fails: {error}; ours: {value:.300?}"));
        }
        (Ok(ours), Ok(theirs)) => (Answer::from_value(ours), theirs),
    };
    if ours.kind != theirs.kind || ours.text != theirs.text {
        return Some(format!("ours {ours:?}, theirs {theirs:?}"));
    }
    if query.order_matters() {
        let values = |answer: &Answer| -> Vec<Point> {
            answer.series.iter().flat_map(|(_, points)| points).copied().collect()
        };
        if let Some(difference) = points_difference(&values(&ours), &values(theirs), tolerance) {
            return Some(format!("order: {difference}"));
        }
    }
    series_difference(&ours, theirs, tolerance)
}

/// What Prometheus calls a kind of error.
fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadQuery => "bad_data",
        ErrorKind::Execution => "execution",
        _ => "another kind",
    }
}

fn series_difference(ours: &Answer, theirs: &Answer, tolerance: Tolerance) -> Option<String> {
    let by_labels = |answer: &Answer| -> BTreeMap<Labels, Vec<Point>> {
        let map: BTreeMap<_, _> = answer.series.iter().cloned().collect();
        assert_eq!(map.len(), answer.series.len(), "two series with the same labels: {answer:?}");
        map
    };
    let (ours, theirs) = (by_labels(ours), by_labels(theirs));
    for labels in ours.keys().chain(theirs.keys()) {
        match (ours.get(labels), theirs.get(labels)) {
            (Some(ours), Some(theirs)) => {
                if let Some(difference) = points_difference(ours, theirs, tolerance) {
                    return Some(format!("{labels}: {difference}"));
                }
            }
            (None, _) => return Some(format!("{labels} is missing in ours")),
            (_, None) => return Some(format!("{labels} is only in ours")),
        }
    }
    None
}

fn points_difference(ours: &[Point], theirs: &[Point], tolerance: Tolerance) -> Option<String> {
    if ours.len() != theirs.len() {
        return Some(format!("{} points, theirs has {}", ours.len(), theirs.len()));
    }
    let differs = |(ours, theirs): &(&Point, &Point)| {
        ours.time_ms != theirs.time_ms || !tolerance.accepts(ours.value, theirs.value)
    };
    ours.iter()
        .zip(theirs)
        .find(differs)
        .map(|(ours, theirs)| format!("ours {ours:?}, theirs {theirs:?}"))
}
