//! Stories with a scripted server and a virtual clock, and one law: the copy follows the server, whatever the route.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::ovsdb::value::{Atom, Row, Value};

const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";
const T1: &str = "11111111-0000-4000-8000-000000000001";
const T2: &str = "22222222-0000-4000-8000-000000000002";

/// A conversation, its virtual clock, and the test in the role of the network and the server.
struct Story {
    conversation: Conversation,
    start: Instant,
    now: Instant,
    buffer: BytesMut,
    /// Outputs not yet asserted.
    outputs: VecDeque<Output>,
}

fn config(remotes: &str) -> Config {
    let tables = vec![
        TableSpec::list(&[("T", &["name", "tags", "ids", "port", "absent"])]).remove(0),
        TableSpec::list(&[("Nowhere", &["x"])]).remove(0),
    ];
    Config::new("db", Remote::parse(remotes).unwrap(), tables)
}

fn schema() -> Json {
    let set = |key: &str| json!({"type": {"key": key, "min": 0, "max": "unlimited"}});
    json!({"name": "db", "version": "1.0.0", "tables": {"T": {"columns": {
        "name": {"type": "string"},
        "tags": set("string"),
        "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
        "port": {"type": {"key": {"type": "integer", "minInteger": 0}, "min": 0, "max": 1}},
        "unwanted": set("uuid"),
    }}}})
}

fn standalone() -> Json {
    json!({"Database": {A: {"initial": {"name": "db", "model": "standalone", "connected": true, "leader": true}}}})
}

fn member(connected: bool, leader: bool, index: i64) -> Json {
    json!({"Database": {A: {"initial": {"name": "db", "model": "clustered", "connected": connected, "leader": leader,
        "cid": ["uuid", B], "index": index}}}})
}

impl Story {
    fn new(config: Config) -> Self {
        let start = Instant::now();
        let mut story = Self {
            conversation: Conversation::new(config, start),
            start,
            now: start,
            buffer: BytesMut::new(),
            outputs: VecDeque::new(),
        };
        story.drain();
        story
    }

    /// A story that starts with row A ("a", port 1) synced at transaction T1.
    fn synced() -> Self {
        let mut story = Self::new(config("tcp:one"));
        story.connect("tcp:one:6640");
        story.handshake(&standalone());
        let params = story.expect_request("monitor_cond_since");
        assert_eq!(params[3], Uuid::nil().to_string());
        story.reply(&json!([false, T1, {"T": {A: {"initial": {"name": "a", "port": 1}}}}]));
        assert_eq!(story.events().last(), Some(&Event::Synced { fresh: true }));
        story
    }

    fn drain(&mut self) {
        while let Some(output) = self.conversation.poll() {
            self.outputs.push_back(output);
        }
    }

    /// The clock shows so many seconds since the start.
    fn at(&mut self, seconds: u64) -> &mut Self {
        let then = self.start + Duration::from_secs(seconds);
        while let Some(deadline) = self.conversation.next_deadline().filter(|d| *d <= then) {
            self.now = deadline;
            self.conversation.tick(deadline);
            self.drain();
        }
        self.now = then;
        self
    }

    fn expect_connect(&mut self, remote: &str) -> &mut Self {
        match self.outputs.pop_front() {
            Some(Output::Connect(to)) => assert_eq!(to.to_string(), remote),
            other => panic!("{other:?} instead of a connection to {remote}"),
        }
        self
    }

    fn connect(&mut self, remote: &str) {
        self.expect_connect(remote);
        self.buffer.clear();
        self.conversation.connected(self.now);
        self.drain();
    }

    fn refuse(&mut self) {
        self.conversation.disconnected(self.now, "refused");
        self.drain();
    }

    fn expect_close(&mut self) -> &mut Self {
        assert_eq!(self.outputs.pop_front(), Some(Output::Close));
        self
    }

    fn expect_nothing(&mut self) -> &mut Self {
        assert_eq!(self.outputs, []);
        self
    }

    fn sent(&mut self) -> Json {
        match self.outputs.pop_front() {
            Some(Output::Send(bytes)) => serde_json::from_slice(&bytes).unwrap(),
            other => panic!("{other:?} instead of a message"),
        }
    }

    fn expect_request(&mut self, method: &str) -> Json {
        let request = self.sent();
        assert_eq!(request["method"], method, "{request}");
        request["params"].clone()
    }

    fn events(&mut self) -> Vec<Event> {
        let (events, rest): (Vec<_>, Vec<_>) = self.outputs.drain(..).partition(|o| matches!(o, Output::Event(_)));
        self.outputs = rest.into();
        events.into_iter().map(|o| if let Output::Event(e) = o { e } else { unreachable!() }).collect()
    }

    fn receive(&mut self, bytes: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(bytes);
        self.conversation.received(self.now, &mut self.buffer);
        self.drain();
        self
    }

    fn server_says(&mut self, message: &Json) -> &mut Self {
        self.receive(message.to_string().as_bytes())
    }

    fn last_id(&self) -> u64 {
        self.conversation.next_id - 1
    }

    /// Answers the request sent last.
    fn reply(&mut self, result: &Json) {
        self.server_says(&json!({"id": self.last_id(), "result": result, "error": null}));
    }

    fn reply_error(&mut self, error: &Json) {
        self.server_says(&json!({"id": self.last_id(), "result": null, "error": error}));
    }

    /// From the connection to the monitor request, which is next to be asserted after events about missing columns.
    fn handshake(&mut self, server: &Json) {
        self.expect_request("set_db_change_aware");
        self.expect_request("monitor_cond");
        self.reply(server);
        assert_eq!(self.expect_request("get_schema"), json!(["db"]));
        self.reply(&schema());
        self.outputs.retain(|o| !matches!(o, Output::Event(Event::Missing(_))));
    }

    fn update(&mut self, transaction: &str, updates: &Json) -> &mut Self {
        self.server_says(&json!({"id": null, "method": "update3", "params": ["db", transaction, updates]}))
    }

    fn row(&self, uuid: &str) -> Option<Row> {
        self.conversation.database()["T"].get(&uuid.parse().unwrap())
    }
}

fn changed(rows: &[&str]) -> Event {
    let mut uuids: Vec<Uuid> = rows.iter().map(|r| r.parse().unwrap()).collect();
    uuids.sort_unstable();
    Event::Changed(Changes::from([("T".into(), uuids)]))
}

fn is_down(event: &Event, says: &str) -> bool {
    matches!(event, Event::Down { reason } if reason.contains(says))
}

#[test]
fn the_first_dump_fills_in_defaults_and_says_what_is_missing() {
    let mut story = Story::new(config("tcp:one"));
    story.connect("tcp:one:6640");
    story.expect_request("set_db_change_aware");
    story.expect_request("monitor_cond");
    story.reply(&standalone());
    story.expect_request("get_schema");
    story.reply(&schema());
    let missing = |table: &str, column: Option<&str>| {
        Event::Missing(Missing { table: table.into(), column: column.map(Into::into) })
    };
    assert_eq!(story.events(), [missing("Nowhere", None), missing("T", Some("absent"))]);
    let params = story.expect_request("monitor_cond_since");
    assert_eq!(params[2], json!({"T": [{"columns": ["name", "tags", "ids", "port"]}]}));
    story.reply(&json!([false, T1, {"T": {A: {"initial": {"name": "a"}}}}]));
    assert_eq!(story.events(), [changed(&[A]), Event::Synced { fresh: true }]);
    let row = story.row(A).unwrap();
    assert_eq!((row["tags"].clone(), row["ids"].clone()), (Value::Set(vec![]), Value::Map(vec![])));
}

#[test]
fn sets_and_maps_change_by_difference_and_scalars_by_value() {
    let mut story = Story::synced();
    story.update(
        T2,
        &json!({"T": {A: {"modify": {"tags": ["set", ["x", "y"]], "ids": ["map", [["k", "1"], ["l", "1"]]]}}}}),
    );
    story.update(
        T2,
        &json!({"T": {A: {"modify": {"name": "b", "port": 2, "tags": "y", "ids": ["map", [["k", "1"], ["l", "2"]]]}}}}),
    );
    assert_eq!(story.events().len(), 2);
    let row = story.row(A).unwrap();
    assert_eq!((row["name"].as_str(), &row["port"]), (Some("b"), &Value::Set(vec![Atom::Integer(2)])));
    assert_eq!(row["tags"].strings().collect::<Vec<_>>(), ["x"]);
    assert_eq!((row["ids"].get("k"), row["ids"].get("l")), (None, Some("2")));
    story.update(T2, &json!({"T": {A: {"modify": {"port": ["set", []]}}}}));
    assert_eq!(
        story.row(A).unwrap()["port"],
        Value::Set(vec![]),
        "an optional scalar is replaced, by nothing if need be"
    );
    story.update(T2, &json!({"T": {A: {"delete": null}, B: {"insert": {"name": "b"}}}}));
    assert_eq!(story.events().last(), Some(&changed(&[A, B])));
    assert!(story.row(A).is_none() && story.row(B).is_some());
}

#[test]
fn changes_nobody_fetched_grow_into_one_event() {
    let mut story = Story::synced();
    let one = json!({"id": null, "method": "update3", "params": ["db", T2, {"T": {A: {"modify": {"port": 7}}}}]});
    let two = json!({"id": null, "method": "update3", "params": ["db", T2, {"T": {A: {"modify": {"port": 8}}, B: {"insert": {}}}}]});
    story.receive(format!("{one}{two}").as_bytes());
    assert_eq!(story.events(), [changed(&[A, B])]);
}

#[test]
fn changes_of_keys_nobody_wants_are_no_changes() {
    let mut config = config("tcp:one");
    config.tables[0] = config.tables[0].clone().with_keys("ids", &["k"]);
    let mut story = Story::new(config);
    story.connect("tcp:one:6640");
    story.handshake(&standalone());
    story.expect_request("monitor_cond_since");
    story.reply(&json!([false, T1, {"T": {A: {"initial": {"ids": ["map", [["k", "1"], ["revision", "1"]]]}}}}]));
    story.events();
    story.update(T2, &json!({"T": {A: {"modify": {"ids": ["map", [["revision", "2"]]]}}}})).expect_nothing();
    story.update(T2, &json!({"T": {A: {"modify": {"ids": ["map", [["k", "2"], ["revision", "3"]]]}}}}));
    assert_eq!(story.events(), [changed(&[A])]);
    assert_eq!(story.row(A).unwrap()["ids"], Value::Map(vec![(Atom::String("k".into()), Atom::String("2".into()))]));
}

#[test]
fn after_a_short_outage_only_what_was_missed_is_asked_for() {
    let mut story = Story::synced();
    story.update(T2, &json!({"T": {A: {"modify": {"port": 2}}}}));
    story.events();
    story.at(50).refuse();
    assert!(is_down(&story.events()[0], "tcp:one:6640: refused"));
    story.connect("tcp:one:6640");
    story.handshake(&standalone());
    assert_eq!(story.expect_request("monitor_cond_since")[3], T2);
    assert_eq!(story.row(A).unwrap()["port"], Value::Set(vec![Atom::Integer(2)]), "the rows stand meanwhile");
    story.reply(&json!([true, T2, {"T": {A: {"modify": {"port": 3}}}}]));
    assert_eq!(story.events(), [changed(&[A]), Event::Synced { fresh: false }]);
}

#[test]
fn lost_history_replaces_the_rows_at_once_and_only_when_the_dump_is_complete() {
    let mut story = Story::synced();
    story.update(T2, &json!({"T": {B: {"insert": {"name": "b"}}}}));
    story.events();
    story.refuse();
    story.events();
    story.at(1).connect("tcp:one:6640");
    story.handshake(&standalone());
    story.expect_request("monitor_cond_since");
    let dump = json!({"id": story.last_id(), "error": null, "result":
        [false, T1, {"T": {A: {"initial": {"name": "a", "port": 1}}, T1: {"initial": {"name": "new"}}}}]});
    let dump = dump.to_string();
    let (half, rest) = dump.as_bytes().split_at(dump.len() - 20);
    story.receive(half).expect_nothing();
    assert!(story.row(B).is_some(), "half a dump says nothing about what it lacks");
    story.receive(rest);
    assert_eq!(story.events(), [changed(&[B, T1]), Event::Synced { fresh: true }], "row A is the same as before");
    assert!(story.row(B).is_none());
}

#[test]
fn old_servers_are_asked_in_older_ways() {
    for (errors, update) in [
        (vec![json!("unknown method")], "update2"),
        (vec![json!({"error": "unknown method", "details": "?"}), json!("unknown method")], "update"),
    ] {
        let mut story = Story::new(config("tcp:one"));
        story.connect("tcp:one:6640");
        story.expect_request("set_db_change_aware");
        story.expect_request("monitor_cond");
        story.reply_error(&json!({"error": "unknown database"}));
        story.expect_request("get_schema");
        story.reply(&schema());
        story.events();
        story.expect_request("monitor_cond_since");
        for (error, method) in errors.iter().zip(["monitor_cond", "monitor"]) {
            story.reply_error(error);
            story.expect_request(method);
        }
        let kind = if update == "update" { "new" } else { "initial" };
        story.reply(&json!({"T": {A: {kind: {"name": "a", "tags": "x"}}}}));
        assert_eq!(story.events(), [changed(&[A]), Event::Synced { fresh: true }]);
        let updates = if update == "update" {
            json!({"T": {A: {"old": {"tags": "x"}, "new": {"name": "a", "tags": ["set", ["x", "y"]]}}, B: {"old": {}}}})
        } else {
            json!({"T": {A: {"modify": {"tags": "y"}}}})
        };
        story.server_says(&json!({"id": null, "method": update, "params": ["db", updates]}));
        assert_eq!(story.events(), [changed(&[A])], "{update}");
        assert_eq!(story.row(A).unwrap()["tags"].strings().collect::<Vec<_>>(), ["x", "y"]);
    }
}

#[test]
fn a_silent_server_is_asked_and_then_given_up() {
    let mut story = Story::synced();
    story.at(59).expect_nothing();
    story.at(60).expect_request("echo");
    story.at(119).expect_nothing();
    story.at(120).expect_close();
    assert!(is_down(&story.events()[0], "silent for 120 s"));
    story.expect_connect("tcp:one:6640");
}

#[test]
fn a_sign_of_life_is_enough() {
    let mut story = Story::synced();
    story.at(60).expect_request("echo");
    story.at(110).reply(&json!([]));
    story.at(169).expect_nothing();
    story.at(170).expect_request("echo");
    // Half a message is a sign of life, too: a big dump on a slow line must not be cut off.
    story.at(229).receive(b"{\"id\":");
    story.at(288).expect_nothing();
}

#[test]
fn probes_can_be_switched_off() {
    let mut config = config("tcp:one");
    config.probe = Duration::ZERO;
    let mut story = Story::new(config);
    story.connect("tcp:one:6640");
    assert_eq!(story.conversation.next_deadline(), None);
}

#[test]
fn the_servers_own_probes_are_answered() {
    let mut story = Story::synced();
    story.server_says(&json!({"id": "echo", "method": "echo", "params": ["x"]}));
    assert_eq!(story.sent(), json!({"id": "echo", "result": ["x"], "error": null}));
    story.server_says(&json!({"id": 7, "method": "steal", "params": []}));
    assert_eq!(story.sent(), json!({"id": 7, "result": null, "error": "unknown method"}));
}

#[test]
fn garbage_ends_the_connection_and_everything_is_asked_anew() {
    for garbage in [
        "HTTP/1.1 400 Bad Request",
        "{\"id\":nonsense}",
        r#"{"id":null,"method":"update3","params":["db"]}"#,
        r#"{"id":null,"method":"update3","params":["db","no-uuid",{}]}"#,
        r#"{"id":null,"method":"update3","params":["db","11111111-0000-4000-8000-000000000001",{"T":{"x":{}}}]}"#,
        r#"{"id":null,"method":"update3","params":["db","11111111-0000-4000-8000-000000000001",[]]}"#,
        // A difference to a row that was never sent: the copy is out of step.
        r#"{"id":null,"method":"update3","params":["db","11111111-0000-4000-8000-000000000001",
            {"T":{"bbbbbbbb-0000-4000-8000-000000000002":{"modify":{"port":1}}}}]}"#,
    ] {
        let mut story = Story::synced();
        story.at(30).receive(garbage.as_bytes()).expect_close();
        assert!(is_down(&story.events()[0], "tcp:one"), "{garbage}");
        assert!(story.row(A).is_some(), "{garbage}");
        story.connect("tcp:one:6640");
        story.handshake(&standalone());
        assert_eq!(story.expect_request("monitor_cond_since")[3], Uuid::nil().to_string(), "{garbage}");
    }
}

#[test]
fn an_update_that_is_half_garbage_changes_nothing() {
    let mut story = Story::synced();
    story.update(T2, &json!({"T": {A: {"modify": {"port": 9}}, B: {"modify": {"port": 9}}}}));
    assert_eq!(story.row(A).unwrap()["port"], Value::Set(vec![Atom::Integer(1)]));
}

#[test]
fn a_malformed_row_is_told_once_and_left_out() {
    let mut story = Story::synced();
    let bad = Event::Malformed(Malformed {
        table: "T".into(),
        row: B.parse().unwrap(),
        column: "port".into(),
        why: "String(\"x\") is not of type integer".to_owned(),
    });
    story.update(T2, &json!({"T": {B: {"insert": {"port": "x"}}}}));
    assert_eq!(story.events(), std::slice::from_ref(&bad));
    assert!(story.row(B).is_none());
    story.update(T2, &json!({"T": {B: {"modify": {"port": 3}}}})).expect_nothing();
    // Again in the next dump.
    story.at(30).refuse();
    story.events();
    story.connect("tcp:one:6640");
    story.handshake(&standalone());
    story.expect_request("monitor_cond_since");
    story.reply(&json!([false, T1, {"T": {A: {"initial": {"name": "a", "port": 1}}, B: {"initial": {"port": "x"}}}}]));
    assert_eq!(story.events(), [Event::Synced { fresh: true }]);
    // A good row that turns bad goes; one that was deleted may complain anew.
    story.update(T2, &json!({"T": {A: {"modify": {"name": 5}}, B: {"delete": null}}}));
    assert!(matches!(&story.events()[..], [Event::Malformed(_), Event::Changed(c)] if c["T"].len() == 1));
    assert!(story.row(A).is_none());
    story.update(T2, &json!({"T": {B: {"insert": {"port": "x"}}}}));
    assert_eq!(story.events(), [bad]);
}

#[test]
fn a_canceled_monitor_starts_over_on_the_same_connection() {
    let mut story = Story::synced();
    story.server_says(&json!({"id": null, "method": "monitor_canceled", "params": ["db"]}));
    assert!(is_down(&story.events()[0], "canceled"));
    story.handshake(&standalone());
    assert_eq!(story.expect_request("monitor_cond_since")[3], Uuid::nil().to_string());
    story.reply(&json!([false, T1, {"T": {A: {"initial": {"name": "a", "port": 1}}}}]));
    assert_eq!(story.events(), [Event::Synced { fresh: true }]);
}

#[test]
fn a_member_cut_off_from_its_cluster_is_left_at_once() {
    let mut story = Story::new(config("tcp:one,tcp:two"));
    story.connect("tcp:one:6640");
    story.expect_request("set_db_change_aware");
    story.expect_request("monitor_cond");
    story.reply(&member(false, false, 5));
    story.expect_close().connect("tcp:two:6640");
    story.handshake(&member(true, false, 5));
    story.expect_request("monitor_cond_since");
    story.reply(&json!([false, T1, {}]));
    assert_eq!(story.events(), [Event::Synced { fresh: true }]);
    let update = json!({"Database": {A: {"modify": {"connected": false}}}});
    story.at(20).server_says(&json!({"id": null, "method": "update2", "params": ["_Server", update]}));
    story.expect_close();
    assert!(is_down(&story.events()[0], "not connected to its cluster"));
    story.expect_connect("tcp:one:6640");
}

#[test]
fn a_member_that_lags_behind_would_bring_back_the_past() {
    let mut story = Story::new(config("tcp:one,tcp:two"));
    story.connect("tcp:one:6640");
    story.handshake(&member(true, true, 50));
    story.expect_request("monitor_cond_since");
    story.reply(&json!([false, T1, {}]));
    story.at(20).refuse();
    story.events();
    story.connect("tcp:two:6640");
    story.expect_request("set_db_change_aware");
    story.expect_request("monitor_cond");
    story.reply(&member(true, true, 49));
    story.expect_close().expect_connect("tcp:one:6640");
}

#[test]
fn only_a_leader_will_do_if_asked() {
    let mut config = config("tcp:one,tcp:two");
    config.leader_only = true;
    let mut story = Story::new(config);
    story.connect("tcp:one:6640");
    story.expect_request("set_db_change_aware");
    story.expect_request("monitor_cond");
    story.reply(&member(true, false, 5));
    story.expect_close().connect("tcp:two:6640");
    story.handshake(&member(true, true, 5));
    story.expect_request("monitor_cond_since");
}

#[test]
fn a_server_without_the_database_is_tried_again_later() {
    let mut story = Story::new(config("tcp:one"));
    story.connect("tcp:one:6640");
    story.expect_request("set_db_change_aware");
    story.expect_request("monitor_cond");
    story.reply(&json!({}));
    story.expect_close();
    assert!(is_down(&story.events()[0], "no such database (db)"));
    story.at(1).expect_connect("tcp:one:6640");
}

#[test]
fn an_outage_is_told_once_and_attempts_get_rarer() {
    let mut story = Story::new(config("tcp:one,tcp:two"));
    story.expect_connect("tcp:one:6640").refuse();
    story.expect_connect("tcp:two:6640");
    story.at(9).expect_nothing();
    story.at(10).expect_close();
    let events = story.events();
    assert!(events.len() == 1 && is_down(&events[0], "tcp:two:6640: no connection within 10 s"), "{events:?}");
    story.at(11).expect_connect("tcp:one:6640").refuse();
    story.expect_nothing();
    story.at(13).expect_connect("tcp:two:6640").refuse();
    story.at(17).expect_connect("tcp:one:6640").refuse();
    story.at(25).expect_connect("tcp:two:6640").refuse();
    story.at(33).expect_connect("tcp:one:6640").expect_nothing();
}

#[test]
fn what_is_missing_is_told_once_not_at_each_reconnect() {
    let mut story = Story::synced();
    story.at(30).refuse();
    story.events();
    story.connect("tcp:one:6640");
    story.expect_request("set_db_change_aware");
    story.expect_request("monitor_cond");
    story.reply(&standalone());
    story.expect_request("get_schema");
    story.reply(&schema());
    story.expect_request("monitor_cond_since");
}

#[test]
fn conditions_go_out_with_the_monitor_and_can_change_later() {
    let mut config = config("tcp:one");
    config.tables[0].condition = Some(json!([["name", "==", "a"]]));
    let mut story = Story::new(config);
    story.connect("tcp:one:6640");
    story.handshake(&standalone());
    assert_eq!(story.expect_request("monitor_cond_since")[2]["T"][0]["where"], json!([["name", "==", "a"]]));
    story.reply(&json!([false, T1, {}]));
    story.events();
    assert!(story.conversation.set_condition("T", None));
    story.drain();
    assert_eq!(story.expect_request("monitor_cond_change"), json!(["db", "db", {"T": [{"where": [true]}]}]));
    // What the server selected by the old condition meanwhile is no point to go on from.
    story.update(T2, &json!({"T": {A: {"insert": {"name": "a"}}}}));
    assert_eq!(story.events(), [changed(&[A])]);
    story.reply(&json!({}));
    assert_eq!(story.events(), [Event::Selected]);
    assert!(!story.conversation.set_condition("T", None));
    story.drain();
    story.expect_nothing();
    story.refuse();
    story.events();
    story.at(2);
    story.connect("tcp:one:6640");
    story.handshake(&standalone());
    assert_eq!(story.expect_request("monitor_cond_since")[3], Uuid::nil().to_string());
}

#[test]
fn a_condition_that_changes_while_rows_are_asked_for_is_told_afterwards() {
    let mut config = config("tcp:one");
    config.tables[0].condition = Some(json!([false]));
    let mut story = Story::new(config);
    story.connect("tcp:one:6640");
    story.handshake(&standalone());
    assert_eq!(story.expect_request("monitor_cond_since")[2]["T"][0]["where"], json!([false]));
    assert!(!story.conversation.set_condition("T", Some(json!([["name", "==", "a"]]))));
    story.drain();
    story.expect_nothing();
    story.reply(&json!([false, T1, {}]));
    assert_eq!(story.events(), [Event::Synced { fresh: true }]);
    assert!(story.conversation.awaits_selection(), "no rows are not all rows");
    let params = story.expect_request("monitor_cond_change");
    assert_eq!(params[2], json!({"T": [{"where": [["name", "==", "a"]]}]}));
    story.reply(&json!({}));
    assert_eq!(story.events(), [Event::Selected]);
    assert!(!story.conversation.awaits_selection());
}

#[test]
fn a_server_without_conditions_is_not_bothered_with_them() {
    let mut story = Story::new(config("tcp:one"));
    story.connect("tcp:one:6640");
    story.handshake(&standalone());
    for refused in ["monitor_cond_since", "monitor_cond"] {
        story.expect_request(refused);
        story.reply_error(&json!("unknown method"));
    }
    story.expect_request("monitor");
    story.reply(&json!({}));
    story.events();
    assert!(!story.conversation.set_condition("T", Some(json!([["name", "==", "a"]]))), "all rows come anyway");
    story.drain();
    story.expect_nothing();
}

#[test]
fn without_remotes_there_is_nothing_to_do_but_to_say_so() {
    let mut config = config("tcp:one");
    config.remotes.clear();
    let mut story = Story::new(config);
    assert!(is_down(&story.events()[0], "no remote"));
    assert_eq!(story.conversation.next_deadline(), None);
    story.at(1000).expect_nothing();
}

/// What a server might hold of one row.
type Model = (BTreeSet<String>, BTreeMap<String, String>, Option<i64>);

type Rows = BTreeMap<u8, Model>;

fn model() -> impl Strategy<Value = Model> {
    let word = || prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned);
    (
        prop::collection::btree_set(word(), 0..4),
        prop::collection::btree_map(word(), word(), 0..4),
        prop::option::of(0i64..3),
    )
}

fn uuid(number: u8) -> String {
    Uuid::from_u128(u128::from(number) + 1).to_string()
}

fn set(atoms: impl IntoIterator<Item = impl Into<Json>>) -> Json {
    json!(["set", atoms.into_iter().map(Into::into).collect::<Vec<Json>>()])
}

fn columns((tags, ids, port): &Model) -> Json {
    let pairs: Vec<_> = ids.iter().collect();
    json!({"tags": set(tags.iter().cloned()), "ids": ["map", pairs], "port": set(*port)})
}

/// What `update3` says to get from one state to the other, by the definition in ovsdb-server(7).
fn delta(old: &Rows, new: &Rows) -> Json {
    let mut updates = serde_json::Map::new();
    for number in old.keys().chain(new.keys()) {
        let update = match (old.get(number), new.get(number)) {
            (None, Some(row)) => json!({"insert": columns(row)}),
            (Some(_), None) => json!({"delete": null}),
            (Some(before), Some(after)) if before != after => {
                let mut changed = serde_json::Map::new();
                if before.0 != after.0 {
                    changed.insert("tags".to_owned(), set(before.0.symmetric_difference(&after.0).cloned()));
                }
                let keys: BTreeSet<_> = before.1.keys().chain(after.1.keys()).collect();
                let pairs: Vec<_> = keys
                    .into_iter()
                    .filter(|key| before.1.get(*key) != after.1.get(*key))
                    .map(|key| (key, after.1.get(key).or(before.1.get(key))))
                    .collect();
                if !pairs.is_empty() {
                    changed.insert("ids".to_owned(), json!(["map", pairs]));
                }
                if before.2 != after.2 {
                    changed.insert("port".to_owned(), set(after.2));
                }
                json!({"modify": changed})
            }
            _ => continue,
        };
        updates.insert(uuid(*number), update);
    }
    json!({"T": updates})
}

fn dump(rows: &Rows) -> Json {
    let rows: serde_json::Map<_, _> =
        rows.iter().map(|(n, row)| (uuid(*n), json!({"initial": columns(row)}))).collect();
    json!({"T": rows})
}

/// The copy, read back into the model.
fn copy(conversation: &Conversation) -> Rows {
    let read = |row: &Row| {
        let Value::Map(pairs) = &row["ids"] else { panic!("{row:?}") };
        let text = |atom: &Atom| if let Atom::String(s) = atom { s.to_string() } else { panic!("{atom:?}") };
        let Value::Set(port) = &row["port"] else { panic!("{row:?}") };
        let port = port.first().map(|atom| if let Atom::Integer(n) = atom { *n } else { panic!("{atom:?}") });
        let tags = row["tags"].strings().map(str::to_owned).collect();
        (tags, pairs.iter().map(|(k, v)| (text(k), text(v))).collect(), port)
    };
    let number = |uuid: &Uuid| u8::try_from(uuid.as_u128() - 1).unwrap();
    conversation.database()["T"].iter().map(|(uuid, row)| (number(uuid), read(&row))).collect()
}

#[derive(Clone, Copy, Debug)]
enum Route {
    Update,
    Missed,
    LostHistory,
}

proptest! {
    /// Whatever happens to the server's rows, and however they reach us, the copy is the same in the end, and exactly the rows that
    /// differ are told.
    #[test]
    fn the_copy_follows_the_server(steps in prop::collection::vec(
        (prop::collection::btree_map(0u8..5, model(), 0..5), prop::sample::select(vec![Route::Update, Route::Missed, Route::LostHistory])),
        1..12,
    )) {
        let mut story = Story::new(Config { probe: Duration::ZERO, ..config("tcp:one") });
        story.connect("tcp:one:6640");
        story.handshake(&standalone());
        story.expect_request("monitor_cond_since");
        story.reply(&json!([false, T1, {}]));
        story.events();
        let mut server = Rows::new();
        for (step, (rows, route)) in steps.into_iter().enumerate() {
            if let Route::Update = route {
                story.update(T1, &delta(&server, &rows));
            } else {
                story.at(100 * (step as u64 + 1)).refuse();
                story.events();
                story.connect("tcp:one:6640");
                story.handshake(&standalone());
                story.expect_request("monitor_cond_since");
                let found = matches!(route, Route::Missed);
                let updates = if found { delta(&server, &rows) } else { dump(&rows) };
                story.reply(&json!([found, T1, updates]));
            }
            prop_assert_eq!(&copy(&story.conversation), &rows);
            let differ: BTreeSet<u8> =
                server.keys().chain(rows.keys()).filter(|n| server.get(n) != rows.get(n)).copied().collect();
            let told: BTreeSet<u8> = story.events().iter().filter_map(|e| if let Event::Changed(c) = e { c.get("T") } else { None })
                .flatten().map(|uuid| u8::try_from(uuid.as_u128() - 1).unwrap()).collect();
            prop_assert_eq!(told, differ);
            server = rows;
        }
    }

    /// A damaged stream never panics, and never leaves the conversation without something to wait for.
    #[test]
    fn damage_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut story = Story::synced();
        let mut bytes = json!({"id": null, "method": "update3", "params": ["db", T2,
            {"T": {A: {"modify": {"tags": ["set", ["x"]], "ids": ["map", [["k", "v"]]], "port": 2}}, B: {"insert": {"name": "b"}}}}]})
            .to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        story.receive(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        story.receive(&bytes);
        prop_assert!(story.conversation.next_deadline().is_some());
    }
}
