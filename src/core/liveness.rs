//! Whether an address answers at all, while a request waits there for an answer that may take long.
//!
//! A long poll says nothing for its whole time, and a process that is frozen, or a machine that is gone, says nothing
//! either. Hence a request that is answered at once, the *probe*, is sent beside what waits. Time is handed in.
//!
//! | since the last sign of life | is done |
//! |---|---|
//! | less than [`QUIET`] | nothing |
//! | more, and something waits there | a probe is sent, one at a time |
//! | [`PROBE_TIME`] after the probe was sent, and still none | the address is silent: it is time for the next address |

use std::time::{Duration, Instant};

/// An address that something waits at is probed once it has been quiet for this long.
pub const QUIET: Duration = Duration::from_secs(2);

/// How long an address has to answer a probe, or anything else.
pub const PROBE_TIME: Duration = Duration::from_secs(2);

/// What to do now about an address that something waits at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until then.
    Wait(Instant),
    /// Send a probe. Until its time is over there is no other one.
    Probe,
    /// There was no sign of life for the whole time of a probe: give up what waits there.
    Silent,
}

/// What one address was last heard and asked.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    /// The last sign of life, or when something began to wait.
    heard: Instant,
    /// When the probe was sent that is still to be answered.
    probed: Option<Instant>,
    /// How long it may be quiet, and then how long a probe may take.
    quiet: Duration,
    probe_time: Duration,
}

impl Liveness {
    /// Something begins to wait at an address of which nothing is known.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { heard: now, probed: None, quiet: QUIET, probe_time: PROBE_TIME }
    }

    /// As [`Liveness::new`], for what has no more time than `within` to find an address silent.
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

    /// The address has answered something: a probe, or any other request.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now.max(self.heard);
        self.probed = None;
    }

    /// What to do now, where something waits. A probe that this says to send counts as sent.
    pub fn step(&mut self, now: Instant) -> Step {
        self.step_after(self.quiet, now)
    }

    /// The same for an address that may be quiet for longer, or not at all.
    pub fn step_after(&mut self, quiet: Duration, now: Instant) -> Step {
        match self.probed {
            Some(probed) if now >= probed + self.probe_time => {
                self.probed = None;
                self.heard = now;
                Step::Silent
            }
            Some(probed) => Step::Wait(probed + self.probe_time),
            None if now >= self.heard + quiet => {
                self.probed = Some(now);
                Step::Probe
            }
            None => Step::Wait(self.heard + quiet),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quiet_address_is_probed_and_a_silent_one_is_given_up() {
        let start = Instant::now();
        let mut address = Liveness::new(start);
        assert_eq!(address.step(start), Step::Wait(start + QUIET));
        let probed = start + QUIET;
        assert_eq!(address.step(probed), Step::Probe);
        assert_eq!(address.step(probed), Step::Wait(probed + PROBE_TIME), "one probe at a time");
        assert_eq!(address.step(probed + PROBE_TIME), Step::Silent);
        let again = probed + PROBE_TIME;
        assert_eq!(address.step(again), Step::Wait(again + QUIET), "it is given up once");
    }

    #[test]
    fn any_answer_is_a_sign_of_life() {
        let start = Instant::now();
        let mut address = Liveness::new(start);
        assert_eq!(address.step(start + QUIET), Step::Probe);
        let heard = start + QUIET + PROBE_TIME / 2;
        address.heard(heard);
        assert_eq!(address.step(start + QUIET + PROBE_TIME), Step::Wait(heard + QUIET));
        address.heard(start);
        assert_eq!(address.step(heard), Step::Wait(heard + QUIET), "an older answer changes nothing");
    }

    #[test]
    fn one_in_a_hurry_has_found_out_in_its_time() {
        let start = Instant::now();
        let mut address = Liveness::hurried(start, Duration::from_secs(1));
        let probed = start + Duration::from_millis(500);
        assert_eq!(address.step(start), Step::Wait(probed));
        assert_eq!(address.step(probed), Step::Probe);
        assert_eq!(address.step(start + Duration::from_secs(1)), Step::Silent);
        let mut patient = Liveness::hurried(start, Duration::from_secs(3600));
        assert_eq!(patient.step(start), Step::Wait(start + QUIET), "and never takes longer than others");
    }

    proptest! {
        /// Whatever is heard when: probes are bounded, and silence is found in time and never without a probe.
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
                    Step::Probe => {
                        prop_assert!(now >= heard + QUIET);
                        prop_assert!(last_probe.is_none_or(|last| now >= last + QUIET));
                        last_probe = Some(now);
                    }
                    Step::Silent => {
                        prop_assert!(last_probe.is_some_and(|probe| probe > heard && now >= probe + PROBE_TIME));
                        heard = now;
                    }
                    Step::Wait(until) => {
                        prop_assert!(until > now && until <= now + QUIET.max(PROBE_TIME));
                    }
                }
            }
        }
    }
}
