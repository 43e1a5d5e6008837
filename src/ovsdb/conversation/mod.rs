//! One database, followed for ever: connect, choose columns, monitor, probe, reconnect. No IO and no clock.
//!
//! ```text
//!   Waiting ──due──▶ Connecting ──connected()──▶ Asking server ─▶ Asking schema ─▶ Asking monitor ─▶ Following
//!      ▲                 │                            │                │               │  (Synced)      │
//!      └── next remote, ─┴── refused, silent, unsuitable, garbage ─────┴───────────────┴──── lost ──────┘
//!          jittered back-off
//! ```
//!
//! The rows survive a lost connection. After a reconnect the server either sends what was missed, or, if it no longer
//! knows, a complete dump; only once that dump has arrived whole does it replace the old rows, and consumers hear of the
//! rows that differ. So "no data" is never mistaken for "empty".

mod backoff;
mod handshake;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use self::backoff::Backoff;
use self::handshake::{MonitorMethod, ServerStatus};
use super::framing::{Framing, Piece};
use super::message::{self, Envelope};
use super::remote::Remote;
use super::replica::{Applied, Replica, Staged, UpdateError};
pub use super::replica::{Changes, ColumnSpec, Malformed, Missing, TableSpec};
use super::value::{Database, Uuid};

/// What to follow, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the database: `OVN_Northbound`, `Open_vSwitch`.
    pub database: String,
    /// Where it is served; tried in order.
    pub remotes: Vec<Remote>,
    /// Tables and columns.
    pub tables: Vec<TableSpec>,
    /// Follow only the leader of a cluster.
    pub leader_only: bool,
    /// After so much silence the server is asked for a sign of life; after as much again it is given up. Zero: never.
    pub probe: Duration,
    /// How long a connection attempt may take.
    pub connect_limit: Duration,
    /// Shuffle the remotes first, so that not all hosts use the same member of a cluster.
    pub shuffle: bool,
    /// Seeds the shuffling and the jitter of the back-off.
    pub seed: u64,
}

impl Config {
    /// A configuration with the usual times: probe after 60 s, connect within 10 s.
    pub fn new(database: &str, remotes: Vec<Remote>, tables: Vec<TableSpec>) -> Self {
        Self {
            database: database.to_owned(),
            remotes,
            tables,
            leader_only: false,
            probe: Duration::from_mins(1),
            connect_limit: Duration::from_secs(10),
            shuffle: false,
            seed: 0,
        }
    }
}

/// What a consumer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Rows differ now. Always comes before the `Synced` that belongs to it.
    Changed(Changes),
    /// The rows are complete and current.
    Synced {
        /// They came as a complete dump (first connection, or the server forgot what we had seen), not as the missed changes.
        fresh: bool,
    },
    /// The rows that [`Conversation::set_condition`] selected last are here, and the others are gone.
    Selected,
    /// The rows are stale until the next `Synced`. Sent once per outage.
    Down {
        /// Why, for the log.
        reason: String,
    },
    /// The schema lacks a wanted table or column. Sent once each.
    Missing(Missing),
    /// A row contradicts the schema and is left out. Sent once each.
    Malformed(Malformed),
}

/// What the edge is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect; answer with [`Conversation::connected`] or [`Conversation::disconnected`].
    Connect(Remote),
    /// Send these bytes.
    Send(Bytes),
    /// Drop the connection or the attempt; needs no answer.
    Close,
    /// Tell the consumer.
    Event(Event),
}

#[derive(Debug)]
enum Link {
    /// Until then. `None`: for ever, there is no remote.
    Waiting(Option<Instant>),
    Connecting {
        deadline: Instant,
    },
    Up(Box<Session>),
}

/// A request that waits for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    ChangeAware,
    Server,
    Schema,
    Monitor(MonitorMethod),
    Condition,
    Probe,
}

/// What only an established connection has.
#[derive(Debug)]
struct Session {
    framing: Framing,
    pending: Vec<(u64, Request)>,
    last_received: Instant,
    probed: Option<Instant>,
    server: Option<ServerStatus>,
    /// What has arrived of a dump.
    staged: Staged,
    synced: Option<Instant>,
    /// The server knows conditions.
    conditional: bool,
    /// Tables and conditions of the monitor request.
    asked: Vec<(Arc<str>, Option<Json>)>,
}

/// Why a connection is given up.
#[derive(Debug)]
enum Failure {
    /// The rows are fine as they are; the connection is not.
    Connection(String),
    /// The rows may be wrong: ask for everything.
    Contents(String),
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        Self::Contents(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Contents(format!("a message is malformed: {error}"))
    }
}

/// The state machine. Feed it with `connected`, `received`, `disconnected` and `tick`; drain [`Conversation::poll`] after each.
#[derive(Debug)]
pub struct Conversation {
    config: Config,
    link: Link,
    backoff: Backoff,
    outputs: VecDeque<Output>,
    replica: Replica,
    /// The transaction the rows correspond to, if the server numbers them.
    last_transaction: Uuid,
    next_id: u64,
    reported_missing: BTreeSet<Missing>,
    /// `Down` was sent, or nothing was ever synced and nobody was told yet.
    outage: Outage,
    /// Cluster and log index of the newest data seen, to refuse members that lag behind.
    newest: Option<(Uuid, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// Never connected; nobody was told.
    Start,
    /// The consumer knows.
    Told,
    /// All is well.
    None,
}

impl Conversation {
    /// A conversation that wants to connect at once.
    pub fn new(mut config: Config, now: Instant) -> Self {
        let backoff = Backoff::new(&mut config);
        let mut conversation = Self {
            link: Link::Waiting((!config.remotes.is_empty()).then_some(now)),
            config,
            backoff,
            outputs: VecDeque::new(),
            replica: Replica::default(),
            last_transaction: Uuid::nil(),
            next_id: 1,
            reported_missing: BTreeSet::new(),
            outage: Outage::Start,
            newest: None,
        };
        if conversation.config.remotes.is_empty() {
            conversation.tell_down("no remote is configured".to_owned());
        }
        conversation.tick(now);
        conversation
    }

    /// The rows, as of the last complete update. They stay while the connection is down.
    pub fn database(&self) -> &Database {
        self.replica.database()
    }

    /// Whether the rows are complete and current.
    pub fn is_synced(&self) -> bool {
        matches!(&self.link, Link::Up(session) if session.synced.is_some())
    }

    /// The remote in use, or next to be tried.
    pub fn remote(&self) -> Option<&Remote> {
        self.config.remotes.get(self.backoff.at)
    }

    /// The next thing to do. Call until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Conversation::tick`].
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.link {
            Link::Waiting(until) => *until,
            Link::Connecting { deadline } => Some(*deadline),
            Link::Up(_) if self.config.probe.is_zero() => None,
            Link::Up(session) => session.probed.unwrap_or(session.last_received).checked_add(self.config.probe),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.link {
            Link::Waiting(_) => {
                let Some(remote) = self.remote().cloned() else { return };
                let deadline = now.checked_add(self.config.connect_limit).unwrap_or(now);
                self.link = Link::Connecting { deadline };
                self.outputs.push_back(Output::Connect(remote));
            }
            Link::Connecting { .. } => {
                let reason = format!("no connection within {} s", self.config.connect_limit.as_secs_f32());
                self.fail(now, Failure::Connection(reason));
            }
            Link::Up(session) if session.probed.is_some() => {
                let silence = now.saturating_duration_since(session.last_received);
                self.fail(now, Failure::Connection(format!("silent for {} s", silence.as_secs())));
            }
            Link::Up(session) => {
                session.probed = Some(now);
                self.request(Request::Probe, "echo", &json!([]));
            }
        }
    }

    /// The connection asked for is established (TLS included).
    pub fn connected(&mut self, now: Instant) {
        if matches!(self.link, Link::Connecting { .. }) {
            self.link = Link::Up(Box::new(Session {
                framing: Framing::default(),
                pending: Vec::new(),
                last_received: now,
                probed: None,
                server: None,
                staged: Staged::default(),
                synced: None,
                conditional: false,
                asked: Vec::new(),
            }));
            self.ask_server();
        }
    }

    /// The connection could not be made, or is gone.
    pub fn disconnected(&mut self, now: Instant, reason: &str) {
        if !matches!(self.link, Link::Waiting(_)) {
            self.retry(now, Failure::Connection(reason.to_owned()));
        }
    }

    /// Bytes arrived at the end of `buffer`; whole messages are taken from its front.
    pub fn received(&mut self, now: Instant, buffer: &mut BytesMut) {
        loop {
            let Link::Up(session) = &mut self.link else { return };
            session.last_received = now;
            session.probed = None;
            // Nothing else that is waited for at the same time is an object of objects.
            let dump = session.pending.iter().any(|(_, request)| matches!(request, Request::Monitor(_)));
            let outcome = match session.framing.next(buffer, dump) {
                Ok(None) => return,
                Ok(Some(Piece::Message(message))) => self.message(now, &message),
                Ok(Some(Piece::Row { table, uuid, update })) => self.row_of_dump(&table, &uuid, &update),
                Err(error) => Err(Failure::Contents(error.to_string())),
            };
            if let Err(failure) = outcome {
                self.fail(now, failure);
            }
        }
    }

    /// Changes which rows of a table are followed (`monitor_cond_change`); `None`: all. Answers whether the server was told, so
    /// that [`Event::Selected`] follows; otherwise the condition counts from the next `Synced` on, or was the same already.
    pub fn set_condition(&mut self, table: &str, condition: Option<Json>) -> bool {
        let Some(spec) = self.config.tables.iter_mut().find(|spec| *spec.name == *table) else { return false };
        if spec.condition == condition {
            return false;
        }
        let selected = condition.clone().unwrap_or_else(|| json!([true]));
        spec.condition = condition;
        // Missed changes of rows that the old condition left out would be missing for ever.
        self.last_transaction = Uuid::nil();
        let tell = matches!(&self.link, Link::Up(session) if session.synced.is_some() && session.conditional);
        if tell {
            self.tell_condition(table, &selected);
        }
        tell
    }

    fn tell_condition(&mut self, table: &str, selected: &Json) {
        let id = &self.config.database;
        let params = json!([id, id, {table: [{"where": selected}]}]);
        self.request(Request::Condition, "monitor_cond_change", &params);
    }

    /// Tells the conditions that changed while the monitor request was under way.
    fn tell_late_conditions(&mut self) {
        let Link::Up(session) = &mut self.link else { return };
        let asked = std::mem::take(&mut session.asked);
        if !session.conditional {
            return;
        }
        for (table, condition) in asked {
            let spec = self.config.tables.iter().find(|spec| spec.name == table);
            if let Some(wanted) = spec.map(|spec| spec.condition.clone()).filter(|wanted| *wanted != condition) {
                self.last_transaction = Uuid::nil();
                self.tell_condition(&table, &wanted.unwrap_or_else(|| json!([true])));
            }
        }
    }

    /// Whether [`Event::Selected`] is still to come.
    pub fn awaits_selection(&self) -> bool {
        self.is_selecting() || self.outputs.contains(&Output::Event(Event::Selected))
    }

    /// A change of a condition was sent and not answered yet.
    fn is_selecting(&self) -> bool {
        let Link::Up(session) = &self.link else { return false };
        session.pending.iter().any(|(_, request)| *request == Request::Condition)
    }

    fn row_of_dump(&mut self, table: &str, uuid: &[u8], update: &[u8]) -> Result<(), Failure> {
        let Link::Up(session) = &mut self.link else { return Ok(()) };
        let uuid = Uuid::try_parse_ascii(uuid)
            .map_err(|_| Failure::Contents(format!("'{}' is not a row UUID", String::from_utf8_lossy(uuid))))?;
        Ok(self.replica.stage(&mut session.staged, table, uuid, update)?)
    }

    fn message(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Failure> {
        let envelope: Envelope<'_> = serde_json::from_slice(bytes)?;
        let Some(method) = &envelope.method else {
            return self.reply(now, &envelope);
        };
        match (&**method, envelope.params, envelope.id) {
            ("echo", Some(params), Some(id)) => self.send(message::reply(id.get(), params.get())),
            ("update" | "update2" | "update3", Some(params), _) => self.update(params)?,
            ("monitor_canceled", Some(params), _) => {
                let canceled: Vec<Json> = serde_json::from_str(params.get())?;
                if canceled.first().and_then(Json::as_str) == Some(&self.config.database) {
                    // The database was converted or removed: look again, from the start.
                    self.lost("the server canceled the monitor");
                    self.last_transaction = Uuid::nil();
                    self.ask_server();
                }
            }
            (_, _, Some(id)) => self.send(message::refusal(id.get(), "unknown method")),
            _ => {}
        }
        Ok(())
    }

    fn reply(&mut self, now: Instant, envelope: &Envelope<'_>) -> Result<(), Failure> {
        let Link::Up(session) = &mut self.link else { return Ok(()) };
        let id = envelope.id.and_then(|id| id.get().parse::<u64>().ok());
        let Some(at) = session.pending.iter().position(|(pending, _)| Some(*pending) == id) else { return Ok(()) };
        let (_, request) = session.pending.swap_remove(at);
        let result = match (envelope.error, envelope.result) {
            (Some(error), _) => Err(error.get()),
            (None, Some(result)) => Ok(result.get()),
            (None, None) => Ok("null"),
        };
        match (request, result) {
            (Request::ChangeAware | Request::Probe, _) => Ok(()),
            (Request::Condition, Ok(_)) => {
                // The rows came before this answer. Of several changes under way the last counts.
                if !self.is_selecting() {
                    self.outputs.push_back(Output::Event(Event::Selected));
                }
                Ok(())
            }
            (Request::Condition, Err(error)) => {
                Err(Failure::Connection(format!("the server refused a condition: {error}")))
            }
            (Request::Server, result) => self.on_server(result),
            (Request::Schema, result) => self.on_schema(result),
            (Request::Monitor(method), result) => self.on_monitor(now, method, result),
        }
    }

    fn update(&mut self, params: &RawValue) -> Result<(), Failure> {
        let params: Vec<&RawValue> = serde_json::from_str(params.get())?;
        let malformed = || Failure::Contents("an update without its parts".to_owned());
        let (Some(id), Some(updates)) = (params.first(), params.last()) else { return Err(malformed()) };
        let id: &str = serde_json::from_str(id.get())?;
        if id == handshake::SERVER_DATABASE {
            return self.on_server_update(updates.get());
        }
        if id != self.config.database || !self.is_synced() {
            return Ok(());
        }
        let transaction: Option<Uuid> = match params.as_slice() {
            [_, transaction, _] => Some(serde_json::from_str(transaction.get())?),
            [_, _] => None,
            _ => return Err(malformed()),
        };
        let applied = self.replica.update(updates.get())?;
        // While another condition is on its way, what is here is not what it selects as of that transaction.
        if let (Some(transaction), false) = (transaction, self.is_selecting()) {
            self.last_transaction = transaction;
        }
        self.report(applied);
        Ok(())
    }

    /// Tells what an update did; changes nobody has fetched yet grow into one event.
    fn report(&mut self, mut applied: Applied) {
        for malformed in applied.malformed {
            self.outputs.push_back(Output::Event(Event::Malformed(malformed)));
        }
        if applied.changes.is_empty() {
            return;
        }
        applied.changes.values_mut().for_each(|rows| rows.sort_unstable());
        if let Some(Output::Event(Event::Changed(waiting))) = self.outputs.back_mut() {
            for (table, rows) in applied.changes {
                let all = waiting.entry(table).or_default();
                all.extend(rows);
                all.sort_unstable();
                all.dedup();
            }
        } else {
            self.outputs.push_back(Output::Event(Event::Changed(applied.changes)));
        }
    }

    fn request(&mut self, request: Request, method: &str, params: &Json) {
        let Link::Up(session) = &mut self.link else { return };
        let id = self.next_id;
        self.next_id += 1;
        session.pending.push((id, request));
        self.outputs.push_back(Output::Send(message::request(id, method, params)));
    }

    fn send(&mut self, bytes: Bytes) {
        self.outputs.push_back(Output::Send(bytes));
    }

    /// Gives the connection up.
    fn fail(&mut self, now: Instant, failure: Failure) {
        self.outputs.push_back(Output::Close);
        self.retry(now, failure);
    }

    /// The connection is gone: which remote next, and when.
    fn retry(&mut self, now: Instant, failure: Failure) {
        let reason = match failure {
            Failure::Connection(reason) => reason,
            Failure::Contents(reason) => {
                self.last_transaction = Uuid::nil();
                reason
            }
        };
        let remote = self.remote().map(ToString::to_string).unwrap_or_default();
        let reason = format!("{remote}: {reason}");
        let synced = match &self.link {
            Link::Up(session) => session.synced,
            _ => None,
        };
        let (delay, exhausted) = self.backoff.failed(synced.map(|since| now.saturating_duration_since(since)));
        self.link = Link::Waiting(Some(now.checked_add(delay).unwrap_or(now)));
        if synced.is_some() {
            self.lost(&reason);
        } else if exhausted && self.outage == Outage::Start {
            self.tell_down(reason);
        }
        self.tick(now);
    }

    /// The rows are stale from now on.
    fn lost(&mut self, reason: &str) {
        if let Link::Up(session) = &mut self.link {
            session.synced = None;
            session.pending.clear();
        }
        if self.outage == Outage::None {
            self.tell_down(reason.to_owned());
        }
    }

    fn tell_down(&mut self, reason: String) {
        self.outage = Outage::Told;
        self.outputs.push_back(Output::Event(Event::Down { reason }));
    }

    fn tell_missing(&mut self, missing: Vec<Missing>) {
        let now: BTreeSet<Missing> = missing.into_iter().collect();
        for new in now.difference(&self.reported_missing) {
            self.outputs.push_back(Output::Event(Event::Missing(new.clone())));
        }
        self.reported_missing = now;
    }
}
