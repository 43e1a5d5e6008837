//! Rows, facts and options in, exposures and wiring out: one folder of `tests/golden` a case.
//!
//! | file | content |
//! |---|---|
//! | `case.md` | what the case shows |
//! | `nb.json` | Northbound rows: table → label → column → value |
//! | `facts.json` | this host; what is absent comes from [`facts`] |
//! | `options.json` | the options; may be absent |
//! | `expected.json` | what should come out; `UPDATE=1 cargo test --test golden` writes it |
//!
//! Values in `nb.json` are written as one would say them: a string, a number, `true`; a list for a set, an object for a map; a
//! string `@label` refers to the row with that label.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test: what is wrong stops it")]

#[path = "support/conditions.rs"]
mod conditions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ovn_bgpd::desired::wiring::{Key, Spec};
use ovn_bgpd::desired::{self, Options};
use ovn_bgpd::host::Facts;
use ovn_bgpd::nb::View;
use ovn_bgpd::ovsdb::value::{Atom, Database, Uuid, Value};
use serde_json::{Value as Json, json};

#[test]
fn golden() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(cases.len() > 50, "{} holds only {} cases", root.display(), cases.len());
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for case in cases {
        let actual = serde_json::to_string_pretty(&run(&case)).unwrap() + "\n";
        let path = case.join("expected.json");
        if update {
            std::fs::write(&path, actual).unwrap();
        } else {
            let expected = std::fs::read_to_string(&path).unwrap_or_default();
            if actual != expected {
                wrong.push(format!("{}:\n{}", case.display(), differing_lines(&expected, &actual)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The same cases through `ovn-bgpd plan`, from dumps of the two databases: the same exposures.
#[test]
fn golden_through_the_command() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for case in std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let expected = run(&case);
        let facts = facts(read(&case.join("facts.json")).unwrap_or(json!({})));
        if expected["exposures"].as_array().unwrap().iter().any(|exposure| !exposure["waiting"].is_null()) {
            // The command assumes what these cases lack.
            continue;
        }
        let options = read(&case.join("options.json")).unwrap_or(json!({}));
        let [config, nb, ovs] = ["config.toml", "nb.json", "ovs.json"].map(|name| scratch.path().join(name));
        std::fs::write(&config, configuration(&options)).unwrap();
        std::fs::write(&nb, dump(&read(&case.join("nb.json")).unwrap())).unwrap();
        std::fs::write(&ovs, dump(&vswitch(&facts))).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ovn-bgpd"))
            .args(["plan", "--json", "--config"])
            .arg(&config)
            .arg("--nb")
            .arg(&nb)
            .arg("--ovs")
            .arg(&ovs)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {}", case.display(), String::from_utf8_lossy(&output.stderr));
        let plan: Json = serde_json::from_slice(&output.stdout).unwrap();
        let short = |json: &Json| -> Vec<Json> {
            let keys = ["address", "kind", "port", "network", "bridge", "vlan", "announced"];
            let one = |e: &Json| json!(keys.map(|key| e[key].clone()));
            json["exposures"].as_array().unwrap().iter().map(one).collect()
        };
        let prefixes: Vec<_> = plan["routes"].as_array().unwrap().iter().map(|route| &route["prefix"]).collect();
        if short(&plan) != short(&expected) || json!(prefixes) != expected["announced"] {
            wrong.push(format!("{}: {:#}", case.display(), plan));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn configuration(options: &Json) -> String {
    let mut text = "[bgp]\nasn = 64999\nrouter_id = \"172.30.1.1\"\n[ovn]\n".to_owned();
    for (key, value) in options.as_object().unwrap() {
        // Strings, booleans and lists of strings look the same in JSON and TOML.
        let line = format!("{} = {value}\n", if key == "rules" { "wiring.rules" } else { key });
        if key == "rules" { text.insert_str(0, &line) } else { text.push_str(&line) }
    }
    text
}

/// What `ovsdb-client dump --format=json` prints of these tables.
fn dump(tables: &Json) -> String {
    let mut out = String::new();
    for (table, rows) in tables.as_object().unwrap() {
        let rows = rows.as_object().unwrap();
        let columns: BTreeSet<&String> = rows.values().flat_map(|row| row.as_object().unwrap().keys()).collect();
        let cells = |label: &String, row: &Json| {
            let mut cells = vec![json!(["uuid", uuid(label).to_string()])];
            cells.extend(columns.iter().map(|column| row.get(column).map_or_else(|| json!(["set", []]), cell)));
            cells
        };
        let data: Vec<_> = rows.iter().map(|(label, row)| cells(label, row)).collect();
        let headings: Vec<&str> =
            std::iter::once("_uuid").chain(columns.iter().map(|column| column.as_str())).collect();
        out += &json!({"caption": format!("{table} table"), "headings": headings, "data": data}).to_string();
        out += "\n";
    }
    out
}

/// A value in the words of RFC 7047 §5.1.
fn cell(json: &Json) -> Json {
    match json {
        Json::String(text) => match text.strip_prefix('@') {
            Some(label) => json!(["uuid", uuid(label).to_string()]),
            None => json.clone(),
        },
        Json::Array(items) => json!(["set", items.iter().map(cell).collect::<Vec<_>>()]),
        Json::Object(pairs) => json!(["map", pairs.iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>()]),
        scalar => scalar.clone(),
    }
}

/// The local Open_vSwitch database of a host.
fn vswitch(facts: &Facts) -> Json {
    let mappings: Vec<_> = facts.bridge_mappings.iter().map(|m| format!("{}:{}", m.physnet, m.bridge)).collect();
    let mut tables = json!({
        "Open_vSwitch": {"root": {"external_ids": {
            "system-id": facts.chassis.system_id, "hostname": facts.chassis.hostname,
            "ovn-bridge-mappings": mappings.join(","),
        }}},
        "Bridge": {}, "Port": {}, "Interface": {},
    });
    for (name, bridge) in &facts.bridges {
        let mac = bridge.mac.map(|mac| mac.to_string());
        let local = (name.clone(), json!({"name": name, "type": "internal", "ofport": 65534, "mac_in_use": mac}));
        let patches = bridge.patch_ports.iter().map(|(port, number)| {
            (port.clone(), json!({"name": port, "type": "patch", "ofport": number, "mac_in_use": "0e:00:00:00:00:ff"}))
        });
        let mut ports = Vec::new();
        for (port, interface) in std::iter::once(local).chain(patches) {
            ports.push(format!("@port-{port}"));
            tables["Port"][format!("port-{port}")] =
                json!({"name": port, "interfaces": [format!("@interface-{port}")]});
            tables["Interface"][format!("interface-{port}")] = interface;
        }
        tables["Bridge"][format!("bridge-{name}")] = json!({"name": name, "ports": ports});
    }
    tables
}

fn differing_lines(expected: &str, actual: &str) -> String {
    let mut out = String::new();
    for line in expected.lines().filter(|line| !actual.contains(line)) {
        out.extend(["  - ", line, "\n"]);
    }
    for line in actual.lines().filter(|line| !expected.contains(line)) {
        out.extend(["  + ", line, "\n"]);
    }
    out
}

fn read(path: &Path) -> Option<Json> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn run(case: &Path) -> Json {
    let database = database(&read(&case.join("nb.json")).unwrap_or_else(|| panic!("{}: no nb.json", case.display())));
    let facts = facts(read(&case.join("facts.json")).unwrap_or(json!({})));
    let options: Options = read(&case.join("options.json")).map_or_else(Options::default, |json| {
        serde_json::from_value(json).unwrap_or_else(|error| panic!("{}: {error}", case.display()))
    });
    let (view, warnings) = View::new(&database);
    let desired = desired::compute(&view, &facts, &options);
    // The daemon sees less: of maps only the keys that mean something, of ports only those a rule may look at.
    let (focused, _) = View::focused(facts.chassis.clone()).filled(&monitored(&database));
    assert_eq!(desired::compute(&focused, &facts, &options), desired, "{}: focused", case.display());
    // With `monitor = "conditional"` it is sent less.
    let findable = conditions::findable(&database);
    let selected = desired::compute(&conditions::converge(&findable, &facts.chassis), &facts, &options);
    let all = desired::compute(&View::new(&findable).0, &facts, &options);
    assert_eq!(selected, all, "{}: conditional", case.display());
    let exposures: Vec<_> = desired
        .exposures
        .iter()
        .map(|e| {
            json!({
                "address": e.address, "kind": e.kind, "port": e.port, "network": e.network, "bridge": e.bridge, "vlan": e.vlan,
                "mac": e.mac, "announced": desired.routes.contains_key(&e.address), "via": e.via, "waiting": e.waiting,
            })
        })
        .collect();
    let refusals: Vec<_> = desired.refusals.iter().map(|r| format!("{}: {}", r.row, r.reason)).collect();
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    // What every bridge has would drown what the case is about: only what the exposures own is shown.
    let wiring: Vec<_> = desired
        .wiring
        .objects
        .iter()
        .filter(|(key, object)| {
            matches!(key, Key::Rule { .. }) || !object.owners.iter().all(|owner| owner.starts_with("bridge "))
        })
        .map(|(key, object)| say(key, &object.spec))
        .collect();
    let announced: Vec<_> = desired.routes.keys().collect();
    json!({
        "exposures": exposures, "refusals": refusals, "warnings": warnings, "wiring": wiring, "announced": announced,
    })
}

/// What the daemon monitors of a database.
fn monitored(database: &Database) -> Database {
    let mut out = Database::new();
    for spec in ovn_bgpd::nb::tables() {
        let Some(table) = database.get(&spec.name) else { continue };
        let column = |mut row: ovn_bgpd::ovsdb::value::Row| {
            row.retain(|name, value| {
                let column = spec.columns.iter().find(|column| column.name == *name);
                if let (Some(keys), Value::Map(pairs)) = (column.and_then(|c| c.keys.as_ref()), value) {
                    pairs.retain(|(key, _)| matches!(key, Atom::String(key) if keys.contains(key)));
                }
                column.is_some()
            });
            row
        };
        out.insert(spec.name.clone(), table.iter().map(|(uuid, row)| (*uuid, column(row))).collect());
    }
    out
}

/// An object in the words of the tools that show it.
fn say(key: &Key, spec: &Spec) -> String {
    let spec = match spec {
        Spec::Present => String::new(),
        Spec::Vlan { parent, tag } => format!(" link {parent} type vlan id {tag}"),
        Spec::Value(value) => format!(" = {value}"),
        Spec::Route { device, via: None } => format!(" dev {device}"),
        Spec::Route { device, via: Some(via) } => format!(" via {via} dev {device} onlink"),
        Spec::Lladdr(mac) => format!(" lladdr {mac}"),
        Spec::ModDlDst(mac) => format!(" mod_dl_dst:{mac},NORMAL"),
    };
    match key {
        Key::LinkUp { device } => format!("link {device} up"),
        Key::VlanDevice { name } => format!("link {name}{spec}"),
        Key::Address { device, address } => format!("address {address} dev {device}"),
        Key::Sysctl { path } => format!("sysctl {path}{spec}"),
        Key::Route { table, to } => format!("route {to} table {table}{spec}"),
        Key::Rule { to, v6, table } => match to {
            Some(to) => format!("rule to {to} lookup {table}"),
            None => format!("rule {} lookup {table}", if *v6 { "inet6" } else { "inet" }),
        },
        Key::Neighbour { device, address } => format!("neigh {address} dev {device}{spec}"),
        Key::Proxy { device, address } => format!("neigh proxy {address} dev {device}"),
        Key::Flow { bridge, in_port, v6 } => {
            format!("flow {bridge} in_port={in_port},{}{spec}", if *v6 { "ipv6" } else { "ip" })
        }
    }
}

/// The host of the cases: one bridge for `physnet1`, with the patch port of localnet `provnet-0`; a case says what differs.
fn facts(case: Json) -> Facts {
    let mut facts = json!({
        "chassis": {"hostname": "cmp-7.example", "system_id": "7a1f0c6e-sys-7"},
        "bridge_mappings": [{"physnet": "physnet1", "bridge": "br-ex", "index": 1}],
        "bridges": {"br-ex": {
            "ifindex": 5, "mac": "0e:00:00:00:00:01", "up": true, "in_ovs": true, "table": 201,
            "patch_ports": {"patch-provnet-0-to-br-int": 2, "patch-provnet-100-to-br-int": 3},
        }},
        "devices": {}, "nb_remote": null, "vlan_devices": true,
    });
    if let (Some(facts), Json::Object(case)) = (facts.as_object_mut(), case) {
        facts.extend(case);
    }
    serde_json::from_value(facts).unwrap()
}

fn uuid(label: &str) -> Uuid {
    // FNV-1a, twice the width: any stable function of the label does.
    let hash = label.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    Uuid::from_u128(hash)
}

fn atom(json: &Json) -> Atom {
    match json {
        Json::String(text) => match text.strip_prefix('@') {
            Some(label) => Atom::Uuid(uuid(label)),
            None => Atom::String(Arc::from(&**text)),
        },
        Json::Bool(b) => Atom::Boolean(*b),
        Json::Number(n) => n.as_i64().map_or_else(|| Atom::Real(n.as_f64().unwrap()), Atom::Integer),
        other => panic!("{other} is no atom"),
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Array(items) => Value::Set(items.iter().map(atom).collect()),
        Json::Object(pairs) => {
            Value::Map(pairs.iter().map(|(k, v)| (Atom::String(Arc::from(&**k)), atom(v))).collect())
        }
        scalar => Value::Set(vec![atom(scalar)]),
    }
}

fn database(json: &Json) -> Database {
    let tables: BTreeMap<String, BTreeMap<String, BTreeMap<String, Json>>> =
        serde_json::from_value(json.clone()).unwrap();
    let mut database = Database::new();
    for (table, rows) in tables {
        let rows = rows.into_iter().map(|(label, columns)| {
            let columns = columns.iter().map(|(column, json)| (Arc::from(&**column), value(json))).collect();
            (uuid(&label), columns)
        });
        database.insert(Arc::from(table), rows.collect());
    }
    database
}
