//! The Path Attributes field: a list of attributes, their flags, duplicates and what is missing (RFC 4271 §6.3, RFC 7606 §3).

use std::net::Ipv4Addr;

use nom::Parser;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16};

use super::super::notification::update as subcode;
use super::super::parse::{Parsed, Section};
use super::super::{Context, Error, Fault, Nlri, Treatment};
use super::mp_reach::Mp;
use super::{
    Aggregator, AsPath, Attributes, Malformed, MpReach, UnknownAttribute, aggregator, as_path, as4_aggregator,
    as4_path, atomic_aggregate, cluster_list, communities, extended_communities, flags, ipv6_extended_communities,
    large_communities, local_pref, med, mp_reach, mp_unreach, name, next_hop, origin, originator_id, otc,
};
use crate::types::{AS_TRANS, Family, PeerKind};

/// What the field holds.
#[derive(Default)]
pub(crate) struct List {
    pub(crate) attributes: Attributes,
    pub(crate) next_hop: Option<Ipv4Addr>,
    pub(crate) mp_reach: Option<MpReach>,
    pub(crate) mp_unreach: Option<(Family, Vec<Nlri>)>,
    pub(crate) other_families: Vec<(u16, u8)>,
    /// A family of someone else's is announced: what that needs is not ours to check.
    pub(crate) other_reach: bool,
    pub(crate) faults: Vec<Found>,
    seen: Seen,
    /// Where NEXT_HOP stood, for a fault that is only known later.
    next_hop_at: usize,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
}

/// A fault and the NOTIFICATION it becomes if it cannot be treated milder (RFC 7606 §5.2).
pub(crate) struct Found {
    pub(crate) fault: Fault,
    subcode: u8,
    data: Vec<u8>,
}

impl Found {
    /// As the end of the session.
    pub(crate) fn into_error(self) -> Error {
        Error::update(self.fault.offset, self.subcode, self.fault.reason).with_data(&self.data)
    }
}

/// One attribute as it stands in the message.
#[derive(Clone, Copy)]
struct Raw<'a> {
    flags: u8,
    code: u8,
    value: Section<'a>,
    /// All of it, flags to value: the data of most NOTIFICATIONs.
    octets: Section<'a>,
}

/// Reads the field.
///
/// # Errors
/// Only what ends the session; anything milder is in [`List::faults`].
pub(crate) fn decode(section: Section<'_>, ctx: &Context) -> Result<List, Error> {
    let mut list = List::default();
    let mut rest = section.data;
    while !rest.is_empty() {
        let octets = Section { start: section.offset(rest), data: rest };
        let Ok((after, (flags, code, value))) = header(rest) else {
            list.cut_off(octets)?;
            break;
        };
        let octets = Section { data: rest.get(..rest.len() - after.len()).unwrap_or_default(), ..octets };
        let value = Section { start: section.offset(after) - value.len(), data: value };
        list.add(Raw { flags, code, value, octets }, ctx)?;
        rest = after;
    }
    list.merge_as4();
    Ok(list)
}

/// Flags, type code and value.
fn header(input: &[u8]) -> Parsed<'_, (u8, u8, &[u8])> {
    let (rest, (flags, code)) = (be_u8, be_u8).parse(input)?;
    let (rest, value) = if flags & flags::EXTENDED_LENGTH != 0 {
        length_data(be_u16).parse(rest)?
    } else {
        length_data(be_u8).parse(rest)?
    };
    Ok((rest, (flags, code, value)))
}

impl List {
    /// RFC 7606 §4: an attribute that overruns the field, or octets too few for one, are treat-as-withdraw: the NLRI are still
    /// found by the length of the field. Unless it is NLRI that were cut (§3(j)).
    fn cut_off(&mut self, octets: Section<'_>) -> Result<(), Error> {
        let code = octets.data.get(1).copied();
        if let Some(mp_reach::CODE | mp_unreach::CODE) = code {
            let reason = "MP_REACH_NLRI or MP_UNREACH_NLRI overruns the path attributes";
            return Err(Error::update(octets.start, subcode::ATTRIBUTE_LIST, reason));
        }
        let reason = code.map_or("a single octet at the end of the path attributes".into(), |code| {
            format!("{} overruns the path attributes", called(code))
        });
        self.fault(octets.start, code, Malformed::withdraw(subcode::ATTRIBUTE_LIST, reason), &[]);
        Ok(())
    }

    fn add(&mut self, raw: Raw<'_>, ctx: &Context) -> Result<(), Error> {
        let Raw { flags, code, octets, .. } = raw;
        let class = flags & flags::CLASS;
        let Some(expected) = expected_class(code) else {
            if flags & flags::OPTIONAL == 0 {
                let reason = format!("unrecognized well-known attribute {code}");
                return Err(Error::update(octets.start, subcode::UNRECOGNIZED, reason).with_data(octets.data));
            }
            if self.is_first(raw)? {
                self.attributes.unknown.push(UnknownAttribute::decode(flags, code, raw.value.data));
            }
            return Ok(());
        };
        let is_mp = matches!(code, mp_reach::CODE | mp_unreach::CODE);
        if !self.is_first(raw)? {
            return Ok(());
        }
        if let Some(unwanted) = unwanted(code, ctx) {
            self.fault(octets.start, Some(code), unwanted, octets.data);
            return Ok(());
        }
        if class != expected {
            let reason = format!("{} with flags {flags:#04x}", called(code));
            if is_mp {
                // Whether these octets are NLRI is in doubt (RFC 7606 §3(c), §3(j)).
                return Err(Error::update(octets.start, subcode::OPTIONAL, reason).with_data(octets.data));
            }
            let malformed = match code {
                // RFC 6793 §6 discards these whatever is wrong.
                as4_path::CODE | as4_aggregator::CODE => Malformed::discard(subcode::FLAGS, reason),
                _ => Malformed::withdraw(subcode::FLAGS, reason),
            };
            self.fault(octets.start, Some(code), malformed, octets.data);
            return Ok(());
        }
        if is_mp {
            return self.read_mp(raw, ctx);
        }
        if let Err(malformed) = self.read(raw, ctx) {
            self.fault(raw.value.start, Some(code), malformed, octets.data);
        }
        Ok(())
    }

    /// RFC 7606 §3(g): of an attribute that appears twice all but the first are discarded; MP_REACH_NLRI or MP_UNREACH_NLRI twice
    /// end the session.
    fn is_first(&mut self, raw: Raw<'_>) -> Result<bool, Error> {
        if self.seen.insert(raw.code) {
            return Ok(true);
        }
        let reason = format!("{} appears twice", called(raw.code));
        if matches!(raw.code, mp_reach::CODE | mp_unreach::CODE) {
            return Err(Error::update(raw.octets.start, subcode::ATTRIBUTE_LIST, reason));
        }
        let malformed = Malformed::discard(subcode::ATTRIBUTE_LIST, reason);
        self.fault(raw.octets.start, Some(raw.code), malformed, &[]);
        Ok(false)
    }

    fn read_mp(&mut self, raw: Raw<'_>, ctx: &Context) -> Result<(), Error> {
        let with_data = |error: Error| error.with_data(raw.octets.data);
        if raw.code == mp_unreach::CODE {
            match mp_unreach::decode(raw.value, ctx).map_err(with_data)? {
                Mp::Ours(unreach) => self.mp_unreach = Some(unreach),
                Mp::Other(afi, safi) => self.other_families.push((afi, safi)),
            }
            return Ok(());
        }
        match mp_reach::decode(raw.value, ctx).map_err(with_data)? {
            Mp::Ours(reach) => {
                if let Err(malformed) = mp_reach::check(&reach) {
                    self.fault(raw.value.start, Some(raw.code), malformed, raw.octets.data);
                }
                self.mp_reach = Some(reach);
            }
            Mp::Other(afi, safi) => {
                self.other_families.push((afi, safi));
                self.other_reach = true;
            }
        }
        Ok(())
    }

    /// Reads an attribute whose flags are right.
    fn read(&mut self, raw: Raw<'_>, ctx: &Context) -> Result<(), Malformed> {
        let value = raw.value.data;
        let to = &mut self.attributes;
        match raw.code {
            origin::CODE => to.origin = Some(origin::decode(value)?),
            as_path::CODE => to.as_path = Some(as_path::decode(value, ctx)?),
            next_hop::CODE => {
                self.next_hop_at = raw.value.start;
                self.next_hop = Some(next_hop::decode(value)?);
            }
            med::CODE => to.med = Some(med::decode(value)?),
            local_pref::CODE => to.local_pref = Some(local_pref::decode(value)?),
            atomic_aggregate::CODE => {
                atomic_aggregate::decode(value)?;
                to.atomic_aggregate = true;
            }
            aggregator::CODE => to.aggregator = Some(aggregator::decode(value, ctx)?),
            communities::CODE => to.communities = communities::decode(value)?,
            originator_id::CODE => to.originator_id = Some(originator_id::decode(value)?),
            cluster_list::CODE => to.cluster_list = cluster_list::decode(value)?,
            extended_communities::CODE => to.extended_communities = extended_communities::decode(value)?,
            as4_path::CODE => self.as4_path = Some(as4_path::decode(value)?),
            as4_aggregator::CODE => self.as4_aggregator = Some(as4_aggregator::decode(value)?),
            large_communities::CODE => to.large_communities = large_communities::decode(value)?,
            otc::CODE => to.otc = Some(otc::decode(value)?),
            code => {
                if code == ipv6_extended_communities::CODE {
                    ipv6_extended_communities::check(value)?;
                }
                to.unknown.push(UnknownAttribute::decode(raw.flags, code, value));
            }
        }
        Ok(())
    }

    /// RFC 6793 §4.2.3: what a two-octet session has carried past it.
    fn merge_as4(&mut self) {
        let mut use_as4_path = true;
        if let (Some(aggregator), Some(as4)) = (self.attributes.aggregator, self.as4_aggregator) {
            if aggregator.asn == u32::from(AS_TRANS) {
                self.attributes.aggregator = Some(as4);
            } else {
                // Someone aggregated anew without knowing either attribute: both are stale.
                use_as4_path = false;
            }
        }
        if let Some(as4_path) = self.as4_path.take()
            && use_as4_path
        {
            self.attributes.as_path = self.attributes.as_path.take().map(|path| as_path::merge(path, as4_path));
        }
    }

    /// What needs to know of the NLRI: mandatory attributes, the sense of NEXT_HOP (`body`: the body has NLRI), AS_SETs. `at` is
    /// where the field begins.
    pub(crate) fn check(&mut self, body: bool, at: usize) {
        let reach = self.mp_reach.as_ref().is_some_and(|reach| !reach.nlri.is_empty());
        // Well-formed as it is: with nothing to withdraw it is no reason to end the session.
        if (body || reach)
            && let Some(malformed) = self.attributes.as_path.as_ref().and_then(as_path::deprecated)
        {
            self.fault(at, Some(as_path::CODE), malformed, &[]);
        }
        if body
            && let Some(address) = self.next_hop
            && let Err(malformed) = next_hop::check(address)
        {
            let data = [next_hop::FLAGS, next_hop::CODE, 4].into_iter().chain(address.octets()).collect::<Vec<_>>();
            self.fault(self.next_hop_at, Some(next_hop::CODE), malformed, &data);
        }
        // RFC 7606 §3(d): a missing well-known mandatory attribute is treat-as-withdraw.
        for (code, name, needed) in [
            (origin::CODE, "ORIGIN", body || reach),
            (as_path::CODE, "AS_PATH", body || reach),
            (next_hop::CODE, "NEXT_HOP", body),
        ] {
            if needed && !self.seen.contains(code) {
                let malformed = Malformed::withdraw(subcode::MISSING, format!("{name} is missing"));
                self.fault(at, Some(code), malformed, &[code]);
            }
        }
    }

    /// RFC 7606 §5.2: without reachable NLRI there is nothing to withdraw, so what would be treat-as-withdraw ends the session.
    pub(crate) fn without_reach(self) -> Result<Self, Error> {
        let is_bad = |found: &Found| found.fault.treatment == Treatment::TreatAsWithdraw;
        if !self.faults.iter().any(is_bad) {
            return Ok(self);
        }
        match self.faults.into_iter().find(is_bad) {
            Some(found) => Err(found.into_error()),
            None => Err(Error::update(0, subcode::ATTRIBUTE_LIST, "malformed path attributes")),
        }
    }

    fn fault(&mut self, offset: usize, attribute: Option<u8>, malformed: Malformed, octets: &[u8]) {
        let Malformed { subcode, reason, treatment } = malformed;
        // RFC 4271 §6.3 defines data for these subcodes only.
        let has_data = !matches!(subcode, subcode::ATTRIBUTE_LIST | subcode::AS_PATH | subcode::NETWORK);
        let data = if has_data { octets.to_vec() } else { Vec::new() };
        self.faults.push(Found { fault: Fault { offset, attribute, reason, treatment }, subcode, data });
    }
}

/// An attribute's name, or its number where it has none.
fn called(code: u8) -> String {
    match name(code) {
        "unknown" => format!("attribute {code}"),
        name => name.to_owned(),
    }
}

/// Which attributes have been there.
#[derive(Default)]
struct Seen([u64; 4]);

impl Seen {
    fn position(code: u8) -> (usize, u64) {
        (usize::from(code >> 6), 1 << (code & 63))
    }

    /// Whether it is new.
    fn insert(&mut self, code: u8) -> bool {
        let (word, bit) = Self::position(code);
        let new = !self.contains(code);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
        new
    }

    fn contains(&self, code: u8) -> bool {
        let (word, bit) = Self::position(code);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}

/// The flags of an attribute we recognise, but for Partial and Extended Length.
fn expected_class(code: u8) -> Option<u8> {
    Some(match code {
        origin::CODE => origin::FLAGS,
        as_path::CODE => as_path::FLAGS,
        next_hop::CODE => next_hop::FLAGS,
        med::CODE => med::FLAGS,
        local_pref::CODE => local_pref::FLAGS,
        atomic_aggregate::CODE => atomic_aggregate::FLAGS,
        aggregator::CODE => aggregator::FLAGS,
        communities::CODE => communities::FLAGS,
        originator_id::CODE => originator_id::FLAGS,
        cluster_list::CODE => cluster_list::FLAGS,
        mp_reach::CODE => mp_reach::FLAGS,
        mp_unreach::CODE => mp_unreach::FLAGS,
        extended_communities::CODE => extended_communities::FLAGS,
        as4_path::CODE => as4_path::FLAGS,
        as4_aggregator::CODE => as4_aggregator::FLAGS,
        ipv6_extended_communities::CODE => ipv6_extended_communities::FLAGS,
        large_communities::CODE => large_communities::FLAGS,
        otc::CODE => otc::FLAGS,
        _ => return None,
    })
}

/// Attributes that are discarded on this session whatever they hold, even with wrong flags or length.
fn unwanted(code: u8, ctx: &Context) -> Option<Malformed> {
    let external = ctx.peer == PeerKind::Ebgp;
    let reason = match code {
        // RFC 7606 §7.5. A confederation's members exchange it, too (RFC 5065 §5.1).
        local_pref::CODE if external && !ctx.confederation => "LOCAL_PREF from an external peer",
        // RFC 7606 §7.9, §7.10.
        originator_id::CODE if external => "ORIGINATOR_ID from an external peer",
        cluster_list::CODE if external => "CLUSTER_LIST from an external peer",
        // RFC 6793 §4.1, §6.
        as4_path::CODE if ctx.as4 => "AS4_PATH on a four-octet session",
        as4_aggregator::CODE if ctx.as4 => "AS4_AGGREGATOR on a four-octet session",
        _ => return None,
    };
    Some(Malformed::discard(subcode::OPTIONAL, reason))
}
