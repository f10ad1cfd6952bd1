//! The power goes between any two file operations, and in the middle of each.

use super::*;

/// Runs until the power goes; returns the last second that a flush has said to be safe.
fn run_until(disk: &Arc<SimDisk>, power_cut_at: usize) -> i64 {
    disk.sim().power_cut_at = Some(power_cut_at);
    let (store, _) = open(disk, config(), 0);
    let count = store.column(&named("count"), ColumnKind::Cumulative);
    let mut safe = 0;
    for second in 1..=SECONDS {
        store.append(second * 1000, &[(count, counter(second * 1000))]).expect("a tick");
        if second % 10 == 0 && store.flush(second * 1000).is_ok() {
            safe = second;
        }
    }
    safe
}

const SECONDS: i64 = 90;

/// Nothing expires, so that all that was safe has to be there.
fn config() -> StoreConfig {
    let mut config = small();
    config.tiers[0].keep = Duration::from_secs(1 << 20);
    config
}

#[test]
fn whatever_a_power_cut_leaves_all_that_was_flushed_is_there() {
    let disk = Arc::new(SimDisk::remembering());
    assert_eq!(run_until(&disk, usize::MAX - 1), SECONDS);
    let changes = disk.sim().changes;
    assert!(changes > 60, "{changes}");
    let mut images = 0;
    for power_cut_at in 0..changes {
        let disk = Arc::new(SimDisk::remembering());
        let safe = run_until(&disk, power_cut_at);
        for files in disk.after_power_cut() {
            images += 1;
            check(files, safe, power_cut_at);
        }
    }
    assert!(images > changes, "{images}");
}

fn check(files: BTreeMap<PathBuf, Vec<u8>>, safe: i64, power_cut_at: usize) {
    let disk = Arc::new(SimDisk::with(files));
    let (store, findings) = open(&disk, config(), SECONDS * 1000);
    assert_eq!(findings, [], "cut at {power_cut_at}");
    let found = points(&store, "count", 0, i64::MAX, 0);
    let last = found.len() as i64;
    assert!(last >= safe, "cut at {power_cut_at}: {last} of {safe}");
    let point = |second| (second * 1000, counter(second * 1000).to_bits());
    let expected: Vec<_> = (1..=last).map(point).collect();
    assert_eq!(bits(&found), expected, "cut at {power_cut_at}");
    assert!(disk.sim().files.keys().all(|path| !path.to_string_lossy().ends_with("tmp")));

    // And it goes on from there: the coarser tiers miss nothing either.
    let next = SECONDS + 1;
    assert!(run(&store, next..=next + 100).is_empty());
    store.flush((next + 100) * 1000).expect("power");
    for step_ms in [5000, 20_000] {
        let coarse = points(&store, "count", 0, i64::MAX, step_ms);
        let ends = (1..=last).map(|second| second * 1000).filter(|time| time % step_ms == 0);
        for end in ends {
            let point = coarse.iter().find(|point| point.time_ms == end);
            assert_eq!(point.map(|point| point.value), Some(counter(end)), "{power_cut_at} {end}");
        }
    }
}
