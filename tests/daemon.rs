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
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::netns::{in_namespace, ip, ip_json};

const DAEMON: &str = env!("CARGO_BIN_EXE_ovn-bgpd");

/// A running daemon with a configuration that can be rewritten.
struct Daemon {
    directory: tempfile::TempDir,
    process: Child,
}

impl Daemon {
    fn start(rest: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("c.toml");
        fs::write(&config, text(directory.path().join("s.sock"), rest)).unwrap();
        let process = run(&config).stderr(Stdio::null()).spawn().unwrap();
        let daemon = Self { directory, process };
        eventually("the daemon answers", || daemon.command(&["show", "summary"]).status.success());
        daemon
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("c.toml")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s.sock")
    }

    fn command(&self, arguments: &[&str]) -> Output {
        Command::new(DAEMON).args(arguments).arg("--socket").arg(self.socket()).output().unwrap()
    }

    fn says(&self, arguments: &[&str], what: &str) -> bool {
        String::from_utf8(self.command(arguments).stdout).unwrap().contains(what)
    }

    fn reload(&self, rest: &str) {
        fs::write(self.config(), text(self.socket(), rest)).unwrap();
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

fn run(config: &std::path::Path) -> Command {
    let mut command = Command::new(DAEMON);
    command.arg("run").arg("--config").arg(config).env_remove("RUST_LOG");
    command
}

/// One neighbour that is not there; `rest` follows.
fn text(socket: PathBuf, rest: &str) -> String {
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
