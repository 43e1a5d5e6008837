//! `check`, and reading the configuration for the commands that need one.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::output::{self, Failure};
use crate::config::{self, Config, Problem};

/// Prints every problem to stderr. Exit code 0 when there is no error; warnings alone are fine.
pub(super) fn run(file: &Path) -> Result<ExitCode, Failure> {
    let outcome = config::load(file);
    let mut diagnostics = String::new();
    for problem in &outcome.problems {
        let _ = writeln!(diagnostics, "{problem}");
    }
    let errors = outcome.problems.iter().filter(|p| p.is_error()).count();
    let warnings = outcome.problems.len() - errors;
    let Some(config) = outcome.config else {
        let _ = writeln!(diagnostics, "{}: {}", file.display(), count(errors, "error"));
        output::diagnose(&diagnostics);
        return Ok(ExitCode::FAILURE);
    };
    output::diagnose(&diagnostics);
    output::print(&format!("{}: {}\n", file.display(), describe(&config, warnings)))
}

/// One line that lets an operator see whether this is the file that was meant.
fn describe(config: &Config, warnings: usize) -> String {
    let mut text = format!(
        "fine: AS {}, router ID {}, {}, {} to announce, {}",
        config.bgp.speaker.asn,
        config.bgp.speaker.router_id,
        count(config.bgp.neighbors.len(), "neighbour"),
        count(config.advertise.prefixes.len() + config.advertise.from_files.len(), "prefix"),
        if config.ovn.is_some() { "with OVN" } else { "without OVN" },
    );
    if warnings > 0 {
        let _ = write!(text, ", {}", count(warnings, "warning"));
    }
    text
}

fn count(n: usize, what: &str) -> String {
    let plural = if what.ends_with('x') { "es" } else { "s" };
    format!("{n} {what}{}", if n == 1 { "" } else { plural })
}

/// Reads a configuration; warnings go to the log.
pub(super) fn load(file: &Path) -> Result<Config, Failure> {
    let (config, warnings) = config::load(file).into_result().map_err(Failure::Config)?;
    for warning in warnings {
        log_warning(&warning);
    }
    Ok(config)
}

fn log_warning(problem: &Problem) {
    tracing::warn!("{problem}");
}
