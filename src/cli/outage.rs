//! The messages about a time in which no node answers.

use super::failure::complain;

/// Reports the beginning and the end of an outage, and not each attempt.
#[derive(Default)]
pub(super) struct Outage {
    is_on: bool,
}

impl Outage {
    /// Reports why it begins, unless it has begun before.
    pub(super) fn begins(&mut self, why: &str) {
        if !self.is_on {
            complain(&format!("{why}: trying again until it works"));
        }
        self.is_on = true;
    }

    /// Reports its end, if it has begun.
    pub(super) fn ends(&mut self) {
        if self.is_on {
            complain("watching again");
        }
        self.is_on = false;
    }
}
