//! The state that another process has left of its sessions: any text, and a good one with changes; then what the speaker that has
//! taken it over does with time and with what its peers say.
#![no_main]

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bgp::bfd::{HandedEntry, Lapse, SessionConfig, SessionKey, Table};
use bgp::rib::RouteSet;
use bgp::speaker::{ConnId, HandOver, Input, Output, Speaker};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// As it was written by the first version of this format.
const STATE: &str = include_str!("../../src/speaker/tests/hand_over-1.json");

fuzz_target!(|data: &[u8]| {
    let Some((&what, data)) = data.split_first() else { return };
    match what % 4 {
        0 => serde_json::from_slice(data).map(|state| go_on(state, &[])).unwrap_or_default(),
        1 => drop(serde_json::from_slice(data).map(watch)),
        2 => drop(serde_json::from_value(changed(entry().clone(), data).0).map(watch)),
        _ => {
            let (state, rest) = changed(state().clone(), data);
            serde_json::from_value(state).map(|state| go_on(state, rest)).unwrap_or_default();
        }
    }
});

fn state() -> &'static Value {
    static READ: OnceLock<Value> = OnceLock::new();
    READ.get_or_init(|| serde_json::from_str(STATE).expect("the state is no JSON"))
}

fn entry() -> &'static Value {
    static WRITTEN: OnceLock<Value> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let mut table = Table::new(1);
        let key = SessionKey { peer: [192, 0, 2, 1].into(), interface: Some("eth0".into()) };
        table.set(Instant::now(), key, SessionConfig::default(), None);
        let entries = table.hand_over(Instant::now());
        serde_json::to_value(entries.first()).expect("the session cannot be written")
    })
}

/// Up to eight changes, each in five octets: where, what, and two that say how.
fn changed(mut state: Value, data: &[u8]) -> (Value, &[u8]) {
    let Some((&count, mut data)) = data.split_first() else { return (state, data) };
    for _ in 0..count % 9 {
        let Some((&[high, low, what, a, b], rest)) = data.split_first_chunk() else { break };
        let mut paths = Vec::new();
        list(&state, String::new(), &mut paths);
        let path = paths.get(usize::from(u16::from_be_bytes([high, low])) % paths.len()).cloned().unwrap_or_default();
        let other = paths.get(usize::from(u16::from_be_bytes([a, b])) % paths.len()).cloned().unwrap_or_default();
        let other = state.pointer(&other).cloned().unwrap_or_default();
        if let Some(value) = state.pointer_mut(&path) {
            change(value, what, a, b, other);
        }
        data = rest;
    }
    (state, data)
}

fn list(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| list(value, format!("{path}/{key}"), paths)),
        Value::Array(members) => {
            members.iter().enumerate().for_each(|(index, value)| list(value, format!("{path}/{index}"), paths));
        }
        _ => {}
    }
    paths.push(path);
}

fn change(value: &mut Value, what: u8, a: u8, b: u8, other: Value) {
    // Counters are of a size that none reaches.
    let number = [0, 1, a.into(), u64::from(b) << 8, u32::MAX.into(), 1 << 63][usize::from(what >> 3) % 6];
    match (what % 6, &mut *value) {
        (0, Value::String(text)) if text.is_ascii() && !text.is_empty() => {
            let at = usize::from(a) % text.len();
            let by =
                if what & 64 == 0 { char::from(b"0123456789abcdef"[usize::from(b & 15)]) } else { char::from(b & 127) };
            text.replace_range(at..=at, &by.to_string());
        }
        (1, Value::String(text)) if text.is_ascii() => text.truncate(usize::from(a)),
        (2, Value::Array(members)) => {
            members.truncate(usize::from(a) % 8);
            members.push(other);
        }
        (0..=2, _) => *value = number.into(),
        (3, _) => *value = other,
        (4, _) => *value = Value::Null,
        _ => *value = (a & 1 == 0).into(),
    }
}

/// What reads is written and read again as the same; and the speaker goes on with it, for a while.
fn go_on(state: HandOver, mut rest: &[u8]) {
    let text = serde_json::to_string(&state).expect("what was read cannot be written");
    assert_eq!(serde_json::from_str::<HandOver>(&text).as_ref().ok(), Some(&state));
    let then = Instant::now();
    let mut now = then + Duration::from_millis(200);
    let (mut speaker, adoptions) = Speaker::adopt(now, then, state, 7);
    let conn = adoptions.iter().find_map(|adoption| adoption.outcome.clone().ok()).map(|(conn, _)| conn);
    settle(&mut speaker, now, conn);
    let _ = (speaker.neighbors(now).len(), speaker.learned().len(), speaker.refused().len(), speaker.routes().len());
    while let Some(([what, len], after)) = rest.split_first_chunk::<2>().map(|(head, after)| (*head, after)) {
        let (octets, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        match (what % 4, conn) {
            (0, Some(conn)) => speaker.handle(now, Input::Received { conn, bytes: Bytes::copy_from_slice(octets) }),
            (1, Some(conn)) => speaker.handle(now, Input::Lost { conn, why: "closed".into() }),
            (2, _) => speaker.set_routes(Arc::new(RouteSet::default().partial())),
            (3, _) => {
                let _ = speaker.hand_over(now, |_| Ok(7));
            }
            _ => {}
        }
        settle(&mut speaker, now, conn);
    }
    speaker.set_routes(Arc::default());
    for _ in 0..8 {
        settle(&mut speaker, now, conn);
        let Some(at) = speaker.next_deadline() else { break };
        now = now.max(at);
        speaker.handle_timeout(now);
    }
}

fn settle(speaker: &mut Speaker, now: Instant, ours: Option<ConnId>) {
    let mut count = 0;
    while let Some(output) = speaker.poll() {
        count += 1;
        assert!(count < 10_000, "it never comes to an end");
        let Output::Transmit(conn) = output else { continue };
        if Some(conn) == ours {
            let mut octets = BytesMut::new();
            while {
                octets.clear();
                speaker.transmit(now, conn, &mut octets, 4096);
                !octets.is_empty()
            } {}
        }
    }
}

fn watch(handed: HandedEntry) {
    let now = Instant::now();
    let lapse = Lapse { gap: Duration::from_millis(200), grace: Duration::from_secs(2) };
    let mut table = Table::new(3);
    let key = handed.key.clone();
    if !table.take_over(now, SessionConfig::default(), None, handed, lapse) {
        return;
    }
    for step in 0..8 {
        let now = now + Duration::from_millis(step * 300);
        let _ = table.transmit(now, &key);
        let _ = table.tick(now);
        let _ = (table.hand_over(now), table.next_deadline(now));
    }
}
