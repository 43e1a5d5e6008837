//! The outside worlds: observe what is there, apply what is to change. Nothing here decides.
//!
//! | module | world |
//! |---|---|
//! | [`kernel`] | rules, routes, neighbours, addresses, devices, sysctls |
//! | [`monitor`] | "somebody changed the kernel's state" |
//! | [`rt_tables`] | the routing table of a bridge, shared with iproute2 by file |

pub mod kernel;
pub mod monitor;
mod netlink;
pub mod rt_tables;

use std::io;

/// Why an operation did not take effect.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// The device does not exist (yet).
    #[error("device {0} does not exist")]
    NoDevice(String),
    /// The kernel lacks 802.1Q.
    #[error(
        "the kernel cannot make VLAN device {0}: module 8021q is missing; load it (modprobe 8021q), or create {0} yourself as an \
         OVS internal port with the tag"
    )]
    NoVlanSupport(String),
    /// Something of somebody else has that name and is not what is wanted.
    #[error("device {0} exists, is not what is wanted and was not made by ovn-bgpd; remove or rename it")]
    ForeignDevice(String),
    /// The kernel or the switch said no.
    #[error("{what}: {reason}")]
    Refused {
        /// What was tried, for example `add route 10.0.0.1/32 table 10 dev br-ex`.
        what: String,
        /// The answer.
        reason: String,
    },
    /// A sysctl could not be read or written.
    #[error("/proc/sys/{path}: {source}")]
    Sysctl {
        /// Path below /proc/sys.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The connection to the kernel or the switch broke; whether the operation took effect is unknown.
    #[error("connection lost, outcome unknown: {0}")]
    Lost(String),
    /// This world has no such objects.
    #[error("not an object of the {0}")]
    WrongWorld(&'static str),
}
