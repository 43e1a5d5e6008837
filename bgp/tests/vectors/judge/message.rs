//! BGP messages: what we would do, and whether that is what has to be done.

use std::net::Ipv4Addr;

use bgp::types::{Families, Family, PeerKind};
use bgp::wire::{
    Context, Error, ExpectedAs, MAX_EXTENDED_LEN, MAX_LEN, Message, OpenExpectations, Treatment, decode, encode, frame,
    open,
};
use bytes::BytesMut;
use serde_json::Value;

use super::{Verdict, hex, octets};
use super::{compare, machine};

/// The outcomes a record may ask for.
const OUTCOMES: [&str; 5] = ["accept", "ignore", "attribute_discard", "treat_as_withdraw", "session_reset"];

/// Attributes that are read, not only kept.
const ATTRIBUTES: [u64; 18] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 25, 32, 35];

/// RFCs a record may need that are followed (`docs/rfc.md`).
const RFCS: [u32; 33] = [
    1997, 2545, 2918, 4271, 4360, 4456, 4486, 4724, 4760, 5065, 5492, 5701, 6286, 6608, 6793, 7313, 7606, 7607, 7911,
    8092, 8203, 8326, 8538, 8654, 8950, 9003, 9072, 9234, 9384, 9494, 9687, 9774, 4893,
];

/// What we would do.
pub(super) enum Outcome {
    Accept(Message),
    Ignore(Message),
    Discard(Message),
    Withdraw(Message),
    Reset(Error),
}

impl Outcome {
    fn name(&self) -> &'static str {
        match self {
            Self::Accept(_) => "accept",
            Self::Ignore(_) => "ignore",
            Self::Discard(_) => "attribute_discard",
            Self::Withdraw(_) => "treat_as_withdraw",
            Self::Reset(_) => "session_reset",
        }
    }

    /// Whether it is an UPDATE of which nothing is ours: to accept that is to ignore it.
    fn is_of_others_only(&self) -> bool {
        let Self::Accept(Message::Update(update)) = self else { return false };
        !update.other_families.is_empty() && update.prefixes().next().is_none()
    }
}

/// Judges one record.
pub(super) fn judge(record: &Value) -> Verdict {
    let session = record.get("session").unwrap_or(&Value::Null);
    if let Some(why) = not_for_us(session) {
        return Verdict::Skip(why);
    }
    let Some(message) = record.get("hex").and_then(Value::as_str).and_then(octets) else {
        return Verdict::Fail("no octets in the record".into());
    };
    let ctx = context(session);
    let expect = record.get("expect").unwrap_or(&Value::Null);
    let wanted = expect.get("outcome").and_then(Value::as_str).unwrap_or_default();
    if !OUTCOMES.contains(&wanted) {
        return Verdict::Skip(format!("no outcome of ours is called {wanted:?}"));
    }
    let judged = said(&message, session, &ctx)
        .and_then(|outcome| compare_outcome(&outcome, expect, &ctx).map(|()| outcome))
        .and_then(|outcome| again(&outcome, &ctx).map(|()| outcome))
        .and_then(
            |outcome| if flag(expect, "ignore_route") { compare::unused(&outcome, session, &ctx) } else { Ok(()) },
        );
    judged.map_or_else(Verdict::Fail, |()| Verdict::Pass)
}

/// What we would do: in a state the record names, the state machine's answer; if it has none, and else, the decoder's.
fn said(message: &[u8], session: &Value, ctx: &Context) -> Result<Outcome, String> {
    if let Some(state) = session.get("state").and_then(Value::as_str)
        && let Some(notification) = machine::answer(message, state)?
    {
        return Ok(Outcome::Reset(Error { offset: 0, reason: format!("in state {state}"), notification }));
    }
    Ok(outcome(message, session, ctx))
}

/// A record may name what it needs; what we do not have is no failure.
fn not_for_us(session: &Value) -> Option<String> {
    // One value may stand without its list.
    let list = |key| match session.get(key) {
        Some(Value::Array(list)) => list.clone(),
        Some(Value::Null) | None => Vec::new(),
        Some(one) => vec![one.clone()],
    };
    let understood = |code: &Value| code.as_u64().is_some_and(|code| ATTRIBUTES.contains(&code));
    if let Some(attribute) = list("needs_attribute_support").into_iter().find(|code| !understood(code)) {
        return Some(format!("needs attribute {attribute}, which is left opaque here"));
    }
    let done = |rfc: &Value| {
        let number = rfc.as_str().and_then(|name| name.trim_start_matches("RFC").trim().parse::<u32>().ok());
        number.is_some_and(|number| RFCS.contains(&number))
    };
    if let Some(rfc) = list("needs").into_iter().find(|rfc| !done(rfc)) {
        return Some(format!("needs {rfc}, which is not implemented"));
    }
    if let Some(state) = session.get("state").and_then(Value::as_str).filter(|state| !machine::STATES.contains(state)) {
        return Some(format!("in state {state} nothing is read from a peer"));
    }
    let ours = |family: &Value| matches!(family.as_str(), Some("1/1" | "2/1"));
    if let Some(family) = list("required_families").into_iter().find(|family| !ours(family)) {
        return Some(format!("requires {family}, which no configuration can"));
    }
    None
}

fn flag(session: &Value, key: &str) -> bool {
    session.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn families(session: &Value, key: &str) -> Option<Families> {
    let list = session.get(key)?.as_array()?;
    let family = |name: &Value| match name.as_str() {
        Some("1/1") => Some(Family::Ipv4),
        Some("2/1") => Some(Family::Ipv6),
        _ => None,
    };
    Some(list.iter().filter_map(family).collect())
}

fn context(session: &Value) -> Context {
    Context {
        as4: flag(session, "as4"),
        families: families(session, "families").unwrap_or(Families::ALL),
        add_path: families(session, "add_path_rx").unwrap_or_default(),
        extended_next_hop: families(session, "enhe").is_some_and(|f| f.contains(Family::Ipv4)),
        extended_message: flag(session, "extended_message"),
        enhanced_refresh: flag(session, "enhanced_route_refresh"),
        peer: if session.get("peer").and_then(Value::as_str) == Some("ibgp") { PeerKind::Ibgp } else { PeerKind::Ebgp },
        confederation: flag(session, "confederation_peer"),
    }
}

fn expectations(session: &Value) -> OpenExpectations {
    let number = |key| session.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    OpenExpectations {
        local_as: number("local_as"),
        local_id: session.get("local_bgp_id").and_then(Value::as_str).and_then(|s| s.parse::<Ipv4Addr>().ok()),
        peer_as: number("expected_peer_as").map_or(ExpectedAs::Any, ExpectedAs::Is),
        role: number("local_role").and_then(|role| u8::try_from(role).ok()),
        role_strict: flag(session, "role_strict"),
        required_families: families(session, "required_families").unwrap_or_default(),
    }
}

fn outcome(octets: &[u8], session: &Value, ctx: &Context) -> Outcome {
    let max_len = if ctx.extended_message { MAX_EXTENDED_LEN } else { MAX_LEN };
    let message = match frame(octets, max_len).and_then(|_| decode(octets, ctx)) {
        Ok(message) => message,
        Err(error) => return Outcome::Reset(error),
    };
    match &message {
        Message::Open(value) => match open::check(value, &expectations(session)) {
            Ok(()) => Outcome::Accept(message),
            Err(error) => Outcome::Reset(error),
        },
        Message::Update(update) => match update.treatment() {
            Some(Treatment::TreatAsWithdraw) => Outcome::Withdraw(message),
            Some(Treatment::AttributeDiscard) => Outcome::Discard(message),
            Some(Treatment::PrefixIgnore) | None => Outcome::Accept(message),
        },
        Message::RouteRefresh(refresh) if !refresh.is_for(ctx) => Outcome::Ignore(message),
        Message::Notification(_) | Message::Keepalive | Message::RouteRefresh(_) => Outcome::Accept(message),
    }
}

fn compare_outcome(outcome: &Outcome, expect: &Value, ctx: &Context) -> Result<(), String> {
    let wanted = expect.get("outcome").and_then(Value::as_str).unwrap_or_default();
    if outcome.name() == wanted || (wanted == "ignore" && outcome.is_of_others_only()) {
        return match outcome {
            Outcome::Reset(error) => compare_reset(error, expect.get("notification").unwrap_or(&Value::Null)),
            Outcome::Withdraw(message) => compare::withdrawn(message, expect),
            Outcome::Accept(message) | Outcome::Ignore(message) | Outcome::Discard(message) => {
                compare::message(message, expect, ctx)
            }
        };
    }
    let mut alternatives =
        expect.get("alternatives").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    if alternatives.any(|alternative| is_alternative(outcome, alternative)) {
        return Ok(());
    }
    Err(match outcome {
        Outcome::Reset(error) => format!("{wanted} is due, we reset: {error} ({})", error.notification),
        Outcome::Withdraw(Message::Update(update)) | Outcome::Discard(Message::Update(update)) => {
            format!("{wanted} is due, we {}: {:?}", outcome.name(), update.faults)
        }
        _ => format!("{wanted} is due, we {}", outcome.name()),
    })
}

fn is_alternative(outcome: &Outcome, alternative: &str) -> bool {
    if alternative == outcome.name() {
        return true;
    }
    match (outcome, alternative) {
        // Treat-as-withdraw, too, leaves the session up and the route out.
        (Outcome::Accept(_), "accept_ignoring_capability") | (Outcome::Withdraw(_), "ignore_route") => true,
        (Outcome::Accept(_), "ignore") => outcome.is_of_others_only(),
        (Outcome::Reset(error), _) => {
            let this = format!("session_reset {}/{}", error.notification.code, error.notification.subcode);
            alternative == this
        }
        _ => false,
    }
}

fn compare_reset(error: &Error, wanted: &Value) -> Result<(), String> {
    let got = &error.notification;
    let code = |value: Option<&Value>| value.and_then(Value::as_u64).and_then(|n| u8::try_from(n).ok());
    let also = wanted.get("subcode_also").and_then(Value::as_array).into_iter().flatten();
    let subcodes: Vec<_> = std::iter::once(wanted.get("subcode")).chain(also.map(Some)).map(code).collect();
    if code(wanted.get("code")) != Some(got.code) || !subcodes.contains(&Some(got.subcode)) {
        return Err(format!("{wanted} is due, we send {got} because {error}"));
    }
    match wanted.get("data").and_then(Value::as_str) {
        Some(data) if data != hex(&got.data) => Err(format!("data {data} is due, we send {got}")),
        _ => Ok(()),
    }
}

/// What we have read we can write, and read again as the same.
fn again(outcome: &Outcome, ctx: &Context) -> Result<(), String> {
    let Outcome::Accept(message) = outcome else { return Ok(()) };
    if let Message::Update(update) = message
        && (!update.other_families.is_empty() || !update.faults.is_empty())
    {
        // What was left out cannot come back.
        return Ok(());
    }
    let mut out = BytesMut::new();
    encode(message, ctx, &mut out).map_err(|error| format!("does not encode: {error}"))?;
    match decode(&out, ctx) {
        Ok(second) if second == *message => Ok(()),
        second => Err(format!("reads {message:?}, written and read again {second:?}")),
    }
}
