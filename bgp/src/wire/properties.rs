//! Laws: what is written is read back as it was, a stream may be cut anywhere, and no octets make us panic.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{Bytes, BytesMut};
use ipnet::{Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::types::{Family, Prefix};

fn context() -> impl Strategy<Value = Context> {
    (any::<[bool; 9]>(), 1..4u8).prop_map(|(flags, families)| {
        let [as4, add4, add6, enhe, extended, refresh, internal, confederation, _] = flags;
        let pick = |v4: bool, v6: bool| {
            [(Family::Ipv4, v4), (Family::Ipv6, v6)].into_iter().filter(|(_, on)| *on).map(|(f, _)| f).collect()
        };
        Context {
            as4,
            families: pick(families & 1 != 0, families & 2 != 0),
            add_path: pick(add4, add6),
            extended_next_hop: enhe,
            extended_message: extended,
            enhanced_refresh: refresh,
            peer: if internal { PeerKind::Ibgp } else { PeerKind::Ebgp },
            confederation,
        }
    })
}

fn prefix(family: Family) -> BoxedStrategy<Prefix> {
    match family {
        Family::Ipv4 => (any::<u32>(), 0..=32u8)
            .prop_map(|(bits, len)| Prefix::V4(Ipv4Net::new(Ipv4Addr::from_bits(bits), len).unwrap().trunc()))
            .boxed(),
        Family::Ipv6 => (any::<u128>(), 0..=128u8)
            .prop_map(|(bits, len)| Prefix::V6(Ipv6Net::new(Ipv6Addr::from_bits(bits), len).unwrap().trunc()))
            .boxed(),
    }
}

/// Prefixes of a family of the session, with path identifiers where it has them. Announced ones are no multicast.
fn nlri(ctx: &Context, family: Family, announced: bool, count: std::ops::Range<usize>) -> BoxedStrategy<Vec<Nlri>> {
    let add_path = ctx.add_path.contains(family);
    let one = (prefix(family), any::<u32>())
        .prop_filter("multicast", move |(prefix, _)| !announced || !nlri::is_multicast(prefix))
        .prop_map(move |(prefix, id)| Nlri { prefix, path_id: add_path.then_some(id) });
    let count = if ctx.families.contains(family) { count } else { 0..1 };
    vec(one, count).boxed()
}

fn asn(ctx: &Context, confederation: bool) -> BoxedStrategy<u32> {
    // On a two-octet session AS4_PATH does not carry confederation segments (RFC 6793 §3).
    if confederation && !ctx.as4 { (1..=65535u32).boxed() } else { prop_oneof![1..=65535u32, 1..=u32::MAX].boxed() }
}

fn as_path(ctx: &Context) -> impl Strategy<Value = AsPath> + use<> {
    let confederation = if ctx.confederation { 0..2usize } else { 0..1 };
    let head = vec(vec(asn(ctx, true), 1..4).prop_map(Segment::ConfedSequence), confederation);
    let tail = vec(vec(asn(ctx, false), 1..6).prop_map(Segment::Sequence), 0..3);
    (head, tail).prop_map(|(mut head, tail)| {
        head.extend(tail);
        AsPath(head)
    })
}

fn unknown() -> impl Strategy<Value = Vec<UnknownAttribute>> {
    let one = (prop_oneof![Just(0x80u8), Just(0xc0), Just(0xe0)], 100..=255u8, vec(any::<u8>(), 0..300))
        .prop_map(|(flags, code, value)| UnknownAttribute { flags, code, value: value.into() });
    vec(one, 0..3).prop_map(|mut list| {
        list.sort_by_key(|attribute| attribute.code);
        list.dedup_by_key(|attribute| attribute.code);
        list
    })
}

fn attributes(ctx: &Context) -> impl Strategy<Value = Attributes> + use<> {
    let internal = ctx.peer == PeerKind::Ibgp;
    let has_local_pref = internal || ctx.confederation;
    let address = || any::<u32>().prop_map(Ipv4Addr::from_bits);
    let large = any::<[u32; 3]>().prop_map(|[global, local1, local2]| LargeCommunity { global, local1, local2 });
    (
        (prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)], as_path(ctx)),
        (option::of(any::<u32>()), option::of(any::<u32>()), any::<bool>()),
        option::of((asn(ctx, false), address()).prop_map(|(asn, router_id)| Aggregator { asn, router_id })),
        (vec(any::<u32>(), 0..80), vec(any::<u64>(), 0..5), proptest::collection::btree_set(large, 0..5)),
        (option::of(address()), vec(address(), 0..4)),
        (option::of(any::<u32>()), unknown()),
    )
        .prop_map(
            move |((origin, as_path), (med, local_pref, atomic), aggregator, lists, reflection, (otc, unknown))| {
                Attributes {
                    origin: Some(origin),
                    as_path: Some(as_path),
                    med,
                    local_pref: local_pref.filter(|_| has_local_pref),
                    atomic_aggregate: atomic,
                    aggregator,
                    communities: lists.0,
                    originator_id: reflection.0.filter(|_| internal),
                    cluster_list: if internal { reflection.1 } else { Vec::new() },
                    extended_communities: lists.1,
                    large_communities: lists.2.into_iter().collect(),
                    otc,
                    unknown,
                }
            },
        )
}

fn host4() -> impl Strategy<Value = Ipv4Addr> {
    (1..=126u8, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d))
}

fn next_hop(ctx: &Context, family: Family) -> BoxedStrategy<NextHop> {
    let host6 = || {
        (0x2000..=0x3fffu16, any::<u64>()).prop_map(|(a, b)| Ipv6Addr::from_bits(u128::from(a) << 112 | u128::from(b)))
    };
    let local = any::<u64>().prop_map(|b| Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(b)));
    let v6 = prop_oneof![
        host6().prop_map(NextHop::V6),
        local.clone().prop_map(NextHop::V6),
        (host6(), local.clone()).prop_map(|(a, b)| NextHop::V6Pair(a, b)),
        (local.clone(), local.clone()).prop_map(|(a, b)| NextHop::V6Pair(a, b)),
        local.prop_map(|b| NextHop::V6Pair(Ipv6Addr::UNSPECIFIED, b)),
    ];
    match family {
        Family::Ipv6 => v6.boxed(),
        Family::Ipv4 if ctx.extended_next_hop => prop_oneof![v6, host4().prop_map(NextHop::V4)].boxed(),
        Family::Ipv4 => host4().prop_map(NextHop::V4).boxed(),
    }
}

fn mp_reach(ctx: &Context) -> BoxedStrategy<Option<MpReach>> {
    let ctx = ctx.clone();
    let families: Vec<_> = ctx.families.iter().collect();
    let reach = proptest::sample::select(families).prop_flat_map(move |family| {
        (next_hop(&ctx, family), nlri(&ctx, family, true, 0..20)).prop_map(move |(next_hop, nlri)| MpReach {
            family,
            next_hop,
            nlri,
        })
    });
    option::of(reach).boxed()
}

fn mp_unreach(ctx: &Context) -> BoxedStrategy<Option<(Family, Vec<Nlri>)>> {
    let ctx = ctx.clone();
    let families: Vec<_> = ctx.families.iter().collect();
    let unreach = proptest::sample::select(families)
        .prop_flat_map(move |family| (Just(family), nlri(&ctx, family, false, 0..20)));
    option::of(unreach).boxed()
}

fn update(ctx: &Context) -> impl Strategy<Value = Update> + use<> {
    (
        nlri(ctx, Family::Ipv4, false, 0..20),
        option::of(attributes(ctx)),
        host4(),
        nlri(ctx, Family::Ipv4, true, 0..20),
        mp_reach(ctx),
        mp_unreach(ctx),
    )
        .prop_map(|(withdrawn, attributes, next_hop, nlri, mp_reach, mp_unreach)| {
            // What is announced has attributes; a withdrawal may have none.
            let Some(attributes) = attributes else {
                return Update { withdrawn, mp_unreach, ..Update::default() };
            };
            let next_hop = (!nlri.is_empty()).then_some(next_hop);
            Update { withdrawn, attributes, next_hop, nlri, mp_reach, mp_unreach, ..Update::default() }
        })
}

fn capability() -> impl Strategy<Value = Capability> {
    let family = || (any::<u16>(), any::<u8>());
    let text = || "[a-z0-9.-]{0,40}";
    prop_oneof![
        family().prop_map(|(afi, safi)| Capability::Multiprotocol { afi, safi }),
        Just(Capability::RouteRefresh),
        vec(any::<(u16, u16, u16)>(), 1..4).prop_map(Capability::ExtendedNextHop),
        Just(Capability::ExtendedMessage),
        any::<u8>().prop_map(Capability::Role),
        (any::<bool>(), any::<bool>(), 0..4096u16, vec(any::<(u16, u8, bool)>(), 0..4)).prop_map(
            |(restarted, notification, restart_time, families)| Capability::GracefulRestart {
                restarted,
                notification,
                restart_time,
                families
            }
        ),
        (1..=u32::MAX).prop_map(Capability::FourOctetAs),
        vec((any::<u16>(), any::<u8>(), 1..=3u8), 1..4).prop_map(Capability::AddPath),
        Just(Capability::EnhancedRouteRefresh),
        vec((any::<u16>(), any::<u8>(), any::<bool>(), 0..1u32 << 24), 0..4)
            .prop_map(Capability::LongLivedGracefulRestart),
        (text(), text()).prop_map(|(host, domain)| Capability::Fqdn { host, domain }),
        text().prop_map(Capability::SoftwareVersion),
        Just(Capability::LinkLocalNextHop),
        (100..=255u8, vec(any::<u8>(), 0..255))
            .prop_map(|(code, data)| Capability::Unknown { code, data: data.into() }),
    ]
}

fn open() -> impl Strategy<Value = Open> {
    let hold_time = any::<u16>().prop_filter("neither 1 nor 2", |time| !matches!(time, 1 | 2));
    (1..=u16::MAX, hold_time, 1..=u32::MAX, vec(capability(), 0..12)).prop_map(|(as2, hold_time, id, capabilities)| {
        Open { version: 4, as2, hold_time, router_id: id.into(), capabilities }
    })
}

fn message(ctx: &Context) -> BoxedStrategy<Message> {
    let notification = (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..64))
        .prop_map(|(code, subcode, data)| Notification { code, subcode, data: Bytes::from(data) });
    let refresh =
        (any::<u16>(), any::<u8>(), any::<u8>()).prop_map(|(afi, subtype, safi)| RouteRefresh { afi, subtype, safi });
    prop_oneof![
        8 => update(ctx).prop_map(|update| Message::Update(Box::new(update))),
        2 => open().prop_map(Message::Open),
        1 => notification.prop_map(Message::Notification),
        1 => refresh.prop_map(Message::RouteRefresh),
        1 => Just(Message::Keepalive),
    ]
    .boxed()
}

fn with_message() -> impl Strategy<Value = (Context, Message)> {
    context().prop_flat_map(|ctx| (Just(ctx.clone()), message(&ctx)))
}

fn octets(message: &Message, ctx: &Context) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(message, ctx, &mut out).unwrap();
    out.to_vec()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back((ctx, message) in with_message()) {
        let octets = octets(&message, &ctx);
        prop_assert_eq!(frame(&octets, ctx.max_len()), Ok(Some(octets.len())));
        prop_assert_eq!(decode(&octets, &ctx), Ok(message));
    }

    /// Whatever reads without fault can be written, and then reads the same.
    #[test]
    fn what_is_read_without_fault_can_be_written(
        (ctx, message) in with_message(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let mut octets = octets(&message, &ctx);
        for (at, value) in changes {
            // The body only: a broken header ends it early.
            let at = at.index(octets.len());
            if at >= HEADER_LEN {
                octets[at] = value;
            }
        }
        if let Some(cut) = cut {
            octets.truncate(HEADER_LEN + cut.index(octets.len() - HEADER_LEN + 1));
            let len = u16::try_from(octets.len()).unwrap();
            octets[16..18].copy_from_slice(&len.to_be_bytes());
        }
        describe(&octets, &ctx);
        let Ok(message) = decode(&octets, &ctx) else { return Ok(()) };
        if let Message::Update(update) = &message && (!update.faults.is_empty() || !update.other_families.is_empty()) {
            return Ok(());
        }
        let mut out = BytesMut::new();
        prop_assert_eq!(encode(&message, &ctx, &mut out), Ok(()));
        prop_assert_eq!(decode(&out, &ctx), Ok(message));
    }

    /// Arbitrary bodies of every type; nothing but the absence of a panic, and offsets within the message.
    #[test]
    fn no_octets_panic(ctx in context(), kind in 1..=5u8, body in vec(any::<u8>(), 0..200)) {
        let mut octets = vec![0xff; 16];
        octets.extend(u16::try_from(HEADER_LEN + body.len()).unwrap().to_be_bytes());
        octets.push(kind);
        octets.extend(body);
        describe(&octets, &ctx);
        match decode(&octets, &ctx) {
            Err(error) => prop_assert!(error.offset <= octets.len()),
            Ok(Message::Update(update)) => prop_assert!(update.faults.iter().all(|f| f.offset <= octets.len())),
            Ok(_) => {}
        }
    }

    #[test]
    fn a_stream_may_be_cut_anywhere(
        (ctx, messages) in context().prop_flat_map(|ctx| (Just(ctx.clone()), vec(message(&ctx), 0..5))),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| octets(message, &ctx)).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        for pair in cuts.windows(2) {
            buffer.extend_from_slice(&stream[pair[0]..pair[1]]);
            while let Some(len) = frame(&buffer, ctx.max_len()).unwrap() {
                read.push(decode(&buffer.split_to(len), &ctx).unwrap());
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(read, messages);
    }

    /// The builder writes what `encode` would have written, in as many messages as it takes.
    #[test]
    fn the_builder_loses_nothing(
        (ctx, attributes, family, next_hop, nlri) in context().prop_flat_map(|ctx| {
            let families: Vec<_> = ctx.families.iter().collect();
            let family = proptest::sample::select(families);
            (Just(ctx), family)
        }).prop_flat_map(|(ctx, family)| (
            Just(ctx.clone()),
            attributes(&ctx),
            Just(family),
            next_hop(&ctx, family),
            nlri(&ctx, family, true, 0..60),
        )),
        max_len in 1500..4096usize,
    ) {
        for announce in [true, false] {
            let mut out = BytesMut::new();
            let mut builder = UpdateBuilder::new(&ctx, max_len);
            if announce {
                if builder.announce(family, &attributes, next_hop).is_err() {
                    continue;
                }
            } else {
                builder.withdraw(family).unwrap();
            }
            for nlri in &nlri {
                if !builder.push(*nlri) {
                    builder.finish(&mut out);
                    prop_assert!(builder.push(*nlri));
                }
            }
            builder.finish(&mut out);
            let mut read = Vec::new();
            while let Some(len) = frame(&out, max_len).unwrap() {
                let octets = out.split_to(len);
                let Ok(Message::Update(update)) = decode(&octets, &ctx) else { panic!("an UPDATE") };
                if announce {
                    prop_assert_eq!(&update.attributes, &attributes);
                    prop_assert!(update.announced().all(|(f, n, _)| f == family && n == next_hop));
                    read.extend(update.announced().map(|(_, _, nlri)| *nlri));
                } else {
                    read.extend(update.prefixes());
                }
            }
            prop_assert!(out.is_empty());
            prop_assert_eq!(&read, &nlri);
        }
    }
}
