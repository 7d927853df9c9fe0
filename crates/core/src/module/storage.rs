//! Storage for modules beyond what is loaded with an account: how it is registered, and what a handler stages.
//!
//! See [`crate::owner::cold`] for the types and for what jobs read.

use std::any::TypeId;
use std::marker::PhantomData;

use bytes::Bytes;
use vorpal_proto::error::StanzaError;

use crate::module::hook::IqCx;
use crate::module::{Setup, SetupError};
use crate::owner::cold::{
    Blobs, ColdBlobs, ColdMap, ColdRows, Counted, Expected, Extra, Staged, Stored, stored_key, stored_value, within,
};
use crate::owner::key::{Key, PrefixOf};
use crate::store::{Expect, MAX_BLOB, MAX_KEY, MapId, Owner, Row, Write};

/// The type of the values of collections of blobs, for [`ColdKind::types`](crate::owner::cold::ColdKind::types).
struct Blob;

impl Setup<'_> {
    /// A list for each account that is never loaded with it: rows are read one by one, or by the first parts of their keys, in jobs.
    /// Rows go with the account.
    pub fn cold_map<K: Key, V: Stored>(&mut self, name: &'static str) -> ColdMap<K, V> {
        ColdMap { at: self.cold(name, TypeId::of::<(K, V)>()), rows: PhantomData }
    }

    /// A collection of larger data for each account, read one by one in jobs. They go with the account.
    pub fn blobs<K: Key>(&mut self, name: &'static str) -> Blobs<K> {
        Blobs { at: self.cold(name, TypeId::of::<(K, Blob)>()), keys: PhantomData }
    }

    fn cold(&mut self, name: &'static str, types: TypeId) -> usize {
        self.registry.names.cold(name, types).unwrap_or_else(|| {
            self.registry.refuse(SetupError::OtherTable(self.module.name, name));
            0
        })
    }
}

impl IqCx<'_> {
    fn owner(&mut self) -> Result<Owner, StanzaError> {
        Ok(self.account()?.owner)
    }

    fn map_of(&self, at: usize) -> MapId {
        self.host.registry().names.cold_id(at)
    }

    fn stage(&mut self, write: Write, or: Option<StanzaError>) {
        self.fx.further().cold.push(Staged { write, or });
    }

    /// The account's rows of a cold map, for a job to read.
    ///
    /// # Errors
    /// No account is asked, but the host.
    pub fn cold<K: Key, V: Stored>(&mut self, map: ColdMap<K, V>) -> Result<ColdRows<K, V>, StanzaError> {
        Ok(ColdRows { owner: self.owner()?, map: self.map_of(map.at), rows: PhantomData })
    }

    /// The account's blobs of a collection, for a job to read.
    ///
    /// # Errors
    /// No account is asked, but the host.
    pub fn cold_blobs<K: Key>(&mut self, blobs: Blobs<K>) -> Result<ColdBlobs<K>, StanzaError> {
        Ok(ColdBlobs { owner: self.owner()?, map: self.map_of(blobs.at), keys: PhantomData })
    }

    /// Puts a row. Written before the answer is said; if the write fails the answer is an error.
    ///
    /// # Errors
    /// The key is longer than [`MAX_KEY`], the value larger than [`MAX_BLOB`], or no account is asked.
    pub fn put<K: Key, V: Stored>(&mut self, map: ColdMap<K, V>, key: &K, value: &V) -> Result<(), StanzaError> {
        self.put_with(map, key, value, Extra::default())
    }

    /// Puts a row that expires, or that is found by a reverse key.
    ///
    /// # Errors
    /// As [`IqCx::put`]; so for the reverse key.
    pub fn put_with<K: Key, V: Stored>(
        &mut self,
        map: ColdMap<K, V>,
        key: &K,
        value: &V,
        extra: Extra,
    ) -> Result<(), StanzaError> {
        let reverse = extra.reverse.map(|reverse| within(reverse, MAX_KEY, "a reverse key is too long")).transpose()?;
        let row = Row { value: stored_value(value)?, reverse, expires: extra.expires.map(|at| at.as_millis()) };
        let (owner, map) = (self.owner()?, self.map_of(map.at));
        self.stage(Write::Put { map, owner, key: stored_key(key)?, row: Some(row) }, None);
        Ok(())
    }

    /// Removes a row, if there is one.
    ///
    /// # Errors
    /// As [`IqCx::put`].
    pub fn remove<K: Key, V: Stored>(&mut self, map: ColdMap<K, V>, key: &K) -> Result<(), StanzaError> {
        let (owner, map) = (self.owner()?, self.map_of(map.at));
        self.stage(Write::Put { map, owner, key: stored_key(key)?, row: None }, None);
        Ok(())
    }

    /// Removes the first `limit` rows whose keys have a prefix; of more than some thousands others would wait for the writer.
    ///
    /// # Errors
    /// As [`IqCx::put`].
    pub fn clear<K: Key, V: Stored>(
        &mut self,
        map: ColdMap<K, V>,
        prefix: &impl PrefixOf<K>,
        limit: u32,
    ) -> Result<(), StanzaError> {
        let prefix = within(prefix.prefix().into(), MAX_KEY, "the name is too long to be stored")?;
        let (owner, map) = (self.owner()?, self.map_of(map.at));
        self.stage(Write::Clear { map, owner, prefix, limit }, None);
        Ok(())
    }

    /// Puts a blob.
    ///
    /// # Errors
    /// As [`IqCx::put`].
    pub fn put_blob<K: Key>(&mut self, blobs: Blobs<K>, key: &K, data: Bytes) -> Result<(), StanzaError> {
        let data = within(data, MAX_BLOB, "the data are too large to be stored")?;
        let (owner, map) = (self.owner()?, self.map_of(blobs.at));
        self.stage(Write::Blob { map, owner, key: stored_key(key)?, data: Some(data) }, None);
        Ok(())
    }

    /// Removes a blob, if there is one.
    ///
    /// # Errors
    /// As [`IqCx::put`].
    pub fn remove_blob<K: Key>(&mut self, blobs: Blobs<K>, key: &K) -> Result<(), StanzaError> {
        let (owner, map) = (self.owner()?, self.map_of(blobs.at));
        self.stage(Write::Blob { map, owner, key: stored_key(key)?, data: None }, None);
        Ok(())
    }

    /// Nothing is written unless a row is as expected when the batch is committed; then the answer is this error. What was staged before
    /// it in this handler is seen.
    ///
    /// Of a handler that changes rows which are loaded with an account, a refusal undoes what others have built on these changes:
    /// their stanzas are answered with errors too. So conditions and such changes are kept apart where others may be at work.
    ///
    /// # Errors
    /// As [`IqCx::put`].
    pub fn require<K: Key, V: Stored>(
        &mut self,
        map: ColdMap<K, V>,
        key: &K,
        expected: Expected<'_, V>,
        or: StanzaError,
    ) -> Result<(), StanzaError> {
        let expect = match expected {
            Expected::Absent => Expect::Absent,
            Expected::Present => Expect::Present,
            Expected::Value(value) => Expect::Value(stored_value(value)?),
        };
        let (owner, map) = (self.owner()?, self.map_of(map.at));
        self.stage(Write::Require { map, owner, key: stored_key(key)?, expect }, Some(or));
        Ok(())
    }

    /// Takes `n` from the count of a row. If there is no such row, or less is left, nothing is written, and the answer is this error: see
    /// [`IqCx::require`].
    ///
    /// # Errors
    /// As [`IqCx::put`].
    pub fn take<K: Key, T: Stored>(
        &mut self,
        map: ColdMap<K, Counted<T>>,
        key: &K,
        n: u64,
        or: StanzaError,
    ) -> Result<(), StanzaError> {
        let (owner, map) = (self.owner()?, self.map_of(map.at));
        self.stage(Write::Take { map, owner, key: stored_key(key)?, n }, Some(or));
        Ok(())
    }
}
