//! NOTIFICATION (RFC 4271 §4.5) and the words for its codes.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Error, HEADER_LEN};

/// Error codes (RFC 4271 §4.5, RFC 7313, RFC 9687).
pub mod code {
    /// Message Header Error.
    pub const MESSAGE_HEADER: u8 = 1;
    /// OPEN Message Error.
    pub const OPEN_MESSAGE: u8 = 2;
    /// UPDATE Message Error.
    pub const UPDATE_MESSAGE: u8 = 3;
    /// Hold Timer Expired.
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    /// Finite State Machine Error.
    pub const FSM: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH Message Error (RFC 7313 §5).
    pub const ROUTE_REFRESH: u8 = 7;
    /// Send Hold Timer Expired (RFC 9687).
    pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;
}

/// Subcodes of Message Header Error (RFC 4271 §6.1).
pub mod header {
    /// Connection Not Synchronized.
    pub const NOT_SYNCHRONIZED: u8 = 1;
    /// Bad Message Length.
    pub const BAD_LENGTH: u8 = 2;
    /// Bad Message Type.
    pub const BAD_TYPE: u8 = 3;
}

/// Subcodes of OPEN Message Error (RFC 4271 §6.2, RFC 5492, RFC 9234).
pub mod open {
    /// Unspecific: the message does not parse.
    pub const UNSPECIFIC: u8 = 0;
    /// Unsupported Version Number.
    pub const VERSION: u8 = 1;
    /// Bad Peer AS.
    pub const BAD_PEER_AS: u8 = 2;
    /// Bad BGP Identifier.
    pub const BAD_IDENTIFIER: u8 = 3;
    /// Unsupported Optional Parameter.
    pub const UNSUPPORTED_PARAMETER: u8 = 4;
    /// Unacceptable Hold Time.
    pub const HOLD_TIME: u8 = 6;
    /// Unsupported Capability (RFC 5492 §5).
    pub const UNSUPPORTED_CAPABILITY: u8 = 7;
    /// Role Mismatch (RFC 9234 §4.2).
    pub const ROLE_MISMATCH: u8 = 11;
}

/// Subcodes of UPDATE Message Error (RFC 4271 §6.3).
pub mod update {
    /// Malformed Attribute List.
    pub const ATTRIBUTE_LIST: u8 = 1;
    /// Unrecognized Well-known Attribute.
    pub const UNRECOGNIZED: u8 = 2;
    /// Missing Well-known Attribute.
    pub const MISSING: u8 = 3;
    /// Attribute Flags Error.
    pub const FLAGS: u8 = 4;
    /// Attribute Length Error.
    pub const LENGTH: u8 = 5;
    /// Invalid ORIGIN Attribute.
    pub const ORIGIN: u8 = 6;
    /// Invalid NEXT_HOP Attribute.
    pub const NEXT_HOP: u8 = 8;
    /// Optional Attribute Error.
    pub const OPTIONAL: u8 = 9;
    /// Invalid Network Field.
    pub const NETWORK: u8 = 10;
    /// Malformed AS_PATH.
    pub const AS_PATH: u8 = 11;
}

/// Subcodes of Finite State Machine Error (RFC 6608).
pub mod fsm {
    /// Unexpected message in OpenSent.
    pub const OPEN_SENT: u8 = 1;
    /// Unexpected message in OpenConfirm.
    pub const OPEN_CONFIRM: u8 = 2;
    /// Unexpected message in Established.
    pub const ESTABLISHED: u8 = 3;
}

/// Subcodes of Cease (RFC 4486, RFC 8538, RFC 9384).
pub mod cease {
    /// Maximum Number of Prefixes Reached.
    pub const MAX_PREFIXES: u8 = 1;
    /// Administrative Shutdown.
    pub const SHUTDOWN: u8 = 2;
    /// Peer De-configured.
    pub const DECONFIGURED: u8 = 3;
    /// Administrative Reset.
    pub const RESET: u8 = 4;
    /// Connection Rejected.
    pub const REJECTED: u8 = 5;
    /// Other Configuration Change.
    pub const CONFIGURATION: u8 = 6;
    /// Connection Collision Resolution.
    pub const COLLISION: u8 = 7;
    /// Out of Resources.
    pub const RESOURCES: u8 = 8;
    /// Hard Reset (RFC 8538 §3).
    pub const HARD_RESET: u8 = 9;
    /// BFD Down (RFC 9384).
    pub const BFD_DOWN: u8 = 10;
}

/// A NOTIFICATION (RFC 4271 §4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Diagnostic data.
    pub data: Bytes,
}

impl Notification {
    /// One without data.
    pub const fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Bytes::new() }
    }

    /// A Cease with a text for the other operator (RFC 9003 §2): at most 255 octets of it are sent, cut between characters.
    pub fn cease(subcode: u8, text: &str) -> Self {
        let mut notification = Self::new(code::CEASE, subcode);
        if !text.is_empty() {
            let mut data = BytesMut::with_capacity(1 + text.len());
            let text = text.get(..text.floor_char_boundary(255)).unwrap_or_default();
            data.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
            data.put_slice(text.as_bytes());
            notification.data = data.freeze();
        }
        notification
    }

    /// This NOTIFICATION inside a Hard Reset, which also ends a session that graceful restart would preserve (RFC 8538 §3.1).
    #[must_use]
    pub fn into_hard_reset(self) -> Self {
        let mut data = BytesMut::with_capacity(2 + self.data.len());
        data.put_u8(self.code);
        data.put_u8(self.subcode);
        data.put_slice(&self.data);
        Self { code: code::CEASE, subcode: cease::HARD_RESET, data: data.freeze() }
    }

    /// Whether it says that there were too many prefixes (RFC 4486 §4), alone or inside a Hard Reset.
    pub fn is_max_prefixes(&self) -> bool {
        let inner = self.hard_reset();
        let said = inner.as_ref().unwrap_or(self);
        (said.code, said.subcode) == (code::CEASE, cease::MAX_PREFIXES)
    }

    /// What a Hard Reset carries (RFC 8538 §3.1), if this is one that carries anything.
    pub fn hard_reset(&self) -> Option<Self> {
        if (self.code, self.subcode) != (code::CEASE, cease::HARD_RESET) {
            return None;
        }
        match *self.data {
            [code, subcode, ..] => Some(Self { code, subcode, data: self.data.slice(2..) }),
            _ => None,
        }
    }

    /// The text of an administrative shutdown or reset (RFC 9003 §2) as it came: it may hold control characters, which
    /// [`Display`](fmt::Display) escapes. `None` when there is none or it is not one length octet and as many octets of UTF-8.
    pub fn shutdown_communication(&self) -> Option<&str> {
        if self.code != code::CEASE || !matches!(self.subcode, cease::SHUTDOWN | cease::RESET) {
            return None;
        }
        let (len, text) = self.data.split_first()?;
        std::str::from_utf8(text).ok().filter(|text| text.len() == usize::from(*len))
    }

    /// The name of the code and, where there is one, the subcode.
    pub fn name(&self) -> (&'static str, Option<&'static str>) {
        names(self.code, self.subcode)
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Error> {
        match body {
            [code, subcode, data @ ..] => {
                Ok(Self { code: *code, subcode: *subcode, data: Bytes::copy_from_slice(data) })
            }
            // The header check lets no shorter one through.
            _ => Err(Error::new(HEADER_LEN, code::MESSAGE_HEADER, header::BAD_LENGTH, "NOTIFICATION without subcode")),
        }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.code);
        out.put_u8(self.subcode);
        out.put_slice(&self.data);
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, sub) = self.name();
        match sub {
            Some(sub) => write!(f, "{name}/{sub} ({}/{})", self.code, self.subcode)?,
            None => write!(f, "{name} ({}/{})", self.code, self.subcode)?,
        }
        if let Some(text) = self.shutdown_communication().filter(|t| !t.is_empty()) {
            write!(f, ": ")?;
            for c in text.chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
        } else if let Some(inner) = self.hard_reset() {
            write!(f, ": {inner}")?;
        } else if !self.data.is_empty() {
            write!(f, " data {:x}", self.data)?;
        }
        Ok(())
    }
}

/// The names of the IANA registry "BGP Error (Notification) Codes".
fn names(code: u8, subcode: u8) -> (&'static str, Option<&'static str>) {
    let (name, subs): (_, &[(u8, &str)]) = match code {
        code::MESSAGE_HEADER => (
            "Message Header Error",
            &[(1, "Connection Not Synchronized"), (2, "Bad Message Length"), (3, "Bad Message Type")],
        ),
        code::OPEN_MESSAGE => (
            "OPEN Message Error",
            &[
                (1, "Unsupported Version Number"),
                (2, "Bad Peer AS"),
                (3, "Bad BGP Identifier"),
                (4, "Unsupported Optional Parameter"),
                (5, "Authentication Failure"),
                (6, "Unacceptable Hold Time"),
                (7, "Unsupported Capability"),
                (11, "Role Mismatch"),
            ],
        ),
        code::UPDATE_MESSAGE => (
            "UPDATE Message Error",
            &[
                (1, "Malformed Attribute List"),
                (2, "Unrecognized Well-known Attribute"),
                (3, "Missing Well-known Attribute"),
                (4, "Attribute Flags Error"),
                (5, "Attribute Length Error"),
                (6, "Invalid ORIGIN Attribute"),
                (7, "AS Routing Loop"),
                (8, "Invalid NEXT_HOP Attribute"),
                (9, "Optional Attribute Error"),
                (10, "Invalid Network Field"),
                (11, "Malformed AS_PATH"),
            ],
        ),
        code::HOLD_TIMER_EXPIRED => ("Hold Timer Expired", &[]),
        code::FSM => (
            "Finite State Machine Error",
            &[
                (1, "Unexpected Message in OpenSent"),
                (2, "Unexpected Message in OpenConfirm"),
                (3, "Unexpected Message in Established"),
            ],
        ),
        code::CEASE => (
            "Cease",
            &[
                (1, "Maximum Number of Prefixes Reached"),
                (2, "Administrative Shutdown"),
                (3, "Peer De-configured"),
                (4, "Administrative Reset"),
                (5, "Connection Rejected"),
                (6, "Other Configuration Change"),
                (7, "Connection Collision Resolution"),
                (8, "Out of Resources"),
                (9, "Hard Reset"),
                (10, "BFD Down"),
            ],
        ),
        code::ROUTE_REFRESH => ("ROUTE-REFRESH Message Error", &[(1, "Invalid Message Length")]),
        code::SEND_HOLD_TIMER_EXPIRED => ("Send Hold Timer Expired", &[]),
        _ => ("unknown error", &[]),
    };
    (name, subs.iter().find(|(s, _)| *s == subcode).map(|(_, n)| *n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_text_survives_the_way_and_is_escaped() {
        let sent = Notification::cease(cease::SHUTDOWN, "back\u{7} at 5 – Zoë");
        assert_eq!(sent.shutdown_communication().unwrap(), "back\u{7} at 5 – Zoë");
        assert_eq!(sent.to_string(), "Cease/Administrative Shutdown (6/2): back\\u{7} at 5 – Zoë");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let sent = Notification::cease(cease::RESET, &"é".repeat(200));
        assert_eq!(sent.data.len(), 1 + 254);
        assert_eq!(sent.shutdown_communication().unwrap(), "é".repeat(127));
    }

    #[test]
    fn a_text_whose_length_octet_lies_is_not_shown() {
        for data in [&b"\x05abc"[..], b"\x02abc", b"\x02\xff\xfe", b""] {
            let got = Notification { data: Bytes::copy_from_slice(data), ..Notification::new(6, 2) };
            assert_eq!(got.shutdown_communication(), None, "{data:?}");
        }
    }

    #[test]
    fn a_hard_reset_carries_another_notification() {
        let inner = Notification::cease(cease::SHUTDOWN, "bye");
        let outer = inner.clone().into_hard_reset();
        assert_eq!((outer.code, outer.subcode), (6, 9));
        assert_eq!(outer.hard_reset(), Some(inner));
        assert_eq!(Notification::new(6, 9).hard_reset(), None);
    }
}
