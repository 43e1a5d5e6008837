//! `migrate`: what ovn-bgp-agent and FRR were told, as a configuration of ours.
//!
//! ```text
//! bgp-agent.conf ─ agent ─┐
//!                         ├─▶ Found ─ emit ─▶ TOML     (checked before it is printed)
//! frr.conf ─────── frr ───┘     └─ notes: every line that was not carried over, with the reason
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output::{self, Failure};
use crate::config::{self, Problem};

mod agent;
mod emit;
mod found;
mod frr;

use found::Found;

/// Prints the configuration on stdout; what could not be carried over stands in it as comments, and on stderr.
pub(super) fn run(agent: Option<&Path>, frr: Option<&Path>) -> Result<ExitCode, Failure> {
    let (text, notes) = migrate(&read(agent)?, &read(frr)?);
    for note in &notes {
        output::diagnose(&format!("{note}\n"));
    }
    output::print(&text)?;
    let faults = faults(&text);
    for fault in &faults {
        output::diagnose(&format!("the result needs your hand: {fault}\n"));
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file to migrate, if it was given.
type Input = Option<(PathBuf, String)>;

fn read(path: Option<&Path>) -> Result<Input, Failure> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Input(format!("{}: cannot be read: {error}", path.display())))?;
    Ok(Some((path.to_owned(), text)))
}

/// The configuration as text, and what was not carried over.
fn migrate(agent: &Input, frr: &Input) -> (String, Vec<String>) {
    let mut found = Found::default();
    if let Some((path, text)) = frr {
        frr::read(text, path, &mut found);
    }
    if let Some((path, text)) = agent {
        agent::read(text, path, &mut found);
    }
    let text = emit::emit(&mut found, agent.is_some(), frr.is_some());
    (text, found.notes)
}

/// What `check` would say about the result.
fn faults(text: &str) -> Vec<Problem> {
    let outcome = config::parse(text, Path::new("(result)"));
    outcome.problems.into_iter().filter(Problem::is_error).collect()
}

#[cfg(test)]
mod tests;
