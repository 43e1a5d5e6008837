//! The options of a session, as they stand in a peer group or a neighbour, and what becomes of them together.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bgp::policy::{LimitAction, MaxPrefixes, Role};
use bgp::speaker::{
    AddPath, AllowAsIn, AoAlgorithm, LocalAs, NextHopFormat, PeerAddress, PeerConfig, RemoteAs, Secret, TcpAo,
};
use bgp::types::{AS_TRANS, Asn, Families, Family};

use super::export::{self, Export};
use super::read::{At, Doc, Span, Table, Value};

/// Where a password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Inline(Secret),
    File(PathBuf),
}

/// `false`, or something.
type Switch<T> = Option<T>;

macro_rules! options {
    ($($name:ident: $type:ty,)*) => {
        /// Every key is optional here: what a neighbour does not say, its group may; what neither says has a default.
        #[derive(Clone, Debug, Default)]
        pub(super) struct Options {
            $(pub(super) $name: Option<At<$type>>,)*
        }

        impl Options {
            /// What `self` does not say is taken from `base`.
            pub(super) fn or(self, base: &Self) -> Self {
                Self { $($name: self.$name.or_else(|| base.$name.clone()),)* }
            }
        }
    };
}

options! {
    description: String,
    remote_as: RemoteAs,
    local_as: LocalAs,
    key: Key,
    tcp_ao: TcpAo,
    families: Families,
    add_path: AddPath,
    allowas_in: AllowAsIn,
    hold_time: Duration,
    keepalive: Duration,
    send_hold_time: Duration,
    connect_retry: Duration,
    ttl_security: Switch<u8>,
    ebgp_multihop: Switch<u8>,
    next_hop_self: bool,
    nexthop_format: NextHopFormat,
    prefix_list_in: String,
    prefix_list_out: String,
    max_prefixes: MaxPrefixes,
    bfd: Switch<String>,
    bfd_strict: bool,
    bfd_graceful: bool,
    role: Role,
    role_strict: bool,
    enforce_first_as: bool,
    export: Vec<Export>,
    local_address: IpAddr,
    bind_interface: String,
    port: u16,
    passive: bool,
    graceful_shutdown: bool,
    shutdown: Switch<String>,
}

impl Options {
    /// Reads the keys a peer group and a neighbour have in common.
    pub(super) fn read(table: &mut Table<'_>, doc: &Doc<'_>, allow_hold_time_zero: bool) -> Self {
        let mut get = |key| table.get(key);
        Self {
            description: get("description").and_then(|v| v.string(doc)),
            // After a complaint a stand-in keeps it from being called missing as well.
            remote_as: get("remote_as").map(|v| remote_as(&v, doc).unwrap_or_else(|| v.at(RemoteAs::Auto))),
            local_as: get("local_as").and_then(|v| local_as(&v, doc)),
            key: key(get("password").as_ref(), get("password_file").as_ref(), doc),
            tcp_ao: get("tcp_ao").and_then(|v| tcp_ao(&v, doc)),
            families: get("families").and_then(|v| families(&v, doc)),
            add_path: get("add_path").and_then(|v| add_path(&v, doc)),
            allowas_in: get("allowas_in").and_then(|v| allowas_in(&v, doc)),
            hold_time: get("hold_time").and_then(|v| hold_time(&v, doc, allow_hold_time_zero)),
            keepalive: get("keepalive").and_then(|v| whole_seconds(&v, doc, 1)),
            send_hold_time: get("send_hold_time").and_then(|v| send_hold_time(&v, doc)),
            connect_retry: get("connect_retry").and_then(|v| at_least(&v, doc, Duration::from_millis(100))),
            ttl_security: get("ttl_security").and_then(|v| hops(&v, doc, 1..=254)),
            ebgp_multihop: get("ebgp_multihop").and_then(|v| hops(&v, doc, 1..=255)),
            next_hop_self: get("next_hop_self").and_then(|v| v.bool(doc)),
            nexthop_format: get("nexthop_format").and_then(|v| {
                v.word(
                    doc,
                    &[
                        ("auto", NextHopFormat::Auto),
                        ("single", NextHopFormat::Single),
                        ("double", NextHopFormat::Double),
                        ("native", NextHopFormat::Native),
                    ],
                )
            }),
            prefix_list_in: get("prefix_list_in").and_then(|v| v.string(doc)),
            prefix_list_out: get("prefix_list_out").and_then(|v| v.string(doc)),
            max_prefixes: get("max_prefixes").and_then(|v| max_prefixes(&v, doc)),
            bfd: get("bfd").and_then(|v| name_or_false(&v, doc, "a BFD profile")),
            bfd_strict: get("bfd_strict").and_then(|v| v.bool(doc)),
            bfd_graceful: get("bfd_graceful").and_then(|v| v.bool(doc)),
            role: get("role").and_then(|v| role(&v, doc)),
            role_strict: get("role_strict").and_then(|v| v.bool(doc)),
            enforce_first_as: get("enforce_first_as").and_then(|v| v.bool(doc)),
            export: get("export").and_then(|v| export::read(&v, doc)),
            local_address: get("local_address").and_then(|v| v.parse(doc, "an IP address")),
            bind_interface: get("bind_interface").and_then(|v| interface(&v, doc)),
            port: get("port").and_then(|v| port(&v, doc)),
            passive: get("passive").and_then(|v| v.bool(doc)),
            graceful_shutdown: get("graceful_shutdown").and_then(|v| v.bool(doc)),
            shutdown: get("shutdown").and_then(|v| shutdown(&v, doc)),
        }
    }

    /// Faults of options that are fine each, but not together.
    pub(super) fn check(&self, doc: &Doc<'_>, address: &PeerAddress, our_as: Asn) {
        self.check_timers(doc);
        self.check_send_hold(doc);
        if let (Some(gtsm), Some(At { value: Some(_), .. })) = (&self.ttl_security, &self.ebgp_multihop)
            && gtsm.value.is_some()
        {
            let message = "'ttl_security' and 'ebgp_multihop' contradict each other";
            doc.error_hint(&gtsm.span, message, "ttl_security = N also allows N hops: leave ebgp_multihop out");
        }
        if let (Some(local), PeerAddress::Numbered(peer)) = (&self.local_address, address)
            && local.value.is_ipv4() != peer.is_ipv4()
        {
            let message = format!("'local_address' {} is not of the family of the neighbour {peer}", local.value);
            doc.error(&local.span, message);
        }
        if let (Some(local), PeerAddress::Interface(name)) = (&self.local_address, address) {
            let hint = format!("leave it out: the link-local address of {name} is used");
            doc.error_hint(&local.span, "'local_address' cannot be chosen for a neighbour without a number", hint);
        }
        for (key, flag) in [("bfd_strict", &self.bfd_strict), ("bfd_graceful", &self.bfd_graceful)] {
            if let (Some(flag), None | Some(At { value: None, .. })) = (flag, &self.bfd)
                && flag.value
            {
                doc.error_hint(&flag.span, format!("'{key}' without 'bfd'"), "name a profile: bfd = \"…\"");
            }
        }
        if let (Some(ao), None) = (&self.tcp_ao, &self.key) {
            doc.error_hint(&ao.span, "'tcp_ao' without a secret", "password or password_file holds it");
        }
        self.check_role(doc, our_as);
        self.check_local_as(doc, our_as);
    }

    fn check_local_as(&self, doc: &Doc<'_>, our_as: Asn) {
        let Some(local) = &self.local_as else { return };
        if local.value.asn == our_as {
            let message = format!("'local_as' is {our_as}, which is our AS number anyway");
            doc.error_hint(&local.span, message, "leave it out");
        }
        let internal = match self.remote_as.as_ref().map(|remote| remote.value) {
            Some(RemoteAs::Internal) => true,
            Some(RemoteAs::Number(remote)) => remote == our_as || remote == local.value.asn,
            _ => false,
        };
        if internal {
            doc.error(&local.span, "'local_as' is for external neighbours only, and this one is internal");
        }
    }

    fn check_timers(&self, doc: &Doc<'_>) {
        let (Some(hold), Some(keepalive)) = (&self.hold_time, &self.keepalive) else {
            if let Some(keepalive) = &self.keepalive {
                let default = default_hold_time();
                if keepalive.value >= default {
                    let message =
                        format!("'keepalive' is not less than the default hold_time of {}s", default.as_secs());
                    doc.error(&keepalive.span, message);
                }
            }
            return;
        };
        if !hold.value.is_zero() && keepalive.value >= hold.value {
            doc.error_hint(
                &keepalive.span,
                "'keepalive' must be less than 'hold_time', or the neighbour would give up on us",
                format!("a third of it is usual: \"{}s\"", (hold.value.as_secs() / 3).max(1)),
            );
        }
    }

    /// RFC 9687 §4.4: "If SendHoldTime is non-zero, then it MUST be greater than the value of HoldTime".
    fn check_send_hold(&self, doc: &Doc<'_>) {
        let Some(send_hold) = &self.send_hold_time else { return };
        let hold_time = self.hold_time.as_ref().map_or_else(default_hold_time, |hold| hold.value);
        if !send_hold.value.is_zero() && send_hold.value <= hold_time {
            let hold_time = super::duration::format(hold_time);
            doc.error_hint(
                &send_hold.span,
                format!("'send_hold_time' must be longer than the hold time, which is {hold_time} (RFC 9687 §4.4)"),
                "leave it out for eight minutes or twice the hold time, whichever is longer; \"0s\": never",
            );
        }
    }

    fn check_role(&self, doc: &Doc<'_>, our_as: Asn) {
        if let (Some(strict), None) = (&self.role_strict, &self.role)
            && strict.value
        {
            doc.error_hint(&strict.span, "'role_strict' without 'role'", "a hypervisor is its leaf's \"customer\"");
        }
        let (Some(role), Some(remote)) = (&self.role, &self.remote_as) else { return };
        let internal = match remote.value {
            RemoteAs::Internal => true,
            RemoteAs::Number(asn) => asn == our_as,
            RemoteAs::External | RemoteAs::Auto => false,
        };
        if internal {
            doc.error(&role.span, "'role' is for external neighbours only (RFC 9234), and this one is internal");
        }
    }

    /// The speaker's own words, with its defaults where nothing is said.
    pub(super) fn peer_config(&self, address: PeerAddress) -> PeerConfig {
        let mut peer = PeerConfig::new(address, self.remote_as.as_ref().map_or(RemoteAs::Auto, |r| r.value));
        peer.description = self.description.as_ref().map(|d| d.value.clone());
        if let Some(At { value: Key::Inline(secret), .. }) = &self.key {
            peer.password = Some(secret.clone());
        }
        set(&mut peer.families, self.families.as_ref());
        set(&mut peer.add_path, self.add_path.as_ref());
        set(&mut peer.allowas_in, self.allowas_in.as_ref());
        set(&mut peer.hold_time, self.hold_time.as_ref());
        peer.keepalive = self.keepalive.as_ref().map(|k| k.value);
        peer.send_hold_time = self.send_hold_time.as_ref().map(|s| s.value);
        set(&mut peer.connect_retry, self.connect_retry.as_ref());
        set(&mut peer.ttl_security, self.ttl_security.as_ref());
        set(&mut peer.multihop, self.ebgp_multihop.as_ref());
        set(&mut peer.next_hop_self, self.next_hop_self.as_ref());
        set(&mut peer.next_hop_format, self.nexthop_format.as_ref());
        peer.tcp_ao = self.tcp_ao.as_ref().map(|ao| ao.value);
        peer.local_as = self.local_as.as_ref().map(|l| l.value);
        peer.role = self.role.as_ref().map(|r| r.value);
        set(&mut peer.role_strict, self.role_strict.as_ref());
        set(&mut peer.enforce_first_as, self.enforce_first_as.as_ref());
        peer.max_prefixes = self.max_prefixes.as_ref().map(|m| m.value);
        set(&mut peer.passive, self.passive.as_ref());
        peer.local_address = self.local_address.as_ref().map(|l| l.value);
        peer.bind_interface = self.bind_interface.as_ref().map(|b| b.value.clone());
        set(&mut peer.port, self.port.as_ref());
        set(&mut peer.graceful_shutdown, self.graceful_shutdown.as_ref());
        set(&mut peer.shutdown, self.shutdown.as_ref());
        peer
    }
}

fn set<T: Clone>(field: &mut T, value: Option<&At<T>>) {
    if let Some(value) = value {
        *field = value.value.clone();
    }
}

/// What a neighbour without a `hold_time` gets.
fn default_hold_time() -> Duration {
    PeerConfig::new(PeerAddress::Interface(String::new()), RemoteAs::Auto).hold_time
}

/// An AS number that somebody may have (RFC 7607: not 0; RFC 6793: not AS_TRANS; RFC 7300: not the last ones).
pub(super) fn asn(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<Asn>> {
    let asn: At<Asn> = value.integer(doc, 1..=i128::from(u32::MAX), "an AS number")?;
    let why = match asn.value {
        trans if trans == Asn::from(AS_TRANS) => "AS_TRANS, which stands for a number that does not fit (RFC 6793)",
        65535 | u32::MAX => "reserved (RFC 7300)",
        _ => return Some(asn),
    };
    doc.error(&asn.span, format!("'{}' is {}: that is {why}", value.key(), asn.value));
    None
}

fn remote_as(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<RemoteAs>> {
    if value.is_str() {
        let words = [("internal", RemoteAs::Internal), ("external", RemoteAs::External), ("auto", RemoteAs::Auto)];
        if let Some(number) = value.quoted_number() {
            let message = format!("'remote_as' cannot be \"{number}\"");
            doc.error_hint(&value.span, message, format!("a number has no quotation marks: {number}"));
            return None;
        }
        return value.word(doc, &words);
    }
    if !value.is_integer() {
        doc.error(&value.span, "'remote_as' must be \"internal\", \"external\", \"auto\" or a number");
        return None;
    }
    asn(value, doc).map(|at| At { value: RemoteAs::Number(at.value), span: at.span })
}

/// `{ send_id = 1, receive_id = 1, algorithm = "hmac-sha1-96" }`, each with a default.
fn tcp_ao(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<TcpAo>> {
    let mut table = value.table(doc)?;
    let mut id = |key| table.get(key).and_then(|v| v.integer(doc, 0..=255, "a key's number")).map_or(1, |at| at.value);
    let (send_id, receive_id) = (id("send_id"), id("receive_id"));
    let words = [("hmac-sha1-96", AoAlgorithm::HmacSha1), ("aes-128-cmac-96", AoAlgorithm::Aes128Cmac)];
    let algorithm = table.get("algorithm").and_then(|v| v.word(doc, &words)).map(|at| at.value).unwrap_or_default();
    table.finish(doc);
    Some(value.at(TcpAo { send_id, receive_id, algorithm }))
}

/// A number, or `{ asn = …, replace_as = true }`.
fn local_as(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<LocalAs>> {
    if !value.is_table() {
        return asn(value, doc).map(|at| At { value: LocalAs { asn: at.value, replace_as: false }, span: at.span });
    }
    let mut table = value.table(doc)?;
    let number = table.get("asn");
    if number.is_none() {
        doc.error(&table.span, "'local_as' lacks 'asn'");
    }
    let number = number.and_then(|v| asn(&v, doc));
    let replace_as = table.get("replace_as").and_then(|v| v.bool(doc)).is_some_and(|at| at.value);
    table.finish(doc);
    Some(value.at(LocalAs { asn: number?.value, replace_as }))
}

pub(super) fn key(password: Option<&Value<'_>>, file: Option<&Value<'_>>, doc: &Doc<'_>) -> Option<At<Key>> {
    if let (Some(_), Some(file)) = (password, file) {
        doc.error_hint(&file.span, "both 'password' and 'password_file'", "keep one of them");
    }
    match (password, file) {
        (Some(value), _) => {
            // Whatever is wrong with it, the text itself is never repeated.
            let text = value.string(doc)?;
            check_secret(&text.value).map_err(|error| doc.error(&value.span, format!("'password' {error}"))).ok()?;
            Some(value.at(Key::Inline(Secret::new(text.value))))
        }
        (None, Some(value)) => value.string(doc).map(|path| value.at(Key::File(path.value.into()))),
        (None, None) => None,
    }
}

/// What is wrong with a password, to be read after where it stands.
pub(super) fn check_secret(text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err("is empty".to_owned()),
        len if len > Secret::MAX_LEN => Err(format!("is {len} octets long: TCP-MD5 takes {} at most", Secret::MAX_LEN)),
        _ => Ok(()),
    }
}

fn families(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<Families>> {
    let words = [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];
    let items = value.array(doc)?;
    if items.is_empty() {
        doc.error_hint(&value.span, "'families' is empty: nothing could be exchanged", "[\"ipv4\", \"ipv6\"]");
    }
    let list = items.iter().filter_map(|item| item.word(doc, &words));
    Some(value.at(list.map(|f| f.value).collect()))
}

/// `false`, one of the words for both families, or a table with a word for each.
fn add_path(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<AddPath>> {
    if value.is_bool() {
        if value.bool(doc)?.value {
            let message = "'add_path' = true does not say in which direction";
            doc.error_hint(&value.span, message, "\"receive\", \"send\" or \"both\"");
            return None;
        }
        return Some(value.at(AddPath::default()));
    }
    if !value.is_table() {
        let (receive, send) = directions(value, doc)?;
        let all = |yes| if yes { Families::ALL } else { Families::NONE };
        return Some(value.at(AddPath { receive: all(receive), send: all(send) }));
    }
    let mut table = value.table(doc)?;
    let mut add_path = AddPath::default();
    for (key, family) in [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)] {
        let Some((receive, send)) = table.get(key).and_then(|v| directions(&v, doc)) else { continue };
        if receive {
            add_path.receive = add_path.receive.with(family);
        }
        if send {
            add_path.send = add_path.send.with(family);
        }
    }
    table.finish(doc);
    Some(value.at(add_path))
}

/// Whether to receive, and whether to send.
fn directions(value: &Value<'_>, doc: &Doc<'_>) -> Option<(bool, bool)> {
    let words = [("receive", (true, false)), ("send", (false, true)), ("both", (true, true))];
    value.word(doc, &words).map(|at| at.value)
}

fn allowas_in(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<AllowAsIn>> {
    if value.is_str() {
        return value.word(doc, &[("origin", AllowAsIn::Origin)]);
    }
    if value.is_bool() {
        if value.bool(doc)?.value {
            let message = "'allowas_in' = true does not say how often our AS may occur";
            doc.error_hint(&value.span, message, "\"origin\", or a count such as 3");
            return None;
        }
        return Some(value.at(AllowAsIn::No));
    }
    if !value.is_integer() {
        doc.error(&value.span, "'allowas_in' must be false, \"origin\" or a count");
        return None;
    }
    value.integer(doc, 1..=10, "a count").map(|at| At { value: AllowAsIn::Count(at.value), span: at.span })
}

/// A number, or a table with the number and what happens near and above it.
fn max_prefixes(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<MaxPrefixes>> {
    let number = |v: &Value<'_>| v.integer(doc, 1..=i128::from(u32::MAX), "a number of prefixes");
    if !value.is_table() {
        return number(value).map(|at| At { value: MaxPrefixes::new(at.value), span: at.span });
    }
    let mut table = value.table(doc)?;
    let limit = table.get("limit");
    if limit.is_none() {
        doc.error_hint(&table.span, "'max_prefixes' has no 'limit'", "max_prefixes = { limit = 100, warning = 75 }");
    }
    let limit: Option<At<u32>> = limit.and_then(|v| number(&v));
    let warning = table.get("warning").and_then(|v| v.integer(doc, 1..=100, "a percentage")).map(|at| at.value);
    let restart = table.get("restart").and_then(|v| at_least(&v, doc, Duration::from_secs(1)));
    let warn_only = table.get("warning_only").and_then(|v| v.bool(doc)).is_some_and(|at| at.value);
    if let (Some(restart), true) = (&restart, warn_only) {
        let message = "'restart' and 'warning_only' contradict each other";
        doc.error_hint(&restart.span, message, "with warning_only the session does not end");
    }
    table.finish(doc);
    let action = match restart {
        _ if warn_only => LimitAction::WarnOnly,
        Some(restart) => LimitAction::Restart(restart.value),
        None => LimitAction::Reconnect,
    };
    Some(value.at(MaxPrefixes { limit: limit?.value, warning: warning.unwrap_or(MaxPrefixes::WARNING), action }))
}

fn hold_time(value: &Value<'_>, doc: &Doc<'_>, allow_zero: bool) -> Option<At<Duration>> {
    let hold = whole_seconds(value, doc, 0)?;
    match hold.value.as_secs() {
        0 if allow_zero => Some(hold),
        0 => {
            let message = "'hold_time' is 0: a dead neighbour would never be noticed";
            doc.error_hint(&hold.span, message, "allow_hold_time_zero = true in [bgp] if that is what you want");
            None
        }
        1 | 2 => {
            doc.error_hint(&hold.span, "'hold_time' is less than 3 seconds (RFC 4271 §4.2)", "use BFD to be faster");
            None
        }
        3..=65535 => Some(hold),
        _ => {
            doc.error(&hold.span, "'hold_time' is more than 65535 seconds, which its field cannot say");
            None
        }
    }
}

fn send_hold_time(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<Duration>> {
    /// Together with the longest hold time it has to fit into the kernel's milliseconds (`TCP_USER_TIMEOUT`, 31 bits).
    const LONGEST: Duration = Duration::from_hours(168);
    let time = value.duration(doc)?;
    if time.value > LONGEST {
        doc.error_hint(&time.span, "'send_hold_time' is more than 168h, a week", "\"0s\" means never");
        return None;
    }
    Some(time)
}

/// Times that travel as whole seconds.
fn whole_seconds(value: &Value<'_>, doc: &Doc<'_>, least: u64) -> Option<At<Duration>> {
    let duration = value.duration(doc)?;
    if duration.value.subsec_nanos() != 0 {
        doc.error(&duration.span, format!("'{}' must be whole seconds", value.key()));
        return None;
    }
    if duration.value.as_secs() < least {
        doc.error(&duration.span, format!("'{}' must be at least {least} s", value.key()));
        return None;
    }
    Some(duration)
}

/// A duration that must not be too short.
pub(super) fn at_least(value: &Value<'_>, doc: &Doc<'_>, least: Duration) -> Option<At<Duration>> {
    let duration = value.duration(doc)?;
    if duration.value < least {
        let least = super::duration::format(least);
        doc.error(&duration.span, format!("'{}' must be at least {least}", value.key()));
        return None;
    }
    Some(duration)
}

fn hops(value: &Value<'_>, doc: &Doc<'_>, range: std::ops::RangeInclusive<i128>) -> Option<At<Switch<u8>>> {
    if value.is_bool() {
        if value.bool(doc)?.value {
            let message = format!("'{}' = true does not say how many hops", value.key());
            doc.error_hint(&value.span, message, format!("{} = 1 for a neighbour on the same link", value.key()));
            return None;
        }
        return Some(value.at(None));
    }
    value.integer(doc, range, "a number of hops").map(|at| At { value: Some(at.value), span: at.span })
}

fn name_or_false(value: &Value<'_>, doc: &Doc<'_>, what: &str) -> Option<At<Switch<String>>> {
    if value.is_bool() {
        if value.bool(doc)?.value {
            doc.error(&value.span, format!("'{}' must be the name of {what}, or false", value.key()));
            return None;
        }
        return Some(value.at(None));
    }
    value.string(doc).map(|at| At { value: Some(at.value), span: at.span })
}

fn role(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<Role>> {
    value.word(
        doc,
        &[
            ("provider", Role::Provider),
            ("rs-server", Role::RouteServer),
            ("rs-client", Role::RouteServerClient),
            ("customer", Role::Customer),
            ("peer", Role::Peer),
        ],
    )
}

/// The name of a network device (at most 15 octets, no slash, no space).
pub(super) fn interface(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<String>> {
    let name = value.string(doc)?;
    let bad = |c: char| c == '/' || c == '%' || c.is_whitespace() || c.is_control();
    if name.value.len() > 15 || name.value.contains(bad) || matches!(name.value.as_str(), "." | "..") {
        doc.error(&name.span, format!("'{}' cannot be the name of an interface", name.value));
        return None;
    }
    Some(name)
}

/// A TCP port.
pub(super) fn port(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<u16>> {
    value.integer(doc, 1..=65535, "a port")
}

fn shutdown(value: &Value<'_>, doc: &Doc<'_>) -> Option<At<Switch<String>>> {
    if value.is_bool() {
        return Some(value.at(value.bool(doc)?.value.then(String::new)));
    }
    let text = value.string(doc)?;
    // RFC 9003 §2: the length octet allows 255.
    if text.value.len() > 255 {
        doc.error(&text.span, format!("'shutdown' is {} octets long: 255 fit (RFC 9003)", text.value.len()));
        return None;
    }
    Some(At { value: Some(text.value), span: text.span })
}

/// Where an option stands, or else where its owner does.
pub(super) fn span_of<T>(option: Option<&At<T>>, otherwise: &Span) -> Span {
    option.map_or_else(|| otherwise.clone(), |at| at.span.clone())
}
