//! What a reader asks, and whether it is answered now or parked.

use super::record::{Kind, Record};
use super::stamp::Stamp;
use super::version::Version;
use super::waiters::Interest;

/// What a reader says that it knows of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing is said: whatever there is, is the answer.
    Unsaid,
    /// That there is nothing (`?version=`).
    Absence,
    /// These versions (`?version=V`, `ETag: "V"`, `If-None-Match: "V", W/"U"`).
    AnyOf(Vec<Version>),
    /// Whatever is there now (`If-None-Match: *`).
    Current,
}

/// Bytes of versions that a parked reader keeps; of more, it keeps those that count most.
pub const PARKED_VERSIONS_BYTES: usize = 256;

impl Known {
    /// What a parked reader keeps of it, so that whoever knows very much does not cost the node as much for as long as it
    /// waits: of many versions the one that stands, and of the others those first named, up to [`PARKED_VERSIONS_BYTES`].
    ///
    /// Should one of the versions left out become the newest, the reader is told of it although it knows it.
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

/// A read of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What the reader knows.
    pub known: Known,
    /// The newest stamp that it has seen of the name: it must not go back in time.
    pub at_least: Option<Stamp>,
}

/// What becomes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is answered now, with what there is.
    Answer,
    /// There is nothing to tell yet; a reader with time waits for this, another one gets what a timeout would give it.
    Wait(Interest),
}

impl Question {
    /// Judges a read against what is held of its name.
    ///
    /// | held | knows | has seen a newer stamp | |
    /// |---|---|---|---|
    /// | anything or nothing | anything | yes | wait until the stamp is reached |
    /// | nothing, tombstone | absence | no | wait until there is a value |
    /// | nothing, tombstone | anything else | no | answer |
    /// | value | its version, or "whatever is there" | no | wait until it changes |
    /// | value | another version, absence, nothing said | no | answer |
    #[must_use]
    pub fn judge(&self, held: Option<&Record>) -> Verdict {
        if let Some(stamp) = self.at_least
            && held.is_none_or(|r| r.last_sync() < stamp)
        {
            return Verdict::Wait(Interest::AtLeast(stamp));
        }
        let value = held.filter(|r| r.kind() == Kind::Value);
        match (value, &self.known) {
            (None, Known::Absence) => Verdict::Wait(Interest::Created),
            (Some(_), Known::Current) => Verdict::Wait(Interest::Changed),
            (Some(value), Known::AnyOf(versions)) if versions.iter().any(|v| value.is_version(v)) => {
                Verdict::Wait(Interest::Changed)
            }
            _ => Verdict::Answer,
        }
    }

    /// What is left to ask once the reader was parked on `interest` while `held` stood.
    ///
    /// "Whatever is there now" becomes the version that was there; and who waited for a stamp is content with it
    /// whatever the version, for a fresh stamp on the version that it knows is news too. Who waited to be told what the
    /// name is has had no answer yet, and asks the same. Of very many versions not all are [kept](Known::kept).
    #[must_use]
    pub fn after_waiting(self, interest: Interest, held: Option<&Record>) -> Self {
        let known = match (interest, self.known) {
            (Interest::Told, known) => known,
            (Interest::AtLeast(_), _) => Known::Unsaid,
            (_, Known::Current) => {
                let version = held.and_then(|r| Version::new(r.version_bytes()).ok());
                version.map_or(Known::Unsaid, |v| Known::AnyOf(vec![v]))
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

    fn judge(held: Option<&Record>, known: &Known, at_least: Option<u64>) -> Verdict {
        Question { known: known.clone(), at_least: at_least.map(at) }.judge(held)
    }

    #[test]
    fn every_row_of_the_table() {
        use Verdict::{Answer, Wait};
        let value = held(10, Some("a"));
        let gone = held(10, None);
        let (a, b) = (Known::AnyOf(vec![version("b"), version("a")]), Known::AnyOf(vec![version("b")]));
        let all = [Known::Unsaid, Known::Absence, a.clone(), b.clone(), Known::Current];

        for known in &all {
            for there in [None, Some(&value), Some(&gone)] {
                assert_eq!(
                    judge(there, known, Some(11)),
                    Wait(Interest::AtLeast(at(11))),
                    "{known:?} {there:?}"
                );
            }
            for reached in [None, Some(9), Some(10)] {
                let expected = if *known == Known::Absence { Wait(Interest::Created) } else { Answer };
                assert_eq!(judge(Some(&gone), known, reached), expected, "{known:?}");
            }
            let expected = if *known == Known::Absence { Wait(Interest::Created) } else { Answer };
            assert_eq!(judge(None, known, None), expected, "{known:?}");
        }
        for reached in [None, Some(9), Some(10)] {
            assert_eq!(judge(Some(&value), &Known::Unsaid, reached), Answer);
            assert_eq!(judge(Some(&value), &Known::Absence, reached), Answer);
            assert_eq!(judge(Some(&value), &b, reached), Answer);
            assert_eq!(judge(Some(&value), &a, reached), Wait(Interest::Changed));
            assert_eq!(judge(Some(&value), &Known::Current, reached), Wait(Interest::Changed));
        }
    }

    #[test]
    fn of_very_many_versions_a_parked_reader_keeps_the_one_that_stands_and_some() {
        let versions = |count: usize| (0..count).map(|i| version(&format!("{i:0>60}"))).collect::<Vec<_>>();
        let stands = held(10, Some(&format!("{:0>60}", 63)));
        let question = Question { known: Known::AnyOf(versions(64)), at_least: None };
        assert_eq!(question.judge(Some(&stands)), Verdict::Wait(Interest::Changed));
        let then = question.clone().after_waiting(Interest::Changed, Some(&stands));
        let Known::AnyOf(kept) = &then.known else { panic!("{then:?}") };
        assert_eq!((kept.len(), kept.capacity()), (3, 3), "{kept:?}");
        assert!(stands.is_version(&kept[0]) && kept[1..] == versions(3)[1..], "{kept:?}");
        assert_eq!(then.judge(Some(&stands)), Verdict::Wait(Interest::Changed), "no wake for what it knows");
        // a few are kept as they are, and one however long it is
        let few = Question { known: Known::AnyOf(versions(3)), at_least: None };
        assert_eq!(few.clone().after_waiting(Interest::Told, None), few);
        let long = Known::AnyOf(vec![version(&"x".repeat(256))]);
        assert_eq!(long.clone().kept(None), long);
    }

    #[test]
    fn whatever_is_there_becomes_the_version_that_was_there() {
        let value = held(10, Some("a"));
        let question = Question { known: Known::Current, at_least: None };
        let next = question.after_waiting(Interest::Changed, Some(&value));
        assert_eq!(next.known, Known::AnyOf(vec![version("a")]));
        assert_eq!(next.judge(Some(&held(11, Some("b")))), Verdict::Answer);
    }

    #[test]
    fn a_fresh_stamp_on_the_known_version_is_news_to_who_waited_for_it() {
        let question = Question { known: Known::AnyOf(vec![version("a")]), at_least: Some(at(20)) };
        let next = question.after_waiting(Interest::AtLeast(at(20)), Some(&held(10, Some("a"))));
        assert_eq!(next.judge(Some(&held(19, Some("b")))), Verdict::Wait(Interest::AtLeast(at(20))));
        assert_eq!(next.judge(Some(&held(20, Some("a")))), Verdict::Answer);
    }
}
