//! Taking over what ovn-bgp-agent left in the kernel, by giving it our marks. Afterwards it is kept or removed like anything of ours.
//!
//! That agent marks nothing, so what it made is told by its ways: rules of its priority without a protocol that look up a bridge's
//! table, routes of protocol "boot" in there, and what belongs to these. Only done when the operator asks for it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use super::kernel::{ALIAS, Kernel, Scope, is_of_our_plan};
use super::netlink::objects::{Address, Device, Neighbour, Route, Rule};
use super::netlink::wire::Request;

/// Protocol of whom does not say, and of `ip route` without `proto`.
const UNSPEC: u8 = 0;
const BOOT: u8 = 3;

impl Kernel {
    /// Marks what ovn-bgp-agent left in the bridges' tables and on their devices as ours; answers how many objects these are.
    ///
    /// Nothing is interrupted: everything is replaced in place, and a rule gets its marked twin before it goes.
    pub fn adopt_upstream(&mut self, scope: &Scope) -> io::Result<usize> {
        self.refresh_devices()?;
        let bridges: BTreeSet<u32> =
            scope.devices.iter().filter_map(|name| self.devices.get(name)).map(|device| device.ifindex).collect();
        let on_bridge = |device: &&Device| device.vlan.is_some_and(|vlan| bridges.contains(&vlan.parent));
        let vlan_devices: Vec<&Device> =
            self.devices.values().filter(on_bridge).filter(|device| is_upstream_name(device)).collect();
        let indexes = bridges.iter().copied().chain(vlan_devices.iter().map(|device| device.ifindex)).collect();
        let unmarked = vlan_devices.into_iter().filter(|device| device.alias.is_none());
        let aliases: Vec<Request> = unmarked.map(|device| Device::set_alias(&device.name, ALIAS)).collect();
        let (mut requests, addresses) = self.adopt_rules(scope)?;
        // Each rule takes two requests.
        let rules = requests.len() / 2;
        requests.extend(self.adopt_routes(scope)?);
        requests.extend(self.adopt_neighbours(&indexes, &addresses)?);
        requests.extend(self.adopt_addresses(&indexes)?);
        requests.extend(aliases);
        let refused = self.execute(&requests)?.into_iter().filter_map(Result::err);
        for refused in refused {
            tracing::warn!(%refused, "an object that ovn-bgp-agent left could not be taken over");
        }
        Ok(requests.len() - rules)
    }

    /// The rules, and the addresses they are about.
    fn adopt_rules(&mut self, scope: &Scope) -> io::Result<(Vec<Request>, BTreeSet<IpAddr>)> {
        let (mut requests, mut addresses) = (Vec::new(), BTreeSet::new());
        for rule in self.dump_both(Rule::dump, Rule::read)? {
            let left = rule.priority == self.marks.rule_priority && rule.protocol == UNSPEC;
            if left && scope.tables.contains(&rule.table) {
                requests.push(Rule { protocol: self.marks.protocol, ..rule.clone() }.add());
                requests.push(rule.remove());
                addresses.insert(rule.to.addr());
            }
        }
        Ok((requests, addresses))
    }

    fn adopt_routes(&mut self, scope: &Scope) -> io::Result<Vec<Request>> {
        let mut requests = Vec::new();
        for table in &scope.tables {
            let routes = self.dump_both(|v6| Route::dump(v6, Some(*table), BOOT), Route::read)?;
            let simple = routes.into_iter().filter(|route| route.hops.len() == 1);
            requests.extend(simple.map(|route| Route { protocol: self.marks.protocol, ..route }.replace()));
        }
        Ok(requests)
    }

    fn adopt_neighbours(&mut self, indexes: &BTreeSet<u32>, addresses: &BTreeSet<IpAddr>) -> io::Result<Vec<Request>> {
        let mut entries = self.dump_both(|v6| Neighbour::dump(v6, false), Neighbour::read)?;
        entries.retain(|entry| entry.permanent && entry.mac.is_some() && addresses.contains(&entry.address));
        entries.extend(self.dumps_of(&Neighbour::dump(true, true), Neighbour::read)?);
        let left = entries.into_iter().filter(|entry| entry.protocol == UNSPEC && indexes.contains(&entry.ifindex));
        Ok(left.map(|entry| Neighbour { protocol: self.marks.protocol, ..entry }.replace()).collect())
    }

    fn adopt_addresses(&mut self, indexes: &BTreeSet<u32>) -> io::Result<Vec<Request>> {
        let addresses = self.dump_both(Address::dump, Address::read)?;
        let left = addresses.into_iter().filter(|address| {
            address.protocol == UNSPEC && indexes.contains(&address.ifindex) && is_of_our_plan(address.net)
        });
        Ok(left.map(|address| Address { protocol: self.marks.protocol, ..address }.replace()).collect())
    }
}

/// At most ten characters of the bridge's name, a dot, the tag.
fn is_upstream_name(device: &Device) -> bool {
    let tag = device.vlan.map(|vlan| vlan.tag.to_string());
    device.name.rsplit_once('.').is_some_and(|(bridge, suffix)| bridge.len() <= 10 && tag.as_deref() == Some(suffix))
}
