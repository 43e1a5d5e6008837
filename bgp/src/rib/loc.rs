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
