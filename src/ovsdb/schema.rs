//! The parts of a database schema (RFC 7047 §3.2) that a client needs: names and types of columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::value::{Atom, Uuid, Value};

/// `<atomic-type>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomType {
    /// `integer`.
    Integer,
    /// `real`.
    Real,
    /// `boolean`.
    Boolean,
    /// `string`.
    String,
    /// `uuid`.
    Uuid,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// What sets hold, or the keys of a map.
    pub key: AtomType,
    /// The values of a map.
    pub value: Option<AtomType>,
    /// It can be empty (`min` is 0).
    pub optional: bool,
    /// It can hold more than one element. Only such columns travel as differences.
    pub composite: bool,
}

/// Column name → type.
pub type TableSchema = BTreeMap<Arc<str>, ColumnType>;

/// What `get_schema` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The database.
    pub name: String,
    /// Version, if given.
    pub version: String,
    /// Table name → columns.
    pub tables: BTreeMap<Arc<str>, TableSchema>,
}

/// The schema makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database schema is malformed: {0}")]
pub struct SchemaError(String);

impl AtomType {
    fn parse(json: &Json) -> Option<Self> {
        // A base type is a name, or an object with constraints in which only the type matters here.
        Some(match json.as_str().or_else(|| json.get("type")?.as_str())? {
            "integer" => Self::Integer,
            "real" => Self::Real,
            "boolean" => Self::Boolean,
            "string" => Self::String,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    fn default(self) -> Atom {
        match self {
            Self::Integer => Atom::Integer(0),
            Self::Real => Atom::Real(0.0),
            Self::Boolean => Atom::Boolean(false),
            Self::String => Atom::String(Arc::from("")),
            Self::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }

    /// `atom` as this type: an integer may stand for a real.
    fn conform(self, atom: &mut Atom) -> Result<(), String> {
        match (self, &*atom) {
            (Self::Integer, Atom::Integer(_))
            | (Self::Real, Atom::Real(_))
            | (Self::Boolean, Atom::Boolean(_))
            | (Self::String, Atom::String(_))
            | (Self::Uuid, Atom::Uuid(_)) => Ok(()),
            #[expect(clippy::cast_precision_loss, reason = "JSON does not tell 1 from 1.0")]
            (Self::Real, Atom::Integer(n)) => {
                *atom = Atom::Real(*n as f64);
                Ok(())
            }
            _ => Err(format!("{atom:?} is not of type {}", self.name())),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }
}

impl ColumnType {
    /// Exactly one `key`.
    pub const fn scalar(key: AtomType) -> Self {
        Self { key, value: None, optional: false, composite: false }
    }

    /// At most one `key`.
    pub const fn optional(key: AtomType) -> Self {
        Self { key, value: None, optional: true, composite: false }
    }

    fn parse(json: &Json) -> Option<Self> {
        if json.is_string() {
            return AtomType::parse(json).map(Self::scalar);
        }
        let value = match json.get("value") {
            None => None,
            Some(value) => Some(AtomType::parse(value)?),
        };
        let optional = json.get("min").is_some_and(|min| min.as_u64() == Some(0));
        let composite = json.get("max").is_some_and(|max| max.as_str() == Some("unlimited") || max.as_u64() > Some(1));
        Some(Self { key: AtomType::parse(json.get("key")?)?, value, optional, composite })
    }

    /// What a column holds when nobody has written it; such columns are left out of monitor updates and of files.
    pub fn default(self) -> Value {
        match self.value {
            Some(_) => Value::Map(Vec::new()),
            None if self.optional => Value::Set(Vec::new()),
            None => Value::Set(vec![self.key.default()]),
        }
    }

    /// Checks `value` against this type, after the small adjustments that JSON's looseness calls for.
    pub(crate) fn conform(self, value: &mut Value) -> Result<(), String> {
        match (self.value, &mut *value) {
            (Some(of), Value::Map(pairs)) => {
                for (k, v) in pairs {
                    self.key.conform(k)?;
                    of.conform(v)?;
                }
            }
            (Some(_), Value::Set(atoms)) if atoms.is_empty() => *value = Value::Map(Vec::new()),
            (Some(_), Value::Set(_)) => return Err("a set where a map belongs".to_owned()),
            (None, Value::Map(_)) => return Err("a map where a set belongs".to_owned()),
            (None, Value::Set(atoms)) => {
                if atoms.len() > 1 && !self.composite {
                    return Err(format!("{} elements where one belongs", atoms.len()));
                }
                if atoms.is_empty() && !self.optional && !self.composite {
                    return Err("an empty set where one element belongs".to_owned());
                }
                atoms.iter_mut().try_for_each(|atom| self.key.conform(atom))?;
            }
        }
        Ok(())
    }
}

impl Schema {
    /// Parses a `<database-schema>`.
    pub fn parse(json: &Json) -> Result<Self, SchemaError> {
        let text = |key| json.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let tables = json.get("tables").and_then(Json::as_object).ok_or_else(|| SchemaError("no tables".to_owned()))?;
        let mut parsed = BTreeMap::new();
        for (table, spec) in tables {
            let columns = spec
                .get("columns")
                .and_then(Json::as_object)
                .ok_or_else(|| SchemaError(format!("table {table} has no columns")))?;
            let mut types = TableSchema::new();
            for (column, spec) in columns {
                let ty = spec
                    .get("type")
                    .and_then(ColumnType::parse)
                    .ok_or_else(|| SchemaError(format!("the type of column {column} in table {table} is unknown")))?;
                types.insert(Arc::from(column.as_str()), ty);
            }
            parsed.insert(Arc::from(table.as_str()), types);
        }
        Ok(Self { name: text("name"), version: text("version"), tables: parsed })
    }
}
