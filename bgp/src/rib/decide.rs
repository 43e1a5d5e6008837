//! Which path to a prefix is best, and which are as good (RFC 4271 §9.1.2).
//!
//! Step by step, in the order of the RFC: each step removes the paths that are worse than the best one left. A comparison of two
//! paths at a time would not do: MED only counts between paths of the same neighbouring AS, so that "better than" is not transitive.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::adj_in::Path;
use super::export::DEFAULT_LOCAL_PREF;
use crate::policy::community;
use crate::speaker::PeerAddress;
use crate::types::{Asn, PeerKind};
use crate::wire::{AsPath, Origin};

/// Who told us: what the decision has to know of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// What it is known by.
    pub address: PeerAddress,
    /// Internal or external.
    pub kind: PeerKind,
    /// Its address of the session.
    pub session_address: IpAddr,
    /// Its BGP Identifier.
    pub router_id: Ipv4Addr,
    /// The interface it is reached through, where that is known; link-local next hops need it.
    pub interface: Option<String>,
}

/// A path, and who offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who offers it.
    pub peer: Arc<Peer>,
    /// Which of several it offers (RFC 7911).
    pub path_id: Option<u32>,
    /// The path.
    pub path: Arc<Path>,
}

/// What the decision says about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The best.
    Best,
    /// As good as the best but for a tie-break: used together with it.
    Multipath,
    /// Not used, and what was against it.
    Lost(Step),
}

impl Verdict {
    /// Whether packets may take this path.
    pub const fn is_selected(self) -> bool {
        matches!(self, Self::Best | Self::Multipath)
    }
}

/// A step of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// RFC 9494 §4.3: a path kept long after its peer went away, by us or on the way to us.
    LongLivedStale,
    /// RFC 4271 §9.1.1: LOCAL_PREF.
    LocalPref,
    /// §9.1.2.2 a): length of AS_PATH.
    PathLength,
    /// b): ORIGIN.
    Origin,
    /// c): MULTI_EXIT_DISC.
    Med,
    /// d): external before internal.
    External,
    /// f): BGP Identifier, or ORIGINATOR_ID (RFC 4456 §9).
    RouterId,
    /// RFC 4456 §9: length of CLUSTER_LIST.
    ClusterList,
    /// g): peer address.
    PeerAddress,
    /// Another path of the same peer (RFC 7911).
    PathId,
    /// As good, but there are `max_paths` already.
    MaxPaths,
    /// As good, but it leads to a next hop in use already.
    SameNextHop,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Best => "best",
            Self::Multipath => "multipath",
            Self::Lost(step) => return step.fmt(f),
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LongLivedStale => "long-lived stale (LLGR_STALE); a fresh path exists",
            Self::LocalPref => "lower LOCAL_PREF",
            Self::PathLength => "longer AS_PATH",
            Self::Origin => "worse ORIGIN",
            Self::Med => "higher MED from the same AS",
            Self::External => "internal; an external path exists",
            Self::RouterId => "higher router identifier",
            Self::ClusterList => "longer CLUSTER_LIST",
            Self::PeerAddress => "higher peer address",
            Self::PathId => "higher path identifier",
            Self::MaxPaths => "as good, but max_paths are in use",
            Self::SameNextHop => "as good, but its next hop is in use",
        })
    }
}

/// Decides between the paths to one prefix: one verdict for each, in their order. With a `max_paths` above 1, paths that only a
/// tie-break tells apart are used together, through whatever neighbouring AS they lead ("multipath-relax"): two leaves of a fabric
/// have different AS numbers more often than not.
pub fn decide(candidates: &[Candidate], max_paths: usize) -> Vec<Verdict> {
    let mut contest =
        Contest { candidates, alive: (0..candidates.len()).collect(), verdicts: vec![Verdict::Best; candidates.len()] };
    // "Treat the route as the least preferred in route selection" (RFC 9494 §4.3), whoever has marked it.
    contest.keep_lowest(Step::LongLivedStale, Candidate::is_long_lived_stale);
    // Phase 1 (§9.1.1): the degree of preference is LOCAL_PREF.
    contest.keep_lowest(Step::LocalPref, |c| Reverse(c.local_pref()));
    // a) "Remove from consideration all routes that are not tied for having the smallest number of AS numbers present in their
    //    AS_PATH attributes."
    contest.keep_lowest(Step::PathLength, Candidate::path_length);
    // b) "… not tied for having the lowest Origin number in their Origin attribute."
    contest.keep_lowest(Step::Origin, Candidate::origin);
    // c) "Remove from consideration routes with less-preferred MULTI_EXIT_DISC attributes. MULTI_EXIT_DISC is only comparable
    //    between routes learned from the same neighboring AS". None is the lowest: 0.
    contest.keep_lowest_med();
    // d) "If any of the candidate routes were received via EBGP, remove from consideration all routes that were received via IBGP."
    contest.keep_lowest(Step::External, |c| c.peer.kind == PeerKind::Ibgp);
    // e) The interior cost of the next hop: all our next hops are one hop away.
    // f), RFC 4456 §9, g): ties between paths that are equally good.
    contest.break_ties(max_paths);
    contest.verdicts
}

/// The paths still in the contest, and what became of the others.
struct Contest<'a> {
    candidates: &'a [Candidate],
    alive: Vec<usize>,
    verdicts: Vec<Verdict>,
}

impl<'a> Contest<'a> {
    fn candidate(&self, index: usize) -> Option<&'a Candidate> {
        self.candidates.get(index)
    }

    fn lose(&mut self, index: usize, step: Step) {
        if let Some(verdict) = self.verdicts.get_mut(index) {
            *verdict = Verdict::Lost(step);
        }
    }

    /// Removes all that are not tied for the lowest key.
    fn keep_lowest<K: Ord>(&mut self, step: Step, key: impl Fn(&Candidate) -> K) {
        let keyed: Vec<_> = self.alive.iter().filter_map(|i| Some((key(self.candidate(*i)?), *i))).collect();
        let Some(lowest) = keyed.iter().map(|(key, _)| key).min() else { return };
        let losers: Vec<_> = keyed.iter().filter(|(key, _)| key != lowest).map(|(_, i)| *i).collect();
        self.remove(&losers, step);
    }

    /// Removes, of each neighbouring AS, all that are not tied for the lowest MED.
    fn keep_lowest_med(&mut self) {
        let alive: Vec<_> = self.alive.iter().filter_map(|i| Some((*i, self.candidate(*i)?))).collect();
        let mut lowest: BTreeMap<Option<Asn>, u32> = BTreeMap::new();
        for (_, candidate) in &alive {
            let med = lowest.entry(candidate.neighbouring_as()).or_insert(u32::MAX);
            *med = candidate.med().min(*med);
        }
        let is_worse = |c: &Candidate| lowest.get(&c.neighbouring_as()).is_some_and(|med| c.med() > *med);
        let losers: Vec<_> = alive.iter().filter(|(_, c)| is_worse(c)).map(|(i, _)| *i).collect();
        self.remove(&losers, Step::Med);
    }

    fn remove(&mut self, losers: &[usize], step: Step) {
        self.alive.retain(|i| !losers.contains(i));
        for index in losers {
            self.lose(*index, step);
        }
    }

    /// Ranks what is left; the first is the best, others may be used beside it.
    fn break_ties(&mut self, max_paths: usize) {
        let mut ranked: Vec<_> = self.alive.iter().filter_map(|i| Some((*i, self.candidate(*i)?))).collect();
        ranked.sort_by_key(|(_, candidate)| candidate.tie_break());
        let Some(((_, best), rest)) = ranked.split_first() else { return };
        let mut used = vec![best.link()];
        for (index, candidate) in rest {
            let verdict = if max_paths <= 1 {
                Verdict::Lost(candidate.loses_tie_to(best))
            } else if used.contains(&candidate.link()) {
                Verdict::Lost(Step::SameNextHop)
            } else if used.len() >= max_paths {
                Verdict::Lost(Step::MaxPaths)
            } else {
                used.push(candidate.link());
                Verdict::Multipath
            };
            if let Some(place) = self.verdicts.get_mut(*index) {
                *place = verdict;
            }
        }
    }
}

impl Candidate {
    fn is_long_lived_stale(&self) -> bool {
        self.path.attributes.communities.contains(&community::LLGR_STALE)
    }

    fn local_pref(&self) -> u32 {
        self.path.attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)
    }

    fn path_length(&self) -> usize {
        self.path.attributes.as_path.as_ref().map_or(0, AsPath::hops)
    }

    fn origin(&self) -> Origin {
        self.path.attributes.origin.unwrap_or(Origin::Incomplete)
    }

    fn med(&self) -> u32 {
        self.path.attributes.med.unwrap_or(0)
    }

    /// The AS the path leads through first; `None` is our own: internal routes with an empty path.
    fn neighbouring_as(&self) -> Option<Asn> {
        self.path.attributes.as_path.as_ref().and_then(AsPath::neighbor)
    }

    /// "If a route carries the ORIGINATOR_ID attribute, then in Step f) the ORIGINATOR_ID SHOULD be treated as the BGP Identifier"
    /// (RFC 4456 §9).
    fn router_id(&self) -> Ipv4Addr {
        self.path.attributes.originator_id.unwrap_or(self.peer.router_id)
    }

    /// The tie-breaks in their order. The last ones go beyond the RFC, so that no two paths are ever equal.
    fn tie_break(&self) -> (Ipv4Addr, usize, IpAddr, &PeerAddress, Option<u32>) {
        // f) "… lowest BGP Identifier value"; between f) and g) "prefer … the shorter CLUSTER_LIST length" (RFC 4456 §9);
        // g) "Prefer the route received from the lowest peer address."
        let clusters = self.path.attributes.cluster_list.len();
        (self.router_id(), clusters, self.peer.session_address, &self.peer.address, self.path_id)
    }

    fn loses_tie_to(&self, best: &Self) -> Step {
        let ((id, clusters, address, peer, _), other) = (self.tie_break(), best.tie_break());
        if id != other.0 {
            Step::RouterId
        } else if clusters != other.1 {
            Step::ClusterList
        } else if address != other.2 || peer != other.3 {
            Step::PeerAddress
        } else {
            Step::PathId
        }
    }

    /// Where packets go.
    fn link(&self) -> (IpAddr, Option<&str>) {
        (self.path.next_hop, self.peer.interface.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Attributes, NextHop, Segment};

    /// A path of an external peer 10.0.0.`host` in AS 1, without anything special.
    fn from(host: u8) -> Candidate {
        let address = IpAddr::from([10, 0, 0, host]);
        let attributes = Attributes {
            origin: Some(Origin::Igp),
            as_path: Some(AsPath(vec![Segment::Sequence(vec![1, 2])])),
            local_pref: Some(100),
            ..Attributes::default()
        };
        Candidate {
            peer: Arc::new(Peer {
                address: PeerAddress::Numbered(address),
                kind: PeerKind::Ebgp,
                session_address: address,
                router_id: [192, 0, 2, 1].into(),
                interface: None,
            }),
            path_id: None,
            path: Arc::new(Path {
                attributes: Arc::new(attributes),
                announced_next_hop: NextHop::V4([10, 0, 0, host].into()),
                next_hop: address,
            }),
        }
    }

    fn with(mut candidate: Candidate, change: impl FnOnce(&mut Attributes)) -> Candidate {
        change(Arc::make_mut(&mut Arc::make_mut(&mut candidate.path).attributes));
        candidate
    }

    fn peer(mut candidate: Candidate, change: impl FnOnce(&mut Peer)) -> Candidate {
        change(Arc::make_mut(&mut candidate.peer));
        candidate
    }

    #[test]
    fn every_rule_decides_in_its_turn() {
        // Each row: the rule, a winner that would lose by every later rule, and a loser. 10.0.0.1 wins the last tie.
        let internal = |c| peer(c, |p| p.kind = PeerKind::Ibgp);
        let set = Some(AsPath(vec![Segment::Sequence(vec![1]), Segment::Set(vec![5, 6, 7])]));
        let confederation = Some(AsPath(vec![Segment::ConfedSequence(vec![8, 9]), Segment::Sequence(vec![1])]));
        let stale = |c| with(c, |a| a.communities = vec![community::LLGR_STALE]);
        let table = [
            (
                Step::LongLivedStale,
                with(from(9), |a| a.local_pref = Some(0)),
                stale(with(from(1), |a| a.local_pref = Some(300))),
            ),
            (
                Step::LocalPref,
                with(from(9), |a| (a.local_pref, a.as_path) = (Some(101), Some(AsPath::sequence([1, 2, 3])))),
                from(1),
            ),
            (
                Step::PathLength,
                with(from(9), |a| (a.as_path, a.origin) = (Some(AsPath::sequence([1])), Some(Origin::Egp))),
                from(1),
            ),
            (
                Step::PathLength,
                with(from(9), |a| a.as_path = set),
                with(from(1), |a| a.as_path = Some(AsPath::sequence([1, 2, 3]))),
            ),
            (Step::PathLength, with(from(9), |a| a.as_path = confederation), from(1)),
            (Step::Origin, with(from(9), |a| a.med = Some(7)), with(from(1), |a| a.origin = Some(Origin::Egp))),
            (Step::Med, internal(with(from(9), |a| a.med = Some(6))), with(from(1), |a| a.med = Some(7))),
            (Step::Med, internal(from(9)), with(from(1), |a| a.med = Some(1))),
            (Step::External, peer(from(9), |p| p.router_id = [192, 0, 2, 9].into()), internal(from(1))),
            (
                Step::RouterId,
                with(from(9), |a| a.cluster_list = vec![[1, 1, 1, 1].into()]),
                peer(from(1), |p| p.router_id = [192, 0, 2, 2].into()),
            ),
            (Step::RouterId, with(from(9), |a| a.originator_id = Some([10, 0, 0, 1].into())), from(1)),
            (Step::ClusterList, from(9), with(from(1), |a| a.cluster_list = vec![[1, 1, 1, 1].into()])),
            (Step::PeerAddress, from(1), from(9)),
            (Step::PathId, Candidate { path_id: Some(1), ..from(1) }, Candidate { path_id: Some(2), ..from(1) }),
        ];
        for (step, winner, loser) in table {
            let pair = [winner.clone(), loser.clone()];
            assert_eq!(decide(&pair, 1), [Verdict::Best, Verdict::Lost(step)], "{step}");
            assert_eq!(
                decide(&[loser, winner], 1),
                [Verdict::Lost(step), Verdict::Best],
                "{step}, the other way round"
            );
        }
        assert_eq!(decide(&[], 1), []);
    }

    #[test]
    fn med_counts_within_one_neighbouring_as_only() {
        // The classic: A beats B by MED, B beats C and C beats A by identifier. Pairwise comparison would go round in circles.
        let a = peer(with(from(1), |a| a.med = Some(1)), |p| p.router_id = [3, 3, 3, 3].into());
        let b = peer(with(from(2), |a| a.med = Some(2)), |p| p.router_id = [1, 1, 1, 1].into());
        let c =
            peer(with(from(3), |a| a.as_path = Some(AsPath::sequence([5, 2]))), |p| p.router_id = [2, 2, 2, 2].into());
        assert_eq!(decide(&[a, b, c], 1), [Verdict::Lost(Step::RouterId), Verdict::Lost(Step::Med), Verdict::Best]);
    }

    #[test]
    fn equally_good_paths_are_used_together() {
        let leaf = |host, asn| with(from(host), |a| a.as_path = Some(AsPath::sequence([asn, 2])));
        let paths = [leaf(3, 5), leaf(1, 6), with(leaf(2, 7), |a| a.local_pref = Some(0)), leaf(4, 8)];
        let lost = Verdict::Lost;
        let expected = [Verdict::Multipath, Verdict::Best, lost(Step::LocalPref), Verdict::Multipath];
        assert_eq!(decide(&paths, 16), expected);
        let expected = [Verdict::Multipath, Verdict::Best, lost(Step::LocalPref), lost(Step::MaxPaths)];
        assert_eq!(decide(&paths, 2), expected);
        let mut twin = leaf(9, 5);
        Arc::make_mut(&mut twin.path).next_hop = [10, 0, 0, 1].into();
        assert_eq!(decide(&[leaf(1, 5), twin.clone()], 16), [Verdict::Best, lost(Step::SameNextHop)]);
        let other_link = peer(twin, |p| p.interface = Some("eth1".into()));
        assert_eq!(decide(&[leaf(1, 5), other_link], 16), [Verdict::Best, Verdict::Multipath]);
    }

    prop_compose! {
        fn any_candidate()(
            host in 1..5_u8, asn in 1..4_u32, length in 1..3_usize, med in proptest::option::of(0..3_u32),
            local_pref in 100..102_u32, router_id in 1..4_u8, internal: bool, clusters in 0..2_usize, path_id in 0..4_u32,
        ) -> Candidate {
            let mut candidate = with(from(host), |a| {
                a.as_path = Some(AsPath::sequence(vec![asn; length]));
                a.med = med;
                a.local_pref = Some(local_pref);
                a.cluster_list = vec![[1, 1, 1, 1].into(); clusters];
            });
            candidate.path_id = Some(path_id);
            peer(candidate, |p| {
                p.router_id = [192, 0, 2, router_id].into();
                p.kind = if internal { PeerKind::Ibgp } else { PeerKind::Ebgp };
            })
        }
    }

    proptest! {
        #[test]
        fn the_verdicts_do_not_depend_on_the_order_of_arrival(
            (candidates, shuffled) in proptest::collection::vec(any_candidate(), 1..7).prop_flat_map(|mut all| {
                // A peer offers a path identifier once.
                all.sort_by_key(|c| (c.peer.session_address, c.path_id));
                all.dedup_by_key(|c| (c.peer.session_address, c.path_id));
                let indices: Vec<_> = (0..all.len()).collect();
                (Just(all), Just(indices).prop_shuffle())
            }),
            max_paths in 1..4_usize,
        ) {
            let straight = decide(&candidates, max_paths);
            let other: Vec<_> = shuffled.iter().map(|i| candidates[*i].clone()).collect();
            let crooked = decide(&other, max_paths);
            for (place, index) in shuffled.iter().enumerate() {
                prop_assert_eq!(crooked[place], straight[*index]);
            }
            prop_assert_eq!(straight.iter().filter(|v| **v == Verdict::Best).count(), 1);
            prop_assert!(straight.iter().filter(|v| v.is_selected()).count() <= max_paths);
        }
    }
}
