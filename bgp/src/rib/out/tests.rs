use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{Buf, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::policy::{ExportRule, PrefixList, Set, community};
use crate::speaker::NextHopFormat;
use crate::types::{Families, PeerKind};
use crate::wire::{self, Message, Nlri};

/// The other side: reads messages as a peer would and keeps what they say.
#[derive(Debug)]
struct Peer {
    context: wire::Context,
    routes: BTreeMap<Prefix, (Attributes, NextHop)>,
    /// One letter a message: `w`ithdrawal, `a`nnouncement, `4`/`6` End-of-RIB, `(`/`)` BoRR and EoRR of IPv4, `[`/`]` of IPv6.
    heard: String,
    /// What BoRR marked stale and nothing has confirmed since.
    stale: BTreeMap<Prefix, Family>,
    /// What it asked for once more and has not heard since.
    asked: BTreeSet<Prefix>,
}

impl Peer {
    fn of(out: &AdjOut) -> Self {
        let context = out.context().context.clone();
        let (routes, stale) = (BTreeMap::new(), BTreeMap::new());
        Self { context, routes, heard: String::new(), stale, asked: BTreeSet::new() }
    }

    fn hear(&mut self, bytes: &mut BytesMut) {
        while let Some(len) = wire::frame(bytes, self.context.max_len()).unwrap() {
            match wire::decode(&bytes[..len], &self.context).unwrap() {
                Message::Update(update) => self.update(&update),
                Message::RouteRefresh(refresh) => self.refresh(refresh),
                other => panic!("{other:?}"),
            }
            bytes.advance(len);
        }
        assert!(bytes.is_empty(), "only whole messages");
    }

    fn update(&mut self, update: &wire::Update) {
        assert_eq!(update.faults, []);
        if let Some(family) = update.end_of_rib() {
            self.heard.push(if family == Family::Ipv4 { '4' } else { '6' });
            return;
        }
        let path_id =
            |nlri: &Nlri| assert_eq!(nlri.path_id.is_some(), self.context.add_path.contains(Family::of(&nlri.prefix)));
        let unreached = update.mp_unreach.iter().flat_map(|(_, nlri)| nlri);
        for nlri in update.withdrawn.iter().chain(unreached) {
            path_id(nlri);
            assert!(
                self.routes.remove(&nlri.prefix).is_some(),
                "withdrawn without having been announced: {}",
                nlri.prefix
            );
            self.stale.remove(&nlri.prefix);
            self.asked.remove(&nlri.prefix);
        }
        let body = update.next_hop.map(|next_hop| (NextHop::V4(next_hop), &update.nlri));
        let mut announced = false;
        for (next_hop, nlri) in body.into_iter().chain(update.mp_reach.iter().map(|r| (r.next_hop, &r.nlri))) {
            for nlri in nlri {
                path_id(nlri);
                announced = true;
                self.routes.insert(nlri.prefix, (update.attributes.clone(), next_hop));
                self.stale.remove(&nlri.prefix);
                self.asked.remove(&nlri.prefix);
            }
        }
        self.heard.push(if announced { 'a' } else { 'w' });
    }

    fn refresh(&mut self, refresh: wire::RouteRefresh) {
        let family = Family::from_afi_safi(refresh.afi, refresh.safi).unwrap();
        let is_in = |prefix: &Prefix| Family::of(prefix) == family;
        if refresh.subtype == 1 {
            self.heard.push(if family == Family::Ipv4 { '(' } else { '[' });
            self.stale.extend(self.routes.keys().filter(|p| is_in(p)).map(|p| (*p, family)));
        } else {
            self.heard.push(if family == Family::Ipv4 { ')' } else { ']' });
            assert!(!self.stale.values().any(|f| *f == family), "EoRR drops what was not sent again: {:?}", self.stale);
        }
    }

    /// Hears everything there is to say, `limit` octets at a time.
    fn drain(&mut self, out: &mut AdjOut, limit: usize) {
        let mut bytes = BytesMut::new();
        while out.pending() {
            out.fill(&mut bytes, limit);
            self.hear(&mut bytes);
        }
        out.fill(&mut bytes, limit);
        assert!(bytes.is_empty(), "nothing pending, nothing said");
    }

    fn heard(&mut self) -> String {
        std::mem::take(&mut self.heard)
    }
}

fn context(kind: PeerKind, local: &str, peer: &str) -> ExportContext {
    let context = wire::Context {
        as4: true,
        extended_next_hop: local.contains(':'),
        enhanced_refresh: true,
        peer: kind,
        ..wire::Context::default()
    };
    ExportContext::new(65000, local.parse().unwrap(), peer.parse().unwrap(), context)
}

fn external() -> ExportContext {
    let global = Some("2001:db8::2".parse().unwrap());
    ExportContext { global, ..context(PeerKind::Ebgp, "10.0.0.2", "10.0.0.1") }
}

fn host(number: u32, ipv6: bool) -> Prefix {
    let address = if ipv6 {
        IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(number)))
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
    };
    Prefix::from(address)
}

fn hosts(count: u32, ipv6: bool, route: &Origination) -> Arc<RouteSet> {
    let route = Arc::new(route.clone());
    Arc::new((0..count).map(|n| (host(n, ipv6), Arc::clone(&route))).collect())
}

fn set(prefixes: &[&str]) -> Arc<RouteSet> {
    Arc::new(prefixes.iter().map(|p| (p.parse().unwrap(), Arc::default())).collect())
}

#[test]
fn the_first_dump_ends_with_end_of_rib_for_each_family() {
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    assert!(!out.pending(), "not before the routes are known");
    out.set(set(&["192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128"]));
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "a4a6");
    out.set(set(&["192.0.2.1/32"]));
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "ww", "End-of-RIB comes once");
    let mut empty = AdjOut::new(external());
    let mut peer = Peer::of(&empty);
    empty.set(Arc::default());
    peer.drain(&mut empty, 65536);
    assert_eq!(peer.heard(), "46", "also of families without routes");
    let one_family = wire::Context { families: Families::NONE.with(Family::Ipv6), ..external().context };
    let mut out = AdjOut::new(ExportContext { context: one_family, ..external() });
    let mut peer = Peer::of(&out);
    out.set(set(&["192.0.2.1/32"]));
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "6", "only of negotiated families");
}

#[test]
fn end_of_rib_waits_until_the_set_is_not_partial() {
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    let partial = RouteSet::clone(&set(&["192.0.2.1/32"])).partial();
    out.set(Arc::new(partial));
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "a");
    assert!(!out.pending(), "nothing to be woken for");
    out.refresh(Family::Ipv4);
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "a", "answered, but BoRR has to wait for End-of-RIB (RFC 7313 §4)");
    out.set(set(&["192.0.2.1/32"]));
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "46");
}

#[test]
fn withdrawals_leave_first_and_a_flapping_route_says_nothing() {
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    out.set(set(&["192.0.2.1/32", "192.0.2.2/32"]));
    peer.drain(&mut out, 65536);
    peer.heard();
    out.set(set(&["192.0.2.2/32", "192.0.2.3/32"]));
    assert_eq!(out.counts(Family::Ipv4), Counts { advertised: 2, pending: 1, withdrawals: 1, complete: true });
    out.set(set(&["192.0.2.1/32", "192.0.2.2/32"]));
    assert!(!out.pending(), "gone and back before the peer heard of it");
    out.set(set(&["192.0.2.2/32", "192.0.2.3/32"]));
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "wa");
    assert_eq!(out.counts(Family::Ipv4), Counts { advertised: 2, pending: 0, withdrawals: 0, complete: true });
}

/// What a peer in step is told by a difference, and that nothing else is looked at: a set without the routes that stand is believed.
#[test]
fn a_peer_in_step_needs_the_difference_only() {
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    let (first, second) = (set(&["192.0.2.1/32", "192.0.2.3/32"]), set(&["192.0.2.2/32", "192.0.2.3/32"]));
    out.set(Arc::clone(&first));
    assert!(!out.is_told(&first), "not yet");
    peer.drain(&mut out, 65536);
    assert!(out.is_told(&first) && !out.is_told(&second));
    let difference = Difference::between(&first, &second);
    assert_eq!(difference.edits.len(), 2, "equal originations are no difference, whatever their Arc");
    // Were it compared, this would be a withdrawal of everything.
    let blind = Difference { edits: vec![], from: first, to: Arc::clone(&second) };
    out.advance(&blind);
    assert!(!out.pending());
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    out.set(Arc::clone(&difference.from));
    peer.drain(&mut out, 65536);
    peer.heard();
    out.advance(&difference);
    assert_eq!(out.counts(Family::Ipv4), Counts { advertised: 2, pending: 1, withdrawals: 1, complete: true });
    // Out of step it is compared.
    let third = Arc::new(RouteSet::clone(&set(&["192.0.2.3/32"])).leaving());
    out.advance(&Difference::between(&second, &third));
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "wa");
    assert!(peer.routes.values().all(|(a, _)| a.communities == [community::GRACEFUL_SHUTDOWN]));
    out.advance(&Difference::between(&third, &second));
    peer.drain(&mut out, 65536);
    assert_eq!(peer.routes.len(), 2);
    assert!(peer.routes.values().all(|(a, _)| a.communities.is_empty()), "the mark concerned all");
}

/// Attributes that nobody uses any more do not add up.
#[test]
fn a_route_that_changes_for_ever_costs_no_more() {
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    let mut before = hosts(1, false, &Origination::default());
    out.set(Arc::clone(&before));
    for med in 0..1000 {
        let after = hosts(1, false, &Origination { med: Some(med), ..Origination::default() });
        out.advance(&Difference::between(&before, &after));
        peer.drain(&mut out, 65536);
        assert_eq!(peer.routes[&host(0, false)].0.med, Some(med));
        assert!(out.groups.len() <= MANY_GROUPS + 1);
        before = after;
    }
}

#[test]
fn changed_attributes_replace_the_route_without_a_withdrawal() {
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    out.set(hosts(3, false, &Origination::default()));
    peer.drain(&mut out, 65536);
    out.set(hosts(3, false, &Origination { med: Some(7), ..Origination::default() }));
    peer.heard();
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "a");
    assert_eq!(peer.routes[&host(0, false)].0.med, Some(7));
    out.set(hosts(3, false, &Origination { med: Some(7), ..Origination::default() }));
    assert!(!out.pending(), "equal attributes are equal, whatever their Arc");
}

#[test]
fn a_new_policy_sends_only_what_differs() {
    let list = |rules: &[&str]| Some(Arc::new(PrefixList::parse("out", rules).unwrap()));
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    out.set(set(&["192.0.2.0/24", "192.0.2.1/32"]));
    peer.drain(&mut out, 65536);
    peer.heard();
    out.reconfigure(ExportContext { prefix_list: list(&["permit 0.0.0.0/0 ge 32"]), ..external() });
    let net = "192.0.2.0/24".parse().unwrap();
    assert_eq!(out.status(&net), Status::Withdrawing);
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "w");
    assert_eq!(
        out.status(&net).clone(),
        Status::NotExported(NotExported::PrefixList(list(&["permit 0.0.0.0/0 ge 32"]).unwrap()))
    );
    assert_eq!(out.status(&"192.0.2.1/32".parse().unwrap()), Status::Advertised);
    assert_eq!(out.status(&"192.0.2.2/32".parse().unwrap()), Status::NotOurs);
    out.reconfigure(ExportContext { graceful_shutdown: true, ..external() });
    assert_eq!(out.status(&net), Status::Pending);
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "a");
    assert!(peer.routes.values().all(|(a, _)| a.communities == [crate::policy::community::GRACEFUL_SHUTDOWN]));
}

#[test]
fn a_refresh_sends_everything_once_more_between_its_marks() {
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    out.refresh(Family::Ipv4);
    assert!(!out.pending(), "nothing is known yet");
    out.set(set(&["192.0.2.1/32", "2001:db8::1/128"]));
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "a4a6", "the first dump answers it");
    out.refresh(Family::Ipv6);
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "[a]");
    // The set changes and another request comes while the answer is on its way.
    out.refresh(Family::Ipv4);
    let mut bytes = BytesMut::new();
    out.fill(&mut bytes, 1);
    out.set(set(&["192.0.2.2/32"]));
    out.refresh(Family::Ipv4);
    peer.hear(&mut bytes);
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "(wwa)(a)");
    let plain = wire::Context { enhanced_refresh: false, ..external().context };
    let mut out = AdjOut::new(ExportContext { context: plain, ..external() });
    let mut peer = Peer::of(&out);
    out.set(set(&["192.0.2.1/32"]));
    peer.drain(&mut out, 65536);
    out.refresh(Family::Ipv4);
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "a46a", "a peer that does not know the marks is not sent them");
}

/// Everything one `fill` after another says, and in how many messages.
fn say(out: &mut AdjOut) -> (usize, usize) {
    let mut bytes = BytesMut::new();
    while out.pending() {
        out.fill(&mut bytes, 65536);
    }
    let total = bytes.len();
    let mut messages = 0;
    while let Some(len) = wire::frame(&bytes, 65535).unwrap() {
        bytes.advance(len);
        messages += 1;
    }
    (total, messages)
}

#[test]
fn a_hundred_thousand_routes_fill_their_messages() {
    const END_OF_RIB: usize = 23 + 29;
    let mut link_local = context(PeerKind::Ebgp, "fe80::2", "fe80::1");
    link_local.next_hop_format = NextHopFormat::Double;
    let internal = context(PeerKind::Ibgp, "10.0.0.2", "10.0.0.1");
    let plain = Origination::default();
    let coloured = Origination { communities: vec![1], ..plain.clone() };
    // The header and the two length fields, the attributes, the NLRI: octets = messages × fixed + routes × size.
    let table = [
        ("IPv4 in the body, external", external(), false, &plain, 124, 43, 5),
        ("IPv4 in the body, internal", internal, false, &plain, 124, 44, 5),
        ("IPv4 in the body, a community", external(), false, &coloured, 124, 50, 5),
        ("IPv4 with an IPv6 pair as next hop", link_local.clone(), false, &plain, 125, 77, 5),
        ("IPv6 with one next hop", external(), true, &plain, 422, 61, 17),
        ("IPv6 with a pair", link_local, true, &plain, 424, 77, 17),
    ];
    for (name, context, ipv6, route, messages, fixed, size) in table {
        let mut out = AdjOut::new(context);
        out.set(hosts(100_000, ipv6, route));
        let expected = messages * fixed + 100_000 * size + END_OF_RIB;
        assert_eq!(say(&mut out), (expected, messages + 2), "{name}");
        assert!(expected <= if ipv6 { 1_750_000 } else { 510_000 }, "{name}");
        // Eight octets a route once all is said.
        assert!(out.heap_size() <= 100_000 * 8 + 4096, "{name}: {} octets", out.heap_size());
        out.set(Arc::default());
        let (octets, messages) = say(&mut out);
        assert!(messages <= if ipv6 { 419 } else { 124 }, "{name}: withdrawn in {messages}");
        assert!(octets <= if ipv6 { 1_715_000 } else { 504_000 }, "{name}: withdrawn in {octets} octets");
    }
}

#[test]
fn while_a_dump_waits_a_route_costs_less_than_a_hundred_octets() {
    let mut out = AdjOut::new(external());
    out.set(hosts(100_000, false, &Origination::default()));
    assert!(out.heap_size() <= 100_000 * 16, "announcing: {}", out.heap_size());
    say(&mut out);
    out.set(hosts(100_000, true, &Origination::default()));
    assert!(out.heap_size() <= 100_000 * 50, "everything replaced: {}", out.heap_size());
}

#[test]
fn what_does_not_fit_a_message_is_not_exported_and_says_so() {
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    out.set(hosts(1, false, &Origination { communities: (0..1100).collect(), ..Origination::default() }));
    peer.drain(&mut out, 65536);
    assert_eq!(peer.heard(), "46");
    assert!(matches!(out.status(&host(0, false)), Status::NotExported(NotExported::Encoding(_))));
}

/// One thing that happens to an `AdjOut`.
#[derive(Clone, Debug)]
enum Step {
    /// By the difference from the set before, if there was one and this says so.
    Set(BTreeMap<u8, u8>, bool),
    Fill(usize),
    Refresh(Family),
    Reconfigure(bool, bool),
    /// In another process, as soon as everything is said.
    HandOver,
}

fn any_step() -> impl Strategy<Value = Step> {
    let routes = proptest::collection::btree_map(0..24_u8, 0..4_u8, 0..24);
    prop_oneof![
        3 => (routes, any::<bool>()).prop_map(|(routes, difference)| Step::Set(routes, difference)),
        // Too little for a second message, up to enough for a few, or for all.
        4 => prop_oneof![1..12_000_usize, Just(100_000)].prop_map(Step::Fill),
        1 => prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)].prop_map(Step::Refresh),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(list, gshut)| Step::Reconfigure(list, gshut)),
        1 => Just(Step::HandOver),
    ]
}

/// Few prefixes and attributes, so that they meet often: even numbers are IPv4; a quarter are not host routes.
fn routes(of: &BTreeMap<u8, u8>) -> Arc<RouteSet> {
    let prefix = |n: u8| {
        let host = host(u32::from(n) << 4, n % 2 == 1);
        if n % 4 < 2 { host } else { Prefix::new(host.addr(), host.max_prefix_len() - 2).unwrap() }
    };
    let route = |kind: u8| Origination { med: (kind > 0).then_some(u32::from(kind)), ..Origination::default() };
    // Equal originations share one `Arc`, as they do in earnest.
    let shared: Vec<_> = (0..4).map(|kind| Arc::new(route(kind))).collect();
    Arc::new(of.iter().map(|(n, kind)| (prefix(*n), Arc::clone(&shared[usize::from(*kind)]))).collect())
}

fn policy(base: &ExportContext, list: bool, graceful_shutdown: bool) -> ExportContext {
    let hosts = || Arc::new(PrefixList::parse("hosts", ["permit 0.0.0.0/0 ge 32", "permit ::/0 ge 128"]).unwrap());
    let set =
        Set { large_communities: vec![wire::LargeCommunity { global: 1, local1: 2, local2: 3 }], ..Set::default() };
    ExportContext {
        prefix_list: list.then(hosts),
        rules: vec![ExportRule { prefixes: Some(hosts()), set }],
        graceful_shutdown,
        ..base.clone()
    }
}

#[test]
fn what_is_about_to_go_is_marked_first() {
    let mut out = AdjOut::new(external());
    let mut peer = Peer::of(&out);
    let routes = hosts(3, false, &Origination::default());
    out.set(Arc::clone(&routes));
    peer.drain(&mut out, 4096);
    let marks = |peer: &Peer| -> Vec<_> { peer.routes.values().map(|(a, _)| a.communities.clone()).collect() };
    assert_eq!(marks(&peer), vec![Vec::<u32>::new(); 3]);
    out.set(Arc::new(RouteSet::clone(&routes).leaving()));
    peer.heard();
    peer.drain(&mut out, 4096);
    assert_eq!(peer.heard(), "a", "one UPDATE, nothing is withdrawn");
    assert_eq!(marks(&peer), vec![vec![community::GRACEFUL_SHUTDOWN]; 3]);
    assert_eq!(out.status(&host(1, false)), Status::Advertised);
    // A change of policy meanwhile does not take the mark away.
    out.reconfigure(ExportContext { next_hop_self: false, ..external() });
    peer.drain(&mut out, 4096);
    assert_eq!(marks(&peer), vec![vec![community::GRACEFUL_SHUTDOWN]; 3]);
    out.set(routes);
    peer.drain(&mut out, 4096);
    assert_eq!(marks(&peer), vec![Vec::<u32>::new(); 3], "it is over");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn whatever_happens_the_peer_ends_up_with_the_export_of_the_last_set(
        steps in proptest::collection::vec(any_step(), 1..24),
        internal: bool,
        add_path: bool,
        enhanced_refresh: bool,
    ) {
        let mut base = context(if internal { PeerKind::Ibgp } else { PeerKind::Ebgp }, "fe80::2", "fe80::1");
        base.context.enhanced_refresh = enhanced_refresh;
        base.context.add_path = if add_path { Families::ALL } else { Families::NONE };
        let mut out = AdjOut::new(base.clone());
        let mut peer = Peer::of(&out);
        let mut last = None;
        let mut marks_due = false;
        let mut bytes = BytesMut::new();
        for step in steps {
            match step {
                Step::Set(of, by_difference) => {
                    let routes = routes(&of);
                    match last.replace(Arc::clone(&routes)).filter(|_| by_difference) {
                        Some(before) => out.advance(&Difference::between(&before, &routes)),
                        None => out.set(routes),
                    }
                }
                Step::Fill(limit) => {
                    out.fill(&mut bytes, limit);
                    prop_assert!(bytes.len() <= limit.max(4096), "{} octets, not more than {limit}", bytes.len());
                    peer.hear(&mut bytes);
                }
                Step::Refresh(family) => {
                    out.refresh(family);
                    peer.asked.extend(peer.routes.keys().filter(|p| Family::of(p) == family));
                    marks_due |= peer.heard.contains(if family == Family::Ipv4 { '4' } else { '6' });
                }
                Step::Reconfigure(list, gshut) => out.reconfigure(policy(&base, list, gshut)),
                Step::HandOver => {
                    let Some(routes) = last.take() else { continue };
                    peer.drain(&mut out, 65536);
                    // Nothing is shared with what was before.
                    let again: Arc<RouteSet> = Arc::new(
                        routes.routes().iter().map(|(p, o)| (*p, Arc::new(Origination::clone(o)))).collect(),
                    );
                    let digests = Family::ALL.map(|family| out.digest(family));
                    let complete = out.end_of_rib_sent();
                    let (heir, anew) = AdjOut::told(out.context().clone(), Arc::clone(&again), complete, |family| {
                        Some(digests[usize::from(family == Family::Ipv6)].clone())
                    });
                    prop_assert_eq!(anew, Families::NONE);
                    prop_assert!(!heir.pending());
                    (out, last) = (heir, Some(again));
                }
            }
            let told: Vec<_> = out.routes().map(|(p, a, n)| (p, (a.clone(), n))).collect();
            prop_assert_eq!(told, Vec::from_iter(peer.routes.clone()), "we know what the peer knows");
            let counted = Family::ALL.map(|f| out.counts(f).advertised);
            let known = Family::ALL.map(|f| peer.routes.keys().filter(|p| Family::of(p) == f).count());
            prop_assert_eq!(counted, known);
        }
        peer.drain(&mut out, 65536);
        let wanted = last.as_deref().map_or(&[][..], RouteSet::routes);
        let expected: BTreeMap<_, _> =
            wanted.iter().filter_map(|(p, route)| Some((*p, out.context().export(p, route).ok()?))).collect();
        prop_assert_eq!(&peer.routes, &expected);
        prop_assert!(peer.routes.keys().all(|p| out.advertised(p) && out.status(p) == Status::Advertised));
        prop_assert_eq!(peer.heard.matches('4').count(), usize::from(last.is_some()));
        prop_assert_eq!(peer.heard.matches('6').count(), usize::from(last.is_some()));
        let count = |mark: char| peer.heard.matches(mark).count();
        prop_assert_eq!((count('('), count('[')), (count(')'), count(']')));
        prop_assert_eq!(count('(') + count('[') > 0, marks_due && enhanced_refresh);
        prop_assert_eq!(peer.asked, BTreeSet::new(), "asked for and not heard");
    }
}
