//! The numbers of this process, as the system knows them.
//!
//! Names, units and meanings are those of the Prometheus convention
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>), so that
//! dashboards carry over:
//!
//! | family | type | what |
//! |---|---|---|
//! | `process_cpu_seconds_total` | counter | user and system time, in steps of mostly 10 ms |
//! | `process_open_fds`, `process_max_fds` | gauge | file descriptors, and the soft limit of them |
//! | `process_virtual_memory_bytes` | gauge | address space in use |
//! | `process_virtual_memory_max_bytes` | gauge | the soft limit of it, if there is one |
//! | `process_resident_memory_bytes` | gauge | memory in RAM |
//! | `process_start_time_seconds` | gauge | seconds since 1970 |
//! | `process_threads` | gauge | threads |
//! | `process_minor_page_faults_total`, `process_major_page_faults_total` | counter | without and with reading from disk |
//!
//! An export reads `/proc` once: what was read is good for [`AGE_MAX`]. What cannot be read is
//! left off the page.
//!
//! Where it stops: it reads Linux's `/proc`; on other systems registration is an error. Context
//! switches are left out, since Linux tells only those of one thread unless all are gone through.

mod proc;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::proc::{Limits, Stat};
use crate::collector::MetricsCollector;
use crate::error::{LabelError, RegisterError};
use crate::sync::{Mutex, lock};

/// How long a reading is good for: longer than an export takes, shorter than between two.
pub const AGE_MAX: Duration = Duration::from_millis(100);

/// Why the numbers of the process are not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no `/proc` as Linux has it.
    #[error("process metrics are read from /proc, which is not to be had here: {0}")]
    Unsupported(io::Error),
    /// A family of the same name is in the way.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A series is set by hand.
    #[error(transparent)]
    Label(#[from] LabelError),
}

/// Registers the numbers of this process with a collector.
///
/// # Errors
/// [`ProcessError::Unsupported`] on systems other than Linux or without `/proc`; the others if the
/// collector has families of these names.
///
/// # Examples
/// ```
/// use tripod_metrics::{MetricsCollector, process};
///
/// let collector = MetricsCollector::new();
/// match process::register(&collector) {
///     Ok(()) => assert!(collector.encode_text().contains("\nprocess_cpu_seconds_total ")),
///     Err(error) => println!("{error}"),
/// }
/// ```
pub fn register(collector: &MetricsCollector) -> Result<(), ProcessError> {
    let process = Process::open(Box::new(proc::read_file)).map_err(ProcessError::Unsupported)?;
    register_from(collector, &Arc::new(process))
}

/// Reads a file below `/proc` as text.
type ReadFile = Box<dyn Fn(&str) -> io::Result<String> + Send + Sync>;

/// The source of all numbers.
struct Process {
    read_file: ReadFile,
    page_bytes: u64,
    ticks_per_second: f64,
    start_seconds: Option<f64>,
    /// The last reading, and when it was taken.
    last: Mutex<Option<(Instant, Reading)>>,
}

/// What one look at `/proc` tells.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Reading {
    stat: Option<Stat>,
    limits: Limits,
    open_fds: Option<u64>,
}

impl Process {
    fn open(read_file: ReadFile) -> io::Result<Self> {
        let (page_bytes, ticks_per_second) = proc::units()?;
        let stat = proc::stat(&read_file("self/stat")?);
        let stat = stat.ok_or_else(|| io::Error::other("/proc/self/stat cannot be parsed"))?;
        let boot_seconds = read_file("stat").ok().and_then(|text| proc::boot_seconds(&text));
        let start_seconds = boot_seconds
            .map(|boot_seconds| boot_seconds as f64 + stat.start_ticks as f64 / ticks_per_second);
        Ok(Self { read_file, page_bytes, ticks_per_second, start_seconds, last: Mutex::default() })
    }

    /// The reading of this moment, or one that is hardly older.
    fn read(&self, now: Instant) -> Reading {
        let mut last = lock(&self.last);
        match *last {
            Some((at, reading)) if now.saturating_duration_since(at) <= AGE_MAX => reading,
            _ => {
                let text = |name| (self.read_file)(name).ok();
                let reading = Reading {
                    stat: text("self/stat").and_then(|text| proc::stat(&text)),
                    limits: text("self/limits").map(|text| proc::limits(&text)).unwrap_or_default(),
                    open_fds: proc::open_fds().ok(),
                };
                *last = Some((now, reading));
                reading
            }
        }
    }
}

/// One gauge: its name, its help, and how it is had from a reading.
type GaugeRow = (&'static str, &'static str, fn(&Process, &Reading) -> Option<f64>);

const GAUGES: [GaugeRow; 7] = [
    ("process_open_fds", "Open file descriptors.", |_, reading| Some(reading.open_fds? as f64)),
    ("process_max_fds", "Soft limit of open file descriptors.", |_, reading| {
        Some(reading.limits.open_files? as f64)
    }),
    ("process_virtual_memory_bytes", "Address space in use.", |_, reading| {
        Some(reading.stat?.virtual_bytes as f64)
    }),
    ("process_virtual_memory_max_bytes", "Soft limit of the address space.", |_, reading| {
        Some(reading.limits.address_space_bytes? as f64)
    }),
    ("process_resident_memory_bytes", "Memory in RAM.", |process, reading| {
        Some((reading.stat?.resident_pages * process.page_bytes) as f64)
    }),
    (
        "process_start_time_seconds",
        "When the process was started, in seconds since 1970.",
        |process, _| process.start_seconds,
    ),
    ("process_threads", "Threads of the process.", |_, reading| Some(reading.stat?.threads as f64)),
];

/// One counter of page faults.
type FaultsRow = (&'static str, &'static str, fn(Stat) -> u64);

const FAULTS: [FaultsRow; 2] = [
    ("process_minor_page_faults_total", "Page faults that needed no reading from disk.", |stat| {
        stat.minor_faults
    }),
    ("process_major_page_faults_total", "Page faults that read from disk.", |stat| {
        stat.major_faults
    }),
];

fn register_from(collector: &MetricsCollector, process: &Arc<Process>) -> Result<(), ProcessError> {
    for (name, help, of) in GAUGES {
        let unit = name.rsplit('_').next().filter(|unit| matches!(*unit, "bytes" | "seconds"));
        let builder = collector.gauge(name, help);
        let builder = match unit {
            Some(unit) => builder.unit(unit),
            None => builder,
        };
        let source = Arc::clone(process);
        builder.register()?.observe(&[], move || of(&source, &source.read(Instant::now())))?;
    }
    let (name, help) = ("process_cpu_seconds_total", "User and system time, of all threads.");
    let source = Arc::clone(process);
    collector.float_counter(name, help).unit("seconds").register()?.observe(&[], move || {
        let stat = source.read(Instant::now()).stat?;
        Some((stat.user_ticks + stat.system_ticks) as f64 / source.ticks_per_second)
    })?;
    for (name, help, of) in FAULTS {
        let source = Arc::clone(process);
        let family = collector.counter(name, help).register()?;
        family.observe(&[], move || source.read(Instant::now()).stat.map(of))?;
    }
    Ok(())
}

#[cfg(all(test, not(loom), target_os = "linux"))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn one_reading_serves_all_families_and_ages() {
        let reads = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&reads);
        let read_file = move |name: &str| {
            counted.fetch_add(u64::from(name == "self/stat"), Ordering::Relaxed);
            proc::read_file(name)
        };
        let process = Process::open(Box::new(read_file)).unwrap();
        let now = Instant::now();
        let before = reads.load(Ordering::Relaxed);
        let first = process.read(now);
        (0..20).for_each(|_| assert_eq!(process.read(now + AGE_MAX), first));
        assert_eq!(reads.load(Ordering::Relaxed) - before, 1);
        process.read(now + AGE_MAX + Duration::from_millis(1));
        assert_eq!(reads.load(Ordering::Relaxed) - before, 2);
    }

    #[test]
    fn what_cannot_be_read_is_left_off_the_page() {
        let is_there = Arc::new(AtomicU64::new(1));
        let there = Arc::clone(&is_there);
        let read_file = move |name: &str| match there.load(Ordering::Relaxed) {
            0 => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
            _ => proc::read_file(name),
        };
        let process = Process::open(Box::new(read_file)).unwrap();
        is_there.store(0, Ordering::Relaxed);
        let collector = MetricsCollector::new();
        register_from(&collector, &Arc::new(process)).unwrap();
        let page = collector.encode_text();
        assert!(!page.contains("process_cpu_seconds_total"), "{page}");
        assert!(page.contains("\nprocess_start_time_seconds "), "{page}");

        let missing = |_: &str| Err(io::Error::from(io::ErrorKind::NotFound));
        assert!(Process::open(Box::new(missing)).is_err());
        let garbage = |_: &str| Ok("no such thing".to_owned());
        assert!(Process::open(Box::new(garbage)).is_err());
    }
}
