//! Kernel and OVS objects as `show wiring` and `plan --json` say them.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::desired::wiring as objects;
use crate::mac::Mac;

/// Everything wired, by kind. Each object names who needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// `ip rule`.
    pub rules: Vec<WiringRule>,
    /// Routes in the bridges' tables.
    pub routes: Vec<WiringRoute>,
    /// Permanent neighbours.
    pub neighbours: Vec<WiringNeighbour>,
    /// Proxy NDP entries.
    pub proxy: Vec<WiringProxy>,
    /// OpenFlow flows.
    pub flows: Vec<WiringFlow>,
    /// Links set up, VLAN devices made.
    pub devices: Vec<WiringDevice>,
    /// Addresses on devices that make the kernel answer ARP and NDP.
    pub addresses: Vec<WiringAddress>,
    /// Sysctls.
    pub sysctls: Vec<WiringSysctl>,
}

/// Whether an object is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectState {
    /// Asked for, not looked at (`plan`).
    #[default]
    Planned,
    /// Seen in the outside world.
    Present,
    /// To be made.
    Missing,
    /// The last attempt to make it failed; retried.
    Failed,
}

/// An `ip rule` of our priority and protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WiringRule {
    /// Destination; `null`: everything of the family.
    pub to: Option<IpNet>,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Table looked up.
    pub table: u32,
    /// Whether it is there.
    pub state: ObjectState,
    /// Who needs it.
    pub owners: Vec<String>,
}

/// A route in a bridge's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WiringRoute {
    /// Destination.
    pub to: IpNet,
    /// Table.
    pub table: u32,
    /// Output device.
    pub device: String,
    /// Gateway.
    pub via: Option<IpAddr>,
    /// Whether it is there.
    pub state: ObjectState,
    /// Who needs it.
    pub owners: Vec<String>,
}

/// A permanent neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WiringNeighbour {
    /// Address.
    pub address: IpAddr,
    /// Device.
    pub device: String,
    /// Link-layer address.
    pub lladdr: Option<Mac>,
    /// Whether it is there.
    pub state: ObjectState,
    /// Who needs it.
    pub owners: Vec<String>,
}

/// A proxy NDP entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WiringProxy {
    /// Address answered for.
    pub address: Ipv6Addr,
    /// Device.
    pub device: String,
    /// Whether it is there.
    pub state: ObjectState,
    /// Who needs it.
    pub owners: Vec<String>,
}

/// A flow with our cookie in table 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WiringFlow {
    /// Bridge.
    pub bridge: String,
    /// OpenFlow port it matches.
    pub in_port: u16,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// The destination it writes before NORMAL.
    pub mod_dl_dst: Option<Mac>,
    /// Whether it is there.
    pub state: ObjectState,
    /// Who needs it.
    pub owners: Vec<String>,
}

/// A link we set up or a VLAN device we made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WiringDevice {
    /// Device.
    pub device: String,
    /// Ours (a VLAN device), or only set up.
    pub ours: bool,
    /// Parent of a VLAN device.
    pub parent: Option<String>,
    /// Tag of a VLAN device.
    pub vlan: Option<u16>,
    /// Whether it is there.
    pub state: ObjectState,
    /// Who needs it.
    pub owners: Vec<String>,
}

/// An address on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WiringAddress {
    /// Address with prefix length.
    pub address: IpNet,
    /// Device.
    pub device: String,
    /// Whether it is there.
    pub state: ObjectState,
    /// Who needs it.
    pub owners: Vec<String>,
}

/// A sysctl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WiringSysctl {
    /// Path below /proc/sys.
    pub path: String,
    /// Value.
    pub value: String,
    /// Whether it is there.
    pub state: ObjectState,
    /// Who needs it.
    pub owners: Vec<String>,
}

fn family(v6: bool) -> String {
    if v6 { "ipv6" } else { "ipv4" }.to_owned()
}

impl Wiring {
    /// The objects in the order they would be made, each with what `state` says of it.
    pub fn new(wiring: &objects::Wiring, state: impl Fn(&objects::Key) -> ObjectState) -> Self {
        let mut all = Self::default();
        for (key, object) in &wiring.objects {
            all.add(key, &object.spec, state(key), object.owners.iter().cloned().collect());
        }
        all
    }

    /// Adds one object.
    pub fn add(&mut self, key: &objects::Key, spec: &objects::Spec, state: ObjectState, owners: Vec<String>) {
        use objects::{Key, Spec};
        match key {
            Key::LinkUp { device } => {
                let device = device.clone();
                self.devices.push(WiringDevice { device, ours: false, parent: None, vlan: None, state, owners });
            }
            Key::VlanDevice { name } => {
                let (parent, vlan) = match spec {
                    Spec::Vlan { parent, tag } => (Some(parent.clone()), Some(*tag)),
                    _ => (None, None),
                };
                self.devices.push(WiringDevice { device: name.clone(), ours: true, parent, vlan, state, owners });
            }
            Key::Address { device, address } => {
                self.addresses.push(WiringAddress { address: *address, device: device.clone(), state, owners });
            }
            Key::Sysctl { path } => {
                let value = if let Spec::Value(value) = spec { value.clone() } else { String::new() };
                self.sysctls.push(WiringSysctl { path: path.clone(), value, state, owners });
            }
            Key::Route { table, to } => {
                let (device, via) = match spec {
                    Spec::Route { device, via } => (device.clone(), *via),
                    _ => (String::new(), None),
                };
                self.routes.push(WiringRoute { to: *to, table: *table, device, via, state, owners });
            }
            Key::Rule { to, v6, table } => {
                let v6 = to.map_or(*v6, |to| matches!(to, IpNet::V6(_)));
                self.rules.push(WiringRule { to: *to, family: family(v6), table: *table, state, owners });
            }
            Key::Neighbour { device, address } => {
                let lladdr = if let Spec::Lladdr(mac) = spec { Some(*mac) } else { None };
                self.neighbours.push(WiringNeighbour {
                    address: *address,
                    device: device.clone(),
                    lladdr,
                    state,
                    owners,
                });
            }
            Key::Proxy { device, address } => {
                self.proxy.push(WiringProxy { address: *address, device: device.clone(), state, owners });
            }
            Key::Flow { bridge, in_port, v6 } => {
                let mod_dl_dst = if let Spec::ModDlDst(mac) = spec { Some(*mac) } else { None };
                self.flows.push(WiringFlow {
                    bridge: bridge.clone(),
                    in_port: *in_port,
                    family: family(*v6),
                    mod_dl_dst,
                    state,
                    owners,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_apart_by_kind() {
        let mut wiring = objects::Wiring::default();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let to: IpNet = "203.0.113.9/32".parse().unwrap();
        wiring.need(
            objects::Key::Rule { to: Some(to), v6: false, table: 201 },
            objects::Spec::Present,
            "provider 203.0.113.9/32 (vm1)",
        );
        wiring.need(
            objects::Key::Flow { bridge: "br-ex".into(), in_port: 3, v6: true },
            objects::Spec::ModDlDst(mac),
            "br-ex",
        );
        let shown = Wiring::new(&wiring, |key| match key {
            objects::Key::Rule { .. } => ObjectState::Present,
            _ => ObjectState::Missing,
        });
        let text = serde_json::to_string(&shown).unwrap();
        assert!(
            text.contains(r#""rules":[{"to":"203.0.113.9/32","family":"ipv4","table":201,"state":"present""#),
            "{text}"
        );
        assert!(text.contains(r#""family":"ipv6","mod_dl_dst":"02:00:00:00:00:01","state":"missing""#), "{text}");
    }
}
