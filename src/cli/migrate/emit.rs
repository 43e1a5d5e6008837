//! What was found, as TOML.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::found::{Found, Session, quote};

/// Upstream's own defaults of the TLS files, for those that were not named.
const UPSTREAM_TLS: [(&str, &str); 3] = [
    ("key", "/etc/pki/tls/private/ovn_bgp_agent.key"),
    ("certificate", "/etc/pki/tls/certs/ovn_bgp_agent.crt"),
    ("ca", "/etc/ipa/ca.crt"),
];

/// Keepalive and hold time, in seconds, of FRR's profile datacenter. (That of its connect retry is ours anyway.)
const DATACENTER_TIMERS: (u32, u32) = (3, 9);

/// The configuration. What was noted stands at its head.
pub(super) fn emit(found: &mut Found, agent: bool, frr: bool) -> String {
    let mut body = String::new();
    bgp(&mut body, found);
    bfd(&mut body, found);
    let fib = if frr { fib(found) } else { String::new() };
    prefix_lists(&mut body, found);
    advertise(&mut body, found);
    body.push_str(&fib);
    ovn(&mut body, found, agent);
    let mut out = String::from("# Made by `ovn-bgpd migrate`. Have a look at it, then try `ovn-bgpd check`.\n");
    if !found.notes.is_empty() {
        out.push_str("#\n# Not carried over:\n");
        for note in &found.notes {
            let _ = writeln!(out, "#   {note}");
        }
    }
    out.push_str(&body);
    out
}

fn bgp(out: &mut String, found: &mut Found) {
    out.push_str("\n[bgp]\n");
    if let Some(asn) = &found.asn {
        let _ = writeln!(out, "asn = {asn}");
    }
    if let Some(id) = &found.router_id {
        let _ = writeln!(out, "router_id = {}", quote(id));
    }
    // FRR's default since 7.4 is to require a policy, unless the profile is datacenter; and ours is not.
    let required = !found.datacenter && found.version.is_none_or(|version| version >= (7, 4));
    let requires = found.ebgp_requires_policy.unwrap_or(required);
    if found.datacenter {
        found.timers = found.timers.or(Some(DATACENTER_TIMERS));
    }
    if found.ebgp_requires_policy.is_some() || !found.neighbors.is_empty() {
        let _ = writeln!(out, "ebgp_requires_policy = {requires}");
    }
    match (found.graceful_restart, found.restart_time) {
        (Some(false), _) => out.push_str("graceful_restart = { enabled = false }\n"),
        (_, Some(seconds)) => {
            let _ = writeln!(out, "graceful_restart = {{ enabled = true, restart_time = \"{seconds}s\" }}");
        }
        _ => {}
    }
    let groups = found.groups.clone();
    for (name, group) in &groups {
        let _ = writeln!(out, "\n[bgp.peer_groups.{}]", key(name));
        let options = options(group, found, name, true);
        write_options(out, &options);
    }
    for neighbor in std::mem::take(&mut found.neighbors) {
        out.push_str("\n[[bgp.neighbors]]\n");
        let _ =
            writeln!(out, "{} = {}", if neighbor.interface { "interface" } else { "address" }, quote(&neighbor.name));
        if let Some(group) = &neighbor.group {
            let _ = writeln!(out, "peer_group = {}", quote(group));
        }
        let options = options(&neighbor.session, found, &neighbor.name, neighbor.group.is_none());
        write_options(out, &options);
    }
}

/// A name as a key: bare where that is allowed.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { quote(name) }
}

fn write_options(out: &mut String, options: &BTreeMap<&'static str, String>) {
    for (name, value) in options {
        let _ = writeln!(out, "{name} = {value}");
    }
}

/// The options of a session. Those FRR keeps per family become one; `whole`: nothing is inherited.
fn options(session: &Session, found: &mut Found, name: &str, whole: bool) -> BTreeMap<&'static str, String> {
    let mut options = session.options.clone();
    let ipv4 = session.ipv4.active.unwrap_or(!found.no_default_ipv4);
    let ipv6 = session.ipv6.active.unwrap_or(false);
    for key in ["prefix_list_in", "prefix_list_out"] {
        let lists = (session.ipv4.options.get(key), session.ipv6.options.get(key));
        // What a neighbour says of one family leaves the other to its group, which is not looked at.
        let two = match lists {
            (Some(one), Some(other)) => one != other,
            (Some(_), None) => whole && ipv6,
            (None, Some(_)) => whole && ipv4,
            (None, None) => false,
        };
        if two && let Some(list) = one_list(lists, &mut found.prefix_lists) {
            options.insert(key, quote(&list));
        }
    }
    let per_family = session.ipv4.options.iter().chain(&session.ipv6.options);
    for (key, value) in per_family.filter(|(key, _)| !session.options.contains_key(*key)) {
        if key.starts_with("prefix_list_") && options.contains_key(key) {
            continue;
        }
        let first = options.entry(key).or_insert_with(|| value.clone());
        if first != value {
            found
                .notes
                .push(format!("neighbor {name}: {key} is {first} for IPv4 and {value} for IPv6: the former is taken"));
        }
    }
    if whole && let Some((keepalive, hold)) = found.timers {
        options.entry("hold_time").or_insert_with(|| quote(&format!("{hold}s")));
        options.entry("keepalive").or_insert_with(|| quote(&format!("{keepalive}s")));
    }
    let said = session.ipv4.active.is_some() || session.ipv6.active.is_some();
    if whole || said {
        let families: Vec<&str> =
            [(ipv4, "\"ipv4\""), (ipv6, "\"ipv6\"")].into_iter().filter_map(|(on, name)| on.then_some(name)).collect();
        if families.is_empty() {
            found.notes.push(format!("neighbor {name}: no family is activated: both are offered"));
        } else {
            options.insert("families", format!("[{}]", families.join(", ")));
        }
    }
    options
}

/// FRR has a list for each family, ours has both: the IPv4 rules of the one and the IPv6 rules of the other, as a list of its own. A
/// family without a list lets everything through. `None`: one of them is not defined.
fn one_list(
    (ipv4, ipv6): (Option<&String>, Option<&String>),
    lists: &mut BTreeMap<String, Vec<String>>,
) -> Option<String> {
    let part = |list: Option<&String>, v6: bool| {
        let Some(name) = list.map(|quoted| quoted.trim_matches('"')) else {
            let (name, rule) =
                if v6 { ("any-ipv6", "permit ::/0 le 128") } else { ("any-ipv4", "permit 0.0.0.0/0 le 32") };
            return Some((name.to_owned(), vec![rule.to_owned()]));
        };
        let rules: Vec<String> = lists.get(name)?.iter().filter(|rule| rule.contains(':') == v6).cloned().collect();
        Some((name.to_owned(), without_numbers(&rules)))
    };
    let ((one, mut rules), (other, more)) = (part(ipv4, false)?, part(ipv6, true)?);
    rules.extend(more);
    let name = format!("{one}-and-{other}");
    lists.insert(name.clone(), rules);
    Some(name)
}

/// The number of a rule, if it has one.
fn number(rule: &str) -> Option<u32> {
    rule.strip_prefix("seq ")?.split(' ').next()?.parse().ok()
}

/// Rules in their order without their numbers: FRR counts those of each family by themselves.
fn without_numbers(rules: &[String]) -> Vec<String> {
    let mut rules = rules.to_vec();
    rules.sort_by_key(|rule| (rule.contains(':'), number(rule)));
    let bare = |rule: &String| match number(rule) {
        Some(_) => rule.splitn(3, ' ').nth(2).unwrap_or(rule).to_owned(),
        None => rule.clone(),
    };
    rules.iter().map(bare).collect()
}

/// The rules of a list, with their numbers unless one is there twice.
fn without_clashes(rules: &[String]) -> Vec<String> {
    let numbers: Vec<u32> = rules.iter().filter_map(|rule| number(rule)).collect();
    let clash = numbers.iter().collect::<BTreeSet<_>>().len() < numbers.len();
    if clash { without_numbers(rules) } else { rules.to_vec() }
}

fn bfd(out: &mut String, found: &Found) {
    for (name, profile) in &found.bfd_profiles {
        let _ = writeln!(out, "\n[bfd.profiles.{}]", key(name));
        write_options(out, profile);
    }
}

/// `[fib]`, from the route-map between BGP and the kernel. Without one FRR installs everything.
fn fib(found: &mut Found) -> String {
    let mut sources = (None, None);
    let mut lists: Vec<String> = Vec::new();
    let clauses = found.kernel_maps.iter().filter_map(|map| found.route_maps.get(map)).flatten();
    for clause in clauses.filter(|clause| clause.permit) {
        lists.extend(clause.prefix_lists.iter().filter(|list| !lists.contains(list)).cloned().collect::<Vec<_>>());
        match clause.source.as_deref().map(str::parse) {
            Some(Ok(std::net::IpAddr::V4(v4))) => sources.0 = Some(v4),
            Some(Ok(std::net::IpAddr::V6(v6))) => sources.1 = Some(v6),
            _ => {}
        }
    }
    let list = match lists.as_slice() {
        [one] => one.clone(),
        [] => {
            found.prefix_lists.insert("everything".to_owned(), vec!["permit any".to_owned()]);
            "everything".to_owned()
        }
        several => {
            let rules = several.iter().filter_map(|list| found.prefix_lists.get(list)).flatten().cloned().collect();
            found.prefix_lists.insert("to-kernel".to_owned(), rules);
            "to-kernel".to_owned()
        }
    };
    let mut out = String::from("\n[fib]\n");
    let _ = writeln!(out, "install = {}", quote(&list));
    if let Some(v4) = sources.0 {
        let _ = writeln!(out, "source_ipv4 = \"{v4}\"");
    }
    if let Some(v6) = sources.1 {
        let _ = writeln!(out, "source_ipv6 = \"{v6}\"");
    }
    if let Some(paths) = &found.max_paths {
        let _ = writeln!(out, "max_paths = {paths}");
    }
    out
}

fn prefix_lists(out: &mut String, found: &Found) {
    if found.prefix_lists.is_empty() {
        return;
    }
    out.push_str("\n[prefix_lists]\n");
    for (name, rules) in &found.prefix_lists {
        let rules: Vec<String> = without_clashes(rules).iter().map(|rule| quote(rule)).collect();
        let _ = writeln!(out, "{} = [{}]", key(name), rules.join(", "));
    }
}

fn advertise(out: &mut String, found: &Found) {
    if found.networks.is_empty() && !found.redistribute_connected {
        return;
    }
    out.push_str("\n[advertise]\n");
    if !found.networks.is_empty() {
        let prefixes: Vec<String> = found.networks.iter().map(|p| quote(p)).collect();
        let _ = writeln!(out, "prefixes = [{}]", prefixes.join(", "));
    }
    if found.redistribute_connected {
        out.push_str("interfaces = [\"lo\"]                          # redistribute connected: add others that have host addresses\n");
    }
}

fn ovn(out: &mut String, found: &Found, agent: bool) {
    out.push_str("\n[ovn]\n");
    if !agent {
        out.push_str("# No bgp-agent.conf was given: what is not here comes from the local Open vSwitch.\n");
    }
    for line in &found.ovn {
        let _ = writeln!(out, "{line}");
    }
    let named = |key: &str| found.ovn.iter().any(|line| line.starts_with(&format!("tls.{key} ")));
    if found.ovn.iter().any(|line| line.contains("ssl:") || line.starts_with("tls.")) {
        for (key, path) in UPSTREAM_TLS.iter().filter(|(key, _)| !named(key)) {
            let _ = writeln!(out, "tls.{key} = {}", quote(path));
        }
    }
    if agent {
        out.push_str("\n[wiring]\n");
        for line in &found.wiring {
            let _ = writeln!(out, "{line}");
        }
        out.push_str("# To take over what the stopped agent left in the kernel and in OVS, without losing a packet:\n");
        out.push_str("# adopt_upstream = true\n");
    }
}
