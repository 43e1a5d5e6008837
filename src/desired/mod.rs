//! The rules: Northbound view + host facts + options → everything this host should wire and announce. Pure.
//!
//! [`compute`] starts from what is local – my ports, my gateways, their routers – so that its cost follows that and not the size
//! of the cloud. Each rule is a function of one row that returns what to expose, or the first condition that failed; the same
//! functions answer [`explain`].
//!
//! | module | rule |
//! |---|---|
//! | [`owner`] | which host a port belongs to |
//! | `provider` | provider networks and the ports on them |
//! | `floating_ip` | floating IPs by NAT row |
//! | `gateway` | router gateway ports |
//! | `tenant` | tenant subnets and the addresses in them |
//! | `load_balancer` | VIPs, their floating IPs, port forwards |
//! | [`wiring`] | what an exposure needs in the kernel and in OVS |

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::host::Facts;
use crate::mac::Mac;
use crate::nb::View;
use crate::nb::row::Port;

mod chain;
mod explain;
mod floating_ip;
mod gateway;
mod incremental;
mod load_balancer;
mod names;
pub mod owner;
mod provider;
mod scope;
mod tenant;
#[cfg(test)]
pub(crate) mod testing;
pub mod wiring;

pub use explain::{Condition, explain};
pub use incremental::{Delta, update};
pub use scope::Scope;

/// The kinds of thing that get exposed.
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

impl Kind {
    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Virtual => "virtual",
            Self::FloatingIp => "floating_ip",
            Self::Gateway => "gateway",
            Self::Subnet => "subnet",
            Self::Tenant => "tenant",
            Self::LoadBalancer => "load_balancer",
            Self::LoadBalancerFip => "load_balancer_fip",
            Self::PortForward => "port_forward",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How tenant networks are announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantAdvertisement {
    /// Every address, /32 or /128.
    #[default]
    Host,
    /// The subnets.
    Subnet,
}

/// The form of the routing rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// One rule for each address or subnet; the bridge's table has default routes.
    #[default]
    PerPrefix,
    /// One rule for each bridge and family; its table has no default route, so that what it does not hold falls through.
    PerTable,
}

/// What the configuration says about the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Expose tenant networks on the gateway's host.
    pub expose_tenant_networks: bool,
    /// Expose only the global IPv6 part of them; means nothing if all are exposed.
    pub expose_ipv6_gua_tenant_networks: bool,
    /// How tenant networks are announced.
    pub tenant_advertisement: TenantAdvertisement,
    /// Leave out tenant subnets behind SNAT.
    pub require_snat_disabled_for_tenant_networks: bool,
    /// Expose only tenant subnets of these address scopes; all if empty.
    pub address_scopes: BTreeSet<String>,
    /// The form of the routing rules.
    pub rules: Rules,
}

impl Options {
    fn exposes_tenants(&self) -> bool {
        self.expose_tenant_networks || self.expose_ipv6_gua_tenant_networks
    }
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
    /// The tenant subnet whose rule and route carry its traffic; none where it has its own.
    #[serde(default)]
    pub subnet: Option<IpNet>,
    /// Further addresses its guests or router may take for their IPv6 router.
    #[serde(default)]
    pub routers: Vec<Ipv6Addr>,
    /// The patch port (`patch-<localnet>-to-br-int`) its traffic passes.
    pub patch_port: String,
    /// Why: the chain of conditions that holds, in the order checked; what `explain` prints.
    pub reasons: Vec<String>,
    /// What has to be there before it can be wired completely and announced.
    #[serde(default)]
    pub waiting: Option<String>,
}

impl Exposure {
    /// How it is called as an owner of wiring: `kind address (port)`.
    pub fn owner(&self) -> String {
        format!("{} {} ({})", self.kind, self.address, self.port)
    }
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
    pub routes: BTreeMap<IpNet, Arc<BTreeSet<wiring::Key>>>,
}

/// What every rule sees.
struct Context<'a> {
    view: &'a View,
    facts: &'a Facts,
    options: &'a Options,
}

impl<'a> Context<'a> {
    /// The ports that belong to this host, under either of its names.
    fn my_ports(&self) -> impl Iterator<Item = &'a Port> + use<'a> {
        let (view, chassis) = (self.view, &self.facts.chassis);
        let names: BTreeSet<&'a str> =
            [&*chassis.hostname, &*chassis.system_id].into_iter().filter(|name| !name.is_empty()).collect();
        names.into_iter().flat_map(|name| view.ports_by_host(name))
    }
}

/// What the rules say.
#[derive(Debug, Default)]
struct Out {
    exposures: BTreeSet<Exposure>,
    refusals: BTreeSet<Refusal>,
}

impl Out {
    /// Takes over what a rule said about a row.
    fn take(&mut self, verdict: Result<Vec<Exposure>, chain::Broken>, table: &str, row: &str, address: Option<IpAddr>) {
        match verdict {
            Ok(exposures) => self.exposures.extend(exposures),
            Err(broken) => self.refuse(broken, table, row, address.map(IpNet::from)),
        }
    }

    fn refuse(&mut self, broken: chain::Broken, table: &str, row: &str, address: Option<IpNet>) {
        self.refusals.insert(Refusal { address, row: format!("{table} {row}"), reason: broken.fails });
    }
}

/// Everything this host should wire and announce.
pub fn compute(view: &View, facts: &Facts, options: &Options) -> Desired {
    let ctx = Context { view, facts, options };
    let mut out = Out::default();
    for port in ctx.my_ports() {
        incremental::of_port(&ctx, port, &mut out);
    }
    let mut gateways = Vec::new();
    for (uuid, port) in view.gateways(&facts.chassis.system_id) {
        let address = port.networks.first().map(IpNet::addr);
        match gateway::hosted(&ctx, uuid, port) {
            Ok(hosted) => {
                out.take(gateway::exposures(&ctx, &hosted), "Logical_Router_Port", &port.name, address);
                gateways.push(hosted);
            }
            Err(broken) => out.take(Err(broken), "Logical_Router_Port", &port.name, address),
        }
    }
    floating_ip::all(&ctx, &gateways, &mut out);
    let subnets = tenant::subnets(&ctx, &gateways, &mut out);
    tenant::subnet_exposures(&ctx, &subnets, &mut out);
    tenant::ports(&ctx, &subnets, &mut out);
    load_balancer::all(&ctx, &gateways, &subnets, &mut out);

    let wiring::Wired { exposures, wiring, routes } = wiring::wire(out.exposures, facts, options);
    Desired { exposures, refusals: out.refusals, wiring, routes }
}
