//! What an operator wants to let through, and what to say about it: prefix lists, communities, settings per peer.
//!
//! | file | what it is for |
//! |---|---|
//! | `prefix_list.rs` | lists in FRR's words: `seq 5 permit 0.0.0.0/0 ge 32`; first match wins, else deny |
//! | `community.rs` | communities as people write them (RFC 1997, 4360, 8092), and the well-known ones (RFC 8326) |
//! | `limit.rs` | how many routes a peer may announce |
//! | `role.rs` | BGP roles and the Only to Customer attribute (RFC 9234) |
//! | `set.rs` | attributes to set on what a peer is told |

pub mod community;
mod limit;
mod prefix_list;
mod role;
mod set;

pub use limit::{LimitAction, MaxPrefixes};
pub use prefix_list::{Action, Lengths, ListError, PrefixList, Rule};
pub use role::Role;
pub use set::{ExportRule, Set};

/// A word of the configuration that could not be read: where it stands and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct ParseError {
    /// Where the fault is: characters from the start of the text, counted from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl ParseError {
    fn new(column: usize, reason: impl Into<String>) -> Self {
        Self { column, reason: reason.into() }
    }
}
