//! What a peer may be told of our own routes, and in which words.
//!
//! One pure function, [`ExportContext::export`]: route in, attributes and next hop out, or the reason why not. Routes learned from
//! one peer are never told another: a host is no transit.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::policy::{ExportRule, PrefixList, Role, community};
use crate::rib::Origination;
use crate::speaker::NextHopFormat;
use crate::types::{Asn, Family, PeerKind, Prefix};
use crate::wire::{self, AsPath, Attributes, EncodeError, NextHop, Origin, Segment, UpdateBuilder};

/// LOCAL_PREF of routes that say nothing about it, ours and those of external peers.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// All that decides what one established session is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportContext {
    /// Internal or external.
    pub kind: PeerKind,
    /// Our AS number, as the peer knows it.
    pub local_asn: Asn,
    /// Our real AS number, where an external peer that knows us by another one is to see it as well.
    pub behind_asn: Option<Asn>,
    /// Our address of the session.
    pub local_address: IpAddr,
    /// The peer's address of the session.
    pub peer_address: IpAddr,
    /// Our link-local address on the session's interface, if the peer shares that link.
    pub link_local: Option<Ipv6Addr>,
    /// A global IPv6 address of ours on the session's interface.
    pub global: Option<Ipv6Addr>,
    /// What was negotiated, in the sending direction.
    pub context: wire::Context,
    /// The peer announced that a lone link-local next hop is fine (capability 77).
    pub link_local_capability: bool,
    /// How a link-local next hop is written.
    pub next_hop_format: NextHopFormat,
    /// Put ourselves in place of a next hop the route names.
    pub next_hop_self: bool,
    /// What may pass; `None`: everything.
    pub prefix_list: Option<Arc<PrefixList>>,
    /// What to set on what passes, in this order.
    pub rules: Vec<ExportRule>,
    /// Without a prefix list nothing passes to an external peer (RFC 8212).
    pub requires_policy: bool,
    /// Ask the peer to prefer other paths (RFC 8326 §4.2).
    pub graceful_shutdown: bool,
    /// Our role towards an external peer (RFC 9234).
    pub role: Option<Role>,
}

impl ExportContext {
    /// A session without any policy; the other fields are public to be set.
    pub fn new(local_asn: Asn, local_address: IpAddr, peer_address: IpAddr, context: wire::Context) -> Self {
        Self {
            kind: context.peer,
            local_asn,
            behind_asn: None,
            local_address,
            peer_address,
            link_local: None,
            global: None,
            context,
            link_local_capability: false,
            next_hop_format: NextHopFormat::Auto,
            next_hop_self: true,
            prefix_list: None,
            rules: Vec::new(),
            requires_policy: false,
            graceful_shutdown: false,
            role: None,
        }
    }

    /// What the peer is told about a route of ours.
    pub fn export(&self, prefix: &Prefix, route: &Origination) -> Result<(Attributes, NextHop), NotExported> {
        self.permitted(prefix)?;
        let family = Family::of(prefix);
        let next_hop = self.next_hop(family, route)?;
        let attributes = self.attributes(route, self.rules.iter().filter(|rule| rule.applies(prefix)));
        let mut trial = UpdateBuilder::new(&self.context, self.context.max_len());
        trial.announce(family, &attributes, next_hop).map_err(NotExported::Encoding)?;
        Ok((attributes, next_hop))
    }

    /// Whether the peer may hear about `prefix` at all: negotiation and prefix list, that is, all that does not depend on the route.
    pub(super) fn permitted(&self, prefix: &Prefix) -> Result<(), NotExported> {
        let family = Family::of(prefix);
        if !self.context.families.contains(family) {
            return Err(NotExported::Family(family));
        }
        match &self.prefix_list {
            Some(list) if !list.permits(prefix) => Err(NotExported::PrefixList(Arc::clone(list))),
            None if self.requires_policy && self.kind == PeerKind::Ebgp => Err(NotExported::NoPolicy),
            _ => Ok(()),
        }
    }

    /// The next hop to announce for routes of `family` (RFC 4271 §5.1.3, RFC 2545 §3, RFC 8950 §4).
    fn next_hop(&self, family: Family, route: &Origination) -> Result<NextHop, NotExported> {
        match route.next_hop {
            Some(address) if !self.next_hop_self => self.foreign_next_hop(family, address),
            _ => self.own_next_hop(family),
        }
    }

    /// Ourselves, by the session's own address.
    pub fn own_next_hop(&self, family: Family) -> Result<NextHop, NotExported> {
        match (family, self.local_address) {
            (Family::Ipv4, IpAddr::V4(local)) => Ok(NextHop::V4(local)),
            (Family::Ipv4, IpAddr::V6(_)) if !self.context.extended_next_hop => Err(NotExported::NoExtendedNextHop),
            (_, IpAddr::V6(local)) => Ok(self.own_ipv6_next_hop(local)),
            (Family::Ipv6, IpAddr::V4(_)) => self.global.map(NextHop::V6).ok_or(NotExported::NoIpv6Address),
        }
    }

    /// "The link-local address shall be included in the Next Hop field if and only if the BGP speaker shares a common subnet with
    /// the entity identified by the global IPv6 address carried in the Network Address of Next Hop field and the peer the route is
    /// being advertised to." (RFC 2545 §3) The case without any global address it leaves open; see [`NextHopFormat`].
    fn own_ipv6_next_hop(&self, local: Ipv6Addr) -> NextHop {
        if !local.is_unicast_link_local() {
            return self.link_local.map_or(NextHop::V6(local), |link_local| NextHop::V6Pair(local, link_local));
        }
        match (self.next_hop_format, self.global) {
            (NextHopFormat::Single, _) => NextHop::V6(local),
            (NextHopFormat::Auto, _) if self.link_local_capability => NextHop::V6(local),
            (_, Some(global)) => NextHop::V6Pair(global, local),
            (NextHopFormat::Auto | NextHopFormat::Double, None) => NextHop::V6Pair(local, local),
            (NextHopFormat::Native, None) => NextHop::V6Pair(Ipv6Addr::UNSPECIFIED, local),
        }
    }

    /// A next hop the route names.
    fn foreign_next_hop(&self, family: Family, address: IpAddr) -> Result<NextHop, NotExported> {
        // "A BGP speaker MUST NOT advertise an address of a peer to that peer as a NEXT_HOP" (RFC 4271 §5.1.3).
        if address == self.peer_address {
            return Err(NotExported::NextHop(address, "is the peer itself"));
        }
        match (family, address) {
            (Family::Ipv4, IpAddr::V4(address)) => Ok(NextHop::V4(address)),
            (Family::Ipv4, IpAddr::V6(_)) if !self.context.extended_next_hop => Err(NotExported::NoExtendedNextHop),
            (_, IpAddr::V6(v6)) if v6.is_unicast_link_local() => Err(NotExported::NextHop(address, "is link-local")),
            (_, IpAddr::V6(address)) => Ok(NextHop::V6(address)),
            (Family::Ipv6, IpAddr::V4(_)) => Err(NotExported::NextHop(address, "is IPv4, the route IPv6")),
        }
    }

    /// The attributes of a route of ours, after the given rules.
    fn attributes<'a>(&self, route: &Origination, rules: impl Iterator<Item = &'a ExportRule>) -> Attributes {
        let external = self.kind == PeerKind::Ebgp;
        let mut local_pref = route.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
        let mut prepend = 0_usize;
        let mut attributes = Attributes {
            origin: Some(Origin::Igp),
            med: route.med,
            communities: route.communities.clone(),
            extended_communities: route.extended_communities.clone(),
            large_communities: route.large_communities.clone(),
            ..Attributes::default()
        };
        for ExportRule { set, .. } in rules {
            attributes.med = set.med.or(attributes.med);
            local_pref = set.local_pref.unwrap_or(local_pref);
            prepend += usize::from(set.prepend);
            attributes.communities.extend_from_slice(&set.communities);
            attributes.extended_communities.extend_from_slice(&set.extended_communities);
            attributes.large_communities.extend_from_slice(&set.large_communities);
        }
        if self.graceful_shutdown {
            attributes.communities.push(community::GRACEFUL_SHUTDOWN);
            local_pref = 0;
        }
        attributes.communities = unique(attributes.communities);
        attributes.extended_communities = unique(attributes.extended_communities);
        attributes.large_communities = unique(attributes.large_communities);
        if external {
            // "the local system … prepends its own AS number as the last element of the sequence" (RFC 4271 §5.1.2); LOCAL_PREF
            // "MUST NOT" go to an external peer (§5.1.5).
            let mut path = vec![self.local_asn; 1 + prepend];
            path.extend(self.behind_asn);
            attributes.as_path = Some(AsPath(vec![Segment::Sequence(path)]));
            attributes.otc = self.role.and_then(|role| role.export(self.local_asn));
        } else {
            // "When a BGP speaker originates a route … includes an empty AS_PATH attribute in all UPDATE messages sent to internal
            // peers." (RFC 4271 §5.1.2) Prepending would make every internal peer see a loop.
            attributes.as_path = Some(AsPath(Vec::new()));
            attributes.local_pref = Some(local_pref);
        }
        attributes
    }
}

/// Sorted and each once, so that equal sets are equal attributes.
fn unique<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}

/// Why a peer is not told about a route of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExported {
    /// The family is not exchanged on this session (RFC 4760 §8).
    #[error("{0} unicast was not negotiated with this peer")]
    Family(Family),
    /// IPv4 over a session that only has IPv6 addresses (RFC 8950).
    #[error(
        "the session has IPv6 addresses only and the peer does not take IPv4 routes with an IPv6 next hop (RFC 8950)"
    )]
    NoExtendedNextHop,
    /// IPv6 over an IPv4 session.
    #[error("the session has IPv4 addresses only and its interface has no global IPv6 address to name as next hop")]
    NoIpv6Address,
    /// No prefix list where one is required (RFC 8212).
    #[error("ebgp_requires_policy is set and the peer has no prefix_list_out")]
    NoPolicy,
    /// Denied by this prefix list.
    #[error("prefix list `{}` denies it", .0.name())]
    PrefixList(Arc<PrefixList>),
    /// No UPDATE can hold it.
    #[error("it cannot be written: {0}")]
    Encoding(EncodeError),
    /// The next hop the route names cannot be used on this session.
    #[error("the route's next hop {0} {1}")]
    NextHop(IpAddr, &'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Set;
    use crate::types::Families;

    const LOCAL: &str = "10.0.0.2";
    const LINK_LOCAL: &str = "fe80::2";
    const GLOBAL: &str = "2001:db8::2";

    fn session(kind: PeerKind, local: &str, peer: &str) -> ExportContext {
        let context = wire::Context { as4: true, peer: kind, ..wire::Context::default() };
        ExportContext::new(65000, local.parse().unwrap(), peer.parse().unwrap(), context)
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn an_external_peer_sees_our_as_and_no_preference() {
        let peer = session(PeerKind::Ebgp, LOCAL, "10.0.0.1");
        let (attributes, next_hop) = peer.export(&prefix("192.0.2.1/32"), &Origination::default()).unwrap();
        let expected = Attributes {
            origin: Some(Origin::Igp),
            as_path: Some(AsPath(vec![Segment::Sequence(vec![65000])])),
            ..Attributes::default()
        };
        assert_eq!(attributes, expected);
        assert_eq!(next_hop, NextHop::V4(LOCAL.parse().unwrap()));
        let preferred = Origination { local_pref: Some(200), med: Some(7), ..Origination::default() };
        let (attributes, _) = peer.export(&prefix("192.0.2.1/32"), &preferred).unwrap();
        assert_eq!((attributes.local_pref, attributes.med), (None, Some(7)));
    }

    #[test]
    fn another_as_of_ours_stands_before_the_real_one_or_in_its_place() {
        let path = |behind_asn, prepend| {
            let rules = vec![ExportRule { prefixes: None, set: Set { prepend, ..Set::default() } }];
            let peer = ExportContext { behind_asn, rules, ..session(PeerKind::Ebgp, LOCAL, "10.0.0.1") };
            peer.export(&prefix("192.0.2.1/32"), &Origination::default()).unwrap().0.as_path.unwrap()
        };
        assert_eq!(path(Some(64999), 0), AsPath::sequence([65000, 64999]));
        assert_eq!(path(Some(64999), 2), AsPath::sequence([65000, 65000, 65000, 64999]));
        assert_eq!(path(None, 0), AsPath::sequence([65000]));
    }

    #[test]
    fn an_internal_peer_sees_an_empty_path_and_our_preference() {
        let peer = session(PeerKind::Ibgp, LOCAL, "10.0.0.1");
        let (attributes, _) = peer.export(&prefix("192.0.2.1/32"), &Origination::default()).unwrap();
        assert_eq!(attributes.as_path, Some(AsPath(Vec::new())), "present and of length 0");
        assert_eq!((attributes.local_pref, attributes.med), (Some(100), None));
    }

    #[test]
    fn a_graceful_shutdown_asks_peers_to_look_elsewhere() {
        for (kind, local_pref) in [(PeerKind::Ebgp, None), (PeerKind::Ibgp, Some(0))] {
            let peer = ExportContext { graceful_shutdown: true, ..session(kind, LOCAL, "10.0.0.1") };
            let (attributes, _) = peer.export(&prefix("192.0.2.1/32"), &Origination::default()).unwrap();
            assert_eq!(attributes.communities, [community::GRACEFUL_SHUTDOWN]);
            assert_eq!(attributes.local_pref, local_pref, "{kind:?}");
        }
    }

    #[test]
    fn rules_add_up_where_they_apply() {
        let list = |rule: &str| Some(Arc::new(PrefixList::parse("l", [rule]).unwrap()));
        let rules = vec![
            ExportRule { prefixes: None, set: Set { communities: vec![2], med: Some(1), ..Set::default() } },
            ExportRule {
                prefixes: list("permit 192.0.2.0/24 le 32"),
                set: Set { communities: vec![1, 2], med: Some(9), prepend: 2, ..Set::default() },
            },
        ];
        let peer = ExportContext { rules, ..session(PeerKind::Ebgp, LOCAL, "10.0.0.1") };
        let of = |p: &str| {
            peer.export(&prefix(p), &Origination { communities: vec![3], ..Origination::default() }).unwrap().0
        };
        let other = of("198.51.100.1/32");
        assert_eq!((other.communities, other.med), (vec![2, 3], Some(1)));
        let listed = of("192.0.2.1/32");
        assert_eq!((listed.communities, listed.med), (vec![1, 2, 3], Some(9)));
        assert_eq!(listed.as_path, Some(AsPath(vec![Segment::Sequence(vec![65000; 3])])));
    }

    #[test]
    fn ipv6_next_hops_take_the_agreed_form() {
        use NextHopFormat::{Auto, Double, Native, Single};
        let (ll, gua) = (v6(LINK_LOCAL), v6(GLOBAL));
        let none = Ipv6Addr::UNSPECIFIED;
        let table = [
            ("auto, no global", Auto, false, None, NextHop::V6Pair(ll, ll)),
            ("auto, global", Auto, false, Some(gua), NextHop::V6Pair(gua, ll)),
            ("auto, capability 77", Auto, true, Some(gua), NextHop::V6(ll)),
            ("double ignores capability 77", Double, true, None, NextHop::V6Pair(ll, ll)),
            ("single", Single, false, Some(gua), NextHop::V6(ll)),
            ("native", Native, false, None, NextHop::V6Pair(none, ll)),
        ];
        for (name, next_hop_format, link_local_capability, global, expected) in table {
            let mut peer = session(PeerKind::Ebgp, LINK_LOCAL, "fe80::1");
            peer.context.extended_next_hop = true;
            let peer = ExportContext { next_hop_format, link_local_capability, global, link_local: Some(ll), ..peer };
            for p in ["2001:db8:1::1/128", "192.0.2.1/32"] {
                assert_eq!(peer.export(&prefix(p), &Origination::default()).unwrap().1, expected, "{name}, {p}");
            }
        }
        let mut peer = session(PeerKind::Ibgp, GLOBAL, "2001:db8::1");
        assert_eq!(peer.own_next_hop(Family::Ipv6), Ok(NextHop::V6(gua)), "not on the same link");
        peer.link_local = Some(ll);
        assert_eq!(peer.own_next_hop(Family::Ipv6), Ok(NextHop::V6Pair(gua, ll)), "on the same link");
    }

    #[test]
    fn what_cannot_be_said_has_a_reason() {
        let v4 = session(PeerKind::Ebgp, LOCAL, "10.0.0.1");
        let v6_only = session(PeerKind::Ebgp, GLOBAL, "2001:db8::1");
        let list = Some(Arc::new(PrefixList::parse("hosts", ["permit 0.0.0.0/0 ge 32"]).unwrap()));
        let one_family = wire::Context { families: Families::NONE.with(Family::Ipv6), ..v4.context.clone() };
        let via = |address: &str| Origination { next_hop: Some(address.parse().unwrap()), ..Origination::default() };
        let named = ExportContext { next_hop_self: false, ..v4.clone() };
        let plain = Origination::default();
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let table = [
            (
                ExportContext { context: one_family, ..v4.clone() },
                "192.0.2.1/32",
                &plain,
                NotExported::Family(Family::Ipv4),
            ),
            (v6_only, "192.0.2.1/32", &plain, NotExported::NoExtendedNextHop),
            (v4.clone(), "2001:db8::9/128", &plain, NotExported::NoIpv6Address),
            (ExportContext { requires_policy: true, ..v4.clone() }, "192.0.2.1/32", &plain, NotExported::NoPolicy),
            (
                ExportContext { prefix_list: list.clone(), ..v4.clone() },
                "192.0.2.0/24",
                &plain,
                NotExported::PrefixList(list.clone().unwrap()),
            ),
            (named.clone(), "192.0.2.1/32", &via("10.0.0.1"), NotExported::NextHop(peer, "is the peer itself")),
            (named.clone(), "192.0.2.1/32", &via("2001:db8::7"), NotExported::NoExtendedNextHop),
        ];
        for (context, p, route, reason) in table {
            assert_eq!(context.export(&prefix(p), route).unwrap_err(), reason);
        }
        let policy = ExportContext { requires_policy: true, prefix_list: list, ..v4.clone() };
        assert!(policy.export(&prefix("192.0.2.1/32"), &plain).is_ok());
        assert_eq!(
            named.export(&prefix("192.0.2.1/32"), &via("10.0.0.9")).unwrap().1,
            NextHop::V4([10, 0, 0, 9].into())
        );
        assert_eq!(
            v4.export(&prefix("192.0.2.1/32"), &via("10.0.0.9")).unwrap().1,
            NextHop::V4([10, 0, 0, 2].into()),
            "next_hop_self wins"
        );
        let with_global = ExportContext { global: Some(v6(GLOBAL)), ..v4 };
        assert_eq!(with_global.own_next_hop(Family::Ipv6), Ok(NextHop::V6(v6(GLOBAL))));
    }
}
