//! The OpenMetrics text format, version 1.0.0
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use std::time::UNIX_EPOCH;

use super::Format;
use crate::definition::Definition;
use crate::labels::{escape_value, write_pair};
use crate::number;
use crate::snapshot::Exemplar;

/// Version 1.0.0.
pub(crate) struct OpenMetrics;

impl Format for OpenMetrics {
    fn header(out: &mut String, definition: &Definition) {
        let name = definition.family_name();
        out.extend(["# TYPE ", name, " ", definition.kind().as_str(), "\n"]);
        if let Some(unit) = &definition.unit {
            out.extend(["# UNIT ", name, " ", unit, "\n"]);
        }
        out.extend(["# HELP ", name, " "]);
        escape_value(out, &definition.help);
        out.push('\n');
    }

    fn bound(out: &mut String, bound: f64) {
        number::write_canonical(out, bound);
    }

    const SHOWS_CREATED: bool = true;
    const SHOWS_EXEMPLARS: bool = true;
    const SHOWS_NEGATIVE: bool = false;
}

/// Writes an exemplar behind the number of a line.
pub(super) fn write_exemplar(out: &mut String, exemplar: &Exemplar) {
    let mut labels = String::new();
    exemplar.labels.iter().for_each(|(name, value)| write_pair(&mut labels, name, value));
    out.extend([" # {", &labels, "} "]);
    number::write_float(out, exemplar.value);
    out.push(' ');
    let since = exemplar.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    number::write_seconds(out, u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
}
