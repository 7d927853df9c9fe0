//! The end of the log that is not indexed yet: which entries belong to whom, in memory.
//!
//! *Invariant:* for each owner, what is in the index lies below what is in the tail; together they are the owner's log.

use crate::shape::{EntryId, Owner};
use std::collections::BTreeMap;

/// An entry of an owner, and the hash of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ref {
    pub id: EntryId,
    pub peer: i64,
    /// How many bytes of the owner's archive it takes; 0 if it is not archived.
    pub archived: u32,
}

/// The unindexed entries of all owners.
#[derive(Debug, Default)]
pub(super) struct Tail {
    by_owner: BTreeMap<Owner, Vec<Ref>>,
    refs: usize,
    /// The newest entry the tail knows of. What a reader finds above it has been committed since.
    pub last: EntryId,
}

impl Tail {
    /// How many entries, counted once for each owner.
    pub fn len(&self) -> usize {
        self.refs
    }

    /// Appends an entry; its id is above all that are there.
    pub fn push(&mut self, owner: Owner, entry: Ref) {
        self.by_owner.entry(owner).or_default().push(entry);
        self.refs += 1;
    }

    /// Removes entries of one owner, of those that are there.
    pub fn remove(&mut self, gone: &[(Owner, EntryId)]) {
        let Some((owner, _)) = gone.first() else { return };
        let Some(refs) = self.by_owner.get_mut(owner) else { return };
        let mut gone: Vec<EntryId> = gone.iter().map(|(_, id)| *id).collect();
        gone.sort_unstable();
        let before = refs.len();
        refs.retain(|r| gone.binary_search(&r.id).is_err());
        self.refs -= before - refs.len();
        if refs.is_empty() {
            self.by_owner.remove(owner);
        }
    }

    /// An entry takes another part of its owner's archive from now on.
    pub fn resize(&mut self, owner: Owner, id: EntryId, archived: u32) {
        let Some(refs) = self.by_owner.get_mut(&owner) else { return };
        if let Ok(at) = refs.binary_search_by_key(&id, |r| r.id)
            && let Some(entry) = refs.get_mut(at)
        {
            entry.archived = archived;
        }
    }

    /// An owner's entries.
    pub fn of(&self, owner: Owner) -> &[Ref] {
        self.by_owner.get(&owner).map_or(&[], Vec::as_slice)
    }

    /// An owner's entries between two ids.
    pub fn between(&self, owner: Owner, after: EntryId, before: EntryId) -> &[Ref] {
        let all = self.of(owner);
        let from = all.partition_point(|r| r.id <= after);
        let to = all.partition_point(|r| r.id < before);
        all.get(from..to).unwrap_or_default()
    }

    /// The first `limit` entries up to `to` (included), by owner from `from` on, and by id.
    pub fn piece(&self, from: Owner, to: EntryId, limit: usize) -> Vec<(Owner, Vec<Ref>)> {
        let mut room = limit;
        let mut piece = Vec::new();
        for (owner, refs) in self.by_owner.range(from..) {
            let refs: Vec<Ref> = refs.iter().take_while(|r| r.id <= to).take(room).copied().collect();
            room -= refs.len();
            if !refs.is_empty() {
                piece.push((*owner, refs));
            }
            if room == 0 {
                break;
            }
        }
        piece
    }

    /// Drops what [`Tail::piece`] has returned.
    pub fn drop_piece(&mut self, piece: &[(Owner, Vec<Ref>)]) {
        for (owner, gone) in piece {
            let Some(refs) = self.by_owner.get_mut(owner) else { continue };
            refs.drain(..gone.len().min(refs.len()));
            self.refs -= gone.len();
            if refs.is_empty() {
                self.by_owner.remove(owner);
            }
        }
    }
}

/// The hash by which a peer is indexed: FNV-1a of 64 bits, the same for ever. Rows are compared when read, so peers with
/// the same hash only cost time.
pub(super) fn peer_hash(peer: &str) -> i64 {
    let hash = peer
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    i64::from_be_bytes(hash.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail {
        let mut tail = Tail::default();
        for (id, owner) in [(1, 5), (2, 3), (3, 5), (4, 5), (5, 9)] {
            tail.push(owner, Ref { id, peer: 0, archived: 0 });
        }
        tail
    }

    fn ids(piece: &[(Owner, Vec<Ref>)]) -> Vec<(Owner, Vec<EntryId>)> {
        piece.iter().map(|(o, refs)| (*o, refs.iter().map(|r| r.id).collect())).collect()
    }

    #[test]
    fn pieces_cover_the_tail_by_owner_and_may_split_one() {
        let mut tail = tail();
        let first = tail.piece(0, 4, 3);
        assert_eq!(ids(&first), [(3, vec![2]), (5, vec![1, 3])]);
        tail.drop_piece(&first);
        let second = tail.piece(5, 4, 3);
        assert_eq!(ids(&second), [(5, vec![4])]);
        tail.drop_piece(&second);
        assert_eq!((tail.len(), tail.of(9).len(), tail.of(5).len()), (1, 1, 0));
    }

    #[test]
    fn what_is_removed_is_not_counted_and_a_stranger_is_passed_over() {
        let mut tail = tail();
        tail.remove(&[(5, 99), (5, 3)]);
        tail.remove(&[(77, 1)]);
        assert_eq!((tail.len(), tail.of(5).len()), (4, 2));
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(peer_hash(""), i64::from_be_bytes(0xcbf2_9ce4_8422_2325_u64.to_be_bytes()));
        assert_eq!(peer_hash("a"), i64::from_be_bytes(0xaf63_dc4c_8601_ec8c_u64.to_be_bytes()));
    }
}
