//! AS4_AGGREGATOR (RFC 6793 §3). On a four-octet session it is discarded whatever it holds (§6).

use bytes::BytesMut;

use super::super::notification::update as subcode;
use super::aggregator::{Aggregator, finish, join};
use super::{Malformed, flags, put_short};

pub(crate) const CODE: u8 = 18;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_TRANSITIVE;

/// RFC 6793 §6: malformed if the length is not 8; discarded.
pub(crate) fn decode(value: &[u8]) -> Result<Aggregator, Malformed> {
    match *value {
        [a, b, c, d, ref id @ ..] if id.len() == 4 => finish("AS4_AGGREGATOR", u32::from_be_bytes([a, b, c, d]), id),
        _ => Err(Malformed::discard(subcode::OPTIONAL, format!("AS4_AGGREGATOR of {} octets", value.len()))),
    }
}

/// Writes it if the AS number does not fit two octets (RFC 6793 §4.2.2).
pub(crate) fn encode(aggregator: Aggregator, out: &mut BytesMut) {
    if aggregator.asn > u32::from(u16::MAX) {
        let value = join::<4, 8>(aggregator.asn.to_be_bytes(), aggregator.router_id.octets());
        put_short(FLAGS, CODE, value, out);
    }
}
