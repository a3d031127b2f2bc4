//! A parked read, as the fast path keeps it: as small as possible, with no allocation for one reader alone.

use std::sync::Arc;
use std::time::Duration;

use crate::access::Caller;
use crate::api::read::PendingRead;
use crate::core::{Kind, KnownVersion, Name, Record, Version};
use crate::wire::head::Form;

/// A parked reader.
#[derive(Debug)]
pub(super) struct ParkedRead {
    name: Name,
    knows: Knows,
    /// The time of the request, in µs since the start of the event loop.
    started_us: u64,
    /// The form of its answer.
    pub(super) form: Form,
    /// To which the read is granted.
    pub(super) caller: Caller,
}

#[derive(Debug)]
enum Knows {
    /// The reader knows one version; and whether it wants 304 for it.
    Version { version: Arc<Version>, conditional: bool },
    /// The reader knows that there is no value.
    Absence,
    /// Any other condition: stamps, lists.
    More(Box<PendingRead>),
}

impl ParkedRead {
    /// Parks a read while `held` stands.
    pub(super) fn new(
        pending: PendingRead,
        held: Option<&Record>,
        versions: &mut Versions,
        started: Duration,
        form: Form,
        caller: Caller,
    ) -> Self {
        // readers of a name share its name, but not its record, which may be large and be replaced
        let name = held.map_or(&pending.name, Record::name).clone();
        let knows = match pending.knows_just() {
            Some((KnownVersion::Absence, _)) => Knows::Absence,
            Some((KnownVersion::AnyOf(known), conditional)) if known.len() == 1 => {
                Knows::Version { version: versions.share(&known[0]), conditional }
            }
            _ => Knows::More(Box::new(pending)),
        };
        let started_us = u64::try_from(started.as_micros()).unwrap_or(u64::MAX);
        Self { name, knows, started_us, form, caller }
    }

    /// The name that it reads.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// The time of the request, since the start of the event loop.
    pub(super) fn started(&self) -> Duration {
        Duration::from_micros(self.started_us)
    }

    /// The value of `record`, if 200 with a cached response answers the read.
    pub(super) fn plain_answer<'a>(&self, record: Option<&'a Record>) -> Option<&'a Record> {
        let value = record.filter(|record| record.kind() == Kind::Value)?;
        let is_news = match &self.knows {
            Knows::Version { version, .. } => !value.is_version(version),
            Knows::Absence => true,
            Knows::More(_) => false,
        };
        is_news.then_some(value)
    }

    /// The value of `record`, if a cached response answers the read in full at its deadline.
    pub(super) fn plain_end<'a>(&self, record: Option<&'a Record>) -> Option<&'a Record> {
        let is_plain = matches!(self.knows, Knows::Version { conditional: false, .. } | Knows::Absence);
        record.filter(|record| is_plain && record.kind() == Kind::Value)
    }

    /// The read as a pending read.
    pub(super) fn pending(self) -> PendingRead {
        match self.knows {
            Knows::More(pending) => *pending,
            Knows::Absence => PendingRead::of(self.name, KnownVersion::Absence, false),
            Knows::Version { version, conditional } => {
                let known = KnownVersion::AnyOf(vec![Arc::unwrap_or_clone(version)]);
                PendingRead::of(self.name, known, conditional)
            }
        }
    }
}

/// The last versions of parked readers, so that all readers with the same version share it.
#[derive(Default)]
pub(super) struct Versions(Vec<Arc<Version>>);

impl Versions {
    const MOST: usize = 8;

    fn share(&mut self, version: &Version) -> Arc<Version> {
        if let Some(known) = self.0.iter().find(|known| ***known == *version) {
            return Arc::clone(known);
        }
        if self.0.len() == Self::MOST {
            self.0.remove(0);
        }
        let shared = Arc::new(version.clone());
        self.0.push(Arc::clone(&shared));
        shared
    }
}
