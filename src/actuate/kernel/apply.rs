//! Operations → requests, batches, and what the answers mean.

use std::io;

use super::{ALIAS, Kernel, is_ours};
use crate::actuate::netlink::objects::{Device, Hop, Vlan};
use crate::actuate::netlink::socket::Refused;
use crate::actuate::netlink::wire::Request;
use crate::actuate::{OpError, describe};
use crate::desired::wiring::{Key, Spec};
use crate::diff::Op;

/// A request of an operation, and the errors that mean "already so".
type Step = (Request, &'static [i32]);

/// What an operation comes to.
enum Action {
    /// These requests, in order.
    Send(Vec<Step>),
    /// Done, or impossible, without asking the kernel.
    Settled(Result<(), OpError>),
}

impl Kernel {
    /// Applies the operations in the order given, as far as possible: one result each, a failure does not stop the rest.
    pub fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), OpError>> {
        let mut results: Vec<Result<(), OpError>> = Vec::with_capacity(ops.len());
        let mut pending: Vec<(usize, Vec<Step>)> = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            results.push(Ok(()));
            // What comes next must find the devices and addresses that were asked for before.
            if matches!(op.key(), Key::Sysctl { .. } | Key::VlanDevice { .. }) {
                self.flush(ops, &pending, &mut results);
                pending.clear();
            }
            match self.action(op) {
                Action::Send(steps) => pending.push((index, steps)),
                Action::Settled(result) => settle(&mut results, index, result),
            }
        }
        self.flush(ops, &pending, &mut results);
        results
    }

    /// Sends the steps. An operation that fails because a device was made anew meanwhile is tried once more with its new index.
    fn flush(&mut self, ops: &[Op], pending: &[(usize, Vec<Step>)], results: &mut [Result<(), OpError>]) {
        let stale = self.send(ops, pending, results);
        if stale.is_empty() || self.refresh_devices().is_err() {
            return;
        }
        let mut again = Vec::new();
        for index in stale {
            let Some(op) = ops.get(index) else { continue };
            settle(results, index, Ok(()));
            match self.action(op) {
                Action::Send(steps) => again.push((index, steps)),
                Action::Settled(result) => settle(results, index, result),
            }
        }
        self.send(ops, &again, results);
    }

    /// Sends the steps and settles their operations; answers which ones failed for want of a device.
    fn send(&mut self, ops: &[Op], pending: &[(usize, Vec<Step>)], results: &mut [Result<(), OpError>]) -> Vec<usize> {
        let requests: Vec<Request> = pending.iter().flat_map(|(_, steps)| steps).map(|step| step.0.clone()).collect();
        if requests.is_empty() {
            return Vec::new();
        }
        let answers = match self.execute(&requests) {
            Ok(answers) => answers,
            Err(error) => {
                for (index, _) in pending {
                    settle(results, *index, Err(OpError::Lost(error.to_string())));
                }
                return Vec::new();
            }
        };
        let mut stale = Vec::new();
        let asked = pending.iter().flat_map(|(index, steps)| steps.iter().map(move |step| (*index, step.1)));
        for ((index, tolerated), answer) in asked.zip(answers) {
            let Err(refused) = answer else { continue };
            if tolerated.contains(&refused.errno) {
                continue;
            }
            if matches!(refused.errno, libc::ENODEV | libc::ENXIO) {
                stale.push(index);
            }
            if let Some(op) = ops.get(index) {
                settle(results, index, Err(explain(op, &refused)));
            }
        }
        stale.dedup();
        stale
    }

    /// Turns an operation into requests, or does it when it is not one of netlink.
    fn action(&mut self, op: &Op) -> Action {
        let outcome = match op {
            Op::Set(key, spec) => {
                // What is added or replaced has our mark.
                self.foreign.remove(key);
                self.set(key, spec)
            }
            Op::Remove(key) => self.remove(key),
        };
        outcome.unwrap_or_else(|error| Action::Settled(Err(error)))
    }

    fn set(&mut self, key: &Key, spec: &Spec) -> Result<Action, OpError> {
        let marks = self.marks;
        let request = match (key, spec) {
            (Key::LinkUp { device }, _) => Device::set_up(self.ifindex(device)?),
            (Key::VlanDevice { name }, Spec::Vlan { parent, tag }) => return self.set_vlan(name, parent, *tag),
            (Key::Address { device, address }, _) => marks.address(self.ifindex(device)?, *address).replace(),
            (Key::Sysctl { path }, Spec::Value(value)) => return Ok(Action::Settled(self.write_sysctl(path, value))),
            (Key::Route { table, to }, Spec::Route { device, via }) => {
                let hops = vec![Hop { ifindex: self.ifindex(device)?, via: *via }];
                marks.route(*table, *to, hops).replace()
            }
            (Key::Rule { to, v6, table }, _) => {
                return Ok(Action::Send(vec![(marks.rule(*to, *v6, *table).add(), &[libc::EEXIST])]));
            }
            (Key::Neighbour { device, address }, Spec::Lladdr(mac)) => {
                marks.neighbour(self.ifindex(device)?, *address, Some(*mac)).replace()
            }
            (Key::Proxy { device, address }, _) => marks.proxy(self.ifindex(device)?, *address).replace(),
            (Key::Flow { .. }, _) => return Err(OpError::WrongWorld("kernel")),
            (key, spec) => {
                return Err(OpError::Refused {
                    what: format!("set {key:?}"),
                    reason: format!("{spec:?} makes no sense"),
                });
            }
        };
        Ok(Action::Send(vec![(request, &[])]))
    }

    fn remove(&mut self, key: &Key) -> Result<Action, OpError> {
        const GONE: Action = Action::Settled(Ok(()));
        let marks = self.marks;
        if self.foreign.contains(key) {
            return Ok(GONE);
        }
        let step: Step = match key {
            // Never set down, never restored.
            Key::LinkUp { .. } | Key::Sysctl { .. } => return Ok(GONE),
            Key::VlanDevice { name } => return self.remove_vlan(name),
            Key::Address { device, address } => match self.ifindex(device) {
                Ok(ifindex) => (marks.address(ifindex, *address).remove(), &[libc::EADDRNOTAVAIL, libc::ENODEV]),
                // Gone with its device.
                Err(_) => return Ok(GONE),
            },
            Key::Route { table, to } => (marks.route(*table, *to, Vec::new()).remove(), &[libc::ESRCH, libc::ENOENT]),
            Key::Rule { to, v6, table } => (marks.rule(*to, *v6, *table).remove(), &[libc::ENOENT]),
            Key::Neighbour { device, address } => match self.ifindex(device) {
                Ok(ifindex) => (marks.neighbour(ifindex, *address, None).remove(), &[libc::ENOENT, libc::ENODEV]),
                Err(_) => return Ok(GONE),
            },
            Key::Proxy { device, address } => match self.ifindex(device) {
                Ok(ifindex) => (marks.proxy(ifindex, *address).remove(), &[libc::ENOENT, libc::ENODEV]),
                Err(_) => return Ok(GONE),
            },
            Key::Flow { .. } => return Err(OpError::WrongWorld("kernel")),
        };
        Ok(Action::Send(vec![step]))
    }

    fn set_vlan(&mut self, name: &str, parent: &str, tag: u16) -> Result<Action, OpError> {
        self.refresh_devices().map_err(|error| OpError::Lost(error.to_string()))?;
        let vlan = Vlan { parent: self.ifindex(parent)?, tag };
        let mut steps: Vec<Step> = Vec::new();
        match self.devices.get(name) {
            // The alias may be what is missing: a crash between the two steps.
            Some(device) if device.vlan == Some(vlan) => steps.push((Device::set_up(device.ifindex), &[])),
            Some(device) if device.vlan.is_some() && is_ours(device) => {
                steps.push((Device::remove(device.ifindex), &[libc::ENODEV]));
                steps.push((Device::add_vlan(name, vlan), &[]));
                steps.push((Device::set_alias(name, ALIAS), &[]));
            }
            // Made by the operator in the place of ours, such as an OVS internal port with the tag: as when it is observed.
            Some(device) if device.vlan.is_none() => return Ok(Action::Settled(Ok(()))),
            Some(_) => return Err(OpError::ForeignDevice(name.to_owned())),
            None => {
                steps.push((Device::add_vlan(name, vlan), &[]));
                // Fails in the wake of the first step; that one's answer is what is reported.
                steps.push((Device::set_alias(name, ALIAS), &[]));
            }
        }
        let requests: Vec<Request> = steps.into_iter().map(|step| step.0).collect();
        let answers = self.execute(&requests).map_err(|error| OpError::Lost(error.to_string()))?;
        self.refresh_devices().map_err(|error| OpError::Lost(error.to_string()))?;
        match answers.into_iter().find_map(Result::err) {
            None => Ok(Action::Settled(Ok(()))),
            Some(refused) if refused.errno == libc::EOPNOTSUPP => Err(OpError::NoVlanSupport(name.to_owned())),
            Some(refused) => Err(OpError::Refused {
                what: format!("make VLAN device {name} (tag {tag} on {parent})"),
                reason: refused.to_string(),
            }),
        }
    }

    fn remove_vlan(&mut self, name: &str) -> Result<Action, OpError> {
        self.refresh_devices().map_err(|error| OpError::Lost(error.to_string()))?;
        match self.devices.get(name) {
            Some(device) if is_ours(device) => {
                Ok(Action::Send(vec![(Device::remove(device.ifindex), &[libc::ENODEV])]))
            }
            _ => Ok(Action::Settled(Ok(()))),
        }
    }

    /// Writes only what differs: some sysctls act on every write.
    fn write_sysctl(&self, path: &str, value: &str) -> Result<(), OpError> {
        if self.read_sysctl(path).is_ok_and(|current| current == value) {
            return Ok(());
        }
        let error = |source| OpError::Sysctl { path: path.to_owned(), source };
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(error(io::Error::new(io::ErrorKind::InvalidInput, "not a path below /proc/sys")));
        }
        std::fs::write(self.sysctls.join(path), value).map_err(error)
    }
}

fn settle(results: &mut [Result<(), OpError>], index: usize, result: Result<(), OpError>) {
    if let Some(slot) = results.get_mut(index) {
        *slot = result;
    }
}

/// What was tried, in words close to iproute2's, and the kernel's answer.
fn explain(op: &Op, refused: &Refused) -> OpError {
    let what = match op {
        Op::Set(Key::LinkUp { device }, _) => format!("set {device} up"),
        Op::Set(Key::Route { table, to }, Spec::Route { device, via }) => {
            let via = via.map(|via| format!(" via {via} onlink")).unwrap_or_default();
            format!("replace route {to}{via} dev {device} table {table}")
        }
        Op::Set(Key::Neighbour { device, address }, Spec::Lladdr(mac)) => {
            format!("replace neighbour {address} lladdr {mac} dev {device}")
        }
        Op::Set(key, _) => format!("add {}", describe(key)),
        Op::Remove(key) => format!("remove {}", describe(key)),
    };
    OpError::Refused { what, reason: refused.to_string() }
}
