//! Adj-RIB-Out: what one peer has been told, what it should be told, and the messages in between.
//!
//! ```text
//!  set(routes) ──▶ wanted ─┐
//!                          ├─ differs? ─▶ pending (indices, by attributes) ─┐
//!  fill(out)  ◀── sent   ──┘              withdrawals (prefixes) ───────────┴─▶ whole messages, on demand
//! ```
//!
//! Nothing queues: what waits is the difference between two states, so that a slow peer costs no memory, and routes that come and
//! go meanwhile collapse to what holds last. Routes live in the [`RouteSet`] all peers share; here are eight octets for each, and
//! four more while it waits.
//!
//! Comparing two sets takes time by their length. The difference between the last two, found once, is all that a peer needs which
//! has been told everything of the first: see [`AdjOut::advance`].

mod fill;
mod groups;
mod hand_over;

use std::sync::Arc;

use groups::{AGAIN, Group, GroupId, Groups, NONE};

use super::difference::{Difference, Kind};
use super::export::{ExportContext, NotExported};
use super::{Origination, RouteSet};
use crate::types::{Families, Family, Prefix};
use crate::wire::{Attributes, NextHop};

/// With more groups than that, a difference is not worth while: the numbers of all of them have to be found again. It also bounds how
/// many nothing refers to any more, which only a comparison leaves behind.
const MANY_GROUPS: usize = 64;

/// What one established session has been told of our routes, and what it is still to be told.
#[derive(Debug)]
pub struct AdjOut {
    context: ExportContext,
    /// What is to be announced; `None` until it is known for the first time: "no data" is not "no routes".
    routes: Option<Arc<RouteSet>>,
    /// One for each of `routes`.
    states: Vec<State>,
    /// What [`GroupId`]s refer to.
    groups: Vec<Group>,
    families: PerFamily,
}

/// One route of the set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// What it should be announced with.
    wanted: GroupId,
    /// What it was last announced with.
    sent: GroupId,
}

impl State {
    const fn is_pending(self) -> bool {
        self.wanted != self.sent
    }
}

/// What is left to be done for one family.
#[derive(Debug, Default)]
struct FamilyOut {
    /// Prefixes to withdraw, sorted, with what they are announced with. None of them is announced by `states`.
    withdrawals: Vec<(Prefix, GroupId)>,
    /// How many of them are gone already.
    withdrawn: usize,
    /// Indices of `routes` to announce: by group, then by prefix.
    pending: Vec<u32>,
    /// How many of them are sent.
    announced: usize,
    /// How many routes the peer has.
    held: usize,
    /// End-of-RIB was sent (RFC 4724 §2).
    complete: bool,
    /// The peer asked for everything once more; the answer begins when nothing else is going on.
    refresh_asked: bool,
    /// EoRR is to be sent once everything is.
    end_due: bool,
}

impl FamilyOut {
    fn withdrawals_left(&self) -> &[(Prefix, GroupId)] {
        self.withdrawals.get(self.withdrawn..).unwrap_or_default()
    }

    fn pending_left(&self) -> &[u32] {
        self.pending.get(self.announced..).unwrap_or_default()
    }

    /// Whether there is nothing to send. End-of-RIB does not follow a partial set.
    fn is_idle(&self, partial: bool) -> bool {
        (self.complete || partial)
            && !(self.refresh_asked || self.end_due)
            && self.withdrawals_left().is_empty()
            && self.pending_left().is_empty()
    }
}

#[derive(Debug, Default)]
struct PerFamily {
    ipv4: FamilyOut,
    ipv6: FamilyOut,
}

impl PerFamily {
    const fn of(&self, family: Family) -> &FamilyOut {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    const fn of_mut(&mut self, family: Family) -> &mut FamilyOut {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }

    fn of_prefix(&mut self, prefix: &Prefix) -> &mut FamilyOut {
        self.of_mut(Family::of(prefix))
    }
}

/// How much of one family a peer has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Routes the peer has: announced and not yet withdrawn.
    pub advertised: usize,
    /// Announcements still to be sent.
    pub pending: usize,
    /// Withdrawals still to be sent.
    pub withdrawals: usize,
    /// End-of-RIB was sent.
    pub complete: bool,
}

/// How one prefix stands with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The peer has it as it should be.
    Advertised,
    /// To be announced, for the first time or with other attributes.
    Pending,
    /// The peer still has it; to be withdrawn.
    Withdrawing,
    /// The peer is not told, and why.
    NotExported(NotExported),
    /// Not a route of ours.
    NotOurs,
}

impl AdjOut {
    /// A session that has just been established. It is told nothing before the first [`AdjOut::set`].
    pub fn new(context: ExportContext) -> Self {
        Self { context, routes: None, states: Vec::new(), groups: Vec::new(), families: PerFamily::default() }
    }

    /// What decides what the peer is told.
    pub fn context(&self) -> &ExportContext {
        &self.context
    }

    /// Families whose End-of-RIB was sent.
    pub(crate) fn end_of_rib_sent(&self) -> Families {
        Family::ALL.into_iter().filter(|family| self.families.of(*family).complete).collect()
    }

    /// Replaces what is to be announced. May be called while the last difference is still being sent.
    pub fn set(&mut self, routes: Arc<RouteSet>) {
        if !self.routes.as_ref().is_some_and(|known| Arc::ptr_eq(known, &routes)) {
            self.compare(routes);
        }
    }

    /// Whether the peer has been told all of `routes`, and nothing else is to be announced.
    pub fn is_told(&self, routes: &Arc<RouteSet>) -> bool {
        let idle = |out: &FamilyOut| out.withdrawals_left().is_empty() && out.pending_left().is_empty();
        self.routes.as_ref().is_some_and(|known| Arc::ptr_eq(known, routes))
            && idle(&self.families.ipv4)
            && idle(&self.families.ipv6)
    }

    /// Like [`AdjOut::set`] with the second set of a difference; takes time by what differs, if the peer has been told the first.
    pub fn advance(&mut self, difference: &Difference) {
        let Difference { from, to, edits } = difference;
        if !self.is_told(from) || from.is_leaving() || to.is_leaving() || self.groups.len() > MANY_GROUPS {
            return self.set(Arc::clone(to));
        }
        let mut groups = Groups::continued(&self.context, std::mem::take(&mut self.groups));
        let mut states = Vec::with_capacity(to.routes().len());
        let mut rest = &self.states[..];
        for edit in edits {
            // What is the same in both sets is as it was.
            let (same, after) = rest.split_at_checked(edit.from - (self.states.len() - rest.len())).unwrap_or_default();
            states.extend_from_slice(same);
            rest = after;
            let old = if edit.kind == Kind::New { None } else { rest.split_off_first() };
            let sent = old.map_or(NONE, |state| state.sent);
            let (routes, index) = if edit.kind == Kind::Gone { (from, edit.from) } else { (to, edit.to) };
            let Some((prefix, route)) = routes.routes().get(index) else { continue };
            let out = self.families.of_prefix(prefix);
            let wanted = if edit.kind == Kind::Gone { NONE } else { groups.wanted(prefix, route) };
            let mut state = State { wanted, sent };
            if wanted == NONE && sent != NONE {
                out.withdrawals.push((*prefix, sent));
                state = State::default();
            } else if state.is_pending() {
                out.pending.push(u32::try_from(states.len()).unwrap_or(u32::MAX));
            }
            if edit.kind != Kind::Gone {
                states.push(state);
            }
        }
        states.extend_from_slice(rest);
        self.families.ipv4.order(&states);
        self.families.ipv6.order(&states);
        self.groups = groups.list;
        self.states = states;
        self.routes = Some(Arc::clone(to));
    }

    fn compare(&mut self, routes: Arc<RouteSet>) {
        let leaving = routes.is_leaving().then(|| ExportContext { graceful_shutdown: true, ..self.context.clone() });
        let mut groups = Groups::new(leaving.as_ref().unwrap_or(&self.context), &self.groups);
        let mut states = Vec::with_capacity(routes.routes().len());
        let mut families =
            PerFamily { ipv4: self.families.ipv4.without_routes(), ipv6: self.families.ipv6.without_routes() };
        // Both sides are sorted: one pass over them finds what is new, what stays and what is gone.
        let mut view = self.view().peekable();
        for (prefix, route) in routes.routes() {
            while let Some((gone, sent)) = view.next_if(|(known, _)| known < prefix) {
                families.of_prefix(&gone).withdraw(gone, groups.renumber(sent));
            }
            let sent = view.next_if(|(known, _)| known == prefix).map_or(NONE, |(_, sent)| groups.renumber(sent));
            let wanted = groups.wanted(prefix, route);
            let out = families.of_prefix(prefix);
            if wanted == NONE && sent != NONE {
                out.withdraw(*prefix, sent);
                states.push(State::default());
                continue;
            }
            let state = State { wanted, sent };
            if state.is_pending() {
                out.pending.push(u32::try_from(states.len()).unwrap_or(u32::MAX));
            }
            out.held += usize::from(sent != NONE);
            states.push(state);
        }
        for (gone, sent) in view {
            families.of_prefix(&gone).withdraw(gone, groups.renumber(sent));
        }
        families.ipv4.order(&states);
        families.ipv6.order(&states);
        self.groups = groups.list;
        self.states = states;
        self.families = families;
        self.routes = Some(routes);
    }

    /// Sends one family once more, as the peer asked (RFC 2918 §4).
    pub fn refresh(&mut self, family: Family) {
        if self.context.context.families.contains(family) {
            self.families.of_mut(family).refresh_asked = true;
        }
    }

    /// Changes what decides what the peer is told, on a session that stays up; sends only what differs.
    pub fn reconfigure(&mut self, context: ExportContext) {
        self.context = context;
        if let Some(routes) = self.routes.clone() {
            self.compare(routes);
        }
    }

    /// Whether [`AdjOut::fill`] has something to say.
    pub fn pending(&self) -> bool {
        let Some(routes) = &self.routes else { return false };
        self.context.context.families.iter().any(|f| !self.families.of(f).is_idle(routes.is_partial()))
    }

    /// Whether the peer has been told of `prefix`, and not yet to forget it.
    pub fn advertised(&self, prefix: &Prefix) -> bool {
        let withdrawals = self.families.of(Family::of(prefix)).withdrawals_left();
        self.state(prefix).is_some_and(|state| state.sent != NONE)
            || withdrawals.binary_search_by_key(prefix, |(known, _)| *known).is_ok()
    }

    /// How `prefix` stands with this peer, and why.
    pub fn status(&self, prefix: &Prefix) -> Status {
        let Some((state, route)) = self.state(prefix).zip(self.route(prefix)) else {
            return if self.advertised(prefix) { Status::Withdrawing } else { Status::NotOurs };
        };
        match (state.wanted, self.context.export(prefix, route)) {
            (NONE, _) if self.advertised(prefix) => Status::Withdrawing,
            (NONE, Err(reason)) => Status::NotExported(reason),
            _ if state.wanted == state.sent & !AGAIN => Status::Advertised,
            _ => Status::Pending,
        }
    }

    /// How much of `family` the peer has been told.
    pub fn counts(&self, family: Family) -> Counts {
        let out = self.families.of(family);
        Counts {
            advertised: out.held,
            pending: out.pending_left().len(),
            withdrawals: out.withdrawals_left().len(),
            complete: out.complete,
        }
    }

    /// What the peer has been told, sorted by prefix.
    pub fn routes(&self) -> impl Iterator<Item = (Prefix, &Attributes, NextHop)> {
        self.view().filter_map(|(prefix, sent)| {
            let group = groups::get(&self.groups, sent)?;
            Some((prefix, &*group.attributes, group.next_hop))
        })
    }

    /// Octets of heap this peer costs, without the shared routes.
    pub fn heap_size(&self) -> usize {
        let family = |out: &FamilyOut| {
            out.withdrawals.capacity() * size_of::<(Prefix, GroupId)>() + out.pending.capacity() * size_of::<u32>()
        };
        self.states.capacity() * size_of::<State>()
            + self.groups.capacity() * (size_of::<Group>() + size_of::<Attributes>())
            + family(&self.families.ipv4)
            + family(&self.families.ipv6)
    }

    /// What the peer has, sorted by prefix: what was announced, and what is still to be withdrawn.
    fn view(&self) -> impl Iterator<Item = (Prefix, GroupId)> {
        let routes = self.routes.as_deref().map_or(&[][..], RouteSet::routes);
        let held = routes.iter().zip(&self.states).filter(|(_, state)| state.sent != NONE);
        // IPv4 sorts before IPv6.
        let leaving = self.families.ipv4.withdrawals_left().iter().chain(self.families.ipv6.withdrawals_left());
        merge(held.map(|((prefix, _), state)| (*prefix, state.sent)), leaving.copied())
    }

    fn position(&self, prefix: &Prefix) -> Option<usize> {
        self.routes.as_ref()?.routes().binary_search_by_key(prefix, |(known, _)| *known).ok()
    }

    fn state(&self, prefix: &Prefix) -> Option<State> {
        self.states.get(self.position(prefix)?).copied()
    }

    fn route(&self, prefix: &Prefix) -> Option<&Origination> {
        self.routes.as_ref()?.routes().get(self.position(prefix)?).map(|(_, route)| &**route)
    }
}

impl FamilyOut {
    /// What goes on whatever the routes are.
    fn without_routes(&self) -> Self {
        Self { complete: self.complete, refresh_asked: self.refresh_asked, end_due: self.end_due, ..Self::default() }
    }

    fn withdraw(&mut self, prefix: Prefix, sent: GroupId) {
        self.withdrawals.push((prefix, sent));
        self.held += 1;
    }

    /// Puts together what goes into the same UPDATE.
    fn order(&mut self, states: &[State]) {
        self.pending.sort_by_key(|index| states.get(*index as usize).map(|state| state.wanted));
        self.pending.shrink_to_fit();
        self.withdrawals.shrink_to_fit();
    }
}

/// Two sorted sequences without common prefixes as one.
fn merge<T>(
    a: impl Iterator<Item = (Prefix, T)>,
    b: impl Iterator<Item = (Prefix, T)>,
) -> impl Iterator<Item = (Prefix, T)> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some((left, _)), Some((right, _))) if right < left => b.next(),
        (Some(_), _) => a.next(),
        (None, _) => b.next(),
    })
}

#[cfg(test)]
mod tests;
