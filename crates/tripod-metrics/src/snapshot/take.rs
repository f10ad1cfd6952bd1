//! Reading the cells into plain data.

use std::time::{Duration, UNIX_EPOCH};

use super::{FamilySnapshot, HistogramSnapshot, SeriesSnapshot, Value};
use crate::cells::Sums;
use crate::definition::Shape;
use crate::histogram::{exponential_snapshot, read_classic};
use crate::labels::parse_pairs;
use crate::reading::Reading;
use crate::series::{Cell, SeriesSet, SeriesView, ValueView};
use crate::summary::summary_snapshot;
use crate::sync::Ordering;

/// Reads one family; `None` if it has no series.
pub(crate) fn family(
    set: &SeriesSet,
    constant_labels: &[(String, String)],
) -> Option<FamilySnapshot> {
    let observed = set.ask_observers();
    let now_ms = set.shared.now_ms();
    let mut sums = Sums::new(&set.shared.cells);
    let mut series = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from {
        sums.forget();
        from = set.visit(start, 256, &observed, |view| {
            let mut labels = constant_labels.to_vec();
            labels.extend(parse_pairs(view.labels));
            let created = UNIX_EPOCH + Duration::from_millis(view.created_ms);
            let value = value(set, &mut sums, &view, now_ms);
            series.push(SeriesSnapshot { labels, created, value });
        });
    }
    let definition = &set.definition;
    (!series.is_empty()).then(|| FamilySnapshot {
        name: definition.name.clone(),
        help: definition.help.clone(),
        unit: definition.unit.clone(),
        kind: definition.kind(),
        series,
    })
}

/// Reads one series.
fn value(set: &SeriesSet, sums: &mut Sums<'_>, view: &SeriesView<'_>, now_ms: u64) -> Value {
    let shape = &set.definition.shape;
    match (&view.value, shape) {
        (ValueView::Observed(Reading::Count(count)), _) => Value::Counter(*count),
        (ValueView::Observed(Reading::Value(value)), Shape::FloatCounter) => {
            Value::FloatCounter(*value)
        }
        (ValueView::Observed(Reading::Value(value)), _) => Value::Gauge(*value),
        (ValueView::Cell(Cell::Gauge(bits)), _) => {
            Value::Gauge(f64::from_bits(bits.load(Ordering::Relaxed)))
        }
        (ValueView::Cell(Cell::Slot(slot)), Shape::Classic(bounds)) => {
            let exemplars = set.exemplars.of(view.position).into_iter();
            let by_bucket =
                exemplars.filter_map(|(at, one)| Some((usize::try_from(at).ok()?, one)));
            Value::Histogram(HistogramSnapshot {
                exemplars: by_bucket.collect(),
                ..read_classic(&set.shared, bounds, *slot)
            })
        }
        (ValueView::Cell(Cell::Slot(slot)), Shape::FloatCounter) => {
            Value::FloatCounter(f64::from_bits(sums.bits(*slot)))
        }
        (ValueView::Cell(Cell::Slot(slot)), _) => Value::Counter(sums.bits(*slot)),
        (ValueView::Cell(Cell::Exponential(series)), _) => {
            let mut snapshot = exponential_snapshot(series);
            let exemplars = set.exemplars.of(view.position).into_iter();
            snapshot.exemplars = exemplars.map(|(_, exemplar)| exemplar).collect();
            snapshot.exemplars.sort_by_key(|exemplar| exemplar.time);
            let surplus = snapshot.exemplars.len().saturating_sub(super::EXEMPLARS_MAX);
            snapshot.exemplars.drain(..surplus);
            Value::Exponential(snapshot)
        }
        (ValueView::Cell(Cell::Summary(series)), shape) => {
            Value::Summary(summary_snapshot(shape, series, now_ms))
        }
    }
}
