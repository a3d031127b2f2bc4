//! `Server-Timing` as vwatch writes it.

use std::fmt;
use std::time::Duration;

use super::duration::GoDuration;

/// How long a read was parked, and for how long its wake was held back: `jitter;dur=0s, watch;dur=2.671s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Left out for a reader that was not parked, and where wakes are not spread at all.
    pub jitter: Option<Duration>,
    /// From the request to the answer.
    pub watch: Duration,
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(jitter) = self.jitter {
            write!(f, "jitter;dur={}, ", GoDuration::rounded_to_ms(jitter))?;
        }
        write!(f, "watch;dur={}", GoDuration::rounded_to_ms(self.watch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_vwatchs_form() {
        let watch = Duration::from_micros(2_670_600);
        assert_eq!(Timing { jitter: None, watch }.to_string(), "watch;dur=2.671s");
        let jitter = Some(Duration::ZERO);
        assert_eq!(Timing { jitter, watch }.to_string(), "jitter;dur=0s, watch;dur=2.671s");
    }
}
