//! What concerns this host: most changes of a cloud are about other hosts and need not lead to a new [`compute`](super::compute).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::owner;
use crate::host::{Chassis, Facts};
use crate::nb::row::{Nat, Port, PortType, RouterPort};
use crate::nb::{Id, Touched, View};
use crate::ovsdb::value::Uuid;

/// The rows that this host's state depends on. Take a new one after each [`compute`](super::compute).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    chassis: Chassis,
    gateways: BTreeSet<Uuid>,
    routers: BTreeSet<Id>,
    /// NAT rows that one of the routers lists. Should another list them as well, whose they are may change.
    nats: BTreeSet<Uuid>,
    /// Switches that have an interface of one of the routers.
    networks: BTreeSet<Id>,
    /// Switches that have a port of this host or one of the gateways: who has an address there that looks like a router's counts.
    near: BTreeSet<Id>,
}

impl Scope {
    /// The scope of a host.
    pub fn new(view: &View, facts: &Facts) -> Self {
        let mut scope = Self { chassis: facts.chassis.clone(), ..Self::default() };
        for (uuid, port) in view.gateways(&facts.chassis.system_id) {
            scope.gateways.insert(uuid);
            scope.routers.extend(view.router_of_port(uuid, port));
            scope.near.extend(view.network_of_router_port(port));
        }
        for host in [&facts.chassis.hostname, &facts.chassis.system_id] {
            scope.near.extend(view.ports_by_host(host).filter_map(|port| port.network.clone()));
        }
        scope.nats = scope.routers.iter().flat_map(|id| view.routers(id)).flat_map(|row| row.nats.to_vec()).collect();
        let interfaces = scope.routers.iter().flat_map(|router| view.interfaces(router));
        scope.networks = interfaces.filter_map(|port| port.network.clone()).collect();
        scope
    }

    /// Whether a change can make a difference here. When in doubt, it can.
    pub fn concerns(&self, view: &View, touched: &Touched) -> bool {
        match touched {
            Touched::Port(old, new) => either(old.as_ref(), new.as_ref(), |port| self.port(view, port)),
            Touched::Nat(old, new) => either(old.as_ref(), new.as_ref(), |nat| self.nat(view, nat)),
            Touched::LoadBalancer(old, new) => either(old.as_ref(), new.as_ref(), |lb| {
                // A floating IP on the port of its VIP is its matter and no longer that of the NAT row, whatever its router.
                lb.router.as_ref().is_some_and(|router| self.routers.contains(router))
                    || (lb.vip_port.is_some() && !self.gateways.is_empty())
            }),
            Touched::RouterPort(old, new) => either(old.as_ref(), new.as_ref(), |port| self.router_port(port)),
            Touched::Router(old, new) => either(old.as_ref(), new.as_ref(), |router| {
                self.routers.contains(&router.id)
                    || router.ports.iter().any(|port| self.gateways.contains(port))
                    || router.nats.iter().any(|nat| self.nats.contains(nat))
            }),
            Touched::Other => true,
        }
    }

    /// Whether a port of this host, or one of its gateways, is on the network.
    pub(super) fn is_near(&self, network: &Id) -> bool {
        self.near.contains(network)
    }

    /// Whether a router whose gateway is here has an interface on the network.
    pub(super) fn is_routed(&self, network: &Id) -> bool {
        self.networks.contains(network)
    }

    fn port(&self, view: &View, port: &Port) -> bool {
        let looks_like_router =
            || port.has_first_address() && port.network.as_ref().is_some_and(|network| self.near.contains(network));
        let routed = || port.network.as_ref().is_some_and(|network| self.networks.contains(network));
        match &port.port_type {
            PortType::Vif | PortType::Virtual => {
                owner::of(port).is_some_and(|host| self.chassis.is_me(host))
                    || routed()
                    || self.translated_here(view, &port.name)
                    || looks_like_router()
            }
            PortType::Router => {
                let interface_of = port.infrastructure.as_ref().and_then(|i| i.interface_of.as_ref());
                routed() || interface_of.is_none_or(|router| self.routers.contains(router)) || looks_like_router()
            }
            PortType::Localnet => true,
            // It may still be what a NAT row or a load balancer names.
            PortType::Other(_) => self.translated_here(view, &port.name),
        }
    }

    fn translated_here(&self, view: &View, port: &str) -> bool {
        !self.gateways.is_empty() && (view.has_nat(port) || view.is_vip_port(port))
    }

    fn nat(&self, view: &View, nat: &Nat) -> bool {
        let mine = || {
            let port = nat.logical_port.as_deref().and_then(|name| view.port(name));
            port.and_then(owner::of).is_some_and(|host| self.chassis.is_me(host))
        };
        // Which router lists it is in the router's row, which changes with it.
        nat.gateway_port.is_some_and(|gateway| self.gateways.contains(&gateway))
            || nat.router.as_ref().is_some_and(|router| self.routers.contains(router))
            || (nat.router.is_none() && !self.gateways.is_empty())
            || mine()
    }

    fn router_port(&self, port: &RouterPort) -> bool {
        let hosted = port.hosting_chassis.as_deref();
        hosted == Some(&*self.chassis.system_id)
            || port.router.as_ref().map_or(hosted.is_some(), |router| self.routers.contains(router))
    }
}

fn either<T>(old: Option<&Arc<T>>, new: Option<&Arc<T>>, test: impl Fn(&T) -> bool) -> bool {
    [old, new].into_iter().flatten().any(|row| test(row))
}
