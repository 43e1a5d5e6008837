//! A connection to a bridge's management socket.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::flow::FoundFlow;
use super::message::{self, Bundle, Change, Malformed, Message, Refusal, Version};

/// The switch answers within microseconds; this long a silence means it hangs.
const TIME_OUT: Duration = Duration::from_secs(5);

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The switch closed the connection: it restarts, or the bridge is being removed.
    #[error("the switch closed the connection")]
    Closed,
    /// The switch speaks none of our versions.
    #[error("no shared OpenFlow version: the bridge allows none of 1.0, 1.3, 1.4; see its 'protocols' column")]
    Version,
    /// The switch refused a request that cannot fail.
    #[error("the switch refused: {0}")]
    Refused(#[from] Refusal),
    /// What came is no OpenFlow.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The switch does not answer.
    #[error("no answer from the switch within {} s", TIME_OUT.as_secs())]
    Silent,
}

/// A connection that has agreed on a version. After an error it is useless; connect again.
pub struct Client {
    stream: UnixStream,
    version: Version,
    xid: u32,
    inbox: Vec<u8>,
    cookie: u64,
    /// Somebody else has changed flows with our cookie since they were last asked for.
    changed: bool,
}

/// What came of waiting.
#[derive(Debug)]
pub enum Noticed {
    /// Somebody else has changed flows with our cookie (told with 1.4 only).
    Changed,
    /// The connection is lost.
    Lost(Error),
}

impl Client {
    /// Connects and agrees on a version. Flows with this cookie are ours.
    pub async fn connect(socket: &Path, cookie: u64) -> Result<Self, Error> {
        in_time(async {
            let stream = UnixStream::connect(socket).await?;
            let inbox = Vec::with_capacity(4096);
            let mut client = Self { stream, version: Version::V14, xid: 1, inbox, cookie, changed: false };
            client.stream.write_all(&message::hello(1)).await?;
            loop {
                match client.receive().await?.1 {
                    Message::Hello(versions) => {
                        client.version = Version::negotiate(versions).ok_or(Error::Version)?;
                        if client.version >= Version::V14 {
                            // A switch that cannot says so, and is looked at by audits only.
                            let xid = client.next_xid();
                            client.stream.write_all(&message::monitor(xid, 0)).await?;
                        }
                        return Ok(client);
                    }
                    Message::Error(refusal) if refusal.kind == 0 => return Err(Error::Version),
                    _ => {}
                }
            }
        })
        .await
    }

    /// The version agreed on.
    pub fn version(&self) -> Version {
        self.version
    }

    /// All flows of ours.
    pub async fn flows(&mut self) -> Result<Vec<FoundFlow>, Error> {
        let cookie = self.cookie;
        self.changed = false;
        in_time(async {
            let xid = self.next_xid();
            self.stream.write_all(&message::dump(self.version, xid, cookie)).await?;
            let mut found = Vec::new();
            loop {
                match self.receive().await? {
                    (answered, Message::Flows { flows, more }) if answered == xid => {
                        // 1.0 cannot filter by cookie.
                        found.extend(flows.into_iter().filter(|flow| flow.cookie == cookie));
                        if !more {
                            return Ok(found);
                        }
                    }
                    (answered, Message::Error(refusal)) if answered == xid => return Err(refusal.into()),
                    _ => {}
                }
            }
        })
        .await
    }

    /// Makes the changes in order: one result each.
    ///
    /// With 1.4, several take effect at the same moment. Should the switch refuse them as a whole, they are made one by one.
    pub async fn apply(&mut self, changes: &[Change]) -> Result<Vec<Result<(), Refusal>>, Error> {
        in_time(async {
            if self.version >= Version::V14 && changes.len() > 1 && self.apply_bundle(changes).await? {
                return Ok(vec![Ok(()); changes.len()]);
            }
            self.apply_one_by_one(changes).await
        })
        .await
    }

    /// Waits until somebody else changes our flows or the connection is lost, and answers the switch's echo requests meanwhile.
    /// Cancel-safe.
    pub async fn notice(&mut self) -> Noticed {
        loop {
            if std::mem::take(&mut self.changed) {
                return Noticed::Changed;
            }
            if let Err(error) = self.receive().await {
                return Noticed::Lost(error);
            }
        }
    }

    /// Whether the bundle was committed. A refused one has changed nothing.
    async fn apply_bundle(&mut self, changes: &[Change]) -> Result<bool, Error> {
        let id = self.next_xid();
        let mut bytes = message::bundle(id, id, Bundle::Open);
        for change in changes {
            bytes.extend(message::bundle_add(self.next_xid(), id, change));
        }
        let commit = self.next_xid();
        bytes.extend(message::bundle(commit, id, Bundle::Commit));
        // Whatever was refused: everything is over when the barrier is answered.
        let barrier = self.next_xid();
        bytes.extend(message::barrier(self.version, barrier));
        self.stream.write_all(&bytes).await?;
        let mut committed = false;
        loop {
            match self.receive().await? {
                (_, Message::Bundle(Bundle::CommitReply)) => committed = true,
                (_, Message::Error(refusal)) => tracing::debug!(%refusal, "bundle refused, changing flows one by one"),
                (answered, Message::BarrierReply) if answered == barrier => return Ok(committed),
                _ => {}
            }
        }
    }

    async fn apply_one_by_one(&mut self, changes: &[Change]) -> Result<Vec<Result<(), Refusal>>, Error> {
        let mut bytes = Vec::with_capacity(changes.len() * 128);
        let mut asked: HashMap<u32, usize> = HashMap::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            let xid = self.next_xid();
            asked.insert(xid, index);
            bytes.extend(message::flow_mod(self.version, xid, change));
        }
        let barrier = self.next_xid();
        bytes.extend(message::barrier(self.version, barrier));
        self.stream.write_all(&bytes).await?;
        let mut results = vec![Ok(()); changes.len()];
        loop {
            match self.receive().await? {
                (answered, Message::BarrierReply) if answered == barrier => return Ok(results),
                (answered, Message::Error(refusal)) => {
                    let slot = asked.get(&answered).and_then(|index| results.get_mut(*index));
                    if let Some(slot) = slot {
                        *slot = Err(refusal);
                    }
                }
                _ => {}
            }
        }
    }

    /// The next message but echo requests, which are answered. Cancel-safe.
    async fn receive(&mut self) -> Result<(u32, Message), Error> {
        loop {
            while let Some(length) = message::complete(&self.inbox)? {
                let bytes: Vec<u8> = self.inbox.drain(..length).collect();
                match message::decode(&bytes)? {
                    (xid, Message::EchoRequest(payload)) => {
                        let reply = message::echo_reply(self.version, xid, &payload);
                        // A switch that does not read such a small answer is not to be waited for.
                        if self.stream.try_write(&reply)? < reply.len() {
                            return Err(Error::Silent);
                        }
                    }
                    (_, Message::FlowUpdates(cookies)) => {
                        let cookie = self.cookie;
                        self.changed |= cookies.into_iter().any(|one| one.is_none_or(|one| one == cookie));
                        return Ok((0, Message::FlowUpdates(Vec::new())));
                    }
                    answer => return Ok(answer),
                }
            }
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(Error::Closed);
            }
        }
    }

    fn next_xid(&mut self) -> u32 {
        self.xid = self.xid.wrapping_add(1);
        self.xid
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(TIME_OUT, work).await.unwrap_or(Err(Error::Silent))
}
