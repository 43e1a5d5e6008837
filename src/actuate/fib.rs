//! Learned routes in the kernel: default routes over one or several leaves, IPv4 over IPv6 link-local next hops where need be.
//!
//! Ours are the routes with our protocol *and* metric in the configured table. A route of somebody else is never replaced or
//! removed: where one stands in the very place of ours (same destination, table and metric), ours is refused.
//! Nothing is removed when the daemon ends: the host must stay reachable while it is upgraded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::OpError;
use super::kernel::Kernel;
use super::netlink::objects::{Hop, Route};

/// The kernel's own number for routes of BGP.
pub const PROTOCOL_BGP: u8 = 186;

/// Where learned routes go and what marks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibSettings {
    /// Routing table.
    pub table: u32,
    /// Metric, not 0 (which the kernel reads as 1024 for IPv6).
    pub metric: u32,
    /// Protocol number.
    pub protocol: u8,
}

impl Default for FibSettings {
    fn default() -> Self {
        Self { table: 254, metric: 20, protocol: PROTOCOL_BGP }
    }
}

/// One way out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FibHop {
    /// The next router, of either family.
    pub via: IpAddr,
    /// The interface it is on; none: the kernel finds it by its own routes. Link-local addresses need it.
    pub device: Option<String>,
}

/// A learned route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibRoute {
    /// The ways out, at least one; several share the traffic equally.
    pub hops: BTreeSet<FibHop>,
    /// Source address of the host's own traffic.
    pub source: Option<IpAddr>,
}

/// What is in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FibState {
    /// Routes of ours.
    pub installed: BTreeMap<IpNet, FibRoute>,
    /// Default routes of others in the table: worth a warning when they are preferred to ours.
    pub foreign_defaults: Vec<ForeignDefault>,
}

/// A default route that somebody else has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignDefault {
    /// 0.0.0.0/0 or ::/0.
    pub to: IpNet,
    /// Its metric; the lower one is used.
    pub metric: u32,
    /// Its protocol number (2 kernel, 3 boot, 4 static, 9 router advertisement, 16 DHCP, …).
    pub protocol: u8,
}

/// One change of the kernel's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FibOp {
    /// Add a route where none of ours is.
    Add(IpNet, FibRoute),
    /// Replace a route of ours, in one step: there is always one.
    Replace(IpNet, FibRoute),
    /// Remove a route of ours.
    Remove(IpNet),
}

/// What it takes to turn the installed routes into the wanted ones: additions and replacements first.
pub fn diff(wanted: &BTreeMap<IpNet, FibRoute>, installed: &BTreeMap<IpNet, FibRoute>) -> Vec<FibOp> {
    let sets = wanted.iter().filter_map(|(to, route)| match installed.get(to) {
        None => Some(FibOp::Add(*to, route.clone())),
        Some(is) if !is.is_like(route) => Some(FibOp::Replace(*to, route.clone())),
        Some(_) => None,
    });
    let removals = installed.keys().filter(|to| !wanted.contains_key(*to)).map(|to| FibOp::Remove(*to));
    sets.chain(removals).collect()
}

/// What it takes to leave a place where learned routes were installed once. Somebody else may install there by now: routes without
/// hops that we could express are over next-hop objects, as FRR's are, and never ours.
pub fn removals(installed: &BTreeMap<IpNet, FibRoute>) -> Vec<FibOp> {
    installed.iter().filter(|(_, route)| !route.hops.is_empty()).map(|(to, _)| FibOp::Remove(*to)).collect()
}

/// Adds to the wanted routes the last ways out of defaults that nobody offers any more, as far as they are not known to be dead.
///
/// A leaf whose session ended may still forward; while it is all there is, it is better than no route at all, and if it does
/// not forward, nothing is lost. `dead` knows better: the link is down, BFD says so, or the leaf has withdrawn the route itself.
pub fn keep_last_resort(
    wanted: &mut BTreeMap<IpNet, FibRoute>,
    installed: &BTreeMap<IpNet, FibRoute>,
    dead: impl Fn(&IpNet, &FibHop) -> bool,
) {
    for (to, route) in installed.iter().filter(|(to, _)| to.prefix_len() == 0) {
        if wanted.contains_key(to) {
            continue;
        }
        let hops: BTreeSet<FibHop> = route.hops.iter().filter(|hop| !dead(to, hop)).cloned().collect();
        if !hops.is_empty() {
            wanted.insert(*to, FibRoute { hops, source: route.source });
        }
    }
}

impl FibRoute {
    /// Whether the kernel's route (with all devices known) is what is wanted.
    fn is_like(&self, wanted: &Self) -> bool {
        let like =
            |is: &FibHop, want: &FibHop| is.via == want.via && (want.device.is_none() || is.device == want.device);
        self.source == wanted.source
            && self.hops.len() == wanted.hops.len()
            && wanted.hops.iter().all(|want| self.hops.iter().any(|is| like(is, want)))
    }
}

impl Kernel {
    /// The learned routes that are installed, and others' default routes.
    pub fn observe_fib(&mut self, settings: FibSettings) -> io::Result<FibState> {
        self.refresh_devices()?;
        let names = self.names();
        let mut state = FibState::default();
        for route in self.dump_both(|v6| Route::dump(v6, Some(settings.table), 0), Route::read)? {
            if route.protocol == settings.protocol && route.metric == settings.metric {
                let read = FibRoute { hops: hops(&route, &names), source: route.source };
                state.installed.insert(route.to, read);
            } else if route.to.prefix_len() == 0 {
                let Route { to, metric, protocol, .. } = route;
                state.foreign_defaults.push(ForeignDefault { to, metric, protocol });
            }
        }
        Ok(state)
    }

    /// Applies changes in order: one result each, a failure does not stop the rest.
    pub fn apply_fib(&mut self, settings: FibSettings, ops: &[FibOp]) -> Vec<Result<(), OpError>> {
        let mut results: Vec<Result<(), OpError>> = Vec::with_capacity(ops.len());
        let mut requests = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let request = match op {
                FibOp::Add(to, route) => self.learned(settings, *to, route).map(|route| route.add()),
                FibOp::Replace(to, route) => self.learned(settings, *to, route).map(|route| route.replace()),
                FibOp::Remove(to) => Ok(empty(settings, *to).remove()),
            };
            results.push(request.map(|request| requests.push((index, request))));
        }
        let (indexes, requests): (Vec<usize>, Vec<_>) = requests.into_iter().unzip();
        let answers = match self.execute(&requests) {
            Ok(answers) => answers
                .into_iter()
                .map(|answer| answer.map_err(|refused| (refused.errno, refused.to_string())))
                .collect(),
            Err(error) => vec![Err((0, error.to_string())); requests.len()],
        };
        for (index, answer) in indexes.into_iter().zip(answers) {
            if let (Some(slot), Some(op)) = (results.get_mut(index), ops.get(index)) {
                *slot = answer.or_else(|(errno, reason)| judge(op, settings, errno, reason));
            }
        }
        results
    }

    fn learned(&mut self, settings: FibSettings, to: IpNet, route: &FibRoute) -> Result<Route, OpError> {
        let mut hops = Vec::with_capacity(route.hops.len());
        for hop in &route.hops {
            let ifindex = match &hop.device {
                Some(device) => self.ifindex(device)?,
                None => 0,
            };
            hops.push(Hop { ifindex, via: Some(hop.via) });
        }
        Ok(Route { hops, source: route.source, ..empty(settings, to) })
    }
}

fn empty(settings: FibSettings, to: IpNet) -> Route {
    let FibSettings { table, metric, protocol } = settings;
    Route { to, table, protocol, metric, source: None, hops: Vec::new() }
}

fn hops(route: &Route, names: &HashMap<u32, String>) -> BTreeSet<FibHop> {
    let hop = |hop: &Hop| Some(FibHop { via: hop.via?, device: names.get(&hop.ifindex).cloned() });
    route.hops.iter().filter_map(hop).collect()
}

/// What a refusal means.
fn judge(op: &FibOp, settings: FibSettings, errno: i32, reason: String) -> Result<(), OpError> {
    let FibSettings { table, metric, .. } = settings;
    match op {
        FibOp::Remove(_) if matches!(errno, libc::ESRCH | libc::ENOENT) => Ok(()),
        FibOp::Add(to, _) if errno == libc::EEXIST => Err(OpError::Refused {
            what: format!("add learned route {to} metric {metric} table {table}"),
            reason: "a route of somebody else has the same metric; set another [fib] metric".to_owned(),
        }),
        FibOp::Add(to, route) | FibOp::Replace(to, route) => {
            let hops: Vec<String> = route
                .hops
                .iter()
                .map(|hop| match &hop.device {
                    Some(device) => format!("via {} dev {device}", hop.via),
                    None => format!("via {}", hop.via),
                })
                .collect();
            let what = format!("install learned route {to} {} metric {metric} table {table}", hops.join(" "));
            Err(OpError::Refused { what, reason })
        }
        FibOp::Remove(to) => {
            Err(OpError::Refused { what: format!("remove learned route {to} metric {metric} table {table}"), reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default_v4() -> IpNet {
        "0.0.0.0/0".parse().unwrap()
    }

    fn route(hops: &[(&str, Option<&str>)]) -> FibRoute {
        let hop = |(via, device): &(&str, Option<&str>)| FibHop {
            via: via.parse().unwrap(),
            device: device.map(str::to_owned),
        };
        FibRoute { hops: hops.iter().map(hop).collect(), source: None }
    }

    #[test]
    fn a_wanted_route_without_device_is_like_the_kernels_with_one() {
        let installed = [(default_v4(), route(&[("10.0.0.1", Some("eth0"))]))].into();
        assert!(diff(&[(default_v4(), route(&[("10.0.0.1", None)]))].into(), &installed).is_empty());
        let elsewhere = route(&[("10.0.0.1", Some("eth1"))]);
        assert_eq!(
            diff(&[(default_v4(), elsewhere.clone())].into(), &installed),
            [FibOp::Replace(default_v4(), elsewhere)]
        );
    }

    #[test]
    fn a_place_is_left_without_the_routes_that_cannot_be_ours() {
        let ours: IpNet = "10.0.0.0/8".parse().unwrap();
        let installed = [(default_v4(), route(&[])), (ours, route(&[("10.0.0.1", Some("eth0"))]))].into();
        assert_eq!(removals(&installed), [FibOp::Remove(ours)]);
    }

    #[test]
    fn the_same_link_local_address_on_two_links_is_two_ways() {
        let both = route(&[("fe80::1", Some("eth0")), ("fe80::1", Some("eth1"))]);
        let one = route(&[("fe80::1", Some("eth0"))]);
        let installed = [(default_v4(), both.clone())].into();
        assert_eq!(diff(&[(default_v4(), one.clone())].into(), &installed), [FibOp::Replace(default_v4(), one)]);
        assert!(diff(&[(default_v4(), both)].into(), &installed).is_empty());
    }

    #[test]
    fn the_last_default_stays_until_its_way_is_known_to_be_dead() {
        let both = route(&[("fe80::1", Some("eth0")), ("fe80::2", Some("eth1"))]);
        let installed =
            [(default_v4(), both), ("10.0.0.0/8".parse().unwrap(), route(&[("fe80::1", Some("eth0"))]))].into();
        let mut wanted = BTreeMap::new();
        keep_last_resort(&mut wanted, &installed, |_, hop| hop.device.as_deref() == Some("eth1"));
        assert_eq!(
            wanted,
            [(default_v4(), route(&[("fe80::1", Some("eth0"))]))].into(),
            "defaults only, live ways only"
        );
        let mut wanted = BTreeMap::new();
        keep_last_resort(&mut wanted, &installed, |_, _| true);
        assert!(wanted.is_empty());
        let better = route(&[("fe80::3", Some("eth2"))]);
        let mut wanted = [(default_v4(), better.clone())].into();
        keep_last_resort(&mut wanted, &installed, |_, _| false);
        assert_eq!(wanted[&default_v4()], better, "what is offered counts alone");
    }
}
