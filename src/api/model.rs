//! What `show --json`, `plan --json` and the API say: the shapes are a contract (`docs/api.md`), additions are allowed, nothing
//! is renamed. Absent values are `null`, never left out, so that a reader can rely on every key.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bgp::rib::NotExported;
use bgp::types::Family;
use ipnet::IpNet;

use serde::{Deserialize, Serialize};

use crate::desired::{self, Kind};

mod wiring;
pub use wiring::{
    ObjectState, Wiring, WiringAddress, WiringDevice, WiringFlow, WiringNeighbour, WiringProxy, WiringRoute,
    WiringRule, WiringSysctl,
};

/// The daemon in a few lines (`show summary`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the running daemon.
    pub version: String,
    /// Our BGP identifier, in dotted form.
    pub router_id: String,
    /// Our AS number.
    pub asn: u32,
    /// Since the daemon started.
    pub uptime_seconds: f64,
    /// The configuration file in force.
    pub config_file: String,
    /// Since it was last read without a fault.
    pub config_age_seconds: f64,
    /// Traffic is being moved away (`drain`).
    pub draining: bool,
    /// What `/readyz` says: the initial dump is applied and at least one neighbour is established.
    pub ready: bool,
    /// Why not ready; empty when ready.
    pub not_ready: Vec<String>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
    /// Neighbours.
    pub neighbors: NeighborCounts,
    /// Prefixes.
    pub routes: RouteCounts,
    /// Exposures; `null` without an `[ovn]` section.
    pub exposures: Option<ExposureCounts>,
    /// BFD packets, also those of no session; `null` while nobody is watched by BFD.
    #[serde(default)]
    pub bfd: Option<BfdPackets>,
    /// Connection to the Northbound database; `null` without an `[ovn]` section.
    pub northbound: Option<Database>,
    /// Connection to the local Open_vSwitch database; `null` without an `[ovn]` section.
    pub open_vswitch: Option<Database>,
    /// Who this host is in OVN; `null` without an `[ovn]` section or until it is known.
    pub chassis: Option<Chassis>,
}

/// How many neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborCounts {
    /// In the configuration, and dynamic ones that are connected.
    pub configured: u64,
    /// In state Established.
    pub established: u64,
}

/// How many prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCounts {
    /// We announce.
    pub announced: u64,
    /// Learned from neighbours.
    pub learned: u64,
    /// Learned ones that stand in the kernel.
    pub installed: u64,
}

/// How many exposures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposureCounts {
    /// All of them.
    pub total: u64,
    /// All objects they need are in place.
    pub wired: u64,
    /// A neighbour was told.
    pub announced: u64,
    /// Objects that could not be made; retried.
    pub failed: u64,
}

/// A database connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Database {
    /// The remote in use, or the one being tried.
    pub remote: String,
    /// The conversation runs.
    pub connected: bool,
    /// A complete dump has been seen since the daemon started; without it nothing is concluded from what is missing.
    pub synced: bool,
    /// Rows held.
    pub rows: u64,
    /// Why not connected.
    pub last_error: Option<String>,
}

/// Who this host is in OVN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chassis {
    /// Compared with `requested-chassis` and `neutron:host_id`.
    pub hostname: String,
    /// Compared with `hosting-chassis`.
    pub system_id: String,
}

/// One BGP neighbour (`show neighbors`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Neighbor {
    /// Its name everywhere: the address, `address%interface` for a link-local one, or the interface alone while nobody has been
    /// discovered there.
    pub neighbor: String,
    /// Interface of an unnumbered or link-local neighbour.
    pub interface: Option<String>,
    /// Free text of the configuration.
    pub description: Option<String>,
    /// Its peer group.
    pub peer_group: Option<String>,
    /// It dialled from a listen range and is not in the configuration itself.
    pub dynamic: bool,
    /// The listen range it dialled from.
    pub listen_range: Option<String>,
    /// Its AS: configured, or learned from its OPEN (`external`, `auto`).
    pub remote_as: Option<u32>,
    /// Our AS on this session.
    pub local_as: u32,
    /// `ibgp` or `ebgp`; unknown until its AS is.
    pub kind: Option<String>,
    /// Idle, Connect, Active, OpenSent, OpenConfirm or Established (RFC 4271 §8.2.2).
    pub state: String,
    /// In this state.
    pub state_seconds: f64,
    /// Established for so long; `null` otherwise.
    pub uptime_seconds: Option<f64>,
    /// How often the session was established.
    pub established_count: u64,
    /// How long ago this process took the session over from one before it; `null`: the session came up here.
    pub taken_over_seconds: Option<f64>,
    /// How often it was lost.
    pub lost_count: u64,
    /// Its BGP identifier.
    pub router_id: Option<String>,
    /// Our end of the connection, with port.
    pub local_endpoint: Option<String>,
    /// Its end of the connection, with port.
    pub remote_endpoint: Option<String>,
    /// The last NOTIFICATION we sent, in words.
    pub last_error_sent: Option<String>,
    /// How long ago.
    pub last_error_sent_seconds: Option<f64>,
    /// The last NOTIFICATION it sent, in words.
    pub last_error_received: Option<String>,
    /// How long ago.
    pub last_error_received_seconds: Option<f64>,
    /// Why the session went down last, or why it does not come up.
    pub last_reason: Option<String>,
    /// Until the next attempt.
    pub next_attempt_seconds: Option<f64>,
    /// Capabilities, in words.
    pub capabilities: Capabilities,
    /// Timers in force.
    pub timers: Timers,
    /// Messages.
    pub messages: MessageCounts,
    /// How the session is protected.
    pub security: Security,
    /// BFD.
    pub bfd: Option<NeighborBfd>,
    /// Graceful restart, in words (`helper`, `restarting, 12 s left` …).
    pub graceful_restart: Option<String>,
    /// Administratively shut down, with the text.
    pub shutdown: Option<String>,
    /// Per family.
    pub families: Vec<NeighborFamily>,
    /// RFC 7606: UPDATEs treated as withdraw, and attributes discarded.
    pub treated_as_withdraw: u64,
    /// RFC 7606: attributes discarded.
    pub attributes_discarded: u64,
}

/// Capabilities of both sides, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// We offer.
    pub sent: Vec<String>,
    /// It offered.
    pub received: Vec<String>,
}

/// Timers in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timers {
    /// Negotiated once established, configured before.
    pub hold_time_seconds: f64,
    /// Between KEEPALIVEs.
    pub keepalive_seconds: f64,
    /// How long it may take nothing (RFC 9687); absent: for ever.
    pub send_hold_seconds: Option<f64>,
    /// Between attempts.
    pub connect_retry_seconds: f64,
    /// What runs now, and when it ends: `hold`, `keepalive`, `send_hold`, `connect_retry`, `idle_hold`, `open`.
    pub running: BTreeMap<String, f64>,
}

/// Messages of the current and past connections of this neighbour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCounts {
    /// All messages sent.
    pub sent: u64,
    /// All messages received.
    pub received: u64,
    /// UPDATEs sent.
    pub updates_sent: u64,
    /// UPDATEs received.
    pub updates_received: u64,
    /// Octets sent.
    pub bytes_sent: u64,
    /// Octets received.
    pub bytes_received: u64,
}

/// How a session is protected. The secrets themselves are never here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// TCP-MD5 (RFC 2385) with a password of ours.
    pub md5: bool,
    /// TCP-AO (RFC 5925).
    pub ao: bool,
    /// GTSM (RFC 5082): hops allowed.
    pub ttl_security: Option<u8>,
    /// TCP segments the kernel dropped for a missing or wrong signature while this session was not up: a password on one side only
    /// shows here. The kernel does not say whose they were.
    pub signature_failures: u64,
}

/// BFD of a neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborBfd {
    /// Profile.
    pub profile: String,
    /// AdminDown, Down, Init or Up (RFC 5880 §6.2).
    pub state: String,
}

/// One family of a neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborFamily {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Both sides offered it.
    pub negotiated: bool,
    /// Prefixes it has been told.
    pub advertised: u64,
    /// Announcements and withdrawals still to be sent.
    pub pending: u64,
    /// Prefixes it told us.
    pub received: u64,
    /// Of them, let in by our policy.
    pub accepted: u64,
    /// The limit of accepted prefixes.
    pub max_prefixes: Option<u64>,
    /// We have sent End-of-RIB.
    pub end_of_rib_sent: bool,
    /// It has sent End-of-RIB.
    pub end_of_rib_received: bool,
    /// The next hop we announce.
    pub next_hop: Option<String>,
}

/// A prefix we announce (`show routes`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Prefix.
    pub prefix: IpNet,
    /// Next hop set on the route; `null`: each session's own address.
    pub next_hop: Option<IpAddr>,
    /// Who is told.
    pub neighbors: Vec<RouteNeighbor>,
    /// Why we announce it: configuration, interface, exposures.
    pub reasons: Vec<String>,
}

/// What one neighbour knows of a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteNeighbor {
    /// Neighbour.
    pub neighbor: String,
    /// It was sent the prefix.
    pub advertised: bool,
    /// Its TCP has acknowledged the octets.
    pub acknowledged: bool,
    /// Why it is not told: session down, family not negotiated, the prefix list that denies it …
    pub refused: Option<String>,
}

impl RouteNeighbor {
    /// It is not told because its session is not for this family. With a session a family, which is usual, that is no news: people
    /// are told of the others.
    fn has_another_family(&self) -> bool {
        let why = |family| NotExported::Family(family).to_string();
        self.refused.as_deref().is_some_and(|refused| Family::ALL.iter().any(|family| why(*family) == refused))
    }

    /// Those that a person wants to hear of: without the sessions for another family, unless there are no others.
    pub fn worth_a_word(all: &[Self]) -> impl Iterator<Item = &Self> {
        let only_others = all.iter().all(Self::has_another_family);
        all.iter().filter(move |neighbor| only_others || !neighbor.has_another_family())
    }
}

/// A prefix a neighbour told us (`show learned`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// Prefix.
    pub prefix: IpNet,
    /// From.
    pub neighbor: String,
    /// Next hops, link-local ones with `%interface`.
    pub next_hops: Vec<String>,
    /// It is (one of) the best.
    pub selected: bool,
    /// It stands in the kernel.
    pub installed: bool,
    /// Why selected, installed, or not.
    pub reason: String,
    /// AS path as text.
    pub as_path: String,
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// Communities of all kinds, as text.
    pub communities: Vec<String>,
    /// Kept over a graceful restart and not confirmed yet.
    pub stale: bool,
    /// Which of several paths of this neighbour, where it gives them identifiers (RFC 7911).
    pub path_id: Option<u32>,
}

/// An address this host attracts (`show exposures`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// /32, /128, or the network of a tenant subnet.
    pub address: IpNet,
    /// What it is.
    pub kind: Kind,
    /// The row it belongs to.
    pub port: String,
    /// Logical switch with the localnet port.
    pub network: String,
    /// Provider bridge.
    pub bridge: String,
    /// VLAN tag of the provider network.
    pub vlan: Option<u16>,
    /// Every object it needs is in place.
    pub wired: bool,
    /// At least one neighbour was told. In `plan`: it is to be announced.
    pub announced: bool,
    /// Why: the chain of conditions that holds.
    pub reasons: Vec<String>,
}

impl Exposure {
    /// An exposure with what became of it.
    pub fn new(exposure: &desired::Exposure, wired: bool, announced: bool) -> Self {
        Self {
            address: exposure.address,
            kind: exposure.kind,
            port: exposure.port.clone(),
            network: exposure.network.clone(),
            bridge: exposure.bridge.clone(),
            vlan: exposure.vlan,
            wired,
            announced,
            reasons: exposure.reasons.clone(),
        }
    }
}

/// `plan --json`: what this host would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What it would expose.
    pub exposures: Vec<Exposure>,
    /// What it would make in the kernel and in OVS.
    pub wiring: Wiring,
    /// What it would announce.
    pub routes: Vec<Route>,
    /// What it would not expose although a row names this host or address, and why.
    pub refusals: Vec<desired::Refusal>,
    /// What was assumed because no file says it, and rows that were ignored.
    pub notes: Vec<String>,
}

/// A BFD session (`show bfd`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bfd {
    /// The BGP neighbour it watches.
    pub neighbor: String,
    /// Interface.
    pub interface: Option<String>,
    /// Profile.
    pub profile: String,
    /// AdminDown, Down, Init or Up.
    pub state: String,
    /// The neighbour's state as it last said.
    pub remote_state: String,
    /// In this state.
    pub state_seconds: f64,
    /// Diagnostic of the last change, in words (RFC 5880 §4.1).
    pub diagnostic: String,
    /// The neighbour's diagnostic.
    pub remote_diagnostic: String,
    /// Our discriminator.
    pub local_discriminator: u32,
    /// Its discriminator.
    pub remote_discriminator: u32,
    /// Negotiated interval of our packets.
    pub transmit_interval_ms: f64,
    /// Negotiated interval of its packets.
    pub receive_interval_ms: f64,
    /// Silence after which the session is down.
    pub detection_time_ms: f64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received and believed.
    pub packets_received: u64,
    /// Packets received and refused.
    pub packets_dropped: u64,
    /// Times the session came up.
    pub up_count: u64,
    /// Times it went down.
    pub down_count: u64,
    /// How often it changed to a state, and why.
    #[serde(default)]
    pub transitions: Vec<BfdTransition>,
    /// How packets are authenticated; `null`: not at all.
    #[serde(default)]
    pub authentication: Option<String>,
    /// It is up, but has failed so often that it is not relied on for so long.
    #[serde(default)]
    pub held_seconds: Option<f64>,
    /// What was received and refused, by rule, and how punctual our packets were.
    #[serde(default, flatten)]
    pub packets: BfdPackets,
}

/// A kind of change of a BFD session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BfdTransition {
    /// The state it changed to.
    pub to: String,
    /// Diagnostic, in words (RFC 5880 §4.1).
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// BFD packets of a session, or of all and of none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BfdPackets {
    /// Packets received and refused, by the rule of RFC 5880 or RFC 5881 they broke.
    pub packets_discarded: BTreeMap<String, u64>,
    /// Packets of ours by how late they were sent, in milliseconds at most (`1` … `500`, `more`); each in one class only.
    pub packets_late: BTreeMap<String, u64>,
    /// Periodic packets of ours that followed the one before after 75 to 100 % of the interval (RFC 5880 §6.8.7).
    pub packets_in_window: u64,
    /// Sooner.
    pub packets_too_soon: u64,
    /// Later.
    pub packets_too_late: u64,
}

/// Why an address is or is not announced here (`explain`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explain {
    /// The address asked for.
    pub address: String,
    /// A neighbour was told a prefix that is or covers it.
    pub announced: bool,
    /// One line: the answer.
    pub verdict: String,
    /// The conditions in the order they are checked; the first that fails is the reason.
    pub steps: Vec<Step>,
    /// Exposures of the address.
    pub exposures: Vec<Exposure>,
    /// Routes we announce that are or cover it.
    pub routes: Vec<Route>,
    /// Routes learned that cover it.
    pub learned: Vec<Learned>,
}

/// One condition of an explanation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was asked.
    pub condition: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was seen.
    pub detail: String,
}

/// What `reload` did, or with `dry_run` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Nothing was done.
    pub dry_run: bool,
    /// The new configuration is in force (with `dry_run`: would be accepted).
    pub accepted: bool,
    /// Faults of the new configuration, `file:line:column: message`; the old one stays in force.
    pub problems: Vec<String>,
    /// Per neighbour.
    pub neighbors: Vec<ReloadNeighbor>,
    /// Other changes, in words.
    pub changes: Vec<String>,
    /// Changes that need a restart of the daemon, in words.
    pub restart_needed: Vec<String>,
}

/// What a reload does to one neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadNeighbor {
    /// Neighbour.
    pub neighbor: String,
    /// What happens.
    pub action: ReloadAction,
    /// The keys that changed.
    pub changed: Vec<String>,
}

/// What a reload does to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadAction {
    /// The session goes on untouched.
    Nothing,
    /// Routes are sent or asked for again; the session stays.
    Refresh,
    /// The session is closed and opened again.
    Reset,
    /// A new neighbour.
    Add,
    /// The neighbour is gone.
    Remove,
}

/// What `upgrade` is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeOrder {
    /// The daemon is about to go on in the binary on disk.
    pub accepted: bool,
    /// Version of that binary.
    pub version: Option<String>,
    /// The `number` of the [`UpgradeReport`] that says what came of it.
    pub number: u64,
    /// Why nothing happens.
    pub problem: Option<String>,
}

/// How the daemon came to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpgradeReport {
    /// How many processes have handed over to the next since the daemon was started.
    pub number: u64,
    /// Version of this one.
    pub version: String,
    /// Version of the one before; `null`: it was started.
    pub former_version: Option<String>,
    /// How long ago that was.
    pub seconds: Option<f64>,
    /// How long nobody served the sessions.
    pub gap_seconds: Option<f64>,
    /// The sessions that were up then.
    pub neighbors: Vec<UpgradeNeighbor>,
    /// The last attempt failed.
    pub failure: Option<UpgradeFailure>,
}

/// What became of a session when the daemon went on in another binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeNeighbor {
    /// Neighbour.
    pub neighbor: String,
    /// The session went on; else it ended without a NOTIFICATION (graceful restart) or as after a reload.
    pub kept: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// Why the daemon did not go on in another binary, or its sessions did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeFailure {
    /// The `number` that was to be.
    pub number: u64,
    /// In words.
    pub reason: String,
}

/// What `drain` and `undrain` answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DrainReport {
    /// The state now.
    pub draining: bool,
    /// It was different before.
    pub changed: bool,
    /// Until everything is withdrawn; until then neighbours are asked to look elsewhere. `null` when it is withdrawn, or nothing is
    /// drained.
    pub withdrawal_in_seconds: Option<f64>,
}
