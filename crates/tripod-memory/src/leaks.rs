//! Who has what: the call sites of buffers and reservations that are out, in debug builds.
//!
//! In a release build nothing here has a size and every call is empty; a [`LeakReport`] then has the
//! totals, which the engine knows anyway. In a debug build a table by address is written to whenever a
//! buffer is handed out or comes back, behind one of a few locks.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::buffer::Buffer;
use crate::engine::Engine;
use crate::manager::MemoryManager;

#[cfg(debug_assertions)]
mod table;

#[cfg(debug_assertions)]
use table::Table;

/// Where something was asked for; nothing in a release build.
#[cfg(debug_assertions)]
pub(crate) type Site = &'static Location<'static>;
#[cfg(not(debug_assertions))]
pub(crate) type Site = ();

/// The caller of the caller, through all that is marked with `track_caller`.
#[inline(always)]
#[cfg_attr(debug_assertions, track_caller)]
pub(crate) fn site() -> Site {
    #[cfg(debug_assertions)]
    Location::caller()
}

/// What is held of a manager's memory.
///
/// In debug builds of this crate (with `debug_assertions`) it names the lines that asked for it; see
/// [`is_traced`](Self::is_traced). Shown with `{}` it is a text of some lines.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().build()?;
/// let buffer = memory.acquire(4096)?;
/// let report = memory.outstanding();
/// assert_eq!((report.buffers, report.buffer_bytes), (1, 4096));
/// if report.is_traced {
///     let site = &report.sites[0];
///     assert_eq!((site.location.file(), site.buffers), (file!(), 1));
/// }
/// # drop(buffer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeakReport {
    /// Buffers that are out, those of leases among them.
    pub buffers: u64,
    /// Their bytes, by capacity.
    pub buffer_bytes: u64,
    /// Bytes of the reservations that are held.
    pub reserved_bytes: u64,
    /// The lines that asked for them, those with most bytes first; empty in a release build.
    pub sites: Vec<LeakSite>,
    /// Whether `sites` is filled in: in debug builds.
    pub is_traced: bool,
}

/// What one line of code has asked for and is still held.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().build()?;
/// let buffers = memory.acquire_many(4096, 3)?;
/// let report = memory.outstanding();
/// if report.is_traced {
///     let site = &report.sites[0];
///     assert_eq!((site.buffers, site.buffer_bytes, site.reservations), (3, 12_288, 0));
///     assert!(site.to_string().ends_with(": 3 buffers of 12288 bytes"));
/// }
/// # drop(buffers);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeakSite {
    /// The line that called `acquire`, `reserve` or the like.
    pub location: &'static Location<'static>,
    /// Buffers that are out.
    pub buffers: u64,
    /// Their bytes, by capacity.
    pub buffer_bytes: u64,
    /// Reservations that are held.
    pub reservations: u64,
    /// Their bytes.
    pub reserved_bytes: u64,
}

impl LeakReport {
    /// Returns whether nothing is held.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// assert!(memory.outstanding().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.buffers == 0 && self.reserved_bytes == 0 && self.sites.is_empty()
    }
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { buffers, buffer_bytes, reserved_bytes, .. } = self;
        write!(
            f,
            "{buffers} buffers of {buffer_bytes} bytes and {reserved_bytes} reserved bytes are out"
        )?;
        if !self.is_traced {
            return write!(f, " (a debug build names the lines that asked for them)");
        }
        self.sites.iter().try_for_each(|site| write!(f, "\n  {site}"))
    }
}

impl fmt::Display for LeakSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { location, buffers, buffer_bytes, reservations, reserved_bytes } = self;
        write!(f, "{location}:")?;
        if *buffers > 0 {
            write!(f, " {buffers} buffers of {buffer_bytes} bytes")?;
        }
        if *reservations > 0 {
            write!(f, " {reservations} reservations of {reserved_bytes} bytes")?;
        }
        Ok(())
    }
}

/// What is called with a report when a manager ends and something of it is out.
#[derive(Clone)]
pub(crate) struct OnLeak(pub(crate) Arc<dyn Fn(&LeakReport) + Send + Sync>);

impl fmt::Debug for OnLeak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnLeak(..)")
    }
}

/// The note of one reservation; nothing in a release build.
#[derive(Debug)]
pub(crate) struct Note {
    #[cfg(debug_assertions)]
    id: u64,
}

/// What is out, as far as this build notes it.
#[derive(Debug, Default)]
pub(crate) struct Leaks {
    #[cfg(debug_assertions)]
    table: Table,
}

#[cfg(debug_assertions)]
impl Leaks {
    /// Notes a buffer, by the address of its slot.
    pub(crate) fn note_buffer(&self, slot: usize, bytes: u64, site: Site) {
        self.table.add_buffer(slot, bytes, site);
    }

    pub(crate) fn forget_slot(&self, slot: usize) {
        self.table.remove_buffer(slot);
    }

    /// Takes a buffer off before it goes, for one that nobody holds any more.
    pub(crate) fn forget_buffer(&self, buffer: &Buffer) {
        self.forget_slot(buffer.as_ptr().addr());
    }

    pub(crate) fn note_reservation(&self, bytes: u64, site: Site) -> Note {
        Note { id: self.table.add_reservation(bytes, site) }
    }

    pub(crate) fn renote(&self, note: &Note, bytes: u64) {
        self.table.set_reservation(note.id, bytes);
    }

    pub(crate) fn forget_reservation(&self, note: &Note) {
        self.table.remove_reservation(note.id);
    }

    fn report(&self, _engine: &Engine) -> LeakReport {
        self.table.report()
    }
}

#[cfg(not(debug_assertions))]
impl Leaks {
    #[inline(always)]
    pub(crate) fn forget_buffer(&self, _buffer: &Buffer) {}

    #[inline(always)]
    pub(crate) fn note_reservation(&self, _bytes: u64, _site: Site) -> Note {
        Note {}
    }

    #[inline(always)]
    pub(crate) fn renote(&self, _note: &Note, _bytes: u64) {}

    #[inline(always)]
    pub(crate) fn forget_reservation(&self, _note: &Note) {}

    fn report(&self, engine: &Engine) -> LeakReport {
        let (leaving, leaving_bytes) = engine.extras.leases.leaving();
        let (buffers, buffer_bytes, reserved_bytes) = engine.out();
        LeakReport {
            buffers: buffers.saturating_sub(leaving),
            buffer_bytes: buffer_bytes.saturating_sub(leaving_bytes),
            reserved_bytes,
            ..LeakReport::default()
        }
    }
}

impl Engine {
    pub(crate) fn outstanding(&self) -> LeakReport {
        self.leaks.report(self)
    }
}

impl MemoryManager {
    /// Tells what is held of this manager now: buffers, leases and reservations.
    ///
    /// In debug builds with the lines that asked for them; see [`LeakReport`], which has an example.
    /// [`on_leak`](crate::MemoryManagerBuilder::on_leak) has the same told when the manager ends.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let reservation = memory.try_reserve(1000)?;
    /// assert_eq!(memory.outstanding().reserved_bytes, 1000);
    /// drop(reservation);
    /// assert!(memory.outstanding().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn outstanding(&self) -> LeakReport {
        self.root().engine().outstanding()
    }
}
