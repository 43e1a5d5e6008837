//! `ovn-bgpd explain` on a real host in a namespace: every reason for which an address is not announced is named.
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

use cloud::Cloud;

/// Waits until `explain` comes to this verdict; the last one is shown when it does not.
fn verdict(cloud: &Cloud, address: &str, parts: &[&str]) {
    let mut said = String::new();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let output = cloud.ask("daemon", &["explain", address]);
        if !output.stdout.is_empty() {
            said = String::from_utf8(output.stdout).unwrap();
        }
        let first = said.lines().next().unwrap_or_default();
        if parts.iter().all(|part| first.contains(part)) {
            let announced = parts.contains(&"is announced");
            assert_eq!(output.status.code(), Some(i32::from(!announced)), "{said}");
            return;
        }
        assert!(std::time::Instant::now() < end, "{parts:?} is not in the first line of\n{said}\n{}", cloud.logs());
    }
}

fn routes(cloud: &Cloud) -> String {
    String::from_utf8(cloud.ask("daemon", &["show", "routes"]).stdout).unwrap()
}

fn add_port(cloud: &Cloud, name: &str, switch: &str, addresses: &str) {
    cloud.nbctl(&format!(
        "lsp-add {switch} {name} -- lsp-set-addresses {name} 02:00:00:00:00:01~{addresses} \
         -- set Logical_Switch_Port {name} up=true options:requested-chassis=hv1 \
         external_ids:neutron\\:network_name={switch}"
    ));
}

#[test]
fn every_reason_for_silence_is_named() {
    Cloud::with(|mut cloud| {
        add_port(&cloud, "vm", "neutron-1", "203.0.113.10~2001:db8::10");
        add_port(&cloud, "tenant", "neutron-2", "192.168.0.5");
        cloud.start_leaf("");
        let own = "[advertise]\nprefixes = [\"172.30.1.1/32\"]\n";

        // Blind, and the host's own prefixes need no sight.
        cloud.nb = None;
        cloud.start_daemon(own);
        verdict(&cloud, "203.0.113.10", &["not announced: the databases have not been read yet", "nb.sock"]);
        verdict(&cloud, "172.30.1.1", &["is announced"]);
        cloud.start_nb();
        verdict(&cloud, "203.0.113.10", &["is announced"]);

        // The rows.
        cloud.nbctl("set Logical_Switch_Port vm up=false");
        verdict(&cloud, "203.0.113.10", &["not announced: it is not up"]);
        cloud.nbctl("set Logical_Switch_Port vm up=true options:requested-chassis=hv2");
        verdict(&cloud, "203.0.113.10", &["not announced: it belongs to another host (hv2, this is hv1)"]);
        cloud.nbctl("set Logical_Switch_Port vm options:requested-chassis=hv1");
        verdict(
            &cloud,
            "192.168.0.5",
            &["not announced: network neutron-2 is not a provider network", "and expose_tenant_networks is off"],
        );
        verdict(&cloud, "203.0.113.77", &["not announced: no row of the Northbound database has the address"]);
        verdict(&cloud, "203.0.113.10", &["is announced"]);

        // The kernel says no.
        fs::write("/proc/sys/net/ipv6/conf/br-ex/disable_ipv6", "1").unwrap();
        verdict(&cloud, "2001:db8::10", &["not announced: something it needs could not be made", "br-ex"]);
        verdict(&cloud, "203.0.113.10", &["is announced"]);
        fs::write("/proc/sys/net/ipv6/conf/br-ex/disable_ipv6", "0").unwrap();
        verdict(&cloud, "2001:db8::10", &["is announced"]);

        // The neighbours.
        let config = fs::read_to_string(cloud.file("daemon.toml")).unwrap();
        let limited = config.replacen("families", "prefix_list_out = \"some\"\nfamilies", 1);
        let list = "[prefix_lists]\nsome = [\"deny 203.0.113.0/24 ge 32\", \"permit 0.0.0.0/0 le 32\"]\n";
        fs::write(cloud.file("daemon.toml"), limited + list).unwrap();
        assert!(cloud.ask("daemon", &["reload"]).status.success());
        verdict(&cloud, "203.0.113.10", &["is not announced to any neighbour: 10.9.0.2 (", "some", "fd09::2 ("]);
        let shown = routes(&cloud);
        let line = shown.lines().find(|line| line.starts_with("203.0.113.10/32")).unwrap();
        assert!(line.contains("10.9.0.2 (") && line.contains("some"), "{shown}");
        fs::write(cloud.file("daemon.toml"), config).unwrap();
        assert!(cloud.ask("daemon", &["reload"]).status.success());
        verdict(&cloud, "203.0.113.10", &["is announced"]);
        cloud.leaf = None;
        verdict(&cloud, "203.0.113.10", &["is not announced to any neighbour: 10.9.0.2 (the session is not up"]);
        cloud.eventually("show routes says so as well", || routes(&cloud).contains("10.9.0.2 (the session is not up"));
        cloud.start_leaf("");
        verdict(&cloud, "203.0.113.10", &["is announced"]);

        // On request.
        assert!(cloud.ask("daemon", &["drain"]).status.success());
        verdict(&cloud, "203.0.113.10", &["not announced: the host is being drained"]);
        verdict(&cloud, "172.30.1.1", &["not announced: the host is being drained"]);
        assert!(cloud.ask("daemon", &["undrain"]).status.success());
        verdict(&cloud, "203.0.113.10", &["is announced"]);

        // Away later: what it said stands, and that is said.
        cloud.nb = None;
        cloud.eventually("the outage is a remark", || {
            let output = cloud.ask("daemon", &["explain", "203.0.113.10"]);
            let said = String::from_utf8(output.stdout).unwrap();
            output.status.success()
                && said.contains("the Northbound database is out of reach; what it said last stands")
        });
    });
}
