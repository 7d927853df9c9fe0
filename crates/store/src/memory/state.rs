//! What a store holds, in ordered maps, with every change recorded so that it can be taken back.

use crate::shape::{
    Batch, Entry, EntryId, Expect, KeyedRow, Kind, LogQuery, MapId, MapQuery, Millis, NewEntry, Owner, OwnerRow, Row,
    Side, Write,
};
use crate::span;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// A side, and what its owner sees instead of the common body.
#[derive(Clone, Debug)]
struct StoredSide {
    side: Side,
    body: Option<Bytes>,
}

#[derive(Clone, Debug)]
struct Stored {
    time: Millis,
    sides: [Option<StoredSide>; 2],
    body: Bytes,
}

type RowKey = (Owner, MapId, Bytes);
type Name = (Kind, Box<str>, Box<str>);

/// How to take back one change.
#[derive(Debug)]
enum Undo {
    Row(RowKey, Option<Row>),
    Blob(RowKey, Option<Bytes>),
    Entry(EntryId, Option<Stored>),
    Owner(Owner, Option<OwnerRow>),
    Dead(Owner, bool),
    Last(EntryId),
    NextOwner(Owner),
}

/// Why a batch is not applied.
pub(super) enum No {
    Refused(usize),
    Bug(&'static str),
}

/// Everything that is stored, and the way back.
#[derive(Debug, Default)]
pub(super) struct State {
    pub maps: Vec<(MapId, Box<str>)>,
    owners: BTreeMap<Owner, OwnerRow>,
    names: BTreeMap<Name, Owner>,
    rows: BTreeMap<RowKey, Row>,
    reverse: BTreeSet<(MapId, Bytes, Owner, Bytes)>,
    expires: BTreeSet<(Millis, RowKey)>,
    log: BTreeMap<EntryId, Stored>,
    by_owner: BTreeSet<(Owner, EntryId)>,
    blobs: BTreeMap<RowKey, Bytes>,
    /// Owners that were deleted; what they leave behind goes bit by bit.
    dead: BTreeSet<Owner>,
    pub last: EntryId,
    next_owner: Owner,
    undo: Vec<Undo>,
}

/// A list of changes that can be taken back.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<Undo>);

impl Changes {
    /// Makes later changes part of these.
    pub fn append(&mut self, later: Changes) {
        self.0.extend(later.0);
    }
}

impl State {
    pub fn next_owner(&self) -> Owner {
        self.next_owner.max(1)
    }

    /// Applies a batch, or leaves everything as it was.
    pub fn batch(&mut self, batch: &Batch) -> Result<(), No> {
        let first = batch.writes.iter().find_map(|w| if let Write::Log(e) = w { Some(e.id) } else { None });
        if first.is_some_and(|id| id <= self.last) {
            return Err(No::Bug("ids of log entries do not ascend"));
        }
        let mark = self.undo.len();
        for (i, write) in batch.writes.iter().enumerate() {
            match self.write(write, batch.now) {
                Ok(true) => {}
                Ok(false) => {
                    self.undo_to(mark);
                    return Err(No::Refused(i));
                }
                Err(rule) => {
                    self.undo_to(mark);
                    return Err(No::Bug(rule));
                }
            }
        }
        Ok(())
    }

    /// Ends a commit; gives the way back from it.
    pub fn commit(&mut self) -> Changes {
        Changes(std::mem::take(&mut self.undo))
    }

    /// Takes back everything since the last commit.
    pub fn rollback(&mut self) {
        self.undo_to(0);
    }

    /// Takes back a commit. The latest first.
    pub fn revert(&mut self, changes: Changes) {
        self.undo = changes.0;
        self.undo_to(0);
    }

    fn undo_to(&mut self, mark: usize) {
        let undone = self.undo.split_off(mark);
        for undo in undone.into_iter().rev() {
            match undo {
                Undo::Row(key, row) => _ = self.swap_row(key, row),
                Undo::Blob(key, data) => _ = self.swap_blob(key, data),
                Undo::Entry(id, entry) => _ = self.swap_entry(id, entry),
                Undo::Owner(owner, row) => _ = self.swap_owner(owner, row),
                Undo::Dead(owner, true) => _ = self.dead.insert(owner),
                Undo::Dead(owner, false) => _ = self.dead.remove(&owner),
                Undo::Last(last) => self.last = last,
                Undo::NextOwner(next) => self.next_owner = next,
            }
        }
    }

    /// `Ok(false)` is a refusal.
    fn write(&mut self, write: &Write, now: Millis) -> Result<bool, &'static str> {
        match write {
            Write::Create(row) => return self.create(row),
            Write::Disable { owner, disabled } => {
                let Some(row) = self.owners.get(owner) else { return Ok(false) };
                let row = OwnerRow { disabled: *disabled, ..row.clone() };
                self.set_owner(*owner, Some(row));
            }
            Write::Delete { owner } => {
                if !self.owners.contains_key(owner) {
                    return Ok(false);
                }
                self.set_owner(*owner, None);
                self.dead.insert(*owner);
                self.undo.push(Undo::Dead(*owner, false));
            }
            Write::Log(entry) => self.append(entry),
            Write::LogDelete { owner, ids } => ids.iter().for_each(|id| self.let_go(*owner, *id)),
            Write::LogTrim { owner, after, before, keep, limit } => {
                let span = (Bound::Excluded((*owner, *after)), Bound::Excluded((*owner, *before)));
                let gone: Vec<EntryId> = if after < before { self.by_owner.range(span) } else { Default::default() }
                    .map(|(_, id)| *id)
                    .filter(|id| self.side(*owner, *id).is_some_and(|s| s.side.flags & keep == 0))
                    .take(usize::try_from(*limit).unwrap_or(usize::MAX))
                    .collect();
                gone.into_iter().for_each(|id| self.let_go(*owner, id));
            }
            Write::LogEdit { owner, id, set, clear, meta, body } => self.edit(*owner, *id, |entry, side| {
                let alone = entry.sides.iter().flatten().count() == 1;
                let Some(own) = entry.sides.get_mut(side).and_then(Option::as_mut) else { return };
                own.side.flags = own.side.flags & !clear | set;
                if let Some(meta) = meta {
                    own.side.meta = meta.clone();
                }
                match body {
                    Some(body) if alone => entry.body = body.clone(),
                    Some(body) => own.body = Some(body.clone()),
                    None => {}
                }
            }),
            Write::Put { map, owner, key, row } => self.set_row((*owner, *map, key.clone()), row.clone()),
            Write::Clear { map, owner, prefix, limit } => {
                let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
                let gone = self.range(*map, *owner, MapQuery { prefix, limit, ..MapQuery::default() });
                gone.into_iter().for_each(|r| self.set_row((*owner, *map, r.key), None));
            }
            Write::Require { map, owner, key, expect } => {
                let row = self.rows.get(&(*owner, *map, key.clone())).filter(|r| !r.expired(now));
                return Ok(match expect {
                    Expect::Absent => row.is_none(),
                    Expect::Present => row.is_some(),
                    Expect::Value(value) => row.is_some_and(|r| r.value == value),
                });
            }
            Write::Take { map, owner, key, n } => {
                let key = (*owner, *map, key.clone());
                let Some(row) = self.rows.get(&key).filter(|r| !r.expired(now)) else { return Ok(false) };
                let Some((count, rest)) = row.count() else { return Ok(false) };
                let Some(left) = count.checked_sub(*n) else { return Ok(false) };
                let row = (left > 0).then(|| Row { value: Row::counted(left, rest).value, ..row.clone() });
                self.set_row(key, row);
            }
            Write::Blob { map, owner, key, data } => self.set_blob((*owner, *map, key.clone()), data.clone()),
        }
        Ok(true)
    }

    fn create(&mut self, row: &OwnerRow) -> Result<bool, &'static str> {
        if row.owner < self.next_owner() {
            return Err("the number of an owner is not new");
        }
        if self.names.contains_key(&name(row)) {
            return Ok(false);
        }
        self.undo.push(Undo::NextOwner(self.next_owner));
        self.next_owner = row.owner + 1;
        self.set_owner(row.owner, Some(row.clone()));
        Ok(true)
    }

    fn append(&mut self, new: &NewEntry) {
        self.undo.push(Undo::Last(self.last));
        self.last = new.id;
        let sides = new.sides.clone().map(|s| s.map(|side| StoredSide { side, body: None }));
        self.set_entry(new.id, Some(Stored { time: new.time, sides, body: new.body.clone() }));
    }

    fn side(&self, owner: Owner, id: EntryId) -> Option<&StoredSide> {
        self.log.get(&id)?.sides.iter().flatten().find(|s| s.side.owner == owner)
    }

    fn edit(&mut self, owner: Owner, id: EntryId, change: impl FnOnce(&mut Stored, usize)) {
        let Some(mut entry) = self.log.get(&id).cloned() else { return };
        let Some(at) = entry.sides.iter().position(|s| s.as_ref().is_some_and(|s| s.side.owner == owner)) else {
            return;
        };
        change(&mut entry, at);
        let left = entry.sides.iter().any(Option::is_some);
        self.set_entry(id, left.then_some(entry));
    }

    fn let_go(&mut self, owner: Owner, id: EntryId) {
        self.edit(owner, id, |entry, side| {
            if let Some(gone) = entry.sides.get_mut(side) {
                *gone = None;
            }
            // What only the one who went could see is not kept.
            if let Some(body) = entry.sides.iter_mut().flatten().find_map(|s| s.body.take()) {
                entry.body = body;
            }
        });
    }

    // --- the only places that change anything -----------------------------------------------------------------------

    fn set_row(&mut self, key: RowKey, row: Option<Row>) {
        let old = self.swap_row(key.clone(), row);
        self.undo.push(Undo::Row(key, old));
    }

    fn swap_row(&mut self, key: RowKey, row: Option<Row>) -> Option<Row> {
        let reverse = |row: &Row| row.reverse.clone().map(|r| (key.1, r, key.0, key.2.clone()));
        let expires = |row: &Row| row.expires.map(|at| (at, key.clone()));
        let (new_reverse, new_expires) = (row.as_ref().and_then(reverse), row.as_ref().and_then(expires));
        let old = match row {
            Some(row) => self.rows.insert(key.clone(), row),
            None => self.rows.remove(&key),
        };
        if let Some(reverse) = old.as_ref().and_then(reverse) {
            self.reverse.remove(&reverse);
        }
        if let Some(expires) = old.as_ref().and_then(expires) {
            self.expires.remove(&expires);
        }
        self.reverse.extend(new_reverse);
        self.expires.extend(new_expires);
        old
    }

    fn set_blob(&mut self, key: RowKey, data: Option<Bytes>) {
        let old = self.swap_blob(key.clone(), data);
        self.undo.push(Undo::Blob(key, old));
    }

    fn swap_blob(&mut self, key: RowKey, data: Option<Bytes>) -> Option<Bytes> {
        match data {
            Some(data) => self.blobs.insert(key, data),
            None => self.blobs.remove(&key),
        }
    }

    fn set_entry(&mut self, id: EntryId, entry: Option<Stored>) {
        let old = self.swap_entry(id, entry);
        self.undo.push(Undo::Entry(id, old));
    }

    fn swap_entry(&mut self, id: EntryId, entry: Option<Stored>) -> Option<Stored> {
        let owners = |e: &Stored| e.sides.iter().flatten().map(|s| (s.side.owner, id)).collect::<Vec<_>>();
        let old = self.log.remove(&id);
        for key in old.iter().flat_map(owners) {
            self.by_owner.remove(&key);
        }
        if let Some(entry) = entry {
            self.by_owner.extend(owners(&entry));
            self.log.insert(id, entry);
        }
        old
    }

    fn set_owner(&mut self, owner: Owner, row: Option<OwnerRow>) {
        let old = self.swap_owner(owner, row);
        self.undo.push(Undo::Owner(owner, old));
    }

    fn swap_owner(&mut self, owner: Owner, row: Option<OwnerRow>) -> Option<OwnerRow> {
        let old = self.owners.remove(&owner);
        if let Some(old) = &old {
            self.names.remove(&name(old));
        }
        if let Some(row) = row {
            self.names.insert(name(&row), owner);
            self.owners.insert(owner, row);
        }
        old
    }

    // --- what is done when idle -------------------------------------------------------------------------------------

    /// Removes at most `limit` things that have expired or belonged to somebody deleted. Returns whether there is more.
    pub fn tidy(&mut self, now: Millis, limit: usize) -> bool {
        let due: Vec<RowKey> =
            self.expires.iter().take_while(|(at, _)| *at <= now).take(limit).map(|(_, key)| key.clone()).collect();
        let mut room = limit - due.len();
        due.into_iter().for_each(|key| self.set_row(key, None));
        while room > 0 {
            let Some(owner) = self.dead.first().copied() else { return false };
            let all = (owner, MapId(0), Bytes::new())..=(owner, MapId(u16::MAX), Bytes::new());
            let rows: Vec<RowKey> = self.rows.range(all.clone()).take(room).map(|(k, _)| k.clone()).collect();
            room -= rows.len();
            rows.into_iter().for_each(|k| self.set_row(k, None));
            let blobs: Vec<RowKey> = self.blobs.range(all).take(room).map(|(k, _)| k.clone()).collect();
            room -= blobs.len();
            blobs.into_iter().for_each(|k| self.set_blob(k, None));
            let span = (owner, 0)..=(owner, EntryId::MAX);
            let ids: Vec<EntryId> = self.by_owner.range(span).take(room).map(|(_, id)| *id).collect();
            room -= ids.len();
            ids.into_iter().for_each(|id| self.let_go(owner, id));
            if room > 0 {
                self.dead.remove(&owner);
                self.undo.push(Undo::Dead(owner, true));
            }
        }
        true
    }

    // --- answers ----------------------------------------------------------------------------------------------------

    pub fn find(&self, kind: Kind, host: &str, name: &str) -> Option<OwnerRow> {
        let owner = self.names.get(&(kind, host.into(), name.into()))?;
        self.owners.get(owner).cloned()
    }

    pub fn owner(&self, owner: Owner) -> Option<OwnerRow> {
        self.owners.get(&owner).cloned()
    }

    pub fn owners(&self, kind: Kind, host: &str, past: Option<&str>, limit: usize) -> Vec<OwnerRow> {
        let from = match past {
            Some(name) => Bound::Excluded((kind, host.into(), name.into())),
            None => Bound::Included((kind, host.into(), "".into())),
        };
        self.names
            .range((from, Bound::Unbounded))
            .take_while(|((k, h, _), _)| *k == kind && **h == *host)
            .take(limit)
            .filter_map(|(_, owner)| self.owner(*owner))
            .collect()
    }

    pub fn load(&self, owner: Owner, limit: usize) -> Vec<KeyedRow> {
        let span = (owner, MapId(0), Bytes::new())..(owner, MapId(MapId::COLD), Bytes::new());
        self.rows.range(span).take(limit).map(keyed).collect()
    }

    pub fn row(&self, map: MapId, owner: Owner, key: &[u8]) -> Option<Row> {
        self.rows.get(&(owner, map, Bytes::copy_from_slice(key))).cloned()
    }

    pub fn range(&self, map: MapId, owner: Owner, q: MapQuery) -> Vec<KeyedRow> {
        let Some((from, to)) = span::of_keys(&q) else { return Vec::new() };
        let from = Bound::Included((owner, map, Bytes::from(from)));
        let rows = match to {
            Some(to) => self.rows.range((from, Bound::Excluded((owner, map, Bytes::from(to))))),
            None => self.rows.range((from, Bound::Excluded((owner, MapId(map.0.saturating_add(1)), Bytes::new())))),
        };
        match q.descending {
            true => rows.rev().take(q.limit).map(keyed).collect(),
            false => rows.take(q.limit).map(keyed).collect(),
        }
    }

    pub fn reverse(&self, map: MapId, key: &[u8], past: Option<(Owner, &[u8])>, limit: usize) -> Vec<KeyedRow> {
        let reverse = Bytes::copy_from_slice(key);
        let from = match past {
            Some((owner, key)) => Bound::Excluded((map, reverse.clone(), owner, Bytes::copy_from_slice(key))),
            None => Bound::Included((map, reverse.clone(), 0, Bytes::new())),
        };
        self.reverse
            .range((from, Bound::Unbounded))
            .take_while(|(m, r, _, _)| *m == map && *r == reverse)
            .filter(|(_, _, owner, _)| !self.dead.contains(owner))
            .take(limit)
            .filter_map(|(_, _, owner, key)| self.rows.get_key_value(&(*owner, map, key.clone())).map(keyed))
            .collect()
    }

    pub fn entry(&self, owner: Owner, id: EntryId) -> Option<Entry> {
        let entry = self.log.get(&id)?;
        let StoredSide { side, body } = self.side(owner, id)?;
        Some(Entry {
            id,
            time: entry.time,
            dir: side.dir,
            flags: side.flags,
            peer: side.peer.clone(),
            meta: side.meta.clone(),
            body: body.as_ref().unwrap_or(&entry.body).clone(),
        })
    }

    pub fn log(&self, owner: Owner, q: LogQuery) -> Vec<Entry> {
        let matching = |id: &EntryId| {
            let side = self.side(owner, *id).map(|s| &s.side);
            side.is_some_and(|s| s.flags & q.flags == q.flags && q.peer.is_none_or(|p| *s.peer == *p))
        };
        if q.after >= q.before {
            return Vec::new();
        }
        let span = (Bound::Excluded((owner, q.after)), Bound::Excluded((owner, q.before)));
        let ids = self.by_owner.range(span).map(|(_, id)| *id);
        let ids: Vec<EntryId> = match q.newest_first {
            true => ids.rev().filter(matching).take(q.limit).collect(),
            false => ids.filter(matching).take(q.limit).collect(),
        };
        ids.into_iter().filter_map(|id| self.entry(owner, id)).collect()
    }

    pub fn blob(&self, map: MapId, owner: Owner, key: &[u8]) -> Option<Bytes> {
        self.blobs.get(&(owner, map, Bytes::copy_from_slice(key))).cloned()
    }

    pub fn blobs(&self, map: MapId, owner: Owner, past: Option<&[u8]>, limit: usize) -> Vec<(Bytes, u64)> {
        let from = match past {
            Some(key) => Bound::Excluded((owner, map, Bytes::copy_from_slice(key))),
            None => Bound::Included((owner, map, Bytes::new())),
        };
        self.blobs
            .range((from, Bound::Unbounded))
            .take_while(|(k, _)| k.0 == owner && k.1 == map)
            .take(limit)
            .map(|(k, data)| (k.2.clone(), data.len() as u64))
            .collect()
    }
}

fn keyed((key, row): (&RowKey, &Row)) -> KeyedRow {
    KeyedRow { owner: key.0, map: key.1, key: key.2.clone(), row: row.clone() }
}

fn name(row: &OwnerRow) -> Name {
    (row.kind, row.host.clone(), row.name.clone())
}
