//! How a workload's walks are retried: names of [`RetryPolicy`], and when they give up.

use walker::mirror::RetryPolicy;

/// Policy and patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// What follows a collision.
    pub policy: RetryPolicy,
    /// Collisions until an operation ends as a recorded give-up; `u32::MAX`: never.
    pub attempts: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { policy: RetryPolicy::AtOnce, attempts: u32::MAX }
    }
}

/// Every policy that a definition may name.
pub const POLICIES: [(&str, RetryPolicy); 5] = [
    ("at_once", RetryPolicy::AtOnce),
    ("after_1ms", RetryPolicy::After { ns: 1_000_000 }),
    ("back_off", RetryPolicy::BackOff),
    ("resumed", RetryPolicy::Resumed),
    ("locked", RetryPolicy::Locked),
];

impl Retry {
    /// The policy with this name.
    pub fn parse_policy(name: &str) -> Option<RetryPolicy> {
        POLICIES.iter().find(|(n, _)| *n == name).map(|(_, p)| *p)
    }
    /// As in definitions.
    pub fn policy_name(self) -> &'static str {
        POLICIES.iter().find(|(_, p)| *p == self.policy).map_or("attempts", |(n, _)| n)
    }
}
