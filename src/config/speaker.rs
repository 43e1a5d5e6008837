//! `[bgp]`, its peer groups and neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bgp::policy::{ExportRule, PrefixList};
use bgp::speaker::{BGP_PORT, GracefulRestart, PeerAddress, PeerConfig, RemoteAs, SpeakerConfig};
use bgp::types::Asn;
use ipnet::IpNet;

use super::model::{BfdProfile, Bgp, Neighbor, NeighborBfd};
use super::options::{self, Key, Options};
use super::read::{At, Doc, Span, Table, Value};

mod ranges;

/// What a fabric takes to look elsewhere, with room to spare.
const DRAIN_WAIT: Duration = Duration::from_secs(2);

/// What neighbours may refer to.
pub(super) struct Defined<'a> {
    pub(super) prefix_lists: &'a BTreeMap<String, Arc<PrefixList>>,
    pub(super) bfd_profiles: &'a BTreeMap<String, BfdProfile>,
    /// `[advertise] prefixes`: the router identifier may come from there.
    pub(super) prefixes: &'a [IpNet],
}

/// Reads `[bgp]`.
pub(super) fn read(table: &mut Table<'_>, doc: &Doc<'_>, defined: &Defined<'_>) -> Option<Bgp> {
    let asn = required_asn(table, doc);
    let router_id = router_id(table, doc, defined.prefixes);
    let listen = listen(table, doc);
    let port = table.get("port").and_then(|v| options::port(&v, doc)).map_or(BGP_PORT, |p| p.value);
    let ebgp_requires_policy = flag(table, doc, "ebgp_requires_policy");
    let allow_hold_time_zero = flag(table, doc, "allow_hold_time_zero");
    let graceful_restart = graceful_restart(table, doc);
    let drain_wait = table.get("drain_wait").and_then(|v| v.duration(doc)).map_or(DRAIN_WAIT, |at| at.value);
    let groups = peer_groups(table, doc, allow_hold_time_zero);
    let neighbors = table.get("neighbors").and_then(|v| v.array(doc)).unwrap_or_default();
    let mut reader = Neighbors {
        doc,
        defined,
        groups: &groups,
        asn: asn.unwrap_or(1),
        port,
        allow_hold_time_zero,
        seen: BTreeSet::new(),
    };
    let neighbors: Vec<Neighbor> = neighbors.iter().filter_map(|value| reader.read(value)).collect();
    let ranges = table.get("listen_ranges").and_then(|v| v.array(doc)).unwrap_or_default();
    let listen_ranges = ranges::read(&mut reader, &ranges, &neighbors);
    if listen.is_empty() && !listen_ranges.is_empty() {
        doc.error(&table.key_span("listen_ranges"), "'listen_ranges' with listen = []: nobody can dial");
    }
    if ebgp_requires_policy {
        warn_without_policy(table, doc, &neighbors);
    }
    let speaker = SpeakerConfig {
        allow_hold_time_zero,
        ebgp_requires_policy,
        graceful_restart,
        ..SpeakerConfig::new(asn?, router_id?)
    };
    Some(Bgp { speaker, listen, port, drain_wait, neighbors, listen_ranges })
}

fn flag(table: &mut Table<'_>, doc: &Doc<'_>, key: &'static str) -> bool {
    table.get(key).and_then(|v| v.bool(doc)).is_some_and(|at| at.value)
}

fn required_asn(table: &mut Table<'_>, doc: &Doc<'_>) -> Option<Asn> {
    let Some(value) = table.get("asn") else {
        doc.error_hint(&table.span, "'asn' is missing in [bgp]", "our AS number, for example asn = 64999");
        return None;
    };
    options::asn(&value, doc).map(|at| at.value)
}

fn router_id(table: &mut Table<'_>, doc: &Doc<'_>, prefixes: &[IpNet]) -> Option<Ipv4Addr> {
    if let Some(value) = table.get("router_id") {
        let id: At<Ipv4Addr> = value.parse(doc, "an IPv4 address, which is how a BGP identifier is written")?;
        if id.value.is_unspecified() {
            doc.error(&id.span, "'router_id' is 0.0.0.0, which no neighbour accepts (RFC 6286)");
            return None;
        }
        return Some(id.value);
    }
    let first = prefixes.iter().find_map(|prefix| match prefix {
        IpNet::V4(v4) if !v4.addr().is_unspecified() => Some(v4.addr()),
        _ => None,
    });
    if first.is_none() {
        let message = "'router_id' is missing in [bgp], and [advertise] prefixes has no IPv4 address to take its place";
        doc.error_hint(&table.span, message, "router_id = an IPv4 address of this host that no other host has");
    }
    first
}

fn listen(table: &mut Table<'_>, doc: &Doc<'_>) -> Vec<IpAddr> {
    let Some(value) = table.get("listen") else {
        return vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    };
    let mut listen: Vec<IpAddr> = Vec::new();
    for address in value.list(doc, |item| item.parse::<IpAddr>(doc, "an IP address")).unwrap_or_default() {
        if listen.contains(&address.value) {
            doc.error(&address.span, format!("'listen' has {} twice", address.value));
            continue;
        }
        if let Some(all) = listen.iter().find(|l| l.is_unspecified() && l.is_ipv4() == address.value.is_ipv4()) {
            doc.error(&address.span, format!("'listen' has {all} already, which includes {}", address.value));
        }
        listen.push(address.value);
    }
    listen
}

/// `graceful_restart = { enabled = true, restart_time = "120s" }`.
fn graceful_restart(table: &mut Table<'_>, doc: &Doc<'_>) -> Option<GracefulRestart> {
    let mut settings = GracefulRestart::default();
    let Some(mut inner) = table.table(doc, "graceful_restart") else {
        return Some(settings);
    };
    let enabled = inner.get("enabled").and_then(|v| v.bool(doc)).is_none_or(|at| at.value);
    if let Some(time) = inner.get("restart_time").and_then(|v| v.duration(doc)) {
        // RFC 4724 §3: the field has 12 bits.
        if time.value.as_secs() > 4095 || time.value.subsec_nanos() != 0 {
            doc.error(&time.span, "'restart_time' is whole seconds, from \"0s\" to \"4095s\"");
        }
        settings.restart_time = time.value;
    }
    if let Some(time) = inner.get("long_lived").and_then(|v| v.duration(doc)) {
        // RFC 9494 §3.1: the field has 24 bits.
        if time.value.as_secs() > 0x00ff_ffff || time.value.subsec_nanos() != 0 {
            doc.error(&time.span, "'long_lived' is whole seconds, from \"0s\" to \"4660h\"");
        }
        settings.long_lived = time.value;
    }
    inner.finish(doc);
    enabled.then_some(settings)
}

fn peer_groups(table: &mut Table<'_>, doc: &Doc<'_>, allow_hold_time_zero: bool) -> BTreeMap<String, Options> {
    let Some(groups) = table.table(doc, "peer_groups") else {
        return BTreeMap::new();
    };
    let read = |(name, value): (At<String>, Value<'_>)| {
        let mut group = value.table(doc)?;
        let options = Options::read(&mut group, doc, allow_hold_time_zero);
        group.finish(doc);
        Some((name.value, options))
    };
    groups.entries().filter_map(read).collect()
}

/// RFC 8212: an external neighbour without a list neither gives nor gets.
fn warn_without_policy(table: &Table<'_>, doc: &Doc<'_>, neighbors: &[Neighbor]) {
    for neighbor in neighbors.iter().filter(|n| n.peer.remote_as != RemoteAs::Internal) {
        let missing = match (&neighbor.peer.prefix_list_in, &neighbor.peer.prefix_list_out) {
            (Some(_), Some(_)) => continue,
            (None, Some(_)) => "prefix_list_in: nothing it says will be accepted",
            (Some(_), None) => "prefix_list_out: it will be told nothing",
            (None, None) => "prefix_list_in and prefix_list_out: nothing will be exchanged with it",
        };
        let message = format!("with ebgp_requires_policy, neighbour {} lacks {missing}", neighbor.peer.address);
        doc.warn_hint(
            &table.key_span("ebgp_requires_policy"),
            message,
            "name a list of [prefix_lists], or set it to false",
        );
    }
}

/// Reads `[[bgp.neighbors]]` one by one.
struct Neighbors<'a, 'd> {
    doc: &'a Doc<'d>,
    defined: &'a Defined<'a>,
    groups: &'a BTreeMap<String, Options>,
    asn: Asn,
    port: u16,
    allow_hold_time_zero: bool,
    /// Addresses seen so far.
    seen: BTreeSet<PeerAddress>,
}

impl Neighbors<'_, '_> {
    fn read(&mut self, value: &Value<'_>) -> Option<Neighbor> {
        let doc = self.doc;
        let mut table = value.table(doc)?;
        "bgp.neighbors".clone_into(&mut table.path);
        let address = address(&mut table, doc);
        let peer_group = table.get("peer_group").and_then(|v| v.string(doc));
        let own = Options::read(&mut table, doc, self.allow_hold_time_zero);
        let span = table.span.clone();
        table.finish(doc);
        let options = self.with_group(own, peer_group.as_ref(), &span, "neighbour");
        let address = address?;
        if !self.seen.insert(address.value.clone()) {
            doc.error(&address.span, format!("there is a neighbour {} already", address.value));
        }
        options.check(doc, &address.value, self.asn);
        Some(self.resolve(&options, address.value, peer_group))
    }

    /// The options with those of the group.
    fn with_group(&self, own: Options, peer_group: Option<&At<String>>, span: &Span, whose: &str) -> Options {
        let doc = self.doc;
        let group = peer_group.and_then(|name| {
            let group = self.groups.get(&name.value);
            if group.is_none() {
                let defined = self.groups.keys().map(String::as_str);
                doc.undefined(name, "peer group", "bgp.peer_groups", defined);
            }
            group
        });
        let group_missing = peer_group.is_some() && group.is_none();
        let options = match group {
            Some(group) => own.or(group),
            None => own,
        };
        if options.remote_as.is_none() && !group_missing {
            let hint = "remote_as = \"internal\", \"external\", \"auto\" or a number, here or in its peer group";
            doc.error_hint(span, format!("the {whose} has no 'remote_as'"), hint);
        }
        options
    }

    fn resolve(&self, options: &Options, address: PeerAddress, peer_group: Option<At<String>>) -> Neighbor {
        let doc = self.doc;
        let list = |name: Option<&At<String>>| {
            let name = name?;
            let list = self.defined.prefix_lists.get(&name.value);
            if list.is_none() {
                doc.undefined(
                    name,
                    "prefix list",
                    "prefix_lists",
                    self.defined.prefix_lists.keys().map(String::as_str),
                );
            }
            list.cloned()
        };
        let bfd = options.bfd.as_ref().and_then(|at| {
            let profile = at.value.clone()?;
            if !self.defined.bfd_profiles.contains_key(&profile) {
                let name = At { value: profile.clone(), span: at.span.clone() };
                let defined = self.defined.bfd_profiles.keys().map(String::as_str);
                doc.undefined(&name, "BFD profile", "bfd.profiles", defined);
            }
            if options.ebgp_multihop.as_ref().and_then(|hops| hops.value).is_some_and(|hops| hops > 1) {
                let message =
                    "'bfd' watches the next hop only, and 'ebgp_multihop' says that the neighbour may be further away";
                doc.warn_hint(&at.span, message, "multihop BFD (RFC 5883) is not done: leave one of them out");
            }
            let flag = |at: &Option<At<bool>>| at.as_ref().is_some_and(|at| at.value);
            Some(NeighborBfd { profile, strict: flag(&options.bfd_strict), graceful: flag(&options.bfd_graceful) })
        });
        let mut peer: PeerConfig = options.peer_config(address);
        peer.wait_for_bfd = bfd.as_ref().is_some_and(|bfd| bfd.strict);
        peer.prefix_list_in = list(options.prefix_list_in.as_ref());
        peer.prefix_list_out = list(options.prefix_list_out.as_ref());
        for export in options.export.iter().flat_map(|export| &export.value) {
            peer.export_rules.push(ExportRule { prefixes: list(export.prefix_list.as_ref()), set: export.set.clone() });
        }
        if options.port.is_none() {
            peer.port = self.port;
        }
        Neighbor {
            peer,
            peer_group: peer_group.map(|g| g.value),
            password_file: options.key.as_ref().and_then(|key| match &key.value {
                Key::File(path) => Some(path.clone()),
                Key::Inline(_) => None,
            }),
            bfd,
        }
    }
}

/// `address` or `interface`.
fn address(table: &mut Table<'_>, doc: &Doc<'_>) -> Option<At<PeerAddress>> {
    let address = table.get("address");
    let interface = table.get("interface");
    match (address, interface) {
        (Some(_), Some(interface)) => {
            let hint =
                "an interface alone discovers its neighbour; a fixed link-local one is address = \"fe80::1%eth0\"";
            doc.error_hint(&interface.span, "the neighbour has both 'address' and 'interface'", hint);
            None
        }
        (None, None) => {
            let hint = "address = \"10.0.0.1\", or interface = \"eth0\" for a neighbour without a number";
            doc.error_hint(&table.span, "the neighbour has neither 'address' nor 'interface'", hint);
            None
        }
        (None, Some(value)) => {
            options::interface(&value, doc).map(|at| At { value: PeerAddress::Interface(at.value), span: at.span })
        }
        (Some(value), None) => peer_address(&value, doc),
    }
}

fn peer_address(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<PeerAddress>> {
    let text = value.string(doc)?;
    let (address, zone) = match text.value.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text.value.as_str(), None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        let hint = "such as \"10.0.0.1\", \"2001:db8::1\" or \"fe80::1%eth0\"; names are not looked up";
        doc.error_hint(&text.span, format!("'{}' is not an IP address", text.value), hint);
        return None;
    };
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let bad =
        address.is_unspecified() || address.is_multicast() || matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    match (address, zone) {
        _ if bad => doc.error(&text.span, format!("'{address}' cannot be the address of a neighbour")),
        (_, None) if link_local => {
            let hint = format!("\"{address}%eth0\", or interface = \"eth0\" alone");
            doc.error_hint(&text.span, "a link-local address means nothing without its interface", hint);
        }
        (_, Some(_)) if !link_local => {
            doc.error(&text.span, format!("'{address}' is not link-local and takes no interface"));
        }
        (_, Some("")) => doc.error(&text.span, "the interface after '%' is missing"),
        (IpAddr::V6(v6), Some(zone)) => return Some(value.at(PeerAddress::LinkLocal(v6, zone.to_owned()))),
        (address, _) => return Some(value.at(PeerAddress::Numbered(address))),
    }
    None
}
