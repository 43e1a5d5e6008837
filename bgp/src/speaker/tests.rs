//! Stories of one speaker and peers that are played by hand, message by message.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::policy::{LimitAction, MaxPrefixes, PrefixList};
use crate::rib::{AdjOut, ExportContext, Origination};
use crate::types::{Families, Family, Prefix};
use crate::wire::{self, AsPath, Attributes, Capability, Context, Message, Nlri, Notification, Open, Origin, Update};

mod hand_over;
mod links;
mod ranges;

const OUR_AS: u32 = 65001;
const PEER_AS: u32 = 65002;

/// A speaker with one peer at 10.0.0.2 that we play.
struct Play {
    speaker: Speaker,
    now: Instant,
    conn: Option<ConnId>,
    events: Vec<Event>,
    dials: Vec<(ConnId, IpAddr)>,
    /// What the speaker wrote, message by message.
    written: Vec<Message>,
    closed: bool,
    /// What it wrote last is to leave from an address that is gone.
    from_lost_address: bool,
}

fn peer_config() -> PeerConfig {
    PeerConfig::new(PeerAddress::Numbered([10, 0, 0, 2].into()), RemoteAs::External)
}

fn ends() -> Ends {
    Ends::new("10.0.0.1:179".parse().unwrap(), "10.0.0.2:40000".parse().unwrap())
}

fn session_context() -> Context {
    Context { as4: true, ..Context::default() }
}

fn routes(hosts: impl IntoIterator<Item = u32>) -> Arc<RouteSet> {
    let origination = Arc::new(Origination::default());
    let prefix = |host: u32| Prefix::new(Ipv4Addr::from(0xc000_0200 + host).into(), 32).unwrap();
    Arc::new(hosts.into_iter().map(|host| (prefix(host), Arc::clone(&origination))).collect())
}

impl Play {
    fn new(config: PeerConfig) -> Self {
        let speaker = Speaker::new(SpeakerConfig::new(OUR_AS, Ipv4Addr::new(10, 0, 0, 1)), 7);
        let mut play = Self {
            speaker,
            now: Instant::now(),
            conn: None,
            events: Vec::new(),
            dials: Vec::new(),
            written: Vec::new(),
            closed: false,
            from_lost_address: false,
        };
        play.speaker.add_peer(play.now, config);
        play.settle();
        play
    }

    /// The session is up, IPv4 and IPv6, without graceful restart.
    fn up(config: PeerConfig) -> Self {
        let mut play = Self::new(config);
        play.establish();
        play
    }

    fn establish(&mut self) {
        self.establish_with([]);
    }

    /// The same with more capabilities of the peer.
    fn establish_with(&mut self, more: impl IntoIterator<Item = Capability>) {
        self.establish_between(ends(), more);
    }

    /// The same over this connection.
    fn establish_between(&mut self, ends: Ends, more: impl IntoIterator<Item = Capability>) {
        let conn = self.speaker.accept(self.now, ends, Some("eth1")).unwrap();
        self.conn = Some(conn);
        self.closed = false;
        self.settle();
        let families = Family::ALL.map(|family| {
            let (afi, safi) = family.afi_safi();
            Capability::Multiprotocol { afi, safi }
        });
        let capabilities = families.into_iter().chain([Capability::RouteRefresh]).chain(more).collect();
        self.say(&Message::Open(Open::new(PEER_AS, 90, Ipv4Addr::new(10, 0, 0, 2), capabilities)));
        self.say(&Message::Keepalive);
        assert_eq!(self.state(), "Established");
    }

    /// An UPDATE written as this session has it.
    fn tell(&mut self, update: Update, context: &Context) {
        let mut bytes = BytesMut::new();
        wire::encode(&Message::Update(Box::new(update)), context, &mut bytes).unwrap();
        self.say_bytes(&bytes);
    }

    fn state(&self) -> &'static str {
        self.speaker.neighbors(self.now)[0].state
    }

    fn say(&mut self, message: &Message) {
        let mut bytes = BytesMut::new();
        wire::encode(message, &session_context(), &mut bytes).unwrap();
        self.say_bytes(&bytes);
    }

    fn say_bytes(&mut self, bytes: &[u8]) {
        let conn = self.conn.unwrap();
        self.speaker.handle(self.now, Input::Received { conn, bytes: Bytes::copy_from_slice(bytes) });
        self.settle();
    }

    /// The UPDATEs by which a peer in another AS announces these routes.
    fn announce(&mut self, hosts: impl IntoIterator<Item = u32>) {
        let (local, remote) = ("10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let mut adj_out = AdjOut::new(ExportContext::new(PEER_AS, local, remote, session_context()));
        adj_out.set(routes(hosts));
        let mut bytes = BytesMut::new();
        while adj_out.pending() {
            adj_out.fill(&mut bytes, 4096);
        }
        self.say_bytes(&bytes);
    }

    fn settle(&mut self) {
        while let Some(output) = self.speaker.poll() {
            match output {
                Output::Dial { conn, address, .. } => self.dials.push((conn, address)),
                Output::Transmit(conn) => loop {
                    let mut bytes = BytesMut::new();
                    self.speaker.transmit(self.now, conn, &mut bytes, 4096);
                    if bytes.is_empty() {
                        break;
                    }
                    self.written.extend(messages(&bytes));
                },
                Output::Close { conn, last, address_gone } => {
                    if self.conn == Some(conn) {
                        self.closed = true;
                        self.from_lost_address = address_gone;
                        self.written.extend(messages(&last));
                    }
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    /// The NOTIFICATION the session ended with.
    fn farewell(&self) -> Option<&Notification> {
        match self.written.last() {
            Some(Message::Notification(n)) if self.closed => Some(n),
            _ => None,
        }
    }
}

fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(length) = wire::frame(bytes, wire::MAX_EXTENDED_LEN).unwrap() {
        messages.push(wire::decode(&bytes[..length], &session_context()).unwrap());
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty(), "half a message was written");
    messages
}

#[test]
fn nothing_is_announced_before_the_routes_are_known() {
    let mut play = Play::up(peer_config());
    assert!(!play.written.iter().any(|m| matches!(m, Message::Update(_))), "not even End-of-RIB");
    play.speaker.set_routes(routes([1]));
    play.settle();
    let updates: Vec<_> = play.written.iter().filter(|m| matches!(m, Message::Update(_))).collect();
    assert_eq!(updates.len(), 3, "one route and two End-of-RIB: {updates:?}");
}

#[test]
fn a_keepalive_overtakes_waiting_updates() {
    let mut play = Play::up(peer_config());
    play.speaker.set_routes(routes(0..100_000));
    let conn = play.conn.unwrap();
    let mut bytes = BytesMut::new();
    play.speaker.transmit(play.now, conn, &mut bytes, 4096);
    assert!(messages(&bytes).iter().all(|m| matches!(m, Message::Update(_))));
    // The socket takes nothing for a while; meanwhile a KEEPALIVE falls due, then another.
    play.now += Duration::from_secs(61);
    play.speaker.handle_timeout(play.now);
    bytes.clear();
    play.speaker.transmit(play.now, conn, &mut bytes, 4096);
    let next = messages(&bytes);
    assert_eq!(next[0], Message::Keepalive);
    assert!(next[1..].iter().all(|m| matches!(m, Message::Update(_))), "and only one");
}

#[test]
fn garbage_is_answered_logged_and_quoted() {
    let mut play = Play::up(peer_config());
    play.say_bytes(b"GET / HTTP/1.1\r\n\r\n\r\n");
    let farewell = play.farewell().unwrap();
    assert_eq!((farewell.code, farewell.subcode), (1, 1));
    let quoted = play.events.iter().find_map(|e| match e {
        Event::Malformed { bytes, .. } => Some(bytes.as_str()),
        _ => None,
    });
    assert_eq!(quoted, Some("474554202f20485454502f312e310d0a0d0a0d0a"));
    assert!(play.events.iter().any(|e| matches!(e, Event::Down { .. })));
}

#[test]
fn a_peer_that_announces_too_much_is_sent_away() {
    let mut play = Play::up(PeerConfig { max_prefixes: Some(MaxPrefixes::new(10)), ..peer_config() });
    play.announce(0..10);
    assert_eq!(play.speaker.learned().len(), 10);
    play.announce(10..11);
    let farewell = play.farewell().unwrap();
    assert_eq!((farewell.code, farewell.subcode, &farewell.data[..]), (6, 1, &[0, 1, 1, 0, 0, 0, 10][..]));
    assert_eq!(play.speaker.learned(), [], "its routes are gone");
}

#[test]
fn a_peer_that_was_sent_away_waits_for_its_time_or_for_another_limit() {
    let limit = |limit, action| PeerConfig {
        max_prefixes: Some(MaxPrefixes { action, ..MaxPrefixes::new(limit) }),
        ..peer_config()
    };
    let five_minutes = Duration::from_mins(5);
    let mut play = Play::up(limit(10, LimitAction::Restart(five_minutes)));
    play.announce(0..11);
    assert_eq!(play.farewell().map(|n| (n.code, n.subcode)), Some((6, 1)));
    let refused = |play: &mut Play| play.speaker.accept(play.now, ends(), None).is_err();
    assert_eq!(play.speaker.next_deadline(), Some(play.now + five_minutes));
    play.now += Duration::from_secs(299);
    play.speaker.handle_timeout(play.now);
    play.settle();
    assert!(refused(&mut play), "too early");
    play.now += Duration::from_secs(1);
    play.speaker.handle_timeout(play.now);
    play.settle();
    play.establish();
    play.announce(0..11);
    assert!(play.closed && refused(&mut play));
    // What the operator says now counts at once.
    play.speaker.update_peer(play.now, limit(20, LimitAction::Restart(five_minutes)));
    play.settle();
    play.establish();
    play.announce(0..11);
    assert_eq!(play.speaker.learned().len(), 11);
    // A limit it is beyond already sends it away, for the time that goes with it.
    play.speaker.update_peer(play.now, limit(10, LimitAction::Restart(five_minutes)));
    play.settle();
    assert!(play.closed && refused(&mut play), "the limit that sent it away lets it in again");
    assert_eq!(play.speaker.next_deadline(), Some(play.now + five_minutes));
    play.speaker.update_peer(play.now, limit(20, LimitAction::Restart(five_minutes)));
    play.settle();
    play.establish();
    play.announce(0..11);
    // A peer that is shut down stays so, whatever its limit is.
    play.announce(11..30);
    let shut = PeerConfig { shutdown: Some(String::new()), ..limit(30, LimitAction::Reconnect) };
    play.speaker.update_peer(play.now, shut);
    play.settle();
    assert!(refused(&mut play));
}

#[test]
fn a_limit_that_is_near_is_said_once_and_one_that_only_warns_ends_nothing() {
    let max = MaxPrefixes { action: LimitAction::WarnOnly, warning: 50, ..MaxPrefixes::new(10) };
    let mut play = Play::up(PeerConfig { max_prefixes: Some(max), ..peer_config() });
    let warnings = |play: &mut Play| -> Vec<_> {
        let events = std::mem::take(&mut play.events).into_iter();
        events.filter_map(|e| if let Event::PrefixLimit { count, .. } = e { Some(count) } else { None }).collect()
    };
    for host in 0..4 {
        play.announce([host]);
    }
    assert_eq!(warnings(&mut play), [0; 0]);
    for host in 4..13 {
        play.announce([host]);
    }
    assert_eq!(warnings(&mut play), [5, 11], "half of it, and above it");
    assert_eq!(play.speaker.learned().len(), 13, "everything is used all the same");
    let withdraw = |hosts: std::ops::Range<u8>| {
        let nlri = |host| Nlri::from(Prefix::new([192, 0, 2, host].into(), 32).unwrap());
        Update { withdrawn: hosts.map(nlri).collect(), ..Update::default() }
    };
    play.tell(withdraw(4..13), &session_context());
    play.announce([4]);
    assert_eq!(warnings(&mut play), [0; 0], "it hovers around the line");
    play.tell(withdraw(1..5), &session_context());
    play.announce(0..5);
    assert_eq!(warnings(&mut play), [5], "it was far below meanwhile");
}

#[test]
fn an_interface_is_dialled_when_somebody_was_discovered_there() {
    let config = PeerConfig::new(PeerAddress::Interface("eth1".into()), RemoteAs::Internal);
    let mut play = Play::new(config);
    assert_eq!(play.dials, []);
    assert_eq!(play.state(), "Active");
    let found = "fe80::1".parse().unwrap();
    play.speaker.handle(play.now, Input::Discovered { interface: "eth1".into(), address: Some(found) });
    play.settle();
    assert_eq!(play.dials.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [IpAddr::V6(found)]);
    assert_eq!(play.speaker.neighbors(play.now)[0].neighbor, "fe80::1%eth1");
    // Only this neighbour, and only on this interface.
    let at = |remote: &str, interface| {
        play.speaker.peer_at("fe80::9".parse().unwrap(), remote.parse().unwrap(), Some(interface)).is_some()
    };
    assert!(at("fe80::1", "eth1"));
    assert!(!at("fe80::1", "eth2"));
    assert!(!at("fe80::2", "eth1"));
    assert!(!at("2001:db8::1", "eth1"));
}

#[test]
fn a_connection_by_another_interface_is_not_that_of_a_bound_peer() {
    let play = Play::new(PeerConfig { bind_interface: Some("eth1".into()), ..peer_config() });
    let at = |interface| play.speaker.peer_at([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), interface).is_some();
    assert_eq!((at(Some("eth1")), at(Some("eth2")), at(None)), (true, false, false));
}

#[test]
fn a_peer_added_after_the_start_has_not_restarted() {
    let restarted = |speaker: &Speaker| speaker.config().graceful_restart.unwrap().restarted;
    let mut config = SpeakerConfig::new(OUR_AS, Ipv4Addr::new(10, 0, 0, 1));
    config.graceful_restart = Some(GracefulRestart { restarted: true, ..GracefulRestart::default() });
    let mut play = Play::new(peer_config());
    play.speaker = Speaker::new(config.clone(), 7);
    play.speaker.add_peer(play.now, peer_config());
    assert!(restarted(&play.speaker));
    let flag = |play: &mut Play, host: u8| {
        play.written.clear();
        let ends = Ends::new("10.0.0.1:179".parse().unwrap(), format!("10.0.0.{host}:40000").parse().unwrap());
        play.conn = Some(play.speaker.accept(play.now, ends, None).unwrap());
        play.settle();
        let Some(Message::Open(open)) = play.written.first() else { panic!("{:?}", play.written) };
        open.capabilities.iter().find_map(|c| match c {
            Capability::GracefulRestart { restarted, .. } => Some(*restarted),
            _ => None,
        })
    };
    // What a reload hands over says nothing of a restart; one who was there at the start has not heard of it yet.
    let after = SpeakerConfig { graceful_restart: Some(GracefulRestart::default()), ..config };
    let new = PeerConfig::new(PeerAddress::Numbered([10, 0, 0, 3].into()), RemoteAs::External);
    play.speaker.reconfigure(play.now, after, vec![peer_config(), new]);
    play.settle();
    assert_eq!((flag(&mut play, 2), flag(&mut play, 3)), (Some(true), Some(false)));
}

#[test]
fn bfd_ends_a_session_at_once_and_strictly_lets_none_begin_before() {
    let config = PeerConfig { wait_for_bfd: true, ..peer_config() };
    let peer = config.address.clone();
    let mut play = Play::new(config);
    assert_eq!((play.dials.len(), play.state()), (0, "Active"));
    assert!(play.speaker.accept(play.now, ends(), None).unwrap_err().contains("waits for BFD"));
    play.speaker.handle(play.now, Input::BfdUp { peer: peer.clone() });
    play.settle();
    assert_eq!(play.dials.len(), 1, "not at the next turn of the connect timer");
    play.establish();
    play.announce(0..3);
    assert_eq!(play.speaker.learned().len(), 3);

    play.speaker.handle(play.now, Input::BfdDown { peer, failure: BfdFailure::default() });
    play.settle();
    let farewell = play.farewell().unwrap();
    assert_eq!((farewell.code, farewell.subcode), (6, 10), "RFC 9384");
    assert_eq!(play.speaker.learned(), [], "its routes are gone");
    assert!(play.speaker.accept(play.now, ends(), None).is_err());
}

#[test]
fn a_strict_peer_that_disables_bfd_is_not_held_back_and_one_that_ends_that_is() {
    // RFC 5882 §4.1.
    let config = PeerConfig { wait_for_bfd: true, ..peer_config() };
    let peer = config.address.clone();
    let mut play = Play::new(config);
    play.speaker.handle(play.now, Input::BfdDisabled { peer: peer.clone() });
    play.settle();
    assert_eq!(play.dials.len(), 1);
    play.establish();
    play.speaker.handle(play.now, Input::BfdGone { peer });
    play.settle();
    assert_eq!(play.state(), "Established", "no reason to doubt the path");
    play.speaker.handle(play.now, Input::Lost { conn: play.conn.unwrap(), why: "reset".to_owned() });
    assert!(play.speaker.accept(play.now, ends(), None).unwrap_err().contains("waits for BFD"));
}

fn graceful_restart() -> Capability {
    let families = vec![(1, 1, true), (2, 1, true)];
    Capability::GracefulRestart { restarted: false, notification: true, restart_time: 120, families }
}

#[test]
fn a_graceful_failure_of_bfd_keeps_the_routes_of_a_peer_that_may_be_restarting() {
    let peer = peer_config().address;
    for (graceful, kept) in [(true, 3), (false, 0)] {
        let mut play = Play::new(peer_config());
        play.establish_with([graceful_restart()]);
        play.announce(0..3);
        let failure = BfdFailure { graceful, hold: false };
        play.speaker.handle(play.now, Input::BfdDown { peer: peer.clone(), failure });
        play.settle();
        assert_eq!(play.speaker.learned().len(), kept);
        assert_eq!(play.farewell().is_none(), graceful, "a NOTIFICATION would end the peer's patience with us");
        assert!(play.closed);
    }
    // BGP's own connection may be the first to go.
    for (graceful, kept) in [(true, 3), (false, 0)] {
        let mut play = Play::new(peer_config());
        play.establish_with([graceful_restart()]);
        play.announce(0..3);
        play.speaker.handle(play.now, Input::Lost { conn: play.conn.unwrap(), why: "reset".to_owned() });
        play.settle();
        assert_eq!(play.speaker.learned().len(), 3);
        let failure = BfdFailure { graceful, hold: false };
        play.speaker.handle(play.now, Input::BfdDown { peer: peer.clone(), failure });
        play.settle();
        assert_eq!(play.speaker.learned().len(), kept);
    }
}

#[test]
fn a_path_that_keeps_failing_is_not_used_until_bfd_says_so() {
    let peer = peer_config().address;
    let mut play = Play::up(peer_config());
    let failure = BfdFailure { graceful: false, hold: true };
    play.speaker.handle(play.now, Input::BfdDown { peer: peer.clone(), failure });
    play.settle();
    play.now += Duration::from_mins(5);
    play.speaker.handle_timeout(play.now);
    play.settle();
    assert!(play.speaker.accept(play.now, ends(), None).unwrap_err().contains("waits for BFD"));
    // Whether it works at last, or nobody watches it any more.
    for input in [Input::BfdUp { peer: peer.clone() }, Input::BfdGone { peer: peer.clone() }] {
        play.speaker.handle(play.now, input);
        play.speaker.accept(play.now, ends(), None).unwrap();
        play.speaker.handle(play.now, Input::BfdDown { peer: peer.clone(), failure });
        assert!(play.speaker.accept(play.now, ends(), None).is_err());
    }
}

/// Fifty times a second the peer dials and talks nonsense: it is heard a few times, and later once a minute.
#[test]
fn a_peer_that_comes_again_and_again_is_damped() {
    let mut play = Play::new(PeerConfig { passive: true, ..peer_config() });
    let begun = play.now;
    let mut heard = Vec::new();
    while play.now < begun + Duration::from_mins(10) {
        if let Ok(conn) = play.speaker.accept(play.now, ends(), None) {
            heard.push(play.now.duration_since(begun).as_secs());
            play.conn = Some(conn);
            play.settle();
            play.say_bytes(b"GET / HTTP/1.1\r\n\r\n\r\n");
        }
        play.now += Duration::from_millis(20);
        play.speaker.handle_timeout(play.now);
        play.settle();
    }
    assert!((12..=20).contains(&heard.len()), "of 30000 attempts {} were heard: {heard:?}", heard.len());
    assert!(heard.windows(2).rev().take(5).all(|w| w[1] - w[0] >= 44), "{heard:?}");
    assert!(play.speaker.refused_connections() > 29_000);
}

/// Who has chosen a connection sends routes on it, while for us it still waits for the one that would win.
#[test]
fn what_comes_on_a_connection_that_waits_is_read_as_agreed() {
    let mut play = Play::new(peer_config());
    let (dialled, _) = play.dials[0];
    play.speaker.handle(play.now, Input::Connected { conn: dialled, ends: ends() });
    play.speaker.accept(play.now, ends(), None).unwrap();
    play.conn = Some(dialled);
    let families = vec![Capability::Multiprotocol { afi: 1, safi: 1 }];
    play.say(&Message::Open(Open::new(PEER_AS, 90, Ipv4Addr::new(10, 0, 0, 2), families)));
    play.say(&Message::Keepalive);
    assert_eq!(play.state(), "OpenConfirm", "the peer has the higher identifier: its own connection would win");
    play.announce(0..3);
    assert_eq!(play.state(), "Established");
    let learned: Vec<_> = play.speaker.learned().iter().map(|route| route.as_path.clone()).collect();
    assert_eq!(learned, vec![PEER_AS.to_string(); 3], "AS numbers of four octets were agreed");
}

#[test]
fn a_peer_that_is_passive_no_longer_is_dialled_and_one_that_becomes_it_is_not() {
    let passive = || PeerConfig { passive: true, ..peer_config() };
    let mut play = Play::new(passive());
    assert!(play.dials.is_empty());
    play.speaker.update_peer(play.now, peer_config());
    play.settle();
    assert_eq!(play.dials.len(), 1, "nothing else would ever make us dial");
    play.speaker.update_peer(play.now, passive());
    let (conn, _) = play.dials.remove(0);
    play.speaker.handle(play.now, Input::Lost { conn, why: "nobody there".into() });
    play.now += Duration::from_mins(10);
    play.speaker.handle_timeout(play.now);
    play.settle();
    assert!(play.dials.is_empty());
    // The same while the attempt is only planned, or under way.
    for fails in [true, false] {
        let mut play = Play::new(peer_config());
        let (conn, _) = play.dials.remove(0);
        if fails {
            play.speaker.handle(play.now, Input::Lost { conn, why: "nobody there".into() });
        }
        play.speaker.update_peer(play.now, passive());
        play.now += Duration::from_mins(10);
        play.speaker.handle_timeout(play.now);
        play.settle();
        assert!(play.dials.is_empty(), "{fails}");
    }
    // Nor is a session that is up, or coming up, disturbed.
    let mut play = Play::up(passive());
    play.speaker.update_peer(play.now, peer_config());
    play.settle();
    assert_eq!((play.dials.len(), play.state()), (0, "Established"));
    let mut play = Play::new(passive());
    play.speaker.accept(play.now, ends(), None).unwrap();
    play.speaker.update_peer(play.now, peer_config());
    play.settle();
    assert_eq!((play.dials.len(), play.state()), (0, "OpenSent"));
}

#[test]
fn strangers_are_refused_with_a_word_to_the_log() {
    let mut play = Play::new(peer_config());
    let stranger = Ends::new("10.0.0.1:179".parse().unwrap(), "10.0.0.3:40000".parse().unwrap());
    assert!(play.speaker.accept(play.now, stranger, None).is_err());
    play.settle();
    assert_eq!(play.speaker.refused_connections(), 1);
    assert!(play.events.iter().any(|e| matches!(e, Event::Refused { from, .. } if from == "10.0.0.3:40000")));
}

#[test]
fn a_password_on_one_side_only_can_be_seen() {
    let mut play = Play::new(PeerConfig { password: Some(Secret::new("x")), ..peer_config() });
    let dropped = |play: &mut Play, total| play.speaker.handle(play.now, Input::SignaturesDropped(total));
    let seen = |play: &Play| {
        let neighbor = play.speaker.neighbors(play.now).remove(0);
        (neighbor.signature_failures, neighbor.last_reason.unwrap_or_default())
    };
    dropped(&mut play, 1000);
    assert_eq!(seen(&play), (0, String::new()), "what was before we looked is nobody's");
    dropped(&mut play, 1003);
    let (failures, reason) = seen(&play);
    assert_eq!(failures, 3);
    assert!(reason.starts_with("no connection; meanwhile the kernel dropped 3 TCP segments"), "{reason}");
    for _ in 0..2 {
        play.now = play.speaker.next_deadline().unwrap();
        play.speaker.handle_timeout(play.now);
    }
    assert!(seen(&play).1.starts_with("no answer to our attempt to connect; meanwhile"), "{:?}", seen(&play));
    play.establish();
    dropped(&mut play, 1010);
    assert_eq!(seen(&play).0, 3, "a session that is up has nothing to do with it");
    play.speaker.handle(play.now, Input::Lost { conn: play.conn.unwrap(), why: "gone".into() });
    play.settle();
    assert_eq!(seen(&play), (3, "gone".to_owned()));
}

type Edit = Box<dyn Fn(&mut PeerConfig)>;

/// A change, what it is expected to do, and whether the session really only felt that.
#[test]
fn a_change_disturbs_a_session_as_much_as_predicted() {
    let list = |rule: &str| Some(Arc::new(PrefixList::parse("list", [rule]).unwrap()));
    let rows: Vec<(Impact, &str, Edit)> = vec![
        (Impact::Nothing, "description", Box::new(|p| p.description = Some("leaf 1".into()))),
        (Impact::Nothing, "connect_retry", Box::new(|p| p.connect_retry = Duration::from_secs(1))),
        (Impact::Nothing, "bfd_strict", Box::new(|p| p.wait_for_bfd = true)),
        (Impact::Nothing, "passive", Box::new(|p| p.passive = true)),
        (Impact::Nothing, "port", Box::new(|p| p.port = 1179)),
        (Impact::Refresh, "graceful_shutdown", Box::new(|p| p.graceful_shutdown = true)),
        (Impact::Refresh, "prefix_list_out", Box::new(move |p| p.prefix_list_out = list("deny 0.0.0.0/0 le 32"))),
        (Impact::Refresh, "prefix_list_in", Box::new(move |p| p.prefix_list_in = list("deny 0.0.0.0/0 le 32"))),
        (Impact::Refresh, "allowas_in", Box::new(|p| p.allowas_in = AllowAsIn::Origin)),
        (Impact::Refresh, "max_prefixes", Box::new(|p| p.max_prefixes = Some(MaxPrefixes::new(100)))),
        (Impact::Reset, "password", Box::new(|p| p.password = Some(Secret::new("new")))),
        (Impact::Reset, "hold_time", Box::new(|p| p.hold_time = Duration::from_secs(30))),
        (Impact::Reset, "send_hold_time", Box::new(|p| p.send_hold_time = Some(Duration::from_mins(3)))),
        (Impact::Reset, "families", Box::new(|p| p.families = Families::NONE.with(Family::Ipv4))),
        (Impact::Reset, "remote_as", Box::new(|p| p.remote_as = RemoteAs::Number(PEER_AS))),
        (Impact::Reset, "shutdown", Box::new(|p| p.shutdown = Some("maintenance".into()))),
    ];
    for (impact, key, change) in rows {
        let mut play = Play::up(peer_config());
        play.speaker.set_routes(routes([1]));
        play.announce([7]);
        let before = play.written.len();
        let mut config = peer_config();
        change(&mut config);
        let predicted = play.speaker.update_peer(play.now, config.clone()).unwrap();
        play.settle();
        assert_eq!(predicted, Change { impact, keys: vec![key] });
        assert_eq!(play.closed, impact == Impact::Reset, "{key}");
        let wrote = play.written.len() > before;
        match key {
            // The peer is told other attributes, or to forget.
            "graceful_shutdown" | "prefix_list_out" => assert!(wrote, "{key} changed nothing"),
            "prefix_list_in" => assert_eq!(play.speaker.learned(), [], "{key} changed nothing"),
            _ if impact == Impact::Nothing => assert!(!wrote, "{key} was felt"),
            _ => {}
        }
        let again = play.speaker.update_peer(play.now, config).unwrap();
        assert_eq!((again.impact, again.keys.len()), (Impact::Nothing, 0), "{key}: the same once more");
    }
}

#[test]
fn a_wider_import_policy_asks_for_the_routes_again() {
    let list = |rule: &str| Some(Arc::new(PrefixList::parse("list", [rule]).unwrap()));
    let mut play = Play::up(PeerConfig { prefix_list_in: list("deny 0.0.0.0/0 le 32"), ..peer_config() });
    play.announce([1]);
    assert_eq!(play.speaker.learned(), []);
    play.speaker.update_peer(play.now, PeerConfig { prefix_list_in: None, ..peer_config() });
    play.settle();
    assert!(matches!(play.written.last(), Some(Message::RouteRefresh(r)) if r.afi == 1), "{:?}", play.written.last());
}

#[test]
fn a_narrower_import_policy_holds_for_the_routes_of_a_peer_that_is_away() {
    let list = Some(Arc::new(PrefixList::parse("narrow", ["permit 192.0.2.1/32"]).unwrap()));
    let narrow = PeerConfig { prefix_list_in: list, ..peer_config() };
    // By itself, and together with what would end a session.
    let reset = PeerConfig { password: Some(Secret::new("new")), ..narrow.clone() };
    // Away for less than its restart time, and for longer.
    for (config, away) in [(&narrow, 10), (&narrow, 300), (&reset, 10), (&reset, 300)] {
        let mut play = Play::new(peer_config());
        let long_lived = GracefulRestart { long_lived: Duration::from_hours(1), ..GracefulRestart::default() };
        let speaker = SpeakerConfig { graceful_restart: Some(long_lived), ..play.speaker.config().clone() };
        play.speaker.reconfigure(play.now, speaker.clone(), vec![peer_config()]);
        let long_lived = Capability::LongLivedGracefulRestart(vec![(1, 1, true, 3600)]);
        play.establish_with([graceful_restart(), long_lived]);
        play.announce(0..3);
        play.speaker.handle(play.now, Input::Lost { conn: play.conn.unwrap(), why: "gone".into() });
        play.now += Duration::from_secs(away);
        play.speaker.handle_timeout(play.now);
        play.settle();
        let learned = |play: &Play| -> Vec<String> {
            let (used, refused) = (play.speaker.learned(), play.speaker.refused());
            assert!(used.iter().chain(&refused).all(|l| l.stale), "nothing of it is confirmed");
            used.iter()
                .map(|l| l.prefix.to_string())
                .chain(refused.iter().map(|l| format!("not {}", l.prefix)))
                .collect()
        };
        assert_eq!(learned(&play), ["192.0.2.0/32", "192.0.2.1/32", "192.0.2.2/32"]);
        play.events.clear();
        play.speaker.reconfigure(play.now, speaker, vec![config.clone()]);
        play.settle();
        assert_eq!(learned(&play), ["192.0.2.1/32", "not 192.0.2.0/32", "not 192.0.2.2/32"]);
        assert!(play.events.contains(&Event::LearnedChanged), "whoever installs them is told");
        assert_eq!(play.speaker.selected().len(), 1);
    }
}

fn route_refresh(subtype: u8) -> Message {
    Message::RouteRefresh(wire::RouteRefresh { afi: 1, subtype, safi: 1 })
}

#[test]
fn a_refresh_ages_what_is_refused_too() {
    let list = Some(Arc::new(PrefixList::parse("narrow", ["permit 192.0.2.1/32"]).unwrap()));
    let mut play = Play::new(PeerConfig { prefix_list_in: list, ..peer_config() });
    play.establish_with([Capability::EnhancedRouteRefresh]);
    play.announce(1..4);
    let shown = |play: &Play| (play.speaker.learned().len(), play.speaker.refused().len());
    assert_eq!(shown(&play), (1, 2));
    play.say(&route_refresh(1));
    play.announce(2..3);
    play.say(&route_refresh(2));
    assert_eq!(shown(&play), (0, 1));
}

/// RFC 7313 §4: the marks of a refresh and End-of-RIB are for different routes to be purged.
#[test]
fn a_refresh_that_begins_before_end_of_rib_is_none() {
    let refresh = |more: Option<Capability>| {
        let mut play = Play::new(peer_config());
        play.establish_with([Capability::EnhancedRouteRefresh].into_iter().chain(more));
        // Without End-of-RIB.
        let nlri = |host| Nlri::from(Prefix::new([192, 0, 2, host].into(), 32).unwrap());
        let update = |hosts: std::ops::Range<u8>| Update {
            nlri: hosts.map(nlri).collect(),
            ..path(0, [10, 0, 0, 2], &[PEER_AS])
        };
        play.tell(update(1..4), &session_context());
        play.say(&route_refresh(1));
        play.tell(update(3..4), &session_context());
        play.say(&route_refresh(2));
        play
    };
    let mut play = refresh(Some(graceful_restart()));
    assert_eq!(play.speaker.learned().len(), 3, "End-of-RIB is still to come");
    play.say(&Message::Update(Box::default()));
    assert_eq!(play.speaker.learned().len(), 3, "and purges nothing: the peer has not restarted");
    play.say(&route_refresh(1));
    play.say(&route_refresh(2));
    assert_eq!(play.speaker.learned().len(), 0, "from now on it counts");
    assert_eq!(refresh(None).speaker.learned().len(), 1, "a peer that may never send End-of-RIB is taken at its word");
}

/// RFC 2918 §3: "Reserved … SHOULD be set to 0 by the sender and ignored by the receiver."
#[test]
fn without_enhanced_refresh_every_refresh_is_a_request() {
    for subtype in [0, 1, 2, 77] {
        let mut play = Play::up(peer_config());
        play.announce([1]);
        play.speaker.set_routes(routes([7]));
        play.settle();
        play.written.clear();
        play.say(&route_refresh(subtype));
        assert!(matches!(&play.written[..], [Message::Update(_)]), "{subtype}: {:?}", play.written);
        assert_eq!(play.speaker.learned().len(), 1);
    }
    let mut play = Play::new(peer_config());
    play.establish_with([Capability::EnhancedRouteRefresh]);
    play.speaker.set_routes(routes([7]));
    play.settle();
    play.written.clear();
    play.say(&route_refresh(77));
    assert_eq!(play.written, [], "an unknown subtype is ignored (RFC 7313 §5)");
}

#[test]
fn a_peer_that_is_shut_down_stays_down_and_comes_back() {
    let mut play = Play::up(peer_config());
    let down = PeerConfig { shutdown: Some("new cable".into()), ..peer_config() };
    play.speaker.update_peer(play.now, down);
    play.settle();
    assert_eq!(play.farewell().unwrap().shutdown_communication(), Some("new cable"));
    play.now += Duration::from_hours(1);
    play.speaker.handle_timeout(play.now);
    assert_eq!(play.state(), "Idle");
    assert!(play.speaker.accept(play.now, ends(), None).is_err());
    play.speaker.update_peer(play.now, peer_config());
    play.settle();
    play.establish();
}

#[test]
fn the_routes_of_a_peer_that_is_shut_down_while_it_restarts_do_not_wait_for_its_return() {
    let mut play = Play::new(peer_config());
    play.establish_with([graceful_restart()]);
    play.announce([1]);
    play.speaker.handle(play.now, Input::Lost { conn: play.conn.unwrap(), why: "gone".into() });
    play.settle();
    assert_eq!(play.speaker.learned().len(), 1, "kept");
    let down = PeerConfig { shutdown: Some("maintenance".into()), ..peer_config() };
    play.speaker.update_peer(play.now, down);
    play.settle();
    assert_eq!((play.speaker.learned(), play.speaker.next_deadline()), (vec![], None));
}

#[test]
fn a_removed_peer_is_told_and_forgotten() {
    let mut play = Play::up(peer_config());
    play.announce([1]);
    let config = play.speaker.config().clone();
    play.speaker.reconfigure(play.now, config, vec![]);
    play.settle();
    let farewell = play.farewell().unwrap();
    assert_eq!((farewell.code, farewell.subcode), (6, 3));
    assert_eq!((play.speaker.neighbors(play.now), play.speaker.learned()), (vec![], vec![]));
    assert_eq!(play.events.last(), Some(&Event::LearnedChanged));
}

#[test]
fn what_is_seen_from_outside_has_the_promised_names() {
    let mut play = Play::up(peer_config());
    play.speaker.set_routes(routes([1]));
    play.settle();
    play.announce([9]);
    let snapshot = serde_json::to_value(play.speaker.snapshot(play.now)).unwrap();
    let neighbor = &snapshot["neighbors"][0];
    assert_eq!(neighbor["neighbor"], "10.0.0.2");
    assert_eq!((&neighbor["state"], &neighbor["remote_as"]), (&"Established".into(), &PEER_AS.into()));
    assert_eq!(neighbor["families"][0]["advertised"], 1);
    assert_eq!(neighbor["families"][0]["accepted"], 1);
    assert_eq!(
        (&neighbor["families"][0]["end_of_rib_sent"], &neighbor["families"][0]["refused"]),
        (&true.into(), &0.into())
    );
    assert_eq!(neighbor["messages"]["updates_sent"], 3);
    let route = &snapshot["routes"][0];
    assert_eq!((&route["prefix"], &route["neighbors"][0]["advertised"]), (&"192.0.2.1/32".into(), &true.into()));
    assert_eq!(route["neighbors"][0]["acknowledged"], false);
    let learned = &snapshot["learned"][0];
    assert_eq!((&learned["as_path"], &learned["selected"]), (&"65002".into(), &true.into()));
    assert_eq!(learned["next_hops"][0], "10.0.0.2");
    play.speaker.handle(play.now, Input::Acknowledged { conn: play.conn.unwrap() });
    assert!(play.speaker.routes()[0].neighbors[0].acknowledged);
}

/// What a peer in another AS says of a path to 192.0.2.1/32.
fn path(path_id: u32, next_hop: [u8; 4], asns: &[u32]) -> Update {
    let attributes =
        Attributes { origin: Some(Origin::Igp), as_path: Some(AsPath::sequence(asns)), ..Attributes::default() };
    let nlri = vec![Nlri { prefix: "192.0.2.1/32".parse().unwrap(), path_id: Some(path_id) }];
    Update { attributes, nlri, next_hop: Some(next_hop.into()), ..Update::default() }
}

#[test]
fn two_paths_of_one_peer_are_used_together() {
    let ipv4 = Families::NONE.with(Family::Ipv4);
    let add_path = AddPath { receive: Families::ALL, send: ipv4 };
    let mut play = Play::new(PeerConfig { add_path, ..peer_config() });
    play.establish_with([Capability::AddPath(vec![(1, 1, 3)]), Capability::FourOctetAs(PEER_AS)]);
    let context = Context { add_path: ipv4, ..session_context() };
    play.tell(path(0, [10, 0, 0, 2], &[PEER_AS, 7]), &context);
    play.tell(path(u32::MAX, [10, 0, 0, 3], &[PEER_AS, 8]), &context);
    play.tell(path(5, [10, 0, 0, 4], &[PEER_AS, 8, 9]), &context);
    let seen = |play: &Play| -> Vec<_> {
        let learned = play.speaker.learned().into_iter();
        learned.map(|l| (l.path_id, l.next_hops[0].clone(), l.selected)).collect()
    };
    let expected = [(Some(0), "10.0.0.2", true), (Some(u32::MAX), "10.0.0.3", true), (Some(5), "10.0.0.4", false)];
    assert_eq!(seen(&play), expected.map(|(id, hop, used)| (id, hop.to_owned(), used)));
    // One path replaces itself, and goes alone.
    play.tell(path(0, [10, 0, 0, 9], &[PEER_AS, 7]), &context);
    let nlri = Nlri { prefix: "192.0.2.1/32".parse().unwrap(), path_id: Some(u32::MAX) };
    play.tell(Update { withdrawn: vec![nlri], ..Update::default() }, &context);
    let expected = [(Some(0), "10.0.0.9", true), (Some(5), "10.0.0.4", false)];
    assert_eq!(seen(&play), expected.map(|(id, hop, used)| (id, hop.to_owned(), used)));
    // Ours goes out with the identifier 1.
    play.speaker.set_routes(routes([1]));
    let conn = play.conn.unwrap();
    let mut bytes = BytesMut::new();
    play.speaker.transmit(play.now, conn, &mut bytes, 4096);
    assert!(bytes.windows(9).any(|window| window == [0, 0, 0, 1, 32, 192, 0, 2, 1]), "{bytes:x?}");
    // Without an identifier the prefix cannot be read: the session cannot go on (RFC 7911 §5, RFC 7606 §5.3).
    play.tell(
        Update {
            nlri: vec![Nlri::from(Prefix::new([192, 0, 2, 1].into(), 32).unwrap())],
            ..path(1, [10, 0, 0, 2], &[PEER_AS])
        },
        &session_context(),
    );
    assert_eq!(play.farewell().map(|n| (n.code, n.subcode)), Some((3, 10)));
}

#[test]
fn what_is_refused_is_shown_with_the_reason() {
    let list = Arc::new(PrefixList::parse("narrow", ["permit 192.0.2.1/32"]).unwrap());
    let mut play = Play::up(PeerConfig { prefix_list_in: Some(list), ..peer_config() });
    play.announce(1..3);
    let refused = play.speaker.refused();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].prefix.to_string().as_str(), refused[0].selected), ("192.0.2.2/32", false));
    assert_eq!(refused[0].reason, "refused: prefix list `narrow` denies it");
    play.speaker.remove_peer(play.now, &peer_config().address);
    assert_eq!(play.speaker.refused(), []);
}
