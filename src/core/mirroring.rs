//! Mirrors: a node that copies the records of another set with their dots, from a feed of all of its changes.
//!
//! The feed is one of [`Mode::All`](super::feed::Mode) with dots, of any node of the set (the *leader*). The mirror
//! reflects what the view of its reader claims. So the vector of the leader becomes that of the mirror, and a cursor of
//! one of them is good at the other one.
//!
//! What has to hold:
//!
//! - **The vector rises last.** Of a part of the feed, records and gaps are applied first, then the claim of the view
//!   behind them.
//! - **An incomplete view claims nothing.** Until a view that began empty is complete, the vector stays, and a new
//!   mirror is not ready.
//! - **What a complete view does not have is dropped:** the leader has forgotten the delete. Only what the view claims
//!   is dropped, for a leader may be behind another one, and what lies below the GC horizon: no leader is behind there.
//! - **What fell with a forgotten delete is told as a gap.** The last changes of the leader may have an older value
//!   behind the delete. The mirror forgets the delete with its leader, and would take the value for what stands.
//! - **What came and went before it is claimed is told as a gap,** and so is a gap that came before that. A reader that
//!   begins in between finds them neither in the set nor in the changes.
//! - **A gap of unknown names begins the view again:** which deletes the mirror lacks is not known.
//! - **A set replaces another one name by name.** While the view of another set grows, a name that is told is replaced,
//!   and the others stay. When the view is complete, they are dropped, and cursors are of the new set: readers begin
//!   again. Until then each view counts as one of another set, also that of the first one.

use std::collections::{HashSet, VecDeque};

use super::mutants::Mutant;
use super::name::Name;
use super::record::{Dot, Incarnation, Record};
use super::stamp::Stamp;
use super::store::Store;
use super::vector::Vector;
use super::{Lost, Registers};

/// What a leader tells.
#[derive(Clone, Debug)]
pub enum Told {
    /// The view begins empty again.
    Reset,
    /// A record.
    Record(Record),
    /// The view that began empty is complete.
    Synced,
    /// These writes will not come: ranges of sequence numbers, both ends included.
    Gap(Vec<(Incarnation, u64, u64)>),
    /// Writes of unknown names will not come.
    Lost,
    /// The cursor claims writes that the leader does not know. The mirror keeps them.
    Ahead,
}

/// What a leader says behind a part of what it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// What stands for the set in cursors.
    pub set: u64,
    /// The writes that the view reflects.
    pub vector: Vector,
    /// The stamp below which the view reflects every delete.
    pub reflected: Stamp,
    /// The registers of the set.
    pub registers: Registers,
}

/// What is to be done after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The part is applied.
    Done,
    /// The part has to be applied further.
    More,
    /// The feed has to be opened again, with an empty view.
    BeginAgain,
}

/// Records that one step takes, about: it ends between two names.
const RECORDS_PER_STEP: usize = 256;

/// Names that one step looks at, to drop those that the view does not have.
const NAMES_PER_STEP: usize = 1_024;

/// Writes of a process: sequence numbers, both ends included.
type Range = (Incarnation, u64, u64);

/// Most ranges of writes that are remembered to have come and not to be claimed yet. With more, any may be missing.
const MAX_UNCLAIMED: usize = 16_384;

/// The state of a mirror. See the module.
#[derive(Debug)]
pub struct Mirroring {
    view: View,
    /// The latest stamp that was told.
    latest: Stamp,
    /// Whether a view that began empty became complete, and nothing was claimed since.
    is_retaken: bool,
    /// The writes that came in earlier steps and are not claimed yet, and those that were said not to come: at most
    /// [`MAX_UNCLAIMED`] and one.
    unclaimed: Vec<Range>,
}

#[derive(Debug)]
enum View {
    /// The mirror reflects what the feed claims.
    Complete,
    /// The view began empty, and these names were told: `None` if nothing was held then that could have to be dropped.
    Growing { told: Option<HashSet<Name>> },
    /// All names of the view are held, and those that it does not have are dropped: all up to this name are done.
    Dropping { told: HashSet<Name>, after: Option<Name> },
}

impl Mirroring {
    /// A mirror whose feed is opened with an empty view.
    #[must_use]
    pub fn begin<T>(store: &Store<T>) -> Self {
        let view = View::growing(store);
        Self { view, latest: Stamp::ZERO, is_retaken: false, unclaimed: Vec::new() }
    }

    /// Whether the mirror reflects what the feed claims. If not, its cursor is one of a scan or of an empty view.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.view, View::Complete)
    }

    /// Applies a slice of a part of the feed, which it takes from `told`. `now` is the node's time. It has to be called
    /// until the part is applied.
    pub fn apply<T>(
        &mut self,
        store: &mut Store<T>,
        now: Stamp,
        told: &mut VecDeque<Told>,
        tail: &Tail,
    ) -> Step {
        let is_other_set = store.is_other_set(tail.set);
        let has_claimed = self.is_complete() && !self.is_retaken;
        if has_claimed && is_other_set && !told.iter().any(|told| matches!(told, Told::Reset)) {
            // no leader does that
            return Step::BeginAgain;
        }
        store.mirror_registers(tail.set, Registers { lost: Lost::NOTHING, ..tail.registers });
        if let View::Dropping { told: names, after } = &mut self.view {
            let view = (!is_other_set).then_some(&tail.vector);
            *after = store.drop_untold(names, view, after.as_ref(), NAMES_PER_STEP);
            if after.is_none() {
                self.view = View::Complete;
            }
            return Step::More;
        }
        let mut left = RECORDS_PER_STEP;
        let mut came = Vec::new();
        while let Some(next) = told.pop_front() {
            match (next, &mut self.view) {
                (Told::Record(record), View::Growing { told: names }) => {
                    let name = record.name().clone();
                    let mut of_name = vec![record];
                    while let Some(Told::Record(_)) = told.front().filter(|next| next.is_of(&name))
                        && let Some(Told::Record(record)) = told.pop_front()
                    {
                        of_name.push(record);
                    }
                    let latest = of_name.iter().map(Record::last_sync).max();
                    self.latest = self.latest.max(latest.unwrap_or_default());
                    left = left.saturating_sub(of_name.len());
                    store.mirror_name(&of_name, is_other_set);
                    if let Some(names) = names {
                        names.insert(name);
                    }
                }
                (Told::Record(record), _) => {
                    self.latest = self.latest.max(record.last_sync());
                    left = left.saturating_sub(1);
                    store.merge(&record);
                    let Dot { incarnation, sequence } = record.dot();
                    came.push((incarnation, sequence, sequence));
                }
                (Told::Reset, _) => self.view = View::growing(store),
                // before the next record: what comes from now on is no part of the view that began empty
                (Told::Synced, View::Growing { told: names }) => {
                    self.is_retaken = true;
                    self.view = match names.take() {
                        Some(told) => View::Dropping { told, after: None },
                        None => View::Complete,
                    };
                    self.remember(came);
                    return Step::More;
                }
                (Told::Gap(ranges), _) => {
                    came.extend(&ranges);
                    store.mirror_gap(ranges);
                }
                // within a view that began empty, what is missing is told or dropped in any case
                (Told::Lost, View::Complete) => return Step::BeginAgain,
                (Told::Synced | Told::Lost | Told::Ahead, _) => {}
            }
            if left == 0 && !told.is_empty() {
                self.remember(came);
                return Step::More;
            }
        }
        if self.is_complete() {
            let latest = self.latest.max(now);
            let retaken = std::mem::take(&mut self.is_retaken);
            store.mirror(tail.set, &tail.vector, tail.reflected, latest, retaken);
            // not before the mirror has all that was not lost
            store.add_loss(tail.registers.lost);
            self.tell_what_went(store, retaken);
        }
        came.retain(|range| !is_claimed(store.vector(), range));
        self.remember(came);
        Step::Done
    }

    fn remember(&mut self, came: Vec<Range>) {
        let room = (MAX_UNCLAIMED + 1).saturating_sub(self.unclaimed.len());
        self.unclaimed.extend(came.into_iter().take(room));
    }

    /// Of the writes that came in earlier steps, and that are claimed now, those that are not held any more are a gap.
    /// Those that came in this step are not: no reader could begin between them and the claim. A view that is complete
    /// again says that anything may be missing.
    fn tell_what_went<T>(&mut self, store: &mut Store<T>, retaken: bool) {
        let is_too_much = self.unclaimed.len() > MAX_UNCLAIMED;
        let all = std::mem::take(&mut self.unclaimed);
        let (mut gone, unclaimed): (Vec<Range>, _) =
            all.into_iter().partition(|range| is_claimed(store.vector(), range));
        self.unclaimed = unclaimed;
        if retaken || store.mutants().has(Mutant::MirrorForgetsWhatWent) {
            return;
        }
        if is_too_much && !gone.is_empty() {
            // it is told where it is claimed, and not before: a reader may begin in between
            store.mirror_lost();
            self.unclaimed = Vec::new();
            return;
        }
        gone.retain(|(incarnation, first, last)| {
            first < last || !store.set().has_dot(Dot { incarnation: *incarnation, sequence: *first })
        });
        gone.sort_unstable();
        gone.dedup();
        store.mirror_gap(gone);
    }
}

/// Whether a vector claims all writes of a range.
fn is_claimed(vector: &Vector, (incarnation, _, last): &Range) -> bool {
    vector.get(*incarnation) >= *last
}

impl Told {
    fn is_of(&self, name: &Name) -> bool {
        matches!(self, Self::Record(record) if record.name() == name)
    }
}

impl View {
    fn growing<T>(store: &Store<T>) -> Self {
        let is_empty = store.set().values() + store.set().tombstones() == 0;
        Self::Growing { told: (!is_empty).then(HashSet::new) }
    }
}

#[cfg(test)]
mod tests;
