//! Simulated membership: heartbeats that spread by gossip, each with the summary of its node.

use crate::core::join::SeedStatus;
use crate::core::peers::Summary;

/// The last news of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// Its address, and its number among all processes of the world.
    place: (usize, u32),
    /// The number of its heartbeat.
    beat: u64,
    summary: Summary,
    /// When this news arrived, µs.
    at_us: u64,
    /// Whether at least two heartbeats arrived: a single one may be old news that was passed on.
    beats: bool,
}

/// The news that a node has of all processes. A killed process stays for a time, beside its successor.
#[derive(Clone, Debug)]
pub(super) struct Table {
    us: usize,
    heard: Vec<Heard>,
}

impl Table {
    pub(super) fn new(us: usize) -> Self {
        Self { us, heard: Vec::new() }
    }

    /// Adds the next heartbeat of the node itself.
    pub(super) fn beat(&mut self, now_us: u64, life: u32, summary: Summary) {
        let place = (self.us, life);
        let ours = Heard { place, beat: 0, summary, at_us: now_us, beats: true };
        match self.heard.iter_mut().find(|heard| heard.place == place) {
            Some(heard) => *heard = Heard { beat: heard.beat + 1, ..ours },
            None => self.heard.push(ours),
        }
    }

    /// The news to send: all of them.
    pub(super) fn tell(&self) -> Vec<Heard> {
        self.heard.clone()
    }

    /// Applies received news, and forgets processes without news for `forget_us`.
    pub(super) fn hear(&mut self, now_us: u64, told: &[Heard], forget_us: u64) {
        for news in told.iter().filter(|news| news.place.0 != self.us) {
            match self.heard.iter_mut().find(|heard| heard.place == news.place) {
                Some(known) if known.beat < news.beat => {
                    *known = Heard { at_us: now_us, beats: true, ..*news };
                }
                Some(_) => {}
                None => self.heard.push(Heard { at_us: now_us, beats: false, ..*news }),
            }
        }
        self.heard.retain(|heard| heard.place.0 == self.us || heard.at_us + forget_us > now_us);
    }

    fn others(&self, now_us: u64, dead_us: u64) -> impl Iterator<Item = &Heard> {
        let live = move |heard: &&Heard| heard.beats && heard.at_us + dead_us > now_us;
        self.heard.iter().filter(|heard| heard.place.0 != self.us).filter(live)
    }

    /// All other processes with news within `dead_us`.
    pub(super) fn live(&self, now_us: u64, dead_us: u64) -> Vec<Summary> {
        self.others(now_us, dead_us).map(|heard| heard.summary).collect()
    }

    /// The status of each address except our own: the latest of its live processes answers.
    pub(super) fn statuses(&self, nodes: usize, now_us: u64, dead_us: u64) -> Vec<SeedStatus> {
        let mut latest: Vec<Option<&Heard>> = vec![None; nodes];
        for heard in self.others(now_us, dead_us) {
            let at = &mut latest[heard.place.0];
            if at.is_none_or(|other| other.place < heard.place) {
                *at = Some(heard);
            }
        }
        let status = |heard: Option<&Heard>| {
            heard.map_or(SeedStatus::Silent, |h| SeedStatus::Answers(h.summary.incarnation))
        };
        latest.into_iter().map(status).collect()
    }
}
