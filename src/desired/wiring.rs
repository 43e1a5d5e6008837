//! Exposure → kernel and OVS objects. Identity in the outside world is the [`Key`]; the rest of an object is its [`Spec`]; the
//! set of owners says why it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// What makes an object the same object in the kernel or in OVS.
///
/// The order is the order of creation; removal goes the other way round.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// The link is administratively up (never deleted, never set down).
    LinkUp {
        /// Device.
        device: String,
    },
    /// A VLAN device of ours.
    VlanDevice {
        /// Device name, at most 15 octets.
        name: String,
    },
    /// An address that lets the kernel answer ARP and NDP on the device.
    Address {
        /// Device.
        device: String,
        /// Address with prefix length.
        address: IpNet,
    },
    /// A sysctl (never restored).
    Sysctl {
        /// Path below /proc/sys, separated by slashes: `net/ipv4/conf/br-ex/proxy_arp`.
        path: String,
    },
    /// A route in a bridge's table.
    Route {
        /// Table.
        table: u32,
        /// Destination.
        to: IpNet,
    },
    /// An `ip rule` of our priority and protocol.
    Rule {
        /// Destination selector; `None` (per-table mode) matches everything of the family of `v6`.
        to: Option<IpNet>,
        /// Family, for rules without a destination.
        v6: bool,
        /// Table looked up.
        table: u32,
    },
    /// A permanent neighbour.
    Neighbour {
        /// Device.
        device: String,
        /// Address.
        address: IpAddr,
    },
    /// A proxy NDP entry.
    Proxy {
        /// Device.
        device: String,
        /// Address answered for.
        address: Ipv6Addr,
    },
    /// An OpenFlow flow with our cookie in table 0, priority 900.
    Flow {
        /// Bridge.
        bridge: String,
        /// OpenFlow port it matches.
        in_port: u16,
        /// `ipv6` instead of `ip`.
        v6: bool,
    },
}

/// The part of an object that may change while it stays the same object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spec {
    /// Nothing beyond the key.
    Present,
    /// A VLAN device's parent and tag.
    Vlan {
        /// The bridge it sits on.
        parent: String,
        /// 802.1Q tag.
        tag: u16,
    },
    /// A sysctl's value.
    Value(String),
    /// A route's target.
    Route {
        /// Output device.
        device: String,
        /// Gateway (always installed `onlink`), none for directly connected.
        via: Option<IpAddr>,
    },
    /// A neighbour's link-layer address.
    Lladdr(Mac),
    /// A flow's action: rewrite the destination to this, then NORMAL.
    ModDlDst(Mac),
}

/// Objects with their specification and owners (`kind address (port)`; base wiring is owned by the bridge).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// The objects.
    #[serde(skip)]
    pub objects: BTreeMap<Key, Object>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it should be.
    pub spec: Spec,
    /// Who needs it.
    pub owners: BTreeSet<String>,
}

impl Wiring {
    /// Adds `owner` to the object, creating it if needed. The first specification wins; the caller gives equal ones.
    pub fn need(&mut self, key: Key, spec: Spec, owner: &str) {
        self.objects
            .entry(key)
            .or_insert_with(|| Object { spec, owners: BTreeSet::new() })
            .owners
            .insert(owner.to_owned());
    }
}
