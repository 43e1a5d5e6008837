//! Damping of a path that comes and goes: whoever relies on it is told of every failure at once, but of its return only after the
//! path has held for a while. RFC 5882 §3.1 leaves it to the clients' side; the session itself goes on as ever.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Failures that cost nothing.
const FREE: u32 = 3;
/// The first wait; each failure more doubles it.
const FIRST: Duration = Duration::from_secs(5);
/// The longest wait.
const LONGEST: Duration = Duration::from_mins(1);
/// Without a failure for so long, all is forgotten.
const CALM: Duration = Duration::from_mins(5);

/// What is remembered of one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damping {
    failures: u32,
    last: Option<Instant>,
}

/// What is remembered, for somebody else to go on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedDamping {
    /// How often the path has failed.
    pub failures: u32,
    /// Time since the last failure.
    pub last: Option<Duration>,
}

impl Damping {
    /// What somebody else needs to go on.
    pub fn hand_over(&self, now: Instant) -> HandedDamping {
        let last = self.last.map(|at| now.saturating_duration_since(at));
        HandedDamping { failures: self.failures, last }
    }

    /// Goes on with what somebody else remembered so long ago.
    pub fn take_over(now: Instant, handed: HandedDamping, gap: Duration) -> Self {
        let HandedDamping { failures, last } = handed;
        let last = last.map(|age| now.checked_sub(age.saturating_add(gap)).unwrap_or(now));
        Self { failures, last }
    }

    /// The path has failed. Answers whether its return will have to wait.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
        self.failures > FREE
    }

    /// How long the path has to hold, if it works from now on, before it is relied on again.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.forget(now);
        match self.failures.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(more) => 2_u32.checked_pow(more).map_or(LONGEST, |times| (FIRST * times.min(100)).min(LONGEST)),
        }
    }

    fn forget(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= CALM) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_over_and_over_waits_longer_each_time_up_to_a_minute() {
        let mut now = Instant::now();
        let mut damping = Damping::default();
        let mut waits = Vec::new();
        for _ in 0..40 {
            now += Duration::from_secs(1);
            let held = damping.failed(now);
            let wait = damping.wait(now).as_secs();
            assert_eq!(held, wait > 0);
            waits.push(wait);
        }
        assert_eq!(waits[..9], [0, 0, 0, 5, 10, 20, 40, 60, 60]);
        assert_eq!(waits.last(), Some(&60));
        assert_eq!(damping.wait(now + CALM / 2), LONGEST);
        assert_eq!(damping.wait(now + CALM), Duration::ZERO, "five quiet minutes are enough");
        assert!(!damping.failed(now + CALM));
    }
    #[test]
    fn who_takes_over_remembers_as_much() {
        let now = Instant::now();
        let mut damping = Damping::default();
        for _ in 0..5 {
            damping.failed(now);
        }
        let minute = Duration::from_mins(1);
        let handed = damping.hand_over(now + minute);
        assert_eq!(handed, HandedDamping { failures: 5, last: Some(minute) });
        let heir = Damping::take_over(now + minute * 2, handed, minute);
        assert_eq!(heir, damping);
    }
}
