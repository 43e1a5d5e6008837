//! Randomness and waiting, both reproducible from a seed.

use std::time::Duration;

/// A small seeded generator (SplitMix64). Good enough to spread timers; not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same sequence.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `duration` times a factor between 0.75 and 1.0.
    ///
    /// RFC 4271 §10: "To minimize the likelihood that the distribution of BGP messages by a given BGP speaker will contain
    /// peaks, jitter SHOULD be applied to the timers […] a random amount of up to 25%".
    pub fn jitter(&mut self, duration: Duration) -> Duration {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let quarter = nanos / 4;
        Duration::from_nanos(nanos - self.next() % (quarter + 1))
    }
}

/// How long to stay in Idle after a failure: the DampPeerOscillations of RFC 4271 §8.1.1.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after the first failure.
    pub(super) const FIRST: Duration = Duration::from_secs(1);
    /// The longest wait.
    pub(super) const LONGEST: Duration = Duration::from_mins(1);
    /// A session that was up for this long has earned a fresh start.
    pub(super) const STABLE: Duration = Duration::from_mins(1);

    /// Notes a failure and answers how long to wait, before jitter.
    pub(super) fn failed(&mut self) -> Duration {
        let wait = Self::FIRST.saturating_mul(1 << self.failures.min(16)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Forgets all failures.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_three_quarters_and_the_whole() {
        let mut rng = Rng::new(1);
        let drawn: Vec<_> = (0..1000).map(|_| rng.jitter(Duration::from_secs(100)).as_secs()).collect();
        assert!(drawn.iter().all(|s| (75..=100).contains(s)));
        assert!(drawn.iter().any(|s| *s < 80) && drawn.iter().any(|s| *s > 95), "not spread: {drawn:?}");
        assert_eq!(rng.jitter(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.failed().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.failed(), Backoff::FIRST);
    }
}
