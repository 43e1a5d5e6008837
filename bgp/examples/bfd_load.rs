//! Many BFD sessions on a busy host: does any go down for our being late, are our packets on time, and what do they cost?
//!
//! `bfd_load [SECONDS]` — in a network namespace of its own, so it needs root. Prints a table; ends with 1 if a figure is missed.
//!
//! Both ends of every session are here, pairs of loopback addresses: a thread that does not get to run is late on both sides at
//! once, which is the worst case, and every packet is paid for twice, sent and received. The figures are taken
//!
//! 1. at 50 ms × 3 for SECONDS, beside as many threads that never sleep as there are cores, and two speakers in the same process of
//!    which one sends the other 100,000 routes and takes them back, over and over;
//! 2. at 50 ms × 3 for a tenth of that (5 to 30 s), while 10,000 packets a second that no session waits for arrive on the port;
//! 3. at 300 ms × 3 for as long, while nothing else happens.
#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bgp::bfd::table::Counters;
use bgp::bfd::{Lateness, Punctuality, SessionConfig, State};
use bgp::driver::bfd::{Handle, Peers, Snapshot, Watched, spawn};
use bgp::driver::{self, Config};
use bgp::rib::{Origination, RouteSet};
use bgp::speaker::{PeerAddress, PeerConfig, RemoteAs, SpeakerConfig};
use bgp::types::Prefix;
use nix::sched::{CloneFlags, unshare};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Both ends are sessions: 64 pairs.
const SESSIONS: u8 = 128;
const ROUTES: u32 = 100_000;
/// How long sessions may take to come up and to settle on their intervals.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<ExitCode> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(600), |word| word.parse())?;
    let (long, short) = (Duration::from_secs(seconds), Duration::from_secs((seconds / 10).clamp(5, 30)));
    unshare(CloneFlags::CLONE_NEWNET)?;
    Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = spawn(None)?;
    let mut table = Table::default();

    let bed = Bed { runtime, handle };
    let before = bed.settle(50)?;
    let mut crowd = Crowd::default();
    let cores = std::thread::available_parallelism()?.get();
    crowd.hogs(cores);
    let rounds = crowd.speakers()?;
    std::thread::sleep(long);
    let told = rounds.load(Ordering::Relaxed);
    let what = format!(
        "{SESSIONS} sessions at 50 ms × 3, {cores} threads that never sleep, {told} times {ROUTES} routes sent or withdrawn in the \
         same process, {seconds} s"
    );
    let after = bed.snapshot()?;
    crowd.disperse();
    table.downs(&what, &before, &after);
    table.punctual(&before, &after, Some(99.9));

    let before = bed.settle(50)?;
    let sent = crowd.flood();
    std::thread::sleep(short);
    let after = bed.snapshot()?;
    crowd.disperse();
    let rate = sent.load(Ordering::Relaxed) / short.as_secs();
    let what = format!("the same with nothing but {rate} strange packets/s on the port, {} s", short.as_secs());
    table.downs(&what, &before, &after);
    let refused = after.discards.values().sum::<u64>() - before.discards.values().sum::<u64>();
    table.row("… of which refused, each counted under its rule", &refused.to_string(), "", None);
    table.punctual(&before, &after, None);

    let before = bed.settle(300)?;
    let (used, started) = (processor_time()?, Instant::now());
    std::thread::sleep(short);
    let share = 100.0 * processor_time()?.saturating_sub(used).as_secs_f64() / started.elapsed().as_secs_f64();
    let after = bed.snapshot()?;
    let what = format!("{SESSIONS} sessions at 300 ms × 3, idle, {} s: processor time, both ends", short.as_secs());
    table.row(&what, &format!("{share:.2} % of one core"), "≤ 2 %", Some(share <= 2.0));
    table.downs("… false downs", &before, &after);
    table.punctual(&before, &after, None);
    print!("{}", table.text);
    Ok(ExitCode::from(u8::from(table.missed)))
}

/// The sessions.
struct Bed {
    runtime: tokio::runtime::Runtime,
    handle: Handle,
}

impl Bed {
    fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.runtime.block_on(self.handle.snapshot())?)
    }

    /// All sessions up, at these intervals.
    fn settle(&self, milliseconds: u64) -> Result<Snapshot> {
        let interval = Duration::from_millis(milliseconds);
        let config = SessionConfig {
            transmit_interval: interval,
            receive_interval: interval,
            detect_multiplier: 3,
            passive: false,
        };
        self.handle.set_peers(pairs(config));
        let started = Instant::now();
        loop {
            let snapshot = self.snapshot()?;
            let settled = |s: &bgp::driver::bfd::SessionStatus| {
                s.state == State::Up && s.transmit_interval == Some(interval) && s.receive_interval == interval
            };
            if snapshot.sessions.iter().filter(|s| settled(s)).count() == usize::from(SESSIONS) {
                return Ok(snapshot);
            }
            if started.elapsed() > PATIENCE {
                return Err("the sessions did not come up".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Sessions between 127.1.0.n and 127.2.0.n, both ends of each.
fn pairs(config: SessionConfig) -> Peers {
    let address = |side, number| IpAddr::V4(Ipv4Addr::new(127, side, 0, number));
    let end = |from, to, number| {
        let watched = Watched { config, local: Some(address(from, number)), ..Watched::default() };
        (PeerAddress::Numbered(address(to, number)), watched)
    };
    (1..=SESSIONS / 2).flat_map(|number| [end(1, 2, number), end(2, 1, number)]).collect()
}

/// Threads that are in the way.
#[derive(Default)]
struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Runs it again and again.
    fn add(&mut self, mut work: impl FnMut() + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                work();
            }
        }));
    }

    fn disperse(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that has panicked is not in the way any more.
            let _ = thread.join();
        }
        self.stop = Arc::default();
    }

    fn hogs(&mut self, count: usize) {
        for _ in 0..count {
            self.add(std::hint::spin_loop);
        }
    }

    /// Two speakers; answers how often all routes were sent or withdrawn.
    fn speakers(&mut self) -> Result<Arc<AtomicU64>> {
        let ((teller, _), (listener, _)) = (driver::spawn(speaker(1, 2))?, driver::spawn(speaker(2, 1))?);
        let next_hop = "192.0.2.254".parse().ok();
        let route = Arc::new(Origination { next_hop, ..Origination::default() });
        let host = |number: u32| Prefix::from(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)));
        let all: Arc<RouteSet> = Arc::new((0..ROUTES).map(|n| (host(n), Arc::clone(&route))).collect());
        let rounds = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (told, mut learned, mut full) = (Arc::clone(&rounds), listener.watch_learned(), false);
        self.add(move || {
            full = !full;
            teller.set_routes(if full { Arc::clone(&all) } else { Arc::default() });
            let wanted = if full { all.routes().len() } else { 0 };
            let came = async { tokio::time::timeout(PATIENCE, learned.wait_for(|l| l.len() == wanted)).await.is_ok() };
            told.fetch_add(u64::from(runtime.block_on(came)), Ordering::Relaxed);
        });
        Ok(rounds)
    }

    /// 10,000 packets a second: no control packet, too long, a wrong version, of no session.
    fn flood(&mut self) -> Arc<AtomicU64> {
        let sent = Arc::new(AtomicU64::new(0));
        let (counted, started) = (Arc::clone(&sent), Instant::now());
        let strange = [b"nonsense".to_vec(), vec![0x20; 1400], vec![0x40; 24], stranger()];
        let Ok(socket) = UdpSocket::bind("127.3.0.1:0") else { return sent };
        self.add(move || {
            let due = started.elapsed().as_micros() / 100;
            while u128::from(counted.load(Ordering::Relaxed)) < due {
                for packet in &strange {
                    // A buffer that is full loses it, which is part of a flood.
                    let _ = socket.send_to(packet, "127.1.0.1:3784");
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        });
        sent
    }
}

/// A sound control packet for a session there is not.
fn stranger() -> Vec<u8> {
    [0x2040_0318_u32, 7, 7, 1_000_000, 1_000_000, 0].map(u32::to_be_bytes).concat()
}

fn speaker(host: u8, peer: u8) -> Config {
    let address = |host| Ipv4Addr::new(127, 9, 0, host);
    let peer = PeerConfig {
        local_address: Some(address(host).into()),
        connect_retry: Duration::from_secs(1),
        next_hop_self: false,
        ..PeerConfig::new(PeerAddress::Numbered(address(peer).into()), RemoteAs::External)
    };
    let own = SpeakerConfig::new(65000 + u32::from(host), address(host));
    Config { peers: vec![peer], listen: vec![address(host).into()], ..Config::new(own) }
}

/// What all threads of this process have used.
fn processor_time() -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// What is printed at the end, in the form of docs/performance.md.
struct Table {
    text: String,
    missed: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self { text: "| what | measured | wanted |\n|---|---|---|\n".to_owned(), missed: false }
    }
}

impl Table {
    fn row(&mut self, what: &str, measured: &str, wanted: &str, kept: Option<bool>) {
        let mark = kept.map_or("", |kept| if kept { " ✔" } else { " ✘" });
        self.text.push_str(&["| ", what, " | ", measured, mark, " | ", wanted, " |\n"].concat());
        self.missed |= kept == Some(false);
    }

    fn downs(&mut self, what: &str, before: &Snapshot, after: &Snapshot) {
        let count = |of: fn(&Counters) -> u64| {
            let total = |snapshot: &Snapshot| snapshot.sessions.iter().map(|s| of(&s.counters)).sum::<u64>();
            total(after).saturating_sub(total(before))
        };
        let (sent, received, down) = (count(|c| c.sent), count(|c| c.received), count(|c| c.down));
        let measured = format!("{sent} packets sent, {received} received, {down} sessions down");
        self.row(what, &measured, "0 down", Some(down == 0));
    }

    fn punctual(&mut self, before: &Snapshot, after: &Snapshot, wanted: Option<f64>) {
        let (before, after) = (&before.punctuality, &after.punctuality);
        let grown = |of: fn(&Punctuality) -> u64| of(after).saturating_sub(of(before));
        let (within, soon, late) = (grown(|p| p.in_window), grown(|p| p.too_soon), grown(|p| p.too_late));
        let share = percent(within, within + soon + late);
        let measured = format!("{share:.3} % ({soon} sooner, {late} later)");
        let goal = wanted.map(|wanted| format!("{wanted} %")).unwrap_or_default();
        let kept = wanted.map(|wanted| share >= wanted);
        self.row("… own packets 75 to 100 % of the interval after the one before", &measured, &goal, kept);
        let counts: Vec<u64> =
            after.lateness.counts().iter().zip(before.lateness.counts()).map(|(a, b)| a - b).collect();
        let (total, mut so_far) = (counts.iter().sum(), 0);
        let mut classes = Vec::new();
        for (bound, count) in Lateness::BOUNDS.iter().zip(&counts) {
            so_far += count;
            classes.push(format!("{:.2} % ≤ {bound} ms", percent(so_far, total)));
            if so_far == total {
                break;
            }
        }
        self.row("… how late they were", &classes.join(", "), "", None);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn percent(part: u64, total: u64) -> f64 {
    100.0 * part as f64 / total.max(1) as f64
}
