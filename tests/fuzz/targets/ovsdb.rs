//! What an OVSDB server says, at any point of the conversation; and a dump cut into rows is the same dump read whole.
#![no_main]

use std::time::Instant;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use ovn_bgpd::ovsdb::conversation::{Config, Conversation, TableSpec};
use ovn_bgpd::ovsdb::remote::Remote;
use ovn_bgpd::ovsdb::replica::{Replica, Staged};
use ovn_bgpd::ovsdb::schema::Schema;
use serde_json::{Value, json};

const TRANSACTION: &str = "11111111-0000-4000-8000-000000000001";

fn schema() -> Value {
    let set = json!({"type": {"key": "string", "min": 0, "max": "unlimited"}});
    let map = json!({"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}});
    json!({"name": "db", "version": "1.0.0", "tables": {"T": {"columns": {
        "name": {"type": "string"}, "tags": set, "ids": map, "port": {"type": {"key": "integer", "min": 0, "max": 1}},
    }}}})
}

/// A conversation that has come so far: 0 connected, 1 schema asked for, 2 dump asked for, 3 following.
fn conversation(stage: u8) -> Conversation {
    let now = Instant::now();
    let tables = TableSpec::list(&[("T", &["name", "tags", "ids", "port"])]);
    let mut conversation = Conversation::new(Config::new("db", Remote::parse("tcp:a:1").unwrap(), tables), now);
    conversation.connected(now);
    let server = json!({"Database": {TRANSACTION: {"initial": {"name": "db", "model": "standalone", "connected": true}}}});
    let dump = json!([false, TRANSACTION, {"T": {TRANSACTION: {"initial": {"name": "a", "tags": ["set", ["x", "y"]]}}}}]);
    for (id, result) in (2..).zip([server, schema(), dump]).take(usize::from(stage)) {
        let message = json!({"id": id, "result": result, "error": null}).to_string();
        conversation.received(now, &mut BytesMut::from(message.as_str()));
    }
    assert_eq!(conversation.is_synced(), stage == 3);
    conversation
}

fuzz_target!(|data: &[u8]| {
    let Some(([kind, step], data)) = data.split_first_chunk() else { return };
    let now = Instant::now();
    let text = String::from_utf8_lossy(data);
    let step = usize::from(*step) + 1;
    match kind % 6 {
        stage @ 0..4 => {
            let mut conversation = conversation(stage);
            let mut buffer = BytesMut::new();
            for chunk in data.chunks(step) {
                buffer.extend_from_slice(chunk);
                conversation.received(now, &mut buffer);
            }
        }
        4 => {
            let mut conversation = conversation(3);
            let message = format!(r#"{{"id":null,"method":"update3","params":["db","{TRANSACTION}",{{"T":{text}}}]}}"#);
            conversation.received(now, &mut BytesMut::from(message.as_str()));
        }
        _ => {
            let mut cut = conversation(2);
            let message = format!(r#"{{"id":4,"result":[false,"{TRANSACTION}",{{"T":{text}}}],"error":null}}"#);
            let mut buffer = BytesMut::new();
            for chunk in message.as_bytes().chunks(step) {
                buffer.extend_from_slice(chunk);
                cut.received(now, &mut buffer);
            }
            let mut whole = Replica::default();
            let tables = TableSpec::list(&[("T", &["name", "tags", "ids", "port"])]);
            whole.choose(&tables, &Schema::parse(&schema()).unwrap());
            let sound = serde_json::from_str::<Value>(&message).is_ok();
            if whole.replace(Staged::default(), &format!(r#"{{"T":{text}}}"#)).is_ok() && sound && cut.is_synced() {
                assert_eq!(cut.database(), whole.database());
            }
        }
    }
});
