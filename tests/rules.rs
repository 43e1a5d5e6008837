//! Laws of the rules, over random clouds.

#![expect(clippy::unwrap_used, reason = "a test: what is wrong stops it")]

#[path = "support/conditions.rs"]
mod conditions;
mod world;

use std::collections::BTreeSet;

use ovn_bgpd::desired::wiring::Key;
use ovn_bgpd::desired::{self, Desired, Kind, Options, Rules, Scope, TenantAdvertisement, explain};
use ovn_bgpd::nb::View;
use ovn_bgpd::ovsdb::value::Database;
use proptest::collection::vec;
use proptest::prelude::*;
use world::{Change, Column, apply, base, change, facts};

fn options() -> impl Strategy<Value = Options> {
    (any::<(bool, bool, bool, bool, bool)>(), prop::option::of(Just("scope-a".to_owned()))).prop_map(
        |(flags, scope)| {
            let (tenants, gua, subnets, snat, per_table) = flags;
            Options {
                expose_tenant_networks: tenants,
                expose_ipv6_gua_tenant_networks: gua,
                tenant_advertisement: if subnets { TenantAdvertisement::Subnet } else { TenantAdvertisement::Host },
                require_snat_disabled_for_tenant_networks: snat,
                address_scopes: scope.into_iter().collect(),
                rules: if per_table { Rules::PerTable } else { Rules::PerPrefix },
            }
        },
    )
}

fn database(changes: &[Change], salt: u64) -> Database {
    let mut database = Database::new();
    for change in base().iter().chain(changes) {
        apply(&mut database, change, salt);
    }
    database
}

const ADDRESSES: [&str; 8] = [
    "10.0.0.1/32",
    "10.0.0.2/32",
    "192.0.2.1/32",
    "192.0.2.7/32",
    "10.0.0.50/32",
    "2001:db8::2/128",
    "10.0.0.0/24",
    "203.0.113.1/32",
];

fn compute(database: &Database, options: &Options) -> Desired {
    desired::compute(&View::new(database).0, &facts(), options)
}

/// Takes the batches in one after the other, and compares with a fresh start after each.
fn follow(batches: &[Vec<Change>], options: &Options) -> Result<(), TestCaseError> {
    let facts = facts();
    let mut database = database(&[], 0);
    let (mut view, _) = View::new(&database);
    let mut focused = View::focused(facts.chassis.clone()).filled(&database).0;
    let mut before = desired::compute(&view, &facts, options);
    let mut kept = before.clone();
    let mut scope = Scope::new(&view, &facts);
    for batch in batches {
        let changed: Vec<_> = batch.iter().map(|change| apply(&mut database, change, 0)).collect();
        let applied = view.apply(&database, changed.iter().copied());
        let focused_applied = focused.apply(&database, changed.iter().copied());
        let (fresh, warnings) = View::new(&database);
        prop_assert_eq!(&view, &fresh);
        let mut bad: Vec<_> = view.bad().cloned().collect();
        bad.sort();
        prop_assert_eq!(bad, warnings);
        let after = desired::compute(&view, &facts, options);
        if !applied.touched.iter().any(|touched| scope.concerns(&view, touched)) {
            prop_assert_eq!(&before, &after);
        }
        // What is left out of a focused view makes no difference.
        prop_assert_eq!(&focused, &View::focused(facts.chassis.clone()).filled(&database).0);
        prop_assert_eq!(&desired::compute(&focused, &facts, options), &after);
        if !focused_applied.touched.iter().any(|touched| scope.concerns(&focused, touched)) {
            prop_assert_eq!(&before, &after);
        }
        let mut updated = kept.clone();
        if desired::update(&mut updated, &focused, &facts, options, &scope, &focused_applied.touched).is_some() {
            prop_assert_eq!(&updated, &after);
        }
        if desired::update(&mut kept, &view, &facts, options, &scope, &applied.touched).is_some() {
            prop_assert_eq!(&kept, &after);
        } else {
            prop_assert_eq!(&kept, &before, "an update that is given up changes nothing");
            kept = after.clone();
        }
        before = after;
        scope = Scope::new(&view, &facts);
    }
    // It is found when somebody asks. Which of several rows is shown depends on their order.
    for address in ADDRESSES {
        let address = address.parse().unwrap();
        let far = |view: &View| {
            let steps = explain(view, &facts, options, address);
            let nowhere = steps.last().is_some_and(|step| step.what.starts_with("no row of"));
            (nowhere, steps.iter().all(|step| step.holds))
        };
        prop_assert_eq!(far(&focused.widened(&database, address)), far(&view));
    }
    Ok(())
}

#[test]
fn what_is_said_of_an_interface_survives_the_nat_row_that_names_it() {
    let row = |label: &str, table, columns| Change { table, label: label.to_owned(), columns };
    let text = |text: &str| Column::Strings(vec![text.to_owned()]);
    let ids = [
        ("neutron:cidrs", "10.0.0.1/24"),
        ("neutron:device_owner", "network:router_interface"),
        ("neutron:device_id", "neutron-r0"),
    ];
    let ids = Column::Map(ids.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    let down = [("name", text("port-1")), ("type", text("router")), ("external_ids", ids)];
    let interface = row("row-1", "Logical_Switch_Port", Some(down.into()));
    let options = Options { expose_tenant_networks: true, ..Options::default() };
    follow(&[vec![interface], vec![row("row-0", "NAT", None)]], &options).unwrap();
}

#[test]
fn what_is_said_of_a_floating_ip_goes_with_it_when_its_port_goes_in_the_same_moment() {
    let gone = |label: &str, table| Change { table, label: label.to_owned(), columns: None };
    let away = [gone("row-0", "Logical_Router_Port"), gone("row-0", "Logical_Switch_Port")];
    let both = vec![gone("row-1", "Logical_Switch_Port"), gone("row-0", "NAT")];
    follow(&[away.to_vec(), both], &Options::default()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Rows come in the order of their UUIDs, which say nothing: other UUIDs, same state.
    #[test]
    fn the_order_of_rows_does_not_matter(changes in vec(change(0), 0..12), options in options(), salt in 1_u64..) {
        let one = compute(&database(&changes, 0), &options);
        let other = compute(&database(&changes, salt), &options);
        prop_assert_eq!(one, other);
    }

    /// Rows taken in one by one, in batches, rewritten, deleted: the view is the one of the final rows. And what the scope calls
    /// foreign changes nothing here.
    #[test]
    fn incremental_is_from_scratch(
        batches in vec(vec(change(20), 1..4), 1..25),
        options in options(),
    ) {
        follow(&batches, &options)?;
    }

    /// With only the rows that conditions select, the state is the one with all of them.
    #[test]
    fn conditions_find_all_that_matters(changes in vec(change(20), 0..25), options in options()) {
        let facts = facts();
        let database = conditions::findable(&database(&changes, 0));
        let all = compute(&database, &options);
        let some = desired::compute(&conditions::converge(&database, &facts.chassis), &facts, &options);
        prop_assert_eq!(some, all);
    }

    /// Whatever the rows say, an announcement stands on objects that are wired, and there is an explanation for every address.
    #[test]
    fn what_is_announced_is_wired_and_explained(changes in vec(change(100), 0..12), options in options()) {
        let database = database(&changes, 0);
        let facts = facts();
        let view = View::new(&database).0;
        let desired = desired::compute(&view, &facts, &options);
        for (prefix, needs) in &desired.routes {
            prop_assert!(!needs.is_empty());
            for key in needs.iter() {
                prop_assert!(desired.wiring.objects.contains_key(key), "{prefix} needs {key:?}, which nobody wires");
            }
            let has_rule = needs.iter().any(|key| matches!(key, Key::Rule { .. }));
            prop_assert!(has_rule);
            let steps = explain(&view, &facts, &options, *prefix);
            prop_assert!(!steps.is_empty() && steps.iter().all(|step| step.holds), "{steps:?}");
        }
        for exposure in &desired.exposures {
            prop_assert_eq!(exposure.address, exposure.address.trunc());
            let announced = desired.routes.contains_key(&exposure.address);
            prop_assert!(announced || !exposure.announce || exposure.waiting.is_some());
        }
        for address in ADDRESSES {
            let address = address.parse().unwrap();
            let steps = explain(&view, &facts, &options, address);
            let (last, others) = steps.split_last().unwrap();
            prop_assert!(others.iter().all(|step| step.holds));
            prop_assert_eq!(last.holds, desired.routes.contains_key(&address), "{:?}", steps);
        }
    }
}

#[test]
fn ten_thousand_addresses_on_a_port() {
    let ips: Vec<String> = (0..10_000).map(|n| format!("10.{}.{}.{}", n / 65536, n / 256 % 256, n % 256)).collect();
    let strings = |items: Vec<String>| world::Column::Strings(items);
    let map = |pairs: &[(&str, &str)]| {
        world::Column::Map(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    };
    let changes = [
        Change {
            table: "Logical_Switch_Port",
            label: "row-0".into(),
            columns: Some(
                [
                    ("name", strings(vec!["port-0".into()])),
                    ("type", strings(vec!["localnet".into()])),
                    ("options", map(&[("network_name", "phys1")])),
                    ("external_ids", map(&[("neutron:network_name", "neutron-n0")])),
                ]
                .into(),
            ),
        },
        Change {
            table: "Logical_Switch_Port",
            label: "row-1".into(),
            columns: Some(
                [
                    ("name", strings(vec!["odd \"name\"; \u{1f980}\n".into()])),
                    ("addresses", strings(vec![format!("fa:16:3e:00:00:01 {}", ips.join(" "))])),
                    ("up", world::Column::Bools(vec![true])),
                    ("options", map(&[("requested-chassis", "me")])),
                    ("external_ids", map(&[("neutron:network_name", "neutron-n0")])),
                ]
                .into(),
            ),
        },
    ];
    let desired = compute(&database(&changes, 0), &Options::default());
    // 10.0.0.0 is an address like any other here.
    let many = desired.exposures.iter().filter(|exposure| exposure.port.starts_with("odd"));
    assert_eq!(many.count(), 10_000);
}

/// The laws above mean something: the cloud they start from reaches every rule.
#[test]
fn the_cloud_has_everything_in_it() {
    let options = Options { expose_tenant_networks: true, ..Options::default() };
    let desired = compute(&database(&[], 0), &options);
    let kinds: BTreeSet<Kind> = desired.exposures.iter().map(|exposure| exposure.kind).collect();
    assert_eq!(kinds.len(), 9, "{:#?} {:#?}", desired.exposures, desired.refusals);
    let silent: Vec<_> = desired.exposures.iter().filter(|exposure| exposure.waiting.is_some()).collect();
    assert!(silent.is_empty(), "{silent:#?}");
}
