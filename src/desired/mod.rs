//! The rules: Northbound view + host facts + options → everything this host should wire and announce. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::mac::Mac;

pub mod wiring;

/// The kinds of thing that get exposed (`agent-behaviour` §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// VM, amphora or trunk subport on a provider network.
    Provider,
    /// Virtual port (VIP) on a provider network.
    Virtual,
    /// Floating IP, distributed or centralised.
    FloatingIp,
    /// Router gateway port address.
    Gateway,
    /// Tenant subnet behind a router hosted here.
    Subnet,
    /// VM or VIP on a tenant network.
    Tenant,
    /// Load balancer VIP.
    LoadBalancer,
    /// Floating IP of a load balancer VIP.
    LoadBalancerFip,
    /// Port forwarding floating IP.
    PortForward,
}

/// One address or prefix this host should attract, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Exposure {
    /// /32, /128 or (tenant subnets) the network.
    pub address: IpNet,
    /// What it is.
    pub kind: Kind,
    /// Name of the Logical_Switch_Port, Logical_Router_Port or Load_Balancer it belongs to.
    pub port: String,
    /// Name of the Logical_Switch whose localnet carries the traffic (`neutron-…`).
    pub network: String,
    /// Provider bridge.
    pub bridge: String,
    /// VLAN tag of the provider network.
    pub vlan: Option<u16>,
    /// Link-layer address for the permanent neighbour; none where ARP/ND has to find it.
    pub mac: Option<Mac>,
    /// Whether it is announced (a subnet of the `host` method is only wired).
    pub announce: bool,
    /// Subnets and tenant addresses: the gateway addresses of the router they are reached through.
    pub via: Option<IpAddr>,
    /// Interface addresses (`ip/len`) whose IPv6 networks need a proxy NDP entry.
    pub cidrs: Vec<IpNet>,
    /// The patch port (`patch-<localnet>-to-br-int`) its traffic passes.
    pub patch_port: String,
    /// Why: the chain of conditions that holds, in the order checked; what `explain` prints.
    pub reasons: Vec<String>,
}

/// Why something is not exposed here although a row names this host or this address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// The address; none where the row has no usable one.
    pub address: Option<IpNet>,
    /// The row, for example `Logical_Switch_Port port-1`.
    pub row: String,
    /// The first condition that failed.
    pub reason: String,
}

/// Everything this host should wire and announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// What is exposed. The same address may stand here more than once, with different owners.
    pub exposures: BTreeSet<Exposure>,
    /// What is not, and why.
    pub refusals: BTreeSet<Refusal>,
    /// Kernel and OVS objects with the exposures that need them.
    pub wiring: wiring::Wiring,
    /// Prefixes to announce → keys of the objects each needs before it may be announced.
    pub routes: BTreeMap<IpNet, BTreeSet<wiring::Key>>,
}
