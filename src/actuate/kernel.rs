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
use super::netlink::objects::{Address, Device, Hop, Neighbour, Route, Rule, Vlan, default_net};
use super::netlink::socket::{Answer, Refused, RequestSocket};
use super::netlink::wire::{Frame, Request};
use crate::desired::wiring::{Key, Object, Spec};
use crate::diff::Op;
use crate::mac::Mac;

/// Alias that marks VLAN devices as ours.
pub(super) const ALIAS: &str = "ovn-bgpd";
/// The kernel's metric of an IPv6 route nobody gave one.
const IPV6_METRIC: u32 = 1024;

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

/// Our end of the kernel. One owner; every call blocks for the few microseconds the kernel needs.
pub struct Kernel {
    pub(super) marks: Marks,
    requests: Option<RequestSocket>,
    dumps: Option<RequestSocket>,
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

/// A request of an operation, and the errors that mean "already so".
type Step = (Request, &'static [i32]);

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

/// What an operation comes to.
enum Action {
    /// These requests, in order.
    Send(Vec<Step>),
    /// Done, or impossible, without asking the kernel.
    Settled(Result<(), OpError>),
}

impl Kernel {
    /// Opens nothing yet; sockets are opened when needed, and again after an error.
    pub fn new(marks: Marks) -> Self {
        Self {
            marks,
            requests: None,
            dumps: None,
            port: Arc::default(),
            devices: BTreeMap::new(),
            foreign: BTreeSet::new(),
            sysctls: PathBuf::from("/proc/sys"),
            addresses_marked: kernel_at_least(5, 18),
        }
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

    /// Routing tables that are named by any rule or hold any route.
    pub fn tables_in_use(&mut self) -> io::Result<BTreeSet<u32>> {
        let rules = self.dump_both(Rule::dump, Rule::read_table)?;
        let routes = self.dump_both(|v6| Route::dump(v6, None, 0), |frame| Some(Route::read(frame)?.table))?;
        Ok(rules.into_iter().chain(routes).collect())
    }

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

    /// Applies the operations in the order given, as far as possible: one result each, a failure does not stop the rest.
    pub fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), OpError>> {
        let mut results: Vec<Result<(), OpError>> = Vec::with_capacity(ops.len());
        let mut pending: Vec<(usize, Vec<Step>)> = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            results.push(Ok(()));
            // What comes next must find the devices and addresses that were asked for before.
            if matches!(op.key(), Key::Sysctl { .. } | Key::VlanDevice { .. }) {
                self.flush(ops, &pending, &mut results);
                pending.clear();
            }
            match self.action(op) {
                Action::Send(steps) => pending.push((index, steps)),
                Action::Settled(result) => settle(&mut results, index, result),
            }
        }
        self.flush(ops, &pending, &mut results);
        results
    }

    // ---- applying -----------------------------------------------------------------------------------------------------------

    /// Sends the steps. An operation that fails because a device was made anew meanwhile is tried once more with its new index.
    fn flush(&mut self, ops: &[Op], pending: &[(usize, Vec<Step>)], results: &mut [Result<(), OpError>]) {
        let stale = self.send(ops, pending, results);
        if stale.is_empty() || self.refresh_devices().is_err() {
            return;
        }
        let mut again = Vec::new();
        for index in stale {
            let Some(op) = ops.get(index) else { continue };
            settle(results, index, Ok(()));
            match self.action(op) {
                Action::Send(steps) => again.push((index, steps)),
                Action::Settled(result) => settle(results, index, result),
            }
        }
        self.send(ops, &again, results);
    }

    /// Sends the steps and settles their operations; answers which ones failed for want of a device.
    fn send(&mut self, ops: &[Op], pending: &[(usize, Vec<Step>)], results: &mut [Result<(), OpError>]) -> Vec<usize> {
        let requests: Vec<Request> = pending.iter().flat_map(|(_, steps)| steps).map(|step| step.0.clone()).collect();
        if requests.is_empty() {
            return Vec::new();
        }
        let answers = match self.execute(&requests) {
            Ok(answers) => answers,
            Err(error) => {
                for (index, _) in pending {
                    settle(results, *index, Err(OpError::Lost(error.to_string())));
                }
                return Vec::new();
            }
        };
        let mut stale = Vec::new();
        let asked = pending.iter().flat_map(|(index, steps)| steps.iter().map(move |step| (*index, step.1)));
        for ((index, tolerated), answer) in asked.zip(answers) {
            let Err(refused) = answer else { continue };
            if tolerated.contains(&refused.errno) {
                continue;
            }
            if matches!(refused.errno, libc::ENODEV | libc::ENXIO) {
                stale.push(index);
            }
            if let Some(op) = ops.get(index) {
                settle(results, index, Err(explain(op, &refused)));
            }
        }
        stale.dedup();
        stale
    }

    /// Turns an operation into requests, or does it when it is not one of netlink.
    fn action(&mut self, op: &Op) -> Action {
        let outcome = match op {
            Op::Set(key, spec) => {
                // What is added or replaced has our mark.
                self.foreign.remove(key);
                self.set(key, spec)
            }
            Op::Remove(key) => self.remove(key),
        };
        outcome.unwrap_or_else(|error| Action::Settled(Err(error)))
    }

    fn set(&mut self, key: &Key, spec: &Spec) -> Result<Action, OpError> {
        let marks = self.marks;
        let request = match (key, spec) {
            (Key::LinkUp { device }, _) => Device::set_up(self.ifindex(device)?),
            (Key::VlanDevice { name }, Spec::Vlan { parent, tag }) => return self.set_vlan(name, parent, *tag),
            (Key::Address { device, address }, _) => marks.address(self.ifindex(device)?, *address).replace(),
            (Key::Sysctl { path }, Spec::Value(value)) => return Ok(Action::Settled(self.write_sysctl(path, value))),
            (Key::Route { table, to }, Spec::Route { device, via }) => {
                let hops = vec![Hop { ifindex: self.ifindex(device)?, via: *via }];
                marks.route(*table, *to, hops).replace()
            }
            (Key::Rule { to, v6, table }, _) => {
                return Ok(Action::Send(vec![(marks.rule(*to, *v6, *table).add(), &[libc::EEXIST])]));
            }
            (Key::Neighbour { device, address }, Spec::Lladdr(mac)) => {
                marks.neighbour(self.ifindex(device)?, *address, Some(*mac)).replace()
            }
            (Key::Proxy { device, address }, _) => marks.proxy(self.ifindex(device)?, *address).replace(),
            (Key::Flow { .. }, _) => return Err(OpError::WrongWorld("kernel")),
            (key, spec) => {
                return Err(OpError::Refused {
                    what: format!("set {key:?}"),
                    reason: format!("{spec:?} makes no sense"),
                });
            }
        };
        Ok(Action::Send(vec![(request, &[])]))
    }

    fn remove(&mut self, key: &Key) -> Result<Action, OpError> {
        const GONE: Action = Action::Settled(Ok(()));
        let marks = self.marks;
        if self.foreign.contains(key) {
            return Ok(GONE);
        }
        let step: Step = match key {
            // Never set down, never restored.
            Key::LinkUp { .. } | Key::Sysctl { .. } => return Ok(GONE),
            Key::VlanDevice { name } => return self.remove_vlan(name),
            Key::Address { device, address } => match self.ifindex(device) {
                Ok(ifindex) => (marks.address(ifindex, *address).remove(), &[libc::EADDRNOTAVAIL, libc::ENODEV]),
                // Gone with its device.
                Err(_) => return Ok(GONE),
            },
            Key::Route { table, to } => (marks.route(*table, *to, Vec::new()).remove(), &[libc::ESRCH, libc::ENOENT]),
            Key::Rule { to, v6, table } => (marks.rule(*to, *v6, *table).remove(), &[libc::ENOENT]),
            Key::Neighbour { device, address } => match self.ifindex(device) {
                Ok(ifindex) => (marks.neighbour(ifindex, *address, None).remove(), &[libc::ENOENT, libc::ENODEV]),
                Err(_) => return Ok(GONE),
            },
            Key::Proxy { device, address } => match self.ifindex(device) {
                Ok(ifindex) => (marks.proxy(ifindex, *address).remove(), &[libc::ENOENT, libc::ENODEV]),
                Err(_) => return Ok(GONE),
            },
            Key::Flow { .. } => return Err(OpError::WrongWorld("kernel")),
        };
        Ok(Action::Send(vec![step]))
    }

    fn set_vlan(&mut self, name: &str, parent: &str, tag: u16) -> Result<Action, OpError> {
        self.refresh_devices().map_err(|error| OpError::Lost(error.to_string()))?;
        let vlan = Vlan { parent: self.ifindex(parent)?, tag };
        let mut steps: Vec<Step> = Vec::new();
        match self.devices.get(name) {
            // The alias may be what is missing: a crash between the two steps.
            Some(device) if device.vlan == Some(vlan) => steps.push((Device::set_up(device.ifindex), &[])),
            Some(device) if device.vlan.is_some() && is_ours(device) => {
                steps.push((Device::remove(device.ifindex), &[libc::ENODEV]));
                steps.push((Device::add_vlan(name, vlan), &[]));
                steps.push((Device::set_alias(name, ALIAS), &[]));
            }
            Some(_) => return Err(OpError::ForeignDevice(name.to_owned())),
            None => {
                steps.push((Device::add_vlan(name, vlan), &[]));
                // Fails in the wake of the first step; that one's answer is what is reported.
                steps.push((Device::set_alias(name, ALIAS), &[]));
            }
        }
        let requests: Vec<Request> = steps.into_iter().map(|step| step.0).collect();
        let answers = self.execute(&requests).map_err(|error| OpError::Lost(error.to_string()))?;
        self.refresh_devices().map_err(|error| OpError::Lost(error.to_string()))?;
        match answers.into_iter().find_map(Result::err) {
            None => Ok(Action::Settled(Ok(()))),
            Some(refused) if refused.errno == libc::EOPNOTSUPP => Err(OpError::NoVlanSupport(name.to_owned())),
            Some(refused) => Err(OpError::Refused {
                what: format!("make VLAN device {name} (tag {tag} on {parent})"),
                reason: refused.to_string(),
            }),
        }
    }

    fn remove_vlan(&mut self, name: &str) -> Result<Action, OpError> {
        self.refresh_devices().map_err(|error| OpError::Lost(error.to_string()))?;
        match self.devices.get(name) {
            Some(device) if is_ours(device) => {
                Ok(Action::Send(vec![(Device::remove(device.ifindex), &[libc::ENODEV])]))
            }
            _ => Ok(Action::Settled(Ok(()))),
        }
    }

    /// Writes only what differs: some sysctls act on every write.
    fn write_sysctl(&self, path: &str, value: &str) -> Result<(), OpError> {
        if self.read_sysctl(path).is_ok_and(|current| current == value) {
            return Ok(());
        }
        let error = |source| OpError::Sysctl { path: path.to_owned(), source };
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(error(io::Error::new(io::ErrorKind::InvalidInput, "not a path below /proc/sys")));
        }
        std::fs::write(self.sysctls.join(path), value).map_err(error)
    }

    fn read_sysctl(&self, path: &str) -> io::Result<String> {
        Ok(std::fs::read_to_string(self.sysctls.join(path))?.trim().to_owned())
    }

    // ---- observing ----------------------------------------------------------------------------------------------------------

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

    // ---- sockets and devices ------------------------------------------------------------------------------------------------

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
        let mut socket = match self.dumps.take() {
            Some(socket) => socket,
            None => RequestSocket::open_strict()?,
        };
        let found = socket.dump(request, read)?;
        self.dumps = Some(socket);
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
        let to = to.unwrap_or(default_net(v6));
        Rule { to, table, priority: self.rule_priority, protocol: self.protocol }
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

fn settle(results: &mut [Result<(), OpError>], index: usize, result: Result<(), OpError>) {
    if let Some(slot) = results.get_mut(index) {
        *slot = result;
    }
}

fn is_ours(device: &Device) -> bool {
    device.alias.as_deref() == Some(ALIAS)
}

fn default_metric(to: IpNet) -> u32 {
    if matches!(to, IpNet::V6(_)) { IPV6_METRIC } else { 0 }
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

/// What was tried, in words close to iproute2's, and the kernel's answer.
fn explain(op: &Op, refused: &Refused) -> OpError {
    let what = match op {
        Op::Set(Key::LinkUp { device }, _) => format!("set {device} up"),
        Op::Set(Key::Route { table, to }, Spec::Route { device, via }) => {
            let via = via.map(|via| format!(" via {via} onlink")).unwrap_or_default();
            format!("replace route {to}{via} dev {device} table {table}")
        }
        Op::Set(Key::Neighbour { device, address }, Spec::Lladdr(mac)) => {
            format!("replace neighbour {address} lladdr {mac} dev {device}")
        }
        Op::Set(key, _) => format!("add {}", describe(key)),
        Op::Remove(key) => format!("remove {}", describe(key)),
    };
    OpError::Refused { what, reason: refused.to_string() }
}

pub(super) fn describe(key: &Key) -> String {
    match key {
        Key::LinkUp { device } => format!("link {device}"),
        Key::VlanDevice { name } => format!("VLAN device {name}"),
        Key::Address { device, address } => format!("address {address} dev {device}"),
        Key::Sysctl { path } => format!("sysctl {path}"),
        Key::Route { table, to } => format!("route {to} table {table}"),
        Key::Rule { to: Some(to), table, .. } => format!("rule to {to} lookup {table}"),
        Key::Rule { to: None, v6, table } => format!("rule of IPv{} lookup {table}", if *v6 { 6 } else { 4 }),
        Key::Neighbour { device, address } => format!("neighbour {address} dev {device}"),
        Key::Proxy { device, address } => format!("proxy {address} dev {device}"),
        Key::Flow { bridge, in_port, v6 } => {
            format!("flow {} in_port={in_port} on {bridge}", if *v6 { "ipv6" } else { "ip" })
        }
    }
}
