//! What we write is what we would read, and what the rtnetlink crate reads and writes again.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::*;
use crate::actuate::netlink::wire::{Frame, Request, frames};
use crate::mac::Mac;

const FRA_IIFNAME: u16 = 3;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_UNKNOWN: u16 = 99;

/// Reads a request as if the kernel had sent it.
fn sent<T: PartialEq + std::fmt::Debug>(request: &Request, read: impl Fn(&Frame<'_>) -> Option<T>) -> Option<T> {
    let mut bytes = Vec::new();
    request.write(1, 0, &mut bytes);
    let first = |bytes: &[u8]| frames(bytes).next().and_then(|frame| read(&frame));
    let ours = first(&bytes);
    assert_eq!(first(&retold(&bytes)), ours, "in the words of the rtnetlink crate");
    ours
}

/// A message as an independent library understands it: read, and written again.
fn retold(bytes: &[u8]) -> Vec<u8> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).unwrap();
    let mut again = vec![0; message.buffer_len()];
    message.serialize(&mut again);
    again
}

fn address(v6: bool) -> BoxedStrategy<IpAddr> {
    if v6 { any::<[u8; 16]>().prop_map(IpAddr::from).boxed() } else { any::<[u8; 4]>().prop_map(IpAddr::from).boxed() }
}

fn net() -> impl Strategy<Value = IpNet> {
    (any::<bool>(), 0u8..=128).prop_flat_map(|(v6, length)| {
        let length = if v6 { length } else { length % 33 };
        address(v6).prop_map(move |address| IpNet::new_assert(address, length).trunc())
    })
}

fn hop(v6_route: bool) -> impl Strategy<Value = Hop> {
    let via = (any::<bool>(), address(true), address(v6_route))
        .prop_map(|(other_family, v6, same)| if other_family { v6 } else { same });
    (1u32.., via).prop_map(|(ifindex, via)| Hop { ifindex, via: Some(via) })
}

fn route() -> impl Strategy<Value = Route> {
    net().prop_flat_map(|to| {
        let v6 = matches!(to, IpNet::V6(_));
        let connected = (1u32..).prop_map(|ifindex| vec![Hop { ifindex, via: None }]);
        let hops = prop_oneof![connected, proptest::collection::vec(hop(v6), 1..5)];
        (any::<u32>(), any::<u8>(), any::<u32>(), proptest::option::of(address(v6)), hops).prop_map(
            move |(table, protocol, metric, source, hops)| Route { to, table, protocol, metric, source, hops },
        )
    })
}

proptest! {
    #[test]
    fn rules(to in net(), table in any::<u32>(), priority in any::<u32>(), no_default in any::<bool>(), protocol in any::<u8>()) {
        let rule = Rule { to, table, priority, protocol, no_default };
        prop_assert_eq!(sent(&rule.add(), Rule::read), Some(rule.clone()));
        prop_assert_eq!(sent(&rule.remove(), Rule::read_table), Some(table));
    }

    #[test]
    fn routes(route in route()) {
        prop_assert_eq!(sent(&route.replace(), Route::read), Some(route.clone()));
        prop_assert_eq!(sent(&route.add(), Route::read), Some(route));
    }

    #[test]
    fn neighbours(
        ifindex in any::<u32>(),
        address in any::<bool>().prop_flat_map(address),
        mac in any::<[u8; 6]>().prop_map(Mac),
        proxy in any::<bool>(),
        protocol in any::<u8>(),
    ) {
        let entry = Neighbour { ifindex, address, mac: (!proxy).then_some(mac), permanent: !proxy, proxy, protocol };
        prop_assert_eq!(sent(&entry.replace(), Neighbour::read), Some(entry));
    }

    #[test]
    fn addresses(ifindex in any::<u32>(), net in net(), protocol in any::<u8>()) {
        let address = Address { ifindex, net, protocol, usable: true };
        prop_assert_eq!(sent(&address.replace(), Address::read), Some(address));
    }

    #[test]
    fn vlan_devices(parent in any::<u32>(), tag in any::<u16>()) {
        let vlan = Vlan { parent, tag };
        let device = sent(&Device::add_vlan("br-ex.7", vlan), Device::read).unwrap();
        prop_assert_eq!(device.name, "br-ex.7");
        prop_assert!(device.up);
        prop_assert_eq!(device.vlan, Some(vlan));
        let device = sent(&Device::set_alias("br-ex.7", "ovn-bgpd"), Device::read).unwrap();
        prop_assert_eq!(device.alias.as_deref(), Some("ovn-bgpd"));
    }

    #[test]
    fn nothing_received_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..120), family in 0u8..12) {
        let mut body = body;
        if let Some(first) = body.first_mut() {
            *first = family;
        }
        let frame = Frame { kind: 0, flags: 0, sequence: 0, port: 0, body: &body };
        let _ = (Rule::read(&frame), Rule::read_table(&frame), Route::read(&frame));
        let _ = (Neighbour::read(&frame), Address::read(&frame), Device::read(&frame));
    }
}

#[test]
fn a_rule_with_another_selector_is_none_of_ours() {
    let rule = Rule { to: "10.0.0.1/32".parse().unwrap(), table: 10, priority: 32000, protocol: 99, no_default: false };
    assert_eq!(sent(&rule.add().text(FRA_IIFNAME, "eth0"), Rule::read), None);
    assert_eq!(sent(&rule.add().attr(FRA_UNKNOWN, &[1]), Rule::read), None, "whatever that may mean");
    assert_eq!(sent(&rule.add().attr(FRA_UNKNOWN, &[0]), Rule::read), Some(rule.clone()));
    assert_eq!(
        sent(&rule.add().attr(FRA_SUPPRESS_PREFIXLEN, &1u32.to_ne_bytes()), Rule::read),
        None,
        "suppresses more than the default route"
    );
    assert_eq!(sent(&rule.add().attr(FRA_SUPPRESS_PREFIXLEN, &[255; 4]), Rule::read), Some(rule));
}
