//! MULTI_EXIT_DISC (RFC 4271 §5.1.4).

use bytes::BytesMut;

use super::{Malformed, flags, put_short};

pub(crate) const CODE: u8 = 4;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_NON_TRANSITIVE;

/// RFC 7606 §7.4: malformed if the length is not 4; treat-as-withdraw.
pub(crate) fn decode(value: &[u8]) -> Result<u32, Malformed> {
    <[u8; 4]>::try_from(value).map(u32::from_be_bytes).map_err(|_| Malformed::length("MULTI_EXIT_DISC", value))
}

pub(crate) fn encode(med: u32, out: &mut BytesMut) {
    put_short(FLAGS, CODE, med.to_be_bytes(), out);
}
