//! A session that another process goes on with: the peer sees one session, under the same discriminators, and no failure.
//!
//! What is handed over is plain data. Of times there is only how long ago or how long yet, as seen at the hand-over; how long that
//! is ago, the one who takes over has to know.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Session, SessionConfig, micros, to_micros};
use crate::bfd::auth::{Auth, AuthKind};
use crate::bfd::packet::{Diagnostic, State};

/// What there is to know of a session, but for its settings and its keys. Intervals are in microseconds, as they are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedSession {
    /// bfd.SessionState.
    pub state: State,
    /// bfd.LocalDiscr.
    pub local_discriminator: u32,
    /// bfd.RemoteDiscr.
    pub remote_discriminator: u32,
    /// bfd.RemoteSessionState.
    pub remote_state: State,
    /// bfd.LocalDiag.
    pub local_diagnostic: Diagnostic,
    /// The peer's.
    pub remote_diagnostic: Diagnostic,
    /// bfd.DesiredMinTxInterval.
    pub desired_min_tx: u32,
    /// What is gone by while a poll for a longer one has not been answered.
    pub desired_min_tx_in_use: u32,
    /// bfd.RequiredMinRxInterval.
    pub required_min_rx: u32,
    /// What the Detection Time goes by while a poll for a shorter one has not been answered.
    pub required_min_rx_in_use: u32,
    /// The peer's Desired Min TX Interval.
    pub remote_min_tx: u32,
    /// bfd.RemoteMinRxInterval.
    pub remote_min_rx: u32,
    /// The peer's Detect Mult.
    pub remote_detect_mult: u8,
    /// bfd.RemoteDemandMode.
    pub remote_demand: bool,
    /// The peer's C bit.
    pub remote_independent: bool,
    /// A poll sequence is under way.
    pub polling: bool,
    /// Another has to follow it.
    pub poll_again: bool,
    /// A poll of the peer has not been answered yet.
    pub answer_poll: bool,
    /// The peer has not been told yet of a change.
    pub news: bool,
    /// Time since the last packet came; `None`: there was none, or the Detection Time is over.
    pub last_received: Option<Duration>,
    /// Time until bfd.AuthSeqKnown is to be cleared, if it is to be.
    pub forget_sequence: Option<Duration>,
    /// Time since the last periodic packet was sent.
    pub last_sent: Option<Duration>,
    /// Authentication.
    pub auth: Option<HandedAuth>,
}

/// Authentication of a session that is handed over, but for the keys, which are part of its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedAuth {
    /// bfd.AuthType.
    pub kind: AuthKind,
    /// bfd.XmitAuthSeq.
    pub send_sequence: u32,
    /// bfd.RcvAuthSeq, if bfd.AuthSeqKnown.
    pub received_sequence: Option<u32>,
}

/// The time between hand-over and taking over, in which nobody listened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lapse {
    /// How long it was.
    pub gap: Duration,
    /// By so much, at most, the Detection Time may be exceeded because of it: what came meanwhile is lost, and is no failure of the
    /// peer's.
    pub grace: Duration,
}

impl HandedSession {
    /// A session that has long been in this state: both ends know of it, and want the same intervals.
    pub fn settled(state: State, config: &SessionConfig, local_discriminator: u32, remote_discriminator: u32) -> Self {
        let transmit = to_micros(config.transmit_interval);
        let receive = to_micros(config.receive_interval);
        Self {
            state,
            local_discriminator,
            remote_discriminator,
            remote_state: State::Down,
            local_diagnostic: Diagnostic::NONE,
            remote_diagnostic: Diagnostic::NONE,
            desired_min_tx: transmit,
            desired_min_tx_in_use: transmit,
            required_min_rx: receive,
            required_min_rx_in_use: receive,
            remote_min_tx: 0,
            remote_min_rx: 1,
            remote_detect_mult: 0,
            remote_demand: false,
            remote_independent: false,
            polling: false,
            poll_again: false,
            answer_poll: false,
            news: false,
            last_received: None,
            forget_sequence: None,
            last_sent: None,
            auth: None,
        }
    }
}

impl Session {
    /// All that somebody else needs to go on with the session. To be called when there is nothing to be taken by
    /// [`Session::take_change`]; afterwards the session is to be given up without a word.
    pub fn hand_over(&self, now: Instant) -> HandedSession {
        let ago = |at: Instant| now.saturating_duration_since(at);
        HandedSession {
            state: self.state,
            local_discriminator: self.local_discriminator,
            remote_discriminator: self.remote_discriminator,
            remote_state: self.remote_state,
            local_diagnostic: self.local_diagnostic,
            remote_diagnostic: self.remote_diagnostic,
            desired_min_tx: to_micros(self.desired_min_tx),
            desired_min_tx_in_use: to_micros(self.desired_min_tx_in_use),
            required_min_rx: to_micros(self.required_min_rx),
            required_min_rx_in_use: to_micros(self.required_min_rx_in_use),
            remote_min_tx: to_micros(self.remote_min_tx),
            remote_min_rx: to_micros(self.remote_min_rx),
            remote_detect_mult: self.remote_detect_mult,
            remote_demand: self.remote_demand,
            remote_independent: self.remote_independent,
            polling: self.polling,
            poll_again: self.poll_again,
            answer_poll: self.answer_poll,
            news: self.news,
            last_received: self.last_received.map(ago),
            forget_sequence: self.forget_sequence_at.map(|at| at.saturating_duration_since(now)),
            last_sent: self.last_sent.map(ago),
            auth: self.auth.as_ref().map(Auth::hand_over),
        }
    }

    /// Goes on with a session that was handed over. Where its intervals are others than configured, it is up and is polled for these.
    /// `auth` has the keys; its sequence numbers are replaced. `None`: not with this authentication.
    pub fn take_over(
        now: Instant,
        config: SessionConfig,
        auth: Option<Auth>,
        handed: &HandedSession,
        lapse: Lapse,
        seed: u64,
    ) -> Option<Self> {
        if handed.local_discriminator == 0 || auth.as_ref().map(Auth::kind) != handed.auth.map(|auth| auth.kind) {
            return None;
        }
        let mut session = Self::new(now, config, auth, handed.local_discriminator, seed);
        if let (Some(auth), Some(handed)) = (&mut session.auth, handed.auth) {
            auth.take_over(handed);
        }
        session.state = handed.state;
        session.remote_discriminator = handed.remote_discriminator;
        session.remote_state = handed.remote_state;
        session.local_diagnostic = handed.local_diagnostic;
        session.remote_diagnostic = handed.remote_diagnostic;
        session.remote_min_tx = micros(handed.remote_min_tx);
        session.remote_min_rx = micros(handed.remote_min_rx);
        session.remote_detect_mult = handed.remote_detect_mult;
        session.remote_demand = handed.remote_demand;
        session.remote_independent = handed.remote_independent;
        session.answer_poll = handed.answer_poll;
        session.last_sent = handed.last_sent.and_then(|age| now.checked_sub(age.saturating_add(lapse.gap)));
        if handed.state == State::Up {
            session.desired_min_tx = micros(handed.desired_min_tx);
            session.desired_min_tx_in_use = micros(handed.desired_min_tx_in_use);
            session.required_min_rx = micros(handed.required_min_rx);
            session.required_min_rx_in_use = micros(handed.required_min_rx_in_use);
            session.polling = handed.polling;
            session.poll_again = handed.poll_again;
        }
        session.hear_again(now, handed, lapse);
        session.reschedule(now);
        if handed.news {
            session.tell(now);
        }
        if handed.state == State::Up {
            session.change(now, config.transmit_interval, config.receive_interval);
        }
        Some(session)
    }

    /// The Detection Time runs from the last packet. Those that came while nobody listened are lost, so that it does not end before
    /// there was as much time to hear one; but that much longer than the peer was told of, it does not take.
    fn hear_again(&mut self, now: Instant, handed: &HandedSession, lapse: Lapse) {
        let mut forget = handed.forget_sequence.map(|left| left.saturating_sub(lapse.gap));
        if let Some(age) = handed.last_received {
            let silence = age.saturating_add(lapse.gap);
            self.last_received = Some(now.checked_sub(silence.saturating_sub(lapse.grace)).unwrap_or(now));
            // RFC 5880 §6.8.1 has no grace: after twice the Detection Time without a packet, bfd.AuthSeqKnown is 0. More of the
            // peer's packets may be lost by then than the window for sequence numbers holds. Where that has been running since a
            // hand-over before, it began with a packet that was older.
            forget.get_or_insert((self.detection_time() * 2).saturating_sub(silence));
        }
        self.forget_sequence_at = forget.and_then(|left| now.checked_add(left));
    }
}
