//! The rows a monitor has collected, and what the server's updates do to them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::decode::column;
use super::intern::Interner;
use super::schema::{ColumnType, Schema};
use super::table::StagedRows;
use super::value::{Database, Row, Uuid, Value};

/// A table somebody wants to follow.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    /// Its name.
    pub name: Arc<str>,
    /// The columns.
    pub columns: Vec<ColumnSpec>,
    /// `<condition>*` of `monitor_cond`; all rows if `None`.
    pub condition: Option<serde_json::Value>,
}

/// A column somebody wants to follow.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Of a map, the only keys kept. Changes of other keys go unnoticed, which matters where writers touch them all the time.
    pub keys: Option<Vec<Arc<str>>>,
}

impl TableSpec {
    /// Specifications for a list of (table, columns), without conditions and with all keys.
    pub fn list(tables: &[(&str, &[&str])]) -> Vec<Self> {
        tables
            .iter()
            .map(|(name, columns)| Self {
                name: Arc::from(*name),
                columns: columns.iter().map(|c| ColumnSpec { name: Arc::from(*c), keys: None }).collect(),
                condition: None,
            })
            .collect()
    }

    /// Keeps only these keys of the map column `column`.
    #[must_use]
    pub fn with_keys(mut self, column: &str, keys: &[&str]) -> Self {
        for spec in self.columns.iter_mut().filter(|spec| *spec.name == *column) {
            spec.keys = Some(keys.iter().map(|k| Arc::from(*k)).collect());
        }
        self
    }
}

/// Table name → rows inserted, modified or deleted; look them up in the database to learn which.
pub type Changes = BTreeMap<Arc<str>, Vec<Uuid>>;

/// A row whose contents contradict the schema. It is absent from the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The table.
    pub table: Arc<str>,
    /// The row.
    pub row: Uuid,
    /// The first column that is wrong.
    pub column: Arc<str>,
    /// How.
    pub why: String,
}

/// What one update did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows that differ now.
    pub changes: Changes,
    /// Rows newly found malformed.
    pub malformed: Vec<Malformed>,
}

/// The rows of a dump of which not all has arrived.
#[derive(Debug, Default)]
pub struct Staged {
    tables: BTreeMap<Arc<str>, StagedRows>,
    malformed: HashSet<(Arc<str>, Uuid)>,
    /// Those of them that were not known before.
    told: Vec<Malformed>,
}

/// An update that cannot be applied: the copy is not to be trusted any more.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Not the JSON that RFC 7047 and ovsdb-server(7) describe.
    #[error("a monitor update is malformed: {0}")]
    Json(#[from] serde_json::Error),
    /// A difference to a row that is not here.
    #[error("the server modified row {row} of table {table}, which it never sent")]
    OutOfStep {
        /// The table.
        table: Arc<str>,
        /// The row.
        row: Uuid,
    },
}

/// A column that is both wanted and in the schema.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) name: Arc<str>,
    pub(super) ty: ColumnType,
    pub(super) keys: Option<Vec<Arc<str>>>,
}

/// A wanted name the schema lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// The table.
    pub table: Arc<str>,
    /// The column; `None` if the whole table is missing.
    pub column: Option<Arc<str>>,
}

/// The copy.
#[derive(Debug)]
pub struct Replica {
    tables: BTreeMap<Arc<str>, Vec<Column>>,
    database: Database,
    interner: Interner,
    /// Rows reported once and not kept.
    malformed: HashSet<(Arc<str>, Uuid)>,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            tables: BTreeMap::new(),
            database: Database::new(),
            // Rows are packed at once: there is nobody to share strings with.
            interner: Interner::off(),
            malformed: HashSet::new(),
        }
    }
}

impl Replica {
    /// The rows.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Chooses what to follow: what is wanted and what there is. Says whether the choice differs from the previous one, and what is missing.
    pub fn choose(&mut self, wanted: &[TableSpec], schema: &Schema) -> (bool, Vec<Missing>) {
        let mut tables = BTreeMap::new();
        let mut missing = Vec::new();
        for spec in wanted {
            let Some(types) = schema.tables.get(&spec.name) else {
                missing.push(Missing { table: spec.name.clone(), column: None });
                continue;
            };
            let mut columns = Vec::new();
            for wanted in &spec.columns {
                match types.get(&wanted.name) {
                    Some(ty) => {
                        columns.push(Column { name: wanted.name.clone(), ty: *ty, keys: wanted.keys.clone() });
                    }
                    None => missing.push(Missing { table: spec.name.clone(), column: Some(wanted.name.clone()) }),
                }
            }
            tables.insert(spec.name.clone(), columns);
        }
        let changed = self.tables != tables;
        self.tables = tables;
        (changed, missing)
    }

    /// The tables and columns chosen.
    pub fn chosen(&self) -> impl Iterator<Item = (&Arc<str>, impl Iterator<Item = &Arc<str>>)> {
        self.tables.iter().map(|(table, columns)| (table, columns.iter().map(|c| &c.name)))
    }

    /// Takes in one row of a complete dump that is arriving. Nothing changes before [`Replica::replace`].
    pub fn stage(&mut self, staged: &mut Staged, table: &str, uuid: Uuid, update: &[u8]) -> Result<(), UpdateError> {
        let text = std::str::from_utf8(update).map_err(serde::de::Error::custom).map_err(UpdateError::Json)?;
        let update: RowUpdate<'_> = serde_json::from_str(text)?;
        self.stage_update(staged, table, uuid, &update);
        Ok(())
    }

    fn stage_update(&mut self, staged: &mut Staged, table: &str, uuid: Uuid, update: &RowUpdate<'_>) {
        let (Some((name, columns)), RowUpdate::Whole(cells)) = (self.tables.get_key_value(table), update) else {
            return;
        };
        match whole(columns, cells, &mut self.interner) {
            Ok(row) => {
                let table = self.database.entry(name.clone()).or_default();
                table.stage(staged.tables.entry(name.clone()).or_default(), uuid, &row);
            }
            Err((column, why)) => {
                if !self.malformed.contains(&(name.clone(), uuid)) {
                    staged.told.push(Malformed { table: name.clone(), row: uuid, column, why });
                }
                staged.malformed.insert((name.clone(), uuid));
            }
        }
    }

    /// Replaces everything by a complete dump: the rows that were staged before and those in `dump`. Nothing changes if the dump
    /// is malformed.
    pub fn replace(&mut self, mut staged: Staged, dump: &str) -> Result<Applied, UpdateError> {
        each_row(dump, &mut |name, uuid, update| {
            self.stage_update(&mut staged, name, uuid, &update);
            Ok(())
        })?;
        let mut changes = Changes::new();
        self.database.retain(|name, table| {
            let kept = self.tables.contains_key(name);
            let changed = table.replace(staged.tables.remove(name).unwrap_or_default());
            if !changed.is_empty() {
                changes.insert(name.clone(), changed);
            }
            kept
        });
        for name in self.tables.keys() {
            self.database.entry(name.clone()).or_default();
        }
        self.malformed = staged.malformed;
        Ok(Applied { changes, malformed: staged.told })
    }

    /// Applies an update (any generation: `update`, `update2`, `update3`). Nothing changes if it is malformed.
    pub fn update(&mut self, updates: &str) -> Result<Applied, UpdateError> {
        let mut edits: Vec<(Arc<str>, Uuid, Edit)> = Vec::new();
        let (tables, interner, malformed, database) =
            (&self.tables, &mut self.interner, &self.malformed, &self.database);
        each_row(updates, &mut |name, uuid, update| {
            let Some((name, columns)) = tables.get_key_value(name) else { return Ok(()) };
            let edit = match update {
                RowUpdate::Delete => Edit::Delete,
                RowUpdate::Whole(cells) => match whole(columns, &cells, interner) {
                    Ok(row) => Edit::Whole(row),
                    Err((column, why)) => Edit::Malformed(column, why),
                },
                RowUpdate::Modify(_) if malformed.contains(&(name.clone(), uuid)) => return Ok(()),
                RowUpdate::Modify(_) if !database.get(name).is_some_and(|t| t.contains_key(&uuid)) => {
                    return Err(UpdateError::OutOfStep { table: name.clone(), row: uuid });
                }
                RowUpdate::Modify(cells) => match part(columns, &cells, interner) {
                    Ok(cells) => Edit::Modify(cells),
                    Err((column, why)) => Edit::Malformed(column, why),
                },
            };
            edits.push((name.clone(), uuid, edit));
            Ok(())
        })?;
        let mut applied = Applied::default();
        for (table, row, edit) in edits {
            self.edit(table, row, edit, &mut applied);
        }
        Ok(applied)
    }

    fn edit(&mut self, name: Arc<str>, uuid: Uuid, edit: Edit, applied: &mut Applied) {
        let table = self.database.entry(name.clone()).or_default();
        let changed = match edit {
            Edit::Delete => {
                self.malformed.remove(&(name.clone(), uuid));
                table.remove(&uuid)
            }
            Edit::Whole(row) => {
                self.malformed.remove(&(name.clone(), uuid));
                table.insert(uuid, row)
            }
            Edit::Modify(cells) => table.get(&uuid).is_some_and(|mut row| {
                modify(&mut row, cells);
                table.insert(uuid, row)
            }),
            Edit::Malformed(column, why) => {
                if self.malformed.insert((name.clone(), uuid)) {
                    applied.malformed.push(Malformed { table: name.clone(), row: uuid, column, why });
                }
                table.remove(&uuid)
            }
        };
        if changed {
            applied.changes.entry(name).or_default().push(uuid);
        }
    }
}

/// A decoded change of one row.
enum Edit {
    Delete,
    Whole(Row),
    Modify(Vec<Cell>),
    Malformed(Arc<str>, String),
}

/// A decoded column of an update.
pub(super) struct Cell {
    name: Arc<str>,
    value: Value,
    /// In a `modify`, the value is a difference.
    pub(super) composite: bool,
}

/// Applies cells.
pub(super) fn modify(row: &mut Row, cells: Vec<Cell>) {
    for Cell { name, value, composite } in cells {
        match row.get_mut(&name) {
            Some(old) if composite => old.apply_difference(value),
            _ => drop(row.insert(name, value)),
        }
    }
}

pub(super) type Cells<'a> = Vec<(&'a str, &'a RawValue)>;

/// Decodes the cells of wanted columns, or says which column is wrong and how.
pub(super) fn part(
    columns: &[Column],
    cells: &Cells<'_>,
    interner: &mut Interner,
) -> Result<Vec<Cell>, (Arc<str>, String)> {
    let mut out = Vec::new();
    for (name, raw) in cells {
        let Some(col) = columns.iter().find(|c| *c.name == **name) else { continue };
        let wrong = |why: String| (col.name.clone(), why);
        let mut value = column(raw.get(), col.keys.as_deref(), interner).map_err(|e| wrong(e.to_string()))?;
        // The difference of a set is empty if nothing changed, and of one that must not be empty it may be anything.
        if col.ty.composite {
            ColumnType { optional: true, ..col.ty }.conform(&mut value).map_err(wrong)?;
        } else {
            col.ty.conform(&mut value).map_err(wrong)?;
        }
        out.push(Cell { name: col.name.clone(), value, composite: col.ty.composite });
    }
    Ok(out)
}

/// Decodes a whole row; columns the server left out hold their default.
pub(super) fn whole(columns: &[Column], cells: &Cells<'_>, interner: &mut Interner) -> Result<Row, (Arc<str>, String)> {
    let mut row: Row = part(columns, cells, interner)?.into_iter().map(|cell| (cell.name, cell.value)).collect();
    for col in columns {
        if !row.contains_key(&col.name) {
            row.insert(col.name.clone(), col.ty.default());
        }
    }
    Ok(row)
}

/// One row of `<table-updates>` (RFC 7047 §4.1.6) or `<table-updates2>`.
enum RowUpdate<'a> {
    /// `initial`, `insert`, or `new`: all columns, but those at their default may be left out.
    Whole(Cells<'a>),
    /// `modify`: columns that changed; composite ones as differences.
    Modify(Cells<'a>),
    /// `delete`, or `old` without `new`.
    Delete,
}

type Sink<'s> = dyn FnMut(&str, Uuid, RowUpdate<'_>) -> Result<(), UpdateError> + 's;

/// Walks `{table: {uuid: update}}` without building it in memory.
fn each_row(text: &str, sink: &mut Sink<'_>) -> Result<(), UpdateError> {
    let mut stopped = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let outcome = Tables { sink, stopped: &mut stopped }.deserialize(&mut deserializer);
    match stopped {
        Some(error) => Err(error),
        None => Ok(outcome?),
    }
}

struct Tables<'s, 'f> {
    sink: &'s mut Sink<'f>,
    /// The sink's own error, which serde could only carry as text.
    stopped: &'s mut Option<UpdateError>,
}

struct Rows<'s, 'f, 'a> {
    table: &'a str,
    sink: &'s mut Sink<'f>,
    stopped: &'s mut Option<UpdateError>,
}

impl<'de> Visitor<'de> for Tables<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tables")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(table) = map.next_key::<&str>()? {
            map.next_value_seed(Rows { table, sink: &mut *self.sink, stopped: &mut *self.stopped })?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Tables<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of rows")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(uuid) = map.next_key::<&str>()? {
            let uuid = Uuid::try_parse(uuid).map_err(|_| A::Error::custom(format!("'{uuid}' is not a row UUID")))?;
            let update = map.next_value::<RowUpdate<'de>>()?;
            if let Err(error) = (self.sink)(self.table, uuid, update) {
                let text = error.to_string();
                *self.stopped = Some(error);
                return Err(A::Error::custom(text));
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Deserialize<'de> for RowUpdate<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Update;
        impl<'de> Visitor<'de> for Update {
            type Value = RowUpdate<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row update")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RowUpdate<'de>, A::Error> {
                let mut update = None;
                while let Some(kind) = map.next_key::<&str>()? {
                    match kind {
                        "initial" | "insert" | "new" => update = Some(RowUpdate::Whole(map.next_value::<Columns>()?.0)),
                        "modify" => update = Some(RowUpdate::Modify(map.next_value::<Columns>()?.0)),
                        "delete" | "old" => {
                            map.next_value::<IgnoredAny>()?;
                            update.get_or_insert(RowUpdate::Delete);
                        }
                        _ => return Err(A::Error::custom(format!("unknown kind of row update '{kind}'"))),
                    }
                }
                update.ok_or_else(|| A::Error::custom("an empty row update"))
            }
        }
        deserializer.deserialize_map(Update)
    }
}

pub(super) struct Columns<'a>(pub(super) Cells<'a>);

impl<'de> Deserialize<'de> for Columns<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Columns<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns<'de>, A::Error> {
                let mut cells = Vec::new();
                while let Some(cell) = map.next_entry::<&str, &RawValue>()? {
                    cells.push(cell);
                }
                Ok(Columns(cells))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
