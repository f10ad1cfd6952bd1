//! Files that are not as they were written.

use super::*;

/// A disk with a few files, and all points on it by series and time.
fn written() -> (Arc<SimDisk>, BTreeMap<String, Points>) {
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, config(), 0);
    run(&store, 1..=24);
    store.flush(24_000).expect("a disk that works");
    let all = all(&store);
    assert_eq!(all["count"].len(), 24);
    (disk, all)
}

fn config() -> StoreConfig {
    StoreConfig { tiers: small().tiers[..1].to_vec(), ..small() }
}

fn all(store: &Store) -> BTreeMap<String, Points> {
    let series = store.select(&[], i64::MIN, i64::MAX, 0).expect("points");
    series
        .into_iter()
        .map(|series| (series.labels.to_string(), bits(&series.points).into_iter().collect()))
        .collect()
}

/// Opens with one file changed, which must be set aside, with all else as it was.
fn check(change: impl Fn(&mut Vec<u8>), intact: (&Path, &SimDisk, &BTreeMap<String, Points>)) {
    let (path, disk, before) = intact;
    let mut files = disk.sim().files.clone();
    change(files.get_mut(path).expect("a file"));
    let disk = Arc::new(SimDisk::with(files));
    let (store, findings) = open(&disk, config(), 24_000);
    assert_eq!(findings.len(), 1);
    let aside = PathBuf::from(format!("{}.damaged", path.display()));
    assert_eq!((&*findings[0].path, &findings[0].set_aside), (path, &Some(aside.clone())));
    assert!(disk.sim().files.contains_key(&aside) && !disk.sim().files.contains_key(path));
    assert_eq!(store.stats().blocks_damaged, 1);
    let after = all(&store);
    assert_eq!(after["count"].len(), after["gauge"].len());
    assert!((1..24).contains(&after["count"].len()));
    for (name, points) in after {
        assert!(points.iter().all(|(time, value)| before[&name].get(time) == Some(value)));
    }
}

#[test]
fn every_flipped_byte_and_every_truncation_sets_one_file_aside_and_the_rest_is_served() {
    let (disk, before) = written();
    let files = disk.sim().files.clone();
    assert!(files.len() >= 3);
    let (path, bytes) = files.iter().next().expect("a file");
    for place in 0..bytes.len() {
        check(|bytes| bytes[place] ^= 0x10, (path, &disk, &before));
        check(|bytes| bytes.truncate(place), (path, &disk, &before));
    }
    check(|bytes| bytes.push(0), (path, &disk, &before));
}

#[test]
fn a_file_damaged_after_opening_is_left_out_and_set_aside_later() {
    let (disk, before) = written();
    let (store, _) = open(&disk, config(), 24_000);
    let path = disk.sim().files.keys().next().expect("a file").clone();
    let len = disk.sim().files[&path].len();
    // The last byte of the last column.
    disk.sim().files.get_mut(&path).expect("a file")[len - 17] ^= 1;

    let after = all(&store);
    for (name, points) in &after {
        assert!(points.iter().all(|(time, value)| before[name].get(time) == Some(value)));
    }
    assert!(after["gauge"].len() < 24);
    assert!(disk.sim().files.contains_key(&path));
    let done = store.flush(24_000).expect("a disk that works");
    assert_eq!(done.findings.len(), 1);
    assert!(!disk.sim().files.contains_key(&path));
    assert_eq!(store.stats().blocks_damaged, 1);
    assert_eq!(all(&store), after);
}

#[test]
fn a_file_that_is_gone_is_not_an_error() {
    let (disk, before) = written();
    let (store, _) = open(&disk, config(), 24_000);
    let path = disk.sim().files.keys().next().expect("a file").clone();
    disk.sim().files.remove(&path);
    assert!(all(&store)["count"].len() < before["count"].len());
    assert_eq!(store.flush(24_000).expect("a disk that works").findings[0].set_aside, None);
}

#[test]
fn a_damaged_file_of_the_finest_tier_leaves_what_the_coarser_one_has() {
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, small(), 0);
    run(&store, 1..=60);
    store.flush(60_000).expect("a disk that works");
    drop(store);
    {
        let mut sim = disk.sim();
        let finest = sim.files.iter_mut().filter(|(path, _)| path.starts_with("/history"));
        let mut finest = finest.filter(|(path, _)| path.to_string_lossy().contains("/1000-"));
        finest.next().expect("a file").1.truncate(50);
    }
    let (store, findings) = open(&disk, small(), 60_000);
    assert_eq!(findings.len(), 1);
    let times: Vec<i64> =
        points(&store, "gauge", 0, 99_000, 0).iter().map(|point| point.time_ms).collect();
    assert!(times.len() < 60 && times.len() >= 12, "{times:?}");
    assert!((1..=12).all(|end| times.contains(&(end * 5000))), "{times:?}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (disk, _) = written();
    let path = {
        let mut sim = disk.sim();
        let (path, bytes) = sim.files.iter_mut().next_back().expect("a file");
        bytes[8] = 2;
        bytes[12..16].fill(0);
        let crc = crc32c::crc32c(&bytes[..96]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        path.clone()
    };
    let files = disk.sim().files.clone();
    let error = Store::open_on(disk.clone(), Path::new(DIR), config(), 0).expect_err("newer");
    assert!(error.to_string().contains("version 2"), "{error}");
    assert!(matches!(error, OpenError::Newer { path: found, version: 2 } if found == path));
    assert_eq!(disk.sim().files, files);
}
