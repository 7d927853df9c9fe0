//! Keys of rows: what they are made of, and the bytes that are stored.
//!
//! The bytes order as the keys do, so that a range of keys is a range of rows. A tuple is its parts one after the other, each
//! escaped and ended: `00` becomes `00 ff`, and `00 01` ends the part. So no part is mistaken for the beginning of a longer one,
//! and all keys that begin with the same parts begin with the same bytes ([`PrefixOf`]).

use vorpal_proto::jid::{BareJid, Jid};

/// The key of a row. The bytes order as the keys do. At most [`MAX_KEY`](crate::store::MAX_KEY) bytes are stored.
pub trait Key: Ord + Clone + Send + 'static {
    /// The stored form.
    fn to_bytes(&self) -> Vec<u8>;
    /// Reads the stored form; `None` if it is not one of this type.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Key for () {
    fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }
    fn from_bytes(_: &[u8]) -> Option<()> {
        Some(())
    }
}

impl Key for Jid {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_str().as_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Jid> {
        Jid::parse(std::str::from_utf8(bytes).ok()?).ok()
    }
}

impl Key for BareJid {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_str().as_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<BareJid> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
}

impl Key for String {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

impl Key for u64 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_part(&mut bytes, &self.0);
        push_part(&mut bytes, &self.1);
        bytes
    }
    fn from_bytes(bytes: &[u8]) -> Option<(A, B)> {
        let mut rest = bytes;
        let parts = (take_part(&mut rest)?, take_part(&mut rest)?);
        rest.is_empty().then_some(parts)
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_part(&mut bytes, &self.0);
        push_part(&mut bytes, &self.1);
        push_part(&mut bytes, &self.2);
        bytes
    }
    fn from_bytes(bytes: &[u8]) -> Option<(A, B, C)> {
        let mut rest = bytes;
        let parts = (take_part(&mut rest)?, take_part(&mut rest)?, take_part(&mut rest)?);
        rest.is_empty().then_some(parts)
    }
}

/// The first parts of a key of the type `K`: all rows whose keys have them. `()` stands for all rows.
pub trait PrefixOf<K: Key> {
    /// How the stored forms of these keys begin.
    fn prefix(&self) -> Vec<u8>;
}

impl<K: Key> PrefixOf<K> for () {
    fn prefix(&self) -> Vec<u8> {
        Vec::new()
    }
}

impl<A: Key, B: Key> PrefixOf<(A, B)> for (A,) {
    fn prefix(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_part(&mut bytes, &self.0);
        bytes
    }
}

impl<A: Key, B: Key, C: Key> PrefixOf<(A, B, C)> for (A,) {
    fn prefix(&self) -> Vec<u8> {
        PrefixOf::<(A, B)>::prefix(self)
    }
}

impl<A: Key, B: Key, C: Key> PrefixOf<(A, B, C)> for (A, B) {
    fn prefix(&self) -> Vec<u8> {
        self.to_bytes()
    }
}

/// Follows a zero byte that is part of a key. Above [`END`], so that a part is sorted behind those that it begins with.
const ESCAPED: u8 = 0xff;

/// Follows the zero byte that ends a part.
const END: u8 = 0x01;

fn push_part(bytes: &mut Vec<u8>, part: &impl Key) {
    for byte in part.to_bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(ESCAPED);
        }
    }
    bytes.extend([0, END]);
}

fn take_part<K: Key>(bytes: &mut &[u8]) -> Option<K> {
    let mut part = Vec::new();
    let mut rest = *bytes;
    loop {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        if *byte == 0 {
            let (kind, behind) = rest.split_first()?;
            rest = behind;
            match *kind {
                ESCAPED => {}
                END => break,
                _ => return None,
            }
        }
        part.push(*byte);
    }
    *bytes = rest;
    K::from_bytes(&part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Strings that share their beginnings, and have the bytes that are escaped and those beside them.
    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            proptest::collection::vec(prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), Just('\u{ff}')], 0..4)
                .prop_map(|chars| chars.into_iter().collect()),
            any::<String>(),
        ]
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..4u64, Just(0xff), Just(0x100), Just(0x01ff), Just(u64::MAX), any::<u64>()]
    }

    type Pair = (String, u64);
    type Triple = (u64, String, String);
    type Nested = ((String, String), String);

    proptest! {
        #[test]
        fn stored_keys_order_as_the_keys_and_are_read_again(
            pairs in proptest::array::uniform2((word(), number())),
            triples in proptest::array::uniform2((number(), word(), word())),
            nested in proptest::array::uniform2(((word(), word()), word())),
        ) {
            let [a, b] = &pairs;
            prop_assert_eq!(a.cmp(b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert_eq!(Pair::from_bytes(&a.to_bytes()), Some(a.clone()));
            let [a, b] = &triples;
            prop_assert_eq!(a.cmp(b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert_eq!(Triple::from_bytes(&a.to_bytes()), Some(a.clone()));
            let [a, b] = &nested;
            prop_assert_eq!(a.cmp(b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert_eq!(Nested::from_bytes(&a.to_bytes()), Some(a.clone()));
        }

        #[test]
        fn a_prefix_has_the_keys_with_its_parts_and_no_others(
            (one, two) in (word(), word()),
            key in (word(), word(), word()),
        ) {
            let bytes = key.to_bytes();
            let first = PrefixOf::<(String, String, String)>::prefix(&(one.clone(),));
            prop_assert_eq!(bytes.starts_with(&first), key.0 == one);
            let both = PrefixOf::<(String, String, String)>::prefix(&(one.clone(), two.clone()));
            prop_assert_eq!(bytes.starts_with(&both), key.0 == one && key.1 == two);
            prop_assert!(both.starts_with(&first) && both != first);
        }

        #[test]
        fn a_tuple_of_two_is_none_of_three_and_no_other_bytes_are_one(
            pair in (word(), word()),
            bytes in proptest::collection::vec(any::<u8>(), 0..24),
        ) {
            prop_assert_eq!(<(String, String, String)>::from_bytes(&pair.to_bytes()), None);
            prop_assert_eq!(<(String, String)>::from_bytes(&(pair.0.clone(), pair.1.clone(), String::new()).to_bytes()), None);
            // Whatever is read has exactly one form.
            if let Some(key) = <(String, String)>::from_bytes(&bytes) {
                prop_assert_eq!(key.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn the_stored_form_of_a_tuple_stays_as_it_is() {
        let key = ("a\0b".to_owned(), 1u64);
        let bytes = [&b"a\0\xffb\0\x01"[..], &[0, 0xff].repeat(7), &[1, 0, 1]].concat();
        assert_eq!(key.to_bytes(), bytes);
        assert_eq!(<(String, String)>::from_bytes(b"a\0\x02b\0\x01"), None, "neither escaped nor an end");
        assert_eq!(<(String, String)>::from_bytes(b"a\0\x01b"), None, "not ended");
    }
}
