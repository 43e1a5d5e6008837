//! BFD as the agent sees it: which neighbours are watched, and what the API says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bgp::bfd::{Diagnostic, Discard, Lateness, Punctuality, SessionKey, State};
use bgp::driver::Handle as Speaker;
use bgp::driver::bfd::{HandOver, Handle, Peers, SessionStatus, Snapshot, Watched, spawn, take_over};
use bgp::speaker::PeerAddress;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::api::model;
use crate::config::{Config, Neighbor};

/// A reload of large tables takes less.
const RELOAD: Duration = Duration::from_secs(1);

/// Until another binary goes on, or this one again: the speaker may take a second for its part.
const UPGRADE: Duration = Duration::from_secs(2);

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

    /// Goes on with what was handed over, if it was, as it was configured then: [`Bfd::configure`] is to follow.
    pub(super) fn take_over(handed: Option<HandOver>, speaker: &Speaker) -> Self {
        let started = handed.map(|handed| take_over(Some(speaker.clone()), handed));
        let handle = started.and_then(|handle| {
            handle.inspect_err(|error| tracing::error!(%error, "BFD begins anew: its thread cannot be started")).ok()
        });
        Self { handle }
    }

    /// Gives all sessions away for another process to go on with, while the neighbours are patient; `None`: there are none.
    pub(super) async fn hand_over(&mut self) -> Option<HandOver> {
        let handle = self.handle.take()?;
        let handed = handle.hand_over(UPGRADE).await;
        handed.inspect_err(|_| tracing::error!("BFD does not answer; it begins anew")).ok()
    }

    /// A reload may take the processor away from a thread that does not run before everything else: the neighbours are told first.
    pub(super) fn expect_reload(&self) {
        if let Some(handle) = self.handle.as_ref().filter(|handle| !handle.is_real_time()) {
            // A thread that is gone has nothing to tell.
            let _ = handle.expect_pause(RELOAD);
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
        let bfd = neighbor.bfd.as_ref()?;
        let profile = config.bfd_profiles.get(&bfd.profile)?;
        let keys = match &profile.authentication {
            // Not read without all its keys; and never without any where some are wanted.
            Some(authentication) => Some(authentication.keys()?),
            None => None,
        };
        let watched = Watched {
            config: profile.session,
            local: neighbor.peer.local_address,
            interface: neighbor.peer.bind_interface.clone(),
            keys,
            graceful: bfd.graceful,
            damping: profile.damping,
        };
        Some((neighbor.peer.address.clone(), watched))
    });
    watched.collect()
}

/// A session as the API shows it.
fn session(config: &Config, status: SessionStatus) -> model::Bfd {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
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
        transitions: status.transitions.iter().map(|((to, why), count)| transition(*to, *why, *count)).collect(),
        authentication: status.authentication.map(|kind| kind.to_string()),
        held_seconds: status.held_for.map(|left| left.as_secs_f64()),
        packets: packets(&status.discards, &status.punctuality),
    }
}

fn transition(to: State, why: Diagnostic, count: u64) -> model::BfdTransition {
    model::BfdTransition { to: to.to_string(), reason: why.to_string(), count }
}

/// What was counted, as the API shows it.
fn packets(discards: &BTreeMap<Discard, u64>, punctuality: &Punctuality) -> model::BfdPackets {
    model::BfdPackets {
        packets_discarded: discards.iter().map(|(rule, count)| (rule.to_string(), *count)).collect(),
        packets_late: classes(punctuality).collect(),
        packets_in_window: punctuality.in_window,
        packets_too_soon: punctuality.too_soon,
        packets_too_late: punctuality.too_late,
    }
}

/// Upper bounds in milliseconds, and how many packets were so late.
fn classes(punctuality: &Punctuality) -> impl Iterator<Item = (String, u64)> {
    let bounds = Lateness::BOUNDS.iter().map(ToString::to_string).chain(["more".to_owned()]);
    bounds.zip(punctuality.lateness.counts().to_vec())
}

/// All sessions together, and packets of none.
pub(super) fn totals(snapshot: &Snapshot) -> model::BfdPackets {
    packets(&snapshot.discards, &snapshot.punctuality)
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

/// How late our packets were, as a histogram of seconds.
#[derive(Debug)]
struct Late(Lateness);

impl EncodeMetric for Late {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let bounds = Lateness::BOUNDS.iter().map(|bound| Duration::from_millis(*bound).as_secs_f64());
        let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(self.0.counts().iter().copied()).collect();
        encoder.encode_histogram::<NoLabelSet>(
            self.0.total().as_secs_f64(),
            self.0.counts().iter().sum(),
            &buckets,
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Window {
    jitter_window: &'static str,
}

/// What is counted for all sessions together.
pub(super) fn register_metrics(registry: &mut Registry, snapshot: &Snapshot) {
    let discarded = Family::<Rule, Counter>::default();
    for (rule, count) in &snapshot.discards {
        discarded.get_or_create(&Rule { rule: rule.to_string() }).inc_by(*count);
    }
    registry.register("bfd_packets_discarded", "BFD packets received and refused, by rule", discarded);
    let late = Late(snapshot.punctuality.lateness);
    registry.register("bfd_packets_lateness_seconds", "How late BFD packets of ours were sent", late);
    let window = Family::<Window, Counter>::default();
    let Punctuality { in_window, too_soon, too_late, .. } = snapshot.punctuality;
    for (window_part, count) in [("within", in_window), ("sooner", too_soon), ("later", too_late)] {
        window.get_or_create(&Window { jitter_window: window_part }).inc_by(count);
    }
    registry.register("bfd_packets_paced", "Periodic BFD packets of ours by the time since the one before", window);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bgp::bfd::{SessionConfig, Table};

    use super::*;

    #[test]
    fn how_late_we_were_is_a_histogram() {
        let (mut table, now) = (Table::new(1), Instant::now());
        let key = SessionKey { peer: [192, 0, 2, 1].into(), interface: None };
        table.set(now, key.clone(), SessionConfig::default(), None);
        // Due at once, sent 7 ms later.
        assert!(table.transmit(now + Duration::from_millis(7), &key).is_some());
        let snapshot = Snapshot { punctuality: table.punctuality(), ..Snapshot::default() };
        let (mut registry, mut text) = (Registry::default(), String::new());
        register_metrics(&mut registry, &snapshot);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"bfd_packets_lateness_seconds_bucket{le="0.005"} 0"#,
            r#"bfd_packets_lateness_seconds_bucket{le="0.01"} 1"#,
            r#"bfd_packets_lateness_seconds_bucket{le="+Inf"} 1"#,
            "bfd_packets_lateness_seconds_count 1",
            "bfd_packets_lateness_seconds_sum 0.007",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
