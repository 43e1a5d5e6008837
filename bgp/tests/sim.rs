//! Several speakers on a virtual network with a virtual clock: bytes are split and delayed, connections cut, links severed, readers
//! slow, both sides dial at once. Whatever happened: once it is quiet every speaker knows what its neighbours may tell it.
//!
//! `SIM_SEED=17 cargo test -p bgp --test sim` repeats one run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail loudly")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::rib::{Origination, RouteSet};
use bgp::rng::Rng;
use bgp::speaker::{
    AddPath, ConnId, Ends, Event, GracefulRestart, HandOver, Input, Output, PeerAddress, PeerConfig, RemoteAs, Speaker,
    SpeakerConfig,
};
use bgp::types::{Families, Prefix};
use bytes::{Bytes, BytesMut};

/// Octets that may be on their way before the sender has to wait.
const WINDOW: usize = 8192;

/// Something that arrives at its time.
#[derive(Debug)]
enum Arrival {
    /// A connection request of a node.
    Syn { from: usize, conn: ConnId, to: usize },
    /// What a pipe carries to one of its ends.
    Carried { pipe: usize, to: usize, what: Carried },
}

#[derive(Debug)]
enum Carried {
    Connected,
    Data(Bytes),
    Fin,
}

#[derive(Debug)]
struct Pipe {
    /// (node, connection) of the side that dialled and of the one that was dialled; gone when that side has closed.
    ends: [Option<(usize, ConnId)>; 2],
    nodes: [usize; 2],
    /// When the last octet towards each end arrives: nothing overtakes within a connection.
    last: [Instant; 2],
    /// Octets on their way to each end.
    on_the_way: [usize; 2],
    /// Whether the sender towards each end has more.
    more: [bool; 2],
    /// Octets each end has not read yet.
    unread: [VecDeque<Bytes>; 2],
}

struct Node {
    speaker: Speaker,
    routes: Arc<RouteSet>,
    /// Does not read.
    stuck: bool,
    /// The most octets one call of transmit gave.
    longest: usize,
    events: Vec<Event>,
}

struct World {
    begun: Instant,
    now: Instant,
    rng: Rng,
    nodes: Vec<Node>,
    pipes: Vec<Pipe>,
    by_conn: BTreeMap<(usize, ConnId), (usize, usize)>,
    arrivals: BinaryHeap<Reverse<(Instant, u64)>>,
    what: BTreeMap<u64, Arrival>,
    next: u64,
    /// Links over which nothing gets through.
    severed: BTreeSet<(usize, usize)>,
}

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(node + 1).unwrap())
}

fn asn(node: usize) -> u32 {
    // The first two are internal to each other, the others external.
    [64999, 64999, 65002, 65003, 65004][node]
}

impl World {
    fn new(seed: u64, size: usize) -> Self {
        let begun = Instant::now();
        let mut world = Self {
            begun,
            now: begun,
            rng: Rng::new(seed),
            nodes: Vec::new(),
            pipes: Vec::new(),
            by_conn: BTreeMap::new(),
            arrivals: BinaryHeap::new(),
            what: BTreeMap::new(),
            next: 0,
            severed: BTreeSet::new(),
        };
        for node in 0..size {
            let graceful_restart = (world.rng.next().is_multiple_of(2)).then(GracefulRestart::default);
            let config = SpeakerConfig { graceful_restart, ..SpeakerConfig::new(asn(node), address(node)) };
            world.nodes.push(Node {
                speaker: Speaker::new(config, world.rng.next()),
                routes: Arc::default(),
                stuck: false,
                longest: 0,
                events: Vec::new(),
            });
        }
        for node in 0..size {
            for other in (0..size).filter(|other| *other != node) {
                let all = if world.rng.next().is_multiple_of(2) { Families::ALL } else { Families::NONE };
                let peer = PeerConfig {
                    add_path: AddPath { receive: all, send: all },
                    passive: node > other && world.rng.next().is_multiple_of(4),
                    hold_time: Duration::from_secs(9),
                    ..PeerConfig::new(PeerAddress::Numbered(address(other).into()), RemoteAs::Number(asn(other)))
                };
                world.nodes[node].speaker.add_peer(begun, peer);
                world.settle(node);
            }
        }
        world
    }

    fn is_severed(&self, a: usize, b: usize) -> bool {
        self.severed.contains(&(a.min(b), a.max(b)))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next() % bound
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(50 + self.below(20_000))
    }

    fn schedule(&mut self, at: Instant, arrival: Arrival) {
        self.next += 1;
        self.arrivals.push(Reverse((at, self.next)));
        self.what.insert(self.next, arrival);
    }

    fn carry(&mut self, pipe: usize, to: usize, what: Carried) {
        let at = (self.now + self.delay()).max(self.pipes[pipe].last[to]);
        self.pipes[pipe].last[to] = at;
        self.schedule(at, Arrival::Carried { pipe, to, what });
    }

    /// Does what a speaker wants.
    fn settle(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].speaker.poll() {
            match output {
                Output::Dial { conn, address: to, .. } => {
                    let to = (0..self.nodes.len()).find(|n| IpAddr::V4(address(*n)) == to).unwrap();
                    let at = self.now + self.delay();
                    self.schedule(at, Arrival::Syn { from: node, conn, to });
                }
                Output::Transmit(conn) => {
                    if let Some((pipe, side)) = self.by_conn.get(&(node, conn)).copied() {
                        self.pipes[pipe].more[1 - side] = true;
                        self.send(pipe, 1 - side);
                    }
                }
                Output::Close { conn, last, .. } => {
                    if let Some((pipe, side)) = self.by_conn.remove(&(node, conn)) {
                        self.pipes[pipe].ends[side] = None;
                        self.data(pipe, 1 - side, &last);
                        self.carry(pipe, 1 - side, Carried::Fin);
                    }
                }
                Output::Event(event) => self.nodes[node].events.push(event),
            }
        }
    }

    /// Pulls from the sender towards one end while there is room.
    fn send(&mut self, pipe: usize, to: usize) {
        while self.pipes[pipe].more[to] && self.pipes[pipe].on_the_way[to] < WINDOW {
            let Some((node, conn)) = self.pipes[pipe].ends[1 - to] else { return };
            let mut out = BytesMut::new();
            self.nodes[node].speaker.transmit(self.now, conn, &mut out, 4096);
            self.nodes[node].longest = self.nodes[node].longest.max(out.len());
            self.pipes[pipe].more[to] = !out.is_empty();
            self.data(pipe, to, &out);
        }
    }

    /// Splits octets anywhere.
    fn data(&mut self, pipe: usize, to: usize, mut data: &[u8]) {
        self.pipes[pipe].on_the_way[to] += data.len();
        while !data.is_empty() {
            let length = 1 + usize::try_from(self.below(if data.len() > 200 { 4096 } else { 40 })).unwrap();
            let (chunk, rest) = data.split_at(length.min(data.len()));
            self.carry(pipe, to, Carried::Data(Bytes::copy_from_slice(chunk)));
            data = rest;
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Syn { from, conn, to } => self.syn(from, conn, to),
            Arrival::Carried { pipe, to, what } => {
                let [a, b] = self.pipes[pipe].nodes;
                if self.is_severed(a, b) {
                    // TCP keeps trying.
                    let at = self.now + Duration::from_millis(500);
                    self.pipes[pipe].last[to] = self.pipes[pipe].last[to].max(at);
                    return self.schedule(at, Arrival::Carried { pipe, to, what });
                }
                let Some((node, conn)) = self.pipes[pipe].ends[to] else {
                    if let Carried::Data(data) = what {
                        self.pipes[pipe].on_the_way[to] -= data.len();
                        // Nobody is there any more: reset.
                        self.drop_pipe(pipe, 1 - to);
                    }
                    return;
                };
                match what {
                    Carried::Connected => {
                        let (local, remote) = (address(node), address(self.pipes[pipe].nodes[1 - to]));
                        let ends = ends(local, 40000, remote, 179, node);
                        self.nodes[node].speaker.handle(self.now, Input::Connected { conn, ends });
                        self.settle(node);
                    }
                    Carried::Data(data) => {
                        self.pipes[pipe].unread[to].push_back(data);
                        self.read(pipe, to);
                    }
                    Carried::Fin => {
                        self.read(pipe, to);
                        if self.nodes[node].stuck {
                            let at = self.now + Duration::from_secs(1);
                            return self.schedule(at, Arrival::Carried { pipe, to, what });
                        }
                        self.lost(pipe, to, "closed");
                    }
                }
            }
        }
    }

    fn syn(&mut self, from: usize, conn: ConnId, to: usize) {
        if self.is_severed(from, to) {
            return;
        }
        let ends = ends(address(to), 179, address(from), 40000, to);
        let accepted = self.nodes[to].speaker.accept(self.now, ends, None).ok();
        let pipe = self.pipes.len();
        self.pipes.push(Pipe {
            ends: [Some((from, conn)), accepted.map(|conn| (to, conn))],
            nodes: [from, to],
            last: [self.now; 2],
            on_the_way: [0; 2],
            more: [false; 2],
            unread: Default::default(),
        });
        self.by_conn.insert((from, conn), (pipe, 0));
        if let Some(conn) = accepted {
            self.by_conn.insert((to, conn), (pipe, 1));
            self.carry(pipe, 0, Carried::Connected);
        } else {
            self.carry(pipe, 0, Carried::Fin);
        }
        self.settle(to);
    }

    /// Lets one end read what is there, unless it is stuck.
    fn read(&mut self, pipe: usize, to: usize) {
        while let Some((node, conn)) = self.pipes[pipe].ends[to] {
            if self.nodes[node].stuck {
                return;
            }
            let Some(bytes) = self.pipes[pipe].unread[to].pop_front() else { return };
            self.pipes[pipe].on_the_way[to] -= bytes.len();
            self.nodes[node].speaker.handle(self.now, Input::Received { conn, bytes });
            self.settle(node);
            self.send(pipe, to);
        }
    }

    fn lost(&mut self, pipe: usize, side: usize, why: &str) {
        if let Some((node, conn)) = self.pipes[pipe].ends[side].take() {
            self.by_conn.remove(&(node, conn));
            self.nodes[node].speaker.handle(self.now, Input::Lost { conn, why: why.to_owned() });
            self.settle(node);
        }
    }

    fn drop_pipe(&mut self, pipe: usize, side: usize) {
        self.lost(pipe, side, "connection reset by peer");
    }

    /// Lets time pass.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrival = self.arrivals.peek().map(|Reverse((at, _))| *at);
            let timer = self.nodes.iter().filter_map(|n| n.speaker.next_deadline()).min();
            let Some(at) = [arrival, timer].into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if arrival == Some(at) {
                let Reverse((_, number)) = self.arrivals.pop().unwrap();
                let arrival = self.what.remove(&number).unwrap();
                self.arrive(arrival);
            } else {
                for node in 0..self.nodes.len() {
                    self.nodes[node].speaker.handle_timeout(self.now);
                    self.settle(node);
                }
            }
        }
        self.now = end;
    }

    fn set_routes(&mut self, node: usize, routes: RouteSet) {
        self.nodes[node].routes = Arc::new(routes);
        let routes = Arc::clone(&self.nodes[node].routes);
        self.nodes[node].speaker.set_routes(routes);
        self.settle(node);
    }

    /// Some of a pool of prefixes, with one of a few originations.
    fn random_routes(&mut self, node: usize) -> RouteSet {
        let originations: Vec<_> =
            (0..3).map(|med| Arc::new(Origination { med: Some(med), ..Origination::default() })).collect();
        let size = [0, 1, 20, 400][usize::try_from(self.below(4)).unwrap()];
        (0..size)
            .map(|_| {
                let number = u32::try_from(self.below(1000)).unwrap();
                let (number, origination) =
                    (number, Arc::clone(&originations[usize::try_from(self.below(3)).unwrap()]));
                let node = u32::try_from(node).unwrap();
                let prefix = if number.is_multiple_of(2) {
                    Prefix::new(Ipv4Addr::from(0xc000_0000 + (node << 16) + number).into(), 32).unwrap()
                } else {
                    let v6 = Ipv6Addr::new(
                        0x2001,
                        0xdb8,
                        u16::try_from(node).unwrap(),
                        0,
                        0,
                        0,
                        0,
                        u16::try_from(number).unwrap(),
                    );
                    Prefix::new(v6.into(), 128).unwrap()
                };
                (prefix, origination)
            })
            .collect()
    }

    fn sever(&mut self) {
        let (a, b) = self.two();
        self.severed.insert((a.min(b), a.max(b)));
    }

    fn two(&mut self) -> (usize, usize) {
        let size = u64::try_from(self.nodes.len()).unwrap();
        let a = self.below(size);
        let b = (a + 1 + self.below(size - 1)) % size;
        (usize::try_from(a).unwrap(), usize::try_from(b).unwrap())
    }

    /// One thing that may go wrong, or just happen.
    fn disturb(&mut self) {
        let (node, other) = self.two();
        match self.below(12) {
            0..=3 => {
                let routes = self.random_routes(node);
                self.set_routes(node, routes);
            }
            4 => self.sever(),
            5 => self.severed.clear(),
            6 => self.nodes[node].stuck = !self.nodes[node].stuck,
            7 => {
                let open: Vec<_> = self.by_conn.values().copied().collect();
                if !open.is_empty() {
                    let (pipe, side) = open[usize::try_from(self.below(1 << 20)).unwrap() % open.len()];
                    self.lost(pipe, side, "cut");
                    if self.below(2) == 0 {
                        self.lost(pipe, 1 - side, "cut");
                    }
                }
            }
            8 => {
                let peer = PeerAddress::Numbered(address(other).into());
                self.nodes[node].speaker.reset_peer(self.now, &peer, "because");
                self.settle(node);
            }
            9 | 10 => self.hand_over(node),
            _ => {
                let peer = PeerAddress::Numbered(address(other).into());
                let old = self.nodes[node].speaker.peers().find(|p| p.address == peer).unwrap();
                let changed = PeerConfig { graceful_shutdown: !old.graceful_shutdown, ..PeerConfig::clone(old) };
                self.nodes[node].speaker.update_peer(self.now, changed);
                self.settle(node);
            }
        }
        let pause = Duration::from_millis(self.below(6000));
        self.run(pause);
    }

    /// Another process takes over, after a moment in which nobody is there. What could not be handed over is closed without a word.
    fn hand_over(&mut self, node: usize) {
        let (by_conn, then) = (self.by_conn.clone(), self.now);
        let number = |conn: ConnId| {
            let (pipe, side) = by_conn.get(&(node, conn)).ok_or("it has no connection")?;
            Ok(i32::try_from(2 * pipe + side).unwrap())
        };
        let state = self.nodes[node].speaker.hand_over(then, number);
        let text = serde_json::to_string(&state).unwrap();
        let connections: Vec<_> = by_conn.iter().filter(|((of, _), _)| *of == node).map(|(_, at)| *at).collect();
        let handed: Vec<_> = state.sockets().map(|(number, _)| usize::try_from(number).unwrap()).collect();
        self.nodes[node].speaker = Speaker::new(SpeakerConfig::new(asn(node), address(node)), 0);
        let was_stuck = std::mem::replace(&mut self.nodes[node].stuck, true);
        for (pipe, side) in connections.into_iter().filter(|(pipe, side)| !handed.contains(&(2 * pipe + side))) {
            self.abandon(pipe, side);
        }
        let gap = Duration::from_millis(self.below(1500));
        self.run(gap);
        let mut state: HandOver = serde_json::from_str(&text).unwrap();
        for number in &handed {
            if self.pipes[number / 2].ends[number % 2].is_none() {
                state.give_up(i32::try_from(*number).unwrap(), "its connection was closed");
            }
        }
        let (speaker, adoptions) = Speaker::adopt(self.now, then, state, self.rng.next());
        self.nodes[node].speaker = speaker;
        self.nodes[node].stuck = was_stuck;
        for adoption in adoptions {
            let Ok((conn, number)) = adoption.outcome else { continue };
            let number = usize::try_from(number).unwrap();
            self.by_conn.retain(|_, at| *at != (number / 2, number % 2));
            self.by_conn.insert((node, conn), (number / 2, number % 2));
            self.pipes[number / 2].ends[number % 2] = Some((node, conn));
        }
        self.settle(node);
        let routes = Arc::clone(&self.nodes[node].routes);
        if self.below(2) == 0 {
            // Not everything is known at first.
            let some = routes.routes().iter().filter(|_| self.rng.next().is_multiple_of(2)).cloned();
            let some: RouteSet = some.collect();
            self.nodes[node].speaker.set_routes(Arc::new(some.partial()));
            self.settle(node);
        }
        self.nodes[node].speaker.set_routes(routes);
        self.settle(node);
        for number in handed {
            self.read(number / 2, number % 2);
        }
    }

    /// Closes one end from outside.
    fn abandon(&mut self, pipe: usize, side: usize) {
        if let Some(of) = self.pipes[pipe].ends[side].take() {
            self.by_conn.remove(&of);
            self.carry(pipe, 1 - side, Carried::Fin);
        }
    }

    /// Everything works again.
    fn heal(&mut self) {
        self.severed.clear();
        for node in &mut self.nodes {
            node.stuck = false;
        }
        for pipe in 0..self.pipes.len() {
            self.read(pipe, 0);
            self.read(pipe, 1);
        }
    }

    /// What each speaker knows of each of its neighbours is what that neighbour announces.
    fn check(&self, context: &str) {
        for (i, node) in self.nodes.iter().enumerate() {
            for neighbor in node.speaker.neighbors(self.now) {
                assert_eq!(neighbor.state, "Established", "{context}: {i} to {}: {neighbor:#?}", neighbor.neighbor);
            }
            let learned = node.speaker.learned();
            for (j, other) in self.nodes.iter().enumerate().filter(|(j, _)| *j != i) {
                let name = address(j).to_string();
                let known: Vec<_> =
                    learned.iter().filter(|l| l.neighbor == name && !l.stale).map(|l| (l.prefix, l.med)).collect();
                let announced: Vec<_> = other.routes.routes().iter().map(|(prefix, o)| (*prefix, o.med)).collect();
                assert_eq!(known, announced, "{context}: what {i} knows of {j}");
                assert!(!learned.iter().any(|l| l.stale), "{context}: {i} holds stale routes");
                for route in other.speaker.routes() {
                    let told = route.neighbors.iter().find(|n| n.neighbor == address(i).to_string()).unwrap();
                    assert!(told.advertised, "{context}: {j} says it did not tell {i} {}: {told:?}", route.prefix);
                }
            }
            // One message is given whatever the limit, and RFC 8654 lets it be long; a KEEPALIVE may stand in front.
            assert!(node.longest <= 65535 + 4096, "{context}: {i} wrote {} octets at once", node.longest);
        }
    }
}

/// Every node has an IPv6 address on its only interface.
fn ends(local: Ipv4Addr, local_port: u16, remote: Ipv4Addr, remote_port: u16, node: usize) -> Ends {
    Ends {
        global: Some(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, u16::try_from(node + 1).unwrap())),
        ..Ends::new(SocketAddr::from((local, local_port)), SocketAddr::from((remote, remote_port)))
    }
}

fn simulate(seed: u64) {
    let mut rng = Rng::new(seed);
    let size = 2 + usize::try_from(rng.next() % 4).unwrap();
    let mut world = World::new(rng.next(), size);
    for node in 0..size {
        let routes = world.random_routes(node);
        world.set_routes(node, routes);
    }
    for _ in 0..rng.next() % 12 {
        world.disturb();
    }
    world.heal();
    // Longer than any wait: damping goes up to a minute, connect-retry is 10 s, restart time 120 s.
    world.run(Duration::from_secs(200));
    world.check(&format!("SIM_SEED={seed}, {:?} after the beginning", world.now - world.begun));
}

#[test]
fn after_quiet_everybody_knows_what_everybody_else_announces() {
    let seeds = match std::env::var("SIM_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..40,
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| simulate(seed)) {
            eprintln!("failed with SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn two_that_dial_each_other_at_once_end_up_with_one_session() {
    for seed in 0..50 {
        let mut world = World::new(seed, 2);
        world.run(Duration::from_secs(3));
        let up = |node: &Node| node.events.iter().filter(|e| matches!(e, Event::Up { .. })).count();
        let events: Vec<_> = world.nodes.iter().map(|n| &n.events).collect();
        assert_eq!((up(&world.nodes[0]), up(&world.nodes[1])), (1, 1), "seed {seed}: {events:#?}");
        assert_eq!(world.by_conn.len(), 2, "seed {seed}: more than one connection is left");
    }
}

/// Every few seconds one of two goes on in another process, and the other never knows.
#[test]
fn who_goes_on_in_another_process_is_not_missed_and_says_nothing_twice() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        world.run(Duration::from_secs(3));
        for node in 0..2 {
            let routes = world.random_routes(node);
            world.set_routes(node, routes);
        }
        world.run(Duration::from_secs(1));
        let told = |world: &World, of: usize| world.nodes[of].speaker.neighbors(world.now)[0].messages.updates_received;
        for round in 0..10 {
            let node = usize::try_from(world.below(2)).unwrap();
            let before = told(&world, 1 - node);
            world.hand_over(node);
            world.run(Duration::from_secs(3));
            assert_eq!(told(&world, 1 - node), before, "seed {seed}, round {round}: there is no news");
            let routes = world.random_routes(node);
            world.set_routes(node, routes);
            let pause = Duration::from_millis(500 + world.below(4000));
            world.run(pause);
            world.check(&format!("seed {seed}, round {round}"));
        }
        for node in &world.nodes {
            let ups = node.events.iter().filter(|event| matches!(event, Event::Up { .. })).count();
            assert_eq!(ups, 1, "seed {seed}: {:#?}", node.events);
            assert!(
                !node.events.iter().any(|event| matches!(event, Event::Down { .. })),
                "seed {seed}: {:#?}",
                node.events
            );
        }
    }
}

#[test]
fn a_reader_that_was_slow_gets_the_latest_and_costs_little() {
    let mut world = World::new(1, 2);
    world.run(Duration::from_secs(3));
    world.nodes[1].stuck = true;
    for round in 0..50_u32 {
        let origination = Arc::new(Origination { med: Some(round), ..Origination::default() });
        let prefix = |n: u32| Prefix::new(Ipv4Addr::from(0xc000_0000 + n).into(), 32).unwrap();
        let routes = (0..5000).map(|n| (prefix(n), Arc::clone(&origination))).collect();
        world.set_routes(0, routes);
    }
    let on_the_way: usize = world.pipes.iter().map(|p| p.on_the_way[0] + p.on_the_way[1]).sum();
    assert!(on_the_way <= WINDOW + 65535, "{on_the_way} octets wait for a peer that does not read");
    world.heal();
    world.run(Duration::from_secs(5));
    world.check("slow reader");
    assert!(!world.nodes.iter().any(|n| n.events.iter().any(|e| matches!(e, Event::Down { .. }))));
}

#[test]
fn silence_ends_a_session_within_its_hold_time() {
    let mut world = World::new(3, 2);
    world.run(Duration::from_secs(3));
    world.sever();
    world.run(Duration::from_secs(10));
    for node in &world.nodes {
        let reason = node.events.iter().find_map(|e| match e {
            Event::Down { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        assert!(reason.as_ref().is_some_and(|r| r.contains("Hold Timer Expired")), "{reason:?}");
    }
}
