//! Which leases concern the reader of some names: those that cover at least one name of its scope.

use std::collections::BTreeSet;

use super::LeasePath;
use crate::core::feed::Scope;
use crate::core::name::MARK;

/// What no key of a plain name is less than.
const FIRST_PLAIN: &[u8] = &[MARK + 1];

const SEPARATOR: u8 = b'/';

/// The names that a reader of lease events watches.
#[derive(Clone, Debug)]
pub struct Concern {
    /// Disjoint, in order of bytes.
    parts: Vec<Part>,
}

/// A stretch of keys: one name, or those that begin with some bytes.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// With the namespace.
    start: Box<[u8]>,
    is_prefix: bool,
}

impl Part {
    /// Where a walk over its keys begins. The keys of other namespaces come before the plain ones.
    pub(super) fn from(&self) -> &[u8] {
        if self.is_prefix && self.start.is_empty() { FIRST_PLAIN } else { &self.start }
    }

    /// Whether it has a key.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        match self.is_prefix {
            false => *key == *self.start,
            true if self.start.is_empty() => key >= FIRST_PLAIN,
            true => key.starts_with(&self.start),
        }
    }

    fn root(&self) -> &[u8] {
        &self.start[..root_bytes(&self.start)]
    }
}

impl Concern {
    /// The leases that concern the names of a scope.
    #[must_use]
    pub fn of(scope: &Scope) -> Self {
        let part = |is_prefix| move |start: &[u8]| Part { start: start.into(), is_prefix };
        let mut parts: Vec<Part> =
            scope.names().map(part(false)).chain(scope.prefixes().map(part(true))).collect();
        parts.sort_by(|a, b| a.start.cmp(&b.start));
        Self { parts }
    }

    /// Whether a lease on a path covers a name of the scope, or may cover one that comes.
    #[must_use]
    pub fn has(&self, path: &LeasePath) -> bool {
        self.is_within(path.key()) || path.is_prefix() && self.is_under(path)
    }

    /// Whether a key lies in the scope.
    #[must_use]
    pub fn is_within(&self, key: &[u8]) -> bool {
        let after = self.parts.partition_point(|part| *part.start <= *key);
        after > 0 && self.parts[after - 1].has(key)
    }

    /// Whether a name or a prefix of the scope lies below the path of a prefix.
    fn is_under(&self, path: &LeasePath) -> bool {
        let key = path.key();
        self.parts.iter().any(|part| {
            part.root() == path.namespace_key()
                && (path.is_whole()
                    || part.start.strip_prefix(key).is_some_and(|rest| rest.first() == Some(&SEPARATOR)))
        })
    }

    /// The keys above the scope, on which a lease on a prefix may cover names of the scope.
    #[must_use]
    pub fn above(&self) -> BTreeSet<&[u8]> {
        let of_part = |part: &'_ Part| {
            let root = part.root().len();
            // a name may begin with a slash: the namespace comes once
            let slashes = part.start.iter().enumerate().skip(root + 1);
            let ends = slashes.filter(|(_, byte)| **byte == SEPARATOR).map(|(at, _)| at);
            std::iter::once(root).chain(ends).collect::<Vec<usize>>()
        };
        self.parts
            .iter()
            .flat_map(|part| of_part(part).into_iter().map(|end| &part.start[..end]))
            .filter(|key| !self.is_within(key))
            .collect()
    }

    /// The stretches of keys that the scope has, in order.
    pub(super) fn spans(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    /// For an index of readers: the first segments that its leases have, as of
    /// [`LeasePath::first_segment`], or the whole namespace where a prefix leaves the segment open.
    #[must_use]
    pub fn segments(&self) -> BTreeSet<Segment> {
        let of_part = |part: &Part| {
            let root = part.root().len();
            let end = part.start[root..].iter().position(|byte| *byte == SEPARATOR).map(|end| root + end);
            match end {
                Some(end) => Segment::One(part.start[..end].into()),
                None if part.is_prefix => Segment::Any(part.root().into()),
                None => Segment::One(part.start.clone()),
            }
        };
        self.parts.iter().map(of_part).collect()
    }
}

/// The first segment of the leases that concern a part of a scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// This one, with the namespace.
    One(Box<[u8]>),
    /// Any in the namespace whose keys begin with this.
    Any(Box<[u8]>),
}

/// How many bytes of a key are its namespace.
fn root_bytes(key: &[u8]) -> usize {
    if key.first() != Some(&MARK) {
        return 0;
    }
    key.iter().skip(1).position(|byte| *byte == MARK).map_or(0, |end| end + 2)
}
