//! Membership as the nodes see it: heartbeats that spread by gossip, each with what a node says of itself.

use crate::core::join::SeedStatus;
use crate::core::peers::Summary;

/// What is known of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// At which address, and the how-manyeth process of the world.
    place: (usize, u32),
    /// Its how-manyeth heartbeat.
    beat: u64,
    summary: Summary,
    /// When this was news here.
    at_us: u64,
    /// Whether the process's heart was heard to beat: one word may be an old one, passed on.
    beats: bool,
}

/// What a node knows of all processes: one that was killed is still there for a while, beside its successor.
#[derive(Clone, Debug)]
pub(super) struct Table {
    us: usize,
    heard: Vec<Heard>,
}

impl Table {
    pub(super) fn new(us: usize) -> Self {
        Self { us, heard: Vec::new() }
    }

    /// Our own next heartbeat.
    pub(super) fn beat(&mut self, now_us: u64, life: u32, summary: Summary) {
        let place = (self.us, life);
        let ours = Heard { place, beat: 0, summary, at_us: now_us, beats: true };
        match self.heard.iter_mut().find(|heard| heard.place == place) {
            Some(heard) => *heard = Heard { beat: heard.beat + 1, ..ours },
            None => self.heard.push(ours),
        }
    }

    /// What is told: all of it.
    pub(super) fn tell(&self) -> Vec<Heard> {
        self.heard.clone()
    }

    /// Takes in what somebody tells, and forgets who was not heard of for a time.
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

    /// All others from whom there was news within a time.
    pub(super) fn live(&self, now_us: u64, dead_us: u64) -> Vec<Summary> {
        self.others(now_us, dead_us).map(|heard| heard.summary).collect()
    }

    /// Who answers at each address beside our own: the latest process of those that are live.
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
