//! A message in words: what it says, or what has to be done about it. For people, tools and log lines; values serialize to the
//! JSON that `ovn-bgpd decode` prints.

use serde::Serialize;

use super::attr::{AsPath, Attributes, Segment, name};
use super::{
    Capability, Context, Error, HEADER_LEN, MAX_EXTENDED_LEN, Message, NextHop, Nlri, Notification, Open, Origin,
    Treatment, Update, decode, frame,
};
use crate::types::Family;

/// What a message says, or the verdict on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH or unknown.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Octets given.
    pub length: usize,
    /// What a receiver does with it.
    pub outcome: Outcome,
    /// Octets from the start of the message (the Marker) to the fault that decides the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<usize>,
    /// What that fault is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the peer is told when the session ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification: Option<NotificationText>,
    /// What it says.
    #[serde(flatten)]
    pub content: Option<Content>,
    /// For treat-as-withdraw: every prefix in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withdraw: Vec<PrefixText>,
    /// Every fault of an UPDATE that does not end the session.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultText>,
}

/// What a receiver does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Processes it.
    Accept,
    /// Reads it and does nothing: a refresh of a family or of a kind that was not agreed (RFC 2918 §4, RFC 7313 §5).
    Ignore,
    /// Processes it without an attribute (RFC 7606 §2).
    AttributeDiscard,
    /// Withdraws every prefix in it (RFC 7606 §2).
    TreatAsWithdraw,
    /// Ends the session with a NOTIFICATION.
    SessionReset,
    /// Waits: the message is longer than what is there.
    Incomplete,
}

/// The body of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Of an OPEN.
    Open(OpenText),
    /// Of an UPDATE.
    Update(UpdateText),
    /// Of a NOTIFICATION.
    NotificationReceived(NotificationText),
    /// Of a ROUTE-REFRESH.
    RouteRefresh {
        /// Address family identifier.
        afi: u16,
        /// Request, BoRR or EoRR.
        subtype: u8,
        /// Subsequent address family identifier.
        safi: u8,
    },
}

/// A NOTIFICATION.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotificationText {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Their names.
    pub name: String,
    /// Data in hex.
    pub data: String,
    /// RFC 9003.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_communication: Option<String>,
    /// RFC 8538.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_reset: Option<Box<NotificationText>>,
}

/// An OPEN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenText {
    /// Protocol version.
    pub version: u8,
    /// The two-octet field.
    pub my_as: u16,
    /// The AS number, from the capability if there is one.
    pub asn: u32,
    /// Seconds.
    pub hold_time: u16,
    /// BGP Identifier.
    pub bgp_id: String,
    /// In the order sent.
    pub capabilities: Vec<CapabilityText>,
}

/// A capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CapabilityText {
    /// Capability code.
    pub code: u8,
    /// Its name.
    pub name: &'static str,
    /// What it says, in words; hex where it is not understood.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// An UPDATE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpdateText {
    /// Withdrawn Routes of the body.
    pub withdrawn: Vec<PrefixText>,
    /// NLRI of the body.
    pub nlri: Vec<PrefixText>,
    /// Attributes, without what was discarded.
    pub attributes: Vec<AttributeText>,
    /// Families that are not read on this session, as AFI/SAFI.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_families: Vec<String>,
    /// The family whose End-of-RIB it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_of_rib: Option<String>,
}

/// A prefix with its path identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrefixText {
    /// The prefix.
    pub prefix: String,
    /// RFC 7911.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_id: Option<u32>,
}

/// A path attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttributeText {
    /// Type code.
    #[serde(rename = "type")]
    pub code: u8,
    /// Its name.
    pub name: &'static str,
    /// What it says.
    #[serde(flatten)]
    pub value: ValueText,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ValueText {
    /// Nothing but that it is there.
    Present {},
    /// A number.
    Number {
        /// The number.
        value: u32,
    },
    /// A word or an address.
    Text {
        /// The word.
        value: String,
    },
    /// Several.
    List {
        /// In the order sent.
        values: Vec<String>,
    },
    /// AS_PATH.
    Path {
        /// In the order sent.
        segments: Vec<SegmentText>,
    },
    /// AGGREGATOR.
    Aggregator {
        /// Who aggregated.
        asn: u32,
        /// Which speaker.
        address: String,
    },
    /// MP_REACH_NLRI, MP_UNREACH_NLRI.
    Mp {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
        /// One or two addresses.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        next_hop: Vec<String>,
        /// Prefixes.
        nlri: Vec<PrefixText>,
    },
    /// Not understood.
    Opaque {
        /// Flags in hex.
        flags: String,
        /// Value in hex.
        value_hex: String,
    },
}

/// A segment of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentText {
    /// AS_SEQUENCE, AS_SET, AS_CONFED_SEQUENCE or AS_CONFED_SET.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// In the order sent.
    pub asns: Vec<u32>,
}

/// A fault of an UPDATE that does not end the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultText {
    /// Octets from the Marker.
    pub offset: usize,
    /// Attribute type code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<u8>,
    /// What is wrong.
    pub reason: String,
    /// What is done about it.
    pub treatment: Treatment,
}

/// Says what one message says to a receiver that has negotiated `ctx`, or what it has to do about it.
pub fn describe(octets: &[u8], ctx: &Context) -> Description {
    let kind = match octets.get(HEADER_LEN - 1) {
        Some(1) => "OPEN",
        Some(2) => "UPDATE",
        Some(3) => "NOTIFICATION",
        Some(4) => "KEEPALIVE",
        Some(5) => "ROUTE-REFRESH",
        _ => "unknown",
    };
    let mut description = Description {
        kind,
        length: octets.len(),
        outcome: Outcome::Accept,
        offset: None,
        reason: None,
        notification: None,
        content: None,
        withdraw: Vec::new(),
        faults: Vec::new(),
    };
    let framed = frame(octets, ctx.max_len().min(MAX_EXTENDED_LEN));
    match framed.and_then(|len| len.map(|_| decode(octets, ctx)).transpose()) {
        Ok(Some(message)) => description.fill(message, ctx),
        Ok(None) => {
            description.outcome = Outcome::Incomplete;
            description.reason = Some(missing(octets));
        }
        Err(Error { offset, reason, notification }) => {
            description.outcome = Outcome::SessionReset;
            description.offset = Some(offset);
            description.reason = Some(reason);
            description.notification = Some(notification_text(&notification));
        }
    }
    description
}

/// How much of a message is there.
fn missing(octets: &[u8]) -> String {
    match *octets.first_chunk::<HEADER_LEN>().unwrap_or(&[0; HEADER_LEN]) {
        [.., high, low, _] if octets.len() >= HEADER_LEN => {
            format!("{} of {} octets are there", octets.len(), u16::from_be_bytes([high, low]))
        }
        _ => format!("{} of the {HEADER_LEN} octets of a header are there", octets.len()),
    }
}

impl Description {
    fn fill(&mut self, message: Message, ctx: &Context) {
        self.content = match message {
            Message::Keepalive => None,
            Message::Open(open) => Some(Content::Open(open_text(&open))),
            Message::Notification(got) => Some(Content::NotificationReceived(notification_text(&got))),
            Message::RouteRefresh(refresh) => {
                if !refresh.is_for(ctx) {
                    self.outcome = Outcome::Ignore;
                }
                Some(Content::RouteRefresh { afi: refresh.afi, subtype: refresh.subtype, safi: refresh.safi })
            }
            Message::Update(update) => {
                self.verdict(&update);
                Some(Content::Update(update_text(&update)))
            }
        };
    }

    fn verdict(&mut self, update: &Update) {
        let treatment = update.treatment();
        self.outcome = match treatment {
            None | Some(Treatment::PrefixIgnore) => Outcome::Accept,
            Some(Treatment::AttributeDiscard) => Outcome::AttributeDiscard,
            Some(Treatment::TreatAsWithdraw) => Outcome::TreatAsWithdraw,
        };
        if let Some(fault) = update.faults.iter().find(|fault| Some(fault.treatment) == treatment) {
            self.offset = Some(fault.offset);
            self.reason = Some(fault.reason.clone());
        }
        if self.outcome == Outcome::TreatAsWithdraw {
            self.withdraw = update.prefixes().map(prefix_text).collect();
        }
        self.faults = update
            .faults
            .iter()
            .map(|f| FaultText {
                offset: f.offset,
                attribute: f.attribute,
                reason: f.reason.clone(),
                treatment: f.treatment,
            })
            .collect();
    }
}

fn notification_text(notification: &Notification) -> NotificationText {
    let name = match notification.name() {
        (name, Some(sub)) => format!("{name}/{sub}"),
        (name, None) => name.to_owned(),
    };
    NotificationText {
        code: notification.code,
        subcode: notification.subcode,
        name,
        data: hex(&notification.data),
        shutdown_communication: notification.shutdown_communication().map(str::to_owned),
        hard_reset: notification.hard_reset().map(|inner| Box::new(notification_text(&inner))),
    }
}

fn open_text(open: &Open) -> OpenText {
    OpenText {
        version: open.version,
        my_as: open.as2,
        asn: open.asn(),
        hold_time: open.hold_time,
        bgp_id: open.router_id.to_string(),
        capabilities: open
            .capabilities
            .iter()
            .map(|c| CapabilityText { code: c.code(), name: capability_name(c), value: capability_value(c) })
            .collect(),
    }
}

fn capability_name(capability: &Capability) -> &'static str {
    match capability {
        Capability::Multiprotocol { .. } => "multiprotocol",
        Capability::RouteRefresh => "route-refresh",
        Capability::ExtendedNextHop(_) => "extended-next-hop",
        Capability::ExtendedMessage => "extended-message",
        Capability::Role(_) => "role",
        Capability::GracefulRestart { .. } => "graceful-restart",
        Capability::FourOctetAs(_) => "four-octet-as",
        Capability::AddPath(_) => "add-path",
        Capability::EnhancedRouteRefresh => "enhanced-route-refresh",
        Capability::LongLivedGracefulRestart(_) => "llgr",
        Capability::Fqdn { .. } => "fqdn",
        Capability::SoftwareVersion(_) => "software-version",
        Capability::LinkLocalNextHop => "link-local-next-hop",
        Capability::Unknown { .. } => "unknown",
    }
}

fn capability_value(capability: &Capability) -> String {
    fn each<T>(list: &[T], text: impl Fn(&T) -> String) -> String {
        list.iter().map(text).collect::<Vec<_>>().join(", ")
    }
    let forwarding = |bit: bool| if bit { " forwarding" } else { "" };
    match capability {
        Capability::Multiprotocol { afi, safi } => format!("{afi}/{safi}"),
        Capability::ExtendedNextHop(list) => each(list, |(afi, safi, hop)| format!("{afi}/{safi} via AFI {hop}")),
        Capability::Role(role) => match role {
            0 => "provider".into(),
            1 => "route server".into(),
            2 => "route server client".into(),
            3 => "customer".into(),
            4 => "peer".into(),
            other => other.to_string(),
        },
        Capability::GracefulRestart { restarted, notification, restart_time, families } => {
            let flags = [(*restarted, " restarted"), (*notification, " notification")];
            let flags: String = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
            let families = each(families, |(afi, safi, f)| format!("; {afi}/{safi}{}", forwarding(*f)));
            format!("{restart_time} s{flags}{families}")
        }
        Capability::FourOctetAs(asn) => asn.to_string(),
        Capability::AddPath(list) => each(list, |(afi, safi, mode)| {
            let mode = ["", "receive", "send", "both"].get(usize::from(*mode)).copied().unwrap_or_default();
            format!("{afi}/{safi} {mode}")
        }),
        Capability::LongLivedGracefulRestart(list) => {
            each(list, |(afi, safi, f, time)| format!("{afi}/{safi} {time} s{}", forwarding(*f)))
        }
        Capability::Fqdn { host, domain } if domain.is_empty() => host.clone(),
        Capability::Fqdn { host, domain } => format!("{host}.{domain}"),
        Capability::SoftwareVersion(version) => version.clone(),
        Capability::Unknown { data, .. } => hex(data),
        Capability::RouteRefresh
        | Capability::ExtendedMessage
        | Capability::EnhancedRouteRefresh
        | Capability::LinkLocalNextHop => String::new(),
    }
}

fn update_text(update: &Update) -> UpdateText {
    UpdateText {
        withdrawn: update.withdrawn.iter().map(prefix_text).collect(),
        nlri: update.nlri.iter().map(prefix_text).collect(),
        attributes: attributes(update),
        other_families: update.other_families.iter().map(|(afi, safi)| format!("{afi}/{safi}")).collect(),
        end_of_rib: update.end_of_rib().map(|family| family.to_string()),
    }
}

fn attributes(update: &Update) -> Vec<AttributeText> {
    let Attributes {
        origin,
        as_path,
        med,
        local_pref,
        atomic_aggregate,
        aggregator,
        communities,
        originator_id,
        cluster_list,
        extended_communities,
        large_communities,
        otc,
        unknown,
    } = &update.attributes;
    let number = |value: u32| ValueText::Number { value };
    let text = |value: String| ValueText::Text { value };
    let list = |values: Vec<String>| (!values.is_empty()).then_some(ValueText::List { values });
    let large = |c: &super::LargeCommunity| format!("{}:{}:{}", c.global, c.local1, c.local2);
    let known = [
        (1, origin.map(|origin| text(origin_name(origin).into()))),
        (2, as_path.as_ref().map(path_text)),
        (3, update.next_hop.map(|address| text(address.to_string()))),
        (4, med.map(number)),
        (5, local_pref.map(number)),
        (6, atomic_aggregate.then_some(ValueText::Present {})),
        (7, aggregator.map(|a| ValueText::Aggregator { asn: a.asn, address: a.router_id.to_string() })),
        (8, list(communities.iter().map(|c| format!("{}:{}", c >> 16, c & 0xffff)).collect())),
        (9, originator_id.map(|id| text(id.to_string()))),
        (10, list(cluster_list.iter().map(ToString::to_string).collect())),
        (14, update.mp_reach.as_ref().map(|r| mp_text(r.family, next_hops(r.next_hop), &r.nlri))),
        (15, update.mp_unreach.as_ref().map(|(family, nlri)| mp_text(*family, Vec::new(), nlri))),
        (16, list(extended_communities.iter().map(|c| format!("{c:016x}")).collect())),
        (32, list(large_communities.iter().map(large).collect())),
        (35, otc.map(number)),
    ];
    let known = known.into_iter().filter_map(|(code, value)| Some((code, value?)));
    let unknown = unknown
        .iter()
        .map(|u| (u.code, ValueText::Opaque { flags: format!("{:02x}", u.flags), value_hex: hex(&u.value) }));
    known.chain(unknown).map(|(code, value)| AttributeText { code, name: name(code), value }).collect()
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Igp => "IGP",
        Origin::Egp => "EGP",
        Origin::Incomplete => "INCOMPLETE",
    }
}

fn path_text(AsPath(segments): &AsPath) -> ValueText {
    let kind = |segment: &Segment| match segment {
        Segment::Sequence(_) => "AS_SEQUENCE",
        Segment::Set(_) => "AS_SET",
        Segment::ConfedSequence(_) => "AS_CONFED_SEQUENCE",
        Segment::ConfedSet(_) => "AS_CONFED_SET",
    };
    let segments = segments.iter().map(|s| SegmentText { kind: kind(s), asns: s.asns().to_vec() });
    ValueText::Path { segments: segments.collect() }
}

fn next_hops(next_hop: NextHop) -> Vec<String> {
    match next_hop {
        NextHop::V4(address) => vec![address.to_string()],
        NextHop::V6(address) => vec![address.to_string()],
        NextHop::V6Pair(first, second) => vec![first.to_string(), second.to_string()],
    }
}

fn mp_text(family: Family, next_hop: Vec<String>, nlri: &[Nlri]) -> ValueText {
    let (afi, safi) = family.afi_safi();
    ValueText::Mp { afi, safi, next_hop, nlri: nlri.iter().map(prefix_text).collect() }
}

fn prefix_text(nlri: &Nlri) -> PrefixText {
    PrefixText { prefix: nlri.prefix.to_string(), path_id: nlri.path_id }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |text, octet| text + &format!("{octet:02x}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn say(body: &str) -> Value {
        let mut message = vec![0xff; 16];
        let body = octets(body);
        message.extend(u16::try_from(18 + body.len()).unwrap().to_be_bytes());
        message.extend(body);
        let ctx = Context { as4: true, ..Context::default() };
        serde_json::to_value(describe(&message, &ctx)).unwrap()
    }

    #[test]
    fn an_update_in_words() {
        let said = say("02 0000 0014 40010100 40020602010000fde9 400304c0000201 18c63364".replace(' ', "").as_str());
        let wanted = json!({
            "type": "UPDATE", "length": 47, "outcome": "accept",
            "update": {
                "withdrawn": [],
                "nlri": [{"prefix": "198.51.100.0/24"}],
                "attributes": [
                    {"type": 1, "name": "ORIGIN", "value": "IGP"},
                    {"type": 2, "name": "AS_PATH", "segments": [{"type": "AS_SEQUENCE", "asns": [65001]}]},
                    {"type": 3, "name": "NEXT_HOP", "value": "192.0.2.1"},
                ],
            },
        });
        assert_eq!(said, wanted);
    }

    #[test]
    fn a_fault_says_where_and_what_is_withdrawn() {
        let said = say("02 0000 0014 40010105 40020602010000fde9 400304c0000201 18c63364".replace(' ', "").as_str());
        assert_eq!(said["outcome"], "treat_as_withdraw");
        assert_eq!((&said["offset"], &said["reason"]), (&json!(26), &json!("ORIGIN 5")));
        assert_eq!(said["withdraw"], json!([{"prefix": "198.51.100.0/24"}]));
        assert_eq!(said["faults"][0]["treatment"], "treat_as_withdraw");
    }

    #[test]
    fn what_ends_the_session_says_so() {
        let said = say("0105fde900b4c000020100");
        assert_eq!(said["outcome"], "session_reset");
        assert_eq!(said["offset"], 19);
        assert_eq!(
            said["notification"],
            json!({"code": 2, "subcode": 1, "name": "OPEN Message Error/Unsupported Version Number", "data": "0004"})
        );
    }

    #[test]
    fn a_message_that_goes_on_is_incomplete() {
        let ctx = Context::default();
        let said = |octets: &[u8]| serde_json::to_value(describe(octets, &ctx)).unwrap();
        let mut update = [vec![0xff; 16], vec![0, 23, 2, 0, 0, 0, 0]].concat();
        assert_eq!(said(&update)["outcome"], "accept");
        update.pop();
        assert_eq!(
            said(&update),
            json!({"type": "UPDATE", "length": 22, "outcome": "incomplete", "reason": "22 of 23 octets are there"})
        );
        assert_eq!(said(&[])["reason"], "0 of the 19 octets of a header are there");
    }

    #[test]
    fn capabilities_in_words() {
        let said =
            say("0104fde900b4c0000201 15 0213 010400010001 4006c07800010180 0903 aabbcc".replace(' ', "").as_str());
        let said = &said["open"]["capabilities"];
        assert_eq!(said[0], json!({"code": 1, "name": "multiprotocol", "value": "1/1"}));
        assert_eq!(said[1]["value"], "120 s restarted notification; 1/1 forwarding");
        // Of wrong length: not understood.
        assert_eq!(said[2], json!({"code": 9, "name": "unknown", "value": "aabbcc"}));
    }
}
