//! ORIGIN (RFC 4271 §5.1.1).

use bytes::BytesMut;

use super::super::notification::update as subcode;
use super::{Malformed, flags, put_short};

pub(crate) const CODE: u8 = 1;
pub(crate) const FLAGS: u8 = flags::WELL_KNOWN;

/// ORIGIN (RFC 4271 §5.1.1), in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// 0.
    Igp,
    /// 1.
    Egp,
    /// 2.
    Incomplete,
}

/// RFC 7606 §7.1: malformed if the length is not 1 or the value undefined; treat-as-withdraw.
pub(crate) fn decode(value: &[u8]) -> Result<Origin, Malformed> {
    match *value {
        [0] => Ok(Origin::Igp),
        [1] => Ok(Origin::Egp),
        [2] => Ok(Origin::Incomplete),
        [other] => Err(Malformed::withdraw(subcode::ORIGIN, format!("ORIGIN {other}"))),
        _ => Err(Malformed::length("ORIGIN", value)),
    }
}

pub(crate) fn encode(origin: Origin, out: &mut BytesMut) {
    put_short(FLAGS, CODE, [origin as u8], out);
}
