//! The condition of a read, and whether a read is answered now or parked.

use super::record::{Kind, Record};
use super::stamp::Stamp;
use super::version::Version;
use super::waiters::Interest;

/// The versions of a name that a reader says it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownVersion {
    /// The reader names no version: the answer is what the node holds.
    Unspecified,
    /// The name has no value (`?version=`).
    Absence,
    /// These versions (`?version=V`, `ETag: "V"`, `If-None-Match: "V", W/"U"`).
    AnyOf(Vec<Version>),
    /// Whichever version the node holds now (`If-None-Match: *`).
    Current,
}

/// Most bytes of versions that a parked reader keeps, unless it keeps one version only.
pub const PARKED_VERSIONS_BYTES: usize = 256;

impl KnownVersion {
    /// What a parked reader keeps of it, so that a reader that names many versions does not cost much memory while it
    /// waits: the version that stands, then the versions named first, up to [`PARKED_VERSIONS_BYTES`].
    ///
    /// If a version that is left out becomes the newest, the node answers the reader although the reader knows it.
    #[must_use]
    pub fn kept(self, held: Option<&Record>) -> Self {
        let Self::AnyOf(mut versions) = self else { return self };
        let stands = held.and_then(|record| versions.iter().position(|version| record.is_version(version)));
        if let Some(stands) = stands {
            versions.swap(0, stands);
        }
        let mut bytes = 0;
        let fits = versions.iter().take_while(|version| {
            bytes += version.as_str().len() + size_of::<Version>();
            bytes <= PARKED_VERSIONS_BYTES
        });
        let fits = fits.count().max(1);
        versions.truncate(fits);
        versions.shrink_to_fit();
        Self::AnyOf(versions)
    }
}

/// The condition of a read of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The versions that the reader knows.
    pub known: KnownVersion,
    /// The newest stamp that the reader has seen of the name: the answer must not be older.
    pub at_least: Option<Stamp>,
}

/// The result of [`Condition::evaluate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// The node answers now, with what it holds.
    Answer,
    /// There is nothing new yet. A reader that has time waits for this; any other reader gets the answer of a timeout.
    Wait(Interest),
}

impl Condition {
    /// Evaluates the condition against `held`, the record that the node holds of the name.
    ///
    /// | held | knows | has seen a newer stamp | |
    /// |---|---|---|---|
    /// | anything or nothing | anything | yes | wait until the stamp is reached |
    /// | nothing, tombstone | absence | no | wait until there is a value |
    /// | nothing, tombstone | anything else | no | answer |
    /// | value | its version, or the current one | no | wait until it changes |
    /// | value | another version, absence, unspecified | no | answer |
    #[must_use]
    pub fn evaluate(&self, held: Option<&Record>) -> Evaluation {
        if let Some(stamp) = self.at_least
            && held.is_none_or(|r| r.last_sync() < stamp)
        {
            return Evaluation::Wait(Interest::AtLeast(stamp));
        }
        let value = held.filter(|r| r.kind() == Kind::Value);
        match (value, &self.known) {
            (None, KnownVersion::Absence) => Evaluation::Wait(Interest::Created),
            (Some(_), KnownVersion::Current) => Evaluation::Wait(Interest::Changed),
            (Some(value), KnownVersion::AnyOf(versions)) if versions.iter().any(|v| value.is_version(v)) => {
                Evaluation::Wait(Interest::Changed)
            }
            _ => Evaluation::Answer,
        }
    }

    /// The condition once the reader, parked on `interest` while `held` stood, is woken.
    ///
    /// [`KnownVersion::Current`] becomes the version that stood. A reader that waited for a stamp accepts any version
    /// with that stamp, because a new stamp on the version that it knows is news too. A reader that waited for an
    /// upstream keeps its condition. Of many versions not all are [kept](KnownVersion::kept).
    #[must_use]
    pub fn after_waiting(self, interest: Interest, held: Option<&Record>) -> Self {
        let known = match (interest, self.known) {
            (Interest::Upstream, known) => known,
            (Interest::AtLeast(_), _) => KnownVersion::Unspecified,
            (_, KnownVersion::Current) => {
                let version = held.and_then(|r| Version::new(r.version_bytes()).ok());
                version.map_or(KnownVersion::Unspecified, |v| KnownVersion::AnyOf(vec![v]))
            }
            (_, known) => known,
        };
        Self { known: known.kept(held), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::name::Name;
    use crate::core::record::Dot;
    use crate::core::testing::{at, version};

    fn held(micros: u64, of: Option<&str>) -> Record {
        let name = Name::new(b"n", 512).unwrap();
        match of {
            Some(text) => Record::value(name, &version(text), b"", at(micros), Dot::default()),
            None => Record::tombstone(name, at(micros), Dot::default()),
        }
    }

    fn evaluate(held: Option<&Record>, known: &KnownVersion, at_least: Option<u64>) -> Evaluation {
        Condition { known: known.clone(), at_least: at_least.map(at) }.evaluate(held)
    }

    #[test]
    fn every_row_of_the_table() {
        use Evaluation::{Answer, Wait};
        let value = held(10, Some("a"));
        let gone = held(10, None);
        let (a, b) =
            (KnownVersion::AnyOf(vec![version("b"), version("a")]), KnownVersion::AnyOf(vec![version("b")]));
        let all =
            [KnownVersion::Unspecified, KnownVersion::Absence, a.clone(), b.clone(), KnownVersion::Current];

        for known in &all {
            for there in [None, Some(&value), Some(&gone)] {
                assert_eq!(
                    evaluate(there, known, Some(11)),
                    Wait(Interest::AtLeast(at(11))),
                    "{known:?} {there:?}"
                );
            }
            for reached in [None, Some(9), Some(10)] {
                let expected = if *known == KnownVersion::Absence { Wait(Interest::Created) } else { Answer };
                assert_eq!(evaluate(Some(&gone), known, reached), expected, "{known:?}");
            }
            let expected = if *known == KnownVersion::Absence { Wait(Interest::Created) } else { Answer };
            assert_eq!(evaluate(None, known, None), expected, "{known:?}");
        }
        for reached in [None, Some(9), Some(10)] {
            assert_eq!(evaluate(Some(&value), &KnownVersion::Unspecified, reached), Answer);
            assert_eq!(evaluate(Some(&value), &KnownVersion::Absence, reached), Answer);
            assert_eq!(evaluate(Some(&value), &b, reached), Answer);
            assert_eq!(evaluate(Some(&value), &a, reached), Wait(Interest::Changed));
            assert_eq!(evaluate(Some(&value), &KnownVersion::Current, reached), Wait(Interest::Changed));
        }
    }

    #[test]
    fn a_parked_reader_keeps_the_version_that_stands_and_some_others() {
        let versions = |count: usize| (0..count).map(|i| version(&format!("{i:0>60}"))).collect::<Vec<_>>();
        let stands = held(10, Some(&format!("{:0>60}", 63)));
        let condition = Condition { known: KnownVersion::AnyOf(versions(64)), at_least: None };
        assert_eq!(condition.evaluate(Some(&stands)), Evaluation::Wait(Interest::Changed));
        let then = condition.clone().after_waiting(Interest::Changed, Some(&stands));
        let KnownVersion::AnyOf(kept) = &then.known else { panic!("{then:?}") };
        assert_eq!((kept.len(), kept.capacity()), (3, 3), "{kept:?}");
        assert!(stands.is_version(&kept[0]) && kept[1..] == versions(3)[1..], "{kept:?}");
        assert_eq!(
            then.evaluate(Some(&stands)),
            Evaluation::Wait(Interest::Changed),
            "no wake for what it knows"
        );
        // few versions are kept as they are, and a single one of any length
        let few = Condition { known: KnownVersion::AnyOf(versions(3)), at_least: None };
        assert_eq!(few.clone().after_waiting(Interest::Upstream, None), few);
        let long = KnownVersion::AnyOf(vec![version(&"x".repeat(256))]);
        assert_eq!(long.clone().kept(None), long);
    }

    #[test]
    fn current_becomes_the_version_that_stood() {
        let value = held(10, Some("a"));
        let condition = Condition { known: KnownVersion::Current, at_least: None };
        let next = condition.after_waiting(Interest::Changed, Some(&value));
        assert_eq!(next.known, KnownVersion::AnyOf(vec![version("a")]));
        assert_eq!(next.evaluate(Some(&held(11, Some("b")))), Evaluation::Answer);
    }

    #[test]
    fn a_new_stamp_on_the_known_version_is_news_to_a_reader_that_waited_for_it() {
        let condition = Condition { known: KnownVersion::AnyOf(vec![version("a")]), at_least: Some(at(20)) };
        let next = condition.after_waiting(Interest::AtLeast(at(20)), Some(&held(10, Some("a"))));
        assert_eq!(next.evaluate(Some(&held(19, Some("b")))), Evaluation::Wait(Interest::AtLeast(at(20))));
        assert_eq!(next.evaluate(Some(&held(20, Some("a")))), Evaluation::Answer);
    }
}
