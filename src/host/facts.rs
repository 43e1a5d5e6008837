//! What the local Open_vSwitch database says of this hypervisor.

use std::collections::BTreeMap;

use super::{Bridge, BridgeMapping, Chassis, Device, Facts};
use crate::mac::Mac;
use crate::ovsdb::value::{Atom, Database, Row, Table, Uuid, Value};

/// The tables and columns [`from_database`] reads.
pub const COLUMNS: &[(&str, &[&str])] = &[
    ("Open_vSwitch", &["external_ids"]),
    ("Bridge", &["name", "ports"]),
    ("Port", &["name", "interfaces"]),
    ("Interface", &["name", "type", "ofport"]),
];

/// Where `ovn-controller` looks for a system-id that goes before the database's (one line).
pub const SYSTEM_ID_OVERRIDE: &str = "/etc/ovn/system-id-override";

/// Names that go before those of the database: from the configuration, or from the override file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Host name.
    pub hostname: Option<String>,
    /// System-id.
    pub system_id: Option<String>,
}

/// One network device of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Administratively up.
    pub up: bool,
}

/// The facts, with a warning for each thing that is wrong in the database. Whatever the kernel knows is still missing: see
/// [`Facts::with_links`]. `kernel_hostname` counts where neither overrides nor database name the host.
pub fn from_database(database: &Database, overrides: &Overrides, kernel_hostname: &str) -> (Facts, Vec<String>) {
    let mut warnings = Vec::new();
    let ids = ExternalIds::new(database, overrides);
    if ids.system_id.is_empty() {
        warnings.push("external_ids:system-id is missing: gateway ports cannot be recognised".to_owned());
    }
    let chassis = Chassis {
        hostname: overrides.hostname.as_deref().or_else(|| ids.get("hostname")).unwrap_or(kernel_hostname).to_owned(),
        system_id: ids.system_id.clone(),
    };
    let bridge_mappings = bridge_mappings(ids.get("ovn-bridge-mappings").unwrap_or_default(), &mut warnings);
    let present = Bridges::new(database);
    let bridges = bridge_mappings.iter().map(|m| (m.bridge.clone(), present.get(&m.bridge))).collect();
    let nb_remote = ids.get("ovn-nb-remote").map(ToOwned::to_owned);
    (Facts { chassis, bridge_mappings, bridges, nb_remote, ..Facts::default() }, warnings)
}

impl Facts {
    /// Who we are, where the database does not say it any more: as `before`. A system-id that is taken away makes nobody else of
    /// this host, and its gateways do not move for it.
    #[must_use]
    pub fn remembering(mut self, before: &Self) -> Self {
        if self.chassis.system_id.is_empty() {
            self.chassis.system_id.clone_from(&before.chassis.system_id);
        }
        self
    }

    /// These facts with what the kernel's link table says of bridges and other devices.
    #[must_use]
    pub fn with_links(mut self, links: impl IntoIterator<Item = Link>) -> Self {
        self.devices.clear();
        for bridge in self.bridges.values_mut() {
            (bridge.ifindex, bridge.mac, bridge.up) = (None, None, false);
        }
        for link in links {
            if let Some(bridge) = self.bridges.get_mut(&link.name) {
                (bridge.ifindex, bridge.mac, bridge.up) = (Some(link.ifindex), link.mac, link.up);
            } else {
                self.devices.insert(link.name, Device { ifindex: link.ifindex, mac: link.mac, up: link.up });
            }
        }
        self
    }
}

/// `Open_vSwitch.external_ids`, read the way `ovn-controller` does: `KEY-<system-id>` goes before `KEY`, so that several
/// controllers can share one database.
struct ExternalIds {
    map: Option<Value>,
    system_id: String,
}

impl ExternalIds {
    fn new(database: &Database, overrides: &Overrides) -> Self {
        let row = database.get("Open_vSwitch").and_then(|table| table.values().next());
        let map = row.and_then(|mut row| row.remove("external_ids"));
        let of_database = || map.as_ref().and_then(|map| map.get("system-id")).map(|id| id.trim().to_owned());
        let system_id = overrides.system_id.clone().or_else(of_database).unwrap_or_default();
        Self { map, system_id }
    }

    fn get(&self, key: &str) -> Option<&str> {
        let map = self.map.as_ref()?;
        map.get(&format!("{key}-{}", self.system_id)).or_else(|| map.get(key)).map(str::trim).filter(|v| !v.is_empty())
    }
}

/// Parses `physnet:bridge[,physnet:bridge…]`. Items that are no such pair are skipped, but keep their number.
fn bridge_mappings(text: &str, warnings: &mut Vec<String>) -> Vec<BridgeMapping> {
    let mut mappings = Vec::new();
    if text.is_empty() {
        return mappings;
    }
    for (item, index) in text.split(',').map(str::trim).zip(1..) {
        match item.split(':').map(str::trim).collect::<Vec<_>>().as_slice() {
            [physnet, bridge] if !physnet.is_empty() && !bridge.is_empty() => {
                mappings.push(BridgeMapping { physnet: (*physnet).to_owned(), bridge: (*bridge).to_owned(), index });
            }
            _ => warnings.push(format!("ovn-bridge-mappings: item {index}, '{item}', is not PHYSNET:BRIDGE; skipped")),
        }
    }
    mappings
}

/// The vswitch's bridges by name.
struct Bridges<'a> {
    by_name: BTreeMap<String, Row>,
    ports: Option<&'a Table>,
    interfaces: Option<&'a Table>,
}

impl<'a> Bridges<'a> {
    fn new(database: &'a Database) -> Self {
        let rows = database.get("Bridge").into_iter().flat_map(Table::values);
        let named = |row: Row| Some((row.get("name")?.as_str()?.to_owned(), row));
        Self {
            by_name: rows.filter_map(named).collect(),
            ports: database.get("Port"),
            interfaces: database.get("Interface"),
        }
    }

    fn get(&self, name: &str) -> Bridge {
        let Some(row) = self.by_name.get(name) else { return Bridge::default() };
        let ports = references(row, "ports").filter_map(|uuid| self.ports?.get(&uuid));
        let interfaces =
            ports.flat_map(|port| references(&port, "interfaces")).filter_map(|uuid| self.interfaces?.get(&uuid));
        Bridge {
            in_ovs: true,
            patch_ports: interfaces.filter_map(|row| patch_port(&row)).collect(),
            ..Bridge::default()
        }
    }
}

fn references(row: &Row, column: &str) -> impl Iterator<Item = Uuid> + use<> {
    let atoms = match row.get(column) {
        Some(Value::Set(atoms)) => atoms.clone(),
        _ => Vec::new(),
    };
    atoms.into_iter().filter_map(|atom| if let Atom::Uuid(uuid) = atom { Some(uuid) } else { None })
}

/// Name and OpenFlow port number, if this is a patch port that has a number: the vswitch sets -1 when it could not add the port, and
/// nothing before it tried.
fn patch_port(interface: &Row) -> Option<(String, u16)> {
    if interface.get("type")?.as_str()? != "patch" {
        return None;
    }
    let Value::Set(ofport) = interface.get("ofport")? else { return None };
    let [Atom::Integer(number)] = ofport.as_slice() else { return None };
    let number = u16::try_from(*number).ok().filter(|n| *n > 0)?;
    Some((interface.get("name")?.as_str()?.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Atom {
        Atom::String(text.into())
    }

    fn row(columns: &[(&str, Value)]) -> Row {
        columns.iter().map(|(name, value)| ((*name).into(), value.clone())).collect()
    }

    fn local(external_ids: &[(&str, &str)]) -> Database {
        let map = Value::Map(external_ids.iter().map(|(k, v)| (string(k), string(v))).collect());
        [("Open_vSwitch".into(), [(Uuid::from_u128(1), row(&[("external_ids", map)]))].into())].into()
    }

    /// Adds a bridge with one port per (name, type, ofport).
    fn add_bridge(database: &mut Database, name: &str, ports: &[(&str, &str, Option<i64>)]) {
        let mut uuids = Vec::new();
        for (port, port_type, ofport) in ports {
            let uuid = Uuid::from_u128(100 + database.get("Port").map_or(0, Table::len) as u128);
            let ofport = Value::Set(ofport.iter().map(|n| Atom::Integer(*n)).collect());
            let name = Value::Set(vec![string(port)]);
            let interface =
                row(&[("name", name.clone()), ("type", Value::Set(vec![string(port_type)])), ("ofport", ofport)]);
            database.entry("Interface".into()).or_default().insert(uuid, interface);
            let port = row(&[("name", name), ("interfaces", Value::Set(vec![Atom::Uuid(uuid)]))]);
            database.entry("Port".into()).or_default().insert(uuid, port);
            uuids.push(Atom::Uuid(uuid));
        }
        let bridge = row(&[("name", Value::Set(vec![string(name)])), ("ports", Value::Set(uuids))]);
        let uuid = Uuid::from_u128(50 + database.get("Bridge").map_or(0, Table::len) as u128);
        database.entry("Bridge".into()).or_default().insert(uuid, bridge);
    }

    fn read(database: &Database) -> (Facts, Vec<String>) {
        from_database(database, &Overrides::default(), "kernel-name")
    }

    #[test]
    fn a_usual_hypervisor() {
        let mut database = local(&[
            ("system-id", "sys-1"),
            ("hostname", "compute-1"),
            ("ovn-nb-remote", "tcp:172.17.0.30:6641"),
            ("ovn-bridge-mappings", "datacentre:br-ex"),
        ]);
        add_bridge(
            &mut database,
            "br-ex",
            &[
                ("br-ex", "internal", Some(65534)),
                ("patch-provnet-1-to-br-int", "patch", Some(2)),
                ("eth1", "", Some(1)),
            ],
        );
        let (facts, warnings) = read(&database);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(facts.chassis, Chassis { hostname: "compute-1".to_owned(), system_id: "sys-1".to_owned() });
        assert_eq!(facts.nb_remote.as_deref(), Some("tcp:172.17.0.30:6641"));
        let mapping = BridgeMapping { physnet: "datacentre".to_owned(), bridge: "br-ex".to_owned(), index: 1 };
        assert_eq!(facts.mapping("datacentre"), Some(&mapping));
        let bridge = &facts.bridges["br-ex"];
        assert!(bridge.in_ovs && bridge.ifindex.is_none());
        assert_eq!(bridge.patch_ports, BTreeMap::from([("patch-provnet-1-to-br-int".to_owned(), 2)]));
    }

    #[test]
    fn a_patch_port_without_number_is_not_there_yet() {
        let mut database = local(&[("system-id", "s"), ("ovn-bridge-mappings", "p:br-ex")]);
        let ports =
            [("a", "patch", None), ("b", "patch", Some(-1)), ("c", "patch", Some(0)), ("d", "patch", Some(70_000))];
        add_bridge(&mut database, "br-ex", &ports);
        assert!(read(&database).0.bridges["br-ex"].patch_ports.is_empty());
    }

    #[test]
    fn only_ports_of_the_bridge_itself_count() {
        let mut database = local(&[("system-id", "s"), ("ovn-bridge-mappings", "p:br-ex,q:br-gone")]);
        add_bridge(&mut database, "br-int", &[("patch-br-int-to-1", "patch", Some(9))]);
        add_bridge(&mut database, "br-ex", &[("patch-1-to-br-int", "patch", Some(3))]);
        let facts = read(&database).0;
        assert_eq!(facts.bridges.keys().collect::<Vec<_>>(), ["br-ex", "br-gone"], "mapped bridges, present or not");
        assert_eq!(facts.bridges["br-ex"].patch_ports.len(), 1);
        assert_eq!(facts.bridges["br-gone"], Bridge::default());
    }

    #[test]
    fn skipped_mappings_keep_their_number() {
        let mut warnings = Vec::new();
        let mappings = bridge_mappings("a:br-a, ,b:br-b:x, c : br-c ,d,e:", &mut warnings);
        let seen: Vec<_> = mappings.iter().map(|m| (&*m.physnet, &*m.bridge, m.index)).collect();
        assert_eq!(seen, [("a", "br-a", 1), ("c", "br-c", 4)]);
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert!(bridge_mappings("", &mut Vec::new()).is_empty());
    }

    #[test]
    fn keys_with_our_system_id_go_first() {
        let database = local(&[
            ("system-id", "sys-1"),
            ("hostname", "common"),
            ("hostname-sys-1", "mine"),
            ("hostname-sys-2", "other"),
            ("ovn-bridge-mappings", "p:br-common"),
            ("ovn-bridge-mappings-sys-1", "p:br-mine"),
        ]);
        let facts = read(&database).0;
        assert_eq!((&*facts.chassis.hostname, &*facts.bridge_mappings[0].bridge), ("mine", "br-mine"));
        let overrides = Overrides { system_id: Some("sys-2".to_owned()), hostname: None };
        let facts = from_database(&database, &overrides, "k").0;
        assert_eq!((&*facts.chassis.hostname, &*facts.chassis.system_id), ("other", "sys-2"));
        assert_eq!(facts.bridge_mappings[0].bridge, "br-common");
    }

    #[test]
    fn without_a_host_name_the_kernels_counts_and_without_a_system_id_there_is_a_warning() {
        for database in [local(&[]), Database::new()] {
            let (facts, warnings) = read(&database);
            assert_eq!(facts.chassis.hostname, "kernel-name");
            assert_eq!(warnings.len(), 1, "{warnings:?}");
        }
        let configured = Overrides { hostname: Some("given".to_owned()), system_id: Some("s".to_owned()) };
        let (facts, warnings) = from_database(&local(&[("hostname", "x")]), &configured, "k");
        assert_eq!((&*facts.chassis.hostname, warnings.len()), ("given", 0));
    }

    #[test]
    fn a_system_id_that_is_taken_away_is_remembered_and_another_one_counts() {
        let known = read(&local(&[("system-id", "sys-1")])).0;
        let system_id = |ids: &[(&str, &str)]| read(&local(ids)).0.remembering(&known).chassis.system_id;
        assert_eq!(system_id(&[]), "sys-1");
        assert_eq!(system_id(&[("system-id", "sys-2")]), "sys-2");
    }

    #[test]
    fn links_complete_bridges_and_devices() {
        let mac = "fa:16:3e:00:00:01".parse().unwrap();
        let link = |name: &str, ifindex, up| Link { name: name.to_owned(), ifindex, mac: Some(mac), up };
        let facts = read(&local(&[("ovn-bridge-mappings", "p:br-ex")])).0;
        let facts = facts.with_links([link("br-ex", 7, true), link("vlan.20", 8, false)]);
        let bridge = &facts.bridges["br-ex"];
        assert_eq!((bridge.ifindex, bridge.mac, bridge.up), (Some(7), Some(mac), true));
        assert_eq!(
            facts.devices,
            BTreeMap::from([("vlan.20".to_owned(), Device { ifindex: 8, mac: Some(mac), up: false })])
        );
        let facts = facts.with_links([]);
        assert_eq!((facts.bridges["br-ex"].ifindex, facts.devices.len()), (None, 0), "what is gone is gone");
    }
}
