//! What is kept of a parked reader's request: as little as can be, and nothing that belongs to one reader alone.

use std::sync::Arc;
use std::time::Duration;

use crate::api::read::PendingRead;
use crate::core::{Kind, KnownVersion, Name, Record, Version};
use crate::wire::head::Form;

/// A parked reader.
#[derive(Debug)]
pub(super) struct ParkedRead {
    name: Name,
    knows: Knows,
    /// When it asked, in µs from the event loop's beginning.
    started_us: u64,
    /// What shape its answer has to have.
    pub(super) form: Form,
}

#[derive(Debug)]
enum Knows {
    /// One version, and whether it wants 304 for it.
    Version { version: Arc<Version>, conditional: bool },
    /// That there is nothing.
    Absence,
    /// Something else: stamps, lists.
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
    ) -> Self {
        // readers of a name share it with its record, but not the record: that may be large, and be replaced
        let name = held.map_or(&pending.name, Record::name).clone();
        let knows = match pending.knows_just() {
            Some((KnownVersion::Absence, _)) => Knows::Absence,
            Some((KnownVersion::AnyOf(known), conditional)) if known.len() == 1 => {
                Knows::Version { version: versions.share(&known[0]), conditional }
            }
            _ => Knows::More(Box::new(pending)),
        };
        let started_us = u64::try_from(started.as_micros()).unwrap_or(u64::MAX);
        Self { name, knows, started_us, form }
    }

    /// What it reads.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// When it asked, from the event loop's beginning.
    pub(super) fn started(&self) -> Duration {
        Duration::from_micros(self.started_us)
    }

    /// The value that answers it with 200 and nothing else to say, if `record` is one.
    pub(super) fn plain_answer<'a>(&self, record: Option<&'a Record>) -> Option<&'a Record> {
        let value = record.filter(|record| record.kind() == Kind::Value)?;
        let is_news = match &self.knows {
            Knows::Version { version, .. } => !value.is_version(version),
            Knows::Absence => true,
            Knows::More(_) => false,
        };
        is_news.then_some(value)
    }

    /// The value that it gets in full at the end of its time, with nothing else to say, if `record` is one.
    pub(super) fn plain_end<'a>(&self, record: Option<&'a Record>) -> Option<&'a Record> {
        let is_plain = matches!(self.knows, Knows::Version { conditional: false, .. } | Knows::Absence);
        record.filter(|record| is_plain && record.kind() == Kind::Value)
    }

    /// The whole of the read again.
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

/// The versions that readers parked on last, so that all readers that know the same one share it.
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
