//! The agent: watches OVN, wires this host, announces what it can deliver.
//!
//! ```text
//! ovsdb ─▶ nb::View ────┐
//! ovsdb ─▶ host::Facts ─┼─▶ desired::compute ─▶ Desired ─▶ diff ─▶ plan ─▶ actuate::{kernel, ovs, bgp}
//! config ───────────────┘        (pure)                    ▲
//!                                                 Actual ──┘  (observed, never remembered)
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | [`config`] | TOML → validated values; every problem with file, line, column |
//! | [`ovsdb`] | RFC 7047 client that knows nothing of OVN |
//! | [`openflow`] | just enough OpenFlow over a bridge's management socket |
//! | [`nb`] | Northbound rows as typed values, and the [`nb::View`] with its indexes |
//! | [`host`] | facts of this hypervisor |
//! | [`desired`] | the rules, pure |
//! | [`diff`], [`plan`] | what differs, and the order of effects |
//! | [`reconcile`] | when to recompute, retry, audit; pure |
//! | [`actuate`] | observe and apply for one outside world each |
//! | [`api`] | HTTP over a unix socket |
//! | [`daemon`] | the main loop: ties the edges to the cores |
//! | [`cli`] | commands |

pub mod actuate;
pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod desired;
pub mod diff;
pub mod host;
pub mod mac;
pub mod nb;
pub mod openflow;
pub mod ovsdb;
pub mod plan;
pub mod reconcile;
pub mod record;
