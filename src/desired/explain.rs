//! Why an address is, or is not, announced here: the chain of conditions, the first failing one last.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::chain::{Broken, Chain};
use super::floating_ip::{self, Place};
use super::gateway::{self, Gateway};
use super::{Context, Exposure, Facts, Options, Out, compute, load_balancer, owner, provider, tenant};
use crate::nb::row::{Nat, Port};
use crate::nb::{Id, View};
use crate::ovsdb::value::Uuid;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Whether it holds.
    pub holds: bool,
    /// What it says.
    pub what: String,
}

/// The conditions on an address or prefix, in the order checked: all hold and it is announced (once its wiring is done), or the
/// last one does not. Where several rows have the address, the one that comes furthest.
pub fn explain(view: &View, facts: &Facts, options: &Options, address: IpNet) -> Vec<Condition> {
    let address = address.trunc();
    let desired = compute(view, facts, options);
    // One that is announced says more than one that waits.
    let exposed = desired.exposures.iter().filter(|exposure| exposure.address == address);
    if let Some(exposure) = exposed.max_by_key(|exposure| (exposure.waiting.is_none(), exposure.announce)) {
        return conditions(of_exposure(exposure));
    }
    let ctx = Context { view, facts, options };
    let chains = candidates(&ctx, address).into_iter().map(|verdict| match verdict {
        Ok(exposures) => Broken {
            holds: exposures.into_iter().next().map(|exposure| exposure.reasons).unwrap_or_default(),
            fails: "another rule keeps it from being exposed".to_owned(),
        },
        Err(broken) => broken,
    });
    let best = chains.max_by_key(|broken| broken.holds.len()).unwrap_or_else(|| nowhere(&ctx, address));
    conditions(best)
}

fn conditions(chain: impl Into<(Vec<String>, Option<String>)>) -> Vec<Condition> {
    let (holds, fails) = chain.into();
    let holds = holds.into_iter().map(|what| Condition { holds: true, what });
    holds.chain(fails.map(|what| Condition { holds: false, what })).collect()
}

impl From<Broken> for (Vec<String>, Option<String>) {
    fn from(broken: Broken) -> Self {
        (broken.holds, Some(broken.fails))
    }
}

fn of_exposure(exposure: &Exposure) -> (Vec<String>, Option<String>) {
    let not_announced = || {
        let what = match exposure.kind {
            super::Kind::Subnet => "not announced: the addresses in it are (tenant_advertisement is host)",
            _ => "not announced: its subnet is (tenant_advertisement is subnet)",
        };
        (!exposure.announce).then(|| what.to_owned())
    };
    (exposure.reasons.clone(), exposure.waiting.clone().or_else(not_announced))
}

/// No row has the address.
fn nowhere(ctx: &Context<'_>, address: IpNet) -> Broken {
    let ignored = match ctx.view.bad().count() {
        0 => String::new(),
        bad => format!(" ({bad} rows are ignored because they could not be read, see the log)"),
    };
    Chain::default().fails(format!("no row of the Northbound database has the address {address}{ignored}"))
}

/// What the rules say about every row that has the address.
fn candidates(ctx: &Context<'_>, address: IpNet) -> Vec<Result<Vec<Exposure>, Broken>> {
    let mut out = Out::default();
    let gateways: Vec<_> = ctx
        .view
        .gateways(&ctx.facts.chassis.system_id)
        .into_iter()
        .filter_map(|(uuid, port)| gateway::hosted(ctx, uuid, port).ok())
        .collect();
    let subnets = tenant::subnets(ctx, &gateways, &mut out);
    let mut found = Vec::new();

    let ip = address.addr();
    if address.prefix_len() == address.max_prefix_len() {
        let has = |port: &&Port| port.ips().any(|(_, one)| one == ip);
        for port in ctx.view.ports().filter(has) {
            found.push(port_chain(ctx, port, ip, &gateways, &subnets));
        }
        for (uuid, port) in ctx.view.router_ports() {
            if port.networks.iter().any(|network| network.addr() == ip) {
                found.push(gateway::hosted(ctx, uuid, port).and_then(|gateway| gateway::exposures(ctx, &gateway)));
            }
        }
        for (uuid, nat) in ctx.view.nats().filter(|(_, nat)| nat.external_ip == ip) {
            found.push(nat_chain(ctx, uuid, nat));
        }
        for row in ctx.view.load_balancers().filter(|row| row.vips.contains(&ip)) {
            found.push(match &row.router {
                None => Err(Chain::default().fails(format!("Load_Balancer {} names no router", row.name))),
                Some(router) => {
                    let near: Vec<_> =
                        gateways.iter().filter(|gateway| gateway.router.as_ref() == Some(router)).collect();
                    load_balancer::address(ctx, row, ip, router, &near, &subnets)
                }
            });
        }
    }
    for port in ctx.view.ports() {
        let router = port.infrastructure.as_ref().and_then(|i| i.interface_of.as_ref());
        for cidr in port.cidrs.iter().filter(|cidr| router.is_some() && cidr.trunc() == address) {
            found.extend(router.map(|router| subnet_chain(ctx, router, port, *cidr, &gateways)));
        }
    }
    found
}

/// A port is exposed by its host, or, on a tenant network, by the gateway's.
fn port_chain(
    ctx: &Context<'_>,
    port: &Port,
    ip: IpAddr,
    gateways: &[Gateway<'_>],
    subnets: &[tenant::Subnet<'_>],
) -> Result<Vec<Exposure>, Broken> {
    let is_tenant = |network: &Id| provider::resolve(ctx, network, &mut Chain::default()).is_err();
    let Some(network) = port.network.as_ref().filter(|network| ctx.options.exposes_tenants() && is_tenant(network))
    else {
        let mut verdict = provider::port(ctx, port);
        // Whoever asks about a machine's own address there wants to hear which key would have it announced.
        if let (Err(broken), Some(network), false) = (&mut verdict, &port.network, ctx.options.exposes_tenants())
            && ctx.view.localnets(network).is_empty()
            && provider::resolve(ctx, network, &mut Chain::default()).is_err_and(|why| why.fails == broken.fails)
        {
            broken.fails.push_str(", and expose_tenant_networks is off");
        }
        return verdict;
    };
    let near: Vec<_> = subnets.iter().filter(|subnet| subnet.network.as_ref() == Some(network)).collect();
    let verdict = tenant::port(port, &near);
    let Err(broken) = verdict else { return verdict };
    // The port is fine, its subnet is not routed here: the subnet's chain says why.
    let holding = |interface: &&Port| {
        interface.network.as_ref() == Some(network) && interface.cidrs.iter().any(|cidr| cidr.contains(&ip))
    };
    if !owner::is_active(port) || !near.is_empty() {
        return Err(broken);
    }
    for interface in ctx.view.ports().filter(holding) {
        let router = interface.infrastructure.as_ref().and_then(|i| i.interface_of.as_ref());
        let cidr = interface.cidrs.iter().find(|cidr| cidr.contains(&ip));
        if let Some(Err(why)) = router.zip(cidr).map(|(r, c)| subnet_chain(ctx, r, interface, *c, gateways)) {
            let mut chain = Chain::default();
            broken.holds.into_iter().for_each(|what| chain.holds(what));
            return Err(chain.then(why));
        }
    }
    Err(broken)
}

fn subnet_chain(
    ctx: &Context<'_>,
    router: &Id,
    interface: &Port,
    cidr: IpNet,
    gateways: &[Gateway<'_>],
) -> Result<Vec<Exposure>, Broken> {
    let near: Vec<_> = gateways.iter().filter(|gateway| gateway.router.as_ref() == Some(router)).collect();
    let subnet = tenant::subnet(ctx, router, &near, interface, cidr)?;
    Err(subnet.overlaps())
}

fn nat_chain(ctx: &Context<'_>, uuid: Uuid, nat: &Nat) -> Result<Vec<Exposure>, Broken> {
    let port = nat.logical_port.as_deref().and_then(|name| ctx.view.port(name));
    if floating_ip::place(ctx, nat) == Place::Port {
        return floating_ip::distributed(ctx, nat, port);
    }
    let row = floating_ip::gateway_of(ctx, uuid, nat).and_then(|uuid| Some((uuid, ctx.view.router_port(uuid)?)));
    let none = || Chain::default().fails("it names no gateway port, and its router has none that a chassis hosts");
    let gateway = row.ok_or_else(none).and_then(|(uuid, port)| gateway::hosted(ctx, uuid, port));
    floating_ip::centralised(ctx, nat, port, gateway.as_ref().map_err(Clone::clone))
}
