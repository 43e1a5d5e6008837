//! OVSDB values (RFC 7047 §5.1) and the tables a monitor keeps.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use super::table::Table;
pub use uuid::Uuid;

/// One scalar.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub enum Atom {
    /// `integer`.
    Integer(i64),
    /// `real`.
    Real(f64),
    /// `boolean`.
    Boolean(bool),
    /// `string`.
    String(Arc<str>),
    /// `uuid`.
    Uuid(Uuid),
}

/// The value of a column: a set (a scalar is a set of one) or a map. Sets and maps are sorted, as ovsdb-server keeps them.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A set of zero or more atoms.
    Set(Vec<Atom>),
    /// A map.
    Map(Vec<(Atom, Atom)>),
}

/// Column name → value, of the columns monitored.
pub type Row = BTreeMap<Arc<str>, Value>;

/// Table name → rows: what a monitor has collected, or a database file holds.
pub type Database = BTreeMap<Arc<str>, Table>;

impl Atom {
    /// A total order: by type, then as ovsdb-server sorts the elements of sets and maps.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            _ => self.partial_cmp(other).unwrap_or(Ordering::Equal),
        }
    }
}

impl Value {
    /// Sorts, and drops repeated elements (of repeated keys, the last one counts).
    pub fn sort(&mut self) {
        match self {
            Self::Set(atoms) => {
                if !atoms.is_sorted_by(|a, b| a.order(b).is_lt()) {
                    atoms.sort_by(Atom::order);
                    atoms.dedup();
                }
            }
            Self::Map(pairs) => {
                if !pairs.is_sorted_by(|(a, _), (b, _)| a.order(b).is_lt()) {
                    pairs.reverse();
                    pairs.sort_by(|(a, _), (b, _)| a.order(b));
                    pairs.dedup_by(|(a, _), (b, _)| a == b);
                }
            }
        }
    }

    /// Applies a *difference*, which is how changed sets and maps of more than one element travel: the elements that are in only
    /// one of old and new set; the pairs whose key is in only one of the maps, and those whose value changed, with the new value
    /// (ovsdb-server(7), "update2").
    pub fn apply_difference(&mut self, difference: Self) {
        match (&mut *self, difference) {
            (Self::Set(old), Self::Set(difference)) => {
                for atom in difference {
                    match old.binary_search_by(|a| a.order(&atom)) {
                        Ok(at) => drop(old.remove(at)),
                        Err(at) => old.insert(at, atom),
                    }
                }
            }
            (Self::Map(old), Self::Map(difference)) => {
                for (key, value) in difference {
                    match old.binary_search_by(|(k, _)| k.order(&key)) {
                        Ok(at) => match old.get_mut(at) {
                            Some((_, present)) if *present != value => *present = value,
                            _ => drop(old.remove(at)),
                        },
                        Err(at) => old.insert(at, (key, value)),
                    }
                }
            }
            // The kinds differ only if the column changed its type; then this is no difference.
            (_, new) => *self = new,
        }
    }

    /// The only string of a set of one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Set(atoms) => match atoms.as_slice() {
                [Atom::String(s)] => Some(s),
                _ => None,
            },
            Self::Map(_) => None,
        }
    }

    /// The strings of a set; other atoms are passed over.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        let atoms = match self {
            Self::Set(atoms) => atoms.as_slice(),
            Self::Map(_) => &[],
        };
        atoms.iter().filter_map(|a| match a {
            Atom::String(s) => Some(&**s),
            _ => None,
        })
    }

    /// The value of a string key of a string → string map.
    pub fn get(&self, key: &str) -> Option<&str> {
        let Self::Map(pairs) = self else { return None };
        pairs.iter().find_map(|pair| match pair {
            (Atom::String(k), Atom::String(v)) if &**k == key => Some(&**v),
            _ => None,
        })
    }
}
