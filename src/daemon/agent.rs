//! The agent task: waits for anything to happen, lets the reconciler decide, does what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::rib::{Origination, RouteSet};
use futures_util::FutureExt as _;
use ipnet::IpNet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::bfd::Bfd;
use super::fib::{Fib, remove_former};
use super::fib_memory::Memory;
use super::host_routes;
use super::lock::Locks;
use super::ovn::{Happened, Ovn, Refreshed};
use super::speaker::Speaker;
use super::upgrade;
use crate::actuate::OpError;
use crate::actuate::kernel::{Kernel, Marks, Scope as KernelScope};
use crate::actuate::monitor::{Change, Monitor};
use crate::config::Config;
use crate::desired::wiring::{Key, Spec};
use crate::diff::Op;
use crate::reconcile::{Reconciler, Step};

/// Something another task wants to know or have done, on the agent's own state.
pub(super) type Query = Box<dyn FnOnce(&mut Agent) + Send>;

/// Everything the agent owns.
pub(super) struct Agent {
    pub(super) config: Arc<Config>,
    /// What is read once holds as it was then.
    pub(super) started_with: Arc<Config>,
    pub(super) started: Instant,
    pub(super) config_read: Instant,
    pub(super) reconciler: Reconciler,
    pub(super) ovn: Option<Ovn>,
    pub(super) host_routes: BTreeMap<IpNet, BTreeSet<String>>,
    pub(super) speaker: Speaker,
    pub(super) bfd: Bfd,
    pub(super) fib: Option<Fib>,
    pub(super) kernel: Kernel,
    pub(super) locks: Locks,
    monitor: Option<Monitor>,
    /// The kernel's notices have failed: when to try again.
    monitor_again: Option<Instant>,
    /// Something in the kernel could not be read, or nobody tells of its changes: when to look at everything again.
    look_at: Option<Instant>,
    queries: mpsc::Receiver<Query>,
    /// Heard from the first run on.
    signals: Option<Signals>,
    /// Told to stop just before this process would have been another.
    told: Option<Woken>,
    origination: Arc<Origination>,
    /// How this process came to be.
    pub(super) upgrade: upgrade::Record,
    /// Why it goes no further: told to, or (an error) not able to.
    outcome: Option<anyhow::Result<()>>,
    /// What follows when it goes no further here.
    pub(super) next: Option<Next>,
}

/// What is to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The end.
    Stop,
    /// Another binary.
    Upgrade,
}

/// What woke the agent.
enum Woken {
    Asked(Query),
    Ovn(Happened),
    Kernel(std::io::Result<Change>),
    Learned,
    Due,
    Stop(&'static str),
    Reload,
    /// One of the others has ended by a fault of ours: the speaker, or the API. A new start is all that helps.
    Broken(&'static str),
}

impl Agent {
    pub(super) fn new(
        config: Config,
        locks: Locks,
        speaker: Speaker,
        former_bfd: Option<bgp::driver::bfd::HandOver>,
        queries: mpsc::Receiver<Query>,
    ) -> anyhow::Result<Self> {
        let marks = Marks { rule_priority: config.wiring.rule_priority, protocol: config.wiring.route_protocol };
        let ovn = match &config.ovn {
            Some(settings) => Some(Ovn::new(settings, config.options(), &config.wiring, super::speaker::seed())?),
            None => None,
        };
        let mut bfd = Bfd::take_over(former_bfd, speaker.handle());
        bfd.configure(&config, speaker.handle());
        let now = Instant::now();
        let config = Arc::new(config);
        let mut kernel = Kernel::new(marks);
        let fib = Fib::new(&config.fib, speaker.handle(), Memory::beside(&config.api.socket));
        if fib.is_none() {
            remove_former(Memory::beside(&config.api.socket), &mut kernel);
        }
        Ok(Self {
            reconciler: Reconciler::new(ovn.is_some(), config.wiring.audit_interval),
            started: now,
            config_read: now,
            ovn,
            host_routes: BTreeMap::new(),
            fib,
            speaker,
            bfd,
            kernel,
            locks,
            monitor: None,
            monitor_again: None,
            look_at: None,
            queries,
            signals: None,
            told: None,
            origination: Arc::default(),
            upgrade: upgrade::Record::default(),
            outcome: None,
            next: None,
            started_with: Arc::clone(&config),
            config,
        })
    }

    /// Whether somebody has told the daemon to stop while it did not listen. Then it is to be run once more.
    pub(super) async fn is_told_to_stop(&mut self) -> bool {
        // Another thread takes in what the signal's handler has left.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let told = self.signals.as_mut().and_then(|signals| signals.next().now_or_never());
        // The next process reads the configuration in any case.
        self.told = told.filter(|told| matches!(told, Woken::Stop(_)));
        self.told.is_some()
    }

    /// Answers whoever asks by another channel from now on.
    pub(super) fn answer(&mut self, queries: mpsc::Receiver<Query>) {
        self.queries = queries;
    }

    /// Runs until a signal ends it, or it is to go on in another binary.
    ///
    /// # Errors
    /// Something else has ended without being told to. Whoever started the daemon is to start it again.
    pub(super) async fn run(&mut self) -> anyhow::Result<Next> {
        let mut signals = self.signals.take().map_or_else(Signals::new, Ok)?;
        upgrade::heed_signals(true);
        self.monitor = self.open_monitor();
        self.refresh_host_routes();
        notify_ready();
        loop {
            self.work().await;
            if self.reconciler.sees_all()
                && self.reconciler.failed().is_empty()
                && let Some(ovn) = &mut self.ovn
            {
                ovn.remove_leftovers(Instant::now(), &mut self.kernel).await;
            }
            let woken = match self.told.take() {
                Some(told) => told,
                None => self.wait(&mut signals).await,
            };
            self.handle(woken).await;
            if let Some(outcome) = self.outcome.take() {
                return outcome.map(|()| Next::Stop);
            }
            if let Some(next) = self.next.take() {
                self.signals = Some(signals);
                return Ok(next);
            }
        }
    }

    /// Does everything the reconciler wants done now.
    async fn work(&mut self) {
        while let Some(step) = self.reconciler.next(Instant::now()) {
            match step {
                Step::Compute => self.compute(Instant::now()),
                Step::Observe => {
                    let found = self.observe().await;
                    self.reconciler.observed(Instant::now(), found);
                }
                Step::Announce { prefixes, complete, leaving } => {
                    let origination = &self.origination;
                    let routes: RouteSet = prefixes.iter().map(|prefix| (*prefix, Arc::clone(origination))).collect();
                    let routes = if leaving { routes.leaving() } else { routes };
                    self.speaker.set_routes(Arc::new(if complete { routes } else { routes.partial() }));
                }
                Step::Apply(ops) => {
                    let failed = self.apply(&ops).await;
                    self.reconciler.applied(Instant::now(), failed);
                }
            }
        }
    }

    fn compute(&mut self, now: Instant) {
        let Some(ovn) = &mut self.ovn else { return self.reconciler.computed(now, Arc::default()) };
        let updated = self.reconciler.may_update() && self.reconciler.update(now, |desired| ovn.update(desired));
        if updated {
            ovn.record_effects(self.reconciler.desired());
            return;
        }
        let before = ovn.kernel_scope();
        self.reconciler.computed(now, Arc::new(ovn.compute()));
        ovn.record_effects(self.reconciler.desired());
        // A network with a tag brings a device to look at.
        if ovn.kernel_scope() != before {
            self.rescope();
        }
    }

    async fn observe(&mut self) -> Result<BTreeMap<Key, Spec>, String> {
        let Some(ovn) = &mut self.ovn else { return Ok(BTreeMap::new()) };
        let wanted = Arc::clone(self.reconciler.desired());
        let mut found = self
            .kernel
            .observe(&ovn.kernel_scope(), &wanted.wiring.objects)
            .map_err(|error| format!("kernel: {error}"))?;
        let (flows, silent) = ovn.switches.observe().await;
        found.extend(flows);
        // A switch that does not answer goes on forwarding by the flows it has: what was known of them stands. If it is really
        // gone its device is gone too, and that shows in the kernel.
        let known = self
            .reconciler
            .actual()
            .iter()
            .filter(|(key, _)| matches!(key, Key::Flow { bridge, .. } if silent.contains_key(bridge)));
        found.extend(known.map(|(key, spec)| (key.clone(), spec.clone())));
        for (bridge, reason) in silent {
            tracing::debug!(bridge, reason, "the switch does not answer");
        }
        Ok(found)
    }

    /// Applies the operations in order; kernel and bridges each get theirs in one go where they stand together.
    async fn apply(&mut self, ops: &[Op]) -> BTreeMap<Key, String> {
        let mut failed = BTreeMap::new();
        let is_flow = |op: &Op| matches!(op.key(), Key::Flow { .. });
        for run in ops.chunk_by(|a, b| is_flow(a) == is_flow(b)) {
            let flows = run.first().is_some_and(is_flow);
            let results: Vec<Result<(), OpError>> = match &mut self.ovn {
                Some(ovn) if flows => ovn.switches.apply(run).await,
                _ => self.kernel.apply(run),
            };
            for (op, result) in run.iter().zip(results) {
                if let Err(error) = result {
                    failed.insert(op.key().clone(), error.to_string());
                }
            }
        }
        failed
    }

    async fn wait(&mut self, signals: &mut Signals) -> Woken {
        let fib = self.fib.as_ref().and_then(Fib::next_deadline);
        let deadlines = [self.reconciler.next_deadline(), fib, self.look_at];
        let deadline = deadlines.into_iter().flatten().min();
        let due = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let ovn = async {
            match &mut self.ovn {
                Some(ovn) => ovn.next().await,
                None => std::future::pending().await,
            }
        };
        let again = self.monitor_again;
        let kernel = async {
            match &mut self.monitor {
                Some(monitor) => {
                    if let Some(at) = again {
                        tokio::time::sleep_until(at.into()).await;
                    }
                    monitor.next().await
                }
                None => std::future::pending().await,
            }
        };
        let learned = async {
            match &mut self.fib {
                Some(fib) => fib.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            woken = signals.next() => woken,
            () = self.speaker.ended() => Woken::Broken("the BGP speaker has ended"),
            query = self.queries.recv() => query.map_or(Woken::Broken("the API has ended"), Woken::Asked),
            happened = ovn => Woken::Ovn(happened),
            change = kernel => Woken::Kernel(change),
            () = learned => Woken::Learned,
            () = due => Woken::Due,
        }
    }

    async fn handle(&mut self, woken: Woken) {
        let now = Instant::now();
        match woken {
            Woken::Asked(query) => query(self),
            Woken::Ovn(happened) => self.ovn_happened(now, happened),
            Woken::Kernel(Ok(change)) => {
                self.monitor_again = None;
                self.kernel_changed(now, change);
                if change.routes || change.links || change.lost {
                    self.reconcile_fib(now).await;
                }
            }
            Woken::Learned => self.reconcile_fib(now).await,
            Woken::Kernel(Err(error)) => {
                if self.monitor_again.replace(now + PAUSE).is_none() {
                    tracing::warn!(%error, "no notices from the kernel; looking every second");
                }
                self.look(now).await;
            }
            Woken::Due => {
                if self.look_at.is_some_and(|at| at <= now) {
                    self.look(now).await;
                }
                if self.fib.as_ref().and_then(Fib::next_deadline).is_some_and(|at| at <= now) {
                    self.reconcile_fib(now).await;
                }
            }
            Woken::Reload => {
                let report = self.reload(false);
                for problem in &report.problems {
                    // A line of the log is one line.
                    let problem = problem.replace("\n    hint:", "; hint:");
                    tracing::error!(%problem, "the configuration was not reloaded; the old one stays in force");
                }
            }
            Woken::Stop(why) => {
                tracing::info!(why, "stopping; the wiring stays");
                self.speaker.stop(self.reconciler.draining()).await;
                // Afterwards: there are peers that end BGP, and with it the restart, when BFD is taken down on purpose.
                self.bfd.stop().await;
                self.outcome = Some(Ok(()));
            }
            Woken::Broken(what) => {
                // As for a restart, which it is: the neighbours are to keep our routes.
                self.speaker.stop(self.reconciler.draining()).await;
                self.bfd.stop().await;
                self.outcome = Some(Err(anyhow::anyhow!("{what}, a fault of ours; the wiring stays")));
            }
        }
    }

    /// Looks at everything the kernel's notices tell of.
    async fn look(&mut self, now: Instant) {
        self.look_at = None;
        if self.monitor.is_none() {
            self.monitor = self.open_monitor();
        }
        self.kernel_changed(now, Change { lost: true, ..Change::default() });
        self.reconcile_fib(now).await;
    }

    /// In a while: what was known stands until then.
    fn look_again(&mut self) {
        self.look_at.get_or_insert(Instant::now() + PAUSE);
    }

    async fn reconcile_fib(&mut self, now: Instant) {
        if self.fib.is_none() {
            return;
        }
        let speaking = self.speaker.speaking().await;
        let failed = self.bfd.down();
        if let Some(fib) = &mut self.fib {
            fib.reconcile(now, &mut self.kernel, &self.config, &speaking, &failed);
        }
        self.rescope();
    }

    fn ovn_happened(&mut self, now: Instant, happened: Happened) {
        let Some(ovn) = &mut self.ovn else { return };
        let changed = match happened {
            Happened::Northbound(events) => ovn.northbound(events),
            Happened::OpenVswitch => {
                let changed = self.refresh_facts();
                self.rescope();
                changed
            }
            Happened::Switch(event) => {
                tracing::debug!(?event, "switch");
                self.reconciler.world_changed(now);
                false
            }
        };
        if changed {
            self.inputs_changed(now);
        }
    }

    pub(super) fn inputs_changed(&mut self, now: Instant) {
        if let Some(ovn) = &self.ovn {
            self.reconciler.set_partial(ovn.partial());
            self.reconciler.inputs_changed(now, ovn.usable());
        }
    }

    /// Whether one has changed.
    fn refresh_facts(&mut self) -> bool {
        let Some(ovn) = &mut self.ovn else { return false };
        let Refreshed { changed, again } = ovn.refresh_facts(&mut self.kernel);
        if again {
            self.look_again();
        }
        changed
    }

    fn kernel_changed(&mut self, now: Instant, change: Change) {
        if (change.links || change.lost) && self.refresh_facts() {
            self.inputs_changed(now);
        }
        if change.addresses || change.links || change.lost {
            self.refresh_host_routes();
        }
        self.reconciler.world_changed(now);
    }

    /// What the monitor has to look at: the bridges' part of the kernel, and the interfaces whose addresses are announced.
    fn monitor_scope(&self) -> KernelScope {
        let mut scope = self.ovn.as_ref().map(Ovn::kernel_scope).unwrap_or_default();
        scope.devices.extend(self.config.advertise.interfaces.iter().cloned());
        scope.devices.extend(self.fib.iter().flat_map(Fib::devices));
        scope
    }

    pub(super) fn rescope(&mut self) {
        let scope = self.monitor_scope();
        match &mut self.monitor {
            Some(monitor) => monitor.set_scope(scope),
            // A reload may be the first to name something in the kernel.
            None => self.monitor = self.open_monitor(),
        }
    }

    fn open_monitor(&mut self) -> Option<Monitor> {
        if self.ovn.is_none() && self.config.advertise.interfaces.is_empty() && self.fib.is_none() {
            return None;
        }
        match self.kernel.monitor(self.monitor_scope()) {
            Ok(monitor) => Some(monitor),
            Err(error) => {
                if self.monitor_again.replace(Instant::now() + PAUSE).is_none() {
                    tracing::error!(%error, "cannot follow the kernel's changes; looking every second");
                }
                self.look_again();
                None
            }
        }
    }

    /// Collects the host's own prefixes anew.
    pub(super) fn refresh_host_routes(&mut self) {
        let advertise = &self.config.advertise;
        let interfaces: BTreeSet<String> = advertise.interfaces.iter().cloned().collect();
        let addresses = if interfaces.is_empty() {
            BTreeMap::new()
        } else {
            match self.kernel.addresses(&interfaces) {
                Ok(addresses) => addresses,
                Err(error) => {
                    tracing::warn!(%error, "cannot read the addresses of [advertise] interfaces; what was announced stands");
                    self.reconciler.host_routes_unread();
                    self.look_again();
                    return;
                }
            }
        };
        self.host_routes = host_routes::collect(advertise, &addresses);
        self.reconciler.set_host_routes(self.host_routes.keys().copied().collect());
    }
}

/// After the kernel's notices have failed, or an answer of it. Everything else goes on meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// The signals we act on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Woken {
        tokio::select! {
            _ = self.terminate.recv() => Woken::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Woken::Stop("SIGINT"),
            _ = self.hang_up.recv() => Woken::Reload,
        }
    }
}

/// Tells systemd, if it is there.
fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "systemd was not told");
    }
}

#[cfg(test)]
mod tests {
    use bgp::speaker::Shutdown;
    use tokio::time::timeout;

    use super::*;
    use crate::actuate::kernel::Dumps;
    use crate::daemon::speaker;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A daemon without neighbours.
    fn agent(rest: &str, queries: mpsc::Receiver<Query>) -> Agent {
        let parse = |rest: &str| {
            let text = format!(
                "[bgp]\nasn = 64999\nrouter_id = \"10.0.1.2\"\nlisten = []\n\
                 [api]\nsocket = \"/nowhere/s.sock\"\n{rest}"
            );
            crate::config::parse(&text, std::path::Path::new("/c.toml")).into_result().unwrap().0
        };
        // Nothing is wired here that another daemon could be in the way of.
        let locks = Locks::take(&parse("")).unwrap();
        let config = parse(rest);
        let (speaker, _) = speaker::start(&config, None).unwrap();
        Agent::new(config, locks, speaker, None, queries).unwrap()
    }

    #[tokio::test]
    async fn a_speaker_that_has_ended_ends_the_daemon_with_an_error() {
        let (_asked, queries) = mpsc::channel(1);
        let mut agent = agent("", queries);
        agent.speaker.handle().shutdown(Shutdown::Stop(String::new())).await.unwrap();
        let outcome = timeout(PATIENCE, agent.run()).await.expect("it goes on without a speaker");
        assert!(outcome.is_err(), "nobody would start it again");
    }

    #[tokio::test]
    async fn an_api_that_has_ended_ends_the_daemon_with_an_error() {
        let (asked, queries) = mpsc::channel(1);
        drop(asked);
        assert!(timeout(PATIENCE, agent("", queries).run()).await.unwrap().is_err(), "nobody would start it again");
    }

    #[tokio::test]
    async fn what_the_kernel_did_not_answer_is_asked_again() {
        for rest in ["[advertise]\ninterfaces = [\"lo\"]\n", "[ovn]\novs = \"unix:/nowhere/db.sock\"\n"] {
            let (asked, queries) = mpsc::channel(1);
            let mut agent = agent(rest, queries);
            let refused = Dumps::by(|| Err(std::io::Error::from_raw_os_error(libc::ENOBUFS)));
            let answered = std::mem::replace(&mut agent.kernel.dumps, refused);
            agent.kernel_changed(Instant::now(), Change { lost: true, ..Change::default() });
            agent.kernel.dumps = answered;
            assert!(agent.look_at.is_some(), "nobody will tell us that the kernel answers again: {rest}");
            let look = async || {
                let (reply, answer) = tokio::sync::oneshot::channel();
                let query: Query = Box::new(move |agent| reply.send(agent.look_at).unwrap());
                asked.send(query).await.ok().unwrap();
                answer.await.unwrap()
            };
            let answered = async { while look().await.is_some() {} };
            tokio::select! {
                outcome = agent.run() => drop(outcome.unwrap()),
                in_time = timeout(PATIENCE, answered) => in_time.expect("it was not asked again"),
            }
        }
    }
}
