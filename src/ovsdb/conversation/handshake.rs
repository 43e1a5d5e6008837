//! From a fresh connection to a running monitor: is this server fit, what is its schema, what has changed.

use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::{Conversation, Event, Failure, Link, Outage, Output, Request, UpdateError};
use crate::ovsdb::message;
use crate::ovsdb::replica::{Replica, Staged, TableSpec};
use crate::ovsdb::schema::{AtomType, ColumnType, Schema};
use crate::ovsdb::value::{Atom, Row, Uuid, Value};

/// The database in which a server describes the others (ovsdb-server(5)); also the id of its monitor.
pub(super) const SERVER_DATABASE: &str = "_Server";

const SERVER_COLUMNS: &[&str] = &["name", "model", "connected", "leader", "cid", "index"];

/// The generations of monitors, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MonitorMethod {
    /// Reply `[found, transaction, updates2]`, then `update3`.
    CondSince,
    /// Reply `updates2`, then `update2`.
    Cond,
    /// Reply `updates`, then `update`.
    Plain,
}

/// What this server says about its databases.
#[derive(Debug)]
pub(super) struct ServerStatus(Replica);

impl ServerStatus {
    fn new() -> Self {
        // The types are fixed by ovsdb-server(5); asking for this schema, too, would cost a round trip.
        let types = [
            ("name", ColumnType::scalar(AtomType::String)),
            ("model", ColumnType::scalar(AtomType::String)),
            ("connected", ColumnType::scalar(AtomType::Boolean)),
            ("leader", ColumnType::scalar(AtomType::Boolean)),
            ("cid", ColumnType::optional(AtomType::Uuid)),
            ("index", ColumnType::optional(AtomType::Integer)),
        ];
        let columns = types.into_iter().map(|(name, ty)| (name.into(), ty)).collect();
        let schema = Schema { tables: [("Database".into(), columns)].into(), ..Schema::default() };
        let mut replica = Replica::default();
        replica.choose(&TableSpec::list(&[("Database", SERVER_COLUMNS)]), &schema);
        Self(replica)
    }

    fn row(&self, database: &str) -> Option<Row> {
        let mut rows = self.0.database().get("Database")?.values();
        rows.find(|row| row.get("name").and_then(Value::as_str) == Some(database))
    }
}

fn atom<'a>(row: &'a Row, column: &str) -> Option<&'a Atom> {
    match row.get(column)? {
        Value::Set(atoms) => atoms.first(),
        Value::Map(_) => None,
    }
}

impl Conversation {
    /// Step 1: is the database there, and connected to its cluster?
    pub(super) fn ask_server(&mut self) {
        // Otherwise the server cuts every connection whenever one of its databases comes or goes.
        self.request(Request::ChangeAware, "set_db_change_aware", &json!([true]));
        let params = json!([SERVER_DATABASE, SERVER_DATABASE, {"Database": [{"columns": SERVER_COLUMNS}]}]);
        self.request(Request::Server, "monitor_cond", &params);
    }

    pub(super) fn on_server(&mut self, result: Result<&str, &str>) -> Result<(), Failure> {
        let mut status = None;
        // Before Open vSwitch 2.10 there is no such database: then there are no clusters either.
        if let Ok(dump) = result {
            let mut server = ServerStatus::new();
            server.0.replace(Staged::default(), dump)?;
            status = Some(server);
        }
        let Link::Up(session) = &mut self.link else { return Ok(()) };
        session.server = status;
        self.check_server()?;
        // Step 2: which tables and columns does it have?
        let database = self.config.database.clone();
        self.request(Request::Schema, "get_schema", &json!([database]));
        Ok(())
    }

    pub(super) fn on_server_update(&mut self, updates: &str) -> Result<(), Failure> {
        let Link::Up(session) = &mut self.link else { return Ok(()) };
        let Some(server) = &mut session.server else { return Ok(()) };
        match server.0.update(updates) {
            Ok(_) => self.check_server(),
            Err(error @ (UpdateError::Json(_) | UpdateError::OutOfStep { .. })) => Err(error.into()),
        }
    }

    /// Whether this server may be followed; also remembers how new its data is.
    fn check_server(&mut self) -> Result<(), Failure> {
        let Link::Up(session) = &self.link else { return Ok(()) };
        let Some(server) = &session.server else { return Ok(()) };
        let name = &self.config.database;
        let unfit = |why: &str| Err(Failure::Connection(format!("{why} ({name})")));
        let Some(row) = server.row(name) else {
            return unfit("the server has no such database");
        };
        let is = |column| atom(&row, column) == Some(&Atom::Boolean(true));
        match row.get("model").and_then(Value::as_str) {
            Some("clustered") => {
                if !is("connected") {
                    return unfit("the server is not connected to its cluster");
                }
                if self.config.leader_only && !is("leader") {
                    return unfit("the server is not the leader of its cluster");
                }
                if let (Some(Atom::Uuid(cluster)), Some(Atom::Integer(index))) =
                    (atom(&row, "cid"), atom(&row, "index"))
                {
                    match self.newest {
                        // Going back in time would withdraw what has been added since.
                        Some((known, newest)) if known == *cluster && *index < newest && session.synced.is_none() => {
                            return unfit("the server's data is older than what another member had");
                        }
                        _ => self.newest = Some((*cluster, *index)),
                    }
                }
            }
            Some("relay") if !is("connected") => return unfit("the relay is not connected to its source"),
            Some("relay") if self.config.leader_only => return unfit("the server is a relay, and a leader is wanted"),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn on_schema(&mut self, result: Result<&str, &str>) -> Result<(), Failure> {
        let refused = |error: &str| Failure::Connection(format!("the server refused its schema: {error}"));
        let json: Json = serde_json::from_str(result.map_err(refused)?)?;
        let schema = Schema::parse(&json).map_err(|error| Failure::Connection(error.to_string()))?;
        let (changed, missing) = self.replica.choose(&self.config.tables, &schema);
        if changed {
            // Columns that were not followed so far have no history here.
            self.last_transaction = Uuid::nil();
        }
        self.tell_missing(missing);
        self.ask_monitor(MonitorMethod::CondSince);
        Ok(())
    }

    /// Step 3: the rows, or what changed since we saw them last.
    fn ask_monitor(&mut self, method: MonitorMethod) {
        let mut tables = serde_json::Map::new();
        for (table, columns) in self.replica.chosen() {
            let columns: Vec<&str> = columns.map(|c| &**c).collect();
            let condition =
                self.config.tables.iter().find(|spec| spec.name == *table).and_then(|s| s.condition.as_ref());
            let request = match (condition, method) {
                (Some(condition), MonitorMethod::CondSince | MonitorMethod::Cond) => {
                    json!([{"columns": columns, "where": condition}])
                }
                _ => json!([{"columns": columns}]),
            };
            tables.insert(table.to_string(), request);
        }
        if let Link::Up(session) = &mut self.link {
            let asked = self.config.tables.iter().map(|spec| (spec.name.clone(), spec.condition.clone()));
            session.asked = asked.filter(|(table, _)| tables.contains_key(&**table)).collect();
        }
        let database = self.config.database.clone();
        let (name, params) = match method {
            MonitorMethod::CondSince => {
                ("monitor_cond_since", json!([database, database, tables, self.last_transaction.to_string()]))
            }
            MonitorMethod::Cond => ("monitor_cond", json!([database, database, tables])),
            MonitorMethod::Plain => ("monitor", json!([database, database, tables])),
        };
        self.request(Request::Monitor(method), name, &params);
    }

    pub(super) fn on_monitor(
        &mut self,
        now: std::time::Instant,
        method: MonitorMethod,
        result: Result<&str, &str>,
    ) -> Result<(), Failure> {
        let result = match (result, method) {
            (Ok(result), _) => result,
            (Err(error), MonitorMethod::CondSince) if message::is_unknown_method(error) => {
                self.ask_monitor(MonitorMethod::Cond);
                return Ok(());
            }
            (Err(error), MonitorMethod::Cond) if message::is_unknown_method(error) => {
                self.ask_monitor(MonitorMethod::Plain);
                return Ok(());
            }
            (Err(error), _) => {
                return Err(Failure::Connection(format!("the server refused to be monitored: {error}")));
            }
        };
        let (found, transaction, updates) = match method {
            MonitorMethod::CondSince => {
                let (found, transaction, updates): (bool, Uuid, &RawValue) = serde_json::from_str(result)?;
                (found, transaction, updates.get())
            }
            MonitorMethod::Cond | MonitorMethod::Plain => (false, Uuid::nil(), result),
        };
        let staged = match &mut self.link {
            Link::Up(session) => std::mem::take(&mut session.staged),
            _ => Staged::default(),
        };
        let applied = if found { self.replica.update(updates)? } else { self.replica.replace(staged, updates)? };
        self.last_transaction = transaction;
        self.report(applied);
        if let Link::Up(session) = &mut self.link {
            session.synced = Some(now);
            session.conditional = method != MonitorMethod::Plain;
        }
        self.outage = Outage::None;
        self.outputs.push_back(Output::Event(Event::Synced { fresh: !found }));
        self.tell_late_conditions();
        Ok(())
    }
}
