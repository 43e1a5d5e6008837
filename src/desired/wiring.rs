//! Exposure → kernel and OVS objects. Identity in the outside world is the [`Key`]; the rest of an object is its [`Spec`]; the
//! set of owners says why it is there: an exposure (`kind address (port)`), a network, or a bridge.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{Exposure, Kind, Options, Rules, names};
use crate::host::Facts;
use crate::mac::Mac;

/// What makes an object the same object in the kernel or in OVS.
///
/// The order is the order of creation; removal goes the other way round.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// The link is administratively up (never deleted, never set down).
    LinkUp {
        /// Device.
        device: String,
    },
    /// A VLAN device of ours.
    VlanDevice {
        /// Device name, at most 15 octets.
        name: String,
    },
    /// An address that lets the kernel answer ARP and NDP on the device.
    Address {
        /// Device.
        device: String,
        /// Address with prefix length.
        address: IpNet,
    },
    /// A sysctl (never restored).
    Sysctl {
        /// Path below /proc/sys, separated by slashes: `net/ipv4/conf/br-ex/proxy_arp`.
        path: String,
    },
    /// A route in a bridge's table.
    Route {
        /// Table.
        table: u32,
        /// Destination.
        to: IpNet,
    },
    /// An `ip rule` of our priority and protocol.
    Rule {
        /// Destination selector; `None` (per-table mode) matches everything of the family of `v6`.
        to: Option<IpNet>,
        /// Family, for rules without a destination.
        v6: bool,
        /// Table looked up.
        table: u32,
    },
    /// A permanent neighbour.
    Neighbour {
        /// Device.
        device: String,
        /// Address.
        address: IpAddr,
    },
    /// A proxy NDP entry.
    Proxy {
        /// Device.
        device: String,
        /// Address answered for.
        address: Ipv6Addr,
    },
    /// An OpenFlow flow with our cookie in table 0, priority 900.
    Flow {
        /// Bridge.
        bridge: String,
        /// OpenFlow port it matches.
        in_port: u16,
        /// `ipv6` instead of `ip`.
        v6: bool,
    },
}

/// The part of an object that may change while it stays the same object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spec {
    /// Nothing beyond the key.
    Present,
    /// A VLAN device's parent and tag.
    Vlan {
        /// The bridge it sits on.
        parent: String,
        /// 802.1Q tag.
        tag: u16,
    },
    /// A sysctl's value.
    Value(String),
    /// A route's target.
    Route {
        /// Output device.
        device: String,
        /// Gateway (always installed `onlink`), none for directly connected.
        via: Option<IpAddr>,
    },
    /// A neighbour's link-layer address.
    Lladdr(Mac),
    /// A flow's action: rewrite the destination to this, then NORMAL.
    ModDlDst(Mac),
}

/// Objects with their specification and owners: `kind address (port)`; `network …` for what its exposures share; `bridge …` and
/// `patch port …` for what is there without any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// The objects.
    #[serde(skip)]
    pub objects: BTreeMap<Key, Object>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it should be.
    pub spec: Spec,
    /// Who needs it.
    pub owners: BTreeSet<String>,
}

impl Wiring {
    /// Adds `owner` to the object, creating it if needed. The first specification wins; the caller gives equal ones.
    pub fn need(&mut self, key: Key, spec: Spec, owner: &str) {
        let owners = &mut self.objects.entry(key).or_insert_with(|| Object { spec, owners: BTreeSet::new() }).owners;
        if !owners.contains(owner) {
            owners.insert(owner.to_owned());
        }
    }
}
/// Exposures with their wiring.
#[derive(Debug)]
pub struct Wired {
    /// The exposures; what cannot be wired or announced yet says what it waits for.
    pub exposures: BTreeSet<Exposure>,
    /// The objects.
    pub wiring: Wiring,
    /// What may be announced once the objects it needs are there.
    pub routes: BTreeMap<IpNet, Arc<BTreeSet<Key>>>,
}

/// What the exposures need in the kernel and in OVS, besides what every mapped bridge needs.
pub fn wire(exposures: BTreeSet<Exposure>, facts: &Facts, options: &Options) -> Wired {
    let exposures: Vec<Exposure> = exposures.into_iter().collect();
    let mut waiting: Vec<Option<String>> = vec![None; exposures.len()];
    let mut wirer = Wirer { facts, options, wiring: Wiring::default(), sites: HashMap::new(), ways: HashMap::new() };
    let bridges: BTreeSet<&str> = facts.bridge_mappings.iter().map(|mapping| &*mapping.bridge).collect();
    for bridge in bridges {
        wirer.base(bridge);
    }
    let mut routes: BTreeMap<IpNet, Arc<BTreeSet<Key>>> = BTreeMap::new();
    // What is reached through a gateway comes after the gateways.
    for through in [false, true] {
        for (exposure, waiting) in exposures.iter().zip(&mut waiting).filter(|(e, _)| e.via.is_some() == through) {
            match wirer.expose(exposure) {
                // The same prefix of several owners is announced on the first wiring that can stand.
                Ok(needs) if exposure.announce => drop(routes.entry(exposure.address).or_insert(needs)),
                Ok(_) => {}
                Err(what) => *waiting = Some(what),
            }
        }
    }
    let Wirer { wiring, .. } = wirer;
    let annotate = |(exposure, waiting)| Exposure { waiting, ..exposure };
    Wired { exposures: exposures.into_iter().zip(waiting).map(annotate).collect(), wiring, routes }
}

struct Wirer<'a> {
    facts: &'a Facts,
    options: &'a Options,
    wiring: Wiring,
    /// By network, patch port and family: thousands of exposures share one.
    sites: HashMap<(&'a str, &'a str, bool), Result<Arc<Site>, String>>,
    /// By network, gateway and subnet: what carries a tenant subnet.
    ways: HashMap<(&'a str, IpAddr, IpNet), Arc<BTreeSet<Key>>>,
}

/// A bridge that is there, with the device that exposures of one network and family use.
struct Site {
    table: u32,
    device: String,
    /// What all of them need.
    needs: BTreeSet<Key>,
    /// What is missing before they can be announced; the kernel part is wired nevertheless.
    missing: Option<String>,
}

impl<'a> Wirer<'a> {
    /// Adds an object and notes it as needed.
    fn need(&mut self, key: Key, spec: Spec, owner: &str, needs: &mut BTreeSet<Key>) {
        self.wiring.need(key.clone(), spec, owner);
        needs.insert(key);
    }

    /// What a mapped bridge needs whether anything is exposed on it or not. Nothing while it is not there: a bridge that we made
    /// would keep OVS from making it.
    fn base(&mut self, bridge: &str) {
        let Some(facts) = self.facts.bridges.get(bridge).filter(|facts| facts.ifindex.is_some()) else { return };
        let owner = format!("bridge {bridge}");
        let device = names::bridge_device(bridge).to_owned();
        let mut needs = BTreeSet::new();
        for v6 in [false, true] {
            self.answering(bridge, &device, None, v6, &owner, &mut needs);
        }
        if let Some(table) = facts.table {
            for (v6, default) in [(false, IpNet::V4(Ipv4Net::default())), (true, IpNet::V6(Ipv6Net::default()))] {
                match self.options.rules {
                    Rules::PerPrefix => {
                        let spec = Spec::Route { device: device.clone(), via: None };
                        self.wiring.need(Key::Route { table, to: default }, spec, &owner);
                    }
                    Rules::PerTable => self.wiring.need(Key::Rule { to: None, v6, table }, Spec::Present, &owner),
                }
            }
        }
        // Whatever leaves OVN by a provider network of this bridge is for the kernel to route.
        let Some(mac) = facts.mac else { return };
        for (name, port) in &facts.patch_ports {
            if name.starts_with("patch-provnet-") {
                for v6 in [false, true] {
                    let key = Key::Flow { bridge: bridge.to_owned(), in_port: *port, v6 };
                    self.wiring.need(key, Spec::ModDlDst(mac), &format!("patch port {name}"));
                }
            }
        }
    }

    /// The device is up and answers ARP or NDP for what is routed elsewhere.
    fn answering(
        &mut self,
        bridge: &str,
        device: &str,
        tag: Option<u16>,
        v6: bool,
        owner: &str,
        needs: &mut BTreeSet<Key>,
    ) {
        self.need(Key::LinkUp { device: device.to_owned() }, Spec::Present, owner, needs);
        let addresses = names::arp_ndp_addresses(names::index(self.facts, bridge), tag);
        for address in addresses.into_iter().filter(|address| address.addr().is_ipv6() == v6) {
            self.need(Key::Address { device: device.to_owned(), address }, Spec::Present, owner, needs);
        }
        let (family, answers) = if v6 { ("ipv6", "proxy_ndp") } else { ("ipv4", "proxy_arp") };
        let path = format!("net/{family}/conf/{device}/{answers}");
        self.need(Key::Sysctl { path }, Spec::Value("1".to_owned()), owner, needs);
        // The kernel lets a question wait up to 0.8 s before it answers for somebody else, lest it beat the owner to it. Nobody
        // else answers here, and a machine that has just arrived would be silent for so long. It works with the delay as well.
        let path = format!("net/{family}/neigh/{device}/proxy_delay");
        self.wiring.need(Key::Sysctl { path }, Spec::Value("0".to_owned()), owner);
    }

    /// Adds what an exposure needs; what its announcement has to wait for, or what is missing.
    fn expose(&mut self, exposure: &'a Exposure) -> Result<Arc<BTreeSet<Key>>, String> {
        let site = self.site(exposure)?;
        let needs = match (exposure.via, exposure.subnet) {
            // A tenant subnet, and what lies in one: the route through the gateway, and what reaches the gateway.
            (Some(via), Some(subnet)) => {
                if exposure.kind == Kind::Subnet {
                    self.subnet(exposure, &site, via, subnet);
                }
                self.way(exposure, &site, via, subnet)
            }
            _ => Arc::new(self.host(exposure, &site)),
        };
        site.missing.clone().map_or(Ok(needs), Err)
    }

    /// The place where an exposure is wired; made when it is the first there.
    fn site(&mut self, exposure: &'a Exposure) -> Result<Arc<Site>, String> {
        let key = (&*exposure.network, &*exposure.patch_port, is_v6(&exposure.address));
        if let Some(site) = self.sites.get(&key) {
            return site.clone();
        }
        let site = self.make_site(exposure).map(Arc::new);
        self.sites.insert(key, site.clone());
        site
    }

    /// What all exposures on a network share: the device, its VLAN device if it is one, the kernel's readiness to answer there,
    /// and the flows. All of it is owned by the network: thousands of owners would say no more.
    fn make_site(&mut self, exposure: &Exposure) -> Result<Site, String> {
        let bridge = &*exposure.bridge;
        let missing = || format!("waiting for bridge {bridge}: there is no such device");
        let facts = self.facts.bridges.get(bridge).filter(|facts| facts.ifindex.is_some()).ok_or_else(missing)?;
        let table = facts.table.ok_or_else(|| format!("waiting for a routing table for {bridge}"))?;
        let device = match exposure.vlan {
            None => names::bridge_device(bridge).to_owned(),
            Some(tag) => self.vlan_device(bridge, facts.mac, tag)?,
        };
        let owner = format!("network {}", exposure.network);
        let mut needs = BTreeSet::new();
        if let Some(tag) = exposure.vlan {
            let parent = names::bridge_device(bridge).to_owned();
            self.need(Key::LinkUp { device: parent.clone() }, Spec::Present, &owner, &mut needs);
            self.need(Key::VlanDevice { name: device.clone() }, Spec::Vlan { parent, tag }, &owner, &mut needs);
        }
        let v6 = is_v6(&exposure.address);
        self.answering(bridge, &device, exposure.vlan, v6, &owner, &mut needs);
        let port = &exposure.patch_port;
        let missing = match (facts.patch_ports.get(port), facts.mac) {
            (None, _) => Some(format!("waiting for patch port {port} on {bridge}")),
            (_, None) => Some(format!("waiting for the MAC address of {bridge}")),
            (Some(in_port), Some(mac)) => {
                for family in [false, true] {
                    let key = Key::Flow { bridge: bridge.to_owned(), in_port: *in_port, v6: family };
                    self.wiring.need(key.clone(), Spec::ModDlDst(mac), &owner);
                    if family == v6 {
                        needs.insert(key);
                    }
                }
                None
            }
        };
        Ok(Site { table, device, needs, missing })
    }

    /// The device of a tag on a bridge: one that we make, or one that somebody else has made under the same name – on a kernel
    /// without 802.1Q an OVS internal port with the tag.
    fn vlan_device(&self, bridge: &str, bridge_mac: Option<Mac>, tag: u16) -> Result<String, String> {
        let name = names::vlan_device(self.facts, bridge, tag);
        let mac = bridge_mac.map(|mac| format!(" mac='\"{mac}\"'")).unwrap_or_default();
        match self.facts.devices.get(&name) {
            // What comes out of OVN is addressed to the bridge; a device that takes another address to be its own drops it.
            Some(device) if bridge_mac.is_some_and(|bridge| device.mac.is_some_and(|mac| mac != bridge)) => {
                Err(format!(
                    "device {name} for VLAN {tag} has another Ethernet address than {bridge}, so that nothing would reach it; give it that \
                 one (an OVS port: ovs-vsctl set interface {name}{mac})"
                ))
            }
            None if !self.facts.vlan_devices => Err(format!(
                "VLAN {tag} on {bridge} needs device {name}, and this kernel cannot make it: module 8021q is missing. Load it \
                 (modprobe 8021q), or make the device yourself: ovs-vsctl add-port {bridge} {name} tag={tag} -- set interface {name} \
                 type=internal{mac}"
            )),
            _ => Ok(name),
        }
    }

    /// Rule, host route, neighbour, proxy NDP entries.
    fn host(&mut self, exposure: &Exposure, site: &Site) -> BTreeSet<Key> {
        let (to, owner) = (exposure.address, exposure.owner());
        let mut needs = site.needs.clone();
        let spec = Spec::Route { device: site.device.clone(), via: None };
        self.need(Key::Route { table: site.table, to }, spec, &owner, &mut needs);
        needs.insert(self.own_rule(site.table, to, &owner));
        if let Some(mac) = exposure.mac {
            let key = Key::Neighbour { device: site.device.clone(), address: to.addr() };
            self.need(key, Spec::Lladdr(mac), &owner, &mut needs);
        }
        let networks = exposure.cidrs.iter().filter_map(|cidr| match cidr.network() {
            IpAddr::V6(network) if !network.is_unicast_link_local() => Some(network),
            _ => None,
        });
        for address in networks.chain(exposure.routers.iter().copied()) {
            let key = Key::Proxy { device: site.device.clone(), address };
            self.wiring.need(key.clone(), Spec::Present, &owner);
            // The IPv4 address of a port works without them.
            if is_v6(&to) {
                needs.insert(key);
            }
        }
        needs
    }

    /// Rule and route of a tenant subnet.
    fn subnet(&mut self, exposure: &Exposure, site: &Site, via: IpAddr, subnet: IpNet) {
        let owner = exposure.owner();
        let spec = Spec::Route { device: site.device.clone(), via: Some(via) };
        self.wiring.need(Key::Route { table: site.table, to: subnet }, spec, &owner);
        self.own_rule(site.table, subnet, &owner);
    }

    /// The rule for a destination, owned by the exposure where it is the destination's own; the rules of a bridge are the
    /// bridge's, which has made them.
    fn own_rule(&mut self, table: u32, to: IpNet, owner: &str) -> Key {
        let rule = self.rule(table, to);
        if self.options.rules == Rules::PerPrefix {
            self.wiring.need(rule.clone(), Spec::Present, owner);
        }
        rule
    }

    /// What a tenant subnet and the addresses in it need: the subnet's own rule and route, and the gateway's. The addresses are
    /// not counted as owners: they come and go with the subnet.
    fn way(&mut self, exposure: &'a Exposure, site: &Site, via: IpAddr, subnet: IpNet) -> Arc<BTreeSet<Key>> {
        let key = (&*exposure.network, via, subnet);
        if let Some(way) = self.ways.get(&key) {
            return Arc::clone(way);
        }
        let mut needs = site.needs.clone();
        for to in [subnet, IpNet::from(via)] {
            needs.insert(Key::Route { table: site.table, to });
            needs.insert(self.rule(site.table, to));
        }
        let neighbour = Key::Neighbour { device: site.device.clone(), address: via };
        if self.wiring.objects.contains_key(&neighbour) {
            needs.insert(neighbour);
        }
        let way = Arc::new(needs);
        self.ways.insert(key, Arc::clone(&way));
        way
    }

    /// The rule that leads to the table: the destination's own, or the one of the bridge.
    fn rule(&self, table: u32, to: IpNet) -> Key {
        match self.options.rules {
            Rules::PerPrefix => Key::Rule { to: Some(to), v6: is_v6(&to), table },
            Rules::PerTable => Key::Rule { to: None, v6: is_v6(&to), table },
        }
    }
}

fn is_v6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}
