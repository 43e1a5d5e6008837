//! Addresses of interfaces: IFA attributes, struct ifaddrmsg.

use ipnet::IpNet;

use super::{AF_INET, AF_INET6, RT_SCOPE_UNIVERSE, family, is_v6};
use crate::actuate::netlink::wire::{Frame, NLM_F_CREATE, NLM_F_REPLACE, Request, address, attrs, octets, u32_at};

pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const IFA_F_NODAD: u32 = 0x02;
/// Duplicate address detection failed, or has not ended.
const IFA_F_UNUSABLE: u32 = 0x48;

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ifindex: u32,
    pub(crate) net: IpNet,
    /// Who set it (kernel 5.18), 0 if nobody said.
    pub(crate) protocol: u8,
    /// Whether the world may use it: of global scope, not tentative, not a duplicate.
    pub(crate) usable: bool,
}

impl Address {
    fn request(&self, kind: u16, flags: u16) -> Request {
        // struct ifaddrmsg: family, prefixlen, flags, scope, ifindex
        let [a, b, c, d] = self.ifindex.to_ne_bytes();
        let address = octets(self.net.addr());
        Request::new(kind, flags, &[family(is_v6(self.net)), self.net.prefix_len(), 0, 0, a, b, c, d])
            .attr(IFA_LOCAL, &address)
            .attr(IFA_ADDRESS, &address)
    }

    /// Add or replace. No duplicate address detection: the same address stands on every hypervisor by design.
    pub(crate) fn replace(&self) -> Request {
        let flags = if is_v6(self.net) { IFA_F_NODAD } else { 0 };
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE)
            .attr(IFA_FLAGS, &flags.to_ne_bytes())
            .attr(IFA_PROTO, &[self.protocol])
    }

    /// Remove; refused with EADDRNOTAVAIL when it is not there.
    pub(crate) fn remove(&self) -> Request {
        self.request(RTM_DELADDR, 0)
    }

    pub(crate) fn dump(v6: bool) -> Request {
        Request::new(RTM_GETADDR, 0, &[family(v6), 0, 0, 0, 0, 0, 0, 0])
    }

    pub(crate) fn read(frame: &Frame<'_>) -> Option<Self> {
        let &[family, length, flags, scope, _, _, _, _, ref rest @ ..] = frame.body else { return None };
        if !matches!(family, AF_INET | AF_INET6) {
            return None;
        }
        let (mut local, mut peer, mut flags, mut protocol) = (None, None, u32::from(flags), 0);
        for (kind, value) in attrs(rest) {
            match kind {
                IFA_LOCAL => local = address(value),
                IFA_ADDRESS => peer = address(value),
                IFA_FLAGS => flags = u32_at(value, 0)?,
                IFA_PROTO => protocol = *value.first()?,
                _ => {}
            }
        }
        Some(Self {
            ifindex: u32_at(frame.body, 4)?,
            net: IpNet::new(local.or(peer)?, length).ok()?,
            protocol,
            usable: scope == RT_SCOPE_UNIVERSE && flags & IFA_F_UNUSABLE == 0,
        })
    }
}
