//! Each attribute both ways, octet by octet, and each way it can be malformed with the place and the treatment.

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};

use super::super::{Message, Nlri, Update, decode};
use super::*;
use crate::types::PeerKind;

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Where the first attribute of [`read`] begins.
const AT: usize = 23;

/// Reads an UPDATE with these attributes; 198.51.100.0/24 follows if `reach`.
fn read(attributes: &str, reach: bool, ctx: &Context) -> Result<Update, super::super::Error> {
    let attributes = octets(attributes);
    let nlri = if reach { octets("18c63364") } else { Vec::new() };
    let mut message = vec![0xff; 16];
    message.put_u16(u16::try_from(AT + attributes.len() + nlri.len()).unwrap());
    message.put_u8(2);
    message.put_u16(0);
    message.put_u16(u16::try_from(attributes.len()).unwrap());
    message.extend(attributes);
    message.extend(nlri);
    match decode(&message, ctx)? {
        Message::Update(update) => Ok(*update),
        other => panic!("{other:?}"),
    }
}

fn ebgp() -> Context {
    Context { as4: true, ..Context::default() }
}

fn ibgp() -> Context {
    Context { peer: PeerKind::Ibgp, ..ebgp() }
}

fn old() -> Context {
    Context { as4: false, ..ebgp() }
}

/// What every announcement has, so that nothing is missing.
const ORIGIN: &str = "400101 00";
const AS_PATH: &str = "400206 0201 0000fde9";
const AS_PATH_OLD: &str = "400204 0201 fde9";
const NEXT_HOP: &str = "400304 c0000201";

#[test]
fn each_attribute_reads_and_writes() {
    let base =
        || Attributes { origin: Some(Origin::Igp), as_path: Some(AsPath::sequence([65001])), ..Attributes::default() };
    let large = LargeCommunity { global: 64999, local1: 1, local2: 2 };
    let unknown = UnknownAttribute { flags: 0xe0, code: 200, value: Bytes::from_static(&[1, 2, 3]) };
    let aggregator = Aggregator { asn: 65001, router_id: [192, 0, 2, 9].into() };
    let rows: [(Context, &str, Attributes); 12] = [
        (ebgp(), "800404 00000064", Attributes { med: Some(100), ..base() }),
        (ibgp(), "400504 000000c8", Attributes { local_pref: Some(200), ..base() }),
        (ebgp(), "400600", Attributes { atomic_aggregate: true, ..base() }),
        (ebgp(), "c00708 0000fde9 c0000209", Attributes { aggregator: Some(aggregator), ..base() }),
        (ebgp(), "c00808 ffffff01 fde70001", Attributes { communities: vec![0xffff_ff01, 0xfde7_0001], ..base() }),
        (ibgp(), "800904 c0000207", Attributes { originator_id: Some([192, 0, 2, 7].into()), ..base() }),
        (ibgp(), "800a04 c0000208", Attributes { cluster_list: vec![[192, 0, 2, 8].into()], ..base() }),
        (ebgp(), "c01008 0002fde700000001", Attributes { extended_communities: vec![0x0002_fde7_0000_0001], ..base() }),
        (ebgp(), "c0200c 0000fde7 00000001 00000002", Attributes { large_communities: vec![large], ..base() }),
        (ebgp(), "c02304 0000fde9", Attributes { otc: Some(65001), ..base() }),
        (ebgp(), "e0c803 010203", Attributes { unknown: vec![unknown], ..base() }),
        (ebgp(), "", base()),
    ];
    for (ctx, hex, attributes) in rows {
        let update = read(&[ORIGIN, AS_PATH, NEXT_HOP, hex].concat(), true, &ctx).unwrap();
        assert_eq!(update.faults, [], "{hex}");
        assert_eq!(update.attributes, attributes, "{hex}");
        assert_eq!(update.next_hop, Some(Ipv4Addr::new(192, 0, 2, 1)));
        let mut out = BytesMut::new();
        attributes.encode(update.next_hop, &ctx, &mut out).unwrap();
        assert_eq!(out, octets(&[ORIGIN, AS_PATH, NEXT_HOP, hex].concat()), "{hex}");
    }
}

#[test]
fn each_malformed_attribute_gets_its_treatment() {
    use Treatment::{AttributeDiscard as Discard, TreatAsWithdraw as Withdraw};
    // (session, what comes first, the attribute, what is done, the fault's distance from the attribute)
    let (value, whole) = (3, 0);
    let rows = [
        (ebgp(), "400101 03", Withdraw, value),
        (ebgp(), "400102 0000", Withdraw, value),
        (ebgp(), "800101 00", Withdraw, whole),
        (ebgp(), "400206 0501 0000fde9", Withdraw, value),
        (ebgp(), "400202 0200", Withdraw, value),
        (ebgp(), "400206 0202 0000fde9", Withdraw, value),
        (ebgp(), "400207 0201 0000fde9 02", Withdraw, value),
        (ebgp(), "400206 0201 00000000", Withdraw, value),
        (ebgp(), "400206 0301 0000fde9", Withdraw, value),
        (ebgp(), "400206 0101 0000fde9", Withdraw, whole),
        (ebgp(), "400303 c00002", Withdraw, value),
        (ebgp(), "400304 e0000001", Withdraw, value),
        (ebgp(), "400304 7f000001", Withdraw, value),
        (ebgp(), "800403 000000", Withdraw, value),
        (ebgp(), "c00404 00000000", Withdraw, whole),
        (ibgp(), "400503 000000", Withdraw, value),
        (ebgp(), "400503 000000", Discard, whole),
        (ebgp(), "400601 00", Discard, value),
        (ebgp(), "c00706 fde9 c0000209", Discard, value),
        (ebgp(), "c00708 00000000 c0000209", Discard, value),
        (ebgp(), "c00800", Withdraw, value),
        (ebgp(), "c00803 000000", Withdraw, value),
        (ibgp(), "800903 000000", Withdraw, value),
        (ebgp(), "800904 c0000207", Discard, whole),
        (ibgp(), "800a00", Withdraw, value),
        (ebgp(), "800a04 c0000207", Discard, whole),
        (ebgp(), "c01007 00000000000000", Withdraw, value),
        (ebgp(), "c01904 00000000", Withdraw, value),
        (ebgp(), "c0200b 0000000000000000000000", Withdraw, value),
        (ebgp(), "c02303 000000", Withdraw, value),
        (ebgp(), "c01106 0201 00010000", Discard, whole),
        (ebgp(), "c01208 00010000 c0000209", Discard, whole),
        (old(), "c01105 0201 000100", Discard, value),
        (old(), "c01200", Discard, value),
    ];
    for (ctx, hex, treatment, distance) in rows {
        let code = octets(hex)[1];
        // Everything else that has to be there, in front; the malformed one comes last.
        let path = if ctx.as4 { AS_PATH } else { AS_PATH_OLD };
        let before: String =
            [(1, ORIGIN), (2, path), (3, NEXT_HOP)].iter().filter(|(c, _)| *c != code).map(|(_, hex)| *hex).collect();
        let update = read(&[before.as_str(), hex].concat(), true, &ctx).unwrap();
        let [fault] = update.faults.as_slice() else { panic!("{hex}: {:?}", update.faults) };
        assert_eq!((fault.attribute, fault.treatment), (Some(code), treatment), "{hex}: {fault:?}");
        // A path with an AS_SET is well-formed: the fault is that of the whole field.
        let start = if hex.starts_with("400206 0101") { AT } else { AT + octets(&before).len() };
        assert_eq!(fault.offset, start + distance, "{hex}: {fault:?}");
        assert_eq!(update.nlri, [Nlri::from("198.51.100.0/24".parse::<crate::types::Prefix>().unwrap())]);
        if treatment == Withdraw {
            // RFC 7606 §5.2: the same with nothing reachable ends the session, but for what only concerns routes.
            let only_routes = fault.reason.contains("9774") || fault.reason.contains("is not the address");
            let alone = read(&[before.as_str(), hex].concat(), false, &ctx);
            assert_eq!(alone.is_err(), !only_routes, "{hex}: {alone:?}");
        }
    }
}

#[test]
fn faults_of_the_list_itself() {
    let base = [ORIGIN, AS_PATH, NEXT_HOP].concat();
    let end = AT + octets(&base).len();
    let found = |hex: &str| {
        let update = read(&[base.as_str(), hex].concat(), true, &ebgp()).unwrap();
        let faults: Vec<_> = update.faults.iter().map(|f| (f.offset, f.attribute, f.treatment)).collect();
        (faults, update.attributes)
    };
    let (faults, _) = found("c00808 0000");
    assert_eq!(faults, [(end, Some(8), Treatment::TreatAsWithdraw)], "an overrun");
    let (faults, _) = found("40");
    assert_eq!(faults, [(end, None, Treatment::TreatAsWithdraw)], "a single octet");
    let (faults, attributes) = found("400101 02");
    assert_eq!(faults, [(end, Some(1), Treatment::AttributeDiscard)], "a duplicate");
    assert_eq!(attributes.origin, Some(Origin::Igp), "the first one counts");
    for (missing, hex) in [(1, [AS_PATH, NEXT_HOP]), (2, [ORIGIN, NEXT_HOP]), (3, [ORIGIN, AS_PATH])] {
        let update = read(&hex.concat(), true, &ebgp()).unwrap();
        assert_eq!(update.faults.len(), 1);
        assert_eq!(update.faults[0].attribute, Some(missing));
        assert_eq!(update.treatment(), Some(Treatment::TreatAsWithdraw));
    }
}

#[test]
fn what_ends_the_session_says_where() {
    let reset = |hex: &str| {
        let error = read(hex, true, &ebgp()).unwrap_err();
        let n = error.notification;
        (n.code, n.subcode, error.offset, n.data.to_vec())
    };
    assert_eq!(reset("40c80101"), (3, 2, AT, octets("40c80101")), "unknown, said to be well-known");
    let twice = "800f03 000201";
    assert_eq!(reset(&[twice, twice].concat()), (3, 1, AT + 6, vec![]), "MP_UNREACH_NLRI twice");
    assert_eq!(reset("400f03 000201"), (3, 9, AT, octets("400f03000201")), "flags of MP_UNREACH_NLRI");
    let long = "800f05 000201 8120";
    assert_eq!(reset(long), (3, 9, AT + 6, octets(long)), "a prefix of 129 bits");
    let next_hop = "800e0a 000201 05 0102030405 00";
    assert_eq!(reset(next_hop), (3, 9, AT + 6, octets(next_hop)), "a next hop of 5 octets");
    assert_eq!(reset("800e20 000201"), (3, 1, AT, vec![]), "MP_REACH_NLRI cut off");
}

#[test]
fn paths_are_merged_across_two_octet_speakers() {
    use Segment::{ConfedSequence, Sequence, Set};
    let merged = |path: &[Segment], as4: &[Segment]| as_path::merge(AsPath(path.to_vec()), AsPath(as4.to_vec())).0;
    let trans = u32::from(crate::types::AS_TRANS);
    let seq = |asns: &[u32]| Sequence(asns.to_vec());
    // RFC 6793 §4.2.3: the leading hops of AS_PATH that AS4_PATH does not know of.
    assert_eq!(merged(&[seq(&[200, 1, trans])], &[seq(&[1, 70000])]), [seq(&[200, 1, 70000])]);
    assert_eq!(merged(&[seq(&[trans])], &[seq(&[1, 70000])]), [seq(&[trans])], "longer: ignored");
    assert_eq!(
        merged(&[Set(vec![1, 2]), seq(&[trans])], &[seq(&[70000])]),
        [Set(vec![1, 2]), seq(&[70000])],
        "a set is one hop"
    );
    assert_eq!(
        merged(&[ConfedSequence(vec![9]), seq(&[8, trans])], &[seq(&[70000])]),
        [ConfedSequence(vec![9]), seq(&[8, 70000])],
        "confederation segments are no hop and stay"
    );
    let long = seq(&[7; 255]);
    assert_eq!(merged(&[long.clone(), seq(&[trans])], &[seq(&[70000])]), [long, seq(&[70000])], "no segment overflows");
}

#[test]
fn as4_attributes_count_only_together() {
    let path = "400206 0202 5ba0 fde9";
    let as4_path = "c0110a 0202 00011170 0000fde9";
    let read = |rest: &str| read(&[ORIGIN, path, NEXT_HOP, as4_path, rest].concat(), true, &old()).unwrap().attributes;
    let hops = |a: &Attributes| a.as_path.as_ref().unwrap().asns().collect::<Vec<_>>();
    assert_eq!(hops(&read("")), [70000, 65001]);
    let both = read("c00706 5ba0 c0000209 c01208 00011170 c0000209");
    assert_eq!((hops(&both)[0], both.aggregator.unwrap().asn), (70000, 70000));
    // Someone aggregated anew who knew neither: both are stale.
    let stale = read("c00706 fde9 c0000209 c01208 00011170 c0000209");
    assert_eq!((hops(&stale)[0], stale.aggregator.unwrap().asn), (23456, 65001));
}

#[test]
fn long_values_take_the_extended_length_and_long_paths_several_segments() {
    let attributes = Attributes {
        as_path: Some(AsPath::sequence(vec![65001; 300])),
        communities: vec![1; 64],
        ..Attributes::default()
    };
    let mut out = BytesMut::new();
    attributes.encode(None, &ebgp(), &mut out).unwrap();
    assert_eq!(out[..6], octets("5002 04b4 02ff"));
    let communities = out.len() - 256 - 4;
    assert_eq!(out[communities..communities + 4], octets("d008 0100"));
    let too_long = Attributes { communities: vec![1; 20_000], ..Attributes::default() };
    assert!(matches!(too_long.encode(None, &ebgp(), &mut out), Err(EncodeError::FieldTooLong { len: 80_000, .. })));
}

#[test]
fn unknown_attributes_are_passed_on_with_the_partial_bit_or_not_at_all() {
    let attribute = |flags| UnknownAttribute { flags, code: 200, value: Bytes::new() };
    assert_eq!(attribute(0xc0).passed_on(), Some(attribute(0xe0)));
    assert_eq!(attribute(0x80).passed_on(), None);
}
