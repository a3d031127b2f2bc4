//! What a feed is about: some names, and all names under some prefixes; in which mode; and which kinds of events.

use xxhash_rust::xxh3::xxh3_64;

use crate::core::name::{MARK, Name};
use crate::core::namespace::Namespace;

/// The names that a feed is about: some names, and all names under some prefixes, of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Disjoint, in order of bytes.
    parts: Vec<Part>,
    is_log: bool,
}

/// A stretch of names: those that begin with some bytes, or from some bytes on, or one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub(super) start: Box<[u8]>,
    kind: PartKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum PartKind {
    /// All names of the plain namespace.
    Plain,
    Prefix,
    Name,
}

impl Part {
    pub(super) fn has(&self, name: &[u8]) -> bool {
        match self.kind {
            PartKind::Plain => *name >= *self.start,
            PartKind::Prefix => name.starts_with(&self.start),
            PartKind::Name => *name == *self.start,
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self.kind, other.kind) {
            (PartKind::Plain, _) => self.start <= other.start,
            (PartKind::Prefix, PartKind::Plain) => false,
            (PartKind::Prefix, _) => other.start.starts_with(&self.start),
            (PartKind::Name, _) => self == other,
        }
    }
}

/// The parts of them that no other one covers, in order.
fn disjoint(mut all: Vec<Part>) -> Vec<Part> {
    // of the same bytes the widest first
    all.sort_by(|a, b| a.start.cmp(&b.start).then_with(|| a.kind.cmp(&b.kind)));
    // each watcher has one, and most have one part
    let mut parts: Vec<Part> = Vec::with_capacity(1);
    for part in all {
        if parts.last().is_none_or(|last| !last.has(&part.start)) {
            parts.push(part);
        }
    }
    parts
}

impl Scope {
    /// All names of the plain namespace.
    #[must_use]
    pub fn all() -> Self {
        Self::new(&Namespace::PLAIN, [], [&b""[..]])
    }

    /// These names, and the names under these prefixes, of a namespace. What another prefix covers is left out, so
    /// equal scopes are equal whatever their form.
    #[must_use]
    pub fn new<'a>(
        namespace: &Namespace,
        names: impl IntoIterator<Item = &'a [u8]>,
        prefixes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let key = |text: &[u8]| namespace.key_of(text).into_boxed_slice();
        // no name has the mark; a plain prefix that begins with it would reach into another namespace
        let is_of_a_name = |text: &&[u8]| !text.contains(&MARK);
        let names = names.into_iter().filter(is_of_a_name);
        let names = names.map(|name| Part { start: key(name), kind: PartKind::Name });
        let prefixes = prefixes.into_iter().filter(is_of_a_name).map(|prefix| match key(prefix) {
            start if start.is_empty() => {
                Part { start: namespace.start(&start).into(), kind: PartKind::Plain }
            }
            start => Part { start, kind: PartKind::Prefix },
        });
        Self { parts: disjoint(names.chain(prefixes).collect()), is_log: namespace.is_log() }
    }

    /// All names of all namespaces.
    #[must_use]
    pub fn everything() -> Self {
        let namespaces = Part { start: [MARK].into(), kind: PartKind::Prefix };
        let parts = disjoint(Self::all().parts.into_iter().chain([namespaces]).collect());
        Self { parts, is_log: false }
    }

    /// The names that are in any of these scopes, which may be of different namespaces. It serves [`Scope::has`] and
    /// [`Scope::covers`] only: no feed has several namespaces.
    #[must_use]
    pub fn union(scopes: impl IntoIterator<Item = Self>) -> Self {
        Self { parts: disjoint(scopes.into_iter().flat_map(|scope| scope.parts).collect()), is_log: false }
    }

    /// Whether no name is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether all names of another scope, whether they exist or not, are in this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.parts.iter().all(|part| {
            // parts are disjoint, and of two that overlap one covers the other
            let after = self.parts.partition_point(|own| own.start <= part.start);
            after > 0 && self.parts[after - 1].covers(part)
        })
    }

    /// Whether its names are those of a log, of which the compaction horizon removes all records.
    #[must_use]
    pub fn is_log(&self) -> bool {
        self.is_log
    }

    /// Whether a name is in the scope.
    #[must_use]
    pub fn has(&self, name: &Name) -> bool {
        let after = self.parts.partition_point(|part| *part.start <= *name.as_bytes());
        after > 0 && self.parts[after - 1].has(name.as_bytes())
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The names of the scope that stand by themselves.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().filter(|part| part.kind == PartKind::Name).map(|part| &*part.start)
    }

    /// The prefixes of the scope, as keys begin with them. The prefix of the whole plain namespace is empty.
    pub fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().filter_map(|part| match part.kind {
            PartKind::Plain => Some(&[][..]),
            PartKind::Prefix => Some(&*part.start),
            PartKind::Name => None,
        })
    }
}

/// Which changes of its names a feed tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The newest state of each name. Changes in between may be left out.
    #[default]
    Latest,
    /// Every record that is kept, in the order of the node. What is missed is told as a gap.
    All,
}

/// The kinds of changes that a feed tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kinds {
    /// A value of a name that had none.
    pub create: bool,
    /// A value of a name that had one.
    pub update: bool,
    /// A delete.
    pub delete: bool,
}

impl Kinds {
    /// All kinds.
    pub const ALL: Self = Self { create: true, update: true, delete: true };
}

/// What a reader asks of a feed. A cursor is good for one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// The names.
    pub scope: Scope,
    /// Which of their changes.
    pub mode: Mode,
    /// Which kinds of changes.
    pub kinds: Kinds,
    /// Whether gaps are told as the dots of the writes that are missing, and not as names: for a reader that copies
    /// dots.
    pub dots: bool,
}

impl Subscription {
    /// The newest state of each name of a scope.
    #[must_use]
    pub fn latest(scope: Scope) -> Self {
        Self { scope, mode: Mode::Latest, kinds: Kinds::ALL, dots: false }
    }

    /// Every record of each name of a scope.
    #[must_use]
    pub fn all(scope: Scope) -> Self {
        Self { scope, mode: Mode::All, kinds: Kinds::ALL, dots: false }
    }

    /// What a cursor carries of the subscription: the same at all nodes, whatever form the scope was given in.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let Kinds { create, update, delete } = self.kinds;
        let mut bytes = vec![self.mode as u8, u8::from(create), u8::from(update), u8::from(delete)];
        for part in &self.scope.parts {
            bytes.push(part.kind as u8);
            bytes.extend_from_slice(&(part.start.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&part.start);
        }
        xxh3_64(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::core::testing::name;

    #[test]
    fn a_scope_has_its_names_and_prefixes_and_one_form() {
        let scope = Scope::new(&Namespace::PLAIN, [&b"b"[..], b"a/x", b"c"], [&b"a/"[..], b"a/b/", b"d"]);
        let has = |text: &str| scope.has(&name(text));
        assert!(has("a/") && has("a/x") && has("a/b/c") && has("b") && has("c") && has("dd"));
        assert!(!has("a") && !has("b/") && !has("bb") && !has("cc") && !has("e"));
        let same = Scope::new(&Namespace::PLAIN, [&b"c"[..], b"b", b"b"], [&b"d"[..], b"a/"]);
        assert_eq!(scope, same);
        assert!(scope.names().eq([&b"b"[..], b"c"]) && scope.prefixes().eq([&b"a/"[..], b"d"]));
        assert!(Scope::all().has(&name("x")) && Scope::all().prefixes().eq([&b""[..]]));
        assert_eq!(Scope::new(&Namespace::PLAIN, [&b"x"[..]], [&b""[..], b"x/"]), Scope::all());
        assert!(!Scope::new(&Namespace::PLAIN, [], []).has(&name("x")));
        // another namespace cannot be reached by its mark
        let team = Namespace::new(b"team").unwrap();
        let other = team.key(b"x", 512).unwrap();
        assert!(Scope::new(&team, [], [&b""[..]]).has(&other));
        for text in [&b"\x01team\x01"[..], b"\x01", b"\x01team\x01x"] {
            let reaching = Scope::new(&Namespace::PLAIN, [text], [text]);
            assert!(!reaching.has(&other) && reaching == Scope::new(&Namespace::PLAIN, [], []), "{text:?}");
        }
    }

    #[test]
    fn a_scope_lies_within_its_namespace() {
        let team = Namespace::new(b"team").unwrap();
        let (plain, other) = (Scope::all(), Scope::new(&team, [&b"n"[..]], []));
        let parts = |scope: &Scope, key: &[u8]| scope.parts.iter().any(|part| part.has(key));
        assert!(!parts(&plain, b"\x01team\x01n") && parts(&plain, b"n"));
        assert!(parts(&other, b"\x01team\x01n") && !parts(&other, b"n"));
        let all = Scope::new(&team, [], [&b""[..]]);
        assert!(parts(&all, b"\x01team\x01n") && !parts(&all, b"\x01team2\x01n"));
    }

    /// The plain definition: of prefixes over a small alphabet, all names up to a length stand for all names.
    fn plainly_covers(all: &[Vec<u8>], one: &Scope, other: &Scope) -> bool {
        let has = |scope: &Scope, key: &[u8]| scope.parts.iter().any(|part| part.has(key));
        all.iter().all(|key| !has(other, key) || has(one, key))
    }

    proptest! {
        #[test]
        fn a_scope_covers_another_as_the_plain_definition_says(
            grants in vec((0..3_usize, any::<bool>(), "[ab]{0,2}"), 0..4),
            asked_in in 0..3_usize,
            asked in vec((any::<bool>(), "[ab]{0,3}"), 1..4),
        ) {
            let namespaces =
                [Namespace::PLAIN, Namespace::new(b"a").unwrap(), Namespace::new(b"ab").unwrap()];
            let one = |namespace: &Namespace, is_prefix: bool, text: &str| {
                let text = text.as_bytes();
                match is_prefix {
                    true => Scope::new(namespace, [], [text]),
                    false => Scope::new(namespace, [text], []),
                }
            };
            // no name is empty
            let is_one = |is_prefix: bool, text: &str| is_prefix || !text.is_empty();
            let grants = grants.iter().filter(|(_, is_prefix, text)| is_one(*is_prefix, text));
            let granted = Scope::union(grants.map(|(at, is_prefix, text)| {
                one(&namespaces[*at], *is_prefix, text)
            }));
            let names = asked.iter().filter(|(is_prefix, text)| !is_prefix && !text.is_empty()).map(|(_, text)| text.as_bytes());
            let prefixes = asked.iter().filter(|(is_prefix, _)| *is_prefix).map(|(_, text)| text.as_bytes());
            let asked = Scope::new(&namespaces[asked_in], names, prefixes);
            // a third letter stands for all those that no prefix has
            let mut texts = vec![String::new()];
            for length in 0..4 {
                let longest: Vec<String> = texts.iter().filter(|text| text.len() == length).cloned().collect();
                texts.extend(longest.iter().flat_map(|text| ["a", "b", "c"].map(|letter| format!("{text}{letter}"))));
            }
            let all: Vec<Vec<u8>> = namespaces
                .iter()
                .flat_map(|namespace| texts.iter().map(|text| namespace.key_of(text.as_bytes())))
                .filter(|key| !key.is_empty())
                .collect();
            prop_assert_eq!(granted.covers(&asked), plainly_covers(&all, &granted, &asked));
            prop_assert!(Scope::everything().covers(&asked) && Scope::everything().covers(&granted));
        }
    }

    #[test]
    fn a_hash_stands_for_names_mode_and_kinds() {
        let scope = || Scope::new(&Namespace::PLAIN, [&b"a"[..]], [&b"b"[..]]);
        let one = Subscription::latest(scope());
        assert_eq!(
            one.hash(),
            Subscription::latest(Scope::new(&Namespace::PLAIN, [&b"bb"[..], b"a"], [&b"b"[..]])).hash()
        );
        let others = [
            Subscription::all(scope()),
            Subscription { kinds: Kinds { delete: false, ..Kinds::ALL }, ..one.clone() },
            Subscription::latest(Scope::new(&Namespace::PLAIN, [&b"b"[..]], [&b"a"[..]])),
            Subscription::latest(Scope::new(&Namespace::PLAIN, [], [&b"a"[..], b"b"])),
            Subscription::latest(Scope::new(&Namespace::new(b"x").unwrap(), [&b"a"[..]], [&b"b"[..]])),
        ];
        for other in others {
            assert_ne!(one.hash(), other.hash(), "{other:?}");
        }
    }
}
