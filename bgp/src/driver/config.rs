//! All the driver needs to know, as one value: what runs, and what a reload replaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::speaker::{BGP_PORT, PeerConfig, SpeakerConfig};

/// The whole configuration. A reload hands over a whole new one; what differs is found by comparing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our AS, identifier and what else holds for all peers.
    pub speaker: SpeakerConfig,
    /// The peers, each address once.
    pub peers: Vec<PeerConfig>,
    /// Addresses to listen on; none means dial only.
    pub listen: Vec<IpAddr>,
    /// The port to listen on.
    pub port: u16,
}

impl Config {
    /// No peers, listening on all addresses.
    pub fn new(speaker: SpeakerConfig) -> Self {
        Self {
            speaker,
            peers: Vec::new(),
            listen: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
            port: BGP_PORT,
        }
    }
}
