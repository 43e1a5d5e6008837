//! EXTENDED COMMUNITIES (RFC 4360).

use bytes::BytesMut;

use super::super::EncodeError;
use super::{Malformed, flags, items, put_items};

pub(crate) const CODE: u8 = 16;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_TRANSITIVE;

/// RFC 7606 §7.14: malformed if the length is not a non-zero multiple of 8; treat-as-withdraw. Unknown types are no error.
pub(crate) fn decode(value: &[u8]) -> Result<Vec<u64>, Malformed> {
    items("EXTENDED_COMMUNITIES", value, u64::from_be_bytes)
}

pub(crate) fn encode(communities: &[u64], out: &mut BytesMut) -> Result<(), EncodeError> {
    put_items((FLAGS, CODE), communities, u64::to_be_bytes, out)
}
