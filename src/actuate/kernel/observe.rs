//! Dumps → what is there, in the words of the wiring.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Kernel, Scope, is_of_our_plan, is_ours};
use crate::actuate::netlink::objects::{Address, Neighbour, Route, Rule};
use crate::desired::wiring::{Key, Object, Spec};

/// The kernel's metric of an IPv6 route nobody gave one.
const IPV6_METRIC: u32 = 1024;

/// What an observation has found so far.
#[derive(Default)]
struct Found {
    specs: BTreeMap<Key, Spec>,
    foreign: BTreeSet<Key>,
}

impl Found {
    /// Where one of ours and one of somebody else stand side by side (rules can), ours counts.
    fn put(&mut self, key: Key, spec: Spec, ours: bool) {
        if ours {
            self.foreign.remove(&key);
        } else if self.specs.contains_key(&key) {
            return;
        } else {
            self.foreign.insert(key.clone());
        }
        self.specs.insert(key, spec);
    }
}

impl Kernel {
    /// Everything that is ours, and everything that is there under the wanted keys whoever made it.
    ///
    /// A specification that the agent cannot express (a multipath route, a neighbour that is not permanent) reads as
    /// [`Spec::Present`], which differs from every specification such an object can be wanted with.
    pub fn observe(&mut self, scope: &Scope, wanted: &BTreeMap<Key, Object>) -> io::Result<BTreeMap<Key, Spec>> {
        self.refresh_devices()?;
        let names = self.names();
        let mut found = Found::default();
        self.observe_devices(wanted, &names, &mut found);
        self.observe_sysctls(wanted, &mut found);
        let tables = self.observe_rules(scope, wanted, &mut found)?;
        self.observe_routes(&tables, wanted, &names, &mut found)?;
        self.observe_neighbours(wanted, &names, &mut found)?;
        self.observe_addresses(scope, wanted, &names, &mut found)?;
        self.foreign = found.foreign;
        Ok(found.specs)
    }

    fn observe_devices(&self, wanted: &BTreeMap<Key, Object>, names: &HashMap<u32, String>, found: &mut Found) {
        for device in self.devices.values() {
            let up = Key::LinkUp { device: device.name.clone() };
            if device.up && wanted.contains_key(&up) {
                found.put(up, Spec::Present, true);
            }
            let key = Key::VlanDevice { name: device.name.clone() };
            let spec = match (device.vlan, wanted.get(&key)) {
                (Some(vlan), want) if want.is_some() || is_ours(device) => {
                    let parent = names.get(&vlan.parent).cloned().unwrap_or_default();
                    Spec::Vlan { parent, tag: vlan.tag }
                }
                // A device the operator has made in its place, such as an OVS internal port with the tag, will do.
                (None, Some(want)) => want.spec.clone(),
                _ => continue,
            };
            found.put(key, spec, is_ours(device));
        }
    }

    fn observe_sysctls(&self, wanted: &BTreeMap<Key, Object>, found: &mut Found) {
        for key in wanted.keys() {
            if let Key::Sysctl { path } = key
                && let Ok(value) = self.read_sysctl(path)
            {
                found.put(key.clone(), Spec::Value(value), true);
            }
        }
    }

    /// Answers the tables that may hold routes of ours: those of the scope and those our rules name.
    fn observe_rules(
        &mut self,
        scope: &Scope,
        wanted: &BTreeMap<Key, Object>,
        found: &mut Found,
    ) -> io::Result<BTreeSet<u32>> {
        let mut tables = scope.tables.clone();
        tables.extend(wanted.keys().filter_map(|key| match key {
            Key::Route { table, .. } => Some(*table),
            _ => None,
        }));
        for rule in self.dump_both(Rule::dump, Rule::read)? {
            if rule.priority != self.marks.rule_priority {
                continue;
            }
            let to = (rule.to.prefix_len() > 0).then_some(rule.to);
            if rule.no_default != to.is_none() {
                continue;
            }
            let v6 = matches!(rule.to, IpNet::V6(_));
            let key = Key::Rule { to, v6, table: rule.table };
            let ours = rule.protocol == self.marks.protocol;
            if ours {
                tables.insert(rule.table);
            }
            if ours || wanted.contains_key(&key) {
                found.put(key, Spec::Present, ours);
            }
        }
        Ok(tables)
    }

    fn observe_routes(
        &mut self,
        tables: &BTreeSet<u32>,
        wanted: &BTreeMap<Key, Object>,
        names: &HashMap<u32, String>,
        found: &mut Found,
    ) -> io::Result<()> {
        for table in tables {
            for route in self.dump_both(|v6| Route::dump(v6, Some(*table), 0), Route::read)? {
                let key = Key::Route { table: route.table, to: route.to };
                let ours = route.protocol == self.marks.protocol;
                let same_place = route.metric == default_metric(route.to);
                let in_our_way = same_place && wanted.contains_key(&key);
                if !(ours || in_our_way) {
                    continue;
                }
                let spec = match route.hops.as_slice() {
                    [hop] => match names.get(&hop.ifindex) {
                        Some(device) => Spec::Route { device: device.clone(), via: hop.via },
                        None => Spec::Present,
                    },
                    _ => Spec::Present,
                };
                if same_place {
                    found.put(key, spec, ours);
                } else if !found.specs.contains_key(&key) {
                    found.put(key, Spec::Present, ours);
                }
            }
        }
        Ok(())
    }

    fn observe_neighbours(
        &mut self,
        wanted: &BTreeMap<Key, Object>,
        names: &HashMap<u32, String>,
        found: &mut Found,
    ) -> io::Result<()> {
        let mut entries = self.dump_both(|v6| Neighbour::dump(v6, false), Neighbour::read)?;
        entries.extend(self.dumps_of(&Neighbour::dump(true, true), Neighbour::read)?);
        for entry in entries {
            let Some(device) = names.get(&entry.ifindex).cloned() else { continue };
            let ours = entry.protocol == self.marks.protocol;
            let (key, spec) = match entry.address {
                IpAddr::V6(address) if entry.proxy => (Key::Proxy { device, address }, Spec::Present),
                address => {
                    let lladdr = entry.mac.filter(|_| entry.permanent).map_or(Spec::Present, Spec::Lladdr);
                    (Key::Neighbour { device, address }, lladdr)
                }
            };
            // What the kernel has learned by itself is no object of anybody's.
            if ours || ((entry.permanent || entry.proxy) && wanted.contains_key(&key)) {
                found.put(key, spec, ours);
            }
        }
        Ok(())
    }

    fn observe_addresses(
        &mut self,
        scope: &Scope,
        wanted: &BTreeMap<Key, Object>,
        names: &HashMap<u32, String>,
        found: &mut Found,
    ) -> io::Result<()> {
        for address in self.dump_both(Address::dump, Address::read)? {
            let Some(device) = names.get(&address.ifindex) else { continue };
            let planned = !self.addresses_marked && scope.devices.contains(device) && is_of_our_plan(address.net);
            let key = Key::Address { device: device.clone(), address: address.net };
            let ours = address.protocol == self.marks.protocol || planned;
            if ours || wanted.contains_key(&key) {
                found.put(key, Spec::Present, ours);
            }
        }
        Ok(())
    }
}

fn default_metric(to: IpNet) -> u32 {
    if matches!(to, IpNet::V6(_)) { IPV6_METRIC } else { 0 }
}
