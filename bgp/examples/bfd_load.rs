//! Many BFD sessions on one busy host: does any go down for our being late, and how late are our packets?
//!
//! `bfd_load [SESSIONS] [INTERVAL_MS] [MULTIPLIER] [SECONDS] [HOGS]` — in a network namespace of its own, so it needs root.
//!
//! Both ends of every session are here: pairs of loopback addresses. A thread that does not get to run is so late on both sides,
//! which is the worst case. The hogs are threads that never sleep.
#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use bgp::bfd::{Lateness, SessionConfig, State};
use bgp::driver::bfd::{Peers, Snapshot, Watched, spawn};
use bgp::speaker::PeerAddress;
use nix::sched::{CloneFlags, unshare};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<u64> = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let argument = |index: usize, default: u64| given.get(index).copied().unwrap_or(default);
    let (sessions, interval) = (argument(0, 128), Duration::from_millis(argument(1, 50)));
    let (multiplier, seconds, hogs) = (u8::try_from(argument(2, 3))?, argument(3, 600), argument(4, 2));
    unshare(CloneFlags::CLONE_NEWNET)?;
    Command::new("ip").args(["link", "set", "lo", "up"]).status()?;

    let config = SessionConfig {
        transmit_interval: interval,
        receive_interval: interval,
        detect_multiplier: multiplier,
        passive: false,
    };
    let handle = spawn(None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    handle.set_peers(pairs(u8::try_from(sessions / 2)?, config));
    std::thread::sleep(Duration::from_secs(6));
    let before = runtime.block_on(handle.snapshot())?;
    println!("{} of {sessions} sessions up", before.sessions.iter().filter(|s| s.state == State::Up).count());

    for _ in 0..hogs {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    let after = runtime.block_on(handle.snapshot())?;
    report(&before, &after, started.elapsed());
    Ok(())
}

/// Sessions between 127.1.0.n and 127.2.0.n, both ends of each.
fn pairs(count: u8, config: SessionConfig) -> Peers {
    let address = |side, number| IpAddr::V4(Ipv4Addr::new(127, side, 0, number));
    let end = |from, to, number| {
        let watched = Watched { config, local: Some(address(from, number)), interface: None };
        (PeerAddress::Numbered(address(to, number)), watched)
    };
    (1..=count).flat_map(|number| [end(1, 2, number), end(2, 1, number)]).collect()
}

fn report(before: &Snapshot, after: &Snapshot, time: Duration) {
    let sum = |of: fn(&bgp::bfd::table::Counters) -> u64| {
        let total = |snapshot: &Snapshot| snapshot.sessions.iter().map(|s| of(&s.counters)).sum::<u64>();
        total(after) - total(before)
    };
    println!(
        "{:.0} s: {} packets sent, {} received, {} sessions went down",
        time.as_secs_f64(),
        sum(|c| c.sent),
        sum(|c| c.received),
        sum(|c| c.down)
    );
    let counts: Vec<u64> = after.lateness.counts().iter().zip(before.lateness.counts()).map(|(a, b)| a - b).collect();
    let total: u64 = counts.iter().sum();
    let bounds = Lateness::BOUNDS.iter().map(|bound| format!("at most {bound} ms")).chain(["more".to_owned()]);
    let mut so_far = 0;
    for (bound, count) in bounds.zip(counts) {
        so_far += count;
        println!("late by {bound}: {count} ({:.4} % so far)", percent(so_far, total));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn percent(part: u64, total: u64) -> f64 {
    100.0 * part as f64 / total.max(1) as f64
}
