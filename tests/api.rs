//! The API as a client sees it: a daemon that only knows what it was given, served on real sockets, asked by the real commands.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ovn_bgpd::api::model::{
    Bfd, BfdTransition, DrainReport, Explain, Exposure, Learned, Neighbor, NeighborFamily, ReloadAction,
    ReloadNeighbor, ReloadReport, Route, RouteNeighbor, Step, Summary, UpgradeNeighbor, UpgradeOrder, UpgradeReport,
    Wiring,
};
use ovn_bgpd::api::{BindError, Server, Source, Unavailable};
use ovn_bgpd::config::Api;
use tokio::sync::watch;

/// A daemon made of constants.
struct Fake {
    ready: bool,
    upgrades: AtomicUsize,
}

impl Fake {
    fn new(ready: bool) -> Self {
        Self { ready, upgrades: AtomicUsize::new(0) }
    }
}

fn neighbor() -> Neighbor {
    Neighbor {
        neighbor: "fe80::1%eth1".to_owned(),
        interface: Some("eth1".to_owned()),
        remote_as: Some(65001),
        state: "Established".to_owned(),
        uptime_seconds: Some(75.0),
        state_seconds: 75.0,
        established_count: 2,
        families: vec![NeighborFamily {
            family: "ipv4".to_owned(),
            negotiated: true,
            advertised: 7,
            ..NeighborFamily::default()
        }],
        ..Neighbor::default()
    }
}

impl Source for Fake {
    async fn summary(&self) -> Result<Summary, Unavailable> {
        let not_ready = if self.ready { vec![] } else { vec!["no neighbour is established".to_owned()] };
        Ok(Summary { asn: 64999, ready: self.ready, not_ready, version: "0.1.0".to_owned(), ..Summary::default() })
    }
    async fn neighbors(&self) -> Result<Vec<Neighbor>, Unavailable> {
        Ok(vec![neighbor()])
    }
    async fn routes(&self) -> Result<Vec<Route>, Unavailable> {
        let told =
            RouteNeighbor { neighbor: "fe80::1%eth1".to_owned(), advertised: true, acknowledged: true, refused: None };
        Ok(vec![Route {
            prefix: "192.0.2.1/32".parse().unwrap(),
            next_hop: None,
            neighbors: vec![told],
            reasons: vec!["[advertise] prefixes".to_owned()],
        }])
    }
    async fn learned(&self) -> Result<Vec<Learned>, Unavailable> {
        Err(Unavailable("the speaker is stopping".to_owned()))
    }
    async fn exposures(&self) -> Result<Vec<Exposure>, Unavailable> {
        Ok(vec![])
    }
    async fn wiring(&self) -> Result<Wiring, Unavailable> {
        Ok(Wiring::default())
    }
    async fn bfd(&self) -> Result<Vec<Bfd>, Unavailable> {
        let became =
            |to: &str, reason: &str, count| BfdTransition { to: to.to_owned(), reason: reason.to_owned(), count };
        let transitions = vec![became("Down", "control detection time expired", 1), became("Up", "no diagnostic", 2)];
        Ok(vec![Bfd { neighbor: "10.0.1.1".to_owned(), transitions, ..Bfd::default() }])
    }
    async fn explain(&self, address: IpAddr) -> Result<Explain, Unavailable> {
        let step = Step { condition: "a row names it".to_owned(), holds: false, detail: "none does".to_owned() };
        Ok(Explain {
            address: address.to_string(),
            verdict: "not announced: no row names it".to_owned(),
            steps: vec![step],
            ..Explain::default()
        })
    }
    async fn reload(&self, dry_run: bool) -> Result<ReloadReport, Unavailable> {
        let neighbor = ReloadNeighbor {
            neighbor: "fe80::1%eth1".to_owned(),
            action: ReloadAction::Refresh,
            changed: vec!["prefix_list_out".to_owned()],
        };
        // The real run is refused, so that both answers are seen.
        let problems = if dry_run { vec![] } else { vec!["c.toml:1:1: no".to_owned()] };
        Ok(ReloadReport { dry_run, accepted: dry_run, problems, neighbors: vec![neighbor], ..ReloadReport::default() })
    }
    async fn upgrade(&self) -> Result<UpgradeOrder, Unavailable> {
        // The first is refused, so that both answers are seen.
        let accepted = self.upgrades.fetch_add(1, Ordering::Relaxed) > 0;
        let problem = (!accepted).then(|| "/usr/bin/ovn-bgpd: No such file".to_owned());
        Ok(UpgradeOrder { accepted, number: 1, problem, ..UpgradeOrder::default() })
    }
    async fn upgraded(&self) -> Result<UpgradeReport, Unavailable> {
        let neighbor = |neighbor: &str, reason: Option<&str>| UpgradeNeighbor {
            neighbor: neighbor.to_owned(),
            kept: reason.is_none(),
            reason: reason.map(str::to_owned),
        };
        Ok(UpgradeReport {
            number: 1,
            version: "2.0.0".to_owned(),
            former_version: Some("1.0.0".to_owned()),
            gap_seconds: Some(0.0125),
            neighbors: vec![neighbor("10.0.1.1", None), neighbor("10.0.2.1", Some("its connection was closed"))],
            ..UpgradeReport::default()
        })
    }
    async fn drain(&self, wait: Option<Duration>) -> Result<DrainReport, Unavailable> {
        let withdrawal_in_seconds = wait.map(|wait| wait.as_secs_f64());
        Ok(DrainReport { draining: true, changed: true, withdrawal_in_seconds })
    }
    async fn undrain(&self) -> Result<DrainReport, Unavailable> {
        Ok(DrainReport { draining: false, changed: true, withdrawal_in_seconds: None })
    }
}

/// A served [`Fake`].
struct Served {
    directory: tempfile::TempDir,
    runtime: Option<tokio::runtime::Runtime>,
    stop: watch::Sender<bool>,
    tcp: std::net::SocketAddr,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Served {
    fn new(ready: bool) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), ready).unwrap()
    }

    fn at(tcp: std::net::SocketAddr, ready: bool) -> Result<Self, BindError> {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let settings = Api { socket: directory.path().join("api.sock"), listen: Some(tcp) };
        let server = runtime.block_on(Server::bind(&settings))?;
        let tcp = server.tcp_address().unwrap_or(tcp);
        let (stop, stopped) = watch::channel(false);
        let task = runtime.spawn(server.run(Arc::new(Fake::new(ready)), stopped));
        Ok(Self { directory, runtime: Some(runtime), stop, tcp, task: Some(task) })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    fn command(&self, arguments: &[&str]) -> Output {
        ovn_bgpd(&self.socket(), arguments)
    }

    /// Status line and body of a request over TCP.
    fn http(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.tcp).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    fn end(&mut self) {
        self.stop.send(true).unwrap();
        let runtime = self.runtime.take().unwrap();
        runtime.block_on(self.task.take().unwrap()).unwrap();
    }
}

fn ovn_bgpd(socket: &Path, arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_ovn-bgpd"))
        .args(arguments)
        .arg("--socket")
        .arg(socket)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn show_prints_tables_for_people() {
    let served = Served::new(true);
    let shown = served.command(&["show", "neighbors"]);
    assert_eq!(
        stdout(&shown),
        "\
NEIGHBOUR     INTERFACE  AS     STATE        SINCE   FAMILY  SENT  RECEIVED  ACCEPTED  BFD  LAST REASON
fe80::1%eth1  eth1       65001  Established  1m 15s  ipv4    7     0         0         -
"
    );
    assert_eq!(
        stdout(&served.command(&["show", "routes"])),
        "\
PREFIX        NEXT HOP  NEIGHBOURS    WHY
192.0.2.1/32  self      fe80::1%eth1  [advertise] prefixes
"
    );
    assert_eq!(stdout(&served.command(&["show", "exposures"])), "nothing is exposed here\n");
}

#[test]
fn show_neighbors_says_more_when_asked() {
    let shown = stdout(&Served::new(true).command(&["show", "neighbors", "-v"]));
    for line in [
        "  state:             Established for 1m 15s, up 2 times, lost 0 times",
        "  ipv4:              7 advertised, 0 received, 0 accepted",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line} is not in\n{shown}");
    }
}

#[test]
fn show_bfd_says_how_often_a_session_changed_and_why() {
    let served = Served::new(true);
    let shown = stdout(&served.command(&["show", "bfd"]));
    let line = "10.0.1.1 became 1 × Down (control detection time expired), 2 × Up";
    assert!(shown.lines().any(|l| l == line), "{line} is not in\n{shown}");
    // The same as a metric.
    let (_, metrics) = served.http("GET", "/metrics");
    let line =
        r#"ovn_bgpd_bfd_transitions_total{neighbor="10.0.1.1",to="Down",reason="control detection time expired"} 1"#;
    assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
}

#[test]
fn show_json_is_what_the_api_says() {
    let served = Served::new(true);
    for topic in ["summary", "neighbors", "routes", "exposures", "wiring", "bfd"] {
        let shown = served.command(&["show", topic, "--json"]);
        assert_eq!(shown.status.code(), Some(0));
        let (status, body) = served.http("GET", &format!("/v1/{topic}"));
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert_eq!(stdout(&shown), format!("{body}\n"), "{topic}");
    }
    let neighbors: serde_json::Value = serde_json::from_str(&served.http("GET", "/v1/neighbors").1).unwrap();
    assert_eq!(neighbors[0]["remote_as"], 65001);
    assert_eq!(neighbors[0]["router_id"], serde_json::Value::Null, "absent values are null, not left out");
}

#[test]
fn explain_answers_with_its_exit_code() {
    let served = Served::new(true);
    let shown = served.command(&["explain", "203.0.113.9"]);
    assert_eq!(shown.status.code(), Some(1));
    assert_eq!(stdout(&shown), "203.0.113.9: not announced: no row names it\n  no   a row names it: none does\n");
    assert_eq!(served.command(&["explain", "nonsense"]).status.code(), Some(2));
    assert!(served.http("GET", "/v1/explain/nonsense").0.contains("400"));
}

#[test]
fn upgrade_says_what_came_of_it_or_why_nothing_did() {
    let served = Served::new(true);
    let refused = served.command(&["upgrade"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(stdout(&refused), "refused, everything goes on as before: /usr/bin/ovn-bgpd: No such file\n");
    let done = served.command(&["upgrade"]);
    assert_eq!(done.status.code(), Some(0), "the daemon goes on in the new binary");
    let said = "version 2.0.0: 1 of 2 sessions taken over from version 1.0.0 after 12 ms\n\
                NEIGHBOUR  SESSION   REASON\n\
                10.0.1.1   kept\n\
                10.0.2.1   restarts  its connection was closed\n";
    assert_eq!(stdout(&done), said);
    let json = served.command(&["upgrade", "--json"]);
    assert_eq!(stdout(&json), format!("{}\n", served.http("GET", "/v1/upgrade").1));
}

#[test]
fn reload_and_drain_act_and_say_so() {
    let served = Served::new(true);
    let dry = served.command(&["reload", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0));
    assert!(stdout(&dry).contains("fe80::1%eth1  refresh  prefix_list_out"), "{}", stdout(&dry));
    let refused = served.command(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(stderr(&refused), "c.toml:1:1: no\n");
    assert_eq!(stdout(&served.command(&["drain"])), "draining: traffic is being moved away\n");
    let said = "draining: traffic is being moved away; everything is withdrawn in 1.5 s\n";
    assert_eq!(stdout(&served.command(&["drain", "--wait", "1.5s"])), said);
    assert_eq!(served.command(&["drain", "--wait", "soon"]).status.code(), Some(2));
    assert_eq!(stdout(&served.command(&["undrain"])), "no longer draining\n");
}

#[test]
fn over_tcp_one_may_only_read() {
    let served = Served::new(true);
    for path in ["/v1/reload", "/v1/upgrade", "/v1/drain", "/v1/undrain"] {
        let (status, body) = served.http("POST", path);
        assert_eq!(status, "HTTP/1.1 403 Forbidden");
        assert_eq!(body, r#"{"error":"only on the control socket"}"#);
    }
    assert!(served.http("GET", "/nothing").0.contains("404"));
    assert!(served.http("DELETE", "/v1/routes").0.contains("405"));
    assert!(served.http("GET", "/").1.contains("AS 64999"));
}

#[test]
fn health_and_readiness_are_different_things() {
    let served = Served::new(false);
    assert_eq!(served.http("GET", "/healthz"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    let (status, body) = served.http("GET", "/readyz");
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 503 Service Unavailable", "no neighbour is established\n"));
    assert_eq!(Served::new(true).http("GET", "/readyz").0, "HTTP/1.1 200 OK");
}

#[test]
fn metrics_are_those_of_the_state() {
    let served = Served::new(true);
    let (status, body) = served.http("GET", "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    for line in [
        "ovn_bgpd_ready 1.0",
        "ovn_bgpd_neighbor_up{neighbor=\"fe80::1%eth1\"} 1.0",
        "ovn_bgpd_neighbor_established_total{neighbor=\"fe80::1%eth1\"} 2",
        "ovn_bgpd_neighbor_routes_advertised{neighbor=\"fe80::1%eth1\",family=\"ipv4\"} 7.0",
        "ovn_bgpd_neighbor_uptime_seconds{neighbor=\"fe80::1%eth1\"} 75.0",
        "# EOF",
    ] {
        assert!(body.lines().any(|l| l == line), "{line} is not in\n{body}");
    }
}

#[test]
fn a_part_that_cannot_answer_is_named() {
    let served = Served::new(true);
    let shown = served.command(&["show", "learned"]);
    assert_eq!(shown.status.code(), Some(3));
    assert_eq!(stderr(&shown), "ovn-bgpd: the speaker is stopping\n");
}

#[test]
fn without_a_daemon_the_error_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let shown = ovn_bgpd(&socket, &["show", "summary"]);
    assert_eq!(shown.status.code(), Some(3));
    let expected = format!(
        "ovn-bgpd: the daemon is not running: there is no socket {} (another one? --socket PATH)\n",
        socket.display()
    );
    assert_eq!(stderr(&shown), expected);
    // A socket nobody listens on any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let shown = ovn_bgpd(&socket, &["show", "summary"]);
    assert!(stderr(&shown).contains("the daemon is not running: nobody listens on"), "{}", stderr(&shown));
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
    use std::os::unix::fs::PermissionsExt;
    let mut served = Served::new(true);
    let mode = std::fs::metadata(served.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    served.end();
    assert!(!served.socket().exists());
}

#[test]
fn a_socket_in_use_is_left_alone_and_a_stale_one_is_replaced() {
    let served = Served::new(true);
    let bind = |path: &Path| {
        let settings = Api { socket: path.to_owned(), listen: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Server::bind(&settings))
    };
    assert!(matches!(bind(&served.socket()), Err(BindError::InUse(_))));
    assert_eq!(served.command(&["show", "bfd"]).status.code(), Some(0), "the first daemon still answers");
    let stale = served.directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    bind(&stale).unwrap();
    let file = served.directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(bind(&file), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_tcp_address_that_is_taken_keeps_nobody_from_starting_and_is_listened_on_later() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = taken.local_addr().unwrap();
    let mut served = Served::at(tcp, true).expect("for want of a port for metrics there would be no BGP");
    assert_eq!(served.command(&["show", "bfd"]).status.code(), Some(0));
    served.end();
    let served = Served::at(tcp, true).unwrap();
    drop(taken);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(tcp).is_err() {
        assert!(std::time::Instant::now() < end, "it was not tried again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(served.http("GET", "/healthz"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
}

/// Every key of every object is in the manual.
#[test]
fn the_manual_has_every_key() {
    fn keys(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    found.insert(key.clone());
                    keys(value, found);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")).unwrap();
    let mut found = std::collections::BTreeSet::new();
    let mut see = |value: serde_json::Value| keys(&value, &mut found);
    let summary = Summary {
        exposures: Some(ovn_bgpd::api::model::ExposureCounts::default()),
        northbound: Some(ovn_bgpd::api::model::Database::default()),
        chassis: Some(ovn_bgpd::api::model::Chassis::default()),
        bfd: Some(ovn_bgpd::api::model::BfdPackets::default()),
        ..Summary::default()
    };
    see(serde_json::to_value(summary).unwrap());
    let bfd = Some(ovn_bgpd::api::model::NeighborBfd::default());
    see(serde_json::to_value(Neighbor { bfd, ..neighbor() }).unwrap());
    let transitions = vec![ovn_bgpd::api::model::BfdTransition::default()];
    see(serde_json::to_value(Bfd { transitions, ..Bfd::default() }).unwrap());
    see(serde_json::to_value(Wiring::default()).unwrap());
    see(serde_json::to_value(Explain { steps: vec![Step::default()], ..Explain::default() }).unwrap());
    see(serde_json::to_value(ovn_bgpd::api::model::Plan::default()).unwrap());
    see(serde_json::to_value(DrainReport::default()).unwrap());
    let neighbors = vec![ReloadNeighbor { neighbor: String::new(), action: ReloadAction::Add, changed: Vec::new() }];
    see(serde_json::to_value(ReloadReport { neighbors, ..ReloadReport::default() }).unwrap());
    see(serde_json::to_value(UpgradeOrder::default()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    see(serde_json::to_value(runtime.block_on(Fake::new(true).upgraded()).unwrap()).unwrap());
    see(serde_json::to_value(runtime.block_on(Fake::new(true).routes()).unwrap()).unwrap());
    for key in found {
        assert!(manual.contains(&format!("`{key}`")), "{key} is not in docs/api.md");
    }
}
