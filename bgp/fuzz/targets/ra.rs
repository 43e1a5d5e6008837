//! Router advertisements and solicitations, alone and against the discovery machine of one interface, with time between them.
#![no_main]

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use bgp::unnumbered::message::{ALL_NODES, ALL_ROUTERS, HOP_LIMIT, Message};
use bgp::unnumbered::{Discovery, Output, Settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&seed, mut rest)) = data.split_first() else { return };
    let mut link = Link::new(u64::from(seed));
    while let Some(([wait, what, len], after)) = rest.split_first_chunk::<3>().map(|(head, after)| (*head, after)) {
        let (octets, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        link.wait(Duration::from_millis(u64::from(wait) * 200));
        match what & 0xf {
            0 => link.set(None),
            1 => link.set(Some(address(what >> 6))),
            2 => link.hear(address(what >> 6), what, octets),
            3 => link.hear(Ipv6Addr::UNSPECIFIED, HOP_LIMIT, octets),
            _ => link.hear(address(what >> 6), HOP_LIMIT, octets),
        }
    }
});

/// A few link-local addresses, ours among them, and one that is none.
fn address(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(if number == 3 { 0x2001 } else { 0xfe80 }, 0, 0, 0, 0, 0, 0, number.into())
}

/// The machine, and what has been seen of it.
struct Link {
    now: Instant,
    machine: Discovery,
    mac: Option<[u8; 6]>,
    own: Option<Ipv6Addr>,
    solicitations: u32,
    advertisements: u32,
    advertised_at: Option<Instant>,
    neighbour: Option<Ipv6Addr>,
}

impl Link {
    fn new(seed: u64) -> Self {
        Self {
            now: Instant::now(),
            machine: Discovery::new(Settings::default(), seed),
            mac: (seed & 1 == 0).then_some([2, 0, 0, 0, 0, 1]),
            own: None,
            solicitations: 0,
            advertisements: 0,
            advertised_at: None,
            neighbour: None,
        }
    }

    fn set(&mut self, own: Option<Ipv6Addr>) {
        if own != self.own {
            (self.solicitations, self.advertisements, self.advertised_at) = (0, 0, None);
        }
        self.own = own;
        self.machine.link(self.now, self.mac, own);
        self.outputs();
    }

    /// What reads is written and read again as the same; the machine gets what came.
    fn hear(&mut self, source: Ipv6Addr, hop_limit: u8, octets: &[u8]) {
        let Ok(message) = Message::parse(octets, source, hop_limit) else { return };
        assert_eq!(hop_limit, HOP_LIMIT);
        assert!(message == Message::Solicitation || source.is_unicast_link_local());
        let mac = self.mac.filter(|_| !source.is_unspecified());
        assert_eq!(Message::parse(&message.emit(mac), source, HOP_LIMIT), Ok(message));
        self.machine.received(self.now, source, message);
        self.outputs();
    }

    /// Time passes, with a look at every deadline.
    fn wait(&mut self, wait: Duration) {
        let end = self.now + wait;
        while let Some(at) = self.machine.next_deadline().filter(|at| *at <= end) {
            self.now = at;
            self.machine.tick(at);
            self.outputs();
            assert!(
                self.machine.next_deadline().is_none_or(|next| next > at),
                "a deadline that has passed after a tick"
            );
        }
        self.now = end;
    }

    /// However much is heard, little is said: three solicitations, four advertisements a second apart, then one in three seconds.
    fn outputs(&mut self) {
        let mut count = 0;
        while let Some(output) = self.machine.poll() {
            count += 1;
            match output {
                Output::Send { to, octets } => self.sent(to, &octets),
                Output::Appeared(who) => {
                    assert_eq!(self.neighbour.replace(who), None);
                    assert!(who.is_unicast_link_local() && Some(who) != self.own);
                }
                Output::Gone(who) => assert_eq!(self.neighbour.take(), Some(who)),
            }
        }
        assert!(count <= 4, "{count} outputs of one event");
        assert_eq!(self.machine.neighbour(), self.neighbour);
        assert!(self.own.is_some() || self.machine.next_deadline().is_none(), "waits for something without an address");
    }

    fn sent(&mut self, to: Ipv6Addr, octets: &[u8]) {
        assert!(self.own.is_some(), "sent without an address");
        match Message::parse(octets, address(0), HOP_LIMIT) {
            Ok(Message::Solicitation) => {
                assert_eq!(to, ALL_ROUTERS);
                self.solicitations += 1;
                assert!(self.solicitations <= 3);
            }
            Ok(Message::Advertisement { lifetime }) => {
                assert_eq!((to, lifetime), (ALL_NODES, Settings::default().lifetime));
                let apart = Duration::from_secs(if self.advertisements < 4 { 1 } else { 3 });
                assert!(self.advertised_at.is_none_or(|last| self.now >= last + apart), "too many advertisements");
                self.advertisements += 1;
                self.advertised_at = Some(self.now);
            }
            Err(error) => panic!("what we send cannot be read: {error}"),
        }
    }
}
