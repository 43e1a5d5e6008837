//! Bytes ⇄ values. No state; the only place that knows nom.
//!
//! [`frame`] finds the next message in a byte stream, [`decode`] turns one framed message into a [`Message`], [`encode`] is its
//! inverse. What a receiver has to do about a fault is part of the answer: an [`Error`] is a session reset with its
//! NOTIFICATION, anything milder (RFC 7606) is listed in [`Update::faults`].

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use bytes::Bytes;

use crate::types::{Asn, Families, Family, PeerKind, Prefix};

/// The length of the fixed header (RFC 4271 §4.1).
pub const HEADER_LEN: usize = 19;
/// The longest message without RFC 8654.
pub const MAX_LEN: usize = 4096;
/// The longest message with RFC 8654.
pub const MAX_EXTENDED_LEN: usize = 65535;

/// What a session has negotiated; needed to read and write its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// AS numbers in AS_PATH and AGGREGATOR have four octets (RFC 6793).
    pub as4: bool,
    /// Families both sides announced (RFC 4760 §8).
    pub families: Families,
    /// Families whose NLRI carry a path identifier in this direction (RFC 7911).
    pub add_path: Families,
    /// IPv4 NLRI may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Messages up to 65535 octets in this direction (RFC 8654).
    pub extended_message: bool,
    /// The peer announced enhanced route refresh (RFC 7313).
    pub enhanced_refresh: bool,
    /// External or internal peer; several RFC 7606 rules depend on it.
    pub peer: PeerKind,
}

impl Default for Context {
    /// What holds before an OPEN was exchanged.
    fn default() -> Self {
        Self {
            as4: false,
            families: Families::ALL,
            add_path: Families::NONE,
            extended_next_hop: false,
            extended_message: false,
            enhanced_refresh: false,
            peer: PeerKind::Ebgp,
        }
    }
}

/// One BGP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// RFC 4271 §4.2.
    Open(Open),
    /// RFC 4271 §4.3.
    Update(Box<Update>),
    /// RFC 4271 §4.5.
    Notification(Notification),
    /// RFC 4271 §4.4.
    Keepalive,
    /// RFC 2918, RFC 7313.
    RouteRefresh(RouteRefresh),
}

/// An OPEN message (RFC 4271 §4.2, RFC 5492, RFC 9072).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Protocol version, 4.
    pub version: u8,
    /// The two-octet My Autonomous System field; [`AS_TRANS`](crate::types::AS_TRANS) when the number does not fit.
    pub as2: u16,
    /// Proposed hold time in seconds.
    pub hold_time: u16,
    /// BGP Identifier (RFC 6286).
    pub router_id: Ipv4Addr,
    /// Every capability, in the order sent.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// The sender's AS number: the four-octet capability if present, else the two-octet field (RFC 6793 §4.1).
    pub fn asn(&self) -> Asn {
        self.capabilities
            .iter()
            .find_map(|c| match c {
                Capability::FourOctetAs(asn) => Some(*asn),
                _ => None,
            })
            .unwrap_or_else(|| u32::from(self.as2))
    }
}

/// A capability (RFC 5492).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// 1: multiprotocol (RFC 4760 §8), any AFI/SAFI.
    Multiprotocol {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
    },
    /// 2: route refresh (RFC 2918).
    RouteRefresh,
    /// 5: extended next hop (RFC 8950): (NLRI AFI, NLRI SAFI, next hop AFI).
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// 6: extended message (RFC 8654).
    ExtendedMessage,
    /// 9: BGP role (RFC 9234).
    Role(u8),
    /// 64: graceful restart (RFC 4724, RFC 8538).
    GracefulRestart {
        /// R bit: the speaker has restarted.
        restarted: bool,
        /// N bit: NOTIFICATIONs also preserve (RFC 8538).
        notification: bool,
        /// Restart time in seconds, 12 bits.
        restart_time: u16,
        /// (AFI, SAFI, F bit: forwarding state preserved).
        families: Vec<(u16, u8, bool)>,
    },
    /// 65: four-octet AS number (RFC 6793).
    FourOctetAs(Asn),
    /// 69: ADD-PATH (RFC 7911): (AFI, SAFI, send/receive: 1 receive, 2 send, 3 both).
    AddPath(Vec<(u16, u8, u8)>),
    /// 70: enhanced route refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// 71: long-lived graceful restart (RFC 9494): (AFI, SAFI, F bit, stale time in seconds, 24 bits).
    LongLivedGracefulRestart(Vec<(u16, u8, bool, u32)>),
    /// 73: host and domain name.
    Fqdn {
        /// Host name.
        host: String,
        /// Domain name.
        domain: String,
    },
    /// 75: software version.
    SoftwareVersion(String),
    /// 77: link-local next hop.
    LinkLocalNextHop,
    /// Anything else, or one of the above whose length is wrong: kept, otherwise ignored.
    Unknown {
        /// Capability code.
        code: u8,
        /// Its value.
        data: Bytes,
    },
}

/// A prefix with its path identifier, where ADD-PATH is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nlri {
    /// The prefix, masked to its length.
    pub prefix: Prefix,
    /// RFC 7911 path identifier.
    pub path_id: Option<u32>,
}

/// The next hop of a set of NLRI (RFC 4271 §5.1.3, RFC 4760 §3, RFC 2545 §3, RFC 8950).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextHop {
    /// Four octets.
    V4(Ipv4Addr),
    /// Sixteen octets.
    V6(Ipv6Addr),
    /// Thirty-two octets: (global or whatever stands first, link-local).
    V6Pair(Ipv6Addr, Ipv6Addr),
}

/// NLRI of one family with their next hop (RFC 4760 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MpReach {
    /// The family of the NLRI.
    pub family: Family,
    /// Their next hop.
    pub next_hop: NextHop,
    /// What is announced.
    pub nlri: Vec<Nlri>,
}

/// An UPDATE message (RFC 4271 §4.3).
///
/// The fields mirror the wire, so that `decode ∘ encode` is the identity. [`Update::faults`] is what RFC 7606 found; after it the
/// other fields hold what is left to be processed (discarded attributes are gone; for treat-as-withdraw every prefix is still where
/// it stood and [`Update::treatment`] says they have to be withdrawn).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Withdrawn Routes of the body (IPv4).
    pub withdrawn: Vec<Nlri>,
    /// Path attributes without NEXT_HOP, MP_REACH_NLRI and MP_UNREACH_NLRI.
    pub attributes: Attributes,
    /// NEXT_HOP, which belongs to the NLRI of the body.
    pub next_hop: Option<Ipv4Addr>,
    /// NLRI of the body (IPv4).
    pub nlri: Vec<Nlri>,
    /// MP_REACH_NLRI of a family we handle.
    pub mp_reach: Option<MpReach>,
    /// MP_UNREACH_NLRI of a family we handle; empty NLRI is an End-of-RIB (RFC 4724 §2).
    pub mp_unreach: Option<(Family, Vec<Nlri>)>,
    /// (AFI, SAFI) of MP attributes of families we do not handle: ignored.
    pub other_families: Vec<(u16, u8)>,
    /// What was wrong, in the order met.
    pub faults: Vec<Fault>,
}

impl Update {
    /// The strongest treatment any fault asks for (RFC 7606 §3(h)); `None` for a clean message.
    pub fn treatment(&self) -> Option<Treatment> {
        self.faults.iter().map(|f| f.treatment).max()
    }

    /// The family whose End-of-RIB this is (RFC 4724 §2): an UPDATE with nothing in it for IPv4 unicast, or with only an empty
    /// MP_UNREACH_NLRI.
    pub fn end_of_rib(&self) -> Option<Family> {
        if !self.withdrawn.is_empty()
            || !self.nlri.is_empty()
            || self.mp_reach.is_some()
            || !self.other_families.is_empty()
            || !self.faults.is_empty()
        {
            return None;
        }
        match &self.mp_unreach {
            Some((family, nlri)) if nlri.is_empty() => Some(*family),
            Some(_) => None,
            None => (self.attributes == Attributes::default() && self.next_hop.is_none()).then_some(Family::Ipv4),
        }
    }
}

/// ORIGIN (RFC 4271 §5.1.1), in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// 0.
    Igp,
    /// 1.
    Egp,
    /// 2.
    Incomplete,
}

/// One segment of an AS_PATH (RFC 4271 §4.3, RFC 5065).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// 2: ordered.
    Sequence(Vec<Asn>),
    /// 1: unordered (deprecated by RFC 9774).
    Set(Vec<Asn>),
    /// 3: ordered, within a confederation.
    ConfedSequence(Vec<Asn>),
    /// 4: unordered, within a confederation.
    ConfedSet(Vec<Asn>),
}

/// An AS_PATH.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AsPath(pub Vec<Segment>);

/// AGGREGATOR (RFC 4271 §5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Aggregator {
    /// The AS that aggregated.
    pub asn: Asn,
    /// The speaker that aggregated.
    pub router_id: Ipv4Addr,
}

/// A large community (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LargeCommunity {
    /// Global Administrator.
    pub global: u32,
    /// Local Data Part 1.
    pub local1: u32,
    /// Local Data Part 2.
    pub local2: u32,
}

/// An attribute we do not know (or know but leave opaque), kept as it came (RFC 4271 §5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnknownAttribute {
    /// Attribute flags as received.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub value: Bytes,
}

/// Path attributes that routes share. Ordered, hashable: equal attributes are packed into one UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attributes {
    /// ORIGIN; absent only where an UPDATE announces nothing.
    pub origin: Option<Origin>,
    /// AS_PATH, after AS4_PATH was merged in on a two-octet session (RFC 6793 §4.2.3).
    pub as_path: Option<AsPath>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE present.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, after AS4_AGGREGATOR was merged in.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<u32>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456).
    pub cluster_list: Vec<Ipv4Addr>,
    /// EXTENDED COMMUNITIES (RFC 4360).
    pub extended_communities: Vec<u64>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub otc: Option<Asn>,
    /// Unknown attributes: transitive ones are passed on with the Partial bit, others are not.
    pub unknown: Vec<UnknownAttribute>,
}

/// How bad a fault in an UPDATE is (RFC 7606 §2), mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Treatment {
    /// Drop the attribute, use the rest.
    AttributeDiscard,
    /// Withdraw every prefix of the message.
    TreatAsWithdraw,
}

/// One fault that does not end the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Octets from the start of the message (the Marker) to the fault.
    pub offset: usize,
    /// Attribute type code, where the fault is in an attribute.
    pub attribute: Option<u8>,
    /// What is wrong, for a log line.
    pub reason: String,
    /// What has to be done about it.
    pub treatment: Treatment,
}

/// A NOTIFICATION (RFC 4271 §4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Diagnostic data.
    pub data: Bytes,
}

/// A ROUTE-REFRESH (RFC 2918 §3, RFC 7313 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Address family identifier.
    pub afi: u16,
    /// 0: request, 1: beginning (BoRR), 2: end (EoRR).
    pub subtype: u8,
    /// Subsequent address family identifier.
    pub safi: u8,
}

/// A fault that ends the session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at octet {offset}")]
pub struct Error {
    /// Octets from the start of the message (the Marker) to the fault.
    pub offset: usize,
    /// What is wrong, for a log line.
    pub reason: String,
    /// What the peer has to be told.
    pub notification: Notification,
}
