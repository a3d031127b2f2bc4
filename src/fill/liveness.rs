//! Whether an address of the upstream answers at all, by the rule of [`crate::core::liveness`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::backoff::{random, spread};
use crate::core::liveness::{Liveness, LivenessStep, QUIET};

/// How often an address is probed while no request waits there, ± 10 %.
pub(super) const IDLE: Duration = Duration::from_secs(5);

/// Whether an address answers, as its requests and its prober know.
#[derive(Debug)]
pub(super) struct AddressLiveness {
    state: Mutex<LivenessState>,
    /// Notified when the first request begins to wait.
    request_began: Notify,
    /// Notified when the address is silent: all waiting requests end then.
    silent: Notify,
    has_prober: AtomicBool,
}

#[derive(Debug)]
struct LivenessState {
    liveness: Liveness,
    /// Time between probes while no request waits; zero before the first probe.
    idle: Duration,
    /// Requests that wait at the address.
    waiting: usize,
    has_answered: bool,
    answers_probes: bool,
    is_silent: bool,
    /// Why the last probe was no sign of life; empty if it was one.
    why: String,
}

/// The meaning of an address's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It has answered probes before: it does not work now.
    Sure,
    /// It has never answered anything: most likely it does not work.
    Likely,
    /// It has answered other requests, and never a probe: its silence means nothing.
    Meaningless,
}

impl Default for AddressLiveness {
    fn default() -> Self {
        Self {
            state: Mutex::new(LivenessState {
                liveness: Liveness::new(Instant::now()),
                idle: Duration::ZERO,
                waiting: 0,
                has_answered: false,
                answers_probes: false,
                is_silent: false,
                why: String::new(),
            }),
            request_began: Notify::new(),
            silent: Notify::new(),
            has_prober: AtomicBool::new(false),
        }
    }
}

impl AddressLiveness {
    fn state(&self) -> MutexGuard<'_, LivenessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves the address for one prober. Returns whether it had none.
    pub(super) fn take_prober(&self) -> bool {
        !self.has_prober.swap(true, Ordering::Relaxed)
    }

    /// Records an answer to a request for a name.
    pub(super) fn record_answer(&self) {
        let mut state = self.state();
        state.liveness.heard(Instant::now());
        state.has_answered = true;
    }

    /// Skips a probe, so that no missing answer counts against the address.
    pub(super) fn skip_probe(&self) {
        self.state().liveness.heard(Instant::now());
    }

    /// Records an answer to a probe.
    pub(super) fn record_probe_answer(&self) {
        self.record_answer();
        let mut state = self.state();
        (state.answers_probes, state.is_silent) = (true, false);
    }

    /// Records why a probe was no sign of life.
    pub(super) fn record_probe_failure(&self, why: String) {
        self.state().why = why;
    }

    /// Counts a request as waiting at the address until the result is dropped.
    pub(super) fn begin_request(&self) -> WaitingRequest<'_> {
        let mut state = self.state();
        state.waiting += 1;
        if state.waiting == 1 {
            self.request_began.notify_one();
        }
        drop(state);
        WaitingRequest(self)
    }

    /// Completes when the first request begins to wait at the address.
    pub(super) async fn request_began(&self) {
        self.request_began.notified().await;
    }

    /// Completes when the address is found to be silent, and returns why.
    pub(super) async fn silent(&self) -> String {
        self.silent.notified().await;
        self.why()
    }

    /// Ends the requests that wait at the address.
    pub(super) fn end_requests(&self) {
        self.silent.notify_waiters();
    }

    /// Why the last probe was no sign of life.
    pub(super) fn why(&self) -> String {
        self.state().why.clone()
    }

    /// The next step of the prober.
    pub(super) fn step(&self, now: Instant) -> LivenessStep {
        let mut state = self.state();
        let quiet = if state.waiting > 0 || state.is_silent { state.idle.min(QUIET) } else { state.idle };
        let step = state.liveness.step_after(quiet, now);
        if step == LivenessStep::Probe && state.idle.is_zero() {
            state.idle = spread(IDLE, random());
        }
        step
    }

    /// Records that nothing came from the address for the time of a probe, and returns what that means.
    pub(super) fn record_silence(&self) -> Silence {
        let mut state = self.state();
        match (state.answers_probes, state.has_answered) {
            (true, _) => {
                state.is_silent = true;
                Silence::Sure
            }
            (false, false) => Silence::Likely,
            (false, true) => Silence::Meaningless,
        }
    }
}

/// A request that waits at an address.
#[derive(Debug)]
pub(super) struct WaitingRequest<'a>(&'a AddressLiveness);

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::liveness::PROBE_TIME;

    #[test]
    fn an_address_is_probed_at_once_then_while_a_request_waits_and_else_less_often() {
        let liveness = AddressLiveness::default();
        let now = Instant::now();
        assert_eq!(liveness.step(now), LivenessStep::Probe);
        liveness.record_probe_answer();
        let until = |step| match step {
            LivenessStep::Wait(until) => until,
            other => panic!("{other:?}"),
        };
        assert!(until(liveness.step(now)) > now + QUIET * 2);
        let (one, two) = (liveness.begin_request(), liveness.begin_request());
        drop(one);
        let soon = until(liveness.step(now));
        assert!(soon <= Instant::now() + QUIET);
        assert_eq!(liveness.step(soon), LivenessStep::Probe);
        assert_eq!(liveness.step(soon + PROBE_TIME), LivenessStep::Silent);
        drop(two);
        assert!(until(liveness.step(soon + PROBE_TIME)) > soon + PROBE_TIME + QUIET);
    }

    #[test]
    fn silence_means_something_only_at_an_address_that_answers_probes_or_nothing() {
        let liveness = AddressLiveness::default();
        assert_eq!(liveness.record_silence(), Silence::Likely);
        liveness.record_answer();
        assert_eq!(liveness.record_silence(), Silence::Meaningless);
        liveness.record_probe_answer();
        assert_eq!(liveness.record_silence(), Silence::Sure);
    }
}
