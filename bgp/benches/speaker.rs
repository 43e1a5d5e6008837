//! What a hundred thousand routes cost: `cargo bench -p bgp`. Throughput is in prefixes ("elements") a second.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up cannot be run")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bgp::policy::PrefixList;
use bgp::rib::{AdjIn, AdjOut, ExportContext, ImportContext, Origination, RouteSet};
use bgp::speaker::NextHopFormat;
use bgp::types::{Families, PeerKind, Prefix};
use bgp::wire::{self, Message};
use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const ROUTES: u32 = 100_000;

fn host(number: u32, ipv6: bool) -> Prefix {
    let address = if ipv6 {
        IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(number)))
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
    };
    Prefix::from(address)
}

fn routes(numbers: impl Iterator<Item = u32>, ipv6: bool) -> Arc<RouteSet> {
    let route = Arc::new(Origination::default());
    Arc::new(numbers.map(|n| (host(n, ipv6), Arc::clone(&route))).collect())
}

fn context(ipv6: bool) -> ExportContext {
    let context =
        wire::Context { as4: true, extended_next_hop: ipv6, peer: PeerKind::Ebgp, ..wire::Context::default() };
    let (local, peer) = if ipv6 { ("fe80::2", "fe80::1") } else { ("10.0.0.2", "10.0.0.1") };
    let context = ExportContext::new(65000, local.parse().unwrap(), peer.parse().unwrap(), context);
    ExportContext { next_hop_format: NextHopFormat::Double, ..context }
}

/// A peer that was told `routes`.
fn told(context: ExportContext, routes: &Arc<RouteSet>) -> AdjOut {
    let mut out = AdjOut::new(context);
    out.set(Arc::clone(routes));
    let mut bytes = BytesMut::new();
    out.fill(&mut bytes, usize::MAX);
    out
}

fn adj_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("adj-out");
    group.throughput(Throughput::Elements(u64::from(ROUTES)));
    for (family, ipv6) in [("ipv4", false), ("ipv6", true)] {
        let all = routes(0..ROUTES, ipv6);
        group.bench_function(format!("set/first/{family}"), |b| {
            b.iter_batched_ref(|| AdjOut::new(context(ipv6)), |out| out.set(Arc::clone(&all)), BatchSize::LargeInput);
        });
        let list = PrefixList::parse("hosts", ["permit 0.0.0.0/0 ge 32", "permit ::/0 ge 128"]).unwrap();
        let filtered = ExportContext { prefix_list: Some(Arc::new(list)), ..context(ipv6) };
        group.bench_function(format!("set/first-filtered/{family}"), |b| {
            b.iter_batched_ref(
                || AdjOut::new(filtered.clone()),
                |out| out.set(Arc::clone(&all)),
                BatchSize::LargeInput,
            );
        });
        let one_less = routes(1..ROUTES, ipv6);
        group.bench_function(format!("set/one-differs/{family}"), |b| {
            let (mut out, mut turn) = (told(context(ipv6), &all), 0_u32);
            b.iter(|| {
                turn += 1;
                out.set(Arc::clone(if turn.is_multiple_of(2) { &all } else { &one_less }));
            });
        });
        let fill = |out: &mut AdjOut| {
            let mut bytes = BytesMut::with_capacity(65536);
            while out.pending() {
                bytes.clear();
                out.fill(&mut bytes, 65536);
                black_box(&bytes);
            }
        };
        group.bench_function(format!("fill/announce/{family}"), |b| {
            let fresh = || {
                let mut out = AdjOut::new(context(ipv6));
                out.set(Arc::clone(&all));
                out
            };
            b.iter_batched_ref(fresh, fill, BatchSize::LargeInput);
        });
        group.bench_function(format!("fill/withdraw/{family}"), |b| {
            let leaving = || {
                let mut out = told(context(ipv6), &all);
                out.set(Arc::default());
                out
            };
            b.iter_batched_ref(leaving, fill, BatchSize::LargeInput);
        });
    }
    group.finish();
}

/// The UPDATEs that announce `ROUTES` routes.
fn updates(ipv6: bool) -> (wire::Context, Vec<Vec<u8>>) {
    let mut out = AdjOut::new(context(ipv6));
    out.set(routes(0..ROUTES, ipv6));
    let mut bytes = BytesMut::new();
    out.fill(&mut bytes, usize::MAX);
    let mut messages = Vec::new();
    while let Some(len) = wire::frame(&bytes, wire::MAX_LEN).unwrap() {
        messages.push(bytes.split_to(len).to_vec());
    }
    (context(ipv6).context, messages)
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Elements(u64::from(ROUTES)));
    for (family, ipv6) in [("ipv4", false), ("ipv6", true)] {
        let (context, messages) = updates(ipv6);
        group.bench_function(format!("decode/{family}"), |b| {
            b.iter(|| {
                for message in &messages {
                    black_box(wire::decode(message, &context).unwrap());
                }
            });
        });
        let decoded: Vec<_> = messages.iter().map(|message| wire::decode(message, &context).unwrap()).collect();
        group.bench_function(format!("encode/{family}"), |b| {
            let mut bytes = BytesMut::with_capacity(65536);
            b.iter(|| {
                for message in &decoded {
                    bytes.clear();
                    wire::encode(message, &context, &mut bytes).unwrap();
                    black_box(&bytes);
                }
            });
        });
    }
    group.finish();
}

fn adj_in(c: &mut Criterion) {
    let mut group = c.benchmark_group("adj-in");
    group.throughput(Throughput::Elements(u64::from(ROUTES)));
    for (family, ipv6) in [("ipv4", false), ("ipv6", true)] {
        let (context, messages) = updates(ipv6);
        let updates: Vec<_> = messages
            .iter()
            .filter_map(|message| match wire::decode(message, &context).unwrap() {
                Message::Update(update) => Some(update),
                _ => None,
            })
            .collect();
        group.bench_function(format!("update/{family}"), |b| {
            let session = ImportContext::new(PeerKind::Ebgp, 65001, 65000, [192, 0, 2, 1].into(), Families::ALL);
            b.iter_batched_ref(
                || AdjIn::new(session.clone()),
                |adj_in| updates.iter().for_each(|update| drop(black_box(adj_in.update(update)))),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = adj_out, codec, adj_in
}
criterion_main!(benches);
