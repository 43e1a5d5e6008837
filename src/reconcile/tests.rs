//! Stories with a virtual clock and a world that fails on demand.

use super::*;
use crate::desired::wiring::{Object, Wiring};

/// A kernel, a speaker and a rule set in one: does what the reconciler says and keeps a journal.
struct World {
    now: Instant,
    reconciler: Reconciler,
    objects: BTreeMap<Key, Spec>,
    told: BTreeSet<IpNet>,
    complete: bool,
    wanted: Arc<Desired>,
    /// Objects that cannot be set.
    broken: BTreeSet<Key>,
    blind: bool,
    journal: Vec<String>,
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn rule(to: &str) -> Key {
    Key::Rule { to: Some(prefix(to)), v6: false, table: 201 }
}

fn desired(prefixes: &[&str]) -> Arc<Desired> {
    let mut wanted = Desired { wiring: Wiring::default(), ..Desired::default() };
    for to in prefixes {
        wanted.wiring.objects.insert(rule(to), Object { spec: Spec::Present, owners: BTreeSet::new() });
        wanted.routes.insert(prefix(to), Arc::new(BTreeSet::from([rule(to)])));
    }
    Arc::new(wanted)
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            reconciler: Reconciler::new(true, Duration::from_secs(300)),
            objects: BTreeMap::new(),
            told: BTreeSet::new(),
            complete: false,
            wanted: desired(&[]),
            broken: BTreeSet::new(),
            blind: false,
            journal: Vec::new(),
        }
    }

    /// Does what is due now, checking that nothing is announced before it is wired.
    fn run(&mut self) {
        while let Some(step) = self.reconciler.next(self.now) {
            match step {
                Step::Compute => self.reconciler.computed(self.now, Arc::clone(&self.wanted)),
                Step::Observe => {
                    self.journal.push("observe".into());
                    let found = if self.blind { Err("no".into()) } else { Ok(self.objects.clone()) };
                    self.reconciler.observed(self.now, found);
                }
                Step::Announce { prefixes, complete, leaving } => {
                    let mark = if leaving { " marked" } else { "" };
                    self.journal.push(format!("announce {}{mark}", prefixes.len()));
                    for new in prefixes.difference(&self.told) {
                        if let Some(needs) = self.wanted.routes.get(new) {
                            assert!(
                                needs.iter().all(|n| self.objects.contains_key(n)),
                                "{new} announced but not wired"
                            );
                        }
                    }
                    self.told = (*prefixes).clone();
                    self.complete = complete;
                }
                Step::Apply(ops) => {
                    let mut failed = BTreeMap::new();
                    for op in ops {
                        match op {
                            Op::Set(key, _) if self.broken.contains(&key) => {
                                failed.insert(key, "broken".to_owned());
                            }
                            Op::Set(key, spec) => {
                                self.journal.push("set".into());
                                self.objects.insert(key, spec);
                            }
                            Op::Remove(key) => {
                                self.journal.push("remove".into());
                                assert!(!self.stands_on(&key), "{key:?} removed while announced");
                                self.objects.remove(&key);
                            }
                        }
                    }
                    self.reconciler.applied(self.now, failed);
                }
            }
        }
    }

    fn stands_on(&self, key: &Key) -> bool {
        matches!(key, Key::Rule { to: Some(to), .. } if self.told.contains(to))
    }

    fn want(&mut self, prefixes: &[&str]) {
        self.wanted = desired(prefixes);
        self.reconciler.inputs_changed(self.now, true);
        self.run();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.reconciler.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.run();
        }
        self.now = end;
    }
}

#[test]
fn wires_then_announces_and_withdraws_then_unwires() {
    let mut world = World::new();
    world.want(&["192.0.2.1/32"]);
    assert_eq!(world.journal, ["observe", "set", "announce 1"]);
    world.journal.clear();
    world.want(&[]);
    assert_eq!(world.journal, ["announce 0", "remove"]);
}

#[test]
fn blind_at_start_announces_only_the_host_and_removes_nothing() {
    let mut world = World::new();
    world.objects.insert(rule("192.0.2.1/32"), Spec::Present);
    world.reconciler.set_host_routes(BTreeSet::from([prefix("172.30.1.1/32")]));
    world.run();
    assert_eq!(world.journal, ["announce 1"]);
    assert!(!world.complete, "End-of-RIB has to wait for the database");
    world.wait(Duration::from_secs(3600));
    assert!(world.objects.contains_key(&rule("192.0.2.1/32")));
    world.want(&["192.0.2.1/32"]);
    assert_eq!(world.journal, ["announce 1", "observe", "announce 2"], "what a former run wired is right and stays");
    assert!(world.complete);
}

#[test]
fn stale_objects_of_a_former_run_are_removed_after_the_first_dump() {
    let mut world = World::new();
    world.objects.insert(rule("192.0.2.9/32"), Spec::Present);
    world.want(&["192.0.2.1/32"]);
    assert_eq!(world.objects.keys().collect::<Vec<_>>(), [&rule("192.0.2.1/32")]);
}

#[test]
fn what_some_of_the_rows_say_is_done_and_what_they_do_not_say_is_not() {
    let mut world = World::new();
    let stale = rule("192.0.2.9/32");
    world.objects.insert(stale.clone(), Spec::Present);
    world.reconciler.set_partial(true);
    world.want(&["192.0.2.1/32"]);
    assert_eq!(world.told, BTreeSet::from([prefix("192.0.2.1/32")]));
    assert!(!world.complete, "neighbours keep what a former run has told them");
    world.wait(Duration::from_secs(3600));
    world.want(&["192.0.2.2/32"]);
    assert_eq!(world.told, BTreeSet::from([prefix("192.0.2.2/32")]), "a row that went was there");
    assert_eq!(world.objects.len(), 3, "nothing was removed");

    world.reconciler.set_partial(false);
    world.want(&["192.0.2.2/32"]);
    assert!(world.complete);
    assert_eq!(world.objects.keys().collect::<Vec<_>>(), [&rule("192.0.2.2/32")]);
}

#[test]
fn a_failed_object_holds_back_only_what_needs_it_and_is_retried_with_growing_waits() {
    let mut world = World::new();
    world.broken.insert(rule("192.0.2.2/32"));
    world.want(&["192.0.2.1/32", "192.0.2.2/32"]);
    assert_eq!(world.told, BTreeSet::from([prefix("192.0.2.1/32")]));
    assert_eq!(world.reconciler.next_deadline(), Some(world.now + RETRY_MIN));
    world.wait(Duration::from_secs(120));
    let retries = world.journal.iter().filter(|j| *j == "observe").count();
    assert!((8..16).contains(&retries), "{retries} observations in two minutes");
    world.broken.clear();
    world.wait(RETRY_MAX);
    assert_eq!(world.told.len(), 2);
    assert_eq!(world.reconciler.failed().len(), 0);
}

#[test]
fn what_somebody_deletes_is_repaired_soon_and_withdrawn_when_it_cannot_be() {
    let mut world = World::new();
    world.want(&["192.0.2.1/32"]);
    world.objects.clear();
    world.reconciler.world_changed(world.now);
    let due = world.reconciler.next_deadline().unwrap() - world.now;
    assert!(due <= Duration::from_millis(100));
    world.wait(Duration::from_millis(100));
    assert!(world.objects.contains_key(&rule("192.0.2.1/32")));

    world.objects.clear();
    world.broken.insert(rule("192.0.2.1/32"));
    world.reconciler.world_changed(world.now);
    world.wait(Duration::from_millis(50));
    assert_eq!(world.told, BTreeSet::new());
    assert!(world.reconciler.announced().is_empty());
}

#[test]
fn an_unreadable_kernel_changes_nothing() {
    let mut world = World::new();
    world.want(&["192.0.2.1/32"]);
    world.blind = true;
    world.reconciler.world_changed(world.now);
    world.wait(Duration::from_secs(60));
    assert_eq!(world.told.len(), 1);
    assert_eq!(world.objects.len(), 1);
    world.blind = false;
    world.objects.clear();
    world.wait(RETRY_MAX);
    assert_eq!(world.objects.len(), 1);
}

#[test]
fn the_audit_comes_round() {
    let mut world = World::new();
    world.want(&["192.0.2.1/32"]);
    world.objects.clear();
    world.wait(Duration::from_secs(301));
    assert_eq!(world.objects.len(), 1);
}

#[test]
fn draining_asks_neighbours_to_look_elsewhere_first() {
    let mut world = World::new();
    world.reconciler.set_host_routes(BTreeSet::from([prefix("172.30.1.1/32")]));
    world.want(&["192.0.2.1/32"]);
    let second = Duration::from_secs(1);
    let said = |world: &mut World| {
        std::mem::take(&mut world.journal).into_iter().filter(|l| l.starts_with("announce")).collect::<Vec<_>>()
    };
    said(&mut world);
    world.reconciler.drain(world.now, 5 * second);
    world.run();
    assert_eq!(said(&mut world), ["announce 2 marked"]);
    // What comes meanwhile is marked, too.
    world.want(&["192.0.2.1/32", "192.0.2.2/32"]);
    assert_eq!(said(&mut world), ["announce 3 marked"]);
    world.wait(4 * second);
    assert_eq!(said(&mut world), [""; 0]);
    world.wait(second);
    assert_eq!(said(&mut world), ["announce 0"]);
    assert_eq!(world.objects.len(), 2, "the wiring stays");
    world.reconciler.drain(world.now, 5 * second);
    world.run();
    assert_eq!(said(&mut world), [""; 0], "what is withdrawn stays so");
    world.reconciler.undrain();
    world.run();
    assert_eq!(said(&mut world), ["announce 3"]);
    // The later word counts, and a change of mind in time withdraws nothing.
    world.reconciler.drain(world.now, 5 * second);
    world.run();
    world.reconciler.drain(world.now, second);
    world.wait(second);
    assert_eq!(said(&mut world), ["announce 3 marked", "announce 0"]);
    world.reconciler.undrain();
    world.run();
    world.reconciler.drain(world.now, second);
    world.run();
    world.reconciler.undrain();
    world.run();
    world.wait(2 * second);
    assert_eq!(said(&mut world), ["announce 3", "announce 3 marked", "announce 3"]);
}

#[test]
fn draining_withdraws_everything_and_keeps_the_wiring() {
    let mut world = World::new();
    world.reconciler.set_host_routes(BTreeSet::from([prefix("172.30.1.1/32")]));
    world.want(&["192.0.2.1/32"]);
    world.reconciler.drain(world.now, Duration::ZERO);
    world.run();
    assert!(world.told.is_empty());
    assert_eq!(world.objects.len(), 1);
    world.reconciler.undrain();
    world.run();
    assert_eq!(world.told.len(), 2);
}

#[test]
fn what_is_withdrawn_is_withdrawn_whatever_is_not_known() {
    // A daemon that goes on with the sessions of the one before has told its neighbours more than it can see itself. Were there more
    // to say, all that would stay told, without the mark.
    let mut blind = World { reconciler: Reconciler::new(true, Duration::from_secs(300)), ..World::new() };
    blind.reconciler.host_routes_unread();
    blind.reconciler.drain(blind.now, Duration::from_secs(1));
    blind.run();
    assert!(!blind.complete);
    blind.wait(Duration::from_secs(1));
    assert_eq!((blind.told.len(), blind.complete), (0, true));
    blind.reconciler.undrain();
    blind.run();
    assert!(!blind.complete, "it still sees nothing");
}

#[test]
fn as_long_as_the_hosts_own_prefixes_cannot_be_read_there_is_more_to_say() {
    let own = || BTreeSet::from([prefix("198.51.100.1/32")]);
    for ovn in [false, true] {
        let mut world = World { reconciler: Reconciler::new(ovn, Duration::from_secs(300)), ..World::new() };
        world.reconciler.host_routes_unread();
        world.reconciler.inputs_changed(world.now, ovn);
        world.run();
        assert!(!world.complete, "End-of-RIB would make neighbours forget the host itself");
        world.reconciler.set_host_routes(own());
        world.run();
        assert_eq!((&world.told, world.complete), (&own(), true));
        world.reconciler.host_routes_unread();
        world.reconciler.inputs_changed(world.now, ovn);
        world.run();
        assert_eq!((&world.told, world.complete), (&own(), true), "what is known stands");
    }
    let mut none = World::new();
    none.reconciler.host_routes_unread();
    none.want(&[]);
    none.reconciler.set_host_routes(BTreeSet::new());
    none.run();
    assert!(none.complete, "they were read, and there are none");
}

#[test]
fn while_the_first_wiring_fails_for_a_moment_there_is_more_to_say() {
    let mut world = World::new();
    world.broken.insert(rule("192.0.2.2/32"));
    world.want(&["192.0.2.1/32", "192.0.2.2/32"]);
    assert_eq!((world.told.len(), world.complete), (1, false), "End-of-RIB would make neighbours forget the other one");
    world.wait(Duration::from_secs(1));
    assert!(!world.complete);
    world.broken.clear();
    world.wait(Duration::from_secs(2));
    assert_eq!((world.told.len(), world.complete), (2, true), "before the time is over");
    world.broken.insert(rule("192.0.2.3/32"));
    world.want(&["192.0.2.1/32", "192.0.2.3/32"]);
    assert_eq!((world.told.len(), world.complete), (1, true), "the start is over");
}

#[test]
fn what_was_wired_of_a_part_of_the_rows_is_not_the_first_wiring() {
    let mut world = World::new();
    world.reconciler.set_partial(true);
    world.want(&["192.0.2.1/32"]);
    world.wait(FIRST_WIRING * 2);
    assert_eq!((world.told.len(), world.complete), (1, false));
    world.broken.insert(rule("192.0.2.2/32"));
    world.reconciler.set_partial(false);
    world.want(&["192.0.2.1/32", "192.0.2.2/32"]);
    assert!(!world.complete);
    world.broken.clear();
    world.wait(Duration::from_secs(1));
    assert_eq!((world.told.len(), world.complete), (2, true));
}

#[test]
fn what_cannot_be_wired_at_all_does_not_keep_the_rest_from_being_all() {
    let mut world = World::new();
    world.broken.insert(rule("192.0.2.2/32"));
    world.want(&["192.0.2.1/32", "192.0.2.2/32"]);
    world.wait(FIRST_WIRING.saturating_sub(Duration::from_millis(1)));
    assert!(!world.complete);
    world.wait(Duration::from_millis(1));
    assert_eq!((world.told.len(), world.complete), (1, true));
}
