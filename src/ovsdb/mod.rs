//! An OVSDB client (RFC 7047 and the extensions of ovsdb-server(7)) that knows nothing of OVN.
//!
//! ```text
//! bytes ─▶ framing ─▶ message ─▶ conversation ─▶ events      conversation: no IO, no clock
//!                                  └ replica ─▶ value::Database
//! client: one task's sockets, TLS and timer around a conversation
//! file:   the same values out of a database file
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | [`value`] | atoms, sets, maps, rows |
//! | [`table`], [`intern`] | rows at rest, packed |
//! | [`schema`] | column types |
//! | [`framing`] | cuts the stream into messages |
//! | [`replica`] | the monitored rows, and what an update does to them |
//! | [`conversation`] | handshake, monitor, probes, reconnects |
//! | [`remote`] | `tcp:`, `ssl:`, `unix:` |
//! | [`client`], [`tls`] | the edge |
//! | [`file`] | database files and dumps |

pub mod client;
pub mod conversation;
mod decode;
pub mod file;
pub mod framing;
pub mod intern;
mod message;
pub mod remote;
pub mod replica;
pub mod schema;
pub mod table;
pub mod tls;
pub mod value;
