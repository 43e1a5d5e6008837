//! What differs between what should be and what is: a merge-join of two sorted maps. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::desired::wiring::{Key, Object, Spec};

/// One change of the outside world.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Create the object, or make the one that is there like this.
    Set(Key, Spec),
    /// Take the object away.
    Remove(Key),
}

impl Op {
    /// The object it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Set(key, _) | Self::Remove(key) => key,
        }
    }
}

/// Everything that differs. A key stands in at most one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Wanted, not there.
    pub add: BTreeMap<Key, Spec>,
    /// There, with another specification than wanted.
    pub change: BTreeMap<Key, Spec>,
    /// There, not wanted: key and what it is now.
    pub remove: BTreeMap<Key, Spec>,
}

impl Diff {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.change.is_empty() && self.remove.is_empty()
    }

    /// Number of objects that differ.
    pub fn len(&self) -> usize {
        self.add.len() + self.change.len() + self.remove.len()
    }
}

/// What it takes to turn `actual` into `desired`.
pub fn diff(desired: &BTreeMap<Key, Object>, actual: &BTreeMap<Key, Spec>) -> Diff {
    diff_specs(desired.iter().map(|(key, object)| (key, &object.spec)), actual.iter())
}

/// The part of [`diff`] that concerns these objects.
pub fn diff_of<'a>(
    keys: impl IntoIterator<Item = &'a Key>,
    desired: &BTreeMap<Key, Object>,
    actual: &BTreeMap<Key, Spec>,
) -> Diff {
    let mut diff = Diff::default();
    for key in keys {
        match (desired.get(key).map(|object| &object.spec), actual.get(key)) {
            (Some(wanted), None) => drop(diff.add.insert(key.clone(), wanted.clone())),
            (Some(wanted), Some(found)) if wanted != found => drop(diff.change.insert(key.clone(), wanted.clone())),
            (None, Some(found)) => drop(diff.remove.insert(key.clone(), found.clone())),
            _ => {}
        }
    }
    diff
}

/// [`diff`] over any two ascending sequences; the values need to be comparable, no more.
fn diff_specs<'a>(
    desired: impl Iterator<Item = (&'a Key, &'a Spec)>,
    actual: impl Iterator<Item = (&'a Key, &'a Spec)>,
) -> Diff {
    let (mut desired, mut actual) = (desired.peekable(), actual.peekable());
    let mut diff = Diff::default();
    loop {
        // A side that has ended sorts after everything, so the other one is drained.
        let order = match (desired.peek(), actual.peek()) {
            (None, None) => return diff,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((wanted, _)), Some((found, _))) => wanted.cmp(found),
        };
        let wanted = if order.is_le() { desired.next() } else { None };
        let found = if order.is_ge() { actual.next() } else { None };
        match (wanted, found) {
            (Some((key, spec)), None) => drop(diff.add.insert(key.clone(), spec.clone())),
            (None, Some((key, spec))) => drop(diff.remove.insert(key.clone(), spec.clone())),
            (Some((key, spec)), Some((_, is))) if spec != is => drop(diff.change.insert(key.clone(), spec.clone())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::mac::Mac;

    fn key() -> impl Strategy<Value = Key> {
        (0u8..4, 0u8..8).prop_map(|(kind, n)| match kind {
            0 => Key::LinkUp { device: format!("eth{n}") },
            1 => Key::Route { table: u32::from(n % 3), to: format!("10.0.0.{n}/32").parse().unwrap() },
            2 => Key::Neighbour { device: "br-ex".into(), address: format!("10.0.0.{n}").parse().unwrap() },
            _ => Key::Flow { bridge: "br-ex".into(), in_port: u16::from(n), v6: n % 2 == 0 },
        })
    }

    fn spec() -> impl Strategy<Value = Spec> {
        prop_oneof![
            Just(Spec::Present),
            (0u8..3).prop_map(|n| Spec::Lladdr(Mac([2, 0, 0, 0, 0, n]))),
            Just(Spec::Value("1".into())),
        ]
    }

    fn state() -> impl Strategy<Value = BTreeMap<Key, Spec>> {
        proptest::collection::btree_map(key(), spec(), 0..24)
    }

    /// What a perfect outside world does with the operations.
    fn applied(mut world: BTreeMap<Key, Spec>, diff: &Diff) -> BTreeMap<Key, Spec> {
        for key in diff.remove.keys() {
            assert!(world.remove(key).is_some(), "removes {key:?}, which is not there");
        }
        for (key, spec) in &diff.add {
            assert!(world.insert(key.clone(), spec.clone()).is_none(), "adds {key:?}, which is there");
        }
        for (key, spec) in &diff.change {
            let old = world.insert(key.clone(), spec.clone());
            assert!(old.is_some_and(|old| old != *spec), "changes {key:?} without need");
        }
        world
    }

    fn objects(state: &BTreeMap<Key, Spec>) -> BTreeMap<Key, Object> {
        state.iter().map(|(key, spec)| (key.clone(), Object { spec: spec.clone(), owners: BTreeSet::new() })).collect()
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_desired_state(desired in state(), actual in state()) {
            let difference = diff(&objects(&desired), &actual);
            prop_assert_eq!(applied(actual, &difference), desired);
        }

        #[test]
        fn what_concerns_all_objects_is_everything(desired in state(), actual in state()) {
            let keys: BTreeSet<Key> = desired.keys().chain(actual.keys()).cloned().collect();
            let desired = objects(&desired);
            prop_assert_eq!(diff_of(&keys, &desired, &actual), diff(&desired, &actual));
        }

        #[test]
        fn equal_states_do_not_differ(state in state()) {
            prop_assert!(diff(&objects(&state), &state).is_empty());
        }
    }
}
