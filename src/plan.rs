//! The order of effects: withdraw → wire → announce → unwire. Pure.
//!
//! ```text
//!  Plan::new(diff, announced, desired)
//!    1. keep       the speaker gets only what was announced and still is wanted     (withdraw)
//!    2. wire       operations in order of creation                                  (add kernel/OVS)
//!  Plan::finish(failed, there)
//!    3. announce   the speaker gets everything whose wiring stands                  (announce)
//!    4. unwire     operations in reverse order of creation                          (remove kernel/OVS)
//! ```
//!
//! Traffic is never drawn to an address that is not wired, and an address is never unwired while traffic is drawn to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::desired::wiring::{Key, Spec};
use crate::diff::{Diff, Op};

/// Prefixes with the objects each one stands on.
pub type Routes = BTreeMap<IpNet, Arc<BTreeSet<Key>>>;

/// The first half of a pass: what to do before anything new is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the speaker may go on announcing while the wiring changes, with the objects each prefix has stood on so far.
    pub keep: Routes,
    /// What is taken back now, because nobody wants it any more.
    pub withdraw: BTreeSet<IpNet>,
    /// Kernel and OVS objects to create or change, in this order.
    pub wire: Vec<Op>,
    desired: Routes,
    remove: BTreeMap<Key, Spec>,
}

/// The second half, which depends on what could be wired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// The whole set for the speaker, with the objects each prefix stands on: the `announced` of the next pass.
    pub announce: Routes,
    /// Wanted but not announced, with the failed objects each one lacks.
    pub held_back: Routes,
    /// Announced on their old wiring because the new one failed, with the failed objects.
    pub on_old_wiring: Routes,
    /// Kernel and OVS objects to remove, in this order.
    pub unwire: Vec<Op>,
}

impl Plan {
    /// Plans a pass. `announced` is what the speaker has now, `desired` what it should have; both name the objects needed.
    pub fn new(diff: Diff, announced: &Routes, desired: &Routes) -> Self {
        let Diff { add, change, remove } = diff;
        let (keep, gone): (Routes, Routes) =
            announced.clone().into_iter().partition(|(prefix, _)| desired.contains_key(prefix));
        Self {
            keep,
            withdraw: gone.into_keys().collect(),
            wire: creation_order(add.into_iter().chain(change)).map(|(key, spec)| Op::Set(key, spec)).collect(),
            desired: desired.clone(),
            remove,
        }
    }

    /// Whether the pass changes nothing at all.
    pub fn is_empty(&self) -> bool {
        self.withdraw.is_empty() && self.wire.is_empty() && self.remove.is_empty() && self.keep == self.desired
    }

    /// What may be announced now that `failed` are the objects of [`Plan::wire`] that could not be set, and what to remove. `there`
    /// says of an object whether it is there now, be it with its old specification.
    ///
    /// A prefix is announced when nothing it needs has failed. One that was announced before also stays when its old wiring
    /// still stands: everything it stood on is there (perhaps with its old specification), and is not removed in this pass.
    pub fn finish(mut self, failed: &BTreeSet<Key>, there: impl Fn(&Key) -> bool) -> Finish {
        let mut finish = Finish::default();
        for (prefix, needs) in std::mem::take(&mut self.desired) {
            let missing: BTreeSet<Key> = needs.intersection(failed).cloned().collect();
            if missing.is_empty() {
                finish.announce.insert(prefix, needs);
                continue;
            }
            match self.keep.get(&prefix) {
                // Somebody else may have removed some of it, in the very moment in which it was not wanted any more.
                Some(old) if old.iter().all(&there) => {
                    finish.announce.insert(prefix, Arc::clone(old));
                    finish.on_old_wiring.insert(prefix, Arc::new(missing));
                }
                _ => {
                    finish.held_back.insert(prefix, Arc::new(missing));
                }
            }
        }
        let needed: BTreeSet<&Key> = finish
            .on_old_wiring
            .keys()
            .filter_map(|prefix| finish.announce.get(prefix))
            .flat_map(|needs| needs.iter())
            .collect();
        self.remove.retain(|key, _| !needed.contains(key));
        finish.unwire = creation_order(self.remove).rev().map(|(key, _)| Op::Remove(key)).collect();
        finish
    }
}

/// Objects in the order in which they can be created. That is the order of [`Key`], except that the device of a `LinkUp` may be
/// a VLAN device which has to be made first.
fn creation_order(objects: impl IntoIterator<Item = (Key, Spec)>) -> impl DoubleEndedIterator<Item = (Key, Spec)> {
    let mut objects: Vec<_> = objects.into_iter().collect();
    let vlan_devices: BTreeSet<String> = objects
        .iter()
        .filter_map(|(key, _)| match key {
            Key::VlanDevice { name } => Some(name.clone()),
            _ => None,
        })
        .collect();
    objects.sort_by_cached_key(|(key, _)| {
        let stage = match key {
            Key::LinkUp { device } if !vlan_devices.contains(device) => 0,
            Key::VlanDevice { .. } => 1,
            Key::LinkUp { .. } => 2,
            _ => 3,
        };
        (stage, key.clone())
    });
    objects.into_iter()
}

#[cfg(test)]
mod tests;
