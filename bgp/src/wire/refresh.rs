//! ROUTE-REFRESH (RFC 2918 §3, RFC 7313 §3.2).

use bytes::{BufMut, BytesMut};

use super::notification::{code, header};
use super::{Context, Error, HEADER_LEN};
use crate::types::Family;

/// A ROUTE-REFRESH (RFC 2918 §3, RFC 7313 §3.2).
///
/// Without enhanced route refresh the octet that holds the subtype is reserved (RFC 2918), so anything in it means a request.
/// With it, an unknown subtype has to be ignored (RFC 7313 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Address family identifier.
    pub afi: u16,
    /// 0: request, 1: beginning (BoRR), 2: end (EoRR).
    pub subtype: u8,
    /// Subsequent address family identifier.
    pub safi: u8,
}

impl RouteRefresh {
    /// Subtype of a plain request.
    pub const REQUEST: u8 = 0;
    /// Subtype of the beginning of a refresh.
    pub const BEGIN: u8 = 1;
    /// Subtype of the end of a refresh.
    pub const END: u8 = 2;

    /// Whether a session does anything about it: RFC 2918 §4 ignores a family that was not agreed, RFC 7313 §5 an unknown subtype.
    pub fn is_for(&self, ctx: &Context) -> bool {
        let family = Family::from_afi_safi(self.afi, self.safi);
        family.is_some_and(|f| ctx.families.contains(f)) && (!ctx.enhanced_refresh || self.subtype <= Self::END)
    }

    pub(super) fn decode(message: &[u8], body: &[u8], ctx: &Context) -> Result<Self, Error> {
        match *body {
            // Octets after the first four are the ORFs of RFC 5291, which we never asked for: ignored. With subtypes 1 and 2
            // RFC 7313 §5 wants exactly four and the whole message as data.
            [a, b, subtype, safi, ref rest @ ..]
                if rest.is_empty() || !ctx.enhanced_refresh || !matches!(subtype, Self::BEGIN | Self::END) =>
            {
                Ok(Self { afi: u16::from_be_bytes([a, b]), subtype, safi })
            }
            _ if ctx.enhanced_refresh => Err(Error::new(
                HEADER_LEN,
                code::ROUTE_REFRESH,
                1,
                format!("ROUTE-REFRESH with a body of {} octets", body.len()),
            )
            .with_data(message)),
            _ => Err(Error::new(
                16,
                code::MESSAGE_HEADER,
                header::BAD_LENGTH,
                format!("ROUTE-REFRESH with a body of {} octets", body.len()),
            )
            .with_data(message.get(16..18).unwrap_or_default())),
        }
    }

    pub(super) fn encode(self, out: &mut BytesMut) {
        out.put_u16(self.afi);
        out.put_u8(self.subtype);
        out.put_u8(self.safi);
    }
}
