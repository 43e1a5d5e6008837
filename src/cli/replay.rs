//! `replay`: a recording again, and whether the same follows from it.

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;

use super::output::{self, Failure};
use crate::record::{Entry, Line, Replay};

/// Replays a recording. Every effect goes to stdout as a line; exit code 1 if one is not what the recording says.
pub(super) fn run(path: &Path) -> Result<ExitCode, Failure> {
    let fault = |what: String| Failure::Input(format!("{}: {what}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| fault(error.to_string()))?;
    let (mut replay, mut at, mut differ) = (Replay::default(), 0.0, 0);
    let mut open = false;
    for (number, line) in (1..).zip(std::io::BufReader::new(file).lines()) {
        let line = line.map_err(|error| fault(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let found = replay.line(&line).map_err(|error| fault(format!("line {number}: {error}")))?;
        open = found.is_none();
        let Some((recorded, effects)) = found else { continue };
        at = recorded.at;
        if recorded.entry != Entry::Effects(effects.clone()) {
            differ += 1;
            output::diagnose(&format!("ovn-bgpd: {}: line {number}: something else follows now\n", path.display()));
        }
        print(at, Entry::Effects(effects))?;
    }
    // The last inputs of a daemon that was stopped, or of a recording that was written by hand.
    if open {
        print(at, Entry::Effects(replay.effects()))?;
    }
    Ok(if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(at: f64, entry: Entry) -> Result<(), Failure> {
    let line = serde_json::to_string(&Line { at, entry }).map_err(|error| Failure::Input(error.to_string()))?;
    output::print(&(line + "\n")).map(drop)
}
