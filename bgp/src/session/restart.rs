//! The routes of a peer that restarts (RFC 4724 §4.2, the receiving speaker).
//!
//! ```text
//!            down, routes kept                up again                 End-of-RIB
//!  Off ───────────────────────────▶ Waiting ───────────▶ Resyncing ────────────────▶ Off
//!                                     │  restart time       │  stale-path time
//!                                     └──────────┬──────────┘
//!                                                ▼
//!                                  what is still stale is flushed
//! ```

use std::time::{Duration, Instant};

use super::Negotiated;
use crate::types::{Families, Family};

/// How long a peer that is back may take to send its routes again before those it did not repeat are flushed (the upper bound RFC
/// 4724 §4.2 asks for).
const STALE_PATH: Duration = Duration::from_mins(6);

/// Which routes of a peer are stale, and until when they may stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Helper(Option<Stale>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stale {
    families: Families,
    until: Instant,
    /// The peer is back and sends its routes again.
    resyncing: bool,
}

impl Helper {
    /// The session went down and its routes are kept. Answers the families whose routes are to be marked stale; those of the
    /// others have to go.
    pub(crate) fn down(&mut self, now: Instant, negotiated: &Negotiated) -> Families {
        let Some(restart) = &negotiated.restart else { return Families::NONE };
        let until = now + restart.restart_time;
        self.0 =
            (!restart.families.is_empty()).then_some(Stale { families: restart.families, until, resyncing: false });
        restart.families
    }

    /// The session is up again. Answers the families whose stale routes have to go at once.
    ///
    /// RFC 4724 §4.2: "if the F bit for an <AFI, SAFI> is not set in the newly received Graceful Restart Capability, or if a
    /// specific <AFI, SAFI> is not included, or if the capability is not received in the re-established session at all, then
    /// the Receiving Speaker MUST immediately remove all the stale routes".
    pub(crate) fn up(&mut self, now: Instant, negotiated: &Negotiated) -> Families {
        let Some(stale) = &mut self.0 else { return Families::NONE };
        let kept = negotiated.restart.map_or(Families::NONE, |r| r.forwarding).and(stale.families);
        let gone = stale.families.iter().filter(|f| !kept.contains(*f)).collect();
        *stale = Stale { families: kept, until: now + STALE_PATH, resyncing: true };
        if kept.is_empty() {
            self.0 = None;
        }
        gone
    }

    /// An End-of-RIB came. Whether stale routes of the family have to go now.
    pub(crate) fn end_of_rib(&mut self, family: Family) -> bool {
        let Some(stale) = self.0.as_mut().filter(|s| s.resyncing && s.families.contains(family)) else { return false };
        stale.families = stale.families.iter().filter(|f| *f != family).collect();
        if stale.families.is_empty() {
            self.0 = None;
        }
        true
    }

    /// The peer did not make it in time: answers the families whose stale routes have to go.
    pub(crate) fn expire(&mut self, now: Instant) -> Families {
        self.0.take_if(|s| s.until <= now).map_or(Families::NONE, |s| s.families)
    }

    /// Stops waiting: answers the families whose stale routes have to go.
    pub(crate) fn cancel(&mut self) -> Families {
        self.0.take().map_or(Families::NONE, |s| s.families)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|s| s.until)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::session::PeerRestart;
    use crate::types::PeerKind;
    use crate::wire::Context;

    fn negotiated(families: Families, forwarding: Option<Families>) -> Negotiated {
        Negotiated {
            kind: PeerKind::Ebgp,
            asn: 65002,
            router_id: Ipv4Addr::new(10, 0, 0, 2),
            hold_time: Duration::from_secs(90),
            keepalive: Duration::from_secs(30),
            families: Families::ALL,
            receive: Context::default(),
            send: Context::default(),
            route_refresh: true,
            link_local_next_hop: false,
            restart: forwarding.map(|forwarding| PeerRestart {
                restart_time: Duration::from_mins(2),
                restarted: true,
                notification: false,
                families,
                forwarding,
            }),
            offered: vec![],
            received: vec![],
        }
    }

    const IPV4: Families = Families::NONE.with(Family::Ipv4);
    const IPV6: Families = Families::NONE.with(Family::Ipv6);

    #[test]
    fn stale_routes_go_with_the_end_of_rib_of_their_family() {
        let now = Instant::now();
        let mut helper = Helper::default();
        assert_eq!(helper.down(now, &negotiated(Families::ALL, Some(Families::ALL))), Families::ALL);
        assert_eq!(helper.up(now, &negotiated(Families::ALL, Some(Families::ALL))), Families::NONE);
        assert!(helper.end_of_rib(Family::Ipv4));
        assert!(!helper.end_of_rib(Family::Ipv4));
        assert!(helper.deadline().is_some());
        assert!(helper.end_of_rib(Family::Ipv6));
        assert_eq!(helper, Helper::default());
    }

    #[test]
    fn a_peer_that_did_not_keep_forwarding_loses_its_routes_when_it_is_back() {
        let now = Instant::now();
        for (back, gone) in [(Some(IPV4), IPV6), (Some(Families::NONE), Families::ALL), (None, Families::ALL)] {
            let mut helper = Helper::default();
            helper.down(now, &negotiated(Families::ALL, Some(Families::ALL)));
            assert_eq!(helper.up(now, &negotiated(Families::ALL, back)), gone, "{back:?}");
        }
    }

    #[test]
    fn a_peer_that_does_not_come_back_in_time_loses_its_routes() {
        let now = Instant::now();
        let mut helper = Helper::default();
        helper.down(now, &negotiated(Families::ALL, Some(Families::ALL)));
        assert_eq!(helper.deadline(), Some(now + Duration::from_mins(2)));
        assert_eq!(helper.expire(now + Duration::from_secs(119)), Families::NONE);
        assert_eq!(helper.expire(now + Duration::from_mins(2)), Families::ALL);
        assert_eq!(helper.deadline(), None);
    }

    #[test]
    fn a_peer_that_is_back_and_never_ends_loses_what_it_did_not_repeat() {
        let now = Instant::now();
        let mut helper = Helper::default();
        helper.down(now, &negotiated(Families::ALL, Some(Families::ALL)));
        helper.up(now, &negotiated(Families::ALL, Some(Families::ALL)));
        helper.end_of_rib(Family::Ipv4);
        assert_eq!(helper.expire(now + STALE_PATH), IPV6);
    }

    #[test]
    fn without_the_capability_nothing_is_kept() {
        let mut helper = Helper::default();
        assert_eq!(helper.down(Instant::now(), &negotiated(Families::ALL, None)), Families::NONE);
        assert_eq!(helper.deadline(), None);
    }
}
