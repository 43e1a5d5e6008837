//! OVSDB values (RFC 7047 §5.1) and the tables a monitor keeps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

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

/// Row UUID → row.
pub type Table = HashMap<Uuid, Row>;

/// Table name → rows: what a monitor has collected, or a database file holds.
pub type Database = BTreeMap<Arc<str>, Table>;

impl Value {
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
