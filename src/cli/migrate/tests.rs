use bgp::policy::{LimitAction, MaxPrefixes};

use std::path::{Path, PathBuf};

use super::*;
use crate::config::Config;

const FRR: &str = include_str!("../../../tests/migrate/frr.conf");
const AGENT: &str = include_str!("../../../tests/migrate/bgp-agent.conf");

fn frr(text: &str) -> (String, Vec<String>) {
    migrate(&None, &Some((PathBuf::from("frr.conf"), text.to_owned())))
}

/// The configuration a text means, as if it stood in `file`.
fn understood(text: &str, file: &Path) -> Config {
    config::parse(text, file).into_result().unwrap_or_else(|problems| panic!("{problems}\n{text}")).0
}

#[test]
fn the_sample_of_the_design_document_becomes_the_example() {
    let (text, notes) = frr(FRR);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/openstack-ibgp.toml");
    let expected = understood(&std::fs::read_to_string(&example).unwrap(), &example);
    assert_eq!(understood(&text, &example), expected, "\n{text}");
    assert_eq!(notes.len(), 1, "{notes:#?}");
    assert!(notes[0].starts_with("frr.conf:12: 'bgp graceful-shutdown': would announce every route"), "{notes:#?}");
}

#[test]
fn the_agents_options_are_added() {
    let agent = Some((PathBuf::from("bgp-agent.conf"), AGENT.to_owned()));
    let (text, notes) = migrate(&agent, &Some((PathBuf::from("frr.conf"), FRR.to_owned())));
    let config = understood(&text, Path::new("/etc/x.toml"));
    assert!(!config.wiring.adopt_upstream && text.contains("\n# adopt_upstream = true\n"), "{text}");
    let ovn = config.ovn.unwrap();
    assert_eq!(ovn.nb, ["tcp:172.17.0.30:6641"]);
    assert_eq!(ovn.ovs, "tcp:127.0.0.1:6640");
    assert!(ovn.expose_tenant_networks);
    assert_eq!(ovn.address_scopes, ["2237917c7b12489a84de4ef384a2bcae"]);
    assert_eq!(config.wiring.audit_interval.as_secs(), 120);
    let lines: Vec<&str> = notes.iter().map(|n| n.split(": ").take(2).last().unwrap()).collect();
    let expected = [
        "'bgp graceful-shutdown'",
        "debug",
        "bgp_nic",
        "bgp_vrf",
        "bgp_vrf_table_id",
        "ovn_sb_connection",
        "root_helper",
        "root_helper_daemon",
    ];
    assert_eq!(lines, expected);
    assert!(text.contains("#   bgp-agent.conf:2: debug: use -v on the command line\n"), "{text}");
}

#[test]
fn upstreams_tls_defaults_are_filled_in() {
    let agent = "[ovn]\novn_nb_connection = ssl:10.0.0.1:6641\novn_nb_ca_cert = /ca.pem\n[DEFAULT]\nbgp_AS = 65000\nbgp_router_id = 10.0.0.9\n";
    let (text, notes) = migrate(&Some((PathBuf::from("a"), agent.to_owned())), &None);
    assert_eq!(notes, [] as [&str; 0]);
    let tls = understood(&text, Path::new("/etc/x.toml")).ovn.unwrap().tls.unwrap();
    assert_eq!(tls.ca, Path::new("/ca.pem"));
    assert_eq!(tls.key, Path::new("/etc/pki/tls/private/ovn_bgp_agent.key"));
}

#[test]
fn a_numbered_leaf_with_everything() {
    let (text, notes) = frr("\
router bgp 65000
 bgp router-id 192.0.2.1
 timers bgp 3 9
 neighbor LEAF peer-group
 neighbor LEAF remote-as external
 neighbor LEAF bfd profile fast
 neighbor LEAF ttl-security hops 1
 neighbor 10.0.0.1 peer-group LEAF
 neighbor 10.0.0.1 description the left one
 neighbor 10.0.0.1 update-source 10.0.0.2
 neighbor 10.0.0.1 shutdown message being replaced
 neighbor 2001:db8::1 remote-as 65001
 neighbor 2001:db8::1 local-role customer
 neighbor 2001:db8::1 ebgp-multihop 3
 neighbor 2001:db8::1 bfd
 !
 address-family ipv4 unicast
  network 192.0.2.1/32
  neighbor LEAF maximum-prefix 100 90 restart 5
  neighbor LEAF route-map IN in
  maximum-paths 4
 exit-address-family
 address-family ipv6 unicast
  neighbor 2001:db8::1 activate
  no neighbor 10.0.0.1 activate
 exit-address-family
 address-family l2vpn evpn
  advertise-all-vni
 exit-address-family
exit
!
route-map IN permit 10
 match ip address prefix-list DEFAULT
exit
ip prefix-list DEFAULT seq 5 permit 0.0.0.0/0
bfd
 profile fast
  transmit-interval 100
  receive-interval 100
 exit
exit
interface eth0
 ip address 10.0.0.2/30
exit
router ospf
 network 10.0.0.0/8 area 0
");
    let config = understood(&text, Path::new("/etc/x.toml"));
    let [left, right] = config.bgp.neighbors.as_slice() else { panic!("{text}") };
    assert_eq!(left.peer.hold_time.as_secs(), 9);
    assert_eq!(left.peer.ttl_security, Some(1));
    assert_eq!(left.peer.shutdown.as_deref(), Some("being replaced"));
    assert_eq!(left.peer.local_address, Some("10.0.0.2".parse().unwrap()));
    let action = LimitAction::Restart(std::time::Duration::from_mins(5));
    assert_eq!(left.peer.max_prefixes, Some(MaxPrefixes { limit: 100, warning: 90, action }));
    assert_eq!(left.peer.prefix_list_in.as_ref().unwrap().name(), "DEFAULT", "by way of the route-map");
    assert_eq!(left.bfd.as_ref().unwrap().profile, "fast");
    assert_eq!(config.bfd_profiles["fast"].session.transmit_interval.as_millis(), 100);
    assert_eq!(right.peer.multihop, Some(3));
    assert_eq!(right.peer.role, Some(bgp::policy::Role::Customer));
    assert!(right.peer.families.contains(bgp::types::Family::Ipv6));
    assert!(config.bgp.speaker.ebgp_requires_policy, "FRR's default");
    assert_eq!(config.fib.max_paths, 4);
    assert_eq!(config.fib.install.unwrap().name(), "everything", "FRR installs all it learns");
    let places: Vec<&str> = notes.iter().map(|n| n.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["frr.conf:27", "frr.conf:43", "frr.conf:45"], "{notes:#?}");
}

/// A file without `timers bgp` and `bgp ebgp-requires-policy` means what FRR's profile, and the version that wrote it, mean by that.
#[test]
fn what_frr_takes_for_granted_depends_on_its_profile_and_version() {
    for (head, requires, hold, keepalive) in [
        ("", true, 90, None),
        ("frr version 8.4.4\nfrr defaults traditional\n", true, 90, None),
        ("frr version 10.3-1~deb12u1\n", true, 90, None),
        ("frr version 7.3.1\n", false, 90, None),
        ("frr version 8.4.4\nfrr defaults datacenter\n", false, 9, Some(3)),
        ("frr defaults datacenter\nrouter bgp 65000\n timers bgp 10 30\n", false, 30, Some(10)),
        ("frr defaults datacenter\nrouter bgp 65000\n bgp ebgp-requires-policy\n", true, 9, Some(3)),
    ] {
        let (text, notes) = frr(&format!(
            "{head}router bgp 65000\n bgp router-id 192.0.2.1\n neighbor FABRIC peer-group\n neighbor FABRIC remote-as external\n \
             neighbor eth1 interface peer-group FABRIC\n neighbor eth2 interface remote-as external\n"
        ));
        assert_eq!(notes, [] as [&str; 0], "{head}");
        let bgp = understood(&text, Path::new("/etc/x.toml")).bgp;
        assert_eq!(bgp.speaker.ebgp_requires_policy, requires, "{head}");
        for neighbor in bgp.neighbors {
            assert_eq!(neighbor.peer.hold_time.as_secs(), hold, "{head}");
            assert_eq!(neighbor.peer.keepalive.map(|keepalive| keepalive.as_secs()), keepalive, "{head}");
        }
    }
}

/// ovn-bgp-agent writes a VRF with two families; families we do not have stand between those we have.
#[test]
fn what_follows_a_skipped_family_or_vrf_is_read_as_what_it_is() {
    let (text, notes) = frr("\
ip router-id 192.0.2.1
router bgp 65000
 no bgp ebgp-requires-policy
 neighbor eth0 interface remote-as external
 address-family ipv4 multicast
  neighbor eth0 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor eth0 activate
  neighbor eth0 route-map OUT out
 exit-address-family
exit
router bgp 65000 vrf bgp-vrf
 address-family ipv4 unicast
  redistribute connected
 exit-address-family
 address-family ipv6 unicast
  redistribute connected
 exit-address-family
exit
route-map OUT permit 10
 match ipv6 address prefix-list HOSTS
 set large-community 65000:1:2
exit
ipv6 prefix-list HOSTS permit ::/0 ge 128
ip route 10.0.0.0/8 blackhole
");
    let places: Vec<&str> = notes.iter().map(|n| n.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["frr.conf:5", "frr.conf:13", "frr.conf:23", "frr.conf:26"], "{notes:#?}");
    let config = understood(&text, Path::new("/etc/x.toml"));
    assert_eq!(config.bgp.speaker.router_id.to_string(), "192.0.2.1");
    let [peer] = config.bgp.neighbors.as_slice() else { panic!("{text}") };
    assert_eq!(peer.peer.families, bgp::types::Families::ALL);
    assert_eq!(
        peer.peer.prefix_list_out.as_ref().unwrap().name(),
        "any-ipv4-and-HOSTS",
        "a filter must not be lost for what it sets"
    );
}

/// FRR numbers the rules of both families from 5 on, and has a list for each.
#[test]
fn lists_of_two_families_become_one_that_means_the_same() {
    let migrated = |ipv4: &str, ipv6: &str| {
        let (text, notes) = frr(&format!(
            "router bgp 65000\n bgp router-id 192.0.2.1\n no bgp ebgp-requires-policy\n neighbor eth0 interface remote-as external\n \
             address-family ipv4 unicast\n  {ipv4}\n exit-address-family\n \
             address-family ipv6 unicast\n  neighbor eth0 activate\n  {ipv6}\n exit-address-family\nexit\n\
             ip prefix-list HOSTS seq 5 deny 10.0.0.0/8 ge 32\nip prefix-list HOSTS seq 10 permit any\n\
             ipv6 prefix-list HOSTS seq 5 permit ::/0 ge 128\nipv6 prefix-list SIX seq 5 permit 2001:db8::/32 ge 128\n"
        ));
        assert_eq!(notes, [] as [&str; 0]);
        let config = understood(&text, Path::new("/etc/x.toml"));
        let list = config.bgp.neighbors[0].peer.prefix_list_out.clone().unwrap();
        ["10.0.0.1/32", "192.0.2.1/32", "2001:db8::1/128", "2001:db9::1/128", "2001:db9::/64"]
            .map(|prefix| list.permits(&prefix.parse().unwrap()))
    };
    let hosts = "neighbor eth0 prefix-list HOSTS out";
    let six = "neighbor eth0 prefix-list SIX out";
    assert_eq!(migrated(hosts, hosts), [false, true, true, true, false]);
    assert_eq!(migrated(hosts, six), [false, true, true, false, false]);
    assert_eq!(migrated(hosts, ""), [false, true, true, true, true]);
    assert_eq!(migrated("", six), [true, true, true, false, false]);
}

#[test]
fn a_password_is_not_in_the_remarks() {
    let (_, notes) = frr("router bgp 1\n neighbor nobody password secret\n");
    assert_eq!(notes, ["frr.conf:2: 'neighbor nobody password …': there is no such neighbour yet"]);
}

#[test]
fn nonsense_is_remarked_on_line_by_line() {
    let (text, notes) = frr("foo bar\nrouter bgp x\n neighbor\nip prefix-list\nroute-map\n");
    assert_eq!(notes.len(), 4, "{notes:#?}");
    assert!(!faults(&text).is_empty());
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "((router bgp|neighbor|ip prefix-list|route-map|bfd|profile|exit|\\[ovn\\]|[a-z0-9.:/ =]{0,9})[ \\n])*") {
        migrate(&Some((PathBuf::from("a"), text.clone())), &Some((PathBuf::from("f"), text)));
    }
}
