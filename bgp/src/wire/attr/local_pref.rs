//! LOCAL_PREF (RFC 4271 §5.1.5). From an external peer it is discarded whatever it holds (RFC 7606 §7.5).

use bytes::BytesMut;

use super::{Malformed, flags, put_short};

pub(crate) const CODE: u8 = 5;
pub(crate) const FLAGS: u8 = flags::WELL_KNOWN;

/// RFC 7606 §7.5: malformed if the length is not 4; treat-as-withdraw.
pub(crate) fn decode(value: &[u8]) -> Result<u32, Malformed> {
    <[u8; 4]>::try_from(value).map(u32::from_be_bytes).map_err(|_| Malformed::length("LOCAL_PREF", value))
}

pub(crate) fn encode(preference: u32, out: &mut BytesMut) {
    put_short(FLAGS, CODE, preference.to_be_bytes(), out);
}
