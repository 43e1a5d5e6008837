//! OpenFlow messages ↔ bytes: header, hello with version bitmap, errors, echo, barrier, flow dump, bundles.
//!
//! Section numbers are those of the OpenFlow Switch Specification 1.4.0 unless another version is named.

use std::fmt;

use super::flow::{self, Flow, FoundFlow};

/// Length of the common header (§7.1).
const HEADER: usize = 8;
/// `OFPTFC`/`OFPTT_ALL`: any table.
const ANY_TABLE: u8 = 0xff;
/// `OFPP_ANY`, `OFPG_ANY`.
const ANY: u32 = 0xffff_ffff;
/// `OFP_NO_BUFFER`.
const NO_BUFFER: u32 = 0xffff_ffff;
/// `OFPMP_FLOW`, in 1.0 `OFPST_FLOW`.
const FLOW_STATS: u16 = 1;
/// `OFPMP_FLOW_MONITOR` (1.4).
const FLOW_MONITOR: u16 = 16;
/// More replies follow.
const MORE: u16 = 1;
/// `OFPBF_ATOMIC | OFPBF_ORDERED`.
const ATOMIC_ORDERED: u16 = 0b11;

const HELLO: u8 = 0;
const ERROR: u8 = 1;
const ECHO_REQUEST: u8 = 2;
const ECHO_REPLY: u8 = 3;
const FLOW_MOD: u8 = 14;
const BUNDLE_CONTROL: u8 = 33;
const BUNDLE_ADD: u8 = 34;

/// Versions spoken here, by their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Version {
    /// OpenFlow 1.0.
    V10 = 1,
    /// OpenFlow 1.3.
    V13 = 4,
    /// OpenFlow 1.4, the first with bundles.
    V14 = 5,
}

impl Version {
    /// All, best first.
    const ALL: [Self; 3] = [Self::V14, Self::V13, Self::V10];

    /// The best version that both sides speak, from the other side's hello.
    pub fn negotiate(theirs: Versions) -> Option<Self> {
        Self::ALL.into_iter().find(|version| theirs.0 & (1 << *version as u8) != 0)
    }

    fn barrier_request(self) -> u8 {
        if self == Self::V10 { 18 } else { 20 }
    }

    fn barrier_reply(self) -> u8 {
        self.barrier_request() + 1
    }

    fn stats_request(self) -> u8 {
        if self == Self::V10 { 16 } else { 18 }
    }

    fn stats_reply(self) -> u8 {
        self.stats_request() + 1
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V10 => "1.0",
            Self::V13 => "1.3",
            Self::V14 => "1.4",
        })
    }
}

/// A set of version numbers as in a hello's bitmap: bit n stands for version n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions(pub u32);

/// What to do with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add, or replace the flow with the same match and priority.
    Add(Flow),
    /// Remove the flow with exactly this match, priority and cookie (1.0 cannot look at the cookie).
    Remove(Flow),
}

/// Kinds of bundle control message (§7.3.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum Bundle {
    Open,
    OpenReply,
    Close,
    CloseReply,
    Commit,
    CommitReply,
    Discard,
    DiscardReply,
}

impl Bundle {
    const ALL: [Self; 8] = [
        Self::Open,
        Self::OpenReply,
        Self::Close,
        Self::CloseReply,
        Self::Commit,
        Self::CommitReply,
        Self::Discard,
        Self::DiscardReply,
    ];
}

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Versions the other side speaks.
    Hello(Versions),
    /// The request with the same transaction id was refused.
    Error(Refusal),
    /// To be answered with the same payload.
    EchoRequest(Vec<u8>),
    /// Some flows of a dump.
    Flows {
        /// The flows.
        flows: Vec<FoundFlow>,
        /// More are to come.
        more: bool,
    },
    /// Somebody else has added, changed or removed flows with these cookies; `None`: the switch could not keep up and does not
    /// say which.
    FlowUpdates(Vec<Option<u64>>),
    /// Everything before the barrier has been done.
    BarrierReply,
    /// About a bundle.
    Bundle(Bundle),
    /// A type nobody asked for.
    Other(u8),
}

/// An error message (§7.4.4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} (type {kind}, code {code}){}", if text.is_empty() { String::new() } else { format!(": {text}") })]
pub struct Refusal {
    /// Error type.
    pub kind: u16,
    /// Error code, whose meaning depends on the type.
    pub code: u16,
    /// The specification's name for both.
    pub name: String,
    /// Explanation, only given when no version is shared.
    pub text: String,
}

/// What came cannot be OpenFlow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed OpenFlow message of type {kind} from the switch")]
pub struct Malformed {
    /// Type of the message.
    pub kind: u8,
}

// ---- sending ----------------------------------------------------------------------------------------------------------------

/// Our hello (§7.5.1): the highest version in the header, all of them in the bitmap.
pub fn hello(xid: u32) -> Vec<u8> {
    let versions = Version::ALL.iter().fold(0u32, |bits, version| bits | 1 << *version as u8);
    // Element type 1 (version bitmap), length 8.
    let body = [&[0, 1, 0, 8][..], &versions.to_be_bytes()].concat();
    message(Version::V14, HELLO, xid, &body)
}

/// Answer to an echo request.
pub fn echo_reply(version: Version, xid: u32, payload: &[u8]) -> Vec<u8> {
    message(version, ECHO_REPLY, xid, payload)
}

/// Barrier: its reply says that everything before has been done.
pub fn barrier(version: Version, xid: u32) -> Vec<u8> {
    message(version, version.barrier_request(), xid, &[])
}

/// Asks for all flows, or with 1.3 and later for those with the cookie.
pub fn dump(version: Version, xid: u32, cookie: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    body.extend(FLOW_STATS.to_be_bytes());
    body.extend([0, 0]);
    if version == Version::V10 {
        body.extend(flow::match_10(None));
        body.extend([ANY_TABLE, 0]);
        body.extend(0xffff_u16.to_be_bytes());
    } else {
        body.extend([0; 4]);
        body.extend([ANY_TABLE, 0, 0, 0]);
        body.extend(ANY.to_be_bytes());
        body.extend(ANY.to_be_bytes());
        body.extend([0; 4]);
        body.extend(cookie.to_be_bytes());
        body.extend(u64::MAX.to_be_bytes());
        body.extend(flow::match_13(None));
    }
    message(version, version.stats_request(), xid, &body)
}

/// Asks to be told from now on what others do to the flows of a table (1.4, §7.3.5.17). Our own changes are told in short only.
pub fn monitor(xid: u32, table: u8) -> Vec<u8> {
    /// `OFPFMF_ADD | OFPFMF_REMOVED | OFPFMF_MODIFY`.
    const ALL_CHANGES: u16 = 0b1110;
    /// `OFPFMC_ADD`.
    const ADD: u8 = 0;
    let mut body = Vec::with_capacity(32);
    body.extend(FLOW_MONITOR.to_be_bytes());
    body.extend([0; 6]);
    body.extend(xid.to_be_bytes());
    body.extend(ANY.to_be_bytes());
    body.extend(ANY.to_be_bytes());
    body.extend(ALL_CHANGES.to_be_bytes());
    body.extend([table, ADD]);
    body.extend(flow::match_13(None));
    message(Version::V14, Version::V14.stats_request(), xid, &body)
}

/// Adds or removes a flow (§7.3.4.1; 1.0: §5.3.3).
pub fn flow_mod(version: Version, xid: u32, change: &Change) -> Vec<u8> {
    let (flow, remove) = match change {
        Change::Add(flow) => (flow, false),
        Change::Remove(flow) => (flow, true),
    };
    // OFPFC_ADD or OFPFC_DELETE_STRICT.
    let command: u8 = if remove { 4 } else { 0 };
    let mut body = Vec::with_capacity(128);
    if version == Version::V10 {
        body.extend(flow::match_10(Some(flow)));
        body.extend(flow.cookie.to_be_bytes());
        body.extend([0, command]);
        body.extend([0; 4]);
        body.extend(flow.priority.to_be_bytes());
        body.extend(NO_BUFFER.to_be_bytes());
        body.extend(0xffff_u16.to_be_bytes());
        body.extend([0; 2]);
        if !remove {
            body.extend(flow::actions_10(flow));
        }
    } else {
        body.extend(flow.cookie.to_be_bytes());
        // The mask restricts a removal to our own flows; in an addition it must be zero.
        body.extend(if remove { u64::MAX } else { 0 }.to_be_bytes());
        body.extend([flow.table, command]);
        body.extend([0; 4]);
        body.extend(flow.priority.to_be_bytes());
        body.extend(NO_BUFFER.to_be_bytes());
        body.extend(ANY.to_be_bytes());
        body.extend(ANY.to_be_bytes());
        body.extend([0; 4]);
        body.extend(flow::match_13(Some(flow)));
        if !remove {
            body.extend(flow::instructions_13(flow));
        }
    }
    message(version, FLOW_MOD, xid, &body)
}

/// Opens, commits or closes a bundle that is applied in order and entirely or not at all.
pub fn bundle(xid: u32, id: u32, kind: Bundle) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend((kind as u16).to_be_bytes());
    body.extend(ATOMIC_ORDERED.to_be_bytes());
    message(Version::V14, BUNDLE_CONTROL, xid, &body)
}

/// Puts a change into a bundle (§7.3.9.6: the inner message has the same transaction id).
pub fn bundle_add(xid: u32, id: u32, change: &Change) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.extend(ATOMIC_ORDERED.to_be_bytes());
    body.extend(flow_mod(Version::V14, xid, change));
    message(Version::V14, BUNDLE_ADD, xid, &body)
}

fn message(version: Version, kind: u8, xid: u32, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend([version as u8, kind]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(xid.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

// ---- receiving --------------------------------------------------------------------------------------------------------------

/// Length of the first message in the buffer once it is there entirely.
pub fn complete(buffer: &[u8]) -> Result<Option<usize>, Malformed> {
    let (Some(kind), Some(length)) = (buffer.get(1), u16_at(buffer, 2)) else { return Ok(None) };
    let length = usize::from(length);
    if length < HEADER {
        return Err(Malformed { kind: *kind });
    }
    Ok((buffer.len() >= length).then_some(length))
}

/// Reads one whole message: transaction id and content.
pub fn decode(bytes: &[u8]) -> Result<(u32, Message), Malformed> {
    let &[version, kind, ..] = bytes else { return Err(Malformed { kind: 0 }) };
    let body = bytes.get(HEADER..).unwrap_or_default();
    let xid = u32_at(bytes, 4).unwrap_or_default();
    decode_body(version, kind, body).map(|message| (xid, message)).ok_or(Malformed { kind })
}

fn decode_body(number: u8, kind: u8, body: &[u8]) -> Option<Message> {
    let version = match kind {
        HELLO => return Some(Message::Hello(read_hello(number, body))),
        ERROR => return read_error(number, body).map(Message::Error),
        ECHO_REQUEST => return Some(Message::EchoRequest(body.to_vec())),
        _ => Version::ALL.into_iter().find(|version| *version as u8 == number),
    };
    let Some(version) = version else { return Some(Message::Other(kind)) };
    if kind == version.barrier_reply() {
        return Some(Message::BarrierReply);
    }
    if kind == version.stats_reply() && u16_at(body, 0)? == FLOW_STATS {
        let flows = body.get(if version == Version::V10 { 4 } else { 8 }..)?;
        let flows = flow::read_flows(version, flows)?;
        return Some(Message::Flows { flows, more: u16_at(body, 2)? & MORE != 0 });
    }
    if kind == version.stats_reply() && version == Version::V14 && u16_at(body, 0)? == FLOW_MONITOR {
        return read_updates(body.get(8..)?).map(Message::FlowUpdates);
    }
    if kind == BUNDLE_CONTROL && version == Version::V14 {
        let control = Bundle::ALL.get(usize::from(u16_at(body, 4)?)).copied()?;
        return Some(Message::Bundle(control));
    }
    Some(Message::Other(kind))
}

/// §7.3.5.17: what was done, each with its length; our own changes come without details.
fn read_updates(mut updates: &[u8]) -> Option<Vec<Option<u64>>> {
    /// `OFPFME_ABBREV`.
    const OWN: u16 = 4;
    let mut found = Vec::new();
    while let Some(length) = u16_at(updates, 0) {
        match u16_at(updates, 2)? {
            ..OWN => found.push(Some(u64_at(updates, 16)?)),
            OWN => {}
            // Paused, resumed.
            _ => found.push(None),
        }
        updates = updates.get(usize::from(length).max(8)..)?;
    }
    Some(found)
}

/// §7.5.1: without a bitmap, all versions up to the one in the header.
fn read_hello(number: u8, mut elements: &[u8]) -> Versions {
    while let (Some(kind), Some(length)) = (u16_at(elements, 0), u16_at(elements, 2)) {
        if kind == 1
            && let Some(bitmap) = u32_at(elements, 4)
        {
            return Versions(bitmap);
        }
        elements = elements.get(usize::from(length).max(4).next_multiple_of(8)..).unwrap_or_default();
    }
    Versions(u32::MAX.checked_shr(31u32.saturating_sub(number.into())).unwrap_or(0))
}

fn read_error(number: u8, body: &[u8]) -> Option<Refusal> {
    let (kind, code) = (u16_at(body, 0)?, u16_at(body, 2)?);
    let text = match kind {
        // OFPET_HELLO_FAILED carries text, the others the offending request.
        0 => String::from_utf8_lossy(body.get(4..)?).trim_end_matches('\0').to_owned(),
        _ => String::new(),
    };
    Some(Refusal { kind, code, name: error_name(number, kind, code), text })
}

/// The specification's names of what our requests can provoke.
fn error_name(number: u8, kind: u16, code: u16) -> String {
    let flow_mod_failed = if number == Version::V10 as u8 { 3 } else { 5 };
    let (group, codes): (&str, &[&str]) = match kind {
        0 => ("HELLO_FAILED", &["INCOMPATIBLE", "EPERM"]),
        1 => (
            "BAD_REQUEST",
            &["BAD_VERSION", "BAD_TYPE", "BAD_STAT", "BAD_EXPERIMENTER", "BAD_EXP_TYPE", "EPERM", "BAD_LEN"],
        ),
        2 => {
            ("BAD_ACTION", &["BAD_TYPE", "BAD_LEN", "BAD_EXPERIMENTER", "BAD_EXP_TYPE", "BAD_OUT_PORT", "BAD_ARGUMENT"])
        }
        kind if kind == flow_mod_failed && kind == 3 => (
            "FLOW_MOD_FAILED",
            &["ALL_TABLES_FULL", "OVERLAP", "EPERM", "BAD_EMERG_TIMEOUT", "BAD_COMMAND", "UNSUPPORTED"],
        ),
        kind if kind == flow_mod_failed => (
            "FLOW_MOD_FAILED",
            &["UNKNOWN", "TABLE_FULL", "BAD_TABLE_ID", "OVERLAP", "EPERM", "BAD_TIMEOUT", "BAD_COMMAND", "BAD_FLAGS"],
        ),
        3 => ("BAD_INSTRUCTION", &["UNKNOWN_INST", "UNSUP_INST", "BAD_TABLE_ID"]),
        4 => ("BAD_MATCH", &["BAD_TYPE", "BAD_LEN", "BAD_TAG"]),
        17 => (
            "BUNDLE_FAILED",
            &["UNKNOWN", "EPERM", "BAD_ID", "BUNDLE_EXIST", "BUNDLE_CLOSED", "OUT_OF_BUNDLES", "BAD_TYPE", "BAD_FLAGS"],
        ),
        _ => ("error", &[]),
    };
    match codes.get(usize::from(code)) {
        Some(code) => format!("{group} {code}"),
        None => group.to_owned(),
    }
}

/// A network-order number at an offset.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

/// A network-order number at an offset.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|octets| u64::from_be_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_best_shared_version_is_taken() {
        assert_eq!(Version::negotiate(Versions(0b11_0010)), Some(Version::V14));
        assert_eq!(Version::negotiate(Versions(1 << 6 | 1 << 4)), Some(Version::V13));
        assert_eq!(Version::negotiate(Versions(1 << 1)), Some(Version::V10));
        assert_eq!(Version::negotiate(Versions(1 << 6)), None);
    }

    #[test]
    fn a_hello_without_a_bitmap_means_everything_up_to_its_version() {
        assert_eq!(decode(&[4, 0, 0, 8, 0, 0, 0, 1]), Ok((1, Message::Hello(Versions(0b1_1111)))));
        assert_eq!(decode(&[1, 0, 0, 8, 0, 0, 0, 1]), Ok((1, Message::Hello(Versions(0b11)))));
    }

    #[test]
    fn a_hello_names_exactly_the_versions_spoken() {
        let (xid, message) = decode(&hello(7)).unwrap();
        assert_eq!((xid, message), (7, Message::Hello(Versions(1 << 1 | 1 << 4 | 1 << 5))));
    }

    #[test]
    fn refusals_are_words() {
        let table_full = [5, 1, 0, 12, 0, 0, 0, 9, 0, 5, 0, 1];
        let Ok((9, Message::Error(refusal))) = decode(&table_full) else { panic!() };
        assert_eq!(refusal.to_string(), "FLOW_MOD_FAILED TABLE_FULL (type 5, code 1)");
        let incompatible = [&[1, 1, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0][..], b"OF1.3 only"].concat();
        let Ok((1, Message::Error(refusal))) = decode(&incompatible) else { panic!() };
        assert_eq!(refusal.to_string(), "HELLO_FAILED INCOMPATIBLE (type 0, code 0): OF1.3 only");
    }

    #[test]
    fn what_others_did_to_flows_is_told_with_the_cookie() {
        let removed =
            [0, 32, 0, 2, 0, 2, 0, 0, 0, 0, 3, 0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0xe7, 0, 1, 0, 4, 0, 0, 0, 0];
        let own = [0, 8, 0, 4, 0, 0, 0, 9];
        let resumed = [0, 8, 0, 6, 0, 0, 0, 0];
        let reply = |updates: &[&[u8]]| {
            message(Version::V14, 19, 0, &[&[0, 16, 0, 0, 0, 0, 0, 0][..], &updates.concat()].concat())
        };
        let all = decode(&reply(&[&removed, &own, &resumed])).unwrap();
        assert_eq!(all, (0, Message::FlowUpdates(vec![Some(0x3e7), None])));
        assert_eq!(decode(&reply(&[&removed[..20]])), Err(Malformed { kind: 19 }), "cut off");
    }

    #[test]
    fn a_message_is_taken_when_it_is_there_entirely() {
        let bytes = barrier(Version::V13, 3);
        assert_eq!(complete(&bytes), Ok(Some(8)));
        assert_eq!(complete(&bytes[..7]), Ok(None));
        assert_eq!(complete(&[4, 20, 0, 7]), Err(Malformed { kind: 20 }), "shorter than its own header");
    }

    proptest! {
        #[test]
        fn nothing_received_makes_it_panic(
            version in prop_oneof![Just(1u8), Just(4), Just(5), any::<u8>()],
            kind in 0u8..36,
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = message(Version::V14, kind, 1, &body);
            bytes[0] = version;
            let _ = decode(&bytes);
            let _ = complete(&body);
            let _ = decode(&body);
        }
    }
}
