//! All sessions of a host: which one a packet belongs to, what is dropped and why.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Discard;
use super::auth::{Auth, Keys};
use super::pace::Punctuality;
use super::packet::{Diagnostic, Packet, State};
use super::session::{Change, HandedSession, Lapse, Session, SessionConfig, Transition};
use crate::rng::Rng;

/// Who a session is with. The interface is part of it: the same link-local address on several ports is normal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// The session has a packet to send: take it with [`Table::transmit`], one after the other until there is none.
    Due(SessionKey),
    /// The session has changed its state.
    Changed(SessionKey, Transition),
    /// The peer has taken its end down on purpose, or does so no longer.
    RemoteAdminDown(SessionKey, bool),
}

/// Counters of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A session with what surrounds it.
#[derive(Debug)]
struct Entry {
    session: Session,
    counters: Counters,
    discards: BTreeMap<Discard, u64>,
    transitions: BTreeMap<(State, Diagnostic), u64>,
    punctuality: Punctuality,
    since: Instant,
}

impl Entry {
    fn note(&mut self, now: Instant, transition: Transition) {
        self.since = now;
        *self.transitions.entry((transition.to, transition.diagnostic)).or_default() += 1;
        self.counters.up += u64::from(transition.to == State::Up);
        self.counters.down += u64::from(transition.from == State::Up);
    }
}

/// A session to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Which.
    pub key: &'a SessionKey,
    /// The machine.
    pub session: &'a Session,
    /// What was counted.
    pub counters: Counters,
    /// Packets that named the session and were dropped, by rule.
    pub discards: &'a BTreeMap<Discard, u64>,
    /// How often it changed to a state, and for what reason.
    pub transitions: &'a BTreeMap<(State, Diagnostic), u64>,
    /// How punctual our packets were.
    pub punctuality: Punctuality,
    /// When its state last changed.
    pub since: Instant,
}

/// A session that is handed over, with what was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedEntry {
    /// Which.
    pub key: SessionKey,
    /// The machine.
    pub session: HandedSession,
    /// What was counted.
    pub counters: Counters,
    /// Packets that named the session and were dropped, by rule.
    pub discards: Vec<(Discard, u64)>,
    /// How often it changed to a state, and for what reason.
    pub transitions: Vec<(State, Diagnostic, u64)>,
    /// Time since its state last changed.
    pub since: Duration,
}

/// All sessions of a host.
#[derive(Debug)]
pub struct Table {
    rng: Rng,
    sessions: BTreeMap<SessionKey, Entry>,
    by_discriminator: BTreeMap<u32, SessionKey>,
    discards: BTreeMap<Discard, u64>,
    punctuality: Punctuality,
    /// Nothing is due before; `None`: to be looked up. A packet that comes in, as most wakings are for, then costs no look at all
    /// the other sessions.
    quiet_until: Option<Instant>,
}

impl Table {
    /// No session. The seed spreads discriminators and transmission times.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            sessions: BTreeMap::new(),
            by_discriminator: BTreeMap::new(),
            discards: BTreeMap::new(),
            punctuality: Punctuality::default(),
            quiet_until: None,
        }
    }

    /// Adds a session, or gives the one that is there new settings (by a poll sequence, without a flap).
    pub fn set(&mut self, now: Instant, key: SessionKey, config: SessionConfig, keys: Option<Keys>) {
        // RFC 5880 §6.8.1: bfd.XmitAuthSeq "MUST be initialized to a random 32-bit value".
        let first_sequence = u32::try_from(self.rng.next() >> 32).unwrap_or(1);
        if let Some(entry) = self.sessions.get_mut(&key) {
            entry.session.reconfigure(now, config);
            entry.session.set_keys(keys, first_sequence);
            self.quiet_until = None;
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
        let auth = keys.map(|keys| Auth::new(keys, first_sequence));
        let session = Session::new(now, config, auth, discriminator, self.rng.next());
        self.adopt(now, key, session);
    }

    /// Adds a session that exists already.
    pub fn adopt(&mut self, now: Instant, key: SessionKey, session: Session) {
        self.quiet_until = None;
        self.by_discriminator.insert(session.local_discriminator(), key.clone());
        let entry = Entry {
            session,
            counters: Counters::default(),
            discards: BTreeMap::new(),
            transitions: BTreeMap::new(),
            punctuality: Punctuality::default(),
            since: now,
        };
        self.sessions.insert(key, entry);
    }

    /// All sessions, for somebody else to go on with. To be called after [`Table::tick`], for what became of them is not handed over.
    pub fn hand_over(&self, now: Instant) -> Vec<HandedEntry> {
        let handed = self.sessions.iter().map(|(key, entry)| HandedEntry {
            key: key.clone(),
            session: entry.session.hand_over(now),
            counters: entry.counters,
            discards: entry.discards.iter().map(|(rule, count)| (*rule, *count)).collect(),
            transitions: entry.transitions.iter().map(|((to, why), count)| (*to, *why, *count)).collect(),
            since: now.saturating_duration_since(entry.since),
        });
        handed.collect()
    }

    /// Goes on with a session that was handed over. Answers whether it could: not with another kind of authentication, and not if
    /// there is one like it.
    pub fn take_over(
        &mut self,
        now: Instant,
        config: SessionConfig,
        keys: Option<Keys>,
        handed: HandedEntry,
        lapse: Lapse,
    ) -> bool {
        let HandedEntry { key, session, counters, discards, transitions, since } = handed;
        if self.sessions.contains_key(&key) || self.by_discriminator.contains_key(&session.local_discriminator) {
            return false;
        }
        let auth = keys.map(|keys| Auth::new(keys, 0));
        let Some(session) = Session::take_over(now, config, auth, &session, lapse, self.rng.next()) else {
            return false;
        };
        self.adopt(now, key.clone(), session);
        if let Some(entry) = self.sessions.get_mut(&key) {
            entry.counters = counters;
            entry.discards.extend(discards);
            entry.transitions.extend(transitions.into_iter().map(|(to, why, count)| ((to, why), count)));
            entry.since = now.checked_sub(since.saturating_add(lapse.gap)).unwrap_or(now);
        }
        true
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
            self.quiet_until = None;
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
        if entry.session.is_urgent() {
            self.quiet_until = None;
        } else if let (Some(until), Some(at)) = (self.quiet_until, entry.session.next_deadline()) {
            self.quiet_until = Some(until.min(at));
        }
        match outcome {
            Ok(()) => entry.counters.received += 1,
            Err(rule) => {
                entry.counters.dropped += 1;
                *entry.discards.entry(rule).or_default() += 1;
            }
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

    /// Time has passed, and every packet the sockets hold was given to [`Table::receive`]. Answers what there is to do. If there is
    /// a packet to send, those of other sessions that would be due in a moment go out as well.
    pub fn tick(&mut self, now: Instant) -> Vec<Output> {
        if self.quiet_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        self.quiet_until = None;
        let (mut outputs, mut due, mut joining) = (Vec::new(), Vec::new(), Vec::new());
        for (key, entry) in &mut self.sessions {
            entry.session.tick(now);
            while let Some(change) = entry.session.take_change() {
                outputs.push(match change {
                    Change::State(transition) => {
                        entry.note(now, transition);
                        Output::Changed(key.clone(), transition)
                    }
                    Change::RemoteAdminDown(down) => Output::RemoteAdminDown(key.clone(), down),
                });
            }
            if entry.session.is_due(now) {
                due.push(Output::Due(key.clone()));
            } else if entry.session.may_join(now) {
                joining.push(Output::Due(key.clone()));
            }
        }
        if !due.is_empty() {
            outputs.append(&mut due);
            outputs.append(&mut joining);
        }
        outputs
    }

    /// The UDP payload to send now on the session's socket; `None`: no more. An answer to a poll may be due besides the periodic
    /// packet. `now` is read for each packet anew: the next one is due by it.
    pub fn transmit(&mut self, now: Instant, key: &SessionKey) -> Option<Vec<u8>> {
        let entry = self.sessions.get_mut(key)?;
        self.quiet_until = None;
        let packet = entry.session.transmit(now)?;
        entry.counters.sent += 1;
        if let Some(pace) = entry.session.take_pace() {
            entry.punctuality.note(pace);
            self.punctuality.note(pace);
        }
        Some(packet)
    }

    /// When to call [`Table::tick`]: perhaps a little early, never late. An answer to a poll is due at once.
    pub fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        if self.quiet_until.is_none() {
            let due = |entry: &Entry| if entry.session.is_urgent() { Some(now) } else { entry.session.next_deadline() };
            self.quiet_until = self.sessions.values().filter_map(due).min();
        }
        self.quiet_until
    }

    /// The sessions with what was counted, and the time of their last change.
    pub fn sessions(&self) -> impl Iterator<Item = Seen<'_>> {
        self.sessions.iter().map(|(key, entry)| Seen {
            key,
            session: &entry.session,
            counters: entry.counters,
            discards: &entry.discards,
            transitions: &entry.transitions,
            punctuality: entry.punctuality,
            since: entry.since,
        })
    }

    /// One session.
    pub fn session(&self, key: &SessionKey) -> Option<&Session> {
        self.sessions.get(key).map(|entry| &entry.session)
    }

    /// How punctual our packets were.
    pub const fn punctuality(&self) -> Punctuality {
        self.punctuality
    }

    /// Packets dropped, by rule.
    pub const fn discards(&self) -> &BTreeMap<Discard, u64> {
        &self.discards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn what_was_counted_goes_over_and_nobody_takes_the_place_of_another() {
        let now = Instant::now();
        let key = |host| SessionKey { peer: [192, 0, 2, host].into(), interface: None };
        let mut table = Table::new(1);
        table.set(now, key(1), SessionConfig::default(), None);
        assert!(table.transmit(now, &key(1)).is_some());
        let arrival = Arrival { at: now, source: [192, 0, 2, 1].into(), interface: "eth0", ttl: 255 };
        let down = [0x2040_0318_u32, 7, 0, 1_000_000, 1_000_000, 0].map(u32::to_be_bytes).concat();
        table.receive(&arrival, &down).unwrap();
        let _ = table.tick(now);
        assert!(table.receive(&Arrival { ttl: 64, ..arrival }, &down).is_err());

        let handed = table.hand_over(now + MS(30));
        let (mut heir, lapse) = (Table::new(2), Lapse { gap: MS(20), grace: MS(1000) });
        let mut take =
            |handed: &HandedEntry| heir.take_over(now + MS(50), SessionConfig::default(), None, handed.clone(), lapse);
        let [entry] = handed.as_slice() else { panic!("{handed:?}") };
        assert!(take(entry));
        assert!(!take(entry), "it is there already");
        assert!(!take(&HandedEntry { key: key(2), ..entry.clone() }), "RFC 5880 §6.8.1: unique");
        let seen = heir.sessions().next().unwrap();
        assert_eq!((seen.session.state(), seen.since), (State::Init, now));
        assert_eq!(seen.counters, Counters { sent: 1, received: 1, dropped: 1, ..Counters::default() });
        assert_eq!(seen.discards.get(&Discard::Ttl), Some(&1));
        assert_eq!(seen.transitions.get(&(State::Init, Diagnostic::NONE)), Some(&1));
        // It is found by what it was known by.
        let known = [0x20c0_0318_u32, 7, entry.session.local_discriminator, 1_000_000, 1_000_000, 0];
        let known = known.map(u32::to_be_bytes).concat();
        assert_eq!(heir.receive(&Arrival { at: now + MS(60), ..arrival }, &known), Ok(key(1)));
    }
}
