//! What can be seen from outside: the objects `show` and the API pass on. Additions are allowed, nothing is renamed.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Instant;

use serde::Serialize;

use super::peer::Peer;
use super::{Counters, PeerAddress, RemoteAs, Speaker};
use crate::policy::{Role, community};
use crate::rib::{AdjIn, LearnedNextHop, Refused, Status};
use crate::session::{Reason, StateName};
use crate::types::{Family, Prefix};
use crate::wire::{AsPath, Attributes, Capability, NextHop, Nlri, Origin, Segment};

/// All there is to see at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Every peer.
    pub neighbors: Vec<Neighbor>,
    /// What we announce.
    pub routes: Vec<Route>,
    /// What peers told us.
    pub learned: Vec<Learned>,
    /// Connections that came in and nobody wanted.
    pub refused_connections: u64,
}

/// A peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Neighbor {
    /// Its name: the address, `address%interface` for a link-local one, the interface while nobody was discovered there.
    pub neighbor: String,
    /// Interface of an unnumbered or link-local peer.
    pub interface: Option<String>,
    /// Text of the configuration.
    pub description: Option<String>,
    /// The listen range it dialled from; `null`: it is configured by itself.
    pub listen_range: Option<Prefix>,
    /// Its AS: configured, or learned from its last OPEN.
    pub remote_as: Option<u32>,
    /// Ours.
    pub local_as: u32,
    /// `ibgp` or `ebgp`, where that is known.
    pub kind: Option<&'static str>,
    /// Idle, Connect, Active, OpenSent, OpenConfirm or Established (RFC 4271 §8.2.2).
    pub state: &'static str,
    /// How long it has been in this state.
    pub state_seconds: f64,
    /// How long the session has been up.
    pub uptime_seconds: Option<f64>,
    /// How long ago this process took the session over from one before it; `null`: the session came up here.
    pub taken_over_seconds: Option<f64>,
    /// How often it came up.
    pub established_count: u64,
    /// How often it went down.
    pub lost_count: u64,
    /// Its BGP Identifier.
    pub router_id: Option<String>,
    /// Our end of the connection.
    pub local_endpoint: Option<String>,
    /// Its end of the connection.
    pub remote_endpoint: Option<String>,
    /// The last NOTIFICATION we sent, in words.
    pub last_error_sent: Option<String>,
    /// How long ago.
    pub last_error_sent_seconds: Option<f64>,
    /// The last NOTIFICATION it sent, in words.
    pub last_error_received: Option<String>,
    /// How long ago.
    pub last_error_received_seconds: Option<f64>,
    /// Why the session went down last, or why it does not come up.
    pub last_reason: Option<String>,
    /// Until the next attempt.
    pub next_attempt_seconds: Option<f64>,
    /// Capabilities of both sides, in words.
    pub capabilities: CapabilitiesView,
    /// Timers in force.
    pub timers: TimersView,
    /// Messages so far.
    pub messages: Counters,
    /// Whether a TCP-MD5 password is configured.
    pub md5: bool,
    /// Whether the password is one for TCP-AO.
    pub ao: bool,
    /// TCP segments the kernel dropped for a missing or wrong signature while the session was not up. It does not say whose they were.
    pub signature_failures: u64,
    /// GTSM: hops allowed.
    pub ttl_security: Option<u8>,
    /// Graceful restart, in words.
    pub graceful_restart: Option<String>,
    /// Administratively down, with the text.
    pub shutdown: Option<String>,
    /// Per family.
    pub families: Vec<NeighborFamily>,
}

/// Capabilities of both sides, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CapabilitiesView {
    /// We offered.
    pub sent: Vec<String>,
    /// It offered.
    pub received: Vec<String>,
}

/// Timers in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TimersView {
    /// Negotiated once established, configured before.
    pub hold_time_seconds: f64,
    /// Between KEEPALIVEs.
    pub keepalive_seconds: f64,
    /// How long the peer may take nothing (RFC 9687); none: for ever.
    pub send_hold_seconds: Option<f64>,
    /// Between attempts to connect.
    pub connect_retry_seconds: f64,
    /// What runs now, and when it ends.
    pub running: Vec<(&'static str, f64)>,
}

/// One family of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NeighborFamily {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Both sides offered it.
    pub negotiated: bool,
    /// Prefixes it has been told.
    pub advertised: usize,
    /// Announcements and withdrawals still to be sent.
    pub pending: usize,
    /// Prefixes it told us and we use.
    pub accepted: usize,
    /// Its limit.
    pub max_prefixes: Option<u32>,
    /// Prefixes it told us and our policy refused, as far as they are remembered.
    pub refused: usize,
    /// We have sent End-of-RIB.
    pub end_of_rib_sent: bool,
    /// It has sent End-of-RIB.
    pub end_of_rib_received: bool,
    /// The next hop we announce.
    pub next_hop: Option<String>,
}

/// A prefix we announce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Prefix.
    pub prefix: Prefix,
    /// Next hop set on the route; `null`: each session's own address.
    pub next_hop: Option<IpAddr>,
    /// Who is told.
    pub neighbors: Vec<RouteNeighbor>,
}

/// What one peer knows of a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RouteNeighbor {
    /// Peer.
    pub neighbor: String,
    /// It was sent the prefix as it is now.
    pub advertised: bool,
    /// Its TCP has acknowledged everything sent.
    pub acknowledged: bool,
    /// Why it is not told.
    pub refused: Option<String>,
}

/// A path a peer told us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Learned {
    /// Prefix.
    pub prefix: Prefix,
    /// From.
    pub neighbor: String,
    /// Where to send packets; link-local ones with `%interface`.
    pub next_hops: Vec<String>,
    /// It is used.
    pub selected: bool,
    /// Why it is used, or what was against it.
    pub reason: String,
    /// AS path as text.
    pub as_path: String,
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// Communities of all kinds, as text.
    pub communities: Vec<String>,
    /// Kept over a graceful restart and not confirmed yet.
    pub stale: bool,
    /// Which of several paths of this peer, where it gives them identifiers (RFC 7911).
    pub path_id: Option<u32>,
}

impl Speaker {
    /// Everything. Long when there are many routes; the parts are there one by one, too.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        Snapshot {
            neighbors: self.neighbors(now),
            routes: self.routes(),
            learned: self.learned(),
            refused_connections: self.refused_connections(),
        }
    }

    /// Every peer.
    pub fn neighbors(&self, now: Instant) -> Vec<Neighbor> {
        self.peers.values().map(|peer| neighbor(peer, now)).collect()
    }

    /// What we announce, and how it stands with every peer.
    pub fn routes(&self) -> Vec<Route> {
        let Some(routes) = &self.routes else { return Vec::new() };
        let names: Vec<_> = self.peers.values().map(|peer| (peer, peer.name())).collect();
        let route = |prefix: &Prefix, next_hop| Route {
            prefix: *prefix,
            next_hop,
            neighbors: names.iter().map(|(peer, name)| route_neighbor(peer, name, prefix)).collect(),
        };
        routes.routes().iter().map(|(prefix, origination)| route(prefix, origination.next_hop)).collect()
    }

    /// What peers told us, the best path to each prefix first.
    pub fn learned(&self) -> Vec<Learned> {
        let peers: HashMap<_, _> =
            self.peers.values().map(|peer| (&peer.config.address, (peer, stale_routes(peer)))).collect();
        let paths = self.loc_rib.iter().flat_map(|(prefix, ranked)| ranked.iter().map(move |r| (prefix, r)));
        paths
            .map(|(prefix, ranked)| {
                let candidate = &ranked.candidate;
                let known = peers.get(&candidate.peer.address);
                let peer = known.map(|(peer, _)| peer);
                let nlri = Nlri { prefix, path_id: candidate.path_id };
                let stale = known.is_some_and(|(_, stale)| stale.contains(&nlri));
                let attributes = &candidate.path.attributes;
                let next_hop = LearnedNextHop {
                    address: candidate.path.next_hop,
                    interface: candidate.peer.interface.clone(),
                    peer: candidate.peer.address.clone(),
                };
                Learned {
                    prefix,
                    neighbor: peer.map_or_else(|| candidate.peer.address.to_string(), |peer| peer.name()),
                    next_hops: vec![next_hop_text(&next_hop)],
                    selected: ranked.verdict.is_selected(),
                    reason: ranked.verdict.to_string(),
                    as_path: as_path_text(attributes.as_path.as_ref()),
                    origin: origin_text(attributes.origin).to_owned(),
                    med: attributes.med,
                    local_pref: attributes.local_pref,
                    communities: communities_text(attributes),
                    stale,
                    path_id: candidate.path_id,
                }
            })
            .collect()
    }

    /// What peers told us and we do not use, with the reason; of each peer as much as is remembered.
    pub fn refused(&self) -> Vec<Learned> {
        let of_peer = |peer: &Peer| -> Vec<Learned> {
            let refused = peer.adj_in.iter().flat_map(AdjIn::refused);
            let entry = |(nlri, reason, stale): (&Nlri, &Refused, bool)| Learned {
                prefix: nlri.prefix,
                neighbor: peer.name(),
                next_hops: Vec::new(),
                selected: false,
                reason: format!("refused: {reason}"),
                as_path: String::new(),
                origin: origin_text(None).to_owned(),
                med: None,
                local_pref: None,
                communities: Vec::new(),
                stale,
                path_id: nlri.path_id,
            };
            refused.map(entry).collect()
        };
        self.peers.values().flat_map(of_peer).collect()
    }

    /// Where packets to each learned prefix go, sorted: what belongs into a routing table.
    pub fn selected(&self) -> Vec<(Prefix, Vec<LearnedNextHop>)> {
        self.loc_rib.selected().collect()
    }
}

fn stale_routes(peer: &Peer) -> HashSet<Nlri> {
    let routes = peer.adj_in.iter().flat_map(AdjIn::iter);
    routes.filter(|(_, _, stale)| *stale).map(|(nlri, _, _)| *nlri).collect()
}

fn neighbor(peer: &Peer, now: Instant) -> Neighbor {
    let config = &peer.config;
    let session = &peer.session;
    let ago = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
    let until = |at: Instant| at.saturating_duration_since(now).as_secs_f64();
    let last = peer.last_up.as_deref();
    let ends = peer.connections.values().next_back().map(|c| c.ends);
    let running: Vec<_> = session.timers().into_iter().map(|(name, at)| (name, until(at))).collect();
    let (hold_time, keepalive, send_hold) = peer.up.as_ref().map_or_else(
        || {
            let keepalive = config.keepalive.unwrap_or(config.hold_time / 3);
            (config.hold_time, keepalive, config.send_hold(config.hold_time))
        },
        |up| (up.negotiated.hold_time, up.negotiated.keepalive, up.negotiated.send_hold),
    );
    let error = |e: &crate::session::LastError| {
        if e.why.is_empty() { e.notification.to_string() } else { format!("{}: {}", e.notification, e.why) }
    };
    let configured_as = match config.remote_as {
        RemoteAs::Number(asn) => Some(asn),
        RemoteAs::Internal => Some(peer.config.our_as(&peer.speaker)),
        RemoteAs::External | RemoteAs::Auto => None,
    };
    let remote_as = last.map(|n| n.asn).or(configured_as);
    Neighbor {
        neighbor: peer.name(),
        interface: config.address.interface().or(config.bind_interface.as_deref()).map(str::to_owned),
        description: config.description.clone(),
        listen_range: peer.range,
        remote_as,
        local_as: peer.config.our_as(&peer.speaker),
        kind: remote_as.map(|asn| if asn == peer.config.our_as(&peer.speaker) { "ibgp" } else { "ebgp" }),
        state: session.state().as_str(),
        state_seconds: ago(peer.state_since),
        uptime_seconds: peer.up.as_ref().map(|up| ago(up.since)),
        taken_over_seconds: peer.up.as_ref().and_then(|up| up.taken_over).map(ago),
        established_count: session.established_count,
        lost_count: peer.lost_count,
        router_id: last.map(|n| n.router_id.to_string()),
        local_endpoint: ends.map(|e| e.local.to_string()),
        remote_endpoint: ends.map(|e| e.remote.to_string()),
        last_error_sent: session.last_sent.as_ref().map(error),
        last_error_sent_seconds: session.last_sent.as_ref().map(|e| ago(e.at)),
        last_error_received: session.last_received.as_ref().map(error),
        last_error_received_seconds: session.last_received.as_ref().map(|e| ago(e.at)),
        last_reason: last_reason(peer),
        next_attempt_seconds: running
            .iter()
            .find(|(name, _)| matches!(*name, "idle_hold" | "connect_retry"))
            .map(|(_, seconds)| *seconds),
        capabilities: CapabilitiesView {
            sent: last.map_or_else(Vec::new, |n| n.offered.iter().map(capability_text).collect()),
            received: last.map_or_else(Vec::new, |n| n.received.iter().map(capability_text).collect()),
        },
        timers: TimersView {
            hold_time_seconds: hold_time.as_secs_f64(),
            keepalive_seconds: keepalive.as_secs_f64(),
            send_hold_seconds: send_hold.map(|time| time.as_secs_f64()),
            connect_retry_seconds: config.connect_retry.as_secs_f64(),
            running,
        },
        messages: peer.counters,
        md5: config.password.is_some() && config.tcp_ao.is_none(),
        ao: config.password.is_some() && config.tcp_ao.is_some(),
        signature_failures: peer.signature_failures,
        ttl_security: config.ttl_security,
        graceful_restart: graceful_restart(peer, now),
        shutdown: config.shutdown.clone(),
        families: Family::ALL.into_iter().filter_map(|family| neighbor_family(peer, family)).collect(),
    }
}

fn last_reason(peer: &Peer) -> Option<String> {
    if matches!(peer.config.address, PeerAddress::Interface(_)) && peer.remote_address().is_none() && peer.up.is_none()
    {
        return Some("no neighbour discovered on the interface yet".to_owned());
    }
    let reason = peer.session.last_reason.as_ref().map(|(reason, _)| reason);
    let dropped = peer.signature_failures_since_up;
    // A NOTIFICATION came over a connection, so the signatures were right.
    if dropped > 0 && peer.up.is_none() && matches!(reason, None | Some(Reason::Lost(_))) {
        let said = reason.map_or_else(|| "no connection".to_owned(), ToString::to_string);
        return Some(format!(
            "{said}; meanwhile the kernel dropped {dropped} TCP segments (of any neighbor) whose signature was missing, not expected or \
             wrong: is the password the same on both sides?"
        ));
    }
    reason.map(ToString::to_string)
}

fn graceful_restart(peer: &Peer, now: Instant) -> Option<String> {
    if let Some(until) = peer.helper.deadline() {
        let left = until.saturating_duration_since(now).as_secs();
        let what = match (peer.up.is_some(), peer.helper.is_long_lived()) {
            (true, _) => "sends its routes again",
            (false, false) => "restarts, its routes are kept",
            (false, true) => "stays away, its routes are kept as a last resort",
        };
        return Some(format!("the peer {what}; {left} s left"));
    }
    let restart = peer.up.as_ref()?.negotiated.restart?;
    Some(format!("agreed for {}, restart time {} s", restart.families, restart.restart_time.as_secs()))
}

fn refused(adj_in: &AdjIn, family: Family) -> usize {
    adj_in.refused().filter(|(nlri, _, _)| Family::of(&nlri.prefix) == family).count()
}

fn neighbor_family(peer: &Peer, family: Family) -> Option<NeighborFamily> {
    let negotiated = peer.up.as_ref().is_some_and(|up| up.negotiated.families.contains(family));
    let accepted = peer.adj_in.as_ref().map_or(0, |adj_in| adj_in.count(family));
    let counts = peer.up.as_ref().map(|up| up.adj_out.counts(family)).unwrap_or_default();
    (negotiated || peer.config.families.contains(family)).then(|| NeighborFamily {
        family: family.to_string(),
        negotiated,
        advertised: counts.advertised,
        pending: counts.pending + counts.withdrawals,
        accepted,
        refused: peer.adj_in.as_ref().map_or(0, |adj_in| refused(adj_in, family)),
        end_of_rib_sent: negotiated && counts.complete,
        max_prefixes: peer.config.max_prefixes.map(|max| max.limit),
        end_of_rib_received: peer.up.as_ref().is_some_and(|up| up.end_of_rib_received.contains(family)),
        next_hop: peer
            .up
            .as_ref()
            .filter(|_| negotiated)
            .and_then(|up| up.adj_out.context().own_next_hop(family).ok())
            .map(announced_next_hop_text),
    })
}

fn route_neighbor(peer: &Peer, name: &str, prefix: &Prefix) -> RouteNeighbor {
    let neighbor = name.to_owned();
    let Some(up) = &peer.up else {
        let refused = match (&peer.config.shutdown, peer.session.state()) {
            (Some(text), _) if text.is_empty() => "the neighbor is shut down".to_owned(),
            (Some(text), _) => format!("the neighbor is shut down: {text}"),
            (None, state) => format!("the session is not up ({})", StateName::as_str(state)),
        };
        return RouteNeighbor { neighbor, refused: Some(refused), ..RouteNeighbor::default() };
    };
    let acknowledged = peer.connections.get(&up.conn).is_some_and(|c| c.acknowledged);
    let refused = match up.adj_out.status(prefix) {
        Status::Advertised => return RouteNeighbor { neighbor, advertised: true, acknowledged, refused: None },
        Status::Pending => "not sent yet".to_owned(),
        Status::Withdrawing => "being withdrawn".to_owned(),
        Status::NotExported(reason) => reason.to_string(),
        Status::NotOurs => "not a route of ours".to_owned(),
    };
    RouteNeighbor { neighbor, refused: Some(refused), ..RouteNeighbor::default() }
}

fn next_hop_text(next_hop: &LearnedNextHop) -> String {
    match (next_hop.address, &next_hop.interface) {
        (IpAddr::V6(address), Some(interface)) if address.is_unicast_link_local() => format!("{address}%{interface}"),
        (address, _) => address.to_string(),
    }
}

fn announced_next_hop_text(next_hop: NextHop) -> String {
    match next_hop {
        NextHop::V4(address) => address.to_string(),
        NextHop::V6(address) => address.to_string(),
        NextHop::V6Pair(first, second) => format!("{first} {second}"),
    }
}

fn as_path_text(path: Option<&AsPath>) -> String {
    let mut text = String::new();
    for segment in path.iter().flat_map(|path| &path.0) {
        let (open, members, separator, close) = match segment {
            Segment::Sequence(members) => ("", members, " ", ""),
            Segment::Set(members) => ("{", members, ",", "}"),
            Segment::ConfedSequence(members) => ("(", members, " ", ")"),
            Segment::ConfedSet(members) => ("[", members, ",", "]"),
        };
        let members: Vec<_> = members.iter().map(ToString::to_string).collect();
        let space = if text.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{space}{open}{}{close}", members.join(separator));
    }
    text
}

const fn origin_text(origin: Option<Origin>) -> &'static str {
    match origin {
        Some(Origin::Igp) => "igp",
        Some(Origin::Egp) => "egp",
        Some(Origin::Incomplete) | None => "incomplete",
    }
}

fn communities_text(attributes: &Attributes) -> Vec<String> {
    let standard = attributes.communities.iter().map(|c| community::format(*c));
    let extended = attributes.extended_communities.iter().map(|c| community::format_extended(*c));
    let large = attributes.large_communities.iter().map(|c| community::format_large(*c));
    standard.chain(extended).chain(large).collect()
}

/// A capability in words.
fn capability_text(capability: &Capability) -> String {
    let family = |afi: u16, safi: u8| {
        Family::from_afi_safi(afi, safi).map_or_else(|| format!("{afi}/{safi}"), |family| family.to_string())
    };
    match capability {
        Capability::Multiprotocol { afi, safi } => format!("multiprotocol {}", family(*afi, *safi)),
        Capability::RouteRefresh => "route refresh".to_owned(),
        Capability::ExtendedNextHop(_) => "extended next hop".to_owned(),
        Capability::ExtendedMessage => "extended message".to_owned(),
        Capability::Role(code) => {
            Role::from_code(*code).map_or_else(|| format!("role {code}"), |role| format!("role {role}"))
        }
        Capability::GracefulRestart { restarted, notification, restart_time, families } => {
            let mut text = format!("graceful restart {restart_time} s");
            for (flag, name) in [(restarted, "restarted"), (notification, "notification")] {
                if *flag {
                    text.push(' ');
                    text.push_str(name);
                }
            }
            for (afi, safi, forwarding) in families {
                let preserved = if *forwarding { " preserved" } else { "" };
                let _ = write!(text, ", {}{preserved}", family(*afi, *safi));
            }
            text
        }
        Capability::FourOctetAs(asn) => format!("four-octet AS {asn}"),
        Capability::AddPath(families) => {
            let listed: Vec<_> = families
                .iter()
                .map(|(afi, safi, mode)| {
                    let mode = match mode {
                        1 => "receive",
                        2 => "send",
                        3 => "both",
                        _ => "unknown",
                    };
                    format!("{} {mode}", family(*afi, *safi))
                })
                .collect();
            format!("add-path {}", listed.join(", "))
        }
        Capability::EnhancedRouteRefresh => "enhanced route refresh".to_owned(),
        Capability::LongLivedGracefulRestart(_) => "long-lived graceful restart".to_owned(),
        Capability::Fqdn { host, domain } if domain.is_empty() => format!("host name {host}"),
        Capability::Fqdn { host, domain } => format!("host name {host}.{domain}"),
        Capability::SoftwareVersion(version) => format!("software version {version}"),
        Capability::LinkLocalNextHop => "link-local next hop".to_owned(),
        Capability::Unknown { code, .. } => format!("capability {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_said_by_its_name() {
        assert_eq!(capability_text(&Capability::Role(0)), "role provider");
        assert_eq!(capability_text(&Capability::Role(3)), "role customer");
        assert_eq!(capability_text(&Capability::Role(9)), "role 9", "one that is not in the registry");
    }
}
