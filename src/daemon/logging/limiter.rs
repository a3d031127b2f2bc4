//! Limits the lines that one place in the code logs: the first ones at once, then a count.
//!
//! An outsider decides how often some lines are logged: by a datagram without the secret, or a request for a name that
//! the upstream rejects. The limit is for each place (a callsite of `tracing`), and holds for third-party code as well.
//! Lines below INFO are exempt: an operator has requested all of them, and the queue bounds them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::daemon::logging::queue::LineQueue;

/// The target of lines about the log itself. They are exempt: their number is bounded by the reports.
pub(super) const OWN_TARGET: &str = "vwatch::log";

/// Characters of a dropped line that its report has.
const MAX_SAMPLE_CHARS: usize = 200;

/// The limits of a place in the code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Lines within a window, as long as the place keeps to it.
    burst: u64,
    /// Length of such a window.
    window: Duration,
    /// Lines within a window after one in which lines were left out.
    flooded_burst: u64,
    /// Length of such a window.
    flooded_window: Duration,
}

impl Limits {
    /// Twenty lines in 10 s; while there are more, one line and one count a minute.
    pub(super) const DEFAULT: Self = Self {
        burst: 20,
        window: Duration::from_secs(10),
        flooded_burst: 1,
        flooded_window: Duration::from_secs(60),
    };
}

/// What one place in the code logs in its present window.
struct Place {
    metadata: &'static Metadata<'static>,
    began: Instant,
    /// Lines were left out in the window before this one.
    flooded: bool,
    /// Lines that it wanted to log.
    wanted: u64,
    /// The first line that was left out.
    sample: String,
}

/// A window of one place that has ended, in which lines were left out.
struct Report {
    metadata: &'static Metadata<'static>,
    left_out: u64,
    within: Duration,
    sample: String,
}

impl Place {
    const fn new(metadata: &'static Metadata<'static>, began: Instant, flooded: bool) -> Self {
        Self { metadata, began, flooded, wanted: 0, sample: String::new() }
    }

    const fn burst(&self, limits: &Limits) -> u64 {
        if self.flooded { limits.flooded_burst } else { limits.burst }
    }

    const fn window(&self, limits: &Limits) -> Duration {
        if self.flooded { limits.flooded_window } else { limits.window }
    }

    const fn left_out(&self, limits: &Limits) -> u64 {
        self.wanted.saturating_sub(self.burst(limits))
    }

    /// Begins another window if this one is over. Returns what is to be reported of the old one.
    fn turn(&mut self, limits: &Limits, now: Instant) -> Option<Report> {
        let within = now.saturating_duration_since(self.began);
        if within < self.window(limits) {
            return None;
        }
        let left_out = self.left_out(limits);
        let Self { metadata, sample, .. } =
            std::mem::replace(self, Self::new(self.metadata, now, left_out > 0));
        (left_out > 0).then_some(Report { metadata, left_out, within, sample })
    }
}

/// Limits how much each place in the code logs.
pub(super) struct Limiter {
    limits: Limits,
    /// As many as the program has places that log.
    places: Mutex<HashMap<Identifier, Place>>,
    /// Places that have left lines out in their present window.
    owing: AtomicUsize,
    left_out: AtomicU64,
    queue: Arc<LineQueue>,
}

impl Limiter {
    pub(super) fn new(limits: Limits, queue: Arc<LineQueue>) -> Self {
        let (owing, left_out) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { limits, places: Mutex::default(), owing, left_out, queue }
    }

    /// Lines that were left out since the process began.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Whether a window in which lines were left out has yet to end.
    pub(super) fn owes_reports(&self) -> bool {
        self.owing.load(Ordering::Relaxed) > 0
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Identifier, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line may be logged. `sample` makes a text of it, which is kept if it is the first one that may not.
    fn admits(
        &self,
        metadata: &'static Metadata<'static>,
        now: Instant,
        sample: impl FnOnce() -> String,
    ) -> bool {
        let mut places = self.places();
        let place = places.entry(metadata.callsite()).or_insert_with(|| Place::new(metadata, now, false));
        // one that owes a report is turned where that is written
        if place.left_out(&self.limits) == 0 {
            place.turn(&self.limits, now);
        }
        place.wanted += 1;
        let left_out = place.left_out(&self.limits);
        if left_out == 0 {
            return true;
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        if left_out == 1 {
            place.sample = sample();
            self.owing.fetch_add(1, Ordering::Relaxed);
            drop(places);
            self.queue.expect_report();
        }
        false
    }

    /// Logs the number of dropped lines of each place with a window that has ended.
    pub(super) fn report(&self, now: Instant) {
        if self.owes_reports() {
            self.due(now).iter().for_each(log);
        }
    }

    fn due(&self, now: Instant) -> Vec<Report> {
        let mut places = self.places();
        let owing = places.values_mut().filter(|place| place.left_out(&self.limits) > 0);
        let due: Vec<Report> = owing.filter_map(|place| place.turn(&self.limits, now)).collect();
        self.owing.fetch_sub(due.len(), Ordering::Relaxed);
        due
    }
}

/// Logs a report, at the level of the lines that were left out.
fn log(report: &Report) {
    let Report { metadata, left_out, within, sample } = report;
    let (seconds, target) = (within.as_secs(), metadata.target());
    match *metadata.level() {
        Level::ERROR => {
            tracing::error!(target: OWN_TARGET, "{left_out} more lines within {seconds} s like: {sample} ({target})");
        }
        Level::WARN => {
            tracing::warn!(target: OWN_TARGET, "{left_out} more lines within {seconds} s like: {sample} ({target})");
        }
        _ => {
            tracing::info!(target: OWN_TARGET, "{left_out} more lines within {seconds} s like: {sample} ({target})");
        }
    }
}

/// The limiter in its place before the lines are formatted.
pub(super) struct LimiterLayer(pub(super) Arc<Limiter>);

impl<S: Subscriber> Layer<S> for LimiterLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // the levels of tracing are ordered by how much they let through
        if *metadata.level() > Level::INFO || metadata.target() == OWN_TARGET {
            return true;
        }
        self.0.admits(metadata, Instant::now(), || {
            let mut sample = Sample::default();
            event.record(&mut sample);
            sample.0
        })
    }
}

/// The beginning of a line's message.
#[derive(Default)]
struct Sample(String);

impl Visit for Sample {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let text = format!("{value:?}");
            self.0 = text.chars().take(MAX_SAMPLE_CHARS).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::Callsite;
    use tracing::metadata::Kind;

    use super::*;

    fn limiter() -> (Limiter, std::sync::mpsc::Receiver<crate::daemon::logging::queue::Message>) {
        let (queue, receiver) = LineQueue::new();
        (Limiter::new(Limits::DEFAULT, queue), receiver)
    }

    /// Two places in the code.
    fn metadata() -> [&'static Metadata<'static>; 2] {
        [
            tracing::callsite!(name: "one", kind: Kind::EVENT, fields: message).metadata(),
            tracing::callsite!(name: "two", kind: Kind::EVENT, fields: message).metadata(),
        ]
    }

    #[test]
    fn a_flood_is_some_lines_and_then_one_count_a_minute() {
        let (limiter, _receiver) = limiter();
        let [place, other] = metadata();
        let began = Instant::now();
        let (mut lines, mut reports) = (0, Vec::new());
        // a thousand a second for ten minutes
        for ms in 0..600_000 {
            let now = began + Duration::from_millis(ms);
            reports.extend(limiter.due(now));
            lines += u32::from(limiter.admits(place, now, || format!("line at {ms}")));
        }
        assert_eq!(lines, 20 + 10, "the first ones, and one in each window after that");
        assert_eq!(reports.len(), 10);
        assert_eq!((reports[0].left_out, reports[0].sample.as_str()), (10_000 - 20, "line at 20"));
        assert_eq!((reports[1].left_out, reports[1].within), (60_000 - 1, Duration::from_secs(60)));
        let now = began + Duration::from_secs(600);
        assert!(limiter.admits(other, now, String::new), "another place has a limit of its own");
        assert_eq!(limiter.left_out(), 600_000 - u64::from(lines));
    }

    #[test]
    fn a_place_that_calms_down_has_its_lines_again() {
        let (limiter, receiver) = limiter();
        let [place, _] = metadata();
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let burst = |now: Instant| (0..25).filter(|_| limiter.admits(place, now, String::new)).count();
        assert_eq!(burst(at(0)), 20);
        assert!(limiter.owes_reports());
        assert!(receiver.try_recv().is_ok(), "the writing thread is woken to report it");
        assert!(limiter.due(at(9)).is_empty());
        assert_eq!(limiter.due(at(10)).len(), 1);
        assert!(!limiter.owes_reports());
        assert_eq!(burst(at(11)), 1);
        assert_eq!(limiter.due(at(70)).len(), 1);
        assert!(limiter.admits(place, at(71), String::new));
        // a minute without a line too many
        assert!(limiter.due(at(131)).is_empty(), "nothing to report");
        assert_eq!(burst(at(132)), 20);
    }

    #[test]
    fn few_lines_are_never_left_out() {
        let (limiter, _receiver) = limiter();
        let [place, _] = metadata();
        let began = Instant::now();
        let every_second = (0..3600).map(|s| began + Duration::from_secs(s));
        assert_eq!(every_second.filter(|now| limiter.admits(place, *now, String::new)).count(), 3600);
    }
}
