//! Whether an address of an upstream vwatch answers at all, beside what waits there: one probe an address, however many
//! names wait, by the rule of [`crate::core::liveness`].
//!
//! The probe is `GET /readyz`. Any answer to it is a sign of life, except 502 and 504, by which a gateway says that the
//! upstream is away; and so is any answer to a request for a name. An address that answers names and never a probe, as a
//! gateway in front of it may do, is judged by its answers alone. The probe also tells when the set there began, and which
//! way it comes: for that it is sent while nothing waits, too, less often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::connections::Purpose;
use super::http::{self, Outgoing, To};
use super::names::Trouble;
use super::pace::{Blame, random, spread};
use super::upstream::{Address, Turn};
use super::{Shared, limit, watch};
use crate::core::liveness::{Liveness, PROBE_TIME, QUIET, Step};

/// How often an address is probed that nothing waits at, about.
const IDLE: Duration = Duration::from_secs(5);

/// Said of an address that nothing comes from.
const SAYS_NOTHING: &str = "it says nothing, not even to a probe";

/// What is known of whether an address answers.
#[derive(Debug)]
pub(super) struct Life {
    state: Mutex<State>,
    /// Told when something begins to wait.
    began: Notify,
    /// Told, with all that wait there, when the address is silent.
    silent: Notify,
    /// It has a prober.
    is_probed: AtomicBool,
}

#[derive(Debug)]
struct State {
    liveness: Liveness,
    /// How long it may be quiet while nothing waits: nothing before the first probe.
    idle: Duration,
    /// Requests that wait there.
    waiting: usize,
    has_answered: bool,
    answers_probes: bool,
    is_silent: bool,
    /// What became of the last probe, where that was no sign of life.
    why: String,
}

/// What the silence of an address says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// It has answered probes before: it does not work now.
    Sure,
    /// It has never answered anything.
    Likely,
    /// It has answered other requests, and never a probe: nothing.
    Nothing,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                liveness: Liveness::new(Instant::now()),
                idle: Duration::ZERO,
                waiting: 0,
                has_answered: false,
                answers_probes: false,
                is_silent: false,
                why: String::new(),
            }),
            began: Notify::new(),
            silent: Notify::new(),
            is_probed: AtomicBool::new(false),
        }
    }
}

impl Life {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address has answered a request for a name.
    pub(super) fn heard(&self) {
        let mut state = self.state();
        state.liveness.heard(Instant::now());
        state.has_answered = true;
    }

    /// No probe is sent now, so that no answer to it is missed.
    fn excuse(&self) {
        self.state().liveness.heard(Instant::now());
    }

    fn answered_probe(&self) {
        self.heard();
        let mut state = self.state();
        (state.answers_probes, state.is_silent) = (true, false);
    }

    /// A request waits there until this is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        let mut state = self.state();
        state.waiting += 1;
        if state.waiting == 1 {
            self.began.notify_one();
        }
        drop(state);
        Waiting(self)
    }

    /// Ends when the address is found to be silent, and says why it is thought to be.
    pub(super) async fn silent(&self) -> String {
        self.silent.notified().await;
        self.state().why.clone()
    }

    fn step(&self, now: Instant) -> Step {
        let mut state = self.state();
        let quiet = if state.waiting > 0 || state.is_silent { state.idle.min(QUIET) } else { state.idle };
        let step = state.liveness.step_after(quiet, now);
        if step == Step::Probe && state.idle.is_zero() {
            state.idle = spread(IDLE, random());
        }
        step
    }

    fn is_silent(&self) -> Silence {
        let mut state = self.state();
        match (state.answers_probes, state.has_answered) {
            (true, _) => {
                state.is_silent = true;
                Silence::Sure
            }
            (false, false) => Silence::Likely,
            (false, true) => Silence::Nothing,
        }
    }
}

/// A request that waits at an address.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Life);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// Gives each address its prober, those too that are found later.
pub(super) async fn probe_all(shared: Arc<Shared>) {
    loop {
        let changed = shared.upstream.changed();
        for address in shared.upstream.addresses().iter() {
            if !address.life.is_probed.swap(true, Ordering::Relaxed) {
                shared.runtime.spawn(probe(Arc::clone(&shared), Arc::clone(address)));
            }
        }
        changed.await;
    }
}

/// Probes one address for as long as it is one of the upstream.
async fn probe(shared: Arc<Shared>, address: Arc<Address>) {
    while shared.upstream.has(&address) {
        match address.life.step(Instant::now()) {
            Step::Wait(until) => {
                tokio::select! {
                    () = sleep_until(until.into()) => {}
                    () = address.life.began.notified() => {}
                }
            }
            Step::Probe => {
                shared.metrics.turn("fill-probe");
                if shared.upstream.is_paused(&address) {
                    // it is left alone, as it wants
                    address.life.excuse();
                    continue;
                }
                match send(&shared, &address).await {
                    Ok(()) => {
                        address.life.answered_probe();
                        shared.is_there(&address);
                    }
                    Err(why) => address.life.state().why = why,
                }
            }
            Step::Silent => is_silent(&shared, &address),
        }
    }
}

/// Sends a probe.
///
/// # Errors
/// Why what came of it is no sign of life.
async fn send(shared: &Arc<Shared>, address: &Address) -> Result<(), String> {
    let origin = shared.upstream.origin(address);
    let outgoing = Outgoing {
        to: To::Origin(address.origin),
        purpose: Purpose::Upstream,
        method: Method::GET,
        uri: &watch::uri(&shared.upstream, address, "/readyz"),
        host: Some(&origin.authority()),
        headers: &shared.headers(),
    };
    let deadline = tokio::time::Instant::now() + PROBE_TIME;
    let sent = shared.http.send(outgoing, deadline).await;
    let (parts, body) = sent.map_err(|failure| {
        tracing::debug!(address = %address.place, "no answer to a probe: {failure}");
        let is_late = tokio::time::Instant::now() >= deadline;
        if is_late { SAYS_NOTHING.to_owned() } else { failure.to_string() }
    })?;
    // a 503 is about its readiness
    if parts.status == StatusCode::TOO_MANY_REQUESTS {
        let pause = limit(shared, parts.status, &parts.headers).flatten();
        shared.upstream.pause(address, pause.unwrap_or(IDLE));
    }
    if let Err(failure) = watch::look_at_way(shared, address, &parts.headers)
        && let Some(more) = shared.may_complain("way")
    {
        tracing::error!(upstream = %shared.label(address), more, "{failure}");
    }
    http::discard(body).await;
    match parts.status {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            Err(format!("a gateway answers {}", parts.status))
        }
        _ => Ok(()),
    }
}

/// Nothing came from an address for the time of a probe: what waits there is given up.
fn is_silent(shared: &Shared, address: &Address) {
    let silence = address.life.is_silent();
    if silence == Silence::Nothing {
        return;
    }
    shared.is_silent(address, silence == Silence::Sure);
    address.life.silent.notify_waiters();
}

impl Shared {
    /// An address has answered a probe.
    fn is_there(&self, address: &Address) {
        match self.upstream.is_there(address) {
            (Turn::Back(after), _) => self.is_back(address, after),
            (_, true) => tracing::info!(
                upstream = %self.label(address),
                address = %address.place,
                "an address of the upstream answers again"
            ),
            _ => {}
        }
    }

    /// An address is silent; `is_sure` if it has answered probes before.
    fn is_silent(&self, address: &Address, is_sure: bool) {
        let why = address.life.state().why.clone();
        let trouble = || Trouble::CutOff(format!("the upstream does not answer: {why}").into());
        let was_asked = self.upstream.is_asked(address);
        if was_asked {
            self.metrics.silent(self.label(address));
        }
        let turn = if is_sure {
            self.upstream.is_silent(address, trouble())
        } else {
            self.upstream.failed(address, Blame::Address, Instant::now(), trouble)
        };
        match turn {
            Turn::CutOff => self.is_cut_off(address, &why),
            _ if was_asked && self.upstream.cut_off_for().is_none() => tracing::warn!(
                upstream = %self.label(address),
                address = %address.place,
                "an address of the upstream is passed over: {why}: others are asked"
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_probed_at_once_then_while_something_waits_and_else_less_often() {
        let life = Life::default();
        let now = Instant::now();
        assert_eq!(life.step(now), Step::Probe);
        life.answered_probe();
        let until = |step| match step {
            Step::Wait(until) => until,
            other => panic!("{other:?}"),
        };
        assert!(until(life.step(now)) > now + QUIET * 2);
        let (one, two) = (life.wait(), life.wait());
        drop(one);
        let soon = until(life.step(now));
        assert!(soon <= Instant::now() + QUIET);
        assert_eq!(life.step(soon), Step::Probe);
        assert_eq!(life.step(soon + PROBE_TIME), Step::Silent);
        drop(two);
        assert!(until(life.step(soon + PROBE_TIME)) > soon + PROBE_TIME + QUIET);
    }

    #[test]
    fn silence_says_something_only_of_what_answers_probes_or_nothing() {
        let life = Life::default();
        assert_eq!(life.is_silent(), Silence::Likely);
        life.heard();
        assert_eq!(life.is_silent(), Silence::Nothing);
        life.answered_probe();
        assert_eq!(life.is_silent(), Silence::Sure);
    }
}
