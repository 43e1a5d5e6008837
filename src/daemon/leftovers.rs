//! Which bridges are still to be freed of flows that former runs, or ovn-bgp-agent, may have left there.
//!
//! Each bridge is to answer once. One whose switch was silent is asked again, about as often as there are audits: who waits for it
//! each time waits for all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The bridges that have not answered yet.
#[derive(Debug)]
pub(super) struct Leftovers {
    interval: Duration,
    /// By the cookie of the flows. `None` before the first look.
    left: Option<BTreeMap<u64, BTreeSet<String>>>,
    /// Not before.
    again_at: Option<Instant>,
}

impl Leftovers {
    /// Nobody has looked yet.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, left: None, again_at: None }
    }

    /// Whether somebody is to be asked now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let done = self.left.as_ref().is_some_and(BTreeMap::is_empty);
        !done && self.again_at.is_none_or(|at| at <= now)
    }

    /// Who is to be asked now, by the cookie of the flows. `suspects` are those who have to be at all: one that has become none, as
    /// it was removed or its flows are wanted again, is forgotten.
    pub(super) fn due(
        &mut self,
        now: Instant,
        mut suspects: BTreeMap<u64, BTreeSet<String>>,
    ) -> BTreeMap<u64, BTreeSet<String>> {
        self.again_at = Some(now + self.interval);
        if let Some(left) = self.left.replace(BTreeMap::new()) {
            suspects.retain(|cookie, bridges| {
                bridges.retain(|bridge| left.get(cookie).is_some_and(|left| left.contains(bridge)));
                !bridges.is_empty()
            });
        }
        suspects
    }

    /// These were asked and still have to be.
    pub(super) fn remain(&mut self, cookie: u64, bridges: impl Iterator<Item = String>) {
        let bridges: BTreeSet<String> = bridges.collect();
        if !bridges.is_empty() {
            self.left.get_or_insert_default().insert(cookie, bridges);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    fn bridges(names: &[&str]) -> BTreeMap<u64, BTreeSet<String>> {
        let names: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        BTreeMap::from([(7, names)])
    }

    fn remain(leftovers: &mut Leftovers, names: &[&str]) {
        leftovers.remain(7, names.iter().map(|&name| name.to_owned()));
    }

    #[test]
    fn a_bridge_is_asked_at_each_audit_until_it_has_answered() {
        let start = Instant::now();
        let mut leftovers = Leftovers::new(INTERVAL);
        let all = || bridges(&["br-old", "br-hung"]);
        assert!(leftovers.is_due(start));
        assert_eq!(leftovers.due(start, all()), all());
        remain(&mut leftovers, &["br-hung"]);
        assert!(!leftovers.is_due(start + INTERVAL / 2), "in between nobody waits for it");
        assert!(leftovers.is_due(start + INTERVAL));
        assert_eq!(leftovers.due(start + INTERVAL, all()), bridges(&["br-hung"]), "the other one has answered");
        remain(&mut leftovers, &["br-hung"]);
        assert_eq!(leftovers.due(start + 2 * INTERVAL, all()), bridges(&["br-hung"]));
        assert!(!leftovers.is_due(start + 9 * INTERVAL), "it has answered, too");
    }

    #[test]
    fn a_bridge_whose_flows_are_wanted_meanwhile_is_left_alone() {
        let start = Instant::now();
        let mut leftovers = Leftovers::new(INTERVAL);
        leftovers.due(start, bridges(&["br-a", "br-b"]));
        remain(&mut leftovers, &["br-a", "br-b"]);
        assert_eq!(leftovers.due(start + INTERVAL, bridges(&["br-b", "br-new"])), bridges(&["br-b"]));
    }
}
