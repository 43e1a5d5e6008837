//! What we offer in our OPEN, whether the peer's OPEN is acceptable, and what the two together come to.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Ends;
use crate::speaker::{AddPath, NextHopFormat, PeerConfig, RemoteAs, SpeakerConfig};
use crate::types::{Asn, Families, Family, PeerKind};
use crate::wire::notification::{code, open};
use crate::wire::{self, Capability, Context, ExpectedAs, Open, OpenExpectations};

/// The longest restart time the capability can say: 12 bits (RFC 4724 §3).
const LONGEST_RESTART: u64 = 4095;

/// What a session runs on, from the two OPENs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// External or internal.
    pub kind: PeerKind,
    /// The peer's AS number.
    pub asn: Asn,
    /// The peer's BGP Identifier.
    pub router_id: Ipv4Addr,
    /// The smaller of the two proposals; zero: no keepalives, no hold timer (RFC 4271 §4.2).
    pub hold_time: Duration,
    /// Time between our KEEPALIVEs, before jitter; zero: none.
    pub keepalive: Duration,
    /// How long the peer may take nothing (RFC 9687); `None`: for ever.
    pub send_hold: Option<Duration>,
    /// Families both sides offered.
    pub families: Families,
    /// For reading the peer's messages.
    pub receive: Context,
    /// For writing to the peer.
    pub send: Context,
    /// The peer answers ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// Both sides announced capability 77: an IPv6 next hop may be a link-local address alone.
    pub link_local_next_hop: bool,
    /// The peer's graceful restart capability, if we offered ours too.
    pub restart: Option<PeerRestart>,
    /// What we offered.
    pub offered: Vec<Capability>,
    /// What the peer offered.
    pub received: Vec<Capability>,
}

/// What a peer's graceful restart capability says (RFC 4724 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRestart {
    /// How long it asks us to keep its routes while it is away.
    pub restart_time: Duration,
    /// R bit: it has restarted.
    pub restarted: bool,
    /// N bit on both sides: NOTIFICATIONs do not end it (RFC 8538 §2).
    pub notification: bool,
    /// The families whose routes are to be kept.
    pub families: Families,
    /// Those of them whose forwarding state the peer has preserved (F bit).
    pub forwarding: Families,
    /// What is agreed of long-lived graceful restart, for IPv4 and IPv6.
    pub long_lived: [Option<LongLivedFamily>; 2],
}

/// Long-lived graceful restart of one family (RFC 9494 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongLivedFamily {
    /// F bit: the peer has preserved its forwarding state over its last restart.
    pub forwarding: bool,
    /// How long its stale routes stay after the restart time: what it asks for, but not longer than we are willing to.
    pub stale_time: Duration,
}

impl Negotiated {
    /// Whether the peer has said that it sends End-of-RIB: by the graceful restart capability, whatever else that agrees on (RFC
    /// 4724 §3).
    pub fn sends_end_of_rib(&self) -> bool {
        self.received.iter().any(|capability| matches!(capability, Capability::GracefulRestart { .. }))
    }
}

impl PeerRestart {
    /// What is agreed of long-lived graceful restart for `family`.
    pub const fn long_lived(&self, family: Family) -> Option<LongLivedFamily> {
        let [ipv4, ipv6] = self.long_lived;
        match family {
            Family::Ipv4 => ipv4,
            Family::Ipv6 => ipv6,
        }
    }
}

/// Our OPEN to this peer over this connection.
pub(super) fn our_open(speaker: &SpeakerConfig, peer: &PeerConfig, ends: &Ends, restarted: bool) -> Open {
    let mut capabilities: Vec<_> = peer
        .families
        .iter()
        .map(|family| {
            let (afi, safi) = family.afi_safi();
            Capability::Multiprotocol { afi, safi }
        })
        .collect();
    capabilities.push(Capability::RouteRefresh);
    // RFC 8950 §4: IPv4 routes on a session over IPv6 have no IPv4 next hop to stand for us.
    if ends.local.is_ipv6() && peer.families.contains(Family::Ipv4) {
        capabilities.push(Capability::ExtendedNextHop(vec![(1, 1, 2)]));
    }
    capabilities.push(Capability::ExtendedMessage);
    if let Some(restart) = &speaker.graceful_restart {
        let seconds = restart.restart_time.as_secs().min(LONGEST_RESTART);
        capabilities.push(Capability::GracefulRestart {
            restarted,
            notification: true,
            restart_time: u16::try_from(seconds).unwrap_or(0),
            // The kernel and OVS go on forwarding while we are away: F bit for all.
            families: peer
                .families
                .iter()
                .map(|family| {
                    let (afi, safi) = family.afi_safi();
                    (afi, safi, true)
                })
                .collect(),
        });
    }
    // RFC 9494 §4.1: only together with graceful restart. Nobody is asked to keep the routes of this host for long: a stale time of 0.
    if speaker.graceful_restart.as_ref().is_some_and(|restart| !restart.long_lived.is_zero()) {
        let tuple = |family: Family| {
            let (afi, safi) = family.afi_safi();
            (afi, safi, true, 0)
        };
        capabilities.push(Capability::LongLivedGracefulRestart(peer.families.iter().map(tuple).collect()));
    }
    let add_path: Vec<_> =
        peer.families.iter().filter_map(|family| Some((family, peer.add_path.mode(family)?))).collect();
    if !add_path.is_empty() {
        let tuple = |(family, mode): (Family, u8)| {
            let (afi, safi) = family.afi_safi();
            (afi, safi, mode)
        };
        capabilities.push(Capability::AddPath(add_path.into_iter().map(tuple).collect()));
    }
    capabilities.push(Capability::EnhancedRouteRefresh);
    if ends.is_link_local() && matches!(peer.next_hop_format, NextHopFormat::Auto | NextHopFormat::Single) {
        capabilities.push(Capability::LinkLocalNextHop);
    }
    if let Some(role) = peer.role.filter(|_| peer.remote_as != RemoteAs::Internal) {
        capabilities.push(Capability::Role(role.code()));
    }
    let hold_time = u16::try_from(peer.hold_time.as_secs()).unwrap_or(u16::MAX);
    Open::new(peer.our_as(speaker), hold_time, speaker.router_id, capabilities)
}

/// Judges the peer's OPEN against the configuration (RFC 4271 §6.2), and combines it with ours.
pub(super) fn negotiate(
    speaker: &SpeakerConfig,
    peer: &PeerConfig,
    ours: &Open,
    theirs: &Open,
) -> Result<Negotiated, wire::Error> {
    let asn = peer.our_as(speaker);
    let expected = OpenExpectations {
        local_as: Some(asn),
        local_id: Some(speaker.router_id),
        peer_as: match peer.remote_as {
            RemoteAs::Number(asn) => ExpectedAs::Is(asn),
            RemoteAs::Internal => ExpectedAs::Is(asn),
            RemoteAs::External => ExpectedAs::Not(asn),
            RemoteAs::Auto => ExpectedAs::Any,
        },
        role: peer.role.map(crate::policy::Role::code),
        role_strict: peer.role_strict,
        ..OpenExpectations::default()
    };
    wire::open::check(theirs, &expected)?;
    let kind = if theirs.asn() == asn { PeerKind::Ibgp } else { PeerKind::Ebgp };
    let hold_time = hold_time(speaker, ours, theirs)?;

    let has = |wanted: &Capability| theirs.capabilities.contains(wanted);
    let offered = |wanted: &Capability| ours.capabilities.contains(wanted);
    let families = families(&theirs.capabilities).and(peer.families);
    if families.is_empty() {
        // One would do; the peer is told of all.
        let required = OpenExpectations { required_families: peer.families, role: None, ..expected };
        wire::open::check(theirs, &required)?;
    }
    let as4 = theirs.capabilities.iter().any(|c| matches!(c, Capability::FourOctetAs(_)));
    let context = Context {
        as4,
        families,
        extended_next_hop: ipv4_over_ipv6(&ours.capabilities) && ipv4_over_ipv6(&theirs.capabilities),
        enhanced_refresh: has(&Capability::EnhancedRouteRefresh),
        peer: kind,
        ..Context::default()
    };
    // RFC 8654 §4: we may send longer messages if the peer announced it can take them; it may if we did.
    // RFC 7911 §4: identifiers go with a family in one direction if one side offered to send them and the other to receive them.
    let (our_paths, their_paths) = (add_path(&ours.capabilities), add_path(&theirs.capabilities));
    let send = Context {
        extended_message: has(&Capability::ExtendedMessage),
        add_path: our_paths.send.and(their_paths.receive).and(families),
        ..context.clone()
    };
    let receive = Context {
        extended_message: offered(&Capability::ExtendedMessage),
        add_path: our_paths.receive.and(their_paths.send).and(families),
        ..context
    };
    Ok(Negotiated {
        kind,
        asn: theirs.asn(),
        router_id: theirs.router_id,
        hold_time,
        keepalive: peer.keepalive.unwrap_or(hold_time / 3).min(hold_time / 3),
        send_hold: peer.send_hold(hold_time),
        families,
        receive,
        send,
        route_refresh: has(&Capability::RouteRefresh),
        link_local_next_hop: offered(&Capability::LinkLocalNextHop) && has(&Capability::LinkLocalNextHop),
        restart: speaker
            .graceful_restart
            .and_then(|ours| peer_restart(&theirs.capabilities, families, ours.long_lived)),
        offered: ours.capabilities.clone(),
        received: theirs.capabilities.clone(),
    })
}

/// The decoder has refused 1 and 2 (RFC 4271 §6.2) already.
fn hold_time(speaker: &SpeakerConfig, ours: &Open, theirs: &Open) -> Result<Duration, wire::Error> {
    /// Where the Hold Time field is in the message (RFC 4271 §4.2).
    const AT_HOLD_TIME: usize = wire::HEADER_LEN + 3;
    if theirs.hold_time == 0 && !speaker.allow_hold_time_zero {
        let reason = "it proposes no hold time at all, which allow_hold_time_zero would allow here";
        return Err(wire::Error::new(AT_HOLD_TIME, code::OPEN_MESSAGE, open::HOLD_TIME, reason));
    }
    Ok(Duration::from_secs(u64::from(theirs.hold_time.min(ours.hold_time))))
}

/// The families a list of capabilities offers. Without any multiprotocol capability: plain BGP-4, IPv4 (RFC 4760 §8).
fn families(capabilities: &[Capability]) -> Families {
    let mut offered = capabilities.iter().filter_map(|c| match c {
        Capability::Multiprotocol { afi, safi } => Some(Family::from_afi_safi(*afi, *safi)),
        _ => None,
    });
    let Some(first) = offered.next() else { return Families::NONE.with(Family::Ipv4) };
    std::iter::once(first).chain(offered).flatten().collect()
}

/// Whether the list has RFC 8950 for IPv4 unicast with an IPv6 next hop.
fn ipv4_over_ipv6(capabilities: &[Capability]) -> bool {
    capabilities.iter().any(|c| matches!(c, Capability::ExtendedNextHop(tuples) if tuples.contains(&(1, 1, 2))))
}

/// What a list of capabilities offers of ADD-PATH. Of several words on one family the last one counts.
fn add_path(capabilities: &[Capability]) -> AddPath {
    let listed = capabilities.iter().filter_map(|c| match c {
        Capability::AddPath(families) => Some(families),
        _ => None,
    });
    let listed: Vec<_> = listed.flatten().collect();
    let mode = |family: Family| {
        let last = listed.iter().rev().find(|(afi, safi, _)| (*afi, *safi) == family.afi_safi());
        last.map_or(0, |(_, _, mode)| *mode)
    };
    AddPath {
        receive: Family::ALL.into_iter().filter(|family| mode(*family) & 1 != 0).collect(),
        send: Family::ALL.into_iter().filter(|family| mode(*family) & 2 != 0).collect(),
    }
}

fn peer_restart(capabilities: &[Capability], common: Families, longest: Duration) -> Option<PeerRestart> {
    // RFC 4724 §3: of several instances of the capability only the last one counts.
    capabilities.iter().rev().find_map(|c| match c {
        Capability::GracefulRestart { restarted, notification, restart_time, families } => {
            let listed = |only_forwarding: bool| -> Families {
                families
                    .iter()
                    .filter(|(_, _, forwarding)| *forwarding || !only_forwarding)
                    .filter_map(|(afi, safi, _)| Family::from_afi_safi(*afi, *safi))
                    .collect()
            };
            Some(PeerRestart {
                restart_time: Duration::from_secs(u64::from(*restart_time)),
                restarted: *restarted,
                notification: *notification,
                families: listed(false).and(common),
                forwarding: listed(true).and(common),
                long_lived: Family::ALL
                    .map(|family| long_lived(capabilities, family, longest).filter(|_| common.contains(family))),
            })
        }
        _ => None,
    })
}

/// "The value of the Long-Lived Stale Time in the capability received from a neighbor MAY be reduced by local configuration"
/// (RFC 9494 §4.2). Zero, on either side, is none.
fn long_lived(capabilities: &[Capability], family: Family, longest: Duration) -> Option<LongLivedFamily> {
    let listed = capabilities.iter().rev().find_map(|c| match c {
        Capability::LongLivedGracefulRestart(families) => Some(families),
        _ => None,
    })?;
    let (_, _, forwarding, seconds) =
        listed.iter().rev().find(|(afi, safi, _, _)| (*afi, *safi) == family.afi_safi())?;
    let stale_time = Duration::from_secs(u64::from(*seconds)).min(longest);
    (!stale_time.is_zero()).then_some(LongLivedFamily { forwarding: *forwarding, stale_time })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Role;
    use crate::speaker::{GracefulRestart, PeerAddress};

    const OUR_AS: Asn = 64999;

    fn speaker() -> SpeakerConfig {
        SpeakerConfig::new(OUR_AS, Ipv4Addr::new(10, 0, 0, 1))
    }

    fn peer(remote_as: RemoteAs) -> PeerConfig {
        PeerConfig::new(PeerAddress::Numbered([10, 0, 0, 2].into()), remote_as)
    }

    fn ends(v6: bool) -> Ends {
        let (local, remote) = if v6 { ("[fe80::1]:179", "[fe80::2]:179") } else { ("10.0.0.1:179", "10.0.0.2:179") };
        Ends::new(local.parse().unwrap(), remote.parse().unwrap())
    }

    fn open(asn: Asn) -> Open {
        let speaker = SpeakerConfig::new(asn, Ipv4Addr::new(10, 0, 0, 2));
        our_open(&speaker, &peer(RemoteAs::Auto), &ends(false), false)
    }

    fn judged(remote_as: RemoteAs, theirs: &Open) -> Result<Negotiated, (u8, u8, Vec<u8>)> {
        let (speaker, peer) = (speaker(), peer(remote_as));
        let ours = our_open(&speaker, &peer, &ends(false), false);
        negotiate(&speaker, &peer, &ours, theirs)
            .map_err(|e| (e.notification.code, e.notification.subcode, e.notification.data.to_vec()))
    }

    #[test]
    fn what_the_configuration_does_not_allow_has_its_subcode_and_data() {
        let plain = open(OUR_AS);
        let changed = |change: &dyn Fn(&mut Open)| {
            let mut open = plain.clone();
            change(&mut open);
            judged(RemoteAs::Internal, &open).unwrap_err()
        };
        assert_eq!(changed(&|o| o.hold_time = 0), (2, 6, vec![]));
        assert_eq!(changed(&|o| o.router_id = Ipv4Addr::new(10, 0, 0, 1)), (2, 3, vec![]));
        let evpn_only = |o: &mut Open| o.capabilities = vec![Capability::Multiprotocol { afi: 25, safi: 70 }];
        assert_eq!(changed(&evpn_only), (2, 7, vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1]));
    }

    /// RFC 9072: no configuration of ours needs more than the 255 octets of the old form.
    #[test]
    fn all_we_can_say_fits_into_the_plain_form_of_an_open() {
        let restart = GracefulRestart { long_lived: Duration::from_hours(1), ..GracefulRestart::default() };
        let speaker = SpeakerConfig { graceful_restart: Some(restart), ..speaker() };
        let peer = PeerConfig {
            add_path: AddPath { receive: Families::ALL, send: Families::ALL },
            role: Some(Role::Customer),
            ..peer(RemoteAs::External)
        };
        let open = our_open(&speaker, &peer, &ends(true), true);
        let mut message = bytes::BytesMut::new();
        wire::encode(&wire::Message::Open(open.clone()), &Context::default(), &mut message).unwrap();
        // Everything there is, once: 65 6 octets, 1 twice 6, 2 2, 5 8, 6 2, 64 12, 71 16, 69 10, 70 2, 77 2, 9 3; and 2 around it.
        let mut codes: Vec<u8> = open.capabilities.iter().map(Capability::code).collect();
        codes.dedup();
        assert_eq!(codes, [65, 1, 2, 5, 6, 64, 71, 69, 70, 77, 9]);
        assert_eq!(message.get(28), Some(&77));
        assert_eq!(message.len(), 29 + 77);
    }

    #[test]
    fn the_as_number_must_be_the_one_expected() {
        let rows = [
            (RemoteAs::Number(65001), 65001, Some(PeerKind::Ebgp)),
            (RemoteAs::Number(65001), 65002, None),
            (RemoteAs::Number(OUR_AS), OUR_AS, Some(PeerKind::Ibgp)),
            (RemoteAs::Internal, OUR_AS, Some(PeerKind::Ibgp)),
            (RemoteAs::Internal, 65001, None),
            (RemoteAs::External, 65001, Some(PeerKind::Ebgp)),
            (RemoteAs::External, 4_200_000_000, Some(PeerKind::Ebgp)),
            (RemoteAs::External, OUR_AS, None),
            (RemoteAs::Auto, OUR_AS, Some(PeerKind::Ibgp)),
            (RemoteAs::Auto, 65001, Some(PeerKind::Ebgp)),
        ];
        for (remote_as, asn, expected) in rows {
            let verdict = judged(remote_as, &open(asn)).map(|n| n.kind).map_err(|(code, subcode, _)| (code, subcode));
            assert_eq!(verdict, expected.ok_or((2, 2)), "{remote_as} and AS {asn}");
        }
    }

    #[test]
    fn a_peer_may_know_us_by_another_as() {
        let local = crate::speaker::LocalAs { asn: 4_200_000_010, replace_as: false };
        let peer = |remote_as| PeerConfig { local_as: Some(local), ..peer(remote_as) };
        let speaker = speaker();
        let ours = our_open(&speaker, &peer(RemoteAs::External), &ends(false), false);
        assert_eq!((ours.as2, ours.asn()), (23456, 4_200_000_010), "AS_TRANS where it does not fit");
        let verdict = |remote_as, asn| {
            let judged = negotiate(&speaker, &peer(remote_as), &ours, &open(asn));
            judged.map(|n| n.kind).map_err(|e| (e.notification.code, e.notification.subcode))
        };
        assert_eq!(verdict(RemoteAs::External, 65001), Ok(PeerKind::Ebgp));
        assert_eq!(verdict(RemoteAs::Number(65001), 65001), Ok(PeerKind::Ebgp));
        assert_eq!(verdict(RemoteAs::External, local.asn), Err((2, 2)), "it is in the AS it takes us to be in");
    }

    #[test]
    fn roles_may_be_required() {
        let speaker = speaker();
        let judged = |role_strict: bool, theirs: Option<u8>| {
            let peer = PeerConfig { role: Some(Role::Customer), role_strict, ..peer(RemoteAs::External) };
            let ours = our_open(&speaker, &peer, &ends(false), false);
            let mut open = open(65001);
            open.capabilities.extend(theirs.map(Capability::Role));
            negotiate(&speaker, &peer, &ours, &open)
                .map(drop)
                .map_err(|e| (e.notification.code, e.notification.subcode))
        };
        let rows = [
            (false, None, Ok(())),
            (true, None, Err((2, 11))),
            (true, Some(0), Ok(())),
            (true, Some(3), Err((2, 11))),
            (false, Some(9), Err((2, 11))),
        ];
        for (strict, role, expected) in rows {
            assert_eq!(judged(strict, role), expected, "strict {strict}, the peer's role {role:?}");
        }
    }

    #[test]
    fn the_same_identifier_is_fine_in_another_as() {
        let mut theirs = open(65001);
        theirs.router_id = speaker().router_id;
        assert!(judged(RemoteAs::External, &theirs).is_ok());
    }

    #[test]
    fn hold_time_is_the_smaller_one_and_keepalive_a_third_of_it() {
        let mut theirs = open(OUR_AS);
        theirs.hold_time = 9;
        let negotiated = judged(RemoteAs::Internal, &theirs).unwrap();
        assert_eq!((negotiated.hold_time.as_secs(), negotiated.keepalive.as_secs()), (9, 3));
        theirs.hold_time = 300;
        assert_eq!(judged(RemoteAs::Internal, &theirs).unwrap().hold_time.as_secs(), 90);
    }

    #[test]
    fn hold_time_zero_when_allowed_means_no_keepalives() {
        let speaker = SpeakerConfig { allow_hold_time_zero: true, ..speaker() };
        let peer = peer(RemoteAs::Internal);
        let ours = our_open(&speaker, &peer, &ends(false), false);
        let theirs = Open { hold_time: 0, ..open(OUR_AS) };
        let negotiated = negotiate(&speaker, &peer, &ours, &theirs).unwrap();
        assert_eq!((negotiated.hold_time, negotiated.keepalive), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_peer_without_capabilities_gets_plain_bgp_4() {
        let theirs = Open { capabilities: vec![], ..open(65001) };
        let negotiated = judged(RemoteAs::External, &theirs).unwrap();
        assert_eq!(negotiated.families, Families::NONE.with(Family::Ipv4));
        assert!(!negotiated.send.as4 && !negotiated.send.extended_message && !negotiated.route_refresh);
        assert_eq!(negotiated.restart, None);
    }

    #[test]
    fn extended_next_hop_is_offered_on_ipv6_sessions_and_needs_both() {
        let (speaker, peer) = (speaker(), peer(RemoteAs::External));
        let ours = our_open(&speaker, &peer, &ends(true), false);
        assert!(ours.capabilities.contains(&Capability::LinkLocalNextHop));
        let with = Open { router_id: [10, 0, 0, 2].into(), ..our_open(&speaker, &peer, &ends(true), false) };
        let with = Open {
            as2: 65001,
            capabilities: with
                .capabilities
                .into_iter()
                .filter(|c| !matches!(c, Capability::FourOctetAs(_)))
                .chain([Capability::FourOctetAs(65001)])
                .collect(),
            ..with
        };
        assert!(negotiate(&speaker, &peer, &ours, &with).unwrap().send.extended_next_hop);
        assert!(!negotiate(&speaker, &peer, &ours, &open(65001)).unwrap().send.extended_next_hop);
    }

    #[test]
    fn long_lived_restart_needs_both_sides_and_graceful_restart() {
        let judge = |longest: u64, graceful: bool, listed: Vec<(u16, u8, bool, u32)>| {
            let restart = GracefulRestart { long_lived: Duration::from_secs(longest), ..GracefulRestart::default() };
            let speaker = SpeakerConfig { graceful_restart: Some(restart), ..speaker() };
            let peer = peer(RemoteAs::Internal);
            let ours = our_open(&speaker, &peer, &ends(false), false);
            let offers = Capability::LongLivedGracefulRestart(vec![(1, 1, true, 0), (2, 1, true, 0)]);
            assert_eq!(ours.capabilities.contains(&offers), longest > 0);
            let mut theirs = open(OUR_AS);
            theirs.capabilities.retain(|c| graceful || !matches!(c, Capability::GracefulRestart { .. }));
            theirs.capabilities.push(Capability::LongLivedGracefulRestart(listed));
            let negotiated = negotiate(&speaker, &peer, &ours, &theirs).unwrap();
            negotiated.restart.map(|r| r.long_lived.map(|l| l.map(|l| (l.stale_time.as_secs(), l.forwarding))))
        };
        let listed = vec![(1, 1, true, 3600), (2, 1, false, 60), (25, 70, true, 9)];
        assert_eq!(judge(86_400, true, listed.clone()), Some([Some((3600, true)), Some((60, false))]));
        assert_eq!(judge(600, true, listed.clone()), Some([Some((600, true)), Some((60, false))]), "reduced");
        assert_eq!(judge(0, true, listed.clone()), Some([None, None]), "we do not want to");
        assert_eq!(judge(86_400, false, listed), None, "without graceful restart it means nothing");
        assert_eq!(judge(86_400, true, vec![(1, 1, true, 0)]), Some([None, None]), "no time at all");
    }

    #[test]
    fn path_identifiers_go_where_one_side_sends_and_the_other_receives() {
        const IPV4: Families = Families::NONE.with(Family::Ipv4);
        const IPV6: Families = Families::NONE.with(Family::Ipv6);
        let (all, none) = (Families::ALL, Families::NONE);
        // (we receive, we send), what the peer's capabilities list, (identifiers received, sent).
        let table = [
            ((all, all), vec![vec![(1, 1, 3), (2, 1, 3)]], (all, all)),
            ((all, none), vec![vec![(1, 1, 3), (2, 1, 3)]], (all, none)),
            ((none, IPV6), vec![vec![(1, 1, 1), (2, 1, 1)]], (none, IPV6)),
            ((all, all), vec![vec![(1, 1, 1), (2, 1, 2)]], (IPV6, IPV4)),
            ((all, all), vec![vec![(1, 1, 3), (1, 1, 2)]], (IPV4, none)),
            ((all, all), vec![vec![(1, 1, 3)], vec![(1, 1, 1)]], (none, IPV4)),
            ((all, all), vec![vec![(25, 70, 3), (1, 2, 3)]], (none, none)),
            ((all, all), vec![], (none, none)),
        ];
        for ((receive, send), listed, expected) in table {
            let speaker = speaker();
            let peer = PeerConfig { add_path: AddPath { receive, send }, ..peer(RemoteAs::Internal) };
            let ours = our_open(&speaker, &peer, &ends(false), false);
            let offers = ours.capabilities.iter().any(|c| matches!(c, Capability::AddPath(_)));
            assert_eq!(offers, !(receive.is_empty() && send.is_empty()));
            let mut theirs = open(OUR_AS);
            theirs.capabilities.extend(listed.iter().cloned().map(Capability::AddPath));
            let negotiated = negotiate(&speaker, &peer, &ours, &theirs).unwrap();
            assert_eq!((negotiated.receive.add_path, negotiated.send.add_path), expected, "{listed:?}");
        }
    }

    #[test]
    fn graceful_restart_is_read_per_family() {
        let mut theirs = open(65001);
        theirs.capabilities.retain(|c| !matches!(c, Capability::GracefulRestart { .. }));
        theirs.capabilities.push(Capability::GracefulRestart {
            restarted: true,
            notification: false,
            restart_time: 180,
            families: vec![(1, 1, true), (2, 1, false), (25, 70, true)],
        });
        let restart = judged(RemoteAs::External, &theirs).unwrap().restart.unwrap();
        assert_eq!(restart.restart_time, Duration::from_mins(3));
        assert_eq!((restart.restarted, restart.notification), (true, false));
        assert_eq!((restart.families, restart.forwarding), (Families::ALL, Families::NONE.with(Family::Ipv4)));
    }
}
