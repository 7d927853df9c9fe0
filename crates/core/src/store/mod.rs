//! What the core asks of a store: the shapes of what is stored, and the traits of what stores it.
//!
//! Everything durable is one of four shapes, each belonging to an *owner*: a row of the owners' own table, a row of a map, an
//! entry of a log, a blob. Changes travel as [`Write`]s in [`Batch`]es; a batch happens as a whole or not at all. A
//! [`Backend`] applies groups of batches, a [`Reader`] answers questions. Both are synchronous and know no clock, no
//! thread and no randomness, so that a simulator can call them inline.
//!
//! *Invariant:* two backends given the same batches give the same outcomes, and the same answers (the conformance suite).

pub(crate) mod load;

use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

pub use vorpal_proto::datetime::Timestamp;

/// The number of one incarnation of an account, room, outbox or host. Never used again, so that a name created anew never
/// sees a late write of the old one. Below 2^63. [`STORE`] is the store itself.
pub type Owner = u64;

/// The owner of what belongs to nobody else. Always exists, and has no row.
pub const STORE: Owner = 0;

/// The id of a log entry. Below 2^63, and of one entry only. Ids ascend within each owner's log, in the order of commits: only ids of
/// one owner may be compared. An id is never below the time of its entry, in microseconds since 1970, so a span of time is a span
/// of ids. New ids come from [`next_id`]; ids and times are converted by [`id_at`] and [`time_of`]. See docs/decisions/0015.
pub type EntryId = u64;

/// Low bits of an id that say which node made it. They are 0 as long as a store has one writer.
pub const NODE_BITS: u32 = 4;

/// The next id of a source that made `last` before: the time, or behind `last` if the clock stands or was set back.
pub fn next_id(last: EntryId, now: Timestamp) -> EntryId {
    id_at(now).max(last + 1).next_multiple_of(1 << NODE_BITS)
}

/// The lowest id that an entry of this time or a later one can have.
pub const fn id_at(time: Timestamp) -> EntryId {
    time.as_millis().saturating_mul(MICROS)
}

/// The latest time that an entry with this id can have. It is the entry's time, unless the clock was set back, or more entries were
/// written than one millisecond has ids for.
pub const fn time_of(id: EntryId) -> Timestamp {
    Timestamp::from_millis(id / MICROS)
}

/// Ids count microseconds.
const MICROS: u64 = 1_000;

/// Milliseconds since 1970.
pub type Millis = u64;

/// The number of a batch, ascending in the order of submission. Not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BatchId(pub u64);

/// The number of a map or of a collection of blobs, given by [`Backend::map`] for a name, and kept for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapId(pub u16);

impl MapId {
    /// Numbers below this are those of maps that are loaded with their owner.
    pub const COLD: u16 = 0x4000;

    /// Whether [`Reader::load`] returns the rows of this map.
    pub fn loading(self) -> Loading {
        if self.0 < Self::COLD { Loading::WithOwner } else { Loading::Cold }
    }
}

/// Whether a map's rows are read together with their owner or one by one. Fixed when the map is first named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loading {
    /// Small: the states and lists an account has in memory. [`Reader::load`] returns all of them in one query.
    WithOwner,
    /// Large or seldom needed: read by key, by range or by reverse key. Also for collections of blobs.
    Cold,
}

/// What an owner is. A name is unique within (kind, host).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A user's account.
    Account,
    /// A group chat room.
    Room,
    /// What waits for a remote domain or a component; `name` is the remote domain.
    Outbox,
    /// A host of ours; `name` is empty.
    Host,
}

impl Kind {
    /// All kinds, in the order of their codes.
    pub const ALL: [Kind; 4] = [Kind::Account, Kind::Room, Kind::Outbox, Kind::Host];

    /// The number that is stored.
    pub fn code(self) -> u8 {
        match self {
            Kind::Account => 0,
            Kind::Room => 1,
            Kind::Outbox => 2,
            Kind::Host => 3,
        }
    }

    /// The kind with this code.
    pub fn from_code(code: u8) -> Option<Kind> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// The row of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRow {
    /// Its number.
    pub owner: Owner,
    /// What it is.
    pub kind: Kind,
    /// The host of ours it belongs to.
    pub host: Box<str>,
    /// The localpart, or what [`Kind`] says.
    pub name: Box<str>,
    /// Set by an operator: exists, but may not be used.
    pub disabled: bool,
    /// When it was created.
    pub created: Millis,
}

/// What an entry is to one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The owner sent it.
    Sent,
    /// The owner received it.
    Received,
    /// A message to oneself.
    Both,
}

impl Direction {
    /// The number that is stored.
    pub fn code(self) -> u8 {
        match self {
            Direction::Sent => 0,
            Direction::Received => 1,
            Direction::Both => 2,
        }
    }

    /// The direction with this code.
    pub fn from_code(code: u8) -> Option<Direction> {
        [Direction::Sent, Direction::Received, Direction::Both].get(usize::from(code)).copied()
    }
}

/// Bits of a [`Side`] that the store can ask for. Bit 0 is fixed, the meaning of the others is the core's.
pub mod flags {
    /// The owner's archive keeps the entry.
    pub const ARCHIVED: u8 = 1;
}

/// One owner's part of a log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Whose.
    pub owner: Owner,
    /// Sent, received or both.
    pub dir: Direction,
    /// See [`flags`].
    pub flags: u8,
    /// The bare JID of the counterpart, as this owner sees it; queries compare it byte by byte.
    pub peer: Box<str>,
    /// Whatever else the core keeps for this owner: origin session, targets, copies. Opaque.
    pub meta: Bytes,
}

/// Bytes that an entry is counted with besides its stanza, the peer and the opaque bytes: its row, and the owner's lines in
/// the indexes.
pub const ENTRY_BYTES: u64 = 96;

impl Side {
    /// How many bytes the entry takes of its owner's storage, with a stanza of this length. An entry of two owners is
    /// counted in full for both: it stays as long as one of them keeps it.
    pub fn size(&self, body: usize) -> u64 {
        ENTRY_BYTES + (self.peer.len() + self.meta.len() + body) as u64
    }
}

/// A log entry to be written. A message between two local accounts is one entry with two sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// From the id source of the queue, which is above every id of the owners' logs. A backend with one writer may refuse an id that is
    /// not above all that it has seen.
    pub id: EntryId,
    /// When it happened; differs from `id` only if the clock has stepped back.
    pub time: Millis,
    /// At least one side; two sides have two different owners.
    pub sides: [Option<Side>; 2],
    /// The stanza, flattened once.
    pub body: Bytes,
}

/// A log entry as one owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// When it happened.
    pub time: Millis,
    /// Sent, received or both.
    pub dir: Direction,
    /// See [`flags`].
    pub flags: u8,
    /// The bare JID of the counterpart.
    pub peer: Box<str>,
    /// Opaque, this owner's.
    pub meta: Bytes,
    /// The stanza, or what [`Write::LogEdit`] put in its place for this owner.
    pub body: Bytes,
}

/// How much an entry takes of one owner's storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrySize {
    /// Its id.
    pub id: EntryId,
    /// Sent, received or both.
    pub dir: Direction,
    /// See [`flags`].
    pub flags: u8,
    /// The bare JID of the counterpart.
    pub peer: Box<str>,
    /// As [`Side::size`] counts it.
    pub bytes: u64,
}

/// A row of a map.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Row {
    /// Opaque; carries its own version marker.
    pub value: Bytes,
    /// A second key, by which [`Reader::map_reverse`] finds the row among all owners.
    pub reverse: Option<Bytes>,
    /// From then on the row counts as absent for [`Write::Require`] and [`Write::Take`], and is removed when the store
    /// is idle. Readers return it until it is removed.
    pub expires: Option<Millis>,
}

impl From<Bytes> for Row {
    fn from(value: Bytes) -> Row {
        Row { value, reverse: None, expires: None }
    }
}

impl Row {
    /// A row for [`Write::Take`]: how often it may be taken, then any other bytes.
    pub fn counted(count: u64, rest: &[u8]) -> Row {
        Row::from(Bytes::from([&count.to_be_bytes(), rest].concat()))
    }

    /// The count of a row made by [`Row::counted`], and the rest; `None` if the value is too short to have one.
    pub fn count(&self) -> Option<(u64, &[u8])> {
        let (count, rest) = self.value.split_first_chunk::<8>()?;
        Some((u64::from_be_bytes(*count), rest))
    }

    /// Whether the row counts as absent at that time.
    pub fn expired(&self, now: Millis) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// A row of a map with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedRow {
    /// Which map.
    pub map: MapId,
    /// Whose.
    pub owner: Owner,
    /// Under which key.
    pub key: Bytes,
    /// The row.
    pub row: Row,
}

/// What [`Write::Require`] wants to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No row.
    Absent,
    /// A row, whatever its value.
    Present,
    /// A row with exactly this value.
    Value(Bytes),
}

/// One change. A batch's writes happen in order; each sees what those before it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Creates an owner. Refused if (kind, host, name) exists.
    Create(OwnerRow),
    /// Switches an owner off or on. Refused if it does not exist.
    Disable {
        /// Which.
        owner: Owner,
        /// Off, or on again.
        disabled: bool,
    },
    /// Removes an owner: its name is free at once, its rows, entries and blobs go when the store is idle, a bounded number at
    /// a time. What a read of the old number returns until then is not fixed. Refused if it does not exist.
    Delete {
        /// Which.
        owner: Owner,
    },
    /// Appends a log entry.
    Log(Box<NewEntry>),
    /// The owner lets go of these entries; an entry of which both owners have let go is deleted. Missing ids are passed over.
    LogDelete {
        /// Whose.
        owner: Owner,
        /// Which.
        ids: Vec<EntryId>,
    },
    /// The owner lets go of the oldest `limit` entries with `after < id < before` that have none of the flags `keep`.
    LogTrim {
        /// Whose.
        owner: Owner,
        /// Only entries after this one.
        after: EntryId,
        /// Only entries before this one.
        before: EntryId,
        /// Entries with any of these flags stay.
        keep: u8,
        /// At most so many are deleted by this write.
        limit: u32,
    },
    /// Changes one owner's side of an entry. A missing id is passed over.
    LogEdit {
        /// Whose side.
        owner: Owner,
        /// Which entry.
        id: EntryId,
        /// Flags to set.
        set: u8,
        /// Flags to clear (before setting).
        clear: u8,
        /// New opaque bytes of the side.
        meta: Option<Bytes>,
        /// What the owner sees in the place of the stanza: a tombstone keeps id, time and peer. The old bytes are
        /// deleted as soon as no other owner sees them.
        body: Option<Bytes>,
    },
    /// Puts or, with `None`, deletes the row of a key.
    Put {
        /// Which map.
        map: MapId,
        /// Whose row.
        owner: Owner,
        /// Under which key.
        key: Bytes,
        /// The new row.
        row: Option<Row>,
    },
    /// Deletes the first `limit` rows whose keys begin with `prefix`.
    Clear {
        /// Which map.
        map: MapId,
        /// Whose rows.
        owner: Owner,
        /// How the keys begin; empty for all.
        prefix: Bytes,
        /// At most so many are deleted by this write.
        limit: u32,
    },
    /// Refuses the batch unless the row is as expected.
    Require {
        /// Which map.
        map: MapId,
        /// Whose row.
        owner: Owner,
        /// Under which key.
        key: Bytes,
        /// What must be there.
        expect: Expect,
    },
    /// Takes `n` from the count of a row made by [`Row::counted`]; the row is deleted when nothing is left. Refused if there is
    /// no such row, or less is left.
    Take {
        /// Which map.
        map: MapId,
        /// Whose row.
        owner: Owner,
        /// Under which key.
        key: Bytes,
        /// How many.
        n: u64,
    },
    /// Puts or, with `None`, deletes a blob.
    Blob {
        /// Which collection.
        map: MapId,
        /// Whose blob.
        owner: Owner,
        /// Under which key.
        key: Bytes,
        /// The new content, at most [`MAX_BLOB`] bytes.
        data: Option<Bytes>,
    },
}

/// The largest blob, in bytes. Larger things belong into files.
pub const MAX_BLOB: usize = 16 << 20;

/// The longest key or reverse key of a row or blob, in bytes: two full JIDs and something besides.
pub const MAX_KEY: usize = 8 << 10;

impl Write {
    /// About how many bytes the write brings; for the bound of a group.
    pub fn weight(&self) -> usize {
        const ROW: usize = 64;
        ROW + match self {
            Write::Log(e) => {
                e.body.len() + e.sides.iter().flatten().map(|s| s.peer.len() + s.meta.len()).sum::<usize>()
            }
            Write::Put { key, row, .. } => {
                key.len() + row.as_ref().map_or(0, |r| r.value.len() + r.reverse.as_ref().map_or(0, Bytes::len))
            }
            Write::Blob { key, data, .. } => key.len() + data.as_ref().map_or(0, Bytes::len),
            Write::LogEdit { meta, body, .. } => [meta, body].into_iter().flatten().map(Bytes::len).sum(),
            Write::LogDelete { ids, .. } => ids.len() * ROW,
            Write::LogTrim { limit, .. } | Write::Clear { limit, .. } => usize::try_from(*limit).unwrap_or(0) * ROW,
            Write::Require { key, expect, .. } => key.len() + if let Expect::Value(v) = expect { v.len() } else { 0 },
            Write::Take { key, .. } => key.len(),
            Write::Create(row) => row.host.len() + row.name.len(),
            Write::Disable { .. } | Write::Delete { .. } => 0,
        }
    }
}

/// Writes that happen together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Batch {
    /// Given by the queue.
    pub id: BatchId,
    /// When it was submitted, for rows that expire; given by the queue.
    pub now: Millis,
    /// The owners whose cached state was, or will be, in step with the batch.
    pub owners: SmallVec<[Owner; 2]>,
    /// Whether later batches of the same owners may build on this one's values (an `update`): then a refusal, too, makes
    /// them stale. Without it a refusal concerns this batch alone. A failure always makes them stale.
    pub updates: bool,
    /// The changes, in order.
    pub writes: Vec<Write>,
}

impl Batch {
    /// About how many bytes the batch brings.
    pub fn weight(&self) -> usize {
        self.writes.iter().map(Write::weight).sum()
    }
}

/// What became of a batch.
#[derive(Clone, Debug)]
#[must_use]
pub enum Outcome {
    /// It is durable.
    Committed,
    /// A write of it could not be; nothing of it happened.
    Refused {
        /// Which of the batch's writes.
        write: usize,
    },
    /// The store failed; nothing of it happened.
    Failed(StoreError),
}

impl Outcome {
    /// Whether the batch is durable.
    pub fn is_committed(&self) -> bool {
        matches!(self, Outcome::Committed)
    }
}

/// Owners that lost a batch: what they submitted after it was built on something that never happened, and fails too.
///
/// A backend asks it before each batch and tells it of each that came to nothing; the queue takes an owner out again when the
/// core has reloaded it.
#[derive(Clone, Debug, Default)]
pub struct Stale(std::collections::BTreeSet<Owner>);

impl Stale {
    /// Whether the batch may be applied. If one of its owners is stale all of them are from now on.
    pub fn admits(&mut self, batch: &Batch) -> bool {
        if self.0.is_empty() || !batch.owners.iter().any(|o| self.0.contains(o)) {
            return true;
        }
        self.lost(batch);
        false
    }

    /// The batch came to nothing, and others may have been built on it.
    pub fn lost(&mut self, batch: &Batch) {
        self.0.extend(batch.owners.iter().copied());
    }

    /// The owner's state was loaded anew.
    pub fn reloaded(&mut self, owner: Owner) {
        self.0.remove(&owner);
    }

    /// Whether the owner waits to be reloaded.
    pub fn contains(&self, owner: Owner) -> bool {
        self.0.contains(&owner)
    }
}

/// Why the store could not do what it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The weather: no room on the disk. What is stored is unharmed; it may work later.
    #[error("the disk is full")]
    Full,
    /// The weather: the disk, or whatever else keeps the data, failed. It may work later.
    #[error("storage failed while {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A sync failed or the data are damaged. Nothing more is written until the store is opened again, as nobody knows what
    /// the disk has.
    #[error("storage is broken ({doing}) and must be opened again")]
    Broken {
        /// What was being done when it broke.
        doing: &'static str,
        /// The cause.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The operator: another process has the store open.
    #[error("the store {path} is locked by pid {pid}")]
    Locked {
        /// The data directory.
        path: Box<str>,
        /// Who has it, as it says itself; 0 if it does not say.
        pid: u32,
    },
    /// The operator: a newer version of the program has been here.
    #[error(
        "the store has schema {found}, this program knows {known}: run the newer program, or restore the backup made before it"
    )]
    Newer {
        /// The schema of the store.
        found: u32,
        /// The newest schema known here.
        known: u32,
    },
    /// An earlier batch of one of the owners failed; they must be reloaded first.
    #[error("an earlier write of the same owner failed")]
    Stale,
    /// The store, or the writer in front of it, has been closed.
    #[error("the store is closed")]
    Closed,
    /// A test made the store crash; what happened to the batch nobody knows.
    #[error("the store crashed")]
    Crashed,
    /// Us: the caller broke a rule of this interface.
    #[error("bug: {0}")]
    Bug(&'static str),
}

/// What a read or a step of the store gives.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The room on what a store keeps its data on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// what it may still take
    pub free: u64,
    /// what there is in all
    pub total: u64,
}

/// Tells the room, from any thread; may wait for the disk.
pub type Probe = Arc<dyn Fn() -> Result<Room> + Send + Sync>;

/// Stores. One per store, used by one thread at a time.
pub trait Backend: Send {
    /// The number of a map or collection of blobs, made at the first call for a name. To be called before anything is
    /// written to it, outside the flow of batches. A name keeps its first `loading`.
    fn map(&mut self, name: &str, loading: Loading) -> Result<MapId>;

    /// The highest entry id ever committed, 0 if there is none. Also after the entry has been deleted.
    fn last_id(&self) -> EntryId;

    /// The lowest number never given to an owner.
    fn next_owner(&self) -> Owner;

    /// Applies the batches in order and commits once. Returns one outcome for each, in order.
    fn apply(&mut self, group: &[Batch], stale: &mut Stale) -> Vec<Outcome>;

    /// Work that can wait: indexes, checkpoints, removal of what was deleted or has expired. A bounded piece of it; called between
    /// groups with `busy` (then only what is overdue is done) and when nothing is queued. Returns whether there is more to do
    /// now.
    fn idle(&mut self, now: Millis, busy: bool) -> Result<bool>;

    /// A new reader. It sees every group whose `apply` has returned.
    fn reader(&self) -> Result<Box<dyn Reader>>;

    /// Who tells the room on the disk; none if it cannot be told.
    fn probe(&self) -> Option<Probe> {
        None
    }

    /// Whether `apply` would have to wait. Only a backend made for tests says yes.
    fn stalled(&self) -> bool {
        false
    }
}

/// Which entries of a log, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery<'a> {
    /// Only ids above this.
    pub after: EntryId,
    /// Only ids below this.
    pub before: EntryId,
    /// Only with this counterpart (bare JID).
    pub peer: Option<&'a str>,
    /// Only entries with all of these flags.
    pub flags: u8,
    /// From the newest back instead of from the oldest on.
    pub newest_first: bool,
    /// At most so many entries.
    pub limit: usize,
}

impl Default for LogQuery<'_> {
    fn default() -> Self {
        LogQuery { after: 0, before: EntryId::MAX, peer: None, flags: 0, newest_first: false, limit: usize::MAX }
    }
}

/// Which rows of a map, and how many. Keys are ordered byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapQuery<'a> {
    /// Only keys that begin so.
    pub prefix: &'a [u8],
    /// Only keys on the far side of this one: above it, or below it with `descending`.
    pub past: Option<&'a [u8]>,
    /// From the last key back.
    pub descending: bool,
    /// At most so many rows.
    pub limit: usize,
}

impl Default for MapQuery<'_> {
    fn default() -> Self {
        MapQuery { prefix: &[], past: None, descending: false, limit: usize::MAX }
    }
}

/// Answers questions. Each call sees one state of the store, between two commits.
pub trait Reader: Send {
    /// The owner of a name.
    fn find(&mut self, kind: Kind, host: &str, name: &str) -> Result<Option<OwnerRow>>;

    /// The row of an owner.
    fn owner(&mut self, owner: Owner) -> Result<Option<OwnerRow>>;

    /// The owners of a kind on a host, by name, past the given one, at most `limit`.
    fn owners(&mut self, kind: Kind, host: &str, past: Option<&str>, limit: usize) -> Result<Vec<OwnerRow>>;

    /// All rows of all maps that are loaded with their owner, by map and key, at most `limit`: one query.
    fn load(&mut self, owner: Owner, limit: usize) -> Result<Vec<KeyedRow>>;

    /// The row of a key.
    fn map_get(&mut self, map: MapId, owner: Owner, key: &[u8]) -> Result<Option<Row>>;

    /// Rows of one owner's map, by key.
    fn map_range(&mut self, map: MapId, owner: Owner, query: MapQuery) -> Result<Vec<KeyedRow>>;

    /// How many rows have keys that begin with `prefix`; counts no further than `cap`.
    fn map_count(&mut self, map: MapId, owner: Owner, prefix: &[u8], cap: usize) -> Result<usize>;

    /// The rows of all owners that have this reverse key, by owner and key, past the given ones, at most `limit`. Not those of
    /// owners that have been deleted.
    fn map_reverse(
        &mut self,
        map: MapId,
        reverse: &[u8],
        past: Option<(Owner, &[u8])>,
        limit: usize,
    ) -> Result<Vec<KeyedRow>>;

    /// Entries of one owner's log, by id.
    fn log_range(&mut self, owner: Owner, query: LogQuery) -> Result<Vec<Entry>>;

    /// How many entries [`Reader::log_range`] would return; `limit` is where counting stops.
    fn log_count(&mut self, owner: Owner, query: LogQuery) -> Result<usize>;

    /// The sizes of the entries that [`Reader::log_range`] would return. No stanza is read for it.
    fn log_sizes(&mut self, owner: Owner, query: LogQuery) -> Result<Vec<EntrySize>>;

    /// How many bytes the entries of one owner with the flag [`flags::ARCHIVED`] take, as [`Side::size`] counts them.
    /// Costs about the same whatever the length of the log. Of a group that is being committed at this moment it may know a part.
    fn log_archived(&mut self, owner: Owner) -> Result<u64>;

    /// One entry.
    fn log_get(&mut self, owner: Owner, id: EntryId) -> Result<Option<Entry>>;

    /// A blob.
    fn blob(&mut self, map: MapId, owner: Owner, key: &[u8]) -> Result<Option<Bytes>>;

    /// The keys and sizes in bytes of one owner's blobs, by key, past the given one, at most `limit`.
    fn blobs(&mut self, map: MapId, owner: Owner, past: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, u64)>>;

    /// The names of all maps ever made, by number.
    fn maps(&mut self) -> Result<Vec<(MapId, Box<str>)>>;
}

/// Where new numbers come from. Reached only under the queue's lock.
pub trait Ids {
    /// A new id for a log entry: see [`next_id`].
    fn entry(&mut self) -> EntryId;
    /// A number for a new owner.
    fn owner(&mut self) -> Owner;
    /// The number of the batch that is being made.
    fn batch(&self) -> BatchId;
}

/// The one queue in front of a backend.
pub trait Journal: Send + Sync {
    /// Submits what `build` makes, at a time of day. `build` runs under the queue's lock, so that ids,
    /// queue and commits have one order. Never waits for the disk. False if the store is closed: `build` is not called then.
    fn submit(&self, now: Timestamp, build: &mut dyn FnMut(&mut dyn Ids) -> Batch) -> bool;

    /// What the owner has in memory is again what is stored, after a batch of it came to nothing.
    fn reloaded(&self, owner: Owner);

    /// Whether so much waits to be written that nothing should be added which may as well be refused.
    fn is_full(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The newest id that a store of an earlier version can have: those counted microseconds one by one.
    const OLD: EntryId = 1_767_225_600_000_123;

    #[test]
    fn ids_ascend_and_follow_the_time_whatever_the_clock_does() {
        let start = time_of(OLD);
        let mut last = OLD;
        for (millis, back) in [(0, false), (0, false), (1, false), (5_000, true), (5_001, true), (9, false)] {
            let by = std::time::Duration::from_millis(millis);
            let now = if back { start.minus(by) } else { start.plus(by) };
            let id = next_id(last, now);
            assert!(id > last && id >= id_at(now), "{id} after {last}");
            assert_eq!(id % (1 << NODE_BITS), 0, "the node's bits");
            assert!(time_of(id) >= now);
            last = id;
        }
    }

    #[test]
    fn a_span_of_time_is_a_span_of_ids() {
        let now = Timestamp::from_millis(1_767_225_600_789);
        let after = now.plus(std::time::Duration::from_millis(1));
        // As many ids as one millisecond has.
        let ids: Vec<EntryId> = std::iter::successors(Some(next_id(0, now)), |last| Some(next_id(*last, now)))
            .take_while(|id| *id < id_at(after))
            .collect();
        assert_eq!(ids.len(), 62);
        assert!(ids.iter().all(|id| time_of(*id) == now && *id >= id_at(now)));
        assert_eq!(time_of(OLD), Timestamp::from_millis(1_767_225_600_000));
        assert_eq!(id_at(Timestamp::MAX).leading_zeros().min(1), 1, "below 2^63");
    }
}
