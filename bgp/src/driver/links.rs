//! What the kernel says of links and addresses, as soon as it changes and now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use tokio::io::unix::AsyncFd;

use super::sockets;
use crate::speaker::{Address, Ends, Link, Links, PeerConfig};

/// How often one looks although no notice came: one that was lost must not leave routes towards an address that is gone for ever.
pub(super) const AUDIT: Duration = Duration::from_secs(30);
/// When one looks again after the kernel could not be asked.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// A socket that hears when a link or an address changes; what exactly is looked up afterwards.
#[derive(Debug)]
pub(super) struct Notices(AsyncFd<OwnedFd>);

/// What notices were about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Noticed {
    /// The interfaces; `None`: some notices were lost, so it may be any.
    interfaces: Option<BTreeSet<u32>>,
    /// There may be an address that was not there before, or could not be used yet.
    pub(super) new_address: bool,
}

impl Notices {
    pub(super) fn open() -> io::Result<Self> {
        const RTMGRP_LINK: u32 = 0x1;
        const RTMGRP_IPV4_IFADDR: u32 = 0x10;
        const RTMGRP_IPV6_IFADDR: u32 = 0x100;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        sockets::watched(socket).map(Self)
    }

    /// Waits for a notice and takes all that are there. Cancel-safe.
    async fn next(&self) -> Noticed {
        let (mut concerned, mut new_address) = (Some(BTreeSet::new()), false);
        if let Ok(mut guard) = self.0.readable().await {
            let mut buffer = [0; 8192];
            loop {
                match recv(self.0.get_ref().as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    Ok(length) => {
                        let run = buffer.get(..length).unwrap_or_default();
                        let read = interfaces(run);
                        new_address |= messages(run).any(|message| message.kind == NEWADDR);
                        if let Some(concerned) = &mut concerned {
                            concerned.extend(read);
                        }
                    }
                    Err(nix::Error::ENOBUFS) => (concerned, new_address) = (None, true),
                    Err(_) => break,
                }
            }
            guard.clear_ready();
        }
        Noticed { interfaces: concerned, new_address }
    }
}

/// Waits for a notice; for ever where there can be none. Cancel-safe.
pub(super) async fn noticed(notices: Option<&Notices>) -> Noticed {
    match notices {
        Some(notices) => notices.next().await,
        None => std::future::pending().await,
    }
}

impl Noticed {
    /// Whether one of these interfaces may have changed.
    pub(super) fn concerns(&self, interfaces: &BTreeSet<u32>) -> bool {
        self.interfaces.as_ref().map_or(!interfaces.is_empty(), |noticed| !noticed.is_disjoint(interfaces))
    }
}

/// Messages of rtnetlink (<linux/rtnetlink.h>).
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;

/// One message: its type, its flags, and what is behind its header.
struct Message<'a> {
    kind: u16,
    flags: u16,
    body: &'a [u8],
}

/// The messages in a run of them, as far as it can be read.
fn messages(mut run: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = octets(run, 0).map(u32::from_ne_bytes)?;
        let (kind, flags) = (octets(run, 4).map(u16::from_ne_bytes)?, octets(run, 6).map(u16::from_ne_bytes)?);
        // Messages begin at multiples of four octets; one that claims to be shorter than its header ends there.
        let length = usize::try_from(length).unwrap_or(usize::MAX).max(16);
        let body = run.get(16..length.min(run.len())).unwrap_or_default();
        run = run.get(length.saturating_add(3) & !3..).unwrap_or_default();
        Some(Message { kind, flags, body })
    })
}

/// Attributes: a type and a value each.
fn attributes(mut run: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(octets(run, 0).map(u16::from_ne_bytes)?).max(4);
        let kind = octets(run, 2).map(u16::from_ne_bytes)?;
        let value = run.get(4..length.min(run.len())).unwrap_or_default();
        run = run.get((length + 3) & !3..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The indexes in a run of rtnetlink messages about links and addresses. `struct ifinfomsg` and `struct ifaddrmsg` have the
/// index in the same place.
fn interfaces(run: &[u8]) -> BTreeSet<u32> {
    let index = |message: Message<'_>| {
        let about = [NEWLINK, DELLINK, NEWADDR, DELADDR].contains(&message.kind);
        octets(message.body, 4).filter(|_| about).map(u32::from_ne_bytes)
    };
    messages(run).filter_map(index).collect()
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// What the host is like now: these links, those that have these addresses, and all addresses. An error says nothing of any of them:
/// without files to spare the kernel cannot be asked.
pub(super) fn read(indexes: &BTreeSet<u32>, ours: &BTreeSet<IpAddr>) -> io::Result<Links> {
    let kernel = Kernel::open()?;
    let addresses = kernel.addresses()?;
    let homes = addresses.iter().filter(|own| ours.contains(&own.address)).map(|own| own.link);
    let wanted: BTreeSet<u32> = indexes.iter().copied().chain(homes).collect();
    let mut links = BTreeMap::new();
    for index in wanted {
        if let Some(link) = kernel.link(index)? {
            links.insert(index, link);
        }
    }
    Ok(Links { links, addresses })
}

/// The two ends of a connection, and what else we are on its interface.
pub(super) fn ends(local: SocketAddr, remote: SocketAddr, peer: &PeerConfig) -> Ends {
    match read(&BTreeSet::new(), &[local.ip()].into()) {
        Ok(links) => links.ends(local, remote, peer),
        Err(error) => {
            tracing::debug!(%error, "cannot look at our addresses");
            Ends::new(local, remote)
        }
    }
}

/// A socket to ask rtnetlink.
struct Kernel(OwnedFd);

impl Kernel {
    fn open() -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        // It answers at once, or never.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
        Ok(Self(socket))
    }

    /// All addresses. The kernel goes through them in pieces; what it says of a list that changed meanwhile may lack some that were
    /// there all the time, and is not believed.
    fn addresses(&self) -> io::Result<Vec<Address>> {
        const DUMP: u16 = 0x300;
        const TRIES: usize = 10;
        for _ in 0..TRIES {
            let mut addresses = Vec::new();
            let whole = self.ask(GETADDR, DUMP, &[0; 8], |kind, body| {
                addresses.extend((kind == NEWADDR).then(|| address(body)).flatten());
            })?;
            if whole {
                return Ok(addresses);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the addresses of this host change all the time"))
    }

    /// One link; `None`: there is none of this index.
    fn link(&self, index: u32) -> io::Result<Option<Link>> {
        let mut request = [0; 16];
        if let Some(place) = request.get_mut(4..8) {
            place.copy_from_slice(&index.to_ne_bytes());
        }
        let mut found = None;
        match self.ask(GETLINK, 0, &request, |kind, body| found = found.take().or_else(|| link(kind, body))) {
            Ok(_) => found.map(Some).ok_or_else(|| io::Error::other("no answer about a link")),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks, and hands out what the answer says. Whether the answer is whole.
    fn ask(&self, kind: u16, flags: u16, body: &[u8], mut take: impl FnMut(u16, &[u8])) -> io::Result<bool> {
        const REQUEST: u16 = 1;
        const INTERRUPTED: u16 = 0x10;
        const ERROR: u16 = 2;
        const DONE: u16 = 3;
        let length = u32::try_from(16 + body.len()).unwrap_or(0);
        let mut request = length.to_ne_bytes().to_vec();
        request.extend([kind.to_ne_bytes(), (flags | REQUEST).to_ne_bytes()].concat());
        request.extend([0; 8]);
        request.extend_from_slice(body);
        send(self.0.as_raw_fd(), &request, MsgFlags::empty())?;
        let (mut buffer, mut whole) = (vec![0; 1 << 16], true);
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                whole &= message.flags & INTERRUPTED == 0;
                match message.kind {
                    DONE => return Ok(whole),
                    ERROR => {
                        let number = octets(message.body, 0).map_or(libc::EIO, i32::from_ne_bytes);
                        return Err(io::Error::from_raw_os_error(-number));
                    }
                    kind => take(kind, message.body),
                }
            }
            if flags == 0 {
                return Ok(whole);
            }
        }
    }
}

/// `struct ifinfomsg` and its attributes.
fn link(kind: u16, body: &[u8]) -> Option<Link> {
    const IFLA_IFNAME: u16 = 3;
    const IFF_RUNNING: u32 = 0x40;
    let flags = u32::from_ne_bytes(octets(body, 8).filter(|_| kind == NEWLINK)?);
    let (_, name) = attributes(body.get(16..)?).find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    Some(Link { name, running: flags & IFF_RUNNING != 0 })
}

/// `struct ifaddrmsg` and its attributes; not an address that was found to be somebody else's.
fn address(body: &[u8]) -> Option<Address> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_FLAGS: u16 = 8;
    const TEMPORARY: u32 = 0x01;
    const OPTIMISTIC: u32 = 0x04;
    const DAD_FAILED: u32 = 0x08;
    const DEPRECATED: u32 = 0x20;
    const TENTATIVE: u32 = 0x40;
    let &[_, prefix_len, flags, _, ..] = body else { return None };
    let link = u32::from_ne_bytes(octets(body, 4)?);
    let (mut flags, mut ours, mut whole) = (u32::from(flags), None, None);
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            // Where both are there the other one is the far end of the link.
            IFA_LOCAL => ours = ip(value),
            IFA_ADDRESS => whole = ip(value),
            IFA_FLAGS => flags = octets(value, 0).map_or(flags, u32::from_ne_bytes),
            _ => {}
        }
    }
    let address = ours.or(whole).filter(|_| flags & DAD_FAILED == 0)?;
    Some(Address {
        link,
        address,
        prefix_len,
        tentative: flags & TENTATIVE != 0 && flags & OPTIMISTIC == 0,
        // Of IPv4 addresses the same bit says that there is an older one in the network.
        passing: flags & DEPRECATED != 0 || address.is_ipv6() && flags & TEMPORARY != 0,
    })
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))).ok()
}

/// The text of `/proc/net/if_inet6`.
pub(super) fn addresses() -> io::Result<String> {
    match std::fs::read_to_string("/proc/thread-self/net/if_inet6") {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text,
    }
}

/// A link-local address as `/proc/net/if_inet6` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkLocal<'a> {
    pub(super) interface: &'a str,
    pub(super) address: Ipv6Addr,
    /// Duplicate address detection is still under way.
    pub(super) tentative: bool,
}

/// A line of `/proc/net/if_inet6`: address, index, prefix length, scope, flags, name; all but the name in hexadecimal. Not one that
/// was found to be somebody else's.
pub(super) fn link_local_address(line: &str) -> Option<LinkLocal<'_>> {
    const DAD_FAILED: u32 = 0x08;
    const TENTATIVE: u32 = 0x40;
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let &[address, _, _, _, flags, interface] = fields.as_slice() else { return None };
    let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let tentative = flags & TENTATIVE != 0;
    (address.is_unicast_link_local() && flags & DAD_FAILED == 0).then_some(LinkLocal { interface, address, tentative })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, index: u32, rest: usize) -> Vec<u8> {
        let mut message = vec![0; 24 + rest];
        let length = u32::try_from(message.len()).unwrap();
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[20..24].copy_from_slice(&index.to_ne_bytes());
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[test]
    fn notices_say_which_interfaces_they_are_about() {
        // A link, a route and an address, the first of odd length.
        let run = [message(16, 7, 5), message(24, 8, 0), message(21, 9, 40)].concat();
        assert_eq!(interfaces(&run), [7, 9].into());
        assert!(interfaces(&[]).is_empty());
    }

    #[test]
    fn a_run_of_notices_that_is_cut_short_or_lies_about_its_length_is_read_as_far_as_it_goes() {
        let good = message(17, 7, 0);
        for cut in 0..good.len() {
            assert!(interfaces(&good[..cut]).is_empty(), "{cut}");
        }
        for (length, read) in [(0, false), (15, false), (u32::MAX, true)] {
            let mut bad = good.clone();
            bad[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(interfaces(&bad).contains(&7), read, "{length}");
        }
    }

    /// An attribute as the kernel writes it.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut octets = [u16::try_from(4 + value.len()).unwrap().to_ne_bytes(), kind.to_ne_bytes()].concat();
        octets.extend_from_slice(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    #[test]
    fn addresses_are_read_with_their_state() {
        let body = |family: u8, prefix_len, flags: u8, attributes: &[Vec<u8>]| {
            let head = [&[family, prefix_len, flags, 0][..], &7_u32.to_ne_bytes()].concat();
            [head, attributes.concat()].concat()
        };
        let expected = |address: &str, prefix_len| {
            Some(Address { link: 7, address: address.parse().unwrap(), prefix_len, tentative: false, passing: false })
        };
        let far_end = [attribute(1, &[10, 0, 0, 2]), attribute(2, &[10, 0, 0, 1]), attribute(3, b"eth1\0")];
        assert_eq!(address(&body(2, 32, 0x80, &far_end)), expected("10.0.0.1", 32), "ours, not the far end");
        let v6 = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        let with = |flags: u32| address(&body(10, 64, 0, &[attribute(1, &v6), attribute(8, &flags.to_ne_bytes())]));
        let plain = expected("2001:db8::1", 64).unwrap();
        for (flags, tentative, passing) in
            [(0x80, false, false), (0x40, true, false), (0x44, false, false), (0x01, false, true), (0x20, false, true)]
        {
            assert_eq!(with(flags), Some(Address { tentative, passing, ..plain }), "{flags:x}");
        }
        assert_eq!(with(0x48), None, "somebody else's");
        // The second address of an IPv4 network lasts as long as any.
        assert_eq!(address(&body(2, 24, 0x01, &[attribute(2, &[10, 0, 0, 3])])), expected("10.0.0.3", 24));
        let whole = body(2, 24, 0, &[attribute(2, &[10, 0, 0, 3])]);
        for cut in 0..whole.len() {
            assert_eq!(address(&whole[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn only_notices_about_links_in_use_matter() {
        let used = BTreeSet::from([7]);
        let noticed = |interfaces| Noticed { interfaces, new_address: false };
        assert!(noticed(Some([6, 7].into())).concerns(&used));
        assert!(!noticed(Some([6].into())).concerns(&used));
        assert!(noticed(None).concerns(&used), "some were lost");
        assert!(!noticed(None).concerns(&BTreeSet::new()));
    }

    #[test]
    fn link_local_addresses_are_read_with_their_state() {
        let line = |flags: &str| format!("fe800000000000000000000000000001 1f 40 20 {flags}     eth0");
        let read = |line: &str| link_local_address(line).map(|l| (l.interface.to_owned(), l.tentative));
        assert_eq!(read(&line("80")), Some(("eth0".into(), false)));
        assert_eq!(read(&line("c0")), Some(("eth0".into(), true)));
        assert_eq!(read(&line("88")), None, "duplicate");
        assert_eq!(read("20010db8000000000000000000000001 02 40 00 80 eth0"), None, "global");
        assert_eq!(read("nonsense"), None);
    }

    #[test]
    fn the_loopback_link_runs_and_one_that_does_not_exist_is_not_there() {
        let lo = sockets::interface_index("lo").unwrap();
        let Links { links, addresses } = read(&[0x7fff_fff0].into(), &[Ipv4Addr::LOCALHOST.into()].into()).unwrap();
        assert_eq!(links.keys().copied().collect::<Vec<_>>(), [lo], "it has the address");
        assert_eq!(links[&lo], Link { name: "lo".into(), running: true });
        let own = addresses.iter().find(|own| own.address == Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!((own.link, own.prefix_len, own.tentative, own.passing), (lo, 8, false, false));
    }
}
