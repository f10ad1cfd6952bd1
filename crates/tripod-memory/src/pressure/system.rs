//! Reads what the kernel says about memory.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Readings;
use super::cgroup::{Place, bytes, stat};
use super::psi::Psi;

/// The most that is read of one file. A machine with many containers has a long list of mounts.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads the kernel's signals about memory: stalls, and the limits of the process's control groups.
///
/// It works with both versions of control groups, and inside of containers. The limit it reports is the
/// one that is reached first among those of the process's group and the groups above it that can be
/// seen. One reading opens some ten to twenty small files (0.16 ms on a virtual machine, 2026-11-25): read
/// it a few times in a second, not for each request.
///
/// # Examples
/// ```
/// # use tripod_memory::SystemMemory;
/// let readings = SystemMemory::new().read();
/// if let (Some(limit), Some(used)) = (readings.cgroup_limit_bytes, readings.cgroup_used_bytes) {
///     println!("{} % of the container's memory", 100 * used / limit.max(1));
/// }
/// ```
#[derive(Clone, Debug)]
pub struct SystemMemory {
    root: PathBuf,
    /// Where the group was found last; the list of mounts is not read again until it is another one.
    found: Option<Found>,
}

#[derive(Clone, Debug)]
struct Found {
    /// What the process's group was called then.
    cgroup: String,
    place: Place,
}

/// What the files of one group say.
#[derive(Clone, Copy, Debug)]
struct Level {
    limit: Option<u64>,
    used: u64,
}

impl SystemMemory {
    /// Reads from this machine.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::SystemMemory;
    /// let readings = SystemMemory::new().read();
    /// assert!(readings.psi_some_avg10.is_none_or(|percent| (0.0..=100.0).contains(&percent)));
    /// ```
    pub fn new() -> Self {
        Self::at("/")
    }

    /// Reads from the files below `root`, as if it were `/`.
    ///
    /// For tests, and for a program that sees its host's files elsewhere.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{Readings, SystemMemory};
    /// assert_eq!(SystemMemory::at("/nothing/there").read(), Readings::default());
    /// ```
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), found: None }
    }

    /// Reads everything now. What cannot be read is `None`; see [`Readings`].
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::{Readings, SystemMemory};
    /// // Where the kernel says nothing, all is `None`.
    /// assert_eq!(SystemMemory::at("/nothing/there").read(), Readings::default());
    /// ```
    pub fn read(&mut self) -> Readings {
        let place = self.place();
        let group = place.as_ref().map(|place| place.levels().collect::<Vec<_>>());
        let of_group = group.iter().flatten().next();
        let psi = of_group
            .and_then(|directory| self.text(&directory.join("memory.pressure")))
            .or_else(|| self.text(Path::new("/proc/pressure/memory")))
            .map_or(Psi::default(), |text| Psi::parse(&text));
        let level = place.and_then(|place| self.tightest(&place));
        Readings {
            psi_some_avg10: psi.some_avg10,
            psi_full_avg10: psi.full_avg10,
            cgroup_limit_bytes: level.and_then(|level| level.limit),
            cgroup_used_bytes: level.map(|level| level.used),
        }
    }

    /// Where the process's group is now.
    fn place(&mut self) -> Option<Place> {
        let cgroup = self.text(Path::new("/proc/self/cgroup"))?;
        if let Some(found) = &self.found
            && found.cgroup == cgroup
        {
            return Some(found.place.clone());
        }
        let mountinfo = self.text(Path::new("/proc/self/mountinfo"))?;
        let mut places = Place::find(&cgroup, &mountinfo).into_iter();
        let place = places.find(|place| self.tightest(place).is_some())?;
        self.found = Some(Found { cgroup, place: place.clone() });
        Some(place)
    }

    /// The level with the least room below its limit; the lowest one that can be read if none has any.
    fn tightest(&self, place: &Place) -> Option<Level> {
        let levels = place.levels().filter_map(|directory| self.level(place, &directory));
        // Of two with the same room the first is kept, which is the lower one.
        levels.min_by_key(|level| {
            level.limit.map_or(u64::MAX, |limit| limit.saturating_sub(level.used))
        })
    }

    fn level(&self, place: &Place, directory: &Path) -> Option<Level> {
        let version = place.version;
        let read = |file: &str| self.text(&directory.join(file));
        let used = bytes(&read(version.used_file())?)?;
        let limits = version.limit_files().iter().filter_map(|file| bytes(&read(file)?));
        let inactive =
            read("memory.stat").and_then(|text| stat(&text, version.inactive_file_key()));
        Some(Level { limit: limits.min(), used: used.saturating_sub(inactive.unwrap_or(0)) })
    }

    /// The start of a file, if it can be read; bytes that are no text are replaced.
    fn text(&self, path: &Path) -> Option<String> {
        let file = File::open(self.root.join(path.strip_prefix("/").unwrap_or(path))).ok()?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Default for SystemMemory {
    fn default() -> Self {
        Self::new()
    }
}
