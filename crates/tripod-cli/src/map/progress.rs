//! Progress on standard error: a bar with what is running below it, or a line now and then.

use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::ProgressMode;
use super::notes::Notes;
use crate::units::{Elapsed, Size};

/// How often the bar is redrawn, and a line written.
const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The running commands that are shown, at most.
const RUNNING_LINES_MAX: usize = 8;

/// The state of a run at one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The arguments read so far, and whether those are all.
    pub(crate) total: u64,
    pub(crate) is_total_final: bool,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) elapsed: Duration,
    pub(crate) memory_used_bytes: u64,
    pub(crate) memory_budget_bytes: u64,
    pub(crate) running: Vec<RunningLine>,
}

/// A running command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningLine {
    pub(crate) number: u64,
    pub(crate) label: String,
    pub(crate) elapsed: Duration,
    pub(crate) used_bytes: u64,
}

/// Shows the progress of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    None,
    Lines,
    Bar(Bar),
}

#[derive(Debug)]
struct Bar {
    multi: MultiProgress,
    main: ProgressBar,
    running: Vec<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(mode: ProgressMode) -> Self {
        let kind = match mode {
            ProgressMode::None => Kind::None,
            ProgressMode::Lines => Kind::Lines,
            ProgressMode::Bar => Kind::Bar(Bar::new()),
            ProgressMode::Auto if std::io::stderr().is_terminal() => Kind::Bar(Bar::new()),
            ProgressMode::Auto => Kind::Lines,
        };
        Self { kind }
    }

    /// How long from one update to the next; `None` if there is nothing to show.
    pub(crate) fn interval(&self) -> Option<Duration> {
        match self.kind {
            Kind::None => None,
            Kind::Lines => Some(LINE_EVERY),
            Kind::Bar(_) => Some(BAR_EVERY),
        }
    }

    /// The bar, for those who write beside it.
    pub(crate) fn bar(&self) -> Option<MultiProgress> {
        match &self.kind {
            Kind::Bar(bar) => Some(bar.multi.clone()),
            Kind::None | Kind::Lines => None,
        }
    }

    /// Shows `view`.
    pub(crate) fn update(&mut self, view: &View, notes: &Notes) {
        match &mut self.kind {
            Kind::None => {}
            Kind::Lines => notes.line(format!("tripod: {view}")),
            Kind::Bar(bar) => bar.draw(view),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Kind::Bar(bar) = &mut self.kind {
            for line in bar.running.drain(..) {
                line.finish_and_clear();
            }
            bar.main.finish_and_clear();
        }
    }
}

impl Bar {
    fn new() -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20));
        let main = multi.add(ProgressBar::new(0));
        let style = ProgressStyle::with_template("{bar:30.green/dim} {msg}");
        let style =
            style.expect("the template is valid").progress_chars("\u{2501}\u{2578}\u{2500}");
        main.set_style(style);
        Self { multi, main, running: Vec::new() }
    }

    fn draw(&mut self, view: &View) {
        self.main.set_length(view.total.max(1));
        self.main.set_position(view.done);
        self.main.set_message(view.to_string());
        let shown = view.running.len().min(RUNNING_LINES_MAX);
        while self.running.len() > shown {
            if let Some(line) = self.running.pop() {
                line.finish_and_clear();
                self.multi.remove(&line);
            }
        }
        while self.running.len() < shown {
            let line = self.multi.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("  {wide_msg:.dim}");
            line.set_style(style.expect("the template is valid"));
            self.running.push(line);
        }
        for (line, command) in self.running.iter().zip(&view.running) {
            line.set_message(command.to_string());
        }
    }
}

impl View {
    /// The time until all is done, if the rest goes at the pace so far.
    fn remaining(&self) -> Option<Duration> {
        let left = self.total.checked_sub(self.done)?;
        let is_known = self.is_total_final && self.done > 0;
        is_known.then(|| self.elapsed.mul_f64(left as f64 / self.done as f64))
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.is_total_final { "" } else { "+" };
        write!(f, "{}/{}{open} done, {} running", self.done, self.total, self.running.len())?;
        if self.failed > 0 {
            let failed = console::style(format!("{} failed", self.failed)).red().for_stderr();
            write!(f, ", {failed}")?;
        }
        let (used, budget) = (Size(self.memory_used_bytes), Size(self.memory_budget_bytes));
        write!(f, ", memory {used} of {budget}")?;
        match self.remaining() {
            Some(remaining) => write!(f, ", ETA {}", Elapsed(remaining)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for RunningLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, label, elapsed, used_bytes } = self;
        write!(f, "#{number} {} {} {label}", Elapsed(*elapsed), Size(*used_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            total: 200,
            is_total_final: true,
            done: 50,
            failed: 0,
            elapsed: Duration::from_secs(10),
            memory_used_bytes: 300 << 20,
            memory_budget_bytes: 1 << 30,
            running: Vec::new(),
        }
    }

    #[test]
    fn the_eta_is_the_rest_at_the_pace_so_far() {
        assert_eq!(
            view().to_string(),
            "50/200 done, 0 running, memory 300 MiB of 1 GiB, ETA 30.0 s"
        );
    }

    #[test]
    fn without_the_end_of_the_input_or_a_first_result_there_is_no_eta() {
        let unread = View { is_total_final: false, ..view() };
        assert_eq!(unread.to_string(), "50/200+ done, 0 running, memory 300 MiB of 1 GiB");
        let begun = View { done: 0, ..view() };
        assert!(!begun.to_string().contains("ETA"));
    }

    #[test]
    fn a_running_command_shows_its_age_and_memory() {
        let line = RunningLine {
            number: 7,
            label: "big.iso".to_owned(),
            elapsed: Duration::from_secs(75),
            used_bytes: 96 << 20,
        };
        assert_eq!(line.to_string(), "#7 1m 15s 96 MiB big.iso");
    }
}
