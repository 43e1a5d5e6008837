use proptest::prelude::*;

use super::*;

fn link(device: &str) -> Key {
    Key::LinkUp { device: device.into() }
}

fn route(n: u8) -> Key {
    Key::Route { table: 10, to: prefix(n) }
}

fn rule(n: u8) -> Key {
    Key::Rule { to: Some(prefix(n)), v6: false, table: 10 }
}

fn prefix(n: u8) -> IpNet {
    format!("10.0.0.{n}/32").parse().unwrap()
}

fn routes(entries: &[(u8, &[Key])]) -> Routes {
    entries.iter().map(|(n, keys)| (prefix(*n), Arc::new(keys.iter().cloned().collect()))).collect()
}

fn present(keys: &[Key]) -> BTreeMap<Key, Spec> {
    keys.iter().map(|key| (key.clone(), Spec::Present)).collect()
}

fn failed(keys: &[Key]) -> BTreeSet<Key> {
    keys.iter().cloned().collect()
}

#[test]
fn a_new_port_is_announced_when_everything_it_needs_is_wired() {
    let desired = routes(&[(1, &[route(1), rule(1)])]);
    let diff = Diff { add: present(&[route(1), rule(1)]), ..Diff::default() };
    let plan = Plan::new(diff, &Routes::new(), &desired);
    assert!(plan.keep.is_empty() && plan.withdraw.is_empty());
    assert_eq!(plan.wire, [Op::Set(route(1), Spec::Present), Op::Set(rule(1), Spec::Present)]);

    let finish = plan.clone().finish(&failed(&[]), |_| true);
    assert_eq!(finish.announce, desired);

    let finish = plan.finish(&failed(&[rule(1)]), |key| *key == route(1));
    assert!(finish.announce.is_empty());
    assert_eq!(finish.held_back, routes(&[(1, &[rule(1)])]));
}

#[test]
fn a_port_that_goes_is_withdrawn_first_and_unwired_last() {
    let announced = routes(&[(1, &[route(1), rule(1)])]);
    let diff = Diff { remove: present(&[route(1), rule(1)]), ..Diff::default() };
    let plan = Plan::new(diff, &announced, &Routes::new());
    assert_eq!(plan.withdraw, [prefix(1)].into());
    assert!(plan.keep.is_empty() && plan.wire.is_empty());
    let finish = plan.finish(&failed(&[]), |_| true);
    assert_eq!(finish.unwire, [Op::Remove(rule(1)), Op::Remove(route(1))], "the reverse of creation");
}

#[test]
fn a_failed_change_leaves_the_announcement_because_the_old_object_is_still_there() {
    let wiring = routes(&[(1, &[route(1)])]);
    let diff = Diff { change: present(&[route(1)]), ..Diff::default() };
    let finish = Plan::new(diff, &wiring, &wiring).finish(&failed(&[route(1)]), |_| true);
    assert_eq!(finish.announce, wiring);
    assert_eq!(finish.on_old_wiring, routes(&[(1, &[route(1)])]));
}

#[test]
fn a_route_that_vanished_and_cannot_be_put_back_ends_the_announcement() {
    let wiring = routes(&[(1, &[route(1)]), (2, &[route(2)])]);
    let diff = Diff { add: present(&[route(1)]), ..Diff::default() };
    let plan = Plan::new(diff, &wiring, &wiring);
    assert_eq!(plan.keep, wiring, "no withdrawal before the repair was tried");
    let finish = plan.finish(&failed(&[route(1)]), |key| *key != route(1));
    assert_eq!(finish.announce, routes(&[(2, &[route(2)])]));
    assert_eq!(finish.held_back, routes(&[(1, &[route(1)])]));
}

#[test]
fn a_move_to_new_wiring_that_fails_keeps_the_old_wiring_from_removal() {
    let announced = routes(&[(1, &[route(1)])]);
    let desired = routes(&[(1, &[route(2)])]);
    let diff = Diff { add: present(&[route(2)]), remove: present(&[route(1), rule(9)]), ..Diff::default() };
    let plan = Plan::new(diff, &announced, &desired);

    let moved = plan.clone().finish(&failed(&[]), |_| true);
    assert_eq!(moved.announce, desired);
    assert_eq!(moved.unwire, [Op::Remove(rule(9)), Op::Remove(route(1))]);

    let stuck = plan.finish(&failed(&[route(2)]), |key| *key != route(2));
    assert_eq!(stuck.announce, announced);
    assert_eq!(stuck.unwire, [Op::Remove(rule(9))], "what still carries traffic stays");
}

#[test]
fn old_wiring_that_somebody_has_removed_carries_nothing() {
    let announced = routes(&[(1, &[route(1)])]);
    let desired = routes(&[(1, &[route(2)])]);
    let diff = Diff { add: present(&[route(2)]), ..Diff::default() };
    let finish = Plan::new(diff, &announced, &desired).finish(&failed(&[route(2)]), |_| false);
    assert!(finish.announce.is_empty());
    assert_eq!(finish.held_back, routes(&[(1, &[route(2)])]));
}

#[test]
fn a_vlan_device_is_made_before_it_is_set_up_and_removed_after_everything_on_it() {
    let vlan = Key::VlanDevice { name: "br-ex.100".into() };
    let keys = [link("br-ex"), link("br-ex.100"), vlan.clone(), route(1)];
    let diff = Diff { add: present(&keys), ..Diff::default() };
    let order: Vec<Key> =
        Plan::new(diff, &Routes::new(), &Routes::new()).wire.iter().map(|op| op.key().clone()).collect();
    assert_eq!(order, [link("br-ex"), vlan.clone(), link("br-ex.100"), route(1)]);

    let diff = Diff { remove: present(&[vlan.clone(), route(1)]), ..Diff::default() };
    let finish = Plan::new(diff, &Routes::new(), &Routes::new()).finish(&failed(&[]), |_| true);
    assert_eq!(finish.unwire, [Op::Remove(route(1)), Op::Remove(vlan)]);
}

fn key() -> impl Strategy<Value = Key> {
    (0u8..3, 0u8..6).prop_map(|(kind, n)| match kind {
        0 => link(&format!("eth{n}")),
        1 => route(n),
        _ => rule(n),
    })
}

fn some_routes() -> impl Strategy<Value = Routes> {
    let needs = proptest::collection::btree_set(key(), 0..4).prop_map(Arc::new);
    proptest::collection::btree_map((0u8..8).prop_map(prefix), needs, 0..8)
}

fn some_keys() -> impl Strategy<Value = BTreeSet<Key>> {
    proptest::collection::btree_set(key(), 0..4)
}

proptest! {
    /// Runs random passes the way the reconciler does, against a world in which some operations fail, and checks after every
    /// single effect that whatever is announced is wired.
    #[test]
    fn nothing_is_ever_announced_without_its_wiring(
        passes in proptest::collection::vec((some_routes(), some_keys(), some_keys()), 1..6),
    ) {
        let mut world: BTreeSet<Key> = BTreeSet::new();
        let mut announced = Routes::new();
        for (desired, breaks, vanish) in passes {
            // Others remove what is ours now and then.
            world.retain(|key| !vanish.contains(key));
            let wanted: BTreeSet<Key> = desired.values().flat_map(|needs| needs.iter()).cloned().collect();
            let diff = Diff {
                add: wanted.difference(&world).map(|key| (key.clone(), Spec::Present)).collect(),
                change: BTreeMap::new(),
                remove: world.difference(&wanted).map(|key| (key.clone(), Spec::Present)).collect(),
            };
            let plan = Plan::new(diff, &announced, &desired);
            for prefix in announced.keys() {
                prop_assert!(plan.keep.contains_key(prefix) != plan.withdraw.contains(prefix));
            }
            let mut failures = BTreeSet::new();
            for op in &plan.wire {
                prop_assert!(matches!(op, Op::Set(..)));
                if breaks.contains(op.key()) {
                    failures.insert(op.key().clone());
                } else {
                    world.insert(op.key().clone());
                }
            }
            let finish = plan.finish(&failures, |key| world.contains(key));
            for prefix in desired.keys() {
                prop_assert!(finish.announce.contains_key(prefix) != finish.held_back.contains_key(prefix));
            }
            announced = finish.announce;
            for op in &finish.unwire {
                prop_assert!(matches!(op, Op::Remove(_)));
                world.remove(op.key());
            }
            let standing: BTreeSet<Key> = announced.values().flat_map(|needs| needs.iter()).cloned().collect();
            prop_assert!(standing.is_subset(&world), "announced without {:?}", standing.difference(&world));
        }
    }

    /// Old wiring that is no longer needed by anybody is removed as soon as nothing fails any more.
    #[test]
    fn without_failures_the_world_becomes_what_is_desired(first in some_routes(), second in some_routes()) {
        let mut world: BTreeSet<Key> = first.values().flat_map(|needs| needs.iter()).cloned().collect();
        let wanted: BTreeSet<Key> = second.values().flat_map(|needs| needs.iter()).cloned().collect();
        let diff = Diff {
            add: wanted.difference(&world).map(|key| (key.clone(), Spec::Present)).collect(),
            change: BTreeMap::new(),
            remove: world.difference(&wanted).map(|key| (key.clone(), Spec::Present)).collect(),
        };
        let plan = Plan::new(diff, &first, &second);
        world.extend(plan.wire.iter().map(|op| op.key().clone()));
        let finish = plan.finish(&BTreeSet::new(), |_| true);
        for op in &finish.unwire {
            world.remove(op.key());
        }
        prop_assert_eq!(world, wanted);
        prop_assert_eq!(finish.announce, second);
    }
}
