//! The routes of a peer that restarts (RFC 4724 §4.2, the receiving speaker; RFC 9494 §4.2, the helper), family by family.
//!
//! ```text
//!            down, routes kept                up again                 End-of-RIB
//!  Off ───────────────────────────▶ Waiting ───────────▶ Resyncing ────────────────▶ Off
//!                                     │ restart time  ▲    ▲ │  stale-path time
//!                      long-lived     ▼        up     │    │ │
//!                      agreed     LongLived ──────────┼────┘ │  the long-lived time goes on meanwhile
//!                                     │  long-lived time     │
//!                                     └──────────┬───────────┘
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
pub(crate) struct Helper {
    ipv4: Option<Stale>,
    ipv6: Option<Stale>,
}

/// The stale routes of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stale {
    phase: Phase,
    /// When the phase is over.
    until: Instant,
    /// What comes after the restart time.
    long_lived: LongLived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The peer is away, its restart time runs.
    Waiting,
    /// It is still away, and its routes are the last resort.
    LongLived,
    /// The peer is back and sends its routes again.
    Resyncing,
}

/// The long-lived stale time of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LongLived {
    /// Not agreed: stale routes are flushed when the restart time is over.
    No,
    /// Begins when the restart time is over.
    For(Duration),
    /// Has begun. "If a timer for the Long-Lived Stale Time is running … it MUST NOT be updated … until the peer has established
    /// and synchronized a new session" (RFC 9494 §4.2).
    Until(Instant),
}

/// What becomes of a peer's routes when its session goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The families whose routes are to be marked stale; those of the others have to go.
    pub(crate) families: Families,
    /// Those of them whose routes that are stale already stay nevertheless.
    pub(crate) twice: Families,
}

/// What has to be done because a time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expired {
    /// The families whose stale routes have to go.
    pub(crate) gone: Families,
    /// The families whose stale routes are the last resort from now on.
    pub(crate) long_lived: Families,
}

impl Helper {
    const fn of_mut(&mut self, family: Family) -> &mut Option<Stale> {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Stale> {
        self.ipv4.iter().chain(&self.ipv6)
    }

    /// The session went down and its routes are kept.
    pub(crate) fn down(&mut self, now: Instant, negotiated: &Negotiated) -> Kept {
        let mut kept = Kept::default();
        let former = std::mem::take(self);
        let Some(restart) = &negotiated.restart else { return kept };
        for (family, former) in [(Family::Ipv4, former.ipv4), (Family::Ipv6, former.ipv6)] {
            let running = former.map(|stale| stale.long_lived).filter(|l| matches!(l, LongLived::Until(_)));
            let agreed = restart.long_lived(family).map_or(LongLived::No, |l| LongLived::For(l.stale_time));
            let long_lived = running.unwrap_or(agreed);
            let graceful = restart.families.contains(family);
            // RFC 9494 §4.2: the two periods come one after the other; one that is zero, or not agreed, is left out.
            let after_restart = if graceful { now + restart.restart_time } else { now };
            let until = match long_lived {
                LongLived::No if !graceful => continue,
                LongLived::Until(end) => after_restart.min(end),
                LongLived::No | LongLived::For(_) => after_restart,
            };
            *self.of_mut(family) = Some(Stale { phase: Phase::Waiting, until, long_lived });
            kept.families = kept.families.with(family);
            // "… in the case of consecutive restarts, the previously marked stale routes MUST NOT be deleted before the timer for
            // the Long-Lived Stale Time expires" (RFC 9494 §4.2); otherwise they MUST be (RFC 4724 §4.2).
            if running.is_some() {
                kept.twice = kept.twice.with(family);
            }
        }
        kept
    }

    /// The session is up again. Answers the families whose stale routes have to go at once.
    ///
    /// RFC 4724 §4.2: "if the F bit for an <AFI, SAFI> is not set in the newly received Graceful Restart Capability, or if a
    /// specific <AFI, SAFI> is not included, or if the capability is not received in the re-established session at all, then
    /// the Receiving Speaker MUST immediately remove all the stale routes". RFC 9494 §4.2 says the same of its own capability for
    /// what is kept for its time.
    pub(crate) fn up(&mut self, now: Instant, negotiated: &Negotiated) -> Families {
        let restart = negotiated.restart.as_ref();
        let mut gone = Families::NONE;
        for family in Family::ALL {
            let slot = self.of_mut(family);
            let Some(stale) = slot else { continue };
            let preserved = match stale.phase {
                Phase::LongLived => restart.and_then(|r| r.long_lived(family)).is_some_and(|l| l.forwarding),
                Phase::Waiting | Phase::Resyncing => restart.is_some_and(|r| r.forwarding.contains(family)),
            };
            if preserved {
                // "… the timer continues to run once the session has re-established" (RFC 9494 §4.2).
                stale.until = if let LongLived::Until(end) = stale.long_lived { end } else { now + STALE_PATH };
                stale.phase = Phase::Resyncing;
            } else {
                *slot = None;
                gone = gone.with(family);
            }
        }
        gone
    }

    /// An End-of-RIB came. Whether stale routes of the family have to go now.
    pub(crate) fn end_of_rib(&mut self, family: Family) -> bool {
        self.of_mut(family).take_if(|stale| stale.phase == Phase::Resyncing).is_some()
    }

    /// The peer did not make it in time.
    pub(crate) fn expire(&mut self, now: Instant) -> Expired {
        let mut expired = Expired::default();
        for family in Family::ALL {
            let slot = self.of_mut(family);
            let Some(stale) = slot.as_mut().filter(|stale| stale.until <= now) else { continue };
            let end = match stale.long_lived {
                LongLived::For(time) => stale.until + time,
                LongLived::Until(end) => end,
                LongLived::No => stale.until,
            };
            if stale.phase == Phase::Waiting && end > now {
                *stale = Stale { phase: Phase::LongLived, until: end, long_lived: LongLived::Until(end) };
                expired.long_lived = expired.long_lived.with(family);
            } else {
                *slot = None;
                expired.gone = expired.gone.with(family);
            }
        }
        expired
    }

    /// Stops waiting.
    pub(crate) fn cancel(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.all().map(|stale| stale.until).min()
    }

    /// Whether some routes are kept for the long-lived stale time only.
    pub(crate) fn is_long_lived(&self) -> bool {
        self.all().any(|stale| stale.phase == Phase::LongLived)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::session::{LongLivedFamily, PeerRestart};
    use crate::types::PeerKind;
    use crate::wire::Context;

    fn negotiated(families: Families, forwarding: Option<Families>) -> Negotiated {
        Negotiated {
            kind: PeerKind::Ebgp,
            asn: 65002,
            router_id: Ipv4Addr::new(10, 0, 0, 2),
            hold_time: Duration::from_secs(90),
            keepalive: Duration::from_secs(30),
            send_hold: None,
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
                long_lived: [None; 2],
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
        let kept = helper.down(now, &negotiated(Families::ALL, Some(Families::ALL)));
        assert_eq!(kept, Kept { families: Families::ALL, twice: Families::NONE });
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
        assert_eq!(helper.expire(now + Duration::from_secs(119)), Expired::default());
        assert_eq!(helper.expire(now + Duration::from_mins(2)), Expired { gone: Families::ALL, ..Expired::default() });
        assert_eq!(helper.deadline(), None);
    }

    #[test]
    fn a_peer_that_is_back_and_never_ends_loses_what_it_did_not_repeat() {
        let now = Instant::now();
        let mut helper = Helper::default();
        helper.down(now, &negotiated(Families::ALL, Some(Families::ALL)));
        helper.up(now, &negotiated(Families::ALL, Some(Families::ALL)));
        helper.end_of_rib(Family::Ipv4);
        assert_eq!(helper.expire(now + STALE_PATH), Expired { gone: IPV6, ..Expired::default() });
    }

    #[test]
    fn without_the_capability_nothing_is_kept() {
        let mut helper = Helper::default();
        assert_eq!(helper.down(Instant::now(), &negotiated(Families::ALL, None)), Kept::default());
        assert_eq!(helper.deadline(), None);
    }

    /// The same with a long-lived stale time of an hour for IPv4.
    fn long_lived(graceful: Families, forwarding: bool) -> Negotiated {
        let mut negotiated = negotiated(graceful, Some(graceful));
        if let Some(restart) = &mut negotiated.restart {
            restart.long_lived = [Some(LongLivedFamily { forwarding, stale_time: HOUR }), None];
        }
        negotiated
    }

    const HOUR: Duration = Duration::from_hours(1);
    const RESTART: Duration = Duration::from_mins(2);

    #[test]
    fn the_long_lived_time_follows_the_restart_time() {
        let now = Instant::now();
        let mut helper = Helper::default();
        assert_eq!(helper.down(now, &long_lived(Families::ALL, true)).families, Families::ALL);
        assert_eq!(helper.expire(now + RESTART), Expired { gone: IPV6, long_lived: IPV4 });
        assert!(helper.is_long_lived());
        let end = now + RESTART + HOUR;
        assert_eq!(helper.deadline(), Some(end));
        assert_eq!(helper.expire(end), Expired { gone: IPV4, ..Expired::default() });
        assert_eq!(helper, Helper::default());
        // A family without graceful restart has no restart time to wait for.
        assert_eq!(helper.down(now, &long_lived(IPV6, true)).families, Families::ALL);
        assert_eq!(helper.expire(now), Expired { gone: Families::NONE, long_lived: IPV4 });
        assert_eq!(helper.deadline(), Some(now + RESTART), "that of the other family");
    }

    #[test]
    fn the_long_lived_time_goes_on_until_the_peer_has_said_everything() {
        let now = Instant::now();
        let session = long_lived(Families::ALL, true);
        let mut helper = Helper::default();
        helper.down(now, &session);
        helper.expire(now + RESTART);
        let end = now + RESTART + HOUR;
        let back = now + HOUR;
        assert_eq!(helper.up(back, &session), Families::NONE);
        assert_eq!(helper.deadline(), Some(end), "not updated");
        // It goes again before End-of-RIB: what was stale stays, for what is left of the time.
        assert_eq!(helper.down(back, &session), Kept { families: Families::ALL, twice: IPV4 });
        assert_eq!(helper.expire(back + RESTART), Expired { gone: Families::ALL, ..Expired::default() });
        // With End-of-RIB the time is over, and a new one begins next time.
        helper.down(now, &session);
        helper.expire(now + RESTART);
        helper.up(back, &session);
        assert!(helper.end_of_rib(Family::Ipv4));
        assert_eq!(helper.down(back, &session).twice, Families::NONE);
        helper.expire(back + RESTART);
        assert_eq!(helper.deadline(), Some(back + RESTART + HOUR));
    }

    #[test]
    fn a_peer_that_did_not_preserve_loses_what_was_kept_for_long() {
        let now = Instant::now();
        for session in [long_lived(Families::ALL, false), negotiated(Families::ALL, Some(Families::ALL))] {
            let mut helper = Helper::default();
            helper.down(now, &long_lived(Families::ALL, true));
            helper.expire(now + RESTART);
            assert_eq!(helper.up(now + HOUR, &session), IPV4);
        }
        // Within the restart time it is the other capability that counts.
        let mut helper = Helper::default();
        helper.down(now, &long_lived(Families::ALL, true));
        assert_eq!(helper.up(now, &long_lived(Families::ALL, false)), Families::NONE);
    }
}
