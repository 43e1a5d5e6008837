//! Whether a route a peer announced may be used, and how it looks from here on.
//!
//! One pure function, [`ImportContext::attributes`] for what a whole UPDATE shares, and [`ImportContext::permitted`] for the single
//! prefix: attributes in, attributes out, or the reason why the route is refused (RFC 4271 §9.1: excluded from the decision).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::export::DEFAULT_LOCAL_PREF;
use crate::policy::{MaxPrefixes, PrefixList, Role, community};
use crate::speaker::AllowAsIn;
use crate::types::{Asn, Families, PeerKind, Prefix};
use crate::wire::{AsPath, Attributes, NextHop, Segment};

/// All that decides which routes of one established session are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportContext {
    /// Internal or external.
    pub kind: PeerKind,
    /// Our AS number.
    pub local_asn: Asn,
    /// The one the peer knows us by, if it is another.
    pub other_asn: Option<Asn>,
    /// The peer's AS number, from its OPEN.
    pub peer_asn: Asn,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Our CLUSTER_ID; the BGP Identifier unless configured otherwise (RFC 4456 §7).
    pub cluster_id: Ipv4Addr,
    /// Our own addresses, at least those of the session: no route leads to ourselves.
    pub own_addresses: Vec<IpAddr>,
    /// The interface of the session is known, so that a link-local next hop can be used.
    pub link_local_usable: bool,
    /// What was negotiated.
    pub families: Families,
    /// What may pass; `None`: everything.
    pub prefix_list: Option<Arc<PrefixList>>,
    /// Without a prefix list nothing passes from an external peer (RFC 8212).
    pub requires_policy: bool,
    /// Whether our own AS may be in the path.
    pub allowas_in: AllowAsIn,
    /// The path of an external peer has to begin with its AS number; not so for route servers (RFC 7947 §2.2.2.1).
    pub enforce_first_as: bool,
    /// The most routes of one family that may be in use.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Our role towards an external peer (RFC 9234).
    pub role: Option<Role>,
}

impl ImportContext {
    /// A session without any policy; the other fields are public to be set.
    pub fn new(kind: PeerKind, local_asn: Asn, peer_asn: Asn, router_id: Ipv4Addr, families: Families) -> Self {
        Self {
            kind,
            local_asn,
            other_asn: None,
            peer_asn,
            router_id,
            cluster_id: router_id,
            own_addresses: Vec::new(),
            link_local_usable: true,
            families,
            prefix_list: None,
            requires_policy: false,
            allowas_in: AllowAsIn::No,
            enforce_first_as: true,
            max_prefixes: None,
            role: None,
        }
    }

    /// Checks what all prefixes of an UPDATE share; the attributes as they are used here: with a LOCAL_PREF, and marked (RFC 9234).
    pub fn attributes(&self, received: &Attributes) -> Result<Attributes, Refused> {
        self.check_path(received)?;
        let mut attributes = received.clone();
        match self.kind {
            PeerKind::Ebgp => {
                // "If it is contained in an UPDATE message that is received from an external peer, then this attribute MUST be
                // ignored by the receiving speaker" (RFC 4271 §5.1.5).
                attributes.local_pref = Some(DEFAULT_LOCAL_PREF);
                attributes.originator_id = None;
                attributes.cluster_list.clear();
                if let Some(role) = self.role {
                    attributes.otc = role.import(received.otc, self.peer_asn).map_err(Refused::RouteLeak)?;
                }
            }
            PeerKind::Ibgp => {
                // "If the local router receives a route with an ORIGINATOR_ID attribute … SHOULD ignore a route received with its
                // BGP Identifier as the ORIGINATOR_ID." (RFC 4456 §8)
                if received.originator_id == Some(self.router_id) {
                    return Err(Refused::OriginatedHere);
                }
                if received.cluster_list.contains(&self.cluster_id) {
                    return Err(Refused::ClusterLoop);
                }
                attributes.local_pref = Some(received.local_pref.unwrap_or(DEFAULT_LOCAL_PREF));
            }
        }
        // "… set the LOCAL_PREF attribute to a low value" on routes marked with GRACEFUL_SHUTDOWN (RFC 8326 §4.1, appendix A: 0).
        if received.communities.contains(&community::GRACEFUL_SHUTDOWN) {
            attributes.local_pref = Some(0);
        }
        Ok(attributes)
    }

    fn check_path(&self, received: &Attributes) -> Result<(), Refused> {
        let default = AsPath::default();
        let path = received.as_path.as_ref().unwrap_or(&default);
        if self.kind == PeerKind::Ebgp && self.enforce_first_as {
            let first = path.neighbor();
            if first != Some(self.peer_asn) {
                return Err(Refused::FirstAs { expected: self.peer_asn, found: first });
            }
        }
        let ours = |asn: Asn| asn == self.local_asn || self.other_asn == Some(asn);
        // Each of our numbers by itself: a path that we made under another number has both.
        let times = |ours: Asn| path.asns().filter(|asn| *asn == ours).count();
        let count = times(self.local_asn).max(self.other_asn.map_or(0, times));
        let allowed = match self.allowas_in {
            // Several hosts of one AS behind the same fabric: what one of them originated may come back, what passed through one of
            // them may not.
            AllowAsIn::Origin if origin(path).is_some_and(ours) => usize::MAX,
            AllowAsIn::No | AllowAsIn::Origin => 0,
            AllowAsIn::Count(count) => usize::from(count),
        };
        if count > allowed { Err(Refused::OwnAs { count }) } else { Ok(()) }
    }

    /// The address packets are to be sent to (RFC 2545 §3): the link-local one of a pair, if there is one and it can be used.
    pub fn next_hop(&self, next_hop: NextHop) -> Result<IpAddr, Refused> {
        let refuse = |why| Err(Refused::NextHop(next_hop, why));
        let usable = |address: Ipv6Addr| {
            !address.is_unspecified() && (self.link_local_usable || !address.is_unicast_link_local())
        };
        let address = match next_hop {
            NextHop::V4(address) => IpAddr::V4(address),
            NextHop::V6(address) if usable(address) => IpAddr::V6(address),
            NextHop::V6Pair(_, second) if second.is_unicast_link_local() && usable(second) => IpAddr::V6(second),
            NextHop::V6Pair(first, _) if usable(first) => IpAddr::V6(first),
            NextHop::V6(address) | NextHop::V6Pair(address, _) if address.is_unspecified() => {
                return refuse("is unspecified");
            }
            NextHop::V6(_) | NextHop::V6Pair(..) => {
                return refuse("is link-local and the session's interface is not known");
            }
        };
        if self.own_addresses.contains(&address) {
            return refuse("is our own address");
        }
        match martian(address) {
            Some(why) => refuse(why),
            None => Ok(address),
        }
    }

    /// Whether a prefix may pass.
    pub fn permitted(&self, prefix: &Prefix) -> Result<(), Refused> {
        match &self.prefix_list {
            Some(list) if !list.permits(prefix) => Err(Refused::PrefixList(Arc::clone(list))),
            None if self.requires_policy && self.kind == PeerKind::Ebgp => Err(Refused::NoPolicy),
            _ => Ok(()),
        }
    }
}

/// The AS a path originated in; `None` if it is empty or ends with a set.
fn origin(path: &AsPath) -> Option<Asn> {
    match path.0.last()? {
        Segment::Sequence(asns) => asns.last().copied(),
        _ => None,
    }
}

/// Why nobody can be reached at this address.
fn martian(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("is in 0.0.0.0/8"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("is in 240.0.0.0/4"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("is an IPv4-mapped address"),
        _ if address.is_unspecified() => Some("is unspecified"),
        _ if address.is_loopback() => Some("is a loopback address"),
        _ if address.is_multicast() => Some("is a multicast address"),
        _ => None,
    }
}

/// Why a route is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// RFC 4271 §9.1.2: an AS loop.
    #[error("our own AS is in its AS_PATH ({count} times); see allowas_in")]
    OwnAs {
        /// How often.
        count: usize,
    },
    /// RFC 4271 §6.3.
    #[error("its AS_PATH does not begin with the peer's AS {expected}{}", .found.map_or_else(String::new, |asn| format!(" but with {asn}")))]
    FirstAs {
        /// The peer's AS.
        expected: Asn,
        /// What the path begins with.
        found: Option<Asn>,
    },
    /// RFC 4456 §8.
    #[error("its ORIGINATOR_ID is our own identifier")]
    OriginatedHere,
    /// RFC 4456 §8.
    #[error("its CLUSTER_LIST holds our own cluster")]
    ClusterLoop,
    /// RFC 9234 §5.
    #[error("it is a route leak: ONLY_TO_CUSTOMER {0}")]
    RouteLeak(Asn),
    /// RFC 4271 §6.3, RFC 2545 §3.
    #[error("its next hop {text} {why}", text = NextHopText(.0), why = .1)]
    NextHop(NextHop, &'static str),
    /// No prefix list where one is required (RFC 8212).
    #[error("ebgp_requires_policy is set and the peer has no prefix_list_in")]
    NoPolicy,
    /// Denied by this prefix list.
    #[error("prefix list `{}` denies it", .0.name())]
    PrefixList(Arc<PrefixList>),
    /// RFC 7606 §2: treat-as-withdraw.
    #[error("its UPDATE is malformed: {0}")]
    Malformed(Arc<str>),
    /// What the process before this one had against it.
    #[error("{0}")]
    Before(Arc<str>),
}

struct NextHopText<'a>(&'a NextHop);

impl std::fmt::Display for NextHopText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            NextHop::V4(address) => write!(f, "{address}"),
            NextHop::V6(address) => write!(f, "{address}"),
            NextHop::V6Pair(first, second) => write!(f, "{first} {second}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Origin;

    const US: Asn = 65000;
    const PEER: Asn = 65001;

    fn session(kind: PeerKind) -> ImportContext {
        ImportContext::new(kind, US, PEER, Ipv4Addr::new(192, 0, 2, 1), Families::ALL)
    }

    fn path(asns: &[Asn]) -> Attributes {
        Attributes { origin: Some(Origin::Igp), as_path: Some(AsPath::sequence(asns)), ..Attributes::default() }
    }

    #[test]
    fn loops_and_foreign_paths_are_refused() {
        use AllowAsIn::{Count, No, Origin};
        let loops = |count| Err(Refused::OwnAs { count });
        let table = [
            ("clean", No, vec![PEER, 7], Ok(())),
            ("our AS", No, vec![PEER, US], loops(1)),
            ("our AS, origin allowed", Origin, vec![PEER, US], Ok(())),
            ("our AS in transit, origin allowed", Origin, vec![PEER, US, 7], loops(1)),
            ("our AS twice, once allowed", Count(1), vec![PEER, US, US], loops(2)),
            ("our AS twice, twice allowed", Count(2), vec![PEER, US, US], Ok(())),
            ("not from the peer", No, vec![7, PEER], Err(Refused::FirstAs { expected: PEER, found: Some(7) })),
            ("empty", No, vec![], Err(Refused::FirstAs { expected: PEER, found: None })),
        ];
        for (name, allowas_in, asns, expected) in table {
            let context = ImportContext { allowas_in, ..session(PeerKind::Ebgp) };
            assert_eq!(context.attributes(&path(&asns)).map(drop), expected, "{name}");
        }
        // Another number the peer knows us by is ours as well; a path we made with both of them counts once.
        let other = 64998;
        for (allowas_in, asns, expected) in [
            (No, vec![PEER, other], loops(1)),
            (No, vec![PEER, other, US], loops(1)),
            (Count(1), vec![PEER, other, US], Ok(())),
            (Origin, vec![PEER, other, US], Ok(())),
            (Origin, vec![PEER, other], Ok(())),
            (Origin, vec![PEER, other, 7], loops(1)),
        ] {
            let context = ImportContext { allowas_in, other_asn: Some(other), ..session(PeerKind::Ebgp) };
            assert_eq!(context.attributes(&path(&asns)).map(drop), expected, "{allowas_in:?} {asns:?}");
        }
        let server = ImportContext { enforce_first_as: false, ..session(PeerKind::Ebgp) };
        assert!(server.attributes(&path(&[7])).is_ok(), "a route server does not add itself");
        assert!(session(PeerKind::Ibgp).attributes(&path(&[])).is_ok(), "an internal path may be empty");
    }

    #[test]
    fn reflected_loops_are_refused() {
        let us = Ipv4Addr::new(192, 0, 2, 1);
        let other = Ipv4Addr::new(192, 0, 2, 2);
        let with = |originator_id, cluster_list| Attributes { originator_id, cluster_list, ..path(&[]) };
        let internal = session(PeerKind::Ibgp);
        assert_eq!(internal.attributes(&with(Some(us), vec![])), Err(Refused::OriginatedHere));
        assert_eq!(internal.attributes(&with(None, vec![other, us])), Err(Refused::ClusterLoop));
        assert!(internal.attributes(&with(Some(other), vec![other])).is_ok());
    }

    #[test]
    fn preference_is_the_internal_peers_to_give() {
        let preferred = Attributes { local_pref: Some(300), ..path(&[PEER]) };
        let leaving = Attributes { communities: vec![community::GRACEFUL_SHUTDOWN], ..preferred.clone() };
        for (kind, attributes, expected) in [
            (PeerKind::Ebgp, &preferred, 100),
            (PeerKind::Ibgp, &preferred, 300),
            (PeerKind::Ibgp, &path(&[PEER]), 100),
            (PeerKind::Ebgp, &leaving, 0),
            (PeerKind::Ibgp, &leaving, 0),
        ] {
            assert_eq!(session(kind).attributes(attributes).unwrap().local_pref, Some(expected), "{kind:?}");
        }
    }

    #[test]
    fn roles_mark_routes_and_stop_leaks() {
        let customer = ImportContext { role: Some(Role::Customer), ..session(PeerKind::Ebgp) };
        assert_eq!(customer.attributes(&path(&[PEER])).unwrap().otc, Some(PEER));
        let provider = ImportContext { role: Some(Role::Provider), ..session(PeerKind::Ebgp) };
        let marked = Attributes { otc: Some(9), ..path(&[PEER]) };
        assert_eq!(provider.attributes(&marked), Err(Refused::RouteLeak(9)));
    }

    #[test]
    fn next_hops_are_those_one_can_send_to() {
        let v4 = |text: &str| NextHop::V4(text.parse().unwrap());
        let v6 = |text: &str| NextHop::V6(text.parse().unwrap());
        let pair = |a: &str, b: &str| NextHop::V6Pair(a.parse().unwrap(), b.parse().unwrap());
        let own = vec!["10.0.0.2".parse().unwrap(), "fe80::2".parse().unwrap()];
        let on_link = ImportContext { own_addresses: own, ..session(PeerKind::Ebgp) };
        let table = [
            (v4("10.0.0.1"), Ok("10.0.0.1")),
            (v6("2001:db8::1"), Ok("2001:db8::1")),
            (v6("fe80::1"), Ok("fe80::1")),
            (pair("2001:db8::1", "fe80::1"), Ok("fe80::1")),
            (pair("fe80::1", "fe80::1"), Ok("fe80::1")),
            (pair("::", "fe80::1"), Ok("fe80::1")),
            (pair("2001:db8::1", "::"), Ok("2001:db8::1")),
            (pair("2001:db8::1", "2001:db8::9"), Ok("2001:db8::1")),
            (v4("10.0.0.2"), Err("is our own address")),
            (pair("2001:db8::2", "fe80::2"), Err("is our own address")),
            (v4("0.0.0.0"), Err("is in 0.0.0.0/8")),
            (v4("127.0.0.1"), Err("is a loopback address")),
            (v4("224.0.0.5"), Err("is a multicast address")),
            (v4("255.255.255.255"), Err("is in 240.0.0.0/4")),
            (v6("::"), Err("is unspecified")),
            (pair("::", "::"), Err("is unspecified")),
            (v6("::1"), Err("is a loopback address")),
            (v6("ff02::1"), Err("is a multicast address")),
            (v6("::ffff:10.0.0.1"), Err("is an IPv4-mapped address")),
        ];
        for (next_hop, expected) in table {
            let expected = expected.map(|a| a.parse().unwrap()).map_err(|why| Refused::NextHop(next_hop, why));
            assert_eq!(on_link.next_hop(next_hop), expected);
        }
        let far = ImportContext { link_local_usable: false, ..on_link };
        assert_eq!(far.next_hop(pair("2001:db8::1", "fe80::1")).unwrap().to_string(), "2001:db8::1");
        let alone = far.next_hop(v6("fe80::1")).unwrap_err().to_string();
        assert_eq!(alone, "its next hop fe80::1 is link-local and the session's interface is not known");
    }
}
