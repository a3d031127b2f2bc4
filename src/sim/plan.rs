//! The plan of a world: all parameters that a seed draws before the world begins.

use super::random::Random;
use crate::core::Name;
use crate::core::mutants::{Mutant, Mutants};
use crate::core::protocol::ProtocolRange;

/// One second, in µs.
pub const SECOND_US: u64 = 1_000_000;

/// A plain name.
pub(super) fn name(text: &str) -> Name {
    Name::new(text.as_bytes(), usize::MAX).expect("a good name")
}

/// Up to this many names are written one by one.
const SOME_NAMES: u64 = 150;

/// The approximate bytes of a record in a message.
const BYTES_A_NAME: u64 = 250;

/// The scenario of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Faults, writes and reads as the seed draws them.
    Storm,
    /// One node is cut off for a little longer than the grace. Meanwhile a name that it holds is deleted, and another
    /// node is restarted and does not have the delete.
    Missing,
    /// One node is cut off for longer than the grace and comes back to gossip, while no call to it or of it gets
    /// through for longer than a node that is back holds the horizon. A name that it holds was deleted meanwhile.
    Aloof,
    /// No call to one node or of it gets through for longer than the grace, while its gossip does. A name that it holds
    /// is deleted meanwhile.
    Mute,
    /// Discovery shows each half of the cluster only itself until both have begun a set.
    Split,
    /// One node hears no other node, and its clock is a year ahead; then it is connected.
    Lonely,
    /// A delete is stamped almost a grace ago, while one node does not receive it.
    Late,
    /// All nodes except one are restarted, one of them twice, and the node that holds the set is not heard.
    Twins,
    /// The clock of a node without others is an hour ahead: for a second, for longer than the node doubts it, and from
    /// the start of a process.
    Wrong,
    /// At one of four addresses a node of another cluster refuses all others, which have just started. Later one of
    /// these is restarted with a wrong secret.
    Stranger,
    /// One node holds the set, and only its gossip gets through, while all others are restarted.
    Unreachable,
    /// Three nodes and a fourth one speak no common version of the protocol. A fifth one, which speaks with all,
    /// leaves, comes back, and leaves again while the fourth one is restarted.
    Apart,
    /// Tombstones live for seconds, and readers with feeds are away for longer.
    Forgetful,
    /// A node that is heard by none accepts a write, tells it to readers with feeds, and ends.
    Lost,
    /// A client stamps a delete almost half a grace early, just after readers with feeds were told all. They come back
    /// when that delete is forgotten.
    Backdated,
    /// The horizon passes a delete while readers with feeds scan.
    Overtaken,
    /// Records that most nodes dropped come back while readers with feeds scan.
    Returned,
    /// Values end while all nodes doubt their clocks, while a renewal of one has not arrived, and while two nodes have
    /// the same write with different ends.
    Ended,
    /// A node with a disk is cut off for longer than deletes are remembered, and restarted then.
    Outdated,
    /// A node serves an old backup of its disk to a node that begins empty, while both are cut off from the others.
    Revived,
    /// A node starts with the disk of an earlier set.
    Rivals,
    /// All nodes end at once, and start again with their disks, one with an old one and one without.
    Outage,
    /// A writer that knows the key of the digest changes exactly those names whose changes cancel out in an exclusive
    /// or.
    Aimed,
}

/// A world in numbers. All chances are out of 10,000, all times in µs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of all random values.
    pub seed: u64,
    /// The scenario.
    pub scenario: Scenario,
    /// The number of addresses; each has a process most of the time.
    pub nodes: usize,
    /// The number of regions that they are spread over.
    pub regions: usize,
    /// Delay of a message within a region.
    pub near_us: u64,
    /// Delay of a message between regions.
    pub far_us: u64,
    /// Messages that are lost.
    pub loss: u64,
    /// Requests that arrive twice.
    pub duplicates: u64,
    /// Messages that take up to `late_us` longer, and so are overtaken.
    pub late: u64,
    /// See `late`.
    pub late_us: u64,
    /// Before this there are no faults, so that a set can begin.
    pub calm_us: u64,
    /// How long faults and writes last after that.
    pub stormy_us: u64,
    /// After that all nodes have to agree within this time.
    pub bound_us: u64,
    /// Mean time between two faults.
    pub fault_every_us: u64,
    /// Longest partition, one-way link or slowness.
    pub fault_for_us: u64,
    /// Longest time that a process is down before its successor starts.
    pub down_us: u64,
    /// Most that a clock is off, at the start and after each step.
    pub clock_off_us: i64,
    /// Most that a clock runs faster or slower, parts per million.
    pub drift_ppm: i64,
    /// Mean time between two writes, in the whole cluster.
    pub write_every_us: u64,
    /// The number of names.
    pub names: u64,
    /// Writes of values that have an end.
    pub ending: u64,
    /// Whether each of them has a value before the storm begins.
    pub prefilled: bool,
    /// Writes in a burst.
    pub burst: u64,
    /// Readers that roam.
    pub readers: usize,
    /// How far ahead of a node's clock a client's stamp may be.
    pub max_future_us: u64,
    /// How long tombstones live.
    pub grace_us: u64,
    /// How many records a name keeps.
    pub history_versions: u8,
    /// Whether that changes.
    pub depth_changes: bool,
    /// Mean time between two changes of the registers by a node.
    pub registers_every_us: u64,
    /// With more processes in its vector, a node leaves out those that are gone for long.
    pub vector_room: usize,
    /// Readers that follow the set by feeds.
    pub watchers: usize,
    /// Mean time between two events of them.
    pub watch_every_us: u64,
    /// Mirrors of the group.
    pub mirrors: usize,
    /// Mean time between two slices of what they are told.
    pub mirror_every_us: u64,
    /// Mean time between two saves of a node to its disk; 0 if nodes have no disks.
    pub save_every_us: u64,
    /// How long a node with a saved set waits for all addresses.
    pub cold_start_wait_us: u64,
    /// The horizon's step.
    pub horizon_step_us: u64,
    /// Bytes in a request or answer of a sync.
    pub budget: u32,
    /// Pause between two rounds.
    pub sync_us: u64,
    /// Pause between two messages of gossip.
    pub gossip_us: u64,
    /// Without news for this long, a node counts as dead.
    pub dead_us: u64,
    /// Without an answer for this long, a call has failed.
    pub timeout_us: u64,
    /// Most records of a stretch that is listed and not cut further.
    pub list_at_most: u64,
    /// Depth of each node's digest.
    pub leaf_bits: u32,
    /// The mutant, if any.
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// The world that a seed draws, of the given number of nodes, or of 3 to 20.
    #[must_use]
    pub fn of_seed(seed: u64, nodes: Option<usize>) -> Self {
        let mut random = Random::new(seed, 1);
        let nodes = nodes.unwrap_or_else(|| random.within(3, 20) as usize);
        let far = [2_000, 20_000, 80_000];
        let budgets = [1, 300, 2_000, 20_000, 1 << 20];
        let (fault_every_us, fault_for_us) =
            (random.within(400_000, 5_000_000), random.within(1, 8) * SECOND_US);
        // a delete stays deleted unless a node was cut off for longer than the grace: if faults overlap so much that
        // this may happen, tombstones have to live longer than the storm
        let dense = fault_for_us > 2 * fault_every_us;
        // in some worlds the timeout of a call is longer than the turn of a peer that hangs, so that a lost message
        // costs a round the time of several
        let patient = seed.is_multiple_of(4);
        let far_us = far[random.index(far.len())];
        let budget = budgets[random.index(budgets.len())];
        let many = budget >= 2_000 && random.chance(4_000);
        let names = if many { random.within(SOME_NAMES + 1, 2_000) } else { random.within(5, SOME_NAMES) };
        // twice a snapshot, one answer after the other, for one that starts when the faults stop, and time for the rest
        let answers = 1 + names * BYTES_A_NAME / u64::from(budget).max(BYTES_A_NAME);
        let bound_us = 45 * SECOND_US + 2 * answers * 3 * far_us;
        Self {
            seed,
            scenario: Scenario::Storm,
            nodes,
            regions: random.within(1, 4.min(nodes as u64)) as usize,
            near_us: random.within(200, 2_000),
            far_us,
            loss: [0, 100, 500, 2_000][random.index(4)],
            duplicates: random.within(0, 500),
            late: random.within(0, 1_000),
            late_us: random.within(10_000, 3_000_000),
            calm_us: 10 * SECOND_US,
            stormy_us: random.within(20, 45) * SECOND_US,
            bound_us,
            fault_every_us,
            fault_for_us,
            down_us: random.within(1, 8) * SECOND_US,
            clock_off_us: random.within(0, 1_500_000) as i64,
            drift_ppm: random.within(0, 200) as i64,
            write_every_us: random.within(20_000, 500_000),
            names,
            ending: if seed % 3 == 2 { 2_000 } else { 0 },
            prefilled: names > SOME_NAMES,
            burst: random.within(5, 60),
            readers: 4,
            max_future_us: 2_000_000,
            grace_us: if dense { 60 } else { 25 } * SECOND_US,
            history_versions: [1, 2, 3, 8][random.index(4)],
            depth_changes: random.chance(3_000),
            registers_every_us: random.within(1, 20) * SECOND_US,
            vector_room: if seed.is_multiple_of(3) { nodes } else { 512 },
            watchers: 6,
            watch_every_us: random.within(SECOND_US / 50, SECOND_US / 2),
            mirrors: if seed.is_multiple_of(5) { 1 + (seed / 5 % 2) as usize } else { 0 },
            mirror_every_us: [SECOND_US / 20, SECOND_US / 4, SECOND_US][(seed / 10 % 3) as usize],
            save_every_us: if seed % 6 == 4 {
                [SECOND_US, 4 * SECOND_US][(seed / 6 % 2) as usize]
            } else {
                0
            },
            cold_start_wait_us: 8 * SECOND_US,
            horizon_step_us: SECOND_US,
            budget,
            sync_us: SECOND_US,
            gossip_us: 500_000,
            dead_us: 4 * SECOND_US,
            timeout_us: if patient { 8 } else { 2 } * SECOND_US,
            leaf_bits: random.within(1, 10) as u32,
            list_at_most: [1, 4, 16, 128][random.index(4)],
            mutant: None,
        }
    }

    /// A world without random faults, for one scenario.
    #[must_use]
    pub fn of_scenario(seed: u64, scenario: Scenario) -> Self {
        let drawn = Self::of_seed(seed, Some(4));
        let is_forgetful = scenario == Scenario::Forgetful;
        Self {
            scenario,
            nodes: match scenario {
                Scenario::Wrong => 1,
                // the nodes with one version must be a majority, whose clocks agree
                Scenario::Apart => 5,
                _ => 4,
            },
            // so that nodes are behind when readers come
            loss: if is_forgetful { 1_500 } else { 0 },
            duplicates: 0,
            late: 0,
            far_us: 2_000,
            budget: 1 << 20,
            ending: 0,
            prefilled: false,
            clock_off_us: 10_000,
            grace_us: SECOND_US
                * match scenario {
                    Scenario::Aimed => 1_000,
                    Scenario::Forgetful | Scenario::Outdated | Scenario::Revived | Scenario::Outage => 6,
                    Scenario::Returned | Scenario::Ended => 60,
                    _ => 25,
                },
            watch_every_us: if is_forgetful { SECOND_US } else { SECOND_US / 10 },
            depth_changes: is_forgetful || drawn.depth_changes,
            registers_every_us: if is_forgetful { SECOND_US } else { drawn.registers_every_us },
            write_every_us: SECOND_US / 20,
            stormy_us: 45 * SECOND_US,
            // before values with an end are gone in any case
            bound_us: if scenario == Scenario::Ended { 10 * SECOND_US } else { drawn.bound_us },
            save_every_us: match scenario {
                Scenario::Outdated | Scenario::Revived | Scenario::Rivals | Scenario::Outage => SECOND_US,
                _ => 0,
            },
            history_versions: if scenario == Scenario::Returned { 3 } else { drawn.history_versions },
            ..drawn
        }
    }

    /// The same world with a mutant.
    #[must_use]
    pub fn without(self, mutant: Mutant) -> Self {
        Self { mutant: Some(mutant), ..self }
    }

    pub(super) fn mutants(&self) -> Mutants {
        self.mutant.map_or(Mutants::NONE, Mutants::only)
    }

    /// Until when discovery shows each half of the cluster, even and odd, only itself.
    pub(super) fn split_until_us(&self) -> u64 {
        if self.scenario == Scenario::Split { self.calm_us + 2 * SECOND_US } else { 0 }
    }

    /// The address of a node of another cluster, if there is one.
    pub(super) fn stranger(&self) -> Option<usize> {
        (self.scenario == Scenario::Stranger).then_some(3)
    }

    /// The versions of the protocol that the processes of an address speak.
    pub(super) fn protocol(&self, slot: usize) -> ProtocolRange {
        let (oldest, newest) = match (self.scenario, slot) {
            (Scenario::Apart, 0 | 1 | 4) => (1, 1),
            (Scenario::Apart, 2) => (1, 2),
            (Scenario::Apart, _) => (2, 2),
            _ => return ProtocolRange::IMPLEMENTED,
        };
        ProtocolRange::new(oldest, newest).expect("the oldest is not newer")
    }

    pub(super) fn region(&self, slot: usize) -> usize {
        slot % self.regions
    }
}
