//! A study of how a write should reach a large cluster: to all nodes at once, by relays, or down a tree. It is a model,
//! and does not use the core.
//!
//! TCP sends a lost message again after 200 ms, then 400 ms, and so on. A sender sends one message after another. Nodes
//! behind a dead node get the write by sync.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use super::random::Random;

/// A cluster and its network.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Spread evenly over the regions.
    pub nodes: usize,
    /// How many regions.
    pub regions: usize,
    /// One way within a region, µs.
    pub near_us: u64,
    /// One way between regions, µs.
    pub far_us: u64,
    /// Messages lost, of 10,000.
    pub loss: u64,
    /// Time of a sender for a message, without its bytes, µs.
    pub send_us: u64,
    /// Bytes that a sender sends in a µs.
    pub bytes_per_us: u64,
    /// Nodes that have just died, which no other node has detected yet.
    pub dead: usize,
}

/// The way of a write through the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The origin sends to all.
    All,
    /// The origin sends to its region and to two nodes of each other region, which both send to their region.
    Relays,
    /// The origin sends to one node of each other region; within a region each node sends to seven.
    Tree,
}

/// The cost of a way, over many writes.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// Median time until half, 99 % and all of the live nodes have it, ms. Writes that do not reach so many by push
    /// do not count.
    pub median_ms: [f64; 3],
    /// The same times, for the 99th percentile of the writes, ms.
    pub worst_ms: [f64; 3],
    /// Messages, of which between regions, and those of the origin, a write.
    pub messages: [f64; 3],
    /// Bytes, of which between regions, and those of the origin, a write.
    pub bytes: [f64; 3],
    /// Live nodes that push does not reach, a write.
    pub left: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.median_ms;
        let [x, y, z] = self.worst_ms;
        let [all, far, own] = self.bytes.map(|bytes| bytes / 1e3);
        write!(
            f,
            "{a:.0} / {b:.0} / {c:.0} | {x:.0} / {y:.0} / {z:.0} | {:.0} ({:.0} far, {:.0} by the origin) | \
             {all:.0} ({far:.0}, {own:.0}) | {:.2}",
            self.messages[0], self.messages[1], self.messages[2], self.left
        )
    }
}

struct Sending<'a> {
    group: &'a Group,
    random: &'a mut Random,
    queue: BinaryHeap<Reverse<(u64, usize, Vec<usize>)>>,
    bytes: u64,
    cost: &'a mut Cost,
}

impl Sending<'_> {
    /// Sends from a node to several others, each with the nodes that it passes the write on to.
    fn send(&mut self, now_us: u64, from: usize, to: Vec<(usize, Vec<usize>)>, origin: bool) {
        let mut at_us = now_us;
        for (peer, pass_on) in to {
            at_us += self.group.send_us + self.bytes / self.group.bytes_per_us;
            let far = from % self.group.regions != peer % self.group.regions;
            let one_way_us = if far { self.group.far_us } else { self.group.near_us };
            let (mut arrives_us, mut again_us) = (at_us + one_way_us, 200_000);
            for (i, counts) in [true, far, origin].into_iter().enumerate() {
                self.cost.messages[i] += f64::from(u8::from(counts));
                self.cost.bytes[i] += if counts { self.bytes as f64 } else { 0.0 };
            }
            while self.random.chance(self.group.loss) {
                arrives_us += again_us;
                again_us *= 2;
            }
            self.queue.push(Reverse((arrives_us, peer, pass_on)));
        }
    }
}

/// Simulates many writes of the given size, each at a random node.
#[must_use]
pub fn study(group: &Group, way: Way, bytes: u64, writes: u32, seed: u64) -> Cost {
    let mut random = Random::new(seed, 17);
    let mut cost = Cost::default();
    let mut times: [Vec<u64>; 3] = Default::default();
    for _ in 0..writes {
        let mut dead = vec![false; group.nodes];
        let origin = random.index(group.nodes);
        while dead.iter().filter(|dead| **dead).count() < group.dead {
            let node = random.index(group.nodes);
            dead[node] = node != origin;
        }
        let plan = route(group, way, origin, &mut random);
        let queue = BinaryHeap::new();
        let mut sending = Sending { group, random: &mut random, queue, bytes, cost: &mut cost };
        let mut reached: Vec<Option<u64>> = vec![None; group.nodes];
        reached[origin] = Some(0);
        sending.send(0, origin, plan, true);
        while let Some(Reverse((at_us, node, pass_on))) = sending.queue.pop() {
            if dead[node] {
                continue;
            }
            if reached[node].is_none() {
                reached[node] = Some(at_us);
                let to = spread(way, &pass_on);
                sending.send(at_us, node, to, false);
            }
        }
        let live = group.nodes - group.dead;
        let mut at: Vec<u64> = reached.into_iter().flatten().collect();
        at.sort_unstable();
        cost.left += (live - at.len()) as f64 / f64::from(writes);
        for (times, share) in times.iter_mut().zip([50, 99, 100]) {
            times.extend(at.get((live * share).div_ceil(100) - 1));
        }
    }
    for (i, times) in times.iter_mut().enumerate() {
        times.sort_unstable();
        let of = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
        cost.median_ms[i] = of(50).map_or(f64::NAN, |us| *us as f64 / 1e3);
        cost.worst_ms[i] = of(99).map_or(f64::NAN, |us| *us as f64 / 1e3);
    }
    cost.messages = cost.messages.map(|count| count / f64::from(writes));
    cost.bytes = cost.bytes.map(|bytes| bytes / f64::from(writes));
    cost
}

/// The nodes that the origin sends to, each with the nodes that it passes the write on to.
fn route(group: &Group, way: Way, origin: usize, random: &mut Random) -> Vec<(usize, Vec<usize>)> {
    let mut to = Vec::new();
    for region in 0..group.regions {
        let mut others: Vec<usize> =
            (0..group.nodes).filter(|node| node % group.regions == region && *node != origin).collect();
        for i in (1..others.len()).rev() {
            others.swap(i, random.index(i + 1));
        }
        let home = region == origin % group.regions;
        match way {
            Way::All => to.extend(others.into_iter().map(|node| (node, Vec::new()))),
            Way::Relays if home => to.extend(others.into_iter().map(|node| (node, Vec::new()))),
            Way::Relays => to.extend(
                others
                    .iter()
                    .take(2)
                    .map(|relay| (*relay, others.iter().filter(|node| *node != relay).copied().collect())),
            ),
            Way::Tree if home => to.extend(spread(way, &others)),
            Way::Tree => to.extend(others.split_first().map(|(root, rest)| (*root, rest.to_vec()))),
        }
    }
    // far nodes first: they take longest
    let home = origin % group.regions;
    to.sort_by_key(|(node, _)| node % group.regions == home);
    to
}

fn spread(way: Way, nodes: &[usize]) -> Vec<(usize, Vec<usize>)> {
    match way {
        Way::All | Way::Relays => nodes.iter().map(|node| (*node, Vec::new())).collect(),
        Way::Tree => {
            let parts = nodes.chunks(nodes.len().div_ceil(7).max(1));
            parts.filter_map(|part| part.split_first().map(|(root, rest)| (*root, rest.to_vec()))).collect()
        }
    }
}
