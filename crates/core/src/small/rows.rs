//! Rows by key, ordered, for tables of which each account has some: nearly all hold one row or a few.
//!
//! A B-tree has room for eleven rows from the first one on. Here few rows lie in a list that is as long as they are many, and only
//! more of them in a tree.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::slice;

/// Maximum number of rows kept as a list.
const FEW: usize = 8;

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Rows<K, V>(Form<K, V>);

#[derive(Clone, Debug)]
enum Form<K, V> {
    /// in the order of the keys
    Few(Vec<(K, V)>),
    Many(BTreeMap<K, V>),
}

impl<K, V> Rows<K, V> {
    /// No rows.
    pub const fn new() -> Rows<K, V> {
        Rows(Form::Few(Vec::new()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Few(rows) => rows.len(),
            Form::Many(rows) => rows.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        match &self.0 {
            Form::Few(rows) => Iter::Few(rows.iter()),
            Form::Many(rows) => Iter::Many(rows.iter()),
        }
    }

    /// All of them, taken out, in the order of their keys.
    pub fn into_rows(self) -> impl Iterator<Item = (K, V)> {
        let (few, many) = match self.0 {
            Form::Few(rows) => (rows, BTreeMap::new()),
            Form::Many(rows) => (Vec::new(), rows),
        };
        few.into_iter().chain(many)
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> Rows<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match &self.0 {
            Form::Few(rows) => find(rows, key).ok().map(|at| &rows[at].1),
            Form::Many(rows) => rows.get(key),
        }
    }

    /// The first row that is not before this key.
    pub fn at_or_after<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        match &self.0 {
            Form::Few(rows) => {
                let at = find(rows, key).unwrap_or_else(|at| at);
                rows.get(at).map(|(key, value)| (key, value))
            }
            Form::Many(rows) => rows.range::<Q, _>((Bound::Included(key), Bound::Unbounded)).next(),
        }
    }

    /// Those behind this key, in the order of the keys; without one, all.
    pub fn after<Q: Ord + ?Sized>(&self, key: Option<&Q>) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (few, many) = match &self.0 {
            Form::Few(rows) => {
                let behind = |key| find(rows, key).map_or_else(|at| at, |at| at + 1);
                (&rows[key.map_or(0, behind)..], None)
            }
            Form::Many(rows) => {
                let from = key.map_or(Bound::Unbounded, Bound::Excluded);
                (&[][..], Some(rows.range::<Q, _>((from, Bound::Unbounded))))
            }
        };
        few.iter().map(|(key, value)| (key, value)).chain(many.into_iter().flatten())
    }

    /// Whether there is such a row.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Sets the value of a key. Gives the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match &mut self.0 {
            Form::Few(rows) => match find(rows, &key) {
                Ok(at) => Some(std::mem::replace(&mut rows[at].1, value)),
                Err(at) if rows.len() < FEW => {
                    if rows.len() == rows.capacity() {
                        rows.reserve_exact(1);
                    }
                    rows.insert(at, (key, value));
                    None
                }
                Err(_) => {
                    let mut many: BTreeMap<K, V> = std::mem::take(rows).into_iter().collect();
                    many.insert(key, value);
                    self.0 = Form::Many(many);
                    None
                }
            },
            Form::Many(rows) => rows.insert(key, value),
        }
    }

    /// Removes a row. Gives the value it had.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match &mut self.0 {
            Form::Few(rows) => {
                let (_, value) = rows.remove(find(rows, key).ok()?);
                rows.shrink_to_fit();
                Some(value)
            }
            Form::Many(rows) => {
                let value = rows.remove(key);
                // Well below the other bound, so that nothing goes to and fro.
                if rows.len() <= FEW / 2 {
                    self.0 = Form::Few(std::mem::take(rows).into_iter().collect());
                }
                value
            }
        }
    }
}

fn find<K: Borrow<Q>, V, Q: Ord + ?Sized>(rows: &[(K, V)], key: &Q) -> Result<usize, usize> {
    rows.binary_search_by(|(own, _)| own.borrow().cmp(key))
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Rows<K, V> {
        Rows::new()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Rows<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(rows: I) -> Rows<K, V> {
        // A tree that is made of all rows at once costs much less than one that grows by one row at a time.
        let all: BTreeMap<K, V> = rows.into_iter().collect();
        if all.len() > FEW { Rows(Form::Many(all)) } else { Rows(Form::Few(all.into_iter().collect())) }
    }
}

impl<'a, K, V> IntoIterator for &'a Rows<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

/// What [`Rows::iter`] gives.
#[derive(Debug)]
pub enum Iter<'a, K, V> {
    /// of few
    Few(slice::Iter<'a, (K, V)>),
    /// of many
    Many(btree_map::Iter<'a, K, V>),
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<(&'a K, &'a V)> {
        match self {
            Iter::Few(rows) => rows.next().map(|(key, value)| (key, value)),
            Iter::Many(rows) => rows.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Iter::Few(rows) => rows.size_hint(),
            Iter::Many(rows) => rows.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_a_tree_would_be(steps in proptest::collection::vec((0..24u8, any::<Option<u16>>()), 0..200)) {
            let (mut rows, mut tree) = (Rows::new(), BTreeMap::new());
            for (key, value) in steps {
                match value {
                    Some(value) => prop_assert_eq!(rows.insert(key, value), tree.insert(key, value)),
                    None => prop_assert_eq!(rows.remove(&key), tree.remove(&key)),
                }
                prop_assert!(rows.iter().eq(tree.iter()));
                prop_assert_eq!(rows.len(), tree.len());
                prop_assert_eq!(rows.is_empty(), tree.is_empty());
                prop_assert_eq!(rows.get(&key), tree.get(&key));
                prop_assert_eq!(rows.contains_key(&key), tree.contains_key(&key));
                prop_assert_eq!(rows.at_or_after(&key), tree.range(key..).next());
            }
        }
    }

    #[test]
    fn one_row_has_room_for_one() {
        let mut rows = Rows::new();
        rows.insert(1, 1);
        assert!(matches!(&rows.0, Form::Few(list) if list.capacity() == 1));
        rows.remove(&1);
        assert!(matches!(&rows.0, Form::Few(list) if list.capacity() == 0));
    }
}
