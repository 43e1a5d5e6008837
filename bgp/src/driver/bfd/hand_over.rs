//! Sessions that another process goes on with, or another thread of this one: what it needs to know besides the machines, and when
//! the peers are patient enough for it.
//!
//! ```text
//!   hand_over ──▶ peers are asked for patience (a poll sequence) ──▶ their answers, or AGREEMENT ──▶ HandOver, sockets closed
//!   take_over ──▶ sockets opened, under the same source ports ──▶ a packet at once: the old intervals (a poll sequence)
//! ```
//!
//! Nobody listens in between: what arrives is lost, and the peer may be told so by ICMP. Nobody is meant to notice that: a control
//! packet is sent from a socket that is not connected.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::super::sockets;
use super::run::{Driver, FIRST_SOURCE_PORT, Slot};
use super::{Peers, Watched};
use crate::bfd::damping::{Damping, HandedDamping};
use crate::bfd::{HandedEntry, Lapse, SessionKey, State};
use crate::speaker::{BfdFailure, PeerAddress};

/// How long the peers are given to agree to a longer transmit interval. Who has not by then is not waited for: its packets of the
/// poll may be lost, and its patience may be long enough as it is.
const AGREEMENT: Duration = Duration::from_millis(300);

/// All that somebody else needs to go on with the sessions: the keys are part of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HandOver {
    /// When, by the clock that all processes share since the machine was started.
    at: Duration,
    /// How long a pause the peers were told of.
    pause: Duration,
    /// Whom to watch, until [`super::Handle::set_peers`] says otherwise.
    peers: Vec<(PeerAddress, Watched)>,
    sessions: Vec<HandedSlot>,
}

/// One session.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct HandedSlot {
    /// `None`: the peer is no longer watched. It is told so for a Detection Time, from the beginning.
    peer: Option<PeerAddress>,
    watched: Watched,
    /// What the interface's name stood for.
    interface_index: Option<u32>,
    port: Option<u16>,
    damping: HandedDamping,
    held: Option<Duration>,
    /// Its path has failed, and nothing is to go there.
    down: bool,
    standing: Option<Standing>,
    entry: HandedEntry,
}

/// What the speaker knows of a path that holds until it is told otherwise: another speaker has to be told again. A failure that was
/// acted upon is not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// It works.
    Up,
    /// The peer wants no BFD.
    Disabled,
    /// It has failed so often that no session is to begin.
    Held,
}

/// Somebody waits for the sessions.
#[derive(Debug)]
pub(super) struct Handing {
    pub(super) reply: oneshot::Sender<HandOver>,
    pub(super) pause: Duration,
    until: Instant,
}

impl Handing {
    pub(super) fn new(now: Instant, pause: Duration, reply: oneshot::Sender<HandOver>) -> Self {
        Self { reply, pause, until: now + AGREEMENT }
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.until
    }
}

impl HandOver {
    pub(super) fn peers(&self) -> Peers {
        self.peers.iter().cloned().collect()
    }

    /// The sessions whose path has failed.
    pub(super) fn down(&self) -> BTreeSet<SessionKey> {
        self.sessions.iter().filter(|session| session.down).map(|session| session.entry.key.clone()).collect()
    }
}

impl Driver<'_> {
    /// The sessions, if somebody waits for them and the peers are patient, or were given long enough to be.
    pub(super) fn handed_over(&mut self) -> Option<(oneshot::Sender<HandOver>, HandOver)> {
        let now = Instant::now();
        // Whoever gave up waiting takes nothing over. The pause ends by itself.
        let handing = self.handing.take().filter(|handing| !handing.reply.is_closed())?;
        let agreed = self.table.sessions().all(|seen| seen.session.state() != State::Up || !seen.session.polling());
        if !agreed && now < handing.until {
            self.handing = Some(handing);
            return None;
        }
        Some((handing.reply, self.hand_over(now, handing.pause)))
    }

    fn hand_over(&self, now: Instant, pause: Duration) -> HandOver {
        let left = |at: Instant| at.saturating_duration_since(now);
        let sessions = self.table.hand_over(now).into_iter().filter_map(|entry| {
            let slot = self.slots.get(&entry.key)?;
            Some(HandedSlot {
                peer: slot.peer.clone(),
                watched: slot.watched.clone(),
                interface_index: index(&entry.key),
                port: slot.port,
                damping: slot.damping.hand_over(now),
                held: slot.held_until.map(left),
                down: self.down.contains(&entry.key),
                standing: slot.standing,
                entry,
            })
        });
        let peers = self.links.peers.borrow().iter().map(|(peer, watched)| (peer.clone(), watched.clone())).collect();
        HandOver { at: since_boot(), pause, peers, sessions: sessions.collect() }
    }

    /// Goes on with sessions that were handed over, and tells the speaker what holds of them.
    pub(super) fn take_over(&mut self, handed: HandOver) {
        let HandOver { at, pause, sessions, .. } = handed;
        let Some(gap) = since_boot().checked_sub(at) else {
            return tracing::error!(
                "BFD was handed over before the machine was started; all of its sessions begin anew"
            );
        };
        let (now, count) = (Instant::now(), sessions.len());
        let lapse = Lapse { gap, grace: pause };
        for session in sessions {
            self.take_over_one(now, session, lapse);
        }
        self.held = self.slots.values().filter_map(|slot| slot.held_until).min();
        // A neighbour may be no longer watched; and one whose session could not be taken over gets a new one.
        self.configure();
        let standing: Vec<_> = self.slots.values().filter_map(|s| Some((s.peer.clone()?, s.standing?))).collect();
        tracing::info!(sessions = self.slots.len(), handed_over = count, ?gap, "BFD goes on");
        for (peer, standing) in standing {
            self.repeat(peer, standing);
        }
    }

    fn take_over_one(&mut self, now: Instant, handed: HandedSlot, lapse: Lapse) {
        let HandedSlot { peer, watched, port, entry, .. } = handed;
        let key = entry.key.clone();
        if handed.interface_index != index(&key) {
            let interface = key.interface.as_deref();
            return tracing::warn!(address = %key.peer, interface, "BFD begins anew: the interface is another one by now");
        }
        if !self.table.take_over(now, watched.config, watched.keys.clone(), entry, lapse) {
            return tracing::warn!(address = %key.peer, "BFD begins anew: its session is not one to go on with");
        }
        let then = |left: Duration| now.checked_add(left.saturating_sub(lapse.gap)).unwrap_or(now);
        let mut slot = Slot::new(peer, watched);
        slot.port = port.filter(|port| *port >= FIRST_SOURCE_PORT);
        slot.damping = Damping::take_over(now, handed.damping, lapse.gap);
        slot.held_until = handed.held.map(then);
        slot.standing = handed.standing;
        if handed.down {
            self.down.insert(key.clone());
        }
        self.slots.insert(key, slot);
    }

    fn repeat(&self, peer: PeerAddress, standing: Standing) {
        let Some(speaker) = &self.links.speaker else { return };
        // A speaker that is gone ends us as well, soon.
        let _ = match standing {
            Standing::Up => speaker.bfd_up(peer),
            Standing::Disabled => speaker.bfd_disabled(peer),
            // Its routes are no more now than they were.
            Standing::Held => speaker.bfd_down(peer, BfdFailure { graceful: true, hold: true }),
        };
    }
}

/// The number of the interface a session is bound to. It is the same across a change of processes, if it is the same interface.
fn index(key: &SessionKey) -> Option<u32> {
    key.interface.as_deref().and_then(sockets::interface_index)
}

/// By the clock that [`Instant`] goes by.
fn since_boot() -> Duration {
    // It cannot fail for a clock that every Linux has; that it is zero then would be noticed as a hand-over of long ago.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bfd::{AuthKind, Diagnostic, Discard, HandedAuth, HandedEntry, HandedSession, Keys, SessionConfig};

    /// Every field with something in it.
    fn everything() -> HandOver {
        let peer = PeerAddress::LinkLocal("fe80::2".parse().unwrap(), "eth0".into());
        let keys = Keys::new(AuthKind::MeticulousKeyedSha1, [(7, b"between us".to_vec())]);
        let watched = Watched { interface: Some("eth0".into()), keys, damping: true, ..Watched::default() };
        let session = HandedSession {
            last_received: Some(Duration::from_millis(20)),
            forget_sequence: Some(Duration::from_millis(500)),
            last_sent: Some(Duration::from_millis(30)),
            auth: Some(HandedAuth {
                kind: AuthKind::MeticulousKeyedSha1,
                send_sequence: 9,
                received_sequence: Some(8),
            }),
            ..HandedSession::settled(State::Up, &SessionConfig::default(), 5, 6)
        };
        let entry = HandedEntry {
            key: SessionKey { peer: "fe80::2".parse().unwrap(), interface: Some("eth0".into()) },
            session,
            counters: crate::bfd::table::Counters::default(),
            discards: vec![(Discard::Ttl, 1)],
            transitions: vec![(State::Up, Diagnostic::NONE, 1)],
            since: Duration::from_secs(60),
        };
        let session = HandedSlot {
            peer: Some(peer.clone()),
            watched: watched.clone(),
            interface_index: Some(3),
            port: Some(FIRST_SOURCE_PORT),
            damping: HandedDamping { failures: 2, last: Some(Duration::from_secs(5)) },
            held: Some(Duration::from_secs(1)),
            down: true,
            standing: Some(Standing::Held),
            entry,
        };
        HandOver {
            at: Duration::from_secs(9),
            pause: Duration::from_secs(2),
            peers: vec![(peer, watched)],
            sessions: vec![session],
        }
    }

    #[test]
    fn the_state_of_a_format_stays_what_it_was() {
        let read = crate::format::stays("src/driver/bfd/hand_over", &everything());
        assert_eq!((read.peers().len(), read.down().len()), (1, 1));
    }
}
