//! The faults of a world of leases, and how it comes to its end.

use super::super::plan::SECOND_US;
use super::plan::{LeaseScenario, NODES};
use super::world::{DEAD_US, Event, GOSSIP_US, LeaseWorld, TWIN};
use crate::core::lease::abstention_us;

impl LeaseWorld {
    pub(super) fn begin(&mut self) {
        for node in 0..NODES {
            self.start(node, node, true);
        }
        self.after(1, Event::Gossip);
        for client in 0..self.plan.clients {
            self.think(client);
        }
        let abstention_us = abstention_us(self.plan.max_ttl_us);
        match self.plan.scenario {
            LeaseScenario::Rolling => {
                let mut at_us = 3 * SECOND_US;
                for node in self.plan.voters.clone() {
                    self.after(at_us, Event::Restart { node });
                    at_us += 3 * abstention_us / 2 + self.random.below(2 * SECOND_US);
                }
                self.plan.storm_us = self.plan.storm_us.max(at_us);
            }
            LeaseScenario::Change => {
                self.change(SECOND_US / 2);
                // all hear of the new voters in time
                if !self.plan.is_hasty {
                    self.after(self.plan.fault_every_us, Event::Fault);
                }
            }
            // and each voter has held all leases for longer than clocks may differ
            LeaseScenario::CarefulChange => {
                self.change(abstention_us + 45 * SECOND_US + self.plan.max_ttl_us);
            }
            LeaseScenario::Twins => {
                let us = self.random.within(SECOND_US, 4 * SECOND_US);
                self.after(us, Event::Twin);
                self.after(self.plan.fault_every_us, Event::Fault);
            }
            _ => self.after(self.plan.fault_every_us, Event::Fault),
        }
        self.after(self.plan.storm_us, Event::Heal);
    }

    /// Plans the two steps in which the voters change, with at least so much time from node to node.
    fn change(&mut self, least_us: u64) {
        let abstention_us = abstention_us(self.plan.max_ttl_us);
        let mut at_us = self.random.within(SECOND_US, 3 * SECOND_US);
        if self.plan.scenario.keeps_leases() {
            at_us += least_us;
        }
        for step in 1..=2 {
            let mut last_us = at_us;
            for node in self.some_order() {
                last_us = at_us;
                self.after(at_us, Event::Configure { node, step });
                at_us += self.random.within(least_us, least_us.max(3 * abstention_us / 2));
            }
            // the old set decides alone for a while after the last node that knows only it, and then what it has
            // granted has to end
            at_us += 2 * abstention_us + DEAD_US + GOSSIP_US;
            if self.plan.is_hasty {
                at_us = last_us + SECOND_US / 2;
            }
        }
        self.plan.storm_us = self.plan.storm_us.max(at_us);
    }

    fn some_order(&mut self) -> Vec<usize> {
        let mut nodes: Vec<usize> = (0..NODES).collect();
        for at in (1..NODES).rev() {
            let other = self.random.index(at + 1);
            nodes.swap(at, other);
        }
        nodes
    }

    pub(super) fn turn(&mut self, event: &Event) {
        match *event {
            Event::Fault => self.fault(),
            Event::Mend { number } if number != self.cut_number => {}
            Event::Mend { .. } => self.mend(),
            Event::Start { node } => self.start(node, node, false),
            Event::Restart { node } => self.restart(node),
            Event::Configure { node, step } => {
                let (old, new) = (self.plan.voters.clone(), self.plan.next_voters.clone());
                self.sets[node] = if step == 1 { vec![new, old] } else { vec![new] };
                self.report.changes += 1;
                self.restart(node);
            }
            Event::Twin => self.twin(),
            Event::EndOfTwin => self.end_of_twin(),
            Event::Heal => self.heal(),
            Event::Calm => self.strict_us = self.now_us,
            Event::Drain => {
                self.has_clients = false;
                self.strict_us = u64::MAX;
                self.dismiss();
                let us = 13 * self.plan.max_ttl_us / 10 + 4 * SECOND_US;
                self.after(us, Event::Probe { at: 0 });
            }
            Event::Probe { at } => {
                if self.is_probing() {
                    let now_us = self.now_us;
                    let detail = format!("no answer for the path before that at {at}");
                    self.checks.broken(now_us, "what is free is granted", format_args!("{detail}"));
                }
                self.probe(at);
            }
            _ => {}
        }
    }

    fn restart(&mut self, node: usize) {
        if self.kill(node) {
            self.report.restarts += 1;
        }
        let us = self.random.below(SECOND_US);
        self.after(us, Event::Start { node });
    }

    fn mend(&mut self) {
        self.cut = Default::default();
        self.slow_place = None;
        self.say(format_args!("all links are whole"));
    }

    fn fault(&mut self) {
        if !self.is_stormy {
            return;
        }
        let us = self.random.below(2 * self.plan.fault_every_us);
        self.after(us, Event::Fault);
        let for_us = self.random.within(SECOND_US / 2, self.plan.fault_for_us);
        let node = self.random.index(NODES);
        match self.random.below(10) {
            0..4 => {
                let side: Vec<bool> = (0..=NODES).map(|_| self.random.chance(5_000)).collect();
                self.split(&side, for_us);
                self.report.partitions += 1;
            }
            4..6 => {
                let side: Vec<bool> = (0..=NODES).map(|place| place == node).collect();
                self.split(&side, for_us);
                self.report.partitions += 1;
            }
            6..9 => {
                if self.kill(node) {
                    self.report.restarts += 1;
                    let us = self.random.below(3 * SECOND_US);
                    self.after(us, Event::Start { node });
                }
            }
            _ => {
                self.slow_place = Some(node);
                self.cut_number += 1;
                self.after(for_us, Event::Mend { number: self.cut_number });
            }
        }
    }

    fn split(&mut self, side: &[bool], for_us: u64) {
        self.cut = std::array::from_fn(|a| std::array::from_fn(|b| side[a] != side[b]));
        self.cut_number += 1;
        self.say(format_args!("split for {for_us}: {side:?}"));
        self.after(for_us, Event::Mend { number: self.cut_number });
    }

    /// A second process starts with the id of a voter.
    fn twin(&mut self) {
        if !self.is_stormy {
            return;
        }
        self.mend();
        let node = self.plan.voters[self.random.index(self.plan.voters.len())];
        self.start(TWIN, node, false);
        self.report.twins += 1;
        let abstention_us = abstention_us(self.plan.max_ttl_us);
        let us = self.random.within(abstention_us, 3 * abstention_us);
        self.after(us, Event::EndOfTwin);
    }

    /// One of the two ends. If it was the first one, the second goes on for a time.
    fn end_of_twin(&mut self) {
        let Some(twin) = self.live[TWIN].and_then(|id| self.processes.get(&id)).map(|p| p.node) else {
            return;
        };
        if self.is_stormy && self.random.chance(4_000) && self.live[twin].is_some() {
            self.kill(twin);
            let us = self.random.within(SECOND_US, 12 * SECOND_US);
            self.after(us, Event::EndOfTwin);
            return;
        }
        self.kill(TWIN);
        self.after(SECOND_US, Event::Start { node: twin });
        let us = self.random.within(SECOND_US, 6 * SECOND_US);
        self.after(us, Event::Twin);
    }

    fn heal(&mut self) {
        self.mend();
        self.is_stormy = false;
        let twin = self.live[TWIN].is_some();
        self.kill(TWIN);
        for node in 0..NODES {
            self.start(node, node, false);
        }
        self.say(format_args!("all is well"));
        let times = if self.report.twins > 0 || twin { 3 } else { 1 };
        let settle_us = times * abstention_us(self.plan.max_ttl_us) + 10 * SECOND_US;
        self.after(settle_us, Event::Calm);
        self.after(settle_us + self.plan.calm_us, Event::Drain);
    }
}
