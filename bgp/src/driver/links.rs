//! What the kernel says of links and IPv6 addresses, as soon as it changes.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

use super::sockets;
use crate::speaker::{Link, Links};

/// A socket that hears when a link or an IPv6 address changes; what exactly is looked up afterwards.
#[derive(Debug)]
pub(super) struct Notices(AsyncFd<OwnedFd>);

/// The interfaces that notices were about; `None`: some notices were lost, so it may be any.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Noticed(Option<BTreeSet<u32>>);

impl Notices {
    pub(super) fn open() -> io::Result<Self> {
        const RTMGRP_LINK: u32 = 0x1;
        const RTMGRP_IPV6_IFADDR: u32 = 0x100;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, RTMGRP_LINK | RTMGRP_IPV6_IFADDR))?;
        sockets::watched(socket).map(Self)
    }

    /// Waits for a notice and takes all that are there. Cancel-safe.
    async fn next(&self) -> Noticed {
        let mut concerned = Some(BTreeSet::new());
        if let Ok(mut guard) = self.0.readable().await {
            let mut buffer = [0; 8192];
            loop {
                match recv(self.0.get_ref().as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    Ok(length) => {
                        let read = interfaces(buffer.get(..length).unwrap_or_default());
                        if let Some(concerned) = &mut concerned {
                            concerned.extend(read);
                        }
                    }
                    Err(nix::Error::ENOBUFS) => concerned = None,
                    Err(_) => break,
                }
            }
            guard.clear_ready();
        }
        Noticed(concerned)
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
        self.0.as_ref().map_or(!interfaces.is_empty(), |noticed| !noticed.is_disjoint(interfaces))
    }
}

/// The indexes in a run of rtnetlink messages about links and addresses. `struct ifinfomsg` and `struct ifaddrmsg` have the
/// index in the same place.
fn interfaces(mut messages: &[u8]) -> BTreeSet<u32> {
    /// `RTM_NEWLINK`, `RTM_DELLINK`, `RTM_NEWADDR`, `RTM_DELADDR`.
    const TYPES: [u16; 4] = [16, 17, 20, 21];
    let mut found = BTreeSet::new();
    while let (Some(length), Some(kind)) = (octets(messages, 0), octets(messages, 4)) {
        if let Some(index) = octets(messages, 20).filter(|_| TYPES.contains(&u16::from_ne_bytes(kind))) {
            found.insert(u32::from_ne_bytes(index));
        }
        // Messages begin at multiples of four octets; one that claims to be shorter than its header ends the run.
        let length = usize::try_from(u32::from_ne_bytes(length)).unwrap_or(usize::MAX).max(16);
        messages = messages.get(length.saturating_add(3) & !3..).unwrap_or_default();
    }
    found
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// What these links are like now. An error says nothing of any link: without files to spare the kernel cannot be asked.
pub(super) fn read(indexes: &BTreeSet<u32>) -> io::Result<Links> {
    let addresses = link_local_addresses()?;
    let mut links = Links::new();
    // Every interface has one entry with an address of its link layer; that one bears the index.
    for entry in nix::ifaddrs::getifaddrs()? {
        let index = entry.address.as_ref().and_then(|address| address.as_link_addr()).map(LinkAddr::ifindex);
        let Some(index) = index.and_then(|index| u32::try_from(index).ok()).filter(|index| indexes.contains(index))
        else {
            continue;
        };
        let link_local = addresses.iter().filter(|(on, _)| *on == index).map(|(_, address)| *address).collect();
        let running = entry.flags.contains(InterfaceFlags::IFF_RUNNING);
        links.insert(index, Link { name: entry.interface_name, running, link_local });
    }
    Ok(links)
}

/// All link-local addresses, with the index of their interface.
fn link_local_addresses() -> io::Result<Vec<(u32, Ipv6Addr)>> {
    let text = addresses()?;
    Ok(text.lines().filter_map(link_local_address).map(|line| (line.index, line.address)).collect())
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
    pub(super) index: u32,
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
    let &[address, index, _, _, flags, interface] = fields.as_slice() else { return None };
    let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
    let index = u32::from_str_radix(index, 16).ok()?;
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let tentative = flags & TENTATIVE != 0;
    (address.is_unicast_link_local() && flags & DAD_FAILED == 0).then_some(LinkLocal {
        index,
        interface,
        address,
        tentative,
    })
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
        for length in [0, 15, u32::MAX] {
            let mut bad = good.clone();
            bad[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(interfaces(&bad).contains(&7), "{length}");
        }
    }

    #[test]
    fn only_notices_about_links_in_use_matter() {
        let used = BTreeSet::from([7]);
        assert!(Noticed(Some([6, 7].into())).concerns(&used));
        assert!(!Noticed(Some([6].into())).concerns(&used));
        assert!(Noticed(None).concerns(&used), "some were lost");
        assert!(!Noticed(None).concerns(&BTreeSet::new()));
    }

    #[test]
    fn link_local_addresses_are_read_with_their_state() {
        let line = |flags: &str| format!("fe800000000000000000000000000001 1f 40 20 {flags}     eth0");
        let read = |line: &str| link_local_address(line).map(|l| (l.index, l.interface.to_owned(), l.tentative));
        assert_eq!(read(&line("80")), Some((31, "eth0".into(), false)));
        assert_eq!(read(&line("c0")), Some((31, "eth0".into(), true)));
        assert_eq!(read(&line("88")), None, "duplicate");
        assert_eq!(read("20010db8000000000000000000000001 02 40 00 80 eth0"), None, "global");
        assert_eq!(read("nonsense"), None);
    }

    #[test]
    fn the_loopback_link_runs_and_one_that_does_not_exist_is_not_there() {
        let lo = sockets::interface_index("lo").unwrap();
        let links = read(&[lo, 0x7fff_fff0].into()).unwrap();
        assert_eq!(links.keys().copied().collect::<Vec<_>>(), [lo]);
        assert_eq!(links[&lo].name, "lo");
    }
}
