//! One run: feeds commands to the scheduler, takes their results, and answers to signals.
//!
//! Everything here happens on one thread, the runtime's. Others read the input, wait for children,
//! watch memory and write the results.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rustix::process::{Signal, getpid, kill_process};
use tripod::{Drain, Task, TaskError, TaskId, Tripod};

use super::args::MapArgs;
use super::command::{self, Environment, Finished, Outcome, Spec};
use super::input::{Batches, Source};
use super::notes::Notes;
use super::printer::{Printer, Style};
use super::progress::{Progress, RunningLine, View};
use super::report::{CommandReport, Summary, label, whole_ms};
use super::telemetry::Telemetry;
use super::template::Template;
use super::watch::Watch;
use super::{EXIT_FAILED, Limits, SPARE_FRACTION};
use crate::process::cgroup::CgroupRoot;
use crate::process::guard::Signals;
use crate::process::reaper::Reaper;
use crate::{metrics_server, say};

/// The commands handed to the scheduler beyond those that run, so that one is always ready.
const QUEUED_MAX: usize = 32;
/// Results that may wait for a slow reader of standard output before starting pauses.
const BACKLOG_MAX: usize = 256;
/// The arguments read ahead of what is handed to the scheduler.
const PENDING_MIN: usize = 1024;
/// How often a command is stopped for memory and given twice as much, before it runs alone.
const DOUBLINGS_MAX: u32 = 3;
/// What the scheduler leaves a command to stop by itself, SIGTERM and SIGKILL included.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Results in files that may wait for an earlier one, with `--keep-order`, before starting pauses.
const HELD_FILES_MAX: usize = 128;
/// How long writing may make no progress once the run was stopped by force.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);
/// The failures that the summary lists again.
const FAILURES_LISTED_MAX: usize = 20;

/// What a run is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) args: MapArgs,
    pub(crate) template: Template,
    pub(crate) source: Source,
    pub(crate) limits: Limits,
    pub(crate) metrics_listener: Option<TcpListener>,
}

/// Carries out `plan` and returns the exit code.
pub(crate) fn main(plan: Plan, signals: OwnedFd) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.and_then(|runtime| {
        let code = runtime.block_on(async { Run::start(plan, signals).await?.finish().await });
        // Nothing is left to wait for; a thread that is still reading the input would be.
        runtime.shutdown_background();
        code
    });
    result.unwrap_or_else(|error| {
        say(error);
        EXIT_FAILED
    })
}

/// A command that has not succeeded or failed for good yet.
#[derive(Debug)]
struct Job {
    number: u64,
    argument: OsString,
    attempts: u32,
    memory_stops: u32,
    reservation_bytes: u64,
}

/// A job whose task has ended, and what its command left there if it was started at all.
struct Ended {
    job: Job,
    result: Result<(), TaskError>,
    finished: Option<Finished>,
}

/// How far the run has been told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    /// Nothing new is started.
    Feeding,
    /// What runs is killed.
    Running,
}

struct Run {
    args: MapArgs,
    template: Template,
    limits: Limits,
    tripod: Tripod,
    environment: Arc<Environment>,
    telemetry: Telemetry,
    signals: Signals,
    has_guard: bool,
    batches: Option<Batches>,
    pending: VecDeque<Job>,
    in_flight: FuturesUnordered<BoxFuture<'static, Ended>>,
    in_flight_max: usize,
    tasks: HashMap<u64, TaskId>,
    labels: HashMap<u64, String>,
    printer: Printer,
    progress: Progress,
    notes: Notes,
    /// Results that wait for those before them, with `--keep-order`.
    held: BTreeMap<u64, CommandReport>,
    held_bytes: u64,
    /// How many of them are in files, which are limited in number.
    held_files: usize,
    next_printed: u64,
    /// Jobs in flight that need so much of the budget that held results must make room.
    large_in_flight: usize,
    failures: Vec<String>,
    /// The highest peak of a single command: the least that the peak of all can have been.
    largest_peak_bytes: Option<u64>,
    summary: Summary,
    read: u64,
    stop: Option<Stop>,
    is_output_closed: bool,
    exit_signal: Option<i32>,
    error: Option<io::Error>,
    clock: Instant,
}

impl Run {
    async fn start(plan: Plan, signals: OwnedFd) -> io::Result<Self> {
        let Plan { args, template, source, limits, metrics_listener } = plan;
        let tripod = Tripod::builder()
            .memory_budget_bytes(limits.budget_bytes)
            .concurrency(limits.jobs)
            .build()
            .map_err(io::Error::other)?;
        let progress = Progress::new(args.progress);
        let notes = Notes::start(progress.bar())?;
        if let Some(listener) = metrics_listener {
            let address = metrics_server::start(listener, tripod.metrics().clone())?;
            notes.line(format!("tripod: metrics at http://{address}/metrics"));
        }
        let watch = Watch::start(tripod.memory().root().clone())?;
        let groups = CgroupRoot::create();
        let groups = groups.map_err(|why| tracing::debug!(why, "measuring by /proc")).ok();
        let environment = Arc::new(Environment {
            memory: tripod.memory().clone(),
            reaper: Reaper::start()?,
            watch: Arc::clone(&watch),
            groups,
        });
        let style = Style { json: args.json, notes: notes.clone() };
        let telemetry = Telemetry::register(tripod.metrics(), &watch).map_err(io::Error::other)?;
        Ok(Self {
            args,
            template,
            limits,
            tripod,
            environment,
            telemetry,
            signals: Signals::listen(signals)?,
            has_guard: true,
            batches: Some(source.start()?),
            pending: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
            in_flight_max: limits.jobs.get().saturating_add(QUEUED_MAX),
            tasks: HashMap::new(),
            labels: HashMap::new(),
            printer: Printer::start(style)?,
            progress,
            notes,
            held: BTreeMap::new(),
            held_bytes: 0,
            held_files: 0,
            next_printed: 1,
            large_in_flight: 0,
            failures: Vec::new(),
            largest_peak_bytes: None,
            summary: Summary::default(),
            read: 0,
            stop: None,
            is_output_closed: false,
            exit_signal: None,
            error: None,
            clock: Instant::now(),
        })
    }

    /// Runs everything there is to run, and returns the exit code.
    async fn finish(mut self) -> io::Result<u8> {
        let mut ticks = self.progress.interval().map(|every| {
            let first = tokio::time::Instant::now() + every;
            tokio::time::interval_at(first, every)
        });
        loop {
            self.feed();
            if self.is_over() {
                break;
            }
            let wants_input = self.stop.is_none() && self.pending.len() < PENDING_MIN;
            tokio::select! {
                biased;
                signal = self.signals.next(), if self.has_guard => self.on_signal(signal),
                Some(ended) = self.in_flight.next() => self.on_ended(ended),
                written = self.printer.written(), if self.printer.backlog() > 0 => {
                    if let Err(error) = written {
                        self.on_output_error(error);
                    }
                }
                batch = receive(&mut self.batches), if wants_input && self.batches.is_some() => {
                    self.on_batch(batch);
                }
                () = tick(&mut ticks) => {
                    let view = self.view();
                    self.progress.update(&view, &self.notes);
                }
            }
        }
        for (_, report) in std::mem::take(&mut self.held) {
            self.printer.print(report);
        }
        self.write_backlog().await;
        self.conclude().await
    }

    /// Waits until all results are written. When the run was stopped by force, not for ever: their
    /// reader may have stopped reading.
    async fn write_backlog(&mut self) {
        while self.printer.backlog() > 0 && !self.is_output_closed {
            let patience = match self.stop {
                Some(Stop::Running) => WRITE_PATIENCE,
                _ => Duration::MAX,
            };
            tokio::select! {
                written = self.printer.written() => {
                    if let Err(error) = written {
                        self.on_output_error(error);
                    }
                }
                signal = self.signals.next(), if self.has_guard => self.on_signal(signal),
                () = tokio::time::sleep(patience) => return,
            }
        }
    }

    fn is_over(&self) -> bool {
        let nothing_to_start =
            self.stop.is_some() || (self.batches.is_none() && self.pending.is_empty());
        nothing_to_start && self.in_flight.is_empty()
    }

    fn on_batch(&mut self, batch: Option<io::Result<Vec<OsString>>>) {
        match batch {
            Some(Ok(arguments)) => {
                for argument in arguments {
                    self.read += 1;
                    self.pending.push_back(Job {
                        number: self.read,
                        argument,
                        attempts: 0,
                        memory_stops: 0,
                        reservation_bytes: self.limits.reservation_bytes,
                    });
                }
            }
            Some(Err(error)) => {
                self.batches = None;
                let text = format!("cannot read more arguments: {error}");
                self.notes.line(format!("tripod: {text}"));
                self.error = Some(io::Error::other(text));
            }
            None => self.batches = None,
        }
    }

    /// Hands pending jobs to the scheduler while it has room for them.
    fn feed(&mut self) {
        while self.stop.is_none()
            && self.in_flight.len() < self.in_flight_max
            && self.printer.backlog() < BACKLOG_MAX
        {
            // One that is run again may be the one whose turn to be printed all others wait for.
            let may_start = |job: &Job| job.attempts > 0 || self.held_files < HELD_FILES_MAX;
            if !self.pending.front().is_some_and(may_start) {
                return;
            }
            if let Some(job) = self.pending.pop_front() {
                self.submit(job);
            }
        }
    }

    fn submit(&mut self, mut job: Job) {
        job.attempts += 1;
        if self.is_large(&job) {
            self.large_in_flight += 1;
            self.spill_held();
        }
        let invocation = self.template.invocation(&job.argument, job.number);
        let spec = Spec {
            number: job.number,
            attempt: job.attempts,
            script: invocation.script.into_owned(),
            parameters: invocation.parameters,
        };
        let environment = Arc::clone(&self.environment);
        let slot = Arc::new(Mutex::new(None));
        let result_slot = Arc::clone(&slot);
        let mut task = Task::with_context(move |context| async move {
            let finished = command::run(&environment, spec, &context).await;
            *result_slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(finished);
        })
        .name("map")
        .priority(self.args.priority)
        .memory_bytes(job.reservation_bytes)
        .cancel_grace(STOP_GRACE);
        if let Some(timeout) = self.args.timeout {
            task = task.timeout(timeout);
        }
        match self.tripod.submit(task) {
            Ok(handle) => {
                self.tasks.insert(job.number, handle.id());
                self.labels.insert(job.number, label(&job.argument, 60));
                self.in_flight.push(Box::pin(async move {
                    let result = handle.await;
                    let finished = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                    Ended { job, result, finished }
                }));
            }
            Err(error) => {
                self.error = Some(io::Error::other(error));
                self.pending.push_front(job);
                self.stop(Stop::Feeding);
            }
        }
    }

    /// Whether the job needs so much of the budget that held results would be in its way.
    fn is_large(&self, job: &Job) -> bool {
        let held_bytes_max = self.limits.budget_bytes / SPARE_FRACTION;
        job.reservation_bytes > self.limits.budget_bytes - held_bytes_max
    }

    fn on_ended(&mut self, ended: Ended) {
        let Ended { job, result, finished } = ended;
        self.tasks.remove(&job.number);
        self.labels.remove(&job.number);
        if self.is_large(&job) {
            self.large_in_flight -= 1;
        }
        let Some(finished) = finished else {
            self.on_vanished(job, result);
            return;
        };
        self.telemetry.record(&finished);
        self.largest_peak_bytes = self.largest_peak_bytes.max(finished.memory_peak_bytes);
        match self.again(job, &finished) {
            Ok(again) => self.pending.push_front(again),
            Err(job) => self.conclude_job(job, finished),
        }
    }

    /// A job without a result: cancelled before it was started, or its processes would not end.
    fn on_vanished(&mut self, job: Job, result: Result<(), TaskError>) {
        let reason = match result {
            Err(TaskError::Cancelled) => {
                self.summary.not_run += 1;
                return;
            }
            Err(error) => format!("{error}, and it could not be stopped"),
            Ok(()) => "it left no result".to_owned(),
        };
        let memory = self.environment.memory.clone();
        self.conclude_job(job, Finished::without_a_run(memory, Outcome::Error(reason)));
    }

    /// The job as it is to be run again, or as it was if it is over.
    fn again(&mut self, mut job: Job, finished: &Finished) -> Result<Job, Job> {
        let is_alone = job.reservation_bytes >= self.limits.budget_bytes;
        if finished.outcome == Outcome::OutOfMemory && !is_alone {
            let is_doubling = job.memory_stops < DOUBLINGS_MAX;
            let factor = if is_doubling { 2 } else { u64::MAX };
            // What it had when it was stopped: more than it began with, if there was some to take.
            let had_bytes = finished.memory_reserved_bytes.max(job.reservation_bytes);
            let wanted_bytes = had_bytes.saturating_mul(factor);
            job.reservation_bytes = wanted_bytes.min(self.limits.budget_bytes);
            job.memory_stops += 1;
            self.summary.memory_stops += 1;
            return Ok(job);
        }
        let others = self.in_flight.len();
        if matches!(finished.outcome, Outcome::Starved(_)) && others > 0 && self.stop.is_none() {
            // Those that run will give back what is missing; from now on no more of them at once.
            let running = self.environment.watch.running().len();
            self.in_flight_max = self.in_flight_max.min(running.max(1));
            job.attempts -= 1;
            return Ok(job);
        }
        let failed_attempts = job.attempts - job.memory_stops;
        let is_retriable = !finished.outcome.is_success()
            && !matches!(finished.outcome, Outcome::Killed | Outcome::OutOfMemory)
            && failed_attempts <= self.args.retries
            && self.stop.is_none();
        if !is_retriable {
            return Err(job);
        }
        self.summary.retries += 1;
        Ok(job)
    }

    fn conclude_job(&mut self, job: Job, finished: Finished) {
        let report = CommandReport {
            number: job.number,
            command: self.template.display(&job.argument, job.number),
            argument: job.argument,
            attempts: job.attempts,
            memory_stops: job.memory_stops,
            budget_bytes: self.limits.budget_bytes,
            finished,
        };
        self.summary.commands += 1;
        if report.is_success() {
            self.summary.succeeded += 1;
        } else {
            self.summary.failed += 1;
            if self.failures.len() < FAILURES_LISTED_MAX {
                self.failures.push(report.failure_line());
            }
            if self.args.fail_fast {
                self.stop(Stop::Feeding);
            }
        }
        if self.args.keep_order {
            self.hold(report);
        } else {
            self.printer.print(report);
        }
    }

    /// Keeps a result until those before it are printed, in memory if there is little of it.
    fn hold(&mut self, mut report: CommandReport) {
        let bytes_max = match self.large_in_flight {
            0 => self.limits.budget_bytes / SPARE_FRACTION,
            _ => 0,
        };
        if self.held_bytes + held_bytes(&report) > bytes_max {
            self.spill(&mut report);
        }
        self.held_bytes += held_bytes(&report);
        self.held_files += usize::from(report.finished.output.is_in_files());
        self.held.insert(report.number, report);
        while let Some(report) = self.held.remove(&self.next_printed) {
            self.next_printed += 1;
            self.held_bytes -= held_bytes(&report);
            self.held_files -= usize::from(report.finished.output.is_in_files());
            self.printer.print(report);
        }
    }

    /// Moves all held output to files, so that a large command can have its memory.
    fn spill_held(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        held.values_mut().filter(|report| held_bytes(report) > 0).for_each(|r| self.spill(r));
        self.held_bytes = held.values().map(held_bytes).sum();
        self.held_files = held.values().filter(|r| r.finished.output.is_in_files()).count();
        self.held = held;
    }

    /// Moves output to a file. Without one the run cannot go on: a command may wait for the memory.
    fn spill(&mut self, report: &mut CommandReport) {
        if let Err(error) = report.finished.output.spill() {
            let folder = std::env::temp_dir();
            let text = format!("cannot keep output in {}: {error}", folder.display());
            self.error = Some(io::Error::other(text + "; set TMPDIR to a folder with room"));
            self.stop(Stop::Feeding);
        }
    }

    fn on_signal(&mut self, signal: Option<i32>) {
        match signal {
            Some(libc::SIGINT) if !self.summary.interrupted => {
                self.summary.interrupted = true;
                self.exit_signal = Some(libc::SIGINT);
                let running = self.environment.watch.running().len();
                self.notes.line(format!(
                    "tripod: interrupted; waiting for {running} running (Ctrl-C again kills them)"
                ));
                self.stop(Stop::Feeding);
            }
            Some(libc::SIGINT) => self.stop(Stop::Running),
            Some(libc::SIGTSTP) => self.suspend(),
            signal => {
                // SIGTERM and the like, or the end of the guard: leave nothing behind.
                self.has_guard = signal.is_some();
                self.summary.interrupted = true;
                self.exit_signal = Some(signal.unwrap_or(libc::SIGKILL));
                self.stop(Stop::Running);
            }
        }
    }

    /// Stops with all commands until the user lets them go on.
    fn suspend(&mut self) {
        let watch = &self.environment.watch;
        watch.set_suspended(true);
        let _ = kill_process(getpid(), Signal::STOP);
        watch.set_suspended(false);
    }

    fn on_output_error(&mut self, error: io::Error) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // As any program whose reader has gone: stop without a word.
            self.exit_signal = Some(libc::SIGPIPE);
            self.is_output_closed = true;
        } else {
            self.notes.line(format!("tripod: cannot write results: {error}"));
            self.error = Some(error);
        }
        self.stop(Stop::Running);
    }

    fn stop(&mut self, how: Stop) {
        if self.stop >= Some(how) {
            return;
        }
        self.stop = Some(how);
        let drain = match how {
            Stop::Feeding => Drain::FinishRunning,
            Stop::Running => Drain::Now,
        };
        let scheduler = self.tripod.scheduler().clone();
        tokio::spawn(async move { scheduler.shutdown(drain).await });
    }

    fn view(&self) -> View {
        let now = Instant::now();
        let running = self.environment.watch.running().into_iter().map(|command| RunningLine {
            number: command.number,
            label: self.labels.get(&command.number).cloned().unwrap_or_default(),
            elapsed: now.duration_since(command.started),
            used_bytes: command.used_bytes,
        });
        View {
            total: self.read,
            is_total_final: self.batches.is_none(),
            done: self.summary.commands,
            failed: self.summary.failed,
            elapsed: self.clock.elapsed(),
            memory_used_bytes: self.environment.watch.totals().used_bytes,
            memory_budget_bytes: self.limits.budget_bytes,
            running: running.collect(),
        }
    }

    /// Writes the summary.
    async fn conclude(mut self) -> io::Result<u8> {
        self.progress.finish();
        let summary = self.summary();
        let mut exit_code = summary.exit_code;
        if let Err(error) = self.printer.finish(&summary)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            self.notes.line(format!("tripod: cannot write results: {error}"));
            exit_code = exit_code.max(EXIT_FAILED);
        }
        if !self.args.json && !self.args.quiet && !self.is_output_closed {
            self.notes.line(summary_text(&summary, &self.failures));
        }
        if let Some(error) = &self.error {
            self.notes.line(format!("tripod: stopped: {error}"));
        }
        tokio::select! {
            () = self.notes.flush() => {}
            // Its reader does not read, and the user has lost patience.
            _ = self.signals.next(), if self.has_guard => {}
            () = tokio::time::sleep(WRITE_PATIENCE), if self.stop == Some(Stop::Running) => {}
        }
        Ok(exit_code)
    }

    fn summary(&self) -> Summary {
        let signal_code = |signal: i32| 128 + u8::try_from(signal).unwrap_or(0);
        let is_failed = self.summary.failed > 0 || self.summary.not_run > 0 || self.error.is_some();
        let exit_code = match self.exit_signal {
            Some(signal) => signal_code(signal),
            None if is_failed => EXIT_FAILED,
            None => 0,
        };
        Summary {
            not_run: self.summary.not_run + self.pending.len() as u64,
            wall_ms: whole_ms(self.clock.elapsed()),
            jobs: self.limits.jobs.get(),
            memory_budget_bytes: self.limits.budget_bytes,
            memory_peak_bytes: self
                .largest_peak_bytes
                .unwrap_or(0)
                .max(self.environment.watch.totals().peak_bytes),
            memory_waits: self.tripod.scheduler().stats().memory_waits,
            exit_code,
            ..self.summary.clone()
        }
    }
}

fn held_bytes(report: &CommandReport) -> u64 {
    report.finished.output.memory_bytes() as u64
}

fn summary_text(summary: &Summary, failures: &[String]) -> String {
    let mut text = format!("tripod: {summary}");
    for failure in failures {
        text.push_str("\n  ");
        text.push_str(failure);
    }
    match summary.failed - failures.len() as u64 {
        0 => {}
        more => text.push_str(&format!("\n  and {more} more")),
    }
    text
}

async fn receive(batches: &mut Option<Batches>) -> Option<io::Result<Vec<OsString>>> {
    match batches {
        Some(batches) => batches.recv().await,
        None => None,
    }
}

async fn tick(ticks: &mut Option<tokio::time::Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}
