//! Readers that roam: each goes on at any node by its cursor, and sometimes from an older one.

use std::time::Duration;

use super::World;
use super::cursor::Cursor;
use super::history::{Batch, Event, Mode, Reader, Start, Subscription};
use crate::faults::places::{PATIENCE, Place, ask_within};
use crate::http::{Request, Response};
use crate::text::now_us;

/// What the readers of a run watch.
pub(super) fn subscriptions() -> Vec<Subscription> {
    let of = |mode, start, names: &[&str], prefixes: &[&str], types| Subscription {
        mode,
        start,
        names: names.iter().map(ToString::to_string).collect(),
        prefixes: prefixes.iter().map(ToString::to_string).collect(),
        types,
    };
    use Mode::{All, Latest};
    use Start::{Now, Oldest};
    vec![
        of(Latest, Oldest, &[], &[""], None),
        of(All, Oldest, &[], &[""], None),
        of(Latest, Oldest, &[], &["a/"], None),
        of(All, Oldest, &[], &["a/", "a/1"], None),
        of(Latest, Oldest, &["b/0", "c/1", "none"], &[], None),
        of(All, Oldest, &["b/0", "a/0"], &["c/"], None),
        of(Latest, Now, &[], &["b/"], None),
        of(All, Now, &[], &[""], None),
        of(All, Oldest, &[], &["b/"], Some("delete")),
        of(Latest, Oldest, &[], &[""], Some("put")),
    ]
}

/// What a request asks for beside the subscription.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub limit: Option<usize>,
    pub timeout: Option<Duration>,
    pub heartbeat: Option<Duration>,
}

/// One that asks again and again.
pub(super) struct Roamer<'a> {
    pub(super) world: &'a World,
    pub(super) rng: fastrand::Rng,
    reader: Reader,
    /// Where it asks.
    pub(super) node: usize,
    /// The answer whose cursor it sends next, and the cursor.
    at: Option<(usize, String)>,
    /// What it has stored, first and last.
    stored: Option<[(usize, String); 2]>,
    /// Longest pause between two answers.
    pause: Duration,
}

impl<'a> Roamer<'a> {
    /// Some readers are slow: they pause for up to a fifteenth of the time of the run.
    pub(super) fn new(
        world: &'a World,
        subscription: Subscription,
        time: Duration,
        mut rng: fastrand::Rng,
    ) -> Self {
        let pause =
            [Duration::from_millis(5), Duration::from_millis(50), time / 60, time / 15][rng.usize(..4)];
        let node = rng.usize(..world.nodes);
        let reader = Reader { subscription, batches: Vec::new() };
        Self { world, rng, reader, node, at: None, stored: None, pause }
    }

    /// Until the run is over.
    pub(super) fn roam(mut self) -> Reader {
        while self.world.goes_on() {
            if self.rng.u8(..4) == 0 {
                self.node = self.rng.usize(..self.world.nodes);
            }
            match self.rng.u8(..40) {
                0..4 => self.store(),
                4 => self.crash(),
                _ => {}
            }
            let is_answered = if self.world.by_streams && self.rng.u8(..4) > 0 {
                self.stream()
            } else {
                let wait = Duration::from_millis([0, 0, 300, 2000][self.rng.usize(..4)]);
                let limit = [1, 5, 50, 1000][self.rng.usize(..4)];
                self.ask(wait, limit)
            };
            if !is_answered {
                self.node = self.rng.usize(..self.world.nodes);
                std::thread::sleep(Duration::from_millis(20));
            }
            self.pause();
        }
        self.catch_up();
        self.reader
    }

    pub(super) fn pause(&mut self) {
        let most = u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX);
        std::thread::sleep(Duration::from_micros(self.rng.u64(..=most)));
    }

    fn store(&mut self) {
        if let Some(last) = self.at.clone() {
            let first = self.stored.take().map_or_else(|| last.clone(), |[first, _]| first);
            self.stored = Some([first, last]);
        }
    }

    /// Goes back to what it has stored, now and then to what is long past.
    fn crash(&mut self) {
        if let Some(stored) = &self.stored {
            self.at = Some(stored[usize::from(self.rng.u8(..4) > 0)].clone());
        }
    }

    /// All is well: reads on at every node, until none has more to tell and the last cursor claims all.
    fn catch_up(&mut self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let mut quiet = 0;
        while quiet < 2 * self.world.nodes && std::time::Instant::now() < deadline {
            self.node = (self.node + 1) % self.world.nodes;
            let asked = self.ask(Duration::ZERO, 1000);
            let last = self.reader.batches.last().filter(|_| asked);
            let is_quiet = last.is_some_and(|batch| {
                let claimed = |(process, count): (&u64, &u64)| {
                    batch.cursor.vector.get(process).copied().unwrap_or(0) >= *count
                };
                !batch.more && self.world.known_at_the_end().iter().all(claimed)
            });
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
    }

    /// Asks once. False if there was no answer of use.
    fn ask(&mut self, wait: Duration, limit: usize) -> bool {
        let Some(place) = self.world.places.of(self.node) else { return false };
        let request = self.request(&Terms { limit: Some(limit), timeout: Some(wait), heartbeat: None });
        let asked = now_us();
        let Some(answer) = self.answer(place, &request, wait) else { return false };
        if answer.status == 503 {
            return false;
        }
        assert_eq!(answer.status, 200, "{answer:?} to {request:?}");
        let json = answer.json();
        let text = json["cursor"].as_str().unwrap_or_else(|| panic!("no cursor: {json}")).to_owned();
        let events: Vec<Event> = json["events"]
            .as_array()
            .unwrap_or_else(|| panic!("no events: {json}"))
            .iter()
            .map(Event::of)
            .collect();
        let draining = events.is_empty() && answer.says_close();
        self.record(asked, events, draining, json["more"] == true, text);
        true
    }

    /// Keeps an answer, or what a stream told up to a cursor, and goes on from there.
    pub(super) fn record(
        &mut self,
        asked: u64,
        events: Vec<Event>,
        draining: bool,
        more: bool,
        text: String,
    ) {
        let batch = Batch {
            parent: self.at.as_ref().map(|(at, _)| *at),
            node: self.node,
            asked,
            answered: now_us(),
            draining,
            events,
            more,
            cursor: Cursor::read(&text).unwrap_or_else(|| panic!("a cursor of another form: {text}")),
        };
        self.at = Some((self.reader.batches.len(), text));
        self.reader.batches.push(batch);
    }

    fn answer(&self, place: Place, request: &Request, wait: Duration) -> Option<Response> {
        // a node that a cursor is ahead of waits for two seconds
        ask_within(place.client, request, wait + 2 * PATIENCE)
    }

    pub(super) fn request(&mut self, terms: &Terms) -> Request {
        let Subscription { mode, start, names, prefixes, types } = &self.reader.subscription;
        let mode = match mode {
            Mode::Latest => "latest",
            Mode::All => "all",
        };
        let since = match (&self.at, start) {
            (Some((_, cursor)), _) => Some(cursor.as_str()),
            (None, Start::Now) => Some("now"),
            (None, Start::Oldest) => None,
        };
        let ms = |time: Duration| format!("{}ms", time.as_millis());
        if self.rng.bool() {
            let mut body = serde_json::json!({
                "names": names, "prefixes": prefixes, "mode": mode, "data": "text",
            });
            if let Some(limit) = terms.limit {
                body["limit"] = limit.into();
            }
            for (key, time) in [("timeout", terms.timeout), ("heartbeat", terms.heartbeat)] {
                if let Some(time) = time {
                    body[key] = ms(time).into();
                }
            }
            if let Some(since) = since {
                body["since"] = since.into();
            }
            if let Some(types) = types {
                body["types"] = serde_json::json!([types]);
            }
            let request = Request::new("POST", "/v1/watch").header("Content-Type", "application/json");
            return request.body(body.to_string());
        }
        let mut query = format!("/v1/watch?mode={mode}&data=text");
        if let Some(limit) = terms.limit {
            query.push_str(&format!("&limit={limit}"));
        }
        for (key, time) in [("timeout", terms.timeout), ("heartbeat", terms.heartbeat)] {
            if let Some(time) = time {
                query.push_str(&format!("&{key}={}", ms(time)));
            }
        }
        names.iter().for_each(|name| query.push_str(&format!("&name={name}")));
        prefixes.iter().for_each(|prefix| query.push_str(&format!("&prefix={prefix}")));
        if let Some(types) = types {
            query.push_str(&format!("&types={types}"));
        }
        if let Some(since) = since {
            query.push_str(&format!("&since={since}"));
        }
        Request::new("GET", &query)
    }
}
