//! One peer, without IO: the state machine of RFC 4271 §8, up to two connections at once, timers, negotiation.
//!
//! ```text
//!                     Start, or the wait is over
//!   Idle ──────────────────────────────────────────────▶ Connect  dialling; the peer may dial us meanwhile
//!    ▲  refuses connections; waits longer after           │    ▲
//!    │  every failure (RFC 4271 §8.1.1, damping)    fails │    │ connect-retry timer
//!    │                                                    ▼    │
//!    │                                                   Active   waiting for the peer or for the timer;
//!    │                                                    │       a passive peer stays here
//!    │  OPEN refused, NOTIFICATION,          connected,   │
//!    │  hold timer, unexpected message       our OPEN out ▼
//!    ├────────────────────────────────────────────────── OpenSent ┐ one or two connections; when the peer's OPEN
//!    │                                                    │ OPEN   │ arrives on the second one, the one opened by
//!    │                                                    ▼        │ the side with the higher router id stays (§6.8)
//!    ├────────────────────────────────────────────────── OpenConfirm ┘
//!    │                                                    │ KEEPALIVE
//!    │  the same, and: send-hold timer (RFC 9687)         ▼
//!    └────────────────────────────────────────────────── Established   a third connection waits for the peer's OPEN:
//!                                                                       Cease/7, or, if graceful restart was agreed and
//!                                                                       it is up for a while, it replaces the session
//!                                                                       (RFC 4724 §4.2)
//! ```
//!
//! | file | what it is for |
//! |---|---|
//! | `state.rs` | the states, each with its own data, and entering them |
//! | `events.rs` | what happens on which event in which state |
//! | `negotiate.rs` | our OPEN, the verdict on the peer's, what both come to |
//! | `hand_over.rs` | what another process has to know to go on with a session |
//! | `restart.rs` | the routes of a restarting peer: how long they stay (RFC 4724 §4.2) |
//! | `cause.rs` | why sessions end, and the Cease subcodes |
//! | `timing.rs` | seeded jitter, waits that double |

mod cause;
mod events;
mod hand_over;
mod negotiate;
mod restart;
mod state;
#[cfg(test)]
mod tests;
mod timing;

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use cause::{Cease, Reason};
pub(crate) use hand_over::HandedSession;
pub use negotiate::{LongLivedFamily, Negotiated, PeerRestart};
pub(crate) use restart::{Helper, Kept};

use crate::rng::Rng;
use crate::speaker::{PeerConfig, SpeakerConfig};
use crate::wire::{self, Message, Notification, RouteRefresh, Update};
use state::State;
use timing::Backoff;

/// A connection of a peer. Never used twice, so that a late word about an old connection cannot be mistaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Which peer; numbers are not used again either.
    pub(crate) peer: u32,
    /// Which of its connections.
    pub(crate) serial: u32,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ends {
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// Our link-local address on the interface of the session, if the peer is on that link too.
    pub link_local: Option<Ipv6Addr>,
    /// A global IPv6 address of ours on the interface of the session.
    pub global: Option<Ipv6Addr>,
    /// The index of the interface that has our address, if one has.
    pub home: Option<u32>,
    /// The same, if the peer is on that link too.
    pub link: Option<u32>,
}

impl Ends {
    /// Two ends of which nothing else is known.
    pub const fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { local, remote, link_local: None, global: None, home: None, link: None }
    }

    /// Whether the session runs between link-local addresses.
    pub fn is_link_local(&self) -> bool {
        matches!(self.remote, SocketAddr::V6(remote) if remote.ip().is_unicast_link_local())
    }
}

/// What can happen to a peer.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Leave Idle now (ManualStart, AutomaticStart).
    Start,
    /// Tell the peer and stay down until [`Event::Start`] (ManualStop, AutomaticStop).
    Stop(Cease),
    /// Tell the peer and start again after the usual wait.
    Reset(Cease),
    /// Tell the peer to go away, and neither dial nor take a connection before that time has passed.
    Suspend(Cease, Duration),
    /// Close without a word and stay down: the peer is to keep our routes until we are back (RFC 4724 §4.1).
    Leave,
    /// It is known now where to dial, or that we may.
    Reachable,
    /// Our dial got through.
    Connected(ConnId, Ends),
    /// The connection, or the attempt, is gone.
    Lost(ConnId, String),
    /// The link under a connection cannot carry it any more, or our address is gone. With a [`Cease`] words still get through, though
    /// no answer.
    Cut(ConnId, String, Option<Cease>),
    /// A message, or what was wrong with one.
    Received(ConnId, Result<Message, wire::Error>),
    /// Bytes we had handed over were written.
    Progress(ConnId),
}

/// What a peer wants done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Connect to the peer.
    Dial(ConnId),
    /// Queue a message.
    Send(ConnId, Message),
    /// Write what is queued, then close; for an attempt: give up.
    Close(ConnId),
    /// The session is up.
    Up(ConnId, Ends, Arc<Negotiated>),
    /// The session is down. `keep`: the peer is expected back and its routes are to stay for now.
    Down { reason: Reason, keep: bool },
    /// An attempt came to nothing.
    Failed(Reason),
    /// Routes.
    Update(Box<Update>),
    /// The peer wants routes again, or brackets those it sends again.
    Refresh(RouteRefresh),
}

/// The state of a peer as RFC 4271 §8.2.2 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateName {
    /// Down; connections are refused.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting to dial or to be dialled.
    Active,
    /// Waiting for the peer's OPEN.
    OpenSent,
    /// Waiting for the peer's first KEEPALIVE.
    OpenConfirm,
    /// Up.
    Established,
}

impl StateName {
    /// The name, as operators know it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

/// A NOTIFICATION and when it passed.
#[derive(Clone, Debug)]
pub(crate) struct LastError {
    pub(crate) notification: Notification,
    pub(crate) why: String,
    pub(crate) at: Instant,
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Session {
    number: u32,
    next_serial: u32,
    speaker: Arc<SpeakerConfig>,
    config: Arc<PeerConfig>,
    state: State,
    rng: Rng,
    backoff: Backoff,
    /// The next OPEN is the first one after a restart of ours (R bit, RFC 4724 §3).
    restarted: bool,
    actions: VecDeque<Action>,
    pub(crate) last_sent: Option<LastError>,
    pub(crate) last_received: Option<LastError>,
    pub(crate) last_reason: Option<(Reason, Instant)>,
    /// Times the session came up.
    pub(crate) established_count: u64,
}

impl Session {
    /// A peer that is down until [`Event::Start`]. `number` is part of the identifiers of its connections.
    pub(crate) fn new(number: u32, speaker: Arc<SpeakerConfig>, config: Arc<PeerConfig>, seed: u64) -> Self {
        let restarted = speaker.graceful_restart.is_some_and(|g| g.restarted);
        Self {
            number,
            next_serial: 0,
            speaker,
            config,
            state: State::Idle { restart_at: None },
            rng: Rng::new(seed),
            backoff: Backoff::default(),
            restarted,
            actions: VecDeque::new(),
            last_sent: None,
            last_received: None,
            last_reason: None,
            established_count: 0,
        }
    }

    /// Takes over a configuration for what comes next; what is negotiated stays as it is.
    pub(crate) fn configure(&mut self, speaker: Arc<SpeakerConfig>, config: Arc<PeerConfig>) {
        self.speaker = speaker;
        self.config = config;
    }

    /// What is to be done, in order.
    pub(crate) fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn new_connection(&mut self) -> ConnId {
        self.next_serial += 1;
        ConnId { peer: self.number, serial: self.next_serial }
    }
}
