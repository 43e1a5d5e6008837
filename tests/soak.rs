//! Random changes of a real Northbound database, many a second: the state kept up to date piece by piece is at every check the one
//! computed from a fresh connection, and memory does not grow. Five seconds of it here; `make soak` for five minutes (`SOAK_SECONDS`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ovn_bgpd::desired::{self, Desired, Options, Scope};
use ovn_bgpd::host::Facts;
use ovn_bgpd::nb::{self, Touched, View};
use ovn_bgpd::ovsdb::client::{Client, transact};
use ovn_bgpd::ovsdb::conversation::{Config, Event};
use ovn_bgpd::ovsdb::remote::Remote;
use ovn_bgpd::ovsdb::value::{Database, Row};
use serde_json::{Value as Json, json};

const NB: &str = "OVN_Northbound";
const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";
const LIMIT: Duration = Duration::from_secs(60);
const PORTS: u64 = 400;
const NETWORKS: u64 = 8;
/// Changes in a large transaction; with [`PER_SECOND`] the rate wanted.
const BATCH: u64 = 50;
const PER_SECOND: u64 = 1000;

/// Numbers that look random: xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::try_from(self.below(words.len() as u64)).unwrap()]
    }
}

struct Server {
    home: tempfile::TempDir,
    child: Child,
}

impl Server {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        // OVN before 24.03 does not tell which chassis hosts a gateway; the daemon does without, but then nothing moves here.
        let mut schema: Json = serde_json::from_str(&std::fs::read_to_string(SCHEMA).unwrap()).unwrap();
        schema["tables"]["Logical_Router_Port"]["columns"]["status"] =
            schema["tables"]["NAT"]["columns"]["external_ids"].clone();
        std::fs::write(home.path().join("schema"), schema.to_string()).unwrap();
        let created =
            Command::new("ovsdb-tool").args(["create", "nb.db", "schema"]).current_dir(home.path()).status().unwrap();
        assert!(created.success());
        let child = Command::new("ovsdb-server")
            .args(["--remote=punix:sock", "--unixctl=ctl", "--no-chdir", "-vconsole:off", "nb.db"])
            .current_dir(home.path())
            .env("OVS_RUNDIR", home.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !home.path().join("ctl").exists() {
            assert!(begun.elapsed() < LIMIT, "ovsdb-server did not start");
            std::thread::yield_now();
        }
        Self { home, child }
    }

    fn remote(&self) -> Remote {
        Remote::Unix(self.home.path().join("sock"))
    }

    async fn transact(&self, operations: &[Json]) {
        transact(&self.remote(), None, NB, operations, LIMIT).await.unwrap();
    }

    fn client(&self) -> Client {
        Client::new(Config::new(NB, vec![self.remote()], nb::tables()), None)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn map(pairs: &[(&str, &str)]) -> Json {
    json!(["map", pairs.iter().map(|(key, value)| json!([key, value])).collect::<Vec<_>>()])
}

/// A port of a VM somewhere, up or down, moving or not, with one address or two.
fn port(n: u64, random: &mut Random) -> Json {
    let network = format!("neutron-n{}", n % NETWORKS);
    let host = random.of(&["me", "me", "other", "third"]);
    let requested = random.of(&["me", "other", "me,other", "other,me", ""]);
    let requested = if random.below(4) == 0 { requested } else { host };
    let second = if random.below(3) == 0 { format!(" 2001:db8:{:x}::{n:x}", n % NETWORKS) } else { String::new() };
    let address = format!("10.{}.{}.{}", n % NETWORKS, n / 250, n % 250 + 2);
    json!({
        "name": format!("port-{n}"),
        "addresses": format!("fa:16:3e:00:{:02x}:{:02x} {address}{second}", n / 256, n % 256),
        "up": random.below(4) != 0,
        "options": map(&[("requested-chassis", requested)]),
        "external_ids": map(&[
            ("neutron:network_name", &*network), ("neutron:host_id", host), ("neutron:cidrs", &format!("{address}/16")),
            ("neutron:revision_number", &random.below(1000).to_string()),
        ]),
    })
}

/// Eight networks, of which half are provider networks; four routers, whose gateways move between two hosts.
fn cloud(random: &mut Random) -> Vec<Json> {
    let mut operations = Vec::new();
    let mut of_switch = vec![Vec::new(); usize::try_from(NETWORKS).unwrap()];
    let mut insert = |switch: u64, label: String, row: Json| {
        operations.push(json!({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": label, "row": row}));
        of_switch[usize::try_from(switch).unwrap()].push(json!(["named-uuid", label]));
    };
    for n in 0..PORTS {
        insert(n % NETWORKS, format!("p{n}"), port(n, random));
    }
    for n in 0..NETWORKS {
        let network = format!("neutron-n{n}");
        let row = if n < NETWORKS / 2 {
            json!({"name": format!("localnet-{n}"), "type": "localnet", "options": map(&[("network_name", "phys1")]),
                   "external_ids": map(&[("neutron:network_name", &*network)])})
        } else {
            let router = format!("r{}", n - NETWORKS / 2);
            json!({"name": format!("interface-{n}"), "type": "router", "up": true, "external_ids": map(&[
                ("neutron:network_name", &*network), ("neutron:device_owner", "network:router_interface"),
                ("neutron:device_id", &*router), ("neutron:cidrs", &format!("10.{n}.0.1/16"))])})
        };
        insert(n, format!("i{n}"), row);
    }
    for (n, ports) in of_switch.into_iter().enumerate() {
        operations.push(json!({"op": "insert", "table": "Logical_Switch",
                               "row": {"name": format!("neutron-n{n}"), "ports": ["set", ports]}}));
    }
    for n in 0..NETWORKS / 2 {
        operations.push(json!({"op": "insert", "table": "Logical_Router_Port", "uuid-name": format!("l{n}"), "row": {
            "name": format!("lrp-{n}"), "mac": format!("fa:16:3e:aa:00:0{n}"), "networks": format!("192.0.2.{}/24", n + 1),
            "external_ids": map(&[("neutron:network_name", "neutron-n0"), ("neutron:router_name", &format!("neutron-r{n}"))])}}));
        operations.push(json!({"op": "insert", "table": "Logical_Router",
                               "row": {"name": format!("neutron-r{n}"), "ports": ["named-uuid", format!("l{n}")]}}));
    }
    operations
}

fn change(random: &mut Random, database: &Database, operations: &mut Vec<Json>) {
    let n = random.below(PORTS);
    let name = |row: &Row| row["name"].as_str().unwrap_or_default().to_owned();
    let named = |table: &str, column: &str, name: String, row: Json| json!({"op": "update", "table": table, "where": [[column, "==", name]], "row": row});
    match random.below(20) {
        0 => {
            let host = random.of(&["sys-me", "sys-other"]);
            let row = json!({"status": map(&[("hosting-chassis", host)])});
            operations.push(named("Logical_Router_Port", "name", format!("lrp-{}", random.below(NETWORKS / 2)), row));
        }
        1..4 => {
            // A floating IP is given, or taken back: the row belongs to its router.
            let router = json!([["name", "==", format!("neutron-r{}", n % (NETWORKS / 2))]]);
            let ip = format!("203.0.113.{}", n % 250);
            let mac = if random.below(2) == 0 { json!(["set", []]) } else { json!("fa:16:3e:bb:00:01") };
            let label = format!("n{}", operations.len());
            operations.push(json!({"op": "insert", "table": "NAT", "uuid-name": label, "row": {
                "type": "dnat_and_snat", "external_ip": ip, "logical_ip": "10.0.0.9", "external_mac": mac, "logical_port": format!("port-{n}"),
                "external_ids": map(&[("neutron:fip_network_id", "n0"), ("neutron:router_name", &format!("neutron-r{}", n % (NETWORKS / 2)))])}}));
            operations.push(json!({"op": "update", "table": "Logical_Router", "where": router, "row": {"nat": ["named-uuid", label]}}));
        }
        4 => {
            let router = json!([["name", "==", format!("neutron-r{}", n % (NETWORKS / 2))]]);
            operations
                .push(json!({"op": "update", "table": "Logical_Router", "where": router, "row": {"nat": ["set", []]}}));
        }
        5..8 => operations.push(named(
            "Logical_Switch_Port",
            "name",
            format!("port-{n}"),
            json!({"up": random.below(2) == 0}),
        )),
        8 => {
            // A port comes; or, where there are enough of them, goes.
            let switch = json!([["name", "==", format!("neutron-n{}", n % NETWORKS)]]);
            let extras: Vec<_> =
                database["Logical_Switch_Port"].iter().filter(|(_, row)| name(row).starts_with("extra")).collect();
            let mutation = if extras.len() < 50 {
                let label = format!("q{}", operations.len());
                let mut row = port(n, random);
                row["name"] = json!(format!("extra-{}", random.below(u64::MAX)));
                operations
                    .push(json!({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": label, "row": row}));
                json!(["ports", "insert", ["named-uuid", label]])
            } else {
                let (uuid, _) = extras[usize::try_from(n).unwrap() % extras.len()];
                operations.push(json!({"op": "mutate", "table": "Logical_Switch", "where": [],
                                       "mutations": [["ports", "delete", ["uuid", uuid.to_string()]]]}));
                return;
            };
            operations
                .push(json!({"op": "mutate", "table": "Logical_Switch", "where": switch, "mutations": [mutation]}));
        }
        _ => operations.push(named("Logical_Switch_Port", "name", format!("port-{n}"), port(n, random))),
    }
}

fn facts() -> Facts {
    let patch_ports: serde_json::Map<_, _> =
        (0..NETWORKS).map(|n| (format!("patch-localnet-{n}-to-br-int"), (n + 1).into())).collect();
    serde_json::from_value(json!({
        "chassis": {"hostname": "me", "system_id": "sys-me"},
        "bridge_mappings": [{"physnet": "phys1", "bridge": "br-ex", "index": 1}],
        "bridges": {"br-ex": {"ifindex": 5, "mac": "0e:00:00:00:00:01", "up": true, "in_ovs": true, "table": 201,
                              "patch_ports": patch_ports}},
        "devices": {}, "nb_remote": null, "vlan_devices": true,
    }))
    .unwrap()
}

/// What the agent keeps, brought up to date as it does.
struct Kept {
    view: View,
    desired: Desired,
    scope: Scope,
    facts: Facts,
    options: Options,
    updates: u64,
    computed: u64,
}

impl Kept {
    fn take(&mut self, client: &Client, event: &Event) {
        let Event::Changed(changes) = event else { return };
        let rows = changes.iter().flat_map(|(table, rows)| rows.iter().map(move |row| (&**table, *row)));
        let applied = self.view.apply(client.database(), rows);
        let mine: Vec<Touched> = applied.touched.into_iter().filter(|t| self.scope.concerns(&self.view, t)).collect();
        if mine.is_empty() {
            return;
        }
        if desired::update(&mut self.desired, &self.view, &self.facts, &self.options, &self.scope, &mine).is_some() {
            self.updates += 1;
        } else {
            self.desired = desired::compute(&self.view, &self.facts, &self.options);
            self.scope = Scope::new(&self.view, &self.facts);
            self.computed += 1;
        }
    }
}

/// Resident memory, kB.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Follows until a marker that was written after everything else has arrived.
async fn follow(server: &Server, client: &mut Client, kept: &mut Kept, marker: u64) {
    let name = marker.to_string();
    let wanted = marker.is_multiple_of(2);
    server.transact(&[json!({"op": "update", "table": "NB_Global", "where": [],
                             "row": {"external_ids": map(&[("neutron:fip-distributed", if wanted { "True" } else { "False" }), ("marker", &name)])}})]).await;
    loop {
        let here = client.database()["NB_Global"].values().all(|row| {
            row["external_ids"].get("neutron:fip-distributed") == Some(if wanted { "True" } else { "False" })
        });
        if here && client.is_synced() {
            return;
        }
        let event = tokio::time::timeout(LIMIT, client.next()).await.expect("an event in time");
        kept.take(client, &event);
    }
}

#[tokio::test]
async fn the_state_is_the_one_from_scratch_and_memory_is_flat() {
    if !Path::new(SCHEMA).exists() || !Path::new("/usr/sbin/ovsdb-server").exists() {
        assert!(std::env::var_os("CI").is_none(), "CI must have ovsdb-server and the OVN schemas");
        eprintln!("SKIPPED: no ovsdb-server or no {SCHEMA}");
        return;
    }
    let seconds: u64 = std::env::var("SOAK_SECONDS").ok().map_or(5, |text| text.parse().unwrap());
    let seed: u64 = std::env::var("SOAK_SEED").ok().map_or(88_172_645_463_325_252, |text| text.parse().unwrap());
    let mut random = Random(seed);
    let server = Server::start();
    server.transact(&cloud(&mut random)).await;
    server.transact(&[json!({"op": "insert", "table": "NB_Global", "row": {}})]).await;

    let facts = facts();
    let options = Options { expose_tenant_networks: true, ..Options::default() };
    let mut client = server.client();
    let view = View::focused(facts.chassis.clone());
    let (desired, scope) = (desired::compute(&view, &facts, &options), Scope::new(&view, &facts));
    let mut kept = Kept { view, desired, scope, facts, options, updates: 0, computed: 0 };
    while !client.is_synced() {
        let event = client.next().await;
        kept.take(&client, &event);
    }

    let begun = Instant::now();
    let (mut changes, mut checks, mut early) = (0, 0_u64, 0);
    // As many rounds as there are seconds, each of a second's changes: a slow machine takes longer, and does the same.
    for round in 0..seconds {
        let due = begun + Duration::from_secs(round);
        tokio::time::sleep_until(due.into()).await;
        // Large transactions, and one large one's worth of single changes.
        let batches = PER_SECOND / BATCH - 1;
        for batch in (0..batches).map(|_| BATCH).chain((0..BATCH).map(|_| 1)) {
            let mut operations = Vec::new();
            for _ in 0..batch {
                change(&mut random, client.database(), &mut operations);
            }
            changes += batch;
            // The daemon goes on reading while the server works.
            let write = server.transact(&operations);
            tokio::pin!(write);
            loop {
                tokio::select! {
                    () = &mut write => break,
                    event = client.next() => kept.take(&client, &event),
                }
            }
        }
        follow(&server, &mut client, &mut kept, round + 1).await;
        let mut other = server.client();
        while !other.is_synced() {
            other.next().await;
        }
        assert_eq!(client.database(), other.database(), "seed {seed}, round {round}");
        let fresh = View::new(other.database()).0;
        let wanted = desired::compute(&fresh, &kept.facts, &kept.options);
        assert_eq!(kept.desired, wanted, "seed {seed}, round {round}");
        checks += 1;
        if round == seconds / 3 {
            early = resident();
        }
    }
    let (updates, computed, routes) = (kept.updates, kept.computed, kept.desired.routes.len());
    assert!(updates > 0 && computed > 0 && routes > 0, "it must reach both ways: {updates}, {computed}, {routes}");
    let late = resident();
    println!(
        "{changes} changes in {:.1} s, {checks} checks, {updates} updates, {computed} computed; resident {early} kB after a third, {late} kB at the end",
        begun.elapsed().as_secs_f32()
    );
    // What the allocator holds back varies by some megabytes.
    assert!(late < early + 8 * 1024, "memory grows: {early} kB, {late} kB");
}
