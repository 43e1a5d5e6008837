//! Listen ranges: peers nobody has listed one by one.
//!
//! ```text
//!   a connection from the prefix ──▶ a passive peer with the options of the range ──▶ a session like any other
//!   it has no connection, no stale routes and no wait after a failure left ──▶ the peer is gone
//! ```
//!
//! That it outlives its session for as long as any peer would wait after a failure is what slows down one that comes again and again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::peer::Peer;
use super::{Event, ListenRange, Output, PeerAddress, PeerConfig, Speaker};
use crate::session::{Ends, Event as SessionEvent, StateName};

impl ListenRange {
    /// What a peer at this address of the range is configured as.
    fn peer(&self, address: IpAddr) -> PeerConfig {
        PeerConfig { address: PeerAddress::Numbered(address), passive: true, ..self.template.clone() }
    }
}

impl Speaker {
    /// The range an address belongs to: the narrowest.
    fn range_of(&self, address: IpAddr) -> Option<&ListenRange> {
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let ranges = self.config.listen_ranges.iter().filter(|range| !link_local && range.prefix.contains(&address));
        ranges.max_by_key(|range| range.prefix.prefix_len())
    }

    /// What a connection that no configured peer is expected on would make: a peer of a range.
    pub(super) fn expected(&self, local: IpAddr, remote: IpAddr, interface: Option<&str>) -> Option<PeerConfig> {
        let peer = self.range_of(remote)?.peer(remote);
        super::peer::is_from(&peer, None, local, remote, interface).then_some(peer)
    }

    /// Makes a peer for a connection from a range. `Err`: why not; `Ok(None)`: it is from no range.
    pub(super) fn welcome(
        &mut self,
        now: Instant,
        ends: &Ends,
        interface: Option<&str>,
    ) -> Result<Option<u32>, String> {
        let (local, remote) = (ends.local.ip(), ends.remote.ip());
        let Some(peer) = self.expected(local, remote, interface) else { return Ok(None) };
        let Some(range) = self.range_of(remote) else { return Ok(None) };
        let (prefix, limit) = (range.prefix, range.limit);
        if peer.shutdown.is_some() {
            return Err(format!("listen range {prefix} is shut down"));
        }
        let members = self.peers.values().filter(|peer| peer.range == Some(prefix)).count();
        if members >= usize::try_from(limit).unwrap_or(usize::MAX) {
            if self.full_ranges.insert(prefix) {
                self.outputs.push_back(Output::Event(Event::RangeFull { range: prefix, limit, from: remote }));
            }
            return Err(format!("listen range {prefix} has {members} neighbors already, which is its limit"));
        }
        let number = self.insert_peer(now, peer, Some(prefix));
        if let Some(peer) = self.peers.get_mut(&number) {
            // A passive peer that starts only waits.
            peer.session.handle(now, SessionEvent::Start);
        }
        Ok(Some(number))
    }

    /// Forgets a peer of a range that nothing is left of.
    pub(super) fn forget_if_gone(&mut self, number: u32) {
        if self.peers.get(&number).is_some_and(is_gone)
            && let Some(peer) = self.peers.remove(&number)
        {
            self.full_ranges.retain(|range| peer.range != Some(*range));
            self.learned_changed |= !self.loc_rib.remove_peer(&peer.config.address).is_empty();
        }
    }

    /// Brings the peers of ranges in line with the ranges there are now.
    pub(super) fn reconfigure_ranges(&mut self, now: Instant, common: super::Impact) {
        let members: Vec<(u32, PeerAddress, Arc<PeerConfig>)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.range.is_some())
            .map(|(number, peer)| (*number, peer.config.address.clone(), Arc::clone(&peer.config)))
            .collect();
        for (number, address, old) in members {
            let PeerAddress::Numbered(ip) = address else { continue };
            let Some((prefix, new)) = self.range_of(ip).map(|range| (range.prefix, range.peer(ip))) else {
                self.remove_peer(now, &address);
                continue;
            };
            if let Some(peer) = self.peers.get_mut(&number) {
                peer.range = Some(prefix);
            }
            let impact = super::classify(&old, &new).impact.max(common);
            self.apply(now, number, new, impact);
            self.forget_if_gone(number);
        }
    }
}

/// Whether a peer came from a range and is of no more use.
fn is_gone(peer: &Peer) -> bool {
    let waits_after_failure = peer.session.state() == StateName::Idle && peer.session.next_deadline().is_some();
    peer.range.is_some() && !waits_after_failure && peer.connections.is_empty() && peer.helper.deadline().is_none()
}
