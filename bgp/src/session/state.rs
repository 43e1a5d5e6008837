//! The states of a peer, each with the data that only it has, and what is common to entering and leaving them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, Backoff, Cease, ConnId, Ends, LastError, Negotiated, Reason, Session, StateName};
use crate::wire::notification::{cease, code};
use crate::wire::{Message, Notification, Open};

/// How long to wait for the peer's OPEN: the "large value" of RFC 4271 §8.2.2.
pub(super) const OPEN_WAIT: Duration = Duration::from_mins(4);
/// How long a connection that would win a collision may hold up one that is ready.
pub(super) const COLLISION_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum State {
    /// Down until `restart_at`; for ever without it.
    Idle {
        restart_at: Option<Instant>,
    },
    /// Connect, Active, OpenSent and OpenConfirm: as far as the farthest of its connections.
    Opening(Box<Opening>),
    Established(Box<Established>),
}

#[derive(Debug)]
pub(super) struct Opening {
    pub(super) dial: Dial,
    pub(super) dialled: Option<Connection>,
    pub(super) accepted: Option<Connection>,
}

/// Our attempts to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dial {
    /// Under way; given up and begun anew at `retry_at`.
    Connecting { conn: ConnId, retry_at: Instant },
    /// The next one is due then; never: a passive peer, or the last one got through.
    Waiting { retry_at: Option<Instant> },
}

/// A connection that is not a session yet.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) ends: Ends,
    pub(super) ours: Open,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    OpenSent {
        hold_until: Instant,
    },
    OpenConfirm {
        theirs: Box<Open>,
        negotiated: Arc<Negotiated>,
        hold_until: Option<Instant>,
        keepalive_at: Option<Instant>,
        /// The peer's KEEPALIVE is there: the session is up unless a connection that would win a collision is about to.
        confirmed: bool,
    },
}

#[derive(Debug)]
pub(super) struct Established {
    pub(super) id: ConnId,
    pub(super) negotiated: Arc<Negotiated>,
    /// What that was negotiated from.
    pub(super) opens: Box<Opens>,
    pub(super) since: Instant,
    pub(super) hold_until: Option<Instant>,
    pub(super) keepalive_at: Option<Instant>,
    pub(super) send_hold_until: Option<Instant>,
    pub(super) challenger: Option<Challenger>,
}

/// The OPEN of each side.
#[derive(Debug)]
pub(super) struct Opens {
    pub(super) ours: Open,
    pub(super) theirs: Open,
}

/// A connection that came in while the session was up. It gets no OPEN before the peer has sent one: the peer may be about to
/// drop it for the session that is up, and must not be led into resolving a collision we already have resolved.
#[derive(Debug)]
pub(super) struct Challenger {
    pub(super) id: ConnId,
    pub(super) ends: Ends,
    pub(super) until: Instant,
}

impl Opening {
    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.dialled.iter().chain(&self.accepted)
    }

    pub(super) fn connections_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.dialled.iter_mut().chain(&mut self.accepted)
    }

    /// Takes a connection out.
    pub(super) fn take(&mut self, id: ConnId) -> Option<Connection> {
        [&mut self.dialled, &mut self.accepted].into_iter().find_map(|slot| slot.take_if(|c| c.id == id))
    }

    const fn dial_deadline(&self) -> Option<Instant> {
        match self.dial {
            Dial::Connecting { retry_at, .. } => Some(retry_at),
            Dial::Waiting { retry_at } => retry_at,
        }
    }
}

impl Connection {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::OpenSent { hold_until } => Some(*hold_until),
            Stage::OpenConfirm { hold_until, keepalive_at, .. } => earliest([*hold_until, *keepalive_at]),
        }
    }
}

pub(super) fn earliest(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    deadlines.into_iter().flatten().min()
}

impl State {
    /// Every connection and attempt of the state.
    fn connections(&self) -> Vec<ConnId> {
        match self {
            Self::Idle { .. } => vec![],
            Self::Opening(opening) => {
                let attempt = match opening.dial {
                    Dial::Connecting { conn, .. } => Some(conn),
                    Dial::Waiting { .. } => None,
                };
                attempt.into_iter().chain(opening.connections().map(|c| c.id)).collect()
            }
            Self::Established(up) => {
                std::iter::once(up.id).chain(up.challenger.as_ref().map(|challenger| challenger.id)).collect()
            }
        }
    }
}

impl Session {
    /// The state, as RFC 4271 names it.
    pub(crate) fn state(&self) -> StateName {
        match &self.state {
            State::Idle { .. } => StateName::Idle,
            State::Opening(opening) => opening
                .connections()
                .map(|c| match c.stage {
                    Stage::OpenSent { .. } => StateName::OpenSent,
                    Stage::OpenConfirm { .. } => StateName::OpenConfirm,
                })
                .max()
                .unwrap_or(match opening.dial {
                    Dial::Connecting { .. } => StateName::Connect,
                    Dial::Waiting { .. } => StateName::Active,
                }),
            State::Established(_) => StateName::Established,
        }
    }

    /// What was negotiated and since when the session is up, if it is.
    pub(crate) fn up(&self) -> Option<(&Arc<Negotiated>, Instant)> {
        match &self.state {
            State::Established(up) => Some((&up.negotiated, up.since)),
            _ => None,
        }
    }

    /// When [`Session::handle_timeout`] has to be called next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Idle { restart_at } => *restart_at,
            State::Opening(opening) => earliest(
                std::iter::once(opening.dial_deadline()).chain(opening.connections().map(Connection::deadline)),
            ),
            State::Established(up) => earliest([
                up.hold_until,
                up.keepalive_at,
                up.send_hold_until,
                up.challenger.as_ref().map(|challenger| challenger.until),
            ]),
        }
    }

    /// The deadlines by name, for `show`.
    pub(crate) fn timers(&self) -> Vec<(&'static str, Instant)> {
        let named = match &self.state {
            State::Idle { restart_at } => vec![("idle_hold", *restart_at)],
            State::Opening(opening) => vec![
                ("connect_retry", opening.dial_deadline()),
                ("open", earliest(opening.connections().map(Connection::deadline))),
            ],
            State::Established(up) => {
                vec![("hold", up.hold_until), ("keepalive", up.keepalive_at), ("send_hold", up.send_hold_until)]
            }
        };
        named.into_iter().filter_map(|(name, at)| at.map(|at| (name, at))).collect()
    }

    /// Whether this is the attempt to connect that is under way.
    pub(crate) fn is_dialling(&self, conn: ConnId) -> bool {
        let State::Opening(opening) = &self.state else { return false };
        matches!(opening.dial, Dial::Connecting { conn: ours, .. } if ours == conn)
    }

    /// What was agreed on a connection: there as soon as both OPENs are, also while it waits for the outcome of a collision.
    pub(crate) fn negotiated(&self, conn: ConnId) -> Option<&Negotiated> {
        match &self.state {
            State::Idle { .. } => None,
            State::Opening(opening) => opening.connections().find(|c| c.id == conn).and_then(|c| match &c.stage {
                Stage::OpenSent { .. } => None,
                Stage::OpenConfirm { negotiated, .. } => Some(&**negotiated),
            }),
            State::Established(up) => (up.id == conn).then_some(&*up.negotiated),
        }
    }

    /// Goes to another state: connections the new one does not have are closed.
    pub(super) fn enter(&mut self, next: State) {
        let kept = next.connections();
        let previous = std::mem::replace(&mut self.state, next);
        for id in previous.connections() {
            if !kept.contains(&id) {
                self.actions.push_back(Action::Close(id));
            }
        }
    }

    /// Begins a round of attempts: Connect, or Active for a passive peer.
    pub(super) fn open(&mut self, now: Instant) {
        let dial = if self.config.passive { Dial::Waiting { retry_at: None } } else { self.dial(now) };
        self.enter(State::Opening(Box::new(Opening { dial, dialled: None, accepted: None })));
    }

    /// Starts an attempt to connect.
    pub(super) fn dial(&mut self, now: Instant) -> Dial {
        let conn = self.new_connection();
        self.actions.push_back(Action::Dial(conn));
        Dial::Connecting { conn, retry_at: now + self.rng.jitter(self.config.connect_retry) }
    }

    /// Waits for the connect-retry timer.
    pub(super) fn wait_to_dial(&mut self, now: Instant) -> Dial {
        let retry_at = (!self.config.passive).then(|| now + self.rng.jitter(self.config.connect_retry));
        Dial::Waiting { retry_at }
    }

    /// A failure of the whole peer: everything is closed, and Idle lasts longer each time (RFC 4271 §8.1.1, damping).
    pub(super) fn fail(&mut self, now: Instant, reason: Reason) {
        if matches!(&self.state, State::Established(up) if now.duration_since(up.since) >= Backoff::STABLE) {
            self.backoff.reset();
        }
        let wait = self.backoff.failed();
        let restart_at = now + self.rng.jitter(wait);
        self.go_down(now, State::Idle { restart_at: Some(restart_at) }, reason);
    }

    /// Leaves whatever there is for `next`, and says why.
    pub(super) fn go_down(&mut self, now: Instant, next: State, reason: Reason) {
        self.last_reason = Some((reason.clone(), now));
        let action = match &self.state {
            State::Established(up) => Action::Down { keep: keeps_routes(&up.negotiated, &reason), reason },
            State::Opening(_) => Action::Failed(reason),
            State::Idle { .. } => return self.enter(next),
        };
        self.enter(next);
        self.actions.push_back(action);
    }

    /// Queues a NOTIFICATION and remembers it.
    pub(super) fn notify(&mut self, now: Instant, conn: ConnId, notification: Notification, why: &str) {
        self.actions.push_back(Action::Send(conn, Message::Notification(notification.clone())));
        self.last_sent = Some(LastError { notification, why: why.to_owned(), at: now });
    }

    /// The NOTIFICATION for a Cease on the session that is up: a Hard Reset where the peer would otherwise keep our routes
    /// against our will (RFC 8538 §3.1).
    pub(super) fn cease_notification(&self, cease: &Cease) -> Notification {
        let preserving = self.up().is_some_and(|(n, _)| n.restart.is_some_and(|r| r.notification));
        let notification = cease.notification();
        if preserving && cease.is_final() { notification.into_hard_reset() } else { notification }
    }
}

/// Whether the routes of a peer that went away like this are kept for its return.
///
/// RFC 4724 §4.2: when the TCP session is terminated. RFC 8538 §4.1: with the N bit on both sides also after a NOTIFICATION sent
/// or received, unless it is a Hard Reset.
fn keeps_routes(negotiated: &Negotiated, reason: &Reason) -> bool {
    let Some(restart) = negotiated.restart else { return false };
    match reason {
        Reason::Lost(_) | Reason::Replaced => true,
        Reason::Received(notification) | Reason::Sent(notification, _) => {
            let hard_reset = (notification.code, notification.subcode) == (code::CEASE, cease::HARD_RESET);
            restart.notification && !hard_reset
        }
        // Whatever the peer has preserved, there is no way to it over this link.
        Reason::Cut(_) | Reason::Closed => false,
    }
}
