//! The edge of [`crate::unnumbered`]: ICMPv6 sockets, the state of the links, one timer.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg};
use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::links::{self, Notices};
use super::{Handle, sockets};
use crate::unnumbered::message::Message;
use crate::unnumbered::{Discovery, Output, Settings};

/// Longer than any advertisement that fits a link of 1500 octets; what is cut off fails to parse.
const LONGEST: usize = 2048;
/// How often a socket that cannot be made is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Messages read from one socket before anything else has its turn.
const TURN: usize = 64;
/// Notices of the kernel come in bursts; and should one be lost, this is how late we are.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// One interface with peers to be discovered.
struct Interface {
    name: String,
    machine: Discovery,
    socket: Option<AsyncFd<Socket>>,
    /// Of the device the socket is bound to: another one of the same name needs another socket.
    index: u32,
    retry_at: Option<Instant>,
    /// The socket may hold more than was taken in so far.
    more: bool,
    /// The neighbour the speaker was told.
    told: Option<Ipv6Addr>,
}

/// What an interface is like now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Link {
    index: u32,
    mac: Option<[u8; 6]>,
    /// The link-local address, if the link is up and duplicate address detection is over.
    own: Option<Ipv6Addr>,
}

/// Looks for neighbours on the interfaces named, for as long as the speaker lives.
pub(super) async fn run(handle: Handle, mut wanted: watch::Receiver<BTreeSet<String>>, seed: u64) {
    let mut interfaces: BTreeMap<String, Interface> = BTreeMap::new();
    let notices =
        Notices::open().inspect_err(|error| tracing::warn!(%error, "links are looked at every few seconds only")).ok();
    let mut look_at = Instant::now();
    loop {
        let now = Instant::now();
        let names = wanted.borrow_and_update().clone();
        if names.len() != interfaces.len() || !names.iter().all(|name| interfaces.contains_key(name)) {
            for gone in configure(&mut interfaces, &names, seed) {
                // The speaker's end is the end of this task as well.
                let _ = handle.discovered(gone, None);
            }
            look_at = now;
        }
        if now >= look_at {
            look(now, &mut interfaces, link);
            look_at = now + LOOK_AGAIN;
        }
        for interface in interfaces.values_mut() {
            interface.machine.tick(now);
            interface.act(&handle);
        }
        let deadline = interfaces.values().filter_map(|i| i.machine.next_deadline()).chain([look_at]).min();
        let idle = interfaces.is_empty();
        let due = async {
            match deadline.filter(|_| !idle) {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            _ = links::noticed(notices.as_ref()) => look_at = Instant::now(),
            name = readable(&interfaces) => if let Some(interface) = interfaces.get_mut(&name) {
                interface.read(Instant::now());
            },
            () = due => {}
        }
    }
}

/// Answers where nobody is looked for any more.
fn configure(interfaces: &mut BTreeMap<String, Interface>, names: &BTreeSet<String>, seed: u64) -> Vec<String> {
    let gone = interfaces.keys().filter(|name| !names.contains(*name)).cloned().collect();
    interfaces.retain(|name, interface| {
        let stays = names.contains(name);
        if !stays {
            // The peer is gone from the configuration: say goodbye.
            interface.machine.removed();
            interface.send_all();
        }
        stays
    });
    for name in names {
        interfaces.entry(name.clone()).or_insert_with(|| {
            warn_of_accept_ra(name);
            let salt = name.bytes().fold(seed, |sum, byte| sum.rotate_left(7) ^ u64::from(byte));
            Interface {
                name: name.clone(),
                machine: Discovery::new(Settings::default(), salt),
                socket: None,
                index: 0,
                retry_at: None,
                more: false,
                told: None,
            }
        });
    }
    gone
}

/// A leaf's advertisements would give the host a default route of the kernel's own, with metric 1024 and a lifetime of seconds.
fn warn_of_accept_ra(interface: &str) {
    let setting =
        |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/{name}")).unwrap_or_default();
    if heeds_advertisements(&setting("accept_ra"), &setting("forwarding")) {
        tracing::warn!(
            interface,
            "the kernel accepts router advertisements here and may install a default route of its own beside the learned one: \
             set net.ipv6.conf.{interface}.accept_ra = 0"
        );
    }
}

/// Whether the kernel does what advertisements say: an interface that forwards is a router's and ignores them, unless
/// `accept_ra` is 2.
fn heeds_advertisements(accept_ra: &str, forwarding: &str) -> bool {
    match accept_ra.trim() {
        "" | "0" => false,
        "1" => forwarding.trim() == "0",
        _ => true,
    }
}

/// Reads the state of all links. What cannot be read says nothing of any link: without files to spare the kernel cannot be asked.
fn look(now: Instant, interfaces: &mut BTreeMap<String, Interface>, read: impl Fn(&str) -> io::Result<Link>) {
    for interface in interfaces.values_mut() {
        match read(&interface.name) {
            Ok(link) => interface.set_link(now, link),
            Err(error) => tracing::warn!(interface = interface.name, %error, "cannot look at the link; as it was"),
        }
    }
}

/// What the kernel says of one link.
fn link(name: &str) -> io::Result<Link> {
    let mut link = Link { index: nix::net::if_::if_nametoindex(name).unwrap_or(0), ..Link::default() };
    let mut running = false;
    for entry in nix::ifaddrs::getifaddrs()?.filter(|entry| entry.interface_name == name) {
        running |= entry.flags.contains(nix::net::if_::InterfaceFlags::IFF_RUNNING);
        if let Some(found) =
            entry.address.as_ref().and_then(|a| a.as_link_addr()).and_then(nix::sys::socket::LinkAddr::addr)
        {
            link.mac = Some(found);
        }
    }
    if running && link.index != 0 {
        link.own = links::addresses()?.lines().find_map(|line| usable_link_local(line, name));
    }
    Ok(link)
}

/// The link-local address in a line of `/proc/net/if_inet6`, if it is this interface's and can be used.
fn usable_link_local(line: &str, name: &str) -> Option<Ipv6Addr> {
    let found = links::link_local_address(line).filter(|found| found.interface == name && !found.tentative)?;
    Some(found.address)
}

impl Interface {
    fn set_link(&mut self, now: Instant, link: Link) {
        if self.index != link.index {
            self.socket = None;
            self.retry_at = None;
            self.index = link.index;
        }
        if link.own.is_some() && self.socket.is_none() && self.retry_at.is_none_or(|at| at <= now) {
            match sockets::router_discovery(&self.name, link.index).and_then(sockets::watched) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => {
                    tracing::error!(
                        interface = self.name,
                        %error,
                        "cannot look for neighbours (CAP_NET_RAW is needed); tried again"
                    );
                    self.retry_at = Some(now + RETRY);
                }
            }
        }
        let own = link.own.filter(|_| self.socket.is_some());
        self.machine.link(now, link.mac, own);
    }

    /// Takes in a turn's worth of what the socket holds.
    fn read(&mut self, now: Instant) {
        let Some(socket) = &self.socket else { return };
        let messages = received(socket.get_ref());
        self.more = messages.len() == TURN;
        for (source, hop_limit, octets) in messages {
            match Message::parse(&octets, source, hop_limit) {
                Ok(message) => self.machine.received(now, source, message),
                Err(why) => tracing::debug!(interface = self.name, %source, %why, "ignoring a router message"),
            }
        }
    }

    fn act(&mut self, handle: &Handle) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Send { to, octets } => self.send(to, &octets),
                Output::Appeared(address) => {
                    tracing::info!(interface = self.name, %address, "neighbour discovered");
                }
                Output::Gone(address) => tracing::info!(interface = self.name, %address, "neighbour gone"),
            }
        }
        let neighbour = self.machine.neighbour();
        if self.told != neighbour {
            self.told = neighbour;
            // The speaker's end is the end of this task as well.
            let _ = handle.discovered(self.name.clone(), neighbour);
        }
    }

    fn send_all(&mut self) {
        while let Some(output) = self.machine.poll() {
            if let Output::Send { to, octets } = output {
                self.send(to, &octets);
            }
        }
    }

    fn send(&self, to: Ipv6Addr, octets: &[u8]) {
        let Some(socket) = &self.socket else { return };
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        if let Err(error) = socket.get_ref().send_to(octets, &to.into()) {
            tracing::debug!(interface = self.name, %error, "a router message was not sent");
        }
    }
}

/// Source, hop limit and octets of the messages that wait, at most a turn's worth.
fn received(socket: &Socket) -> Vec<(Ipv6Addr, u8, Vec<u8>)> {
    let mut found = Vec::new();
    let mut buffer = [0; LONGEST];
    while found.len() < TURN {
        let mut control = nix::cmsg_space!(libc::c_int);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let Ok(message) = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) else {
            break;
        };
        let hop_limit = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|part| match part {
                ControlMessageOwned::Ipv6HopLimit(limit) => u8::try_from(limit).ok(),
                _ => None,
            })
        });
        let (Some(source), length) = (message.address.map(|a| a.ip()), message.bytes) else { continue };
        // A message whose hop limit the kernel did not tell cannot be trusted to come from this link.
        let octets = buffer.get(..length).unwrap_or_default().to_vec();
        found.push((source, hop_limit.unwrap_or(0), octets));
    }
    found
}

/// Waits until one of the sockets can be read, and says whose.
async fn readable(interfaces: &BTreeMap<String, Interface>) -> String {
    poll_fn(|context| {
        for interface in interfaces.values() {
            let Some(socket) = &interface.socket else { continue };
            if interface.more {
                return Poll::Ready(interface.name.clone());
            }
            if let Poll::Ready(ready) = socket.poll_read_ready(context) {
                if let Ok(mut guard) = ready {
                    // What is left after a turn is remembered, so the next readiness is a new one.
                    guard.clear_ready();
                }
                return Poll::Ready(interface.name.clone());
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarding_interface_heeds_advertisements_only_when_told_twice() {
        let cases = [("0", "0", false), ("1", "0", true), ("1", "1", false), ("2", "1", true), ("2", "0", true)];
        for (accept_ra, forwarding, heeds) in cases {
            let answer = heeds_advertisements(&format!("{accept_ra}\n"), &format!("{forwarding}\n"));
            assert_eq!(answer, heeds, "accept_ra {accept_ra}, forwarding {forwarding}");
        }
        assert!(!heeds_advertisements("", ""), "no such interface yet");
    }

    /// Whose socket is one of UDP: that needs no privileges.
    fn interface() -> (Interface, Socket) {
        let socket = |to: &str| {
            let socket = Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).unwrap();
            socket.bind(&to.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let (ours, theirs) = (socket("[::1]:0"), socket("[::1]:0"));
        theirs.connect(&ours.local_addr().unwrap()).unwrap();
        let mut machine = Discovery::new(Settings::default(), 7);
        machine.link(Instant::now(), None, Some(Ipv6Addr::LOCALHOST));
        let socket = Some(sockets::watched(ours).unwrap());
        let name = "up1".to_owned();
        (Interface { name, machine, socket, index: 0, retry_at: None, more: false, told: None }, theirs)
    }

    #[tokio::test]
    async fn what_is_left_after_a_turn_has_the_next_one() {
        let (interface, theirs) = interface();
        for _ in 0..=TURN {
            theirs.send(b"nonsense").unwrap();
        }
        let mut interfaces = BTreeMap::from([(interface.name.clone(), interface)]);
        for _ in 0..2 {
            let name = tokio::time::timeout(Duration::from_secs(5), readable(&interfaces)).await.expect("forgotten");
            interfaces.get_mut(&name).unwrap().read(Instant::now());
        }
        let socket = interfaces["up1"].socket.as_ref().unwrap().get_ref();
        assert!(received(socket).is_empty() && !interfaces["up1"].more);
    }

    #[tokio::test]
    async fn a_kernel_that_cannot_be_asked_takes_no_neighbour_away() {
        let (mut interface, _theirs) = interface();
        let (now, leaf) = (Instant::now(), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2));
        interface.machine.received(now, leaf, Message::Advertisement { lifetime: Duration::from_secs(30) });
        let mut interfaces = BTreeMap::from([(interface.name.clone(), interface)]);
        look(now, &mut interfaces, |_| Err(io::Error::from_raw_os_error(libc::EMFILE)));
        assert_eq!(interfaces["up1"].machine.neighbour(), Some(leaf));
        look(now, &mut interfaces, |_| Ok(Link::default()));
        assert_eq!(interfaces["up1"].machine.neighbour(), None, "the link is really down");
    }

    #[test]
    fn only_a_finished_link_local_address_of_the_interface_is_usable() {
        let line = |flags: &str| format!("fe800000000000000000000000000001 02 40 20 {flags}     eth0");
        let own = Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
        assert_eq!(usable_link_local(&line("80"), "eth0"), own);
        assert_eq!(usable_link_local(&line("80"), "eth1"), None);
        assert_eq!(usable_link_local(&line("c0"), "eth0"), None, "tentative");
        assert_eq!(usable_link_local(&line("88"), "eth0"), None, "duplicate");
        assert_eq!(usable_link_local("20010db8000000000000000000000001 02 40 00 80 eth0", "eth0"), None, "global");
        assert_eq!(usable_link_local("nonsense", "eth0"), None);
    }
}
