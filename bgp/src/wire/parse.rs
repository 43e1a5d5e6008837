//! What the parsers share: nom without its error values. Which fault something is depends on where it stands, so every parser
//! says itself what an `Err` means; where it happened follows from what was left.

use std::net::{Ipv4Addr, Ipv6Addr};

use nom::number::complete::{be_u32, be_u128};
use nom::{IResult, Parser};

/// The outcome of a nom parser that fails only for want of octets.
pub(super) type Parsed<'a, T> = IResult<&'a [u8], T, ()>;

/// A part of a message that knows where it stands.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    /// Octets from the Marker to the first of `data`.
    pub(super) start: usize,
    /// The octets.
    pub(super) data: &'a [u8],
}

impl Section<'_> {
    /// Where `rest`, a tail of this section, begins in the message.
    pub(super) fn offset(&self, rest: &[u8]) -> usize {
        self.start + self.data.len().saturating_sub(rest.len())
    }
}

/// Four octets as an address.
pub(super) fn ipv4(input: &[u8]) -> Parsed<'_, Ipv4Addr> {
    be_u32.map(Ipv4Addr::from).parse(input)
}

/// Sixteen octets as an address.
pub(super) fn ipv6(input: &[u8]) -> Parsed<'_, Ipv6Addr> {
    be_u128.map(Ipv6Addr::from).parse(input)
}

/// Reads `item` again and again until nothing is left; `None` if the last one is cut.
pub(super) fn all<'a, T>(mut item: impl FnMut(&'a [u8]) -> Parsed<'a, T>, mut input: &'a [u8]) -> Option<Vec<T>> {
    let mut items = Vec::new();
    while !input.is_empty() {
        let (rest, value) = item(input).ok()?;
        items.push(value);
        input = rest;
    }
    Some(items)
}
