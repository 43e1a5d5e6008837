use std::path::Path;
use std::time::Duration;

use bgp::policy::{LimitAction, MaxPrefixes};
use bgp::speaker::{AllowAsIn, PeerAddress, RemoteAs};
use bgp::types::{Families, Family};
use proptest::prelude::*;

use super::*;

/// The example of the contract, word for word where it has values.
const CONTRACT: &str = r#"
[bgp]
asn = 64999
router_id = "172.30.1.1"
listen = ["0.0.0.0", "::"]
port = 179
ebgp_requires_policy = false
allow_hold_time_zero = false
graceful_restart = { enabled = true, restart_time = "120s" }

[bgp.peer_groups.uplink]
remote_as = "internal"
password = "foobar"
families = ["ipv4", "ipv6"]
allowas_in = "origin"
hold_time = "9s"
keepalive = "3s"
connect_retry = "5s"
ttl_security = false
next_hop_self = true
prefix_list_out = "only-host-prefixes"
prefix_list_in = "only-default"
max_prefixes = 100
bfd = "fabric"

[[bgp.neighbors]]
interface = "enp2s0"
peer_group = "uplink"

[[bgp.neighbors]]
address = "10.0.0.1"
local_address = "10.0.0.2"
remote_as = 65001
port = 179
passive = false

[bfd.profiles.fabric]
transmit_interval = "300ms"
receive_interval = "300ms"
detect_multiplier = 3

[prefix_lists]
only-host-prefixes = ["permit 0.0.0.0/0 ge 32", "permit ::/0 ge 128"]
only-default       = ["permit 0.0.0.0/0", "permit ::/0"]

[advertise]
prefixes = ["172.30.1.1/32", "f00d::4/128"]
files = ["/etc/ovn-bgpd/prefixes.d/*.txt"]
interfaces = ["lo"]

[fib]
install = "only-default"
table = 254
metric = 20
source_ipv4 = "172.30.1.1"
source_ipv6 = "f00d::4"
max_paths = 16

[ovn]
nb = "tcp:172.17.0.30:6641"
ovs = "unix:/run/openvswitch/db.sock"
tls = { key = "k", certificate = "c", ca = "/a" }
chassis = "auto"
expose_tenant_networks = false
expose_ipv6_gua_tenant_networks = false
tenant_advertisement = "host"
require_snat_disabled_for_tenant_networks = false
address_scopes = []
monitor = "conditional"

[wiring]
rules = "per-prefix"
rule_priority = 32000
route_protocol = 99
flow_cookie = 0x3e7
audit_interval = "300s"
adopt_upstream = false

[api]
socket = "/run/ovn-bgpd/ovn-bgpd.sock"
listen = "127.0.0.1:9179"
"#;

fn read(text: &str) -> Outcome {
    parse(text, Path::new("/etc/ovn-bgpd/c.toml"))
}

/// Problems of a text, without the file name.
fn problems(text: &str) -> Vec<String> {
    let found = read(text).problems;
    found.iter().map(|p| p.to_string().replace("/etc/ovn-bgpd/c.toml:", "")).collect()
}

#[test]
fn the_contract_is_read() {
    let (config, warnings) = read(CONTRACT).into_result().unwrap();
    let warnings: Vec<String> = warnings.iter().map(|w| w.message.clone()).collect();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.bgp.speaker.asn, 64999);
    assert_eq!(config.bgp.listen.len(), 2);
    let [unnumbered, numbered] = config.bgp.neighbors.as_slice() else { panic!("two neighbours") };
    assert_eq!(unnumbered.peer.address, PeerAddress::Interface("enp2s0".into()));
    assert_eq!(unnumbered.peer.remote_as, RemoteAs::Internal);
    assert_eq!(unnumbered.peer.password.as_ref().unwrap().reveal(), "foobar");
    assert_eq!(unnumbered.peer.families, Families::ALL);
    assert_eq!(unnumbered.peer.allowas_in, AllowAsIn::Origin);
    assert_eq!(unnumbered.peer.hold_time, Duration::from_secs(9));
    assert_eq!(unnumbered.peer.keepalive, Some(Duration::from_secs(3)));
    assert_eq!(unnumbered.peer.max_prefixes, Some(MaxPrefixes::new(100)));
    assert_eq!(unnumbered.peer.prefix_list_out.as_ref().unwrap().name(), "only-host-prefixes");
    assert_eq!(unnumbered.bfd.as_ref().unwrap().profile, "fabric");
    assert_eq!(numbered.peer.remote_as, RemoteAs::Number(65001));
    assert_eq!(numbered.peer.local_address, Some("10.0.0.2".parse().unwrap()));
    assert_eq!(numbered.peer.prefix_list_in, None);
    assert_eq!(config.bfd_profiles.get("fabric"), Some(&BfdProfile::default()));
    assert_eq!(config.fib.install.as_ref().unwrap().name(), "only-default");
    let ovn = config.ovn.unwrap();
    assert_eq!(ovn.tls.unwrap().key, Path::new("/etc/ovn-bgpd/k"));
    assert_eq!(config.wiring, Wiring::default());
}

#[test]
fn a_password_is_never_shown() {
    let (config, _) = read(CONTRACT).into_result().unwrap();
    assert!(!format!("{config:?}").contains("foobar"));
    // Not even when the line it stands on is broken, or it is of the wrong kind.
    for broken in
        ["password = \"foobar", "password = \"foobar\" x", "password = [\"foobar\"]", "password = {a = \"foobar\"}"]
    {
        let shown = problems(&CONTRACT.replace("password = \"foobar\"", broken)).join("\n");
        assert!(!shown.is_empty() && !shown.contains("foobar"), "{shown}");
    }
    let long = format!("password = \"{}\"", "foobar".repeat(20));
    let shown = problems(&CONTRACT.replace("password = \"foobar\"", &long)).join("\n");
    assert_eq!(shown, "13:12: 'password' is 120 octets long: TCP-MD5 takes 80 at most");
}

#[test]
fn a_limit_is_a_number_or_a_table() {
    let restart = LimitAction::Restart(Duration::from_mins(5));
    let table = [
        ("100", MaxPrefixes::new(100)),
        ("{ limit = 100 }", MaxPrefixes::new(100)),
        ("{ limit = 9, warning = 50, restart = \"5m\" }", MaxPrefixes { limit: 9, warning: 50, action: restart }),
        ("{ limit = 9, warning_only = true }", MaxPrefixes { action: LimitAction::WarnOnly, ..MaxPrefixes::new(9) }),
    ];
    for (text, expected) in table {
        let text = CONTRACT.replace("max_prefixes = 100", &format!("max_prefixes = {text}"));
        let (config, _) = read(&text).into_result().unwrap();
        assert_eq!(config.bgp.neighbors[0].peer.max_prefixes, Some(expected), "{text}");
    }
}

#[test]
fn add_path_is_said_for_both_families_or_for_each() {
    use bgp::speaker::AddPath;
    let (all, none, ipv4) = (Families::ALL, Families::NONE, Families::NONE.with(Family::Ipv4));
    let table = [
        ("false", none, none),
        ("\"receive\"", all, none),
        ("\"send\"", none, all),
        ("\"both\"", all, all),
        ("{ ipv4 = \"both\", ipv6 = \"receive\" }", all, ipv4),
        ("{ ipv4 = \"receive\" }", ipv4, none),
    ];
    for (text, receive, send) in table {
        let text = CONTRACT.replace("allowas_in = \"origin\"", &format!("add_path = {text}"));
        let (config, _) = read(&text).into_result().unwrap();
        assert_eq!(config.bgp.neighbors[0].peer.add_path, AddPath { receive, send }, "{text}");
    }
}

#[test]
fn defaults() {
    let text = "[bgp]\nasn = 65000\n[advertise]\nprefixes = [\"2001:db8::1/128\", \"192.0.2.1/32\"]\n[[bgp.neighbors]]\naddress = \"192.0.2.2\"\nremote_as = \"auto\"\nfamilies = [\"ipv4\"]\n";
    let (config, _) = read(text).into_result().unwrap();
    assert_eq!(config.bgp.speaker.router_id.to_string(), "192.0.2.1", "the first IPv4 announced");
    assert_eq!(config.bgp.port, 179);
    assert!(config.ovn.is_none());
    let peer = &config.bgp.neighbors[0].peer;
    assert_eq!(peer.families, Families::NONE.with(Family::Ipv4));
    assert_eq!(peer.port, 179);
}

/// One fault, put in the place of a line of the contract → the whole complaint.
#[test]
fn every_fault_says_where_and_what_to_do() {
    let table: &[(&str, &str, &str)] = &[
        ("asn = 64999", "", "2:1: 'asn' is missing in [bgp]\n    hint: our AS number, for example asn = 64999"),
        ("asn = 64999", "asn = 0", "3:7: 'asn' is 0: an AS number is from 1 to 4294967295"),
        ("asn = 64999", "asn = 4294967296", "3:7: 'asn' is 4294967296: an AS number is from 1 to 4294967295"),
        (
            "asn = 64999",
            "asn = 23456",
            "3:7: 'asn' is 23456: that is AS_TRANS, which stands for a number that does not fit (RFC 6793)",
        ),
        ("asn = 64999", "asn = 65535", "3:7: 'asn' is 65535: that is reserved (RFC 7300)"),
        ("asn = 64999", "asn = \"64999\"", "3:7: 'asn' must be a number, not a string"),
        ("asn = 64999", "asn = 1.5", "3:7: 'asn' must be a number, not a number with a fraction"),
        ("asn = 64999", "asn = 64999\nans = 1", "4:1: unknown key 'ans' in [bgp]\n    hint: did you mean 'asn'?"),
        (
            "router_id = \"172.30.1.1\"",
            "router_id = \"0.0.0.0\"",
            "4:13: 'router_id' is 0.0.0.0, which no neighbour accepts (RFC 6286)",
        ),
        (
            "router_id = \"172.30.1.1\"",
            "router_id = \"::1\"",
            "4:13: '::1' is not an IPv4 address, which is how a BGP identifier is written",
        ),
        ("listen = [\"0.0.0.0\", \"::\"]", "listen = [\"::\", \"::\"]", "5:17: 'listen' has :: twice"),
        (
            "listen = [\"0.0.0.0\", \"::\"]",
            "listen = [\"::\", \"::1\"]",
            "5:17: 'listen' has :: already, which includes ::1",
        ),
        ("port = 179\nebgp", "port = 0\nebgp", "6:8: 'port' is 0: a port is from 1 to 65535"),
        (
            "restart_time = \"120s\"",
            "restart_time = \"2h\"",
            "9:53: 'restart_time' is whole seconds, from \"0s\" to \"4095s\"",
        ),
        (
            "restart_time = \"120s\"",
            "long_lived = \"1.5s\"",
            "9:51: 'long_lived' is whole seconds, from \"0s\" to \"4660h\"",
        ),
        (
            "restart_time = \"120s\"",
            "restart_tme = \"120s\"",
            "9:38: unknown key 'restart_tme' in [bgp.graceful_restart]\n    hint: did you mean 'restart_time'?",
        ),
        (
            "remote_as = \"internal\"",
            "remote_as = \"interal\"",
            "12:13: 'remote_as' cannot be \"interal\"\n    hint: did you mean \"internal\"?",
        ),
        (
            "remote_as = \"internal\"",
            "remote_as = true",
            "12:13: 'remote_as' must be \"internal\", \"external\", \"auto\" or a number",
        ),
        (
            "remote_as = \"internal\"",
            "",
            "26:1: the neighbour has no 'remote_as'\n    hint: remote_as = \"internal\", \"external\", \"auto\" or a number, here or in its peer group",
        ),
        (
            "password = \"foobar\"",
            "password = \"a\"\npassword_file = \"b\"",
            "14:17: both 'password' and 'password_file'\n    hint: keep one of them",
        ),
        (
            "remote_as = 65001",
            "remote_as = 65001\nlocal_as = 64999",
            "34:12: 'local_as' is 64999, which is our AS number anyway\n    hint: leave it out",
        ),
        (
            "remote_as = 65001",
            "remote_as = 64999\nlocal_as = { asn = 65010 }",
            "34:12: 'local_as' is for external neighbours only, and this one is internal",
        ),
        ("remote_as = 65001", "remote_as = 65001\nlocal_as = { replace_as = true }", "34:12: 'local_as' lacks 'asn'"),
        (
            "remote_as = 65001",
            "remote_as = 65001\nlocal_as = { asn = 65010, no_prepend = true }",
            "34:27: unknown key 'no_prepend' in [bgp.neighbors.local_as]\n    hint: known here: asn, replace_as",
        ),
        (
            "remote_as = 65001",
            "remote_as = 65001\ntcp_ao = {}",
            "34:10: 'tcp_ao' without a secret\n    hint: password or password_file holds it",
        ),
        (
            "password = \"foobar\"",
            "password = \"foobar\"\ntcp_ao = { algorithm = \"sha1\" }",
            "14:24: 'algorithm' cannot be \"sha1\"\n    hint: one of \"hmac-sha1-96\", \"aes-128-cmac-96\"",
        ),
        (
            "password = \"foobar\"",
            "password = \"foobar\"\ntcp_ao = { send_id = 256 }",
            "14:22: 'send_id' is 256: a key's number is from 0 to 255",
        ),
        (
            "remote_as = 65001",
            "remote_as = 65001\nrole_strict = true",
            "34:15: 'role_strict' without 'role'\n    hint: a hypervisor is its leaf's \"customer\"",
        ),
        (
            "families = [\"ipv4\", \"ipv6\"]",
            "families = []",
            "14:12: 'families' is empty: nothing could be exchanged\n    hint: [\"ipv4\", \"ipv6\"]",
        ),
        (
            "families = [\"ipv4\", \"ipv6\"]",
            "families = [\"ipv5\"]",
            "14:13: 'families' cannot be \"ipv5\"\n    hint: did you mean \"ipv4\"?",
        ),
        (
            "allowas_in = \"origin\"",
            "allowas_in = true",
            "15:14: 'allowas_in' = true does not say how often our AS may occur\n    hint: \"origin\", or a count such as 3",
        ),
        (
            "allowas_in = \"origin\"",
            "add_path = true",
            "15:12: 'add_path' = true does not say in which direction\n    hint: \"receive\", \"send\" or \"both\"",
        ),
        (
            "allowas_in = \"origin\"",
            "add_path = \"recieve\"",
            "15:12: 'add_path' cannot be \"recieve\"\n    hint: did you mean \"receive\"?",
        ),
        (
            "allowas_in = \"origin\"",
            "add_path = { ipv5 = \"send\" }",
            "15:14: unknown key 'ipv5' in [bgp.peer_groups.uplink.add_path]\n    hint: did you mean 'ipv4'?",
        ),
        (
            "hold_time = \"9s\"",
            "hold_time = 9",
            "16:13: 'hold_time' is a number without a unit\n    hint: write \"9s\" for seconds",
        ),
        (
            "hold_time = \"9s\"",
            "hold_time = \"2s\"",
            "16:13: 'hold_time' is less than 3 seconds (RFC 4271 §4.2)\n    hint: use BFD to be faster",
        ),
        (
            "hold_time = \"9s\"",
            "hold_time = \"0s\"",
            "16:13: 'hold_time' is 0: a dead neighbour would never be noticed\n    hint: allow_hold_time_zero = true in [bgp] if that is what you want",
        ),
        (
            "hold_time = \"9s\"",
            "hold_time = \"9 sec\"",
            "16:13: 'hold_time' is \"9 sec\": there is no unit 'sec'\n    hint: such as \"300ms\", \"9s\" or \"2m\"",
        ),
        (
            "hold_time = \"9s\"",
            "hold_tme = \"9s\"",
            "16:1: unknown key 'hold_tme' in [bgp.peer_groups.uplink]\n    hint: did you mean 'hold_time'?",
        ),
        (
            "keepalive = \"3s\"",
            "keepalive = \"9s\"",
            "17:13: 'keepalive' must be less than 'hold_time', or the neighbour would give up on us\n    hint: a third of it is usual: \"3s\"",
        ),
        (
            "keepalive = \"3s\"",
            "send_hold_time = \"9s\"",
            "17:18: 'send_hold_time' must be longer than the hold time, which is 9s (RFC 9687 §4.4)\n    hint: leave it out for eight minutes or twice the hold time, whichever is longer; \"0s\": never",
        ),
        (
            "passive = false",
            "send_hold_time = \"90s\"",
            "35:18: 'send_hold_time' must be longer than the hold time, which is 90s (RFC 9687 §4.4)\n    hint: leave it out for eight minutes or twice the hold time, whichever is longer; \"0s\": never",
        ),
        (
            "keepalive = \"3s\"",
            "send_hold_time = \"169h\"",
            "17:18: 'send_hold_time' is more than 168h, a week\n    hint: \"0s\" means never",
        ),
        (
            "ttl_security = false",
            "ttl_security = true",
            "19:16: 'ttl_security' = true does not say how many hops\n    hint: ttl_security = 1 for a neighbour on the same link",
        ),
        (
            "passive = false",
            "ttl_security = 1\nebgp_multihop = 2",
            "35:16: 'ttl_security' and 'ebgp_multihop' contradict each other\n    hint: ttl_security = N also allows N hops: leave ebgp_multihop out",
        ),
        (
            "prefix_list_in = \"only-default\"",
            "prefix_list_in = \"only-defautl\"",
            "22:18: there is no prefix list 'only-defautl'\n    hint: did you mean 'only-default'?",
        ),
        (
            "max_prefixes = 100",
            "max_prefixes = { warning = 75 }",
            "23:16: 'max_prefixes' has no 'limit'\n    hint: max_prefixes = { limit = 100, warning = 75 }",
        ),
        (
            "max_prefixes = 100",
            "max_prefixes = { limit = 100, warning = 101 }",
            "23:41: 'warning' is 101: a percentage is from 1 to 100",
        ),
        (
            "max_prefixes = 100",
            "max_prefixes = { limit = 100, restart = \"5m\", warning_only = true }",
            "23:41: 'restart' and 'warning_only' contradict each other\n    hint: with warning_only the session does not end",
        ),
        (
            "bfd = \"fabric\"",
            "bfd = \"fabrik\"",
            "24:7: there is no BFD profile 'fabrik'\n    hint: did you mean 'fabric'?",
        ),
        (
            "peer_group = \"uplink\"",
            "peer_group = \"uplnk\"",
            "28:14: there is no peer group 'uplnk'\n    hint: did you mean 'uplink'?",
        ),
        (
            "interface = \"enp2s0\"",
            "interface = \"enp2s0\"\naddress = \"10.0.0.9\"",
            "27:13: the neighbour has both 'address' and 'interface'\n    hint: an interface alone discovers its neighbour; a fixed link-local one is address = \"fe80::1%eth0\"",
        ),
        (
            "interface = \"enp2s0\"",
            "",
            "26:1: the neighbour has neither 'address' nor 'interface'\n    hint: address = \"10.0.0.1\", or interface = \"eth0\" for a neighbour without a number",
        ),
        ("interface = \"enp2s0\"", "interface = \"enp2s0/1\"", "27:13: 'enp2s0/1' cannot be the name of an interface"),
        ("interface = \"enp2s0\"", "address = \"10.0.0.1\"", "31:11: there is a neighbour 10.0.0.1 already"),
        (
            "address = \"10.0.0.1\"",
            "address = \"fe80::1\"",
            "31:11: a link-local address means nothing without its interface\n    hint: \"fe80::1%eth0\", or interface = \"eth0\" alone",
        ),
        (
            "address = \"10.0.0.1\"",
            "address = \"leaf1\"",
            "31:11: 'leaf1' is not an IP address\n    hint: such as \"10.0.0.1\", \"2001:db8::1\" or \"fe80::1%eth0\"; names are not looked up",
        ),
        (
            "address = \"10.0.0.1\"",
            "address = \"224.0.0.1\"",
            "31:11: '224.0.0.1' cannot be the address of a neighbour",
        ),
        (
            "local_address = \"10.0.0.2\"",
            "local_address = \"::1\"",
            "32:17: 'local_address' ::1 is not of the family of the neighbour 10.0.0.1",
        ),
        (
            "detect_multiplier = 3",
            "detect_multiplier = 0",
            "40:21: 'detect_multiplier' is 0: a number of packets is from 1 to 255",
        ),
        (
            "transmit_interval = \"300ms\"",
            "transmit_interval = \"1ms\"",
            "38:21: 'transmit_interval' must be at least 10ms",
        ),
        ("\"permit 0.0.0.0/0 ge 32\"", "\"permit 0.0.0.0/0 ge 33\"", "43:44: `33` is not a length between 0 and 32"),
        (
            "prefixes = [\"172.30.1.1/32\"",
            "prefixes = [\"172.30.1.1\"",
            "47:13: '172.30.1.1' has no prefix length\n    hint: write 172.30.1.1/32",
        ),
        (
            "prefixes.d/*.txt",
            "*/a.txt",
            "48:10: '/etc/ovn-bgpd/*/a.txt' has a wildcard in a directory\n    hint: '*' and '?' work in the name of the file only",
        ),
        (
            "install = \"only-default\"",
            "install = \"default\"",
            "52:11: there is no prefix list 'default'\n    hint: defined in [prefix_lists]: only-default, only-host-prefixes",
        ),
        ("table = 254", "table = 255", "53:1: table 255 belongs to the kernel\n    hint: 254 is the main table"),
        ("source_ipv4 = \"172.30.1.1\"", "source_ipv4 = \"::1\"", "55:15: '::1' is not an IPv4 address"),
        (
            "nb = \"tcp:172.17.0.30:6641\"",
            "nb = \"172.17.0.30\"",
            "60:6: '172.17.0.30' is not a database remote: no ':' (expected tcp:HOST:PORT, ssl:HOST:PORT or unix:PATH)",
        ),
        ("key = \"k\", ", "", "62:7: 'tls' lacks 'key'"),
        (
            "chassis = \"auto\"",
            "chassis = {}",
            "63:11: 'chassis' names nobody\n    hint: \"auto\", or { hostname = \"…\", system_id = \"…\" }",
        ),
        (
            "tenant_advertisement = \"host\"",
            "tenant_advertisement = \"hosts\"",
            "66:24: 'tenant_advertisement' cannot be \"hosts\"\n    hint: did you mean \"host\"?",
        ),
        (
            "rule_priority = 32000",
            "rule_priority = 32766",
            "73:17: 'rule_priority' is 32766: a priority before the main table is from 1 to 32765",
        ),
        (
            "route_protocol = 99",
            "route_protocol = 186",
            "74:18: protocol 186 belongs to the BGP routes we learn: we would take its routes for ours\n    hint: a number nobody else on this host uses, such as 99",
        ),
        ("socket = \"/run", "socket = \"run", "80:10: 'socket' is not an absolute path: 'run/ovn-bgpd/ovn-bgpd.sock'"),
        (
            "listen = \"127.0.0.1:9179\"",
            "listen = \"127.0.0.1\"",
            "81:10: '127.0.0.1' is not an address with a port, such as 127.0.0.1:9179",
        ),
        ("[api]", "[apu]", "79:2: there is no table 'apu'\n    hint: did you mean 'api'?"),
    ];
    let mut wrong = Vec::new();
    for (line, instead, expected) in table {
        let text = CONTRACT.replacen(line, instead, 1);
        assert_ne!(text, CONTRACT, "{line} is not in the contract");
        let outcome = read(&text);
        assert!(outcome.config.is_none(), "{instead} is accepted");
        let found = problems(&text);
        if found != [*expected] {
            wrong.push(format!("{instead}\n  found {found:#?}\n  expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn warnings_do_not_stop() {
    for (line, instead, expected) in [
        (
            "listen = \"127.0.0.1:9179\"",
            "listen = \"0.0.0.0:9179\"",
            "81:10: warning: the API on 0.0.0.0:9179 can be read",
        ),
        (
            "transmit_interval = \"300ms\"",
            "transmit_interval = \"20ms\"",
            "38:21: warning: 'transmit_interval' is below 50 ms",
        ),
        (
            "ebgp_requires_policy = false",
            "ebgp_requires_policy = true",
            "7:1: warning: with ebgp_requires_policy, neighbour 10.0.0.1 lacks",
        ),
        ("passive = false", "ebgp_multihop = 2\nbfd = \"fabric\"", "36:7: warning: 'bfd' watches the next hop only"),
    ] {
        let text = CONTRACT.replacen(line, instead, 1);
        let outcome = read(&text);
        assert!(outcome.config.is_some());
        let shown = problems(&text).join("\n");
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn all_faults_are_found_at_once() {
    let text = "[bgp]\nasn = 0\nfoo = 1\n[[bgp.neighbors]]\nhold_time = 9\n[fib]\nmetric = \"x\"\n[nothing]\n";
    let lines: Vec<String> = problems(text).iter().map(|p| p.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["1:1", "2:7", "3:1", "4:1", "4:1", "5:13", "7:10", "8:2"]);
}

#[test]
fn broken_toml_says_where() {
    let shown = problems("[bgp]\nasn = 64999\nrouter_id = \"172.30.1.1\n[fib\n");
    assert!(shown[0].starts_with("3:13: ") || shown[0].starts_with("3:24: "), "{shown:?}");
    assert_eq!(problems("").len(), 1);
    assert!(
        problems("[bgp]\nasn = 1\nasn = 2\n")[0].starts_with("3:1: duplicate key"),
        "{:?}",
        problems("[bgp]\nasn = 1\nasn = 2\n")
    );
}

/// What people write who do not write TOML every day.
#[test]
fn slips_of_toml_are_met_with_the_right_spelling() {
    let bgp = "[bgp]\nasn = 64999\nrouter_id = \"10.0.0.1\"\n";
    for (text, expected) in [
        (
            "[bgp.neighbors]\naddress = \"10.0.0.2\"\nremote_as = 65001\n",
            "4:1: 'neighbors' must be a list, not a table\n    hint: [[bgp.neighbors]], with two brackets, for each one",
        ),
        (
            "[[bgp.neighbors]]\naddress = \"10.0.0.2\"\nremote_as = \"65001\"\n",
            "6:13: 'remote_as' cannot be \"65001\"\n    hint: a number has no quotation marks: 65001",
        ),
        ("asn = 3\n", "4:1: duplicate key 'asn'\n    hint: it is there already, further up"),
        (
            "[advertise]\nprefixes = [10.0.0.1/32]\n",
            "5:17: invalid float, expected nothing\n    hint: words, addresses and prefixes stand in quotation marks: \"192.0.2.1/32\"",
        ),
    ] {
        assert_eq!(problems(&format!("{bgp}{text}")), [expected], "{text}");
    }
    // A list that is not closed: one complaint a line, not one a character.
    let open = problems(&format!("{bgp}[advertise]\nprefixes = [\"10.0.0.1/32\"\n[fib]\nmetric = 20\n"));
    let places: Vec<&str> = open.iter().filter_map(|problem| problem.split(':').next()).collect();
    assert_eq!(places, ["6", "7"], "{open:#?}");
}

#[test]
fn attributes_are_set_on_export() {
    let text = CONTRACT.replace(
        "[[bgp.neighbors]]\ninterface",
        "[[bgp.peer_groups.uplink.export]]\nprefix_list = \"only-default\"\nmed = 5\nprepend = 2\ncommunities = [\"64999:1\", \"no-export\"]\nlarge_communities = [\"1:2:3\"]\n[[bgp.neighbors]]\ninterface",
    );
    let (config, _) = read(&text).into_result().unwrap();
    let [rule] = config.bgp.neighbors[0].peer.export_rules.as_slice() else { panic!("one rule") };
    assert_eq!(rule.prefixes.as_ref().unwrap().name(), "only-default");
    assert_eq!((rule.set.med, rule.set.prepend), (Some(5), 2));
    assert_eq!(rule.set.communities, [64999 << 16 | 1, bgp::policy::community::NO_EXPORT]);
    assert!(config.bgp.neighbors[1].peer.export_rules.is_empty(), "not in the group");
    let broken = text.replace("\"64999:1\"", "\"64999:x\"");
    assert!(problems(&broken)[0].starts_with("30:16: no value in `64999:x`"), "{:?}", problems(&broken));
    let undefined = text.replace("prefix_list = \"only-default\"", "prefix_list = \"only\"");
    assert!(problems(&undefined)[0].starts_with("27:15: there is no prefix list 'only'"), "{:?}", problems(&undefined));
}

#[test]
fn a_neighbour_wins_over_its_group() {
    let text = CONTRACT.replace(
        "peer_group = \"uplink\"",
        "peer_group = \"uplink\"\nhold_time = \"30s\"\nbfd = false\nremote_as = \"external\"",
    );
    let (config, _) = read(&text).into_result().unwrap();
    let neighbor = &config.bgp.neighbors[0];
    assert_eq!(neighbor.peer.hold_time, Duration::from_secs(30));
    assert_eq!(neighbor.peer.keepalive, Some(Duration::from_secs(3)), "from the group");
    assert_eq!(neighbor.peer.remote_as, RemoteAs::External);
    assert_eq!(neighbor.bfd, None);
}

#[test]
fn listen_ranges_have_options_like_neighbours() {
    let range = "[[bgp.listen_ranges]]\nprefix = \"10.1.0.0/24\"\npeer_group = \"uplink\"\nhold_time = \"30s\"\n";
    let text = CONTRACT.replacen("bfd = \"fabric\"", "", 1).replacen("[bfd.", &format!("{range}[bfd."), 1);
    let (config, warnings) = read(&text).into_result().unwrap();
    assert_eq!(warnings, []);
    let found = &config.driver().speaker.listen_ranges[0];
    assert_eq!((found.prefix.to_string().as_str(), found.limit), ("10.1.0.0/24", 100));
    let template = &found.template;
    assert_eq!((template.remote_as, template.hold_time), (RemoteAs::Internal, Duration::from_secs(30)));
    assert!(template.password.is_some());

    let complaint = |ranges: &str| {
        let text = text.replacen(range, ranges, 1);
        assert_ne!(text, CONTRACT);
        problems(&text).join("\n")
    };
    let one = |prefix: &str, more: &str| {
        format!("[[bgp.listen_ranges]]\nprefix = \"{prefix}\"\npeer_group = \"uplink\"\n{more}\n")
    };
    let rows = [
        (one("10.1.0.0/24", "limit = 0"), "40:9: 'limit' is 0: a number of neighbours is from 1 to 10000"),
        (one("10.1.0.1/24", ""), "'10.1.0.1/24' has bits set beyond its length"),
        (one("fe80::/64", ""), "a listen range cannot hold link-local addresses"),
        (one("10.1.0.0/24", "").repeat(2), "there is a listen range 10.1.0.0/24 already"),
        (one("10.0.0.0/24", ""), "neighbour 10.0.0.1 has no password but lies within 10.0.0.0/24, which has one"),
        (
            format!(
                "{}[[bgp.listen_ranges]]\nprefix = \"10.1.0.0/28\"\nremote_as = \"auto\"\n",
                one("10.1.0.0/24", "")
            ),
            "listen range 10.1.0.0/28 has no password but lies within 10.1.0.0/24, which has one",
        ),
        ("[[bgp.listen_ranges]]\nremote_as = 1\n".to_owned(), "the listen range has no 'prefix'"),
        ("[[bgp.listen_ranges]]\nprefix = \"10.1.0.0/24\"\n".to_owned(), "the listen range has no 'remote_as'"),
        (one("10.1.0.0/24", "bfd = \"fabric\""), "warning: 'bfd' does not watch the neighbours of a listen range"),
    ];
    for (ranges, expected) in rows {
        let found = complaint(&ranges);
        assert!(found.contains(expected), "{ranges}\n{found}\n{expected}");
    }
}

#[test]
fn bfd_packets_are_authenticated_with_the_first_key_and_secrets_are_not_shown() {
    let keys = "[bfd.profiles.fabric.authentication]\ntype = \"sha1\"\n\
                keys = [{ id = 7, password = \"hush\" }, { id = 3, password_file = \"bfd.key\" }]\n[bfd.profiles.fabric]";
    let text = CONTRACT.replace("[bfd.profiles.fabric]", keys);
    let profile = &read(&text).config.unwrap().bfd_profiles["fabric"];
    let authentication = profile.authentication.as_ref().unwrap();
    assert_eq!(authentication.keys[0].password.as_ref().unwrap().reveal(), "hush");
    assert_eq!(authentication.keys[1].password_file.as_deref(), Some(Path::new("/etc/ovn-bgpd/bfd.key")));
    assert_eq!(authentication.keys(), None, "nothing goes out before every key is known");
    assert!(!format!("{profile:?}").contains("hush"));

    for (line, instead, expected) in [
        ("\"sha1\"", "\"sha256\"", "'type' cannot be \"sha256\""),
        ("type = \"sha1\"", "", "'authentication' needs 'type' and 'keys'"),
        ("id = 3", "id = 7", "there are two keys with id 7"),
        ("id = 3, password_file = \"bfd.key\"", "id = 3", "a key without a password"),
        ("\"hush\"", "\"a key of twenty-one oct\"", "'password' is longer than 20 octets, the most sha1 takes"),
        ("keys = [{ id = 7", "keys = [] # [{ id = 7", "'keys' is empty: nobody could sign"),
    ] {
        let shown = problems(&text.replace(line, instead)).join("\n");
        assert!(shown.contains(expected), "{instead}: {shown}");
        assert!(!shown.contains("hush") && !shown.contains("twenty-one"), "{shown}");
    }
}

/// The keys of every table, as the reader itself names them when it meets one it does not know.
fn known_keys() -> Vec<(&'static str, Vec<String>)> {
    let tables = [
        ("", ""),
        ("bgp", "[bgp]"),
        ("bgp.graceful_restart", "[bgp.graceful_restart]"),
        ("bgp.peer_groups", "[bgp.peer_groups.x]"),
        ("export", "[[bgp.peer_groups.x.export]]"),
        ("bgp.neighbors", "[[bgp.neighbors]]"),
        ("bgp.listen_ranges", "[[bgp.listen_ranges]]"),
        ("bgp.peer_groups.tcp_ao", "[bgp.peer_groups.x.tcp_ao]"),
        ("bgp.peer_groups.local_as", "[bgp.peer_groups.x.local_as]"),
        ("bfd", "[bfd]"),
        ("bfd.profiles", "[bfd.profiles.x]"),
        ("bfd.authentication", "[bfd.profiles.x.authentication]"),
        ("bfd.keys", "[[bfd.profiles.x.authentication.keys]]"),
        ("advertise", "[advertise]"),
        ("fib", "[fib]"),
        ("ovn", "[ovn]"),
        ("ovn.tls", "[ovn.tls]"),
        ("ovn.chassis", "[ovn.chassis]"),
        ("wiring", "[wiring]"),
        ("api", "[api]"),
    ];
    let keys = |header: &str| {
        let outcome = read(&format!("{header}\n\"#unknown#\" = 1\n"));
        let hint = outcome.problems.iter().find(|p| p.message.contains("#unknown#")).and_then(|p| p.hint.clone());
        let list = hint.unwrap().strip_prefix("known here: ").unwrap().to_owned();
        list.split(", ").map(str::to_owned).collect()
    };
    tables.map(|(table, header)| (table, keys(header))).into()
}

#[test]
fn the_reference_and_the_documentation_have_every_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference = std::fs::read_to_string(root.join("configs/reference.toml")).unwrap();
    let manual = std::fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    for (table, keys) in known_keys() {
        for key in keys {
            let assigned = |line: &str| {
                line.split(&key[..]).skip(1).any(|after| after.trim_start().starts_with('='))
                    || line.contains(&format!("[{key}"))
                    || line.contains(&format!(".{key}"))
            };
            assert!(reference.lines().any(assigned), "{table}: {key} is not in configs/reference.toml");
            assert!(manual.contains(&format!("`{key}`")), "{table}: {key} is not in docs/configuration.md");
        }
    }
}

/// What the manual says a reload does is what the speaker says it does.
#[test]
fn the_manual_tells_the_truth_about_reloading() {
    use bgp::speaker::{Impact, classify};
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let (_, options) = manual.split_once("### Options of a session").unwrap();
    let said = |key: &str| {
        let row = options.lines().find(|line| line.starts_with(&format!("| `{key}` |"))).unwrap();
        row.trim_end_matches([' ', '|']).rsplit("| ").next().unwrap().to_owned()
    };
    let neighbor = |option: &str| {
        let text = format!(
            "[bgp]\nasn = 65000\nrouter_id = \"192.0.2.1\"\n[prefix_lists]\nx = [\"permit any\"]\ny = [\"deny any\"]\n[[bgp.neighbors]]\naddress = \"10.0.0.1\"\n{option}\n"
        );
        let config = read(&text).into_result().unwrap().0;
        config.bgp.neighbors[0].peer.clone()
    };
    let table = [
        ("description", "\"a\"", "\"b\""),
        ("password", "\"a\"", "\"b\""),
        ("families", "[\"ipv4\"]", "[\"ipv6\"]"),
        ("allowas_in", "false", "\"origin\""),
        ("local_as", "65010", "{ asn = 65010, replace_as = true }"),
        ("enforce_first_as", "true", "false"),
        ("hold_time", "\"9s\"", "\"30s\""),
        ("keepalive", "\"3s\"", "\"4s\""),
        ("send_hold_time", "\"100s\"", "\"0s\""),
        ("connect_retry", "\"3s\"", "\"4s\""),
        ("ttl_security", "false", "1"),
        ("ebgp_multihop", "false", "2"),
        ("next_hop_self", "false", "true"),
        ("nexthop_format", "\"single\"", "\"double\""),
        ("prefix_list_in", "\"x\"", "\"y\""),
        ("prefix_list_out", "\"x\"", "\"y\""),
        ("export", "[{ med = 1 }]", "[{ med = 2 }]"),
        ("max_prefixes", "1", "2"),
        ("role", "\"customer\"", "\"peer\""),
        ("local_address", "\"10.0.0.2\"", "\"10.0.0.3\""),
        ("bind_interface", "\"eth0\"", "\"eth1\""),
        ("port", "179", "1179"),
        ("passive", "false", "true"),
        ("graceful_shutdown", "false", "true"),
        ("shutdown", "false", "\"bye\""),
    ];
    for (key, old, new) in table {
        let [old, new] = [old, new].map(|value| neighbor(&format!("remote_as = 65001\n{key} = {value}")));
        let change = classify(&old, &new);
        let word = match change.impact {
            Impact::Nothing => "nothing",
            Impact::Refresh => "refresh",
            Impact::Reset => "reset",
        };
        assert!(said(key).starts_with(word), "{key}: the manual says {}, it is {word}", said(key));
        assert_eq!(change.keys, [key], "named as in the file");
    }
    let change = classify(&neighbor("remote_as = 65001"), &neighbor("remote_as = \"external\""));
    assert!(change.impact == Impact::Reset && said("remote_as").starts_with("reset"));
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        read(&text);
    }

    /// Near misses find more than noise: a few characters of a good file replaced by others.
    #[test]
    fn a_damaged_file_never_panics(damage in proptest::collection::vec((0_usize..3000, "[\\[\\]{}=\"',.#\\n0-9a-zé-]{0,3}"), 1..6)) {
        let mut text = CONTRACT.to_owned();
        for (at, with) in damage {
            let at = at % text.len();
            if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                text.replace_range(at..=at, &with);
            }
        }
        let outcome = read(&text);
        prop_assert!(outcome.config.is_some() || outcome.problems.iter().any(Problem::is_error));
        let lines = text.lines().count();
        prop_assert!(outcome.problems.iter().all(|p| p.line <= lines + 1));
    }
}
