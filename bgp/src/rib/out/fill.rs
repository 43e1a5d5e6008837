//! The messages that bring a peer from what it was told to what it should be told.

use bytes::BytesMut;

use super::groups::{self, AGAIN, NONE};
use super::{AdjOut, FamilyOut};
use crate::types::Family;
use crate::wire::{self, Message, Nlri, RouteRefresh, UpdateBuilder, end_of_rib};

/// Subtypes of ROUTE-REFRESH (RFC 7313 §3.2).
const BEGIN_OF_REFRESH: u8 = 1;
const END_OF_REFRESH: u8 = 2;

impl AdjOut {
    /// Appends whole messages, at most `limit` octets of them, but at least one if there is anything to say: withdrawals first, then
    /// announcements packed by equal attributes, then End-of-RIB once for each negotiated family (RFC 4724 §2).
    pub fn fill(&mut self, out: &mut BytesMut, limit: usize) {
        if !self.pending() {
            return;
        }
        let start = out.len();
        let mut builder = UpdateBuilder::new(&self.context.context, self.context.context.max_len());
        while out.len() == start || out.len() - start + self.context.context.max_len() <= limit {
            if !self.next_message(&mut builder, out) {
                break;
            }
        }
    }

    /// Appends one message, if there is anything left to say.
    fn next_message(&mut self, builder: &mut UpdateBuilder, out: &mut BytesMut) -> bool {
        let families = self.context.context.families;
        families.iter().any(|family| self.withdraw(family, builder, out))
            || families.iter().any(|family| {
                self.begin_refresh(family, out)
                    || self.announce(family, builder, out)
                    || self.complete(family, out)
                    || self.end_refresh(family, out)
            })
    }

    fn withdraw(&mut self, family: Family, builder: &mut UpdateBuilder, out: &mut BytesMut) -> bool {
        let path_id = self.path_id(family);
        let todo = self.families.of_mut(family);
        if todo.withdrawals_left().is_empty() || builder.withdraw(family).is_err() {
            return false;
        }
        let fits =
            todo.withdrawals_left().iter().take_while(|(prefix, _)| builder.push(Nlri { prefix: *prefix, path_id }));
        let count = fits.count();
        builder.finish(out);
        todo.withdrawn += count;
        todo.held = todo.held.saturating_sub(count);
        todo.release();
        count > 0
    }

    fn announce(&mut self, family: Family, builder: &mut UpdateBuilder, out: &mut BytesMut) -> bool {
        let path_id = self.path_id(family);
        let routes = self.routes.as_deref().map_or(&[][..], super::RouteSet::routes);
        let todo = self.families.of_mut(family);
        let first = todo.pending_left().first().and_then(|index| self.states.get(*index as usize));
        let Some(wanted) = first.map(|state| state.wanted) else { return false };
        let Some(group) = groups::get(&self.groups, wanted) else { return false };
        // Groups that cannot be encoded are not exported in the first place.
        if builder.announce(family, &group.attributes, group.next_hop).is_err() {
            return false;
        }
        let mut count = 0;
        for index in todo.pending.get(todo.announced..).unwrap_or_default() {
            let (Some(state), Some((prefix, _))) = (self.states.get_mut(*index as usize), routes.get(*index as usize))
            else {
                break;
            };
            if state.wanted != wanted || !builder.push(Nlri { prefix: *prefix, path_id }) {
                break;
            }
            todo.held += usize::from(state.sent == NONE);
            state.sent = wanted;
            count += 1;
        }
        builder.finish(out);
        todo.announced += count;
        todo.release();
        count > 0
    }

    /// "… the UPDATE message with no reachable NLRI and empty withdrawn NLRI is specified as the End-of-RIB marker" (RFC 4724 §2).
    fn complete(&mut self, family: Family, out: &mut BytesMut) -> bool {
        let partial = self.routes.as_ref().is_none_or(|routes| routes.is_partial());
        let todo = self.families.of_mut(family);
        let due = !todo.complete && !partial;
        if due {
            end_of_rib(family, out);
            todo.complete = true;
        }
        due
    }

    /// Begins to answer a route refresh, and says so where the peer understands it (RFC 7313 §4), but "MUST NOT send a BoRR for an
    /// AFI/SAFI to a neighbor before it sends the EoR for the AFI/SAFI to the neighbor": until then the answer goes without marks.
    /// Nor is one begun while another is under way.
    fn begin_refresh(&mut self, family: Family, out: &mut BytesMut) -> bool {
        let todo = self.families.of_mut(family);
        if !todo.refresh_asked || todo.end_due {
            return false;
        }
        let marked = self.context.context.enhanced_refresh && todo.complete;
        todo.refresh_asked = false;
        todo.end_due = marked;
        todo.pending.clear();
        todo.announced = 0;
        let routes = self.routes.as_deref().map_or(&[][..], super::RouteSet::routes);
        for (index, ((prefix, _), state)) in routes.iter().zip(&mut self.states).enumerate() {
            if Family::of(prefix) != family {
                continue;
            }
            if state.sent != NONE {
                state.sent |= AGAIN;
            }
            if state.is_pending() {
                todo.pending.push(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
        todo.order(&self.states);
        marked && self.refresh_marker(family, BEGIN_OF_REFRESH, out)
    }

    fn end_refresh(&mut self, family: Family, out: &mut BytesMut) -> bool {
        let todo = self.families.of_mut(family);
        std::mem::take(&mut todo.end_due) && self.refresh_marker(family, END_OF_REFRESH, out)
    }

    fn refresh_marker(&self, family: Family, subtype: u8, out: &mut BytesMut) -> bool {
        let (afi, safi) = family.afi_safi();
        let marker = Message::RouteRefresh(RouteRefresh { afi, subtype, safi });
        wire::encode(&marker, &self.context.context, out).is_ok()
    }

    /// We have one path to each prefix; where identifiers are in use, it has number 1 (RFC 7911 §3).
    pub(super) fn path_id(&self, family: Family) -> Option<u32> {
        self.context.context.add_path.contains(family).then_some(1)
    }
}

impl FamilyOut {
    /// Gives back the memory of lists that are done with.
    fn release(&mut self) {
        if self.withdrawals_left().is_empty() {
            (self.withdrawals, self.withdrawn) = (Vec::new(), 0);
        }
        if self.pending_left().is_empty() {
            (self.pending, self.announced) = (Vec::new(), 0);
        }
    }
}
