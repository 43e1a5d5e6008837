//! The daemon: one task that owns the databases, the rules and the wiring; a speaker on a thread of its own; an API that asks.
//!
//! ```text
//!   OVN NB ──┐                                   ┌──▶ kernel (netlink)
//!   OVS DB ──┼─▶ agent task: view, facts, ───────┼──▶ bridges (OpenFlow)
//!   netlink ─┘   reconciler                      └──▶ speaker thread (BGP) ──▶ leaves
//!                     ▲
//!                     └── queries (state, explain, reload, drain) ◀── API task
//! ```

use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::api::Source as _;
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
mod upgrade;

use agent::{Agent, Next, Query};
use source::Daemon;
use speaker::Speaker;
use upgrade::Former;

/// How long requests under way may take once the daemon stops.
const API_GRACE: Duration = Duration::from_millis(500);

/// Runs the daemon until it is told to stop. What it is told and does of OVN is recorded into a file, if one is given.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: Config, record: Option<&Path>) -> anyhow::Result<()> {
    let (former, program) = (Former::find(), upgrade::program());
    // Of all threads only this one hears signals, once the agent listens: where it does not want to, they wait, also for the process
    // that is to follow.
    upgrade::heed_signals(false);
    // One worker for the API; the agent itself runs on this thread, so that neither waits for the other.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(|| upgrade::heed_signals(false))
        .thread_name("api")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(config, record, former, &program.into()))
}

async fn serve(config: Config, record: Option<&Path>, former: Former, program: &Arc<Path>) -> anyhow::Result<()> {
    let settings = config.api.clone();
    // First of all: where a daemon is running already this fails, before its neighbours see a second speaker and take it for a
    // restart of the first (RFC 4724 §4.2).
    let server = crate::api::Server::bind(&settings).await?;
    let locks = lock::Locks::take(&config)?;
    let (speaker, sessions) = speaker::start(&config, former.speaker)?;
    let mut upgraded = former.record;
    upgraded.taken_over(&sessions);
    let (mut api, queries) = Api::start(server, &speaker, program);
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
    let mut agent = Agent::new(config, locks, speaker.clone(), former.bfd, queries)?;
    if let (Some(path), Some(ovn)) = (record, &mut agent.ovn) {
        let path = recording(path, upgraded.number);
        ovn.record(&path).with_context(|| format!("cannot record into {}", path.display()))?;
    }
    agent.upgrade = upgraded;
    if let Some(left) = former.drain {
        agent.reconciler.drain(Instant::now(), left);
    }
    loop {
        let outcome = agent.run().await;
        // The socket's file goes with the server.
        api.stop().await;
        if !matches!(outcome, Ok(Next::Upgrade)) {
            return outcome.map(drop);
        }
        agent.leave(program).await;
        let server = crate::api::Server::bind(&settings).await?;
        let (again, queries) = Api::start(server, &speaker, program);
        api = again;
        agent.answer(queries);
    }
}

/// Each process records into a file of its own.
fn recording(path: &Path, number: u64) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The API while it is served.
struct Api {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    signals: JoinHandle<()>,
}

impl Api {
    /// Serves, and answers the other end of the way to the agent.
    fn start(server: crate::api::Server, speaker: &Speaker, program: &Arc<Path>) -> (Self, mpsc::Receiver<Query>) {
        let (asked, queries) = mpsc::channel(64);
        let (stop, stopped) = watch::channel(false);
        let daemon = Arc::new(Daemon::new(asked, speaker.clone(), Arc::clone(program)));
        // Before anybody can send it: it ends a process that does not listen to it.
        let signals = tokio::spawn(upgrade_by_signal(signal(SignalKind::user_defined2()), Arc::downgrade(&daemon)));
        (Self { stop, task: tokio::spawn(server.run(daemon, stopped)), signals }, queries)
    }

    async fn stop(self) {
        self.signals.abort();
        drop(self.stop);
        let _ = tokio::time::timeout(API_GRACE, self.task).await;
    }
}

/// SIGUSR2 asks for what `upgrade` asks for. Whatever follows is in the log.
async fn upgrade_by_signal(signal: std::io::Result<Signal>, daemon: Weak<Daemon>) {
    let Ok(mut signal) = signal else { return };
    while signal.recv().await.is_some() {
        let Some(daemon) = daemon.upgrade() else { return };
        // The agent is gone, and this process with it.
        let _ = daemon.upgrade().await;
    }
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
