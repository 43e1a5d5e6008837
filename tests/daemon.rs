//! The whole daemon, run as an operator runs it, in a network namespace: what a reload changes, and what a second start must not. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helper functions may fail like the test itself"
)]

#[path = "support/netns.rs"]
#[allow(dead_code, reason = "shared with tests that run without a process of their own")]
mod netns;

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::netns::{in_namespace, ip, ip_json};

const DAEMON: &str = env!("CARGO_BIN_EXE_ovn-bgpd");

/// A running daemon with a configuration that can be rewritten.
struct Daemon {
    directory: tempfile::TempDir,
    process: Child,
}

impl Daemon {
    fn start(rest: &str) -> Self {
        Self::start_with(|socket| text(socket, rest))
    }

    fn start_with(text: impl Fn(&Path) -> String) -> Self {
        Self::start_by(Path::new(DAEMON), text)
    }

    fn start_by(program: &Path, text: impl Fn(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("c.toml");
        fs::write(&config, text(&directory.path().join("s.sock"))).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let process = run_by(program, &config).stderr(log).spawn().unwrap();
        let mut daemon = Self { directory, process };
        eventually("the daemon answers", || {
            assert!(daemon.process.try_wait().unwrap().is_none(), "the daemon ended: {}", daemon.log());
            daemon.command(&["show", "summary"]).status.success()
        });
        daemon
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("c.toml")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s.sock")
    }

    fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// What it has said so far.
    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Output {
        Command::new(DAEMON).args(arguments).arg("--socket").arg(self.socket()).output().unwrap()
    }

    fn says(&self, arguments: &[&str], what: &str) -> bool {
        String::from_utf8(self.command(arguments).stdout).unwrap().contains(what)
    }

    fn reload(&self, rest: &str) {
        fs::write(self.config(), text(&self.socket(), rest)).unwrap();
        let output = self.command(&["reload"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(config: &Path) -> Command {
    run_by(Path::new(DAEMON), config)
}

fn run_by(program: &Path, config: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(config).env_remove("RUST_LOG");
    command
}

/// One neighbour that is not there; `rest` follows.
fn text(socket: &Path, rest: &str) -> String {
    let socket = socket.display();
    format!(
        "[bgp]\nasn = 64999\nrouter_id = \"10.0.1.2\"\nport = 1790\n\
         [[bgp.neighbors]]\naddress = \"10.0.1.1\"\nremote_as = \"external\"\n\
         [prefix_lists]\nall = [\"permit 0.0.0.0/0 le 32\"]\n\
         [api]\nsocket = \"{socket}\"\n{rest}\n"
    )
}

/// Every look is a process of its own, so that this is no tight loop.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "in vain: {what}");
    }
}

/// Metrics of the default routes of BGP.
fn metrics() -> Vec<u64> {
    ip_json("route show default proto 186").iter().filter_map(|route| route["metric"].as_u64()).collect()
}

#[test]
fn learned_routes_move_with_their_metric_and_go_with_the_section() {
    in_namespace(|| {
        ip("address add 10.0.1.2/30 dev br-ex");
        // What a former run has installed. Its leaf says nothing now, and nothing says that it is dead.
        ip("route add default via 10.0.1.1 dev br-ex proto 186 metric 20");
        let daemon = Daemon::start("[fib]\ninstall = \"all\"\nmetric = 20");
        assert_eq!(metrics(), [20]);
        daemon.reload("[fib]\ninstall = \"all\"\nmetric = 30");
        eventually("the route has the new metric, and that only", || metrics() == [30]);
        daemon.reload("");
        eventually("nothing is left behind", || metrics().is_empty());
    });
}

#[test]
fn a_refused_reload_by_signal_is_one_line_of_the_log_a_problem() {
    in_namespace(|| {
        let daemon = Daemon::start("");
        fs::write(daemon.config(), text(&daemon.socket(), "[wiring]\nruels = \"per-table\"\n[nonsense]")).unwrap();
        daemon.signal(Signal::SIGHUP);
        eventually("it says so", || daemon.log().matches("was not reloaded").count() == 2);
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains("ruels")).unwrap();
        assert!(line.contains("c.toml:13:1: ") && line.contains("; hint: "), "{log}");
        assert!(!log.contains("\\n"), "{log}");
        assert!(daemon.command(&["show", "summary"]).status.success(), "the old one stays in force");
    });
}

#[test]
fn without_files_left_nobody_is_accepted_and_that_is_said_once() {
    in_namespace(|| {
        let daemon = Daemon::start("");
        let pid = daemon.process.id().to_string();
        let limited = Command::new("prlimit").args(["--nofile=64", "--pid", &pid]).status().unwrap();
        assert!(limited.success());
        let clients: Vec<_> = (0..100).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
        eventually("the API says so", || daemon.log().contains("the API cannot accept connections"));
        let mut caller = TcpStream::connect("127.0.0.1:1790").unwrap();
        eventually("BGP says so", || daemon.log().contains("WARN cannot accept connections"));
        drop(clients);
        // Nobody who is configured: closed as soon as it is accepted.
        let _ = caller.read(&mut [0]);
        assert_eq!(daemon.log().matches("WARN cannot accept connections").count(), 1, "{}", daemon.log());
        eventually("the API is back", || daemon.command(&["show", "summary"]).status.success());
    });
}

#[test]
fn an_interface_that_a_reload_names_is_followed_from_then_on() {
    in_namespace(|| {
        let daemon = Daemon::start("");
        daemon.reload("[advertise]\ninterfaces = [\"lo\"]");
        ip("address add 172.30.9.9/32 dev lo");
        eventually("the address is announced", || daemon.says(&["show", "routes"], "172.30.9.9/32"));
        ip("address del 172.30.9.9/32 dev lo");
        eventually("it is withdrawn", || !daemon.says(&["show", "routes"], "172.30.9.9/32"));
    });
}

#[test]
fn a_second_daemon_ends_before_any_neighbour_hears_of_it() {
    in_namespace(|| {
        let daemon = Daemon::start("");
        let second = run(&daemon.config()).output().unwrap();
        let log = String::from_utf8(second.stderr).unwrap();
        assert_eq!(second.status.code(), Some(4), "{log}");
        assert!(log.contains("another daemon is listening there"), "{log}");
        // It has not even tried to listen, let alone to dial.
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(daemon.command(&["show", "neighbors"]).status.success(), "the first one is untouched");
    });
}

/// Two daemons that are each other's neighbour; `rest` is the first one's.
fn neighbours(rest: &str) -> (Daemon, Daemon) {
    ip("address add 10.0.1.2/32 dev lo");
    ip("address add 10.0.1.1/32 dev lo");
    // Each by its AS number, its address and its port.
    let daemon = |(asn, us, port): (u32, &str, u16), (remote_as, them, remote_port): (u32, &str, u16), rest: &str| {
        Daemon::start_with(|socket| {
            format!(
                "[bgp]\nasn = {asn}\nrouter_id = \"{us}\"\nport = {port}\nlisten = [\"{us}\"]\n\
                 [[bgp.neighbors]]\naddress = \"{them}\"\nlocal_address = \"{us}\"\n\
                 remote_as = {remote_as}\nport = {remote_port}\nconnect_retry = \"1s\"\n\
                 [api]\nsocket = \"{}\"\n{rest}\n",
                socket.display()
            )
        })
    };
    let (one, other) = ((64999, "10.0.1.2", 1790), (64998, "10.0.1.1", 1791));
    let (first, second) = (daemon(one, other, rest), daemon(other, one, ""));
    eventually("the session is up", || second.says(&["show", "neighbors"], "Established"));
    (first, second)
}

#[test]
fn the_daemon_goes_on_in_another_binary_and_its_neighbour_never_knows() {
    in_namespace(|| {
        let (mut daemon, neighbour) = neighbours("[advertise]\nprefixes = [\"192.0.2.1/32\"]");
        eventually("the route is learned", || neighbour.says(&["show", "learned"], "192.0.2.1/32"));
        let seen = || -> serde_json::Value {
            serde_json::from_slice(&neighbour.command(&["show", "neighbors", "--json"]).stdout).unwrap()
        };
        let of = |key: &str| seen()[0][key].clone();
        eventually("End-of-RIB has come", || {
            of("families")
                .as_array()
                .unwrap()
                .iter()
                .all(|f| f["end_of_rib_sent"] == true && f["end_of_rib_received"] == true)
        });
        let before = (
            of("established_count"),
            of("lost_count"),
            of("remote_endpoint"),
            of("messages")["updates_received"].clone(),
        );
        for number in 1..4 {
            let output = daemon.command(&["upgrade", "--json"]);
            assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), daemon.log());
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((&report["number"], &report["neighbors"][0]["kept"]), (&number.into(), &true.into()));
        }
        // A signal asks for the same. One that comes in between ends nothing either.
        for _ in 0..5 {
            daemon.signal(Signal::SIGUSR2);
            daemon.signal(Signal::SIGHUP);
        }
        eventually("it has gone on once more", || daemon.log().matches("sessions taken over kept=1").count() > 3);
        eventually("it answers", || daemon.command(&["show", "summary"]).status.success());
        assert!(daemon.process.try_wait().unwrap().is_none(), "the same process");
        let after = (
            of("established_count"),
            of("lost_count"),
            of("remote_endpoint"),
            of("messages")["updates_received"].clone(),
        );
        assert_eq!(after, before);
        // A drain is remembered, unlike over a restart.
        assert!(daemon.command(&["drain", "--wait", "0s"]).status.success());
        eventually("the route is withdrawn", || !neighbour.says(&["show", "learned"], "192.0.2.1/32"));
        assert!(daemon.command(&["upgrade"]).status.success(), "{}", daemon.log());
        assert!(daemon.says(&["show", "summary"], "draining"));
        assert!(!neighbour.says(&["show", "learned"], "192.0.2.1/32"));
    });
}

#[test]
fn one_binary_is_asked_at_a_time() {
    in_namespace(|| {
        // Its second answer takes a while.
        let slow = "#!/bin/sh\ncase $1 in --version) echo ovn-bgpd 9.9.9 ;; *) sleep 1; exit 1 ;; esac\n";
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("ovn-bgpd");
        fs::copy(DAEMON, &program).unwrap();
        let daemon = Daemon::start_by(&program, |socket| text(socket, ""));
        fs::remove_file(&program).unwrap();
        fs::write(&program, slow).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let ask =
            || Command::new(DAEMON).args(["upgrade", "--socket"]).arg(daemon.socket()).stdout(Stdio::piped()).spawn();
        let asked = [ask(), ask()];
        let answers = asked.map(|asked| asked.unwrap().wait_with_output().unwrap());
        let mut answers: Vec<_> = answers.iter().map(|a| String::from_utf8_lossy(&a.stdout).into_owned()).collect();
        answers.sort();
        assert!(answers[0].contains("another upgrade is being prepared"), "{answers:?}");
        assert!(answers[1].contains("version 9.9.9 takes no sessions over"), "{answers:?}");
        assert!(daemon.says(&["upgrade"], "version 9.9.9 takes no sessions over"), "it can be asked again");
    });
}

#[test]
fn only_one_thread_hears_a_signal_so_that_none_is_lost_at_an_upgrade() {
    in_namespace(|| {
        let daemon = Daemon::start("");
        let upgraded = || {
            assert!(daemon.command(&["upgrade"]).status.success(), "{}", daemon.log());
        };
        for act in [&(|| {}) as &dyn Fn(), &upgraded] {
            act();
            let tasks = format!("/proc/{}/task", daemon.process.id());
            let hears = |task: &fs::DirEntry| {
                let status = fs::read_to_string(task.path().join("status")).unwrap();
                let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim();
                u64::from_str_radix(blocked, 16).unwrap() & (1 << (Signal::SIGTERM as u32 - 1)) == 0
            };
            let tasks: Vec<_> = fs::read_dir(tasks).unwrap().map(Result::unwrap).collect();
            let hear: Vec<_> = tasks.iter().filter(|task| hears(task)).map(fs::DirEntry::file_name).collect();
            assert!(tasks.len() > 2, "it has threads");
            assert_eq!(hear, [daemon.process.id().to_string().as_str()]);
        }
    });
}

#[test]
fn a_stop_is_heard_in_the_middle_of_an_upgrade() {
    in_namespace(|| {
        // Of the preflight, of the moment in between, of the new process before and after it listens.
        for milliseconds in (0..60).step_by(3) {
            let mut daemon = Daemon::start("");
            let socket = daemon.socket();
            let mut asked =
                Command::new(DAEMON).args(["upgrade", "--socket"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(milliseconds));
            daemon.signal(Signal::SIGTERM);
            let mut code = None;
            eventually("it has ended", || {
                code = daemon.process.try_wait().unwrap();
                code.is_some()
            });
            assert_eq!(code.unwrap().code(), Some(0), "{milliseconds} ms: {}", daemon.log());
            let _ = asked.kill();
            asked.wait().unwrap();
        }
    });
}

#[test]
fn two_daemons_in_a_namespace_neither_wire_nor_install_both_but_speak_both() {
    in_namespace(|| {
        // The database is not there: it is the section that counts.
        let ovn = "[ovn]\novs = \"unix:/nonexistent/db.sock\"\nnb = \"unix:/nonexistent/nb.sock\"";
        let fib = "[fib]\ninstall = \"all\"";
        let mut first = Daemon::start(&format!("{ovn}\n{fib}"));
        let pid = first.process.id();
        let refused = |rest: &str| {
            let directory = tempfile::tempdir().unwrap();
            let config = directory.path().join("c.toml");
            fs::write(&config, text(&directory.path().join("s.sock"), rest).replace("1790", "1791")).unwrap();
            let output = run(&config).output().unwrap();
            assert_eq!(output.status.code(), Some(4));
            assert!(!directory.path().join("s.sock").exists(), "nothing is left of it");
            String::from_utf8(output.stderr).unwrap()
        };
        let log = refused(ovn);
        assert!(log.contains(&format!("another daemon (pid {pid}) already wires addresses in this network")), "{log}");
        let log = refused(fib);
        assert!(log.contains(&format!("another daemon (pid {pid}) already installs learned routes")), "{log}");
        assert!(log.contains("leave [fib] install out of this configuration"), "{log}");

        let plain = Daemon::start("");
        fs::write(plain.config(), text(&plain.socket(), fib)).unwrap();
        let output = plain.command(&["reload"]);
        assert_eq!(output.status.code(), Some(1), "a reload is refused as a start is");
        let said = [output.stdout, output.stderr].concat();
        assert!(String::from_utf8(said).unwrap().contains(&format!("(pid {pid})")));

        first.process.kill().unwrap();
        first.process.wait().unwrap();
        plain.reload(fib);
    });
}

/// An `ovsdb-server` with one database of its own. `None`: there is none on this machine.
struct Database {
    home: tempfile::TempDir,
    process: Child,
}

impl Database {
    fn start(schema: &str) -> Option<Self> {
        let installed = Path::new(schema).exists() && Path::new("/usr/sbin/ovsdb-server").exists();
        if !installed {
            assert!(std::env::var_os("CI").is_none(), "CI must have ovsdb-server and {schema}");
            eprintln!("skipped: no ovsdb-server or no {schema}");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let made = Command::new("ovsdb-tool").args(["create", "db", schema]).current_dir(home.path()).status();
        assert!(made.unwrap().success());
        let process = Command::new("ovsdb-server")
            .args(["--remote=punix:sock", "--unixctl=ctl", "--log-file=log", "--no-chdir", "-vconsole:off", "db"])
            .current_dir(home.path())
            .env("OVS_RUNDIR", home.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let database = Self { home, process };
        eventually("the database is served", || database.home.path().join("sock").exists());
        Some(database)
    }

    fn remote(&self) -> String {
        format!("unix:{}", self.home.path().join("sock").display())
    }

    /// Runs `ovn-nbctl` or `ovs-vsctl` on it.
    fn ctl(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program).arg(format!("--db={}", self.remote())).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A port on a provider network, up on this host.
    fn bind_port(&self, address: &str) {
        let nbctl = |arguments: &str| self.ctl("ovn-nbctl", &arguments.split(' ').collect::<Vec<_>>());
        nbctl("ls-add neutron-1");
        nbctl("lsp-add neutron-1 provnet -- lsp-set-type provnet localnet -- lsp-set-addresses provnet unknown");
        nbctl("lsp-set-options provnet network_name=physnet1");
        nbctl("set Logical_Switch_Port provnet external_ids:neutron\\:network_name=neutron-1");
        nbctl("lsp-add neutron-1 vm -- lsp-set-options vm requested-chassis=hv1");
        nbctl("set Logical_Switch_Port vm external_ids:neutron\\:network_name=neutron-1 up=true");
        self.ctl("ovn-nbctl", &["lsp-set-addresses", "vm", &format!("02:00:00:00:00:01 {address}")]);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn another_northbound_database_replaces_the_first_one_row_by_row() {
    in_namespace(|| {
        const NB: &str = "/usr/share/ovn/ovn-nb.ovsschema";
        const OVS: &str = "/usr/share/openvswitch/vswitch.ovsschema";
        let (Some(first), Some(second), Some(ovs)) = (Database::start(NB), Database::start(NB), Database::start(OVS))
        else {
            return;
        };
        first.bind_port("203.0.113.10");
        second.bind_port("203.0.113.20");
        let nb = |database: &Database| format!("external_ids:ovn-nb-remote=\"{}\"", database.remote());
        let vsctl = |arguments: &str| ovs.ctl("ovs-vsctl", &arguments.split(' ').collect::<Vec<_>>());
        vsctl("--no-wait init");
        vsctl("--no-wait set Open_vSwitch . external_ids:system-id=hv1 external_ids:hostname=hv1");
        vsctl("--no-wait set Open_vSwitch . external_ids:ovn-bridge-mappings=physnet1:br-none");
        vsctl(&format!("--no-wait set Open_vSwitch . {}", nb(&first)));
        let daemon = Daemon::start(&format!("[ovn]\novs = \"{}\"", ovs.remote()));
        let exposed = |address: &str| daemon.says(&["show", "exposures"], address);
        eventually("the port of the first is exposed", || exposed("203.0.113.10"));

        vsctl(&format!("--no-wait set Open_vSwitch . {}", nb(&second)));
        eventually("the port of the second is exposed", || exposed("203.0.113.20"));
        assert!(!exposed("203.0.113.10"), "nobody will ever say that this row is gone");
    });
}

/// After a start this host's rows are looked at first, and no condition finds a list of chassis that begins with this host.
#[test]
fn what_no_condition_finds_comes_with_all_the_other_rows() {
    in_namespace(|| {
        const NB: &str = "/usr/share/ovn/ovn-nb.ovsschema";
        const OVS: &str = "/usr/share/openvswitch/vswitch.ovsschema";
        let (Some(nb), Some(ovs)) = (Database::start(NB), Database::start(OVS)) else { return };
        nb.bind_port("203.0.113.10");
        let nbctl = |arguments: &str| nb.ctl("ovn-nbctl", &arguments.split(' ').collect::<Vec<_>>());
        nbctl("lsp-add neutron-1 moving -- lsp-set-options moving requested-chassis=hv1,hv2");
        nb.ctl("ovn-nbctl", &["lsp-set-addresses", "moving", "02:00:00:00:00:02 203.0.113.11"]);
        nbctl("set Logical_Switch_Port moving external_ids:neutron\\:network_name=neutron-1 up=false");
        let vsctl = |arguments: &str| ovs.ctl("ovs-vsctl", &arguments.split(' ').collect::<Vec<_>>());
        vsctl("--no-wait init");
        vsctl("--no-wait set Open_vSwitch . external_ids:system-id=hv1 external_ids:hostname=hv1");
        vsctl("--no-wait set Open_vSwitch . external_ids:ovn-bridge-mappings=physnet1:br-none");
        let daemon = |monitor: &str| {
            let (nb, ovs) = (nb.remote(), ovs.remote());
            Daemon::start(&format!("[ovn]\nnb = \"{nb}\"\novs = \"{ovs}\"\nmonitor = \"{monitor}\""))
        };
        let conditional = daemon("conditional");
        eventually("this host's port is exposed", || conditional.says(&["show", "exposures"], "203.0.113.10"));
        assert!(!conditional.says(&["show", "exposures"], "203.0.113.11"), "who asks for all rows has to find more");
        drop(conditional);
        let all = daemon("all");
        eventually("this host's port is exposed", || all.says(&["show", "exposures"], "203.0.113.10"));
        eventually("the other one is, too", || all.says(&["show", "exposures"], "203.0.113.11"));
    });
}
