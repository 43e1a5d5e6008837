//! Typed Northbound rows, parsed from [`value::Row`](crate::ovsdb::value::Row) once.
//!
//! A column that is absent reads as empty (the schema may be older than we are); a column of the wrong type, an address that
//! is none, a name that is missing make the row bad: one [`Warning`], and the row is not there.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Id;
use crate::mac::Mac;
use crate::ovsdb::value::{Atom, Row, Uuid, Value};

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// Table.
    pub table: &'static str,
    /// The row's name, or its UUID where it has none.
    pub row: String,
    /// Column, with the key where it is a map: `external_ids:neutron:cidrs`.
    pub column: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, row, column, problem } = self;
        write!(f, "{table} {row}: column {column}: {problem}; the row is ignored")
    }
}

/// What is wrong, before the row has a name.
#[derive(Debug)]
pub(crate) struct Bad {
    column: &'static str,
    problem: String,
}

impl Bad {
    fn new(column: &'static str, problem: impl Into<String>) -> Self {
        Self { column, problem: problem.into() }
    }

    /// The warning about `row`.
    pub(super) fn warning(self, table: &'static str, uuid: Uuid, row: &Row) -> Warning {
        let name = row.get("name").and_then(Value::as_str).map_or_else(|| uuid.to_string(), shorten);
        Warning { table, row: name, column: self.column, problem: self.problem }
    }
}

/// Quotes at most a line of what someone else wrote.
fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    let short: String = text.chars().take(MOST).collect();
    let short = short.escape_debug().to_string();
    if text.chars().nth(MOST).is_some() { short + "…" } else { short }
}

type Parsed<T> = Result<T, Bad>;

fn parse<T: std::str::FromStr>(column: &'static str, what: &str, text: &str) -> Parsed<T> {
    text.parse().map_err(|_| Bad::new(column, format!("'{}' is not {what}", shorten(text))))
}

/// `ip` or `ip/length`, host bits kept.
fn interface(column: &'static str, text: &str) -> Parsed<IpNet> {
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| parse(column, "an address with a prefix length", text))
}

fn string<'a>(row: &'a Row, column: &'static str) -> Parsed<Option<&'a Arc<str>>> {
    match row.get(column) {
        None => Ok(None),
        Some(Value::Set(atoms)) => match atoms.as_slice() {
            [] => Ok(None),
            [Atom::String(text)] => Ok(Some(text)),
            _ => Err(Bad::new(column, "should be one string")),
        },
        Some(Value::Map(_)) => Err(Bad::new(column, "should be a string, is a map")),
    }
}

/// A string that says something.
fn text<'a>(row: &'a Row, column: &'static str) -> Parsed<Option<&'a Arc<str>>> {
    Ok(string(row, column)?.filter(|text| !text.is_empty()))
}

fn name(row: &Row) -> Parsed<Arc<str>> {
    text(row, "name")?.cloned().ok_or_else(|| Bad::new("name", "is empty"))
}

fn atoms<'a>(row: &'a Row, column: &'static str) -> Parsed<&'a [Atom]> {
    match row.get(column) {
        None => Ok(&[]),
        Some(Value::Set(atoms)) => Ok(atoms),
        Some(Value::Map(pairs)) if pairs.is_empty() => Ok(&[]),
        Some(Value::Map(_)) => Err(Bad::new(column, "should be a set, is a map")),
    }
}

fn strings<'a>(row: &'a Row, column: &'static str) -> Parsed<Vec<&'a Arc<str>>> {
    atoms(row, column)?
        .iter()
        .map(|atom| match atom {
            Atom::String(text) => Ok(text),
            _ => Err(Bad::new(column, "should hold strings")),
        })
        .collect()
}

/// References, sorted.
fn references(row: &Row, column: &'static str) -> Parsed<Box<[Uuid]>> {
    let mut uuids = atoms(row, column)?
        .iter()
        .map(|atom| match atom {
            Atom::Uuid(uuid) => Ok(*uuid),
            _ => Err(Bad::new(column, "should hold references")),
        })
        .collect::<Parsed<Vec<_>>>()?;
    uuids.sort_unstable();
    uuids.dedup();
    Ok(uuids.into())
}

/// The string pairs of a map.
fn pairs<'a>(row: &'a Row, column: &'static str) -> Parsed<impl Iterator<Item = (&'a str, &'a Arc<str>)>> {
    let pairs: &[(Atom, Atom)] = match row.get(column) {
        None => &[],
        Some(Value::Map(pairs)) => pairs,
        Some(Value::Set(atoms)) if atoms.is_empty() => &[],
        Some(Value::Set(_)) => return Err(Bad::new(column, "should be a map, is a set")),
    };
    if pairs.iter().any(|pair| !matches!(pair, (Atom::String(_), Atom::String(_)))) {
        return Err(Bad::new(column, "should map strings to strings"));
    }
    Ok(pairs.iter().filter_map(|pair| match pair {
        // An empty value says nothing.
        (Atom::String(key), Atom::String(value)) if !value.is_empty() => Some((&**key, value)),
        _ => None,
    }))
}

/// The type of a Logical_Switch_Port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortType {
    /// "": a VM's port, an amphora's, a trunk subport.
    Vif,
    /// "virtual": an address that moves between ports.
    Virtual,
    /// "router".
    Router,
    /// "localnet".
    Localnet,
    /// Anything else: localport, external, vtep, …
    Other(Arc<str>),
}

impl PortType {
    /// The types whose addresses are exposed.
    pub fn is_exposable(&self) -> bool {
        matches!(self, Self::Vif | Self::Virtual)
    }
}

/// A Logical_Switch_Port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// `name`.
    pub name: Arc<str>,
    /// `type`.
    pub port_type: PortType,
    /// The IP addresses of all elements of `addresses`, each with the MAC before it (none with `dynamic`).
    pub addresses: Box<[(Option<Mac>, IpAddr)]>,
    /// `addresses` holds `unknown`: the port may use any address, `cidrs` says which ones Neutron gave it.
    pub unknown: bool,
    /// The only MAC among the elements without IP address.
    pub bare_mac: Option<Mac>,
    /// `up`; empty means no.
    pub up: bool,
    /// `options:requested-chassis`.
    pub requested_chassis: Option<Arc<str>>,
    /// `external_ids:neutron:host_id`.
    pub host_id: Option<Arc<str>>,
    /// The switch: `external_ids:neutron:network_name`, else the Logical_Switch that lists the port.
    pub network: Option<Id>,
    /// Whether `network` was not in the row and is looked up.
    pub orphan: bool,
    /// `external_ids:neutron:cidrs`.
    pub cidrs: Box<[IpNet]>,
    /// What only router and localnet ports have.
    pub infrastructure: Option<Box<Infrastructure>>,
}

/// What only router and localnet ports have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Infrastructure {
    /// `options:network_name` of a localnet port.
    pub physnet: Option<Arc<str>>,
    /// `tag` of a localnet port.
    pub tag: Option<u16>,
    /// `options:router-port`: the name of the Logical_Router_Port on the other side.
    pub router_port: Option<Arc<str>>,
    /// `external_ids:neutron:device_id` of a port that Neutron calls `network:router_interface`.
    pub interface_of: Option<Id>,
    /// `external_ids:neutron:subnet_pool_addr_scope4`.
    pub scope4: Option<Arc<str>>,
    /// `external_ids:neutron:subnet_pool_addr_scope6`.
    pub scope6: Option<Arc<str>>,
}

impl Port {
    pub(super) const TABLE: &'static str = "Logical_Switch_Port";

    pub(crate) fn parse(row: &Row) -> Parsed<Self> {
        let port_type = match string(row, "type")? {
            None => PortType::Vif,
            Some(text) => match &**text {
                "" => PortType::Vif,
                "virtual" => PortType::Virtual,
                "router" => PortType::Router,
                "localnet" => PortType::Localnet,
                _ => PortType::Other(Arc::clone(text)),
            },
        };
        let up = match atoms(row, "up")? {
            [] => false,
            [Atom::Boolean(up)] => *up,
            _ => return Err(Bad::new("up", "should be one boolean")),
        };
        let mut port = Self {
            name: name(row)?,
            port_type,
            addresses: Box::default(),
            unknown: false,
            bare_mac: None,
            up,
            requested_chassis: None,
            host_id: None,
            network: None,
            orphan: false,
            cidrs: Box::default(),
            infrastructure: None,
        };
        let mut infrastructure = Infrastructure::default();
        for (key, value) in pairs(row, "options")? {
            match key {
                "requested-chassis" => port.requested_chassis = Some(Arc::clone(value)),
                "network_name" => infrastructure.physnet = Some(Arc::clone(value)),
                "router-port" => infrastructure.router_port = Some(Arc::clone(value)),
                _ => {}
            }
        }
        let (mut is_interface, mut device) = (false, None);
        for (key, value) in pairs(row, "external_ids")? {
            match key {
                "neutron:network_name" => port.network = Some(Id::new(value)),
                "neutron:host_id" => port.host_id = Some(Arc::clone(value)),
                "neutron:cidrs" => {
                    port.cidrs = value
                        .split_whitespace()
                        .map(|cidr| interface("external_ids:neutron:cidrs", cidr))
                        .collect::<Parsed<_>>()?;
                }
                "neutron:device_owner" => is_interface = &**value == "network:router_interface",
                "neutron:device_id" => device = Some(value),
                "neutron:subnet_pool_addr_scope4" => infrastructure.scope4 = Some(Arc::clone(value)),
                "neutron:subnet_pool_addr_scope6" => infrastructure.scope6 = Some(Arc::clone(value)),
                _ => {}
            }
        }
        port.orphan = port.network.is_none();
        match port.port_type {
            PortType::Vif | PortType::Virtual => port.read_addresses(row)?,
            PortType::Localnet => {
                infrastructure.tag = tag(row)?;
                port.infrastructure = Some(Box::new(infrastructure));
            }
            PortType::Router => {
                infrastructure.interface_of = device.filter(|_| is_interface).map(Id::new);
                port.infrastructure = Some(Box::new(infrastructure));
            }
            PortType::Other(_) => {}
        }
        Ok(port)
    }

    /// All elements count: `MAC [IP…]`, `unknown`, `dynamic [IP…]`, `router`.
    fn read_addresses(&mut self, row: &Row) -> Parsed<()> {
        const COLUMN: &str = "addresses";
        let mut addresses = Vec::new();
        let mut bare = Vec::new();
        for element in strings(row, COLUMN)? {
            let mut words = element.split_whitespace();
            let mac = match words.next() {
                None | Some("router") => continue,
                Some("unknown") => {
                    self.unknown = true;
                    continue;
                }
                Some("dynamic") => None,
                Some(word) => Some(parse::<Mac>(COLUMN, "an Ethernet address", word)?),
            };
            let before = addresses.len();
            for word in words.filter(|word| *word != "dynamic") {
                addresses.push((mac, interface(COLUMN, word)?.addr()));
            }
            if addresses.len() == before {
                bare.extend(mac);
            }
        }
        self.addresses = addresses.into();
        if let [only] = bare.as_slice() {
            self.bare_mac = Some(*only);
        }
        Ok(())
    }

    /// The addresses of the port with their MACs; where OVN knows none because anything goes (`unknown`), those that Neutron
    /// gave it.
    pub fn ips(&self) -> impl Iterator<Item = (Option<Mac>, IpAddr)> {
        let given = if self.addresses.is_empty() && self.unknown { &*self.cidrs } else { &[] };
        self.addresses.iter().copied().chain(given.iter().map(|cidr| (self.bare_mac, cidr.addr())))
    }

    /// Whether it has an IPv6 address that ends in 1, where a router might be expected.
    pub fn has_first_address(&self) -> bool {
        let first = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.segments().last() == Some(&1));
        self.ips().any(|(_, ip)| first(ip)) || self.cidrs.iter().any(|cidr| first(cidr.addr()))
    }

    /// Whether the port can receive for an address: it has one, or may have any.
    pub fn takes_addresses(&self) -> bool {
        self.unknown || !self.addresses.is_empty()
    }
}

fn tag(row: &Row) -> Parsed<Option<u16>> {
    match atoms(row, "tag")? {
        [] | [Atom::Integer(0)] => Ok(None),
        [Atom::Integer(tag @ 1..=4094)] => Ok(u16::try_from(*tag).ok()),
        _ => Err(Bad::new("tag", "should be one VLAN id between 1 and 4094")),
    }
}

/// A Logical_Switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// `name`.
    pub name: Arc<str>,
    /// `ports`, sorted.
    pub ports: Box<[Uuid]>,
}

impl Switch {
    pub(super) const TABLE: &'static str = "Logical_Switch";

    pub(super) fn parse(row: &Row) -> Parsed<Self> {
        Ok(Self { name: name(row)?, ports: references(row, "ports")? })
    }
}

/// A Logical_Router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// `name`.
    pub id: Id,
    /// `ports`, sorted.
    pub ports: Box<[Uuid]>,
    /// `nat`, sorted.
    pub nats: Box<[Uuid]>,
    /// `static_routes`, sorted.
    pub static_routes: Box<[Uuid]>,
}

impl Router {
    pub(super) const TABLE: &'static str = "Logical_Router";

    pub(super) fn parse(row: &Row) -> Parsed<Self> {
        Ok(Self {
            id: Id::new(&name(row)?),
            ports: references(row, "ports")?,
            nats: references(row, "nat")?,
            static_routes: references(row, "static_routes")?,
        })
    }
}

/// A Logical_Router_Static_Route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRoute {
    /// Whether `ip_prefix` is the default route of its family.
    pub default: bool,
    /// `nexthop`; none for `discard`.
    pub next_hop: Option<IpAddr>,
}

impl StaticRoute {
    pub(super) const TABLE: &'static str = "Logical_Router_Static_Route";

    pub(super) fn parse(row: &Row) -> Parsed<Self> {
        // Both columns may hold template variables (`^NAME`) and words; only plain default routes concern us.
        let prefix = text(row, "ip_prefix")?.and_then(|prefix| prefix.parse::<IpNet>().ok());
        Ok(Self {
            default: prefix.is_some_and(|prefix| prefix.prefix_len() == 0),
            next_hop: text(row, "nexthop")?.and_then(|hop| hop.parse().ok()),
        })
    }
}

/// A Logical_Router_Port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterPort {
    /// `name`.
    pub name: Arc<str>,
    /// `mac`.
    pub mac: Option<Mac>,
    /// `networks`: interface addresses.
    pub networks: Box<[IpNet]>,
    /// `status:hosting-chassis`: the system-id of the chassis that hosts a distributed gateway port.
    pub hosting_chassis: Option<Arc<str>>,
    /// `external_ids:neutron:network_name`.
    pub network: Option<Id>,
    /// `external_ids:neutron:router_name`.
    pub router: Option<Id>,
}

impl RouterPort {
    pub(super) const TABLE: &'static str = "Logical_Router_Port";

    pub(super) fn parse(row: &Row) -> Parsed<Self> {
        let mut port = Self {
            name: name(row)?,
            mac: text(row, "mac")?.map(|mac| parse("mac", "an Ethernet address", mac)).transpose()?,
            networks: strings(row, "networks")?
                .into_iter()
                .map(|network| interface("networks", network))
                .collect::<Parsed<_>>()?,
            hosting_chassis: None,
            network: None,
            router: None,
        };
        for (key, value) in pairs(row, "status")? {
            if key == "hosting-chassis" {
                port.hosting_chassis = Some(Arc::clone(value));
            }
        }
        for (key, value) in pairs(row, "external_ids")? {
            match key {
                "neutron:network_name" => port.network = Some(Id::new(value)),
                "neutron:router_name" => port.router = Some(Id::new(value)),
                _ => {}
            }
        }
        Ok(port)
    }
}

/// The type of a NAT row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatType {
    /// `dnat_and_snat`: a floating IP.
    FloatingIp,
    /// `snat`.
    Snat,
    /// `dnat`.
    Other,
}

/// A NAT row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// `type`.
    pub nat_type: NatType,
    /// `external_ip`.
    pub external_ip: IpAddr,
    /// `external_mac`.
    pub external_mac: Option<Mac>,
    /// `logical_ip`: an address, or the subnet of an `snat` row.
    pub logical_ip: Option<IpNet>,
    /// `logical_port`.
    pub logical_port: Option<Arc<str>>,
    /// `gateway_port`.
    pub gateway_port: Option<Uuid>,
    /// `external_ids:neutron:fip_network_id`: the switch of the external network.
    pub network: Option<Id>,
    /// `external_ids:neutron:router_name`.
    pub router: Option<Id>,
}

impl Nat {
    pub(super) const TABLE: &'static str = "NAT";

    pub(super) fn parse(row: &Row) -> Parsed<Self> {
        let nat_type = match string(row, "type")?.map(|text| &**text) {
            Some("dnat_and_snat") => NatType::FloatingIp,
            Some("snat") => NatType::Snat,
            Some("dnat") => NatType::Other,
            _ => return Err(Bad::new("type", "should be dnat_and_snat, snat or dnat")),
        };
        let external_ip = string(row, "external_ip")?.map_or("", |text| text);
        let gateway_port = match &*references(row, "gateway_port")? {
            [] => None,
            [port] => Some(*port),
            _ => return Err(Bad::new("gateway_port", "should be one reference")),
        };
        let mut nat = Self {
            nat_type,
            external_ip: parse("external_ip", "an address", external_ip)?,
            external_mac: text(row, "external_mac")?
                .map(|mac| parse("external_mac", "an Ethernet address", mac))
                .transpose()?,
            logical_ip: text(row, "logical_ip")?.map(|ip| interface("logical_ip", ip)).transpose()?,
            logical_port: text(row, "logical_port")?.cloned(),
            gateway_port,
            network: None,
            router: None,
        };
        for (key, value) in pairs(row, "external_ids")? {
            match key {
                "neutron:fip_network_id" => nat.network = Some(Id::new(value)),
                "neutron:router_name" => nat.router = Some(Id::new(value)),
                _ => {}
            }
        }
        Ok(nat)
    }
}

/// A Load_Balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// `name`.
    pub name: Arc<str>,
    /// The addresses of the keys of `vips`, sorted, each once.
    pub vips: Box<[IpAddr]>,
    /// The router: `external_ids:lr_ref` (Octavia), or `neutron:router_name` (port forwarding).
    pub router: Option<Id>,
    /// A port-forwarding row by its name, `pf-floatingip-…`.
    pub port_forward: bool,
    /// `external_ids:neutron:vip`.
    pub vip: Option<IpAddr>,
    /// `external_ids:neutron:vip_fip`.
    pub vip_fip: Option<IpAddr>,
    /// `external_ids:neutron:vip_port_id`.
    pub vip_port: Option<Arc<str>>,
    /// `external_ids:neutron:network_name`.
    pub network: Option<Id>,
}

impl LoadBalancer {
    pub(super) const TABLE: &'static str = "Load_Balancer";

    pub(super) fn parse(row: &Row) -> Parsed<Self> {
        let name = text(row, "name")?.cloned().unwrap_or_default();
        let mut vips = keys(row, "vips")?
            .into_iter()
            .filter(|key| !key.starts_with('^'))
            .map(vip_address)
            .collect::<Parsed<Vec<_>>>()?;
        vips.sort_unstable();
        vips.dedup();
        let port_forward = name.starts_with("pf-floatingip-");
        let mut lb = Self {
            name,
            vips: vips.into(),
            router: None,
            port_forward,
            vip: None,
            vip_fip: None,
            vip_port: None,
            network: None,
        };
        for (key, value) in pairs(row, "external_ids")? {
            match key {
                "lr_ref" if !port_forward => lb.router = Some(Id::new(value)),
                "neutron:router_name" if port_forward => lb.router = Some(Id::new(value)),
                "neutron:vip" => lb.vip = Some(parse("external_ids:neutron:vip", "an address", value)?),
                "neutron:vip_fip" => lb.vip_fip = Some(parse("external_ids:neutron:vip_fip", "an address", value)?),
                "neutron:vip_port_id" => lb.vip_port = Some(Arc::clone(value)),
                "neutron:network_name" => lb.network = Some(Id::new(value)),
                _ => {}
            }
        }
        Ok(lb)
    }
}

/// The keys of a map whose values may be empty (a VIP without members).
fn keys<'a>(row: &'a Row, column: &'static str) -> Parsed<Vec<&'a str>> {
    match row.get(column) {
        None => Ok(Vec::new()),
        Some(Value::Map(pairs)) => pairs
            .iter()
            .map(|(key, _)| match key {
                Atom::String(key) => Ok(&**key),
                _ => Err(Bad::new(column, "should map strings to strings")),
            })
            .collect(),
        Some(Value::Set(atoms)) if atoms.is_empty() => Ok(Vec::new()),
        Some(Value::Set(_)) => Err(Bad::new(column, "should be a map, is a set")),
    }
}

/// The address of a `vips` key: `ip:port`, `[ip]:port`, or an address alone with or without brackets.
fn vip_address(key: &str) -> Parsed<IpAddr> {
    let address = if let Some((inside, _)) = key.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        inside
    } else if key.parse::<IpAddr>().is_ok() {
        key
    } else {
        key.rsplit_once(':').map_or(key, |(address, _)| address)
    };
    parse("vips", "an address with or without a port", address)
}

/// NB_Global.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Global {
    /// `external_ids:neutron:fip-distributed`; absent means distributed.
    pub distributed: bool,
}

impl Global {
    pub(super) const TABLE: &'static str = "NB_Global";

    pub(super) fn parse(row: &Row) -> Parsed<Self> {
        let mut distributed = true;
        for (key, value) in pairs(row, "external_ids")? {
            if key == "neutron:fip-distributed" {
                distributed = match value.to_ascii_lowercase().as_str() {
                    "true" => true,
                    "false" => false,
                    _ => {
                        return Err(Bad::new(
                            "external_ids:neutron:fip-distributed",
                            format!("'{}' is neither True nor False", shorten(value)),
                        ));
                    }
                };
            }
        }
        Ok(Self { distributed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::testing::{map, text};

    fn row(columns: &[(&str, Value)]) -> Row {
        columns.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect()
    }

    fn set(items: &[&str]) -> Value {
        Value::Set(items.iter().map(|item| Atom::String(Arc::from(*item))).collect())
    }

    /// MAC and address.
    type Pairs = &'static [(Option<&'static str>, &'static str)];

    #[test]
    fn addresses_of_a_port() {
        const MAC: &str = "fa:16:3e:00:00:0a";
        let cidrs = "192.0.2.9/24 2001:db8::9/64";
        let table: &[(&[&str], Pairs)] = &[
            (&["fa:16:3e:00:00:0a 192.0.2.10"], &[(Some(MAC), "192.0.2.10")]),
            (&["fa:16:3e:00:00:0a 192.0.2.10", "unknown"], &[(Some(MAC), "192.0.2.10")]),
            (
                &[" fa:16:3e:00:00:0a  192.0.2.10   2001:DB8:0::10 "],
                &[(Some(MAC), "192.0.2.10"), (Some(MAC), "2001:db8::10")],
            ),
            (&["fa:16:3e:00:00:0a", "fa:16:3e:00:00:0a 192.0.2.10"], &[(Some(MAC), "192.0.2.10")]),
            (&[], &[]),
            (&["fa:16:3e:00:00:0a "], &[]),
            (&["dynamic"], &[]),
            (&["fa:16:3e:00:00:0a dynamic"], &[]),
            (&["dynamic 192.0.2.10"], &[(None, "192.0.2.10")]),
            (&["router"], &[]),
            (&["unknown"], &[(None, "192.0.2.9"), (None, "2001:db8::9")]),
            (&["fa:16:3e:00:00:0a", "unknown"], &[(Some(MAC), "192.0.2.9"), (Some(MAC), "2001:db8::9")]),
        ];
        for (addresses, expected) in table {
            let row = row(&[
                ("name", text("port-1")),
                ("addresses", set(addresses)),
                ("external_ids", map([("neutron:cidrs", cidrs)])),
            ]);
            let port = Port::parse(&row).unwrap();
            let actual: Vec<_> = port.ips().map(|(mac, ip)| (mac.map(|mac| mac.to_string()), ip.to_string())).collect();
            let expected: Vec<_> =
                expected.iter().map(|(mac, ip)| (mac.map(ToOwned::to_owned), (*ip).to_owned())).collect();
            assert_eq!(actual, expected, "{addresses:?}");
        }
    }

    #[test]
    fn vip_keys() {
        let table = [
            ("192.0.2.50:80", Some("192.0.2.50")),
            ("192.0.2.50", Some("192.0.2.50")),
            ("[2001:db8::50]:80", Some("2001:db8::50")),
            ("[2001:db8::50]", Some("2001:db8::50")),
            ("2001:db8::50", Some("2001:db8::50")),
            ("2001:DB8:0:0::50", Some("2001:db8::50")),
            ("x:80", None),
            ("", None),
        ];
        for (key, expected) in table {
            assert_eq!(vip_address(key).ok().map(|ip| ip.to_string()).as_deref(), expected, "{key}");
        }
        let both = map([("192.0.2.50:80", "x"), ("192.0.2.50:443", ""), ("^vip:80", "x"), ("198.51.100.5:80", "y")]);
        let lb = LoadBalancer::parse(&row(&[("name", text("lb")), ("vips", both)])).unwrap();
        assert_eq!(lb.vips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.50", "198.51.100.5"]);
    }

    #[test]
    fn a_bad_row_names_itself_its_column_and_the_problem() {
        let table: &[(&str, Value, &str)] = &[
            ("name", map([]), "row 00000000-0000-0000-0000-000000000007: column name: should be a string, is a map"),
            ("up", text("yes"), "port-1: column up: should be one boolean"),
            ("addresses", set(&["here"]), "port-1: column addresses: 'here' is not an Ethernet address"),
            ("addresses", map([("a", "b")]), "port-1: column addresses: should be a set, is a map"),
            ("options", set(&["a"]), "port-1: column options: should be a map, is a set"),
            (
                "external_ids",
                map([("neutron:cidrs", "10.0.0.1/33")]),
                "port-1: column external_ids:neutron:cidrs: '10.0.0.1/33' is not an address with a prefix length",
            ),
        ];
        for (column, value, says) in table {
            let mut bad = row(&[("name", text("port-1"))]);
            bad.insert(Arc::from(*column), value.clone());
            let warning = Port::parse(&bad).unwrap_err().warning(Port::TABLE, Uuid::from_u128(7), &bad).to_string();
            let says = says.strip_prefix("row ").unwrap_or(says);
            assert!(warning.starts_with(&format!("Logical_Switch_Port {says}")), "{warning}");
        }
    }

    #[test]
    fn a_tag_is_a_vlan_or_none() {
        let tag = |atoms: Vec<Atom>| {
            let row = row(&[("name", text("l")), ("type", text("localnet")), ("tag", Value::Set(atoms))]);
            Port::parse(&row).map(|port| port.infrastructure.unwrap().tag)
        };
        assert_eq!(tag(vec![]).unwrap(), None);
        assert_eq!(tag(vec![Atom::Integer(0)]).unwrap(), None);
        assert_eq!(tag(vec![Atom::Integer(4094)]).unwrap(), Some(4094));
        assert!(tag(vec![Atom::Integer(4095)]).is_err());
        assert!(tag(vec![Atom::Integer(1), Atom::Integer(2)]).is_err());
    }

    #[test]
    fn what_is_quoted_is_short_and_printable() {
        assert_eq!(shorten("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
        assert!(shorten(&"x".repeat(1000)).chars().count() <= 81);
    }
}
