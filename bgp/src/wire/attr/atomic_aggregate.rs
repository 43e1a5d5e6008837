//! ATOMIC_AGGREGATE (RFC 4271 §5.1.6).

use bytes::BytesMut;

use super::super::notification::update as subcode;
use super::{Malformed, flags, put_short};

pub(crate) const CODE: u8 = 6;
pub(crate) const FLAGS: u8 = flags::WELL_KNOWN;

/// RFC 7606 §7.6: malformed if the length is not 0; discarded.
pub(crate) fn decode(value: &[u8]) -> Result<(), Malformed> {
    if value.is_empty() {
        return Ok(());
    }
    Err(Malformed::discard(subcode::LENGTH, format!("ATOMIC_AGGREGATE of {} octets", value.len())))
}

pub(crate) fn encode(out: &mut BytesMut) {
    put_short(FLAGS, CODE, [], out);
}
