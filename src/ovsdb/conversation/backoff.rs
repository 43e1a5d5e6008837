//! Which remote next, and when.

use std::time::Duration;

use super::Config;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);

/// Walks the remotes round and round. The first round is walked without delay; after that each attempt waits 1, 2, 4, then 8 s,
/// less up to a quarter at random, so that a thousand hosts do not return at the same instant.
#[derive(Debug)]
pub(super) struct Backoff {
    /// Index of the remote in use.
    pub(super) at: usize,
    remotes: usize,
    /// Attempts in a row that led to nothing lasting.
    failures: u32,
    random: u64,
}

impl Backoff {
    pub(super) fn new(config: &mut Config) -> Self {
        let mut backoff = Self { at: 0, remotes: config.remotes.len(), failures: 0, random: config.seed };
        if config.shuffle {
            // Fisher–Yates.
            for i in (1..config.remotes.len()).rev() {
                #[expect(clippy::cast_possible_truncation, reason = "the remainder is at most i")]
                let j = (backoff.random() % (i as u64 + 1)) as usize;
                config.remotes.swap(i, j);
            }
        }
        backoff
    }

    /// The attempt failed, or a connection that had been synced for `lasted` broke: moves on to the next remote. Answers how long to
    /// wait, and whether every remote has been tried by now.
    pub(super) fn failed(&mut self, lasted: Option<Duration>) -> (Duration, bool) {
        self.at = (self.at + 1).checked_rem(self.remotes).unwrap_or(0);
        // A server that breaks off again and again right after the dump counts as failing.
        if lasted.is_some_and(|lasted| lasted >= LONGEST) {
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        let remotes = u32::try_from(self.remotes).unwrap_or(u32::MAX);
        let Some(beyond) = self.failures.checked_sub(remotes) else {
            return (Duration::ZERO, false);
        };
        let delay = FIRST.saturating_mul(1 << beyond.min(3)).min(LONGEST);
        let part = (self.random() % 1024) as u32;
        (delay.saturating_sub(delay / 4 * part / 1024), true)
    }

    /// SplitMix64: good enough to spread hosts in time, and repeatable.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovsdb::remote::Remote;

    fn backoff(remotes: &str, shuffle: bool, seed: u64) -> (Backoff, Config) {
        let mut config = Config::new("db", Remote::parse(remotes).unwrap(), vec![]);
        (config.shuffle, config.seed) = (shuffle, seed);
        (Backoff::new(&mut config), config)
    }

    #[test]
    fn one_round_at_once_then_longer_and_longer() {
        let (mut backoff, _) = backoff("tcp:a,tcp:b", false, 7);
        assert_eq!(backoff.failed(None), (Duration::ZERO, false));
        assert_eq!(backoff.at, 1);
        for seconds in [1, 2, 4, 8, 8, 8] {
            let full = Duration::from_secs(seconds);
            let (delay, exhausted) = backoff.failed(None);
            assert!(exhausted && delay <= full && delay >= full * 3 / 4, "{delay:?} of {full:?}");
        }
        assert_eq!(backoff.failed(Some(LONGEST)), (Duration::ZERO, false), "a lasting connection forgives all");
    }

    #[test]
    fn a_server_that_breaks_off_after_each_dump_is_not_hammered() {
        let (mut backoff, _) = backoff("tcp:a", false, 7);
        for _ in 0..10 {
            assert!(backoff.failed(Some(Duration::from_millis(5))).0 >= Duration::from_millis(700));
        }
    }

    #[test]
    fn hosts_differ_in_order_and_jitter() {
        let orders: std::collections::HashSet<String> =
            (0..20).map(|seed| format!("{:?}", backoff("tcp:a,tcp:b,tcp:c", true, seed).1.remotes)).collect();
        assert!(orders.len() > 3, "{orders:?}");
        let delays: std::collections::HashSet<Duration> =
            (0..20).map(|seed| backoff("tcp:a", false, seed).0.failed(None).0).collect();
        assert!(delays.len() > 10, "{delays:?}");
    }
}
