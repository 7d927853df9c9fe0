//! Where an account's log stands: what nobody has taken yet, and what is on its way to somebody.
//!
//! An entry is *open* from the moment it is submitted until some session has taken it: acknowledged it (XEP-0198 §4), or
//! without stream management had it written to its socket. Everything below the first open entry is taken for good; that
//! is the account's cursor, and the only part of this that is stored. After a restart what lies above it counts as open
//! again, and comes once more under the same id.

use std::collections::{BTreeMap, VecDeque};

use crate::store::EntryId;

/// So many open entries are known one by one. At the bound the older half is forgotten: all of it counts as open until
/// somebody reads it again, and may be given again, under the same ids.
pub(crate) const MAX_OPEN: usize = 4_096;

/// See the module's text.
#[derive(Default)]
pub(crate) struct LogState {
    /// the newest entry that was submitted
    pub last: EntryId,
    /// the cursor as it is stored
    pub stored: EntryId,
    /// up to here entries were let go of
    pub trimmed: EntryId,
    /// there may be entries above that which no archive keeps
    pub loose: bool,
    /// it waits for its turn to be trimmed
    pub to_trim: bool,
    /// there are open entries that no session holds, and nobody reads
    pub missed: bool,
    /// from the first to the second id, whatever the log has there counts as open
    unknown: Option<(EntryId, EntryId)>,
    /// received entries that nobody has taken, ascending
    open: VecDeque<EntryId>,
    /// entries that sessions hold and have not yet taken, with how many hold each
    held: BTreeMap<EntryId, u16>,
}

impl LogState {
    /// As it is after a restart: everything above the stored cursor is open.
    pub fn restored(last: EntryId, cursor: EntryId) -> LogState {
        let last = last.max(cursor);
        let unknown = (last > cursor).then_some((cursor + 1, last));
        LogState { last, stored: cursor, missed: unknown.is_some(), loose: true, unknown, ..LogState::default() }
    }

    /// Everything up to here was taken.
    pub fn cursor(&self) -> EntryId {
        let unknown = self.unknown.map(|(first, _)| first);
        unknown.into_iter().chain(self.open.front().copied()).min().map_or(self.last, |first| first - 1)
    }

    /// Whether nobody has taken the entry.
    pub fn is_open(&self, entry: EntryId) -> bool {
        self.is_unknown(entry) || self.open.binary_search(&entry).is_ok()
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
    pub fn submitted(&mut self, entry: EntryId, received: bool) {
        self.last = self.last.max(entry);
        if !received {
            return;
        }
        self.open.push_back(entry);
        if self.open.len() > MAX_OPEN {
            let mut older = self.open.drain(..MAX_OPEN / 2);
            let (first, last) = (older.next(), older.next_back());
            let before = self.unknown;
            self.unknown = first
                .zip(last)
                .map(|(first, last)| before.map_or((first, last), |(from, to)| (from.min(first), to.max(last))));
        }
    }

    /// The log was read from `from` to before `end`, and these are the entries that the account received there.
    pub fn read(&mut self, from: EntryId, end: EntryId, received: impl Iterator<Item = EntryId>) {
        let Some((first, last)) = self.unknown.filter(|(first, _)| from <= *first && *first < end) else { return };
        for entry in received.filter(|entry| (first..=last).contains(entry)) {
            if self.open.len() >= MAX_OPEN {
                self.unknown = Some((entry, last));
                return;
            }
            if let Err(at) = self.open.binary_search(&entry) {
                self.open.insert(at, entry);
            }
        }
        self.unknown = (end <= last).then_some((end, last));
    }

    /// A session was given an entry.
    pub fn hold(&mut self, entry: EntryId) {
        *self.held.entry(entry).or_default() += 1;
    }

    /// A session took an entry, or it came to nothing: it needs nobody else.
    pub fn take(&mut self, entry: EntryId) {
        self.held.remove(&entry);
        if let Ok(at) = self.open.binary_search(&entry) {
            self.open.remove(at);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stands_before_the_first_open_entry() {
        let mut log = LogState::default();
        for entry in [10, 20, 30, 40] {
            log.submitted(entry, true);
        }
        log.take(20);
        log.take(40);
        assert_eq!(log.cursor(), 9);
        log.take(10);
        assert_eq!(log.cursor(), 29);
        assert!(log.is_open(30) && !log.is_open(40));
        log.submitted(50, true);
        log.take(30);
        log.take(50);
        assert_eq!(log.cursor(), 50);
        log.submitted(60, false);
        assert_eq!(log.cursor(), 60, "what was sent needs nobody");
    }

    #[test]
    fn after_a_restart_everything_is_open_until_the_log_was_read() {
        let mut log = LogState::restored(100, 40);
        log.submitted(110, true);
        assert!(log.is_open(50) && log.is_open(99) && log.is_open(110) && !log.is_open(40));
        log.read(60, 90, [70, 80].into_iter());
        assert!(log.is_open(50), "nobody read from the beginning");
        log.read(41, 75, [50, 70].into_iter());
        log.take(50);
        assert_eq!(log.cursor(), 69);
        assert!(log.is_open(70) && log.is_open(76));
        log.read(75, 105, [80, 100].into_iter());
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
            log.submitted(entry, true);
            if entry % 2 == 0 {
                log.take(entry);
            }
        }
        assert!(log.open.len() <= MAX_OPEN);
        assert!((1..=4 * MAX_OPEN as u64).filter(|e| e % 2 == 1).all(|e| log.is_open(e)));
        assert_eq!(log.cursor(), 0);
    }
}
