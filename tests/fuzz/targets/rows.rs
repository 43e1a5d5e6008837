//! Northbound rows of odd contents: the view taken in bit by bit is the one of the final rows, a focused one comes to the same desired
//! state, and so do updates.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ovn_bgpd::desired::{Options, Scope, compute, update};
use ovn_bgpd::host::Facts;
use ovn_bgpd::nb::{COLUMNS, View};
use ovn_bgpd::ovsdb::value::{Atom, Database, Row, Uuid, Value};

/// What the columns and maps are made of.
const WORDS: &[&str] = &[
    "", "me", "other", "me,other", "port-0", "port-1", "r0", "neutron-r0", "neutron-n0", "n1", "phys1", "sys-me", "virtual", "router",
    "localnet", "fa:16:3e:00:00:01 10.0.0.1 2001:db8::1", "fa:16:3e:00:00:02 10.0.0.2", "unknown", "dynamic", "10.0.0.1/24", "2001:db8::1/64",
    "10.0.0.1", "192.0.2.7", "10.0.0.50:80", "[2001:db8::50]:443", "dnat_and_snat", "snat", "fa:16:3e:00:00:0a", "0.0.0.0/0",
    "network:router_interface", "True", "false", "pf-floatingip-x", "300.0.0.1", "\u{1f980}\n\"", "scope",
];
const KEYS: &[&str] = &[
    "requested-chassis", "network_name", "router-port", "hosting-chassis", "neutron:network_name", "neutron:host_id", "neutron:cidrs",
    "neutron:device_owner", "neutron:device_id", "neutron:subnet_pool_addr_scope4", "neutron:fip_network_id", "neutron:router_name",
    "lr_ref", "neutron:vip", "neutron:vip_fip", "neutron:vip_port_id", "neutron:fip-distributed", "10.0.0.50:80",
];

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<usize> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(usize::from(*first))
    }

    fn word(&mut self, words: &[&str]) -> Option<Atom> {
        let at = self.next()?;
        Some(Atom::String(Arc::from(words[at % words.len()])))
    }

    fn atom(&mut self) -> Option<Atom> {
        Some(match self.next()? % 16 {
            0 => Atom::Integer(i64::try_from(self.next()?).ok()? * 20),
            1 | 2 => Atom::Boolean(self.next()? % 2 == 0),
            3..7 => Atom::Uuid(uuid(self.next()?)),
            _ => self.word(WORDS)?,
        })
    }

    fn value(&mut self) -> Option<Value> {
        let count = self.next()? % 6;
        let mut value = if self.next()? % 2 == 0 {
            Value::Map((0..count).map(|_| self.word(KEYS).zip(self.word(WORDS))).collect::<Option<_>>()?)
        } else {
            Value::Set((0..count.min(3)).map(|_| self.atom()).collect::<Option<_>>()?)
        };
        value.sort();
        Some(value)
    }

    /// A table, a row, and what the row holds now; nothing if it is deleted.
    fn change(&mut self) -> Option<(&'static str, Uuid, Option<Row>)> {
        let at = self.next()? % COLUMNS.len();
        let (table, columns) = COLUMNS[at];
        // No two tables share a UUID.
        let row = uuid(at + COLUMNS.len() * (self.next()? % 5));
        let present = self.next()?;
        if present % 8 == 0 {
            return Some((table, row, None));
        }
        let mut values = Row::new();
        for (n, column) in columns.iter().enumerate() {
            if present >> (n % 7 + 1) & 1 == 1 || n == 0 {
                values.insert(Arc::from(*column), self.value()?);
            }
        }
        Some((table, row, Some(values)))
    }
}

fn uuid(n: usize) -> Uuid {
    Uuid::from_u128((n % (5 * COLUMNS.len())) as u128 + 1)
}

fn facts() -> Facts {
    serde_json::from_value(serde_json::json!({
        "chassis": {"hostname": "me", "system_id": "sys-me"},
        "bridge_mappings": [{"physnet": "phys1", "bridge": "br-ex", "index": 1}],
        "bridges": {"br-ex": {"ifindex": 5, "mac": "0e:00:00:00:00:01", "up": true, "in_ovs": true, "table": 201,
                              "patch_ports": {"patch-port-0-to-br-int": 2}}},
        "devices": {}, "nb_remote": null, "vlan_devices": true,
    }))
    .unwrap()
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let Some(flags) = bytes.next() else { return };
    let options = Options {
        expose_tenant_networks: flags & 1 != 0,
        expose_ipv6_gua_tenant_networks: flags & 2 != 0,
        require_snat_disabled_for_tenant_networks: flags & 4 != 0,
        ..Options::default()
    };
    let facts = facts();
    let (mut database, mut view) = (Database::new(), View::default());
    let mut focused = View::focused(facts.chassis.clone());
    let mut kept = compute(&view, &facts, &options);
    let mut scope = Scope::new(&view, &facts);
    while let Some((table, row, values)) = bytes.change() {
        let rows = database.entry(Arc::from(table)).or_default();
        match values {
            Some(values) => rows.insert(row, values),
            None => rows.remove(&row),
        };
        view.apply(&database, [(table, row)]);
        let applied = focused.apply(&database, [(table, row)]);
        let now = compute(&view, &facts, &options);
        assert_eq!(compute(&focused, &facts, &options), now);
        if !applied.touched.iter().any(|touched| scope.concerns(&focused, touched)) {
            assert_eq!(kept, now, "what is called foreign is");
        }
        if update(&mut kept, &focused, &facts, &options, &scope, &applied.touched).is_some() {
            assert_eq!(kept, now);
        }
        kept = now;
        scope = Scope::new(&focused, &facts);
    }
    assert_eq!(view, View::new(&database).0);
    assert_eq!(focused, View::focused(facts.chassis.clone()).filled(&database).0);
});
