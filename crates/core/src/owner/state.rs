//! What modules keep for an account: tables of rows, loaded with the account, changed only by commit.
//!
//! A handler reads what is committed. A change works on the newest value that was *submitted*, so that two clients that
//! edit at once lose nothing; it is staged until its stretch ends, pending until its batch is committed, and then it is
//! what everybody reads. One row per key: a list of ten thousand is never rewritten.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use crate::owner::cold::ColdWrites;
pub use crate::owner::key::Key;
use crate::small::rows::Rows;
use crate::store::{BatchId, MapId};

/// What can be the value of a row: stored as JSON, so that an operator can read it and a field can be added.
pub trait Value: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}

/// A table that a module keeps for each account: `m.account_map("blocklist")`.
pub struct Map<K, V> {
    pub(crate) at: usize,
    pub(crate) rows: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for Map<K, V> {}

/// A single value that a module keeps for each account.
pub type Cell<T> = Map<(), T>;

/// One change of one row, to go into a batch.
pub(crate) struct Row {
    pub map: MapId,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub reverse: Option<&'static str>,
}

/// One table of one account.
struct Table<K, V> {
    map: MapId,
    reverse: Option<&'static str>,
    committed: Rows<K, V>,
    /// by batch, in the order of their submission
    pending: Vec<(BatchId, Rows<K, Option<V>>)>,
    staged: Rows<K, Option<V>>,
}

impl<K: Key, V: Value> Table<K, V> {
    /// What is submitted or staged and not committed: the newest value of each row that it changes.
    fn changes(&self) -> BTreeMap<&K, Option<&V>> {
        self.in_order().flat_map(Rows::iter).map(|(key, value)| (key, value.as_ref())).collect()
    }

    /// What is submitted, then what is staged.
    fn in_order(&self) -> impl DoubleEndedIterator<Item = &Rows<K, Option<V>>> {
        self.pending.iter().map(|(_, rows)| rows).chain([&self.staged])
    }
}

pub(crate) trait AnyTable: Send {
    fn load(&mut self, key: &[u8], value: &[u8]) -> bool;
    fn submit(&mut self, batch: BatchId, rows: &mut Vec<Row>);
    fn discard(&mut self);
    fn complete(&mut self, batch: BatchId, committed: bool);
    /// Whether no row is committed.
    fn is_empty(&self) -> bool;
    /// Whether a row is staged that is not there yet.
    fn adds(&self) -> bool;
    /// Whether a row is staged to be removed.
    fn removes(&self) -> bool;
    fn any(&self) -> &dyn Any;
    fn any_mut(&mut self) -> &mut dyn Any;
}

impl<K: Key, V: Value> AnyTable for Table<K, V> {
    fn load(&mut self, key: &[u8], value: &[u8]) -> bool {
        match (K::from_bytes(key), serde_json::from_slice(value)) {
            (Some(key), Ok(value)) => {
                self.committed.insert(key, value);
                true
            }
            _ => false,
        }
    }

    fn submit(&mut self, batch: BatchId, rows: &mut Vec<Row>) {
        let mut staged = std::mem::take(&mut self.staged);
        let mut unwritten = Vec::new();
        for (key, value) in &staged {
            // A value of ours that JSON cannot hold would be a bug of its type; it is then not changed.
            let bytes = match value.as_ref().map(serde_json::to_vec).transpose() {
                Ok(bytes) => bytes,
                Err(_) => {
                    unwritten.push(key.clone());
                    continue;
                }
            };
            rows.push(Row { map: self.map, key: key.to_bytes(), value: bytes, reverse: self.reverse });
        }
        for key in unwritten {
            staged.remove(&key);
        }
        if !staged.is_empty() {
            self.pending.push((batch, staged));
        }
    }

    fn discard(&mut self) {
        self.staged = Rows::new();
    }

    fn complete(&mut self, batch: BatchId, committed: bool) {
        let Some(at) = self.pending.iter().position(|(of, _)| *of == batch) else { return };
        let (_, rows) = self.pending.remove(at);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        for (key, value) in rows.into_rows().filter(|_| committed) {
            match value {
                Some(value) => drop(self.committed.insert(key, value)),
                None => drop(self.committed.remove(&key)),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.committed.is_empty()
    }

    fn adds(&self) -> bool {
        self.staged.iter().any(|(key, value)| value.is_some() && !self.committed.contains_key(key))
    }

    fn removes(&self) -> bool {
        self.staged.iter().any(|(_, value)| value.is_none())
    }

    fn any(&self) -> &dyn Any {
        self
    }

    fn any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// A table that the store has not been told of yet.
pub(crate) const UNBOUND: MapId = MapId(u16::MAX);

/// How to make an empty table: what a module registered.
#[derive(Clone, Copy)]
pub(crate) struct TableKind {
    pub name: &'static str,
    /// the number the store gave it
    pub map: MapId,
    /// by this key its rows are found among all accounts
    pub reverse: Option<&'static str>,
    /// what is written to an account that has rows of it is judged by them
    pub guards: bool,
    pub(crate) make: fn(MapId, Option<&'static str>) -> Box<dyn AnyTable>,
}

impl TableKind {
    pub(crate) fn of<K: Key, V: Value>(name: &'static str) -> TableKind {
        TableKind {
            name,
            map: UNBOUND,
            reverse: None,
            guards: false,
            make: |map, reverse| {
                Box::new(Table::<K, V> {
                    map,
                    reverse,
                    committed: Rows::new(),
                    pending: Vec::new(),
                    staged: Rows::new(),
                })
            },
        }
    }
}

/// All tables of one account. One that has no rows takes no memory.
pub struct States {
    kinds: Arc<Vec<TableKind>>,
    /// those that were needed, each with its place among the kinds, in that order
    tables: Vec<(usize, Box<dyn AnyTable>)>,
    staged: bool,
    /// the batches that hold rows of this account and are not written yet
    pending: SmallVec<[BatchId; 1]>,
    /// how often what was staged came to nothing
    undone: u32,
}

/// What a table that was never needed has.
struct Nothing<K, V>(PhantomData<(K, V)>);

impl<K: 'static, V: 'static> Nothing<K, V> {
    const ROWS: &'static Rows<K, V> = &Rows::new();
}

impl States {
    pub(crate) fn new(kinds: Arc<Vec<TableKind>>) -> States {
        States { kinds, tables: Vec::new(), staged: false, pending: SmallVec::new(), undone: 0 }
    }

    /// A row from the store. Says no if it cannot be read: it is then left alone.
    pub(crate) fn load(&mut self, at: usize, key: &[u8], value: &[u8]) -> bool {
        at < self.kinds.len() && self.needed(at).load(key, value)
    }

    fn needed(&mut self, at: usize) -> &mut dyn AnyTable {
        let place = match self.tables.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(place) => place,
            Err(place) => {
                let kind = &self.kinds[at];
                // Most accounts need one or two.
                self.tables.reserve_exact(1);
                self.tables.insert(place, (at, (kind.make)(kind.map, kind.reverse)));
                place
            }
        };
        &mut *self.tables[place].1
    }

    fn table<K: Key, V: Value>(&self, map: Map<K, V>) -> Option<&Table<K, V>> {
        let (_, table) = self.tables.iter().find(|(at, _)| *at == map.at)?;
        Some(table.any().downcast_ref().expect("a handle is made with its table's types"))
    }

    /// Whether a batch that is on its way changes rows.
    pub(crate) fn is_changed_by(&self, batch: BatchId) -> bool {
        self.pending.contains(&batch)
    }

    /// The rows that are committed.
    pub fn rows<K: Key, V: Value>(&self, map: Map<K, V>) -> &Rows<K, V> {
        self.table(map).map_or(Nothing::ROWS, |table| &table.committed)
    }

    /// The committed value of a cell.
    pub fn get<T: Value>(&self, cell: Cell<T>) -> Option<&T> {
        self.rows(cell).get(&())
    }

    /// The newest rows: with everything that is staged or submitted. What is read together with them is told in the order of
    /// submissions, so that nobody misses a change that was submitted before.
    pub fn newest_rows<K: Key, V: Value>(&self, map: Map<K, V>) -> Cow<'_, Rows<K, V>> {
        let Some(table) = self.table(map) else { return Cow::Borrowed(Nothing::ROWS) };
        if table.pending.is_empty() && table.staged.is_empty() {
            return Cow::Borrowed(&table.committed);
        }
        let mut rows = table.committed.clone();
        for (key, value) in table.in_order().flat_map(Rows::iter) {
            match value {
                Some(value) => drop(rows.insert(key.clone(), value.clone())),
                None => drop(rows.remove(key)),
            }
        }
        Cow::Owned(rows)
    }

    /// The newest value of a row: staged, else submitted, else committed.
    pub fn newest<K: Key, V: Value>(&self, map: Map<K, V>, key: &K) -> Option<&V> {
        let table = self.table(map)?;
        match table.in_order().rev().find_map(|rows| rows.get(key)) {
            Some(value) => value.as_ref(),
            None => table.committed.get(key),
        }
    }

    /// How many rows there will be when all that is staged and pending is committed; for limits.
    pub fn newest_len<K: Key, V: Value>(&self, map: Map<K, V>) -> usize {
        let Some(table) = self.table(map) else { return 0 };
        let changes = table.changes();
        let before = changes.keys().filter(|k| table.committed.contains_key(**k)).count();
        table.committed.len() - before + changes.values().flatten().count()
    }

    /// The sum of a measure over the newest rows; for limits in bytes.
    pub fn newest_sum<K: Key, V: Value>(&self, map: Map<K, V>, measure: impl Fn(&K, &V) -> usize) -> usize {
        let mut sum = 0;
        self.newest_each(map, |key, value| sum += measure(key, value));
        sum
    }

    /// Each of the newest rows, in no order; without a copy of the table, as [`States::newest_rows`] makes one while anything
    /// waits for its commit.
    pub fn newest_each<K: Key, V: Value>(&self, map: Map<K, V>, mut each: impl FnMut(&K, &V)) {
        let Some(table) = self.table(map) else { return };
        let changes = table.changes();
        for (key, value) in &table.committed {
            if changes.is_empty() || !changes.contains_key(key) {
                each(key, value);
            }
        }
        changes.iter().filter_map(|(key, value)| Some((key, (*value)?))).for_each(|(key, value)| each(key, value));
    }

    /// The keys of the newest rows.
    pub fn newest_keys<K: Key, V: Value>(&self, map: Map<K, V>) -> Vec<K> {
        let Some(table) = self.table(map) else { return Vec::new() };
        let changes = table.changes();
        let same = table.committed.keys().filter(|k| !changes.contains_key(k));
        let changed = changes.iter().filter(|(_, v)| v.is_some()).map(|(k, _)| *k);
        let mut keys: Vec<K> = same.chain(changed).cloned().collect();
        keys.sort();
        keys
    }

    /// Sets a row to a value, or removes it, when the stretch's batch is committed.
    pub fn stage<K: Key, V: Value>(&mut self, map: Map<K, V>, key: K, value: Option<V>) {
        let table: &mut Table<K, V> =
            self.needed(map.at).any_mut().downcast_mut().expect("a handle is made with its table's types");
        table.staged.insert(key, value);
        self.staged = true;
    }

    pub(crate) fn submit(&mut self, batch: BatchId, rows: &mut Vec<Row>) {
        if !std::mem::take(&mut self.staged) {
            return;
        }
        for (_, table) in &mut self.tables {
            table.submit(batch, rows);
        }
        self.pending.push(batch);
    }

    /// Whether anything is staged.
    pub(crate) fn is_staged(&self) -> bool {
        self.staged
    }

    /// Whether what is staged, with what is written besides, only adds to what is kept: it has a row that is not there yet, and
    /// removes none. `except` is a table that does not count.
    pub(crate) fn only_adds(&self, except: usize, cold: Option<&ColdWrites>) -> bool {
        let tables = || self.tables.iter().filter(|(at, _)| *at != except).map(|(_, table)| table);
        let adds = cold.is_some_and(ColdWrites::adds) || tables().any(|table| table.adds());
        adds && !cold.is_some_and(ColdWrites::removes) && !tables().any(|table| table.removes())
    }

    pub(crate) fn discard(&mut self) {
        self.undone = self.undone.wrapping_add(u32::from(self.staged));
        self.staged = false;
        for (_, table) in &mut self.tables {
            table.discard();
        }
    }

    /// A batch is committed, or came to nothing. Whether it held rows of this account.
    pub(crate) fn complete(&mut self, batch: BatchId, committed: bool) -> bool {
        let Some(at) = self.pending.iter().position(|pending| *pending == batch) else { return false };
        self.pending.remove(at);
        self.undone = self.undone.wrapping_add(u32::from(!committed));
        for (_, table) in &mut self.tables {
            table.complete(batch, committed);
        }
        true
    }

    /// Whether a table has rows by which what is written to the account's sessions is judged.
    pub(crate) fn guards(&self) -> bool {
        self.tables.iter().any(|(at, table)| self.kinds[*at].guards && !table.is_empty())
    }

    /// Changes when something that was staged came to nothing: what was counted with it is counted anew.
    pub(crate) fn undone(&self) -> u32 {
        self.undone
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell as Count;
    use std::cmp::Ordering;

    use super::*;

    thread_local! {
        static COMPARED: Count<u64> = const { Count::new(0) };
    }

    /// A key that counts how often it is compared.
    #[derive(Clone, Debug)]
    struct Counting(u64);

    impl Ord for Counting {
        fn cmp(&self, other: &Counting) -> Ordering {
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counting {
        fn partial_cmp(&self, other: &Counting) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl PartialEq for Counting {
        fn eq(&self, other: &Counting) -> bool {
            self.cmp(other) == Ordering::Equal
        }
    }

    impl Eq for Counting {}

    impl Key for Counting {
        fn to_bytes(&self) -> Vec<u8> {
            self.0.to_bytes()
        }
        fn from_bytes(bytes: &[u8]) -> Option<Counting> {
            u64::from_bytes(bytes).map(Counting)
        }
    }

    fn table() -> (States, Map<Counting, u64>) {
        let states = States::new(Arc::new(vec![TableKind::of::<Counting, u64>("counting")]));
        (states, Map { at: 0, rows: PhantomData })
    }

    #[test]
    fn many_rows_in_one_batch_are_looked_for_and_not_gone_through() {
        const ROWS: u64 = 2_000;
        let (mut states, map) = table();
        COMPARED.set(0);
        for key in (0..ROWS).map(Counting) {
            assert_eq!(states.newest(map, &key), None);
            states.stage(map, key, Some(1));
        }
        let mut rows = Vec::new();
        states.submit(BatchId(1), &mut rows);
        assert_eq!(rows.len() as u64, ROWS);
        for key in (0..ROWS).map(Counting) {
            assert_eq!(states.newest(map, &key), Some(&1));
            states.stage(map, key, None);
        }
        states.submit(BatchId(2), &mut rows);
        states.complete(BatchId(1), true);
        states.complete(BatchId(2), true);
        assert!(states.rows(map).is_empty());
        // Twelve lookups and changes of each, of some twenty comparisons; gone through, it would be a thousand for each.
        assert!(COMPARED.get() < ROWS * 300, "{}", COMPARED.get());
    }

    #[test]
    fn the_newest_is_what_was_staged_last_and_comes_to_nothing_with_its_batch() {
        let (mut states, map) = table();
        let key = Counting(1);
        let mut rows = Vec::new();
        states.stage(map, key.clone(), Some(1));
        states.stage(map, key.clone(), Some(2));
        states.submit(BatchId(1), &mut rows);
        // One row, as it shall be.
        assert_eq!(rows.iter().map(|row| row.value.clone()).collect::<Vec<_>>(), [Some(b"2".to_vec())]);
        states.stage(map, key.clone(), None);
        assert_eq!((states.newest(map, &key), states.newest_len(map)), (None, 0));
        states.submit(BatchId(2), &mut rows);
        states.stage(map, key.clone(), Some(3));
        assert_eq!(states.newest(map, &key), Some(&3));
        states.discard();
        assert_eq!(states.newest(map, &key), None);
        states.complete(BatchId(2), false);
        assert_eq!(states.newest(map, &key), Some(&2));
        assert_eq!(states.rows(map).len(), 0);
        states.complete(BatchId(1), true);
        assert_eq!(states.rows(map).get(&key), Some(&2));
    }
}
