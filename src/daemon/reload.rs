//! What a changed configuration file means, and putting it in force.

use bgp::speaker::{Impact, classify, classify_speaker};

use super::agent::Agent;
use crate::api::model::{ReloadAction, ReloadNeighbor, ReloadReport};
use crate::config::{self, Config, Neighbor};

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
    let report = compare(&agent.config, &new, dry_run);
    if !dry_run {
        tracing::info!(neighbors = ?summary(&report), changes = ?report.changes, "configuration reloaded");
        for what in &report.restart_needed {
            tracing::warn!("{what} takes effect only after a restart");
        }
        agent.adopt(new);
    }
    report
}

fn summary(report: &ReloadReport) -> Vec<String> {
    let touched = report.neighbors.iter().filter(|n| n.action != ReloadAction::Nothing);
    touched.map(|n| format!("{} {:?} ({})", n.neighbor, n.action, n.changed.join(", "))).collect()
}

/// What differs, and what it disturbs. Pure: the dry run and the real thing say the same.
fn compare(old: &Config, new: &Config, dry_run: bool) -> ReloadReport {
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
        let bfd = (profile(&before) != profile(neighbor)).then_some(&"bfd");
        let keys = change.keys.iter().chain(&speaker.keys).chain(bfd);
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
        ("[ovn] what is exposed", old.options() != new.options()),
        ("[bgp] listen", (&old.bgp.listen, old.bgp.port) != (&new.bgp.listen, new.bgp.port)),
        ("[bfd.profiles]", old.bfd_profiles != new.bfd_profiles),
        ("[fib]", old.fib != new.fib),
    ];
    let restart = [
        ("[ovn] on or off", old.ovn.is_some() != new.ovn.is_some()),
        ("[ovn] where the databases are", databases(old) != databases(new)),
        ("[wiring]", old.wiring != new.wiring),
        ("[api]", old.api != new.api),
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

/// The part of `[ovn]` that is read once.
fn databases(config: &Config) -> Option<impl PartialEq> {
    config
        .ovn
        .as_ref()
        .map(|ovn| (ovn.nb.clone(), ovn.ovs.clone(), ovn.tls.clone(), ovn.hostname.clone(), ovn.system_id.clone()))
}

const fn action(impact: Impact) -> ReloadAction {
    match impact {
        Impact::Nothing => ReloadAction::Nothing,
        Impact::Refresh => ReloadAction::Refresh,
        Impact::Reset => ReloadAction::Reset,
    }
}
