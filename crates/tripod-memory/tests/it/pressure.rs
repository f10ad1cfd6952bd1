//! What the system says about memory, from trees of files as machines and containers have them.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tripod_memory::{MemoryManager, PressureError, PressureLevel, SystemMemory};

use crate::{Wakes, collected_by_hand, in_line};

const STEP: Duration = Duration::from_secs(10);

/// A directory that stands for `/`, and goes when it is dropped.
struct Tree(PathBuf);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("tripod-memory-pressure-{}-{number}", std::process::id());
        let tree = Self(std::env::temp_dir().join(name));
        tree.write("/proc/self/mountinfo", "");
        files.iter().for_each(|(path, text)| tree.write(path, text));
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("it can be made");
        fs::write(path, text).expect("the file can be written");
    }

    /// The limit and what is in use, as read.
    #[track_caller]
    fn check(&self, system: &mut SystemMemory, limit: Option<u64>, used: Option<u64>) {
        let readings = system.read();
        assert_eq!((readings.cgroup_limit_bytes, readings.cgroup_used_bytes), (limit, used));
    }

    fn system(&self) -> SystemMemory {
        SystemMemory::at(&self.0)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

const UNIFIED: (&str, &str) =
    ("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n");

#[test]
fn the_limit_that_is_reached_first_counts_wherever_it_stands_above_the_process() {
    let tree = Tree::new(&[
        UNIFIED,
        ("/proc/self/cgroup", "0::/pod/app\n"),
        ("/sys/fs/cgroup/pod/app/memory.max", "max\n"),
        ("/sys/fs/cgroup/pod/app/memory.high", "9000\n"),
        ("/sys/fs/cgroup/pod/app/memory.current", "1000\n"),
        ("/sys/fs/cgroup/pod/memory.max", "5000\n"),
        ("/sys/fs/cgroup/pod/memory.high", "max\n"),
        ("/sys/fs/cgroup/pod/memory.current", "4500\n"),
        ("/sys/fs/cgroup/pod/memory.stat", "anon 1\nfile 9\ninactive_file 500\n"),
    ]);
    let mut system = tree.system();
    tree.check(&mut system, Some(5000), Some(4000));
    // The neighbour in the pod is gone, and a lower limit of its own has come.
    tree.write("/sys/fs/cgroup/pod/memory.current", "1000\n");
    tree.write("/sys/fs/cgroup/pod/app/memory.high", "1500\n");
    tree.check(&mut system, Some(1500), Some(1000));
    tree.write("/sys/fs/cgroup/pod/app/memory.high", "max\n");
    tree.write("/sys/fs/cgroup/pod/memory.max", "max\n");
    tree.check(&mut system, None, Some(1000));
}

#[test]
fn a_group_without_a_directory_is_looked_for_at_the_root_of_the_mount() {
    let tree = Tree::new(&[
        UNIFIED,
        ("/proc/self/cgroup", "0::/kubepods/besteffort/pod7/c3d\n"),
        ("/sys/fs/cgroup/memory.max", "2000\n"),
        ("/sys/fs/cgroup/memory.current", "700\n"),
    ]);
    tree.check(&mut tree.system(), Some(2000), Some(700));
}

#[test]
fn version_one_is_read_where_it_has_the_memory() {
    let mountinfo = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    let tree = Tree::new(&[
        ("/proc/self/mountinfo", mountinfo),
        ("/proc/self/cgroup", "4:memory:/docker/abc\n1:cpu:/\n0::/\n"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n"),
        ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "4000\n"),
        ("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n"),
        ("/sys/fs/cgroup/unified/cgroup.procs", "1\n"),
    ]);
    let mut system = tree.system();
    tree.check(&mut system, Some(4096), Some(3000));
    tree.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    tree.check(&mut system, None, Some(3000));
}

#[test]
fn a_process_that_is_moved_to_another_group_is_followed() {
    let tree = Tree::new(&[
        UNIFIED,
        ("/proc/self/cgroup", "0::/a\n"),
        ("/sys/fs/cgroup/a/memory.max", "100\n"),
        ("/sys/fs/cgroup/a/memory.current", "1\n"),
        ("/sys/fs/cgroup/b/memory.max", "200\n"),
        ("/sys/fs/cgroup/b/memory.current", "2\n"),
    ]);
    let mut system = tree.system();
    tree.check(&mut system, Some(100), Some(1));
    tree.write("/proc/self/cgroup", "0::/b\n");
    tree.check(&mut system, Some(200), Some(2));
}

#[test]
fn stalls_of_the_group_go_before_those_of_the_machine() {
    let tree = Tree::new(&[
        UNIFIED,
        ("/proc/self/cgroup", "0::/a\n"),
        ("/sys/fs/cgroup/a/memory.current", "1\n"),
        ("/proc/pressure/memory", "some avg10=7.50 avg60=0\nfull avg10=1.25 avg60=0\n"),
    ]);
    let mut system = tree.system();
    let of_machine = system.read();
    assert_eq!((of_machine.psi_some_avg10, of_machine.psi_full_avg10), (Some(7.5), Some(1.25)));
    tree.write("/sys/fs/cgroup/a/memory.pressure", "some avg10=30.00\nfull avg10=20.00\n");
    let of_group = system.read();
    assert_eq!((of_group.psi_some_avg10, of_group.psi_full_avg10), (Some(30.0), Some(20.0)));
}

#[test]
fn files_that_are_odd_or_missing_are_no_reading() {
    let tree = Tree::new(&[
        UNIFIED,
        ("/proc/self/cgroup", "0::/a\n"),
        ("/proc/pressure/memory", "\0\0\0"),
        ("/sys/fs/cgroup/a/memory.max", "lots\n"),
        ("/sys/fs/cgroup/a/memory.current", "some\n"),
    ]);
    let mut system = tree.system();
    assert_eq!(system.read(), tripod_memory::Readings::default());
    // More file pages than memory: the two files are not read at the same moment.
    tree.write("/sys/fs/cgroup/a/memory.current", "5");
    tree.write("/sys/fs/cgroup/a/memory.stat", "inactive_file 6");
    tree.check(&mut system, None, Some(0));
    assert_eq!(Tree::new(&[]).system().read(), tripod_memory::Readings::default());
}

#[test]
fn this_machine_is_read_as_its_files_are() {
    let readings = SystemMemory::new().read();
    if Path::new("/sys/fs/cgroup/memory/memory.usage_in_bytes").exists() {
        assert!(readings.cgroup_used_bytes.is_some_and(|bytes| bytes > 0), "{readings:?}");
    }
    if fs::read_to_string("/proc/pressure/memory").is_ok() {
        assert!(readings.psi_some_avg10.is_some(), "{readings:?}");
    }
    assert!(readings.cgroup_limit_bytes.is_none() || readings.cgroup_used_bytes.is_some());
}

#[test]
fn the_manager_judges_its_budget_and_tells_those_who_follow() {
    let memory = collected_by_hand(1000);
    let mut followed = memory.subscribe();
    let (wakes, waker) = Wakes::new();
    let mut context = Context::from_waker(&waker);
    let mut changed = followed.changed();
    assert!(Pin::new(&mut changed).poll(&mut context).is_pending());
    let held = memory.try_reserve(960).unwrap();
    assert_eq!(wakes.count(), 0, "nobody has looked");
    let start = Instant::now();
    memory.collect(start, STEP);
    assert_eq!(wakes.count(), 1);
    let Poll::Ready(Ok(pressure)) = Pin::new(&mut changed).poll(&mut context) else {
        panic!("the level has changed")
    };
    assert_eq!((pressure.level, pressure.used_bytes), (PressureLevel::Critical, 960));
    drop(changed);
    assert_eq!(memory.pressure(), pressure);

    drop(held);
    for second in 1..4 {
        memory.collect(start + Duration::from_secs(second), STEP);
    }
    assert_eq!(followed.current().level, PressureLevel::None);
}

#[test]
fn idle_memory_is_no_pressure() {
    let memory = collected_by_hand(1 << 20);
    drop(memory.acquire(1 << 20).unwrap());
    assert_eq!(memory.pressure().level, PressureLevel::None);
}

#[test]
fn the_system_is_read_once_a_second_and_only_while_somebody_is_interested() {
    let tree = Tree::new(&[("/proc/pressure/memory", "some avg10=50.00\n")]);
    let builder = MemoryManager::builder().system_memory(tree.system());
    let memory = builder.background_collection(false).build().unwrap();
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    memory.collect(start, STEP);
    let some = || memory.pressure().readings.psi_some_avg10;
    assert_eq!(some(), None, "nobody had asked");
    memory.collect(after(1), STEP);
    assert_eq!(some(), Some(50.0));
    assert_eq!(memory.pressure().level, PressureLevel::Critical);
    tree.write("/proc/pressure/memory", "some avg10=1.00\n");
    memory.collect(after(900), STEP);
    assert_eq!(some(), Some(50.0), "that is less than a second later");
    memory.collect(after(1001), STEP);
    assert_eq!(some(), Some(1.0));
    // The interest of one who asks lasts for a minute.
    memory.collect(after(2000), STEP);
    tree.write("/proc/pressure/memory", "some avg10=2.00\n");
    memory.collect(after(70_000), STEP);
    assert_eq!(some(), Some(1.0));
}

#[tokio::test]
async fn the_background_tells_of_a_request_that_waits_though_no_memory_is_pooled() {
    let builder = MemoryManager::builder().budget_bytes(1000);
    let memory = builder.system_memory(Tree::new(&[]).system()).build().unwrap();
    let held = memory.try_reserve(500).unwrap();
    let mut followed = memory.subscribe();
    let waits = in_line(memory.reserve(600));
    let pressure = followed.changed().await.unwrap();
    assert_eq!((pressure.level, pressure.waiting), (PressureLevel::Moderate, 1));
    drop((held, waits));
}

#[tokio::test]
async fn who_follows_is_told_of_the_end_even_while_a_buffer_is_out() {
    let memory = MemoryManager::builder().build().unwrap();
    let buffer = memory.acquire(64).unwrap();
    let mut followed = memory.subscribe();
    drop(memory);
    assert_eq!(followed.changed().await, Err(PressureError::Ended));
    drop(buffer);
}
