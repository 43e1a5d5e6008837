//! The one form of flow the agent uses: in one port, one EtherType → rewrite the destination, then NORMAL.
//!
//! Reading understands that form only, in either spelling (`mod_dl_dst` of 1.0, `set_field` of later versions); any other flow
//! is still seen, without its details.

use super::message::{Version, u16_at, u32_at};
use crate::mac::Mac;

/// OXM class and fields (§7.2.3.7).
const OXM_BASIC: u16 = 0x8000;
const OXM_IN_PORT: u8 = 0;
const OXM_ETH_DST: u8 = 3;
const OXM_ETH_TYPE: u8 = 5;
/// `OFPMT_OXM`.
const MATCH_OXM: u16 = 1;
/// `OFPIT_APPLY_ACTIONS`.
const APPLY_ACTIONS: u16 = 4;
const ACTION_OUTPUT: u16 = 0;
const ACTION_SET_DL_DST: u16 = 5;
const ACTION_SET_FIELD: u16 = 25;
/// `OFPP_NORMAL`.
const NORMAL: u32 = 0xffff_fffa;
const NORMAL_10: u16 = 0xfffa;
/// The first reserved port of 1.0; later versions reserve the same ports 0xffff0000 higher up.
const FIRST_RESERVED: u16 = 0xff00;
/// Wildcards of a 1.0 match: everything, in_port, dl_type.
const WILDCARD_ALL: u32 = 0x003f_ffff;
const WILDCARD_IN_PORT: u32 = 1;
const WILDCARD_DL_TYPE: u32 = 1 << 4;
/// `OFPFW_NW_SRC_ALL`, `OFPFW_NW_DST_ALL`: any value from here on in the six bits means "all".
const WILDCARD_ADDRESS_ALL: u32 = 32;

/// A flow of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Table; 1.0 always adds to table 0.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// Who made it.
    pub cookie: u64,
    /// Port the packet came in by.
    pub in_port: u16,
    /// EtherType.
    pub eth_type: u16,
    /// Destination to write.
    pub set_dst: Mac,
}

/// A flow found on the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundFlow {
    /// Table.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// Who made it.
    pub cookie: u64,
    /// In port and EtherType, if it matches exactly these.
    pub matches: Option<(u16, u16)>,
    /// Destination written, if that and NORMAL are all it does.
    pub set_dst: Option<Mac>,
}

// ---- writing ----------------------------------------------------------------------------------------------------------------

/// OXM match (§7.2.3.1), padded; of no flow: everything.
pub(super) fn match_13(flow: Option<&Flow>) -> Vec<u8> {
    let mut fields = Vec::with_capacity(16);
    if let Some(flow) = flow {
        fields.extend(oxm_header(OXM_IN_PORT, 4));
        fields.extend(port_13(flow.in_port).to_be_bytes());
        fields.extend(oxm_header(OXM_ETH_TYPE, 2));
        fields.extend(flow.eth_type.to_be_bytes());
    }
    let length = u16::try_from(4 + fields.len()).unwrap_or(u16::MAX);
    let mut bytes = [MATCH_OXM.to_be_bytes(), length.to_be_bytes()].concat();
    bytes.extend(fields);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// One apply-actions instruction with set_field and output.
pub(super) fn instructions_13(flow: &Flow) -> Vec<u8> {
    let mut actions = [ACTION_SET_FIELD.to_be_bytes(), 16u16.to_be_bytes()].concat();
    actions.extend(oxm_header(OXM_ETH_DST, 6));
    actions.extend(flow.set_dst.0);
    actions.extend([0; 2]);
    actions.extend(ACTION_OUTPUT.to_be_bytes());
    actions.extend(16u16.to_be_bytes());
    actions.extend(NORMAL.to_be_bytes());
    actions.extend([0; 8]);
    let length = u16::try_from(8 + actions.len()).unwrap_or(u16::MAX);
    let mut bytes = [APPLY_ACTIONS.to_be_bytes(), length.to_be_bytes(), [0; 2], [0; 2]].concat();
    bytes.extend(actions);
    bytes
}

/// The fixed match of 1.0 (1.0 §5.2.3); of no flow: everything.
pub(super) fn match_10(flow: Option<&Flow>) -> [u8; 40] {
    let mut bytes = [0; 40];
    let wildcards = match flow {
        None => WILDCARD_ALL,
        Some(flow) => {
            bytes[4..6].copy_from_slice(&flow.in_port.to_be_bytes());
            bytes[22..24].copy_from_slice(&flow.eth_type.to_be_bytes());
            WILDCARD_ALL & !WILDCARD_IN_PORT & !WILDCARD_DL_TYPE
        }
    };
    bytes[..4].copy_from_slice(&wildcards.to_be_bytes());
    bytes
}

/// set_dl_dst and output (1.0 §5.2.4).
pub(super) fn actions_10(flow: &Flow) -> Vec<u8> {
    let mut bytes = [ACTION_SET_DL_DST.to_be_bytes(), 16u16.to_be_bytes()].concat();
    bytes.extend(flow.set_dst.0);
    bytes.extend([0; 6]);
    for number in [ACTION_OUTPUT, 8, NORMAL_10, 0] {
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

fn oxm_header(field: u8, length: u8) -> [u8; 4] {
    let [high, low] = OXM_BASIC.to_be_bytes();
    [high, low, field << 1, length]
}

fn port_13(port: u16) -> u32 {
    if port >= FIRST_RESERVED { 0xffff_0000 | u32::from(port) } else { port.into() }
}

// ---- reading ----------------------------------------------------------------------------------------------------------------

/// The entries of a flow dump.
pub(super) fn read_flows(version: Version, mut bytes: &[u8]) -> Option<Vec<FoundFlow>> {
    let mut flows = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16_at(bytes, 0)?);
        let entry = bytes.get(..length)?;
        let flow = if version == Version::V10 { read_10(entry) } else { read_13(entry) };
        flows.push(flow?);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Some(flows)
}

/// struct ofp_flow_stats of 1.3 and 1.4 (§7.3.5.2).
fn read_13(entry: &[u8]) -> Option<FoundFlow> {
    let match_length = usize::from(u16_at(entry, 50)?);
    let fields = entry.get(52..48 + match_length)?;
    let instructions = entry.get((48 + match_length).next_multiple_of(8)..)?;
    Some(FoundFlow {
        table: *entry.get(2)?,
        priority: u16_at(entry, 12)?,
        cookie: u64_at(entry, 24)?,
        matches: read_match_13(fields),
        set_dst: read_instructions_13(instructions),
    })
}

fn read_match_13(mut fields: &[u8]) -> Option<(u16, u16)> {
    let (mut in_port, mut eth_type) = (None, None);
    while let Some((field, value, rest)) = read_oxm(fields) {
        match (field, value.len()) {
            (OXM_IN_PORT, 4) => in_port = u16::try_from(u32_at(value, 0)? & 0xffff).ok(),
            (OXM_ETH_TYPE, 2) => eth_type = u16_at(value, 0),
            _ => return None,
        }
        fields = rest;
    }
    if fields.is_empty() { in_port.zip(eth_type) } else { None }
}

/// An unmasked basic field, its value, and what follows.
fn read_oxm(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let &[high, low, field, length, ref rest @ ..] = bytes else { return None };
    let unmasked_basic = u16::from_be_bytes([high, low]) == OXM_BASIC && field & 1 == 0;
    let (value, rest) = rest.split_at_checked(length.into())?;
    unmasked_basic.then_some((field >> 1, value, rest))
}

fn read_instructions_13(bytes: &[u8]) -> Option<Mac> {
    let length = usize::from(u16_at(bytes, 2)?);
    if u16_at(bytes, 0)? != APPLY_ACTIONS || length != bytes.len() {
        return None;
    }
    let actions = bytes.get(8..)?;
    let (first, second) = actions.split_at_checked(16)?;
    let sets = u16_at(first, 0)? == ACTION_SET_FIELD && u16_at(first, 2)? == 16;
    let (field, mac, _) = read_oxm(first.get(4..14)?)?;
    let normal = second.len() == 16 && u16_at(second, 0)? == ACTION_OUTPUT && u32_at(second, 4)? == NORMAL;
    let mac = <[u8; 6]>::try_from(mac).ok()?;
    (sets && field == OXM_ETH_DST && normal).then_some(Mac(mac))
}

/// struct ofp_flow_stats of 1.0 (1.0 §5.3.5).
fn read_10(entry: &[u8]) -> Option<FoundFlow> {
    Some(FoundFlow {
        table: *entry.get(2)?,
        priority: u16_at(entry, 52)?,
        cookie: u64_at(entry, 64)?,
        matches: read_match_10(entry.get(4..44)?),
        set_dst: read_actions_10(entry.get(88..)?),
    })
}

fn read_match_10(fields: &[u8]) -> Option<(u16, u16)> {
    let wildcards = u32_at(fields, 0)?;
    // Both address masks are counts of wildcarded bits; the flags are what remains.
    let addresses = [8, 14].map(|shift| wildcards >> shift & 0x3f >= WILDCARD_ADDRESS_ALL);
    let flags = |bits: u32| bits & WILDCARD_ALL & !(0x3f << 8) & !(0x3f << 14);
    let exact = flags(wildcards) == flags(WILDCARD_ALL & !WILDCARD_IN_PORT & !WILDCARD_DL_TYPE);
    (exact && addresses == [true, true]).then_some((u16_at(fields, 4)?, u16_at(fields, 22)?))
}

fn read_actions_10(bytes: &[u8]) -> Option<Mac> {
    let (first, second) = bytes.split_at_checked(16)?;
    let sets = u16_at(first, 0)? == ACTION_SET_DL_DST;
    let normal = second.len() == 8 && u16_at(second, 0)? == ACTION_OUTPUT && u16_at(second, 4)? == NORMAL_10;
    let mac = first.get(4..)?.first_chunk::<6>()?;
    (sets && normal).then_some(Mac(*mac))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|octets| u64::from_be_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flow() -> impl Strategy<Value = Flow> {
        (any::<(u16, u64, u16, u16)>(), any::<[u8; 6]>()).prop_map(|((priority, cookie, in_port, eth_type), mac)| {
            Flow { table: 0, priority, cookie, in_port, eth_type, set_dst: Mac(mac) }
        })
    }

    /// The flow as a switch would list it.
    fn listed(version: Version, flow: &Flow) -> Vec<u8> {
        let mut entry = vec![0, 0, flow.table, 0];
        if version == Version::V10 {
            entry.extend(match_10(Some(flow)));
            entry.extend([0; 8]);
            entry.extend(flow.priority.to_be_bytes());
            entry.extend([0; 10]);
            entry.extend(flow.cookie.to_be_bytes());
            entry.extend([0; 16]);
            entry.extend(actions_10(flow));
        } else {
            entry.extend([0; 8]);
            entry.extend(flow.priority.to_be_bytes());
            entry.extend([0; 10]);
            entry.extend(flow.cookie.to_be_bytes());
            entry.extend([0; 16]);
            entry.extend(match_13(Some(flow)));
            entry.extend(instructions_13(flow));
        }
        let length = u16::try_from(entry.len()).unwrap();
        entry[..2].copy_from_slice(&length.to_be_bytes());
        entry
    }

    fn version() -> impl Strategy<Value = Version> {
        prop_oneof![Just(Version::V10), Just(Version::V13), Just(Version::V14)]
    }

    proptest! {
        #[test]
        fn a_listed_flow_is_read_as_what_it_was_written(version in version(), flows in proptest::collection::vec(flow(), 0..4)) {
            let bytes: Vec<u8> = flows.iter().flat_map(|flow| listed(version, flow)).collect();
            let expected: Vec<FoundFlow> = flows
                .iter()
                .map(|flow| FoundFlow {
                    table: 0,
                    priority: flow.priority,
                    cookie: flow.cookie,
                    matches: Some((flow.in_port, flow.eth_type)),
                    set_dst: Some(flow.set_dst),
                })
                .collect();
            prop_assert_eq!(read_flows(version, &bytes), Some(expected));
        }

        #[test]
        fn a_damaged_list_makes_nothing_panic(
            version in version(),
            flow in flow(),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = listed(version, &flow);
            for (index, value) in damage {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = read_flows(version, &bytes);
        }
    }
}
