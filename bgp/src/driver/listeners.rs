//! Listening sockets: which there should be, and trying again where one could not be opened.
//!
//! A password of a link-local peer belongs to its interface: the same address may be at the other end of several. The kernel keeps
//! keys per socket, so such an interface has a listening socket of its own beside the one for all addresses; and so has one that a
//! numbered peer is bound to, because an accepted connection does not say where it came in. Both need
//! `SO_REUSEPORT`, and among such sockets Linux takes the first that fits, not the one that fits best: those of interfaces have to be
//! opened first, and the general one again whenever one of them comes later. What comes in on such an interface never gets to the
//! general socket, so that one has the keys of all neighbours that are not bound elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};

use super::Config;
use super::sockets::{self, KeyFor, Signing};
use crate::speaker::PeerAddress;

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

/// A connection that came in.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
    /// Of the socket it came in by, if that takes one interface only.
    pub(super) interface: Option<String>,
}

/// What a listening socket is known by. A change makes it another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    address: SocketAddr,
    /// Name and index: an interface that was made anew is another one to the kernel.
    interface: Option<(String, u32)>,
    shared_port: bool,
}

impl Key {
    /// Takes everything, and shares its port with sockets that take one interface.
    const fn is_general(&self) -> bool {
        self.shared_port && self.interface.is_none()
    }

    fn interface_name(&self) -> Option<&str> {
        self.interface.as_ref().map(|(name, _)| name.as_str())
    }
}

#[derive(Debug)]
enum Listener {
    Open { socket: TcpListener, keys: Vec<Signing> },
    Failed { error: String, retry_at: Instant, wait: Duration },
}

/// All listening sockets.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    wanted: BTreeMap<Key, Vec<Signing>>,
    sockets: BTreeMap<Key, Listener>,
    /// No connection could be accepted, for want of files mostly: when to try again.
    accept_at: Option<Instant>,
    /// It has been said, and none could be since.
    refusing: bool,
}

impl Listeners {
    /// Opens what the configuration wants, closes what it does not, changes passwords on what stays.
    pub(super) fn configure(&mut self, now: Instant, config: &Config) {
        self.wanted = wanted(config);
        let wanted = &self.wanted;
        self.sockets.retain(|key, _| wanted.contains_key(key));
        if wanted.keys().any(|key| key.interface.is_some() && !self.sockets.contains_key(key)) {
            self.sockets.retain(|key, _| !key.is_general());
        }
        for (key, keys) in by_interface_first(wanted) {
            match self.sockets.get_mut(key) {
                Some(listener) => {
                    if let Listener::Open { socket, keys: held } = listener
                        && let Err(error) = change_keys(socket, held, keys)
                    {
                        // Without the password it would take anybody who claims to be that neighbour.
                        *listener = failed(now, &error, FIRST_WAIT);
                    }
                }
                None => {
                    self.sockets.insert(key.clone(), open(now, key, keys, FIRST_WAIT));
                }
            }
        }
    }

    /// Puts the sockets that take everything behind those that take one interface.
    fn reopen_general(&mut self, now: Instant) {
        for (key, keys) in self.wanted.iter().filter(|(key, _)| key.is_general()) {
            self.sockets.remove(key);
            self.sockets.insert(key.clone(), open(now, key, keys, FIRST_WAIT));
        }
    }

    /// When [`Listeners::retry`] has to be called next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let failed = self.sockets.values().filter_map(|listener| match listener {
            Listener::Failed { retry_at, .. } => Some(*retry_at),
            Listener::Open { .. } => None,
        });
        failed.chain(self.accept_at).min()
    }

    /// Tries those again whose time has come.
    pub(super) fn retry(&mut self, now: Instant) {
        self.accept_at = self.accept_at.filter(|at| *at > now);
        let mut bound_opened = false;
        for (key, listener) in &mut self.sockets {
            let Listener::Failed { retry_at, wait, .. } = listener else { continue };
            if *retry_at <= now
                && let Some(keys) = self.wanted.get(key)
            {
                let wait = (*wait * 2).min(LONGEST_WAIT);
                *listener = open(now, key, keys, wait);
                bound_opened |= key.interface.is_some() && matches!(listener, Listener::Open { .. });
            }
        }
        if bound_opened {
            self.reopen_general(now);
        }
    }

    pub(super) fn status(&self) -> Vec<ListenerStatus> {
        let status = |(key, listener): (&Key, &Listener)| {
            let (address, error) = match listener {
                Listener::Open { socket, .. } => (socket.local_addr().unwrap_or(key.address), None),
                Listener::Failed { error, .. } => (key.address, Some(error.clone())),
            };
            ListenerStatus { address, interface: key.interface_name().map(str::to_owned), error }
        };
        self.sockets.iter().map(status).collect()
    }

    /// The next connection that came in.
    pub(super) fn poll_accept(&mut self, now: Instant, context: &mut Context<'_>) -> Poll<Accepted> {
        if self.accept_at.is_some() {
            return Poll::Pending;
        }
        for (key, listener) in &self.sockets {
            let Listener::Open { socket, .. } = listener else { continue };
            // One that is gone already is passed over; not to ask for the next would be not to be woken for it.
            let next = loop {
                match socket.poll_accept(context) {
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    next => break next,
                }
            };
            match next {
                Poll::Ready(Ok((stream, remote))) => {
                    self.refusing = false;
                    let interface = key.interface_name().map(str::to_owned);
                    return Poll::Ready(Accepted { stream, remote, interface });
                }
                Poll::Ready(Err(error)) => {
                    if !std::mem::replace(&mut self.refusing, true) {
                        tracing::warn!(address = %key.address, %error, "cannot accept connections; trying again every second");
                    }
                    self.accept_at = Some(now + FIRST_WAIT);
                    return Poll::Pending;
                }
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
fn wanted(config: &Config) -> BTreeMap<Key, Vec<Signing>> {
    if config.listen.is_empty() {
        return BTreeMap::new();
    }
    let mut sockets = Sockets::default();
    for address in &config.listen {
        sockets.add(SocketAddr::new(*address, config.port), None, None);
    }
    for peer in config.peers.iter().filter(|peer| peer.shutdown.is_none()) {
        let key = |whose| Signing::of(peer, whose);
        let on_link = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), config.port);
        match &peer.address {
            PeerAddress::Numbered(remote) => {
                for address in config.listen.iter().filter(|address| address.is_ipv6() == remote.is_ipv6()) {
                    let address = SocketAddr::new(*address, config.port);
                    sockets.add(address, peer.bind_interface.as_deref(), key(KeyFor::Address(*remote)));
                }
            }
            PeerAddress::LinkLocal(remote, interface) if peer.password.is_some() => {
                sockets.add(on_link, Some(interface), key(KeyFor::Address(IpAddr::V6(*remote))));
            }
            PeerAddress::Interface(interface) if peer.password.is_some() => {
                sockets.add(on_link, Some(interface), key(KeyFor::LinkLocal));
            }
            PeerAddress::LinkLocal(..) | PeerAddress::Interface(_) => {}
        }
    }
    for range in config.speaker.listen_ranges.iter().filter(|range| range.template.shutdown.is_none()) {
        let key = Signing::of(&range.template, KeyFor::Prefix(range.prefix));
        for address in config.listen.iter().filter(|address| address.is_ipv6() == range.prefix.addr().is_ipv6()) {
            let address = SocketAddr::new(*address, config.port);
            sockets.add(address, range.template.bind_interface.as_deref(), key.clone());
        }
    }
    sockets.finish()
}

/// An address and the interface a socket is bound to.
type Place = (SocketAddr, Option<String>);

/// The sockets wanted, each once, with their passwords.
#[derive(Default)]
struct Sockets(BTreeMap<Place, Vec<Signing>>);

impl Sockets {
    fn add(&mut self, address: SocketAddr, interface: Option<&str>, key: Option<Signing>) {
        self.0.entry((address, interface.map(str::to_owned))).or_default().extend(key);
    }

    fn finish(mut self) -> BTreeMap<Key, Vec<Signing>> {
        self.share_general_keys();
        let bound: BTreeSet<SocketAddr> =
            self.0.keys().filter(|(_, interface)| interface.is_some()).map(|(address, _)| *address).collect();
        let key = |address, interface: Option<String>| Key {
            address,
            shared_port: bound.contains(&address),
            interface: interface.map(|name| {
                let index = sockets::interface_index(&name).unwrap_or(0);
                (name, index)
            }),
        };
        self.0.into_iter().map(|((address, interface), keys)| (key(address, interface), keys)).collect()
    }

    /// Gives sockets of interfaces the keys of the general one with the same address. Without them a neighbour that is bound to no
    /// interface could not sign there, and worse, need not.
    fn share_general_keys(&mut self) {
        let of_place = |((address, interface), keys): (&Place, &Vec<Signing>)| {
            interface.is_none().then(|| (*address, keys.clone()))
        };
        let general: BTreeMap<SocketAddr, Vec<Signing>> = self.0.iter().filter_map(of_place).collect();
        for ((address, interface), keys) in &mut self.0 {
            let Some(more) = general.get(address).filter(|_| interface.is_some()) else { continue };
            for key in more {
                if !keys.iter().any(|own| own.whose == key.whose) {
                    keys.push(key.clone());
                }
            }
        }
    }
}

/// In the order in which sockets have to be opened.
fn by_interface_first<T>(wanted: &BTreeMap<Key, T>) -> impl Iterator<Item = (&Key, &T)> {
    let (bound, general): (Vec<_>, Vec<_>) = wanted.iter().partition(|(key, _)| key.interface.is_some());
    bound.into_iter().chain(general)
}

fn open(now: Instant, key: &Key, keys: &[Signing], wait: Duration) -> Listener {
    let socket = sockets::listen(key.address, key.interface_name(), key.shared_port).and_then(|socket| {
        // Before the first connection can come in unsigned it would have to be faster than this.
        let mut held = Vec::new();
        change_keys(&socket, &mut held, keys)?;
        Ok((TcpListener::from_std(socket)?, held))
    });
    match socket {
        Ok((socket, keys)) => {
            tracing::info!(address = %key.address, interface = key.interface_name(), "listening");
            Listener::Open { socket, keys }
        }
        Err(error) => failed(now, &error, wait),
    }
}

fn failed(now: Instant, error: &io::Error, wait: Duration) -> Listener {
    tracing::error!(%error, retry_seconds = wait.as_secs(), "not listening");
    Listener::Failed { error: error.to_string(), retry_at: now + wait, wait }
}

/// Makes the keys of a socket those that are wanted.
fn change_keys(socket: &impl std::os::fd::AsFd, held: &mut Vec<Signing>, wanted: &[Signing]) -> io::Result<()> {
    // A TCP-MD5 password is exchanged in one step; a TCP-AO key is another one as soon as anything of it differs.
    let stays =
        |key: &Signing| wanted.iter().any(|w| w.whose == key.whose && (w == key || (w.ao, key.ao) == (None, None)));
    for key in held.iter().filter(|key| !stays(key)) {
        key.remove_from(socket)?;
    }
    for key in wanted.iter().filter(|key| !held.contains(key)) {
        match key.add_to(socket) {
            // The others need not suffer for it: a connection that should be signed like this and is not is refused later.
            Err(error) if key.ao.is_some() => tracing::error!(%error, "connections of a neighbor are refused"),
            result => result?,
        }
    }
    wanted.clone_into(held);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speaker::{PeerConfig, RemoteAs, Secret, SpeakerConfig};

    fn sockets(peers: Vec<PeerConfig>) -> Vec<(String, Option<String>, bool, usize)> {
        let config = Config { peers, ..Config::new(SpeakerConfig::new(65001, [10, 0, 0, 1].into())) };
        let shown = |(key, keys): (Key, Vec<_>)| {
            (key.address.to_string(), key.interface_name().map(str::to_owned), key.shared_port, keys.len())
        };
        wanted(&config).into_iter().map(shown).collect()
    }

    fn numbered(bind: Option<&str>) -> PeerConfig {
        PeerConfig {
            bind_interface: bind.map(str::to_owned),
            password: Some(Secret::new("x")),
            ..PeerConfig::new(PeerAddress::Numbered([10, 0, 0, 2].into()), RemoteAs::Internal)
        }
    }

    /// The kernel takes passwords of up to eighty octets, and has room for so many of them only.
    #[tokio::test]
    async fn a_socket_that_cannot_be_given_a_password_takes_nobody() {
        let mut config = Config {
            listen: vec![[127, 0, 0, 1].into()],
            port: 0,
            peers: vec![PeerConfig { password: None, ..numbered(None) }],
            ..Config::new(SpeakerConfig::new(65001, [10, 0, 0, 1].into()))
        };
        let (mut listeners, now) = (Listeners::default(), Instant::now());
        listeners.configure(now, &config);
        assert_eq!(listeners.status()[0].error, None);
        config.peers = vec![PeerConfig { password: Some(Secret::new("x".repeat(81))), ..numbered(None) }];
        listeners.configure(now, &config);
        assert!(listeners.status()[0].error.is_some());
        config.peers = vec![PeerConfig { password: None, ..numbered(None) }];
        listeners.configure(now, &config);
        listeners.retry(now + FIRST_WAIT);
        assert_eq!(listeners.status()[0].error, None, "tried again");
    }

    #[test]
    fn a_password_of_a_numbered_peer_is_on_the_socket_of_its_family() {
        let expected = [("0.0.0.0:179".into(), None, false, 1), ("[::]:179".into(), None, false, 0)];
        assert_eq!(sockets(vec![numbered(None)]), expected);
    }

    #[test]
    fn a_peer_that_is_bound_to_an_interface_is_heard_there() {
        let eth1 = Some("eth1".to_owned());
        let expected = [
            ("0.0.0.0:179".into(), None, true, 0),
            ("0.0.0.0:179".into(), eth1, true, 1),
            ("[::]:179".into(), None, false, 0),
        ];
        assert_eq!(sockets(vec![numbered(Some("eth1"))]), expected);
    }

    #[test]
    fn a_socket_of_an_interface_knows_the_keys_of_all_that_may_come_in_there() {
        let signed = |address, secret: &str, bind: Option<&str>| PeerConfig {
            bind_interface: bind.map(str::to_owned),
            password: Some(Secret::new(secret)),
            ..PeerConfig::new(address, RemoteAs::Internal)
        };
        let v6 = |n| PeerAddress::Numbered(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into());
        let peers = vec![
            signed(PeerAddress::Interface("eth1".into()), "link", None),
            signed(v6(1), "anywhere", None),
            signed(v6(2), "elsewhere", Some("eth2")),
            numbered(None),
        ];
        let config = Config { peers, ..Config::new(SpeakerConfig::new(65001, [10, 0, 0, 1].into())) };
        let whose = |interface: Option<&str>| {
            let found =
                wanted(&config).into_iter().find(|(key, _)| key.address.is_ipv6() && key.interface_name() == interface);
            found.map(|(_, keys)| keys.into_iter().map(|key| key.whose).collect::<Vec<_>>())
        };
        let address = |n| KeyFor::Address(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into());
        assert_eq!(whose(None), Some(vec![address(1)]));
        assert_eq!(whose(Some("eth1")), Some(vec![KeyFor::LinkLocal, address(1)]));
        assert_eq!(whose(Some("eth2")), Some(vec![address(2), address(1)]));
    }

    #[test]
    fn the_password_of_a_link_local_peer_has_a_socket_on_its_interface() {
        let peer = |password: Option<Secret>| PeerConfig {
            password,
            ..PeerConfig::new(PeerAddress::Interface("eth1".into()), RemoteAs::Internal)
        };
        assert_eq!(sockets(vec![peer(None)]).len(), 2, "without one the general socket will do");
        let eth1 = Some("eth1".to_owned());
        let expected = [
            ("0.0.0.0:179".into(), None, false, 0),
            ("[::]:179".into(), None, true, 0),
            ("[::]:179".into(), eth1, true, 1),
        ];
        assert_eq!(sockets(vec![peer(Some(Secret::new("x")))]), expected);
    }
}
