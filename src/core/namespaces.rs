//! What each namespace of a set holds, counted write by write.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::name::Name;
use super::namespace::Namespace;
use super::record::Record;

/// What a namespace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceUse {
    /// Names with a value.
    pub names: usize,
    /// Bytes of all records, tombstones and older records too: the sum of [`Record::cost`].
    pub bytes: usize,
    /// Bytes of the records that are not the current ones of their names.
    pub older_bytes: usize,
}

impl NamespaceUse {
    /// Bytes of the current records, tombstones too.
    #[must_use]
    pub fn current_bytes(&self) -> usize {
        self.bytes - self.older_bytes
    }
}

/// The limits of a node on the namespaces of its clients. Records of peers are taken in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceLimits {
    /// Most namespaces that hold a record.
    pub namespaces: usize,
    /// Most bytes of the current records of one namespace.
    pub bytes: usize,
}

impl NamespaceLimits {
    /// No limits.
    pub const NONE: Self = Self { namespaces: usize::MAX, bytes: usize::MAX };
}

/// By namespace, without the plain one. Each holds at least one record.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// By the start of the keys, in order.
    by_prefix: BTreeMap<Box<str>, NamespaceUse>,
    /// How many of them are the node's own.
    own: usize,
}

impl Namespaces {
    /// The number of namespaces of clients.
    pub(super) fn len(&self) -> usize {
        self.by_prefix.len() - self.own
    }

    /// What the namespace of a name holds; `None` if nothing, and if the name is a plain one.
    pub(super) fn of(&self, name: &Name) -> Option<NamespaceUse> {
        self.by_prefix.get(name.namespace_prefix()).copied()
    }

    /// The namespaces of clients that begin with `prefix`, in order, after `after` if that is given.
    pub(super) fn iter(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (Namespace, NamespaceUse)> + use<'_> {
        let start = format!("\u{1}{prefix}");
        let after = after.map(|after| format!("\u{1}{after}\u{1}")).filter(|after| *after >= start);
        let from = match &after {
            Some(after) => Bound::Excluded(after.as_str()),
            None => Bound::Included(start.as_str()),
        };
        self.by_prefix
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(&start))
            .filter_map(|(prefix, usage)| {
                let text = prefix.get(1..prefix.len() - 1)?;
                Some((Namespace::new(text.as_bytes()).ok()?, *usage))
            })
            .filter(|(namespace, _)| !namespace.is_own())
    }

    /// A record came in.
    pub(super) fn add(&mut self, record: &Record) {
        let prefix = record.name().namespace_prefix();
        if prefix.is_empty() {
            return;
        }
        match self.by_prefix.get_mut(prefix) {
            Some(usage) => usage.bytes += record.cost(),
            None => {
                let usage = NamespaceUse { bytes: record.cost(), ..NamespaceUse::default() };
                self.by_prefix.insert(prefix.into(), usage);
                self.own += usize::from(record.name().is_own());
            }
        }
    }

    /// A record left the set.
    pub(super) fn remove(&mut self, record: &Record, was_current: bool) {
        let prefix = record.name().namespace_prefix();
        let Some(usage) = self.by_prefix.get_mut(prefix) else { return };
        usage.bytes -= record.cost();
        if !was_current {
            usage.older_bytes -= record.cost();
        }
        if usage.bytes == 0 {
            self.by_prefix.remove(prefix);
            self.own -= usize::from(record.name().is_own());
        }
    }

    /// A record is not, or no more, the current one of its name.
    pub(super) fn add_older(&mut self, record: &Record) {
        if let Some(usage) = self.by_prefix.get_mut(record.name().namespace_prefix()) {
            usage.older_bytes += record.cost();
        }
    }

    /// A name got a value.
    pub(super) fn add_name(&mut self, name: &Name) {
        if let Some(usage) = self.by_prefix.get_mut(name.namespace_prefix()) {
            usage.names += 1;
        }
    }

    /// A name has no value any more. Its namespace may be gone already.
    pub(super) fn remove_name(&mut self, name: &Name) {
        if let Some(usage) = self.by_prefix.get_mut(name.namespace_prefix()) {
            usage.names -= 1;
        }
    }
}
