//! `[[bgp.listen_ranges]]`: neighbours that are not configured one by one.

use bgp::speaker::{ListenRange as Range, PeerAddress};
use ipnet::IpNet;

use super::Neighbors;
use crate::config::model::{ListenRange, Neighbor};
use crate::config::options::Options;
use crate::config::read::{At, Value};

/// How many neighbours a range has room for unless told otherwise.
const DEFAULT_LIMIT: u32 = 100;

/// Reads the ranges, and compares them with each other and with the neighbours.
pub(super) fn read(reader: &mut Neighbors<'_, '_>, values: &[Value<'_>], neighbors: &[Neighbor]) -> Vec<ListenRange> {
    let mut ranges: Vec<At<ListenRange>> = Vec::new();
    for value in values {
        let Some(range) = one(reader, value) else { continue };
        let prefix = range.value.range.prefix;
        if ranges.iter().any(|other| other.value.range.prefix == prefix) {
            reader.doc.error(&range.span, format!("there is a listen range {prefix} already"));
        } else {
            ranges.push(range);
        }
    }
    for range in &ranges {
        check_passwords(reader, range, &ranges, neighbors);
    }
    ranges.into_iter().map(|range| range.value).collect()
}

fn one(reader: &Neighbors<'_, '_>, value: &Value<'_>) -> Option<At<ListenRange>> {
    let doc = reader.doc;
    let mut table = value.table(doc)?;
    "bgp.listen_ranges".clone_into(&mut table.path);
    let given = table.get("prefix");
    if given.is_none() {
        doc.error_hint(&table.span, "the listen range has no 'prefix'", "prefix = \"10.0.0.0/24\"");
    }
    let prefix = given.and_then(|v| crate::config::sections::prefix(&v, doc));
    let limit = table.get("limit").and_then(|v| v.integer(doc, 1..=10_000, "a number of neighbours"));
    let peer_group = table.get("peer_group").and_then(|v| v.string(doc));
    let own = Options::read(&mut table, doc, reader.allow_hold_time_zero);
    let span = table.span.clone();
    table.finish(doc);
    let options = reader.with_group(own, peer_group.as_ref(), &span, "listen range");
    let prefix = prefix?;
    if matches!(prefix.value, IpNet::V6(v6) if v6.addr().is_unicast_link_local()) {
        let hint = "interface = \"eth0\" in [[bgp.neighbors]] finds whoever is on a link";
        doc.error_hint(&prefix.span, "a listen range cannot hold link-local addresses", hint);
        return None;
    }
    let address = PeerAddress::Numbered(prefix.value.addr());
    options.check(doc, &address, reader.asn);
    if let Some(bfd) = options.bfd.as_ref().filter(|at| at.value.is_some()) {
        let message = "'bfd' does not watch the neighbours of a listen range";
        doc.warn_hint(&bfd.span, message, "configure those that need it by themselves");
    }
    let mut neighbor = reader.resolve(&options, address, peer_group);
    // What is not watched is not waited for.
    neighbor.peer.wait_for_bfd = false;
    let limit = limit.map_or(DEFAULT_LIMIT, |at| at.value);
    let range = Range { prefix: prefix.value, limit, template: neighbor.peer };
    let value = ListenRange { range, peer_group: neighbor.peer_group, password_file: neighbor.password_file };
    Some(At { value, span: prefix.span })
}

/// The kernel asks everybody in a prefix with a password for one, and knows no exceptions.
fn check_passwords(
    reader: &Neighbors<'_, '_>,
    range: &At<ListenRange>,
    ranges: &[At<ListenRange>],
    neighbors: &[Neighbor],
) {
    let has_password = |range: &ListenRange| range.range.template.password.is_some() || range.password_file.is_some();
    if !has_password(&range.value) {
        return;
    }
    let prefix = range.value.range.prefix;
    let inner = ranges.iter().find(|other| {
        prefix != other.value.range.prefix && prefix.contains(&other.value.range.prefix) && !has_password(&other.value)
    });
    let neighbor = neighbors.iter().find(|n| {
        matches!(&n.peer.address, PeerAddress::Numbered(address) if prefix.contains(address))
            && n.peer.password.is_none()
            && n.password_file.is_none()
    });
    let inner = inner.map(|range| format!("listen range {}", range.value.range.prefix));
    for without in inner.into_iter().chain(neighbor.map(|n| format!("neighbour {}", n.peer.address))) {
        let message =
            format!("{without} has no password but lies within {prefix}, which has one: the kernel would ask for it");
        reader.doc.error_hint(&range.span, message, "give it a password of its own, or the range a narrower prefix");
    }
}
