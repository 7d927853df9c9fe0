//! How much an entry takes of its owner's storage.

use crate::store::{Direction, ENTRY_BYTES, Entry, EntrySize, Side, flags};

/// How much of its owner's storage an entry takes, and its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// in bytes, as [`Side::size`] counts them
    pub bytes: u32,
    /// the hash of the peer
    pub from: u32,
    /// the owner received it: it waits until a session takes it
    pub received: bool,
    /// the owner's archive keeps it
    pub archived: bool,
}

impl Load {
    /// The load of an entry that is about to be written.
    pub fn of(side: &Side, body: usize) -> Load {
        Load::new(side.size(body), &side.peer, side.dir, side.flags)
    }

    /// The load of an entry that was read.
    pub fn of_entry(entry: &Entry) -> Load {
        let bytes = ENTRY_BYTES + (entry.peer.len() + entry.meta.len() + entry.body.len()) as u64;
        Load::new(bytes, &entry.peer, entry.dir, entry.flags)
    }

    /// The load of an entry of which only the size was read.
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

/// The hash that distinguishes senders of waiting entries: FNV-1a of 32 bits. Two senders with the same hash share one limit.
pub(crate) fn sender(peer: &str) -> u32 {
    peer.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
