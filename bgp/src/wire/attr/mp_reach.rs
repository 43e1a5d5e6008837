//! MP_REACH_NLRI (RFC 4760 §3, RFC 2545, RFC 8950). What cannot be delimited ends the session (RFC 7606 §3(j), §7.11).

use bytes::{BufMut, BytesMut};
use nom::Parser;
use nom::combinator::all_consuming;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16};

use super::super::notification::update as subcode;
use super::super::parse::{Section, ipv4, ipv6};
use super::super::{Context, Error, Nlri, nlri};
use super::{Malformed, NextHop, flags};
use crate::types::Family;

pub(crate) const CODE: u8 = 14;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_NON_TRANSITIVE;

/// NLRI of one family with their next hop (RFC 4760 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MpReach {
    /// The family of the NLRI.
    pub family: Family,
    /// Their next hop.
    pub next_hop: NextHop,
    /// What is announced.
    pub nlri: Vec<Nlri>,
}

/// What an MP attribute turned out to hold.
pub(crate) enum Mp<T> {
    /// NLRI of a family of this session.
    Ours(T),
    /// Something of another family: (AFI, SAFI), ignored.
    Other(u16, u8),
}

impl<T> Mp<T> {
    /// The family to read on with, if it is one of this session.
    pub(super) fn family(afi: u16, safi: u8, ctx: &Context) -> Option<Family> {
        Family::from_afi_safi(afi, safi).filter(|family| ctx.families.contains(*family))
    }
}

pub(crate) fn decode(value: Section<'_>, ctx: &Context) -> Result<Mp<MpReach>, Error> {
    let broken = |offset, reason| Error::update(offset, subcode::OPTIONAL, format!("MP_REACH_NLRI: {reason}"));
    let short = |_: nom::Err<()>| broken(value.start, format!("{} octets", value.data.len()));
    let (rest, (afi, safi)) = (be_u16, be_u8).parse(value.data).map_err(short)?;
    let Some(family) = Mp::<()>::family(afi, safi, ctx) else { return Ok(Mp::Other(afi, safi)) };

    let at = value.offset(rest);
    let (rest, next_hop) = length_data(be_u8)
        .parse(rest)
        .map_err(|_: nom::Err<()>| broken(at, "next hop overruns the attribute".into()))?;
    let Some(next_hop) = read_next_hop(family, next_hop, ctx) else {
        return Err(broken(at, format!("next hop of {} octets for {family}", next_hop.len())));
    };
    let at = value.offset(rest);
    // RFC 4760 §3: the reserved octet is ignored.
    let (rest, _reserved) = be_u8(rest).map_err(|_: nom::Err<()>| broken(at, "nothing after the next hop".into()))?;
    let section = Section { start: value.offset(rest), data: rest };
    let nlri = nlri::decode(section, family, ctx.add_path.contains(family)).map_err(|b| broken(b.offset, b.reason))?;
    Ok(Mp::Ours(MpReach { family, next_hop, nlri }))
}

/// RFC 2545 §3: 16 or 32 octets for IPv6. RFC 8950 §3: those, too, for IPv4 if both sides agreed, else 4.
fn read_next_hop(family: Family, value: &[u8], ctx: &Context) -> Option<NextHop> {
    let v6_allowed = family == Family::Ipv6 || ctx.extended_next_hop;
    match value.len() {
        4 if family == Family::Ipv4 => ipv4(value).ok().map(|(_, address)| NextHop::V4(address)),
        16 if v6_allowed => ipv6(value).ok().map(|(_, address)| NextHop::V6(address)),
        32 if v6_allowed => {
            all_consuming((ipv6, ipv6)).parse(value).ok().map(|(_, (first, second))| NextHop::V6Pair(first, second))
        }
        _ => None,
    }
}

/// RFC 4760 has no rule for a next hop that no host has; the one for NEXT_HOP is used: treat-as-withdraw.
pub(crate) fn check(reach: &MpReach) -> Result<(), Malformed> {
    if reach.next_hop.is_usable() {
        return Ok(());
    }
    let reason = format!("MP_REACH_NLRI next hop {} is not the address of a host", reach.next_hop.forwarding());
    Err(Malformed::withdraw(subcode::OPTIONAL, reason))
}

/// Writes the value up to the NLRI.
pub(crate) fn put_head(family: Family, next_hop: NextHop, out: &mut BytesMut) {
    let (afi, safi) = family.afi_safi();
    out.put_u16(afi);
    out.put_u8(safi);
    out.put_u8(next_hop.wire_len());
    next_hop.put(out);
    out.put_u8(0);
}
