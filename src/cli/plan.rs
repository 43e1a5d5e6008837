//! `plan`: what this host would wire and announce, from two database files.

use std::process::ExitCode;

use super::args::PlanArgs;
use super::check;
use super::output::Failure;

/// Reads the configuration and the two databases, and prints the plan.
pub(super) fn run(arguments: &PlanArgs) -> Result<ExitCode, Failure> {
    let config = check::load(&arguments.config)?;
    Err(Failure::Input(format!("plan is not built yet; {} is fine", config.file.display())))
}
