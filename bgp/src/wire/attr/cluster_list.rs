//! CLUSTER_LIST (RFC 4456 §8). From an external peer it is discarded whatever it holds (RFC 7606 §7.10).

use std::net::Ipv4Addr;

use bytes::BytesMut;

use super::super::EncodeError;
use super::{Malformed, flags, items, put_items};

pub(crate) const CODE: u8 = 10;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_NON_TRANSITIVE;

/// RFC 7606 §7.10: malformed if the length is not a non-zero multiple of 4; treat-as-withdraw.
pub(crate) fn decode(value: &[u8]) -> Result<Vec<Ipv4Addr>, Malformed> {
    items("CLUSTER_LIST", value, |octets: [u8; 4]| Ipv4Addr::from(octets))
}

pub(crate) fn encode(list: &[Ipv4Addr], out: &mut BytesMut) -> Result<(), EncodeError> {
    put_items((FLAGS, CODE), list, |id: Ipv4Addr| id.octets(), out)
}
