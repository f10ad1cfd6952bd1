//! One run: feeds commands to the scheduler, takes their results, and answers to signals.
//!
//! Everything here happens on one thread, the runtime's. Others read the input, wait for children,
//! watch memory and write the results.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tripod::{Drain, Task, TaskError, TaskId, Tripod};

use super::args::MapArgs;
use super::command::{self, Environment, Finished, Outcome, Spec};
use super::input::{Batches, Source};
use super::printer::{Printer, Style};
use super::progress::{Notes, Progress, RunningLine, View};
use super::report::{CommandReport, Summary, label, whole_ms};
use super::telemetry::Telemetry;
use super::template::Template;
use super::watch::Watch;
use super::{EXIT_FAILED, EXIT_USAGE, Limits, SPARE_FRACTION};
use crate::metrics_server;
use crate::process::cgroup::CgroupRoot;
use crate::process::guard::Signals;
use crate::process::reaper::Reaper;

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
/// The failures that the summary lists again.
const FAILURES_LISTED_MAX: usize = 20;

/// What a run is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) args: MapArgs,
    pub(crate) template: Template,
    pub(crate) source: Source,
    pub(crate) limits: Limits,
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
        eprintln!("tripod: {error}");
        if error.kind() == io::ErrorKind::AddrInUse { EXIT_USAGE } else { EXIT_FAILED }
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
    tasks: HashMap<u64, TaskId>,
    labels: HashMap<u64, String>,
    printer: Printer,
    progress: Progress,
    notes: Notes,
    /// Results that wait for those before them, with `--keep-order`.
    held: BTreeMap<u64, CommandReport>,
    held_bytes: u64,
    next_printed: u64,
    /// Jobs in flight that need so much of the budget that held results must make room.
    large_in_flight: usize,
    failures: Vec<String>,
    /// The highest peak of a single command: the least that the peak of all can have been.
    largest_peak_bytes: Option<u64>,
    summary: Summary,
    read: u64,
    stop: Option<Stop>,
    exit_signal: Option<i32>,
    error: Option<io::Error>,
    clock: Instant,
}

impl Run {
    async fn start(plan: Plan, signals: OwnedFd) -> io::Result<Self> {
        let Plan { args, template, source, limits } = plan;
        let tripod = Tripod::builder()
            .memory_budget_bytes(limits.budget_bytes)
            .concurrency(limits.jobs)
            .build()
            .map_err(io::Error::other)?;
        if let Some(address) = args.metrics_addr {
            let bound = metrics_server::start(address, tripod.metrics().clone()).await;
            let bound = bound.map_err(|error| {
                let text = format!("cannot serve metrics on {address}: {error}");
                io::Error::new(error.kind(), text)
            })?;
            eprintln!("tripod: metrics at http://{bound}/metrics");
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
        let progress = Progress::new(args.progress);
        let notes = progress.notes();
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
            tasks: HashMap::new(),
            labels: HashMap::new(),
            printer: Printer::start(style)?,
            progress,
            notes,
            held: BTreeMap::new(),
            held_bytes: 0,
            next_printed: 1,
            large_in_flight: 0,
            failures: Vec::new(),
            largest_peak_bytes: None,
            summary: Summary::default(),
            read: 0,
            stop: None,
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
                    self.progress.update(&view);
                }
            }
        }
        for (_, report) in std::mem::take(&mut self.held) {
            self.printer.print(report);
        }
        self.write_backlog().await;
        self.conclude()
    }

    /// Waits until all results are written, or for a signal if their reader does not read.
    async fn write_backlog(&mut self) {
        while self.printer.backlog() > 0 && self.stop != Some(Stop::Running) {
            tokio::select! {
                written = self.printer.written() => {
                    if let Err(error) = written {
                        self.on_output_error(error);
                    }
                }
                signal = self.signals.next(), if self.has_guard => self.on_signal(signal),
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
                self.notes.line(&format!("tripod: {text}"));
                self.error = Some(io::Error::other(text));
            }
            None => self.batches = None,
        }
    }

    /// Hands pending jobs to the scheduler while it has room for them.
    fn feed(&mut self) {
        let in_flight_max = self.limits.jobs.get() + QUEUED_MAX;
        while self.stop.is_none()
            && self.in_flight.len() < in_flight_max
            && self.printer.backlog() < BACKLOG_MAX
        {
            let Some(job) = self.pending.pop_front() else { return };
            self.submit(job);
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
            self.on_vanished(&job, &result);
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
    fn on_vanished(&mut self, job: &Job, result: &Result<(), TaskError>) {
        if let Err(TaskError::Cancelled) = result {
            self.summary.not_run += 1;
            return;
        }
        let reason = result.as_ref().err().map_or("it vanished".to_owned(), ToString::to_string);
        let failure = format!("#{} failed ({reason}, and could not be stopped)", job.number);
        self.notes.line(&format!("tripod: {failure}"));
        self.summary.commands += 1;
        self.summary.failed += 1;
        self.failures.push(failure);
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
            self.failures.push(report.failure_line());
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
            spill(&mut report);
        }
        self.held_bytes += held_bytes(&report);
        self.held.insert(report.number, report);
        while let Some(report) = self.held.remove(&self.next_printed) {
            self.next_printed += 1;
            self.held_bytes -= held_bytes(&report);
            self.printer.print(report);
        }
    }

    /// Moves all held output to files, so that a large command can have its memory.
    fn spill_held(&mut self) {
        self.held.values_mut().filter(|report| held_bytes(report) > 0).for_each(spill);
        self.held_bytes = self.held.values().map(held_bytes).sum();
    }

    fn on_signal(&mut self, signal: Option<i32>) {
        match signal {
            Some(libc::SIGINT) if !self.summary.interrupted => {
                self.summary.interrupted = true;
                self.exit_signal = Some(libc::SIGINT);
                let running = self.environment.watch.running().len();
                self.notes.line(&format!(
                    "tripod: interrupted; waiting for {running} running (Ctrl-C again kills them)"
                ));
                self.stop(Stop::Feeding);
            }
            Some(libc::SIGINT) => self.stop(Stop::Running),
            signal => {
                // SIGTERM and the like, or the end of the guard: leave nothing behind.
                self.has_guard = signal.is_some();
                self.summary.interrupted = true;
                self.exit_signal = Some(signal.unwrap_or(libc::SIGKILL));
                self.stop(Stop::Running);
            }
        }
    }

    fn on_output_error(&mut self, error: io::Error) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // As any program whose reader has gone: stop without a word.
            self.exit_signal = Some(libc::SIGPIPE);
        } else {
            self.notes.line(&format!("tripod: cannot write results: {error}"));
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

    /// Writes what is left to write, and the summary.
    fn conclude(mut self) -> io::Result<u8> {
        self.progress.finish();
        let summary = self.summary();
        if let Err(error) = self.printer.finish(&summary)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            eprintln!("tripod: cannot write results: {error}");
        }
        if !self.args.json && !self.args.quiet && self.exit_signal != Some(libc::SIGPIPE) {
            print_summary(&summary, &self.failures);
        }
        if let Some(error) = &self.error {
            eprintln!("tripod: stopped: {error}");
        }
        Ok(summary.exit_code)
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

fn spill(report: &mut CommandReport) {
    if let Err(error) = report.finished.output.spill() {
        // It stays in memory, where it is safe; the run goes on with less of it.
        tracing::warn!(%error, "output could not be moved to a temporary file");
    }
}

fn print_summary(summary: &Summary, failures: &[String]) {
    eprintln!("tripod: {summary}");
    for failure in failures.iter().take(FAILURES_LISTED_MAX) {
        eprintln!("  {failure}");
    }
    if let Some(more) = failures.len().checked_sub(FAILURES_LISTED_MAX).filter(|more| *more > 0) {
        eprintln!("  and {more} more");
    }
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
