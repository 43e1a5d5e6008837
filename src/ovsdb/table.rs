//! Rows at rest: packed to a few hundred bytes each.
//!
//! As [`Value`]s the ports of a large cloud would take more than a kilobyte each, on every hypervisor, for the sake of a few
//! hundred that matter there. But they must be kept, as the server sends differences. So a row is kept as one string of bytes:
//!
//! ```text
//! row     = count, (name, value) …               sorted by name
//! value   = count × 2 + is-map, atom …           of a map: key, value, key, value …
//! atom    = tag, contents                        see the constants
//! count   = LEB128
//! ```
//!
//! Column names and the first 256 map keys of a table are written as one byte. UUIDs in text form, with which OpenStack names nearly
//! everything, take 16 bytes instead of 36.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::intern::Interner;
use super::value::{Atom, Row, Uuid, Value};

const INTEGER: u8 = 0;
const REAL: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const UUID: u8 = 4;
/// Length and bytes.
const STRING: u8 = 5;
/// Length and bytes of what precedes, then a UUID that the text ends with.
const STRING_UUID: u8 = 6;
/// A byte that stands for a name.
const NAME: u8 = 7;

/// The length of a UUID as text.
const UUID_TEXT: usize = 36;

/// A table's rows by UUID. Reading one unpacks it.
#[derive(Clone, Default)]
pub struct Table {
    names: Names,
    rows: HashMap<Uuid, Box<[u8]>>,
}

/// What has arrived of a dump: rows that are here already cost next to nothing a second time.
#[derive(Debug, Default)]
pub(super) struct StagedRows {
    same: HashSet<Uuid>,
    other: HashMap<Uuid, Box<[u8]>>,
}

/// Names that are written as one byte. Only ever grows, so that equal rows have equal bytes.
#[derive(Clone, Default)]
struct Names {
    list: Vec<Arc<str>>,
    codes: HashMap<Arc<str>, u8>,
}

impl Names {
    fn code(&mut self, name: &Arc<str>) -> Option<u8> {
        if let Some(code) = self.codes.get(name) {
            return Some(*code);
        }
        let code = u8::try_from(self.list.len()).ok()?;
        self.list.push(name.clone());
        self.codes.insert(name.clone(), code);
        Some(code)
    }
}

impl Table {
    /// The row.
    pub fn get(&self, uuid: &Uuid) -> Option<Row> {
        self.get_with(uuid, &mut Interner::off())
    }

    /// The row, its strings shared with rows that were read before through the same interner.
    pub fn get_with(&self, uuid: &Uuid, interner: &mut Interner) -> Option<Row> {
        self.unpack(self.rows.get(uuid)?, interner)
    }

    /// Visits the strings of a column, or those under one key of a map column, without unpacking the rows.
    pub fn texts(&self, column: &str, key: Option<&str>, mut visit: impl FnMut(Uuid, &str)) {
        let (mut interner, mut text) = (Interner::off(), String::new());
        for (uuid, packed) in &self.rows {
            let mut row = Unpacker { names: &self.names.list, bytes: packed, interner: &mut interner };
            // `None` ends a row early, and is no error.
            let _ = row.texts(column, key, &mut text, &mut |text| visit(*uuid, text));
        }
    }

    /// Adds or replaces a row; whether it differs from what was there.
    pub fn insert(&mut self, uuid: Uuid, row: impl Borrow<Row>) -> bool {
        let packed = self.pack(row.borrow());
        match self.rows.get_mut(&uuid) {
            Some(old) if **old == *packed => false,
            Some(old) => {
                *old = packed;
                true
            }
            None => {
                self.rows.insert(uuid, packed);
                true
            }
        }
    }

    /// Removes a row; whether there was one.
    pub fn remove(&mut self, uuid: &Uuid) -> bool {
        self.rows.remove(uuid).is_some()
    }

    /// Whether the row is there.
    pub fn contains_key(&self, uuid: &Uuid) -> bool {
        self.rows.contains_key(uuid)
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The UUIDs of all rows, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &Uuid> {
        self.rows.keys()
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Uuid, Row)> {
        let mut interner = Interner::off();
        self.rows.iter().filter_map(move |(uuid, packed)| Some((uuid, self.unpack(packed, &mut interner)?)))
    }

    /// All rows without their UUIDs, in no order.
    pub fn values(&self) -> impl Iterator<Item = Row> {
        self.iter().map(|(_, row)| row)
    }

    /// Puts a row of a dump aside until the dump is complete.
    pub(super) fn stage(&mut self, staged: &mut StagedRows, uuid: Uuid, row: &Row) {
        let packed = self.pack(row);
        if self.rows.get(&uuid).is_some_and(|old| **old == *packed) {
            staged.same.insert(uuid);
        } else {
            staged.other.insert(uuid, packed);
        }
    }

    /// Makes the rows of a complete dump the rows of this table. Answers which differ.
    pub(super) fn replace(&mut self, staged: StagedRows) -> Vec<Uuid> {
        let StagedRows { same, other } = staged;
        if self.rows.is_empty() {
            self.rows = other;
            return self.rows.keys().copied().collect();
        }
        let mut changed: Vec<Uuid> =
            self.rows.keys().filter(|uuid| !same.contains(uuid) && !other.contains_key(uuid)).copied().collect();
        for uuid in &changed {
            self.rows.remove(uuid);
        }
        changed.extend(other.keys());
        self.rows.extend(other);
        changed
    }

    fn pack(&mut self, row: &Row) -> Box<[u8]> {
        let mut out = Packer { names: &mut self.names, bytes: Vec::with_capacity(512) };
        out.count(row.len());
        for (name, value) in row {
            out.name(name);
            out.value(value);
        }
        Box::from(out.bytes.as_slice())
    }

    /// `None` cannot happen: nobody else writes these bytes.
    fn unpack(&self, packed: &[u8], interner: &mut Interner) -> Option<Row> {
        let mut from = Unpacker { names: &self.names.list, bytes: packed, interner };
        let count = from.count()?;
        let mut row = Row::new();
        for _ in 0..count {
            let Atom::String(name) = from.atom()? else { return None };
            row.insert(name, from.value()?);
        }
        Some(row)
    }
}

struct Packer<'a> {
    names: &'a mut Names,
    bytes: Vec<u8>,
}

impl Packer<'_> {
    fn number(&mut self, mut n: u64) {
        loop {
            let [low, ..] = (n & 0x7f).to_le_bytes();
            n >>= 7;
            if n == 0 {
                self.bytes.push(low);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }

    fn count(&mut self, n: usize) {
        self.number(n as u64);
    }

    fn name(&mut self, name: &Arc<str>) {
        match self.names.code(name) {
            Some(code) => self.bytes.extend_from_slice(&[NAME, code]),
            None => self.string(name),
        }
    }

    fn string(&mut self, text: &str) {
        let mut buffer = [0; UUID_TEXT];
        let split = text.len().checked_sub(UUID_TEXT).and_then(|at| text.split_at_checked(at));
        if let Some((before, tail)) = split
            && let Ok(uuid) = Uuid::try_parse(tail)
            && uuid.hyphenated().encode_lower(&mut buffer) == tail
        {
            self.bytes.push(STRING_UUID);
            self.count(before.len());
            self.bytes.extend_from_slice(before.as_bytes());
            self.bytes.extend_from_slice(uuid.as_bytes());
        } else {
            self.bytes.push(STRING);
            self.count(text.len());
            self.bytes.extend_from_slice(text.as_bytes());
        }
    }

    fn atom(&mut self, atom: &Atom) {
        match atom {
            Atom::Integer(n) => {
                self.bytes.push(INTEGER);
                // Zigzag: small negative numbers are short, too.
                self.number(((n << 1) ^ (n >> 63)).cast_unsigned());
            }
            Atom::Real(x) => {
                self.bytes.push(REAL);
                self.bytes.extend_from_slice(&x.to_le_bytes());
            }
            Atom::Boolean(false) => self.bytes.push(FALSE),
            Atom::Boolean(true) => self.bytes.push(TRUE),
            Atom::Uuid(uuid) => {
                self.bytes.push(UUID);
                self.bytes.extend_from_slice(uuid.as_bytes());
            }
            Atom::String(text) => self.string(text),
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Set(atoms) => {
                self.count(atoms.len() * 2);
                for atom in atoms {
                    self.atom(atom);
                }
            }
            Value::Map(pairs) => {
                self.count(pairs.len() * 2 + 1);
                for (key, value) in pairs {
                    match key {
                        Atom::String(key) => self.name(key),
                        other => self.atom(other),
                    }
                    self.atom(value);
                }
            }
        }
    }
}

struct Unpacker<'a> {
    names: &'a [Arc<str>],
    bytes: &'a [u8],
    interner: &'a mut Interner,
}

impl<'a> Unpacker<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.count()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn atom(&mut self) -> Option<Atom> {
        let [tag] = self.array()?;
        Some(match tag {
            INTEGER => {
                let n = self.number()?;
                Atom::Integer((n >> 1).cast_signed() ^ -(n & 1).cast_signed())
            }
            REAL => Atom::Real(f64::from_le_bytes(self.array()?)),
            FALSE => Atom::Boolean(false),
            TRUE => Atom::Boolean(true),
            UUID => Atom::Uuid(Uuid::from_bytes(self.array()?)),
            STRING => {
                let text = self.text()?;
                Atom::String(self.interner.get(text))
            }
            STRING_UUID => {
                let before = self.text()?;
                let uuid = Uuid::from_bytes(self.array()?).hyphenated();
                Atom::String(self.interner.get(&format!("{before}{uuid}")))
            }
            NAME => {
                let [code] = self.array()?;
                Atom::String(self.names.get(usize::from(code))?.clone())
            }
            _ => return None,
        })
    }

    /// Reads an atom into `text`, if it is a string.
    fn read_text(&mut self, text: &mut String) -> Option<bool> {
        text.clear();
        let [tag] = self.array()?;
        match tag {
            INTEGER => drop(self.number()?),
            REAL => drop(self.array::<8>()?),
            FALSE | TRUE => {}
            UUID => drop(self.array::<16>()?),
            STRING => text.push_str(self.text()?),
            STRING_UUID => {
                text.push_str(self.text()?);
                let uuid = Uuid::from_bytes(self.array()?).hyphenated();
                text.push_str(uuid.encode_lower(&mut [0; UUID_TEXT]));
            }
            NAME => {
                let [code] = self.array()?;
                text.push_str(self.names.get(usize::from(code))?);
            }
            _ => return None,
        }
        Some(matches!(tag, STRING | STRING_UUID | NAME))
    }

    fn texts(
        &mut self,
        column: &str,
        key: Option<&str>,
        text: &mut String,
        visit: &mut impl FnMut(&str),
    ) -> Option<()> {
        for _ in 0..self.count()? {
            self.read_text(text)?;
            let found = text == column;
            let count = self.count()?;
            for _ in 0..count / 2 {
                let mut wanted = found;
                if count & 1 != 0 {
                    // A key that is no string leaves `text` empty; that is not the empty key.
                    let is_text = self.read_text(text)?;
                    wanted &= key.is_none_or(|key| is_text && text == key);
                }
                if self.read_text(text)? && wanted {
                    visit(text);
                }
            }
            if found {
                return Some(());
            }
        }
        Some(())
    }

    fn value(&mut self) -> Option<Value> {
        let count = self.count()?;
        if count & 1 == 0 {
            return (0..count / 2).map(|_| self.atom()).collect::<Option<_>>().map(Value::Set);
        }
        (0..count / 2).map(|_| self.atom().zip(self.atom())).collect::<Option<_>>().map(Value::Map)
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        // Names need not have the same codes in both.
        self.len() == other.len() && self.iter().all(|(uuid, row)| other.get(uuid).as_ref() == Some(&row))
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Extend<(Uuid, Row)> for Table {
    fn extend<I: IntoIterator<Item = (Uuid, Row)>>(&mut self, rows: I) {
        for (uuid, row) in rows {
            self.insert(uuid, row);
        }
    }
}

impl FromIterator<(Uuid, Row)> for Table {
    fn from_iter<I: IntoIterator<Item = (Uuid, Row)>>(rows: I) -> Self {
        let mut table = Self::default();
        table.extend(rows);
        table
    }
}

impl<const N: usize> From<[(Uuid, Row); N]> for Table {
    fn from(rows: [(Uuid, Row); N]) -> Self {
        rows.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn atom() -> impl Strategy<Value = Atom> {
        let text = |s: String| Atom::String(s.into());
        prop_oneof![
            any::<i64>().prop_map(Atom::Integer),
            (-9i64..9).prop_map(Atom::Integer),
            any::<f64>().prop_filter("equal to itself", |x| x.is_finite()).prop_map(Atom::Real),
            any::<bool>().prop_map(Atom::Boolean),
            any::<u128>().prop_map(|n| Atom::Uuid(Uuid::from_u128(n))),
            ".*".prop_map(text),
            (".{0,8}", any::<u128>()).prop_map(move |(before, n)| text(format!("{before}{}", Uuid::from_u128(n)))),
            // Not the canonical form: must come back as it was.
            any::<u128>().prop_map(move |n| text(Uuid::from_u128(n).to_string().to_uppercase())),
            any::<u128>().prop_map(move |n| text(Uuid::from_u128(n).urn().to_string())),
        ]
    }

    fn row() -> impl Strategy<Value = Row> {
        let value = prop_oneof![
            prop::collection::vec(atom(), 0..4).prop_map(Value::Set),
            prop::collection::vec((atom(), atom()), 0..4).prop_map(Value::Map),
        ];
        prop::collection::btree_map("[a-z]{1,3}".prop_map(Arc::from), value, 0..6)
    }

    proptest! {
        /// A row comes back as it went in, and is told from another exactly if it is another.
        #[test]
        fn packing_loses_nothing(rows in prop::collection::vec((0u128..3, row()), 1..6)) {
            let mut table = Table::default();
            for (number, row) in rows {
                let uuid = Uuid::from_u128(number);
                let differs = table.get(&uuid).as_ref() != Some(&row);
                prop_assert_eq!(table.insert(uuid, &row), differs);
                prop_assert_eq!(table.get(&uuid), Some(row));
            }
            let again: Table = table.iter().map(|(uuid, row)| (*uuid, row)).collect();
            prop_assert_eq!(&again, &table);
            for (column, key) in table.values().flatten().flat_map(|(column, value)| match value {
                Value::Set(_) => vec![(column, None)],
                Value::Map(pairs) => pairs.into_iter().map(|(key, _)| (column.clone(), Some(key))).collect(),
            }) {
                let key = match &key {
                    None => None,
                    Some(Atom::String(key)) => Some(&**key),
                    Some(_) => continue,
                };
                let mut expected = Vec::new();
                for (uuid, row) in table.iter() {
                    match (row.get(&column), key) {
                        (Some(value @ Value::Set(_)), None) => expected.extend(value.strings().map(|text| (*uuid, text.to_owned()))),
                        (Some(Value::Map(pairs)), Some(key)) => expected.extend(pairs.iter().filter_map(|pair| match pair {
                            (Atom::String(k), Atom::String(text)) if **k == *key => Some((*uuid, text.to_string())),
                            _ => None,
                        })),
                        _ => {}
                    }
                }
                let mut found = Vec::new();
                table.texts(&column, key, |uuid, text| found.push((uuid, text.to_owned())));
                let is_map = |uuid: &Uuid| matches!(table.get(uuid).unwrap().get(&column), Some(Value::Map(_)));
                found.retain(|(uuid, _)| is_map(uuid) == key.is_some());
                prop_assert_eq!(found, expected);
            }
            let mut staged = StagedRows::default();
            again.iter().for_each(|(uuid, row)| table.stage(&mut staged, *uuid, &row));
            prop_assert!(table.replace(staged).is_empty());
            prop_assert_eq!(&again, &table);
        }
    }

    #[test]
    fn a_key_that_is_no_text_is_not_the_empty_text() {
        let text = |s: &str| Atom::String(s.into());
        let pairs = Value::Map(vec![(Atom::Integer(0), text("number")), (text(""), text("empty"))]);
        let table = Table::from([(Uuid::nil(), Row::from([("m".into(), pairs)]))]);
        let mut found = Vec::new();
        table.texts("m", Some(""), |_, text| found.push(text.to_owned()));
        assert_eq!(found, ["empty"]);
    }

    #[test]
    fn more_names_than_codes_are_no_trouble() {
        let pairs = |n: std::ops::Range<usize>| {
            let atom = |n: usize| Atom::String(format!("key-{n:04}").into());
            Row::from([("m".into(), Value::Map(n.map(|n| (atom(n), Atom::Boolean(true))).collect()))])
        };
        let mut table = Table::default();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        table.insert(one, pairs(0..300));
        table.insert(two, pairs(200..400));
        assert_eq!((table.get(&one), table.get(&two)), (Some(pairs(0..300)), Some(pairs(200..400))));
        assert!(!table.insert(two, pairs(200..400)));
    }
}
