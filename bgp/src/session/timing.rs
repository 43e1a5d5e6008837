//! Waiting after failures.

use std::time::Duration;

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
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.failed().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.failed(), Backoff::FIRST);
    }
}
