//! The edge of the speaker: sockets, clock and thread.

mod config;

pub use config::Config;
