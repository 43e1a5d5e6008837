//! One session: states (RFC 5880 §6.2), timers (§6.8.2–6.8.4, 6.8.7), poll sequences (§6.5, §6.8.3).
//!
//! ```text
//!                              +--+
//!                              |  | UP, ADMIN DOWN, TIMER
//!                              |  V
//!                      DOWN  +------+  INIT
//!               +------------|      |------------+
//!               |            | DOWN |            |
//!               |  +-------->|      |<--------+  |
//!               |  |         +------+         |  |
//!               |  |                          |  |
//!               |  |               ADMIN DOWN,|  |
//!               |  |ADMIN DOWN,          DOWN,|  |
//!               |  |TIMER                TIMER|  |
//!               V  |                          |  V
//!             +------+                      +------+
//!        +----|      |                      |      |----+
//!    DOWN|    | INIT |--------------------->|  UP  |    |INIT, UP
//!        +--->|      | INIT, UP             |      |<---+
//!             +------+                      +------+
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Discard;
use super::auth::{Auth, AuthKind, Keys};
use super::pace::Pace;
use super::packet::{Diagnostic, Packet, State};
use crate::rng::Rng;

mod hand_over;

pub use hand_over::{HandedAuth, HandedSession, Lapse};

/// While the session is not up, neither side may ask to send faster (RFC 5880 §6.8.3).
pub const SLOW: Duration = Duration::from_secs(1);

/// Nobody gains from more than a thousand packets a second, whatever the peer allows.
const FASTEST: Duration = Duration::from_millis(1);

/// The shortest and the longest time between periodic packets that we aim for, in thousandths of the interval. RFC 5880 §6.8.7
/// lets us use all from 75 % to 100 %, with a multiplier of one to 90 %; what we leave free is for a thread that is late.
const SPREAD: (u32, u32) = (750, 900);

/// So much of an interval may a packet be early, if another one goes out just now: one waking of the thread instead of two.
const TOGETHER: u32 = 32;

/// What a session aims for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionConfig {
    /// Desired Min TX Interval while up.
    pub transmit_interval: Duration,
    /// Required Min RX Interval.
    pub receive_interval: Duration,
    /// Detect Mult.
    pub detect_multiplier: u8,
    /// Wait for the peer's first packet before sending any (RFC 5880 §6.1 passive role).
    pub passive: bool,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            transmit_interval: Duration::from_millis(300),
            receive_interval: Duration::from_millis(300),
            detect_multiplier: 3,
            passive: false,
        }
    }
}

/// The session has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// Now.
    pub to: State,
    /// Why, as we tell the peer.
    pub diagnostic: Diagnostic,
    /// The peer has taken its end down on purpose: RFC 5882 §3.2 says that its forwarding is not to be doubted for it, so a BGP
    /// session stays.
    pub remote_admin_down: bool,
    /// The peer's end does not share fate with its control plane (the C bit), so that a failure is one of the path (RFC 5882 §4.3).
    pub remote_independent: bool,
}

/// What became of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has changed its state.
    State(Transition),
    /// The peer has taken its end down on purpose, or does so no longer; also told where our own state stays as it is.
    RemoteAdminDown(bool),
}

/// One session. The names are those of the state variables in RFC 5880 §6.8.1.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    auth: Option<Auth>,
    rng: Rng,
    state: State,
    local_discriminator: u32,
    remote_discriminator: u32,
    remote_state: State,
    local_diagnostic: Diagnostic,
    remote_diagnostic: Diagnostic,
    /// bfd.DesiredMinTxInterval: what we say.
    desired_min_tx: Duration,
    /// What we go by while a poll for a longer one has not been answered.
    desired_min_tx_in_use: Duration,
    /// bfd.RequiredMinRxInterval: what we say.
    required_min_rx: Duration,
    /// What the Detection Time goes by while a poll for a shorter one has not been answered.
    required_min_rx_in_use: Duration,
    remote_min_tx: Duration,
    remote_min_rx: Duration,
    remote_detect_mult: u8,
    remote_demand: bool,
    remote_independent: bool,
    polling: bool,
    /// The parameters have changed again while a poll was under way: another has to follow (RFC 5880 §6.8.3).
    poll_again: bool,
    last_received: Option<Instant>,
    /// When bfd.AuthSeqKnown is to be cleared: twice the Detection Time after the last packet, once that has passed (RFC 5880
    /// §6.8.1).
    forget_sequence_at: Option<Instant>,
    last_sent: Option<Instant>,
    transmit_at: Option<Instant>,
    /// The interval the next packet was scheduled by, if it is a periodic one like the last: the time between them is to be judged.
    paced: Option<Duration>,
    pace: Option<Pace>,
    answer_poll: bool,
    /// What `transmit_at` stands for is not the interval: there is something the peer should know at once.
    news: bool,
    /// All since they were last taken, in order: a thread that was late hears of a path that failed and came back meanwhile.
    changes: VecDeque<Change>,
}

impl Session {
    /// A session in state Down that begins to send at once (unless passive). `local_discriminator` is unique on this host and not
    /// zero.
    pub fn new(now: Instant, config: SessionConfig, auth: Option<Auth>, local_discriminator: u32, seed: u64) -> Self {
        Self {
            config,
            auth,
            rng: Rng::new(seed),
            state: State::Down,
            local_discriminator,
            remote_discriminator: 0,
            remote_state: State::Down,
            local_diagnostic: Diagnostic::NONE,
            remote_diagnostic: Diagnostic::NONE,
            desired_min_tx: config.transmit_interval.max(SLOW),
            desired_min_tx_in_use: config.transmit_interval.max(SLOW),
            required_min_rx: config.receive_interval,
            required_min_rx_in_use: config.receive_interval,
            remote_min_tx: Duration::ZERO,
            // RFC 5880 §6.8.1: "This variable MUST be initialized to 1."
            remote_min_rx: Duration::from_micros(1),
            remote_detect_mult: 0,
            remote_demand: false,
            remote_independent: false,
            polling: false,
            poll_again: false,
            last_received: None,
            forget_sequence_at: None,
            last_sent: None,
            transmit_at: (!config.passive).then_some(now),
            paced: None,
            pace: None,
            answer_poll: false,
            news: false,
            changes: VecDeque::new(),
        }
    }

    /// Takes a packet that was received at `at` and has passed the rules which need no session, and TTL and source checks.
    /// `covered` is what its Length covers.
    ///
    /// # Errors
    /// The rule for which it is discarded.
    pub fn receive(&mut self, at: Instant, packet: &Packet, covered: &[u8]) -> Result<(), Discard> {
        match (&mut self.auth, packet.authentication) {
            (None, true) => return Err(Discard::AuthUnexpected),
            (Some(_), false) => return Err(Discard::AuthMissing),
            (Some(auth), true) => {
                if self.forget_sequence_at.take_if(|due| *due <= at).is_some() {
                    auth.forget_sequence();
                }
                auth.verify(covered, packet.detect_mult)?;
                self.forget_sequence_at = None;
            }
            (None, false) => {}
        }
        self.remote_discriminator = packet.my_discriminator;
        let admin_down = packet.state == State::AdminDown;
        if admin_down != (self.remote_state == State::AdminDown) {
            self.changes.push_back(Change::RemoteAdminDown(admin_down));
        }
        self.remote_state = packet.state;
        self.remote_diagnostic = packet.diagnostic;
        self.remote_demand = packet.demand;
        self.remote_independent = packet.control_plane_independent;
        self.remote_detect_mult = packet.detect_mult;
        self.remote_min_tx = micros(packet.desired_min_tx);
        let remote_min_rx = micros(packet.required_min_rx);
        if self.remote_min_rx != remote_min_rx {
            self.remote_min_rx = remote_min_rx;
            self.reschedule(at);
        }
        if self.polling && packet.r#final {
            self.poll_answered(at);
        }
        if self.state == State::AdminDown {
            return Err(Discard::AdminDown);
        }
        // The newest counts: packets are handed over in order, but several may share a time.
        self.last_received = Some(self.last_received.map_or(at, |last| last.max(at)));
        self.step(at, packet.state);
        if packet.poll {
            self.answer_poll = true;
        }
        if self.transmit_at.is_none() {
            self.reschedule(at);
        }
        Ok(())
    }

    /// The state machine of RFC 5880 §6.8.6.
    fn step(&mut self, now: Instant, remote: State) {
        match (self.state, remote) {
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                self.go(now, State::Down, Diagnostic::NEIGHBOUR_DOWN);
            }
            (State::Down, State::Down) => self.go(now, State::Init, self.local_diagnostic),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.go(now, State::Up, Diagnostic::NONE);
            }
            _ => {}
        }
    }

    fn go(&mut self, now: Instant, to: State, diagnostic: Diagnostic) {
        let from = self.state;
        self.state = to;
        self.local_diagnostic = diagnostic;
        let remote_admin_down = self.remote_state == State::AdminDown;
        let remote_independent = self.remote_independent;
        let transition = Transition { from, to, diagnostic, remote_admin_down, remote_independent };
        self.changes.push_back(Change::State(transition));
        if to == State::Up {
            // From the slow rate to the configured one: a change like any other, so it is polled for.
            self.change(now, self.config.transmit_interval, self.config.receive_interval);
        } else {
            // Without an established session there is nothing to poll: the values hold at once.
            self.desired_min_tx = self.config.transmit_interval.max(SLOW);
            self.desired_min_tx_in_use = self.desired_min_tx;
            self.required_min_rx = self.config.receive_interval;
            self.required_min_rx_in_use = self.required_min_rx;
            self.polling = false;
            self.poll_again = false;
        }
        self.tell(now);
        if let Some(auth) = &mut self.auth {
            auth.contents_changed();
        }
    }

    /// The peer should know at once, not at the next interval (RFC 5880 §6.8.7: "during the interval between periodic Control packet
    /// transmissions when the contents of that packet would differ").
    fn tell(&mut self, now: Instant) {
        self.news = true;
        self.transmit_at = (!self.waits()).then_some(now);
        self.paced = None;
    }

    /// RFC 5880 §6.8.7: "A system MUST NOT transmit any BFD Control packets if bfd.RemoteDiscr is zero and the system is taking the
    /// Passive role."
    const fn waits(&self) -> bool {
        self.config.passive && self.remote_discriminator == 0
    }

    /// New intervals for a session that is up. RFC 5880 §6.8.3: a longer transmit interval is used, and a shorter receive interval
    /// believed in, only when the peer has answered a poll; the other directions hold at once.
    fn change(&mut self, now: Instant, desired_min_tx: Duration, required_min_rx: Duration) {
        if self.desired_min_tx == desired_min_tx && self.required_min_rx == required_min_rx {
            return;
        }
        self.desired_min_tx = desired_min_tx;
        self.required_min_rx = required_min_rx;
        self.desired_min_tx_in_use = self.desired_min_tx_in_use.min(desired_min_tx);
        self.required_min_rx_in_use = self.required_min_rx_in_use.max(required_min_rx);
        // A poll under way may be answered for the old values; only the next one's answer proves that the new ones are known.
        self.poll_again = self.polling;
        self.polling = true;
        // A pause may be ahead.
        self.tell(now);
    }

    fn poll_answered(&mut self, now: Instant) {
        if std::mem::take(&mut self.poll_again) {
            // One packet without P must not be needed in between: the peer answers each P with an F, and the F that answers
            // the new values comes after this one.
            self.tell(now);
            return;
        }
        self.polling = false;
        self.desired_min_tx_in_use = self.desired_min_tx;
        self.required_min_rx_in_use = self.required_min_rx;
        self.reschedule(now);
    }

    /// New settings; a session that is up changes by a poll sequence and does not flap.
    pub fn reconfigure(&mut self, now: Instant, config: SessionConfig) {
        self.config = config;
        if self.state == State::Up {
            self.change(now, config.transmit_interval, config.receive_interval);
            return;
        }
        self.desired_min_tx = config.transmit_interval.max(SLOW);
        self.desired_min_tx_in_use = self.desired_min_tx;
        self.required_min_rx = config.receive_interval;
        self.required_min_rx_in_use = config.receive_interval;
        self.reschedule(now);
    }

    /// Other keys, or none. While the session is up, the sequence numbers go on; with keys the peer does not have, it goes down after
    /// the Detection Time.
    pub fn set_keys(&mut self, keys: Option<Keys>, first_sequence: u32) {
        match (&mut self.auth, keys) {
            (Some(auth), Some(keys)) => auth.set_keys(keys),
            (auth, keys) => *auth = keys.map(|keys| Auth::new(keys, first_sequence)),
        }
    }

    /// How packets are authenticated.
    pub fn auth_kind(&self) -> Option<AuthKind> {
        self.auth.as_ref().map(Auth::kind)
    }

    /// The peer said that its end does not share fate with its control plane (the C bit): then its silence is a broken path.
    pub const fn remote_independent(&self) -> bool {
        self.remote_independent
    }

    /// Takes the session down on purpose, or lets it come up again (RFC 5880 §6.8.16).
    pub fn set_admin_down(&mut self, now: Instant, down: bool) {
        match (down, self.state) {
            (true, State::AdminDown) => {}
            (true, _) => self.go(now, State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
            (false, State::AdminDown) => {
                self.remote_discriminator = 0;
                self.remote_state = State::Down;
                self.last_received = None;
                self.go(now, State::Down, Diagnostic::NONE);
            }
            (false, _) => {}
        }
    }

    /// Time has passed. To be called only after every packet the socket holds was given to [`Session::receive`]: silence is
    /// judged by what the kernel has received, not by when we looked.
    pub fn tick(&mut self, now: Instant) {
        if self.detection_deadline().is_some_and(|at| at <= now) {
            self.remote_discriminator = 0;
            let last = self.last_received.take();
            self.forget_sequence_at = last.map(|last| last + self.detection_time() * 2);
            self.remote_min_rx = Duration::from_micros(1);
            if matches!(self.state, State::Init | State::Up) {
                self.remote_state = State::Down;
                self.go(now, State::Down, Diagnostic::DETECTION_TIME_EXPIRED);
            } else {
                // It may have asked for silence; who comes after it has not. And a passive end waits again.
                self.reschedule(now);
            }
        }
    }

    /// Whether a packet has to go out now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.answer_poll || self.transmit_at.is_some_and(|at| at <= now)
    }

    /// Whether a packet may go out now that will be due in a moment.
    pub fn may_join(&self, now: Instant) -> bool {
        let (Some(at), Some(last), Some(interval)) = (self.transmit_at, self.last_sent, self.paced) else {
            return false;
        };
        at <= now + interval / TOGETHER && last + interval * SPREAD.0 / 1000 <= now
    }

    /// The packet to send now, if one is due or may go with those that are: an answer to a poll, a change to tell, or the periodic
    /// one. `now` is to be read just before: the next packet is due by it.
    pub fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        let answer = std::mem::take(&mut self.answer_poll);
        let due = self.transmit_at.is_some_and(|at| at <= now) || self.may_join(now);
        if !answer && !due {
            return None;
        }
        let packet = Packet {
            diagnostic: self.local_diagnostic,
            state: self.state,
            // RFC 5880 §6.5: "A packet with both the Poll (P) and Final (F) bits set" must not be sent.
            poll: self.polling && !answer,
            r#final: answer,
            // We share fate with the control plane.
            control_plane_independent: false,
            authentication: self.auth.is_some(),
            demand: false,
            detect_mult: self.config.detect_multiplier,
            my_discriminator: self.local_discriminator,
            your_discriminator: self.remote_discriminator,
            desired_min_tx: to_micros(self.desired_min_tx),
            required_min_rx: to_micros(self.required_min_rx),
            // We loop no echo packets back.
            required_min_echo_rx: 0,
        };
        let mut octets = packet.emit(self.auth.as_ref().map_or(0, Auth::len));
        if let Some(auth) = &mut self.auth {
            auth.sign(&mut octets);
        }
        if due {
            self.pace = self.transmit_at.map(|at| Pace {
                late: now.saturating_duration_since(at),
                gap: self.paced.and_then(|interval| Some((now.saturating_duration_since(self.last_sent?), interval))),
            });
            self.last_sent = Some(now);
            self.news = false;
            self.paced = self.interval();
            self.transmit_at = self.paced.map(|interval| now + self.spread(interval));
        }
        Some(octets)
    }

    /// RFC 5880 §6.8.7: "the transmit interval […] MUST be reduced by a random value of 0 to 25%", and to no more than 90% if
    /// Detect Mult is 1.
    fn spread(&mut self, interval: Duration) -> Duration {
        let (least, most) = SPREAD;
        let free = u64::try_from((interval * (most - least) / 1000).as_nanos()).unwrap_or(u64::MAX);
        interval * least / 1000 + Duration::from_nanos(self.rng.next() % free.saturating_add(1).max(1))
    }

    /// The time between periodic packets; `None`: none are sent.
    pub fn interval(&self) -> Option<Duration> {
        // RFC 5880 §6.8.7: "If bfd.RemoteMinRxInterval is zero", "passive role and bfd.RemoteDiscr is zero", and demand mode on
        // the remote system with both ends up and no poll in progress: no periodic transmission.
        let silent = self.remote_min_rx.is_zero()
            || self.waits()
            || (self.remote_demand && self.state == State::Up && self.remote_state == State::Up && !self.polling);
        (!silent).then(|| self.desired_min_tx_in_use.max(self.remote_min_rx).max(FASTEST))
    }

    /// Moves the next periodic packet after an interval has changed, relative to the last one sent. What the peer should know at once is
    /// not put off.
    fn reschedule(&mut self, now: Instant) {
        self.paced = None;
        if self.news && self.transmit_at.is_some() && !self.waits() {
            return;
        }
        let Some(interval) = self.interval() else {
            self.transmit_at = None;
            return;
        };
        let spread = self.spread(interval);
        self.transmit_at = Some(self.last_sent.map_or(now, |last| (last + spread).max(now)));
    }

    /// Silence for so long ends the session (RFC 5880 §6.8.4); zero while nothing was received.
    pub fn detection_time(&self) -> Duration {
        self.receive_interval() * u32::from(self.remote_detect_mult)
    }

    /// What the peer's packets are negotiated to come at (RFC 5880 §6.8.4), without its jitter.
    pub fn receive_interval(&self) -> Duration {
        self.required_min_rx_in_use.max(self.remote_min_tx)
    }

    /// When the next packet is due; `None`: none is.
    pub const fn transmit_at(&self) -> Option<Instant> {
        self.transmit_at
    }

    fn detection_deadline(&self) -> Option<Instant> {
        self.last_received.map(|last| last + self.detection_time())
    }

    /// When to call [`Session::tick`] and [`Session::transmit`].
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.transmit_at, self.detection_deadline()].into_iter().flatten().min()
    }

    /// Whether something has to be said before any time passes: an answer to a poll, a change.
    pub fn is_urgent(&self) -> bool {
        self.answer_poll || !self.changes.is_empty()
    }

    /// How punctual the last packet was, once.
    pub const fn take_pace(&mut self) -> Option<Pace> {
        self.pace.take()
    }

    /// What became of the session since it was last asked for, one after the other.
    pub fn take_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// bfd.SessionState.
    pub const fn state(&self) -> State {
        self.state
    }

    /// bfd.RemoteSessionState.
    pub const fn remote_state(&self) -> State {
        self.remote_state
    }

    /// bfd.LocalDiscr.
    pub const fn local_discriminator(&self) -> u32 {
        self.local_discriminator
    }

    /// bfd.RemoteDiscr.
    pub const fn remote_discriminator(&self) -> u32 {
        self.remote_discriminator
    }

    /// bfd.LocalDiag and the peer's last diagnostic.
    pub const fn diagnostics(&self) -> (Diagnostic, Diagnostic) {
        (self.local_diagnostic, self.remote_diagnostic)
    }

    /// What the session aims for.
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// Whether authentication is in use.
    pub const fn authenticated(&self) -> bool {
        self.auth.is_some()
    }

    /// A poll sequence is under way.
    pub const fn polling(&self) -> bool {
        self.polling
    }
}

fn micros(interval: u32) -> Duration {
    Duration::from_micros(interval.into())
}

fn to_micros(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
