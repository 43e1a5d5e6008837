//! The kernel side of the wiring against a real kernel, each test in a network namespace of its own.
//!
//! What was applied is compared with what `ip -j` says, and with what the code itself observes afterwards. Needs root; prints why
//! it does nothing otherwise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helper functions may fail like the test itself"
)]

#[path = "support/netns.rs"]
mod netns;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ovn_bgpd::actuate::OpError;
use ovn_bgpd::actuate::kernel::{Kernel, Marks, Scope};
use ovn_bgpd::actuate::monitor::Change;
use ovn_bgpd::desired::wiring::{Key, Object, Spec};
use ovn_bgpd::diff::{Op, diff};
use ovn_bgpd::mac::Mac;
use serde_json::Value;

use crate::netns::{block_on, in_namespace, ip, ip_json};

const MAC: Mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 1]);

fn scope() -> Scope {
    Scope { tables: [10].into(), devices: ["br-ex".to_owned()].into() }
}

fn route(to: &str) -> Key {
    Key::Route { table: 10, to: to.parse().unwrap() }
}

fn to_bridge(via: Option<&str>) -> Spec {
    Spec::Route { device: "br-ex".into(), via: via.map(|via| via.parse().unwrap()) }
}

fn rule(to: &str) -> Key {
    Key::Rule { to: Some(to.parse().unwrap()), v6: to.contains(':'), table: 10 }
}

fn neighbour(address: &str) -> Key {
    Key::Neighbour { device: "br-ex".into(), address: address.parse().unwrap() }
}

/// Everything a provider bridge with one port of each kind needs.
fn everything() -> BTreeMap<Key, Spec> {
    let device = || "br-ex".to_owned();
    [
        (Key::LinkUp { device: device() }, Spec::Present),
        (Key::Address { device: device(), address: "169.254.1.1/32".parse().unwrap() }, Spec::Present),
        (Key::Address { device: device(), address: "fd53:d91e:400:7f17::1:1/128".parse().unwrap() }, Spec::Present),
        (Key::Sysctl { path: "net/ipv4/conf/br-ex/proxy_arp".into() }, Spec::Value("1".into())),
        (Key::Sysctl { path: "net/ipv6/conf/br-ex/proxy_ndp".into() }, Spec::Value("1".into())),
        (route("0.0.0.0/0"), to_bridge(None)),
        (route("::/0"), to_bridge(None)),
        (route("203.0.113.5/32"), to_bridge(None)),
        (route("10.0.0.0/24"), to_bridge(Some("203.0.113.5"))),
        (route("2001:db8::5/128"), to_bridge(None)),
        (route("2001:db8:1::/64"), to_bridge(Some("2001:db8::5"))),
        (rule("203.0.113.5/32"), Spec::Present),
        (rule("10.0.0.0/24"), Spec::Present),
        (rule("2001:db8::5/128"), Spec::Present),
        (Key::Rule { to: None, v6: false, table: 10 }, Spec::Present),
        (Key::Rule { to: None, v6: true, table: 10 }, Spec::Present),
        (neighbour("203.0.113.5"), Spec::Lladdr(MAC)),
        (neighbour("2001:db8::5"), Spec::Lladdr(MAC)),
        (Key::Proxy { device: device(), address: "2001:db8::".parse().unwrap() }, Spec::Present),
    ]
    .into()
}

fn wanted(specs: &BTreeMap<Key, Spec>) -> BTreeMap<Key, Object> {
    specs.iter().map(|(key, spec)| (key.clone(), Object { spec: spec.clone(), owners: BTreeSet::new() })).collect()
}

fn sets(specs: &BTreeMap<Key, Spec>) -> Vec<Op> {
    specs.iter().map(|(key, spec)| Op::Set(key.clone(), spec.clone())).collect()
}

#[track_caller]
fn apply(kernel: &mut Kernel, ops: &[Op]) {
    for (op, result) in ops.iter().zip(kernel.apply(ops)) {
        if let Err(error) = result {
            panic!("{op:?}: {error}");
        }
    }
}

/// Observes, applies the difference, and says how many objects differed.
#[track_caller]
fn reconcile(kernel: &mut Kernel, specs: &BTreeMap<Key, Spec>) -> usize {
    let wanted = wanted(specs);
    let difference = diff(&wanted, &kernel.observe(&scope(), &wanted).unwrap());
    let sets = difference.add.iter().chain(&difference.change).map(|(key, spec)| Op::Set(key.clone(), spec.clone()));
    let removals = difference.remove.keys().rev().cloned().map(Op::Remove);
    apply(kernel, &sets.chain(removals).collect::<Vec<_>>());
    difference.len()
}

#[test]
fn everything_applied_is_what_the_system_shows_and_what_is_observed() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        ip("link set br-ex down");
        apply(&mut kernel, &sets(&everything()));

        let rules: Vec<Value> = ip_json("rule show").into_iter().filter(|rule| rule["priority"] == 32000).collect();
        let of = |dst: &str| rules.iter().find(|rule| rule["dst"] == dst);
        assert!(of("203.0.113.5").is_some_and(|rule| rule["table"] == "10" && rule["protocol"] == "99"), "{rules:?}");
        assert!(of("10.0.0.0").is_some_and(|rule| rule["dstlen"] == 24), "{rules:?}");
        assert_eq!(rules.len(), 3, "two addresses and one for everything: {rules:?}");
        assert_eq!(ip_json("-6 rule show").iter().filter(|rule| rule["priority"] == 32000).count(), 2);

        let routes = ip_json("route show table 10");
        let of = |dst: &str| routes.iter().find(|route| route["dst"] == dst).unwrap();
        assert_eq!((&of("203.0.113.5")["dev"], &of("203.0.113.5")["protocol"]), (&"br-ex".into(), &"99".into()));
        assert_eq!(of("203.0.113.5")["scope"], "253");
        assert_eq!(of("10.0.0.0/24")["gateway"], "203.0.113.5");
        assert_eq!(of("10.0.0.0/24")["flags"], serde_json::json!(["onlink"]));
        assert_eq!(of("default")["dev"], "br-ex");
        let routes = ip_json("-6 route show table 10");
        let of = |dst: &str| routes.iter().find(|route| route["dst"] == dst).unwrap();
        assert_eq!(of("2001:db8:1::/64")["gateway"], "2001:db8::5");
        assert_eq!(of("2001:db8::5")["protocol"], "99");
        assert_eq!(of("default")["dev"], "br-ex");

        let neighbours = ip_json("neigh show dev br-ex nud permanent");
        for address in ["203.0.113.5", "2001:db8::5"] {
            let entry = neighbours.iter().find(|entry| entry["dst"] == address).unwrap();
            assert_eq!(entry["lladdr"], MAC.to_string());
            assert_eq!(entry["protocol"], "99", "the mark");
        }
        let proxies = ip_json("-6 neigh show proxy");
        assert_eq!(proxies.len(), 1);
        assert_eq!(proxies[0]["dst"], "2001:db8::");

        let shown = ip("addr show dev br-ex");
        assert!(shown.contains("inet 169.254.1.1/32") && shown.contains("fd53:d91e:400:7f17::1:1/128"), "{shown}");
        assert!(!shown.contains("tentative"), "{shown}");
        assert!(shown.contains("UP"), "{shown}");
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv6/conf/br-ex/proxy_ndp").unwrap().trim(), "1");

        let observed = kernel.observe(&scope(), &wanted(&everything())).unwrap();
        assert_eq!(observed, everything());
    });
}

#[test]
fn a_restart_finds_its_own_things_and_changes_nothing() {
    in_namespace(|| {
        apply(&mut Kernel::new(Marks::default()), &sets(&everything()));
        let mut restarted = Kernel::new(Marks::default());
        assert_eq!(reconcile(&mut restarted, &everything()), 0);
    });
}

#[test]
fn what_is_no_longer_wanted_is_found_by_its_mark_and_removed() {
    in_namespace(|| {
        apply(&mut Kernel::new(Marks::default()), &sets(&everything()));
        let mut restarted = Kernel::new(Marks::default());
        let removed = reconcile(&mut restarted, &BTreeMap::new());
        assert_eq!(removed, everything().len() - 3, "all but the state of the link and the sysctls");
        assert!(ip_json("rule show").iter().all(|rule| rule["priority"] != 32000));
        assert!(ip_json("-6 rule show").iter().all(|rule| rule["priority"] != 32000));
        assert!(ip_json("route show table 10").is_empty() && ip_json("-6 route show table 10").is_empty());
        assert!(ip_json("neigh show nud permanent").is_empty() && ip_json("-6 neigh show proxy").is_empty());
        assert!(!ip("addr show dev br-ex").contains("169.254"));
        assert_eq!(reconcile(&mut restarted, &BTreeMap::new()), 0);
    });
}

#[test]
fn removing_what_is_not_there_is_no_error() {
    in_namespace(|| {
        let removals: Vec<Op> = everything().into_keys().rev().map(Op::Remove).collect();
        apply(&mut Kernel::new(Marks::default()), &removals);
        let elsewhere = Key::Neighbour { device: "gone".into(), address: "10.0.0.1".parse().unwrap() };
        apply(&mut Kernel::new(Marks::default()), &[Op::Remove(elsewhere)]);
    });
}

#[test]
fn what_others_have_made_is_never_removed() {
    in_namespace(|| {
        let foreign = [
            "rule add to 10.9.0.1 lookup 10 priority 32000",
            "rule add to 10.9.0.2 lookup 10 priority 100 protocol 99",
            "route add 10.9.0.1/32 dev br-ex table 10",
            "route add 10.9.0.1/32 dev br-ex table 10 metric 50",
            "route add 10.9.0.0/24 dev br-ex proto 99",
            "route add 2001:db8:9::1/128 dev br-ex table 10",
            "neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev br-ex nud permanent",
            "neigh add proxy 2001:db8:9::1 dev br-ex",
            "addr add 169.254.9.9/32 dev br-ex",
            "addr add 10.9.0.7/24 dev br-ex",
        ];
        for command in foreign {
            ip(command);
        }
        let world = || {
            [
                "rule show",
                "route show table all",
                "-6 route show table all",
                "neigh show",
                "-6 neigh show proxy",
                "addr show",
            ]
            .map(|what| ip(what).lines().filter(|line| !line.contains("fe80")).map(str::to_owned).collect::<Vec<_>>())
        };
        let before = world();
        let mut kernel = Kernel::new(Marks::default());
        reconcile(&mut kernel, &everything());
        assert_ne!(before, world());
        reconcile(&mut kernel, &BTreeMap::new());
        ip("link set br-ex up");
        assert_eq!(before, world());
        // Not by way of being wanted for a while either, as long as that needs no change.
        let neighbour = neighbour("10.9.0.1");
        let address = Key::Address { device: "br-ex".into(), address: "10.9.0.7/24".parse().unwrap() };
        let specs: BTreeMap<Key, Spec> = [
            (rule("10.9.0.1/32"), Spec::Present),
            (route("10.9.0.1/32"), to_bridge(None)),
            (neighbour, Spec::Lladdr(Mac([2, 0, 0, 0, 0, 1]))),
            (Key::Proxy { device: "br-ex".into(), address: "2001:db8:9::1".parse().unwrap() }, Spec::Present),
            (address, Spec::Present),
        ]
        .into();
        assert_eq!(reconcile(&mut kernel, &specs), 0);
        apply(&mut kernel, &specs.keys().cloned().map(Op::Remove).collect::<Vec<_>>());
        assert_eq!(before, world());
        // Nor when we are asked for exactly these: the kernel itself looks at the protocol of rules and routes.
        let removals = [rule("10.9.0.1/32"), route("10.9.0.1/32"), route("2001:db8:9::1/128")].map(Op::Remove);
        kernel.apply(&removals);
        assert_eq!(before, world());
    });
}

#[test]
fn what_upstream_left_is_adopted_on_request_and_nothing_else_is() {
    in_namespace(|| {
        let upstream = [
            "rule add to 203.0.113.5/32 lookup 10 priority 32000",
            "rule add to 203.0.113.9/32 lookup 10 priority 32000",
            "-6 rule add to 2001:db8::5/128 lookup 10 priority 32000",
            "route add default dev br-ex table 10",
            "route add 203.0.113.5/32 dev br-ex table 10",
            "route add 203.0.113.9/32 dev br-ex table 10",
            "route add 2001:db8::5/128 dev br-ex table 10",
            "neigh add 203.0.113.5 lladdr fa:16:3e:00:00:01 dev br-ex nud permanent",
            "neigh add 203.0.113.9 lladdr fa:16:3e:00:00:09 dev br-ex nud permanent",
            "neigh add proxy 2001:db8:: dev br-ex",
            "addr add 169.254.1.1/32 dev br-ex",
        ];
        let operators = [
            "rule add to 10.0.0.9 lookup 11 priority 32000",
            "rule add to 203.0.113.5/32 lookup 10 priority 31000",
            "route add 203.0.113.7/32 dev br-ex table 10 proto static",
            "route add 10.0.0.9/32 dev br-ex table 11",
            "neigh add 10.0.0.9 lladdr fa:16:3e:00:00:09 dev br-ex nud permanent",
            "addr add 10.0.0.7/24 dev br-ex",
        ];
        for command in operators {
            ip(command);
        }
        let world = || {
            ["rule show", "-6 rule show", "route show table all", "-6 route show table all", "neigh show", "addr show"]
                .map(|what| ip(what).lines().map(str::to_owned).collect::<Vec<_>>())
        };
        let before = world();
        for command in upstream {
            ip(command);
        }
        let mut kernel = Kernel::new(Marks::default());
        assert_eq!(kernel.adopt_upstream(&scope()).unwrap(), upstream.len());
        assert_eq!(kernel.adopt_upstream(&scope()).unwrap(), 0, "once is enough");
        assert_eq!(ip_json("rule show").iter().filter(|rule| rule["priority"] == 32000).count(), 3, "none twice");
        // One address is still wanted, and finds its wiring as it should be.
        let specs: BTreeMap<Key, Spec> = everything()
            .into_iter()
            .filter(|(key, _)| {
                [rule("203.0.113.5/32"), route("203.0.113.5/32"), neighbour("203.0.113.5")].contains(key)
            })
            .collect();
        assert_eq!(reconcile(&mut kernel, &specs), upstream.len() - 3);
        assert_eq!(reconcile(&mut kernel, &BTreeMap::new()), 3);
        assert_eq!(world(), before);
    });
}

#[test]
fn a_rule_for_everything_leads_to_no_default_route_and_is_not_mixed_up_with_those_for_one_address() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        ip("addr add 192.0.2.1/24 dev lo");
        ip("-6 addr add fd00:2::1/64 dev lo nodad");
        let addresses = [rule("203.0.113.5/32"), rule("2001:db8::5/128")];
        let all = [false, true].map(|v6| Key::Rule { to: None, v6, table: 10 });
        let set = |keys: &[Key]| keys.iter().map(|key| Op::Set(key.clone(), Spec::Present)).collect::<Vec<_>>();
        let remove = |keys: &[Key]| keys.iter().cloned().map(Op::Remove).collect::<Vec<_>>();
        let shown = || {
            let rules = ["-4", "-6"].map(|family| ip(&format!("{family} rule show pref 32000")));
            rules.map(|rules| (rules.lines().count(), rules.contains("from all lookup"), rules.contains(" to ")))
        };
        // In either order of making, and in either order of removing.
        for (first, second) in [(&addresses, &all), (&all, &addresses)] {
            apply(&mut kernel, &set(first));
            apply(&mut kernel, &set(second));
            assert_eq!(shown(), [(2, true, true); 2]);
            apply(&mut kernel, &set(second));
            apply(&mut kernel, &remove(&all));
            assert_eq!(shown(), [(1, false, true); 2]);
            apply(&mut kernel, &set(&all));
            apply(&mut kernel, &remove(&addresses));
            assert_eq!(shown(), [(1, true, false); 2]);
            // Default routes of whomever in the table do not draw the host's traffic away; other routes work.
            for family in ["-4", "-6"] {
                ip(&format!("{family} route add default dev br-ex table 10"));
            }
            ip("route add 203.0.113.5/32 dev br-ex table 10");
            assert_eq!(ip_json("route get 192.0.2.77")[0]["dev"], "lo");
            assert_eq!(ip_json("route get 203.0.113.5")[0]["dev"], "br-ex");
            for command in ["route flush table 10", "-6 route flush table 10"] {
                ip(command);
            }
            apply(&mut kernel, &remove(&all));
            assert_eq!(shown(), [(0, false, false); 2]);
        }
    });
}

/// How long the kernel takes to find the way to an unrelated destination.
fn look_up(count: u32) -> Duration {
    let mut took: Vec<Duration> = (0..count)
        .map(|n| {
            // Connecting a datagram socket is a route lookup and little else.
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            let to = std::net::Ipv4Addr::from(0xc612_0000 + n);
            let started = Instant::now();
            socket.connect((to, 9)).unwrap();
            started.elapsed()
        })
        .collect();
    took.sort();
    took[took.len() / 2]
}

#[test]
fn with_one_rule_a_table_the_number_of_addresses_does_not_matter_to_others() {
    const ADDRESSES: u32 = 4_000;
    in_namespace(|| {
        ip("addr add 198.51.100.1/24 dev peer");
        ip("route add default via 198.51.100.2 dev peer");
        let mut kernel = Kernel::new(Marks::default());
        let alone = look_up(500);
        let routes: BTreeMap<Key, Spec> =
            ports(ADDRESSES, true).into_iter().filter(|(key, _)| !matches!(key, Key::Neighbour { .. })).collect();
        let (rules, routes): (BTreeMap<_, _>, BTreeMap<_, _>) =
            routes.into_iter().partition(|(key, _)| matches!(key, Key::Rule { .. }));
        let everything = Key::Rule { to: None, v6: false, table: 10 };
        apply(&mut kernel, &sets(&routes));
        apply(&mut kernel, &[Op::Set(everything.clone(), Spec::Present)]);
        let per_table = look_up(500);
        let started = Instant::now();
        apply(&mut kernel, &sets(&rules));
        let made = started.elapsed();
        apply(&mut kernel, &[Op::Remove(everything)]);
        let per_prefix = look_up(100);
        println!(
            "{ADDRESSES} addresses: a route lookup of unrelated traffic takes {alone:?} without any, {per_table:?} with one rule for all, \
             {per_prefix:?} with one rule each (which took {made:?} to make)"
        );
        assert!(per_table * 5 < per_prefix, "{per_table:?}, {per_prefix:?}");
    });
}

#[test]
fn rules_left_by_upstream_get_the_priority_that_ours_have() {
    in_namespace(|| {
        ip("rule add to 203.0.113.5/32 lookup 10 priority 32000");
        ip("-6 rule add to 2001:db8::5/128 lookup 10 priority 32000");
        let mut kernel = Kernel::new(Marks { rule_priority: 31000, ..Marks::default() });
        assert_eq!(kernel.adopt_upstream(&scope()).unwrap(), 2);
        for family in ["-4", "-6"] {
            let rules = ip_json(&format!("{family} rule show"));
            let of = |priority: u32| rules.iter().filter(|rule| rule["priority"] == priority).count();
            assert_eq!((of(31000), of(32000)), (1, 0), "{rules:?}");
        }
    });
}

#[test]
fn the_device_of_upstreams_announcements_goes_with_its_vrf_unless_somebody_else_uses_that() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        if std::process::Command::new("ip")
            .args("link add probe type vrf table 5".split(' '))
            .status()
            .unwrap()
            .success()
        {
            ip("link del probe");
        } else {
            eprintln!("skipped: this kernel has no VRFs (the scenario adopt-upstream has)");
            return;
        }
        let upstream = || {
            ip("link add bgp-vrf type vrf table 12");
            ip("link add bgp-nic type dummy");
            ip("link set bgp-nic master bgp-vrf");
        };
        ip("link add bgp-nic type dummy");
        assert!(kernel.remove_upstream_devices().unwrap().is_empty(), "in no VRF: not upstream's");
        ip("link del bgp-nic");
        upstream();
        assert_eq!(kernel.remove_upstream_devices().unwrap(), ["bgp-nic", "bgp-vrf"]);
        assert!(kernel.remove_upstream_devices().unwrap().is_empty(), "once is enough");
        upstream();
        ip("link set peer master bgp-vrf");
        assert_eq!(kernel.remove_upstream_devices().unwrap(), ["bgp-nic"]);
        ip("link show bgp-vrf");
    });
}

#[test]
fn what_is_wanted_and_already_there_is_not_made_twice() {
    in_namespace(|| {
        ip("rule add to 203.0.113.5 lookup 10 priority 32000");
        ip("route add 203.0.113.5/32 dev br-ex table 10");
        ip("neigh add 203.0.113.5 lladdr fa:16:3e:00:00:01 dev br-ex nud permanent");
        let specs: BTreeMap<Key, Spec> = everything()
            .into_iter()
            .filter(|(key, _)| {
                [rule("203.0.113.5/32"), route("203.0.113.5/32"), neighbour("203.0.113.5")].contains(key)
            })
            .collect();
        let mut kernel = Kernel::new(Marks::default());
        assert_eq!(specs.len(), 3);
        assert_eq!(reconcile(&mut kernel, &specs), 0);
        assert_eq!(ip_json("rule show").iter().filter(|rule| rule["priority"] == 32000).count(), 1);
    });
}

#[test]
fn changed_specifications_are_replaced_in_place() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        apply(&mut kernel, &sets(&everything()));
        let mut specs = everything();
        let other = Mac([0xfa, 0x16, 0x3e, 0, 0, 2]);
        specs.insert(neighbour("203.0.113.5"), Spec::Lladdr(other));
        specs.insert(neighbour("2001:db8::5"), Spec::Lladdr(other));
        specs.insert(route("10.0.0.0/24"), to_bridge(Some("203.0.113.6")));
        specs.insert(route("2001:db8:1::/64"), to_bridge(Some("2001:db8::6")));
        specs.insert(route("2001:db8::5/128"), to_bridge(Some("2001:db8::7")));
        specs.insert(route("203.0.113.5/32"), to_bridge(Some("203.0.113.6")));
        assert_eq!(reconcile(&mut kernel, &specs), 6);
        assert_eq!(reconcile(&mut kernel, &specs), 0);
        assert_eq!(ip_json("route show table 10").len(), 3, "replaced, not added");
        assert_eq!(ip_json("-6 route show table 10").len(), 3, "replaced, not added: {}", ip("-6 route show table 10"));
        // And back, from gateway to directly connected.
        assert_eq!(reconcile(&mut kernel, &everything()), 6);
        assert_eq!(reconcile(&mut kernel, &everything()), 0);
    });
}

#[test]
fn a_neighbour_or_route_that_somebody_spoilt_is_repaired() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        apply(&mut kernel, &sets(&everything()));
        ip("neigh replace 203.0.113.5 lladdr 02:00:00:00:00:09 dev br-ex nud reachable");
        ip("route replace blackhole 203.0.113.5/32 table 10");
        ip("addr del fd53:d91e:400:7f17::1:1/128 dev br-ex");
        ip("rule del to 10.0.0.0/24 lookup 10 priority 32000");
        assert_eq!(reconcile(&mut kernel, &everything()), 4);
        assert_eq!(reconcile(&mut kernel, &everything()), 0);
    });
}

#[test]
fn the_last_ipv4_address_takes_the_routes_along_and_everything_comes_back() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        apply(&mut kernel, &sets(&everything()));
        ip("addr del 169.254.1.1/32 dev br-ex");
        assert!(reconcile(&mut kernel, &everything()) >= 4, "the address and three routes");
        assert_eq!(reconcile(&mut kernel, &everything()), 0);
    });
}

#[test]
fn a_device_that_was_made_anew_is_found_by_its_name() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        apply(&mut kernel, &sets(&everything()));
        ip("link del br-ex");
        ip("link add br-ex type veth peer name peer");
        ip("link set peer up");
        // Not observed in between: the old index is still remembered.
        apply(&mut kernel, &sets(&everything()));
        assert_eq!(reconcile(&mut kernel, &everything()), 0);
    });
}

#[test]
fn errors_say_what_was_tried_and_what_the_kernel_said() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        ip("link set br-ex down");
        let ops = [
            Op::Set(route("10.0.0.1/32"), to_bridge(None)),
            Op::Set(rule("10.0.0.1/32"), Spec::Present),
            Op::Set(route("10.0.0.2/32"), Spec::Route { device: "nowhere".into(), via: None }),
            Op::Set(Key::VlanDevice { name: "br-ex.7".into() }, Spec::Vlan { parent: "br-ex".into(), tag: 7 }),
            Op::Set(Key::Sysctl { path: "net/ipv4/conf/nowhere/proxy_arp".into() }, Spec::Value("1".into())),
        ];
        let results = kernel.apply(&ops);
        let text = |index: usize| results[index].as_ref().unwrap_err().to_string();
        assert_eq!(
            text(0),
            "replace route 10.0.0.1/32 dev br-ex table 10: Network is down (os error 100): Device for nexthop is not up",
        );
        assert!(results[1].is_ok(), "one that fails does not stop the next");
        assert_eq!(text(2), "device nowhere does not exist");
        match &results[3] {
            Ok(()) => assert!(ip("link show br-ex.7").contains("alias ovn-bgpd")),
            Err(error) => {
                // The device below is down; or the kernel knows no VLANs at all.
                let text = error.to_string();
                let missing = matches!(error, OpError::NoVlanSupport(_)) && text.contains("8021q");
                assert!(missing || text.contains("VLAN device br-ex.7 (tag 7 on br-ex): Network is down"), "{text}");
            }
        }
        assert!(text(4).starts_with("/proc/sys/net/ipv4/conf/nowhere/proxy_arp: "), "{}", text(4));
    });
}

#[test]
fn a_device_the_operator_made_in_place_of_a_vlan_device_is_used_and_never_removed() {
    in_namespace(|| {
        // As an OVS internal port with the tag would be: of no kind that says VLAN.
        ip("link add br-ex.7 type veth peer name switch");
        let key = Key::VlanDevice { name: "br-ex.7".into() };
        let spec = Spec::Vlan { parent: "br-ex".into(), tag: 7 };
        let specs: BTreeMap<Key, Spec> = [(key.clone(), spec.clone())].into();
        let mut kernel = Kernel::new(Marks::default());
        apply(&mut kernel, &[Op::Set(key.clone(), spec)]);
        assert_eq!(reconcile(&mut kernel, &specs), 0, "it will do");
        apply(&mut kernel, &[Op::Remove(key)]);
        assert_eq!(reconcile(&mut kernel, &BTreeMap::new()), 0);
        assert!(!ip("link show br-ex.7").contains("alias"), "not ours");
    });
}

#[test]
fn links_addresses_and_tables_are_seen() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        ip("link set br-ex address 02:00:00:00:00:05");
        ip("addr add 172.30.1.1/32 dev lo");
        ip("rule add from 10.0.0.1 lookup 77");
        ip("rule add to 10.0.0.1 lookup 78");
        ip("route add 10.1.0.0/16 dev br-ex table 79");
        let links = kernel.links().unwrap();
        let link = links.iter().find(|link| link.name == "br-ex").unwrap();
        assert_eq!(link.mac, Some(Mac([2, 0, 0, 0, 0, 5])));
        assert!(link.up && link.ifindex > 0);
        let addresses = kernel.addresses(&["lo".to_owned()].into()).unwrap();
        assert_eq!(addresses, [("lo".to_owned(), ["172.30.1.1/32".parse().unwrap()].into())].into(), "no 127.0.0.1");
        let tables = kernel.tables_in_use().unwrap();
        assert!(tables.is_superset(&[77, 78, 79].into()), "{tables:?}");
    });
}

#[test]
fn the_monitor_tells_what_others_do_and_keeps_quiet_about_us() {
    in_namespace(|| {
        block_on(async {
            let mut kernel = Kernel::new(Marks::default());
            let mut monitor = kernel.monitor(scope()).unwrap();
            apply(&mut kernel, &sets(&everything()));
            let quiet = tokio::time::timeout(Duration::from_millis(50), monitor.next()).await;
            assert!(quiet.is_err(), "our own changes: {quiet:?}");

            for (command, expect) in [
                ("route del 203.0.113.5/32 table 10", "routes"),
                ("-6 route del 2001:db8::5/128 table 10", "routes"),
                ("rule del to 203.0.113.5 lookup 10 priority 32000", "rules"),
                ("neigh del 203.0.113.5 dev br-ex", "neighbours"),
                ("addr del 169.254.1.1/32 dev br-ex", "addresses"),
                ("net/ipv4/conf/br-ex/proxy_arp", "answering"),
                ("net/ipv6/conf/br-ex/proxy_ndp", "answering"),
            ] {
                match command.strip_prefix("net/") {
                    Some(path) => std::fs::write(format!("/proc/sys/net/{path}"), "0").unwrap(),
                    None => drop(ip(command)),
                }
                let change =
                    tokio::time::timeout(Duration::from_secs(2), monitor.next()).await.expect(command).unwrap();
                assert!(format!("{change:?}").contains(&format!("{expect}: true")), "{command}: {change:?}");
                assert!(!change.links && !change.lost, "{command}: {change:?}");
            }
            ip("link set br-ex down");
            let change = tokio::time::timeout(Duration::from_secs(2), monitor.next()).await.unwrap().unwrap();
            assert!(change.links);
        });
    });
}

#[test]
fn the_monitor_does_not_care_for_what_is_not_ours() {
    in_namespace(|| {
        block_on(async {
            let kernel = Kernel::new(Marks::default());
            let mut monitor = kernel.monitor(scope()).unwrap();
            for command in [
                "link set peer down",
                "link set peer up",
                "route add 10.1.0.0/16 dev br-ex table 55",
                "neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev br-ex nud reachable",
                "addr add 10.9.0.1/24 dev peer",
                "rule add to 10.9.0.1 lookup 55 priority 5",
            ] {
                ip(command);
            }
            std::fs::write("/proc/sys/net/ipv4/conf/peer/proxy_arp", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv4/conf/peer/proxy_arp", "0").unwrap();
            // The other end of the wire went down and up, so br-ex lost its carrier; that is the only thing of ours.
            while let Ok(change) = tokio::time::timeout(Duration::from_millis(100), monitor.next()).await {
                let change = change.unwrap();
                assert_eq!(change, Change { links: change.links, ..Change::default() });
            }
        });
    });
}

#[test]
fn a_link_flap_is_noticed_and_repaired_at_once() {
    in_namespace(|| {
        block_on(async {
            let mut kernel = Kernel::new(Marks::default());
            let mut monitor = kernel.monitor(scope()).unwrap();
            apply(&mut kernel, &sets(&everything()));
            let started = Instant::now();
            ip("link set br-ex down");
            ip("link set br-ex up");
            monitor.next().await.unwrap();
            while reconcile(&mut kernel, &everything()) > 0 {}
            let took = started.elapsed();
            assert_eq!(kernel.observe(&scope(), &wanted(&everything())).unwrap(), everything());
            println!("repaired {took:?} after the flap began, two forks of ip included");
            // A tenth of a second where nobody else wants the processor; an audit would come after minutes.
            assert!(took < Duration::from_secs(5), "{took:?}");
        });
    });
}

#[test]
fn a_port_is_wired_in_well_under_a_millisecond() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        let all: Vec<Op> = sets(&ports(200, true));
        let port = |index: usize| [index, 200 + index, 400 + index].map(|at| all[at].clone());
        let mut took: Vec<Duration> = Vec::new();
        for index in 0..200 {
            let ops = port(index);
            let started = Instant::now();
            apply(&mut kernel, &ops);
            took.push(started.elapsed());
        }
        took.sort();
        println!("rule, route and neighbour of a port: median {:?}, worst {:?}", took[100], took[199]);
        assert!(took[100] < Duration::from_millis(50), "median {:?}", took[100]);
    });
}

/// The wiring of `count` ports: per port a rule, a route and a neighbour.
fn ports(count: u32, rules: bool) -> BTreeMap<Key, Spec> {
    let mut specs = BTreeMap::new();
    for index in 0..count {
        let address = std::net::Ipv4Addr::from(0x0a80_0000 + index);
        specs.insert(route(&format!("{address}/32")), to_bridge(None));
        specs.insert(neighbour(&address.to_string()), Spec::Lladdr(MAC));
        if rules {
            specs.insert(rule(&format!("{address}/32")), Spec::Present);
        }
    }
    specs
}

#[test]
fn five_thousand_ports_go_in_and_out() {
    in_namespace(|| {
        let mut kernel = Kernel::new(Marks::default());
        for (count, rules) in [(1000, true), (5000, false), (5000, true)] {
            let specs = ports(count, rules);
            let started = Instant::now();
            apply(&mut kernel, &sets(&specs));
            let applied = started.elapsed();
            let started = Instant::now();
            let observed = kernel.observe(&scope(), &wanted(&specs)).unwrap();
            let seen = started.elapsed();
            assert_eq!(observed, specs);

            let one: BTreeMap<Key, Spec> =
                ports(count + 1, rules).into_iter().filter(|(key, _)| !specs.contains_key(key)).collect();
            let started = Instant::now();
            apply(&mut kernel, &sets(&one));
            let one_more = started.elapsed();

            let started = Instant::now();
            assert_eq!(reconcile(&mut kernel, &BTreeMap::new()), specs.len() + one.len());
            println!(
                "{count} ports, rules {rules}: {} objects applied in {applied:?}, observed in {seen:?}, one port more in \
                 {one_more:?}, all found and removed in {:?}",
                specs.len(),
                started.elapsed()
            );
        }
    });
}
