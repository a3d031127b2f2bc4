//! Clients: they ask for leases, renew them more or less in time, release them or die, hang up and ask again.

use std::sync::Arc;

use super::super::plan::SECOND_US;
use super::plan::Target;
use super::request::{Answer, Ask, Holding, State, Step, Wish};
use super::world::{Event, LeaseWorld};
use crate::core::Namespace;
use crate::core::lease::{Lease, LeaseId, LeasePath};

fn path(target: &Target) -> LeasePath {
    let namespace = match target.namespace {
        "" => Namespace::PLAIN,
        name => Namespace::new(name.as_bytes()).expect("a good namespace"),
    };
    LeasePath::new(&namespace, target.path.as_bytes(), target.prefix, usize::MAX).expect("a good path")
}

impl LeaseWorld {
    pub(super) fn think(&mut self, client: usize) {
        let us = self.random.below(2 * self.plan.think_us) + 1_000;
        let life = self.clients[client].life;
        self.after(us, Event::Client { client, step: Step::Think { life } });
    }

    fn idle(&mut self, client: usize) {
        self.clients[client].state = State::Idle;
        self.clients[client].attempt += 1;
        self.clients[client].life += 1;
        self.think(client);
    }

    fn some_process(&mut self) -> Option<u64> {
        // where voters restart on purpose, clients are at the other nodes
        let nodes = self.plan.coordinators.iter().filter_map(|node| self.live[*node]);
        let lives: Vec<u64> = nodes.collect();
        (!lives.is_empty()).then(|| lives[self.random.index(lives.len())])
    }

    pub(super) fn is_strict(&self) -> bool {
        self.now_us >= self.strict_us
    }

    pub(super) fn step(&mut self, client: usize, step: Step) {
        let (own_life, own_attempt) = (self.clients[client].life, self.clients[client].attempt);
        match step {
            Step::Think { life } if life == own_life => self.wish(client),
            Step::HangUp { attempt } if attempt == own_attempt => self.hang_up(client),
            Step::Renew { life } if life == own_life => self.renew(client),
            Step::RenewAgain { attempt } if attempt == own_attempt => self.renew(client),
            Step::End { life } if life == own_life => self.finish(client),
            Step::Forget { attempt } if attempt == own_attempt => self.release_again(client),
            Step::LateRelease { token, target } => {
                if let Some(process) = self.some_process() {
                    let ask = Ask::Release(path(&self.plan.paths[target]), token);
                    let us = self.delay_us(&[]);
                    self.report.late_releases += 1;
                    self.after(us, Event::Ask { process, client, attempt: 0, ask });
                }
            }
            _ => {}
        }
    }

    /// A client wants something new.
    fn wish(&mut self, client: usize) {
        if !self.has_clients || !matches!(self.clients[client].state, State::Idle) {
            return;
        }
        let number = match self.plan.scenario {
            scenario if scenario.keeps_leases() => client,
            _ => self.random.index(self.plan.paths.len()),
        };
        let target = &self.plan.paths[number];
        let waits = self.random.chance(self.plan.waits);
        let wish = Wish {
            ticket: LeaseId(u128::from(self.random.bits()) << 64 | u128::from(self.random.bits())),
            path: path(target),
            slots: target.slots,
            ttl_us: self.random.within(self.plan.min_ttl_us, self.plan.max_ttl_us),
            wait_us: if waits { self.random.within(100_000, self.plan.wait_us) } else { 0 },
            label: ["one", "other"][self.random.index(2)],
        };
        self.clients[client].life += 1;
        self.ask(client, wish, 0, None);
    }

    fn ask(&mut self, client: usize, wish: Wish, tries: u32, last: Option<u64>) {
        let last = last.filter(|id| self.processes.contains_key(id));
        let last = last.filter(|_| self.random.chance(5_000));
        let Some(process) = last.or_else(|| self.some_process()) else { return self.idle(client) };
        let (sent_us, wait_us) = (self.now_us, wish.wait_us);
        self.clients[client].attempt += 1;
        let attempt = self.clients[client].attempt;
        self.report.asked += 1;
        self.report.retried += u64::from(tries > 0);
        self.call(client, process, Ask::Acquire(wish.clone()));
        self.clients[client].state = State::Asking { wish, sent_us, process, tries };
        self.after(wait_us + 5 * SECOND_US, Event::Client { client, step: Step::HangUp { attempt } });
        if client < self.plan.clients && !self.is_strict() && self.random.chance(self.plan.hang_ups) {
            let us = self.random.below(wait_us + SECOND_US / 5);
            self.after(us, Event::Client { client, step: Step::HangUp { attempt } });
        }
    }

    fn call(&mut self, client: usize, process: u64, ask: Ask) {
        let attempt = self.clients[client].attempt;
        self.say(format_args!("client {client} asks {process} ({attempt}): {ask:?}"));
        if self.is_stormy && self.random.chance(self.plan.loss) {
            return;
        }
        let us = self.delay_us(&[]);
        self.after(us, Event::Ask { process, client, attempt, ask });
    }

    /// A client that waits does not wait any more.
    fn hang_up(&mut self, client: usize) {
        let attempt = self.clients[client].attempt;
        let State::Asking { wish, process, tries, .. } = &self.clients[client].state else { return };
        let (wish, process, tries) = (wish.clone(), *process, *tries);
        self.report.hang_ups += 1;
        // a node may never notice
        if !self.is_stormy || self.random.chance(8_000) {
            let us = self.delay_us(&[]);
            self.after(us, Event::HangUp { process, client, attempt });
        }
        if self.has_clients && tries < 3 && self.random.chance(self.plan.retries) {
            self.ask(client, wish, tries + 1, Some(process));
        } else {
            self.idle(client);
        }
    }

    pub(super) fn answered(&mut self, client: usize, attempt: u64, answer: Answer) {
        if attempt != self.clients[client].attempt {
            return;
        }
        self.say(format_args!("client {client} is answered ({attempt}): {answer:?}"));
        self.clients[client].attempt += 1;
        if client == self.plan.clients {
            return self.probed(client, &answer);
        }
        match std::mem::replace(&mut self.clients[client].state, State::Idle) {
            State::Asking { wish, sent_us, .. } => self.asked_and_answered(client, &wish, sent_us, answer),
            State::Holding(holding) => self.renewed(client, holding, answer),
            State::Releasing { .. } | State::Idle => self.idle(client),
        }
    }

    fn asked_and_answered(&mut self, client: usize, wish: &Wish, sent_us: u64, answer: Answer) {
        let Answer::Granted { lease, left_us } = answer else {
            self.report.denied += 1;
            return self.idle(client);
        };
        let until_us = self.clients[client].until(sent_us, left_us);
        let renews_late = self.random.chance(self.plan.renew_late);
        let waited = wish.wait_us > 0;
        let is_held = !waited && until_us > self.now_us;
        let hold = is_held.then(|| self.checks.holds(self.now_us, &lease, until_us));
        self.report.held += u64::from(is_held);
        let ttl_us = lease.ttl_us;
        self.clients[client].state =
            State::Holding(Holding { lease, hold, until_us, sent_us: self.now_us, renews_late });
        let life = self.clients[client].life;
        let is_brief = self.random.chance(self.plan.brief);
        let most_us = if is_brief { SECOND_US / 10 } else { 2 * self.plan.hold_us };
        let us = self.random.within(1_000, most_us);
        self.after(us, Event::Client { client, step: Step::End { life } });
        if is_held {
            self.plan_renewal(client, ttl_us);
        } else {
            self.renew(client);
        }
    }

    fn plan_renewal(&mut self, client: usize, ttl_us: u64) {
        let State::Holding(holding) = &self.clients[client].state else { return };
        let left_us = holding.until_us.saturating_sub(self.now_us);
        let us = match holding.renews_late {
            true if self.random.chance(5_000) => left_us.saturating_sub(self.random.below(SECOND_US / 12)),
            true => left_us + self.random.below(2 * SECOND_US),
            false => (ttl_us / 6 + self.random.below(ttl_us / 3)).min(left_us),
        };
        let life = self.clients[client].life;
        self.after(us, Event::Client { client, step: Step::Renew { life } });
    }

    fn renew(&mut self, client: usize) {
        let now_us = self.now_us;
        let keeps_leases = self.plan.scenario.keeps_leases();
        let State::Holding(holding) = &mut self.clients[client].state else { return };
        if now_us >= holding.until_us && !holding.renews_late && holding.hold.is_some() {
            self.report.lost_leases += u64::from(keeps_leases);
            return self.idle(client);
        }
        holding.sent_us = now_us;
        let mut lease = Lease::clone(&holding.lease);
        // the client does not say what it took
        lease.slots = None;
        let Some(process) = self.some_process() else { return self.idle(client) };
        if self.random.chance(2_000) && !keeps_leases {
            lease.ttl_us = self.random.within(self.plan.min_ttl_us, self.plan.max_ttl_us);
        }
        self.clients[client].attempt += 1;
        let attempt = self.clients[client].attempt;
        self.report.renewals += 1;
        self.call(client, process, Ask::Renew(Arc::new(lease)));
        self.after(3 * SECOND_US / 2, Event::Client { client, step: Step::RenewAgain { attempt } });
    }

    fn renewed(&mut self, client: usize, mut holding: Holding, answer: Answer) {
        let now_us = self.now_us;
        match answer {
            Answer::Renewed { lease, left_us, decided_us } => {
                let until_us = self.clients[client].until(holding.sent_us, left_us);
                let ttl_us = lease.ttl_us;
                match holding.hold {
                    Some(hold) if now_us < holding.until_us => {
                        holding.until_us = holding.until_us.max(until_us);
                        self.checks.hold_mut(hold).until_us = holding.until_us;
                    }
                    _ if until_us > now_us => {
                        self.report.revived += u64::from(holding.hold.is_some());
                        self.checks.revived(now_us, &lease, decided_us);
                        holding.hold = Some(self.checks.holds(now_us, &lease, until_us));
                        holding.until_us = until_us;
                        self.report.held += 1;
                    }
                    _ => {}
                }
                holding.lease = lease;
                self.clients[client].state = State::Holding(holding);
                self.plan_renewal(client, ttl_us);
            }
            Answer::NoMajority => {
                self.report.no_majority += 1;
                self.clients[client].state = State::Holding(holding);
                let life = self.clients[client].life;
                let us = self.random.within(50_000, 500_000);
                self.after(us, Event::Client { client, step: Step::Renew { life } });
            }
            _ => {
                self.report.lost_leases += 1;
                self.ends(&holding);
                self.idle(client);
            }
        }
    }

    /// The client does not take the lease for its own any more.
    fn ends(&mut self, holding: &Holding) {
        let now_us = self.now_us;
        if let Some(hold) = holding.hold {
            let hold = self.checks.hold_mut(hold);
            hold.until_us = hold.until_us.min(now_us);
        }
    }

    /// The client has done what it wanted the lease for, or dies.
    pub(super) fn finish(&mut self, client: usize) {
        let State::Holding(holding) = std::mem::replace(&mut self.clients[client].state, State::Idle) else {
            return;
        };
        if self.is_stormy && self.random.chance(self.plan.deaths) {
            self.report.deaths += 1;
            let number = self.plan.paths.iter().position(|target| path(target) == holding.lease.path);
            if let Some(target) = number.filter(|_| self.random.chance(3_000)) {
                let us = holding.until_us.saturating_sub(self.now_us) + self.random.below(4 * SECOND_US);
                let step = Step::LateRelease { token: holding.lease.token, target };
                self.after(us, Event::Client { client, step });
            }
            return self.idle(client);
        }
        self.ends(&holding);
        let (path, token) = (holding.lease.path.clone(), holding.lease.token);
        self.clients[client].state = State::Releasing { path, token, tries: 0 };
        self.release_again(client);
    }

    fn release_again(&mut self, client: usize) {
        let process = self.some_process();
        let State::Releasing { path, token, tries } = &mut self.clients[client].state else { return };
        *tries += 1;
        let (Some(process), true) = (process, *tries <= 2) else { return self.idle(client) };
        let ask = Ask::Release(path.clone(), *token);
        self.clients[client].attempt += 1;
        let attempt = self.clients[client].attempt;
        self.report.releases += 1;
        self.call(client, process, ask);
        self.after(3 * SECOND_US / 2, Event::Client { client, step: Step::Forget { attempt } });
    }

    /// All clients give back what they have, and hang up.
    pub(super) fn dismiss(&mut self) {
        for client in 0..self.plan.clients {
            match self.clients[client].state {
                State::Holding(_) => self.finish(client),
                State::Asking { .. } => self.hang_up(client),
                _ => {}
            }
        }
    }

    /// One after another, each path is asked for, and must be granted at once.
    pub(super) fn probe(&mut self, at: usize) {
        let client = self.plan.clients;
        self.clients[client].life = at as u64;
        let Some(target) = self.plan.paths.get(at) else {
            return self.after(3 * self.plan.max_ttl_us / 2 + 2 * SECOND_US, Event::End);
        };
        let wish = Wish {
            ticket: LeaseId(u128::from(self.random.bits())),
            path: path(target),
            slots: target.slots,
            ttl_us: self.plan.max_ttl_us,
            wait_us: 0,
            label: "probe",
        };
        self.ask(client, wish, 0, None);
        self.after(SECOND_US, Event::Probe { at: at + 1 });
    }

    fn probed(&mut self, client: usize, answer: &Answer) {
        let now_us = self.now_us;
        let State::Asking { .. } = &self.clients[client].state else { return };
        match answer {
            Answer::Granted { lease, .. } => {
                self.report.probes += 1;
                let ask = Ask::Release(lease.path.clone(), lease.token);
                self.clients[client].state = State::Idle;
                self.clients[client].attempt += 1;
                if let Some(process) = self.some_process() {
                    self.call(client, process, ask);
                }
            }
            other => {
                let detail = format!("{other:?}");
                self.checks.broken(now_us, "what is free is granted", format_args!("{detail}"));
            }
        }
    }

    /// Whether the probe of a path was answered.
    pub(super) fn is_probing(&self) -> bool {
        matches!(self.clients[self.plan.clients].state, State::Asking { .. })
    }
}
