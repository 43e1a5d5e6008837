//! An embeddable BGP speaker.
//!
//! The core is told, never asks: it gets bytes, events and `now`, and answers with what to send and when to wake. It opens no
//! socket, reads no clock and spawns nothing; a build without the default feature `driver` proves it.
//!
//! | module | what it is for |
//! |---|---|
//! | [`types`] | the few words everybody uses: AS number, address family, prefix |
//! | [`wire`] | bytes ⇄ values, no state (RFC 4271 §4, 4760, 5492, 6793, 7606, 8654, 9072 …) |
//! | [`session`] | one peer: the RFC 4271 §8 state machine, collision, timers, negotiation |
//! | [`rib`] | routes: Adj-RIB-In, the decision, what a peer may be told, packing into UPDATEs |
//! | [`policy`] | prefix lists |
//! | [`rng`] | randomness that is reproducible from a seed |
//! | [`speaker`] | peers and routes behind one handle / poll / next_deadline |
//! | [`bfd`] | the RFC 5880 state machine |
//! | [`unnumbered`] | router advertisements and neighbour discovery for interface peers |
//! | `driver` | the edge: tokio, sockets and their options (feature `driver`) |
//!
//! One address, announced to one router; `examples/plain.rs` is the whole program:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use bgp::driver::{Config, spawn};
//! use bgp::rib::{Origination, RouteSet};
//! use bgp::speaker::{PeerAddress, PeerConfig, RemoteAs, SpeakerConfig};
//!
//! let mut config = Config::new(SpeakerConfig::new(64999, "192.0.2.1".parse()?));
//! config.peers = vec![PeerConfig::new(PeerAddress::Numbered("10.0.0.1".parse()?), RemoteAs::Number(65001))];
//! let (speaker, thread) = spawn(config)?;
//!
//! // Always the whole set: the speaker finds out what each peer has not been told.
//! speaker.set_routes(Arc::new(RouteSet::from_iter([("192.0.2.1/32".parse()?, Arc::new(Origination::default()))])));
//! # let _ = thread.join();
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

pub mod bfd;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(test)]
#[cfg(feature = "driver")]
mod format;
mod octets;
pub mod policy;
pub mod rib;
pub mod rng;
pub mod session;
pub mod speaker;
pub mod types;
pub mod unnumbered;
pub mod wire;
