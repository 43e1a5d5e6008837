//! MP_UNREACH_NLRI (RFC 4760 §4). What cannot be delimited ends the session (RFC 7606 §3(j), §7.12).

use bytes::{BufMut, BytesMut};
use nom::Parser;
use nom::number::complete::{be_u8, be_u16};

use super::super::notification::update as subcode;
use super::super::parse::Section;
use super::super::{Context, Error, Nlri, nlri};
use super::flags;
use super::mp_reach::Mp;
use crate::types::Family;

pub(crate) const CODE: u8 = 15;
pub(crate) const FLAGS: u8 = flags::OPTIONAL_NON_TRANSITIVE;

pub(crate) fn decode(value: Section<'_>, ctx: &Context) -> Result<Mp<(Family, Vec<Nlri>)>, Error> {
    let broken = |offset, reason| Error::update(offset, subcode::OPTIONAL, format!("MP_UNREACH_NLRI: {reason}"));
    let short = |_: nom::Err<()>| broken(value.start, format!("{} octets", value.data.len()));
    let (rest, (afi, safi)) = (be_u16, be_u8).parse(value.data).map_err(short)?;
    let Some(family) = Mp::<()>::family(afi, safi, ctx) else { return Ok(Mp::Other(afi, safi)) };
    let section = Section { start: value.offset(rest), data: rest };
    let nlri = nlri::decode(section, family, ctx.add_path.contains(family)).map_err(|b| broken(b.offset, b.reason))?;
    Ok(Mp::Ours((family, nlri)))
}

/// Writes the value up to the NLRI.
pub(crate) fn put_head(family: Family, out: &mut BytesMut) {
    let (afi, safi) = family.afi_safi();
    out.put_u16(afi);
    out.put_u8(safi);
}
