//! The sockets control packets arrive on: one a family, open while there are sessions of the family.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use nix::sys::time::TimeSpec;
use socket2::Socket;
use tokio::io::unix::AsyncFd;

use super::super::sockets::{self, BFD_PORT};
use crate::bfd::Arrival;

/// How often a port that is taken is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// A control packet has 24 octets, 52 with the longest authentication; the Length field cannot say more than 255.
const LONGEST: usize = 512;
/// Packets read in one go from one socket: more than its buffer holds, unless they come in faster than they can be read.
const TURN: usize = 8192;
/// How long the name of an interface is believed.
const NAMES_KEPT: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Listener {
    Open {
        socket: AsyncFd<Socket>,
        /// When it was last found to be empty: nothing it holds came earlier.
        emptied: Instant,
    },
    Failed {
        error: String,
        retry_at: Instant,
    },
}

/// The receiving side.
#[derive(Debug)]
pub(super) struct Listeners {
    sockets: BTreeMap<SocketAddr, Listener>,
    names: BTreeMap<u32, String>,
    names_read: Instant,
}

impl Listeners {
    pub(super) fn new(now: Instant) -> Self {
        Self { sockets: BTreeMap::new(), names: BTreeMap::new(), names_read: now }
    }

    /// Opens and closes sockets so that those for the families of these peers are there.
    pub(super) fn configure(&mut self, now: Instant, peers: &[IpAddr]) {
        for address in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            let wanted = peers.iter().any(|peer| peer.is_ipv4() == address.is_ipv4());
            let address = SocketAddr::new(address, BFD_PORT);
            if wanted {
                self.sockets.entry(address).or_insert_with(|| open(now, address, None));
            } else {
                self.sockets.remove(&address);
            }
        }
    }

    /// Tries again what could not be opened.
    pub(super) fn retry(&mut self, now: Instant) {
        for (address, listener) in &mut self.sockets {
            if let Listener::Failed { error, retry_at } = listener
                && *retry_at <= now
            {
                *listener = open(now, *address, Some(error));
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let retries = self.sockets.values().filter_map(|listener| match listener {
            Listener::Failed { retry_at, .. } => Some(*retry_at),
            Listener::Open { .. } => None,
        });
        retries.min()
    }

    /// Why we do not listen, where we should.
    pub(super) fn failures(&self) -> BTreeMap<SocketAddr, String> {
        let failures = self.sockets.iter().filter_map(|(address, listener)| match listener {
            Listener::Failed { error, .. } => Some((*address, error.clone())),
            Listener::Open { .. } => None,
        });
        failures.collect()
    }

    /// Ready when a socket may hold something.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for listener in self.sockets.values() {
            if let Listener::Open { socket, .. } = listener
                && let Poll::Ready(guard) = socket.poll_read_ready(context)
            {
                if let Ok(mut guard) = guard {
                    // It is emptied after this, so the next readiness is a new one.
                    guard.clear_ready();
                }
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// Hands over everything the sockets hold, each packet with the time the kernel received it.
    pub(super) fn drain(&mut self, mut take: impl FnMut(&Arrival<'_>, &[u8])) {
        let now = Instant::now();
        if now.duration_since(self.names_read) > NAMES_KEPT {
            self.names.clear();
            self.names_read = now;
        }
        for listener in self.sockets.values_mut() {
            let Listener::Open { socket, emptied } = listener else { continue };
            let mut buffer = [0; LONGEST];
            for _ in 0..TURN {
                let Some(packet) = receive(socket.get_ref(), &mut buffer) else {
                    *emptied = now;
                    break;
                };
                let name = self.names.entry(packet.interface).or_insert_with(|| {
                    // An interface that is gone has no name, and no session of ours.
                    sockets::interface_name(packet.interface).unwrap_or_default()
                });
                let arrival = Arrival {
                    at: packet.at(*emptied),
                    source: packet.source,
                    interface: name,
                    // Without it the packet cannot be trusted to come from this link.
                    ttl: packet.ttl.unwrap_or(0),
                };
                take(&arrival, buffer.get(..packet.length).unwrap_or_default());
            }
        }
    }
}

fn open(now: Instant, address: SocketAddr, before: Option<&str>) -> Listener {
    match sockets::bfd_listen(address).and_then(sockets::watched) {
        Ok(socket) => {
            if before.is_some() {
                tracing::info!(%address, "listening for BFD");
            }
            Listener::Open { socket, emptied: now }
        }
        Err(error) => {
            let error = error.to_string();
            if before != Some(error.as_str()) {
                tracing::error!(error, "no BFD session can come up; tried again");
            }
            Listener::Failed { error, retry_at: now + RETRY }
        }
    }
}

/// A packet and what the kernel says of it.
struct Received {
    source: IpAddr,
    interface: u32,
    ttl: Option<u8>,
    stamp: Option<TimeSpec>,
    length: usize,
}

impl Received {
    /// When the kernel received it. Its stamp is of the clock that may be set: what cannot be is corrected.
    fn at(&self, emptied: Instant) -> Instant {
        arrived(Instant::now(), emptied, self.stamp.and_then(age))
    }
}

/// By the clock that may be set.
fn age(stamp: TimeSpec) -> Option<Duration> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since_epoch.saturating_sub(Duration::from(stamp)))
}

/// A packet that was not there when the socket was empty came after that, however old it claims to be.
fn arrived(now: Instant, emptied: Instant, age: Option<Duration>) -> Instant {
    now.checked_sub(age.unwrap_or_default()).map_or(emptied, |at| at.max(emptied))
}

/// The next packet; `None`: there is none.
fn receive(socket: &Socket, buffer: &mut [u8]) -> Option<Received> {
    loop {
        match try_receive(socket, buffer) {
            Ok(Some(received)) => return Some(received),
            // Not from an address of the family, which does not happen; or a signal.
            Ok(None) | Err(nix::errno::Errno::EINTR) => {}
            // Empty, or an error the kernel reports once, such as an ICMP message.
            Err(_) => return None,
        }
    }
}

fn try_receive(socket: &Socket, buffer: &mut [u8]) -> nix::Result<Option<Received>> {
    let mut control = cmsg_space!(libc::c_int, libc::in6_pktinfo, TimeSpec);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let source = message.address.as_ref().and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    let Some(source) = source else { return Ok(None) };
    let mut received = Received { source, interface: 0, ttl: None, stamp: None, length: message.bytes };
    for part in message.cmsgs()? {
        match part {
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                received.ttl = u8::try_from(ttl).ok();
            }
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                received.interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => received.interface = info.ipi6_ifindex,
            ControlMessageOwned::ScmTimestampns(stamp) => received.stamp = Some(stamp),
            _ => {}
        }
    }
    Ok(Some(received))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_makes_no_packet_older_than_the_last_look() {
        let emptied = Instant::now();
        let now = emptied + Duration::from_millis(300);
        let after = |ms| emptied + Duration::from_millis(ms);
        assert_eq!(arrived(now, emptied, Some(Duration::from_millis(100))), after(200));
        assert_eq!(arrived(now, emptied, Some(Duration::from_hours(1))), emptied, "the clock went forward");
        assert_eq!(arrived(now, emptied, Some(Duration::ZERO)), now, "the clock went back");
        assert_eq!(arrived(now, emptied, None), now);
    }

    #[test]
    fn a_port_that_is_taken_is_named_and_tried_again() {
        let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        let any: SocketAddr = "127.0.0.9:0".parse().unwrap();
        taken.bind(&any.into()).unwrap();
        let address = taken.local_addr().unwrap().as_socket().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _entered = runtime.enter();
        let now = Instant::now();
        let Listener::Failed { error, retry_at } = open(now, address, None) else { panic!("it opened") };
        assert!(error.contains(&address.to_string()) && error.contains("another process"), "{error}");
        drop(taken);
        let mut listeners = Listeners::new(now);
        listeners.sockets.insert(address, Listener::Failed { error, retry_at });
        listeners.retry(now);
        assert_eq!(listeners.failures().len(), 1, "too early");
        listeners.retry(retry_at);
        assert_eq!(listeners.failures().len(), 0);
    }
}
