//! Reading and parsing of `/proc`; the formats are those of proc(5).
//!
//! The parsers are pure and answer `None` for what they do not understand.

use std::io;

/// What `/proc/self/stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
    pub(super) user_ticks: u64,
    pub(super) system_ticks: u64,
    pub(super) threads: u64,
    /// Since the system was booted.
    pub(super) start_ticks: u64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_pages: u64,
}

/// Soft limits; `None` where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Limits {
    pub(super) open_files: Option<u64>,
    pub(super) address_space_bytes: Option<u64>,
}

/// Parses `/proc/self/stat`.
///
/// The second field is the name of the program in brackets, and may itself have blanks and brackets.
pub(super) fn stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // The numbers of proc(5), which counts from 1; the third one is the first here.
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Stat {
        minor_faults: field(10)?,
        major_faults: field(12)?,
        user_ticks: field(14)?,
        system_ticks: field(15)?,
        threads: field(20)?,
        start_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

/// Parses `/proc/self/limits`.
pub(super) fn limits(text: &str) -> Limits {
    let soft = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Limits { open_files: soft("Max open files"), address_space_bytes: soft("Max address space") }
}

/// The time of boot in `/proc/stat`, seconds since 1970.
pub(super) fn boot_seconds(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Reads a file below `/proc`. The name of a program in it need not be UTF-8.
pub(super) fn read_file(name: &str) -> io::Result<String> {
    let bytes = std::fs::read(format!("/proc/{name}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Counts the open file descriptors.
pub(super) fn open_fds() -> io::Result<u64> {
    // Linux 6.2 and later tell the number as the size; for earlier ones it is 0.
    let count = std::fs::metadata("/proc/self/fd")?.len();
    if count > 0 {
        return Ok(count);
    }
    let listed = std::fs::read_dir("/proc/self/fd")?.count() as u64;
    // One of them is that of the listing.
    Ok(listed.saturating_sub(1))
}

/// The bytes of a page, and the ticks of a second.
#[cfg(target_os = "linux")]
pub(super) fn units() -> io::Result<(u64, f64)> {
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    Ok((rustix::param::page_size() as u64, ticks_per_second as f64))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn units() -> io::Result<(u64, f64)> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stat_is_read_behind_the_last_bracket() {
        let text = "26231 (a) (b) 1 2) S 5392 7446 5392 34835 7446 4218880 32533 309516 26 82 \
                    1677 44 158 99 20 0 3 0 82375 56274944 1981 18446744073709551615 4194304 \
                    6294284 140736914091744 0\n";
        let expected = Stat {
            minor_faults: 32533,
            major_faults: 26,
            user_ticks: 1677,
            system_ticks: 44,
            threads: 3,
            start_ticks: 82375,
            virtual_bytes: 56_274_944,
            resident_pages: 1981,
        };
        assert_eq!(stat(text), Some(expected));
        assert_eq!(stat("26231 (vim) S 5392 7446"), None);
        assert_eq!(stat(""), None);
        assert_eq!(stat(&text.replace("1677", "-1")), None);
    }

    #[test]
    fn soft_limits_are_read_by_name() {
        let text = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            8192                 16384                files     
Max address space         4294967296           unlimited            bytes     
";
        let read = limits(text);
        assert_eq!(read, Limits { open_files: Some(8192), address_space_bytes: Some(1 << 32) });
        assert_eq!(limits(&text.replace("4294967296", "unlimited")).address_space_bytes, None);
        assert_eq!(limits("Max open files"), Limits::default());
    }

    #[test]
    fn the_time_of_boot_is_found() {
        let text = "cpu  1 2 3\nintr 5 6\nctxt 7\nbtime 1764000000\nprocesses 8\n";
        assert_eq!(boot_seconds(text), Some(1_764_000_000));
        assert_eq!(boot_seconds("cpu 1\n"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[0-9a-z() .\\n-]{0,80}|.{0,40}") {
            let _ = (stat(&text), limits(&text), boot_seconds(&text));
        }
    }
}
