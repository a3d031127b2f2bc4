//! What came of a world of leases.

use std::fmt;

use super::LeaseScenario;

macro_rules! counts {
    ($($name:ident: $text:literal,)*) => {
        /// The result of a world, or the sum of many.
        #[derive(Clone, Debug, Default)]
        pub struct LeaseReport {
            /// The seed.
            pub seed: u64,
            /// What the world was about.
            pub scenario: LeaseScenario,
            /// What was broken: when, which promise, and how.
            pub violations: Vec<String>,
            $(#[doc = $text] pub $name: u64,)*
        }

        impl LeaseReport {
            /// Adds the counts of another world.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// All counts by name.
            #[must_use]
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$(($text, self.$name),)*]
            }
        }
    };
}

counts! {
    asked: "requests",
    retried: "requests with the ticket of an earlier one",
    hang_ups: "clients that hung up",
    cancels: "cancelled requests",
    grants: "grants",
    held: "leases that clients took for their own",
    denied: "denied requests",
    renewals: "renewals",
    revived: "leases renewed after their deadline",
    lost_leases: "leases that a renewal found lost",
    no_majority: "renewals without a majority",
    releases: "releases",
    late_releases: "releases after the deadline",
    deaths: "holders that died",
    overdue: "requests that no coordinator answered",
    events: "events told by views",
    found_live: "leases overdue in a view that voters hold",
    found_over: "leases overdue in a view that are over",
    unclear: "checks of overdue leases without a majority",
    views_reset: "leases that came back to a view after their end was told",
    probes: "free paths granted at the end",
    restarts: "restarts",
    partitions: "partitions",
    twins: "second processes of a voter",
    changes: "nodes told other voters",
    cut: "messages cut off",
    lost: "messages lost",
    late: "messages that came long after the end of a round",
}

impl LeaseReport {
    /// Whether all promises were kept.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for LeaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}:", self.seed, self.scenario)?;
        for (name, count) in self.counts() {
            writeln!(f, "  {count:>9} {name}")?;
        }
        for violation in &self.violations {
            writeln!(f, "BROKEN at {violation}")?;
        }
        Ok(())
    }
}
