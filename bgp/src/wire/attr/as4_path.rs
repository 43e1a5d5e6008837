//! AS4_PATH (RFC 6793 §3): the path in four octets past speakers that know only two. On a four-octet session it is discarded
//! whatever it holds (§6).

use bytes::BytesMut;

use super::super::EncodeError;
use super::super::notification::update as subcode;
use super::as_path::{AsPath, Segment, put_segments, segments};
use super::{Malformed, flags};

pub(crate) const CODE: u8 = 17;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_TRANSITIVE;

/// RFC 6793 §6: a malformed one is discarded; confederation segments do not belong into it and are dropped.
pub(crate) fn decode(value: &[u8]) -> Result<AsPath, Malformed> {
    let malformed = |reason| Malformed::discard(subcode::OPTIONAL, format!("AS4_PATH {reason}"));
    if value.is_empty() {
        return Err(malformed("of 0 octets".to_owned()));
    }
    let mut path = segments(value, true).map_err(malformed)?;
    path.0.retain(|segment| !segment.is_confederation());
    Ok(path)
}

/// Writes it if the path has an AS number that does not fit two octets (RFC 6793 §4.2.2).
pub(crate) fn encode(path: &AsPath, out: &mut BytesMut) -> Result<(), EncodeError> {
    let segments = path.0.iter().filter(|segment| !segment.is_confederation());
    if segments.clone().flat_map(Segment::asns).any(|asn| *asn > u32::from(u16::MAX)) {
        put_segments((FLAGS, CODE), segments, true, out)?;
    }
    Ok(())
}
