//! How a command ends, and how it prints.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::api::text::Paint;
use crate::config::Problems;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// Whoever read our output has gone; not worth a word.
    BrokenPipe,
    /// Output could not be written.
    Output(io::Error),
    /// An input of the command is wrong; the answer is no.
    Input(String),
    /// The configuration is wrong.
    Config(Problems),
    /// The daemon cannot be reached, or did not answer properly.
    Unreachable(String),
    /// The daemon ended with an error.
    Daemon(anyhow::Error),
}

impl Failure {
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::BrokenPipe => 0,
            Self::Input(_) | Self::Config(_) => 1,
            Self::Unreachable(_) | Self::Output(_) => 3,
            Self::Daemon(_) => 4,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokenPipe => f.write_str("the reader of the output has gone"),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
            Self::Input(message) | Self::Unreachable(message) => f.write_str(message),
            Self::Config(problems) => write!(f, "the configuration has errors\n{problems}"),
            // `{:#}`: with the chain of causes.
            Self::Daemon(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::BrokenPipe } else { Self::Output(error) }
    }
}

/// Says something on stderr. Nothing is left to do if nobody listens there.
pub(super) fn diagnose(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints a result to stdout.
pub(super) fn print(text: &str) -> Result<ExitCode, Failure> {
    print_bytes(text.as_bytes())
}

/// Prints a result to stdout.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Colours only on a terminal, and not where people have said no (<https://no-color.org>).
pub(super) fn paint() -> Paint {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !unwanted { Paint::Colour } else { Paint::Plain }
}
