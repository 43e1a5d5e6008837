//! Learned routes against a real kernel, each test in a network namespace of its own with two uplinks. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helper functions may fail like the test itself"
)]

#[path = "support/netns.rs"]
mod netns;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use ovn_bgpd::actuate::fib::{FibHop, FibOp, FibRoute, FibSettings, diff, removals};
use ovn_bgpd::actuate::kernel::{Kernel, Marks, Scope};
use serde_json::Value;

use crate::netns::{block_on, in_namespace, ip, ip_json};

type Routes = BTreeMap<IpNet, FibRoute>;

/// Two uplinks besides `br-ex`, and a loopback address.
fn uplinks() {
    for uplink in ["up1", "up2"] {
        ip(&format!("link add {uplink} type veth peer name {uplink}-leaf"));
        ip(&format!("link set {uplink}-leaf up"));
        ip(&format!("link set {uplink} up"));
    }
    ip("addr add 172.30.1.1/32 dev lo");
    ip("addr add fd00::4/128 dev lo nodad");
}

fn route(hops: &[(&str, Option<&str>)], source: Option<&str>) -> FibRoute {
    FibRoute {
        hops: hops
            .iter()
            .map(|(via, device)| FibHop { via: via.parse().unwrap(), device: device.map(str::to_owned) })
            .collect(),
        source: source.map(|source| source.parse().unwrap()),
    }
}

/// The defaults of the reference deployment: over both leaves, by their link-local addresses, for both families.
fn both_leaves() -> Routes {
    let hops = [("fe80::1", Some("up1")), ("fe80::1", Some("up2"))];
    [
        ("0.0.0.0/0".parse().unwrap(), route(&hops, Some("172.30.1.1"))),
        ("::/0".parse().unwrap(), route(&hops, Some("fd00::4"))),
    ]
    .into()
}

fn one_leaf() -> Routes {
    let hops = [("fe80::1", Some("up2"))];
    [
        ("0.0.0.0/0".parse().unwrap(), route(&hops, Some("172.30.1.1"))),
        ("::/0".parse().unwrap(), route(&hops, Some("fd00::4"))),
    ]
    .into()
}

/// Makes the kernel's routes the wanted ones and answers how much there was to do.
#[track_caller]
fn reconcile(kernel: &mut Kernel, wanted: &Routes) -> usize {
    let settings = FibSettings::default();
    let ops = diff(wanted, &kernel.observe_fib(settings).unwrap().installed);
    for (op, result) in ops.iter().zip(kernel.apply_fib(settings, &ops)) {
        if let Err(error) = result {
            panic!("{op:?}: {error}");
        }
    }
    ops.len()
}

fn defaults(family: &str) -> Vec<Value> {
    ip_json(&format!("{family} route show table main")).into_iter().filter(|route| route["dst"] == "default").collect()
}

#[test]
fn defaults_over_both_leaves_by_link_local_next_hops_and_back() {
    in_namespace(|| {
        uplinks();
        let mut kernel = Kernel::new(Marks::default());
        assert_eq!(reconcile(&mut kernel, &both_leaves()), 2);
        assert_eq!(reconcile(&mut kernel, &both_leaves()), 0, "what was installed is recognised");
        for (family, source) in [("-4", "172.30.1.1"), ("-6", "fd00::4")] {
            let found = defaults(family);
            assert_eq!(found.len(), 1, "{found:?}");
            let default = &found[0];
            assert_eq!((&default["protocol"], &default["metric"]), (&"186".into(), &20.into()), "{default}");
            assert_eq!(default["prefsrc"], source, "{default}");
            let hops = default["nexthops"].as_array().unwrap();
            let devices: Vec<_> = hops.iter().map(|hop| hop["dev"].as_str().unwrap()).collect();
            assert_eq!(devices, ["up1", "up2"], "{default}");
            let via = if family == "-4" { &hops[0]["via"]["host"] } else { &hops[0]["gateway"] };
            assert_eq!(via, "fe80::1", "{default}");
        }
        // The kernel agrees that this is how the world is reached.
        let found = &ip_json("route get 192.0.2.1")[0];
        assert_eq!(found["prefsrc"], "172.30.1.1", "{found}");

        assert_eq!(reconcile(&mut kernel, &one_leaf()), 2);
        assert_eq!(reconcile(&mut kernel, &one_leaf()), 0);
        assert_eq!((defaults("-4").len(), defaults("-6").len()), (1, 1), "replaced, not added");
        assert_eq!(reconcile(&mut kernel, &both_leaves()), 2);
        assert_eq!(reconcile(&mut kernel, &both_leaves()), 0);

        assert_eq!(reconcile(&mut Kernel::new(Marks::default()), &Routes::new()), 2, "found again after a restart");
        assert!(defaults("-4").is_empty() && defaults("-6").is_empty());
    });
}

/// A process that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn there_is_a_default_at_every_moment_of_a_change() {
    in_namespace(|| {
        uplinks();
        let mut kernel = Kernel::new(Marks::default());
        reconcile(&mut kernel, &both_leaves());
        let mut monitor = Daemon(Command::new("ip").args(["monitor", "route"]).stdout(Stdio::piped()).spawn().unwrap());
        let output = BufReader::new(monitor.0.stdout.take().unwrap());
        let (heard, lines) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in output.lines() {
                let _ = heard.send(line.unwrap());
            }
        });
        // It listens once it repeats what is done, and ends a line when it begins the next one.
        let deadline = Instant::now() + Duration::from_secs(10);
        let hear_of = |marker: &str| {
            let mut seen: Vec<String> = Vec::new();
            while !seen.iter().any(|line| line.contains(marker)) {
                assert!(Instant::now() < deadline, "{seen:#?}");
                ip(&format!("route add {marker} dev up1"));
                ip(&format!("route del {marker} dev up1"));
                seen.extend(std::iter::from_fn(|| lines.recv_timeout(Duration::from_millis(20)).ok()));
            }
            seen
        };
        hear_of("10.99.0.0/16");
        for _ in 0..5 {
            assert_eq!(reconcile(&mut kernel, &one_leaf()), 2);
            assert_eq!(reconcile(&mut kernel, &both_leaves()), 2);
        }
        let seen = hear_of("10.98.0.0/16");
        drop(monitor);
        reader.join().unwrap();
        assert!(seen.iter().filter(|line| line.contains("default")).count() >= 20, "{seen:#?}");
        assert!(!seen.iter().any(|line| line.starts_with("Deleted default")), "{seen:#?}");
    });
}

#[test]
fn defaults_of_others_are_spared_and_one_in_the_way_is_an_error() {
    in_namespace(|| {
        uplinks();
        ip("addr add 10.0.0.2/24 dev br-ex");
        ip("route add default via 10.0.0.1 dev br-ex proto dhcp metric 100");
        ip("-6 route add default via fe80::9 dev br-ex proto ra metric 1024");
        let mut kernel = Kernel::new(Marks::default());
        assert_eq!(reconcile(&mut kernel, &both_leaves()), 2);
        let settings = FibSettings::default();
        let state = kernel.observe_fib(settings).unwrap();
        let foreign: Vec<_> = state.foreign_defaults.iter().map(|default| (default.metric, default.protocol)).collect();
        assert_eq!(foreign, [(100, 16), (1024, 9)]);
        reconcile(&mut kernel, &Routes::new());
        let before = (defaults("-4"), defaults("-6"));
        assert_eq!((before.0.len(), before.1.len()), (1, 1));

        // Now in the very place where ours would go.
        ip("route add default via 10.0.0.1 dev br-ex proto static metric 20");
        ip("-6 route add default via fe80::9 dev br-ex proto static metric 20");
        let before = (defaults("-4"), defaults("-6"));
        let ops = diff(&both_leaves(), &kernel.observe_fib(settings).unwrap().installed);
        let results = kernel.apply_fib(settings, &ops);
        assert_eq!(results.len(), 2);
        for result in results {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("set another [fib] metric"), "{text}");
        }
        assert_eq!((defaults("-4"), defaults("-6")), before);
    });
}

#[test]
fn a_place_that_is_left_keeps_what_frr_has_installed_there_since() {
    in_namespace(|| {
        uplinks();
        ip("addr add 10.0.0.2/24 dev br-ex");
        ip("nexthop add id 9 via 10.0.0.1 dev br-ex");
        ip("route add default nhid 9 proto bgp metric 20");
        ip("route add 10.9.0.0/16 via 10.0.0.1 dev br-ex proto bgp metric 20");
        let mut kernel = Kernel::new(Marks::default());
        let settings = FibSettings::default();
        let ops = removals(&kernel.observe_fib(settings).unwrap().installed);
        assert_eq!(ops, [FibOp::Remove("10.9.0.0/16".parse().unwrap())]);
        assert!(kernel.apply_fib(settings, &ops).iter().all(Result::is_ok));
        assert_eq!(defaults("-4").len(), 1);
    });
}

#[test]
fn a_numbered_leaf_needs_no_device_and_a_bad_next_hop_says_so() {
    in_namespace(|| {
        uplinks();
        ip("addr add 10.0.0.2/24 dev up1");
        ip("addr add 10.0.1.2/24 dev up2");
        let mut kernel = Kernel::new(Marks::default());
        let hops = [("10.0.0.1", None), ("10.0.1.1", None)];
        let wanted: Routes = [("0.0.0.0/0".parse().unwrap(), route(&hops, None))].into();
        assert_eq!(reconcile(&mut kernel, &wanted), 1);
        assert_eq!(reconcile(&mut kernel, &wanted), 0);
        let wanted: Routes = [("10.8.0.0/16".parse().unwrap(), route(&[("192.0.2.1", None)], None))].into();
        let settings = FibSettings { table: 254, ..FibSettings::default() };
        let ops = diff(&wanted, &BTreeMap::new());
        reconcile(&mut kernel, &Routes::new());
        let error = kernel.apply_fib(settings, &ops).remove(0).unwrap_err().to_string();
        assert_eq!(
            error,
            "install learned route 10.8.0.0/16 via 192.0.2.1 metric 20 table 254: Network is unreachable (os error 101): \
             Nexthop has invalid gateway"
        );
    });
}

#[test]
fn an_address_that_moves_to_the_host_is_followed_at_once() {
    in_namespace(|| {
        block_on(async {
            let mut kernel = Kernel::new(Marks::default());
            let scope = Scope { devices: ["lo".to_owned()].into(), ..Scope::default() };
            let mut monitor = kernel.monitor(scope.clone()).unwrap();
            assert!(kernel.addresses(&scope.devices).unwrap().is_empty(), "127.0.0.1 and ::1 are nobody's business");
            for (command, expect) in [
                ("addr add 192.0.2.10/24 dev lo", vec!["192.0.2.10/32"]),
                ("-6 addr add 2001:db8::10/64 dev lo nodad", vec!["192.0.2.10/32", "2001:db8::10/128"]),
                ("addr del 192.0.2.10/24 dev lo", vec!["2001:db8::10/128"]),
            ] {
                ip(command);
                let change =
                    tokio::time::timeout(Duration::from_secs(2), monitor.next()).await.expect(command).unwrap();
                assert!(change.addresses, "{command}: {change:?}");
                let found = kernel.addresses(&scope.devices).unwrap();
                let expect = expect.into_iter().map(|address| address.parse().unwrap()).collect();
                assert_eq!(found["lo"], expect);
            }
        });
    });
}
