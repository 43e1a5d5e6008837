//! Peers and routes behind one handle / poll / next_deadline.

mod config;

pub use config::{
    AllowAsIn, BGP_PORT, GracefulRestart, NextHopFormat, PeerAddress, PeerConfig, RemoteAs, Secret, SpeakerConfig,
};
