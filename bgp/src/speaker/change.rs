//! What a new configuration means for a peer whose session is up.

use super::{PeerConfig, SpeakerConfig};

/// How much a change disturbs a session, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// The session goes on untouched.
    Nothing,
    /// Routes are sent or asked for once more; the session stays.
    Refresh,
    /// The session is closed and opened again.
    Reset,
}

/// What changes for a peer, and what that does.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// The strongest effect of any key.
    pub impact: Impact,
    /// The keys that differ, as the configuration file names them.
    pub keys: Vec<&'static str>,
}

/// Compares two configurations of a peer. Pure: it is the dry run as well as the real thing.
pub fn classify(old: &PeerConfig, new: &PeerConfig) -> Change {
    use Impact::{Nothing, Refresh, Reset};
    let rows = [
        // Who the peer is, what the OPENs said, what the sockets were made with.
        (Reset, "remote_as", old.remote_as != new.remote_as),
        (Reset, "local_as", old.local_as != new.local_as),
        (Reset, "tcp_ao", old.tcp_ao != new.tcp_ao),
        (Reset, "password", old.password != new.password),
        (Reset, "families", old.families != new.families),
        (Reset, "add_path", old.add_path != new.add_path),
        (Reset, "hold_time", old.hold_time != new.hold_time),
        (Reset, "keepalive", old.keepalive != new.keepalive),
        (Reset, "send_hold_time", old.send_hold_time != new.send_hold_time),
        (Reset, "ttl_security", old.ttl_security != new.ttl_security),
        (Reset, "ebgp_multihop", old.multihop != new.multihop),
        (Reset, "nexthop_format", old.next_hop_format != new.next_hop_format),
        (Reset, "local_address", old.local_address != new.local_address),
        (Reset, "bind_interface", old.bind_interface != new.bind_interface),
        (Reset, "role", old.role != new.role),
        (Reset, "role_strict", old.role_strict != new.role_strict),
        (Reset, "shutdown", old.shutdown != new.shutdown),
        // What routes are told and heard.
        (Refresh, "next_hop_self", old.next_hop_self != new.next_hop_self),
        (Refresh, "prefix_list_out", old.prefix_list_out != new.prefix_list_out),
        (Refresh, "export", old.export_rules != new.export_rules),
        (Refresh, "graceful_shutdown", old.graceful_shutdown != new.graceful_shutdown),
        (Refresh, "prefix_list_in", old.prefix_list_in != new.prefix_list_in),
        (Refresh, "enforce_first_as", old.enforce_first_as != new.enforce_first_as),
        (Refresh, "allowas_in", old.allowas_in != new.allowas_in),
        (Refresh, "max_prefixes", old.max_prefixes != new.max_prefixes),
        // What only matters for the next attempt, or to the reader.
        (Nothing, "connect_retry", old.connect_retry != new.connect_retry),
        (Nothing, "bfd_strict", old.wait_for_bfd != new.wait_for_bfd),
        (Nothing, "passive", old.passive != new.passive),
        (Nothing, "port", old.port != new.port),
        (Nothing, "description", old.description != new.description),
    ];
    let changed = rows.into_iter().filter(|(_, _, differs)| *differs);
    Change {
        impact: changed.clone().map(|(impact, _, _)| impact).max().unwrap_or(Nothing),
        keys: changed.map(|(_, key, _)| key).collect(),
    }
}

/// The same for what holds for all peers.
pub fn classify_speaker(old: &SpeakerConfig, new: &SpeakerConfig) -> Change {
    use Impact::{Nothing, Refresh, Reset};
    let rows = [
        (Reset, "asn", old.asn != new.asn),
        (Reset, "router_id", old.router_id != new.router_id),
        (Refresh, "ebgp_requires_policy", old.ebgp_requires_policy != new.ebgp_requires_policy),
        (Nothing, "allow_hold_time_zero", old.allow_hold_time_zero != new.allow_hold_time_zero),
        // Holds from the next OPEN on: a session is not worth losing for it.
        (Nothing, "graceful_restart", old.graceful_restart != new.graceful_restart),
        // Whoever is there by one of them is compared by what it is configured as.
        (Nothing, "listen_ranges", old.listen_ranges != new.listen_ranges),
        (Nothing, "max_paths", old.max_paths != new.max_paths),
    ];
    let changed = rows.into_iter().filter(|(_, _, differs)| *differs);
    Change {
        impact: changed.clone().map(|(impact, _, _)| impact).max().unwrap_or(Nothing),
        keys: changed.map(|(_, key, _)| key).collect(),
    }
}
