//! After any sequence of faults and changes, kernel + flows + announcements = the plan of the final rows: with a real kernel (in a
//! network namespace), a real `ovs-vswitchd`, a real Northbound database and a leaf that says what it was told.
//!
//! The sequence is random and comes from a seed: `FAULTS_SEED` and `FAULTS_ROUNDS` choose another one (`make faults`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helper functions may fail like the test itself"
)]

#[path = "support/cloud.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod cloud;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use bgp::rng::Rng;
use cloud::Cloud;
use nix::sys::signal::Signal;
use ovn_bgpd::actuate::kernel::{Kernel, Marks, Scope};
use ovn_bgpd::actuate::ovs::Ovs;
use ovn_bgpd::actuate::rt_tables::RtTables;
use ovn_bgpd::desired::wiring::{Key, Spec};
use ovn_bgpd::desired::{self, Desired, Options};
use ovn_bgpd::host::facts::{self, Overrides};
use ovn_bgpd::nb::View;
use ovn_bgpd::ovsdb::file;

/// One sequence, quick enough for every run of the tests.
const ROUNDS: u64 = 15;
/// What converges at all does so in a fraction of this, on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(90);
const BRIDGE: &str = "br-ex";
const COOKIE: u64 = 0x3e7;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn whatever_happens_the_world_becomes_the_plan_of_the_rows() {
    let seed = setting("FAULTS_SEED").unwrap_or(1);
    let rounds = setting("FAULTS_ROUNDS").unwrap_or(ROUNDS);
    Cloud::with(move |cloud| {
        let mut world = World {
            cloud,
            rng: Rng::new(seed),
            ports: BTreeSet::new(),
            floating: BTreeSet::new(),
            story: String::new(),
        };
        world.note(&format!("seed {seed}"));
        for _ in 0..4 {
            world.change_rows();
        }
        world.cloud.start_leaf("");
        world.cloud.start_daemon("");
        world.converge();
        for round in 1..=rounds {
            world.note(&format!("round {round}"));
            for _ in 0..=world.pick(4) {
                if world.pick(2) == 0 {
                    world.change_rows();
                } else {
                    world.fault();
                }
            }
            world.mend();
            world.converge();
        }
    });
}

struct World {
    cloud: Cloud,
    rng: Rng,
    /// Names of the ports there are.
    ports: BTreeSet<u64>,
    floating: BTreeSet<u64>,
    /// What was done, to be read after a failure.
    story: String,
}

impl World {
    fn pick(&mut self, below: u64) -> u64 {
        self.rng.next() % below
    }

    fn note(&mut self, what: &str) {
        writeln!(self.story, "{what}").unwrap();
    }

    fn nbctl(&mut self, arguments: &str) {
        self.note(&format!("ovn-nbctl {arguments}"));
        self.cloud.nbctl(arguments);
    }

    /// One change of the Northbound database, if it is there.
    fn change_rows(&mut self) {
        if self.cloud.nb.is_none() {
            return;
        }
        let n = self.pick(6);
        if !self.ports.contains(&n) {
            let switch = if n < 4 { "neutron-1" } else { "neutron-2" };
            self.nbctl(&format!(
                "lsp-add {switch} vm{n} -- set Logical_Switch_Port vm{n} up=true options:requested-chassis=hv1 \
                 external_ids:neutron\\:network_name={switch}"
            ));
            self.ports.insert(n);
            self.readdress(n);
            return;
        }
        match self.pick(6) {
            0 => {
                self.nbctl(&format!("lsp-del vm{n}"));
                self.ports.remove(&n);
            }
            1 => {
                let up = self.pick(2) == 0;
                self.nbctl(&format!("set Logical_Switch_Port vm{n} up={up}"));
            }
            2 => {
                let host = self.pick(2) + 1;
                self.nbctl(&format!("set Logical_Switch_Port vm{n} options:requested-chassis=hv{host}"));
            }
            3 if self.floating.remove(&n) => self.nbctl(&format!("lr-nat-del neutron-r dnat_and_snat 198.51.100.{n}")),
            3 | 4 if self.floating.insert(n) => self.nbctl(&format!(
                "--id=@nat create NAT type=dnat_and_snat external_ip=198.51.100.{n} logical_ip=192.168.0.{n} \
                 external_mac=\"02:00:00:00:01:0{n}\" logical_port=vm{n} external_ids:neutron\\:fip_network_id=1 \
                 -- add Logical_Router neutron-r nat @nat"
            )),
            _ => self.readdress(n),
        }
    }

    fn readdress(&mut self, n: u64) {
        let (mac, host) = (self.pick(3), self.pick(3));
        self.nbctl(&format!(
            "lsp-set-addresses vm{n} 02:00:00:00:0{mac}:0{n}~203.0.113.{n}{host}~2001:db8::{n}:{host}"
        ));
    }

    /// Something goes wrong.
    fn fault(&mut self) {
        let table = RtTables::default().find(BRIDGE).unwrap().unwrap_or(0);
        match self.pick(14) {
            0 => self.ip(&["rule", "del", "pref", "32000"]),
            1 => self.ip(&["-6", "rule", "del", "pref", "32000"]),
            2 => self.ip(&["route", "flush", "table", &table.to_string()]),
            3 => self.ip(&["-6", "route", "flush", "table", &table.to_string()]),
            4 => self.ip(&["neigh", "flush", "dev", BRIDGE, "nud", "permanent"]),
            5 => self.ip(&["-6", "neigh", "flush", "dev", BRIDGE, "nud", "permanent"]),
            6 => self.ip(&["address", "flush", "dev", BRIDGE, "scope", "global"]),
            7 => self.ip(&["link", "set", BRIDGE, "down"]),
            8 => {
                self.ip(&["link", "set", BRIDGE, "down"]);
                self.ip(&["link", "set", BRIDGE, "up"]);
            }
            9 if self.cloud.switch.is_some() => {
                self.note("flows wiped");
                let socket = format!("unix:{}", self.cloud.file("br-ex.mgmt").display());
                // A switch that has just been started may not be there yet.
                let _ =
                    Command::new("ovs-ofctl").args(["--timeout=5", "del-flows", &socket, "cookie=0x3e7/-1"]).output();
            }
            9 | 10 => {
                self.note("the switch dies");
                self.cloud.switch = None;
            }
            11 => {
                self.note("the Northbound database dies");
                self.cloud.nb = None;
            }
            12 => {
                self.note("the daemon is killed");
                self.cloud.daemon = None;
                if self.pick(2) == 0 {
                    self.note("and comes back at once");
                    self.cloud.start_daemon("");
                }
            }
            _ => {
                self.note("the leaf is killed");
                self.cloud.leaf = None;
            }
        }
        if self.pick(3) == 0
            && let Some(switch) = &self.cloud.switch
        {
            switch.signal(Signal::SIGSTOP);
            self.note("the switch hangs");
        }
    }

    /// What `ip` refuses was gone already.
    fn ip(&mut self, arguments: &[&str]) {
        let done = Command::new("ip").args(arguments).output().unwrap().status.success();
        self.note(&format!("ip {}{}", arguments.join(" "), if done { "" } else { " (in vain)" }));
    }

    /// Everything is back; what was broken stays broken.
    fn mend(&mut self) {
        if let Some(switch) = &self.cloud.switch {
            switch.signal(Signal::SIGCONT);
        }
        self.cloud.start_nb();
        self.cloud.start_switch();
        self.cloud.start_daemon("");
        self.cloud.start_leaf("");
        if self.pick(2) == 0 {
            self.change_rows();
        }
    }

    /// Waits until the world is the plan.
    fn converge(&mut self) {
        let started = Instant::now();
        loop {
            let differs = self.difference();
            if differs.is_empty() {
                self.note(&format!("converged in {} ms", started.elapsed().as_millis()));
                println!("{}", self.story.lines().last().unwrap());
                return;
            }
            let died = self.cloud.daemon.as_mut().unwrap().has_ended();
            let logs = || self.cloud.logs();
            assert!(!died && started.elapsed() < PATIENCE, "{}\nstill differs: {differs:#?}\n{}", self.story, logs());
        }
    }

    /// What is not as it should be, in words.
    fn difference(&self) -> Vec<String> {
        let (plan, found) = self.plan_and_kernel();
        let Some(plan) = plan else { return vec!["the bridge has no table yet".to_owned()] };
        let mut differs = Vec::new();
        for (key, object) in &plan.wiring.objects {
            match found.get(key) {
                Some(spec) if *spec == object.spec => {}
                other => differs.push(format!("{key:?} should be {:?}, is {other:?}", object.spec)),
            }
        }
        for key in found.keys().filter(|key| !plan.wiring.objects.contains_key(key)) {
            differs.push(format!("{key:?} is left over"));
        }
        let told = self.cloud.told();
        let wanted: BTreeSet<String> = plan.routes.keys().map(ToString::to_string).collect();
        differs.extend(wanted.symmetric_difference(&told).map(|prefix| {
            format!("{prefix} is {}", if told.contains(prefix) { "announced" } else { "not announced" })
        }));
        differs
    }

    /// The plan of the rows as they are now; and what is in the kernel and on the bridge.
    fn plan_and_kernel(&self) -> (Option<Desired>, BTreeMap<Key, Spec>) {
        let mut kernel = Kernel::new(Marks { rule_priority: 32000, protocol: 99 });
        let ovs = file::load(&self.cloud.dump("db.sock", "Open_vSwitch")).unwrap();
        let nb = file::load(&self.cloud.dump("nb.sock", "OVN_Northbound")).unwrap();
        let (facts, _) = facts::from_database(&ovs, &Overrides::default(), "nobody");
        let links = kernel.links().unwrap().into_iter();
        let mut facts = facts.with_links(links.map(|link| facts::Link {
            name: link.name,
            ifindex: link.ifindex,
            mac: link.mac,
            up: link.up,
        }));
        let Some(table) = RtTables::default().find(BRIDGE).unwrap() else { return (None, BTreeMap::new()) };
        facts.bridges.get_mut(BRIDGE).unwrap().table = Some(table);
        let plan = desired::compute(&View::new(&nb).0, &facts, &Options::default());
        let scope = Scope { tables: [table].into(), devices: [BRIDGE.to_owned()].into() };
        let mut found = kernel.observe(&scope, &plan.wiring.objects).unwrap();
        let mut switches = Ovs::new(self.cloud.file(""), COOKIE);
        switches.watch(&[BRIDGE.to_owned()].into());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        found.extend(runtime.block_on(switches.observe()).0);
        (Some(plan), found)
    }
}
