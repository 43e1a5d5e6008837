//! How fast UPDATEs are written and read: `cargo run --release -p bgp --example wire_speed`

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use bgp::types::{Family, Prefix};
use bgp::wire::{
    AsPath, Attributes, Context, EncodeError, Message, NextHop, Nlri, Origin, UpdateBuilder, decode, frame,
};
use bytes::BytesMut;

const PREFIXES: u32 = 100_000;
const ROUNDS: u32 = 20;

fn main() -> Result<(), EncodeError> {
    let ctx = Context { as4: true, ..Context::default() };
    let attributes =
        Attributes { origin: Some(Origin::Igp), as_path: Some(AsPath::sequence([64999])), ..Attributes::default() };
    let v6 = |n: u128| Ipv6Addr::from_bits((0x2001_0db8 << 96) + n);
    for (family, next_hop) in
        [(Family::Ipv4, NextHop::V4(Ipv4Addr::new(10, 0, 0, 2))), (Family::Ipv6, NextHop::V6(v6(1)))]
    {
        let prefixes: Vec<Nlri> = (0..PREFIXES)
            .map(|n| match family {
                Family::Ipv4 => Prefix::from(ipnet::Ipv4Net::from(Ipv4Addr::from_bits(0x0a00_0000 + n))).into(),
                Family::Ipv6 => Prefix::from(ipnet::Ipv6Net::from(v6(n.into()))).into(),
            })
            .collect();
        let mut out = BytesMut::with_capacity(4 << 20);
        let start = Instant::now();
        for _ in 0..ROUNDS {
            out.clear();
            let mut builder = UpdateBuilder::new(&ctx, ctx.max_len());
            builder.announce(family, &attributes, next_hop)?;
            for nlri in &prefixes {
                if !builder.push(*nlri) {
                    builder.finish(&mut out);
                    let _ = builder.push(*nlri);
                }
            }
            builder.finish(&mut out);
        }
        report(family, "written", start, out.len());

        let start = Instant::now();
        let mut read = 0;
        for _ in 0..ROUNDS {
            let mut rest = &out[..];
            while let Ok(Some(len)) = frame(rest, ctx.max_len()) {
                let (message, after) = rest.split_at(len);
                if let Ok(Message::Update(update)) = decode(message, &ctx) {
                    read += update.prefixes().count();
                }
                rest = after;
            }
        }
        report(family, "read", start, out.len());
        println!("{family}: {} prefixes read back", read / ROUNDS as usize);
    }
    Ok(())
}

fn report(family: Family, what: &str, start: Instant, octets: usize) {
    let seconds = start.elapsed().as_secs_f64();
    let rate = f64::from(PREFIXES * ROUNDS) / seconds / 1e6;
    println!("{family}: {rate:.1} M prefixes/s {what}; {PREFIXES} are {octets} octets");
}
