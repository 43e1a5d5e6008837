//! Communities as people write them, and the well-known ones.
//!
//! The wire values are plain integers ([`crate::wire::Attributes`]); here is how they read.

use std::net::Ipv4Addr;

use super::ParseError;
use crate::types::PeerKind;
use crate::wire::LargeCommunity;

/// Do not use this path if there is another (RFC 8326).
pub const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
/// Drop the traffic (RFC 7999).
pub const BLACKHOLE: u32 = 0xffff_029a;
/// The route is stale (RFC 9494).
pub const LLGR_STALE: u32 = 0xffff_0006;
/// Do not keep the route when it is stale (RFC 9494).
pub const NO_LLGR: u32 = 0xffff_0007;
/// Not outside the confederation, or the AS (RFC 1997).
pub const NO_EXPORT: u32 = 0xffff_ff01;
/// To no peer at all (RFC 1997).
pub const NO_ADVERTISE: u32 = 0xffff_ff02;
/// Not to external peers, members of the confederation included (RFC 1997).
pub const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
/// Not to bilateral peers (RFC 3765).
pub const NO_PEER: u32 = 0xffff_ff04;

/// Well-known communities and their names; the first name of a value is the one shown.
const NAMES: [(&str, u32); 11] = [
    ("graceful-shutdown", GRACEFUL_SHUTDOWN),
    ("gshut", GRACEFUL_SHUTDOWN),
    ("llgr-stale", LLGR_STALE),
    ("no-llgr", NO_LLGR),
    ("blackhole", BLACKHOLE),
    ("no-export", NO_EXPORT),
    ("no-advertise", NO_ADVERTISE),
    ("no-export-subconfed", NO_EXPORT_SUBCONFED),
    ("local-as", NO_EXPORT_SUBCONFED),
    ("no-peer", NO_PEER),
    ("internet", 0),
];

/// Whether a *learned* route with these communities may be passed on to such a peer (RFC 1997): "All routes received carrying a
/// communities attribute containing this value MUST NOT be advertised …".
///
/// It does not bind the origin of a route: our own routes are sent with the community, for the receiver to obey.
pub fn may_pass_on(communities: &[u32], to: PeerKind) -> bool {
    let has = |value| communities.contains(&value);
    !has(NO_ADVERTISE) && (to == PeerKind::Ibgp || !(has(NO_EXPORT) || has(NO_EXPORT_SUBCONFED)))
}

/// Reads a standard community: `65000:1` or a well-known name such as `no-export` (RFC 1997).
pub fn parse(text: &str) -> Result<u32, ParseError> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, value)) = NAMES.iter().find(|(name, _)| *name == lower) {
        return Ok(*value);
    }
    let bad = |column, what: &str| {
        ParseError::new(
            column,
            format!("{what} in `{text}`: expected AS:VALUE with numbers up to 65535, or a name such as no-export"),
        )
    };
    let (high, low) = text.split_once(':').ok_or_else(|| bad(1, "no `:`"))?;
    let high_value = high.parse::<u16>().map_err(|_| bad(1, "no AS number"))?;
    let low_value = low.parse::<u16>().map_err(|_| bad(high.len() + 2, "no value"))?;
    Ok(u32::from(high_value) << 16 | u32::from(low_value))
}

/// Writes a standard community, by its name if it has one.
pub fn format(value: u32) -> String {
    match NAMES.iter().find(|(_, known)| *known == value) {
        Some((name, _)) if value != 0 => (*name).to_owned(),
        _ => format!("{}:{}", value >> 16, value & 0xffff),
    }
}

/// Reads a large community: `65000:1:2` (RFC 8092 §5).
pub fn parse_large(text: &str) -> Result<LargeCommunity, ParseError> {
    let mut column = 1;
    let mut parts = [0_u32; 3];
    let mut rest = text.split(':');
    let bad = |column| {
        ParseError::new(
            column,
            format!("`{text}` is no large community: expected three numbers up to 4294967295, as in 65000:1:2"),
        )
    };
    for part in &mut parts {
        let word = rest.next().ok_or_else(|| bad(text.len() + 1))?;
        *part = word.parse().map_err(|_| bad(column))?;
        column += word.len() + 1;
    }
    if rest.next().is_some() {
        return Err(bad(column));
    }
    let [global, local1, local2] = parts;
    Ok(LargeCommunity { global, local1, local2 })
}

/// Writes a large community.
pub fn format_large(value: LargeCommunity) -> String {
    format!("{}:{}:{}", value.global, value.local1, value.local2)
}

/// The subtypes of extended communities that have a name: route target and site of origin (RFC 4360 §4, §5).
const SUBTYPES: [(&str, u8); 2] = [("rt", 0x02), ("soo", 0x03)];

/// Reads an extended community: `rt:65000:1`, `soo:192.0.2.1:7` (RFC 4360, RFC 5668) or sixteen hexadecimal digits after `0x`.
pub fn parse_extended(text: &str) -> Result<u64, ParseError> {
    let bad = |column, what: &str| {
        ParseError::new(
            column,
            format!("{what} in `{text}`: expected rt:AS:VALUE, soo:ADDRESS:VALUE or 0x and sixteen digits"),
        )
    };
    if let Some(digits) = text.strip_prefix("0x") {
        let value = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16);
        return value.ok_or_else(|| bad(3, "not sixteen hexadecimal digits"));
    }
    let (kind, rest) = text.split_once(':').ok_or_else(|| bad(1, "no `:`"))?;
    let subtype = SUBTYPES.iter().find(|(name, _)| kind.eq_ignore_ascii_case(name));
    let (_, subtype) = *subtype.ok_or_else(|| bad(1, "unknown kind"))?;
    let column = kind.len() + 2;
    let (global, local) = rest.split_once(':').ok_or_else(|| bad(column, "no value"))?;
    let local_column = column + global.len() + 1;
    let head = |kind: u8| u64::from(kind) << 56 | u64::from(subtype) << 48;
    let short = || local.parse::<u16>().map(u64::from).map_err(|_| bad(local_column, "no value up to 65535"));
    // An AS number that fits two octets leaves four to the value (RFC 4360 §3.1), others two (RFC 5668).
    if let Ok(asn) = global.parse::<u16>() {
        let value = local.parse::<u32>().map_err(|_| bad(local_column, "no value up to 4294967295"))?;
        return Ok(head(0x00) | u64::from(asn) << 32 | u64::from(value));
    }
    if let Ok(asn) = global.parse::<u32>() {
        return Ok(head(0x02) | u64::from(asn) << 16 | short()?);
    }
    let address = global.parse::<Ipv4Addr>().map_err(|_| bad(column, "neither an AS number nor an IPv4 address"))?;
    Ok(head(0x01) | u64::from(address.to_bits()) << 16 | short()?)
}

/// Writes an extended community, by its name if it has one.
pub fn format_extended(value: u64) -> String {
    let [kind, subtype, ..] = value.to_be_bytes();
    let name = SUBTYPES.iter().find(|(_, code)| *code == subtype).map(|(name, _)| *name);
    // The same six octets, cut after two (RFC 4360 §3.1) or after four (RFC 4360 §3.2, RFC 5668).
    let (short_global, long_local) = (value >> 32 & 0xffff, value & 0xffff_ffff);
    let (long_global, short_local) = (value >> 16 & 0xffff_ffff, value & 0xffff);
    match (name, kind) {
        (Some(name), 0x00) => format!("{name}:{short_global}:{long_local}"),
        (Some(name), 0x01) => {
            let address = Ipv4Addr::from(u32::try_from(long_global).unwrap_or_default());
            format!("{name}:{address}:{short_local}")
        }
        (Some(name), 0x02) => format!("{name}:{long_global}:{short_local}"),
        _ => format!("0x{value:016x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_communities_read_and_write() {
        for (text, value) in [
            ("65000:1", 0xfde8_0001),
            ("0:0", 0),
            ("graceful-shutdown", 0xffff_0000),
            ("no-export", 0xffff_ff01),
            ("no-advertise", 0xffff_ff02),
            ("no-export-subconfed", 0xffff_ff03),
            ("blackhole", 0xffff_029a),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
            assert_eq!(format(value), text);
        }
        assert_eq!(parse("local-AS"), Ok(NO_EXPORT_SUBCONFED), "FRR's name");
        for (text, column) in [("65000", 1), ("x:1", 1), ("65536:1", 1), ("65000:65536", 7), ("65000:1:2", 7), ("", 1)]
        {
            assert_eq!(parse(text).expect_err(text).column, column, "{text}");
        }
    }

    #[test]
    fn large_communities_read_and_write() {
        let value = LargeCommunity { global: 4_294_967_295, local1: 0, local2: 7 };
        assert_eq!(parse_large("4294967295:0:7"), Ok(value));
        assert_eq!(format_large(value), "4294967295:0:7");
        for (text, column) in [("1:2", 4), ("1:2:3:4", 7), ("1:x:3", 3), ("4294967296:1:1", 1)] {
            assert_eq!(parse_large(text).expect_err(text).column, column, "{text}");
        }
    }

    #[test]
    fn extended_communities_read_and_write() {
        for (text, value) in [
            ("rt:65000:1", 0x0002_fde8_0000_0001),
            ("soo:65000:4294967295", 0x0003_fde8_ffff_ffff),
            ("rt:4200000000:9", 0x0202_fa56_ea00_0009),
            ("soo:192.0.2.1:7", 0x0103_c000_0201_0007),
            ("0x4004000000000001", 0x4004_0000_0000_0001),
        ] {
            assert_eq!(parse_extended(text), Ok(value), "{text}");
            assert_eq!(format_extended(value), text);
        }
        for (text, column) in
            [("rt", 1), ("color:1:1", 1), ("rt:1", 4), ("rt:x:1", 4), ("rt:4200000000:65536", 15), ("0x12", 3)]
        {
            assert_eq!(parse_extended(text).expect_err(text).column, column, "{text}");
        }
    }

    #[test]
    fn well_known_communities_limit_passing_on() {
        let table = [
            (vec![], true, true),
            (vec![NO_EXPORT], true, false),
            (vec![NO_EXPORT_SUBCONFED], true, false),
            (vec![1, NO_ADVERTISE], false, false),
            (vec![GRACEFUL_SHUTDOWN], true, true),
        ];
        for (communities, internal, external) in table {
            assert_eq!(may_pass_on(&communities, PeerKind::Ibgp), internal, "{communities:?}");
            assert_eq!(may_pass_on(&communities, PeerKind::Ebgp), external, "{communities:?}");
        }
    }
}
