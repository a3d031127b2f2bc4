//! What a grant allows.

use std::fmt;

/// A kind of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Reads, histories, lists and watches of names, their leases, and checkpoints.
    Read,
    /// Writes of names, events and checkpoints.
    Write,
    /// Deletes of names.
    Delete,
    /// Acquires, renews and releases leases.
    Lease,
    /// Sees the node: metrics, cluster, watchers, namespaces.
    Observe,
    /// Changes the node: log level, compaction, depth of histories, polls of the upstream.
    Admin,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Delete, Self::Lease, Self::Observe, Self::Admin];

    /// Its word in a tokens file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Lease => "lease",
            Self::Observe => "observe",
            Self::Admin => "admin",
        }
    }

    /// The verb of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }

    /// Whether it is about names, so that a grant of it has a prefix.
    #[must_use]
    pub fn is_of_names(self) -> bool {
        !matches!(self, Self::Observe | Self::Admin)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
