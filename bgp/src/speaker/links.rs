//! Links that go from under a session.
//!
//! RFC 4271 §8.2.2 lets TCP find out. That takes a hold time during which traffic is lost, although the kernel knew at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use super::Speaker;
use super::peer::Peer;
use crate::session::{Cease, ConnId, Ends, Event as SessionEvent};

/// A link as the operating system has it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The name of the interface.
    pub name: String,
    /// It is up and has a carrier.
    pub running: bool,
    /// Its link-local addresses, of which duplicate address detection has refused none.
    pub link_local: BTreeSet<Ipv6Addr>,
}

/// Links by the index of their interface. One that was asked for and is not in here does not exist.
pub type Links = BTreeMap<u32, Link>;

impl Speaker {
    /// The interfaces whose state matters: those that connections to neighbours on the same link run over.
    pub fn links_in_use(&self) -> BTreeSet<u32> {
        self.peers.values().flat_map(|peer| peer.connections.values().filter_map(|c| c.ends.link)).collect()
    }

    /// Ends every session whose link cannot carry it any more.
    pub(super) fn links(&mut self, now: Instant, links: &Links) {
        let cut: Vec<(ConnId, String, Option<Cease>)> =
            self.peers.values().flat_map(|peer| cut_connections(peer, links)).collect();
        for (conn, why, cease) in cut {
            self.session_event(now, conn.peer, SessionEvent::Cut(conn, why, cease));
        }
    }
}

fn cut_connections(peer: &Peer, links: &Links) -> Vec<(ConnId, String, Option<Cease>)> {
    let cut = |(conn, ends): (&ConnId, &Ends)| {
        let index = ends.link?;
        let link = links.get(&index);
        let name = link.map(|l| l.name.as_str()).or(peer.interface()).unwrap_or("its interface");
        let (why, cease) = failure(link, name, ends)?;
        needs_link(peer, link).then_some((*conn, why, cease))
    };
    peer.connections.iter().map(|(conn, connection)| (conn, &connection.ends)).filter_map(cut).collect()
}

/// Why a link does not carry the connection any more. Words still leave by a link whose address was taken away.
fn failure(link: Option<&Link>, name: &str, ends: &Ends) -> Option<(String, Option<Cease>)> {
    match (link, ends.local.ip()) {
        (None, _) => Some((format!("interface {name} is gone"), None)),
        (Some(link), _) if !link.running => Some((format!("interface {name} is down or has no carrier"), None)),
        (Some(link), IpAddr::V6(own)) if own.is_unicast_link_local() && !link.link_local.contains(&own) => {
            Some((format!("our address {own} is gone from interface {name}"), Some(Cease::ConfigChange)))
        }
        _ => None,
    }
}

/// Whether packets to the peer cannot take another way: a peer that is bound to this link, or an external one, which has to be on
/// the same link unless `ebgp_multihop` says otherwise (RFC 4271 §5.1.3).
fn needs_link(peer: &Peer, link: Option<&Link>) -> bool {
    let single_hop = peer.config.is_external(&peer.speaker) && peer.config.multihop.is_none();
    single_hop || peer.interface().is_some_and(|bound| link.is_none_or(|link| link.name == bound))
}
