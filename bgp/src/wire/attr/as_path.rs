//! AS_PATH (RFC 4271 §5.1.2, RFC 6793, RFC 5065).

use bytes::{BufMut, BytesMut};
use nom::number::complete::{be_u16, be_u32};
use nom::{Parser, multi::length_count, number::complete::be_u8};

use super::super::notification::update as subcode;
use super::super::parse::Parsed;
use super::super::{Context, EncodeError};
use super::{Malformed, flags, put_header};
use crate::types::{AS_TRANS, Asn};

pub(crate) const CODE: u8 = 2;
pub(crate) const FLAGS: u8 = flags::WELL_KNOWN;

/// The longest segment: its length field has one octet.
const MAX_SEGMENT: usize = 255;

/// One segment of an AS_PATH (RFC 4271 §4.3, RFC 5065).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// 2: ordered.
    Sequence(Vec<Asn>),
    /// 1: unordered (deprecated by RFC 9774).
    Set(Vec<Asn>),
    /// 3: ordered, within a confederation.
    ConfedSequence(Vec<Asn>),
    /// 4: unordered, within a confederation.
    ConfedSet(Vec<Asn>),
}

impl Segment {
    /// The AS numbers, in the order sent.
    pub fn asns(&self) -> &[Asn] {
        match self {
            Self::Sequence(asns) | Self::Set(asns) | Self::ConfedSequence(asns) | Self::ConfedSet(asns) => asns,
        }
    }

    /// Whether it exists only within a confederation (RFC 5065 §3).
    pub fn is_confederation(&self) -> bool {
        matches!(self, Self::ConfedSequence(_) | Self::ConfedSet(_))
    }

    fn is_set(&self) -> bool {
        matches!(self, Self::Set(_) | Self::ConfedSet(_))
    }

    fn code(&self) -> u8 {
        match self {
            Self::Set(_) => 1,
            Self::Sequence(_) => 2,
            Self::ConfedSequence(_) => 3,
            Self::ConfedSet(_) => 4,
        }
    }

    /// What it adds to the length of the path (RFC 4271 §9.1.2.2(a), RFC 5065 §5.3).
    fn count(&self) -> usize {
        match self {
            Self::Sequence(asns) => asns.len(),
            Self::Set(_) => 1,
            Self::ConfedSequence(_) | Self::ConfedSet(_) => 0,
        }
    }
}

/// An AS_PATH.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AsPath(pub Vec<Segment>);

impl AsPath {
    /// A path of one AS_SEQUENCE; the empty path if there is no AS in it.
    pub fn sequence(asns: impl Into<Vec<Asn>>) -> Self {
        let asns = asns.into();
        Self(if asns.is_empty() { Vec::new() } else { vec![Segment::Sequence(asns)] })
    }

    /// The length the decision process compares: a set counts 1, confederation segments nothing (RFC 4271 §9.1.2.2(a), RFC 5065
    /// §5.3).
    pub fn hops(&self) -> usize {
        self.0.iter().map(Segment::count).sum()
    }

    /// Every AS number in it, in the order sent.
    pub fn asns(&self) -> impl Iterator<Item = Asn> + '_ {
        self.0.iter().flat_map(|segment| segment.asns().iter().copied())
    }

    /// The AS the route was learned from: the first of the first AS_SEQUENCE, if the path begins with one after confederation
    /// segments.
    pub fn neighbor(&self) -> Option<Asn> {
        match self.0.iter().find(|segment| !segment.is_confederation())? {
            Segment::Sequence(asns) => asns.first().copied(),
            _ => None,
        }
    }

    /// The path with `asn` put in front (RFC 4271 §5.1.2).
    #[must_use]
    pub fn prepended(&self, asn: Asn) -> Self {
        let mut segments = self.0.clone();
        match segments.first_mut() {
            Some(Segment::Sequence(asns)) if asns.len() < MAX_SEGMENT => asns.insert(0, asn),
            _ => segments.insert(0, Segment::Sequence(vec![asn])),
        }
        Self(segments)
    }
}

/// RFC 7606 §7.2: malformed for an unknown segment type, an overrun or underrun, or a segment of length zero; treat-as-withdraw. So
/// are AS 0 (RFC 7607 §2) and confederation segments from outside (RFC 5065 §5).
pub(crate) fn decode(value: &[u8], ctx: &Context) -> Result<AsPath, Malformed> {
    let malformed = |reason| Malformed::withdraw(subcode::AS_PATH, format!("AS_PATH {reason}"));
    let path = segments(value, ctx.as4).map_err(malformed)?;
    if !ctx.confederation && path.0.iter().any(Segment::is_confederation) {
        return Err(malformed("with a confederation segment from outside the confederation".into()));
    }
    Ok(path)
}

/// RFC 9774 §3: a path with an AS_SET or AS_CONFED_SET is treated as withdrawn, well-formed as it is.
pub(crate) fn deprecated(path: &AsPath) -> Option<Malformed> {
    path.0
        .iter()
        .any(Segment::is_set)
        .then(|| Malformed::withdraw(subcode::AS_PATH, "AS_PATH with an AS_SET (RFC 9774)"))
}

/// Reads segments of four- or two-octet AS numbers.
pub(super) fn segments(value: &[u8], as4: bool) -> Result<AsPath, String> {
    let mut path = Vec::new();
    let mut rest = value;
    while let Some(kind) = rest.first() {
        if rest.len() == 1 {
            return Err("with a single octet at the end".into());
        }
        let make = match kind {
            1 => Segment::Set,
            2 => Segment::Sequence,
            3 => Segment::ConfedSequence,
            4 => Segment::ConfedSet,
            other => return Err(format!("segment of type {other}")),
        };
        let parsed: Parsed<'_, (u8, Vec<Asn>)> = if as4 {
            (be_u8, length_count(be_u8, be_u32)).parse(rest)
        } else {
            (be_u8, length_count(be_u8, be_u16.map(u32::from))).parse(rest)
        };
        let (after, (_, asns)) = parsed.map_err(|_| "segment overruns the attribute".to_owned())?;
        if asns.is_empty() {
            return Err("segment without an AS number".into());
        }
        if asns.contains(&0) {
            return Err("with AS 0 (RFC 7607)".into());
        }
        path.push(make(asns));
        rest = after;
    }
    Ok(AsPath(path))
}

pub(crate) fn encode(path: &AsPath, ctx: &Context, out: &mut BytesMut) -> Result<(), EncodeError> {
    put_segments((FLAGS, CODE), path.0.iter(), ctx.as4, out)
}

/// Writes an attribute of segments. A segment of more than 255 AS numbers becomes several.
pub(super) fn put_segments<'a>(
    (flags, code): (u8, u8),
    segments: impl Iterator<Item = &'a Segment> + Clone,
    as4: bool,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let width = if as4 { 4 } else { 2 };
    let chunks = segments.flat_map(|s| s.asns().chunks(MAX_SEGMENT).map(move |asns| (s.code(), asns)));
    put_header(flags, code, chunks.clone().map(|(_, asns)| 2 + asns.len() * width).sum(), out)?;
    for (kind, asns) in chunks {
        out.put_u8(kind);
        out.put_u8(u8::try_from(asns.len()).unwrap_or(u8::MAX));
        for asn in asns {
            if as4 {
                out.put_u32(*asn);
            } else {
                out.put_u16(u16::try_from(*asn).unwrap_or(AS_TRANS));
            }
        }
    }
    Ok(())
}

/// Rebuilds the path from AS_PATH and AS4_PATH (RFC 6793 §4.2.3): as many leading hops of AS_PATH as it has more of them, then
/// AS4_PATH. An AS4_PATH that has more hops than AS_PATH is ignored.
pub(crate) fn merge(path: AsPath, as4_path: AsPath) -> AsPath {
    let Some(mut keep) = path.hops().checked_sub(as4_path.hops()) else { return path };
    let mut merged = Vec::new();
    for segment in path.0 {
        let hops = segment.count();
        match segment {
            // Leading confederation segments, and those adjacent to a segment that is kept, are kept.
            segment if segment.is_confederation() => merged.push(segment),
            _ if keep == 0 => break,
            segment if hops <= keep => {
                keep -= hops;
                merged.push(segment);
            }
            Segment::Sequence(mut asns) => {
                asns.truncate(keep);
                merged.push(Segment::Sequence(asns));
                break;
            }
            _ => break,
        }
    }
    let mut tail = as4_path.0.into_iter().peekable();
    if let Some(Segment::Sequence(head)) = merged.last_mut()
        && let Some(Segment::Sequence(next)) = tail.peek_mut()
        && head.len() + next.len() <= MAX_SEGMENT
    {
        head.append(next);
        tail.next();
    }
    merged.extend(tail);
    AsPath(merged)
}
