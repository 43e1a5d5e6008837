//! AGGREGATOR (RFC 4271 §5.1.7, RFC 6793).

use std::net::Ipv4Addr;

use bytes::BytesMut;

use super::super::Context;
use super::super::notification::update as subcode;
use super::{Malformed, flags, put_short};
use crate::types::{AS_TRANS, Asn};

pub(crate) const CODE: u8 = 7;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_TRANSITIVE;

/// AGGREGATOR (RFC 4271 §5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Aggregator {
    /// The AS that aggregated.
    pub asn: Asn,
    /// The speaker that aggregated.
    pub router_id: Ipv4Addr,
}

/// RFC 7606 §7.7: malformed if the length is not 8, or 6 on a two-octet session; discarded. So is AS 0 (RFC 7607 §2).
pub(crate) fn decode(value: &[u8], ctx: &Context) -> Result<Aggregator, Malformed> {
    let (asn, router_id) = match *value {
        [a, b, c, d, ref id @ ..] if ctx.as4 && id.len() == 4 => (u32::from_be_bytes([a, b, c, d]), id),
        [a, b, ref id @ ..] if !ctx.as4 && id.len() == 4 => (u32::from(u16::from_be_bytes([a, b])), id),
        _ => return Err(Malformed::discard(subcode::LENGTH, format!("AGGREGATOR of {} octets", value.len()))),
    };
    finish("AGGREGATOR", asn, router_id)
}

/// What AGGREGATOR and AS4_AGGREGATOR check alike.
pub(super) fn finish(name: &str, asn: Asn, router_id: &[u8]) -> Result<Aggregator, Malformed> {
    let length = || Malformed::discard(subcode::LENGTH, format!("{name} of wrong length"));
    let router_id = <[u8; 4]>::try_from(router_id).map_err(|_| length())?;
    if asn == 0 {
        return Err(Malformed::discard(subcode::OPTIONAL, format!("{name} with AS 0 (RFC 7607)")));
    }
    Ok(Aggregator { asn, router_id: router_id.into() })
}

pub(crate) fn encode(aggregator: Aggregator, ctx: &Context, out: &mut BytesMut) {
    let id = aggregator.router_id.octets();
    if ctx.as4 {
        put_short(FLAGS, CODE, join::<4, 8>(aggregator.asn.to_be_bytes(), id), out);
    } else {
        let asn = u16::try_from(aggregator.asn).unwrap_or(AS_TRANS);
        put_short(FLAGS, CODE, join::<2, 6>(asn.to_be_bytes(), id), out);
    }
}

pub(super) fn join<const A: usize, const N: usize>(asn: [u8; A], id: [u8; 4]) -> [u8; N] {
    const { assert!(A + 4 == N) };
    let mut value = [0; N];
    value.iter_mut().zip(asn.into_iter().chain(id)).for_each(|(to, from)| *to = from);
    value
}
