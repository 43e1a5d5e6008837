//! What a server sends of a database to a client with conditions: the `where` of RFC 7047 §5.1, for the functions we use.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test: what is wrong stops it")]

use ovn_bgpd::host::Chassis;
use ovn_bgpd::nb::View;
use ovn_bgpd::ovsdb::value::{Atom, Database, Row, Value};
use serde_json::Value as Json;

const PORTS: &str = "Logical_Switch_Port";

fn holds(row: &Row, clause: &Json) -> bool {
    let Some((column, function)) = clause.get(0).and_then(Json::as_str).zip(clause.get(1).and_then(Json::as_str))
    else {
        return clause.as_bool() == Some(true);
    };
    let value = row.get(column);
    match function {
        // A column nobody has written is an empty string.
        "==" => value.and_then(Value::as_str).unwrap_or_default() == clause[2].as_str().unwrap(),
        "includes" => clause[2][1]
            .as_array()
            .unwrap()
            .iter()
            .all(|pair| value.and_then(|map| map.get(pair[0].as_str().unwrap())) == pair[1].as_str()),
        other => panic!("{other}"),
    }
}

/// The database without the ports that no clause selects.
fn selected(database: &Database, clauses: &Json) -> Database {
    let mut out = database.clone();
    if let Some(ports) = out.get_mut(PORTS) {
        let clauses = clauses.as_array().unwrap();
        *ports = ports
            .iter()
            .filter(|(_, row)| clauses.iter().any(|clause| holds(row, clause)))
            .map(|(u, r)| (*u, r))
            .collect();
    }
    out
}

/// What a host ends up with: it asks for what it knows to concern it, and again when it has learned more.
pub(crate) fn converge(database: &Database, chassis: &Chassis) -> View {
    let mut clauses = View::focused(chassis.clone()).conditions().unwrap();
    for _ in 0..5 {
        let view = View::focused(chassis.clone()).filled(&selected(database, &clauses)).0;
        let next = view.conditions().unwrap();
        if next == clauses {
            return view;
        }
        clauses = next;
    }
    panic!("the conditions do not settle: {clauses}");
}

/// The database without what conditions cannot find: see `View::conditions`.
pub(crate) fn findable(database: &Database) -> Database {
    let mut out = database.clone();
    let Some(ports) = out.get_mut(PORTS) else { return out };
    let found = |row: &Row| {
        let get = |column: &str, key| row.get(column).and_then(|map| map.get(key)).unwrap_or_default();
        let text =
            |column: &str| row.get(column).map(|v| v.strings().collect::<Vec<_>>().join(" ")).unwrap_or_default();
        let named = !get("external_ids", "neutron:network_name").is_empty();
        let listed =
            get("options", "requested-chassis").contains(',') && get("external_ids", "neutron:host_id").is_empty();
        let first = format!("{} {}", text("addresses"), get("external_ids", "neutron:cidrs"));
        let first = first.split_whitespace().any(|word| word.split('/').next().unwrap().ends_with("::1"));
        let infrastructure = matches!(&*text("type"), "router" | "localnet");
        // Rows of the wrong types no server can have.
        let sound = matches!(row.get("name"), Some(Value::Set(atoms)) if matches!(atoms.as_slice(), [Atom::String(_)]))
            && row.get("external_ids").is_none_or(|v| matches!(v, Value::Map(_)))
            && row.get("options").is_none_or(|v| matches!(v, Value::Map(_)));
        // Ports of these types are asked for whatever else they say.
        (named || infrastructure) && !listed && (!first || infrastructure) && sound
    };
    *ports = ports.iter().filter(|(_, row)| found(row)).map(|(u, r)| (*u, r)).collect();
    out
}
