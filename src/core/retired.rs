//! Records that stand no more and that something still holds: an answer that is being sent, a list, a batch.

use std::collections::VecDeque;

use super::record::Record;

/// So many are looked at whenever one is added: more than one, so that those that are let go do not pile up.
const LOOKS: usize = 2;

/// Keeps count of what such records take, which the set does not count any more.
///
/// Each is kept here, too, until it is found that nothing else holds it. So the count may be late, and is never too low.
#[derive(Debug, Default)]
pub(super) struct Retired {
    records: VecDeque<Record>,
    bytes: usize,
}

impl Retired {
    /// What stood until now does so no more.
    pub(super) fn add(&mut self, record: &Record) {
        record.retire();
        // one is the caller's
        if record.holders() > 1 {
            self.bytes += record.cost();
            self.records.push_back(record.clone());
        }
        self.release(LOOKS);
    }

    /// Lets go of those that nothing else holds, of so many that are looked at.
    pub(super) fn release(&mut self, looks: usize) {
        for _ in 0..looks.min(self.records.len()) {
            let Some(record) = self.records.pop_front() else { return };
            if record.holders() > 1 {
                self.records.push_back(record);
            } else {
                self.bytes -= record.cost();
            }
        }
    }

    /// What they take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
