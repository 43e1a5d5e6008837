//! What the speaker reports for the log: one clear line each.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::types::{Asn, Families, Family, Prefix};

/// Something an operator may want to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session came up.
    Up {
        /// The peer.
        neighbor: String,
        /// Its AS.
        asn: Asn,
        /// Its BGP Identifier.
        router_id: Ipv4Addr,
        /// What is exchanged.
        families: Families,
        /// Negotiated.
        hold_time: Duration,
    },
    /// A session goes on that came up in a process before this one.
    Inherited {
        /// The peer.
        neighbor: String,
        /// How long it has been up.
        uptime: Duration,
        /// The families in which it may have been told something else than it would be told now: all of it is sent anew.
        anew: Families,
    },
    /// A session went down.
    Down {
        /// The peer.
        neighbor: String,
        /// Why.
        reason: String,
        /// How long it was up.
        uptime: Duration,
        /// The families whose routes are kept for its return (RFC 4724).
        routes_kept: Families,
    },
    /// An attempt to open a session came to nothing.
    Failed {
        /// The peer.
        neighbor: String,
        /// Why.
        reason: String,
    },
    /// A message could not be read; the session ends.
    Malformed {
        /// The peer.
        neighbor: String,
        /// What is wrong and where.
        reason: String,
        /// The message in hexadecimal.
        bytes: String,
    },
    /// An UPDATE had faults that do not end the session (RFC 7606).
    Faults {
        /// The peer.
        neighbor: String,
        /// What is wrong and where.
        faults: Vec<String>,
        /// The message in hexadecimal.
        bytes: String,
    },
    /// A connection nobody is configured for, or that is not wanted now, was refused.
    Refused {
        /// Where it came from.
        from: String,
        /// Why.
        reason: String,
    },
    /// A peer announces nearly as many routes as it may, or more than that where only a warning is wanted.
    PrefixLimit {
        /// The peer.
        neighbor: String,
        /// The family.
        family: Family,
        /// How many routes are in use.
        count: usize,
        /// How many may be.
        limit: u32,
    },
    /// A listen range has no room for another neighbour. Said once, until one of its neighbours has gone.
    RangeFull {
        /// The range.
        range: Prefix,
        /// How many neighbours it has room for.
        limit: u32,
        /// Who was turned away.
        from: IpAddr,
    },
    /// The best routes learned from peers have changed.
    LearnedChanged,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { neighbor, asn, router_id, families, hold_time } => write!(
                f,
                "neighbor {neighbor} is up: AS {asn}, router id {router_id}, {families}, hold time {} s",
                hold_time.as_secs()
            ),
            Self::Inherited { neighbor, uptime, anew } => {
                write!(f, "neighbor {neighbor} was taken over after {} s", uptime.as_secs())?;
                if !anew.is_empty() {
                    write!(
                        f,
                        "; this version says other things of the same routes, all of them are sent anew ({anew})"
                    )?;
                }
                Ok(())
            }
            Self::Down { neighbor, reason, uptime, routes_kept } => {
                write!(f, "neighbor {neighbor} is down after {} s: {reason}", uptime.as_secs())?;
                if !routes_kept.is_empty() {
                    write!(f, "; its routes are kept for its return ({routes_kept})")?;
                }
                Ok(())
            }
            Self::Failed { neighbor, reason } => write!(f, "neighbor {neighbor} does not come up: {reason}"),
            Self::Malformed { neighbor, reason, bytes } => {
                write!(f, "neighbor {neighbor} sent a message we cannot read: {reason}: {bytes}")
            }
            Self::Faults { neighbor, faults, bytes } => {
                write!(f, "neighbor {neighbor} sent a faulty UPDATE: {}: {bytes}", faults.join("; "))
            }
            Self::PrefixLimit { neighbor, family, count, limit } if *count > *limit as usize => {
                write!(
                    f,
                    "neighbor {neighbor} announces {count} {family} routes, more than max_prefixes allows ({limit}); they are used all the same (warning_only)"
                )
            }
            Self::PrefixLimit { neighbor, family, count, limit } => {
                write!(f, "neighbor {neighbor} announces {count} {family} routes; max_prefixes allows {limit}")
            }
            Self::Refused { from, reason } => write!(f, "connection from {from} refused: {reason}"),
            Self::RangeFull { range, limit, from } => write!(
                f,
                "{from} was turned away: listen range {range} has {limit} neighbors, its limit; raise 'limit' if that is too low"
            ),
            Self::LearnedChanged => f.write_str("learned routes changed"),
        }
    }
}
