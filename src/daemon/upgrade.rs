//! Going on in another binary: the same process, the same arguments, the same sessions.
//!
//! ```text
//!   asked ──▶ preflight: does the new binary take sessions over, and accept the configuration? ──▶ no: nothing happens
//!     │ yes
//!     ▼
//!   API stops, sessions fall silent, their state into memory without a name ──▶ exec ──▶ failed: everything goes on here
//!                                                                                 │
//!                                              sessions go on, or end without a word (graceful restart takes over)
//! ```

use std::ffi::{CString, OsString};
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bgp::driver::bfd;
use bgp::driver::hand_over::{self, Inheritance, Inherited};
use bgp::speaker::HandOver;
use nix::sys::signal::{SigSet, Signal};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::agent::Agent;
use super::bfd::Bfd;
use crate::api::model::{UpgradeFailure, UpgradeNeighbor, UpgradeOrder, UpgradeReport};

/// Tells the next process where its inheritance is: its process number, the number of the descriptor, and how many processes have handed
/// over so far, with colons in between. Whoever else sees it has another process number.
const VARIABLE: &str = "OVN_BGPD_STATE";
/// How long the new binary may take for one answer before it is let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Signals that would end a process before it has begun to listen to them.
const SIGNALS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2];

/// What one process leaves to the next.
#[derive(Serialize, Deserialize)]
struct State<Sessions> {
    /// Of the one that leaves it.
    version: String,
    /// How many processes have handed over so far, with this one.
    number: u64,
    /// When, on the clock that both share.
    at: Duration,
    /// Traffic is being moved away, and everything is withdrawn in so long.
    #[serde(default)]
    drain: Option<Duration>,
    /// The sessions.
    speaker: Sessions,
    /// Those of BFD. Where they cannot be read, they begin anew, and those of BGP go on.
    #[serde(default)]
    bfd: Option<Box<RawValue>>,
}

/// What the process before this one has left, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Former {
    pub(super) speaker: Option<Inheritance>,
    pub(super) bfd: Option<bfd::HandOver>,
    pub(super) drain: Option<Duration>,
    pub(super) record: Record,
}

/// How this process came to be, for whoever asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) number: u64,
    version: Option<String>,
    at: Option<Instant>,
    gap: Option<Duration>,
    neighbors: Vec<UpgradeNeighbor>,
    failure: Option<UpgradeFailure>,
}

impl Former {
    /// What was left for this process, if anything was. To be asked for before anything else is opened.
    pub(super) fn find() -> Self {
        let found = std::env::var(VARIABLE).ok();
        let Some((descriptor, number)) = found.and_then(|value| numbers_in(&value, std::process::id())) else {
            return Self::default();
        };
        match read(descriptor) {
            Ok(former) => former,
            Err(error) => {
                // Nobody would serve them. The neighbours see a connection that ends, as at a restart.
                let closed = hand_over::let_go();
                tracing::error!(%error, closed, "the sessions of the process before cannot be taken over; they restart gracefully");
                let reason = format!("what the process before has left cannot be read: {error:#}");
                let failure = Some(UpgradeFailure { number, reason });
                Self { record: Record { number, failure, ..Record::default() }, ..Self::default() }
            }
        }
    }
}

/// The last two numbers in the value of [`VARIABLE`], if it is meant for this process.
fn numbers_in(value: &str, pid: u32) -> Option<(i32, u64)> {
    let (process, rest) = value.split_once(':')?;
    let (descriptor, number) = rest.split_once(':')?;
    (process.parse() == Ok(pid)).then_some((descriptor.parse().ok()?, number.parse().ok()?))
}

fn read(number: i32) -> anyhow::Result<Former> {
    let text = hand_over::take(number)?;
    let state: State<HandOver> = serde_json::from_slice(&text).context("its text means nothing to this version")?;
    let now = Instant::now();
    let gap = clock()?.saturating_sub(state.at);
    let at = now.checked_sub(gap).unwrap_or(now);
    let bfd = state.bfd.map(|text| serde_json::from_str(text.get()));
    let unread =
        |error: &serde_json::Error| tracing::error!(%error, "BFD begins anew: what was handed over cannot be read");
    Ok(Former {
        bfd: bfd.and_then(|handed| handed.inspect_err(unread).ok()),
        speaker: Some(Inheritance { state: state.speaker, at }),
        drain: state.drain.map(|left| left.saturating_sub(gap)),
        record: Record { number: state.number, version: Some(state.version), at: Some(at), ..Record::default() },
    })
}

/// The time both processes agree on.
fn clock() -> anyhow::Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?))
}

impl Record {
    /// The sessions have gone on, or not.
    pub(super) fn taken_over(&mut self, sessions: &[Inherited]) {
        let Some(at) = self.at else { return };
        let gap = at.elapsed();
        let kept = sessions.iter().filter(|session| session.outcome.is_ok()).count();
        let milliseconds = gap.as_millis();
        let former = self.version.as_deref().unwrap_or_default();
        tracing::info!(kept, sessions = sessions.len(), milliseconds, former, "sessions taken over");
        let neighbor = |session: &Inherited| {
            let reason = session.outcome.clone().err();
            if let Some(reason) = &reason {
                tracing::warn!(neighbor = session.neighbor, reason, "not taken over; the session restarts");
            }
            UpgradeNeighbor { neighbor: session.neighbor.clone(), kept: reason.is_none(), reason }
        };
        self.neighbors = sessions.iter().map(neighbor).collect();
        self.gap = Some(gap);
    }

    pub(super) fn report(&self) -> UpgradeReport {
        UpgradeReport {
            number: self.number,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            former_version: self.version.clone(),
            seconds: self.at.map(|at| at.elapsed().as_secs_f64()),
            gap_seconds: self.gap.map(|gap| gap.as_secs_f64()),
            neighbors: self.neighbors.clone(),
            failure: self.failure.clone(),
        }
    }
}

/// The binary to go on in: what the command that started this process names, as it is on disk by then.
pub(super) fn program() -> PathBuf {
    let named = std::env::args_os().next().map(PathBuf::from).filter(|name| name.components().count() > 1);
    // Found by the PATH: the kernel knows what was found, and says so of a file that was replaced since.
    let found = || {
        let path = std::env::current_exe().unwrap_or_default().into_os_string().into_vec();
        let path = path.strip_suffix(b" (deleted)").unwrap_or(&path).to_vec();
        PathBuf::from(OsString::from_vec(path))
    };
    named.and_then(|name| std::path::absolute(name).ok()).unwrap_or_else(found)
}

/// Asks a binary whether it would take over, and answers its version. `Err`: why not, for the operator.
pub(super) fn preflight(program: &Path, config: &Path) -> Result<String, String> {
    let version = ask(program, &["--version".as_ref()])?;
    let version = version.trim().strip_prefix(concat!(env!("CARGO_PKG_NAME"), " "));
    let version = version.ok_or_else(|| format!("{} is another program", program.display()))?.to_owned();
    let restart = "a restart is what remains";
    let format = ask(program, &["upgrade".as_ref(), "--format".as_ref()])
        .map_err(|_| format!("version {version} takes no sessions over; {restart}"))?;
    if format.trim() != hand_over::FORMAT.to_string() {
        let ours = hand_over::FORMAT;
        let theirs = format.trim();
        return Err(format!("version {version} reads format {theirs} of sessions, this one writes {ours}; {restart}"));
    }
    ask(program, &["check".as_ref(), "--config".as_ref(), config.as_ref()])
        .map_err(|error| format!("version {version} refuses: {error}"))?;
    Ok(version)
}

/// What a binary prints, if it succeeds.
fn ask(program: &Path, arguments: &[&std::ffi::OsStr]) -> Result<String, String> {
    let shown = || {
        let words = arguments.iter().map(|argument| argument.to_string_lossy());
        format!("{} {}", program.display(), words.collect::<Vec<_>>().join(" "))
    };
    let child = Command::new(program)
        .args(arguments)
        .env_remove(VARIABLE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let output = finish(child).map_err(|error| format!("{}: {error}", shown()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut why = format!("{}: {}", shown(), output.status);
    for line in String::from_utf8_lossy(&output.stderr).lines().take(20) {
        let _ = write!(why, "\n{line}");
    }
    Err(why)
}

/// Waits for a child, but not for ever.
fn finish(mut child: Child) -> std::io::Result<Output> {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let reader = std::thread::spawn(move || {
        let mut octets = Vec::new();
        let _ = err.as_mut().map(|err| err.read_to_end(&mut octets));
        octets
    });
    let until = Instant::now() + PATIENCE;
    // What is asked for is short, and fits the pipe.
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Err(std::io::Error::other(format!("it does not end within {} s", PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut stdout = Vec::new();
    let _ = out.as_mut().map(|out| out.read_to_end(&mut stdout));
    Ok(Output { status, stdout, stderr: reader.join().unwrap_or_default() })
}

/// Whether this thread hears the signals that may end or change this process.
pub(super) fn heed_signals(heeded: bool) {
    let signals: SigSet = SIGNALS.into_iter().collect();
    let done = if heeded { signals.thread_unblock() } else { signals.thread_block() };
    if let Err(error) = done {
        tracing::debug!(%error, heeded, "signals");
    }
}

impl Agent {
    /// The new binary has been asked: go on in it as soon as everything else is done.
    pub(super) fn begin_upgrade(&mut self, version: String) -> UpgradeOrder {
        let number = self.upgrade.number + 1;
        self.upgrade.failure = None;
        tracing::info!(version, "going on in the binary that is on disk now");
        self.next = Some(super::agent::Next::Upgrade);
        UpgradeOrder { accepted: true, version: Some(version), number, problem: None }
    }

    /// Goes on in the binary that is on disk now. Comes back only if that cannot be, with the reason, and everything is as before.
    pub(super) async fn leave(&mut self, program: &Path) -> anyhow::Error {
        // First of all: what it sees fail until then, the speaker still acts upon.
        let bfd = self.bfd.hand_over().await;
        let error = match self.try_to_leave(program, bfd.as_ref()).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        heed_signals(true);
        self.bfd = Bfd::take_over(bfd, self.speaker.handle());
        self.bfd.configure(&self.config, self.speaker.handle());
        tracing::error!("not upgraded, everything goes on as before: {error:#}");
        let number = self.upgrade.number + 1;
        self.upgrade.failure = Some(UpgradeFailure { number, reason: format!("{error:#}") });
        error
    }

    async fn try_to_leave(
        &mut self,
        program: &Path,
        bfd: Option<&bfd::HandOver>,
    ) -> anyhow::Result<std::convert::Infallible> {
        let now = Instant::now();
        let drain = self
            .reconciler
            .draining()
            .then(|| self.reconciler.withdraw_at().map_or(Duration::ZERO, |at| at.saturating_duration_since(now)));
        let leaving = self.speaker.handle().hand_over().await.context("the speaker does not answer")?;
        let state = State {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            number: self.upgrade.number + 1,
            at: clock()?.saturating_sub(leaving.at.elapsed()),
            drain,
            speaker: &leaving.state,
            bfd: bfd.map(to_raw_value).transpose().context("the state of BFD cannot be written")?,
        };
        let text = serde_json::to_vec(&state).context("the state of the sessions cannot be written")?;
        let kept = hand_over::keep(&text).context("the state of the sessions cannot be kept")?;
        leaving.stay_open().context("the sockets of the sessions cannot be kept open")?;
        heed_signals(false);
        if self.is_told_to_stop().await {
            bail!("it was told to stop meanwhile");
        }
        exec(program, hand_over::number_of(&kept), state.number)
    }
}

/// Replaces this process. Comes back only with an error.
fn exec(program: &Path, descriptor: i32, number: u64) -> anyhow::Result<std::convert::Infallible> {
    let path = CString::new(program.as_os_str().as_bytes())?;
    let arguments: Vec<CString> = std::env::args_os().map(|a| CString::new(a.into_vec())).collect::<Result<_, _>>()?;
    let mut environment = vec![CString::new(format!("{VARIABLE}={}:{descriptor}:{number}", std::process::id()))?];
    for (name, value) in std::env::vars_os().filter(|(name, _)| name != VARIABLE) {
        environment.push(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    // Unlike that of the standard library this leaves the signals blocked, so that none ends the next process before it listens.
    match nix::unistd::execve(&path, &arguments, &environment) {
        Ok(never) => Ok(never),
        Err(error) => bail!("{}: {error}", program.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_for_one_process_only() {
        assert_eq!(numbers_in("17:5:1", 17), Some((5, 1)));
        for value in ["18:5:1", "17", "17:5", "17::", ":5:1", "17:x:1", ""] {
            assert_eq!(numbers_in(value, 17), None, "{value}");
        }
    }

    #[test]
    fn a_binary_that_is_none_or_refuses_is_named_with_its_reason() {
        let problem = |program: &str| preflight(Path::new(program), Path::new("/c.toml")).unwrap_err();
        assert!(
            problem("/nowhere/ovn-bgpd").contains("/nowhere/ovn-bgpd: No such file"),
            "{}",
            problem("/nowhere/ovn-bgpd")
        );
        assert!(problem("/etc/passwd").contains("Permission denied"), "{}", problem("/etc/passwd"));
        assert!(problem("/bin/cat").contains("another program"), "{}", problem("/bin/cat"));
    }
}
