//! A disk in memory that fails when told to, and remembers what a power cut would leave.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::store::disk::{Disk, Lock};

type Files = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Debug, Default)]
pub(super) struct SimDisk(Mutex<Sim>, Mutex<Option<Hook>>);

/// Something to be done before each operation.
struct Hook(Box<dyn FnMut(&'static str) + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

#[derive(Debug, Default)]
pub(super) struct Sim {
    pub(super) files: Files,
    /// The files as they were at the last sync of the directory, and each state since: a medium
    /// that keeps the order of its changes has one of these after a power cut. The first of all is
    /// an empty directory.
    states: Vec<Files>,
    /// Whether those states are remembered.
    pub(super) remembers: bool,
    /// How many changes were asked for.
    pub(super) changes: usize,
    /// The change at which power goes; nothing succeeds from then on.
    pub(super) power_cut_at: Option<usize>,
    /// What every change fails with.
    pub(super) refuse: Option<ErrorKind>,
    /// What every read fails with.
    pub(super) refuse_reads: Option<ErrorKind>,
    /// How many bytes fit; a write beyond that ends short.
    pub(super) bytes_max: Option<usize>,
}

impl Sim {
    fn is_dark(&self) -> bool {
        self.power_cut_at.is_some_and(|at| self.changes > at)
    }

    /// Counts a change; an error if it does not happen.
    fn change(&mut self) -> io::Result<()> {
        self.changes += 1;
        match self.refuse {
            Some(kind) => Err(kind.into()),
            None if self.is_dark() => Err(io::Error::other("no power")),
            None => Ok(()),
        }
    }

    fn note(&mut self) {
        if self.remembers {
            self.states.push(self.files.clone());
        }
    }
}

impl SimDisk {
    pub(super) fn with(files: Files) -> Self {
        Self(Mutex::new(Sim { files, ..Sim::default() }), Mutex::default())
    }

    /// A disk that remembers what a power cut would leave.
    pub(super) fn remembering() -> Self {
        let states = vec![Files::new()];
        Self(Mutex::new(Sim { states, remembers: true, ..Sim::default() }), Mutex::default())
    }

    pub(super) fn sim(&self) -> std::sync::MutexGuard<'_, Sim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something just before each operation, which is named; not before those it does itself.
    pub(super) fn before_each(&self, hook: impl FnMut(&'static str) + Send + 'static) {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(Hook(Box::new(hook)));
    }

    fn before(&self, operation: &'static str) {
        let hook = self.1.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Hook(mut hook)) = hook {
            hook(operation);
            *self.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(Hook(hook));
        }
    }

    /// Everything a power cut now could leave.
    pub(super) fn after_power_cut(&self) -> Vec<Files> {
        self.sim().states.clone()
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        match self.sim().refuse {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let sim = self.sim();
        let names = sim.files.keys().filter(|file| file.parent() == Some(path));
        Ok(names.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())).collect())
    }

    fn read(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.before("read");
        let sim = self.sim();
        if let Some(kind) = sim.refuse_reads {
            return Err(kind.into());
        }
        let file = sim.files.get(path).ok_or(ErrorKind::NotFound)?;
        let end = (range.end as usize).min(file.len());
        Ok(file[(range.start as usize).min(end)..end].to_vec())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.before("write");
        let mut sim = self.sim();
        let was_dark = sim.is_dark();
        let result = sim.change();
        if was_dark || sim.refuse.is_some() {
            return result;
        }
        let taken: usize = sim.files.values().map(Vec::len).sum();
        let room = sim.bytes_max.map_or(usize::MAX, |max| max.saturating_sub(taken));
        // Whatever stops a write, a part of it may be there: also one that is not what was written.
        for len in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            sim.files.insert(path.to_owned(), bytes[..len.min(room)].to_vec());
            sim.note();
            sim.files.insert(path.to_owned(), vec![0; len.min(room)]);
            sim.note();
        }
        result?;
        if bytes.len() > room {
            return Err(ErrorKind::StorageFull.into());
        }
        sim.files.insert(path.to_owned(), bytes.to_vec());
        sim.note();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before("rename");
        let mut sim = self.sim();
        sim.change()?;
        let file = sim.files.remove(from).ok_or(ErrorKind::NotFound)?;
        sim.files.insert(to.to_owned(), file);
        sim.note();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.before("remove");
        let mut sim = self.sim();
        sim.change()?;
        sim.files.remove(path).ok_or(ErrorKind::NotFound)?;
        sim.note();
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.before("sync_dir");
        let mut sim = self.sim();
        sim.change()?;
        sim.states.clear();
        sim.note();
        Ok(())
    }

    fn lock(&self, _: &Path) -> Result<Lock, TryLockError> {
        match self.sim().refuse {
            Some(kind) => Err(TryLockError::Error(kind.into())),
            None => Ok(Lock::none()),
        }
    }
}
