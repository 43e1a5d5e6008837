//! LARGE_COMMUNITY (RFC 8092).

use std::collections::HashSet;

use bytes::{BufMut, BytesMut};

use super::super::EncodeError;
use super::{Malformed, flags, items, put_header};

pub(crate) const CODE: u8 = 32;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_TRANSITIVE;

/// A large community (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct LargeCommunity {
    /// Global Administrator.
    pub global: u32,
    /// Local Data Part 1.
    pub local1: u32,
    /// Local Data Part 2.
    pub local2: u32,
}

/// RFC 8092 §6: malformed if the length is not a non-zero multiple of 12; treat-as-withdraw. §5: repeated values are removed silently.
pub(crate) fn decode(value: &[u8]) -> Result<Vec<LargeCommunity>, Malformed> {
    let mut list = items("LARGE_COMMUNITY", value, |[a, b, c, d, e, f, g, h, i, j, k, l]| LargeCommunity {
        global: u32::from_be_bytes([a, b, c, d]),
        local1: u32::from_be_bytes([e, f, g, h]),
        local2: u32::from_be_bytes([i, j, k, l]),
    })?;
    let mut seen = HashSet::with_capacity(list.len());
    list.retain(|community| seen.insert(*community));
    Ok(list)
}

pub(crate) fn encode(communities: &[LargeCommunity], out: &mut BytesMut) -> Result<(), EncodeError> {
    if communities.is_empty() {
        return Ok(());
    }
    put_header(FLAGS, CODE, communities.len() * 12, out)?;
    for community in communities {
        out.put_u32(community.global);
        out.put_u32(community.local1);
        out.put_u32(community.local2);
    }
    Ok(())
}
