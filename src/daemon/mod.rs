//! The daemon: one task that owns the databases, the rules and the wiring; a speaker on a thread of its own; an API that asks.
//!
//! ```text
//!   OVN NB ──┐                                   ┌──▶ kernel (netlink)
//!   OVS DB ──┼─▶ agent task: view, facts, ───────┼──▶ bridges (OpenFlow)
//!   netlink ─┘   reconciler                      └──▶ speaker thread (BGP) ──▶ leaves
//!                     ▲
//!                     └── queries (state, explain, reload, drain) ◀── API task
//! ```

use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use crate::config::Config;

mod agent;
mod bfd;
mod fib;
mod fib_memory;
mod host_routes;
mod leftovers;
mod lock;
mod ovn;
mod recorder;
mod reload;
mod source;
mod speaker;

use agent::Agent;
use source::Daemon;

/// How long requests under way may take once the daemon stops.
const API_GRACE: Duration = Duration::from_millis(500);

/// Runs the daemon until it is told to stop. What it is told and does of OVN is recorded into a file, if one is given.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: Config, record: Option<&Path>) -> anyhow::Result<()> {
    // One worker for the API; the agent itself runs on this thread, so that neither waits for the other.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("api")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(config, record))
}

async fn serve(config: Config, record: Option<&Path>) -> anyhow::Result<()> {
    let (asked, queries) = mpsc::channel(64);
    // First of all: where a daemon is running already this fails, before its neighbours see a second speaker and take it for a
    // restart of the first (RFC 4724 §4.2).
    let server = crate::api::Server::bind(&config.api).await?;
    let locks = lock::Locks::take(&config)?;
    let speaker = speaker::start(&config)?;
    let daemon = Daemon::new(asked, speaker.clone());
    let (stop, stopped) = watch::channel(false);
    let api = tokio::spawn(server.run(Arc::new(daemon), stopped));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = process::id(),
        asn = config.bgp.speaker.asn,
        router_id = %config.bgp.speaker.router_id,
        neighbors = config.bgp.neighbors.len(),
        ovn = config.ovn.is_some(),
        "started"
    );
    if let Some(problem) = missing_capability(&config) {
        tracing::error!("{problem}");
    }
    let mut agent = Agent::new(config, locks, speaker, queries)?;
    if let (Some(path), Some(ovn)) = (record, &mut agent.ovn) {
        ovn.record(path).with_context(|| format!("cannot record into {}", path.display()))?;
    }
    let outcome = agent.run().await;
    // The socket's file goes with the server.
    drop(stop);
    let _ = tokio::time::timeout(API_GRACE, api).await;
    outcome
}

/// What this process may not do although the configuration wants it, and how to grant it. Ports, passwords and router
/// advertisements say so where they fail.
fn missing_capability(config: &Config) -> Option<String> {
    const NET_ADMIN: u64 = 1 << 12;
    let what = match (&config.ovn, &config.fib.install) {
        (Some(_), _) => "wire addresses ([ovn])",
        (None, Some(_)) => "install learned routes ([fib])",
        (None, None) => return None,
    };
    let held = effective_capabilities(&std::fs::read_to_string("/proc/self/status").ok()?)?;
    (held & NET_ADMIN == 0).then(|| {
        format!(
            "CAP_NET_ADMIN is missing: without it the kernel lets nobody {what}; run as root, or grant it \
             (configs/ovn-bgpd.service has all that are needed)"
        )
    })
}

/// The set in `/proc/PID/status`.
fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t0000000000001000\nSeccomp:\t0\n"), Some(1 << 12));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
        let own = effective_capabilities(&std::fs::read_to_string("/proc/self/status").unwrap());
        assert!(own.is_some());
    }
}
