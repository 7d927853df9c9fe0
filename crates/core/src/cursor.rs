//! Where an account's log stands: what nobody has taken yet, and what is on its way to somebody.
//!
//! An entry is *open* from the moment it is submitted until some session has taken it: acknowledged it (XEP-0198 §4), or
//! without stream management had it written to its socket. Everything below the first open entry is taken for good; that
//! is the account's cursor, and the only part of this that is stored. After a restart what lies above it counts as open
//! again, and comes once more under the same id.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::store::{Direction, ENTRY_BYTES, Entry, EntryId, EntrySize, Side, flags};

/// So many open entries are known one by one. At the bound the older half is forgotten: all of it counts as open until
/// somebody reads it again, and may be given again, under the same ids.
pub(crate) const MAX_OPEN: usize = 4_096;

/// Number of entries that no archive keeps and that are deleted at a time.
pub(crate) const PIECE: u32 = 512;

/// With so many pieces to delete an account does not wait longer.
const PRESSING: usize = 100;

/// So many senders are told apart of what waits and is not known one by one. What others sent counts as everybody's.
const MAX_SENDERS: usize = 256;

/// What an entry takes of its owner's storage, and who sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// in bytes, as [`Side::size`] counts them
    pub bytes: u32,
    /// the hash of the peer
    pub from: u32,
    /// the owner received it: it waits until somebody takes it
    pub received: bool,
    /// the owner's archive keeps it
    pub archived: bool,
}

impl Load {
    /// Of an entry that is about to be written.
    pub fn of(side: &Side, body: usize) -> Load {
        Load::new(side.size(body), &side.peer, side.dir, side.flags)
    }

    /// Of one that was read.
    pub fn of_entry(entry: &Entry) -> Load {
        let bytes = ENTRY_BYTES + (entry.peer.len() + entry.meta.len() + entry.body.len()) as u64;
        Load::new(bytes, &entry.peer, entry.dir, entry.flags)
    }

    /// Of one of which only the size was read.
    pub fn of_size(entry: &EntrySize) -> Load {
        Load::new(entry.bytes, &entry.peer, entry.dir, entry.flags)
    }

    fn new(bytes: u64, peer: &str, dir: Direction, bits: u8) -> Load {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let (received, archived) = (dir != Direction::Sent, bits & flags::ARCHIVED != 0);
        Load { bytes, from: sender(peer), received, archived }
    }

    /// How much it adds to its owner's archive.
    pub fn archived(self) -> u64 {
        if self.archived { u64::from(self.bytes) } else { 0 }
    }
}

/// The hash by which the senders of what waits are told apart: FNV-1a of 32 bits. Two with the same share what they may.
pub(crate) fn sender(peer: &str) -> u32 {
    peer.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// What is stored of this: up to where everything was taken, and up to where what no archive keeps was deleted. Before there was
/// the second it was a single number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredCursor", into = "(EntryId, EntryId)")]
pub(crate) struct Cursor {
    pub taken: EntryId,
    pub trimmed: EntryId,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StoredCursor {
    Both(EntryId, EntryId),
    Taken(EntryId),
}

impl From<StoredCursor> for Cursor {
    fn from(stored: StoredCursor) -> Cursor {
        match stored {
            StoredCursor::Both(taken, trimmed) => Cursor { taken, trimmed },
            StoredCursor::Taken(taken) => Cursor { taken, trimmed: 0 },
        }
    }
}

impl From<Cursor> for (EntryId, EntryId) {
    fn from(cursor: Cursor) -> Self {
        (cursor.taken, cursor.trimmed)
    }
}

/// An entry that nobody has taken.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: EntryId,
    bytes: u32,
    from: u32,
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct LogState {
    /// the newest entry that was submitted
    pub last: EntryId,
    /// the newest entry that was committed. No cursor stands above it: the id of one that failed is given again if the server
    /// starts anew and the clock has gone back
    pub written: EntryId,
    /// the cursor as it is stored
    pub stored: EntryId,
    /// up to here entries were let go of
    pub trimmed: EntryId,
    /// there may be entries above that which no archive keeps
    pub loose: bool,
    /// it waits for its turn to be trimmed
    pub to_trim: bool,
    /// above this, and below what was taken when the account was loaded, it is not known what no archive keeps
    pub unmeasured: Option<EntryId>,
    /// of the entries that no archive keeps, each that is the last of a piece
    pieces: VecDeque<EntryId>,
    /// so many came after the last of these
    since_piece: u32,
    /// there are open entries that no session holds, and nobody reads
    pub missed: bool,
    /// from the first to the second id, whatever the log has there counts as open
    unknown: Option<(EntryId, EntryId)>,
    /// of these, some that somebody has taken
    taken: BTreeSet<EntryId>,
    /// received entries that nobody has taken, ascending
    open: VecDeque<Open>,
    /// what these take in bytes
    open_bytes: u64,
    /// what all entries took that were received since the account was loaded, in bytes
    pub received: u64,
    /// what the entries take that count as open and are not known one by one, by sender; never less
    unknown_bytes: BTreeMap<Option<u32>, u64>,
    /// what the archive takes in bytes; never less, but for what is being committed while it is measured
    pub archived: u64,
    /// what was ever added to it
    pub charged: u64,
    /// entries that sessions hold and have not yet taken, with how many hold each
    held: BTreeMap<EntryId, u16>,
}

impl LogState {
    /// As it is after a restart: everything above the stored cursor is open.
    pub fn restored(last: EntryId, cursor: Cursor) -> LogState {
        let Cursor { taken: cursor, trimmed } = cursor;
        let last = last.max(cursor);
        let unknown = (last > cursor).then_some((cursor + 1, last));
        LogState {
            last,
            written: last,
            stored: cursor,
            missed: unknown.is_some(),
            loose: true,
            trimmed,
            unknown,
            ..LogState::default()
        }
    }

    /// Everything up to here was taken.
    pub fn cursor(&self) -> EntryId {
        let unknown = self.unknown.map(|(first, _)| first);
        let first = unknown.into_iter().chain(self.open.front().map(|open| open.id)).min();
        first.map_or(self.written, |first| self.written.min(first - 1))
    }

    /// Whether nobody has taken the entry.
    pub fn is_open(&self, entry: EntryId) -> bool {
        self.is_unknown(entry) || self.find(entry).is_ok()
    }

    fn find(&self, entry: EntryId) -> Result<usize, usize> {
        self.open.binary_search_by_key(&entry, |open| open.id)
    }

    /// What nobody has taken, in bytes.
    pub fn waiting_bytes(&self) -> u64 {
        match self.unknown_bytes.is_empty() {
            true => self.open_bytes,
            false => self.open_bytes + self.unknown_bytes.values().sum::<u64>(),
        }
    }

    /// What nobody has taken of one sender, in bytes.
    pub fn waiting_of(&self, from: u32) -> u64 {
        let open = self.open.iter().filter(|open| open.from == from).map(|open| u64::from(open.bytes));
        let unknown = [Some(from), None].iter().filter_map(|from| self.unknown_bytes.get(from)).sum::<u64>();
        open.sum::<u64>() + unknown
    }

    /// An entry counts as open and is not known by itself.
    pub fn add_unknown(&mut self, entry: EntryId, load: Load) {
        if !load.archived {
            self.note_loose(entry);
        }
        add_unknown(&mut self.unknown_bytes, load.from, load.bytes);
    }

    /// No archive keeps this entry. Ids ascend.
    pub fn note_loose(&mut self, entry: EntryId) {
        self.since_piece += 1;
        if self.since_piece >= PIECE {
            self.since_piece = 0;
            self.pieces.push_back(entry);
        }
    }

    /// The cursor as it is to be stored.
    pub fn stored_cursor(&mut self) -> Cursor {
        let taken = self.cursor();
        if !self.loose {
            // Nothing lies between that could be deleted.
            self.trimmed = self.trimmed.max(taken);
        }
        Cursor { taken, trimmed: self.unmeasured.unwrap_or(self.trimmed).min(self.trimmed) }
    }

    /// Whether so much may be deleted that it is not waited for longer.
    pub fn is_pressing(&self, floor: EntryId) -> bool {
        self.pieces.get(PRESSING - 1).is_some_and(|end| *end <= floor)
    }

    /// Up to where entries are deleted next: to the end of a piece, or to the floor if that comes first. And how many these are,
    /// at most, as far as is known.
    pub fn next_piece(&mut self, floor: EntryId) -> (EntryId, u32) {
        match self.pieces.front() {
            Some(end) if *end <= floor => (self.pieces.pop_front().unwrap_or(floor), PIECE),
            Some(_) => (floor, PIECE),
            None => (floor, self.since_piece),
        }
    }

    fn is_unknown(&self, entry: EntryId) -> bool {
        self.unknown.is_some_and(|(first, last)| (first..=last).contains(&entry))
    }

    /// Whether there is anything that nobody has taken.
    pub fn has_open(&self) -> bool {
        self.unknown.is_some() || !self.open.is_empty()
    }

    /// How many entries sessions hold, and how many that nobody has taken are known one by one.
    pub fn counts(&self) -> (usize, usize) {
        (self.held.len(), self.open.len())
    }

    /// Whether some session has the entry in its queue, or waits for its acknowledgement.
    pub fn is_held(&self, entry: EntryId) -> bool {
        self.held.contains_key(&entry)
    }

    /// An entry was submitted. Ids ascend.
    pub fn submitted(&mut self, entry: EntryId, load: Load) {
        self.last = self.last.max(entry);
        self.archived += load.archived();
        self.charged += load.archived();
        if !load.archived && load.bytes > 0 {
            self.note_loose(entry);
        }
        if !load.received {
            return;
        }
        self.received += u64::from(load.bytes);
        self.open.push_back(Open { id: entry, bytes: load.bytes, from: load.from });
        self.open_bytes += u64::from(load.bytes);
        if self.open.len() > MAX_OPEN {
            for Open { id, bytes, from } in self.open.drain(..MAX_OPEN / 2) {
                self.open_bytes -= u64::from(bytes);
                add_unknown(&mut self.unknown_bytes, from, bytes);
                let before = self.unknown.unwrap_or((id, id));
                self.unknown = Some((before.0.min(id), before.1.max(id)));
            }
        }
    }

    /// The log was read from `from` to before `end`, and these are the entries that the account received there.
    pub fn read(&mut self, from: EntryId, end: EntryId, received: impl Iterator<Item = (EntryId, Load)>) {
        let Some((first, last)) = self.unknown.filter(|(first, _)| from <= *first && *first < end) else { return };
        for (entry, load) in received.filter(|(entry, _)| (first..=last).contains(entry)) {
            if self.open.len() >= MAX_OPEN {
                self.unknown = Some((entry, last));
                return;
            }
            if self.taken.remove(&entry) {
                self.known(load);
            } else if let Err(at) = self.find(entry) {
                self.open.insert(at, Open { id: entry, bytes: load.bytes, from: load.from });
                self.open_bytes += u64::from(load.bytes);
                self.known(load);
            }
        }
        self.unknown = (end <= last).then_some((end, last));
        if self.unknown.is_none() {
            self.unknown_bytes.clear();
            self.taken.clear();
        }
    }

    /// An entry is known by itself now.
    fn known(&mut self, load: Load) {
        let mut rest = u64::from(load.bytes);
        for from in [Some(load.from), None] {
            let Some(bytes) = self.unknown_bytes.get_mut(&from) else { continue };
            let taken = rest.min(*bytes);
            (*bytes, rest) = (*bytes - taken, rest - taken);
            if *bytes == 0 {
                self.unknown_bytes.remove(&from);
            }
        }
    }

    /// An entry that was submitted came to nothing: it takes nothing of the archive.
    pub fn uncharge(&mut self, bytes: u64) {
        self.archived = self.archived.saturating_sub(bytes);
    }

    /// A session was given an entry.
    pub fn hold(&mut self, entry: EntryId) {
        *self.held.entry(entry).or_default() += 1;
    }

    /// A session took an entry, or it came to nothing: it needs nobody else.
    pub fn take(&mut self, entry: EntryId) {
        self.held.remove(&entry);
        if self.is_unknown(entry) && self.taken.len() < MAX_OPEN {
            self.taken.insert(entry);
        }
        if let Ok(at) = self.find(entry)
            && let Some(open) = self.open.remove(at)
        {
            self.open_bytes -= u64::from(open.bytes);
        }
        if self.open.is_empty() && self.open.capacity() > 16 {
            self.open = VecDeque::new();
        }
    }

    /// A session that held an entry holds it no longer. True if nobody has it now.
    pub fn release(&mut self, entry: EntryId) -> bool {
        match self.held.get_mut(&entry) {
            None => false,
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) => {
                self.held.remove(&entry);
                true
            }
        }
    }
}

fn add_unknown(unknown: &mut BTreeMap<Option<u32>, u64>, from: u32, bytes: u32) {
    let known = unknown.len() < MAX_SENDERS || unknown.contains_key(&Some(from));
    *unknown.entry(Some(from).filter(|_| known)).or_default() += u64::from(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    impl LogState {
        /// Submitted and committed.
        fn wrote(&mut self, entry: EntryId, load: Load) {
            self.submitted(entry, load);
            self.written = entry;
        }
    }

    const RECEIVED: Load = Load { bytes: 100, from: 7, received: true, archived: false };
    const SENT: Load = Load { received: false, ..RECEIVED };

    fn received(ids: &[EntryId]) -> impl Iterator<Item = (EntryId, Load)> {
        ids.iter().map(|id| (*id, RECEIVED))
    }

    #[test]
    fn what_waits_is_counted_by_sender_whether_it_is_known_one_by_one_or_not() {
        const ALL: u64 = 8_000;
        let mut log = LogState::default();
        let of = |from| Load { from, ..RECEIVED };
        for entry in 1..=ALL {
            log.wrote(entry, of(1 + (entry % 2) as u32));
            assert_eq!(log.waiting_bytes(), 100 * entry);
        }
        assert!(log.unknown.is_some());
        assert_eq!((log.waiting_of(1), log.waiting_of(2), log.waiting_of(3)), (400_000, 400_000, 0));
        let all: Vec<EntryId> = (1..=ALL).collect();
        for page in all.chunks(64) {
            let (from, end) = (page[0], page[0] + 64);
            log.read(from, end, page.iter().map(|id| (*id, of(1 + (id % 2) as u32))));
            page.iter().for_each(|id| log.take(*id));
            assert_eq!(log.waiting_bytes(), 100 * (ALL + 1 - end));
        }
        assert!(log.unknown.is_none() && log.unknown_bytes.is_empty() && !log.has_open());
    }

    #[test]
    fn of_many_senders_the_later_ones_count_as_everybodys() {
        let mut log = LogState::restored(1_000, Cursor::default());
        for from in 0..1_000 {
            log.add_unknown(u64::from(from), Load { from, ..RECEIVED });
        }
        assert_eq!(log.unknown_bytes.len(), MAX_SENDERS + 1);
        assert_eq!(log.waiting_bytes(), 100_000);
        assert_eq!(log.waiting_of(0), 100 + 100 * (1_000 - MAX_SENDERS as u64), "never less than it is");
    }

    #[test]
    fn what_no_archive_keeps_is_let_go_of_in_pieces() {
        let mut log = LogState::default();
        let piece = u64::from(PIECE);
        for entry in 1..=(2 * piece + 10) {
            log.wrote(entry, SENT);
            log.wrote(entry, Load { archived: true, ..SENT });
        }
        let floor = 2 * piece + 5;
        assert_eq!(log.next_piece(piece - 1), (piece - 1, PIECE));
        assert_eq!(log.next_piece(floor), (piece, PIECE));
        assert_eq!(log.next_piece(floor), (2 * piece, PIECE));
        assert_eq!(log.next_piece(floor), (floor, 10));
        for entry in 1..PRESSING as u64 * piece {
            log.wrote(floor + 5 + entry, SENT);
        }
        assert!(log.is_pressing(EntryId::MAX) && !log.is_pressing(floor));
    }

    #[test]
    fn what_was_deleted_is_stored_with_the_cursor() {
        let mut log = LogState { trimmed: 5, loose: true, ..LogState::default() };
        log.wrote(10, SENT);
        assert_eq!(log.stored_cursor(), Cursor { taken: 10, trimmed: 5 });
        log.loose = false;
        assert_eq!(log.stored_cursor(), Cursor { taken: 10, trimmed: 10 }, "there is nothing to delete");
        log.unmeasured = Some(3);
        assert_eq!(log.stored_cursor(), Cursor { taken: 10, trimmed: 3 }, "but there it is not known");
        for (stored, cursor) in [("7", Cursor { taken: 7, trimmed: 0 }), ("[7,4]", Cursor { taken: 7, trimmed: 4 })] {
            assert_eq!(serde_json::from_str::<Cursor>(stored).ok(), Some(cursor));
        }
        assert_eq!(serde_json::to_string(&Cursor { taken: 7, trimmed: 4 }).ok().as_deref(), Some("[7,4]"));
    }

    #[test]
    fn the_archive_grows_by_what_it_keeps_and_not_by_what_comes_to_nothing() {
        let mut log = LogState::default();
        log.wrote(1, Load { archived: true, ..SENT });
        log.wrote(2, RECEIVED);
        log.wrote(3, Load { archived: true, ..RECEIVED });
        assert_eq!((log.archived, log.waiting_bytes()), (200, 200));
        log.uncharge(100);
        log.take(3);
        assert_eq!((log.archived, log.waiting_bytes()), (100, 100));
    }

    #[test]
    fn the_cursor_stands_before_the_first_open_entry() {
        let mut log = LogState::default();
        for entry in [10, 20, 30, 40] {
            log.wrote(entry, RECEIVED);
        }
        log.take(20);
        log.take(40);
        assert_eq!(log.cursor(), 9);
        log.take(10);
        assert_eq!(log.cursor(), 29);
        assert!(log.is_open(30) && !log.is_open(40));
        log.wrote(50, RECEIVED);
        log.take(30);
        log.take(50);
        assert_eq!(log.cursor(), 50);
        log.wrote(60, SENT);
        assert_eq!(log.cursor(), 60, "what was sent needs nobody");
    }

    #[test]
    fn after_a_restart_everything_is_open_until_the_log_was_read() {
        let mut log = LogState::restored(100, Cursor { taken: 40, trimmed: 0 });
        log.wrote(110, RECEIVED);
        assert!(log.is_open(50) && log.is_open(99) && log.is_open(110) && !log.is_open(40));
        log.read(60, 90, received(&[70, 80]));
        assert!(log.is_open(50), "nobody read from the beginning");
        log.read(41, 75, received(&[50, 70]));
        log.take(50);
        assert_eq!(log.cursor(), 69);
        assert!(log.is_open(70) && log.is_open(76));
        log.read(75, 105, received(&[80, 100]));
        for entry in [70, 80, 100] {
            assert!(log.is_open(entry));
            log.take(entry);
        }
        assert_eq!(log.cursor(), 109);
    }

    #[test]
    fn at_the_bound_entries_count_as_open_again_and_none_is_lost() {
        let mut log = LogState::default();
        for entry in 1..=(4 * MAX_OPEN as u64) {
            log.wrote(entry, RECEIVED);
            if entry % 2 == 0 {
                log.take(entry);
            }
        }
        assert!(log.open.len() <= MAX_OPEN);
        assert!((1..=4 * MAX_OPEN as u64).filter(|e| e % 2 == 1).all(|e| log.is_open(e)));
        assert_eq!(log.cursor(), 0);
    }
}
