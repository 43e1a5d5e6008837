//! Stories of a speaker that goes on in another process.

use serde_json::Value;

use super::*;

const GAP: Duration = Duration::from_millis(200);

/// The session is up, graceful restart was agreed, both sides have told everything.
fn told() -> Play {
    let mut play = Play::new(peer_config());
    play.establish_with([graceful(), Capability::EnhancedRouteRefresh]);
    play.speaker.set_routes(routes(0..10));
    play.announce(100..105);
    play.settle();
    play.written.clear();
    play.events.clear();
    play
}

fn graceful() -> Capability {
    let families = vec![(1, 1, true), (2, 1, true)];
    Capability::GracefulRestart { restarted: false, notification: true, restart_time: 120, families }
}

impl Play {
    /// Another process takes over what this one left, after it was changed by somebody.
    fn hand_over(&mut self, change: impl FnOnce(&mut Value)) -> Vec<Adoption> {
        let then = self.now;
        let state = self.speaker.hand_over(then, |_| Ok(7));
        let mut state = serde_json::to_value(state).unwrap();
        change(&mut state);
        let state: HandOver = serde_json::from_value(state).unwrap();
        self.now += GAP;
        let (speaker, adoptions) = Speaker::adopt(self.now, then, state, 8);
        self.speaker = speaker;
        self.conn = adoptions.iter().find_map(|adoption| adoption.outcome.clone().ok()).map(|(conn, _)| conn);
        self.settle();
        adoptions
    }

    /// Why the only session did not go on.
    fn not_handed_over(&mut self) -> String {
        let adoptions = self.hand_over(|_| {});
        assert_eq!(adoptions.len(), 1);
        adoptions[0].outcome.clone().unwrap_err()
    }

    fn updates(&mut self) -> Vec<Update> {
        let written = std::mem::take(&mut self.written).into_iter();
        written
            .map(|message| if let Message::Update(update) = message { *update } else { panic!("{message:?}") })
            .collect()
    }
}

#[test]
fn the_peer_hears_nothing_and_everything_is_known_that_was() {
    let mut play = told();
    play.now += Duration::from_secs(20);
    let half = {
        let mut bytes = BytesMut::new();
        wire::encode(&Message::Keepalive, &session_context(), &mut bytes).unwrap();
        bytes.freeze()
    };
    play.say_bytes(&half[..10]);
    let seen = |play: &Play| {
        let mut neighbors = play.speaker.neighbors(play.now);
        let of = &mut neighbors[0];
        // The first is what is new; the others go on by the clock, which stands still here.
        (of.taken_over_seconds, of.timers.running) = (None, Vec::new());
        (neighbors, play.speaker.learned(), play.speaker.routes())
    };
    let timers = |play: &Play| play.speaker.neighbors(play.now)[0].timers.running.clone();
    let (at, running) = (play.now + GAP, timers(&play));
    let adoptions = play.hand_over(|_| {});
    assert_eq!(adoptions.iter().map(|a| a.outcome.is_ok()).collect::<Vec<_>>(), [true]);
    let (after, running_after) = (seen(&play), timers(&play));
    let mut before = told();
    before.now += Duration::from_secs(20);
    before.say_bytes(&half[..10]);
    before.now += GAP;
    assert_eq!(after, seen(&before));
    // Those that the peer counts on go on as if nothing had happened.
    for ((name, left), (_, left_after)) in
        running.iter().zip(&running_after).filter(|((name, _), _)| *name != "send_hold")
    {
        let went = left - left_after;
        assert!((went - GAP.as_secs_f64()).abs() < 1e-6, "{name}: {went} s of it went by");
    }
    assert_eq!(play.now, at);
    assert!(
        matches!(&play.events[..], [Event::Inherited { anew: Families::NONE, .. }, Event::LearnedChanged]),
        "{:?}",
        play.events
    );
    assert_eq!(play.written, []);
    // The other half of the message means something only after the first.
    let received = |play: &Play| play.speaker.neighbors(play.now)[0].messages.received;
    let heard = received(&play);
    play.say_bytes(&half[10..]);
    assert_eq!(received(&play), heard + 1);
    assert_eq!((play.state(), &play.written[..]), ("Established", &[][..]));
    // What is news is said, and nothing else.
    play.speaker.set_routes(routes(0..10));
    play.settle();
    assert_eq!(play.updates(), []);
    play.speaker.set_routes(routes(1..11));
    play.settle();
    let updates = play.updates();
    assert_eq!((updates.len(), updates[0].withdrawn.len(), updates[1].nlri.len()), (2, 1, 1));
}

#[test]
fn no_news_is_no_change_until_everything_is_known() {
    let mut play = told();
    play.hand_over(|_| {});
    let partial = |hosts: std::ops::Range<u32>| Arc::new(RouteSet::clone(&routes(hosts)).partial());
    for hosts in [0..0, 3..5, 20..22] {
        play.speaker.set_routes(partial(hosts));
        play.settle();
    }
    let announced: Vec<usize> = play.updates().iter().map(|update| update.nlri.len()).collect();
    assert_eq!(announced, [2], "what is new is announced, nothing is withdrawn, no End-of-RIB again");
    assert_eq!(play.speaker.routes().len(), 12);
    play.speaker.set_routes(routes(5..10));
    play.settle();
    let withdrawn: usize = play.updates().iter().map(|update| update.withdrawn.len()).sum();
    assert_eq!(withdrawn, 7, "now it is known");
    // And from now on a partial set is all there is.
    play.speaker.set_routes(partial(5..6));
    play.settle();
    assert_eq!(play.updates()[0].withdrawn.len(), 4);
}

#[test]
fn what_would_be_said_otherwise_now_is_said_anew() {
    let mut play = told();
    let other = |state: &mut Value| state["peers"][0]["up"]["Ok"]["told"][0] = "00".into();
    play.hand_over(other);
    let updates = play.updates();
    assert_eq!(updates.iter().map(|update| update.nlri.len()).collect::<Vec<_>>(), [10], "all of it, once");
    assert!(matches!(&play.events[0], Event::Inherited { anew, .. } if *anew == Families::NONE.with(Family::Ipv4)));
    // What this version would not say at all is taken back, whatever the other one has said.
    let list = Arc::new(PrefixList::parse("few", ["permit 192.0.2.0/29 le 32"]).unwrap());
    play.speaker.update_peer(play.now, PeerConfig { prefix_list_out: Some(list), ..peer_config() });
    play.settle();
    play.written.clear();
    play.hand_over(other);
    let said: Vec<_> = play.updates().iter().map(|update| (update.withdrawn.len(), update.nlri.len())).collect();
    assert_eq!(said, [(2, 0), (0, 8)]);
}

#[test]
fn a_session_in_the_middle_of_anything_is_not_handed_over() {
    let refresh = |subtype| Message::RouteRefresh(wire::RouteRefresh { afi: 1, subtype, safi: 1 });
    // The socket takes nothing: what the speaker has to say waits.
    let mut play = told();
    play.speaker.set_routes(routes(0..11));
    assert!(!play.speaker.is_quiet());
    assert!(play.not_handed_over().contains("not been told everything"));
    assert_eq!((play.state(), &play.written[..]), ("Connect", &[][..]), "it dials, and has said no word");
    let mut play = told();
    play.now += Duration::from_secs(31);
    play.speaker.handle_timeout(play.now);
    assert!(play.not_handed_over().contains("not been told everything"), "not even that we are alive");
    // The peer says its routes once more, or is about to after a restart.
    let mut play = told();
    play.announce([]);
    play.say(&refresh(1));
    assert!(!play.speaker.is_quiet());
    assert!(play.not_handed_over().contains("sending its routes once more"));
    let mut play = told();
    play.now += Duration::from_secs(10);
    play.establish_with([graceful()]);
    let back = play.speaker.hand_over(play.now, |_| Ok(7));
    assert_eq!(back.sockets().count(), 0, "it is back, and has not said everything");
}

#[test]
fn who_does_not_go_on_restarts_gracefully() {
    let mut play = told();
    let down = |play: &mut Play, change: fn(&mut Value)| -> String {
        let adoptions = play.hand_over(change);
        assert_eq!((play.state(), &play.written[..], play.closed), ("Connect", &[][..], false));
        assert_eq!((play.speaker.learned(), play.speaker.routes().len()), (vec![], 10));
        adoptions[0].outcome.clone().unwrap_err()
    };
    let why = down(&mut play, |state| state["peers"][0]["up"]["Ok"]["routes"][0] = "ffff".into());
    assert!(why.contains("its routes cannot be read"), "{why}");
    let mut play = told();
    let why = down(&mut play, |state| state["peers"][0]["config"]["remote_as"] = serde_json::json!({"Number": 65009}));
    assert!(why.contains("its OPEN would be refused now"), "{why}");
    // Its next OPEN says that we have restarted, so that the peer keeps what it has.
    play.conn = Some(play.speaker.accept(play.now, ends(), None).unwrap());
    play.settle();
    let Some(Message::Open(open)) = play.written.first() else { panic!("{:?}", play.written) };
    let restarted = |c: &Capability| matches!(c, Capability::GracefulRestart { restarted: true, .. });
    assert!(open.capabilities.iter().any(restarted), "{open:?}");
}

#[test]
fn what_was_refused_is_known_and_asked_for_when_it_may_pass() {
    let list = |rule| Some(Arc::new(PrefixList::parse("in", [rule]).unwrap()));
    let narrow = PeerConfig { prefix_list_in: list("permit 192.0.2.0/25 le 32"), ..peer_config() };
    let mut play = Play::up(narrow);
    play.speaker.set_routes(routes([]));
    play.announce([1, 200]);
    let before = play.speaker.refused();
    assert_eq!(before.len(), 1);
    play.hand_over(|_| {});
    assert_eq!(play.speaker.refused(), before);
    play.written.clear();
    play.speaker
        .update_peer(play.now, PeerConfig { prefix_list_in: list("permit 192.0.2.0/24 le 32"), ..peer_config() });
    play.settle();
    assert_eq!(play.written, [Message::RouteRefresh(wire::RouteRefresh { afi: 1, subtype: 0, safi: 1 })]);
}

#[test]
fn another_version_may_refuse_what_was_in_use() {
    let list = |rule| Some(Arc::new(PrefixList::parse("in", [rule]).unwrap()));
    let wide = PeerConfig { prefix_list_in: list("permit 192.0.2.0/24 le 32"), ..peer_config() };
    let mut play = Play::up(wide.clone());
    play.speaker.set_routes(routes([]));
    play.announce([1, 200]);
    play.hand_over(|state| state["peers"][0]["config"]["prefix_list_in"]["rules"][0]["action"] = "Deny".into());
    assert_eq!((play.speaker.learned().len(), play.speaker.refused().len()), (0, 2));
    play.written.clear();
    play.speaker.update_peer(play.now, wide);
    play.settle();
    assert_eq!(play.written, [Message::RouteRefresh(wire::RouteRefresh { afi: 1, subtype: 0, safi: 1 })]);
    // What would have ended the session here does not go on.
    let mut play = told();
    let limit = serde_json::json!({"limit": 2, "warning": 75, "action": "Reconnect"});
    let adoptions = play.hand_over(|state| state["peers"][0]["config"]["max_prefixes"] = limit);
    assert!(adoptions[0].outcome.clone().unwrap_err().contains("more than it may"));
}

#[test]
fn no_clock_is_set_beyond_what_it_can_show() {
    let long = serde_json::json!({"secs": u64::MAX, "nanos": 0});
    let config = ["connect_retry", "hold_time", "keepalive", "send_hold_time"];
    let session = ["up_for", "hold_left", "keepalive_left"];
    for key in config.iter().chain(&session) {
        let mut play = told();
        play.hand_over(|state| {
            let peer = &mut state["peers"][0];
            let place = if config.contains(key) { &mut peer["config"] } else { &mut peer["up"]["Ok"]["session"] };
            place[*key] = long.clone();
        });
        assert_eq!(play.state(), "Established", "{key}");
        let conn = play.conn.unwrap();
        play.speaker.handle(play.now, Input::Lost { conn, why: "closed".into() });
        play.settle();
    }
}

#[test]
fn a_dynamic_neighbour_goes_on_and_is_forgotten_like_any() {
    let range = ListenRange { prefix: "10.0.0.0/24".parse().unwrap(), limit: 3, template: peer_config() };
    let config =
        |ranges| SpeakerConfig { listen_ranges: ranges, ..SpeakerConfig::new(OUR_AS, Ipv4Addr::new(10, 0, 0, 1)) };
    for ranges in [vec![range.clone()], vec![]] {
        let mut play = Play::new(PeerConfig { address: PeerAddress::Numbered([10, 0, 1, 9].into()), ..peer_config() });
        play.speaker.reconfigure(play.now, config(vec![range.clone()]), vec![]);
        play.settle();
        play.conn = Some(play.speaker.accept(play.now, ends(), None).unwrap());
        play.settle();
        let capabilities = vec![Capability::Multiprotocol { afi: 1, safi: 1 }];
        play.say(&Message::Open(Open::new(PEER_AS, 90, Ipv4Addr::new(10, 0, 0, 2), capabilities)));
        play.say(&Message::Keepalive);
        play.written.clear();
        play.hand_over(|_| {});
        play.speaker.reconfigure(play.now, config(ranges.clone()), vec![]);
        play.settle();
        let neighbors = play.speaker.neighbors(play.now);
        if ranges.is_empty() {
            assert_eq!(
                (neighbors.len(), play.farewell().map(|n| (n.code, n.subcode))),
                (0, Some((6, 3))),
                "as by a reload"
            );
            continue;
        }
        assert_eq!((neighbors[0].state, neighbors[0].listen_range), ("Established", Some(range.prefix)));
        assert_eq!(play.written, []);
        let conn = play.conn.unwrap();
        play.speaker.handle(play.now, Input::Lost { conn, why: "closed".into() });
        while let Some(at) = play.speaker.next_deadline() {
            play.now = at;
            play.speaker.handle_timeout(play.now);
            play.settle();
        }
        assert_eq!(play.speaker.peers().count(), 0);
    }
}

/// Every kind of option once, a session that is up, one that is not, and a range.
fn everything() -> HandOver {
    use crate::policy::{ExportRule, Role, Set};
    let list = Arc::new(PrefixList::parse("l", ["seq 7 permit 10.0.0.0/8 ge 9 le 32", "deny any"]).unwrap());
    let set = Set {
        med: Some(1),
        large_communities: vec![wire::LargeCommunity { global: 1, local1: 2, local2: 3 }],
        ..Set::default()
    };
    let config = PeerConfig {
        description: Some("\u{0}é\"".into()),
        local_as: Some(LocalAs { asn: 7, replace_as: true }),
        password: Some(Secret::new("between us")),
        tcp_ao: Some(TcpAo { send_id: 1, receive_id: 2, algorithm: AoAlgorithm::Aes128Cmac }),
        families: Families::NONE.with(Family::Ipv6),
        add_path: AddPath { receive: Families::ALL, send: Families::NONE },
        allowas_in: AllowAsIn::Count(3),
        keepalive: Some(Duration::from_millis(1500)),
        ttl_security: Some(1),
        next_hop_format: NextHopFormat::Native,
        prefix_list_out: Some(Arc::clone(&list)),
        export_rules: vec![ExportRule { prefixes: Some(list), set }],
        role: Some(Role::Customer),
        max_prefixes: Some(MaxPrefixes { action: LimitAction::Restart(Duration::from_secs(9)), ..MaxPrefixes::new(5) }),
        shutdown: Some("later".into()),
        ..PeerConfig::new(PeerAddress::LinkLocal("fe80::1".parse().unwrap(), "eth1".into()), RemoteAs::Auto)
    };
    let range = ListenRange { prefix: "10.9.0.0/16".parse().unwrap(), limit: 3, template: peer_config() };
    let list = PrefixList::parse("in", ["permit 192.0.2.0/25 le 32"]).unwrap();
    let narrow = PeerConfig { prefix_list_in: Some(Arc::new(list)), ..peer_config() };
    let mut play = Play::new(narrow.clone());
    play.establish_with([graceful()]);
    play.speaker.set_routes(routes(0..3));
    play.announce([1, 200]);
    play.settle();
    play.say_bytes(&[0xff; 9]);
    play.speaker.reconfigure(
        play.now,
        SpeakerConfig { listen_ranges: vec![range], ..play.speaker.config().clone() },
        vec![narrow, config],
    );
    play.settle();
    play.speaker.hand_over(play.now, |_| Ok(7))
}

#[test]
fn a_state_of_everything_there_is_can_be_read_again() {
    let state = everything();
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<HandOver>(&text).unwrap(), state);
}

#[cfg(feature = "driver")]
#[test]
fn the_state_of_a_format_stays_what_it_was() {
    let read = crate::format::stays("src/speaker/tests/hand_over", &everything());
    // And it means what it did.
    let now = Instant::now();
    let (speaker, adoptions) = Speaker::adopt(now, now, read, 8);
    assert_eq!(adoptions.iter().map(|a| a.outcome.is_ok()).collect::<Vec<_>>(), [true]);
    assert_eq!((speaker.learned().len(), speaker.refused().len(), speaker.routes().len()), (1, 1, 3));
}
