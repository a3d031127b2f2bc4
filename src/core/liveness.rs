//! Liveness of an address, while a request waits there for an answer that may take long.
//!
//! A long poll gets no bytes for its whole time; neither does a request to a process that is frozen, or to a machine
//! that is gone. Hence a request that is answered at once, the *probe*, is sent beside the waiting one. Time is passed
//! in.
//!
//! | time since the last sign of life | action |
//! |---|---|
//! | less than [`QUIET`] | none |
//! | more, and a request waits there | a probe is sent, one at a time |
//! | [`PROBE_TIME`] after the probe was sent, and still no answer | the address is silent: use the next address |

use std::time::{Duration, Instant};

/// An address with a waiting request is probed once it has been quiet for this long.
pub const QUIET: Duration = Duration::from_secs(2);

/// How long an address has to answer a probe, or anything else.
pub const PROBE_TIME: Duration = Duration::from_secs(2);

/// The next action for an address with a waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivenessStep {
    /// Do nothing until this time.
    Wait(Instant),
    /// Send a probe. There is no other probe until its time is over.
    Probe,
    /// There was no sign of life for the whole time of a probe: end the requests that wait there.
    Silent,
}

/// The last sign of life of an address, and the last probe.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    /// The last sign of life, or when the request began to wait.
    heard: Instant,
    /// When the unanswered probe was sent.
    probed: Option<Instant>,
    /// How long the address may be quiet, and then how long a probe may take.
    quiet: Duration,
    probe_time: Duration,
}

impl Liveness {
    /// The liveness of an address of which nothing is known; a request begins to wait there at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { heard: now, probed: None, quiet: QUIET, probe_time: PROBE_TIME }
    }

    /// As [`Liveness::new`], for a request that has at most the time `within` to find that an address is silent.
    #[must_use]
    pub fn hurried(now: Instant, within: Duration) -> Self {
        let half = within / 2;
        Self { quiet: QUIET.min(half), probe_time: PROBE_TIME.min(half), ..Self::new(now) }
    }

    /// How long the address has to answer a probe.
    #[must_use]
    pub fn probe_time(&self) -> Duration {
        self.probe_time
    }

    /// Records that the address has answered a probe, or any other request.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now.max(self.heard);
        self.probed = None;
    }

    /// The next action, for an address with a waiting request. If it is a probe, the probe counts as sent.
    pub fn step(&mut self, now: Instant) -> LivenessStep {
        self.step_after(self.quiet, now)
    }

    /// As [`Liveness::step`], for an address that may be quiet for the time `quiet`.
    pub fn step_after(&mut self, quiet: Duration, now: Instant) -> LivenessStep {
        match self.probed {
            Some(probed) if now >= probed + self.probe_time => {
                self.probed = None;
                self.heard = now;
                LivenessStep::Silent
            }
            Some(probed) => LivenessStep::Wait(probed + self.probe_time),
            None if now >= self.heard + quiet => {
                self.probed = Some(now);
                LivenessStep::Probe
            }
            None => LivenessStep::Wait(self.heard + quiet),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quiet_address_is_probed_and_then_found_silent() {
        let start = Instant::now();
        let mut address = Liveness::new(start);
        assert_eq!(address.step(start), LivenessStep::Wait(start + QUIET));
        let probed = start + QUIET;
        assert_eq!(address.step(probed), LivenessStep::Probe);
        assert_eq!(address.step(probed), LivenessStep::Wait(probed + PROBE_TIME), "one probe at a time");
        assert_eq!(address.step(probed + PROBE_TIME), LivenessStep::Silent);
        let again = probed + PROBE_TIME;
        assert_eq!(address.step(again), LivenessStep::Wait(again + QUIET), "it is silent once");
    }

    #[test]
    fn any_answer_is_a_sign_of_life() {
        let start = Instant::now();
        let mut address = Liveness::new(start);
        assert_eq!(address.step(start + QUIET), LivenessStep::Probe);
        let heard = start + QUIET + PROBE_TIME / 2;
        address.heard(heard);
        assert_eq!(address.step(start + QUIET + PROBE_TIME), LivenessStep::Wait(heard + QUIET));
        address.heard(start);
        assert_eq!(address.step(heard), LivenessStep::Wait(heard + QUIET), "an older answer changes nothing");
    }

    #[test]
    fn a_request_with_little_time_finds_silence_in_its_time() {
        let start = Instant::now();
        let mut address = Liveness::hurried(start, Duration::from_secs(1));
        let probed = start + Duration::from_millis(500);
        assert_eq!(address.step(start), LivenessStep::Wait(probed));
        assert_eq!(address.step(probed), LivenessStep::Probe);
        assert_eq!(address.step(start + Duration::from_secs(1)), LivenessStep::Silent);
        let mut patient = Liveness::hurried(start, Duration::from_secs(3600));
        assert_eq!(patient.step(start), LivenessStep::Wait(start + QUIET), "and never later than others");
    }

    proptest! {
        /// With answers at any time: probes are bounded, and silence is found in time and never without a probe.
        #[test]
        fn probes_are_bounded_and_silence_is_found(steps in prop::collection::vec((1_u64..3_000, any::<bool>()), 1..200)) {
            let mut now = Instant::now();
            let mut address = Liveness::new(now);
            let (mut heard, mut last_probe) = (now, None);
            for (pause_ms, answers) in steps {
                now += Duration::from_millis(pause_ms);
                if answers {
                    address.heard(now);
                    heard = now;
                }
                match address.step(now) {
                    LivenessStep::Probe => {
                        prop_assert!(now >= heard + QUIET);
                        prop_assert!(last_probe.is_none_or(|last| now >= last + QUIET));
                        last_probe = Some(now);
                    }
                    LivenessStep::Silent => {
                        prop_assert!(last_probe.is_some_and(|probe| probe > heard && now >= probe + PROBE_TIME));
                        heard = now;
                    }
                    LivenessStep::Wait(until) => {
                        prop_assert!(until > now && until <= now + QUIET.max(PROBE_TIME));
                    }
                }
            }
        }
    }
}
