//! UPDATE (RFC 4271 §4.3, RFC 4760, RFC 7606).

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};
use nom::Parser;
use nom::multi::length_data;
use nom::number::complete::be_u16;

use super::attr::{Attributes, MpReach, NextHop, list, mp_reach, mp_unreach, put_header};
use super::notification::update as subcode;
use super::parse::Section;
use super::{Context, EncodeError, Error, Fault, HEADER_LEN, Nlri, Treatment, nlri};
use crate::types::Family;

/// An UPDATE message (RFC 4271 §4.3).
///
/// The fields mirror the wire, so that `decode ∘ encode` is the identity. [`Update::faults`] is what RFC 7606 found; after it the
/// other fields hold what is left to be processed (discarded attributes and ignored prefixes are gone; for treat-as-withdraw every
/// prefix is still where it stood and [`Update::treatment`] says they have to be withdrawn).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Withdrawn Routes of the body (IPv4).
    pub withdrawn: Vec<Nlri>,
    /// Path attributes without NEXT_HOP, MP_REACH_NLRI and MP_UNREACH_NLRI.
    pub attributes: Attributes,
    /// NEXT_HOP, which belongs to the NLRI of the body and to nothing else (RFC 4760 §3).
    pub next_hop: Option<Ipv4Addr>,
    /// NLRI of the body (IPv4).
    pub nlri: Vec<Nlri>,
    /// MP_REACH_NLRI of a family we handle.
    pub mp_reach: Option<MpReach>,
    /// MP_UNREACH_NLRI of a family we handle; empty NLRI is an End-of-RIB (RFC 4724 §2).
    pub mp_unreach: Option<(Family, Vec<Nlri>)>,
    /// (AFI, SAFI) of MP attributes of families we do not handle on this session: ignored.
    pub other_families: Vec<(u16, u8)>,
    /// What was wrong, in the order met.
    pub faults: Vec<Fault>,
}

impl Update {
    /// The strongest treatment any fault asks for (RFC 7606 §3(h)); `None` for a clean message.
    pub fn treatment(&self) -> Option<Treatment> {
        self.faults.iter().map(|f| f.treatment).max()
    }

    /// The family whose End-of-RIB this is (RFC 4724 §2): an UPDATE with nothing in it for IPv4 unicast, or with only an empty
    /// MP_UNREACH_NLRI.
    pub fn end_of_rib(&self) -> Option<Family> {
        if !self.withdrawn.is_empty()
            || !self.nlri.is_empty()
            || self.mp_reach.is_some()
            || !self.other_families.is_empty()
            || !self.faults.is_empty()
        {
            return None;
        }
        match &self.mp_unreach {
            Some((family, nlri)) if nlri.is_empty() => Some(*family),
            Some(_) => None,
            None => (self.attributes == Attributes::default() && self.next_hop.is_none()).then_some(Family::Ipv4),
        }
    }

    /// Everything that is announced, with its next hop.
    pub fn announced(&self) -> impl Iterator<Item = (Family, NextHop, &Nlri)> {
        let body = self.next_hop.map(NextHop::V4).map(|next_hop| (Family::Ipv4, next_hop, &self.nlri));
        let mp = self.mp_reach.as_ref().map(|reach| (reach.family, reach.next_hop, &reach.nlri));
        body.into_iter().chain(mp).flat_map(|(family, next_hop, list)| list.iter().map(move |n| (family, next_hop, n)))
    }

    /// Every prefix in it, announced or withdrawn: what treat-as-withdraw takes away (RFC 7606 §2).
    pub fn prefixes(&self) -> impl Iterator<Item = &Nlri> {
        let reach = self.mp_reach.iter().flat_map(|reach| &reach.nlri);
        let unreach = self.mp_unreach.iter().flat_map(|(_, list)| list);
        self.nlri.iter().chain(reach).chain(&self.withdrawn).chain(unreach)
    }

    /// Reads the body of an UPDATE.
    pub(super) fn decode(body: &[u8], ctx: &Context) -> Result<Self, Error> {
        let body = Section { start: HEADER_LEN, data: body };
        let (withdrawn, attributes, announced) = fields(body)?;
        let add_path = ctx.add_path.contains(Family::Ipv4);
        let prefixes = |section| {
            nlri::decode(section, Family::Ipv4, add_path)
                .map_err(|broken| Error::update(broken.offset, subcode::NETWORK, broken.reason))
        };
        let mut withdrawn = prefixes(withdrawn)?;
        let mut list = list::decode(attributes, ctx)?;
        let mut announced = prefixes(announced)?;
        list.check(!announced.is_empty(), attributes.start);
        let reach = list.mp_reach.as_ref().is_some_and(|reach| !reach.nlri.is_empty()) || list.other_reach;
        if announced.is_empty() && !reach {
            list = list.without_reach()?;
        }
        let has_body = !withdrawn.is_empty() || !announced.is_empty();
        if has_body && !ctx.families.contains(Family::Ipv4) {
            // As with MP_REACH_NLRI: a family that was not negotiated is ignored.
            withdrawn.clear();
            announced.clear();
            list.other_families.push(Family::Ipv4.afi_safi());
        }
        let mut update = Self {
            withdrawn,
            attributes: list.attributes,
            next_hop: list.next_hop,
            nlri: announced,
            mp_reach: list.mp_reach,
            mp_unreach: list.mp_unreach,
            other_families: list.other_families,
            faults: list.faults.into_iter().map(|found| found.fault).collect(),
        };
        if update.treatment() != Some(Treatment::TreatAsWithdraw) {
            update.ignore_multicast();
        }
        Ok(update)
    }

    /// RFC 4271 §6.3: a prefix that is semantically incorrect, as one in multicast space, is logged and ignored.
    fn ignore_multicast(&mut self) {
        let lists = [Some(&mut self.nlri), self.mp_reach.as_mut().map(|reach| &mut reach.nlri)];
        for list in lists.into_iter().flatten() {
            list.retain(|nlri| {
                let keep = !nlri::is_multicast(&nlri.prefix);
                if !keep {
                    self.faults.push(Fault {
                        offset: HEADER_LEN,
                        attribute: None,
                        reason: format!("{} is no unicast prefix", nlri.prefix),
                        treatment: Treatment::PrefixIgnore,
                    });
                }
                keep
            });
        }
    }

    /// Writes the body. MP_REACH_NLRI comes first, so that a receiver finds it even if something after it is malformed (RFC 7606
    /// §5.1).
    pub(super) fn encode(&self, ctx: &Context, out: &mut BytesMut) -> Result<(), EncodeError> {
        let withdrawn = put_len(out);
        put_prefixes(&self.withdrawn, Family::Ipv4, ctx, out)?;
        withdrawn.set(out, "the withdrawn routes")?;
        let attributes = put_len(out);
        if let Some(MpReach { family, next_hop, nlri }) = &self.mp_reach {
            check_next_hop(*family, *next_hop, ctx)?;
            let mut value = BytesMut::new();
            mp_reach::put_head(*family, *next_hop, &mut value);
            put_prefixes(nlri, *family, ctx, &mut value)?;
            put_header(mp_reach::FLAGS, mp_reach::CODE, value.len(), out)?;
            out.put_slice(&value);
        }
        if let Some((family, nlri)) = &self.mp_unreach {
            let mut value = BytesMut::new();
            mp_unreach::put_head(*family, &mut value);
            put_prefixes(nlri, *family, ctx, &mut value)?;
            put_header(mp_unreach::FLAGS, mp_unreach::CODE, value.len(), out)?;
            out.put_slice(&value);
        }
        self.attributes.encode(self.next_hop, ctx, out)?;
        attributes.set(out, "the path attributes")?;
        put_prefixes(&self.nlri, Family::Ipv4, ctx, out)
    }
}

/// Withdrawn Routes, Path Attributes and NLRI (RFC 4271 §4.3). RFC 7606 §3(b): lengths that do not fit end the session.
fn fields(body: Section<'_>) -> Result<(Section<'_>, Section<'_>, Section<'_>), Error> {
    let overrun = |at: &[u8], what| {
        Error::update(body.offset(at), subcode::ATTRIBUTE_LIST, format!("the {what} overrun the message"))
    };
    let field = |rest, what| {
        length_data(be_u16)
            .parse(rest)
            .map_err(|_: nom::Err<()>| overrun(rest, what))
            .map(|(after, data): (&[u8], &[u8])| (after, Section { start: body.offset(after) - data.len(), data }))
    };
    let (rest, withdrawn) = field(body.data, "withdrawn routes")?;
    let (rest, attributes) = field(rest, "path attributes")?;
    Ok((withdrawn, attributes, Section { start: body.offset(rest), data: rest }))
}

/// A two-octet length to be filled in.
struct Len(usize);

fn put_len(out: &mut BytesMut) -> Len {
    out.put_u16(0);
    Len(out.len())
}

impl Len {
    fn set(self, out: &mut BytesMut, what: &'static str) -> Result<(), EncodeError> {
        let len = out.len() - self.0;
        let field = u16::try_from(len).map_err(|_| EncodeError::FieldTooLong { what, len, max: 65535 })?;
        if let Some(octets) = out.get_mut(self.0 - 2..self.0) {
            octets.copy_from_slice(&field.to_be_bytes());
        }
        Ok(())
    }
}

fn put_prefixes(list: &[Nlri], family: Family, ctx: &Context, out: &mut BytesMut) -> Result<(), EncodeError> {
    let add_path = ctx.add_path.contains(family);
    for nlri in list {
        if Family::of(&nlri.prefix) != family {
            return Err(EncodeError::WrongFamily("a prefix"));
        }
        nlri::encode(nlri, add_path, out);
    }
    Ok(())
}

/// RFC 8950 §4: an IPv6 next hop for IPv4 only to a peer that agreed.
pub(super) fn check_next_hop(family: Family, next_hop: NextHop, ctx: &Context) -> Result<(), EncodeError> {
    match (family, next_hop) {
        (Family::Ipv6, NextHop::V4(_)) => Err(EncodeError::WrongFamily("an IPv4 next hop")),
        (Family::Ipv4, NextHop::V6(_) | NextHop::V6Pair(..)) if !ctx.extended_next_hop => {
            Err(EncodeError::NotNegotiated("an IPv6 next hop for IPv4"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AsPath, Message, Origin, Segment, decode, encode};
    use super::*;
    use crate::types::{Families, Prefix};

    fn prefixes(list: &[&str]) -> Vec<Nlri> {
        list.iter().map(|text| Nlri::from(text.parse::<Prefix>().unwrap())).collect()
    }

    fn ctx() -> Context {
        Context { as4: true, extended_next_hop: true, ..Context::default() }
    }

    /// An announcement in the body and in MP_REACH_NLRI.
    fn both() -> Update {
        Update {
            attributes: Attributes {
                origin: Some(Origin::Igp),
                as_path: Some(AsPath::sequence([65001])),
                ..Attributes::default()
            },
            next_hop: Some([192, 0, 2, 1].into()),
            nlri: prefixes(&["198.51.100.0/24", "224.0.0.0/8"]),
            mp_reach: Some(MpReach {
                family: Family::Ipv6,
                next_hop: NextHop::V6("2001:db8::1".parse().unwrap()),
                nlri: prefixes(&["ff05::/16", "2001:db8:1::/48"]),
            }),
            ..Update::default()
        }
    }

    fn through(update: Update, write: &Context, read: &Context) -> Result<Update, Error> {
        let mut out = BytesMut::new();
        encode(&Message::Update(Box::new(update)), write, &mut out).unwrap();
        match decode(&out, read)? {
            Message::Update(update) => Ok(*update),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn prefixes_in_multicast_space_are_ignored_alone() {
        let read = through(both(), &ctx(), &ctx()).unwrap();
        assert_eq!(read.treatment(), Some(Treatment::PrefixIgnore));
        assert_eq!(read.nlri, prefixes(&["198.51.100.0/24"]));
        assert_eq!(read.mp_reach.unwrap().nlri, prefixes(&["2001:db8:1::/48"]));
        let reasons: Vec<_> = read.faults.iter().map(|f| f.reason.as_str()).collect();
        assert_eq!(reasons, ["224.0.0.0/8 is no unicast prefix", "ff05::/16 is no unicast prefix"]);
    }

    #[test]
    fn what_is_to_be_withdrawn_keeps_every_prefix() {
        let mut update = both();
        update.attributes.as_path = Some(AsPath(vec![Segment::Set(vec![65001])]));
        let read = through(update, &ctx(), &ctx()).unwrap();
        assert_eq!(read.treatment(), Some(Treatment::TreatAsWithdraw));
        assert_eq!(read.prefixes().count(), 4);
    }

    #[test]
    fn families_that_were_not_negotiated_are_ignored_and_named() {
        let only = |family| Context { families: Families::NONE.with(family), ..ctx() };
        let read = through(both(), &ctx(), &only(Family::Ipv6)).unwrap();
        assert_eq!(read.other_families, [(1, 1)]);
        assert_eq!((read.nlri.len(), read.prefixes().count()), (0, 1));
        let read = through(both(), &ctx(), &only(Family::Ipv4)).unwrap();
        assert_eq!(read.other_families, [(2, 1)]);
        assert_eq!(read.mp_reach, None);
        assert_eq!(read.end_of_rib(), None);
    }

    #[test]
    fn an_ipv6_next_hop_for_ipv4_needs_an_agreement() {
        let mut update = both();
        update.nlri.clear();
        update.next_hop = None;
        let reach = update.mp_reach.as_mut().unwrap();
        (reach.family, reach.nlri) = (Family::Ipv4, prefixes(&["198.51.100.0/24"]));
        let without = Context { extended_next_hop: false, ..ctx() };
        let mut out = BytesMut::new();
        let refused = encode(&Message::Update(Box::new(update.clone())), &without, &mut out);
        assert!(matches!(refused, Err(EncodeError::NotNegotiated(_))));
        assert_eq!(through(update.clone(), &ctx(), &ctx()), Ok(update.clone()));
        let error = through(update, &ctx(), &without).unwrap_err();
        assert_eq!((error.notification.code, error.notification.subcode), (3, 9));
    }

    #[test]
    fn lengths_that_do_not_fit_end_the_session() {
        let fault = |body: &[u8]| {
            let error = Update::decode(body, &ctx()).unwrap_err();
            (error.notification.subcode, error.offset)
        };
        assert_eq!(fault(&[0, 3, 0, 0]), (1, 19), "withdrawn routes");
        assert_eq!(fault(&[0, 0, 0, 1]), (1, 21), "path attributes");
        assert_eq!(fault(&[0, 2, 33, 0, 0, 0]), (10, 21), "a prefix of 33 bits");
        assert_eq!(fault(&[0, 0, 0, 0, 24, 1]), (10, 23), "a prefix cut off");
    }
}
