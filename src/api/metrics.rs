//! Metrics, derived from the state at every scrape: nothing is counted twice, and what is gone from the state is gone from here.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::model::{Bfd, Database, Neighbor, Summary};

/// What Prometheus is told the text is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Gauge of whole numbers or of seconds.
type Level = Gauge<f64, std::sync::atomic::AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    neighbor: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFamily {
    neighbor: String,
    family: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Change {
    neighbor: String,
    to: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Directed {
    neighbor: String,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: String,
}

/// The text of one scrape; `more` registers what the daemon itself keeps.
///
/// # Errors
/// A metric that cannot be written as text; it would be a fault of this program.
pub fn render(
    summary: &Summary,
    neighbors: &[Neighbor],
    bfd: &[Bfd],
    more: impl FnOnce(&mut Registry),
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ovn_bgpd");
    of_summary(&mut registry, summary);
    of_neighbors(&mut registry, neighbors);
    of_bfd(&mut registry, bfd);
    more(&mut registry);
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

fn level(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Level::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn truth(registry: &mut Registry, name: &str, help: &str, value: bool) {
    level(registry, name, help, f64::from(u8::from(value)));
}

/// Counts below 2⁵³ are exact.
#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
const fn number(value: u64) -> f64 {
    value as f64
}

fn of_summary(registry: &mut Registry, summary: &Summary) {
    let build = Family::<Build, Level>::default();
    build.get_or_create(&Build { version: summary.version.clone() }).set(1.0);
    registry.register("build_info", "Version of the running daemon", build);
    let uptime = Level::default();
    uptime.set(summary.uptime_seconds);
    registry.register_with_unit("uptime", "Since the daemon started", Unit::Seconds, uptime);
    truth(registry, "draining", "Traffic is being moved away", summary.draining);
    truth(registry, "ready", "Initial dump applied and at least one neighbour established", summary.ready);
    level(registry, "warnings", "Things an operator should look at", number(summary.warnings.len() as u64));
    level(registry, "neighbors_configured", "Neighbours", number(summary.neighbors.configured));
    level(registry, "neighbors_established", "Neighbours in state Established", number(summary.neighbors.established));
    level(registry, "routes_announced", "Prefixes we announce", number(summary.routes.announced));
    level(registry, "routes_learned", "Routes learned from neighbours", number(summary.routes.learned));
    level(registry, "routes_installed", "Learned routes in the kernel", number(summary.routes.installed));
    if let Some(exposures) = summary.exposures {
        level(registry, "exposures", "Addresses this host attracts", number(exposures.total));
        level(registry, "exposures_wired", "Exposures whose objects are all in place", number(exposures.wired));
        level(registry, "exposures_announced", "Exposures a neighbour was told", number(exposures.announced));
        level(registry, "exposures_failed", "Exposures with objects that could not be made", number(exposures.failed));
    }
    of_databases(registry, summary);
}

fn of_databases(registry: &mut Registry, summary: &Summary) {
    let connected = Family::<Named, Level>::default();
    let synced = Family::<Named, Level>::default();
    let rows = Family::<Named, Level>::default();
    let databases = [("northbound", &summary.northbound), ("open_vswitch", &summary.open_vswitch)];
    for (name, database) in databases {
        let Some(Database { connected: up, synced: whole, rows: count, .. }) = database else { continue };
        let label = Named { name };
        connected.get_or_create(&label).set(f64::from(u8::from(*up)));
        synced.get_or_create(&label).set(f64::from(u8::from(*whole)));
        rows.get_or_create(&label).set(number(*count));
    }
    registry.register("database_connected", "The conversation with the database runs", connected);
    registry.register("database_synced", "A complete dump has been seen", synced);
    registry.register("database_rows", "Rows held", rows);
}

fn of_neighbors(registry: &mut Registry, neighbors: &[Neighbor]) {
    let up = Family::<Of, Level>::default();
    let uptime = Family::<Of, Level>::default();
    let established = Family::<Of, Counter>::default();
    let lost = Family::<Of, Counter>::default();
    let withdrawn = Family::<Of, Counter>::default();
    let discarded = Family::<Of, Counter>::default();
    let signatures = Family::<Of, Counter>::default();
    let messages = Family::<Directed, Counter>::default();
    let updates = Family::<Directed, Counter>::default();
    let bytes = Family::<Directed, Counter>::default();
    let advertised = Family::<OfFamily, Level>::default();
    let received = Family::<OfFamily, Level>::default();
    let accepted = Family::<OfFamily, Level>::default();
    for neighbor in neighbors {
        let of = Of { neighbor: neighbor.neighbor.clone() };
        let directed = |direction| Directed { neighbor: neighbor.neighbor.clone(), direction };
        up.get_or_create(&of).set(f64::from(u8::from(neighbor.uptime_seconds.is_some())));
        uptime.get_or_create(&of).set(neighbor.uptime_seconds.unwrap_or(0.0));
        established.get_or_create(&of).inc_by(neighbor.established_count);
        lost.get_or_create(&of).inc_by(neighbor.lost_count);
        withdrawn.get_or_create(&of).inc_by(neighbor.treated_as_withdraw);
        discarded.get_or_create(&of).inc_by(neighbor.attributes_discarded);
        signatures.get_or_create(&of).inc_by(neighbor.security.signature_failures);
        let counts = neighbor.messages;
        messages.get_or_create(&directed("sent")).inc_by(counts.sent);
        messages.get_or_create(&directed("received")).inc_by(counts.received);
        updates.get_or_create(&directed("sent")).inc_by(counts.updates_sent);
        updates.get_or_create(&directed("received")).inc_by(counts.updates_received);
        bytes.get_or_create(&directed("sent")).inc_by(counts.bytes_sent);
        bytes.get_or_create(&directed("received")).inc_by(counts.bytes_received);
        for family in &neighbor.families {
            let of = OfFamily { neighbor: neighbor.neighbor.clone(), family: family.family.clone() };
            advertised.get_or_create(&of).set(number(family.advertised));
            received.get_or_create(&of).set(number(family.received));
            accepted.get_or_create(&of).set(number(family.accepted));
        }
    }
    registry.register("neighbor_up", "The session is established", up);
    registry.register_with_unit("neighbor_uptime", "Established for so long", Unit::Seconds, uptime);
    registry.register("neighbor_established", "How often the session came up", established);
    registry.register("neighbor_lost", "How often the session was lost", lost);
    registry.register("neighbor_treated_as_withdraw", "UPDATEs treated as withdraw (RFC 7606)", withdrawn);
    registry.register("neighbor_attributes_discarded", "Attributes discarded (RFC 7606)", discarded);
    registry.register("neighbor_signature_failures", "TCP segments with a wrong or missing signature", signatures);
    registry.register("neighbor_messages", "BGP messages", messages);
    registry.register("neighbor_updates", "BGP UPDATE messages", updates);
    registry.register_with_unit("neighbor", "Octets of BGP messages", Unit::Bytes, bytes);
    registry.register("neighbor_routes_advertised", "Prefixes the neighbour has been told", advertised);
    registry.register("neighbor_routes_received", "Prefixes the neighbour told us", received);
    registry.register("neighbor_routes_accepted", "Prefixes of the neighbour our policy lets in", accepted);
}

fn of_bfd(registry: &mut Registry, sessions: &[Bfd]) {
    let up = Family::<Of, Level>::default();
    let came = Family::<Of, Counter>::default();
    let went = Family::<Of, Counter>::default();
    let packets = Family::<Directed, Counter>::default();
    let dropped = Family::<Of, Counter>::default();
    let changes = Family::<Change, Counter>::default();
    for session in sessions {
        let of = Of { neighbor: session.neighbor.clone() };
        let directed = |direction| Directed { neighbor: session.neighbor.clone(), direction };
        up.get_or_create(&of).set(f64::from(u8::from(session.state == "Up")));
        came.get_or_create(&of).inc_by(session.up_count);
        went.get_or_create(&of).inc_by(session.down_count);
        packets.get_or_create(&directed("sent")).inc_by(session.packets_sent);
        packets.get_or_create(&directed("received")).inc_by(session.packets_received);
        dropped.get_or_create(&of).inc_by(session.packets_dropped);
        for change in &session.transitions {
            let (neighbor, to, reason) = (session.neighbor.clone(), change.to.clone(), change.reason.clone());
            changes.get_or_create(&Change { neighbor, to, reason }).inc_by(change.count);
        }
    }
    registry.register("bfd_up", "The BFD session is up", up);
    registry.register("bfd_ups", "How often the BFD session came up", came);
    registry.register("bfd_downs", "How often the BFD session went down", went);
    registry.register("bfd_transitions", "Changes of the BFD session's state, by reason", changes);
    registry.register("bfd_packets", "BFD packets", packets);
    registry.register("bfd_packets_dropped", "BFD packets received and refused", dropped);
}
