//! The bridges' side of the wiring: flows with our cookie.
//!
//! One long-lived connection a bridge. Its end is how a restart of the switch is noticed; then it is tried again, soon and for
//! ever, and the flows that were lost with the restart are put back by whoever waits for [`Ovs::event`].
//!
//! All bridges are asked at the same time, and none is waited for longer than [`PATIENCE`]: one whose switch hangs must not keep
//! the other bridges, the kernel or the announcements waiting. What it was asked stays asked. From then on nobody waits for it at
//! all, until it has answered something in time; when its answer comes, that is an event.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{OpError, describe};
use crate::desired::wiring::{Key, Spec};
use crate::diff::Op;
use crate::mac::Mac;
use crate::openflow::client::{Client, Error, Noticed};
use crate::openflow::flow::{Flow, FoundFlow};
use crate::openflow::message::{Change, Refusal};

const TABLE: u8 = 0;
const PRIORITY: u16 = 900;
const ETH_TYPE_IPV4: u16 = 0x0800;
const ETH_TYPE_IPV6: u16 = 0x86dd;
/// How often a bridge that is away is looked for. Connecting to a unix socket that is not there costs microseconds.
const RETRY: Duration = Duration::from_millis(200);
/// A switch answers within microseconds, under load within some milliseconds. Longer than this nobody waits for it.
const PATIENCE: Duration = Duration::from_millis(200);

/// Something happened to a bridge's switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection was lost: the switch restarts, or the bridge was removed.
    Lost {
        /// The bridge.
        bridge: String,
        /// What was seen of it.
        reason: String,
    },
    /// The bridge answers (again). Its flows may be gone.
    Up {
        /// The bridge.
        bridge: String,
    },
    /// Somebody else has touched flows of ours.
    Changed {
        /// The bridge.
        bridge: String,
    },
}

/// What became of [`Ovs::remove_all`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// How many flows were removed.
    pub flows: usize,
    /// The bridges that may still have some, with the reason.
    pub left: BTreeMap<String, String>,
}

/// Our end of all bridges.
pub struct Ovs {
    rundir: PathBuf,
    cookie: u64,
    bridges: BTreeMap<String, Bridge>,
}

/// One bridge's switch.
struct Bridge {
    name: String,
    socket: PathBuf,
    cookie: u64,
    state: State,
    /// It has left a question unanswered for longer than [`PATIENCE`].
    slow: bool,
    /// Flows that came when nobody waited for them any more. Nothing was changed since.
    late_flows: Option<Vec<FoundFlow>>,
}

enum State {
    /// Nothing is asked.
    Idle(Box<Client>),
    /// Something is, and goes on whoever waits for it.
    Busy { work: Work, since: Instant, connecting: bool },
    /// Not there; when to look again.
    Down(Instant),
}

/// The connection comes back with the answer, unless it is of no use any more.
type Work = Pin<Box<dyn Future<Output = Result<(Box<Client>, Answer), Error>> + Send>>;

enum Answer {
    Connected,
    Flows(Vec<FoundFlow>),
    Applied(Vec<Result<(), Refusal>>),
}

impl Ovs {
    /// Connects to nothing yet. `rundir` is where the switch keeps its management sockets, usually `/run/openvswitch`.
    pub fn new(rundir: impl Into<PathBuf>, cookie: u64) -> Self {
        Self { rundir: rundir.into(), cookie, bridges: BTreeMap::new() }
    }

    /// Names the bridges that concern us. One that does no longer is still kept an eye on, so that its flows get removed.
    pub fn watch(&mut self, bridges: &BTreeSet<String>) {
        for bridge in bridges {
            self.add(bridge);
        }
    }

    fn add(&mut self, name: &str) {
        if !self.bridges.contains_key(name) {
            let socket = self.rundir.join(format!("{name}.mgmt"));
            self.bridges.insert(name.to_owned(), Bridge::new(name, socket, self.cookie));
        }
    }

    /// All flows of ours, and the bridges that could not be asked with the reason.
    ///
    /// A flow with another action than the one we use reads as [`Spec::Present`]; one with our cookie that no key can name is
    /// left alone.
    pub async fn observe(&mut self) -> (BTreeMap<Key, Spec>, BTreeMap<String, String>) {
        let asked = self.bridges.values_mut().map(|bridge| async move {
            let flows = bridge.flows().await;
            (bridge.name.as_str(), flows)
        });
        let (mut found, mut silent) = (BTreeMap::new(), BTreeMap::new());
        for (bridge, flows) in join_all(asked).await {
            match flows {
                Ok(flows) => found.extend(flows.iter().filter_map(|flow| object(bridge, flow))),
                Err(reason) => drop(silent.insert(bridge.to_owned(), reason)),
            }
        }
        (found, silent)
    }

    /// Applies operations on flows, on each bridge in the order given and several at once: one result each.
    pub async fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), OpError>> {
        let mut by_bridge: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, op) in ops.iter().enumerate() {
            if let Some(bridge) = bridge_of(op) {
                self.add(bridge);
                by_bridge.entry(bridge).or_default().push(index);
            }
        }
        let under_way = self.bridges.iter_mut().filter_map(|(name, bridge)| {
            let indexes = by_bridge.remove(name.as_str())?;
            let ops: Vec<&Op> = indexes.iter().filter_map(|index| ops.get(*index)).collect();
            Some(async move { indexes.into_iter().zip(bridge.apply(&ops).await) })
        });
        let mut done: BTreeMap<usize, _> = join_all(under_way).await.into_iter().flatten().collect();
        let foreign = || Err(OpError::WrongWorld("bridges"));
        (0..ops.len()).map(|index| done.remove(&index).unwrap_or_else(foreign)).collect()
    }

    /// What marks flows as ours.
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Removes all flows of our form that carry a cookie from bridges. The bridges are not kept an eye on. One that cannot be
    /// asked does not keep the others.
    pub async fn remove_all(&self, bridges: BTreeSet<String>, cookie: u64) -> Cleared {
        let mut them = Self::new(&self.rundir, cookie);
        them.watch(&bridges);
        let (found, mut left) = them.observe().await;
        let ops: Vec<Op> = found.into_keys().map(Op::Remove).collect();
        let results = them.apply(&ops).await;
        let mut flows = 0;
        for (op, result) in ops.iter().zip(results) {
            match result {
                Ok(()) => flows += 1,
                Err(error) => left.extend(bridge_of(op).map(|bridge| (bridge.to_owned(), error.to_string()))),
            }
        }
        Cleared { flows, left }
    }

    /// Waits until a bridge's switch goes or comes back, or answers after all. Cancel-safe.
    pub async fn event(&mut self) -> Event {
        if self.bridges.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.bridges.values_mut().map(|bridge| Box::pin(bridge.event()))).await.0
    }
}

impl Bridge {
    fn new(name: &str, socket: PathBuf, cookie: u64) -> Self {
        let state = State::Down(Instant::now());
        Self { name: name.to_owned(), socket, cookie, state, slow: false, late_flows: None }
    }

    async fn flows(&mut self) -> Result<Vec<FoundFlow>, String> {
        let until = self.patience();
        self.idle(until).await?;
        if let Some(flows) = self.late_flows.take() {
            return Ok(flows);
        }
        let dump = |mut client: Box<Client>| async move {
            let flows = client.flows().await?;
            Ok((client, Answer::Flows(flows)))
        };
        match self.ask(until, dump).await? {
            Answer::Flows(flows) => Ok(flows),
            _ => Err("answered something else".to_owned()),
        }
    }

    async fn apply(&mut self, ops: &[&Op]) -> Vec<Result<(), OpError>> {
        let changes: Vec<Change> = ops.iter().filter_map(|op| change(op, self.cookie)).collect();
        if changes.len() != ops.len() {
            let nonsense = |op: &&Op| OpError::Refused { what: format!("{op:?}"), reason: "makes no sense".to_owned() };
            return ops.iter().map(|op| Err(nonsense(op))).collect();
        }
        match self.make(changes).await {
            Ok(answers) => {
                ops.iter().zip(answers).map(|(op, answer)| answer.map_err(|error| explain(op, &error))).collect()
            }
            Err(reason) => {
                let failed = || OpError::NoBridge { bridge: self.name.clone(), reason: reason.clone() };
                ops.iter().map(|_| Err(failed())).collect()
            }
        }
    }

    async fn make(&mut self, changes: Vec<Change>) -> Result<Vec<Result<(), Refusal>>, String> {
        let until = self.patience();
        self.idle(until).await?;
        self.late_flows = None;
        let apply = |mut client: Box<Client>| async move {
            let answers = client.apply(&changes).await?;
            Ok((client, Answer::Applied(answers)))
        };
        match self.ask(until, apply).await? {
            Answer::Applied(answers) => Ok(answers),
            _ => Err("answered something else".to_owned()),
        }
    }

    /// How long this one is waited for now.
    fn patience(&self) -> Instant {
        let now = Instant::now();
        if self.slow { now } else { now + PATIENCE }
    }

    /// Waits until something can be asked: connects, or waits for the answer to something else.
    async fn idle(&mut self, until: Instant) -> Result<(), String> {
        if matches!(self.state, State::Down(_)) {
            self.connect();
        }
        if matches!(self.state, State::Busy { .. })
            && let Answer::Flows(flows) = self.wait(until).await?
        {
            self.late_flows = Some(flows);
        }
        Ok(())
    }

    fn connect(&mut self) {
        let (socket, cookie) = (self.socket.clone(), self.cookie);
        let work = async move { Ok((Box::new(Client::connect(&socket, cookie).await?), Answer::Connected)) };
        self.state = State::Busy { work: Box::pin(work), since: Instant::now(), connecting: true };
    }

    /// Asks a switch that is idle, and waits for the answer until then.
    async fn ask<W>(&mut self, until: Instant, work: impl FnOnce(Box<Client>) -> W) -> Result<Answer, String>
    where
        W: Future<Output = Result<(Box<Client>, Answer), Error>> + Send + 'static,
    {
        match std::mem::replace(&mut self.state, State::Down(Instant::now())) {
            State::Idle(client) => {
                self.state = State::Busy { work: Box::pin(work(client)), since: Instant::now(), connecting: false };
                self.wait(until).await
            }
            other => {
                self.state = other;
                Err("not connected".to_owned())
            }
        }
    }

    async fn wait(&mut self, until: Instant) -> Result<Answer, String> {
        if let Ok(outcome) = timeout_at(until, poll_fn(|context| self.poll(context))).await {
            return outcome.map_err(|error| error.to_string());
        }
        if !std::mem::replace(&mut self.slow, true) {
            tracing::warn!(bridge = self.name, "the switch does not answer; its flows have to wait");
        }
        Err("the switch does not answer".to_owned())
    }

    /// Takes what was asked a step further, whoever waits for it.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Answer, Error>> {
        let State::Busy { work, since, connecting } = &mut self.state else { return Poll::Pending };
        let Poll::Ready(outcome) = work.as_mut().poll(context) else { return Poll::Pending };
        let (in_time, connecting) = (since.elapsed() < PATIENCE, *connecting);
        match outcome {
            Ok((client, answer)) => {
                if connecting {
                    tracing::info!(bridge = self.name, version = %client.version(), "connected to the switch");
                } else if in_time && std::mem::replace(&mut self.slow, false) {
                    tracing::info!(bridge = self.name, "the switch answers again");
                }
                self.state = State::Idle(client);
                Poll::Ready(Ok(answer))
            }
            Err(error) => {
                if !connecting {
                    self.lost(&error);
                }
                self.state = State::Down(Instant::now() + RETRY);
                Poll::Ready(Err(error))
            }
        }
    }

    fn lost(&mut self, reason: &Error) {
        tracing::info!(bridge = self.name, %reason, "lost the switch");
        self.late_flows = None;
    }

    /// Waits until something becomes of it that whoever keeps the flows has to know. Cancel-safe.
    async fn event(&mut self) -> Event {
        let bridge = self.name.clone();
        loop {
            match &mut self.state {
                State::Idle(client) => {
                    let Noticed::Lost(error) = client.notice().await else {
                        // An answer that nobody has taken yet is about what was there before.
                        self.late_flows = None;
                        return Event::Changed { bridge };
                    };
                    self.lost(&error);
                    self.state = State::Down(Instant::now() + RETRY);
                    return Event::Lost { bridge, reason: error.to_string() };
                }
                State::Busy { connecting, .. } => {
                    let connecting = *connecting;
                    match poll_fn(|context| self.poll(context)).await {
                        Ok(Answer::Flows(flows)) => {
                            self.late_flows = Some(flows);
                            return Event::Up { bridge };
                        }
                        Ok(_) => return Event::Up { bridge },
                        Err(_) if connecting => {}
                        Err(error) => return Event::Lost { bridge, reason: error.to_string() },
                    }
                }
                State::Down(until) => {
                    sleep_until(*until).await;
                    self.connect();
                }
            }
        }
    }
}

fn bridge_of(op: &Op) -> Option<&str> {
    match op.key() {
        Key::Flow { bridge, .. } => Some(bridge),
        _ => None,
    }
}

/// What an operation means on the switch.
fn change(op: &Op, cookie: u64) -> Option<Change> {
    let Key::Flow { in_port, v6, .. } = op.key() else { return None };
    let eth_type = if *v6 { ETH_TYPE_IPV6 } else { ETH_TYPE_IPV4 };
    let flow = |set_dst| Flow { table: TABLE, priority: PRIORITY, cookie, in_port: *in_port, eth_type, set_dst };
    match op {
        Op::Set(_, Spec::ModDlDst(mac)) => Some(Change::Add(flow(*mac))),
        Op::Set(..) => None,
        // A removal does not look at the action.
        Op::Remove(_) => Some(Change::Remove(flow(Mac([0; 6])))),
    }
}

/// What a flow found is in our words.
fn object(bridge: &str, flow: &FoundFlow) -> Option<(Key, Spec)> {
    let key = match flow.matches {
        Some((in_port, eth_type @ (ETH_TYPE_IPV4 | ETH_TYPE_IPV6)))
            if (flow.table, flow.priority) == (TABLE, PRIORITY) =>
        {
            Key::Flow { bridge: bridge.to_owned(), in_port, v6: eth_type == ETH_TYPE_IPV6 }
        }
        _ => {
            tracing::debug!(bridge, ?flow, "a flow with our cookie that is not ours");
            return None;
        }
    };
    Some((key, flow.set_dst.map_or(Spec::Present, Spec::ModDlDst)))
}

fn explain(op: &Op, refusal: &crate::openflow::message::Refusal) -> OpError {
    let verb = if matches!(op, Op::Set(..)) { "add" } else { "remove" };
    OpError::Refused { what: format!("{verb} {}", describe(op.key())), reason: refusal.to_string() }
}
