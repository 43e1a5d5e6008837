//! "Somebody changed the kernel's state": notices about what concerns us, merged while nobody looks.
//!
//! What we did ourselves is recognised by the port of our request socket, which the kernel puts on the notice. Kernels that put
//! none on some kinds of notice cost one needless look, not a loop: the look finds nothing to change.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, TokioSocket};

use super::kernel::{Marks, Scope};
use super::netlink::objects::{
    Address, Device, Neighbour, ProxyNeigh, RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_DELROUTE, RTM_DELRULE,
    RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWNETCONF, RTM_NEWROUTE, RTM_NEWRULE, Route, Rule,
};
use super::netlink::socket::{self, RequestSocket};
use super::netlink::wire::{self, Frame};

/// RTNLGRP_LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, IPV4_NETCONF, IPV6_NETCONF.
const GROUPS: [u32; 10] = [1, 3, 5, 7, 8, 9, 11, 19, 24, 25];
const MAIN_TABLE: u32 = 254;
/// Notices come in datagrams of at most 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// What kinds of things changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// A device of the scope appeared, went, or got another state or Ethernet address.
    pub links: bool,
    /// An address on a device of the scope.
    pub addresses: bool,
    /// A route with our mark or in one of our tables, or a default route of the main table.
    pub routes: bool,
    /// A rule of our priority.
    pub rules: bool,
    /// A neighbour with our mark. The kernel says nothing about proxy entries: only an audit finds one that was removed.
    pub neighbours: bool,
    /// A device of the scope was told not to answer for others any more (`proxy_arp`, `proxy_ndp`).
    pub answering: bool,
    /// Notices were lost: look at everything.
    pub lost: bool,
}

impl Change {
    /// Nothing of interest.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// The stream of notices.
pub struct Monitor {
    socket: TokioSocket,
    buffer: Vec<u8>,
    filter: Filter,
    /// Notices were lost, and nobody knows it yet.
    behind: bool,
    list: fn() -> io::Result<BTreeMap<u32, Device>>,
}

/// What concerns us, and what is needed to tell.
struct Filter {
    marks: Marks,
    scope: Scope,
    own_port: Arc<AtomicU32>,
    devices: BTreeMap<u32, Device>,
}

impl Monitor {
    pub(super) fn open(marks: Marks, scope: Scope, own_port: Arc<AtomicU32>) -> io::Result<Self> {
        let socket = subscribe()?;
        // After the subscription, so that nothing happens unseen in between.
        let filter = Filter { marks, scope, own_port, devices: devices()? };
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM), filter, behind: false, list: devices })
    }

    /// Sets what concerns us from now on.
    pub fn set_scope(&mut self, scope: Scope) {
        self.filter.scope = scope;
    }

    /// Waits for a change, then takes along everything that has already happened. Cancel-safe.
    ///
    /// Errors only when a lost subscription cannot be renewed, or not be caught up with; the next call tries again.
    pub async fn next(&mut self) -> io::Result<Change> {
        if self.behind {
            self.socket = subscribe()?;
            return self.start_over();
        }
        match poll_fn(|context| self.poll_change(context)).await {
            Ok(change) => Ok(change),
            // The receive buffer overflowed; the socket goes on.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.start_over(),
            Err(error) => {
                tracing::warn!(%error, "kernel notices interrupted, subscribing again");
                self.behind = true;
                self.socket = subscribe()?;
                self.start_over()
            }
        }
    }

    fn start_over(&mut self) -> io::Result<Change> {
        self.behind = true;
        self.filter.devices = (self.list)()?;
        self.behind = false;
        Ok(Change { lost: true, ..Change::default() })
    }

    /// Reads until there is nothing left to read.
    fn poll_change(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Change>> {
        let mut change = Change::default();
        loop {
            self.buffer.clear();
            match self.socket.poll_recv(context, &mut self.buffer) {
                Poll::Ready(Ok(())) => {
                    for frame in wire::frames(&self.buffer) {
                        self.filter.note(&frame, &mut change);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if change.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(change)),
            }
        }
    }
}

fn subscribe() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket::prepare(socket.socket_mut())?;
    for group in GROUPS {
        socket.socket_mut().add_membership(group)?;
    }
    Ok(socket)
}

fn devices() -> io::Result<BTreeMap<u32, Device>> {
    let devices = RequestSocket::open_strict()?.dump(&Device::dump(), Device::read)?;
    Ok(devices.into_iter().map(|device| (device.ifindex, device)).collect())
}

impl Filter {
    /// Adds to `change` what a notice says, if it concerns us.
    fn note(&mut self, frame: &Frame<'_>, change: &mut Change) {
        let own_port = self.own_port.load(Ordering::Relaxed);
        match frame.kind {
            // Our own changes of devices count as well: they change the facts.
            RTM_NEWLINK | RTM_DELLINK => change.links |= self.note_device(frame),
            _ if own_port != 0 && frame.port == own_port => {}
            RTM_NEWADDR | RTM_DELADDR => {
                // Notices about IPv6 addresses never name who asked; an address with our mark was set by us.
                let by_others =
                    |address: &Address| frame.kind == RTM_DELADDR || address.protocol != self.marks.protocol;
                let device = Address::read(frame).filter(by_others).and_then(|found| self.devices.get(&found.ifindex));
                change.addresses |= device.is_some_and(|device| self.scope.devices.contains(&device.name));
            }
            RTM_NEWROUTE | RTM_DELROUTE => {
                change.routes |= Route::read(frame).is_some_and(|route| {
                    route.protocol == self.marks.protocol
                        || self.scope.tables.contains(&route.table)
                        || (route.table == MAIN_TABLE && route.to.prefix_len() == 0)
                });
            }
            RTM_NEWRULE | RTM_DELRULE => {
                change.rules |= Rule::read(frame).is_some_and(|rule| rule.priority == self.marks.rule_priority);
            }
            RTM_NEWNEIGH | RTM_DELNEIGH => {
                change.neighbours |= Neighbour::read(frame).is_some_and(|entry| entry.protocol == self.marks.protocol);
            }
            // Whoever writes a sysctl is not named. We only ever turn these on.
            RTM_NEWNETCONF => {
                let off = ProxyNeigh::read(frame).filter(|proxy| !proxy.on);
                let device = off.and_then(|proxy| self.devices.get(&proxy.ifindex));
                change.answering |= device.is_some_and(|device| self.scope.devices.contains(&device.name));
            }
            _ => {}
        }
    }

    /// Whether a device of the scope is not what it was.
    fn note_device(&mut self, frame: &Frame<'_>) -> bool {
        let Some(device) = Device::read(frame) else { return false };
        let ifindex = device.ifindex;
        let (old, new) = if frame.kind == RTM_DELLINK {
            (self.devices.remove(&ifindex), None)
        } else {
            (self.devices.insert(ifindex, device.clone()), Some(device))
        };
        let concerns_us = |device: &Device| self.scope.devices.contains(&device.name);
        old != new && (old.iter().any(concerns_us) || new.iter().any(concerns_us))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn lost_notices_are_told_of_even_if_the_devices_cannot_be_listed_at_first() {
        let mut monitor = Monitor::open(Marks::default(), Scope::default(), Arc::default()).unwrap();
        monitor.list = || Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        assert!(monitor.start_over().is_err());
        monitor.list = devices;
        let change =
            timeout(Duration::from_secs(1), monitor.next()).await.expect("it waits for the next change").unwrap();
        assert!(change.lost);
    }
}
