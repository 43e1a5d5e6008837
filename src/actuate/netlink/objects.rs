//! Rules, routes, neighbours, addresses and links ↔ netlink messages. No IO.
//!
//! Reading answers `None` for what the agent has no use for (other families, cloned routes, …).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::wire::{
    Frame, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request, address, attrs, octets, put_attr, text, u16_at, u32_at,
};
use crate::mac::Mac;

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
pub(crate) const RTM_NEWRULE: u16 = 32;
pub(crate) const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

const AF_UNSPEC: u8 = 0;
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;

/// The address family of IPv4 or IPv6.
fn family(v6: bool) -> u8 {
    if v6 { AF_INET6 } else { AF_INET }
}

fn is_v6(net: IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

/// The prefix 0/0 of a family.
pub(crate) fn default_net(v6: bool) -> IpNet {
    let address: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    IpNet::new_assert(address, 0)
}

/// A prefix from a header's length and an attribute, which the kernel leaves out when the length is 0.
fn prefix(v6: bool, length: u8, octets: Option<&[u8]>) -> Option<IpNet> {
    match octets {
        Some(octets) => IpNet::new(address(octets)?, length).ok(),
        None if length == 0 => Some(default_net(v6)),
        None => None,
    }
}

// ---- rules ------------------------------------------------------------------------------------------------------------------

const FRA_DST: u16 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PAD: u16 = 18;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;

/// An `ip rule` that looks at the destination only and then looks up a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Destination; 0/0 for any.
    pub(crate) to: IpNet,
    pub(crate) table: u32,
    pub(crate) priority: u32,
    pub(crate) protocol: u8,
}

impl Rule {
    fn request(&self, kind: u16, flags: u16) -> Request {
        // struct fib_rule_hdr: family, dst_len, src_len, tos, table, res1, res2, action, flags
        let length = self.to.prefix_len();
        let header = [family(is_v6(self.to)), length, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
        let to = octets(self.to.addr());
        Request::new(kind, flags, &header)
            .attr_opt(FRA_DST, (length > 0).then_some(to.as_slice()))
            .attr(FRA_PRIORITY, &self.priority.to_ne_bytes())
            .attr(FRA_TABLE, &self.table.to_ne_bytes())
            .attr(FRA_PROTOCOL, &[self.protocol])
    }

    /// Add; refused with EEXIST when it is there.
    pub(crate) fn add(&self) -> Request {
        self.request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Remove; refused with ENOENT when it is not there.
    pub(crate) fn remove(&self) -> Request {
        self.request(RTM_DELRULE, 0)
    }

    pub(crate) fn dump(v6: bool) -> Request {
        Request::new(RTM_GETRULE, 0, &[family(v6), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// The table that any rule looks up, whatever its selectors.
    pub(crate) fn read_table(frame: &Frame<'_>) -> Option<u32> {
        attrs(frame.body.get(12..)?).find(|(kind, _)| *kind == FRA_TABLE).and_then(|(_, value)| u32_at(value, 0))
    }

    /// Reads a rule; none if it has any selector besides the destination, or another action.
    pub(crate) fn read(frame: &Frame<'_>) -> Option<Self> {
        let &[family, dst_len, src_len, tos, table, _, _, action, ref rest @ ..] = frame.body else { return None };
        let v6 = match family {
            AF_INET => false,
            AF_INET6 => true,
            _ => return None,
        };
        let plain = src_len == 0 && tos == 0 && action == FR_ACT_TO_TBL && u32_at(rest, 0)? & 0x2 == 0;
        let (mut to, mut table, mut priority, mut protocol) = (None, u32::from(table), 0, 0);
        for (kind, value) in attrs(rest.get(4..)?) {
            match kind {
                FRA_DST => to = Some(value),
                FRA_TABLE => table = u32_at(value, 0)?,
                FRA_PRIORITY => priority = u32_at(value, 0)?,
                FRA_PROTOCOL => protocol = *value.first()?,
                FRA_SUPPRESS_IFGROUP | FRA_SUPPRESS_PREFIXLEN if u32_at(value, 0) == Some(u32::MAX) => {}
                FRA_PAD => {}
                // A selector or modifier we do not know is no matter while it says nothing.
                _ if value.iter().all(|&octet| octet == 0) => {}
                _ => return None,
            }
        }
        plain.then_some(Self { to: prefix(v6, dst_len, to)?, table, priority, protocol })
    }
}

// ---- routes -----------------------------------------------------------------------------------------------------------------

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
/// In a removal: whatever the scope.
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u8 = 4;
const RTM_F_CLONED: u32 = 0x200;
/// Length of `struct rtnexthop`.
const NEXT_HOP: usize = 8;

/// One way a route can go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hop {
    /// 0: the kernel finds the device by its own routes.
    pub(crate) ifindex: u32,
    /// Gateway, of either family, `onlink` when the device is given; none for directly connected.
    pub(crate) via: Option<IpAddr>,
}

impl Hop {
    fn is_onlink(&self) -> bool {
        self.via.is_some() && self.ifindex > 0
    }
}

/// A unicast route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: IpNet,
    pub(crate) table: u32,
    pub(crate) protocol: u8,
    /// Metric as the kernel shows it (IPv6 turns 0 into 1024).
    pub(crate) metric: u32,
    pub(crate) source: Option<IpAddr>,
    /// One, or several for multipath; empty for what the agent cannot express (next-hop objects, blackholes, …).
    pub(crate) hops: Vec<Hop>,
}

impl Route {
    fn request(&self, kind: u16, flags: u16, scope: u8, rtm_flags: u32) -> Request {
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
        let length = self.to.prefix_len();
        let route_type = if kind == RTM_DELROUTE { 0 } else { RTN_UNICAST };
        let [a, b, c, d] = rtm_flags.to_ne_bytes();
        let header = [family(is_v6(self.to)), length, 0, 0, 0, self.protocol, scope, route_type, a, b, c, d];
        let to = octets(self.to.addr());
        Request::new(kind, flags, &header)
            .attr_opt(RTA_DST, (length > 0).then_some(to.as_slice()))
            .attr(RTA_TABLE, &self.table.to_ne_bytes())
            .attr_opt(RTA_PRIORITY, (self.metric > 0).then_some(&self.metric.to_ne_bytes()))
    }

    /// Add, or replace the one with the same destination, table and metric, whoever made that.
    pub(crate) fn replace(&self) -> Request {
        self.install(NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Add; refused with EEXIST when there is one with the same destination, table and metric.
    pub(crate) fn add(&self) -> Request {
        self.install(NLM_F_CREATE | NLM_F_EXCL)
    }

    fn install(&self, flags: u16) -> Request {
        let connected = self.hops.iter().all(|hop| hop.via.is_none());
        let scope = if connected && !is_v6(self.to) { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
        let onlink = match self.hops.as_slice() {
            [hop] if hop.is_onlink() => u32::from(RTNH_F_ONLINK),
            _ => 0,
        };
        let mut request = self.request(RTM_NEWROUTE, flags, scope, onlink);
        if let Some(source) = self.source {
            request = request.attr(RTA_PREFSRC, &octets(source));
        }
        if let [hop] = self.hops.as_slice() {
            request = request.attr_opt(RTA_OIF, (hop.ifindex > 0).then_some(&hop.ifindex.to_ne_bytes()));
            return match gateway(self.to, hop) {
                Some((kind, value)) => request.attr(kind, &value),
                None => request,
            };
        }
        request.nested(RTA_MULTIPATH, &self.multipath())
    }

    /// The list of `struct rtnexthop` (length, flags, weight − 1, ifindex), each with its attributes.
    fn multipath(&self) -> Vec<u8> {
        let mut hops = Vec::new();
        for hop in &self.hops {
            let mut inner = Vec::new();
            if let Some((kind, value)) = gateway(self.to, hop) {
                put_attr(&mut inner, kind, &value);
            }
            let flags = if hop.is_onlink() { RTNH_F_ONLINK } else { 0 };
            let length = u16::try_from(NEXT_HOP + inner.len()).unwrap_or(u16::MAX);
            hops.extend_from_slice(&length.to_ne_bytes());
            hops.extend_from_slice(&[flags, 0]);
            hops.extend_from_slice(&hop.ifindex.to_ne_bytes());
            hops.extend_from_slice(&inner);
        }
        hops
    }

    /// Remove the route with this destination, table, metric (if not 0) **and protocol**: the kernel itself spares others'.
    /// Refused with ESRCH when there is none.
    pub(crate) fn remove(&self) -> Request {
        self.request(RTM_DELROUTE, 0, RT_SCOPE_NOWHERE, 0)
    }

    /// Routes of a family, filtered by the kernel by table and protocol where these are given (strict sockets only).
    pub(crate) fn dump(v6: bool, table: Option<u32>, protocol: u8) -> Request {
        // A type, protocol or table of 0 does not filter.
        let header = [family(v6), 0, 0, 0, 0, protocol, 0, 0, 0, 0, 0, 0];
        let table = table.map(u32::to_ne_bytes);
        Request::new(RTM_GETROUTE, 0, &header).attr_opt(RTA_TABLE, table.as_ref().map(<[u8; 4]>::as_slice))
    }

    pub(crate) fn read(frame: &Frame<'_>) -> Option<Self> {
        let &[family, dst_len, src_len, tos, table, protocol, _, route_type, ref rest @ ..] = frame.body else {
            return None;
        };
        let v6 = match family {
            AF_INET => false,
            AF_INET6 => true,
            _ => return None,
        };
        if src_len != 0 || tos != 0 || u32_at(rest, 0)? & RTM_F_CLONED != 0 {
            return None;
        }
        let mut to = None;
        let mut single = (None, None);
        let mut object = false;
        let mut route =
            Self { to: default_net(v6), table: u32::from(table), protocol, metric: 0, source: None, hops: Vec::new() };
        for (kind, value) in attrs(rest.get(4..)?) {
            match kind {
                RTA_DST => to = Some(value),
                RTA_TABLE => route.table = u32_at(value, 0)?,
                RTA_PRIORITY => route.metric = u32_at(value, 0)?,
                RTA_PREFSRC => route.source = address(value),
                RTA_OIF => single.0 = u32_at(value, 0),
                RTA_GATEWAY | RTA_VIA => single.1 = read_gateway(kind, value),
                RTA_MULTIPATH => route.hops = read_multipath(value),
                RTA_NH_ID => object = true,
                _ => {}
            }
        }
        route.to = prefix(v6, dst_len, to)?;
        if let (Some(ifindex), via) = single {
            route.hops.push(Hop { ifindex, via });
        }
        if route_type != RTN_UNICAST || object {
            route.hops.clear();
        }
        Some(route)
    }
}

/// The attribute that carries the gateway: of the route's own family, or RTA_VIA (kernel 5.2 for IPv6 under IPv4).
fn gateway(to: IpNet, hop: &Hop) -> Option<(u16, Vec<u8>)> {
    let via = hop.via?;
    if via.is_ipv6() == is_v6(to) {
        return Some((RTA_GATEWAY, octets(via)));
    }
    // struct rtvia: family (16 bits), address
    let mut value = u16::from(family(via.is_ipv6())).to_ne_bytes().to_vec();
    value.extend(octets(via));
    Some((RTA_VIA, value))
}

fn read_gateway(kind: u16, value: &[u8]) -> Option<IpAddr> {
    address(if kind == RTA_VIA { value.get(2..)? } else { value })
}

fn read_multipath(mut bytes: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let (Some(length), Some(ifindex)) = (u16_at(bytes, 0), u32_at(bytes, 4)) {
        let length = usize::from(length);
        let Some(inner) = bytes.get(NEXT_HOP..length) else { break };
        let via = attrs(inner)
            .find(|(kind, _)| matches!(*kind, RTA_GATEWAY | RTA_VIA))
            .and_then(|(kind, value)| read_gateway(kind, value));
        hops.push(Hop { ifindex, via });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

// ---- neighbours -------------------------------------------------------------------------------------------------------------

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
const NUD_PERMANENT: u16 = 0x80;
const NTF_PROXY: u8 = 0x08;

/// A neighbour or, with [`Neighbour::proxy`], an entry that is answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) ifindex: u32,
    pub(crate) address: IpAddr,
    /// None for proxy entries and while unresolved.
    pub(crate) mac: Option<Mac>,
    pub(crate) permanent: bool,
    pub(crate) proxy: bool,
    /// Who made it (kernel 5.2), 0 if nobody said.
    pub(crate) protocol: u8,
}

impl Neighbour {
    fn header(family: u8, ifindex: u32, state: u16, flags: u8) -> [u8; 12] {
        // struct ndmsg: family, pad, ifindex, state, flags, type
        let mut header = [0; 12];
        header[0] = family;
        header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        header[8..10].copy_from_slice(&state.to_ne_bytes());
        header[10] = flags;
        header
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let (state, entry) = if self.proxy { (0, NTF_PROXY) } else { (NUD_PERMANENT, 0) };
        Request::new(kind, flags, &Self::header(family(self.address.is_ipv6()), self.ifindex, state, entry))
            .attr(NDA_DST, &octets(self.address))
    }

    /// Add or replace, permanent.
    pub(crate) fn replace(&self) -> Request {
        self.request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE)
            .attr_opt(NDA_LLADDR, self.mac.as_ref().map(|mac| mac.0.as_slice()))
            .attr(NDA_PROTOCOL, &[self.protocol])
    }

    /// Remove; refused with ENOENT when it is not there.
    pub(crate) fn remove(&self) -> Request {
        self.request(RTM_DELNEIGH, 0)
    }

    /// All neighbours, or all proxy entries, of a family.
    pub(crate) fn dump(v6: bool, proxy: bool) -> Request {
        let flags = if proxy { NTF_PROXY } else { 0 };
        Request::new(RTM_GETNEIGH, 0, &Self::header(family(v6), 0, 0, flags))
    }

    pub(crate) fn read(frame: &Frame<'_>) -> Option<Self> {
        let &[family, _, _, _, _, _, _, _, _, _, flags, _, ref rest @ ..] = frame.body else { return None };
        if !matches!(family, AF_INET | AF_INET6) {
            return None;
        }
        let (mut address_found, mut mac, mut protocol) = (None, None, 0);
        for (kind, value) in attrs(rest) {
            match kind {
                NDA_DST => address_found = address(value),
                NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok().map(Mac),
                NDA_PROTOCOL => protocol = *value.first()?,
                _ => {}
            }
        }
        Some(Self {
            ifindex: u32_at(frame.body, 4)?,
            address: address_found?,
            mac,
            permanent: u16_at(frame.body, 8)? & NUD_PERMANENT != 0,
            proxy: flags & NTF_PROXY != 0,
            protocol,
        })
    }
}

// ---- addresses --------------------------------------------------------------------------------------------------------------

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const IFA_F_NODAD: u32 = 0x02;
/// Duplicate address detection failed, or has not ended.
const IFA_F_UNUSABLE: u32 = 0x48;

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ifindex: u32,
    pub(crate) net: IpNet,
    /// Who set it (kernel 5.18), 0 if nobody said.
    pub(crate) protocol: u8,
    /// Whether the world may use it: of global scope, not tentative, not a duplicate.
    pub(crate) usable: bool,
}

impl Address {
    fn request(&self, kind: u16, flags: u16) -> Request {
        // struct ifaddrmsg: family, prefixlen, flags, scope, ifindex
        let [a, b, c, d] = self.ifindex.to_ne_bytes();
        let address = octets(self.net.addr());
        Request::new(kind, flags, &[family(is_v6(self.net)), self.net.prefix_len(), 0, 0, a, b, c, d])
            .attr(IFA_LOCAL, &address)
            .attr(IFA_ADDRESS, &address)
    }

    /// Add or replace. No duplicate address detection: the same address stands on every hypervisor by design.
    pub(crate) fn replace(&self) -> Request {
        let flags = if is_v6(self.net) { IFA_F_NODAD } else { 0 };
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE)
            .attr(IFA_FLAGS, &flags.to_ne_bytes())
            .attr(IFA_PROTO, &[self.protocol])
    }

    /// Remove; refused with EADDRNOTAVAIL when it is not there.
    pub(crate) fn remove(&self) -> Request {
        self.request(RTM_DELADDR, 0)
    }

    pub(crate) fn dump(v6: bool) -> Request {
        Request::new(RTM_GETADDR, 0, &[family(v6), 0, 0, 0, 0, 0, 0, 0])
    }

    pub(crate) fn read(frame: &Frame<'_>) -> Option<Self> {
        let &[family, length, flags, scope, _, _, _, _, ref rest @ ..] = frame.body else { return None };
        if !matches!(family, AF_INET | AF_INET6) {
            return None;
        }
        let (mut local, mut peer, mut flags, mut protocol) = (None, None, u32::from(flags), 0);
        for (kind, value) in attrs(rest) {
            match kind {
                IFA_LOCAL => local = address(value),
                IFA_ADDRESS => peer = address(value),
                IFA_FLAGS => flags = u32_at(value, 0)?,
                IFA_PROTO => protocol = *value.first()?,
                _ => {}
            }
        }
        Some(Self {
            ifindex: u32_at(frame.body, 4)?,
            net: IpNet::new(local.or(peer)?, length).ok()?,
            protocol,
            usable: scope == RT_SCOPE_UNIVERSE && flags & IFA_F_UNUSABLE == 0,
        })
    }
}

// ---- links ------------------------------------------------------------------------------------------------------------------

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;

/// A VLAN device's parent and tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vlan {
    pub(crate) parent: u32,
    pub(crate) tag: u16,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    /// None for devices without an Ethernet address.
    pub(crate) mac: Option<Mac>,
    /// Administratively up.
    pub(crate) up: bool,
    pub(crate) carrier: bool,
    pub(crate) alias: Option<String>,
    pub(crate) vlan: Option<Vlan>,
}

impl Device {
    fn header(ifindex: u32, flags: u32, change: u32) -> [u8; 16] {
        // struct ifinfomsg: family, pad, type, ifindex, flags, change
        let mut header = [AF_UNSPEC; 16];
        for (target, value) in header.chunks_exact_mut(4).skip(1).zip([ifindex, flags, change]) {
            target.copy_from_slice(&value.to_ne_bytes());
        }
        header
    }

    pub(crate) fn dump() -> Request {
        Request::new(RTM_GETLINK, 0, &Self::header(0, 0, 0))
    }

    /// Set administratively up.
    pub(crate) fn set_up(ifindex: u32) -> Request {
        Request::new(RTM_NEWLINK, 0, &Self::header(ifindex, IFF_UP, IFF_UP))
    }

    /// Create a VLAN device, up; refused with EEXIST when the name is taken, EOPNOTSUPP when the kernel has no 8021q.
    pub(crate) fn add_vlan(name: &str, vlan: Vlan) -> Request {
        let (mut data, mut info) = (Vec::new(), Vec::new());
        put_attr(&mut data, IFLA_VLAN_ID, &vlan.tag.to_ne_bytes());
        put_attr(&mut info, IFLA_INFO_KIND, b"vlan\0");
        put_attr(&mut info, IFLA_INFO_DATA, &data);
        Request::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &Self::header(0, IFF_UP, IFF_UP))
            .text(IFLA_IFNAME, name)
            .attr(IFLA_LINK, &vlan.parent.to_ne_bytes())
            .nested(IFLA_LINKINFO, &info)
    }

    /// Set the alias of a device by name; a separate step because the kernel ignores it in a creation.
    pub(crate) fn set_alias(name: &str, alias: &str) -> Request {
        Request::new(RTM_SETLINK, 0, &Self::header(0, 0, 0)).text(IFLA_IFNAME, name).text(IFLA_IFALIAS, alias)
    }

    /// Remove; refused with ENODEV when it is not there.
    pub(crate) fn remove(ifindex: u32) -> Request {
        Request::new(RTM_DELLINK, 0, &Self::header(ifindex, 0, 0))
    }

    pub(crate) fn read(frame: &Frame<'_>) -> Option<Self> {
        if *frame.body.first()? != AF_UNSPEC {
            return None;
        }
        let flags = u32_at(frame.body, 8)?;
        let mut device = Self {
            name: String::new(),
            ifindex: u32_at(frame.body, 4)?,
            mac: None,
            up: flags & IFF_UP != 0,
            carrier: flags & IFF_LOWER_UP != 0,
            alias: None,
            vlan: None,
        };
        let (mut parent, mut tag) = (None, None);
        for (kind, value) in attrs(frame.body.get(16..)?) {
            match kind {
                IFLA_IFNAME => device.name = text(value),
                IFLA_ADDRESS => device.mac = <[u8; 6]>::try_from(value).ok().map(Mac),
                IFLA_LINK => parent = u32_at(value, 0),
                IFLA_IFALIAS => device.alias = Some(text(value)),
                IFLA_LINKINFO => tag = read_vlan_tag(value),
                _ => {}
            }
        }
        device.vlan = parent.zip(tag).map(|(parent, tag)| Vlan { parent, tag });
        Some(device)
    }
}

fn read_vlan_tag(info: &[u8]) -> Option<u16> {
    attrs(info).find(|(kind, value)| *kind == IFLA_INFO_KIND && text(value) == "vlan")?;
    let (_, data) = attrs(info).find(|(kind, _)| *kind == IFLA_INFO_DATA)?;
    attrs(data).find(|(kind, _)| *kind == IFLA_VLAN_ID).and_then(|(_, value)| u16_at(value, 0))
}
