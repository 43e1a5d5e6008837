//! The outside worlds: observe what is there, apply what is to change. Nothing here decides.
//!
//! | module | world |
//! |---|---|
//! | [`kernel`] | rules, routes, neighbours, addresses, devices, sysctls |
//! | [`fib`] | learned routes |
//! | [`monitor`] | "somebody changed the kernel's state" |
//! | [`ovs`] | flows on the bridges |
//! | [`adopt`] | taking over what ovn-bgp-agent left |
//! | `netlink` | rtnetlink messages and sockets |
//! | [`rt_tables`] | the routing table of a bridge, shared with iproute2 by file |

pub mod adopt;
pub mod fib;
pub mod kernel;
pub mod monitor;
mod netlink;
pub mod ovs;
pub mod rt_tables;

use std::io;

use crate::desired::wiring::Key;

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
    /// The bridge cannot be reached.
    #[error("bridge {bridge}: {reason}")]
    NoBridge {
        /// The bridge.
        bridge: String,
        /// Why not.
        reason: String,
    },
    /// This world has no such objects.
    #[error("not an object of the {0}")]
    WrongWorld(&'static str),
}

/// An object in words close to iproute2's.
fn describe(key: &Key) -> String {
    match key {
        Key::LinkUp { device } => format!("link {device}"),
        Key::VlanDevice { name } => format!("VLAN device {name}"),
        Key::Address { device, address } => format!("address {address} dev {device}"),
        Key::Sysctl { path } => format!("sysctl {path}"),
        Key::Route { table, to } => format!("route {to} table {table}"),
        Key::Rule { to: Some(to), table, .. } => format!("rule to {to} lookup {table}"),
        Key::Rule { to: None, v6, table } => format!("rule of IPv{} lookup {table}", if *v6 { 6 } else { 4 }),
        Key::Neighbour { device, address } => format!("neighbour {address} dev {device}"),
        Key::Proxy { device, address } => format!("proxy {address} dev {device}"),
        Key::Flow { bridge, in_port, v6 } => {
            format!("flow {} in_port={in_port} on {bridge}", if *v6 { "ipv6" } else { "ip" })
        }
    }
}
