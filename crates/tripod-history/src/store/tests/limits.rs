//! Age and size.

use super::*;

fn sizes(disk: &SimDisk) -> (usize, usize) {
    let sim = disk.sim();
    (sim.files.len(), sim.files.values().map(Vec::len).sum())
}

#[test]
fn files_go_when_all_in_them_is_too_old() {
    let disk = Arc::new(SimDisk::default());
    let mut config = small();
    config.tiers.truncate(2);
    let (store, _) = open(&disk, config.clone(), 0);
    let mut files_max = 0;
    for start in 0..20 {
        run(&store, start * 200 + 1..=start * 200 + 200);
        files_max = files_max.max(sizes(&disk).0);
    }
    assert!(files_max < 40, "{files_max}");
    let stats = store.stats();
    assert!(stats.blocks_expired > 50, "{stats:?}");
    assert_eq!(stats.blocks, sizes(&disk).0);
    assert_eq!(stats.disk_bytes, sizes(&disk).1 as u64);
    // The coarser tier keeps 600 s, the finer one 80 s, each up to a merged block more.
    let found = points(&store, "gauge", 0, i64::MAX, 0);
    let oldest = 4000 - found[0].time_ms / 1000;
    assert!((600..600 + 30 * 5 + 30).contains(&oldest), "{oldest}");
    let fine = found.windows(2).position(|pair| pair[1].time_ms - pair[0].time_ms == 1000);
    let fine = 4000 - found[fine.expect("fine points")].time_ms / 1000;
    assert!((80..80 + 30 + 11).contains(&fine), "{fine}");

    drop(store);
    // After a long time off all of it is too old.
    let (store, _) = open(&disk, config, 10_000_000);
    store.flush(10_000_000).expect("a disk that works");
    assert_eq!(sizes(&disk).0, 0);
}

#[test]
fn the_oldest_go_when_the_byte_limit_is_passed() {
    let disk = Arc::new(SimDisk::default());
    let mut config = small();
    config.disk_bytes_max = 4000;
    let (store, _) = open(&disk, config, 0);
    for start in 0..20 {
        run(&store, start * 200 + 1..=start * 200 + 200);
        assert!(sizes(&disk).1 <= 4000);
    }
    let stats = store.stats();
    assert!(stats.blocks_dropped > 0, "{stats:?}");
    let found = points(&store, "gauge", 0, i64::MAX, 0);
    assert_eq!(found.last().map(|point| point.time_ms), Some(4_000_000));
    assert!(found.iter().filter(|point| point.time_ms > 3_950_000).count() >= 50);
}

#[test]
fn a_query_whose_files_are_merged_away_under_it_finds_all_points() {
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, small(), 0);
    let store = Arc::new(store);
    run(&store, 1..=29);
    store.flush(29_000).expect("a disk that works");
    let files = disk.sim().files.clone();
    let mut other = Some(Arc::clone(&store));
    disk.before_each(move |_| {
        if let Some(other) = other.take() {
            run(&other, 30..=31);
            assert!(other.flush(31_000).expect("a disk that works").blocks_merged > 0);
        }
    });
    assert_eq!(points(&store, "count", 0, 99_000, 0).len(), 31);
    assert!(files.keys().any(|path| !disk.sim().files.contains_key(path)));
    assert_eq!(store.stats().blocks_damaged, 0);
}

#[test]
fn no_file_operation_holds_a_lock_that_a_tick_or_a_query_needs() {
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, small(), 0);
    let store = Arc::new(store);
    let (seen, operations) = std::sync::mpsc::channel();
    let watched = Arc::downgrade(&store);
    disk.before_each(move |operation| {
        let store = watched.upgrade().expect("a store");
        assert!(store.recording.try_lock().is_ok(), "{operation}");
        assert!(store.shelves.try_write().is_ok(), "{operation}");
        assert!(store.catalog.try_lock().is_ok() && store.counts.try_lock().is_ok());
        seen.send(operation).expect("a receiver");
    });
    run(&store, 1..=300);
    points(&store, "count", 0, 300_000, 0);
    let operations: std::collections::BTreeSet<_> = operations.try_iter().collect();
    assert_eq!(operations.len(), 5, "{operations:?}");
}

#[test]
fn a_query_goes_on_while_files_are_merged_and_removed() {
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, small(), 0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let end = points(&store, "count", 0, i64::MAX, 0);
                assert!(end.iter().all(|point| point.value == counter(point.time_ms)));
                let recent: Vec<_> = end.iter().rev().take(60).collect();
                assert!(recent.windows(2).all(|pair| pair[0].time_ms - pair[1].time_ms == 1000));
                reads += 1;
            }
            reads
        });
        let errors = run(&store, 1..=1500);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(errors.is_empty());
        assert!(reader.join().expect("a reader that does not panic") > 0);
    });
    assert_eq!(store.stats().blocks_damaged, 0);
}
