//! The edge of [`crate::bfd`]: sockets, clock and a thread of its own.
//!
//! The thread runs in real time and with locked memory where that is permitted, and shares no lock with anybody: neither a
//! reload nor a table of a million routes keeps a control packet from being sent or read. Silence is judged by when the *kernel*
//! received the newest packet, after everything the sockets hold was read; being late ourselves takes no session down.

mod alarm;
mod hand_over;
mod receive;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{Discovered, Gone, Handle as Speaker};
use crate::bfd::table::Counters;
use crate::bfd::{AuthKind, Diagnostic, Discard, Keys, Punctuality, SessionConfig, SessionKey, State, Transition};
use crate::speaker::PeerAddress;
use alarm::Alarm;
use run::Driver;

pub use hand_over::HandOver;

/// Events a subscriber may fall behind before it misses some.
const EVENTS_KEPT: usize = 1024;

/// How long after a failure of our own BFD begins anew.
const AGAIN: Duration = Duration::from_secs(1);

/// How a peer is to be watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Intervals and multiplier.
    pub config: SessionConfig,
    /// The address to send from; `None`: the one the kernel chooses.
    pub local: Option<IpAddr>,
    /// The interface of a peer with an address of its own, if it is to be bound to one.
    pub interface: Option<String>,
    /// Authentication, if the peer does the same.
    pub keys: Option<Keys>,
    /// A failure may be a restart of the peer's control plane, and its routes stay as graceful restart lets them (RFC 5882 §4.3); unless
    /// the peer has said by the C bit that its BFD does not depend on that.
    pub graceful: bool,
    /// A path that fails over and over is relied on again only after it has held for a while: see [`crate::bfd::damping`].
    pub damping: bool,
}

/// Whom to watch.
pub type Peers = BTreeMap<PeerAddress, Watched>;

/// A session of a peer has changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub peer: PeerAddress,
    /// The session.
    pub key: SessionKey,
    /// From what to what, and why.
    pub transition: Transition,
}

/// One session as it is now.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Whose; `None`: of a peer that is no longer watched, which is being told so.
    pub peer: Option<PeerAddress>,
    /// The session.
    pub key: SessionKey,
    /// Our state.
    pub state: State,
    /// The peer's, as it last said.
    pub remote_state: State,
    /// How long it has been in this state.
    pub since: Duration,
    /// Why it last changed, in words.
    pub diagnostic: String,
    /// Why the peer's last changed.
    pub remote_diagnostic: String,
    /// Our discriminator.
    pub local_discriminator: u32,
    /// The peer's.
    pub remote_discriminator: u32,
    /// Time between our packets, before jitter; `None`: none are sent.
    pub transmit_interval: Option<Duration>,
    /// Time between the peer's.
    pub receive_interval: Duration,
    /// Silence after which the session is down.
    pub detection_time: Duration,
    /// What was counted.
    pub counters: Counters,
    /// Packets that named the session and were dropped, by rule.
    pub discards: BTreeMap<Discard, u64>,
    /// How often it changed to a state, and for what reason.
    pub transitions: BTreeMap<(State, Diagnostic), u64>,
    /// How punctual our packets were.
    pub punctuality: Punctuality,
    /// Up, but its path has failed so often that it is not relied on for so long.
    pub held_for: Option<Duration>,
    /// How packets are authenticated.
    pub authentication: Option<AuthKind>,
    /// Why the session cannot send, or why nobody listens.
    pub error: Option<String>,
}

/// Everything there is to see.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The sessions.
    pub sessions: Vec<SessionStatus>,
    /// Packets dropped, by rule.
    pub discards: BTreeMap<Discard, u64>,
    /// How punctual our packets were.
    pub punctuality: Punctuality,
    /// Addresses we cannot listen on, with the reason.
    pub failures: BTreeMap<SocketAddr, String>,
}

/// An order to the thread, or a question.
#[derive(Debug)]
enum Command {
    Snapshot(oneshot::Sender<Snapshot>),
    Pause(Duration),
    HandOver(Duration, oneshot::Sender<HandOver>),
    Shutdown(oneshot::Sender<()>),
}

/// Running BFD. Cheap to clone; the sessions go on when all handles are dropped, until [`Handle::shutdown`] or
/// [`Handle::hand_over`].
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    peers: watch::Sender<Arc<Peers>>,
    events: broadcast::Sender<Event>,
    down: watch::Receiver<Arc<BTreeSet<SessionKey>>>,
    real_time: bool,
}

/// What the thread is connected to.
#[derive(Debug)]
struct Links {
    commands: mpsc::UnboundedReceiver<Command>,
    peers: watch::Receiver<Arc<Peers>>,
    discovered: watch::Receiver<Discovered>,
    events: broadcast::Sender<Event>,
    down: watch::Sender<Arc<BTreeSet<SessionKey>>>,
    speaker: Option<Speaker>,
}

/// Starts BFD on a thread of its own, without any peer yet. The speaker is told at once when a path has failed or is up, and
/// says who is at the other end of unnumbered links.
///
/// # Errors
/// The thread or its runtime could not be made. Missing privileges and a port that is taken are no errors: they are logged, and the
/// latter is shown in [`Handle::snapshot`] and tried again.
pub fn spawn(speaker: Option<Speaker>) -> io::Result<Handle> {
    start(speaker, None)
}

/// Like [`spawn`], but goes on with the sessions that [`Handle::hand_over`] has given away, as they are configured there. The peers
/// notice nothing: a session that is up stays so, under the same discriminators and from the same source port, and its intervals
/// return to the configured ones by a poll sequence. The speaker is told again what it has to know: that the path to a peer works,
/// that the peer wants no BFD, or that the path has failed too often. What is different by now is for [`Handle::set_peers`].
///
/// # Errors
/// As for [`spawn`]. A session that cannot be gone on with is no error: it begins anew.
pub fn take_over(speaker: Option<Speaker>, handed: HandOver) -> io::Result<Handle> {
    start(speaker, Some(handed))
}

fn start(speaker: Option<Speaker>, mut handed: Option<HandOver>) -> io::Result<Handle> {
    let (commands, command_receiver) = mpsc::unbounded_channel();
    let (peers, wanted) = watch::channel(Arc::new(handed.as_ref().map(HandOver::peers).unwrap_or_default()));
    // Whoever asks first is not to use what has failed.
    let (down_sender, down) = watch::channel(Arc::new(handed.as_ref().map(HandOver::down).unwrap_or_default()));
    let discovered = match &speaker {
        Some(speaker) => speaker.watch_discovered(),
        None => watch::channel(Discovered::default()).1,
    };
    let events = broadcast::Sender::new(EVENTS_KEPT);
    let told = events.subscribe();
    let mut links = Links {
        commands: command_receiver,
        peers: wanted,
        discovered,
        events: events.clone(),
        down: down_sender,
        speaker,
    };
    let mut first = Some(bed()?);
    std::thread::Builder::new().name("bfd-log".to_owned()).spawn(move || log(told))?;
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("bfd".to_owned()).spawn(move || {
        // The answer is waited for below.
        let _ = tell.send(run::claim_privileges());
        supervise(&mut links, |links| first.take().map_or_else(bed, Ok).map(|bed| live(links, bed, handed.take())));
    })?;
    let real_time = told.recv().unwrap_or(false);
    Ok(Handle { commands, peers, events, down, real_time })
}

/// What a driver runs on.
fn bed() -> io::Result<(Runtime, Alarm)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let alarm = {
        let _within = runtime.enter();
        Alarm::new()?
    };
    Ok((runtime, alarm))
}

/// One driver, from its first session to its last word.
fn live(links: &mut Links, (runtime, alarm): (Runtime, Alarm), handed: Option<HandOver>) {
    let seed = RandomState::new().hash_one(std::process::id());
    let driver = Driver::new(links, alarm, seed);
    if let Some((reply, handed)) = runtime.block_on(tokio::task::unconstrained(driver.run(handed))) {
        // It was waited for a moment ago; whoever has given up since has given up the sessions.
        let _ = reply.send(handed);
    }
}

/// A driver that panics is followed by another: nobody else would notice that no path is watched any more. What the former one knew
/// is not known any longer.
fn supervise(links: &mut Links, mut live: impl FnMut(&mut Links) -> io::Result<()>) {
    loop {
        match catch_unwind(AssertUnwindSafe(|| live(links))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(%error, "BFD does not run; no path is watched; tried again"),
            Err(_) => tracing::error!("BFD has panicked, a fault of ours; all of its sessions are down and begin anew"),
        }
        links.vouch_for_nobody();
        std::thread::sleep(AGAIN);
    }
}

impl Links {
    fn vouch_for_nobody(&self) {
        self.down.send_replace(Arc::default());
        for peer in self.peers.borrow().keys() {
            if let Some(speaker) = &self.speaker {
                // A speaker that is gone ends us as well, soon.
                let _ = speaker.bfd_gone(peer.clone());
            }
        }
    }
}

/// Writes down what happens, elsewhere than where it happens: whoever reads the log may be stuck.
fn log(mut events: broadcast::Receiver<Event>) {
    loop {
        match events.blocking_recv() {
            Ok(Event { peer, key, transition }) => {
                let Transition { from, to, diagnostic, remote_admin_down, .. } = transition;
                let interface = key.interface.as_deref();
                let address = key.peer;
                match (from, to) {
                    (_, State::Up) => tracing::info!(neighbor = %peer, %address, interface, "BFD is up"),
                    (State::Up, _) if remote_admin_down => {
                        tracing::info!(neighbor = %peer, %address, interface, "BFD was taken down by the neighbour; BGP stays");
                    }
                    (State::Up, _) => {
                        tracing::warn!(neighbor = %peer, %address, interface, why = %diagnostic, "BFD is down");
                    }
                    _ => tracing::debug!(neighbor = %peer, %address, interface, %from, %to, "BFD"),
                }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => tracing::warn!(missed, "BFD changes were not logged"),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

impl Handle {
    /// Replaces the whole set of peers to watch; the latest set wins. New intervals are negotiated by a poll sequence, without a
    /// flap; a peer that is no longer watched is told (AdminDown) for a Detection Time.
    pub fn set_peers(&self, peers: Peers) {
        self.peers.send_replace(Arc::new(peers));
    }

    /// Changes of state. A subscriber that falls far behind is told how much it missed.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The sessions whose path was up and has failed since: no traffic should go there. Set before the speaker is told.
    pub fn watch_down(&self) -> watch::Receiver<Arc<BTreeSet<SessionKey>>> {
        self.down.clone()
    }

    /// We may not get to run for so long, soon: peers are told by a poll sequence to wait that much longer for our packets, and are told
    /// otherwise when it should be over. How soon we notice *them* fail does not change. A thread in real time needs this only before
    /// the whole machine pauses.
    pub fn expect_pause(&self, pause: Duration) -> Result<(), Gone> {
        self.commands.send(Command::Pause(pause)).map_err(|_| Gone)
    }

    /// Whether the thread runs in real time, before everything that does not.
    pub const fn is_real_time(&self) -> bool {
        self.real_time
    }

    /// Everything there is to see.
    pub async fn snapshot(&self) -> Result<Snapshot, Gone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Snapshot(reply)).map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// Gives the sessions away, for [`take_over`] in another process, or in this one, and ends the thread without a word to the peers.
    /// First they are asked to be patient for such a pause, as by [`Handle::expect_pause`], and given up to 0.3 s to agree. Meant to be
    /// the last thing before the pause: nobody watches any path from then on. The answer holds the keys.
    pub async fn hand_over(&self, pause: Duration) -> Result<HandOver, Gone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::HandOver(pause, reply)).map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// Tells all peers that BFD ends on purpose, so that they keep BGP (RFC 5882 §3.2), and ends the thread.
    pub async fn shutdown(&self) -> Result<(), Gone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Shutdown(reply)).map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Command as Order;
    use super::*;

    /// A speaker's handle, and what it was told.
    fn deaf_speaker() -> (Speaker, mpsc::UnboundedReceiver<Order>) {
        let (commands, told) = mpsc::unbounded_channel();
        let speaker = Speaker {
            commands,
            routes: watch::Sender::default(),
            learned: watch::channel(super::super::LearnedRoutes::default()).1,
            events: broadcast::Sender::new(1),
            interfaces: watch::Sender::default(),
            discovered: watch::Sender::default(),
        };
        (speaker, told)
    }

    #[tokio::test]
    async fn a_driver_that_panics_is_followed_by_one_that_vouches_for_nobody() {
        let (command_sender, commands) = mpsc::unbounded_channel();
        let address: IpAddr = [127, 0, 0, 77].into();
        let peers: Peers = [(PeerAddress::Numbered(address), Watched::default())].into();
        let (_wanted, mut peers) = watch::channel(Arc::new(peers));
        let key = SessionKey { peer: address, interface: None };
        let (down, failed) = watch::channel(Arc::new(BTreeSet::from([key.clone()])));
        let discovered = watch::channel(Discovered::default()).1;
        // The first one knew whom to watch, so this is no news any more.
        peers.mark_unchanged();
        let (speaker, mut told) = deaf_speaker();
        let events = broadcast::Sender::new(1);
        let mut links = Links { commands, peers, discovered, events, down, speaker: Some(speaker) };
        let (ask, answer) = oneshot::channel();
        command_sender.send(Command::Snapshot(ask)).unwrap();
        command_sender.send(Command::Shutdown(oneshot::channel().0)).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut lives, mut still_known) = (0, true);
            supervise(&mut links, |links| {
                lives += 1;
                assert!(lives > 1, "on purpose");
                still_known = !failed.borrow().is_empty();
                bed().map(|bed| live(links, bed, None))
            });
            still_known
        });
        let snapshot = answer.await.unwrap();
        let states: Vec<_> = snapshot.sessions.into_iter().map(|session| (session.key, session.state)).collect();
        assert_eq!(states, [(key, State::Down)]);
        let gone = told.try_recv();
        assert!(matches!(&gone, Ok(Order::BfdGone(PeerAddress::Numbered(peer))) if *peer == address), "{gone:?}");
        assert!(!thread.join().unwrap(), "what failed before is not known any more");
    }
}
