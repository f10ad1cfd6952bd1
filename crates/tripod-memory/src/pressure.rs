//! How short memory is: what the system says, what the budget says, and one word for both.
//!
//! [`SystemMemory`] reads the kernel's own signals, [`judge`] turns them and the state of the budget
//! into a [`PressureLevel`] that does not flicker, and a [`PressureSubscription`] lets a task wait for
//! the level to change, on any runtime.
//!
//! # Where it stops
//! Nothing here has a thread: the collector looks, with the time in hand ([`watch`]). The numbers of the
//! system are hints. No decision of the ledger depends on them.

mod cgroup;
mod judge;
mod psi;
mod subscription;
mod system;
mod watch;

use std::fmt;

pub use self::subscription::{Changed, PressureError, PressureSubscription};
pub use self::system::SystemMemory;
pub(crate) use self::watch::{BudgetUse, Watch};

/// How short memory is, in one word.
///
/// A level is entered as soon as one of its conditions holds. It is left, by as many levels as are due,
/// once none of its own has held for 2 seconds, each taken at the lower figure in brackets, so that a
/// value at the edge does not make the level flicker.
///
/// | level | the budget in use, or the cgroup's memory | tasks that stall for memory |
/// |---|---|---|
/// | `Moderate` | 80 % (70 %), or a request waits in line | some of them 10 % of the time (5 %) |
/// | `Critical` | 95 % (90 %) | all of them 10 % of the time (5 %), or some 40 % (20 %) |
///
/// Stalls are the averages over 10 seconds of [PSI], of the process's cgroup where the kernel has
/// them for it, else of the machine.
///
/// [PSI]: https://docs.kernel.org/accounting/psi.html
///
/// # Examples
/// ```
/// # use tripod_memory::PressureLevel;
/// assert!(PressureLevel::Critical > PressureLevel::Moderate);
/// assert_eq!(PressureLevel::default().to_string(), "none");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PressureLevel {
    /// There is enough.
    #[default]
    None,
    /// Memory gets short: caches should not grow, and what can be recomputed may go.
    Moderate,
    /// Memory is nearly out: whatever can be given up should be.
    Critical,
}

impl PressureLevel {
    /// Returns the level's name: `none`, `moderate` or `critical`.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::PressureLevel;
    /// assert_eq!(PressureLevel::Moderate.as_str(), "moderate");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Moderate => "moderate",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for PressureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The pressure at one moment, and what it was judged by.
///
/// # Examples
/// ```
/// # use tripod_memory::{MemoryManager, PressureLevel, SystemMemory};
/// let memory = MemoryManager::builder().budget_bytes(1000)
///     # .system_memory(SystemMemory::at("/nothing/there"))
///     .build()?;
/// let reservation = memory.try_reserve(850)?;
/// let pressure = memory.pressure();
/// assert_eq!((pressure.level, pressure.waiting), (PressureLevel::Moderate, 0));
/// assert_eq!((pressure.used_bytes, pressure.limit_bytes), (850, 1000));
/// # drop(reservation);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Pressure {
    /// How short memory is.
    pub level: PressureLevel,
    /// Bytes of the budget that are in use.
    pub used_bytes: u64,
    /// The budget's limit in bytes; `u64::MAX` is unlimited.
    pub limit_bytes: u64,
    /// Requests for a reservation that wait in line.
    pub waiting: usize,
    /// What the system said.
    pub readings: Readings,
}

/// What the system says about memory; comes from [`SystemMemory::read`]. A value that the kernel does not
/// give, or not in a form that is known, is `None`.
///
/// # Examples
/// ```
/// # use tripod_memory::SystemMemory;
/// let root = tempfile::tempdir()?;
/// std::fs::create_dir_all(root.path().join("proc/pressure"))?;
/// std::fs::write(
///     root.path().join("proc/pressure/memory"),
///     "some avg10=12.50 avg60=3.00 avg300=0.50 total=77\n",
/// )?;
/// let readings = SystemMemory::at(root.path()).read();
/// assert_eq!((readings.psi_some_avg10, readings.psi_full_avg10), (Some(12.5), None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Readings {
    /// The share of the last 10 seconds in which some task stalled for memory, in per cent.
    pub psi_some_avg10: Option<f64>,
    /// The share of the last 10 seconds in which all tasks stalled for memory at once, in per cent.
    pub psi_full_avg10: Option<f64>,
    /// The limit in bytes of the process's cgroup, or of the one above it that is closest to its
    /// limit; `None` if none of them has one.
    pub cgroup_limit_bytes: Option<u64>,
    /// Bytes in use in the cgroup that `cgroup_limit_bytes` is the limit of; the process's own if there
    /// is no limit. File pages that are not in active use are left out: the kernel drops those first.
    pub cgroup_used_bytes: Option<u64>,
}
