//! `Server-Timing` in the form of the Go vwatch.

use std::fmt;
use std::time::Duration;

use super::duration::GoDuration;

/// How long a read was parked, and how long its wake was delayed: `jitter;dur=0s, watch;dur=2.671s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The delay of the wake; `None` for a reader that was not parked, and if wakes are not spread.
    pub jitter: Option<Duration>,
    /// The time from the request to the answer.
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
    fn the_text_has_the_form_of_the_go_vwatch() {
        let watch = Duration::from_micros(2_670_600);
        assert_eq!(Timing { jitter: None, watch }.to_string(), "watch;dur=2.671s");
        let jitter = Some(Duration::ZERO);
        assert_eq!(Timing { jitter, watch }.to_string(), "jitter;dur=0s, watch;dur=2.671s");
    }
}
