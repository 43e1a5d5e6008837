//! BGP unnumbered: who is at the other end of this interface?
//!
//! Both ends send router advertisements (RFC 4861 §4.2) and take the link-local source of the other's for the address to peer
//! with, as FRR and BIRD do. [`message`] reads and writes the ICMPv6 messages, [`Discovery`] is the machine of one interface: it
//! is told what arrives and what time it is, and says what to send and who appeared or went.

mod discovery;
pub mod message;

pub use discovery::{Discovery, Output, Settings};
