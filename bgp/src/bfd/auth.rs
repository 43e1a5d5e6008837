//! The authentication section (RFC 5880 §4.2–4.4, §6.7).

use std::collections::BTreeMap;
use std::fmt;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use sha1::Sha1;

use super::Discard;
use super::packet::MANDATORY_LEN;
use super::session::HandedAuth;

/// Auth Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AuthKind {
    /// 1: the password in the clear.
    SimplePassword,
    /// 2.
    KeyedMd5,
    /// 3: the sequence number grows with every packet.
    MeticulousKeyedMd5,
    /// 4.
    KeyedSha1,
    /// 5: the sequence number grows with every packet.
    MeticulousKeyedSha1,
}

impl AuthKind {
    /// The kind of an Auth Type code.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::SimplePassword,
            2 => Self::KeyedMd5,
            3 => Self::MeticulousKeyedMd5,
            4 => Self::KeyedSha1,
            5 => Self::MeticulousKeyedSha1,
            _ => return None,
        })
    }

    const fn code(self) -> u8 {
        match self {
            Self::SimplePassword => 1,
            Self::KeyedMd5 => 2,
            Self::MeticulousKeyedMd5 => 3,
            Self::KeyedSha1 => 4,
            Self::MeticulousKeyedSha1 => 5,
        }
    }

    const fn meticulous(self) -> bool {
        matches!(self, Self::MeticulousKeyedMd5 | Self::MeticulousKeyedSha1)
    }

    /// The longest key it takes, in octets.
    pub const fn longest_key(self) -> usize {
        match self {
            Self::SimplePassword | Self::KeyedMd5 | Self::MeticulousKeyedMd5 => 16,
            Self::KeyedSha1 | Self::MeticulousKeyedSha1 => 20,
        }
    }

    /// Octets of the digest.
    const fn digest_len(self) -> usize {
        match self {
            Self::SimplePassword => 0,
            Self::KeyedMd5 | Self::MeticulousKeyedMd5 => 16,
            Self::KeyedSha1 | Self::MeticulousKeyedSha1 => 20,
        }
    }
}

/// Where the digest begins in the authentication section: type, length, key id, reserved, sequence number.
const DIGEST_AT: usize = 8;

/// Usable keys, as both ends are configured with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    kind: AuthKind,
    /// By Auth Key ID; all are accepted, which is how a new one is brought in.
    by_id: BTreeMap<u8, Vec<u8>>,
    /// The one we sign with.
    signing: u8,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("kind", &self.kind).field("keys", &self.by_id.keys()).finish_non_exhaustive()
    }
}

impl Keys {
    /// Keys with their Auth Key ID; the first one signs. `None` without one, and if one is unusable: a key has 1 to 16 octets, up to
    /// 20 with SHA1 (RFC 5880 §4.2–4.4).
    pub fn new(kind: AuthKind, keys: impl IntoIterator<Item = (u8, Vec<u8>)>) -> Option<Self> {
        let mut keys = keys.into_iter().peekable();
        let signing = keys.peek()?.0;
        let by_id: BTreeMap<u8, Vec<u8>> = keys.collect();
        if by_id.values().any(|key| !(1..=kind.longest_key()).contains(&key.len())) {
            return None;
        }
        Some(Self { kind, by_id, signing })
    }

    /// How packets are authenticated.
    pub const fn kind(&self) -> AuthKind {
        self.kind
    }
}

/// Authentication of one session: keys, and both sequence numbers.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    keys: Keys,
    /// bfd.XmitAuthSeq.
    send_sequence: u32,
    /// bfd.RcvAuthSeq, once bfd.AuthSeqKnown.
    received_sequence: Option<u32>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Auth {
    /// Authentication with these keys. `first_sequence` should be random (RFC 5880 §6.8.1).
    pub const fn new(keys: Keys, first_sequence: u32) -> Self {
        Self { keys, send_sequence: first_sequence, received_sequence: None }
    }

    /// Other keys, while the sequence numbers go on: a peer that has both kinds of key notices nothing.
    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
    }

    /// How packets are authenticated.
    pub const fn kind(&self) -> AuthKind {
        self.keys.kind
    }

    /// What somebody else needs to go on, besides the keys.
    pub const fn hand_over(&self) -> HandedAuth {
        let Self { keys, send_sequence, received_sequence } = self;
        HandedAuth { kind: keys.kind, send_sequence: *send_sequence, received_sequence: *received_sequence }
    }

    /// Goes on with the sequence numbers of somebody else.
    pub const fn take_over(&mut self, handed: HandedAuth) {
        (self.send_sequence, self.received_sequence) = (handed.send_sequence, handed.received_sequence);
    }

    /// Octets of the section we send.
    pub fn len(&self) -> u8 {
        let len = match self.keys.kind {
            AuthKind::SimplePassword => 3 + self.keys.by_id.get(&self.keys.signing).map_or(0, Vec::len),
            kind => DIGEST_AT + kind.digest_len(),
        };
        u8::try_from(len).unwrap_or(0)
    }

    /// Never: a session without authentication has no `Auth`.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Appends the section to a packet whose Length already counts it.
    pub fn sign(&mut self, packet: &mut Vec<u8>) {
        let Keys { kind, by_id, signing } = &self.keys;
        let Some(key) = by_id.get(signing) else { return };
        packet.extend([kind.code(), self.len(), *signing]);
        if *kind == AuthKind::SimplePassword {
            packet.extend(key);
            return;
        }
        if kind.meticulous() {
            self.send_sequence = self.send_sequence.wrapping_add(1);
        }
        packet.push(0);
        packet.extend(self.send_sequence.to_be_bytes());
        // RFC 5880 §4.3: the digest is computed with the key, padded with zeros, in the digest's place.
        let digest_at = packet.len();
        packet.extend(key);
        packet.resize(digest_at + kind.digest_len(), 0);
        let digest = self.digest(packet);
        packet.truncate(digest_at);
        packet.extend(digest);
    }

    /// For keyed (not meticulous) kinds: the sequence number should grow when the packet's contents change (RFC 5880 §6.7.3).
    pub const fn contents_changed(&mut self) {
        self.send_sequence = self.send_sequence.wrapping_add(1);
    }

    fn digest(&self, octets: &[u8]) -> Vec<u8> {
        match self.keys.kind {
            AuthKind::SimplePassword => Vec::new(),
            AuthKind::KeyedMd5 | AuthKind::MeticulousKeyedMd5 => Md5::digest(octets).to_vec(),
            AuthKind::KeyedSha1 | AuthKind::MeticulousKeyedSha1 => Sha1::digest(octets).to_vec(),
        }
    }

    /// Verifies a packet (`covered`: the octets its Length covers).
    ///
    /// # Errors
    /// The first rule of RFC 5880 §6.7.2, §6.7.3 or §6.7.4 that is broken.
    pub fn verify(&mut self, covered: &[u8], detect_mult: u8) -> Result<(), Discard> {
        let section = covered.get(MANDATORY_LEN..).unwrap_or_default();
        if *section.first().ok_or(Discard::AuthLength)? != self.keys.kind.code() {
            return Err(Discard::AuthType);
        }
        let &[_, len, key_id] = section.first_chunk().ok_or(Discard::AuthLength)?;
        let key = self.keys.by_id.get(&key_id).ok_or(Discard::AuthKey)?;
        let section = section.get(..usize::from(len)).ok_or(Discard::AuthLength)?;
        if self.keys.kind == AuthKind::SimplePassword {
            if section.len() != 3 + key.len() {
                return Err(Discard::AuthLength);
            }
            return if section.ends_with(key) { Ok(()) } else { Err(Discard::AuthDigest) };
        }
        if section.len() != DIGEST_AT + self.keys.kind.digest_len() {
            return Err(Discard::AuthLength);
        }
        let sequence = section.get(4..).and_then(|s| s.first_chunk()).map_or(0, |octets| u32::from_be_bytes(*octets));
        self.check_sequence(sequence, detect_mult)?;
        let digest_at = MANDATORY_LEN + DIGEST_AT;
        let end = digest_at + self.keys.kind.digest_len();
        let mut unsigned = covered.to_vec();
        unsigned.truncate(digest_at);
        unsigned.extend(key);
        unsigned.resize(end, 0);
        unsigned.extend(covered.get(end..).unwrap_or_default());
        if covered.get(digest_at..end) != Some(self.digest(&unsigned).as_slice()) {
            return Err(Discard::AuthDigest);
        }
        // Only now: a forged packet must not move the window. RFC 5880 §6.7.4 would accept the first packet of all before its
        // digest is looked at; §6.7.3 has no such words and checking is plainly meant.
        self.received_sequence = Some(sequence);
        Ok(())
    }

    /// "If the sequence number lies outside of the range of bfd.RcvAuthSeq to bfd.RcvAuthSeq+(3*Detect Mult) inclusive
    /// [+1 for meticulous kinds] (when treated as an unsigned 32-bit circular number space), the received packet MUST be
    /// discarded."
    fn check_sequence(&self, sequence: u32, detect_mult: u8) -> Result<(), Discard> {
        let Some(last) = self.received_sequence else { return Ok(()) };
        let ahead = sequence.wrapping_sub(last);
        let first = u32::from(self.keys.kind.meticulous());
        if (first..=3 * u32::from(detect_mult)).contains(&ahead) { Ok(()) } else { Err(Discard::AuthSequence) }
    }

    /// bfd.AuthSeqKnown is cleared when nothing was received for twice the Detection Time (RFC 5880 §6.8.1), so that a peer
    /// which has restarted is believed again.
    pub const fn forget_sequence(&mut self) {
        self.received_sequence = None;
    }
}

impl fmt::Display for AuthKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SimplePassword => "simple",
            Self::KeyedMd5 => "md5",
            Self::MeticulousKeyedMd5 => "meticulous-md5",
            Self::KeyedSha1 => "sha1",
            Self::MeticulousKeyedSha1 => "meticulous-sha1",
        })
    }
}
