//! One connection as the speaker sees it: bytes in, messages out.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::links::Missing;
use crate::session::Ends;
use crate::wire::{self, Context, Message};

/// A connection that is up, whatever its session makes of it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: Ends,
    pub(super) missing: Missing,
    /// Bytes of a message that is not complete yet.
    pub(super) inbox: BytesMut,
    /// Messages of the session itself, in order. Never more than a handful: the state machine sends nothing twice.
    control: VecDeque<Message>,
    /// How ours are to be written.
    pub(super) send: Context,
    /// The driver has been told that there is something to write, and has not come for it yet.
    pub(super) announced: bool,
    /// The peer's TCP has acknowledged everything written, as far as we were told.
    pub(super) acknowledged: bool,
}

impl Connection {
    pub(super) fn new(ends: Ends) -> Self {
        Self {
            ends,
            missing: Missing::default(),
            inbox: BytesMut::new(),
            control: VecDeque::new(),
            send: Context::default(),
            announced: false,
            acknowledged: true,
        }
    }

    /// Queues a message of the session. One KEEPALIVE says as much as two.
    pub(super) fn queue(&mut self, message: Message) {
        if message != Message::Keepalive || !self.control.contains(&message) {
            self.control.push_back(message);
        }
    }

    /// Whether nothing is queued.
    pub(super) fn is_silent(&self) -> bool {
        self.control.is_empty()
    }

    /// Writes what is queued.
    pub(super) fn write_control(&mut self, out: &mut BytesMut, counters: &mut Counters) {
        while let Some(message) = self.control.pop_front() {
            let start = out.len();
            match wire::encode(&message, &self.send, out) {
                Ok(()) => counters.sent(out.get(start..).unwrap_or_default()),
                // Only a message of our own making that is too long; the peer's hold timer will say the rest.
                Err(error) => {
                    out.truncate(start);
                    tracing::error!(%error, ?message, "message could not be written");
                }
            }
        }
    }

    /// All that is queued, when nothing will be queued any more.
    pub(super) fn last_words(mut self, counters: &mut Counters) -> Bytes {
        let mut out = BytesMut::new();
        self.write_control(&mut out, counters);
        out.freeze()
    }
}

/// Messages of all connections of a peer so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// All messages sent.
    pub sent: u64,
    /// All messages received.
    pub received: u64,
    /// UPDATEs sent.
    pub updates_sent: u64,
    /// UPDATEs received.
    pub updates_received: u64,
    /// Octets sent.
    pub bytes_sent: u64,
    /// Octets received.
    pub bytes_received: u64,
    /// UPDATEs treated as withdraw (RFC 7606).
    pub treated_as_withdraw: u64,
    /// UPDATEs with an attribute that was discarded (RFC 7606).
    pub attributes_discarded: u64,
}

impl Counters {
    /// Counts whole messages by their headers.
    pub(super) fn sent(&mut self, mut messages: &[u8]) {
        /// Where the header has the length and the type (RFC 4271 §4.1).
        const UPDATE: u8 = 2;
        self.bytes_sent += messages.len() as u64;
        while let Some([high, low, kind]) = messages.get(16..19) {
            self.sent += 1;
            self.updates_sent += u64::from(*kind == UPDATE);
            let length = usize::from(u16::from_be_bytes([*high, *low])).max(wire::HEADER_LEN);
            messages = messages.get(length..).unwrap_or_default();
        }
    }
}
