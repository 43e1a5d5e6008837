//! When to recompute, observe, retry and audit; no IO.
//!
//! ```text
//!            Northbound, facts, configuration changed            kernel or OVS changed      timer: retry, audit
//!                             │                                          │                        │
//!                             ▼                                          ▼                        ▼
//!   idle ──▶ Compute ──▶ (Observe) ──▶ Announce(keep) ──▶ Apply(wire) ──▶ Announce(all that stands) ──▶ Apply(unwire) ──▶ idle
//! ```
//!
//! [`Reconciler::next`] says the next [`Step`]; the edge does it and answers with [`Reconciler::computed`], [`observed`] or
//! [`applied`]. One pass runs at a time; what arrives meanwhile is one more pass afterwards, however much it was.
//!
//! Until the Northbound database has been read completely nothing of OVN is concluded from what is missing: nothing is removed, and
//! beside the host's own prefixes only that is announced which rows say that have been read ([`Reconciler::set_partial`]).
//! Afterwards a database that is away changes nothing.
//!
//! [`observed`]: Reconciler::observed
//! [`applied`]: Reconciler::applied

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::desired::wiring::{Key, Spec};
use crate::desired::{Delta, Desired};
use crate::diff::{Diff, Op, diff, diff_of};
use crate::plan::{Finish, Plan, Routes};

/// The first wait after a failure; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait between retries.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// After a restart neighbours keep our former routes until we have said everything (RFC 4724 §4.2), and the former wiring may forward
/// all the same. So while something cannot be wired at first, mostly because a switch restarts as well, they are not told so for this
/// long: the withdrawal of everything that waits for it would be a loss that nothing calls for.
const FIRST_WIRING: Duration = Duration::from_secs(10);
/// Changes of the kernel by somebody else come in bursts (a flushed table, a link flap); look once when it is over, but well
/// before anybody notices.
const SETTLE: Duration = Duration::from_millis(15);

/// What the edge has to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Compute the desired state from the current rows and facts, then call [`Reconciler::computed`]; or, where
    /// [`Reconciler::may_update`], bring the last one up to date by [`Reconciler::update`].
    Compute,
    /// Read what is in the kernel and on the bridges, then call [`Reconciler::observed`].
    Observe,
    /// Hand these prefixes to the speaker (the whole set).
    Announce {
        /// The prefixes.
        prefixes: Arc<BTreeSet<IpNet>>,
        /// Whether this is all we have to say, so that End-of-RIB may follow (RFC 4724 §3): after a restart a peer keeps our
        /// old routes until then.
        complete: bool,
        /// They are about to be withdrawn: neighbours are asked to look elsewhere first (RFC 8326).
        leaving: bool,
    },
    /// Do these operations in order, then call [`Reconciler::applied`] with those that failed.
    Apply(Vec<Op>),
}

/// Where a pass stands.
#[derive(Debug)]
enum Phase {
    Idle,
    Computing,
    Observing,
    /// The first half is with the edge.
    Wiring(Box<Plan>, Vec<Op>),
    /// The second half is about to be announced, then unwired.
    Announcing(Box<Finish>),
    Unwiring(Vec<Op>),
}

/// The state of the reconcile loop.
#[derive(Debug)]
pub struct Reconciler {
    audit_interval: Duration,
    phase: Phase,
    /// Steps that were decided and wait to be fetched.
    queue: Vec<Step>,
    dirty: bool,
    /// Whether the rows and facts may be used: the first dumps were complete, perhaps of a part of the rows. Never set back.
    sighted: bool,
    /// Other rows are still to come.
    partial: bool,
    /// There is no `[ovn]` section: nothing to wait for.
    plain: bool,
    desired: Arc<Desired>,
    /// The desired state was computed once, and what is there agrees with it as far as we know: what follows may be small.
    settled: bool,
    host_routes: BTreeSet<IpNet>,
    host: Host,
    first: First,
    actual: BTreeMap<Key, Spec>,
    /// `None` until the first observation.
    observe_at: Option<Instant>,
    audit_at: Option<Instant>,
    retry_at: Option<Instant>,
    retries: u32,
    announced: Routes,
    last_told: Option<Told>,
    failed: BTreeMap<Key, String>,
    held_back: Routes,
    /// Something of ours could not be removed.
    unwire_failed: bool,
    drain: Drain,
    passes: u64,
}

/// What the speaker was told last: the parts of a [`Step::Announce`].
type Told = (Arc<BTreeSet<IpNet>>, bool, bool);

/// How it stands with the first wiring of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Ahead,
    /// Until then something that fails is no reason to say that the rest is all.
    Until(Instant),
    Over,
}

impl First {
    const fn until(self) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(at),
            Self::Ahead | Self::Over => None,
        }
    }
}

/// What is known of the host's own prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    /// There may be none.
    Unasked,
    /// There may be some, but they cannot be read.
    Unread,
    /// They were read once.
    Known,
}

/// Whether, and how far, traffic is being moved away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    No,
    /// Neighbours are asked to look elsewhere; withdrawn when the time has come.
    Asked {
        until: Instant,
    },
    Withdrawn,
}

impl Reconciler {
    /// A reconciler that has seen nothing. `ovn` says whether there is an `[ovn]` section at all.
    pub fn new(ovn: bool, audit_interval: Duration) -> Self {
        Self {
            audit_interval,
            phase: Phase::Idle,
            queue: Vec::new(),
            dirty: true,
            sighted: false,
            partial: false,
            plain: !ovn,
            desired: Arc::default(),
            settled: false,
            host_routes: BTreeSet::new(),
            host: Host::Unasked,
            first: First::Ahead,
            actual: BTreeMap::new(),
            observe_at: None,
            audit_at: None,
            retry_at: None,
            retries: 0,
            announced: Routes::new(),
            last_told: None,
            failed: BTreeMap::new(),
            held_back: Routes::new(),
            unwire_failed: false,
            drain: Drain::No,
            passes: 0,
        }
    }

    /// Rows, facts or options changed. `usable` says whether both databases have been read at least once.
    pub fn inputs_changed(&mut self, now: Instant, usable: bool) {
        if usable && !self.sighted {
            self.sighted = true;
            self.observe_at = Some(now);
        }
        if usable && !self.partial && self.first == First::Ahead {
            self.first = First::Until(now + FIRST_WIRING);
        }
        self.dirty = true;
    }

    /// Whether the rows that may be used are only those that concern this host at first sight. What they say is done; that others
    /// say nothing means nothing yet, so that nothing is removed, and neighbours are not told that this is all.
    pub fn set_partial(&mut self, partial: bool) {
        if self.partial != partial {
            self.partial = partial;
            self.settled = false;
            self.dirty = true;
        }
    }

    /// The host's own prefixes changed.
    pub fn set_host_routes(&mut self, prefixes: BTreeSet<IpNet>) {
        let before = std::mem::replace(&mut self.host, Host::Known);
        if self.host_routes != prefixes || before == Host::Unread {
            self.host_routes = prefixes;
            self.dirty = true;
        }
    }

    /// The host's own prefixes cannot be read now. Those that are known stand; until they are for the first time there is more to say.
    pub fn host_routes_unread(&mut self) {
        if self.host != Host::Known {
            self.host = Host::Unread;
        }
    }

    /// Something we do not know in detail changed in the kernel or in OVS: look, soon.
    pub fn world_changed(&mut self, now: Instant) {
        if self.sighted {
            // Armed once: a stream of changes must not put the observation off for ever.
            self.observe_at.get_or_insert(now + SETTLE);
        }
    }

    /// Moves traffic away: neighbours are asked to look elsewhere (RFC 8326), and after `wait` everything is withdrawn. The wiring
    /// stays: traffic under way is still delivered. Asked again, the later word counts as long as nothing is withdrawn.
    pub fn drain(&mut self, now: Instant, wait: Duration) {
        if self.drain != Drain::Withdrawn {
            self.drain = if wait.is_zero() { Drain::Withdrawn } else { Drain::Asked { until: now + wait } };
            self.dirty = true;
        }
    }

    /// Brings traffic back.
    pub fn undrain(&mut self) {
        self.drain = Drain::No;
        self.dirty = true;
    }

    /// When [`Reconciler::next`] has to be called again if nothing happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        if !matches!(self.phase, Phase::Idle) {
            return None;
        }
        [self.observe_at, self.audit_at, self.retry_at, self.withdraw_at(), self.first.until()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next thing to do, if any.
    pub fn next(&mut self, now: Instant) -> Option<Step> {
        if let Some(step) = (!self.queue.is_empty()).then(|| self.queue.remove(0)) {
            return Some(step);
        }
        if !matches!(self.phase, Phase::Idle) {
            return None;
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.withdraw_at()) {
            self.drain = Drain::Withdrawn;
            self.dirty = true;
        }
        if due(self.first.until()) {
            self.first = First::Over;
            self.dirty = true;
        }
        let observe = due(self.observe_at) || due(self.audit_at) || due(self.retry_at);
        if !observe && !self.dirty {
            return None;
        }
        self.passes += 1;
        if observe && self.sighted {
            // An audit also doubts what was updated piece by piece.
            self.settled &= !due(self.audit_at);
            self.observe_at = None;
            self.retry_at = None;
            self.audit_at = Some(now + self.audit_interval);
            self.phase = Phase::Observing;
            return Some(Step::Observe);
        }
        self.compute(now);
        self.next(now)
    }

    /// What the edge found. An error leaves everything as it is and is retried.
    pub fn observed(&mut self, now: Instant, found: Result<BTreeMap<Key, Spec>, String>) {
        match found {
            // Only what we had done ourselves, seen again: the commonest case, and nothing follows from it.
            Ok(actual) if self.may_update() && !self.unwire_failed && actual == self.actual => self.phase = Phase::Idle,
            Ok(actual) => {
                self.actual = actual;
                self.settled = false;
                self.compute(now);
            }
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "cannot read the kernel's or the bridges' state; nothing is changed until it can be read"
                );
                self.phase = Phase::Idle;
                self.retry(now);
            }
        }
    }

    fn compute(&mut self, now: Instant) {
        self.dirty = false;
        if self.sighted {
            self.phase = Phase::Computing;
            self.queue.push(Step::Compute);
        } else {
            // Blind: the host's own prefixes are all we can speak for, and nothing is removed.
            self.pass(now);
        }
    }

    /// The desired state, freshly computed.
    pub fn computed(&mut self, now: Instant, desired: Arc<Desired>) {
        self.desired = desired;
        self.pass(now);
    }

    /// Whether [`Reconciler::update`] will do: nothing was observed anew and nothing has failed since the last whole pass.
    pub fn may_update(&self) -> bool {
        self.settled && self.failed.is_empty()
    }

    /// Lets `update` change the desired state in place and say what may differ; `false`: it could not, and
    /// [`Reconciler::computed`] has to follow.
    pub fn update(&mut self, now: Instant, update: impl FnOnce(&mut Desired) -> Option<Delta>) -> bool {
        let Some(delta) = update(Arc::make_mut(&mut self.desired)) else { return false };
        let difference = diff_of(&delta.keys, &self.desired.wiring.objects, &self.actual);
        self.start(now, difference);
        true
    }

    fn pass(&mut self, now: Instant) {
        self.settled = self.sighted;
        let difference = if self.sighted { diff(&self.desired.wiring.objects, &self.actual) } else { Diff::default() };
        self.start(now, difference);
    }

    fn start(&mut self, now: Instant, mut difference: Diff) {
        if self.partial {
            difference.remove.clear();
        }
        let none = Routes::new();
        let wanted = if self.drain == Drain::Withdrawn { &none } else { &self.desired.routes };
        let plan = Plan::new(difference, &self.announced, wanted);
        if !plan.withdraw.is_empty() {
            self.announce(plan.keep.keys().copied());
        }
        let ops = plan.wire.clone();
        self.phase = Phase::Wiring(Box::new(plan), ops.clone());
        if ops.is_empty() {
            self.applied(now, BTreeMap::new());
        } else {
            self.queue.push(Step::Apply(ops));
        }
    }

    /// The outcome of a [`Step::Apply`]: the operations that failed, with the reason.
    pub fn applied(&mut self, now: Instant, failed: BTreeMap<Key, String>) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Wiring(plan, ops) => {
                self.remember(&ops, &failed);
                let actual = &self.actual;
                let finish = plan.finish(&failed.keys().cloned().collect(), |key| actual.contains_key(key));
                self.report(failed);
                if self.failed.is_empty() && self.first != First::Ahead {
                    self.first = First::Over;
                }
                self.announce(finish.announce.keys().copied());
                let ops = finish.unwire.clone();
                self.phase = Phase::Announcing(Box::new(finish));
                if ops.is_empty() {
                    self.finish(now, &BTreeMap::new());
                } else {
                    self.take_finish();
                    self.phase = Phase::Unwiring(ops.clone());
                    self.queue.push(Step::Apply(ops));
                }
            }
            Phase::Unwiring(ops) => {
                self.remember(&ops, &failed);
                self.finish(now, &failed);
            }
            other => self.phase = other,
        }
    }

    fn take_finish(&mut self) {
        if let Phase::Announcing(finish) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.announced = finish.announce;
            self.held_back = finish.held_back;
        }
    }

    fn finish(&mut self, now: Instant, unwire_failed: &BTreeMap<Key, String>) {
        self.take_finish();
        self.unwire_failed = !unwire_failed.is_empty();
        for (key, reason) in unwire_failed {
            tracing::warn!(object = ?key, reason, "cannot remove an object of ours; retried");
        }
        if self.failed.is_empty() && unwire_failed.is_empty() {
            self.retries = 0;
        } else {
            self.retry(now);
        }
    }

    fn retry(&mut self, now: Instant) {
        let wait = RETRY_MIN.saturating_mul(1 << self.retries.min(16)).min(RETRY_MAX);
        self.retries = self.retries.saturating_add(1);
        self.retry_at = Some(now + wait);
    }

    fn remember(&mut self, ops: &[Op], failed: &BTreeMap<Key, String>) {
        for op in ops.iter().filter(|op| !failed.contains_key(op.key())) {
            match op {
                Op::Set(key, spec) => self.actual.insert(key.clone(), spec.clone()),
                Op::Remove(key) => self.actual.remove(key),
            };
        }
    }

    /// One warning when an object begins to fail or fails otherwise, one line when it no longer does.
    fn report(&mut self, failed: BTreeMap<Key, String>) {
        for (key, reason) in &failed {
            if self.failed.get(key) != Some(reason) {
                tracing::warn!(object = ?key, reason, "cannot make an object; what needs it is not announced; retried");
            }
        }
        for key in self.failed.keys().filter(|key| !failed.contains_key(*key)) {
            tracing::info!(object = ?key, "object no longer fails");
        }
        self.failed = failed;
    }

    fn announce(&mut self, prefixes: impl Iterator<Item = IpNet>) {
        let known = (self.sees_all() || self.plain) && self.host != Host::Unread && self.first.until().is_none();
        // What is withdrawn has to go also where more was told than is known here: by the process before this one.
        let complete = known || self.drain == Drain::Withdrawn;
        let mut prefixes: BTreeSet<IpNet> = prefixes.collect();
        if self.drain != Drain::Withdrawn {
            // The host's own prefixes need no wiring of ours.
            prefixes.extend(&self.host_routes);
        }
        let leaving = self.withdraw_at().is_some();
        if self
            .last_told
            .as_ref()
            .is_some_and(|(told, was, left)| **told == prefixes && (*was, *left) == (complete, leaving))
        {
            return;
        }
        let prefixes = Arc::new(prefixes);
        self.last_told = Some((Arc::clone(&prefixes), complete, leaving));
        self.queue.push(Step::Announce { prefixes, complete, leaving });
    }

    /// The desired state of the last pass.
    pub fn desired(&self) -> &Arc<Desired> {
        &self.desired
    }

    /// What is there, as far as we know.
    pub fn actual(&self) -> &BTreeMap<Key, Spec> {
        &self.actual
    }

    /// What the speaker was told, with what each prefix stands on.
    pub fn announced(&self) -> &Routes {
        &self.announced
    }

    /// Every prefix the speaker was told.
    pub fn told(&self) -> &BTreeSet<IpNet> {
        static NOTHING: BTreeSet<IpNet> = BTreeSet::new();
        self.last_told.as_ref().map_or(&NOTHING, |(told, ..)| told)
    }

    /// Objects that could not be made, with the reason.
    pub fn failed(&self) -> &BTreeMap<Key, String> {
        &self.failed
    }

    /// Wanted but not announced, with the failed objects each one lacks.
    pub fn held_back(&self) -> &Routes {
        &self.held_back
    }

    /// Whether the databases have been read completely once.
    pub fn sees_all(&self) -> bool {
        self.sighted && !self.partial
    }

    /// Whether traffic is being moved away, or has been.
    pub fn draining(&self) -> bool {
        self.drain != Drain::No
    }

    /// Until when neighbours are asked to look elsewhere before everything is withdrawn.
    pub fn withdraw_at(&self) -> Option<Instant> {
        match self.drain {
            Drain::Asked { until } => Some(until),
            Drain::No | Drain::Withdrawn => None,
        }
    }

    /// How many passes there were.
    pub fn passes(&self) -> u64 {
        self.passes
    }
}

#[cfg(test)]
mod tests;
