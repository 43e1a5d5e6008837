//! IPv6 Address Specific EXTENDED COMMUNITIES (RFC 5701): checked, otherwise left opaque.

use super::{Malformed, flags};

pub(crate) const CODE: u8 = 25;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_TRANSITIVE;

/// RFC 7606 §7.15: malformed if the length is not a non-zero multiple of 20; treat-as-withdraw.
pub(crate) fn check(value: &[u8]) -> Result<(), Malformed> {
    if value.is_empty() || !value.len().is_multiple_of(20) {
        return Err(Malformed::length("IPV6_EXT_COMMUNITIES", value));
    }
    Ok(())
}
