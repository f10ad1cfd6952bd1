//! Tests that look at the whole process run in one of their own: the others would be in the picture.

use std::fs;
use std::process::Command;

/// Set in the process that was started for one test, to its name.
const VARIABLE: &str = "TRIPOD_MEMORY_TEST";

/// Runs `work` in a process that has nothing else to do. `test` is the full name of the test that
/// calls this, which the process is started with.
#[track_caller]
pub(crate) fn alone(test: &str, work: impl FnOnce()) {
    if std::env::var(VARIABLE).is_ok_and(|name| name == test) {
        return work();
    }
    let output = Command::new(std::env::current_exe().expect("a test has a program"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, test)
        // Or each new thread may add 64 MiB of address space for its allocations.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .expect("the program that runs can be run");
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("{said}{complained}");
    assert!(said.contains("1 passed") || !output.status.success(), "no test is called `{test}`");
    assert!(output.status.success(), "`{test}` failed: {}", output.status);
}

/// Resident memory of this process in bytes, as its page tables say, page by page.
///
/// For when nothing changes meanwhile; then it is exact.
pub(crate) fn resident_bytes() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux 4.14");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("it has an Rss");
    let kib = line.trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number of kB") << 10
}

/// Resident memory of this process in bytes, as the kernel counts it: of one moment, but off by up to
/// some hundred KiB.
pub(crate) fn resident_at_once() -> u64 {
    statm(1)
}

/// Address space of this process in bytes.
pub(crate) fn mapped_bytes() -> u64 {
    statm(0)
}

fn statm(field: usize) -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("there is a /proc");
    let pages = statm.split(' ').nth(field).expect("it has seven fields");
    pages.parse::<u64>().expect("a number of pages") * 4096
}

/// Writes one byte in each page.
pub(crate) fn touch(bytes: &mut [u8]) {
    bytes.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
}
