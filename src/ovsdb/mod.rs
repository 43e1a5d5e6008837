//! An OVSDB client (RFC 7047) that knows nothing of OVN.

pub mod value;
