//! `plan`: what this host would wire and announce, from two database files.
//!
//! What no file can say is assumed, and the output says so ([`Plan::notes`]):
//!
//! * the bridge of every mapping exists and is up, with the MAC address its local port has in the file (`mac_in_use`), else
//!   `02:00:00:00:00:<position>`;
//! * the routing tables are 1, 2, … in the order of the mappings: what would be chosen where rt_tables and the kernel use none;
//! * a patch port that is not there yet appears when it is needed, as `ovn-controller` makes it with the first port of a network;
//! * the kernel can make VLAN devices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use bgp::types::Family;
use ipnet::IpNet;

use super::args::PlanArgs;
use super::check;
use super::output::{self, Failure};
use crate::api::model::{Exposure, ObjectState, Plan, Route, RouteNeighbor, Wiring};
use crate::api::text;
use crate::config::{Config, Neighbor};
use crate::desired::{self, Desired, Options};
use crate::host::Facts;
use crate::host::facts::{self, Overrides, from_database};
use crate::mac::Mac;
use crate::nb::{self, View};
use crate::ovsdb::file;
use crate::ovsdb::value::{Database, Row, Value};

/// Reads the configuration and the two databases, and prints the plan.
pub(super) fn run(arguments: &PlanArgs) -> Result<ExitCode, Failure> {
    let config = check::load(&arguments.config)?;
    let load = |path: &Path| file::load(path).map_err(|error| Failure::Input(error.to_string()));
    let (nb, ovs) = (load(&arguments.nb)?, load(&arguments.ovs)?);
    of_database(&arguments.nb, &nb, "OVN_Northbound", nb::COLUMNS)?;
    of_database(&arguments.ovs, &ovs, "Open_vSwitch", facts::COLUMNS)?;
    let kernel_hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plan = plan(&config, &nb, &ovs, kernel_hostname.trim());
    if arguments.json {
        let json = serde_json::to_string_pretty(&plan).map_err(|error| Failure::Input(error.to_string()))?;
        return output::print(&(json + "\n"));
    }
    output::print(&say(&plan))
}

/// The two files are easily confused, and from the wrong one nothing follows, in silence.
fn of_database(path: &Path, database: &Database, name: &str, tables: &[(&str, &[&str])]) -> Result<(), Failure> {
    if database.is_empty() || tables.iter().any(|(table, _)| database.contains_key(*table)) {
        return Ok(());
    }
    let found = database.keys().map(|table| &**table).take(3).collect::<Vec<_>>().join(", ");
    Err(Failure::Input(format!("{}: not an {name} database: its tables are {found}, …", path.display())))
}

/// The plan of the host that `ovs` describes.
fn plan(config: &Config, nb: &Database, ovs: &Database, kernel_hostname: &str) -> Plan {
    let mut notes = Vec::new();
    let desired = match &config.ovn {
        None => {
            notes.push("the configuration has no [ovn] section: only the host's own prefixes are announced".to_owned());
            Desired::default()
        }
        Some(ovn) => {
            let overrides = Overrides { hostname: ovn.hostname.clone(), system_id: ovn.system_id.clone() };
            let (facts, warnings) = from_database(ovs, &overrides, kernel_hostname);
            notes.extend(warnings);
            let (view, warnings) = View::new(nb);
            notes.extend(warnings.iter().map(ToString::to_string));
            let options = config.options();
            let facts = assume(facts, ovs, &mut notes);
            compute(&view, facts, &options, &mut notes)
        }
    };
    let exposures = desired.exposures.iter().map(|exposure| {
        let ready = exposure.waiting.is_none();
        let mut shown = Exposure::new(exposure, ready, ready && exposure.announce);
        shown.reasons.extend(exposure.waiting.clone());
        shown
    });
    Plan {
        exposures: exposures.collect(),
        wiring: Wiring::new(&desired.wiring, |_| ObjectState::Planned),
        routes: routes(config, &desired),
        refusals: desired.refusals.into_iter().collect(),
        notes,
    }
}

/// Fills in what only the kernel of the host could say.
fn assume(mut facts: Facts, ovs: &Database, notes: &mut Vec<String>) -> Facts {
    facts.vlan_devices = true;
    let mut next = 1;
    for mapping in &facts.bridge_mappings {
        let Some(bridge) = facts.bridges.get_mut(&mapping.bridge) else { continue };
        if bridge.table.is_some() {
            continue;
        }
        bridge.table = Some(next);
        bridge.ifindex = Some(next);
        bridge.up = true;
        next += 1;
        if !std::mem::replace(&mut bridge.in_ovs, true) {
            notes.push(format!("assumed: bridge {} exists (it is not in the Open_vSwitch database)", mapping.bridge));
        }
        bridge.mac = mac_in_use(ovs, &mapping.bridge).or_else(|| {
            let [.., high, low] = mapping.index.to_be_bytes();
            let mac = Mac([2, 0, 0, 0, high, low]);
            notes.push(format!("assumed: {} has the MAC address {mac}", mapping.bridge));
            Some(mac)
        });
    }
    facts
}

/// The MAC address of a bridge's local port.
fn mac_in_use(ovs: &Database, bridge: &str) -> Option<Mac> {
    let text = |row: &Row, column: &str| row.get(column).and_then(Value::as_str).map(str::to_owned);
    let mut rows = ovs.get("Interface")?.values();
    let local = rows.find(|row| text(row, "name").as_deref() == Some(bridge))?;
    text(&local, "mac_in_use")?.parse().ok()
}

/// The desired state, with the patch ports that the exposures wait for.
fn compute(view: &View, mut facts: Facts, options: &Options, notes: &mut Vec<String>) -> Desired {
    let desired = desired::compute(view, &facts, options);
    let mut missing: BTreeSet<(&str, &str)> = BTreeSet::new();
    for exposure in desired.exposures.iter().filter(|exposure| exposure.waiting.is_some()) {
        missing.insert((&exposure.bridge, &exposure.patch_port));
    }
    if missing.is_empty() {
        return desired;
    }
    for (bridge, port) in missing {
        let Some(facts) = facts.bridges.get_mut(bridge) else { continue };
        if facts.patch_ports.contains_key(port) {
            continue;
        }
        let taken: BTreeSet<u16> = facts.patch_ports.values().copied().collect();
        // From the top, where a vswitch does not begin to count (OFPP_MAX is 0xff00).
        if let Some(number) = (1..0xff00).rev().find(|number| !taken.contains(number)) {
            notes.push(format!("assumed: patch port {port} appears on {bridge}, as OpenFlow port {number}"));
            facts.patch_ports.insert(port.to_owned(), number);
        }
    }
    desired::compute(view, &facts, options)
}

/// The host's own prefixes and the exposures', each with the neighbours that would be told.
fn routes(config: &Config, desired: &Desired) -> Vec<Route> {
    let mut reasons: BTreeMap<IpNet, Vec<String>> = BTreeMap::new();
    for prefix in &config.advertise.prefixes {
        reasons.entry(prefix.trunc()).or_default().push("[advertise] prefixes".to_owned());
    }
    for prefix in config.advertise.from_files.iter() {
        reasons.entry(prefix.trunc()).or_default().push("[advertise] files".to_owned());
    }
    for exposure in desired.exposures.iter().filter(|exposure| exposure.announce && exposure.waiting.is_none()) {
        reasons.entry(exposure.address).or_default().push(exposure.owner());
    }
    let neighbors = |prefix: &IpNet| config.bgp.neighbors.iter().map(|peer| told(peer, prefix)).collect();
    let route = |(prefix, reasons)| Route { prefix, next_hop: None::<IpAddr>, neighbors: neighbors(&prefix), reasons };
    reasons.into_iter().map(route).collect()
}

/// Whether a neighbour would be told of a prefix.
fn told(peer: &Neighbor, prefix: &IpNet) -> RouteNeighbor {
    let family = Family::of(prefix);
    let refused = if peer.peer.families.contains(family) {
        let denied = peer.peer.prefix_list_out.as_ref().filter(|list| !list.permits(prefix));
        denied.map(|list| format!("prefix list {} denies it", list.name()))
    } else {
        Some(format!("{family} is not among its families"))
    };
    RouteNeighbor {
        neighbor: peer.peer.address.to_string(),
        advertised: refused.is_none(),
        acknowledged: false,
        refused,
    }
}

/// The plan as people read it.
fn say(plan: &Plan) -> String {
    let paint = output::paint();
    let mut routes = plan.routes.clone();
    for neighbor in routes.iter_mut().flat_map(|route| &mut route.neighbors) {
        // Nobody has acknowledged a plan; the word would only be in the way.
        neighbor.acknowledged = neighbor.advertised;
    }
    let mut sections = vec![
        format!("Exposures\n\n{}", text::exposures(&plan.exposures, paint)),
        format!("Announcements\n\n{}", text::routes(&routes, paint)),
        format!("Wiring\n\n{}", text::wiring(&plan.wiring, paint)),
    ];
    let waiting = plan.exposures.iter().filter(|exposure| !exposure.wired);
    let refusals = plan.refusals.iter().map(|refusal| match refusal.address {
        Some(address) => format!("{} ({address}): {}\n", refusal.row, refusal.reason),
        None => format!("{}: {}\n", refusal.row, refusal.reason),
    });
    let silent: String = waiting
        .map(|exposure| format!("{} {}: {}\n", exposure.port, exposure.address, exposure.reasons.join("; ")))
        .chain(refusals)
        .collect();
    if !silent.is_empty() {
        sections.push(format!("Not exposed\n\n{silent}"));
    }
    if !plan.notes.is_empty() {
        sections.push(format!("Notes\n\n{}\n", plan.notes.join("\n")));
    }
    sections.join("\n")
}
