//! The rules of the interface that every backend checks before it touches anything.

use crate::shape::{Batch, EntryId, MAX_BLOB, MAX_KEY, MapId, NewEntry, Owner, Write};
use bytes::Bytes;

/// Numbers are kept as signed 64-bit integers.
const MAX_NUMBER: u64 = i64::MAX as u64;

/// Checks a batch; the error says which rule its maker broke. `known` tells whether a map has been named.
pub(crate) fn batch(batch: &Batch, known: impl Fn(MapId) -> bool) -> Result<(), &'static str> {
    let mut last = 0;
    for write in &batch.writes {
        one(write, &known, &mut last)?;
    }
    Ok(())
}

fn one(write: &Write, known: &impl Fn(MapId) -> bool, last: &mut EntryId) -> Result<(), &'static str> {
    match write {
        Write::Create(row) => number(row.owner).and_then(|()| number(row.created)),
        Write::Disable { owner, .. } | Write::Delete { owner } => number(*owner),
        Write::Log(entry) => log(entry, last),
        Write::LogDelete { owner, ids } => {
            number(*owner)?;
            ids.iter().try_for_each(|id| number(*id))
        }
        Write::LogTrim { owner, .. } => number(*owner),
        Write::LogEdit { owner, id, .. } => number(*owner).and_then(|()| number(*id)),
        Write::Put { map, owner, key, row } => {
            row_key(*map, *owner, key, known)?;
            let Some(row) = row else { return Ok(()) };
            row.expires.map_or(Ok(()), number)?;
            bytes(row.reverse.as_ref().map_or(0, Bytes::len), MAX_KEY, "a reverse key is longer than MAX_KEY")?;
            bytes(row.value.len(), MAX_BLOB, "a row is larger than MAX_BLOB")
        }
        Write::Clear { map, owner, prefix, .. } => row_key(*map, *owner, prefix, known),
        Write::Require { map, owner, key, .. } | Write::Take { map, owner, key, .. } => {
            row_key(*map, *owner, key, known)
        }
        Write::Blob { map, owner, key, data } => {
            row_key(*map, *owner, key, known)?;
            bytes(data.as_ref().map_or(0, Bytes::len), MAX_BLOB, "a blob is larger than MAX_BLOB")
        }
    }
}

fn log(entry: &NewEntry, last: &mut EntryId) -> Result<(), &'static str> {
    number(entry.id)?;
    number(entry.time)?;
    if entry.id <= *last {
        return Err("ids of log entries do not ascend");
    }
    *last = entry.id;
    match &entry.sides {
        [None, None] => return Err("a log entry without an owner"),
        [Some(a), Some(b)] if a.owner == b.owner => return Err("a log entry with the same owner twice"),
        _ => {}
    }
    entry.sides.iter().flatten().try_for_each(|side| number(side.owner))
}

fn row_key(map: MapId, owner: Owner, key: &[u8], known: &impl Fn(MapId) -> bool) -> Result<(), &'static str> {
    number(owner)?;
    if !known(map) {
        return Err("a map without a name");
    }
    bytes(key.len(), MAX_KEY, "a key is longer than MAX_KEY")
}

fn number(n: u64) -> Result<(), &'static str> {
    if n <= MAX_NUMBER { Ok(()) } else { Err("a number is not below 2^63") }
}

fn bytes(len: usize, max: usize, rule: &'static str) -> Result<(), &'static str> {
    if len <= max { Ok(()) } else { Err(rule) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Direction, Side};

    fn side(owner: Owner) -> Option<Side> {
        Some(Side { owner, dir: Direction::Sent, flags: 0, peer: "p".into(), meta: Bytes::new() })
    }

    fn checked(writes: Vec<Write>) -> Result<(), &'static str> {
        batch(&Batch { writes, ..Batch::default() }, |map| map == MapId(1))
    }

    fn entry(id: EntryId, sides: [Option<Side>; 2]) -> Write {
        Write::Log(Box::new(NewEntry { id, time: 1, sides, body: Bytes::new() }))
    }

    fn put(map: u16, owner: Owner, key: usize) -> Write {
        Write::Put { map: MapId(map), owner, key: vec![0; key].into(), row: None }
    }

    #[test]
    fn each_broken_rule_is_named() {
        assert_eq!(checked(vec![entry(1, [None, None])]), Err("a log entry without an owner"));
        assert_eq!(checked(vec![entry(1, [side(7), side(7)])]), Err("a log entry with the same owner twice"));
        let twice = vec![entry(2, [side(7), None]), entry(2, [side(7), None])];
        assert_eq!(checked(twice), Err("ids of log entries do not ascend"));
        assert_eq!(checked(vec![put(2, 1, 1)]), Err("a map without a name"));
        assert_eq!(checked(vec![put(1, 1 << 63, 1)]), Err("a number is not below 2^63"));
        assert_eq!(checked(vec![put(1, 1, MAX_KEY + 1)]), Err("a key is longer than MAX_KEY"));
        let blob = Write::Blob { map: MapId(1), owner: 1, key: Bytes::new(), data: Some(vec![0; MAX_BLOB + 1].into()) };
        assert_eq!(checked(vec![blob]), Err("a blob is larger than MAX_BLOB"));
    }

    #[test]
    fn what_keeps_the_rules_passes() {
        assert_eq!(checked(vec![entry(1, [side(7), side(8)]), put(1, 1, MAX_KEY)]), Ok(()));
    }
}
