//! `export`: attributes to set on what a neighbour is told.

use bgp::policy::{ParseError, Set, community};

use super::read::{At, Doc, Table, Value};

/// One entry, its prefix list still a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Export {
    /// On which prefixes; all if absent.
    pub(super) prefix_list: Option<At<String>>,
    /// What to set.
    pub(super) set: Set,
}

/// Reads the list of `[[… .export]]` tables.
pub(super) fn read(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<Vec<Export>>> {
    let entries = value.array(doc)?;
    let entries = entries.iter().filter_map(|entry| entry.table(doc)).map(|table| one(table, doc)).collect();
    Some(value.at(entries))
}

fn one(mut table: Table<'_>, doc: &Doc<'_>) -> Export {
    let prefix_list = table.get("prefix_list").and_then(|v| v.string(doc));
    let mut number = |key| {
        table.get(key).and_then(|v| v.integer(doc, 0..=i128::from(u32::MAX), "the value")).map(|at: At<u32>| at.value)
    };
    let (med, local_pref) = (number("med"), number("local_pref"));
    let prepend = table.get("prepend").and_then(|v| v.integer(doc, 0..=16, "a number of times"));
    let set = Set {
        med,
        local_pref,
        prepend: prepend.map_or(0, |at| at.value),
        communities: communities(&mut table, doc, "communities", community::parse),
        extended_communities: communities(&mut table, doc, "extended_communities", community::parse_extended),
        large_communities: communities(&mut table, doc, "large_communities", community::parse_large),
    };
    if set == Set::default() {
        let hint = "med, local_pref, prepend, communities, extended_communities, large_communities";
        doc.warn_hint(&table.span, "this entry of 'export' sets nothing", hint);
    }
    table.finish(doc);
    Export { prefix_list, set }
}

fn communities<T>(
    table: &mut Table<'_>,
    doc: &Doc<'_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, ParseError>,
) -> Vec<T> {
    let read = |item: &Value<'_>| {
        let text = item.string(doc)?;
        parse(&text.value).map_err(|error| doc.error(&text.span, error.reason)).ok()
    };
    table.get(key).and_then(|v| v.list(doc, read)).unwrap_or_default()
}
