//! What the grants of a token allow together.
//!
//! The range of a request is checked, and not its beginning: a list, a watch, a lease on a prefix is allowed only if
//! the grants cover all names of its scope, whether they exist or not (as etcd's advisory GHSA-xg4h-6gfc-h4m8 teaches).

use super::verb::Verb;
use crate::core::feed::Scope;
use crate::core::{Name, Namespace};

/// One entry of the list of grants of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it allows.
    pub verbs: Vec<Verb>,
    /// The names for which it does so. `None` if its verbs are about the node.
    pub names: Option<GrantedNames>,
}

/// The names of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantedNames {
    /// Those of a namespace that begin with a prefix.
    Prefix(Namespace, String),
    /// All names of all namespaces.
    Everything,
}

impl GrantedNames {
    fn scope(&self) -> Scope {
        match self {
            Self::Prefix(namespace, prefix) => Scope::new(namespace, [], [prefix.as_bytes()]),
            Self::Everything => Scope::everything(),
        }
    }
}

/// What a token may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    /// By verb, in the order of [`Verb::ALL`]; for a verb about the node there is no name.
    scopes: [Scope; 4],
    observe: bool,
    admin: bool,
}

/// What a request needs a verb for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need<'a> {
    /// One name.
    Name(&'a Name),
    /// All names of a scope.
    Scope(&'a Scope),
    /// The node.
    Node,
}

impl Rights {
    /// The rights by these grants.
    pub(crate) fn of(grants: &[Grant]) -> Self {
        let scope = |verb: Verb| {
            let granted = grants.iter().filter(|grant| grant.verbs.contains(&verb));
            Scope::union(granted.filter_map(|grant| grant.names.as_ref()).map(GrantedNames::scope))
        };
        let has = |verb: Verb| grants.iter().any(|grant| grant.verbs.contains(&verb));
        Self {
            scopes: [Verb::Read, Verb::Write, Verb::Delete, Verb::Lease].map(scope),
            observe: has(Verb::Observe),
            admin: has(Verb::Admin),
        }
    }

    /// Whether they allow what a request needs.
    pub(crate) fn allow(&self, verb: Verb, need: Need<'_>) -> bool {
        let scope = match verb {
            Verb::Read => &self.scopes[0],
            Verb::Write => &self.scopes[1],
            Verb::Delete => &self.scopes[2],
            Verb::Lease => &self.scopes[3],
            Verb::Observe => return self.observe,
            Verb::Admin => return self.admin,
        };
        match need {
            Need::Name(name) => scope.has(name),
            // what asks for nothing is malformed, and its handler says so to callers that may do something
            Need::Scope(asked) => !asked.is_empty() && scope.covers(asked),
            // a verb about names never allows what is about the node
            Need::Node => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::name;

    fn grant(verbs: &[Verb], prefix: &str) -> Grant {
        let names = GrantedNames::Prefix(Namespace::PLAIN, prefix.to_owned());
        Grant { verbs: verbs.to_vec(), names: Some(names) }
    }

    #[test]
    fn each_verb_has_its_own_names() {
        let rights = Rights::of(&[
            grant(&[Verb::Read], "a/"),
            grant(&[Verb::Read, Verb::Write], "b/"),
            Grant { verbs: vec![Verb::Observe], names: None },
        ]);
        for (verb, text, allowed) in [
            (Verb::Read, "a/x", true),
            (Verb::Read, "b/x", true),
            (Verb::Read, "c/x", false),
            (Verb::Read, "a", false),
            (Verb::Write, "b/x", true),
            (Verb::Write, "a/x", false),
            (Verb::Delete, "b/x", false),
            (Verb::Lease, "b/x", false),
        ] {
            assert_eq!(rights.allow(verb, Need::Name(&name(text))), allowed, "{verb} {text}");
        }
        assert!(rights.allow(Verb::Observe, Need::Node) && !rights.allow(Verb::Admin, Need::Node));
        assert!(!rights.allow(Verb::Read, Need::Node));
    }

    #[test]
    fn the_range_is_covered_and_not_its_beginning() {
        let rights = Rights::of(&[grant(&[Verb::Read], "a/"), grant(&[Verb::Read], "b")]);
        let scope = |names: &[&str], prefixes: &[&str]| {
            let bytes =
                |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
            let (names, prefixes) = (bytes(names), bytes(prefixes));
            Scope::new(
                &Namespace::PLAIN,
                names.iter().map(|name| &name[..]),
                prefixes.iter().map(|prefix| &prefix[..]),
            )
        };
        let may = |scope: &Scope| rights.allow(Verb::Read, Need::Scope(scope));
        assert!(may(&scope(&["a/x", "bb"], &["a/", "b", "bc"])));
        for beyond in [
            scope(&[], &[""]),
            scope(&[], &["a"]),
            scope(&["a"], &["a/"]),
            scope(&["c"], &["b"]),
            scope(&[], &["a/", "c/"]),
        ] {
            assert!(!may(&beyond), "{beyond:?}");
        }
        let team = Namespace::new(b"team").expect("it is one");
        assert!(!may(&Scope::new(&team, [], [&b"a/"[..]])));
        let all = Rights::of(&[Grant { verbs: vec![Verb::Read], names: Some(GrantedNames::Everything) }]);
        assert!(all.allow(Verb::Read, Need::Scope(&Scope::new(&team, [], [&b""[..]]))));
        assert!(all.allow(Verb::Read, Need::Scope(&Scope::all())));
    }
}
