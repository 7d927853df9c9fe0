//! Rows and blobs that are not loaded with their owner: written with a stretch's batch, read by jobs.
//!
//! A handler stages changes ([`IqCx::put`](crate::module::hook::IqCx::put) and its neighbours); they are part of the batch of its
//! stretch, behind which the answer waits. Nothing of them is in memory: what has to be decided under the lock (limits, whether there is
//! a row at all) is kept in a table beside it that is loaded ([`crate::owner::state`]). A job reads them through [`ColdRows`] and
//! [`ColdBlobs`]; it sees what is committed.
//!
//! A batch may have conditions on rows. If one does not hold the store refuses the batch, and the handler's error is the answer: see
//! `commit/refusal.rs`.

use std::any::TypeId;
use std::marker::PhantomData;

use bytes::Bytes;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::StanzaError;

use crate::owner::key::{Key, PrefixOf};
use crate::owner::state::Value;
use crate::session::inquiries::{Committed, ReadError};
use crate::store::{MAX_BLOB, MAX_KEY, MapId, MapQuery, Owner, Row, StoreError, Write};

/// A table that is not loaded with its owner: what a module registered.
#[derive(Clone, Copy)]
pub(crate) struct ColdKind {
    pub name: &'static str,
    /// of its keys and values
    pub types: TypeId,
    /// the number the store gave it
    pub map: MapId,
}

/// The value of a cold row.
pub trait Stored: Sized + 'static {
    /// The stored form; `None` if the value has none, which is a bug of its type.
    fn encode(&self) -> Option<Bytes>;
    /// Reads the stored form; `None` if it is not one of this type.
    fn decode(bytes: &Bytes) -> Option<Self>;
}

/// A payload, stored as it is.
impl Stored for Bytes {
    fn encode(&self) -> Option<Bytes> {
        Some(self.clone())
    }
    fn decode(bytes: &Bytes) -> Option<Bytes> {
        Some(bytes.clone())
    }
}

/// A small value, stored as JSON: an operator can read it, and a field can be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Value> Stored for Json<T> {
    fn encode(&self) -> Option<Bytes> {
        serde_json::to_vec(&self.0).ok().map(Bytes::from)
    }
    fn decode(bytes: &Bytes) -> Option<Json<T>> {
        serde_json::from_slice(bytes).ok().map(Json)
    }
}

/// A value with a count that [`IqCx::take`](crate::module::hook::IqCx::take) lowers. The row is deleted with the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted<T> {
    /// how often it may still be taken
    pub count: u64,
    /// whatever else is stored
    pub rest: T,
}

impl<T: Stored> Stored for Counted<T> {
    fn encode(&self) -> Option<Bytes> {
        Some(Row::counted(self.count, &self.rest.encode()?).value)
    }
    fn decode(bytes: &Bytes) -> Option<Counted<T>> {
        let row = Row::from(bytes.clone());
        let (count, _) = row.count()?;
        Some(Counted { count, rest: T::decode(&bytes.slice(size_of::<u64>()..))? })
    }
}

/// A table of rows that are never loaded with their owner: `m.cold_map("private")`.
pub struct ColdMap<K, V> {
    pub(crate) at: usize,
    pub(crate) rows: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for ColdMap<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for ColdMap<K, V> {}

/// A collection of blobs: `m.blobs("avatars")`. Each is at most [`MAX_BLOB`] bytes.
pub struct Blobs<K> {
    pub(crate) at: usize,
    pub(crate) keys: PhantomData<fn() -> K>,
}

impl<K> Clone for Blobs<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Blobs<K> {}

/// What a row has besides its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// From then on conditions do not see the row, and the store removes it within some seconds. Jobs may read it until then.
    pub expires: Option<Timestamp>,
    /// A second key, by which [`ColdRows::reverse`] finds the row among all owners. At most [`MAX_KEY`] bytes.
    pub reverse: Option<Bytes>,
}

/// What a condition wants to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a, V> {
    /// No row.
    Absent,
    /// A row, whatever its value.
    Present,
    /// A row with exactly this value: its stored form is compared.
    Value(&'a V),
}

/// The rows of one owner in a cold map, to be read by a job.
pub struct ColdRows<K, V> {
    pub(crate) owner: Owner,
    pub(crate) map: MapId,
    pub(crate) rows: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for ColdRows<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for ColdRows<K, V> {}

/// Which of the rows that have a prefix, and how many.
#[derive(Debug)]
pub struct Page<'a, K> {
    /// Only keys behind this one: above it, or below it with `descending`.
    pub past: Option<&'a K>,
    /// From the last key back.
    pub descending: bool,
    /// At most so many rows.
    pub limit: usize,
}

impl<K> Clone for Page<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Page<'_, K> {}

/// A row that cannot be read as what it should be: another program wrote it, or the type has changed.
const UNREADABLE: StoreError = StoreError::Bug("a cold row cannot be read as the type of its map");

impl<K: Key, V: Stored> ColdRows<K, V> {
    /// The same map's rows of another owner.
    #[must_use]
    pub fn of(self, owner: Owner) -> ColdRows<K, V> {
        ColdRows { owner, ..self }
    }

    /// The row of a key.
    ///
    /// # Errors
    /// The store cannot be read, or the row cannot.
    pub fn get(&self, store: &mut Committed<'_>, key: &K) -> Result<Option<V>, ReadError> {
        let row = store.reader.map_get(self.map, self.owner, &key.to_bytes())?;
        row.map(|row| V::decode(&row.value).ok_or(ReadError::Store(UNREADABLE))).transpose()
    }

    /// Rows whose keys have a prefix, by key.
    ///
    /// # Errors
    /// As [`ColdRows::get`].
    pub fn range(
        &self,
        store: &mut Committed<'_>,
        prefix: &impl PrefixOf<K>,
        page: Page<'_, K>,
    ) -> Result<Vec<(K, V)>, ReadError> {
        let (prefix, past) = (prefix.prefix(), page.past.map(Key::to_bytes));
        let query = MapQuery { prefix: &prefix, past: past.as_deref(), descending: page.descending, limit: page.limit };
        let rows = store.reader.map_range(self.map, self.owner, query)?;
        rows.iter().map(|row| read(&row.key, &row.row).ok_or(ReadError::Store(UNREADABLE))).collect()
    }

    /// The rows of all owners that have this reverse key, by owner and key, behind the given one, at most `limit`.
    ///
    /// # Errors
    /// As [`ColdRows::get`].
    pub fn reverse(
        &self,
        store: &mut Committed<'_>,
        reverse: &[u8],
        past: Option<(Owner, &K)>,
        limit: usize,
    ) -> Result<Vec<(Owner, K, V)>, ReadError> {
        let past = past.map(|(owner, key)| (owner, key.to_bytes()));
        let past = past.as_ref().map(|(owner, key)| (*owner, key.as_slice()));
        let rows = store.reader.map_reverse(self.map, reverse, past, limit)?;
        let read = |row: &crate::store::KeyedRow| {
            let (key, value) = read(&row.key, &row.row).ok_or(ReadError::Store(UNREADABLE))?;
            Ok((row.owner, key, value))
        };
        rows.iter().map(read).collect()
    }
}

fn read<K: Key, V: Stored>(key: &[u8], row: &Row) -> Option<(K, V)> {
    Some((K::from_bytes(key)?, V::decode(&row.value)?))
}

/// The blobs of one owner in a collection, to be read by a job.
pub struct ColdBlobs<K> {
    pub(crate) owner: Owner,
    pub(crate) map: MapId,
    pub(crate) keys: PhantomData<fn() -> K>,
}

impl<K> Clone for ColdBlobs<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for ColdBlobs<K> {}

impl<K: Key> ColdBlobs<K> {
    /// The same collection's blobs of another owner.
    #[must_use]
    pub fn of(self, owner: Owner) -> ColdBlobs<K> {
        ColdBlobs { owner, ..self }
    }

    /// A blob.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn get(&self, store: &mut Committed<'_>, key: &K) -> Result<Option<Bytes>, ReadError> {
        Ok(store.reader.blob(self.map, self.owner, &key.to_bytes())?)
    }

    /// The keys and sizes in bytes of the blobs, by key, behind the given one, at most `limit`.
    ///
    /// # Errors
    /// The store cannot be read, or a key cannot.
    pub fn list(&self, store: &mut Committed<'_>, past: Option<&K>, limit: usize) -> Result<Vec<(K, u64)>, ReadError> {
        let past = past.map(Key::to_bytes);
        let blobs = store.reader.blobs(self.map, self.owner, past.as_deref(), limit)?;
        let read = |(key, size): (Bytes, u64)| Some((K::from_bytes(&key)?, size));
        blobs.into_iter().map(|blob| read(blob).ok_or(ReadError::Store(UNREADABLE))).collect()
    }
}

/// The stored form of a key, if it is not too long.
pub(crate) fn stored_key(key: &impl Key) -> Result<Bytes, StanzaError> {
    within(key.to_bytes().into(), MAX_KEY, "the name is too long to be stored")
}

/// Bytes, if they are not too many.
pub(crate) fn within(bytes: Bytes, most: usize, text: &'static str) -> Result<Bytes, StanzaError> {
    if bytes.len() <= most { Ok(bytes) } else { Err(StanzaError::policy_violation(text)) }
}

/// The stored form of a value, if it is not too large.
pub(crate) fn stored_value(value: &impl Stored) -> Result<Bytes, StanzaError> {
    let bytes = value.encode().ok_or_else(StanzaError::internal_server_error)?;
    within(bytes, MAX_BLOB, "the data are too large to be stored")
}

/// A cold write that a handler asks for.
#[derive(Debug)]
pub(crate) struct Staged {
    pub write: Write,
    /// the answer if this write is refused; only conditions have one
    pub or: Option<StanzaError>,
}

/// The cold writes of one owner's part of a stretch, and what is answered if the batch is refused.
#[derive(Debug, Default)]
pub(crate) struct ColdWrites {
    /// to go into the batch
    pub writes: Vec<Write>,
    /// the conditions by their places, among these writes and then in the batch
    pub refusals: Vec<(usize, StanzaError)>,
}

impl ColdWrites {
    /// In the order in which they were asked for; nothing if there are none.
    pub fn of(staged: Vec<Staged>) -> Option<Box<ColdWrites>> {
        if staged.is_empty() {
            return None;
        }
        let mut cold = ColdWrites::default();
        for Staged { write, or } in staged {
            cold.refusals.extend(or.map(|or| (cold.writes.len(), or)));
            cold.writes.push(write);
        }
        Some(Box::new(cold))
    }

    /// Whether something is put. Whether that replaces something nobody knows here.
    pub fn adds(&self) -> bool {
        let adds = |write: &Write| matches!(write, Write::Put { row: Some(_), .. } | Write::Blob { data: Some(_), .. });
        self.writes.iter().any(adds)
    }

    /// Whether something is removed.
    pub fn removes(&self) -> bool {
        let removes = |write: &Write| {
            matches!(write, Write::Put { row: None, .. } | Write::Blob { data: None, .. } | Write::Clear { .. })
        };
        self.writes.iter().any(removes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_were_stored_and_nothing_else_is() {
        let counted = Counted { count: 3, rest: Json("three".to_owned()) };
        let bytes = counted.encode().expect("a value");
        assert_eq!(Row::from(bytes.clone()).count(), Some((3, &b"\"three\""[..])));
        assert_eq!(Counted::<Json<String>>::decode(&bytes), Some(counted));
        assert_eq!(Counted::<Json<String>>::decode(&Bytes::from_static(b"\0\0\0\0\0\0\0")), None);
        assert_eq!(Counted::<Json<u64>>::decode(&bytes), None);
        assert_eq!(Counted::<Bytes>::decode(&bytes).map(|row| row.rest), Some(Bytes::from_static(b"\"three\"")));
        assert_eq!(Json::<u64>::decode(&Bytes::from_static(b"x")), None);
    }

    #[test]
    fn conditions_keep_their_places() {
        let key = || Bytes::from_static(b"k");
        let put = |row| Staged { write: Write::Put { map: MapId(1), owner: 1, key: key(), row }, or: None };
        let take = Write::Take { map: MapId(1), owner: 1, key: key(), n: 1 };
        let staged = vec![put(None), Staged { write: take, or: Some(StanzaError::not_found()) }, put(None)];
        let cold = ColdWrites::of(staged).expect("some");
        assert_eq!((cold.writes.len(), cold.refusals.len(), cold.refusals[0].0), (3, 1, 1));
        assert!(cold.removes() && !cold.adds());
        assert!(ColdWrites::of(vec![put(Some(Row::default()))]).expect("one").adds());
        assert!(ColdWrites::of(Vec::new()).is_none());
    }

    #[test]
    fn what_the_store_would_not_take_is_refused_before() {
        assert!(stored_key(&"k".repeat(MAX_KEY)).is_ok());
        assert!(stored_key(&"k".repeat(MAX_KEY + 1)).is_err());
        assert!(stored_value(&Bytes::from(vec![0; MAX_BLOB])).is_ok());
        assert!(stored_value(&Bytes::from(vec![0; MAX_BLOB + 1])).is_err());
    }
}
