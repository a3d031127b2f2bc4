//! The checks of the promises, at every moment and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::core::effects::SetChange;
use crate::core::feed::Scope;
use crate::core::limits::MAX_STAMP_LEAD_US;
use crate::core::record::{Dot, Incarnation, Kind, Record};
use crate::core::replayed::Replayed;
use crate::core::set::{Cell, Set};
use crate::core::stamp::Stamp;
use crate::core::{Genesis, Name, Registers, Vector};

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The promise, by its name in `docs/internals/replication.md`.
    pub rule: &'static str,
    /// When it was broken, in the world's time, µs.
    pub at_us: u64,
    /// The node and the details.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:.3} s: {}", self.rule, self.at_us as f64 / 1e6, self.detail)
    }
}

/// All accepted writes by their dots, and all deletes and values with an end by their names.
#[derive(Debug, Default)]
pub(super) struct History {
    writes: BTreeMap<Incarnation, Vec<Record>>,
    deletes: BTreeMap<Name, Vec<Record>>,
    /// Values with an end.
    ending: BTreeMap<Name, Vec<Record>>,
    last_given: BTreeMap<Incarnation, Stamp>,
    backdated: BTreeSet<Dot>,
}

impl History {
    /// Whether a write was not added yet.
    pub(super) fn is_new(&self, record: &Record) -> bool {
        let known = self.writes.get(&record.dot().incarnation).map_or(0, Vec::len);
        record.dot().sequence > known as u64
    }

    /// Adds the delete of a value that has ended, written when the clock of the node showed `now`. It must delete no
    /// write that came after the value, whether the node has seen it or not.
    pub(super) fn expired(
        &mut self,
        record: &Record,
        value: &Record,
        now: Stamp,
    ) -> Result<(), (&'static str, String)> {
        let is_lost = |write: &&Record| {
            write.name() == record.name()
                && write.last_sync() > value.last_sync()
                && write.order(record).is_lt()
        };
        if let Some(renewal) = self.all().find(is_lost) {
            return Err(("a renewal is not lost", format!("{record:?} deletes {renewal:?}")));
        }
        if !value.has_ended(now) {
            return Err((
                "nothing is deleted before its end",
                format!("{record:?} deletes {value:?} at {now}"),
            ));
        }
        self.accepted(record, None, true, now)
    }

    /// Adds a write that a node accepted when its clock showed `now` and it `held` a record of the name. The dot must
    /// be the next one. A stamp that the node gave must be above that of the held record. Unless the held record forced
    /// it, it must be within the allowed lead of the clock, and above the last stamp by the clock, if that is within
    /// the lead too.
    pub(super) fn accepted(
        &mut self,
        record: &Record,
        held: Option<&Record>,
        given_by_client: bool,
        now: Stamp,
    ) -> Result<(), (&'static str, String)> {
        const RISE: &str = "stamps of a node rise";
        let dot = record.dot();
        let writes = self.writes.entry(dot.incarnation).or_default();
        writes.push(record.clone());
        if dot.sequence != writes.len() as u64 {
            return Err((RISE, format!("{record:?} is write number {}", writes.len())));
        }
        if record.kind() == Kind::Value && record.end().is_some() {
            self.ending.entry(record.name().clone()).or_default().push(record.clone());
        }
        if record.kind() == Kind::Tombstone {
            self.deletes.entry(record.name().clone()).or_default().push(record.clone());
        }
        if !given_by_client && held.is_some_and(|held| held.last_sync() >= record.last_sync()) {
            return Err((RISE, format!("{record:?} is not after {held:?}")));
        }
        if given_by_client { Ok(()) } else { self.stamped(record, held, now) }
    }

    /// Checks a stamp that a node gave.
    fn stamped(
        &mut self,
        record: &Record,
        held: Option<&Record>,
        now: Stamp,
    ) -> Result<(), (&'static str, String)> {
        let (incarnation, stamp) = (record.dot().incarnation, record.last_sync());
        let keeps_to_clock = |stamp: Stamp| stamp.before(MAX_STAMP_LEAD_US) <= now;
        let last = self.last_given.remove(&incarnation).filter(|last| keeps_to_clock(last.next()));
        if held.is_some_and(|held| held.last_sync().next() == stamp) {
            // forced by the name or by the clock: the last stamp by the clock is not known until the next one
            return Ok(());
        }
        if last.is_some_and(|last| last >= stamp) {
            return Err(("stamps of a node rise", format!("{record:?} is not after {last:?}")));
        }
        if !keeps_to_clock(stamp) {
            return Err(("stamps keep to the clock", format!("{record:?} by a clock at {now}")));
        }
        self.last_given.insert(incarnation, stamp);
        Ok(())
    }

    /// Notes that a client stamped a write so early that no reflected stamp says anything of it.
    pub(super) fn backdated(&mut self, record: &Record) {
        self.backdated.insert(record.dot());
    }

    pub(super) fn is_backdated(&self, record: &Record) -> bool {
        self.backdated.contains(&record.dot())
    }

    /// The accepted writes of a process after a sequence number, up to another one.
    pub(super) fn of(&self, process: Incarnation, after: u64, upto: u64) -> &[Record] {
        let writes = self.writes.get(&process).map_or(&[][..], Vec::as_slice);
        let (after, upto) = (after.min(upto) as usize, upto as usize);
        writes.get(after..upto.min(writes.len())).unwrap_or(&[])
    }

    /// All accepted writes.
    pub(super) fn all(&self) -> impl Iterator<Item = &Record> {
        self.writes.values().flatten()
    }

    /// All accepted deletes of a name.
    pub(super) fn deletes(&self, name: &Name) -> impl Iterator<Item = &Record> {
        self.deletes.get(name).into_iter().flatten()
    }

    pub(super) fn writes(&self) -> u64 {
        self.writes.values().map(|writes| writes.len() as u64).sum()
    }

    /// Whether a write is reflected in a set: the set holds it; or as many greater records of its name as any depth
    /// that was in force keeps; or a greater one, or any record if the name lies in a log, and the write lies below the
    /// compaction horizon; or the GC horizon removes it.
    pub(super) fn reflected(&self, set: &Set, write: &Record) -> bool {
        let held = set.history(write.name());
        let greater = held.iter().filter(|cell| cell.record().order(write).is_gt()).count();
        held.iter().any(|cell| cell.record().order(write).is_eq())
            || greater >= set.depth().least_of(write.name())
            || (greater > 0 || write.name().is_log()) && write.last_sync() < set.compaction_horizon()
            || self.is_removed(write, set.horizon())
    }

    /// Whether a horizon removes a write: its delete or a later one, or the end of its value or of a later one, lies
    /// below it.
    pub(super) fn is_removed(&self, write: &Record, horizon: Stamp) -> bool {
        let removes = |gone: &&Record| removed_above(gone) < horizon && gone.order(write).is_ge();
        let ending = self.ending.get(write.name()).into_iter().flatten();
        self.deletes(write.name()).chain(ending).any(|gone| removes(&gone))
    }
}

/// What was seen of one process so far.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// The greatest record of each name that it ever held.
    highest: BTreeMap<Name, Record>,
    vector: Vector,
    /// All that its vector ever claimed, processes that it left out since included.
    claimed: Vector,
    /// Its set, by the changes that it reported.
    replayed: Replayed,
}

/// The promise of [`crate::core::effects`].
const REPORTED: &str = "each change is reported";

impl Witness {
    /// Checks merge order, and that a delete stays deleted: the record that a process holds of a name is never less
    /// than one that it held before, unless that was a tombstone which it forgot below the horizon.
    pub(super) fn look(
        &mut self,
        history: &History,
        set: &Set,
        name: &Name,
    ) -> Result<(), (&'static str, String)> {
        self.look_at_changes(set, name)?;
        let (held, highest) = (set.get(name), self.highest.get(name));
        match (held, highest) {
            (Some(held), Some(highest)) if held.order(highest).is_lt() => {
                let rule = match highest.kind() {
                    Kind::Tombstone => "a delete stays deleted",
                    Kind::Value => "merge order",
                };
                Err((rule, format!("{held:?} after {highest:?}")))
            }
            (Some(held), _) => {
                if highest.is_none_or(|highest| highest.order(held).is_lt()) {
                    self.highest.insert(name.clone(), held.clone());
                }
                Ok(())
            }
            // a tombstone that comes too late to be kept removes an older value
            (None, Some(highest)) if !history.reflected(set, highest) => {
                Err(("merge order", format!("nothing after {highest:?}")))
            }
            (None, _) => Ok(()),
        }
    }

    /// Applies the changes of a step; `registers` are those after it. Each change must have the record that stood.
    pub(super) fn changed(
        &mut self,
        changes: Vec<SetChange>,
        registers: Registers,
    ) -> Result<(), (&'static str, String)> {
        self.replayed.apply(changes, registers).map_err(|detail| (REPORTED, detail))
    }

    /// Checks that the reported changes of a name give the record that stands.
    fn look_at_changes(&self, set: &Set, name: &Name) -> Result<(), (&'static str, String)> {
        self.replayed.check(set, name).map_err(|detail| (REPORTED, detail))
    }

    /// Checks that no wrong clock makes a node forget deletes too early.
    pub(super) fn look_at_horizon(&self, set: &Set, latest: Stamp) -> Result<(), (&'static str, String)> {
        if set.horizon() <= latest {
            return Ok(());
        }
        Err(("horizon in the past", format!("{} is after {latest}", set.horizon())))
    }

    /// Checks honesty: every dot that the vector has claimed since the last check is reflected in the set, or in what a
    /// copy has of it.
    pub(super) fn look_at_vector(
        &mut self,
        history: &History,
        set: &Set,
        vector: &Vector,
        copied: Option<&Copied>,
    ) -> Result<(), (&'static str, String)> {
        for (incarnation, sequence) in vector.iter() {
            let before = self.vector.get(incarnation);
            if sequence > before {
                honest(history, set, (incarnation, before, sequence), copied)?;
            }
        }
        if self.vector != *vector {
            self.vector = vector.clone();
            self.claimed.join(vector);
        }
        Ok(())
    }

    /// Another set is copied: its claims are checked from the first one on.
    pub(super) fn forget_vector(&mut self) {
        self.vector = Vector::default();
    }

    /// All that its vector ever claimed.
    pub(super) fn claimed(&self) -> &Vector {
        &self.claimed
    }

    /// Checks all names and dots again.
    pub(super) fn look_at_all(
        &mut self,
        history: &History,
        set: &Set,
        vector: &Vector,
    ) -> Result<(), (&'static str, String)> {
        let mut names: Vec<Name> = self.highest.keys().cloned().collect();
        let held = (0..set.stretches()).flat_map(|i| set.stretch(i)).map(Record::name);
        names.extend(held.filter(|name| !self.highest.contains_key(*name)).cloned());
        for name in &names {
            self.look(history, set, name)?;
        }
        vector
            .iter()
            .try_for_each(|(incarnation, sequence)| honest(history, set, (incarnation, 0, sequence), None))
    }
}

/// What a copy of the set has.
pub(super) struct Copied {
    /// The names.
    pub(super) scope: Scope,
    /// The writes that some node claims. The others may be lost with their process, and a copy keeps those that it has.
    pub(super) known: Vector,
    /// Whether it was told all names again, and so not which of their older records are gone with a forgotten delete.
    pub(super) is_retaken: bool,
}

/// The stamp that a horizon has to pass to remove a record with all below it.
fn removed_above(record: &Record) -> Stamp {
    match (record.kind(), record.end()) {
        (Kind::Tombstone, _) => record.last_sync(),
        (Kind::Value, Some(end)) => end,
        (Kind::Value, None) => Stamp::MAX,
    }
}

fn honest(
    history: &History,
    set: &Set,
    (incarnation, after, upto): (Incarnation, u64, u64),
    copied: Option<&Copied>,
) -> Result<(), (&'static str, String)> {
    let none = Vec::new();
    let writes = history.writes.get(&incarnation).unwrap_or(&none);
    let (after, upto) = (after as usize, upto as usize);
    let Some(claimed) = writes.get(after..upto) else {
        return Err(("honest vectors", format!("{incarnation:?} never wrote {upto}")));
    };
    for write in claimed.iter().filter(|write| copied.is_none_or(|copied| copied.scope.has(write.name()))) {
        let held = set.history(write.name());
        if !history.reflected(set, write) {
            let held: Vec<&Record> = held.iter().map(Cell::record).collect();
            let detail = format!("claims {write:?}, holds {held:?}, {:?}", set.registers());
            return Err(("honest vectors", detail));
        }
        // a depth that was raised may bring older records back without the tombstone that was above them, but never as
        // the current one
        let has_older = set.depth().epoch() > Stamp::ZERO || copied.is_some_and(|copied| copied.is_retaken);
        let looked = if has_older { &held[held.len().saturating_sub(1)..] } else { held };
        let is_forgotten = removed_above(write) < set.horizon();
        let mut looked =
            looked.iter().map(Cell::record).filter(|r| copied.is_none_or(|c| c.known.claims(r.dot())));
        if is_forgotten && let Some(less) = looked.find(|r| r.order(write).is_lt()) {
            return Err(("a delete stays deleted", format!("{less:?} after {write:?}")));
        }
    }
    Ok(())
}

/// A reader that roams from node to node, and shows each the stamp that it has seen of a name.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) seen: BTreeMap<Name, Seen>,
}

/// The newest record of a name that a reader saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The stamp that it shows.
    pub(super) stamp: Stamp,
    /// When it saw the record, in the world's time, and in which set.
    pub(super) at_us: u64,
    pub(super) genesis: Genesis,
}
