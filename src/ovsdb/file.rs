//! Database files and dumps, as values.
//!
//! | written by | looks like |
//! |---|---|
//! | `ovsdb-server` (standalone), `ovsdb-client backup` | `OVSDB JSON <length> <sha1>`, newline, that many bytes of JSON; the schema first, then transactions |
//! | `ovsdb-client dump --format=json` | one object per table: `caption`, `headings`, `data` |

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::decode;
use super::intern::Interner;
use super::replica::{Column, Columns, modify, part, whole};
use super::schema::Schema;
use super::value::{Atom, Database, Row, Table, Uuid, Value};

/// A file that cannot be used, and where in it that shows.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub struct FileError {
    /// The file.
    pub path: String,
    /// The problem.
    pub error: ContentsError,
}

/// Why contents make no database.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It holds the log of one member of a cluster, from which the database cannot be told.
    #[error(
        "this is the log of a cluster member; take the database from a running server instead: \
         ovsdb-client backup unix:/path/to/nb_db.sock OVN_Northbound > nb.db"
    )]
    Clustered,
    /// It is none of the formats known.
    #[error(
        "neither a database file (OVSDB JSON …) nor the output of `ovsdb-client backup` or `ovsdb-client dump --format=json`"
    )]
    UnknownFormat,
    /// Something is wrong at one place.
    #[error("byte {offset}: {problem}")]
    Malformed {
        /// Bytes before the record (or the place in it) that is wrong.
        offset: usize,
        /// What is wrong.
        problem: String,
    },
}

/// Reads a database from a file of any of the formats above.
pub fn load(path: &Path) -> Result<Database, FileError> {
    std::fs::read(path)
        .map_err(ContentsError::from)
        .and_then(|bytes| parse(&bytes))
        .map_err(|error| FileError { path: path.display().to_string(), error })
}

/// The database that `bytes` hold, in any of the formats above.
pub fn parse(bytes: &[u8]) -> Result<Database, ContentsError> {
    if bytes.starts_with(b"OVSDB CLUSTER") {
        return Err(ContentsError::Clustered);
    }
    if bytes.starts_with(b"OVSDB JSON") {
        return log(bytes);
    }
    match bytes.trim_ascii_start().first() {
        Some(b'{') => dump(bytes),
        _ => Err(ContentsError::UnknownFormat),
    }
}

fn malformed(offset: usize, problem: impl std::fmt::Display) -> ContentsError {
    ContentsError::Malformed { offset, problem: problem.to_string() }
}

/// Takes the next record off `rest`: its JSON.
fn record<'a>(rest: &mut &'a [u8], offset: usize) -> Result<&'a str, ContentsError> {
    let newline = memchr::memchr(b'\n', rest).ok_or_else(|| malformed(offset, "a record header without end"))?;
    let (header, after) = rest.split_at(newline);
    let header = std::str::from_utf8(header).unwrap_or_default();
    let length = match header.split(' ').collect::<Vec<_>>().as_slice() {
        ["OVSDB", "JSON", length, _sha1] => length.parse::<usize>().ok(),
        _ => None,
    };
    let length = length.ok_or_else(|| malformed(offset, "not a record header (OVSDB JSON LENGTH SHA1)"))?;
    let after = after.get(1..).unwrap_or_default();
    let Some((json, after)) = after.split_at_checked(length) else {
        let problem = format!("the record should have {length} bytes, the file ends after {}", after.len());
        return Err(malformed(offset, problem));
    };
    *rest = after.trim_ascii_start();
    std::str::from_utf8(json).map_err(|e| malformed(offset + newline + 1 + e.valid_up_to(), "not UTF-8"))
}

fn log(bytes: &[u8]) -> Result<Database, ContentsError> {
    let mut rest = bytes;
    let json = record(&mut rest, 0)?;
    let json = serde_json::from_str(json).map_err(|e| malformed(0, e))?;
    let schema = Schema::parse(&json).map_err(|e| malformed(0, e))?;
    let mut log = Log {
        columns: schema
            .tables
            .iter()
            .map(|(table, columns)| {
                let column = |(name, ty): (&Arc<str>, &_)| Column { name: name.clone(), ty: *ty, keys: None };
                (table.clone(), columns.iter().map(column).collect())
            })
            .collect(),
        database: schema.tables.keys().map(|name| (name.clone(), Table::default())).collect(),
        interner: Interner::default(),
    };
    while !rest.is_empty() {
        let offset = bytes.len() - rest.len();
        let json = record(&mut rest, offset)?;
        log.transaction(json).map_err(|problem| malformed(offset, problem))?;
    }
    Ok(log.database)
}

/// A database file being played back.
struct Log {
    columns: BTreeMap<Arc<str>, Vec<Column>>,
    database: Database,
    interner: Interner,
}

impl Log {
    fn transaction(&mut self, json: &str) -> Result<(), String> {
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).map_err(|e| e.to_string())?;
        // Since Open vSwitch 2.15 changed sets and maps are written as differences.
        let differences = members.get("_is_diff").is_some_and(|raw| raw.get() == "true");
        for (table, rows) in members.iter().filter(|(name, _)| !name.starts_with('_')) {
            let rows: BTreeMap<Uuid, Option<Columns<'_>>> =
                serde_json::from_str(rows.get()).map_err(|e| format!("table {table}: {e}"))?;
            let Some((columns, contents)) = self.columns.get(&**table).zip(self.database.get_mut(&**table)) else {
                return Err(format!("table {table} is not in the schema"));
            };
            for (uuid, cells) in rows {
                write_row(columns, contents, &mut self.interner, uuid, cells.as_ref(), differences)
                    .map_err(|(column, why)| format!("table {table}, row {uuid}, column {column}: {why}"))?;
            }
        }
        Ok(())
    }
}

fn write_row(
    columns: &[Column],
    table: &mut Table,
    interner: &mut Interner,
    uuid: Uuid,
    cells: Option<&Columns<'_>>,
    differences: bool,
) -> Result<(), (Arc<str>, String)> {
    match (cells, table.get(&uuid)) {
        (None, _) => {
            table.remove(&uuid);
        }
        (Some(cells), None) => {
            table.insert(uuid, whole(columns, &cells.0, interner)?);
        }
        (Some(cells), Some(mut row)) => {
            let mut cells = part(columns, &cells.0, interner)?;
            for cell in &mut cells {
                cell.composite &= differences;
            }
            modify(&mut row, cells);
            table.insert(uuid, row);
        }
    }
    Ok(())
}

/// One table of `ovsdb-client dump --format=json`.
#[derive(Deserialize)]
struct Dump<'a> {
    #[serde(default)]
    caption: String,
    headings: Vec<String>,
    #[serde(borrow)]
    data: Vec<Vec<&'a RawValue>>,
}

fn dump(bytes: &[u8]) -> Result<Database, ContentsError> {
    let text = std::str::from_utf8(bytes).map_err(|e| malformed(e.valid_up_to(), "not UTF-8"))?;
    let mut database = Database::new();
    let mut interner = Interner::default();
    // Rows of a dump without `_uuid` get numbers; nothing can refer to them anyway.
    let mut unnamed = 0;
    let mut tables = serde_json::Deserializer::from_str(text).into_iter::<Dump<'_>>();
    loop {
        let offset = tables.byte_offset();
        let Some(table) = tables.next() else { return Ok(database) };
        let table = table.map_err(|e| malformed(offset, format!("not a table of a dump: {e}")))?;
        let name = table.caption.strip_suffix(" table").unwrap_or(&table.caption);
        if name.is_empty() {
            return Err(malformed(offset, "a table without caption"));
        }
        let headings: Vec<Arc<str>> = table.headings.iter().map(|h| Arc::from(h.as_str())).collect();
        let rows = database.entry(Arc::from(name)).or_default();
        for cells in &table.data {
            let (uuid, row) = dumped_row(&headings, cells, &mut interner)
                .map_err(|problem| malformed(offset, format!("table {name}: {problem}")))?;
            let uuid = uuid.unwrap_or_else(|| {
                unnamed += 1;
                Uuid::from_u128(unnamed)
            });
            rows.insert(uuid, row);
        }
    }
}

fn dumped_row(
    headings: &[Arc<str>],
    cells: &[&RawValue],
    interner: &mut Interner,
) -> Result<(Option<Uuid>, Row), String> {
    if cells.len() != headings.len() {
        return Err(format!("a row of {} cells under {} headings", cells.len(), headings.len()));
    }
    let (mut uuid, mut row) = (None, Row::new());
    for (heading, cell) in headings.iter().zip(cells) {
        let value = decode::column(cell.get(), None, interner).map_err(|e| format!("column {heading}: {e}"))?;
        match (&**heading, &value) {
            ("_uuid", Value::Set(atoms)) => {
                uuid = atoms.first().and_then(|atom| if let Atom::Uuid(uuid) = atom { Some(*uuid) } else { None });
            }
            ("_version", _) => {}
            _ => drop(row.insert(heading.clone(), value)),
        }
    }
    Ok((uuid, row))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"name":"D","tables":{"T":{"columns":{"s":{"type":"string"},"n":{"type":{"key":"integer","min":0}},
        "m":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}},"set":{"type":{"key":"string","min":0,"max":9}}}}}}"#;
    const ROW: &str = "36bef046-7da7-43a5-905a-c17899216fcb";

    fn file(records: &[&str]) -> Vec<u8> {
        let header = |json: &str| format!("OVSDB JSON {} {:040x}\n{json}\n", json.len() + 1, 0);
        [SCHEMA].iter().chain(records).map(|json| header(json)).collect::<String>().into_bytes()
    }

    fn row(records: &[String]) -> Row {
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        parse(&file(&records)).unwrap()["T"].get(&ROW.parse().unwrap()).unwrap()
    }

    fn written(columns: &str) -> String {
        format!(r#"{{"_date":1,"T":{{"{ROW}":{columns}}}}}"#)
    }

    fn difference(columns: &str) -> String {
        format!(r#"{{"_is_diff":true,"_comment":"x","T":{{"{ROW}":{columns}}}}}"#)
    }

    #[test]
    fn transactions_add_up() {
        let first = written(r#"{"s":"x","n":1,"m":["map",[["a","1"],["b","2"]]],"set":["set",["p","q"]]}"#);
        let rewritten = row(&[first.clone(), written(r#"{"m":["map",[["a","3"]]],"n":["set",[]]}"#)]);
        assert_eq!((rewritten["m"].get("a"), rewritten["m"].get("b")), (Some("3"), None));
        assert_eq!((rewritten["s"].as_str(), &rewritten["n"]), (Some("x"), &Value::Set(vec![])));
        let changes = r#"{"m":["map",[["a","3"],["b","2"],["c","4"]]],"set":["set",["q","r"]],"n":5}"#;
        let changed = row(&[first, difference(changes)]);
        assert_eq!((changed["m"].get("a"), changed["m"].get("b"), changed["m"].get("c")), (Some("3"), None, Some("4")));
        assert_eq!(changed["set"].strings().collect::<Vec<_>>(), ["p", "r"]);
        assert_eq!(changed["n"], Value::Set(vec![Atom::Integer(5)]));
    }

    #[test]
    fn deleted_rows_are_gone_and_columns_never_written_hold_their_default() {
        assert_eq!(row(&[difference("{}")])["s"].as_str(), Some(""));
        assert!(parse(&file(&[&written("{}"), &written("null")])).unwrap()["T"].is_empty());
    }

    #[test]
    fn dumps_of_the_client() {
        let text = format!(
            r#"{{"caption":"T table","data":[[["uuid","{ROW}"],"x",["map",[["a","1"]]]]],"headings":["_uuid","s","m"]}}
               {{"caption":"U table","headings":["s"],"data":[["p"],["q"]]}}"#
        );
        let database = parse(text.as_bytes()).unwrap();
        assert_eq!(database["T"].get(&ROW.parse().unwrap()).unwrap()["m"].get("a"), Some("1"));
        assert_eq!(database["U"].len(), 2, "rows without _uuid are rows, too");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let good = file(&[]);
        let cut = &good[..good.len() - 9];
        let bad_type = file(&[&written("{}"), &written(r#"{"n":"x"}"#)]);
        for (bytes, says) in [
            (&b"OVSDB CLUSTER 12 abc\n{}"[..], "ovsdb-client backup"),
            (b"ACL table\n_uuid action\n", "--format=json"),
            (b"", "neither"),
            (cut, "the file ends after"),
            (b"OVSDB JSON x y\n", "byte 0: not a record header"),
            (&bad_type, &format!("byte {}: table T, row {ROW}, column n", file(&[&written("{}")]).len())),
            (br#"{"caption":"T table","headings":["a"],"data":[[1,2]]}"#, "2 cells under 1 headings"),
            (br#"{"caption":"T table","headings":["a"],"data":[[1]]} {"x":1}"#, "byte 51"),
        ] {
            let error = parse(bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} does not say {says:?}");
        }
    }
}
