//! Neighbours and proxy entries: NDA attributes, struct ndmsg.

use std::net::IpAddr;

use super::{AF_INET, AF_INET6, family};
use crate::actuate::netlink::wire::{
    Frame, NLM_F_CREATE, NLM_F_REPLACE, Request, address, attrs, octets, u16_at, u32_at,
};
use crate::mac::Mac;

pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
const NUD_PERMANENT: u16 = 0x80;
const NTF_PROXY: u8 = 0x08;

/// A neighbour or, with [`Neighbour::proxy`], an entry that is answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) ifindex: u32,
    pub(crate) address: IpAddr,
    /// None for proxy entries and while unresolved.
    pub(crate) mac: Option<Mac>,
    pub(crate) permanent: bool,
    pub(crate) proxy: bool,
    /// Who made it (kernel 5.2), 0 if nobody said.
    pub(crate) protocol: u8,
}

impl Neighbour {
    fn header(family: u8, ifindex: u32, state: u16, flags: u8) -> [u8; 12] {
        // struct ndmsg: family, pad, ifindex, state, flags, type
        let mut header = [0; 12];
        header[0] = family;
        header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        header[8..10].copy_from_slice(&state.to_ne_bytes());
        header[10] = flags;
        header
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let (state, entry) = if self.proxy { (0, NTF_PROXY) } else { (NUD_PERMANENT, 0) };
        Request::new(kind, flags, &Self::header(family(self.address.is_ipv6()), self.ifindex, state, entry))
            .attr(NDA_DST, &octets(self.address))
    }

    /// Add or replace, permanent.
    pub(crate) fn replace(&self) -> Request {
        self.request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE)
            .attr_opt(NDA_LLADDR, self.mac.as_ref().map(|mac| mac.0.as_slice()))
            .attr(NDA_PROTOCOL, &[self.protocol])
    }

    /// Remove; refused with ENOENT when it is not there.
    pub(crate) fn remove(&self) -> Request {
        self.request(RTM_DELNEIGH, 0)
    }

    /// All neighbours, or all proxy entries, of a family.
    pub(crate) fn dump(v6: bool, proxy: bool) -> Request {
        let flags = if proxy { NTF_PROXY } else { 0 };
        Request::new(RTM_GETNEIGH, 0, &Self::header(family(v6), 0, 0, flags))
    }

    pub(crate) fn read(frame: &Frame<'_>) -> Option<Self> {
        let &[family, _, _, _, _, _, _, _, _, _, flags, _, ref rest @ ..] = frame.body else { return None };
        if !matches!(family, AF_INET | AF_INET6) {
            return None;
        }
        let (mut address_found, mut mac, mut protocol) = (None, None, 0);
        for (kind, value) in attrs(rest) {
            match kind {
                NDA_DST => address_found = address(value),
                NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok().map(Mac),
                NDA_PROTOCOL => protocol = *value.first()?,
                _ => {}
            }
        }
        Some(Self {
            ifindex: u32_at(frame.body, 4)?,
            address: address_found?,
            mac,
            permanent: u16_at(frame.body, 8)? & NUD_PERMANENT != 0,
            proxy: flags & NTF_PROXY != 0,
            protocol,
        })
    }
}
