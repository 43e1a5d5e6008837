//! Taking over what ovn-bgp-agent left in the kernel, by giving it our marks. Afterwards it is kept or removed like anything of ours.
//!
//! That agent marks nothing, so what it made is told by its ways: rules of its priority without a protocol that look up a bridge's
//! table, routes of protocol "boot" in there, and what belongs to these. Only done when the operator asks for it.
//!
//! What has no successor here – the dummy device whose addresses FRR announced, and its VRF – is removed once everything else stands.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::kernel::{ALIAS, Kernel, Scope, is_of_our_plan};
use super::netlink::objects::{Address, Device, Neighbour, Route, Rule};
use super::netlink::wire::Request;

/// Protocol of whom does not say, and of `ip route` without `proto`.
const UNSPEC: u8 = 0;
const BOOT: u8 = 3;
/// The priority of its rules: what its netlink library takes unless told otherwise.
const PRIORITY: u32 = 32000;
/// Cookie of its flows, whose form is ours.
pub const UPSTREAM_COOKIE: u64 = 999;
/// The device that carries what FRR is to announce, and the VRF that it is in; the defaults of `bgp_nic` and `bgp_vrf`.
const BGP_NIC: &str = "bgp-nic";
const BGP_VRF: &str = "bgp-vrf";

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
        let addresses = self.addresses_left(&indexes)?;
        let protocol = self.marks.protocol;
        let mark = |address: &Address| Address { protocol, ..address.clone() };
        requests.extend(addresses.iter().map(|address| mark(address).replace()));
        requests.extend(aliases);
        self.execute_adoption(&requests)?;
        // Kernels of some years keep the old mark when an address is replaced. Then it goes and comes back, while another one stands
        // in for it: the last address of a device would take the routes along.
        let stubborn = self.addresses_left(&indexes)?;
        let again = stubborn.iter().flat_map(|address| {
            let stand_in = Address { net: stand_in(address.net), ..mark(address) };
            [stand_in.replace(), address.remove(), mark(address).replace(), stand_in.remove()]
        });
        self.execute_adoption(&again.collect::<Vec<_>>())?;
        Ok(requests.len() - rules)
    }

    fn execute_adoption(&mut self, requests: &[Request]) -> io::Result<()> {
        for refused in self.execute(requests)?.into_iter().filter_map(Result::err) {
            tracing::warn!(%refused, "an object that ovn-bgp-agent left could not be taken over");
        }
        Ok(())
    }

    /// Removes the dummy device and the VRF; answers what was removed. Only the pair is ever taken for upstream's: a device of that
    /// name and kind in a VRF of that name. A VRF that something else is in as well stays.
    pub fn remove_upstream_devices(&mut self) -> io::Result<Vec<&'static str>> {
        self.refresh_devices()?;
        let of_kind =
            |name: &str, kind: &str| self.devices.get(name).filter(|device| device.kind.as_deref() == Some(kind));
        let (Some(nic), Some(vrf)) = (of_kind(BGP_NIC, "dummy"), of_kind(BGP_VRF, "vrf")) else {
            return Ok(Vec::new());
        };
        if nic.master != Some(vrf.ifindex) {
            return Ok(Vec::new());
        }
        let shared = self.devices.values().any(|other| other.master == nic.master && other.ifindex != nic.ifindex);
        let mut going = vec![(BGP_NIC, Device::remove(nic.ifindex))];
        going.extend((!shared).then(|| (BGP_VRF, Device::remove(vrf.ifindex))));
        let (names, requests): (Vec<_>, Vec<_>) = going.into_iter().unzip();
        let mut removed = Vec::new();
        for (name, answer) in names.into_iter().zip(self.execute(&requests)?) {
            match answer {
                Ok(()) => removed.push(name),
                Err(refused) => {
                    tracing::warn!(device = name, %refused, "a device that ovn-bgp-agent left cannot be removed");
                }
            }
        }
        Ok(removed)
    }

    /// The rules, and the addresses they are about.
    fn adopt_rules(&mut self, scope: &Scope) -> io::Result<(Vec<Request>, BTreeSet<IpAddr>)> {
        let (mut requests, mut addresses) = (Vec::new(), BTreeSet::new());
        for rule in self.dump_both(Rule::dump, Rule::read)? {
            let left =
                rule.priority == PRIORITY && rule.protocol == UNSPEC && rule.to.prefix_len() > 0 && !rule.no_default;
            if left && scope.tables.contains(&rule.table) {
                requests.push(self.marks.rule(Some(rule.to), rule.to.addr().is_ipv6(), rule.table).add());
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

    fn addresses_left(&mut self, indexes: &BTreeSet<u32>) -> io::Result<Vec<Address>> {
        if !self.addresses_marked() {
            // Nobody's are marked, and ours are known by the address plan, which is upstream's.
            return Ok(Vec::new());
        }
        let mut addresses = self.dump_both(Address::dump, Address::read)?;
        addresses.retain(|address| {
            address.protocol == UNSPEC && indexes.contains(&address.ifindex) && is_of_our_plan(address.net)
        });
        Ok(addresses)
    }
}

/// An address that no device of the plan has: 169.254.255.254, fd53:d91e:400:7f17:ffff:ffff:ffff:ffff.
fn stand_in(address: IpNet) -> IpNet {
    match address {
        IpNet::V4(_) => Ipv4Net::from(Ipv4Addr::new(169, 254, 255, 254)).into(),
        IpNet::V6(_) => {
            Ipv6Net::from(Ipv6Addr::new(0xfd53, 0xd91e, 0x400, 0x7f17, 0xffff, 0xffff, 0xffff, 0xffff)).into()
        }
    }
}

/// At most ten characters of the bridge's name, a dot, the tag.
fn is_upstream_name(device: &Device) -> bool {
    let tag = device.vlan.map(|vlan| vlan.tag.to_string());
    device.name.rsplit_once('.').is_some_and(|(bridge, suffix)| bridge.len() <= 10 && tag.as_deref() == Some(suffix))
}
