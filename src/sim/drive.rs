//! Drives each process as its node would: its ticks, its gossip, and its messages.

use super::gossip::Heartbeat;
use super::world::{Event, Process, TICK_US, World};
use crate::core::effects::SetChange;
use crate::core::join::{RefusalCause, SeedStatus};
use crate::core::message::{Call, Reply, Request, Response, SyncStep};
use crate::core::{Kind, Name, Record};
use crate::wire::message::{decode_request, decode_response, encode_request, encode_response};

impl World {
    fn alive(&mut self, slot: usize, life: u32) -> Option<&mut Process> {
        self.processes[slot].as_mut().filter(|process| process.life == life)
    }

    pub(super) fn tick(&mut self, slot: usize, life: u32) {
        let (now_us, entropy, timeout_us) = (self.now_us, self.random.bits(), self.plan.timeout_us);
        let Some(process) = self.alive(slot, life) else { return };
        let now = process.clock.now(now_us);
        // the timeout starts with the call; calls were made in the order of their ids
        let late: Vec<u64> = process
            .outstanding
            .iter()
            .filter(|(_, (at, _))| *at + timeout_us <= now_us)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            process.outstanding.remove(&id);
            process.replica.failed(&mut process.store, now, id);
        }
        let before =
            (process.replica.state(), process.store.set().horizon(), process.store.set().tombstones());
        process.replica.tick(&mut process.store, now, entropy);
        let after =
            (process.replica.state(), process.store.set().horizon(), process.store.set().tombstones());
        let forgotten = before.2.saturating_sub(after.2) as u64;
        if before.0 != after.0 {
            process.ready_us = Some(now_us);
            let genesis = process.store.genesis();
            self.geneses.insert(genesis);
            self.trace.line(now_us, format_args!("n{slot} is {:?} in {genesis:?}", after.0));
        }
        if before.1 != after.1 {
            self.trace
                .line(now_us, format_args!("n{slot} moves its horizon to {}, forgets {forgotten}", after.1));
        }
        self.work.forgotten += if self.stormy { forgotten } else { 0 };
        self.carry_out(slot);
        self.after(TICK_US, Event::Tick { slot, life });
    }

    pub(super) fn gossip(&mut self, slot: usize, life: u32) {
        let (now_us, dead_us) = (self.now_us, self.plan.dead_us);
        let split = now_us < self.plan.split_until_us();
        let known = |other: &usize| *other != slot && (!split || other % 2 == slot % 2);
        let addresses: Vec<usize> = (0..self.plan.nodes).filter(known).collect();
        let (nodes, refused, stranger) = (self.plan.nodes, self.refused[slot], self.stranger);
        let Some(process) = self.alive(slot, life) else { return };
        let now = process.clock.now(now_us);
        let live = process.table.live(now_us, dead_us);
        let before = process.store.set().tombstones();
        let all = process.table.statuses(nodes, now_us, dead_us);
        let others: Vec<SeedStatus> = addresses
            .iter()
            .map(|other| match refused || stranger == Some(*other) {
                true => SeedStatus::Refuses(RefusalCause::Unproven),
                false => all[*other],
            })
            .collect();
        process.replica.see(&mut process.store, now, &live, &others);
        let forgotten = before.saturating_sub(process.store.set().tombstones()) as u64;
        process.table.beat(now_us, life, process.replica.summary(&process.store));
        let heartbeats = process.table.all();
        self.work.forgotten += if self.stormy { forgotten } else { 0 };
        self.carry_out(slot);
        if !addresses.is_empty() {
            for _ in 0..3 {
                // any address, whether a process is there or not: this heals a split
                let to = addresses[self.random.index(addresses.len())];
                self.send_gossip(slot, to, &heartbeats, true);
            }
        }
        let us = self.plan.gossip_us;
        self.after(us, Event::Gossip { slot, life });
    }

    fn send_gossip(&mut self, from: usize, to: usize, heartbeats: &[Heartbeat], reply: bool) {
        let known = heartbeats.len() as u64;
        // about the bytes that chitchat sends for a node: digest and changed values together
        self.count("gossip", 60 * known);
        for at_us in self.carry(from, to, false) {
            let heartbeats = heartbeats.to_vec();
            self.at(at_us, Event::GossipArrives { to, from, heartbeats, reply });
        }
    }

    pub(super) fn receive_gossip(&mut self, to: usize, from: usize, heartbeats: &[Heartbeat], reply: bool) {
        let (now_us, dead_us) = (self.now_us, self.plan.dead_us);
        let Some(process) = self.processes[to].as_mut() else { return };
        process.table.apply(now_us, heartbeats, 5 * dead_us);
        if reply {
            let heartbeats = process.table.all();
            self.send_gossip(to, from, &heartbeats, false);
        }
    }

    /// The arrival times of a message that is sent now. With another secret it is lost.
    fn carry(&mut self, from: usize, to: usize, twice: bool) -> Vec<u64> {
        if self.refused[from] || self.refused[to] {
            return Vec::new();
        }
        self.network.carry(self.now_us, from, to, twice).collect()
    }

    pub(super) fn count(&mut self, kind: &'static str, bytes: u64) {
        let traffic = self.traffic.entry(kind).or_default();
        traffic.messages += 1;
        traffic.bytes += bytes;
    }

    /// Carries out the effects of a process: gives its changes to its witness, and sends its calls.
    pub(super) fn carry_out(&mut self, slot: usize) {
        let Some(process) = self.processes[slot].as_mut() else { return };
        let (effects, set) = (process.store.take_effects(), process.store.set());
        let us = process.store.incarnation();
        let mut expired = Vec::new();
        for change in &effects.changes {
            if let SetChange::Merged { record, previous: Some(previous) } = change
                && record.dot().incarnation == us
                && record.is_expiry()
                && previous.kind() == Kind::Value
                && self.history.is_new(record)
            {
                expired.push((record.clone(), previous.clone()));
            }
        }
        if let Err((rule, detail)) = process.witness.changed(effects.changes, set.registers()) {
            self.broken(rule, format!("n{slot}: {detail}"));
        }
        self.use_disk(slot, effects.disk);
        let names: Vec<Name> = expired.iter().map(|(record, _)| record.name().clone()).collect();
        for (record, previous) in expired {
            self.expired(slot, &record, &previous);
        }
        if !names.is_empty() {
            self.look(slot, &names);
        }
        self.send(slot, effects.calls);
    }

    /// A node has deleted what has ended.
    fn expired(&mut self, slot: usize, record: &Record, previous: &Record) {
        let Some(process) = self.processes[slot].as_ref() else { return };
        let now = process.clock.now(self.now_us).wall;
        self.work.expired += 1;
        self.trace.line(self.now_us, format_args!("n{slot} deletes {previous:?}, which has ended"));
        if let Err((rule, detail)) = self.history.expired(record, previous, now) {
            self.broken(rule, format!("n{slot}: {detail}"));
        }
    }

    fn send(&mut self, slot: usize, calls: Vec<Call>) {
        for call in calls {
            let now_us = self.now_us;
            let Some(process) = self.processes[slot].as_mut() else { return };
            process.outstanding.insert(call.id, (now_us, call.version));
            let life = process.life;
            let Some(to) = self.homes.get(&call.to).copied() else { continue };
            let bytes = encode_request(call.version, &call.request);
            let kind = match &call.request {
                Request::Push(_) => "push",
                Request::Sync(ask) => match &ask.step {
                    SyncStep::Vectors { .. } => "sync vectors",
                    SyncStep::Open(_) => "sync open",
                    SyncStep::Go { .. } => "sync go",
                    SyncStep::Snapshot { .. } => "sync snapshot",
                },
            };
            self.count(kind, bytes.len() as u64);
            self.trace.line(now_us, format_args!("n{slot} -> n{to} #{} {kind} of {}", call.id, bytes.len()));
            if self.aloof[slot] || self.aloof[to] {
                continue;
            }
            for at_us in self.carry(slot, to, true) {
                let bytes = bytes.clone();
                self.at(at_us, Event::Request { to, from: slot, life, id: call.id, bytes });
            }
        }
    }

    pub(super) fn request(&mut self, to: usize, from: usize, life: u32, id: u64, bytes: &[u8]) {
        let now_us = self.now_us;
        let Some(process) = self.processes[to].as_mut() else { return };
        let now = process.clock.now(now_us);
        let spoken = self.plan.protocol(to);
        let (version, request) = decode_request(spoken, bytes).expect("nodes send what they can read");
        let response = process.replica.request(&mut process.store, now, &request);
        self.carry_out(to);
        self.look(to, &names_of_request(&request));
        let kind = match &response {
            Response::Push(_) => "push ack",
            Response::Sync(answer) => match &answer.reply {
                Reply::Found(_) => "sync found",
                Reply::Snapshot { .. } => "sync snapshot part",
                Reply::Equal(_) => "sync equal",
                Reply::RegistersFirst => "sync registers first",
                Reply::WrongHorizon => "sync wrong horizon",
                Reply::OtherGenesis => "sync other genesis",
                Reply::NotMe | Reply::Joining => "sync refusal",
            },
        };
        if let (Request::Sync(ask), Response::Sync(answer)) = (&request, &response)
            && let (SyncStep::Open(compare) | SyncStep::Go { compare, .. }, Reply::Found(found)) =
                (&ask.step, &answer.reply)
        {
            let asked: usize = compare.iter().map(|compare| compare.sums.len()).sum();
            self.found.0 += found.differ.len() as u64;
            self.found.1 += u64::from((found.covered as usize) < asked);
        }
        let bytes = encode_response(version, &response);
        self.count(kind, bytes.len() as u64);
        self.trace.line(now_us, format_args!("n{to} => n{from} #{id} {kind} of {}", bytes.len()));
        for at_us in self.carry(to, from, false) {
            let bytes = bytes.clone();
            self.at(at_us, Event::Response { to: from, life, id, bytes });
        }
    }

    pub(super) fn response(&mut self, to: usize, life: u32, id: u64, bytes: &[u8]) {
        let (now_us, entropy) = (self.now_us, self.random.bits());
        let Some(process) = self.alive(to, life) else { return };
        let Some((_, version)) = process.outstanding.remove(&id) else { return };
        let now = process.clock.now(now_us);
        let response = decode_response(version, bytes).expect("nodes send what they can read");
        let names = names_of_response(&response);
        let before = process.replica.state();
        process.replica.response(&mut process.store, now, entropy, id, response);
        let after = process.replica.state();
        if before != after {
            process.ready_us = Some(now_us);
            let genesis = process.store.genesis();
            self.geneses.insert(genesis);
            self.trace.line(now_us, format_args!("n{to} is {after:?} in {genesis:?}"));
        }
        self.carry_out(to);
        self.look(to, &names);
    }
}

fn names<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<Name> {
    records.into_iter().map(|record| record.name().clone()).collect()
}

fn names_of_request(request: &Request) -> Vec<Name> {
    match request {
        Request::Push(batch) => names(&batch.records),
        Request::Sync(ask) => match &ask.step {
            SyncStep::Go { records, .. } => names(records),
            _ => Vec::new(),
        },
    }
}

fn names_of_response(response: &Response) -> Vec<Name> {
    match response {
        Response::Push(_) => Vec::new(),
        Response::Sync(answer) => match &answer.reply {
            Reply::Found(found) => names(&found.records),
            Reply::Snapshot { records, .. } => names(records),
            _ => Vec::new(),
        },
    }
}
