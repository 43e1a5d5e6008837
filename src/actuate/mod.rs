//! The outside worlds: observe what is there, apply what is to change. Nothing here decides.
//!
//! | module | world |
//! |---|---|
//! | [`kernel`] | rules, routes, neighbours, addresses, devices, sysctls |
//! | [`fib`] | learned routes |
//! | [`monitor`] | "somebody changed the kernel's state" |
//! | [`ovs`] | flows on the bridges |
//! | [`rt_tables`] | the routing table of a bridge, shared with iproute2 by file |

mod adopt;
pub mod fib;
pub mod kernel;
pub mod monitor;
mod netlink;
pub mod ovs;
pub mod rt_tables;

use std::collections::BTreeMap;
use std::io;

use self::kernel::{Kernel, Scope};
use self::ovs::Ovs;
use crate::desired::wiring::{Key, Object, Spec};
use crate::diff::Op;

/// Kernel and bridges together.
pub struct Actuators {
    /// The kernel.
    pub kernel: Kernel,
    /// The bridges.
    pub ovs: Ovs,
}

impl Actuators {
    /// What is ours and what is there under the wanted keys, and the bridges that could not be asked with the reason. The flows
    /// of these read as absent: a switch that cannot be asked forwards for nobody.
    ///
    /// Errors when the kernel cannot be asked.
    pub async fn observe(
        &mut self,
        scope: &Scope,
        wanted: &BTreeMap<Key, Object>,
    ) -> io::Result<(BTreeMap<Key, Spec>, BTreeMap<String, String>)> {
        let mut found = self.kernel.observe(scope, wanted)?;
        let (flows, silent) = self.ovs.observe().await;
        found.extend(flows);
        Ok((found, silent))
    }

    /// Applies the operations in the order given, each in its world: one result each, a failure does not stop the rest.
    pub async fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), OpError>> {
        let mut results = Vec::with_capacity(ops.len());
        for run in ops.chunk_by(|a, b| is_flow(a) == is_flow(b)) {
            if run.first().is_some_and(is_flow) {
                results.extend(self.ovs.apply(run).await);
            } else {
                results.extend(self.kernel.apply(run));
            }
        }
        results
    }
}

fn is_flow(op: &Op) -> bool {
    matches!(op.key(), Key::Flow { .. })
}

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
