//! A small random cloud: few names, so that rows meet; every column may be missing, odd or of the wrong type.

use std::collections::BTreeMap;
use std::sync::Arc;

use ovn_bgpd::host::Facts;
use ovn_bgpd::ovsdb::value::{Atom, Database, Row, Uuid, Value};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// A row that is set, or with `None` deleted.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) table: &'static str,
    pub(crate) label: String,
    pub(crate) columns: Option<BTreeMap<&'static str, Column>>,
}

/// A value before references are resolved.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    Strings(Vec<String>),
    Bools(Vec<bool>),
    Integers(Vec<i64>),
    References(Vec<String>),
    Map(Vec<(String, String)>),
}

/// The UUID of a label; another salt gives other UUIDs, and with them another order of rows.
pub(crate) fn uuid(label: &str, salt: u64) -> Uuid {
    let start = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128 ^ (u128::from(salt) << 64);
    let hash = label.bytes().fold(start, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b).rotate_left(23)
    });
    Uuid::from_u128(hash)
}

fn string(text: &str) -> Atom {
    Atom::String(Arc::from(text))
}

fn value(column: &Column, salt: u64) -> Value {
    match column {
        Column::Strings(items) => Value::Set(items.iter().map(|text| string(text)).collect()),
        Column::Bools(items) => Value::Set(items.iter().map(|b| Atom::Boolean(*b)).collect()),
        Column::Integers(items) => Value::Set(items.iter().map(|n| Atom::Integer(*n)).collect()),
        Column::References(items) => Value::Set(items.iter().map(|label| Atom::Uuid(uuid(label, salt))).collect()),
        Column::Map(pairs) => {
            let unique: BTreeMap<_, _> = pairs.iter().cloned().collect();
            Value::Map(unique.iter().map(|(k, v)| (string(k), string(v))).collect())
        }
    }
}

/// Applies a change to a database; the row it was about.
pub(crate) fn apply(database: &mut Database, change: &Change, salt: u64) -> (&'static str, Uuid) {
    let uuid = uuid(&format!("{}/{}", change.table, change.label), salt);
    let table = database.entry(Arc::from(change.table)).or_default();
    match &change.columns {
        None => {
            table.remove(&uuid);
        }
        Some(columns) => {
            let row: Row = columns.iter().map(|(name, column)| (Arc::from(*name), value(column, salt))).collect();
            table.insert(uuid, row);
        }
    }
    (change.table, uuid)
}

/// The host the worlds are seen from.
pub(crate) fn facts() -> Facts {
    serde_json::from_value(serde_json::json!({
        "chassis": {"hostname": "me", "system_id": "sys-me"},
        "bridge_mappings": [
            {"physnet": "phys1", "bridge": "br-ex", "index": 1}, {"physnet": "phys2", "bridge": "br-two", "index": 2},
        ],
        "bridges": {
            "br-ex": {"ifindex": 5, "mac": "0e:00:00:00:00:01", "up": true, "in_ovs": true, "table": 201,
                      "patch_ports": {"patch-port-0-to-br-int": 2, "patch-port-1-to-br-int": 3}},
            "br-two": {"ifindex": null, "mac": null, "up": false, "in_ovs": false, "table": null, "patch_ports": {}},
        },
        "devices": {}, "nb_remote": null, "vlan_devices": true,
    }))
    .unwrap()
}

const ADDRESSES: &[&str] = &[
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.1",
    "192.0.2.1",
    "192.0.2.2",
    "2001:db8::1",
    "2001:db8::2",
    "2001:DB8:0::2",
    "2a00:1450::1",
    "fe80::1",
    "0.0.0.0",
];
const CIDRS: &[&str] = &["10.0.0.1/24", "10.0.1.1/24", "10.0.0.1/16", "2001:db8::1/64", "2a00:1450::1/64"];
const MACS: &[&str] = &["fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "fa:16:3e:00:00:03", "unknown", "dynamic"];
const HOSTS: &[&str] = &["me", "me", "other", "sys-me", "me,other", "other,me", "other,third", "", ","];
const NETWORKS: &[&str] = &["neutron-n0", "neutron-n1", "n1", "neutron-n2"];
const ROUTERS: &[&str] = &["neutron-r0", "r0", "neutron-r1"];

/// One of the pool, now and then something else.
fn one(pool: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    (select(pool), 0..150).prop_map(|(sane, odd)| if odd == 0 { "nonsense".to_owned() } else { sane.to_owned() })
}

fn labels(table: &'static str, most: usize) -> impl Strategy<Value = Column> {
    vec(0..LABELS, 0..=most)
        .prop_map(move |items| Column::References(items.iter().map(|n| format!("{table}/row-{n}")).collect()))
}

/// Pairs of a key and values for it.
fn map(keys: Vec<(&'static str, BoxedStrategy<String>)>) -> BoxedStrategy<Column> {
    keys.into_iter()
        .map(|(key, value)| option::weighted(0.8, value).prop_map(move |v| v.map(|v| (key.to_owned(), v))).boxed())
        .fold(Just(Vec::new()).boxed(), |all: BoxedStrategy<Vec<_>>, pair| {
            (all, pair)
                .prop_map(|(mut all, pair)| {
                    all.extend(pair);
                    all
                })
                .boxed()
        })
        .prop_map(Column::Map)
        .boxed()
}

fn strings(item: impl Strategy<Value = String> + 'static, most: usize) -> BoxedStrategy<Column> {
    vec(item, 0..=most).prop_map(Column::Strings).boxed()
}

/// How many rows a table can have.
const LABELS: usize = 5;

fn port_name() -> BoxedStrategy<String> {
    (0..LABELS).prop_map(|n| format!("port-{n}")).boxed()
}

fn columns(table: &'static str, row: usize) -> Vec<(&'static str, BoxedStrategy<Column>)> {
    // The schema keeps the names of ports unique.
    let name = |prefix: &str| Just(Column::Strings(vec![format!("{prefix}-{row}")])).boxed();
    match table {
        "Logical_Switch_Port" => vec![
            ("name", name("port")),
            (
                "type",
                strings(one(&["", "", "", "virtual", "router", "router", "localnet", "localnet", "localport"]), 1),
            ),
            (
                "addresses",
                strings(
                    (one(MACS), vec(one(ADDRESSES), 0..3)).prop_map(|(mac, ips)| format!("{mac} {}", ips.join(" "))),
                    2,
                ),
            ),
            ("up", vec(prop::bool::weighted(0.8), 0..=1).prop_map(Column::Bools).boxed()),
            ("tag", vec(select(vec![0_i64, 1, 100, 300, 5000]), 0..=1).prop_map(Column::Integers).boxed()),
            (
                "options",
                map(vec![
                    ("requested-chassis", one(HOSTS).boxed()),
                    ("network_name", one(&["phys1", "phys1", "phys2", "phys3"]).boxed()),
                    ("router-port", (0..LABELS).prop_map(|n| format!("lrp-{n}")).boxed()),
                ]),
            ),
            (
                "external_ids",
                map(vec![
                    ("neutron:network_name", one(NETWORKS).boxed()),
                    ("neutron:host_id", one(&["me", "other", "sys-me"]).boxed()),
                    ("neutron:cidrs", vec(one(CIDRS), 0..3).prop_map(|cidrs| cidrs.join(" ")).boxed()),
                    ("neutron:device_owner", one(&["network:router_interface", "compute:nova"]).boxed()),
                    ("neutron:device_id", one(ROUTERS).boxed()),
                    ("neutron:subnet_pool_addr_scope4", one(&["scope-a", "scope-b"]).boxed()),
                    ("neutron:revision_number", one(&["1", "2"]).boxed()),
                ]),
            ),
        ],
        "Logical_Switch" => {
            vec![("name", strings(one(NETWORKS), 1)), ("ports", labels("Logical_Switch_Port", 4).boxed())]
        }
        "Logical_Router" => vec![
            ("name", strings(one(ROUTERS), 1)),
            ("ports", labels("Logical_Router_Port", 3).boxed()),
            ("nat", labels("NAT", 4).boxed()),
            ("static_routes", labels("Logical_Router_Static_Route", 2).boxed()),
        ],
        "Logical_Router_Static_Route" => vec![
            ("ip_prefix", strings(one(&["::/0", "0.0.0.0/0", "10.0.0.0/8", "^X"]), 1)),
            ("nexthop", strings(one(&["2001:db8::fe", "2001:db8::1", "192.0.2.254", "discard"]), 1)),
        ],
        "Logical_Router_Port" => vec![
            ("name", name("lrp")),
            ("mac", strings(one(&["fa:16:3e:00:00:01", "fa:16:3e:00:00:02"]), 1)),
            ("networks", strings(one(CIDRS), 2)),
            ("status", map(vec![("hosting-chassis", one(&["sys-me", "sys-me", "sys-other", "me"]).boxed())])),
            (
                "external_ids",
                map(vec![
                    ("neutron:network_name", one(NETWORKS).boxed()),
                    ("neutron:router_name", one(ROUTERS).boxed()),
                ]),
            ),
        ],
        "NAT" => vec![
            ("type", strings(one(&["dnat_and_snat", "dnat_and_snat", "snat", "dnat"]), 1)),
            ("external_ip", strings(one(ADDRESSES), 1)),
            ("external_mac", strings(one(&["fa:16:3e:00:00:01", "fa:16:3e:00:00:02"]), 1)),
            ("logical_ip", strings(one(&["10.0.0.1", "10.0.0.0/24", "2001:db8::1"]), 1)),
            ("logical_port", strings(port_name(), 1)),
            ("gateway_port", labels("Logical_Router_Port", 1).boxed()),
            (
                "external_ids",
                map(vec![
                    ("neutron:fip_network_id", one(&["n0", "n1", "neutron-n0"]).boxed()),
                    ("neutron:router_name", one(ROUTERS).boxed()),
                ]),
            ),
        ],
        "Load_Balancer" => vec![
            ("name", strings(one(&["lb", "pf-floatingip-x-tcp"]), 1)),
            (
                "vips",
                vec(
                    one(&[
                        "10.0.0.1:80",
                        "10.0.0.2:80",
                        "[2001:db8::2]:80",
                        "192.0.2.1:1",
                        "2001:db8::1",
                        "^t:1",
                        "x:1",
                    ]),
                    0..3,
                )
                .prop_map(|keys| Column::Map(keys.into_iter().map(|key| (key, String::new())).collect()))
                .boxed(),
            ),
            (
                "external_ids",
                map(vec![
                    ("lr_ref", one(ROUTERS).boxed()),
                    ("neutron:router_name", one(ROUTERS).boxed()),
                    ("neutron:vip", one(&["10.0.0.1", "2001:db8::2"]).boxed()),
                    ("neutron:vip_fip", one(&["192.0.2.1", "10.0.0.2"]).boxed()),
                    ("neutron:vip_port_id", port_name()),
                    ("neutron:network_name", one(NETWORKS).boxed()),
                ]),
            ),
        ],
        _ => vec![("external_ids", map(vec![("neutron:fip-distributed", one(&["True", "True", "False"]).boxed())]))],
    }
}

/// A value of any type.
fn any_column() -> impl Strategy<Value = Column> {
    prop_oneof![
        vec(".{0,12}", 0..3).prop_map(Column::Strings),
        vec(any::<bool>(), 0..3).prop_map(Column::Bools),
        vec(any::<i64>(), 0..3).prop_map(Column::Integers),
        vec("[a-z]{1,3}", 0..3).prop_map(Column::References),
        vec((".{0,12}", ".{0,12}"), 0..3).prop_map(Column::Map),
    ]
}

const TABLES: &[&str] = &[
    "Logical_Switch_Port",
    "Logical_Switch_Port",
    "Logical_Switch_Port",
    "Logical_Switch",
    "Logical_Router",
    "Logical_Router_Port",
    "Logical_Router_Port",
    "Logical_Router_Static_Route",
    "NAT",
    "NAT",
    "Load_Balancer",
    "NB_Global",
];

/// One change: a row set to something, or deleted. `odd` is how often (in a thousand) a column has a value of any type.
pub(crate) fn change(odd: u32) -> impl Strategy<Value = Change> {
    (select(TABLES), 0..LABELS).prop_flat_map(move |(table, row)| {
        let all = columns(table, row).into_iter().fold(Just(BTreeMap::new()).boxed(), |all, (name, column)| {
            let column = prop_oneof![
                900 => column.prop_map(Some),
                100 => Just(None),
                odd => any_column().prop_map(Some),
            ];
            (all, column)
                .prop_map(move |(mut all, column): (BTreeMap<_, _>, _)| {
                    if let Some(column) = column {
                        all.insert(name, column);
                    }
                    all
                })
                .boxed()
        });
        option::weighted(0.85, all).prop_map(move |columns| Change { table, label: format!("row-{row}"), columns })
    })
}

/// A small cloud in order, with something of every kind: what random changes start from.
pub(crate) fn base() -> Vec<Change> {
    let row = |table, row: usize, columns: Vec<(&'static str, Column)>| Change {
        table,
        label: format!("row-{row}"),
        columns: Some(columns.into_iter().collect()),
    };
    let text = |text: &str| Column::Strings(vec![text.to_owned()]);
    let refs = |labels: &[&str]| Column::References(labels.iter().map(|label| (*label).to_owned()).collect());
    let map = |pairs: &[(&str, &str)]| {
        Column::Map(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    };
    let up = || Column::Bools(vec![true]);
    let vm = |n: usize, addresses: &str, host: &str, network: &str| {
        row(
            "Logical_Switch_Port",
            n,
            vec![
                ("name", text(&format!("port-{n}"))),
                ("addresses", text(addresses)),
                ("up", up()),
                ("options", map(&[("requested-chassis", host)])),
                ("external_ids", map(&[("neutron:network_name", network), ("neutron:cidrs", "2001:db8::2/64")])),
            ],
        )
    };
    vec![
        row(
            "Logical_Switch_Port",
            0,
            vec![("name", text("port-0")), ("type", text("localnet")), ("options", map(&[("network_name", "phys1")]))],
        ),
        vm(1, "fa:16:3e:00:00:01 192.0.2.1 2001:db8::2", "me", "neutron-n0"),
        row(
            "Logical_Switch_Port",
            2,
            vec![
                ("name", text("port-2")),
                ("type", text("router")),
                ("up", up()),
                (
                    "external_ids",
                    map(&[
                        ("neutron:network_name", "neutron-n1"),
                        ("neutron:device_owner", "network:router_interface"),
                        ("neutron:device_id", "r0"),
                        ("neutron:cidrs", "10.0.0.1/24 2a00:1450::1/64"),
                        ("neutron:subnet_pool_addr_scope4", "scope-a"),
                    ]),
                ),
            ],
        ),
        vm(3, "fa:16:3e:00:00:02 10.0.0.2", "other", "neutron-n1"),
        row(
            "Logical_Switch_Port",
            4,
            vec![
                ("name", text("port-4")),
                ("type", text("virtual")),
                ("addresses", text("fa:16:3e:00:00:03 192.0.2.3")),
                ("up", up()),
                ("external_ids", map(&[("neutron:network_name", "neutron-n0"), ("neutron:host_id", "me")])),
            ],
        ),
        row("Logical_Switch", 0, vec![("name", text("neutron-n0")), ("ports", refs(&["Logical_Switch_Port/row-0"]))]),
        row("Logical_Switch", 1, vec![("name", text("neutron-n1"))]),
        row(
            "Logical_Router",
            0,
            vec![
                ("name", text("neutron-r0")),
                ("ports", refs(&["Logical_Router_Port/row-0"])),
                ("nat", refs(&["NAT/row-0", "NAT/row-1", "NAT/row-2"])),
                ("static_routes", refs(&["Logical_Router_Static_Route/row-0"])),
            ],
        ),
        row("Logical_Router_Static_Route", 0, vec![("ip_prefix", text("::/0")), ("nexthop", text("2001:db8::fe"))]),
        row(
            "Logical_Router_Port",
            0,
            vec![
                ("name", text("lrp-0")),
                ("mac", text("fa:16:3e:00:00:0a")),
                ("networks", Column::Strings(vec!["192.0.2.2/24".to_owned(), "2001:db8::1/64".to_owned()])),
                ("status", map(&[("hosting-chassis", "sys-me")])),
                ("external_ids", map(&[("neutron:network_name", "neutron-n0")])),
            ],
        ),
        row(
            "NAT",
            0,
            vec![
                ("type", text("dnat_and_snat")),
                ("external_ip", text("192.0.2.7")),
                ("external_mac", text("fa:16:3e:00:00:0b")),
                ("logical_port", text("port-1")),
                ("external_ids", map(&[("neutron:fip_network_id", "n0")])),
            ],
        ),
        row(
            "NAT",
            1,
            vec![
                ("type", text("dnat_and_snat")),
                ("external_ip", text("192.0.2.8")),
                ("external_ids", map(&[("neutron:fip_network_id", "n0")])),
            ],
        ),
        row(
            "Load_Balancer",
            0,
            vec![
                ("name", text("lb")),
                ("vips", map(&[("10.0.0.50:80", ""), ("192.0.2.50:80", "")])),
                (
                    "external_ids",
                    map(&[
                        ("lr_ref", "neutron-r0"),
                        ("neutron:vip", "10.0.0.50"),
                        ("neutron:vip_fip", "192.0.2.50"),
                        ("neutron:network_name", "neutron-n1"),
                    ]),
                ),
            ],
        ),
        row(
            "Load_Balancer",
            1,
            vec![
                ("name", text("pf-floatingip-x-tcp")),
                ("vips", map(&[("192.0.2.60:2222", "10.0.0.2:22")])),
                ("external_ids", map(&[("neutron:router_name", "neutron-r0")])),
            ],
        ),
    ]
}
