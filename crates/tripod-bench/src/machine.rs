//! What surrounds a run: a figure means nothing without it.

use std::num::NonZeroUsize;
use std::time::SystemTime;
use std::{fs, thread};

/// Processors that this process may use; 1 where the system does not tell.
pub(crate) fn processors() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Bytes of physical memory that this process has; 0 where the system does not tell.
///
/// The system walks the page tables for it: exact, where the count in `statm` is some pages late.
pub(crate) fn resident_bytes() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    resident_kib(&rollup).unwrap_or(0) << 10
}

fn resident_kib(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The time (UTC), the machine and how busy it is, one line each; "unknown" where it is not told.
pub(crate) fn describe() -> String {
    let date = humantime::format_rfc3339_seconds(SystemTime::now());
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu_model(&cpu_info).unwrap_or("unknown CPU");
    let count = processors();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
    let kernel = kernel.as_deref().map_or("unknown", str::trim);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().filter(|text| !text.is_empty()).unwrap_or("unknown");
    format!(
        "date      {date}\n\
         machine   {cpu}, {count} processors, Linux {kernel}\n\
         load      {load} in the minute before\n"
    )
}

fn cpu_model(cpu_info: &str) -> Option<&str> {
    let line = cpu_info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_model_is_read_where_there_is_one() {
        let info = "processor\t: 0\nmodel name\t: Fast 9000\nmodel name\t: Slow\n";
        assert_eq!(cpu_model(info), Some("Fast 9000"));
        assert_eq!(cpu_model("processor\t: 0\n"), None);
    }

    #[test]
    fn memory_that_is_touched_is_resident() {
        let before = resident_bytes();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(resident_bytes() >= before + (60 << 20), "{before}, {}", resident_bytes());
        drop(touched);
    }

    #[test]
    fn the_description_has_date_machine_and_load() {
        let words: Vec<String> = describe()
            .lines()
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect();
        assert_eq!(words, ["date", "machine", "load"]);
    }
}
