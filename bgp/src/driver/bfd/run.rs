//! The loop: read everything, let time pass, send what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::sync::oneshot;

use super::super::sockets;
use super::alarm::Alarm;
use super::hand_over::{HandOver, Handing, Standing};
use super::receive::Listeners;
use super::{Command, Event, Links, SessionStatus, Snapshot, Watched};
use crate::bfd::damping::Damping;
use crate::bfd::table::Seen;
use crate::bfd::{Output, SessionConfig, SessionKey, State, Table, Transition};
use crate::rng::Rng;
use crate::speaker::{BfdFailure, PeerAddress};

/// RFC 5881 §4: "The source port MUST be in the range 49152 through 65535."
pub(super) const FIRST_SOURCE_PORT: u16 = 49152;
/// Source ports that are tried before a session gives up for a while.
const PORTS_TRIED: usize = 16;
/// How long a session that cannot get a socket waits.
const RETRY: Duration = Duration::from_secs(1);
/// Peers are not asked for more patience than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Times the last words are said at the end, when nothing can be repeated later.
const LAST_WORDS: usize = 3;

/// What belongs to a session besides the machine.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) peer: Option<PeerAddress>,
    pub(super) watched: Watched,
    socket: Option<(Socket, SocketAddr)>,
    /// RFC 5881 §4: "The same UDP source port number MUST be used for all BFD Control packets associated with a particular
    /// session."
    pub(super) port: Option<u16>,
    error: Option<String>,
    retry_at: Option<Instant>,
    /// No longer watched: AdminDown is told until then.
    gone_at: Option<Instant>,
    pub(super) damping: Damping,
    /// Up, but not relied on before.
    pub(super) held_until: Option<Instant>,
    /// What the speaker was told and has to keep in mind.
    pub(super) standing: Option<Standing>,
}

/// What the speaker is to be told of a path.
enum Verdict {
    Up,
    Failed(BfdFailure),
    /// The peer wants none of it.
    Disabled,
    /// Nothing any more.
    Gone,
}

impl Verdict {
    /// What holds of it until there is another.
    const fn standing(&self) -> Option<Standing> {
        match self {
            Self::Up => Some(Standing::Up),
            Self::Disabled => Some(Standing::Disabled),
            Self::Failed(BfdFailure { hold: true, .. }) => Some(Standing::Held),
            Self::Failed(_) | Self::Gone => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Driver<'a> {
    pub(super) links: &'a mut Links,
    alarm: Alarm,
    pub(super) table: Table,
    listeners: Listeners,
    pub(super) slots: BTreeMap<SessionKey, Slot>,
    pub(super) down: BTreeSet<SessionKey>,
    /// When the next session that is no longer watched is to be forgotten.
    leaving: Option<Instant>,
    /// When the next session has held long enough to be relied on.
    pub(super) held: Option<Instant>,
    /// The peers are to be patient with us for so long, until then.
    pause: Option<(Duration, Instant)>,
    /// Somebody is to go on with the sessions once the peers are patient.
    pub(super) handing: Option<Handing>,
    rng: Rng,
}

/// Asks for what keeps the thread on time, and says what is missing. Answers whether it runs in real time.
pub(super) fn claim_privileges() -> bool {
    let real_time = sockets::run_in_real_time();
    let granted = real_time.is_ok();
    let missing: Vec<String> = [
        ("real-time priority (CAP_SYS_NICE or LimitRTPRIO)", real_time),
        ("locked memory (LimitMEMLOCK=infinity)", sockets::lock_memory()),
    ]
    .into_iter()
    .filter_map(|(what, result)| Some(format!("{what}: {}", result.err()?)))
    .collect();
    if !missing.is_empty() {
        tracing::info!(missing = missing.join("; "), "on a busy host BFD may be late with its packets");
    }
    granted
}

impl<'a> Driver<'a> {
    pub(super) fn new(links: &'a mut Links, alarm: Alarm, seed: u64) -> Self {
        Self {
            links,
            alarm,
            table: Table::new(seed),
            listeners: Listeners::new(Instant::now()),
            slots: BTreeMap::new(),
            down: BTreeSet::new(),
            leaving: None,
            held: None,
            pause: None,
            handing: None,
            rng: Rng::new(!seed),
        }
    }

    /// Until the last word; or without one, if somebody else is to go on with the sessions. The sockets are closed by then.
    pub(super) async fn run(mut self, handed: Option<HandOver>) -> Option<(oneshot::Sender<HandOver>, HandOver)> {
        let (mut commands_open, mut peers_open, mut discovered_open) = (true, true, true);
        match handed {
            Some(handed) => self.take_over(handed),
            // One before us may have taken notice of whom to watch.
            None => self.configure(),
        }
        loop {
            self.turn();
            if let Some(handed) = self.handed_over() {
                return Some(handed);
            }
            let deadline = self.next_deadline();
            self.alarm.set(deadline);
            let (alarm, listeners) = (&mut self.alarm, &self.listeners);
            tokio::select! {
                () = poll_fn(|context| alarm.poll(context)) => {}
                () = poll_fn(|context| listeners.poll(context)) => {}
                changed = self.links.peers.changed(), if peers_open => {
                    peers_open = changed.is_ok();
                    self.configure();
                }
                changed = self.links.discovered.changed(), if discovered_open => {
                    discovered_open = changed.is_ok();
                    self.configure();
                }
                command = self.links.commands.recv(), if commands_open => match command {
                    Some(Command::Snapshot(reply)) => {
                        // What was set before the question is part of the answer, whichever of the two was noticed first.
                        if self.links.peers.has_changed().unwrap_or_default() {
                            self.configure();
                        }
                        // Whoever asked may have given up waiting.
                        let _ = reply.send(self.snapshot());
                    }
                    Some(Command::Pause(pause)) => self.expect_pause(pause),
                    Some(Command::HandOver(pause, reply)) => {
                        self.expect_pause(pause);
                        self.handing = Some(Handing::new(Instant::now(), pause.min(LONGEST_PAUSE), reply));
                    }
                    Some(Command::Shutdown(reply)) => {
                        self.say_goodbye();
                        let _ = reply.send(());
                        return None;
                    }
                    None => commands_open = false,
                },
            }
        }
    }

    fn expect_pause(&mut self, pause: Duration) {
        let pause = pause.min(LONGEST_PAUSE);
        self.pause = Some((pause, Instant::now() + pause * 2));
        self.configure();
    }

    /// Everything that is due now.
    fn turn(&mut self) {
        // Before the sockets are read: what they hold afterwards is newer than this.
        let now = Instant::now();
        self.listeners.retry(now);
        let table = &mut self.table;
        self.listeners.drain(|arrival, payload| {
            // Dropped packets are counted by the table, each under its rule.
            let _ = table.receive(arrival, payload);
        });
        let mut lost = false;
        for output in self.table.tick(now) {
            match output {
                Output::Due(key) => self.send_all(&key),
                Output::Changed(key, transition) => {
                    lost |= transition.from == State::Up;
                    self.changed(now, key, transition);
                }
                Output::RemoteAdminDown(key, down) => self.remote_admin_down(&key, down),
            }
        }
        let gone: Vec<SessionKey> = if self.leaving.is_some_and(|at| at <= now) {
            self.slots.iter().filter(|(_, s)| s.is_gone(now)).map(|(key, _)| key.clone()).collect()
        } else {
            Vec::new()
        };
        if self.held.is_some_and(|at| at <= now) {
            self.rely_on_held(now);
        }
        let paused = self.pause.take_if(|(_, until)| *until <= now).is_some();
        if lost || paused || !gone.is_empty() {
            for key in &gone {
                self.table.remove(key);
                self.slots.remove(key);
            }
            // Another neighbour may have been discovered while this one was up.
            self.configure();
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let table = self.table.next_deadline(Instant::now());
        let pause = self.pause.map(|(_, until)| until);
        let handing = self.handing.as_ref().map(Handing::deadline);
        let deadlines = [table, self.listeners.next_deadline(), self.leaving, self.held, pause, handing];
        deadlines.into_iter().flatten().min()
    }

    /// Brings the sessions in line with the peers to be watched, and with who was discovered.
    pub(super) fn configure(&mut self) {
        let now = Instant::now();
        let wanted = self.wanted();
        let old: Vec<SessionKey> = self.slots.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in old {
            self.retire(now, &key);
        }
        for (key, (peer, watched)) in wanted {
            self.watch(now, key, peer, watched);
        }
        self.leaving = self.slots.values().filter_map(|slot| slot.gone_at).min();
        let addresses: Vec<IpAddr> = self.slots.keys().map(|key| key.peer).collect();
        self.listeners.configure(now, &addresses);
        self.publish_down();
    }

    /// The sessions there should be.
    fn wanted(&mut self) -> BTreeMap<SessionKey, (PeerAddress, Watched)> {
        let peers = Arc::clone(&self.links.peers.borrow_and_update());
        let discovered = Arc::clone(&self.links.discovered.borrow_and_update());
        let mut wanted = BTreeMap::new();
        for (peer, watched) in peers.iter() {
            let (address, interface) = match peer {
                PeerAddress::Numbered(address) => (*address, watched.interface.clone()),
                PeerAddress::LinkLocal(address, interface) => (IpAddr::V6(*address), Some(interface.clone())),
                PeerAddress::Interface(interface) => {
                    // A session that is up proves more than an advertisement.
                    let up = self.slots.iter().find(|(key, slot)| {
                        slot.peer.as_ref() == Some(peer)
                            && self.table.session(key).is_some_and(|s| s.state() == State::Up)
                    });
                    let discovered = || discovered.get(interface).map(|address| IpAddr::V6(*address));
                    // Nor has one that failed recovered because nobody advertises any more.
                    let known =
                        || self.slots.iter().find(|(_, slot)| slot.peer.as_ref() == Some(peer)).map(|(k, _)| k.peer);
                    let up = up.map(|(key, _)| key.peer);
                    let Some(address) = up.or_else(discovered).or_else(known) else { continue };
                    (address, Some(interface.clone()))
                }
            };
            wanted.insert(SessionKey { peer: address, interface }, (peer.clone(), watched.clone()));
        }
        wanted
    }

    fn watch(&mut self, now: Instant, key: SessionKey, peer: PeerAddress, watched: Watched) {
        let config = self.patient(watched.config);
        let Some(slot) = self.slots.get_mut(&key) else {
            let slot = Slot::new(Some(peer), watched);
            let keys = slot.watched.keys.clone();
            self.slots.insert(key.clone(), slot);
            self.table.set(now, key, config, keys);
            return;
        };
        if slot.watched.local != watched.local {
            slot.socket = None;
        }
        let same = slot.watched.keys == watched.keys && self.table.session(&key).is_some_and(|s| *s.config() == config);
        let keys = watched.keys.clone();
        slot.peer = Some(peer);
        slot.watched = watched;
        if slot.gone_at.take().is_some() {
            self.table.set_admin_down(now, &key, false);
        }
        if !same {
            self.table.set(now, key, config, keys);
        }
    }

    /// What a session is to be like while a pause of ours lies ahead.
    fn patient(&self, config: SessionConfig) -> SessionConfig {
        let least = self.pause.map(|(pause, _)| pause).unwrap_or_default();
        SessionConfig { transmit_interval: config.transmit_interval.max(least), ..config }
    }

    /// RFC 5880 §6.8.16: AdminDown is told for a Detection Time at least, so that the peer does not take it for a failure.
    fn retire(&mut self, now: Instant, key: &SessionKey) {
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.gone_at.is_none()) else { return };
        let peer = slot.peer.take();
        slot.held_until = None;
        self.table.set_admin_down(now, key, true);
        let session = self.table.session(key).filter(|session| session.remote_discriminator() != 0);
        let detection =
            session.and_then(|session| Some(session.interval()? * u32::from(session.config().detect_multiplier)));
        // Nobody is there to be told: the next turn forgets the session.
        slot.gone_at = Some(now + detection.unwrap_or_default());
        self.down.remove(key);
        if let Some(peer) = peer {
            self.tell(&peer, Some(Verdict::Gone));
        }
    }

    fn changed(&mut self, now: Instant, key: SessionKey, transition: Transition) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        // Without a peer it is no longer watched: this is our own goodbye.
        let Some(peer) = slot.peer.clone() else { return self.publish_down() };
        slot.held_until = None;
        let mut verdict = None;
        if transition.to == State::Up {
            let wait = if slot.watched.damping { slot.damping.wait(now) } else { Duration::ZERO };
            if wait.is_zero() {
                self.down.remove(&key);
                verdict = Some(Verdict::Up);
            } else {
                tracing::warn!(neighbor = %peer, ?wait, "BFD comes and goes: the path has to hold before it is used again");
                slot.held_until = Some(now + wait);
            }
        } else if transition.from == State::Up && !transition.remote_admin_down {
            // RFC 5882 §4.3: with the C bit clear the peer's BFD may have gone with its control plane.
            let graceful = slot.watched.graceful && !transition.remote_independent;
            let hold = slot.damping.failed(now) && slot.watched.damping;
            if !graceful {
                self.down.insert(key.clone());
            }
            verdict = Some(Verdict::Failed(BfdFailure { graceful, hold }));
        }
        self.held = self.slots.values().filter_map(|slot| slot.held_until).min();
        // First what is dead, then the speaker: who hears of routes that are gone finds the reason.
        self.publish_down();
        self.tell(&peer, verdict);
        // Without subscribers there is nobody to tell.
        let _ = self.links.events.send(Event { peer, key, transition });
    }

    /// RFC 5882 §3.2: no reason to doubt the path; §4.1: "If the session state on either the local or remote system (if known) is
    /// AdminDown, BFD has been administratively disabled, and the establishment of a control protocol adjacency MUST be allowed."
    fn remote_admin_down(&mut self, key: &SessionKey, down: bool) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(peer) = slot.peer.clone() else { return };
        if down {
            slot.held_until = None;
            self.held = self.slots.values().filter_map(|slot| slot.held_until).min();
            self.down.remove(key);
            self.publish_down();
        }
        self.tell(&peer, Some(if down { Verdict::Disabled } else { Verdict::Gone }));
    }

    /// Sessions that came and went have held for as long as they had to.
    fn rely_on_held(&mut self, now: Instant) {
        let mut held = Vec::new();
        for (key, slot) in &mut self.slots {
            if slot.held_until.take_if(|until| *until <= now).is_some() {
                self.down.remove(key);
                held.extend(slot.peer.clone());
            }
        }
        self.held = self.slots.values().filter_map(|slot| slot.held_until).min();
        self.publish_down();
        for peer in held {
            self.tell(&peer, Some(Verdict::Up));
        }
    }

    fn tell(&mut self, peer: &PeerAddress, verdict: Option<Verdict>) {
        let Some(verdict) = verdict else { return };
        for slot in self.slots.values_mut().filter(|slot| slot.peer.as_ref() == Some(peer)) {
            slot.standing = verdict.standing();
        }
        let Some(speaker) = &self.links.speaker else { return };
        // A speaker that is gone ends us as well, soon.
        let _ = match verdict {
            Verdict::Up => speaker.bfd_up(peer.clone()),
            Verdict::Disabled => speaker.bfd_disabled(peer.clone()),
            Verdict::Gone => speaker.bfd_gone(peer.clone()),
            Verdict::Failed(failure) => speaker.bfd_down(peer.clone(), failure),
        };
    }

    fn publish_down(&self) {
        self.links.down.send_if_modified(|published| {
            let differs = **published != self.down;
            if differs {
                *published = Arc::new(self.down.clone());
            }
            differs
        });
    }

    fn send_all(&mut self, key: &SessionKey) {
        loop {
            let now = Instant::now();
            let Some(packet) = self.table.transmit(now, key) else { return };
            self.send(now, key, &packet);
        }
    }

    fn send(&mut self, now: Instant, key: &SessionKey, packet: &[u8]) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.socket.is_none() && slot.retry_at.is_none_or(|at| at <= now) {
            slot.open(now, key, &mut self.rng);
        }
        let Some((socket, to)) = &slot.socket else { return };
        match socket.send_to(packet, &(*to).into()) {
            Ok(_) => slot.error = None,
            // The device's queue is full: a packet is lost, as on the wire.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => {}
            Err(error) => {
                slot.fail(format!("sending to {to}: {error}"));
                // A local address may be gone, or an interface be another one of the same name: the next packet gets a new one.
                slot.socket = None;
            }
        }
    }

    fn say_goodbye(&mut self) {
        let now = Instant::now();
        for key in self.slots.keys() {
            self.table.set_admin_down(now, key, true);
        }
        for output in self.table.tick(now) {
            if let Output::Due(key) = output
                && let Some(packet) = self.table.transmit(now, &key)
            {
                for _ in 0..LAST_WORDS {
                    self.send(now, &key, &packet);
                }
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let failures = self.listeners.failures();
        let sessions = self.table.sessions().map(|seen| {
            let Seen { key, session, counters, discards, transitions, punctuality, since } = seen;
            let (diagnostic, remote_diagnostic) = session.diagnostics();
            let slot = self.slots.get(key);
            let deaf =
                || failures.iter().find(|(at, _)| at.is_ipv4() == key.peer.is_ipv4()).map(|(_, why)| why.clone());
            SessionStatus {
                peer: slot.and_then(|slot| slot.peer.clone()),
                key: key.clone(),
                state: session.state(),
                remote_state: session.remote_state(),
                since: now.saturating_duration_since(since),
                diagnostic: diagnostic.to_string(),
                remote_diagnostic: remote_diagnostic.to_string(),
                local_discriminator: session.local_discriminator(),
                remote_discriminator: session.remote_discriminator(),
                transmit_interval: session.interval(),
                receive_interval: session.receive_interval(),
                detection_time: session.detection_time(),
                counters,
                discards: discards.clone(),
                transitions: transitions.clone(),
                punctuality,
                held_for: slot.and_then(|slot| slot.held_until).map(|until| until.saturating_duration_since(now)),
                authentication: session.auth_kind(),
                error: slot.and_then(|slot| slot.error.clone()).or_else(deaf),
            }
        });
        Snapshot {
            sessions: sessions.collect(),
            discards: self.table.discards().clone(),
            punctuality: self.table.punctuality(),
            failures: self.listeners.failures(),
        }
    }
}

impl Slot {
    pub(super) fn new(peer: Option<PeerAddress>, watched: Watched) -> Self {
        Self {
            peer,
            watched,
            socket: None,
            port: None,
            error: None,
            retry_at: None,
            gone_at: None,
            damping: Damping::default(),
            held_until: None,
            standing: None,
        }
    }

    fn is_gone(&self, now: Instant) -> bool {
        self.gone_at.is_some_and(|at| at <= now)
    }

    fn open(&mut self, now: Instant, key: &SessionKey, rng: &mut Rng) {
        let mut result = Err(std::io::Error::from(std::io::ErrorKind::AddrInUse));
        for _ in 0..PORTS_TRIED {
            let port = self.port.take().unwrap_or_else(|| {
                let offset = u16::try_from(rng.next() % u64::from(u16::MAX - FIRST_SOURCE_PORT + 1)).unwrap_or(0);
                FIRST_SOURCE_PORT + offset
            });
            result = sockets::bfd_send_from(self.watched.local, key.peer, key.interface.as_deref(), port);
            if !matches!(&result, Err(error) if error.kind() == std::io::ErrorKind::AddrInUse) {
                self.port = Some(port);
                break;
            }
        }
        match result {
            Ok(socket) => {
                self.socket = Some(socket);
                self.retry_at = None;
            }
            Err(error) => {
                self.fail(error.to_string());
                self.retry_at = Some(now + RETRY);
            }
        }
    }

    /// The same failure over and over is said once.
    fn fail(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            tracing::warn!(neighbor = self.peer.as_ref().map(tracing::field::display), error, "BFD cannot send");
        }
        self.error = Some(error);
    }
}
