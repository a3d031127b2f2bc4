//! Retired records: they do not stand any more, and an answer that is being sent, a list or a batch still holds them.

use std::collections::VecDeque;

use super::record::Record;

/// The number of records that are checked whenever one is added. It is more than one, so that released records do not
/// pile up.
const CHECKS: usize = 2;

/// Counts the bytes of retired records, which the set does not count any more.
///
/// Each record is kept here too, until a check finds that nothing else holds it. So the count may be late, and is never
/// too low.
#[derive(Debug, Default)]
pub(super) struct Retired {
    records: VecDeque<Record>,
    bytes: usize,
}

impl Retired {
    /// Adds a record that has just been replaced or dropped.
    pub(super) fn add(&mut self, record: &Record) {
        record.retire();
        // one handle is the caller's
        if record.holders() > 1 {
            self.bytes += record.cost();
            self.records.push_back(record.clone());
        }
        self.release(CHECKS);
    }

    /// Checks up to `checks` records, and releases those that nothing else holds.
    pub(super) fn release(&mut self, checks: usize) {
        for _ in 0..checks.min(self.records.len()) {
            let Some(record) = self.records.pop_front() else { return };
            if record.holders() > 1 {
                self.records.push_back(record);
            } else {
                self.bytes -= record.cost();
            }
        }
    }

    /// The cost of all these records, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
