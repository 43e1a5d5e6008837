//! Control packets (RFC 5880 §4.1).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Discard;

/// Octets of the mandatory section.
pub const MANDATORY_LEN: usize = 24;

/// Session states (RFC 5880 §4.1 Sta).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// 0.
    AdminDown,
    /// 1.
    Down,
    /// 2.
    Init,
    /// 3.
    Up,
}

impl State {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why the sender's session last changed to another state than Up (RFC 5880 §4.1 Diag). Values above 8 are reserved and kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// 0.
    pub const NONE: Self = Self(0);
    /// 1: nothing was received for a Detection Time.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// 3: the neighbour said it is down.
    pub const NEIGHBOUR_DOWN: Self = Self(3);
    /// 5: the path is known to be down, for example because the carrier is lost.
    pub const PATH_DOWN: Self = Self(5);
    /// 7: by command.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbour signalled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

/// The mandatory section of a control packet. Intervals are in microseconds, as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Diagnostic.
    pub diagnostic: Diagnostic,
    /// Sta: the sender's state.
    pub state: State,
    /// P: an answer with F is asked for.
    pub poll: bool,
    /// F: answers a P.
    pub r#final: bool,
    /// C: the sender's BFD does not share fate with its control plane.
    pub control_plane_independent: bool,
    /// A: an authentication section follows.
    pub authentication: bool,
    /// D: demand mode.
    pub demand: bool,
    /// Detect Mult.
    pub detect_mult: u8,
    /// The sender's discriminator, not zero.
    pub my_discriminator: u32,
    /// What the sender believes to be the receiver's discriminator.
    pub your_discriminator: u32,
    /// Desired Min TX Interval.
    pub desired_min_tx: u32,
    /// Required Min RX Interval.
    pub required_min_rx: u32,
    /// Required Min Echo RX Interval.
    pub required_min_echo_rx: u32,
}

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

impl Packet {
    /// Reads a UDP payload: the packet, and the octets it covers (its Length), which authentication is computed over. Applies
    /// the rules of RFC 5880 §6.8.6 that need no session.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(payload: &[u8]) -> Result<(Self, &[u8]), Discard> {
        // One rule after the other, as far as the octets go: what has no octets left is too short for the Length it says, or would.
        let version_diagnostic = *payload.first().ok_or(Discard::Truncated)?;
        if version_diagnostic >> 5 != 1 {
            return Err(Discard::Version);
        }
        let &[_, flags, detect_mult, length] = payload.first_chunk().ok_or(Discard::Truncated)?;
        let authentication = flags & AUTHENTICATION != 0;
        let minimum = if authentication { MANDATORY_LEN + 2 } else { MANDATORY_LEN };
        if usize::from(length) < minimum {
            return Err(Discard::Length);
        }
        let words = words(payload).ok_or(Discard::Truncated)?;
        let [my_discriminator, your_discriminator, desired_min_tx, required_min_rx, required_min_echo_rx] = words;
        let covered = payload.get(..usize::from(length)).ok_or(Discard::LengthBeyondPayload)?;
        if detect_mult == 0 {
            return Err(Discard::DetectMult);
        }
        if flags & MULTIPOINT != 0 {
            return Err(Discard::Multipoint);
        }
        if my_discriminator == 0 {
            return Err(Discard::MyDiscriminator);
        }
        let packet = Self {
            diagnostic: Diagnostic(version_diagnostic & 0x1f),
            state: State::from_bits(flags >> 6),
            poll: flags & POLL != 0,
            r#final: flags & FINAL != 0,
            control_plane_independent: flags & INDEPENDENT != 0,
            authentication,
            demand: flags & DEMAND != 0,
            detect_mult,
            my_discriminator,
            your_discriminator,
            desired_min_tx,
            required_min_rx,
            required_min_echo_rx,
        };
        Ok((packet, covered))
    }

    /// The mandatory section; `auth_len` octets of authentication will follow it.
    pub fn emit(&self, auth_len: u8) -> Vec<u8> {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = ((self.state as u8) << 6)
            | bit(self.poll, POLL)
            | bit(self.r#final, FINAL)
            | bit(self.control_plane_independent, INDEPENDENT)
            | bit(self.authentication, AUTHENTICATION)
            | bit(self.demand, DEMAND);
        let mut octets = vec![0x20 | (self.diagnostic.0 & 0x1f), flags, self.detect_mult, 24 + auth_len];
        for word in [
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx,
            self.required_min_rx,
            self.required_min_echo_rx,
        ] {
            octets.extend(word.to_be_bytes());
        }
        octets
    }
}

/// The five 32-bit words after the first.
fn words(payload: &[u8]) -> Option<[u32; 5]> {
    let mut words = [0; 5];
    let mut chunks = payload.get(4..MANDATORY_LEN)?.as_chunks::<4>().0.iter();
    for word in &mut words {
        *word = u32::from_be_bytes(*chunks.next()?);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> impl Strategy<Value = Packet> {
        (any::<[bool; 4]>(), 0u8..32, 0u8..4, 1u8.., 1u32.., any::<[u32; 4]>()).prop_map(
            |([poll, r#final, independent, demand], diagnostic, state, detect_mult, my_discriminator, words)| Packet {
                diagnostic: Diagnostic(diagnostic),
                state: State::from_bits(state),
                poll,
                r#final,
                control_plane_independent: independent,
                authentication: false,
                demand,
                detect_mult,
                my_discriminator,
                your_discriminator: words[0],
                desired_min_tx: words[1],
                required_min_rx: words[2],
                required_min_echo_rx: words[3],
            },
        )
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(packet in packet()) {
            let octets = packet.emit(0);
            prop_assert_eq!(Packet::parse(&octets), Ok((packet, octets.as_slice())));
        }

        #[test]
        fn any_octets_are_survived(octets: Vec<u8>) {
            let _ = Packet::parse(&octets);
        }
    }

    #[test]
    fn each_rule_has_its_reason() {
        // Up, Detect Mult 3, discriminators 0x11223344 and 0x55667788, 100 ms, 200 ms.
        const GOOD: [u8; 24] = [
            0x20, 0xc0, 3, 24, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 1, 0x86, 0xa0, 0, 3, 0x0d, 0x40, 0,
            0, 0, 0,
        ];
        let with = |at: usize, value: u8| {
            let mut octets = GOOD.to_vec();
            octets[at] = value;
            octets
        };
        assert!(Packet::parse(&GOOD).is_ok());
        for (octets, why) in [
            (Vec::new(), Discard::Truncated),
            (GOOD[..3].to_vec(), Discard::Truncated),
            (GOOD[..23].to_vec(), Discard::Truncated),
            (with(0, 0x40), Discard::Version),
            // The rules in their order: the version first, then what Length says, then what is there.
            (with(0, 0x40)[..1].to_vec(), Discard::Version),
            (with(3, 20)[..20].to_vec(), Discard::Length),
            (with(3, 23), Discard::Length),
            ([&with(1, 0xc4)[..], &[0]].concat(), Discard::Length),
            (with(3, 25), Discard::LengthBeyondPayload),
            (with(2, 0), Discard::DetectMult),
            (with(1, 0xc1), Discard::Multipoint),
            ([&GOOD[..4], &[0; 4], &GOOD[8..]].concat(), Discard::MyDiscriminator),
        ] {
            assert_eq!(Packet::parse(&octets), Err(why), "{octets:02x?}");
        }
        // Octets after the Length are none of our business.
        assert!(Packet::parse(&[&GOOD[..], &[9; 40]].concat()).is_ok());
    }
}
