//! Commands. Results go to stdout, diagnostics to stderr; `docs/api.md` says what `--json` prints.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done, and the answer is yes where there is one |
//! | 1 | the command ran, and the answer is no: the configuration has an error, the address is not announced, the reload or the upgrade was refused |
//! | 2 | the command line is wrong |
//! | 3 | the daemon cannot be reached or did not answer |
//! | 4 | the daemon stopped because of an error |

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

mod args;
mod check;
mod client;
mod decode;
mod hex;
mod log;
mod man;
mod migrate;
mod output;
mod plan;
mod replay;
mod show;

use args::{Cli, Command};
use output::Failure;

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log::init(&cli.global, matches!(cli.command, Command::Run { .. }));
    match dispatch(cli) {
        Ok(code) => code,
        Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(failure) => {
            output::diagnose(&format!("ovn-bgpd: {failure}\n"));
            failure.exit_code()
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Run { config, record } => {
            let config = check::load(&config)?;
            crate::daemon::run(config, record.as_deref()).map_err(Failure::Daemon)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { config } => check::run(&config),
        Command::Replay { file } => replay::run(&file),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Show { topic, json } => show::show(&cli.global.socket, topic, json, cli.global.verbose > 0),
        Command::Explain { address, json } => show::explain(&cli.global.socket, address, json),
        Command::Reload { dry_run, json } => show::reload(&cli.global.socket, dry_run, json),
        Command::Upgrade { format: true, .. } => output::print(&format!("{}\n", bgp::driver::hand_over::FORMAT)),
        Command::Upgrade { json, .. } => show::upgrade(&cli.global.socket, json),
        Command::Drain { wait, json } => show::drain(&cli.global.socket, wait, json),
        Command::Undrain { json } => show::undrain(&cli.global.socket, json),
        Command::Migrate { agent, frr } => migrate::run(agent.as_deref(), frr.as_deref()),
        Command::Decode(arguments) => decode::run(&arguments),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ovn-bgpd", &mut text);
            output::print_bytes(&text)
        }
        Command::Man => man::run(),
    }
}
