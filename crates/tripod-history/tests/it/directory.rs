//! A store in a real directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use tripod_history::{ColumnKind, FlushError, Labels, OpenError, Source, Store, StoreConfig};

/// A directory that goes when the test ends.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tripod-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(dir: &Path) -> Result<Store, OpenError> {
    let (store, findings) = Store::open(dir, StoreConfig::default(), 0)?;
    assert!(findings.is_empty(), "{findings:?}");
    Ok(store)
}

fn record(store: &Store, seconds: std::ops::RangeInclusive<i64>) -> Result<(), FlushError> {
    let labels = Labels::new([("__name__", "ticks_total"), ("path", "/a \"b\"\n")]);
    let column = store.column(&labels, ColumnKind::Cumulative);
    for second in seconds {
        store.append(second * 1000, &[(column, second as f64)]).expect("a tick");
    }
    store.flush(1_000_000).map(drop)
}

fn count(store: &Store) -> usize {
    let series = store.select(&[], i64::MIN, i64::MAX, 0).expect("points");
    series.iter().map(|series| series.points.len()).sum()
}

#[test]
fn history_outlives_its_store() {
    let dir = TempDir::new("outlives");
    let path = dir.0.join("made/on/demand");
    record(&open(&path).expect("a new directory"), 1..=100).expect("a disk that works");
    let store = open(&path).expect("the same directory");
    assert_eq!(count(&store), 100);
    record(&store, 101..=150).expect("a disk that works");
    assert_eq!(count(&store), 150);
    assert!(store.stats().disk_bytes > 0);
}

/// Started by the test below in a process of its own.
#[test]
fn child_opens_the_directory_it_is_told() {
    let Some(dir) = std::env::var_os("TRIPOD_TEST_HISTORY_DIR") else { return };
    match open(Path::new(&dir)) {
        Err(OpenError::InUse { path }) => assert_eq!(path, Path::new(&dir)),
        other => panic!("the directory is in use, and yet: {other:?}"),
    }
}

#[test]
fn a_second_process_is_told_that_the_directory_is_in_use() {
    let dir = TempDir::new("in-use");
    let store = open(&dir.0).expect("a new directory");
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "directory::child_opens_the_directory_it_is_told", "--nocapture"])
        .env("TRIPOD_TEST_HISTORY_DIR", &dir.0)
        .output()
        .expect("a child");
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");

    let error = open(&dir.0).expect_err("in use by this process, too");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(store);
    open(&dir.0).expect("free again");
}

#[test]
fn a_path_that_is_no_directory_is_an_error_that_names_it() {
    let dir = TempDir::new("no-directory");
    let file = dir.0.join("file");
    std::fs::write(&file, "x").expect("a file");
    let error = open(&file).expect_err("no directory");
    assert!(error.to_string().contains("file"), "{error}");
}
