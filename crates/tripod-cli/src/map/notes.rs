//! Text for people, on standard error.
//!
//! Standard error may be a pipe that nobody reads, so the thread that runs commands and hears
//! signals never writes to it: it hands lines to a thread that does. A line that cannot be written
//! is lost, and nothing else.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;

use indicatif::MultiProgress;
use tokio::sync::oneshot;

/// The way to standard error.
#[derive(Debug, Clone)]
pub(crate) struct Notes {
    queue: mpsc::Sender<Note>,
    screen: Screen,
}

#[derive(Debug)]
enum Note {
    Line(String),
    /// Dropped when all lines before it are written.
    Flush(oneshot::Sender<()>),
}

/// The terminal, where what is written must not tear the bar.
#[derive(Debug, Clone)]
struct Screen {
    bar: Option<MultiProgress>,
    /// Whether standard output is drawn on the terminal that the bar is on.
    shows_output: bool,
}

impl Notes {
    /// Starts the thread; `bar` is what is hidden while a line is written.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(bar: Option<MultiProgress>) -> io::Result<Self> {
        let (queue, notes) = mpsc::channel();
        let screen = Screen { bar, shows_output: io::stdout().is_terminal() };
        let writer = screen.clone();
        std::thread::Builder::new().name("notes".to_owned()).spawn(move || {
            for note in notes {
                match note {
                    Note::Line(text) => writer.write_line(&text),
                    Note::Flush(done) => drop(done),
                }
            }
        })?;
        Ok(Self { queue, screen })
    }

    /// Hands a line over. Never blocks.
    pub(crate) fn line(&self, text: impl Into<String>) {
        // The thread lives as long as there is somebody to hand it something.
        let _ = self.queue.send(Note::Line(text.into()));
    }

    /// Waits until what was handed over is written.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let _ = self.queue.send(Note::Flush(done));
        let _ = flushed.await;
    }

    /// Writes a line; may block.
    pub(crate) fn write_line(&self, text: &str) {
        self.screen.write_line(text);
    }

    /// Writes to standard error; may block.
    pub(crate) fn write(&self, write: impl FnOnce(&mut io::StderrLock<'_>) -> io::Result<()>) {
        // Nobody could be told that it failed.
        let _ = self.screen.with_bar_hidden(true, || write(&mut io::stderr().lock()));
    }

    /// Writes to standard output; may block.
    ///
    /// # Errors
    /// Those of `write`.
    pub(crate) fn write_output(
        &self,
        write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.screen.with_bar_hidden(false, || {
            let mut out = io::stdout().lock();
            write(&mut out)?;
            out.flush()
        })
    }
}

impl Screen {
    fn write_line(&self, text: &str) {
        let _ = self.with_bar_hidden(true, || writeln!(io::stderr().lock(), "{text}"));
    }

    /// Runs `write` while the bar is hidden, if it writes to the terminal that the bar is on.
    ///
    /// Standard output that is a pipe may block for long, and the bar must not be held up for it.
    fn with_bar_hidden<T>(&self, to_stderr: bool, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) if to_stderr || self.shows_output => bar.suspend(write),
            _ => write(),
        }
    }
}
