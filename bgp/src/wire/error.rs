//! What can be wrong with a message, where, and what has to be done about it.

use super::notification::{Notification, code};
use super::{HEADER_LEN, MAX_LEN};

/// A fault that ends the session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at octet {offset}")]
pub struct Error {
    /// Octets from the start of the message (the Marker) to the fault.
    pub offset: usize,
    /// What is wrong, for a log line.
    pub reason: String,
    /// What the peer has to be told.
    pub notification: Notification,
}

impl Error {
    /// A fault at `offset` that is answered with the NOTIFICATION `code`/`subcode` without data.
    pub fn new(offset: usize, code: u8, subcode: u8, reason: impl Into<String>) -> Self {
        Self { offset, reason: reason.into(), notification: Notification::new(code, subcode) }
    }

    /// The same with diagnostic data for the NOTIFICATION, cut to what a message of 4096 octets takes.
    #[must_use]
    pub fn with_data(mut self, data: &[u8]) -> Self {
        let data = data.get(..MAX_LEN - HEADER_LEN - 2).unwrap_or(data);
        self.notification.data = bytes::Bytes::copy_from_slice(data);
        self
    }

    /// A fault of an OPEN (RFC 4271 §6.2).
    pub(crate) fn open(offset: usize, subcode: u8, reason: impl Into<String>) -> Self {
        Self::new(offset, code::OPEN_MESSAGE, subcode, reason)
    }

    /// A fault of an UPDATE (RFC 4271 §6.3).
    pub(crate) fn update(offset: usize, subcode: u8, reason: impl Into<String>) -> Self {
        Self::new(offset, code::UPDATE_MESSAGE, subcode, reason)
    }
}

/// How bad a fault in an UPDATE is, mildest first, so that the maximum is what has to be done (RFC 7606 §3(h)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// A prefix that cannot be a unicast destination was left out; the rest stands (RFC 4271 §6.3).
    PrefixIgnore,
    /// Drop the attribute, use the rest (RFC 7606 §2).
    AttributeDiscard,
    /// Withdraw every prefix of the message (RFC 7606 §2).
    TreatAsWithdraw,
}

/// One fault that does not end the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Octets from the start of the message (the Marker) to the fault.
    pub offset: usize,
    /// Attribute type code, where the fault is in an attribute.
    pub attribute: Option<u8>,
    /// What is wrong, for a log line.
    pub reason: String,
    /// What has to be done about it.
    pub treatment: Treatment,
}

/// A value that does not fit its field on the wire. The fault is ours, not the peer's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message would be longer than the session allows.
    #[error("the message needs {len} octets, {max} are allowed: split it")]
    TooLong {
        /// Octets needed.
        len: usize,
        /// Octets allowed.
        max: usize,
    },
    /// A path attribute, capability or text is longer than its length field can say.
    #[error("{what} needs {len} octets, its length field allows {max}")]
    FieldTooLong {
        /// Which field.
        what: &'static str,
        /// Octets needed.
        len: usize,
        /// Octets allowed.
        max: usize,
    },
    /// The next hop or the prefix does not belong to the family it is sent with.
    #[error("{0} in an UPDATE for another address family")]
    WrongFamily(&'static str),
    /// The session does not carry this: the family, or an IPv6 next hop for IPv4 (RFC 8950), was not negotiated.
    #[error("{0} was not negotiated with this peer")]
    NotNegotiated(&'static str),
}

#[cfg(test)]
mod tests {
    use super::super::{Context, Message, encode};
    use super::*;

    #[test]
    fn data_is_cut_so_that_the_notification_can_be_sent() {
        let error = Error::update(0, 5, "too long").with_data(&[0; 5000]);
        let mut out = bytes::BytesMut::new();
        encode(&Message::Notification(error.notification), &Context::default(), &mut out).unwrap();
        assert_eq!(out.len(), MAX_LEN);
    }
}
