//! Listening sockets: which there should be, and trying again where one could not be opened.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};

use super::Config;
use super::sockets::{self, KeyFor};
use crate::speaker::{PeerAddress, Secret};

/// The first wait before a socket that could not be opened is tried again; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How it stands with one listening address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerStatus {
    /// Address and port.
    pub address: SocketAddr,
    /// The interface it is bound to.
    pub interface: Option<String>,
    /// Why it does not listen; `None`: it does.
    pub error: Option<String>,
}

/// What a listening socket is known by. A change makes it another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    address: SocketAddr,
    interface: Option<String>,
    shared_port: bool,
}

#[derive(Debug)]
enum Listener {
    Open { socket: TcpListener, keys: Vec<(KeyFor, Secret)> },
    Failed { error: String, retry_at: Instant, wait: Duration },
}

/// All listening sockets.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    wanted: BTreeMap<Key, Vec<(KeyFor, Secret)>>,
    sockets: BTreeMap<Key, Listener>,
}

impl Listeners {
    /// Opens what the configuration wants, closes what it does not, changes passwords on what stays.
    pub(super) fn configure(&mut self, now: Instant, config: &Config) {
        self.wanted = wanted(config);
        let wanted = &self.wanted;
        self.sockets.retain(|key, _| wanted.contains_key(key));
        for (key, keys) in wanted {
            match self.sockets.get_mut(key) {
                Some(Listener::Open { socket, keys: held }) => {
                    if let Err(error) = change_keys(socket, held, keys) {
                        tracing::error!(address = %key.address, %error, "password not set");
                    }
                }
                Some(Listener::Failed { .. }) => {}
                None => {
                    let listener = open(now, key, keys, FIRST_WAIT);
                    self.sockets.insert(key.clone(), listener);
                }
            }
        }
    }

    /// When [`Listeners::retry`] has to be called next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let failed = self.sockets.values().filter_map(|listener| match listener {
            Listener::Failed { retry_at, .. } => Some(*retry_at),
            Listener::Open { .. } => None,
        });
        failed.min()
    }

    /// Tries those again whose time has come.
    pub(super) fn retry(&mut self, now: Instant) {
        for (key, listener) in &mut self.sockets {
            let Listener::Failed { retry_at, wait, .. } = listener else { continue };
            if *retry_at <= now
                && let Some(keys) = self.wanted.get(key)
            {
                let wait = (*wait * 2).min(LONGEST_WAIT);
                *listener = open(now, key, keys, wait);
            }
        }
    }

    pub(super) fn status(&self) -> Vec<ListenerStatus> {
        let status = |(key, listener): (&Key, &Listener)| {
            let (address, error) = match listener {
                Listener::Open { socket, .. } => (socket.local_addr().unwrap_or(key.address), None),
                Listener::Failed { error, .. } => (key.address, Some(error.clone())),
            };
            ListenerStatus { address, interface: key.interface.clone(), error }
        };
        self.sockets.iter().map(status).collect()
    }

    /// The next connection that came in.
    pub(super) fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<(TcpStream, SocketAddr)> {
        for (key, listener) in &self.sockets {
            let Listener::Open { socket, .. } = listener else { continue };
            match socket.poll_accept(context) {
                Poll::Ready(Ok(accepted)) => return Poll::Ready(accepted),
                // The connection is gone already, or there are too many open files. Looked at again whenever anything happens.
                Poll::Ready(Err(error)) => tracing::warn!(address = %key.address, %error, "connection not accepted"),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Closes all of them.
    pub(super) fn close(&mut self) {
        self.wanted.clear();
        self.sockets.clear();
    }
}

/// The sockets a configuration wants, with their passwords.
fn wanted(config: &Config) -> BTreeMap<Key, Vec<(KeyFor, Secret)>> {
    let mut addresses: BTreeMap<SocketAddr, Vec<(KeyFor, Secret)>> =
        config.listen.iter().map(|address| (SocketAddr::new(*address, config.port), vec![])).collect();
    // The same link-local address may be at the other end of several interfaces, with different passwords: a password belongs to
    // a socket of that interface alone.
    let mut interfaces: BTreeMap<String, Vec<(KeyFor, Secret)>> = BTreeMap::new();
    for peer in config.peers.iter().filter(|peer| peer.shutdown.is_none()) {
        let Some(password) = &peer.password else { continue };
        match &peer.address {
            PeerAddress::Numbered(remote) => {
                for (_, keys) in addresses.iter_mut().filter(|(local, _)| local.is_ipv6() == remote.is_ipv6()) {
                    keys.push((KeyFor::Address(*remote), password.clone()));
                }
            }
            PeerAddress::LinkLocal(remote, interface) => {
                let key = (KeyFor::Address(IpAddr::V6(*remote)), password.clone());
                interfaces.entry(interface.clone()).or_default().push(key);
            }
            PeerAddress::Interface(interface) => {
                interfaces.entry(interface.clone()).or_default().push((KeyFor::LinkLocal, password.clone()));
            }
        }
    }
    if config.listen.is_empty() {
        return BTreeMap::new();
    }
    let shared_port = !interfaces.is_empty();
    let general = addresses.into_iter().map(|(address, keys)| {
        let shared_port = shared_port && address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        (Key { address, interface: None, shared_port }, keys)
    });
    let bound = interfaces.into_iter().map(|(interface, keys)| {
        let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), config.port);
        (Key { address, interface: Some(interface), shared_port }, keys)
    });
    general.chain(bound).collect()
}

fn open(now: Instant, key: &Key, keys: &[(KeyFor, Secret)], wait: Duration) -> Listener {
    let socket = sockets::listen(key.address, key.interface.as_deref(), key.shared_port).and_then(|socket| {
        // Before the first connection can come in unsigned it would have to be faster than this.
        let mut held = Vec::new();
        change_keys(&socket, &mut held, keys)?;
        Ok((TcpListener::from_std(socket)?, held))
    });
    match socket {
        Ok((socket, keys)) => {
            tracing::info!(address = %key.address, interface = key.interface.as_deref(), "listening");
            Listener::Open { socket, keys }
        }
        Err(error) => {
            tracing::error!(%error, retry_seconds = wait.as_secs(), "not listening");
            Listener::Failed { error: error.to_string(), retry_at: now + wait, wait }
        }
    }
}

/// Makes the keys of a socket those that are wanted.
fn change_keys(
    socket: &impl std::os::fd::AsFd,
    held: &mut Vec<(KeyFor, Secret)>,
    wanted: &[(KeyFor, Secret)],
) -> io::Result<()> {
    for (whose, _) in held.iter().filter(|(whose, _)| !wanted.iter().any(|(w, _)| w == whose)) {
        sockets::set_key(socket, *whose, None)?;
    }
    for (whose, password) in wanted.iter().filter(|entry| !held.contains(entry)) {
        sockets::set_key(socket, *whose, Some(password))?;
    }
    wanted.clone_into(held);
    Ok(())
}
