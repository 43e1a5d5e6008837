//! Bytes ⇄ values. No state; the only place that knows nom.
//!
//! [`frame`] finds the next message in a byte stream, [`decode`] turns one framed message into a [`Message`], [`encode`] is its
//! inverse. What a receiver has to do about a fault is part of the answer: an [`Error`] is a session reset with its
//! NOTIFICATION, anything milder (RFC 7606) is listed in [`Update::faults`]. [`UpdateBuilder`] packs many prefixes without the
//! detour of an [`Update`].
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | header, framing, the dispatch by type (RFC 4271 §4.1, RFC 8654) |
//! | `open.rs`, `capability.rs` | OPEN, its parameters and capabilities, checks against the configuration |
//! | `update.rs`, `nlri.rs` | UPDATE and prefixes |
//! | `attr/` | one file per path attribute; `list.rs` reads the field they stand in |
//! | `builder.rs` | full UPDATEs for a large table |
//! | `notification.rs`, `refresh.rs` | the two small ones |
//! | `describe.rs` | a message in words, for `ovn-bgpd decode` |
//! | `error.rs` | where, what, and which NOTIFICATION or RFC 7606 action it deserves |
//! | `parse.rs` | what the parsers share |

mod attr;
mod builder;
mod capability;
pub mod describe;
mod error;
mod nlri;
pub mod notification;
pub mod open;
mod parse;
mod refresh;
mod update;

use bytes::{BufMut, BytesMut};

pub use attr::{Aggregator, AsPath, Attributes, LargeCommunity, MpReach, NextHop, Origin, Segment, UnknownAttribute};
pub use builder::{UpdateBuilder, end_of_rib};
pub use capability::Capability;
pub use describe::describe;
pub use error::{EncodeError, Error, Fault, Treatment};
pub use nlri::Nlri;
pub use notification::Notification;
pub use open::{ExpectedAs, Open, OpenExpectations};
pub use refresh::RouteRefresh;
pub use update::Update;

use crate::types::{Families, PeerKind};
use notification::{code, header};

/// The length of the fixed header (RFC 4271 §4.1).
pub const HEADER_LEN: usize = 19;
/// The longest message without RFC 8654.
pub const MAX_LEN: usize = 4096;
/// The longest message with RFC 8654.
pub const MAX_EXTENDED_LEN: usize = 65535;

const MARKER: [u8; 16] = [0xff; 16];
const AT_LEN: usize = 16;
const AT_TYPE: usize = 18;

// Message types (RFC 4271 §4.1, RFC 2918 §3).
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;

/// What a session has negotiated; needed to read and write its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// AS numbers in AS_PATH and AGGREGATOR have four octets (RFC 6793).
    pub as4: bool,
    /// Families both sides announced (RFC 4760 §8).
    pub families: Families,
    /// Families whose NLRI carry a path identifier in this direction (RFC 7911).
    pub add_path: Families,
    /// IPv4 NLRI may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Messages up to 65535 octets in this direction (RFC 8654).
    pub extended_message: bool,
    /// The peer announced enhanced route refresh (RFC 7313).
    pub enhanced_refresh: bool,
    /// External or internal peer; several RFC 7606 rules depend on it.
    pub peer: PeerKind,
    /// The peer is in another member AS of our confederation (RFC 5065): its AS_PATH may hold confederation segments.
    pub confederation: bool,
}

impl Default for Context {
    /// What holds before an OPEN was exchanged.
    fn default() -> Self {
        Self {
            as4: false,
            families: Families::ALL,
            add_path: Families::NONE,
            extended_next_hop: false,
            extended_message: false,
            enhanced_refresh: false,
            peer: PeerKind::Ebgp,
            confederation: false,
        }
    }
}

impl Context {
    /// The longest message of the session in this direction. OPEN and KEEPALIVE stay within [`MAX_LEN`] (RFC 8654 §4).
    pub const fn max_len(&self) -> usize {
        if self.extended_message { MAX_EXTENDED_LEN } else { MAX_LEN }
    }
}

/// One BGP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// RFC 4271 §4.2.
    Open(Open),
    /// RFC 4271 §4.3.
    Update(Box<Update>),
    /// RFC 4271 §4.5.
    Notification(Notification),
    /// RFC 4271 §4.4.
    Keepalive,
    /// RFC 2918, RFC 7313.
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// The message's type octet.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Open(_) => OPEN,
            Self::Update(_) => UPDATE,
            Self::Notification(_) => NOTIFICATION,
            Self::Keepalive => KEEPALIVE,
            Self::RouteRefresh(_) => ROUTE_REFRESH,
        }
    }
}

/// The length of the first message in `buf`, once all of it is there; `None` means that more octets are needed.
///
/// `max_len` is what we have announced to accept, [`MAX_LEN`] or [`MAX_EXTENDED_LEN`].
///
/// # Errors
/// RFC 4271 §6.1, as soon as the 19 octets of the header are there: marker, length, type, and a length that the type cannot have.
pub fn frame(buf: &[u8], max_len: usize) -> Result<Option<usize>, Error> {
    let Some(head) = buf.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    if let Some(at) = head.iter().take(MARKER.len()).position(|octet| *octet != 0xff) {
        return Err(Error::new(at, code::MESSAGE_HEADER, header::NOT_SYNCHRONIZED, "marker is not all ones"));
    }
    let &[.., high, low, kind] = head;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let bad_length =
        |reason| Err(Error::new(AT_LEN, code::MESSAGE_HEADER, header::BAD_LENGTH, reason).with_data(&[high, low]));
    if len < HEADER_LEN || len > max_len {
        return bad_length(format!("message length {len}"));
    }
    let (name, shortest, longest) = match kind {
        // RFC 8654 §4: these two stay short.
        OPEN => ("OPEN", 29, MAX_LEN),
        UPDATE => ("UPDATE", 23, max_len),
        NOTIFICATION => ("NOTIFICATION", 21, max_len),
        KEEPALIVE => ("KEEPALIVE", HEADER_LEN, HEADER_LEN),
        // Its lengths have an error code of their own (RFC 7313 §5).
        ROUTE_REFRESH => ("ROUTE-REFRESH", HEADER_LEN, max_len),
        other => {
            let reason = format!("message type {other}");
            return Err(Error::new(AT_TYPE, code::MESSAGE_HEADER, header::BAD_TYPE, reason).with_data(&[other]));
        }
    };
    if len < shortest || len > longest {
        return bad_length(format!("{name} of {len} octets"));
    }
    Ok((buf.len() >= len).then_some(len))
}

/// Reads one whole message, as [`frame`] delimits it.
///
/// # Errors
/// What ends the session. Milder faults of an UPDATE are in [`Update::faults`].
pub fn decode(message: &[u8], ctx: &Context) -> Result<Message, Error> {
    // Whoever framed it has checked the header with the session's limit; once more costs nothing.
    if frame(message, MAX_EXTENDED_LEN)? != Some(message.len()) {
        let reason = format!("{} octets are not one whole message", message.len());
        return Err(Error::new(AT_LEN, code::MESSAGE_HEADER, header::BAD_LENGTH, reason));
    }
    let body = message.get(HEADER_LEN..).unwrap_or_default();
    Ok(match message.get(AT_TYPE) {
        Some(&OPEN) => Message::Open(Open::decode(body)?),
        Some(&UPDATE) => Message::Update(Box::new(Update::decode(body, ctx)?)),
        Some(&NOTIFICATION) => Message::Notification(Notification::decode(body)?),
        Some(&ROUTE_REFRESH) => Message::RouteRefresh(RouteRefresh::decode(message, body, ctx)?),
        // `frame` lets no other type through.
        _ => Message::Keepalive,
    })
}

/// Appends one message to `out`, which is as before if this fails.
///
/// # Errors
/// The message would be longer than the session allows, or says what the session cannot carry.
pub fn encode(message: &Message, ctx: &Context, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    let written = write(message, ctx, out).and_then(|()| {
        let len = out.len() - start;
        let max = match message {
            Message::Open(_) | Message::Keepalive => MAX_LEN,
            _ => ctx.max_len(),
        };
        if len > max {
            return Err(EncodeError::TooLong { len, max });
        }
        let field = u16::try_from(len).map_err(|_| EncodeError::TooLong { len, max })?;
        if let Some(octets) = out.get_mut(start + AT_LEN..start + AT_TYPE) {
            octets.copy_from_slice(&field.to_be_bytes());
        }
        Ok(())
    });
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write(message: &Message, ctx: &Context, out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_slice(&MARKER);
    out.put_u16(0);
    out.put_u8(message.code());
    match message {
        Message::Open(open) => open.encode(out),
        Message::Update(update) => update.encode(ctx, out),
        Message::Notification(notification) => {
            notification.encode(out);
            Ok(())
        }
        Message::Keepalive => Ok(()),
        Message::RouteRefresh(refresh) => {
            refresh.encode(out);
            Ok(())
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
