//! One end is handed over to another process while the other end looks on.

use proptest::prelude::*;

use super::*;

/// What was announced before the hand-over.
const PAUSE: Duration = Duration::from_secs(1);

impl Pair {
    /// Two ends that are up, from here on watched.
    fn settled(left: SessionConfig, right: SessionConfig, kind: Option<AuthKind>, seed: u64) -> Self {
        let mut pair = Self::new(left, right, seed);
        if let Some(kind) = kind {
            for (end, (config, discriminator)) in pair.ends.iter_mut().zip([(left, 11), (right, 22)]) {
                let auth = Auth::new(secret(kind, &[1]), u32::MAX - 30);
                end.session = Session::new(pair.now, config, Some(auth), discriminator, seed);
            }
        }
        pair.run(Duration::from_secs(5));
        assert_eq!(pair.states(), [State::Up, State::Up]);
        for end in &mut pair.ends {
            (end.seen, end.sent) = (Vec::new(), Vec::new());
        }
        pair
    }

    /// An end asks for patience, as it does before it is handed over.
    fn widen(&mut self, side: usize) {
        let config = self.ends[side].session.config;
        let transmit_interval = config.transmit_interval.max(PAUSE);
        self.ends[side].session.reconfigure(self.now, SessionConfig { transmit_interval, ..config });
    }

    /// One process ends, and after the gap another goes on.
    fn hand_over(&mut self, side: usize, config: SessionConfig, gap: Duration) {
        let session = &self.ends[side].session;
        let keys = session.auth.as_ref().map(|auth| secret(auth.kind(), &[1]));
        let handed = serde_json::to_vec(&session.hand_over(self.now)).unwrap();
        self.ends[side].away = true;
        self.run(gap);
        self.ends[side].away = false;
        let handed = serde_json::from_slice(&handed).unwrap();
        let lapse = Lapse { gap, grace: PAUSE };
        let auth = keys.map(|keys| Auth::new(keys, 0));
        self.ends[side].session = Session::take_over(self.now, config, auth, &handed, lapse, 5).unwrap();
    }

    /// Nobody has seen anything, and both ends are as they are configured to be.
    fn assert_unmoved(&self, what: &str) {
        assert_eq!(self.states(), [State::Up, State::Up], "{what}");
        for (end, discriminator) in self.ends.iter().zip([11, 22]) {
            assert!(end.seen.is_empty(), "{what}: {:?}", end.seen);
            let changed = end.sent.iter().find(|(_, p)| p.my_discriminator != discriminator || p.state != State::Up);
            assert!(changed.is_none(), "{what}: {changed:?}");
            assert!(!end.session.polling(), "{what}");
        }
        for (one, other) in [(0, 1), (1, 0)] {
            let (from, to) = (&self.ends[one].session, &self.ends[other].session);
            let interval = from.config.transmit_interval.max(to.config.receive_interval);
            assert_eq!(from.interval(), Some(interval), "{what}");
            assert_eq!(to.detection_time(), interval * u32::from(from.config.detect_multiplier), "{what}");
        }
    }
}

#[test]
fn the_peer_of_an_end_that_is_handed_over_sees_nothing_of_it() {
    let fast = config(50, 50, 3);
    // Longer than the Detection Time either end has without patience.
    let mut pair = Pair::settled(fast, fast, None, 1);
    pair.widen(0);
    pair.run(MS(20));
    assert_eq!(pair.ends[1].session.detection_time(), PAUSE * 3);
    pair.hand_over(0, fast, MS(900));
    pair.run(Duration::from_secs(5));
    pair.assert_unmoved("quiet");

    // The poll is not even sent; or its answer was lost.
    for (run, gap) in [(0, 90), (5, 900)] {
        let mut pair = Pair::settled(fast, fast, None, 2);
        pair.loss = [100, 0];
        pair.widen(0);
        pair.run(MS(run));
        assert!(pair.ends[0].session.polling());
        pair.hand_over(0, fast, MS(gap));
        pair.loss = [0, 0];
        pair.run(Duration::from_secs(5));
        pair.assert_unmoved("during a poll sequence of ours");
    }

    // A poll of the peer is still to be answered.
    let mut pair = Pair::settled(fast, fast, None, 3);
    pair.ends[1].session.reconfigure(pair.now, config(200, 50, 3));
    pair.run(MS(0));
    pair.ends[0].away = true;
    pair.run(MS(1));
    pair.hand_over(0, fast, MS(20));
    pair.ends[1].session.config.transmit_interval = MS(200);
    pair.run(Duration::from_secs(5));
    pair.assert_unmoved("during a poll sequence of the peer's");
}

#[test]
fn nothing_is_lost_on_the_way() {
    let (now, mut session, packet) = up();
    let packet = Packet {
        diagnostic: Diagnostic::NEIGHBOUR_DOWN,
        control_plane_independent: true,
        demand: true,
        desired_min_tx: 1,
        required_min_rx: 2,
        ..packet
    };
    assert!(session.transmit(now).is_some());
    session.receive(now, &packet, &[]).unwrap();
    // Slower, and faster to be listened to: neither holds before it is confirmed; and then something else again.
    for config in [config(200, 50, 3), config(300, 20, 3)] {
        session.reconfigure(now + MS(1), config);
    }
    session.receive(now + MS(2), &Packet { poll: true, ..packet }, &[]).unwrap();
    let now = now + MS(5);
    let handed = session.hand_over(now);
    assert!(handed.polling && handed.poll_again && handed.answer_poll && handed.news && handed.remote_demand);
    assert_eq!((handed.desired_min_tx, handed.desired_min_tx_in_use), (300_000, 100_000));
    assert_eq!((handed.required_min_rx, handed.required_min_rx_in_use), (20_000, 100_000));
    assert_eq!((handed.last_received, handed.last_sent), (Some(MS(3)), Some(MS(5))));
    let heir = Session::take_over(now, config(300, 20, 3), None, &handed, Lapse::default(), 1).unwrap();
    assert_eq!(HandedSession { forget_sequence: None, ..heir.hand_over(now) }, handed);
    assert_eq!(heir.transmit_at(), Some(now), "what is new is told at once");
}

#[test]
fn a_poll_that_was_received_is_answered_by_the_one_who_takes_over() {
    let (now, mut session, packet) = up();
    session.receive(now, &Packet { poll: true, ..packet }, &[]).unwrap();
    let handed = session.hand_over(now);
    let lapse = Lapse { gap: MS(10), grace: PAUSE };
    let mut heir = Session::take_over(now + MS(10), config(100, 100, 3), None, &handed, lapse, 1).unwrap();
    let answer = heir.transmit(now + MS(10)).expect("nobody answers");
    assert!(Packet::parse(&answer).unwrap().0.r#final);
}

#[test]
fn sequence_numbers_go_on_also_where_more_packets_were_lost_than_the_window_holds() {
    let fast = config(50, 50, 3);
    for kind in KINDS {
        // 3 * Detect Mult packets are sent within 450 ms, and 16 at least within 800.
        for gap in [0, 100, 300, 450, 800, 950] {
            let mut pair = Pair::settled(fast, fast, Some(kind), 4);
            pair.widen(0);
            pair.run(MS(20));
            pair.hand_over(0, fast, MS(gap));
            pair.run(Duration::from_secs(5));
            pair.assert_unmoved(&format!("{kind:?}, {gap} ms"));
        }
    }
}

#[test]
fn what_was_said_before_the_hand_over_is_not_believed_again_after_it() {
    let start = Instant::now();
    let kind = AuthKind::MeticulousKeyedSha1;
    let (mut us, mut peer) = (authenticated(start, kind, 1, 11), authenticated(start, kind, 100, 22));
    let replayed = peer.transmit(start).unwrap();
    let (packet, covered) = Packet::parse(&replayed).unwrap();
    us.receive(start, &packet, covered).unwrap();
    let lapse = Lapse { gap: MS(100), grace: PAUSE };
    let take = |at, handed: &HandedSession| {
        let auth = Auth::new(secret(kind, &[1]), 0);
        Session::take_over(at, config(50, 50, 5), Some(auth), handed, lapse, 1).unwrap()
    };
    let mut heir = take(start + MS(100), &us.hand_over(start));
    assert_eq!(heir.receive(start + MS(100), &packet, covered), Err(Discard::AuthSequence));
    // The peer sends once a second, five times missed is failure: believed after twice that, in whichever process.
    let mut heir = take(start + MS(200), &heir.hand_over(start + MS(100)));
    assert_eq!(heir.hand_over(start + MS(200)).forget_sequence, Some(MS(9800)));
    assert_eq!(heir.receive(start + MS(9999), &packet, covered), Err(Discard::AuthSequence));
    assert_eq!(heir.receive(start + MS(10_000), &packet, covered), Ok(()));
}

#[test]
fn a_peer_in_demand_mode_is_polled_and_then_spared_again() {
    let (now, mut session, packet) = up();
    let demand = Packet { demand: true, ..packet };
    session.receive(now, &demand, &[]).unwrap();
    session.reconfigure(now, config(1000, 100, 3));
    let poll = session.transmit(now).unwrap();
    assert!(Packet::parse(&poll).unwrap().0.poll);
    session.receive(now + MS(1), &Packet { r#final: true, ..demand }, &[]).unwrap();
    assert_eq!(session.interval(), None);
    let handed = session.hand_over(now + MS(2));
    let then = now + MS(202);
    let lapse = Lapse { gap: MS(200), grace: PAUSE };
    let mut heir = Session::take_over(then, config(100, 100, 3), None, &handed, lapse, 1).unwrap();
    let poll = Packet::parse(&heir.transmit(then).expect("it does not hear of our interval")).unwrap().0;
    assert!(poll.poll && poll.desired_min_tx == 100_000 && poll.my_discriminator == 11);
    heir.receive(then + MS(1), &Packet { r#final: true, ..demand }, &[]).unwrap();
    assert_eq!(heir.interval(), None, "it has asked for silence");
    // With nothing to be told it is not disturbed at all.
    let handed = heir.hand_over(then + MS(2));
    let heir = Session::take_over(then + MS(3), config(100, 100, 3), None, &handed, lapse, 1).unwrap();
    assert_eq!(heir.transmit_at(), None);
}

#[test]
fn a_peer_that_dies_during_a_hand_over_is_noticed_all_the_same() {
    let fast = config(50, 50, 3);
    for gap in [0, 100, 900] {
        let mut pair = Pair::settled(fast, fast, None, 6);
        pair.widen(0);
        pair.run(MS(20));
        pair.loss = [100, 0];
        pair.run(MS(1));
        pair.hand_over(0, fast, MS(gap));
        let taken = pair.now - pair.start;
        pair.run(Duration::from_secs(1));
        let (at, state, why) = pair.ends[0].seen.first().copied().expect("it is not noticed");
        assert_eq!((state, why), (State::Down, Diagnostic::DETECTION_TIME_EXPIRED));
        assert!(at - taken <= MS(150), "{gap} ms: {:?}", at - taken);
    }
    // Who was away for longer than the peer was told of has no excuse.
    let mut pair = Pair::settled(fast, fast, None, 6);
    pair.hand_over(0, fast, PAUSE + MS(200));
    pair.run(MS(0));
    assert_eq!(pair.ends[0].session.state(), State::Down);
}

#[test]
fn a_session_is_not_taken_over_with_another_kind_of_authentication() {
    let now = Instant::now();
    let handed = HandedSession::settled(State::Up, &config(50, 50, 3), 11, 22);
    let take = |auth, handed: &HandedSession| {
        Session::take_over(now, config(50, 50, 3), auth, handed, Lapse::default(), 1).is_some()
    };
    let auth = |kind| Auth::new(secret(kind, &[1]), 7);
    let keyed = HandedSession { auth: Some(auth(AuthKind::KeyedSha1).hand_over()), ..handed.clone() };
    assert!(take(None, &handed) && take(Some(auth(AuthKind::KeyedSha1)), &keyed));
    assert!(!take(Some(auth(AuthKind::KeyedSha1)), &handed) && !take(None, &keyed));
    assert!(!take(Some(auth(AuthKind::MeticulousKeyedSha1)), &keyed));
    assert!(!take(None, &HandedSession { local_discriminator: 0, ..handed }), "RFC 5880 §6.8.1: nonzero");
}

/// What one hand-over is like: at which end, so long after the last, with or without patience asked for how long before, and
/// which part of the time the peer waits the gap takes.
type Step = (usize, u64, Option<u64>, u32);

/// Intervals and multiplier.
fn any_config() -> impl Strategy<Value = SessionConfig> {
    (prop::sample::select(vec![20, 50, 100, 300, 700]), prop::sample::select(vec![10, 50, 300]), 1_u8..6)
        .prop_map(|(tx, rx, mult)| config(tx, rx, mult))
}

fn any_step() -> impl Strategy<Value = Step> {
    (0_usize..2, 0_u64..2_000_000, prop::option::of(0_u64..50_000), 0_u32..=1000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whenever one end is handed over: if the other hears of it again within its Detection Time, neither goes down.
    #[test]
    fn a_hand_over_at_any_moment_takes_neither_end_down(
        configs in (any_config(), any_config()),
        kind in prop::option::of(prop::sample::select(KINDS.to_vec())),
        steps in prop::collection::vec(any_step(), 1..6),
        seed: u32,
    ) {
        let configs = [configs.0, configs.1];
        let mut pair = Pair::settled(configs[0], configs[1], kind, seed.into());
        // A packet that is overtaken by the poll which widens the interval takes that back, hand-over or not.
        pair.ordered = true;
        for (side, after, widened, part) in steps {
            pair.run(Duration::from_micros(after));
            if let Some(before) = widened {
                pair.widen(side);
                pair.run(Duration::from_micros(before));
            }
            let (us, peer) = (&pair.ends[side].session, &pair.ends[1 - side].session);
            // It may know only of one of our intervals, the last one said or the one before.
            let said = us.desired_min_tx.max(peer.required_min_rx) * u32::from(us.config.detect_multiplier);
            let ago = |at: Option<Instant>| pair.now.saturating_duration_since(at.unwrap());
            let (silent, heard) = (ago(us.last_sent), ago(us.last_received));
            // As much again is under way before the first packet of the new one arrives.
            let patience = peer.detection_time().min(said).saturating_sub(silent + pair.delay + MS(1));
            pair.hand_over(side, configs[side], (patience * part / 1000).min(PAUSE.saturating_sub(heard)));
        }
        pair.run(Duration::from_secs(10));
        pair.assert_unmoved("after all");
    }

    /// Nor does it keep two ends from coming up.
    #[test]
    fn ends_that_are_handed_over_while_they_come_up_come_up(
        configs in (any_config(), any_config()),
        steps in prop::collection::vec(any_step(), 1..6),
        seed: u32,
    ) {
        let configs = [configs.0, configs.1];
        let mut pair = Pair::new(configs[0], configs[1], seed.into());
        for (side, after, _, part) in steps {
            pair.run(Duration::from_micros(after));
            pair.hand_over(side, configs[side], PAUSE * part / 1000);
        }
        pair.run(Duration::from_secs(20));
        prop_assert_eq!(pair.states(), [State::Up, State::Up]);
    }
}
