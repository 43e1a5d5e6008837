//! Rows for tests.

use std::sync::Arc;

use crate::nb::row::Port;
use crate::ovsdb::value::{Atom, Row, Value};

pub(crate) fn text(text: &str) -> Value {
    Value::Set(vec![Atom::String(Arc::from(text))])
}

pub(crate) fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let atom = |text: &str| Atom::String(Arc::from(text));
    Value::Map(pairs.into_iter().map(|(key, value)| (atom(key), atom(value))).collect())
}

/// A port as far as its ownership goes.
pub(crate) fn port(port_type: &str, requested: Option<&str>, host_id: Option<&str>, up: bool) -> Port {
    let row: Row = [
        ("name", text("port-1")),
        ("type", text(port_type)),
        ("up", Value::Set(vec![Atom::Boolean(up)])),
        ("options", map(requested.map(|list| ("requested-chassis", list)))),
        ("external_ids", map(host_id.map(|host| ("neutron:host_id", host)))),
    ]
    .into_iter()
    .map(|(column, value)| (Arc::from(column), value))
    .collect();
    Port::parse(&row).unwrap()
}
