//! XEP-0359: Unique and Stable Stanza IDs.
//!
//! The id by which an account's archive knows a message: the id of its entry in the log, encrypted under a key of the
//! account. So it is the same wherever it is told, is never given twice, says nothing of the archive's size or of other
//! messages (§6), and is found again without an index. Only what the archive keeps has one.
//!
//! The key is made from the store's secret and the account's number, which is never used again. The cipher is a Feistel
//! network of four rounds over 64 bits, its round function a block of SHA-256 under the key.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;
use vorpal_proto::stanza::Stanza;

use crate::store::{EntryId, Owner};

/// The key of one account's ids.
#[derive(Clone, Copy)]
pub struct IdKey([u8; 32]);

const ROUNDS: u8 = 4;

impl IdKey {
    pub(crate) fn new(secret: &[u8; 32], owner: Owner) -> IdKey {
        let mut hash = Sha256::new_with_prefix(secret);
        hash.update(b"stanza-id");
        hash.update(owner.to_be_bytes());
        IdKey(hash.finalize().into())
    }

    /// The id that is told, of an entry of this account: 16 digits of base 16.
    pub fn tell(&self, entry: EntryId) -> String {
        self.digits(entry).map(char::from).iter().collect()
    }

    fn digits(&self, entry: EntryId) -> [u8; 16] {
        let [mut left, mut right] = halves(entry);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        let told = u64::from(left) << 32 | u64::from(right);
        let digit = |at: usize| match (told >> (60 - 4 * at) & 0xf) as u8 {
            low @ 0..=9 => b'0' + low,
            high => b'a' + high - 10,
        };
        std::array::from_fn(digit)
    }

    /// The entry of an id that was told; something else, or nothing, for any other text.
    pub fn read(&self, id: &str) -> Option<EntryId> {
        let plain = id.len() == 16 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let [mut left, mut right] = halves(u64::from_str_radix(id, 16).ok().filter(|_| plain)?);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        Some(u64::from(left) << 32 | u64::from(right))
    }

    fn round(&self, round: u8, half: u32) -> u32 {
        // A message of one length under a key in front of it: one block, and nothing to be extended.
        let mut hash = Sha256::new_with_prefix(self.0);
        hash.update([round]);
        hash.update(half.to_be_bytes());
        let out: [u8; 32] = hash.finalize().into();
        out.first_chunk().map_or(0, |four| u32::from_be_bytes(*four))
    }
}

impl IdKey {
    /// Adds the id of an entry to a stanza, in the name of the account that it belongs to (§2.1).
    pub(crate) fn stamp(&self, by: &BareJid, stanza: &mut Stanza, entry: EntryId) {
        const WORDS: usize = "<stanza-id xmlns='urn:xmpp:sid:0' by='' id='0123456789abcdef'/>".len();
        // Allocated with its final length. Nothing in a bare address needs escaping (RFC 7622 §3.2, §3.3).
        let mut raw = Vec::with_capacity(WORDS + by.as_str().len());
        raw.extend_from_slice(b"<stanza-id xmlns='urn:xmpp:sid:0' by='");
        raw.extend_from_slice(by.as_str().as_bytes());
        raw.extend_from_slice(b"' id='");
        raw.extend_from_slice(&self.digits(entry));
        raw.extend_from_slice(b"'/>");
        stanza.append_written(ns::STANZA_ID, "stanza-id", Bytes::from(raw));
    }
}

fn halves(n: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = n.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

/// Rule 2 of §3: whoever sets `by` to an address removes what others have set it to, in all places.
pub fn strip(stanza: &mut Stanza, by: &str) {
    if stanza.has(ns::STANZA_ID, "stanza-id") {
        stanza.hide(ns::STANZA_ID, "stanza-id", |id| {
            id.get("by").is_some_and(|said| vorpal_proto::jid::Jid::parse(said).is_ok_and(|said| said.as_str() == by))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(owner: Owner) -> IdKey {
        IdKey::new(&[7; 32], owner)
    }

    #[test]
    fn an_id_is_read_back_and_only_by_its_account() {
        for entry in (0..64).map(|bit| 1u64 << bit).chain([0, 1_767_225_600_000_000, u64::MAX]) {
            assert_eq!(key(1).read(&key(1).tell(entry)), Some(entry));
            assert_ne!(key(2).read(&key(1).tell(entry)), Some(entry));
        }
        // It must never change: clients keep it.
        assert_eq!(key(1).tell(1_767_225_600_000_000), "bf63f1ac02ae2995");
    }

    #[test]
    fn what_was_not_told_is_no_id() {
        let told = key(1).tell(5);
        let long = format!("0{told}");
        for text in ["", "x", "+000000000000001", "00000000000000 1", &told.to_uppercase(), &long, &told[1..]] {
            assert!(key(1).read(text).is_none() || text == told, "{text}");
        }
    }

    #[test]
    fn neighbours_have_nothing_in_common() {
        let bits = |entry| u64::from_str_radix(&key(1).tell(entry), 16).expect("hex");
        let differ: u32 = (0..1000).map(|n| (bits(n) ^ bits(n + 1)).count_ones()).sum();
        assert!((30_000..34_000).contains(&differ), "{differ} of 64,000 bits");
    }
}
