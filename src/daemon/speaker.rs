//! The speaker as the agent sees it: configuration in, whole route sets in, objects for the API out.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bgp::driver::hand_over::{Inheritance, Inherited};
use bgp::driver::{Gone, Handle};
use bgp::rib::RouteSet;
use bgp::speaker::{self, Shutdown};

use super::fib::{Speaking, TELLING};
use crate::api::Unavailable;
use crate::api::model;
use crate::config::Config;

/// A running speaker.
#[derive(Clone)]
pub(super) struct Speaker {
    handle: Handle,
}

/// A seed that differs on every host and at every start.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Starts the speaker on its own thread; with what a process before this one has left, if it has, and what became of that.
pub(super) fn start(config: &Config, former: Option<Inheritance>) -> std::io::Result<(Speaker, Vec<Inherited>)> {
    let mut driver = config.driver();
    if let Some(graceful) = &mut driver.speaker.graceful_restart {
        // The wiring of a former run stays in the kernel and on the bridges, so forwarding went on meanwhile. Where there was no
        // former run the peer has nothing to keep, and the bit means nothing (RFC 4724 §3).
        graceful.restarted = true;
    }
    let (handle, inherited) = match former {
        Some(former) => {
            let (handle, _thread, inherited) = bgp::driver::spawn_heir(driver, former)?;
            (handle, inherited)
        }
        None => (bgp::driver::spawn(driver)?.0, Vec::new()),
    };
    Ok((Speaker { handle }, inherited))
}

impl Speaker {
    pub(super) fn set_routes(&self, routes: Arc<RouteSet>) {
        self.handle.set_routes(routes);
    }

    pub(super) fn reconfigure(&self, config: &Config) {
        // A neighbour that is new has no routes of ours from before a restart. A speaker that is gone ends the daemon, see
        // [`Speaker::ended`].
        let _ = self.handle.reconfigure(config.driver());
    }

    /// Ends all sessions. On the way to a restart the peers are to keep our routes (RFC 4724), because the wiring stays; after
    /// `drain` there is nothing to keep.
    pub(super) async fn stop(&self, draining: bool) {
        let text = "ovn-bgpd is stopping".to_owned();
        let how = if draining { Shutdown::Stop(text) } else { Shutdown::Restart(text) };
        let _ = self.handle.shutdown(how).await;
    }

    /// Waits until its thread has ended.
    pub(super) async fn ended(&self) {
        self.handle.ended().await;
    }

    pub(super) async fn neighbors(&self) -> Result<Vec<model::Neighbor>, Unavailable> {
        Ok(self.handle.neighbors().await.map_err(gone)?.into_iter().map(neighbor).collect())
    }

    /// The neighbours whose session is up.
    pub(super) async fn speaking(&self) -> Vec<Speaking> {
        let neighbors = self.handle.neighbors().await.unwrap_or_default();
        let up = neighbors.into_iter().filter_map(|n| {
            let uptime = n.uptime_seconds?;
            let (address, interface) = match n.neighbor.split_once('%') {
                Some((address, interface)) => (address, Some(interface.to_owned())),
                None => (n.neighbor.as_str(), None),
            };
            let end_of_rib = n.families.iter().filter(|f| f.negotiated).all(|f| f.end_of_rib_received);
            let told_all = end_of_rib || uptime >= TELLING.as_secs_f64();
            Some(Speaking { address: address.parse().ok()?, interface, told_all })
        });
        up.collect()
    }

    /// The driver's own handle.
    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) async fn routes(&self) -> Result<Vec<speaker::Route>, Unavailable> {
        self.handle.routes().await.map_err(gone)
    }

    pub(super) async fn learned(&self) -> Result<Vec<model::Learned>, Unavailable> {
        Ok(self.handle.learned().await.map_err(gone)?.into_iter().map(learned).collect())
    }

    /// Addresses we cannot listen on, with the reason.
    pub(super) async fn listen_failures(&self) -> Vec<String> {
        let listeners = self.handle.listeners().await.unwrap_or_default();
        listeners
            .into_iter()
            .filter_map(|listener| Some(format!("not listening on {}: {}", listener.address, listener.error?)))
            .collect()
    }
}

fn gone(error: Gone) -> Unavailable {
    Unavailable(error.to_string())
}

fn neighbor(n: speaker::Neighbor) -> model::Neighbor {
    model::Neighbor {
        neighbor: n.neighbor,
        interface: n.interface,
        description: n.description,
        dynamic: n.listen_range.is_some(),
        listen_range: n.listen_range.map(|range| range.to_string()),
        remote_as: n.remote_as,
        local_as: n.local_as,
        kind: n.kind.map(str::to_owned),
        state: n.state.to_owned(),
        state_seconds: n.state_seconds,
        uptime_seconds: n.uptime_seconds,
        taken_over_seconds: n.taken_over_seconds,
        established_count: n.established_count,
        lost_count: n.lost_count,
        router_id: n.router_id,
        local_endpoint: n.local_endpoint,
        remote_endpoint: n.remote_endpoint,
        last_error_sent: n.last_error_sent,
        last_error_sent_seconds: n.last_error_sent_seconds,
        last_error_received: n.last_error_received,
        last_error_received_seconds: n.last_error_received_seconds,
        last_reason: n.last_reason,
        next_attempt_seconds: n.next_attempt_seconds,
        capabilities: model::Capabilities { sent: n.capabilities.sent, received: n.capabilities.received },
        timers: model::Timers {
            hold_time_seconds: n.timers.hold_time_seconds,
            keepalive_seconds: n.timers.keepalive_seconds,
            send_hold_seconds: n.timers.send_hold_seconds,
            connect_retry_seconds: n.timers.connect_retry_seconds,
            running: n.timers.running.into_iter().map(|(name, seconds)| (name.to_owned(), seconds)).collect(),
        },
        messages: model::MessageCounts {
            sent: n.messages.sent,
            received: n.messages.received,
            updates_sent: n.messages.updates_sent,
            updates_received: n.messages.updates_received,
            bytes_sent: n.messages.bytes_sent,
            bytes_received: n.messages.bytes_received,
        },
        security: model::Security {
            md5: n.md5,
            ao: n.ao,
            ttl_security: n.ttl_security,
            signature_failures: n.signature_failures,
        },
        graceful_restart: n.graceful_restart,
        shutdown: n.shutdown,
        families: n.families.into_iter().map(family).collect(),
        treated_as_withdraw: n.messages.treated_as_withdraw,
        attributes_discarded: n.messages.attributes_discarded,
        ..Default::default()
    }
}

fn family(f: speaker::NeighborFamily) -> model::NeighborFamily {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    model::NeighborFamily {
        family: f.family,
        negotiated: f.negotiated,
        advertised: count(f.advertised),
        pending: count(f.pending),
        received: count(f.accepted + f.refused),
        accepted: count(f.accepted),
        max_prefixes: f.max_prefixes.map(u64::from),
        end_of_rib_sent: f.end_of_rib_sent,
        end_of_rib_received: f.end_of_rib_received,
        next_hop: f.next_hop,
    }
}

fn learned(l: speaker::Learned) -> model::Learned {
    model::Learned {
        prefix: l.prefix,
        neighbor: l.neighbor,
        next_hops: l.next_hops,
        selected: l.selected,
        installed: false,
        reason: l.reason,
        as_path: l.as_path,
        origin: l.origin,
        med: l.med,
        local_pref: l.local_pref,
        communities: l.communities,
        stale: l.stale,
        path_id: l.path_id,
    }
}
