//! The bridges' side of the wiring against a real `ovs-vswitchd` (userspace datapath), each test with a switch of its own in a
//! network namespace of its own.
//!
//! What was applied is compared with what `ovs-ofctl` says. Needs root and Open vSwitch; prints why it does nothing otherwise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helper functions may fail like the test itself"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ovn_bgpd::actuate::ovs::{Cleared, Event, Ovs};
use ovn_bgpd::desired::wiring::{Key, Spec};
use ovn_bgpd::diff::Op;
use ovn_bgpd::mac::Mac;
use ovn_bgpd::openflow::flow::Flow;
use ovn_bgpd::openflow::message::{self, Bundle, Change, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::watch;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const MAC: Mac = Mac([0x0e, 0, 0, 0, 0, 1]);
const COOKIE: u64 = 0x3e7;

/// A switch with its database. Both end with it.
struct Switch {
    directory: tempfile::TempDir,
    database: Child,
    daemon: Option<Child>,
}

impl Switch {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        run(&directory, "ovsdb-tool", &["create", &at("conf.db"), SCHEMA]);
        let mut database = command(&directory, "ovsdb-server")
            .arg(at("conf.db"))
            .arg(format!("--remote=punix:{}", at("db.sock")))
            .arg(format!("--unixctl={}", at("db.ctl")))
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !directory.path().join("db.sock").exists() {
            assert!(Instant::now() < deadline && database.try_wait().unwrap().is_none(), "ovsdb-server did not start");
            std::thread::yield_now();
        }
        let mut switch = Self { directory, database, daemon: None };
        switch.vsctl(&["--no-wait", "init"]);
        switch.start_daemon();
        switch
    }

    fn start_daemon(&mut self) {
        let database = format!("unix:{}", self.rundir().join("db.sock").display());
        let control = format!("--unixctl={}", self.rundir().join("switch.ctl").display());
        let daemon = command(&self.directory, "ovs-vswitchd").args([&database, "--disable-system", &control]).spawn();
        self.daemon = Some(daemon.unwrap());
    }

    fn stop_daemon(&mut self) {
        end(self.daemon.take());
    }

    fn rundir(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Returns when the switch has done it.
    fn vsctl(&self, arguments: &[&str]) -> String {
        let database = format!("--db=unix:{}", self.rundir().join("db.sock").display());
        run(&self.directory, "ovs-vsctl", &[&[database.as_str(), "--timeout=20"], arguments].concat())
    }

    fn add_bridge(&self, name: &str, protocols: &str) {
        let protocols = format!("protocols={protocols}");
        let mut arguments =
            vec!["add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev", "fail_mode=secure"];
        if protocols != "protocols=" {
            arguments.push(&protocols);
        }
        self.vsctl(&arguments);
    }

    /// Flows of a bridge without counters, sorted.
    fn flows(&self, bridge: &str, version: &str) -> Vec<String> {
        let socket = format!("unix:{}", self.rundir().join(format!("{bridge}.mgmt")).display());
        let text = run(&self.directory, "ovs-ofctl", &["-O", version, "--no-stats", "dump-flows", &socket]);
        let mut lines: Vec<String> =
            text.lines().filter(|line| line.contains("actions=")).map(|line| line.trim().to_owned()).collect();
        lines.sort();
        lines
    }

    fn ofctl(&self, arguments: &[&str]) {
        run(&self.directory, "ovs-ofctl", arguments);
    }

    fn mgmt(&self, bridge: &str) -> String {
        format!("unix:{}", self.rundir().join(format!("{bridge}.mgmt")).display())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop_daemon();
        let _ = self.database.kill();
        let _ = self.database.wait();
    }
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn command(directory: &tempfile::TempDir, program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, directory.path());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn run(directory: &tempfile::TempDir, program: &str, arguments: &[&str]) -> String {
    let output =
        command(directory, program).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the story with a fresh switch.
fn with_switch<F: Future<Output = ()>>(story: impl FnOnce(Switch) -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() || !PathBuf::from(SCHEMA).exists() {
        eprintln!("skipped: needs root and Open vSwitch");
        return;
    }
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let switch = Switch::start();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story(switch));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn key(bridge: &str, in_port: u16, v6: bool) -> Key {
    Key::Flow { bridge: bridge.into(), in_port, v6 }
}

fn set(bridge: &str, in_port: u16, v6: bool, mac: Mac) -> Op {
    Op::Set(key(bridge, in_port, v6), Spec::ModDlDst(mac))
}

/// Applies what must succeed. A busy machine may let the switch take longer than [`Ovs`] waits for it: then again, once it has
/// answered.
async fn apply(ovs: &mut Ovs, ops: &[Op]) {
    loop {
        let failed = ovs.apply(ops).await.into_iter().find_map(Result::err);
        match failed.map(|error| error.to_string()) {
            None => return,
            Some(reason) if reason.ends_with(SLOW) => drop(event(ovs).await),
            Some(reason) => panic!("{ops:?}: {reason}"),
        }
    }
}

/// What [`Ovs`] says of a switch that it does not wait for.
const SLOW: &str = "the switch does not answer";

/// Observes until every bridge but these has answered.
async fn observe_but(ovs: &mut Ovs, away: &[&str]) -> BTreeMap<Key, Spec> {
    loop {
        let (found, silent) = ovs.observe().await;
        let slow = |(bridge, reason): (&String, &String)| !away.contains(&bridge.as_str()) && reason == SLOW;
        if silent.iter().any(slow) {
            event(ovs).await;
            continue;
        }
        assert_eq!(silent.keys().collect::<Vec<_>>(), away, "{silent:?}");
        return found;
    }
}

/// Observes; every bridge must answer.
async fn observe(ovs: &mut Ovs) -> BTreeMap<Key, Spec> {
    observe_but(ovs, &[]).await
}

async fn event(ovs: &mut Ovs) -> Event {
    tokio::time::timeout(Duration::from_secs(60), ovs.event()).await.unwrap()
}

#[test]
fn flows_are_set_seen_changed_and_removed_whatever_version_the_bridge_speaks() {
    with_switch(|switch| async move {
        let other = Mac([0x0e, 0, 0, 0, 0, 2]);
        for (bridge, protocols, dump) in [
            ("br-any", "", "OpenFlow14"),
            ("br-14", "OpenFlow14", "OpenFlow14"),
            ("br-13", "OpenFlow13", "OpenFlow13"),
            ("br-10", "OpenFlow10", "OpenFlow10"),
        ] {
            switch.add_bridge(bridge, protocols);
            let mut ovs = Ovs::new(switch.rundir(), COOKIE);
            ovs.watch(&[bridge.to_owned()].into());
            assert_eq!(observe(&mut ovs).await, BTreeMap::new());
            apply(&mut ovs, &[set(bridge, 7, false, MAC), set(bridge, 7, true, MAC), set(bridge, 8, false, MAC)]).await;
            let action = if dump == "OpenFlow10" { "mod_dl_dst:" } else { "set_field:" };
            let flows = switch.flows(bridge, dump);
            assert_eq!(flows.len(), 3, "{flows:?}");
            for (flow, matched) in flows.iter().zip(["ip,in_port=7", "ip,in_port=8", "ipv6,in_port=7"]) {
                assert!(flow.contains("cookie=0x3e7, ") && flow.contains("priority=900,"), "{flow}");
                assert!(flow.contains(matched) && flow.contains(&format!("{action}{MAC}")), "{matched}: {flow}");
                assert!(flow.ends_with(",NORMAL"), "{flow}");
            }
            let expected: BTreeMap<Key, Spec> = [
                (key(bridge, 7, false), Spec::ModDlDst(MAC)),
                (key(bridge, 7, true), Spec::ModDlDst(MAC)),
                (key(bridge, 8, false), Spec::ModDlDst(MAC)),
            ]
            .into();
            assert_eq!(observe(&mut ovs).await, expected);
            // A restart of ours sees the same.
            let mut restarted = Ovs::new(switch.rundir(), COOKIE);
            restarted.watch(&[bridge.to_owned()].into());
            assert_eq!(observe(&mut restarted).await, expected);

            apply(&mut ovs, &[set(bridge, 7, false, other), Op::Remove(key(bridge, 8, false))]).await;
            apply(&mut ovs, &[Op::Remove(key(bridge, 9, true))]).await;
            let expected: BTreeMap<Key, Spec> =
                [(key(bridge, 7, false), Spec::ModDlDst(other)), (key(bridge, 7, true), Spec::ModDlDst(MAC))].into();
            assert_eq!(observe(&mut ovs).await, expected);
            assert_eq!(switch.flows(bridge, dump).len(), 2);
        }
    });
}

#[test]
fn flows_of_others_are_neither_seen_nor_touched() {
    with_switch(|switch| async move {
        switch.add_bridge("br-ex", "");
        let foreign = [
            "cookie=0x1,priority=900,in_port=1,ip,actions=NORMAL",
            "cookie=0,priority=0,actions=NORMAL",
            "cookie=0x3e8,priority=900,in_port=2,ipv6,actions=drop",
        ];
        for flow in foreign {
            switch.ofctl(&["add-flow", &switch.mgmt("br-ex"), flow]);
        }
        let before = switch.flows("br-ex", "OpenFlow13");
        let mut ovs = Ovs::new(switch.rundir(), COOKIE);
        ovs.watch(&["br-ex".to_owned()].into());
        assert_eq!(observe(&mut ovs).await, BTreeMap::new());
        apply(&mut ovs, &[set("br-ex", 3, false, MAC)]).await;
        apply(&mut ovs, &[Op::Remove(key("br-ex", 3, false)), Op::Remove(key("br-ex", 1, false))]).await;
        assert_eq!(switch.flows("br-ex", "OpenFlow13"), before);
        assert_eq!(before.len(), foreign.len());
    });
}

#[test]
fn flows_left_under_another_cookie_are_replaced_in_place_and_the_rest_is_removed_on_request() {
    with_switch(|switch| async move {
        switch.add_bridge("br-ex", "");
        for flow in [
            "cookie=0x3e7,priority=900,in_port=1,ip,actions=mod_dl_dst:0e:00:00:00:00:01,NORMAL",
            "cookie=0x3e7,priority=900,in_port=2,ip,actions=mod_dl_dst:0e:00:00:00:00:01,NORMAL",
            "cookie=0x3e7,priority=800,in_port=2,ip,actions=drop",
            "cookie=0x7,priority=900,in_port=3,ip,actions=NORMAL",
        ] {
            switch.ofctl(&["add-flow", &switch.mgmt("br-ex"), flow]);
        }
        let mut ovs = Ovs::new(switch.rundir(), 0x4711);
        ovs.watch(&["br-ex".to_owned()].into());
        apply(&mut ovs, &[set("br-ex", 1, false, MAC)]).await;
        assert_eq!(
            ovs.remove_all(["br-ex".to_owned()].into(), 0x3e7).await,
            Cleared { flows: 1, ..Cleared::default() },
            "in_port=1 is ours by now, the others are not of our form"
        );
        assert_eq!(ovs.remove_all(["br-ex".to_owned()].into(), 0x3e7).await, Cleared::default(), "once is enough");
        assert_eq!(observe(&mut ovs).await, [(key("br-ex", 1, false), Spec::ModDlDst(MAC))].into());
        assert_eq!(switch.flows("br-ex", "OpenFlow13").len(), 3);
        let left = "cookie=0x3e7,priority=900,in_port=2,ip,actions=mod_dl_dst:0e:00:00:00:00:01,NORMAL";
        switch.ofctl(&["add-flow", &switch.mgmt("br-ex"), left]);
        let cleared = ovs.remove_all(["br-ex".to_owned(), "br-gone".to_owned()].into(), 0x3e7).await;
        assert_eq!(cleared.flows, 1, "one that is gone does not keep the others");
        assert_eq!(cleared.left.into_keys().collect::<Vec<_>>(), ["br-gone"]);
        assert_eq!(switch.flows("br-ex", "OpenFlow13").len(), 3, "one that is gone does not keep the others");
    });
}

#[test]
fn a_flow_of_ours_with_another_action_is_seen_as_different_and_the_spelling_does_not_matter() {
    with_switch(|switch| async move {
        switch.add_bridge("br-ex", "");
        for flow in [
            "cookie=0x3e7,priority=900,in_port=1,ip,actions=mod_dl_dst:0e:00:00:00:00:01,NORMAL",
            "cookie=0x3e7,priority=900,in_port=2,ip,actions=NORMAL",
            "cookie=0x3e7,priority=900,in_port=3,ip,actions=mod_dl_dst:0e:00:00:00:00:01,mod_dl_src:0e:00:00:00:00:01,NORMAL",
            "cookie=0x3e7,priority=901,in_port=4,ip,actions=NORMAL",
            "cookie=0x3e7,priority=900,in_port=5,ip,nw_dst=10.0.0.0/8,actions=NORMAL",
        ] {
            switch.ofctl(&["add-flow", &switch.mgmt("br-ex"), flow]);
        }
        let mut ovs = Ovs::new(switch.rundir(), COOKIE);
        ovs.watch(&["br-ex".to_owned()].into());
        let expected = [
            (key("br-ex", 1, false), Spec::ModDlDst(MAC)),
            (key("br-ex", 2, false), Spec::Present),
            (key("br-ex", 3, false), Spec::Present),
        ];
        assert_eq!(observe(&mut ovs).await, expected.into());
    });
}

#[test]
fn a_bridge_that_is_away_is_an_error_of_its_own_flows_only() {
    with_switch(|switch| async move {
        switch.add_bridge("br-ex", "");
        let mut ovs = Ovs::new(switch.rundir(), COOKIE);
        ovs.watch(&["br-ex".to_owned(), "br-gone".to_owned()].into());
        observe_but(&mut ovs, &["br-gone"]).await;
        apply(&mut ovs, &[set("br-ex", 1, false, MAC)]).await;
        let results = ovs.apply(&[set("br-gone", 1, false, MAC)]).await;
        let text = results[0].as_ref().unwrap_err().to_string();
        assert!(text.starts_with("bridge br-gone: No such file"), "{text}");
    });
}

#[test]
fn a_restart_of_the_switch_is_noticed_and_the_flows_can_be_put_back() {
    with_switch(|mut switch| async move {
        switch.add_bridge("br-ex", "");
        let mut ovs = Ovs::new(switch.rundir(), COOKIE);
        ovs.watch(&["br-ex".to_owned()].into());
        assert_eq!(event(&mut ovs).await, Event::Up { bridge: "br-ex".into() });
        apply(&mut ovs, &[set("br-ex", 1, false, MAC)]).await;

        switch.stop_daemon();
        let stopped = Instant::now();
        let Event::Lost { bridge, .. } = event(&mut ovs).await else { panic!("not noticed") };
        assert_eq!(bridge, "br-ex");
        println!("noticed after {:?}", stopped.elapsed());

        switch.start_daemon();
        assert_eq!(event(&mut ovs).await, Event::Up { bridge: "br-ex".into() });
        assert_eq!(observe(&mut ovs).await, BTreeMap::new(), "a new switch knows nothing");
        apply(&mut ovs, &[set("br-ex", 1, false, MAC)]).await;
        assert_eq!(switch.flows("br-ex", "OpenFlow13").len(), 1);
    });
}

#[test]
fn flows_that_somebody_else_removes_are_noticed_and_our_own_changes_are_not() {
    with_switch(|switch| async move {
        switch.add_bridge("br-ex", "");
        let mut ovs = Ovs::new(switch.rundir(), COOKIE);
        ovs.watch(&["br-ex".to_owned()].into());
        apply(&mut ovs, &[set("br-ex", 1, false, MAC), set("br-ex", 1, true, MAC)]).await;
        apply(&mut ovs, &[Op::Remove(key("br-ex", 1, true))]).await;
        // Those of others are theirs.
        switch.ofctl(&["add-flow", &switch.mgmt("br-ex"), "cookie=0x1,priority=1,actions=NORMAL"]);
        switch.ofctl(&["del-flows", &switch.mgmt("br-ex"), "cookie=0x1/-1"]);
        // A bridge that is not there is tried again and again, which is no event; everything else would be one by now.
        ovs.watch(&["br-none".to_owned()].into());
        let nothing = tokio::time::timeout(Duration::from_millis(500), ovs.event()).await;
        assert!(nothing.is_err(), "{nothing:?}");

        switch.ofctl(&["del-flows", &switch.mgmt("br-ex")]);
        assert_eq!(event(&mut ovs).await, Event::Changed { bridge: "br-ex".into() });
        assert_eq!(observe_but(&mut ovs, &["br-none"]).await, BTreeMap::new());
        apply(&mut ovs, &[set("br-ex", 1, false, MAC)]).await;
        switch.ofctl(&["mod-flows", &switch.mgmt("br-ex"), "cookie=0x3e7/-1,actions=drop"]);
        assert_eq!(event(&mut ovs).await, Event::Changed { bridge: "br-ex".into() });
    });
}

/// A switch that greets, and answers what it was asked only when `answers` says so. It has no flows.
async fn made_up_switch(listener: UnixListener, mut answers: watch::Receiver<bool>) {
    const HELLO: u8 = 0;
    const MULTIPART_REQUEST: u8 = 18;
    const MULTIPART_REPLY: u8 = 19;
    const BARRIER_REQUEST: u8 = 20;
    const BARRIER_REPLY: u8 = 21;
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut header = [0; 8];
        while stream.read_exact(&mut header).await.is_ok() {
            let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - header.len()];
            stream.read_exact(&mut body).await.unwrap();
            let (version, xid) = (header[0], &header[4..]);
            let reply = match header[1] {
                HELLO => message::hello(1),
                MULTIPART_REQUEST => [&[version, MULTIPART_REPLY, 0, 16], xid, &[0, 1, 0, 0, 0, 0, 0, 0]].concat(),
                BARRIER_REQUEST => [&[version, BARRIER_REPLY, 0, 8], xid].concat(),
                _ => continue,
            };
            if header[1] != HELLO {
                answers.wait_for(|yes| *yes).await.unwrap();
            }
            // We may have lost patience.
            if stream.write_all(&reply).await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn nobody_waits_for_a_switch_that_hangs_and_its_late_answer_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (hang, hangs) = watch::channel(false);
    let (_keep, well) = watch::channel(true);
    for (bridge, answers) in [("br-hung", hangs), ("br-well", well)] {
        let listener = UnixListener::bind(directory.path().join(format!("{bridge}.mgmt"))).unwrap();
        tokio::spawn(made_up_switch(listener, answers));
    }
    let mut ovs = Ovs::new(directory.path(), COOKIE);
    ovs.watch(&["br-hung".to_owned(), "br-well".to_owned()].into());
    observe_but(&mut ovs, &["br-hung"]).await;
    // In one go: the one is not held up by the other.
    loop {
        let results = ovs.apply(&[set("br-hung", 1, false, MAC), set("br-well", 1, false, MAC)]).await;
        assert_eq!(results[0].as_ref().unwrap_err().to_string(), format!("bridge br-hung: {SLOW}"));
        match &results[1] {
            Ok(()) => break,
            Err(error) => assert!(error.to_string().ends_with(SLOW), "{error}"),
        }
        event(&mut ovs).await;
    }
    // Had the first question been given up, and with it the connection, nobody would be there to hear the answer.
    hang.send(true).unwrap();
    while event(&mut ovs).await != (Event::Up { bridge: "br-hung".into() }) {}
    assert_eq!(observe(&mut ovs).await, BTreeMap::new());
    apply(&mut ovs, &[set("br-hung", 1, false, MAC)]).await;
}

#[tokio::test]
async fn a_silent_bridge_is_said_to_be_left_until_it_answers() {
    let directory = tempfile::tempdir().unwrap();
    let (hang, hangs) = watch::channel(false);
    let listener = UnixListener::bind(directory.path().join("br-hung.mgmt")).unwrap();
    tokio::spawn(made_up_switch(listener, hangs));
    let ovs = Ovs::new(directory.path(), COOKIE);
    let bridges = || [String::from("br-hung")].into();
    for _ in 0..2 {
        let cleared = ovs.remove_all(bridges(), COOKIE).await;
        assert_eq!(cleared, Cleared { flows: 0, left: [("br-hung".to_owned(), SLOW.to_owned())].into() });
    }
    hang.send(true).unwrap();
    assert_eq!(ovs.remove_all(bridges(), COOKIE).await, Cleared::default());
}

/// What `ovs-ofctl ofp-print` makes of a message of ours.
fn printed(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let hex = bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    let output = Command::new("ovs-ofctl").args(["ofp-print", &hex, "2"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_message_means_to_open_vswitch_what_it_means_to_us() {
    if Command::new("ovs-ofctl").arg("--version").output().is_err() {
        eprintln!("skipped: needs ovs-ofctl");
        return;
    }
    let flow = Flow { table: 0, priority: 900, cookie: COOKIE, in_port: 7, eth_type: 0x86dd, set_dst: MAC };
    let cases = [
        (message::hello(1), vec!["OFPT_HELLO (OF1.4) (xid=0x1)", "version bitmap: 0x01, 0x04, 0x05"]),
        (message::barrier(Version::V10, 2), vec!["OFPT_BARRIER_REQUEST (xid=0x2)"]),
        (message::barrier(Version::V13, 2), vec!["OFPT_BARRIER_REQUEST (OF1.3) (xid=0x2)"]),
        (message::echo_reply(Version::V13, 3, b"abc"), vec!["OFPT_ECHO_REPLY (OF1.3) (xid=0x3): 3 bytes of payload"]),
        (message::dump(Version::V10, 4, COOKIE), vec!["OFPST_FLOW request (xid=0x4)"]),
        (message::dump(Version::V14, 4, COOKIE), vec!["OFPST_FLOW request (OF1.4) (xid=0x4)"]),
        (
            message::flow_mod(Version::V13, 5, &Change::Add(flow)),
            vec![
                "OFPT_FLOW_MOD (OF1.3) (xid=0x5): ADD priority=900,ipv6,in_port=7",
                "cookie:0x3e7",
                "actions=set_field:0e:00:00:00:00:01->eth_dst,NORMAL",
            ],
        ),
        (
            message::flow_mod(Version::V10, 5, &Change::Add(flow)),
            vec![
                "OFPT_FLOW_MOD (xid=0x5): ADD priority=900,ipv6,in_port=7",
                "actions=mod_dl_dst:0e:00:00:00:00:01,NORMAL",
            ],
        ),
        (
            message::flow_mod(Version::V14, 6, &Change::Remove(flow)),
            vec![
                "OFPT_FLOW_MOD (OF1.4) (xid=0x6): DEL_STRICT priority=900,ipv6,in_port=7",
                "cookie:0x3e7/0xffffffffffffffff",
            ],
        ),
        (
            message::bundle(7, 1, Bundle::Open),
            vec!["OFPT_BUNDLE_CONTROL (OF1.4) (xid=0x7)", "OPEN_REQUEST", "atomic ordered"],
        ),
        (
            message::bundle_add(8, 1, &Change::Add(flow)),
            vec!["OFPT_BUNDLE_ADD_MESSAGE (OF1.4) (xid=0x8)", "ADD priority=900,ipv6,in_port=7"],
        ),
        (message::bundle(9, 1, Bundle::Commit), vec!["COMMIT_REQUEST"]),
        (
            message::monitor(10, 0),
            vec!["OFPST_FLOW_MONITOR request (OF1.4) (xid=0xa)", "flags=add,delete,modify table=0"],
        ),
    ];
    for (bytes, expected) in cases {
        let text = printed(&bytes);
        for part in expected {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
}
