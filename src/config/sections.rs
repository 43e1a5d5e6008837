//! Every table but `[bgp]`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bgp::bfd::AuthKind;
use bgp::policy::PrefixList;
use ipnet::IpNet;

use super::model::{Advertise, Api, BfdAuthentication, BfdKey, BfdProfile, Config, Fib, Monitor, Ovn, Tls, Wiring};
use super::options;
use super::read::{At, Doc, Table, Value};
use super::speaker::{self, Defined};
use crate::desired::{Rules, TenantAdvertisement};
use crate::ovsdb::remote::Remote;

/// Reads the whole file. Neighbours refer to lists and profiles, so those come first.
pub(super) fn root(root: &mut Table<'_>, doc: &Doc<'_>, file: &Path) -> Option<Config> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let prefix_lists = section(root, doc, "prefix_lists", |t| prefix_lists(t, doc)).unwrap_or_default();
    let bfd_profiles = section(root, doc, "bfd", |t| bfd_profiles(t, doc, directory)).unwrap_or_default();
    let advertise = section(root, doc, "advertise", |t| advertise(t, doc, directory)).unwrap_or_default();
    let defined = Defined { prefix_lists: &prefix_lists, bfd_profiles: &bfd_profiles, prefixes: &advertise.prefixes };
    let bgp = section(root, doc, "bgp", |t| speaker::read(t, doc, &defined));
    if bgp.is_none() {
        doc.error_hint(&(0..0), "there is no [bgp] table", "it holds our AS number and the neighbours");
    }
    let fib = section(root, doc, "fib", |t| fib(t, doc, &prefix_lists)).unwrap_or_default();
    let ovn = section(root, doc, "ovn", |t| ovn(t, doc, directory));
    let wiring = section(root, doc, "wiring", |t| wiring(t, doc)).unwrap_or_default();
    let api = section(root, doc, "api", |t| api(t, doc)).unwrap_or_default();
    let mut bgp = bgp??;
    bgp.speaker.max_paths = fib.max_paths;
    for neighbor in &mut bgp.neighbors {
        neighbor.password_file = neighbor.password_file.take().map(|path| directory.join(path));
    }
    for range in &mut bgp.listen_ranges {
        range.password_file = range.password_file.take().map(|path| directory.join(path));
    }
    let file = file.to_owned();
    Some(Config { file, bgp, bfd_profiles, prefix_lists, advertise, fib, ovn, wiring, api })
}

/// Reads a table of the file, if it is there, and complains of what is left in it.
fn section<T>(
    root: &mut Table<'_>,
    doc: &Doc<'_>,
    name: &'static str,
    read: impl FnOnce(&mut Table<'_>) -> T,
) -> Option<T> {
    let mut table = root.table(doc, name)?;
    let value = read(&mut table);
    // The keys of [prefix_lists] are the operator's own.
    if name != "prefix_lists" {
        table.finish(doc);
    }
    Some(value)
}

fn prefix_lists(table: &mut Table<'_>, doc: &Doc<'_>) -> BTreeMap<String, Arc<PrefixList>> {
    let read = |(name, value): (At<String>, Value<'_>)| {
        let rules = value.list(doc, |item| item.string(doc))?;
        if rules.is_empty() {
            let hint = "write \"deny any\" if that is meant";
            doc.warn_hint(&value.span, format!("prefix list '{}' is empty: it denies everything", name.value), hint);
        }
        match PrefixList::parse(&name.value, rules.iter().map(|r| r.value.as_str())) {
            Ok(list) => Some((name.value, Arc::new(list))),
            Err(error) => {
                let rule = rules.get(error.index);
                // The rule begins after the quotation mark; its own column counts from 1.
                let mut span = options::span_of(rule, &value.span);
                span.start += error.error.column;
                doc.error(&span, error.error.reason);
                // An empty stand-in keeps references to it from being called undefined as well.
                Some((name.value, Arc::default()))
            }
        }
    };
    table.entries().filter_map(read).collect()
}

fn bfd_profiles(table: &mut Table<'_>, doc: &Doc<'_>, directory: &Path) -> BTreeMap<String, BfdProfile> {
    let Some(profiles) = table.table(doc, "profiles") else {
        return BTreeMap::new();
    };
    let read = |(name, value): (At<String>, Value<'_>)| {
        let mut table = value.table(doc)?;
        let mut profile = BfdProfile::default();
        let session = &mut profile.session;
        for (key, field) in
            [("transmit_interval", &mut session.transmit_interval), ("receive_interval", &mut session.receive_interval)]
        {
            if let Some(interval) = table.get(key).and_then(|v| bfd_interval(&v, doc)) {
                *field = interval;
            }
        }
        let multiplier = table.get("detect_multiplier").and_then(|v| v.integer(doc, 1..=255, "a number of packets"));
        if let Some(multiplier) = multiplier {
            session.detect_multiplier = multiplier.value;
        }
        session.passive = table.get("passive").and_then(|v| v.bool(doc)).is_some_and(|at| at.value);
        profile.damping = table.get("damping").and_then(|v| v.bool(doc)).is_none_or(|at| at.value);
        if let Some(mut table) = table.table(doc, "authentication") {
            profile.authentication = bfd_authentication(&mut table, doc, directory);
            table.finish(doc);
        }
        table.finish(doc);
        Some((name.value, profile))
    };
    profiles.entries().filter_map(read).collect()
}

fn bfd_authentication(table: &mut Table<'_>, doc: &Doc<'_>, directory: &Path) -> Option<BfdAuthentication> {
    let kinds = [
        AuthKind::SimplePassword,
        AuthKind::KeyedMd5,
        AuthKind::MeticulousKeyedMd5,
        AuthKind::KeyedSha1,
        AuthKind::MeticulousKeyedSha1,
    ];
    let names = kinds.map(|kind| (kind.to_string(), kind));
    let words: Vec<(&str, AuthKind)> = names.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    let (kind, keys) = (table.get("type"), table.get("keys"));
    if kind.is_none() || keys.is_none() {
        let hint = "type = \"meticulous-sha1\", keys = [{ id = 1, password_file = \"…\" }]";
        doc.error_hint(&table.span, "'authentication' needs 'type' and 'keys'", hint);
    }
    // After a complaint a stand-in lets the rest be looked at as well.
    let kind = kind.and_then(|v| v.word(doc, &words)).map_or(AuthKind::MeticulousKeyedSha1, |at| at.value);
    let keys = keys?;
    let items = keys.array(doc)?;
    let mut found: Vec<BfdKey> = Vec::new();
    for item in &items {
        let mut table = item.table(doc)?;
        let id = table.get("id").and_then(|v| v.integer(doc, 0..=255, "an Auth Key ID"));
        let (password, file) = (table.get("password"), table.get("password_file"));
        let secret = options::key(password.as_ref(), file.as_ref(), doc);
        let span = table.span.clone();
        table.finish(doc);
        let (Some(id), Some(secret)) = (id, secret) else {
            if password.is_none() && file.is_none() {
                doc.error_hint(&span, "a key without a password", "password or password_file");
            }
            continue;
        };
        if found.iter().any(|key| key.id == id.value) {
            doc.error(&id.span, format!("there are two keys with id {}", id.value));
        }
        let (password, password_file) = match secret.value {
            options::Key::Inline(secret) => (Some(secret), None),
            options::Key::File(path) => (None, Some(directory.join(path))),
        };
        if password.as_ref().is_some_and(|secret| secret.reveal().len() > kind.longest_key()) {
            doc.error(
                &secret.span,
                format!("'password' is longer than {} octets, the most {kind} takes", kind.longest_key()),
            );
        }
        found.push(BfdKey { id: id.value, password, password_file });
    }
    if items.is_empty() {
        doc.error(&keys.span, "'keys' is empty: nobody could sign");
    }
    Some(BfdAuthentication { kind, keys: found })
}

fn bfd_interval(value: &Value<'_>, doc: &Doc<'_>) -> Option<Duration> {
    let interval = options::at_least(value, doc, Duration::from_millis(10))?;
    if interval.value > Duration::from_mins(1) {
        doc.error(&interval.span, format!("'{}' is longer than a minute", value.key()));
        return None;
    }
    if interval.value < Duration::from_millis(50) {
        let message = format!("'{}' is below 50 ms: a busy host may miss it", value.key());
        doc.warn_hint(&interval.span, message, "raise it, or raise detect_multiplier");
    }
    Some(interval.value)
}

fn advertise(table: &mut Table<'_>, doc: &Doc<'_>, directory: &Path) -> Advertise {
    let mut prefixes: Vec<IpNet> = Vec::new();
    let given = table.get("prefixes").and_then(|v| v.list(doc, |item| prefix(item, doc))).unwrap_or_default();
    for given in given {
        if prefixes.contains(&given.value) {
            doc.warn_hint(&given.span, format!("{} is there twice", given.value), "remove one");
        } else {
            prefixes.push(given.value);
        }
    }
    let files = table.get("files").and_then(|v| v.list(doc, |item| pattern(item, doc))).unwrap_or_default();
    let interfaces =
        table.get("interfaces").and_then(|v| v.list(doc, |item| options::interface(item, doc))).unwrap_or_default();
    Advertise {
        prefixes,
        files: files.into_iter().map(|path| directory.join(path)).collect(),
        from_files: Arc::default(),
        interfaces: interfaces.into_iter().map(|i| i.value).collect(),
    }
}

/// A prefix without host bits.
pub(super) fn prefix(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<IpNet>> {
    let text = value.string(doc)?;
    match super::files::parse_prefix(&text.value) {
        Ok(prefix) => Some(value.at(prefix)),
        Err((message, Some(hint))) => {
            doc.error_hint(&text.span, message, hint);
            None
        }
        Err((message, None)) => {
            doc.error(&text.span, message);
            None
        }
    }
}

/// A path whose last part may have `*` and `?`.
fn pattern(value: &Value<'_>, doc: &Doc<'_>) -> Option<PathBuf> {
    let text = value.string(doc)?;
    let path = PathBuf::from(&text.value);
    let wild = |text: &str| text.contains(['*', '?']);
    let directory = path.parent().and_then(Path::to_str).unwrap_or("");
    if wild(directory) {
        let message = format!("'{}' has a wildcard in a directory", text.value);
        doc.error_hint(&text.span, message, "'*' and '?' work in the name of the file only");
        return None;
    }
    if path.file_name().is_none() {
        doc.error_hint(
            &text.span,
            format!("'{}' does not name files", text.value),
            "such as \"/etc/ovn-bgpd/prefixes.d/*.txt\"",
        );
        return None;
    }
    Some(path)
}

fn fib(table: &mut Table<'_>, doc: &Doc<'_>, lists: &BTreeMap<String, Arc<PrefixList>>) -> Fib {
    let mut fib = Fib::default();
    if let Some(name) = table.get("install").and_then(|v| v.string(doc)) {
        fib.install = lists.get(&name.value).cloned();
        if fib.install.is_none() {
            doc.undefined(&name, "prefix list", "prefix_lists", lists.keys().map(String::as_str));
        }
    }
    let number = |value: Option<Value<'_>>, low: i128, what: &str| {
        value.and_then(|v| v.integer::<u32>(doc, low..=i128::from(u32::MAX), what)).map(|at| at.value)
    };
    fib.table = number(table.get("table"), 1, "a routing table").unwrap_or(fib.table);
    if matches!(fib.table, 253 | 255) {
        let message = format!("table {} belongs to the kernel", fib.table);
        doc.error_hint(&table.key_span("table"), message, "254 is the main table");
    }
    fib.metric = number(table.get("metric"), 0, "a metric").unwrap_or(fib.metric);
    fib.source_ipv4 =
        table.get("source_ipv4").and_then(|v| v.parse::<Ipv4Addr>(doc, "an IPv4 address")).map(|at| at.value);
    fib.source_ipv6 =
        table.get("source_ipv6").and_then(|v| v.parse::<Ipv6Addr>(doc, "an IPv6 address")).map(|at| at.value);
    let paths = table.get("max_paths").and_then(|v| v.integer(doc, 1..=256, "a number of next hops"));
    fib.max_paths = paths.map_or(fib.max_paths, |at| at.value);
    fib
}

fn ovn(table: &mut Table<'_>, doc: &Doc<'_>, directory: &Path) -> Ovn {
    let nb = table.get("nb").and_then(|v| remotes(&v, doc)).unwrap_or_default();
    let tls = table.table(doc, "tls").and_then(|t| tls(t, doc, directory));
    if tls.is_none() && nb.iter().any(|remote| remote.starts_with("ssl:")) {
        let hint = "tls = { key = \"…\", certificate = \"…\", ca = \"…\" } in [ovn]";
        doc.error_hint(&table.key_span("nb"), "an ssl: remote needs a key, a certificate and a CA", hint);
    }
    let ovs = table.get("ovs").and_then(|v| remotes(&v, doc)).unwrap_or_default();
    if ovs.len() > 1 {
        doc.error(&table.key_span("ovs"), "'ovs' is one remote: the local database");
    }
    let (hostname, system_id) = table.get("chassis").map_or((None, None), |v| chassis(&v, doc));
    let words = [("host", TenantAdvertisement::Host), ("subnet", TenantAdvertisement::Subnet)];
    let tenant_advertisement = table.get("tenant_advertisement").and_then(|v| v.word(doc, &words));
    let words = [("all", Monitor::All), ("conditional", Monitor::Conditional)];
    let monitor = table.get("monitor").and_then(|v| v.word(doc, &words));
    let mut flag = |key| table.get(key).and_then(|v| v.bool(doc)).is_some_and(|at| at.value);
    let expose_tenant_networks = flag("expose_tenant_networks");
    let expose_ipv6_gua_tenant_networks = flag("expose_ipv6_gua_tenant_networks");
    let require_snat_disabled_for_tenant_networks = flag("require_snat_disabled_for_tenant_networks");
    if expose_tenant_networks && expose_ipv6_gua_tenant_networks {
        let message = "'expose_ipv6_gua_tenant_networks' has no effect: expose_tenant_networks exposes all of them";
        doc.warn_hint(&table.key_span("expose_ipv6_gua_tenant_networks"), message, "set one of the two");
    }
    let address_scopes =
        table.get("address_scopes").and_then(|v| v.list(doc, |item| item.string(doc))).unwrap_or_default();
    Ovn {
        nb,
        ovs: ovs.into_iter().next().unwrap_or_else(|| "unix:/run/openvswitch/db.sock".to_owned()),
        tls,
        hostname,
        system_id,
        expose_tenant_networks,
        expose_ipv6_gua_tenant_networks,
        tenant_advertisement: tenant_advertisement.map(|at| at.value).unwrap_or_default(),
        require_snat_disabled_for_tenant_networks,
        address_scopes: address_scopes.into_iter().map(|s| s.value).collect(),
        monitor: monitor.map(|at| at.value).unwrap_or_default(),
    }
}

/// `tcp:`, `ssl:` and `unix:` remotes, separated by commas.
fn remotes(value: &Value<'_>, doc: &Doc<'_>) -> Option<Vec<String>> {
    let text = value.string(doc)?;
    match Remote::parse(&text.value) {
        Ok(remotes) => Some(remotes.iter().map(ToString::to_string).collect()),
        Err(error) => {
            doc.error(&text.span, error.to_string());
            None
        }
    }
}

fn tls(mut table: Table<'_>, doc: &Doc<'_>, directory: &Path) -> Option<Tls> {
    let mut path = |key| {
        let value = table.get(key);
        if value.is_none() {
            doc.error(&table.span, format!("'tls' lacks '{key}'"));
        }
        value.and_then(|v| v.string(doc)).map(|path| directory.join(path.value))
    };
    let (key, certificate, ca) = (path("key"), path("certificate"), path("ca"));
    table.finish(doc);
    Some(Tls { key: key?, certificate: certificate?, ca: ca? })
}

/// `"auto"`, or `{ hostname = "…", system_id = "…" }` with at least one of the two.
fn chassis(value: &Value<'_>, doc: &Doc<'_>) -> (Option<String>, Option<String>) {
    if !value.is_table() {
        value.word(doc, &[("auto", ())]);
        return (None, None);
    }
    let Some(mut table) = value.table(doc) else { return (None, None) };
    let mut name = |key| table.get(key).and_then(|v| v.string(doc)).map(|at| at.value);
    let names = (name("hostname"), name("system_id"));
    let span = table.span.clone();
    table.finish(doc);
    if names == (None, None) {
        doc.error_hint(&span, "'chassis' names nobody", "\"auto\", or { hostname = \"…\", system_id = \"…\" }");
    }
    names
}

fn wiring(table: &mut Table<'_>, doc: &Doc<'_>) -> Wiring {
    let mut wiring = Wiring::default();
    let rules = [("per-prefix", Rules::PerPrefix), ("per-table", Rules::PerTable)];
    if let Some(rules) = table.get("rules").and_then(|v| v.word(doc, &rules)) {
        wiring.rules = rules.value;
    }
    // Below 1 is the local table, from 32766 on main and default: our rules would never be asked.
    if let Some(at) =
        table.get("rule_priority").and_then(|v| v.integer(doc, 1..=32765, "a priority before the main table"))
    {
        wiring.rule_priority = at.value;
    }
    if let Some(at) = table.get("route_protocol").and_then(|v| v.integer::<u8>(doc, 5..=255, "a routing protocol")) {
        if let Some(owner) = protocol_owner(at.value) {
            let message = format!("protocol {} belongs to {owner}: we would take its routes for ours", at.value);
            doc.error_hint(&at.span, message, "a number nobody else on this host uses, such as 99");
        }
        wiring.route_protocol = at.value;
    }
    if let Some(at) = table.get("flow_cookie").and_then(|v| v.integer(doc, 1..=i128::from(u64::MAX), "a cookie")) {
        wiring.flow_cookie = at.value;
    }
    if let Some(at) = table.get("audit_interval").and_then(|v| options::at_least(&v, doc, Duration::from_secs(1))) {
        wiring.audit_interval = at.value;
    }
    if let Some(at) = table.get("adopt_upstream").and_then(|v| v.bool(doc)) {
        wiring.adopt_upstream = at.value;
    }
    wiring
}

/// Protocols of rtnetlink(7) and of the routing daemons, which are not ours to delete.
fn protocol_owner(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        9 => "router advertisements",
        11 => "zebra",
        12 => "BIRD",
        16 => "dhcpcd and networkd",
        17 => "mrouted",
        18 => "keepalived",
        42 => "babeld",
        84 => "OVN",
        186 => "the BGP routes we learn",
        187..=189 | 192 => "FRR",
        _ => return None,
    })
}

fn api(table: &mut Table<'_>, doc: &Doc<'_>) -> Api {
    let mut api = Api::default();
    if let Some(socket) = table.get("socket").and_then(|v| v.string(doc)) {
        let path = PathBuf::from(&socket.value);
        if !path.is_absolute() {
            doc.error(&socket.span, format!("'socket' is not an absolute path: '{}'", socket.value));
        } else if socket.value.len() > 107 {
            doc.error(
                &socket.span,
                format!("'socket' is {} octets long: a socket's path has 107 at most", socket.value.len()),
            );
        }
        api.socket = path;
    }
    if let Some(listen) =
        table.get("listen").and_then(|v| v.parse::<SocketAddr>(doc, "an address with a port, such as 127.0.0.1:9179"))
    {
        if !listen.value.ip().is_loopback() {
            let message = format!("the API on {} can be read by everybody who reaches it", listen.value);
            doc.warn_hint(&listen.span, message, "127.0.0.1 or [::1] unless a firewall protects it");
        }
        api.listen = Some(listen.value);
    }
    api
}
