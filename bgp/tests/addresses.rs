//! Addresses that change under a session, over a cable between network namespaces.

#![cfg(feature = "driver")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::net::IpAddr;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bgp::driver::{Config, Handle, spawn};
use bgp::rib::{Origination, RouteSet};
use bgp::speaker::{Event, ListenRange, PeerAddress, PeerConfig, RemoteAs, Secret, Shutdown, SpeakerConfig};
use bgp::types::Prefix;
use nix::sched::{CloneFlags, unshare};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

/// Far below the hold time of 90 s.
const PATIENCE: Duration = Duration::from_secs(10);

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn route(prefix: &str) -> (Prefix, Arc<Origination>) {
    (prefix.parse().unwrap(), Arc::new(Origination::default()))
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

    fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || ip(&arguments));
    }

    fn speaker(&self, config: Config) -> Handle {
        self.run(|| spawn(config).unwrap().0)
    }
}

/// The session of a story: our address, the one that takes its place, the peer's, the network, and how the session is signed.
struct Story {
    old: &'static str,
    new: &'static str,
    theirs: &'static str,
    network: &'static str,
    password: Option<&'static str>,
}

const IPV4: Story =
    Story { old: "10.9.0.1", new: "10.9.0.9", theirs: "10.9.0.2", network: "10.9.0.0/24", password: None };
const IPV6: Story = Story { old: "fd09::1", new: "fd09::9", theirs: "fd09::2", network: "fd09::/64", password: None };

impl Story {
    fn length(&self) -> &str {
        self.network.split_once('/').unwrap().1
    }

    /// How `ip` is told of an address of ours.
    fn address(&self, verb: &str, address: &str) -> String {
        let nodad = if address.contains(':') && verb == "add" { " nodad" } else { "" };
        format!("addr {verb} {address}/{} dev eth1{nodad}", self.length())
    }

    fn peer(&self, address: &str) -> PeerConfig {
        PeerConfig {
            password: self.password.map(Secret::new),
            connect_retry: Duration::from_secs(1),
            ..PeerConfig::new(PeerAddress::Numbered(address.parse().unwrap()), RemoteAs::External)
        }
    }

    /// Both ends, with a session over which the other one learns a prefix of each family; `None`: namespaces need root.
    async fn begin(&self) -> Option<Cable> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let (us, them) = (End::new(), End::new());
        us.ip(&format!("link add eth1 type veth peer name eth1 netns {}", them.thread_id));
        for (end, address) in [(&us, self.old), (&them, self.theirs)] {
            // Without link-local addresses, of which an end would choose its next hop.
            end.run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth1/addr_gen_mode", "1").unwrap());
            end.ip("link set eth1 up");
            end.ip(&self.address("add", address));
        }
        let range = ListenRange { prefix: self.network.parse().unwrap(), limit: 4, template: self.peer(self.old) };
        let there = SpeakerConfig { listen_ranges: vec![range], ..SpeakerConfig::new(65002, [10, 9, 0, 2].into()) };
        let there = them.speaker(Config::new(there));
        let here = SpeakerConfig::new(65001, [10, 9, 0, 1].into());
        let here = us.speaker(Config { peers: vec![self.peer(self.theirs)], ..Config::new(here) });
        here.set_routes(Arc::new(["192.0.2.1/32", "2001:db8::1/128"].map(route).into_iter().collect()));
        let (ours, theirs) = (here.events(), there.events());
        let mut cable = Cable { us, here, there, ours, theirs };
        cable.learns(self.old).await;
        // What is not acknowledged when the address goes never will be, and keeps the last words back: let TCP be done.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Some(cable)
    }
}

struct Cable {
    us: End,
    here: Handle,
    there: Handle,
    ours: Receiver<Event>,
    theirs: Receiver<Event>,
}

impl Cable {
    /// Waits until every route the other end has is by way of this address, and it has one of its family.
    async fn learns(&mut self, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        let mut learned = self.there.watch_learned();
        let reached = learned.wait_for(|routes| {
            let mut hops = routes.iter().filter(|(prefix, _)| prefix.addr().is_ipv4() == address.is_ipv4()).peekable();
            hops.peek().is_some() && hops.all(|(_, hops)| hops.iter().map(|hop| hop.address).eq([address]))
        });
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("no routes by way of {address}")).unwrap();
    }

    async fn end(self) {
        for speaker in [self.here, self.there] {
            speaker.shutdown(Shutdown::Stop(String::new())).await.unwrap();
        }
    }
}

async fn down(events: &mut Receiver<Event>) -> String {
    let next = async {
        loop {
            if let event @ Event::Down { .. } = events.recv().await.unwrap() {
                return event.to_string();
            }
        }
    };
    timeout(PATIENCE, next).await.expect("the session did not end")
}

fn is_down(events: &mut Receiver<Event>) -> bool {
    std::iter::from_fn(|| events.try_recv().ok()).any(|event| matches!(event, Event::Down { .. }))
}

async fn the_peer_is_told(story: Story) {
    let Some(mut cable) = story.begin().await else { return };
    let since = Instant::now();
    cable.us.ip(&story.address("del", story.old));
    cable.us.ip(&story.address("add", story.new));
    // What is to be said meanwhile must not stand in the way.
    tokio::time::sleep(Duration::from_millis(300)).await;
    cable.here.set_routes(Arc::new(["192.0.2.2/32", "2001:db8::2/128"].map(route).into_iter().collect()));
    let reason = down(&mut cable.theirs).await;
    assert!(reason.contains("received NOTIFICATION"), "{reason}");
    let ours = down(&mut cable.ours).await;
    assert!(ours.contains(&format!("our address {} is gone", story.old)), "{ours}");
    cable.learns(story.new).await;
    eprintln!("{} after {} ms", story.new, since.elapsed().as_millis());
    cable.end().await;
}

#[tokio::test]
async fn the_peer_is_told_that_an_ipv4_address_is_gone() {
    the_peer_is_told(IPV4).await;
}

#[tokio::test]
async fn the_peer_is_told_that_an_ipv6_address_is_gone() {
    the_peer_is_told(IPV6).await;
}

#[tokio::test]
async fn last_words_from_an_address_that_is_gone_are_signed() {
    the_peer_is_told(Story { password: Some("between us"), ..IPV4 }).await;
    the_peer_is_told(Story { password: Some("between us"), ..IPV6 }).await;
}

/// There is no way to the peer at all until another address comes: the words wait for it.
#[tokio::test]
async fn what_could_not_be_said_at_once_is_said_as_soon_as_there_is_a_way() {
    for story in [IPV4, IPV6] {
        let Some(mut cable) = story.begin().await else { return };
        cable.us.ip(&story.address("del", story.old));
        down(&mut cable.ours).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!is_down(&mut cable.theirs), "it cannot have heard of it");
        cable.us.ip(&story.address("add", story.new));
        let reason = down(&mut cable.theirs).await;
        assert!(reason.contains("received NOTIFICATION"), "{reason}");
        cable.learns(story.new).await;
        cable.end().await;
    }
}

#[tokio::test]
async fn an_address_that_is_back_in_a_moment_disturbs_no_session() {
    for story in [IPV4, IPV6] {
        let Some(mut cable) = story.begin().await else { return };
        cable.us.ip(&story.address("del", story.old));
        cable.here.set_routes(Arc::new(RouteSet::default()));
        tokio::time::sleep(Duration::from_millis(400)).await;
        cable.us.ip(&story.address("add", story.old));
        let mut learned = cable.there.watch_learned();
        let gone = learned.wait_for(|routes| routes.is_empty());
        timeout(PATIENCE, gone).await.expect("what was to be said meanwhile is lost").unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!is_down(&mut cable.ours) && !is_down(&mut cable.theirs));
        cable.end().await;
    }
}

/// The next hop of IPv6 routes over an IPv4 session.
#[tokio::test]
async fn a_global_address_that_changes_is_told_without_a_reset() {
    let Some(mut cable) = IPV4.begin().await else { return };
    cable.us.ip("addr add fd09::1/64 dev eth1 nodad");
    cable.learns("fd09::1").await;
    cable.us.ip("addr del fd09::1/64 dev eth1");
    cable.us.ip("addr add fd09::9/64 dev eth1 nodad");
    cable.learns("fd09::9").await;
    cable.us.ip("addr del fd09::9/64 dev eth1");
    let mut learned = cable.there.watch_learned();
    let gone = learned.wait_for(|routes| routes.iter().all(|(prefix, _)| prefix.addr().is_ipv4()));
    timeout(PATIENCE, gone).await.expect("there is no such next hop any more").unwrap();
    assert!(!is_down(&mut cable.ours) && !is_down(&mut cable.theirs));
    cable.end().await;
}
