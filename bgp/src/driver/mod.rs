//! The edge of the speaker: sockets, clock and thread.
//!
//! ```text
//!   Handle (any thread) ── commands, latest route set ──▶ one task on its own thread ── events, learned routes ──▶ subscribers
//!                                                          │  Speaker (pure)
//!                                                          │  one sleep until the earliest deadline
//!                                                          └─ listeners, connections: all polled in turn
//! ```
//!
//! Nothing is shared and nothing is locked: a slow subscriber, a huge reload or a stuck peer cannot hold up a KEEPALIVE.

pub mod bfd;
mod config;
mod connections;
mod discovery;
pub mod hand_over;
mod links;
mod listeners;
mod run;
mod signatures;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use config::Config;
pub use listeners::ListenerStatus;

use crate::rib::{LearnedNextHop, RouteSet};
use crate::speaker::{BfdFailure, Event, Learned, Neighbor, PeerAddress, PeerConfig, Route, Shutdown, Snapshot};
use crate::types::Prefix;
use hand_over::{Inheritance, Inherited, Leaving};
use run::Driver;

/// Events a subscriber may fall behind before it misses some.
const EVENTS_KEPT: usize = 1024;

/// The learned routes in use: each prefix with its next hops.
pub type LearnedRoutes = Arc<Vec<(Prefix, Vec<LearnedNextHop>)>>;

/// The neighbours discovered on unnumbered links, by interface.
pub type Discovered = Arc<BTreeMap<String, Ipv6Addr>>;

/// A question or an order to the speaker's thread.
#[derive(Debug)]
enum Command {
    Reconfigure(Box<Config>),
    Snapshot(oneshot::Sender<Snapshot>),
    Neighbors(oneshot::Sender<Vec<Neighbor>>),
    Routes(oneshot::Sender<Vec<Route>>),
    Learned(oneshot::Sender<Vec<Learned>>),
    Listeners(oneshot::Sender<Vec<ListenerStatus>>),
    Reset(PeerAddress, String, oneshot::Sender<bool>),
    Discovered(String, Option<Ipv6Addr>),
    BfdUp(PeerAddress),
    BfdDown(PeerAddress, BfdFailure),
    BfdDisabled(PeerAddress),
    BfdGone(PeerAddress),
    HandOver(oneshot::Sender<Leaving>),
    Shutdown(Shutdown, oneshot::Sender<()>),
}

/// The speaker's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the BGP speaker has been shut down")]
pub struct Gone;

/// A running speaker. Cheap to clone; the speaker goes on when all handles are dropped, until [`Handle::shutdown`].
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    routes: watch::Sender<Option<Arc<RouteSet>>>,
    learned: watch::Receiver<LearnedRoutes>,
    events: broadcast::Sender<Event>,
    /// Interfaces on which neighbours are to be discovered.
    interfaces: watch::Sender<BTreeSet<String>>,
    discovered: watch::Sender<Discovered>,
}

/// The interfaces whose peers have no address in the configuration.
fn unnumbered(config: &Config) -> BTreeSet<String> {
    let interface = |peer: &PeerConfig| match &peer.address {
        PeerAddress::Interface(name) => Some(name.clone()),
        _ => None,
    };
    config.peers.iter().filter_map(interface).collect()
}

/// Starts a speaker on a thread of its own.
///
/// # Errors
/// The thread or its runtime could not be made. A listening address that is taken is no error: it is logged, shown in
/// [`Handle::listeners`], and tried again.
pub fn spawn(config: Config) -> io::Result<(Handle, JoinHandle<()>)> {
    let (handle, thread, _) = start(config, None)?;
    Ok((handle, thread))
}

/// Starts a speaker that goes on with the sessions a process before this one has handed over, and says what became of each of them.
///
/// # Errors
/// As of [`spawn`].
pub fn spawn_heir(config: Config, inheritance: Inheritance) -> io::Result<(Handle, JoinHandle<()>, Vec<Inherited>)> {
    start(config, Some(inheritance))
}

fn start(config: Config, inheritance: Option<Inheritance>) -> io::Result<(Handle, JoinHandle<()>, Vec<Inherited>)> {
    let (commands, command_receiver) = mpsc::unbounded_channel();
    let (routes, route_receiver) = watch::channel(None);
    let (learned_sender, learned) = watch::channel(LearnedRoutes::default());
    let events = broadcast::Sender::new(EVENTS_KEPT);
    let (interfaces, wanted) = watch::channel(unnumbered(&config));
    let discovered = watch::Sender::new(Discovered::default());
    let handle = Handle { commands, routes, learned, events: events.clone(), interfaces, discovered };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seed = RandomState::new().hash_one(std::process::id());
    let looking = handle.clone();
    let discovery = supervise(move || discovery::run(looking.clone(), wanted.clone(), seed));
    let mut driver = Driver::new(config, seed, events, learned_sender);
    let inherited = inheritance.map(|inheritance| {
        let _runtime = runtime.enter();
        driver.inherit(inheritance, seed)
    });
    let thread = std::thread::Builder::new().name("bgp".to_owned()).spawn(move || {
        runtime.spawn(discovery);
        runtime.block_on(tokio::task::unconstrained(driver.run(command_receiver, route_receiver)));
    })?;
    Ok((handle, thread, inherited.unwrap_or_default()))
}

/// How long discovery rests after a fault of ours.
const AGAIN: Duration = Duration::from_secs(1);

/// A task that panics is followed by another: nobody else would notice that neighbours are no longer discovered.
async fn supervise<T: Future<Output = ()> + Send + 'static>(mut task: impl FnMut() -> T) {
    while tokio::spawn(task()).await.is_err() {
        tracing::error!("the discovery of neighbours has panicked, a fault of ours; it begins anew");
        tokio::time::sleep(AGAIN).await;
    }
}

impl Handle {
    /// Replaces the whole set of routes to announce. Never blocks; if the speaker is busy the latest set wins. Until the first
    /// call nothing is announced: "not known yet" is not "none".
    pub fn set_routes(&self, routes: Arc<RouteSet>) {
        self.routes.send_replace(Some(routes));
    }

    /// Replaces the configuration. Each peer is disturbed no more than its change needs.
    pub fn reconfigure(&self, config: Config) -> Result<(), Gone> {
        let interfaces = unnumbered(&config);
        self.send(Command::Reconfigure(Box::new(config)))?;
        self.interfaces.send_replace(interfaces);
        Ok(())
    }

    /// Everything there is to see.
    pub async fn snapshot(&self) -> Result<Snapshot, Gone> {
        self.ask(Command::Snapshot).await
    }

    /// Every peer.
    pub async fn neighbors(&self) -> Result<Vec<Neighbor>, Gone> {
        self.ask(Command::Neighbors).await
    }

    /// What is announced, and how it stands with every peer.
    pub async fn routes(&self) -> Result<Vec<Route>, Gone> {
        self.ask(Command::Routes).await
    }

    /// What peers told us, used or not, and what was refused with the reason.
    pub async fn learned(&self) -> Result<Vec<Learned>, Gone> {
        self.ask(Command::Learned).await
    }

    /// How it stands with the listening addresses.
    pub async fn listeners(&self) -> Result<Vec<ListenerStatus>, Gone> {
        self.ask(Command::Listeners).await
    }

    /// Closes one session and opens it again; the text goes to the other operator (RFC 9003). Whether there is such a peer.
    pub async fn reset(&self, peer: PeerAddress, text: String) -> Result<bool, Gone> {
        self.ask(|reply| Command::Reset(peer, text, reply)).await
    }

    /// Router advertisements show this neighbour on an interface, or no longer any.
    pub fn discovered(&self, interface: String, address: Option<Ipv6Addr>) -> Result<(), Gone> {
        self.discovered.send_if_modified(|known| {
            if known.get(&interface) == address.as_ref() {
                return false;
            }
            let known = Arc::make_mut(known);
            match address {
                Some(address) => known.insert(interface.clone(), address),
                None => known.remove(&interface),
            };
            true
        });
        self.send(Command::Discovered(interface, address))
    }

    /// The neighbours discovered, always the latest.
    pub fn watch_discovered(&self) -> watch::Receiver<Discovered> {
        self.discovered.subscribe()
    }

    /// BFD has seen that the path to a peer works.
    pub fn bfd_up(&self, peer: PeerAddress) -> Result<(), Gone> {
        self.send(Command::BfdUp(peer))
    }

    /// BFD has seen the path to a peer fail.
    pub fn bfd_down(&self, peer: PeerAddress, failure: BfdFailure) -> Result<(), Gone> {
        self.send(Command::BfdDown(peer, failure))
    }

    /// A peer has taken its end of BFD down on purpose.
    pub fn bfd_disabled(&self, peer: PeerAddress) -> Result<(), Gone> {
        self.send(Command::BfdDisabled(peer))
    }

    /// BFD no longer watches the path to a peer.
    pub fn bfd_gone(&self, peer: PeerAddress) -> Result<(), Gone> {
        self.send(Command::BfdGone(peer))
    }

    /// Neighbours going up and down, faulty messages, and that learned routes changed. A subscriber that falls far behind is told
    /// how much it missed.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The learned routes in use, always the latest.
    pub fn watch_learned(&self) -> watch::Receiver<LearnedRoutes> {
        self.learned.clone()
    }

    /// Makes all sessions ready to go on in another process: lets them finish what they are saying, at most a second, then stops
    /// everything, until what is answered is dropped.
    pub async fn hand_over(&self) -> Result<Leaving, Gone> {
        self.ask(Command::HandOver).await
    }

    /// Ends all sessions, waits until the peers were told, at most a second, and ends the thread.
    pub async fn shutdown(&self, how: Shutdown) -> Result<(), Gone> {
        self.ask(|reply| Command::Shutdown(how, reply)).await
    }

    /// Waits until the speaker's thread has ended: after [`Handle::shutdown`], or by a fault of ours. Nothing else tells of that.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    fn send(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).map_err(|_| Gone)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        answer.await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_followed_by_another() {
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        supervise(move || {
            let count = Arc::clone(&count);
            async move { assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "a fault") }
        })
        .await;
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }
}
