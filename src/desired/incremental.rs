//! The same state for less work: when only ports of this host and their own floating IPs changed, only what they expose is computed
//! and wired anew, by the same rule functions.
//!
//! Everything that could reach further – gateways, tenant networks, load balancers, an object that two exposures want differently –
//! answers `None`, and the caller computes from scratch. A property test holds both to the same result.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::floating_ip::{self, Place};
use super::wiring::{self, Key, Spec, Wired};
use super::{Context, Desired, Exposure, Facts, Kind, Options, Out, Scope, provider};
use crate::nb::row::{Nat, NatType, Port, PortType, Router};
use crate::nb::{Touched, View};
use crate::ovsdb::value::Uuid;

/// What may differ after an update; everything else is as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Objects.
    pub keys: BTreeSet<Key>,
}

/// Brings `desired`, which was computed for these facts and options before the rows were touched, up to date. `scope` is the one
/// taken after that computation. `None`: it takes a [`compute`](super::compute); `desired` is then unchanged.
pub fn update(
    desired: &mut Desired,
    view: &View,
    facts: &Facts,
    options: &Options,
    scope: &Scope,
    touched: &[Touched],
) -> Option<Delta> {
    let ctx = Context { view, facts, options };
    let rows = Rows::of(&ctx, scope, touched)?;
    if rows.may_leave_refusals(&ctx, desired) {
        return None;
    }
    let old: BTreeSet<Exposure> = desired.exposures.iter().filter(|e| rows.exposes(e)).cloned().collect();
    let mut out = Out::default();
    for port in ctx.my_ports().filter(|port| rows.ports.contains(&port.name)) {
        of_port(&ctx, port, &mut out);
    }
    for port in ctx.my_ports().filter(|port| rows.ports.contains(&port.name)) {
        floating_ip::of_port(&ctx, port, &mut out);
    }
    let old = wiring::wire(old, facts, options);
    let new = wiring::wire(out.exposures, facts, options);
    if shared(desired, &rows, &old, &new) {
        return None;
    }
    desired.refusals.retain(|refusal| !rows.refused(&refusal.row));
    desired.refusals.extend(out.refusals);
    let keys = old.wiring.objects.keys().chain(new.wiring.objects.keys()).cloned().collect();
    replace(desired, &old, new);
    Some(Delta { keys })
}

/// The rows of this host that changed.
struct Rows {
    /// Names of ports.
    ports: BTreeSet<Arc<str>>,
    /// External addresses of their floating IPs, before and after.
    floating: BTreeSet<IpAddr>,
}

impl Rows {
    fn of(ctx: &Context<'_>, scope: &Scope, touched: &[Touched]) -> Option<Self> {
        let mut rows = Self { ports: BTreeSet::new(), floating: BTreeSet::new() };
        for touched in touched.iter().filter(|touched| scope.concerns(ctx.view, touched)) {
            match touched {
                Touched::Port(old, new) => {
                    for port in [old, new].into_iter().flatten() {
                        if !is_local_matter(ctx, scope, port) {
                            return None;
                        }
                        rows.ports.insert(Arc::clone(&port.name));
                    }
                }
                Touched::Nat(old, new) => {
                    for nat in [old, new].into_iter().flatten() {
                        rows.ports.insert(Arc::clone(port_of(ctx, nat)?));
                        rows.floating.insert(nat.external_ip);
                    }
                }
                Touched::Router(Some(old), Some(new)) if only_floating_ips_differ(ctx, old, new) => {}
                _ => return None,
            }
        }
        for name in &rows.ports {
            // A NAT row may name anything: an interface of a router, of which other rules have something to say.
            let speaks_for_itself = |port: &Port| matches!(port.port_type, PortType::Vif | PortType::Virtual);
            if ctx.view.port(name).is_some_and(|port| !speaks_for_itself(port)) {
                return None;
            }
            for (_, nat) in ctx.view.nats_of_port(name) {
                port_of(ctx, nat)?;
                rows.floating.insert(nat.external_ip);
            }
            if ctx.view.is_vip_port(name) {
                return None;
            }
        }
        // Another row with the same address: what is said of it would have to be told apart.
        let theirs = |nat: &Nat| nat.logical_port.as_ref().is_none_or(|port| !rows.ports.contains(port));
        let twice = !rows.floating.is_empty()
            && ctx.view.nats().any(|(_, nat)| rows.floating.contains(&nat.external_ip) && theirs(nat));
        (!twice).then_some(rows)
    }

    fn exposes(&self, exposure: &Exposure) -> bool {
        matches!(exposure.kind, Kind::Provider | Kind::Virtual | Kind::FloatingIp)
            && self.ports.contains(&*exposure.port)
    }

    /// A NAT row that changed together with the port it named, which is not of this host any more, has concerned nobody: what was
    /// said of it cannot be told from what is said of other NAT rows.
    fn may_leave_refusals(&self, ctx: &Context<'_>, desired: &Desired) -> bool {
        let of_nats = desired.refusals.iter().any(|refusal| refusal.row.starts_with("NAT "));
        of_nats && self.ports.iter().any(|name| !ctx.my_ports().any(|port| port.name == *name))
    }

    /// Whether a refusal is about one of the rows.
    fn refused(&self, row: &str) -> bool {
        match row.split_once(' ') {
            Some(("Logical_Switch_Port", name)) => self.ports.contains(name),
            Some(("NAT", ip)) => ip.parse().is_ok_and(|ip| self.floating.contains(&ip)),
            _ => false,
        }
    }
}

/// A VM's or virtual port whose row says something about itself only.
fn is_local_matter(ctx: &Context<'_>, scope: &Scope, port: &Port) -> bool {
    matches!(port.port_type, PortType::Vif | PortType::Virtual)
        && !port.has_first_address()
        && port.network.as_ref().is_some_and(|network| {
            scope.is_near(network) && !(ctx.options.exposes_tenants() && scope.is_routed(network))
        })
}

/// Whether two states of a router differ in floating IPs that are translated where their ports are, and in nothing else. Those
/// concern neither its gateways nor its subnets.
fn only_floating_ips_differ(ctx: &Context<'_>, old: &Router, new: &Router) -> bool {
    let same = (&old.id, &old.ports, &old.static_routes) == (&new.id, &new.ports, &new.static_routes);
    let (before, after): (BTreeSet<&Uuid>, BTreeSet<&Uuid>) = (old.nats.iter().collect(), new.nats.iter().collect());
    same && before.symmetric_difference(&after).all(|uuid| match ctx.view.nat(**uuid) {
        Some(nat) => port_of(ctx, nat).is_some(),
        // Deleted together with the link: touched as well, and looked at there. A row that is linked but not there is a bad one.
        None => before.contains(uuid),
    })
}

/// The port of a floating IP that is translated where the port is.
fn port_of<'a>(ctx: &Context<'_>, nat: &'a Nat) -> Option<&'a Arc<str>> {
    let here = nat.nat_type == NatType::FloatingIp && floating_ip::place(ctx, nat) == Place::Port;
    nat.logical_port.as_ref().filter(|_| here)
}

/// Whether something of `old` or `new` is also somebody else's, and might be another thing for it.
fn shared(desired: &Desired, rows: &Rows, old: &Wired, new: &Wired) -> bool {
    let mine: BTreeSet<IpNet> = old.exposures.iter().chain(&new.exposures).map(|e| e.address).collect();
    let others = || desired.exposures.iter().filter(|e| !rows.exposes(e));
    if others().any(|e| mine.contains(&e.address)) {
        return true;
    }
    // The last on a network takes the network's own objects along, the first brings them.
    let same_site = |a: &Exposure, b: &Exposure| {
        (&a.network, &a.patch_port, a.address.addr().is_ipv6())
            == (&b.network, &b.patch_port, b.address.addr().is_ipv6())
    };
    if old.exposures.iter().any(|e| !others().any(|other| other.via.is_none() && same_site(e, other))) {
        return true;
    }
    let owners: BTreeSet<String> = old.exposures.iter().chain(&new.exposures).map(Exposure::owner).collect();
    let conflicts = |wired: &Wired| {
        wired.wiring.objects.iter().any(|(key, object)| {
            let own = object.owners.iter().any(|owner| owners.contains(owner));
            let present = desired.wiring.objects.get(key);
            own && object.spec != Spec::Present
                && present.is_some_and(|there| there.owners.iter().any(|owner| !owners.contains(owner)))
        })
    };
    conflicts(old) || conflicts(new)
}

/// Takes `old` out and puts `new` in.
fn replace(desired: &mut Desired, old: &Wired, new: Wired) {
    for exposure in &old.exposures {
        desired.exposures.remove(exposure);
        desired.routes.remove(&exposure.address);
    }
    let owners: BTreeSet<String> = old.exposures.iter().map(Exposure::owner).collect();
    for key in old.wiring.objects.keys() {
        if let Some(object) = desired.wiring.objects.get_mut(key) {
            object.owners.retain(|owner| !owners.contains(owner));
            if object.owners.is_empty() {
                desired.wiring.objects.remove(key);
            }
        }
    }
    for (key, object) in new.wiring.objects {
        match desired.wiring.objects.get_mut(&key) {
            Some(there) => there.owners.extend(object.owners),
            None => drop(desired.wiring.objects.insert(key, object)),
        }
    }
    desired.exposures.extend(new.exposures);
    desired.routes.extend(new.routes);
}

/// What a port exposes by itself; the part of [`compute`](super::compute) that concerns one port.
pub(super) fn of_port(ctx: &Context<'_>, port: &Port, out: &mut Out) {
    let address = port.ips().next().map(|(_, ip)| ip);
    out.take(provider::port(ctx, port), "Logical_Switch_Port", &port.name, address);
}
