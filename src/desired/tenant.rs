//! Tenant networks: reached through the gateway port of their router, by the host that has it.
//!
//! A tenant address is announced only while it lies in a subnet that is wired here, so that the filters – address scopes, global
//! IPv6 only, no SNAT – apply to subnets, ports and VIPs alike, whenever they arrive.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::chain::{Broken, Chain};
use super::gateway::Gateway;
use super::{Context, Exposure, Kind, Out, TenantAdvertisement, provider};
use crate::nb::Id;
use crate::nb::row::{NatType, Port};

/// A tenant subnet that is reached through a gateway port hosted here.
#[derive(Clone, Debug)]
pub(super) struct Subnet<'a> {
    pub(super) cidr: IpNet,
    pub(super) network: Option<Id>,
    pub(super) router: Id,
    pub(super) interface: &'a Port,
    pub(super) gateway: &'a Gateway<'a>,
    pub(super) via: IpAddr,
    chain: Chain,
}

impl Subnet<'_> {
    /// An address in this subnet.
    pub(super) fn exposure(&self, address: IpNet, kind: Kind, port: &str, chain: &Chain) -> Exposure {
        let mut exposure = self.gateway.provider.exposure(address.addr(), kind, port, chain);
        exposure.address = address;
        exposure.via = Some(self.via);
        exposure.subnet = Some(self.cidr);
        exposure
    }

    /// Why it is not exposed when nothing else is wrong with it.
    pub(super) fn overlaps(&self) -> Broken {
        self.chain.fails(format!("{} of another network is routed here already", self.cidr))
    }

    /// How to call it.
    pub(super) fn reason(&self) -> String {
        let gateway = &self.gateway.port.name;
        format!("it is in {}, which is routed here through {gateway} ({})", self.cidr, self.via)
    }
}

/// The subnets behind the gateways hosted here, sorted by prefix; one prefix of several networks only once.
pub(super) fn subnets<'a>(ctx: &Context<'a>, gateways: &'a [Gateway<'a>], out: &mut Out) -> Vec<Subnet<'a>> {
    let mut by_router: BTreeMap<&Id, Vec<&Gateway<'_>>> = BTreeMap::new();
    for gateway in gateways {
        if let Some(router) = &gateway.router {
            by_router.entry(router).or_default().push(gateway);
        }
    }
    let mut found = Vec::new();
    for (router, gateways) in by_router {
        for interface in ctx.view.interfaces(router) {
            for cidr in &interface.cidrs {
                match subnet(ctx, router, &gateways, interface, *cidr) {
                    Ok(subnet) => found.push(subnet),
                    Err(broken) => out.refuse(broken, "Logical_Switch_Port", &interface.name, Some(cidr.trunc())),
                }
            }
        }
    }
    found.sort_by(|a, b| (a.cidr, &a.interface.name, &a.network).cmp(&(b.cidr, &b.interface.name, &b.network)));
    let mut first: BTreeMap<IpNet, Option<Id>> = BTreeMap::new();
    found.retain(|subnet| {
        let owner = first.entry(subnet.cidr).or_insert_with(|| subnet.network.clone());
        let same = *owner == subnet.network;
        if !same {
            out.refuse(subnet.overlaps(), "Logical_Switch_Port", &subnet.interface.name, Some(subnet.cidr));
        }
        same
    });
    found
}

/// One interface address of a router whose gateways are `gateways`.
pub(super) fn subnet<'a>(
    ctx: &Context<'_>,
    router: &Id,
    gateways: &[&'a Gateway<'a>],
    interface: &'a Port,
    cidr: IpNet,
) -> Result<Subnet<'a>, Broken> {
    let mut chain = Chain::default();
    let options = ctx.options;
    chain.holds(format!("Logical_Switch_Port {} is an interface of router {router}", interface.name));
    chain.check(
        options.exposes_tenants(),
        || "tenant networks are exposed".to_owned(),
        || "tenant networks are not exposed (expose_tenant_networks is off)".to_owned(),
    )?;
    chain.check(interface.up, || "it is up".to_owned(), || "it is not up".to_owned())?;
    if let Some(network) = &interface.network {
        let provider = provider::resolve(ctx, network, &mut Chain::default()).is_ok();
        chain.check(
            !provider,
            || format!("{network} is a tenant network"),
            || format!("{network} is a provider network here: its ports are reached directly"),
        )?;
    }
    filters(ctx, router, interface, cidr, &mut chain)?;
    let gateway = gateways.iter().find_map(|gateway| Some((*gateway, gateway.address_like(cidr.addr())?)));
    let Some((gateway, via)) = gateway else {
        return Err(chain.fails("no gateway port of the router hosted here has an address of its family"));
    };
    chain.append(&gateway.chain);
    let (network, router) = (interface.network.clone(), router.clone());
    Ok(Subnet { cidr: cidr.trunc(), network, router, interface, gateway, via, chain })
}

/// The filters of the configuration.
fn filters(ctx: &Context<'_>, router: &Id, interface: &Port, cidr: IpNet, chain: &mut Chain) -> Result<(), Broken> {
    let options = ctx.options;
    if !options.expose_tenant_networks {
        chain.check(
            is_global(cidr.addr()),
            || format!("{cidr} is global IPv6"),
            || format!("{cidr} is not global IPv6, and only that is exposed (expose_ipv6_gua_tenant_networks)"),
        )?;
    }
    if !options.address_scopes.is_empty() {
        let infrastructure = interface.infrastructure.as_deref();
        let scope = match cidr {
            IpNet::V4(_) => infrastructure.and_then(|i| i.scope4.as_deref()),
            IpNet::V6(_) => infrastructure.and_then(|i| i.scope6.as_deref()),
        };
        let allowed = scope.is_some_and(|scope| options.address_scopes.contains(scope));
        let name = scope.unwrap_or("none");
        chain.check(
            allowed,
            || format!("its address scope {name} is exposed"),
            || format!("its address scope ({name}) is not among address_scopes"),
        )?;
    }
    if options.require_snat_disabled_for_tenant_networks {
        let translated = ctx.view.nats_of_router(router).values().any(|nat| {
            nat.nat_type == NatType::Snat && nat.logical_ip.is_some_and(|ip| ip.trunc().contains(&cidr.addr()))
        });
        chain.check(
            !translated,
            || "it is not behind SNAT".to_owned(),
            || format!("{cidr} is behind SNAT (require_snat_disabled_for_tenant_networks)"),
        )?;
    }
    Ok(())
}

/// The subnets themselves: wired always, announced with the `subnet` method.
pub(super) fn subnet_exposures(ctx: &Context<'_>, subnets: &[Subnet<'_>], out: &mut Out) {
    let announce = ctx.options.tenant_advertisement == TenantAdvertisement::Subnet;
    for subnet in subnets {
        let mut exposure = subnet.exposure(subnet.cidr, Kind::Subnet, &subnet.interface.name, &subnet.chain);
        exposure.announce = announce;
        out.exposures.insert(exposure);
    }
}

/// The ports of the networks routed here, with the `host` method.
pub(super) fn ports(ctx: &Context<'_>, subnets: &[Subnet<'_>], out: &mut Out) {
    if ctx.options.tenant_advertisement != TenantAdvertisement::Host {
        return;
    }
    let mut by_network: BTreeMap<&Id, Vec<&Subnet<'_>>> = BTreeMap::new();
    for subnet in subnets {
        if let Some(network) = &subnet.network {
            by_network.entry(network).or_default().push(subnet);
        }
    }
    for (network, subnets) in by_network {
        for row in ctx.view.ports_by_network(network) {
            if let Ok(exposures) = port(row, &subnets) {
                out.exposures.extend(exposures);
            }
        }
    }
}

/// The addresses of one port on a network that is routed here, wherever the port is.
pub(super) fn port(port: &Port, subnets: &[&Subnet<'_>]) -> Result<Vec<Exposure>, Broken> {
    let mut chain = Chain::default();
    provider::exposable(port, &mut chain)?;
    provider::active(port, &mut chain)?;
    let exposures: Vec<_> = port
        .ips()
        .filter(|(_, ip)| provider::is_announceable(*ip))
        .filter_map(|(_, ip)| {
            let subnet = containing(ip, subnets.iter().copied())?;
            let mut chain = chain.clone();
            chain.holds(subnet.reason());
            Some(subnet.exposure(IpNet::from(ip), Kind::Tenant, &port.name, &chain))
        })
        .collect();
    if exposures.is_empty() {
        return Err(chain.fails("none of its addresses lies in a tenant subnet that is routed here"));
    }
    Ok(exposures)
}

/// The longest of the subnets that holds an address; of equal ones the first.
pub(super) fn containing<'s, 'a: 's>(
    ip: IpAddr,
    subnets: impl Iterator<Item = &'s Subnet<'a>>,
) -> Option<&'s Subnet<'a>> {
    let mut best: Option<&Subnet<'_>> = None;
    for subnet in subnets.filter(|subnet| subnet.cidr.contains(&ip)) {
        if best.is_none_or(|best| subnet.cidr.prefix_len() > best.cidr.prefix_len()) {
            best = Some(subnet);
        }
    }
    best
}

/// Whether an address is global IPv6 in the sense of the IANA special-purpose registry (which Python's `is_global` follows).
pub(super) fn is_global(ip: IpAddr) -> bool {
    const fn net(segments: [u16; 8], length: u8) -> Ipv6Net {
        let mut bits = 0;
        let mut rest: &[u16] = &segments;
        while let [first, tail @ ..] = rest {
            bits = bits << 16 | *first as u128;
            rest = tail;
        }
        Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), length)
    }
    /// Not reachable globally.
    const SPECIAL: [Ipv6Net; 11] = [
        net([0; 8], 128),
        net([0, 0, 0, 0, 0, 0, 0, 1], 128),
        net([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
        net([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
        net([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
        net([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        net([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
        net([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
        net([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
        net([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
        net([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    ];
    /// Exceptions within 2001::/23.
    const GLOBAL: [Ipv6Net; 6] = [
        net([0x2001, 1, 0, 0, 0, 0, 0, 1], 128),
        net([0x2001, 1, 0, 0, 0, 0, 0, 2], 128),
        net([0x2001, 3, 0, 0, 0, 0, 0, 0], 32),
        net([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48),
        net([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28),
        net([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28),
    ];
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => GLOBAL.iter().any(|net| net.contains(&ip)) || !SPECIAL.iter().any(|net| net.contains(&ip)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_addresses() {
        let table = [
            ("2a00:1450::1", true),
            ("2002:c000:204::1", true),
            ("2001:20::1", true),
            ("::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("2001:db8::1", false),
            ("2001::1", false),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("8.8.8.8", false),
        ];
        for (ip, expected) in table {
            assert_eq!(is_global(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
