//! Checkpoints: where readers are, kept in the set, so that a compaction waits for them.
//!
//! A checkpoint is a record of one of the node's own namespaces, so it is replicated as any other, and the newest one
//! wins. Its data is what the reader goes on from, and its version says what that holds back: the reader was told every
//! record stamped below a reflected stamp, or that it is missing. So the compaction horizon may rise to the least of
//! the reflected stamps of all live checkpoints, and nothing that their readers have not been told is compacted. A
//! checkpoint that is not written again for long holds nothing back any more. Neither does one of another set.
//!
//! It holds the compaction horizon only: a name keeps as many records as the depth says, however far a reader is
//! behind.

use std::collections::BTreeMap;

use super::feed::cursor::Cursor;
use super::name::Name;
use super::namespace::Namespace;
use super::record::{Kind, Record};
use super::set::Set;
use super::stamp::Stamp;
use super::version::Version;

/// The namespace of checkpoints.
const NAMESPACE: &str = ".checkpoints";

/// The name of the checkpoint of a reader of a namespace. `id` is 1 to [`super::limits::MAX_CHECKPOINT_ID_BYTES`]
/// characters of those that a namespace has.
#[must_use]
pub fn checkpoint_name(namespace: &Namespace, id: &str) -> Option<Name> {
    own_namespace().key(format!("{namespace}/{id}").as_bytes(), usize::MAX).ok()
}

/// The namespace and the id that [`checkpoint_name`] was made of; `None` for any other name.
#[must_use]
pub fn checkpoint_of(name: &Name) -> Option<(&str, &str)> {
    is_checkpoint(name).then(|| name.as_str().split_once('/')).flatten()
}

/// The checkpoints of a namespace whose ids begin with `prefix`, in order, after the id `after` if one is given.
pub fn list_checkpoints<'a>(
    set: &'a Set,
    namespace: &Namespace,
    prefix: &str,
    after: Option<&str>,
) -> impl Iterator<Item = &'a Record> + use<'a> {
    let after = after.map(|after| format!("{namespace}/{after}"));
    let prefix = format!("{namespace}/{prefix}");
    set.list(&own_namespace(), prefix.as_bytes(), after.as_deref().map(str::as_bytes))
}

fn own_namespace() -> Namespace {
    Namespace::new(NAMESPACE.as_bytes()).expect("a dot and letters")
}

fn is_checkpoint(name: &Name) -> bool {
    name.namespace() == NAMESPACE
}

/// What a checkpoint holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    Nothing,
    /// In the set with this id ([`super::Store::set_id`]) the records from this stamp on; in any set if it has no id.
    From(Option<u64>, Stamp),
}

impl Hold {
    /// What a reader that goes on after a cursor holds back.
    #[must_use]
    pub fn of_cursor(cursor: &Cursor) -> Self {
        Self::From(Some(cursor.set), cursor.reflected)
    }

    /// It as the version of a record.
    #[must_use]
    pub fn to_version(self) -> Version {
        let text = match self {
            Self::Nothing => "none".to_owned(),
            Self::From(None, from) => format!("any.{}", from.micros()),
            Self::From(Some(set), from) => format!("{set:016x}.{}", from.micros()),
        };
        Version::new(text.as_bytes()).expect("letters, digits and a dot")
    }

    /// Reads the version of a record; what is no hold holds nothing.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        let read = || {
            let (set, from) = version.split_once('.')?;
            let from = Stamp::parse(from.as_bytes()).ok()?;
            match set {
                "any" => Some(Self::From(None, from)),
                set => Some(Self::From(Some(u64::from_str_radix(set, 16).ok()?), from)),
            }
        };
        read().unwrap_or(Self::Nothing)
    }
}

/// The checkpoints of a set.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    by_name: BTreeMap<Name, (Hold, Stamp)>,
}

impl Checkpoints {
    /// The current record of a name has changed.
    pub(super) fn changed(&mut self, record: &Record) {
        if !is_checkpoint(record.name()) {
            return;
        }
        match record.kind() {
            Kind::Value => {
                let held = (Hold::of_version(record.version()), record.last_sync());
                self.by_name.insert(record.name().clone(), held);
            }
            Kind::Tombstone => {
                self.by_name.remove(record.name());
            }
        }
    }

    /// The number of checkpoints that were written since a stamp, and the least recently written one of the others.
    pub(super) fn count(&self, since: Stamp) -> (usize, Option<&Name>) {
        let live = self.by_name.values().filter(|(_, written)| *written >= since).count();
        let expired = self.by_name.iter().filter(|(_, (_, written))| *written < since);
        (live, expired.min_by_key(|(_, (_, written))| *written).map(|(name, _)| name))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The stamp from which on records are held back in a set by checkpoints that were written since another stamp, and
    /// the checkpoint that holds the most.
    pub(super) fn least(&self, set: u64, since: Stamp) -> Option<(Stamp, &Name)> {
        let live = self.by_name.iter().filter(|(_, (_, written))| *written >= since);
        let holds = live.filter_map(|(name, (hold, _))| match hold {
            Hold::From(of, from) if of.is_none_or(|of| of == set) => Some((*from, name)),
            Hold::From(..) | Hold::Nothing => None,
        });
        holds.min_by_key(|(from, _)| *from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Dot;
    use crate::core::testing::at;

    fn name(id: &str) -> Name {
        checkpoint_name(&Namespace::PLAIN, id).expect("a good id")
    }

    fn put(checkpoints: &mut Checkpoints, id: &str, hold: Hold, written: u64) {
        let record = Record::value(name(id), &hold.to_version(), b"", at(written), Dot::default());
        checkpoints.changed(&record);
    }

    #[test]
    fn a_hold_is_read_as_it_was_written() {
        for hold in [Hold::Nothing, Hold::From(None, at(7)), Hold::From(Some(u64::MAX), Stamp::MAX)] {
            assert_eq!(Hold::of_version(hold.to_version().as_str()), hold);
        }
        for text in ["", ".", "any", "any.x", "xyz.1", "1", "12.-3"] {
            assert_eq!(Hold::of_version(text), Hold::Nothing, "{text}");
        }
    }

    #[test]
    fn a_name_has_its_namespace_and_id() {
        let team = Namespace::new(b"team").unwrap();
        assert_eq!(checkpoint_of(&checkpoint_name(&team, "a.b-1").unwrap()), Some(("team", "a.b-1")));
        assert_eq!(checkpoint_of(&name("x")), Some(("", "x")));
        let other = Namespace::new(b".checkpoints2").unwrap().key(b"/x", 512).unwrap();
        assert_eq!(checkpoint_of(&other), None);
        assert_eq!(checkpoint_of(&crate::core::testing::name(".checkpoints/x")), None);
    }

    #[test]
    fn the_least_stamp_of_live_checkpoints_of_the_set_holds() {
        let mut all = Checkpoints::default();
        assert_eq!(all.least(1, at(0)), None);
        put(&mut all, "a", Hold::From(Some(1), at(50)), 100);
        put(&mut all, "b", Hold::From(Some(1), at(40)), 90);
        put(&mut all, "c", Hold::From(Some(2), at(10)), 100);
        put(&mut all, "d", Hold::Nothing, 100);
        assert_eq!(all.least(1, at(0)), Some((at(40), &name("b"))));
        assert_eq!(all.least(1, at(91)), Some((at(50), &name("a"))), "b was not written for long");
        assert_eq!(all.least(2, at(0)), Some((at(10), &name("c"))));
        put(&mut all, "e", Hold::From(None, at(5)), 100);
        assert_eq!(all.least(1, at(0)), Some((at(5), &name("e"))));
        assert_eq!((all.count(at(91)), all.len()), ((4, Some(&name("b"))), 5));
        all.changed(&Record::tombstone(name("e"), at(101), Dot::default()));
        put(&mut all, "b", Hold::From(Some(1), at(60)), 102);
        assert_eq!(all.least(1, at(91)), Some((at(50), &name("a"))));
    }
}
