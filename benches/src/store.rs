//! What the store's writer spends on a group of messages, on SQLite: statements, pages and the index, without the disk.

use std::time::Duration;

use bytes::Bytes;
use vorpal_core::store::{Batch, Direction, Loading, MapId, NewEntry, Row, STORE, Side, Write, flags};
use vorpal_proto::datetime::Timestamp;
use vorpal_store::sqlite::{Options, Sqlite};
use vorpal_store::writer::{IdSource, Queue, Step, Writer};

use crate::paths::Run;

/// So many messages are in one commit.
const GROUP: u64 = 20;
/// So many accounts write to each other.
const ACCOUNTS: u64 = 100;
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const BODY: usize = 300;

/// Which messages are committed.
#[derive(Clone, Copy, PartialEq)]
enum Sort {
    /// one archive keeps each for both sides
    Archived,
    /// each with the row that says how far its sender's session is handled
    Managed,
    /// the same, and those of the group before are deleted, which everybody has had
    Delivered,
}

/// A group of messages, from the queue to the database.
struct Group {
    sort: Sort,
    queue: Queue,
    writer: Writer,
    progress: MapId,
    sent: u64,
    /// the ids of the group before, with their owners
    before: Vec<(u64, u64)>,
    // Last: the database is closed before its folder goes.
    _folder: tempfile::TempDir,
}

impl Group {
    fn boxed(sort: Sort) -> Box<dyn Run> {
        let folder = tempfile::tempdir().expect("a folder for the database");
        // The index is filled, and the write-ahead log copied, often enough to be seen in some hundred groups.
        let options = Options { tail_bulk: 2_048, wal_busy: 512, ..Options::default() };
        let backend = Sqlite::open(folder.path(), options).expect("a new database");
        let (queue, mut writer) = Writer::new(Box::new(backend));
        let progress = writer.map("progress", Loading::Cold).expect("a new map");
        Box::new(Group { sort, queue, writer, progress, sent: 0, before: Vec::new(), _folder: folder })
    }

    fn message(&self, n: u64, ids: &mut IdSource, given: &mut Vec<(u64, u64)>) -> Batch {
        let (from, to) = (1 + n % ACCOUNTS, 1 + (n + 1) % ACCOUNTS);
        let archived = self.sort == Sort::Archived;
        let side = |owner, peer, dir| Side {
            owner,
            dir,
            flags: if archived { flags::ARCHIVED } else { 0 },
            peer: format!("account{peer}@localhost").into(),
            meta: Bytes::from(vec![1; 13]),
        };
        let sent = archived.then(|| side(from, to, Direction::Sent));
        let body = Bytes::from(vec![b'x'; BODY]);
        let sides = [Some(side(to, from, Direction::Received)), sent];
        let mut writes = Vec::new();
        if !archived {
            let value = Bytes::copy_from_slice(&[n.to_be_bytes(), ids.now().as_millis().to_be_bytes()].concat());
            let key = Bytes::copy_from_slice(&from.to_be_bytes());
            writes.push(Write::Put { map: self.progress, owner: STORE, key, row: Some(Row::from(value)) });
        }
        let id = ids.entry();
        given.push((to, id));
        writes.push(Write::Log(Box::new(NewEntry { id, time: ids.now().as_millis(), sides, body })));
        Batch { owners: [from, to].into_iter().collect(), writes, ..Batch::default() }
    }
}

impl Run for Group {
    fn prepare(&mut self) {
        let mut given = Vec::new();
        for n in self.sent..self.sent + GROUP {
            let now = NOW.plus(Duration::from_millis(n));
            let done = self.queue.submit_with(now, |ids| self.message(n, ids, &mut given));
            done.expect("the writer takes it");
        }
        if self.sort == Sort::Delivered {
            let gone = std::mem::take(&mut self.before);
            let delete = |(owner, id)| Write::LogDelete { owner, ids: vec![id] };
            let writes = gone.into_iter().map(delete).collect();
            self.queue.submit(NOW, Batch { writes, ..Batch::default() }).expect("the writer takes it");
            self.before = given;
        }
        self.sent += GROUP;
    }

    fn run(&mut self) {
        let Step::Committed(done) = self.writer.step() else { panic!("no commit") };
        let batches = GROUP + u64::from(self.sort == Sort::Delivered);
        assert!(done.len() as u64 == batches && done.iter().all(|done| done.outcome.is_committed()));
        self.writer.idle(NOW.as_millis(), true).expect("the index is filled");
    }
}

/// See the table of paths.
pub fn archived() -> Box<dyn Run> {
    Group::boxed(Sort::Archived)
}

/// See the table of paths.
pub fn managed() -> Box<dyn Run> {
    Group::boxed(Sort::Managed)
}

/// See the table of paths.
pub fn delivered() -> Box<dyn Run> {
    Group::boxed(Sort::Delivered)
}
