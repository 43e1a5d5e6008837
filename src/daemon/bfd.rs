//! BFD as the agent sees it: which neighbours are watched, and what the API says of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bgp::bfd::{Lateness, SessionKey};
use bgp::driver::Handle as Speaker;
use bgp::driver::bfd::{Handle, Peers, SessionStatus, Snapshot, Watched, spawn};
use bgp::speaker::PeerAddress;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::api::model;
use crate::config::{Config, Neighbor};

/// The thread, once there is somebody to watch.
#[derive(Default)]
pub(super) struct Bfd {
    handle: Option<Handle>,
}

impl Bfd {
    /// Starts the thread if there is a neighbour to be watched, and tells it of all of them.
    pub(super) fn configure(&mut self, config: &Config, speaker: &Speaker) {
        let peers = peers(config);
        if self.handle.is_none() && !peers.is_empty() {
            self.handle = spawn(Some(speaker.clone()))
                .inspect_err(|error| tracing::error!(%error, "no BFD: its thread cannot be started"))
                .ok();
        }
        if let Some(handle) = &self.handle {
            handle.set_peers(peers);
        }
    }

    /// For questions; `None`: no neighbour uses BFD.
    pub(super) fn handle(&self) -> Option<Handle> {
        self.handle.clone()
    }

    /// The sessions whose path has failed.
    pub(super) fn down(&self) -> Arc<BTreeSet<SessionKey>> {
        self.handle.as_ref().map(|handle| Arc::clone(&handle.watch_down().borrow())).unwrap_or_default()
    }

    /// Tells the neighbours that this is on purpose: BGP says the rest.
    pub(super) async fn stop(&self) {
        if let Some(handle) = &self.handle {
            // A thread that is gone has nothing to tell.
            let _ = handle.shutdown().await;
        }
    }
}

/// Whom a configuration wants to be watched. A neighbour that is shut down has no session to lose.
fn peers(config: &Config) -> Peers {
    let watched = config.bgp.neighbors.iter().filter(|n| n.peer.shutdown.is_none()).filter_map(|neighbor| {
        let profile = config.bfd_profiles.get(&neighbor.bfd.as_ref()?.profile)?;
        let watched = Watched {
            config: *profile,
            local: neighbor.peer.local_address,
            interface: neighbor.peer.bind_interface.clone(),
        };
        Some((neighbor.peer.address.clone(), watched))
    });
    watched.collect()
}

/// A session as the API shows it.
fn session(config: &Config, status: SessionStatus) -> model::Bfd {
    let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
    let neighbor = status.peer.as_ref().and_then(|peer| config.bgp.neighbors.iter().find(|n| n.peer.address == *peer));
    let name = match &status.key.interface {
        Some(interface) => format!("{}%{interface}", status.key.peer),
        None => status.key.peer.to_string(),
    };
    model::Bfd {
        neighbor: match &status.peer {
            Some(PeerAddress::Numbered(address)) => address.to_string(),
            _ => name,
        },
        interface: status.key.interface,
        profile: neighbor.and_then(|n| n.bfd.as_ref()).map(|bfd| bfd.profile.clone()).unwrap_or_default(),
        state: status.state.to_string(),
        remote_state: status.remote_state.to_string(),
        state_seconds: status.since.as_secs_f64(),
        diagnostic: status.error.unwrap_or(status.diagnostic),
        remote_diagnostic: status.remote_diagnostic,
        local_discriminator: status.local_discriminator,
        remote_discriminator: status.remote_discriminator,
        transmit_interval_ms: status.transmit_interval.map(milliseconds).unwrap_or_default(),
        receive_interval_ms: milliseconds(status.receive_interval),
        detection_time_ms: milliseconds(status.detection_time),
        packets_sent: status.counters.sent,
        packets_received: status.counters.received,
        packets_dropped: status.counters.dropped,
        up_count: status.counters.up,
        down_count: status.counters.down,
    }
}

/// All sessions as the API shows them.
pub(super) fn sessions(config: &Config, snapshot: Snapshot) -> Vec<model::Bfd> {
    snapshot.sessions.into_iter().map(|status| session(config, status)).collect()
}

/// BFD of one neighbour.
pub(super) fn of_neighbor(neighbor: &Neighbor, snapshot: &Snapshot) -> Option<model::NeighborBfd> {
    let bfd = neighbor.bfd.as_ref()?;
    let session = snapshot.sessions.iter().find(|session| session.peer.as_ref() == Some(&neighbor.peer.address));
    // Nobody was discovered on the link yet.
    let state = session.map_or_else(|| "Down".to_owned(), |session| session.state.to_string());
    Some(model::NeighborBfd { profile: bfd.profile.clone(), state })
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rule {
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Late {
    at_most_ms: String,
}

/// What is counted for all sessions together.
pub(super) fn register_metrics(registry: &mut Registry, snapshot: &Snapshot) {
    let discarded = Family::<Rule, Counter>::default();
    for (rule, count) in &snapshot.discards {
        discarded.get_or_create(&Rule { rule: rule.to_string() }).inc_by(*count);
    }
    registry.register("bfd_packets_discarded", "BFD packets received and refused, by rule", discarded);
    let late = Family::<Late, Counter>::default();
    let bounds = Lateness::BOUNDS.iter().map(ToString::to_string).chain(["more".to_owned()]);
    for (at_most_ms, count) in bounds.zip(snapshot.punctuality.lateness.counts()) {
        late.get_or_create(&Late { at_most_ms }).inc_by(*count);
    }
    registry.register("bfd_packets_late", "BFD packets of ours by how late they were sent", late);
}
