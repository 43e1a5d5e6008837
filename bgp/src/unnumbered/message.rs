//! Router advertisements and solicitations (RFC 4861 §4.1, §4.2), as much of them as peering needs.

use std::net::Ipv6Addr;
use std::time::Duration;

/// `ff02::1`, where advertisements go.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// `ff02::2`, where solicitations go.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// The only hop limit a message may arrive with (RFC 4861 §6.1): it has crossed no router.
pub const HOP_LIMIT: u8 = 255;

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// What hosts should put into the hop limit of their packets; every implementation says 64.
const CUR_HOP_LIMIT: u8 = 64;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Somebody asks for routers.
    Solicitation,
    /// A router shows itself.
    Advertisement {
        /// How long it may be used as a default router; zero: not (any longer).
        lifetime: Duration,
    },
}

/// Why a message is dropped without a word, as RFC 4861 §6.1 demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Shorter than its fixed part.
    #[error("{0} octets are too short")]
    Short(usize),
    /// Neither a solicitation nor an advertisement.
    #[error("ICMPv6 type {0}")]
    Type(u8),
    /// The code is not 0.
    #[error("code {0}")]
    Code(u8),
    /// The hop limit is not 255: it was forwarded, or forged from afar.
    #[error("hop limit {0}")]
    HopLimit(u8),
    /// The source of an advertisement is not a link-local address, or that of a solicitation with a link-layer address is `::`.
    #[error("source {0}")]
    Source(Ipv6Addr),
    /// An option has length zero or runs over the end.
    #[error("option at octet {0}")]
    Option(usize),
}

impl Message {
    /// Reads an ICMPv6 message, whose checksum the kernel has verified.
    ///
    /// # Errors
    /// Every reason for which RFC 4861 §6.1.1 and §6.1.2 say to discard it silently.
    pub fn parse(octets: &[u8], source: Ipv6Addr, hop_limit: u8) -> Result<Self, Invalid> {
        let (&[kind, code, ..], length) = (octets, octets.len()) else { return Err(Invalid::Short(octets.len())) };
        let (message, fixed) = match kind {
            SOLICITATION => (Self::Solicitation, 8),
            ADVERTISEMENT => {
                let &[_, _, _, _, _, _, high, low, ..] = octets else { return Err(Invalid::Short(length)) };
                (Self::Advertisement { lifetime: Duration::from_secs(u16::from_be_bytes([high, low]).into()) }, 16)
            }
            other => return Err(Invalid::Type(other)),
        };
        if hop_limit != HOP_LIMIT {
            return Err(Invalid::HopLimit(hop_limit));
        }
        if code != 0 {
            return Err(Invalid::Code(code));
        }
        if kind == ADVERTISEMENT && !source.is_unicast_link_local() {
            return Err(Invalid::Source(source));
        }
        let mut options = octets.get(fixed..).ok_or(Invalid::Short(length))?;
        while !options.is_empty() {
            let at = length - options.len();
            // The unit of the length is eight octets, and it counts type and length too.
            let size = options.get(1).map_or(0, |units| usize::from(*units) * 8);
            // RFC 4861 §6.1.1: who has no address yet cannot ask for an entry in our neighbour cache.
            if options.first() == Some(&SOURCE_LINK_LAYER_ADDRESS) && source.is_unspecified() {
                return Err(Invalid::Source(source));
            }
            options = options.get(size..).filter(|_| size > 0).ok_or(Invalid::Option(at))?;
        }
        Ok(message)
    }

    /// The octets to send from a device with this link-layer address; the kernel fills in the checksum.
    pub fn emit(self, mac: Option<[u8; 6]>) -> Vec<u8> {
        let mut octets = match self {
            Self::Solicitation => vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0],
            Self::Advertisement { lifetime } => {
                let [high, low] = u16::try_from(lifetime.as_secs()).unwrap_or(u16::MAX).to_be_bytes();
                // No managed or other flag; reachable time and retransmission timer unspecified.
                vec![ADVERTISEMENT, 0, 0, 0, CUR_HOP_LIMIT, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0]
            }
        };
        if let Some(mac) = mac {
            octets.extend([SOURCE_LINK_LAYER_ADDRESS, 1]);
            octets.extend(mac);
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0a];

    #[test]
    fn vectors_both_ways() {
        let solicitation = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 10];
        let advertisement = [134, 0, 0, 0, 64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 10];
        let lifetime = Duration::from_secs(30);
        assert_eq!(Message::Solicitation.emit(Some(MAC)), solicitation);
        assert_eq!(Message::Advertisement { lifetime }.emit(Some(MAC)), advertisement);
        assert_eq!(Message::parse(&solicitation, LL, 255), Ok(Message::Solicitation));
        assert_eq!(Message::parse(&advertisement, LL, 255), Ok(Message::Advertisement { lifetime }));
    }

    #[test]
    fn what_the_rfc_says_to_discard_is_discarded() {
        let good = Message::Advertisement { lifetime: Duration::from_secs(30) }.emit(Some(MAC));
        let changed = |at: usize, to: u8| {
            let mut octets = good.clone();
            octets[at] = to;
            octets
        };
        let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
        for (octets, source, hop_limit, why) in [
            (good.clone(), LL, 254, Invalid::HopLimit(254)),
            (good.clone(), global, 255, Invalid::Source(global)),
            (changed(1, 1), LL, 255, Invalid::Code(1)),
            (changed(0, 135), LL, 255, Invalid::Type(135)),
            (changed(17, 0), LL, 255, Invalid::Option(16)),
            (changed(17, 2), LL, 255, Invalid::Option(16)),
            (good[..15].to_vec(), LL, 255, Invalid::Short(15)),
            (good[..17].to_vec(), LL, 255, Invalid::Option(16)),
            (vec![133, 0, 0], LL, 255, Invalid::Short(3)),
            (vec![134, 0, 0], LL, 255, Invalid::Short(3)),
            (vec![], LL, 255, Invalid::Short(0)),
        ] {
            assert_eq!(Message::parse(&octets, source, hop_limit), Err(why), "{octets:?}");
        }
        // A solicitation may come from a host without an address (RFC 4861 §4.1).
        assert!(Message::parse(&Message::Solicitation.emit(None), Ipv6Addr::UNSPECIFIED, 255).is_ok());
        let named = Message::Solicitation.emit(Some(MAC));
        let unspecified = Ipv6Addr::UNSPECIFIED;
        assert_eq!(Message::parse(&named, unspecified, 255), Err(Invalid::Source(unspecified)));
    }

    proptest! {
        #[test]
        fn any_octets_are_survived(octets: Vec<u8>, hop_limit: u8) {
            let _ = Message::parse(&octets, LL, hop_limit);
        }

        #[test]
        fn what_is_emitted_is_parsed(seconds: u16, mac: Option<[u8; 6]>) {
            let message = Message::Advertisement { lifetime: Duration::from_secs(seconds.into()) };
            prop_assert_eq!(Message::parse(&message.emit(mac), LL, 255), Ok(message));
        }
    }
}
