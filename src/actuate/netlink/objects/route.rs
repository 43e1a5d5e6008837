//! Routes, multipath ones included: RTA attributes, struct rtmsg, struct rtnexthop.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{AF_INET, AF_INET6, RT_SCOPE_UNIVERSE, default_net, family, is_v6, prefix};
use crate::actuate::netlink::wire::{
    Frame, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request, address, attrs, octets, put_attr, u16_at, u32_at,
};

pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;
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
