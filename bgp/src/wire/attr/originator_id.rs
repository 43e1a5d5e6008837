//! ORIGINATOR_ID (RFC 4456 §8). From an external peer it is discarded whatever it holds (RFC 7606 §7.9).

use std::net::Ipv4Addr;

use bytes::BytesMut;

use super::{Malformed, flags, put_short};

pub(crate) const CODE: u8 = 9;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_NON_TRANSITIVE;

/// RFC 7606 §7.9: malformed if the length is not 4; treat-as-withdraw.
pub(crate) fn decode(value: &[u8]) -> Result<Ipv4Addr, Malformed> {
    <[u8; 4]>::try_from(value).map(Ipv4Addr::from).map_err(|_| Malformed::length("ORIGINATOR_ID", value))
}

pub(crate) fn encode(id: Ipv4Addr, out: &mut BytesMut) {
    put_short(FLAGS, CODE, id.octets(), out);
}
