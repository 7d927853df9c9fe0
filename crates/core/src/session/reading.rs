//! How a session reads the log instead of being given it live: page by page, up to the account's horizon (`life/join.rs`).

use crate::session::stream::{Reading, Stream};
use crate::store::EntryId;

impl Stream {
    /// Whether it reads the log.
    pub(crate) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// From here on entries are given live.
    pub(crate) fn joins_at(&mut self, id: EntryId) {
        self.joined = id;
    }

    /// From which id on entries were given live.
    pub(crate) fn joined(&self) -> EntryId {
        self.joined
    }

    /// A page is being fetched. Gives the id from which on, and the number of the connection that it is for.
    pub(crate) fn begin_page(&mut self) -> Option<(EntryId, u32)> {
        let reading = self.reading.as_mut()?;
        reading.fetching = true;
        Some((reading.pos, self.epoch))
    }

    /// A page that began at `from` was fetched for this connection. Nothing if it is of no use: another connection has the session by
    /// now, or the read position was moved back during the fetch, so that the page will be read again behind what is before it.
    pub(crate) fn page(&mut self, from: EntryId, epoch: u32) -> Option<Reading> {
        if self.epoch != epoch {
            return None;
        }
        let reading = self.reading.as_mut()?;
        if reading.pos < from {
            reading.fetching = false;
            self.wake();
            return None;
        }
        Some(*reading)
    }

    /// The page was read: reading goes on at `pos`, or ends if nothing follows below `horizon`.
    pub(crate) fn page_read(&mut self, reading: Reading, pos: EntryId, horizon: EntryId) {
        self.reading = Some(Reading { pos, fetching: false, ..reading });
        self.has_read_to(pos);
        if pos >= horizon {
            self.end_reading();
        }
        self.wake();
    }

    /// The page for this connection could not be read.
    pub(crate) fn page_failed(&mut self, epoch: u32) {
        let current = self.epoch == epoch;
        if let Some(reading) = self.reading.as_mut().filter(|_| current) {
            reading.fetching = false;
        }
    }

    /// Entries up to this one are left to the log: what is not in the log and comes now follows it.
    pub(crate) fn leave_to_log(&mut self, entry: EntryId) {
        if let Some(reading) = &mut self.reading {
            reading.left = entry;
        }
    }

    /// Whether the entry was written while the session held its stanza, or its client took it before a restart.
    pub(crate) fn has_had(&self, entry: EntryId) -> bool {
        self.had.contains(&entry)
    }

    /// These entries were written while the session held their stanzas.
    pub(crate) fn note_had(&mut self, entries: &[EntryId]) {
        self.had.extend(entries);
    }
}
