//! Loc-RIB: the decision over what all peers told us.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::adj_in::{AdjIn, Changes};
use super::decide::{Candidate, Peer, Verdict, decide};
use crate::speaker::PeerAddress;
use crate::types::Prefix;

/// The paths of all peers to every prefix, and which of them are used.
#[derive(Debug)]
pub struct LocRib {
    max_paths: usize,
    routes: BTreeMap<Prefix, Vec<Ranked>>,
}

/// A path and what the decision says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// The path and who offers it.
    pub candidate: Candidate,
    /// Whether it is used, or why not.
    pub verdict: Verdict,
}

/// Where packets to a learned prefix go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LearnedNextHop {
    /// The address of the next router; of either family, whatever that of the prefix (RFC 8950).
    pub address: IpAddr,
    /// The interface it is on, where that is known; always for link-local addresses.
    pub interface: Option<String>,
    /// Who said so.
    pub peer: PeerAddress,
}

impl LocRib {
    /// No routes. `max_paths`: the most next hops one prefix is given, at least 1.
    pub fn new(max_paths: usize) -> Self {
        Self { max_paths: max_paths.max(1), routes: BTreeMap::new() }
    }

    /// Changes how many next hops a prefix may have; the prefixes for which that makes a difference.
    pub fn set_max_paths(&mut self, max_paths: usize) -> Vec<Prefix> {
        self.max_paths = max_paths.max(1);
        let prefixes: Vec<_> = self.routes.keys().copied().collect();
        prefixes.into_iter().filter(|prefix| self.replace(*prefix, |_| {})).collect()
    }

    /// Takes over what changed in a peer's Adj-RIB-In; the prefixes whose selected next hops are others now.
    pub fn update(&mut self, peer: &Arc<Peer>, adj_in: &AdjIn, changes: &Changes) -> Vec<Prefix> {
        let changed = changes.prefixes.iter().copied().filter(|prefix| {
            self.replace(*prefix, |candidates| {
                candidates.retain(|c| c.peer.address != peer.address);
                candidates.extend(adj_in.paths(prefix).map(|(path_id, path)| Candidate {
                    peer: Arc::clone(peer),
                    path_id,
                    path: Arc::clone(path),
                }));
            })
        });
        changed.collect()
    }

    /// Forgets a peer; the prefixes whose selected next hops are others now.
    pub fn remove_peer(&mut self, peer: &PeerAddress) -> Vec<Prefix> {
        let offered = |ranked: &Vec<Ranked>| ranked.iter().any(|r| r.candidate.peer.address == *peer);
        let prefixes: Vec<_> =
            self.routes.iter().filter(|(_, ranked)| offered(ranked)).map(|(prefix, _)| *prefix).collect();
        let mut gone =
            |prefix: &Prefix| self.replace(*prefix, |candidates| candidates.retain(|c| c.peer.address != *peer));
        prefixes.into_iter().filter(|prefix| gone(prefix)).collect()
    }

    /// Where packets to `prefix` go, sorted; nothing if no path is known.
    pub fn next_hops(&self, prefix: &Prefix) -> Vec<LearnedNextHop> {
        self.routes.get(prefix).map_or_else(Vec::new, |ranked| next_hops(ranked))
    }

    /// All prefixes that have a path with their next hops, sorted.
    pub fn selected(&self) -> impl Iterator<Item = (Prefix, Vec<LearnedNextHop>)> {
        self.routes.iter().map(|(prefix, ranked)| (*prefix, next_hops(ranked)))
    }

    /// Every path to `prefix` and what became of it, the best first.
    pub fn paths(&self, prefix: &Prefix) -> &[Ranked] {
        self.routes.get(prefix).map_or(&[], Vec::as_slice)
    }

    /// Every path to every prefix, sorted by prefix.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, &[Ranked])> {
        self.routes.iter().map(|(prefix, ranked)| (*prefix, ranked.as_slice()))
    }

    /// How many prefixes have a path.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether no prefix has a path.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Changes the candidates of one prefix and decides anew; whether other next hops are selected.
    fn replace(&mut self, prefix: Prefix, change: impl FnOnce(&mut Vec<Candidate>)) -> bool {
        let old = self.routes.remove(&prefix).unwrap_or_default();
        let before = next_hops(&old);
        let mut candidates = old.into_iter().map(|ranked| ranked.candidate).collect();
        change(&mut candidates);
        let verdicts = decide(&candidates, self.max_paths);
        let ranked = candidates.into_iter().zip(verdicts).map(|(candidate, verdict)| Ranked { candidate, verdict });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|r| match r.verdict {
            Verdict::Best => 0,
            Verdict::Multipath => 1,
            Verdict::Lost(_) => 2,
        });
        let changed = next_hops(&ranked) != before;
        if !ranked.is_empty() {
            self.routes.insert(prefix, ranked);
        }
        changed
    }
}

fn next_hops(ranked: &[Ranked]) -> Vec<LearnedNextHop> {
    let selected = ranked.iter().filter(|ranked| ranked.verdict.is_selected());
    let next_hop = |Ranked { candidate: Candidate { peer, path, .. }, .. }: &Ranked| LearnedNextHop {
        address: path.next_hop,
        interface: peer.interface.clone(),
        peer: peer.address.clone(),
    };
    let mut next_hops: Vec<_> = selected.map(next_hop).collect();
    next_hops.sort_unstable();
    next_hops
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::rib::ImportContext;
    use crate::types::{Families, PeerKind};
    use crate::wire::{AsPath, Attributes, Nlri, Origin, Update};

    fn peer(number: u8) -> Arc<Peer> {
        let address = IpAddr::from([10, 0, 0, number]);
        Arc::new(Peer {
            address: PeerAddress::Numbered(address),
            kind: if number < 3 { PeerKind::Ebgp } else { PeerKind::Ibgp },
            session_address: address,
            router_id: [192, 0, 2, number].into(),
            interface: None,
        })
    }

    fn adj_in(number: u8) -> AdjIn {
        let kind = peer(number).kind;
        let context =
            ImportContext::new(kind, 65000, 65000 + u32::from(number), [192, 0, 2, 100].into(), Families::ALL);
        AdjIn::new(ImportContext { enforce_first_as: false, ..context })
    }

    fn prefix(number: u8) -> Prefix {
        Prefix::from(IpAddr::from([198, 51, 100, number]))
    }

    fn announce(peer: u8, of: u8, asn: u32, med: u32) -> Update {
        let attributes = Attributes {
            origin: Some(Origin::Igp),
            as_path: Some(AsPath::sequence([asn])),
            med: Some(med),
            ..Attributes::default()
        };
        let nlri = vec![Nlri { prefix: prefix(of), path_id: None }];
        Update { attributes, nlri, next_hop: Some([10, 0, 0, peer].into()), ..Update::default() }
    }

    fn withdraw(of: u8) -> Update {
        Update { withdrawn: vec![Nlri { prefix: prefix(of), path_id: None }], ..Update::default() }
    }

    fn addresses(rib: &LocRib, of: u8) -> Vec<String> {
        rib.next_hops(&prefix(of)).iter().map(|next_hop| next_hop.address.to_string()).collect()
    }

    #[test]
    fn a_prefix_follows_its_peers() {
        let mut rib = LocRib::new(16);
        let mut adj: HashMap<u8, AdjIn> = [1, 2, 3].into_iter().map(|n| (n, adj_in(n))).collect();
        let mut hear = |rib: &mut LocRib, number: u8, update: &Update| {
            let adj_in = adj.get_mut(&number).unwrap();
            let changes = adj_in.update(update);
            rib.update(&peer(number), adj_in, &changes)
        };
        assert_eq!(hear(&mut rib, 3, &announce(3, 7, 1, 0)), [prefix(7)]);
        assert_eq!(addresses(&rib, 7), ["10.0.0.3"], "better than nothing");
        assert_eq!(hear(&mut rib, 1, &announce(1, 7, 2, 0)), [prefix(7)]);
        assert_eq!(addresses(&rib, 7), ["10.0.0.1"], "external first");
        assert_eq!(hear(&mut rib, 2, &announce(2, 7, 3, 0)), [prefix(7)]);
        assert_eq!(addresses(&rib, 7), ["10.0.0.1", "10.0.0.2"], "both leaves");
        assert_eq!(hear(&mut rib, 3, &announce(3, 7, 1, 9)), [], "what lost before changes nothing");
        let verdicts: Vec<_> = rib.paths(&prefix(7)).iter().map(|ranked| ranked.verdict.to_string()).collect();
        assert_eq!(verdicts, ["best", "multipath", "internal; an external path exists"]);
        assert_eq!(rib.set_max_paths(1), [prefix(7)]);
        assert_eq!(addresses(&rib, 7), ["10.0.0.1"]);
        assert_eq!(hear(&mut rib, 1, &withdraw(7)), [prefix(7)]);
        assert_eq!(addresses(&rib, 7), ["10.0.0.2"]);
        assert_eq!(rib.remove_peer(&peer(2).address), [prefix(7)]);
        assert_eq!(addresses(&rib, 7), ["10.0.0.3"]);
        assert_eq!(rib.remove_peer(&peer(3).address), [prefix(7)]);
        assert!(rib.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Announce(u8, u8, u32, u32),
        Withdraw(u8, u8),
        Clear(u8),
        Stale(u8),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let (peer, prefix) = (1..5_u8, 1..4_u8);
        prop_oneof![
            6 => (peer.clone(), prefix.clone(), 1..3_u32, 0..3_u32).prop_map(|(p, of, asn, med)| Step::Announce(p, of, asn, med)),
            2 => (peer.clone(), prefix).prop_map(|(p, of)| Step::Withdraw(p, of)),
            1 => peer.clone().prop_map(Step::Clear),
            1 => peer.prop_map(Step::Stale),
        ]
    }

    proptest! {
        #[test]
        fn step_by_step_is_the_same_as_from_scratch(steps in proptest::collection::vec(any_step(), 0..40), max_paths in 1..4_usize) {
            use crate::types::Family;
            let mut adj: BTreeMap<u8, AdjIn> = (1..5).map(|n| (n, adj_in(n))).collect();
            let mut rib = LocRib::new(max_paths);
            let mut told: BTreeMap<Prefix, Vec<LearnedNextHop>> = BTreeMap::new();
            for step in steps {
                let (number, changes) = match step {
                    Step::Announce(p, of, asn, med) => (p, adj.get_mut(&p).unwrap().update(&announce(p, of, asn, med))),
                    Step::Withdraw(p, of) => (p, adj.get_mut(&p).unwrap().update(&withdraw(of))),
                    Step::Clear(p) => (p, adj.get_mut(&p).unwrap().clear()),
                    Step::Stale(p) => (p, adj.get_mut(&p).unwrap().mark_stale(Family::Ipv4)),
                };
                for prefix in rib.update(&peer(number), &adj[&number], &changes) {
                    told.insert(prefix, rib.next_hops(&prefix));
                }
            }
            let mut scratch = LocRib::new(max_paths);
            for (number, adj_in) in adj.iter().rev() {
                let all = adj_in.iter().map(|(nlri, _, _)| nlri.prefix).collect();
                scratch.update(&peer(*number), adj_in, &Changes { prefixes: all, ..Changes::default() });
            }
            let selected = |rib: &LocRib| rib.selected().collect::<BTreeMap<_, _>>();
            prop_assert_eq!(selected(&rib), selected(&scratch));
            // Whoever follows the prefixes reported knows the same.
            told.retain(|_, next_hops| !next_hops.is_empty());
            prop_assert_eq!(told, selected(&rib));
        }
    }
}
