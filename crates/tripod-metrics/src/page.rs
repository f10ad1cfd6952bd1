//! The text pages: what they share, and how the series of a family are gone through.
//!
//! Names and labels were checked when they were registered, so whatever is written can be parsed: one
//! bad line would cost a scraper the whole page. The label text of a series was written when the
//! series was made and is copied; a page is one copy, one sum and a few digits a line.

mod openmetrics;
mod text;

pub(crate) use openmetrics::OpenMetrics;
pub(crate) use text::Text004;

use crate::cells::Sums;
use crate::definition::{Definition, Shape};
use crate::histogram::{by_powers_of_two, read_classic};
use crate::number;
use crate::reading::Reading;
use crate::series::{Cell, SeriesSet, SeriesView, ValueView};
use crate::snapshot::{Exemplar, HistogramSnapshot, Kind, SummarySnapshot};
use crate::summary::summary_snapshot;
use crate::sync::Ordering;

/// The `Content-Type` under which a page in the format 0.0.4 is to be served.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The `Content-Type` under which an OpenMetrics page is to be served.
pub const OPENMETRICS_CONTENT_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What an OpenMetrics page ends in.
pub(crate) const OPENMETRICS_END: &str = "# EOF\n";

/// Series that are written before the lock of their family is let go for a moment.
const SERIES_PER_LOCK: usize = 1024;

/// Room for what stands behind the labels of a counter.
const LINE_END_BYTES: usize = 2 + 20 + 1;

/// How one format writes things.
pub(crate) trait Format {
    /// The lines before the first series of a family.
    fn header(out: &mut String, definition: &Definition);
    /// A bound or quantile within quotes.
    fn bound(out: &mut String, bound: f64);
    /// Whether the time of creation is written.
    const SHOWS_CREATED: bool;
    /// Whether exemplars are written.
    const SHOWS_EXEMPLARS: bool;
    /// Whether what belongs to negative values may be written. OpenMetrics forbids sums and quantiles
    /// below 0, and the sum and the count of a histogram with negative bounds.
    const SHOWS_NEGATIVE: bool;
}

/// What the lines of one family have in common.
struct Family<'a> {
    definition: &'a Definition,
    /// What a line with labels begins with: `name{constant="x",` or `name{`.
    prefix: String,
    constant: &'a str,
}

/// Writes one family, or nothing if it has no series; `flush` takes what has been written whenever
/// no lock is held.
pub(crate) fn write_family<F: Format, E>(
    out: &mut String,
    set: &SeriesSet,
    constant: &str,
    flush: &mut impl FnMut(&mut String) -> Result<(), E>,
) -> Result<(), E> {
    let definition = &set.definition;
    let observed = set.ask_observers();
    let now_ms = set.shared.now_ms();
    let mut prefix = format!("{}{{", definition.name);
    prefix.push_str(constant);
    prefix.push_str(if constant.is_empty() { "" } else { "," });
    let family = Family { definition, prefix, constant };
    let mut sums = Sums::new(&set.shared.cells);
    let mut is_first = true;
    let mut from = Some(0);
    while let Some(start) = from {
        sums.forget();
        from = set.visit(start, SERIES_PER_LOCK, &observed, |view| {
            if std::mem::take(&mut is_first) {
                F::header(out, definition);
            }
            write_series::<F>(out, &family, set, &mut sums, view, now_ms);
        });
        flush(out)?;
    }
    Ok(())
}

#[inline]
fn write_series<F: Format>(
    out: &mut String,
    family: &Family<'_>,
    set: &SeriesSet,
    sums: &mut Sums<'_>,
    view: SeriesView<'_>,
    now_ms: u64,
) {
    let line = Line { family, labels: view.labels };
    match (&view.value, &family.definition.shape) {
        (ValueView::Cell(Cell::Slot(slot)), Shape::Counter) => {
            line.start(out);
            number::write_whole(out, sums.bits(*slot));
            end_counter::<F>(out, set, view.position);
        }
        _ => write_other::<F>(out, &line, set, sums, &view, now_ms),
    }
    if F::SHOWS_CREATED && family.definition.kind() != Kind::Gauge {
        line.start_suffixed(out, "_created");
        number::write_seconds(out, view.created_ms);
        out.push('\n');
    }
}

/// Writes a series that is not the most usual one, a counter of whole numbers.
fn write_other<F: Format>(
    out: &mut String,
    line: &Line<'_>,
    set: &SeriesSet,
    sums: &mut Sums<'_>,
    view: &SeriesView<'_>,
    now_ms: u64,
) {
    let shape = &line.family.definition.shape;
    match &view.value {
        ValueView::Observed(Reading::Count(count)) => {
            line.start(out);
            number::write_whole(out, *count);
            out.push('\n');
        }
        ValueView::Observed(Reading::Value(value)) => line.write_float(out, *value),
        ValueView::Cell(Cell::Gauge(bits)) => {
            line.write_float(out, f64::from_bits(bits.load(Ordering::Relaxed)));
        }
        ValueView::Cell(Cell::Slot(slot)) => match shape {
            Shape::Classic(bounds) => {
                let snapshot = read_classic(&set.shared, bounds, *slot);
                let exemplars = exemplars::<F>(set, view.position);
                write_histogram::<F>(out, line, &snapshot, &exemplars);
            }
            _ => {
                line.start(out);
                number::write_float(out, f64::from_bits(sums.bits(*slot)));
                end_counter::<F>(out, set, view.position);
            }
        },
        ValueView::Cell(Cell::Exponential(series)) => {
            let snapshot = by_powers_of_two(&series.read(), series.scale().schema());
            write_histogram::<F>(out, line, &snapshot, &[]);
        }
        ValueView::Cell(Cell::Summary(series)) => {
            write_summary::<F>(out, line, &summary_snapshot(shape, series, now_ms));
        }
    }
}

/// Ends the line of a counter, with its exemplar if the format has them.
#[inline]
fn end_counter<F: Format>(out: &mut String, set: &SeriesSet, position: u32) {
    if F::SHOWS_EXEMPLARS
        && let Some((_, exemplar)) = set.exemplars.of(position).first()
    {
        openmetrics::write_exemplar(out, exemplar);
    }
    out.push('\n');
}

fn exemplars<F: Format>(set: &SeriesSet, position: u32) -> Vec<(i32, Exemplar)> {
    if F::SHOWS_EXEMPLARS { set.exemplars.of(position) } else { Vec::new() }
}

fn write_histogram<F: Format>(
    out: &mut String,
    line: &Line<'_>,
    snapshot: &HistogramSnapshot,
    exemplars: &[(i32, Exemplar)],
) {
    for (bucket, (bound, count)) in snapshot.buckets.iter().enumerate() {
        line.start_bound::<F>(out, "_bucket", "le", *bound);
        number::write_whole(out, *count);
        let exemplar = exemplars.iter().find(|(at, _)| usize::try_from(*at) == Ok(bucket));
        if let Some((_, exemplar)) = exemplar {
            openmetrics::write_exemplar(out, exemplar);
        }
        out.push('\n');
    }
    let is_positive = snapshot.buckets.first().is_none_or(|(bound, _)| *bound >= 0.0);
    if F::SHOWS_NEGATIVE || is_positive && snapshot.sum >= 0.0 {
        write_sum(out, line, snapshot.sum);
        write_count(out, line, snapshot.count);
    }
}

fn write_summary<F: Format>(out: &mut String, line: &Line<'_>, snapshot: &SummarySnapshot) {
    let is_shown = |value: f64| F::SHOWS_NEGATIVE || value.is_nan() || value >= 0.0;
    for (quantile, value) in snapshot.quantiles.iter().filter(|(_, value)| is_shown(*value)) {
        line.start_bound::<F>(out, "", "quantile", *quantile);
        number::write_float(out, *value);
        out.push('\n');
    }
    if F::SHOWS_NEGATIVE || snapshot.sum >= 0.0 {
        write_sum(out, line, snapshot.sum);
    }
    write_count(out, line, snapshot.count);
}

fn write_sum(out: &mut String, line: &Line<'_>, sum: f64) {
    line.start_suffixed(out, "_sum");
    number::write_float(out, sum);
    out.push('\n');
}

fn write_count(out: &mut String, line: &Line<'_>, count: u64) {
    line.start_suffixed(out, "_count");
    number::write_whole(out, count);
    out.push('\n');
}

/// The lines of one series.
struct Line<'a> {
    family: &'a Family<'a>,
    labels: &'a str,
}

impl Line<'_> {
    /// Writes `name{labels} `, as counters and gauges have it.
    #[inline]
    fn start(&self, out: &mut String) {
        let Family { definition, prefix, .. } = self.family;
        if self.labels.is_empty() {
            self.start_suffixed_with(out, &definition.name, "");
            return;
        }
        out.reserve(prefix.len() + self.labels.len() + LINE_END_BYTES);
        out.push_str(prefix);
        out.push_str(self.labels);
        out.push_str("} ");
    }

    /// Writes the whole line of a gauge or an observed counter.
    fn write_float(&self, out: &mut String, number: f64) {
        self.start(out);
        number::write_float(out, number);
        out.push('\n');
    }

    /// Writes `name_suffix{labels} `; the name is that of the family in OpenMetrics.
    fn start_suffixed(&self, out: &mut String, suffix: &str) {
        self.start_suffixed_with(out, self.family.definition.family_name(), suffix);
    }

    fn start_suffixed_with(&self, out: &mut String, name: &str, suffix: &str) {
        out.push_str(name);
        out.push_str(suffix);
        let is_labelled = self.open_labels(out);
        out.push_str(if is_labelled { "} " } else { " " });
    }

    /// Writes `name_suffix{labels,le="bound"} `.
    fn start_bound<F: Format>(&self, out: &mut String, suffix: &str, label: &str, bound: f64) {
        out.push_str(&self.family.definition.name);
        out.push_str(suffix);
        let is_labelled = self.open_labels(out);
        out.push(if is_labelled { ',' } else { '{' });
        out.push_str(label);
        out.push_str("=\"");
        F::bound(out, bound);
        out.push_str("\"} ");
    }

    /// Writes `{labels` without the closing brace; false, and nothing, if there are no labels.
    fn open_labels(&self, out: &mut String) -> bool {
        let parts = [self.family.constant, self.labels];
        let mut is_open = false;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            out.push(if is_open { ',' } else { '{' });
            out.push_str(part);
            is_open = true;
        }
        is_open
    }
}
