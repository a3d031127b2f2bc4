//! The simulated network: delay, loss, duplication, reordering, cuts.

use super::plan::Plan;
use super::random::Random;

/// How many messages were sent, and how many had each fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageFaults {
    /// Sent.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Arrived twice.
    pub doubled: u64,
    /// Took longer, by chance.
    pub late: u64,
    /// Overtook one that was sent before it on the same link.
    pub overtook: u64,
    /// Stopped by a partition.
    pub cut: u64,
    /// Stopped by a link that works the other way only.
    pub cut_one_way: u64,
    /// Delayed by a slow node.
    pub slowed: u64,
}

impl MessageFaults {
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.late += other.late;
        self.overtook += other.overtook;
        self.cut += other.cut;
        self.cut_one_way += other.cut_one_way;
        self.slowed += other.slowed;
    }
}

/// All links.
#[derive(Debug)]
pub(super) struct Network {
    random: Random,
    nodes: usize,
    regions: Vec<usize>,
    near_us: u64,
    far_us: u64,
    /// The delay of (from, to) relative to other links of its kind, percent: all links and directions differ.
    ways: Vec<u64>,
    /// The number of faults that stop messages on (from, to).
    cuts: Vec<u8>,
    /// The latest arrival so far on (from, to), to detect messages that are overtaken.
    latest_us: Vec<u64>,
    slow_us: Vec<u64>,
    pub(super) message_faults: MessageFaults,
    faulty: bool,
    loss: u64,
    duplicates: u64,
    late: u64,
    late_us: u64,
}

impl Network {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut ways = Random::new(plan.seed, 4);
        Self {
            random: Random::new(plan.seed, 2),
            ways: (0..plan.nodes * plan.nodes).map(|_| ways.within(50, 150)).collect(),
            nodes: plan.nodes,
            regions: (0..plan.nodes).map(|slot| plan.region(slot)).collect(),
            near_us: plan.near_us,
            far_us: plan.far_us,
            cuts: vec![0; plan.nodes * plan.nodes],
            latest_us: vec![0; plan.nodes * plan.nodes],
            slow_us: vec![0; plan.nodes],
            message_faults: MessageFaults::default(),
            faulty: false,
            loss: plan.loss,
            duplicates: plan.duplicates,
            late: plan.late,
            late_us: plan.late_us,
        }
    }

    /// Sets whether messages have faults by chance.
    pub(super) fn set_faulty(&mut self, faulty: bool) {
        self.faulty = faulty;
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cuts[from * self.nodes + to] += 1;
    }

    pub(super) fn mend(&mut self, from: usize, to: usize) {
        let cuts = &mut self.cuts[from * self.nodes + to];
        *cuts = cuts.saturating_sub(1);
    }

    pub(super) fn mend_all(&mut self) {
        self.cuts.fill(0);
        self.slow_us.fill(0);
    }

    pub(super) fn slow(&mut self, slot: usize, us: u64) {
        self.slow_us[slot] = us;
    }

    /// The arrival times of a message that is sent now: none, one or, if it may be duplicated, two.
    pub(super) fn carry(
        &mut self,
        now_us: u64,
        from: usize,
        to: usize,
        twice: bool,
    ) -> impl Iterator<Item = u64> + use<> {
        self.message_faults.sent += 1;
        let link = from * self.nodes + to;
        let mut arrivals = [None, None];
        if self.cuts[link] > 0 {
            if self.cuts[to * self.nodes + from] > 0 {
                self.message_faults.cut += 1;
            } else {
                self.message_faults.cut_one_way += 1;
            }
        } else if self.faulty && self.random.chance(self.loss) {
            self.message_faults.lost += 1;
        } else {
            arrivals[0] = Some(self.arrival(now_us, from, to));
            if twice && self.faulty && self.random.chance(self.duplicates) {
                self.message_faults.doubled += 1;
                arrivals[1] = Some(self.arrival(now_us, from, to));
            }
        }
        arrivals.into_iter().flatten()
    }

    fn arrival(&mut self, now_us: u64, from: usize, to: usize) -> u64 {
        let base = if self.regions[from] == self.regions[to] { self.near_us } else { self.far_us };
        let base = base * self.ways[from * self.nodes + to] / 100;
        let mut at = now_us + base + self.random.below(base / 4 + 1);
        if self.faulty && self.random.chance(self.late) {
            self.message_faults.late += 1;
            at += self.random.below(self.late_us);
        }
        let slow = self.slow_us[from] + self.slow_us[to];
        if slow > 0 {
            self.message_faults.slowed += 1;
            at += self.random.below(slow);
        }
        let latest = &mut self.latest_us[from * self.nodes + to];
        if at < *latest {
            self.message_faults.overtook += 1;
        }
        *latest = at.max(*latest);
        at
    }
}
