//! The state of an account's log: which entries no session has taken yet, and which are held by sessions.
//!
//! An entry is *open* from its submission until some session has taken it: acknowledged it (XEP-0198 §4), or, without stream
//! management, written it to its socket. Everything below the first open entry is taken for good. That position is the
//! account's cursor, and the only part of this state that is stored. After a restart all entries above it count as open
//! again, and are delivered once more with the same id.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::store::EntryId;
use crate::store::load::Load;

/// Maximum number of open entries known one by one. At the limit the older half is forgotten: all of it counts as open until a
/// session reads it again, and may be delivered again, with the same ids.
pub(crate) const MAX_OPEN: usize = 4_096;

/// Number of entries without an archive that are deleted at a time.
pub(crate) const PIECE: u32 = 512;

/// Number of deletable pieces at which an account does not wait for the next round.
const PRESSING: usize = 100;

/// Maximum number of senders counted separately among waiting entries that are not known one by one. Bytes of further senders count
/// for every sender.
const MAX_SENDERS: usize = 256;

/// The stored part: the position up to which everything was taken, and the position up to which entries without an archive were
/// deleted. Earlier versions stored only the first, as a single number.
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

/// An entry that no session has taken.
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
    /// the newest committed entry. No cursor is above it: the id of a failed entry is used again if the server restarts and the
    /// clock has gone back
    pub written: EntryId,
    /// the cursor as it is stored
    pub stored: EntryId,
    /// up to here, deletable entries were deleted
    pub trimmed: EntryId,
    /// entries above `trimmed` may be deletable: taken, and in no archive
    pub loose: bool,
    /// it waits for its turn to be trimmed
    pub to_trim: bool,
    /// above this, and below what was taken when the account was loaded, it is not known which entries no archive keeps
    pub unmeasured: Option<EntryId>,
    /// of the entries that no archive keeps, the last one of each piece
    pieces: VecDeque<EntryId>,
    /// number of such entries after the last piece
    since_piece: u32,
    /// there are open entries that no session holds or reads
    pub missed: bool,
    /// all entries from the first to the second id count as open
    unknown: Option<(EntryId, EntryId)>,
    /// entries in that range that some session has taken
    taken: BTreeSet<EntryId>,
    /// received entries that no session has taken, ascending
    open: VecDeque<Open>,
    /// bytes of these
    open_bytes: u64,
    /// bytes of all entries received since the account was loaded
    pub received: u64,
    /// bytes of the entries that count as open and are not known one by one, by sender; never too low
    unknown_bytes: BTreeMap<Option<u32>, u64>,
    /// bytes of the archive; never too low, except for entries that are being committed while it is measured
    pub archived: u64,
    /// bytes ever added to it
    pub charged: u64,
    /// entries that sessions hold and have not yet taken, with the number of sessions that hold each
    held: BTreeMap<EntryId, u16>,
}

impl LogState {
    /// The state after a restart: everything above the stored cursor is open.
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

    /// Whether no session has taken the entry.
    pub fn is_open(&self, entry: EntryId) -> bool {
        self.is_unknown(entry) || self.find(entry).is_ok()
    }

    fn find(&self, entry: EntryId) -> Result<usize, usize> {
        self.open.binary_search_by_key(&entry, |open| open.id)
    }

    /// Bytes of all entries that no session has taken.
    pub fn waiting_bytes(&self) -> u64 {
        match self.unknown_bytes.is_empty() {
            true => self.open_bytes,
            false => self.open_bytes + self.unknown_bytes.values().sum::<u64>(),
        }
    }

    /// Bytes of one sender's entries that no session has taken.
    pub fn waiting_of(&self, from: u32) -> u64 {
        let open = self.open.iter().filter(|open| open.from == from).map(|open| u64::from(open.bytes));
        let unknown = [Some(from), None].iter().filter_map(|from| self.unknown_bytes.get(from)).sum::<u64>();
        open.sum::<u64>() + unknown
    }

    /// An entry counts as open but is not known individually.
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
            // There is nothing in between that could be deleted.
            self.trimmed = self.trimmed.max(taken);
        }
        Cursor { taken, trimmed: self.unmeasured.unwrap_or(self.trimmed).min(self.trimmed) }
    }

    /// Whether so much is deletable that trimming should begin at once.
    pub fn is_pressing(&self, floor: EntryId) -> bool {
        self.pieces.get(PRESSING - 1).is_some_and(|end| *end <= floor)
    }

    /// The position up to which entries are deleted next: the end of a piece, or the floor if that comes first; and the maximum
    /// number of these entries, as far as is known.
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

    /// Whether there is any entry that no session has taken.
    pub fn has_open(&self) -> bool {
        self.unknown.is_some() || !self.open.is_empty()
    }

    /// Number of entries that sessions hold, and of open entries known one by one.
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

    /// An entry is now known individually.
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

    /// The batch of a submitted entry failed: the entry does not count for the archive.
    pub fn uncharge(&mut self, bytes: u64) {
        self.archived = self.archived.saturating_sub(bytes);
    }

    /// A session was given an entry.
    pub fn hold(&mut self, entry: EntryId) {
        *self.held.entry(entry).or_default() += 1;
    }

    /// A session took an entry, or its batch failed: no other session needs it.
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

    /// A session no longer holds an entry. True if no session holds it now.
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
