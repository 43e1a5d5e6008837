//! `bgp-agent.conf`: oslo.config, that is sections, `key = value`, comments, and lists with commas.

use std::path::Path;

use super::found::{Found, quote};

/// Reads the whole file.
pub(super) fn read(text: &str, file: &Path, found: &mut Found) {
    let mut section = "DEFAULT".to_owned();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.trim().clone_into(&mut section);
            continue;
        }
        if line.starts_with(char::is_whitespace) {
            found.note(file, number, "a continued line is not understood");
            continue;
        }
        let Some((key, value)) = trimmed.split_once(['=', ':']) else {
            found.note(file, number, format!("'{trimmed}' is not 'key = value'"));
            continue;
        };
        if let Some(why) = option(&section, key.trim(), value.trim(), found) {
            found.note(file, number, format!("{}: {why}", key.trim()));
        }
    }
}

/// Carries one option over; otherwise, why not.
fn option(section: &str, key: &str, value: &str, found: &mut Found) -> Option<String> {
    let unset = value.is_empty() || value.eq_ignore_ascii_case("none");
    // The database options are accepted in [DEFAULT] as well, deprecated.
    let section = if key.starts_with("ovn_") && section == "DEFAULT" { "ovn" } else { section };
    match (section, key) {
        _ if unset => None,
        ("DEFAULT", "bgp_AS") => as_number(value, found),
        ("DEFAULT", "bgp_router_id") => set_or_say(&mut found.router_id, value, "router id"),
        ("DEFAULT", "reconcile_interval") => {
            found.wiring.push(format!("audit_interval = {}", quote(&format!("{value}s"))));
            None
        }
        ("DEFAULT", "ovsdb_connection") => {
            found.ovn.push(format!("ovs = {}", quote(value)));
            None
        }
        (
            "DEFAULT",
            "expose_tenant_networks" | "expose_ipv6_gua_tenant_networks" | "require_snat_disabled_for_tenant_networks",
        ) => truth(key, value, found),
        ("DEFAULT", "advertisement_method_tenant_networks") => {
            found.ovn.push(format!("tenant_advertisement = {}", quote(value)));
            None
        }
        ("DEFAULT", "address_scopes") => {
            let scopes: Vec<String> = value.split(',').map(str::trim).filter(|s| !s.is_empty()).map(quote).collect();
            found.ovn.push(format!("address_scopes = [{}]", scopes.join(", ")));
            None
        }
        ("DEFAULT", "driver") if value == "nb_ovn_bgp_driver" => None,
        ("DEFAULT", "driver") => Some(format!("'{value}' has no equal; this is what nb_ovn_bgp_driver does")),
        ("DEFAULT", "exposing_method") if value == "underlay" => None,
        ("DEFAULT", "exposing_method") => Some(format!("'{value}' is not there; only underlay is")),
        ("DEFAULT", "debug") => (!is_false(value)).then(|| "use -v on the command line".to_owned()),
        (
            "DEFAULT",
            "bgp_nic" | "bgp_vrf" | "bgp_vrf_table_id" | "clear_vrf_routes_on_startup" | "delete_vrf_on_disconnect",
        ) => Some("not needed: there is no dummy interface and no VRF".to_owned()),
        ("DEFAULT", "frr_reconcile_interval") => Some("not needed: there is no FRR".to_owned()),
        ("DEFAULT", "ovsdb_connection_timeout") => Some("not needed: connecting is tried for ever".to_owned()),
        ("DEFAULT", "evpn_local_ip" | "evpn_nic" | "evpn_udp_dstport") => Some("there is no EVPN".to_owned()),
        ("ovn", "ovn_nb_connection") => {
            found.ovn.push(format!("nb = {}", quote(value)));
            None
        }
        ("ovn", "ovn_nb_private_key") => tls("key", value, found),
        ("ovn", "ovn_nb_certificate") => tls("certificate", value, found),
        ("ovn", "ovn_nb_ca_cert") => tls("ca", value, found),
        ("ovn", key) if key.starts_with("ovn_sb_") => {
            Some("not needed: the Southbound database is not read".to_owned())
        }
        ("agent", "root_helper" | "root_helper_daemon") => Some("not needed: no commands are run".to_owned()),
        ("local_ovn_cluster", _) => Some("the exposing method 'ovn' is not there".to_owned()),
        _ => Some(format!("unknown option of [{section}]")),
    }
}

/// FRR's number wins: it is the one the neighbours know.
fn as_number(value: &str, found: &mut Found) -> Option<String> {
    match &found.asn {
        Some(frr) if frr != value => Some(format!("{value} is not what FRR has ({frr}); FRR's is taken")),
        Some(_) => None,
        None => {
            found.asn = Some(value.to_owned());
            None
        }
    }
}

fn set_or_say(place: &mut Option<String>, value: &str, what: &str) -> Option<String> {
    match place {
        Some(other) if other != value => Some(format!("FRR has another {what}, {other}, which is taken")),
        _ => {
            *place = Some(value.to_owned());
            None
        }
    }
}

fn is_false(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "false" | "no" | "off" | "0")
}

fn truth(key: &str, value: &str, found: &mut Found) -> Option<String> {
    let yes = matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1");
    if !yes && !is_false(value) {
        return Some(format!("'{value}' is neither true nor false"));
    }
    found.ovn.push(format!("{key} = {yes}"));
    None
}

fn tls(key: &'static str, value: &str, found: &mut Found) -> Option<String> {
    // As a dotted key: the table needs all three, and upstream's defaults are added for those that are missing.
    found.ovn.push(format!("tls.{key} = {}", quote(value)));
    None
}
