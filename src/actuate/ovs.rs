//! The bridges' side of the wiring: flows with our cookie.
//!
//! One long-lived connection a bridge. Its end is how a restart of the switch is noticed; then it is tried again, soon and for
//! ever, and the flows that were lost with the restart are put back by whoever waits for [`Ovs::event`].

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{OpError, describe};
use crate::desired::wiring::{Key, Spec};
use crate::diff::Op;
use crate::mac::Mac;
use crate::openflow::client::{Client, Error};
use crate::openflow::flow::{Flow, FoundFlow};
use crate::openflow::message::Change;

const TABLE: u8 = 0;
const PRIORITY: u16 = 900;
const ETH_TYPE_IPV4: u16 = 0x0800;
const ETH_TYPE_IPV6: u16 = 0x86dd;
/// How often a bridge that is away is looked for. Connecting to a unix socket that is not there costs microseconds.
const RETRY: Duration = Duration::from_millis(200);

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
}

/// Our end of all bridges.
pub struct Ovs {
    rundir: PathBuf,
    cookie: u64,
    bridges: BTreeMap<String, Connection>,
}

enum Connection {
    Up(Box<Client>),
    /// Not there; when to look again.
    Down(Instant),
}

impl Ovs {
    /// Connects to nothing yet. `rundir` is where the switch keeps its management sockets, usually `/run/openvswitch`.
    pub fn new(rundir: impl Into<PathBuf>, cookie: u64) -> Self {
        Self { rundir: rundir.into(), cookie, bridges: BTreeMap::new() }
    }

    /// Names the bridges that concern us. One that does no longer is still kept an eye on, so that its flows get removed.
    pub fn watch(&mut self, bridges: &BTreeSet<String>) {
        for bridge in bridges {
            self.bridges.entry(bridge.clone()).or_insert_with(|| Connection::Down(Instant::now()));
        }
    }

    /// All flows of ours, and the bridges that could not be asked with the reason.
    ///
    /// A flow with another action than the one we use reads as [`Spec::Present`]; one with our cookie that no key can name is
    /// left alone.
    pub async fn observe(&mut self) -> (BTreeMap<Key, Spec>, BTreeMap<String, String>) {
        let (mut found, mut silent) = (BTreeMap::new(), BTreeMap::new());
        let cookie = self.cookie;
        for (bridge, connection) in &mut self.bridges {
            let flows = match up(&self.rundir, bridge, connection).await {
                Ok(client) => client.flows(cookie).await,
                Err(error) => Err(error),
            };
            match flows {
                Ok(flows) => found.extend(flows.iter().filter_map(|flow| object(bridge, flow))),
                Err(error) => {
                    *connection = Connection::Down(Instant::now() + RETRY);
                    silent.insert(bridge.clone(), error.to_string());
                }
            }
        }
        (found, silent)
    }

    /// Applies operations on flows in the order given, several on one bridge at once: one result each.
    pub async fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), OpError>> {
        let mut results = Vec::with_capacity(ops.len());
        for run in ops.chunk_by(|a, b| bridge_of(a) == bridge_of(b)) {
            match run.first().and_then(bridge_of) {
                Some(bridge) => results.extend(self.apply_on(bridge, run).await),
                None => results.extend(run.iter().map(|_| Err(OpError::WrongWorld("bridges")))),
            }
        }
        results
    }

    async fn apply_on(&mut self, bridge: &str, ops: &[Op]) -> Vec<Result<(), OpError>> {
        let cookie = self.cookie;
        let changes: Vec<Change> = ops.iter().filter_map(|op| change(op, cookie)).collect();
        if changes.len() != ops.len() {
            let nonsense = |op: &Op| OpError::Refused { what: format!("{op:?}"), reason: "makes no sense".to_owned() };
            return ops.iter().map(|op| Err(nonsense(op))).collect();
        }
        let connection = self.bridges.entry(bridge.to_owned()).or_insert_with(|| Connection::Down(Instant::now()));
        let outcome = match up(&self.rundir, bridge, connection).await {
            Ok(client) => client.apply(&changes).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(answers) => {
                ops.iter().zip(answers).map(|(op, answer)| answer.map_err(|error| explain(op, &error))).collect()
            }
            Err(error) => {
                *connection = Connection::Down(Instant::now() + RETRY);
                let failed = || OpError::NoBridge { bridge: bridge.to_owned(), reason: error.to_string() };
                ops.iter().map(|_| Err(failed())).collect()
            }
        }
    }

    /// Waits until a bridge's switch goes or comes back. Cancel-safe.
    pub async fn event(&mut self) -> Event {
        loop {
            if let Some((bridge, error)) = self.wait().await {
                tracing::info!(%bridge, reason = %error, "lost the switch");
                self.bridges.insert(bridge.clone(), Connection::Down(Instant::now() + RETRY));
                return Event::Lost { bridge, reason: error.to_string() };
            }
            let now = Instant::now();
            for (bridge, connection) in &mut self.bridges {
                let Connection::Down(at) = connection else { continue };
                if *at > now {
                    continue;
                }
                // Should this be cut short, the next call begins where this one was.
                if up(&self.rundir, bridge, connection).await.is_ok() {
                    return Event::Up { bridge: bridge.clone() };
                }
                *connection = Connection::Down(Instant::now() + RETRY);
            }
        }
    }

    /// Until a connection is lost (which, why) or it is time to look for a bridge that is down (none).
    async fn wait(&mut self) -> Option<(String, Error)> {
        let next = self.bridges.values().filter_map(Connection::retry_at).min();
        let mut timer = pin!(async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        });
        let mut losses: Vec<_> = self
            .bridges
            .iter_mut()
            .filter_map(|(bridge, connection)| match connection {
                Connection::Up(client) => Some(Box::pin(async move { (bridge.clone(), client.lost().await) })),
                Connection::Down(_) => None,
            })
            .collect();
        poll_fn(|context| {
            for loss in &mut losses {
                if let Poll::Ready(lost) = loss.as_mut().poll(context) {
                    return Poll::Ready(Some(lost));
                }
            }
            timer.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}

impl Connection {
    fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Up(_) => None,
            Self::Down(at) => Some(*at),
        }
    }
}

/// The client of a connection, connecting if it is down.
async fn up<'a>(rundir: &Path, bridge: &str, connection: &'a mut Connection) -> Result<&'a mut Client, Error> {
    if let Connection::Down(_) = connection {
        let client = Client::connect(&rundir.join(format!("{bridge}.mgmt"))).await?;
        tracing::info!(bridge, version = %client.version(), "connected to the switch");
        *connection = Connection::Up(Box::new(client));
    }
    match connection {
        Connection::Up(client) => Ok(client),
        Connection::Down(_) => Err(Error::Closed),
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
