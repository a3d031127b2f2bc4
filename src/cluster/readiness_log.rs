//! Logs when the clock of this node was set, and when the node begins or ceases to doubt it.

use crate::core::replica::ClockSteps;
use crate::node::replication::ClusterCensus;
use crate::node::store::Readiness;

/// The state that was logged last.
#[derive(Debug)]
pub(crate) struct ReadinessLog {
    readiness: Readiness,
    steps: ClockSteps,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogLine {
    /// The wall clock was set.
    Set(String),
    /// The node rejects writes from now on.
    Doubt,
    /// The node accepts writes again.
    Trust,
}

impl ReadinessLog {
    /// The log of a node with this readiness.
    pub(crate) fn new(readiness: Readiness) -> Self {
        Self { readiness, steps: ClockSteps::default() }
    }

    /// Logs what has changed. The caller calls it once a second at most: the clock may be set again and again.
    pub(crate) fn check(&mut self, census: &ClusterCensus) {
        for line in self.news(census.readiness, census.counts.clock_steps) {
            match line {
                LogLine::Set(text) => tracing::warn!("{text}"),
                LogLine::Doubt => tracing::warn!(
                    "clock in doubt: it was set, or is far from the clocks of most others: the node rejects writes until \
                     most others agree with it, or, without others, until it has run steadily for 5 s"
                ),
                LogLine::Trust => tracing::info!("the node trusts its clock again, and accepts writes"),
            }
        }
    }

    fn news(&mut self, readiness: Readiness, steps: ClockSteps) -> Vec<LogLine> {
        let mut lines = Vec::new();
        let count = |steps: ClockSteps| steps.forward + steps.back;
        let set = count(steps) - count(self.steps);
        if set > 0 {
            let (side, seconds) = (
                if steps.last_us > 0 { "forward" } else { "back" },
                steps.last_us.unsigned_abs() as f64 / 1e6,
            );
            let times = if set > 1 { format!(" {set} times, last") } else { String::new() };
            lines.push(LogLine::Set(format!(
                "the clock of this node was set{times} {side} by {seconds:.3} s, or the machine slept: check its NTP if \
                 that was not on purpose"
            )));
        }
        match (self.readiness, readiness) {
            (Readiness::Ready | Readiness::Joining, Readiness::ClockInDoubt) => lines.push(LogLine::Doubt),
            (Readiness::ClockInDoubt, Readiness::Ready) => lines.push(LogLine::Trust),
            _ => {}
        }
        (self.readiness, self.steps) = (readiness, steps);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_and_each_change_is_logged_once() {
        let mut log = ReadinessLog::new(Readiness::Joining);
        let none = ClockSteps::default();
        assert_eq!(log.news(Readiness::Ready, none), []);
        let ahead = ClockSteps { forward: 1, back: 0, last_us: 3_600_000_000 };
        let lines = log.news(Readiness::ClockInDoubt, ahead);
        let [LogLine::Set(text), LogLine::Doubt] = &lines[..] else { panic!("{lines:?}") };
        assert!(text.contains("was set forward by 3600.000 s"), "{text}");
        assert_eq!(log.news(Readiness::ClockInDoubt, ahead), []);
        let back = ClockSteps { forward: 2, back: 2, last_us: -3_600_000_000 };
        let lines = log.news(Readiness::Ready, back);
        let [LogLine::Set(text), LogLine::Trust] = &lines[..] else { panic!("{lines:?}") };
        assert!(text.contains("was set 3 times, last back by 3600.000 s"), "{text}");
        assert_eq!(log.news(Readiness::Ready, back), []);
    }
}
