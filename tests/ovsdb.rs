//! The OVSDB client against a real `ovsdb-server` (Debian: openvswitch-switch, ovn-central). Skipped, loudly, where there is none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ovn_bgpd::ovsdb::client::{Client, transact};
use ovn_bgpd::ovsdb::conversation::{Changes, Config, Event, TableSpec};
use ovn_bgpd::ovsdb::remote::Remote;
use ovn_bgpd::ovsdb::tls::TlsFiles;
use ovn_bgpd::ovsdb::value::{Row, Value};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

const NB: &str = "OVN_Northbound";
const NB_SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";
const LIMIT: Duration = Duration::from_secs(20);

fn installed() -> bool {
    let all = Path::new(NB_SCHEMA).exists() && Path::new("/usr/sbin/ovsdb-server").exists();
    if !all {
        assert!(std::env::var_os("CI").is_none(), "CI must have ovsdb-server and the OVN schemas");
        eprintln!("SKIPPED: no ovsdb-server or no {NB_SCHEMA}");
    }
    all
}

/// A TCP port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(program: &str, args: &[&str], directory: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(directory).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A server with one Northbound database in a directory of its own.
struct Server {
    home: TempDir,
    child: Option<Child>,
    options: Vec<String>,
}

impl Server {
    fn new(options: &[&str]) -> Self {
        Self::with_file(&["create", "nb.db", NB_SCHEMA], options)
    }

    /// The members of a cluster, the first of which founded it.
    fn cluster<const N: usize>() -> [Self; N] {
        let address = || format!("tcp:127.0.0.1:{}", free_port());
        let founder = address();
        std::array::from_fn(|n| match n {
            0 => Self::with_file(&["create-cluster", "nb.db", NB_SCHEMA, &founder], &[]),
            _ => Self::with_file(&["join-cluster", "nb.db", NB, &address(), &founder], &[]),
        })
    }

    fn with_file(how: &[&str], options: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        run("ovsdb-tool", how, home.path());
        let mut server = Self { home, child: None, options: options.iter().map(|s| (*s).to_owned()).collect() };
        server.start();
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn remote(&self) -> Remote {
        Remote::Unix(self.path("sock"))
    }

    fn start(&mut self) {
        let _ = std::fs::remove_file(self.path("sock"));
        let child = Command::new("ovsdb-server")
            .args(["--remote=punix:sock", "--unixctl=ctl", "--log-file=log", "--no-chdir", "-vconsole:off"])
            .args(&self.options)
            .arg("nb.db")
            .current_dir(self.home.path())
            .env("OVS_RUNDIR", self.home.path())
            .env("OVS_LOGDIR", self.home.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let begun = std::time::Instant::now();
        while !self.path("ctl").exists() {
            assert!(begun.elapsed() < LIMIT, "ovsdb-server did not start");
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            let _ = std::fs::remove_file(self.path("ctl"));
        }
    }

    async fn transact(&self, operations: &[Json]) -> Vec<Json> {
        loop {
            match transact(&self.remote(), None, NB, operations, LIMIT).await {
                Ok(results) => return results,
                // A member that is still joining its cluster does not know the database yet.
                Err(error) if error.to_string().contains("database not available") => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Server {
    /// A transaction in a cluster whose members are joining, or about to elect a leader: until it is there. Once it is, another
    /// attempt breaks a constraint.
    async fn insist(&self, operations: &[Json]) {
        let begun = std::time::Instant::now();
        loop {
            match transact(&self.remote(), None, NB, operations, LIMIT).await {
                Ok(_) => return,
                Err(error) if error.to_string().contains("constraint") => return,
                Err(error) => assert!(begun.elapsed() < 3 * LIMIT, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn config(remotes: Vec<Remote>) -> Config {
    let tables = TableSpec::list(&[
        ("Logical_Switch_Port", &["name", "addresses", "up", "tag", "options", "external_ids", "no_such_column"]),
        ("NB_Global", &["external_ids"]),
    ]);
    Config::new(NB, remotes, tables)
}

async fn next(client: &mut Client) -> Event {
    tokio::time::timeout(LIMIT, client.next()).await.expect("an event in time")
}

/// Events up to and including the next `Synced`.
async fn synced(client: &mut Client) -> Vec<Event> {
    let mut events = Vec::new();
    while !matches!(events.last(), Some(Event::Synced { .. })) {
        events.push(next(client).await);
    }
    events
}

/// The next event, which must be a change.
async fn changed(client: &mut Client) -> Changes {
    match next(client).await {
        Event::Changed(changes) => changes,
        other => panic!("{other:?}"),
    }
}

/// Northbound: a port that belongs to a switch, as rows without a parent are collected at once.
fn add_port(name: &str, external_ids: &[(&str, &str)]) -> Vec<Json> {
    let pairs: Vec<Json> = external_ids.iter().map(|(k, v)| json!([k, v])).collect();
    vec![
        json!({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": "p",
               "row": {"name": name, "addresses": "fa:16:3e:00:00:01 10.0.0.1", "external_ids": ["map", pairs]}}),
        json!({"op": "insert", "table": "Logical_Switch", "row": {"name": format!("of-{name}"), "ports": ["named-uuid", "p"]}}),
    ]
}

fn update_port(name: &str, row: &Json) -> Json {
    json!({"op": "update", "table": "Logical_Switch_Port", "where": [["name", "==", name]], "row": row})
}

fn port(client: &Client, name: &str) -> Option<Row> {
    let rows = client.database().get("Logical_Switch_Port")?;
    rows.values().find(|row| row.get("name").and_then(Value::as_str) == Some(name))
}

#[tokio::test]
async fn follows_a_northbound_database() {
    if !installed() {
        return;
    }
    let server = Server::new(&[]);
    server.transact(&add_port("a", &[("k", "v"), ("x", "1")])).await;
    let mut client = Client::new(config(vec![server.remote()]), None);
    let events = synced(&mut client).await;
    let missing: Vec<&Event> = events.iter().filter(|e| matches!(e, Event::Missing(_))).collect();
    assert_eq!(missing.len(), 1, "{events:?}");
    assert_eq!(events.last(), Some(&Event::Synced { fresh: true }));
    assert_eq!(client.database().len(), 2, "empty tables are there, too");
    let row = port(&client, "a").unwrap();
    assert_eq!(row["tag"], Value::Set(vec![]), "columns at their default are filled in");
    assert_eq!(row["external_ids"].get("k"), Some("v"));
    assert!(!row.contains_key("no_such_column"));

    // A map travels as a difference, here of all three kinds at once; so does a set.
    let map =
        json!({"external_ids": ["map", [["k", "w"], ["y", "2"]]], "addresses": ["set", ["unknown", "x"]], "tag": 7});
    server.transact(&[update_port("a", &map)]).await;
    assert_eq!(changed(&mut client).await["Logical_Switch_Port"].len(), 1);
    let row = port(&client, "a").unwrap();
    assert_eq!((row["external_ids"].get("k"), row["external_ids"].get("x")), (Some("w"), None));
    assert_eq!(row["external_ids"].get("y"), Some("2"));
    assert_eq!(row["addresses"].strings().collect::<Vec<_>>(), ["unknown", "x"]);

    server.transact(&[json!({"op": "delete", "table": "Logical_Switch", "where": []})]).await;
    changed(&mut client).await;
    assert!(port(&client, "a").is_none());
}

#[tokio::test]
async fn a_restarted_server_is_found_again_and_only_real_differences_are_told() {
    if !installed() {
        return;
    }
    let mut server = Server::new(&[]);
    server.transact(&add_port("stays", &[])).await;
    server.transact(&add_port("changes", &[])).await;
    let mut client = Client::new(config(vec![server.remote()]), None);
    synced(&mut client).await;
    server.stop();
    assert!(matches!(next(&mut client).await, Event::Down { .. }));
    assert!(port(&client, "stays").is_some(), "out of sight is not gone");
    server.start();
    server.transact(&[update_port("changes", &json!({"tag": 5}))]).await;
    let mut told = Vec::new();
    while port(&client, "changes").unwrap()["tag"] == Value::Set(vec![]) {
        told.push(next(&mut client).await);
    }
    let rows: usize =
        told.iter().map(|e| if let Event::Changed(c) = e { c.values().map(Vec::len).sum() } else { 0 }).sum();
    assert_eq!(rows, 1, "{told:?}");
}

#[tokio::test]
async fn a_cluster_sends_only_what_was_missed() {
    if !installed() {
        return;
    }
    let mut members = Server::cluster::<3>();
    let mut config = config(members.iter().map(Server::remote).collect());
    config.leader_only = true;
    let mut client = Client::new(config, None);
    assert_eq!(synced(&mut client).await.last(), Some(&Event::Synced { fresh: true }));
    let leader = members.iter().position(|member| Some(&member.remote()) == client.remote()).unwrap();
    assert_eq!(leader, 0, "who founded a cluster leads it first");
    // A follower passes what it is asked on to the leader; this also waits until it has joined.
    members[1].insist(&add_port("before", &[])).await;
    members[2].insist(&add_port("before, too", &[])).await;
    while port(&client, "before").is_none() || port(&client, "before, too").is_none() {
        next(&mut client).await;
    }
    members[leader].stop();
    let mut events = vec![next(&mut client).await];
    assert!(matches!(events[0], Event::Down { .. }), "{events:?}");
    events.extend(synced(&mut client).await);
    assert_eq!(events.last(), Some(&Event::Synced { fresh: false }), "{events:?}");
    assert_ne!(client.remote(), Some(&members[leader].remote()));
    assert!(port(&client, "before").is_some());
    members[1].insist(&add_port("after", &[])).await;
    while port(&client, "after").is_none() {
        next(&mut client).await;
    }
}

#[tokio::test]
async fn a_member_that_goes_is_replaced_by_another_whoever_leads() {
    if !installed() {
        return;
    }
    let mut members = Server::cluster::<3>();
    members[1].insist(&add_port("before", &[])).await;
    members[2].insist(&add_port("before, too", &[])).await;
    let mut client = Client::new(config(members.iter().map(Server::remote).collect()), None);
    synced(&mut client).await;
    while port(&client, "before").is_none() || port(&client, "before, too").is_none() {
        next(&mut client).await;
    }
    // The member in use goes, whichever it is; what is left is a majority. Then it comes back, and so does its vote.
    for round in 0..2 {
        let used = members.iter().position(|member| Some(&member.remote()) == client.remote()).unwrap();
        members[used].stop();
        let mut events = vec![next(&mut client).await];
        assert!(matches!(events[0], Event::Down { .. }), "{events:?}");
        assert!(port(&client, "before").is_some(), "out of sight is not gone");
        events.extend(synced(&mut client).await);
        assert!(!events.iter().any(|event| matches!(event, Event::Changed(_))), "nothing was missed: {events:?}");
        assert_ne!(client.remote(), Some(&members[used].remote()));
        let name = format!("after {round}");
        members[(used + 1) % 3].insist(&add_port(&name, &[])).await;
        while port(&client, &name).is_none() {
            next(&mut client).await;
        }
        members[used].start();
        // It has joined again once it can pass something on.
        members[used].insist(&add_port(&format!("back {round}"), &[])).await;
        while port(&client, &format!("back {round}")).is_none() {
            next(&mut client).await;
        }
    }
}

#[tokio::test]
async fn another_database_in_the_same_place_replaces_all_at_once() {
    if !installed() {
        return;
    }
    let mut server = Server::new(&[]);
    server.transact(&add_port("old", &[])).await;
    let mut client = Client::new(config(vec![server.remote()]), None);
    synced(&mut client).await;
    server.stop();
    std::fs::remove_file(server.path("nb.db")).unwrap();
    run("ovsdb-tool", &["create", "nb.db", NB_SCHEMA], server.home.path());
    // Filled before anybody can connect: the client must go from old to new without seeing an empty database.
    let hidden = server.path("hidden");
    let other = Server::new(&[]);
    other.transact(&add_port("new", &[])).await;
    std::fs::write(&hidden, run("ovsdb-client", &["backup", &other.remote().to_string(), NB], other.home.path()))
        .unwrap();
    std::fs::rename(&hidden, server.path("nb.db")).unwrap();
    server.start();
    let events = synced(&mut client).await;
    let changes: Vec<&Changes> =
        events.iter().filter_map(|e| if let Event::Changed(c) = e { Some(c) } else { None }).collect();
    assert_eq!(changes.len(), 1, "{events:?}");
    assert_eq!(changes[0]["Logical_Switch_Port"].len(), 2, "one went, one came");
    assert!(port(&client, "old").is_none() && port(&client, "new").is_some());
}

#[tokio::test]
async fn the_second_remote_is_used_when_the_first_is_dead() {
    if !installed() {
        return;
    }
    let port = free_port();
    let server = Server::new(&[&format!("--remote=ptcp:{port}:127.0.0.1")]);
    let dead = server.path("dead");
    let live = Remote::Tcp { host: "localhost".to_owned(), port };
    let mut client = Client::new(config(vec![Remote::Unix(dead), live.clone()]), None);
    let events = synced(&mut client).await;
    assert!(!events.iter().any(|e| matches!(e, Event::Down { .. })), "nothing was lost: {events:?}");
    assert_eq!(client.remote(), Some(&live));
}

#[tokio::test]
async fn conditions_choose_rows_and_can_change() {
    if !installed() {
        return;
    }
    let server = Server::new(&[]);
    server.transact(&add_port("a", &[])).await;
    server.transact(&add_port("b", &[])).await;
    let mut config = config(vec![server.remote()]);
    config.tables[0].condition = Some(json!([["name", "==", "a"]]));
    let mut client = Client::new(config, None);
    synced(&mut client).await;
    assert!(port(&client, "a").is_some() && port(&client, "b").is_none());
    assert!(client.conversation().set_condition("Logical_Switch_Port", Some(json!([["name", "==", "b"]]))));
    changed(&mut client).await;
    assert!(port(&client, "a").is_none() && port(&client, "b").is_some());
    assert_eq!(next(&mut client).await, Event::Selected, "the rows come before the answer");
    // Pairs of maps, all that is asked for of a port.
    server.transact(&add_port("mine", &[("neutron:host_id", "me"), ("x", "y")])).await;
    let mine = json!([["external_ids", "includes", ["map", [["neutron:host_id", "me"]]]], ["type", "==", "router"]]);
    client.conversation().set_condition("Logical_Switch_Port", Some(mine));
    while next(&mut client).await != Event::Selected {}
    assert!(port(&client, "mine").is_some() && port(&client, "b").is_none());
    let other = json!({"external_ids": ["map", [["neutron:host_id", "other"]]]});
    server.transact(&[update_port("mine", &other)]).await;
    changed(&mut client).await;
    assert!(port(&client, "mine").is_none(), "out of the selection is gone");
}

#[tokio::test]
async fn a_failed_transaction_is_an_error_that_tells_why() {
    if !installed() {
        return;
    }
    let server = Server::new(&[]);
    let bad = [json!({"op": "insert", "table": "Logical_Switch", "row": {"nom": "x"}})];
    let error = transact(&server.remote(), None, NB, &bad, LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("nom"), "{error}");
    let error = transact(&server.remote(), None, "Nowhere", &[], LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("database"), "{error}");
}

#[tokio::test]
async fn files_backups_and_dumps_hold_what_the_server_says() {
    if !installed() {
        return;
    }
    let server = Server::new(&[]);
    server.transact(&add_port("a", &[("k", "v"), ("x", "1")])).await;
    server.transact(&add_port("gone", &[])).await;
    server.transact(&[update_port("a", &json!({"external_ids": ["map", [["k", "w"], ["y", "2"]]], "tag": 7}))]).await;
    server.transact(&[json!({"op": "delete", "table": "Logical_Switch", "where": [["name", "==", "of-gone"]]})]).await;
    let mut client = Client::new(config(vec![server.remote()]), None);
    synced(&mut client).await;
    let live = client.database()["Logical_Switch_Port"].clone();
    assert_eq!(live.len(), 1);
    let remote = server.remote().to_string();
    let backup = run("ovsdb-client", &["backup", &remote, NB], server.home.path());
    let dump = run("ovsdb-client", &["dump", "--format=json", &remote, NB], server.home.path());
    std::fs::write(server.path("backup"), backup).unwrap();
    std::fs::write(server.path("dump"), dump).unwrap();
    for name in ["nb.db", "backup", "dump"] {
        let database = ovn_bgpd::ovsdb::file::load(&server.path(name)).unwrap();
        let (uuid, row) = database["Logical_Switch_Port"].iter().next().unwrap();
        for (column, value) in live.get(uuid).unwrap() {
            assert_eq!(row.get(&column), Some(&value), "{name}: {column}");
        }
    }
    run("ovsdb-tool", &["create-cluster", "cluster.db", "nb.db", "tcp:127.0.0.1:6644"], server.home.path());
    let error = ovn_bgpd::ovsdb::file::load(&server.path("cluster.db")).unwrap_err().to_string();
    assert!(error.contains("cluster.db") && error.contains("backup"), "{error}");
}

/// Key and certificate of a CA and of what it signed, made by openssl in `directory`; the names in the certificates match nothing, as
/// those of `ovs-pki`.
fn make_pki(directory: &Path, ca: &str, names: &[&str]) {
    let openssl = |args: &str| {
        run("openssl", &args.split(' ').collect::<Vec<_>>(), directory);
    };
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("{new} -x509 -days 2 -subj /CN={ca} -keyout {ca}-key.pem -out {ca}.pem"));
    for name in names {
        openssl(&format!(
            "{new} -subj /CN={name}-id:1234 -addext subjectAltName=DNS:{name}-id -keyout {name}-key.pem -out {name}.csr"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}-key.pem -days 2 -copy_extensions copyall -out {name}.pem"
        ));
    }
}

#[tokio::test]
async fn tls_wants_the_right_ca_and_a_certificate_but_no_names() {
    if !installed() {
        return;
    }
    let pki = tempfile::tempdir().unwrap();
    make_pki(pki.path(), "ca", &["server", "client"]);
    make_pki(pki.path(), "other-ca", &["stranger"]);
    let file = |name: &str| pki.path().join(format!("{name}.pem"));
    let option = |kind: &str, name: &str| format!("--{kind}={}", file(name).display());
    let port = free_port();
    let server = Server::new(&[
        &format!("--remote=pssl:{port}:127.0.0.1"),
        &option("private-key", "server-key"),
        &option("certificate", "server"),
        &option("ca-cert", "ca"),
    ]);
    let remote = Remote::Ssl { host: "127.0.0.1".to_owned(), port };
    let tls =
        |name: &str, ca: &str| TlsFiles { key: file(&format!("{name}-key")), certificate: file(name), ca: file(ca) };
    server.transact(&add_port("a", &[])).await;
    let mut client = Client::new(config(vec![remote.clone()]), Some(tls("client", "ca")));
    synced(&mut client).await;
    assert_eq!(client.database()["Logical_Switch_Port"].len(), 1);
    assert!(transact(&remote, Some(tls("client", "ca")), NB, &[], LIMIT).await.is_ok());

    for (files, says) in [
        (Some(tls("client", "other-ca")), "certificate"),
        (Some(tls("stranger", "ca")), "alert"),
        (Some(tls("client", "missing")), "missing.pem"),
        (None, "needs a TLS key"),
    ] {
        let mut client = Client::new(config(vec![remote.clone()]), files);
        let Event::Down { reason } = next(&mut client).await else { panic!("that should not have worked") };
        assert!(reason.contains(says) && reason.contains(&remote.to_string()), "{reason}");
    }
}

/// Resident memory now, and its peak, in MiB.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// A port as Neutron writes it.
fn neutron_port(number: u32) -> Json {
    let id = |kind: u32, n: u32| format!("{kind:08x}-0000-4000-8000-{n:012x}");
    let address = format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
    let network = format!("neutron-{}", id(9, number / 100));
    json!({
        "name": id(1, number), "up": true, "type": "",
        "addresses": format!("fa:16:3e:{:02x}:{:02x}:{:02x} {address}", number >> 16, number >> 8 & 255, number & 255),
        "port_security": format!("fa:16:3e:{:02x}:{:02x}:{:02x} {address}", number >> 16, number >> 8 & 255, number & 255),
        "options": ["map", [["requested-chassis", format!("compute-{}.example.org", number * 7 % 1000)], ["mcast_flood_reports", "true"]]],
        "external_ids": ["map", [
            ["neutron:cidrs", format!("{address}/24")], ["neutron:device_id", id(2, number)],
            ["neutron:device_owner", "compute:nova"], ["neutron:host_id", format!("compute-{}.example.org", number * 7 % 1000)],
            ["neutron:mtu", "1442"], ["neutron:network_name", network], ["neutron:port_capabilities", ""],
            ["neutron:port_name", format!("port-{number}")], ["neutron:project_id", format!("{:032x}", number / 500)],
            ["neutron:revision_number", (number % 9).to_string()], ["neutron:security_group_ids", id(3, number / 500)],
            ["neutron:subnet_pool_addr_scope4", ""], ["neutron:subnet_pool_addr_scope6", ""], ["neutron:vnic_type", "normal"],
        ]],
    })
}

/// `cargo test --release --test ovsdb -- --ignored --nocapture measure`
#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn measure_100k_ports() {
    const PORTS: u32 = 100_000;
    const SWITCH: u32 = 100;
    let server = Server::new(&[]);
    for switches in (0..PORTS / SWITCH).collect::<Vec<_>>().chunks(20) {
        let mut operations = Vec::new();
        for switch in switches {
            let ports = switch * SWITCH..(switch + 1) * SWITCH;
            let names: Vec<Json> = ports.clone().map(|n| json!(["named-uuid", format!("p{n}")])).collect();
            operations.extend(ports.map(|n| {
                json!({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": format!("p{n}"), "row": neutron_port(n)})
            }));
            operations.push(json!({"op": "insert", "table": "Logical_Switch",
                "row": {"name": format!("neutron-{switch}"), "ports": ["set", names]}}));
        }
        server.transact(&operations).await;
    }
    let (before, _) = resident();
    let mut client = Client::new(Config::new(NB, vec![server.remote()], tables_of_the_agent()), None);
    for round in ["first dump", "dump again, all rows the same"] {
        let (begun, used) = (std::time::Instant::now(), cpu_time());
        // No limit: a busy machine's server may take long.
        while !matches!(client.next().await, Event::Synced { .. }) {}
        let (took, used) = (begun.elapsed(), cpu_time().saturating_sub(used));
        let (_, peak) = resident();
        // The allocator gives memory back after a while, and when it is called.
        let silence = tokio::time::timeout(Duration::from_secs(3), client.next()).await;
        assert!(silence.is_err(), "{silence:?}");
        let (after, _) = resident();
        eprintln!(
            "{round}: {took:?} until synced (nearly all of it the server's), of which {used:?} are ours; \
             resident {before} MiB before, {after} MiB after, peak {peak} MiB"
        );
        server_cuts_connections(&server);
        assert!(matches!(next(&mut client).await, Event::Down { .. }));
    }
}

/// Processor time this process has used so far: proc(5), in hundredths of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum::<u64>();
    Duration::from_millis(ticks * 10)
}

fn tables_of_the_agent() -> Vec<TableSpec> {
    TableSpec::list(ovn_bgpd::nb::COLUMNS)
}

fn server_cuts_connections(server: &Server) {
    let ctl = server.path("ctl").display().to_string();
    run("ovs-appctl", &["-t", &ctl, "ovsdb-server/reconnect"], server.home.path());
}
