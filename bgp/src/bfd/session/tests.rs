//! Two machines, a virtual network and a virtual clock; and single machines where the order of events matters.
#![expect(clippy::unchecked_time_subtraction, reason = "a negative time is a failure of the test, and shows as one")]

use super::*;
use crate::bfd::AuthKind;

mod hand_over;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn config(tx: u64, rx: u64, mult: u8) -> SessionConfig {
    SessionConfig { transmit_interval: MS(tx), receive_interval: MS(rx), detect_multiplier: mult, passive: false }
}

/// What one end of the link is like.
struct End {
    session: Session,
    /// Packets under way to this end, with their time of arrival.
    inbox: Vec<(Instant, Vec<u8>)>,
    seen: Vec<(Duration, State, Diagnostic)>,
    sent: Vec<(Duration, Packet)>,
    /// Nobody is there: what arrives is lost.
    away: bool,
}

/// Two ends, and a network that loses, delays and reorders.
struct Pair {
    start: Instant,
    now: Instant,
    ends: [End; 2],
    rng: Rng,
    /// Loss in percent, per direction (to end 0, to end 1).
    loss: [u64; 2],
    /// Longest delay; packets overtake each other, unless they keep their order.
    delay: Duration,
    ordered: bool,
    /// How fast the clock of each end runs, in thousandths.
    speed: [u32; 2],
}

impl Pair {
    fn new(left: SessionConfig, right: SessionConfig, seed: u64) -> Self {
        let now = Instant::now();
        let end = |config, discriminator, seed| End {
            session: Session::new(now, config, None, discriminator, seed),
            inbox: Vec::new(),
            seen: Vec::new(),
            sent: Vec::new(),
            away: false,
        };
        let ends = [end(left, 11, seed), end(right, 22, seed + 1)];
        Self {
            start: now,
            now,
            ends,
            rng: Rng::new(seed + 2),
            loss: [0, 0],
            delay: MS(1),
            ordered: false,
            speed: [1000, 1000],
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let next = |pair: &Self| {
            let at = |(side, end): (usize, &End)| {
                let deadline = end.session.next_deadline().filter(|_| !end.away).map(|at| pair.real(side, at));
                deadline.into_iter().chain(end.inbox.iter().map(|(at, _)| *at)).min()
            };
            pair.ends.iter().enumerate().filter_map(at).min().filter(|at| *at <= until)
        };
        while let Some(at) = next(self) {
            self.now = self.now.max(at);
            for side in 0..2 {
                self.step(side);
            }
        }
        self.now = until;
    }

    /// What the clock of an end says at a moment.
    fn clock(&self, side: usize, real: Instant) -> Instant {
        self.start + (real - self.start) * self.speed[side] / 1000
    }

    /// The moment at which the clock of an end says so.
    fn real(&self, side: usize, clock: Instant) -> Instant {
        let nanosecond = Duration::from_nanos(1);
        let at = self.start + clock.saturating_duration_since(self.start) * 1000 / self.speed[side];
        // Division rounds down.
        if self.clock(side, at) < clock { at + nanosecond } else { at }
    }

    fn step(&mut self, side: usize) {
        let (now, start) = (self.clock(side, self.now), self.start);
        let arrived = |at: Instant, speed: u32| start + (at - start) * speed / 1000;
        let speed = self.speed[side];
        let real = self.now;
        let end = &mut self.ends[side];
        end.inbox.sort_by_key(|(at, _)| *at);
        let due = end.inbox.partition_point(|(at, _)| *at <= real);
        let arrivals = end.inbox.drain(..due);
        if end.away {
            return;
        }
        for (at, octets) in arrivals {
            let (packet, covered) = Packet::parse(&octets).unwrap();
            let _ = end.session.receive(arrived(at, speed), &packet, covered);
        }
        end.session.tick(now);
        while let Some(change) = end.session.take_change() {
            if let Change::State(transition) = change {
                end.seen.push((now - start, transition.to, transition.diagnostic));
            }
        }
        let mut packets = Vec::new();
        while let Some(octets) = end.session.transmit(now) {
            end.sent.push((now - start, Packet::parse(&octets).unwrap().0));
            packets.push(octets);
        }
        for octets in packets {
            if self.rng.next() % 100 >= self.loss[1 - side] {
                let nanos = u64::try_from(self.delay.as_nanos()).unwrap();
                let at = real + Duration::from_nanos(self.rng.next() % nanos.max(1));
                let inbox = &mut self.ends[1 - side].inbox;
                let before = inbox.iter().map(|(at, _)| *at).max().filter(|_| self.ordered);
                inbox.push((before.map_or(at, |before| at.max(before)), octets));
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].session.state(), self.ends[1].session.state()]
    }

    fn downs(&self) -> usize {
        self.ends.iter().flat_map(|end| &end.seen).filter(|(_, state, _)| *state == State::Down).count()
    }
}

#[test]
fn two_ends_come_up_and_settle_on_the_slower_wish_in_each_direction() {
    // The defaults of FRR and of BIRD: asymmetric on purpose.
    let mut pair = Pair::new(config(300, 300, 3), config(100, 10, 5), 1);
    pair.run(Duration::from_secs(10));
    assert_eq!(pair.states(), [State::Up, State::Up]);
    let [left, right] = &pair.ends;
    assert_eq!(left.session.interval(), Some(MS(300)));
    assert_eq!(right.session.interval(), Some(MS(300)));
    assert_eq!(left.session.detection_time(), MS(1500));
    assert_eq!(right.session.detection_time(), MS(900));
    assert!(!left.session.polling() && !right.session.polling());
}

#[test]
fn while_not_up_nobody_sends_faster_than_once_a_second() {
    let mut pair = Pair::new(config(50, 50, 3), config(50, 50, 3), 2);
    pair.loss = [100, 100];
    pair.run(Duration::from_secs(60));
    for end in &pair.ends {
        let times: Vec<_> = end.sent.iter().map(|(at, _)| *at).collect();
        assert!(times.windows(2).all(|w| (MS(750)..=MS(1000)).contains(&(w[1] - w[0]))), "{times:?}");
        assert!(end.sent.iter().all(|(_, packet)| packet.desired_min_tx >= 1_000_000));
    }
}

#[test]
fn intervals_are_spread_and_below_ninety_percent_with_multiplier_one() {
    for (mult, most) in [(3, 100), (1, 90)] {
        let mut pair = Pair::new(config(100, 100, mult), config(100, 100, mult), 3);
        pair.delay = MS(0);
        pair.run(Duration::from_secs(20));
        let times: Vec<_> =
            pair.ends[0].sent.iter().filter(|(at, p)| *at > MS(5000) && !p.r#final).map(|(at, _)| *at).collect();
        assert!(times.len() > 100);
        let gaps: Vec<_> = times.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps.iter().all(|gap| (MS(75)..=MS(most)).contains(gap)), "{gaps:?}");
        assert!(gaps.iter().any(|gap| *gap < MS(80)) && gaps.iter().any(|gap| *gap > MS(85)));
    }
}

#[test]
fn a_dead_peer_is_noticed_within_the_detection_time() {
    let mut pair = Pair::new(config(50, 50, 3), config(50, 50, 3), 4);
    pair.run(Duration::from_secs(5));
    let cut = pair.now - pair.start;
    pair.loss = [100, 0];
    pair.run(Duration::from_secs(1));
    let (at, state, why) = *pair.ends[0].seen.last().unwrap();
    assert_eq!((state, why), (State::Down, Diagnostic::DETECTION_TIME_EXPIRED));
    assert!(at - cut <= MS(151), "{:?}", at - cut);
    // The other end hears of it and does not wait for its own timer.
    let (_, state, why) = *pair.ends[1].seen.iter().find(|(at, ..)| *at > cut).unwrap();
    assert_eq!((state, why), (State::Down, Diagnostic::NEIGHBOUR_DOWN));
}

#[test]
fn loss_reordering_and_drift_below_the_multiplier_do_no_harm() {
    for seed in 0..50 {
        let mut pair = Pair::new(config(50, 50, 5), config(50, 50, 5), seed);
        // One clock runs 3 % fast, the other 3 % slow: far more than any quartz does.
        pair.speed = [1030, 970];
        pair.loss = [5, 5];
        pair.delay = MS(20);
        // While they come up, a Down overtaken by an Init may throw the other end back once.
        pair.run(Duration::from_secs(5));
        let before = pair.downs();
        pair.run(Duration::from_secs(30));
        assert_eq!(pair.states(), [State::Up, State::Up], "seed {seed}");
        assert_eq!(pair.downs(), before, "seed {seed}");
    }
}

#[test]
fn whatever_happened_they_come_up_again_when_the_network_is_well() {
    for seed in 0..50 {
        let mut pair = Pair::new(config(50, 50, 3), config(300, 100, 3), seed);
        pair.loss = [60, 90];
        pair.delay = MS(200);
        pair.run(Duration::from_secs(60));
        pair.loss = [0, 0];
        pair.delay = MS(1);
        pair.run(Duration::from_secs(10));
        assert_eq!(pair.states(), [State::Up, State::Up], "seed {seed}");
        let before = pair.downs();
        pair.run(Duration::from_secs(60));
        assert_eq!(pair.downs(), before, "seed {seed}");
    }
}

const KINDS: [AuthKind; 5] = [
    AuthKind::SimplePassword,
    AuthKind::KeyedMd5,
    AuthKind::MeticulousKeyedMd5,
    AuthKind::KeyedSha1,
    AuthKind::MeticulousKeyedSha1,
];

/// A key for each of these Key IDs; the first signs.
fn secret(kind: AuthKind, ids: &[u8]) -> Keys {
    Keys::new(kind, ids.iter().map(|id| (*id, [b"secret", &[*id][..]].concat()))).unwrap()
}

/// A session that signs with "secret" from this sequence number on.
fn authenticated(now: Instant, kind: AuthKind, first_sequence: u32, discriminator: u32) -> Session {
    let auth = Auth::new(secret(kind, &[1]), first_sequence);
    Session::new(now, config(50, 50, 5), Some(auth), discriminator, first_sequence.into())
}

#[test]
fn authenticated_ends_stay_up_under_loss_and_reordering() {
    for (seed, kind) in (0..).zip(KINDS.into_iter().cycle().take(25)) {
        let mut pair = Pair::new(config(50, 50, 5), config(50, 50, 5), seed);
        // The sequence numbers wrap while the session is up.
        pair.ends[0].session = authenticated(pair.now, kind, u32::MAX - 50, 11);
        pair.ends[1].session = authenticated(pair.now, kind, 7, 22);
        pair.loss = [5, 5];
        pair.delay = MS(20);
        pair.run(Duration::from_secs(5));
        let before = pair.downs();
        pair.run(Duration::from_secs(30));
        assert_eq!(pair.states(), [State::Up, State::Up], "{kind:?}, seed {seed}");
        assert_eq!(pair.downs(), before, "{kind:?}, seed {seed}");
    }
}

#[test]
fn an_authenticated_peer_that_has_restarted_is_believed_after_twice_the_detection_time() {
    // RFC 5880 §6.8.1: "This variable MUST be set to zero after no packets have been received on this session for at least twice
    // the Detection Time." Simple passwords have no sequence number.
    for kind in &KINDS[1..] {
        let mut pair = Pair::new(config(50, 50, 5), config(50, 50, 5), 1);
        pair.ends[0].session = authenticated(pair.now, *kind, 1000, 11);
        pair.ends[1].session = authenticated(pair.now, *kind, 2000, 22);
        pair.run(Duration::from_secs(5));
        assert_eq!(pair.states(), [State::Up, State::Up], "{kind:?}");
        // Its sequence number is far behind what was last seen.
        pair.ends[1].session = authenticated(pair.now, *kind, 5, 33);
        // Detection after 250 ms, believed after 500; the restarted one sends every second.
        pair.run(MS(400));
        assert_eq!(pair.ends[0].session.state(), State::Down, "{kind:?}");
        pair.run(Duration::from_secs(10));
        assert_eq!(pair.states(), [State::Up, State::Up], "{kind:?}");
    }
}

#[test]
fn a_new_key_is_brought_in_without_a_flap() {
    for kind in KINDS {
        let mut pair = Pair::new(config(50, 50, 5), config(50, 50, 5), 1);
        pair.ends[0].session = authenticated(pair.now, kind, 1000, 11);
        pair.ends[1].session = authenticated(pair.now, kind, 2000, 22);
        pair.run(Duration::from_secs(5));
        // First both come to know it; then one after the other signs with it; then the old one goes.
        for (side, ids) in [(0, &[1, 2][..]), (1, &[1, 2]), (0, &[2, 1]), (1, &[2, 1]), (0, &[2]), (1, &[2])] {
            pair.ends[side].session.set_keys(Some(secret(kind, ids)), 7);
            pair.run(Duration::from_secs(2));
        }
        assert_eq!(pair.states(), [State::Up, State::Up], "{kind:?}");
        assert_eq!(pair.downs(), 0, "{kind:?}");
        // A key the other end does not have is no key.
        pair.ends[0].session.set_keys(Some(secret(kind, &[3])), 7);
        pair.run(Duration::from_secs(5));
        assert_ne!(pair.states(), [State::Up, State::Up], "{kind:?}");
    }
}

#[test]
fn a_sequence_number_is_not_forgotten_before_its_time() {
    let start = Instant::now();
    let kind = AuthKind::MeticulousKeyedSha1;
    let (mut us, mut peer) = (authenticated(start, kind, 1, 11), authenticated(start, kind, 100, 22));
    let replayed = peer.transmit(start).unwrap();
    let hear = |us: &mut Session, after: Duration| {
        let (packet, covered) = Packet::parse(&replayed).unwrap();
        us.tick(start + after);
        us.receive(start + after, &packet, covered)
    };
    assert_eq!(hear(&mut us, MS(0)), Ok(()));
    // The peer sends once a second, five times missed is failure: the Detection Time is 5 s.
    for after in [1, 4999, 5001, 9999] {
        assert_eq!(hear(&mut us, MS(after)), Err(Discard::AuthSequence), "after {after} ms");
    }
    assert_eq!(hear(&mut us, MS(10_000)), Ok(()));
}

#[test]
fn timers_change_by_a_poll_without_a_flap_from_either_side_and_in_either_direction() {
    for (side, tx, rx) in [(0, 1000, 1000), (1, 1000, 1000), (0, 50, 50), (1, 50, 300)] {
        let mut pair = Pair::new(config(200, 200, 3), config(200, 200, 3), 5);
        pair.run(Duration::from_secs(5));
        pair.ends[side].session.reconfigure(pair.now, config(tx, rx, 3));
        assert!(pair.ends[side].session.polling());
        pair.run(Duration::from_secs(30));
        assert_eq!(pair.downs(), 0, "side {side} to {tx}/{rx}");
        assert!(!pair.ends[side].session.polling());
        assert_eq!(pair.ends[side].session.interval(), Some(MS(tx.max(200))));
        assert_eq!(pair.ends[1 - side].session.interval(), Some(MS(rx.max(200))));
    }
}

#[test]
fn a_slower_rate_waits_for_the_final_and_a_faster_one_does_not() {
    let mut pair = Pair::new(config(100, 100, 3), config(100, 100, 3), 6);
    pair.run(Duration::from_secs(5));
    pair.loss = [100, 0];
    let session = &mut pair.ends[0].session;
    session.reconfigure(pair.now, config(2000, 100, 3));
    assert_eq!(session.interval(), Some(MS(100)), "the peer does not know yet");
    session.reconfigure(pair.now, config(2000, 20, 3));
    assert_eq!(session.detection_time(), MS(300), "nor that it may send faster");
}

#[test]
fn two_changes_in_one_poll_are_both_confirmed() {
    let mut pair = Pair::new(config(100, 100, 3), config(100, 100, 3), 7);
    pair.run(Duration::from_secs(5));
    pair.ends[0].session.reconfigure(pair.now, config(500, 100, 3));
    pair.ends[0].session.reconfigure(pair.now, config(800, 100, 3));
    pair.run(Duration::from_secs(10));
    assert_eq!(pair.ends[0].session.interval(), Some(MS(800)));
    assert_eq!(pair.downs(), 0);
}

#[test]
fn admin_down_is_told_and_not_taken_for_a_failure() {
    let mut pair = Pair::new(config(100, 100, 3), config(100, 100, 3), 8);
    pair.run(Duration::from_secs(5));
    pair.ends[0].session.set_admin_down(pair.now, true);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.states(), [State::AdminDown, State::Down]);
    let (_, state, why) = *pair.ends[1].seen.last().unwrap();
    assert_eq!((state, why), (State::Down, Diagnostic::NEIGHBOUR_DOWN));
    assert_eq!(pair.ends[1].session.remote_state(), State::AdminDown);
    pair.ends[0].session.set_admin_down(pair.now, false);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.states(), [State::Up, State::Up]);
}

#[test]
fn a_passive_end_waits_and_two_passive_ends_stay_silent() {
    let passive = SessionConfig { passive: true, ..config(100, 100, 3) };
    let mut pair = Pair::new(passive, config(100, 100, 3), 9);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.states(), [State::Up, State::Up]);
    let mut pair = Pair::new(passive, passive, 9);
    pair.run(Duration::from_secs(60));
    assert!(pair.ends.iter().all(|end| end.sent.is_empty()));
}

/// A session that is up, and packets as its peer might send them.
fn up() -> (Instant, Session, Packet) {
    settled(State::Up)
}

/// A session that has long been in a state, and packets as its peer might send them while it is up.
fn settled(state: State) -> (Instant, Session, Packet) {
    let now = Instant::now();
    let handed = HandedSession::settled(state, &config(100, 100, 3), 11, 22);
    let session = Session::take_over(now, config(100, 100, 3), None, &handed, Lapse::default(), 1).unwrap();
    let packet = Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Up,
        poll: false,
        r#final: false,
        control_plane_independent: false,
        authentication: false,
        demand: false,
        detect_mult: 3,
        my_discriminator: 22,
        your_discriminator: 11,
        desired_min_tx: 100_000,
        required_min_rx: 100_000,
        required_min_echo_rx: 0,
    };
    (now, session, packet)
}

#[test]
fn what_the_kernel_received_in_time_counts_even_if_we_look_late() {
    let (now, mut session, packet) = up();
    session.receive(now, &packet, &[]).unwrap();
    // The process was stopped for ten seconds; the socket holds packets up to the last moment.
    for n in 1..=100 {
        session.receive(now + MS(100) * n, &packet, &[]).unwrap();
    }
    session.tick(now + MS(10_050));
    assert_eq!(session.state(), State::Up);
    session.tick(now + MS(10_301));
    assert_eq!(session.state(), State::Down);
}

#[test]
fn demand_silences_us_except_for_answers() {
    let (now, mut session, packet) = up();
    session.receive(now, &Packet { demand: true, ..packet }, &[]).unwrap();
    assert_eq!(session.interval(), None);
    while session.transmit(now).is_some() {}
    assert_eq!(session.transmit(now + MS(100)), None);
    session.receive(now + MS(100), &Packet { demand: true, poll: true, ..packet }, &[]).unwrap();
    let answer = session.transmit(now + MS(100)).unwrap();
    let (answer, _) = Packet::parse(&answer).unwrap();
    assert!(answer.r#final && !answer.poll);
}

#[test]
fn zero_required_min_rx_means_do_not_send() {
    let (now, mut session, packet) = up();
    session.receive(now, &Packet { required_min_rx: 0, ..packet }, &[]).unwrap();
    while session.transmit(now).is_some() {}
    assert_eq!(session.transmit(now + Duration::from_secs(60)), None);
    session.receive(now + MS(50), &packet, &[]).unwrap();
    assert!(session.transmit(now + MS(200)).is_some());
}

#[test]
fn every_cell_of_the_state_table() {
    use State::{AdminDown, Down, Init, Up};
    for (local, remote, expected) in [
        (Down, Down, Init),
        (Down, Init, Up),
        (Down, Up, Down),
        (Down, AdminDown, Down),
        (Init, Down, Init),
        (Init, Init, Up),
        (Init, Up, Up),
        (Init, AdminDown, Down),
        (Up, Down, Down),
        (Up, Init, Up),
        (Up, Up, Up),
        (Up, AdminDown, Down),
        (AdminDown, Down, AdminDown),
        (AdminDown, Init, AdminDown),
        (AdminDown, Up, AdminDown),
        (AdminDown, AdminDown, AdminDown),
    ] {
        let (now, mut session, packet) = settled(local);
        let outcome = session.receive(now, &Packet { state: remote, ..packet }, &[]);
        assert_eq!(session.state(), expected, "{local} hears {remote}");
        assert_eq!(outcome.is_err(), local == AdminDown, "{local} hears {remote}");
    }
}

/// What became of a session, as far as states are concerned.
fn states(session: &mut Session) -> Vec<State> {
    let changes = std::iter::from_fn(|| session.take_change());
    changes
        .filter_map(|change| if let Change::State(transition) = change { Some(transition.to) } else { None })
        .collect()
}

#[test]
fn a_failure_and_a_recovery_between_two_looks_are_both_told() {
    let (now, mut session, packet) = up();
    // We were late; meanwhile the peer has restarted: both packets wait in the socket.
    session.receive(now, &Packet { state: State::Down, my_discriminator: 33, ..packet }, &[]).unwrap();
    session.receive(now + MS(1), &Packet { state: State::Init, my_discriminator: 33, ..packet }, &[]).unwrap();
    assert_eq!(states(&mut session), [State::Down, State::Up]);
    assert_eq!(session.remote_discriminator(), 33);
}

#[test]
fn a_peer_that_restarts_is_met_under_its_new_discriminator() {
    let mut pair = Pair::new(config(100, 100, 3), config(100, 100, 3), 10);
    pair.run(Duration::from_secs(5));
    let restarted = pair.now - pair.start;
    pair.ends[1].session = Session::new(pair.now, config(100, 100, 3), None, 33, 10);
    pair.run(Duration::from_secs(5));
    let (at, state, why) = *pair.ends[0].seen.iter().find(|(at, ..)| *at > restarted).unwrap();
    assert_eq!((state, why), (State::Down, Diagnostic::NEIGHBOUR_DOWN));
    assert!(at - restarted < MS(10), "it says so itself: {:?}", at - restarted);
    assert_eq!(pair.states(), [State::Up, State::Up]);
    assert_eq!(pair.ends[0].session.remote_discriminator(), 33);
    assert_eq!(pair.downs(), 1);
}

#[test]
fn what_the_peer_should_know_at_once_is_not_put_off_by_its_other_interval() {
    let (now, mut session, packet) = up();
    session.receive(now, &packet, &[]).unwrap();
    assert!(session.transmit(now).is_some());
    // It is down and asks for fewer packets; another one behind it asks for fewer still.
    let slow = Packet { state: State::Down, required_min_rx: 2_000_000, ..packet };
    session.receive(now + MS(10), &slow, &[]).unwrap();
    session
        .receive(now + MS(11), &Packet { state: State::AdminDown, required_min_rx: 3_000_000, ..slow }, &[])
        .unwrap();
    let told = session.transmit(now + MS(12)).expect("not a word for two seconds");
    assert_eq!(Packet::parse(&told).unwrap().0.state, State::Down);
    assert_eq!(session.transmit(now + MS(2000)), None, "from then on it is spared");
}

#[test]
fn who_asked_for_silence_and_went_away_is_called_again() {
    let now = Instant::now();
    let mut session = Session::new(now, config(100, 100, 3), None, 11, 1);
    assert!(session.transmit(now).is_some());
    let packet = Packet { state: State::AdminDown, required_min_rx: 0, ..up().2 };
    session.receive(now + MS(10), &packet, &[]).unwrap();
    session.tick(now + MS(300));
    assert_eq!(session.transmit(now + MS(300)), None);
    // Its Detection Time is over: nothing of what it said holds any longer.
    session.tick(now + MS(310));
    session.tick(now + MS(1000));
    assert!(session.transmit(now + MS(1000)).is_some(), "two ends would wait for each other for ever");
}

#[test]
fn a_passive_end_says_nothing_to_a_peer_that_is_gone() {
    let passive = SessionConfig { passive: true, ..config(100, 100, 3) };
    let mut pair = Pair::new(passive, config(100, 100, 3), 11);
    pair.run(Duration::from_secs(5));
    pair.loss = [100, 0];
    // The Detection Time, and a millisecond for what is under way.
    pair.run(MS(301));
    assert_eq!(pair.ends[0].session.state(), State::Down);
    let gone = pair.now - pair.start;
    pair.run(Duration::from_secs(60));
    let sent = &pair.ends[0].sent;
    assert!(sent.iter().all(|(at, packet)| *at < gone && packet.your_discriminator != 0), "RFC 5880 §6.8.7: {sent:?}");
    pair.loss = [0, 0];
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.states(), [State::Up, State::Up]);
}

#[test]
fn a_peer_that_takes_its_end_down_says_so_also_to_one_that_is_not_up() {
    let (now, mut session, packet) = settled(State::Down);
    let admin_down = |session: &mut Session, state| {
        session.receive(now, &Packet { state, ..packet }, &[]).unwrap();
        let changes = std::iter::from_fn(|| session.take_change());
        changes
            .filter_map(|c| if let Change::RemoteAdminDown(down) = c { Some(down) } else { None })
            .collect::<Vec<_>>()
    };
    assert_eq!(admin_down(&mut session, State::AdminDown), [true]);
    assert_eq!(session.state(), State::Down);
    assert!(admin_down(&mut session, State::AdminDown).is_empty(), "once");
    assert_eq!(admin_down(&mut session, State::Down), [false]);
    // We have ended the session meanwhile, and begin anew: what it said then is forgotten.
    assert_eq!(admin_down(&mut session, State::AdminDown), [true]);
    session.set_admin_down(now, true);
    session.set_admin_down(now, false);
    assert_eq!(admin_down(&mut session, State::AdminDown), [true]);
}
