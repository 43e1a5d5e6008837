//! Netlink messages as bytes: headers, attributes, acknowledgements (RFC 3549, linux/netlink.h). Host byte order, no IO.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
/// On an acknowledgement: the request is not echoed beyond its header.
const NLM_F_CAPPED: u16 = 0x100;
/// On an acknowledgement: extended-acknowledgement attributes follow.
const NLM_F_ACK_TLVS: u16 = 0x200;

/// The attribute types' upper two bits are flags (nested, network byte order).
const NLA_TYPE_MASK: u16 = 0x3fff;
const NLA_F_NESTED: u16 = 0x8000;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A request: everything but the sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// A request with the fixed header of its family (`struct rtmsg`, `struct ndmsg`, …).
    pub(crate) fn new(kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let mut body = Vec::with_capacity(96);
        body.extend_from_slice(family_header);
        pad(&mut body);
        Self { kind, flags: flags | NLM_F_REQUEST, body }
    }

    /// Appends an attribute.
    pub(crate) fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        put_attr(&mut self.body, kind, value);
        self
    }

    /// Appends an attribute if there is a value.
    pub(crate) fn attr_opt(self, kind: u16, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.attr(kind, value),
            None => self,
        }
    }

    /// Appends a NUL-terminated string.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        self.attr(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Appends an attribute that holds attributes.
    pub(crate) fn nested(self, kind: u16, inner: &[u8]) -> Self {
        self.attr(kind | NLA_F_NESTED, inner)
    }

    /// Writes the message with its sequence number; `flags` are added to the request's own.
    pub(crate) fn write(&self, sequence: u32, flags: u16, out: &mut Vec<u8>) {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&(self.flags | flags).to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&0u32.to_ne_bytes());
        out.extend_from_slice(&self.body);
    }
}

/// Appends an attribute to a buffer, padded to four octets.
pub(crate) fn put_attr(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Port of the socket whose request caused this, 0 when the kernel acted by itself.
    pub(crate) port: u32,
    pub(crate) body: &'a [u8],
}

/// The messages in a received datagram. Ends at the first one that does not fit.
pub(crate) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        let frame = Frame {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
            body,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(frame)
    })
}

/// The attributes in a message body behind its family header. Ends at the first one that does not fit.
pub(crate) fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// What an acknowledgement (or the end of a dump) says: error number, 0 for success, and the kernel's own words if it has some.
pub(crate) fn acknowledgement(frame: &Frame<'_>) -> (i32, Option<String>) {
    // `NLMSG_DONE` of an empty dump may lack the number in old kernels.
    let errno = u32_at(frame.body, 0).map_or(0, |raw| raw.cast_signed().wrapping_neg());
    if frame.flags & NLM_F_ACK_TLVS == 0 {
        return (errno, None);
    }
    let echoed = match frame.kind {
        NLMSG_DONE => 0,
        _ if frame.flags & NLM_F_CAPPED != 0 => HEADER,
        _ => u32_at(frame.body, 4).and_then(|length| usize::try_from(length).ok()).unwrap_or(HEADER),
    };
    let tlvs = frame.body.get((4 + echoed).next_multiple_of(4)..).unwrap_or_default();
    let text = attrs(tlvs).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG).map(|(_, value)| text(value));
    (errno, text)
}

/// A host-order number at an offset.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

/// A host-order number at an offset.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|octets| u16::from_ne_bytes(*octets))
}

/// A NUL-terminated string.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// An address of four or sixteen octets.
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        16 => bytes.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
}

/// The octets of an address.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        Request::new(24, NLM_F_CREATE, &[2, 32, 0, 0])
            .attr(1, &[10, 0, 0, 1])
            .text(3, "br-ex")
            .write(7, NLM_F_ACK, &mut bytes);
        Request::new(25, 0, &[10; 12]).write(8, 0, &mut bytes);
        let read: Vec<_> = frames(&bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].sequence), (24, 7));
        assert_eq!(read[0].flags, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK);
        let found: Vec<_> = attrs(&read[0].body[4..]).collect();
        assert_eq!(found, [(1, &[10, 0, 0, 1][..]), (3, b"br-ex\0")]);
        assert_eq!(text(found[1].1), "br-ex");
        assert_eq!((read[1].kind, read[1].body), (25, &[10; 12][..]));
    }

    #[test]
    fn a_refusal_carries_the_kernels_own_words() {
        let mut body = (-22i32).to_ne_bytes().to_vec();
        body.extend_from_slice(&[0; HEADER]);
        put_attr(&mut body, NLMSGERR_ATTR_MSG, b"Invalid gateway\0");
        let frame =
            Frame { kind: NLMSG_ERROR, flags: NLM_F_CAPPED | NLM_F_ACK_TLVS, sequence: 1, port: 0, body: &body };
        assert_eq!(acknowledgement(&frame), (22, Some("Invalid gateway".into())));
    }

    proptest! {
        #[test]
        fn nothing_received_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for frame in frames(&bytes) {
                let _ = acknowledgement(&frame);
                let _ = attrs(frame.body).count();
            }
            let _ = attrs(&bytes).count();
        }
    }
}
