//! The rows that parsed, with the indexes the rules start from.
//!
//! [`View::apply`] takes the rows that changed; building from a whole database is the same function over all its rows, so that
//! the two cannot differ.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use super::Id;
use super::focus::Focus;
use super::index::Index;
use super::row::{Bad, Global, LoadBalancer, Nat, Port, PortType, Router, RouterPort, StaticRoute, Switch, Warning};
use crate::desired::owner;
use crate::ovsdb::intern::Interner;
use crate::ovsdb::value::{Database, Row, Uuid};

/// Every Northbound row that parsed, with the indexes the rules need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Which ports are kept; all if `None`.
    pub(super) focus: Option<Focus>,
    pub(super) ports: HashMap<Uuid, Arc<Port>>,
    switches: HashMap<Uuid, Arc<Switch>>,
    routers: HashMap<Uuid, Arc<Router>>,
    router_ports: HashMap<Uuid, Arc<RouterPort>>,
    static_routes: HashMap<Uuid, Arc<StaticRoute>>,
    nats: HashMap<Uuid, Arc<Nat>>,
    load_balancers: HashMap<Uuid, Arc<LoadBalancer>>,
    globals: HashMap<Uuid, Arc<Global>>,
    /// Bad rows: warned about once, until they change.
    bad: HashMap<Uuid, Warning>,
    /// Names of hosts and networks repeat in most rows.
    pub(super) interner: Interner,

    ports_by_name: Index<Arc<str>>,
    ports_by_host: Index<Arc<str>>,
    ports_by_network: Index<Id>,
    localnets_by_network: Index<Id>,
    interfaces_by_router: Index<Id>,
    peers_by_router_port: Index<Arc<str>>,
    /// Ports whose row does not say the switch.
    orphans: HashSet<Uuid>,
    /// (network, address) of ports whose IPv6 address ends in 1: where a router might be expected.
    first_addresses: Index<(Id, Ipv6Addr)>,
    switches_by_id: Index<Id>,
    routers_by_id: Index<Id>,
    routers_by_port: Index<Uuid>,
    routers_by_nat: Index<Uuid>,
    gateways_by_chassis: Index<Arc<str>>,
    router_ports_by_router: Index<Id>,
    nats_by_port: Index<Arc<str>>,
    nats_by_gateway: Index<Uuid>,
    nats_by_router: Index<Id>,
    load_balancers_by_router: Index<Id>,
    load_balancers_by_port: Index<Arc<str>>,
}

/// What [`View::apply`] did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Bad rows not warned about before.
    pub warnings: Vec<Warning>,
    /// Rows whose meaning changed; a row rewritten with the same meaning (a revision number) is not among them.
    pub touched: Vec<Touched>,
}

/// A row whose meaning changed, before and after.
#[derive(Clone, Debug)]
pub enum Touched {
    /// A Logical_Switch_Port.
    Port(Option<Arc<Port>>, Option<Arc<Port>>),
    /// A NAT row.
    Nat(Option<Arc<Nat>>, Option<Arc<Nat>>),
    /// A Load_Balancer.
    LoadBalancer(Option<Arc<LoadBalancer>>, Option<Arc<LoadBalancer>>),
    /// A Logical_Router_Port.
    RouterPort(Option<Arc<RouterPort>>, Option<Arc<RouterPort>>),
    /// A Logical_Router.
    Router(Option<Arc<Router>>, Option<Arc<Router>>),
    /// Something that is rare: take it as concerning everybody.
    Other,
}

impl View {
    /// The view of a whole database, with the warnings about its bad rows.
    pub fn new(database: &Database) -> (Self, Vec<Warning>) {
        Self::default().filled(database)
    }

    /// This view, so far of no rows, with those of a whole database; and the warnings about its bad rows.
    #[must_use]
    pub fn filled(mut self, database: &Database) -> (Self, Vec<Warning>) {
        let rows = database.iter().flat_map(|(table, rows)| rows.keys().map(|uuid| (&**table, *uuid)));
        let mut warnings = self.apply(database, rows).warnings;
        warnings.sort();
        (self, warnings)
    }

    /// Takes over the rows that changed, appeared or went; `database` holds them as they are now.
    pub fn apply<'a>(&mut self, database: &Database, changed: impl IntoIterator<Item = (&'a str, Uuid)>) -> Applied {
        let mut out = Applied::default();
        // Ports whose switch has to be looked up, once all rows are in.
        let mut homeless = BTreeSet::new();
        for (table, uuid) in changed {
            let row = database.get(table).and_then(|rows| rows.get_with(&uuid, &mut self.interner));
            let row = row.as_ref();
            match table {
                Port::TABLE => {
                    let parsed = self.door(Port::TABLE, uuid, row, Port::parse, &mut out);
                    let parsed = parsed.filter(|port| self.keeps(port));
                    self.put_port(uuid, parsed, &mut homeless, &mut out);
                }
                Nat::TABLE => {
                    let parsed = self.door(Nat::TABLE, uuid, row, Nat::parse, &mut out);
                    self.put_nat(uuid, parsed, &mut out);
                }
                LoadBalancer::TABLE => {
                    let parsed = self.door(LoadBalancer::TABLE, uuid, row, LoadBalancer::parse, &mut out);
                    self.put_load_balancer(uuid, parsed, &mut out);
                }
                RouterPort::TABLE => {
                    let parsed = self.door(RouterPort::TABLE, uuid, row, RouterPort::parse, &mut out);
                    self.put_router_port(uuid, parsed, &mut out);
                }
                Switch::TABLE => {
                    let parsed = self.door(Switch::TABLE, uuid, row, Switch::parse, &mut out);
                    self.put_switch(uuid, parsed, &mut homeless, &mut out);
                }
                Router::TABLE => {
                    let parsed = self.door(Router::TABLE, uuid, row, Router::parse, &mut out);
                    self.put_router(uuid, parsed, &mut out);
                }
                StaticRoute::TABLE => {
                    let parsed = self.door(StaticRoute::TABLE, uuid, row, StaticRoute::parse, &mut out);
                    if replace(&mut self.static_routes, uuid, parsed).is_some() {
                        out.touched.push(Touched::Other);
                    }
                }
                Global::TABLE => {
                    let parsed = self.door(Global::TABLE, uuid, row, Global::parse, &mut out);
                    if replace(&mut self.globals, uuid, parsed).is_some() {
                        out.touched.push(Touched::Other);
                    }
                }
                _ => {}
            }
        }
        self.house(&homeless, &mut out);
        self.refocus(database, &mut out);
        out
    }

    /// Parses a row; a bad one is remembered, warned about if that is new, and absent.
    fn door<T>(
        &mut self,
        table: &'static str,
        uuid: Uuid,
        row: Option<&Row>,
        parse: impl FnOnce(&Row) -> Result<T, Bad>,
        out: &mut Applied,
    ) -> Option<T> {
        let parsed = row.map(|row| parse(row).map_err(|bad| bad.warning(table, uuid, row)));
        match parsed.transpose() {
            Ok(parsed) => {
                if !self.bad.is_empty() {
                    self.bad.remove(&uuid);
                }
                parsed
            }
            Err(warning) => {
                if self.bad.get(&uuid) != Some(&warning) {
                    out.warnings.push(warning.clone());
                    self.bad.insert(uuid, warning);
                }
                None
            }
        }
    }

    fn put_port(&mut self, uuid: Uuid, mut new: Option<Port>, homeless: &mut BTreeSet<Uuid>, out: &mut Applied) {
        let old = self.ports.get(&uuid).cloned();
        if let Some(new) = &mut new
            && new.orphan
        {
            // Keep what was found before until it is looked up again.
            new.network = old.as_ref().filter(|old| old.orphan).and_then(|old| old.network.clone());
            homeless.insert(uuid);
        }
        self.swap_port(uuid, old, new, out);
    }

    pub(super) fn swap_port(&mut self, uuid: Uuid, old: Option<Arc<Port>>, new: Option<Port>, out: &mut Applied) {
        if old.as_deref() == new.as_ref() {
            return;
        }
        if let Some(old) = &old {
            self.index_port(uuid, old, false);
        }
        let new = new.map(Arc::new);
        match &new {
            Some(new) => {
                self.index_port(uuid, new, true);
                self.ports.insert(uuid, Arc::clone(new));
            }
            None => {
                self.ports.remove(&uuid);
            }
        }
        out.touched.push(Touched::Port(old, new));
    }

    fn index_port(&mut self, uuid: Uuid, port: &Port, add: bool) {
        self.ports_by_name.set(port.name.clone(), uuid, add);
        if port.orphan {
            if add {
                self.orphans.insert(uuid)
            } else {
                self.orphans.remove(&uuid)
            };
        }
        if port.port_type.is_exposable() {
            if let Some(host) = owner::of(port) {
                self.ports_by_host.set(Arc::from(host), uuid, add);
            }
            if let Some(network) = &port.network {
                self.ports_by_network.set(network.clone(), uuid, add);
                for (_, ip) in port.ips() {
                    if let Some(ip) = ends_in_one(ip) {
                        self.first_addresses.set((network.clone(), ip), uuid, add);
                    }
                }
            }
        }
        let Some(infrastructure) = &port.infrastructure else { return };
        if let (PortType::Localnet, Some(network)) = (&port.port_type, &port.network) {
            self.localnets_by_network.set(network.clone(), uuid, add);
        }
        if let Some(router) = &infrastructure.interface_of {
            self.interfaces_by_router.set(router.clone(), uuid, add);
        }
        if let (PortType::Router, Some(peer)) = (&port.port_type, &infrastructure.router_port) {
            self.peers_by_router_port.set(peer.clone(), uuid, add);
        }
        if let (PortType::Router, Some(network)) = (&port.port_type, &port.network) {
            for cidr in &port.cidrs {
                if let Some(ip) = ends_in_one(cidr.addr()) {
                    self.first_addresses.set((network.clone(), ip), uuid, add);
                }
            }
        }
    }

    /// Finds the switch of ports whose row does not say it.
    fn house(&mut self, homeless: &BTreeSet<Uuid>, out: &mut Applied) {
        // Of several switches that list a port (OVN does not do that) the first by name counts.
        let mut found: BTreeMap<Uuid, (Id, Uuid)> = BTreeMap::new();
        for (switch, row) in &self.switches {
            let mut take = |port: Uuid| {
                let home = (Id::new(&row.name), *switch);
                found.entry(port).and_modify(|first| *first = home.clone().min(first.clone())).or_insert(home);
            };
            // Few strays are searched in the switch, a whole database of them the other way round.
            if homeless.len() < row.ports.len() {
                homeless.iter().filter(|port| row.ports.binary_search(port).is_ok()).for_each(|port| take(*port));
            } else {
                row.ports.iter().filter(|port| homeless.contains(port)).for_each(|port| take(*port));
            }
        }
        for uuid in homeless {
            let Some(old) = self.ports.get(uuid).filter(|port| port.orphan).cloned() else { continue };
            let network = found.get(uuid).map(|(id, _)| id.clone());
            let new = Port { network, ..Port::clone(&old) };
            self.swap_port(*uuid, Some(old), Some(new), out);
        }
    }

    fn put_switch(&mut self, uuid: Uuid, new: Option<Switch>, homeless: &mut BTreeSet<Uuid>, out: &mut Applied) {
        let Some((old, new)) = replace(&mut self.switches, uuid, new) else { return };
        if old.as_ref().map(|s| &s.name) != new.as_ref().map(|s| &s.name) {
            out.touched.push(Touched::Other);
        }
        for (switch, add) in [(old, false), (new, true)] {
            let Some(switch) = switch else { continue };
            self.switches_by_id.set(Id::new(&switch.name), uuid, add);
            if self.orphans.len() < switch.ports.len() {
                homeless.extend(self.orphans.iter().filter(|port| switch.ports.binary_search(port).is_ok()));
            } else {
                homeless.extend(switch.ports.iter().filter(|port| self.orphans.contains(port)));
            }
        }
    }

    fn put_router(&mut self, uuid: Uuid, new: Option<Router>, out: &mut Applied) {
        let Some((old, new)) = replace(&mut self.routers, uuid, new) else { return };
        for (router, add) in [(&old, false), (&new, true)] {
            let Some(router) = router else { continue };
            self.routers_by_id.set(router.id.clone(), uuid, add);
            for port in &router.ports {
                self.routers_by_port.set(*port, uuid, add);
            }
            for nat in &router.nats {
                self.routers_by_nat.set(*nat, uuid, add);
            }
        }
        out.touched.push(Touched::Router(old, new));
    }

    fn put_router_port(&mut self, uuid: Uuid, new: Option<RouterPort>, out: &mut Applied) {
        let Some((old, new)) = replace(&mut self.router_ports, uuid, new) else { return };
        for (port, add) in [(&old, false), (&new, true)] {
            let Some(port) = port else { continue };
            if let Some(chassis) = &port.hosting_chassis {
                self.gateways_by_chassis.set(chassis.clone(), uuid, add);
            }
            if let Some(router) = &port.router {
                self.router_ports_by_router.set(router.clone(), uuid, add);
            }
        }
        out.touched.push(Touched::RouterPort(old, new));
    }

    fn put_nat(&mut self, uuid: Uuid, new: Option<Nat>, out: &mut Applied) {
        let Some((old, new)) = replace(&mut self.nats, uuid, new) else { return };
        for (nat, add) in [(&old, false), (&new, true)] {
            let Some(nat) = nat else { continue };
            if let Some(port) = &nat.logical_port {
                self.nats_by_port.set(port.clone(), uuid, add);
            }
            if let Some(gateway) = nat.gateway_port {
                self.nats_by_gateway.set(gateway, uuid, add);
            }
            if let Some(router) = &nat.router {
                self.nats_by_router.set(router.clone(), uuid, add);
            }
        }
        out.touched.push(Touched::Nat(old, new));
    }

    fn put_load_balancer(&mut self, uuid: Uuid, new: Option<LoadBalancer>, out: &mut Applied) {
        let Some((old, new)) = replace(&mut self.load_balancers, uuid, new) else { return };
        for (lb, add) in [(&old, false), (&new, true)] {
            let Some(lb) = lb else { continue };
            if let Some(router) = &lb.router {
                self.load_balancers_by_router.set(router.clone(), uuid, add);
            }
            if let Some(port) = &lb.vip_port {
                self.load_balancers_by_port.set(port.clone(), uuid, add);
            }
        }
        out.touched.push(Touched::LoadBalancer(old, new));
    }
}

/// What the rules ask.
impl View {
    /// Bad rows, by their UUID.
    pub fn bad(&self) -> impl Iterator<Item = &Warning> {
        self.bad.values()
    }

    /// Number of ports kept.
    pub fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// All ports, in no order.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.values().map(|port| &**port)
    }

    /// All NAT rows, in no order.
    pub fn nats(&self) -> impl Iterator<Item = (Uuid, &Nat)> {
        self.nats.iter().map(|(uuid, nat)| (*uuid, &**nat))
    }

    /// All Logical_Router_Port rows, in no order.
    pub fn router_ports(&self) -> impl Iterator<Item = (Uuid, &RouterPort)> {
        self.router_ports.iter().map(|(uuid, port)| (*uuid, &**port))
    }

    /// All Load_Balancer rows, in no order.
    pub fn load_balancers(&self) -> impl Iterator<Item = &LoadBalancer> {
        self.load_balancers.values().map(|lb| &**lb)
    }

    /// The port of a name. Names are unique; should two rows share one, the lower UUID counts.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports_by_name.get(name).find_map(|uuid| self.ports.get(&uuid)).map(|port| &**port)
    }

    /// The ports that a host owns ([`owner::of`]), of the types that get exposed.
    pub fn ports_by_host(&self, host: &str) -> impl Iterator<Item = &Port> {
        self.ports_by_host.get(host).filter_map(|uuid| self.ports.get(&uuid)).map(|port| &**port)
    }

    /// The ports of a switch, of the types that get exposed.
    pub fn ports_by_network(&self, network: &Id) -> impl Iterator<Item = &Port> {
        self.ports_by_network.get(network).filter_map(|uuid| self.ports.get(&uuid)).map(|port| &**port)
    }

    /// The localnet ports of a switch, by name.
    pub fn localnets(&self, network: &Id) -> Vec<&Port> {
        let mut ports: Vec<&Port> =
            self.localnets_by_network.get(network).filter_map(|uuid| self.ports.get(&uuid)).map(|p| &**p).collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        ports
    }

    /// The router-type ports that Neutron calls interfaces of a router, by name.
    pub fn interfaces(&self, router: &Id) -> Vec<&Port> {
        let mut ports: Vec<&Port> =
            self.interfaces_by_router.get(router).filter_map(|uuid| self.ports.get(&uuid)).map(|p| &**p).collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        ports
    }

    /// Whether some port of the network has this address, which ends in 1 (others are not indexed).
    pub fn has_first_address(&self, network: &Id, address: Ipv6Addr) -> bool {
        self.first_addresses.contains(&(network.clone(), address))
    }

    /// What the switch is called; some are named without the prefix.
    pub fn switch_name(&self, network: &Id) -> String {
        let rows = self.switches_by_id.get(network).filter_map(|uuid| self.switches.get(&uuid));
        rows.map(|switch| &switch.name).min().map_or_else(|| network.to_string(), ToString::to_string)
    }

    /// Whether there is a Logical_Switch row.
    pub fn has_switch(&self, network: &Id) -> bool {
        self.switches_by_id.contains(network)
    }

    /// The gateway ports that a chassis hosts, by name.
    pub fn gateways(&self, system_id: &str) -> Vec<(Uuid, &RouterPort)> {
        let rows = self.gateways_by_chassis.get(system_id);
        let mut ports: Vec<_> =
            rows.filter_map(|uuid| self.router_ports.get(&uuid).map(|port| (uuid, &**port))).collect();
        ports.sort_by(|a, b| (&a.1.name, a.0).cmp(&(&b.1.name, b.0)));
        ports
    }

    /// The router of a router port: what the row says, else the router that lists the port.
    pub fn router_of_port(&self, uuid: Uuid, port: &RouterPort) -> Option<Id> {
        let listed = || {
            let rows = self.routers_by_port.get(&uuid).filter_map(|router| self.routers.get(&router));
            rows.map(|router| router.id.clone()).min()
        };
        port.router.clone().or_else(listed)
    }

    /// The gateway ports of a router, wherever they are hosted, by name.
    pub fn gateways_of(&self, router: &Id) -> Vec<(Uuid, &RouterPort)> {
        let listed = self.routers(router).flat_map(|router| router.ports.iter().copied());
        let all: BTreeSet<Uuid> = listed.chain(self.router_ports_by_router.get(router)).collect();
        let rows = all.into_iter().filter_map(|uuid| Some((uuid, self.router_port(uuid)?)));
        let mut ports: Vec<_> = rows
            .filter(|(_, port)| port.hosting_chassis.is_some())
            .filter(|(uuid, port)| self.router_of_port(*uuid, port).as_ref() == Some(router))
            .collect();
        ports.sort_by(|a, b| (&a.1.name, a.0).cmp(&(&b.1.name, b.0)));
        ports
    }

    /// The switch a router port is attached to: what the row says, else that of the switch port on the other side.
    pub fn network_of_router_port(&self, port: &RouterPort) -> Option<Id> {
        let peer = || {
            let rows = self.peers_by_router_port.get(&port.name).filter_map(|peer| self.ports.get(&peer));
            rows.filter_map(|peer| peer.network.clone()).min()
        };
        port.network.clone().or_else(peer)
    }

    /// The rows of a router; more than one only in a broken database.
    pub fn routers<'a>(&'a self, router: &Id) -> impl Iterator<Item = &'a Router> + use<'a> {
        let rows: Vec<_> = self.routers_by_id.get(router).collect();
        rows.into_iter().filter_map(|uuid| self.routers.get(&uuid)).map(|router| &**router)
    }

    /// A NAT row.
    pub fn nat(&self, uuid: Uuid) -> Option<&Nat> {
        self.nats.get(&uuid).map(|nat| &**nat)
    }

    /// The NAT rows of a router: those that name it, and of those it lists the ones that name none.
    pub fn nats_of_router(&self, router: &Id) -> BTreeMap<Uuid, &Nat> {
        let listed = self.routers(router).flat_map(|router| router.nats.iter().copied());
        let named = self.nats_by_router.get(router);
        let rows = listed.chain(named).filter_map(|uuid| Some((uuid, &**self.nats.get(&uuid)?)));
        rows.filter(|(_, nat)| nat.router.as_ref().is_none_or(|named| named == router)).collect()
    }

    /// The router of a NAT row: what the row says, else the router that lists it.
    pub fn router_of_nat(&self, uuid: Uuid, nat: &Nat) -> Option<Id> {
        let listed = || {
            let rows = self.routers_by_nat.get(&uuid).filter_map(|router| self.routers.get(&router));
            rows.map(|router| router.id.clone()).min()
        };
        nat.router.clone().or_else(listed)
    }

    /// The NAT rows with this gateway port.
    pub fn nats_of_gateway(&self, gateway: Uuid) -> impl Iterator<Item = (Uuid, &Nat)> {
        self.nats_by_gateway.get(&gateway).filter_map(|uuid| Some((uuid, &**self.nats.get(&uuid)?)))
    }

    /// The NAT rows of a logical port.
    pub fn nats_of_port(&self, port: &str) -> impl Iterator<Item = (Uuid, &Nat)> {
        self.nats_by_port.get(port).filter_map(|uuid| Some((uuid, &**self.nats.get(&uuid)?)))
    }

    /// The router port of a reference.
    pub fn router_port(&self, uuid: Uuid) -> Option<&RouterPort> {
        self.router_ports.get(&uuid).map(|port| &**port)
    }

    /// The static routes of a router.
    pub fn static_routes<'a>(&'a self, router: &Id) -> impl Iterator<Item = &'a StaticRoute> + use<'a> {
        let uuids = self.routers(router).flat_map(|router| router.static_routes.iter());
        uuids.filter_map(|uuid| self.static_routes.get(uuid)).map(|route| &**route)
    }

    /// The load balancers of a router.
    pub fn load_balancers_of(&self, router: &Id) -> impl Iterator<Item = &LoadBalancer> {
        self.load_balancers_by_router.get(router).filter_map(|uuid| self.load_balancers.get(&uuid)).map(|lb| &**lb)
    }

    /// Whether a load balancer names this port as its VIP's.
    pub fn is_vip_port(&self, port: &str) -> bool {
        self.load_balancers_by_port.contains(port)
    }

    /// Whether NAT rows name this port.
    pub fn has_nat(&self, port: &str) -> bool {
        self.nats_by_port.contains(port)
    }

    /// Whether floating IPs are distributed; so unless NB_Global says otherwise.
    pub fn distributed(&self) -> bool {
        self.globals.values().all(|global| global.distributed)
    }
}

fn ends_in_one(ip: std::net::IpAddr) -> Option<Ipv6Addr> {
    match ip {
        std::net::IpAddr::V6(ip) if ip.segments().last() == Some(&1) => Some(ip),
        _ => None,
    }
}

/// A row before and after.
type Change<T> = (Option<Arc<T>>, Option<Arc<T>>);

/// Puts the row in; before and after, if they differ.
fn replace<T: PartialEq>(rows: &mut HashMap<Uuid, Arc<T>>, uuid: Uuid, new: Option<T>) -> Option<Change<T>> {
    if rows.get(&uuid).map(|old| &**old) == new.as_ref() {
        return None;
    }
    let new = new.map(Arc::new);
    let old = match &new {
        Some(new) => rows.insert(uuid, Arc::clone(new)),
        None => rows.remove(&uuid),
    };
    Some((old, new))
}
