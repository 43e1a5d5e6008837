//! COMMUNITIES (RFC 1997).

use bytes::BytesMut;

use super::super::EncodeError;
use super::{Malformed, flags, items, put_items};

pub(crate) const CODE: u8 = 8;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_TRANSITIVE;

/// RFC 7606 §7.8: malformed if the length is not a non-zero multiple of 4; treat-as-withdraw.
pub(crate) fn decode(value: &[u8]) -> Result<Vec<u32>, Malformed> {
    items("COMMUNITIES", value, u32::from_be_bytes)
}

pub(crate) fn encode(communities: &[u32], out: &mut BytesMut) -> Result<(), EncodeError> {
    put_items((FLAGS, CODE), communities, u32::to_be_bytes, out)
}
