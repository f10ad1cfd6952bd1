//! Runs the binary, and makes what its commands need.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::time::Duration;

use tempfile::TempDir;

/// Long enough for a slow machine, short enough that a hang fails.
const DEADLINE: Duration = Duration::from_secs(120);

/// Held by every test that loads the machine, shared or alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// Holds the machine together with others.
pub(crate) fn shared_machine() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Holds the machine alone: for what is measured while it happens, which others would disturb.
pub(crate) fn quiet_machine() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// A folder of its own to run the binary in.
pub(crate) struct Bench {
    folder: TempDir,
    _machine: Option<RwLockReadGuard<'static, ()>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), _machine: Some(shared_machine()) }
    }

    /// For who holds the machine already.
    pub(crate) fn on_quiet_machine(_machine: &RwLockWriteGuard<'_, ()>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), _machine: None }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `tripod map` with `arguments`, in the folder.
    pub(crate) fn map<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tripod"));
        command.arg("map").args(arguments).current_dir(self.path());
        command.env_remove("TRIPOD_LOG").stdin(Stdio::null());
        command
    }

    /// Runs `tripod map` on `input` and returns what it wrote.
    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S], input: &[u8]) -> Output {
        let command = self.map(arguments);
        let input = input.to_vec();
        within_deadline(move || run_on(command, &input))
    }

    /// A named pipe, to hear from commands, and to hear when the last one is gone.
    pub(crate) fn fifo(&self) -> PathBuf {
        let path = self.path().join("fifo");
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        path
    }
}

fn run_on(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A run that is refused does not read its input.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    })
}

/// Runs `work`, and fails if it takes too long.
pub(crate) fn within_deadline<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || sender.send(work()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("took longer than {DEADLINE:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(_) => unreachable!("the thread sends before it ends"),
        },
    }
}

/// The reading end of a named pipe that commands hold open for as long as they live.
pub(crate) struct Ears(BufReader<File>);

impl Ears {
    /// Waits until the first command has opened the pipe.
    pub(crate) fn open(fifo: &Path) -> Self {
        let fifo = fifo.to_owned();
        within_deadline(move || Self(BufReader::new(File::open(fifo).unwrap())))
    }

    /// Waits for `count` lines.
    pub(crate) fn lines(self, count: usize) -> (Self, Vec<String>) {
        within_deadline(move || {
            let mut reader = self.0;
            let lines = (0..count).map(|_| {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                line.trim_end().to_owned()
            });
            let lines = lines.collect();
            (Self(reader), lines)
        })
    }

    /// Waits until no process holds the pipe any more, and returns what was still said.
    pub(crate) fn until_all_are_gone(self) -> String {
        within_deadline(move || {
            let mut rest = String::new();
            let mut reader = self.0;
            reader.read_to_string(&mut rest).unwrap();
            rest
        })
    }
}

pub(crate) fn wait(mut child: Child) -> Output {
    child.stdin.take();
    within_deadline(move || child.wait_with_output().unwrap())
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The records that `--json` printed.
pub(crate) fn records(output: &Output) -> Vec<serde_json::Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The helper that allocates and touches memory.
pub(crate) fn hog() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_tripod")).parent().unwrap();
    let hog = folder.join("examples/hog");
    assert!(hog.exists(), "build it first: cargo build -p tripod-cli --example hog");
    hog
}
