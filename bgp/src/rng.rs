//! Randomness that is reproducible from a seed: it spreads timers and picks discriminators, it keeps no secrets.

use std::time::Duration;

/// A small seeded generator (SplitMix64).
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

    /// `duration` times a factor between 0.75 and 1.0: what RFC 4271 §10 and RFC 5880 §6.8.7 ask of timers.
    ///
    /// RFC 4271 §10: "To minimize the likelihood that the distribution of BGP messages by a given BGP speaker will contain
    /// peaks, jitter SHOULD be applied to the timers […] a random amount of up to 25%".
    pub fn jitter(&mut self, duration: Duration) -> Duration {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos - self.next() % (nanos / 4 + 1))
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
}
