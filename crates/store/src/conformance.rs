//! What every backend must do, and a comparison of two backends under random use.

mod random;

use crate::shape::*;
use bytes::Bytes;

pub use random::compare;

/// A store under test, which can be closed and opened again.
pub struct Store<'a> {
    open: &'a dyn Fn() -> Box<dyn Backend>,
    backend: Option<Box<dyn Backend>>,
    stale: Stale,
}

const NOW: Millis = 1_700_000_000_000;

impl<'a> Store<'a> {
    pub fn new(open: &'a dyn Fn() -> Box<dyn Backend>) -> Store<'a> {
        Store { open, backend: Some(open()), stale: Stale::default() }
    }

    fn backend(&mut self) -> &mut dyn Backend {
        self.backend.as_deref_mut().expect("it is open between two calls")
    }

    pub fn group(&mut self, group: &[Batch]) -> Vec<Outcome> {
        let mut stale = std::mem::take(&mut self.stale);
        let outcomes = self.backend().apply(group, &mut stale);
        self.stale = stale;
        outcomes
    }

    fn apply(&mut self, writes: impl Into<Vec<Write>>) -> Outcome {
        self.group(&[Batch { writes: writes.into(), now: NOW, ..Batch::default() }]).remove(0)
    }

    #[track_caller]
    fn commit(&mut self, writes: impl Into<Vec<Write>>) {
        let outcome = self.apply(writes);
        assert!(outcome.is_committed(), "{outcome:?}");
    }

    #[track_caller]
    fn refused(&mut self, write: usize, writes: impl Into<Vec<Write>>) {
        let outcome = self.apply(writes);
        assert!(matches!(outcome, Outcome::Refused { write: at } if at == write), "{outcome:?}");
    }

    pub fn reader(&mut self) -> Box<dyn Reader> {
        self.backend().reader().unwrap()
    }

    pub fn map(&mut self, name: &str, loading: Loading) -> MapId {
        self.backend().map(name, loading).unwrap()
    }

    pub fn reopen(&mut self) {
        self.backend = None;
        self.backend = Some((self.open)());
    }

    /// Rests until there is nothing left to do.
    pub fn rest(&mut self, now: Millis) {
        for _ in 0..10_000 {
            if !self.backend().idle(now, false).unwrap() {
                return;
            }
        }
        panic!("there is always more to do");
    }

    fn ids(&mut self, owner: Owner, query: LogQuery) -> Vec<EntryId> {
        let mut reader = self.reader();
        let ids: Vec<EntryId> = reader.log_range(owner, query).unwrap().iter().map(|e| e.id).collect();
        assert_eq!(reader.log_count(owner, query).unwrap(), ids.len());
        ids
    }
}

type Case = (&'static str, fn(&mut Store));

/// Every rule, by what it says.
pub const CASES: &[Case] = &[
    ("a new store is empty", empty),
    ("a name belongs to one owner at a time and a number to one owner ever", names),
    ("owners are listed by name in pages", owner_pages),
    ("an owner can be switched off and on", disabling),
    ("what a deleted owner leaves goes when the store rests, and nothing of others goes with it", deletion),
    ("a row is put, replaced and deleted", rows),
    ("the rows loaded with an owner are those of its small maps", loading),
    ("rows are read by prefix, in pages, both ways", ranges),
    ("rows are found by their reverse key among all owners", reverse),
    ("a row of the store itself is replaced as any other", own_rows),
    ("a row that has expired counts as absent and goes when the store rests", expiry),
    ("a requirement that is not met refuses the whole batch", requirements),
    ("what is counted can be taken as often as it says", counted),
    ("clearing deletes the first rows of a prefix", clearing),
    ("a log is read by id, peer and flags, both ways, with a limit", log_queries),
    ("a message between two accounts is one entry that each sees from its side", two_sides),
    ("an entry goes when both owners have let go of it", letting_go),
    ("trimming lets go of what has none of the flags, oldest first", trimming),
    ("an edited entry is seen by its editor alone, and the old text goes with the last who sees it", editing),
    ("what an owner's entries take is known, and what its archive takes is known at once", sizes),
    ("ids never come again, whatever is deleted", ids_ascend),
    ("blobs are put, listed and deleted", blobs),
    ("a batch that is refused leaves nothing, and its neighbours stay", neighbours),
    ("writes of a batch see those before them", order),
    ("what breaks the rules of the interface fails alone", bugs),
    ("an update that is refused makes its owners stale", staleness),
    ("everything is there after the store is opened again", reopening),
    ("maps keep their numbers", maps),
];

fn owner(owner: Owner, kind: Kind, host: &str, name: &str) -> OwnerRow {
    OwnerRow { owner, kind, host: host.into(), name: name.into(), disabled: false, created: NOW }
}

fn account(number: Owner, name: &str) -> Write {
    Write::Create(owner(number, Kind::Account, "x.example", name))
}

fn put(map: MapId, owner: Owner, key: &str, value: &str) -> Write {
    let row = Row::from(Bytes::copy_from_slice(value.as_bytes()));
    Write::Put { map, owner, key: Bytes::copy_from_slice(key.as_bytes()), row: Some(row) }
}

fn side(owner: Owner, dir: Direction, flags: u8, peer: &str) -> Option<Side> {
    Some(Side { owner, dir, flags, peer: peer.into(), meta: format!("meta of {owner}").into() })
}

fn entry(id: EntryId, sides: [Option<Side>; 2]) -> Write {
    Write::Log(Box::new(NewEntry { id, time: NOW + id, sides, body: format!("body {id}").into() }))
}

fn received(id: EntryId, owner: Owner, flags: u8, peer: &str) -> Write {
    entry(id, [side(owner, Direction::Received, flags, peer), None])
}

fn keys(rows: &[KeyedRow]) -> Vec<(Owner, String)> {
    rows.iter().map(|r| (r.owner, String::from_utf8_lossy(&r.key).into_owned())).collect()
}

fn empty(s: &mut Store) {
    assert_eq!((s.backend().last_id(), s.backend().next_owner()), (0, 1));
    let map = s.map("m", Loading::WithOwner);
    let mut r = s.reader();
    assert_eq!(r.find(Kind::Account, "x.example", "romeo").unwrap(), None);
    assert_eq!(r.owner(1).unwrap(), None);
    assert!(r.load(1, 10).unwrap().is_empty() && r.log_range(1, LogQuery::default()).unwrap().is_empty());
    assert_eq!(r.map_get(map, STORE, b"k").unwrap(), None);
    assert!(s.group(&[]).is_empty());
}

fn names(s: &mut Store) {
    s.commit([account(1, "romeo"), Write::Create(owner(2, Kind::Room, "x.example", "romeo"))]);
    s.commit([
        Write::Create(owner(3, Kind::Account, "y.example", "romeo")),
        Write::Create(owner(4, Kind::Host, "x.example", "")),
    ]);
    s.refused(0, [account(5, "romeo")]);
    assert_eq!(s.backend().next_owner(), 5);
    s.commit([Write::Delete { owner: 1 }, account(9, "romeo")]);
    s.refused(0, [Write::Delete { owner: 1 }]);
    assert_eq!(
        s.reader().find(Kind::Account, "x.example", "romeo").unwrap(),
        Some(owner(9, Kind::Account, "x.example", "romeo"))
    );
    assert_eq!(s.reader().find(Kind::Host, "x.example", "").unwrap().map(|o| o.owner), Some(4));
    assert_eq!(s.reader().owner(1).unwrap(), None);
    assert!(matches!(s.apply([account(8, "juliet")]), Outcome::Failed(StoreError::Bug(_))));
    s.reopen();
    assert_eq!(s.backend().next_owner(), 10);
}

fn owner_pages(s: &mut Store) {
    for (i, name) in ["b", "a\u{e9}", "a", "c", "ab"].into_iter().enumerate() {
        s.commit([account(i as Owner + 1, name)]);
    }
    s.commit([
        Write::Create(owner(6, Kind::Room, "x.example", "aa")),
        Write::Create(owner(7, Kind::Account, "y.example", "ac")),
    ]);
    let mut r = s.reader();
    let mut page = |past: Option<&str>, limit| -> Vec<Box<str>> {
        r.owners(Kind::Account, "x.example", past, limit).unwrap().into_iter().map(|o| o.name).collect()
    };
    assert_eq!(page(None, 3).iter().map(|n| &**n).collect::<Vec<_>>(), ["a", "ab", "a\u{e9}"]);
    assert_eq!(page(Some("a\u{e9}"), 3).iter().map(|n| &**n).collect::<Vec<_>>(), ["b", "c"]);
    assert!(page(Some("c"), 3).is_empty());
}

fn disabling(s: &mut Store) {
    s.refused(0, [Write::Disable { owner: 1, disabled: true }]);
    s.commit([account(1, "romeo"), Write::Disable { owner: 1, disabled: true }]);
    assert!(s.reader().owner(1).unwrap().unwrap().disabled);
    s.commit([Write::Disable { owner: 1, disabled: false }]);
    assert!(!s.reader().owner(1).unwrap().unwrap().disabled);
}

fn deletion(s: &mut Store) {
    let (warm, cold) = (s.map("warm", Loading::WithOwner), s.map("cold", Loading::Cold));
    s.commit([account(1, "romeo"), account(2, "juliet")]);
    let listed = Row { reverse: Some("all".into()), ..Row::default() };
    for o in [1, 2] {
        for k in 0..30u8 {
            let key = Bytes::from(vec![k]);
            s.commit([
                Write::Put { map: warm, owner: o, key: key.clone(), row: Some(listed.clone()) },
                Write::Put { map: cold, owner: o, key: key.clone(), row: Some(Row::default()) },
                Write::Blob { map: cold, owner: o, key, data: Some("data".into()) },
            ]);
        }
    }
    for id in 1..=30 {
        s.commit([entry(
            id,
            [side(1, Direction::Sent, 0, "juliet@x.example"), side(2, Direction::Received, 0, "romeo@x.example")],
        )]);
    }
    s.commit([Write::Delete { owner: 1 }]);
    assert_eq!(s.reader().map_reverse(warm, b"all", None, 99).unwrap().len(), 30, "only juliet's");
    s.rest(NOW);
    let mut r = s.reader();
    for (o, left) in [(1, 0), (2, 30)] {
        assert_eq!(r.load(o, 99).unwrap().len(), left);
        assert_eq!(r.map_count(cold, o, b"", 99).unwrap(), left);
        assert_eq!(r.blobs(cold, o, None, 99).unwrap().len(), left);
        assert_eq!(r.log_count(o, LogQuery::default()).unwrap(), left);
    }
    s.reopen();
    s.rest(NOW);
    assert_eq!(s.ids(2, LogQuery::default()).len(), 30);
}

fn rows(s: &mut Store) {
    let (a, b) = (s.map("a", Loading::WithOwner), s.map("b", Loading::Cold));
    s.commit([put(a, 1, "k", "one"), put(b, 1, "k", "other map"), put(a, 2, "k", "other owner"), put(a, 1, "", "")]);
    s.commit([put(a, 1, "k", "two")]);
    let mut r = s.reader();
    assert_eq!(r.map_get(a, 1, b"k").unwrap(), Some(Row::from(Bytes::from("two"))));
    assert_eq!(r.map_get(a, 1, b"").unwrap(), Some(Row::default()));
    assert_eq!(r.map_get(b, 1, b"k").unwrap(), Some(Row::from(Bytes::from("other map"))));
    s.commit([Write::Put { map: a, owner: 1, key: "k".into(), row: None }]);
    s.commit([Write::Put { map: a, owner: 1, key: "none".into(), row: None }]);
    let mut r = s.reader();
    assert_eq!(r.map_get(a, 1, b"k").unwrap(), None);
    assert_eq!(r.map_get(a, 2, b"k").unwrap(), Some(Row::from(Bytes::from("other owner"))));
    let full = Row { value: "v".into(), reverse: Some("".into()), expires: Some(NOW + 1) };
    s.commit([Write::Put { map: a, owner: 1, key: vec![0, 255].into(), row: Some(full.clone()) }]);
    assert_eq!(s.reader().map_get(a, 1, &[0, 255]).unwrap(), Some(full));
}

fn loading(s: &mut Store) {
    let cold = s.map("cold", Loading::Cold);
    let (first, second) = (s.map("first", Loading::WithOwner), s.map("second", Loading::WithOwner));
    s.commit([
        put(second, 1, "a", "3"),
        put(first, 1, "b", "2"),
        put(first, 1, "a", "1"),
        put(cold, 1, "a", "no"),
        put(first, 2, "a", "no"),
    ]);
    let rows = s.reader().load(1, 99).unwrap();
    let values: Vec<_> = rows.iter().map(|r| (r.map, r.key.clone(), r.row.value.clone())).collect();
    assert_eq!(
        values,
        [(first, "a".into(), "1".into()), (first, "b".into(), "2".into()), (second, "a".into(), "3".into())]
    );
    assert_eq!(s.reader().load(1, 2).unwrap().len(), 2);
}

fn ranges(s: &mut Store) {
    let m = s.map("m", Loading::Cold);
    for (o, key) in [(1, "a"), (1, "ab"), (1, "abc"), (1, "b"), (1, "ba"), (2, "ab"), (2, "c")] {
        s.commit([put(m, o, key, key)]);
    }
    let mut r = s.reader();
    let mut read = |prefix: &str, past: Option<&str>, descending, limit| -> String {
        let q = MapQuery { prefix: prefix.as_bytes(), past: past.map(str::as_bytes), descending, limit };
        keys(&r.map_range(m, 1, q).unwrap()).into_iter().map(|(_, k)| k).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(read("", None, false, 99), "a ab abc b ba");
    assert_eq!(read("", None, true, 2), "ba b");
    assert_eq!(read("", Some("b"), true, 2), "abc ab");
    assert_eq!(read("a", None, false, 99), "a ab abc");
    assert_eq!(read("a", Some("ab"), false, 99), "abc");
    assert_eq!(read("a", None, true, 99), "abc ab a");
    assert_eq!(read("a", Some("b"), false, 99), "");
    assert_eq!(read("b", Some("a"), false, 1), "b");
    assert_eq!(read("x", None, false, 99), "");
    assert_eq!(read("a", None, false, 0), "");
    assert_eq!((r.map_count(m, 1, b"a", 99).unwrap(), r.map_count(m, 1, b"", 2).unwrap()), (3, 2));
}

fn reverse(s: &mut Store) {
    let (m, n) = (s.map("m", Loading::WithOwner), s.map("n", Loading::Cold));
    let row = |reverse: &str| {
        Some(Row { value: "v".into(), reverse: Some(Bytes::copy_from_slice(reverse.as_bytes())), expires: None })
    };
    for (map, owner, key, by) in
        [(m, 2, "b", "j"), (m, 1, "a", "j"), (m, 2, "a", "j"), (m, 3, "a", "k"), (n, 9, "a", "j")]
    {
        s.commit([Write::Put { map, owner, key: key.into(), row: row(by) }]);
    }
    let mut r = s.reader();
    let all = r.map_reverse(m, b"j", None, 99).unwrap();
    assert_eq!(keys(&all), [(1, "a".into()), (2, "a".into()), (2, "b".into())]);
    assert_eq!(all[0].row.reverse, Some("j".into()));
    assert_eq!(keys(&r.map_reverse(m, b"j", Some((2, b"a")), 99).unwrap()), [(2, "b".into())]);
    assert_eq!(keys(&r.map_reverse(m, b"j", Some((1, b"a")), 1).unwrap()), [(2, "a".into())]);
    s.commit([
        put(m, 1, "a", "no reverse key any more"),
        Write::Put { map: m, owner: 2, key: "a".into(), row: row("k") },
    ]);
    let mut r = s.reader();
    assert_eq!(keys(&r.map_reverse(m, b"j", None, 99).unwrap()), [(2, "b".into())]);
    assert_eq!(keys(&r.map_reverse(m, b"k", None, 99).unwrap()), [(2, "a".into()), (3, "a".into())]);
    assert!(r.map_reverse(m, b"", None, 99).unwrap().is_empty());
}

/// Rows of the store itself are written again and again: each time as if it were the first.
fn own_rows(s: &mut Store) {
    let m = s.map("m", Loading::Cold);
    let rows = [
        Row::from(Bytes::from("one")),
        Row::from(Bytes::from("two")),
        Row { value: "three".into(), reverse: Some("j".into()), expires: None },
        Row::from(Bytes::from("four")),
        Row { value: "five".into(), reverse: None, expires: Some(NOW + 1) },
        Row::from(Bytes::from("six")),
    ];
    for row in rows {
        s.commit([Write::Put { map: m, owner: STORE, key: "k".into(), row: Some(row.clone()) }]);
        let mut r = s.reader();
        let found = r.map_reverse(m, b"j", None, 99).unwrap().len();
        assert_eq!(found, usize::from(row.reverse.is_some()));
        assert_eq!(r.map_get(m, STORE, b"k").unwrap(), Some(row));
        assert_eq!(r.map_get(m, STORE, b"l").unwrap(), None);
    }
    s.rest(NOW + 10);
    assert!(s.reader().map_get(m, STORE, b"k").unwrap().is_some(), "it expires no more");
}

fn expiry(s: &mut Store) {
    let m = s.map("m", Loading::WithOwner);
    let row = |at| Some(Row { expires: Some(at), ..Row::counted(3, b"") });
    let key = || Bytes::from("k");
    s.commit([
        Write::Put { map: m, owner: 1, key: key(), row: row(NOW) },
        Write::Put { map: m, owner: 2, key: key(), row: row(NOW + 1) },
    ]);
    s.refused(0, [Write::Require { map: m, owner: 1, key: key(), expect: Expect::Present }]);
    s.refused(0, [Write::Take { map: m, owner: 1, key: key(), n: 1 }]);
    s.commit([Write::Require { map: m, owner: 1, key: key(), expect: Expect::Absent }]);
    s.commit([Write::Take { map: m, owner: 2, key: key(), n: 1 }]);
    assert_eq!(s.reader().load(1, 9).unwrap().len(), 1, "readers see it until it is removed");
    s.rest(NOW);
    assert_eq!((s.reader().load(1, 9).unwrap().len(), s.reader().load(2, 9).unwrap().len()), (0, 1));
    assert_eq!(s.reader().map_get(m, 2, b"k").unwrap().unwrap().expires, Some(NOW + 1), "taking does not prolong it");
}

fn requirements(s: &mut Store) {
    let m = s.map("m", Loading::WithOwner);
    let require =
        |key: &str, expect| Write::Require { map: m, owner: 1, key: Bytes::copy_from_slice(key.as_bytes()), expect };
    s.commit([
        require("k", Expect::Absent),
        put(m, 1, "k", "one"),
        require("k", Expect::Present),
        require("k", Expect::Value("one".into())),
    ]);
    s.refused(0, [require("k", Expect::Absent), put(m, 1, "k", "two")]);
    s.refused(1, [put(m, 1, "k", "two"), require("k", Expect::Value("one".into()))]);
    s.refused(2, [put(m, 1, "l", "new"), received(5, 1, 0, "p"), require("none", Expect::Present)]);
    assert_eq!(s.reader().map_get(m, 1, b"k").unwrap(), Some(Row::from(Bytes::from("one"))));
    assert_eq!(s.reader().map_get(m, 1, b"l").unwrap(), None);
    assert_eq!((s.ids(1, LogQuery::default()), s.backend().last_id()), (vec![], 0));
}

fn counted(s: &mut Store) {
    let m = s.map("m", Loading::Cold);
    let take = |n| Write::Take { map: m, owner: 1, key: "k".into(), n };
    s.refused(0, [take(1)]);
    s.commit([Write::Put { map: m, owner: 1, key: "k".into(), row: Some(Row::counted(3, b"rest")) }, take(1)]);
    assert_eq!(s.reader().map_get(m, 1, b"k").unwrap().unwrap().count(), Some((2, &b"rest"[..])));
    s.refused(0, [take(3)]);
    s.refused(2, [take(1), take(0), take(2)]);
    s.commit([take(1), take(1)]);
    assert_eq!(s.reader().map_get(m, 1, b"k").unwrap(), None, "nothing is left");
    s.commit([put(m, 1, "k", "short")]);
    s.refused(0, [take(0)]);
}

fn clearing(s: &mut Store) {
    let m = s.map("m", Loading::Cold);
    for key in ["a1", "a2", "a3", "b1"] {
        s.commit([put(m, 1, key, ""), put(m, 2, key, "")]);
    }
    let clear = |prefix: &str, limit| Write::Clear {
        map: m,
        owner: 1,
        prefix: Bytes::copy_from_slice(prefix.as_bytes()),
        limit,
    };
    s.commit([clear("a", 2)]);
    assert_eq!(keys(&s.reader().map_range(m, 1, MapQuery::default()).unwrap()), [(1, "a3".into()), (1, "b1".into())]);
    s.commit([clear("", 0)]);
    s.commit([clear("", u32::MAX)]);
    assert_eq!((s.reader().map_count(m, 1, b"", 9).unwrap(), s.reader().map_count(m, 2, b"", 9).unwrap()), (0, 4));
}

fn log_queries(s: &mut Store) {
    for id in 1..=40 {
        let peer = ["juliet@x.example", "nurse@x.example"][id as usize % 2];
        s.commit([received(id * 10, 1, u8::from(id % 4 == 0) | 2, peer)]);
        if id == 20 {
            s.rest(NOW);
        }
    }
    let all: Vec<EntryId> = (1..=40).map(|i| i * 10).collect();
    let q = LogQuery::default();
    for round in 0..3 {
        assert_eq!(s.ids(1, q), all, "round {round}");
        assert_eq!(s.ids(1, LogQuery { newest_first: true, limit: 3, ..q }), [400, 390, 380]);
        assert_eq!(s.ids(1, LogQuery { after: 10, before: 50, ..q }), [20, 30, 40]);
        assert_eq!(s.ids(1, LogQuery { after: 15, before: 21, newest_first: true, ..q }), [20]);
        assert_eq!(s.ids(1, LogQuery { after: 190, limit: 3, ..q }), [200, 210, 220]);
        assert_eq!(s.ids(1, LogQuery { before: 220, limit: 3, newest_first: true, ..q }), [210, 200, 190]);
        assert_eq!(s.ids(1, LogQuery { peer: Some("juliet@x.example"), after: 170, limit: 3, ..q }), [180, 200, 220]);
        assert_eq!(
            s.ids(1, LogQuery { peer: Some("nurse@x.example"), before: 230, newest_first: true, limit: 2, ..q }),
            [210, 190]
        );
        assert_eq!(s.ids(1, LogQuery { peer: Some("nurse"), ..q }), Vec::<EntryId>::new());
        assert_eq!(s.ids(1, LogQuery { flags: 1, after: 100, limit: 3, ..q }), [120, 160, 200]);
        assert_eq!(s.ids(1, LogQuery { flags: 3, newest_first: true, limit: 2, ..q }), [400, 360]);
        assert!(s.ids(1, LogQuery { flags: 4, ..q }).is_empty() && s.ids(2, q).is_empty());
        assert!(s.ids(1, LogQuery { after: 50, before: 50, ..q }).is_empty());
        assert!(
            s.ids(1, LogQuery { after: 60, before: 50, ..q }).is_empty()
                && s.ids(1, LogQuery { limit: 0, ..q }).is_empty()
        );
        if round == 0 {
            s.reopen();
        } else {
            s.rest(NOW);
        }
    }
}

fn two_sides(s: &mut Store) {
    s.commit([entry(
        7,
        [side(1, Direction::Sent, 1, "juliet@x.example"), side(2, Direction::Received, 0, "romeo@x.example")],
    )]);
    s.commit([entry(8, [None, side(2, Direction::Both, 1, "juliet@x.example")])]);
    let mut r = s.reader();
    let sent = Entry {
        id: 7,
        time: NOW + 7,
        dir: Direction::Sent,
        flags: 1,
        peer: "juliet@x.example".into(),
        meta: "meta of 1".into(),
        body: "body 7".into(),
    };
    assert_eq!(r.log_get(1, 7).unwrap().as_ref(), Some(&sent));
    let received =
        Entry { dir: Direction::Received, flags: 0, peer: "romeo@x.example".into(), meta: "meta of 2".into(), ..sent };
    assert_eq!(r.log_get(2, 7).unwrap().as_ref(), Some(&received));
    assert_eq!((r.log_get(3, 7).unwrap(), r.log_get(1, 8).unwrap(), r.log_get(1, 9).unwrap()), (None, None, None));
    assert_eq!(r.log_get(2, 8).unwrap().map(|e| e.dir), Some(Direction::Both));
    assert_eq!(r.log_range(2, LogQuery { peer: Some("romeo@x.example"), ..LogQuery::default() }).unwrap(), [received]);
}

fn letting_go(s: &mut Store) {
    for round in 0..2 {
        let id = 10 * round + 1;
        s.commit([entry(id, [side(1, Direction::Sent, 0, "b"), side(2, Direction::Received, 0, "a")])]);
        s.commit([entry(id + 1, [side(1, Direction::Sent, 0, "b"), side(2, Direction::Received, 0, "a")])]);
        if round == 1 {
            s.rest(NOW);
        }
        s.commit([
            Write::LogDelete { owner: 3, ids: vec![id, id + 1] },
            Write::LogDelete { owner: 1, ids: vec![id, 999] },
        ]);
        assert_eq!((s.ids(1, LogQuery::default()), s.ids(2, LogQuery::default())), (vec![id + 1], vec![id, id + 1]));
        assert_eq!(
            s.reader().log_get(2, id).unwrap().map(|e| (e.meta, e.body)),
            Some(("meta of 2".into(), format!("body {id}").into()))
        );
        s.commit([Write::LogDelete { owner: 2, ids: vec![id] }, Write::LogDelete { owner: 2, ids: vec![id] }]);
        assert_eq!((s.ids(1, LogQuery::default()), s.ids(2, LogQuery::default())), (vec![id + 1], vec![id + 1]));
        s.commit([Write::LogDelete { owner: 2, ids: vec![id + 1] }, Write::LogDelete { owner: 1, ids: vec![id + 1] }]);
        assert!(s.ids(1, LogQuery::default()).is_empty() && s.ids(2, LogQuery::default()).is_empty());
    }
}

fn trimming(s: &mut Store) {
    for id in 1..=20 {
        s.commit([entry(
            id,
            [side(1, Direction::Sent, u8::from(id % 2 == 0), "b"), side(2, Direction::Received, 0, "a")],
        )]);
        if id == 10 {
            s.rest(NOW);
        }
    }
    let trim = |after, before, keep, limit| Write::LogTrim { owner: 1, after, before, keep, limit };
    s.commit([trim(0, 6, 1, 99)]);
    assert_eq!(s.ids(1, LogQuery { before: 9, ..LogQuery::default() }), [2, 4, 6, 7, 8]);
    s.commit([received(21, 1, 0, "b"), trim(8, 99, 1, 6), trim(0, 5, 0, 1)]);
    assert_eq!(s.ids(1, LogQuery::default()), [4, 6, 7, 8, 10, 12, 14, 16, 18, 20, 21]);
    s.commit([received(22, 1, 0, "b"), trim(7, 99, 1, 99), trim(99, 5, 0, 99)]);
    assert_eq!(s.ids(1, LogQuery::default()), [4, 6, 7, 8, 10, 12, 14, 16, 18, 20]);
    assert_eq!(s.ids(2, LogQuery::default()).len(), 20);
}

fn editing(s: &mut Store) {
    s.commit([
        entry(1, [side(1, Direction::Sent, 3, "b"), side(2, Direction::Received, 3, "a")]),
        received(2, 1, 0, "c"),
    ]);
    let edit = |owner, id, set, clear, meta: Option<&'static str>, body: Option<&'static str>| Write::LogEdit {
        owner,
        id,
        set,
        clear,
        meta: meta.map(Bytes::from),
        body: body.map(Bytes::from),
    };
    s.commit([
        edit(1, 1, 4, 3, None, None),
        edit(1, 2, 1, 0, Some("new meta"), Some("tombstone")),
        edit(9, 1, 8, 0, None, None),
        edit(1, 99, 1, 0, None, None),
    ]);
    let seen = |s: &mut Store, owner, id| s.reader().log_get(owner, id).unwrap().map(|e| (e.flags, e.meta, e.body));
    assert_eq!(seen(s, 1, 1), Some((4, "meta of 1".into(), "body 1".into())));
    assert_eq!(seen(s, 2, 1), Some((3, "meta of 2".into(), "body 1".into())));
    assert_eq!(seen(s, 1, 2), Some((1, "new meta".into(), "tombstone".into())));
    s.commit([edit(2, 1, 0, 0, None, Some("gone for juliet"))]);
    assert_eq!(seen(s, 1, 1).map(|e| e.2), Some("body 1".into()));
    assert_eq!(seen(s, 2, 1).map(|e| e.2), Some("gone for juliet".into()));
    s.commit([Write::LogDelete { owner: 1, ids: vec![1] }]);
    assert_eq!(seen(s, 2, 1), Some((3, "meta of 2".into(), "gone for juliet".into())));
    s.commit([edit(2, 1, 0, 0, None, Some("again"))]);
    assert_eq!(seen(s, 2, 1).map(|e| e.2), Some("again".into()));
    let e = s.reader().log_range(1, LogQuery { peer: Some("c"), flags: 1, ..LogQuery::default() }).unwrap();
    assert_eq!(e.iter().map(|e| e.time).collect::<Vec<_>>(), [NOW + 2], "a tombstone keeps id, time and peer");
}

fn sizes(s: &mut Store) {
    const ARCHIVED: u8 = flags::ARCHIVED;
    // The sum over what is there must be what is said, also when the store was opened again or has rested.
    let checked = |s: &mut Store, owner| -> u64 {
        let mut said = None;
        for _ in 0..3 {
            let mut r = s.reader();
            let query = LogQuery { flags: ARCHIVED, ..LogQuery::default() };
            let entries = r.log_range(owner, query).unwrap();
            let sizes = r.log_sizes(owner, query).unwrap();
            let whole = |e: &Entry| ENTRY_BYTES + (e.peer.len() + e.meta.len() + e.body.len()) as u64;
            assert_eq!(
                sizes.iter().map(|e| e.bytes).collect::<Vec<_>>(),
                entries.iter().map(whole).collect::<Vec<_>>()
            );
            let archived = r.log_archived(owner).unwrap();
            assert_eq!(archived, sizes.iter().map(|e| e.bytes).sum::<u64>());
            assert!(said.is_none_or(|said| said == archived));
            drop(r);
            match said.replace(archived) {
                None => s.rest(NOW),
                Some(_) => s.reopen(),
            }
        }
        said.unwrap()
    };
    assert_eq!(checked(s, 1), 0);
    s.commit([
        entry(1, [side(1, Direction::Sent, ARCHIVED, "jülich"), side(2, Direction::Received, ARCHIVED | 2, "a")]),
        received(2, 1, 0, "c"),
        received(3, 1, ARCHIVED, "c"),
        received(4, 2, 2, "c"),
    ]);
    let all = s.reader().log_sizes(1, LogQuery::default()).unwrap();
    let (id, dir, flag, peer) = (1, Direction::Sent, ARCHIVED, "jülich".into());
    assert_eq!(all.first(), Some(&EntrySize { id, dir, flags: flag, peer, bytes: ENTRY_BYTES + 7 + 9 + 6 }));
    assert_eq!(all.iter().map(|e| e.id).collect::<Vec<_>>(), [1, 2, 3]);
    let newest = LogQuery { after: 1, peer: Some("c"), newest_first: true, limit: 1, ..LogQuery::default() };
    assert_eq!(s.reader().log_sizes(1, newest).unwrap().iter().map(|e| e.id).collect::<Vec<_>>(), [3]);
    let (first, second) = (checked(s, 1), checked(s, 2));
    assert!(first > second && second > 0);
    // A flag is set or cleared, the text changes: before and after the entries are in the index, and in one batch with them.
    let edit = |owner, id, set, clear, body: Option<&'static str>| {
        let (meta, body) = (Some(Bytes::from("m")), body.map(Bytes::from));
        Write::LogEdit { owner, id, set, clear, meta, body }
    };
    s.commit([edit(1, 2, ARCHIVED, 0, Some("a much longer text than it was")), edit(1, 3, 0, ARCHIVED, None)]);
    s.commit([edit(2, 1, 0, 0, Some("short"))]);
    checked(s, 1);
    checked(s, 2);
    s.commit([received(5, 1, 0, "c"), edit(1, 5, ARCHIVED, 0, None), received(6, 1, ARCHIVED, "c")]);
    s.commit([edit(1, 6, 0, 0, Some("a text that is longer"))]);
    checked(s, 1);
    // What a batch that is refused would have changed is as it was.
    let before = checked(s, 1);
    let take =
        Write::Require { map: s.map("m", Loading::WithOwner), owner: 1, key: "k".into(), expect: Expect::Present };
    s.refused(3, [received(7, 1, ARCHIVED, "c"), edit(1, 7, 0, ARCHIVED, None), edit(1, 6, 0, 0, Some("")), take]);
    assert_eq!(checked(s, 1), before);
    // Let go of one by one, and from the oldest on; of those that are in no index as well.
    s.commit([
        Write::LogDelete { owner: 1, ids: vec![1] },
        received(8, 1, ARCHIVED, "c"),
        received(9, 1, ARCHIVED, "c"),
    ]);
    checked(s, 1);
    checked(s, 2);
    let trim = |owner, before| Write::LogTrim { owner, after: 0, before, keep: 0, limit: 100 };
    s.commit([received(10, 1, ARCHIVED, "c"), trim(1, 9)]);
    assert_eq!(s.ids(1, LogQuery::default()), [9, 10]);
    checked(s, 1);
    s.commit([trim(1, 99), trim(2, 99)]);
    assert_eq!((checked(s, 1), checked(s, 2)), (0, 0));
    // Nothing is left of an owner who was deleted.
    s.commit([account(10, "romeo"), received(11, 10, ARCHIVED, "c")]);
    s.rest(NOW);
    assert!(checked(s, 10) > 0);
    s.commit([Write::Delete { owner: 10 }]);
    s.rest(NOW);
    assert_eq!(checked(s, 10), 0);
}

fn ids_ascend(s: &mut Store) {
    s.commit([received(5, 1, 0, "b"), received(9, 1, 0, "b")]);
    s.commit([Write::LogDelete { owner: 1, ids: vec![5, 9] }]);
    assert_eq!(s.backend().last_id(), 9);
    s.reopen();
    assert_eq!(s.backend().last_id(), 9);
    for id in [0, 8, 9] {
        assert!(matches!(s.apply([received(id, 1, 0, "b")]), Outcome::Failed(StoreError::Bug(_))));
    }
    s.commit([received(10, 1, 0, "b")]);
    s.commit([account(1, "romeo"), Write::Delete { owner: 1 }]);
    s.rest(NOW);
    s.reopen();
    assert_eq!((s.backend().last_id(), s.ids(1, LogQuery::default()).len()), (10, 0));
}

fn blobs(s: &mut Store) {
    let (m, n) = (s.map("m", Loading::Cold), s.map("n", Loading::Cold));
    let blob = |map, owner, key: &'static str, data: Option<Vec<u8>>| Write::Blob {
        map,
        owner,
        key: key.into(),
        data: data.map(Bytes::from),
    };
    s.commit([
        blob(m, 1, "b", Some(vec![7; 100_000])),
        blob(m, 1, "a", Some(vec![])),
        blob(n, 1, "a", Some(vec![1])),
        blob(m, 2, "a", Some(vec![2])),
    ]);
    let mut r = s.reader();
    assert_eq!(r.blobs(m, 1, None, 9).unwrap(), [(Bytes::from("a"), 0), (Bytes::from("b"), 100_000)]);
    assert_eq!(r.blobs(m, 1, Some(b"a"), 9).unwrap(), [(Bytes::from("b"), 100_000)]);
    assert_eq!(r.blob(m, 1, b"b").unwrap(), Some(vec![7; 100_000].into()));
    assert_eq!(r.blob(m, 1, b"c").unwrap(), None);
    s.commit([blob(m, 1, "b", Some(vec![8; 10])), blob(m, 1, "a", None), blob(m, 1, "zz", None)]);
    assert_eq!(s.reader().blobs(m, 1, None, 9).unwrap(), [(Bytes::from("b"), 10)]);
    assert_eq!(s.reader().blob(n, 1, b"a").unwrap(), Some(vec![1].into()));
}

fn neighbours(s: &mut Store) {
    let m = s.map("m", Loading::WithOwner);
    let batch = |writes| Batch { writes, now: NOW, ..Batch::default() };
    let outcomes = s.group(&[
        batch(vec![put(m, 1, "a", "1"), received(1, 1, 0, "p")]),
        batch(vec![
            put(m, 1, "a", "2"),
            account(1, "romeo"),
            received(2, 1, 0, "p"),
            Write::LogDelete { owner: 1, ids: vec![1] },
            Write::Delete { owner: 99 },
        ]),
        batch(vec![put(m, 1, "b", "3"), received(3, 1, 0, "p"), account(1, "juliet")]),
    ]);
    assert!(outcomes[0].is_committed() && outcomes[2].is_committed(), "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::Refused { write: 4 }), "{outcomes:?}");
    assert_eq!(s.ids(1, LogQuery::default()), [1, 3]);
    let rows = s.reader().load(1, 9).unwrap();
    assert_eq!(rows.iter().map(|r| r.row.value.clone()).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(s.reader().owner(1).unwrap().map(|o| o.name), Some("juliet".into()));
}

fn order(s: &mut Store) {
    let m = s.map("m", Loading::WithOwner);
    s.commit([
        account(1, "romeo"),
        Write::Disable { owner: 1, disabled: true },
        put(m, 1, "k", "one"),
        Write::Put { map: m, owner: 1, key: "k".into(), row: None },
        Write::Require { map: m, owner: 1, key: "k".into(), expect: Expect::Absent },
        received(1, 1, 0, "p"),
        received(2, 1, 0, "p"),
        Write::LogDelete { owner: 1, ids: vec![1] },
        Write::LogEdit { owner: 1, id: 2, set: 1, clear: 0, meta: None, body: None },
    ]);
    assert!(s.reader().owner(1).unwrap().unwrap().disabled);
    assert_eq!(s.ids(1, LogQuery { flags: 1, ..LogQuery::default() }), [2]);
}

fn bugs(s: &mut Store) {
    let m = s.map("m", Loading::WithOwner);
    let unknown = MapId(m.0 + 1);
    let batch = |writes| Batch { writes, now: NOW, owners: [1].into_iter().collect(), ..Batch::default() };
    let outcomes = s.group(&[
        Batch { owners: [2].into_iter().collect(), ..batch(vec![put(m, 2, "a", "1"), put(unknown, 2, "a", "1")]) },
        batch(vec![put(m, 1, "b", "2"), received(4, 1, 0, "p")]),
        batch(vec![put(m, 1, "c", "3"), received(4, 1, 0, "p")]),
        batch(vec![put(m, 1, "d", "4")]),
    ]);
    assert!(matches!(outcomes[0], Outcome::Failed(StoreError::Bug(_))), "{outcomes:?}");
    assert!(outcomes[1].is_committed(), "{outcomes:?}");
    assert!(matches!(outcomes[2], Outcome::Failed(StoreError::Bug(_))), "{outcomes:?}");
    assert!(matches!(outcomes[3], Outcome::Failed(StoreError::Stale)), "{outcomes:?}");
    assert!(s.stale.contains(1) && s.stale.contains(2));
    assert_eq!(s.reader().load(1, 9).unwrap().len(), 1);
}

fn staleness(s: &mut Store) {
    let m = s.map("m", Loading::WithOwner);
    let no = |updates, owner| Batch {
        writes: vec![put(m, owner, "a", "1"), Write::Delete { owner: 99 }],
        updates,
        owners: [owner].into_iter().collect(),
        ..Batch::default()
    };
    let yes = |owner| Batch {
        writes: vec![put(m, owner, "b", "1")],
        owners: [owner].into_iter().collect(),
        ..Batch::default()
    };
    let outcomes = s.group(&[no(false, 1), yes(1), no(true, 1), yes(1), yes(2)]);
    let committed: Vec<bool> = outcomes.iter().map(Outcome::is_committed).collect();
    assert_eq!(committed, [false, true, false, false, true]);
    assert!(matches!(outcomes[3], Outcome::Failed(StoreError::Stale)));
    assert!(matches!(s.group(&[yes(1)])[0], Outcome::Failed(StoreError::Stale)));
    s.stale.reloaded(1);
    assert!(s.group(&[yes(1)])[0].is_committed());
}

fn reopening(s: &mut Store) {
    let m = s.map("m", Loading::WithOwner);
    s.commit([account(1, "romeo"), put(m, 1, "k", "v")]);
    for id in 1..=50 {
        s.commit([entry(id, [side(1, Direction::Sent, 1, "b"), side(2, Direction::Received, 0, "a")])]);
        if id % 7 == 0 {
            let _ = s.backend().idle(NOW, true).unwrap();
        }
    }
    for _ in 0..2 {
        s.reopen();
        assert_eq!(s.map("m", Loading::Cold), m);
        assert_eq!(
            s.reader().find(Kind::Account, "x.example", "romeo").unwrap(),
            Some(owner(1, Kind::Account, "x.example", "romeo"))
        );
        assert_eq!(s.reader().load(1, 9).unwrap().len(), 1);
        assert_eq!(s.ids(1, LogQuery { peer: Some("b"), ..LogQuery::default() }).len(), 50);
        assert_eq!(s.ids(2, LogQuery { newest_first: true, ..LogQuery::default() }).len(), 50);
        assert_eq!((s.backend().last_id(), s.backend().next_owner()), (50, 2));
        let _ = s.backend().idle(NOW, false).unwrap();
    }
}

fn maps(s: &mut Store) {
    let (a, b) = (s.map("a", Loading::WithOwner), s.map("b", Loading::Cold));
    assert_eq!((a.loading(), b.loading()), (Loading::WithOwner, Loading::Cold));
    s.reopen();
    let c = s.map("c", Loading::WithOwner);
    assert_eq!((s.map("b", Loading::WithOwner), s.map("a", Loading::Cold)), (b, a));
    assert_eq!(s.reader().maps().unwrap(), [(a, "a".into()), (c, "c".into()), (b, "b".into())]);
}
