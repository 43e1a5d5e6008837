//! rtnetlink, as much of it as the agent needs.
//!
//! | module | what it is for |
//! |---|---|
//! | [`wire`] | messages and attributes as bytes, no IO |
//! | [`objects`] | rules, routes, neighbours, addresses, links ↔ messages, no IO |
//! | [`socket`] | the request sockets: batches with acknowledgements, dumps |
//!
//! Only attributes the agent knows are read and everything else is skipped, so that a newer kernel never makes a link or a
//! route unreadable. The kernel handles a request inside `send`, in the caller's thread: the acknowledgements are there when
//! it returns. Requests and dumps therefore use plain blocking sockets with a time-out; only the monitor waits asynchronously.

pub(crate) mod objects;
pub(crate) mod socket;
pub(crate) mod wire;
