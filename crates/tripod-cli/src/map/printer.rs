//! Writes results on a thread of its own, so that a slow reader of standard output never keeps
//! the run from watching memory.

use std::io::{self, BufWriter, Write};
use std::sync::mpsc as thread_mpsc;

use tokio::sync::mpsc;

use super::capture::Stream;
use super::notes::Notes;
use super::report::{CommandReport, Summary};

/// Where and how results are written.
#[derive(Debug, Clone)]
pub(crate) struct Style {
    pub(crate) json: bool,
    pub(crate) notes: Notes,
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Printer {
    reports: thread_mpsc::Sender<Box<CommandReport>>,
    written: mpsc::UnboundedReceiver<io::Result<()>>,
    backlog: usize,
    style: Style,
}

impl Printer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(style: Style) -> io::Result<Self> {
        let (reports, receiver) = thread_mpsc::channel::<Box<CommandReport>>();
        let (sender, written) = mpsc::unbounded_channel();
        let thread_style = style.clone();
        std::thread::Builder::new().name("printer".to_owned()).spawn(move || {
            let mut is_open = true;
            for report in receiver {
                // Once its reader has gone there is nothing more to say, failures included.
                let result = if is_open { thread_style.write_report(&report) } else { Ok(()) };
                is_open &= !matches!(&result, Err(e) if e.kind() == io::ErrorKind::BrokenPipe);
                // The memory of the output is back before the run hears of it.
                drop(report);
                let _ = sender.send(result);
            }
        })?;
        Ok(Self { reports, written, backlog: 0, style })
    }

    /// Hands over a result; the results are written in the order of the calls.
    pub(crate) fn print(&mut self, report: CommandReport) {
        if !self.style.has_to_write(&report) {
            return;
        }
        self.backlog += 1;
        // The thread ends only after this sender is gone.
        let _ = self.reports.send(Box::new(report));
    }

    /// The results handed over and not yet written.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog
    }

    /// Waits until one more result is written. Cancel-safe.
    ///
    /// # Errors
    /// If it could not be written.
    pub(crate) async fn written(&mut self) -> io::Result<()> {
        match self.written.recv().await {
            Some(result) => {
                self.backlog -= 1;
                result
            }
            None => {
                self.backlog = 0;
                Err(io::Error::other("the thread that writes results has ended"))
            }
        }
    }

    /// Writes the summary as a last record if the output is JSON.
    ///
    /// Results that are still unwritten are given up: whoever reads them has stopped reading.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn finish(self, summary: &Summary) -> io::Result<()> {
        if self.style.json && self.backlog == 0 {
            let mut out = io::stdout().lock();
            summary.write_json(&mut out)?;
            out.flush()?;
        }
        Ok(())
    }
}

impl Style {
    /// Whether there is anything to say. Most commands are silent, and waking a thread for each of
    /// those costs more than all else that is done for them here.
    fn has_to_write(&self, report: &CommandReport) -> bool {
        let output = &report.finished.output;
        let is_silent =
            output.stream(Stream::Out).is_empty() && output.stream(Stream::Err).is_empty();
        self.json || !is_silent || !report.is_success()
    }

    fn write_report(&self, report: &CommandReport) -> io::Result<()> {
        if self.json {
            return self.notes.write_output(|stdout| {
                let mut out = BufWriter::new(stdout);
                report.write_json(&mut out)?;
                out.flush()
            });
        }
        let output = &report.finished.output;
        let (out, err) = (output.stream(Stream::Out), output.stream(Stream::Err));
        if !out.is_empty() {
            self.notes.write_output(|to| out.for_each_chunk(|chunk| to.write_all(chunk)))?;
        }
        if !err.is_empty() {
            self.notes.write(|to| err.for_each_chunk(|chunk| to.write_all(chunk)));
        }
        if !report.is_success() {
            self.notes.write_line(&failure_note(report));
        }
        Ok(())
    }
}

fn failure_note(report: &CommandReport) -> String {
    format!("{} {}", console::style("tripod:").red().for_stderr(), report.failure_line())
}
