//! The loop: wait for anything, hand it to the speaker, do what the speaker says.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::connections::{Connections, Happened, TURN};
use super::hand_over::{self, Inheritance, Inherited, Leaving};
use super::links::{self, Noticed, Notices};
use super::listeners::{Accepted, Listeners};
use super::{Command, Config, LearnedRoutes, signatures, sockets};
use crate::rib::RouteSet;
use crate::speaker::{
    Adoption, ConnId, Event, Input, Output, PeerAddress, PeerConfig, Speaker, SpeakerConfig, classify, classify_speaker,
};

#[derive(Debug)]
pub(super) struct Driver {
    config: Config,
    speaker: Speaker,
    listeners: Listeners,
    connections: Connections,
    events: broadcast::Sender<Event>,
    learned: watch::Sender<LearnedRoutes>,
    /// Waits for the last words to be said.
    stopping: Option<oneshot::Sender<()>>,
    /// Waits for all sessions to be ready to go on in another process, and until when.
    leaving: Option<(oneshot::Sender<Leaving>, Instant)>,
    /// The peers are there already.
    inherited: bool,
    /// The last failure logged for each peer: the same one over and over is said once.
    failures: BTreeMap<String, String>,
    faults: Remarked,
    /// When to look at links and addresses again, changes or not.
    look_at: Instant,
    /// How long after the last time at most.
    audit: Duration,
    /// The last look failed.
    blind: bool,
}

/// The faults in UPDATEs that were logged for each peer: a peer that makes one makes it in every UPDATE, and must not fill the
/// disk.
#[derive(Debug, Default)]
struct Remarked(BTreeMap<String, BTreeSet<Vec<String>>>);

impl Remarked {
    /// Different faults logged for one peer; after that there is nothing left to learn about it.
    const MOST: usize = 32;

    /// Whether this is worth a line: it was not said before.
    fn is_news(&mut self, neighbor: &str, faults: &[String]) -> bool {
        make_room(&mut self.0, neighbor);
        let said = self.0.entry(neighbor.to_owned()).or_default();
        said.len() < Self::MOST && said.insert(faults.to_vec())
    }
}

/// Names that something is remembered of. Neighbours on a shared link and in listen ranges come with ever new addresses.
const MOST_NAMES: usize = 4096;

/// Forgets everything rather than to grow for ever: then some things are said once more.
fn make_room<T>(remembered: &mut BTreeMap<String, T>, neighbor: &str) {
    if remembered.len() >= MOST_NAMES && !remembered.contains_key(neighbor) {
        remembered.clear();
    }
}

/// How often to look whether sessions are ready to go on in another process.
const LEAVING_LOOK: Duration = Duration::from_millis(5);

/// Why the configuration of this process ended a session of the one before.
fn why_reset(peer: &PeerAddress, before: &(SpeakerConfig, Vec<PeerConfig>), config: &Config) -> String {
    let (speaker, peers) = before;
    let old = peers.iter().find(|old| old.address == *peer);
    let new = config.peers.iter().find(|new| new.address == *peer);
    match (old, new) {
        (Some(old), Some(new)) => {
            let keys = [classify_speaker(speaker, &config.speaker).keys, classify(old, new).keys].concat();
            format!("the configuration has changed ({})", keys.join(", "))
        }
        _ => "the configuration has changed".to_owned(),
    }
}

/// What woke the loop.
enum Woken {
    Command(Option<Command>),
    Routes(Option<Arc<RouteSet>>),
    Time,
    Links(Noticed),
    Network(Vec<Happened>, Vec<Accepted>),
}

impl Driver {
    pub(super) fn new(
        config: Config,
        seed: u64,
        events: broadcast::Sender<Event>,
        learned: watch::Sender<LearnedRoutes>,
    ) -> Self {
        Self {
            speaker: Speaker::new(config.speaker.clone(), seed),
            config,
            listeners: Listeners::default(),
            connections: Connections::default(),
            events,
            learned,
            stopping: None,
            leaving: None,
            inherited: false,
            failures: BTreeMap::new(),
            faults: Remarked::default(),
            look_at: Instant::now(),
            audit: links::AUDIT,
            blind: false,
        }
    }

    pub(super) async fn run(
        self,
        commands: mpsc::UnboundedReceiver<Command>,
        routes: watch::Receiver<Option<Arc<RouteSet>>>,
    ) {
        let notices = Notices::open()
            .inspect_err(|error| tracing::warn!(%error, "a link or an address that goes is noticed only by looking now and then"))
            .ok();
        self.run_with(notices, commands, routes).await;
    }

    async fn run_with(
        mut self,
        notices: Option<Notices>,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut routes: watch::Receiver<Option<Arc<RouteSet>>>,
    ) {
        let now = Instant::now();
        self.listeners.configure(now, &self.config);
        if !self.inherited {
            for peer in self.config.peers.clone() {
                self.speaker.add_peer(now, peer);
            }
        }
        let mut sleep = pin!(tokio::time::sleep_until(now.into()));
        let (mut commands_open, mut routes_open) = (true, true);
        loop {
            self.settle();
            if self.stopping.is_some() && self.connections.all_said() {
                break;
            }
            // What was to be announced before is told before. An error: nobody announces anything any more.
            if !routes.has_changed().unwrap_or(false) {
                self.leave_if_ready().await;
            }
            let deadline = self.next_deadline();
            if let Some(deadline) = deadline {
                sleep.as_mut().reset(deadline.into());
            }
            let woken = tokio::select! {
                biased;
                command = commands.recv(), if commands_open => Woken::Command(command),
                changed = routes.changed(), if routes_open => {
                    routes_open = changed.is_ok();
                    Woken::Routes(routes.borrow_and_update().clone())
                },
                () = &mut sleep, if deadline.is_some() => Woken::Time,
                noticed = links::noticed(notices.as_ref()) => Woken::Links(noticed),
                (happened, accepted) = self.network() => Woken::Network(happened, accepted),
            };
            match woken {
                // Nobody can ask for anything any more; the sessions go on.
                Woken::Command(None) => commands_open = false,
                Woken::Command(Some(command)) => self.command(command),
                Woken::Routes(Some(set)) => self.speaker.set_routes(set),
                Woken::Routes(None) | Woken::Time => {}
                Woken::Links(noticed) => {
                    if noticed.concerns(&self.speaker.links_in_use()) {
                        self.look_at = Instant::now();
                    }
                    if noticed.new_address {
                        self.speaker.handle(Instant::now(), Input::NewAddress);
                    }
                }
                Woken::Network(happened, accepted) => self.happened(happened, accepted),
            }
            let now = Instant::now();
            if self.speaker.next_deadline().is_some_and(|at| at <= now) {
                self.catch_up().await;
            }
            self.look_at_links(now);
            self.speaker.handle_timeout(now);
            self.listeners.retry(now);
            self.connections.expire(now);
        }
        if let Some(done) = self.stopping.take() {
            // Whoever asked may have given up waiting.
            let _ = done.send(());
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let look_at = self.speaker.has_connections().then_some(self.look_at);
        // Nothing says that the last octet was written.
        let leaving = self.leaving.as_ref().map(|_| Instant::now() + LEAVING_LOOK);
        let core = [self.speaker.next_deadline(), self.listeners.next_deadline(), self.connections.next_deadline()];
        core.into_iter().chain([look_at, leaving]).flatten().min()
    }

    /// Goes on with the sessions of a process before this one, then puts the configuration of this one in force.
    pub(super) fn inherit(&mut self, inheritance: Inheritance, seed: u64) -> Vec<Inherited> {
        let Inheritance { mut state, at } = inheritance;
        let mut streams = BTreeMap::new();
        for (number, ends) in state.sockets().collect::<Vec<_>>() {
            let stream = sockets::inherited(number)
                .ok_or_else(|| io::Error::other("its socket was not left open"))
                .and_then(|descriptor| sockets::connection(descriptor, &ends))
                .and_then(TcpStream::from_std);
            match stream {
                Ok(stream) => drop(streams.insert(number, stream)),
                Err(error) => state.give_up(number, &error.to_string()),
            }
        }
        let before = state.configuration();
        let now = Instant::now();
        let (speaker, adoptions) = Speaker::adopt(now, at, state, seed);
        self.speaker = speaker;
        for adoption in &adoptions {
            if let Ok((conn, number)) = adoption.outcome
                && let Some(stream) = streams.remove(&number)
            {
                self.connections.accepted(conn, stream);
            }
        }
        self.speaker.reconfigure(now, self.config.speaker.clone(), self.config.peers.clone());
        self.inherited = true;
        adoptions.into_iter().map(|adoption| self.inherited(adoption, &before)).collect()
    }

    /// What became of a session once the configuration of this process is in force.
    fn inherited(&self, adoption: Adoption, before: &(SpeakerConfig, Vec<PeerConfig>)) -> Inherited {
        let Adoption { peer, neighbor, outcome } = adoption;
        let outcome = outcome
            .and_then(|_| if self.speaker.is_up(&peer) { Ok(()) } else { Err(why_reset(&peer, before, &self.config)) });
        Inherited { peer, neighbor, outcome }
    }

    /// Hands over what was asked for, when every session is between two messages or has had its time, and does nothing more until the
    /// other side has gone away, or is gone with us.
    async fn leave_if_ready(&mut self) {
        let ready = |at: Instant| at <= Instant::now() || self.speaker.is_quiet() && self.connections.all_sent();
        let Some((reply, _)) = self.leaving.take_if(|(_, at)| ready(*at)) else { return };
        let now = Instant::now();
        let mut sockets = Vec::new();
        let state = self.speaker.hand_over(now, |conn| {
            let socket = self.connections.duplicate(conn)?;
            let number = socket.as_raw_fd();
            sockets.push(socket);
            Ok(number)
        });
        let (resume, resumed) = oneshot::channel();
        if reply.send(Leaving::new(state, now, sockets, resume)).is_ok() {
            // An error is what it is to end with: it was dropped.
            let _ = resumed.await;
        }
    }

    /// Takes in what waits in the sockets, before a timer that is due is believed: if it was us who were held up, by another process
    /// or by a large change, then what proves a peer alive is there already, and a hold timer shows nothing.
    async fn catch_up(&mut self) {
        // The runtime asks the kernel what is ready before it goes on here.
        tokio::task::yield_now().await;
        let ready = tokio::select! {
            biased;
            network = self.network() => Some(network),
            () = std::future::ready(()) => None,
        };
        if let Some((happened, accepted)) = ready {
            self.happened(happened, accepted);
        }
    }

    async fn network(&mut self) -> (Vec<Happened>, Vec<Accepted>) {
        let (mut happened, mut accepted) = (Vec::new(), Vec::new());
        poll_fn(|context| {
            let now = Instant::now();
            while accepted.len() < 16
                && let Poll::Ready(connection) = self.listeners.poll_accept(now, context)
            {
                accepted.push(connection);
            }
            let connections = self.connections.poll(context, &mut happened);
            if accepted.is_empty() { connections } else { Poll::Ready(()) }
        })
        .await;
        (happened, accepted)
    }

    fn happened(&mut self, happened: Vec<Happened>, accepted: Vec<Accepted>) {
        for event in happened {
            let now = Instant::now();
            match event {
                Happened::Connected { conn, local, remote } => {
                    if let Some(peer) = self.speaker.peer_of(conn) {
                        let ends = links::ends(local, remote, &peer);
                        self.speaker.handle(now, Input::Connected { conn, ends });
                    }
                }
                Happened::Received { conn, bytes } => self.speaker.handle(now, Input::Received { conn, bytes }),
                Happened::Lost { conn, why } => self.lost(conn, why),
                Happened::Writable(conn) => self.write(conn),
            }
            // What one message leads to is done before the next is looked at: a KEEPALIVE need not wait for a table.
            self.settle();
        }
        for accepted in accepted {
            self.accept(accepted);
        }
    }

    /// Looks at the links and addresses of the connections, if it is time to.
    fn look_at_links(&mut self, now: Instant) {
        if self.look_at > now || !self.speaker.has_connections() {
            return;
        }
        match links::read(&self.speaker.links_in_use(), &self.speaker.addresses_in_use()) {
            Ok(links) => {
                self.speaker.handle(now, Input::Links(links));
                let again = now + self.audit;
                self.look_at = self.speaker.look_again_at().map_or(again, |at| at.min(again));
                self.blind = false;
            }
            Err(error) => {
                self.look_at = now + links::RETRY;
                if !std::mem::replace(&mut self.blind, true) {
                    tracing::warn!(%error, "cannot look at the links and addresses of the sessions; they stay up");
                }
            }
        }
    }

    fn lost(&mut self, conn: ConnId, why: String) {
        self.connections.forget(conn);
        self.speaker.handle(Instant::now(), Input::Lost { conn, why });
    }

    fn accept(&mut self, accepted: Accepted) {
        let Accepted { stream, remote, interface } = accepted;
        let Ok(local) = stream.local_addr() else { return };
        let interface = sockets::interface_of(&remote).or(interface);
        let Some(peer) = self.speaker.peer_at(local.ip(), remote.ip(), interface.as_deref()) else {
            self.speaker.refuse(remote, "no neighbor with this address is configured");
            return;
        };
        if peer.password.is_some() && peer.tcp_ao.is_some() && !sockets::has_ao(&stream) {
            self.speaker.refuse(remote, "it is not signed by TCP-AO");
            return;
        }
        let ends = links::ends(local, remote, &peer);
        let Ok(conn) = self.speaker.accept(Instant::now(), ends, interface.as_deref()) else { return };
        if let Err(error) = sockets::prepare(&stream, &self.config.speaker, &peer, remote.ip()) {
            tracing::warn!(neighbor = %peer.address, %error, "socket option refused");
        }
        self.connections.accepted(conn, stream);
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        // Whoever asked may have given up waiting: then nobody wants the answer.
        match command {
            Command::Reconfigure(config) => {
                self.speaker.reconfigure(now, config.speaker.clone(), config.peers.clone());
                self.listeners.configure(now, &config);
                self.config = *config;
            }
            Command::Snapshot(reply) => {
                self.acknowledge(now);
                self.speaker.handle(now, Input::SignaturesDropped(signatures::dropped()));
                let _ = reply.send(self.speaker.snapshot(now));
            }
            Command::Neighbors(reply) => {
                self.speaker.handle(now, Input::SignaturesDropped(signatures::dropped()));
                let _ = reply.send(self.speaker.neighbors(now));
            }
            Command::Routes(reply) => {
                self.acknowledge(now);
                let _ = reply.send(self.speaker.routes());
            }
            Command::Learned(reply) => {
                let mut all = self.speaker.learned();
                all.extend(self.speaker.refused());
                // Stable: of each prefix the best path first, what was refused last.
                all.sort_by_key(|learned| learned.prefix);
                let _ = reply.send(all);
            }
            Command::Listeners(reply) => {
                let _ = reply.send(self.listeners.status());
            }
            Command::Reset(peer, text, reply) => {
                let _ = reply.send(self.speaker.reset_peer(now, &peer, &text));
            }
            Command::Discovered(interface, address) => {
                // The interface may be another one of the same name.
                self.listeners.configure(now, &self.config);
                self.speaker.handle(now, Input::Discovered { interface, address });
            }
            Command::BfdUp(peer) => self.speaker.handle(now, Input::BfdUp { peer }),
            Command::BfdDown(peer, failure) => self.speaker.handle(now, Input::BfdDown { peer, failure }),
            Command::BfdDisabled(peer) => self.speaker.handle(now, Input::BfdDisabled { peer }),
            Command::BfdGone(peer) => self.speaker.handle(now, Input::BfdGone { peer }),
            Command::HandOver(reply) => self.leaving = Some((reply, now + hand_over::PATIENCE)),
            Command::Shutdown(how, reply) => {
                self.listeners.close();
                self.speaker.shutdown(now, &how);
                self.stopping = Some(reply);
            }
        }
    }

    /// Asks the kernel what the peers' TCP has acknowledged.
    fn acknowledge(&mut self, now: Instant) {
        for conn in self.connections.acknowledged() {
            self.speaker.handle(now, Input::Acknowledged { conn });
        }
    }

    /// Does what the speaker wants until it wants nothing more.
    fn settle(&mut self) {
        while let Some(output) = self.speaker.poll() {
            match output {
                Output::Dial { conn, address, peer } => {
                    let dropped = Input::SignaturesDropped(signatures::dropped());
                    self.speaker.handle(Instant::now(), dropped);
                    let dialled = sockets::dial(&self.config.speaker, &peer, address).and_then(TcpStream::from_std);
                    match dialled {
                        Ok(stream) => self.connections.dialled(conn, stream),
                        Err(error) => self.lost(conn, error.to_string()),
                    }
                }
                Output::Transmit(conn) => {
                    if self.connections.has_more(conn) {
                        self.write(conn);
                    }
                }
                Output::Close { conn, last, address_gone } => {
                    self.connections.close(Instant::now(), conn, &last, address_gone);
                }
                Output::Event(event) => self.report(event),
            }
        }
    }

    fn write(&mut self, conn: ConnId) {
        let now = Instant::now();
        let speaker = &mut self.speaker;
        if let Err(why) = self.connections.write(conn, |out| speaker.transmit(now, conn, out, TURN)) {
            self.lost(conn, why);
        }
    }

    fn report(&mut self, event: Event) {
        match &event {
            Event::Up { neighbor, .. } | Event::Inherited { neighbor, .. } => {
                self.failures.remove(neighbor);
                tracing::info!("{event}");
            }
            // All of them are counted.
            Event::Faults { neighbor, faults, .. } if !self.faults.is_news(neighbor, faults) => {
                tracing::debug!("{event}");
            }
            Event::Down { .. }
            | Event::Malformed { .. }
            | Event::Faults { .. }
            | Event::PrefixLimit { .. }
            | Event::RangeFull { .. } => {
                tracing::warn!("{event}");
            }
            Event::Failed { neighbor, reason } => {
                make_room(&mut self.failures, neighbor);
                if self.failures.insert(neighbor.clone(), reason.clone()).as_ref() == Some(reason) {
                    tracing::debug!("{event}");
                } else {
                    tracing::warn!("{event}");
                }
            }
            Event::Refused { .. } => tracing::debug!("{event}"),
            Event::LearnedChanged => {
                self.learned.send_replace(Arc::new(self.speaker.selected()));
            }
        }
        // Without subscribers there is nobody to tell.
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::Ipv4Addr;
    use std::process::Command as Process;
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::speaker::RemoteAs;
    use crate::wire::{self, Capability, Context, Message, Open};

    /// A peer with a hold time of 3 s that says KEEPALIVE every 100 ms, to whoever listens there, until it is told to stop.
    fn keep_alive(from: Ipv4Addr, to: std::net::SocketAddr, stop: &AtomicBool) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        let mut stream = std::net::TcpStream::from(socket);
        let mut say = |message: &Message| {
            let mut octets = bytes::BytesMut::new();
            wire::encode(message, &Context::default(), &mut octets).unwrap();
            let _ = stream.write_all(&octets);
        };
        say(&Message::Open(Open::new(65002, 3, from, vec![Capability::Multiprotocol { afi: 1, safi: 1 }])));
        while !stop.load(Ordering::Relaxed) {
            say(&Message::Keepalive);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    #[tokio::test]
    async fn what_came_in_time_counts_even_if_we_look_late() {
        let (us, them) = (Ipv4Addr::new(127, 0, 0, 21), Ipv4Addr::new(127, 0, 0, 22));
        let peer =
            PeerConfig { passive: true, ..PeerConfig::new(PeerAddress::Numbered(them.into()), RemoteAs::External) };
        let config = Config {
            listen: vec![us.into()],
            port: 0,
            peers: vec![peer],
            ..Config::new(SpeakerConfig::new(65001, us))
        };
        let events = broadcast::Sender::new(16);
        let mut heard = events.subscribe();
        let driver = Driver::new(config, 7, events, watch::Sender::new(LearnedRoutes::default()));
        let (commands, receiver) = mpsc::unbounded_channel();
        let (_routes, routes) = watch::channel(None);
        tokio::spawn(driver.run(receiver, routes));
        let (reply, listeners) = oneshot::channel();
        commands.send(Command::Listeners(reply)).unwrap();
        let address = listeners.await.unwrap().remove(0).address;
        let stop = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&stop);
        let peer = std::thread::spawn(move || keep_alive(them, address, &other));
        while !matches!(heard.recv().await.unwrap(), Event::Up { .. }) {}
        // Nothing of ours runs, on this one thread of all tasks, for longer than the hold time.
        std::thread::sleep(Duration::from_secs(4));
        let (reply, neighbors) = oneshot::channel();
        commands.send(Command::Neighbors(reply)).unwrap();
        neighbors.await.unwrap();
        let (reply, neighbors) = oneshot::channel();
        commands.send(Command::Neighbors(reply)).unwrap();
        assert_eq!(neighbors.await.unwrap()[0].state, "Established");
        assert_eq!(heard.try_recv().ok(), None);
        stop.store(true, Ordering::Relaxed);
        peer.join().unwrap();
    }

    /// A story on a thread with a network of its own.
    fn in_namespace(story: impl Future<Output = ()> + Send + 'static) {
        let tell = move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story);
        };
        std::thread::spawn(tell).join().unwrap();
    }

    fn ip(arguments: &str) {
        assert!(Process::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
    }

    async fn an_address_that_goes_unnoticed() {
        let (us, them) = (Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2));
        ip("link set lo up");
        ip("addr add 10.9.0.1/32 dev lo");
        ip("addr add 10.9.0.2/32 dev lo");
        let peer =
            PeerConfig { passive: true, ..PeerConfig::new(PeerAddress::Numbered(them.into()), RemoteAs::External) };
        let config =
            Config { listen: vec![us.into()], peers: vec![peer], ..Config::new(SpeakerConfig::new(65001, us)) };
        let events = broadcast::Sender::new(16);
        let mut heard = events.subscribe();
        let mut driver = Driver::new(config, 7, events, watch::Sender::new(LearnedRoutes::default()));
        driver.audit = Duration::from_millis(200);
        let (_commands, receiver) = mpsc::unbounded_channel();
        let (_routes, routes) = watch::channel(None);
        tokio::spawn(driver.run_with(None, receiver, routes));
        tokio::task::yield_now().await;
        let stop = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&stop);
        let peer = std::thread::spawn(move || keep_alive(them, (us, 179).into(), &other));
        while !matches!(heard.recv().await.unwrap(), Event::Up { .. }) {}
        ip("addr del 10.9.0.1/32 dev lo");
        let gone = heard.recv().await.unwrap().to_string();
        assert!(gone.contains("our address 10.9.0.1 is gone"), "{gone}");
        stop.store(true, Ordering::Relaxed);
        peer.join().unwrap();
    }

    /// Without any notice: those that are lost must not leave a next hop for ever.
    #[test]
    fn what_no_notice_tells_of_is_found_by_looking_now_and_then() {
        if nix::unistd::geteuid().is_root() {
            in_namespace(an_address_that_goes_unnoticed());
        } else {
            eprintln!("skipped: network namespaces need root");
        }
    }

    #[test]
    fn neighbours_with_ever_new_names_are_not_all_remembered() {
        let mut remarked = Remarked::default();
        for n in 0..3 * MOST_NAMES {
            assert!(remarked.is_news(&format!("fe80::{n:x}%eth0"), &[]), "never heard of");
            assert!(!remarked.is_news(&format!("fe80::{n:x}%eth0"), &[]), "said just now");
            assert!(remarked.0.len() <= MOST_NAMES);
        }
    }

    #[test]
    fn a_fault_is_news_once_and_a_peer_of_a_thousand_faults_is_not_for_ever() {
        let mut remarked = Remarked::default();
        let fault = |n: usize| vec![format!("attribute {n} is wrong")];
        assert!(remarked.is_news("10.0.0.1", &fault(0)));
        assert!(!remarked.is_news("10.0.0.1", &fault(0)));
        assert!(remarked.is_news("10.0.0.2", &fault(0)), "another peer");
        let lines = (0..1000).filter(|n| remarked.is_news("10.0.0.1", &fault(*n))).count();
        assert_eq!(lines, Remarked::MOST - 1);
    }
}
