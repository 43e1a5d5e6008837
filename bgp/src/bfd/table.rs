//! All sessions of a host: which one a packet belongs to, what is dropped and why.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Discard;
use super::auth::Auth;
use super::packet::{Packet, State};
use super::session::{Session, SessionConfig, Transition};
use crate::rng::Rng;

/// Who a session is with. The interface is part of it: the same link-local address on several ports is normal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// The peer's address.
    pub peer: IpAddr,
    /// Interface the session is bound to; required for a link-local peer.
    pub interface: Option<String>,
}

/// How a packet arrived.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// When the kernel received it.
    pub at: Instant,
    /// Source address.
    pub source: IpAddr,
    /// Interface it came in by.
    pub interface: &'a str,
    /// TTL or Hop Limit.
    pub ttl: u8,
}

/// What the driver has to do or to pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this UDP payload on the session's socket.
    Send(SessionKey, Vec<u8>),
    /// The session has changed its state.
    Changed(SessionKey, Transition),
}

/// Counters of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets sent.
    pub sent: u64,
    /// Packets received and believed.
    pub received: u64,
    /// Packets that named the session and were dropped.
    pub dropped: u64,
    /// Transitions to Up.
    pub up: u64,
    /// Transitions from Up.
    pub down: u64,
}

/// How late our own packets were, the proof that a session which the peer declared down was not our doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness([u64; Lateness::BOUNDS.len() + 1]);

impl Lateness {
    /// Upper bounds of the classes in milliseconds, inclusive; one class more has no bound.
    pub const BOUNDS: [u64; 8] = [1, 2, 5, 10, 20, 50, 100, 500];

    /// Packets in each class.
    pub const fn counts(&self) -> &[u64] {
        &self.0
    }

    fn note(&mut self, late: Duration) {
        let class = Self::BOUNDS.iter().position(|bound| late <= Duration::from_millis(*bound));
        if let Some(count) = self.0.get_mut(class.unwrap_or(Self::BOUNDS.len())) {
            *count += 1;
        }
    }
}

/// A session with what surrounds it.
#[derive(Debug)]
struct Entry {
    session: Session,
    counters: Counters,
    since: Instant,
}

/// All sessions of a host.
#[derive(Debug)]
pub struct Table {
    rng: Rng,
    sessions: BTreeMap<SessionKey, Entry>,
    by_discriminator: BTreeMap<u32, SessionKey>,
    discards: BTreeMap<Discard, u64>,
    lateness: Lateness,
}

impl Table {
    /// No session. The seed spreads discriminators and transmission times.
    pub const fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            sessions: BTreeMap::new(),
            by_discriminator: BTreeMap::new(),
            discards: BTreeMap::new(),
            lateness: Lateness([0; Lateness::BOUNDS.len() + 1]),
        }
    }

    /// Adds a session, or gives the one that is there new settings (by a poll sequence, without a flap).
    pub fn set(&mut self, now: Instant, key: SessionKey, config: SessionConfig, auth: Option<Auth>) {
        if let Some(entry) = self.sessions.get_mut(&key) {
            entry.session.reconfigure(now, config);
            return;
        }
        let discriminator = loop {
            // RFC 5880 §6.8.1: "It MUST be unique across all BFD sessions on this system, and nonzero. It SHOULD be set to a
            // random (but still unique) value".
            let candidate = u32::try_from(self.rng.next() >> 32).unwrap_or(1);
            if candidate != 0 && !self.by_discriminator.contains_key(&candidate) {
                break candidate;
            }
        };
        let session = Session::new(now, config, auth, discriminator, self.rng.next());
        self.adopt(now, key, session);
    }

    /// Adds a session that exists already.
    pub fn adopt(&mut self, now: Instant, key: SessionKey, session: Session) {
        self.by_discriminator.insert(session.local_discriminator(), key.clone());
        self.sessions.insert(key, Entry { session, counters: Counters::default(), since: now });
    }

    /// Forgets a session without a word; use [`Table::set_admin_down`] for a Detection Time first if the peer is to keep BGP.
    pub fn remove(&mut self, key: &SessionKey) {
        if let Some(entry) = self.sessions.remove(key) {
            self.by_discriminator.remove(&entry.session.local_discriminator());
        }
    }

    /// Takes a session down on purpose, or lets it come up again.
    pub fn set_admin_down(&mut self, now: Instant, key: &SessionKey, down: bool) {
        if let Some(entry) = self.sessions.get_mut(key) {
            entry.session.set_admin_down(now, down);
        }
    }

    /// Takes a UDP payload that arrived on port 3784.
    ///
    /// # Errors
    /// The rule for which it was dropped; it is counted.
    pub fn receive(&mut self, arrival: &Arrival<'_>, payload: &[u8]) -> Result<SessionKey, Discard> {
        let outcome = self.try_receive(arrival, payload);
        if let Err(rule) = &outcome {
            *self.discards.entry(*rule).or_default() += 1;
        }
        outcome
    }

    fn try_receive(&mut self, arrival: &Arrival<'_>, payload: &[u8]) -> Result<SessionKey, Discard> {
        let (packet, covered) = Packet::parse(payload)?;
        let key = self.find(arrival, &packet)?;
        let Some(entry) = self.sessions.get_mut(&key) else { return Err(Discard::NoSession) };
        // RFC 5881 §5: "If authentication is not in use on a session, all BFD Control packets for the session MUST be sent with
        // a TTL or Hop Limit value of 255. All received […] packets that are demultiplexed to the session MUST be discarded if
        // the received TTL or Hop Limit is not equal to 255." With authentication the check is optional; a single hop is a
        // single hop, but the digest says more.
        let outcome = if arrival.ttl != 255 && !entry.session.authenticated() {
            Err(Discard::Ttl)
        } else {
            entry.session.receive(arrival.at, &packet, covered)
        };
        match outcome {
            Ok(()) => entry.counters.received += 1,
            Err(_) => entry.counters.dropped += 1,
        }
        outcome.map(|()| key)
    }

    /// RFC 5880 §6.8.6: by Your Discriminator ("it MUST be used to select the session", so the source address takes no part), and
    /// while that is zero by source and interface. A session that is bound to an interface hears nothing from another.
    fn find(&self, arrival: &Arrival<'_>, packet: &Packet) -> Result<SessionKey, Discard> {
        if packet.your_discriminator != 0 {
            let key = self.by_discriminator.get(&packet.your_discriminator).ok_or(Discard::UnknownDiscriminator)?;
            return match &key.interface {
                Some(interface) if interface != arrival.interface => Err(Discard::Interface),
                _ => Ok(key.clone()),
            };
        }
        if !matches!(packet.state, State::Down | State::AdminDown) {
            return Err(Discard::ZeroDiscriminator);
        }
        [Some(arrival.interface.to_owned()), None]
            .into_iter()
            .map(|interface| SessionKey { peer: arrival.source, interface })
            .find(|key| self.sessions.contains_key(key))
            .ok_or(Discard::NoSession)
    }

    /// Time has passed, and every packet the sockets hold was given to [`Table::receive`]. Answers what there is to do.
    pub fn tick(&mut self, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        for (key, entry) in &mut self.sessions {
            entry.session.tick(now);
            if let Some(transition) = entry.session.take_transition() {
                entry.since = now;
                entry.counters.up += u64::from(transition.to == State::Up);
                entry.counters.down += u64::from(transition.from == State::Up);
                outputs.push(Output::Changed(key.clone(), transition));
            }
            if let Some(at) = entry.session.transmit_at().filter(|at| *at <= now) {
                self.lateness.note(now - at);
            }
            // An answer to a poll may be due besides the periodic packet.
            while let Some(packet) = entry.session.transmit(now) {
                entry.counters.sent += 1;
                outputs.push(Output::Send(key.clone(), packet));
            }
        }
        outputs
    }

    /// When to call [`Table::tick`]; an answer to a poll is due at once.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sessions.values().filter_map(|entry| entry.session.next_deadline()).min()
    }

    /// Whether something has to be sent before any time passes.
    pub fn urgent(&self) -> bool {
        self.sessions.values().any(|entry| entry.session.answers_poll())
    }

    /// The sessions with their counters and the time of their last change.
    pub fn sessions(&self) -> impl Iterator<Item = (&SessionKey, &Session, &Counters, Instant)> {
        self.sessions.iter().map(|(key, entry)| (key, &entry.session, &entry.counters, entry.since))
    }

    /// One session.
    pub fn session(&self, key: &SessionKey) -> Option<&Session> {
        self.sessions.get(key).map(|entry| &entry.session)
    }

    /// How late our packets were.
    pub const fn lateness(&self) -> Lateness {
        self.lateness
    }

    /// Packets dropped, by rule.
    pub const fn discards(&self) -> &BTreeMap<Discard, u64> {
        &self.discards
    }
}
