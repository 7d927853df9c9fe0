//! The rules, and the faults.

#![expect(clippy::disallowed_methods, reason = "another thread meets the store")]

use super::*;
use crate::conformance::{self, Store};
use crate::shape::Write;

#[test]
fn it_does_what_every_backend_must_do() {
    for (rule, case) in conformance::CASES {
        println!("{rule}");
        let disk = Disk::new();
        case(&mut Store::new(&|| Box::new(Memory::open(&disk).unwrap())));
    }
}

fn put(store: &mut Memory, key: u8) -> Outcome {
    let map = match store.map("m", Loading::WithOwner) {
        Ok(map) => map,
        Err(error) => return Outcome::Failed(error),
    };
    let write = Write::Put { map, owner: 1, key: vec![key].into(), row: Some(Row::default()) };
    let batch = Batch { writes: vec![write], owners: [u64::from(key)].into_iter().collect(), ..Batch::default() };
    store.apply(&[batch], &mut Stale::default()).remove(0)
}

fn keys(disk: &Disk) -> Vec<u8> {
    let store = Memory::open(disk).unwrap();
    store.reader().unwrap().load(1, 99).unwrap().iter().map(|r| r.key[0]).collect()
}

#[test]
fn a_crash_at_a_commit_takes_it_and_all_that_follows() {
    let disk = Disk::new();
    disk.at(3, Fault::CrashBefore);
    let mut store = Memory::open(&disk).unwrap();
    let outcomes: Vec<Outcome> = (1..=5).map(|key| put(&mut store, key)).collect();
    assert!(outcomes[1].is_committed());
    assert!(outcomes[2..].iter().all(|o| matches!(o, Outcome::Failed(StoreError::Crashed))), "{outcomes:?}");
    assert_eq!(keys(&disk), [1, 2]);
}

#[test]
fn a_crash_amid_a_commit_leaves_its_first_batches() {
    let disk = Disk::new();
    disk.next(Fault::CrashAmid(2));
    let mut store = Memory::open(&disk).unwrap();
    let map = store.map("m", Loading::WithOwner).unwrap();
    let batch = |key: u8| {
        let write = Write::Put { map, owner: 1, key: vec![key].into(), row: Some(Row::default()) };
        Batch { writes: vec![write], owners: [1].into_iter().collect(), ..Batch::default() }
    };
    let outcomes = store.apply(&[1, 2, 3].map(batch), &mut Stale::default());
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes.iter().all(|o| matches!(o, Outcome::Failed(StoreError::Crashed))), "{outcomes:?}");
    assert_eq!(keys(&disk), [1, 2]);
}

#[test]
fn a_forgetful_disk_loses_its_latest_commits_and_no_others() {
    let disk = Disk::forgetful(2);
    let mut store = Memory::open(&disk).unwrap();
    (1..=5).for_each(|key| assert!(put(&mut store, key).is_committed()));
    disk.crash(99);
    assert!(matches!(put(&mut store, 6), Outcome::Failed(StoreError::Crashed)));
    assert_eq!(keys(&disk), [1, 2, 3], "no more than it may forget");
    let disk = Disk::new();
    let mut store = Memory::open(&disk).unwrap();
    assert!(put(&mut store, 1).is_committed());
    disk.crash(99);
    assert_eq!(keys(&disk), [1]);
}

#[test]
fn a_full_disk_fails_a_commit_and_the_next_one_works() {
    let disk = Disk::new();
    let mut store = Memory::open(&disk).unwrap();
    disk.next(Fault::Fail(StoreError::Full));
    assert!(matches!(put(&mut store, 1), Outcome::Failed(StoreError::Full)));
    assert!(put(&mut store, 2).is_committed());
    drop(store);
    assert_eq!(keys(&disk), [2]);
}

#[test]
fn a_delayed_commit_waits_for_its_release_and_a_crash_ends_the_waiting() {
    for crash in [false, true] {
        let disk = Disk::new();
        disk.next(Fault::Delay);
        let mut store = Memory::open(&disk).unwrap();
        let thread = std::thread::spawn(move || put(&mut store, 1));
        while disk.lock().state.maps.is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(disk.commits(), 0);
        if crash {
            disk.crash(0)
        } else {
            disk.release()
        }
        assert_eq!(thread.join().unwrap().is_committed(), !crash);
    }
}

#[test]
fn a_disk_is_opened_by_one_at_a_time() {
    let disk = Disk::new();
    let store = Memory::open(&disk).unwrap();
    assert!(matches!(Memory::open(&disk), Err(StoreError::Locked { .. })));
    drop(store);
    Memory::open(&disk).unwrap();
}

#[test]
fn reads_fail_while_they_are_told_to() {
    let disk = Disk::new();
    let store = Memory::open(&disk).unwrap();
    let mut reader = store.reader().unwrap();
    disk.reads_fail(Some(StoreError::Full));
    assert!(matches!(reader.owner(1), Err(StoreError::Full)));
    disk.reads_fail(None);
    assert_eq!(reader.owner(1).unwrap(), None);
}
