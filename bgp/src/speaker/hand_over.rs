//! A speaker that goes on in another process: what it leaves behind, and taking it up.
//!
//! ```text
//!   old process   hand_over ──▶ HandOver (data) ──▶ memory ─┐ exec
//!   new process   adopt     ◀── HandOver (data) ◀── memory ◀┘
//! ```
//!
//! The peers must notice nothing: no message is sent that would not have been sent otherwise. Whatever is not simple – a message half
//! written, routes sent once more, a restart of the peer under way – is not handed over: that session ends without a word, so that
//! graceful restart takes over (RFC 4724).
//!
//! The configuration of each peer is the one that is in force, so that what changes by the new one is found as for any reload:
//! [`Speaker::adopt`], then [`Speaker::reconfigure`].
//!
//! Another version may read this: a field that is added has a default, and none changes its meaning.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::connection::{Connection, Counters};
use super::peer::{Effects, Peer, Up};
use super::{ConnId, Event, Output, PeerAddress, PeerConfig, Speaker, SpeakerConfig};
use crate::octets::Octets;
use crate::policy::{LimitAction, MaxPrefixes};
use crate::rib::{AdjIn, AdjOut, HandedRefused, Origination, RouteSet};
use crate::session::{Ends, Event as SessionEvent, HandedSession};
use crate::types::{Families, Family, Prefix};
use crate::wire::{self, Message};

/// All that another process needs to go on with the sessions of this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandOver {
    config: SpeakerConfig,
    routes: Option<HandedRoutes>,
    peers: Vec<HandedPeer>,
}

/// The set of routes all peers were told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct HandedRoutes {
    groups: Vec<(Origination, Vec<Prefix>)>,
    partial: bool,
    leaving: bool,
}

/// One peer, up or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct HandedPeer {
    config: PeerConfig,
    range: Option<Prefix>,
    counters: Counters,
    lost_count: u64,
    signature_failures: u64,
    /// `None`: it is not up.
    up: Option<Result<HandedUp, String>>,
}

/// What only a peer that is up has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct HandedUp {
    socket: i32,
    discovered: Option<Ipv6Addr>,
    session: HandedSession,
    /// Octets of a message that is not complete yet.
    inbox: Octets,
    /// Its routes in use, as UPDATEs.
    routes: Vec<Octets>,
    refused: HandedRefused,
    end_of_rib_received: Families,
    end_of_rib_sent: Families,
    /// What it was told: a digest for IPv4 and one for IPv6.
    told: [Octets; 2],
}

/// What became of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// The peer.
    pub peer: PeerAddress,
    /// Its name, as in lists.
    pub neighbor: String,
    /// The connection, and the number of its socket; `Err`: why the session could not go on.
    pub outcome: Result<(ConnId, i32), String>,
}

impl HandOver {
    /// The sockets of the sessions handed over, with their ends.
    pub fn sockets(&self) -> impl Iterator<Item = (i32, Ends)> {
        self.peers.iter().filter_map(|peer| peer.up.as_ref()?.as_ref().ok()).map(|up| (up.socket, up.session.ends))
    }

    /// Gives up the session with this socket.
    pub fn give_up(&mut self, socket: i32, why: &str) {
        for up in self.peers.iter_mut().filter_map(|peer| peer.up.as_mut()) {
            if up.as_ref().is_ok_and(|up| up.socket == socket) {
                *up = Err(why.to_owned());
            }
        }
    }

    /// The configurations of the speaker and of its peers that were in force.
    pub fn configuration(&self) -> (SpeakerConfig, Vec<PeerConfig>) {
        (self.config.clone(), self.peers.iter().map(|peer| peer.config.clone()).collect())
    }
}

impl Speaker {
    /// Whether every session that is up could be handed over now: nothing is being said, or repeated.
    pub fn is_quiet(&self) -> bool {
        self.peers.values().filter(|peer| peer.up.is_some()).all(|peer| why_not(peer, self.routes.as_ref()).is_none())
    }

    /// Everything another process needs. `socket` says by which number that knows the socket of a connection, or why it does not get
    /// it. Nothing may be sent or taken in any more after this, unless nothing came of it.
    pub fn hand_over(&self, now: Instant, mut socket: impl FnMut(ConnId) -> Result<i32, String>) -> HandOver {
        let known: Vec<_> = self.peers.values().filter(|peer| peer.range.is_none() || peer.up.is_some()).collect();
        let of_peer = |peer: &&Peer| HandedPeer {
            config: PeerConfig::clone(&peer.config),
            range: peer.range,
            counters: peer.counters,
            lost_count: peer.lost_count,
            signature_failures: peer.signature_failures,
            up: peer.up.as_ref().map(|up| hand_over_session(now, peer, up, self.routes.as_ref(), &mut socket)),
        };
        HandOver {
            config: SpeakerConfig::clone(&self.config),
            routes: self.routes.as_deref().map(HandedRoutes::of),
            peers: known.iter().map(of_peer).collect(),
        }
    }

    /// A speaker that goes on with what another process handed over at `then`, under the configuration that was in force there. The
    /// others of its peers begin as after a restart.
    pub fn adopt(now: Instant, then: Instant, handed: HandOver, seed: u64) -> (Self, Vec<Adoption>) {
        let HandOver { mut config, routes, mut peers } = handed;
        config.bound_times();
        for peer in &mut peers {
            peer.config.bound_times();
        }
        if let Some(graceful) = &mut config.graceful_restart {
            // Of the sessions that do not go on.
            graceful.restarted = true;
        }
        let mut speaker = Self::new(config, seed);
        speaker.routes = routes.map(HandedRoutes::set).map(Arc::new);
        speaker.inherited.clone_from(&speaker.routes);
        let mut adoptions = Vec::new();
        for peer in peers {
            adoptions.extend(speaker.adopt_peer(now, then, peer));
        }
        (speaker, adoptions)
    }

    fn adopt_peer(&mut self, now: Instant, then: Instant, handed: HandedPeer) -> Option<Adoption> {
        let (address, range) = (handed.config.address.clone(), handed.range);
        if self.number_of(&address).is_some() {
            return None;
        }
        let starts = range.is_none() && handed.config.shutdown.is_none();
        let number = self.insert_peer(now, handed.config, range);
        let mut adoption = None;
        if let Some(peer) = self.peers.get_mut(&number) {
            peer.counters = handed.counters;
            peer.lost_count = handed.lost_count;
            peer.signature_failures = handed.signature_failures;
            let mut effects = Effects::default();
            let mut out = Vec::new();
            if let Some(up) = handed.up {
                let routes = self.routes.as_ref();
                let outcome = up.and_then(|up| {
                    let socket = up.socket;
                    peer.adopt(now, then, up, routes, &mut effects, &mut out).map(|conn| (conn, socket))
                });
                adoption = Some(Adoption { peer: address, neighbor: peer.name(), outcome });
            }
            self.outputs.extend(out);
            self.decide(number, effects);
        }
        match &adoption {
            // Whatever was half done is not to be seen: the peer begins anew.
            Some(Adoption { outcome: Err(_), .. }) => self.begin_anew(now, number, starts),
            None if starts => self.session_event(now, number, SessionEvent::Start),
            Some(Adoption { outcome: Ok(_), .. }) | None => {}
        }
        adoption
    }

    fn begin_anew(&mut self, now: Instant, number: u32, starts: bool) {
        let seed = self.rng.next();
        let Some(old) = self.peers.get_mut(&number) else { return };
        if !starts {
            self.peers.remove(&number);
            return;
        }
        let mut peer = Peer::new(now, number, Arc::clone(&self.config), Arc::clone(&old.config), seed);
        (peer.counters, peer.lost_count) = (old.counters, old.lost_count + 1);
        *old = peer;
        self.session_event(now, number, SessionEvent::Start);
    }

    /// Until all our sources have spoken nothing follows from their silence: what was inherited stays told.
    pub(super) fn with_inherited(&mut self, routes: Arc<RouteSet>) -> Arc<RouteSet> {
        match self.inherited.take().filter(|_| routes.is_partial()) {
            Some(inherited) => {
                let united = RouteSet::united(&inherited, &routes);
                self.inherited = Some(inherited);
                Arc::new(united)
            }
            None => routes,
        }
    }
}

/// What stands in the way of handing a session over; it may be gone in a moment.
fn why_not(peer: &Peer, routes: Option<&Arc<RouteSet>>) -> Option<&'static str> {
    let up = peer.up.as_ref()?;
    let told = routes.is_none_or(|routes| up.adj_out.is_told(routes)) && !up.adj_out.pending();
    let silent = peer.connections.get(&up.conn).is_some_and(Connection::is_silent);
    let quiet = peer.helper.deadline().is_none() && peer.adj_in.as_ref().is_none_or(AdjIn::is_quiet);
    match (told && silent, quiet) {
        (true, true) => None,
        (false, _) => Some("it has not been told everything yet"),
        (true, false) => Some("it is sending its routes once more"),
    }
}

fn hand_over_session(
    now: Instant,
    peer: &Peer,
    up: &Up,
    routes: Option<&Arc<RouteSet>>,
    socket: &mut impl FnMut(ConnId) -> Result<i32, String>,
) -> Result<HandedUp, String> {
    if let Some(why) = why_not(peer, routes) {
        return Err(why.to_owned());
    }
    let connection = peer.connections.get(&up.conn).ok_or("it has no connection")?;
    let session = peer.session.hand_over(now, connection.ends).ok_or("its OPEN cannot be written")?;
    let adj_in = peer.adj_in.as_ref().ok_or("it has no Adj-RIB-In")?;
    Ok(HandedUp {
        discovered: peer.discovered,
        session,
        inbox: Octets(connection.inbox.to_vec()),
        routes: adj_in
            .updates(&up.negotiated.receive)
            .map_err(|error| format!("a route of it cannot be written: {error}"))?,
        refused: adj_in.hand_over_refused(),
        end_of_rib_received: up.end_of_rib_received,
        end_of_rib_sent: up.adj_out.end_of_rib_sent(),
        told: Family::ALL.map(|family| Octets(up.adj_out.digest(family))),
        socket: socket(up.conn)?,
    })
}

impl Peer {
    /// Goes on with a session.
    fn adopt(
        &mut self,
        now: Instant,
        then: Instant,
        handed: HandedUp,
        routes: Option<&Arc<RouteSet>>,
        effects: &mut Effects,
        out: &mut Vec<Output>,
    ) -> Result<ConnId, String> {
        self.discovered = handed.discovered;
        let (conn, negotiated, since) = self.session.adopt(now, then, &handed.session)?;
        let ends = handed.session.ends;
        let mut connection = Connection::new(ends);
        connection.send = negotiated.send.clone();
        connection.inbox.extend_from_slice(&handed.inbox.0);
        // Until its TCP is asked.
        connection.acknowledged = false;
        self.connections.insert(conn, connection);
        self.state_since = since;
        let mut adj_in = AdjIn::new(self.import_context(&ends, &negotiated));
        let updates: Result<Vec<_>, _> =
            handed.routes.iter().map(|octets| wire::decode(&octets.0, &negotiated.receive)).collect();
        for message in updates.map_err(|error| format!("its routes cannot be read: {error}"))? {
            match message {
                Message::Update(update) if update.faults.is_empty() => {
                    let changes = adj_in.update(&update);
                    if changes.limit_exceeded.is_some() {
                        return Err("it has announced more than it may".to_owned());
                    }
                    effects.learned.extend(changes.prefixes);
                }
                _ => return Err("its routes cannot be read".to_owned()),
            }
        }
        adj_in.adopt_refused(handed.refused);
        self.adj_in = Some(adj_in);
        self.decided_as = Some(Arc::new(self.rib_peer(&ends, &negotiated)));
        let export = self.export_context(&ends, &negotiated);
        let (adj_out, anew) = match routes {
            None => (AdjOut::new(export), Families::NONE),
            Some(routes) => {
                let [ipv4, ipv6] = handed.told;
                AdjOut::told(export, Arc::clone(routes), handed.end_of_rib_sent, |family| match family {
                    Family::Ipv4 => Some(ipv4.0.clone()),
                    Family::Ipv6 => Some(ipv6.0.clone()),
                })
            }
        };
        self.last_up = Some(Arc::clone(&negotiated));
        out.push(Output::Event(Event::Inherited {
            neighbor: self.name(),
            uptime: now.saturating_duration_since(since),
            anew,
        }));
        let end_of_rib_received = handed.end_of_rib_received;
        self.up = Some(Up { conn, negotiated, since, adj_out, end_of_rib_received, taken_over: Some(now) });
        self.announce_routes(out);
        Ok(conn)
    }
}

/// No time is longer, so that a clock can be set by each of them.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

impl SpeakerConfig {
    fn bound_times(&mut self) {
        if let Some(graceful) = &mut self.graceful_restart {
            graceful.restart_time = graceful.restart_time.min(LONGEST);
            graceful.long_lived = graceful.long_lived.min(LONGEST);
        }
        for range in &mut self.listen_ranges {
            range.template.bound_times();
        }
    }
}

impl PeerConfig {
    fn bound_times(&mut self) {
        self.hold_time = self.hold_time.min(LONGEST);
        self.connect_retry = self.connect_retry.min(LONGEST);
        self.keepalive = self.keepalive.map(|time| time.min(LONGEST));
        self.send_hold_time = self.send_hold_time.map(|time| time.min(LONGEST));
        if let Some(MaxPrefixes { action: LimitAction::Restart(wait), .. }) = &mut self.max_prefixes {
            *wait = (*wait).min(LONGEST);
        }
    }
}

impl HandedRoutes {
    fn of(routes: &RouteSet) -> Self {
        let mut groups: Vec<(Origination, Vec<Prefix>)> = Vec::new();
        let mut known: HashMap<&Origination, usize> = HashMap::new();
        for (prefix, origination) in routes.routes() {
            let group = *known.entry(origination).or_insert(groups.len());
            match groups.get_mut(group) {
                Some((_, members)) => members.push(*prefix),
                None => groups.push((Origination::clone(origination), vec![*prefix])),
            }
        }
        Self { groups, partial: routes.is_partial(), leaving: routes.is_leaving() }
    }

    fn set(self) -> RouteSet {
        let routes = self.groups.into_iter().flat_map(|(origination, prefixes)| {
            let origination = Arc::new(origination);
            prefixes.into_iter().map(move |prefix| (prefix, Arc::clone(&origination)))
        });
        let routes: RouteSet = routes.collect();
        let routes = if self.partial { routes.partial() } else { routes };
        if self.leaving { routes.leaving() } else { routes }
    }
}
