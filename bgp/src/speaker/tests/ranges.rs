//! Peers nobody has listed.

use super::*;

fn range(prefix: &str, limit: u32) -> ListenRange {
    let template = PeerConfig {
        hold_time: Duration::from_secs(30),
        ..PeerConfig::new(PeerAddress::Numbered([0, 0, 0, 0].into()), RemoteAs::External)
    };
    ListenRange { prefix: prefix.parse().unwrap(), limit, template }
}

fn speaker_config(ranges: Vec<ListenRange>) -> SpeakerConfig {
    let config = SpeakerConfig::new(OUR_AS, Ipv4Addr::new(10, 0, 0, 1));
    SpeakerConfig { listen_ranges: ranges, graceful_restart: None, ..config }
}

/// Nobody is configured but these ranges.
fn play(ranges: Vec<ListenRange>) -> Play {
    let mut play = Play::new(peer_config());
    play.speaker = Speaker::new(speaker_config(ranges), 7);
    play.dials.clear();
    play
}

fn from(host: u8) -> Ends {
    Ends::new("10.0.0.1:179".parse().unwrap(), format!("10.0.0.{host}:40000").parse().unwrap())
}

fn names(play: &Play) -> Vec<String> {
    play.speaker.neighbors(play.now).into_iter().map(|n| n.neighbor).collect()
}

/// Lets the speaker do all it has to do within this time.
fn wait(play: &mut Play, time: Duration) {
    let end = play.now + time;
    while let Some(at) = play.speaker.next_deadline().filter(|at| *at <= end) {
        play.now = at;
        play.speaker.handle_timeout(at);
        play.settle();
    }
    play.now = end;
}

#[test]
fn whoever_dials_from_a_range_is_a_peer_until_its_session_ends() {
    let mut play = play(vec![range("10.0.0.0/24", 8)]);
    assert_eq!(names(&play), Vec::<String>::new());
    play.establish_between(from(2), []);
    play.announce([1]);
    let neighbor = play.speaker.neighbors(play.now).remove(0);
    assert_eq!((neighbor.neighbor.as_str(), neighbor.remote_as), ("10.0.0.2", Some(PEER_AS)));
    assert_eq!(neighbor.listen_range, Some("10.0.0.0/24".parse().unwrap()));
    assert_eq!((neighbor.timers.hold_time_seconds, play.speaker.learned().len()), (30.0, 1), "the range's options");
    assert_eq!(play.dials, [], "it is never dialled");

    play.speaker.handle(play.now, Input::Lost { conn: play.conn.unwrap(), why: "gone".into() });
    play.settle();
    assert_eq!(play.speaker.learned(), [], "its routes are gone at once");
    assert_eq!(names(&play), ["10.0.0.2"], "it waits like any peer after a failure");
    wait(&mut play, Duration::from_secs(2));
    assert_eq!((names(&play), play.speaker.next_deadline()), (vec![], None));
    play.establish_between(from(2), []);
    assert_eq!(names(&play), ["10.0.0.2"], "and may come again");
}

#[test]
fn one_that_comes_again_and_again_has_to_wait() {
    let mut play = play(vec![range("10.0.0.0/24", 8)]);
    let mut accepted = 0;
    for _ in 0..500 {
        if let Ok(conn) = play.speaker.accept(play.now, from(2), None) {
            accepted += 1;
            play.conn = Some(conn);
            play.say_bytes(b"GET / HTTP/1.1\r\n\r\n\r\n");
        }
        wait(&mut play, Duration::from_millis(20));
    }
    assert!((5..=14).contains(&accepted), "{accepted} times in ten seconds, of fifty attempts a second");
}

#[test]
fn a_range_is_full_at_its_limit_and_says_so() {
    let mut play = play(vec![range("10.0.0.0/24", 2)]);
    assert!(play.speaker.accept(play.now, from(2), None).is_ok());
    assert!(play.speaker.accept(play.now, from(3), None).is_ok());
    let refused = play.speaker.accept(play.now, from(4), None).unwrap_err();
    assert_eq!(refused, "listen range 10.0.0.0/24 has 2 neighbors already, which is its limit");
    assert!(play.speaker.accept(play.now, from(3), None).is_ok(), "a second connection of one who is in");
    play.settle();
    let _ = play.speaker.accept(play.now, from(5), None);
    play.settle();
    assert_eq!(names(&play), ["10.0.0.2", "10.0.0.3"]);
    let full = |play: &Play| play.events.iter().filter(|e| matches!(e, Event::RangeFull { .. })).count();
    assert_eq!(full(&play), 1, "the log is told once");
    wait(&mut play, Duration::from_mins(10));
    assert_eq!(names(&play), Vec::<String>::new(), "none of them ever said a word");
    for host in 2..8 {
        let _ = play.speaker.accept(play.now, from(host), None);
    }
    play.settle();
    assert_eq!(full(&play), 2, "and again once there had been room");
}

#[test]
fn the_narrowest_range_counts_and_a_configured_peer_before_all_ranges() {
    let closed = ListenRange {
        template: PeerConfig { shutdown: Some(String::new()), ..range("10.0.0.0/28", 8).template },
        ..range("10.0.0.0/28", 8)
    };
    let mut play = play(vec![range("10.0.0.0/24", 8), closed]);
    play.speaker.add_peer(play.now, peer_config());
    assert!(play.speaker.accept(play.now, from(2), None).is_ok(), "it is configured");
    assert_eq!(play.speaker.neighbors(play.now)[0].listen_range, None);
    assert!(play.speaker.accept(play.now, from(3), None).unwrap_err().contains("10.0.0.0/28 is shut down"));
    assert!(play.speaker.accept(play.now, from(77), None).is_ok());
    let elsewhere = Ends::new("10.0.0.1:179".parse().unwrap(), "10.0.1.2:40000".parse().unwrap());
    assert!(play.speaker.accept(play.now, elsewhere, None).is_err());
}

#[test]
fn a_link_local_address_is_in_no_range() {
    let mut play = play(vec![range("::/0", 8)]);
    let link_local = Ends::new("[fe80::1]:179".parse().unwrap(), "[fe80::2]:40000".parse().unwrap());
    assert!(play.speaker.accept(play.now, link_local, Some("eth1")).is_err());
}

#[test]
fn peers_of_a_range_follow_its_configuration() {
    let up = || {
        let mut play = play(vec![range("10.0.0.0/24", 8)]);
        play.establish_between(from(2), []);
        play
    };
    let reconfigure = |play: &mut Play, ranges: Vec<ListenRange>, peers: Vec<PeerConfig>| {
        play.speaker.reconfigure(play.now, speaker_config(ranges), peers);
        play.settle();
        (names(play), play.farewell().map(|n| (n.code, n.subcode)))
    };
    let there = vec!["10.0.0.2".to_owned()];
    assert_eq!(reconfigure(&mut up(), vec![range("10.0.0.0/24", 1)], vec![]), (there.clone(), None), "a lower limit");
    assert_eq!(reconfigure(&mut up(), vec![range("10.0.0.0/16", 8)], vec![]), (there.clone(), None), "a wider range");
    assert_eq!(reconfigure(&mut up(), vec![], vec![]), (vec![], Some((6, 3))), "no range any more");
    let with = |change: fn(&mut PeerConfig)| {
        let mut range = range("10.0.0.0/24", 8);
        change(&mut range.template);
        vec![range]
    };
    let told = reconfigure(&mut up(), with(|peer| peer.description = Some("x".into())), vec![]);
    assert_eq!(told, (there, None));
    let told = reconfigure(&mut up(), with(|peer| peer.password = Some(Secret::new("x"))), vec![]);
    assert_eq!(told, (vec![], Some((6, 6))), "it has to dial again");
    let told = reconfigure(&mut up(), with(|peer| peer.shutdown = Some("bye".into())), vec![]);
    assert_eq!(told, (vec![], Some((6, 2))));
    // The same neighbour, now configured by itself: nothing is disturbed, and it stays when its session ends.
    let mut play = up();
    let own = PeerConfig { hold_time: Duration::from_secs(30), passive: true, ..peer_config() };
    assert_eq!(reconfigure(&mut play, vec![], vec![own]), (vec!["10.0.0.2".to_owned()], None));
    play.speaker.handle(play.now, Input::Lost { conn: play.conn.unwrap(), why: "gone".into() });
    wait(&mut play, Duration::from_mins(10));
    assert_eq!(names(&play), ["10.0.0.2"]);
}

#[test]
fn a_peer_of_a_range_that_restarts_keeps_its_routes_meanwhile() {
    let mut config = speaker_config(vec![range("10.0.0.0/24", 8)]);
    config.graceful_restart = Some(GracefulRestart::default());
    let mut play = play(vec![]);
    play.speaker.reconfigure(play.now, config, vec![]);
    let restart = Capability::GracefulRestart {
        restarted: false,
        notification: false,
        restart_time: 100,
        families: vec![(1, 1, true)],
    };
    play.establish_between(from(2), [restart]);
    play.announce([1]);
    play.speaker.handle(play.now, Input::Lost { conn: play.conn.unwrap(), why: "gone".into() });
    wait(&mut play, Duration::from_secs(50));
    assert_eq!((names(&play).len(), play.speaker.learned().len()), (1, 1));
    wait(&mut play, Duration::from_secs(60));
    assert_eq!((names(&play).len(), play.speaker.learned().len()), (0, 0), "it did not come back in time");
}
