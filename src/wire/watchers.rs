//! Who waits for what, as JSON: `{"watchers":[{"name","waiting_for","version","watchers","since"}]}`. For a release the old
//! spelling, with dashes, stands beside each key with an underscore.

use serde::Serialize;
use serde::ser::{SerializeSeq, SerializeStruct, Serializer};

use super::version_set::{Text, rfc3339};
use crate::core::{Crowd, Interest, Record};

/// A name that somebody waits for.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Who waits for it; at least one crowd.
    pub crowds: Vec<Crowd>,
    /// What there is of it: those who wait for a change know its version.
    pub held: Option<Record>,
}

/// What is told of all of them.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "crowds")]
    watchers: &'a [Watched],
}

/// Writes the report.
///
/// # Errors
/// Only if `serde_json` fails, which it does for none.
pub fn to_json(watched: &[Watched]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Report { watchers: watched })
}

fn crowds<S: Serializer>(watched: &&[Watched], serializer: S) -> Result<S::Ok, S::Error> {
    let mut seq = serializer.serialize_seq(None)?;
    for watched in *watched {
        for crowd in &watched.crowds {
            seq.serialize_element(&CrowdJson { crowd, held: watched.held.as_ref() })?;
        }
    }
    seq.end()
}

struct CrowdJson<'a> {
    crowd: &'a Crowd,
    held: Option<&'a Record>,
}

impl Serialize for CrowdJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { crowd, held } = self;
        let mut fields = serializer.serialize_struct("Watchers", 8)?;
        fields.serialize_field("name", crowd.name.as_str())?;
        let what = match crowd.interest {
            Interest::Changed => "change",
            Interest::Created => "creation",
            Interest::Told => "upstream",
            Interest::AtLeast(_) => "last-sync",
        };
        fields.serialize_field("waiting_for", what)?;
        fields.serialize_field("waiting-for", what)?;
        match crowd.interest {
            Interest::Changed => {
                fields.serialize_field("version", held.map_or("", |record| record.version()))?;
            }
            Interest::AtLeast(stamp) => {
                fields.serialize_field("last_sync", &Text(rfc3339(stamp)))?;
                fields.serialize_field("last-sync", &Text(rfc3339(stamp)))?;
            }
            Interest::Created | Interest::Told => {}
        }
        fields.serialize_field("watchers", &crowd.waiters)?;
        fields.serialize_field("since", &Text(rfc3339(crowd.since)))?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Dot, Name, Stamp, Version};

    #[test]
    fn says_who_waits_for_what_and_since_when() {
        let at = |micros| Stamp::from_micros(micros).unwrap();
        let name = Name::new(b"a/\"b\"", 512).unwrap();
        let held = Record::value(name.clone(), &Version::new(b"v1").unwrap(), b"", at(1), Dot::default());
        let crowd = |interest| Crowd { name: name.clone(), interest, waiters: 3, since: at(1_000_000) };
        let crowds = [Interest::Changed, Interest::Created, Interest::Told, Interest::AtLeast(at(2_000_000))]
            .map(crowd);
        let json = to_json(&[Watched { crowds: crowds.into(), held: Some(held) }]).unwrap();
        let since = r#""watchers":3,"since":"1970-01-01T00:00:01Z"}"#;
        let of = |what: &str| format!(r#"{{"name":"a/\"b\"","waiting_for":"{what}","waiting-for":"{what}","#);
        let stamp = r#""last_sync":"1970-01-01T00:00:02Z","last-sync":"1970-01-01T00:00:02Z","#;
        let crowds = [
            of("change") + r#""version":"v1","# + since,
            of("creation") + since,
            of("upstream") + since,
            of("last-sync") + stamp + since,
        ];
        assert_eq!(String::from_utf8(json).unwrap(), format!(r#"{{"watchers":[{}]}}"#, crowds.join(",")));
    }
}
