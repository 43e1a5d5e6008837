//! What the speaker and its peers are told to do. Plain values, checked by whoever makes them; the names follow the keys of the
//! configuration file.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::policy::{ExportRule, MaxPrefixes, PrefixList, Role};
use crate::types::{Asn, Families, Family, Prefix};

/// The port of BGP (RFC 4271 §4).
pub const BGP_PORT: u16 = 179;

/// What holds for the speaker as a whole.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SpeakerConfig {
    /// Our AS number.
    pub asn: Asn,
    /// Our BGP Identifier; not 0.0.0.0 (RFC 6286 §2.1).
    pub router_id: Ipv4Addr,
    /// Accept a negotiated hold time of 0, that is: no keepalives, and a dead peer is never noticed (RFC 4271 §4.2).
    pub allow_hold_time_zero: bool,
    /// External peers without a prefix list get and give nothing (RFC 8212).
    pub ebgp_requires_policy: bool,
    /// Offer graceful restart (RFC 4724); `None`: neither offer it nor help a restarting peer.
    pub graceful_restart: Option<GracefulRestart>,
    /// The longest list of equally good next hops `learned` routes are given.
    pub max_paths: usize,
    /// From where peers are accepted that are not configured one by one; each prefix once.
    pub listen_ranges: Vec<ListenRange>,
}

impl SpeakerConfig {
    /// The defaults of the configuration file, for this AS and identifier.
    pub fn new(asn: Asn, router_id: Ipv4Addr) -> Self {
        Self {
            asn,
            router_id,
            allow_hold_time_zero: false,
            ebgp_requires_policy: false,
            graceful_restart: Some(GracefulRestart::default()),
            max_paths: 16,
            listen_ranges: Vec::new(),
        }
    }
}

/// Addresses from which anybody may dial ("dynamic neighbours").
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ListenRange {
    /// The addresses. Of several prefixes that hold one, the longest counts.
    pub prefix: Prefix,
    /// How many peers there may be at once.
    pub limit: u32,
    /// The options each of them has. Its address is not looked at, and a peer that dialled us is never dialled.
    pub template: PeerConfig,
}

/// Our side of graceful restart (RFC 4724 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GracefulRestart {
    /// How long peers are asked to keep our routes while we are away; at most 4095 s, sent in whole seconds.
    pub restart_time: Duration,
    /// We have restarted and our forwarding state was preserved: the first OPEN to each peer carries the R bit.
    pub restarted: bool,
    /// The longest time the routes of a peer are kept when it does not come back in its restart time (RFC 9494); zero: not at all.
    pub long_lived: Duration,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self { restart_time: Duration::from_mins(2), restarted: false, long_lived: Duration::ZERO }
    }
}

/// Who a peer is: the key it is configured, shown and logged by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum PeerAddress {
    /// A neighbour with an address of its own.
    Numbered(IpAddr),
    /// A neighbour known by its link-local address on one of our interfaces.
    LinkLocal(Ipv6Addr, String),
    /// Whoever router advertisements show to be at the other end of this interface ("unnumbered").
    Interface(String),
}

impl PeerAddress {
    /// The interface the peer is bound to by its address, if it is.
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::Numbered(_) => None,
            Self::LinkLocal(_, interface) | Self::Interface(interface) => Some(interface),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbered(address) => write!(f, "{address}"),
            Self::LinkLocal(address, interface) => write!(f, "{address}%{interface}"),
            Self::Interface(interface) => f.write_str(interface),
        }
    }
}

/// Which AS number a peer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum RemoteAs {
    /// This one.
    Number(Asn),
    /// Ours.
    Internal,
    /// Any but ours.
    External,
    /// Any; the OPEN decides whether the peer is internal or external.
    Auto,
}

impl fmt::Display for RemoteAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(asn) => write!(f, "{asn}"),
            Self::Internal => f.write_str("internal"),
            Self::External => f.write_str("external"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// Another AS number towards one external peer, for a site that changes its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct LocalAs {
    /// Ours, as this peer knows it: in our OPEN, and first in the paths it is told.
    pub asn: Asn,
    /// Do not show our real AS number behind it.
    pub replace_as: bool,
}

/// How a TCP-AO connection is signed (RFC 5925 §3.1, RFC 5926): the parts of a master key tuple besides the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TcpAo {
    /// SendID: what our segments name the key by; the peer's `RecvID`.
    pub send_id: u8,
    /// `RecvID`: what the peer's segments name it by.
    pub receive_id: u8,
    /// The MAC.
    pub algorithm: AoAlgorithm,
}

/// The algorithms every implementation of TCP-AO has (RFC 5926 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum AoAlgorithm {
    /// HMAC-SHA-1-96.
    #[default]
    HmacSha1,
    /// AES-128-CMAC-96.
    Aes128Cmac,
}

/// A password. Never printed.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Secret(String);

impl Secret {
    /// The longest key TCP-MD5 takes on Linux, in octets (`TCP_MD5SIG_MAXKEYLEN`).
    pub const MAX_LEN: usize = 80;

    /// Wraps a password.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The password itself, for the socket option only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether routes whose AS_PATH holds our own AS are accepted (RFC 4271 §9.1.2: they are loops).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum AllowAsIn {
    /// No.
    #[default]
    No,
    /// If our AS is the originator only: the case of several hosts of one AS behind the same fabric.
    Origin,
    /// If it occurs at most this often.
    Count(u8),
}

/// The families in which several paths to a prefix are told apart by their identifiers (RFC 7911), where the peer agrees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct AddPath {
    /// The peer may tell us several paths.
    pub receive: Families,
    /// Ours carry identifiers; there is one to each prefix.
    pub send: Families,
}

impl AddPath {
    /// Send/Receive of the capability for `family`, if it is listed there (RFC 7911 §4): 1 receive, 2 send, 3 both.
    pub const fn mode(self, family: Family) -> Option<u8> {
        match (self.receive.contains(family), self.send.contains(family)) {
            (false, false) => None,
            (true, false) => Some(1),
            (false, true) => Some(2),
            (true, true) => Some(3),
        }
    }
}

/// How an IPv6 next hop on a link-local session is written (RFC 2545 §3 leaves the case without a global address open).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum NextHopFormat {
    /// 16 octets if the peer announced capability 77, else like `Double`.
    #[default]
    Auto,
    /// 16 octets: the link-local address.
    Single,
    /// 32 octets: the link-local address twice, what FRR sends.
    Double,
    /// 32 octets: `::` and the link-local address.
    Native,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PeerConfig {
    /// Who it is.
    pub address: PeerAddress,
    /// A word for the operator.
    pub description: Option<String>,
    /// Which AS number it may have.
    pub remote_as: RemoteAs,
    /// Our AS number towards this peer, where it is another one.
    pub local_as: Option<LocalAs>,
    /// TCP-MD5 password (RFC 2385).
    pub password: Option<Secret>,
    /// Sign with TCP-AO (RFC 5925) instead of TCP-MD5; the password is the secret.
    pub tcp_ao: Option<TcpAo>,
    /// Families to offer; those the peer offers too are exchanged.
    pub families: Families,
    /// Several paths to a prefix (RFC 7911): off by default.
    pub add_path: AddPath,
    /// Whether routes with our own AS in their path are accepted.
    pub allowas_in: AllowAsIn,
    /// Proposed hold time; 0 or at least 3 s (RFC 4271 §4.2).
    pub hold_time: Duration,
    /// The longest time between KEEPALIVEs; a third of the negotiated hold time if that is less or this is `None`.
    pub keepalive: Option<Duration>,
    /// How long the peer may take nothing of what it is sent (RFC 9687): more than the hold time (§4.4); 0: for ever; `None`: eight
    /// minutes or twice the negotiated hold time, whichever is longer.
    pub send_hold_time: Option<Duration>,
    /// Time between attempts to connect (RFC 4271 §8.2.2 ConnectRetryTime).
    pub connect_retry: Duration,
    /// GTSM (RFC 5082): the peer is at most this many hops away; packets from farther are dropped by the kernel.
    pub ttl_security: Option<u8>,
    /// For an external peer that is more than one hop away: the TTL to send with. 1 by default, 64 or more to any internal peer.
    pub multihop: Option<u8>,
    /// Announce ourselves as next hop for every route, whatever the route says.
    pub next_hop_self: bool,
    /// How IPv6 next hops are written on a link-local session.
    pub next_hop_format: NextHopFormat,
    /// Which prefixes the peer is told; `None`: all of ours.
    pub prefix_list_out: Option<Arc<PrefixList>>,
    /// Which prefixes are taken from the peer; `None`: all.
    pub prefix_list_in: Option<Arc<PrefixList>>,
    /// Attributes to set on what the peer is told.
    pub export_rules: Vec<ExportRule>,
    /// Our role towards an external peer (RFC 9234).
    pub role: Option<Role>,
    /// Refuse an external peer that has no role ("strict mode", RFC 9234 §4.2).
    pub role_strict: bool,
    /// The path of an external peer has to begin with its AS number (RFC 4271 §6.3); not so for route servers (RFC 7947 §2.2.2.1).
    pub enforce_first_as: bool,
    /// How much the peer may announce in one family.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Wait for the peer to dial.
    pub passive: bool,
    /// The address to dial from, and the only one a connection of this peer is accepted on.
    pub local_address: Option<IpAddr>,
    /// The device a numbered peer's socket is bound to; interface peers are bound to theirs in any case.
    pub bind_interface: Option<String>,
    /// The port to dial.
    pub port: u16,
    /// Announce our routes with the GRACEFUL_SHUTDOWN community and LOCAL_PREF 0 (RFC 8326).
    pub graceful_shutdown: bool,
    /// No session while BFD has not seen the path to the peer work.
    pub wait_for_bfd: bool,
    /// Keep the peer configured but down; the text goes into the NOTIFICATION (RFC 9003).
    pub shutdown: Option<String>,
}

impl PeerConfig {
    /// Our AS number as this peer knows it.
    pub fn our_as(&self, speaker: &SpeakerConfig) -> Asn {
        self.local_as.map_or(speaker.asn, |local| local.asn)
    }

    /// Whether the configuration alone says that the peer is external.
    pub fn is_external(&self, speaker: &SpeakerConfig) -> bool {
        match self.remote_as {
            RemoteAs::External => true,
            RemoteAs::Number(asn) => asn != self.our_as(speaker),
            RemoteAs::Internal | RemoteAs::Auto => false,
        }
    }

    /// How long the peer may take nothing (RFC 9687), with this hold time; `None`: for ever.
    ///
    /// §4.3: the timer is stopped if its time or the hold time is zero. §6: the default is the greater of eight minutes and twice the
    /// hold time.
    pub(crate) fn send_hold(&self, hold_time: Duration) -> Option<Duration> {
        const DEFAULT: Duration = Duration::from_mins(8);
        let time = self.send_hold_time.unwrap_or_else(|| (hold_time * 2).max(DEFAULT));
        (!hold_time.is_zero() && !time.is_zero()).then_some(time)
    }

    /// The defaults of the configuration file.
    pub fn new(address: PeerAddress, remote_as: RemoteAs) -> Self {
        Self {
            address,
            description: None,
            remote_as,
            local_as: None,
            password: None,
            tcp_ao: None,
            families: Families::ALL,
            add_path: AddPath::default(),
            allowas_in: AllowAsIn::No,
            hold_time: Duration::from_secs(90),
            keepalive: None,
            send_hold_time: None,
            connect_retry: Duration::from_secs(10),
            ttl_security: None,
            multihop: None,
            next_hop_self: true,
            next_hop_format: NextHopFormat::Auto,
            prefix_list_out: None,
            prefix_list_in: None,
            export_rules: Vec::new(),
            role: None,
            role_strict: false,
            enforce_first_as: true,
            max_prefixes: None,
            passive: false,
            local_address: None,
            bind_interface: None,
            port: BGP_PORT,
            graceful_shutdown: false,
            wait_for_bfd: false,
            shutdown: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let config = PeerConfig {
            password: Some(Secret::new("foobar")),
            ..PeerConfig::new(PeerAddress::Interface("eth0".into()), RemoteAs::Internal)
        };
        assert!(!format!("{config:?}").contains("foobar"));
    }

    #[test]
    fn a_peer_is_shown_as_it_is_configured() {
        let shown = |a: PeerAddress| a.to_string();
        assert_eq!(shown(PeerAddress::Numbered("10.0.0.1".parse().unwrap())), "10.0.0.1");
        assert_eq!(shown(PeerAddress::LinkLocal("fe80::1".parse().unwrap(), "eth0".into())), "fe80::1%eth0");
        assert_eq!(shown(PeerAddress::Interface("eth0".into())), "eth0");
    }
}
