//! The queue and the groups, on a store in memory.

use super::*;
use crate::memory::{Disk, Fault, Memory};
use crate::shape::{Direction, LogQuery, NODE_BITS, NewEntry, Row, Side, Write, id_at, next_id};
use bytes::Bytes;
use std::sync::mpsc;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Between two ids of one node.
const STEP: EntryId = 1 << NODE_BITS;

fn open(disk: &Disk) -> (Queue, Writer) {
    Writer::new(Box::new(Memory::open(disk).unwrap()))
}

fn side(owner: Owner) -> Option<Side> {
    Some(Side { owner, dir: Direction::Received, flags: 0, peer: "juliet@x".into(), meta: Bytes::new() })
}

fn say(owner: Owner, len: usize) -> impl FnOnce(&mut IdSource) -> Batch {
    move |ids| {
        let body = Bytes::from(vec![b'x'; len]);
        let entry = NewEntry { id: ids.entry(), time: ids.now().as_millis(), sides: [side(owner), None], body };
        Batch { owners: [owner].into_iter().collect(), writes: vec![Write::Log(Box::new(entry))], ..Batch::default() }
    }
}

fn committed(step: Step) -> Vec<(u64, bool)> {
    match step {
        Step::Committed(done) => done.iter().map(|d| (d.id.0, d.outcome.is_committed())).collect(),
        other => panic!("no commit but {other:?}"),
    }
}

#[test]
fn what_has_arrived_is_one_commit_in_the_order_of_submission() {
    let disk = Disk::new();
    let (queue, mut writer) = open(&disk);
    for owner in [3, 1, 2] {
        queue.submit_with(NOW, say(owner, 10)).unwrap();
    }
    assert_eq!(queue.backlog().batches, 3);
    assert_eq!(committed(writer.step()), [(0, true), (1, true), (2, true)]);
    assert_eq!((disk.commits(), queue.backlog()), (1, Backlog::default()));
    assert!(matches!(writer.step(), Step::Empty));
}

#[test]
fn ids_ascend_when_the_clock_stands_or_steps_back() {
    let (queue, mut writer) = open(&Disk::new());
    let mut seen = Vec::new();
    let later = NOW.plus(Duration::from_millis(1));
    for now in [NOW, NOW, NOW.minus(Duration::from_secs(5)), later] {
        queue
            .submit_with(now, |ids| {
                let next = ids.entry();
                seen.push(next);
                Batch::default()
            })
            .unwrap();
    }
    let first = id_at(NOW);
    let last = next_id(0, later);
    assert_eq!(seen, [first, first + STEP, first + 2 * STEP, last]);
    assert!(seen.iter().all(|id| id % STEP == 0), "the bits of the node are free");
    assert_eq!(queue.next_id(), last + 1);
    assert_eq!(committed(writer.step()).len(), 4);
}

#[test]
fn ids_go_on_after_a_restart_though_the_clock_stepped_back() {
    let disk = Disk::new();
    let (queue, mut writer) = open(&disk);
    queue.submit_with(NOW, say(1, 1)).unwrap();
    let _ = committed(writer.step());
    drop(writer);
    let (queue, _writer) = open(&disk);
    assert_eq!(queue.next_id(), id_at(NOW) + 1);
}

#[test]
fn a_group_has_at_most_its_number_of_batches() {
    let (queue, mut writer) = open(&Disk::new());
    for _ in 0..MAX_GROUP_BATCHES + 1 {
        queue.submit_with(NOW, say(1, 1)).unwrap();
    }
    assert_eq!(committed(writer.step()).len(), MAX_GROUP_BATCHES);
    assert_eq!(committed(writer.step()).len(), 1);
}

#[test]
fn a_group_has_at_most_its_bytes_and_a_heavier_batch_goes_alone() {
    let (queue, mut writer) = open(&Disk::new());
    queue.submit_with(NOW, say(1, MAX_GROUP_BYTES / 2)).unwrap();
    queue.submit_with(NOW, say(1, MAX_GROUP_BYTES / 2)).unwrap();
    queue.submit_with(NOW, say(1, MAX_GROUP_BYTES + 1)).unwrap();
    queue.submit_with(NOW, say(1, 1)).unwrap();
    let groups: Vec<usize> = (0..4).map(|_| committed(writer.step()).len()).collect();
    assert_eq!(groups, [1, 1, 1, 1]);
    assert_eq!(queue.backlog(), Backlog::default());
}

#[test]
fn what_was_built_on_a_failed_batch_fails_until_its_owner_is_reloaded() {
    let disk = Disk::new();
    let (queue, mut writer) = open(&disk);
    disk.next(Fault::FailOne(0, StoreError::Full));
    queue.submit_with(NOW, say(1, 1)).unwrap(); // fails by the fault
    queue.submit_with(NOW, say(2, 1)).unwrap(); // has nothing to do with it
    let shared = Batch { owners: [1, 3].into_iter().collect(), ..Batch::default() };
    queue.submit(NOW, shared).unwrap(); // built on it
    queue.submit_with(NOW, say(3, 1)).unwrap(); // built on what was built on it
    assert_eq!(committed(writer.step()), [(0, false), (1, true), (2, false), (3, false)]);

    queue.submit_with(NOW, say(1, 1)).unwrap(); // submitted before the reload
    queue.reloaded(1);
    queue.submit_with(NOW, say(1, 1)).unwrap();
    queue.submit_with(NOW, say(3, 1)).unwrap();
    assert_eq!(committed(writer.step()), [(4, false)]);
    assert_eq!(committed(writer.step()), [(5, true), (6, false)]);
    queue.reloaded(3);
    queue.submit_with(NOW, say(3, 1)).unwrap();
    assert_eq!(committed(writer.step()), [(7, true)]);
}

#[test]
fn a_refusal_concerns_its_batch_alone_unless_it_updates() {
    let disk = Disk::new();
    let (queue, mut writer) = open(&disk);
    let map = writer.map("test", Loading::WithOwner).unwrap();
    let no = |updates| Batch {
        owners: [1].into_iter().collect(),
        updates,
        writes: vec![
            Write::Put { map, owner: 1, key: "k".into(), row: Some(Row::from(Bytes::from("v"))) },
            Write::Disable { owner: 99, disabled: true },
        ],
        ..Batch::default()
    };
    queue.submit(NOW, no(false)).unwrap();
    queue.submit_with(NOW, say(1, 1)).unwrap();
    queue.submit(NOW, no(true)).unwrap();
    queue.submit_with(NOW, say(1, 1)).unwrap();
    let Step::Committed(done) = writer.step() else { panic!("no commit") };
    assert!(matches!(done[0].outcome, Outcome::Refused { write: 1 }));
    assert!(done[1].outcome.is_committed());
    assert!(matches!(done[2].outcome, Outcome::Refused { write: 1 }));
    assert!(matches!(done[3].outcome, Outcome::Failed(StoreError::Stale)));
    assert_eq!(writer.reader().unwrap().map_get(map, 1, b"k").unwrap(), None);
}

#[test]
fn a_delayed_commit_tells_nothing_until_it_is_released() {
    let disk = Disk::new();
    let (queue, mut writer) = open(&disk);
    disk.next(Fault::Delay);
    queue.submit_with(NOW, say(1, 1)).unwrap();
    assert!(matches!(writer.step(), Step::Stalled));
    disk.release();
    assert_eq!(committed(writer.step()), [(0, true)]);
}

#[test]
fn a_crash_tells_nobody() {
    for (fault, kept) in [(Fault::CrashBefore, 0), (Fault::CrashAfter, 1)] {
        let disk = Disk::new();
        let (queue, mut writer) = open(&disk);
        disk.next(fault);
        queue.submit_with(NOW, say(1, 1)).unwrap();
        assert!(matches!(writer.step(), Step::Crashed));
        let mut reader = Memory::open(&disk).unwrap().reader().unwrap();
        assert!(matches!(reader.log_count(1, LogQuery::default()), Err(StoreError::Crashed)), "its store is closed");
        let again = Memory::open(&disk).unwrap();
        assert_eq!(again.reader().unwrap().log_count(1, LogQuery::default()).unwrap(), kept);
    }
}

#[test]
fn the_thread_writes_what_is_queued_before_it_ends() {
    let disk = Disk::new();
    let (queue, writer) = open(&disk);
    let (send, results) = mpsc::channel();
    let thread = std::thread::spawn(move || writer.run(|| NOW, |done| send.send(done).unwrap(), |e| panic!("{e}")));
    let mut ids = Vec::new();
    for i in 0..1000 {
        ids.push(queue.submit_with(NOW, say(i % 7 + 1, 10)).unwrap());
    }
    queue.close();
    thread.join().unwrap();
    let told: Vec<BatchId> =
        results.into_iter().flatten().inspect(|d| assert!(d.outcome.is_committed())).map(|d| d.id).collect();
    assert_eq!(told, ids);
    assert!(matches!(queue.submit_with(NOW, say(1, 1)), Err(StoreError::Closed)));
    assert_eq!(Memory::open(&disk).unwrap().last_id(), id_at(NOW) + 999 * STEP);
}

#[test]
fn a_writer_that_panics_closes_its_queue() {
    let (queue, writer) = open(&Disk::new());
    let thread = std::thread::spawn(move || writer.run(|| NOW, |_| panic!("expected by the test"), |_| {}));
    queue.submit_with(NOW, say(1, 1)).unwrap();
    assert!(thread.join().is_err());
    assert!(matches!(queue.submit_with(NOW, say(1, 1)), Err(StoreError::Closed)));
}

#[test]
fn a_writer_that_is_never_without_work_removes_what_has_expired_all_the_same() {
    let disk = Disk::new();
    let (queue, mut writer) = open(&disk);
    let map = writer.map("m", Loading::WithOwner).unwrap();
    let row = Row { expires: Some(NOW.as_millis()), ..Row::default() };
    let put = Write::Put { map, owner: 1, key: "k".into(), row: Some(row) };
    queue.submit(NOW, Batch { writes: vec![put], ..Batch::default() }).unwrap();
    // Each commit submits the next one, and takes a third of a second.
    let mut left = 10;
    let again = queue.clone();
    let told = move |_| match left {
        0 => again.close(),
        _ => {
            left -= 1;
            again.submit_with(NOW, say(1, 1)).unwrap();
        }
    };
    let ticks = std::cell::Cell::new(NOW);
    let clock = || {
        ticks.set(ticks.get().plus(Duration::from_millis(334)));
        ticks.get()
    };
    writer.run(clock, told, |error| panic!("{error}"));
    assert!(Memory::open(&disk).unwrap().reader().unwrap().load(1, 9).unwrap().is_empty());
}

#[test]
fn the_queue_is_full_at_its_bound_and_no_more_at_half_of_it() {
    let (queue, mut writer) = open(&Disk::new());
    assert!(!Journal::is_full(&queue));
    let weight = {
        queue.submit_with(NOW, say(1, 1_000)).unwrap();
        queue.backlog().bytes
    };
    queue.set_most(Backlog { batches: 100, bytes: 3 * weight });
    for full in [false, false, true] {
        queue.submit_with(NOW, say(1, 1_000)).unwrap();
        assert_eq!(Journal::is_full(&queue), full);
    }
    queue.reloaded(1);
    queue.submit_with(NOW, say(1, 0)).unwrap();
    assert_eq!(committed(writer.step()).len(), 4);
    assert!(!Journal::is_full(&queue));
    queue.set_most(Backlog { batches: 2, bytes: 10 * weight });
    for full in [false, true] {
        queue.submit_with(NOW, say(1, 0)).unwrap();
        assert_eq!(Journal::is_full(&queue), full);
    }
}
