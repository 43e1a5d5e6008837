//! The daemon on bad days, as an operator meets them: what is away, what is forbidden, what is taken. On a real host in a namespace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helper functions may fail like the test itself"
)]

#[path = "support/cloud.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod cloud;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use cloud::{Cloud, ip};
use nix::sys::signal::Signal;

const VM: &str = "203.0.113.10/32";

fn add_vm(cloud: &Cloud) {
    cloud.nbctl(
        "lsp-add neutron-1 vm -- lsp-set-addresses vm 02:00:00:00:00:01~203.0.113.10 -- set Logical_Switch_Port vm \
         up=true options:requested-chassis=hv1 external_ids:neutron\\:network_name=neutron-1",
    );
}

/// Waits until the leaf was, or was no longer, told of the VM.
fn told(cloud: &Cloud, yes: bool) {
    cloud.eventually(&format!("the leaf's word on the VM is {yes}"), || cloud.told().contains(VM) == yes);
}

fn log(cloud: &Cloud) -> String {
    cloud.daemon.as_ref().unwrap().log()
}

fn logs(cloud: &Cloud, what: &str) {
    let mut last = String::new();
    cloud.eventually(&format!("the log has {what:?}"), || {
        last = log(cloud);
        last.contains(what)
    });
}

#[test]
fn three_capabilities_are_enough_for_a_daemon_that_is_not_root() {
    Cloud::with(|mut cloud| {
        add_vm(&cloud);
        cloud.start_leaf("");
        cloud.capabilities = Some("");
        cloud.start_daemon("");
        logs(
            &cloud,
            "CAP_NET_ADMIN is missing: without it the kernel lets nobody wire addresses ([ovn]); run as root, or grant it",
        );
        // The routing table's name is a file of root's.
        logs(&cloud, "bridge br-ex gets no routing table: /etc/iproute2/rt_tables: Permission denied");
        cloud.daemon = None;
        fs::write("/etc/iproute2/rt_tables", "10 br-ex\n").unwrap();
        cloud.start_daemon("");
        let explained = || String::from_utf8(cloud.ask("daemon", &["explain", "203.0.113.10"]).stdout).unwrap();
        cloud.eventually("the kernel's answer is the reason", || explained().contains("Operation not permitted"));
        assert!(!cloud.told().contains(VM));
        cloud.daemon = None;

        cloud.capabilities = Some(",+net_admin,+net_bind_service,+net_raw");
        cloud.start_daemon("");
        told(&cloud, true);
        // The log has what the former two said, too.
        let said = log(&cloud);
        let last = said.rsplit("started version").next().unwrap();
        assert!(!last.contains("ERROR"), "{last}");
    });
}

#[test]
fn a_port_that_may_not_be_had_is_named_and_had_later() {
    Cloud::with(|mut cloud| {
        let taken = TcpListener::bind("10.9.0.1:1790").unwrap();
        cloud.start_daemon("");
        logs(&cloud, "10.9.0.1:1790");
        let summary = |cloud: &Cloud| String::from_utf8(cloud.ask("daemon", &["show", "summary"]).stdout).unwrap();
        cloud.eventually("the summary warns", || summary(&cloud).contains("10.9.0.1:1790: Address already in use"));
        drop(taken);
        cloud.eventually("it is had", || TcpStream::connect("10.9.0.1:1790").is_ok());
        cloud.eventually("the warning goes", || !summary(&cloud).contains("already in use"));
        cloud.daemon = None;

        cloud.capabilities = Some(",+net_admin");
        cloud.start_daemon("");
        cloud.eventually("it answers", || cloud.ask("daemon", &["show", "summary"]).status.success());
        let config = fs::read_to_string(cloud.file("daemon.toml")).unwrap();
        fs::write(cloud.file("daemon.toml"), config.replace("port = 1790", "port = 179")).unwrap();
        assert!(cloud.ask("daemon", &["reload"]).status.success());
        logs(&cloud, "10.9.0.1:179: Permission denied");
        logs(&cloud, "ports below 1024 need CAP_NET_BIND_SERVICE");
    });
}

#[test]
fn a_bridge_that_is_not_there_is_waited_for_and_never_made() {
    Cloud::with(|mut cloud| {
        add_vm(&cloud);
        cloud.start_leaf("");
        cloud.vsctl("del-br br-ex");
        cloud.start_daemon("");
        logs(&cloud, "bridge br-ex of ovn-bridge-mappings is not there; its networks wait for it");
        cloud.eventually("the VM waits", || {
            String::from_utf8(cloud.ask("daemon", &["explain", "203.0.113.10"]).stdout).unwrap().contains("br-ex")
        });
        assert!(!cloud.told().contains(VM));
        cloud.add_bridge();
        told(&cloud, true);
        assert_eq!(log(&cloud).matches("is not there; its networks wait for it").count(), 1);
        // It goes, and what went through it.
        cloud.vsctl("del-br br-ex");
        told(&cloud, false);
    });
}

#[test]
fn a_peer_that_sends_garbage_gets_a_notification_and_is_named() {
    Cloud::with(|mut cloud| {
        cloud.start_daemon("");
        let mut peer = loop {
            // From the configured neighbour's address; the daemon may not listen yet.
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let from: std::net::SocketAddr = "10.9.0.2:0".parse().unwrap();
            socket.bind(&from.into()).unwrap();
            let to: std::net::SocketAddr = "10.9.0.1:1790".parse().unwrap();
            if socket.connect(&to.into()).is_ok() {
                break TcpStream::from(socket);
            }
        };
        peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = peer.read_to_end(&mut answer);
        // Our OPEN, then NOTIFICATION 1/1: Message Header Error, Connection Not Synchronized (RFC 4271 §6.1).
        let notification = answer.windows(5).any(|octets| octets == [0, 21, 3, 1, 1]);
        assert!(notification, "{answer:02x?}");
        logs(&cloud, "10.9.0.2");
    });
}

/// How long a stop may take here. The daemon's own limits are far below; a machine may be busy.
const STOP: Duration = Duration::from_secs(20);

#[test]
fn a_stop_is_quick_whatever_hangs() {
    let stop = |cloud: &mut Cloud, state: &str| {
        let mut daemon = cloud.daemon.take().unwrap();
        let started = Instant::now();
        daemon.signal(Signal::SIGTERM);
        let code = daemon.end();
        println!("{state}: {:?}", started.elapsed());
        assert_eq!(code, Some(0), "{state}");
        assert!(started.elapsed() < STOP, "{state}: {:?}", started.elapsed());
    };
    Cloud::with(move |mut cloud| {
        add_vm(&cloud);
        cloud.start_daemon("");
        cloud.eventually("it answers", || cloud.ask("daemon", &["show", "summary"]).status.success());
        stop(&mut cloud, "nobody to speak to");

        cloud.nb = None;
        cloud.start_daemon("");
        cloud.eventually("it answers", || cloud.ask("daemon", &["show", "summary"]).status.success());
        stop(&mut cloud, "blind");
        cloud.start_nb();

        cloud.start_leaf("");
        cloud.start_daemon("");
        told(&cloud, true);
        stop(&mut cloud, "everything is fine");

        cloud.start_daemon("");
        // The leaf has kept the routes of the one before.
        cloud.eventually("it answers", || cloud.ask("daemon", &["show", "summary"]).status.success());
        told(&cloud, true);
        // A leaf that reads nothing, a switch and a database that answer nothing, a client that never finishes its request.
        cloud.leaf.as_ref().unwrap().signal(Signal::SIGSTOP);
        cloud.switch.as_ref().unwrap().signal(Signal::SIGSTOP);
        cloud.nb.as_ref().unwrap().signal(Signal::SIGSTOP);
        ip("rule del pref 32000");
        let mut client = UnixStream::connect(cloud.file("daemon.sock")).unwrap();
        client.write_all(b"GET /v1/summary HTTP/1.1\r\nHost:").unwrap();
        stop(&mut cloud, "everything hangs");
        assert!(!cloud.file("daemon.sock").exists(), "the socket goes with the daemon");
    });
}
