//! Provider networks, and the ports on them.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::chain::{Broken, Chain};
use super::{Context, Exposure, Kind, owner};
use crate::nb::Id;
use crate::nb::row::{Port, PortType};

/// A provider network: a switch with a localnet port whose physical network is mapped to a bridge of this host.
#[derive(Clone, Debug)]
pub(super) struct Provider {
    /// Name of the switch.
    pub(super) network: String,
    /// The bridge.
    pub(super) bridge: String,
    /// VLAN tag.
    pub(super) vlan: Option<u16>,
    /// `patch-<localnet>-to-<integration bridge>`.
    pub(super) patch_port: String,
}

/// Resolves a switch. A routed provider network has one localnet port per segment: ours is the one that is mapped here; of
/// several mapped ones the first in the order of the mappings.
pub(super) fn resolve(ctx: &Context<'_>, network: &Id, chain: &mut Chain) -> Result<Provider, Broken> {
    let name = ctx.view.switch_name(network);
    let localnets = ctx.view.localnets(network);
    if localnets.is_empty() {
        return Err(chain.fails(format!("network {name} is not a provider network: it has no localnet port")));
    }
    let physnet = |port: &Port| port.infrastructure.as_ref().and_then(|i| i.physnet.clone());
    let mapped = localnets
        .iter()
        .filter_map(|port| Some((ctx.facts.mapping(&physnet(port)?)?, *port)))
        .min_by_key(|(mapping, port)| (mapping.index, port.name.clone()));
    let Some((mapping, localnet)) = mapped else {
        let physnets: Vec<_> = localnets.iter().filter_map(|port| physnet(port)).collect();
        let what = if physnets.is_empty() {
            format!("network {name}: its localnet port does not name a physical network")
        } else {
            format!(
                "network {name}: physical network {} is not in this host's ovn-bridge-mappings",
                physnets.join(", ")
            )
        };
        return Err(chain.fails(what));
    };
    let vlan = localnet.infrastructure.as_ref().and_then(|i| i.tag);
    let tag = vlan.map(|tag| format!(", VLAN {tag}")).unwrap_or_default();
    chain.holds(format!(
        "network {name} is a provider network: {} is mapped to {}{tag}",
        mapping.physnet, mapping.bridge
    ));
    Ok(Provider {
        network: name,
        bridge: mapping.bridge.clone(),
        vlan,
        patch_port: format!("patch-{}-to-br-int", localnet.name),
    })
}

impl Provider {
    /// An exposure of one address on this network.
    pub(super) fn exposure(&self, address: IpAddr, kind: Kind, port: &str, chain: &Chain) -> Exposure {
        Exposure {
            address: IpNet::from(address),
            kind,
            port: port.to_owned(),
            network: self.network.clone(),
            bridge: self.bridge.clone(),
            vlan: self.vlan,
            mac: None,
            announce: true,
            via: None,
            cidrs: Vec::new(),
            subnet: None,
            routers: Vec::new(),
            patch_port: self.patch_port.clone(),
            reasons: chain.reasons(),
            waiting: None,
        }
    }
}

/// A VM's or a virtual port: exposed by the host that owns it while it is up, if its switch is a provider network.
pub(super) fn port(ctx: &Context<'_>, port: &Port) -> Result<Vec<Exposure>, Broken> {
    let mut chain = Chain::default();
    hosted(ctx, port, &mut chain)?;
    let Some(network) = &port.network else {
        return Err(chain.fails("it is on no switch: neither neutron:network_name nor a Logical_Switch names one"));
    };
    let provider = resolve(ctx, network, &mut chain)?;
    let kind = if port.port_type == PortType::Virtual { Kind::Virtual } else { Kind::Provider };
    let cidrs: Vec<IpNet> = port.cidrs.iter().filter(|cidr| cidr.addr().is_ipv6()).copied().collect();
    let routers = router_conventions(ctx, network, &cidrs);
    let mut exposures = Vec::new();
    for (mac, ip) in port.ips() {
        if !is_announceable(ip) {
            continue;
        }
        let mut exposure = provider.exposure(ip, kind, &port.name, &chain);
        // OVN delivers what it gets for a virtual port's MAC back out of the localnet port: ARP and ND have to find the port
        // that holds the address now.
        exposure.mac = mac.filter(|_| kind == Kind::Provider);
        exposure.cidrs.clone_from(&cidrs);
        exposure.routers.clone_from(&routers);
        exposures.push(exposure);
    }
    if exposures.is_empty() {
        return Err(chain.fails(no_address(port)));
    }
    Ok(exposures)
}

fn no_address(port: &Port) -> String {
    if port.unknown && port.addresses.is_empty() {
        "it has no usable address: OVN knows none (unknown) and neutron:cidrs is empty".to_owned()
    } else {
        "it has no usable IP address".to_owned()
    }
}

/// The conditions on a port that do not depend on where its network leads.
pub(super) fn hosted(ctx: &Context<'_>, port: &Port, chain: &mut Chain) -> Result<(), Broken> {
    exposable(port, chain)?;
    let chassis = &ctx.facts.chassis;
    match owner::of(port) {
        None => return Err(chain.fails("it is bound to no host: no requested-chassis, no neutron:host_id")),
        Some(host) => {
            chain.check(
                chassis.is_me(host),
                || format!("it belongs to this host ({host})"),
                || format!("it belongs to another host ({host}, this is {})", chassis.hostname),
            )?;
        }
    }
    active(port, chain)
}

/// A port that is being migrated goes down on its way.
pub(super) fn active(port: &Port, chain: &mut Chain) -> Result<(), Broken> {
    let holds = || if port.up { "it is up".to_owned() } else { "it is being migrated".to_owned() };
    chain.check(owner::is_active(port), holds, || "it is not up".to_owned())
}

/// The types whose addresses are exposed.
pub(super) fn exposable(port: &Port, chain: &mut Chain) -> Result<(), Broken> {
    let name = &port.name;
    chain.check(
        port.port_type.is_exposable(),
        || format!("Logical_Switch_Port {name}"),
        || {
            let what = match &port.port_type {
                PortType::Other(text) => text,
                PortType::Router => "router",
                PortType::Localnet => "localnet",
                PortType::Vif | PortType::Virtual => "",
            };
            format!("Logical_Switch_Port {name} is of type {what}, whose addresses are not exposed")
        },
    )
}

/// Whether an address makes sense as a route to one host.
pub(super) fn is_announceable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local()),
    }
}

/// Where guests of these IPv6 networks may expect their router, besides the network address: network + 1, unless a port has
/// that address. (Neutron's default gateway has been the one or the other, depending on its version.)
pub(super) fn router_conventions(ctx: &Context<'_>, network: &Id, cidrs: &[IpNet]) -> Vec<Ipv6Addr> {
    let mut routers: Vec<Ipv6Addr> = cidrs
        .iter()
        .filter_map(|cidr| match cidr {
            // Longer prefixes: the address would not end in a group of its own.
            IpNet::V6(net) if net.prefix_len() <= 112 => Some(Ipv6Addr::from_bits(net.network().to_bits() | 1)),
            _ => None,
        })
        .filter(|router| !ctx.view.has_first_address(network, *router))
        .collect();
    routers.sort_unstable();
    routers.dedup();
    routers
}
