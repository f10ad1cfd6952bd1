//! What the three types of metrics have in common, seen from a family.

use crate::collector::AnyFamily;
use crate::counter::Counter;
use crate::definition::MetricType;
use crate::family::Family;
use crate::gauge::Gauge;
use crate::histogram::{Histogram, HistogramSnapshot};
use crate::sync::Arc;

/// Marks the types that a [`Family`] can hold: [`Counter`], [`Gauge`] and [`Histogram`].
///
/// It is sealed: the exposition format knows no further types of this form.
pub trait Metric: Sealed {}

impl Metric for Counter {}
impl Metric for Gauge {}
impl Metric for Histogram {}

/// What every series of one family is made from.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The bounds of a histogram; empty for the other types.
    pub(crate) bounds: Arc<[f64]>,
    /// The collector's count of dropped observations.
    pub(crate) dropped: Counter,
}

/// The value of a series when the page was made.
#[derive(Debug)]
pub enum Reading {
    /// Of a counter.
    Count(u64),
    /// Of a gauge, set or observed.
    Value(f64),
    /// Of a histogram.
    Distribution(HistogramSnapshot),
}

/// The private half of [`Metric`].
pub trait Sealed: Clone + Send + Sync + 'static {
    /// The type in definitions and on the page.
    const TYPE: MetricType;
    /// Makes the metric of a new series.
    fn create(recipe: &Recipe) -> Self;
    /// Reads the metric for a page.
    fn read(&self) -> Reading;
    /// Forgets the type of a family, for the registry.
    fn wrap(family: Family<Self>) -> AnyFamily
    where
        Self: Metric;
    /// Finds the type again; `None` if the family is of another one.
    fn unwrap(family: &AnyFamily) -> Option<&Family<Self>>
    where
        Self: Metric;
}

macro_rules! sealed {
    ($metric:ident, $recipe:pat => $create:expr, $self:ident => $read:expr) => {
        impl Sealed for $metric {
            const TYPE: MetricType = MetricType::$metric;

            fn create($recipe: &Recipe) -> Self {
                $create
            }

            fn read(&$self) -> Reading {
                $read
            }

            fn wrap(family: Family<Self>) -> AnyFamily {
                AnyFamily::$metric(family)
            }

            fn unwrap(family: &AnyFamily) -> Option<&Family<Self>> {
                match family {
                    AnyFamily::$metric(family) => Some(family),
                    _ => None,
                }
            }
        }
    };
}

sealed!(Counter, _ => Self::default(), self => Reading::Count(self.get()));
sealed!(Gauge, _ => Self::default(), self => Reading::Value(self.get()));
sealed!(
    Histogram,
    recipe => Self::new(Arc::clone(&recipe.bounds), recipe.dropped.clone()),
    self => Reading::Distribution(self.snapshot())
);
