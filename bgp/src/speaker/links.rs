//! Links and addresses that go from under a session.
//!
//! RFC 4271 §8.2.2 lets TCP find out. That takes a hold time during which traffic is lost, although the kernel knew at once.
//!
//! ```text
//!   the link is gone, down or without carrier ─────────────▶ the session ends at once: nothing leaves by it
//!   our address of the session is on no interface any more ─▶ nothing is written; after a second of that, Cease/6 and the end
//!   another next hop of ours is gone, or a better one there ─▶ routes are sent with what is there now; the session stays
//! ```
//!
//! Whoever looks does so on every change, and every now and then besides: what is decided here is decided by what a look shows, never
//! by a timer alone. A look that fails is no look: nothing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::{Output, PeerConfig, Speaker};
use crate::session::{Cease, ConnId, Ends, Event as SessionEvent};

/// How long an address has to be away before it counts as gone. `ifdown` and `ifup`, a network service that applies its files anew or
/// a script that replaces an address take it away for a moment; TCP sends again what it could not send meanwhile, so that nothing is
/// lost by waiting, while a session that is reset loses its routes on both sides.
const ABSENCE: Duration = Duration::from_secs(1);

/// A link as the operating system has it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The name of the interface.
    pub name: String,
    /// It is up and has a carrier.
    pub running: bool,
}

/// An address of this host. One that duplicate address detection has refused is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of its interface.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// How many bits of it name the network.
    pub prefix_len: u8,
    /// Duplicate address detection is still under way (RFC 4862 §5.4): nobody can be told to send there yet.
    pub tentative: bool,
    /// Not to be chosen where there is another: deprecated (RFC 4862 §5.5.4), or one for privacy that is soon another (RFC 8981).
    pub passing: bool,
}

impl Address {
    /// Whether the other address is in the same network.
    fn covers(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.prefix_len.into())).unwrap_or(0);
                a.to_bits() & mask == b.to_bits() & mask
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(self.prefix_len.into())).unwrap_or(0);
                a.to_bits() & mask == b.to_bits() & mask
            }
            _ => false,
        }
    }

    const fn ipv6(&self) -> Option<Ipv6Addr> {
        match self.address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }
    }
}

/// What the host has, as far as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Links by the index of their interface: those asked for, and those that have an address asked for. One that is not in here does
    /// not exist.
    pub links: BTreeMap<u32, Link>,
    /// All addresses of all interfaces.
    pub addresses: Vec<Address>,
}

impl Links {
    /// The two ends of a connection that has just been made, and what else we are on its interface.
    pub fn ends(&self, local: SocketAddr, remote: SocketAddr, peer: &PeerConfig) -> Ends {
        let ends = Ends::new(local, remote);
        let bound = peer.address.interface().or(peer.bind_interface.as_deref());
        self.follow(&ends, bound).unwrap_or(ends)
    }

    /// What has become of the ends of a connection; what is still there stays as it was. `None`: our address is gone.
    fn follow(&self, ends: &Ends, bound: Option<&str>) -> Option<Ends> {
        let local = ends.local.ip();
        let mut ours = self.addresses.iter().filter(|own| own.address == local && may_be_on(ends, own.link));
        let on = |own: &&Address| {
            let name = self.links.get(&own.link).map(|link| link.name.as_str());
            ends.home.map_or(name.is_some() && name == bound, |home| own.link == home)
        };
        // A device that others belong to (VRF) has none of the addresses itself.
        let own = ours.clone().find(on).or_else(|| ours.next())?;
        let link = Some(own.link).filter(|_| own.covers(ends.remote.ip()));
        let here = || self.addresses.iter().filter(|other| other.link == own.link);
        let is_global = |a: Ipv6Addr| !a.is_unicast_link_local() && !a.is_loopback() && !a.is_multicast();
        Some(Ends {
            home: Some(own.link),
            link,
            // RFC 2545 §3: only towards a peer on the same link.
            link_local: link.and_then(|_| choose(ends.link_local, here(), |a| a.is_unicast_link_local())),
            global: choose(ends.global, here(), is_global),
            ..*ends
        })
    }
}

/// Whether the local address of a connection is meant on this interface: link-local ones are others everywhere.
fn may_be_on(ends: &Ends, link: u32) -> bool {
    match (ends.local, ends.home) {
        (SocketAddr::V6(local), Some(home)) if local.ip().is_unicast_link_local() => link == home,
        (SocketAddr::V6(local), None) if local.ip().is_unicast_link_local() => {
            local.scope_id() == 0 || link == local.scope_id()
        }
        _ => true,
    }
}

/// The address of this kind to be named: the one it was, while it is there. Another only when it can be used; until then, the one it
/// was.
fn choose<'a>(
    was: Option<Ipv6Addr>,
    here: impl Iterator<Item = &'a Address> + Clone,
    kind: impl Fn(Ipv6Addr) -> bool,
) -> Option<Ipv6Addr> {
    let here = here.filter(|own| own.ipv6().is_some_and(&kind));
    let stays = was.is_some() && here.clone().any(|own| own.ipv6() == was);
    let usable = here.clone().filter(|own| !own.tentative);
    let best = usable.min_by_key(|own| own.passing).and_then(Address::ipv6);
    if stays || (best.is_none() && here.clone().next().is_some()) { was } else { best }
}

/// What is missing of a connection, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Missing {
    /// Our address of the connection. Nothing is written meanwhile: what gets through cannot be acknowledged, and would stand in the
    /// way of the last words.
    pub(super) address: Option<Instant>,
    /// An address that the peer was given as a next hop.
    next_hop: Option<Instant>,
}

impl Missing {
    fn is_due(since: Option<Instant>, now: Instant) -> bool {
        since.is_some_and(|since| since + ABSENCE <= now)
    }

    /// Takes over what was found, but for next hops that may be back in a moment.
    fn settle(&mut self, now: Instant, ends: &Ends, mut found: Ends) -> Ends {
        let lost = |was: Option<Ipv6Addr>, is: Option<Ipv6Addr>| was.is_some() && was != is;
        self.next_hop = (lost(ends.global, found.global) || lost(ends.link_local, found.link_local))
            .then(|| self.next_hop.unwrap_or(now));
        if Self::is_due(self.next_hop, now) {
            self.next_hop = None;
        } else {
            found.global = ends.global.or(found.global);
            found.link_local = ends.link_local.or(found.link_local);
        }
        found
    }
}

impl Speaker {
    /// The interfaces whose state matters: those that have our addresses of the connections.
    pub fn links_in_use(&self) -> BTreeSet<u32> {
        self.ends().flat_map(|ends| [ends.home, ends.link]).flatten().collect()
    }

    /// Our addresses of the connections.
    pub fn addresses_in_use(&self) -> BTreeSet<IpAddr> {
        self.ends().map(|ends| ends.local.ip()).collect()
    }

    /// Whether there is anything to look for.
    pub fn has_connections(&self) -> bool {
        self.ends().next().is_some()
    }

    fn ends(&self) -> impl Iterator<Item = &Ends> {
        self.peers.values().flat_map(|peer| peer.connections.values().map(|connection| &connection.ends))
    }

    /// When [`super::Input::Links`] is wanted again at the latest, changes or not: something is missing.
    pub fn look_again_at(&self) -> Option<Instant> {
        let missing = |peer: &Peer| {
            let since = peer.connections.values().flat_map(|c| [c.missing.address, c.missing.next_hop]);
            since.flatten().min()
        };
        self.peers.values().filter_map(missing).min().map(|since| since + ABSENCE)
    }

    /// Dials whoever lost its session with our address: there may be one to dial from, and no timer need be waited for.
    pub(super) fn new_address(&mut self, now: Instant) {
        let waiting = self.peers.iter().filter(|(_, peer)| peer.wants_address).map(|(number, _)| *number);
        for number in waiting.collect::<Vec<_>>() {
            self.session_event(now, number, SessionEvent::Reachable);
        }
    }

    /// Ends every session whose link or address is gone, and sends routes again whose next hop is another now.
    pub(super) fn links(&mut self, now: Instant, links: &Links) {
        let numbers: Vec<u32> = self.peers.keys().copied().collect();
        for number in numbers {
            self.with_peer(number, |peer, out| follow(peer, now, links, out));
            let cut = self.peers.get(&number).map(|peer| cut_connections(peer, now, links)).unwrap_or_default();
            for (conn, why, cease) in cut {
                if cease.is_some()
                    && let Some(peer) = self.peers.get_mut(&number)
                {
                    peer.wants_address = true;
                }
                self.session_event(now, number, SessionEvent::Cut(conn, why, cease));
            }
        }
    }
}

/// Brings what a peer's connections know of their ends up to date.
fn follow(peer: &mut Peer, now: Instant, links: &Links, out: &mut Vec<Output>) -> super::peer::Effects {
    let bound = peer.interface().map(str::to_owned);
    let (mut changed, mut back) = (false, Vec::new());
    for (conn, connection) in &mut peer.connections {
        let link_is_gone = connection.ends.link.is_some_and(|link| !links.links.contains_key(&link));
        if link_is_gone && bound.is_some() {
            // Its socket is bound to that one, and not to another of the same name.
            continue;
        }
        match links.follow(&connection.ends, bound.as_deref()) {
            Some(found) => {
                let found = connection.missing.settle(now, &connection.ends, found);
                changed |= found != connection.ends;
                connection.ends = found;
                back.extend(connection.missing.address.take().map(|_| *conn));
            }
            // An address that is on no interface and works all the same never was on one: 127.0.0.2, or a local route.
            None if connection.ends.home.is_none() => {}
            None => _ = connection.missing.address.get_or_insert(now),
        }
    }
    for conn in back {
        peer.speak_again(conn, out);
    }
    if changed { peer.reapply_policy(now, out) } else { super::peer::Effects::default() }
}

fn cut_connections(peer: &Peer, now: Instant, links: &Links) -> Vec<(ConnId, String, Option<Cease>)> {
    let cut = |(conn, connection): (&ConnId, &super::connection::Connection)| {
        let ends = &connection.ends;
        let (why, cease) = ends.link.and_then(|index| broken(peer, links.links.get(&index))).or_else(|| {
            Missing::is_due(connection.missing.address, now)
                .then(|| (format!("our address {} is gone", ends.local.ip()), Some(Cease::AddressGone)))
        })?;
        Some((*conn, why, cease))
    };
    peer.connections.iter().filter_map(cut).collect()
}

/// Why a link does not carry the connections of a peer that needs it any more. No words leave by it either.
fn broken(peer: &Peer, link: Option<&Link>) -> Option<(String, Option<Cease>)> {
    if !needs_link(peer, link) {
        return None;
    }
    let name = link.map(|l| l.name.as_str()).or(peer.interface()).unwrap_or("its interface");
    match link {
        None => Some((format!("interface {name} is gone"), None)),
        Some(link) if !link.running => Some((format!("interface {name} is down or has no carrier"), None)),
        Some(_) => None,
    }
}

/// Whether packets to the peer cannot take another way: a peer that is bound to this link, or an external one, which has to be on
/// the same link unless `ebgp_multihop` says otherwise (RFC 4271 §5.1.3).
fn needs_link(peer: &Peer, link: Option<&Link>) -> bool {
    let single_hop = peer.config.is_external(&peer.speaker) && peer.config.multihop.is_none();
    single_hop || peer.interface().is_some_and(|bound| link.is_none_or(|link| link.name == bound))
}
