//! Two stores, the same random use, the same answers.

use super::*;

/// xorshift64*: the same numbers for the same seed, for ever.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`.
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// What the writes are made of.
struct World {
    rng: Rng,
    maps: [MapId; 3],
    last: EntryId,
    next_owner: Owner,
    now: Millis,
}

const PEERS: [&str; 4] = ["romeo@x.example", "juliet@x.example", "room@muc.example", "r"];
const NAMES: [&str; 5] = ["romeo", "juliet", "nurse", "tybalt", "paris"];
const KEYS: [&[u8]; 7] = [b"", b"a", b"a\0", b"ab", b"a\xff", b"\xff", b"\xff\xff"];

impl World {
    /// Mostly a few busy owners; never one that has been deleted, as its rows are nobody's business.
    fn owner(&mut self) -> Owner {
        1_000_000 + self.rng.below(5)
    }

    fn key(&mut self) -> Bytes {
        Bytes::from_static(self.rng.pick(&KEYS))
    }

    fn value(&mut self) -> Bytes {
        if self.rng.one_in(3) {
            return Row::counted(self.rng.below(4), b"x").value;
        }
        let len = if self.rng.one_in(20) { 9000 } else { self.rng.below(40) };
        vec![self.rng.below(3) as u8; len as usize].into()
    }

    fn row(&mut self) -> Row {
        let reverse = self.rng.one_in(3).then(|| self.key());
        let expires = self.rng.one_in(4).then(|| self.now - 5 + self.rng.below(20));
        Row { value: self.value(), reverse, expires }
    }

    fn side(&mut self, owner: Owner) -> Side {
        let dir = self.rng.pick(&[Direction::Sent, Direction::Received, Direction::Both]);
        let flags = self.rng.below(8) as u8;
        Side { owner, dir, flags, peer: self.rng.pick(&PEERS).into(), meta: self.value() }
    }

    fn entry(&mut self) -> Write {
        // Now and then an id that has been used: it must fail on both.
        let id = if self.rng.one_in(100) { self.last } else { self.last + 1 + self.rng.below(3) };
        self.last = self.last.max(id);
        let first = self.owner();
        let a = self.side(first);
        let b = Some(self.owner()).filter(|b| *b != first).map(|b| self.side(b));
        let sides = if self.rng.one_in(8) { [None, Some(a)] } else { [Some(a), b] };
        Write::Log(Box::new(NewEntry { id, time: self.now, sides, body: self.value() }))
    }

    fn old_id(&mut self) -> EntryId {
        self.last.saturating_sub(self.rng.below(60))
    }

    fn write(&mut self) -> Write {
        let map = self.rng.pick(&self.maps.clone());
        let owner = self.owner();
        match self.rng.below(24) {
            0..=6 => self.entry(),
            7..=11 => Write::Put { map, owner, key: self.key(), row: Some(self.row()) },
            12 => Write::Put { map, owner, key: self.key(), row: None },
            13 => {
                let expect = match self.rng.below(4) {
                    0 => Expect::Absent,
                    1 => Expect::Present,
                    _ => Expect::Value(self.value()),
                };
                Write::Require { map, owner, key: self.key(), expect }
            }
            14 => Write::Take { map, owner, key: self.key(), n: self.rng.below(3) },
            15 => Write::Clear { map, owner, prefix: self.key(), limit: self.rng.below(4) as u32 },
            16 => Write::LogDelete { owner, ids: (0..self.rng.below(20)).map(|_| self.old_id()).collect() },
            17 => {
                let after = self.old_id();
                let before = after + self.rng.below(40);
                let keep = self.rng.below(8) as u8;
                Write::LogTrim { owner, after, before, keep, limit: self.rng.below(10) as u32 }
            }
            18 | 19 => {
                let (set, clear) = (self.rng.below(8) as u8, self.rng.below(8) as u8);
                let meta = self.rng.one_in(2).then(|| self.value());
                let body = self.rng.one_in(2).then(|| self.value());
                Write::LogEdit { owner, id: self.old_id(), set, clear, meta, body }
            }
            20 => {
                let data = (!self.rng.one_in(3)).then(|| self.value());
                Write::Blob { map, owner, key: self.key(), data }
            }
            21 => {
                let kind = self.rng.pick(&Kind::ALL);
                let name = self.rng.pick(&NAMES).into();
                self.next_owner += 1;
                let row = OwnerRow {
                    owner: self.next_owner,
                    kind,
                    host: "x".into(),
                    name,
                    disabled: false,
                    created: self.now,
                };
                Write::Create(row)
            }
            22 => Write::Disable { owner: 1 + self.rng.below(self.next_owner + 1), disabled: self.rng.one_in(2) },
            _ => Write::Delete { owner: 1 + self.rng.below(self.next_owner + 1) },
        }
    }

    fn batch(&mut self, id: u64) -> Batch {
        let writes = (0..1 + self.rng.below(5)).map(|_| self.write()).collect();
        let mut owners: smallvec::SmallVec<[Owner; 2]> = (0..self.rng.below(3)).map(|_| self.owner()).collect();
        owners.dedup();
        Batch { id: BatchId(id), now: self.now, owners, updates: self.rng.one_in(6), writes }
    }
}

/// Runs both through `steps` groups of the same seed, with rests and reopenings, and compares all they say.
pub fn compare(seed: u64, steps: u64, a: &mut Store, b: &mut Store) {
    let maps = [("one", Loading::WithOwner), ("two", Loading::WithOwner), ("three", Loading::Cold)];
    let maps = maps.map(|(name, loading)| {
        let id = a.map(name, loading);
        assert_eq!(id, b.map(name, loading));
        id
    });
    let mut w = World { rng: Rng(seed * 2 + 1), maps, last: 1000, next_owner: 0, now: NOW };
    for step in 0..steps {
        let group: Vec<Batch> = (0..1 + w.rng.below(6)).map(|i| w.batch(step * 10 + i)).collect();
        let (x, y) = (a.group(&group), b.group(&group));
        assert_eq!(format!("{x:?}"), format!("{y:?}"), "seed {seed}, step {step}, group {group:#?}");
        w.now += w.rng.below(4);
        match w.rng.below(12) {
            0 => (a.reopen(), b.reopen()).0,
            1 | 2 => (a.rest(w.now), b.rest(w.now)).0,
            3..=6 => {
                let _ = a.backend().idle(w.now, true).unwrap();
                let _ = b.backend().idle(w.now, true).unwrap();
            }
            7 => {
                for owner in 0..5 {
                    a.stale.reloaded(1_000_000 + owner);
                    b.stale.reloaded(1_000_000 + owner);
                }
            }
            _ => {}
        }
        let (x, y) = (answers(&mut w, a, step), answers(&mut w, b, step));
        assert!(x == y, "seed {seed}, step {step}:\n{}", first_difference(&x, &y));
    }
}

/// What a store says of a few random questions; of the same ones at the same step.
fn answers(w: &mut World, s: &mut Store, step: u64) -> String {
    let mut rng = Rng(w.last * 1_000_003 + step * 2 + 1);
    let mut said = format!("{} {}\n", s.backend().last_id(), s.backend().next_owner());
    let mut say = |what: &str, answer: &dyn std::fmt::Debug| said.push_str(&format!("{what}: {answer:?}\n"));
    let mut r = s.reader();
    let key = rng.pick(&KEYS);
    let past = rng.one_in(2).then(|| rng.pick(&KEYS));
    let limit = if rng.one_in(2) { usize::MAX } else { rng.below(5) as usize };
    let map = rng.pick(&w.maps);
    for owner in 1_000_000..1_000_005 {
        say("load", &r.load(owner, limit).unwrap());
        say("get", &r.map_get(map, owner, key).unwrap());
        let q = MapQuery { prefix: key, past, descending: rng.one_in(2), limit };
        say("range", &(q, r.map_range(map, owner, q).unwrap()));
        say("count", &r.map_count(map, owner, key, limit.min(99)).unwrap());
        say("blob", &r.blob(map, owner, key).unwrap());
        say("blobs", &r.blobs(map, owner, past, limit).unwrap());
        let after = if rng.one_in(3) { 0 } else { w.last.saturating_sub(rng.below(100)) };
        let q = LogQuery {
            after,
            before: if rng.one_in(2) { EntryId::MAX } else { after + rng.below(60) },
            peer: rng.one_in(3).then(|| rng.pick(&PEERS)),
            flags: if rng.one_in(2) { 0 } else { rng.below(8) as u8 },
            newest_first: rng.one_in(2),
            limit,
        };
        say("log", &(q, r.log_range(owner, q).unwrap()));
        say("log count", &r.log_count(owner, q).unwrap());
        say("log sizes", &r.log_sizes(owner, q).unwrap());
        say("archived", &r.log_archived(owner).unwrap());
        say("entry", &r.log_get(owner, after + 1).unwrap());
    }
    say("reverse", &r.map_reverse(map, key, past.map(|k| (1_000_002, k)), limit).unwrap());
    for kind in Kind::ALL {
        say("owners", &r.owners(kind, "x", rng.one_in(2).then(|| rng.pick(&NAMES)), limit).unwrap());
        say("find", &r.find(kind, "x", rng.pick(&NAMES)).unwrap());
    }
    say("maps", &r.maps().unwrap());
    said
}

fn first_difference(x: &str, y: &str) -> String {
    let differs = |(x, y): &(&str, &str)| x != y;
    x.lines().zip(y.lines()).find(differs).map(|(x, y)| format!("first:  {x}\nsecond: {y}")).unwrap_or_default()
}
