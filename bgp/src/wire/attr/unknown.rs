//! Attributes we do not know, or know but leave opaque (RFC 4271 §5, §9).

use bytes::{BufMut, Bytes, BytesMut};

use super::super::EncodeError;
use super::{flags, put_header};

/// An attribute we do not know (or know but leave opaque), kept as it came (RFC 4271 §5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnknownAttribute {
    /// Attribute flags as received: Optional, Transitive and Partial. Extended Length follows from the value, the other bits
    /// mean nothing.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub value: Bytes,
}

impl UnknownAttribute {
    /// What is passed on to other peers: a transitive attribute with the Partial bit set, anything else not at all (RFC 4271
    /// §5).
    #[must_use]
    pub fn passed_on(&self) -> Option<Self> {
        (self.flags & flags::TRANSITIVE != 0).then(|| Self { flags: self.flags | flags::PARTIAL, ..self.clone() })
    }

    pub(crate) fn decode(flags: u8, code: u8, value: &[u8]) -> Self {
        let flags = flags & (flags::CLASS | flags::PARTIAL);
        // A copy, so that a route does not hold on to a whole receive buffer.
        Self { flags, code, value: Bytes::copy_from_slice(value) }
    }
}

pub(crate) fn encode(attribute: &UnknownAttribute, out: &mut BytesMut) -> Result<(), EncodeError> {
    put_header(attribute.flags & !flags::EXTENDED_LENGTH, attribute.code, attribute.value.len(), out)?;
    out.put_slice(&attribute.value);
    Ok(())
}
