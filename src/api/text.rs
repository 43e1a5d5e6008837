//! The objects of the API as people read them: `show`, and the status page.

use std::fmt::Write as _;

use super::model::{
    Bfd, BfdPackets, BfdTransition, Database, Explain, Exposure, Learned, Neighbor, ObjectState, ReloadAction,
    ReloadReport, Route, RouteNeighbor, Summary, UpgradeReport, Wiring,
};

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// A terminal reads.
    Colour,
    /// Something else does.
    Plain,
}

/// What a colour stands for.
#[derive(Clone, Copy)]
enum Tone {
    Good,
    Bad,
    Weak,
    Head,
}

impl Paint {
    fn paint(self, tone: Tone, text: &str) -> String {
        if self == Self::Plain || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Weak => "2",
            Tone::Head => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    fn yes_no(self, yes: bool) -> String {
        if yes { self.paint(Tone::Good, "yes") } else { self.paint(Tone::Bad, "no") }
    }
}

/// Columns, each as wide as its widest cell.
struct Grid {
    paint: Paint,
    rows: Vec<Vec<String>>,
}

impl Grid {
    fn new(paint: Paint, head: &[&str]) -> Self {
        Self { paint, rows: vec![head.iter().map(|cell| paint.paint(Tone::Head, cell)).collect()] }
    }

    fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The grid, or `none` if it has no rows.
    fn finish(self, none: &str) -> String {
        if self.rows.len() < 2 {
            return format!("{}\n", self.paint.paint(Tone::Weak, none));
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, wide) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', wide.saturating_sub(width(cell)) + 2));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Characters that take place on the screen.
fn width(text: &str) -> usize {
    let mut escaped = false;
    let visible = |c: &char| match (escaped, *c) {
        (false, '\x1b') => {
            escaped = true;
            false
        }
        (true, c) => {
            escaped = c != 'm';
            false
        }
        (false, _) => true,
    };
    text.chars().filter(visible).count()
}

/// `3d 4h`, `2m 5s`, `0.3s`: two units are enough to read.
fn ago(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturating is fine")]
    let whole = seconds as u64;
    let (days, hours, minutes, rest) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `show summary`.
pub fn summary(s: &Summary, paint: Paint) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{:<15} {value}", format!("{name}:"));
    };
    line("ovn-bgpd", format!("{}, up {}", s.version, ago(s.uptime_seconds)));
    line("BGP", format!("AS {}, router ID {}", s.asn, s.router_id));
    line("configuration", format!("{}, read {} ago", s.config_file, ago(s.config_age_seconds)));
    let all_up = s.neighbors.established == s.neighbors.configured;
    let neighbors = format!("{} of {} established", s.neighbors.established, s.neighbors.configured);
    line("neighbours", paint.paint(if all_up { Tone::Good } else { Tone::Bad }, &neighbors));
    let routes = s.routes;
    line(
        "routes",
        format!("{} announced, {} learned, {} in the kernel", routes.announced, routes.learned, routes.installed),
    );
    if let Some(e) = s.exposures {
        let failed =
            if e.failed > 0 { paint.paint(Tone::Bad, &format!(", {} failed", e.failed)) } else { String::new() };
        line("exposures", format!("{}, {} wired, {} announced{failed}", e.total, e.wired, e.announced));
    }
    if let Some(chassis) = &s.chassis {
        let system_id = if chassis.system_id.is_empty() { "not known yet" } else { &chassis.system_id };
        line("chassis", format!("{} (system-id {system_id})", chassis.hostname));
    }
    for (name, database) in [("northbound", &s.northbound), ("open_vswitch", &s.open_vswitch)] {
        if let Some(database) = database {
            line(name, database_line(database, paint));
        }
    }
    line(
        "ready",
        if s.ready { paint.yes_no(true) } else { format!("{}: {}", paint.yes_no(false), s.not_ready.join("; ")) },
    );
    if s.draining {
        line(
            "draining",
            paint.paint(Tone::Bad, "yes: traffic is being moved away (`ovn-bgpd undrain` brings it back)"),
        );
    }
    for warning in &s.warnings {
        line("warning", paint.paint(Tone::Bad, warning));
    }
    out
}

fn database_line(database: &Database, paint: Paint) -> String {
    let state = match (database.connected, database.synced) {
        (true, true) => paint.paint(Tone::Good, "connected"),
        (true, false) => paint.paint(Tone::Bad, "connected, waiting for the first dump"),
        (false, true) => paint.paint(Tone::Bad, "away; the last state stands"),
        (false, false) => paint.paint(Tone::Bad, "not reached yet"),
    };
    if database.remote.is_empty() {
        return paint.paint(Tone::Bad, "not known yet where it is (external_ids:ovn-nb-remote of the local database)");
    }
    let error = database.last_error.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
    format!("{}, {state}, {} rows{error}", database.remote, database.rows)
}

/// `show neighbors`.
pub fn neighbors(all: &[Neighbor], paint: Paint) -> String {
    let head = [
        "NEIGHBOUR",
        "INTERFACE",
        "AS",
        "STATE",
        "SINCE",
        "FAMILY",
        "SENT",
        "RECEIVED",
        "ACCEPTED",
        "BFD",
        "LAST REASON",
    ];
    let mut grid = Grid::new(paint, &head);
    for n in all {
        let tone = if n.uptime_seconds.is_some() { Tone::Good } else { Tone::Bad };
        let mut families = n.families.iter().filter(|f| f.negotiated);
        let first = families.next();
        grid.row([
            n.neighbor.clone(),
            or_dash(n.interface.as_ref()),
            or_dash(n.remote_as),
            paint.paint(tone, if n.shutdown.is_some() { "shut down" } else { &n.state }),
            ago(n.state_seconds),
            or_dash(first.map(|f| &f.family)),
            or_dash(first.map(|f| f.advertised)),
            or_dash(first.map(|f| f.received)),
            or_dash(first.map(|f| f.accepted)),
            or_dash(n.bfd.as_ref().map(|b| &b.state)),
            // Once a session is up, nobody asks any more why an earlier one was not.
            n.last_reason.clone().filter(|_| n.uptime_seconds.is_none()).unwrap_or_default(),
        ]);
        for f in families {
            let none = String::new;
            let (sent, received, accepted) = (f.advertised.to_string(), f.received.to_string(), f.accepted.to_string());
            grid.row([none(), none(), none(), none(), none(), f.family.clone(), sent, received, accepted]);
        }
    }
    grid.finish("no neighbours")
}

/// `show neighbors -v`: everything about each.
pub fn neighbors_in_full(all: &[Neighbor], paint: Paint) -> String {
    let each: Vec<String> = all.iter().map(|n| neighbor_in_full(n, paint)).collect();
    if each.is_empty() { neighbors(all, paint) } else { each.join("\n") }
}

fn neighbor_in_full(n: &Neighbor, paint: Paint) -> String {
    let mut out = format!("{}\n", paint.paint(Tone::Head, &n.neighbor));
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            let _ = writeln!(out, "  {:<18} {value}", format!("{name}:"));
        }
    };
    line("description", n.description.clone());
    let kind = n.kind.as_ref().map(|k| format!(" ({k})")).unwrap_or_default();
    line("AS", Some(format!("{}{kind}, ours {}", or_dash(n.remote_as), n.local_as)));
    line("peer group", n.peer_group.clone());
    line("listen range", n.listen_range.clone());
    line("interface", n.interface.clone());
    let tone = if n.uptime_seconds.is_some() { Tone::Good } else { Tone::Bad };
    let counts = format!("up {} times, lost {} times", n.established_count, n.lost_count);
    line("state", Some(format!("{} for {}, {counts}", paint.paint(tone, &n.state), ago(n.state_seconds))));
    line("taken over", n.taken_over_seconds.map(|s| format!("{} ago, by an upgrade", ago(s))));
    line("shut down", n.shutdown.clone().map(|text| if text.is_empty() { "yes".to_owned() } else { text }));
    line("next attempt", n.next_attempt_seconds.map(|s| format!("in {}", ago(s))));
    line("router ID", n.router_id.clone());
    line("connection", n.local_endpoint.as_ref().map(|l| format!("{l} to {}", or_dash(n.remote_endpoint.as_ref()))));
    let t = &n.timers;
    let (hold, keepalive, retry) = (t.hold_time_seconds, t.keepalive_seconds, t.connect_retry_seconds);
    let send_hold = t.send_hold_seconds.map_or_else(|| "off".to_owned(), |seconds| format!("{seconds} s"));
    let timers = format!("hold {hold} s, keepalive {keepalive} s, send hold {send_hold}, connect retry {retry} s");
    line("timers", Some(timers));
    let running: Vec<_> = t.running.iter().map(|(name, left)| format!("{name} in {}", ago(*left))).collect();
    line("running timers", Some(running.join(", ")));
    let hops = n.security.ttl_security.map(|hops| format!("GTSM {hops} hops"));
    let failures = Some(n.security.signature_failures).filter(|f| *f > 0).map(|f| format!("{f} signature failures"));
    let security =
        [n.security.md5.then(|| "TCP-MD5".to_owned()), n.security.ao.then(|| "TCP-AO".to_owned()), hops, failures];
    line("security", Some(security.into_iter().flatten().collect::<Vec<_>>().join(", ")));
    line("BFD", n.bfd.as_ref().map(|b| format!("{} (profile {})", b.state, b.profile)));
    line("graceful restart", n.graceful_restart.clone());
    line("we offered", Some(n.capabilities.sent.join(", ")));
    line("it offered", Some(n.capabilities.received.join(", ")));
    let m = n.messages;
    let (sent, received) = (m.sent, m.received);
    line(
        "messages",
        Some(format!("{sent} sent ({} updates), {received} received ({} updates)", m.updates_sent, m.updates_received)),
    );
    line("octets", Some(format!("{} sent, {} received", m.bytes_sent, m.bytes_received)));
    let faults = (n.treated_as_withdraw, n.attributes_discarded);
    let faulty = format!("{} updates treated as withdraw, {} attributes discarded (RFC 7606)", faults.0, faults.1);
    line("faults", (faults != (0, 0)).then(|| paint.paint(Tone::Bad, &faulty)));
    let error = |text: &Option<String>, seconds: Option<f64>| {
        let text = text.as_ref()?;
        Some(seconds.map_or_else(|| text.clone(), |seconds| format!("{text}, {} ago", ago(seconds))))
    };
    line("last error sent", error(&n.last_error_sent, n.last_error_sent_seconds));
    line("last error received", error(&n.last_error_received, n.last_error_received_seconds));
    // Why it was down before it was ever up is nobody's question any more.
    line("last reason", n.last_reason.clone().filter(|_| n.uptime_seconds.is_none() || n.lost_count > 0));
    for f in &n.families {
        let what = if f.negotiated {
            let limit = f.max_prefixes.map(|max| format!(" of at most {max}")).unwrap_or_default();
            let next_hop = f.next_hop.as_ref().map(|n| format!(", next hop {n}")).unwrap_or_default();
            let pending = if f.pending > 0 { format!(" ({} to be sent)", f.pending) } else { String::new() };
            let told = match (f.end_of_rib_sent, f.end_of_rib_received) {
                (true, true) => ", End-of-RIB both ways",
                (true, false) => ", End-of-RIB sent",
                (false, true) => ", End-of-RIB received",
                (false, false) => "",
            };
            let (sent, received, accepted) = (f.advertised, f.received, f.accepted);
            format!("{sent} advertised{pending}, {received} received, {accepted} accepted{limit}{told}{next_hop}")
        } else {
            "not negotiated".to_owned()
        };
        line(&f.family, Some(what));
    }
    out
}

/// `show routes`.
pub fn routes(all: &[Route], paint: Paint) -> String {
    let mut grid = Grid::new(paint, &["PREFIX", "NEXT HOP", "NEIGHBOURS", "WHY"]);
    for route in all {
        let told: Vec<String> = RouteNeighbor::worth_a_word(&route.neighbors)
            .map(|n| match (n.advertised, n.acknowledged) {
                (true, true) => paint.paint(Tone::Good, &n.neighbor),
                (true, false) => format!("{} (not acknowledged)", n.neighbor),
                (false, _) => {
                    let why = n.refused.as_deref().unwrap_or("not told yet");
                    paint.paint(Tone::Bad, &format!("{} ({why})", n.neighbor))
                }
            })
            .collect();
        let next_hop = route.next_hop.map_or_else(|| "self".to_owned(), |n| n.to_string());
        let told = if told.is_empty() { "-".to_owned() } else { told.join(", ") };
        grid.row([route.prefix.to_string(), next_hop, told, route.reasons.join("; ")]);
    }
    grid.finish("nothing is announced")
}

/// `show learned`.
pub fn learned(all: &[Learned], paint: Paint) -> String {
    let mut grid = Grid::new(paint, &["PREFIX", "FROM", "NEXT HOPS", "AS PATH", "SELECTED", "IN KERNEL", "WHY"]);
    for route in all {
        let stale = if route.stale { " (stale)" } else { "" };
        let path = route.path_id.map_or_else(String::new, |id| format!(" path {id}"));
        grid.row([
            route.prefix.to_string(),
            format!("{}{path}{stale}", route.neighbor),
            if route.next_hops.is_empty() { "-".to_owned() } else { route.next_hops.join(", ") },
            if route.as_path.is_empty() { "-".to_owned() } else { route.as_path.clone() },
            paint.yes_no(route.selected),
            paint.yes_no(route.installed),
            route.reason.clone(),
        ]);
    }
    grid.finish("nothing is learned")
}

/// `show exposures`.
pub fn exposures(all: &[Exposure], paint: Paint) -> String {
    let mut grid = Grid::new(paint, &["ADDRESS", "KIND", "PORT", "NETWORK", "BRIDGE", "VLAN", "WIRED", "ANNOUNCED"]);
    for e in all {
        grid.row([
            e.address.to_string(),
            kind(e),
            e.port.clone(),
            e.network.clone(),
            e.bridge.clone(),
            or_dash(e.vlan),
            paint.yes_no(e.wired),
            paint.yes_no(e.announced),
        ]);
    }
    grid.finish("nothing is exposed here")
}

/// The word of the JSON, so that both say the same.
fn kind(exposure: &Exposure) -> String {
    match serde_json::to_value(exposure.kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => format!("{:?}", exposure.kind),
    }
}

fn state(state: ObjectState, paint: Paint) -> String {
    match state {
        ObjectState::Planned => "planned".to_owned(),
        ObjectState::Present => paint.paint(Tone::Good, "present"),
        ObjectState::Missing => paint.paint(Tone::Bad, "missing"),
        ObjectState::Failed => paint.paint(Tone::Bad, "failed"),
    }
}

/// `show wiring`: one line an object, in the words of iproute2 and ovs-ofctl.
pub fn wiring(w: &Wiring, paint: Paint) -> String {
    let mut grid = Grid::new(paint, &["OBJECT", "WHAT", "STATE", "NEEDED BY"]);
    let mut row = |object: &str, what: String, at: ObjectState, owners: &[String]| {
        grid.row([object.to_owned(), what, state(at, paint), owners.join(", ")]);
    };
    for d in &w.devices {
        let what = match (&d.parent, d.vlan) {
            (Some(parent), Some(tag)) => format!("{} link {parent} vlan {tag}", d.device),
            _ => format!("{} up", d.device),
        };
        row("device", what, d.state, &d.owners);
    }
    for a in &w.addresses {
        row("address", format!("{} dev {}", a.address, a.device), a.state, &a.owners);
    }
    for s in &w.sysctls {
        row("sysctl", format!("{} = {}", s.path, s.value), s.state, &s.owners);
    }
    for r in &w.routes {
        let via = r.via.map(|via| format!(" via {via}")).unwrap_or_default();
        row("route", format!("{}{via} dev {} table {}", r.to, r.device, r.table), r.state, &r.owners);
    }
    for r in &w.rules {
        let to = r.to.map_or_else(|| format!("all ({})", r.family), |to| to.to_string());
        row("rule", format!("to {to} lookup {}", r.table), r.state, &r.owners);
    }
    for n in &w.neighbours {
        row("neighbour", format!("{} dev {} lladdr {}", n.address, n.device, or_dash(n.lladdr)), n.state, &n.owners);
    }
    for p in &w.proxy {
        row("proxy", format!("{} dev {}", p.address, p.device), p.state, &p.owners);
    }
    for f in &w.flows {
        let what =
            format!("{} in_port={},{} mod_dl_dst:{},NORMAL", f.bridge, f.in_port, f.family, or_dash(f.mod_dl_dst));
        row("flow", what, f.state, &f.owners);
    }
    grid.finish("nothing is wired")
}

/// What `show bfd` says of all sessions together, and of packets of no session.
pub fn bfd_packets(p: &BfdPackets, paint: Paint) -> String {
    let mut out = String::new();
    let judged = p.packets_in_window + p.packets_too_soon + p.packets_too_late;
    if judged > 0 {
        let (within, soon, late) = (p.packets_in_window, p.packets_too_soon, p.packets_too_late);
        let _ =
            writeln!(out, "sent on time: {within} of {judged} within the jitter window, {soon} sooner, {late} later");
    }
    // In the order of the bounds, which is not that of the words.
    let mut classes: Vec<_> = p.packets_late.iter().filter(|(_, count)| **count > 0).collect();
    classes.sort_by_key(|(bound, _)| bound.parse::<u64>().unwrap_or(u64::MAX));
    let name = |bound: &String| if bound == "more" { bound.clone() } else { format!("≤ {bound} ms") };
    let classes: Vec<String> = classes.into_iter().map(|(bound, count)| format!("{}: {count}", name(bound))).collect();
    if !classes.is_empty() {
        let _ = writeln!(out, "sent late by: {}", classes.join(", "));
    }
    for (rule, count) in &p.packets_discarded {
        let _ = writeln!(out, "{}: {count} × {rule}", paint.paint(Tone::Bad, "discarded"));
    }
    out
}

/// `show bfd`.
pub fn bfd(all: &[Bfd], paint: Paint) -> String {
    let head =
        ["NEIGHBOUR", "INTERFACE", "PROFILE", "STATE", "SINCE", "SEND", "RECEIVE", "DETECT", "REMOTE", "DIAGNOSTIC"];
    let mut grid = Grid::new(paint, &head);
    for s in all {
        grid.row([
            s.neighbor.clone(),
            or_dash(s.interface.as_ref()),
            s.profile.clone(),
            paint.paint(if s.state == "Up" { Tone::Good } else { Tone::Bad }, &s.state),
            ago(s.state_seconds),
            format!("{} ms", s.transmit_interval_ms),
            format!("{} ms", s.receive_interval_ms),
            format!("{} ms", s.detection_time_ms),
            s.remote_state.clone(),
            match s.held_seconds {
                Some(left) => format!("comes and goes: not relied on for {}", ago(left)),
                None => s.diagnostic.clone(),
            },
        ]);
    }
    let mut out = grid.finish("no BFD sessions");
    for s in all.iter().filter(|s| !s.transitions.is_empty()) {
        let change = |t: &BfdTransition| match t.reason.as_str() {
            "no diagnostic" => format!("{} × {}", t.count, t.to),
            why => format!("{} × {} ({why})", t.count, t.to),
        };
        let changes: Vec<String> = s.transitions.iter().map(change).collect();
        let _ = writeln!(out, "{} became {}", s.neighbor, changes.join(", "));
    }
    out
}

/// `explain`.
pub fn explain(e: &Explain, paint: Paint) -> String {
    let tone = if e.announced { Tone::Good } else { Tone::Bad };
    // The verdict begins with the address, which need not be said twice.
    let said = e.verdict.strip_prefix(&e.address).map(str::trim_start);
    let (colon, verdict) = said.map_or((":", e.verdict.as_str()), |said| ("", said));
    let mut out = format!("{}{colon} {}\n", paint.paint(Tone::Head, &e.address), paint.paint(tone, verdict));
    for step in &e.steps {
        let mark = if step.holds { paint.paint(Tone::Good, "yes") } else { paint.paint(Tone::Bad, "no ") };
        let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", step.detail) };
        let _ = writeln!(out, "  {mark}  {}{detail}", step.condition);
    }
    for (title, body) in [
        ("exposures", (!e.exposures.is_empty()).then(|| exposures(&e.exposures, paint))),
        ("announced", (!e.routes.is_empty()).then(|| routes(&e.routes, paint))),
        ("learned", (!e.learned.is_empty()).then(|| learned(&e.learned, paint))),
    ] {
        if let Some(body) = body {
            let _ = write!(out, "\n{}\n{body}", paint.paint(Tone::Head, title));
        }
    }
    out
}

/// `reload`.
pub fn reload(r: &ReloadReport, paint: Paint) -> String {
    let mut out = String::new();
    let head = match (r.accepted, r.dry_run) {
        (true, true) => "the configuration would be accepted",
        (true, false) => "the configuration is in force",
        (false, _) => "the configuration has errors; the old one stays in force",
    };
    let _ = writeln!(out, "{}", paint.paint(if r.accepted { Tone::Good } else { Tone::Bad }, head));
    let mut grid = Grid::new(paint, &["NEIGHBOUR", "ACTION", "CHANGED"]);
    for n in &r.neighbors {
        let (tone, word) = match n.action {
            ReloadAction::Nothing => (Tone::Weak, "nothing"),
            ReloadAction::Refresh => (Tone::Good, "refresh"),
            ReloadAction::Reset => (Tone::Bad, "reset"),
            ReloadAction::Add => (Tone::Good, "add"),
            ReloadAction::Remove => (Tone::Bad, "remove"),
        };
        grid.row([n.neighbor.clone(), paint.paint(tone, word), n.changed.join(", ")]);
    }
    if !r.neighbors.is_empty() {
        out.push_str(&grid.finish(""));
    }
    for change in &r.changes {
        let _ = writeln!(out, "changes: {change}");
    }
    for change in &r.restart_needed {
        let _ = writeln!(out, "{}", paint.paint(Tone::Bad, &format!("needs a restart: {change}")));
    }
    out
}

/// `upgrade`.
pub fn upgrade(r: &UpgradeReport, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(failure) = &r.failure {
        let head = if r.number == failure.number {
            "the sessions were not taken over, they restart gracefully"
        } else {
            "not upgraded, everything goes on as before"
        };
        let _ = writeln!(out, "{}: {}", paint.paint(Tone::Bad, head), failure.reason);
        return out;
    }
    let kept = r.neighbors.iter().filter(|neighbor| neighbor.kept).count();
    let tone = if kept == r.neighbors.len() { Tone::Good } else { Tone::Bad };
    let head = format!("version {}: {kept} of {} sessions taken over", r.version, r.neighbors.len());
    let gap = r.gap_seconds.map(|gap| format!(" after {:.0} ms", gap * 1000.0)).unwrap_or_default();
    let former = r.former_version.as_ref().map(|version| format!(" from version {version}")).unwrap_or_default();
    let _ = writeln!(out, "{}{former}{gap}", paint.paint(tone, &head));
    let mut grid = Grid::new(paint, &["NEIGHBOUR", "SESSION", "REASON"]);
    for n in &r.neighbors {
        let (tone, word) = if n.kept { (Tone::Good, "kept") } else { (Tone::Bad, "restarts") };
        grid.row([n.neighbor.clone(), paint.paint(tone, word), n.reason.clone().unwrap_or_default()]);
    }
    if !r.neighbors.is_empty() {
        out.push_str(&grid.finish(""));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(neighbors: Vec<RouteNeighbor>) -> Route {
        Route { prefix: "192.0.2.1/32".parse().unwrap(), next_hop: None, neighbors, reasons: vec!["lo".to_owned()] }
    }

    fn refused(neighbor: &str, why: &dyn ToString) -> RouteNeighbor {
        RouteNeighbor { neighbor: neighbor.to_owned(), refused: Some(why.to_string()), ..RouteNeighbor::default() }
    }

    #[test]
    fn a_session_for_the_other_family_is_mentioned_only_where_there_is_no_other() {
        let other = || refused("fd00::1", &bgp::rib::NotExported::Family(bgp::types::Family::Ipv4));
        let told = RouteNeighbor {
            neighbor: "10.0.0.1".to_owned(),
            advertised: true,
            acknowledged: true,
            ..RouteNeighbor::default()
        };
        let line = |neighbors| routes(&[route(neighbors)], Paint::Plain).lines().nth(1).unwrap().to_owned();
        let denied = refused("10.0.0.2", &"prefix list `none` denies it");
        let words = "192.0.2.1/32  self      10.0.0.1, 10.0.0.2 (prefix list `none` denies it)  lo";
        assert_eq!(line(vec![told, other(), denied]), words);
        assert!(line(vec![other()]).contains("fd00::1 (ipv4 unicast was not negotiated"), "{}", line(vec![other()]));
    }

    #[test]
    fn an_explanation_names_the_address_once() {
        let said = |verdict: &str| {
            let explain =
                Explain { address: "192.0.2.1".to_owned(), verdict: verdict.to_owned(), ..Explain::default() };
            super::explain(&explain, Paint::Plain)
        };
        assert_eq!(said("192.0.2.1 is announced"), "192.0.2.1 is announced\n");
        assert_eq!(said("no row names it"), "192.0.2.1: no row names it\n");
    }
}
