//! OPEN (RFC 4271 §4.2, RFC 5492, RFC 9072), and the checks of it that need nothing but configured values.

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};
use nom::Parser;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16};

use super::notification::open as subcode;
use super::parse::{Section, ipv4};
use super::{Capability, EncodeError, Error, HEADER_LEN};
use crate::types::{AS_TRANS, Asn, Families};

/// The only version there is (RFC 4271 §4.2).
pub const VERSION: u8 = 4;
/// The optional parameter that holds capabilities (RFC 5492 §4).
const CAPABILITIES: u8 = 2;
/// Parameter type, and length, that announce the extended format (RFC 9072 §2).
const EXTENDED: u8 = 255;

// Where the fields stand, for the offset of a fault.
const AT_AS: usize = HEADER_LEN + 1;
const AT_HOLD_TIME: usize = HEADER_LEN + 3;
const AT_ROUTER_ID: usize = HEADER_LEN + 5;
const AT_PARAMETERS_LEN: usize = HEADER_LEN + 9;
const AT_PARAMETERS: usize = HEADER_LEN + 10;

/// An OPEN message (RFC 4271 §4.2, RFC 5492, RFC 9072).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Protocol version, 4.
    pub version: u8,
    /// The two-octet My Autonomous System field; [`AS_TRANS`] when the number does not fit.
    pub as2: u16,
    /// Proposed hold time in seconds.
    pub hold_time: u16,
    /// BGP Identifier (RFC 6286).
    pub router_id: Ipv4Addr,
    /// Every capability, in the order sent.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// An OPEN of `asn`: [`Capability::FourOctetAs`] is put first, the two-octet field follows from it (RFC 6793 §4.1).
    pub fn new(asn: Asn, hold_time: u16, router_id: Ipv4Addr, capabilities: Vec<Capability>) -> Self {
        let mut all = vec![Capability::FourOctetAs(asn)];
        all.extend(capabilities);
        Self { version: VERSION, as2: u16::try_from(asn).unwrap_or(AS_TRANS), hold_time, router_id, capabilities: all }
    }

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

    /// Reads the body of an OPEN and checks what can be checked without knowing the session, in the order of RFC 4271 §6.2.
    pub(super) fn decode(body: &[u8]) -> Result<Self, Error> {
        let (rest, (version, as2, hold_time, router_id, len)) = (be_u8, be_u16, be_u16, ipv4, be_u8)
            .parse(body)
            .map_err(|_: nom::Err<()>| Error::open(HEADER_LEN, subcode::UNSPECIFIC, "OPEN cut off"))?;
        if version != VERSION {
            // The data is the largest version we support.
            return Err(Error::open(HEADER_LEN, subcode::VERSION, format!("BGP version {version}"))
                .with_data(&u16::from(VERSION).to_be_bytes()));
        }
        if as2 == 0 {
            return Err(Error::open(AT_AS, subcode::BAD_PEER_AS, "AS number 0 (RFC 7607)"));
        }
        if matches!(hold_time, 1 | 2) {
            let reason = format!("hold time of {hold_time} s, neither 0 nor at least 3");
            return Err(Error::open(AT_HOLD_TIME, subcode::HOLD_TIME, reason));
        }
        if router_id.is_unspecified() {
            return Err(Error::open(AT_ROUTER_ID, subcode::BAD_IDENTIFIER, "BGP Identifier 0 (RFC 6286)"));
        }
        let capabilities = parameters(len, rest)?;
        let open = Self { version, as2, hold_time, router_id, capabilities };
        if open.asn() == 0 {
            let reason = "AS number 0 in the four-octet AS capability (RFC 7607)";
            return Err(Error::open(AT_PARAMETERS, subcode::BAD_PEER_AS, reason));
        }
        Ok(open)
    }

    /// Writes the body: every capability in one parameter, as RFC 5492 §4 asks, in the format of RFC 9072 if they need more than
    /// 255 octets.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let mut capabilities = BytesMut::new();
        for capability in &self.capabilities {
            capability.encode(&mut capabilities)?;
        }
        let len = capabilities.len();
        out.put_u8(self.version);
        out.put_u16(self.as2);
        out.put_u16(self.hold_time);
        out.put_u32(self.router_id.into());
        match (u8::try_from(len), u8::try_from(len + 2), u16::try_from(len), u16::try_from(len + 3)) {
            (Ok(0), ..) => out.put_u8(0),
            // 255 itself would announce the extended format to a careless reader.
            (Ok(parameter), Ok(parameters), ..) if parameters != EXTENDED => {
                out.put_slice(&[parameters, CAPABILITIES, parameter]);
            }
            (.., Ok(parameter), Ok(parameters)) => {
                out.put_slice(&[EXTENDED, EXTENDED]);
                out.put_u16(parameters);
                out.put_u8(CAPABILITIES);
                out.put_u16(parameter);
            }
            _ => return Err(EncodeError::FieldTooLong { what: "the optional parameters", len, max: 65532 }),
        }
        out.put_slice(&capabilities);
        Ok(())
    }
}

/// Reads the optional parameters, whose length field said `len` (RFC 4271 §4.2, RFC 9072 §2).
fn parameters(len: u8, data: &[u8]) -> Result<Vec<Capability>, Error> {
    let broken = |offset, reason: String| Error::open(offset, subcode::UNSPECIFIC, reason);
    let mismatch = |at, said, there| broken(at, format!("optional parameters of {said} octets, {there} are there"));
    // RFC 9072 §2: the type octet tells the extended format; the length before it SHOULD be 255 and MUST NOT be looked at, but
    // for 0, which means that there is nothing.
    if len != 0 && data.first() == Some(&EXTENDED) {
        let at = AT_PARAMETERS + 1;
        let (list, said) = be_u16(data.get(1..).unwrap_or_default())
            .map_err(|_: nom::Err<()>| broken(at, "extended optional parameters without length".into()))?;
        if list.len() != usize::from(said) {
            return Err(mismatch(at, said, list.len()));
        }
        let list = Section { start: AT_PARAMETERS + 3, data: list };
        return capabilities(list, |i| (be_u8, length_data(be_u16)).parse(i));
    }
    if data.len() != usize::from(len) {
        return Err(mismatch(AT_PARAMETERS_LEN, u16::from(len), data.len()));
    }
    capabilities(Section { start: AT_PARAMETERS, data }, |i| (be_u8, length_data(be_u8)).parse(i))
}

/// Collects the capabilities of a list of parameters, each read by `parameter`.
fn capabilities<'a>(
    list: Section<'a>,
    parameter: impl Fn(&'a [u8]) -> super::parse::Parsed<'a, (u8, &'a [u8])>,
) -> Result<Vec<Capability>, Error> {
    let mut found = Vec::new();
    let mut rest = list.data;
    while let Some(kind) = rest.first() {
        let at = list.offset(rest);
        let (after, (_, value)) = parameter(rest)
            .map_err(|_| Error::open(at, subcode::UNSPECIFIC, format!("optional parameter {kind} is cut off")))?;
        if *kind != CAPABILITIES {
            let reason = format!("optional parameter {kind} is not supported");
            return Err(Error::open(at, subcode::UNSUPPORTED_PARAMETER, reason));
        }
        let value = Section { start: list.offset(after) - value.len(), data: value };
        let mut inner = value.data;
        while let Some(code) = inner.first() {
            let (next, (code, data)) = (be_u8, length_data(be_u8)).parse(inner).map_err(|_: nom::Err<()>| {
                let reason = format!("capability {code} overruns its optional parameter");
                Error::open(value.offset(inner), subcode::UNSPECIFIC, reason)
            })?;
            found.push(Capability::decode(code, data));
            inner = next;
        }
        rest = after;
    }
    Ok(found)
}

/// Which AS numbers a peer may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpectedAs {
    /// Any.
    #[default]
    Any,
    /// This one; for an internal peer our own.
    Is(Asn),
    /// Any but this one: `remote_as = "external"`.
    Not(Asn),
}

/// What the configuration asks of a peer's OPEN; see [`check`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenExpectations {
    /// Our AS number; a peer that has it too is internal.
    pub local_as: Option<Asn>,
    /// Our BGP Identifier.
    pub local_id: Option<Ipv4Addr>,
    /// Which AS numbers the peer may have.
    pub peer_as: ExpectedAs,
    /// Our role towards this peer (RFC 9234 §4.1): 0 provider, 1 route server, 2 its client, 3 customer, 4 peer.
    pub role: Option<u8>,
    /// A peer without a role is refused (RFC 9234 §4.2).
    pub role_strict: bool,
    /// Families without which the session is of no use.
    pub required_families: Families,
}

/// Checks a peer's OPEN against the configuration: peer AS (RFC 4271 §6.2), BGP Identifier (RFC 6286 §2.2), role (RFC 9234 §4.2)
/// and required families (RFC 5492 §5). What needs no configuration was checked by the decoder.
///
/// # Errors
/// The NOTIFICATION the peer has to be told.
pub fn check(open: &Open, expected: &OpenExpectations) -> Result<(), Error> {
    let asn = open.asn();
    let wanted = match expected.peer_as {
        ExpectedAs::Is(wanted) if wanted != asn => Some(format!("AS {wanted}")),
        ExpectedAs::Not(own) if own == asn => Some(format!("any AS but {own}")),
        _ => None,
    };
    if let Some(wanted) = wanted {
        let reason = format!("the peer is in AS {asn}, {wanted} is configured");
        return Err(Error::open(AT_AS, subcode::BAD_PEER_AS, reason));
    }
    let internal = expected.local_as == Some(asn);
    if internal && expected.local_id == Some(open.router_id) {
        let reason = format!("the internal peer has our own BGP Identifier {}", open.router_id);
        return Err(Error::open(AT_ROUTER_ID, subcode::BAD_IDENTIFIER, reason));
    }
    if !internal && let Some(role) = expected.role {
        check_role(open, role, expected.role_strict)?;
    }
    check_families(open, expected.required_families)
}

/// RFC 9234 §4.2, table 2: who may face whom.
fn check_role(open: &Open, local: u8, strict: bool) -> Result<(), Error> {
    let mismatch = |reason: String| Err(Error::open(AT_PARAMETERS, subcode::ROLE_MISMATCH, reason));
    let mut roles = open.capabilities.iter().filter_map(|c| match c {
        Capability::Role(role) => Some(*role),
        _ => None,
    });
    let Some(remote) = roles.next() else {
        return if strict { mismatch("the peer has no BGP role, which is required here".into()) } else { Ok(()) };
    };
    if let Some(other) = roles.find(|role| *role != remote) {
        return mismatch(format!("the peer has two BGP roles, {remote} and {other}"));
    }
    match (local, remote) {
        (0, 3) | (3, 0) | (1, 2) | (2, 1) | (4, 4) => Ok(()),
        _ => mismatch(format!("BGP role {remote} of the peer does not fit our role {local}")),
    }
}

/// RFC 5492 §5: the data lists what is missed, as capabilities.
fn check_families(open: &Open, required: Families) -> Result<(), Error> {
    let mut offered: Vec<_> = open
        .capabilities
        .iter()
        .filter_map(|c| match c {
            Capability::Multiprotocol { afi, safi } => Some((*afi, *safi)),
            _ => None,
        })
        .collect();
    if offered.is_empty() {
        // RFC 4760 §8: who announces no family at all means IPv4 unicast.
        offered.push((1, 1));
    }
    let mut missing = BytesMut::new();
    let mut names = Vec::new();
    for family in required.iter() {
        let (afi, safi) = family.afi_safi();
        if !offered.contains(&(afi, safi)) {
            missing.put_slice(&[1, 4]);
            missing.put_u16(afi);
            missing.put_slice(&[0, safi]);
            names.push(family.to_string());
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let reason = format!("the peer does not offer {}, which is required here", names.join(" and "));
    Err(Error::open(AT_PARAMETERS, subcode::UNSUPPORTED_CAPABILITY, reason).with_data(&missing))
}

#[cfg(test)]
mod tests {
    use super::super::{Context, Message, decode, encode};
    use super::*;
    use crate::types::Family;

    fn open(capabilities: Vec<Capability>) -> Open {
        Open::new(65001, 90, [192, 0, 2, 1].into(), capabilities)
    }

    fn verdict(capabilities: Vec<Capability>, expected: &OpenExpectations) -> Result<(), (u8, Vec<u8>)> {
        check(&open(capabilities), expected).map_err(|e| (e.notification.subcode, e.notification.data.to_vec()))
    }

    fn octets(open: Open) -> BytesMut {
        let mut out = BytesMut::new();
        encode(&Message::Open(open), &Context::default(), &mut out).unwrap();
        out
    }

    #[test]
    fn an_as_number_that_does_not_fit_is_as_trans_and_a_capability() {
        let open = Open::new(4_200_000_000, 90, [192, 0, 2, 1].into(), vec![]);
        assert_eq!((open.as2, open.asn()), (AS_TRANS, 4_200_000_000));
        assert_eq!(Open::new(65001, 90, [192, 0, 2, 1].into(), vec![]).as2, 65001);
    }

    #[test]
    fn roles_face_their_counterparts_only() {
        for ours in 0..=5 {
            let expected = OpenExpectations { role: Some(ours), ..OpenExpectations::default() };
            for theirs in 0..=5 {
                let fits = [(0, 3), (3, 0), (1, 2), (2, 1), (4, 4)].contains(&(ours, theirs));
                let said = verdict(vec![Capability::Role(theirs)], &expected);
                assert_eq!(said, if fits { Ok(()) } else { Err((11, vec![])) }, "{ours} and {theirs}");
            }
            assert_eq!(verdict(vec![], &expected), Ok(()), "no role is accepted");
            let strict = OpenExpectations { role_strict: true, ..expected.clone() };
            assert_eq!(verdict(vec![], &strict), Err((11, vec![])));
            // RFC 9234 §4.2 is about external peers.
            let internal = OpenExpectations { local_as: Some(65001), ..strict };
            assert_eq!(verdict(vec![], &internal), Ok(()));
        }
        let customer = OpenExpectations { role: Some(3), ..OpenExpectations::default() };
        assert_eq!(verdict(vec![Capability::Role(0), Capability::Role(0)], &customer), Ok(()));
        assert_eq!(verdict(vec![Capability::Role(0), Capability::Role(4)], &customer), Err((11, vec![])));
    }

    #[test]
    fn what_is_missed_is_listed_as_capabilities() {
        let expected = OpenExpectations { required_families: Families::ALL, ..OpenExpectations::default() };
        // No multiprotocol capability means IPv4 (RFC 4760 §8).
        assert_eq!(verdict(vec![], &expected), Err((7, vec![1, 4, 0, 2, 0, 1])));
        let offers = |family: Family| {
            let (afi, safi) = family.afi_safi();
            Capability::Multiprotocol { afi, safi }
        };
        assert_eq!(verdict(vec![offers(Family::Ipv6)], &expected), Err((7, vec![1, 4, 0, 1, 0, 1])));
        assert_eq!(verdict(vec![offers(Family::Ipv6), offers(Family::Ipv4)], &expected), Ok(()));
    }

    #[test]
    fn the_peer_as_and_identifier_are_checked() {
        let with = |peer_as, local_id: [u8; 4]| OpenExpectations {
            local_as: Some(65001),
            local_id: Some(local_id.into()),
            peer_as,
            ..OpenExpectations::default()
        };
        assert_eq!(verdict(vec![], &with(ExpectedAs::Is(65001), [192, 0, 2, 9])), Ok(()));
        assert_eq!(verdict(vec![], &with(ExpectedAs::Is(65002), [192, 0, 2, 9])), Err((2, vec![])));
        assert_eq!(verdict(vec![], &with(ExpectedAs::Not(65001), [192, 0, 2, 9])), Err((2, vec![])));
        assert_eq!(verdict(vec![], &with(ExpectedAs::Any, [192, 0, 2, 1])), Err((3, vec![])), "internal, our own id");
        let external = OpenExpectations { local_as: Some(65002), ..with(ExpectedAs::Any, [192, 0, 2, 1]) };
        assert_eq!(verdict(vec![], &external), Ok(()), "RFC 6286 allows it to an external peer");
    }

    #[test]
    fn many_capabilities_take_the_extended_format() {
        let filler = |len| Capability::Unknown { code: 200, data: vec![0; len].into() };
        // The AS number takes six octets of the 252 that fit without.
        let short = octets(open(vec![filler(244)]));
        assert_eq!(short[28..32], [254, 2, 252, 65]);
        let long = octets(open(vec![filler(245)]));
        assert_eq!(long[28..36], [255, 255, 1, 0, 2, 0, 253, 65]);
        for octets in [short, long] {
            let Ok(Message::Open(read)) = decode(&octets, &Context::default()) else { panic!("an OPEN") };
            assert_eq!(read.capabilities.len(), 2);
        }
        let too_long = Message::Open(open(vec![filler(255); 20]));
        assert!(encode(&too_long, &Context::default(), &mut BytesMut::new()).is_err(), "over 4096 octets");
    }

    #[test]
    fn a_fault_is_where_it_is() {
        let fault = |body: &[u8]| {
            let mut message = vec![0xff; 16];
            message.put_u16(u16::try_from(19 + body.len()).unwrap());
            message.put_u8(1);
            message.extend(body);
            let error = decode(&message, &Context::default()).unwrap_err();
            (error.notification.subcode, error.offset)
        };
        let fixed = [4, 0xfd, 0xe9, 0, 90, 192, 0, 2, 1];
        let with = |at: usize, value: u8| {
            let mut body = fixed.to_vec();
            body[at] = value;
            body.push(0);
            body
        };
        assert_eq!(fault(&with(0, 3)), (1, 19));
        assert_eq!(fault(&with(4, 2)), (6, 22));
        assert_eq!(fault(&[&fixed[..5], &[0, 0, 0, 0, 0]].concat()), (3, 24));
        let parameters = |octets: &[u8]| [&fixed[..], octets].concat();
        assert_eq!(fault(&parameters(&[3, 2, 0])), (0, 28), "three octets said, two there");
        assert_eq!(fault(&parameters(&[4, 2, 0, 1, 0])), (4, 31), "the second parameter is not known");
        assert_eq!(fault(&parameters(&[6, 2, 4, 2, 0, 65, 4])), (0, 33), "the second capability is cut off");
        assert_eq!(fault(&parameters(&[255, 255, 0, 3, 1, 0, 0])), (4, 32), "in the extended format");
    }
}
