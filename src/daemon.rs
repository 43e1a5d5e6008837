//! The daemon's main loop.

use crate::config::Config;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: Config) -> anyhow::Result<()> {
    let Config { file, .. } = config;
    anyhow::bail!("the daemon is not built yet; {} is fine", file.display())
}
