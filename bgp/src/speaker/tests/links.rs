//! Links and addresses that go, and what becomes of the sessions.

use super::*;
use crate::wire::NextHop;

const MOMENT: Duration = Duration::from_millis(1);
const NEARLY_A_SECOND: Duration = Duration::from_millis(999);
const SECOND: Duration = Duration::from_secs(1);

/// The interface of the session, `eth1`, and another one.
const ETH1: u32 = 7;
const BR_EX: u32 = 8;

fn address(link: u32, text: &str) -> Address {
    let address: IpAddr = text.parse().unwrap();
    let prefix_len = if address.is_ipv4() { 24 } else { 64 };
    Address { link, address, prefix_len, tentative: false, passing: false }
}

/// Both links, and these addresses on `eth1`.
fn host(running: bool, addresses: &[&str]) -> Links {
    let link = |name: &str, running| Link { name: name.into(), running };
    Links {
        links: [(ETH1, link("eth1", running)), (BR_EX, link("br-ex", true))].into(),
        addresses: addresses.iter().map(|text| address(ETH1, text)).collect(),
    }
}

fn unnumbered() -> PeerConfig {
    PeerConfig::new(PeerAddress::Interface("eth1".into()), RemoteAs::External)
}

impl Play {
    /// The session of a peer on `eth1`, with what the host has when it comes up.
    fn on_eth1(config: PeerConfig, local: &str, host: &Links) -> Self {
        Self::on_eth1_with(config, local, host, [])
    }

    fn on_eth1_with(config: PeerConfig, local: &str, host: &Links, more: impl IntoIterator<Item = Capability>) -> Self {
        let of = |local: &str| if local.contains('.') { format!("{local}:179") } else { format!("[{local}]:179") };
        let remote = match local.split_once("::") {
            Some((network, _)) => format!("{network}::2"),
            None => "10.0.0.2".into(),
        };
        let ends = host.ends(of(local).parse().unwrap(), of(&remote).parse().unwrap(), &config);
        let mut play = Self::new(config);
        play.establish_between(ends, more);
        play.announce([1]);
        assert_eq!(play.speaker.links_in_use(), [ETH1].into());
        play
    }

    fn look(&mut self, links: &Links) {
        self.speaker.handle(self.now, Input::Links(links.clone()));
        self.settle();
    }

    /// Looks as long as there is something to look for; the host has this all the time.
    fn look_for_long(&mut self, links: &Links) {
        self.look(links);
        while let Some(at) = self.speaker.look_again_at() {
            self.now = at;
            self.look(links);
        }
    }

    /// The next hops of what was announced since the last time, and how many prefixes were withdrawn.
    fn told(&mut self) -> (Vec<NextHop>, usize) {
        let mut told = (Vec::new(), 0);
        for message in std::mem::take(&mut self.written) {
            if let Message::Update(update) = message {
                told.0.extend(update.next_hop.map(NextHop::V4));
                told.0.extend(update.mp_reach.map(|reach| reach.next_hop));
                told.1 += update.withdrawn.len() + update.mp_unreach.map_or(0, |(_, prefixes)| prefixes.len());
            }
        }
        told
    }
}

#[test]
fn a_session_ends_with_the_link_it_needs() {
    let bound = || PeerConfig { bind_interface: Some("eth1".into()), remote_as: RemoteAs::Auto, ..peer_config() };
    let perhaps_internal = PeerConfig { remote_as: RemoteAs::Auto, ..peer_config() };
    let (v4, v6) = ("10.0.0.1", "fe80::1");
    let deleted = Links { links: [].into(), addresses: vec![] };
    let rows: Vec<(&str, PeerConfig, &str, Links, Option<&str>)> = vec![
        ("all well", unnumbered(), v6, host(true, &[v6]), None),
        ("no carrier", unnumbered(), v6, host(false, &[v6]), Some("eth1 is down or has no carrier")),
        ("interface deleted", unnumbered(), v6, deleted.clone(), Some("eth1 is gone")),
        ("numbered, external", peer_config(), v4, host(false, &[v4]), Some("no carrier")),
        ("numbered, external, all well", peer_config(), v4, host(true, &[v4]), None),
        ("more than a hop away", PeerConfig { multihop: Some(2), ..peer_config() }, v4, host(false, &[v4]), None),
        ("bound to the interface", bound(), v4, host(false, &[v4]), Some("no carrier")),
        ("bound to an interface that is gone", bound(), v4, deleted, Some("eth1 is gone")),
        // Packets may find another way to an internal neighbour.
        ("numbered, perhaps internal", perhaps_internal, v4, host(false, &[v4]), None),
    ];
    for (what, config, local, links, reason) in rows {
        let mut play = Play::on_eth1(config, local, &host(true, &[local]));
        play.look(&links);
        assert_eq!(play.state() == "Established", reason.is_none(), "{what}");
        let Some(reason) = reason else { continue };
        assert_eq!(play.speaker.learned(), [], "{what}: its routes are gone");
        let down = play.events.iter().rev().find(|e| matches!(e, Event::Down { .. })).unwrap().to_string();
        assert!(down.contains(reason), "{what}: {down}");
        assert_eq!(play.farewell(), None, "{what}: words only leave by a link that works");
    }
}

#[test]
fn a_session_ends_when_its_address_has_been_gone_for_a_second() {
    let multihop = PeerConfig { multihop: Some(3), ..peer_config() };
    let internal = PeerConfig { remote_as: RemoteAs::Auto, ..peer_config() };
    let v6 = PeerConfig::new(PeerAddress::Numbered("2001:db8::2".parse().unwrap()), RemoteAs::External);
    let rows = [
        ("IPv4", peer_config(), "10.0.0.1", "10.0.0.9"),
        ("more than a hop away", multihop, "10.0.0.1", "10.0.0.9"),
        ("internal", internal, "10.0.0.1", "10.0.0.9"),
        ("IPv6", v6, "2001:db8::1", "2001:db8::9"),
        ("link-local", unnumbered(), "fe80::1", "fe80::9"),
    ];
    for (what, config, old, new) in rows {
        for (n_bit, said) in [(false, (6, 6, vec![])), (true, (6, 9, vec![6, 6]))] {
            let restart = Capability::GracefulRestart {
                restarted: false,
                notification: true,
                restart_time: 100,
                families: vec![],
            };
            let mut play = Play::on_eth1_with(config.clone(), old, &host(true, &[old]), n_bit.then_some(restart));
            play.look(&host(true, &[new]));
            let since = play.now;
            assert_eq!(play.speaker.look_again_at(), Some(since + SECOND), "{what}");
            play.now = since + NEARLY_A_SECOND;
            play.look(&host(true, &[new]));
            assert_eq!(play.state(), "Established", "{what}: it may be back in a moment");
            play.now += MOMENT;
            play.look(&host(true, &[new]));
            assert_ne!(play.state(), "Established", "{what}");
            let told = play.farewell().map(|n| (n.code, n.subcode, n.data.to_vec()));
            assert_eq!(told, Some(said), "{what}: the routes are to go, graceful restart or not");
            assert_eq!(play.speaker.learned(), [], "{what}");
            assert!(play.from_lost_address, "{what}: the driver knows how to say it");
            let down = play.events.iter().rev().find(|e| matches!(e, Event::Down { .. })).unwrap().to_string();
            assert!(down.contains(&format!("our address {old} is gone")), "{what}: {down}");
            assert_eq!(play.speaker.look_again_at(), None);
        }
    }
}

#[test]
fn after_its_address_was_gone_a_session_is_tried_as_soon_as_there_is_another() {
    let mut play = Play::on_eth1(peer_config(), "10.0.0.1", &host(true, &["10.0.0.1"]));
    play.dials.clear();
    play.speaker.handle(play.now, Input::NewAddress);
    play.settle();
    assert_eq!(play.dials, [], "the session is up");
    play.look_for_long(&host(true, &[]));
    assert_ne!(play.state(), "Established");
    play.now = play.speaker.next_deadline().unwrap();
    play.speaker.handle_timeout(play.now);
    play.settle();
    let (conn, _) = play.dials.pop().expect("the usual wait after a failure is over");
    play.speaker.handle(play.now, Input::Lost { conn, why: "network is unreachable".into() });
    play.settle();
    assert_eq!((play.state(), &play.dials[..]), ("Active", &[][..]));
    play.now += MOMENT;
    play.speaker.handle(play.now, Input::NewAddress);
    play.settle();
    assert_eq!(play.dials.len(), 1, "ten seconds, the connect-retry time, are not waited for");
    play.speaker.handle(play.now, Input::NewAddress);
    play.settle();
    assert_eq!(play.dials.len(), 1, "one attempt at a time");
}

#[test]
fn an_address_that_is_away_for_a_moment_disturbs_nothing_and_nothing_is_written_meanwhile() {
    let mut play = Play::on_eth1(peer_config(), "10.0.0.1", &host(true, &["10.0.0.1"]));
    play.told();
    for _ in 0..5 {
        play.look(&host(true, &[]));
        play.speaker.set_routes(routes([1]));
        play.settle();
        play.now += NEARLY_A_SECOND;
        assert_eq!(play.told(), (vec![], 0), "what gets out without an answer stands in the way of last words");
        // Still in duplicate address detection, perhaps: it is ours again.
        let mut back = host(true, &["10.0.0.1"]);
        back.addresses[0].tentative = true;
        play.look(&back);
        assert_eq!(play.speaker.look_again_at(), None);
        assert_eq!(play.told().0, [NextHop::V4([10, 0, 0, 1].into())]);
        play.speaker.set_routes(routes([]));
        play.settle();
        play.told();
        play.now += SECOND;
    }
    assert_eq!(play.state(), "Established");
    assert_eq!(play.speaker.learned().len(), 1);
}

#[test]
fn an_address_that_moved_to_another_interface_is_not_gone() {
    let mut play = Play::on_eth1(peer_config(), "10.0.0.1", &host(true, &["10.0.0.1"]));
    let mut moved = host(false, &[]);
    moved.addresses = vec![address(BR_EX, "10.0.0.1")];
    // In whatever order it is seen: with eth1 without carrier from now on, that is not the session's link any more.
    play.look_for_long(&moved);
    assert_eq!(play.state(), "Established");
    assert_eq!(play.speaker.links_in_use(), [BR_EX].into());
    // A link-local address is another one there.
    let mut play = Play::on_eth1(unnumbered(), "fe80::1", &host(true, &["fe80::1"]));
    let mut moved = host(true, &[]);
    moved.addresses = vec![address(BR_EX, "fe80::1")];
    play.look_for_long(&moved);
    assert_ne!(play.state(), "Established");
}

#[test]
fn an_address_that_never_was_on_an_interface_is_not_missed() {
    let mut play = Play::new(peer_config());
    play.establish();
    play.look_for_long(&host(true, &[]));
    assert_eq!(play.state(), "Established", "such as 127.0.0.2, or one of a local route");
}

#[test]
fn a_next_hop_that_changes_is_told_without_a_reset() {
    let (a, b) = ("2001:db8::1".parse().unwrap(), "2001:db8::9".parse().unwrap());
    let (own, other) = ("fe80::1".parse().unwrap(), "fe80::9".parse().unwrap());
    let (pair, v6) = (NextHop::V6Pair, NextHop::V6);
    let numbered_v6 = PeerConfig::new(PeerAddress::Numbered("2001:db8::2".parse().unwrap()), RemoteAs::External);
    // Of each session: our address, what there is first and what is told, what there is then and what is told.
    let rows = [
        (
            "another global one beside a link-local session",
            unnumbered(),
            "fe80::1",
            "2001:db8::1 fe80::1",
            pair(a, own),
            "2001:db8::9 fe80::1",
            pair(b, own),
        ),
        ("a first global one", unnumbered(), "fe80::1", "fe80::1", pair(own, own), "fe80::1 2001:db8::9", pair(b, own)),
        ("the last one went", unnumbered(), "fe80::1", "fe80::1 2001:db8::1", pair(a, own), "fe80::1", pair(own, own)),
        (
            "another one over an IPv4 session",
            peer_config(),
            "10.0.0.1",
            "10.0.0.1 2001:db8::1",
            v6(a),
            "10.0.0.1 2001:db8::9",
            v6(b),
        ),
        (
            "another link-local one",
            numbered_v6,
            "2001:db8::1",
            "2001:db8::1 fe80::1",
            pair(a, own),
            "2001:db8::1 fe80::9",
            pair(a, other),
        ),
    ];
    for (what, config, local, first, told_first, then, told_then) in rows {
        let host = |text: &str| host(true, &text.split(' ').collect::<Vec<_>>());
        let mut play = Play::on_eth1(config, local, &host(first));
        let route = ("2001:db8:f::1/128".parse().unwrap(), Arc::new(Origination::default()));
        play.speaker.set_routes(Arc::new([route].into_iter().collect()));
        play.settle();
        assert_eq!(play.told(), (vec![told_first], 0), "{what}");
        play.look(&host(first));
        assert_eq!(play.told(), (vec![], 0), "{what}: nothing has changed");
        play.look_for_long(&host(then));
        assert_eq!(play.told(), (vec![told_then], 0), "{what}");
        // And both together, in either order: who was told stays told.
        let both = format!("{then} {first}");
        play.look_for_long(&host(&both));
        assert_eq!(play.told().1, 0, "{what}");
        assert_eq!(play.state(), "Established", "{what}");
    }
}

#[test]
fn a_next_hop_that_is_away_for_a_moment_is_not_withdrawn() {
    let before = host(true, &["10.0.0.1", "2001:db8::1"]);
    let mut play = Play::on_eth1(peer_config(), "10.0.0.1", &before);
    let route = ("2001:db8:f::1/128".parse().unwrap(), Arc::new(Origination::default()));
    play.speaker.set_routes(Arc::new([route].into_iter().collect()));
    play.settle();
    play.told();
    play.look(&host(true, &["10.0.0.1"]));
    play.now += NEARLY_A_SECOND;
    play.look(&before);
    assert_eq!((play.told(), play.speaker.look_again_at()), ((vec![], 0), None));
    // Another one that is still in duplicate address detection may not be ours yet; the old one is told until that is decided.
    let mut tentative = host(true, &["10.0.0.1", "2001:db8::9"]);
    tentative.addresses[1].tentative = true;
    play.look_for_long(&tentative);
    play.now += 2 * SECOND;
    play.look(&tentative);
    assert_eq!(play.told(), (vec![], 0));
    play.look_for_long(&host(true, &["10.0.0.1", "2001:db8::9"]));
    assert_eq!(play.told(), (vec![NextHop::V6("2001:db8::9".parse().unwrap())], 0));
    play.look_for_long(&host(true, &["10.0.0.1"]));
    assert_eq!(play.told(), (vec![], 1), "towards nobody: there is no address left to name");
    play.look(&host(true, &["10.0.0.1", "2001:db8::1"]));
    assert_eq!(play.told(), (vec![NextHop::V6("2001:db8::1".parse().unwrap())], 0), "at once");
}

#[test]
fn an_address_that_does_not_last_is_not_chosen_where_there_is_another() {
    let mut links = host(true, &["10.0.0.1", "2001:db8::7", "2001:db8::8"]);
    links.addresses[1].passing = true;
    let ends = |links: &Links| {
        links.ends("10.0.0.1:179".parse().unwrap(), "10.0.0.2:179".parse().unwrap(), &peer_config()).global
    };
    assert_eq!(ends(&links), "2001:db8::8".parse().ok());
    links.addresses.pop();
    assert_eq!(ends(&links), "2001:db8::7".parse().ok());
    links.addresses[1].tentative = true;
    assert_eq!(ends(&links), None);
}

#[test]
fn after_a_flap_whoever_is_there_now_is_dialled() {
    let mut play = Play::new(unnumbered());
    let discovered = |play: &mut Play, address: Option<&str>| {
        let address = address.map(|a| a.parse().unwrap());
        play.speaker.handle(play.now, Input::Discovered { interface: "eth1".into(), address });
        play.settle();
    };
    discovered(&mut play, Some("fe80::2"));
    let ends = Ends::new("[fe80::1]:179".parse().unwrap(), "[fe80::2]:40000".parse().unwrap());
    play.establish_between(Ends { home: Some(ETH1), link: Some(ETH1), ..ends }, []);
    play.dials.clear();
    // Discovery may notice first, or the session.
    discovered(&mut play, None);
    assert_eq!(play.speaker.neighbors(play.now)[0].neighbor, "fe80::2%eth1", "the session is still up");
    play.speaker.handle(play.now, Input::Links(host(false, &["fe80::1"])));
    play.settle();
    assert_eq!(play.speaker.neighbors(play.now)[0].neighbor, "eth1");
    for _ in 0..3 {
        play.now = play.speaker.next_deadline().unwrap();
        play.speaker.handle_timeout(play.now);
        play.settle();
    }
    assert_eq!(play.dials, [], "nobody is there");
    discovered(&mut play, Some("fe80::3"));
    let dialled: Vec<_> = play.dials.iter().map(|(_, to)| to.to_string()).collect();
    assert_eq!(dialled, ["fe80::3"], "at once");
}
