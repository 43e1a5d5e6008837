//! Names and addresses we give to things, all derived: the same host comes to the same ones after a restart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::host::Facts;

/// The longest name of a kernel device.
const DEVICE_NAME: usize = 15;
/// What a VLAN device keeps of its bridge's name: `.` and four digits follow.
const STEM: usize = DEVICE_NAME - 5;

fn cut(name: &str, most: usize) -> &str {
    let end = name.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= most).last().unwrap_or(0);
    name.get(..end).unwrap_or(name)
}

/// The kernel device of a bridge: its name, cut to what the kernel can hold.
pub(super) fn bridge_device(bridge: &str) -> &str {
    cut(bridge, DEVICE_NAME)
}

/// The VLAN device of a tag on a bridge: the first ten octets of the bridge's name, a dot, the tag.
///
/// Bridges that begin alike would share a device: all but the first in the mappings get their position into the name.
pub(super) fn vlan_device(facts: &Facts, bridge: &str, tag: u16) -> String {
    let stem = cut(bridge, STEM);
    let first = facts.bridge_mappings.iter().find(|mapping| cut(&mapping.bridge, STEM) == stem);
    match first {
        Some(first) if first.bridge != bridge => {
            let index = index(facts, bridge);
            format!("{}~{index:02x}.{tag}", cut(bridge, STEM - 3))
        }
        _ => format!("{stem}.{tag}"),
    }
}

/// The position of a bridge in the mappings (the first, if it is mapped more than once); 0 if it is not mapped.
pub(super) fn index(facts: &Facts, bridge: &str) -> u32 {
    facts.bridge_mappings.iter().find(|mapping| mapping.bridge == bridge).map_or(0, |mapping| mapping.index)
}

/// The addresses that let the kernel answer ARP and NDP on a bridge (no tag) or one of its VLAN devices.
///
/// With i the position of the bridge and k the tag, or i for the bridge itself:
///
/// * IPv4 `169.254.<i + 16·(k div 256)>.<k mod 256>`. For k < 256 that is `169.254.i.k`, what ovn-bgp-agent uses; it takes k
///   modulo 256, so that tags 44 and 300 collide there. Here no two devices of the first 15 bridges do.
/// * IPv6 `fd53:d91e:400:7f17::<i>:<k>`.
/// * A tag equal to i would have the bridge's own addresses: it takes 0 for k, which is no VLAN.
pub(super) fn arp_ndp_addresses(index: u32, tag: Option<u16>) -> [IpNet; 2] {
    let [.., high, low] = index.to_be_bytes();
    let i = u16::from_be_bytes([high, low]);
    let k = match tag {
        None => i,
        Some(tag) if tag == i => 0,
        Some(tag) => tag,
    };
    let [page, k_low] = match tag {
        None => [0, low],
        Some(_) => k.to_be_bytes(),
    };
    let v4 = Ipv4Addr::new(169, 254, low.wrapping_add(page.wrapping_mul(16)), k_low);
    let v6 = Ipv6Addr::new(0xfd53, 0xd91e, 0x400, 0x7f17, 0, 0, i, k);
    [IpAddr::V4(v4).into(), IpAddr::V6(v6).into()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::host::BridgeMapping;

    fn addresses(index: u32, tag: Option<u16>) -> [String; 2] {
        arp_ndp_addresses(index, tag).map(|net| net.addr().to_string())
    }

    #[test]
    fn the_known_plan_below_256() {
        assert_eq!(addresses(1, None), ["169.254.1.1", "fd53:d91e:400:7f17::1:1"]);
        assert_eq!(addresses(2, None), ["169.254.2.2", "fd53:d91e:400:7f17::2:2"]);
        assert_eq!(addresses(1, Some(100)), ["169.254.1.100", "fd53:d91e:400:7f17::1:64"]);
        assert_eq!(addresses(1, Some(44)), ["169.254.1.44", "fd53:d91e:400:7f17::1:2c"]);
        assert_eq!(addresses(1, Some(300)), ["169.254.17.44", "fd53:d91e:400:7f17::1:12c"]);
    }

    #[test]
    fn no_two_devices_share_an_address() {
        let mut seen = BTreeSet::new();
        for index in 1..=15 {
            for tag in std::iter::once(None).chain((1..=4094).map(Some)) {
                for address in arp_ndp_addresses(index, tag) {
                    assert!(seen.insert(address), "{address} again, for bridge {index} and tag {tag:?}");
                }
            }
        }
    }

    #[test]
    fn device_names() {
        let mapping =
            |index, bridge: &str| BridgeMapping { physnet: format!("p{index}"), bridge: bridge.into(), index };
        let facts = Facts {
            bridge_mappings: vec![mapping(1, "br-ex"), mapping(2, "br-provider-a"), mapping(3, "br-provider-b")],
            ..Facts::default()
        };
        assert_eq!(vlan_device(&facts, "br-ex", 100), "br-ex.100");
        assert_eq!(vlan_device(&facts, "br-provider-a", 4094), "br-provide.4094");
        assert_eq!(vlan_device(&facts, "br-provider-b", 4094), "br-prov~03.4094");
        assert_eq!(bridge_device("br-provider-long"), "br-provider-lon");
        assert_eq!(cut("ééé", 5), "éé");
    }
}
