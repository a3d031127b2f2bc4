//! What is between the nodes: delay, loss, duplication, reordering, cuts.

use super::plan::Plan;
use super::random::Random;

/// How often each thing befell a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Befell {
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

impl Befell {
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
    /// How long (from, to) takes beside others of its kind, percent: no two links are alike, nor the two ways of one.
    ways: Vec<u64>,
    /// How many faults stop messages on (from, to).
    cuts: Vec<u8>,
    /// Latest arrival so far on (from, to), to see who is overtaken.
    latest_us: Vec<u64>,
    slow_us: Vec<u64>,
    pub(super) befell: Befell,
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
            befell: Befell::default(),
            faulty: false,
            loss: plan.loss,
            duplicates: plan.duplicates,
            late: plan.late,
            late_us: plan.late_us,
        }
    }

    /// Whether chance is against messages.
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

    /// When a message that is sent now arrives: never, once or, if that may be, twice.
    pub(super) fn carry(
        &mut self,
        now_us: u64,
        from: usize,
        to: usize,
        twice: bool,
    ) -> impl Iterator<Item = u64> + use<> {
        self.befell.sent += 1;
        let link = from * self.nodes + to;
        let mut arrivals = [None, None];
        if self.cuts[link] > 0 {
            if self.cuts[to * self.nodes + from] > 0 {
                self.befell.cut += 1;
            } else {
                self.befell.cut_one_way += 1;
            }
        } else if self.faulty && self.random.chance(self.loss) {
            self.befell.lost += 1;
        } else {
            arrivals[0] = Some(self.arrival(now_us, from, to));
            if twice && self.faulty && self.random.chance(self.duplicates) {
                self.befell.doubled += 1;
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
            self.befell.late += 1;
            at += self.random.below(self.late_us);
        }
        let slow = self.slow_us[from] + self.slow_us[to];
        if slow > 0 {
            self.befell.slowed += 1;
            at += self.random.below(slow);
        }
        let latest = &mut self.latest_us[from * self.nodes + to];
        if at < *latest {
            self.befell.overtook += 1;
        }
        *latest = at.max(*latest);
        at
    }
}
