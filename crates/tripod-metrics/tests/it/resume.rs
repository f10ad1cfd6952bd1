//! Processes that are killed while they count.
//!
//! A round runs this binary again as a child that counts on several threads and writes down, by
//! `pwrite`, how far each has come; kills it at a random moment; and looks at what is found. 40 rounds
//! by default, 200 with `TRIPOD_LONG`, or as many as it says; `TRIPOD_SEED` repeats the choice of moments.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing there")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tripod_metrics::snapshot::Value;
use tripod_metrics::{
    Counter, Family, FloatCounter, Histogram, MetricsCollector, ResumeError, Resumed, Start,
    Summary,
};

/// Threads that count for as long as the process lives.
const THREADS: u64 = 2;
/// Rounds of counting that a thread does before it says so.
const UNSAID_MAX: u64 = 16;
/// Where the number of threads that came and went is written, and that of series.
const SHORT: u64 = THREADS;
const CHURN: u64 = THREADS + 1;
/// Where it is written that the child has begun.
const BEGUN: u64 = THREADS + 2;
const PLACES: u64 = THREADS + 3;

/// How far the child has come, in a file that both processes have.
pub(crate) struct Progress(File);

impl Progress {
    pub(crate) fn create(path: &Path) -> Self {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(path).unwrap();
        file.set_len(PLACES * 8).unwrap();
        Self(file)
    }

    fn open(path: &Path) -> Self {
        Self(File::options().read(true).write(true).open(path).unwrap())
    }

    pub(crate) fn put(&self, place: u64, number: u64) {
        self.0.write_all_at(&number.to_le_bytes(), place * 8).unwrap();
    }

    pub(crate) fn get(&self, place: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, place * 8).unwrap();
        u64::from_le_bytes(bytes)
    }
}

/// Everything that the child counts in.
struct Metrics {
    own: Family<Counter>,
    hits: Counter,
    float: FloatCounter,
    classic: Histogram,
    native: Histogram,
    spread: Histogram,
    summary: Summary,
    short: Counter,
    churn: Family<Counter>,
}

impl Metrics {
    fn of(metrics: &MetricsCollector) -> Self {
        let histogram = |name: &str| metrics.histogram(name, "Values.");
        let churn = metrics.counter("churn_total", "Series.").labels(["n"]).max_series(1_000_000);
        Self {
            own: metrics.counter("own_total", "Own.").labels(["thread"]).register().unwrap(),
            hits: metrics.counter("hits_total", "Hits.").register().unwrap().plain(),
            float: metrics.float_counter("busy_total", "Busy.").register().unwrap().plain(),
            classic: histogram("classic").register().unwrap().plain(),
            native: histogram("native").exponential(3).register().unwrap().plain(),
            spread: histogram("spread").exponential(5).register().unwrap().plain(),
            summary: metrics.summary("summary", "Values.").register().unwrap().plain(),
            short: metrics.counter("short_total", "Threads.").register().unwrap().plain(),
            churn: churn.idle_timeout(Duration::from_millis(1)).register().unwrap(),
        }
    }

    fn count(&self, thread: u64, round: u64) {
        self.own.inc(&[&thread.to_string()]).unwrap();
        self.hits.inc();
        self.float.add(0.5);
        self.classic.observe(1.0);
        self.native.observe(1.0);
        // A value now and then falls into a page that is not there yet.
        let exponent = (round / 64 % 120) as i32 - 60;
        self.spread
            .observe(2_f64.powi(exponent) * if round.is_multiple_of(2) { 1.0 } else { -1.0 });
        self.summary.observe(1.0);
    }

    /// Each number that grows by 1 with every round of a thread, with its name.
    fn numbers(&self) -> Vec<(&'static str, u64)> {
        let classic = self.classic.snapshot();
        let native = self.native.exponential_snapshot().unwrap();
        let summary = self.summary.snapshot();
        for (name, count, sum) in [
            ("classic", classic.count, classic.sum),
            ("native", native.count, native.sum),
            ("summary", summary.count, summary.sum),
        ] {
            assert_eq!(count as f64, sum, "count and sum of {name} agree");
        }
        let own = |thread: u64| self.own.with(&[&thread.to_string()]).unwrap().get();
        let spread = self.spread.exponential_snapshot().unwrap();
        vec![
            ("own", (0..THREADS).map(own).sum()),
            ("hits", self.hits.get()),
            ("float", (2.0 * self.float.get()) as u64),
            ("classic", classic.count),
            ("native", native.count),
            ("spread", spread.count),
            ("summary", summary.count),
        ]
    }
}

/// What a series of the churn counts to at once, so that no two are alike.
fn churned(series: u64) -> u64 {
    series * 1_000_003 + 7
}

/// Describes this binary as a child that runs `test` alone, on a directory.
pub(crate) fn child(test: &str, directory: &Path, progress: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--ignored", "--test-threads=1"])
        .env("TRIPOD_RESUME_DIRECTORY", directory)
        .env("TRIPOD_RESUME_PROGRESS", progress)
        .env("TRIPOD_RESUME_PARENT", std::process::id().to_string())
        .stdout(Stdio::null());
    command
}

/// The directory and the progress of this process, if it is a child.
pub(crate) fn as_child() -> Option<(PathBuf, Progress)> {
    let directory = std::env::var_os("TRIPOD_RESUME_DIRECTORY")?;
    let progress = std::env::var_os("TRIPOD_RESUME_PROGRESS")?;
    Some((directory.into(), Progress::open(progress.as_ref())))
}

/// Ends this process, a child, if nobody is left to kill it.
pub(crate) fn end_if_orphan() {
    let parent = std::env::var("TRIPOD_RESUME_PARENT").unwrap();
    if parent != parent_id().to_string() {
        std::process::exit(1);
    }
}

#[test]
#[ignore = "is run as a child by the tests below, and never ends by itself"]
fn child_that_counts() {
    let Some((directory, progress)) = as_child() else { return };
    let (collector, resumed) = MetricsCollector::builder().build_resumed(directory).unwrap();
    assert!(matches!(resumed.start, Start::Continued | Start::First), "{}", resumed.start);
    let metrics = &Metrics::of(&collector);
    let first = resumed.generation * 10_000_000;
    progress.put(BEGUN, first);
    let (progress, collector) = (&progress, &collector);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for round in 1.. {
                    metrics.count(thread, round);
                    if round.is_multiple_of(UNSAID_MAX) {
                        progress.put(thread, round);
                    }
                }
            });
        }
        scope.spawn(move || {
            for thread in 1.. {
                std::thread::scope(|scope| drop(scope.spawn(|| metrics.short.inc())));
                progress.put(SHORT, thread);
            }
        });
        for series in first.. {
            metrics.churn.add(&[&series.to_string()], churned(series)).unwrap();
            progress.put(CHURN, series + 1);
            if series.is_multiple_of(50) {
                collector.maintain();
                end_if_orphan();
            }
        }
    });
}

/// Kills a child when it is gone.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _may_have_ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Waits until `is_so`; the child is alive meanwhile.
fn wait_until(child: &mut Killed, is_so: impl Fn() -> bool) {
    while !is_so() {
        let ended = child.0.try_wait().unwrap();
        assert!(ended.is_none(), "the child ended by itself: {ended:?}");
        std::thread::yield_now();
    }
}

/// Pseudo-random numbers (Marsaglia's xorshift, 2003).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A child counts until a random moment; returns how many rounds it said it had done.
fn run_and_kill(directory: &Path, path: &Path, random: &mut u64) -> Progress {
    let progress = Progress::create(path);
    let command = &mut child("resume::child_that_counts", directory, path);
    let mut child = Killed(command.stderr(Stdio::null()).spawn().unwrap());
    if next(random).is_multiple_of(8) {
        // While it starts, or opens the directory.
        (0..next(random) % 3000).for_each(|_| std::thread::yield_now());
    } else {
        // One of the threads has come so far; the others may be anywhere.
        let (place, least) = match next(random) % 3 {
            0 => (0, next(random) % 2000),
            1 => (SHORT, next(random) % 200),
            _ => (CHURN, next(random) % 400),
        };
        let from = |progress: &Progress| if place == CHURN { progress.get(BEGUN) } else { 0 };
        let is_far = || progress.get(place).saturating_sub(from(&progress)) >= least;
        wait_until(&mut child, || progress.get(BEGUN) > 0 && is_far());
        (0..next(random) % 50_000).for_each(|_| std::hint::spin_loop());
    }
    drop(child);
    progress
}

/// Each number lies between what it was and was said to have been added, and what can have been.
fn check_round(before: &[(&str, u64)], after: &[(&str, u64)], progress: &Progress) {
    let said: u64 = (0..THREADS).map(|thread| progress.get(thread)).sum();
    for ((name, before), (_, after)) in before.iter().zip(after) {
        let possible = before + said..=before + said + THREADS * UNSAID_MAX;
        assert!(possible.contains(after), "{name}: {after} is not in {possible:?}");
    }
}

/// No series of the churn has a number that is another's, and none that was there, and was said to have
/// its number, has lost it. Returns how many are left.
fn check_churn(
    collector: &MetricsCollector,
    metrics: &Metrics,
    progress: &Progress,
    opened: SystemTime,
) -> usize {
    let (first, end) = (progress.get(BEGUN), progress.get(CHURN));
    let newest = end.saturating_sub(300).max(first)..if end == 0 { 0 } else { end + 1 };
    for series in newest {
        metrics.churn.add(&[&series.to_string()], 0).unwrap();
    }
    let families = collector.snapshot().families;
    let churn = families.into_iter().find(|family| family.name == "churn_total");
    let mut found = 0;
    for one in churn.into_iter().flat_map(|family| family.series) {
        let series: u64 = one.labels[0].1.parse().unwrap();
        let Value::Counter(number) = one.value else { panic!("{:?}", one.value) };
        let was_there = one.created < opened;
        let is_right = match number {
            0 => !was_there || series >= end,
            number => number == churned(series),
        };
        assert!(is_right, "series {series} of {end} has {number}, not {}", churned(series));
        found += usize::from(number > 0);
    }
    found
}

#[test]
fn nothing_is_lost_or_counted_twice_when_a_process_is_killed() {
    let long = std::env::var("TRIPOD_LONG").ok();
    let rounds = long.map_or(40, |rounds| rounds.parse().ok().filter(|n| *n > 1).unwrap_or(200));
    let seed = std::env::var("TRIPOD_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = seed.unwrap_or_else(now) | 1;
    eprintln!("TRIPOD_SEED={seed}");
    let mut random = seed;
    let place = tempfile::tempdir_in(memory()).unwrap();
    let (directory, path) = (place.path().join("cells"), place.path().join("progress"));
    let mut before: Vec<(&str, u64)> = Vec::new();
    let (mut short, mut churn) = (0, 0);
    for round in 0..rounds {
        let progress = run_and_kill(&directory, &path, &mut random);
        // Times of creation are kept in milliseconds.
        let opened = SystemTime::now() - Duration::from_millis(1);
        let (collector, resumed) = reopen(&directory, round);
        let metrics = Metrics::of(&collector);
        let after = metrics.numbers();
        if before.is_empty() {
            before = after.iter().map(|(name, _)| (*name, 0)).collect();
        }
        eprintln!("{round}: {} of {resumed:?}", after[1].1);
        check_round(&before, &after, &progress);
        let ended = short + progress.get(SHORT);
        short = metrics.short.get();
        assert!((ended..=ended + 1).contains(&short), "{short} threads, {ended} were said");
        churn += check_churn(&collector, &metrics, &progress, opened);
        before = after;
    }
    let least = if rounds < 40 { 0 } else { u64::from(rounds) };
    let is_enough = before[1].1 > 10 * least && short > least && churn as u64 > least;
    assert!(is_enough, "more must have been counted: {before:?}, {short} threads, {churn} series");
}

fn reopen(directory: &Path, round: u32) -> (MetricsCollector, Resumed) {
    let (collector, resumed) = MetricsCollector::builder().build_resumed(directory).unwrap();
    let is_right = match resumed.start {
        Start::Continued => true,
        // The very first child may have been killed before it made the files.
        Start::First => round == 0 || resumed.generation <= 1,
        _ => false,
    };
    assert!(is_right, "round {round}: {}", resumed.start);
    (collector, resumed)
}

/// Where files are in memory, if there is such a place.
pub(crate) fn memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

#[test]
fn a_second_process_is_told_which_one_has_the_directory() {
    let place = tempfile::tempdir_in(memory()).unwrap();
    let (directory, path) = (place.path().join("cells"), place.path().join("progress"));
    let progress = Progress::create(&path);
    let command = &mut child("resume::child_that_counts", &directory, &path);
    let mut child = Killed(command.spawn().unwrap());
    wait_until(&mut child, || progress.get(0) > 0);
    let refused = MetricsCollector::builder().build_resumed(&directory).unwrap_err();
    let ResumeError::InUse { process, .. } = refused else { panic!("{refused}") };
    assert_eq!(process, Some(child.0.id()));
    drop(child);
    // It is free at once, and has what the first process counted.
    let (collector, _) = MetricsCollector::builder().build_resumed(&directory).unwrap();
    assert!(Metrics::of(&collector).hits.get() >= progress.get(0));
}
