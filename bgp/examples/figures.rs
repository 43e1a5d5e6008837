//! What the speaker costs: `cargo run --release -p bgp --example figures -- [codec] [memory] [latency] [slow] [churn]`, all without a word.
//!
//! * codec: UPDATEs written and read, in prefixes a second on one core.
//! * memory: octets of heap for each route and peer in Adj-RIB-Out, by a counting allocator.
//! * latency: from [`Handle::set_routes`] with one route more to its octets at the other end of the socket (loopback), beside so
//!   many routes that stand.
//! * slow: a table of two million octets to one peer that reads as it comes and one that reads 200 kB/s: how long it takes, and how
//!   late the KEEPALIVEs of the slow one are.
//! * churn: 1000 prefixes a second come and go for SECONDS (60) while one of two peers takes nothing: resident memory before, during,
//!   after, and how late the KEEPALIVEs of the peer that reads were.
//!
//! Prints a table, and ends with 1 if a figure is missed.
#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::alloc::System;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::driver::{Config, Handle, spawn};
use bgp::rib::{AdjOut, ExportContext, Origination, RouteSet};
use bgp::speaker::{PeerAddress, PeerConfig, RemoteAs, SpeakerConfig};
use bgp::types::{Families, Family, PeerKind, Prefix};
use bgp::wire::{self, Capability, Context, Message, Open, Update};
use bytes::BytesMut;
use stats_alloc::{Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: StatsAlloc<System> = StatsAlloc::system();

const ROUTES: u32 = 100_000;
/// How often the codec does the same.
const CODEC_ROUNDS: u32 = 20;
const US: u32 = 64999;
const THEM: u32 = 65001;

type Outcome = Result<(), Box<dyn Error>>;

/// Rows as they come, and whether one was missed.
struct Table {
    missed: bool,
}

impl Table {
    fn row(&mut self, what: &str, measured: &str, good: Option<bool>, wanted: &str) {
        let mark = good.map_or("", |good| if good { " ✔" } else { " ✘" });
        self.missed |= good == Some(false);
        println!("| {what} | {measured}{mark} | {wanted} |");
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    let mut table = Table { missed: false };
    println!("| what | measured | wanted |\n|---|---|---|");
    if asked("codec") {
        codec(&mut table)?;
    }
    if asked("memory") {
        memory(&mut table);
    }
    if asked("latency") {
        latency(&mut table)?;
    }
    if asked("slow") {
        slow(&mut table)?;
    }
    if asked("churn") {
        let seconds = std::env::var("SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
        churn(&mut table, Duration::from_secs(seconds))?;
    }
    Ok(if table.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn host(number: u32, family: Family) -> Prefix {
    Prefix::from(match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(number))),
    })
}

fn routes(numbers: impl Iterator<Item = u32>, family: Family, origination: &Arc<Origination>) -> Arc<RouteSet> {
    Arc::new(numbers.map(|number| (host(number, family), Arc::clone(origination))).collect())
}

fn context(family: Family) -> ExportContext {
    let context = Context { as4: true, peer: PeerKind::Ebgp, ..Context::default() };
    let (local, peer): (IpAddr, IpAddr) = match family {
        Family::Ipv4 => ([10, 0, 0, 2].into(), [10, 0, 0, 1].into()),
        Family::Ipv6 => (Ipv6Addr::from_bits(0xfe80 << 112 | 2).into(), Ipv6Addr::from_bits(0xfe80 << 112 | 1).into()),
    };
    ExportContext::new(US, local, peer, context)
}

fn all_of(out: &mut AdjOut) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(4 << 20);
    out.fill(&mut bytes, usize::MAX);
    bytes
}

fn codec(table: &mut Table) -> Outcome {
    let origination = Arc::default();
    for family in Family::ALL {
        let set = routes(0..ROUTES, family, &origination);
        let mut spent = Duration::ZERO;
        let mut bytes = BytesMut::new();
        for _ in 0..CODEC_ROUNDS {
            let mut out = AdjOut::new(context(family));
            out.set(Arc::clone(&set));
            let begun = Instant::now();
            bytes = all_of(&mut out);
            spent += begun.elapsed();
        }
        rate(table, &format!("{family} UPDATEs written"), spent);
        let begun = Instant::now();
        for _ in 0..CODEC_ROUNDS {
            let mut rest = &bytes[..];
            while let Some(len) = wire::frame(rest, wire::MAX_LEN)? {
                let (message, after) = rest.split_at(len);
                std::hint::black_box(wire::decode(message, &context(family).context)?);
                rest = after;
            }
        }
        rate(table, &format!("{family} UPDATEs read"), begun.elapsed());
    }
    Ok(())
}

fn rate(table: &mut Table, what: &str, spent: Duration) {
    let millions = f64::from(ROUTES * CODEC_ROUNDS) / spent.as_secs_f64() / 1e6;
    table.row(what, &format!("{millions:.1} M prefixes/s"), Some(millions >= 2.0), "≥ 2 M/s on one core");
}

fn memory(table: &mut Table) {
    const PEERS: u32 = 4;
    let origination = Arc::default();
    for family in Family::ALL {
        let set = routes(0..ROUTES, family, &origination);
        let region = Region::new(&ALLOCATOR);
        let mut peers: Vec<AdjOut> = (0..PEERS).map(|_| AdjOut::new(context(family))).collect();
        for out in &mut peers {
            out.set(Arc::clone(&set));
        }
        let waiting = octets(&region) / f64::from(PEERS * ROUTES);
        for out in &mut peers {
            drop(all_of(out));
        }
        let told = octets(&region) / f64::from(PEERS * ROUTES);
        let measured = format!("{told:.1} octets, {waiting:.1} while all are still to be sent");
        table.row(
            &format!("Adj-RIB-Out, a {family} route a peer"),
            &measured,
            Some(waiting.max(told) <= 100.0),
            "≤ 100 octets",
        );
        drop(peers);
    }
}

fn octets(region: &Region<'_, System>) -> f64 {
    let change = region.change();
    u32::try_from(change.bytes_allocated.saturating_sub(change.bytes_deallocated)).map_or(f64::MAX, f64::from)
}

/// A peer that is played by hand on a loopback address of its own.
struct Peer {
    stream: TcpStream,
    inbox: BytesMut,
    context: Context,
}

impl Peer {
    /// Waits for the speaker to dial, and opens the session.
    fn meet(listener: &TcpListener, id: Ipv4Addr) -> Result<Self, Box<dyn Error>> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut peer = Self { stream, inbox: BytesMut::new(), context: Context { as4: true, ..Context::default() } };
        let capabilities = vec![Capability::Multiprotocol { afi: 1, safi: 1 }];
        peer.say(&Message::Open(Open::new(THEM, 180, id, capabilities)))?;
        peer.say(&Message::Keepalive)?;
        while peer.hear()? != Message::Keepalive {}
        Ok(peer)
    }

    fn say(&mut self, message: &Message) -> Outcome {
        let mut bytes = BytesMut::new();
        wire::encode(message, &self.context, &mut bytes)?;
        Ok(self.stream.write_all(&bytes)?)
    }

    /// The next message.
    fn hear(&mut self) -> Result<Message, Box<dyn Error>> {
        let mut chunk = [0; 16384];
        loop {
            if let Some(len) = wire::frame(&self.inbox, wire::MAX_LEN)? {
                return Ok(wire::decode(&self.inbox.split_to(len), &self.context)?);
            }
            let read = self.stream.read(&mut chunk)?;
            self.inbox
                .extend_from_slice(chunk.get(..read).filter(|read| !read.is_empty()).ok_or("the speaker went away")?);
        }
    }

    /// Reads UPDATEs until one is the last.
    fn until(&mut self, last: impl Fn(&Update) -> bool) -> Outcome {
        loop {
            if let Message::Update(update) = self.hear()?
                && last(&update)
            {
                return Ok(());
            }
        }
    }
}

/// The time between KEEPALIVEs, so that several fall into a measurement.
const KEEPALIVE: Duration = Duration::from_secs(3);

/// A speaker with so many peers, each established.
fn speaker(peers: u8) -> Result<(Handle, Vec<Peer>), Box<dyn Error>> {
    let addresses: Vec<Ipv4Addr> = (0..peers).map(|n| Ipv4Addr::new(127, 0, 0, 2 + n)).collect();
    let listeners = addresses.iter().map(|address| TcpListener::bind((*address, 0))).collect::<Result<Vec<_>, _>>()?;
    let mut config = Config::new(SpeakerConfig::new(US, Ipv4Addr::new(192, 0, 2, 1)));
    config.listen = vec![];
    for (address, listener) in addresses.iter().zip(&listeners) {
        let peer = PeerConfig::new(PeerAddress::Numbered((*address).into()), RemoteAs::Number(THEM));
        let families = Families::NONE.with(Family::Ipv4);
        let keepalive = Some(KEEPALIVE);
        config.peers.push(PeerConfig { port: listener.local_addr()?.port(), families, keepalive, ..peer });
    }
    let (handle, _thread) = spawn(config)?;
    let met = addresses.iter().zip(&listeners).map(|(address, listener)| Peer::meet(listener, *address));
    let peers = met.collect::<Result<Vec<_>, _>>()?;
    Ok((handle, peers))
}

fn latency(table: &mut Table) -> Outcome {
    const ROUNDS: u32 = 100;
    let origination = Arc::default();
    for standing in [0, 1000, 10_000, ROUTES] {
        let (handle, mut peers) = speaker(1)?;
        let peer = peers.first_mut().ok_or("no peer")?;
        let before = routes(0..standing, Family::Ipv4, &origination);
        let after = routes(0..=standing, Family::Ipv4, &origination);
        handle.set_routes(Arc::clone(&before));
        peer.until(|update| update.end_of_rib().is_some())?;
        let one = |list: &[wire::Nlri]| list.iter().any(|nlri| nlri.prefix == host(standing, Family::Ipv4));
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            handle.set_routes(Arc::clone(&after));
            peer.until(|update| one(&update.nlri))?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            handle.set_routes(Arc::clone(&before));
            peer.until(|update| one(&update.withdrawn))?;
        }
        times.sort_by(f64::total_cmp);
        let quantile = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or(f64::NAN);
        let measured = format!("p50 {:.3} ms, p99 {:.3} ms", quantile(50), quantile(99));
        let good = Some(quantile(50) <= 1.0);
        table.row(
            &format!("one change beside {standing} routes → at the other end of the socket"),
            &measured,
            good,
            "≤ 1 ms",
        );
    }
    Ok(())
}

fn slow(table: &mut Table) -> Outcome {
    const STANDING: u32 = 400_000;
    /// What the slow one reads, and how often.
    const SIP: usize = 4000;
    const PAUSE: Duration = Duration::from_millis(20);
    let (handle, mut peers) = speaker(2)?;
    let (mut slow, mut fast) = (peers.pop().ok_or("no peer")?, peers.pop().ok_or("no peer")?);
    let set = routes(0..STANDING, Family::Ipv4, &Arc::default());
    let begun = Instant::now();
    handle.set_routes(set);
    fast.until(|update| update.end_of_rib().is_some())?;
    let taken = begun.elapsed();
    let (mut longest, mut last) = (Duration::ZERO, begun);
    let mut sip = [0; SIP];
    let all = loop {
        let read = slow.stream.read(&mut sip)?;
        slow.inbox.extend_from_slice(sip.get(..read).ok_or("more than there is room for")?);
        let mut done = false;
        while let Some(len) = wire::frame(&slow.inbox, wire::MAX_LEN)? {
            match wire::decode(&slow.inbox.split_to(len), &slow.context)? {
                Message::Keepalive => {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                Message::Update(update) => done |= update.end_of_rib().is_some(),
                _ => {}
            }
        }
        if done {
            break begun.elapsed();
        }
        std::thread::sleep(PAUSE);
    };
    let measured = format!("{:.3} s, {:.2} s to one that reads 200 kB/s", taken.as_secs_f64(), all.as_secs_f64());
    table.row(&format!("{STANDING} routes to a peer that reads as they come"), &measured, None, "");
    let measured = format!("{:.2} s", longest.max(last.elapsed()).as_secs_f64());
    let good = Some(longest.max(last.elapsed()) < KEEPALIVE * 2);
    table.row("… longest time between KEEPALIVEs at the slow one", &measured, good, "< 6 s");
    Ok(())
}

fn resident_kib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().next().ok_or("an empty VmRSS")?.parse()?)
}

fn churn(table: &mut Table, time: Duration) -> Outcome {
    /// Changes a second, and how many of them come together.
    const RATE: u32 = 1000;
    const TOGETHER: u32 = 10;
    /// So many routes stand at any time.
    const STANDING: u32 = 10_000;
    let (handle, mut peers) = speaker(2)?;
    let mut reader = peers.pop().ok_or("no peer")?;
    // The other one stays open and takes nothing.
    let _stalled = peers;
    let listening = std::thread::spawn(move || -> (u64, Duration) {
        let (mut prefixes, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
        while let Ok(message) = reader.hear() {
            match message {
                Message::Update(update) => prefixes += update.prefixes().count() as u64,
                Message::Keepalive => {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                _ => {}
            }
        }
        (prefixes, longest)
    });
    let origination = Arc::default();
    let begun = Instant::now();
    let (mut first, mut samples) = (0, Vec::new());
    let mut sample_at = begun + time / 12;
    while begun.elapsed() < time {
        handle.set_routes(routes(first..first + STANDING, Family::Ipv4, &origination));
        // Each step withdraws as many as it announces.
        first += TOGETHER / 2;
        if Instant::now() >= sample_at {
            samples.push(resident_kib()?);
            sample_at += time / 12;
        }
        let due = begun + Duration::from_secs(1) * (first * 2) / RATE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let changes = f64::from(first * 2) / begun.elapsed().as_secs_f64();
    let neighbors = tokio::runtime::Builder::new_current_thread().build()?.block_on(handle.neighbors())?;
    let up = neighbors.iter().filter(|neighbor| neighbor.uptime_seconds.is_some()).count();
    drop(neighbors);
    let shutdown = bgp::speaker::Shutdown::Stop("measured".to_owned());
    let _ = tokio::runtime::Builder::new_current_thread().build()?.block_on(handle.shutdown(shutdown));
    let (prefixes, longest) = listening.join().map_err(|_| "the reader panicked")?;
    let (early, late) = (samples.first().copied().unwrap_or(0), samples.last().copied().unwrap_or(0));
    let what =
        format!("{changes:.0} prefixes/s for {} s beside {STANDING}, one of two peers takes nothing", time.as_secs());
    let measured = format!(
        "resident {early} KiB early, {late} KiB late; the other peer heard {prefixes} prefixes; {up} sessions up"
    );
    table.row(&what, &measured, Some(late < early + early / 10 && up == 2), "flat");
    let measured = format!("{:.2} s", longest.as_secs_f64());
    table.row(
        "… longest time between KEEPALIVEs (3 s by configuration)",
        &measured,
        Some(longest < Duration::from_secs(4)),
        "< 4 s",
    );
    Ok(())
}
