//! Facts of this hypervisor: what the local Open_vSwitch database and the kernel's link table say.

pub mod facts;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// Who this host is in OVN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chassis {
    /// `external_ids:hostname`, else the kernel's host name; compared with `requested-chassis` and `neutron:host_id`.
    pub hostname: String,
    /// `external_ids:system-id`; compared with `hosting-chassis`.
    pub system_id: String,
}

impl Chassis {
    /// Whether `name` means this host. OVN accepts either name in `requested-chassis`.
    pub fn is_me(&self, name: &str) -> bool {
        !name.is_empty() && (name == self.hostname || name == self.system_id)
    }
}

/// One `physnet:bridge` item of `ovn-bridge-mappings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeMapping {
    /// Physical network.
    pub physnet: String,
    /// OVS bridge, also the name of the kernel device.
    pub bridge: String,
    /// 1-based position in the list, counting items that were skipped: an input of the address plan.
    pub index: u32,
}

/// What is known of one mapped bridge. Fields are `None` while the thing is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The kernel device of the bridge (the LOCAL port): interface index.
    pub ifindex: Option<u32>,
    /// MAC of the kernel device; what `mod_dl_dst` writes.
    pub mac: Option<Mac>,
    /// The device is administratively up.
    pub up: bool,
    /// The Bridge row exists in the local OVSDB.
    pub in_ovs: bool,
    /// OpenFlow port numbers of the bridge's patch ports, by name; a port without a valid ofport is absent.
    pub patch_ports: BTreeMap<String, u16>,
    /// The routing table of the bridge (id from rt_tables), once chosen.
    pub table: Option<u32>,
}

/// A kernel device that is no mapped bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Interface index.
    pub ifindex: u32,
    /// Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Administratively up.
    pub up: bool,
}

/// Facts of this hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Who we are.
    pub chassis: Chassis,
    /// `ovn-bridge-mappings`, in order.
    pub bridge_mappings: Vec<BridgeMapping>,
    /// Every mapped bridge, by name.
    pub bridges: BTreeMap<String, Bridge>,
    /// Other kernel devices by name: VLAN devices are among them, whoever made them.
    pub devices: BTreeMap<String, Device>,
    /// `external_ids:ovn-nb-remote`.
    pub nb_remote: Option<String>,
    /// Whether the kernel can make VLAN devices (8021q).
    pub vlan_devices: bool,
}

impl Facts {
    /// The bridge a physical network is mapped to, with its 1-based position.
    pub fn mapping(&self, physnet: &str) -> Option<&BridgeMapping> {
        self.bridge_mappings.iter().find(|m| m.physnet == physnet)
    }
}
