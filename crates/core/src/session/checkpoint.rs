//! What was sent to a session, by number, as it is stored. Whoever stores it is `commit/checkpoint.rs`.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::session::flags::SessionId;
use crate::store::EntryId;

/// Maximum number of stanzas of one session whose entries are stored. What was sent beyond it comes again after a restart.
const MAX_LISTED: usize = 1_024;

/// Stanzas that may have been sent after the newest row, if the server did not stop in order: what an `h` may claim beyond the
/// row. A row is due after fewer, and a commit at least once a second.
const MAX_UNLISTED: u64 = 100_000;

/// After so many stanzas that are in no log a row is due all the same.
pub(crate) const DUE_AFTER: u64 = 1_000;

const VERSION: u8 = 1;

/// A stanza that was sent and is not known to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// it is not in the log
    Unlogged,
    /// it is this entry
    Entry {
        /// the entry
        id: EntryId,
        /// whoever takes it takes it for all: it is no copy
        owed: bool,
    },
    /// it is the answer to the client's IQ of this number, as `h` counts it ([`crate::session::answers`])
    Answer {
        /// the number
        n: u64,
    },
}

/// What is known of what was sent to a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// the run of the server that stopped in order with this; 0 if none did
    pub run: u64,
    /// the number of the newest stanza that was acknowledged
    pub acked: u64,
    /// the client has every entry up to here that was meant for it
    pub cursor: EntryId,
    /// entries above that, or planned for another, which it has, ascending, and whether it took them for all
    pub taken: Vec<(EntryId, bool)>,
    /// what has the numbers from `acked + 1` on
    pub sent: SmallVec<[Sent; 8]>,
}

/// A row while it is written: most are short.
type Coded = SmallVec<[u8; 96]>;

impl Checkpoint {
    pub fn encode(&self) -> Bytes {
        let mut out: Coded = SmallVec::new();
        out.push(VERSION);
        for number in [self.run, self.acked, self.cursor, self.taken.len() as u64] {
            put(&mut out, number);
        }
        let mut before = self.cursor;
        let mut put_entry = |out: &mut Coded, id: EntryId, owed: bool| {
            out.push(if owed { 1 } else { 2 });
            put(out, zigzag(id.wrapping_sub(before).cast_signed()));
            before = id;
        };
        self.taken.iter().for_each(|(id, owed)| put_entry(&mut out, *id, *owed));
        for sent in &self.sent {
            match *sent {
                Sent::Unlogged => out.push(0),
                Sent::Answer { n } => {
                    out.push(3);
                    put(&mut out, n);
                }
                Sent::Entry { id, owed } => put_entry(&mut out, id, owed),
            }
        }
        Bytes::from_owner(out)
    }

    /// Nothing for what an older or newer version wrote differently.
    pub fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let rest = &mut rest;
        let (run, acked, cursor, count) = (get(rest)?, get(rest)?, get(rest)?, get(rest)?);
        let mut before = cursor;
        let mut next = |rest: &mut &[u8]| {
            let (kind, tail) = rest.split_first()?;
            *rest = tail;
            match *kind {
                0 => return Some(Sent::Unlogged),
                3 => return Some(Sent::Answer { n: get(rest)? }),
                _ => {}
            }
            before = before.wrapping_add(unzigzag(get(rest)?).cast_unsigned());
            (*kind <= 2).then_some(Sent::Entry { id: before, owed: *kind == 1 })
        };
        let mut taken = Vec::new();
        for _ in 0..count {
            let Sent::Entry { id, owed } = next(rest)? else { return None };
            taken.push((id, owed));
        }
        let mut sent = SmallVec::new();
        while !rest.is_empty() {
            sent.push(next(rest)?);
        }
        Some(Checkpoint { run, acked, cursor, taken, sent })
    }

    /// The client has an entry that the cursor does not say.
    pub fn took(&mut self, entry: EntryId, owed: bool) {
        match self.taken.binary_search_by_key(&entry, |(id, _)| *id) {
            // As a copy, and as the message.
            Ok(at) => self.taken[at].1 |= owed,
            Err(at) if self.taken.len() < MAX_LISTED => self.taken.insert(at, (entry, owed)),
            Err(_) => {}
        }
    }

    /// Whether a client can have handled `h`. `exact` says whether nothing was sent after this.
    pub fn can_have(&self, h: u32, exact: bool) -> bool {
        let unlisted = if exact { 0 } else { MAX_UNLISTED };
        u64::from(h.wrapping_sub(self.acked as u32)) <= self.sent.len() as u64 + unlisted
    }
}

/// The longest number, in bytes of seven bits.
const MAX_CODED: usize = 10;

/// Seven bits to a byte, the lowest first.
fn put(out: &mut Coded, mut number: u64) {
    if number < 0x80 {
        out.push(number as u8);
        return;
    }
    let (mut bytes, mut len) = ([0; MAX_CODED], 1);
    for byte in &mut bytes {
        *byte = number as u8 | 0x80;
        number >>= 7;
        if number == 0 {
            *byte &= 0x7f;
            break;
        }
        len += 1;
    }
    out.extend_from_slice(bytes.get(..len).unwrap_or_default());
}

fn get(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// The key of a session's row.
pub(crate) fn key(id: SessionId) -> Bytes {
    let mut key = [b's'; 9];
    key[..8].copy_from_slice(&id.to_be_bytes());
    Bytes::from_owner(key)
}

/// The first of what was sent, and whether that is all.
pub(crate) fn listed(mut sent: impl Iterator<Item = Sent>) -> (SmallVec<[Sent; 8]>, bool) {
    let first = sent.by_ref().take(MAX_LISTED).collect();
    (first, sent.next().is_none())
}

/// Which run of the server this is, among all there were, and whether it stops.
#[derive(Default)]
pub(crate) struct Runs {
    run: AtomicU64,
    stopping: AtomicBool,
}

impl Runs {
    /// The number of this run.
    pub fn number(&self) -> u64 {
        self.run.load(Ordering::Relaxed)
    }

    /// This run has begun.
    pub fn begin(&self, number: u64) {
        self.run.store(number, Ordering::Relaxed);
    }

    /// Whether the server stops: nothing more is sent.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The server stops.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether a row that was written by a run of this number at its orderly stop was the last word: no other run came after it.
    pub fn is_exact(&self, run: u64) -> bool {
        run != 0 && run + 1 == self.number()
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let entry = |id, owed| Sent::Entry { id, owed };
        let full = Checkpoint {
            run: 7,
            acked: u64::from(u32::MAX) + 5,
            cursor: 1_767_225_600_000_000,
            taken: vec![(1_767_225_600_000_009, true), (1_767_225_600_012_345, false)],
            sent: smallvec![
                Sent::Unlogged,
                entry(1_767_225_600_000_300, true),
                Sent::Answer { n: 1 << 33 },
                entry(3, false),
                entry(i64::MAX as u64, true),
            ],
        };
        for row in [full.clone(), Checkpoint::default()] {
            assert_eq!(Checkpoint::decode(&row.encode()), Some(row));
        }
        let bytes = full.encode();
        for cut in 0..bytes.len() {
            // Never a panic, nor more than there is.
            assert!(Checkpoint::decode(&bytes[..cut]).is_none_or(|row| row.sent.len() < full.sent.len()));
        }
    }

    #[test]
    fn what_is_too_much_for_a_row_is_not_said_to_be_all() {
        let listed = |count| {
            let (first, all) = listed(std::iter::repeat_n(Sent::Unlogged, count));
            (first.len(), all)
        };
        assert_eq!([0, MAX_LISTED, MAX_LISTED + 1].map(listed), [(0, true), (MAX_LISTED, true), (MAX_LISTED, false)]);
    }

    #[test]
    fn an_h_may_claim_what_was_sent_and_after_a_crash_some_more() {
        let row =
            Checkpoint { acked: u64::from(u32::MAX), sent: smallvec![Sent::Unlogged; 3], ..Checkpoint::default() };
        let can = |exact| [u32::MAX - 1, u32::MAX, 2, 3, 99_999, 200_000].map(|h| row.can_have(h, exact));
        assert_eq!(can(true), [false, true, true, false, false, false]);
        assert_eq!(can(false), [false, true, true, true, true, false]);
    }
}
