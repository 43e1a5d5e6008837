//! Decoded fields against the fields of a record.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bgp::policy::Role;
use bgp::rib::{AdjIn, ImportContext};
use bgp::types::{Asn, Family, Prefix};
use bgp::wire::{AsPath, Capability, Context, Message, NextHop, Nlri, Notification, Open, Origin, Segment, Update};
use bytes::BytesMut;
use serde_json::Value;

use super::{hex, message};

type Outcome = Result<(), String>;

/// Compares what was read with the fields the record lists.
pub(super) fn message(message: &Message, expect: &Value, ctx: &Context) -> Outcome {
    match message {
        Message::Open(open) => expect.get("open").map_or(Ok(()), |wanted| compare_open(open, wanted)),
        Message::Update(update) => {
            discarded(update, expect)?;
            expect.get("update").map_or(Ok(()), |wanted| compare_update(update, wanted, expect, ctx))
        }
        Message::Notification(got) => {
            expect.get("notification_received").map_or(Ok(()), |wanted| compare_notification(got, wanted))
        }
        Message::RouteRefresh(refresh) => expect.get("route_refresh").map_or(Ok(()), |wanted| {
            same("AFI", wanted.get("afi"), refresh.afi)?;
            same("subtype", wanted.get("subtype"), refresh.subtype)?;
            same("SAFI", wanted.get("safi"), refresh.safi)
        }),
        Message::Keepalive => Ok(()),
    }
}

/// Compares the prefixes that treat-as-withdraw takes away.
pub(super) fn withdrawn(message: &Message, expect: &Value) -> Outcome {
    let Message::Update(update) = message else { return Err("treat-as-withdraw of no UPDATE".into()) };
    let got: BTreeSet<Prefix> = update.prefixes().map(|nlri| nlri.prefix).collect();
    let wanted: BTreeSet<Prefix> = array(expect.get("withdraw"))
        .filter(|p| p.get("safi").and_then(Value::as_u64) == Some(1))
        .filter_map(|p| prefix(p.get("prefix")))
        .collect();
    equal("withdrawn prefixes", &wanted, &got)
}

fn discarded(update: &Update, expect: &Value) -> Outcome {
    let Some(wanted) = expect.get("discarded") else { return Ok(()) };
    let wanted: BTreeSet<_> = array(Some(wanted)).filter_map(|d| d.get("type").and_then(Value::as_u64)).collect();
    let got = update.faults.iter().filter_map(|fault| fault.attribute.map(u64::from)).collect();
    equal("discarded attributes", &wanted, &got)
}

fn compare_open(open: &Open, wanted: &Value) -> Outcome {
    same("version", wanted.get("version"), open.version)?;
    same("two-octet AS", wanted.get("my_as"), open.as2)?;
    same("AS", wanted.get("asn"), open.asn())?;
    same("hold time", wanted.get("hold_time"), open.hold_time)?;
    same("BGP Identifier", wanted.get("bgp_id"), open.router_id.to_string())?;
    let wanted: Vec<_> = array(wanted.get("capabilities")).collect();
    if wanted.len() != open.capabilities.len() {
        return Err(format!("{} capabilities are due, we read {:?}", wanted.len(), open.capabilities));
    }
    wanted.iter().zip(&open.capabilities).try_for_each(|(wanted, got)| compare_capability(got, wanted))
}

fn compare_capability(got: &Capability, wanted: &Value) -> Outcome {
    same("capability", wanted.get("code"), got.code())?;
    if let Capability::Unknown { data, .. } = got {
        return same("capability value", wanted.get("value_hex"), hex(data));
    }
    if wanted.get("malformed").is_some() || wanted.get("ignore").is_some() {
        return Err(format!("{wanted} is to be ignored, we understand {got:?}"));
    }
    let family = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or_default();
    let families: Vec<_> = array(wanted.get("families")).collect();
    match got {
        Capability::Multiprotocol { afi, safi } => {
            same("AFI", wanted.get("afi"), *afi)?;
            same("SAFI", wanted.get("safi"), *safi)
        }
        Capability::ExtendedNextHop(tuples) => {
            let wanted: Vec<_> = array(wanted.get("tuples"))
                .map(|t| (family(t, "afi"), family(t, "safi"), family(t, "nexthop_afi")))
                .collect();
            let got = tuples.iter().map(|(a, s, n)| (u64::from(*a), u64::from(*s), u64::from(*n))).collect();
            equal("extended next hops", &wanted, &got)
        }
        Capability::GracefulRestart { restarted, notification, restart_time, families: got } => {
            let flags = wanted.get("restart_flags").and_then(Value::as_u64).unwrap_or_default();
            equal("restart flags R and N", &(flags & 8 != 0, flags & 4 != 0), &(*restarted, *notification))?;
            same("restart time", wanted.get("restart_time"), *restart_time)?;
            let wanted = families
                .iter()
                .map(|f| (family(f, "afi"), family(f, "safi"), family(f, "flags") & 0x80 != 0))
                .collect::<Vec<_>>();
            let got = got.iter().map(|(a, s, f)| (u64::from(*a), u64::from(*s), *f)).collect();
            equal("graceful restart families", &wanted, &got)
        }
        Capability::LongLivedGracefulRestart(got) => {
            let wanted = families
                .iter()
                .map(|f| {
                    let forwarding = family(f, "flags") & 0x80 != 0;
                    (family(f, "afi"), family(f, "safi"), forwarding, family(f, "stale_time"))
                })
                .collect::<Vec<_>>();
            let got = got.iter().map(|(a, s, f, t)| (u64::from(*a), u64::from(*s), *f, u64::from(*t))).collect();
            equal("long-lived graceful restart families", &wanted, &got)
        }
        _ => {
            let mut out = BytesMut::new();
            let open = Open::new(1, 90, [192, 0, 2, 1].into(), vec![got.clone()]);
            bgp::wire::encode(&Message::Open(open), &Context::default(), &mut out).map_err(|e| e.to_string())?;
            // Header, fixed part, parameter header, the AS number's capability, then code and length.
            same("capability value", wanted.get("value_hex"), hex(out.get(29 + 2 + 6 + 2..).unwrap_or_default()))
        }
    }
}

fn compare_notification(got: &Notification, wanted: &Value) -> Outcome {
    same("code", wanted.get("code"), got.code)?;
    same("subcode", wanted.get("subcode"), got.subcode)?;
    same("data", wanted.get("data"), hex(&got.data))?;
    if let Some(text) = wanted.get("shutdown_communication") {
        equal("shutdown communication", &text.as_str(), &got.shutdown_communication())?;
    }
    if let Some(wanted) = wanted.get("hard_reset").filter(|wanted| !wanted.is_null()) {
        let inner = got.hard_reset().ok_or("no NOTIFICATION in the Hard Reset")?;
        compare_notification(&inner, wanted)?;
    }
    Ok(())
}

fn compare_update(update: &Update, wanted: &Value, expect: &Value, ctx: &Context) -> Outcome {
    let ignored: BTreeSet<_> = array(expect.get("ignore_prefixes")).filter_map(|p| prefix(Some(p))).collect();
    compare_nlri("withdrawn routes", &update.withdrawn, wanted.get("withdrawn"), &BTreeSet::new())?;
    compare_nlri("NLRI", &update.nlri, wanted.get("nlri"), &ignored)?;
    if let Some(eor) = wanted.get("end_of_rib") {
        let number = |key| eor.get(key).and_then(Value::as_u64).unwrap_or_default();
        let family = Family::ALL.into_iter().find(|f| {
            let (afi, safi) = f.afi_safi();
            (u64::from(afi), u64::from(safi)) == (number("afi"), number("safi"))
        });
        equal("End-of-RIB", &family, &update.end_of_rib())?;
    } else if let Some(family) = update.end_of_rib() {
        return Err(format!("we read an End-of-RIB of {family}"));
    }
    let attributes: Vec<_> = array(wanted.get("attributes")).collect();
    let code = |a: &Value| a.get("type").and_then(Value::as_u64).unwrap_or_default();
    for attribute in &attributes {
        compare_attribute(update, code(attribute), attribute, wanted, &ignored)
            .map_err(|why| format!("attribute {}: {why}", code(attribute)))?;
    }
    // AS4_PATH and AS4_AGGREGATOR are merged in, NLRI of other families left out.
    let kept = |a: &Value| (ctx.as4 || !matches!(code(a), 17 | 18)) && !is_of_other_family(update, a);
    let wanted = attributes.iter().filter(|a| kept(a)).map(|a| code(a)).collect();
    equal("attributes", &wanted, &present(update))
}

/// Whether it is MP_REACH_NLRI or MP_UNREACH_NLRI of a family we have set aside.
fn is_of_other_family(update: &Update, attribute: &Value) -> bool {
    let number = |key| attribute.get(key).and_then(Value::as_u64);
    update
        .other_families
        .iter()
        .any(|(afi, safi)| (number("afi"), number("safi")) == (Some(u64::from(*afi)), Some(u64::from(*safi))))
}

/// The type codes of what was read.
fn present(update: &Update) -> BTreeSet<u64> {
    let a = &update.attributes;
    [
        (1, a.origin.is_some()),
        (2, a.as_path.is_some()),
        (3, update.next_hop.is_some()),
        (4, a.med.is_some()),
        (5, a.local_pref.is_some()),
        (6, a.atomic_aggregate),
        (7, a.aggregator.is_some()),
        (8, !a.communities.is_empty()),
        (9, a.originator_id.is_some()),
        (10, !a.cluster_list.is_empty()),
        (14, update.mp_reach.is_some()),
        (15, update.mp_unreach.is_some()),
        (16, !a.extended_communities.is_empty()),
        (32, !a.large_communities.is_empty()),
        (35, a.otc.is_some()),
    ]
    .into_iter()
    .filter(|(_, there)| *there)
    .map(|(code, _)| code)
    .chain(a.unknown.iter().map(|unknown| u64::from(unknown.code)))
    .collect()
}

fn compare_attribute(update: &Update, code: u64, wanted: &Value, whole: &Value, ignored: &BTreeSet<Prefix>) -> Outcome {
    let a = &update.attributes;
    let value = wanted.get("value");
    match code {
        1 => {
            let name = match a.origin {
                Some(Origin::Igp) => "IGP",
                Some(Origin::Egp) => "EGP",
                Some(Origin::Incomplete) => "INCOMPLETE",
                None => "none",
            };
            same("ORIGIN", value, name)
        }
        2 => {
            let segments = whole.get("effective_as_path").or_else(|| wanted.get("segments"));
            let wanted: Vec<_> = array(segments).flat_map(flat).collect();
            let got: Vec<_> = a.as_path.iter().flat_map(|AsPath(s)| s).flat_map(flat_segment).collect();
            equal("AS_PATH", &wanted, &got)
        }
        3 => same("NEXT_HOP", value, update.next_hop.map(|n| n.to_string())),
        4 => same("MED", value, a.med),
        5 => same("LOCAL_PREF", value, a.local_pref),
        7 => {
            let wanted = whole.get("effective_aggregator").unwrap_or(wanted);
            same("AGGREGATOR", wanted.get("asn"), a.aggregator.map(|a| a.asn))?;
            same("AGGREGATOR", wanted.get("address"), a.aggregator.map(|a| a.router_id.to_string()))
        }
        8 => {
            let got = a.communities.iter().map(|c| format!("{}:{}", c >> 16, c & 0xffff));
            same("COMMUNITIES", wanted.get("values"), got.collect::<Vec<_>>())
        }
        9 => same("ORIGINATOR_ID", value, a.originator_id.map(|id| id.to_string())),
        10 => {
            let got: Vec<_> = a.cluster_list.iter().map(ToString::to_string).collect();
            same("CLUSTER_LIST", wanted.get("values"), got)
        }
        14 | 15 if is_of_other_family(update, wanted) => Ok(()),
        14 => {
            let reach = update.mp_reach.as_ref().ok_or("MP_REACH_NLRI was not read")?;
            same("AFI", wanted.get("afi"), reach.family.afi_safi().0)?;
            let got: Vec<IpAddr> = match reach.next_hop {
                NextHop::V4(address) => vec![address.into()],
                NextHop::V6(address) => vec![address.into()],
                NextHop::V6Pair(first, second) => vec![first.into(), second.into()],
            };
            let nlri = wanted.get("nlri");
            let wanted = array(wanted.get("next_hop")).filter_map(|a| a.as_str()?.parse().ok()).collect();
            equal("next hop", &wanted, &got)?;
            compare_nlri("NLRI", &reach.nlri, nlri, ignored)
        }
        15 => {
            let (family, nlri) = update.mp_unreach.as_ref().ok_or("MP_UNREACH_NLRI was not read")?;
            same("AFI", wanted.get("afi"), family.afi_safi().0)?;
            compare_nlri("NLRI", nlri, wanted.get("nlri"), &BTreeSet::new())
        }
        16 => {
            let got: Vec<_> = a.extended_communities.iter().map(|c| format!("{c:016x}")).collect();
            same("EXTENDED_COMMUNITIES", wanted.get("values_hex"), got)
        }
        32 => {
            let got: Vec<_> =
                a.large_communities.iter().map(|c| format!("{}:{}:{}", c.global, c.local1, c.local2)).collect();
            same("LARGE_COMMUNITIES", wanted.get("values_after_dedup").or_else(|| wanted.get("values")), got)
        }
        35 => same("OTC", wanted.get("value_hex"), a.otc.map(|asn| format!("{asn:08x}"))),
        6 | 17 | 18 => Ok(()),
        _ => {
            let unknown = a.unknown.iter().find(|u| u64::from(u.code) == code).ok_or("it was not kept")?;
            if let Some(value) = wanted.get("value_hex") {
                same("value", Some(value), hex(&unknown.value))?;
            }
            let values: String = array(wanted.get("values_hex")).filter_map(Value::as_str).collect();
            if values.is_empty() { Ok(()) } else { equal("values", &values, &hex(&unknown.value)) }
        }
    }
}

/// Segments flattened: the AS numbers of a sequence one by one, a set as a whole, so that adjacent sequences may be joined.
type Flat = (String, BTreeSet<Asn>);

fn flat(segment: &Value) -> Vec<Flat> {
    let name = segment.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let asns = array(segment.get("asns")).filter_map(|n| n.as_u64().and_then(|n| u32::try_from(n).ok()));
    if name.ends_with("SET") {
        vec![(name, asns.collect())]
    } else {
        asns.map(|n| (name.clone(), [n].into())).collect()
    }
}

fn flat_segment(segment: &Segment) -> Vec<Flat> {
    let (name, is_set) = match segment {
        Segment::Sequence(_) => ("AS_SEQUENCE", false),
        Segment::Set(_) => ("AS_SET", true),
        Segment::ConfedSequence(_) => ("AS_CONFED_SEQUENCE", false),
        Segment::ConfedSet(_) => ("AS_CONFED_SET", true),
    };
    let asns = segment.asns().iter().copied();
    if is_set { vec![(name.to_owned(), asns.collect())] } else { asns.map(|n| (name.to_owned(), [n].into())).collect() }
}

/// Prefixes are compared as such: an IPv4-mapped one has several spellings.
fn compare_nlri(what: &str, got: &[Nlri], wanted: Option<&Value>, ignored: &BTreeSet<Prefix>) -> Outcome {
    let wanted: Vec<_> = array(wanted)
        .map(|v| (prefix(v.get("prefix")), v.get("path_id").and_then(Value::as_u64)))
        .filter(|(prefix, _)| prefix.is_none_or(|prefix| !ignored.contains(&prefix)))
        .collect();
    let got: Vec<_> = got.iter().map(|n| (Some(n.prefix), n.path_id.map(u64::from))).collect();
    equal(what, &wanted, &got)
}

fn prefix(value: Option<&Value>) -> Option<Prefix> {
    value?.as_str()?.parse().ok()
}

/// Whether a peer's session that was just established would use none of what is announced.
pub(super) fn unused(outcome: &message::Outcome, session: &Value, ctx: &Context) -> Outcome {
    let message::Outcome::Accept(Message::Update(update)) = outcome else { return Ok(()) };
    let number = |key| session.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let peer_asn = update.attributes.as_path.as_ref().and_then(AsPath::neighbor);
    let peer_asn = number("expected_peer_as").or(peer_asn).unwrap_or(65001);
    let id = session.get("local_bgp_id").and_then(Value::as_str).and_then(|id| id.parse().ok());
    let role = number("local_role").and_then(|role| Role::from_code(u8::try_from(role).ok()?));
    let import = ImportContext {
        role,
        own_addresses: session.get("local_address").and_then(|a| a.as_str()?.parse().ok()).into_iter().collect(),
        ..ImportContext::new(
            ctx.peer,
            number("local_as").unwrap_or(64999),
            peer_asn,
            id.unwrap_or([192, 0, 2, 254].into()),
            ctx.families,
        )
    };
    let mut routes = AdjIn::new(import);
    let _ = routes.update(update);
    match routes.iter().next() {
        Some((nlri, ..)) => Err(format!("{} is not to be used, we use it", nlri.prefix)),
        None => Ok(()),
    }
}

fn array(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn same(what: &str, wanted: Option<&Value>, got: impl Into<Value>) -> Outcome {
    equal(what, wanted.unwrap_or(&Value::Null), &got.into())
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, got: &T) -> Outcome {
    if wanted == got { Ok(()) } else { Err(format!("{what}: {wanted:?} is due, we read {got:?}")) }
}
