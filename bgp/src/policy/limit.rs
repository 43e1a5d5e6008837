//! How many routes a peer may announce, and what becomes of it when it announces more.

use std::time::Duration;

/// The limit of one family, for each family alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct MaxPrefixes {
    /// So many routes may be in use; of several paths to a prefix (RFC 7911) each one counts.
    pub limit: u32,
    /// From this percentage of the limit on there is a warning; 1 to 100.
    pub warning: u8,
    /// What happens above the limit.
    pub action: LimitAction,
}

/// What happens when a peer announces more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum LimitAction {
    /// The session ends with Cease, subcode 1 (RFC 4486 §4), and is tried again after the ordinary wait, which doubles each time.
    #[default]
    Reconnect,
    /// The same, but it is not tried again before this time has passed.
    Restart(Duration),
    /// There is a warning, and everything is accepted.
    WarnOnly,
}

impl MaxPrefixes {
    /// The percentage that is worth a warning unless the configuration says otherwise.
    pub const WARNING: u8 = 75;

    /// A limit with the defaults of the configuration file.
    pub const fn new(limit: u32) -> Self {
        Self { limit, warning: Self::WARNING, action: LimitAction::Reconnect }
    }

    /// The number of routes from which on there is a warning; at least 1, at most the limit.
    pub fn warn_from(&self) -> u32 {
        let share = u64::from(self.limit) * u64::from(self.warning.min(100));
        u32::try_from(share.div_ceil(100)).unwrap_or(self.limit).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_is_a_share_of_the_limit_rounded_up() {
        for (limit, warning, from) in
            [(100, 75, 75), (10, 75, 8), (1, 75, 1), (1, 1, 1), (3, 100, 3), (u32::MAX, 100, u32::MAX)]
        {
            assert_eq!(MaxPrefixes { warning, ..MaxPrefixes::new(limit) }.warn_from(), from, "{warning} % of {limit}");
        }
    }
}
