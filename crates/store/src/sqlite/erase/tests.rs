//! Nothing of what was deleted may be found in any file.

use super::super::{DATABASE_FILE, Options};
use super::*;
use crate::shape::{
    Backend, Batch, Direction, EntryId, Kind, Loading, MapId, NewEntry, Owner, OwnerRow, Row, Side, Stale, Write,
};
use crate::testing::Folder;
use bytes::Bytes;

/// Of all the tests here: how many owners there are, and how much each has.
const OWNERS: Owner = 20;
const ENTRIES: u64 = 2_000;
const ROWS: u64 = 1_500;

/// Numbers that look random, always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn marker(owner: Owner) -> String {
    format!("marker-of-{owner:03}.")
}

fn entry(id: EntryId, owner: Owner, size: u64) -> Write {
    let side = Side {
        owner,
        dir: Direction::Received,
        flags: 0,
        peer: format!("{}peer@x.example", marker(owner)).into(),
        meta: Bytes::new(),
    };
    let filler = "x".repeat(usize::try_from(size).unwrap());
    let body = format!("{0}{filler}{0} entry-{id}.", marker(owner)).into();
    Write::Log(Box::new(NewEntry { id, time: id, sides: [Some(side), None], body }))
}

fn commit(store: &mut Sqlite, writes: Vec<Write>) {
    let outcome = store.apply(&[Batch { writes, ..Batch::default() }], &mut Stale::default()).remove(0);
    assert!(outcome.is_committed(), "{outcome:?}");
}

/// Owners whose entries and rows lie among each other, of many sizes, with deletions in between: pages are split and joined.
/// Returns the entries that were deleted one by one.
fn fill(store: &mut Sqlite) -> Vec<EntryId> {
    let map = store.map("roster", Loading::WithOwner).unwrap();
    let mut dice = Dice(7);
    let owners = (1..=OWNERS).map(|owner| {
        let (host, name) = ("x.example".into(), format!("{}name", marker(owner)).into());
        Write::Create(OwnerRow { owner, kind: Kind::Account, host, name, disabled: false, created: 0 })
    });
    commit(store, owners.collect());
    let (mut there, mut gone) = (Vec::new(), Vec::new());
    for id in 1..=ENTRIES {
        let owner = 1 + dice.below(OWNERS);
        let size = [20, 60, 200, 500, 1_500, 9_000][usize::try_from(dice.below(6)).unwrap()];
        let mut writes = vec![entry(id, owner, size)];
        there.push((owner, id));
        if id < ROWS {
            writes.push(row(map, 1 + dice.below(OWNERS), &mut dice));
        }
        if dice.below(10) < 4 {
            let index = usize::try_from(dice.below(there.len() as u64)).unwrap();
            let (owner, id) = there.swap_remove(index);
            writes.push(Write::LogDelete { owner, ids: vec![id] });
            gone.push(id);
        }
        commit(store, writes);
        let _ = store.idle(0, true).unwrap();
    }
    gone
}

fn row(map: MapId, owner: Owner, dice: &mut Dice) -> Write {
    let key = format!("{}{}@contact.example", marker(owner), dice.below(900)).into();
    let value = marker(owner).repeat(usize::try_from(1 + dice.below(9)).unwrap()).into();
    Write::Put { map, owner, key, row: Some(Row { value, ..Row::default() }) }
}

/// Whose content is in the files of a folder, whichever they are, and which entries.
fn found(folder: &Folder) -> (BTreeMap<Owner, usize>, BTreeSet<EntryId>) {
    let (mut owners, mut entries) = (BTreeMap::new(), BTreeSet::new());
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let number = |rest: Option<&[u8]>| {
            let digits = rest?.iter().take_while(|b| b.is_ascii_digit()).map(|b| u64::from(b - b'0'));
            Some(digits.fold(0, |n, digit| 10 * n + digit))
        };
        for (at, byte) in bytes.iter().enumerate() {
            if !matches!(byte, b'm' | b'e') {
                continue;
            }
            if let Some(owner) = number(bytes[at..].strip_prefix(b"marker-of-")) {
                *owners.entry(owner).or_default() += 1;
            }
            entries.extend(number(bytes[at..].strip_prefix(b"entry-")));
        }
    }
    (owners, entries)
}

/// Does all the work that can wait, at this time; then what becomes due of it.
fn rest(store: &mut Sqlite, now: Millis) {
    for now in [now, now + store.options.erase_rest] {
        while store.idle(now, false).unwrap() {}
    }
}

fn sound(store: &Sqlite) {
    let found: String = store.sql.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(found, "ok");
}

fn deleted(store: &mut Sqlite) -> Vec<Owner> {
    let owners: Vec<Owner> = (1..=OWNERS / 2).collect();
    commit(store, owners.iter().map(|owner| Write::Delete { owner: *owner }).collect());
    owners
}

fn check(folder: &Folder, owners: &[Owner], entries: &[EntryId]) {
    let (of, ids) = found(folder);
    let left: Vec<_> = owners.iter().filter_map(|owner| of.get_key_value(owner)).collect();
    assert!(left.is_empty(), "owners, and how often: {left:?}");
    let left: Vec<_> = entries.iter().filter(|id| ids.contains(id)).collect();
    assert!(left.is_empty(), "entries: {left:?}");
    // The test finds what is there.
    assert!(of[&OWNERS] > 50 && ids.len() > 100);
}

#[test]
fn what_is_deleted_is_in_no_file_when_the_writer_has_rested() {
    let folder = Folder::new();
    let mut store = Sqlite::open(folder.path(), Options::default()).unwrap();
    let entries = fill(&mut store);
    assert!(entries.len() > 500);
    let owners = deleted(&mut store);
    assert!(found(&folder).0[&1] > 50);
    rest(&mut store, 10_000);
    check(&folder, &owners, &entries);
    sound(&store);
}

#[test]
fn what_is_deleted_is_in_no_file_when_the_store_is_closed() {
    let folder = Folder::new();
    let mut store = Sqlite::open(folder.path(), Options::default()).unwrap();
    let entries = fill(&mut store);
    let owners = deleted(&mut store);
    drop(store);
    check(&folder, &owners, &entries);
    assert!(!is_unclosed(&folder.path().join(DATABASE_FILE)));
    sound(&Sqlite::open(folder.path(), Options::default()).unwrap());
}

#[test]
fn a_writer_that_never_rests_erases_as_well() {
    let folder = Folder::new();
    let mut store = Sqlite::open(folder.path(), Options { erase_pages: 1_000, ..Options::default() }).unwrap();
    let mut entries = fill(&mut store);
    entries.retain(|id| *id > ENTRIES / 2);
    let busy = |store: &mut Sqlite, id, now| {
        commit(store, vec![entry(id, 999, 300)]);
        let _ = store.idle(now, true).unwrap();
    };
    busy(&mut store, ENTRIES + 1, 10_000);
    let there = found(&folder).1;
    assert!(entries.iter().any(|id| there.contains(id)), "nothing was to be erased");
    for step in 0..100 {
        busy(&mut store, ENTRIES + 2 + step, 80_000 + step);
    }
    check(&folder, &[], &entries);
    sound(&store);
}

#[test]
fn a_store_that_was_not_closed_is_checked_as_a_whole_at_the_next_start() {
    let folder = Folder::new();
    let mut store = Sqlite::open(folder.path(), Options::default()).unwrap();
    let entries = fill(&mut store);
    let owners = deleted(&mut store);
    while store.idle(0, false).unwrap() {}
    // It does not know what it has written.
    let copy = Folder::new();
    for file in [DATABASE_FILE, "vorpal.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    let mut again = Sqlite::open(copy.path(), Options::default()).unwrap();
    assert_eq!(again.erasing.scan, 1);
    rest(&mut again, 10_000);
    check(&copy, &owners, &entries);
    sound(&again);
    assert_eq!(again.erasing.scan, 0);
    drop(again);
    assert_eq!(Sqlite::open(copy.path(), Options::default()).unwrap().erasing.scan, 0, "it is not checked again");
}

#[test]
fn a_file_that_was_written_without_erasing_is_cleaned_at_the_first_start() {
    let folder = Folder::new();
    let mut store =
        Sqlite::open(folder.path(), Options { erase_rest: Millis::MAX, erase_busy: Millis::MAX, ..Options::default() })
            .unwrap();
    store.sql.execute_batch("PRAGMA secure_delete = OFF").unwrap();
    store.erasing.scan = 0;
    fill(&mut store);
    let owners = deleted(&mut store);
    while store.idle(0, false).unwrap() {}
    store.erasing.written.clear();
    store.sql.execute("DELETE FROM meta WHERE name = 'scan'", []).unwrap();
    store.erasing.stored = Some(store.erasing.scan);
    drop(store);
    let of = found(&folder).0;
    assert!(owners.iter().any(|owner| of.contains_key(owner)), "nothing was to be erased");
    let mut store = Sqlite::open(folder.path(), Options::default()).unwrap();
    rest(&mut store, 10_000);
    check(&folder, &owners, &[]);
    sound(&store);
}

#[test]
fn a_reader_that_stays_puts_it_off() {
    let folder = Folder::new();
    let mut store = Sqlite::open(folder.path(), Options::default()).unwrap();
    commit(&mut store, vec![entry(1, 1, 100)]);
    let reader = Connection::open(folder.path().join(DATABASE_FILE)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM log").unwrap();
    commit(&mut store, vec![Write::LogDelete { owner: 1, ids: vec![1] }]);
    rest(&mut store, 10_000);
    assert!(found(&folder).0.contains_key(&1));
    reader.execute_batch("COMMIT").unwrap();
    rest(&mut store, 20_000);
    assert!(found(&folder).0.is_empty());
}

#[test]
fn only_b_tree_pages_have_unused_bytes() {
    let mut page = vec![0; 512];
    assert_eq!(unused(&page, 2), None, "a page of the free list");
    // A leaf of two rows, a deleted one between them.
    page[..12].copy_from_slice(&[0x0d, 1, 160, 0, 2, 1, 140, 0, 1, 140, 1, 220]);
    page[416..420].copy_from_slice(&[0, 0, 0, 60]);
    let found = unused(&page, 2).unwrap();
    assert_eq!(found.as_slice(), [12..396, 420..476]);
    for (at, bytes) in [(8, [0, 20]), (3, [1, 0]), (5, [2, 1]), (416, [1, 160]), (418, [0, 3]), (418, [0, 97])] {
        let mut bad = page.clone();
        bad[at..at + 2].copy_from_slice(&bytes);
        assert_eq!(unused(&bad, 2), None, "{bytes:?} at {at}");
    }
    assert_eq!(unused(&page[..9], 2), None);
    assert_eq!(unused(&page, 1), None, "the header of the file comes first");
}
