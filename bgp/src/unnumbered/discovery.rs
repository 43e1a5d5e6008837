//! The discovery machine of one interface.
//!
//! ```text
//!   link up, link-local address usable ──▶ solicit, advertise at once, +1 s, +2 s, +3 s, then every 10 s
//!   solicitation heard ───────────────────▶ advertise at once, but not more than one answer in 3 s (RFC 4861 §6.2.6)
//!   advertisement heard ──────────────────▶ Appeared(source)
//!   link down, address lost ──────────────▶ Gone(source)
//!   removed from the configuration ───────▶ advertise lifetime 0
//! ```

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::message::{ALL_NODES, ALL_ROUTERS, Message};
use crate::rng::Rng;

/// How often to advertise, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between advertisements once the start is over; FRR's peers expect 10 s.
    pub interval: Duration,
    /// Router lifetime we claim. BIRD drops a neighbour whose lifetime has run out or is 0, FRR ignores it.
    pub lifetime: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), lifetime: Duration::from_secs(30) }
    }
}

/// Advertisements sent in quick succession after a start, so that a peer which has just come up or heard nothing yet learns of
/// us without waiting.
const FAST_ADVERTISEMENTS: u32 = 4;
/// The time between them.
const FAST_INTERVAL: Duration = Duration::from_secs(1);
/// RFC 4861 §6.2.6: "consecutive Router Advertisements sent to the all-nodes multicast address MUST be rate limited to no more
/// than one advertisement every MIN_DELAY_BETWEEN_RAS seconds".
const MIN_DELAY_BETWEEN_RAS: Duration = Duration::from_secs(3);
/// RFC 4861 §10: MAX_RTR_SOLICITATIONS, RTR_SOLICITATION_INTERVAL. BIRD advertises only every few minutes unless asked.
const SOLICITATIONS: u32 = 3;
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);

/// What to do, or what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this ICMPv6 message from the interface's link-local address with hop limit 255.
    Send {
        /// Destination.
        to: Ipv6Addr,
        /// The message; the kernel adds the checksum.
        octets: Vec<u8>,
    },
    /// A neighbour showed itself.
    Appeared(Ipv6Addr),
    /// The neighbour cannot be there any longer, or another one has taken its place.
    Gone(Ipv6Addr),
}

/// The neighbour in use.
#[derive(Clone, Copy, Debug)]
struct Neighbour {
    address: Ipv6Addr,
    /// Until then it holds its place against a newcomer.
    holds_until: Instant,
}

/// The machine of one interface.
#[derive(Debug)]
pub struct Discovery {
    settings: Settings,
    rng: Rng,
    mac: Option<[u8; 6]>,
    /// Our own link-local address, once the link is up and duplicate address detection is over.
    own: Option<Ipv6Addr>,
    fast_left: u32,
    advertise_at: Option<Instant>,
    last_advertised: Option<Instant>,
    solicitations_left: u32,
    solicit_at: Option<Instant>,
    neighbour: Option<Neighbour>,
    outputs: std::collections::VecDeque<Output>,
}

impl Discovery {
    /// A machine that waits for the link.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            rng: Rng::new(seed),
            mac: None,
            own: None,
            fast_left: 0,
            advertise_at: None,
            last_advertised: None,
            solicitations_left: 0,
            solicit_at: None,
            neighbour: None,
            outputs: std::collections::VecDeque::new(),
        }
    }

    /// What the interface is like now: its link-layer address and its link-local address, which is `None` while the carrier is
    /// away, the link is down, or the address is tentative. A change starts anew; the same again does nothing.
    pub fn link(&mut self, now: Instant, mac: Option<[u8; 6]>, own: Option<Ipv6Addr>) {
        if self.own == own && (self.mac == mac || own.is_none()) {
            return;
        }
        self.mac = mac;
        self.own = own;
        self.lose_neighbour();
        self.last_advertised = None;
        if own.is_some() {
            self.fast_left = FAST_ADVERTISEMENTS;
            self.advertise_at = Some(now);
            self.solicitations_left = SOLICITATIONS;
            self.solicit_at = Some(now);
        } else {
            self.advertise_at = None;
            self.solicit_at = None;
        }
        self.tick(now);
    }

    /// A valid message arrived from `source`.
    pub fn received(&mut self, now: Instant, source: Ipv6Addr, message: Message) {
        let Some(own) = self.own else { return };
        // Our own multicast, looped back.
        if source == own {
            return;
        }
        match message {
            Message::Solicitation => self.answer(now),
            Message::Advertisement { lifetime } => self.heard(now, source, lifetime),
        }
    }

    fn answer(&mut self, now: Instant) {
        let earliest = self.last_advertised.map_or(now, |last| last + MIN_DELAY_BETWEEN_RAS).max(now);
        self.advertise_at = Some(self.advertise_at.map_or(earliest, |at| at.min(earliest)));
        self.tick(now);
    }

    /// The first neighbour stays: two routers on one link must not make us change back and forth. It loses its place only when
    /// it says goodbye or falls silent for its lifetime, *and* somebody else is there; silence alone is for the session's own
    /// timers to judge. A lifetime of zero is how a fabric says "I am a BGP peer but not your default router" and takes a free
    /// place too; nobody is replaced by it.
    fn heard(&mut self, now: Instant, source: Ipv6Addr, lifetime: Duration) {
        self.solicit_at = None;
        let holds_until = now + lifetime;
        match &mut self.neighbour {
            Some(neighbour) if neighbour.address == source => neighbour.holds_until = holds_until,
            Some(neighbour) if now < neighbour.holds_until || lifetime.is_zero() => {}
            _ => {
                self.lose_neighbour();
                self.neighbour = Some(Neighbour { address: source, holds_until });
                self.outputs.push_back(Output::Appeared(source));
                // It may have come up after our fast ones, and not everybody solicits.
                self.answer(now);
            }
        }
    }

    fn lose_neighbour(&mut self) {
        if let Some(neighbour) = self.neighbour.take() {
            self.outputs.push_back(Output::Gone(neighbour.address));
        }
    }

    /// The interface is no longer in the configuration: says goodbye. Not to be called when the daemon merely stops or restarts,
    /// because BIRD ends the session on it.
    pub fn removed(&mut self) {
        if self.own.is_some() {
            self.send(ALL_NODES, Message::Advertisement { lifetime: Duration::ZERO });
        }
        self.lose_neighbour();
        self.own = None;
        self.advertise_at = None;
        self.solicit_at = None;
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.solicit_at.is_some_and(|at| at <= now) {
            self.send(ALL_ROUTERS, Message::Solicitation);
            self.solicitations_left = self.solicitations_left.saturating_sub(1);
            self.solicit_at = (self.solicitations_left > 0).then_some(now + SOLICITATION_INTERVAL);
        }
        if self.advertise_at.is_some_and(|at| at <= now) {
            self.send(ALL_NODES, Message::Advertisement { lifetime: self.settings.lifetime });
            self.last_advertised = Some(now);
            self.fast_left = self.fast_left.saturating_sub(1);
            let wait = if self.fast_left > 0 { FAST_INTERVAL } else { self.rng.jitter(self.settings.interval) };
            self.advertise_at = Some(now + wait);
        }
    }

    fn send(&mut self, to: Ipv6Addr, message: Message) {
        self.outputs.push_back(Output::Send { to, octets: message.emit(self.mac) });
    }

    /// What to do next, if anything.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Discovery::tick`].
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.advertise_at, self.solicit_at].into_iter().flatten().min()
    }

    /// The neighbour in use.
    pub fn neighbour(&self) -> Option<Ipv6Addr> {
        self.neighbour.map(|n| n.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const LEAF: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 3);
    const MAC: Option<[u8; 6]> = Some([2, 0, 0, 0, 0, 1]);

    struct Story {
        start: Instant,
        now: Instant,
        machine: Discovery,
    }

    impl Story {
        fn new() -> Self {
            let start = Instant::now();
            Self { start, now: start, machine: Discovery::new(Settings::default(), 7) }
        }

        fn up() -> Self {
            let mut story = Self::new();
            story.machine.link(story.now, MAC, Some(OWN));
            story
        }

        /// Everything that happens until `seconds` after the start, as (milliseconds, what).
        fn until(&mut self, seconds: u64) -> Vec<(u128, String)> {
            let end = self.start + Duration::from_secs(seconds);
            let mut seen = Vec::new();
            loop {
                while let Some(output) = self.machine.poll() {
                    let what = match output {
                        Output::Send { octets, .. } if octets[0] == 133 => "RS".to_owned(),
                        Output::Send { octets, .. } => format!("RA {}", octets[7]),
                        Output::Appeared(who) => format!("appeared {who}"),
                        Output::Gone(who) => format!("gone {who}"),
                    };
                    seen.push(((self.now - self.start).as_millis(), what));
                }
                let Some(at) = self.machine.next_deadline().filter(|at| *at < end) else {
                    self.now = end;
                    return seen;
                };
                self.now = at;
                self.machine.tick(at);
            }
        }

        fn hears(&mut self, from: Ipv6Addr, lifetime: u64) {
            let message = Message::Advertisement { lifetime: Duration::from_secs(lifetime) };
            self.machine.received(self.now, from, message);
        }
    }

    fn just(seen: &[(u128, String)], what: &str) -> Vec<u128> {
        seen.iter().filter(|(_, w)| w == what).map(|(at, _)| *at).collect()
    }

    #[test]
    fn starts_with_four_fast_advertisements_and_solicits_until_answered() {
        let mut story = Story::up();
        let seen = story.until(60);
        let advertised = just(&seen, "RA 30");
        assert_eq!(advertised[..4], [0, 1000, 2000, 3000]);
        assert!(
            advertised[4..].iter().zip(&advertised[3..]).all(|(b, a)| (7500..=10000).contains(&(b - a))),
            "{advertised:?}"
        );
        assert!(advertised.len() >= 9);
        assert_eq!(just(&seen, "RS"), [0, 4000, 8000]);
    }

    #[test]
    fn nothing_is_sent_without_a_usable_address() {
        let mut story = Story::new();
        story.machine.link(story.now, MAC, None);
        assert_eq!(story.until(60), []);
        story.hears(LEAF, 30);
        assert_eq!(story.until(61), []);
    }

    #[test]
    fn the_leaf_appears_once_and_is_answered() {
        let mut story = Story::up();
        story.until(20);
        story.hears(LEAF, 30);
        story.hears(LEAF, 30);
        let seen = story.until(24);
        assert_eq!(just(&seen, &format!("appeared {LEAF}")), [20000]);
        assert!(just(&seen, "RA 30").first().is_some_and(|at| *at <= 23000), "{seen:?}");
        assert_eq!(just(&seen, "RS"), []);
    }

    #[test]
    fn silence_alone_does_not_make_it_go() {
        let mut story = Story::up();
        story.hears(LEAF, 30);
        let seen = story.until(3600);
        assert_eq!(just(&seen, &format!("gone {LEAF}")), []);
    }

    #[test]
    fn a_second_router_waits_until_the_first_is_silent_or_leaves() {
        let mut story = Story::up();
        story.hears(LEAF, 30);
        story.hears(OTHER, 30);
        story.until(29);
        story.hears(OTHER, 30);
        assert_eq!(story.machine.neighbour(), Some(LEAF));
        story.until(31);
        story.hears(OTHER, 30);
        assert_eq!(story.machine.neighbour(), Some(OTHER));
        story.hears(OTHER, 0);
        assert_eq!(story.machine.neighbour(), Some(OTHER), "a goodbye with nobody else there");
        story.hears(LEAF, 30);
        assert_eq!(story.machine.neighbour(), Some(LEAF));
        let seen: Vec<_> = story.until(32).into_iter().map(|(_, w)| w).filter(|w| !w.starts_with('R')).collect();
        let expected =
            [format!("gone {LEAF}"), format!("appeared {OTHER}"), format!("gone {OTHER}"), format!("appeared {LEAF}")];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_leaf_that_is_no_default_router_is_a_neighbour_all_the_same() {
        let mut story = Story::up();
        story.hears(LEAF, 0);
        assert_eq!(story.machine.neighbour(), Some(LEAF));
        story.hears(OTHER, 0);
        assert_eq!(story.machine.neighbour(), Some(LEAF), "the first stays");
    }

    #[test]
    fn a_carrier_flap_loses_the_neighbour_and_starts_fast_again() {
        let mut story = Story::up();
        story.hears(LEAF, 30);
        story.until(100);
        story.machine.link(story.now, MAC, None);
        story.machine.link(story.now, MAC, Some(OWN));
        let seen = story.until(103);
        assert_eq!(just(&seen, &format!("gone {LEAF}")), [100_000]);
        assert_eq!(just(&seen, "RA 30"), [100_000, 101_000, 102_000]);
        assert_eq!(just(&seen, "RS"), [100_000]);
        story.machine.link(story.now, MAC, Some(OWN));
        assert_eq!(story.machine.neighbour(), None);
    }

    #[test]
    fn solicitations_are_answered_but_not_faster_than_one_in_three_seconds() {
        let mut story = Story::up();
        story.until(60);
        for _ in 0..1000 {
            story.machine.received(story.now, LEAF, Message::Solicitation);
        }
        let seen = just(&story.until(63), "RA 30");
        assert!(seen.len() <= 2 && !seen.is_empty(), "{seen:?}");
    }

    #[test]
    fn our_own_multicast_is_ignored() {
        let mut story = Story::up();
        story.hears(OWN, 30);
        assert_eq!(story.machine.neighbour(), None);
    }

    #[test]
    fn goodbye_only_on_removal() {
        let mut story = Story::up();
        story.hears(LEAF, 30);
        story.until(50);
        story.machine.removed();
        let seen: Vec<_> = story.until(200).into_iter().map(|(_, w)| w).collect();
        assert_eq!(seen, ["RA 0".to_owned(), format!("gone {LEAF}")]);
    }
}
