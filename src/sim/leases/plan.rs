//! What a seed draws before a world of leases begins.

use super::super::plan::SECOND_US;
use super::super::random::Random;
use crate::core::lease::abstention_us;
use crate::core::lease::rules::{LeaseMutant, LeaseRules};

/// Nodes of a world. A second process with the id of one of them is at a place of its own.
pub(super) const NODES: usize = 5;

/// What a world is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseScenario {
    /// Everything at once.
    #[default]
    Storm,
    /// Voters restart one after another, and nothing else happens: no holder loses its lease.
    Rolling,
    /// The set of voters changes, node by node.
    Change,
    /// The set of voters changes with all the care that is asked for: no holder loses its lease.
    CarefulChange,
    /// A second process has the id of a voter for a time.
    Twins,
    /// Clocks run as fast and as slow as they may, and messages take no time.
    Drift,
    /// Short leases that are renewed at the last moment, by messages that take as long as a round.
    Late,
}

impl LeaseScenario {
    /// Whether no holder that renews loses its lease.
    pub(super) const fn keeps_leases(self) -> bool {
        matches!(self, Self::Rolling | Self::CarefulChange)
    }
}

/// A world of leases: all that its seed draws.
#[derive(Clone, Debug)]
pub struct LeasePlan {
    /// Draws everything that happens.
    pub seed: u64,
    /// What it is about.
    pub scenario: LeaseScenario,
    /// The nodes that vote.
    pub(super) voters: Vec<usize>,
    /// Those that vote in the end.
    pub(super) next_voters: Vec<usize>,
    /// The nodes that coordinate.
    pub(super) coordinators: Vec<usize>,
    pub(super) clients: usize,
    pub(super) storm_us: u64,
    pub(super) calm_us: u64,
    pub(super) max_ttl_us: u64,
    pub(super) min_ttl_us: u64,
    /// How long a message takes, one way.
    pub(super) delay_us: (u64, u64),
    /// How many of 10,000 messages take up to `slow_us`, and up to `late_us`.
    pub(super) slow: u64,
    pub(super) slow_us: u64,
    pub(super) late: u64,
    pub(super) late_us: u64,
    /// How many of 10,000 renewals, votes and answers to requests for leases take about as long as a round.
    pub(super) slow_kinds: [u64; 3],
    /// How many of 10,000 are lost.
    pub(super) loss: u64,
    /// How far clocks run from the true rate.
    pub(super) drift_ppm: u64,
    /// Whether all clocks run at one of the ends of that.
    pub(super) is_extreme: bool,
    pub(super) wall_us: u64,
    pub(super) fault_every_us: u64,
    pub(super) fault_for_us: u64,
    pub(super) paths: &'static [Target],
    /// How many of 10,000 requests wait.
    pub(super) waits: u64,
    pub(super) wait_us: u64,
    pub(super) hold_us: u64,
    pub(super) think_us: u64,
    /// How many of 10,000 requests hang up, and how many of those ask again with the same ticket.
    pub(super) hang_ups: u64,
    pub(super) retries: u64,
    /// How many of 10,000 holders renew late, or die without a release.
    pub(super) renew_late: u64,
    pub(super) deaths: u64,
    /// How many of 10,000 holders need their lease only for a moment.
    pub(super) brief: u64,
    /// How many of 10,000 requests come to any node as coordinator: nodes may see other members.
    pub(super) strays: u64,
    /// Whether the second step of a change of the voters comes right after the first one.
    pub(super) is_hasty: bool,
    pub(super) rules: LeaseRules,
}

/// What a client asks for: the namespace, the path, whether it is a prefix, and slots and claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) namespace: &'static str,
    pub(super) path: &'static str,
    pub(super) prefix: bool,
    pub(super) slots: Option<(u16, u16)>,
}

const fn target(path: &'static str, prefix: bool, slots: Option<(u16, u16)>) -> Target {
    Target { namespace: "", path, prefix, slots }
}

const MANY: &[Target] = &[
    target("a", false, None),
    target("a", true, None),
    target("a/b", false, None),
    target("a/b", true, None),
    target("a/b/c", false, None),
    target("a//b", false, None),
    target("ab", false, None),
    target("", true, None),
    target("s", false, Some((3, 1))),
    target("s", false, Some((3, 1))),
    target("s", false, Some((3, 2))),
    target("s", false, Some((2, 1))),
    target("s", true, None),
    Target { namespace: "other", path: "a", prefix: true, slots: None },
    Target { namespace: "other", path: "a/b", prefix: false, slots: None },
    Target { namespace: "other", path: "", prefix: true, slots: None },
];

const FEW: &[Target] =
    &[target("a", false, None), target("a", true, None), target("a/b", false, None), target("", true, None)];

const ONE: &[Target] = &[target("a", false, None)];

const SHARED: &[Target] = &[target("s", false, Some((3, 1))), target("s", false, Some((3, 2)))];

const EACH_ITS_OWN: &[Target] = &[
    target("a/0", false, None),
    target("a/1", false, None),
    target("a/2", false, None),
    target("b/3", false, None),
    target("b/4", true, None),
    target("c/5", false, Some((2, 1))),
];

impl LeasePlan {
    /// The world of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let scenario = match Random::new(seed, 1).below(20) {
            0..9 => LeaseScenario::Storm,
            9 => LeaseScenario::CarefulChange,
            10 => LeaseScenario::Rolling,
            11..13 => LeaseScenario::Change,
            13..15 => LeaseScenario::Twins,
            15..17 => LeaseScenario::Drift,
            _ => LeaseScenario::Late,
        };
        Self::of_scenario(seed, scenario)
    }

    /// A world that is about one thing.
    #[must_use]
    pub fn of_scenario(seed: u64, scenario: LeaseScenario) -> Self {
        let mut random = Random::new(seed, 2);
        let voters = match random.below(8) {
            0 => vec![random.index(NODES)],
            1..6 => some_nodes(&mut random, 3),
            _ => (0..NODES).collect(),
        };
        let max_ttl_us = random.within(2 * SECOND_US, 5 * SECOND_US);
        let slow_us = random.within(SECOND_US / 2, 4 * SECOND_US);
        let plan = Self {
            seed,
            scenario,
            next_voters: voters.clone(),
            voters,
            coordinators: (0..NODES).collect(),
            clients: random.within(3, 8) as usize,
            storm_us: 25 * SECOND_US,
            calm_us: 6 * SECOND_US,
            max_ttl_us,
            min_ttl_us: SECOND_US,
            delay_us: (200, random.within(1_000, 30_000)),
            slow: random.below(800),
            slow_us,
            late: random.below(200),
            late_us: 9 * SECOND_US,
            slow_kinds: [0; 3],
            loss: random.below(600),
            drift_ppm: 10_000,
            is_extreme: random.chance(3_000),
            wall_us: 10 * SECOND_US,
            fault_every_us: random.within(SECOND_US / 2, 4 * SECOND_US),
            fault_for_us: random.within(SECOND_US, 8 * SECOND_US),
            paths: match random.below(8) {
                0..2 => ONE,
                2..4 => FEW,
                4 => SHARED,
                _ => MANY,
            },
            waits: random.within(1_000, 9_000),
            wait_us: random.within(SECOND_US, 10 * SECOND_US),
            hold_us: random.within(SECOND_US / 10, 8 * SECOND_US),
            think_us: random.within(SECOND_US / 20, 2 * SECOND_US),
            hang_ups: random.below(4_000),
            retries: random.below(9_000),
            renew_late: random.below(3_000),
            deaths: random.below(3_000),
            brief: random.below(5_000),
            strays: random.below(3_000),
            is_hasty: false,
            rules: LeaseRules::default(),
        };
        let mut plan = plan.about(scenario, &mut random);
        // tokens rise as long as the clocks of coordinators differ by less than a voter abstains
        plan.wall_us = plan.wall_us.min(abstention_us(plan.max_ttl_us) * 48 / 100);
        plan
    }

    fn about(mut self, scenario: LeaseScenario, random: &mut Random) -> Self {
        match scenario {
            LeaseScenario::Storm => {}
            LeaseScenario::Rolling => {
                self.voters = vec![0, 1, 2];
                self.next_voters = self.voters.clone();
                self.coordinators = vec![3, 4];
                (self.clients, self.paths) = (EACH_ITS_OWN.len(), EACH_ITS_OWN);
                (self.slow, self.late, self.loss) = (0, 0, 0);
                (self.hang_ups, self.renew_late, self.deaths, self.brief, self.strays) = (0, 0, 0, 0, 0);
                self.hold_us = 40 * SECOND_US;
            }
            LeaseScenario::CarefulChange => {
                let old = some_nodes(random, 3);
                let outside = (0..NODES).filter(|node| !old.contains(node));
                let kept = random.index(3);
                // one or two nodes stay
                let kept = if random.chance(5_000) { &old[kept..=kept] } else { &old[..2] };
                self.next_voters = outside.take(3 - kept.len()).chain(kept.iter().copied()).collect();
                self.voters = old;
                (self.clients, self.paths) = (EACH_ITS_OWN.len(), EACH_ITS_OWN);
                (self.slow, self.late, self.loss) = (0, 0, 0);
                (self.hang_ups, self.renew_late, self.deaths, self.brief, self.strays) = (0, 0, 0, 0, 0);
                // longer than a request takes that is lost with its node twice
                self.max_ttl_us = 12 * SECOND_US;
                self.min_ttl_us = self.max_ttl_us;
                // nearly for ever: a lease that was just granted may have a bare majority until its first renewal
                self.hold_us = 100_000 * SECOND_US;
            }
            LeaseScenario::Change => {
                let old = some_nodes(random, 3);
                let outside = (0..NODES).filter(|node| !old.contains(node));
                self.next_voters = outside.chain([old[0]]).collect();
                self.voters = old;
                self.paths = if random.chance(5_000) { ONE } else { FEW };
                self.storm_us = 12 * self.max_ttl_us;
                self.is_hasty = random.chance(5_000);
                (self.fault_every_us, self.late) = (4 * self.fault_every_us, 0);
                (self.hold_us, self.think_us, self.strays) = (2 * SECOND_US, SECOND_US / 5, 5_000);
            }
            LeaseScenario::Twins => {
                self.voters = some_nodes(random, 3);
                self.next_voters = self.voters.clone();
                self.paths = if random.chance(5_000) { ONE } else { FEW };
                self.fault_every_us *= 2;
                self.max_ttl_us = 2 * SECOND_US;
                (self.storm_us, self.strays, self.think_us) = (40 * SECOND_US, 5_000, SECOND_US / 5);
            }
            LeaseScenario::Drift => {
                self.max_ttl_us = 30 * SECOND_US;
                self.min_ttl_us = 20 * SECOND_US;
                (self.storm_us, self.delay_us) = (150 * SECOND_US, (100, 1_000));
                (self.slow, self.late, self.loss) = (0, 0, 0);
                (self.is_extreme, self.paths) = (true, ONE);
                (self.waits, self.wait_us, self.hang_ups) = (5_000, 60 * SECOND_US, 0);
                (self.deaths, self.hold_us, self.think_us) = (8_000, SECOND_US, SECOND_US / 4);
                self.fault_every_us = 40 * SECOND_US;
            }
            LeaseScenario::Late => {
                (self.max_ttl_us, self.paths) =
                    (3 * SECOND_US / 2, if random.chance(7_000) { ONE } else { FEW });
                if random.chance(6_000) {
                    self.voters = vec![random.index(NODES)];
                    self.next_voters = self.voters.clone();
                }
                (self.delay_us, self.slow, self.slow_us) = ((200, 5_000), 500, 19 * SECOND_US / 20);
                self.slow_kinds = std::array::from_fn(|_| if random.chance(7_000) { 5_000 } else { 0 });
                (self.late, self.loss) = (300, self.loss / 3);
                (self.hang_ups, self.retries) = (random.below(5_000), 9_000);
                (self.waits, self.wait_us, self.think_us) = (3_000, SECOND_US, SECOND_US / 25);
                (self.renew_late, self.deaths, self.hold_us) = (9_000, 3_000, 3 * SECOND_US);
                (self.brief, self.strays, self.clients) = (random.within(5_000, 9_000), 3_000, 6);
                self.storm_us = 15 * SECOND_US;
                self.fault_every_us *= 2;
            }
        }
        self
    }

    /// The same world without a rule.
    #[must_use]
    pub fn without(mut self, mutant: LeaseMutant) -> Self {
        self.rules = LeaseRules::without(mutant);
        self
    }
}

fn some_nodes(random: &mut Random, count: usize) -> Vec<usize> {
    let mut nodes: Vec<usize> = (0..NODES).collect();
    for at in 0..count {
        let other = at + random.index(NODES - at);
        nodes.swap(at, other);
    }
    nodes.truncate(count);
    nodes.sort_unstable();
    nodes
}
