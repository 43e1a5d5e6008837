//! Which routes share an UPDATE.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::{ExportContext, Origination};
use crate::types::{Family, Prefix};
use crate::wire::{Attributes, NextHop};

/// Which group a route is announced with: [`NONE`], or its place in the list plus one; perhaps with [`AGAIN`].
pub(super) type GroupId = u32;

/// Not announced.
pub(super) const NONE: GroupId = 0;
/// Announced, and to be sent once more all the same (RFC 2918).
pub(super) const AGAIN: GroupId = 1 << 31;

/// Routes that go into the same UPDATE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) attributes: Arc<Attributes>,
    pub(super) next_hop: NextHop,
}

/// The group of this number.
pub(super) fn get(groups: &[Group], id: GroupId) -> Option<&Group> {
    groups.get(((id & !AGAIN) as usize).checked_sub(1)?)
}

/// Numbers the groups of one [`AdjOut::set`]; those nothing refers to any more are left behind.
pub(super) struct Groups<'a> {
    context: &'a ExportContext,
    pub(super) list: Vec<Group>,
    numbers: HashMap<Group, GroupId>,
    /// Equal originations share one `Arc`, and prefixes only differ by the rules that apply to them.
    known: HashMap<Key, GroupId>,
    /// The last answer: neighbours in the set mostly share their origination.
    last: Option<(Key, GroupId)>,
    old: &'a [Group],
    renumbered: Vec<GroupId>,
}

/// All that the attributes of a route depend on: the address of its origination, its family, and one bit a rule.
type Key = (usize, Family, u64);

impl<'a> Groups<'a> {
    pub(super) fn new(context: &'a ExportContext, old: &'a [Group]) -> Self {
        let renumbered = vec![NONE; old.len()];
        Self { context, list: Vec::new(), numbers: HashMap::new(), known: HashMap::new(), last: None, old, renumbered }
    }

    /// Goes on with a list, whose numbers stay as they are.
    pub(super) fn continued(context: &'a ExportContext, list: Vec<Group>) -> Self {
        let numbers = (1..).zip(&list).map(|(number, group)| (group.clone(), number)).collect();
        Self { list, numbers, ..Self::new(context, &[]) }
    }

    /// What a route should be announced with.
    pub(super) fn wanted(&mut self, prefix: &Prefix, route: &Arc<Origination>) -> GroupId {
        if self.context.permitted(prefix).is_err() {
            return NONE;
        }
        let Some(rules) = self.applicable(prefix) else {
            return self.exported(prefix, route);
        };
        let key = (Arc::as_ptr(route).addr(), Family::of(prefix), rules);
        if let Some((last, id)) = self.last
            && last == key
        {
            return id;
        }
        let id = if let Some(id) = self.known.get(&key) {
            *id
        } else {
            let id = self.exported(prefix, route);
            self.known.insert(key, id);
            id
        };
        self.last = Some((key, id));
        id
    }

    /// One bit for each rule that applies; `None` if there are more rules than bits.
    fn applicable(&self, prefix: &Prefix) -> Option<u64> {
        let rules = &self.context.rules;
        (rules.len() <= 64)
            .then(|| rules.iter().rev().fold(0, |bits, rule| bits << 1 | u64::from(rule.applies(prefix))))
    }

    fn exported(&mut self, prefix: &Prefix, route: &Origination) -> GroupId {
        match self.context.export(prefix, route) {
            Ok((attributes, next_hop)) => self.number(Group { attributes: Arc::new(attributes), next_hop }),
            Err(_) => NONE,
        }
    }

    fn number(&mut self, group: Group) -> GroupId {
        let next = u32::try_from(self.list.len() + 1).unwrap_or(AGAIN - 1);
        *self.numbers.entry(group).or_insert_with_key(|group| {
            self.list.push(group.clone());
            next
        })
    }

    /// The number of a group that was in use before.
    pub(super) fn renumber(&mut self, old: GroupId) -> GroupId {
        let place = ((old & !AGAIN) as usize).wrapping_sub(1);
        let id = match (self.renumbered.get(place), self.old.get(place)) {
            (Some(&NONE), Some(group)) => {
                let id = self.number(group.clone());
                if let Some(number) = self.renumbered.get_mut(place) {
                    *number = id;
                }
                id
            }
            (Some(id), _) => *id,
            (None, _) => NONE,
        };
        id | old & AGAIN
    }
}
