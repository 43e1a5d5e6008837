//! Capabilities (RFC 5492) and the ones we know.

use bytes::{BufMut, Bytes, BytesMut};
use nom::Parser;
use nom::combinator::all_consuming;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u24, be_u32};

use super::EncodeError;
use super::parse::{Parsed, all};
use crate::types::Asn;

/// A capability (RFC 5492).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// 1: multiprotocol (RFC 4760 §8), any AFI/SAFI.
    Multiprotocol {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
    },
    /// 2: route refresh (RFC 2918).
    RouteRefresh,
    /// 5: extended next hop (RFC 8950): (NLRI AFI, NLRI SAFI, next hop AFI).
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// 6: extended message (RFC 8654).
    ExtendedMessage,
    /// 9: BGP role (RFC 9234).
    Role(u8),
    /// 64: graceful restart (RFC 4724, RFC 8538).
    GracefulRestart {
        /// R bit: the speaker has restarted.
        restarted: bool,
        /// N bit: NOTIFICATIONs also preserve (RFC 8538).
        notification: bool,
        /// Restart time in seconds, 12 bits.
        restart_time: u16,
        /// (AFI, SAFI, F bit: forwarding state preserved).
        families: Vec<(u16, u8, bool)>,
    },
    /// 65: four-octet AS number (RFC 6793).
    FourOctetAs(Asn),
    /// 69: ADD-PATH (RFC 7911): (AFI, SAFI, send/receive: 1 receive, 2 send, 3 both).
    AddPath(Vec<(u16, u8, u8)>),
    /// 70: enhanced route refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// 71: long-lived graceful restart (RFC 9494): (AFI, SAFI, F bit, stale time in seconds, 24 bits).
    LongLivedGracefulRestart(Vec<(u16, u8, bool, u32)>),
    /// 73: host and domain name.
    Fqdn {
        /// Host name.
        host: String,
        /// Domain name.
        domain: String,
    },
    /// 75: software version.
    SoftwareVersion(String),
    /// 77: link-local next hop.
    LinkLocalNextHop,
    /// Anything else, or one of the above whose value is malformed: kept, otherwise ignored. No RFC says what to do with a
    /// capability of wrong length; ignoring one is what RFC 5492 §3 does with a capability that is not understood, and RFC 7911
    /// §4 asks for just that.
    Unknown {
        /// Capability code.
        code: u8,
        /// Its value.
        data: Bytes,
    },
}

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = 9;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ADD_PATH: u8 = 69;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;
const FQDN: u8 = 73;
const SOFTWARE_VERSION: u8 = 75;
const LINK_LOCAL_NEXT_HOP: u8 = 77;

/// RFC 4724 §3: the R and F bits, RFC 8538 §2: the N bit, each in its own octet.
const BIT_HIGH: u8 = 0x80;
const RESTART_BIT: u16 = 0x8000;
const NOTIFICATION_BIT: u16 = 0x4000;
const RESTART_TIME: u16 = 0x0fff;

impl Capability {
    /// The capability code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol { .. } => MULTIPROTOCOL,
            Self::RouteRefresh => ROUTE_REFRESH,
            Self::ExtendedNextHop(_) => EXTENDED_NEXT_HOP,
            Self::ExtendedMessage => EXTENDED_MESSAGE,
            Self::Role(_) => ROLE,
            Self::GracefulRestart { .. } => GRACEFUL_RESTART,
            Self::FourOctetAs(_) => FOUR_OCTET_AS,
            Self::AddPath(_) => ADD_PATH,
            Self::EnhancedRouteRefresh => ENHANCED_ROUTE_REFRESH,
            Self::LongLivedGracefulRestart(_) => LONG_LIVED_GRACEFUL_RESTART,
            Self::Fqdn { .. } => FQDN,
            Self::SoftwareVersion(_) => SOFTWARE_VERSION,
            Self::LinkLocalNextHop => LINK_LOCAL_NEXT_HOP,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Reads a capability's value.
    pub(super) fn decode(code: u8, data: &[u8]) -> Self {
        known(code, data).unwrap_or_else(|| Self::Unknown { code, data: Bytes::copy_from_slice(data) })
    }

    /// Writes code, length and value.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u8(self.code());
        out.put_u8(0);
        match self {
            Self::Multiprotocol { afi, safi } => {
                out.put_u16(*afi);
                out.put_u8(0);
                out.put_u8(*safi);
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh | Self::LinkLocalNextHop => {}
            Self::ExtendedNextHop(tuples) => tuples.iter().for_each(|(afi, safi, next_hop)| {
                out.put_u16(*afi);
                out.put_u16(*safi);
                out.put_u16(*next_hop);
            }),
            Self::Role(role) => out.put_u8(*role),
            Self::GracefulRestart { restarted, notification, restart_time, families } => {
                let bit = |set: bool, bit| if set { bit } else { 0 };
                let time = restart_time & RESTART_TIME;
                out.put_u16(bit(*restarted, RESTART_BIT) | bit(*notification, NOTIFICATION_BIT) | time);
                for (afi, safi, forwarding) in families {
                    out.put_u16(*afi);
                    out.put_u8(*safi);
                    out.put_u8(if *forwarding { BIT_HIGH } else { 0 });
                }
            }
            Self::FourOctetAs(asn) => out.put_u32(*asn),
            Self::AddPath(families) => families.iter().for_each(|(afi, safi, mode)| {
                out.put_u16(*afi);
                out.put_u8(*safi);
                out.put_u8(*mode);
            }),
            Self::LongLivedGracefulRestart(families) => families.iter().for_each(|(afi, safi, forwarding, time)| {
                out.put_u16(*afi);
                out.put_u8(*safi);
                out.put_u8(if *forwarding { BIT_HIGH } else { 0 });
                out.put_uint(u64::from(time & 0x00ff_ffff), 3);
            }),
            Self::Fqdn { host, domain } => {
                put_text(out, host, "host name")?;
                put_text(out, domain, "domain name")?;
            }
            Self::SoftwareVersion(version) => put_text(out, version, "software version")?,
            Self::Unknown { data, .. } => out.put_slice(data),
        }
        let len = out.len() - start - 2;
        let field = u8::try_from(len).map_err(|_| EncodeError::FieldTooLong { what: "a capability", len, max: 255 })?;
        if let Some(octet) = out.get_mut(start + 1) {
            *octet = field;
        }
        Ok(())
    }
}

/// The value of a capability we know, or `None` if we do not know it or it is malformed.
fn known(code: u8, data: &[u8]) -> Option<Capability> {
    let empty = |capability| data.is_empty().then_some(capability);
    match code {
        MULTIPROTOCOL => {
            let (_, (afi, _reserved, safi)) = all_consuming((be_u16::<_, ()>, be_u8, be_u8)).parse(data).ok()?;
            Some(Capability::Multiprotocol { afi, safi })
        }
        ROUTE_REFRESH => empty(Capability::RouteRefresh),
        EXTENDED_NEXT_HOP => list(|i| (be_u16, be_u16, be_u16).parse(i), data).map(Capability::ExtendedNextHop),
        EXTENDED_MESSAGE => empty(Capability::ExtendedMessage),
        ROLE => match *data {
            [role] => Some(Capability::Role(role)),
            _ => None,
        },
        GRACEFUL_RESTART => {
            let (rest, field) = be_u16::<_, ()>(data).ok()?;
            let family = |i| (be_u16, be_u8, be_u8.map(|f| f & BIT_HIGH != 0)).parse(i);
            Some(Capability::GracefulRestart {
                restarted: field & RESTART_BIT != 0,
                notification: field & NOTIFICATION_BIT != 0,
                restart_time: field & RESTART_TIME,
                families: all(family, rest)?,
            })
        }
        FOUR_OCTET_AS => all_consuming(be_u32::<_, ()>).parse(data).ok().map(|(_, asn)| Capability::FourOctetAs(asn)),
        // RFC 7911 §4: any other value of Send/Receive, and the capability SHOULD be treated as not understood.
        ADD_PATH => list(|i| (be_u16, be_u8, be_u8).parse(i), data)
            .filter(|families| families.iter().all(|(_, _, mode)| matches!(mode, 1..=3)))
            .map(Capability::AddPath),
        ENHANCED_ROUTE_REFRESH => empty(Capability::EnhancedRouteRefresh),
        LONG_LIVED_GRACEFUL_RESTART => {
            let family = |i| (be_u16, be_u8, be_u8.map(|f| f & BIT_HIGH != 0), be_u24).parse(i);
            all(family, data).map(Capability::LongLivedGracefulRestart)
        }
        FQDN => {
            let (_, (host, domain)) = all_consuming((text, text)).parse(data).ok()?;
            Some(Capability::Fqdn { host: string(host)?, domain: string(domain)? })
        }
        SOFTWARE_VERSION => {
            let (_, version) = all_consuming(text).parse(data).ok()?;
            string(version).map(Capability::SoftwareVersion)
        }
        LINK_LOCAL_NEXT_HOP => empty(Capability::LinkLocalNextHop),
        _ => None,
    }
}

/// A capability that lists families says nothing when it lists none.
fn list<'a, T>(item: impl FnMut(&'a [u8]) -> Parsed<'a, T>, data: &'a [u8]) -> Option<Vec<T>> {
    all(item, data).filter(|items| !items.is_empty())
}

fn text(input: &[u8]) -> Parsed<'_, &[u8]> {
    length_data(be_u8).parse(input)
}

fn string(octets: &[u8]) -> Option<String> {
    std::str::from_utf8(octets).ok().map(str::to_owned)
}

fn put_text(out: &mut BytesMut, text: &str, what: &'static str) -> Result<(), EncodeError> {
    let len = text.len();
    out.put_u8(u8::try_from(len).map_err(|_| EncodeError::FieldTooLong { what, len, max: 255 })?);
    out.put_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_ways(octets: &[u8], value: &Capability) {
        assert_eq!(&Capability::decode(octets[0], &octets[2..]), value);
        let mut out = BytesMut::new();
        value.encode(&mut out).unwrap();
        assert_eq!(out, octets);
    }

    #[test]
    fn every_known_capability_reads_and_writes() {
        both_ways(&[1, 4, 0, 2, 0, 1], &Capability::Multiprotocol { afi: 2, safi: 1 });
        both_ways(&[2, 0], &Capability::RouteRefresh);
        both_ways(&[5, 6, 0, 1, 0, 1, 0, 2], &Capability::ExtendedNextHop(vec![(1, 1, 2)]));
        both_ways(&[6, 0], &Capability::ExtendedMessage);
        both_ways(&[9, 1, 3], &Capability::Role(3));
        both_ways(
            &[64, 6, 0xc0, 0x78, 0, 1, 1, 0x80],
            &Capability::GracefulRestart {
                restarted: true,
                notification: true,
                restart_time: 120,
                families: vec![(1, 1, true)],
            },
        );
        both_ways(&[65, 4, 0xfa, 0x56, 0xea, 0], &Capability::FourOctetAs(4_200_000_000));
        both_ways(&[69, 4, 0, 1, 1, 3], &Capability::AddPath(vec![(1, 1, 3)]));
        both_ways(&[70, 0], &Capability::EnhancedRouteRefresh);
        both_ways(&[71, 7, 0, 1, 1, 0x80, 1, 0, 0], &Capability::LongLivedGracefulRestart(vec![(1, 1, true, 65536)]));
        both_ways(b"\x49\x07\x02h1\x03lab", &Capability::Fqdn { host: "h1".into(), domain: "lab".into() });
        both_ways(b"\x4b\x04\x03o-1", &Capability::SoftwareVersion("o-1".into()));
        both_ways(&[77, 0], &Capability::LinkLocalNextHop);
        both_ways(&[239, 2, 1, 2], &Capability::Unknown { code: 239, data: Bytes::from_static(&[1, 2]) });
    }

    #[test]
    fn a_known_capability_of_wrong_length_is_kept_as_unknown() {
        for octets in [
            &[1u8, 0, 1, 0][..],
            &[2, 0],
            &[5, 0, 1, 0, 1, 0],
            &[5],
            &[6, 0],
            &[9],
            &[9, 0, 0],
            &[64],
            &[64, 0, 120, 0, 1],
            &[65, 0, 0, 1],
            &[69],
            &[69, 0, 1, 1, 0],
            &[69, 0, 1, 1, 1, 0, 2, 1, 4],
            &[70, 0],
            &[71, 0, 1, 1, 0x80, 0],
            &[73, 1, b'h'],
            &[73, 1, 0xff, 0],
            &[75, 3, b'a'],
            &[77, 0],
        ] {
            let unknown = Capability::Unknown { code: octets[0], data: Bytes::copy_from_slice(&octets[1..]) };
            assert_eq!(Capability::decode(octets[0], &octets[1..]), unknown, "{octets:?}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_its_length_is_refused() {
        let long = Capability::AddPath(vec![(1, 1, 1); 64]);
        assert!(matches!(long.encode(&mut BytesMut::new()), Err(EncodeError::FieldTooLong { len: 256, .. })));
        let long = Capability::SoftwareVersion("x".repeat(256));
        assert!(matches!(long.encode(&mut BytesMut::new()), Err(EncodeError::FieldTooLong { len: 256, .. })));
    }
}
