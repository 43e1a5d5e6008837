//! How punctual our own packets are: the proof that a session which the peer declared down was not our doing.

use std::time::Duration;

/// How punctual one packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// After the time it was meant for.
    pub late: Duration,
    /// Time since the periodic packet before it, and the interval in force; `None` where something has changed in between.
    pub gap: Option<(Duration, Duration)>,
}

/// How late packets were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    counts: [u64; Lateness::BOUNDS.len() + 1],
    total: Duration,
}

impl Lateness {
    /// Upper bounds of the classes in milliseconds, inclusive; one class more has no bound.
    pub const BOUNDS: [u64; 8] = [1, 2, 5, 10, 20, 50, 100, 500];

    /// Packets in each class.
    pub const fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The lateness of all packets together.
    pub const fn total(&self) -> Duration {
        self.total
    }

    fn note(&mut self, late: Duration) {
        let class = Self::BOUNDS.iter().position(|bound| late <= Duration::from_millis(*bound));
        self.total = self.total.saturating_add(late);
        if let Some(count) = self.counts.get_mut(class.unwrap_or(Self::BOUNDS.len())) {
            *count += 1;
        }
    }
}

/// What was counted of many packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Punctuality {
    /// How late they were.
    pub lateness: Lateness,
    /// Periodic packets sent 75 to 100 % of the interval after the one before (RFC 5880 §6.8.7).
    pub in_window: u64,
    /// Sooner, which the peer need not bear.
    pub too_soon: u64,
    /// Later.
    pub too_late: u64,
    /// The longest time between two, in thousandths of the interval.
    pub worst_gap: u32,
}

impl Punctuality {
    /// Counts a packet.
    pub fn note(&mut self, pace: Pace) {
        self.lateness.note(pace.late);
        let Some((gap, interval)) = pace.gap else { return };
        if gap > interval {
            self.too_late += 1;
        } else if gap * 4 < interval * 3 {
            self.too_soon += 1;
        } else {
            self.in_window += 1;
        }
        let thousandths = gap.as_nanos().saturating_mul(1000).checked_div(interval.as_nanos()).unwrap_or(0);
        self.worst_gap = self.worst_gap.max(u32::try_from(thousandths).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_from_three_quarters_to_the_whole_interval() {
        const MS: fn(u64) -> Duration = Duration::from_millis;
        let mut seen = Punctuality::default();
        for (late, gap) in [(0, Some(75)), (0, Some(100)), (3, Some(101)), (0, Some(74)), (501, None)] {
            seen.note(Pace { late: MS(late), gap: gap.map(|gap| (MS(gap), MS(100))) });
        }
        assert_eq!((seen.in_window, seen.too_late, seen.too_soon, seen.worst_gap), (2, 1, 1, 1010));
        assert_eq!(seen.lateness.counts(), [3, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(seen.lateness.total(), MS(504));
    }
}
