//! Every event in every state, and stories with a clock.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::negotiate::our_open;
use super::*;
use crate::speaker::{PeerAddress, RemoteAs};
use crate::wire::notification::code;
use crate::wire::{Capability, Open};

const OUR_AS: u32 = 65001;
const PEER_AS: u32 = 65002;

/// One peer, a clock, and the connections by the names tests give them.
struct Story {
    session: Session,
    begun: Instant,
    now: Instant,
    dialled: Option<ConnId>,
    accepted: Option<ConnId>,
    /// What the other side says of itself.
    peer_id: Ipv4Addr,
    graceful: bool,
}

fn ends() -> Ends {
    Ends::new("10.0.0.1:179".parse().unwrap(), "10.0.0.2:40000".parse().unwrap())
}

impl Story {
    fn with(change: impl FnOnce(&mut SpeakerConfig, &mut PeerConfig)) -> Self {
        let mut speaker = SpeakerConfig::new(OUR_AS, Ipv4Addr::new(10, 0, 0, 5));
        let mut peer = PeerConfig::new(PeerAddress::Numbered([10, 0, 0, 2].into()), RemoteAs::Number(PEER_AS));
        change(&mut speaker, &mut peer);
        let begun = Instant::now();
        Self {
            session: Session::new(1, Arc::new(speaker), Arc::new(peer), 42),
            begun,
            now: begun,
            dialled: None,
            accepted: None,
            peer_id: Ipv4Addr::new(10, 0, 0, 2),
            graceful: false,
        }
    }

    fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// Down, but would start.
    fn idle() -> Self {
        Self::new()
    }

    fn connect() -> Self {
        let mut story = Self::idle();
        story.does(Happens::Start);
        story
    }

    fn active() -> Self {
        let mut story = Self::connect();
        story.does(Happens::LostDialled);
        story
    }

    fn open_sent() -> Self {
        let mut story = Self::connect();
        story.does(Happens::Connected);
        story
    }

    fn open_confirm() -> Self {
        let mut story = Self::open_sent();
        story.does(Happens::Open);
        story
    }

    fn established() -> Self {
        let mut story = Self::open_confirm();
        story.does(Happens::Keepalive);
        story
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.begun + Duration::from_secs(seconds);
        self
    }

    fn open(&self) -> Open {
        let mut speaker = SpeakerConfig::new(PEER_AS, self.peer_id);
        if !self.graceful {
            speaker.graceful_restart = None;
        }
        let peer = PeerConfig::new(PeerAddress::Numbered([10, 0, 0, 1].into()), RemoteAs::Auto);
        our_open(&speaker, &peer, &ends(), false)
    }

    /// The connection messages come on: the dialled one, if there is one.
    fn conn(&self) -> ConnId {
        self.dialled.or(self.accepted).unwrap_or(ConnId { peer: 1, serial: 999 })
    }

    fn hears(&mut self, conn: ConnId, message: Message) -> String {
        self.session.handle(self.now, Event::Received(conn, Ok(message)));
        self.said()
    }

    /// Lets something happen on the (first) connection; answers what the session does about it.
    fn does(&mut self, what: Happens) -> String {
        let conn = self.conn();
        let notification = |code, subcode| Message::Notification(Notification::new(code, subcode));
        let event = match what {
            Happens::Start => Event::Start,
            Happens::Stop => Event::Stop(Cease::Shutdown(String::new())),
            Happens::Reset => Event::Reset(Cease::Reset(String::new())),
            Happens::Leave => Event::Leave,
            Happens::Reachable => Event::Reachable,
            Happens::Connected => Event::Connected(conn, ends()),
            Happens::Accepted => {
                let accepted = self.session.accept(self.now, ends());
                self.accepted = accepted.or(self.accepted);
                let said = self.said();
                return if accepted.is_some() { said } else { format!("refuse {said}").trim().to_owned() };
            }
            Happens::LostDialled | Happens::Lost => Event::Lost(conn, "gone".into()),
            Happens::Cut => Event::Cut(conn, "no carrier".into(), None),
            Happens::Open => Event::Received(conn, Ok(Message::Open(self.open()))),
            Happens::BadOpen => Event::Received(conn, Ok(Message::Open(Open::new(1, 90, self.peer_id, vec![])))),
            Happens::Keepalive => Event::Received(conn, Ok(Message::Keepalive)),
            Happens::Update => Event::Received(conn, Ok(Message::Update(Box::default()))),
            Happens::Refresh => {
                Event::Received(conn, Ok(Message::RouteRefresh(RouteRefresh { afi: 1, subtype: 0, safi: 1 })))
            }
            Happens::Notified => Event::Received(conn, Ok(notification(6, 2))),
            Happens::Collided => Event::Received(conn, Ok(notification(6, 7))),
            Happens::Garbage => Event::Received(conn, Err(wire::Error::new(0, code::MESSAGE_HEADER, 1, "no marker"))),
            Happens::Progress => Event::Progress(conn),
            Happens::Silence => return self.timeout(Duration::from_mins(30)),
        };
        self.session.handle(self.now, event);
        self.said()
    }

    /// Goes to the next deadline, if it comes within `patience`, and lets it happen.
    fn timeout(&mut self, patience: Duration) -> String {
        match self.session.next_deadline() {
            Some(at) if at <= self.now + patience => self.now = self.now.max(at),
            _ => return String::new(),
        }
        self.session.handle_timeout(self.now);
        self.said()
    }

    /// What the session wants done, in short.
    fn said(&mut self) -> String {
        let mut said = Vec::new();
        while let Some(action) = self.session.poll() {
            said.push(match action {
                Action::Dial(conn) => {
                    self.dialled = Some(conn);
                    "dial".to_owned()
                }
                Action::Send(_, Message::Notification(n)) => format!("{}/{}", n.code, n.subcode),
                Action::Send(_, Message::Open(_)) => "OPEN".to_owned(),
                Action::Send(_, Message::Keepalive) => "KEEPALIVE".to_owned(),
                Action::Send(_, other) => format!("{other:?}"),
                Action::Close(conn) => {
                    let which = [(&mut self.dialled, "dialled"), (&mut self.accepted, "accepted")]
                        .into_iter()
                        .find_map(|(slot, name)| slot.take_if(|c| *c == conn).map(|_| name));
                    format!("close {}", which.unwrap_or("other"))
                }
                Action::Up(..) => "up".to_owned(),
                Action::Down { keep: true, .. } => "down, routes kept".to_owned(),
                Action::Down { keep: false, .. } => "down".to_owned(),
                Action::Failed(_) => "failed".to_owned(),
                Action::Update(_) => "update".to_owned(),
                Action::Refresh(_) => "refresh".to_owned(),
            });
        }
        said.join(", ")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    Start,
    Stop,
    Reset,
    Leave,
    Reachable,
    Connected,
    Accepted,
    LostDialled,
    Lost,
    Cut,
    Open,
    BadOpen,
    Keepalive,
    Update,
    Refresh,
    Notified,
    Collided,
    Garbage,
    Progress,
    Silence,
}

/// A state's name, and how to get there.
type State = (&'static str, fn() -> Story);

/// RFC 4271 §8.2.2, cell by cell: what follows, and what is done. "-" is: nothing at all.
#[test]
fn no_cell_of_the_state_machine_is_undecided() {
    use Happens as H;
    let states: [State; 6] = [
        ("Idle", Story::idle),
        ("Connect", Story::connect),
        ("Active", Story::active),
        ("OpenSent", Story::open_sent),
        ("OpenConfirm", Story::open_confirm),
        ("Established", Story::established),
    ];
    // One column for each state, in the order above.
    let table: [(H, [&str; 6]); 19] = [
        (H::Start, ["Connect: dial", "-", "-", "-", "-", "-"]),
        (
            H::Stop,
            [
                "-",
                "Idle: close dialled",
                "Idle: ",
                "Idle: 6/2, close dialled",
                "Idle: 6/2, close dialled",
                "Idle: 6/2, close dialled, down",
            ],
        ),
        (
            H::Reset,
            [
                "-",
                "Idle: close dialled, failed",
                "Idle: failed",
                "Idle: 6/4, close dialled, failed",
                "Idle: 6/4, close dialled, failed",
                "Idle: 6/4, close dialled, down",
            ],
        ),
        (
            H::Leave,
            [
                "-",
                "Idle: close dialled, failed",
                "Idle: failed",
                "Idle: close dialled, failed",
                "Idle: close dialled, failed",
                "Idle: close dialled, down",
            ],
        ),
        (H::Reachable, ["-", "-", "Connect: dial", "-", "-", "-"]),
        (H::Connected, ["-", "OpenSent: OPEN", "-", "-", "-", "-"]),
        (
            H::Accepted,
            [
                "Idle: refuse",
                "OpenSent: OPEN",
                "OpenSent: OPEN",
                "OpenSent: OPEN",
                "OpenConfirm: OPEN",
                // It is not told anything before it says who it is.
                "-",
            ],
        ),
        (
            H::Lost,
            [
                "-",
                "Active: failed",
                "-",
                "Active: close dialled, failed",
                "Idle: close dialled, failed",
                "Idle: close dialled, down",
            ],
        ),
        (
            H::Cut,
            [
                "-",
                "Active: failed",
                "-",
                "Active: close dialled, failed",
                "Idle: close dialled, failed",
                "Idle: close dialled, down",
            ],
        ),
        (
            H::Open,
            [
                "-",
                "-",
                "-",
                "OpenConfirm: KEEPALIVE",
                "Idle: 5/2, close dialled, failed",
                "Idle: 5/3, close dialled, down",
            ],
        ),
        (
            H::BadOpen,
            [
                "-",
                "-",
                "-",
                "Idle: 2/2, close dialled, failed",
                "Idle: 5/2, close dialled, failed",
                "Idle: 5/3, close dialled, down",
            ],
        ),
        (H::Keepalive, ["-", "-", "-", "Idle: 5/1, close dialled, failed", "Established: up", "-"]),
        (
            H::Update,
            [
                "-",
                "-",
                "-",
                "Idle: 5/1, close dialled, failed",
                "Idle: 5/2, close dialled, failed",
                "Established: update",
            ],
        ),
        (
            H::Refresh,
            [
                "-",
                "-",
                "-",
                "Idle: 5/1, close dialled, failed",
                "Idle: 5/2, close dialled, failed",
                "Established: refresh",
            ],
        ),
        (
            H::Notified,
            ["-", "-", "-", "Idle: close dialled, failed", "Idle: close dialled, failed", "Idle: close dialled, down"],
        ),
        (
            H::Collided,
            [
                "-",
                "-",
                "-",
                "Active: close dialled, failed",
                "Active: close dialled, failed",
                "Idle: close dialled, down",
            ],
        ),
        (
            H::Garbage,
            [
                "-",
                "-",
                "-",
                "Idle: 1/1, close dialled, failed",
                "Idle: 1/1, close dialled, failed",
                "Idle: 1/1, close dialled, down",
            ],
        ),
        (H::Progress, ["-", "-", "-", "-", "-", "-"]),
        (
            // The first timer that goes off: connect-retry, connect-retry, hold, keepalive, keepalive.
            H::Silence,
            [
                "-",
                "Connect: close dialled, failed, dial",
                "Connect: dial",
                "Idle: 4/0, close dialled, failed",
                "OpenConfirm: KEEPALIVE",
                "Established: KEEPALIVE",
            ],
        ),
    ];
    for (event, row) in table {
        for ((name, build), expected) in states.iter().zip(row) {
            let mut story = build();
            assert_eq!(story.session.state().as_str(), *name, "the builder of {name} is wrong");
            let done = story.does(event);
            let state = story.session.state().as_str();
            let got = if done.is_empty() && state == *name { "-".to_owned() } else { format!("{state}: {done}") };
            let expected = if event == H::Accepted && *name == "Idle" { "Idle: refuse" } else { expected };
            assert_eq!(got, expected, "{event:?} in {name}");
        }
    }
}

#[test]
fn a_session_comes_up_keeps_itself_alive_and_dies_of_silence() {
    let mut story = Story::new();
    assert_eq!(story.at(0).does(Happens::Start), "dial");
    assert_eq!(story.at(1).does(Happens::Connected), "OPEN");
    assert_eq!(story.at(2).does(Happens::Open), "KEEPALIVE");
    assert_eq!(story.at(3).does(Happens::Keepalive), "up");
    // A third of 90 s, less up to a quarter.
    for _ in 0..2 {
        let before = story.now;
        assert_eq!(story.timeout(Duration::from_secs(30)), "KEEPALIVE");
        assert!(story.now - before >= Duration::from_millis(22_500), "{:?}", story.now - before);
    }
    assert_eq!(story.at(80).does(Happens::Update), "update");
    let mut sent = Vec::new();
    while story.session.state() == StateName::Established {
        sent.push(story.timeout(Duration::from_mins(2)));
    }
    assert_eq!(story.now - story.begun, Duration::from_secs(80 + 90), "an UPDATE restarts the hold timer");
    assert_eq!(sent.pop().unwrap(), "4/0, close dialled, down");
    assert!(sent.iter().all(|s| s == "KEEPALIVE"), "{sent:?}");
}

#[test]
fn nobody_to_talk_to_is_tried_again_and_again() {
    let mut story = Story::with(|_, peer| peer.connect_retry = Duration::from_secs(10));
    assert_eq!(story.does(Happens::Start), "dial");
    assert_eq!(story.does(Happens::Lost), "failed");
    assert_eq!(story.session.state(), StateName::Active);
    for _ in 0..5 {
        let before = story.now;
        assert_eq!(story.timeout(Duration::from_secs(10)), "dial");
        assert!(story.now - before >= Duration::from_millis(7_500));
        story.does(Happens::Lost);
    }
}

#[test]
fn failures_make_idle_longer_until_a_session_was_stable() {
    let mut story = Story::new();
    story.does(Happens::Start);
    let mut waits = Vec::new();
    for _ in 0..8 {
        story.does(Happens::Connected);
        story.does(Happens::BadOpen);
        let before = story.now;
        assert_eq!(story.timeout(Duration::from_mins(2)), "dial");
        waits.push((story.now - before).as_secs_f64());
    }
    for (wait, longest) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]) {
        assert!((longest * 0.75..=longest).contains(wait), "{waits:?}");
    }
    story.does(Happens::Connected);
    story.does(Happens::Open);
    story.does(Happens::Keepalive);
    story.now += Duration::from_secs(61);
    story.does(Happens::Lost);
    let before = story.now;
    assert_eq!(story.timeout(Duration::from_mins(2)), "dial");
    assert!(story.now - before <= Duration::from_secs(1), "a stable session did not earn a fresh start");
}

#[test]
fn a_passive_peer_never_dials() {
    let mut story = Story::with(|_, peer| peer.passive = true);
    assert_eq!(story.does(Happens::Start), "");
    assert_eq!(story.session.state(), StateName::Active);
    assert_eq!(story.does(Happens::Silence), "");
    assert_eq!(story.does(Happens::Accepted), "OPEN");
    assert_eq!(story.does(Happens::Open), "KEEPALIVE");
    assert_eq!(story.does(Happens::Keepalive), "up");
}

/// RFC 4271 §6.8 and RFC 6286 §2.3: (our id, their id) and which connection stays.
#[test]
fn the_connection_of_the_higher_identifier_stays() {
    // Ours is 10.0.0.5 in AS 65001; the peer is in AS 65002, which decides between equal identifiers.
    for (peer_id, stays) in [([10, 0, 0, 2], "dialled"), ([10, 0, 0, 9], "accepted"), ([10, 0, 0, 5], "accepted")] {
        for dialled_first in [true, false] {
            let mut story = Story::connect();
            story.peer_id = peer_id.into();
            story.does(Happens::Connected);
            story.does(Happens::Accepted);
            let (dialled, accepted) = (story.dialled.unwrap(), story.accepted.unwrap());
            let (first, second) = if dialled_first { (dialled, accepted) } else { (accepted, dialled) };
            let open = Message::Open(story.open());
            assert_eq!(story.hears(first, open.clone()), "KEEPALIVE");
            let said = story.hears(second, open);
            let goes = if stays == "dialled" { "accepted" } else { "dialled" };
            let survivor = if stays == "dialled" { dialled } else { accepted };
            let expected =
                if survivor == second { format!("6/7, close {goes}, KEEPALIVE") } else { format!("6/7, close {goes}") };
            assert_eq!(said, expected, "{peer_id:?}, dialled first: {dialled_first}");
            assert_eq!(story.hears(survivor, Message::Keepalive), "up");
        }
    }
}

/// The race the rule alone does not settle: the connection that would lose is ready first.
#[test]
fn a_connection_that_would_lose_waits_for_the_one_that_would_win() {
    let both = || {
        let mut story = Story::connect();
        story.peer_id = [10, 0, 0, 9].into();
        story.does(Happens::Connected);
        story.does(Happens::Accepted);
        let (dialled, accepted) = (story.dialled.unwrap(), story.accepted.unwrap());
        let open = Message::Open(story.open());
        assert_eq!(story.hears(dialled, open), "KEEPALIVE");
        assert_eq!(story.hears(dialled, Message::Keepalive), "");
        (story, dialled, accepted)
    };
    let (mut story, _, accepted) = both();
    let open = Message::Open(story.open());
    assert_eq!(story.hears(accepted, open), "6/7, close dialled, KEEPALIVE");
    assert_eq!(story.hears(accepted, Message::Keepalive), "up");

    let (mut story, dialled, accepted) = both();
    story.session.handle(story.now, Event::Lost(accepted, "gone".into()));
    assert_eq!(story.said(), "close accepted, up", "the winner is gone");
    assert_eq!(story.conn(), dialled);

    let (mut story, dialled, _) = both();
    let said = story.hears(dialled, Message::Update(Box::default()));
    assert_eq!(said, "6/7, close accepted, up, update", "the peer has chosen");

    let (mut story, ..) = both();
    assert_eq!(story.timeout(Duration::from_secs(5)), "4/0, close accepted, up", "the winner says nothing");
}

#[test]
fn a_new_connection_does_not_end_the_session_that_is_up() {
    let mut story = Story::established();
    assert_eq!(story.does(Happens::Accepted), "");
    let open = Message::Open(story.open());
    let challenger = story.accepted.unwrap();
    assert_eq!(story.hears(challenger, open), "6/7, close accepted");
    assert_eq!(story.session.state(), StateName::Established);
}

/// RFC 4724 §4.2: with graceful restart the new connection is the restart.
#[test]
fn a_restarting_peer_replaces_its_session_and_its_routes_are_kept() {
    let mut story = Story::open_sent();
    story.graceful = true;
    story.does(Happens::Open);
    assert_eq!(story.does(Happens::Keepalive), "up");
    // At first it is the other half of a collision: the peer's OPEN was on its way when the session came up.
    for (seconds, says) in [(0, "6/7, close accepted"), (4, "6/7, close accepted")] {
        story.at(seconds);
        assert_eq!(story.does(Happens::Accepted), "");
        let open = Message::Open(story.open());
        assert_eq!(story.hears(story.accepted.unwrap(), open), says, "{seconds} s after it came up");
        assert_eq!(story.session.state(), StateName::Established);
    }
    story.at(5);
    assert_eq!(story.does(Happens::Accepted), "");
    let open = Message::Open(story.open());
    let challenger = story.accepted.unwrap();
    assert_eq!(story.hears(challenger, open), "close dialled, down, routes kept, OPEN, KEEPALIVE");
    assert_eq!(story.hears(challenger, Message::Keepalive), "up");
}

#[test]
fn routes_are_kept_for_a_peer_that_restarts_and_only_then() {
    // The peer's OPEN is our own with another AS: it has the N bit.
    let rows = [
        (Happens::Lost, "close dialled, down, routes kept"),
        (Happens::Notified, "close dialled, down, routes kept"),
        // An administrative stop of ours goes out as Hard Reset, so that the peer forgets our routes (RFC 8538 §3.1).
        (Happens::Stop, "6/9, close dialled, down"),
        (Happens::Leave, "close dialled, down"),
        // Preserved or not, there is no way to the peer.
        (Happens::Cut, "close dialled, down"),
    ];
    for (event, expected) in rows {
        let mut story = Story::open_sent();
        story.graceful = true;
        story.does(Happens::Open);
        story.does(Happens::Keepalive);
        assert_eq!(story.does(event), expected, "{event:?}");
    }
    let mut story = Story::open_sent();
    story.graceful = true;
    story.does(Happens::Open);
    story.does(Happens::Keepalive);
    let hard_reset = Notification::new(6, 2).into_hard_reset();
    let conn = story.conn();
    assert_eq!(story.hears(conn, Message::Notification(hard_reset)), "close dialled, down");
}

#[test]
fn the_restart_flag_is_in_the_first_open_only() {
    let flag = |action: Option<Action>| match action {
        Some(Action::Send(_, Message::Open(open))) => open.capabilities.iter().find_map(|c| match c {
            Capability::GracefulRestart { restarted, .. } => Some(*restarted),
            _ => None,
        }),
        _ => None,
    };
    let mut story = Story::with(|speaker, _| {
        speaker.graceful_restart = Some(crate::speaker::GracefulRestart { restarted: true, ..Default::default() });
    });
    story.does(Happens::Start);
    let conn = story.conn();
    story.session.handle(story.now, Event::Connected(conn, ends()));
    assert_eq!(flag(story.session.poll()), Some(true));
    story.does(Happens::Open);
    assert_eq!(story.does(Happens::Keepalive), "up");
    story.does(Happens::Lost);
    assert_eq!(story.does(Happens::Silence), "dial");
    let conn = story.conn();
    story.session.handle(story.now, Event::Connected(conn, ends()));
    assert_eq!(flag(story.session.poll()), Some(false));
}

/// RFC 9687: a peer that keeps talking but takes nothing.
#[test]
fn a_peer_that_takes_nothing_is_given_up_after_eight_minutes() {
    let mut story = Story::established();
    let begun = story.now;
    loop {
        // It stays alive by its own KEEPALIVEs.
        let conn = story.conn();
        story.hears(conn, Message::Keepalive);
        let said = story.timeout(Duration::from_mins(1));
        if said != "KEEPALIVE" {
            assert_eq!(said, "8/0, close dialled, down");
            break;
        }
        assert!(story.now - begun < Duration::from_mins(9), "never given up");
    }
    assert_eq!(story.now - begun, Duration::from_mins(8));
    // One that takes something stays.
    let mut story = Story::established();
    let begun = story.now;
    while story.now - begun < Duration::from_mins(20) {
        let conn = story.conn();
        story.hears(conn, Message::Keepalive);
        story.does(Happens::Progress);
        assert_eq!(story.timeout(Duration::from_mins(1)), "KEEPALIVE");
    }
}

/// RFC 9687 §4.3, §6: the time may be configured, and is off if it is zero.
#[test]
fn how_long_a_peer_may_take_nothing_is_configured() {
    let up = |send_hold: Duration| {
        let mut story = Story::with(|_, peer| peer.send_hold_time = Some(send_hold));
        for event in [Happens::Start, Happens::Connected, Happens::Open, Happens::Keepalive] {
            story.does(event);
        }
        story
    };
    // It stays alive by its own KEEPALIVEs; until something else than ours is said, or for so long.
    let alive = |story: &mut Story, at_most: Duration| {
        let begun = story.now;
        loop {
            let conn = story.conn();
            story.hears(conn, Message::Keepalive);
            let said = story.timeout(Duration::from_mins(1));
            if said != "KEEPALIVE" || story.now - begun > at_most {
                return (said, story.now - begun);
            }
        }
    };
    let mut story = up(Duration::from_secs(100));
    let given_up = alive(&mut story, Duration::from_mins(9));
    assert_eq!(given_up, ("8/0, close dialled, down".to_owned(), Duration::from_secs(100)));
    let error = story.session.last_sent.clone().unwrap();
    assert_eq!(error.notification.to_string(), "Send Hold Timer Expired (8/0)");
    assert_eq!(error.why, "it has taken nothing from its connection for 100 s");
    assert_eq!(alive(&mut up(Duration::ZERO), Duration::from_hours(1)).0, "KEEPALIVE");
}

/// After a pause of ours it is not the peer that has taken nothing.
#[test]
fn a_host_that_was_held_up_does_not_say_that_its_peer_takes_nothing() {
    let mut story = Story::established();
    // For as long as the peer may take nothing; what it said meanwhile is read first.
    story.now += Duration::from_mins(8);
    let conn = story.conn();
    story.hears(conn, Message::Keepalive);
    story.session.handle_timeout(story.now);
    assert_eq!(story.said(), "KEEPALIVE");
    // It does not take that either.
    let (conn, begun) = (story.conn(), story.now);
    loop {
        story.hears(conn, Message::Keepalive);
        let said = story.timeout(Duration::from_mins(1));
        if said != "KEEPALIVE" {
            assert_eq!(said, "8/0, close dialled, down");
            break;
        }
    }
    assert_eq!(story.now - begun, Duration::from_secs(30), "a KEEPALIVE's time later");
}

#[test]
fn hold_time_zero_has_no_timers_at_all() {
    let mut story = Story::with(|speaker, peer| {
        speaker.allow_hold_time_zero = true;
        peer.hold_time = Duration::ZERO;
    });
    for event in [Happens::Start, Happens::Connected, Happens::Open, Happens::Keepalive] {
        story.does(event);
    }
    assert_eq!(story.session.state(), StateName::Established);
    assert_eq!(story.session.next_deadline(), None);
}

#[test]
fn words_about_an_old_connection_are_not_taken_for_the_new_one() {
    let mut story = Story::open_sent();
    let old = story.conn();
    story.does(Happens::Lost);
    story.does(Happens::Silence);
    story.does(Happens::Connected);
    assert_ne!(story.conn(), old);
    story.session.handle(story.now, Event::Lost(old, "late".into()));
    story.session.handle(story.now, Event::Received(old, Ok(Message::Keepalive)));
    assert_eq!(story.said(), "");
    assert_eq!(story.session.state(), StateName::OpenSent);
}
