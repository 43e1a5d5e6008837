//! `frr.conf`, as far as a hypervisor's has anything to say to us.

use std::fmt::Write as _;
use std::path::Path;

use super::found::{Clause, Family, Found, Neighbor, Session, quote};

/// Which block a line is in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Block {
    Top,
    Bgp,
    /// An address family of `router bgp`; `true`: IPv6.
    AddressFamily(bool),
    RouteMap(String),
    Bfd,
    BfdProfile(String),
    Interface,
    /// A block whose lines are nothing to us; the line that opened it has been remarked on.
    Skipped,
    /// The same, of an address family of `router bgp`, where others may follow.
    SkippedFamily,
}

/// Statements without a counterpart and without a loss.
const SILENT: &[&str] = &[
    "hostname",
    "log",
    "service",
    "line vty",
    "end",
    "exit",
    "password",
    "enable",
    "ip nht",
    "ipv6 nht",
    "ip forwarding",
    "ipv6 forwarding",
    "agentx",
    "debug",
    "banner",
    "domainname",
    "zebra",
];
/// The same within `router bgp`.
const SILENT_BGP: &[&str] = &[
    "bgp log-neighbor-changes",
    "bgp deterministic-med",
    "bgp always-compare-med",
    "bgp bestpath",
    "exit-address-family",
    "no bgp network import-check",
    "bgp network import-check",
    "bgp suppress-duplicates",
    "bgp fast-external-failover",
    "bgp default show-hostname",
    "bgp default show-nexthop-hostname",
    "no bgp default show-hostname",
    "import vrf",
    "bgp graceful-restart preserve-fw-state",
    "bgp graceful-restart stalepath-time",
    "bgp route-map delay-timer",
    "coalesce-time",
    "exit-vrf",
];
/// Words after `neighbor NAME` without a counterpart and without a loss.
const SILENT_NEIGHBOR: &[&str] = &[
    "capability extended-nexthop",
    "send-community",
    "soft-reconfiguration",
    "enforce-first-as",
    "advertisement-interval",
    "capability link-local",
    "sender-as-path-loop-detection",
    "timers delayopen",
    "extended-optional-parameters",
];

/// Reads the whole file. Twice: neighbours refer to route-maps that follow them.
pub(super) fn read(text: &str, file: &Path, found: &mut Found) {
    let mut first = Found::default();
    pass(text, file, &mut first);
    found.all_route_maps = first.route_maps;
    pass(text, file, found);
}

fn pass(text: &str, file: &Path, found: &mut Found) {
    let mut block = Block::Top;
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first().is_none_or(|first| first.starts_with(['!', '#'])) {
            continue;
        }
        if let Err(why) = statement(&words, &mut block, found) {
            found.note(file, number, format!("'{}': {why}", masked(&words)));
        }
    }
}

/// The statement without a password.
fn masked(words: &[&str]) -> String {
    let mut hide = false;
    let shown = words.iter().map(|word| {
        let out = if hide { "…" } else { word };
        hide = *word == "password";
        out
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn starts_with(words: &[&str], statements: &[&str]) -> bool {
    statements.iter().any(|statement| {
        let mut rest = words.iter();
        statement.split(' ').all(|word| rest.next() == Some(&word))
    })
}

/// Carries one statement over, or says why not.
fn statement(words: &[&str], block: &mut Block, found: &mut Found) -> Result<(), String> {
    if let Some(opened) = open(words, found) {
        let (new, said) = opened?;
        *block = new;
        return said.map_or(Ok(()), Err);
    }
    match block.clone() {
        Block::Top => top(words, found),
        Block::Bgp => bgp(words, block, found),
        Block::AddressFamily(v6) => address_family(words, v6, block, found),
        Block::RouteMap(name) => route_map(words, &name, found),
        Block::Bfd => bfd(words, block, found),
        Block::BfdProfile(name) => bfd_profile(words, &name, block, found),
        Block::Interface => interface(words, block),
        // `exit-address-family` ends a family of it, not a VRF of `router bgp`.
        Block::Skipped => {
            if matches!(words, ["exit" | "exit-vrf", ..]) {
                *block = Block::Top;
            }
            Ok(())
        }
        Block::SkippedFamily => match words {
            ["exit-address-family" | "exit", ..] => {
                *block = Block::Bgp;
                Ok(())
            }
            ["address-family", ..] => bgp(words, block, found),
            _ => Ok(()),
        },
    }
}

/// Statements that open a block, wherever they stand: the block and, where it is skipped, why.
fn open(words: &[&str], found: &mut Found) -> Option<Result<(Block, Option<String>), String>> {
    Some(Ok(match words {
        ["router", "bgp", _, "vrf", name, ..] => {
            (Block::Skipped, Some(format!("VRF {name} is not needed: addresses are announced directly")))
        }
        ["router", "bgp", asn, ..] => {
            found.asn = Some((*asn).to_owned());
            (Block::Bgp, None)
        }
        ["router", other, ..] => (Block::Skipped, Some(format!("there is no {other}"))),
        ["route-map", name, action @ ("permit" | "deny"), _] => {
            let clause = Clause { permit: *action == "permit", ..Clause::default() };
            found.route_maps.entry((*name).to_owned()).or_default().push(clause);
            (Block::RouteMap((*name).to_owned()), None)
        }
        ["bfd"] => (Block::Bfd, None),
        ["interface", ..] => (Block::Interface, None),
        ["vrf", name, ..] => (Block::Skipped, Some(format!("VRF {name} is not needed"))),
        ["ip" | "ipv6", "prefix-list", ..] => {
            return Some(prefix_list(words, found).map(|()| (Block::Top, None)));
        }
        ["ip" | "ipv6", "protocol", "bgp", "route-map", name] => {
            found.kernel_maps.push((*name).to_owned());
            (Block::Top, None)
        }
        _ => return None,
    }))
}

fn top(words: &[&str], found: &mut Found) -> Result<(), String> {
    match words {
        // That of `router bgp` wins.
        ["ip", "router-id", id] | ["router-id", id] => {
            found.router_id.get_or_insert_with(|| (*id).to_owned());
            return Ok(());
        }
        ["frr", "defaults", profile] => {
            found.datacenter = *profile == "datacenter";
            return Ok(());
        }
        ["frr", "version", version, ..] => {
            let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().ok());
            found.version = numbers.next().flatten().zip(numbers.next().flatten());
            return Ok(());
        }
        _ => {}
    }
    if starts_with(words, SILENT) || words.first() == Some(&"no") && starts_with(words.get(1..).unwrap_or(&[]), SILENT)
    {
        return Ok(());
    }
    Err("not carried over".to_owned())
}

/// `ip prefix-list NAME [seq N] permit|deny PREFIX [ge N] [le N]`.
fn prefix_list(words: &[&str], found: &mut Found) -> Result<(), String> {
    let (Some(family), Some(name), Some(rule)) = (words.first(), words.get(2), words.get(3..)) else {
        return Err("not understood".to_owned());
    };
    if rule.first() == Some(&"description") {
        return Ok(());
    }
    // FRR keeps two lists of one name apart; here one list has both families, and `any` would mean both.
    let any = if *family == "ip" { "0.0.0.0/0 le 32" } else { "::/0 le 128" };
    let rule = rule.join(" ").replace(" any", &format!(" {any}"));
    if let Err(error) = rule.parse::<bgp::policy::Rule>() {
        return Err(error.reason);
    }
    found.prefix_lists.entry((*name).to_owned()).or_default().push(rule);
    Ok(())
}

fn bgp(words: &[&str], block: &mut Block, found: &mut Found) -> Result<(), String> {
    match words {
        ["bgp", "router-id", id] => found.router_id = Some((*id).to_owned()),
        ["bgp", "ebgp-requires-policy"] => found.ebgp_requires_policy = Some(true),
        ["no", "bgp", "ebgp-requires-policy"] => found.ebgp_requires_policy = Some(false),
        ["no", "bgp", "default", "ipv4-unicast"] => found.no_default_ipv4 = true,
        ["bgp", "default", "ipv4-unicast"] => found.no_default_ipv4 = false,
        ["bgp", "graceful-restart"] => found.graceful_restart = Some(true),
        ["bgp", "graceful-restart-disable"] => found.graceful_restart = Some(false),
        ["bgp", "graceful-restart", "restart-time", seconds] => found.restart_time = seconds.parse().ok(),
        ["bgp", "graceful-shutdown"] => {
            return Err("would announce every route with GRACEFUL_SHUTDOWN for ever; use `ovn-bgpd drain` before \
                        maintenance, or graceful_shutdown = true in the peer group"
                .to_owned());
        }
        ["timers", "bgp", keepalive, hold] => {
            found.timers = keepalive.parse().ok().zip(hold.parse().ok());
        }
        ["maximum-paths", count] => found.max_paths = Some((*count).to_owned()),
        ["neighbor", name, rest @ ..] => return neighbor(name, rest, None, found),
        ["no", "neighbor", name, rest @ ..] => return no_neighbor(name, rest, None, found),
        ["address-family", "ipv4", "unicast"] | ["address-family", "ipv4"] => *block = Block::AddressFamily(false),
        ["address-family", "ipv6", "unicast"] | ["address-family", "ipv6"] => *block = Block::AddressFamily(true),
        ["address-family", rest @ ..] => {
            *block = Block::SkippedFamily;
            return Err(format!("there is no family {}", rest.join(" ")));
        }
        ["redistribute" | "network", ..] => return originate(words, found),
        ["exit"] => *block = Block::Top,
        _ if starts_with(words, SILENT_BGP) => {}
        // Blocks need no `exit`: what belongs to the top ends this one.
        _ if starts_with(words, SILENT) => *block = Block::Top,
        _ => return Err("not carried over".to_owned()),
    }
    Ok(())
}

fn originate(words: &[&str], found: &mut Found) -> Result<(), String> {
    match words {
        ["redistribute", "connected", rest @ ..] => {
            found.redistribute_connected = true;
            if rest.is_empty() { Ok(()) } else { Err("its route-map is not carried over".to_owned()) }
        }
        ["network", prefix, rest @ ..] => {
            if prefix.parse::<ipnet::IpNet>().is_err() {
                return Err("not a prefix".to_owned());
            }
            found.networks.push((*prefix).to_owned());
            if rest.is_empty() { Ok(()) } else { Err("only the prefix is carried over".to_owned()) }
        }
        _ => Err("only connected addresses are announced; list others in [advertise]".to_owned()),
    }
}

fn address_family(words: &[&str], v6: bool, block: &mut Block, found: &mut Found) -> Result<(), String> {
    match words {
        ["exit-address-family" | "exit", ..] => {
            *block = Block::Bgp;
            Ok(())
        }
        ["neighbor", name, rest @ ..] => neighbor(name, rest, Some(v6), found),
        ["no", "neighbor", name, rest @ ..] => no_neighbor(name, rest, Some(v6), found),
        ["redistribute" | "network", ..] => originate(words, found),
        ["maximum-paths", "ibgp", count, ..] | ["maximum-paths", count] => {
            found.max_paths = Some((*count).to_owned());
            Ok(())
        }
        _ => bgp(words, block, found),
    }
}

/// The options of a neighbour or group that was declared before.
fn session<'a>(name: &str, found: &'a mut Found) -> Option<&'a mut Session> {
    if let Some((_, session)) = found.groups.iter_mut().find(|(group, _)| group == name) {
        return Some(session);
    }
    found.neighbors.iter_mut().find(|n| n.name == name).map(|n| &mut n.session)
}

fn family(session: &mut Session, v6: bool) -> &mut Family {
    if v6 { &mut session.ipv6 } else { &mut session.ipv4 }
}

fn no_neighbor(name: &str, rest: &[&str], v6: Option<bool>, found: &mut Found) -> Result<(), String> {
    match rest {
        ["activate"] => {
            let session = session(name, found).ok_or("there is no such neighbour yet")?;
            family(session, v6.unwrap_or(false)).active = Some(false);
            Ok(())
        }
        ["send-community" | "enforce-first-as" | "capability", ..] => Ok(()),
        _ => Err("not carried over".to_owned()),
    }
}

fn neighbor(name: &str, rest: &[&str], v6: Option<bool>, found: &mut Found) -> Result<(), String> {
    if declare(name, rest, found)? {
        return Ok(());
    }
    let unknown = "there is no such neighbour yet";
    // Inside an address family: what holds there only.
    if let Some((key, value)) = family_option(rest) {
        let value = value?;
        let session = session(name, found).ok_or(unknown)?;
        match v6 {
            Some(v6) => {
                family(session, v6).options.insert(key, value);
            }
            // Outside of one, FRR means IPv4 unicast.
            None => {
                session.ipv4.options.insert(key, value);
            }
        }
        return Ok(());
    }
    match rest {
        ["activate"] => {
            let session = session(name, found).ok_or(unknown)?;
            family(session, v6.unwrap_or(false)).active = Some(true);
            Ok(())
        }
        ["route-map", map, direction] => {
            let key = if *direction == "in" { "prefix_list_in" } else { "prefix_list_out" };
            let list =
                plain_list(map, found).ok_or_else(|| format!("route-map {map} {direction} is not carried over"))?;
            let session = session(name, found).ok_or(unknown)?;
            family(session, v6.unwrap_or(false)).options.insert(key, quote(&list));
            Ok(())
        }
        _ if starts_with(rest, SILENT_NEIGHBOR) => Ok(()),
        _ => {
            let options = session_options(rest, found)?;
            let session = session(name, found).ok_or(unknown)?;
            session.options.extend(options);
            Ok(())
        }
    }
}

/// `peer-group`, `interface …`, and the first mention of an address. `true`: nothing is left to read.
fn declare(name: &str, rest: &[&str], found: &mut Found) -> Result<bool, String> {
    match rest {
        ["peer-group"] => {
            found.groups.push((name.to_owned(), Session::default()));
            return Ok(true);
        }
        ["interface", rest @ ..] => {
            let rest = if rest.first() == Some(&"v6only") { rest.get(1..).unwrap_or(&[]) } else { rest };
            let mut neighbor = Neighbor { name: name.to_owned(), interface: true, ..Neighbor::default() };
            match rest {
                ["peer-group", group] => neighbor.group = Some((*group).to_owned()),
                ["remote-as", remote] => {
                    neighbor.session.options.insert("remote_as", remote_as(remote));
                }
                [] => {}
                _ => return Err("not carried over".to_owned()),
            }
            found.neighbors.push(neighbor);
            return Ok(true);
        }
        _ => {}
    }
    if name.parse::<std::net::IpAddr>().is_ok() && session(name, found).is_none() {
        found.neighbors.push(Neighbor { name: name.to_owned(), ..Neighbor::default() });
    }
    if let ["peer-group", group] = rest {
        let neighbor = found.neighbors.iter_mut().find(|n| n.name == name).ok_or("there is no such neighbour yet")?;
        neighbor.group = Some((*group).to_owned());
        return Ok(true);
    }
    Ok(false)
}

fn remote_as(word: &str) -> String {
    if word.bytes().all(|b| b.is_ascii_digit()) { word.to_owned() } else { quote(word) }
}

/// `LIMIT [PERCENT] [warning-only | restart MINUTES] [force]`.
fn max_prefixes(limit: &str, how: &[&str]) -> Result<String, String> {
    let mut more = String::new();
    let mut words = how;
    loop {
        words = match words {
            [] => break,
            ["warning-only", rest @ ..] => {
                more.push_str(", warning_only = true");
                rest
            }
            ["restart", minutes, rest @ ..] => {
                let _ = write!(more, ", restart = \"{minutes}m\"");
                rest
            }
            // Counts what the policy refuses, too; ours counts what is in use.
            ["force", rest @ ..] => rest,
            [percent, rest @ ..] if percent.bytes().all(|b| b.is_ascii_digit()) => {
                let _ = write!(more, ", warning = {percent}");
                rest
            }
            [other, ..] => return Err(format!("`{other}` is not known after maximum-prefix")),
        };
    }
    Ok(if more.is_empty() { limit.to_owned() } else { format!("{{ limit = {limit}{more} }}") })
}

/// Options FRR has per family: our key and its value.
fn family_option(rest: &[&str]) -> Option<(&'static str, Result<String, String>)> {
    Some(match rest {
        ["allowas-in"] => ("allowas_in", Ok("3".to_owned())),
        ["allowas-in", "origin"] => ("allowas_in", Ok(quote("origin"))),
        ["allowas-in", count] => ("allowas_in", Ok((*count).to_owned())),
        ["prefix-list", list, "in"] => ("prefix_list_in", Ok(quote(list))),
        ["prefix-list", list, "out"] => ("prefix_list_out", Ok(quote(list))),
        ["next-hop-self", ..] => ("next_hop_self", Ok("true".to_owned())),
        ["maximum-prefix", limit, how @ ..] => ("max_prefixes", max_prefixes(limit, how)),
        _ => return None,
    })
}

/// Options of the session as a whole.
fn session_options(rest: &[&str], found: &mut Found) -> Result<Vec<(&'static str, String)>, String> {
    let seconds = |n: &str| quote(&format!("{n}s"));
    Ok(match rest {
        ["remote-as", remote] => vec![("remote_as", remote_as(remote))],
        ["password", secret] => vec![("password", quote(secret))],
        ["description", text @ ..] => vec![("description", quote(&text.join(" ")))],
        ["timers", "connect", n] => vec![("connect_retry", seconds(n))],
        ["timers", keepalive, hold] => vec![("hold_time", seconds(hold)), ("keepalive", seconds(keepalive))],
        ["ttl-security", "hops", n] => vec![("ttl_security", (*n).to_owned())],
        ["ebgp-multihop"] => vec![("ebgp_multihop", "255".to_owned())],
        ["ebgp-multihop", n] => vec![("ebgp_multihop", (*n).to_owned())],
        ["update-source", source] if source.parse::<std::net::IpAddr>().is_ok() => {
            vec![("local_address", quote(source))]
        }
        ["update-source", _] => return Err("write the address of that interface as local_address".to_owned()),
        ["passive"] => vec![("passive", "true".to_owned())],
        ["shutdown"] => vec![("shutdown", "true".to_owned())],
        ["shutdown", "message", text @ ..] => vec![("shutdown", quote(&text.join(" ")))],
        ["graceful-shutdown"] => vec![("graceful_shutdown", "true".to_owned())],
        ["port", n] => vec![("port", (*n).to_owned())],
        ["local-role", role, ..] => vec![("role", quote(role))],
        ["bfd"] => vec![("bfd", quote(default_profile(found)))],
        ["bfd", "profile", profile] => vec![("bfd", quote(profile))],
        ["bfd", multiplier, receive, transmit] => {
            let name = format!("{multiplier}-{receive}-{transmit}");
            let profile = found.bfd_profiles.entry(name.clone()).or_default();
            profile.insert("detect_multiplier", (*multiplier).to_owned());
            profile.insert("receive_interval", quote(&format!("{receive}ms")));
            profile.insert("transmit_interval", quote(&format!("{transmit}ms")));
            vec![("bfd", quote(&name))]
        }
        ["route-reflector-client"] => return Err("we are never a route reflector".to_owned()),
        ["local-as", n] | ["local-as", n, "no-prepend"] => vec![("local_as", (*n).to_owned())],
        ["local-as", n, "no-prepend", "replace-as"] => {
            vec![("local_as", format!("{{ asn = {n}, replace_as = true }}"))]
        }
        ["local-as", ..] => return Err("only one OPEN is tried, with the AS number of local-as".to_owned()),
        _ => return Err("not carried over".to_owned()),
    })
}

/// FRR's own defaults under a name, for `bfd` without a profile.
fn default_profile(found: &mut Found) -> &'static str {
    found.bfd_profiles.entry("default".to_owned()).or_default();
    "default"
}

fn route_map(words: &[&str], name: &str, found: &mut Found) -> Result<(), String> {
    let Some(clause) = found.route_maps.get_mut(name).and_then(|clauses| clauses.last_mut()) else { return Ok(()) };
    match words {
        ["match", "ip" | "ipv6", "address", "prefix-list", list] => clause.prefix_lists.push((*list).to_owned()),
        ["set", "src", source] => clause.source = Some((*source).to_owned()),
        ["exit" | "description", ..] => {}
        // What it lets through is carried over all the same.
        ["set", ..] => return Err("not carried over; `export` of a neighbour or peer group sets attributes".to_owned()),
        _ => {
            clause.more = true;
            return Err("not carried over".to_owned());
        }
    }
    Ok(())
}

/// The prefix list a route-map comes down to, if it is one permitting clause that only asks for one list.
fn plain_list(map: &str, found: &Found) -> Option<String> {
    let clauses = found.all_route_maps.get(map)?;
    let mut lists = Vec::new();
    for clause in clauses {
        match clause.prefix_lists.as_slice() {
            [list] if clause.permit && !clause.more && clause.source.is_none() => lists.push(list.clone()),
            _ => return None,
        }
    }
    lists.dedup();
    match lists.as_slice() {
        [list] => Some(list.clone()),
        _ => None,
    }
}

fn bfd(words: &[&str], block: &mut Block, found: &mut Found) -> Result<(), String> {
    match words {
        ["profile", name] => {
            found.bfd_profiles.entry((*name).to_owned()).or_default();
            *block = Block::BfdProfile((*name).to_owned());
            Ok(())
        }
        ["exit"] => {
            *block = Block::Top;
            Ok(())
        }
        _ => Err("not carried over".to_owned()),
    }
}

fn bfd_profile(words: &[&str], name: &str, block: &mut Block, found: &mut Found) -> Result<(), String> {
    let profile = found.bfd_profiles.entry(name.to_owned()).or_default();
    match words {
        ["transmit-interval", n] => profile.insert("transmit_interval", quote(&format!("{n}ms"))),
        ["receive-interval", n] => profile.insert("receive_interval", quote(&format!("{n}ms"))),
        ["detect-multiplier", n] => profile.insert("detect_multiplier", (*n).to_owned()),
        ["passive-mode"] => profile.insert("passive", "true".to_owned()),
        ["exit"] => {
            *block = Block::Bfd;
            None
        }
        _ => return bfd(words, block, found),
    };
    Ok(())
}

/// Router advertisements are ours to send where a neighbour needs them; addresses are the system's.
fn interface(words: &[&str], block: &mut Block) -> Result<(), String> {
    match words {
        ["ipv6", "nd", ..] | ["no", "ipv6", "nd", ..] | ["description", ..] => Ok(()),
        ["exit"] => {
            *block = Block::Top;
            Ok(())
        }
        ["ip" | "ipv6", "address", ..] => Err("give the interface its address by the system's own means".to_owned()),
        _ => Err("not carried over".to_owned()),
    }
}
