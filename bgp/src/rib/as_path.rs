//! What the decision and the import checks ask of an AS_PATH.

use crate::types::Asn;
use crate::wire::{AsPath, Segment};

/// Its length: "an AS_SET counts as 1, no matter how many ASes are in the set" (RFC 4271 §9.1.2.2 a); confederation segments do not
/// count (RFC 5065 §5.3).
pub(super) fn length(path: &AsPath) -> usize {
    path.0
        .iter()
        .map(|segment| match segment {
            Segment::Sequence(asns) => asns.len(),
            Segment::Set(_) => 1,
            Segment::ConfedSequence(_) | Segment::ConfedSet(_) => 0,
        })
        .sum()
}

/// How often `asn` is in it.
pub(super) fn occurrences(path: &AsPath, asn: Asn) -> usize {
    path.0.iter().map(|segment| asns(segment).iter().filter(|a| **a == asn).count()).sum()
}

/// The AS it came from last; `None` if the path is empty or begins with a set.
pub(super) fn first(path: &AsPath) -> Option<Asn> {
    match path.0.first()? {
        Segment::Sequence(asns) => asns.first().copied(),
        _ => None,
    }
}

/// The AS it originated in; `None` if the path is empty or ends with a set.
pub(super) fn origin(path: &AsPath) -> Option<Asn> {
    match path.0.last()? {
        Segment::Sequence(asns) => asns.last().copied(),
        _ => None,
    }
}

fn asns(segment: &Segment) -> &[Asn] {
    match segment {
        Segment::Sequence(asns) | Segment::Set(asns) | Segment::ConfedSequence(asns) | Segment::ConfedSet(asns) => asns,
    }
}
