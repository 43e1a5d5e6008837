//! Adj-RIB-In: what one peer has told us, after the import checks.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::import::{ImportContext, Refused};
use crate::octets::Octets;
use crate::policy::{LimitAction, community};
use crate::types::{Families, Family, PeerKind, Prefix};
use crate::wire::{self, Attributes, EncodeError, NextHop, Nlri, Treatment, Update, UpdateBuilder};

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

/// Why a route is not in use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RefusedEntry {
    reason: Refused,
    /// As of an [`Entry`]: it ages like those in use.
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
    refused: BTreeMap<Nlri, RefusedEntry>,
    /// Routes refused since the session began; counts what `refused` has no room for.
    refused_total: u64,
    /// Families in which something was refused that a new policy may let pass.
    refused_in: Families,
    /// Families the peer is sending once more (RFC 7313): what is stale there is so since BoRR, and no restart was the reason.
    refreshing: Families,
    /// Families of which has been said that the limit is near; again when the number was below half of that meanwhile.
    warned: Families,
    /// Families of which has been said that they are above it.
    above: Families,
}

/// What a session has told us and is not in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandedRefused {
    routes: Vec<(Prefix, Option<u32>, String)>,
    total: u64,
    families: Families,
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
    /// The peer announces nearly as much as it may, or more than that and the session is to stay all the same.
    pub limit_warning: Option<LimitWarning>,
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

/// A peer announces nearly as many routes as it may, or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitWarning {
    /// The family.
    pub family: Family,
    /// How many routes are in use.
    pub count: usize,
    /// How many may be.
    pub limit: u32,
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
            refreshing: Families::NONE,
            warned: Families::NONE,
            above: Families::NONE,
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
            // Between BoRR and EoRR it ends something else: RFC 7313 §4 keeps the two apart, "thereby avoiding any premature cleanup
            // of stale routes".
            if !self.refreshing.contains(family) {
                changes = self.flush_stale(family);
            }
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
                Err(reason) => self.refuse(*nlri, RefusedEntry { reason, stale: false }, changes),
            }
            self.check_limit(family, changes)?;
        }
        ControlFlow::Continue(())
    }

    /// Compares the number of routes of a family with its limit. A break: there are too many, and nothing more is to be taken.
    fn check_limit(&mut self, family: Family, changes: &mut Changes) -> ControlFlow<()> {
        let Some(max) = self.context.max_prefixes else { return ControlFlow::Continue(()) };
        let count = self.count(family);
        let (near, limit) = (max.warn_from() as usize, max.limit as usize);
        let first = |said: &mut Families, from: usize| {
            if count * 2 < from {
                *said = said.without(family);
            }
            let first = count >= from && !said.contains(family);
            if first {
                *said = said.with(family);
            }
            first
        };
        let warn = first(&mut self.warned, near) | first(&mut self.above, limit.saturating_add(1));
        if count > limit && max.action != LimitAction::WarnOnly {
            changes.limit_exceeded = Some(LimitExceeded { family, max: max.limit });
            return ControlFlow::Break(());
        }
        if warn {
            changes.limit_warning = Some(LimitWarning { family, count, limit: max.limit });
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
    fn refuse(&mut self, nlri: Nlri, entry: RefusedEntry, changes: &mut Changes) {
        self.remove(&nlri, changes);
        self.refused_total += 1;
        self.refused_in = self.refused_in.with(Family::of(&nlri.prefix));
        if self.refused.len() < REFUSED_KEPT || self.refused.contains_key(&nlri) {
            self.refused.insert(nlri, entry);
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
    /// these routes as stale" (RFC 4724 §4.2). Routes that were stale already go: "to deal with possible consecutive restarts, a
    /// route (from the peer) previously marked as stale MUST be deleted". Not so those of a refresh that was interrupted: the peer
    /// has only not come to repeat them.
    pub fn mark_stale(&mut self, family: Family) -> Changes {
        let twice = if self.refreshing.contains(family) { Changes::default() } else { self.flush_stale(family) };
        self.keep_stale(family);
        twice
    }

    /// The same, and what was stale already stays all the same (RFC 9494 §4.2).
    pub fn keep_stale(&mut self, family: Family) {
        let is_in = |nlri: &Nlri| Family::of(&nlri.prefix) == family;
        self.refreshing = self.refreshing.without(family);
        self.paths.iter_mut().filter(|(nlri, _)| is_in(nlri)).for_each(|(_, entry)| entry.stale = true);
        self.refused.iter_mut().filter(|(nlri, _)| is_in(nlri)).for_each(|(_, entry)| entry.stale = true);
    }

    /// The peer begins to send everything once more (BoRR, RFC 7313 §4): what it does not repeat until EoRR is gone. If it begins
    /// anew before it is done, nothing is lost.
    pub fn begin_refresh(&mut self, family: Family) {
        self.keep_stale(family);
        self.refreshing = self.refreshing.with(family);
    }

    /// The peer has sent everything once more (EoRR, RFC 7313 §4). One "received without a prior receipt of an associated BoRR" is
    /// ignored: what is stale then waits for End-of-RIB.
    pub fn end_refresh(&mut self, family: Family) -> Changes {
        if !self.refreshing.contains(family) {
            return Changes::default();
        }
        self.refreshing = self.refreshing.without(family);
        self.flush_stale(family)
    }

    /// The peer has not come back in its restart time, and what is stale stays as a last resort (RFC 9494 §4.2): it gets the
    /// LLGR_STALE community, and what carries NO_LLGR goes. A route that is announced again loses the mark with its old path.
    pub fn long_lived(&mut self, family: Family) -> Changes {
        let is_stale = |nlri: &Nlri, entry: &Entry| entry.stale && Family::of(&nlri.prefix) == family;
        let refuses = |entry: &Entry| entry.path.attributes.communities.contains(&community::NO_LLGR);
        let gone = self.paths.extract_if(.., |nlri, entry| is_stale(nlri, entry) && refuses(entry));
        let mut prefixes: Vec<_> = gone.map(|(nlri, _)| nlri.prefix).collect();
        *self.count_mut(family) -= prefixes.len();
        // Paths are shared, and stay so.
        let mut marked: HashMap<*const Path, (Arc<Path>, Arc<Path>)> = HashMap::new();
        for (nlri, entry) in self.paths.iter_mut().filter(|(nlri, entry)| is_stale(nlri, entry)) {
            if entry.path.attributes.communities.contains(&community::LLGR_STALE) {
                continue;
            }
            // The old one is kept until all are marked, so that its address is nobody else's.
            let (_, path) = marked.entry(Arc::as_ptr(&entry.path)).or_insert_with(|| {
                let mut path = Path::clone(&entry.path);
                Arc::make_mut(&mut path.attributes).communities.push(community::LLGR_STALE);
                (Arc::clone(&entry.path), Arc::new(path))
            });
            entry.path = Arc::clone(path);
            prefixes.push(nlri.prefix);
        }
        let mut changes = Changes { prefixes, ..Changes::default() };
        changes.sort();
        changes
    }

    /// What is still stale is gone, refused or not: at End-of-RIB, EoRR, or when the time is up.
    pub fn flush_stale(&mut self, family: Family) -> Changes {
        let is_in = |nlri: &Nlri| Family::of(&nlri.prefix) == family;
        self.refused.retain(|nlri, entry| !entry.stale || !is_in(nlri));
        let gone = self.paths.extract_if(.., |nlri, entry| entry.stale && is_in(nlri));
        let gone: Vec<_> = gone.map(|(nlri, _)| nlri.prefix).collect();
        *self.count_mut(family) -= gone.len();
        let mut changes = Changes { prefixes: gone, ..Changes::default() };
        changes.sort();
        changes
    }

    /// Goes on with a new session of the same peer, keeping what is stale (RFC 4724 §4.2).
    pub fn resume(&mut self, context: ImportContext) {
        self.context = context;
        self.refused_total = 0;
        self.refused_in = Families::NONE;
        (self.warned, self.above) = (Families::NONE, Families::NONE);
    }

    /// Whether nothing is being sent once more or waits to be.
    pub(crate) fn is_quiet(&self) -> bool {
        let stale = self.paths.values().any(|entry| entry.stale) || self.refused.values().any(|entry| entry.stale);
        self.refreshing.is_empty() && !stale
    }

    /// Everything in use as the UPDATEs by which the peer would say it, for another process.
    ///
    /// # Errors
    /// Something cannot be written within what the session has negotiated.
    pub(crate) fn updates(&self, context: &wire::Context) -> Result<Vec<Octets>, EncodeError> {
        let mut groups: Vec<(&Path, Family, Vec<Nlri>)> = Vec::new();
        let mut known: HashMap<(*const Path, Family), usize> = HashMap::new();
        for (nlri, entry) in &self.paths {
            let family = Family::of(&nlri.prefix);
            let group = *known.entry((Arc::as_ptr(&entry.path), family)).or_insert(groups.len());
            match groups.get_mut(group) {
                Some((_, _, members)) => members.push(*nlri),
                None => groups.push((&entry.path, family, vec![*nlri])),
            }
        }
        let mut builder = UpdateBuilder::new(context, context.max_len());
        let (mut messages, mut message) = (Vec::new(), BytesMut::new());
        for (path, family, members) in groups {
            let mut attributes = Attributes::clone(&path.attributes);
            if self.context.kind == PeerKind::Ebgp {
                // Ours, see [`ImportContext::attributes`]; no external peer sends it.
                attributes.local_pref = None;
            }
            builder.announce(family, &attributes, path.announced_next_hop)?;
            let mut finish = |builder: &mut UpdateBuilder| {
                builder.finish(&mut message);
                messages.push(Octets(message.split().to_vec()));
            };
            for nlri in members {
                if !builder.push(nlri) {
                    finish(&mut builder);
                    // It leaves room for the longest prefix, see [`UpdateBuilder::announce`].
                    let _ = builder.push(nlri);
                }
            }
            finish(&mut builder);
        }
        Ok(messages)
    }

    /// What is not in use, for another process.
    pub(crate) fn hand_over_refused(&self) -> HandedRefused {
        let entry = |(nlri, entry): (&Nlri, &RefusedEntry)| (nlri.prefix, nlri.path_id, entry.reason.to_string());
        HandedRefused {
            routes: self.refused.iter().map(entry).collect(),
            total: self.refused_total,
            families: self.refused_in,
        }
    }

    /// What another process did not use; besides what of its routes in use this version has refused already.
    pub(crate) fn adopt_refused(&mut self, handed: HandedRefused) {
        self.refused_total = self.refused_total.saturating_add(handed.total);
        self.refused_in = handed.families.iter().fold(self.refused_in, Families::with);
        for (prefix, path_id, reason) in handed.routes {
            let nlri = Nlri { prefix, path_id };
            if self.refused.len() < REFUSED_KEPT && !self.paths.contains_key(&nlri) {
                let reason = Refused::Before(reason.into());
                self.refused.entry(nlri).or_insert(RefusedEntry { reason, stale: false });
            }
        }
    }

    /// Changes the policy, of a session that stays up or for routes that wait for the peer's return. What is no longer let through
    /// goes at once; in the families returned something had been refused that may be let through now: ask the peer for a refresh
    /// (RFC 2918).
    pub fn reconfigure(&mut self, context: ImportContext) -> (Changes, Families) {
        self.context = context;
        let mut changes = Changes::default();
        let refresh = std::mem::take(&mut self.refused_in);
        let checks = self.paths.iter().filter_map(|(nlri, entry)| {
            let again = self.context.attributes(&entry.path.attributes).map(drop);
            let verdict = again.and_then(|()| self.context.permitted(&nlri.prefix));
            verdict.err().map(|reason| (*nlri, RefusedEntry { reason, stale: entry.stale }))
        });
        for (nlri, entry) in checks.collect::<Vec<_>>() {
            self.refuse(nlri, entry, &mut changes);
        }
        let _ = Family::ALL.into_iter().try_for_each(|family| self.check_limit(family, &mut changes));
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

    /// What is not in use and why, sorted, and whether it is stale; at most [`REFUSED_KEPT`].
    pub fn refused(&self) -> impl Iterator<Item = (&Nlri, &Refused, bool)> {
        self.refused.iter().map(|(nlri, entry)| (nlri, &entry.reason, entry.stale))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{MaxPrefixes, PrefixList};
    use crate::types::PeerKind;
    use crate::wire::{AsPath, Fault, MpReach, Origin};

    const PEER: u32 = 65001;

    fn context() -> ImportContext {
        let context = ImportContext::new(PeerKind::Ebgp, 65000, PEER, [192, 0, 2, 1].into(), Families::ALL);
        ImportContext { own_addresses: vec!["10.0.0.2".parse().unwrap()], ..context }
    }

    fn limited(rules: &[&str], max_prefixes: Option<MaxPrefixes>) -> ImportContext {
        let list = Arc::new(PrefixList::parse("in", rules).unwrap());
        ImportContext { prefix_list: Some(list), max_prefixes, ..context() }
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn nlri(prefixes: &[&str]) -> Vec<Nlri> {
        prefixes.iter().map(|p| Nlri { prefix: prefix(p), path_id: None }).collect()
    }

    fn attributes() -> Attributes {
        Attributes { origin: Some(Origin::Igp), as_path: Some(AsPath::sequence([PEER])), ..Attributes::default() }
    }

    fn announce(prefixes: &[&str]) -> Update {
        Update {
            attributes: attributes(),
            next_hop: Some([10, 0, 0, 1].into()),
            nlri: nlri(prefixes),
            ..Update::default()
        }
    }

    fn withdraw(prefixes: &[&str]) -> Update {
        Update { withdrawn: nlri(prefixes), ..Update::default() }
    }

    fn changed(prefixes: &[&str]) -> Changes {
        Changes { prefixes: prefixes.iter().map(|p| prefix(p)).collect(), ..Changes::default() }
    }

    fn in_use(adj_in: &AdjIn) -> Vec<String> {
        adj_in.iter().map(|(nlri, _, stale)| format!("{}{}", nlri.prefix, if stale { " stale" } else { "" })).collect()
    }

    #[test]
    fn announcements_come_change_and_go() {
        let mut adj_in = AdjIn::new(context());
        assert_eq!(adj_in.update(&announce(&["10.2.0.0/16", "10.1.0.0/16"])), changed(&["10.1.0.0/16", "10.2.0.0/16"]));
        assert_eq!(adj_in.update(&announce(&["10.1.0.0/16"])), changed(&[]), "the same again is no change");
        let mut other = announce(&["10.1.0.0/16"]);
        other.attributes.med = Some(1);
        assert_eq!(adj_in.update(&other), changed(&["10.1.0.0/16"]));
        assert_eq!(adj_in.paths(&prefix("10.1.0.0/16")).next().unwrap().1.attributes.med, Some(1));
        assert_eq!(adj_in.update(&withdraw(&["10.1.0.0/16", "10.9.0.0/16"])), changed(&["10.1.0.0/16"]));
        assert_eq!(adj_in.count(Family::Ipv4), 1);
        let both = Update { withdrawn: nlri(&["10.3.0.0/16"]), ..announce(&["10.3.0.0/16"]) };
        assert_eq!(adj_in.update(&both), changed(&["10.3.0.0/16"]), "announced and withdrawn is announced");
        assert_eq!(adj_in.clear(), changed(&["10.2.0.0/16", "10.3.0.0/16"]));
        assert_eq!((adj_in.count(Family::Ipv4), adj_in.iter().count()), (0, 0));
    }

    #[test]
    fn an_ipv4_default_may_come_with_a_link_local_next_hop() {
        let mut adj_in = AdjIn::new(context());
        let reach = MpReach {
            family: Family::Ipv4,
            next_hop: NextHop::V6Pair("fe80::1".parse().unwrap(), "fe80::1".parse().unwrap()),
            nlri: nlri(&["0.0.0.0/0"]),
        };
        // A real NEXT_HOP beside it belongs to the (empty) body and says nothing about the prefix.
        let update = Update {
            mp_reach: Some(reach),
            next_hop: Some([10, 9, 9, 9].into()),
            attributes: attributes(),
            ..Update::default()
        };
        assert_eq!(adj_in.update(&update), changed(&["0.0.0.0/0"]));
        let (_, path) = adj_in.paths(&prefix("0.0.0.0/0")).next().unwrap();
        assert_eq!(path.next_hop, "fe80::1".parse::<IpAddr>().unwrap());
        let gone = Update { mp_unreach: Some((Family::Ipv4, nlri(&["0.0.0.0/0"]))), ..Update::default() };
        assert_eq!(adj_in.update(&gone), changed(&["0.0.0.0/0"]));
    }

    #[test]
    fn refused_routes_are_kept_with_their_reason() {
        let mut adj_in = AdjIn::new(limited(&["permit 0.0.0.0/0"], None));
        let changes = adj_in.update(&announce(&["0.0.0.0/0", "10.0.0.0/8"]));
        assert_eq!(changes, changed(&["0.0.0.0/0"]));
        let reasons: Vec<_> = adj_in.refused().map(|(nlri, why, _)| format!("{}: {why}", nlri.prefix)).collect();
        assert_eq!(reasons, ["10.0.0.0/8: prefix list `in` denies it"]);
        // What was fine and is no longer is withdrawn.
        let mut looped = announce(&["0.0.0.0/0"]);
        looped.attributes.as_path = Some(AsPath::sequence([PEER, 65000]));
        assert_eq!(adj_in.update(&looped), changed(&["0.0.0.0/0"]));
        assert_eq!((in_use(&adj_in).len(), adj_in.refused().count(), adj_in.refused_total()), (0, 2, 2));
        assert_eq!(adj_in.update(&announce(&["0.0.0.0/0"])), changed(&["0.0.0.0/0"]));
        let _ = adj_in.update(&withdraw(&["10.0.0.0/8"]));
        assert_eq!(adj_in.refused().count(), 0, "accepted and withdrawn routes are refused no more");
        let full: Vec<_> = (0..2 * REFUSED_KEPT).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
        let _ = adj_in.update(&announce(&full.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!((adj_in.refused().count(), adj_in.refused_total()), (REFUSED_KEPT, 2002));
    }

    #[test]
    fn a_malformed_update_withdraws_what_it_announces() {
        let mut adj_in = AdjIn::new(context());
        let _ = adj_in.update(&announce(&["10.1.0.0/16"]));
        let fault =
            |treatment| Fault { offset: 30, attribute: Some(1), reason: "ORIGIN has value 7".into(), treatment };
        let malformed = Update { faults: vec![fault(Treatment::TreatAsWithdraw)], ..announce(&["10.1.0.0/16"]) };
        assert_eq!(adj_in.update(&malformed), changed(&["10.1.0.0/16"]));
        let (_, reason, _) = adj_in.refused().next().unwrap();
        assert_eq!(reason.to_string(), "its UPDATE is malformed: ORIGIN has value 7");
        let discarded = Update { faults: vec![fault(Treatment::AttributeDiscard)], ..announce(&["10.1.0.0/16"]) };
        assert_eq!(adj_in.update(&discarded), changed(&["10.1.0.0/16"]));
    }

    #[test]
    fn too_many_prefixes_are_reported() {
        let mut adj_in = AdjIn::new(limited(&["permit 10.0.0.0/8 le 32"], Some(MaxPrefixes::new(2))));
        // Only what is in use counts.
        let changes = adj_in.update(&announce(&["10.1.0.0/16", "11.0.0.0/8", "12.0.0.0/8", "10.2.0.0/16"]));
        assert_eq!(changes.limit_exceeded, None);
        let changes = adj_in.update(&announce(&["10.3.0.0/16"]));
        assert_eq!(changes.limit_exceeded, Some(LimitExceeded { family: Family::Ipv4, max: 2 }));
    }

    #[test]
    fn a_restarting_peer_keeps_its_routes_until_end_of_rib() {
        let mut adj_in = AdjIn::new(context());
        let _ = adj_in.update(&announce(&["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]));
        assert!(adj_in.mark_stale(Family::Ipv4).is_empty(), "nothing changes while it is away");
        adj_in.resume(context());
        assert!(adj_in.update(&announce(&["10.1.0.0/16"])).is_empty(), "heard again");
        assert_eq!(in_use(&adj_in), ["10.1.0.0/16", "10.2.0.0/16 stale", "10.3.0.0/16 stale"]);
        // It restarts once more before it is done: what was stale goes, what it had confirmed is stale.
        assert_eq!(adj_in.mark_stale(Family::Ipv4), changed(&["10.2.0.0/16", "10.3.0.0/16"]));
        adj_in.resume(context());
        let _ = adj_in.update(&announce(&["10.4.0.0/16"]));
        let end_of_rib = adj_in.update(&Update::default());
        assert_eq!(end_of_rib, Changes { end_of_rib: Some(Family::Ipv4), ..changed(&["10.1.0.0/16"]) });
        assert_eq!(in_use(&adj_in), ["10.4.0.0/16"]);
        assert_eq!(adj_in.count(Family::Ipv4), 1);
        let other_family = Update { mp_unreach: Some((Family::Ipv6, vec![])), ..Update::default() };
        assert_eq!(adj_in.update(&other_family).end_of_rib, Some(Family::Ipv6));
    }

    #[test]
    fn long_lived_stale_routes_are_marked_or_go() {
        let mut adj_in = AdjIn::new(context());
        let _ = adj_in.update(&announce(&["10.1.0.0/16", "10.2.0.0/16"]));
        let mut short = announce(&["10.3.0.0/16"]);
        short.attributes.communities = vec![community::NO_LLGR];
        let _ = adj_in.update(&short);
        let _ = adj_in.mark_stale(Family::Ipv4);
        assert!(adj_in.long_lived(Family::Ipv6).is_empty(), "the other family");
        assert_eq!(adj_in.long_lived(Family::Ipv4), changed(&["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]));
        assert_eq!(in_use(&adj_in), ["10.1.0.0/16 stale", "10.2.0.0/16 stale"]);
        assert_eq!(adj_in.count(Family::Ipv4), 2);
        let paths: Vec<_> = adj_in.iter().map(|(_, path, _)| Arc::clone(path)).collect();
        assert!(paths.iter().all(|path| path.attributes.communities == [community::LLGR_STALE]));
        assert!(Arc::ptr_eq(&paths[0], &paths[1]), "what was shared is shared");
        assert!(adj_in.long_lived(Family::Ipv4).is_empty(), "once is enough");
        adj_in.resume(context());
        assert_eq!(adj_in.update(&announce(&["10.1.0.0/16"])), changed(&["10.1.0.0/16"]), "fresh again");
        assert_eq!(adj_in.update(&Update::default()).prefixes, changed(&["10.2.0.0/16"]).prefixes);
    }

    #[test]
    fn a_refresh_drops_what_is_not_repeated() {
        let mut adj_in = AdjIn::new(context());
        let _ = adj_in.update(&announce(&["10.1.0.0/16", "10.2.0.0/16"]));
        adj_in.begin_refresh(Family::Ipv4);
        let _ = adj_in.update(&announce(&["10.1.0.0/16"]));
        // It begins anew before it is done.
        adj_in.begin_refresh(Family::Ipv4);
        assert_eq!(in_use(&adj_in), ["10.1.0.0/16 stale", "10.2.0.0/16 stale"]);
        let _ = adj_in.update(&announce(&["10.2.0.0/16"]));
        assert_eq!(adj_in.end_refresh(Family::Ipv4), changed(&["10.1.0.0/16"]));
        assert_eq!(in_use(&adj_in), ["10.2.0.0/16"]);
    }

    #[test]
    fn end_of_rib_and_the_end_of_a_refresh_do_not_stand_for_each_other() {
        let mut adj_in = AdjIn::new(context());
        let _ = adj_in.update(&announce(&["10.1.0.0/16", "10.2.0.0/16"]));
        adj_in.begin_refresh(Family::Ipv4);
        assert_eq!(adj_in.update(&Update::default()).prefixes, [], "the initial End-of-RIB, within a refresh");
        // The peer restarts before it is done: nothing was stale for a restart before.
        assert_eq!(adj_in.mark_stale(Family::Ipv4), changed(&[]));
        adj_in.resume(context());
        assert_eq!(adj_in.end_refresh(Family::Ipv4), changed(&[]), "no refresh has begun on this session");
        let _ = adj_in.update(&announce(&["10.2.0.0/16"]));
        assert_eq!(adj_in.update(&Update::default()).prefixes, changed(&["10.1.0.0/16"]).prefixes);
    }

    fn refused(adj_in: &AdjIn) -> Vec<String> {
        adj_in.refused().map(|(n, _, stale)| format!("{}{}", n.prefix, if stale { " stale" } else { "" })).collect()
    }

    #[test]
    fn what_is_refused_ages_like_what_is_in_use() {
        let policy = || limited(&["permit 10.0.0.0/8 le 32"], None);
        let mut adj_in = AdjIn::new(policy());
        let _ = adj_in.update(&announce(&["11.1.0.0/16", "11.2.0.0/16", "11.3.0.0/16"]));
        // By a refresh.
        adj_in.begin_refresh(Family::Ipv4);
        let _ = adj_in.update(&announce(&["11.1.0.0/16", "11.2.0.0/16"]));
        assert_eq!(refused(&adj_in), ["11.1.0.0/16", "11.2.0.0/16", "11.3.0.0/16 stale"]);
        assert_eq!(adj_in.end_refresh(Family::Ipv6), changed(&[]));
        assert_eq!(adj_in.end_refresh(Family::Ipv4), changed(&[]), "nobody used it");
        assert_eq!(refused(&adj_in), ["11.1.0.0/16", "11.2.0.0/16"]);
        // By a restart.
        let _ = adj_in.mark_stale(Family::Ipv4);
        adj_in.resume(policy());
        let _ = adj_in.update(&announce(&["11.2.0.0/16"]));
        assert_eq!(refused(&adj_in), ["11.1.0.0/16 stale", "11.2.0.0/16"]);
        let _ = adj_in.update(&Update::default());
        assert_eq!(refused(&adj_in), ["11.2.0.0/16"]);
    }

    #[test]
    fn a_new_policy_holds_for_stale_routes_too() {
        let mut adj_in = AdjIn::new(context());
        let _ = adj_in.update(&announce(&["10.1.0.0/16", "10.2.0.0/16"]));
        let _ = adj_in.mark_stale(Family::Ipv4);
        let narrow = || limited(&["permit 10.1.0.0/16"], None);
        assert_eq!(adj_in.reconfigure(narrow()).0, changed(&["10.2.0.0/16"]));
        assert_eq!(
            (in_use(&adj_in), refused(&adj_in)),
            (vec!["10.1.0.0/16 stale".into()], vec!["10.2.0.0/16 stale".into()])
        );
        // The peer does not have it any more: no trace is left of it.
        adj_in.resume(narrow());
        assert_eq!(adj_in.update(&Update::default()).prefixes, changed(&["10.1.0.0/16"]).prefixes);
        assert_eq!((in_use(&adj_in).len(), refused(&adj_in).len()), (0, 0));
    }

    #[test]
    fn a_new_policy_drops_at_once_and_asks_for_what_it_refused() {
        let mut adj_in = AdjIn::new(limited(&["permit 10.0.0.0/8 le 16"], None));
        let _ = adj_in.update(&announce(&["10.1.0.0/16", "10.2.0.0/16"]));
        let (changes, refresh) = adj_in.reconfigure(limited(&["permit 10.1.0.0/16"], None));
        assert_eq!((changes, refresh), (changed(&["10.2.0.0/16"]), Families::NONE), "nothing was refused before");
        let (changes, refresh) = adj_in.reconfigure(context());
        assert_eq!((changes, refresh), (changed(&[]), Families::NONE.with(Family::Ipv4)), "now something was");
    }

    #[test]
    fn families_that_were_not_negotiated_are_ignored() {
        let ipv6 = Families::NONE.with(Family::Ipv6);
        let mut adj_in = AdjIn::new(ImportContext { families: ipv6, ..context() });
        assert!(adj_in.update(&announce(&["10.1.0.0/16"])).is_empty());
        assert_eq!(adj_in.refused().count(), 0);
    }
}
