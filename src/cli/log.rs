//! Diagnostics on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::args::{Global, LogFormat};

/// Sets up logging. The daemon says what happens to it; the other commands only what goes wrong. `RUST_LOG` wins over `-v`.
pub(super) fn init(global: &Global, daemon: bool) {
    let level = match (global.verbose, daemon) {
        (0, false) => "warn",
        (0, true) | (1, false) => "info",
        (1, true) | (2, false) => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match global.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // A subscriber that is there already (a test's) is as good.
    drop(done);
}
