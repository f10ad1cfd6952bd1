//! Times the spans of `tracing`.
//!
//! [`SpanTimes`] is a layer for a `tracing_subscriber` registry. For each span that closes it
//! records
//!
//! | family | type | what |
//! |---|---|---|
//! | `span_seconds` | histogram | from the opening of the span to its close; its count is that of the spans |
//! | `span_busy_seconds_total` | counter | how much of that it was entered, by any thread |
//! | `span_idle_seconds_total` | counter | the rest: the time that an `async` span waited |
//!
//! with the label `span`, the name of the span, and one label for each field that was chosen. A
//! field that the span does not have, or did not record, is the empty value, which Prometheus takes
//! for no label at all.
//!
//! What it guarantees: the number of series is bounded, since only chosen fields become labels, over
//! the limit of a family an overflow series takes the rest, and long values are cut at
//! [`VALUE_BYTES_MAX`]. Spans that are still open are in no family.
//!
//! Where it stops: which spans it sees is decided by the filter it is put behind. Events are not
//! looked at.

use std::fmt::{Debug, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::collector::MetricsCollector;
use crate::counter::FloatCounter;
use crate::definition::is_label_name;
use crate::error::RegisterError;
use crate::family::{DEFAULT_SERIES_MAX, Family};
use crate::histogram::{DEFAULT_BUCKETS, Histogram};

/// The most bytes of a field's value; what is longer is cut at a character.
pub const VALUE_BYTES_MAX: usize = 128;

/// The number of the next layer.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A layer that records how long spans take.
///
/// # Examples
/// ```
/// use tracing_subscriber::prelude::*;
/// use tripod_metrics::{MetricsCollector, spans::SpanTimes};
///
/// let collector = MetricsCollector::new();
/// let times = SpanTimes::builder(&collector).field("outcome").register()?;
/// let subscriber = tracing_subscriber::registry().with(times);
/// tracing::subscriber::with_default(subscriber, || {
///     let span = tracing::info_span!("load", outcome = tracing::field::Empty);
///     span.in_scope(|| { /* work */ });
///     span.record("outcome", "ok");
/// });
/// let page = collector.encode_text();
/// assert!(page.contains("span_seconds_count{span=\"load\",outcome=\"ok\"} 1\n"));
/// # Ok::<(), tripod_metrics::RegisterError>(())
/// ```
#[derive(Debug)]
pub struct SpanTimes {
    id: u64,
    fields: Vec<String>,
    exemplar_field: Option<String>,
    seconds: Family<Histogram>,
    busy: Family<FloatCounter>,
    idle: Family<FloatCounter>,
    clock: Clock,
}

/// Describes a [`SpanTimes`] before it is registered.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is registered"]
pub struct SpanTimesBuilder {
    collector: MetricsCollector,
    prefix: String,
    /// Fields and the labels that they become.
    fields: Vec<(String, String)>,
    exemplar_field: Option<String>,
    buckets: Buckets,
    series_max: usize,
    clock: Clock,
}

#[derive(Debug)]
enum Buckets {
    Classic(Vec<f64>),
    Exponential(u8),
}

/// Says how much time has gone by since some moment.
#[derive(Clone)]
struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl SpanTimesBuilder {
    /// Replaces `span` at the beginning of the names of the families.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Makes a label of a field, such as the outcome; default: none.
    ///
    /// Choose fields of few values: each set of values is a series.
    pub fn field(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.field_as(name.clone(), name)
    }

    /// Makes a label of another name of a field, for fields like `http.status`.
    pub fn field_as(mut self, field: impl Into<String>, label: impl Into<String>) -> Self {
        self.fields.push((field.into(), label.into()));
        self
    }

    /// Keeps the value of this field, such as `trace_id`, as the exemplar of its bucket; default:
    /// none.
    ///
    /// It is looked for in the span itself, not in its parents. A value that is too long for an
    /// exemplar is not kept.
    pub fn exemplar_field(mut self, field: impl Into<String>) -> Self {
        self.exemplar_field = Some(field.into());
        self
    }

    /// Sets the upper bounds of the buckets in seconds; default:
    /// [`DEFAULT_BUCKETS`].
    pub fn buckets(mut self, upper_bounds: impl Into<Vec<f64>>) -> Self {
        self.buckets = Buckets::Classic(upper_bounds.into());
        self
    }

    /// Chooses exponential buckets; see [`exponential`](crate::FamilyBuilder::exponential).
    pub fn exponential(mut self, schema: u8) -> Self {
        self.buckets = Buckets::Exponential(schema);
        self
    }

    /// Sets the most series of each of the three families; default: 2000. See
    /// [`FamilyBuilder::max_series`](crate::FamilyBuilder::max_series).
    pub fn max_series(mut self, series_max: usize) -> Self {
        self.series_max = series_max;
        self
    }

    /// Sets the clock, which says how much time has gone by since some moment and never goes back;
    /// default: the processor's time stamp counter where that is steady.
    pub fn clock(mut self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        self.clock = Clock(Arc::new(clock));
        self
    }

    /// Registers the families and makes the layer.
    ///
    /// # Errors
    /// [`RegisterError`] if a label or the field of the exemplar is no valid label name, or the
    /// collector has other families of these names.
    pub fn register(self) -> Result<SpanTimes, RegisterError> {
        let Self { collector, prefix, fields, exemplar_field, buckets, series_max, clock } = self;
        if let Some(label) = exemplar_field.as_ref().filter(|field| !is_label_name(field)) {
            return Err(RegisterError::InvalidLabelName { label: label.clone() });
        }
        let (fields, mut labels): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        labels.insert(0, "span".to_owned());
        let seconds = collector
            .histogram(format!("{prefix}_seconds"), "From the opening of spans to their close.");
        let seconds = match buckets {
            Buckets::Classic(bounds) => seconds.buckets(bounds),
            Buckets::Exponential(schema) => seconds.exponential(schema),
        };
        let seconds =
            seconds.unit("seconds").labels(labels.clone()).max_series(series_max).register()?;
        let counter = |part: &str, help: &str| {
            let family = collector.float_counter(format!("{prefix}_{part}_seconds_total"), help);
            family.unit("seconds").labels(labels.clone()).max_series(series_max).register()
        };
        Ok(SpanTimes {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            fields,
            exemplar_field,
            seconds,
            busy: counter("busy", "Time that closed spans were entered.")?,
            idle: counter("idle", "Time that closed spans were open, but not entered.")?,
            clock,
        })
    }
}

impl SpanTimes {
    /// Starts to describe a layer that records in `collector`.
    pub fn builder(collector: &MetricsCollector) -> SpanTimesBuilder {
        let clock = quanta::Clock::new();
        let start = clock.raw();
        let elapsed = move || Duration::from_nanos(clock.delta_as_nanos(start, clock.raw()));
        SpanTimesBuilder {
            collector: collector.clone(),
            prefix: "span".to_owned(),
            fields: Vec::new(),
            exemplar_field: None,
            buckets: Buckets::Classic(DEFAULT_BUCKETS.to_vec()),
            series_max: DEFAULT_SERIES_MAX,
            clock: Clock(Arc::new(elapsed)),
        }
    }

    fn now(&self) -> Duration {
        (self.clock.0)()
    }

    /// Runs `action` on what this layer keeps of a span.
    fn with<S>(&self, id: &Id, context: &Context<'_, S>, action: impl FnOnce(&mut Times))
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(Kept(kept)) = extensions.get_mut::<Kept>() else { return };
        if let Some((_, times)) = kept.iter_mut().find(|(layer, _)| *layer == self.id) {
            action(times);
        }
    }

    fn record(&self, name: &str, times: &Times, now: Duration) {
        let total = now.saturating_sub(times.opened);
        let busy = times.busy.min(total);
        let values: Vec<&str> =
            std::iter::once(name).chain(times.values.iter().map(String::as_str)).collect();
        let seconds = total.as_secs_f64();
        let recorded = match (&self.exemplar_field, times.exemplar.is_empty()) {
            (Some(field), false) => self.seconds.with(&values).map(|histogram| {
                // The value is recorded even if the exemplar is refused for its length.
                let _ = histogram.observe_with_exemplar(seconds, &[(field, &times.exemplar)]);
            }),
            _ => self.seconds.observe(&values, seconds),
        };
        let recorded = recorded
            .and_then(|()| self.busy.add(&values, busy.as_secs_f64()))
            .and_then(|()| self.idle.add(&values, (total - busy).as_secs_f64()));
        debug_assert!(recorded.is_ok(), "{recorded:?}");
    }
}

/// What the layers of this type keep of a span, by their numbers.
#[derive(Debug)]
struct Kept(Vec<(u64, Times)>);

/// The times and labels of one open span.
#[derive(Debug)]
struct Times {
    opened: Duration,
    /// When it was entered by the first of the threads that are in it.
    entered: Duration,
    /// How many times it is entered now.
    depth: usize,
    busy: Duration,
    values: Vec<String>,
    exemplar: String,
}

impl<S> Layer<S> for SpanTimes
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let opened = self.now();
        let mut times = Times {
            opened,
            entered: opened,
            depth: 0,
            busy: Duration::ZERO,
            values: vec![String::new(); self.fields.len()],
            exemplar: String::new(),
        };
        attributes.record(&mut Visitor { layer: self, times: &mut times });
        let mut extensions = span.extensions_mut();
        match extensions.get_mut::<Kept>() {
            Some(Kept(kept)) => kept.push((self.id, times)),
            None => extensions.insert(Kept(vec![(self.id, times)])),
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        self.with(id, &context, |times| record.record(&mut Visitor { layer: self, times }));
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.with(id, &context, |times| {
            if times.depth == 0 {
                times.entered = self.now();
            }
            times.depth += 1;
        });
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.with(id, &context, |times| {
            times.depth = times.depth.saturating_sub(1);
            if times.depth == 0 {
                times.busy += self.now().saturating_sub(times.entered);
            }
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let now = self.now();
        let Some(span) = context.span(&id) else { return };
        self.with(&id, &context, |times| self.record(span.name(), times, now));
    }
}

/// Takes the chosen fields out of a span.
struct Visitor<'a> {
    layer: &'a SpanTimes,
    times: &'a mut Times,
}

impl Visitor<'_> {
    fn put(&mut self, field: &Field, value: std::fmt::Arguments<'_>) {
        let name = field.name();
        if let Some(place) = self.layer.fields.iter().position(|chosen| chosen == name) {
            put(&mut self.times.values[place], value);
        }
        if self.layer.exemplar_field.as_deref() == Some(name) {
            put(&mut self.times.exemplar, value);
        }
    }
}

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

/// Replaces `text` by as much of `value` as there is room for.
fn put(text: &mut String, value: std::fmt::Arguments<'_>) {
    text.clear();
    // The value's own formatting may fail; what it wrote until then is kept.
    let _ = Bounded(text).write_fmt(value);
}

/// Takes text up to [`VALUE_BYTES_MAX`] and ignores the rest.
struct Bounded<'a>(&'a mut String);

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = VALUE_BYTES_MAX - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(std::fmt::Error) } else { Ok(()) }
    }
}
