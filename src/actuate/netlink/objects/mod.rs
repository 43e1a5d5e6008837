//! Rules, routes, neighbours, addresses and links ↔ netlink messages. No IO.
//!
//! Reading answers `None` for what the agent has no use for (other families, cloned routes, …).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::wire;

mod address;
mod link;
mod neighbour;
mod netconf;
mod route;
mod rule;

pub(crate) use address::{Address, RTM_DELADDR, RTM_NEWADDR};
pub(crate) use link::{Device, RTM_DELLINK, RTM_NEWLINK, Vlan};
pub(crate) use neighbour::{Neighbour, RTM_DELNEIGH, RTM_NEWNEIGH};
pub(crate) use netconf::{ProxyNeigh, RTM_NEWNETCONF};
pub(crate) use route::{Hop, RTM_DELROUTE, RTM_NEWROUTE, Route};
pub(crate) use rule::{RTM_DELRULE, RTM_NEWRULE, Rule};

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RT_SCOPE_UNIVERSE: u8 = 0;

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
        Some(octets) => IpNet::new(wire::address(octets)?, length).ok(),
        None if length == 0 => Some(default_net(v6)),
        None => None,
    }
}

#[cfg(test)]
mod tests;
