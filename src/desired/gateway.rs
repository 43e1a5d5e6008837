//! Router gateway ports: exposed by the chassis that hosts them now, whatever else is configured.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::chain::{Broken, Chain};
use super::provider::{self, Provider};
use super::{Context, Exposure, Kind};
use crate::mac::Mac;
use crate::nb::Id;
use crate::nb::row::RouterPort;
use crate::ovsdb::value::Uuid;

/// A gateway port hosted here, on a provider network.
#[derive(Clone, Debug)]
pub(super) struct Gateway<'a> {
    pub(super) uuid: Uuid,
    pub(super) port: &'a RouterPort,
    pub(super) router: Option<Id>,
    pub(super) network: Id,
    pub(super) provider: Provider,
    /// The conditions that hold.
    pub(super) chain: Chain,
}

impl Gateway<'_> {
    /// The gateway's address of the family of `ip`, through which subnets are reached.
    pub(super) fn address_like(&self, ip: IpAddr) -> Option<IpAddr> {
        let usable = |net: &&IpNet| net.addr().is_ipv4() == ip.is_ipv4() && provider::is_announceable(net.addr());
        self.port.networks.iter().filter(usable).map(IpNet::addr).min()
    }

    pub(super) fn mac(&self) -> Option<Mac> {
        self.port.mac
    }
}

/// Whether a gateway port is here, and where it leads.
pub(super) fn hosted<'a>(ctx: &Context<'_>, uuid: Uuid, port: &'a RouterPort) -> Result<Gateway<'a>, Broken> {
    let mut chain = Chain::default();
    chain.holds(format!("Logical_Router_Port {}", port.name));
    let me = &ctx.facts.chassis.system_id;
    // The chassis name, never the host name: a host may be called like another one's system-id.
    match port.hosting_chassis.as_deref() {
        None => return Err(chain.fails("no chassis hosts it as a gateway port (status:hosting-chassis is not set)")),
        Some(host) => chain.check(
            !me.is_empty() && host == me,
            || format!("this chassis hosts it ({host})"),
            || format!("another chassis hosts it ({host}, this is {me})"),
        )?,
    }
    let Some(network) = ctx.view.network_of_router_port(port) else {
        return Err(chain.fails("its external network is not known: no neutron:network_name, no peer switch port"));
    };
    let provider = provider::resolve(ctx, &network, &mut chain)?;
    let router = ctx.view.router_of_port(uuid, port);
    Ok(Gateway { uuid, port, router, network, provider, chain })
}

/// The addresses of a gateway port.
pub(super) fn exposures(ctx: &Context<'_>, gateway: &Gateway<'_>) -> Result<Vec<Exposure>, Broken> {
    let cidrs: Vec<IpNet> = gateway.port.networks.iter().filter(|net| net.addr().is_ipv6()).copied().collect();
    let routers = routers(ctx, gateway, &cidrs);
    let mut exposures = Vec::new();
    for ip in gateway.port.networks.iter().map(IpNet::addr).filter(|ip| provider::is_announceable(*ip)) {
        let mut exposure = gateway.provider.exposure(ip, Kind::Gateway, &gateway.port.name, &gateway.chain);
        exposure.mac = gateway.mac();
        exposure.cidrs.clone_from(&cidrs);
        exposure.routers.clone_from(&routers);
        exposures.push(exposure);
    }
    if exposures.is_empty() {
        return Err(gateway.chain.fails("it has no usable address in networks"));
    }
    Ok(exposures)
}

/// Where the OVN router sends what leaves by this port: the next hops of its default routes, and the conventions.
fn routers(ctx: &Context<'_>, gateway: &Gateway<'_>, cidrs: &[IpNet]) -> Vec<Ipv6Addr> {
    let mut routers = provider::router_conventions(ctx, &gateway.network, cidrs);
    let own = |hop: Ipv6Addr| cidrs.iter().any(|cidr| cidr.addr() == hop);
    routers.retain(|hop| !own(*hop));
    for route in gateway.router.iter().flat_map(|router| ctx.view.static_routes(router)) {
        if let (true, Some(IpAddr::V6(hop))) = (route.default, route.next_hop)
            && cidrs.iter().any(|cidr| cidr.contains(&IpAddr::V6(hop)))
            && !own(hop)
        {
            routers.push(hop);
        }
    }
    routers.sort_unstable();
    routers.dedup();
    routers
}
