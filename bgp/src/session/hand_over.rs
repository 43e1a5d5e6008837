//! A session that goes on in another process: what that has to know of it.
//!
//! Both OPENs as they were, and not what was made of them: the other process, perhaps of another version, negotiates once more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::events::{after, send_hold_until};
use super::negotiate::negotiate;
use super::state::{Established, Opens, State};
use super::{ConnId, Ends, Negotiated, Session};
use crate::octets::Octets;
use crate::wire::{self, Context, Message, Open};

/// An established session. Times are relative to when it was handed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HandedSession {
    pub(crate) ends: Ends,
    our_open: Octets,
    their_open: Octets,
    up_for: Duration,
    hold_left: Option<Duration>,
    keepalive_left: Option<Duration>,
    established_count: u64,
}

impl Session {
    /// What another process has to know to go on with the session, if it is up.
    pub(crate) fn hand_over(&self, now: Instant, ends: Ends) -> Option<HandedSession> {
        let State::Established(up) = &self.state else { return None };
        let left = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now));
        Some(HandedSession {
            ends,
            our_open: octets(&up.opens.ours)?,
            their_open: octets(&up.opens.theirs)?,
            up_for: now.saturating_duration_since(up.since),
            hold_left: left(up.hold_until),
            keepalive_left: left(up.keepalive_at),
            established_count: self.established_count,
        })
    }

    /// Goes on with a session that was handed over at `then`. `Err`: why that cannot be.
    pub(crate) fn adopt(
        &mut self,
        now: Instant,
        then: Instant,
        handed: &HandedSession,
    ) -> Result<(ConnId, Arc<Negotiated>, Instant), String> {
        let opens = Opens { ours: open(&handed.our_open)?, theirs: open(&handed.their_open)? };
        let negotiated = negotiate(&self.speaker, &self.config, &opens.ours, &opens.theirs);
        let negotiated = Arc::new(negotiated.map_err(|error| format!("its OPEN would be refused now: {error}"))?);
        let id = self.new_connection();
        let since = then.checked_sub(handed.up_for).unwrap_or(then);
        // Timers go on as if nothing had happened; one that was not running is started if this version wants it.
        let goes_on = |left: Option<Duration>, wanted: Duration| {
            after(then, left.map_or(wanted, |left| left.min(wanted)), wanted)
        };
        let established = Established {
            id,
            since,
            hold_until: goes_on(handed.hold_left, negotiated.hold_time),
            keepalive_at: goes_on(handed.keepalive_left, negotiated.keepalive),
            send_hold_until: send_hold_until(now, &negotiated),
            challenger: None,
            negotiated: Arc::clone(&negotiated),
            opens: Box::new(opens),
        };
        self.enter(State::Established(Box::new(established)));
        self.established_count = handed.established_count;
        // It was in the OPEN of this session, or is too late for it.
        self.restarted = false;
        Ok((id, negotiated, since))
    }
}

fn octets(open: &Open) -> Option<Octets> {
    let mut out = BytesMut::new();
    wire::encode(&Message::Open(open.clone()), &Context::default(), &mut out).ok()?;
    Some(Octets(out.to_vec()))
}

fn open(octets: &Octets) -> Result<Open, String> {
    match wire::decode(&octets.0, &Context::default()) {
        Ok(Message::Open(open)) => Ok(open),
        Ok(_) => Err("there is no OPEN where it should be".to_owned()),
        Err(error) => Err(format!("its OPEN cannot be read: {error}")),
    }
}
