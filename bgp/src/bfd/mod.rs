//! Bidirectional Forwarding Detection: RFC 5880 asynchronous mode, single hop (RFC 5881). No IO.
//!
//! | module | what it is for |
//! |---|---|
//! | [`packet`] | control packets ⇄ values |
//! | [`auth`] | the authentication section (RFC 5880 §6.7) |
//! | [`damping`] | a path that comes and goes |
//! | [`session`] | one session: states, timers, poll sequences |
//! | [`pace`] | how punctual our own packets are |
//! | [`table`] | all sessions of a host: which one a packet belongs to, what is dropped and why |
//!
//! A driver feeds packets with the time the *kernel* received them, empties its socket before it calls `tick`, and so never
//! declares a session down because it was itself late.

pub mod auth;
pub mod damping;
pub mod pace;
pub mod packet;
pub mod session;
pub mod table;

use serde::{Deserialize, Serialize};

pub use auth::{Auth, AuthKind, Keys};
pub use pace::{Lateness, Punctuality};
pub use packet::{Diagnostic, Packet, State};
pub use session::{Change, HandedAuth, HandedSession, Lapse, Session, SessionConfig, Transition};
pub use table::{Arrival, HandedEntry, Output, SessionKey, Table};

/// Why a packet was dropped. Each is a rule of RFC 5880 §6.8.6, RFC 5881 §5 or RFC 5880 §6.7, in the order they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Discard {
    /// The payload cannot hold the mandatory section.
    #[error("RFC 5880 §6.8.6: payload too short for the mandatory section")]
    Truncated,
    /// The version is not 1.
    #[error("RFC 5880 §6.8.6: version is not 1")]
    Version,
    /// Length is less than 24, or 26 with the A bit.
    #[error("RFC 5880 §6.8.6: Length below the minimum")]
    Length,
    /// Length is more than the payload.
    #[error("RFC 5880 §6.8.6: Length beyond the payload")]
    LengthBeyondPayload,
    /// Detect Mult is zero.
    #[error("RFC 5880 §6.8.6: Detect Mult is zero")]
    DetectMult,
    /// The Multipoint bit is set.
    #[error("RFC 5880 §6.8.6: Multipoint bit set")]
    Multipoint,
    /// My Discriminator is zero.
    #[error("RFC 5880 §6.8.6: My Discriminator is zero")]
    MyDiscriminator,
    /// Your Discriminator names no session.
    #[error("RFC 5880 §6.8.6: unknown Your Discriminator")]
    UnknownDiscriminator,
    /// Your Discriminator is zero and the state is neither Down nor AdminDown.
    #[error("RFC 5880 §6.8.6: Your Discriminator is zero in a state other than Down and AdminDown")]
    ZeroDiscriminator,
    /// Your Discriminator is zero and there is no session for this peer on this interface.
    #[error("RFC 5880 §6.8.6: no session for this peer and interface")]
    NoSession,
    /// The packet came in by another interface than the session it names is bound to.
    #[error("RFC 5881 §3: the session is bound to another interface")]
    Interface,
    /// TTL or Hop Limit is not 255 (RFC 5881 §5).
    #[error("RFC 5881 §5: TTL or Hop Limit is not 255")]
    Ttl,
    /// Authentication is not in use and the A bit is set.
    #[error("RFC 5880 §6.8.6: A bit set, no authentication in use")]
    AuthUnexpected,
    /// Authentication is in use and the A bit is clear.
    #[error("RFC 5880 §6.8.6: A bit clear, authentication in use")]
    AuthMissing,
    /// Auth Type is not the one in use.
    #[error("RFC 5880 §6.7: Auth Type is not the one in use")]
    AuthType,
    /// Auth Len does not fit the type.
    #[error("RFC 5880 §6.7: Auth Len does not fit the type")]
    AuthLength,
    /// Auth Key ID is not configured.
    #[error("RFC 5880 §6.7: unknown Auth Key ID")]
    AuthKey,
    /// The sequence number lies outside the window: a replay, or too much was lost.
    #[error("RFC 5880 §6.7: sequence number outside the window")]
    AuthSequence,
    /// Password or digest differ.
    #[error("RFC 5880 §6.7: password or digest differs")]
    AuthDigest,
    /// Our session is AdminDown.
    #[error("RFC 5880 §6.8.6: the session is administratively down")]
    AdminDown,
}

impl Discard {
    /// Octets from the start of the payload to what is wrong with it; `None` if the fault is not in its octets.
    pub const fn offset(self) -> Option<usize> {
        Some(match self {
            Self::Version => 0,
            Self::Multipoint | Self::AuthUnexpected | Self::AuthMissing => 1,
            Self::DetectMult => 2,
            Self::Truncated | Self::Length | Self::LengthBeyondPayload => 3,
            Self::MyDiscriminator => 4,
            Self::UnknownDiscriminator | Self::ZeroDiscriminator => 8,
            Self::AuthType => 24,
            Self::AuthLength => 25,
            Self::AuthKey => 26,
            Self::AuthSequence => 28,
            Self::AuthDigest => 32,
            Self::NoSession | Self::Interface | Self::Ttl | Self::AdminDown => return None,
        })
    }
}
