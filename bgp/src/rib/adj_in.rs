//! Adj-RIB-In: what one peer has told us, after the import checks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::import::{ImportContext, Refused};
use crate::types::{Families, Family, Prefix};
use crate::wire::{Attributes, NextHop, Nlri, Treatment, Update};

/// How many refused routes are remembered with their reason, so that a full table behind a narrow prefix list costs nothing.
pub const REFUSED_KEPT: usize = 1000;

/// A way to reach a prefix, as a peer announced it. Shared with the [`LocRib`](super::LocRib).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Its attributes, as they are used here: with a LOCAL_PREF in any case.
    pub attributes: Arc<Attributes>,
    /// The next hop as it came.
    pub announced_next_hop: NextHop,
    /// Where to send packets.
    pub next_hop: IpAddr,
}

/// A path in use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    path: Arc<Path>,
    /// From before the peer restarted, or before it began a refresh, and not heard again since.
    stale: bool,
}

/// What one session has told us.
#[derive(Debug)]
pub struct AdjIn {
    context: ImportContext,
    paths: BTreeMap<Nlri, Entry>,
    /// Paths in use of each family.
    counts: [usize; 2],
    /// The reasons for what is not in `paths`, at most [`REFUSED_KEPT`].
    refused: BTreeMap<Nlri, Refused>,
    /// Routes refused since the session began; counts what `refused` has no room for.
    refused_total: u64,
    /// Families in which something was refused that a new policy may let pass.
    refused_in: Families,
}

/// What an UPDATE, or anything else, changed in an [`AdjIn`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Changes {
    /// Prefixes whose paths changed, sorted, each once.
    pub prefixes: Vec<Prefix>,
    /// The peer has sent everything it had for this family (RFC 4724 §2); what was stale is gone.
    pub end_of_rib: Option<Family>,
    /// The peer announced more than it may: Cease, subcode 1 (RFC 4486 §4).
    pub limit_exceeded: Option<LimitExceeded>,
}

impl Changes {
    fn sort(&mut self) {
        self.prefixes.sort_unstable();
        self.prefixes.dedup();
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A peer announced more routes than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the peer announced more than {max} {family} routes (max_prefixes)")]
pub struct LimitExceeded {
    /// The family.
    pub family: Family,
    /// The limit.
    pub max: u32,
}

impl AdjIn {
    /// A session that has just been established.
    pub fn new(context: ImportContext) -> Self {
        Self {
            context,
            paths: BTreeMap::new(),
            counts: [0; 2],
            refused: BTreeMap::new(),
            refused_total: 0,
            refused_in: Families::NONE,
        }
    }

    /// What decides which routes are used.
    pub fn context(&self) -> &ImportContext {
        &self.context
    }

    /// Takes in an UPDATE.
    pub fn update(&mut self, update: &Update) -> Changes {
        let mut changes = Changes::default();
        if let Some(family) = update.end_of_rib() {
            changes = self.flush_stale(family);
            changes.end_of_rib = Some(family);
            return changes;
        }
        // Withdrawals first: "an UPDATE message that contains the same address prefix in the WITHDRAWN ROUTES and Network Layer
        // Reachability Information … SHOULD be treated as though the WITHDRAWN ROUTES do not contain the address prefix" (RFC 4271
        // §4.3).
        let unreached = update.mp_unreach.iter().flat_map(|(_, nlri)| nlri);
        for nlri in update.withdrawn.iter().chain(unreached) {
            self.refused.remove(nlri);
            self.remove(nlri, &mut changes);
        }
        let body = update.next_hop.map(NextHop::V4);
        let reached = update.mp_reach.iter().map(|reach| (Some(reach.next_hop), &reach.nlri));
        for (next_hop, nlri) in [(body, &update.nlri)].into_iter().chain(reached) {
            if !nlri.is_empty() && self.announced(update, next_hop, nlri, &mut changes).is_break() {
                break;
            }
        }
        changes.sort();
        changes
    }

    fn announced(
        &mut self,
        update: &Update,
        next_hop: Option<NextHop>,
        nlri: &[Nlri],
        changes: &mut Changes,
    ) -> ControlFlow<()> {
        let path = self.path(update, next_hop).map(Arc::new);
        for nlri in nlri {
            let family = Family::of(&nlri.prefix);
            if !self.context.families.contains(family) {
                continue;
            }
            match path.clone().and_then(|path| self.context.permitted(&nlri.prefix).map(|()| path)) {
                Ok(path) => self.insert(*nlri, &path, changes),
                Err(reason) => self.refuse(*nlri, reason, changes),
            }
            if let Some(max) = self.context.max_prefixes
                && self.count(family) > max as usize
            {
                changes.limit_exceeded = Some(LimitExceeded { family, max });
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// What all prefixes of an UPDATE share.
    fn path(&self, update: &Update, next_hop: Option<NextHop>) -> Result<Path, Refused> {
        if update.treatment() == Some(Treatment::TreatAsWithdraw) {
            let worst = update.faults.iter().find(|fault| fault.treatment == Treatment::TreatAsWithdraw);
            return Err(Refused::Malformed(worst.map_or("", |fault| &fault.reason).into()));
        }
        let announced_next_hop = next_hop.ok_or_else(|| Refused::Malformed("NEXT_HOP is missing".into()))?;
        let attributes = Arc::new(self.context.attributes(&update.attributes)?);
        Ok(Path { attributes, announced_next_hop, next_hop: self.context.next_hop(announced_next_hop)? })
    }

    fn insert(&mut self, nlri: Nlri, path: &Arc<Path>, changes: &mut Changes) {
        self.refused.remove(&nlri);
        match self.paths.insert(nlri, Entry { path: Arc::clone(path), stale: false }) {
            Some(old) if old.path == *path => {}
            Some(_) => changes.prefixes.push(nlri.prefix),
            None => {
                *self.count_mut(Family::of(&nlri.prefix)) += 1;
                changes.prefixes.push(nlri.prefix);
            }
        }
    }

    /// A route that is refused replaces the one before all the same: the peer no longer offers that.
    fn refuse(&mut self, nlri: Nlri, reason: Refused, changes: &mut Changes) {
        self.remove(&nlri, changes);
        self.refused_total += 1;
        self.refused_in = self.refused_in.with(Family::of(&nlri.prefix));
        if self.refused.len() < REFUSED_KEPT || self.refused.contains_key(&nlri) {
            self.refused.insert(nlri, reason);
        }
    }

    fn remove(&mut self, nlri: &Nlri, changes: &mut Changes) {
        if self.paths.remove(nlri).is_some() {
            *self.count_mut(Family::of(&nlri.prefix)) -= 1;
            changes.prefixes.push(nlri.prefix);
        }
    }

    /// The session is gone for good: so is all it told us.
    pub fn clear(&mut self) -> Changes {
        let mut changes =
            Changes { prefixes: self.paths.keys().map(|nlri| nlri.prefix).collect(), ..Changes::default() };
        changes.sort();
        self.paths.clear();
        self.refused.clear();
        self.counts = [0; 2];
        changes
    }

    /// The session is gone but the peer still forwards: "MUST retain the routes received from the Restarting Speaker … and MUST mark
    /// these routes as stale" (RFC 4724 §4.2). Also how BoRR begins (RFC 7313 §4). Routes that were stale already go: "to deal with
    /// possible consecutive restarts, a route (from the peer) previously marked as stale MUST be deleted".
    pub fn mark_stale(&mut self, family: Family) -> Changes {
        let changes = self.flush_stale(family);
        for (_, entry) in self.paths.iter_mut().filter(|(nlri, _)| Family::of(&nlri.prefix) == family) {
            entry.stale = true;
        }
        changes
    }

    /// What is still stale is gone: at End-of-RIB, EoRR, or when the time is up.
    pub fn flush_stale(&mut self, family: Family) -> Changes {
        let is_gone = |nlri: &Nlri, entry: &mut Entry| entry.stale && Family::of(&nlri.prefix) == family;
        let gone: Vec<_> = self.paths.extract_if(.., is_gone).map(|(nlri, _)| nlri.prefix).collect();
        *self.count_mut(family) -= gone.len();
        let mut changes = Changes { prefixes: gone, ..Changes::default() };
        changes.sort();
        changes
    }

    /// Goes on with a new session of the same peer, keeping what is stale (RFC 4724 §4.2).
    pub fn resume(&mut self, context: ImportContext) {
        self.context = context;
        self.refused.clear();
        self.refused_total = 0;
        self.refused_in = Families::NONE;
    }

    /// Changes the policy of a session that stays up. What is no longer let through goes at once; in the families returned
    /// something had been refused that may be let through now: ask the peer for a refresh (RFC 2918).
    pub fn reconfigure(&mut self, context: ImportContext) -> (Changes, Families) {
        self.context = context;
        let mut changes = Changes::default();
        let refresh = std::mem::take(&mut self.refused_in);
        let checks = self.paths.iter().filter_map(|(nlri, entry)| {
            let again = self.context.attributes(&entry.path.attributes).map(drop);
            let verdict = again.and_then(|()| self.context.permitted(&nlri.prefix));
            verdict.err().map(|reason| (*nlri, reason))
        });
        for (nlri, reason) in checks.collect::<Vec<_>>() {
            self.refuse(nlri, reason, &mut changes);
        }
        for family in Family::ALL {
            if let Some(max) = self.context.max_prefixes
                && self.count(family) > max as usize
            {
                changes.limit_exceeded = Some(LimitExceeded { family, max });
            }
        }
        changes.sort();
        (changes, refresh)
    }

    /// The paths to `prefix` in use: at most one without ADD-PATH (RFC 7911).
    pub fn paths(&self, prefix: &Prefix) -> impl Iterator<Item = (Option<u32>, &Arc<Path>)> {
        let (first, last) =
            (Nlri { prefix: *prefix, path_id: None }, Nlri { prefix: *prefix, path_id: Some(u32::MAX) });
        self.paths.range(first..=last).map(|(nlri, entry)| (nlri.path_id, &entry.path))
    }

    /// Everything in use, sorted, and whether it is stale.
    pub fn iter(&self) -> impl Iterator<Item = (&Nlri, &Arc<Path>, bool)> {
        self.paths.iter().map(|(nlri, entry)| (nlri, &entry.path, entry.stale))
    }

    /// What is not in use and why, sorted; at most [`REFUSED_KEPT`].
    pub fn refused(&self) -> impl Iterator<Item = (&Nlri, &Refused)> {
        self.refused.iter()
    }

    /// How many announcements were refused since the session began.
    pub const fn refused_total(&self) -> u64 {
        self.refused_total
    }

    /// How many paths of `family` are in use.
    pub const fn count(&self, family: Family) -> usize {
        let [ipv4, ipv6] = self.counts;
        match family {
            Family::Ipv4 => ipv4,
            Family::Ipv6 => ipv6,
        }
    }

    const fn count_mut(&mut self, family: Family) -> &mut usize {
        let [ipv4, ipv6] = &mut self.counts;
        match family {
            Family::Ipv4 => ipv4,
            Family::Ipv6 => ipv6,
        }
    }
}
