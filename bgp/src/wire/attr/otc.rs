//! ONLY_TO_CUSTOMER (RFC 9234 §5).

use bytes::BytesMut;

use super::{Malformed, flags, put_short};
use crate::types::Asn;

pub(crate) const CODE: u8 = 35;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_TRANSITIVE;

/// RFC 9234 §5: malformed if the length is not 4; treat-as-withdraw.
pub(crate) fn decode(value: &[u8]) -> Result<Asn, Malformed> {
    <[u8; 4]>::try_from(value).map(u32::from_be_bytes).map_err(|_| Malformed::length("ONLY_TO_CUSTOMER", value))
}

pub(crate) fn encode(asn: Asn, out: &mut BytesMut) {
    put_short(FLAGS, CODE, asn.to_be_bytes(), out);
}
