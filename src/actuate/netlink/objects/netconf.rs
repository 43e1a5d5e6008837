//! What devices do for others, as far as the kernel tells when it changes: NETCONFA attributes, struct netconfmsg.

use crate::actuate::netlink::wire::{Frame, attrs, u32_at};

pub(crate) const RTM_NEWNETCONF: u16 = 80;

/// struct netconfmsg, padded.
const HEADER: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_PROXY_NEIGH: u16 = 5;

/// A device's `proxy_arp` or `proxy_ndp` was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProxyNeigh {
    pub(crate) ifindex: u32,
    pub(crate) on: bool,
}

impl ProxyNeigh {
    /// Reads a notice; none if it is about something else.
    pub(crate) fn read(frame: &Frame<'_>) -> Option<Self> {
        let (mut ifindex, mut on) = (None, None);
        for (kind, value) in attrs(frame.body.get(HEADER..)?) {
            match kind {
                NETCONFA_IFINDEX => ifindex = u32_at(value, 0),
                NETCONFA_PROXY_NEIGH => on = u32_at(value, 0).map(|value| value != 0),
                _ => {}
            }
        }
        Some(Self { ifindex: ifindex?, on: on? })
    }
}
