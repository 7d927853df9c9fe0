//! The rules, and what only this backend can get wrong.

use super::*;
use crate::conformance::{self, Store};
use crate::memory::{Disk, Memory};
use crate::shape::{Direction, Kind, LogQuery, NewEntry, OwnerRow, Row, Side, Write, flags};
use crate::testing::Folder;
use bytes::Bytes;

/// Bounds so small that everything happens in a few steps.
pub fn tight() -> Options {
    Options {
        durability: Durability::Crash,
        tail_bulk: 20,
        tail_rest: 5,
        tail_piece: 7,
        wal_busy: 10,
        wal_rest: 5,
        tidy: 4,
        erase_rest: Millis::MAX,
        erase_busy: Millis::MAX,
        erase_pages: 3,
        ..Options::default()
    }
}

fn store(folder: &Folder, options: Options) -> Box<dyn Backend> {
    Box::new(Sqlite::open(folder.path(), options).unwrap())
}

#[test]
fn it_does_what_every_backend_must_do() {
    let usual = Options { durability: Durability::Crash, ..Options::default() };
    for options in [tight(), Options { erase_rest: 0, ..tight() }, usual] {
        for (rule, case) in conformance::CASES {
            println!("{rule}");
            let folder = Folder::new();
            case(&mut Store::new(&|| store(&folder, options)));
        }
    }
}

#[test]
fn under_random_use_it_says_what_the_memory_store_says() {
    let seeds = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8);
    for seed in 0..seeds {
        let (folder, disk) = (Folder::new(), Disk::new());
        let memory = || -> Box<dyn Backend> { Box::new(Memory::open(&disk).unwrap()) };
        // Once with an emptied log after each step: that takes its time.
        let erase_rest = if seed == 0 { 0 } else { Millis::MAX };
        let sqlite = || store(&folder, Options { erase_rest, ..tight() });
        conformance::compare(seed, 150, &mut Store::new(&memory), &mut Store::new(&sqlite));
    }
}

// --- crashes --------------------------------------------------------------------------------------------------------

fn body(len: usize) -> Bytes {
    vec![b'x'; len].into()
}

fn said(id: EntryId, owners: &[Owner]) -> Batch {
    let mut sides = owners.iter().map(|owner| Side {
        owner: *owner,
        dir: Direction::Sent,
        flags: 0,
        peer: format!("user{}@x.example", id % 3).into(),
        meta: Bytes::new(),
    });
    let sides = [sides.next(), sides.next()];
    let entry = NewEntry { id, time: id, sides, body: body(100) };
    Batch { owners: owners.into(), writes: vec![Write::Log(Box::new(entry))], ..Batch::default() }
}

fn commit(store: &mut dyn Backend, batch: Batch) {
    let outcome = store.apply(&[batch], &mut Stale::default()).remove(0);
    assert!(outcome.is_committed(), "{outcome:?}");
}

fn ids(store: &dyn Backend, owner: Owner) -> Vec<EntryId> {
    store.reader().unwrap().log_range(owner, LogQuery::default()).unwrap().iter().map(|e| e.id).collect()
}

/// What a process that dies now leaves behind.
fn remains(folder: &Folder) -> Folder {
    let copy = Folder::new();
    for file in [DATABASE_FILE, "vorpal.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    copy
}

#[test]
fn a_crash_at_any_point_of_filling_the_index_loses_nothing_and_shows_nothing_of_others() {
    // Row by row, and many rows in one statement with some left over.
    for options in [tight(), Options { tail_bulk: 90, tail_rest: 60, tail_piece: 75, ..tight() }] {
        crash_while_filling(options);
    }
}

fn crash_while_filling(options: Options) {
    let folder = Folder::new();
    let mut live = store(&folder, options);
    let mut expected: [Vec<EntryId>; 3] = Default::default();
    for id in 1..=150 {
        let owners = [[1, 2], [2, 3], [3, 1]][usize::try_from(id % 3).unwrap()];
        commit(&mut *live, said(id, &owners));
        owners.iter().for_each(|o| expected[*o as usize - 1].push(id));
        let _ = live.idle(0, true).unwrap();
        if id % 4 != 0 {
            continue;
        }
        let copy = remains(&folder);
        let mut dead = store(&copy, options);
        let expected = expected.clone();
        assert_eq!([1, 2, 3].map(|o| ids(&*dead, o)), expected, "after {id}");
        let of_one = LogQuery { peer: Some("user2@x.example"), ..LogQuery::default() };
        let with_one = |store: &dyn Backend| -> Vec<EntryId> {
            store.reader().unwrap().log_range(2, of_one).unwrap().iter().map(|e| e.id).collect()
        };
        let said_to_one: Vec<EntryId> = expected[1].iter().copied().filter(|id| id % 3 == 2).collect();
        assert_eq!(with_one(&*dead), said_to_one, "after {id}");
        // What was half indexed is deleted for one of its owners only.
        let gone: Vec<EntryId> = expected[0].iter().copied().filter(|id| id % 2 == 0).collect();
        let delete = Write::LogDelete { owner: 1, ids: gone.clone() };
        commit(&mut *dead, Batch { writes: vec![delete], ..Batch::default() });
        for _ in 0..3 {
            let left: Vec<EntryId> = expected[0].iter().copied().filter(|id| !gone.contains(id)).collect();
            assert_eq!([1, 2, 3].map(|o| ids(&*dead, o)), [left, expected[1].clone(), expected[2].clone()]);
            assert_eq!(with_one(&*dead), said_to_one);
            while dead.idle(0, false).unwrap() {}
        }
    }
}

#[test]
fn a_torn_write_ahead_log_gives_a_run_of_commits_without_gaps() {
    let folder = Folder::new();
    let mut live = store(&folder, Options::default());
    for id in 1..=20 {
        commit(&mut *live, said(id, &[1, 2]));
    }
    let whole = std::fs::metadata(folder.path().join("vorpal.db-wal")).unwrap().len();
    let mut counts = Vec::new();
    for cut in (0..=whole).step_by(3001).chain([whole]) {
        let copy = remains(&folder);
        let wal = std::fs::OpenOptions::new().write(true).open(copy.path().join("vorpal.db-wal")).unwrap();
        wal.set_len(cut).unwrap();
        drop(wal);
        let torn = store(&copy, Options::default());
        let left = ids(&*torn, 1);
        assert_eq!(left, (1..=left.len() as EntryId).collect::<Vec<_>>(), "cut at {cut}");
        assert_eq!(ids(&*torn, 2), left);
        counts.push(left.len());
    }
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!((counts.first(), counts.last()), (Some(&0), Some(&20)));
}

#[test]
fn what_was_deleted_leaves_nothing_in_the_index() {
    let folder = Folder::new();
    let mut store = Sqlite::open(folder.path(), tight()).unwrap();
    for id in 1..=200 {
        commit(&mut store, said(id, &[1, 2]));
        let ids = vec![id / 2, id.saturating_sub(3)];
        let deletes = [1, 2].map(|owner| Write::LogDelete { owner, ids: ids.clone() });
        commit(&mut store, Batch { writes: deletes.into(), ..Batch::default() });
        let _ = store.idle(0, id % 10 != 0).unwrap();
    }
    while store.idle(0, false).unwrap() {}
    let count = |table: &str| -> u64 {
        store.sql.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get(0).map(uint)).unwrap()
    };
    let left = count("log");
    let tail = lock(&store.tail).len() as u64;
    assert_eq!((left, count("log_owner") + tail, count("log_peer") + tail), (3, 6, 6));
}

#[test]
fn a_late_write_of_a_deleted_owner_goes_after_the_next_start() {
    let folder = Folder::new();
    let mut live = store(&folder, tight());
    let map = live.map("m", Loading::WithOwner).unwrap();
    let name = |owner, name: &str| {
        let (host, name) = ("x.example".into(), name.into());
        Write::Create(OwnerRow { owner, kind: Kind::Account, host, name, disabled: false, created: 0 })
    };
    let put = |owner| Write::Put { map, owner, key: "k".into(), row: Some(Row::default()) };
    let writes = vec![name(1, "romeo"), name(2, "juliet"), put(2), Write::Delete { owner: 1 }];
    commit(&mut *live, Batch { writes, ..Batch::default() });
    while live.idle(0, false).unwrap() {}
    commit(&mut *live, Batch { writes: vec![put(1)], ..Batch::default() });
    commit(&mut *live, said(1, &[1, 2]));
    drop(live);
    let mut live = store(&folder, tight());
    while live.idle(0, false).unwrap() {}
    let mut reader = live.reader().unwrap();
    assert_eq!((reader.load(1, 9).unwrap().len(), reader.load(2, 9).unwrap().len()), (0, 1));
    assert_eq!((ids(&*live, 1), ids(&*live, 2)), (vec![], vec![1]));
}

// --- the weather ----------------------------------------------------------------------------------------------------

fn blob(map: MapId, owner: Owner, len: usize) -> Batch {
    let write = Write::Blob { map, owner, key: "k".into(), data: Some(body(len)) };
    Batch { owners: [owner].into_iter().collect(), writes: vec![write], ..Batch::default() }
}

#[test]
fn on_a_full_disk_what_does_not_fit_fails_alone_and_later_it_works() {
    let folder = Folder::new();
    let mut store = Sqlite::open(folder.path(), tight()).unwrap();
    let map = store.map("m", Loading::Cold).unwrap();
    let pages: u32 = store.sql.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
    store.sql.query_row(&format!("PRAGMA max_page_count = {}", pages + 20), [], |_| Ok(())).unwrap();
    let mut stale = Stale::default();
    let group = [
        said(1, &[1]),
        blob(map, 2, 200_000),
        said(2, &[3]),
        said(3, &[2]),
        blob(map, 4, 10_000),
        blob(MapId(9), 5, 1),
    ];
    let outcomes = store.apply(&[&group[5..], &group[..5]].concat(), &mut stale);
    assert!(matches!(outcomes[0], Outcome::Failed(StoreError::Bug(_))), "it fails for its own reason: {outcomes:?}");
    let outcomes = &outcomes[1..];
    assert!(outcomes[0].is_committed() && outcomes[2].is_committed() && outcomes[4].is_committed(), "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::Failed(StoreError::Full)), "{outcomes:?}");
    assert!(matches!(outcomes[3], Outcome::Failed(StoreError::Stale)), "{outcomes:?}");
    assert_eq!([1, 2, 3].map(|o| ids(&store, o)), [vec![1], vec![], vec![2]]);
    store.sql.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).unwrap();
    stale.reloaded(2);
    assert!(store.apply(&[blob(map, 2, 200_000)], &mut stale)[0].is_committed());
}

#[test]
fn when_no_commit_can_begin_the_whole_group_fails_and_later_it_works() {
    let folder = Folder::new();
    let mut store = Sqlite::open(folder.path(), tight()).unwrap();
    store.sql.busy_timeout(Duration::ZERO).unwrap();
    let intruder = Connection::open(folder.path().join(DATABASE_FILE)).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut stale = Stale::default();
    let outcomes = store.apply(&[said(1, &[1]), said(2, &[2])], &mut stale);
    assert!(outcomes.iter().all(|o| matches!(o, Outcome::Failed(StoreError::Io { .. }))), "{outcomes:?}");
    assert!(stale.contains(1) && stale.contains(2));
    intruder.execute_batch("ROLLBACK").unwrap();
    commit(&mut store, said(1, &[1]));
    assert_eq!(ids(&store, 1), [1]);
}

/// Leaves a store as a commit does that failed when its frames were written: they are in the file, and the process that
/// wrote them does not know of them.
fn haunt(folder: &Folder, batch: Batch) {
    let copy = remains(folder);
    let mut other = store(&copy, Options::default());
    commit(&mut *other, batch);
    let frames = std::fs::read(copy.path().join("vorpal.db-wal")).unwrap();
    let wal = folder.path().join("vorpal.db-wal");
    let known = usize::try_from(std::fs::metadata(&wal).unwrap().len()).unwrap();
    assert!(frames.len() > known);
    std::fs::write(&wal, frames).unwrap();
}

fn after_a_crash(folder: &Folder) -> Vec<EntryId> {
    let copy = remains(folder);
    ids(&*store(&copy, Options::default()), 1)
}

#[test]
fn a_commit_that_failed_when_it_was_written_does_not_come_back_after_a_crash() {
    for more in 0..3 {
        let folder = Folder::new();
        let mut live = Sqlite::open(folder.path(), Options::default()).unwrap();
        let map = live.map("m", Loading::Cold).unwrap();
        commit(&mut live, said(1, &[1]));
        for failed in 2..5 {
            let mut batch = said(failed, &[1]);
            batch.writes.extend(blob(map, 1, more * 5000).writes);
            haunt(&folder, batch);
            assert_eq!(after_a_crash(&folder), [1, failed], "what this test is about");
            live.undone = true;
            live.supersede().unwrap();
            assert_eq!((ids(&live, 1), after_a_crash(&folder)), (vec![1], vec![1]));
        }
        commit(&mut live, said(5, &[1]));
        assert_eq!((ids(&live, 1), after_a_crash(&folder)), (vec![1, 5], vec![1, 5]));
    }
}

#[test]
fn nothing_is_written_before_a_commit_that_failed_is_taken_back() {
    let folder = Folder::new();
    let mut live = Sqlite::open(folder.path(), Options::default()).unwrap();
    commit(&mut live, said(1, &[1]));
    let reader = Connection::open(folder.path().join(DATABASE_FILE)).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM meta").unwrap();
    haunt(&folder, said(2, &[1]));
    live.undone = true;
    live.sql.execute_batch("PRAGMA query_only = ON").unwrap();
    for _ in 0..2 {
        let outcome = live.apply(&[said(3, &[1])], &mut Stale::default()).remove(0);
        assert!(matches!(outcome, Outcome::Failed(StoreError::Io { .. })), "{outcome:?}");
        assert!(live.idle(0, false).is_err());
        assert!(live.undone);
    }
    // Nothing can be written over, but without readers the log can be emptied.
    reader.execute_batch("COMMIT").unwrap();
    live.supersede().unwrap();
    assert_eq!(after_a_crash(&folder), [1]);
    live.sql.execute_batch("PRAGMA query_only = OFF").unwrap();
    commit(&mut live, said(4, &[1]));
    assert_eq!((ids(&live, 1), after_a_crash(&folder)), (vec![1, 4], vec![1, 4]));
}

#[test]
#[cfg(unix)]
fn a_broken_store_takes_nothing_more() {
    let folder = Folder::new();
    let store = Sqlite::open(folder.path(), tight()).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'log_owner'";
    let page: u64 = store.sql.query_row(sql, [], |r| r.get(0).map(uint)).unwrap();
    drop(store);
    let database = std::fs::OpenOptions::new().write(true).open(folder.path().join(DATABASE_FILE)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&database, &[0xa5; 4096], (page - 1) * 4096).unwrap();
    let mut store = Sqlite::open(folder.path(), tight()).unwrap();
    for id in 1..=30 {
        commit(&mut store, said(id, &[1]));
    }
    assert!(matches!(store.idle(0, false), Err(StoreError::Broken { .. })));
    let outcome = store.apply(&[said(31, &[1])], &mut Stale::default()).remove(0);
    assert!(matches!(outcome, Outcome::Failed(StoreError::Broken { .. })), "{outcome:?}");
}

#[test]
fn the_tail_has_a_bound_at_which_logs_wait_and_the_rest_goes_on() {
    let folder = Folder::new();
    let mut store = Sqlite::open(folder.path(), Options { tail_max: 10, ..tight() }).unwrap();
    let map = store.map("m", Loading::Cold).unwrap();
    for id in 1..=11 {
        commit(&mut store, said(id, &[1]));
    }
    let outcomes = store.apply(&[said(12, &[1]), blob(map, 2, 10)], &mut Stale::default());
    assert!(matches!(outcomes[0], Outcome::Failed(StoreError::Full)) && outcomes[1].is_committed(), "{outcomes:?}");
    while store.idle(0, false).unwrap() {}
    commit(&mut store, said(12, &[1]));
    assert_eq!(ids(&store, 1), (1..=12).collect::<Vec<_>>());
}

// --- the write-ahead log --------------------------------------------------------------------------------------------

fn wal_pages(folder: &Folder) -> u64 {
    std::fs::metadata(folder.path().join("vorpal.db-wal")).unwrap().len() / 4096
}

#[test]
fn the_write_ahead_log_has_a_bound_though_the_writer_never_rests() {
    let folder = Folder::new();
    let options = Options { wal_busy: 100, ..tight() };
    let mut store = store(&folder, options);
    for id in 1..=2000 {
        commit(&mut *store, said(id, &[id % 50 + 1, id % 7 + 100]));
        let _ = store.idle(0, true).unwrap();
        assert!(wal_pages(&folder) < 100 + 60, "{} pages after {id}", wal_pages(&folder));
    }
}

#[test]
fn a_reader_that_stays_makes_the_write_ahead_log_grow_and_it_starts_over_when_the_reader_has_gone() {
    let folder = Folder::new();
    let options = Options { wal_busy: 20, wal_max: 60, ..tight() };
    let mut store = store(&folder, options);
    commit(&mut *store, said(1, &[1]));
    let reader = Connection::open(folder.path().join(DATABASE_FILE)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM log").unwrap();
    let mut complaints = 0;
    for id in 2..=60 {
        commit(&mut *store, said(id, &[id]));
        complaints += u32::from(store.idle(0, true).is_err());
    }
    let grown = wal_pages(&folder);
    assert!(grown > 60 && (1..=10).contains(&complaints), "{grown} pages, {complaints} complaints");
    reader.execute_batch("COMMIT").unwrap();
    for id in 61..=300 {
        commit(&mut *store, said(id, &[id]));
        let _ = store.idle(0, true).unwrap();
    }
    assert!(wal_pages(&folder) <= grown + 20, "{} pages, {grown} before", wal_pages(&folder));
}

// --- readers beside the writer --------------------------------------------------------------------------------------

#[test]
fn readers_see_every_entry_that_was_told_and_never_a_gap() {
    let folder = Folder::new();
    let mut store = store(&folder, tight());
    let told = AtomicU64::new(0);
    const LAST: EntryId = 1500;
    let readers: Vec<Box<dyn Reader>> = (0..2).map(|_| store.reader().unwrap()).collect();
    std::thread::scope(|scope| {
        for (mut reader, newest_first) in readers.into_iter().zip([false, true]) {
            let told = &told;
            scope.spawn(move || {
                let mut reads = 0u32;
                while told.load(Ordering::SeqCst) < LAST || reads < 50 {
                    let floor = told.load(Ordering::SeqCst);
                    let query = LogQuery { newest_first, ..LogQuery::default() };
                    let mut seen: Vec<EntryId> = reader.log_range(1, query).unwrap().iter().map(|e| e.id).collect();
                    if newest_first {
                        seen.reverse();
                    }
                    assert_eq!(seen, (1..=seen.len() as EntryId).collect::<Vec<_>>());
                    assert!(seen.len() as u64 >= floor, "{} of {floor}", seen.len());
                    // Each commit takes this owner's only entry away and gives it another.
                    let other = reader.log_range(2, query).unwrap().len() as u64;
                    assert!(other == 1 || floor == 0 && other == 0, "two states in one answer: {other} entries");
                    reads += 1;
                }
            });
        }
        for id in 1..=LAST {
            let mut batch = said(id, &[1, 2]);
            batch.writes.push(Write::LogDelete { owner: 2, ids: vec![id - 1] });
            commit(&mut *store, batch);
            told.store(id, Ordering::SeqCst);
            let _ = store.idle(0, id % 3 != 0).unwrap();
        }
    });
}

// --- opening --------------------------------------------------------------------------------------------------------

#[test]
fn a_store_is_opened_by_one_at_a_time() {
    let folder = Folder::new();
    let store = Sqlite::open(folder.path(), tight()).unwrap();
    let error = Sqlite::open(folder.path(), tight()).err().unwrap();
    assert!(matches!(error, StoreError::Locked { pid, .. } if pid == std::process::id()), "{error}");
    drop(store);
    Sqlite::open(folder.path(), tight()).unwrap();
}

#[test]
fn a_store_of_a_newer_program_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let store = Sqlite::open(folder.path(), tight()).unwrap();
    store.sql.execute("INSERT INTO migration (version, name) VALUES (99, 'from the future')", []).unwrap();
    drop(store);
    let error = Sqlite::open(folder.path(), tight()).err().unwrap();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("schema 99"), "{error}");
}

#[test]
#[cfg(unix)]
fn nobody_else_may_read_the_data() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let directory = folder.path().join("data");
    let mut store = Sqlite::open(&directory, tight()).unwrap();
    commit(&mut store, said(1, &[1]));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for file in std::fs::read_dir(&directory).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn power_is_what_every_commit_is_synced_for_unless_told_otherwise() {
    for (durability, synchronous) in [(Durability::default(), 2), (Durability::Crash, 1)] {
        let folder = Folder::new();
        let store = Sqlite::open(folder.path(), Options { durability, ..Options::default() }).unwrap();
        let set: u32 = store.sql.query_row("PRAGMA synchronous", [], |r| r.get(0)).unwrap();
        assert_eq!(set, synchronous);
    }
}

// --- what archives take ---------------------------------------------------------------------------------------------

/// The sum over an owner's archived entries, which must be what is said of its archive.
fn archived(store: &dyn Backend, owner: Owner) -> u64 {
    let mut reader = store.reader().unwrap();
    let query = LogQuery { flags: flags::ARCHIVED, ..LogQuery::default() };
    let sum = reader.log_sizes(owner, query).unwrap().iter().map(|entry| entry.bytes).sum();
    assert_eq!(reader.log_archived(owner).unwrap(), sum);
    sum
}

fn kept(id: EntryId, owners: &[Owner]) -> Batch {
    let mut batch = said(id, owners);
    for write in &mut batch.writes {
        if let Write::Log(entry) = write {
            entry.sides.iter_mut().flatten().for_each(|side| side.flags = (!id.is_multiple_of(3)).into());
        }
    }
    batch
}

#[test]
fn what_an_archive_takes_is_right_after_a_crash_at_any_point_of_filling_the_index() {
    let folder = Folder::new();
    let mut live = store(&folder, tight());
    for id in 1..=150 {
        commit(&mut *live, kept(id, &[[1, 2], [2, 3], [3, 1]][usize::try_from(id % 3).unwrap()]));
        if id % 10 == 0 {
            let owner = 1 + id % 2;
            let trim = Write::LogTrim { owner, after: 0, before: id, keep: 0, limit: 3 };
            commit(&mut *live, Batch { writes: vec![trim], ..Batch::default() });
        }
        let _ = live.idle(0, true).unwrap();
        let expected = [1, 2, 3].map(|owner| archived(&*live, owner));
        let copy = remains(&folder);
        let mut dead = store(&copy, tight());
        assert_eq!([1, 2, 3].map(|owner| archived(&*dead, owner)), expected, "after {id}");
        while dead.idle(0, false).unwrap() {
            assert_eq!([1, 2, 3].map(|owner| archived(&*dead, owner)), expected, "after {id}, while it rests");
        }
        let trim = Write::LogTrim { owner: 1, after: 0, before: id, keep: 0, limit: 3 };
        commit(&mut *dead, Batch { writes: vec![trim], ..Batch::default() });
        archived(&*dead, 1);
    }
    assert!(archived(&*live, 3) > 10_000);
}

#[test]
fn what_the_archives_of_an_older_store_take_is_counted_when_it_is_opened() {
    let folder = Folder::new();
    let mut old = Sqlite::open(folder.path(), tight()).unwrap();
    for id in 1..=50 {
        commit(&mut old, kept(id, &[1, 2]));
        let _ = old.idle(0, true).unwrap();
    }
    let expected = archived(&old, 1);
    assert!(expected > 5_000 && old.indexed > 0 && lock(&old.tail).len() > 0);
    old.sql.execute_batch("DROP TABLE usage; DELETE FROM migration WHERE name = 'usage'").unwrap();
    drop(old);
    let mut new = Sqlite::open(folder.path(), tight()).unwrap();
    assert_eq!((archived(&new, 1), archived(&new, 2)), (expected, expected));
    while new.idle(0, false).unwrap() {}
    assert_eq!((archived(&new, 1), archived(&new, 2)), (expected, expected));
}
