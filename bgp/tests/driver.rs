//! Two speakers over real sockets on loopback addresses.

#![cfg(feature = "driver")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::driver::hand_over::Inheritance;
use bgp::driver::{Config, Handle, spawn, spawn_heir};
use bgp::rib::{Origination, RouteSet};
use bgp::speaker::{Event, PeerAddress, PeerConfig, RemoteAs, Secret, Shutdown, SpeakerConfig};
use bgp::types::Prefix;
use bgp::wire::{self, Capability, Context, LargeCommunity, Message, Open};
use tokio::io::AsyncReadExt as _;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, host)
}

/// A port nobody listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn config(host: u8, peer: u8, port: u16) -> Config {
    let peer = PeerConfig {
        local_address: Some(address(host).into()),
        port,
        connect_retry: Duration::from_secs(1),
        // Nobody takes 127.0.0.1 for a next hop: the routes name others.
        next_hop_self: false,
        ..PeerConfig::new(PeerAddress::Numbered(address(peer).into()), RemoteAs::External)
    };
    Config {
        peers: vec![peer],
        listen: vec![IpAddr::V4(address(host))],
        port,
        ..Config::new(SpeakerConfig::new(65000 + u32::from(host), address(host)))
    }
}

fn routes(prefixes: &[&str]) -> Arc<RouteSet> {
    let via = |next_hop: &str| Arc::new(Origination { next_hop: next_hop.parse().ok(), ..Origination::default() });
    let (ipv4, ipv6) = (via("192.0.2.254"), via("2001:db8::fe"));
    let route = |prefix: &&str| (prefix.parse().unwrap(), Arc::clone(if prefix.contains(':') { &ipv6 } else { &ipv4 }));
    Arc::new(prefixes.iter().map(route).collect())
}

async fn wait_for(events: &mut Receiver<Event>, what: impl Fn(&Event) -> bool) -> Event {
    timeout(PATIENCE, async {
        loop {
            let event = events.recv().await.unwrap();
            if what(&event) {
                return event;
            }
        }
    })
    .await
    .expect("the event did not come")
}

async fn wait_learned(handle: &Handle, prefixes: &[&str]) {
    let mut learned = handle.watch_learned();
    let wanted: Vec<Prefix> = prefixes.iter().map(|p| p.parse().unwrap()).collect();
    let reached = learned.wait_for(|routes| routes.iter().map(|(prefix, _)| *prefix).eq(wanted.iter().copied()));
    timeout(PATIENCE, reached).await.expect("the routes did not come").unwrap();
}

#[tokio::test]
async fn two_speakers_exchange_routes_and_say_goodbye() {
    let port = free_port();
    let (a, a_thread) = spawn(config(1, 2, port)).unwrap();
    let (b, b_thread) = spawn(config(2, 1, port)).unwrap();
    let (mut a_events, mut b_events) = (a.events(), b.events());
    a.set_routes(routes(&["192.0.2.1/32", "2001:db8::1/128"]));
    b.set_routes(routes(&["0.0.0.0/0"]));
    wait_learned(&a, &["0.0.0.0/0"]).await;
    wait_learned(&b, &["192.0.2.1/32", "2001:db8::1/128"]).await;
    let neighbor = a.neighbors().await.unwrap().remove(0);
    assert_eq!((neighbor.state, neighbor.remote_as, neighbor.kind), ("Established", Some(65002), Some("ebgp")));

    a.set_routes(routes(&["192.0.2.2/32"]));
    wait_learned(&b, &["192.0.2.2/32"]).await;
    let route = a.routes().await.unwrap().remove(0);
    assert!(route.neighbors[0].advertised, "{route:?}");

    a.shutdown(Shutdown::Stop("maintenance".into())).await.unwrap();
    let down = wait_for(&mut b_events, |e| matches!(e, Event::Down { .. })).await;
    assert!(down.to_string().contains("maintenance"), "{down}");
    wait_learned(&b, &[]).await;
    wait_for(&mut a_events, |e| matches!(e, Event::Down { .. })).await;
    timeout(PATIENCE, a.ended()).await.expect("nobody says that the speaker has ended");
    a_thread.join().unwrap();
    assert!(timeout(Duration::from_millis(50), b.ended()).await.is_err(), "the other one goes on");
    b.shutdown(Shutdown::Stop(String::new())).await.unwrap();
    b_thread.join().unwrap();
    assert!(b.neighbors().await.is_err());
}

#[tokio::test]
async fn a_password_must_be_the_same_on_both_sides() {
    let port = free_port();
    let with = |config: Config, password: &str| Config {
        peers: config
            .peers
            .into_iter()
            .map(|peer| PeerConfig { password: Some(Secret::new(password)), ..peer })
            .collect(),
        ..config
    };
    let (a, _a_thread) = spawn(with(config(3, 4, port), "right")).unwrap();
    let (b, _b_thread) = spawn(with(config(4, 3, port), "wrong")).unwrap();
    let mut events = b.events();
    assert!(
        timeout(Duration::from_secs(2), wait_for(&mut events, |e| matches!(e, Event::Up { .. }))).await.is_err(),
        "the session came up with two different passwords"
    );
    b.reconfigure(with(config(4, 3, port), "right")).unwrap();
    wait_for(&mut events, |e| matches!(e, Event::Up { .. })).await;
    a.shutdown(Shutdown::Stop(String::new())).await.unwrap();
    b.shutdown(Shutdown::Stop(String::new())).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_shown_and_the_others_listen() {
    let taken = std::net::TcpListener::bind((address(5), 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = Config { listen: vec![address(5).into(), address(6).into()], ..config(5, 6, port) };
    let (a, _thread) = spawn(config).unwrap();
    let status = a.listeners().await.unwrap();
    assert!(status[0].error.as_ref().unwrap().contains("another process"), "{status:?}");
    assert_eq!(status[1].error, None);
    a.shutdown(Shutdown::Stop(String::new())).await.unwrap();
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let port = free_port();
    let (a, _thread) = spawn(config(7, 8, port)).unwrap();
    let mut events = a.events();
    a.listeners().await.unwrap();
    let stranger = tokio::net::TcpStream::connect((address(7), port)).await.unwrap();
    wait_for(&mut events, |e| matches!(e, Event::Refused { .. })).await;
    let mut buffer = [0; 16];
    stranger.readable().await.unwrap();
    assert!(matches!(stranger.try_read(&mut buffer), Ok(0) | Err(_)), "a stranger got an OPEN");
    a.shutdown(Shutdown::Stop(String::new())).await.unwrap();
}

#[tokio::test]
async fn routes_are_on_the_wire_within_a_millisecond() {
    let port = free_port();
    let (a, _a_thread) = spawn(config(9, 10, port)).unwrap();
    let (b, _b_thread) = spawn(config(10, 9, port)).unwrap();
    a.set_routes(routes(&["192.0.2.1/32"]));
    wait_learned(&b, &["192.0.2.1/32"]).await;
    let mut learned = b.watch_learned();
    let mut best = Duration::MAX;
    for round in 0..50_u8 {
        learned.borrow_and_update();
        let begun = Instant::now();
        a.set_routes(routes(&["192.0.2.1/32", &format!("198.51.100.{round}/32")]));
        timeout(PATIENCE, learned.changed()).await.unwrap().unwrap();
        best = best.min(begun.elapsed());
    }
    // Handing over, encoding, two sockets, decoding, deciding and being told of it. The best of several: the machine may be busy.
    assert!(best < Duration::from_millis(1), "{best:?}");
    a.shutdown(Shutdown::Stop(String::new())).await.unwrap();
    b.shutdown(Shutdown::Stop(String::new())).await.unwrap();
}

/// The part of a peer that opens a session and then never reads.
async fn open_session(stream: &tokio::net::TcpStream, asn: u32, id: Ipv4Addr) {
    let open = Open::new(asn, 90, id, vec![Capability::Multiprotocol { afi: 1, safi: 1 }]);
    say(stream, &[Message::Open(open), Message::Keepalive]).await;
}

async fn say(stream: &tokio::net::TcpStream, messages: &[Message]) {
    let mut said = bytes::BytesMut::new();
    for message in messages {
        wire::encode(message, &Context::default(), &mut said).unwrap();
    }
    while !said.is_empty() {
        stream.writable().await.unwrap();
        match stream.try_write(&said) {
            Ok(written) => drop(said.split_to(written)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

/// Twelve million octets: no two routes share an UPDATE. More than any send buffer takes.
fn many_octets() -> Arc<RouteSet> {
    let route = |n: u32| {
        let large_communities = (0..100).map(|local2| LargeCommunity { global: 65011, local1: n, local2 }).collect();
        let origination = Origination { large_communities, ..Origination::default() };
        (Prefix::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 32).unwrap(), Arc::new(origination))
    };
    Arc::new((0..10_000).map(route).collect())
}

/// A KEEPALIVE that is due while a table waits for a peer that does not read is behind no more than what the kernel has taken.
#[tokio::test]
async fn a_keepalive_does_not_wait_behind_a_table() {
    /// Twice what may be there: the receive buffer, what the kernel holds back, and a turn of the driver.
    const MUCH: usize = 2 * (64 + 128 + 64) * 1024;
    let keepalive = Duration::from_secs(1);
    let port = free_port();
    let config = config(13, 14, port);
    let peer = |peer| PeerConfig { passive: true, keepalive: Some(keepalive), ..peer };
    let peers = config.peers.into_iter().map(peer).collect();
    let (a, _thread) = spawn(Config { peers, ..config }).unwrap();
    a.listeners().await.unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 << 10).unwrap();
    socket.bind((address(14), 0).into()).unwrap();
    let mut stream = socket.connect((address(13), port).into()).await.unwrap();
    open_session(&stream, 65014, address(14)).await;
    a.set_routes(many_octets());
    let sent = async || a.neighbors().await.unwrap().remove(0).messages.updates_sent;
    timeout(PATIENCE, async { while sent().await == 0 {} }).await.expect("no UPDATE was sent");
    // Whoever answers for the second time has seen that a KEEPALIVE is due.
    tokio::time::sleep(2 * keepalive).await;
    let (_, _) = (sent().await, sent().await);
    let (mut inbox, mut heard, mut updates) = (bytes::BytesMut::new(), 0, 0);
    loop {
        while let Some(length) = wire::frame(&inbox, wire::MAX_LEN).unwrap() {
            match wire::decode(&inbox.split_to(length), &Context { as4: true, ..Context::default() }).unwrap() {
                Message::Update(_) => updates += 1,
                Message::Keepalive if updates > 0 => return,
                _ => {}
            }
            heard += length;
            assert!(heard < MUCH, "{updates} UPDATEs of {heard} octets and no KEEPALIVE");
        }
        assert_ne!(stream.read_buf(&mut inbox).await.unwrap(), 0);
    }
}

/// A daemon that is busy with other things does not read for a while, and its KEEPALIVEs, which come from another thread, say that
/// it lives.
#[tokio::test]
async fn a_peer_that_says_keepalive_may_be_too_busy_to_read_for_longer_than_a_hold_time() {
    let port = free_port();
    let config = config(17, 18, port);
    let busy = |peer| PeerConfig { passive: true, hold_time: Duration::from_secs(3), ..peer };
    let peers = config.peers.into_iter().map(busy).collect();
    let (a, _thread) = spawn(Config { peers, ..config }).unwrap();
    a.listeners().await.unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.bind((address(18), 0).into()).unwrap();
    let stream = socket.connect((address(17), port).into()).await.unwrap();
    open_session(&stream, 65018, address(18)).await;
    a.set_routes(many_octets());
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        say(&stream, &[Message::Keepalive]).await;
    }
    let neighbor = a.neighbors().await.unwrap().remove(0);
    assert_eq!((neighbor.state, neighbor.lost_count), ("Established", 0), "{:?}", neighbor.last_reason);
    a.shutdown(Shutdown::Stop(String::new())).await.unwrap();
}

/// RFC 9687: the hold timer is far away, and only the send-hold timer sees that the peer takes nothing.
#[tokio::test]
async fn a_peer_that_takes_nothing_runs_into_the_send_hold_timer() {
    let port = free_port();
    let config = config(11, 12, port);
    let peers = config.peers.into_iter().map(|peer| PeerConfig { passive: true, ..peer }).collect();
    let (a, _thread) = spawn(Config { peers, ..config }).unwrap();
    a.listeners().await.unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // As small as the kernel lets it be, so that it is soon full.
    socket.set_recv_buffer_size(1).unwrap();
    socket.bind((address(12), 0).into()).unwrap();
    let stream = socket.connect((address(11), port).into()).await.unwrap();
    let send_hold = async || {
        let neighbor = a.neighbors().await.unwrap().remove(0);
        let timer = neighbor.timers.running.iter().find(|(name, _)| *name == "send_hold");
        (neighbor.state, timer.map(|(_, left)| *left))
    };
    open_session(&stream, 65012, address(12)).await;
    a.set_routes(many_octets());
    let mut look = tokio::time::interval(Duration::from_millis(100));
    let watched = async {
        // Eight minutes at first, and again whenever something was taken; here nothing is, although there is something to say.
        loop {
            look.tick().await;
            let (state, left) = send_hold().await;
            if left.is_some_and(|left| left < 476.0) {
                return state;
            }
        }
    };
    let state = timeout(3 * PATIENCE, watched).await.expect("the timer was started again and again");
    assert_eq!(state, "Established");
    a.shutdown(Shutdown::Stop(String::new())).await.unwrap();
}

/// Two speakers that have told each other everything, with a password.
async fn two_in_step(first: u8) -> (Handle, Handle, Config) {
    let port = free_port();
    let with_password = |config: Config| Config {
        peers: config
            .peers
            .into_iter()
            .map(|peer| PeerConfig { password: Some(Secret::new("between us")), ..peer })
            .collect(),
        ..config
    };
    let config = |host, peer| with_password(config(host, peer, port));
    let (a, _) = spawn(config(first, first + 1)).unwrap();
    let (b, _) = spawn(config(first + 1, first)).unwrap();
    a.set_routes(routes(&["192.0.2.1/32", "2001:db8::1/128"]));
    b.set_routes(routes(&["0.0.0.0/0"]));
    wait_learned(&a, &["0.0.0.0/0"]).await;
    wait_learned(&b, &["192.0.2.1/32", "2001:db8::1/128"]).await;
    let told_all = async || {
        let all = [a.neighbors().await.unwrap().remove(0), b.neighbors().await.unwrap().remove(0)];
        all.iter().flat_map(|neighbor| &neighbor.families).all(|f| f.end_of_rib_sent && f.end_of_rib_received)
    };
    let ended = async { while !told_all().await {} };
    timeout(PATIENCE, ended).await.expect("End-of-RIB did not come");
    (a, b, config(first, first + 1))
}

#[tokio::test]
async fn a_session_goes_on_with_another_speaker_and_the_peer_never_knows() {
    let (a, b, config) = two_in_step(31).await;
    let before = b.neighbors().await.unwrap().remove(0);
    let leaving = a.hand_over().await.unwrap();
    leaving.stay_open().unwrap();
    let (text, at) = (serde_json::to_string(&leaving.state).unwrap(), leaving.at);
    // As after an exec: nobody owns the sockets, and the first speaker does nothing more.
    std::mem::forget(leaving);
    let inheritance = Inheritance { state: serde_json::from_str(&text).unwrap(), at };
    let (heir, _, inherited) = spawn_heir(config, inheritance).unwrap();
    assert_eq!(inherited.iter().map(|session| session.outcome.clone()).collect::<Vec<_>>(), [Ok(())]);
    wait_learned(&heir, &["0.0.0.0/0"]).await;
    heir.set_routes(routes(&["192.0.2.1/32", "2001:db8::1/128"]));
    let ours = heir.neighbors().await.unwrap().remove(0);
    assert_eq!((ours.state, ours.established_count, ours.taken_over_seconds.is_some()), ("Established", 1, true));
    heir.set_routes(routes(&["192.0.2.2/32", "2001:db8::1/128"]));
    wait_learned(&b, &["192.0.2.2/32", "2001:db8::1/128"]).await;
    b.set_routes(routes(&["0.0.0.0/0", "::/0"]));
    wait_learned(&heir, &["0.0.0.0/0", "::/0"]).await;
    let after = b.neighbors().await.unwrap().remove(0);
    assert_eq!((after.established_count, after.lost_count, after.remote_endpoint), (1, 0, before.remote_endpoint));
    assert_eq!(after.messages.updates_received - before.messages.updates_received, 2, "one withdrawn, one announced");
}

#[tokio::test]
async fn who_does_not_leave_after_all_goes_on_as_if_nothing_had_been() {
    let (a, b, _) = two_in_step(33).await;
    let leaving = a.hand_over().await.unwrap();
    leaving.stay_open().unwrap();
    a.set_routes(routes(&["192.0.2.2/32"]));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(b.watch_learned().borrow().len(), 2, "nothing is said meanwhile");
    drop(leaving);
    wait_learned(&b, &["192.0.2.2/32"]).await;
    let neighbor = b.neighbors().await.unwrap().remove(0);
    assert_eq!((neighbor.state, neighbor.established_count, neighbor.lost_count), ("Established", 1, 0));
}

#[tokio::test]
async fn a_session_in_the_middle_of_a_message_is_not_handed_over_and_holds_up_nobody_for_long() {
    let port = free_port();
    let config = config(35, 36, port);
    let peers = config.peers.into_iter().map(|peer| PeerConfig { passive: true, ..peer }).collect();
    let (a, _thread) = spawn(Config { peers, ..config }).unwrap();
    a.listeners().await.unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.bind((address(36), 0).into()).unwrap();
    let stream = socket.connect((address(35), port).into()).await.unwrap();
    open_session(&stream, 65036, address(36)).await;
    a.set_routes(many_octets());
    let begun = Instant::now();
    let leaving = timeout(PATIENCE, a.hand_over()).await.unwrap().unwrap();
    assert_eq!(leaving.state.sockets().count(), 0);
    assert!(begun.elapsed() >= Duration::from_millis(900), "it might have made it: {:?}", begun.elapsed());
    drop(leaving);
    assert_eq!(a.neighbors().await.unwrap()[0].state, "Established");
}

/// Sockets are taken only where they are what the state says.
#[tokio::test]
async fn a_socket_that_is_none_or_somebody_elses_is_not_taken() {
    let (a, _b, config) = two_in_step(37).await;
    let leaving = a.hand_over().await.unwrap();
    let (number, _) = leaving.state.sockets().next().unwrap();
    let text = serde_json::to_string(&leaving.state).unwrap();
    let pattern = format!("\"socket\":{number}");
    assert!(text.contains(&pattern));
    let outcome = |number: i32| {
        let text = text.replace(&pattern, &format!("\"socket\":{number}"));
        let inheritance = Inheritance { state: serde_json::from_str(&text).unwrap(), at: leaving.at };
        let (heir, _, mut inherited) = spawn_heir(Config { listen: vec![], ..config.clone() }, inheritance).unwrap();
        let _ = heir;
        inherited.remove(0).outcome.unwrap_err()
    };
    assert!(outcome(number).contains("not left open"), "it is ours still");
    assert!(outcome(-1).contains("not left open"));
    let no_socket = bgp::driver::hand_over::keep(b"no socket").unwrap().into_raw_fd();
    let why = outcome(no_socket);
    assert!(why.contains("non-socket"), "{why}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    nix::fcntl::fcntl(&other, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let why = outcome(other.into_raw_fd());
    assert!(why.contains("other ends"), "{why}");
}
