//! Which names of the facade have which families.
//!
//! Pure but for the collector it registers with; the recorder puts a lock around it. It is looked
//! at when a thread meets a key for the first time.

use std::collections::HashMap;
use std::sync::Arc;

use metrics::{Key, KeyName, Unit};

use super::{DEFAULT_HELP, Kind, Options, name};
use crate::collector::MetricsCollector;
use crate::counter::Counter;
use crate::definition::Shape;
use crate::gauge::Gauge;
use crate::histogram::Histogram;
use crate::metric::Metric;
use crate::series::{Held, OwnedCell, SeriesSet};
use crate::summary::Summary;

/// The most different label names of one family: more are a mistake, and a bound on memory.
const LABEL_NAMES_MAX: usize = 256;

/// Why something of the facade was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another name of the facade has the same name here.
    Name,
    /// The name is used as another type.
    Kind,
    /// The name is that of a family, or a line of one, that did not come through the facade.
    Taken,
    /// A label is there twice, or has the name of another one here, or there are too many names.
    Labels,
    /// A description came after the first series.
    Description,
}

impl Refusal {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Kind => "type",
            Self::Taken => "taken",
            Self::Labels => "labels",
            Self::Description => "description",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    /// By the name in the facade.
    names: HashMap<KeyName, Name>,
    /// By the name here, the name in the facade.
    origins: HashMap<String, KeyName>,
}

#[derive(Debug)]
struct Name {
    kind: Kind,
    description: Option<Description>,
    family: Option<Family>,
}

#[derive(Debug, PartialEq)]
struct Description {
    unit: Option<Unit>,
    text: String,
}

#[derive(Debug)]
struct Family {
    set: Arc<SeriesSet>,
    /// By the label name here, that in the facade.
    labels: HashMap<String, String>,
}

impl Registry {
    /// Keeps a description for when the first series is made; the newest counts.
    pub(super) fn describe(
        &mut self,
        kind: Kind,
        name: KeyName,
        unit: Option<Unit>,
        text: &str,
    ) -> Result<(), Refusal> {
        let known =
            self.names.entry(name).or_insert(Name { kind, description: None, family: None });
        if known.kind != kind {
            return Err(Refusal::Kind);
        }
        let description = Some(Description { unit, text: text.to_owned() });
        if known.family.is_some() && known.description != description {
            return Err(Refusal::Description);
        }
        known.description = description;
        Ok(())
    }

    /// Finds or makes the series of a key.
    pub(super) fn find(
        &mut self,
        collector: &MetricsCollector,
        options: &Options,
        kind: Kind,
        key: &Key,
    ) -> Result<(Held, OwnedCell), Refusal> {
        let family = self.family(collector, options, kind, key.name_shared().to_retained())?;
        let mut pairs = Vec::new();
        for label in key.labels() {
            let name = name::label_name(label.key(), collector.constant_labels());
            pairs.push((family.own_label(name, label.key())?, label.value()));
        }
        // In one order, whatever that of the macro.
        pairs.sort_unstable();
        if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
            return Err(Refusal::Labels);
        }
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(name, value)| (&**name, *value)).collect();
        family.set.hold_pairs(&pairs).map_err(|_| Refusal::Taken)
    }

    fn family(
        &mut self,
        collector: &MetricsCollector,
        options: &Options,
        kind: Kind,
        name: KeyName,
    ) -> Result<&mut Family, Refusal> {
        let empty = Name { kind, description: None, family: None };
        let known = self.names.entry(name.clone()).or_insert(empty);
        if known.kind != kind {
            return Err(Refusal::Kind);
        }
        if known.family.is_none() {
            let own = name::family_name(kind, name.as_str());
            if self.origins.get(&own).is_some_and(|origin| *origin != name) {
                return Err(Refusal::Name);
            }
            let (help, unit) = help_and_unit(known.description.as_ref(), &own);
            let shape = options.shape(kind, name.as_str());
            let set = register(collector, options, own.clone(), help, unit, shape)?;
            self.origins.insert(own, name);
            known.family = Some(Family { set, labels: HashMap::new() });
        }
        known.family.as_mut().ok_or(Refusal::Taken)
    }
}

impl Family {
    /// Gives a label name to the label of the facade, if no other one has it.
    fn own_label(&mut self, name: String, facade_name: &str) -> Result<String, Refusal> {
        match self.labels.get(&name) {
            Some(owner) if owner == facade_name => Ok(name),
            Some(_) => Err(Refusal::Labels),
            None if self.labels.len() >= LABEL_NAMES_MAX => Err(Refusal::Labels),
            None => {
                self.labels.insert(name.clone(), facade_name.to_owned());
                Ok(name)
            }
        }
    }
}

/// A unit that the name does not end in cannot be shown as one, so it goes into the help text.
fn help_and_unit(description: Option<&Description>, name: &str) -> (String, Option<String>) {
    let text = description.map_or("", |description| description.text.trim());
    let mut help = if text.is_empty() { DEFAULT_HELP } else { text }.to_owned();
    let unit = description.and_then(|description| description.unit);
    let Some(unit) = unit.filter(|unit| *unit != Unit::Count) else {
        return (help, None);
    };
    let subject = name.strip_suffix("_total").unwrap_or(name).strip_suffix(unit.as_str());
    if subject.is_some_and(|subject| subject.len() > 1 && subject.ends_with('_')) {
        return (help, Some(unit.as_str().to_owned()));
    }
    help.push_str(&format!(" (Unit: {}.)", unit.as_str().replace('_', " ")));
    (help, None)
}

fn register(
    collector: &MetricsCollector,
    options: &Options,
    name: String,
    help: String,
    unit: Option<String>,
    shape: Shape,
) -> Result<Arc<SeriesSet>, Refusal> {
    fn by<M: Metric>(
        collector: &MetricsCollector,
        definition: crate::definition::Definition,
    ) -> Result<Arc<SeriesSet>, Refusal> {
        collector.register::<M>(definition).map_err(|_| Refusal::Taken)
    }
    let register = match shape {
        Shape::Counter | Shape::FloatCounter => by::<Counter>,
        Shape::Gauge => by::<Gauge>,
        Shape::Classic(_) | Shape::Exponential(_) => by::<Histogram>,
        Shape::Summary(_) => by::<Summary>,
    };
    register(collector, options.definition(name, help, unit, shape))
}
