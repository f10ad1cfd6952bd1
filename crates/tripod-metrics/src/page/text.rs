//! The Prometheus text exposition format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use super::Format;
use crate::definition::Definition;
use crate::labels::escape_help;
use crate::number;

/// Version 0.0.4.
pub(crate) struct Text004;

impl Format for Text004 {
    fn header(out: &mut String, definition: &Definition) {
        let Definition { name, help, .. } = definition;
        out.extend(["# HELP ", name, " "]);
        escape_help(out, help);
        out.extend(["\n# TYPE ", name, " ", definition.kind().as_str(), "\n"]);
    }

    fn bound(out: &mut String, bound: f64) {
        number::write_float(out, bound);
    }

    const SHOWS_CREATED: bool = false;
    const SHOWS_EXEMPLARS: bool = false;
    const SHOWS_NEGATIVE: bool = true;
}
