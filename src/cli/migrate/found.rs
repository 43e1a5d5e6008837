//! What was found in the old files, in the words of the new one.

use std::collections::BTreeMap;
use std::path::Path;

/// Everything found. Values are TOML already where they are texts that go out unchanged.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) asn: Option<String>,
    pub(super) router_id: Option<String>,
    pub(super) ebgp_requires_policy: Option<bool>,
    /// `frr defaults datacenter`: a fabric's short timers, and no policy required.
    pub(super) datacenter: bool,
    /// `frr version 7.3`: the defaults that FRR takes are those of the version that wrote the file.
    pub(super) version: Option<(u32, u32)>,
    pub(super) graceful_restart: Option<bool>,
    pub(super) restart_time: Option<u32>,
    /// FRR activates IPv4 for every neighbour unless told `no bgp default ipv4-unicast`.
    pub(super) no_default_ipv4: bool,
    /// `timers bgp KEEPALIVE HOLD`.
    pub(super) timers: Option<(u32, u32)>,
    /// In the order of the file.
    pub(super) groups: Vec<(String, Session)>,
    /// In the order of the file.
    pub(super) neighbors: Vec<Neighbor>,
    /// Rules in FRR's words, both families of one name together.
    pub(super) prefix_lists: BTreeMap<String, Vec<String>>,
    /// Profiles: name → key → value.
    pub(super) bfd_profiles: BTreeMap<String, BTreeMap<&'static str, String>>,
    pub(super) route_maps: BTreeMap<String, Vec<Clause>>,
    /// The route-maps of the whole file, known before the first statement refers to one.
    pub(super) all_route_maps: BTreeMap<String, Vec<Clause>>,
    /// `ip protocol bgp route-map` and `ipv6 protocol bgp route-map`.
    pub(super) kernel_maps: Vec<String>,
    pub(super) max_paths: Option<String>,
    pub(super) networks: Vec<String>,
    pub(super) redistribute_connected: bool,
    /// Lines of `[ovn]`.
    pub(super) ovn: Vec<String>,
    /// Lines of `[wiring]`.
    pub(super) wiring: Vec<String>,
    /// What was not carried over: `file:line: why`.
    pub(super) notes: Vec<String>,
}

/// A neighbour and its options.
#[derive(Debug, Default)]
pub(super) struct Neighbor {
    /// Address or interface.
    pub(super) name: String,
    /// It is an interface.
    pub(super) interface: bool,
    pub(super) group: Option<String>,
    pub(super) session: Session,
}

/// Options of a neighbour or a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    /// Key → TOML value, for what is the same in all families.
    pub(super) options: BTreeMap<&'static str, String>,
    pub(super) ipv4: Family,
    pub(super) ipv6: Family,
}

/// What FRR says per address family.
#[derive(Clone, Debug, Default)]
pub(super) struct Family {
    /// `activate` and `no … activate`.
    pub(super) active: Option<bool>,
    /// Key → TOML value.
    pub(super) options: BTreeMap<&'static str, String>,
}

/// One `route-map NAME permit|deny SEQ` block, as far as it is understood.
#[derive(Clone, Debug, Default)]
pub(super) struct Clause {
    pub(super) permit: bool,
    pub(super) prefix_lists: Vec<String>,
    pub(super) source: Option<String>,
    /// It holds something else.
    pub(super) more: bool,
}

impl Found {
    /// A line that was not carried over, and why.
    pub(super) fn note(&mut self, file: &Path, line: usize, why: impl std::fmt::Display) {
        self.notes.push(format!("{}:{line}: {why}", file.display()));
    }
}

/// Text as a TOML string.
pub(super) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
