//! Learned routes into the kernel: what `[fib] install` lets through, over all the next hops the speaker selected.
//!
//! A route is never taken away merely because nobody offers it *yet*: after a start the routes of the former run stay until the
//! neighbours have had their say, and the last default stays until its way is known to be dead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::bfd::SessionKey;
use bgp::driver::{Handle, LearnedRoutes};
use bgp::policy::PrefixList;
use bgp::rib::LearnedNextHop;
use bgp::speaker::{Event, PeerAddress};
use bgp::types::Prefix;
use ipnet::IpNet;
use tokio::sync::{broadcast, watch};

use super::fib_memory::Memory;
use crate::actuate::fib::{FibHop, FibOp, FibRoute, FibSettings, ForeignDefault, diff, keep_last_resort, removals};
use crate::actuate::kernel::Kernel;
use crate::api::model;
use crate::config::{self, Config};

/// After a start, neighbours may take so long to come up and tell everything before routes of the former run are removed.
const SETTLING: Duration = Duration::from_secs(120);
/// A neighbour that sends no End-of-RIB has told everything after so long.
pub(super) const TELLING: Duration = Duration::from_secs(15);
/// The wait after a failed attempt.
const RETRY: Duration = Duration::from_secs(2);

/// A neighbour whose word counts: its session is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Speaking {
    /// Its address.
    pub(super) address: IpAddr,
    /// The interface it is on, if it is known by a link-local address.
    pub(super) interface: Option<String>,
    /// It has told everything: End-of-RIB of every negotiated family, or (not everybody sends it) it had [`TELLING`] to do so.
    pub(super) told_all: bool,
}

impl Speaking {
    /// Whether it is the neighbour that is configured so.
    fn is(&self, configured: &PeerAddress) -> bool {
        match configured {
            PeerAddress::Numbered(address) => self.address == *address,
            PeerAddress::LinkLocal(address, interface) => {
                self.address == IpAddr::V6(*address) && self.interface.as_ref() == Some(interface)
            }
            PeerAddress::Interface(interface) => self.interface.as_ref() == Some(interface),
        }
    }

    /// Whether a way out leads to it.
    fn is_behind(&self, hop: &FibHop) -> bool {
        self.address == hop.via && (self.interface.is_none() || self.interface == hop.device)
    }
}

/// The learned routes of this host.
pub(super) struct Fib {
    install: Arc<PrefixList>,
    settings: FibSettings,
    /// Where former configurations had them, until nothing is left there.
    retired: Vec<FibSettings>,
    memory: Memory,
    source_ipv4: Option<IpAddr>,
    source_ipv6: Option<IpAddr>,
    learned: watch::Receiver<LearnedRoutes>,
    events: broadcast::Receiver<Event>,
    installed: BTreeMap<IpNet, FibRoute>,
    /// The devices of all that is offered, also of what is not installed because its link is down.
    devices: BTreeSet<String>,
    /// The defaults as they were last offered to this run, and by whom.
    offered: BTreeMap<IpNet, Vec<LearnedNextHop>>,
    failed: BTreeMap<IpNet, String>,
    warned: Vec<ForeignDefault>,
    started: Instant,
    settled: bool,
    again_at: Option<Instant>,
}

impl Fib {
    /// `None`: nothing is to be installed.
    pub(super) fn new(config: &config::Fib, speaker: &Handle, memory: Memory) -> Option<Self> {
        let now = Instant::now();
        let settings = FibSettings { table: config.table, metric: config.metric, ..FibSettings::default() };
        Some(Self {
            install: Arc::clone(config.install.as_ref()?),
            settings,
            retired: memory.read().into_iter().filter(|former| *former != settings).collect(),
            memory,
            source_ipv4: config.source_ipv4.map(IpAddr::V4),
            source_ipv6: config.source_ipv6.map(IpAddr::V6),
            learned: speaker.watch_learned(),
            events: speaker.events(),
            installed: BTreeMap::new(),
            devices: BTreeSet::new(),
            offered: BTreeMap::new(),
            failed: BTreeMap::new(),
            warned: Vec::new(),
            started: now,
            settled: false,
            again_at: Some(now),
        })
    }

    /// Goes on where the one of the former configuration has been: what it has found out still holds, and what it has installed
    /// under another metric or in another table is to go once the new routes stand.
    pub(super) fn take_over(&mut self, former: Self) {
        let elsewhere = former.retired.into_iter().chain([former.settings]);
        for settings in elsewhere.filter(|settings| *settings != self.settings) {
            if !self.retired.contains(&settings) {
                self.retired.push(settings);
            }
        }
        self.installed = former.installed;
        self.offered = former.offered;
        self.warned = former.warned;
        self.started = former.started;
        self.settled = former.settled;
    }

    /// Nothing is to be installed any more.
    pub(super) fn remove_all(self, kernel: &mut Kernel) {
        remove(self.retired.into_iter().chain([self.settings]), self.memory, kernel);
    }

    /// The devices whose links matter: those of the ways out, in use or not.
    pub(super) fn devices(&self) -> BTreeSet<String> {
        let installed = self.installed.values().flat_map(|route| &route.hops).filter_map(|hop| hop.device.clone());
        installed.chain(self.devices.iter().cloned()).collect()
    }

    /// Waits until the selected routes change, or a session comes up or goes down. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        let session = async {
            loop {
                match self.events.recv().await {
                    Ok(Event::Up { .. } | Event::Down { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            changed = self.learned.changed() => {
                if changed.is_err() {
                    // The speaker is gone; its last word stands.
                    std::future::pending::<()>().await;
                }
            }
            () = session => {}
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.again_at
    }

    /// Brings the kernel in line with what the speaker selected.
    pub(super) fn reconcile(
        &mut self,
        now: Instant,
        kernel: &mut Kernel,
        config: &Config,
        speaking: &[Speaking],
        failed_paths: &BTreeSet<SessionKey>,
    ) {
        self.again_at = None;
        self.memory.write([self.settings].into_iter().chain(self.retired.iter().copied()).collect());
        let found =
            kernel.observe_fib(self.settings).and_then(|state| Ok((state, self.former(kernel)?, kernel.networks()?)));
        let (state, former, networks) = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "cannot read the kernel's routes; learned ones stay as they are");
                self.again_at = Some(now + RETRY);
                return;
            }
        };
        let mut standing = former;
        standing.extend(state.installed.iter().map(|(to, route)| (*to, route.clone())));
        self.warn_of_others(state.foreign_defaults);
        self.settle(now, config, speaking, &standing);
        let learned = self.learned.borrow_and_update().clone();
        let cut_off = self.cut_off(&learned, &networks);
        let mut wanted = self.wanted(&learned, &cut_off);
        self.offered.extend(learned.iter().filter(|(to, hops)| to.prefix_len() == 0 && !hops.is_empty()).cloned());
        let everybody = have_all_spoken(config, speaking);
        let offers = |to: &IpNet| self.offered.get(to).map_or(&[][..], Vec::as_slice);
        let dead = |to: &IpNet, hop: &FibHop| {
            is_dead(hop, speaking)
                || is_taken_back(hop, offers(to), speaking, everybody)
                || has_failed(hop, failed_paths)
        };
        if !self.settled {
            keep_former(&mut wanted, &standing, dead);
        }
        keep_last_resort(&mut wanted, &standing, dead);
        let ops = diff(&wanted, &state.installed);
        self.installed = state.installed;
        let results = kernel.apply_fib(self.settings, &ops);
        let mut failed = BTreeMap::new();
        for (op, result) in ops.into_iter().zip(results) {
            self.note(op, result.map_err(|error| error.to_string()), &mut failed);
        }
        // Only now: at every moment there is a route.
        if failed.is_empty() {
            self.retired.retain(|settings| clear(kernel, *settings).is_err());
        }
        if !failed.is_empty() || !self.retired.is_empty() || speaking.iter().any(|peer| !peer.told_all) {
            self.again_at = Some(now + RETRY);
        } else if !self.settled {
            self.again_at = Some(self.started + SETTLING);
        }
        self.failed = failed;
    }

    /// What former configurations have left where they had it.
    fn former(&self, kernel: &mut Kernel) -> std::io::Result<BTreeMap<IpNet, FibRoute>> {
        let mut found = BTreeMap::new();
        for settings in &self.retired {
            found.extend(kernel.observe_fib(*settings)?.installed);
        }
        Ok(found)
    }

    fn note(&mut self, op: FibOp, result: Result<(), String>, failed: &mut BTreeMap<IpNet, String>) {
        let (FibOp::Add(to, _) | FibOp::Replace(to, _) | FibOp::Remove(to)) = &op;
        if let Err(reason) = result {
            if self.failed.get(to) != Some(&reason) {
                tracing::warn!(%reason, "a learned route cannot be put into the kernel; tried again");
            }
            failed.insert(*to, reason);
            return;
        }
        match op {
            FibOp::Add(to, route) | FibOp::Replace(to, route) => {
                let hops: Vec<String> = route.hops.iter().map(shown).collect();
                tracing::info!(route = %to, hops = hops.join(", "), "installed");
                self.installed.insert(to, route);
            }
            FibOp::Remove(to) => {
                tracing::info!(route = %to, "removed");
                self.installed.remove(&to);
            }
        }
    }

    /// The former run's routes have been judged when everybody who may have a say in them has told everything, or had time enough.
    fn settle(&mut self, now: Instant, config: &Config, speaking: &[Speaking], standing: &BTreeMap<IpNet, FibRoute>) {
        self.settled |= has_been_judged(config, speaking, standing) || now >= self.started + SETTLING;
    }

    /// What is offered and may be installed.
    fn permitted<'a>(
        &self,
        learned: &'a [(Prefix, Vec<LearnedNextHop>)],
    ) -> impl Iterator<Item = &'a (Prefix, Vec<LearnedNextHop>)> {
        learned.iter().filter(|(prefix, hops)| self.install.permits(prefix) && !hops.is_empty())
    }

    /// The next hops that are offered, but lie behind a link that is down. What else depends on links is remembered.
    fn cut_off(&mut self, learned: &[(Prefix, Vec<LearnedNextHop>)], networks: &[(IpNet, String)]) -> BTreeSet<FibHop> {
        let mut hops: BTreeSet<FibHop> = self.permitted(learned).flat_map(|(_, hops)| hops.iter().map(hop)).collect();
        self.devices = hops.iter().flat_map(|hop| ways_to(hop, networks)).map(str::to_owned).collect();
        hops.retain(|hop| is_cut_off(hop, networks));
        hops
    }

    fn wanted(
        &self,
        learned: &[(Prefix, Vec<LearnedNextHop>)],
        cut_off: &BTreeSet<FibHop>,
    ) -> BTreeMap<IpNet, FibRoute> {
        let route = |prefix: &IpNet, hops: &[LearnedNextHop]| FibRoute {
            // The session there will fail in seconds; the traffic leaves now.
            hops: hops.iter().map(hop).filter(|hop| !cut_off.contains(hop)).collect(),
            source: if matches!(prefix, IpNet::V4(_)) { self.source_ipv4 } else { self.source_ipv6 },
        };
        let routes = self.permitted(learned).map(|(prefix, hops)| (*prefix, route(prefix, hops)));
        routes.filter(|(_, route)| !route.hops.is_empty()).collect()
    }

    /// A default route of somebody else that is preferred to ours: said once, as long as it is the same.
    fn warn_of_others(&mut self, others: Vec<ForeignDefault>) {
        for other in others.iter().filter(|other| other.metric <= self.settings.metric && !self.warned.contains(other))
        {
            tracing::warn!(
                route = %other.to,
                metric = other.metric,
                protocol = other.protocol,
                ours = self.settings.metric,
                "another default route is preferred to the learned one; raise its metric, remove it, or lower [fib] metric"
            );
        }
        self.warned = others;
    }

    /// Says of each learned route whether it stands in the kernel.
    pub(super) fn mark(&self, learned: &mut model::Learned) {
        let Some(route) = self.installed.get(&learned.prefix).filter(|_| learned.selected) else {
            if let Some(reason) = self.failed.get(&learned.prefix) {
                learned.reason = format!("{}; not installed: {reason}", learned.reason);
            } else if learned.selected && !self.install.permits(&learned.prefix) {
                learned.reason = format!("{}; not installed: [fib] install does not permit it", learned.reason);
            }
            return;
        };
        learned.installed = learned.next_hops.iter().any(|hop| {
            let address = hop.split('%').next().and_then(|text| text.parse::<IpAddr>().ok());
            route.hops.iter().any(|installed| Some(installed.via) == address)
        });
    }

    /// How many learned routes stand in the kernel.
    pub(super) fn count(&self) -> usize {
        self.installed.len()
    }
}

/// Nothing is to be installed: what a former run has left goes.
pub(super) fn remove_former(memory: Memory, kernel: &mut Kernel) {
    remove(memory.read().into_iter(), memory, kernel);
}

fn remove(places: impl Iterator<Item = FibSettings>, mut memory: Memory, kernel: &mut Kernel) {
    let mut left = Vec::new();
    for settings in places {
        if let Err(error) = clear(kernel, settings) {
            let FibSettings { table, metric, .. } = settings;
            tracing::warn!(%error, table, metric, "learned routes stay in the kernel; remove them by hand");
            left.push(settings);
        }
    }
    if !memory.read().is_empty() {
        memory.write(left);
    }
}

/// Whether everybody who may have a say in the standing routes has told everything.
///
/// The neighbours that are configured are known. Those of listen ranges are not: who they were is seen from the ways they left. So
/// where there are ranges, each way has to belong to somebody who has spoken; one that belongs to nobody known may be of a
/// neighbour that is yet to come back, or have been told by it.
fn has_been_judged(config: &Config, speaking: &[Speaking], standing: &BTreeMap<IpNet, FibRoute>) -> bool {
    let told = || speaking.iter().filter(|peer| peer.told_all);
    // One that is shut down never has anything to say.
    let mut expected = config.bgp.neighbors.iter().filter(|neighbor| neighbor.peer.shutdown.is_none());
    if !expected.all(|neighbor| told().any(|peer| peer.is(&neighbor.peer.address))) {
        return false;
    }
    let mut ways = standing.values().flat_map(|route| &route.hops);
    config.bgp.listen_ranges.is_empty() || ways.all(|hop| told().any(|peer| peer.is_behind(hop)))
}

/// Whether there is nobody left who might offer something: not those who are shut down either, nor who may come from a listen range.
fn have_all_spoken(config: &Config, speaking: &[Speaking]) -> bool {
    let told = |address: &PeerAddress| speaking.iter().any(|peer| peer.told_all && peer.is(address));
    let neighbors = &config.bgp.neighbors;
    !neighbors.is_empty()
        && config.bgp.listen_ranges.is_empty()
        && neighbors.iter().all(|neighbor| told(&neighbor.peer.address))
}

/// Removes all learned routes of these settings.
fn clear(kernel: &mut Kernel, settings: FibSettings) -> anyhow::Result<()> {
    let installed = kernel.observe_fib(settings)?.installed;
    kernel.apply_fib(settings, &removals(&installed)).into_iter().collect::<Result<(), _>>()?;
    Ok(())
}

fn shown(hop: &FibHop) -> String {
    match &hop.device {
        Some(device) => format!("{} on {device}", hop.via),
        None => hop.via.to_string(),
    }
}

/// A way out is dead when its link is, or when the neighbour there has a session with us and no longer offers the route: then
/// what it says is what counts.
fn is_dead(hop: &FibHop, speaking: &[Speaking]) -> bool {
    hop.device.as_deref().is_some_and(link_is_down) || speaking.iter().any(|peer| peer.told_all && peer.is_behind(hop))
}

/// A way out need not lead to the neighbour that offered it: an IPv6 next hop over a session with an IPv4 address does not. It is dead as
/// well when all who offered it last have sessions with us and no longer do. Where nobody has in this run (`offers` has none) it was
/// one of the neighbours, unless they have changed: `everybody` says that all of them have told everything.
fn is_taken_back(hop: &FibHop, offers: &[LearnedNextHop], speaking: &[Speaking], everybody: bool) -> bool {
    let same = |offer: &&LearnedNextHop| {
        offer.address == hop.via && (offer.interface.is_none() || offer.interface == hop.device)
    };
    let mut offers = offers.iter().filter(same).peekable();
    if offers.peek().is_none() {
        return everybody;
    }
    offers.all(|offer| speaking.iter().any(|peer| peer.told_all && peer.is(&offer.peer)))
}

/// BFD had seen the path work, and has seen it fail.
fn has_failed(hop: &FibHop, failed: &BTreeSet<SessionKey>) -> bool {
    failed.iter().any(|key| key.peer == hop.via && (key.interface.is_none() || key.interface == hop.device))
}

fn hop(learned: &LearnedNextHop) -> FibHop {
    FibHop { via: learned.address, device: learned.interface.clone() }
}

/// The devices by which the kernel reaches a next hop: the one that is named, or those on the smallest network of ours that has it.
/// None: it is farther away, and the kernel's other routes lead there.
fn ways_to<'a>(hop: &'a FibHop, networks: &'a [(IpNet, String)]) -> BTreeSet<&'a str> {
    if let Some(device) = &hop.device {
        return [&**device].into();
    }
    let around = || networks.iter().filter(|(network, _)| network.contains(&hop.via));
    let smallest = around().map(|(network, _)| network.prefix_len()).max();
    around().filter(|(network, _)| Some(network.prefix_len()) == smallest).map(|(_, device)| &**device).collect()
}

fn is_cut_off(hop: &FibHop, networks: &[(IpNet, String)]) -> bool {
    let ways = ways_to(hop, networks);
    !ways.is_empty() && ways.into_iter().all(link_is_down)
}

fn link_is_down(device: &str) -> bool {
    let state = std::fs::read_to_string(format!("/sys/class/net/{device}/operstate"));
    state.is_ok_and(|state| matches!(state.trim(), "down" | "lowerlayerdown"))
}

/// While neighbours come up after a start, what the former run installed stays beside what is offered now.
fn keep_former(
    wanted: &mut BTreeMap<IpNet, FibRoute>,
    installed: &BTreeMap<IpNet, FibRoute>,
    dead: impl Fn(&IpNet, &FibHop) -> bool,
) {
    for (to, route) in installed {
        let alive = route.hops.iter().filter(|hop| !dead(to, hop)).cloned();
        let Some(offered) = wanted.get_mut(to) else {
            let hops: BTreeSet<FibHop> = alive.collect();
            if !hops.is_empty() {
                wanted.insert(*to, FibRoute { hops, source: route.source });
            }
            continue;
        };
        for hop in alive {
            // The devices of ours are found by the kernel; the same way twice would be two shares of the traffic.
            let same = |known: &FibHop| known.via == hop.via && (known.device.is_none() || known.device == hop.device);
            if !offered.hops.iter().any(same) {
                offered.hops.insert(hop);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(hops: &[&str]) -> FibRoute {
        let hop = |via: &&str| FibHop { via: via.parse().unwrap(), device: None };
        FibRoute { hops: hops.iter().map(hop).collect(), source: None }
    }

    fn speaks(address: &str) -> Speaking {
        Speaking { address: address.parse().unwrap(), interface: None, told_all: true }
    }

    fn config(neighbors: &str) -> Config {
        let text = format!("[bgp]\nasn = 64999\nrouter_id = \"10.0.1.2\"\n{neighbors}");
        config::parse(&text, std::path::Path::new("/c.toml")).into_result().unwrap().0
    }

    fn standing(hops: &[&str]) -> BTreeMap<IpNet, FibRoute> {
        BTreeMap::from([("0.0.0.0/0".parse().unwrap(), route(hops))])
    }

    #[test]
    fn former_routes_are_judged_when_each_configured_neighbour_has_told_everything() {
        let config = config(
            "[[bgp.neighbors]]\naddress = \"10.0.1.1\"\nremote_as = 65001\n\
             [[bgp.neighbors]]\ninterface = \"up2\"\nremote_as = 65001\n\
             [[bgp.neighbors]]\naddress = \"10.0.3.1\"\nremote_as = 65001\nshutdown = true\n",
        );
        let judged = |speaking: &[Speaking]| has_been_judged(&config, speaking, &standing(&["192.0.2.1"]));
        let second = |told_all| Speaking { interface: Some("up2".into()), told_all, ..speaks("fe80::1") };
        assert!(!judged(&[]));
        assert!(!judged(&[speaks("10.0.1.1")]));
        assert!(!judged(&[speaks("10.0.1.1"), second(false)]));
        assert!(!judged(&[speaks("10.0.1.1"), speaks("10.0.4.1")]), "somebody else instead of the second");
        assert!(judged(&[speaks("10.0.1.1"), second(true)]), "nobody waits for one that is shut down");
    }

    #[test]
    fn a_neighbour_that_is_shut_down_or_may_yet_come_has_not_spoken() {
        let spoken = |text: &str, speaking: &[Speaking]| have_all_spoken(&config(text), speaking);
        let first = "[[bgp.neighbors]]\naddress = \"10.0.1.1\"\nremote_as = 65001\n";
        let second = "[[bgp.neighbors]]\naddress = \"10.0.2.1\"\nremote_as = 65001\nshutdown = true\n";
        let range = "[[bgp.listen_ranges]]\nprefix = \"10.0.3.0/24\"\nremote_as = 65001\n";
        assert!(spoken(first, &[speaks("10.0.1.1")]));
        assert!(!spoken(first, &[Speaking { told_all: false, ..speaks("10.0.1.1") }]));
        assert!(!spoken(&format!("{first}{second}"), &[speaks("10.0.1.1")]));
        assert!(!spoken(&format!("{first}{range}"), &[speaks("10.0.1.1")]));
        assert!(!spoken("", &[]), "nobody to ask");
    }

    #[test]
    fn former_routes_wait_for_the_neighbours_of_a_listen_range_that_left_them() {
        let range = "[[bgp.listen_ranges]]\nprefix = \"10.0.1.0/24\"\nremote_as = 65001\n";
        let judged = |hops: &[&str], speaking: &[Speaking]| has_been_judged(&config(range), speaking, &standing(hops));
        assert!(!judged(&["10.0.1.1"], &[]), "nobody is configured, and yet somebody will come");
        assert!(!judged(&["10.0.1.1", "10.0.1.2"], &[speaks("10.0.1.1")]));
        assert!(!judged(&["10.0.1.1"], &[Speaking { told_all: false, ..speaks("10.0.1.1") }]));
        assert!(judged(&["10.0.1.1", "10.0.1.2"], &[speaks("10.0.1.1"), speaks("10.0.1.2")]));
        assert!(!judged(&["192.0.2.1"], &[speaks("10.0.1.1")]), "a way that somebody told of who may not be back");
        assert!(judged(&[], &[]), "a first start: nothing is at stake");
        let both = format!("[[bgp.neighbors]]\naddress = \"10.0.2.1\"\nremote_as = 65001\n{range}");
        assert!(!has_been_judged(&config(&both), &[speaks("10.0.1.1")], &standing(&["10.0.1.1"])));
        assert!(has_been_judged(&config(&both), &[speaks("10.0.1.1"), speaks("10.0.2.1")], &standing(&["10.0.1.1"])));
    }

    #[test]
    fn after_a_start_the_former_routes_stay_beside_the_first_offer() {
        let default: IpNet = "0.0.0.0/0".parse().unwrap();
        let other: IpNet = "10.0.0.0/8".parse().unwrap();
        let installed = BTreeMap::from([(default, route(&["10.0.1.1", "10.0.2.1"])), (other, route(&["10.0.2.1"]))]);
        let mut wanted = BTreeMap::from([(default, route(&["10.0.1.1"]))]);
        keep_former(&mut wanted, &installed, |_, _| false);
        assert_eq!(wanted, installed);
    }

    #[test]
    fn a_way_on_which_bfd_saw_a_failure_is_dead() {
        let hop = |device: &str| FibHop { via: "fe80::1".parse().unwrap(), device: Some(device.into()) };
        let key = |interface: Option<&str>| SessionKey {
            peer: "fe80::1".parse().unwrap(),
            interface: interface.map(str::to_owned),
        };
        assert!(has_failed(&hop("eth1"), &[key(Some("eth1"))].into()));
        assert!(has_failed(&hop("eth1"), &[key(None)].into()));
        assert!(!has_failed(&hop("eth2"), &[key(Some("eth1"))].into()), "the same address on another link");
        assert!(!has_failed(&hop("eth1"), &BTreeSet::new()));
    }

    #[test]
    fn a_way_whose_neighbour_speaks_and_no_longer_offers_it_is_dead() {
        let hop = FibHop { via: "10.0.2.1".parse().unwrap(), device: None };
        assert!(is_dead(&hop, &[speaks("10.0.1.1"), speaks("10.0.2.1")]));
        assert!(!is_dead(&hop, &[speaks("10.0.1.1")]));
        assert!(!is_dead(&hop, &[Speaking { told_all: false, ..speaks("10.0.2.1") }]));
        let on = |interface: &str| Speaking { interface: Some(interface.into()), ..speaks("fe80::1") };
        let hop = FibHop { via: "fe80::1".parse().unwrap(), device: Some("no-such-device".into()) };
        assert!(is_dead(&hop, &[on("no-such-device")]));
        assert!(!is_dead(&hop, &[on("another")]), "the same link-local address on another link");
    }

    #[test]
    fn a_next_hop_is_reached_by_the_smallest_network_of_ours_that_has_it() {
        let network = |text: &str, device: &str| (text.parse::<IpNet>().unwrap(), device.to_owned());
        let networks = [
            network("10.0.1.2/24", "eth1"),
            network("10.0.2.2/24", "eth2"),
            network("10.0.2.3/24", "eth3"),
            network("10.0.0.1/8", "mgmt"),
            network("fd00:1::2/64", "eth1"),
        ];
        let ways = |via: &str, device: Option<&str>| {
            let hop = FibHop { via: via.parse().unwrap(), device: device.map(str::to_owned) };
            ways_to(&hop, &networks).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(ways("10.0.1.1", None), ["eth1"]);
        assert_eq!(ways("10.0.2.1", None), ["eth2", "eth3"]);
        assert_eq!(ways("10.9.9.9", None), ["mgmt"]);
        assert_eq!(ways("fd00:1::1", None), ["eth1"]);
        assert_eq!(ways("192.0.2.1", None), [""; 0]);
        assert_eq!(ways("fe80::1", Some("eth7")), ["eth7"]);
        let far = FibHop { via: "192.0.2.1".parse().unwrap(), device: None };
        assert!(!is_cut_off(&far, &networks), "what is not on a link of ours is not judged by one");
    }

    #[test]
    fn a_way_to_somebody_else_is_dead_when_those_who_offered_it_speak_and_no_longer_do() {
        let hop = FibHop { via: "fd00:1::1".parse().unwrap(), device: Some("eth1".into()) };
        let by = |peer: &str| LearnedNextHop {
            address: hop.via,
            interface: None,
            peer: PeerAddress::Numbered(peer.parse().unwrap()),
        };
        let elsewhere = LearnedNextHop { interface: Some("eth2".into()), ..by("10.0.1.1") };
        let up = [speaks("10.0.1.1")];
        let still_telling = [Speaking { told_all: false, ..speaks("10.0.1.1") }];
        assert!(!is_dead(&hop, &up), "the address says nothing");
        assert!(is_taken_back(&hop, &[by("10.0.1.1")], &up, false));
        assert!(!is_taken_back(&hop, &[by("10.0.1.1")], &still_telling, false));
        assert!(!is_taken_back(&hop, &[by("10.0.1.1")], &[], true), "its session is down: it may still forward");
        assert!(!is_taken_back(&hop, &[by("10.0.1.1"), by("10.0.2.1")], &up, true), "the other may still mean it");
        // Of a former run.
        assert!(is_taken_back(&hop, &[], &up, true));
        assert!(!is_taken_back(&hop, &[], &up, false));
        assert!(!is_taken_back(&hop, &[elsewhere], &up, false), "the same address on another link");
    }
}
