//! A map from a key to the rows that have it, kept without empty leftovers, so that equal contents are equal values.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use crate::ovsdb::value::Uuid;

/// Key → row UUIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index<K: Eq + Hash>(HashMap<K, Rows>);

/// Nearly every key of a unique name has one row; a set for each of 100,000 would be 20 MB.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rows {
    One(Uuid),
    Many(BTreeSet<Uuid>),
}

impl<K: Eq + Hash> Default for Index<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Index<K> {
    pub(super) fn add(&mut self, key: K, row: Uuid) {
        match self.0.get_mut(&key) {
            None => {
                self.0.insert(key, Rows::One(row));
            }
            Some(Rows::Many(rows)) => {
                rows.insert(row);
            }
            Some(rows @ Rows::One(_)) => {
                if let Rows::One(first) = *rows
                    && first != row
                {
                    *rows = Rows::Many(BTreeSet::from([first, row]));
                }
            }
        }
    }

    pub(super) fn remove<Q>(&mut self, key: &Q, row: Uuid)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let empty = match self.0.get_mut(key) {
            None => false,
            Some(Rows::One(only)) => *only == row,
            Some(rows) => {
                let Rows::Many(many) = rows else { return };
                many.remove(&row);
                if let (1, Some(last)) = (many.len(), many.first().copied()) {
                    *rows = Rows::One(last);
                }
                false
            }
        };
        if empty {
            self.0.remove(key);
        }
    }

    /// Adds or removes.
    pub(super) fn set(&mut self, key: K, row: Uuid, add: bool) {
        if add {
            self.add(key, row);
        } else {
            self.remove(&key, row);
        }
    }

    /// The rows of a key, in the order of their UUIDs.
    pub(super) fn get<Q>(&self, key: &Q) -> impl Iterator<Item = Uuid> + use<'_, K, Q>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let (one, many) = match self.0.get(key) {
            None => (None, None),
            Some(Rows::One(row)) => (Some(*row), None),
            Some(Rows::Many(rows)) => (None, Some(rows)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|rows| rows.iter().copied()))
    }

    pub(super) fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_leaves_nothing() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut index = Index::default();
        index.add("k", a);
        let one = index.clone();
        index.add("k", b);
        index.add("k", b);
        assert_eq!(index.get("k").collect::<Vec<_>>(), [a, b]);
        index.remove("k", b);
        assert_eq!(index, one);
        index.remove("k", b);
        index.remove("k", a);
        assert_eq!(index, Index::default());
        assert!(!index.contains("k"));
    }
}
