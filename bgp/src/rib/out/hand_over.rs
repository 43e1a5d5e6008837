//! An Adj-RIB-Out that goes on in another process.
//!
//! That knows the set of routes, and what it would tell the peer of them. Whether this is what the peer was told shows a digest; if
//! it is not, because another version exports differently, everything is said once more.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use sha1::{Digest, Sha1};

use super::groups::{self, AGAIN, Group, GroupId, NONE};
use super::{AdjOut, ExportContext, RouteSet};
use crate::types::{Families, Family, Prefix};
use crate::wire::{Attributes, NextHop, Nlri, UpdateBuilder};

impl AdjOut {
    /// The peer has been told all of `routes`, with End-of-RIB in these families; `digest` says what that was. Answers the families
    /// in which it was something else than would be said now: all of it is pending.
    pub(crate) fn told(
        context: ExportContext,
        routes: Arc<RouteSet>,
        complete: Families,
        digest: impl Fn(Family) -> Option<Vec<u8>>,
    ) -> (Self, Families) {
        let mut out = Self::new(context);
        out.set(routes);
        for state in &mut out.states {
            state.sent = state.wanted;
        }
        for family in Family::ALL {
            let held = out.view().filter(|(prefix, _)| Family::of(prefix) == family).count();
            let todo = out.families.of_mut(family);
            (todo.pending, todo.announced, todo.held) = (Vec::new(), 0, held);
            todo.complete = complete.contains(family);
        }
        let negotiated = out.context.context.families;
        let differs: Families =
            negotiated.iter().filter(|f| digest(*f).is_none_or(|was| was != out.digest(*f))).collect();
        for family in differs.iter() {
            out.send_anew(family);
        }
        (out, differs)
    }

    /// What the peer has been told of one family, in a few octets.
    pub(crate) fn digest(&self, family: Family) -> Vec<u8> {
        let context = &self.context.context;
        let mut builder = UpdateBuilder::new(context, context.max_len());
        let (mut hash, mut octets) = (Sha1::new(), BytesMut::new());
        // Groups by the order of their first route: their numbers depend on what was there before.
        let mut groups: HashMap<GroupId, u32> = HashMap::new();
        for (prefix, sent) in self.view().filter(|(prefix, _)| Family::of(prefix) == family) {
            let next = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            let number = *groups.entry(sent & !AGAIN).or_insert(next);
            if number == next
                && let Some(group) = groups::get(&self.groups, sent)
                && builder.announce(family, &group.attributes, group.next_hop).is_ok()
            {
                let _ = builder.push(Nlri { prefix, path_id: self.path_id(family) });
                octets.clear();
                builder.finish(&mut octets);
                hash.update(&octets);
            }
            hash.update(number.to_be_bytes());
            hash.update([prefix.prefix_len()]);
            match prefix {
                Prefix::V4(prefix) => hash.update(prefix.addr().octets()),
                Prefix::V6(prefix) => hash.update(prefix.addr().octets()),
            }
        }
        hash.finalize().to_vec()
    }

    /// Nothing is known of what the peer has of this family but that it is of this set: what is to be announced is announced, the rest
    /// withdrawn.
    fn send_anew(&mut self, family: Family) {
        let routes = self.routes.clone();
        let routes = routes.as_deref().map_or(&[][..], RouteSet::routes);
        self.groups.push(Group { attributes: Arc::new(Attributes::default()), next_hop: NextHop::V4([0; 4].into()) });
        let unknown = u32::try_from(self.groups.len()).unwrap_or(AGAIN - 1);
        let todo = self.families.of_mut(family);
        for (index, ((prefix, _), state)) in routes.iter().zip(&mut self.states).enumerate() {
            if Family::of(prefix) != family {
                continue;
            }
            if state.wanted == NONE {
                todo.withdraw(*prefix, unknown);
            } else {
                state.sent |= AGAIN;
                todo.pending.push(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
        todo.order(&self.states);
    }
}
