//! Walks a parsed TOML document and keeps every fault instead of stopping at the first.
//!
//! A [`Table`] remembers which keys were asked for; what is left at [`Table::finish`] is unknown, and the nearest of the keys asked
//! for is the hint. So the list of known keys is the code that reads them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Lines, Problem, Severity, nearest};

/// Where a value stands in the file.
pub(super) type Span = Range<usize>;

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// The document being read, and what was wrong so far.
pub(super) struct Doc<'a> {
    file: &'a Path,
    text: &'a str,
    lines: Lines,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Doc<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, lines: Lines::new(text), problems: RefCell::default() }
    }

    pub(super) fn error(&self, span: &Span, message: impl Into<String>) {
        self.push(Severity::Error, span, message.into(), None);
    }

    pub(super) fn error_hint(&self, span: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Error, span, message.into(), Some(hint.into()));
    }

    pub(super) fn warn_hint(&self, span: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Warning, span, message.into(), Some(hint.into()));
    }

    /// A reference to a name that is not defined.
    pub(super) fn undefined<'n>(
        &self,
        name: &At<String>,
        what: &str,
        table: &str,
        defined: impl IntoIterator<Item = &'n str>,
    ) {
        let defined: Vec<&str> = defined.into_iter().collect();
        let hint = match nearest(&name.value, defined.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None if defined.is_empty() => format!("define it in [{table}]"),
            None => format!("defined in [{table}]: {}", defined.join(", ")),
        };
        self.error_hint(&name.span, format!("there is no {what} '{}'", name.value), hint);
    }

    fn push(&self, severity: Severity, span: &Span, message: String, hint: Option<String>) {
        let (line, column) = self.lines.position(self.text, span);
        let problem = Problem { severity, file: self.file.to_owned(), line, column, message, hint };
        // The options of a peer group are checked once for every neighbour that inherits them.
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// Everything found, in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|p| (p.line, p.column));
        problems
    }
}

/// A table being read.
pub(super) struct Table<'a> {
    map: &'a DeTable<'a>,
    /// Where the table begins.
    pub(super) span: Span,
    /// Its name, as in the file.
    pub(super) path: String,
    asked: BTreeSet<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn new(map: &'a DeTable<'a>, span: Span, path: impl Into<String>) -> Self {
        Self { map, span, path: path.into(), asked: BTreeSet::new() }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.insert(key);
        self.map.get(key).map(|value| Value::new(value, self.name_of(key)))
    }

    /// Where the key itself stands, for faults that concern the pair.
    pub(super) fn key_span(&self, key: &str) -> Span {
        self.map.get_key_value(key).map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    /// A table inside this one.
    pub(super) fn table(&mut self, doc: &Doc<'_>, key: &'static str) -> Option<Table<'a>> {
        self.get(key)?.table(doc)
    }

    /// Every entry of a table whose keys are names the operator chose.
    pub(super) fn entries(&self) -> impl Iterator<Item = (At<String>, Value<'a>)> + use<'a> {
        let path = self.path.clone();
        self.map.iter().map(move |(key, value)| {
            let name = At { value: key.get_ref().to_string(), span: key.span() };
            let path = format!("{path}.{}", name.value);
            (name, Value::new(value, path))
        })
    }

    /// Complains of every key nobody asked for.
    pub(super) fn finish(self, doc: &Doc<'_>) {
        for key in self.map.keys() {
            let name: &str = key.get_ref();
            if self.asked.contains(name) {
                continue;
            }
            let message = match self.path.as_str() {
                "" => format!("there is no table '{name}'"),
                path => format!("unknown key '{name}' in [{path}]"),
            };
            if let Some(near) = nearest(name, self.asked.iter().copied()) {
                doc.error_hint(&key.span(), message, format!("did you mean '{near}'?"));
            } else {
                let known: Vec<&str> = self.asked.iter().copied().collect();
                doc.error_hint(&key.span(), message, format!("known here: {}", known.join(", ")));
            }
        }
    }

    fn name_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A value being read. Every reader answers `None` after having complained.
pub(super) struct Value<'a> {
    node: &'a DeValue<'a>,
    /// Where it stands.
    pub(super) span: Span,
    /// The key, with its tables.
    pub(super) path: String,
}

impl<'a> Value<'a> {
    fn new(value: &'a Spanned<DeValue<'a>>, path: String) -> Self {
        Self { node: value.get_ref(), span: value.span(), path }
    }

    /// The last part of the path: the key itself.
    pub(super) fn key(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }

    pub(super) fn at<T>(&self, value: T) -> At<T> {
        At { value, span: self.span.clone() }
    }

    fn wrong_type(&self, doc: &Doc<'_>, expected: &str) {
        doc.error(&self.span, format!("'{}' must be {expected}, not {}", self.key(), kind(self.node)));
    }

    /// A number that somebody has put in quotation marks.
    pub(super) fn quoted_number(&self) -> Option<&str> {
        self.node.as_str().filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
    }

    pub(super) fn is_str(&self) -> bool {
        self.node.is_str()
    }

    pub(super) fn is_bool(&self) -> bool {
        self.node.is_bool()
    }

    pub(super) fn is_table(&self) -> bool {
        self.node.is_table()
    }

    pub(super) fn is_integer(&self) -> bool {
        self.node.is_integer()
    }

    pub(super) fn string(&self, doc: &Doc<'_>) -> Option<At<String>> {
        let Some(text) = self.node.as_str() else {
            self.wrong_type(doc, "a string");
            return None;
        };
        if text.trim().is_empty() {
            doc.error(&self.span, format!("'{}' is empty", self.key()));
            return None;
        }
        Some(self.at(text.to_owned()))
    }

    pub(super) fn bool(&self, doc: &Doc<'_>) -> Option<At<bool>> {
        let value = self.node.as_bool();
        if value.is_none() {
            self.wrong_type(doc, "true or false");
        }
        value.map(|value| self.at(value))
    }

    /// A whole number within `range`; `what` says what it is for in the complaint.
    pub(super) fn integer<T: TryFrom<i128>>(
        &self,
        doc: &Doc<'_>,
        range: RangeInclusive<i128>,
        what: &str,
    ) -> Option<At<T>> {
        let Some(integer) = self.node.as_integer() else {
            self.wrong_type(doc, "a number");
            return None;
        };
        let value = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let good = value.filter(|v| range.contains(v)).and_then(|v| T::try_from(v).ok());
        if good.is_none() {
            let (low, high) = (range.start(), range.end());
            doc.error(&self.span, format!("'{}' is {integer}: {what} is from {low} to {high}", self.key()));
        }
        good.map(|value| self.at(value))
    }

    /// Text that `T` can read.
    pub(super) fn parse<T: FromStr<Err: Display>>(&self, doc: &Doc<'_>, expected: &str) -> Option<At<T>> {
        let text = self.node.as_str().or_else(|| {
            self.wrong_type(doc, expected);
            None
        })?;
        if let Ok(value) = text.parse() {
            Some(self.at(value))
        } else {
            doc.error(&self.span, format!("'{text}' is not {expected}"));
            None
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Clone>(&self, doc: &Doc<'_>, words: &[(&str, T)]) -> Option<At<T>> {
        let all = || words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let Some(text) = self.node.as_str() else {
            self.wrong_type(doc, &format!("one of {}", all()));
            return None;
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(self.at(value.clone()));
        }
        let message = format!("'{}' cannot be \"{text}\"", self.key());
        match nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(near) => doc.error_hint(&self.span, message, format!("did you mean \"{near}\"?")),
            None => doc.error_hint(&self.span, message, format!("one of {}", all())),
        }
        None
    }

    /// A duration with its unit.
    pub(super) fn duration(&self, doc: &Doc<'_>) -> Option<At<Duration>> {
        if let Some(integer) = self.node.as_integer() {
            let message = format!("'{}' is a number without a unit", self.key());
            doc.error_hint(&self.span, message, format!("write \"{integer}s\" for seconds"));
            return None;
        }
        let Some(text) = self.node.as_str() else {
            self.wrong_type(doc, "a duration such as \"300ms\", \"9s\" or \"2m\"");
            return None;
        };
        match super::duration::parse(text) {
            Ok(duration) => Some(self.at(duration)),
            Err(error) => {
                doc.error_hint(&self.span, format!("'{}' {error}", self.key()), "such as \"300ms\", \"9s\" or \"2m\"");
                None
            }
        }
    }

    /// The items of an array.
    pub(super) fn array(&self, doc: &Doc<'_>) -> Option<Vec<Value<'a>>> {
        let Some(array) = self.node.as_array() else {
            if self.node.is_table() && matches!(self.key(), "neighbors" | "listen_ranges" | "export") {
                // One pair of brackets too few is the commonest slip in TOML.
                let message = format!("'{}' must be a list, not a table", self.key());
                doc.error_hint(&self.span, message, format!("[[{}]], with two brackets, for each one", self.path));
            } else {
                self.wrong_type(doc, "a list");
            }
            return None;
        };
        Some(array.iter().map(|item| Value::new(item, self.path.clone())).collect())
    }

    /// A list of strings that `read` understands; items it refuses are left out after the complaint.
    pub(super) fn list<T>(&self, doc: &Doc<'_>, read: impl Fn(&Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        Some(self.array(doc)?.iter().filter_map(read).collect())
    }

    pub(super) fn table(&self, doc: &Doc<'_>) -> Option<Table<'a>> {
        let Some(map) = self.node.as_table() else {
            self.wrong_type(doc, "a table");
            return None;
        };
        Some(Table::new(map, self.span.clone(), self.path.clone()))
    }
}

/// What a value is, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
