//! Routes, pure: what we originate, what peers told us, the decision, what a peer may be told, packing into UPDATEs.
//!
//! The boundary with [`crate::session`] and [`crate::speaker`]: an established peer has one [`AdjOut`] and one [`AdjIn`].
//! The speaker hands every peer the same [`RouteSet`] by `Arc`; the peer's `AdjOut` keeps what it has already sent and produces
//! the UPDATEs for the difference on demand, message by message, when its socket can take them. Nothing queues.
//!
//! ```text
//!  peer ─▶ UPDATE ─▶ import ─▶ AdjIn ─▶ decide ─▶ LocRib ─▶ next hops, for whoever installs them
//!  ours ─▶ RouteSet ─▶ export ─▶ AdjOut ─▶ UPDATEs ─▶ peer
//! ```
//!
//! | file | what it is for |
//! |---|---|
//! | `export.rs` | what a peer may be told of our routes, in which words, or why not |
//! | `difference.rs` | what is different in one of our sets after another |
//! | `out/` | Adj-RIB-Out: the difference between told and wanted, and the messages that close it |
//! | `import.rs` | whether a route a peer announced may be used, or why not |
//! | `adj_in.rs` | Adj-RIB-In: what a peer has told us, stale marks, limits |
//! | `decide.rs` | which path is best: the steps of RFC 4271 §9.1.2.2, in their order |
//! | `loc.rs` | Loc-RIB: the decision over all peers |

mod adj_in;
mod decide;
mod difference;
mod export;
mod import;
mod loc;
mod out;

use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use adj_in::HandedRefused;
pub use adj_in::{AdjIn, Changes, LimitExceeded, LimitWarning, Path, REFUSED_KEPT};
pub use decide::{Candidate, Peer, Step, Verdict, decide};
pub use difference::Difference;
pub use export::{DEFAULT_LOCAL_PREF, ExportContext, NotExported};
pub use import::{ImportContext, Refused};
pub use loc::{LearnedNextHop, LocRib, Ranked};
pub use out::{AdjOut, Counts, Status};

use crate::types::Prefix;
use crate::wire::LargeCommunity;

/// What we say about a prefix of our own. Equal originations share one `Arc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Origination {
    /// A next hop other than the session's own address.
    pub next_hop: Option<IpAddr>,
    /// MULTI_EXIT_DISC; none by default, so that the same prefix from several hosts is equal (ECMP, anycast).
    pub med: Option<u32>,
    /// LOCAL_PREF towards internal peers; 100 by default.
    pub local_pref: Option<u32>,
    /// Standard communities.
    pub communities: Vec<u32>,
    /// Extended communities.
    pub extended_communities: Vec<u64>,
    /// Large communities.
    pub large_communities: Vec<LargeCommunity>,
}

/// The whole set of routes we want to announce. Cheap to share, never changed in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSet {
    /// Sorted by prefix, each prefix once.
    routes: Vec<(Prefix, Arc<Origination>)>,
    /// More will come before this is all we have to say.
    partial: bool,
    /// They are about to go.
    leaving: bool,
}

impl RouteSet {
    /// The same routes, of which is known that others will follow: they are announced, but End-of-RIB waits for a set that is not
    /// partial. After a restart a peer keeps our former routes until End-of-RIB (RFC 4724 §4.2), so it must not come before all
    /// sources have been asked.
    #[must_use]
    pub fn partial(self) -> Self {
        Self { partial: true, ..self }
    }

    /// The same routes, of which is known that they are about to go: peers are asked to look elsewhere (RFC 8326 §4.2), as by
    /// `graceful_shutdown` of each of them.
    #[must_use]
    pub fn leaving(self) -> Self {
        Self { leaving: true, ..self }
    }

    /// Both; where they speak of the same prefix the second counts, and so it does for what is known of the whole.
    pub(crate) fn united(first: &Self, second: &Self) -> Self {
        let Self { partial, leaving, .. } = *second;
        let routes = first.routes.iter().chain(&second.routes).cloned();
        Self { partial, leaving, ..routes.collect() }
    }

    /// Whether they are about to go.
    pub const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether others will follow.
    pub const fn is_partial(&self) -> bool {
        self.partial
    }

    /// The routes, sorted by prefix.
    pub fn routes(&self) -> &[(Prefix, Arc<Origination>)] {
        &self.routes
    }
}

impl FromIterator<(Prefix, Arc<Origination>)> for RouteSet {
    /// Masks and sorts; of a prefix given twice the last one stands.
    fn from_iter<I: IntoIterator<Item = (Prefix, Arc<Origination>)>>(iter: I) -> Self {
        let mut routes: Vec<_> = iter.into_iter().map(|(p, o)| (p.trunc(), o)).collect();
        routes.sort_by_key(|(prefix, _)| *prefix);
        // Keep the last of equal prefixes: `dedup_by` drops its first argument, so swap before dropping.
        routes.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                std::mem::swap(next, kept);
            }
            same
        });
        Self { routes, partial: false, leaving: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_set_is_sorted_and_the_last_of_equals_stands() {
        let first = Arc::new(Origination::default());
        let second = Arc::new(Origination { med: Some(1), ..Origination::default() });
        let set: RouteSet = [
            ("192.0.2.2/32".parse().unwrap(), Arc::clone(&first)),
            ("192.0.2.1/32".parse().unwrap(), Arc::clone(&first)),
            ("192.0.2.2/32".parse().unwrap(), Arc::clone(&second)),
        ]
        .into_iter()
        .collect();
        let expected = [("192.0.2.1/32".parse().unwrap(), first), ("192.0.2.2/32".parse().unwrap(), second)];
        assert_eq!(set.routes(), expected);
    }
}
