//! Sockets and their options: the only place with `unsafe`, and the only one that knows what Linux calls things.

#![allow(
    unsafe_code,
    reason = "what no safe wrapper has: TCP_MD5SIG, TCP_AO_ADD_KEY, IP_MINTTL, IPV6_MINHOPCOUNT, IP_TRANSPARENT, ICMP6_FILTER, UDP_NO_CHECK6_RX, SIOCOUTQ, scheduling, descriptors that came over an exec"
)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::net::if_::{if_indextoname, if_nametoindex};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::speaker::{AoAlgorithm, Ends, PeerConfig, Secret, SpeakerConfig, TcpAo};
use crate::types::Prefix;

/// DSCP CS6, "network control" (RFC 4594 §3.2), where it stands in the TOS octet.
const CS6: u32 = 0xc0;
/// What TTL is sent when the peer checks that it comes from nearby (RFC 5082 §3).
const GTSM_TTL: u8 = 255;
/// Where BFD control packets of single hop sessions go (RFC 5881 §4).
pub(super) const BFD_PORT: u16 = 3784;
/// How much of what was written may wait in the kernel to be sent. Without a limit the send buffer grows to megabytes; a KEEPALIVE
/// would have to wait behind them, and so would the latest word on a route behind older ones.
const UNSENT: u32 = 128 << 10;
/// Connections the kernel completes before we accept them.
const BACKLOG: c_int = 128;
/// `TCP_MD5SIG_EXT` of <linux/tcp.h>: like `TCP_MD5SIG`, with flags.
const TCP_MD5SIG_EXT: c_int = 32;
/// `TCP_MD5SIG_FLAG_PREFIX` of <linux/tcp.h>: the key is for a prefix.
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of <linux/tcp.h>.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: c_int,
    key: [u8; Secret::MAX_LEN],
}

/// `TCP_AO_ADD_KEY`, `TCP_AO_DEL_KEY` and `TCP_AO_INFO` of <linux/tcp.h>, since Linux 6.7.
const TCP_AO_ADD_KEY: c_int = 38;
const TCP_AO_DEL_KEY: c_int = 39;
const TCP_AO_INFO: c_int = 40;

/// `struct tcp_ao_add` of <linux/tcp.h>.
#[repr(C, align(8))]
struct TcpAoAdd {
    address: libc::sockaddr_storage,
    algorithm: [u8; 64],
    interface: c_int,
    flags: u32,
    reserved: u16,
    prefix_length: u8,
    send_id: u8,
    receive_id: u8,
    mac_length: u8,
    key_flags: u8,
    key_length: u8,
    key: [u8; Secret::MAX_LEN],
}

/// `struct tcp_ao_del` of <linux/tcp.h>.
#[repr(C, align(8))]
struct TcpAoDel {
    address: libc::sockaddr_storage,
    interface: c_int,
    flags: u32,
    reserved: u16,
    prefix_length: u8,
    send_id: u8,
    receive_id: u8,
    current_key: u8,
    next_key: u8,
    key_flags: u8,
}

/// A key for connections with somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signing {
    pub(super) whose: KeyFor,
    secret: Secret,
    /// TCP-AO, else TCP-MD5.
    pub(super) ao: Option<TcpAo>,
}

/// Whose connections a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFor {
    /// One address.
    Address(IpAddr),
    /// Every link-local address: on a socket that is bound to an interface.
    LinkLocal,
    /// Every address of a listen range. A narrower key wins.
    Prefix(Prefix),
}

impl KeyFor {
    /// The address, and how many bits of it count if not all.
    fn prefix(self) -> (IpAddr, Option<u8>) {
        match self {
            Self::Address(address) => (address, None),
            Self::LinkLocal => (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), Some(10)),
            Self::Prefix(prefix) => (prefix.network(), Some(prefix.prefix_len())),
        }
    }
}

impl KeyFor {
    /// The address as the kernel wants it, and how many of its bits count.
    fn storage(self) -> (libc::sockaddr_storage, u8) {
        let (address, length) = self.prefix();
        (storage(address), length.unwrap_or(if address.is_ipv4() { 32 } else { 128 }))
    }
}

fn storage(address: IpAddr) -> libc::sockaddr_storage {
    let address = SockAddr::from(SocketAddr::new(address, 0));
    // SAFETY: every field is an integer or an array of them, for which all zeroes are valid.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    // SAFETY: both are as long as `address.len()` says at least: `sockaddr_storage` holds every address, and `SockAddr` owns one of
    // that length. They do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut storage).cast::<u8>(),
            address.len() as usize,
        );
    }
    storage
}

/// What an operating system refused, and what to do about it.
fn explain(error: &io::Error, what: impl std::fmt::Display) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EACCES) => ": ports below 1024 need CAP_NET_BIND_SERVICE",
        Some(libc::EPERM) => ": this needs CAP_NET_RAW or CAP_NET_ADMIN",
        Some(libc::EADDRINUSE) => {
            ": another process listens there, perhaps another BGP daemon; stop it, or change bgp.listen or bgp.port"
        }
        Some(libc::EADDRNOTAVAIL) => ": the address is not configured on this host",
        Some(libc::ENODEV) => ": there is no such interface",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{what}: {error}{hint}"))
}

/// A listening socket. With `device` it takes only what comes in there.
pub(super) fn listen(
    address: SocketAddr,
    device: Option<&str>,
    shared_port: bool,
) -> io::Result<std::net::TcpListener> {
    let what = match device {
        Some(device) => format!("listening on {address} on {device}"),
        None => format!("listening on {address}"),
    };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    let prepare = || -> io::Result<()> {
        socket.set_reuse_address(true)?;
        // A wildcard socket and those bound to interfaces have the same port.
        socket.set_reuse_port(shared_port)?;
        if address.is_ipv6() {
            // TCP-MD5 keys of IPv4 peers would have to be given as mapped addresses otherwise.
            socket.set_only_v6(true)?;
            socket.set_unicast_hops_v6(u32::from(GTSM_TTL))?;
            socket.set_tclass_v6(CS6)?;
        } else {
            // The answer to a SYN is sent before we know whose it is; a peer with GTSM wants 255 there.
            socket.set_ttl_v4(u32::from(GTSM_TTL))?;
            socket.set_tos_v4(CS6)?;
        }
        if let Some(device) = device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)
    };
    prepare().map_err(|error| explain(&error, what))?;
    Ok(socket.into())
}

/// Starts to connect. The socket becomes writable when it is done, or has failed.
pub(super) fn dial(speaker: &SpeakerConfig, peer: &PeerConfig, address: IpAddr) -> io::Result<std::net::TcpStream> {
    let remote = scoped(address, peer.port, peer.address.interface())?;
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    prepare(&socket, speaker, peer, address)
        .map_err(|error| explain(&error, format!("preparing a connection to {remote}")))?;
    if let Some(interface) = peer.address.interface().or(peer.bind_interface.as_deref()) {
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(|error| explain(&error, format!("binding to interface {interface}")))?;
    }
    if let Some(local) = peer.local_address {
        let local = scoped(local, 0, peer.address.interface())?;
        socket.bind(&local.into()).map_err(|error| explain(&error, format!("binding to local_address {local}")))?;
    }
    if let Some(signing) = Signing::of(peer, KeyFor::Address(address)) {
        signing.add_to(&socket)?;
    }
    match socket.connect(&remote.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(io::Error::new(error.kind(), format!("connecting to {remote}: {error}"))),
    }
    Ok(socket.into())
}

/// Options every connection of a peer has, dialled or accepted.
pub(super) fn prepare(
    connection: &impl AsFd,
    speaker: &SpeakerConfig,
    peer: &PeerConfig,
    address: IpAddr,
) -> io::Result<()> {
    let socket = SockRef::from(connection);
    socket.set_tcp_nodelay(true)?;
    if let Some(send_hold) = peer.send_hold(peer.hold_time) {
        // A peer that is gone is noticed by the hold timer. The kernel counts one that acknowledges everything and has no room left,
        // because it is busy, as one that does not answer: it must not be faster than the send-hold timer.
        socket.set_tcp_user_timeout(Some(send_hold + peer.hold_time))?;
    }
    // Writing stops here and goes on when half of it is sent. A kernel without the option is no reason not to speak.
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT refused: KEEPALIVEs may wait behind UPDATEs");
    }
    let ttl = ttl(speaker, peer).map(u32::from);
    if address.is_ipv6() {
        socket.set_tclass_v6(CS6)?;
        if let Some(ttl) = ttl {
            socket.set_unicast_hops_v6(ttl)?;
        }
    } else {
        socket.set_tos_v4(CS6)?;
        if let Some(ttl) = ttl {
            socket.set_ttl_v4(ttl)?;
        }
    }
    if let Some(hops) = peer.ttl_security {
        set_min_ttl(connection, address.is_ipv6(), GTSM_TTL.saturating_sub(hops.saturating_sub(1)))?;
    }
    Ok(())
}

/// The TTL to send with; `None`: the system's default.
fn ttl(speaker: &SpeakerConfig, peer: &PeerConfig) -> Option<u8> {
    if peer.ttl_security.is_some() {
        return Some(GTSM_TTL);
    }
    peer.multihop.or(peer.is_external(speaker).then_some(1))
}

/// Sets or, without a password, removes a TCP-MD5 key (RFC 2385).
pub(super) fn set_key(socket: &impl AsFd, whose: KeyFor, password: Option<&Secret>) -> io::Result<()> {
    let key = password.map_or(&[][..], |p| p.reveal().as_bytes());
    let key_length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    // SAFETY: every field is an integer or an array of them, for which all zeroes are valid.
    let mut option: TcpMd5Sig = unsafe { zeroed() };
    let Some(place) = option.key.get_mut(..key.len()) else {
        let problem = format!("a TCP-MD5 password has at most {} octets, this one has {}", Secret::MAX_LEN, key.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    };
    place.copy_from_slice(key);
    option.key_length = key_length;
    let (address, length) = whose.prefix();
    if let Some(length) = length {
        option.flags = TCP_MD5SIG_FLAG_PREFIX;
        option.prefix_length = length;
    }
    let name = if length.is_some() { TCP_MD5SIG_EXT } else { libc::TCP_MD5SIG };
    option.address = storage(address);
    match set_option(socket, libc::IPPROTO_TCP, name, &option) {
        // Removing a key that is not there.
        Err(error) if key.is_empty() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => {
            let hint = match error.raw_os_error() {
                Some(libc::ENOMEM) => ": too many keys on one socket; raise the sysctl net.core.optmem_max",
                Some(libc::ENOPROTOOPT) => ": this kernel was built without TCP-MD5 (CONFIG_TCP_MD5SIG)",
                _ => "",
            };
            Err(io::Error::new(error.kind(), format!("setting the TCP-MD5 password: {error}{hint}")))
        }
        Ok(()) => Ok(()),
    }
}

impl Signing {
    /// How connections of a peer are signed, if they are.
    pub(super) fn of(peer: &PeerConfig, whose: KeyFor) -> Option<Self> {
        Some(Self { whose, secret: peer.password.clone()?, ao: peer.tcp_ao })
    }

    pub(super) fn add_to(&self, socket: &impl AsFd) -> io::Result<()> {
        match self.ao {
            None => set_key(socket, self.whose, Some(&self.secret)),
            Some(ao) => set_option(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &self.ao_key(ao)?)
                .map_err(|error| explain_ao(&error)),
        }
    }

    pub(super) fn remove_from(&self, socket: &impl AsFd) -> io::Result<()> {
        let Some(ao) = self.ao else { return set_key(socket, self.whose, None) };
        // SAFETY: every field is an integer or an array of them, for which all zeroes are valid.
        let mut option: TcpAoDel = unsafe { zeroed() };
        (option.address, option.prefix_length) = self.whose.storage();
        (option.send_id, option.receive_id) = (ao.send_id, ao.receive_id);
        match set_option(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &option) {
            // It was never there: the kernel may not know TCP-AO at all.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOPROTOOPT)) => Ok(()),
            result => result.map_err(|error| explain_ao(&error)),
        }
    }

    fn ao_key(&self, ao: TcpAo) -> io::Result<TcpAoAdd> {
        let secret = self.secret.reveal().as_bytes();
        // SAFETY: every field is an integer or an array of them, for which all zeroes are valid.
        let mut option: TcpAoAdd = unsafe { zeroed() };
        let place = option.key.get_mut(..secret.len());
        place.ok_or_else(|| io::Error::other("the TCP-AO secret is too long"))?.copy_from_slice(secret);
        option.key_length = u8::try_from(secret.len()).unwrap_or(u8::MAX);
        // As the kernel's cryptography calls them; without a length the MAC has the 96 bits of RFC 5926.
        let algorithm = match ao.algorithm {
            AoAlgorithm::HmacSha1 => "hmac(sha1)",
            AoAlgorithm::Aes128Cmac => "cmac(aes128)",
        };
        for (place, octet) in option.algorithm.iter_mut().zip(algorithm.bytes()) {
            *place = octet;
        }
        (option.address, option.prefix_length) = self.whose.storage();
        (option.send_id, option.receive_id) = (ao.send_id, ao.receive_id);
        Ok(option)
    }
}

fn explain_ao(error: &io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => {
            ": this kernel was built without TCP-AO (CONFIG_TCP_AO, Linux 6.7 or later); without 'tcp_ao' the password is one for TCP-MD5"
        }
        Some(libc::ENOENT) => ": the kernel lacks this algorithm",
        _ => "",
    };
    io::Error::new(error.kind(), format!("setting the TCP-AO key: {error}{hint}"))
}

/// Whether a connection is signed by TCP-AO.
pub(super) fn has_ao(connection: &impl AsFd) -> bool {
    // `struct tcp_ao_info_opt` has 48 octets.
    let mut info = [0_u64; 6];
    let mut length: libc::socklen_t = 48;
    // SAFETY: the kernel writes at most `length` octets to `info`, which has as many, and the length to `length`; both are live, and
    // the descriptor is open, as its owner is borrowed.
    let result = unsafe {
        libc::getsockopt(
            connection.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_AO_INFO,
            info.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
        )
    };
    result == 0
}

/// GTSM (RFC 5082 §3): the kernel drops what arrives with a smaller TTL.
fn set_min_ttl(socket: &impl AsFd, ipv6: bool, ttl: u8) -> io::Result<()> {
    let (level, name) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT) } else { (libc::IPPROTO_IP, libc::IP_MINTTL) };
    set_option(socket, level, name, &c_int::from(ttl))
}

fn set_option<T>(socket: &impl AsFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` is a live reference to `length` octets, which the kernel only reads; the descriptor is open, as its owner is
    // borrowed.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(value).cast::<c_void>(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a connection go on sending from its address although that is no longer ours; nothing will come back. Of IPv6 connections the
/// kernel does not ask whether it is. Needs CAP_NET_ADMIN or CAP_NET_RAW.
pub(super) fn send_from_lost_address(connection: &impl AsFd, ipv6: bool) -> io::Result<()> {
    if ipv6 { Ok(()) } else { set_option(connection, libc::IPPROTO_IP, libc::IP_TRANSPARENT, &1) }
}

/// Lets the runtime wait for a socket that it has no type of its own for.
pub(super) fn watched<T: AsRawFd + Into<OwnedFd>>(socket: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the types given here own their descriptor and never exchange it, so it stays open and the same one for as long as the
    // `AsyncFd`, which owns them in turn.
    unsafe { AsyncFd::register(socket) }.map_err(|error| error.into_parts().1)
}

/// A descriptor that a process before this one has left open for us over its `exec`. It is taken once: whatever this process opens
/// itself is closed on the next `exec`, and so is this from now on.
pub(super) fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return None;
    }
    // SAFETY: takes no pointers; of a descriptor that is not open it only says so.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    // SAFETY: the descriptor is open, and nobody in this process owns it: everything Rust's library and the crates used here open has
    // FD_CLOEXEC from the beginning, which this one lacks.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    set_close_on_exec(&descriptor, true).ok()?;
    Some(descriptor)
}

/// Whether a descriptor is closed by the next `exec`.
pub(super) fn set_close_on_exec(descriptor: &impl AsFd, closed: bool) -> io::Result<()> {
    let flags = if closed { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(descriptor, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// The connection between these ends, if that is what the descriptor is, and it is still one.
pub(super) fn connection(descriptor: OwnedFd, ends: &Ends) -> io::Result<std::net::TcpStream> {
    let socket = Socket::from(descriptor);
    let of = |address: SockAddr| address.as_socket();
    if socket.r#type()? != Type::STREAM {
        return Err(io::Error::other("its socket is none of TCP"));
    }
    let local = of(socket.local_addr()?);
    let remote = of(socket.peer_addr().map_err(|error| io::Error::new(error.kind(), "its connection was closed"))?);
    if (local, remote) != (Some(ends.local), Some(ends.remote)) {
        return Err(io::Error::other("its socket has other ends"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Every TCP socket that a process before this one has left open, whatever it meant to say with it.
pub(super) fn inherited_connections() -> Vec<OwnedFd> {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let numbers: Vec<RawFd> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let is_tcp = |number: &RawFd| {
        let link = std::fs::read_link(format!("/proc/self/fd/{number}"));
        link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
    };
    let sockets = numbers.into_iter().filter(is_tcp).filter_map(inherited);
    sockets.filter(|socket| SockRef::from(socket).protocol().ok().flatten() == Some(Protocol::TCP)).collect()
}

/// How many octets were written and not yet acknowledged by the other side's TCP.
pub(super) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut octets: c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes one int to the address given, which is that of a live one; the descriptor is open,
    // as it is borrowed.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut octets) };
    if result == 0 { Ok(u32::try_from(octets).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

/// A socket for router advertisements and solicitations on one interface. Needs CAP_NET_RAW.
pub(super) fn router_discovery(interface: &str, index: u32) -> io::Result<Socket> {
    const ICMP6_FILTER: c_int = 1;
    const SOLICITATION: u32 = 133;
    const ADVERTISEMENT: u32 = 134;
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    // RFC 3542 §3.2: a bit that is set blocks its type.
    let mut filter = [u32::MAX; 8];
    for kind in [SOLICITATION, ADVERTISEMENT] {
        if let Some(word) = filter.get_mut((kind >> 5) as usize) {
            *word &= !(1 << (kind & 31));
        }
    }
    set_option(&socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &filter)?;
    // RFC 4861 §4.1, §4.2: the hop limit is 255.
    socket.set_multicast_hops_v6(255)?;
    socket.set_unicast_hops_v6(255)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_multicast_if_v6(index)?;
    socket.set_recv_hoplimit_v6(true)?;
    socket.join_multicast_v6(&crate::unnumbered::message::ALL_ROUTERS, index)?;
    Ok(socket)
}

/// Room for what arrives while the thread does not run: some thousand control packets.
const BFD_BUFFER: usize = 1 << 20;

/// The socket on which BFD control packets of one family arrive. It tells TTL, interface and the time of arrival of each.
pub(super) fn bfd_listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let prepare = || -> io::Result<()> {
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            // RFC 6936: routers send BFD with a zero checksum; the TTL and the discriminators say enough.
            set_option(&socket, libc::IPPROTO_UDP, libc::UDP_NO_CHECK6_RX, &1)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        // Everybody may have a fifth of that by default, which a flood fills sooner; to have more needs CAP_NET_ADMIN.
        if setsockopt(&socket, sockopt::RcvBufForce, &BFD_BUFFER).is_err() {
            socket.set_recv_buffer_size(BFD_BUFFER)?;
        }
        socket.bind(&address.into())
    };
    prepare().map_err(|error| {
        let hint = match error.raw_os_error() {
            Some(libc::EADDRINUSE) => ": another process has the port, perhaps another BFD daemon; stop it",
            _ => "",
        };
        io::Error::new(error.kind(), format!("listening for BFD on UDP {address}: {error}{hint}"))
    })?;
    Ok(socket)
}

/// The socket a BFD session sends from. `port` is its source port: one to itself out of 49152–65535 (RFC 5881 §4).
pub(super) fn bfd_send_from(
    local: Option<IpAddr>,
    peer: IpAddr,
    interface: Option<&str>,
    port: u16,
) -> io::Result<(Socket, SocketAddr)> {
    let to = scoped(peer, BFD_PORT, interface)?;
    let unspecified = || if peer.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let from = scoped(local.unwrap_or_else(unspecified), port, interface)?;
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Nothing is read from it; what strangers send there is to take no memory.
    socket.set_recv_buffer_size(1)?;
    if peer.is_ipv6() {
        socket.set_unicast_hops_v6(u32::from(GTSM_TTL))?;
        socket.set_tclass_v6(CS6)?;
    } else {
        socket.set_ttl_v4(u32::from(GTSM_TTL))?;
        socket.set_tos_v4(CS6)?;
    }
    if let Some(interface) = interface {
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(|error| explain(&error, format!("binding to interface {interface}")))?;
    }
    socket.bind(&from.into())?;
    Ok((socket, to))
}

/// Lets the calling thread run before everything that is not real-time; threads and processes it makes are ordinary again.
pub(super) fn run_in_real_time() -> io::Result<()> {
    const PRIORITY: c_int = 10;
    // SAFETY: every field is an integer, for which zero is valid; on some targets there are more than this one.
    let mut parameters: libc::sched_param = unsafe { zeroed() };
    parameters.sched_priority = PRIORITY;
    // SAFETY: the structure is live and only read; 0 means the calling thread.
    let result =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps the memory of the process from being paged out, as it comes into use.
pub(super) fn lock_memory() -> io::Result<()> {
    // SAFETY: every field is an integer, for which zero is valid.
    let mut limit: libc::rlimit = unsafe { zeroed() };
    // SAFETY: the structure is live and written to by the kernel, which knows its length.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Within a limit, locking "what is to come" would make a later allocation fail.
    if limit.rlim_cur != libc::RLIM_INFINITY {
        return Err(io::Error::other("RLIMIT_MEMLOCK is not unlimited"));
    }
    // SAFETY: takes no pointers and changes nothing a program can see but time.
    let result = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A socket address; link-local ones need the interface.
fn scoped(address: IpAddr, port: u16, interface: Option<&str>) -> io::Result<SocketAddr> {
    match (address, interface) {
        (IpAddr::V6(v6), Some(interface)) if v6.is_unicast_link_local() => {
            let index = if_nametoindex(interface)
                .map_err(|error| io::Error::new(io::ErrorKind::NotFound, format!("interface {interface}: {error}")))?;
            Ok(SocketAddrV6::new(v6, port, 0, index).into())
        }
        _ => Ok(SocketAddr::new(address, port)),
    }
}

/// The name of an interface, if there is one of this number.
pub(super) fn interface_name(index: u32) -> Option<String> {
    // The wrapper takes the failure for an empty name.
    if_indextoname(index).ok()?.into_string().ok().filter(|name| !name.is_empty())
}

/// The number of an interface, if there is one of this name.
pub(super) fn interface_index(name: &str) -> Option<u32> {
    if_nametoindex(name).ok()
}

/// The interface a link-local peer is on.
pub(super) fn interface_of(remote: &SocketAddr) -> Option<String> {
    match remote {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => interface_name(v6.scope_id()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use std::time::Duration;

    use super::*;
    use crate::speaker::{PeerAddress, RemoteAs};

    #[test]
    fn the_key_structure_is_as_long_as_the_kernel_wants() {
        assert_eq!(size_of::<TcpMd5Sig>(), 216);
        assert_eq!((size_of::<TcpAoAdd>(), size_of::<TcpAoDel>()), (288, 144));
    }

    /// Where the kernel has TCP-AO a key can be set and taken away again; where it has not, the error says so.
    #[test]
    fn an_ao_key_is_set_or_the_error_says_what_is_missing() {
        let peer = PeerConfig {
            password: Some(Secret::new("between us")),
            tcp_ao: Some(TcpAo { send_id: 1, receive_id: 2, algorithm: AoAlgorithm::HmacSha1 }),
            ..PeerConfig::new(PeerAddress::Numbered([127, 0, 0, 1].into()), RemoteAs::External)
        };
        let socket = listen("127.0.0.1:0".parse().unwrap(), None, false).unwrap();
        for whose in [KeyFor::Address([127, 0, 0, 1].into()), KeyFor::Prefix("127.0.0.0/8".parse().unwrap())] {
            let signing = Signing::of(&peer, whose).unwrap();
            if let Err(error) = signing.add_to(&socket) {
                assert!(error.to_string().contains("this kernel was built without TCP-AO"), "{error}");
            }
            signing.remove_from(&socket).unwrap();
        }
        let stream = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        assert!(!has_ao(&stream), "nothing signs this one");
    }

    #[test]
    fn an_ao_key_is_laid_out_as_the_kernel_reads_it() {
        let ao = TcpAo { send_id: 7, receive_id: 9, algorithm: AoAlgorithm::Aes128Cmac };
        let peer = PeerConfig {
            password: Some(Secret::new("key")),
            tcp_ao: Some(ao),
            ..PeerConfig::new(PeerAddress::Numbered([192, 0, 2, 1].into()), RemoteAs::External)
        };
        let option = Signing::of(&peer, KeyFor::Address([192, 0, 2, 1].into())).unwrap().ao_key(ao).unwrap();
        assert_eq!((option.prefix_length, option.send_id, option.receive_id), (32, 7, 9));
        assert_eq!((option.key_length, &option.key[..4]), (3, &b"key\0"[..]));
        assert_eq!(&option.algorithm[..13], b"cmac(aes128)\0");
        assert_eq!(option.address.ss_family, u16::try_from(libc::AF_INET).unwrap());
    }

    #[test]
    fn the_time_to_live_says_how_far_away_the_peer_may_be() {
        let peer = |remote_as| PeerConfig::new(PeerAddress::Numbered([10, 0, 0, 1].into()), remote_as);
        let us = SpeakerConfig::new(1, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(ttl(&us, &peer(RemoteAs::Number(1))), None);
        assert_eq!(ttl(&us, &peer(RemoteAs::Internal)), None);
        assert_eq!(ttl(&us, &peer(RemoteAs::Number(2))), Some(1));
        assert_eq!(ttl(&us, &peer(RemoteAs::External)), Some(1));
        assert_eq!(ttl(&us, &PeerConfig { multihop: Some(5), ..peer(RemoteAs::External) }), Some(5));
        assert_eq!(ttl(&us, &PeerConfig { ttl_security: Some(1), ..peer(RemoteAs::External) }), Some(255));
    }

    #[test]
    fn a_connection_is_network_control_and_not_given_up_before_the_send_hold_timer() {
        let us = SpeakerConfig::new(1, Ipv4Addr::new(10, 0, 0, 2));
        let peer = |hold_time, send_hold_time: Option<u64>| PeerConfig {
            hold_time: Duration::from_secs(hold_time),
            send_hold_time: send_hold_time.map(Duration::from_secs),
            ..PeerConfig::new(PeerAddress::Numbered([127, 0, 0, 1].into()), RemoteAs::External)
        };
        let listener = listen("127.0.0.1:0".parse().unwrap(), None, false).unwrap();
        let port = listener.local_addr().unwrap().port();
        let rows = [
            (90, None, Some(480 + 90)),
            (300, None, Some(600 + 300)),
            (0, None, None),
            (9, Some(20), Some(20 + 9)),
            (9, Some(0), None),
            (0, Some(20), None),
        ];
        for (hold_time, send_hold_time, expected) in rows {
            let dialled =
                dial(&us, &PeerConfig { port, ..peer(hold_time, send_hold_time) }, [127, 0, 0, 1].into()).unwrap();
            let accepted = listener.accept();
            let accepted = accepted.map_or_else(|_| dialled.try_clone().unwrap(), |(stream, _)| stream);
            prepare(&accepted, &us, &peer(hold_time, send_hold_time), [127, 0, 0, 1].into()).unwrap();
            for stream in [&dialled, &accepted] {
                let socket = SockRef::from(stream);
                let timeout = socket.tcp_user_timeout().unwrap();
                assert_eq!(timeout, expected.map(Duration::from_secs), "hold time {hold_time}");
                assert_eq!((socket.tos_v4().unwrap(), socket.ttl_v4().unwrap()), (CS6, 1), "hold time {hold_time}");
                assert!(socket.tcp_nodelay().unwrap());
                assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
            }
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = listen(taken.local_addr().unwrap(), None, false).unwrap_err().to_string();
        assert!(
            error.contains(&taken.local_addr().unwrap().to_string()) && error.contains("another process"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_read_is_not_acknowledged_for_ever() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), None, false).unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(unacknowledged(stream.as_fd()).unwrap(), 0);
    }
}
