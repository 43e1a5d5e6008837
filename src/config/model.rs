//! The configuration as values: defaults filled in, groups resolved, references followed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bgp::bfd::{AuthKind, Keys, SessionConfig};
use bgp::policy::PrefixList;
use bgp::speaker::{self, PeerConfig, Secret, SpeakerConfig};
use ipnet::IpNet;

use crate::desired::{self, Rules, TenantAdvertisement};

/// Everything one configuration file says, with the files it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from; read again on reload.
    pub file: PathBuf,
    /// `[bgp]`.
    pub bgp: Bgp,
    /// `[bfd.profiles]`, by name.
    pub bfd_profiles: BTreeMap<String, BfdProfile>,
    /// `[prefix_lists]`, by name.
    pub prefix_lists: BTreeMap<String, Arc<PrefixList>>,
    /// `[advertise]`.
    pub advertise: Advertise,
    /// `[fib]`.
    pub fib: Fib,
    /// `[ovn]`; `None`: a plain speaker.
    pub ovn: Option<Ovn>,
    /// `[wiring]`.
    pub wiring: Wiring,
    /// `[api]`.
    pub api: Api,
}

impl Config {
    /// What the speaker's driver is given.
    pub fn driver(&self) -> bgp::driver::Config {
        bgp::driver::Config {
            speaker: SpeakerConfig {
                listen_ranges: self.bgp.listen_ranges.iter().map(|range| range.range.clone()).collect(),
                ..self.bgp.speaker.clone()
            },
            peers: self.bgp.neighbors.iter().map(|neighbor| neighbor.peer.clone()).collect(),
            listen: self.bgp.listen.clone(),
            port: self.bgp.port,
        }
    }

    /// What the rules are given. Without an `[ovn]` section nothing is exposed, and this means nothing.
    pub fn options(&self) -> desired::Options {
        let rules = self.wiring.rules;
        let Some(ovn) = &self.ovn else { return desired::Options { rules, ..desired::Options::default() } };
        desired::Options {
            expose_tenant_networks: ovn.expose_tenant_networks,
            expose_ipv6_gua_tenant_networks: ovn.expose_ipv6_gua_tenant_networks,
            tenant_advertisement: ovn.tenant_advertisement,
            require_snat_disabled_for_tenant_networks: ovn.require_snat_disabled_for_tenant_networks,
            address_scopes: ovn.address_scopes.iter().cloned().collect(),
            rules,
        }
    }
}

/// `[bgp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bgp {
    /// What holds for the speaker as a whole.
    pub speaker: SpeakerConfig,
    /// Addresses to listen on; none means dial only.
    pub listen: Vec<IpAddr>,
    /// The port to listen on.
    pub port: u16,
    /// How long neighbours are asked to look elsewhere before a drain withdraws everything.
    pub drain_wait: Duration,
    /// The neighbours, in the order of the file, each once.
    pub neighbors: Vec<Neighbor>,
    /// Where neighbours may dial from that are not configured one by one; each prefix once.
    pub listen_ranges: Vec<ListenRange>,
}

/// One listen range with the options of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenRange {
    /// What the speaker is told of it. The password is in here whether it stood in the file or in a file of its own.
    pub range: speaker::ListenRange,
    /// Its group.
    pub peer_group: Option<String>,
    /// Where its password was read from; relative to the configuration file.
    pub password_file: Option<PathBuf>,
}

/// One neighbour with the options of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// What the speaker is told of it. The password is in here whether it stood in the file or in a file of its own.
    pub peer: PeerConfig,
    /// Its group.
    pub peer_group: Option<String>,
    /// Where its password was read from; relative to the configuration file.
    pub password_file: Option<PathBuf>,
    /// BFD.
    pub bfd: Option<NeighborBfd>,
}

/// BFD for a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighborBfd {
    /// Name of the profile; it exists.
    pub profile: String,
    /// BGP waits for BFD to be up.
    pub strict: bool,
    /// A failure of BFD leaves the routes to graceful restart.
    pub graceful: bool,
}

/// One of `[bfd.profiles]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdProfile {
    /// Intervals, multiplier and role.
    pub session: SessionConfig,
    /// A path that comes and goes is not relied on at once.
    pub damping: bool,
    /// How packets are authenticated; `None`: not at all.
    pub authentication: Option<BfdAuthentication>,
}

impl Default for BfdProfile {
    fn default() -> Self {
        Self { session: SessionConfig::default(), damping: true, authentication: None }
    }
}

/// `authentication` of a BFD profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdAuthentication {
    /// Auth Type.
    pub kind: AuthKind,
    /// The first one signs, all are accepted.
    pub keys: Vec<BfdKey>,
}

/// A key of a BFD profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdKey {
    /// Auth Key ID.
    pub id: u8,
    /// The key, whether it stood in the file or in a file of its own.
    pub password: Option<Secret>,
    /// Where it was read from; absolute.
    pub password_file: Option<PathBuf>,
}

impl BfdAuthentication {
    /// The keys; `None` if one is missing or unusable, in which case nothing may go out without.
    pub fn keys(&self) -> Option<Keys> {
        let key = |key: &BfdKey| Some((key.id, key.password.as_ref()?.reveal().as_bytes().to_vec()));
        Keys::new(self.kind, self.keys.iter().map(key).collect::<Option<Vec<_>>>()?)
    }
}

/// `[advertise]`: routes of the host itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertise {
    /// Given in the file.
    pub prefixes: Vec<IpNet>,
    /// Patterns of files with one prefix a line, absolute.
    pub files: Vec<PathBuf>,
    /// What those files held when they were read; sorted, each once.
    pub from_files: Arc<Vec<IpNet>>,
    /// Interfaces whose addresses are announced, live.
    pub interfaces: Vec<String>,
}

/// `[fib]`: learned routes into the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fib {
    /// Which; `None`: none.
    pub install: Option<Arc<PrefixList>>,
    /// Routing table.
    pub table: u32,
    /// Metric (priority) of the routes.
    pub metric: u32,
    /// Preferred source of IPv4 routes.
    pub source_ipv4: Option<Ipv4Addr>,
    /// Preferred source of IPv6 routes.
    pub source_ipv6: Option<Ipv6Addr>,
    /// Next hops of one route, at most.
    pub max_paths: usize,
}

impl Default for Fib {
    fn default() -> Self {
        Self { install: None, table: 254, metric: 20, source_ipv4: None, source_ipv6: None, max_paths: 16 }
    }
}

/// `[ovn]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ovn {
    /// Northbound database servers; none: `external_ids:ovn-nb-remote` says.
    pub nb: Vec<String>,
    /// The local Open_vSwitch database.
    pub ovs: String,
    /// Keys for `ssl:` remotes.
    pub tls: Option<Tls>,
    /// Name of this host, when not the one of the local database: `hostname`.
    pub hostname: Option<String>,
    /// Name of this host, when not the one of the local database: `system-id`.
    pub system_id: Option<String>,
    /// Tenant addresses through the gateway host.
    pub expose_tenant_networks: bool,
    /// The same, global IPv6 only; without effect when the former is on.
    pub expose_ipv6_gua_tenant_networks: bool,
    /// One prefix a port, or one a subnet.
    pub tenant_advertisement: TenantAdvertisement,
    /// Subnets behind SNAT stay hidden.
    pub require_snat_disabled_for_tenant_networks: bool,
    /// Only tenant networks of these address scopes; none: all.
    pub address_scopes: Vec<String>,
    /// Which Northbound rows are followed.
    pub monitor: Monitor,
}

/// Which Northbound rows are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Monitor {
    /// All of them: the server does the same work for every host, once.
    #[default]
    All,
    /// Of the ports only those that can concern this host: less memory here, more work for the server.
    Conditional,
}

/// Files of a TLS client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Private key, PEM.
    pub key: PathBuf,
    /// Certificate, PEM.
    pub certificate: PathBuf,
    /// Certificate authority, PEM.
    pub ca: PathBuf,
}

/// `[wiring]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// One rule a prefix or a table.
    pub rules: Rules,
    /// Priority of our rules.
    pub rule_priority: u32,
    /// Protocol number of our routes and rules: the mark that says they are ours.
    pub route_protocol: u8,
    /// Cookie of our flows: the mark that says they are ours.
    pub flow_cookie: u64,
    /// Between looks at what is really there.
    pub audit_interval: Duration,
    /// Take over what ovn-bgp-agent left in the kernel, once.
    pub adopt_upstream: bool,
}

impl Default for Wiring {
    fn default() -> Self {
        Self {
            rules: Rules::PerPrefix,
            rule_priority: 32000,
            route_protocol: 99,
            flow_cookie: 0x3e7,
            audit_interval: Duration::from_mins(5),
            adopt_upstream: false,
        }
    }
}

/// Where the control socket is unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/ovn-bgpd/ovn-bgpd.sock";

/// `[api]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Control socket.
    pub socket: PathBuf,
    /// Read-only over TCP; `None`: off.
    pub listen: Option<SocketAddr>,
}

impl Default for Api {
    fn default() -> Self {
        Self { socket: PathBuf::from(DEFAULT_SOCKET), listen: None }
    }
}
