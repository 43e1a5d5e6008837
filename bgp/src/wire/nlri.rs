//! Prefixes on the wire (RFC 4271 §4.3, RFC 4760 §5, RFC 7911 §3).

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};
use ipnet::{Ipv4Net, Ipv6Net};

use super::parse::Section;
use crate::types::{Family, Prefix};

/// A prefix with its path identifier, where ADD-PATH is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nlri {
    /// The prefix, masked to its length.
    pub prefix: Prefix,
    /// RFC 7911 path identifier.
    pub path_id: Option<u32>,
}

impl From<Prefix> for Nlri {
    /// A prefix without path identifier.
    fn from(prefix: Prefix) -> Self {
        Self { prefix, path_id: None }
    }
}

/// Where and why a list of prefixes does not parse.
pub(super) struct Broken {
    pub(super) offset: usize,
    pub(super) reason: String,
}

/// Reads prefixes to the end of the section. Bits beyond the length are cleared (RFC 4271 §4.3: they are irrelevant).
pub(super) fn decode(section: Section<'_>, family: Family, add_path: bool) -> Result<Vec<Nlri>, Broken> {
    // A /32 takes five octets and a /128 seventeen: about as many as there will be.
    let mut list = Vec::with_capacity(section.data.len() / if family == Family::Ipv4 { 5 } else { 17 });
    let mut rest = section.data;
    while !rest.is_empty() {
        let broken = |at: &[u8], reason: String| Broken { offset: section.offset(at), reason };
        let mut path_id = None;
        let start = rest;
        if add_path {
            let Some((id, after)) = rest.split_first_chunk() else {
                return Err(broken(start, format!("path identifier of {} octets", start.len())));
            };
            path_id = Some(u32::from_be_bytes(*id));
            rest = after;
        }
        let Some((&len, after)) = rest.split_first() else {
            return Err(broken(start, "path identifier without a prefix".into()));
        };
        let Some((octets, after)) = after.split_at_checked(usize::from(len).div_ceil(8)) else {
            return Err(match over_long(family, len) {
                Some(reason) => broken(rest, reason),
                None => broken(rest, format!("prefix of length {len} has {} octets", after.len())),
            });
        };
        let Some(prefix) = prefix(family, len, octets) else {
            return Err(broken(rest, over_long(family, len).unwrap_or_default()));
        };
        list.push(Nlri { prefix, path_id });
        rest = after;
    }
    Ok(list)
}

fn over_long(family: Family, len: u8) -> Option<String> {
    let max = if family == Family::Ipv4 { 32 } else { 128 };
    (len > max).then(|| format!("{family} prefix of length {len}"))
}

fn prefix(family: Family, len: u8, octets: &[u8]) -> Option<Prefix> {
    // Left-aligned and masked by hand: this is the hot loop.
    match family {
        Family::Ipv4 => {
            let mut address = [0; 4];
            address.get_mut(..octets.len())?.copy_from_slice(octets);
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            let address = Ipv4Addr::from_bits(u32::from_be_bytes(address) & mask);
            Ipv4Net::new(address, len).ok().map(Prefix::V4)
        }
        Family::Ipv6 => {
            let mut address = [0; 16];
            address.get_mut(..octets.len())?.copy_from_slice(octets);
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            let address = Ipv6Addr::from_bits(u128::from_be_bytes(address) & mask);
            Ipv6Net::new(address, len).ok().map(Prefix::V6)
        }
    }
}

/// Octets that [`encode`] writes.
pub(super) fn encoded_len(nlri: &Nlri, add_path: bool) -> usize {
    1 + usize::from(nlri.prefix.prefix_len()).div_ceil(8) + if add_path { 4 } else { 0 }
}

/// Writes one prefix; with ADD-PATH a missing path identifier is 0, without it there is none.
pub(super) fn encode(nlri: &Nlri, add_path: bool, out: &mut BytesMut) {
    if add_path {
        out.put_u32(nlri.path_id.unwrap_or(0));
    }
    let len = nlri.prefix.prefix_len();
    out.put_u8(len);
    let octets = usize::from(len).div_ceil(8);
    match nlri.prefix {
        Prefix::V4(net) => out.put_slice(net.network().octets().get(..octets).unwrap_or_default()),
        Prefix::V6(net) => out.put_slice(net.network().octets().get(..octets).unwrap_or_default()),
    }
}

/// Whether the prefix lies in multicast space, where no unicast route leads (RFC 4271 §6.3: log it, ignore the prefix).
pub(super) fn is_multicast(prefix: &Prefix) -> bool {
    match prefix {
        Prefix::V4(net) => net.prefix_len() >= 4 && net.network().is_multicast(),
        Prefix::V6(net) => net.prefix_len() >= 8 && net.network().is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(family: Family, add_path: bool, data: &[u8]) -> Result<Vec<String>, (usize, String)> {
        match decode(Section { start: 100, data }, family, add_path) {
            Ok(list) => Ok(list
                .iter()
                .map(|n| n.path_id.map_or(n.prefix.to_string(), |id| format!("{id}:{}", n.prefix)))
                .collect()),
            Err(broken) => Err((broken.offset, broken.reason)),
        }
    }

    #[test]
    fn prefixes_of_any_length_are_masked() {
        assert_eq!(
            read(Family::Ipv4, false, &[0, 8, 10, 12, 10, 0xff, 32, 192, 0, 2, 1]).unwrap(),
            ["0.0.0.0/0", "10.0.0.0/8", "10.240.0.0/12", "192.0.2.1/32",]
        );
        assert_eq!(
            read(Family::Ipv6, true, &[0, 0, 0, 7, 0, 0, 0, 0, 0, 17, 0x20, 1, 0xff]).unwrap(),
            ["7:::/0", "0:2001:8000::/17"]
        );
    }

    #[test]
    fn a_fault_is_located_at_the_length_octet() {
        let bad = |family, add_path, data: &[u8]| read(family, add_path, data).unwrap_err();
        assert_eq!(bad(Family::Ipv4, false, &[8, 10, 33, 1, 2, 3, 4, 5]), (102, "ipv4 prefix of length 33".into()));
        assert_eq!(bad(Family::Ipv4, false, &[255, 10]), (100, "ipv4 prefix of length 255".into()));
        assert_eq!(bad(Family::Ipv4, false, &[24, 10, 0]), (100, "prefix of length 24 has 2 octets".into()));
        assert_eq!(bad(Family::Ipv6, false, &[129; 18]), (100, "ipv6 prefix of length 129".into()));
        assert_eq!(bad(Family::Ipv4, true, &[0, 0, 0]), (100, "path identifier of 3 octets".into()));
        assert_eq!(bad(Family::Ipv4, true, &[0, 0, 0, 1]), (100, "path identifier without a prefix".into()));
    }

    #[test]
    fn only_what_lies_in_multicast_space_is_multicast() {
        for (text, multicast) in [
            ("224.0.0.0/4", true),
            ("239.1.0.0/16", true),
            ("224.0.0.0/3", false),
            ("0.0.0.0/0", false),
            ("ff00::/8", true),
            ("ff02::1/128", true),
            ("fe80::/10", false),
            ("::/0", false),
        ] {
            assert_eq!(is_multicast(&text.parse().unwrap()), multicast, "{text}");
        }
    }
}
