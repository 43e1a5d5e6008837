//! Path attributes (RFC 4271 §4.3, §5): one file each, with its value, how it is read, written, and what is done about a malformed
//! one. RFC 7606 decides that by attribute, so each file does.

pub(super) mod aggregator;
pub(super) mod as4_aggregator;
pub(super) mod as4_path;
pub(super) mod as_path;
pub(super) mod atomic_aggregate;
pub(super) mod cluster_list;
pub(super) mod communities;
pub(super) mod extended_communities;
pub(super) mod ipv6_extended_communities;
pub(super) mod large_communities;
pub(super) mod list;
pub(super) mod local_pref;
pub(super) mod med;
pub(super) mod mp_reach;
pub(super) mod mp_unreach;
pub(super) mod next_hop;
pub(super) mod origin;
pub(super) mod originator_id;
pub(super) mod otc;
pub(super) mod unknown;

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};

use super::notification::update as subcode;
use super::{Context, EncodeError, Treatment};
use crate::types::Asn;

pub use aggregator::Aggregator;
pub use as_path::{AsPath, Segment};
pub use large_communities::LargeCommunity;
pub use mp_reach::MpReach;
pub use next_hop::NextHop;
pub use origin::Origin;
pub use unknown::UnknownAttribute;

/// Path attributes that routes share. Ordered, hashable: equal attributes are packed into one UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attributes {
    /// ORIGIN; absent only where an UPDATE announces nothing.
    pub origin: Option<Origin>,
    /// AS_PATH, after AS4_PATH was merged in on a two-octet session (RFC 6793 §4.2.3).
    pub as_path: Option<AsPath>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE present.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, after AS4_AGGREGATOR was merged in.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<u32>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456).
    pub cluster_list: Vec<Ipv4Addr>,
    /// EXTENDED COMMUNITIES (RFC 4360).
    pub extended_communities: Vec<u64>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub otc: Option<Asn>,
    /// Unknown attributes: transitive ones are passed on with the Partial bit, others are not
    /// ([`UnknownAttribute::passed_on`]).
    pub unknown: Vec<UnknownAttribute>,
}

impl Attributes {
    /// Writes every attribute and NEXT_HOP, in the order of their type codes, the unknown ones last.
    pub(super) fn encode(
        &self,
        next_hop: Option<Ipv4Addr>,
        ctx: &Context,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        if let Some(origin) = self.origin {
            origin::encode(origin, out);
        }
        if let Some(path) = &self.as_path {
            as_path::encode(path, ctx, out)?;
        }
        if let Some(next_hop) = next_hop {
            next_hop::encode(next_hop, out);
        }
        if let Some(med) = self.med {
            med::encode(med, out);
        }
        if let Some(preference) = self.local_pref {
            local_pref::encode(preference, out);
        }
        if self.atomic_aggregate {
            atomic_aggregate::encode(out);
        }
        if let Some(aggregator) = self.aggregator {
            aggregator::encode(aggregator, ctx, out);
        }
        communities::encode(&self.communities, out)?;
        if let Some(id) = self.originator_id {
            originator_id::encode(id, out);
        }
        cluster_list::encode(&self.cluster_list, out)?;
        extended_communities::encode(&self.extended_communities, out)?;
        if let Some(path) = &self.as_path
            && !ctx.as4
        {
            as4_path::encode(path, out)?;
        }
        if let Some(aggregator) = self.aggregator
            && !ctx.as4
        {
            as4_aggregator::encode(aggregator, out);
        }
        large_communities::encode(&self.large_communities, out)?;
        if let Some(asn) = self.otc {
            otc::encode(asn, out);
        }
        self.unknown.iter().try_for_each(|attribute| unknown::encode(attribute, out))
    }
}

/// The name of an attribute in the IANA registry, as far as it is well known.
pub(super) fn name(code: u8) -> &'static str {
    match code {
        origin::CODE => "ORIGIN",
        as_path::CODE => "AS_PATH",
        next_hop::CODE => "NEXT_HOP",
        med::CODE => "MULTI_EXIT_DISC",
        local_pref::CODE => "LOCAL_PREF",
        atomic_aggregate::CODE => "ATOMIC_AGGREGATE",
        aggregator::CODE => "AGGREGATOR",
        communities::CODE => "COMMUNITIES",
        originator_id::CODE => "ORIGINATOR_ID",
        cluster_list::CODE => "CLUSTER_LIST",
        mp_reach::CODE => "MP_REACH_NLRI",
        mp_unreach::CODE => "MP_UNREACH_NLRI",
        extended_communities::CODE => "EXTENDED_COMMUNITIES",
        as4_path::CODE => "AS4_PATH",
        as4_aggregator::CODE => "AS4_AGGREGATOR",
        22 => "PMSI_TUNNEL",
        23 => "TUNNEL_ENCAPSULATION",
        ipv6_extended_communities::CODE => "IPV6_EXT_COMMUNITIES",
        26 => "AIGP",
        29 => "BGP_LS",
        large_communities::CODE => "LARGE_COMMUNITIES",
        33 => "BGPSEC_PATH",
        otc::CODE => "OTC",
        40 => "PREFIX_SID",
        _ => "unknown",
    }
}

/// Attribute flags (RFC 4271 §4.3).
pub(super) mod flags {
    /// Optional: not well-known.
    pub(crate) const OPTIONAL: u8 = 0x80;
    /// Transitive: passed on by those who do not know it.
    pub(crate) const TRANSITIVE: u8 = 0x40;
    /// Partial: someone on the way did not know it.
    pub(crate) const PARTIAL: u8 = 0x20;
    /// The length field has two octets.
    pub(crate) const EXTENDED_LENGTH: u8 = 0x10;
    /// The bits a specification fixes (RFC 7606 §3(c)).
    pub(crate) const CLASS: u8 = OPTIONAL | TRANSITIVE;

    pub(crate) const WELL_KNOWN: u8 = TRANSITIVE;
    pub(crate) const OPTIONAL_TRANSITIVE: u8 = OPTIONAL | TRANSITIVE;
    pub(crate) const OPTIONAL_NON_TRANSITIVE: u8 = OPTIONAL;
}

/// What is wrong with an attribute's value, and what RFC 7606 §7 does about it.
pub(super) struct Malformed {
    /// UPDATE error subcode, should it come to a NOTIFICATION (RFC 7606 §5.2).
    pub(super) subcode: u8,
    pub(super) reason: String,
    pub(super) treatment: Treatment,
}

impl Malformed {
    pub(super) fn withdraw(subcode: u8, reason: impl Into<String>) -> Self {
        Self { subcode, reason: reason.into(), treatment: Treatment::TreatAsWithdraw }
    }

    pub(super) fn discard(subcode: u8, reason: impl Into<String>) -> Self {
        Self { subcode, reason: reason.into(), treatment: Treatment::AttributeDiscard }
    }

    /// Of a wrong length: treat-as-withdraw.
    pub(super) fn length(name: &str, value: &[u8]) -> Self {
        Self::withdraw(subcode::LENGTH, format!("{name} of {} octets", value.len()))
    }
}

/// Writes flags, type code and length of an attribute whose value has `len` octets.
pub(super) fn put_header(flags: u8, code: u8, len: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
    if let Ok(len) = u8::try_from(len) {
        out.put_slice(&[flags, code, len]);
        return Ok(());
    }
    let len =
        u16::try_from(len).map_err(|_| EncodeError::FieldTooLong { what: "a path attribute", len, max: 65535 })?;
    out.put_slice(&[flags | flags::EXTENDED_LENGTH, code]);
    out.put_u16(len);
    Ok(())
}

/// Writes an attribute of a fixed few octets.
fn put_short<const N: usize>(flags: u8, code: u8, value: [u8; N], out: &mut BytesMut) {
    const { assert!(N < 256, "needs the extended length") };
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    out.put_slice(&[flags, code, N as u8]);
    out.put_slice(&value);
}

/// Reads a list of items of N octets each; an empty list is malformed as well.
fn items<T, const N: usize>(name: &str, value: &[u8], item: impl Fn([u8; N]) -> T) -> Result<Vec<T>, Malformed> {
    let (chunks, rest) = value.as_chunks();
    if chunks.is_empty() || !rest.is_empty() {
        return Err(Malformed::length(name, value));
    }
    Ok(chunks.iter().copied().map(item).collect())
}

/// Writes a list of items of N octets each; nothing for an empty list.
fn put_items<T: Copy, const N: usize>(
    (flags, code): (u8, u8),
    list: &[T],
    item: impl Fn(T) -> [u8; N],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if list.is_empty() {
        return Ok(());
    }
    put_header(flags, code, list.len() * N, out)?;
    for value in list {
        out.put_slice(&item(*value));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
