//! Northbound rows as typed values, and the [`View`] with its indexes.
//!
//! A row is parsed once, at the door ([`row`]); a bad one is one [`Warning`] and is absent. Inside, types say it is fine.

use std::fmt;
use std::sync::Arc;

use crate::ovsdb::replica::TableSpec;

mod focus;
mod index;
pub mod row;
mod view;

pub use focus::{Focus, Reach};
pub use row::Warning;
pub use view::{Applied, Touched, View};

/// The tables and columns we monitor. A column the server's schema lacks is left out by the client and reads as empty.
pub const COLUMNS: &[(&str, &[&str])] = &[
    ("Logical_Switch_Port", &["name", "type", "addresses", "up", "options", "tag", "external_ids"]),
    ("NAT", &["type", "external_ip", "external_mac", "logical_ip", "logical_port", "gateway_port", "external_ids"]),
    ("Logical_Switch", &["name", "ports"]),
    ("Logical_Router", &["name", "ports", "nat", "static_routes"]),
    ("Logical_Router_Port", &["name", "mac", "networks", "status", "external_ids"]),
    ("Logical_Router_Static_Route", &["ip_prefix", "nexthop"]),
    ("Load_Balancer", &["name", "vips", "external_ids"]),
    ("NB_Global", &["external_ids"]),
];

/// The keys of their maps that mean something here. Writers touch others all the time.
const KEYS: &[(&str, &str, &[&str])] = &[
    ("Logical_Switch_Port", "options", &["requested-chassis", "network_name", "router-port"]),
    (
        "Logical_Switch_Port",
        "external_ids",
        &[
            "neutron:network_name",
            "neutron:host_id",
            "neutron:cidrs",
            "neutron:device_owner",
            "neutron:device_id",
            "neutron:subnet_pool_addr_scope4",
            "neutron:subnet_pool_addr_scope6",
        ],
    ),
    ("NAT", "external_ids", &["neutron:fip_network_id", "neutron:router_name"]),
    ("Logical_Router_Port", "status", &["hosting-chassis"]),
    ("Logical_Router_Port", "external_ids", &["neutron:network_name", "neutron:router_name"]),
    (
        "Load_Balancer",
        "external_ids",
        &[
            "lr_ref",
            "neutron:router_name",
            "neutron:vip",
            "neutron:vip_fip",
            "neutron:vip_port_id",
            "neutron:network_name",
        ],
    ),
    ("NB_Global", "external_ids", &["neutron:fip-distributed"]),
];

/// What to monitor: [`COLUMNS`], and of maps only the keys that mean something.
pub fn tables() -> Vec<TableSpec> {
    let mut tables = TableSpec::list(COLUMNS);
    for (table, column, keys) in KEYS {
        tables = tables
            .into_iter()
            .map(|spec| if *spec.name == **table { spec.with_keys(column, keys) } else { spec })
            .collect();
    }
    tables
}

/// What Neutron puts before the UUID in the names of switches and routers.
const PREFIX: &str = "neutron-";

/// The name of a switch or a router, in one form: Neutron writes `neutron-<uuid>` in some places and the bare UUID in others,
/// and which one is where has changed with its age.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Arc<str>);

impl Id {
    /// The identity behind either spelling.
    pub fn new(name: &Arc<str>) -> Self {
        // Most spellings carry the prefix, so the form with prefix is the one that costs no allocation.
        if name.starts_with(PREFIX) { Self(Arc::clone(name)) } else { Self(format!("{PREFIX}{name}").into()) }
    }

    /// The name without the prefix.
    pub fn bare(&self) -> &str {
        self.0.strip_prefix(PREFIX).unwrap_or(&self.0)
    }
}

impl From<&str> for Id {
    fn from(name: &str) -> Self {
        Self::new(&Arc::from(name))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_identity() {
        assert_eq!(Id::from("neutron-r1"), Id::from("r1"));
        assert_eq!(Id::from("r1").bare(), "r1");
        assert_eq!(Id::from("r1").to_string(), "neutron-r1");
    }
}
