//! Simulated membership: heartbeats that spread by gossip, each with the summary of its node.

use crate::core::join::SeedStatus;
use crate::core::peers::Summary;

/// The last heartbeat of a process that a node knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    /// Its address, and its number among all processes of the world.
    place: (usize, u32),
    /// The number of its heartbeat.
    beat: u64,
    summary: Summary,
    /// When it arrived, µs.
    at_us: u64,
    /// Whether a newer heartbeat than the first one has arrived: the first may be old, and passed on.
    beats: bool,
}

/// The heartbeats of all processes that a node knows. A killed process stays for a time, beside its successor.
#[derive(Clone, Debug)]
pub(super) struct Table {
    us: usize,
    heartbeats: Vec<Heartbeat>,
}

impl Table {
    pub(super) fn new(us: usize) -> Self {
        Self { us, heartbeats: Vec::new() }
    }

    /// Adds the next heartbeat of the node itself.
    pub(super) fn beat(&mut self, now_us: u64, life: u32, summary: Summary) {
        let place = (self.us, life);
        let ours = Heartbeat { place, beat: 0, summary, at_us: now_us, beats: true };
        match self.heartbeats.iter_mut().find(|heartbeat| heartbeat.place == place) {
            Some(heartbeat) => *heartbeat = Heartbeat { beat: heartbeat.beat + 1, ..ours },
            None => self.heartbeats.push(ours),
        }
    }

    /// All heartbeats, to send to another node.
    pub(super) fn all(&self) -> Vec<Heartbeat> {
        self.heartbeats.clone()
    }

    /// Applies received heartbeats, and forgets processes without a new one for `forget_us`.
    pub(super) fn apply(&mut self, now_us: u64, news: &[Heartbeat], forget_us: u64) {
        for new in news.iter().filter(|new| new.place.0 != self.us) {
            match self.heartbeats.iter_mut().find(|heartbeat| heartbeat.place == new.place) {
                Some(known) if known.beat < new.beat => {
                    *known = Heartbeat { at_us: now_us, beats: true, ..*new };
                }
                Some(_) => {}
                None => self.heartbeats.push(Heartbeat { at_us: now_us, beats: false, ..*new }),
            }
        }
        self.heartbeats
            .retain(|heartbeat| heartbeat.place.0 == self.us || heartbeat.at_us + forget_us > now_us);
    }

    fn others(&self, now_us: u64, dead_us: u64) -> impl Iterator<Item = &Heartbeat> {
        let live = move |heartbeat: &&Heartbeat| heartbeat.beats && heartbeat.at_us + dead_us > now_us;
        self.heartbeats.iter().filter(|heartbeat| heartbeat.place.0 != self.us).filter(live)
    }

    /// The summaries of all other processes with a heartbeat within `dead_us`.
    pub(super) fn live(&self, now_us: u64, dead_us: u64) -> Vec<Summary> {
        self.others(now_us, dead_us).map(|heartbeat| heartbeat.summary).collect()
    }

    /// The status of each address except our own: the latest of its live processes answers.
    pub(super) fn statuses(&self, nodes: usize, now_us: u64, dead_us: u64) -> Vec<SeedStatus> {
        let mut latest: Vec<Option<&Heartbeat>> = vec![None; nodes];
        for heartbeat in self.others(now_us, dead_us) {
            let at = &mut latest[heartbeat.place.0];
            if at.is_none_or(|other| other.place < heartbeat.place) {
                *at = Some(heartbeat);
            }
        }
        let status = |heartbeat: Option<&Heartbeat>| {
            heartbeat.map_or(SeedStatus::Silent, |h| SeedStatus::Answers(h.summary.incarnation))
        };
        latest.into_iter().map(status).collect()
    }
}
