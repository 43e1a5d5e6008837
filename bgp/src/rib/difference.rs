//! What is different in one set of routes after another: found once, for all peers that were told the first.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Origination, RouteSet};

/// Two sets, and where they differ.
#[derive(Debug)]
pub struct Difference {
    pub(super) from: Arc<RouteSet>,
    pub(super) to: Arc<RouteSet>,
    /// Sorted by prefix.
    pub(super) edits: Vec<Edit>,
}

/// One prefix that is not the same in both sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) kind: Kind,
    /// Where the prefix is in the first set, or would be.
    pub(super) from: usize,
    /// Where it is in the second set, or would be.
    pub(super) to: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gone,
    New,
    /// It is in both, with another origination.
    Changed,
}

impl Difference {
    /// Compares two sets, both sorted, in one pass.
    pub fn between(from: &Arc<RouteSet>, to: &Arc<RouteSet>) -> Self {
        // Sets that were made apart have equal originations behind different addresses, mostly the same two over and over.
        let mut equal = (std::ptr::null(), std::ptr::null());
        let mut same = |left: &Arc<Origination>, right: &Arc<Origination>| {
            let both = (Arc::as_ptr(left), Arc::as_ptr(right));
            let same = both.0 == both.1 || both == equal || left == right;
            if same {
                equal = both;
            }
            same
        };
        let (mut old, mut new) = (from.routes(), to.routes());
        let mut edits = Vec::new();
        loop {
            let pairs = old.iter().zip(new);
            let run = pairs.take_while(|(left, right)| left.0 == right.0 && same(&left.1, &right.1)).count();
            (old, new) = (old.get(run..).unwrap_or_default(), new.get(run..).unwrap_or_default());
            let kind = match (old.first(), new.first()) {
                (None, None) => break,
                (Some(_), None) => Kind::Gone,
                (None, Some(_)) => Kind::New,
                (Some((left, _)), Some((right, _))) => match left.cmp(right) {
                    Ordering::Less => Kind::Gone,
                    Ordering::Greater => Kind::New,
                    Ordering::Equal => Kind::Changed,
                },
            };
            edits.push(Edit { kind, from: from.routes().len() - old.len(), to: to.routes().len() - new.len() });
            if kind != Kind::New {
                old = old.get(1..).unwrap_or_default();
            }
            if kind != Kind::Gone {
                new = new.get(1..).unwrap_or_default();
            }
        }
        Self { from: Arc::clone(from), to: Arc::clone(to), edits }
    }
}
