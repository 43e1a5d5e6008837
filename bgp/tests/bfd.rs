//! Two BFD drivers over a cable between network namespaces.

#![cfg(feature = "driver")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bgp::bfd::{AuthKind, Diagnostic, Discard, Keys, SessionConfig, State};
use bgp::driver::bfd::{Event, HandOver, Handle, Peers, SessionStatus, Watched, spawn, take_over};
use bgp::driver::{self, Config};
use bgp::speaker::{PeerAddress, PeerConfig, RemoteAs, SpeakerConfig};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// One end of the cable: its own namespace on its own thread, where commands of the test are carried out.
struct End {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    thread_id: i32,
}

impl End {
    fn new() -> Self {
        let (jobs, received) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in received {
                job();
            }
        });
        Self { jobs, thread_id: told.recv().unwrap() }
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.jobs.send(Box::new(move || tell.send(job()).unwrap())).unwrap();
        told.recv().unwrap()
    }

    fn ip(&self, arguments: &'static str) {
        self.run(|| ip(arguments));
    }
}

/// Both ends with addresses; `None`: namespaces need root.
fn cable() -> Option<(End, End)> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return None;
    }
    let (us, them) = (End::new(), End::new());
    connect(&us, &them);
    Some((us, them))
}

fn connect(us: &End, them: &End) {
    let there = them.thread_id;
    us.run(move || ip(&format!("link add eth1 type veth peer name eth1 netns {there}")));
    for (end, v4, v6) in [(us, "10.9.0.1/30", "fe80::1/64"), (them, "10.9.0.2/30", "fe80::2/64")] {
        end.run(move || {
            std::fs::write("/proc/sys/net/ipv6/conf/eth1/addr_gen_mode", "1").unwrap();
            ip("link set eth1 up");
            ip(&format!("addr add {v4} dev eth1"));
            ip(&format!("addr add {v6} dev eth1 nodad"));
        });
    }
}

const DOWN: u32 = 0x2040_ff18;
const ADMIN_DOWN: u32 = 0x2000_ff18;

/// A control packet, with 255 for Detect Mult: what it says holds for minutes. The first word has the state.
fn packet(first: u32, your_discriminator: u32) -> Vec<u8> {
    [first, 7, your_discriminator, 1_000_000, 1_000_000, 0].map(u32::to_be_bytes).concat()
}

/// Sends it to us from this address, with the TTL of a neighbour.
fn say(from: &str, to: &str, packet: &[u8]) {
    let socket = Socket::from(UdpSocket::bind(from).unwrap());
    if from.starts_with('[') {
        socket.set_unicast_hops_v6(255).unwrap();
    } else {
        socket.set_ttl_v4(255).unwrap();
    }
    UdpSocket::from(socket).send_to(packet, to).unwrap();
}

const FAST: SessionConfig = SessionConfig {
    transmit_interval: Duration::from_millis(100),
    receive_interval: Duration::from_millis(100),
    detect_multiplier: 5,
    passive: false,
};

/// Both families to the end with this number.
fn peers(host: u8, config: SessionConfig) -> Peers {
    let watched = Watched { config, ..Watched::default() };
    let link_local = format!("fe80::{host}").parse().unwrap();
    [PeerAddress::Numbered([10, 9, 0, host].into()), PeerAddress::LinkLocal(link_local, "eth1".into())]
        .map(|peer| (peer, watched.clone()))
        .into()
}

async fn wait_for(events: &mut Receiver<Event>, mut wanted: usize, what: impl Fn(&Event) -> bool) {
    timeout(PATIENCE, async {
        while wanted > 0 {
            wanted -= usize::from(what(&events.recv().await.unwrap()));
        }
    })
    .await
    .expect("the change did not come");
}

async fn wait_until(handle: &Handle, what: impl Fn(&SessionStatus) -> bool) -> Vec<SessionStatus> {
    let end = Instant::now() + PATIENCE;
    loop {
        let sessions = handle.snapshot().await.unwrap().sessions;
        if sessions.len() == 2 && sessions.iter().all(&what) {
            return sessions;
        }
        assert!(Instant::now() < end, "{sessions:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn start(end: &End) -> Handle {
    end.run(|| spawn(None).unwrap())
}

/// Both ends, whose sessions are up, and what happens from then on.
struct Watching {
    us: End,
    them: End,
    ours: Handle,
    theirs: Handle,
    /// At our end.
    events: Receiver<Event>,
    /// At theirs.
    their_events: Receiver<Event>,
}

/// Brings both ends up, with these settings, and tells the story from there.
fn watching(config: SessionConfig, story: impl AsyncFnOnce(Watching)) {
    let Some((us, them)) = cable() else { return };
    let (ours, theirs) = (start(&us), start(&them));
    block_on(async {
        let (mut events, mut their_events) = (ours.events(), theirs.events());
        ours.set_peers(peers(2, config));
        theirs.set_peers(peers(1, config));
        for events in [&mut events, &mut their_events] {
            wait_for(events, 2, |e| e.transition.to == State::Up).await;
        }
        story(Watching { us, them, ours, theirs, events, their_events }).await;
    });
}

fn block_on(story: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story);
}

#[test]
fn sessions_come_up_change_their_timers_and_notice_a_cut() {
    watching(FAST, async |Watching { them, ours, theirs, mut events, .. }| {
        let ms = |n| Some(Duration::from_millis(n));
        wait_until(&ours, |s| s.transmit_interval == ms(100) && s.detection_time == Duration::from_millis(500)).await;

        // Slower from our side: a poll sequence, and the other side's Detection Time follows.
        ours.set_peers(peers(2, SessionConfig { transmit_interval: Duration::from_millis(250), ..FAST }));
        wait_until(&ours, |s| s.transmit_interval == ms(250)).await;
        wait_until(&theirs, |s| s.detection_time == Duration::from_millis(1250)).await;
        let sessions =
            wait_until(&ours, |s| s.state == State::Up && s.detection_time == Duration::from_millis(500)).await;
        assert!(sessions.iter().all(|s| s.counters.down == 0 && s.counters.up == 1), "{sessions:#?}");
        assert!(events.try_recv().is_err(), "a change of timers is no change of state");

        // The cable is cut: nothing says so but silence.
        let cut = Instant::now();
        them.ip("link set eth1 down");
        wait_for(&mut events, 2, |e| e.transition.to == State::Down && !e.transition.remote_admin_down).await;
        assert!(cut.elapsed() > Duration::from_millis(390), "too early: {:?}", cut.elapsed());
        assert_eq!(ours.watch_down().borrow().len(), 2);
        for session in ours.snapshot().await.unwrap().sessions {
            let expired = (State::Down, Diagnostic::DETECTION_TIME_EXPIRED);
            assert_eq!(session.transitions.get(&expired), Some(&1), "{session:#?}");
        }
        them.ip("link set eth1 up");
        them.ip("addr add fe80::2/64 dev eth1 nodad");
        wait_for(&mut events, 2, |e| e.transition.to == State::Up).await;
        assert_eq!(ours.watch_down().borrow().len(), 0);
    });
}

#[test]
fn what_ends_on_purpose_is_not_taken_for_a_failure() {
    watching(FAST, async |Watching { ours, theirs, mut events, .. }| {
        theirs.set_peers(Peers::new());
        wait_for(&mut events, 2, |e| e.transition.from == State::Up && e.transition.remote_admin_down).await;
        // It comes back before the other side has forgotten the session.
        theirs.set_peers(peers(1, FAST));
        wait_for(&mut events, 2, |e| e.transition.to == State::Up).await;
        theirs.shutdown().await.unwrap();
        wait_for(&mut events, 2, |e| e.transition.from == State::Up && e.transition.remote_admin_down).await;
        assert_eq!(ours.watch_down().borrow().len(), 0);
        assert!(theirs.snapshot().await.is_err());
    });
}

#[test]
fn strangers_move_no_session_and_a_taken_port_is_named() {
    let Some((us, them)) = cable() else { return };
    let taken = us.run(|| UdpSocket::bind("0.0.0.0:3784").unwrap());
    let ours = start(&us);
    block_on(async {
        let mut events = ours.events();
        ours.set_peers(peers(2, FAST));
        let failures = ours.snapshot().await.unwrap().failures;
        let failure = failures.values().next().expect("the port is taken");
        assert!(failure.contains("3784") && failure.contains("another process"), "{failure}");
        drop(taken);

        let theirs = start(&them);
        theirs.set_peers(peers(1, FAST));
        wait_for(&mut events, 2, |e| e.transition.to == State::Up).await;
        assert!(ours.snapshot().await.unwrap().failures.is_empty());
        let discriminator = ours.snapshot().await.unwrap().sessions.first().unwrap().local_discriminator;
        them.run(move || {
            let socket = UdpSocket::bind("10.9.0.2:0").unwrap();
            // "Down", for a session there is, with a TTL of 64; "Down" for another; and no packet at all, which
            // reads as another version.
            for your in [discriminator, !discriminator] {
                let words: [u32; 6] = [0x2040_0318, 7, your, 1_000_000, 1_000_000, 0];
                socket.send_to(&words.map(u32::to_be_bytes).concat(), "10.9.0.1:3784").unwrap();
            }
            socket.send_to(b"nonsense", "10.9.0.1:3784").unwrap();
            // "Down", to whom it may concern, from an address nobody watches: no session of ours.
            ip("addr add fe80::3/64 dev eth1 nodad");
            let link = if_nametoindex("eth1").unwrap();
            say(&format!("[fe80::3%{link}]:0"), &format!("[fe80::1%{link}]:3784"), &packet(DOWN, 0));
            // An octet short; a Length of 24 that has more behind it; one that has not that much behind it.
            for (length, octets) in [(24, 23), (24, 1400), (25, 24)] {
                let mut packet = vec![0x20, 0xc0, 3, length, 0, 0, 0, 7, 0, 0, 0, 0];
                packet.resize(octets, 0);
                socket.send_to(&packet, "10.9.0.1:3784").unwrap();
            }
        });
        let end = Instant::now() + PATIENCE;
        loop {
            let discards = ours.snapshot().await.unwrap().discards;
            let expected = [
                (Discard::Ttl, 1),
                (Discard::UnknownDiscriminator, 1),
                (Discard::Version, 1),
                (Discard::Truncated, 1),
                (Discard::ZeroDiscriminator, 1),
                (Discard::LengthBeyondPayload, 1),
                (Discard::NoSession, 1),
            ];
            if expected.into_iter().collect::<BTreeMap<_, _>>() == discards {
                break;
            }
            assert!(Instant::now() < end, "{discards:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(events.try_recv().is_err());
    });
}

#[test]
fn peers_are_patient_with_a_pause_that_was_announced() {
    watching(FAST, async |Watching { ours, theirs, mut their_events, .. }| {
        let ms = Duration::from_millis;
        wait_until(&theirs, |s| s.detection_time == ms(500)).await;
        ours.expect_pause(ms(1500)).unwrap();
        wait_until(&theirs, |s| s.detection_time == ms(7500)).await;
        // What we notice of them stays as it was; and when the pause is over, so is what they notice of us.
        wait_until(&ours, |s| s.detection_time == ms(500) && s.transmit_interval == Some(ms(1500))).await;
        wait_until(&theirs, |s| s.detection_time == ms(500)).await;
        assert!(their_events.try_recv().is_err(), "a change of timers is no change of state");
    });
}

#[test]
fn keys_are_brought_in_and_a_stranger_to_them_stays_out() {
    let Some((us, them)) = cable() else { return };
    let (ours, theirs) = (start(&us), start(&them));
    let keys = |ids: &[u8]| {
        Keys::new(AuthKind::MeticulousKeyedSha1, ids.iter().map(|id| (*id, format!("secret {id}").into_bytes())))
    };
    let keyed = |host, ids: &[u8]| -> Peers {
        let watched = peers(host, FAST);
        watched.into_iter().map(|(peer, w)| (peer, Watched { keys: keys(ids), ..w })).collect()
    };
    block_on(async {
        let mut events = ours.events();
        ours.set_peers(keyed(2, &[1]));
        theirs.set_peers(peers(1, FAST));
        let all = wait_until(&ours, |s| s.discards.get(&Discard::AuthMissing) > Some(&0)).await;
        assert!(all.iter().all(|s| s.state == State::Down && s.authentication.is_some()), "{all:#?}");
        theirs.set_peers(keyed(1, &[1, 2]));
        wait_for(&mut events, 2, |e| e.transition.to == State::Up).await;
        ours.set_peers(keyed(2, &[2, 1]));
        theirs.set_peers(keyed(1, &[2]));
        ours.set_peers(keyed(2, &[2]));
        let sent: Vec<u64> = ours.snapshot().await.unwrap().sessions.iter().map(|s| s.counters.sent).collect();
        wait_until(&ours, |s| s.state == State::Up && s.counters.sent > sent.iter().max().unwrap() + 20).await;
        assert!(events.try_recv().is_err(), "a new key is no change of state");
        theirs.set_peers(keyed(1, &[3]));
        wait_until(&ours, |s| s.state != State::Up && s.discards.get(&Discard::AuthKey) > Some(&0)).await;
    });
}

#[test]
fn a_path_that_comes_and_goes_has_to_hold_before_it_is_relied_on() {
    let Some((us, them)) = cable() else { return };
    let (ours, theirs) = (start(&us), start(&them));
    block_on(async {
        let mut events = ours.events();
        let numbered = PeerAddress::Numbered([10, 9, 0, 2].into());
        let damped: Peers =
            peers(2, FAST).into_iter().map(|(peer, w)| (peer, Watched { damping: true, ..w })).collect();
        ours.set_peers(damped);
        theirs.set_peers(peers(1, FAST));
        for _ in 0..4 {
            wait_for(&mut events, 1, |e| e.peer == numbered && e.transition.to == State::Up).await;
            them.ip("link set eth1 down");
            wait_for(&mut events, 1, |e| e.peer == numbered && e.transition.from == State::Up).await;
            them.ip("link set eth1 up");
        }
        wait_for(&mut events, 1, |e| e.peer == numbered && e.transition.to == State::Up).await;
        let session = ours.snapshot().await.unwrap().sessions.remove(0);
        assert!(session.state == State::Up && session.held_for.is_some(), "{session:#?}");
        // Also for one who takes over.
        let handed = ours.hand_over(Duration::from_millis(500)).await.unwrap();
        let ours = us.run(move || take_over(None, across(&handed)).unwrap());
        let session = ours.snapshot().await.unwrap().sessions.remove(0);
        assert!(session.state == State::Up && session.held_for.is_some(), "{session:#?}");
        let mut down = ours.watch_down();
        assert!(down.borrow().iter().any(|key| key.peer == session.key.peer), "it was used at once");
        let used = down.wait_for(|down| down.iter().all(|key| key.peer != session.key.peer));
        timeout(PATIENCE, used).await.expect("it was never used again").unwrap();
        assert!(ours.snapshot().await.unwrap().sessions.remove(0).held_for.is_none());
    });
}

#[test]
fn a_zero_checksum_over_ipv6_is_no_fault() {
    // RFC 6936, and routers that leave it out. A raw socket sends and shows the UDP header as it is.
    let Some((us, them)) = cable() else { return };
    let raw = || {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::UDP)).unwrap();
        socket.bind_device(Some(b"eth1")).unwrap();
        socket.set_unicast_hops_v6(255).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let ours = start(&us);
    block_on(async {
        ours.set_peers(peers(2, FAST));
        assert!(ours.snapshot().await.unwrap().failures.is_empty());
        let mut capture = us.run(raw);
        let datagram = [&[0xc0, 0, 0x0e, 0xc8, 0, 32, 0, 0][..], &packet(DOWN, 0)].concat();
        let sent = datagram.clone();
        them.run(move || {
            let to =
                SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 0, 0, if_nametoindex("eth1").unwrap());
            raw().send_to(&sent, &to.into()).unwrap();
        });
        // Other datagrams than this one are left out: it came as it was sent, checksum and all.
        us.run(move || {
            let mut seen = [0; 64];
            while capture.read(&mut seen).unwrap() != datagram.len() || !seen.starts_with(&datagram) {}
        });
        wait_until(&ours, |s| s.key.interface.is_none() || s.state == State::Init).await;
    });
}

#[test]
fn an_interface_that_is_made_anew_is_found_under_its_new_number() {
    watching(FAST, async |Watching { us, them, ours, mut events, .. }| {
        let number = || if_nametoindex("eth1").unwrap();
        let before = us.run(number);
        us.ip("link del eth1");
        wait_for(&mut events, 2, |e| e.transition.from == State::Up).await;
        us.ip("link add busy type veth peer name busier");
        connect(&us, &them);
        assert_ne!(us.run(number), before);
        wait_for(&mut events, 2, |e| e.transition.to == State::Up).await;
        let sessions = wait_until(&ours, |s| s.state == State::Up && s.error.is_none()).await;
        assert!(sessions.iter().all(|s| s.counters.up == 2), "{sessions:#?}");
    });
}

#[test]
fn a_peer_that_wants_no_bfd_has_not_failed_any_longer() {
    watching(FAST, async |Watching { them, ours, theirs, mut events, .. }| {
        them.ip("link set eth1 down");
        wait_for(&mut events, 2, |e| e.transition.from == State::Up).await;
        assert_eq!(ours.watch_down().borrow().len(), 2);
        // It comes back without BFD, and says so.
        theirs.shutdown().await.unwrap();
        them.ip("link set eth1 up");
        them.run(|| say("10.9.0.2:0", "10.9.0.1:3784", &packet(ADMIN_DOWN, 0)));
        let mut down = ours.watch_down();
        timeout(PATIENCE, down.wait_for(|down| down.len() == 1)).await.expect("it is not believed").unwrap();
    });
}

/// A speaker at the end with this number, with one peer; if it is strict, no session without BFD.
fn speaker(host: u8, peer: u8, strict: bool) -> Config {
    let peer = PeerConfig {
        connect_retry: Duration::from_secs(1),
        wait_for_bfd: strict,
        ..PeerConfig::new(PeerAddress::Numbered([10, 9, 0, peer].into()), RemoteAs::External)
    };
    let own = SpeakerConfig::new(65000 + u32::from(host), Ipv4Addr::new(10, 9, 0, host));
    Config { peers: vec![peer], listen: vec![Ipv4Addr::new(10, 9, 0, host).into()], ..Config::new(own) }
}

#[test]
fn bgp_that_waits_for_bfd_does_not_wait_for_a_peer_that_disabled_it() {
    let Some((us, them)) = cable() else { return };
    let ours = us.run(move || driver::spawn(speaker(1, 2, true)).unwrap().0);
    let theirs = them.run(move || driver::spawn(speaker(2, 1, false)).unwrap().0);
    let told = ours.clone();
    let bfd = us.run(move || spawn(Some(told)).unwrap());
    let state = async || ours.neighbors().await.unwrap().remove(0).state;
    block_on(async {
        bfd.set_peers(peers(2, FAST));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_ne!(state().await, "Established", "nobody answers BFD there");
        them.run(|| say("10.9.0.2:0", "10.9.0.1:3784", &packet(ADMIN_DOWN, 0)));
        let end = Instant::now() + PATIENCE;
        while state().await != "Established" {
            assert!(Instant::now() < end, "BGP waits for BFD that was disabled (RFC 5882 §4.1)");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(theirs);
    });
}

#[test]
fn who_is_no_longer_watched_is_told_so_for_a_detection_time() {
    let Some((us, them)) = cable() else { return };
    let listener = them.run(|| UdpSocket::bind("10.9.0.2:3784").unwrap());
    listener.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let ours = start(&us);
    block_on(async {
        let mut events = ours.events();
        ours.set_peers(peers(2, FAST));
        assert_eq!(ours.snapshot().await.unwrap().sessions.len(), 2);
        them.run(|| say("10.9.0.2:0", "10.9.0.1:3784", &packet(DOWN, 0)));
        wait_for(&mut events, 1, |e| e.transition.to == State::Init).await;
        ours.set_peers(Peers::new());
        let (ended, mut told, mut octets) = (Instant::now(), Vec::new(), [0; 24]);
        // Until nothing has come for longer than an interval. The state is in the upper two bits of the second octet.
        while listener.recv(&mut octets).is_ok() {
            if octets[1] >> 6 == State::AdminDown as u8 {
                told.push(ended.elapsed());
            }
        }
        // Five intervals of a second; the last word may be up to an interval before the end.
        let (first, last) = (told.first().unwrap(), told.last().unwrap());
        assert!(*first < Duration::from_millis(500) && *last > Duration::from_secs(4), "{told:?}");
        assert!(*last < Duration::from_millis(5500) && told.len() >= 5, "{told:?}");
        assert!(ours.snapshot().await.unwrap().sessions.is_empty());
    });
}

/// Like [`FAST`], and the other end waits for no longer than 150 ms.
const FASTER: SessionConfig = SessionConfig {
    transmit_interval: Duration::from_millis(50),
    receive_interval: Duration::from_millis(50),
    detect_multiplier: 3,
    passive: false,
};

/// As [`HandOver`] crosses a change of processes.
fn across(handed: &HandOver) -> HandOver {
    serde_json::from_slice(&serde_json::to_vec(handed).unwrap()).unwrap()
}

/// The ports that packets are sent from.
fn source_ports() -> BTreeSet<u16> {
    let port = |line: &str| {
        let local = line.split_whitespace().nth(1)?;
        u16::from_str_radix(local.rsplit(':').next()?, 16).ok().filter(|port| *port >= 49152)
    };
    let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    ["udp", "udp6"].into_iter().flat_map(|file| read(file).lines().filter_map(port).collect::<Vec<_>>()).collect()
}

#[test]
fn sessions_that_are_handed_over_are_up_all_the_time_for_the_other_end() {
    watching(FASTER, async |Watching { us, ours, theirs, mut their_events, .. }| {
        let ms = Duration::from_millis;
        // One of the two with keys, whose sequence numbers go on.
        let keys = Keys::new(AuthKind::MeticulousKeyedSha1, [(1, b"secret".to_vec())]);
        let keyed = |host| -> Peers {
            let with = |(peer, w): (PeerAddress, Watched)| match peer {
                PeerAddress::Numbered(_) => (peer, w),
                _ => (peer, Watched { keys: keys.clone(), ..w }),
            };
            peers(host, FASTER).into_iter().map(with).collect()
        };
        theirs.set_peers(keyed(1));
        ours.set_peers(keyed(2));
        let settled = |s: &SessionStatus| s.detection_time == ms(150) && s.transmit_interval == Some(ms(50));
        wait_until(&ours, settled).await;
        wait_until(&theirs, settled).await;
        while their_events.try_recv().is_ok() {}
        let mut handle = ours;
        for _ in 0..3 {
            let before = wait_until(&theirs, |s| settled(s) && s.state == State::Up).await;
            let ports = us.run(source_ports);
            assert_eq!(ports.len(), 2);
            let began = Instant::now();
            let handed = handle.hand_over(ms(1000)).await.unwrap();
            assert!(began.elapsed() < ms(250), "the peers agree at once: {:?}", began.elapsed());
            assert!(handle.snapshot().await.is_err());
            // Nobody is there for longer than the Detection Time.
            tokio::time::sleep(ms(400)).await;
            let patient = theirs.snapshot().await.unwrap().sessions;
            assert!(patient.iter().all(|s| s.detection_time == ms(3000)), "{patient:#?}");
            handle = us.run(move || take_over(None, across(&handed)).unwrap());
            wait_until(&handle, settled).await;
            let after = wait_until(&theirs, settled).await;
            let names = |sessions: &[SessionStatus]| {
                sessions.iter().map(|s| (s.local_discriminator, s.remote_discriminator)).collect::<Vec<_>>()
            };
            assert_eq!(names(&before), names(&after));
            assert_eq!(us.run(source_ports), ports, "RFC 5881 §4: the same for all packets of a session");
        }
        let sessions = wait_until(&handle, |s| s.state == State::Up).await;
        assert!(
            sessions.iter().all(|s| s.counters.up == 1 && s.counters.down == 0 && s.since > ms(1200)),
            "{sessions:#?}"
        );
        assert!(their_events.try_recv().is_err(), "the other end has seen something");

        // Who is no longer watched afterwards is told so, and whom it was said of only then as well.
        let handed = handle.hand_over(ms(1000)).await.unwrap();
        let handle = us.run(move || take_over(None, across(&handed)).unwrap());
        handle.set_peers(Peers::new());
        wait_for(&mut their_events, 2, |e| e.transition.from == State::Up && e.transition.remote_admin_down).await;
        let handed = handle.hand_over(ms(1000)).await.unwrap();
        let handle = us.run(move || take_over(None, across(&handed)).unwrap());
        let sessions = handle.snapshot().await.unwrap().sessions;
        let leaving = |s: &SessionStatus| s.peer.is_none() && s.state == State::AdminDown;
        assert!(sessions.len() == 2 && sessions.iter().all(leaving), "{sessions:#?}");
        let end = Instant::now() + PATIENCE;
        while !handle.snapshot().await.unwrap().sessions.is_empty() {
            assert!(Instant::now() < end, "they are never forgotten");
            tokio::time::sleep(ms(20)).await;
        }
    });
}

#[test]
fn a_failure_is_noticed_by_the_one_who_takes_over() {
    watching(FAST, async |Watching { us, them, ours, mut their_events, .. }| {
        let ms = Duration::from_millis;
        them.ip("link set eth1 down");
        let began = Instant::now();
        let handed = ours.hand_over(ms(1500)).await.unwrap();
        assert!(began.elapsed() > ms(250), "who does not agree is waited for: {:?}", began.elapsed());
        assert!(began.elapsed() < ms(450), "but not for long: {:?}", began.elapsed());
        let heir = us.run(move || take_over(None, across(&handed)).unwrap());
        let mut down = heir.watch_down();
        timeout(ms(2000), down.wait_for(|down| down.len() == 2)).await.expect("it was not noticed").unwrap();
        wait_for(&mut their_events, 2, |e| e.transition.to == State::Down).await;
        let known: Vec<_> = heir.snapshot().await.unwrap().sessions.iter().map(|s| s.local_discriminator).collect();
        // That goes over, too; and an interface that is another one by now gets a session of its own.
        let handed = heir.hand_over(ms(500)).await.unwrap();
        us.ip("link del eth1");
        us.ip("link add busy type veth peer name busier");
        connect(&us, &them);
        let heir = us.run(move || take_over(None, across(&handed)).unwrap());
        let down = heir.watch_down();
        assert!(down.borrow().iter().any(|key| key.interface.is_none()), "it may be used for a moment");
        let sessions = heir.snapshot().await.unwrap().sessions;
        let keys: Vec<_> = down.borrow().iter().map(|key| key.interface.clone()).collect();
        assert_eq!(keys, [None], "what has failed, and is not on an interface that is gone");
        for session in sessions {
            assert_eq!(known.contains(&session.local_discriminator), session.key.interface.is_none());
        }
        wait_until(&heir, |s| s.state == State::Up).await;
        assert!(heir.watch_down().borrow().is_empty());
    });
}

#[test]
fn a_speaker_that_is_new_is_told_that_the_path_is_up() {
    watching(FAST, async |Watching { us, them, ours, mut their_events, .. }| {
        let handed = ours.hand_over(Duration::from_secs(1)).await.unwrap();
        let (bgp, bfd) = us.run(move || {
            let bgp = driver::spawn(speaker(1, 2, true)).unwrap().0;
            let bfd = take_over(Some(bgp.clone()), across(&handed)).unwrap();
            (bgp, bfd)
        });
        let _their_bgp = them.run(move || driver::spawn(speaker(2, 1, false)).unwrap().0);
        let end = Instant::now() + PATIENCE;
        while bgp.neighbors().await.unwrap().remove(0).state != "Established" {
            assert!(Instant::now() < end, "BGP waits for BFD that is up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(bfd.snapshot().await.unwrap().sessions.iter().all(|s| s.counters.up == 1));
        assert!(their_events.try_recv().is_err());
    });
}
