//! What happens on which event in which state (RFC 4271 §8.2.2), one function per event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::negotiate::{negotiate, our_open};
use super::state::{
    COLLISION_WAIT, Challenger, Connection, Dial, Established, OPEN_WAIT, Opening, Opens, Stage, State,
};
use super::{Action, Cease, ConnId, Ends, Event, LastError, Negotiated, Reason, Session};
use crate::wire::notification::{cease, code, fsm};
use crate::wire::{self, Message, Notification, Open};

/// What a connection is to its peer at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    OpenSent,
    OpenConfirm,
    Established,
    Challenger,
}

impl Session {
    pub(crate) fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Start => self.start(now),
            Event::Stop(cease) => self.stop(now, &cease),
            Event::Reset(cease) => self.reset(now, &cease),
            Event::Suspend(cease, pause) => self.suspend(now, &cease, pause),
            Event::Leave => self.go_down(now, State::Idle { restart_at: None }, Reason::Closed),
            Event::Reachable => self.reachable(now),
            Event::Connected(conn, ends) => self.connected(now, conn, ends),
            Event::Lost(conn, why) => self.lost(now, conn, why),
            Event::Cut(conn, why, cease) => self.cut(now, conn, why, cease.as_ref()),
            Event::Received(conn, Ok(message)) => self.received(now, conn, message),
            Event::Received(conn, Err(error)) => self.malformed(now, conn, error),
            Event::Progress(conn) => self.progress(now, conn),
        }
        self.establish_confirmed(now);
    }

    /// Events 1, 3, 13: a start. In every other state than Idle: nothing.
    fn start(&mut self, now: Instant) {
        if matches!(self.state, State::Idle { .. }) {
            self.backoff.reset();
            self.open(now);
        }
    }

    /// Events 2, 8: a stop; every connection that has seen our OPEN is told (RFC 4271 §8.2.2, RFC 4486).
    fn stop(&mut self, now: Instant, cease: &Cease) {
        let reason = self.cease(now, cease);
        if matches!(self.state, State::Opening(_)) {
            // Nothing has failed: an end was asked for.
            self.last_reason = Some((reason, now));
            self.enter(State::Idle { restart_at: None });
        } else {
            self.go_down(now, State::Idle { restart_at: None }, reason);
        }
    }

    fn reset(&mut self, now: Instant, cease: &Cease) {
        match &self.state {
            State::Idle { .. } => {}
            State::Opening(_) | State::Established(_) => {
                let reason = self.cease(now, cease);
                self.fail(now, reason);
            }
        }
    }

    /// Like a reset, but Idle lasts as long as it is told to.
    fn suspend(&mut self, now: Instant, cease: &Cease, pause: Duration) {
        if !matches!(self.state, State::Idle { .. }) {
            let reason = self.cease(now, cease);
            self.go_down(now, State::Idle { restart_at: Some(now + pause) }, reason);
        }
    }

    fn cease(&mut self, now: Instant, cease: &Cease) -> Reason {
        let notification = self.cease_notification(cease);
        let told: Vec<ConnId> = match &self.state {
            State::Idle { .. } => vec![],
            State::Opening(opening) => opening.connections().map(|c| c.id).collect(),
            State::Established(up) => vec![up.id],
        };
        for conn in told {
            self.notify(now, conn, notification.clone(), "");
        }
        Reason::Sent(notification, String::new())
    }

    /// Events 14, 17: a connection came in. `None`: refused, close it.
    pub(crate) fn accept(&mut self, now: Instant, ends: Ends) -> Option<ConnId> {
        let id = self.new_connection();
        match &mut self.state {
            // RFC 4271 §8.2.2: "In this state, BGP FSM refuses all incoming BGP connections for this peer."
            State::Idle { .. } => None,
            State::Opening(opening) => {
                match &opening.accepted {
                    Some(Connection { stage: Stage::OpenConfirm { .. }, .. }) => return None,
                    // The peer dialled again: it has given up the connection that has not said anything yet.
                    Some(silent) => self.actions.push_back(Action::Close(silent.id)),
                    None => {}
                }
                opening.accepted = None;
                let connection = self.send_open(now, id, ends);
                if let State::Opening(opening) = &mut self.state {
                    opening.accepted = Some(connection);
                }
                Some(id)
            }
            State::Established(up) => {
                let challenger = Challenger { id, ends, until: now + OPEN_WAIT };
                if let Some(old) = up.challenger.replace(challenger) {
                    self.actions.push_back(Action::Close(old.id));
                }
                Some(id)
            }
        }
    }

    /// Dials at once if the next attempt was only waiting for its time; or if none was to come, because the peer was passive until now.
    fn reachable(&mut self, now: Instant) {
        let State::Opening(opening) = &self.state else { return };
        let waiting = match opening.dial {
            Dial::Connecting { .. } => false,
            Dial::Waiting { retry_at: Some(_) } => true,
            Dial::Waiting { retry_at: None } => opening.connections().next().is_none(),
        };
        if waiting && !self.config.passive {
            let dial = self.dial(now);
            self.set_dial(dial);
        }
    }

    /// Event 16: our dial got through.
    fn connected(&mut self, now: Instant, conn: ConnId, ends: Ends) {
        if !self.is_dialling(conn) {
            return;
        }
        self.set_dial(Dial::Waiting { retry_at: None });
        let connection = self.send_open(now, conn, ends);
        if let State::Opening(opening) = &mut self.state {
            opening.dialled = Some(connection);
        }
    }

    fn send_open(&mut self, now: Instant, id: ConnId, ends: Ends) -> Connection {
        let ours = our_open(&self.speaker, &self.config, &ends, self.restarted);
        self.actions.push_back(Action::Send(id, Message::Open(ours.clone())));
        Connection { id, ends, ours, stage: Stage::OpenSent { hold_until: now + OPEN_WAIT } }
    }

    /// Event 18: a connection is gone, or the attempt failed.
    fn lost(&mut self, now: Instant, conn: ConnId, why: String) {
        match &mut self.state {
            State::Idle { .. } => {}
            State::Opening(opening) => {
                let failed_dial = matches!(opening.dial, Dial::Connecting { conn: ours, .. } if ours == conn);
                let Some(stage) = opening.take(conn).map(|c| c.stage) else {
                    // RFC 4271 §8.2.2 goes to Idle here; we stay where the peer can reach us, and dial again when the
                    // connect-retry timer says so.
                    if failed_dial {
                        self.note(now, Reason::Lost(why));
                        let dial = self.wait_to_dial(now);
                        self.set_dial(dial);
                    }
                    return;
                };
                self.actions.push_back(Action::Close(conn));
                match stage {
                    // "If a TcpConnectionFails event (Event 18) is received [in OpenSent]: […] changes its state to Active."
                    Stage::OpenSent { .. } => {
                        self.note(now, Reason::Lost(why));
                        self.retry_if_alone(now);
                    }
                    Stage::OpenConfirm { .. } => self.fail_unless_another(now, Reason::Lost(why)),
                }
            }
            State::Established(up) => {
                if up.id == conn {
                    self.fail(now, Reason::Lost(why));
                } else if up.challenger.take_if(|c| c.id == conn).is_some() {
                    self.actions.push_back(Action::Close(conn));
                }
            }
        }
    }

    /// The link is gone: the session ends now and not with the hold timer. Before it is up this is a lost connection like any other.
    fn cut(&mut self, now: Instant, conn: ConnId, why: String, cease: Option<&Cease>) {
        if !matches!(&self.state, State::Established(up) if up.id == conn) {
            return self.lost(now, conn, why);
        }
        if let Some(cease) = cease {
            let notification = self.cease_notification(cease);
            self.notify(now, conn, notification, &why);
        }
        self.fail(now, Reason::Cut(why));
    }

    fn set_dial(&mut self, dial: Dial) {
        if let State::Opening(opening) = &mut self.state {
            opening.dial = dial;
        }
    }

    /// Remembers and reports a failed attempt that does not lead to Idle. Not worth a word while another connection may make it.
    fn note(&mut self, now: Instant, reason: Reason) {
        if matches!(&self.state, State::Opening(opening) if opening.connections().next().is_some()) {
            return;
        }
        self.last_reason = Some((reason.clone(), now));
        self.actions.push_back(Action::Failed(reason));
    }

    /// Back to Active if the connection that went was the last one and no attempt is under way.
    fn retry_if_alone(&mut self, now: Instant) {
        let State::Opening(opening) = &self.state else { return };
        if opening.connections().next().is_none() && opening.dial == (Dial::Waiting { retry_at: None }) {
            let dial = self.wait_to_dial(now);
            self.set_dial(dial);
        }
    }

    /// To Idle, unless another connection may still make it.
    fn fail_unless_another(&mut self, now: Instant, reason: Reason) {
        match &self.state {
            State::Opening(opening) if opening.connections().next().is_some() => self.note(now, reason),
            _ => self.fail(now, reason),
        }
    }

    fn role(&self, conn: ConnId) -> Option<Role> {
        match &self.state {
            State::Idle { .. } => None,
            State::Opening(opening) => opening.connections().find(|c| c.id == conn).map(|c| match c.stage {
                Stage::OpenSent { .. } => Role::OpenSent,
                Stage::OpenConfirm { .. } => Role::OpenConfirm,
            }),
            State::Established(up) if up.id == conn => Some(Role::Established),
            State::Established(up) => up.challenger.as_ref().filter(|c| c.id == conn).map(|_| Role::Challenger),
        }
    }

    /// Events 19 and 24 to 27. A message of a connection we have given up is ignored.
    fn received(&mut self, now: Instant, conn: ConnId, message: Message) {
        let Some(role) = self.role(conn) else { return };
        match (role, message) {
            (_, Message::Notification(notification)) => self.notified(now, conn, &notification),
            (Role::OpenSent, Message::Open(open)) => self.opened(now, conn, &open),
            (Role::OpenConfirm, Message::Keepalive) => self.confirm(now, conn),
            // The peer has chosen this connection already.
            (Role::OpenConfirm, message @ (Message::Update(_) | Message::RouteRefresh(_)))
                if self.is_confirmed(conn) =>
            {
                self.establish(now, conn);
                self.received(now, conn, message);
            }
            (Role::Established, Message::Keepalive) => self.restart_hold(now),
            (Role::Established, Message::Update(update)) => {
                self.restart_hold(now);
                self.actions.push_back(Action::Update(update));
            }
            (Role::Established, Message::RouteRefresh(refresh)) => {
                self.restart_hold(now);
                self.actions.push_back(Action::Refresh(refresh));
            }
            (Role::Challenger, Message::Open(open)) => self.challenged(now, &open),
            // RFC 6608 §3: the subcode says in which state the message came.
            (Role::OpenSent | Role::Challenger, message) => self.unexpected(now, conn, fsm::OPEN_SENT, &message),
            (Role::OpenConfirm, message) => self.unexpected(now, conn, fsm::OPEN_CONFIRM, &message),
            (Role::Established, message) => self.unexpected(now, conn, fsm::ESTABLISHED, &message),
        }
    }

    fn unexpected(&mut self, now: Instant, conn: ConnId, subcode: u8, message: &Message) {
        let what = match message {
            Message::Open(_) => "OPEN",
            Message::Update(_) => "UPDATE",
            Message::Notification(_) => "NOTIFICATION",
            Message::Keepalive => "KEEPALIVE",
            Message::RouteRefresh(_) => "ROUTE-REFRESH",
        };
        let why = format!("{what} when none was expected");
        // RFC 6608 §3: "the Data field is […] the one-octet Message Type".
        let data = Bytes::copy_from_slice(&[message.code()]);
        self.reject(now, conn, Notification { code: code::FSM, subcode, data }, why);
    }

    /// Events 21, 22, 28: the message could not be read.
    fn malformed(&mut self, now: Instant, conn: ConnId, error: wire::Error) {
        if self.role(conn).is_some() {
            let why = error.to_string();
            self.reject(now, conn, error.notification, why);
        }
    }

    /// Sends a NOTIFICATION on a connection and gives the connection up; with it the session, if it was the session.
    fn reject(&mut self, now: Instant, conn: ConnId, notification: Notification, why: String) {
        self.notify(now, conn, notification.clone(), &why);
        self.give_up(now, conn, Reason::Sent(notification, why));
    }

    /// Drops a connection for good reason.
    fn give_up(&mut self, now: Instant, conn: ConnId, reason: Reason) {
        match &mut self.state {
            State::Idle { .. } => {}
            State::Opening(opening) => {
                let another = opening.connections().any(|c| c.id != conn);
                if another {
                    opening.take(conn);
                    self.actions.push_back(Action::Close(conn));
                    self.note(now, reason);
                } else {
                    self.fail(now, reason);
                }
            }
            State::Established(up) => {
                if up.id == conn {
                    self.fail(now, reason);
                } else {
                    up.challenger = None;
                    self.actions.push_back(Action::Close(conn));
                }
            }
        }
    }

    /// Events 24, 25: the peer gives the connection up.
    fn notified(&mut self, now: Instant, conn: ConnId, notification: &Notification) {
        let reason = Reason::Received(notification.clone());
        self.last_received = Some(LastError { notification: notification.clone(), why: String::new(), at: now });
        let collision = (notification.code, notification.subcode) == (code::CEASE, cease::COLLISION);
        match &mut self.state {
            // Lost a collision: no failure. The peer has, or believes it has, another connection of ours; we may be dialled.
            State::Opening(opening) if collision => {
                opening.take(conn);
                self.actions.push_back(Action::Close(conn));
                self.note(now, reason);
                self.retry_if_alone(now);
            }
            _ => self.give_up(now, conn, reason),
        }
    }

    /// Event 19 in OpenSent.
    fn opened(&mut self, now: Instant, conn: ConnId, open: &Open) {
        let State::Opening(opening) = &self.state else { return };
        let Some(connection) = opening.connections().find(|c| c.id == conn) else { return };
        let negotiated = match negotiate(&self.speaker, &self.config, &connection.ours, open) {
            Ok(negotiated) => Arc::new(negotiated),
            Err(error) => return self.malformed(now, conn, error),
        };
        if let Some(loser) = self.collision(conn, &negotiated) {
            self.notify(now, loser, Cease::Collision.notification(), "the other connection is kept");
            self.actions.push_back(Action::Close(loser));
            if let State::Opening(opening) = &mut self.state {
                opening.take(loser);
            }
            if loser == conn {
                return;
            }
        }
        self.actions.push_back(Action::Send(conn, Message::Keepalive));
        let keepalive_at = self.keepalive_at(now, &negotiated);
        let hold_until = hold_until(now, &negotiated);
        if let State::Opening(opening) = &mut self.state
            && let Some(connection) = opening.connections_mut().find(|c| c.id == conn)
        {
            let theirs = Box::new(open.clone());
            connection.stage = Stage::OpenConfirm { theirs, negotiated, hold_until, keepalive_at, confirmed: false };
        }
    }

    /// RFC 4271 §6.8: if another connection is in OpenConfirm only one stays. Answers which one goes.
    fn collision(&self, conn: ConnId, negotiated: &Negotiated) -> Option<ConnId> {
        let State::Opening(opening) = &self.state else { return None };
        let (Some(dialled), Some(accepted)) = (&opening.dialled, &opening.accepted) else { return None };
        let other = if dialled.id == conn { accepted } else { dialled };
        if !matches!(other.stage, Stage::OpenConfirm { .. }) {
            return None;
        }
        Some(if self.ours_wins(negotiated) { accepted.id } else { dialled.id })
    }

    /// RFC 4271 §6.8, RFC 6286 §2.3: the connection opened by the side with the higher identifier wins; of equal identifiers the
    /// higher AS number decides.
    fn ours_wins(&self, negotiated: &Negotiated) -> bool {
        let ours = (u32::from(self.speaker.router_id), self.config.our_as(&self.speaker));
        ours > (u32::from(negotiated.router_id), negotiated.asn)
    }

    /// Event 26 in OpenConfirm.
    fn confirm(&mut self, now: Instant, conn: ConnId) {
        let State::Opening(opening) = &mut self.state else { return };
        for connection in opening.connections_mut().filter(|c| c.id == conn) {
            if let Stage::OpenConfirm { negotiated, hold_until: hold, confirmed, .. } = &mut connection.stage {
                *confirmed = true;
                *hold = hold_until(now, negotiated);
            }
        }
    }

    fn is_confirmed(&self, conn: ConnId) -> bool {
        let State::Opening(opening) = &self.state else { return false };
        opening.connections().any(|c| c.id == conn && matches!(c.stage, Stage::OpenConfirm { confirmed: true, .. }))
    }

    /// A confirmed connection becomes the session – unless another one has our OPEN already that would win the collision. The
    /// peer may be about to choose that one: were we to choose this one now, each side would close what the other has chosen.
    fn establish_confirmed(&mut self, now: Instant) {
        let State::Opening(opening) = &self.state else { return };
        let confirmed = opening.connections().find_map(|c| match &c.stage {
            Stage::OpenConfirm { negotiated, confirmed: true, .. } => Some((c.id, Arc::clone(negotiated))),
            _ => None,
        });
        let Some((conn, negotiated)) = confirmed else { return };
        let ours_wins = self.ours_wins(&negotiated);
        let State::Opening(opening) = &mut self.state else { return };
        let winner = if ours_wins { &mut opening.dialled } else { &mut opening.accepted };
        match winner.as_mut().filter(|winner| winner.id != conn).map(|winner| &mut winner.stage) {
            Some(Stage::OpenSent { hold_until }) => *hold_until = (*hold_until).min(now + COLLISION_WAIT),
            _ => self.establish(now, conn),
        }
    }

    /// The session is up; whatever else was under way is not needed any more.
    fn establish(&mut self, now: Instant, conn: ConnId) {
        let State::Opening(opening) = &mut self.state else { return };
        let Some(Connection { id, ends, ours, stage: Stage::OpenConfirm { theirs, negotiated, .. } }) =
            opening.take(conn)
        else {
            return;
        };
        let losers: Vec<_> = opening.connections().map(|c| c.id).collect();
        for loser in losers {
            self.notify(now, loser, Cease::Collision.notification(), "the other connection is kept");
        }
        let established = Established {
            id,
            since: now,
            hold_until: hold_until(now, &negotiated),
            keepalive_at: self.keepalive_at(now, &negotiated),
            send_hold_until: send_hold_until(now, &negotiated),
            challenger: None,
            negotiated: Arc::clone(&negotiated),
            opens: Box::new(Opens { ours, theirs: *theirs }),
        };
        self.enter(State::Established(Box::new(established)));
        self.established_count += 1;
        // RFC 4724 §3: the R bit is for the first OPEN after the restart.
        self.restarted = false;
        self.actions.push_back(Action::Up(id, ends, negotiated));
    }

    /// Event 19 on a connection that came in while the session is up. RFC 4271 §6.8 keeps the session; RFC 4724 §4.2 makes the
    /// exception for a peer that restarts gracefully: "the previous TCP session MUST be closed, and the new one retained".
    ///
    /// But no peer is back so soon after it came up. An OPEN that arrives then was on its way when the session did: both ends had
    /// dialled, and closing the session here while the peer closes the other connection would leave neither.
    fn challenged(&mut self, now: Instant, open: &Open) {
        let State::Established(up) = &mut self.state else { return };
        let Some(challenger) = up.challenger.take() else { return };
        if up.negotiated.restart.is_none() || now < up.since + COLLISION_WAIT {
            self.notify(now, challenger.id, Cease::Collision.notification(), "the session is up already");
            self.actions.push_back(Action::Close(challenger.id));
            return;
        }
        let ours = our_open(&self.speaker, &self.config, &challenger.ends, false);
        if let Err(error) = negotiate(&self.speaker, &self.config, &ours, open) {
            self.notify(now, challenger.id, error.notification, &error.reason);
            self.actions.push_back(Action::Close(challenger.id));
            return;
        }
        let dial = Dial::Waiting { retry_at: None };
        let opening = Opening { dial, dialled: None, accepted: None };
        self.go_down(now, State::Opening(Box::new(opening)), Reason::Replaced);
        let connection = self.send_open(now, challenger.id, challenger.ends);
        if let State::Opening(opening) = &mut self.state {
            opening.accepted = Some(connection);
        }
        self.opened(now, challenger.id, open);
    }

    fn restart_hold(&mut self, now: Instant) {
        if let State::Established(up) = &mut self.state {
            up.hold_until = hold_until(now, &up.negotiated);
        }
    }

    /// RFC 9687 §4.3: the timer restarts whenever something was sent.
    fn progress(&mut self, now: Instant, conn: ConnId) {
        if let State::Established(up) = &mut self.state
            && up.id == conn
        {
            up.send_hold_until = send_hold_until(now, &up.negotiated);
        }
    }

    fn keepalive_at(&mut self, now: Instant, negotiated: &Negotiated) -> Option<Instant> {
        (!negotiated.keepalive.is_zero()).then(|| now + self.rng.jitter(negotiated.keepalive))
    }

    /// Every timer that is due by `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match &self.state {
            // Event 13, IdleHoldTimer_Expires, and 3, AutomaticStart.
            State::Idle { restart_at } => {
                if restart_at.is_some_and(|at| at <= now) {
                    self.open(now);
                }
            }
            State::Opening(_) => {
                self.connect_retry(now);
                self.opening_timeouts(now);
                self.establish_confirmed(now);
            }
            State::Established(_) => self.established_timeouts(now),
        }
    }

    /// Event 9.
    fn connect_retry(&mut self, now: Instant) {
        let State::Opening(opening) = &self.state else { return };
        let busy = opening.connections().next().is_some();
        let (due, attempt) = match opening.dial {
            Dial::Connecting { conn, retry_at } => (retry_at <= now, Some(conn)),
            Dial::Waiting { retry_at } => (retry_at.is_some_and(|at| at <= now), None),
        };
        if !due {
            return;
        }
        if let Some(conn) = attempt {
            self.actions.push_back(Action::Close(conn));
            self.note(now, Reason::Lost("no answer to our attempt to connect".to_owned()));
        }
        // While the peer's own connection makes progress there is no need for a second one. And the peer may be passive by now.
        let dial = if busy || self.config.passive { self.wait_to_dial(now) } else { self.dial(now) };
        self.set_dial(dial);
    }

    /// Events 10 and 11 in OpenSent and OpenConfirm.
    fn opening_timeouts(&mut self, now: Instant) {
        let State::Opening(opening) = &self.state else { return };
        let ids: Vec<_> = opening.connections().map(|c| c.id).collect();
        for id in ids {
            let State::Opening(opening) = &self.state else { return };
            let Some(connection) = opening.connections().find(|c| c.id == id) else { continue };
            let (hold, keepalive) = match &connection.stage {
                Stage::OpenSent { hold_until } => (Some(*hold_until), None),
                Stage::OpenConfirm { hold_until, keepalive_at, negotiated, .. } => {
                    (*hold_until, keepalive_at.map(|at| (at, Arc::clone(negotiated))))
                }
            };
            if hold.is_some_and(|at| at <= now) {
                let state = self.state().as_str();
                self.reject(now, id, hold_timer_expired(), format!("nothing heard in {state}"));
            } else if let Some((at, negotiated)) = keepalive
                && at <= now
            {
                self.actions.push_back(Action::Send(id, Message::Keepalive));
                let next = self.keepalive_at(now, &negotiated);
                if let State::Opening(opening) = &mut self.state {
                    for connection in opening.connections_mut().filter(|c| c.id == id) {
                        if let Stage::OpenConfirm { keepalive_at, .. } = &mut connection.stage {
                            *keepalive_at = next;
                        }
                    }
                }
            }
        }
    }

    /// Events 10 and 11 in Established, and the send-hold timer.
    fn established_timeouts(&mut self, now: Instant) {
        let State::Established(up) = &mut self.state else { return };
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let (id, negotiated) = (up.id, Arc::clone(&up.negotiated));
        if due(up.hold_until) {
            let why = format!("nothing heard for {} s", negotiated.hold_time.as_secs());
            return self.reject(now, id, hold_timer_expired(), why);
        }
        let held_up = due(up.keepalive_at) && up.keepalive_at < up.send_hold_until;
        if due(up.send_hold_until) && held_up {
            // A KEEPALIVE was due before: it is we who were held up, and the peer has had nothing to take.
            up.send_hold_until = Some(now + negotiated.keepalive);
        } else if due(up.send_hold_until) {
            let waited = negotiated.send_hold.unwrap_or_default().as_secs_f64();
            let why = format!("it has taken nothing from its connection for {waited} s");
            return self.reject(now, id, Notification::new(code::SEND_HOLD_TIMER_EXPIRED, 0), why);
        }
        if let Some(silent) = up.challenger.take_if(|c| c.until <= now) {
            self.actions.push_back(Action::Close(silent.id));
        }
        if due(up.keepalive_at) {
            self.actions.push_back(Action::Send(id, Message::Keepalive));
            let next = self.keepalive_at(now, &negotiated);
            if let State::Established(up) = &mut self.state {
                up.keepalive_at = next;
            }
        }
    }
}

const fn hold_timer_expired() -> Notification {
    Notification::new(code::HOLD_TIMER_EXPIRED, 0)
}

fn hold_until(now: Instant, negotiated: &Negotiated) -> Option<Instant> {
    after(now, negotiated.hold_time, negotiated.hold_time)
}

/// When a timer goes off that has so much left; never if its whole time is zero.
pub(super) fn after(now: Instant, left: Duration, whole: Duration) -> Option<Instant> {
    (!whole.is_zero()).then(|| now + left)
}

pub(super) fn send_hold_until(now: Instant, negotiated: &Negotiated) -> Option<Instant> {
    negotiated.send_hold.map(|wait| now + wait)
}
