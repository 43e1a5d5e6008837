//! The OVN side of the agent: both databases, the view and the facts made of them, and the bridges' flows.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Instant;

use futures_util::FutureExt as _;
use ipnet::IpNet;
use uuid::Uuid;

use super::leftovers::Leftovers;
use super::recorder::Recorder;
use crate::actuate::adopt::UPSTREAM_COOKIE;
use crate::actuate::kernel::{Kernel, Scope as KernelScope};
use crate::actuate::ovs::{self, Ovs};
use crate::actuate::rt_tables::RtTables;
use crate::config::{self, Monitor};
use crate::desired::wiring::Key;
use crate::desired::{self, Condition, Delta, Desired, Options, Scope};
use crate::host::facts::{self, Overrides, SYSTEM_ID_OVERRIDE};
use crate::host::{Chassis, Facts};
use crate::nb::{self, Touched, View, Warning};
use crate::ovsdb::client::Client;
use crate::ovsdb::conversation::{Changes, Config, Event, TableSpec};
use crate::ovsdb::remote::Remote;
use crate::ovsdb::tls::TlsFiles;
use crate::ovsdb::value::Database;
use crate::ovsdb::value::Table;
use crate::record::{self, Entry, Northbound};

/// The table that is large in a large cloud.
const PORTS: &str = "Logical_Switch_Port";

/// More touched rows than this are computed from scratch.
const MANY: usize = 64;

/// It carries OVN's own flows and none of ours.
const INTEGRATION_BRIDGE: &str = "br-int";

/// The databases of a host with an `[ovn]` section, and what is made of them.
pub(super) struct Ovn {
    settings: config::Ovn,
    options: Options,
    pub(super) facts: Facts,
    pub(super) view: View,
    pub(super) switches: Ovs,
    pub(super) ovs: Link,
    pub(super) nb: Option<Link>,
    nb_remotes: Vec<Remote>,
    /// The view is that of the rows which concern this host at first sight; all are being read.
    partial: bool,
    scope: Scope,
    /// Rows that concern this host and were touched since the desired state was computed.
    touched: Vec<Touched>,
    /// Something else was: the facts, the options, too many rows.
    others_changed: bool,
    rt_tables: RtTables,
    adopt_upstream: bool,
    /// Flows of others and of former runs.
    leftovers: Leftovers,
    /// Devices of ovn-bgp-agent are still to be looked for.
    upstream_devices: bool,
    /// VLAN devices the last desired state wants.
    vlan_devices: BTreeSet<String>,
    tables: BTreeMap<String, u32>,
    seed: u64,
    /// What is wrong with the host's own facts now, as was said in the log.
    pub(super) warned: Vec<String>,
    recorder: Option<Recorder>,
}

/// One followed database.
pub(super) struct Link {
    pub(super) client: Client,
    /// It was complete once.
    pub(super) seen: bool,
    /// Why it is out of reach now.
    pub(super) down: Option<String>,
    /// The rows that the conditions select have come, and no others are wanted on account of them.
    selected: bool,
    /// Rows were asked for that have not come yet.
    selecting: bool,
    /// It has taken the place of another one, whose rows stand until this one has been read completely.
    replaces: bool,
    /// It is asked only for the rows that concern this host.
    conditional: bool,
}

impl Link {
    fn new(config: Config, tls: Option<TlsFiles>) -> Self {
        Self {
            client: Client::new(config, tls),
            seen: false,
            down: Some("not connected yet".to_owned()),
            selected: false,
            selecting: false,
            replaces: false,
            conditional: false,
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Synced { .. } => {
                self.seen = true;
                self.down = None;
                self.selecting = self.client.conversation().awaits_selection();
            }
            Event::Selected => self.selecting = false,
            Event::Down { reason } => self.down = Some(reason.clone()),
            _ => {}
        }
    }

    /// The next event, and those that are there already.
    async fn next(&mut self) -> Vec<Event> {
        let mut events = vec![self.client.next().await];
        // One pass for everything that has arrived: a burst of transactions is computed once.
        while events.len() < 1024 {
            match self.client.next().now_or_never() {
                Some(event) => events.push(event),
                None => break,
            }
        }
        for event in &events {
            self.note(event);
        }
        events
    }
}

/// What came of looking at the facts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refreshed {
    /// A fact is another one than before.
    pub(super) changed: bool,
    /// Not everything could be looked at: it has to be tried again, because nobody will say that it can be now.
    pub(super) again: bool,
}

/// What happened on the OVN side.
pub(super) enum Happened {
    Northbound(Vec<Event>),
    OpenVswitch,
    Switch(ovs::Event),
}

impl Ovn {
    pub(super) fn new(
        settings: &config::Ovn,
        options: Options,
        wiring: &config::Wiring,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let ovs = Remote::parse(&settings.ovs)?;
        let rundir = match ovs.first() {
            Some(Remote::Unix(path)) => path.parent().map(Path::to_path_buf),
            _ => None,
        };
        let config = Config { seed, ..Config::new("Open_vSwitch", ovs, TableSpec::list(facts::COLUMNS)) };
        let mut ovn = Self {
            settings: settings.clone(),
            options,
            facts: Facts::default(),
            view: View::default(),
            switches: Ovs::new(rundir.unwrap_or_else(|| "/run/openvswitch".into()), wiring.flow_cookie),
            ovs: Link::new(config, None),
            nb: None,
            nb_remotes: Vec::new(),
            partial: false,
            scope: Scope::default(),
            touched: Vec::new(),
            others_changed: true,
            rt_tables: RtTables::default(),
            adopt_upstream: wiring.adopt_upstream,
            leftovers: Leftovers::new(wiring.audit_interval),
            upstream_devices: wiring.adopt_upstream,
            vlan_devices: BTreeSet::new(),
            tables: BTreeMap::new(),
            seed,
            warned: Vec::new(),
            recorder: None,
        };
        if !settings.nb.is_empty() {
            ovn.follow(Remote::parse(&settings.nb.join(","))?);
        }
        Ok(ovn)
    }

    /// Follows the Northbound database at these remotes.
    ///
    /// The first look is at the rows that concern this host, whether or not all are to be followed: a server of a large cloud needs
    /// seconds to write all, and sends none before the last is written.
    fn follow(&mut self, remotes: Vec<Remote>) {
        let tls = self.settings.tls.as_ref().map(|tls| TlsFiles {
            key: tls.key.clone(),
            certificate: tls.certificate.clone(),
            ca: tls.ca.clone(),
        });
        // A new place is a new database: what the old one said stands until the new one has been read completely.
        let seen = self.nb.as_ref().is_some_and(|nb| nb.seen);
        let selected = self.nb.as_ref().is_some_and(|nb| nb.seen && nb.selected);
        let conditional = self.settings.monitor == Monitor::Conditional || !selected;
        let mut tables = nb::tables();
        if conditional {
            // Until it is known which rows concern this host: none.
            let none = self.view.conditions().unwrap_or_else(|| serde_json::json!([false]));
            tables.iter_mut().filter(|spec| *spec.name == *PORTS).for_each(|spec| spec.condition = Some(none.clone()));
        }
        self.nb_remotes.clone_from(&remotes);
        let config = Config { shuffle: true, seed: self.seed, ..Config::new("OVN_Northbound", remotes, tables) };
        self.nb = Some(Link { seen, selected, replaces: seen, conditional, ..Link::new(config, tls) });
    }

    /// The rows that concern this host are there: goes on to all, unless these are all that is wanted.
    fn widen(&mut self) {
        if self.settings.monitor == Monitor::All {
            self.partial = true;
            self.follow(self.nb_remotes.clone());
            if let Some(link) = &mut self.nb {
                link.down = Some("this host's rows have been read, the others are to follow".to_owned());
            }
        }
    }

    /// Records from now on.
    pub(super) fn record(&mut self, path: &Path) -> std::io::Result<()> {
        let mut recorder = Recorder::create(path)?;
        recorder.write(Entry::Options(self.options.clone()));
        self.recorder = Some(recorder);
        Ok(())
    }

    /// The desired state was brought up to date.
    pub(super) fn record_effects(&mut self, desired: &Desired) {
        if let Some(recorder) = &mut self.recorder {
            recorder.effects(desired);
        }
    }

    /// What the configuration says about the rules has changed.
    pub(super) fn set_options(&mut self, options: Options) {
        if let Some(recorder) = self.recorder.as_mut().filter(|_| self.options != options) {
            recorder.write(Entry::Options(options.clone()));
        }
        self.others_changed |= self.options != options;
        self.options = options;
    }

    /// Waits for something to happen in either database or on a bridge. Cancel-safe.
    pub(super) async fn next(&mut self) -> Happened {
        let nb = async {
            match &mut self.nb {
                Some(link) => link.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.ovs.next() => Happened::OpenVswitch,
            events = nb => Happened::Northbound(events),
            event = self.switches.event() => Happened::Switch(event),
        }
    }

    /// The view is that of the rows which concern this host at first sight.
    pub(super) fn partial(&self) -> bool {
        self.partial
    }

    /// Both databases have been read at least once; the Northbound one perhaps in [part](Self::partial).
    pub(super) fn usable(&self) -> bool {
        self.ovs.seen
            && self.nb.as_ref().is_some_and(|nb| nb.seen && nb.selected)
            && !self.facts.chassis.system_id.is_empty()
    }

    /// Takes over what happened in the Northbound database; answers whether it concerns this host.
    pub(super) fn northbound(&mut self, events: Vec<Event>) -> bool {
        let Some(link) = &mut self.nb else { return false };
        let mut concerns = false;
        for event in events {
            if let Some(recorder) = &mut self.recorder {
                record(recorder, link, &event);
            }
            match event {
                // Of the rows of the former database those that are not in this one have to go, and nobody else says so.
                Event::Synced { .. } if std::mem::take(&mut link.replaces) => {
                    look(&mut self.view, &self.facts.chassis, link.client.database());
                    concerns = true;
                    self.partial = false;
                    self.others_changed = true;
                }
                // All rows will be looked at once it is known for whom.
                Event::Changed(_) if link.replaces || self.view.focus().is_none() => {}
                Event::Changed(changes) => {
                    let applied = self.view.apply(link.client.database(), rows(&changes));
                    applied.warnings.iter().for_each(warn);
                    let mine = applied.touched.into_iter().filter(|touched| self.scope.concerns(&self.view, touched));
                    let before = self.touched.len();
                    self.touched.extend(mine);
                    concerns |= self.touched.len() > before;
                    // Many at once are cheaper from scratch.
                    self.others_changed |= self.touched.len() > MANY;
                }
                Event::Synced { .. } => {
                    concerns = true;
                    self.others_changed = true;
                }
                _ => {}
            }
        }
        self.select() || concerns
    }

    /// Asks for the rows that concern this host now, if not for all. Answers whether those asked for have come for the first time.
    fn select(&mut self) -> bool {
        let Some(link) = &mut self.nb else { return false };
        if link.conditional && !link.replaces {
            if self.view.focus().is_none() {
                // No rows were asked for yet; that none have come says nothing.
                return false;
            }
            link.selecting |= link.client.conversation().set_condition(PORTS, self.view.conditions());
            if link.selecting {
                return false;
            }
        }
        let first = link.client.is_synced() && !link.selected;
        link.selected |= first;
        self.others_changed |= first;
        if first {
            self.widen();
        }
        first
    }

    /// Takes over what happened in the local database, or a changed link.
    pub(super) fn refresh_facts(&mut self, kernel: &mut Kernel) -> Refreshed {
        const BLIND: Refreshed = Refreshed { changed: false, again: true };
        let system_id_file = || {
            let text = std::fs::read_to_string(SYSTEM_ID_OVERRIDE).ok()?;
            text.lines().next().map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned)
        };
        let overrides = Overrides {
            hostname: self.settings.hostname.clone(),
            system_id: self.settings.system_id.clone().or_else(system_id_file),
        };
        let (facts, mut warnings) = facts::from_database(self.ovs.client.database(), &overrides, &kernel_hostname());
        let facts = facts.remembering(&self.facts);
        let mut facts = match kernel.links() {
            Ok(links) => facts.with_links(links.into_iter().map(|link| facts::Link {
                name: link.name,
                ifindex: link.ifindex,
                mac: link.mac,
                up: link.up,
            })),
            Err(error) => {
                tracing::warn!(%error, "cannot list the kernel's devices; what was known of them stands");
                return BLIND;
            }
        };
        if self.ovs.seen {
            let missing = facts.bridges.iter().filter(|(_, bridge)| bridge.ifindex.is_none());
            warnings.extend(missing.map(|(name, _)| {
                format!("bridge {name} of ovn-bridge-mappings is not there; its networks wait for it")
            }));
        }
        facts.vlan_devices = vlan_support();
        let without_table = match self.choose_tables(&mut facts, kernel) {
            Ok(problems) => problems,
            Err(error) => {
                tracing::warn!(%error, "cannot see which routing tables the kernel uses; what was known stands");
                return BLIND;
            }
        };
        let again = !without_table.is_empty();
        warnings.extend(without_table);
        if self.ovs.seen {
            self.warn_anew(warnings);
        }
        self.switches.watch(&facts.bridges.iter().filter(|(_, b)| b.in_ovs).map(|(name, _)| name.clone()).collect());
        if self.settings.nb.is_empty() {
            self.follow_remote(&facts);
        }
        let changed = facts != self.facts;
        self.others_changed |= changed;
        self.facts = facts;
        if let Some(recorder) = self.recorder.as_mut().filter(|_| changed) {
            recorder.write(Entry::Facts(Box::new(self.facts.clone())));
        }
        self.focus();
        Refreshed { changed, again }
    }

    /// The view is that of one host: under another name it is another one.
    fn focus(&mut self) {
        let chassis = &self.facts.chassis;
        if !self.ovs.seen || self.view.focus().is_some_and(|focus| focus.chassis() == chassis) {
            return;
        }
        let nothing = Database::new();
        // Of a database that is about to take the place of another one not all may be there yet.
        let database = self.nb.as_ref().filter(|link| !link.replaces).map_or(&nothing, |link| link.client.database());
        look(&mut self.view, chassis, database);
        self.select();
    }

    /// Why an address is exposed here, or is not.
    pub(super) fn explain(&self, address: IpNet) -> Vec<Condition> {
        match self.nb.as_ref().filter(|link| !link.replaces) {
            Some(link) => {
                let view = self.view.widened(link.client.database(), address);
                desired::explain(&view, &self.facts, &self.options, address)
            }
            None => desired::explain(&self.view, &self.facts, &self.options, address),
        }
    }

    /// Says what is wrong in the local database, and which mapped bridge is missing: once, until it changes.
    fn warn_anew(&mut self, warnings: Vec<String>) {
        for warning in warnings.iter().filter(|warning| !self.warned.contains(*warning)) {
            tracing::warn!("{warning}");
        }
        self.warned = warnings;
    }

    /// `ovn-nb-remote`, where the configuration does not name one.
    fn follow_remote(&mut self, facts: &Facts) {
        let Some(text) = &facts.nb_remote else {
            if self.nb.is_none() && self.ovs.seen {
                tracing::warn!(
                    "no Northbound database: neither [ovn] nb nor external_ids:ovn-nb-remote says where it is"
                );
            }
            return;
        };
        match Remote::parse(text) {
            Ok(remotes) if remotes == self.nb_remotes => {}
            Ok(remotes) => self.follow(remotes),
            Err(error) => tracing::warn!(%error, "external_ids:ovn-nb-remote is unusable"),
        }
    }

    /// Every mapped bridge has a routing table, chosen once and kept in rt_tables.
    ///
    /// Answers why a bridge has none. An error: the kernel cannot be asked.
    fn choose_tables(&mut self, facts: &mut Facts, kernel: &mut Kernel) -> io::Result<Vec<String>> {
        let mut problems = Vec::new();
        for (name, bridge) in &mut facts.bridges {
            if let Some(table) = self.tables.get(name) {
                bridge.table = Some(*table);
                continue;
            }
            // Not before the bridge is there: a typo in a mapping must not leave an entry behind.
            if bridge.ifindex.is_none() {
                continue;
            }
            // "Cannot see" is not "none in use".
            match self.rt_tables.find_or_choose(name, &kernel.tables_in_use()?) {
                Ok(table) => {
                    tracing::info!(bridge = name, table, "routing table");
                    if self.adopt_upstream {
                        adopt_upstream(name, table, kernel);
                    }
                    self.tables.insert(name.clone(), table);
                    bridge.table = Some(table);
                }
                Err(error) => problems.push(format!("bridge {name} gets no routing table: {error}")),
            }
        }
        Ok(problems)
    }

    /// Brings the desired state up to date with the rows touched since it was computed, if they are few and of the simple kind.
    pub(super) fn update(&mut self, desired: &mut Desired) -> Option<Delta> {
        if self.others_changed {
            return None;
        }
        let delta = desired::update(desired, &self.view, &self.facts, &self.options, &self.scope, &self.touched)?;
        self.touched.clear();
        Some(delta)
    }

    /// Computes what this host should wire and announce.
    pub(super) fn compute(&mut self) -> Desired {
        self.touched.clear();
        self.others_changed = false;
        let desired = desired::compute(&self.view, &self.facts, &self.options);
        self.scope = Scope::new(&self.view, &self.facts);
        let vlan_devices = desired.wiring.objects.keys().filter_map(|key| match key {
            Key::VlanDevice { name } => Some(name.clone()),
            _ => None,
        });
        self.vlan_devices = vlan_devices.collect();
        desired
    }

    /// Once everything of ours stands: removes what a former run has left on bridges that are no longer mapped, and what
    /// ovn-bgp-agent left and nobody needs any more.
    pub(super) async fn remove_leftovers(&mut self, now: Instant, kernel: &mut Kernel) {
        if std::mem::take(&mut self.upstream_devices) {
            remove_upstream_devices(kernel);
        }
        if !self.leftovers.is_due(now) {
            return;
        }
        let own = self.switches.cookie();
        let mut suspects = BTreeMap::from([(own, self.other_bridges())]);
        if self.adopt_upstream && UPSTREAM_COOKIE != own {
            suspects.insert(UPSTREAM_COOKIE, self.facts.bridges.keys().cloned().collect());
        }
        for (cookie, bridges) in self.leftovers.due(now, suspects) {
            let cleared = self.switches.remove_all(bridges, cookie).await;
            if cleared.flows > 0 && cookie == own {
                tracing::info!(flows = cleared.flows, "removed what was left on bridges that are no longer mapped");
            } else if cleared.flows > 0 {
                tracing::info!(flows = cleared.flows, "removed what ovn-bgp-agent left");
            }
            for (bridge, reason) in &cleared.left {
                tracing::debug!(bridge, reason, "flows of a former run may be left here; looked for again later");
            }
            self.leftovers.remain(cookie, cleared.left.into_keys());
        }
    }

    /// Bridges that are not mapped; without the one that OVN has for itself.
    fn other_bridges(&self) -> BTreeSet<String> {
        let rows = self.ovs.client.database().get("Bridge").into_iter().flat_map(Table::values);
        let names = rows.filter_map(|row| Some(row.get("name")?.as_str()?.to_owned()));
        names.filter(|name| name != INTEGRATION_BRIDGE && !self.facts.bridges.contains_key(name)).collect()
    }

    /// The part of the kernel's state that concerns the wiring.
    pub(super) fn kernel_scope(&self) -> KernelScope {
        KernelScope {
            tables: self.tables.values().copied().collect(),
            devices: self.facts.bridges.keys().chain(&self.vlan_devices).cloned().collect::<BTreeSet<_>>(),
        }
    }
}

/// Takes over what ovn-bgp-agent left on a bridge, before anything of the bridge is observed.
fn adopt_upstream(bridge: &str, table: u32, kernel: &mut Kernel) {
    let scope = KernelScope { tables: [table].into(), devices: [bridge.to_owned()].into() };
    match kernel.adopt_upstream(&scope) {
        Ok(0) => {}
        Ok(objects) => tracing::info!(bridge, objects, "took over what ovn-bgp-agent left in the kernel"),
        Err(error) => tracing::warn!(bridge, %error, "cannot take over what ovn-bgp-agent left in the kernel"),
    }
}

fn remove_upstream_devices(kernel: &mut Kernel) {
    match kernel.remove_upstream_devices() {
        Ok(devices) if devices.is_empty() => {}
        Ok(devices) => tracing::info!(devices = devices.join(", "), "removed what ovn-bgp-agent left"),
        Err(error) => tracing::warn!(%error, "cannot look for the devices of ovn-bgp-agent"),
    }
}

fn rows(changes: &Changes) -> impl Iterator<Item = (&str, Uuid)> {
    changes.iter().flat_map(|(table, rows)| rows.iter().map(move |uuid| (&**table, *uuid)))
}

/// Writes down what a Northbound event says. Of a database that takes the place of another one, all at once.
fn record(recorder: &mut Recorder, link: &Link, event: &Event) {
    let database = link.client.database();
    match event {
        Event::Changed(changes) if !link.replaces => recorder.write(Entry::Rows(record::rows(database, rows(changes)))),
        Event::Synced { .. } => {
            if link.replaces {
                let all = database.iter().flat_map(|(table, rows)| rows.keys().map(|uuid| (&**table, *uuid)));
                recorder.write(Entry::Northbound(Northbound::Cleared));
                recorder.write(Entry::Rows(record::rows(database, all)));
            }
            recorder.write(Entry::Northbound(Northbound::Complete));
        }
        Event::Down { .. } => recorder.write(Entry::Northbound(Northbound::Lost)),
        _ => {}
    }
}

/// Looks at a whole database through the eyes of a host.
fn look(view: &mut View, chassis: &Chassis, database: &Database) {
    let (new, warnings) = View::focused(chassis.clone()).filled(database);
    let known: BTreeSet<&Warning> = view.bad().collect();
    warnings.iter().filter(|warning| !known.contains(warning)).for_each(warn);
    *view = new;
}

fn warn(warning: &Warning) {
    tracing::warn!("{warning}");
}

fn kernel_hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// Whether VLAN devices can be made: 802.1Q is loaded, built in, or can be loaded.
fn vlan_support() -> bool {
    // The lists are long and do not change while the kernel runs; a module may be loaded at any time.
    static LISTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let look = || {
        let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
        let modules = Path::new("/lib/modules").join(release.unwrap_or_default());
        let listed =
            |file: &str| std::fs::read_to_string(modules.join(file)).is_ok_and(|text| text.contains("/8021q.ko"));
        listed("modules.builtin") || listed("modules.dep")
    };
    Path::new("/proc/net/vlan").exists() || Path::new("/sys/module/8021q").exists() || *LISTED.get_or_init(look)
}
