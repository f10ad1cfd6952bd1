//! What a run reports: one record per command and a summary, as text or as JSON.
//!
//! The JSON is described in `docs/formats.md`; a change that breaks a reader raises [`VERSION`].

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};

use super::capture::{Stored, Stream};
use super::command::{Finished, Outcome};
use crate::process::reaper::ExitStatus;
use crate::units::{Elapsed, Size};

/// The version of the JSON records.
const VERSION: u32 = 1;

/// A command is shown with so many characters at most when it failed.
const COMMAND_WIDTH_MAX: usize = 400;

/// A command of which nothing more will be run.
#[derive(Debug)]
pub(crate) struct CommandReport {
    pub(crate) number: u64,
    pub(crate) argument: OsString,
    /// The command as a person would type it.
    pub(crate) command: OsString,
    pub(crate) attempts: u32,
    pub(crate) memory_stops: u32,
    pub(crate) budget_bytes: u64,
    pub(crate) finished: Finished,
}

/// The run as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) commands: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// Arguments that were read but not run, after an interrupt or with `--fail-fast`.
    pub(crate) not_run: u64,
    pub(crate) wall_ms: u64,
    pub(crate) jobs: usize,
    pub(crate) memory_budget_bytes: u64,
    pub(crate) memory_peak_bytes: u64,
    /// How many times a command waited because the budget had no room for it.
    pub(crate) memory_waits: u64,
    /// How many times a command was stopped because it outgrew its reservation.
    pub(crate) memory_stops: u64,
    pub(crate) retries: u64,
    pub(crate) interrupted: bool,
    pub(crate) exit_code: u8,
}

impl CommandReport {
    pub(crate) fn is_success(&self) -> bool {
        self.finished.outcome.is_success()
    }

    /// `#3 failed (exit code 1): gzip -9 'a b'`.
    pub(crate) fn failure_line(&self) -> String {
        let attempts = match self.attempts {
            1 => String::new(),
            attempts => format!(", {attempts} attempts"),
        };
        let command = label(&self.command, COMMAND_WIDTH_MAX);
        format!("#{} failed ({}{attempts}): {command}", self.number, self.reason())
    }

    /// Why the command did not succeed, as a phrase.
    pub(crate) fn reason(&self) -> String {
        let finished = &self.finished;
        match &finished.outcome {
            Outcome::Exited(ExitStatus::Code(code)) => format!("exit code {code}"),
            Outcome::Exited(ExitStatus::Signal(signal)) => format!("killed by signal {signal}"),
            Outcome::TimedOut => format!("timed out after {}", Elapsed(finished.wall_time)),
            Outcome::OutOfMemory => format!(
                "used {} running alone, more than the whole budget of {}; give it more with --mem",
                Size(finished.memory_peak_bytes.unwrap_or(0)),
                Size(self.budget_bytes)
            ),
            Outcome::Killed => "killed when the run was stopped".to_owned(),
            Outcome::Starved(error) | Outcome::Error(error) => error.clone(),
        }
    }

    fn outcome_name(&self) -> &'static str {
        match &self.finished.outcome {
            Outcome::Exited(ExitStatus::Code(0)) => "succeeded",
            Outcome::Exited(_) => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::OutOfMemory => "out_of_memory",
            Outcome::Killed => "killed",
            Outcome::Starved(_) | Outcome::Error(_) => "error",
        }
    }

    /// Writes the record as one line of JSON.
    ///
    /// # Errors
    /// Those of `out`, and of reading output that was spilled to a file.
    pub(crate) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }
}

impl Serialize for CommandReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let finished = &self.finished;
        let (exit_code, signal) = match finished.outcome {
            Outcome::Exited(ExitStatus::Code(code)) => (Some(code), None),
            Outcome::Exited(ExitStatus::Signal(signal)) => (None, Some(signal)),
            _ => (None, None),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("v", &VERSION)?;
        map.serialize_entry("type", "command")?;
        map.serialize_entry("number", &self.number)?;
        serialize_bytes(&mut map, ["argument", "argument_base64"], self.argument.as_bytes())?;
        map.serialize_entry("outcome", self.outcome_name())?;
        map.serialize_entry("exit_code", &exit_code)?;
        map.serialize_entry("signal", &signal)?;
        if !self.is_success() {
            map.serialize_entry("reason", &self.reason())?;
        }
        map.serialize_entry("attempts", &self.attempts)?;
        map.serialize_entry("memory_stops", &self.memory_stops)?;
        map.serialize_entry("started_unix_ms", &unix_ms(finished.started))?;
        map.serialize_entry("wall_ms", &whole_ms(finished.wall_time))?;
        map.serialize_entry("user_ms", &whole_ms(finished.user_time))?;
        map.serialize_entry("system_ms", &whole_ms(finished.system_time))?;
        map.serialize_entry("memory_peak_bytes", &finished.memory_peak_bytes)?;
        map.serialize_entry("memory_reserved_bytes", &finished.memory_reserved_bytes)?;
        let output = &finished.output;
        serialize_stored(&mut map, ["stdout", "stdout_base64"], output.stream(Stream::Out))?;
        serialize_stored(&mut map, ["stderr", "stderr_base64"], output.stream(Stream::Err))?;
        map.end()
    }
}

/// Adds text under the first name, or bytes that are no UTF-8 as base64 under the second.
fn serialize_bytes<M: SerializeMap>(
    map: &mut M,
    [text_name, base64_name]: [&'static str; 2],
    bytes: &[u8],
) -> Result<(), M::Error> {
    use base64::display::Base64Display;
    use base64::engine::general_purpose::STANDARD;
    match std::str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(text_name, text),
        Err(_) => {
            let encoded = Base64Display::new(bytes, &STANDARD);
            map.serialize_entry(base64_name, &format_args!("{encoded}"))
        }
    }
}

/// The same for output that may be too large to hold in memory: it is read piece by piece.
fn serialize_stored<M: SerializeMap>(
    map: &mut M,
    [text_name, base64_name]: [&'static str; 2],
    stored: &Stored,
) -> Result<(), M::Error> {
    if is_utf8(stored).map_err(M::Error::custom)? {
        map.serialize_entry(text_name, &StoredText(stored))
    } else {
        map.serialize_entry(base64_name, &StoredBase64(stored))
    }
}

/// Hands the text of `stored` to `take`, cut only between characters; false if it is no UTF-8.
fn for_each_text(
    stored: &Stored,
    mut take: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<bool> {
    let mut pending = Vec::new();
    let mut is_text = true;
    stored.for_each_chunk(|chunk| {
        if !is_text {
            return Ok(());
        }
        pending.extend_from_slice(chunk);
        let valid_len = match std::str::from_utf8(&pending) {
            Ok(text) => text.len(),
            Err(error) => {
                is_text = error.error_len().is_none();
                error.valid_up_to()
            }
        };
        // What is left is the beginning of a character that the next chunk completes.
        let rest = pending.split_off(valid_len);
        let text = std::str::from_utf8(&pending).map_err(io::Error::other)?;
        let taken = take(text);
        pending = rest;
        taken
    })?;
    Ok(is_text && pending.is_empty())
}

fn is_utf8(stored: &Stored) -> io::Result<bool> {
    for_each_text(stored, |_| Ok(()))
}

/// Serialized through `Display`, which JSON escapes as it is written, without a copy of the whole.
struct StoredText<'a>(&'a Stored);

impl Serialize for StoredText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for StoredText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = for_each_text(self.0, |text| f.write_str(text).map_err(io::Error::other));
        written.map(drop).map_err(|_| fmt::Error)
    }
}

struct StoredBase64<'a>(&'a Stored);

impl Serialize for StoredBase64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for StoredBase64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use base64::engine::general_purpose::STANDARD;
        let mut encoder = base64::write::EncoderWriter::new(IntoFmt(f), &STANDARD);
        let written = self.0.for_each_chunk(|chunk| encoder.write_all(chunk));
        written.and_then(|()| encoder.finish().map(drop)).map_err(|_| fmt::Error)
    }
}

/// Lets an encoder that writes ASCII bytes write to a formatter.
struct IntoFmt<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for IntoFmt<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        self.0.write_str(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Summary {
    /// Writes the summary as one line of JSON.
    ///
    /// # Errors
    /// Those of `out`.
    pub(crate) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Record<'a> {
            v: u32,
            r#type: &'static str,
            #[serde(flatten)]
            summary: &'a Summary,
        }
        let record = Record { v: VERSION, r#type: "summary", summary: self };
        serde_json::to_writer(&mut *out, &record)?;
        out.write_all(b"\n")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.commands == 1 { "" } else { "s" };
        write!(f, "{} command{plural}: {} succeeded", self.commands, self.succeeded)?;
        for (count, what) in [(self.failed, "failed"), (self.not_run, "not run")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        let wall_time = Elapsed(Duration::from_millis(self.wall_ms));
        let budget = Size(self.memory_budget_bytes);
        match self.memory_peak_bytes {
            // Every command was too small and too short to be measured.
            0 => write!(f, "; {wall_time}; memory budget {budget}")?,
            peak => write!(f, "; {wall_time}; peak memory {} of {budget}", Size(peak))?,
        }
        for (count, what) in [
            (self.memory_waits, "waited for memory"),
            (self.memory_stops, "stopped for memory and run again"),
            (self.retries, "retried"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        if self.interrupted {
            f.write_str("; interrupted")?;
        }
        Ok(())
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    whole_ms(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An argument as a label: on one line, and no longer than `width_max` characters.
pub(crate) fn label(argument: &OsStr, width_max: usize) -> String {
    let text = argument.to_string_lossy();
    let mut label: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(width_max + 1)
        .collect();
    if label.chars().count() > width_max {
        label = label.chars().take(width_max.saturating_sub(1)).chain(['\u{2026}']).collect();
    }
    label
}

#[cfg(test)]
mod tests {
    use tripod::MemoryManager;

    use super::super::capture::Capture;
    use super::*;

    fn report(out: &[u8], outcome: Outcome) -> CommandReport {
        let memory = MemoryManager::builder().build().unwrap();
        let mut output = Capture::new(memory);
        for chunk in out.chunks(4095) {
            output.append(Stream::Out, chunk).unwrap();
        }
        let finished = Finished {
            outcome,
            output,
            started: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            wall_time: Duration::from_millis(1500),
            user_time: Duration::from_millis(900),
            system_time: Duration::from_millis(50),
            memory_peak_bytes: Some(4096),
            memory_reserved_bytes: 8192,
        };
        CommandReport {
            number: 3,
            argument: "a b".into(),
            command: "gzip 'a b'".into(),
            attempts: 2,
            memory_stops: 1,
            budget_bytes: 1 << 30,
            finished,
        }
    }

    fn json(report: &CommandReport) -> serde_json::Value {
        let mut line = Vec::new();
        report.write_json(&mut line).unwrap();
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1, "one line");
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn a_record_has_every_documented_field() {
        let record = json(&report(b"out\n", Outcome::Exited(ExitStatus::Code(0))));
        let expected = serde_json::json!({
            "v": 1, "type": "command", "number": 3, "argument": "a b", "outcome": "succeeded",
            "exit_code": 0, "signal": null, "attempts": 2, "memory_stops": 1,
            "started_unix_ms": 1_700_000_000_123_u64, "wall_ms": 1500, "user_ms": 900,
            "system_ms": 50, "memory_peak_bytes": 4096, "memory_reserved_bytes": 8192,
            "stdout": "out\n", "stderr": "",
        });
        assert_eq!(record, expected);
    }

    #[test]
    fn output_of_any_size_keeps_its_text_across_pieces() {
        let text = "zwölf Boxkämpfer \u{1f94a} \"quoted\" \\ \t".repeat(60_000);
        let record = json(&report(text.as_bytes(), Outcome::Exited(ExitStatus::Code(0))));
        assert_eq!(record["stdout"].as_str().unwrap(), text);
    }

    #[test]
    fn output_that_is_no_text_is_base64() {
        use base64::Engine;
        for bytes in [&b"\xff\xfe\x00\x01"[..], b"cut character \xe2\x82", &[0x80; 10_000]] {
            let record = json(&report(bytes, Outcome::Exited(ExitStatus::Signal(9))));
            let encoded = record["stdout_base64"].as_str().unwrap();
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
            assert_eq!(decoded, bytes);
            assert!(record.get("stdout").is_none());
            assert_eq!(record["signal"], 9);
            assert_eq!(record["reason"], "killed by signal 9");
        }
    }

    #[test]
    fn a_failure_is_one_line_with_the_reason() {
        let line = report(b"", Outcome::Exited(ExitStatus::Code(2))).failure_line();
        assert_eq!(line, "#3 failed (exit code 2, 2 attempts): gzip 'a b'");
        let line = report(b"", Outcome::OutOfMemory).failure_line();
        assert!(line.contains("more than the whole budget of 1 GiB"), "{line}");
    }

    #[test]
    fn the_summary_names_only_what_happened() {
        let mut summary = Summary {
            commands: 2,
            succeeded: 2,
            wall_ms: 1500,
            memory_budget_bytes: 1 << 30,
            memory_peak_bytes: 5 << 20,
            ..Summary::default()
        };
        assert_eq!(
            summary.to_string(),
            "2 commands: 2 succeeded; 1.5 s; peak memory 5 MiB of 1 GiB"
        );
        summary.failed = 1;
        summary.memory_waits = 4;
        summary.interrupted = true;
        let text = summary.to_string();
        assert!(text.contains(", 1 failed;") && text.contains("4 waited for memory"), "{text}");
        assert!(text.ends_with("; interrupted"), "{text}");
    }

    #[test]
    fn a_label_is_one_short_line() {
        assert_eq!(label(OsStr::new("a\nb"), 10), "a\u{fffd}b");
        assert_eq!(label(OsStr::new("abcdef"), 4), "abc\u{2026}");
    }
}
