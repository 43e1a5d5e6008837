//! What a changed configuration file means, and putting it in force.

use bgp::speaker::{Impact, classify, classify_speaker};

use super::agent::Agent;
use crate::api::model::{ReloadAction, ReloadNeighbor, ReloadReport};
use crate::config::{self, Config, Neighbor, Wiring};
use crate::desired::{Options, Rules};

/// Changing so many prefixes keeps the processor busy for a noticeable time.
const LARGE: usize = 10_000;

/// Reads the configuration file again. With an error in it nothing changes; with `dry_run` nothing changes either way.
pub(super) fn reload(agent: &mut Agent, dry_run: bool) -> ReloadReport {
    let new = match config::load(&agent.config.file).into_result() {
        Ok((new, warnings)) => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            new
        }
        Err(problems) => {
            let problems = problems.0.iter().filter(|p| p.is_error()).map(ToString::to_string).collect();
            return ReloadReport { dry_run, accepted: false, problems, ..ReloadReport::default() };
        }
    };
    let report = compare(&agent.config, &agent.started_with, &new, dry_run);
    if !dry_run {
        if let Err(error) = agent.locks.extend(&new) {
            return ReloadReport { accepted: false, problems: vec![error.to_string()], ..report };
        }
        let large = new.advertise.from_files.len() >= LARGE && new.advertise != agent.config.advertise;
        if large {
            agent.bfd.expect_reload();
        }
        tracing::info!(neighbors = ?summary(&report), changes = ?report.changes, "configuration reloaded");
        for what in &report.restart_needed {
            tracing::warn!("{what} takes effect only after a restart");
        }
        agent.adopt(new);
        agent.locks.shrink(&agent.config);
    }
    report
}

fn summary(report: &ReloadReport) -> Vec<String> {
    let touched = report.neighbors.iter().filter(|n| n.action != ReloadAction::Nothing);
    touched.map(|n| format!("{} {:?} ({})", n.neighbor, n.action, n.changed.join(", "))).collect()
}

/// What differs, and what it disturbs. Pure: the dry run and the real thing say the same. What is read once is compared with what
/// the daemon was `started` with: it is outstanding until then, not just until the next reload.
fn compare(old: &Config, started: &Config, new: &Config, dry_run: bool) -> ReloadReport {
    let speaker = classify_speaker(&old.bgp.speaker, &new.bgp.speaker);
    let find = |neighbors: &[Neighbor], wanted: &Neighbor| {
        neighbors.iter().find(|n| n.peer.address == wanted.peer.address).cloned()
    };
    let mut neighbors = Vec::new();
    for neighbor in &new.bgp.neighbors {
        let name = neighbor.peer.address.to_string();
        let Some(before) = find(&old.bgp.neighbors, neighbor) else {
            neighbors.push(ReloadNeighbor { neighbor: name, action: ReloadAction::Add, changed: Vec::new() });
            continue;
        };
        let change = classify(&before.peer, &neighbor.peer);
        let profile = |neighbor: &Neighbor| neighbor.bfd.as_ref().map(|bfd| bfd.profile.clone());
        let graceful = |neighbor: &Neighbor| neighbor.bfd.as_ref().is_some_and(|bfd| bfd.graceful);
        let bfd = (profile(&before) != profile(neighbor)).then_some(&"bfd");
        let bfd_graceful = (graceful(&before) != graceful(neighbor)).then_some(&"bfd_graceful");
        let keys = change.keys.iter().chain(&speaker.keys).chain(bfd).chain(bfd_graceful);
        neighbors.push(ReloadNeighbor {
            neighbor: name,
            action: action(change.impact.max(speaker.impact)),
            changed: keys.map(|key| (*key).to_owned()).collect(),
        });
    }
    for gone in old.bgp.neighbors.iter().filter(|n| find(&new.bgp.neighbors, n).is_none()) {
        let neighbor = gone.peer.address.to_string();
        neighbors.push(ReloadNeighbor { neighbor, action: ReloadAction::Remove, changed: Vec::new() });
    }
    let sections = [
        ("[advertise]", old.advertise != new.advertise),
        ("[ovn] what is exposed", exposed(old) != exposed(new)),
        ("[wiring] rules", old.wiring.rules != new.wiring.rules),
        ("[bgp] listen", (&old.bgp.listen, old.bgp.port) != (&new.bgp.listen, new.bgp.port)),
        ("[bgp] listen_ranges", old.bgp.listen_ranges != new.bgp.listen_ranges),
        ("[bgp] drain_wait", old.bgp.drain_wait != new.bgp.drain_wait),
        ("[bfd.profiles]", old.bfd_profiles != new.bfd_profiles),
        ("[fib]", old.fib != new.fib),
    ];
    let restart = [
        ("[ovn] on or off", started.ovn.is_some() != new.ovn.is_some()),
        ("[ovn] where the databases are", databases(started) != databases(new)),
        ("[wiring]", read_once(&started.wiring) != read_once(&new.wiring)),
        ("[api]", started.api != new.api),
    ];
    let differing = |list: &[(&str, bool)]| -> Vec<String> {
        list.iter().filter(|(_, differs)| *differs).map(|(what, _)| (*what).to_owned()).collect()
    };
    ReloadReport {
        dry_run,
        accepted: true,
        problems: Vec::new(),
        neighbors,
        changes: differing(&sections),
        restart_needed: differing(&restart),
    }
}

/// `[wiring]` but for what can be changed while everything runs.
fn read_once(wiring: &Wiring) -> Wiring {
    Wiring { rules: Rules::default(), ..wiring.clone() }
}

/// What `[ovn]` says about exposures; the form of the rules belongs to `[wiring]`.
fn exposed(config: &Config) -> Options {
    Options { rules: Rules::default(), ..config.options() }
}

/// The part of `[ovn]` that is read once.
fn databases(config: &Config) -> Option<impl PartialEq> {
    config.ovn.as_ref().map(|ovn| {
        (ovn.nb.clone(), ovn.ovs.clone(), ovn.tls.clone(), ovn.hostname.clone(), ovn.system_id.clone(), ovn.monitor)
    })
}

const fn action(impact: Impact) -> ReloadAction {
    match impact {
        Impact::Nothing => ReloadAction::Nothing,
        Impact::Refresh => ReloadAction::Refresh,
        Impact::Reset => ReloadAction::Reset,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BASE: &str = r#"
[bgp]
asn = 64999
router_id = "10.0.1.2"

[[bgp.neighbors]]
address = "10.0.1.1"
remote_as = 65001
description = "old"

[[bgp.neighbors]]
address = "10.0.2.1"
remote_as = 65001

[prefix_lists]
hosts = ["permit 0.0.0.0/0 ge 32"]

[ovn]

[wiring]
rules = "per-prefix"
"#;

    fn config(text: &str) -> Config {
        config::parse(text, Path::new("/c.toml")).into_result().unwrap().0
    }

    /// Base, with these replacements.
    fn changed(replacements: &[(&str, &str)]) -> Config {
        let text = replacements.iter().fold(BASE.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        config(&text)
    }

    fn report(new: &Config) -> ReloadReport {
        let old = config(BASE);
        compare(&old, &old, new, true)
    }

    #[test]
    fn each_neighbour_is_disturbed_no_more_than_its_change_needs() {
        use ReloadAction::{Add, Nothing, Refresh, Remove, Reset};
        let actions = |replacements: &[(&str, &str)]| -> Vec<(String, ReloadAction)> {
            report(&changed(replacements)).neighbors.into_iter().map(|n| (n.neighbor, n.action)).collect()
        };
        let (first, second) = ("10.0.1.1".to_owned(), "10.0.2.1".to_owned());
        let table = [
            ("\"old\"", "\"new\"", Nothing),
            ("description = \"old\"", "prefix_list_out = \"hosts\"", Refresh),
            ("description = \"old\"", "hold_time = \"9s\"", Reset),
        ];
        for (from, to, action) in table {
            assert_eq!(actions(&[(from, to)]), [(first.clone(), action), (second.clone(), Nothing)], "{to}");
        }
        let moved = actions(&[("10.0.2.1", "10.0.3.1")]);
        assert_eq!(moved, [(first.clone(), Nothing), ("10.0.3.1".into(), Add), (second.clone(), Remove)]);
        assert_eq!(actions(&[("64999", "64998")]), [(first, Reset), (second, Reset)]);
    }

    #[test]
    fn what_is_read_once_waits_for_a_restart_however_often_one_reloads() {
        let new = changed(&[("rules = \"per-prefix\"", "route_protocol = 98")]);
        let first = report(&new);
        assert_eq!((first.changes, first.restart_needed), (vec![], vec!["[wiring]".to_owned()]));
        let again = compare(&new, &config(BASE), &new, false);
        assert_eq!(again.restart_needed, ["[wiring]"], "it is still not in force");
        let back = compare(&new, &config(BASE), &config(BASE), false);
        assert!(back.restart_needed.is_empty(), "it never was");
    }

    #[test]
    fn the_form_of_the_rules_is_changed_while_everything_runs() {
        let report = report(&changed(&[("per-prefix", "per-table")]));
        assert_eq!((report.changes, report.restart_needed), (vec!["[wiring] rules".to_owned()], vec![]));
    }

    #[test]
    fn a_changed_rule_of_exposure_is_recomputed() {
        let new = changed(&[("[ovn]", "[ovn]\nexpose_tenant_networks = true")]);
        let report = report(&new);
        assert_eq!((report.changes, report.restart_needed), (vec!["[ovn] what is exposed".to_owned()], vec![]));
    }
}
