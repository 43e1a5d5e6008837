//! Attributes to set on what a peer is told.

use std::sync::Arc;

use super::PrefixList;
use crate::types::Prefix;
use crate::wire::LargeCommunity;

/// Attributes to set. `None` and empty leave alone what is there; communities are added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Set {
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF, towards internal peers only (RFC 4271 §5.1.5).
    pub local_pref: Option<u32>,
    /// How many times our AS number is prepended on top of the one an external peer sees anyway.
    pub prepend: u8,
    /// Standard communities to add.
    pub communities: Vec<u32>,
    /// Extended communities to add.
    pub extended_communities: Vec<u64>,
    /// Large communities to add.
    pub large_communities: Vec<LargeCommunity>,
}

/// What to set on some prefixes. The rules of a peer are applied in order, each on top of the ones before.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExportRule {
    /// On which prefixes; `None`: on all.
    pub prefixes: Option<Arc<PrefixList>>,
    /// What to set.
    pub set: Set,
}

impl ExportRule {
    /// Whether the rule is for `prefix`.
    pub fn applies(&self, prefix: &Prefix) -> bool {
        self.prefixes.as_ref().is_none_or(|list| list.permits(prefix))
    }
}
