//! NEXT_HOP (RFC 4271 §5.1.3), and the next hops of MP_REACH_NLRI.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};

use super::super::notification::update as subcode;
use super::{Malformed, flags, put_short};

pub(crate) const CODE: u8 = 3;
pub(crate) const FLAGS: u8 = flags::WELL_KNOWN;

/// The next hop of a set of NLRI (RFC 4271 §5.1.3, RFC 4760 §3, RFC 2545 §3, RFC 8950).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextHop {
    /// Four octets.
    V4(Ipv4Addr),
    /// Sixteen octets.
    V6(Ipv6Addr),
    /// Thirty-two octets: (global or whatever stands first, link-local).
    V6Pair(Ipv6Addr, Ipv6Addr),
}

impl NextHop {
    /// The address packets are sent to: of a pair the link-local one if it is link-local, else the first (RFC 2545 §3; what comes in
    /// practice is any mix of global, link-local and unspecified).
    pub fn forwarding(&self) -> IpAddr {
        match *self {
            Self::V4(address) => address.into(),
            Self::V6(address) => address.into(),
            Self::V6Pair(_, second) if second.is_unicast_link_local() => second.into(),
            Self::V6Pair(first, _) => first.into(),
        }
    }

    /// Octets on the wire.
    pub(crate) fn wire_len(self) -> u8 {
        match self {
            Self::V4(_) => 4,
            Self::V6(_) => 16,
            Self::V6Pair(..) => 32,
        }
    }

    /// Writes the address or addresses.
    pub(crate) fn put(self, out: &mut BytesMut) {
        match self {
            Self::V4(address) => out.put_slice(&address.octets()),
            Self::V6(address) => out.put_slice(&address.octets()),
            Self::V6Pair(first, second) => {
                out.put_slice(&first.octets());
                out.put_slice(&second.octets());
            }
        }
    }

    /// Whether it can be the address of a host next door.
    pub(crate) fn is_usable(&self) -> bool {
        match self.forwarding() {
            IpAddr::V4(address) => is_host(address),
            IpAddr::V6(address) => !address.is_unspecified() && !address.is_loopback() && !address.is_multicast(),
        }
    }
}

/// RFC 4271 §6.3: syntactically correct is an address of a host. Not this network, loopback, multicast or broadcast.
fn is_host(address: Ipv4Addr) -> bool {
    !matches!(address.octets(), [0 | 127 | 224..=239, ..] | [255, 255, 255, 255])
}

/// RFC 7606 §7.3: malformed if the length is not 4; treat-as-withdraw.
pub(crate) fn decode(value: &[u8]) -> Result<Ipv4Addr, Malformed> {
    <[u8; 4]>::try_from(value).map(Ipv4Addr::from).map_err(|_| Malformed::length("NEXT_HOP", value))
}

/// RFC 4271 §6.3, RFC 7606 §7.3: an address that no host has is treated as withdrawn. Only for NLRI in the body, for nothing else
/// is the attribute looked at (RFC 4760 §3).
pub(crate) fn check(address: Ipv4Addr) -> Result<(), Malformed> {
    if is_host(address) {
        Ok(())
    } else {
        Err(Malformed::withdraw(subcode::NEXT_HOP, format!("NEXT_HOP {address} is not the address of a host")))
    }
}

pub(crate) fn encode(address: Ipv4Addr, out: &mut BytesMut) {
    put_short(FLAGS, CODE, address.octets(), out);
}
