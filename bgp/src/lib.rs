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

#![warn(missing_docs)]

pub mod bfd;
#[cfg(feature = "driver")]
pub mod driver;
pub mod policy;
pub mod rib;
pub mod rng;
pub mod session;
pub mod speaker;
pub mod types;
pub mod unnumbered;
pub mod wire;
