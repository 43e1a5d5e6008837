//! Why a session ends, and what the peer is told about it.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::types::Family;
use crate::wire::Notification;
use crate::wire::notification::{cease, code};

/// A reason of our own to end a session (RFC 4486, RFC 9003, RFC 9384).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cease {
    /// 1: the peer announces more prefixes of this family than allowed.
    MaxPrefixes {
        /// The family.
        family: Family,
        /// What is allowed.
        limit: u32,
    },
    /// 2: administrative shutdown, with a text for the operator at the other end.
    Shutdown(String),
    /// 3: the peer was removed from the configuration.
    Deconfigured,
    /// 4: administrative reset, with a text for the operator at the other end.
    Reset(String),
    /// 6: another change of the configuration.
    ConfigChange,
    /// 6 as well: our address of the session is gone from the host, and with it the next hop of our routes. No subcode says more, and
    /// to those who set up this host's addresses it is a change of its configuration.
    AddressGone,
    /// 7: the other of two connections is kept (RFC 4271 §6.8).
    Collision,
    /// 10: BFD says the path is down (RFC 9384).
    BfdDown,
}

impl Cease {
    /// The NOTIFICATION that says so.
    pub fn notification(&self) -> Notification {
        let subcode = match self {
            Self::MaxPrefixes { family, limit } => {
                let (afi, safi) = family.afi_safi();
                let mut data = BytesMut::with_capacity(7);
                data.put_u16(afi);
                data.put_u8(safi);
                data.put_u32(*limit);
                return Notification { code: code::CEASE, subcode: cease::MAX_PREFIXES, data: data.freeze() };
            }
            Self::Shutdown(text) => return Notification::cease(cease::SHUTDOWN, text),
            Self::Reset(text) => return Notification::cease(cease::RESET, text),
            Self::Deconfigured => cease::DECONFIGURED,
            Self::ConfigChange | Self::AddressGone => cease::CONFIGURATION,
            Self::Collision => cease::COLLISION,
            Self::BfdDown => cease::BFD_DOWN,
        };
        Notification::new(code::CEASE, subcode)
    }

    /// Whether the peer has to forget our routes, graceful restart or not.
    pub(super) const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::MaxPrefixes { .. } | Self::Shutdown(_) | Self::Deconfigured | Self::AddressGone | Self::BfdDown
        )
    }
}

/// Why a session went down, or an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// We sent this NOTIFICATION; the text says what led to it.
    Sent(Notification, String),
    /// The peer sent this NOTIFICATION.
    Received(Notification),
    /// The connection went away, or could not be made.
    Lost(String),
    /// The link the session ran over, or our address, is gone, and with it the way to the peer's routes.
    Cut(String),
    /// The peer came back on a new connection while the old one was still up (RFC 4724 §4.2).
    Replaced,
    /// We closed without a word, for graceful restart.
    Closed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification, why) if why.is_empty() => write!(f, "sent NOTIFICATION {notification}"),
            Self::Sent(notification, why) => write!(f, "sent NOTIFICATION {notification}: {why}"),
            Self::Received(notification) => write!(f, "received NOTIFICATION {notification}"),
            Self::Lost(why) | Self::Cut(why) => f.write_str(why),
            Self::Replaced => f.write_str("the peer restarted: it opened a new session"),
            Self::Closed => f.write_str("closed for graceful restart"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cease_subcodes_are_those_of_the_registry() {
        let rows = [
            (Cease::Shutdown(String::new()), 2, &b""[..]),
            (Cease::Shutdown("bye".into()), 2, b"\x03bye"),
            (Cease::Deconfigured, 3, b""),
            (Cease::Reset(String::new()), 4, b""),
            (Cease::ConfigChange, 6, b""),
            (Cease::AddressGone, 6, b""),
            (Cease::Collision, 7, b""),
            (Cease::BfdDown, 10, b""),
            (Cease::MaxPrefixes { family: Family::Ipv6, limit: 100 }, 1, b"\0\x02\x01\0\0\0\x64"),
        ];
        for (cease, subcode, data) in rows {
            let n = cease.notification();
            assert_eq!((n.code, n.subcode, &n.data[..]), (6, subcode, data), "{cease:?}");
        }
    }
}
