//! What the daemon was told and what followed from it, as JSON lines; and the same again from such a file.
//!
//! ```text
//! {"at":0.0,"options":{…}}                                           the configuration's part in the rules
//! {"at":0.1,"facts":{…}}                                             the hypervisor: local database, kernel devices
//! {"at":0.2,"rows":{"NAT":{"<uuid>":{"type":"snat",…}}}}             Northbound rows as they are now; null: gone
//! {"at":0.2,"northbound":"complete"}                                 or "cleared": another database takes over; "lost"
//! {"at":0.3,"effects":{"announce":["10.0.0.1/32"],"wire":[…],…}}     what differs in the desired state since the last such line
//! ```
//!
//! `at` is in seconds since the recording began. Pure: the edge gives the time and takes the lines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::desired::wiring::{Key, Spec};
use crate::desired::{Desired, Options, compute};
use crate::host::Facts;
use crate::nb::View;
use crate::ovsdb::value::{Database, Row, Uuid, Value};

/// Table → row → column → value (RFC 7047 §5.1); `None` for a row that is gone.
pub type Rows = BTreeMap<String, BTreeMap<Uuid, Option<BTreeMap<String, Json>>>>;

/// One line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Seconds since the recording began.
    pub at: f64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The configuration was read.
    Options(Options),
    /// Something is new about the hypervisor.
    Facts(Box<Facts>),
    /// Northbound rows changed.
    Rows(Rows),
    /// Something happened to the Northbound connection.
    Northbound(Northbound),
    /// The desired state was brought up to date.
    Effects(Effects),
}

/// What can happen to the Northbound connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Northbound {
    /// All rows are there.
    Complete,
    /// Another database takes over: its rows follow, those of the former one are gone.
    Cleared,
    /// What is there stands.
    Lost,
}

/// What differs in the desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effects {
    /// Prefixes to announce that were not.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub announce: BTreeSet<IpNet>,
    /// Prefixes no longer to announce.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub withdraw: BTreeSet<IpNet>,
    /// Kernel and OVS objects that are new, or other than they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wire: Vec<(Key, Spec)>,
    /// Objects nobody needs any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwire: Vec<Key>,
}

/// The desired state as it was when the last effects were said.
#[derive(Clone, Debug, Default)]
pub struct Told {
    routes: BTreeSet<IpNet>,
    objects: BTreeMap<Key, Spec>,
}

impl Told {
    /// What differs now.
    pub fn effects(&mut self, desired: &Desired) -> Effects {
        let routes: BTreeSet<IpNet> = desired.routes.keys().copied().collect();
        let objects: BTreeMap<Key, Spec> =
            desired.wiring.objects.iter().map(|(key, object)| (key.clone(), object.spec.clone())).collect();
        let new = objects.iter().filter(|(key, spec)| self.objects.get(key) != Some(spec));
        let effects = Effects {
            announce: routes.difference(&self.routes).copied().collect(),
            withdraw: self.routes.difference(&routes).copied().collect(),
            wire: new.map(|(key, spec)| (key.clone(), spec.clone())).collect(),
            unwire: self.objects.keys().filter(|key| !objects.contains_key(key)).cloned().collect(),
        };
        (self.routes, self.objects) = (routes, objects);
        effects
    }
}

/// These rows of a database, for a line.
pub fn rows<'a>(database: &Database, changed: impl IntoIterator<Item = (&'a str, Uuid)>) -> Rows {
    let mut out = Rows::new();
    for (table, uuid) in changed {
        let row = database.get(table).and_then(|rows| rows.get(&uuid));
        let row = row.map(|row| row.iter().map(|(column, value)| (column.to_string(), value.to_json())).collect());
        out.entry(table.to_owned()).or_default().insert(uuid, row);
    }
    out
}

/// A line that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Not a line of a recording.
    #[error("not a line of a recording: {0}")]
    Line(#[from] serde_json::Error),
    /// A value in a row is none.
    #[error("row {row} of table {table}, column {column}: {problem}")]
    Value {
        /// The table.
        table: String,
        /// The row.
        row: Uuid,
        /// The column.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A recording taken in line by line.
#[derive(Debug, Default)]
pub struct Replay {
    database: Database,
    view: View,
    facts: Option<Facts>,
    options: Options,
    told: Told,
}

impl Replay {
    /// Takes in a line. Where the recording says effects: those that follow from the lines before.
    ///
    /// # Errors
    /// The line is none, or a row in it cannot be read.
    pub fn line(&mut self, text: &str) -> Result<Option<(Line, Effects)>, ReplayError> {
        let line: Line = serde_json::from_str(text)?;
        match &line.entry {
            Entry::Options(options) => self.options = options.clone(),
            Entry::Facts(facts) => {
                if self.facts.as_ref().map(|old| &old.chassis) != Some(&facts.chassis) {
                    self.view = View::focused(facts.chassis.clone()).filled(&self.database).0;
                }
                self.facts = Some(Facts::clone(facts));
            }
            Entry::Rows(rows) => self.take(rows)?,
            Entry::Northbound(Northbound::Cleared) => {
                self.database.clear();
                let chassis = self.facts.as_ref().map(|facts| facts.chassis.clone());
                self.view = View::focused(chassis.unwrap_or_default());
            }
            Entry::Northbound(_) => {}
            Entry::Effects(_) => {
                let effects = self.effects();
                return Ok(Some((line, effects)));
            }
        }
        Ok(None)
    }

    /// What differs in the desired state since the effects before.
    pub fn effects(&mut self) -> Effects {
        let facts = self.facts.clone().unwrap_or_default();
        self.told.effects(&compute(&self.view, &facts, &self.options))
    }

    fn take(&mut self, rows: &Rows) -> Result<(), ReplayError> {
        let mut changed = Vec::new();
        for (table, rows) in rows {
            let present = self.database.entry(Arc::from(&**table)).or_default();
            for (uuid, columns) in rows {
                match columns {
                    None => drop(present.remove(uuid)),
                    Some(columns) => drop(present.insert(*uuid, row(table, *uuid, columns)?)),
                }
                changed.push((&**table, *uuid));
            }
        }
        if self.facts.is_some() {
            self.view.apply(&self.database, changed);
        }
        Ok(())
    }
}

fn row(table: &str, uuid: Uuid, columns: &BTreeMap<String, Json>) -> Result<Row, ReplayError> {
    let value = |column: &String, json: &Json| {
        let value = Value::from_json(json).map_err(|problem| ReplayError::Value {
            table: table.to_owned(),
            row: uuid,
            column: column.clone(),
            problem,
        })?;
        Ok((Arc::from(&**column), value))
    };
    columns.iter().map(|(column, json)| value(column, json)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_none_says_why() {
        let says = |line: &str| Replay::default().line(line).unwrap_err().to_string();
        assert!(says("{}").contains("not a line of a recording"), "{}", says("{}"));
        let uuid = Uuid::from_u128(7);
        let bad = says(&format!(r#"{{"at":1.0,"rows":{{"NAT":{{"{uuid}":{{"type":["bag",[]]}}}}}}}}"#));
        assert!(bad.contains(&uuid.to_string()) && bad.contains("column type"), "{bad}");
    }
}
