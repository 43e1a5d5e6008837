//! OVN load balancers: their VIPs, the floating IPs of these, and port forwards – on the host of their router's gateway.
//!
//! What an address *is* follows from `vips`, not from what changed: one address may stand in several rows (one per protocol).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::chain::{Broken, Chain};
use super::gateway::Gateway;
use super::tenant::{self, Subnet};
use super::{Context, Exposure, Kind, Out, TenantAdvertisement, provider};
use crate::nb::Id;
use crate::nb::row::{LoadBalancer, NatType};

/// The load balancers of the routers whose gateways are hosted here.
pub(super) fn all(ctx: &Context<'_>, gateways: &[Gateway<'_>], subnets: &[Subnet<'_>], out: &mut Out) {
    let routers: BTreeSet<&Id> = gateways.iter().filter_map(|gateway| gateway.router.as_ref()).collect();
    for router in routers {
        let gateways: Vec<_> = gateways.iter().filter(|gateway| gateway.router.as_ref() == Some(router)).collect();
        for row in ctx.view.load_balancers_of(router) {
            for vip in &row.vips {
                out.take(address(ctx, row, *vip, router, &gateways, subnets), "Load_Balancer", &row.name, Some(*vip));
            }
        }
    }
}

/// One address of a load balancer of a router whose gateways are `gateways`.
pub(super) fn address(
    ctx: &Context<'_>,
    row: &LoadBalancer,
    vip: IpAddr,
    router: &Id,
    gateways: &[&Gateway<'_>],
    subnets: &[Subnet<'_>],
) -> Result<Vec<Exposure>, Broken> {
    let mut chain = Chain::default();
    chain.holds(format!("Load_Balancer {} of router {router}", row.name));
    let Some(gateway) = gateways.first() else {
        return Err(chain.fails(format!("no gateway port of router {router} is hosted here on a provider network")));
    };
    chain.check(
        provider::is_announceable(vip),
        || format!("{vip} can be announced"),
        || format!("{vip} cannot be announced"),
    )?;
    if row.port_forward {
        chain.append(&gateway.chain);
        return Ok(vec![gateway.provider.exposure(vip, Kind::PortForward, &row.name, &chain)]);
    }
    if row.vip_fip == Some(vip) {
        return floating(ctx, row, vip, router, gateways, chain);
    }
    chain.check(
        row.vip == Some(vip),
        || format!("{vip} is its VIP"),
        || format!("{vip} is neither its neutron:vip nor its neutron:vip_fip"),
    )?;
    virtual_ip(ctx, row, vip, router, subnets, chain)
}

/// A VIP: in a tenant subnet that is routed here, or on a provider network.
fn virtual_ip(
    ctx: &Context<'_>,
    row: &LoadBalancer,
    vip: IpAddr,
    router: &Id,
    subnets: &[Subnet<'_>],
    mut chain: Chain,
) -> Result<Vec<Exposure>, Broken> {
    let port = row.vip_port.as_deref().and_then(|name| ctx.view.port(name));
    let network = port.and_then(|port| port.network.as_ref()).or(row.network.as_ref());
    let near = subnets
        .iter()
        .filter(|subnet| network.map_or(subnet.router == *router, |network| subnet.network.as_ref() == Some(network)));
    if let Some(subnet) = tenant::containing(vip, near) {
        chain.holds(subnet.reason());
        let mut exposure = subnet.exposure(IpNet::from(vip), Kind::LoadBalancer, &row.name, &chain);
        exposure.announce = ctx.options.tenant_advertisement == TenantAdvertisement::Host;
        return Ok(vec![exposure]);
    }
    let Some(network) = network else {
        return Err(chain.fails("its VIP's network is not known: no port neutron:vip_port_id, no neutron:network_name"));
    };
    let provider = provider::resolve(ctx, network, &mut chain)?;
    Ok(vec![provider.exposure(vip, Kind::LoadBalancer, &row.name, &chain)])
}

/// The floating IP of a VIP. Its NAT row names the network; it has a MAC only if Neutron took the VIP's port for a bound one.
fn floating(
    ctx: &Context<'_>,
    row: &LoadBalancer,
    vip: IpAddr,
    router: &Id,
    gateways: &[&Gateway<'_>],
    mut chain: Chain,
) -> Result<Vec<Exposure>, Broken> {
    let by_port = row.vip_port.iter().flat_map(|port| ctx.view.nats_of_port(port));
    let nats = by_port.chain(ctx.view.nats_of_router(router)).map(|(_, nat)| nat);
    // Of several rows the one that says most.
    let nat = nats
        .filter(|nat| nat.external_ip == vip && nat.nat_type == NatType::FloatingIp)
        .max_by_key(|nat| (nat.external_mac, nat.network.clone()));
    let network = nat.and_then(|nat| nat.network.as_ref());
    let on_network = |gateway: &&&Gateway<'_>| network.is_some_and(|network| gateway.network == *network);
    let Some(gateway) = gateways.iter().find(on_network).or_else(|| gateways.first()) else {
        return Err(chain.fails("no gateway port of its router is hosted here"));
    };
    chain.holds(format!("{vip} is the floating IP of its VIP"));
    chain.append(&gateway.chain);
    let mut exposure = match network {
        Some(network) => provider::resolve(ctx, network, &mut chain)?,
        None => gateway.provider.clone(),
    }
    .exposure(vip, Kind::LoadBalancerFip, &row.name, &chain);
    exposure.mac = nat.and_then(|nat| nat.external_mac).or(gateway.mac());
    Ok(vec![exposure])
}
