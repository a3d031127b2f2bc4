//! Membership as the nodes see it: heartbeats that spread by gossip, each with what a node says of itself.

use crate::core::peers::Summary;

/// What is known of one address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// The how-manyeth process at that address, and its how-manyeth heartbeat.
    pub(super) beat: (u32, u64),
    pub(super) summary: Summary,
    /// When this was news here.
    at_us: u64,
    /// Whether the process's heart was heard to beat: one word may be an old one, passed on.
    beats: bool,
}

/// What a node knows of all addresses.
#[derive(Clone, Debug)]
pub(super) struct Table {
    us: usize,
    heard: Vec<Option<Heard>>,
}

impl Table {
    pub(super) fn new(us: usize, nodes: usize) -> Self {
        Self { us, heard: vec![None; nodes] }
    }

    /// Our own next heartbeat.
    pub(super) fn beat(&mut self, now_us: u64, life: u32, summary: Summary) {
        let beat = self.heard[self.us].map_or((life, 0), |heard| (life, heard.beat.1 + 1));
        self.heard[self.us] = Some(Heard { beat, summary, at_us: now_us, beats: true });
    }

    /// What is told: all of it.
    pub(super) fn tell(&self) -> Vec<Option<Heard>> {
        self.heard.clone()
    }

    pub(super) fn hear(&mut self, now_us: u64, told: &[Option<Heard>]) {
        for (slot, (known, news)) in self.heard.iter_mut().zip(told).enumerate() {
            if let Some(news) = news
                && slot != self.us
                && known.is_none_or(|known| known.beat < news.beat)
            {
                let beats = known.is_some_and(|known| known.beat.0 == news.beat.0);
                *known = Some(Heard { at_us: now_us, beats, ..*news });
            }
        }
    }

    /// All others from whom there was news within a time.
    pub(super) fn live(&self, now_us: u64, dead_us: u64) -> Vec<Summary> {
        let others = self.heard.iter().enumerate().filter(|(slot, _)| *slot != self.us);
        let live = others
            .filter_map(|(_, heard)| heard.filter(|heard| heard.beats && heard.at_us + dead_us > now_us));
        live.map(|heard| heard.summary).collect()
    }
}
