//! Peers and routes behind one handle / poll / next_deadline.
//!
//! ```text
//!   bytes, connections, commands, now ──▶ handle ─┐              ┌─▶ poll ──▶ dial, close, "there is something to write", events
//!                          now, due ──▶ timeout ──┼─ peers, ribs ─┤
//!                        socket is free ──────────┘              └─▶ transmit ──▶ whole messages, as many as fit
//! ```
//!
//! Writing is pulled: whoever owns the socket comes for messages when it can take them. What a slow peer has not fetched is not
//! kept as bytes but is the difference between what it was told and what holds now, so that it costs nothing and gets the latest.

mod change;
mod config;
mod connection;
mod event;
mod hand_over;
mod links;
mod peer;
mod ranges;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

pub use change::{Change, Impact, classify, classify_speaker};
pub use config::{
    AddPath, AllowAsIn, AoAlgorithm, BGP_PORT, GracefulRestart, ListenRange, LocalAs, NextHopFormat, PeerAddress,
    PeerConfig, RemoteAs, Secret, SpeakerConfig, TcpAo,
};
pub use connection::Counters;
pub use event::Event;
pub use hand_over::{Adoption, HandOver};
pub use links::{Address, Link, Links};
pub use view::{CapabilitiesView, Learned, Neighbor, NeighborFamily, Route, RouteNeighbor, Snapshot, TimersView};

pub use crate::session::{Cease, ConnId, Ends, StateName};

use crate::rib::{Changes, Difference, LocRib, RouteSet};
use crate::rng::Rng;
use crate::session::Event as SessionEvent;
use crate::types::Prefix;
use peer::{Effects, Peer};

/// What the outside tells the speaker.
#[derive(Clone, Debug)]
pub enum Input {
    /// A connection we asked for is up.
    Connected {
        /// Which.
        conn: ConnId,
        /// Its ends.
        ends: Ends,
    },
    /// A connection is gone, or could not be made.
    Lost {
        /// Which.
        conn: ConnId,
        /// What the operating system said.
        why: String,
    },
    /// Bytes came in.
    Received {
        /// On which connection.
        conn: ConnId,
        /// The bytes, as they came.
        bytes: Bytes,
    },
    /// Everything written so far was acknowledged by the peer's TCP.
    Acknowledged {
        /// On which connection.
        conn: ConnId,
    },
    /// Router advertisements show this neighbour on an interface, or no longer any.
    Discovered {
        /// The interface.
        interface: String,
        /// The neighbour's link-local address.
        address: Option<Ipv6Addr>,
    },
    /// How it stands with the links of [`Speaker::links_in_use`], and with the addresses of the host.
    Links(Links),
    /// The host has an address that was not there before, or could not be used yet.
    NewAddress,
    /// How many TCP segments the kernel has dropped for a missing or wrong signature so far. It does not say whose.
    SignaturesDropped(u64),
    /// BFD has seen that the path to a peer works.
    BfdUp {
        /// The peer.
        peer: PeerAddress,
    },
    /// BFD has seen the path to a peer fail (RFC 5882 §4.2).
    BfdDown {
        /// The peer.
        peer: PeerAddress,
        /// What is to follow from it.
        failure: BfdFailure,
    },
    /// The peer has taken its end of BFD down on purpose: nothing BFD says holds the session back (RFC 5882 §4.1).
    BfdDisabled {
        /// The peer.
        peer: PeerAddress,
    },
    /// BFD watches the peer no longer, or begins anew: it has nothing to say about the path.
    BfdGone {
        /// The peer.
        peer: PeerAddress,
    },
}

/// What is to follow from a failure of BFD. By default the session ends with Cease/10 and may begin again at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BfdFailure {
    /// It may be a restart of the peer's control plane (RFC 5882 §4.3): the session ends without a word, so that with graceful
    /// restart both sides keep the other's routes.
    pub graceful: bool,
    /// The path fails over and over: no session until [`Input::BfdUp`], whether the peer waits for BFD or not.
    pub hold: bool,
}

/// What the speaker wants of the outside.
#[derive(Clone, Debug)]
pub enum Output {
    /// Connect, with the socket options of the peer's configuration; answer with [`Input::Connected`] or [`Input::Lost`].
    Dial {
        /// The connection to be.
        conn: ConnId,
        /// Where to.
        address: IpAddr,
        /// Port, password, TTL and the like.
        peer: Arc<PeerConfig>,
    },
    /// There is something to write: call [`Speaker::transmit`] when the socket can take it, until it gives nothing.
    Transmit(ConnId),
    /// Write these last words behind what is still unwritten, then close. The speaker knows the connection no more.
    Close {
        /// Which.
        conn: ConnId,
        /// Whole messages; may be empty.
        last: Bytes,
        /// Our address of the connection is gone from the host.
        address_gone: bool,
    },
    /// Something to log.
    Event(Event),
}

/// How all sessions are to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// For good: Cease, subcode 2, with this text for the other operators (RFC 9003).
    Stop(String),
    /// We are coming back: where graceful restart was agreed the connection is closed without a word, so that the peer keeps our
    /// routes (RFC 4724 §4.1); the others get a Cease, subcode 2, with this text.
    Restart(String),
}

/// A BGP speaker without IO.
#[derive(Debug)]
pub struct Speaker {
    config: Arc<SpeakerConfig>,
    rng: Rng,
    next_number: u32,
    peers: BTreeMap<u32, Peer>,
    /// What all peers are to be told; `None` until it is known for the first time.
    routes: Option<Arc<RouteSet>>,
    /// What a process before this one has told the peers, until all that is to be said now is known.
    inherited: Option<Arc<RouteSet>>,
    loc_rib: LocRib,
    /// Listen ranges that had to turn somebody away since they last had room.
    full_ranges: BTreeSet<Prefix>,
    /// What the kernel has counted, when it was last asked.
    signatures_dropped: Option<u64>,
    /// Connections nobody wanted.
    refused: u64,
    /// To be reported once, however many changes there were.
    learned_changed: bool,
    outputs: VecDeque<Output>,
}

impl Speaker {
    /// A speaker without peers. The seed decides every timer's jitter.
    pub fn new(config: SpeakerConfig, seed: u64) -> Self {
        Self {
            loc_rib: LocRib::new(config.max_paths),
            config: Arc::new(config),
            rng: Rng::new(seed),
            next_number: 0,
            peers: BTreeMap::new(),
            routes: None,
            inherited: None,
            full_ranges: BTreeSet::new(),
            signatures_dropped: None,
            refused: 0,
            learned_changed: false,
            outputs: VecDeque::new(),
        }
    }

    /// What holds for all peers.
    pub fn config(&self) -> &SpeakerConfig {
        &self.config
    }

    /// The configurations of the peers.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<PeerConfig>> {
        self.peers.values().map(|peer| &peer.config)
    }

    /// Adds a peer, or changes it if there is one with this address.
    pub fn add_peer(&mut self, now: Instant, config: PeerConfig) {
        if self.number_of(&config.address).is_some() {
            self.update_peer(now, config);
            return;
        }
        let starts = config.shutdown.is_none();
        let number = self.insert_peer(now, config, None);
        if starts {
            self.session_event(now, number, SessionEvent::Start);
        }
    }

    fn insert_peer(&mut self, now: Instant, config: PeerConfig, range: Option<Prefix>) -> u32 {
        self.next_number += 1;
        let number = self.next_number;
        let mut peer = Peer::new(now, number, Arc::clone(&self.config), Arc::new(config), self.rng.next());
        peer.range = range;
        self.peers.insert(number, peer);
        number
    }

    /// Removes a peer: Cease, subcode 3. Whether there was one.
    pub fn remove_peer(&mut self, now: Instant, address: &PeerAddress) -> bool {
        let Some(number) = self.number_of(address) else { return false };
        self.session_event(now, number, SessionEvent::Stop(Cease::Deconfigured));
        self.peers.remove(&number);
        self.learned_changed |= !self.loc_rib.remove_peer(address).is_empty();
        true
    }

    /// Changes a peer and disturbs it no more than the change needs. `None`: there is no such peer.
    pub fn update_peer(&mut self, now: Instant, config: PeerConfig) -> Option<Change> {
        let number = self.number_of(&config.address)?;
        let old = Arc::clone(&self.peers.get(&number)?.config);
        let change = classify(&old, &config);
        self.apply(now, number, config, change.impact);
        Some(change)
    }

    fn apply(&mut self, now: Instant, number: u32, config: PeerConfig, impact: Impact) {
        let Some(old) = self.peers.get(&number).map(|p| Arc::clone(&p.config)) else { return };
        let config = Arc::new(config);
        // A peer that was sent away for its number of routes need not wait when that number is another one. One that the new number
        // sends away does.
        let let_in = old.max_prefixes != config.max_prefixes
            && config.shutdown.is_none()
            && self.peers.get(&number).is_some_and(Peer::was_sent_away);
        if impact == Impact::Reset {
            let cease = config.shutdown.clone().map_or(Cease::ConfigChange, Cease::Shutdown);
            if old.shutdown.is_none() {
                self.session_event(now, number, SessionEvent::Stop(cease));
            }
            if config.shutdown.is_some() {
                // One that went before that may have routes here that wait for its return.
                self.with_peer(number, |peer, _| peer.forget_stale());
            }
        }
        let speaker = Arc::clone(&self.config);
        if let Some(peer) = self.peers.get_mut(&number) {
            peer.configure(&speaker, &config);
        }
        if impact != Impact::Nothing {
            self.with_peer(number, |peer, out| peer.reapply_policy(now, out));
        }
        match impact {
            Impact::Refresh if let_in => self.session_event(now, number, SessionEvent::Start),
            Impact::Reset if config.shutdown.is_none() => self.session_event(now, number, SessionEvent::Start),
            Impact::Nothing | Impact::Refresh | Impact::Reset => {}
        }
        if old.passive && !config.passive {
            self.session_event(now, number, SessionEvent::Reachable);
        }
    }

    /// Replaces the whole configuration: peers come, go and change, each disturbed no more than needed.
    pub fn reconfigure(&mut self, now: Instant, config: SpeakerConfig, peers: Vec<PeerConfig>) {
        let common = classify_speaker(&self.config, &config).impact;
        self.config = Arc::new(config);
        self.learned_changed |= !self.loc_rib.set_max_paths(self.config.max_paths).is_empty();
        let gone: Vec<_> = self
            .peers
            .values()
            .filter(|peer| peer.range.is_none())
            .map(|peer| peer.config.address.clone())
            .filter(|address| !peers.iter().any(|p| p.address == *address))
            .collect();
        for address in gone {
            self.remove_peer(now, &address);
        }
        for peer in peers {
            match self.number_of(&peer.address).and_then(|number| Some((number, self.peers.get(&number)?))) {
                Some((number, old)) => {
                    let impact = classify(&old.config, &peer).impact.max(common);
                    self.apply(now, number, peer, impact);
                    if let Some(peer) = self.peers.get_mut(&number) {
                        // It may have come from a listen range, and has a place of its own now.
                        peer.range = None;
                    }
                }
                None => self.add_peer(now, peer),
            }
        }
        self.reconfigure_ranges(now, common);
    }

    /// Replaces the whole set of routes to announce. Until the first call nothing is announced at all, or, after
    /// [`Speaker::adopt`], what was announced before; and a set that is partial takes nothing of that away.
    pub fn set_routes(&mut self, routes: Arc<RouteSet>) {
        let routes = self.with_inherited(routes);
        let before = self.routes.take().filter(|before| self.peers.values().any(|peer| peer.is_told(before)));
        let difference = before.map(|before| Difference::between(&before, &routes));
        let mut out = Vec::new();
        for peer in self.peers.values_mut() {
            match &difference {
                Some(difference) => peer.advance_routes(difference, &mut out),
                None => peer.set_routes(&routes, &mut out),
            }
        }
        self.outputs.extend(out);
        self.routes = Some(routes);
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Connected { conn, ends } => {
                if let Some(peer) = self.peers.get_mut(&conn.peer) {
                    peer.connected(conn, ends);
                }
                self.session_event(now, conn.peer, SessionEvent::Connected(conn, ends));
            }
            Input::Lost { conn, why } => self.session_event(now, conn.peer, SessionEvent::Lost(conn, why)),
            Input::Received { conn, bytes } => {
                self.with_peer(conn.peer, |peer, out| peer.received(now, conn, &bytes, out));
            }
            Input::Acknowledged { conn } => {
                if let Some(connection) = self.peers.get_mut(&conn.peer).and_then(|p| p.connections.get_mut(&conn)) {
                    connection.acknowledged = true;
                }
            }
            Input::Discovered { interface, address } => self.discovered(now, interface, address),
            Input::SignaturesDropped(total) => self.signatures_dropped(total),
            Input::Links(links) => self.links(now, &links),
            Input::NewAddress => self.new_address(now),
            Input::BfdUp { peer } | Input::BfdDisabled { peer } => self.bfd_works(now, &peer, true),
            Input::BfdDown { peer, failure } => self.bfd_failed(now, &peer, failure),
            Input::BfdGone { peer } => self.bfd_works(now, &peer, false),
        }
    }

    /// Whoever is not up may be the one: a peer that is up signs as it should.
    fn signatures_dropped(&mut self, total: u64) {
        let before = self.signatures_dropped.replace(total).unwrap_or(total);
        let more = total.saturating_sub(before);
        for peer in self.peers.values_mut().filter(|peer| peer.up.is_none() && peer.config.shutdown.is_none()) {
            peer.signature_failures += more;
            peer.signature_failures_since_up += more;
        }
    }

    /// BFD is up or disabled, or is no longer asked: nothing it said before holds the peer back.
    fn bfd_works(&mut self, now: Instant, peer: &PeerAddress, up: bool) {
        let Some(number) = self.number_of(peer) else { return };
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let waited = peer.waits_for_bfd();
        (peer.bfd_up, peer.bfd_holds) = (up, false);
        if waited && !peer.waits_for_bfd() {
            self.session_event(now, number, SessionEvent::Reachable);
        }
    }

    fn bfd_failed(&mut self, now: Instant, peer: &PeerAddress, failure: BfdFailure) {
        let Some(number) = self.number_of(peer) else { return };
        let Some(peer) = self.peers.get_mut(&number) else { return };
        (peer.bfd_up, peer.bfd_holds) = (false, failure.hold);
        let event = match &peer.up {
            Some(up) if failure.graceful => SessionEvent::Lost(up.conn, "BFD is down".to_owned()),
            Some(_) => SessionEvent::Reset(Cease::BfdDown),
            // BGP went first, and its routes may have been kept: now there is no way to them either.
            None if !failure.graceful => return self.with_peer(number, |peer, _| peer.forget_stale()),
            None => return,
        };
        self.session_event(now, number, event);
    }

    fn discovered(&mut self, now: Instant, interface: String, address: Option<Ipv6Addr>) {
        let Some(number) = self.number_of(&PeerAddress::Interface(interface)) else { return };
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.shown = address;
        if peer.up.is_some() || peer.discovered == address {
            // A session that is up proves more than an advertisement: the first neighbour stays (point to point).
            return;
        }
        peer.discovered = address;
        if address.is_some() {
            self.session_event(now, number, SessionEvent::Reachable);
        }
    }

    /// Whether the session with a peer is up.
    pub fn is_up(&self, peer: &PeerAddress) -> bool {
        self.number_of(peer).and_then(|number| self.peers.get(&number)).is_some_and(|peer| peer.up.is_some())
    }

    /// Whose connection this is.
    pub fn peer_of(&self, conn: ConnId) -> Option<Arc<PeerConfig>> {
        self.peers.get(&conn.peer).map(|peer| Arc::clone(&peer.config))
    }

    /// Whose connections come from there. `interface`: where it came in, as far as that is known; it always is for link-local
    /// peers and for those with a `bind_interface`.
    pub fn peer_at(&self, local: IpAddr, remote: IpAddr, interface: Option<&str>) -> Option<Arc<PeerConfig>> {
        let found = self.peers.values().find(|peer| peer.matches(local, remote, interface));
        found.map(|peer| Arc::clone(&peer.config)).or_else(|| self.expected(local, remote, interface).map(Arc::new))
    }

    /// How many connections came in that nobody wanted.
    pub const fn refused_connections(&self) -> u64 {
        self.refused
    }

    /// Counts and reports a connection that nobody wants.
    pub fn refuse(&mut self, remote: SocketAddr, reason: &str) {
        self.refused += 1;
        let event = Event::Refused { from: remote.to_string(), reason: reason.to_owned() };
        self.outputs.push_back(Output::Event(event));
    }

    /// A connection came in. `Err`: close it, nobody wants it; the reason is also an event.
    pub fn accept(&mut self, now: Instant, ends: Ends, interface: Option<&str>) -> Result<ConnId, String> {
        let (local, remote) = (ends.local.ip(), ends.remote.ip());
        let found =
            self.peers.iter().find(|(_, peer)| peer.matches(local, remote, interface)).map(|(number, _)| *number);
        let number = found.map_or_else(|| self.welcome(now, &ends, interface), |number| Ok(Some(number)));
        let mut out = Vec::new();
        let result = match number.map(|number| self.peers.get_mut(&number?)) {
            Err(why) => Err(why),
            Ok(None) => Err("no neighbor with this address is configured".to_owned()),
            Ok(Some(peer)) if peer.waits_for_bfd() => Err(format!("neighbor {} waits for BFD", peer.name())),
            Ok(Some(peer)) => peer
                .accept(now, ends, &mut out)
                .ok_or_else(|| format!("neighbor {} is in state {}", peer.name(), peer.session.state().as_str())),
        };
        self.outputs.extend(out);
        if let Err(reason) = &result {
            self.refuse(ends.remote, reason);
        }
        result
    }

    /// Lets every timer go off that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<u32> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.next_deadline().is_some_and(|at| at <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            self.with_peer(number, |peer, out| peer.handle_timeout(now, out));
        }
    }

    /// When [`Speaker::handle_timeout`] has to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(Peer::next_deadline).min()
    }

    /// What is to be done, in order.
    pub fn poll(&mut self) -> Option<Output> {
        let changed = || std::mem::take(&mut self.learned_changed).then_some(Output::Event(Event::LearnedChanged));
        self.outputs.pop_front().or_else(changed)
    }

    /// Appends whole messages for a connection until about `limit` octets: those of the session first, so that a KEEPALIVE
    /// overtakes waiting UPDATEs, then routes. Call it only when everything from the last call was written: it is also the sign that the
    /// peer reads (RFC 9687). Appends nothing when there is nothing to say.
    pub fn transmit(&mut self, now: Instant, conn: ConnId, out: &mut BytesMut, limit: usize) {
        if let Some(peer) = self.peers.get_mut(&conn.peer) {
            peer.transmit(now, conn, out, limit);
        }
    }

    /// Ends all sessions. Peers stay configured and down.
    pub fn shutdown(&mut self, now: Instant, how: &Shutdown) {
        let numbers: Vec<_> = self.peers.keys().copied().collect();
        for number in numbers {
            let restarts = self
                .peers
                .get(&number)
                .and_then(|peer| peer.up.as_ref())
                .is_some_and(|up| up.negotiated.restart.is_some());
            let event = match how {
                Shutdown::Restart(_) if restarts => SessionEvent::Leave,
                Shutdown::Restart(text) | Shutdown::Stop(text) => SessionEvent::Stop(Cease::Shutdown(text.clone())),
            };
            self.session_event(now, number, event);
        }
    }

    /// Resets one session: Cease, subcode 4, with a text. Whether there is such a peer.
    pub fn reset_peer(&mut self, now: Instant, address: &PeerAddress, text: &str) -> bool {
        let Some(number) = self.number_of(address) else { return false };
        self.session_event(now, number, SessionEvent::Reset(Cease::Reset(text.to_owned())));
        true
    }

    /// The best paths to what peers told us.
    pub fn loc_rib(&self) -> &LocRib {
        &self.loc_rib
    }

    fn number_of(&self, address: &PeerAddress) -> Option<u32> {
        self.peers.iter().find(|(_, peer)| peer.config.address == *address).map(|(number, _)| *number)
    }

    fn session_event(&mut self, now: Instant, number: u32, event: SessionEvent) {
        self.with_peer(number, |peer, out| peer.handle(now, event, out));
    }

    /// Lets a peer act, and does what follows from it for the others and for the routes.
    fn with_peer(&mut self, number: u32, act: impl FnOnce(&mut Peer, &mut Vec<Output>) -> Effects) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let came_up = peer.session.established_count;
        let mut out = Vec::new();
        let effects = act(peer, &mut out);
        if let Some(routes) = self.routes.as_ref().filter(|_| peer.session.established_count != came_up) {
            peer.set_routes(routes, &mut out);
        }
        self.outputs.extend(out);
        self.decide(number, effects);
        self.forget_if_gone(number);
    }

    /// Takes over what a peer's Adj-RIB-In says of these prefixes.
    fn decide(&mut self, number: u32, effects: Effects) {
        let Some(peer) = self.peers.get(&number) else { return };
        let changed = match (&peer.adj_in, &peer.decided_as) {
            (Some(adj_in), Some(decided_as)) => {
                let changes = Changes { prefixes: effects.learned, ..Changes::default() };
                self.loc_rib.update(decided_as, adj_in, &changes)
            }
            _ if effects.learned.is_empty() => return,
            _ => self.loc_rib.remove_peer(&peer.config.address),
        };
        self.learned_changed |= !changed.is_empty();
    }
}
