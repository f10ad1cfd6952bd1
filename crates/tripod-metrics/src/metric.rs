//! What the types of metrics have in common, seen from a family.

use crate::counter::{Counter, FloatCounter};
use crate::definition::Shape;
use crate::error::LabelError;
use crate::gauge::Gauge;
use crate::histogram::Histogram;
use crate::series::{Held, OwnedCell, SeriesSet};
use crate::summary::Summary;
use crate::sync::Arc;
use crate::timer::{OUTCOMES, Timer};

/// Marks the types that a [`Family`](crate::Family) can hold.
///
/// It is sealed: the exposition formats know no further types.
pub trait Metric: Sealed {}

impl Metric for Counter {}
impl Metric for FloatCounter {}
impl Metric for Gauge {}
impl Metric for Histogram {}
impl Metric for Summary {}
impl Metric for Timer {}

/// What a metric is found in. It keeps the series of a family out of the trait.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a>(pub(crate) &'a Arc<SeriesSet>);

/// The private half of [`Metric`].
pub trait Sealed: Clone + Send + Sync + 'static {
    /// Whether the metric has one series for each outcome of what it measures.
    const HAS_OUTCOME: bool = false;

    /// Finds or makes the metric with these label values.
    fn find(family: Access<'_>, values: &[&str]) -> Result<Self, LabelError>
    where
        Self: Sized;
}

/// For types whose metric is one series, which `make` wraps if it is of the right shape.
fn find_one<M>(
    family: Access<'_>,
    values: &[&str],
    make: impl FnOnce(Held, OwnedCell) -> Option<M>,
) -> Result<M, LabelError> {
    let (held, cell) = family.0.hold(values)?;
    Ok(make(held, cell).expect("a family is registered with the shape of its metric"))
}

macro_rules! sealed {
    ($metric:ident, $pattern:pat => $argument:expr) => {
        impl Sealed for $metric {
            fn find(family: Access<'_>, values: &[&str]) -> Result<Self, LabelError> {
                find_one(family, values, |held, cell| match cell {
                    $pattern => Some(Self::new($argument, held)),
                    _ => None,
                })
            }
        }
    };
}

sealed!(Counter, OwnedCell::Slot(slot) => slot);
sealed!(FloatCounter, OwnedCell::Slot(slot) => slot);
sealed!(Gauge, OwnedCell::Gauge(bits) => bits);
sealed!(Summary, OwnedCell::Summary(series) => series);

impl Sealed for Histogram {
    fn find(family: Access<'_>, values: &[&str]) -> Result<Self, LabelError> {
        find_one(family, values, |held, cell| match (cell, &held.set.definition.shape) {
            (OwnedCell::Slot(slot), Shape::Classic(bounds)) => {
                Some(Self::classic(Arc::clone(bounds), slot, held))
            }
            (OwnedCell::Exponential(series), _) => Some(Self::exponential(series, held)),
            _ => None,
        })
    }
}

impl Sealed for Timer {
    const HAS_OUTCOME: bool = true;

    fn find(family: Access<'_>, values: &[&str]) -> Result<Self, LabelError> {
        let definition = &family.0.definition;
        let expected = definition.label_names.len() - 1;
        if values.len() != expected {
            let (family, got) = (definition.name.clone(), values.len());
            return Err(LabelError::Count { family, expected, got });
        }
        let find = |outcome| Histogram::find(family, &[values, &[outcome]].concat());
        let [completed, cancelled] = OUTCOMES.map(find);
        Ok(Self::new(completed?, cancelled?))
    }
}
