//! BFD control packets: accepted or dropped, by which rule, and what the session makes of it.

use std::net::IpAddr;
use std::time::Instant;

use bgp::bfd::{
    Arrival, Auth, AuthKind, Discard, HandedAuth, HandedSession, Keys, Lapse, Packet, Session, SessionConfig,
    SessionKey, State, Table,
};
use serde_json::Value;

use super::{Verdict, octets};

/// The port of single-hop control packets (RFC 5881 §4).
const PORT: u64 = 3784;

/// Judges one record.
pub(super) fn judge(record: &Value) -> Verdict {
    let sessions = record.pointer("/context/sessions").and_then(Value::as_array).into_iter().flatten();
    let mut auths = sessions.filter_map(|session| session.get("auth")).filter(|auth| !auth.is_null());
    if let Some(auth) = auths.find(|auth| authentication(auth).is_err()) {
        return Verdict::Skip(format!("no such authentication can be configured: {auth}"));
    }
    let verdict = record.pointer("/expect/verdict").and_then(Value::as_str).unwrap_or_default();
    if !matches!(verdict, "accept" | "discard") {
        return Verdict::Skip(format!("no verdict of ours is called {verdict:?}"));
    }
    match compare(record) {
        Ok(()) => Verdict::Pass,
        Err(why) => Verdict::Fail(why),
    }
}

fn compare(record: &Value) -> Result<(), String> {
    let payload = text(record, "hex").and_then(octets).ok_or("no octets in the record")?;
    let context = record.get("context").ok_or("no context")?;
    let expect = record.get("expect").ok_or("nothing is expected")?;
    let now = Instant::now();
    let mut table = Table::new(1);
    for session in context.get("sessions").and_then(Value::as_array).into_iter().flatten() {
        adopt(&mut table, now, session)?;
    }
    let packet = context.get("packet").ok_or("no packet")?;
    let ours = packet.get("dport").and_then(Value::as_u64).is_none_or(|port| port == PORT);
    if !ours && text(expect, "verdict") == Some("discard") && text(expect, "rule").is_some_and(|r| r.contains("port")) {
        // Nobody listens there.
        return Ok(());
    }
    let ttl = match packet.get("ttl") {
        // For another port the record is about the octets alone: single hop is a matter of port 3784.
        Some(ttl) if ours => ttl.as_u64().and_then(|n| u8::try_from(n).ok()).ok_or("no TTL")?,
        _ => 255,
    };
    let interface = text(packet, "interface").unwrap_or_default();
    let arrival = Arrival { at: now, source: address(packet, "src")?, interface, ttl };
    let outcome = table.receive(&arrival, &payload);
    let wanted = text(expect, "verdict").unwrap_or_default();
    let got = if outcome.is_ok() { "accept" } else { "discard" };
    if got != wanted {
        let mut alternatives = expect.get("alternatives").and_then(Value::as_array).into_iter().flatten();
        return if alternatives.any(|alternative| alternative.as_str() == Some(got)) {
            Ok(())
        } else {
            Err(format!("{wanted} is due, we {got}: {outcome:?}"))
        };
    }
    match outcome {
        Err(rule) => compare_rule(rule, text(expect, "rule").unwrap_or_default(), &table),
        Ok(key) => {
            compare_fields(&payload, expect)?;
            compare_session(&mut table, &key, now, expect)
        }
    }
}

fn adopt(table: &mut Table, now: Instant, session: &Value) -> Result<(), String> {
    let number = |key| session.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let state = match text(session, "state") {
        Some("AdminDown") => State::AdminDown,
        Some("Down") => State::Down,
        Some("Init") => State::Init,
        Some("Up") => State::Up,
        other => return Err(format!("no such state: {other:?}")),
    };
    let auth = session.get("auth").filter(|auth| !auth.is_null()).map(authentication).transpose()?;
    let discriminator = number("local_discr").ok_or("no discriminator")?;
    let config = SessionConfig::default();
    let known = number("remote_discr_known").unwrap_or(0);
    let mut handed = HandedSession::settled(state, &config, discriminator, known);
    handed.auth = auth.as_ref().map(Auth::hand_over);
    let adopted =
        Session::take_over(now, config, auth, &handed, Lapse::default(), 1).ok_or("it cannot be taken over")?;
    let interface = text(session, "interface").map(str::to_owned);
    table.adopt(now, SessionKey { peer: address(session, "peer_address")?, interface }, adopted);
    Ok(())
}

fn authentication(auth: &Value) -> Result<Auth, String> {
    let code = auth.get("type").and_then(Value::as_u64).and_then(|n| u8::try_from(n).ok());
    let kind = code.and_then(AuthKind::from_code).ok_or("no such Auth Type")?;
    let keys = auth.get("keys").and_then(Value::as_object).into_iter().flatten();
    let keys = keys.filter_map(|(id, key)| Some((id.parse().ok()?, octets(key.as_str()?)?)));
    let mut made = Auth::new(Keys::new(kind, keys).ok_or("no usable keys")?, 1);
    if auth.get("seq_known").and_then(Value::as_bool) == Some(true) {
        let sequence = auth.get("rcv_seq").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        made.take_over(HandedAuth { received_sequence: sequence, ..made.hand_over() });
    }
    Ok(made)
}

/// A record names the rule in words at its end. For words not met before the drop itself has to do.
fn compare_rule(rule: Discard, wanted: &str, table: &Table) -> Result<(), String> {
    if table.discards().get(&rule) != Some(&1) {
        return Err(format!("{rule} was not counted"));
    }
    let words = wanted.find('(').and_then(|at| wanted.get(at..)).unwrap_or_default();
    let due: &[Discard] = match words {
        "(Length against payload)" => &[Discard::Truncated, Discard::LengthBeyondPayload],
        "(version)" => &[Discard::Version],
        "(Length minimum)" => &[Discard::Length],
        "(Detect Mult)" => &[Discard::DetectMult],
        "(Multipoint)" => &[Discard::Multipoint],
        "(My Discriminator)" => &[Discard::MyDiscriminator],
        "(Your Discriminator 0, State)" => &[Discard::ZeroDiscriminator],
        "(no session)" => &[Discard::NoSession, Discard::UnknownDiscriminator],
        "(TTL)" => &[Discard::Ttl],
        "(A bit, no authentication in use)" => &[Discard::AuthUnexpected],
        "(no A bit, authentication in use)" => &[Discard::AuthMissing],
        "(Auth Type)" => &[Discard::AuthType],
        "(Auth Len)" => &[Discard::AuthLength],
        "(Key ID)" => &[Discard::AuthKey],
        "(sequence)" => &[Discard::AuthSequence],
        "(digest)" => &[Discard::AuthDigest],
        "(bfd.SessionState is AdminDown)" => &[Discard::AdminDown],
        _ => return Ok(()),
    };
    if due.contains(&rule) { Ok(()) } else { Err(format!("dropped by {rule}, {wanted} is due")) }
}

fn compare_fields(payload: &[u8], expect: &Value) -> Result<(), String> {
    let Some(wanted) = expect.get("fields") else { return Ok(()) };
    let (packet, covered) = Packet::parse(payload).map_err(|rule| rule.to_string())?;
    let got = serde_json::json!({
        "version": 1,
        "diag": packet.diagnostic.0,
        "state": packet.state.to_string(),
        "poll": packet.poll,
        "final": packet.r#final,
        "cpi": packet.control_plane_independent,
        "auth_present": packet.authentication,
        "demand": packet.demand,
        "multipoint": false,
        "detect_mult": packet.detect_mult,
        "length": covered.len(),
        "my_discriminator": packet.my_discriminator,
        "your_discriminator": packet.your_discriminator,
        "desired_min_tx_us": packet.desired_min_tx,
        "required_min_rx_us": packet.required_min_rx,
        "required_min_echo_rx_us": packet.required_min_echo_rx,
    });
    let read = |name: &String| got.get(name);
    let differs = |(name, value): &(&String, &Value)| read(name).is_some_and(|read| read != *value);
    match wanted.as_object().into_iter().flatten().find(differs) {
        Some((name, value)) => Err(format!("{name} {value} is due, we read {got}")),
        None => Ok(()),
    }
}

fn compare_session(table: &mut Table, key: &SessionKey, now: Instant, expect: &Value) -> Result<(), String> {
    table.tick(now);
    let sent: Vec<Vec<u8>> = std::iter::from_fn(|| table.transmit(now, key)).collect();
    let finals = sent.iter().filter_map(|payload| Packet::parse(payload).ok()).filter(|(packet, _)| packet.r#final);
    let replied = finals.count() > 0;
    let session = table.session(key).ok_or("the session is gone")?;
    let got = serde_json::json!({
        "session_local_discr": session.local_discriminator(),
        "state_after": session.state().to_string(),
        "local_diag": session.diagnostics().0.0,
        "reply_with_final": replied,
    });
    for field in ["session_local_discr", "state_after", "local_diag", "reply_with_final"] {
        if let Some(wanted) = expect.get(field)
            && Some(wanted) != got.get(field)
        {
            return Err(format!("{field} {wanted} is due, we have {got}"));
        }
    }
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn address(value: &Value, key: &str) -> Result<IpAddr, String> {
    text(value, key).and_then(|text| text.parse().ok()).ok_or_else(|| format!("{key} is no address"))
}
