//! What the API asks: answered from the agent's and the speaker's own state.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bgp::driver::bfd::Snapshot;
use bgp::speaker::{self as bgp_speaker, PeerAddress};
use ipnet::IpNet;
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use super::agent::{Agent, Query};
use super::bfd;
use super::fib::Fib;
use super::fib_memory::Memory;
use super::ovn::Link;
use super::speaker::Speaker;
use super::upgrade;
use crate::api::model::{
    Bfd, Chassis, Database, DrainReport, Explain, Exposure, ExposureCounts, Learned, Neighbor, NeighborCounts,
    ObjectState, ReloadReport, Route, RouteCounts, RouteNeighbor, Step, Summary, UpgradeOrder, UpgradeReport, Wiring,
};
use crate::api::{Source, Unavailable};
use crate::config::Config;
use crate::desired;
use crate::desired::wiring::Key;

/// The way from the API to the agent and the speaker.
pub(super) struct Daemon {
    agent: mpsc::Sender<Query>,
    speaker: Speaker,
    /// The binary this process came from.
    program: Arc<Path>,
    /// Held while another binary is being asked.
    preflight: Arc<AsyncMutex<()>>,
    /// What BFD said when it was last asked, for the metrics of the same scrape.
    bfd: Mutex<Snapshot>,
}

impl Daemon {
    pub(super) fn new(agent: mpsc::Sender<Query>, speaker: Speaker, program: Arc<Path>) -> Self {
        Self { agent, speaker, program, preflight: Arc::default(), bfd: Mutex::default() }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Agent) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let query: Query = Box::new(move |agent| {
            // Whoever asked may have gone away.
            let _ = reply.send(question(agent));
        });
        let stopping = || Unavailable("the daemon is stopping".to_owned());
        self.agent.send(query).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    async fn ask_bfd(&self) -> Result<Snapshot, Unavailable> {
        let Some(handle) = self.ask(|agent| agent.bfd.handle()).await? else { return Ok(Snapshot::default()) };
        handle.snapshot().await.map_err(|_| Unavailable("BFD has been shut down".to_owned()))
    }

    /// Routes with their reasons; without the per-neighbour details when only the agent's view is needed.
    async fn routes_with_reasons(&self) -> Result<Vec<Route>, Unavailable> {
        let routes = self.speaker.routes().await?;
        self.ask(move |agent| routes.into_iter().map(|route| agent.route(route)).collect()).await
    }
}

impl Source for Daemon {
    async fn summary(&self) -> Result<Summary, Unavailable> {
        let neighbors = self.speaker.neighbors().await?;
        // What was refused has no next hop.
        let learned = self.speaker.learned().await?.iter().filter(|l| !l.next_hops.is_empty()).count();
        let mut warnings = self.speaker.listen_failures().await;
        let bfd = self.ask_bfd().await?;
        warnings.extend(bfd.failures.values().cloned());
        self.ask(move |agent| {
            let totals = agent.bfd.handle().is_some().then(|| bfd::totals(&bfd));
            Summary { bfd: totals, ..agent.summary(&neighbors, learned, warnings) }
        })
        .await
    }

    async fn neighbors(&self) -> Result<Vec<Neighbor>, Unavailable> {
        let neighbors = self.speaker.neighbors().await?;
        let bfd = self.ask_bfd().await?;
        self.ask(move |agent| neighbors.into_iter().map(|n| agent.neighbor(n, &bfd)).collect()).await
    }

    async fn routes(&self) -> Result<Vec<Route>, Unavailable> {
        self.routes_with_reasons().await
    }

    async fn learned(&self) -> Result<Vec<Learned>, Unavailable> {
        let mut learned = self.speaker.learned().await?;
        self.ask(move |agent| {
            agent.mark_installed(&mut learned);
            learned
        })
        .await
    }

    async fn exposures(&self) -> Result<Vec<Exposure>, Unavailable> {
        let routes = self.speaker.routes().await?;
        self.ask(move |agent| agent.exposures(&routes)).await
    }

    async fn wiring(&self) -> Result<Wiring, Unavailable> {
        self.ask(|agent| agent.wiring()).await
    }

    async fn bfd(&self) -> Result<Vec<Bfd>, Unavailable> {
        let snapshot = self.ask_bfd().await?;
        if let Ok(mut last) = self.bfd.lock() {
            last.clone_from(&snapshot);
        }
        self.ask(move |agent| bfd::sessions(&agent.config, snapshot)).await
    }

    fn register_metrics(&self, registry: &mut Registry) {
        if let Ok(last) = self.bfd.lock() {
            bfd::register_metrics(registry, &last);
        }
    }

    async fn explain(&self, address: IpAddr) -> Result<Explain, Unavailable> {
        let covers = move |prefix: &IpNet| prefix.contains(&address);
        let routes: Vec<_> = self.speaker.routes().await?.into_iter().filter(|route| covers(&route.prefix)).collect();
        let learned = self.learned().await?.into_iter().filter(|l| covers(&l.prefix)).collect();
        self.ask(move |agent| agent.explain(address, routes, learned)).await
    }

    async fn reload(&self, dry_run: bool) -> Result<ReloadReport, Unavailable> {
        self.ask(move |agent| agent.reload(dry_run)).await
    }

    async fn upgrade(&self) -> Result<UpgradeOrder, Unavailable> {
        // One at a time: a child started while this process goes away would get the sockets of the sessions, and keep them open. The
        // question goes on, and so does this, where whoever asked it has gone.
        let Ok(alone) = Arc::clone(&self.preflight).try_lock_owned() else {
            let problem = Some("another upgrade is being prepared; wait for what comes of it".to_owned());
            return Ok(UpgradeOrder { problem, ..UpgradeOrder::default() });
        };
        let file = self.ask(|agent| agent.config.file.clone()).await?;
        let program = self.program.clone();
        let asked = tokio::task::spawn_blocking(move || (upgrade::preflight(&program, &file), alone));
        let (answer, _alone) = asked.await.map_err(|error| Unavailable(error.to_string()))?;
        match answer {
            Ok(version) => self.ask(move |agent| agent.begin_upgrade(version)).await,
            Err(problem) => {
                tracing::warn!(problem, "not upgraded");
                Ok(UpgradeOrder { problem: Some(problem), ..UpgradeOrder::default() })
            }
        }
    }

    async fn upgraded(&self) -> Result<UpgradeReport, Unavailable> {
        self.ask(|agent| agent.upgrade.report()).await
    }

    async fn drain(&self, wait: Option<Duration>) -> Result<DrainReport, Unavailable> {
        self.ask(move |agent| {
            let changed = !agent.reconciler.draining();
            let wait = wait.unwrap_or(agent.config.bgp.drain_wait);
            agent.reconciler.drain(Instant::now(), wait);
            tracing::info!(
                ?wait,
                changed,
                "draining: neighbours are asked to look elsewhere, then everything is withdrawn"
            );
            let withdraw_at = agent.reconciler.withdraw_at();
            let left = withdraw_at.map(|at| at.saturating_duration_since(Instant::now()).as_secs_f64());
            DrainReport { draining: true, changed, withdrawal_in_seconds: left }
        })
        .await
    }

    async fn undrain(&self) -> Result<DrainReport, Unavailable> {
        self.ask(|agent| {
            let changed = agent.reconciler.draining();
            agent.reconciler.undrain();
            tracing::info!(changed, "announcing again");
            DrainReport { draining: false, changed, withdrawal_in_seconds: None }
        })
        .await
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn told(route: &bgp_speaker::Route) -> bool {
    route.neighbors.iter().any(|neighbor| neighbor.advertised)
}

impl Agent {
    fn summary(&self, neighbors: &[Neighbor], learned: usize, mut warnings: Vec<String>) -> Summary {
        let established = neighbors.iter().filter(|n| n.state == "Established").count();
        let failed = self.reconciler.failed();
        warnings.extend(failed.iter().map(|(key, why)| format!("cannot make {key:?}: {why}")));
        warnings.extend(missing_interfaces(&self.config, exists));
        let mut not_ready = Vec::new();
        if let Some(ovn) = &self.ovn {
            warnings.extend(ovn.warned.iter().cloned());
            if !self.reconciler.sees_all() {
                not_ready.push("the databases have not been read completely yet".to_owned());
            }
            for warning in ovn.view.bad() {
                warnings.push(warning.to_string());
            }
        }
        if established == 0 {
            not_ready.push("no neighbour is established".to_owned());
        }
        let desired = self.reconciler.desired();
        let wired = desired.exposures.iter().filter(|e| self.is_wired(e)).count();
        let announced = desired.exposures.iter().filter(|e| self.is_announced(&e.address)).count();
        Summary {
            // Only its thread knows.
            bfd: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            router_id: self.config.bgp.speaker.router_id.to_string(),
            asn: self.config.bgp.speaker.asn,
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            config_file: self.config.file.display().to_string(),
            config_age_seconds: self.config_read.elapsed().as_secs_f64(),
            draining: self.reconciler.draining(),
            ready: not_ready.is_empty(),
            not_ready,
            warnings,
            neighbors: NeighborCounts { configured: count(neighbors.len()), established: count(established) },
            routes: RouteCounts {
                announced: count(self.reconciler.told().len()),
                learned: count(learned),
                installed: count(self.fib.as_ref().map_or(0, Fib::count)),
            },
            exposures: self.ovn.as_ref().map(|_| ExposureCounts {
                total: count(desired.exposures.len()),
                wired: count(wired),
                announced: count(announced),
                failed: count(failed.len()),
            }),
            northbound: self.ovn.as_ref().map(|ovn| ovn.nb.as_ref().map(database).unwrap_or_default()),
            open_vswitch: self.ovn.as_ref().map(|ovn| database(&ovn.ovs)),
            chassis: self.ovn.as_ref().map(|ovn| Chassis {
                hostname: ovn.facts.chassis.hostname.clone(),
                system_id: ovn.facts.chassis.system_id.clone(),
            }),
        }
    }

    fn mark_installed(&self, learned: &mut [Learned]) {
        for route in learned {
            match &self.fib {
                Some(fib) => fib.mark(route),
                None if route.selected => route.reason.push_str("; not installed: there is no [fib] install"),
                None => {}
            }
        }
    }

    fn neighbor(&self, mut neighbor: Neighbor, bfd: &Snapshot) -> Neighbor {
        // An unnumbered neighbour is called by its address once it has been discovered; its interface stays.
        let configured = self.config.bgp.neighbors.iter().find(|n| match &n.peer.address {
            PeerAddress::Interface(interface) => neighbor.interface.as_ref() == Some(interface),
            address => address.to_string() == neighbor.neighbor,
        });
        let range =
            |prefix: &String| self.config.bgp.listen_ranges.iter().find(|r| r.range.prefix.to_string() == *prefix);
        neighbor.peer_group = match &neighbor.listen_range {
            None => configured.and_then(|n| n.peer_group.clone()),
            Some(prefix) => range(prefix).and_then(|range| range.peer_group.clone()),
        };
        neighbor.bfd = configured.and_then(|n| bfd::of_neighbor(n, bfd));
        // Nobody can be discovered on an interface that is not there.
        if let (Some(interface), None) = (&neighbor.interface, neighbor.uptime_seconds)
            && !exists(interface)
        {
            neighbor.last_reason = Some(format!("there is no interface {interface}"));
        }
        neighbor
    }

    fn is_announced(&self, prefix: &IpNet) -> bool {
        self.reconciler.told().contains(prefix)
    }

    /// Whether every object an exposure needs is in place.
    fn is_wired(&self, exposure: &desired::Exposure) -> bool {
        let owner = exposure.owner();
        let desired = self.reconciler.desired();
        let there = |key: &Key| self.object_state(key) == ObjectState::Present;
        exposure.waiting.is_none()
            && match desired.routes.get(&exposure.address) {
                Some(needs) => needs.iter().all(there),
                None => desired
                    .wiring
                    .objects
                    .iter()
                    .filter(|(_, object)| object.owners.contains(&owner))
                    .all(|(key, _)| there(key)),
            }
    }

    fn object_state(&self, key: &Key) -> ObjectState {
        if self.reconciler.failed().contains_key(key) {
            return ObjectState::Failed;
        }
        let wanted = self.reconciler.desired().wiring.objects.get(key).map(|object| &object.spec);
        if wanted.is_some() && self.reconciler.actual().get(key) == wanted {
            ObjectState::Present
        } else {
            ObjectState::Missing
        }
    }

    fn exposures(&self, routes: &[bgp_speaker::Route]) -> Vec<Exposure> {
        let exposures = &self.reconciler.desired().exposures;
        exposures
            .iter()
            .map(|exposure| {
                let index = routes.binary_search_by_key(&exposure.address, |route| route.prefix).ok();
                let announced = index.and_then(|index| routes.get(index)).is_some_and(told);
                let mut shown = Exposure::new(exposure, self.is_wired(exposure), announced);
                shown.reasons.extend(exposure.waiting.clone());
                shown
            })
            .collect()
    }

    fn wiring(&self) -> Wiring {
        Wiring::new(&self.reconciler.desired().wiring, |key| self.object_state(key))
    }

    /// Adds the reasons to what the speaker says of a route.
    fn route(&self, route: bgp_speaker::Route) -> Route {
        let mut reasons: Vec<String> = self.host_routes.get(&route.prefix).into_iter().flatten().cloned().collect();
        let exposures = &self.reconciler.desired().exposures;
        reasons
            .extend(exposures.iter().filter(|e| e.announce && e.address == route.prefix).map(desired::Exposure::owner));
        let neighbors = route.neighbors.into_iter().map(|n| RouteNeighbor {
            neighbor: n.neighbor,
            advertised: n.advertised,
            acknowledged: n.acknowledged,
            refused: n.refused,
        });
        Route { prefix: route.prefix, next_hop: route.next_hop, neighbors: neighbors.collect(), reasons }
    }

    fn explain(&self, address: IpAddr, routes: Vec<bgp_speaker::Route>, learned: Vec<Learned>) -> Explain {
        let host = IpNet::from(address);
        let announced = routes.iter().any(told);
        let exposures: Vec<Exposure> =
            self.exposures(&routes).into_iter().filter(|exposure| exposure.address.contains(&address)).collect();
        let routes: Vec<Route> = routes.into_iter().map(|route| self.route(route)).collect();
        let mut steps = self.conditions(host, &routes);
        let said = match steps.iter().find(|step| !step.holds) {
            Some(step) if step.detail.is_empty() => step.condition.clone(),
            Some(step) => format!("{}: {}", step.condition, step.detail),
            None => String::new(),
        };
        let mut untold = Vec::new();
        if let Some(route) = routes.iter().find(|route| route.prefix == host).or_else(|| routes.last()) {
            steps.extend(RouteNeighbor::worth_a_word(&route.neighbors).map(told_step));
            untold.extend(route.neighbors.iter().map(|n| format!("{} ({})", n.neighbor, why_not_told(n))));
        }
        let verdict = match (announced, said.as_str(), untold.is_empty()) {
            (true, _, _) => format!("{address} is announced"),
            (false, "", true) => format!("{address} is not announced: there is no neighbour to tell"),
            (false, "", false) => format!("{address} is not announced to any neighbour: {}", untold.join(", ")),
            (false, said, _) => format!("{address} is not announced: {said}"),
        };
        Explain { address: address.to_string(), announced, verdict, steps, exposures, routes, learned }
    }

    /// Why the address is, or is not, among what we want to announce.
    fn conditions(&self, host: IpNet, routes: &[Route]) -> Vec<Step> {
        let own = |prefix: &IpNet| prefix.contains(&host);
        if let Some((prefix, why)) = self.host_routes.iter().find(|(prefix, _)| own(prefix)) {
            let detail = why.iter().cloned().collect::<Vec<_>>().join(", ");
            let condition = format!("{prefix} is a prefix of the host itself");
            let own = Step { condition, holds: true, detail };
            return [own].into_iter().chain(self.drained()).collect();
        }
        let Some(ovn) = &self.ovn else {
            let condition = "it is no prefix of the host itself".to_owned();
            return vec![Step { condition, holds: false, detail: "[advertise] does not name it".to_owned() }];
        };
        let mut steps = Vec::new();
        if !ovn.usable() {
            let down = [ovn.ovs.down.clone(), ovn.nb.as_ref().and_then(|nb| nb.down.clone())];
            let detail = down.into_iter().flatten().collect::<Vec<_>>().join("; ");
            steps.push(Step { condition: "the databases have not been read yet".to_owned(), holds: false, detail });
            return steps;
        }
        for (database, link) in [("Open_vSwitch", Some(&ovn.ovs)), ("Northbound", ovn.nb.as_ref())] {
            if let Some(why) = link.and_then(|link| link.down.clone()) {
                let condition = format!("the {database} database is out of reach; what it said last stands");
                steps.push(Step { condition, holds: true, detail: why });
            }
        }
        let conditions = ovn.explain(host);
        steps.extend(conditions.into_iter().map(|c| Step { condition: c.what, holds: c.holds, detail: String::new() }));
        if let Some(missing) = self.reconciler.held_back().get(&host) {
            let detail = missing.iter().filter_map(|key| self.reconciler.failed().get(key)).cloned();
            let detail = detail.collect::<Vec<_>>().join("; ");
            steps.push(Step { condition: "something it needs could not be made".to_owned(), holds: false, detail });
        }
        steps.extend(self.drained());
        if steps.iter().all(|step| step.holds) && routes.is_empty() {
            let condition = "it is not wired yet".to_owned();
            steps.push(Step { condition, holds: false, detail: "the wiring is under way".to_owned() });
        }
        steps
    }

    fn drained(&self) -> Option<Step> {
        let condition = "the host is being drained".to_owned();
        let detail = "`ovn-bgpd undrain` ends that".to_owned();
        (self.reconciler.draining() && self.reconciler.withdraw_at().is_none()).then_some(Step {
            condition,
            holds: false,
            detail,
        })
    }

    /// Reads the configuration again; what differs is applied, or with `dry_run` only reported.
    pub(super) fn reload(&mut self, dry_run: bool) -> ReloadReport {
        super::reload::reload(self, dry_run)
    }

    /// Puts a new configuration in force.
    pub(super) fn adopt(&mut self, config: crate::config::Config) {
        self.config = Arc::new(config);
        self.config_read = Instant::now();
        self.speaker.reconfigure(&self.config);
        if let (Some(ovn), true) = (&mut self.ovn, self.config.ovn.is_some()) {
            ovn.set_options(self.config.options());
        }
        self.bfd.configure(&self.config, self.speaker.handle());
        let former = self.fib.take();
        self.fib = Fib::new(&self.config.fib, self.speaker.handle(), Memory::beside(&self.started_with.api.socket));
        match (&mut self.fib, former) {
            (Some(fib), Some(former)) => fib.take_over(former),
            (None, Some(former)) => former.remove_all(&mut self.kernel),
            (_, None) => {}
        }
        self.refresh_host_routes();
        self.inputs_changed(Instant::now());
        self.rescope();
    }
}

/// Whether there is an interface of this name.
fn exists(interface: &str) -> bool {
    nix::net::if_::if_nametoindex(interface).is_ok()
}

/// Interfaces that the configuration names and the host lacks: not made yet, or a slip of the pen.
fn missing_interfaces(config: &Config, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let of_neighbors = config.bgp.neighbors.iter().filter_map(|neighbor| {
        let interface = neighbor.peer.address.interface().or(neighbor.peer.bind_interface.as_deref());
        interface.map(|interface| ("[[bgp.neighbors]]", interface))
    });
    let of_addresses = config.advertise.interfaces.iter().map(|interface| ("[advertise]", interface.as_str()));
    let named: BTreeSet<_> = of_neighbors.chain(of_addresses).filter(|(_, interface)| !exists(interface)).collect();
    named
        .into_iter()
        .map(|(table, interface)| format!("there is no interface {interface}, which {table} names"))
        .collect()
}

fn told_step(neighbor: &RouteNeighbor) -> Step {
    let detail = match (neighbor.advertised, neighbor.acknowledged) {
        (true, true) => "sent and acknowledged".to_owned(),
        (true, false) => "sent".to_owned(),
        (false, _) => why_not_told(neighbor).to_owned(),
    };
    let was = if neighbor.advertised { "was" } else { "was not" };
    Step { condition: format!("neighbour {} {was} told", neighbor.neighbor), holds: neighbor.advertised, detail }
}

fn why_not_told(neighbor: &RouteNeighbor) -> &str {
    neighbor.refused.as_deref().unwrap_or("not sent yet")
}

fn database(link: &Link) -> Database {
    Database {
        remote: link.client.remote().map(ToString::to_string).unwrap_or_default(),
        connected: link.client.is_synced(),
        synced: link.seen,
        rows: count(link.client.database().values().map(crate::ovsdb::value::Table::len).sum()),
        last_error: link.down.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_interface_that_is_named_and_not_there_is_a_warning() {
        let text = "[bgp]\nasn = 64999\nrouter_id = \"10.0.0.1\"\n\
                    [[bgp.neighbors]]\ninterface = \"enp2s0\"\nremote_as = \"external\"\n\
                    [[bgp.neighbors]]\ninterface = \"enp3s0\"\nremote_as = \"external\"\n\
                    [[bgp.neighbors]]\naddress = \"10.0.0.2\"\nbind_interface = \"enp4s0\"\nremote_as = 65001\n\
                    [advertise]\ninterfaces = [\"lo\", \"dummy0\"]\n";
        let config = crate::config::parse(text, Path::new("c.toml")).config.unwrap();
        let there = |names: &'static [&'static str]| missing_interfaces(&config, move |name| names.contains(&name));
        assert_eq!(there(&["lo", "dummy0", "enp2s0", "enp3s0", "enp4s0"]), [] as [&str; 0]);
        assert_eq!(
            there(&["lo", "enp2s0"]),
            [
                "there is no interface enp3s0, which [[bgp.neighbors]] names",
                "there is no interface enp4s0, which [[bgp.neighbors]] names",
                "there is no interface dummy0, which [advertise] names",
            ]
        );
    }
}
