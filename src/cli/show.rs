//! The commands that ask the daemon: `show`, `explain`, `reload`, `upgrade`, `drain`, `undrain`.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};

use super::args::Topic;
use super::client::{Answer, ask};
use super::output::{self, Failure};
use crate::api::model::{DrainReport, Explain, ReloadReport, Summary, UpgradeOrder, UpgradeReport};
use crate::api::text;
use crate::config::duration;

/// Prints one of the tables; `verbose`: everything about each neighbour.
pub(super) fn show(socket: &Path, topic: Topic, json: bool, verbose: bool) -> Result<ExitCode, Failure> {
    let answer = ask(socket, Method::GET, topic.path(), &[])?;
    if json {
        return print_json(&answer);
    }
    let paint = output::paint();
    output::print(&match topic {
        Topic::Summary => text::summary(&answer.read()?, paint),
        Topic::Neighbors if verbose => text::neighbors_in_full(&answer.read::<Vec<_>>()?, paint),
        Topic::Neighbors => text::neighbors(&answer.read::<Vec<_>>()?, paint),
        Topic::Routes => text::routes(&answer.read::<Vec<_>>()?, paint),
        Topic::Learned => text::learned(&answer.read::<Vec<_>>()?, paint),
        Topic::Exposures => text::exposures(&answer.read::<Vec<_>>()?, paint),
        Topic::Wiring => text::wiring(&answer.read()?, paint),
        Topic::Bfd => {
            let summary: Summary = ask(socket, Method::GET, Topic::Summary.path(), &[])?.read()?;
            let packets = summary.bfd.map(|packets| text::bfd_packets(&packets, paint)).unwrap_or_default();
            text::bfd(&answer.read::<Vec<_>>()?, paint) + &packets
        }
    })
}

/// Prints why an address is or is not announced; exit code 1 when it is not.
pub(super) fn explain(socket: &Path, address: IpAddr, json: bool) -> Result<ExitCode, Failure> {
    let answer = ask(socket, Method::GET, &format!("/v1/explain/{address}"), &[])?;
    let explanation: Explain = answer.read()?;
    if json {
        print_json(&answer)?
    } else {
        output::print(&text::explain(&explanation, output::paint()))?
    };
    Ok(if explanation.announced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Has the configuration read again; exit code 1 when it was refused.
pub(super) fn reload(socket: &Path, dry_run: bool, json: bool) -> Result<ExitCode, Failure> {
    let path = if dry_run { "/v1/reload?dry_run=true" } else { "/v1/reload" };
    let answer = ask(socket, Method::POST, path, &[StatusCode::UNPROCESSABLE_ENTITY])?;
    let report: ReloadReport = answer.read()?;
    if json {
        print_json(&answer)?;
    } else {
        for problem in &report.problems {
            output::diagnose(&format!("{problem}\n"));
        }
        output::print(&text::reload(&report, output::paint()))?;
    }
    Ok(if report.accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How long the new process may take before it answers.
const NEW_PROCESS: Duration = Duration::from_secs(60);
/// How often it is asked.
const AGAIN: Duration = Duration::from_millis(50);

/// Has the daemon go on in the binary on disk, and waits until that answers; exit code 1 when it did not.
pub(super) fn upgrade(socket: &Path, json: bool) -> Result<ExitCode, Failure> {
    let answer = ask(socket, Method::POST, "/v1/upgrade", &[StatusCode::ACCEPTED, StatusCode::UNPROCESSABLE_ENTITY])?;
    let order: UpgradeOrder = answer.read()?;
    if !order.accepted {
        if json {
            print_json(&answer)?;
        } else {
            let problem = order.problem.unwrap_or_default();
            output::print(&format!("refused, everything goes on as before: {problem}\n"))?;
        }
        return Ok(ExitCode::FAILURE);
    }
    let until = Instant::now() + NEW_PROCESS;
    loop {
        match ask(socket, Method::GET, "/v1/upgrade", &[]) {
            Ok(answer) => {
                let report: UpgradeReport = answer.read()?;
                let failed = report.failure.as_ref().is_some_and(|failure| failure.number == order.number);
                if report.number == order.number || failed {
                    if json {
                        print_json(&answer)?;
                    } else {
                        output::print(&text::upgrade(&report, output::paint()))?;
                    }
                    return Ok(if report.number == order.number { ExitCode::SUCCESS } else { ExitCode::FAILURE });
                }
            }
            // There is a moment in which nobody answers.
            Err(Failure::Unreachable(_)) if Instant::now() < until => {}
            Err(failure) => return Err(failure),
        }
        if Instant::now() >= until {
            let why = format!("no answer of the new process within {} s; its log says more", NEW_PROCESS.as_secs());
            return Err(Failure::Unreachable(why));
        }
        std::thread::sleep(AGAIN);
    }
}

/// Moves traffic away.
pub(super) fn drain(socket: &Path, wait: Option<Duration>, json: bool) -> Result<ExitCode, Failure> {
    let wait = wait.map(|wait| format!("?wait={}", duration::format(wait))).unwrap_or_default();
    report_drain(&ask(socket, Method::POST, &format!("/v1/drain{wait}"), &[])?, json)
}

/// Brings traffic back.
pub(super) fn undrain(socket: &Path, json: bool) -> Result<ExitCode, Failure> {
    report_drain(&ask(socket, Method::POST, "/v1/undrain", &[])?, json)
}

fn report_drain(answer: &Answer, json: bool) -> Result<ExitCode, Failure> {
    if json {
        return print_json(answer);
    }
    let report: DrainReport = answer.read()?;
    let state = match (report.draining, report.changed) {
        (true, true) => "draining: traffic is being moved away",
        (true, false) => "draining already",
        (false, true) => "no longer draining",
        (false, false) => "not draining",
    };
    let then = report.withdrawal_in_seconds.map(|seconds| format!("; everything is withdrawn in {seconds:.1} s"));
    output::print(&format!("{state}{}\n", then.unwrap_or_default()))
}

fn print_json(answer: &Answer) -> Result<ExitCode, Failure> {
    output::print(&format!("{}\n", answer.text()?))
}
