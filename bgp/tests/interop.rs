//! Our speaker against FRR and BIRD, each in a network namespace of its own. Needs root and the daemons; without them it says so
//! and does nothing.

#![cfg(feature = "driver")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bgp::driver::{Config, Handle, spawn};
use bgp::rib::{Origination, RouteSet};
use bgp::speaker::{
    Event, GracefulRestart, Learned, PeerAddress, PeerConfig, RemoteAs, Secret, Shutdown, SpeakerConfig,
};
use bgp::types::Prefix;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(40);
const OUR_AS: u32 = 64999;

/// What runs a test's daemons, and takes all of it away however the test ends.
struct Lab {
    name: String,
    directory: PathBuf,
    children: Vec<Child>,
    runtime: Runtime,
}

fn run(command: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Lab {
    /// Two namespaces with one link: we are 10.99.0.1 and fd00:99::1, they 10.99.0.2 and fd00:99::2.
    fn new(name: &str, programs: &[&str]) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root for network namespaces");
            return None;
        }
        if let Some(missing) = programs.iter().find(|program| !Path::new(program).exists()) {
            eprintln!("skipped: {missing} is not installed");
            return None;
        }
        let name = format!("bgpi-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lab = Self { name, directory, children: Vec::new(), runtime };
        let name = &lab.name;
        run(&format!(
            "ip netns add {name}-us && ip netns add {name}-them &&
             ip link add us0 netns {name}-us type veth peer name them0 netns {name}-them"
        ));
        for (side, host) in [("us", 1), ("them", 2)] {
            run(&format!(
                "ip -n {name}-{side} link set lo up && ip -n {name}-{side} addr add 10.99.0.{host}/24 dev {side}0 &&
                 ip -n {name}-{side} addr add fd00:99::{host}/64 dev {side}0 nodad && ip -n {name}-{side} link set {side}0 up"
            ));
        }
        Some(lab)
    }

    /// Starts a program next to the other end of the link.
    fn start(&mut self, program: &str, arguments: &str) {
        let log = fs::File::create(self.directory.join("daemon.log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &format!("{}-them", self.name), program])
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.children.push(child);
    }

    fn start_frr(&mut self, config: &str) {
        let directory = self.directory.display().to_string();
        // The daemons drop their privileges, and have to write here.
        run(&format!("chown frr:frr {directory}"));
        let file = self.directory.join("frr.conf");
        fs::write(&file, config).unwrap();
        for daemon in ["zebra", "bgpd"] {
            let arguments = format!(
                "-f {} -i {directory}/{daemon}.pid -z {directory}/zserv.api --vty_socket {directory} -u frr -g frr \
                 --log file:{directory}/{daemon}.log",
                file.display()
            );
            self.start(&format!("/usr/lib/frr/{daemon}"), &arguments);
            let socket = self.directory.join(format!("{daemon}.vty"));
            self.wait(format!("{daemon} did not start"), || socket.exists());
        }
    }

    fn vtysh(&self, commands: &[&str]) -> String {
        let commands: Vec<_> = commands.iter().map(|c| format!("-c '{c}'")).collect();
        run(&format!("vtysh --vty_socket {} {}", self.directory.display(), commands.join(" ")))
    }

    fn birdc(&self, command: &str) -> String {
        run(&format!("birdc -s {}/bird.ctl {command}", self.directory.display()))
    }

    fn start_bird(&mut self, config: &str) {
        let directory = self.directory.display().to_string();
        let file = self.directory.join("bird.conf");
        fs::write(&file, config).unwrap();
        self.start(
            "/usr/sbin/bird",
            &format!("-f -c {} -s {directory}/bird.ctl -P {directory}/bird.pid", file.display()),
        );
        let socket = self.directory.join("bird.ctl");
        self.wait("bird did not start", || socket.exists());
    }

    fn wait(&self, what: impl std::fmt::Display, mut reached: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !reached() {
            if Instant::now() > end {
                for log in ["daemon.log", "zebra.log", "bgpd.log"] {
                    eprintln!("--- {log}\n{}", fs::read_to_string(self.directory.join(log)).unwrap_or_default());
                }
                panic!("{what}");
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Our speaker, on its side of the link.
    fn speaker(&self, peer: PeerConfig, graceful_restart: GracefulRestart) -> Handle {
        let speaker = SpeakerConfig {
            graceful_restart: Some(graceful_restart),
            ..SpeakerConfig::new(OUR_AS, [10, 99, 0, 1].into())
        };
        let config = Config { peers: vec![peer], ..Config::new(speaker) };
        let here = fs::File::open("/proc/thread-self/ns/net").unwrap();
        let there = fs::File::open(format!("/run/netns/{}-us", self.name)).unwrap();
        // Threads inherit the namespace of the one that starts them.
        nix::sched::setns(there, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let (handle, _thread) = spawn(config).unwrap();
        nix::sched::setns(here, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        handle
    }

    fn wait_learned(&self, speaker: &Handle, wanted: &[&str]) {
        let wanted: Vec<Prefix> = wanted.iter().map(|p| p.parse().unwrap()).collect();
        let learned = speaker.watch_learned();
        let what = std::fmt::from_fn(|f| {
            let neighbors = self.runtime.block_on(speaker.neighbors());
            let listeners = self.runtime.block_on(speaker.listeners());
            let drops = run(&format!("ip netns exec {}-us nstat -asz 'TcpExt*MD5*'", self.name));
            write!(f, "we did not learn {wanted:?} but {:?}\n{neighbors:#?}\n{listeners:#?}\n{drops}", learned.borrow())
        });
        self.wait(what, || learned.borrow().iter().map(|(prefix, _)| *prefix).eq(wanted.iter().copied()));
    }

    /// What was learned, without what was refused: routers tell us our own routes, too.
    fn in_use(&self, speaker: &Handle) -> Vec<Learned> {
        let learned = self.runtime.block_on(speaker.learned()).unwrap();
        learned.into_iter().filter(|learned| learned.selected).collect()
    }

    fn wait_told(&self, what: &str, show: impl Fn() -> String, wanted: &[&str], unwanted: &[&str]) {
        let problem = std::fmt::from_fn(|f| write!(f, "{what}: wanted {wanted:?}, not {unwanted:?}, in\n{}", show()));
        self.wait(problem, || {
            let shown = show();
            wanted.iter().all(|w| shown.contains(w)) && !unwanted.iter().any(|u| shown.contains(u))
        });
    }

    fn wait_acknowledged(&self, speaker: &Handle) {
        self.wait("not everything was acknowledged", || {
            let routes = self.runtime.block_on(speaker.routes()).unwrap();
            routes.iter().flat_map(|r| &r.neighbors).all(|n| n.advertised && n.acknowledged)
        });
    }

    fn stop(&self, speaker: &Handle, how: Shutdown) {
        self.runtime.block_on(speaker.shutdown(how)).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        for side in ["us", "them"] {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}-{side}", self.name)]).status();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn routes(prefixes: &[&str]) -> Arc<RouteSet> {
    let origination = Arc::new(Origination { communities: vec![(64999 << 16) + 1], ..Origination::default() });
    Arc::new(prefixes.iter().map(|p| (p.parse().unwrap(), Arc::clone(&origination))).collect())
}

fn peer(address: &str, remote_as: RemoteAs) -> PeerConfig {
    PeerConfig {
        hold_time: Duration::from_secs(9),
        connect_retry: Duration::from_secs(1),
        password: Some(Secret::new("foobar")),
        ..PeerConfig::new(PeerAddress::Numbered(address.parse::<IpAddr>().unwrap()), remote_as)
    }
}

const FRR: [&str; 3] = ["/usr/lib/frr/bgpd", "/usr/lib/frr/zebra", "/usr/bin/vtysh"];

const FRR_CONFIG: &str = "
router bgp 65001
 bgp router-id 10.99.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.99.0.1 remote-as 64999
 neighbor 10.99.0.1 password foobar
 neighbor 10.99.0.1 timers connect 2
 address-family ipv4 unicast
  network 198.51.100.0/24
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:100::/48
  neighbor 10.99.0.1 activate
 exit-address-family
";

#[test]
fn external_session_with_frr() {
    let Some(mut lab) = Lab::new("frr", &FRR) else { return };
    lab.start_frr(FRR_CONFIG);
    let speaker = lab.speaker(peer("10.99.0.2", RemoteAs::External), GracefulRestart::default());
    let mut events = speaker.events();
    speaker.set_routes(routes(&["192.0.2.1/32", "2001:db8::1/128"]));
    lab.wait_learned(&speaker, &["198.51.100.0/24", "2001:db8:100::/48"]);
    let learned = lab.in_use(&speaker);
    assert_eq!(learned[0].as_path, "65001");
    assert_eq!((&learned[0].next_hops[0], &learned[1].next_hops[0]), (&"10.99.0.2".into(), &"fd00:99::2".into()));
    let ipv4 = || lab.vtysh(&["show bgp ipv4 unicast neighbors 10.99.0.1 routes"]);
    let ipv6 = || lab.vtysh(&["show bgp ipv6 unicast neighbors 10.99.0.1 routes"]);
    lab.wait_told("FRR, IPv4", ipv4, &["*> 192.0.2.1/32", "10.99.0.1", "64999 i"], &[]);
    lab.wait_told("FRR, IPv6", ipv6, &["*> 2001:db8::1/128", "fd00:99::1"], &[]);
    assert!(lab.vtysh(&["show bgp ipv4 unicast 192.0.2.1/32"]).contains("Community: 64999:1"));
    lab.wait_acknowledged(&speaker);

    speaker.set_routes(routes(&["192.0.2.2/32"]));
    lab.wait_told("FRR after the change", ipv4, &["192.0.2.2/32"], &["192.0.2.1/32"]);
    lab.wait_told("FRR after the change", ipv6, &[], &["2001:db8::1/128"]);
    lab.vtysh(&["conf t", "router bgp 65001", "address-family ipv6 unicast", "no network 2001:db8:100::/48"]);
    lab.wait_learned(&speaker, &["198.51.100.0/24"]);
    // A refresh: FRR asks for everything once more and has it all.
    lab.vtysh(&["clear bgp ipv4 unicast 10.99.0.1 soft in"]);
    lab.wait_told("FRR after a refresh", ipv4, &["192.0.2.2/32"], &[]);

    // With graceful restart agreed a Cease alone would leave our routes in place (RFC 8538).
    lab.stop(&speaker, Shutdown::Stop("maintenance of the rack".into()));
    let neighbor = || lab.vtysh(&["show bgp neighbors 10.99.0.1"]);
    lab.wait_told(
        "FRR was told why",
        neighbor,
        &["Cease/Administrative Shutdown/Hard Reset"],
        &["state = Established"],
    );
    lab.wait_told("FRR forgot", ipv4, &[], &["192.0.2.2/32"]);
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(event);
    }
    assert!(!seen.iter().any(|e| matches!(e, Event::Malformed { .. } | Event::Faults { .. })), "{seen:#?}");
}

#[test]
fn frr_keeps_our_routes_while_we_restart() {
    let Some(mut lab) = Lab::new("gr", &FRR) else { return };
    lab.start_frr(FRR_CONFIG);
    let first = lab.speaker(peer("10.99.0.2", RemoteAs::Number(65001)), GracefulRestart::default());
    first.set_routes(routes(&["192.0.2.1/32", "192.0.2.2/32"]));
    let ipv4 = || lab.vtysh(&["show bgp ipv4 unicast"]);
    lab.wait_told("FRR", ipv4, &["*> 192.0.2.1/32", "*> 192.0.2.2/32"], &[]);
    lab.stop(&first, Shutdown::Restart("upgrade".into()));
    let neighbor = || lab.vtysh(&["show bgp neighbors 10.99.0.1"]);
    lab.wait_told("the session is gone", neighbor, &[], &["state = Established"]);
    let shown = ipv4();
    assert!(shown.contains("192.0.2.1/32") && shown.contains("192.0.2.2/32"), "the routes are gone:\n{shown}");
    assert!(shown.contains('S'), "they are not stale:\n{shown}");
    // The new process is back, with one route less.
    let restarted = GracefulRestart { restarted: true, ..GracefulRestart::default() };
    let second = lab.speaker(peer("10.99.0.2", RemoteAs::Number(65001)), restarted);
    second.set_routes(routes(&["192.0.2.1/32"]));
    lab.wait_told("FRR after the restart", ipv4, &["*> 192.0.2.1/32"], &["192.0.2.2/32"]);
    lab.stop(&second, Shutdown::Stop(String::new()));
}

/// What an unnumbered uplink is once router advertisements have named the neighbour: link-local addresses only, IPv4 with an
/// IPv6 next hop, a password that belongs to the interface. Answers the link-local addresses of both sides.
fn link_locals(lab: &Lab) -> (String, String) {
    let of = |side: &str| {
        let shown = run(&format!("ip -n {}-{side} -6 -o addr show dev {side}0 scope link", lab.name));
        let address = shown.split_whitespace().find(|w| w.starts_with("fe80")).map(|w| w.replace("/64", ""));
        address.filter(|_| !shown.contains("tentative"))
    };
    lab.wait("no link-local address", || of("us").is_some() && of("them").is_some());
    (of("us").unwrap(), of("them").unwrap())
}

fn unnumbered_speaker(lab: &Lab, them: &str, passive: bool) -> Handle {
    let config =
        PeerConfig { address: PeerAddress::Interface("us0".into()), passive, ..peer("10.99.0.2", RemoteAs::External) };
    let speaker = lab.speaker(config, GracefulRestart::default());
    speaker.discovered("us0".into(), Some(them.parse().unwrap())).unwrap();
    speaker.set_routes(routes(&["192.0.2.1/32", "2001:db8::1/128"]));
    lab.wait_learned(&speaker, &["198.51.100.0/24", "2001:db8:100::/48"]);
    let learned = lab.in_use(&speaker);
    assert!(learned.len() == 2 && learned.iter().all(|l| l.next_hops == [format!("{them}%us0")]), "{learned:#?}");
    speaker
}

/// FRR does not dial a link-local address before it has heard router advertisements: we do.
#[test]
fn unnumbered_session_with_frr() {
    let Some(mut lab) = Lab::new("llfrr", &FRR) else { return };
    let (us, them) = link_locals(&lab);
    lab.start_frr(&format!(
        "
router bgp 65001
 bgp router-id 10.99.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor {us} remote-as external
 neighbor {us} interface them0
 neighbor {us} password foobar
 neighbor {us} capability extended-nexthop
 address-family ipv4 unicast
  network 198.51.100.0/24
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:100::/48
  neighbor {us} activate
 exit-address-family
"
    ));
    let speaker = unnumbered_speaker(&lab, &them, false);
    lab.wait_told("FRR, IPv4", || lab.vtysh(&["show bgp ipv4 unicast"]), &["*> 192.0.2.1/32"], &[]);
    lab.wait_told("FRR, IPv6", || lab.vtysh(&["show bgp ipv6 unicast"]), &["*> 2001:db8::1/128"], &[]);
    lab.stop(&speaker, Shutdown::Stop(String::new()));
}

#[test]
fn unnumbered_session_with_bird_whoever_dials() {
    for (we_wait, they_wait) in [(true, false), (false, true), (false, false)] {
        let Some(mut lab) = Lab::new("llbird", &["/usr/sbin/bird", "/usr/sbin/birdc"]) else { return };
        let (us, them) = link_locals(&lab);
        let passive = if they_wait { "on" } else { "off" };
        lab.start_bird(&format!(
            "
router id 10.99.0.2;
protocol device {{ }}
protocol static {{ ipv4; route 198.51.100.0/24 unreachable; }}
protocol static {{ ipv6; route 2001:db8:100::/48 unreachable; }}
protocol bgp hypervisor {{
    local {them} as 65001;
    neighbor {us}%them0 as 64999;
    password \"foobar\";
    passive {passive};
    connect retry time 1; connect delay time 1;
    ipv4 {{ import all; export all; extended next hop on; }};
    ipv6 {{ import all; export all; }};
}}
"
        ));
        let speaker = unnumbered_speaker(&lab, &them, we_wait);
        let show = || lab.birdc("show route protocol hypervisor");
        lab.wait_told("BIRD", show, &["192.0.2.1/32", "2001:db8::1/128", &us], &["unreachable"]);
        lab.stop(&speaker, Shutdown::Stop(String::new()));
    }
}

#[test]
fn internal_session_with_bird_over_ipv6() {
    let Some(mut lab) = Lab::new("bird", &["/usr/sbin/bird", "/usr/sbin/birdc"]) else { return };
    lab.start_bird(
        "
router id 10.99.0.2;
protocol device { }
protocol static { ipv4; route 0.0.0.0/0 unreachable; }
protocol static { ipv6; route ::/0 unreachable; }
protocol bgp hypervisor {
    local fd00:99::2 as 64999;
    neighbor fd00:99::1 as 64999;
    password \"foobar\";
    connect retry time 2;
    ipv4 { import all; export all; extended next hop on; next hop self; };
    ipv6 { import all; export all; next hop self; };
}
",
    );
    let speaker = lab.speaker(peer("fd00:99::2", RemoteAs::Internal), GracefulRestart::default());
    speaker.set_routes(routes(&["192.0.2.1/32", "2001:db8::1/128"]));
    lab.wait_learned(&speaker, &["0.0.0.0/0", "::/0"]);
    let learned = lab.in_use(&speaker);
    assert!(
        learned.len() == 2 && learned.iter().all(|l| l.as_path.is_empty() && l.local_pref == Some(100)),
        "{learned:#?}"
    );
    let show = || lab.birdc("show route protocol hypervisor all");
    lab.wait_told("BIRD", show, &["192.0.2.1/32", "2001:db8::1/128", "BGP.local_pref: 100", "(64999,1)"], &[]);
    lab.wait_acknowledged(&speaker);
    speaker.set_routes(routes(&["2001:db8::1/128"]));
    lab.wait_told("BIRD after the change", show, &["2001:db8::1/128"], &["192.0.2.1/32"]);
    lab.birdc("disable static1");
    lab.wait_learned(&speaker, &["::/0"]);

    // BIRD says goodbye: we show its words.
    let mut events = speaker.events();
    lab.birdc("disable hypervisor '\"leaf goes down\"'");
    lab.wait_learned(&speaker, &[]);
    let down = loop {
        match events.try_recv() {
            Ok(event @ Event::Down { .. }) => break event.to_string(),
            Ok(_) => {}
            Err(error) => panic!("no event: {error}"),
        }
    };
    assert!(down.contains("leaf goes down"), "{down}");
    lab.birdc("enable hypervisor");
    lab.wait_learned(&speaker, &["::/0"]);
    lab.stop(&speaker, Shutdown::Stop("maintenance".into()));
    let protocol = || lab.birdc("show protocols all hypervisor");
    lab.wait_told("BIRD was told why", protocol, &["Received: Administrative shutdown"], &["Established"]);
}
