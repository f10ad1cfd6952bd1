//! A disk that cannot be written.

use std::io::ErrorKind;

use super::*;

#[test]
fn a_full_disk_stops_no_recording_and_is_made_up_for_later() {
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, small(), 0);
    disk.sim().bytes_max = Some(700);
    let errors = run(&store, 1..=60);
    assert!(errors.len() >= 3, "{errors:?}");
    let FlushError::Io { source, blocks_waiting, .. } = &errors[2] else { panic!("{errors:?}") };
    assert_eq!(source.kind(), ErrorKind::StorageFull);
    assert!(*blocks_waiting > 0);
    assert_eq!(store.stats().flush_failures, errors.len() as u64);
    assert!(store.stats().memory_bytes > 0);
    assert_eq!(points(&store, "count", 0, 99_000, 0).len(), 60);
    // No half of a file stays to take up room.
    assert!(disk.sim().files.keys().all(|path| !path.to_string_lossy().ends_with("tmp")));

    disk.sim().bytes_max = None;
    store.flush(60_000).expect("room");
    drop(store);
    let (store, findings) = open(&disk, small(), 60_000);
    assert_eq!(findings, []);
    assert_eq!(points(&store, "count", 0, 99_000, 0).len(), 60);
}

#[test]
fn a_read_only_directory_is_served_and_a_finding() {
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, small(), 0);
    run(&store, 1..=20);
    store.flush(20_000).expect("a disk that works");
    drop(store);

    disk.sim().refuse = Some(ErrorKind::ReadOnlyFilesystem);
    let (store, findings) = open(&disk, small(), 20_000);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].to_string().contains("in memory only"), "{}", findings[0]);
    assert_eq!(store.stats().blocks_damaged, 0);
    assert!(!run(&store, 21..=40).is_empty());
    assert_eq!(points(&store, "count", 0, 99_000, 0).len(), 40);
    // Who has no lock removes nothing, however old it is.
    assert!(store.flush(9_000_000).is_err());
    assert_eq!(store.stats().remove_failures, 0);
    assert_eq!(points(&store, "count", 0, 20_000, 0).len(), 20);

    disk.sim().refuse = None;
    run(&store, 41..=42);
    store.flush(42_000).expect("a directory that can be written again");
    drop(store);
    let (store, _) = open(&disk, small(), 42_000);
    assert_eq!(points(&store, "count", 0, 20_000, 0).len(), 20);
    assert_eq!(points(&store, "count", 41_000, 99_000, 0).len(), 2);
}

#[test]
fn what_cannot_be_written_is_dropped_beyond_the_memory_limit_the_oldest_first() {
    let disk = Arc::new(SimDisk::default());
    let mut config = small();
    config.memory_bytes_max = 6000;
    config.tiers[0].keep = Duration::from_secs(1 << 20);
    let (store, _) = open(&disk, config, 0);
    disk.sim().refuse = Some(ErrorKind::StorageFull);
    run(&store, 1..=1000);
    let stats = store.stats();
    assert!(stats.blocks_dropped > 0);
    assert!(stats.memory_bytes < 12_000, "{stats:?}");
    let found = points(&store, "count", 0, i64::MAX, 0);
    assert_eq!(found.last().map(|point| point.time_ms), Some(1_000_000));
    assert!(found[0].time_ms > 1000);
}

#[test]
fn a_disk_that_cannot_be_read_is_an_error_and_no_damage() {
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, small(), 0);
    run(&store, 1..=29);
    store.flush(29_000).expect("a disk that works");
    disk.sim().refuse_reads = Some(ErrorKind::TimedOut);
    let error = store.select(&[], 0, 99_000, 0).expect_err("no reads");
    assert!(error.to_string().contains(".block"), "{error}");
    // Merging needs to read, too.
    assert!(!run(&store, 30..=42).is_empty());

    let opened = Store::open_on(disk.clone(), Path::new(DIR), small(), 42_000);
    let (blind, findings) = opened.expect("a store without its files");
    assert!(findings.len() >= 3 && findings.iter().all(|finding| finding.set_aside.is_none()));
    assert_eq!(blind.stats().blocks_damaged, findings.len() as u64);
    drop(blind);

    disk.sim().refuse_reads = None;
    assert_eq!(points(&store, "count", 0, 99_000, 0).len(), 42);
    assert_eq!(store.stats().blocks_damaged, 0);
}
