//! Floating IPs, driven by their NAT rows: a port may have several, and Neutron's key on the port tells of one at most.
//!
//! | mode | NAT row | where | MAC |
//! |---|---|---|---|
//! | distributed | `external_mac` and `logical_port` | host of the port | `external_mac` |
//! | distributed | one of them missing: OVN translates on the gateway | host of the gateway port | gateway's |
//! | centralised | any | host of the gateway port | gateway's |

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::chain::{Broken, Chain};
use super::gateway::Gateway;
use super::provider;
use super::{Context, Exposure, Kind, Out};
use crate::nb::row::{Nat, NatType, Port, RouterPort};
use crate::ovsdb::value::Uuid;

/// Where OVN translates for a NAT row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the host of the logical port.
    Port,
    /// On the host of the gateway port.
    Gateway,
}

/// Where OVN translates for a floating IP.
pub(super) fn place(ctx: &Context<'_>, nat: &Nat) -> Place {
    if ctx.view.distributed() && nat.external_mac.is_some() && nat.logical_port.is_some() {
        Place::Port
    } else {
        Place::Gateway
    }
}

/// A floating IP on the host of its port.
pub(super) fn distributed(ctx: &Context<'_>, nat: &Nat, port: Option<&Port>) -> Result<Vec<Exposure>, Broken> {
    let mut chain = Chain::default();
    complete(nat, &mut chain)?;
    let port = logical_port(nat, port, &mut chain)?;
    let Some((port, mac)) = port.zip(nat.external_mac) else {
        return Err(chain.fails("it has no external_mac or no logical_port: it is translated on the gateway"));
    };
    provider::hosted(ctx, port, &mut chain)?;
    chain.check(
        port.takes_addresses(),
        || "the port has addresses".to_owned(),
        || "the port has no IP address to translate to".to_owned(),
    )?;
    let provider = external(ctx, nat, &mut chain)?;
    let mut exposure = provider.exposure(nat.external_ip, Kind::FloatingIp, &port.name, &chain);
    exposure.mac = Some(mac);
    Ok(vec![exposure])
}

/// A floating IP on the host of the gateway port.
pub(super) fn centralised(
    ctx: &Context<'_>,
    nat: &Nat,
    port: Option<&Port>,
    gateway: Result<&Gateway<'_>, Broken>,
) -> Result<Vec<Exposure>, Broken> {
    let mut chain = Chain::default();
    complete(nat, &mut chain)?;
    let port = logical_port(nat, port, &mut chain)?;
    // A VIP's port is never bound, and nobody answers for a VIP without listeners.
    let of_vip = nat.logical_port.as_deref().is_some_and(|port| ctx.view.is_vip_port(port))
        || gateway.as_ref().is_ok_and(|gateway| is_vip_fip(ctx, gateway, nat.external_ip));
    chain.check(
        !of_vip,
        || "it is not a load balancer's".to_owned(),
        || "it is the floating IP of a load balancer's VIP: exposed while that has it in its vips".to_owned(),
    )?;
    let why = if ctx.view.distributed() {
        "OVN translates it on the gateway: the row has no external_mac or no logical_port"
    } else {
        "floating IPs are centralised"
    };
    chain.holds(why);
    let gateway = gateway.map_err(|broken| chain.clone().then(broken))?;
    chain.append(&gateway.chain);
    let provider = external(ctx, nat, &mut chain)?;
    let name = port.map_or(&gateway.port.name, |port| &port.name);
    let mut exposure = provider.exposure(nat.external_ip, Kind::FloatingIp, name, &chain);
    exposure.mac = gateway.mac();
    Ok(vec![exposure])
}

fn is_vip_fip(ctx: &Context<'_>, gateway: &Gateway<'_>, ip: IpAddr) -> bool {
    let rows = gateway.router.iter().flat_map(|router| ctx.view.load_balancers_of(router));
    rows.into_iter().any(|row| row.vip_fip == Some(ip))
}

fn complete(nat: &Nat, chain: &mut Chain) -> Result<(), Broken> {
    let ip = nat.external_ip;
    chain.check(
        nat.nat_type == NatType::FloatingIp,
        || format!("NAT {ip}"),
        || format!("NAT {ip} is not a floating IP (its type is not dnat_and_snat)"),
    )?;
    chain.check(
        provider::is_announceable(ip),
        || "its address can be announced".to_owned(),
        || "its external_ip cannot be announced".to_owned(),
    )?;
    chain.check(
        nat.network.is_some(),
        || "it names its external network".to_owned(),
        || "it has no neutron:fip_network_id".to_owned(),
    )
}

/// The port a NAT row names must exist and be a VM's or virtual; naming none is fine.
fn logical_port<'a>(nat: &Nat, port: Option<&'a Port>, chain: &mut Chain) -> Result<Option<&'a Port>, Broken> {
    match (&nat.logical_port, port) {
        (None, _) => Ok(None),
        (Some(name), None) => Err(chain.fails(format!("there is no Logical_Switch_Port {name}, its logical_port"))),
        (Some(_), Some(port)) => provider::exposable(port, chain).map(|()| Some(port)),
    }
}

fn external(ctx: &Context<'_>, nat: &Nat, chain: &mut Chain) -> Result<provider::Provider, Broken> {
    match &nat.network {
        Some(network) => provider::resolve(ctx, network, chain),
        None => Err(chain.fails("it has no neutron:fip_network_id")),
    }
}

/// The gateway port that translates for a NAT row: the one it names; else, of its router's, the first on its external network;
/// else the first. Wherever it is hosted: every host comes to the same answer.
pub(super) fn gateway_of(ctx: &Context<'_>, uuid: Uuid, nat: &Nat) -> Option<Uuid> {
    if nat.gateway_port.is_some() {
        return nat.gateway_port;
    }
    let ports = ctx.view.gateways_of(&ctx.view.router_of_nat(uuid, nat)?);
    let on_network = |port: &RouterPort| nat.network.is_some() && ctx.view.network_of_router_port(port) == nat.network;
    ports.iter().find(|(_, port)| on_network(port)).or(ports.first()).map(|(uuid, _)| *uuid)
}

/// The floating IPs of a port that are translated where it is.
pub(super) fn of_port(ctx: &Context<'_>, port: &Port, out: &mut Out) {
    for (_, nat) in ctx.view.nats_of_port(&port.name) {
        if nat.nat_type == NatType::FloatingIp && place(ctx, nat) == Place::Port {
            out.take(distributed(ctx, nat, Some(port)), "NAT", &nat.external_ip.to_string(), Some(nat.external_ip));
        }
    }
}

/// The floating IPs of the ports of this host, and those that the gateways hosted here translate.
pub(super) fn all(ctx: &Context<'_>, gateways: &[Gateway<'_>], out: &mut Out) {
    for port in ctx.my_ports() {
        of_port(ctx, port, out);
    }
    // Candidates through the gateways hosted here; which gateway translates is the same question everywhere.
    let mut nats: BTreeMap<Uuid, &Nat> = BTreeMap::new();
    for gateway in gateways {
        nats.extend(gateway.router.iter().flat_map(|router| ctx.view.nats_of_router(router)));
        nats.extend(ctx.view.nats_of_gateway(gateway.uuid));
    }
    for (uuid, nat) in nats {
        if nat.nat_type != NatType::FloatingIp || place(ctx, nat) == Place::Port {
            continue;
        }
        let translating = gateway_of(ctx, uuid, nat);
        if let Some(gateway) = gateways.iter().find(|gateway| Some(gateway.uuid) == translating) {
            let port = nat.logical_port.as_deref().and_then(|name| ctx.view.port(name));
            let exposures = centralised(ctx, nat, port, Ok(gateway));
            out.take(exposures, "NAT", &nat.external_ip.to_string(), Some(nat.external_ip));
        }
    }
}
