//! The kernel's side of the wiring: observe what is ours, apply what differs.
//!
//! Ownership marks live in the kernel, none in memory: rules with our priority *and* protocol, routes, neighbours, proxy entries
//! and addresses with our protocol, VLAN devices with our alias. What lacks the mark is never removed. What is wanted and
//! already there by somebody else's hand is reported as there, so that it is not made twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::OpError;
use super::monitor::Monitor;
use super::netlink::objects::{Address, Device, Hop, Neighbour, Route, Rule, default_net};
use super::netlink::socket::{Answer, RequestSocket};
use super::netlink::wire::{Frame, Request};
use crate::desired::wiring::Key;
use crate::mac::Mac;

mod apply;
mod observe;

/// Alias that marks VLAN devices as ours.
pub(super) const ALIAS: &str = "ovn-bgpd";

/// What marks an object as ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Priority of our rules.
    pub rule_priority: u32,
    /// Protocol number of our rules, routes, neighbours and addresses.
    pub protocol: u8,
}

impl Default for Marks {
    fn default() -> Self {
        Self { rule_priority: 32000, protocol: 99 }
    }
}

/// What part of the kernel's state concerns us, besides what carries our mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Routing tables of the bridges.
    pub tables: BTreeSet<u32>,
    /// Bridges, their VLAN devices, and interfaces whose addresses are announced.
    pub devices: BTreeSet<String>,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier (IFF_LOWER_UP).
    pub carrier: bool,
}

/// The socket for dumps, and how it is opened when there is none.
pub(crate) struct Dumps {
    socket: Option<RequestSocket>,
    open: fn() -> io::Result<RequestSocket>,
}

impl Dumps {
    /// Opens nothing yet.
    pub(crate) fn by(open: fn() -> io::Result<RequestSocket>) -> Self {
        Self { socket: None, open }
    }
}

/// Our end of the kernel. One owner; every call blocks for the few microseconds the kernel needs.
pub struct Kernel {
    pub(super) marks: Marks,
    requests: Option<RequestSocket>,
    pub(crate) dumps: Dumps,
    /// Port of the request socket, 0 while there is none: how a monitor knows our own doings.
    port: Arc<AtomicU32>,
    pub(super) devices: BTreeMap<String, Device>,
    /// What the last observation found to be somebody else's. The caller may have taken it for granted while it was wanted; it
    /// is not ours to remove afterwards.
    foreign: BTreeSet<Key>,
    sysctls: PathBuf,
    /// Before 5.18 the kernel forgets who set an address; ours are then known by the address plan.
    addresses_marked: bool,
}

impl Kernel {
    /// Opens nothing yet; sockets are opened when needed, and again after an error.
    pub fn new(marks: Marks) -> Self {
        Self {
            marks,
            requests: None,
            dumps: Dumps::by(RequestSocket::open_strict),
            port: Arc::default(),
            devices: BTreeMap::new(),
            foreign: BTreeSet::new(),
            sysctls: PathBuf::from("/proc/sys"),
            addresses_marked: kernel_at_least(5, 18),
        }
    }

    /// Whether the kernel keeps marks on addresses.
    pub(super) const fn addresses_marked(&self) -> bool {
        self.addresses_marked
    }

    /// A stream of notices about changes by others. Needs a tokio runtime.
    pub fn monitor(&self, scope: Scope) -> io::Result<Monitor> {
        Monitor::open(self.marks, scope, Arc::clone(&self.port))
    }

    /// All network devices.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        self.refresh_devices()?;
        Ok(self
            .devices
            .values()
            .map(|device| Link {
                name: device.name.clone(),
                ifindex: device.ifindex,
                mac: device.mac,
                up: device.up,
                carrier: device.carrier,
            })
            .collect())
    }

    /// The addresses of the given devices as host prefixes: what `[advertise] interfaces` announces. Loopback, link-local and
    /// tentative addresses, our own, and those of devices that are down are left out.
    ///
    /// To follow them, put the devices into the scope of a [`Monitor`] and ask again when it says `addresses` or `links`.
    pub fn addresses(&mut self, devices: &BTreeSet<String>) -> io::Result<BTreeMap<String, BTreeSet<IpNet>>> {
        self.refresh_devices()?;
        let up = |device: &&Device| device.up && devices.contains(&device.name);
        let names: HashMap<u32, String> =
            self.devices.values().filter(up).map(|device| (device.ifindex, device.name.clone())).collect();
        let mut found: BTreeMap<String, BTreeSet<IpNet>> = BTreeMap::new();
        for address in self.dump_both(Address::dump, Address::read)? {
            if let Some(name) = names.get(&address.ifindex)
                && address.usable
                && address.protocol != self.marks.protocol
            {
                found.entry(name.clone()).or_default().insert(IpNet::from(address.net.addr()));
            }
        }
        Ok(found)
    }

    /// The networks this host is in: each address with the length of its prefix, and the device it is on.
    pub fn networks(&mut self) -> io::Result<Vec<(IpNet, String)>> {
        self.refresh_devices()?;
        let names = self.names();
        let addresses = self.dump_both(Address::dump, Address::read)?;
        Ok(addresses.into_iter().filter_map(|own| Some((own.net, names.get(&own.ifindex)?.clone()))).collect())
    }

    /// Routing tables that are named by any rule or hold any route.
    pub fn tables_in_use(&mut self) -> io::Result<BTreeSet<u32>> {
        let rules = self.dump_both(Rule::dump, Rule::read_table)?;
        let routes = self.dump_both(|v6| Route::dump(v6, None, 0), |frame| Some(Route::read(frame)?.table))?;
        Ok(rules.into_iter().chain(routes).collect())
    }

    fn read_sysctl(&self, path: &str) -> io::Result<String> {
        Ok(std::fs::read_to_string(self.sysctls.join(path))?.trim().to_owned())
    }

    /// Executes requests; a socket that fails is replaced the next time.
    pub(super) fn execute(&mut self, requests: &[Request]) -> io::Result<Vec<Answer>> {
        let mut socket = if let Some(socket) = self.requests.take() {
            socket
        } else {
            let socket = RequestSocket::open()?;
            self.port.store(socket.port(), Ordering::Relaxed);
            socket
        };
        // After an error answers may still be under way on this socket: it is never used again.
        let answers = socket.execute(requests)?;
        self.requests = Some(socket);
        Ok(answers)
    }

    /// A dump of both families.
    pub(super) fn dump_both<T>(
        &mut self,
        request: impl Fn(bool) -> Request,
        read: impl Fn(&Frame<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut found = self.dumps_of(&request(false), &read)?;
        found.extend(self.dumps_of(&request(true), &read)?);
        Ok(found)
    }

    pub(super) fn dumps_of<T>(
        &mut self,
        request: &Request,
        read: impl Fn(&Frame<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut socket = match self.dumps.socket.take() {
            Some(socket) => socket,
            None => (self.dumps.open)()?,
        };
        let found = socket.dump(request, read)?;
        self.dumps.socket = Some(socket);
        Ok(found)
    }

    pub(super) fn refresh_devices(&mut self) -> io::Result<()> {
        let devices = self.dumps_of(&Device::dump(), Device::read)?;
        self.devices = devices.into_iter().map(|device| (device.name.clone(), device)).collect();
        Ok(())
    }

    pub(super) fn names(&self) -> HashMap<u32, String> {
        self.devices.values().map(|device| (device.ifindex, device.name.clone())).collect()
    }

    /// Looks again when the device was not there the last time.
    pub(super) fn ifindex(&mut self, device: &str) -> Result<u32, OpError> {
        if !self.devices.contains_key(device) {
            self.refresh_devices().map_err(|error| OpError::Lost(error.to_string()))?;
        }
        self.devices.get(device).map(|found| found.ifindex).ok_or_else(|| OpError::NoDevice(device.to_owned()))
    }
}

/// Objects with our marks.
impl Marks {
    pub(super) fn rule(self, to: Option<IpNet>, v6: bool, table: u32) -> Rule {
        // One for everything must never lead to a default route, be it ours for a moment or somebody else's: all traffic of the host
        // would take it. It also tells the rule from the others: the kernel ignores the destination 0/0 when it compares.
        let no_default = to.is_none();
        let to = to.unwrap_or(default_net(v6));
        Rule { to, table, priority: self.rule_priority, protocol: self.protocol, no_default }
    }

    pub(super) fn route(self, table: u32, to: IpNet, hops: Vec<Hop>) -> Route {
        Route { to, table, protocol: self.protocol, metric: 0, source: None, hops }
    }

    pub(super) fn neighbour(self, ifindex: u32, address: IpAddr, mac: Option<Mac>) -> Neighbour {
        Neighbour { ifindex, address, mac, permanent: true, proxy: false, protocol: self.protocol }
    }

    pub(super) fn proxy(self, ifindex: u32, address: Ipv6Addr) -> Neighbour {
        Neighbour { proxy: true, permanent: false, ..self.neighbour(ifindex, address.into(), None) }
    }

    pub(super) fn address(self, ifindex: u32, address: IpNet) -> Address {
        Address { ifindex, net: address, protocol: self.protocol, usable: true }
    }
}

fn is_ours(device: &Device) -> bool {
    device.alias.as_deref() == Some(ALIAS)
}

/// The address plan: 169.254.i.k/32 and fd53:d91e:400:7f17::i:k/128.
pub(super) fn is_of_our_plan(address: IpNet) -> bool {
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);
    let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd53, 0xd91e, 0x400, 0x7f17, 0, 0, 0, 0), 64);
    match address {
        IpNet::V4(net) => net.prefix_len() == 32 && v4.contains(&net.addr()),
        IpNet::V6(net) => net.prefix_len() == 128 && v6.contains(&net.addr()),
    }
}

/// Whether the running kernel is of that version or later; a release that cannot be read counts as old.
fn kernel_at_least(major: u32, minor: u32) -> bool {
    let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version| version >= (major, minor))
}
