//! What one host keeps of the ports of a cloud.
//!
//! Nearly all ports are on other hosts and on networks this one does not route. The rules never look at them, so a focused view
//! leaves them out: they are looked at once, at the door. What they look at may grow – a gateway arrives, a floating IP is given to
//! a port that was nobody's business so far – and then the rows are there, in the database, to be taken in late. A property test
//! holds a focused and a whole view to the same desired state.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::{Value as Json, json};

use super::row::{Nat, Port};
use super::view::{Applied, Touched, View};
use super::{Id, PREFIX};
use crate::desired::owner;
use crate::host::Chassis;
use crate::ovsdb::value::{Database, Uuid};

/// Whose ports are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Focus {
    pub(super) chassis: Chassis,
    pub(super) reach: Reach,
}

/// What the gateways hosted here lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    gateways: BTreeSet<Uuid>,
    routers: BTreeSet<Id>,
    /// Switches that have an interface of one of the routers.
    pub networks: BTreeSet<Id>,
    /// Names of ports that NAT rows and load balancers of the routers refer to.
    pub names: BTreeSet<Arc<str>>,
}

impl Focus {
    /// The host.
    pub fn chassis(&self) -> &Chassis {
        &self.chassis
    }

    /// What its gateways lead to.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Whether a rule may look at the port.
    pub(super) fn keeps(&self, port: &Port) -> bool {
        let mine = || owner::of(port).is_some_and(|host| self.chassis.is_me(host));
        let routed = || port.network.as_ref().is_some_and(|network| self.reach.networks.contains(network));
        port.infrastructure.is_some()
            || port.orphan
            || (port.port_type.is_exposable() && (mine() || routed() || port.has_first_address()))
            || self.reach.names.contains(&port.name)
    }

    /// Whether a change may change the reach.
    fn is_moved_by(&self, touched: &Touched) -> bool {
        let Reach { gateways, routers, .. } = &self.reach;
        let mine = |router: &Option<Id>| router.as_ref().is_some_and(|router| routers.contains(router));
        let nat = |nat: &Arc<Nat>| {
            nat.gateway_port.is_some_and(|gateway| gateways.contains(&gateway))
                || mine(&nat.router)
                || (nat.router.is_none() && !gateways.is_empty())
        };
        match touched {
            Touched::RouterPort(old, new) => either(old.as_ref(), new.as_ref(), |port| {
                port.hosting_chassis.as_deref() == Some(&*self.chassis.system_id) || mine(&port.router)
            }),
            Touched::Router(old, new) => either(old.as_ref(), new.as_ref(), |router| {
                routers.contains(&router.id) || router.ports.iter().any(|port| gateways.contains(port))
            }),
            Touched::Nat(old, new) => either(old.as_ref(), new.as_ref(), nat),
            Touched::LoadBalancer(old, new) => either(old.as_ref(), new.as_ref(), |lb| mine(&lb.router)),
            Touched::Port(old, new) => either(old.as_ref(), new.as_ref(), |port| {
                port.infrastructure.as_ref().is_some_and(|i| mine(&i.interface_of))
            }),
            Touched::Other => false,
        }
    }
}

fn either<T>(old: Option<&Arc<T>>, new: Option<&Arc<T>>, test: impl Fn(&Arc<T>) -> bool) -> bool {
    [old, new].into_iter().flatten().any(test)
}

impl Reach {
    fn new(view: &View, chassis: &Chassis) -> Self {
        let mut reach = Self::default();
        for (uuid, port) in view.gateways(&chassis.system_id) {
            reach.gateways.insert(uuid);
            reach.routers.extend(view.router_of_port(uuid, port));
            let nats = view.nats_of_gateway(uuid);
            reach.names.extend(nats.filter_map(|(_, nat)| nat.logical_port.clone()));
        }
        for router in &reach.routers {
            reach.networks.extend(view.interfaces(router).into_iter().filter_map(|port| port.network.clone()));
            let nats = view.nats_of_router(router);
            reach.names.extend(nats.values().filter_map(|nat| nat.logical_port.clone()));
            reach.names.extend(view.load_balancers_of(router).filter_map(|lb| lb.vip_port.clone()));
        }
        reach
    }
}

impl View {
    /// A view of no rows that will keep only what the rules look at on this host.
    pub fn focused(chassis: Chassis) -> Self {
        let mut view = Self::default();
        view.focus = Some(Focus { chassis, reach: Reach::default() });
        view
    }

    /// What is kept; everything if `None`.
    pub fn focus(&self) -> Option<&Focus> {
        self.focus.as_ref()
    }

    /// The rows of Logical_Switch_Port that this view can keep, as the `where` of a conditional monitor; `None`: all of them.
    ///
    /// OVSDB compares whole values and whole pairs of a map. So it cannot find: ports whose `requested-chassis` is a list that
    /// begins with this host while `neutron:host_id` is not set (a few seconds of a live migration; the list is asked for as it
    /// stands as soon as the port is seen with it), names of this host with blanks around them, ports of a routed network that do
    /// not name it, and ports of other hosts with the first IPv6 address of a network.
    pub fn conditions(&self) -> Option<Json> {
        let focus = self.focus.as_ref()?;
        let pair = |column: &str, key: &str, value: &str| json!([column, "includes", ["map", [[key, value]]]]);
        let mut clauses = vec![json!(["type", "==", "router"]), json!(["type", "==", "localnet"])];
        let chassis = &focus.chassis;
        let mut requested: BTreeSet<&str> =
            [&*chassis.hostname, &*chassis.system_id].into_iter().filter(|name| !name.is_empty()).collect();
        clauses.extend(requested.iter().map(|name| pair("external_ids", "neutron:host_id", name)));
        let moving = self.ports.values().filter(|port| owner::is_moving(port));
        let mine = moving.filter(|port| owner::of(port).is_some_and(|host| chassis.is_me(host)));
        requested.extend(mine.filter_map(|port| port.requested_chassis.as_deref()));
        clauses.extend(requested.iter().map(|name| pair("options", "requested-chassis", name)));
        for network in &focus.reach.networks {
            clauses.push(pair("external_ids", "neutron:network_name", &network.to_string()));
            clauses.push(pair("external_ids", "neutron:network_name", network.bare()));
        }
        let elsewhere = |name: &&Arc<str>| {
            let routed = |port: &Port| port.network.as_ref().is_some_and(|n| focus.reach.networks.contains(n));
            !self.port(name).is_some_and(routed)
        };
        clauses.extend(focus.reach.names.iter().filter(elsewhere).map(|name| json!(["name", "==", **name])));
        Some(Json::from(clauses))
    }

    pub(super) fn keeps(&self, port: &Port) -> bool {
        self.focus.as_ref().is_none_or(|focus| focus.keeps(port))
    }

    /// Follows the gateways: takes in the ports they lead to now, lets go of those they no longer lead to.
    pub(super) fn refocus(&mut self, database: &Database, out: &mut Applied) {
        // What is taken in are no gateways and interfaces, so that once is enough.
        let Some(focus) = &mut self.focus else { return };
        if !out.touched.iter().any(|touched| focus.is_moved_by(touched)) {
            return;
        }
        let mut focus = std::mem::take(focus);
        let reach = Reach::new(self, &focus.chassis);
        let old = std::mem::replace(&mut focus.reach, reach);
        let gone: Vec<Uuid> = self.ports.iter().filter(|(_, port)| !focus.keeps(port)).map(|(uuid, _)| *uuid).collect();
        let come = find(database, &focus.reach, &old);
        self.focus = Some(focus);
        for uuid in gone {
            let old = self.ports.get(&uuid).cloned();
            self.swap_port(uuid, old, None, out);
        }
        self.take_in(database, come, out);
    }

    /// Takes in the ports of these rows that are to be kept and are not there.
    fn take_in(&mut self, database: &Database, rows: BTreeSet<Uuid>, out: &mut Applied) {
        let Some(table) = database.get(Port::TABLE) else { return };
        for uuid in rows {
            if self.ports.contains_key(&uuid) {
                continue;
            }
            let row = table.get_with(&uuid, &mut self.interner);
            // A bad row was warned about when it came.
            if let Some(port) = row.and_then(|row| Port::parse(&row).ok()).filter(|port| self.keeps(port)) {
                self.swap_port(uuid, None, Some(port), out);
            }
        }
    }

    /// This view, and the ports that an address belongs to wherever they are: for questions about it.
    #[must_use]
    pub fn widened(&self, database: &Database, address: IpNet) -> Self {
        let mut view = self.clone();
        let (Some(table), Some(_)) = (database.get(Port::TABLE), view.focus.take()) else { return view };
        let mut found = BTreeSet::new();
        let mut search = |column, key| {
            table.texts(column, key, |uuid, text| {
                let is_it = |word: &str| {
                    let plain = word.split_once('/').map_or(word, |(address, _)| address);
                    plain.parse::<IpAddr>() == Ok(address.addr())
                };
                if text.split_whitespace().any(is_it) {
                    found.insert(uuid);
                }
            });
        };
        search("addresses", None);
        search("external_ids", Some("neutron:cidrs"));
        // What has it need not be a port itself, but belong to one.
        let nats = self.nats().filter(|(_, nat)| nat.external_ip == address.addr());
        let vips = self.load_balancers().filter(|lb| lb.vips.contains(&address.addr()));
        let names: HashSet<&str> = nats
            .filter_map(|(_, nat)| nat.logical_port.as_deref())
            .chain(vips.filter_map(|lb| lb.vip_port.as_deref()))
            .collect();
        table.texts("name", None, |uuid, text| {
            if names.contains(text) {
                found.insert(uuid);
            }
        });
        view.take_in(database, found, &mut Applied::default());
        view.focus.clone_from(&self.focus);
        view
    }
}

/// The rows of ports that the reach leads to and the old one did not.
fn find(database: &Database, reach: &Reach, old: &Reach) -> BTreeSet<Uuid> {
    let mut found = BTreeSet::new();
    let Some(table) = database.get(Port::TABLE) else { return found };
    let networks: HashSet<&str> = reach.networks.difference(&old.networks).map(Id::bare).collect();
    if !networks.is_empty() {
        table.texts("external_ids", Some("neutron:network_name"), |uuid, text| {
            if networks.contains(text.strip_prefix(PREFIX).unwrap_or(text)) {
                found.insert(uuid);
            }
        });
    }
    let names: HashSet<&str> = reach.names.difference(&old.names).map(|name| &**name).collect();
    if !names.is_empty() {
        table.texts("name", None, |uuid, text| {
            if names.contains(text) {
                found.insert(uuid);
            }
        });
    }
    found
}
