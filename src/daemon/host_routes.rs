//! The host's own prefixes: from the configuration, from files, and from the addresses of interfaces.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::config::Advertise;

/// Everything `[advertise]` asks for, with where each prefix comes from.
pub(super) fn collect(
    advertise: &Advertise,
    addresses: &BTreeMap<String, BTreeSet<IpNet>>,
) -> BTreeMap<IpNet, BTreeSet<String>> {
    let mut routes: BTreeMap<IpNet, BTreeSet<String>> = BTreeMap::new();
    let mut add = |prefix: IpNet, why: &str| {
        routes.entry(prefix.trunc()).or_default().insert(why.to_owned());
    };
    advertise.prefixes.iter().for_each(|prefix| add(*prefix, "[advertise] prefixes"));
    advertise.from_files.iter().for_each(|prefix| add(*prefix, "[advertise] files"));
    for (interface, found) in addresses {
        let why = format!("address of {interface}");
        // The address itself, not the network it lies in: that one belongs to whoever routes it.
        found.iter().filter(|net| is_routable(net)).for_each(|net| add(IpNet::from(net.addr()), &why));
    }
    routes
}

/// Loopback and link-local addresses mean nothing elsewhere.
fn is_routable(net: &IpNet) -> bool {
    match net {
        IpNet::V4(v4) => !v4.addr().is_loopback() && !v4.addr().is_link_local(),
        IpNet::V6(v6) => !v6.addr().is_loopback() && !v6.addr().is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn interfaces_give_host_routes_and_every_source_is_named() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let advertise = Advertise {
            prefixes: vec![net("172.30.1.1/32")],
            files: Vec::new(),
            from_files: Arc::new(vec![net("192.0.2.0/24")]),
            interfaces: vec!["lo".into()],
        };
        let found = ["127.0.0.1/8", "::1/128", "fe80::1/64", "172.30.1.1/32", "198.51.100.7/24", "2001:db8::7/64"];
        let addresses = BTreeMap::from([("lo".to_owned(), found.into_iter().map(net).collect())]);
        let routes = collect(&advertise, &addresses);
        let shown: Vec<String> = routes.keys().map(ToString::to_string).collect();
        assert_eq!(shown, ["172.30.1.1/32", "192.0.2.0/24", "198.51.100.7/32", "2001:db8::7/128"]);
        let reasons: Vec<_> = routes[&net("172.30.1.1/32")].iter().map(String::as_str).collect();
        assert_eq!(reasons, ["[advertise] prefixes", "address of lo"]);
    }
}
