//! One peer: its session, its connections, what it was told and what it told us.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, BytesMut};

use super::connection::{Connection, Counters};
use super::{Output, PeerAddress, PeerConfig, SpeakerConfig};
use crate::policy::LimitAction;
use crate::rib::{
    AdjIn, AdjOut, Changes, Difference, ExportContext, ImportContext, LimitExceeded, LimitWarning, Peer as RibPeer,
    RouteSet,
};
use crate::session::{Action, Cease, ConnId, Ends, Event as SessionEvent, Helper, Kept, Negotiated, Session};
use crate::speaker::event::Event;
use crate::types::{Families, Family, Prefix};
use crate::wire::{self, Context, Message, Notification, RouteRefresh, Treatment, Update};

/// The most octets of a message that an event quotes.
const QUOTED: usize = 4096;

/// What a peer reports to the speaker besides outputs.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Prefixes whose paths from this peer changed.
    pub(super) learned: Vec<Prefix>,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) speaker: Arc<SpeakerConfig>,
    pub(super) config: Arc<PeerConfig>,
    /// The listen range it dialled from, if it is not configured by itself.
    pub(super) range: Option<Prefix>,
    pub(super) session: Session,
    pub(super) connections: BTreeMap<ConnId, Connection>,
    /// Whom router advertisements showed on an interface peer's link when the session was not up, or last was.
    pub(super) discovered: Option<Ipv6Addr>,
    /// Whom they show now.
    pub(super) shown: Option<Ipv6Addr>,
    /// BFD says that the path works, or that the peer wants none of it.
    pub(super) bfd_up: bool,
    /// BFD says that the path fails over and over: no session until it is up.
    pub(super) bfd_holds: bool,
    /// Its session ended because our address was gone, and is not up again.
    pub(super) wants_address: bool,
    pub(super) up: Option<Up>,
    /// Outlives the session while stale routes are kept.
    pub(super) adj_in: Option<AdjIn>,
    /// Who it is to the decision; there as long as `adj_in` is.
    pub(super) decided_as: Option<Arc<RibPeer>>,
    pub(super) helper: Helper,
    pub(super) counters: Counters,
    /// The peer's numbers the last time it was up, for `show`.
    pub(super) last_up: Option<Arc<Negotiated>>,
    /// Segments dropped for their signature while the session was not up, all in all.
    pub(super) signature_failures: u64,
    /// And since it was last up.
    pub(super) signature_failures_since_up: u64,
    /// The state, and since when.
    pub(super) state_since: Instant,
    pub(super) lost_count: u64,
}

/// What only an established session has.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) conn: ConnId,
    pub(super) negotiated: Arc<Negotiated>,
    pub(super) since: Instant,
    pub(super) adj_out: AdjOut,
    pub(super) end_of_rib_received: Families,
    /// It came up in a process before this one.
    pub(super) taken_over: Option<Instant>,
}

impl Peer {
    pub(super) fn new(
        now: Instant,
        number: u32,
        speaker: Arc<SpeakerConfig>,
        config: Arc<PeerConfig>,
        seed: u64,
    ) -> Self {
        Self {
            session: Session::new(number, Arc::clone(&speaker), Arc::clone(&config), seed),
            speaker,
            config,
            range: None,
            connections: BTreeMap::new(),
            discovered: None,
            shown: None,
            bfd_up: false,
            bfd_holds: false,
            wants_address: false,
            up: None,
            adj_in: None,
            decided_as: None,
            helper: Helper::default(),
            counters: Counters::default(),
            last_up: None,
            signature_failures: 0,
            signature_failures_since_up: 0,
            state_since: now,
            lost_count: 0,
        }
    }

    /// The address to dial, if it is known.
    pub(super) fn remote_address(&self) -> Option<IpAddr> {
        match &self.config.address {
            PeerAddress::Numbered(address) => Some(*address),
            PeerAddress::LinkLocal(address, _) => Some(IpAddr::V6(*address)),
            PeerAddress::Interface(_) => self.discovered.map(IpAddr::V6),
        }
    }

    /// The name in events and lists: the interface of an unnumbered peer once somebody is there has an address in front.
    pub(super) fn name(&self) -> String {
        match (&self.config.address, self.discovered) {
            (PeerAddress::Interface(interface), Some(address)) => format!("{address}%{interface}"),
            (address, _) => address.to_string(),
        }
    }

    /// Whether a connection from there is this peer's.
    pub(super) fn matches(&self, local: IpAddr, remote: IpAddr, interface: Option<&str>) -> bool {
        is_from(&self.config, self.discovered, local, remote, interface)
    }

    /// Hands the session an event and does what it asks for.
    pub(super) fn handle(&mut self, now: Instant, event: SessionEvent, out: &mut Vec<Output>) -> Effects {
        let before = self.session.state();
        self.session.handle(now, event);
        let effects = self.act(now, out);
        self.note_state(now, before);
        effects
    }

    /// Lets every timer go off that is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) -> Effects {
        let before = self.session.state();
        self.session.handle_timeout(now);
        let mut effects = self.act(now, out);
        let expired = self.helper.expire(now);
        if let Some(adj_in) = &mut self.adj_in {
            for family in expired.long_lived.iter() {
                effects.learned.extend(adj_in.long_lived(family).prefixes);
            }
        }
        self.flush(expired.gone, &mut effects);
        self.note_state(now, before);
        effects
    }

    fn note_state(&mut self, now: Instant, before: crate::session::StateName) {
        if self.session.state() != before {
            self.state_since = now;
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.session.next_deadline(), self.helper.deadline()].into_iter().flatten().min()
    }

    /// A connection of ours is up.
    pub(super) fn connected(&mut self, conn: ConnId, ends: Ends) {
        if self.session.is_dialling(conn) {
            self.connections.insert(conn, Connection::new(ends));
        }
    }

    /// A connection came in from this peer. `None`: it is not wanted now.
    pub(super) fn accept(&mut self, now: Instant, ends: Ends, out: &mut Vec<Output>) -> Option<ConnId> {
        let before = self.session.state();
        let conn = self.session.accept(now, ends)?;
        self.connections.insert(conn, Connection::new(ends));
        self.act(now, out);
        self.note_state(now, before);
        Some(conn)
    }

    /// Takes in bytes, message by message: what one says may change how the next one is to be read.
    pub(super) fn received(&mut self, now: Instant, conn: ConnId, bytes: &[u8], out: &mut Vec<Output>) -> Effects {
        let mut effects = Effects::default();
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.inbox.extend_from_slice(bytes);
            self.counters.bytes_received += bytes.len() as u64;
        }
        let before_the_open = Context::default();
        while let Some(connection) = self.connections.get_mut(&conn) {
            let context = self.session.negotiated(conn).map_or(&before_the_open, |negotiated| &negotiated.receive);
            let (result, quote) = match wire::frame(&connection.inbox, context.max_len()) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    let message = connection.inbox.split_to(length);
                    (wire::decode(&message, context), message)
                }
                // Nothing that follows can be trusted.
                Err(error) => (Err(error), std::mem::take(&mut connection.inbox)),
            };
            self.counters.received += 1;
            match &result {
                Ok(Message::Update(update)) => self.count_update(update, &quote, out),
                Ok(_) => {}
                Err(error) => {
                    out.push(Output::Event(Event::Malformed {
                        neighbor: self.name(),
                        reason: error.to_string(),
                        bytes: hex(&quote),
                    }));
                }
            }
            let more = self.handle(now, SessionEvent::Received(conn, result), out);
            effects.learned.extend(more.learned);
        }
        effects
    }

    fn count_update(&mut self, update: &Update, quote: &[u8], out: &mut Vec<Output>) {
        self.counters.updates_received += 1;
        match update.treatment() {
            None => return,
            Some(Treatment::TreatAsWithdraw) => self.counters.treated_as_withdraw += 1,
            Some(_) => self.counters.attributes_discarded += 1,
        }
        out.push(Output::Event(Event::Faults {
            neighbor: self.name(),
            faults: update.faults.iter().map(|f| format!("{} at octet {}", f.reason, f.offset)).collect(),
            bytes: hex(quote),
        }));
    }

    /// Does what the session asks for.
    fn act(&mut self, now: Instant, out: &mut Vec<Output>) -> Effects {
        let mut effects = Effects::default();
        while let Some(action) = self.session.poll() {
            match action {
                Action::Dial(conn) => self.dial(now, conn, out),
                Action::Send(conn, message) => {
                    if let Some(connection) = self.connections.get_mut(&conn) {
                        connection.queue(message);
                        announce(conn, connection, out);
                    }
                }
                Action::Close(conn) => {
                    let closed = self.connections.remove(&conn);
                    let address_gone = closed.as_ref().is_some_and(|c| c.missing.address.is_some());
                    let last = closed.map(|connection| connection.last_words(&mut self.counters));
                    out.push(Output::Close { conn, last: last.unwrap_or_default(), address_gone });
                }
                Action::Up(conn, ends, negotiated) => {
                    // As they are now: addresses may have changed since the connection was made.
                    let ends = self.connections.get(&conn).map_or(ends, |connection| connection.ends);
                    self.up(now, conn, ends, negotiated, &mut effects, out);
                }
                Action::Down { reason, keep } => self.down(now, &reason, keep, &mut effects, out),
                Action::Failed(reason) => {
                    out.push(Output::Event(Event::Failed { neighbor: self.name(), reason: reason.to_string() }));
                }
                Action::Update(update) => self.update(now, &update, &mut effects, out),
                Action::Refresh(refresh) => self.refresh(refresh, &mut effects, out),
            }
        }
        effects
    }

    /// The session is down because the peer announced more than it might.
    pub(super) fn was_sent_away(&self) -> bool {
        let sent = self.session.last_sent.as_ref().map(|sent| &sent.notification);
        self.up.is_none() && sent.is_some_and(Notification::is_max_prefixes)
    }

    /// No session is wanted over a path that is not known to work.
    pub(super) fn waits_for_bfd(&self) -> bool {
        (self.config.wait_for_bfd || self.bfd_holds) && !self.bfd_up
    }

    fn dial(&mut self, now: Instant, conn: ConnId, out: &mut Vec<Output>) {
        if self.waits_for_bfd() {
            self.session.handle(now, SessionEvent::Lost(conn, "BFD is not up yet".to_owned()));
            return;
        }
        match self.remote_address() {
            Some(address) => out.push(Output::Dial { conn, address, peer: Arc::clone(&self.config) }),
            // Router advertisements will say when there is somebody to dial.
            None => self.session.handle(now, SessionEvent::Lost(conn, "no neighbour discovered yet".to_owned())),
        }
    }

    fn up(
        &mut self,
        now: Instant,
        conn: ConnId,
        ends: Ends,
        negotiated: Arc<Negotiated>,
        effects: &mut Effects,
        out: &mut Vec<Output>,
    ) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.send = negotiated.send.clone();
        }
        let gone = self.helper.up(now, &negotiated);
        self.flush(gone, effects);
        let import = self.import_context(&ends, &negotiated);
        match &mut self.adj_in {
            Some(adj_in) => adj_in.resume(import),
            None => self.adj_in = Some(AdjIn::new(import)),
        }
        self.decided_as = Some(Arc::new(self.rib_peer(&ends, &negotiated)));
        let adj_out = AdjOut::new(self.export_context(&ends, &negotiated));
        self.last_up = Some(Arc::clone(&negotiated));
        self.signature_failures_since_up = 0;
        self.wants_address = false;
        out.push(Output::Event(Event::Up {
            neighbor: self.name(),
            asn: negotiated.asn,
            router_id: negotiated.router_id,
            families: negotiated.families,
            hold_time: negotiated.hold_time,
        }));
        let end_of_rib_received = Families::NONE;
        self.up = Some(Up { conn, negotiated, since: now, adj_out, end_of_rib_received, taken_over: None });
    }

    fn down(
        &mut self,
        now: Instant,
        reason: &crate::session::Reason,
        keep: bool,
        effects: &mut Effects,
        out: &mut Vec<Output>,
    ) {
        let Some(up) = self.up.take() else { return };
        self.lost_count += 1;
        let Kept { families: kept, twice } = if keep { self.helper.down(now, &up.negotiated) } else { Kept::default() };
        if !keep {
            self.helper.cancel();
        }
        if kept.is_empty() {
            if let Some(mut adj_in) = self.adj_in.take() {
                effects.learned.extend(adj_in.clear().prefixes);
            }
        } else if let Some(adj_in) = &mut self.adj_in {
            for family in Family::ALL {
                if twice.contains(family) {
                    adj_in.keep_stale(family);
                } else {
                    // Twice stale is gone (RFC 4724 §4.2, consecutive restarts).
                    effects.learned.extend(adj_in.mark_stale(family).prefixes);
                }
                if !kept.contains(family) {
                    effects.learned.extend(adj_in.flush_stale(family).prefixes);
                }
            }
        }
        out.push(Output::Event(Event::Down {
            neighbor: self.name(),
            reason: reason.to_string(),
            uptime: now.duration_since(up.since),
            routes_kept: kept,
        }));
        // Who it was until now is who went down; the next attempt goes to who is there.
        self.discovered = self.shown;
    }

    /// Nothing is kept for the peer's return any more.
    pub(super) fn forget_stale(&mut self) -> Effects {
        let mut effects = Effects::default();
        self.helper.cancel();
        if let Some(mut adj_in) = self.adj_in.take() {
            effects.learned.extend(adj_in.clear().prefixes);
        }
        effects
    }

    fn flush(&mut self, families: Families, effects: &mut Effects) {
        let Some(adj_in) = &mut self.adj_in else { return };
        for family in families.iter() {
            effects.learned.extend(adj_in.flush_stale(family).prefixes);
        }
        if self.up.is_none() && self.helper.deadline().is_none() {
            self.adj_in = None;
        }
    }

    fn update(&mut self, now: Instant, update: &Update, effects: &mut Effects, out: &mut Vec<Output>) {
        let Some(adj_in) = &mut self.adj_in else { return };
        let Changes { prefixes, end_of_rib, limit_exceeded, limit_warning } = adj_in.update(update);
        effects.learned.extend(prefixes);
        if let Some(family) = end_of_rib {
            self.helper.end_of_rib(family);
            if let Some(up) = &mut self.up {
                up.end_of_rib_received = up.end_of_rib_received.with(family);
            }
        }
        self.warn_of_limit(limit_warning, out);
        if let Some(exceeded) = limit_exceeded {
            let event = self.too_many(exceeded);
            self.session.handle(now, event);
        }
    }

    fn warn_of_limit(&self, warning: Option<LimitWarning>, out: &mut Vec<Output>) {
        if let Some(LimitWarning { family, count, limit }) = warning {
            out.push(Output::Event(Event::PrefixLimit { neighbor: self.name(), family, count, limit }));
        }
    }

    /// What to do about a peer that announces more than it may.
    fn too_many(&self, exceeded: LimitExceeded) -> SessionEvent {
        let cease = Cease::MaxPrefixes { family: exceeded.family, limit: exceeded.max };
        match self.config.max_prefixes.map(|max| max.action) {
            Some(LimitAction::Restart(pause)) => SessionEvent::Suspend(cease, pause),
            _ => SessionEvent::Reset(cease),
        }
    }

    fn refresh(&mut self, refresh: RouteRefresh, effects: &mut Effects, out: &mut Vec<Output>) {
        let (Some(up), Some(adj_in)) = (&mut self.up, &mut self.adj_in) else { return };
        let Some(family) =
            Family::from_afi_safi(refresh.afi, refresh.safi).filter(|_| refresh.is_for(&up.negotiated.receive))
        else {
            return;
        };
        // Without the capability of RFC 7313 the octet is reserved.
        match if up.negotiated.receive.enhanced_refresh { refresh.subtype } else { RouteRefresh::REQUEST } {
            RouteRefresh::REQUEST => {
                up.adj_out.refresh(family);
                self.announce_routes(out);
            }
            // "A BGP speaker that has received the Graceful Restart Capability from its neighbor MUST ignore any BoRRs for an <AFI,
            // SAFI> from the neighbor before the speaker receives the EoR" (RFC 7313 §4): the one would purge what the other is
            // still to confirm.
            RouteRefresh::BEGIN if up.negotiated.sends_end_of_rib() && !up.end_of_rib_received.contains(family) => {}
            RouteRefresh::BEGIN => adj_in.begin_refresh(family),
            _ => effects.learned.extend(adj_in.end_refresh(family).prefixes),
        }
    }

    /// Replaces what the peer is to be told.
    pub(super) fn set_routes(&mut self, routes: &Arc<RouteSet>, out: &mut Vec<Output>) {
        if let Some(up) = &mut self.up {
            up.adj_out.set(Arc::clone(routes));
            self.announce_routes(out);
        }
    }

    /// The same, by what is different since the last time.
    pub(super) fn advance_routes(&mut self, difference: &Difference, out: &mut Vec<Output>) {
        if let Some(up) = &mut self.up {
            up.adj_out.advance(difference);
            self.announce_routes(out);
        }
    }

    /// Whether the peer has been told all of this, so that a difference from it is worth being found.
    pub(super) fn is_told(&self, routes: &Arc<RouteSet>) -> bool {
        self.up.as_ref().is_some_and(|up| up.adj_out.is_told(routes))
    }

    /// Tells the driver to come for what there is to write.
    pub(super) fn announce_routes(&mut self, out: &mut Vec<Output>) {
        if let Some(up) = &self.up
            && up.adj_out.pending()
            && let Some(connection) = self.connections.get_mut(&up.conn)
        {
            announce(up.conn, connection, out);
        }
    }

    /// Our address of a connection was away for a moment: what was not written meanwhile can be.
    pub(super) fn speak_again(&mut self, conn: ConnId, out: &mut Vec<Output>) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            announce(conn, connection, out);
        }
    }

    /// See [`super::Speaker::transmit`].
    pub(super) fn transmit(&mut self, now: Instant, conn: ConnId, out: &mut BytesMut, limit: usize) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.announced = false;
        if connection.missing.address.is_some() {
            return;
        }
        self.session.handle(now, SessionEvent::Progress(conn));
        let start = out.len();
        connection.write_control(out, &mut self.counters);
        if let Some(up) = self.up.as_mut().filter(|up| up.conn == conn) {
            let routes = out.len();
            if up.adj_out.pending() && out.len() - start < limit {
                up.adj_out.fill(out, limit - (out.len() - start));
            }
            self.counters.sent(out.get(routes..).unwrap_or_default());
        }
        if out.len() > start {
            connection.acknowledged = false;
        }
    }

    /// Takes over a configuration; what the session has negotiated stays.
    pub(super) fn configure(&mut self, speaker: &Arc<SpeakerConfig>, config: &Arc<PeerConfig>) {
        self.speaker = Arc::clone(speaker);
        self.config = Arc::clone(config);
        self.session.configure(Arc::clone(speaker), Arc::clone(config));
    }

    /// Applies a changed policy: to a session that stays up, or to the routes that wait for the peer's return.
    pub(super) fn reapply_policy(&mut self, now: Instant, out: &mut Vec<Output>) -> Effects {
        let mut effects = Effects::default();
        let Some(up) = &self.up else {
            let import = self.adj_in.as_ref().map(|adj_in| self.import_policy(adj_in.context().clone()));
            if let Some((adj_in, import)) = self.adj_in.as_mut().zip(import) {
                // Whether it announces too much shows when it is back and does.
                effects.learned = adj_in.reconfigure(import).0.prefixes;
            }
            return effects;
        };
        let (conn, negotiated) = (up.conn, Arc::clone(&up.negotiated));
        let Some(ends) = self.connections.get(&conn).map(|c| c.ends) else { return effects };
        let (export, import) = (self.export_context(&ends, &negotiated), self.import_context(&ends, &negotiated));
        if let Some(up) = &mut self.up
            && *up.adj_out.context() != export
        {
            up.adj_out.reconfigure(export);
            self.announce_routes(out);
        }
        if let Some(adj_in) = &mut self.adj_in
            && *adj_in.context() != import
        {
            let (changes, ask) = adj_in.reconfigure(import);
            effects.learned = changes.prefixes;
            if negotiated.route_refresh {
                self.request(conn, ask, out);
            }
            self.warn_of_limit(changes.limit_warning, out);
            if let Some(exceeded) = changes.limit_exceeded {
                let event = self.too_many(exceeded);
                effects.learned.extend(self.handle(now, event, out).learned);
            }
        }
        effects
    }

    /// Asks the peer to send its routes once more (RFC 2918 §4).
    fn request(&mut self, conn: ConnId, families: Families, out: &mut Vec<Output>) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        for family in families.iter() {
            let (afi, safi) = family.afi_safi();
            connection.queue(Message::RouteRefresh(RouteRefresh { afi, subtype: 0, safi }));
            announce(conn, connection, out);
        }
    }

    /// The interface the peer is behind, where the configuration says so.
    pub(super) fn interface(&self) -> Option<&str> {
        self.config.address.interface().or(self.config.bind_interface.as_deref())
    }

    /// Who it is to the decision.
    pub(super) fn rib_peer(&self, ends: &Ends, negotiated: &Negotiated) -> RibPeer {
        RibPeer {
            address: self.config.address.clone(),
            kind: negotiated.kind,
            session_address: ends.remote.ip(),
            router_id: negotiated.router_id,
            interface: self.interface().map(str::to_owned),
        }
    }

    pub(super) fn export_context(&self, ends: &Ends, negotiated: &Negotiated) -> ExportContext {
        ExportContext {
            link_local: ends.link_local,
            global: ends.global,
            link_local_capability: negotiated.link_local_next_hop,
            next_hop_format: self.config.next_hop_format,
            next_hop_self: self.config.next_hop_self,
            prefix_list: self.config.prefix_list_out.clone(),
            rules: self.config.export_rules.clone(),
            requires_policy: self.speaker.ebgp_requires_policy,
            graceful_shutdown: self.config.graceful_shutdown,
            role: self.config.role,
            behind_asn: self.config.local_as.filter(|local| !local.replace_as).map(|_| self.speaker.asn),
            ..ExportContext::new(
                self.config.our_as(&self.speaker),
                ends.local.ip(),
                ends.remote.ip(),
                negotiated.send.clone(),
            )
        }
    }

    pub(super) fn import_context(&self, ends: &Ends, negotiated: &Negotiated) -> ImportContext {
        let own = [Some(ends.local.ip()), ends.link_local.map(IpAddr::V6), ends.global.map(IpAddr::V6)];
        self.import_policy(ImportContext {
            own_addresses: own.into_iter().flatten().collect(),
            link_local_usable: self.interface().is_some(),
            ..ImportContext::new(
                negotiated.kind,
                self.speaker.asn,
                negotiated.asn,
                self.speaker.router_id,
                negotiated.families,
            )
        })
    }

    /// What the configuration says of routes from this session.
    fn import_policy(&self, session: ImportContext) -> ImportContext {
        ImportContext {
            prefix_list: self.config.prefix_list_in.clone(),
            requires_policy: self.speaker.ebgp_requires_policy,
            allowas_in: self.config.allowas_in,
            max_prefixes: self.config.max_prefixes,
            role: self.config.role,
            enforce_first_as: self.config.enforce_first_as,
            other_asn: self.config.local_as.map(|local| local.asn),
            ..session
        }
    }
}

/// Whether a connection from there is that of a peer configured like this.
pub(super) fn is_from(
    config: &PeerConfig,
    discovered: Option<Ipv6Addr>,
    local: IpAddr,
    remote: IpAddr,
    interface: Option<&str>,
) -> bool {
    let from = match &config.address {
        PeerAddress::Numbered(address) => {
            remote == *address && config.bind_interface.as_deref().is_none_or(|bound| interface == Some(bound))
        }
        PeerAddress::LinkLocal(address, on) => remote == *address && interface == Some(on),
        PeerAddress::Interface(on) => {
            matches!(remote, IpAddr::V6(address) if address.is_unicast_link_local()
                && discovered.is_none_or(|known| known == address))
                && interface == Some(on)
        }
    };
    from && config.local_address.is_none_or(|ours| ours == local)
}

/// Says once that there is something to write.
fn announce(conn: ConnId, connection: &mut Connection, out: &mut Vec<Output>) {
    if !std::mem::replace(&mut connection.announced, true) {
        out.push(Output::Transmit(conn));
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = BytesMut::with_capacity(2 * bytes.len().min(QUOTED));
    for byte in bytes.iter().take(QUOTED) {
        for nibble in [byte >> 4, byte & 15] {
            text.put_u8(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
