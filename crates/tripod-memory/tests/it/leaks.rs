use std::sync::mpsc::{Receiver, channel};

use tripod_memory::{LeakReport, MemoryManager};

use crate::{collected_by_hand, granted};

fn telling() -> (MemoryManager, Receiver<LeakReport>) {
    let (tell, told) = channel();
    let builder = MemoryManager::builder().budget_bytes(1 << 20).background_collection(false);
    let tell = move |report: &LeakReport| tell.send(report.clone()).expect("the test is there");
    (builder.on_leak(tell).build().expect("a budget above 0 builds"), told)
}

/// The line of each site of a debug build, with what is out.
fn sites(report: &LeakReport) -> Vec<(u32, u64, u64, u64, u64)> {
    assert_eq!(report.is_traced, cfg!(debug_assertions));
    let sites = report.sites.iter().inspect(|site| assert_eq!(site.location.file(), file!()));
    sites
        .map(|site| {
            let line = site.location.line();
            (line, site.buffers, site.buffer_bytes, site.reservations, site.reserved_bytes)
        })
        .collect()
}

#[test]
fn a_manager_that_ends_names_the_lines_that_asked_for_what_is_still_out() {
    let (memory, told) = telling();
    let child = memory.budget("child").create().unwrap();
    let first_line = line!() + 1;
    let twice = || child.acquire(4000).unwrap();
    let (one, two, back) = (twice(), twice(), twice());
    let reservation = granted(&mut memory.reserve(100));
    let large = memory.try_acquire(10_000).unwrap();
    reservation.try_grow(50).unwrap();
    drop(back);
    drop(child);
    assert!(told.try_recv().is_err(), "there is still a handle");
    drop(memory);

    let report = told.try_recv().unwrap();
    assert_eq!((report.buffers, report.buffer_bytes, report.reserved_bytes), (3, 18_432, 150));
    if cfg!(debug_assertions) {
        let expected = [
            (first_line + 3, 1, 10_240, 0, 0),
            (first_line, 2, 8192, 0, 0),
            (first_line + 2, 0, 0, 1, 150),
        ];
        assert_eq!(sites(&report), expected);
        let text = report.to_string();
        assert!(text.contains(&format!("leaks.rs:{first_line}:")), "{text}");
        assert!(text.contains(": 2 buffers of 8192 bytes\n"), "{text}");
    }
    assert!(told.try_recv().is_err(), "it is told once");
    drop((one, two, large, reservation));
}

#[test]
fn nothing_is_told_if_everything_has_come_back_from_wherever_it_went() {
    let (memory, told) = telling();
    let buffers: Vec<_> = (1..100).map(|len| memory.acquire(len * 64).unwrap()).collect();
    std::thread::spawn(move || drop(buffers)).join().unwrap();
    drop(memory.try_reserve(10).unwrap());
    drop(memory.reserve(10));
    drop(memory.try_reserve(0).unwrap());
    assert!(memory.outstanding().is_empty(), "{}", memory.outstanding());
    drop(memory);
    assert!(told.try_recv().is_err());
}

#[test]
fn a_buffer_that_is_forgotten_is_told_of() {
    let (memory, told) = telling();
    std::mem::forget(memory.acquire(64).unwrap());
    drop(memory);
    assert_eq!(told.try_recv().unwrap().buffers, 1);
}

#[test]
fn what_tells_may_panic_and_use_what_it_likes() {
    let memory = MemoryManager::builder().on_leak(|report| panic!("{report}")).build().unwrap();
    let buffer = memory.acquire(64).unwrap();
    drop(memory);
    drop(buffer);
}

#[test]
fn what_is_out_can_be_asked_at_any_time() {
    let memory = collected_by_hand(1 << 20);
    let held = memory.try_reserve(700).unwrap();
    let moved = memory.try_reserve(0).unwrap();
    held.move_to(&moved, 300);
    let report = memory.outstanding();
    assert_eq!((report.buffers, report.reserved_bytes), (0, 700));
    if cfg!(debug_assertions) {
        let line = line!();
        let expected = [(line - 6, 0, 0, 1, 400), (line - 5, 0, 0, 1, 300)];
        assert_eq!(sites(&report), expected);
    }
    drop(held);
    assert_eq!(memory.outstanding().reserved_bytes, 300);
}
