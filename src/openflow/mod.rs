//! Just enough OpenFlow to keep a handful of flows on a bridge, over the bridge's management socket (`<rundir>/<bridge>.mgmt`).
//!
//! | module | what it is for |
//! |---|---|
//! | [`message`] | messages ↔ bytes for OpenFlow 1.0, 1.3 and 1.4, no IO |
//! | [`flow`] | the one form of flow the agent uses ↔ bytes, no IO |
//! | [`client`] | a connection: negotiation, dump, changes with one result each |
//!
//! Version 1.4 changes several flows at once, all or nothing, in a bundle; before it they go one by one in front of a barrier.
//! Bridges may be restricted to some versions (`protocols` of the Bridge row), which is why 1.0 is here as well.

pub mod client;
pub mod flow;
pub mod message;
